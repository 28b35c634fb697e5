"""A spec into force, in steps: what would change, the proof of it, the change itself, a look at the servers, the history.

Whatever a step finds wrong, the servers go on with what they had. One lock is held from the first step to the last.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from generator import apply as applying
from generator import history, plan, rendered, servers
from generator.apply import ApplyResult
from generator.errors import LgtmError
from generator.history import Entry, Snapshot
from generator.model import Model
from generator.plan import Plan
from generator.progress import Report
from generator.project import Project
from generator.render import Artifact
from generator.targets import Fault

# Shown when a proof or a check has found more.
_SHOWN = 10
# For how long, and how many at once, rules are tried that Prometheus has just loaded.
_TRYING = 1.0
_TRIES = 4


class UnprovenError(LgtmError):
    """An alert of the new spec does not do what it should. Nothing was changed."""


class DeclinedError(LgtmError):
    """Who was asked said no. Nothing was changed."""


@dataclass(frozen=True)
class Wanted:
    """What is to be in force. ``model`` is None where a spec of the history cannot be read any more.

    ``secrets`` has, by server and name, what its configuration refers to.
    """

    model: Model | None
    snapshot: Snapshot
    artifacts: Sequence[Artifact]
    secrets: Mapping[str, Mapping[str, bytes]]


@dataclass(frozen=True)
class Outcome:
    """What became of it. ``entry`` is its place in the history, None where nothing at all was changed."""

    plan: Plan
    result: ApplyResult
    entry: Entry | None
    notes: tuple[str, ...]
    seconds: Mapping[str, float]

    def as_json(self) -> dict[str, object]:
        """For tools: what `apply` did, with the plan and the number in the history."""
        found = self.result.as_json()
        seconds = {**self.result.as_json()["seconds"], **{k: round(v, 3) for k, v in self.seconds.items()}}  # type: ignore[dict-item]
        notes = [*self.result.notes, *self.notes]
        return {
            **found,
            "notes": notes,
            "seconds": seconds,
            "plan": self.plan.as_json(),
            "history": self.entry.number if self.entry else None,
        }


def roll_out(
    project: Project,
    wanted: Wanted,
    report: Report,
    *,
    how: str = "apply",
    of: int | None = None,
    show: Callable[[Plan], None] = lambda plan: None,
    confirm: Callable[[Plan], bool] = lambda plan: True,
    prove: bool = True,
) -> Outcome:
    """Bring a spec into force.

    ``show`` is given the plan, ``confirm`` decides on it. ``how`` and ``of`` are what the history says of it. Raises
    DeclinedError, UnprovenError and what `apply.apply` raises; the servers then have what they had.
    """
    seconds: dict[str, float] = {}
    notes: list[str] = []
    with rendered.lock(project.root):
        began = time.monotonic()
        planned, before = _plan(project, wanted)
        seconds["plan"] = time.monotonic() - began
        show(planned)
        if not confirm(planned):
            raise DeclinedError("Nothing was changed.")
        names = touched(planned, everything=before is None or before.version != history.version())
        if prove and wanted.model is not None and (names is None or names):
            began = time.monotonic()
            notes += _prove(project, wanted.model, wanted.artifacts, report, names)
            seconds["test"] = time.monotonic() - began
        result = applying.apply(
            project, wanted.artifacts, wanted.secrets, report, accept=lambda: unhealthy(project), locked=True
        )
        if result.reloaded and wanted.model is not None:
            began = time.monotonic()
            notes += _verified(project, wanted.model, wanted.artifacts)
            seconds["verify"] = time.monotonic() - began
        entry = None
        if _is_new(before, wanted, result):
            try:
                seen = result.seconds["total"], result.confirmed
                entry = _keep(project, wanted, planned, how, of, len(result.changed), *seen)
            except history.HistoryError as error:
                notes.append(error.message)
        return Outcome(planned, result, entry, tuple(notes), seconds)


def _plan(project: Project, wanted: Wanted) -> tuple[Plan, Entry | None]:
    entry = history.last(project)
    files = rendered.differences(project.root, wanted.artifacts)
    digest = wanted.snapshot.digest
    if entry is not None and entry.digest == digest and entry.version == history.version():
        # The same text: nothing of it needs to be read again.
        return Plan(plan.named(entry), (), tuple(files)), entry
    return plan.make(plan.in_force(project), wanted.model, wanted.artifacts, files, digest), entry


def _is_new(before: Entry | None, wanted: Wanted, result: ApplyResult) -> bool:
    """Whether something is in force that was not: an apply that finds everything as it should be is no event."""
    if before is None or result.changed or result.reloaded:
        return True
    return (before.digest, before.rendered) != (wanted.snapshot.digest, history.rendered_digest(wanted.artifacts))


def started(project: Project, wanted: Wanted, changed: int) -> None:
    """Note in the history that the servers were started with this, ``changed`` rendered files of which were new."""
    with rendered.lock(project.root):
        planned, before = _plan(project, wanted)
        if before is None or before.digest != wanted.snapshot.digest:
            _keep(project, wanted, planned, "up", None, changed, 0.0, {})


def _keep(
    project: Project,
    wanted: Wanted,
    planned: Plan,
    how: str,
    of: int | None,
    changed: int,
    seconds: float,
    confirmed: Mapping[str, str],
) -> Entry:
    return history.keep(
        project,
        wanted.snapshot,
        wanted.artifacts,
        secrets=sorted({name for names in wanted.secrets.values() for name in names}),
        how=how,
        summary=planned.headline(),
        changes=[change.as_json() for change in planned.changes],
        changed=changed,
        seconds=seconds,
        confirmed=confirmed,
        of=of,
    )


# --- proof -------------------------------------------------------------------------------------------------------------------


def touched(planned: Plan, *, everything: bool = False) -> set[str] | None:
    """What of a spec needs a new proof, as ``service/name``; None for all of it.

    Who is told follows from routes that all alerts share, so a change there touches everything.
    """
    whole = {"setting", "receiver", "route", "routes", "hours", "routing"}
    if everything or any(change.kind in whole for change in planned.changes):
        return None
    names = set()
    for change in planned.changes:
        if change.action == "removed":
            continue
        if change.kind in ("service", "SLO", "alert", "probe"):
            names.add(change.name)
    return names


def _prove(project: Project, found: Model, artifacts: Sequence[Artifact], report: Report, names: set[str] | None) -> list[str]:
    """Have the alerts proven; what could not be, as notes. Raises UnprovenError with every failure."""
    from generator.proof import prove  # late: an apply of nothing new needs none of it

    report(
        "proving every alert" if names is None else f"proving the alerts of {', '.join(sorted(names)[:3])}" + _more(names, 3)
    )
    proof = prove(project, found, artifacts, report, None if names is None else sorted(names))
    if proof.failures:
        lines = [f"  {failure}" for failure in proof.failures[:_SHOWN]]
        lines += [f"  …{_more(proof.failures, _SHOWN)}"] if len(proof.failures) > _SHOWN else []
        raise UnprovenError(
            "\n".join(["Not every alert does what the spec says; nothing was changed.", *lines]),
            "Run `lgtm test` for all of it. `lgtm apply --no-test` applies it untested.",
        )
    unproven = sorted({f"{row.alert} of {row.subject}" for row in proof.table if row.unproven})
    return [f"Not proven in every part: {', '.join(unproven[:3])}{_more(unproven, 3)}."] if unproven else []


def _more(of: Collection[object], shown: int) -> str:
    return f" and {len(of) - shown} more" if len(of) > shown else ""


# --- a look at the servers ---------------------------------------------------------------------------------------------------


def unhealthy(project: Project) -> list[Fault]:
    """Rules in force that Prometheus cannot evaluate: those that it has just loaded are tried once.

    A query that parses can still fail on the data that is there, such as two series where one is wanted; that is found here
    and not half a minute later. What takes longer than ``_TRYING`` in all is left to Prometheus.
    """
    deadline = time.monotonic() + _TRYING
    with contextlib.closing(servers.Prometheus(project.url("prometheus"))) as client:
        fresh = [
            (group["file"], rule)
            for group in client.rule_groups()
            if f"/{rendered.GENERATED}/" in group["file"]
            for rule in group["rules"]
            if rule.get("health") == "unknown"
        ]

    def tried(some: Sequence[tuple[str, dict[str, Any]]]) -> list[Fault]:
        found = []
        with contextlib.closing(servers.Prometheus(project.url("prometheus"))) as client:
            for file, rule in some:
                if time.monotonic() > deadline:
                    break
                try:
                    client.call("POST", "/api/v1/query", form={"query": rule["query"]})
                except servers.AnswerError as error:
                    if error.status == 422:  # it cannot be executed; all else says nothing about the rule
                        place = f"prometheus/{rendered.GENERATED}/{file.partition(f'/{rendered.GENERATED}/')[2]}"
                        found.append(Fault("prometheus", f"{rule['name']} cannot be evaluated: {error.reason}", place))
                except servers.UnreachableError:
                    break
        return found

    with concurrent.futures.ThreadPoolExecutor(_TRIES) as pool:
        return [fault for faults in pool.map(tried, (fresh[i::_TRIES] for i in range(_TRIES))) for fault in faults]


def _verified(project: Project, found: Model, artifacts: Sequence[Artifact]) -> list[str]:
    """What else is not well with files, configuration and rules. Another change than this one brought it, so it is a note."""
    from generator import verify  # late: it is long

    failed = [check for check in verify.verify(project, found, artifacts, quick=True) if check.level == "fail"]
    return [f"{check.kind} {check.name}: {check.text}" for check in failed[:_SHOWN]] + (
        [f"…{_more(failed, _SHOWN)}; `lgtm verify` shows all"] if len(failed) > _SHOWN else []
    )
