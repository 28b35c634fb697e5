"""Every query of the dashboards, once. PromQL over recorded series unless it says otherwise; LogQL and TraceQL at the end.

``service`` and ``slo`` are a name, or a pattern such as Grafana's ``$slo`` as ``Like``. Nothing here reads raw counters
over more than an hour.

What services themselves send, and deployments, are narrowed by the variable ``environment``. What is recorded of objectives
is not: the metrics that those count need not say their environment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

import promql_parser as pp

from generator import deploy, names, promql
from generator.model import BurnWindow, Model, ResolvedService, ResolvedSlo
from generator.promql import quote
from generator.sli import Latency
from generator.units import Duration, percent, plain

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


# What tells no environment is part of all of them: an absent label matches this, in PromQL and in LogQL.
EVERYWHERE = ".*"
_CHOSEN = Like("$environment")
# As Prometheus, Loki and Tempo's metrics generator write the attribute deployment.environment.name.
_THERE = {"deployment_environment_name": _CHOSEN}
# In TraceQL what is absent matches no pattern, and a condition with "or" is a hundred times slower: so the collector
# writes "none".
_TRACED_THERE = f"resource.deployment.environment.name =~ `{_CHOSEN}`"


def environments() -> str:
    """What Grafana asks Prometheus for the choices of the variable ``environment``."""
    return "label_values(deployment_environment_name)"


def series_name(expr: str, alone: str) -> str:
    """How a graph calls the series of a user's query: by the labels that it groups by and the percentile, else ``alone``.

    Empty where the query does not say which labels are left: Grafana then shows all of them.
    """
    labels, quantile = _groups(promql.parse(expr.replace("$__rate_interval", RAW_RANGE)))
    if labels is None:
        return ""
    return " ".join([*(f"{{{{{label}}}}}" for label in labels), *([quantile] if quantile else [])]) or alone


def _groups(expr: pp.Expr) -> tuple[list[str] | None, str]:
    """The labels that a query's result has, None where it does not say, and the percentile that it asks for, if any."""
    if isinstance(expr, pp.AggregateExpr) and expr.modifier is not None and expr.modifier.type == pp.AggModifierType.By:
        return list(expr.modifier.labels), ""
    if isinstance(expr, pp.AggregateExpr) and expr.modifier is None and expr.param is None:
        return [], ""
    if isinstance(expr, pp.ParenExpr | pp.UnaryExpr):
        return _groups(expr.expr)
    if isinstance(expr, pp.BinaryExpr):
        scalar = isinstance(expr.lhs, pp.NumberLiteral) or (isinstance(expr.lhs, pp.Call) and not expr.lhs.args)
        return _groups(expr.rhs if scalar else expr.lhs)
    if isinstance(expr, pp.Call) and expr.func.name == "histogram_quantile":
        labels, quantile = _groups(expr.args[1])[0], expr.args[0]
        shown = f"{percent(Decimal(str(quantile.val)))} within" if isinstance(quantile, pp.NumberLiteral) else ""
        return None if labels is None else [label for label in labels if label != "le"], shown
    return None, ""


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
    return names.BUDGET_REMAINING + where(**labels)


def worst_remaining(**labels: str) -> str:
    """The share of the budget that is left, by SLO: that of its worst group."""
    # What was renamed or removed lingers for a while: only what is promised now counts.
    return f"min by (service, slo) ({remaining(**labels)} and on (service, slo) {names.ERROR_BUDGET}{where(**labels)})"


def one_budget(**labels: str) -> str:
    """The budget of each SLO, once: after a restart the one from before a change lingers beside it for five minutes."""
    return f"max by (service, slo) ({names.ERROR_BUDGET}{where(**labels)})"


def burn_rate(window: Duration | str = "1h", **labels: str) -> str:
    """How many times faster than allowed the budget is spent, by SLO and group."""
    budget = one_budget(**labels)
    return f"{names.error_ratio(window)}{where(**labels)} / on (service, slo) group_left () {budget}"


def worst_burn_rate(**labels: str) -> str:
    """The burn rate over an hour, by SLO: that of its worst group."""
    return f"max by (service, slo) ({burn_rate(**labels)})"


def lasts(windows: Iterable[Duration], **labels: str) -> str:
    """Seconds until the budget is gone at the burn rate of the last hour, by SLO; only where it would be gone early."""
    parts = []
    for window in sorted(set(windows)):
        rate = f"{names.error_ratio('1h')}{where(**labels)} / on (service, slo) group_left () "
        rate += one_budget(**labels, window=str(window))
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
    known = f"group by (service, slo) ({names.ERROR_BUDGET}{where(**labels)})"
    return f"({' or '.join(parts)}) and {known} or {known}"


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
        for name in model.cut_names:
            expr = f'label_replace({expr}, "{label}", "{uid(name)}", "service", "{_literal(name)}")'
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
    now = f"bottomk({number}, min by (service, slo) ({names.BUDGET_REMAINING} @ end()))"
    return f"min by (service, slo) ({remaining()}) and on (service, slo) {now}"


# The end of the panel's range as a number, in whole minutes.
_END = "last_over_time(vector(time())[1m:1m] @ end())"
_END_SECOND = "last_over_time(vector(time())[1m:1s] @ end())"


def spent_per_step(slo_window: Duration, service: str, slo: str) -> str:
    """The share of the window's whole budget that each step spends, by SLO; its running total is what is spent.

    Steps before the window began are left out, and the time before the SLO's history began counts as good. Reads sums of five
    minutes.
    """
    labels = where(service=service, slo=slo)
    errors = f"sum by (service, slo) (sum_over_time({names.ERRORS_SLOW}{labels}[$__interval]))"
    total = f"(sum by (service, slo) (sum_over_time({names.TOTAL_SLOW}{labels}[{slo_window}] @ end())) > 0)"
    budget = one_budget(service=service, slo=slo, window=str(slo_window))
    began = f"({_END} - time() < {plain(slo_window.seconds)})"
    history = f"scalar({_END}) - min by (service, slo) ({names.HISTORY_START}{labels} @ end())"
    known = f"clamp_max(({history}) / {plain(slo_window.seconds)}, 1)"
    return f"{errors} / {total} * {known} / on (service, slo) group_left () {budget} and on () {began}"


def even_spending(slo_window: Duration, service: str, slo: str) -> str:
    """A straight line from 0 where the window begins to 1 at the end of the range."""
    budget = names.ERROR_BUDGET + where(service=service, slo=slo, window=str(slo_window))
    return f"1 - ({_END} - time() < {plain(slo_window.seconds)}) / {plain(slo_window.seconds)} and on () {budget}"


def error_ratio(window: Duration, service: str, slo: str) -> str:
    """The share of bad events over a window, by SLO and group; where the SLO is younger, over its life.

    What is recorded counts the time before it began as good, since an alert must not take minutes for hours.
    """
    labels = where(service=service, slo=slo)
    lived = f"clamp_max((time() - {names.HISTORY_START}{labels}) / {plain(window.seconds)}, 1)"
    return f"{names.error_ratio(window)}{labels} / {lived}"


def recent_ratio(service: str, slo: str) -> str:
    """The share of bad events over five minutes, by SLO and group; whatever windows its alerts have."""
    labels = where(service=service, slo=slo)
    bad, every = (f"sum_over_time({metric}{labels}[{RAW_RANGE}])" for metric in (names.ERRORS_RATE, names.TOTAL_RATE))
    return f"{bad} / ({every} > 0)"


def budget(service: str, slo: str) -> str:
    """The share of events that may be bad."""
    return one_budget(service=service, slo=slo)


def left_by_policy(service: str, slo: str, policy: str) -> str:
    """What is left of the budgets of a policy: the query of the alerts on exhaustion and on a freeze."""
    chosen = one_budget(service=service, slo=slo, policy=policy)
    return f"{names.BUDGET_REMAINING}{where(service=service, slo=slo)} * on (service, slo) group_left () ({chosen} > bool 0)"


def nearness(service: str, slo: str, policy: str, slo_window: Duration, condition: BurnWindow) -> str:
    """How near a burn-rate condition is to holding: above 1 in both of its windows is above 1 here."""
    labels = where(service=service, slo=slo)
    long, short = (names.error_ratio(w) + labels for w in (condition.long, condition.short))
    limit = one_budget(service=service, slo=slo, policy=policy, window=str(slo_window))
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
    return _known(f"histogram_quantile({quantile}, sum by (le) (rate({buckets}[{RAW_RANGE}])))")


def _known(quantile: str) -> str:
    # Of no events it is not a number, which is not more than 0: a graph of that has axes and no line, and does not say why.
    return f"{quantile} > 0"


def buckets(slo: ResolvedSlo) -> str:
    """Events per second in each bucket of a latency SLI's histogram. Reads raw buckets."""
    if not isinstance(slo.sli, Latency):
        raise ValueError(f"{slo.name} is no latency SLO")
    raw = promql.with_matchers(promql.rename(slo.sli.histogram, "_bucket"), slo.context.match)
    return f"sum by (le) (rate({raw}[{RAW_RANGE}]))"


# Spans that answer somebody, not those that ask or that only structure the work.
_ANSWERS = {"span_kind": Like("SPAN_KIND_SERVER|SPAN_KIND_CONSUMER")}


def endpoint_rate(telemetry: str, *, failed: bool = False) -> str:
    """Requests per second by endpoint, or those that fail, as a service's spans tell. Reads raw counters."""
    labels = where(service=telemetry, **_THERE, **_ANSWERS, status_code="STATUS_CODE_ERROR" if failed else "")
    return f"sum by (span_name) (rate(traces_spanmetrics_calls_total{labels}[{RAW_RANGE}]))"


def endpoint_failing(telemetry: str) -> str:
    """The share of requests that fail by endpoint, 0 where none does."""
    every = endpoint_rate(telemetry)
    return f"({endpoint_rate(telemetry, failed=True)} or 0 * {every}) / ({every} > 0)"


def endpoint_quantile(telemetry: str, quantile: str) -> str:
    """A percentile of the duration by endpoint, in seconds."""
    raw = f"rate(traces_spanmetrics_latency_bucket{where(service=telemetry, **_THERE, **_ANSWERS)}[{RAW_RANGE}])"
    return _known(f"histogram_quantile({quantile}, sum by (span_name, le) ({raw}))")


# A release is compared with as much time before it as has passed since, but no more than this.
COMPARED = Duration.of("6h")
# And only one that is not older than this.
_RECENT_RELEASE = Duration.of("1d")


def _released(service: str) -> str:
    """When the newest deployment of a service that did not fail began, in Unix time."""
    labels = where(service=service, environment=_CHOSEN, status=Like("started|succeeded"))
    return f"max(min by (deployment) (last_over_time({deploy.TIMESTAMP}{labels}[{_RECENT_RELEASE}] @ end())))"


def release_ratio(service: str, *, before: bool = False) -> str:
    """The share of bad events by SLO since the newest deployment, or in the same length of time before it.

    At most six hours of each. Reads the recorded rates in steps of a minute.
    """
    start = _released(service)
    length = f"clamp_max({_END_SECOND} - {start}, {plain(COMPARED.seconds)})"
    begin, end = (f"{start} - {length}", start) if before else (start, f"{start} + {length}")
    span = Duration(_RECENT_RELEASE.seconds + COMPARED.seconds)
    within = f"on () (vector(time()) > ({begin})) and on () (vector(time()) <= ({end}))"

    def summed(metric: str) -> str:
        return f"sum by (service, slo) (sum_over_time(({metric}{where(service=service)} and {within})[{span}:1m]))"

    return f"{summed(names.ERRORS_RATE)} / ({summed(names.TOTAL_RATE)} > 0)"


def probe_success(service: str, probe: str = "") -> str:
    """1 while a probe succeeds, else 0."""
    return f"min by (probe) (probe_success{where(job=names.PROBE_JOB, service=service, probe=probe)})"


def probe_duration(service: str, probe: str = "") -> str:
    """Seconds that a probe took."""
    return f"max by (probe) (probe_duration_seconds{where(job=names.PROBE_JOB, service=service, probe=probe)})"


def calls(telemetry: str, *, failed: bool = False) -> str:
    """Calls per second from and to a service, as its spans tell. Reads raw counters."""
    metric = "traces_service_graph_request_failed_total" if failed else "traces_service_graph_request_total"
    sides = [where(**{side: telemetry}, **_THERE) for side in ("client", "server")]
    return " or ".join(f"sum by (client, server) (rate({metric}{labels}[{RAW_RANGE}]))" for labels in sides)


def failed_calls(telemetry: str) -> str:
    """Those of these calls that fail, per second, 0 where none does."""
    return f"({calls(telemetry, failed=True)} or 0 * ({calls(telemetry)}))"


def failed_share(telemetry: str) -> str:
    """The share of these calls that fails, 0 where none does."""
    return f"{failed_calls(telemetry)} / (({calls(telemetry)}) > 0)"


def arrows(expr: str, none: str = "") -> str:
    """The labels ``id``, ``source`` and ``target`` of an arrow from a client to a server; where there are none, of ``none``."""
    for label, name in (("source", "client"), ("target", "server")):
        expr = f'label_replace({expr}, "{label}", "$1", "{name}", "(.*)")'
    found = f'sum by (id, source, target) (label_join({expr}, "id", " → ", "client", "server"))'
    if not none:
        return found
    # Grafana's picture has no word of ours where it is empty.
    alone = f'label_replace(vector(0), "id", "{none}", "", "")'
    for label in ("source", "target"):
        alone = f'label_join({alone}, "{label}", "", "id")'
    return f"{found} or on () {alone}"


def only_if(variable: str, chosen: str, name: str, expr: str) -> str:
    """An expression that answers nothing unless Grafana's variable, written as ``chosen``, has the value ``name``."""

    def one(value: str) -> str:
        return f'label_replace(vector(1), "{variable}", "{value}", "", "")'

    return f"({expr}) and on () ({one(chosen)} and on ({variable}) {one(name)})"


def new_versions(telemetry: str) -> str:
    """Versions that were not there ten minutes ago, while the service was: a deployment."""
    info = "target_info" + where(service_name=telemetry, service_version=Like(".+"), **_THERE)
    now, before = (f"count by (service_version) ({info}{offset})" for offset in ("", " offset 10m"))
    return f"{now} unless {before} and on () count({info} offset 10m)"


def deployment_events(services: Iterable[str] = (), *, narrow: bool = False) -> str:
    """When deployments of some services, or of all, started, succeeded or failed, in milliseconds: for marks on graphs.

    ``narrow``: those to the environment that is chosen.
    """
    told = "service, version, commit, environment, status"
    labels = where(service=any_of(services), environment=_CHOSEN if narrow else "")
    return f"max by ({told}) ({deploy.TIMESTAMP}{labels}) * 1000"


def alert_starts(service: str) -> str:
    """When alerts of a service began to fire, for marks on graphs."""
    told, labels = "alertname, slo, probe, severity", where(service=service, alertstate="firing")
    now, before = (f"max by ({told}) (ALERTS{labels}{offset})" for offset in ("", " offset 1m"))
    return f"{now} unless {before}"


# --- logs and traces ----------------------------------------------------------------------------------------------

_ERROR_LEVELS, _QUIET = names.ERROR_LEVELS, names.NOT_ERRORS


def error_logs(telemetry: str) -> str:
    """LogQL: log lines of a service at level error or above."""
    return f'{where(service_name=telemetry, **_THERE)[:-1]},{_QUIET}}} | detected_level=~"{_ERROR_LEVELS}"'


def error_log_rate(telemetry: str) -> str:
    """LogQL: how many such lines in each step."""
    return f"sum(count_over_time({error_logs(telemetry)} [$__auto]))"


# What is one error: its type, or what stands for it; and where: in a process and its stage, at a route, in a function. A line's
# fields differ by what wrote it: the instrumentation, a logger of its own, or a handler of requests.
_KIND = (
    "{{if .error_type}}{{.error_type}}{{else if .exception_type}}{{.exception_type}}"
    "{{else if .http_response_status_code}}HTTP {{.http_response_status_code}}"
    "{{else if .event}}{{.event}}{{else}}{{or .logger .scope_name `untyped`}}{{end}}"
).replace("`", '"')
_PLACE = (
    "{{if .process_id}}{{.process_id}}{{if .process_stage}}, {{.process_stage}}{{end}}"
    "{{else if .http_route}}{{.http_route}}"
    "{{else if .code_function_name}}{{.code_function_name}}:{{.code_line_number}}"
    "{{else if .function}}{{.function}}:{{.line}}{{else}}{{or .logger .scope_name `unknown`}}{{end}}"
).replace("`", '"')


def error_lines(telemetry: str, *, boxes: bool = False) -> str:
    """LogQL: lines at level error or above, with the labels ``kind`` and ``place``; ``boxes``: those that the reader chose."""
    chosen = "".join(f" | {label} {_begins(label)}" for label in ("kind", "place")) if boxes else ""
    return f"{error_logs(telemetry)} | label_format kind=`{_KIND}`, place=`{_PLACE}`{chosen}"


def error_groups(telemetry: str, *, boxes: bool = False, span: str = "$__range") -> str:
    """LogQL: how many of each error, by type and place, over the range or in each step."""
    return f"sum by (service_name, kind, place) (count_over_time({error_lines(telemetry, boxes=boxes)} [{span}]))"


def error_seen(telemetry: str, *, last: bool = False) -> str:
    """LogQL: when each of them was first or last seen in the range, in Unix time."""
    lines = error_lines(telemetry, boxes=True)
    stamped = f"{lines} | label_format seen=`{{{{__timestamp__ | unixEpoch}}}}` | unwrap seen"
    return f"{'max' if last else 'min'}_over_time({stamped} [$__range]) by (service_name, kind, place)"


def error_is_new(telemetry: str) -> str:
    """LogQL: 1 where an error was first seen after the deployment that the variable ``deployed`` names, else 0."""
    return f"{error_seen(telemetry)} > bool ${{deployed}}"


# Later than anything: with no deployment in the range nothing is new since it.
NEVER = "9999999999"


def deployed(service: str) -> str:
    """PromQL: when the newest deployment in the range began, in Unix time; NEVER where there was none."""
    events = f"last_over_time({deploy.TIMESTAMP}{where(service=Like(service), environment=_CHOSEN)}[30d])"
    return f"(max(min by (service, deployment) ({events})) > ${{__from:date:seconds}}) or vector({NEVER})"


def failed_traces(telemetry: str) -> str:
    """TraceQL: traces in which a span of the service failed."""
    return f"{{ resource.service.name = {quote(telemetry)} && status = error && {_TRACED_THERE} }}"


def slow_traces(telemetry: str, longer: Duration) -> str:
    """TraceQL: traces in which a span of the service took longer."""
    milliseconds = plain(longer.seconds * 1000)
    return f"{{ resource.service.name = {quote(telemetry)} && duration > {milliseconds}ms && {_TRACED_THERE} }}"


def telemetry_name(service: ResolvedService) -> str:
    """The service.name under which a service logs and traces: its job's last part, or its own name."""
    match: Mapping[str, str] = service.match
    return (match.get("service_name") or match.get("job") or service.name).rpartition("/")[2] or service.name


# --- the stack itself ---------------------------------------------------------------------------------------------

# The servers, by the job that scrapes them.
SERVERS = ("prometheus", "alertmanager", "loki", "tempo", "collector", "blackbox", "grafana")
_SERVER = where(job=any_of(SERVERS))
_SIGNALS = ("log_records", "metric_points", "spans")
# The collector takes points once more from its own queue, from which what remote write fails to deliver is tried again.
_FROM_OUTSIDE = '{receiver!="otlp/queued"}'
# How often a rule group is evaluated late or not at all matters within this time.
RECENT = "15m"


def server_up() -> str:
    """1 while a server can be scraped, else 0, by job."""
    return f"min by (job) (up{_SERVER})"


def server_memory() -> str:
    """Bytes of memory that each server has in use."""
    # The collector names it otherwise.
    return f"max by (job) (process_resident_memory_bytes{_SERVER}) or max by (job) (otelcol_process_memory_rss_bytes{_SERVER})"


def server_memory_share() -> str:
    """Memory in use as a share of what the server is told to keep to; where it is told nothing, nothing.

    As Go counts it for GOMEMLIMIT: resident memory has mapped files too, which the kernel takes back.
    """
    told = f"(max by (job) (go_gc_gomemlimit_bytes{_SERVER}) < 1e15)"
    return f"max by (job) (go_memstats_sys_bytes{_SERVER} - go_memstats_heap_released_bytes{_SERVER}) / {told}"


def server_cpu() -> str:
    """Processors that each server keeps busy."""
    one, other = (f"max by (job) (rate({m}{_SERVER}[{RAW_RANGE}]))" for m in _CPU)
    return f"{one} or {other}"


_CPU = ("process_cpu_seconds_total", "otelcol_process_cpu_seconds_total")


def server_started() -> str:
    """When each server started, in milliseconds."""
    uptime = f"max by (job) (time() - otelcol_process_uptime_seconds_total{_SERVER})"
    return f"(max by (job) (process_start_time_seconds{_SERVER}) or {uptime}) * 1000"


def taken_in(signal: str) -> str:
    """What arrives per second: ``samples``, ``log_bytes``, ``span_bytes``, or a signal of the collector."""
    metric = {
        "samples": "prometheus_tsdb_head_samples_appended_total",
        "log_bytes": "loki_distributor_bytes_received_total",
        "span_bytes": "tempo_distributor_bytes_received_total",
    }.get(signal, f"otelcol_receiver_accepted_{signal}_total{_FROM_OUTSIDE}")
    return f"sum(rate({metric}[{RAW_RANGE}]))"


def queue_share() -> str:
    """How full the collector's queues are, by exporter."""
    return "max by (exporter) (otelcol_exporter_queue_size) / max by (exporter) (otelcol_exporter_queue_capacity)"


# What is lost, by who loses it. Most of these counters appear only once something is.
LOSSES: Mapping[str, tuple[str, ...]] = {
    "Services drop telemetry": ("telemetry_dropped_total",),
    "Collector: its queue is full": tuple(f"otelcol_exporter_enqueue_failed_{s}_total" for s in _SIGNALS),
    "Collector refuses, for memory": tuple(f"otelcol_receiver_refused_{s}_total{_FROM_OUTSIDE}" for s in _SIGNALS),
    "Collector: a server refuses for good": tuple(
        f'otelcol_exporter_send_failed_{s}_total{{exporter!="prometheus_remote_write"}}' for s in _SIGNALS
    ),
    "Loki discards lines": ("loki_discarded_samples_total",),
    "Tempo discards spans": ("tempo_discarded_spans_total",),
    "Prometheus discards samples": (
        "prometheus_target_scrapes_exceeded_sample_limit_total",
        "prometheus_target_scrapes_sample_duplicate_timestamp_total",
        "prometheus_target_scrapes_sample_out_of_bounds_total",
        "prometheus_tsdb_too_old_samples_total",
    ),
    "Prometheus drops alerts": ("prometheus_notifications_dropped_total",),
    "Notifications fail": ("alertmanager_notifications_failed_total",),
}


def lost(what: str) -> str:
    """What is lost per second; 0 where nothing is."""
    return " + ".join(f"(sum(rate({metric}[{RAW_RANGE}])) or vector(0))" for metric in LOSSES[what])


def lost_recently() -> str:
    """How much was lost in the last quarter of an hour."""
    metrics = [metric for group in LOSSES.values() for metric in group]
    return " + ".join(f"(sum(increase({metric}[{RECENT}])) or vector(0))" for metric in metrics)


def rule_time(number: int = 5) -> str:
    """The rule groups that took the largest part of their interval lately, as that part."""

    def share(took: str, when: str = "") -> str:
        return f"max by (rule_group) ({took}) / max by (rule_group) (prometheus_rule_group_interval_seconds{when})"

    metric = "prometheus_rule_group_last_duration_seconds"
    slowest = f"topk({number}, {share(f'max_over_time({metric}[1h] @ end())', ' @ end()')})"
    return f'label_replace({share(metric)} and on (rule_group) {slowest}, "group", "$1", "rule_group", ".*;(.+)")'


def rule_trouble() -> tuple[tuple[str, str], ...]:
    """Name and query of each way in which rules go wrong, per second."""
    return (
        ("Evaluations that fail", f"sum(rate(prometheus_rule_evaluation_failures_total[{RAW_RANGE}]))"),
        ("Evaluations that are late", f"sum(rate(prometheus_rule_group_iterations_missed_total[{RAW_RANGE}]))"),
        ("Loki's that fail", f"sum(rate(loki_prometheus_rule_evaluation_failures_total[{RAW_RANGE}]))"),
    )


def rules_failing() -> str:
    """How many evaluations of rules failed or were left out lately."""
    metrics = ("prometheus_rule_evaluation_failures_total", "prometheus_rule_group_iterations_missed_total")
    return " + ".join(f"(sum(increase({metric}[{RECENT}])) or vector(0))" for metric in metrics)


_DISK = "loki_ingester_wal_disk_usage_percent"  # a share from 0 to 1, whatever its name says
_REAL = where(fstype=Like("ext.*|xfs|btrfs|zfs|apfs"))


def disk_used() -> str:
    """The share of the disk that is used: of the one with Loki's data, and of each where node-exporter runs."""
    by_mount = f"(1 - node_filesystem_avail_bytes{_REAL} / node_filesystem_size_bytes{_REAL})"
    return f'max by (mountpoint) (label_replace({_DISK}, "mountpoint", "of the data", "", "") or {by_mount})'


def disk_lasts() -> str:
    """Seconds until the disk with Loki's data is full, at the pace of the last hour; nothing where it does not fill.

    Nothing either in the first half hour, when servers fill their first files: at that pace it would always be soon.
    """
    return f"min((1 - {_DISK}) / (deriv({_DISK}[1h]) > 1e-9) and {_DISK} offset 30m)"


def kept() -> tuple[tuple[str, str], ...]:
    """Name and query of how long each kind of telemetry is kept, in seconds; Loki says it in a label."""
    return (
        ("Metrics", "max(prometheus_tsdb_retention_limit_seconds)"),
        ("Traces", 'max(tempo_limits_defaults{limit_name="block_retention"}) / 1e9'),
    )


def logs_kept() -> str:
    """A series for each length of time that logs are kept, in its label ``retention_hours``."""
    return "count by (retention_hours) (loki_distributor_bytes_received_total)"


def logs_deleted() -> str:
    """When Loki last deleted what is too old, in milliseconds."""
    return "max(loki_compactor_apply_retention_last_successful_run_timestamp_seconds) * 1000"


def stored_bytes() -> tuple[tuple[str, str], ...]:
    """Name and query of what lies on disk, in bytes."""
    prometheus = ("storage_blocks_bytes", "wal_storage_size_bytes", "head_chunks_storage_size_bytes")
    return (
        ("Prometheus", " + ".join(f"max(prometheus_tsdb_{part})" for part in prometheus)),
        ("Tempo", "sum(tempodb_backend_bytes_total)"),
        ("Loki, stored since its start", "sum(loki_ingester_chunk_stored_bytes_total)"),
    )


def series_held() -> str:
    """Series that Prometheus holds in memory."""
    return "max(prometheus_tsdb_head_series)"


def notified(*, failed: bool = False) -> str:
    """Notifications per minute, by kind of receiver."""
    metric = "alertmanager_notifications_failed_total" if failed else "alertmanager_notifications_total"
    # Alertmanager counts every kind that it knows from 0.
    return f"sum by (integration) (rate({metric}[{RAW_RANGE}])) * 60 > 0"


# --- processes ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Runs:
    """The executions of one process of a service, as queries. Reads raw counters."""

    match: Mapping[str, str]
    process: str
    telemetry: str
    spans: bool = False

    def _labels(self, **more: str) -> str:
        match = {"service": self.telemetry} if self.spans else self.match
        return where(**{**_THERE, **match, "process_id": self.process, **more})

    def _counted(self, **more: str) -> str:
        if self.spans:
            # Stages carry the process's id too, but only the process's own span has a status.
            return "traces_spanmetrics_calls_total" + self._labels(**{"process_status": Like(".+"), **more})
        return "process_executions_total" + self._labels(**more)

    def rate(self, by: str = "", window: str = RAW_RANGE, **more: str) -> str:
        """Executions per second."""
        grouped = f" by ({by})" if by else ""
        return f"sum{grouped} (rate({self._counted(**more)}[{window}]))"

    def share(self, status: str, by: str = "", window: str = RAW_RANGE) -> str:
        """The share of executions with a status, 0 where there is none of it; ``failed`` is all but success."""
        wanted = {"process_status": Like("error|timeout") if status == "failed" else status}
        every = self.rate(by, window)
        return f"({self.rate(by, window, **wanted)} or 0 * {every}) / ({every} > 0)"

    def quantile(self, quantile: str, window: str = RAW_RANGE) -> str:
        """A percentile of the duration in seconds."""
        if self.spans:
            labels = self._labels(process_status=Like(".+"))
            return _known(f"histogram_quantile({quantile}, sum (rate(traces_spanmetrics_latency{labels}[{window}])))")
        buckets = f"rate(process_execution_duration_seconds_bucket{self._labels()}[{window}])"
        return _known(f"histogram_quantile({quantile}, sum by (le) ({buckets}))")

    def stage_time(self, stage: str = "") -> str:
        """Seconds that an execution spends in a stage, or in each."""
        labels = self._labels(process_stage=stage)
        spent = f"sum by (process_stage) (rate(process_stage_duration_seconds_sum{labels}[{RAW_RANGE}]))"
        return f"{spent} / on () group_left () (sum (rate(process_executions_total{self._labels()}[{RAW_RANGE}])) > 0)"

    def stage_quantile(self, quantile: str) -> str:
        """A percentile of the time in each stage in seconds."""
        buckets = f"rate(process_stage_duration_seconds_bucket{self._labels()}[{RAW_RANGE}])"
        return _known(f"histogram_quantile({quantile}, sum by (process_stage, le) ({buckets}))")

    def _ended(self, *, failed: bool) -> str:
        # An execution that fails says so at level error; more lines than those of its own are not read.
        streams, only = (f",{_QUIET}", ' | process_status!="success"') if failed else ("", "")
        ended = f'event="process.finished" | process_id={quote(self.process)}'
        return f"{where(service_name=self.telemetry, **_THERE)[:-1]}{streams}}} | {ended}{only}"

    def errors_by_type(self) -> str:
        """LogQL: executions that did not succeed, by the error's type, in each step."""
        return f"sum by (error_type) (count_over_time({self._ended(failed=True)} [$__auto]))"

    def errors_by_company(self, *, failed: bool = True) -> str:
        """LogQL: executions that did not succeed, or all, by company, over the range."""
        return f'sum by (company_id) (count_over_time({self._ended(failed=failed)} | company_id!="" [$__range]))'

    def failed_lines(self) -> str:
        """LogQL: the lines that executions end with which did not succeed."""
        return self._ended(failed=True)

    def error_lines(self) -> str:
        """LogQL: lines at level error or above that an execution wrote."""
        return f"{error_logs(self.telemetry)} | process_id={quote(self.process)}"

    def traces(self, condition: str) -> str:
        """TraceQL: executions that meet a condition on their span."""
        own = f"resource.service.name = {quote(self.telemetry)} && span.process.id = {quote(self.process)}"
        return f"{{ {own} && span.process.status != nil && {condition} && {_TRACED_THERE} }} | {_TOLD}"

    def failed(self) -> str:
        """TraceQL: the newest executions that did not succeed."""
        failed = self.traces('span.process.status != "success"')
        return f"{failed} {_NEWEST}"

    def slower(self, longer: Duration) -> str:
        """TraceQL: executions that took longer; any of them, for the newest would read every span."""
        return self.traces(f"duration > {plain(longer.seconds * 1000)}ms")


_TOLD = "select(span.company.id, span.process.id, span.process.status, span.error.type)"
# Without it a search returns any that match, not the newest; with it, every span of the range is read.
_NEWEST = "with (most_recent=true)"


def process_figures(service: ResolvedService) -> tuple[str, str, str]:
    """Executions per second, the share that fails and the 95th percentile of each of a service's processes.

    Over five minutes, with the label ``dashboard``: the uid of its page.
    """
    ids = any_of(process.id for process in service.processes)
    chosen = {**_THERE, **service.match, "process_id": ids}
    labels, bad = where(**chosen), where(**chosen, process_status=Like("error|timeout"))
    rate = f"sum by (process_id) (rate(process_executions_total{labels}[{RAW_RANGE}]))"
    failed = f"sum by (process_id) (rate(process_executions_total{bad}[{RAW_RANGE}]))"
    buckets = f"rate(process_execution_duration_seconds_bucket{labels}[{RAW_RANGE}])"
    made = (
        rate,
        f"({failed} or 0 * {rate}) / ({rate} > 0)",
        _known(f"histogram_quantile(0.95, sum by (process_id, le) ({buckets}))"),
    )

    def told(expr: str) -> str:
        for process in service.processes:
            uid = names.process_uid(service.name, process.id)
            expr = f'label_replace({expr}, "dashboard", "{uid}", "process_id", "{_literal(process.id)}")'
        return expr

    return told(made[0]), told(made[1]), told(made[2])


# --- incidents: the variables are Grafana's text boxes, and an empty one narrows nothing --------------------------


def _begins(box: str) -> str:
    # In backticks, because what :regex escapes is no escape between quotes.
    return f"=~ `${{{box}:regex}}.*`"


def incident_lines(condition: str = "", *, streams: str = "") -> str:
    """LogQL: the lines about what the reader looks for."""
    wanted = "".join(
        f" | {label} {_begins(box)}"
        for label, box in (("company_id", "company"), ("process_id", "process"), ("request_id", "request"))
    )
    return f"{where(service_name=Like('.+'), **_THERE)[:-1]}{streams}}}{wanted}{condition}"


# TraceQL that finds nothing, where a trace's id would stand: an empty query is an error to Tempo. As a regular expression it
# has an empty alternative, and so begins every name.
NO_TRACE = "{ false } || { false }"


def incident_story() -> str:
    """LogQL: those of the trace that was chosen. Before one is, no stream is read: every name is excluded."""
    # Tempo leaves out leading zeros of a trace's id.
    return '{service_name=~".+", service_name!~"(?:${trace:raw}).*"} | trace_id =~ `0*${trace:regex}.*`'


def incident_errors() -> str:
    """LogQL: those at level error or above, among them the last of each execution that failed."""
    return incident_lines(f' | detected_level=~"{_ERROR_LEVELS}"', streams=f", {_QUIET}")


# The line that an execution ends with.
ENDED = ("event", "process.finished")
_RAN = f' | {ENDED[0]}="{ENDED[1]}"'


def incident_runs() -> str:
    """LogQL: executions that ended in each step, by status."""
    return f"sum by (process_status) (count_over_time({incident_lines(_RAN)} [$__auto]))"


def incident_outcomes() -> str:
    """LogQL: executions over the range by status; those that did not succeed by company, process, stage and error too."""
    labels = ("company_id", "process_id", "process_stage", "error_type")
    # Of those that went well nobody asks, and they would be as many series as there are companies.
    failed = ", ".join(f'{label}=`{{{{if ne .process_status "success"}}}}{{{{.{label}}}}}{{{{end}}}}`' for label in labels)
    lines = incident_lines(f"{_RAN} | label_format {failed}")
    return f"sum by (process_status, {', '.join(labels)}) (count_over_time({lines} [$__range]))"


def incident_ended() -> str:
    """LogQL: the lines that executions end with."""
    return incident_lines(_RAN)


def incident_executions() -> str:
    """TraceQL: executions that failed, of what the reader looks for; any of them, for the newest would read every span."""
    wanted = "".join(
        f" && (span.{name} {_begins(box)} || `${{{box}}}` = ``)"
        for name, box in (("company.id", "company"), ("process.id", "process"), ("request.id", "request"))
    )
    return f'{{ span.process.status != "success"{wanted} && {_TRACED_THERE} }} | {_TOLD}'


def no_alert() -> str:
    """0 while no alert fires: a line that says so, where an empty picture could be a server that does not answer."""
    return 'vector(0) unless on () ALERTS{alertstate="firing",severity!="none"}'


def all_alerts() -> str:
    """How urgent each alert is while it fires: 3 critical, 2 warning, 1 any other. ``about``: its SLO, probe or name."""
    told = "alertname, service, slo, probe, severity"
    ranks = {"3 * ": 'severity="critical"', "2 * ": 'severity="warning"', "": 'severity!~"critical|warning|none"'}
    firing = (f'{rank}max by ({told}) (ALERTS{{alertstate="firing",{which}}})' for rank, which in ranks.items())
    expr = " or ".join(firing)
    for label in ("alertname", "probe", "slo"):
        expr = f'label_replace({expr}, "about", "$1", "{label}", "(.+)")'
    return expr


# --- deployments --------------------------------------------------------------------------------------------------


def deployments(range_: str = "30d") -> str:
    """When each deployment started, succeeded or failed, in milliseconds."""
    told = "service, version, commit, environment, status, deployment"
    return f"max by ({told}) (last_over_time({deploy.TIMESTAMP}{where(environment=_CHOSEN)}[{range_}])) * 1000"


def deployment_figure(name: str, range_: str = "30d") -> str:
    """One of the figures of deployments, by service."""
    narrowed = promql.with_matchers(deploy.figure(name, range_), {"environment": _CHOSEN})
    return narrowed.replace(f'environment="{_CHOSEN}"', f'environment=~"{_CHOSEN}"')


def deployment_marks() -> str:
    """LogQL: what was deployed."""
    # A deployment is a notice, and a failed one an error: streams apart from those of the services' usual lines.
    streams = f"{where(service_name=Like('.+'), **_THERE)[:-1]},severity_text!~`(?i)({names.USUAL_SEVERITIES})[1-4]?`}}"
    return f"{streams} | event=~`deployment[.].+`"


# --- the contract -------------------------------------------------------------------------------------------------


def kept_promise(slos: Iterable[ResolvedSlo]) -> str:
    """The share of good events over the range, of the SLOs that SLAs count."""
    return f"1 - {_counted_sla(slos, names.ERRORS_SLOW)} / ({_counted_sla(slos, names.TOTAL_SLOW)} > 0)"


def sla_events(slos: Iterable[ResolvedSlo], *, bad: bool) -> str:
    """Bad events, or all, over the range."""
    # Sums of five minutes hold rates of every half minute.
    return f"{_counted_sla(slos, names.ERRORS_SLOW if bad else names.TOTAL_SLOW)} * 30"


def _counted_sla(slos: Iterable[ResolvedSlo], metric: str) -> str:
    parts = []
    for slo in slos:
        if slo.sla is not None:
            summed = f"sum by (service) (sum_over_time({metric}{where(service=slo.service, slo=slo.sla.slo)}[$__range]))"
            parts.append(f'label_replace({summed}, "slo", "{slo.name}", "", "")')
    return f"({' or '.join(parts)})"


def sla_left() -> str:
    """The share of each contract's budget that is left in its own period, by SLO: that of its worst group."""
    return f"min by (service, slo) ({_slow(names.SLA_REMAINING, '')})"


def promised(slos: Iterable[ResolvedSlo]) -> str:
    """The share that was promised, with the period and the service's page as labels."""
    parts = []
    for slo in slos:
        if slo.sla is not None:
            labels = {
                "service": slo.service,
                "slo": slo.name,
                "title": slo.title,
                "period": slo.sla.period.removeprefix("calendar "),
                "dashboard": names.service_uid(slo.service),
            }
            expr = f"vector({plain(slo.sla.objective)})"
            for label, value in labels.items():
                expr = f'label_replace({expr}, "{label}", {quote(value)}, "", "")'
            parts.append(expr)
    return " or ".join(parts)


def contract_left(slos: Iterable[ResolvedSlo]) -> str:
    """The share of what the contract lets fail that is left over the range; below 0 it is broken."""
    wanted = list(slos)
    return f"1 - (1 - ({kept_promise(wanted)})) / on (service, slo) (1 - {_promise(wanted)})"


def _promise(slos: Iterable[ResolvedSlo]) -> str:
    return f"max by (service, slo) ({promised(slos)})"


# --- probes and alerts --------------------------------------------------------------------------------------------

_PROBES = where(job=names.PROBE_JOB)


def all_probes() -> str:
    """1 while a probe succeeds, else 0, by service and probe."""
    return f"min by (service, probe) (probe_success{_PROBES})"


def group_fails(slo: ResolvedSlo) -> str:
    """1 where more of an SLO's events fail in one of its groups than the objective allows, over five minutes, else 0."""
    allowed = f"on (service, slo) group_left () {budget(slo.service, slo.name)}"
    return f"{recent_ratio(slo.service, slo.name)} > bool {allowed}"


def probe_share() -> str:
    """The share of a probe's attempts in the last hour that succeeded."""
    return f"min by (service, probe) (avg_over_time(probe_success{_PROBES}[1h]))"


def probe_time() -> str:
    """Seconds that a probe took on average in the last hour."""
    return f"max by (service, probe) (avg_over_time(probe_duration_seconds{_PROBES}[1h]))"


def probe_certificate() -> str:
    """Seconds until the certificate that a probe saw runs out."""
    return f"min by (service, probe) (probe_ssl_earliest_cert_expiry{_PROBES}) - time()"


def probe_status() -> str:
    """The HTTP status that a probe got, 0 where it got none."""
    return f"max by (service, probe) (probe_http_status_code{_PROBES})"


def probe_phases(service: str) -> str:
    """Seconds of each phase of a service's HTTP probes, the slowest."""
    return f"max by (phase) (probe_http_duration_seconds{where(job=names.PROBE_JOB, service=service)})"


_FIRING = 'ALERTS{alertstate="firing",severity!="none"}'
_ALERT = "alertname, service, slo, probe, severity, owner"


def _firing_alerts(when: str = "") -> str:
    return f"max by ({_ALERT}) ({_FIRING}{when})"


def alert_count(range_: str = "7d", *, ended: str = "") -> str:
    """How often each alert began to fire, counted in steps of a minute; ``ended``: in the range before as long ago."""
    began = f"{_firing_alerts()} unless {_firing_alerts(' offset 1m')}"
    offset = f" offset {ended}" if ended else ""
    return f"count_over_time(({began})[{range_}:1m]{offset})"


def alert_time(range_: str = "7d") -> str:
    """Seconds for which each alert fired."""
    return f"count_over_time(({_firing_alerts()})[{range_}:1m]) * 60"


# An alert that is over sooner than anybody can have opened a laptop, read and done something.
BY_ITSELF = Duration.of("5m")


def alert_by_itself(range_: str = "7d") -> str:
    """How often each alert ended within five minutes of its beginning: nobody can have done anything about it."""
    over = f"({_firing_alerts(' offset 1m')} unless {_firing_alerts()})"
    return f"count_over_time(({over} unless {_firing_alerts(f' offset {Duration(BY_ITSELF.seconds + 60)}')})[{range_}:1m])"


def alerts_by_severity() -> str:
    """How many alerts fire at once, by severity."""
    return f"count by (severity) ({_FIRING})"


def total(expr: str) -> str:
    """The sum, 0 where there is nothing."""
    return f"sum({expr}) or vector(0)"


def by_itself_share(range_: str = "7d") -> str:
    """The share of all alerts that ended by themselves; nothing where none fired."""
    return f"({total(alert_by_itself(range_))}) / sum({alert_count(range_)})"


def time_to_resolve(range_: str = "7d") -> str:
    """Seconds that alerts fired on average."""
    return f"sum({alert_time(range_)}) / sum({alert_count(range_)})"
