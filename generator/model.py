"""The Spec resolved: defaults filled in, references checked, burn rates computed. What renderers read.

User errors end here. A Model is consistent: every name in it exists, every alert in it can fire.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType

from generator import promql, receivers, sli
from generator import source as source_module
from generator import spec as spec_module
from generator.diagnostics import Diagnostic, Note, did_you_mean, ordered
from generator.names import ALERT_NO_DATA, ALERT_PROBE, RESERVED_ALERTS, RESERVED_LABELS, burn_alert
from generator.receivers import Receiver
from generator.sli import Context, Ratio, Sli
from generator.source import Path_, Source
from generator.spec import Alert, Policy, Probe, Runbook, Scrape, Spec, Window
from generator.units import Duration, Threshold, percent, plain

MINUTE, HOUR, DAY = Duration(Decimal(60)), Duration(Decimal(3600)), Duration(Decimal(86400))
SHORTEST_WINDOW, LONGEST_WINDOW = DAY, DAY * 90


def _window(long: str, short: str, budget: str) -> Window:
    return Window.model_validate({"long": long, "short": short, "budget": budget})


# Google's SRE Workbook, chapter 5, table 5-8: https://sre.google/workbook/alerting-on-slos/
BUILT_IN_POLICIES: Mapping[str, Policy] = MappingProxyType(
    {
        "standard": Policy(
            critical=[_window("1h", "5m", "2%"), _window("6h", "30m", "5%")],
            warning=[_window("1d", "2h", "10%"), _window("3d", "6h", "10%")],
        ),
        "none": Policy(critical=[], warning=[]),
    }
)


@dataclass(frozen=True)
class BurnWindow:
    """A condition of a burn-rate alert: error ratio above ``factor`` × budget over both windows."""

    long: Duration
    short: Duration
    budget: Decimal
    factor: Decimal


@dataclass(frozen=True)
class ResolvedSlo:
    """An SLO with everything that it inherits."""

    service: str
    name: str
    title: str
    description: str | None
    objective: Decimal
    window: Duration
    sli: Sli
    by: tuple[str, ...]
    owner: str
    tier: str
    policy: str
    burn: Mapping[str, tuple[BurnWindow, ...]]
    minimum_events: int
    runbook: Runbook | None
    context: Context

    @property
    def budget(self) -> Decimal:
        """The share of events that may be bad."""
        return 1 - self.objective

    @property
    def windows(self) -> tuple[Duration, ...]:
        """Every window that its alerts read, shortest first."""
        return tuple(sorted({w for tier in self.burn.values() for b in tier for w in (b.long, b.short)}))


@dataclass(frozen=True)
class ResolvedProbe:
    """A probe of a service."""

    service: str
    name: str
    url: str
    interval: Duration
    timeout: Duration
    slower_than: Duration | None
    status: tuple[int, ...]
    failures: int
    severity: str | None
    owner: str
    runbook: Runbook | None


@dataclass(frozen=True)
class ResolvedAlert:
    """A threshold alert of a service. ``expr`` has the service's matchers added."""

    service: str
    name: str
    expr: str
    above: Threshold | None
    below: Threshold | None
    hold: Duration
    severity: str
    owner: str
    summary: str
    runbook: Runbook | None


@dataclass(frozen=True)
class ResolvedService:
    """A service with everything that it inherits."""

    name: str
    title: str
    description: str | None
    owner: str
    tier: str
    match: Mapping[str, str]
    interval: Duration
    depends_on: tuple[str, ...]
    scrape: Scrape | None
    probes: tuple[ResolvedProbe, ...]
    slos: tuple[ResolvedSlo, ...]
    alerts: tuple[ResolvedAlert, ...]
    runbook: Runbook | None


@dataclass(frozen=True)
class ResolvedRoute:
    """A route: conditions by label, any of the values of each, and the receivers that get what matches all."""

    match: Mapping[str, tuple[str, ...]]
    to: tuple[str, ...]


@dataclass(frozen=True)
class ResolvedRouting:
    """Receivers by name, and the routes in the order in which they are tried."""

    receivers: Mapping[str, tuple[Receiver, ...]]
    default: tuple[str, ...]
    watchdog: tuple[str, ...]
    routes: tuple[ResolvedRoute, ...]
    group_by: tuple[str, ...]
    wait: Duration
    interval: Duration
    repeat: Duration

    def secrets(self) -> list[str]:
        """The names of all files under ``secrets/`` that receivers read, sorted."""
        return sorted({s.file for parts in self.receivers.values() for part in parts for s in part.secrets()})

    def reached(self, labels: Mapping[str, str]) -> tuple[str, ...]:
        """The receivers that an alert with these labels is sent to."""
        for route in self.routes:
            if all(labels.get(name) in values for name, values in route.match.items()):
                return route.to
        return self.default


@dataclass(frozen=True)
class Model:
    """Everything that the file says, resolved. Services, SLOs and alerts are in the file's order."""

    organization: str
    grafana: str
    labels: Mapping[str, str]
    services: tuple[ResolvedService, ...]
    routing: ResolvedRouting

    @property
    def slos(self) -> Iterator[ResolvedSlo]:
        """Every SLO of every service."""
        return (slo for service in self.services for slo in service.slos)


@dataclass(frozen=True)
class Result:
    """What came of reading a file: its Model where there is no error, and every diagnostic, sorted."""

    model: Model | None
    diagnostics: list[Diagnostic] = field(default_factory=list)
    texts: Mapping[str, str] = field(default_factory=dict)

    @property
    def errors(self) -> list[Diagnostic]:
        """The diagnostics that keep the file from being used."""
        return [d for d in self.diagnostics if d.severity == "error"]


def load(files: Sequence[Path], display: Sequence[str] | None = None) -> Result:
    """Read, check and resolve ``files``. Never raises on bad content."""
    return resolve(source_module.load(files, display))


def resolve(source: Source) -> Result:
    """Check and resolve data that was read."""
    diagnostics = list(source.diagnostics)
    if not source.data:
        return Result(None, ordered(diagnostics), source.texts)
    spec, faults = spec_module.parse(source)
    diagnostics += faults
    diagnostics += _references(source)
    model = None
    if spec is not None:
        checker = _Resolver(spec, source, whole=not diagnostics)
        model = checker.model()
        diagnostics += checker.diagnostics
    result = ordered(diagnostics)
    failed = model is None or any(d.severity == "error" for d in result)
    return Result(None if failed else model, result, source.texts)


_ANY = None
_Pattern = tuple[str | None, ...]

# Where a name is used; where it must be defined ("$n" is the n-th part of the first path); code; what it is.
_REFERENCES: tuple[tuple[_Pattern, tuple[str, ...], str, str], ...] = (
    (("routing", "default"), ("routing", "receivers"), "unknown-receiver", "receiver"),
    (("routing", "watchdog"), ("routing", "receivers"), "unknown-receiver", "receiver"),
    (("routing", "routes", _ANY, "to"), ("routing", "receivers"), "unknown-receiver", "receiver"),
    (("routing", "routes", _ANY, "service"), ("services",), "unknown-service", "service"),
    (("services", _ANY, "depends_on"), ("services",), "unknown-service", "service"),
    (("services", _ANY, "slos", _ANY, "sli", "probe"), ("services", "$1", "probes"), "unknown-probe", "probe"),
    (("services", _ANY, "slos", _ANY, "sli", "probe", "name"), ("services", "$1", "probes"), "unknown-probe", "probe"),
    (("services", _ANY, "slos", _ANY, "alerting"), ("alerting",), "unknown-policy", "burn-rate policy"),
    (("defaults", "alerting"), ("alerting",), "unknown-policy", "burn-rate policy"),
)


def _at(data: object, path: Sequence[str | int]) -> object:
    for part in path:
        if isinstance(data, dict):
            data = data.get(str(part))
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            return None
    return data


def _uses(data: object, pattern: _Pattern, path: Path_ = ()) -> Iterator[tuple[Path_, str]]:
    """Every text at a place that a pattern names, one or a list of them."""
    if len(path) == len(pattern):
        if isinstance(data, str):
            yield path, data
        elif isinstance(data, list):
            yield from (((*path, i), item) for i, item in enumerate(data) if isinstance(item, str))
        return
    part = pattern[len(path)]
    if isinstance(data, dict):
        keys = [k for k in data if part is _ANY or k == part]
        for key in keys:
            yield from _uses(data[key], pattern, (*path, key))
    elif isinstance(data, list) and part is _ANY:
        for index, item in enumerate(data):
            yield from _uses(item, pattern, (*path, index))


def _references(source: Source) -> list[Diagnostic]:
    """Names that nothing defines. Works on the data as written, so that a fault elsewhere hides none of them."""
    found = []
    for pattern, home, code, what in _REFERENCES:
        for path, name in _uses(source.data, pattern):
            where = [str(path[int(part[1:])]) if part.startswith("$") else part for part in home]
            defined = _at(source.data, where)
            names = set(defined) if isinstance(defined, dict) else set()
            if code == "unknown-policy":
                names |= set(BUILT_IN_POLICIES)
            if name not in names:
                hint = did_you_mean(name, names, f"{what.replace('policy', 'policie')}s")
                found.append(Diagnostic(code, f"there is no {what} {name!r}", source.value_span(path), hint=hint))
    return found


class _Resolver:
    """Makes the Model, collecting what is wrong on the way. ``whole`` tells that nothing of the file was left out."""

    def __init__(self, spec: Spec, source: Source, *, whole: bool) -> None:
        self.spec = spec
        self.source = source
        self.whole = whole
        self.diagnostics: list[Diagnostic] = []
        self.policies = {**BUILT_IN_POLICIES, **spec.alerting}

    def say(
        self,
        code: str,
        message: str,
        path: Path_,
        hint: str | None = None,
        *,
        on_key: bool = False,
        warning: bool = False,
        note: Note | None = None,
    ) -> None:
        span = self.source.key_span(path) if on_key else self.source.value_span(path)
        self.diagnostics.append(
            Diagnostic(code, message, span, severity="warning" if warning else "error", hint=hint, note=note)
        )

    def model(self) -> Model:
        spec = self.spec
        self.check_policies()
        self.check_cycles()
        if not spec.services:
            self.say("no-services", "the file watches nothing", ("services",), "add a service under services:")
        services = tuple(self.service(name) for name in spec.services)
        routing = self.routing()
        model = Model(
            organization=spec.organization,
            grafana=spec.links.grafana.rstrip("/"),
            labels=spec.defaults.labels,
            services=services,
            routing=routing,
        )
        for label in spec.defaults.labels:
            if label in RESERVED_LABELS:
                self.say(
                    "reserved-label",
                    f"the label {label} is set by the generator",
                    ("defaults", "labels", label),
                    on_key=True,
                )
        if self.whole and not any(d.severity == "error" for d in self.diagnostics):
            self.check_routes(model)
        return model

    def check_policies(self) -> None:
        for name, policy in self.spec.alerting.items():
            at: Path_ = ("alerting", name)
            if name in BUILT_IN_POLICIES:
                self.say("reserved-name", f"the policy {name!r} is built in", at, "give yours another name", on_key=True)
            for severity in ("critical", "warning"):
                for index, window in enumerate(getattr(policy, severity)):
                    here = (*at, severity, index)
                    if window.short >= window.long:
                        self.say(
                            "bad-window",
                            f"the short window {window.short} is not shorter than {window.long}",
                            (*here, "short"),
                        )
                    if window.short < MINUTE * 2 or window.long > LONGEST_WINDOW:
                        self.say("bad-window", f"windows go from 2m to {LONGEST_WINDOW}", here)
                    if window.budget <= 0:
                        self.say("bad-percent", "a share of 0% is always spent", (*here, "budget"))

    def check_cycles(self) -> None:
        graph = {name: service.depends_on for name, service in self.spec.services.items()}
        done: set[str] = set()
        for start in graph:
            trail: list[str] = []
            stack = [(start, 0)]
            while stack:
                node, depth = stack.pop()
                trail = trail[:depth]
                if node in trail:
                    loop = [*trail[trail.index(node) :], node]
                    self.say(
                        "dependency-cycle",
                        f"these services depend on each other: {' → '.join(loop)}",
                        ("services", loop[-2], "depends_on"),
                        "leave out the dependency that is the weaker one",
                    )
                    return
                if node in done:
                    continue
                trail.append(node)
                children = [child for child in graph.get(node, ()) if child in graph]
                if not children:
                    done.add(node)
                stack += [(child, depth + 1) for child in children]
            done.add(start)

    def service(self, name: str) -> ResolvedService:
        spec, defaults = self.spec.services[name], self.spec.defaults
        at: Path_ = ("services", name)
        owner = spec.owner or defaults.owner
        tier = spec.tier or defaults.tier
        match = {"job": name} if spec.match is None else spec.match
        interval = (spec.scrape.interval if spec.scrape else None) or defaults.interval
        if spec.scrape is not None:
            self.check_scrape(spec.scrape, (*at, "scrape"))
        probes = tuple(self.probe(name, p, probe, owner, (*at, "probes", p)) for p, probe in spec.probes.items())
        context = {
            "service": name,
            "match": match,
            "range": Duration(max(interval.seconds * 4, Decimal(60))),
            "probes": {p: (probe.interval, probe.slower_than) for p, probe in spec.probes.items()},
        }
        slos = tuple(self.slo(name, s, owner, tier, context, (*at, "slos", s)) for s in spec.slos)
        alerts = tuple(self.alert(name, a, alert, owner, match, (*at, "alerts", a)) for a, alert in spec.alerts.items())
        if not (slos or alerts or probes or spec.scrape) and self.whole:
            self.say(
                "empty-service",
                f"nothing is watched of {name}",
                at,
                "give it slos:, alerts: or probes:",
                on_key=True,
                warning=True,
            )
        return ResolvedService(
            name=name,
            title=spec.title or name,
            description=spec.description,
            owner=owner,
            tier=tier,
            match=match,
            interval=interval,
            depends_on=tuple(spec.depends_on),
            scrape=spec.scrape,
            probes=probes,
            slos=slos,
            alerts=alerts,
            runbook=spec.runbook,
        )

    def check_scrape(self, scrape: Scrape, at: Path_) -> None:
        for index, target in enumerate(scrape.targets):
            if "://" in target or "/" in target or ":" not in target:
                self.say(
                    "bad-target",
                    f"{target!r} is not host:port",
                    (*at, "targets", index),
                    "the scheme and the path have keys of their own",
                )
        if scrape.interval is not None and not 1 <= scrape.interval.seconds <= 120:
            # Beyond two minutes a lost scrape makes series stale between two others.
            self.say("bad-interval", f"an interval of {scrape.interval} is not from 1s to 2m", (*at, "interval"))

    def probe(self, service: str, name: str, probe: Probe, owner: str, at: Path_) -> ResolvedProbe:
        if probe.timeout > probe.interval:
            self.say(
                "bad-timeout",
                f"the timeout {probe.timeout} is longer than the interval {probe.interval}",
                (*at, "timeout"),
            )
        if not 1 <= probe.interval.seconds <= 3600:
            self.say("bad-interval", f"an interval of {probe.interval} is not from 1s to 1h", (*at, "interval"))
        if probe.slower_than is not None and probe.slower_than > probe.timeout:
            self.say(
                "unreachable-threshold",
                f"an answer slower than {probe.slower_than} is never seen: the timeout is {probe.timeout}",
                (*at, "slower_than"),
                f"set timeout: {probe.slower_than * 2} or a lower slower_than",
            )
        return ResolvedProbe(
            service=service,
            name=name,
            url=probe.url,
            interval=probe.interval,
            timeout=probe.timeout,
            slower_than=probe.slower_than,
            status=tuple(probe.status),
            failures=probe.failures,
            severity=probe.severity,
            owner=owner,
            runbook=probe.runbook,
        )

    def slo(self, service: str, name: str, owner: str, tier: str, context: dict[str, object], at: Path_) -> ResolvedSlo:
        spec, defaults = self.spec.services[service].slos[name], self.spec.defaults
        window = spec.window or defaults.window
        indicator: Sli = next(s for kind in sli.KINDS if (s := getattr(spec.sli, kind)) is not None)
        if not 0 < spec.objective < 1:
            self.say(
                "impossible-objective",
                f"an objective of {percent(spec.objective)} leaves no budget"
                if spec.objective
                else "an objective of 0% promises nothing",
                (*at, "objective"),
                "choose one between, such as 99.9%",
            )
        if not SHORTEST_WINDOW <= window <= LONGEST_WINDOW:
            path: Path_ = (*at, "window") if spec.window else ("defaults", "window")
            self.say("bad-window", f"{window} is not from {SHORTEST_WINDOW} to {LONGEST_WINDOW}", path)
        for index, label in enumerate(spec.by):
            if label in RESERVED_LABELS:
                self.say("reserved-label", f"the label {label} means something on every SLO already", (*at, "by", index))
        if isinstance(indicator, Ratio) and indicator.total_ in (indicator.errors_, indicator.good):
            which = "errors" if indicator.errors_ else "good"
            self.say(
                "same-metric",
                f"{which} and total are the same metric, so that every event is {'bad' if indicator.errors_ else 'good'}",
                (*at, "sli", "ratio", which),
                f'narrow {which} by a label, such as {{code=~"5.."}}',
            )
        policy = spec.alerting or defaults.alerting
        burn = self.burn(spec.objective, window, policy, at)
        minimum = defaults.minimum_events if spec.minimum_events is None else spec.minimum_events
        return ResolvedSlo(
            service=service,
            name=name,
            title=spec.title or name,
            description=spec.description,
            objective=spec.objective,
            window=window,
            sli=indicator,
            by=tuple(spec.by),
            owner=spec.owner or owner,
            tier=spec.tier or tier,
            policy=policy,
            burn=burn,
            minimum_events=minimum if indicator.weighted_by_traffic else 0,
            runbook=spec.runbook,
            context=Context(by=tuple(spec.by), **context),  # type: ignore[arg-type]
        )

    def burn(self, objective: Decimal, window: Duration, name: str, at: Path_) -> dict[str, tuple[BurnWindow, ...]]:
        """The conditions of a policy for an objective. Raises a diagnostic for one that cannot hold.

        A burn rate of ``factor`` spends the share ``budget`` of the whole budget within the long window:
        factor = budget × window / long.
        """
        policy = self.policies.get(name)
        burn: dict[str, tuple[BurnWindow, ...]] = {}
        if policy is None or not 0 < objective < 1:
            return burn
        for severity in ("critical", "warning"):
            conditions = []
            for w in getattr(policy, severity):
                factor = w.budget * window.seconds / w.long.seconds
                if w.long > window or factor < 1:
                    # Below 1 the budget would outlast the SLO's window: nothing to wake anybody for.
                    continue
                if factor * (1 - objective) >= 1:
                    allowed = 1 - 1 / factor
                    self.say(
                        "impossible-alert",
                        f"the {severity} alert over {w.long} cannot fire: it needs an error ratio above "
                        f"{percent((factor * (1 - objective)).normalize())}",
                        (*at, "objective"),
                        f"an objective above {plain((allowed * 100).quantize(Decimal('0.01')))}% allows it; or set alerting: "
                        "to a policy with a smaller budget share over this window",
                    )
                conditions.append(BurnWindow(w.long, w.short, w.budget, factor))
            if conditions:
                burn[severity] = tuple(conditions)
        return burn

    def alert(self, service: str, name: str, alert: Alert, owner: str, match: Mapping[str, str], at: Path_) -> ResolvedAlert:
        if name in RESERVED_ALERTS:
            self.say(
                "reserved-name",
                f"{name} is an alert of the generator's own",
                at,
                "give yours another name",
                on_key=True,
            )
        limit = alert.above or alert.below
        side = "above" if alert.above else "below"
        summary = alert.summary or (f"{alert.expr} is {side} {limit.text}" if limit else f"{alert.expr} holds")
        return ResolvedAlert(
            service=service,
            name=name,
            expr=promql.with_matchers(alert.expr, match),
            above=alert.above,
            below=alert.below,
            hold=alert.for_,
            severity=alert.severity,
            owner=alert.owner or owner,
            summary=summary,
            runbook=alert.runbook,
        )

    def routing(self) -> ResolvedRouting:
        spec = self.spec.routing
        by_name = {
            name: tuple(part for kind in receivers.KINDS if (part := getattr(value, kind)) is not None)
            for name, value in spec.receivers.items()
        }
        routes = []
        for route in spec.routes:
            match = {
                label: tuple(values) for label in ("severity", "owner", "service", "tier") if (values := getattr(route, label))
            }
            routes.append(ResolvedRoute(match, tuple(route.to)))
        if spec.grouping.interval.seconds <= 0 or spec.grouping.repeat < spec.grouping.interval:
            self.say("bad-interval", "repeat must be at least interval, and interval more than 0s", ("routing", "grouping"))
        return ResolvedRouting(
            receivers=by_name,
            default=tuple(spec.default or ()),
            watchdog=tuple(spec.watchdog or ()),
            routes=tuple(routes),
            group_by=tuple(spec.grouping.by),
            wait=spec.grouping.wait,
            interval=spec.grouping.interval,
            repeat=spec.grouping.repeat,
        )

    def check_routes(self, model: Model) -> None:
        """What routes do with the alerts that this file can make."""
        routing = model.routing
        used = {*routing.default, *routing.watchdog, *(name for route in routing.routes for name in route.to)}
        for name in routing.receivers:
            if name not in used:
                at: Path_ = ("routing", "receivers", name)
                self.say(
                    "unused-receiver",
                    f"nothing is routed to {name!r}",
                    at,
                    "name it in a route, or remove it",
                    on_key=True,
                    warning=True,
                )
        alerts = list(alert_labels(model))
        for index, route in enumerate(routing.routes):
            if not any(all(labels.get(k) in v for k, v in route.match.items()) for _, labels in alerts):
                self.say(
                    "dead-route",
                    "no alert of this file can match this route",
                    ("routing", "routes", index),
                    did_you_mean(route.match["owner"][0], {labels["owner"] for _, labels in alerts}, "owners")
                    if "owner" in route.match
                    else None,
                    warning=True,
                )
        lost: dict[tuple[str, str], str] = {}
        for what, labels in alerts:
            if not routing.reached(labels):
                lost.setdefault((labels["severity"], labels["owner"]), what)
        for (severity, owner), what in lost.items():
            self.say(
                "unrouted-alert",
                f"{severity} alerts of {owner} reach nobody, such as {what}",
                ("routing",) if "routing" in self.source.data else (),
                "set routing.default to a receiver, or add a route",
                warning=True,
            )


def alert_labels(model: Model) -> Iterator[tuple[str, dict[str, str]]]:
    """Every alert that a model can make, as ``service/name`` with the labels that routes may match."""
    for service in model.services:
        base = {**model.labels, "service": service.name}
        for slo in service.slos:
            labels = {**base, "slo": slo.name, "owner": slo.owner, "tier": slo.tier}
            for severity in slo.burn:
                yield f"{service.name}/{slo.name}", {**labels, "severity": severity, "alertname": burn_alert(severity)}
            yield f"{service.name}/{slo.name}", {**labels, "severity": "warning", "alertname": ALERT_NO_DATA}
        for probe in service.probes:
            if probe.severity:
                labels = {**base, "owner": probe.owner, "tier": service.tier, "probe": probe.name}
                yield f"{service.name}/{probe.name}", {**labels, "severity": probe.severity, "alertname": ALERT_PROBE}
        for alert in service.alerts:
            labels = {**base, "owner": alert.owner, "tier": service.tier}
            yield f"{service.name}/{alert.name}", {**labels, "severity": alert.severity, "alertname": alert.name}
