"""Who answers: the servers themselves, what Prometheus scrapes, what probes ask."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from generator import names, stack, words
from generator.units import Duration
from generator.verify.check import APPLY, Check, server_cure
from generator.verify.look import Look

_PROBE_SLOW = 0.8  # of the probe's timeout


def servers(look: Look) -> Iterator[Check]:
    """Each server that is wanted answers at its ready endpoint."""
    chosen = stack.wanted(look.project)
    asked = look.every({n: functools.partial(stack.is_ready, look.project, n) for n in chosen if n in stack.READY})
    for name, (ready, why) in asked.items():
        if ready:
            yield Check("servers", name, "ok", "ready")
        elif name in stack.OPTIONAL:
            yield Check("servers", name, "skipped", f"{why}; the rest works without it", "Run `make up`.")
        else:
            yield Check("servers", name, "fail", f"not ready: {why}", server_cure(name))


def targets(look: Look) -> Iterator[Check]:
    """Each target that Prometheus scrapes is up. Probes are told apart."""
    for target in look.targets():
        if target["scrapePool"].startswith("probe:"):
            continue
        name = f"{target['labels'].get('job', '?')} at {target['labels'].get('instance', target['scrapeUrl'])}"
        took, timeout = float(target.get("lastScrapeDuration") or 0), _seconds(target.get("scrapeTimeout", ""))
        if target["health"] == "unknown":
            yield Check("targets", name, "skipped", f"not scraped yet; it will be within {target.get('scrapeInterval')}")
        elif target["health"] != "up":
            error = target.get("lastError") or "no reason given"
            own = target["labels"].get("job") in names.STACK_JOBS
            cure = server_cure(target["labels"]["job"]) if own else scrape_cure(error, target["scrapeUrl"])
            yield Check("targets", name, "fail", f"it cannot be scraped: {error}", cure)
        elif timeout and took > 0.8 * timeout:
            text = f"a scrape takes {words.lasting(took)}, and {words.lasting(timeout)} are allowed"
            yield Check("targets", name, "warn", text, "Give it fewer series, or a longer scrape interval.")
        else:
            yield Check("targets", name, "ok", f"up, scraped in {words.lasting(took)}")


def scrape_cure(error: str, url: str) -> str:
    """What to do about Prometheus's reason for a failed scrape."""
    causes = {
        r"connection refused": f"Nothing listens at {url}: start the service, or mend its port under scrape.",
        r"no such host|server misbehaving": "No container or host has this name: mend it under scrape in slos.yaml.",
        r"deadline exceeded|timeout|no route": "It does not answer in time: is it overloaded, or does a firewall drop it?",
        r"HTTP status 40[13]": "It asks for credentials.",
        r"HTTP status 404": "There are no metrics at this path: set scrape.path.",
        r"HTTP status 5": "The service itself fails there: its log says why.",
        r"sample limit": "It has more series than prometheus.yml allows: find the label with too many values.",
        r"unsupported Content-Type|expected|invalid": "What it answers is not Prometheus's format: is it the right path?",
    }
    return next((cure for pattern, cure in causes.items() if re.search(pattern, error)), f"Ask it yourself: curl {url}")


def probes(look: Look) -> Iterator[Check]:
    """Each probe answers, and how slowly."""
    wanted = [probe for service in look.model.services for probe in service.probes]
    if not wanted:
        return
    metrics = {"success": "probe_success", "seconds": "probe_duration_seconds", "status": "probe_http_status_code"}
    rows = look.queries({key: f'{metric}{{job="{names.PROBE_JOB}"}}' for key, metric in metrics.items()})
    seen = {key: {(ls.get("service"), ls.get("probe")): value for ls, value in part} for key, part in rows.items()}
    pools = {target["scrapePool"]: target for target in look.targets()}
    for probe in wanted:
        name, key = f"{probe.service}/{probe.name}", (probe.service, probe.name)
        target = pools.get(f"probe:{probe.service}:{probe.name}")
        status = int(seen["status"].get(key, 0))
        took = seen["seconds"].get(key, 0.0)
        limit = float(probe.slower_than.seconds) if probe.slower_than else _PROBE_SLOW * float(probe.timeout.seconds)
        host = urlsplit(probe.url).hostname or ""
        cure = server_cure(host) if host in stack.READY else f"Ask it yourself: curl -i {probe.url}"
        if target is None:
            yield Check("probes", name, "fail", "Prometheus does not run it", APPLY)
        elif target["health"] == "unknown" or (key not in seen["success"] and target["health"] == "up"):
            yield Check("probes", name, "skipped", f"not asked yet; it will be within {probe.interval}")
        elif target["health"] != "up":
            text = f"blackbox_exporter cannot be asked for it: {target.get('lastError')}"
            yield Check("probes", name, "fail", text, "See `lgtm logs blackbox`.")
        elif seen["success"][key] != 1:
            answer = f"it answered {status} in {words.lasting(took)}" if status else f"no answer after {words.lasting(took)}"
            yield Check("probes", name, "fail", f"{answer} ({probe.url})", cure)
        elif took > limit:
            yield Check(
                "probes", name, "warn", f"it answers {status}, in {words.lasting(took)}: over {words.lasting(limit)}", cure
            )
        else:
            yield Check("probes", name, "ok", f"answers {status} in {words.lasting(took)}")


def _seconds(text: str) -> float:
    length = Duration.or_none(text)
    return float(length.seconds) if length is not None else 0.0
