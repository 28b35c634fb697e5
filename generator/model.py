"""The Spec resolved: defaults filled in, references checked, burn rates computed. What renderers read.

User errors end here. A Model is consistent: every name in it exists, every alert in it can fire.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from generator import environment, names, promql, receivers, runbooks, schedule, sli
from generator import source as source_module
from generator import spec as spec_module
from generator.collecting import without_collecting
from generator.diagnostics import Diagnostic, Note, Span, did_you_mean, ordered, split_lines
from generator.names import (
    ALERT_EXHAUSTED,
    ALERT_FREEZE,
    ALERT_NO_DATA,
    ALERT_PROBE,
    RESERVED_ALERTS,
    RESERVED_LABELS,
    burn_alert,
    uid_is_cut,
)
from generator.receivers import Receiver
from generator.schedule import Hours, Once, WeekTime
from generator.sli import Context, Freshness, Latency, Ratio, Sli, Traces, has_window, with_window
from generator.source import Path_, Source
from generator.spec import Alert, Policy, Probe, Process, Runbook, Scrape, Slo, Spec, Window
from generator.units import Duration, Threshold, percent, plain, show

MINUTE, HOUR, DAY = Duration(Decimal(60)), Duration(Decimal(3600)), Duration(Decimal(86400))
SHORTEST_WINDOW, LONGEST_WINDOW = DAY, DAY * 90

# The events of a gauge or a probe are seconds. While a window has little history, one failed check at a start would be most
# of it; over a full hour, the standard policy needs 52 bad seconds at 99.9% anyway.
MINIMUM_BAD_SECONDS = 60


def _window(long: str, short: str, budget: str) -> Window:
    return Window.model_validate({"long": long, "short": short, "budget": budget})


_TICKETS = [_window("1d", "2h", "10%"), _window("3d", "6h", "10%")]

# Google's SRE Workbook, chapter 5, table 5-8: https://sre.google/workbook/alerting-on-slos/
BUILT_IN_POLICIES: Mapping[str, Policy] = MappingProxyType(
    {
        "standard": Policy(
            critical=[_window("1h", "5m", "2%"), _window("6h", "30m", "5%")],
            warning=_TICKETS,
        ),
        # For what can wait until the morning.
        "tickets": Policy(critical=[], warning=_TICKETS),
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
class ResolvedSla:
    """What customers were promised, counted over calendar months or quarters.

    ``slo`` names the SLO whose events are counted: the one that the SLA belongs to, or a companion of it that has the
    SLA's own latency threshold.
    """

    objective: Decimal
    period: str
    slo: str

    @property
    def budget(self) -> Decimal:
        """The share of events that may be bad."""
        return 1 - self.objective


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
    sla: ResolvedSla | None = None
    # The process whose objective this is.
    process: str | None = None
    # The SLO whose SLA this measures, where that has a threshold of its own. It has no alerts.
    sla_of: str | None = None
    # Alerts of the policy on what is left of the budget: severity, and with the freeze the share that must be left.
    exhausted: str | None = None
    freeze: tuple[Decimal, str] | None = None

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
    absent: bool = False
    outage: bool = False


@dataclass(frozen=True)
class ResolvedProcess:
    """A business process of a service. ``slos`` are the names of its objectives' SLOs, by what they measure."""

    service: str
    id: str
    name: str
    description: str | None
    version: str | None
    handler: str | None
    sla: Duration | None
    tier: str
    critical: bool
    owner: str
    documentation_url: str | None
    stages: tuple[str, ...]
    probe: str | None
    source: str
    slos: Mapping[str, str]
    runbook: Runbook | None


@dataclass(frozen=True)
class ResolvedPanel:
    """A graph of the user's own. ``exprs`` have the service's matchers added and Grafana's range filled in."""

    service: str
    title: str
    exprs: tuple[str, ...]
    unit: str
    group: str
    show: str
    description: str | None


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
    processes: tuple[ResolvedProcess, ...] = ()
    panels: tuple[ResolvedPanel, ...] = ()
    # Procedures that belong to no alert.
    runbooks: Mapping[str, Runbook] = field(default_factory=dict)


@dataclass(frozen=True)
class ResolvedRoute:
    """A route: conditions by label, any of the values of each, and the receivers that get what matches all.

    ``during`` and ``outside`` name hours. ``escalate`` tells who is told as well, after how long.
    """

    match: Mapping[str, tuple[str, ...]]
    to: tuple[str, ...]
    during: str | None = None
    outside: str | None = None
    escalate: tuple[tuple[Duration, tuple[str, ...]], ...] = ()

    @property
    def timed(self) -> bool:
        """Whether the route is open at some times only."""
        return self.during is not None or self.outside is not None


@dataclass(frozen=True)
class ResolvedMaintenance:
    """A time in which the alerts of some services, or with none named of all, are muted."""

    name: str
    reason: str | None
    services: tuple[str, ...]
    when: Hours | Once


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
    hours: Mapping[str, Hours] = field(default_factory=dict)

    def secrets(self) -> list[str]:
        """The names of all files under ``secrets/`` that receivers read, sorted."""
        return sorted({s.name for parts in self.receivers.values() for part in parts for s in part.secrets()})

    def matching(self, labels: Mapping[str, str]) -> tuple[ResolvedRoute, ...]:
        """The routes that an alert with these labels takes, at one time of the week or another, in the file's order."""
        found: list[ResolvedRoute] = []
        for route in self.routes:
            if all(labels.get(name) in values for name, values in route.match.items()):
                found.append(route)
                if self.closed(found):
                    break
        return tuple(found)

    @staticmethod
    def closed(routes: Sequence[ResolvedRoute]) -> bool:
        """Whether of these routes at least one is open at every time: nothing is left for those after them."""
        open_at = {(str(route.during or route.outside), route.during is not None) for route in routes if route.timed}
        # Inside and outside of the same hours is always.
        return any(not route.timed for route in routes) or any((hours, not inside) in open_at for hours, inside in open_at)

    def reached(self, labels: Mapping[str, str]) -> tuple[str, ...]:
        """The receivers that an alert with these labels is sent to, at one time of the week or another."""
        routes = self.matching(labels)
        found = [receiver for route in routes for receiver in route.to]
        return tuple(dict.fromkeys(found if self.closed(routes) else [*found, *self.default]))


@dataclass(frozen=True)
class ResolvedTest:
    """What the file expects of an alert: of each one with this name, service, and where they are given SLO and severity."""

    name: str
    alert: str
    service: str
    slo: str | None
    severity: str | None
    at: WeekTime | datetime | None
    reaches: tuple[str, ...]
    never: tuple[str, ...]
    escalates: tuple[str, ...]
    quiet: bool
    inhibited_by: str | None

    def is_about(self, labels: Mapping[str, str]) -> bool:
        """Whether an alert with these labels is one of those."""
        wanted = {"alertname": self.alert, "service": self.service, "slo": self.slo, "severity": self.severity}
        return all(labels.get(label) == value for label, value in wanted.items() if value is not None)


@dataclass(frozen=True)
class Model:
    """Everything that the file says, resolved. Services, SLOs and alerts are in the file's order."""

    organization: str
    grafana: str
    labels: Mapping[str, str]
    services: tuple[ResolvedService, ...]
    routing: ResolvedRouting
    maintenance: tuple[ResolvedMaintenance, ...] = ()
    timezone: str = "UTC"
    tests: tuple[ResolvedTest, ...] = ()

    # What is asked of all services for each of them is looked up, or a file of thousands takes the square of its time.

    @cached_property
    def by_name(self) -> Mapping[str, ResolvedService]:
        """The services by name."""
        return {service.name: service for service in self.services}

    @cached_property
    def dependants(self) -> Mapping[str, tuple[str, ...]]:
        """The services that name each service under depends_on, in the file's order."""
        found: dict[str, list[str]] = {}
        for service in self.services:
            for upstream in dict.fromkeys(service.depends_on):
                found.setdefault(upstream, []).append(service.name)
        return {name: tuple(below) for name, below in found.items()}

    @cached_property
    def cut_names(self) -> tuple[str, ...]:
        """The services whose names cannot stand in a uid of Grafana's as they are."""
        return tuple(s.name for s in self.services if uid_is_cut(s.name))

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


def load(
    files: Sequence[Path],
    display: Sequence[str] | None = None,
    *,
    retention: Duration | None = None,
    variables: Mapping[str, str] | None = None,
) -> Result:
    """Read, check and resolve ``files``. Never raises on bad content.

    ``retention`` is how long Prometheus keeps data, where that is known. ``variables`` are what ``${NAME}`` refers to;
    the environment when left out.
    """
    with without_collecting():
        source = source_module.load(files, display)
        environment.fill(source, variables)
        return resolve(source, retention=retention)


def resolve(source: Source, *, retention: Duration | None = None) -> Result:
    """Check and resolve data that was read."""
    diagnostics = list(source.diagnostics)
    if not source.data:
        return Result(None, _told(diagnostics), source.texts)
    spec, faults = spec_module.parse(source)
    diagnostics += faults
    diagnostics += _references(source)
    model = None
    if spec is not None:
        checker = _Resolver(spec, source, whole=not diagnostics, retention=retention)
        model = checker.model()
        diagnostics += checker.diagnostics
    result = _told(diagnostics)
    failed = model is None or any(d.severity == "error" for d in result)
    return Result(None if failed else model, result, _masked(source, result))


def _told(diagnostics: list[Diagnostic]) -> list[Diagnostic]:
    """What is told of all that was found: sorted, and one diagnostic for one fault."""
    # What is not valid there anyway is said in the words of its field, and not as YAML's trap or as an unknown name.
    follows = ("yaml-trap", *(code for _, _, code, _ in _REFERENCES))
    other = {d.span for d in diagnostics if d.code not in follows}
    # A variable that is not filled in makes whatever stands there wrong.
    unfilled = {d.span for d in diagnostics if d.code in _UNFILLED}

    def caused(span: Span) -> bool:
        at = [s for s in unfilled if (s.file, s.line) == (span.file, span.line)]
        return any(span.column <= s.column and s.end_column <= span.end_column for s in at)

    return ordered(
        d
        for d in diagnostics
        if (d.span not in other or d.code not in follows) and (d.code in _UNFILLED or not unfilled or not caused(d.span))
    )


_UNFILLED = ("env-not-allowed", "unset-variable")


def _masked(source: Source, diagnostics: list[Diagnostic]) -> Mapping[str, str]:
    """The files' text for excerpts, with every secret that was found starred out wherever it stands."""
    texts = {name: list(split_lines(text)) for name, text in source.texts.items()}
    masked = {d.span for d in diagnostics if d.masked}
    roots = {path for path, span in source.values.items() if span in masked} if masked else set()
    for path, span in source.values.items() if masked else ():
        value = source.data_at(path)
        if isinstance(value, dict | list) or not any(path[:end] in roots for end in range(1, len(path) + 1)):
            continue
        value = str(value)
        for line, start, end in source.places(span)[: len("".join(value.split()))]:
            row = texts[span.file][line - 1]
            texts[span.file][line - 1] = row[: start - 1] + "*" * (end - start) + row[end - 1 :]
    return {name: "\n".join(lines) for name, lines in texts.items()} if masked else source.texts


_ANY = None
_Pattern = tuple[str | None, ...]

# Where a name is used; where it must be defined ("$n" is the n-th part of the first path); code; what it is.
_REFERENCES: tuple[tuple[_Pattern, tuple[str, ...], str, str], ...] = (
    (("routing", "default"), ("routing", "receivers"), "unknown-receiver", "receiver"),
    (("routing", "watchdog"), ("routing", "receivers"), "unknown-receiver", "receiver"),
    (("routing", "routes", _ANY, "to"), ("routing", "receivers"), "unknown-receiver", "receiver"),
    (("routing", "routes", _ANY, "service"), ("services",), "unknown-service", "service"),
    (("routing", "routes", _ANY, "escalate", "to"), ("routing", "receivers"), "unknown-receiver", "receiver"),
    (("routing", "routes", _ANY, "escalate", _ANY, "to"), ("routing", "receivers"), "unknown-receiver", "receiver"),
    (("routing", "routes", _ANY, "during"), ("routing", "hours"), "unknown-hours", "hours"),
    (("routing", "routes", _ANY, "outside"), ("routing", "hours"), "unknown-hours", "hours"),
    (("maintenance", _ANY, "services"), ("services",), "unknown-service", "service"),
    (("services", _ANY, "depends_on"), ("services",), "unknown-service", "service"),
    (("services", _ANY, "probes", _ANY, "alerting"), ("alerting",), "unknown-policy", "burn-rate policy"),
    (("services", _ANY, "processes", _ANY, "probe"), ("services", "$1", "probes"), "unknown-probe", "probe"),
    (("services", _ANY, "processes", _ANY, "alerting"), ("alerting",), "unknown-policy", "burn-rate policy"),
    (("services", _ANY, "alerts", _ANY, "slo"), ("services", "$1", "slos"), "unknown-slo", "SLO"),
    (("services", _ANY, "slos", _ANY, "sli", "probe"), ("services", "$1", "probes"), "unknown-probe", "probe"),
    (("services", _ANY, "slos", _ANY, "sli", "probe", "name"), ("services", "$1", "probes"), "unknown-probe", "probe"),
    (("services", _ANY, "slos", _ANY, "alerting"), ("alerting",), "unknown-policy", "burn-rate policy"),
    (("defaults", "alerting"), ("alerting",), "unknown-policy", "burn-rate policy"),
    (("tests", _ANY, "service"), ("services",), "unknown-service", "service"),
    (("tests", _ANY, "inhibited_by"), ("services",), "unknown-service", "service"),
    (("tests", _ANY, "reaches"), ("routing", "receivers"), "unknown-receiver", "receiver"),
    (("tests", _ANY, "not"), ("routing", "receivers"), "unknown-receiver", "receiver"),
    (("tests", _ANY, "escalates"), ("routing", "receivers"), "unknown-receiver", "receiver"),
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
    found: list[Diagnostic] = []
    for pattern, home, code, what in _REFERENCES:
        for path, name in _uses(source.data, pattern):
            where = [str(path[int(part[1:])]) if part.startswith("$") else part for part in home]
            defined = _at(source.data, where)
            known = set(defined) if isinstance(defined, dict) else set()
            if code == "unknown-policy":
                known |= set(BUILT_IN_POLICIES)
            elif code == "unknown-slo":
                probes = _at(source.data, [*where[:-1], "probes"])
                known |= {p for p in _keys(probes) if "objective" in _keys(_at(probes, [p]))}
                processes = _at(source.data, [*where[:-1], "processes"])
                known |= {
                    f"{process}_{measure}"
                    for process in (processes if isinstance(processes, dict) else ())
                    for measure in _keys(_at(processes, [process, "objectives"]))
                }
            if name not in known:
                many = what if what.endswith("s") else f"{what.replace('policy', 'policie')}s"
                no = f"there {'are' if what.endswith('s') else 'is'} no {what} {show(name)}"
                hint = did_you_mean(name, known, many) if len(found) < 200 else None
                found.append(Diagnostic(code, no, source.value_span(path), hint=hint))
    return found


def _keys(data: object) -> list[str]:
    return list(data) if isinstance(data, dict) else []


class _Resolver:
    """Makes the Model, collecting what is wrong on the way. ``whole`` tells that nothing of the file was left out."""

    def __init__(self, spec: Spec, source: Source, *, whole: bool, retention: Duration | None = None) -> None:
        self.retention = retention
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
        self.check_names(services)
        self.check_dependencies(services)
        routing = self.routing()
        model = Model(
            organization=spec.organization,
            grafana=spec.links.grafana.rstrip("/"),
            labels=spec.defaults.labels,
            services=services,
            routing=routing,
            maintenance=tuple(self.maintenance(name) for name in spec.maintenance),
            timezone=spec.defaults.timezone,
            tests=tuple(
                ResolvedTest(
                    name=test.name,
                    alert=test.alert,
                    service=test.service,
                    slo=test.slo,
                    severity=test.severity,
                    at=test.at,
                    reaches=tuple(test.reaches),
                    never=tuple(test.never),
                    escalates=tuple(test.escalates),
                    quiet=test.quiet,
                    inhibited_by=test.inhibited_by,
                )
                for test in spec.tests
            ),
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
            self.check_tests(model)
        return model

    def check_tests(self, model: Model) -> None:
        """Expectations of alerts that the file does not make."""
        for index, test in enumerate(model.tests):
            at: Path_ = ("tests", index)
            mine = [labels for _, labels in alert_labels(model) if labels["service"] == test.service]
            if any(test.is_about(labels) for labels in mine):
                continue
            named = [labels for labels in mine if labels["alertname"] == test.alert]
            if not named:
                known = {labels["alertname"] for labels in mine}
                hint = did_you_mean(test.alert, known, f"alerts of {test.service}")
                self.say("unknown-alert", f"{test.service} has no alert {test.alert}", (*at, "alert"), hint)
            elif test.slo is not None and test.slo not in (slos := {labels.get("slo", "") for labels in named} - {""}):
                hint = did_you_mean(test.slo, slos, "SLOs")
                self.say("unknown-slo", f"no {test.alert} is of an SLO {test.slo}", (*at, "slo"), hint)
            else:
                severities = " or ".join(sorted({labels["severity"] for labels in named}))
                self.say(
                    "unknown-alert", f"{test.alert} of {test.service} is never {test.severity}", (*at, "severity"), severities
                )

    def check_policies(self) -> None:
        for name, policy in self.spec.alerting.items():
            at: Path_ = ("alerting", name)
            if name in BUILT_IN_POLICIES:
                self.say("reserved-name", f"the policy {name!r} is built in", at, "give yours another name", on_key=True)
            for severity in ("critical", "warning"):
                for index, window in enumerate(getattr(policy, severity)):
                    here = (*at, severity, index)
                    if window.short < MINUTE * 2:
                        self.say(
                            "bad-window", f"{window.short} is shorter than 2m, which a window has at least", (*here, "short")
                        )
                    elif window.long > LONGEST_WINDOW:
                        self.say("bad-window", f"{window.long} is longer than {LONGEST_WINDOW}", (*here, "long"))
                    elif window.short >= window.long:
                        self.say(
                            "bad-window",
                            f"the short window {window.short} is not shorter than {window.long}",
                            (*here, "short"),
                            note=Note(self.source.value_span((*here, "long")), "the long window"),
                        )
                    if window.budget is not None and window.budget <= 0:
                        self.say("bad-percent", "a share of 0% is always spent", (*here, "budget"))

    def check_cycles(self) -> None:
        """Each dependency that closes a circle, found by a search that visits every service once."""
        graph = {name: service.depends_on for name, service in self.spec.services.items()}
        done: set[str] = set()
        for start in graph:
            if start in done:
                continue
            trail = {start: None}
            stack = [(start, iter(enumerate(graph[start])))]
            while stack:
                node, children = stack[-1]
                index, child = next(children, (-1, ""))
                if index < 0:
                    stack.pop()
                    trail.pop(node)
                    done.add(node)
                elif child in trail:
                    names = list(trail)
                    loop = [*names[names.index(child) :], child]
                    shown = loop if len(loop) <= 8 else [*loop[:4], "…", *loop[-3:]]
                    first: Path_ = ("services", child, "depends_on")
                    self.say(
                        "dependency-cycle",
                        f"these services depend on each other: {' → '.join(shown)}"
                        if len(loop) > 2
                        else f"{child} depends on itself",
                        ("services", node, "depends_on", index),
                        "leave out the dependency that is the weaker one",
                        note=Note(self.source.value_span(first), f"{child} depends on {loop[1]}") if len(loop) > 2 else None,
                    )
                elif child in graph and child not in done:
                    trail[child] = None
                    stack.append((child, iter(enumerate(graph[child]))))

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
            "range": sli.rate_range(interval),
            "probes": {p: (probe.interval, probe.slower_than) for p, probe in spec.probes.items()},
            "processes": {p: process.sla for p, process in spec.processes.items()},
        }
        slos: list[ResolvedSlo] = []
        processes = []
        for s, slo in spec.slos.items():
            slos += self.slo(name, s, slo, owner, tier, context, (*at, "slos", s))
        for p, probe in spec.probes.items():
            if probe.objective is not None:
                promise = Slo.model_construct(
                    objective=probe.objective,
                    sli=spec_module.SliSpec(probe=sli.Probe(name=p)),
                    title=f"{p} answers from outside",
                    alerting=probe.alerting,
                    runbook=probe.runbook,
                )
                slos += self.slo(name, p, promise, owner, tier, context, (*at, "probes", p))
            elif probe.alerting is not None:
                self.say("missing-key", "alerting needs an objective", (*at, "probes", p, "alerting"), "objective: 99.9%")
        for p, process in spec.processes.items():
            resolved, objectives = self.process(name, p, process, owner, tier, context, (*at, "processes", p))
            processes.append(resolved)
            slos += objectives
        self.check_identity(slos, at)
        by_name = {slo.name: slo for slo in slos}
        alerts = tuple(
            self.alert(name, a, alert, owner, match, interval, by_name, (*at, "alerts", a)) for a, alert in spec.alerts.items()
        )
        # One whose text was faulty has been told of already.
        written = self.source.data_at((*at, "runbook"))
        dropped = isinstance(written, dict) and spec.runbook is not None and {*written} > spec.runbook.model_fields_set
        if _says_nothing(spec.runbook) and not dropped:
            self.check_runbooks(name, (*at,))
        if not (slos or alerts or probes or processes or spec.scrape) and self.whole:
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
            slos=tuple(slos),
            alerts=alerts,
            runbook=self.runbook(spec.runbook, (*at, "runbook")),
            processes=tuple(processes),
            panels=tuple(
                ResolvedPanel(
                    service=name,
                    title=title,
                    exprs=tuple(_for_grafana(expr, match) for expr in panel.expr),
                    unit=panel.unit,
                    group=panel.group or "Metrics",
                    show=panel.show,
                    description=panel.description,
                )
                for title, panel in spec.panels.items()
            ),
            runbooks={
                procedure: book
                for procedure, runbook in spec.runbooks.items()
                if (book := self.runbook(runbook, (*at, "runbooks", procedure))) is not None
            },
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
            runbook=self.runbook(probe.runbook, (*at, "runbook")),
        )

    def slo(
        self,
        service: str,
        name: str,
        spec: Slo,
        owner: str,
        tier: str,
        context: dict[str, object],
        at: Path_,
        process: str | None = None,
    ) -> list[ResolvedSlo]:
        """An SLO; and with an SLA that has its own latency threshold, the companion that measures that."""
        defaults = self.spec.defaults
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
            elif label in HIGH_CARDINALITY:
                self.say(
                    "label-explodes",
                    f"{label} has a value for each request or person, and each would get a budget and alerts of its own",
                    (*at, "by", index),
                    "group by something with few values, such as region; find the single one in traces and logs",
                    warning=True,
                )
        if isinstance(indicator, Ratio) and indicator.total_ in (indicator.errors_, indicator.good):
            which = "errors" if indicator.errors_ else "good"
            self.say(
                "same-metric",
                f"{which} and total are the same metric, so that every event is {'bad' if indicator.errors_ else 'good'}",
                (*at, "sli", "ratio", which),
                f'narrow {which} by a label, such as {{code=~"5.."}}',
            )
        if self.retention is not None and window > self.retention:
            self.say(
                "beyond-retention",
                f"a window of {window} needs data that Prometheus keeps for {self.retention} only",
                (*at, "window") if spec.window else ("defaults", "window"),
                f"set PROMETHEUS_RETENTION={window} in .env, or a shorter window",
            )
        self.check_indicator(indicator, context, at)
        policy = spec.alerting or defaults.alerting
        burn = self.burn(spec.objective, window, policy, at)
        minimum = defaults.minimum_events if indicator.weighted_by_traffic else MINIMUM_BAD_SECONDS
        if spec.minimum_events is not None:
            minimum = spec.minimum_events
        chosen = self.policies.get(policy)
        first = ResolvedSlo(
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
            minimum_events=minimum,
            runbook=self.runbook(spec.runbook, (*at, "runbook")),
            context=Context(by=tuple(spec.by), slo=name, **context),  # type: ignore[arg-type]
            process=process,
            exhausted=chosen.exhausted if chosen else None,
            freeze=(chosen.freeze.below, chosen.freeze.severity) if chosen and chosen.freeze else None,
        )
        return self.with_sla(first, spec, at)

    def with_sla(self, slo: ResolvedSlo, spec: Slo, at: Path_) -> list[ResolvedSlo]:
        """The SLO with its SLA, and the companion that measures it where its threshold is another one."""
        if spec.sla is None:
            return [slo]
        here: Path_ = (*at, "sla", "objective") if (*at, "sla", "objective") in self.source.values else (*at, "sla")
        period = spec.sla.window.removeprefix("calendar ")
        if not 0 < spec.sla.objective < 1:
            self.say("impossible-objective", "an SLA is between 0% and 100%", here, "write it as 99.5%")
        threshold = spec.sla.under
        own = getattr(slo.sli, "under", None)
        if threshold is not None and not isinstance(slo.sli, Latency | Traces):
            self.say("one-of", "under belongs to the SLA of a latency SLO", (*at, "sla", "under"), "remove it")
        elif threshold is not None and own is not None and threshold < own:
            self.say(
                "slo-looser-than-sla",
                f"the SLA promises {threshold}, faster than the SLO's {own}",
                (*at, "sla", "under"),
                "the SLO's threshold is the stricter one",
            )
        if threshold is None or own is None or threshold == own:
            if spec.sla.objective >= spec.objective:
                self.say(
                    "slo-looser-than-sla",
                    f"the SLA of {percent(spec.sla.objective)} is not looser than the objective of {percent(spec.objective)}",
                    here,
                    "the SLO must fail first, so that there is time to act",
                    note=Note(self.source.value_span((*at, "objective")), "the objective"),
                )
            return [replace(slo, sla=ResolvedSla(spec.sla.objective, period, slo.name))]
        companion = replace(
            slo,
            name=f"{slo.name}_sla",
            title=f"{slo.title}: what was promised",
            description=f"Measures the SLA of {slo.name}.",
            objective=spec.sla.objective,
            sli=slo.sli.model_copy(update={"under": threshold}),
            policy="none",
            burn={},
            context=replace(slo.context, slo=f"{slo.name}_sla"),
            sla_of=slo.name,
            exhausted=None,
            freeze=None,
        )
        return [replace(slo, sla=ResolvedSla(spec.sla.objective, period, companion.name)), companion]

    def process(
        self, service: str, id_: str, spec: Process, owner: str, tier: str, context: dict[str, object], at: Path_
    ) -> tuple[ResolvedProcess, list[ResolvedSlo]]:
        """A process, and an SLO for each of its objectives."""
        tier = spec.tier or ("critical" if spec.critical else tier)
        owner = spec.owner or owner
        slos: list[ResolvedSlo] = []
        named: dict[str, str] = {}
        for measure, title in (
            ("success", "succeeds"),
            ("within_sla", f"ends within {spec.sla}"),
            ("timeouts", "does not time out"),
        ):
            share = getattr(spec.objectives, measure)
            if share is None:
                continue
            named[measure] = f"{id_}_{measure}"
            slo = Slo.model_construct(
                objective=1 - share if measure == "timeouts" else share,
                sli=spec_module.SliSpec(
                    process=sli.Process.model_validate({"id": id_, "measure": measure, "from": spec.source})
                ),
                title=f"{spec.name} {title}",
                description=spec.description,
                window=spec.window,
                by=[],
                sla=None,
                alerting=spec.alerting,
                minimum_events=spec.minimum_events,
                owner=owner,
                tier=tier,  # type: ignore[arg-type]
                runbook=spec.runbook,
            )
            slos += self.slo(service, named[measure], slo, owner, tier, context, (*at, "objectives", measure), process=id_)
        if spec.sla is not None and named.get("within_sla") and spec.source == "metrics":
            bounds = [Decimal(b) for b in names.PROCESS_BUCKETS]
            if spec.sla.seconds not in bounds:
                near = min(bounds, key=lambda b: abs(b - spec.sla.seconds))  # type: ignore[union-attr]
                self.say(
                    "not-a-bucket",
                    f"lgtm_instrumentation has no bucket that ends at {spec.sla}",
                    (*at, "sla"),
                    f"the nearest is {Duration(near)}; or set from: spans, which can tell any time",
                    warning=True,
                )
        return (
            ResolvedProcess(
                service=service,
                id=id_,
                name=spec.name,
                description=spec.description,
                version=spec.version,
                handler=spec.handler,
                sla=spec.sla,
                tier=tier,
                critical=tier == "critical",
                owner=owner,
                documentation_url=spec.documentation_url,
                stages=tuple(spec.stages),
                probe=spec.probe,
                source=spec.source,
                slos=named,
                runbook=self.runbook(spec.runbook, (*at, "runbook")),
            ),
            slos,
        )

    def runbook(self, runbook: Runbook | None, at: Path_) -> Runbook | None:
        """A runbook; one that is a file must exist, and is read."""
        if runbook is None or runbook.file is None:
            return runbook
        path: Path_ = (*at, "file") if (*at, "file") in self.source.values else at
        name = self.source.value_span(path).file
        try:
            text = (self.source.directories.get(name, Path()) / runbook.file).read_text(encoding="utf-8")
        except (OSError, ValueError):
            self.say("no-runbook", f"there is no runbook {show(runbook.file)}", path, f"the path is relative to {name}")
            return runbook
        # What stands in the spec itself goes before what the file says.
        return runbooks.parse(text).model_copy(update={key: getattr(runbook, key) for key in runbook.model_fields_set})

    def check_runbooks(self, service: str, at: Path_) -> None:
        """What can page somebody of a service without a runbook of its own."""
        spec = self.spec.services[service]

        def pages(name: str | None) -> bool:
            policy = self.policies.get(name or self.spec.defaults.alerting)
            if policy is None:
                return False
            freezes = policy.freeze is not None and policy.freeze.severity == "critical"
            return bool(policy.critical) or policy.exhausted == "critical" or freezes

        silent: list[tuple[str, Path_]] = [
            (f"the alert {name}", (*at, "alerts", name))
            for name, alert in spec.alerts.items()
            if alert.severity == "critical" and _says_nothing(alert.runbook)
        ]
        silent += [
            (f"the probe {name}", (*at, "probes", name))
            for name, probe in spec.probes.items()
            if _says_nothing(probe.runbook)
            and (probe.severity == "critical" or (probe.objective is not None and pages(probe.alerting)))
        ]
        for name, slo in spec.slos.items():
            if _says_nothing(slo.runbook) and pages(slo.alerting):
                silent.append((f"the SLO {name}", (*at, "slos", name)))
        for name, process in spec.processes.items():
            measured = any(getattr(process.objectives, m) is not None for m in ("success", "within_sla", "timeouts"))
            if _says_nothing(process.runbook) and pages(process.alerting) and measured:
                silent.append((f"the process {name}", (*at, "processes", name)))
        if silent:
            what, path = silent[0]
            more = f" and {len(silent) - 1} more of this service" if len(silent) > 1 else ""
            self.say(
                "missing-runbook",
                f"{what}{more} can page somebody, and nothing says what to do",
                path,
                "add runbook: to it, or to the service for all of it",
                on_key=True,
                warning=True,
            )

    def check_identity(self, slos: list[ResolvedSlo], at: Path_) -> None:
        """SLOs that processes and SLAs make must not have the name of another one."""
        seen: set[str] = set()
        for slo in slos:
            if slo.name in seen:
                self.say(
                    "duplicate-identity",
                    f"{slo.name} would be the name of two SLOs",
                    (*at, "processes", slo.process) if slo.process else (*at, "slos", slo.sla_of or slo.name),
                    f"rename the SLO {slo.name}",
                    on_key=True,
                    note=Note(self.source.key_span((*at, "slos", slo.name)), "the other one"),
                )
            seen.add(slo.name)

    def check_names(self, services: tuple[ResolvedService, ...]) -> None:
        """Names of services become names of files and of scrape jobs."""
        files: dict[str, str] = {}
        jobs: dict[str, str] = {}
        for service in services:
            at: Path_ = ("services", service.name)
            if (other := files.setdefault(service.name.lower(), service.name)) != service.name:
                self.say(
                    "duplicate-identity",
                    f"{service.name} and {other} differ only in capitals, and some file systems see no difference",
                    at,
                    "rename one of the two",
                    on_key=True,
                    note=Note(self.source.key_span(("services", other)), "the other one"),
                )
            if service.scrape is None:
                continue
            job = service.match.get("job", service.name)
            if job in names.STACK_JOBS:
                self.say(
                    "reserved-name",
                    f"the stack scrapes {job} itself",
                    (*at, "scrape"),
                    f"leave scrape out and write match: {{job: {job}}}, or rename the service",
                    on_key=True,
                )
            elif (other := jobs.setdefault(job, service.name)) != service.name:
                self.say(
                    "duplicate-job",
                    f"{service.name} and {other} are both scraped as the job {job}",
                    (*at, "scrape"),
                    "name all targets under one of them",
                    on_key=True,
                    note=Note(self.source.key_span(("services", other, "scrape")), "the other one"),
                )

    def check_dependencies(self, services: tuple[ResolvedService, ...]) -> None:
        """No service is more available than what it depends on."""
        by_name = {service.name: service for service in services}

        def best(service: ResolvedService) -> ResolvedSlo | None:
            promises = [slo for slo in service.slos if not slo.sla_of and _tells_availability(slo)]
            return max(promises, key=lambda slo: slo.objective, default=None)

        for service in services:
            caps = [slo for name in service.depends_on if name in by_name and (slo := best(by_name[name])) is not None]
            if not caps:
                continue
            cap = Decimal(1)
            for slo in caps:
                cap *= slo.objective
            weakest = min(caps, key=lambda slo: slo.objective)
            for slo in service.slos:
                if slo.objective > cap and not slo.sla_of and slo.process is None and _tells_availability(slo):
                    self.say(
                        "unreachable-objective",
                        f"{percent(slo.objective)} is more than {service.name} can reach behind "
                        f"{', '.join(f'{c.service} at {percent(c.objective)}' for c in caps)}: {percent(_rounded(cap))}",
                        ("services", service.name, "slos", slo.name, "objective"),
                        "lower it, raise the dependency's, or remove depends_on where the service works without it",
                        warning=True,
                        note=Note(
                            self.source.value_span(("services", weakest.service, "slos", weakest.name, "objective")),
                            "the dependency's objective",
                        ),
                    )

    def check_indicator(self, indicator: Sli, context: Mapping[str, object], at: Path_) -> None:
        """What an SLI needs to know of its service."""
        interval = self.spec.defaults.interval
        service = self.spec.services.get(str(context["service"]))
        if service is not None and service.scrape is not None and service.scrape.interval is not None:
            interval = service.scrape.interval
        if isinstance(indicator, Freshness) and indicator.under.seconds < interval.seconds * 2:
            self.say(
                "below-resolution",
                f"an age of {indicator.under} cannot be told: metrics arrive every {interval}",
                (*at, "sli", "freshness", "under"),
                f"at least {interval * 2}",
            )
        if isinstance(indicator, sli.Limit):
            self.check_ranges(indicator.expr, interval, (*at, "sli", "threshold", "expr"))
        if isinstance(indicator, sli.Process) and indicator.measure == "within_sla":
            known: object = context["processes"]
            if indicator.under is None and not (isinstance(known, dict) and known.get(indicator.id)):
                self.say(
                    "missing-key",
                    f"no SLA of {indicator.id} is known",
                    (*at, "sli", "process"),
                    "add under: 2s, or the process with its sla under processes: of this service",
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
        # One diagnostic for an objective: the shortest window asks the most, so what allows it allows the others.
        impossible = False
        for severity in ("critical", "warning"):
            conditions = []
            for w in getattr(policy, severity):
                if not w.long.seconds:
                    continue  # check_policies has said so
                factor = w.factor if w.factor is not None else (w.budget or Decimal(0)) * window.seconds / w.long.seconds
                budget = w.budget if w.budget is not None else factor * w.long.seconds / window.seconds
                if w.long > window or factor < 1:
                    # Below 1 the budget would outlast the SLO's window: nothing to wake anybody for.
                    continue
                if factor * (1 - objective) >= 1 and not impossible:
                    impossible = True
                    allowed = 1 - 1 / factor
                    self.say(
                        "impossible-alert",
                        f"the {severity} alert over {w.long} cannot fire: it needs an error ratio above "
                        f"{percent((factor * (1 - objective)).normalize())}",
                        (*at, "objective"),
                        f"an objective above {plain((allowed * 100).quantize(Decimal('0.01')))}% allows it; or set alerting: "
                        "to a policy with a smaller budget share over this window",
                    )
                conditions.append(BurnWindow(w.long, w.short, budget, factor))
            if conditions:
                burn[severity] = tuple(conditions)
        return burn

    def alert(
        self,
        service: str,
        name: str,
        alert: Alert,
        owner: str,
        match: Mapping[str, str],
        interval: Duration,
        slos: Mapping[str, ResolvedSlo],
        at: Path_,
    ) -> ResolvedAlert:
        if name in RESERVED_ALERTS:
            self.say(
                "reserved-name",
                f"{name} is an alert of the generator's own",
                at,
                "give yours another name",
                on_key=True,
            )
        if alert.over is not None:
            if alert.over.seconds < interval.seconds * 2:
                self.say(
                    "below-resolution",
                    f"{alert.over} is too short: metrics arrive every {interval}",
                    (*at, "over"),
                    f"at least {interval * 2}",
                )
            elif alert.over > LONGEST_WINDOW:
                self.say("bad-window", f"{alert.over} is longer than {LONGEST_WINDOW}", (*at, "over"), "look at less")
        expr, measured = self.measure(alert, match, slos, (*at,))
        self.check_ranges(expr, interval, (*at, "expr"))
        limit = alert.above or alert.below
        side = "above" if alert.above else "below"
        summary = alert.summary or (
            f"{measured} is {side} {limit.text}" if limit else f"{measured} is absent" if alert.absent else f"{measured} holds"
        )
        return ResolvedAlert(
            service=service,
            name=name,
            expr=expr,
            above=alert.above,
            below=alert.below,
            hold=alert.for_,
            severity=alert.severity,
            owner=alert.owner or owner,
            summary=summary,
            runbook=self.runbook(alert.runbook, (*at, "runbook")),
            absent=alert.absent,
            outage=alert.outage,
        )

    def measure(self, alert: Alert, match: Mapping[str, str], slos: Mapping[str, ResolvedSlo], at: Path_) -> tuple[str, str]:
        """The query of an alert without its threshold, and what it measures in words."""
        if alert.slo is not None:
            slo, over = slos.get(alert.slo), alert.over or MINUTE * 5
            if slo is None:
                return "vector(0)", alert.slo  # the references have said so
            if alert.percentile is not None:
                quantile = getattr(slo.sli, "quantile", None)
                if quantile is None:
                    self.say(
                        "not-a-histogram",
                        f"the SLO {alert.slo} has no percentiles: it reads no histogram",
                        (*at, "percentile"),
                        "name an SLO of latency, of a process or of traces",
                    )
                    return "vector(0)", alert.slo
                words = f"the {plain(alert.percentile)}th percentile of {alert.slo}"
                return quantile(slo.context, alert.percentile, over), words
            selector = f"{{service={promql.quote(slo.service)},slo={promql.quote(slo.name)}}}"
            fast = over <= HOUR * 6
            errors, total = (names.ERRORS_RATE, names.TOTAL_RATE) if fast else (names.ERRORS_SLOW, names.TOTAL_SLOW)
            bad = f"sum_over_time({errors}{selector}[{over}])"
            expr = f"{bad} / (sum_over_time({total}{selector}[{over}]) > 0)"
            if alert.minimum_events:
                # Samples are rates, so each stands for thirty seconds of events.
                expr = f"{expr} and {bad} * 30 > {alert.minimum_events - 1}.5"
            return expr, f"the share of bad events of {alert.slo} over {over}"
        written = str(alert.expr)
        expr = with_window(written, alert.over)
        if "{" in expr or "(" in expr or match:
            expr = promql.with_matchers(expr, match)
        if alert.over is not None and not has_window(written):
            function = {"average": "avg", "highest": "max", "lowest": "min"}[alert.take] + "_over_time"
            if alert.absent:
                function = "absent_over_time"
            whole = promql.as_selector(with_window(written, alert.over)) is not None
            expr = f"{function}({expr}[{alert.over}])" if whole else f"{function}(({expr})[{alert.over}:1m])"
        elif alert.absent:
            expr = f"absent({expr})"
        return expr, written

    def check_ranges(self, expr: str, interval: Duration, at: Path_) -> None:
        """A rate over less than two scrapes is always empty."""
        for range_ in promql.ranges(expr):
            if range_ < interval.seconds * 2:
                self.say(
                    "below-resolution",
                    f"a range of {Duration(range_)} holds less than two samples: metrics arrive every {interval}",
                    at,
                    f"at least {interval * 2}; {interval * 4} survives a lost scrape",
                )
                return

    def maintenance(self, name: str) -> ResolvedMaintenance:
        spec = self.spec.maintenance[name]
        zone = spec.timezone or self.spec.defaults.timezone
        when: Hours | Once
        if spec.start is not None and spec.end is not None:
            when = Once(spec.start, spec.end, zone)
            if spec.end - spec.start > schedule.LONGEST_ONCE:
                self.say(
                    "bad-time",
                    f"a maintenance window of more than {schedule.LONGEST_ONCE.days} days",
                    ("maintenance", name, "until"),
                    "who would notice an outage in it? Make it shorter, or remove the alerts",
                )
        else:
            when = Hours(spec.days, spec.times, spec.dates, zone)
            self.check_hours(when, ("maintenance", name))
        return ResolvedMaintenance(name, spec.reason, tuple(spec.services), when)

    def check_hours(self, hours: Hours, at: Path_) -> None:
        if hours.dates is not None and any(t.end > schedule.MIDNIGHT for t in hours.times or ()):
            self.say(
                "bad-time",
                "times that pass midnight cannot be bound to days of the month: the next day may be another month's",
                (*at, "times"),
                "make two windows, one to 24:00 and one from 00:00",
            )

    def routing(self) -> ResolvedRouting:
        spec = self.spec.routing
        by_name = {
            name: tuple(part for kind in receivers.KINDS if (part := getattr(value, kind)) is not None)
            for name, value in spec.receivers.items()
        }
        routes: list[ResolvedRoute] = []
        for route in spec.routes:
            match = {
                _ROUTE_LABELS.get(label, label): tuple(values)
                for label in ("alert", "severity", "owner", "service", "tier")
                if (values := getattr(route, label))
            }
            steps = tuple((step.after, tuple(step.to)) for step in route.escalate)
            self.check_escalation(tuple(route.to), steps, spec.grouping.wait, ("routing", "routes", len(routes), "escalate"))
            routes.append(ResolvedRoute(match, tuple(route.to), route.during, route.outside, steps))
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
            hours={name: self.hours(name) for name in spec.hours},
        )

    def hours(self, name: str) -> Hours:
        spec = self.spec.routing.hours[name]
        hours = Hours(spec.days, spec.times, spec.dates, spec.timezone or self.spec.defaults.timezone)
        self.check_hours(hours, ("routing", "hours", name))
        if hours.days is None and hours.times is None and hours.dates is None:
            self.say("bad-time", f"the hours {name} are always", ("routing", "hours", name), "add days: or times:", on_key=True)
        return hours

    def check_escalation(
        self, to: tuple[str, ...], steps: tuple[tuple[Duration, tuple[str, ...]], ...], wait: Duration, at: Path_
    ) -> None:
        told, latest = set(to), wait
        for index, (after, receivers_) in enumerate(steps):
            here: Path_ = (*at, index) if (*at, index) in self.source.values else at
            if after <= latest:
                self.say(
                    "bad-escalation",
                    f"{after} is not later than {latest}, when others are told",
                    (*here, "after"),
                    "give each step more time than the one before",
                )
            if set(receivers_) <= told:
                self.say(
                    "bad-escalation",
                    f"{', '.join(receivers_)} {'has' if len(receivers_) == 1 else 'have'} been told already",
                    (*here, "to"),
                    "escalate to somebody else; grouping.repeat says how often the same ones are reminded",
                )
            told |= set(receivers_)
            latest = after

    def check_routes(self, model: Model) -> None:
        """What routes do with the alerts that this file can make."""
        routing = model.routing
        used = {*routing.default, *routing.watchdog, *(name for route in routing.routes for name in route.to)}
        used |= {name for route in routing.routes for _, to in route.escalate for name in to}
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
            mine = [labels for _, labels in alerts if _matches(route, labels)]
            if not mine:
                near = None
                if "owner" in route.match:
                    near = did_you_mean(route.match["owner"][0], {labels["owner"] for _, labels in alerts}, "owners")
                at = ("routing", "routes", index)
                self.say("dead-route", "no alert of this file can match this route", at, near, warning=True)
                continue
            # Routes that are open at some times only leave alerts to later ones, so they are left out here.
            before = [(i, r) for i, r in enumerate(routing.routes[:index]) if not r.timed]
            takers = [next((i for i, r in before if _matches(r, labels)), None) for labels in mine]
            if None not in takers:
                self.say(
                    "dead-route",
                    "every alert that this route matches goes to an earlier one",
                    ("routing", "routes", index),
                    "move it up, or remove it",
                    warning=True,
                    note=Note(self.source.value_span(("routing", "routes", takers[0] or 0)), "to this one, for example"),
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


def _matches(route: ResolvedRoute, labels: Mapping[str, str]) -> bool:
    return all(labels.get(name) in values for name, values in route.match.items())


_ROUTE_LABELS = {"alert": "alertname"}

# Labels with a value for each request, person or message.
HIGH_CARDINALITY = frozenset((
    "user_id", "userid", "user", "username", "email", "email_address", "request_id", "requestid", "trace_id", "traceid",
    "span_id", "session_id", "session", "conversation_id", "message_id", "order_id", "ip", "ip_address", "client_ip",
    "remote_addr", "url", "uri", "full_path", "query", "token", "uuid", "guid",
))  # fmt: skip


# A range that nobody writes, in whose place Grafana's variable comes once the query has been rewritten.
_ANY_RANGE = "11h11m11s"


def _for_grafana(query: str, match: Mapping[str, str]) -> str:
    rewritten = promql.with_matchers(with_window(query, _ANY_RANGE), match)
    return rewritten.replace(_ANY_RANGE, "$__rate_interval")


def _tells_availability(slo: ResolvedSlo) -> bool:
    """Whether an SLO is about working at all, and not about speed, age or a limit."""
    if isinstance(slo.sli, sli.Process):
        return slo.sli.measure == "success"
    return isinstance(slo.sli, Ratio | sli.Boolean | sli.Probe) or (isinstance(slo.sli, Traces) and slo.sli.under is None)


def _says_nothing(runbook: Runbook | None) -> bool:
    """Whether a runbook is none for somebody who was paged."""
    if runbook is None:
        return True
    parts = (runbook.url, runbook.file, runbook.symptoms, runbook.impact, runbook.diagnosis, runbook.causes)
    return not any((*parts, runbook.recovery, runbook.escalation))


def _rounded(ratio: Decimal) -> Decimal:
    return ratio.quantize(Decimal("1e-6")).normalize()


def alert_labels(model: Model) -> Iterator[tuple[str, dict[str, str]]]:
    """Every alert that a model can make, as ``service/name`` with the labels that routes may match."""
    for service in model.services:
        base = {**model.labels, "service": service.name}
        for slo in service.slos:
            labels = {**base, "slo": slo.name, "owner": slo.owner, "tier": slo.tier}
            for severity in slo.burn:
                yield f"{service.name}/{slo.name}", {**labels, "severity": severity, "alertname": burn_alert(severity)}
            if slo.exhausted:
                yield f"{service.name}/{slo.name}", {**labels, "severity": slo.exhausted, "alertname": ALERT_EXHAUSTED}
            if slo.freeze:
                yield f"{service.name}/{slo.name}", {**labels, "severity": slo.freeze[1], "alertname": ALERT_FREEZE}
            yield f"{service.name}/{slo.name}", {**labels, "severity": "warning", "alertname": ALERT_NO_DATA}
        for probe in service.probes:
            if probe.severity:
                labels = {**base, "owner": probe.owner, "tier": service.tier, "probe": probe.name}
                yield f"{service.name}/{probe.name}", {**labels, "severity": probe.severity, "alertname": ALERT_PROBE}
        for alert in service.alerts:
            labels = {**base, "owner": alert.owner, "tier": service.tier}
            yield f"{service.name}/{alert.name}", {**labels, "severity": alert.severity, "alertname": alert.name}
