"""What is told of an incident: executions, errors, alerts, SLOs, the deployment before."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from generator import deploy

# What reaches these may be more: a search ends there.
SEARCH_LIMIT = 60
LOG_LIMIT = 500


@dataclass(frozen=True)
class Slo:
    """An SLO around the time. Ratios are shares of bad events; ``burn`` is how many times faster than allowed they spend."""

    slo: str
    title: str
    objective: str
    groups: dict[str, str]
    error_ratio: float | None
    worst_error_ratio: float | None
    burn: float | None
    budget_remaining: float | None


@dataclass(frozen=True)
class Alert:
    """An alert that was pending or firing; ``start`` and ``end`` are Unix times within the window."""

    name: str
    service: str
    slo: str
    severity: str
    state: str
    start: float
    end: float


@dataclass(frozen=True)
class Stage:
    """A stage of an execution, ``duration`` in seconds; ``status`` is ok or error."""

    name: str
    duration: float
    status: str
    error: str | None = None


@dataclass(frozen=True)
class Execution:
    """An execution of a process. ``start`` is Unix time, ``duration`` in seconds.

    ``stage`` is where it failed; ``stages`` are empty where only the logs tell of it.
    """

    process: str
    version: str
    status: str
    company: str | None
    start: float
    duration: float
    trace_id: str
    error: str | None
    stages: tuple[Stage, ...]
    link: str
    stage: str | None = None


@dataclass(frozen=True)
class LogGroup:
    """Error lines of one type (``kind``) at one ``place``: a process and its stage, a route, a function.

    ``message`` is the last one's, ``at`` its Unix time; ``first`` is when the first of them was written.
    """

    count: int
    message: str
    at: float
    trace_id: str | None
    link: str | None
    kind: str = ""
    place: str = ""
    first: float = 0.0


@dataclass(frozen=True)
class SlowTrace:
    """``duration`` in seconds."""

    name: str
    start: float
    duration: float
    trace_id: str
    link: str


@dataclass
class Incident:
    """Everything that is known. ``missing`` says what could not be asked, ``seconds`` how long the answer took.

    ``companies`` are those that the service did work for, where it did none for the one that was asked for. ``hurt`` says of
    every company how many of its executions failed; the empty name is for executions without a company.
    """

    service: str
    company: str | None
    at: float
    start: float
    end: float
    slos: list[Slo] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    executions: list[Execution] = field(default_factory=list)
    executions_seen: int = 0
    executions_failed: int = 0
    logs: list[LogGroup] = field(default_factory=list)
    log_lines: int = 0
    slowest: list[SlowTrace] = field(default_factory=list)
    deployment: deploy.Deployment | None = None
    companies: list[str] = field(default_factory=list)
    hurt: dict[str, int] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """For programs: times are Unix seconds."""
        return asdict(self)

    @property
    def empty(self) -> bool:
        """Whether nothing at all is known of the service at that time."""
        known = (self.slos, self.alerts, self.executions, self.logs, self.hurt, self.slowest, self.deployment)
        return not any(known)
