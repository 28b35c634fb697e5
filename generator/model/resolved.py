"""The Model: what a file means, with everything filled in. Renderers read it, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import cached_property

from generator.names import ALERT_EXHAUSTED, ALERT_FREEZE, ALERT_NO_DATA, ALERT_PROBE, burn_alert, uid_is_cut
from generator.receivers import Receiver
from generator.schedule import Hours, Once, WeekTime
from generator.sli import Context, Sli
from generator.spec import Runbook, Scrape
from generator.units import Duration, Threshold

MINUTE, HOUR, DAY = Duration(Decimal(60)), Duration(Decimal(3600)), Duration(Decimal(86400))
SHORTEST_WINDOW, LONGEST_WINDOW = DAY, DAY * 90


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

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an alert with these labels takes it."""
        return all(labels.get(name) in values for name, values in self.match.items())

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
            if route.matches(labels):
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
