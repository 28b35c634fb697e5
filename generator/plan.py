"""What an edit means before it is applied: two Models compared, in words and numbers.

It is meaning that is compared and not text: an objective that moved to ``defaults``, another order or a comment is no change;
an owner's new name is one, for it decides who is woken.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel

from generator import burn, history, model, render
from generator.errors import LgtmError
from generator.model import (
    Model,
    ResolvedAlert,
    ResolvedMaintenance,
    ResolvedProbe,
    ResolvedProcess,
    ResolvedRoute,
    ResolvedRouting,
    ResolvedService,
    ResolvedSlo,
    alert_labels,
)
from generator.progress import Report
from generator.project import Project
from generator.receivers import Receiver, Secret
from generator.render import Artifact
from generator.rendered import Difference
from generator.spec import Runbook
from generator.units import Duration, Threshold, percent, plain

if TYPE_CHECKING:
    from generator.backtest import Backtest

T = TypeVar("T")
Action = Literal["added", "changed", "removed"]
DASHBOARDS = "grafana/generated/dashboards/"

_DAY = 86400
# Days of data with which a replay means something: an hour.
_LEAST = 1 / 24
# What is noticed by an alert, in a verb.
_VERBS = {"critical": "pages", "warning": "warns", "info": "informs"}
_FILES: Mapping[str, Action] = {"missing": "added", "stale": "removed", "changed": "changed"}
_MARKS: Mapping[str, str] = {"added": "+", "changed": "~", "removed": "-"}


@dataclass(frozen=True)
class Change:
    """One thing that an edit adds, changes or removes. ``loses`` marks less watching or telling than there was."""

    action: Action
    kind: str
    name: str
    details: tuple[str, ...] = ()
    loses: bool = False

    @property
    def mark(self) -> str:
        """A sign for it, as in a diff."""
        return _MARKS[self.action]

    def as_json(self) -> dict[str, object]:
        """For tools, and for the history."""
        return {**asdict(self), "details": list(self.details)}

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Change:
        """From what `as_json` made."""
        return cls(data["action"], data["kind"], data["name"], tuple(data["details"]), data["loses"])


@dataclass(frozen=True)
class Baseline:
    """What a spec is compared with: in words, its Model (None where there is none), and what was rendered from it.

    ``digest`` names its spec where that is known, ``note`` says what is not as expected of it.
    """

    words: str
    model: Model | None = None
    artifacts: tuple[Artifact, ...] = ()
    digest: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class Impact:
    """An SLO's alerts before and after, replayed on the history that Prometheus has.

    ``days`` is how much of it; pages are counted, ``spent`` is when (Unix seconds) the budget would have been spent.
    """

    slo: str
    days: float
    pages: tuple[int | None, int]
    spent: tuple[float | None, float | None]
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What would change. ``against`` says in words what with; ``files`` are the rendered files that would be others."""

    against: str
    changes: tuple[Change, ...]
    files: tuple[Difference, ...]
    impacts: tuple[Impact, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether nothing would change."""
        return not self.changes and not self.files

    @property
    def loses(self) -> tuple[Change, ...]:
        """The changes after which less is watched, or fewer are told."""
        return tuple(change for change in self.changes if change.loses)

    def summary(self) -> str:
        """One line: how many things are added, changed and removed."""
        counts = [(sum(c.action == action for c in self.changes), action) for action in ("added", "changed", "removed")]
        what = ", ".join(f"{n} {action}" for n, action in counts if n) or "no change in meaning"
        files = f"{_count(len(self.files), 'rendered file')} {'differs' if len(self.files) == 1 else 'differ'}"
        return f"{what}; {files}" if self.files else "no changes" if not self.changes else what

    def headline(self) -> str:
        """One line for a list of applies: the first change with what it means, and how many more there are."""
        if len(self.changes) > 20 or not self.changes:
            return self.summary()
        first, *rest = self.changes
        about = f": {first.details[0]}" if first.details else f" {first.action}"
        sign = "" if first.action == "changed" and first.details else f"{first.mark} "
        return f"{sign}{first.kind} {first.name}{about}" + (f"; and {len(rest)} more" if rest else "")

    def as_json(self) -> dict[str, object]:
        """For tools."""
        return {
            "against": self.against,
            "summary": self.summary(),
            "changes": [change.as_json() for change in self.changes],
            "files": [{"path": d.path, "action": _FILES[d.kind]} for d in self.files],
            "backtest": [asdict(impact) for impact in self.impacts],
            "notes": list(self.notes),
        }

    def markdown(self) -> str:
        """For a pull request."""
        lines = [f"### Plan: {self.summary()}", "", f"Compared with {self.against}.", ""]
        if self.changes:
            lines += ["| | | What it means |", "|---|---|---|"]
            for c in self.changes:
                flag = " ⚠️" if c.loses else ""
                lines.append(f"| `{c.mark}` | {_cell(f'{c.kind} {c.name}')}{flag} | {'<br>'.join(map(_cell, c.details))} |")
            lines.append("")
        lines += [f"- {_cell(sentence)}" for impact in self.impacts for sentence in impact.sentences]
        lines += [f"- {_cell(note)}" for note in self.notes]
        if self.files:
            title = f"{_count(len(self.files), 'rendered file')} {'differs' if len(self.files) == 1 else 'differ'}"
            lines += ["", f"<details><summary>{title}</summary>", ""]
            lines += [f"- `{d.path}` ({_FILES[d.kind]})" for d in self.files[:100]]
            lines += [f"- … and {len(self.files) - 100} more"] if len(self.files) > 100 else []
            lines += ["", "</details>"]
        return "\n".join(lines).rstrip() + "\n"


def _cell(text: str) -> str:
    """A text inside a cell of a Markdown table: nothing in it is markup, ends the cell or calls somebody."""
    text = re.sub(r"([\\`*_|\[\]])", r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))
    return " ".join(text.replace("@", "@\u200b").split())


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


# --- what with ---------------------------------------------------------------------------------------------------------------


def in_force(project: Project) -> Baseline:
    """What was applied last. Nothing at all where that was never, or was kept by another version that we cannot read."""
    entry = history.last(project)
    if entry is None:
        return Baseline("nothing: no apply was made here yet")
    try:
        return applied(history.read(project, entry.number))
    except history.HistoryError as error:
        return Baseline(named(entry), note=f"{error.message} Everything counts as new.")


def named(entry: history.Entry) -> str:
    """An apply of the history, for people."""
    return f"apply {entry.number} ({entry.when()}, {entry.user})"


def applied(kept: history.Kept) -> Baseline:
    """One apply of the history."""
    entry = kept.entry
    words = named(entry)
    found = kept.snapshot.load().model
    note = None if found else f"Apply {entry.number} cannot be read by this version, so that everything counts as new."
    return Baseline(words, found, kept.artifacts, entry.digest, note)


def of_files(paths: Sequence[Path], variables: Mapping[str, str]) -> Baseline:
    """Other files. Raises LgtmError when they have errors."""
    names = ", ".join(str(path) for path in paths)
    found = model.load(list(paths), [str(path) for path in paths], variables=variables)
    return _without_errors(names, found)


def of_revision(revision: str, paths: Sequence[Path], variables: Mapping[str, str]) -> Baseline:
    """The same files as git has them in a revision. Raises LgtmError when there is no such revision, or they have errors.

    A file that was not there yet is no fault: everything in it is new.
    """
    here = paths[0].resolve().parent
    top = Path(_git(here, "rev-parse", "--show-toplevel").decode().strip())
    commit = _git(here, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}").decode().strip()
    names = [os.path.relpath(path.resolve(), top) for path in paths]
    known = _git(top, "ls-tree", "-r", "-z", "--name-only", "--full-tree", commit).decode(errors="replace").split("\0")
    if names[0] not in known:
        return Baseline(f"{revision}, which has no {names[0]}")
    wanted = [name for name in known if name in names or Path(name).suffix in (".yaml", ".yml", ".md")]
    # Any of them may be included by pattern, so all of them are read, in one go.
    request = "".join(f"{commit}:{name}\n" for name in wanted if "\n" not in name)
    answer = io.BytesIO(_git(top, "cat-file", "--batch", stdin=request.encode()))
    files = {}
    for name in (name for name in wanted if "\n" not in name):
        head = answer.readline().split()
        if len(head) != 3:
            continue  # "… missing": a submodule's
        content = answer.read(int(head[2]))
        answer.read(1)
        with contextlib.suppress(UnicodeDecodeError):
            files[name] = content.decode("utf-8-sig")
    found = history.Snapshot(files, tuple(name for name in names if name in files), variables).load()
    return _without_errors(revision, found)


def _without_errors(words: str, found: model.Result) -> Baseline:
    if found.model is None:
        first = found.errors[0]
        raise LgtmError(
            f"{words} cannot be compared with: {first.span.file}:{first.span.line}: {first.message}.",
            "Compare with another revision or file, one that `lgtm validate` has nothing against.",
        )
    return Baseline(words, found.model, tuple(render.everything(found.model)))


def _git(directory: Path, *words: str, stdin: bytes = b"") -> bytes:
    try:
        done = subprocess.run(["git", "-C", str(directory), *words], input=stdin, capture_output=True, check=False)  # noqa: S607
    except FileNotFoundError:
        raise LgtmError("git is not installed.", "Name a file with --against instead of a revision.") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        why = said[-1] if said else "there is no such file or revision"
        raise LgtmError(f"Nothing to compare with: {why}.", "Name a file, or a branch, tag or commit that `git show` knows.")
    return done.stdout


def make(
    against: Baseline, found: Model | None, artifacts: Sequence[Artifact], files: Sequence[Difference], digest: str = ""
) -> Plan:
    """The plan from what is there to a Model and what was rendered from it. ``files`` are the rendered ones that differ.

    ``digest`` names the Model's spec: where it is that of ``against``, nothing needs to be compared. ``found`` is None where
    the spec cannot be read any more; then only files are told of.
    """
    notes = [against.note] if against.note else []
    changes: list[Change] = []
    if found is None:
        notes.append("Its spec cannot be read by this version, so that only files are compared.")
    elif against.digest is None or against.digest != digest:
        changes = compare(against.model, found, against.artifacts, artifacts)
    if files and not changes and against.model is not None:
        notes.append("The spec means the same; the rendered files on disk are not those that follow from it.")
    return Plan(against.words, tuple(changes), tuple(files), notes=tuple(notes))


# --- on the history that there is --------------------------------------------------------------------------------------------


def with_impact(
    planned: Plan,
    old: Model | None,
    new: Model,
    url: str,
    days: int,
    report: Report,
    *,
    end: float | None = None,
) -> Plan:
    """The plan with what the SLOs and alerts that change would have done in the last days, by the Prometheus at ``url``.

    ``end`` (Unix seconds) is when these days end; now when left out. Where no Prometheus is in reach, or it has no data of
    them, that is a note.
    """
    from generator import backtest as backtesting  # late: it is not needed where nothing changes

    was, now = (_watchers(old) if old else {}), _watchers(new)
    keys = {key for key, watcher in now.items() if was.get(key) != watcher}
    if not keys:
        return planned
    source = backtesting.Source(url, timeout=60)
    end = time.time() if end is None else end
    start = end - days * _DAY
    try:
        after = backtesting.backtest(new, source, start, end, only=keys, report=report)
        both = keys & was.keys()
        before = backtesting.backtest(old, source, start, end, only=both, report=report) if old and both else None
    except LgtmError as error:
        return replace(planned, notes=(*planned.notes, f"Not replayed on history: {error.message}"))
    finally:
        source.close()
    slos = {(slo.service, slo.name) for slo in new.slos}
    impacts, young, refused = [], [], []
    for key in (key for key in now if key in keys):
        # Of an alert on a cause it is not known since when there is data.
        days_known = (after.end - max(after.start, after.since.get(key, after.start))) / _DAY
        name = "/".join(key)
        if key in after.failed:
            refused.append(f"{name} was not replayed: {after.failed[key]}")
            continue
        if key in after.no_data or days_known < _LEAST:
            young.append(name)
            continue
        severities = ("critical",) if key in slos else ("critical", "warning", "info")
        told = before is not None and key in was and key not in before.no_data and key not in before.failed
        pages = _pages(before, key, severities) if before is not None and told else None
        spent = (before.spent.get(key) if before else None), after.spent.get(key)
        impact = Impact(name, round(days_known, 2), (pages, _pages(after, key, severities)), spent, ())
        impacts.append(replace(impact, sentences=(_impact_words(impact, after.start, slo=key in slos),)))
    notes = (f"Prometheus has no history yet of {_some(young)}.",) if young else ()
    return replace(planned, impacts=tuple(impacts), notes=(*planned.notes, *notes, *refused))


def _watchers(found: Model) -> dict[tuple[str, str], object]:
    """What decides when an SLO or an alert fires, by service and name."""
    slos = {
        (s.service, s.name): (s.objective, s.window, s.sli, _queries(s), s.burn, s.minimum_events, s.by, s.exhausted, s.freeze)
        for s in found.slos
        if not s.sla_of
    }
    alerts = {
        (a.service, a.name): (a.expr, a.above, a.below, a.hold, a.severity, a.absent) for s in found.services for a in s.alerts
    }
    return {**slos, **alerts}


def _pages(found: Backtest, key: tuple[str, str], severities: Collection[str]) -> int:
    return sum((page.service, page.slo or page.alert) == key and page.severity in severities for page in found.pages)


def _impact_words(impact: Impact, start: float, *, slo: bool) -> str:
    was, now = impact.pages
    times = f"{now} as before" if was == now else str(now) if was is None else f"{was} → {now}"
    then, soon = impact.spent
    budget = ""
    if soon is not None:
        day = "before that" if soon <= start else f"on {_day(soon)}"
        budget = f"; the budget would have been spent {day}" + (f" (now: on {_day(then)})" if then else "")
    elif then is not None:
        budget = f"; the budget would have lasted (now it was spent on {_day(then)})"
    span = f"{impact.days:.0f} days" if impact.days >= 2 else minutes(Decimal(round(impact.days * _DAY)))
    return f"{impact.slo} in the last {span}: {'pages' if slo else 'fires'} {times}{budget}"


def _day(at: float) -> str:
    then = datetime.fromtimestamp(at).astimezone()
    return f"{then.day} {then:%B %H:%M}"


# --- two Models --------------------------------------------------------------------------------------------------------------


def compare(old: Model | None, new: Model, before: Sequence[Artifact] = (), after: Sequence[Artifact] = ()) -> list[Change]:
    """What is different in meaning. ``old`` is None where nothing was in force; ``before`` and ``after`` are what was
    rendered from each, read for the dashboards.
    """
    services = list(_both("service", _services(old), _services(new), _service_added, _service_changed))
    parts = [
        *_both("SLO", _slos(old), _slos(new), _Added(new).slo, _slo_changed, was=_slo_was, watches=True),
        *_both("alert", _alerts(old), _alerts(new), _Added(new).alert, _alert_changed, was=_alert_was, watches=True),
        *_both("probe", _probes(old), _probes(new), _probe_added, _probe_changed, was=_probe_added, watches=True),
        *_both("process", _processes(old), _processes(new), _process_added, _process_changed),
    ]
    return [
        *_settings(old, new),
        *services,
        *_not_inherited(parts, services),
        *_routing(old, new),
        *_both("maintenance", _windows(old), _windows(new), _maintenance_words, _maintenance_changed),
        *_dashboards(before, after, new=old is None),
    ]


def _both(
    kind: str,
    old: Mapping[str, T],
    new: Mapping[str, T],
    added: Callable[[T], Sequence[str]],
    changed: Callable[[T, T], Sequence[str]],
    *,
    was: Callable[[T], Sequence[str]] = lambda value: (),
    watches: bool = False,
) -> Iterator[Change]:
    """What is new, what is gone, and what differs by ``changed``, in the order of the new and then of the old file."""
    for name, value in new.items():
        if name not in old:
            yield Change("added", kind, name, tuple(added(value)))
        elif old[name] != value and (details := tuple(changed(old[name], value))):
            yield Change("changed", kind, name, details)
    for name in old:
        if name not in new:
            yield Change("removed", kind, name, tuple(was(old[name])), loses=watches)


def _not_inherited(parts: Sequence[Change], services: Sequence[Change]) -> Iterator[Change]:
    """Changes of a service's parts without what is told of the service already."""
    told = {c.name: {d for d in c.details if d.startswith(("owner ", "tier "))} for c in services if c.action == "changed"}
    for part in parts:
        details = tuple(d for d in part.details if d not in told.get(part.name.partition("/")[0], ()))
        if details or not part.details:
            yield replace(part, details=details)


def _services(found: Model | None) -> dict[str, ResolvedService]:
    return {s.name: s for s in found.services} if found else {}


def _slos(found: Model | None) -> dict[str, ResolvedSlo]:
    return {f"{s.service}/{s.name}": s for s in found.slos} if found else {}


def _alerts(found: Model | None) -> dict[str, ResolvedAlert]:
    return {f"{s.name}/{a.name}": a for s in found.services for a in s.alerts} if found else {}


def _probes(found: Model | None) -> dict[str, ResolvedProbe]:
    return {f"{s.name}/{p.name}": p for s in found.services for p in s.probes} if found else {}


def _processes(found: Model | None) -> dict[str, ResolvedProcess]:
    return {f"{s.name}/{p.id}": p for s in found.services for p in s.processes} if found else {}


def _windows(found: Model | None) -> dict[str, ResolvedMaintenance]:
    return {m.name: m for m in found.maintenance} if found else {}


def _settings(old: Model | None, new: Model) -> Iterator[Change]:
    """What belongs to the whole file."""
    if old is None:
        return
    known = {"labels": "labels of every alert", "grafana": "the address that links lead to", "timezone": "time zone"}
    for name, sentence in _differences(old, new, known, skip=("services", "routing", "maintenance")):
        yield Change("changed", "setting", name, (sentence,))


# --- services, processes, probes, alerts -------------------------------------------------------------------------------------


def _service_added(service: ResolvedService) -> list[str]:
    parts = [(len(service.slos), "SLO"), (len(service.alerts), "alert"), (len(service.probes), "probe")]
    has = ", ".join(_count(n, word) for n, word in parts if n) or "nothing is watched of it"
    return [f"{service.title}: {has}; owner {service.owner}, tier {service.tier}"]


def _service_changed(old: ResolvedService, new: ResolvedService) -> list[str]:
    words = {"match": "matchers", "interval": "metrics arrive every", "depends_on": "depends on", "scrape": "scraped"}
    parts = ("probes", "slos", "alerts", "processes")
    return [sentence for _, sentence in _differences(old, new, words, skip=parts)]


def _process_added(process: ResolvedProcess) -> list[str]:
    return [f"{process.name}: {_count(len(process.slos), 'objective')}, tier {process.tier}"]


def _process_changed(old: ResolvedProcess, new: ResolvedProcess) -> list[str]:
    return [sentence for _, sentence in _differences(old, new, {"sla": "may take"}, skip=("slos",))]


def _probe_added(probe: ResolvedProbe) -> list[str]:
    alarm = f"{_VERBS[probe.severity]} after {_noticed(probe)} of failing" if probe.severity else "no alert"
    return [f"{probe.url} every {probe.interval}; {alarm}"]


def _noticed(probe: ResolvedProbe) -> str:
    return str(probe.interval * probe.failures)


def _probe_changed(old: ResolvedProbe, new: ResolvedProbe) -> list[str]:
    words = {"slower_than": "failed when slower than", "failures": "failures in a row", "status": "good statuses"}
    out = [sentence for _, sentence in _differences(old, new, words)]
    if old.severity and new.severity and _noticed(old) != _noticed(new):
        out.append(f"a failure is noticed in {_noticed(old)} → {_noticed(new)}")
    return out


def _alert_changed(old: ResolvedAlert, new: ResolvedAlert) -> list[str]:
    words = {"expr": "looks at", "hold": "holds for", "outage": "mutes what depends on it", "absent": "fires when absent"}
    return [sentence for _, sentence in _differences(old, new, words)]


def _alert_was(alert: ResolvedAlert) -> list[str]:
    return [f"{alert.summary}; {alert.severity}"]


class _Added:
    """What is told of an SLO or an alert that is new: who will hear of it."""

    def __init__(self, new: Model) -> None:
        self.reached: dict[str, dict[str, list[str]]] = {}
        for what, labels in alert_labels(new):
            by_severity = self.reached.setdefault(what, {})
            told = by_severity.setdefault(labels["severity"], [])
            if (who := reached(new.routing, labels)) not in told:
                told.append(who)

    def slo(self, slo: ResolvedSlo) -> list[str]:
        out = [f"{_objective(slo)}: {slo.sli.describe()}", f"budget {_budget(slo)} of outage {_over(slo.window)}"]
        found = burn.conditions(slo)
        for severity in burn.SEVERITIES:
            if (seconds := burn.first(found, severity, 0)) is not None:
                out.append(f"{_VERBS[severity]} {burn.shown(seconds)} into an outage of 100%{self.told(slo, severity)}")
        return out

    def alert(self, alert: ResolvedAlert) -> list[str]:
        name = f"{alert.service}/{alert.name}"
        told = ", ".join(self.reached.get(name, {}).get(alert.severity, ())) or "nobody"
        return [f"{alert.summary}; {alert.severity}, reaches {told}"]

    def told(self, slo: ResolvedSlo, severity: str) -> str:
        who = self.reached.get(f"{slo.service}/{slo.name}", {}).get(severity, [])
        return f", reaches {', '.join(who) or 'nobody'}"


# --- SLOs --------------------------------------------------------------------------------------------------------------------


def _slo_changed(old: ResolvedSlo, new: ResolvedSlo) -> list[str]:
    out = []
    if (old.objective, old.window) != (new.objective, new.window):
        out.append(f"objective {_objective(old)} → {_objective(new)}")
        was, now = _budget(old), _budget(new)
        if old.window == new.window:
            out.append(f"budget {was} → {now} of outage {_over(new.window)}")
        else:
            out.append(f"budget {was} of outage {_over(old.window)} → {now} {_over(new.window)}")
    out += _indicator(old, new)
    out += _burning(old, new)
    if old.sla != new.sla:
        out.append(f"SLA {_sla(old)} → {_sla(new)}")
    words = {"by": "a budget of its own for each", "minimum_events": "bad events that an alert needs", "policy": "alerting"}
    # A context has the whole service in it; what of that an SLO reads was compared with its queries.
    skip = ("objective", "window", "sli", "context", "burn", "sla")
    return out + [sentence for _, sentence in _differences(old, new, words, skip=skip)]


def _slo_was(slo: ResolvedSlo) -> list[str]:
    return [f"{_objective(slo)}: {slo.sli.describe()}"]


def _objective(slo: ResolvedSlo) -> str:
    return f"{percent(slo.objective)} over {slo.window}"


def _sla(slo: ResolvedSlo) -> str:
    return f"{percent(slo.sla.objective)} a {slo.sla.period}" if slo.sla else "none"


def _over(window: Duration) -> str:
    days = window.seconds / _DAY
    return "a month" if 28 <= days <= 31 else "a week" if days == 7 else f"in {window}"


def _budget(slo: ResolvedSlo) -> str:
    """The budget as if every event of an outage were bad: the share that may be, of the window."""
    return minutes(slo.budget * slo.window.seconds)


def minutes(seconds: Decimal) -> str:
    """A length of time with three figures at most: ``26 s``, ``43.2 min``, ``7.2 h``."""
    for unit, size, limit in (("s", 1, 120), ("min", 60, 180 * 60), ("h", 3600, 72 * 3600)):
        if seconds < limit:
            return f"{_figures(seconds / size)} {unit}"
    return f"{_figures(seconds / _DAY)} d"


def _figures(value: Decimal) -> str:
    return plain(Decimal(f"{value:.3g}"))


def _indicator(old: ResolvedSlo, new: ResolvedSlo) -> list[str]:
    """What counts as bad, and how it is read."""
    if old.sli.describe() != new.sli.describe() or old.sli.kind != new.sli.kind:
        return [f"bad is what {new.sli.describe()!r} finds (was {old.sli.describe()!r})"]
    if old.sli != new.sli:
        return [sentence for _, sentence in _differences(old.sli, new.sli, {})]
    if _queries(old) == _queries(new):
        return []
    if old.context.match != new.context.match:
        return [f"reads series with {_value(new.context.match)} (was {_value(old.context.match)})"]
    if old.context.range != new.context.range:
        return [f"rates over {old.context.range} → {new.context.range}"]
    return ["reads its metrics by other queries"]


def _queries(slo: ResolvedSlo) -> tuple[str, str]:
    return slo.sli.errors(slo.context), slo.sli.total(slo.context)


def _burning(old: ResolvedSlo, new: ResolvedSlo) -> list[str]:
    """How soon the burn-rate alerts notice what, and at which burn rate, where that is another now."""
    was, now = burn.conditions(old), burn.conditions(new)
    out = []
    for severity in burn.SEVERITIES:
        before = {(c.window.long, c.window.short): c for c in was if c.severity == severity}
        after = {(c.window.long, c.window.short): c for c in now if c.severity == severity}
        verb = _VERBS[severity]
        for key, c in after.items():
            if key not in before:
                out.append(f"also {verb} at {_rate(c)} over {key[0]} and {key[1]}")
            elif _rate(before[key]) != _rate(c):
                out.append(f"{verb} at {_rate(before[key])} → {_rate(c)} over {key[0]}")
        out += [f"no longer {verb} at {_rate(c)} over {k[0]} and {k[1]}" for k, c in before.items() if k not in after]
        times = []
        for index, outage in enumerate(("100%", "10%", "1%")):
            then, soon = (burn.shown(burn.first(found, severity, index)) for found in (was, now))
            if then != soon:
                times.append(f"of {outage} {then if then == 'never' else f'after {then}'} → {soon}")
        if times and after:
            rates = " and ".join(dict.fromkeys(_rate(c) for c in after.values()))
            out.append(f"{verb} (at {rates}): an outage {', '.join(times)}")
    return out


def _rate(condition: burn.Condition) -> str:
    return f"{_figures(condition.window.factor)}x"


# --- who is told -------------------------------------------------------------------------------------------------------------


def reached(routing: ResolvedRouting, labels: Mapping[str, str]) -> str:
    """Who an alert with these labels is sent to, with hours and escalation, in words."""
    routes = routing.matching(labels)
    told = [_told(route) for route in routes]
    if not routing.closed(routes):
        told.append(" + ".join(routing.default) or "nobody")
    return ", ".join(dict.fromkeys(told))


def _told(route: ResolvedRoute) -> str:
    when = f" during {route.during}" if route.during else f" outside {route.outside}" if route.outside else ""
    return " + ".join(route.to) + when + "".join(f", after {after} {' + '.join(to)}" for after, to in route.escalate)


def _routing(old: Model | None, new: Model) -> Iterator[Change]:
    before = old.routing if old else None
    yield from _both("receiver", before.receivers if before else {}, new.routing.receivers, _receiver_words, _receiver_changed)
    was, now = _routes(before), _routes(new.routing)
    yield from _both("route", was, now, lambda r: [_told(r)], lambda a, b: [f"{_told(a)} → {_told(b)}"])
    if before is not None and was.keys() == now.keys() and list(was) != list(now):
        yield Change("changed", "routes", "order", ("tried in another order",))
    yield from _both(
        "hours",
        before.hours if before else {},
        new.routing.hours,
        lambda h: [h.describe()],
        lambda a, b: [f"{a.describe()} → {b.describe()}"],
    )
    if before is not None:
        words = {"wait": "the first message of a group waits", "interval": "news of a group after", "repeat": "repeated after"}
        for name, sentence in _differences(before, new.routing, words, skip=("receivers", "routes", "hours")):
            yield Change("changed", "routing", name, (sentence,))
    yield from _on_call(old, new)


def _routes(routing: ResolvedRouting | None) -> dict[str, ResolvedRoute]:
    """Routes by what they match and when; the same twice is numbered."""
    found: dict[str, ResolvedRoute] = {}
    for route in routing.routes if routing else ():
        match = " ".join(f"{label}={'|'.join(values)}" for label, values in route.match.items()) or "everything"
        when = f" during {route.during}" if route.during else f" outside {route.outside}" if route.outside else ""
        name, number = match + when, 1
        while name in found:
            number += 1
            name = f"{match}{when} ({number})"
        found[name] = route
    return found


def _on_call(old: Model | None, new: Model) -> Iterator[Change]:
    """Who hears of the alerts that both files make, found by sending each through both files' routes."""
    if old is None:
        return
    was = {(what, labels["alertname"]): reached(old.routing, labels) for what, labels in alert_labels(old)}
    moved: dict[tuple[str, str, str, str], list[str]] = {}
    total: dict[tuple[str, str], int] = {}
    for what, labels in alert_labels(new):
        who = labels["severity"], labels["owner"]
        total[who] = total.get(who, 0) + 1
        now = reached(new.routing, labels)
        before = was.get((what, labels["alertname"]))
        if before is not None and before != now:
            moved.setdefault((*who, before, now), []).append(f"{labels['alertname']} of {what}")
        elif before is None and now == "nobody":
            moved.setdefault((*who, "", now), []).append(f"{labels['alertname']} of {what}")
    for (severity, owner, before, now), alerts in moved.items():
        every = "every one" if len(alerts) == total[severity, owner] else f"{len(alerts)} of {total[severity, owner]}"
        such = f"{every}, such as {alerts[0]}" if len(alerts) > 1 else alerts[0]
        sentence = f"now {'reach' if before else 'would reach'} {now}" + (f" instead of {before}" if before else "")
        yield Change("changed", "on-call", f"{severity} alerts of {owner}", (f"{sentence} ({such})",), loses=now == "nobody")


def _receiver_words(parts: Sequence[Receiver]) -> list[str]:
    return [", ".join(part.kind for part in parts)]


def _receiver_changed(old: Sequence[Receiver], new: Sequence[Receiver]) -> list[str]:
    was, now = {part.kind: part for part in old}, {part.kind: part for part in new}
    out = [f"also {kind}" for kind in now if kind not in was] + [f"no longer {kind}" for kind in was if kind not in now]
    for kind in now:
        if kind in was and was[kind] != now[kind]:
            out += [f"{kind}: {sentence}" for _, sentence in _differences(was[kind], now[kind], {})] or [f"{kind} changed"]
    return out


def _maintenance_words(window: ResolvedMaintenance) -> list[str]:
    whose = ", ".join(window.services) or "all services"
    return [f"mutes {whose}: {window.when.describe()}" + (f" ({window.reason})" if window.reason else "")]


def _maintenance_changed(old: ResolvedMaintenance, new: ResolvedMaintenance) -> list[str]:
    return [f"{_maintenance_words(old)[0]} → {_maintenance_words(new)[0]}"]


# --- dashboards --------------------------------------------------------------------------------------------------------------


def _dashboards(before: Sequence[Artifact], after: Sequence[Artifact], *, new: bool) -> Iterator[Change]:
    was = {} if new else _pages_of(before)
    now = _pages_of(after)
    others = []
    if new and now:
        yield Change("added", "dashboards", _some([str(page["title"]) for page in now.values()]))
        return
    for uid, page in now.items():
        title = str(page["title"])
        if uid not in was:
            yield Change("added", "dashboard", title, (_count(len(_panels(page)), "panel"),))
        elif was[uid] != page:
            then, soon = _panels(was[uid]), _panels(page)
            came, went = [t for t in soon if t not in then], [t for t in then if t not in soon]
            details = [f"{word}: {_some(titles)}" for word, titles in (("new panels", came), ("without", went)) if titles]
            if details:
                yield Change("changed", "dashboard", title, tuple(details))
            else:
                others.append(title)
    if others:
        yield Change("changed", "dashboards", _some(others), ("the same panels, with other queries, limits or texts",))
    for uid, page in was.items():
        if uid not in now:
            yield Change("removed", "dashboard", str(page["title"]))


def _pages_of(artifacts: Sequence[Artifact]) -> dict[str, dict[str, Any]]:
    """The dashboards among rendered files by uid, whatever folder they lie in."""
    found = [json.loads(artifact.text) for artifact in artifacts if artifact.path.startswith(DASHBOARDS)]
    return {page["uid"]: page for page in found}


def _panels(of: Mapping[str, Any]) -> list[str]:
    found = []
    for panel in of.get("panels") or ():
        found += [str(panel.get("title") or panel.get("type")), *_panels(panel)]
    return found


def _some(titles: Sequence[str]) -> str:
    return ", ".join(titles[:4]) + (f" and {len(titles) - 4} more" if len(titles) > 4 else "")


# --- any two things of one kind ----------------------------------------------------------------------------------------------


def _differences(old: object, new: object, words: Mapping[str, str], skip: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Every field that differs, with a sentence: also those that came to the Model after this was written."""
    names = [one.name for one in fields(old)] if is_dataclass(old) else list(_values(old))
    if isinstance(new, BaseModel):
        names += [name for name in _values(new) if name not in names]
    out = []
    for name in names:
        was, now = getattr(old, name, None), getattr(new, name, None)
        if name in skip or was == now:
            continue
        word = words.get(name, name.rstrip("_").replace("_", " "))
        if isinstance(old, Receiver) and name == "url":
            was, now = _address(was), _address(now)
            out.append((name, f"{word} {was} → {now}" if was != now else f"{word} at {now} has another path"))
        elif _long(was) or _long(now):
            verb = "is new" if not was else "is gone" if not now else "changed"
            out.append((name, f"{word} {verb}{_which(was, now)}"))
        else:
            out.append((name, f"{word} {_value(was)} → {_value(now)}"))
    return out


def _values(of: object) -> Mapping[str, Any]:
    return {name: getattr(of, name) for name in type(of).model_fields} if isinstance(of, BaseModel) else {}


def _long(value: object) -> bool:
    """Whether a value is one that no line has room for."""
    if isinstance(value, Runbook) or (is_dataclass(value) and not isinstance(value, Duration | Threshold)):
        return True
    if isinstance(value, Mapping | tuple | list):
        members = list(value.values()) if isinstance(value, Mapping) else list(value)
        return any(_long(member) for member in members) or len(_value(value)) > 100
    return isinstance(value, BaseModel) and not isinstance(value, Secret) and len(type(value).model_fields) > 1


def _which(was: object, now: object) -> str:
    """Which members of a collection, or fields of a part, differ."""
    if isinstance(was, BaseModel) and type(was) is type(now):
        old, new = _values(was), _values(now)
    elif isinstance(was, Mapping) and isinstance(now, Mapping):
        old, new = was, now
    else:
        return ""
    names = [str(name) for name in {**new, **old} if old.get(name) != new.get(name)]
    return f": {_some(names)}" if names else ""


def _value(value: object) -> str:
    """A value for people, on one line."""
    if value is None or value == () or value == [] or value == {}:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, Threshold):
        return value.text
    if isinstance(value, Secret):
        return f"the secret {value.name}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_value(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, tuple | list):
        return ", ".join(_value(inner) for inner in value)
    if isinstance(value, BaseModel):
        return _value({k: v for k, v in _values(value).items() if v not in (None, [], {})})
    if is_dataclass(value) and not isinstance(value, Duration):
        return _value({one.name: getattr(value, one.name) for one in fields(value)})
    text = " ".join(str(value).split())
    return text if len(text) <= 100 else text[:99] + "…"


def _address(url: object) -> str:
    """A receiver's URL without its path, for that may be what keeps a webhook's address from being guessed."""
    if not isinstance(url, str):
        return _value(url)
    host = "/".join(url.split("/")[:3])
    return host if url in (host, f"{host}/") else f"{host}/…"
