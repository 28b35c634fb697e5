"""What a proof is: a table of alerts, and what failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from generator.model import Model, ResolvedSlo

Path_ = tuple[str | int, ...]


@dataclass(frozen=True)
class Failure:
    """Something that is not as the file wants it: a sentence of what was expected and what happened.

    ``subject`` is ``service/slo`` or the like; ``path`` is where in the file it is asked for. ``by`` says which part of
    the proof found it.
    """

    alert: str
    subject: str
    message: str
    path: Path_ = ()
    by: str = ""

    def __str__(self) -> str:
        return f"{self.subject}, {self.alert}: {self.message}"


@dataclass(frozen=True)
class Row:
    """What was proven of one alert. Times in seconds, None where there is none; ``unproven`` says what was not, and why.

    ``reaches`` and ``escalates`` are receivers, at any time of the week; ``times`` says where they depend on it.
    """

    alert: str
    subject: str
    severity: str
    detects: float | None = None
    resolves: float | None = None
    reaches: tuple[str, ...] = ()
    escalates: tuple[str, ...] = ()
    times: tuple[str, ...] = ()
    failed: bool = False
    unproven: tuple[str, ...] = ()


@dataclass(frozen=True)
class Proof:
    """The table of all alerts, what failed, and facts about the whole: what an outage of a dependency makes, for one.

    ``tests`` are the file's own expectations by name, and whether each is so.
    """

    table: tuple[Row, ...] = ()
    failures: tuple[Failure, ...] = ()
    facts: tuple[str, ...] = ()
    tests: tuple[tuple[str, bool], ...] = ()


@dataclass
class Findings:
    """What a part of the proof found, collected on the way. ``unproven`` is by (subject, alert)."""

    failures: list[Failure] = field(default_factory=list)
    unproven: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def fail(self, by: str, alert: str, subject: str, messages: Sequence[str], path: Path_) -> None:
        """One failure with the first of some messages, and how many more there are."""
        if messages:
            more = f" (and {len(messages) - 1} more such cases)" if len(messages) > 1 else ""
            self.failures.append(Failure(alert, subject, f"{messages[0]}{more}", path, by))

    def cannot(self, alert: str, subject: str, why: str) -> None:
        """Note that a part of an alert cannot be proven."""
        found = self.unproven.setdefault((subject, alert), [])
        if why not in found:
            found.append(why)


def slo_path(slo: ResolvedSlo, model: Model) -> Path_:
    """Where an SLO is asked for: of its own, by a probe's objective, by a process's, or by the SLA of another."""
    service = model.by_name[slo.service]
    at: Path_ = ("services", slo.service)
    if slo.sla_of:
        return (*at, "slos", slo.sla_of)
    if slo.process:
        measure = next((m for p in service.processes for m, name in p.slos.items() if name == slo.name), "")
        return (*at, "processes", slo.process, "objectives", measure)
    if slo.sli.kind == "probe" and any(p.name == slo.name for p in service.probes):
        return (*at, "probes", slo.name)
    return (*at, "slos", slo.name)
