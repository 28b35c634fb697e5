"""Whether alerts arrive: each receiver's last notification, and the alert that always fires."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Iterator, Mapping

from generator import names, servers, words
from generator.verify.check import Check
from generator.verify.look import Look

_RESULTS = 6 * 3600  # seconds back in which a receiver's last notification is looked for


def receivers(look: Look) -> Iterator[Check]:
    """Each receiver's last notification succeeded."""
    config = servers.load_text(look.wanted["alertmanager"]["alertmanager.yml"])
    pairs = [
        (receiver["name"], key.removesuffix("_configs"))
        for receiver in config.get("receivers") or ()
        for key in receiver
        if key.endswith("_configs")
    ]
    if not pairs:
        yield Check("receivers", "all", "warn", "no receiver tells anybody", "Add one under routing.receivers.")
        return
    samples = look.page("alertmanager")
    by_name = any("receiver_name" in s.labels for s in samples)
    kinds = ("requests_total", "requests_failed_total")
    grouped = "receiver_name, integration" if by_name else "integration"
    now = time.time()
    history = look.every(
        {
            kind: functools.partial(
                look.curve, f"sum by ({grouped}) (alertmanager_notification_{kind})", now - _RESULTS, now, 15
            )
            for kind in kinds
        }
    )
    for name, integration in pairs:
        own = {"receiver_name": name, "integration": integration} if by_name else {"integration": integration}
        shared = (
            "" if by_name or sum(i == integration for _, i in pairs) == 1 else f" (all receivers by {integration} together)"
        )
        curves = []
        for kind in kinds:
            points = next((dict(values) for labels, values in history[kind] if labels == own), {})
            mine = [s for s in samples if s.name == f"alertmanager_notification_{kind}" and own.items() <= s.labels.items()]
            points[now] = sum(s.value for s in mine)
            curves.append(points)
        reasons = {
            s.labels.get("reason", ""): s.value
            for s in samples
            if s.name == "alertmanager_notifications_failed_total" and own.items() <= s.labels.items() and s.value
        }
        yield notified(name, integration, curves[0], curves[1], reasons, now, shared)


_REASONS = {
    "clientError": "the receiver refuses them (4xx): its address or its secret is wrong",
    "serverError": "the receiver itself fails (5xx)",
    "contextDeadlineExceeded": "it does not answer in time",
    "contextCanceled": "Alertmanager gave them up when it was reloaded",
}


def notified(
    name: str,
    integration: str,
    requests: Mapping[float, float],
    failed: Mapping[float, float],
    reasons: Mapping[str, float],
    now: float,
    shared: str = "",
) -> Check:
    """Whether the last notification through a receiver succeeded.

    ``requests`` and ``failed`` are Alertmanager's counters by Unix time, newest at ``now``; a counter that falls was reset.
    """
    title = f"{name} ({integration})"
    if not requests.get(now):
        return Check(
            "receivers", title, "skipped", f"nothing was sent to it since Alertmanager last read its configuration{shared}"
        )
    times = sorted(requests)
    for before, after in zip(reversed(times[:-1]), reversed(times[1:]), strict=True):
        sent = requests[after] - requests[before]
        if sent == 0:
            continue
        bad = failed.get(after, 0) - failed.get(before, 0)
        if sent < 0:  # it was restarted in between
            sent, bad = requests[after], failed.get(after, 0)
        if not sent:
            continue
        ago = f"{words.lasting(max(0.0, now - after))} ago" if now - after > 60 else "a moment ago"
        break
    else:
        known = now - times[0]
        sent, bad, ago = requests[now], failed.get(now, 0), f"more than {words.lasting(known)} ago" if known > 60 else "lately"
    whole = f"{requests[now]:.0f} sent, {failed.get(now, 0):.0f} failed since Alertmanager last read its configuration{shared}"
    worst = max(reasons, key=lambda reason: reasons[reason], default="")
    cure = f"`lgtm logs alertmanager` has the answer it got{'; ' + _REASONS[worst] if worst in _REASONS else ''}."
    if bad >= sent:
        return Check("receivers", title, "fail", f"the last notification, {ago}, failed; {whole}", cure)
    if bad > 0:
        return Check("receivers", title, "warn", f"{bad:.0f} of the last {sent:.0f} tries, {ago}, failed; {whole}", cure)
    return Check("receivers", title, "ok", f"the last notification, {ago}, succeeded; {whole}")


def watchdog(look: Look) -> Iterator[Check]:
    """The alert that always fires does, and reaches Alertmanager."""
    name = names.ALERT_WATCHDOG
    cure = "Nothing else will arrive either: see rules and config, then `lgtm logs prometheus`."
    running = time.time() - words.moment(look.runtime()["startTime"])
    firing = look.query(f'ALERTS{{alertname="{name}",alertstate="firing"}}')
    lost = look.query("increase(prometheus_notifications_dropped_total[15m]) > 0")
    alerts = look.client("alertmanager").json("/api/v2/alerts", filter=f'alertname="{name}"', active="true")
    if not firing and running < 90:
        yield Check(
            "watchdog",
            "Prometheus",
            "skipped",
            f"Prometheus has run for {words.lasting(running)}: rules have yet to be evaluated",
        )
        return
    if not firing:
        yield Check(
            "watchdog", "Prometheus", "fail", f"{name} does not fire: rules are not evaluated, or it was taken out", cure
        )
        return
    yield Check("watchdog", "Prometheus", "ok", f"{name} fires")
    if lost:
        text = f"{math.ceil(sum(value for _, value in lost))} alerts were dropped on the way in the last 15 minutes"
        yield Check("watchdog", "on the way", "warn", text, "Was Alertmanager away? `lgtm logs prometheus` has the errors.")
    if not alerts and running < 90:
        yield Check("watchdog", "Alertmanager", "skipped", "not there yet: Prometheus has just started")
    elif not alerts:
        yield Check(
            "watchdog", "Alertmanager", "fail", f"{name} does not arrive", "See `alerting:` in prometheus/prometheus.yml."
        )
    else:
        told = ", ".join(sorted({r["name"] for r in alerts[0].get("receivers", ())}))
        silenced = alerts[0].get("status", {}).get("silencedBy")
        text = f"{name} arrived {words.lasting(max(0.0, time.time() - words.moment(alerts[0]['updatedAt'])))} ago, for {told}"
        if silenced:
            yield Check("watchdog", "Alertmanager", "warn", f"{text}; but it is silenced", "Remove that silence.")
        else:
            yield Check("watchdog", "Alertmanager", "ok", text)
