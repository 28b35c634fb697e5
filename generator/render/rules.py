"""Recording and alerting rules for Prometheus: one file for each service, so that one bad service cannot stop another.

The shape, for a service with any number of SLOs (docs/decisions/0001-rules.md says why):

- each SLO records its errors and its total, as rates over the raw counters, every 30 s; nothing else reads raw counters;
- each window's error ratio is one rule for all SLOs of the service: sum of errors over sum of total, divided last;
- windows past six hours read sums of five minutes, every five minutes;
- the budget adds to such sums what came since they were made, so that it is never older than 30 s;
- the time before an SLO's history began counts as good, in windows and in the budget;
- objective and metadata of an SLO are one constant series; thresholds are factors of it;
- each severity is one alert for all SLOs of the service.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from decimal import Decimal
from typing import Any

from generator import names
from generator.model import (
    DAY,
    HOUR,
    MINUTE,
    BurnWindow,
    Model,
    ResolvedAlert,
    ResolvedProbe,
    ResolvedService,
    ResolvedSla,
    ResolvedSlo,
)
from generator.promql import quote
from generator.render import Artifact
from generator.render.yamltext import dump
from generator.units import Duration, Threshold, percent, plain

STEP = Duration(Decimal(30))
SLOW_STEP = Duration(Decimal(300))
# Windows up to this are summed from 30 s samples: 720 of them. Longer ones from five-minute sums.
LONGEST_FAST = HOUR * 6
# The slow tier leaves the newest 30 s to its next turn: a sample of this very moment may still be under way, and one that
# is missed once would be missed for good.
SETTLE = STEP
# How far back the budget looks for what the slow tier has not counted yet: two of its steps.
FRESH_REACH = SLOW_STEP * 2
# Every standard window, recorded for dashboards even where no alert of the service reads it.
DASHBOARD_WINDOWS = (HOUR, DAY)

# What an alert's own query found: for a burn rate the share of bad events, for a budget what is left of it.
_SHARE = "{{ $value | humanizePercentage }}"

Rule = dict[str, Any]


def render(model: Model) -> list[Artifact]:
    """One rule file for each service that needs one, and the stack's own."""
    artifacts = [_artifact("lgtm", [_watchdog(model)])]
    for service in model.services:
        groups = service_groups(model, service)
        if groups:
            artifacts.append(_artifact(f"service-{service.name}", groups))
    return artifacts


def _artifact(name: str, groups: list[dict[str, Any]]) -> Artifact:
    return Artifact(f"prometheus/generated/rules/{name}.yaml", dump({"groups": groups}))


def _group(name: str, interval: Duration, rules: list[Rule]) -> dict[str, Any]:
    return {"name": name, "interval": interval, "rules": rules}


def service_groups(model: Model, service: ResolvedService) -> list[dict[str, Any]]:
    """The rule groups of one service. Within a group rules run in order, so that alerts see this evaluation's values."""
    groups = []
    if service.slos:
        windows = sorted({*DASHBOARD_WINDOWS, *(w for slo in service.slos for w in slo.windows)})
        counted = _counted_windows(service)
        fast = [rule for slo in service.slos for rule in _sli_rules(service, slo)]
        fast += [_up_to_now_rule(service, *names_) for names_ in _WINDOW_SUMS]
        fast.append(_history_rule(service))
        fast += [_sum_rule(service, w) for w in counted]
        fast += [_ratio_rule(service, w, counted) for w in windows if w <= LONGEST_FAST]
        fast.append(_remaining_rule(service))
        fast += _burn_alerts(model, service, "critical")
        fast += _budget_alerts(model, service)
        fast.append(_no_data_alert(model, service))
        slow = [_slow_rule(service, names.ERRORS_SLOW, names.ERRORS_RATE)]
        slow.append(_slow_rule(service, names.TOTAL_SLOW, names.TOTAL_RATE))
        slow += [_ratio_rule(service, w, ()) for w in windows if w > LONGEST_FAST]
        slow += [_counted_rule(service, record, source) for record, source, _, _ in _WINDOW_SUMS]
        slow += [_sla_rule(service, slo, slo.sla) for slo in service.slos if slo.sla is not None]
        slow += _burn_alerts(model, service, "warning")
        groups.append(_group(f"{service.name}:slo", STEP, fast))
        groups.append(_group(f"{service.name}:slo:slow", SLOW_STEP, slow))
    causes = [_threshold_alert(model, service, alert) for alert in service.alerts]
    causes += [_probe_alert(model, service, probe) for probe in service.probes if probe.severity]
    if causes:
        groups.append(_group(f"{service.name}:causes", STEP, causes))
    return groups


def _selector(service: ResolvedService, **labels: str) -> str:
    matchers = {"service": service.name, **labels}
    return "{" + ",".join(f"{name}={quote(value)}" for name, value in matchers.items()) + "}"


def _sli_rules(service: ResolvedService, slo: ResolvedSlo) -> list[Rule]:
    identity = {"service": slo.service, "slo": slo.name}
    context = slo.context
    total = slo.sli.total(context)
    # The total has just been recorded: reading it back costs one sample, where the counters would cost all of theirs.
    recorded = context.aggregate("sum", names.TOTAL_RATE + _selector(service, slo=slo.name))
    errors = slo.sli.errors(context).replace(f"or 0 * {total}", f"or 0 * {recorded}")
    return [
        {"record": names.TOTAL_RATE, "expr": _finite(total), "labels": identity},
        {"record": names.ERRORS_RATE, "expr": _finite(errors), "labels": identity},
        {
            "record": names.ERROR_BUDGET,
            "expr": f"vector({plain(slo.budget)})",
            "labels": {
                **identity,
                "title": slo.title,
                "owner": slo.owner,
                "tier": slo.tier,
                "sli": slo.sli.kind,
                "objective": percent(slo.objective),
                "window": str(slo.window),
                "policy": slo.policy,
                "minimum_events": str(slo.minimum_events),
            },
        },
    ]


# One call and nothing after it, such as `sum by (region) (…)`, needs no parentheses to be compared.
_CALL = re.compile(r"\w+(?: by \([^()]*\) )?(?P<arguments>\(.*\))", re.DOTALL)


def _finite(expr: str) -> str:
    """``expr`` without NaN, Inf and -Inf: one such sample would poison every window for as long as the window is."""
    call = _CALL.fullmatch(expr)
    return f"{expr if call and _one_group(call['arguments']) else f'({expr})'} >= 0 < +Inf"


def _one_group(text: str) -> bool:
    depth = 0
    for index, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return index == len(text) - 1
    return False


def _slow_rule(service: ResolvedService, record: str, source: str) -> Rule:
    return {"record": record, "expr": f"sum_over_time({source}{_selector(service)}[{SLOW_STEP}] offset {SETTLE})"}


def _counted_windows(service: ResolvedService) -> list[Duration]:
    """Windows of the fast tier whose bad events an alert counts, so that their sum is a series of its own."""
    slos = (slo for slo in service.slos if slo.minimum_events)
    return sorted({b.long for slo in slos for tier in slo.burn.values() for b in tier if b.long <= LONGEST_FAST})


def _sum_rule(service: ResolvedService, window: Duration) -> Rule:
    return {
        "record": names.errors_sum(window),
        "expr": f"sum_over_time({names.ERRORS_RATE}{_selector(service)}[{window}])",
    }


def _ratio_rule(service: ResolvedService, window: Duration, counted: Collection[Duration]) -> Rule:
    fast = window <= LONGEST_FAST
    errors, total = (names.ERRORS_RATE, names.TOTAL_RATE) if fast else (names.ERRORS_SLOW, names.TOTAL_SLOW)
    selector = _selector(service)
    bad = f"{names.errors_sum(window)}{selector}" if window in counted else f"sum_over_time({errors}{selector}[{window}])"
    lived = _lived(service, window)
    return {"record": names.error_ratio(window), "expr": f"{bad} / (sum_over_time({total}{selector}[{window}]) > 0) * {lived}"}


# What the slow tier counts over an SLO's window and what it reads; what is recorded of both together, and the rate.
_WINDOW_SUMS = (
    (names.ERRORS_COUNTED, names.ERRORS_SLOW, names.ERRORS_WINDOW, names.ERRORS_RATE),
    (names.TOTAL_COUNTED, names.TOTAL_SLOW, names.TOTAL_WINDOW, names.TOTAL_RATE),
)
# Three turns of the slow tier: one that is missed leaves the budget a little behind, and does not hide it.
_COUNTED_REACH = SLOW_STEP * 3
# Where the beginning of a history is looked for when Prometheus was away, or when these rules are new: at moments of the
# last day in what was recorded of it, and at so many moments of the longest window in the sums of five minutes.
_CARRIED_REACH, _CARRIED_STEP = DAY, MINUTE * 10
_HISTORY_STEPS = 120


def _counted_rule(service: ResolvedService, record: str, source: str) -> Rule:
    """Errors or total over each SLO's own window, as far as the slow tier has come."""
    windows = sorted({slo.window for slo in service.slos})
    parts = []
    for window in windows:
        slos = [slo.name for slo in service.slos if slo.window == window]
        # Only the SLOs that have this window: thirty days are by far the most that is read.
        only = "" if len(windows) == 1 else f",slo=~{quote('|'.join(re.escape(name) for name in slos))}"
        parts.append(f"sum_over_time({source}{_selector(service).replace('}', only + '}')}[{window}])")
    return {"record": record, "expr": "\nor ".join(parts)}


def _up_to_now_rule(service: ResolvedService, counted: str, _: str, record: str, rate: str) -> Rule:
    """What the slow tier has counted, and every sample that came since it did."""
    selector = _selector(service)
    rate += selector
    # When the slow tier last ran, 0 where it has not. `@ end()` is this evaluation, where time() is the subquery's step.
    ran = f"scalar(max(timestamp({names.TOTAL_COUNTED}{selector} @ end())) or vector(0))"
    # A sample counts in the step that it was made in, and not again in later ones that have none.
    since = f"timestamp({rate}) > {ran} - {plain(SETTLE.seconds)} and timestamp({rate}) > time() - {plain(STEP.seconds)}"
    # The label keeps both parts apart where both exist.
    before = f'label_replace(last_over_time({counted}{selector}[{_COUNTED_REACH}]), "part", "counted", "", "")'
    now = f"sum_over_time(({rate} and {since})[{FRESH_REACH}:{STEP}])"
    return {"record": record, "expr": f"sum without (part) (\n  {before}\n  or\n  {now}\n)\n"}


def _history_rule(service: ResolvedService) -> Rule:
    """When the history of each SLO began, by group: the Unix time from which on its events are known.

    Read from what was recorded 30 s ago, for as long as anything of it is in the SLO's window.
    """
    selector = _selector(service)
    start = names.HISTORY_START + selector
    reach = max(slo.window for slo in service.slos)
    step = max(SLOW_STEP, Duration(reach.seconds // _HISTORY_STEPS))
    carried = f"({start} or last_over_time({start}[{_CARRIED_REACH}:{_CARRIED_STEP}])) and {names.TOTAL_WINDOW}{selector}"
    # As early as it can have been: the whole window is never taken to be young.
    found = f"min_over_time(timestamp({names.TOTAL_SLOW}{selector})[{reach}:{step}]) - {plain(step.seconds)}"
    # The first sample stands for the 30 s before it.
    born = f"timestamp({names.TOTAL_RATE}{selector}) - {plain(STEP.seconds)}"
    return {"record": names.HISTORY_START, "expr": f"{carried}\nor\n{found}\nor\n{born}\n"}


def _lived(service: ResolvedService, window: Duration) -> str:
    """The share of a window that there is history of, at most 1. The rest is taken to be good."""
    return f"clamp_max((time() - {names.HISTORY_START}{_selector(service)}) / {plain(window.seconds)}, 1)"


def _promised(service: ResolvedService, **labels: str) -> str:
    """The budget of each SLO, once.

    When an objective, a title or an owner changes, the series from before and the new one are there together: for one
    evaluation, and for five minutes where Prometheus was restarted. Joined with both, a rule would fail.
    """
    return f"topk by (service, slo) (1, {names.ERROR_BUDGET}{_selector(service, **labels)})"


def _remaining_rule(service: ResolvedService) -> Rule:
    selector = _selector(service)
    ratio = f"{names.ERRORS_WINDOW}{selector} / ({names.TOTAL_WINDOW}{selector} > 0)"
    windows = sorted({slo.window for slo in service.slos})
    parts = []
    for window in windows:
        budget = _promised(service, **({} if len(windows) == 1 else {"window": str(window)}))
        parts.append(f"1 - {ratio} * {_lived(service, window)} / on (service, slo) group_left () {budget}")
    # After a long outage of Prometheus itself the last minutes are no budget of 30 days: wait for the slow tier.
    counted = f"last_over_time({names.TOTAL_COUNTED}{selector}[{_COUNTED_REACH}])"
    old = f"{names.HISTORY_START}{selector} < time() - {plain(_COUNTED_REACH.seconds)}"
    left = "\n  or\n  ".join(parts)
    return {"record": names.BUDGET_REMAINING, "expr": f"(\n  {left}\n)\nunless ({old} unless {counted})\n"}


def _sla_rule(service: ResolvedService, slo: ResolvedSlo, sla: ResolvedSla) -> Rule:
    """What is left of a promise to customers, which begins anew with each calendar month or quarter, in UTC.

    Counts whole hours: five-minute steps over three months would be more than promtool allows one query to hold.
    """
    counted = _selector(service, slo=sla.slo)
    # Each step is the end of an hour, and belongs to the month of its middle. `@ end()` is this evaluation.
    step, now = "vector(time() - 1800)", f"max(timestamp({names.ERROR_BUDGET}{counted} @ end()))"
    if sla.period == "quarter":
        same, reach = f"floor((month({step}) - 1) / 3) == scalar(floor((month({now}) - 1) / 3))", DAY * 92
    else:
        same, reach = f"month({step}) == scalar(month({now}))", DAY * 31

    def events(series: str) -> str:
        hour = f"sum_over_time({series}{counted}[{HOUR}])"
        return f"sum by (service) (sum_over_time(({hour} and on () ({same}))[{reach}:{HOUR}]))"

    expr = f"1 - {events(names.ERRORS_SLOW)}\n/ ({events(names.TOTAL_SLOW)} > 0)\n/ {plain(sla.budget)}\n"
    labels = {"service": service.name, "slo": slo.name, "objective": percent(sla.objective), "period": sla.period}
    return {"record": names.SLA_REMAINING, "expr": expr, "labels": labels}


def _burn_alerts(model: Model, service: ResolvedService, severity: str) -> list[Rule]:
    """One alert for all SLOs of the service; those that share policy, window and minimum share a condition."""
    shapes: dict[tuple[str, Duration, int], tuple[BurnWindow, ...]] = {}
    for slo in service.slos:
        if severity in slo.burn:
            shapes[(slo.policy, slo.window, slo.minimum_events)] = slo.burn[severity]
    parts = []
    for (policy, window, minimum), conditions in shapes.items():
        budget = _promised(service, policy=policy, window=str(window), minimum_events=str(minimum))
        parts += [_condition(service, condition, budget, minimum) for condition in conditions]
    if not parts:
        return []
    expr = parts[0] if len(parts) == 1 else "\nor\n".join(f"(\n{_indent(part)}\n)" for part in parts)
    return [
        {
            "alert": names.burn_alert(severity),
            "expr": expr + "\n",
            "labels": {**model.labels, "severity": severity},
            "annotations": _slo_annotations(model, service, severity),
        }
    ]


def _budget_alerts(model: Model, service: ResolvedService) -> list[Rule]:
    """What a policy asks for when little of the budget is left, or nothing: one alert for each severity."""
    wanted: dict[tuple[str, str, Decimal], list[str]] = defaultdict(list)
    for slo in service.slos:
        if slo.freeze:
            wanted[(names.ALERT_FREEZE, slo.freeze[1], slo.freeze[0])].append(slo.policy)
        if slo.exhausted:
            wanted[(names.ALERT_EXHAUSTED, slo.exhausted, Decimal(0))].append(slo.policy)
    rules = []
    for (alert, severity, share), policies in wanted.items():
        chosen = "|".join(re.escape(policy) for policy in dict.fromkeys(policies))
        budget = _promised(service).replace("}", f",policy=~{quote(chosen)}}}")
        # Metadata joins here, so that routes can match owner and tier.
        left = f"{names.BUDGET_REMAINING}{_selector(service)} * on (service, slo) group_left (owner, tier) ({budget} > bool 0)"
        stop = alert == names.ALERT_FREEZE
        rules.append(
            {
                "alert": alert,
                "expr": f"{left} {'<' if stop else '<='} {plain(share)}",
                "labels": {**model.labels, "severity": severity},
                "annotations": {
                    "summary": f"{_template_text(service.title)}: {_SHARE} of the budget of {{{{ $labels.slo }}}} "
                    + ("is left: deploy nothing but fixes" if stop else "is left: it is used up"),
                    "description": f"Promised is {_promise()}. "
                    + (
                        f"Below {percent(share)} of the budget, changes that can wait should wait."
                        if stop
                        else "Until old failures leave the window, each new one breaks the promise further."
                    ),
                    "budget_left": _budget_left(),
                    **_links(model, service, "{{ $labels.slo }}"),
                },
            }
        )
    return rules


def _condition(service: ResolvedService, window: BurnWindow, budget: str, minimum: int) -> str:
    selector = _selector(service)
    # The factor is exact: 14.4, never 14.399999. Metadata joins here, so that routes can match owner and tier.
    limit = f"on (service, slo) group_left (owner, tier) ({plain(window.factor.quantize(Decimal('1e-9')))} * {budget})"
    # It fires by the ratio that takes what was not lived through for good, and says the share of what there was.
    seen = f"ignoring (owner, tier) group_left () {_lived(service, window.long)}"
    lines = [
        f"({names.error_ratio(window.long)}{selector} > {limit}) / {seen}",
        f"and {names.error_ratio(window.short)}{selector} > {limit}",
    ]
    if minimum:
        # Bad events, not all events: a handful of failures at night is quiet, an outage of a quiet service is not.
        # Samples are rates, so each stands for STEP seconds of events. Rates of whole events add up to nearly whole ones.
        fast = window.long <= LONGEST_FAST
        series = f"{names.errors_sum(window.long)}{selector}"
        count = series if fast else f"sum_over_time({names.ERRORS_SLOW}{selector}[{window.long}])"
        lines.append(f"and ignoring (owner, tier) {count} * {plain(STEP.seconds)} > {minimum - 1}.5")
    return "\n".join(lines)


def _indent(text: str) -> str:
    return "\n".join("  " + line for line in text.split("\n"))


def _lookup(query: str, then: str, otherwise: str) -> str:
    """A template that runs a query for the alert's SLO. The ``%s`` in the query are its service, and its name."""
    values = " ".join(("$labels.service", "$labels.slo")[: query.count("%s")])
    run = f'{{{{ with printf "{query}" {values} | query }}}}'
    return f"{run}{then}{{{{ else }}}}{otherwise}{{{{ end }}}}"


def _budget_left() -> str:
    query = f"min({names.BUDGET_REMAINING}{{service='%s',slo='%s'}})"
    return _lookup(query, "{{ . | first | value | humanizePercentage }}", "not known at the moment")


def _promise() -> str:
    query = f"{names.ERROR_BUDGET}{{service='%s',slo='%s'}}"
    return _lookup(query, "{{ with . | first }}{{ .Labels.objective }} over {{ .Labels.window }}{{ end }}", "its objective")


def _deployment() -> str:
    """The last thing that `lgtm deploy` recorded of the service, which is often why an alert fires."""
    # Each event is one sample.
    ago = f"bottomk(1, time() - last_over_time({names.DEPLOYMENT_TIMESTAMP}{{service='%s'}}[{DAY}]))"
    said = (
        '{{ with . | first }}{{ .Labels.version }}{{ with .Labels.commit }} ({{ printf "%.12s" . }}){{ end }}'
        "{{ with .Labels.environment }} to {{ . }}{{ end }} {{ .Labels.status }} {{ .Value | humanizeDuration }} ago{{ end }}"
    )
    return _lookup(ago, said, f"none in the last {DAY.seconds / 3600:f} h")


def _slo_annotations(model: Model, service: ResolvedService, severity: str) -> dict[str, str]:
    urgency = (
        "The error budget will be gone in hours or days, not weeks. Act now."
        if severity == "critical"
        else "The error budget will not last the window. Act in the next working hours."
    )
    return {
        "summary": f"{_template_text(service.title)}: {{{{ $labels.slo }}}} fails for {_SHARE} of events",
        "description": f"Promised is {_promise()}. {urgency}",
        "budget_left": _budget_left(),
        "deployment": _deployment(),
        **_links(model, service, "{{ $labels.slo }}"),
    }


def _template_text(text: str) -> str:
    """Text of the user's inside a Go template: braces would be code."""
    return text.replace("{{", "{{`{{`}}") if "{{" in text else text


def _links(model: Model, service: ResolvedService, section: str, *, url: str | None = None) -> dict[str, str]:
    dashboard = f"{model.grafana}/d/{names.service_uid(service.name)}?from=now-6h&to=now"
    if section.startswith("{{ $labels.slo"):
        dashboard += f"&var-slo={section}"
    return {
        "runbook_url": _template_text(url)
        if url
        else f"{model.grafana}/d/{names.runbook_uid(service.name)}?var-alert={section}&from=now-6h&to=now",
        "dashboard_url": dashboard,
    }


def _no_data_alert(model: Model, service: ResolvedService) -> Rule:
    selector = _selector(service)
    missing = f"{names.ERROR_BUDGET}{selector} unless on (service, slo) {names.ERRORS_RATE}{selector}"
    return {
        "alert": names.ALERT_NO_DATA,
        "expr": f"max by (service, slo, owner, tier) ({missing})",
        "for": "5m",
        "labels": {**model.labels, "severity": "warning"},
        "annotations": {
            "summary": f"{_template_text(service.title)}: nothing is measured of {{{{ $labels.slo }}}}",
            "description": "The metrics of this SLO have been absent for five minutes: nobody would notice an outage. "
            "Is the service up, is it scraped or does it push, was a metric renamed?",
            **_links(model, service, "{{ $labels.slo }}"),
        },
    }


def _static_labels(model: Model, service: ResolvedService, severity: str, owner: str) -> dict[str, str]:
    return {**model.labels, "service": service.name, "owner": owner, "tier": service.tier, "severity": severity}


def _threshold_alert(model: Model, service: ResolvedService, alert: ResolvedAlert) -> Rule:
    expr, shown = alert.expr, ""
    for limit, operator in ((alert.above, ">"), (alert.below, "<")):
        if limit is not None:
            expr = f"({alert.expr}) {operator} {plain(limit.value)}"
            shown = f"Now {{{{ $value | {_humanize(limit)} }}}}, {'above' if operator == '>' else 'below'} {limit.text}."
    rule: Rule = {"alert": alert.name, "expr": expr}
    if alert.hold.seconds:
        rule["for"] = alert.hold
    rule["labels"] = _static_labels(model, service, alert.severity, alert.owner)
    runbook = alert.runbook or service.runbook
    rule["annotations"] = {
        "summary": f"{_template_text(service.title)}: {_template_text(alert.summary)}",
        "description": shown or ("There is no such series." if alert.absent else "Its condition holds."),
        **_links(model, service, alert.name, url=runbook.url if runbook else None),
    }
    return rule


def _humanize(limit: Threshold) -> str:
    return {"percent": "humanizePercentage", "seconds": "humanizeDuration", "bytes": "humanize1024"}.get(limit.unit, "humanize")


def _probe_alert(model: Model, service: ResolvedService, probe: ResolvedProbe) -> Rule:
    selector = _selector(service, probe=probe.name, job=names.PROBE_JOB)
    # A range of n intervals holds the last n results.
    reach = probe.interval * probe.failures
    expr = f"max by (service, probe) (max_over_time(probe_success{selector}[{reach}])) == 0"
    if probe.slower_than is not None:
        limit = plain(probe.slower_than.seconds)
        expr += f"\nor\nmin by (service, probe) (min_over_time(probe_duration_seconds{selector}[{reach}])) > {limit}"
    if probe.failures > 1:
        # After a start there are fewer results: one failure is not yet so many in a row. Half an interval more, because a
        # scrape that comes late is not to end the alert.
        longer = Duration(reach.seconds + probe.interval.seconds / 2)
        asked = f"max by (service, probe) (count_over_time(probe_success{selector}[{longer}])) >= {probe.failures}"
        expr = f"(\n{expr}\n)\nand\n{asked}"
    runbook = probe.runbook or service.runbook
    slow = f" or took longer than {probe.slower_than}" if probe.slower_than else ""
    times = f"{probe.failures} times in a row" if probe.failures > 1 else "once"
    return {
        "alert": names.ALERT_PROBE,
        "expr": expr,
        "labels": {**_static_labels(model, service, str(probe.severity), probe.owner), "probe": probe.name},
        "annotations": {
            "summary": f"{_template_text(service.title)}: probe {probe.name} fails",
            "description": f"{_template_text(probe.url)} failed{slow} {times}, asked every {probe.interval}.",
            **_links(model, service, probe.name, url=runbook.url if runbook else None),
        },
    }


def _watchdog(model: Model) -> dict[str, Any]:
    """An alert that never stops: its silence, seen from outside, means that alerting is broken."""
    return _group(
        "lgtm",
        STEP,
        [
            {
                "alert": names.ALERT_WATCHDOG,
                "expr": "vector(1)",
                "labels": {**model.labels, "service": "lgtm", "severity": "none"},
                "annotations": {
                    "summary": "Alerting works",
                    "description": "This alert always fires. When it stops arriving, nothing else will arrive either.",
                },
            }
        ],
    )


def all_rules(groups: Iterable[dict[str, Any]]) -> list[Rule]:
    """Every rule of some groups, in order."""
    return [rule for group in groups for rule in group["rules"]]


def by_alert(groups: Iterable[dict[str, Any]]) -> dict[str, list[Rule]]:
    """Alerting rules by the alert's name."""
    found: dict[str, list[Rule]] = defaultdict(list)
    for rule in all_rules(groups):
        if "alert" in rule:
            found[rule["alert"]].append(rule)
    return dict(found)
