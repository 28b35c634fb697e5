"""Recording and alerting rules for Prometheus: one file for each service, so that one bad service cannot stop another.

The shape, for a service with any number of SLOs (docs/decisions/0001-rules.md says why):

- each SLO records its errors and its total, as rates over the raw counters, every 30 s; nothing else reads raw counters;
- each window's error ratio is one rule for all SLOs of the service: sum of errors over sum of total, divided last;
- windows past six hours, and the budget, read sums of five minutes, every five minutes;
- objective and metadata of an SLO are one constant series; thresholds are factors of it;
- each severity is one alert for all SLOs of the service.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from generator import names
from generator.model import DAY, HOUR, BurnWindow, Model, ResolvedAlert, ResolvedProbe, ResolvedService, ResolvedSlo
from generator.promql import quote
from generator.render import Artifact
from generator.render.yamltext import dump
from generator.units import Duration, Threshold, percent, plain

STEP = Duration(Decimal(30))
SLOW_STEP = Duration(Decimal(300))
# Windows up to this are summed from 30 s samples: 720 of them. Longer ones from five-minute sums.
LONGEST_FAST = HOUR * 6
# Every standard window, recorded for dashboards even where no alert of the service reads it.
DASHBOARD_WINDOWS = (HOUR, DAY)

# The alert's value is the error ratio over the long window.
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
        fast = [rule for slo in service.slos for rule in _sli_rules(slo)]
        fast += [_ratio_rule(service, w) for w in windows if w <= LONGEST_FAST]
        fast += _burn_alerts(model, service, "critical")
        fast.append(_no_data_alert(model, service))
        slow = [_slow_rule(service, names.ERRORS_SLOW, names.ERRORS_RATE)]
        slow.append(_slow_rule(service, names.TOTAL_SLOW, names.TOTAL_RATE))
        slow += [_ratio_rule(service, w) for w in windows if w > LONGEST_FAST]
        slow += [_remaining_rule(service, window) for window in sorted({slo.window for slo in service.slos})]
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


def _sli_rules(slo: ResolvedSlo) -> list[Rule]:
    identity = {"service": slo.service, "slo": slo.name}
    return [
        {"record": names.ERRORS_RATE, "expr": slo.sli.errors(slo.context), "labels": identity},
        {"record": names.TOTAL_RATE, "expr": slo.sli.total(slo.context), "labels": identity},
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


def _slow_rule(service: ResolvedService, record: str, source: str) -> Rule:
    return {"record": record, "expr": f"sum_over_time({source}{_selector(service)}[{SLOW_STEP}])"}


def _ratio(service: ResolvedService, window: Duration) -> str:
    fast = window <= LONGEST_FAST
    errors, total = (names.ERRORS_RATE, names.TOTAL_RATE) if fast else (names.ERRORS_SLOW, names.TOTAL_SLOW)
    selector = _selector(service)
    return f"sum_over_time({errors}{selector}[{window}]) / (sum_over_time({total}{selector}[{window}]) > 0)"


def _ratio_rule(service: ResolvedService, window: Duration) -> Rule:
    return {"record": names.error_ratio(window), "expr": _ratio(service, window)}


def _remaining_rule(service: ResolvedService, window: Duration) -> Rule:
    budget = names.ERROR_BUDGET + _selector(service, window=str(window))
    selector = _selector(service)
    errors, total = f"{names.ERRORS_SLOW}{selector}[{window}]", f"{names.TOTAL_SLOW}{selector}[{window}]"
    return {
        "record": names.BUDGET_REMAINING,
        "expr": f"1 - sum_over_time({errors}) / (sum_over_time({total}) > 0) / on (service, slo) group_left () {budget}",
    }


def _burn_alerts(model: Model, service: ResolvedService, severity: str) -> list[Rule]:
    """One alert for all SLOs of the service; those that share policy, window and minimum share a condition."""
    shapes: dict[tuple[str, Duration, int], tuple[BurnWindow, ...]] = {}
    for slo in service.slos:
        if severity in slo.burn:
            shapes[(slo.policy, slo.window, slo.minimum_events)] = slo.burn[severity]
    parts = []
    for (policy, window, minimum), conditions in shapes.items():
        budget = names.ERROR_BUDGET + _selector(service, policy=policy, window=str(window), minimum_events=str(minimum))
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


def _condition(service: ResolvedService, window: BurnWindow, budget: str, minimum: int) -> str:
    selector = _selector(service)
    # The factor is exact: 14.4, never 14.399999. Metadata joins here, so that routes can match owner and tier.
    limit = f"on (service, slo) group_left (owner, tier) ({plain(window.factor.quantize(Decimal('1e-9')))} * {budget})"
    lines = [
        f"{names.error_ratio(window.long)}{selector} > {limit}",
        f"and {names.error_ratio(window.short)}{selector} > {limit}",
    ]
    if minimum:
        # Bad events, not all events: a handful of failures at night is quiet, an outage of a quiet service is not.
        series = names.ERRORS_RATE if window.long < LONGEST_FAST else names.ERRORS_SLOW
        # Samples are rates, so each stands for STEP seconds of events.
        count = f"sum_over_time({series}{selector}[{window.long}]) * {plain(STEP.seconds)}"
        lines.append(f"and ignoring (owner, tier) {count} >= {minimum}")
    return "\n".join(lines)


def _indent(text: str) -> str:
    return "\n".join("  " + line for line in text.split("\n"))


def _lookup(query: str, then: str, otherwise: str) -> str:
    """A template that runs a query for the alert's SLO. ``%s`` in the query are its service and its name."""
    run = f'{{{{ with printf "{query}" $labels.service $labels.slo | query }}}}'
    return f"{run}{then}{{{{ else }}}}{otherwise}{{{{ end }}}}"


def _budget_left() -> str:
    # The slow tier writes every five minutes, so the last value may be older than an instant query looks back.
    query = f"min(last_over_time({names.BUDGET_REMAINING}{{service='%s',slo='%s'}}[15m]))"
    return _lookup(query, "{{ . | first | value | humanizePercentage }}", "not known yet: first computed 5 minutes after start")


def _promise() -> str:
    query = f"{names.ERROR_BUDGET}{{service='%s',slo='%s'}}"
    return _lookup(query, "{{ with . | first }}{{ .Labels.objective }} over {{ .Labels.window }}{{ end }}", "its objective")


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
        else f"{model.grafana}/d/{names.runbook_uid(service.name)}?var-alert={section}",
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
        "description": shown or "Its condition holds.",
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
        expr += f"\nor\nmin by (service, probe) (min_over_time(probe_duration_seconds{selector}[{reach}])) > {limit}\n"
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
