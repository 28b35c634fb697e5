"""Sloth's files: ``version: prometheus/v1``, the Kubernetes resource PrometheusServiceLevel, its AlertWindows, and the
OpenSLO v1alpha that Sloth reads too. The fields are those of https://sloth.dev/specs/."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import NamedTuple

from generator import promql
from generator.importers import openslo, queries
from generator.importers.documents import Documents, Fault, Node
from generator.importers.fields import duration, query
from generator.importers.queries import Carried, NotCarried, Query
from generator.importers.writer import Condition, Draft, Policy, Service, Slo, standard, take_labels
from generator.units import Duration, plain

NAME = "Sloth"


class _Keys(NamedTuple):
    """The same fields are spelled in two ways."""

    page: str
    ticket: str
    errors: str
    total: str
    ratio: str
    plugins: str


_FILE = _Keys("page_alert", "ticket_alert", "error_query", "total_query", "error_ratio_query", "slo_plugins")
_KUBERNETES = _Keys("pageAlert", "ticketAlert", "errorQuery", "totalQuery", "errorRatioQuery", "sloPlugins")


@dataclass(frozen=True)
class _Windows:
    """The period of all SLOs and the conditions of their alerts, which Sloth takes from its command line."""

    period: Duration
    policy: Policy


@dataclass
class _Chain:
    """What a chain of SLO plugins comes to."""

    alerts: bool = True
    dialect: bool = True
    extra: dict[str, object] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    unknown: list[tuple[Node, str]] = field(default_factory=list)


def convert(documents: Documents, draft: Draft, period: Duration) -> None:
    """Gather what Sloth's documents say. ``period`` is that of SLOs where no AlertWindows tells another."""
    windows = _Windows(period, standard())
    others: list[Node] = []
    rest: list[Node] = []
    for root in documents.roots:
        try:
            kind = _kind(root)
            if kind == "AlertWindows":
                windows = _alert_windows(root.need("spec"))
            elif kind == "OpenSLO":
                others.append(root)
            elif kind:
                rest.append(root)
            else:
                what = root.find("kind")
                draft.lose(None, root.span, what.text() if what else "document", "it is no object of Sloth's")
        except Fault:
            continue
    for root in rest:
        try:
            if _kind(root) == "file":
                _group(root, _FILE, draft, windows)
            else:
                _group(root.need("spec"), _KUBERNETES, draft, windows)
        except Fault:
            continue
    openslo.objects(others, draft, documents)


def _kind(root: Node) -> str:
    version = root.find("apiVersion")
    if version is None:
        said = root.find("version")
        if said is None:
            if root.find("kind"):
                raise root.fault("missing-key", "this object needs 'apiVersion'")
            raise root.fault("missing-key", "this is not a file of Sloth's: it needs 'version'", "version: prometheus/v1")
        said.one_of("prometheus/v1")
        return "file"
    text = version.text()
    if text.startswith("openslo"):
        return "OpenSLO"
    if text.startswith("sloth.slok.dev/"):
        version.one_of("sloth.slok.dev/v1")
        return root.need("kind").one_of("PrometheusServiceLevel", "AlertWindows")
    return ""


def _alert_windows(spec: Node) -> _Windows:
    period = duration(spec.need("sloPeriod"))

    def conditions(tier: str) -> Iterator[Condition]:
        group = spec.need(tier)
        for speed in ("quick", "slow"):
            one = group.need(speed)
            budget = one.need("errorBudgetPercent").number() / 100
            yield Condition(duration(one.need("longWindow")), duration(one.need("shortWindow")), budget=budget)

    return _Windows(period, Policy("sloth", tuple(conditions("page")), tuple(conditions("ticket"))))


def _group(spec: Node, keys: _Keys, draft: Draft, windows: _Windows) -> None:
    name = spec.need("service")
    service = draft.service(name.text(), name.span)
    labels_node = spec.find("labels")
    labels = take_labels(service, labels_node.pairs()) if labels_node else {}
    chain = _chain(_Chain(), spec.find(keys.plugins))
    known = ("version", "service", "labels", "slos", keys.plugins)
    _tell_others(spec, draft, service.name, *known)
    slos = spec.need("slos")
    if not slos.items():
        raise slos.fault("empty-list", "at least one SLO is needed")
    for node in slos.items():
        try:
            _slo(node, keys, draft, service, labels, chain, windows)
        except Fault:
            continue


def _tell_others(node: Node, draft: Draft, about: str, *known: str) -> None:
    for other in node.others(*known):
        draft.change(other.key_span, about, f"{other.name!r} is no field of {NAME}'s; it is left out, as {NAME} does")


def _slo(
    node: Node, keys: _Keys, draft: Draft, service: Service, labels: Mapping[str, str], group: _Chain, windows: _Windows
) -> None:
    name = node.need("name").text()
    about = f"{service.name}/{name}"
    objective = node.need("objective")
    percent = objective.number()
    if not 0 < percent <= 100:
        raise objective.fault("out-of-range", f"an objective of Sloth's is above 0 and at most 100, not {plain(percent)}")
    _tell_others(node, draft, about, "name", "objective", "description", "plugins", "labels", "sli", "alerting")
    chain = _chain(group, node.find("plugins"))
    labels_node, description = node.find("labels"), node.find("description")
    slo = Slo(
        name=name,
        where=node.span,
        objective=percent / 100,
        window=windows.period,
        carried=Carried({}),
        policy=windows.policy,
        description=description.text() if description else None,
        labels={**labels, **(labels_node.pairs() if labels_node else {})},
        notes=list(chain.notes),
        changes=list(chain.changes),
    )
    _alerting(node.find("alerting"), keys, slo, draft, about)
    if not chain.alerts:
        slo.policy = Policy("none")
    elif chain.extra:
        slo.policy = replace(slo.policy, name=f"{slo.policy.name}-and-budget", extra=tuple(chain.extra.items()))
    try:
        slo.carried = _sli(node.need("sli"), keys, chain)
    except NotCarried as reason:
        draft.lose(service, slo.where, about, str(reason))
        return
    for what, plugin in {what: plugin for plugin, what in reversed(chain.unknown)}.items():
        draft.lose(service, plugin.span, about, f"the SLO plugin {what} changes Sloth's rules by code of its own")
    draft.add(service, slo)


def _sli(node: Node, keys: _Keys, chain: _Chain) -> Carried:
    kinds = [kind for kind in ("events", "raw", "plugin") if node.find(kind)]
    if len(kinds) != 1:
        if kinds:
            raise node.fault("one-of", f"an SLI of Sloth's is of one kind, not {' and '.join(kinds)}", on_key=True)
        raise node.fault("missing-key", "an SLI of Sloth's needs 'events', 'raw' or 'plugin'", on_key=True)
    kind = node.need(kinds[0])
    if kinds[0] == "events":
        errors, total = (query(kind.need(key), lenient=not chain.dialect) for key in (keys.errors, keys.total))
        return queries.from_events(errors, total, good=False)
    if kinds[0] == "raw":
        return queries.from_ratio(query(kind.need(keys.ratio), lenient=not chain.dialect))
    return _plugin(kind)


def _alerting(node: Node | None, keys: _Keys, slo: Slo, draft: Draft, about: str) -> None:
    """Which alerts there are, and what their labels and annotations mean here."""
    if node is None:
        return
    alerts = {"critical": node.find(keys.page), "warning": node.find(keys.ticket)}
    _tell_others(node, draft, about, "name", "labels", "annotations", keys.page, keys.ticket)
    on = {severity: not (alert and (off := alert.find("disable")) and off.flag()) for severity, alert in alerts.items()}
    if not all(on.values()):
        policy = slo.policy
        if policy == standard():
            slo.policy = standard(critical=on["critical"], warning=on["warning"])
        else:
            half = "page-only" if on["critical"] else "ticket-only" if on["warning"] else "none"
            slo.policy = replace(
                policy,
                name=f"{policy.name}-{half}",
                critical=policy.critical if on["critical"] else (),
                warning=policy.warning if on["warning"] else (),
            )
    if not any(on.values()):
        return
    name, labels, annotations = (node.find(key) for key in ("name", "labels", "annotations"))
    if name:
        words = [f"SLOBurnRate{severity.capitalize()}" for severity, is_on in on.items() if is_on]
        slo.notes.append(f"its alert was {name.text()}; now it is {' or '.join(words)}, with slo={slo.name!r}")
    slo.labels |= labels.pairs() if labels else {}
    told = dict(annotations.pairs()) if annotations else {}
    for severity, alert in alerts.items():
        if not alert or not on[severity]:
            continue
        _tell_others(alert, draft, about, "disable", "labels", "annotations")
        own = labels_of.pairs() if (labels_of := alert.find("labels")) else {}
        was = own.pop("severity", severity)
        if was != severity:
            slo.changes.append(f"the severity of its {_WORD[severity]} was {was!r}; here it is {severity!r}")
        if own:
            text = ", ".join(f"{key}={value}" for key, value in own.items())
            slo.changes.append(f"labels of its {_WORD[severity]}, for a route under routing: {text}")
        told = {**(((extra := alert.find("annotations")) and extra.pairs()) or {}), **told}
    if "severity" in slo.labels:
        slo.changes.append(f"the severity of its alerts was {slo.labels.pop('severity')!r}")
    _annotations(told, slo)


_WORD = {"critical": "page", "warning": "ticket"}


def _annotations(told: dict[str, str], slo: Slo) -> None:
    for key in ("runbook", "runbook_url", "runbookUrl", "runbook_link"):
        if told.get(key, "").startswith(("http://", "https://")) and "{{" not in told[key] and "url" not in slo.runbook:
            slo.runbook["url"] = told.pop(key)
    for key in ("summary", "message", "description"):
        if key in told and "{{" not in told[key] and "symptoms" not in slo.runbook:
            slo.runbook["symptoms"] = told.pop(key)
    for key, value in told.items():
        slo.notes.append(f"annotation {key}: {value}")


# SLO plugins: those of Sloth's own whose work is done here anyway, or can be said.


def _chain(before: _Chain, node: Node | None) -> _Chain:
    chain = _Chain(
        before.alerts, before.dialect, dict(before.extra), list(before.notes), list(before.changes), list(before.unknown)
    )
    if node is None:
        return chain
    override = node.find("overridePrevious")
    overrides = bool(override and override.flag())
    if overrides:
        chain = _Chain(alerts=False)
    listed = node.find("chain")
    for plugin in listed.items() if listed else []:
        name = plugin.need("id").text()
        family, _, rest = name.removeprefix("sloth.dev/").partition("/")
        if not name.startswith("sloth.dev/") or family not in ("core", "contrib"):
            chain.unknown.append((plugin, name))
            continue
        _known_plugin(chain, plugin, rest.partition("/")[0], name)
    if overrides and not chain.alerts:
        chain.changes.append("its chain of plugins makes no alert rules, so it has no burn-rate alerts")
    return chain


def _known_plugin(chain: _Chain, plugin: Node, kind: str, name: str) -> None:
    config = plugin.find("config")
    if kind == "alert_rules":
        chain.alerts = True
    elif kind in ("debug", "noop", "validate", "sli_rules", "metadata_rules", "remove_labels"):
        pass  # done here anyway, or without effect on what is measured
    elif kind == "validate_victoria_metrics":
        chain.dialect = False
        chain.notes.append("its queries were checked as MetricsQL; here they are PromQL")
    elif kind == "info_labels":
        labels = config.find("labels") if config else None
        if labels:
            text = ", ".join(f"{key}={value}" for key, value in labels.pairs().items())
            chain.changes.append(f"labels of its info series that have no place here: {text}")
    elif kind == "rule_intervals":
        chain.changes.append("its rules had an interval of their own; here they run every 30s, slow ones every 5m")
    elif kind == "denominator_corrected_rules":
        chain.changes.append(
            "the plugin that corrects for little traffic is not needed: windows are weighted by traffic here; "
            "minimum_events spares quiet hours"
        )
    elif kind == "error_budget_exhausted_alert":
        threshold, labels = (config.find(key) if config else None for key in ("threshold", "alert_labels"))
        severity = (labels.pairs() if labels else {}).get("severity", "warning")
        if severity not in ("critical", "warning", "info"):
            chain.changes.append(f"the severity of its budget alert was {severity!r}; here it is 'warning'")
            severity = "warning"
        share = threshold.number() if threshold else Decimal(0)
        if share <= 0:
            chain.extra["exhausted"] = severity
        else:
            chain.extra["freeze"] = {"below": f"{plain(share * 100)}%", "severity": severity}
    else:
        chain.unknown.append((plugin, name))


# SLI plugins of https://github.com/slok/sloth-common-sli-plugins: each is a query over well-known metrics.


@dataclass(frozen=True)
class _Common:
    """One plugin: the matchers that its options make, and bad events by matchers, or fast ones by a histogram."""

    metric: str
    bad: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    always: str = ""
    histogram: bool = False
    bad_metric: str = ""
    failed: str = 'code!~"5.."'


_TRAEFIK_1 = {"backend_regex": "backend=~"}
_TRAEFIK_2 = {"service_name_regex": "service=~"}
_ISTIO = {"service": "destination_service_name=", "namespace": "destination_service_namespace="}
_KOOPER = {"controller": "controller="}
_COMMON: Mapping[str, _Common] = {
    "prometheus/rules/eval-availability": _Common(
        "prometheus_rule_evaluations_total", bad_metric="prometheus_rule_evaluation_failures_total"
    ),
    "slok-go-http-metrics/availability": _Common("http_request_duration_seconds_count", 'code=~"5..|429"'),
    "slok-go-http-metrics/latency": _Common("http_request_duration_seconds", histogram=True),
    "traefik/v1/availability": _Common("traefik_backend_requests_total", 'code=~"5..|429"', _TRAEFIK_1),
    "traefik/v1/latency": _Common("traefik_backend_request_duration_seconds", "", _TRAEFIK_1, histogram=True),
    "traefik/v2/availability": _Common("traefik_service_requests_total", 'code=~"5.."', _TRAEFIK_2),
    "traefik/v2/latency": _Common("traefik_service_request_duration_seconds", "", _TRAEFIK_2, histogram=True),
    "haproxy/frontend/availability": _Common("haproxy_frontend_http_responses_total", 'code="5xx"'),
    "kubernetes/nginx-ingress/availability": _Common("nginx_ingress_controller_requests", 'status=~"5..|429"'),
    "kubernetes/apiserver/availability": _Common("apiserver_request_total", 'code=~"5..|429"'),
    "kubernetes/apiserver/latency": _Common("apiserver_request_duration_seconds", always='verb!="WATCH"', histogram=True),
    "kubernetes/kooper/latency": _Common("kooper_controller_processed_event_duration_seconds", "", _KOOPER, histogram=True),
    "kubernetes/kooper/queue-congestion": _Common(
        "kooper_controller_event_in_queue_duration_seconds", "", _KOOPER, histogram=True
    ),
    "istio/v1/availability": _Common("istio_requests_total", 'response_code=~"5..|429"', _ISTIO),
    "istio/v1/latency": _Common("istio_request_duration_milliseconds", "", _ISTIO, histogram=True),
    "coredns/availability": _Common("coredns_dns_responses_total", 'rcode="SERVFAIL"'),
    "coredns/latency": _Common("coredns_dns_request_duration_seconds", histogram=True),
}


def _plugin(node: Node) -> Carried:
    name = node.need("id").text()
    options_node = node.find("options")
    options = options_node.pairs() if options_node else {}
    short = name.removeprefix("sloth-common/")
    written = options.get("filter", "").strip("{}, ")
    if name.startswith("sloth-common/") and short == "prometheus/targets/availability":
        return _parsed_plugin(lambda: queries.from_gauge(f"up{{{written}}}", ()), name)
    if name.startswith("sloth-common/") and short == "kubernetes/kooper/availability":
        return _parsed_plugin(lambda: _kooper(written, options), name)
    common = _COMMON.get(short) if name.startswith("sloth-common/") else None
    if common is None:
        raise NotCarried(f"the SLI plugin {name} is code: take the query that Sloth makes of it, and import that as raw")
    matchers = [written] if written else []
    for option, matcher in common.options.items():
        if not options.get(option):
            raise NotCarried(f"the SLI plugin {name} needs the option {option}")
        matchers.append(f"{matcher}{promql.quote(options[option])}")
    if common.always:
        matchers.append(common.always)
    if options.get("exclude_errors", "").lower() in ("true", "1", "t"):
        matchers.append(common.failed)

    def rate(metric: str, *more: str) -> Query:
        return queries.parse(f"sum(rate({metric}{{{','.join([*matchers, *(m for m in more if m)])}}}[{{{{window}}}}]))")

    def carried() -> Carried:
        if common.histogram:
            fast = rate(f"{common.metric}_bucket", f"le={promql.quote(options.get('bucket', ''))}")
            return queries.from_events(fast, rate(f"{common.metric}_count"), good=True)
        bad = common.bad
        if short == "coredns/availability" and options.get("custom_rcode_regex"):
            bad = f"rcode=~{promql.quote(options['custom_rcode_regex'])}"
        return queries.from_events(rate(common.bad_metric or common.metric, bad), rate(common.metric), good=False)

    return _parsed_plugin(carried, name)


def _kooper(written: str, options: Mapping[str, str]) -> Carried:
    """Failed events of a Kubernetes controller, over all that were not queued again."""
    own = [*([written] if written else []), f"controller={promql.quote(options.get('controller', ''))}"]

    def rate(metric: str, matcher: str = "") -> str:
        return f"sum(rate({metric}{{{','.join([*own, *([matcher] if matcher else [])])}}}[{{{{window}}}}]))"

    processed = "kooper_controller_processed_event_duration_seconds_count"
    again = rate("kooper_controller_queued_events_total", 'requeue="true"')
    total = f"{rate(processed)} - ({again} or 0 * {rate(processed)})"
    return queries.from_events(queries.parse(rate(processed, 'success="false"')), queries.parse(total), good=False)


def _parsed_plugin(make: Callable[[], Carried], name: str) -> Carried:
    try:
        return make()
    except promql.PromqlError as error:
        raise NotCarried(f"the options of the SLI plugin {name} do not make a query: {error.message}") from None
