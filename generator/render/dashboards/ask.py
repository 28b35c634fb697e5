"""Every query of the dashboards, once. PromQL over recorded series unless it says otherwise; LogQL and TraceQL at the end.

``service`` and ``slo`` are a name, or a pattern such as Grafana's ``$slo`` as ``Like``. Nothing here reads raw counters
over more than an hour.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

from generator import names, promql
from generator.model import BurnWindow, Model, ResolvedService, ResolvedSlo
from generator.promql import quote
from generator.sli import Latency
from generator.units import Duration, plain

# The slow tier writes every five minutes, which is as far as an instant query looks back.
SLOW_REACH = "15m"
SLOW_STEP = "5m"
# The range of a raw counter's rate in a panel.
RAW_RANGE = "5m"

# Worst first: what is being hurt now comes before what was hurt earlier in the window.
BOTH, BURNING, EXHAUSTED, SILENT, HEALTHY = 4, 3, 2, 1, 0


class Like(str):
    """A regular expression, where a plain text would be matched as it is."""

    __slots__ = ()


def any_of(values: Iterable[str]) -> Like:
    """A pattern for any of some names."""
    return Like("|".join(_literal(value) for value in values))


def _literal(name: str) -> str:
    # Of what a name may hold, only the dot means something in a pattern.
    return name.replace(".", "[.]")


def where(**labels: str) -> str:
    """Matchers; what is empty is left out."""
    parts = [f"{name}{'=~' if isinstance(value, Like) else '='}{quote(value)}" for name, value in labels.items() if value]
    return "{" + ",".join(parts) + "}" if parts else ""


def _slow(name: str, labels: str) -> str:
    return f"last_over_time({name}{labels}[{SLOW_REACH}])"


def remaining(**labels: str) -> str:
    """The share of the budget that is left, by SLO and group."""
    return _slow(names.BUDGET_REMAINING, where(**labels))


def worst_remaining(**labels: str) -> str:
    """The share of the budget that is left, by SLO: that of its worst group."""
    # What was renamed or removed lingers for a while: only what is promised now counts.
    promised = names.ERROR_BUDGET + where(**labels)
    return f"min by (service, slo) ({remaining(**labels)} and on (service, slo) {promised})"


def burn_rate(window: Duration | str = "1h", **labels: str) -> str:
    """How many times faster than allowed the budget is spent, by SLO and group."""
    budget = names.ERROR_BUDGET + where(**labels)
    return f"{names.error_ratio(window)}{where(**labels)} / on (service, slo) group_left () {budget}"


def worst_burn_rate(**labels: str) -> str:
    """The burn rate over an hour, by SLO: that of its worst group."""
    return f"max by (service, slo) ({burn_rate(**labels)})"


def lasts(windows: Iterable[Duration], **labels: str) -> str:
    """Seconds until the budget is gone at the burn rate of the last hour, by SLO; only where it would be gone early."""
    parts = []
    for window in sorted(set(windows)):
        rate = f"{names.error_ratio('1h')}{where(**labels)} / on (service, slo) group_left () "
        rate += names.ERROR_BUDGET + where(**labels, window=str(window))
        left = f"({remaining(**labels)} > 0) * {plain(window.seconds)}"
        parts.append(f"{left} / ({rate} > 1)")
    return f"min by (service, slo) ({' or '.join(parts)})"


def state(**labels: str) -> str:
    """The state of each SLO as a number: 4 exhausted and burning, 3 burning, 2 exhausted, 1 not measured, 0 healthy."""
    burning = where(**labels, alertname=Like(f"{names.ALERT_BURN}.+"), alertstate="firing")
    exhausted = f"group by (service, slo) ({remaining(**labels)} <= 0)"
    fires = f"group by (service, slo) (ALERTS{burning})"
    parts = [
        f"{BOTH} * ({exhausted} and {fires})",
        f"{BURNING} * {fires}",
        f"{EXHAUSTED} * {exhausted}",
        f"{HEALTHY} * group by (service, slo) ({names.TOTAL_RATE}{where(**labels)})",
    ]
    promised = f"group by (service, slo) ({names.ERROR_BUDGET}{where(**labels)})"
    return f"({' or '.join(parts)}) and {promised} or {promised}"


def count(expr: str) -> str:
    """How many, and 0 where there is none."""
    return f"count({expr}) or vector(0)"


def in_state(*numbers: int) -> str:
    """How many SLOs are in any of some states, which follow each other."""
    return count(f"{min(numbers)} <= ({state()}) <= {max(numbers)}")


def exhausted() -> str:
    """How many SLOs have no budget left."""
    return count(f"{worst_remaining()} <= 0")


def targets(expr: str, model: Model) -> str:
    """Adds the labels ``dashboard`` and ``runbook``: the uids of the service's pages."""
    for label, uid in (("dashboard", names.service_uid), ("runbook", names.runbook_uid)):
        prefix = uid("x").removesuffix("x")
        expr = f'label_replace({expr}, "{label}", "{prefix}$1", "service", "(.*)")'
        for service in model.services:
            if uid(service.name) != prefix + service.name:
                expr = f'label_replace({expr}, "{label}", "{uid(service.name)}", "service", "{_literal(service.name)}")'
    return expr


def objectives(model: Model, **labels: str) -> str:
    """What each SLO promises, as labels; the value is its budget."""
    told = "service, slo, title, owner, tier, objective, window"
    expr = f"max by ({told}) ({names.ERROR_BUDGET}{where(**labels)})"
    return targets(f'label_join({expr}, "promised", " over ", "objective", "window")', model)


def firing(model: Model, **labels: str) -> str:
    """Firing alerts, with the time since when in milliseconds.

    ``section`` is that of their runbook, ``urgency`` the severity's place, 0 the highest.
    """
    told = "alertname, severity, service, slo, probe, owner"
    since = f"ALERTS_FOR_STATE{where(**labels)}"
    now = where(**labels, alertstate="firing").replace("}", ',severity!="none"}')
    expr = f"min by ({told}) ({since} and ignoring (alertstate) ALERTS{now}) * 1000"
    for label in ("alertname", "probe", "slo"):
        expr = f'label_replace({expr}, "section", "$1", "{label}", "(.+)")'
    for rank, severity in enumerate(names.SEVERITIES):
        # A number sorts by urgency, where the word would sort by its letters.
        expr = f'label_replace({expr}, "urgency", "{rank}", "severity", "{severity}")'
    return targets(expr, model)


def critical_firing() -> str:
    """How many critical alerts fire."""
    return count('ALERTS{alertstate="firing",severity="critical"}')


def heartbeat() -> str:
    """1 while the alert that never stops fires, else 0."""
    return f"count(ALERTS{where(alertname=names.ALERT_WATCHDOG, alertstate='firing')}) > bool 0 or vector(0)"


def worst_budgets(number: int = 10) -> str:
    """The budgets of those SLOs that have least left now, over time."""
    now = f"bottomk({number}, min by (service, slo) (last_over_time({names.BUDGET_REMAINING}[{SLOW_REACH}] @ end())))"
    return f"min by (service, slo) ({remaining()}) and on (service, slo) {now}"


# The end of the panel's range as a number, in whole minutes.
_END = "last_over_time(vector(time())[1m:1m] @ end())"


def spent_per_step(slo_window: Duration, service: str, slo: str) -> str:
    """The share of the window's whole budget that each step spends, by SLO; its running total is what is spent.

    Steps before the window began are left out. Reads sums of five minutes.
    """
    labels = where(service=service, slo=slo)
    errors = f"sum by (service, slo) (sum_over_time({names.ERRORS_SLOW}{labels}[$__interval]))"
    total = f"(sum by (service, slo) (sum_over_time({names.TOTAL_SLOW}{labels}[{slo_window}] @ end())) > 0)"
    budget = names.ERROR_BUDGET + where(service=service, slo=slo, window=str(slo_window))
    began = f"({_END} - time() < {plain(slo_window.seconds)})"
    return f"{errors} / {total} / on (service, slo) group_left () {budget} and on () {began}"


def even_spending(slo_window: Duration, service: str, slo: str) -> str:
    """A straight line from 0 where the window begins to 1 at the end of the range."""
    budget = names.ERROR_BUDGET + where(service=service, slo=slo, window=str(slo_window))
    return f"1 - ({_END} - time() < {plain(slo_window.seconds)}) / {plain(slo_window.seconds)} and on () {budget}"


def error_ratio(window: str, service: str, slo: str) -> str:
    """The share of bad events over a window, by SLO and group."""
    return names.error_ratio(window) + where(service=service, slo=slo)


def budget(service: str, slo: str) -> str:
    """The share of events that may be bad."""
    return f"max by (service, slo) ({names.ERROR_BUDGET}{where(service=service, slo=slo)})"


def nearness(service: str, slo: str, policy: str, slo_window: Duration, condition: BurnWindow) -> str:
    """How near a burn-rate condition is to holding: above 1 in both of its windows is above 1 here."""
    labels = where(service=service, slo=slo)
    long, short = (names.error_ratio(w) + labels for w in (condition.long, condition.short))
    limit = names.ERROR_BUDGET + where(service=service, slo=slo, policy=policy, window=str(slo_window))
    factor = plain(condition.factor.quantize(Decimal("1e-9")))
    return f"(({long} <= {short}) or {short}) / on (service, slo) group_left () ({factor} * {limit})"


def traffic(service: str, slo: str) -> str:
    """All events per second."""
    return f"sum by (service, slo) ({names.TOTAL_RATE}{where(service=service, slo=slo)})"


def bad_traffic(service: str, slo: str) -> str:
    """Bad events per second."""
    return f"sum by (service, slo) ({names.ERRORS_RATE}{where(service=service, slo=slo)})"


def percentile(slo: ResolvedSlo, quantile: str) -> str:
    """A percentile of a latency SLI's histogram over five minutes. Reads raw buckets."""
    if not isinstance(slo.sli, Latency):
        raise ValueError(f"{slo.name} is no latency SLO")
    # The bucket's name first: matchers are added to selectors, and keep what the user matched already.
    buckets = promql.with_matchers(promql.rename(slo.sli.histogram, "_bucket"), slo.context.match)
    return f"histogram_quantile({quantile}, sum by (le) (rate({buckets}[{RAW_RANGE}])))"


def probe_success(service: str, probe: str = "") -> str:
    """1 while a probe succeeds, else 0."""
    return f"min by (probe) (probe_success{where(job=names.PROBE_JOB, service=service, probe=probe)})"


def probe_duration(service: str, probe: str = "") -> str:
    """Seconds that a probe took."""
    return f"max by (probe) (probe_duration_seconds{where(job=names.PROBE_JOB, service=service, probe=probe)})"


def calls(telemetry: str, *, failed: bool = False) -> str:
    """Calls per second from and to a service, as its spans tell. Reads raw counters."""
    metric = "traces_service_graph_request_failed_total" if failed else "traces_service_graph_request_total"
    rates = [
        f"sum by (client, server) (rate({metric}{where(**{side: telemetry})}[{RAW_RANGE}]))" for side in ("client", "server")
    ]
    return " or ".join(rates)


def failed_share(telemetry: str) -> str:
    """The share of those calls that failed, 0 where none did."""
    all_calls = calls(telemetry)
    return f"({calls(telemetry, failed=True)} or 0 * ({all_calls})) / (({all_calls}) > 0)"


def only_if(variable: str, chosen: str, name: str, expr: str) -> str:
    """An expression that answers nothing unless Grafana's variable, written as ``chosen``, has the value ``name``."""

    def one(value: str) -> str:
        return f'label_replace(vector(1), "{variable}", "{value}", "", "")'

    return f"({expr}) and on () ({one(chosen)} and on ({variable}) {one(name)})"


def new_versions(telemetry: str) -> str:
    """Versions that were not there ten minutes ago, while the service was: a deployment."""
    info = f'target_info{{service_name={quote(telemetry)},service_version!=""}}'
    now, before = (f"count by (service_version) ({info}{offset})" for offset in ("", " offset 10m"))
    return f"{now} unless {before} and on () count({info} offset 10m)"


def alert_starts(service: str) -> str:
    """When alerts of a service began to fire, for marks on graphs."""
    told, labels = "alertname, slo, probe, severity", where(service=service, alertstate="firing")
    now, before = (f"max by ({told}) (ALERTS{labels}{offset})" for offset in ("", " offset 1m"))
    return f"{now} unless {before}"


# --- logs and traces ----------------------------------------------------------------------------------------------

_ERROR_LEVELS = "error|fatal|critical"


def error_logs(telemetry: str) -> str:
    """LogQL: log lines of a service at level error or above."""
    return f'{{service_name={quote(telemetry)}}} | detected_level=~"{_ERROR_LEVELS}"'


def error_log_rate(telemetry: str) -> str:
    """LogQL: how many such lines in each step."""
    return f"sum(count_over_time({error_logs(telemetry)} [$__auto]))"


def failed_traces(telemetry: str) -> str:
    """TraceQL: traces in which a span of the service failed."""
    return f"{{ resource.service.name = {quote(telemetry)} && status = error }}"


def slow_traces(telemetry: str, longer: Duration) -> str:
    """TraceQL: traces in which a span of the service took longer."""
    milliseconds = plain(longer.seconds * 1000)
    return f"{{ resource.service.name = {quote(telemetry)} && duration > {milliseconds}ms }}"


def telemetry_name(service: ResolvedService) -> str:
    """The service.name under which a service logs and traces: its job's last part, or its own name."""
    match: Mapping[str, str] = service.match
    return (match.get("service_name") or match.get("job") or service.name).rpartition("/")[2] or service.name
