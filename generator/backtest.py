"""The file's alerts replayed on history: what each would have done, with the data that Prometheus still has.

Prometheus evaluates the SLIs' own expressions, in ranges, every ``step`` seconds: errors and total, as its rules would have
recorded them. All that follows from these two is arithmetic of sums, and is done here as ``render/rules.py`` says it: windows
of sums, the slow tier, thresholds, the minimum of events. Threshold alerts and probes are asked for as they are rendered.

One list holds all conditions of a severity: for each evaluation the budget below which the alert would fire. So another
objective is another threshold on the same list, and costs nearly nothing.
"""

from __future__ import annotations

import csv
import ipaddress
import math
import re
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from itertools import accumulate
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import requests
import yaml

from generator import names
from generator.diagnostics import did_you_mean
from generator.errors import LgtmError
from generator.model import Model, ResolvedService, ResolvedSlo
from generator.progress import Report
from generator.promql import quote
from generator.render import rules
from generator.servers import AnswerError, Client, UnreachableError, value
from generator.units import Duration

Labels = frozenset[tuple[str, str]]
Key = tuple[str, str]

STEP = int(rules.STEP.seconds)
SLOW_STEP = int(rules.SLOW_STEP.seconds)
STEPS = (STEP, 60, SLOW_STEP)
HOUR, DAY, WEEK = 3600, 86_400, 604_800
# Three days of 30 s. Prometheus answers no query of more than 11,000 points, and Mimir caches whole days.
POINTS = 8640
_FEWEST_POINTS = 60
# How long `SLONoData` waits.
_NO_DATA_HOLD = 300

LADDER = tuple(Decimal(text) / 100 for text in ("99.99", "99.95", "99.9", "99.5", "99", "98", "97", "95", "90"))
# What must have been left of a budget at its worst for an objective to be proposed.
MARGIN = 0.25


# --- The answer ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Page:
    """One alert from its start to its end, in Unix time; ``end`` is None when it still fires at the end of the history.

    ``severity`` is the alert's: "critical" pages somebody, others are tickets. ``slo`` is empty for alerts that belong to no
    SLO. ``group`` holds the labels that tell one from another: those of ``by``, or those of a threshold alert's series.
    """

    service: str
    slo: str
    alert: str
    severity: str
    group: Mapping[str, str]
    start: float
    end: float | None


@dataclass(frozen=True)
class Candidate:
    """What history would have made of an objective.

    ``worst`` and ``remaining`` are shares of the budget: the least that was left over a whole window of the SLO, and what is
    left at the end. ``pages`` and ``tickets`` count alerts that began in the time replayed. ``events`` is how many bad events
    a window's budget holds; ``pageable`` tells whether every condition of the policy can hold at all (factor × budget < 1).
    """

    objective: Decimal
    worst: float
    remaining: float
    pages: int
    tickets: int
    events: float
    pageable: bool
    supported: bool


@dataclass(frozen=True)
class Suggestion:
    """The candidates for an SLO, strictest first, and the one that is proposed: None when history supports none.

    ``lived`` is how many seconds of data there are, at most ``window``, the SLO's: a shorter history is taken as if it went on
    like that.
    """

    service: str
    slo: str
    objective: Decimal
    proposed: Decimal | None
    lived: float
    window: float
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class Backtest:
    """What a file's alerts would have done from ``start`` to ``end`` (Unix time). SLOs are (service, name).

    ``spent`` is when a budget was first used up within that time, None where it never was; ``remaining`` the share left at the
    end; of SLOs with groups, the worst group's. Both are None for SLOs in ``no_data``, of which nothing at all was measured,
    and in ``failed``: SLOs and alerts of which the server would not answer a query, with its reason.
    ``since`` is the first sample of each other one, which may be before ``start``. ``budget`` is the share left at every whole
    hour. ``notes`` are sentences about what was replayed in another way than it would run, by SLO or alert.
    """

    start: float
    end: float
    pages: list[Page]
    spent: dict[Key, float | None]
    remaining: dict[Key, float | None]
    no_data: list[Key]
    since: dict[Key, float] = field(default_factory=dict)
    budget: dict[Key, list[tuple[float, float]]] = field(default_factory=dict)
    suggestions: list[Suggestion] = field(default_factory=list)
    failed: dict[Key, str] = field(default_factory=dict)
    notes: list[tuple[Key, str]] = field(default_factory=list)

    def weeks(self, key: Key | None = None) -> float:
        """Weeks that were replayed: of everything, or the part of it in which an SLO had data."""
        start = self.start if key is None else max(self.start, self.since.get(key, self.start))
        return max(self.end - start, 1) / WEEK


# --- The source ---------------------------------------------------------------------------------------------------------------

# What servers say when a query is too much for them, and half of it may not be: Prometheus, Mimir, Thanos, VictoriaMetrics.
_TOO_MUCH = re.compile(r"exceed|too many|too large|limit|timed out|timeout|max-|maxS|cannot select more", re.IGNORECASE)


class LimitError(LgtmError):
    """A server answers even a short range with an error about a limit of its own."""


class Source(Client):
    """The query API of Prometheus, or of what speaks like it, at ``url``: for Mimir it ends in ``/prometheus``.

    ``headers`` are sent with each query. ``token`` is a bearer token or, with ``user``, the password of basic authentication.
    """

    name = "prometheus"

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        token: str | None = None,
        user: str | None = None,
        timeout: float = 300,
    ) -> None:
        super().__init__(url.rstrip("/"), timeout=timeout)
        # Proxies and certificates of the environment are for other machines.
        self._session.trust_env = not _here(url)
        self._session.headers.update(headers or {})
        if user is not None:
            self._session.auth = (user, token or "")
        elif token is not None:
            self._session.auth = _Bearer(token)
        self.warnings: list[str] = []

    def range(self, expr: str, start: int, end: int, step: int) -> dict[Labels, list[tuple[int, float]]]:
        """The series of an expression at ``start``, ``start + step``, … up to ``end`` (Unix seconds), by their labels.

        Asks for as much at once as the server answers. Raises LgtmError: LimitError where it answers nothing at all.
        """
        found: dict[Labels, list[tuple[int, float]]] = {}
        at, points = start, POINTS
        while at <= end:
            last = min(end, at + (points - 1) * step)
            form = {"query": expr, "start": str(at), "end": str(last), "step": str(step)}
            try:
                rows = self._ask("/api/v1/query_range", form)["result"]
            except AnswerError as error:
                if not (error.status in (400, 413, 422, 429, 500, 503, 504) and _TOO_MUCH.search(error.reason)):
                    raise self._refusal(error) from None
                if points <= _FEWEST_POINTS:
                    raise LimitError(
                        f"{self.url} refuses even {_FEWEST_POINTS} points of a query: {_short(error.reason)}",
                        "Try --step 5m, or raise the limit on the server (Prometheus: --query.max-samples, --query.timeout).",
                    ) from None
                points = max(points // 2, _FEWEST_POINTS)
                continue
            for row in rows:
                samples = found.setdefault(frozenset(row["metric"].items()), [])
                samples += [(int(t), float(v)) for t, v in row.get("values", ())]
            at = last + step
        return found

    def retention(self) -> float | None:
        """For how many seconds it keeps data, None where it does not say. Raises LgtmError when it cannot be asked at all."""
        try:
            said = str(self._ask("/api/v1/status/runtimeinfo", None).get("storageRetention", ""))
        except AnswerError as error:
            if error.status in (401, 403):
                raise self._refusal(error) from None
            return None  # Mimir and others have no such page
        try:
            return float(Duration.of(said.partition(" or ")[0]).seconds)
        except ValueError:
            return None

    def earliest(self) -> float:
        """The Unix time before which it has nothing, 0 where it does not say: only Prometheus itself does."""
        try:
            samples = self.metrics("prometheus_")
        except LgtmError:
            return 0
        if any(sample.name.startswith("prometheus_remote_storage_read_") for sample in samples):
            return 0  # what it reads elsewhere may be older
        return value(samples, "prometheus_tsdb_lowest_timestamp_seconds", 0)

    def _ask(self, path: str, form: Mapping[str, str] | None) -> dict[str, Any]:
        try:
            answer = self.call("GET" if form is None else "POST", path, form=form)
        except UnreachableError as error:
            raise LgtmError(
                f"{self.url} does not answer: {error.why}.",
                "Is the stack up (lgtm status), or the address right? Name another one with --prometheus URL.",
            ) from None
        try:
            body = answer.json()
            data = body["data"]
            self.warnings += [str(w) for w in body.get("warnings") or () if str(w) not in self.warnings]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise LgtmError(
                f"{self.url} answers, but not as Prometheus does: {_short(answer.text)}",
                "Name the address before /api/v1; for Mimir it ends in /prometheus.",
            ) from None
        return data if isinstance(data, dict) else {}

    def _refusal(self, error: AnswerError) -> LgtmError:
        said = f"{self.url} answers {error.status}: {_short(error.reason)}"
        if error.status in (401, 403):
            return LgtmError(
                said,
                "Give it a token with --token-file FILE (with --user NAME as a password); "
                "a tenant of Mimir with --header 'X-Scope-OrgID: NAME'.",
            )
        if error.status in (404, 405):
            return LgtmError(said, "Name the address before /api/v1; for Mimir it ends in /prometheus.")
        if error.status in (400, 422):
            return _QueryError(said, "Ask it yourself: the query is in the rendered rules (lgtm render).")
        return LgtmError(said, "Its log may say more.")


class _QueryError(LgtmError):
    """A query that a server could read and not answer, such as two series where one is wanted."""


class _Bearer(requests.auth.AuthBase):
    """A token of ours goes before what ~/.netrc says."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _here(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 300 else line[:297] + "…"


# --- The replay ---------------------------------------------------------------------------------------------------------------


def backtest(
    model: Model,
    prometheus: Source,
    start: float,
    end: float,
    *,
    only: Collection[Key] | None = None,
    step: int = STEP,
    suggest: bool = False,
    report: Report = lambda line: None,
) -> Backtest:
    """Replay the alerts of a model from ``start`` to ``end`` (Unix time) on what Prometheus has.

    Data before ``start`` is read as far as windows reach back, so that budgets and alerts at the start are what they were.
    ``only`` names SLOs, alerts and probes as (service, name). ``step`` is one of ``STEPS``, in seconds: a coarser one is
    quicker and tells the start of alerts less exactly. ``suggest`` also tries the objectives of ``LADDER``. ``report`` is told
    about progress. Raises LgtmError when the server cannot be asked.
    """
    if step not in STEPS:
        raise ValueError(f"a step of {step} s is none of {STEPS}")
    begin, finish = int(start) // SLOW_STEP * SLOW_STEP, int(end) // step * step
    result = Backtest(begin, finish, [], {}, {}, [])
    # Of a young server it is known at once how little there is.
    earliest = min(prometheus.earliest(), finish)
    slos = [slo for slo in model.slos if only is None or (slo.service, slo.name) in only]
    causes = [cause for service in model.services for cause in _causes(model, service) if only is None or cause.key in only]
    for number, slo in enumerate(slos, 1):
        report(f"{number} of {len(slos) + len(causes)}: {slo.service}/{slo.name}")
        _replay_slo(result, prometheus, model.by_name[slo.service], slo, step, earliest, suggest)
    # An alert about absence would have fired all the time before there was a Prometheus.
    known = min((since for since in result.since.values()), default=earliest)
    for number, cause in enumerate(causes, len(slos) + 1):
        report(f"{number} of {len(slos) + len(causes)}: {cause.key[0]}/{cause.key[1]}")
        _replay_cause(result, prometheus, cause, step, known)
    result.pages.sort(key=lambda page: (page.start, page.service, page.slo, page.alert))
    result.notes.extend((("", ""), f"{prometheus.url} warns: {_short(warning)}") for warning in prometheus.warnings[:5])
    return result


@dataclass
class _Samples:
    """Errors and total of one group of an SLI, one for each step; NaN where there is none."""

    errors: array[float]
    total: array[float]

    @property
    def first(self) -> int:
        """When its history began: the index of the first total."""
        return next((i for i, v in enumerate(self.total) if v == v), len(self.total))


def _replay_slo(
    result: Backtest, prometheus: Source, service: ResolvedService, slo: ResolvedSlo, step: int, earliest: float, suggest: bool
) -> None:
    key = (slo.service, slo.name)
    result.spent[key] = result.remaining[key] = None
    longest = max((int(w.seconds) for w in (slo.window, *slo.windows)), default=0)
    start = int(max(result.start - longest, earliest)) - SLOW_STEP
    grid = _Grid(start // SLOW_STEP * SLOW_STEP, int(result.end), step)
    try:
        groups = _read(prometheus, *_expressions(service, slo, step), grid)
        if not groups:
            groups = _read(prometheus, *_recorded(slo, step), grid)
            if groups:
                result.notes.append((key, "its raw metrics are not there; what was recorded of it was read instead"))
    except (_QueryError, LimitError) as error:
        result.failed[key] = str(error)
        return
    if not groups:
        result.no_data.append(key)
        return
    first = min(samples.first for samples in groups.values())
    result.since[key] = grid.time(first)
    begin = max(grid.index(result.start), first)
    replays = [_Replay(slo, dict(labels), samples, grid, begin) for labels, samples in groups.items()]
    for replay in replays:
        result.pages.extend(replay.pages(slo, begin))
    result.pages.extend(_no_data_pages(prometheus, slo, list(groups.values()), grid, begin))
    budget = float(slo.budget)
    worst = replays[0].spent if len(replays) == 1 else [max(r) for r in zip(*(one.spent for one in replays), strict=True)]
    ticks = replays[0].ticks
    if not any(replay.events(slo.window) for replay in replays):
        result.notes.append((key, "its metrics are there, and count no event in its window: nothing can be said of its budget"))
        return
    result.remaining[key] = 1 - worst[-1] / budget
    result.spent[key] = next(
        (grid.time(i) for i, ratio in zip(ticks, worst, strict=True) if i >= begin and ratio >= budget), None
    )
    hours = range(begin + int(-grid.time(begin) % HOUR) // step, len(grid), HOUR // step)
    result.budget[key] = [(grid.time(i), 1 - worst[i - ticks.start] / budget) for i in hours]
    if suggest:
        result.suggestions.append(_suggestion(slo, replays, begin, grid))


def _expressions(service: ResolvedService, slo: ResolvedSlo, step: int) -> tuple[str, str]:
    """Errors and total as PromQL. With a coarser step the rate's range grows, so that every event is still in one of them."""
    context = slo.context
    if step > STEP:
        context = replace(context, range=Duration(step + service.interval.seconds))
    return slo.sli.errors(context), slo.sli.total(context)


def _recorded(slo: ResolvedSlo, step: int) -> tuple[str, str]:
    selector = f"{{service={quote(slo.service)},slo={quote(slo.name)}}}"
    # Rules run at a phase of their own: the sample of each step, and not the last one again where there was none.
    return tuple(f"avg_over_time({series}{selector}[{step}s])" for series in (names.ERRORS_RATE, names.TOTAL_RATE))  # type: ignore[return-value]


@dataclass(frozen=True)
class _Grid:
    """The evaluations: from ``start``, a whole number of slow steps since 1970, every ``step`` seconds until ``end``."""

    start: int
    end: int
    step: int

    def __len__(self) -> int:
        return (self.end - self.start) // self.step + 1

    def time(self, index: int) -> float:
        return float(self.start + index * self.step)

    def index(self, time: float) -> int:
        return max(0, -(-(int(time) - self.start) // self.step))


def _read(prometheus: Source, errors: str, total: str, grid: _Grid) -> dict[Labels, _Samples]:
    """Both series of each group; groups without any total are left out."""
    size = len(grid)
    found: dict[Labels, _Samples] = {}
    for which, expr in enumerate((total, errors)):
        answer = prometheus.range(expr, grid.start, grid.end, grid.step)
        if not answer and not which:
            return {}  # errors are there only where a total is
        for labels, points in answer.items():
            group = frozenset((k, v) for k, v in labels if k not in ("__name__", *names.IDENTITY))
            if group not in found:
                found[group] = _Samples(array("d", [math.nan]) * size, array("d", [math.nan]) * size)
            values = found[group].errors if which else found[group].total
            for t, rate in points:
                # As the rules do: NaN, Inf and less than nothing are no samples.
                if 0 <= rate < math.inf:
                    values[(t - grid.start) // grid.step] = rate
    return {
        group: samples for group, samples in sorted(found.items(), key=lambda item: sorted(item[0])) if samples.first < size
    }


class _Replay:
    """What the rules of an SLO would have recorded of one group from ``begin`` (an index of the grid) on, and have fired.

    ``burn`` has for each severity the evaluations of its group of rules, and for each of them the budget (share of bad events)
    below which its alert fires. ``spent`` is the ratio over the SLO's own window at each of ``ticks``. Both begin a little
    earlier, so that what was under way at ``begin`` is known.
    """

    def __init__(self, slo: ResolvedSlo, group: Mapping[str, str], samples: _Samples, grid: _Grid, begin: int) -> None:
        self.group = group
        self.grid = grid
        self.first = samples.first
        self._errors = _prefix(samples.errors)
        self._total = _prefix(samples.total)
        # The slow tier runs at whole multiples of five minutes.
        self._slow = SLOW_STEP // grid.step
        self._settle = int(rules.SETTLE.seconds) // grid.step
        start = max(begin - 1, 0) // self._slow * self._slow
        self.ticks = range(start, len(grid))
        groups = {"critical": self.ticks, "warning": range(start, len(grid), self._slow)}
        self.burn = {s: (ticks, self._burn(slo, s, ticks)) for s, ticks in groups.items() if s in slo.burn}
        self.spent = self._ratios(slo.window, self.ticks, up_to_now=True)

    def pages(self, slo: ResolvedSlo, begin: int) -> Iterator[Page]:
        """Every alert that would have begun at ``begin`` or later with the objective and the policy of ``slo``."""
        budget = float(slo.budget)
        for severity, (ticks, levels) in self.burn.items():
            yield from self._pages(slo, names.burn_alert(severity), severity, levels, budget, ticks, begin)
        if slo.freeze:
            # Less is left than the share.
            limit, severity = budget * (1 - float(slo.freeze[0])), slo.freeze[1]
            yield from self._pages(slo, names.ALERT_FREEZE, severity, self.spent, limit, self.ticks, begin)
        if slo.exhausted:
            # Nothing at all is left: also when it is used up exactly.
            limit = math.nextafter(budget, 0)
            yield from self._pages(slo, names.ALERT_EXHAUSTED, slo.exhausted, self.spent, limit, self.ticks, begin)

    def _pages(
        self, slo: ResolvedSlo, alert: str, severity: str, levels: Sequence[float], limit: float, ticks: range, begin: int
    ) -> Iterator[Page]:
        for start, end in _spells(levels, limit, ticks):
            if start >= begin:
                over = None if end is None else self.grid.time(end)
                yield Page(slo.service, slo.name, alert, severity, self.group, self.grid.time(start), over)

    def events(self, window: Duration) -> float:
        """All events in the last ``window``: of gauges and probes, the seconds in which one was watched."""
        return self._sums(self._total, int(window.seconds), self.ticks[-1:], up_to_now=True)[0] * self.grid.step

    def _burn(self, slo: ResolvedSlo, severity: str, ticks: range) -> list[float]:
        levels = [0.0] * len(ticks)
        if not self._errors[-1]:
            return levels
        # Half an event less, as the rules have it: rates of whole events add up to nearly whole ones.
        least = (slo.minimum_events - 0.5) / self.grid.step if slo.minimum_events else 0.0
        for window in slo.burn[severity]:
            factor = float(window.factor)
            bad = self._sums(self._errors, int(window.long.seconds), ticks)
            longs, shorts = self._ratios(window.long, ticks), self._ratios(window.short, ticks)
            for at, (long, short, count) in enumerate(zip(longs, shorts, bad, strict=True)):
                if count > least:
                    level = (long if long < short else short) / factor
                    if level > levels[at]:
                        levels[at] = level
        return levels

    def _ratios(self, window: Duration, ticks: range, *, up_to_now: bool = False) -> list[float]:
        """The error ratio over a window as a rule that runs at ``ticks`` sees it; 0 where there is none."""
        if not self._errors[-1]:
            return [0.0] * len(ticks)
        seconds = int(window.seconds)
        errors = self._sums(self._errors, seconds, ticks, up_to_now=up_to_now)
        total = self._sums(self._total, seconds, ticks, up_to_now=up_to_now)
        ratios = [e / t if e > 0.0 < t else 0.0 for e, t in zip(errors, total, strict=True)]
        # What has not been lived through counts as good: `_lived` of render/rules.py.
        size = seconds // self.grid.step
        held = self._slow if seconds > rules.LONGEST_FAST.seconds and not up_to_now else 1
        for at, i in enumerate(ticks):
            lived = i - i % held - self.first + 1
            if lived >= size:
                break
            ratios[at] *= max(lived, 0) / size
        return ratios

    def _sums(self, prefix: Sequence[float], seconds: int, ticks: range, *, up_to_now: bool = False) -> list[float]:
        """Sums of rates over the last ``seconds`` at each tick; ranges of Prometheus are open to the left.

        Windows past six hours are those of the slow tier: they change every five minutes, and leave out what is not settled;
        ``up_to_now`` adds what has come since.
        """
        size = seconds // self.grid.step
        if seconds <= rules.LONGEST_FAST.seconds and not up_to_now:
            return [b - a for a, b in zip(_at(prefix, ticks, 1 - size), _at(prefix, ticks, 1), strict=True)]
        turns = range(ticks.start - ticks.start % self._slow, ticks.stop, self._slow)
        ends = _at(prefix, turns, 1 - self._settle)
        begins = _at(prefix, turns, 1 - self._settle - size)
        last = [(i - turns.start) // self._slow for i in ticks]
        if up_to_now:
            return [b - begins[turn] for turn, b in zip(last, _at(prefix, ticks, 1), strict=True)]
        return [ends[turn] - begins[turn] for turn in last]


def _prefix(values: Iterable[float]) -> list[float]:
    # Nothing added is nothing changed: a window without errors is 0 to the last bit.
    return list(accumulate((v if v == v else 0.0 for v in values), initial=0.0))


def _at(prefix: Sequence[float], ticks: range, offset: int) -> Sequence[float]:
    """What ``prefix`` was ``offset`` from each tick; 0 before its beginning."""
    before = min(max(-((offset + ticks.start) // ticks.step), 0), len(ticks))
    first = ticks.start + before * ticks.step + offset
    return [0.0] * before + list(prefix[first : max(ticks.stop + offset, 0) : ticks.step])


def _spells(levels: Sequence[float], limit: float, ticks: range) -> Iterator[tuple[int, int | None]]:
    """Each stretch above a limit, as indexes of the grid: its first evaluation, and the first one after it, if any."""
    if not levels or max(levels) <= limit:
        return
    since: int | None = None
    for tick, level in zip(ticks, levels, strict=True):
        if level > limit:
            if since is None:
                since = tick
        elif since is not None:
            yield since, tick
            since = None
    if since is not None:
        yield since, None


def _no_data_pages(prometheus: Source, slo: ResolvedSlo, groups: Sequence[_Samples], grid: _Grid, begin: int) -> Iterator[Page]:
    """When the SLO's metrics were absent for five minutes, after they had been there once."""
    hold = _NO_DATA_HOLD // grid.step
    absent = [0.0] * begin + [float(all(g.errors[i] != g.errors[i] for g in groups)) for i in range(begin, len(grid))]
    for start, end in _spells(absent, 0, range(len(grid))):
        last = len(grid) if end is None else end
        if last - start <= hold or not _awake(prometheus, grid, start, last):
            continue
        after = None if end is None else grid.time(end)
        yield Page(slo.service, slo.name, names.ALERT_NO_DATA, "warning", {}, grid.time(start + hold), after)


def _awake(prometheus: Source, grid: _Grid, start: int, end: int) -> bool:
    """Whether Prometheus itself was there in a gap, as far as the targets that it scrapes tell."""
    around = 20 * STEP // grid.step
    first, last = max(start - around, 0), min(end + around, len(grid) - 1)
    found = prometheus.range("count(last_over_time(up[150s]))", int(grid.time(first)), int(grid.time(last)), grid.step)
    seen = {t for points in found.values() for t, _ in points}
    inside = sum(grid.time(i) in seen for i in range(start, end))
    # Without any `up` nobody knows; the metrics were absent, so it is told.
    return not seen or (end - start - inside) * grid.step < _NO_DATA_HOLD


@dataclass(frozen=True)
class _Cause:
    """An alert on a symptom that is no SLO: its rule as it is rendered."""

    key: Key
    rule: rules.Rule


def _causes(model: Model, service: ResolvedService) -> Iterator[_Cause]:
    if not (service.alerts or service.probes):
        return
    groups = rules.service_groups(model, service)
    for rule in rules.all_rules(g for g in groups if g["name"] == f"{service.name}:causes"):
        expr = rule["expr"]
        for slo in service.slos:
            # An alert on an SLO reads what is recorded of it, which history may not have.
            identity = f"{{service={quote(slo.service)},slo={quote(slo.name)}}}"
            for recorded, raw in (
                (names.ERRORS_RATE, slo.sli.errors(slo.context)),
                (names.TOTAL_RATE, slo.sli.total(slo.context)),
                (names.ERRORS_SLOW, slo.sli.errors(slo.context)),
                (names.TOTAL_SLOW, slo.sli.total(slo.context)),
            ):
                expr = re.sub(
                    re.escape(recorded + identity) + r"\[(\w+)\]",
                    lambda match, raw=raw: f"(({raw}) >= 0 < +Inf)[{match[1]}:{STEP}s]",  # type: ignore[misc]
                    expr,
                )
        yield _Cause((service.name, rule["labels"].get("probe", rule["alert"])), {**rule, "expr": expr})


def _replay_cause(result: Backtest, prometheus: Source, cause: _Cause, step: int, known: float) -> None:
    rule = cause.rule
    hold = int(rule["for"].seconds) if "for" in rule else 0
    begin = int(max(result.start, known))
    grid = _Grid(begin // SLOW_STEP * SLOW_STEP - hold, int(result.end), step)
    try:
        found = prometheus.range(rule["expr"], grid.start, grid.end, step)
    except (_QueryError, LimitError) as error:
        result.failed[cause.key] = str(error)
        return
    for labels, points in found.items():
        group = {k: v for k, v in sorted(labels) if k != "__name__" and (k == "probe" or k not in rule["labels"])}
        runs: list[list[int]] = []
        for t, _ in points:
            if not runs or t - runs[-1][1] > step:
                runs.append([t, t])
            runs[-1][1] = t
        for first, last in runs:
            start = first + -(-hold // step) * step
            if start > last or start < begin:
                continue
            end = None if last >= grid.end - step + 1 else float(last + step)
            service, severity = str(rule["labels"]["service"]), str(rule["labels"]["severity"])
            result.pages.append(Page(service, "", str(rule["alert"]), severity, group, float(start), end))


# --- Suggestions --------------------------------------------------------------------------------------------------------------


def _suggestion(slo: ResolvedSlo, replays: Sequence[_Replay], begin: int, grid: _Grid) -> Suggestion:
    """Every objective of the ladder, and the SLO's own, on what was replayed of it."""
    window = int(slo.window.seconds) // grid.step
    worst = 0.0
    for replay in replays:
        lived = len(grid) - replay.first
        ratios = replay.spent
        # Over whole windows only, or over all there is: the first failure of a first minute says nothing.
        whole = max(ratios[max(begin, replay.first + window - 1) - replay.ticks.start :], default=0.0)
        worst = max(worst, whole if lived >= window else ratios[-1] * window / lived)
    last = max(replay.spent[-1] for replay in replays)
    lived = min(len(grid) - min(replay.first for replay in replays), window)
    # A history of half a window has half of its events.
    events = min(replay.events(slo.window) for replay in replays) * window / max(lived, 1)
    candidates = []
    for objective in sorted({*LADDER, slo.objective}, reverse=True):
        one = replace(slo, objective=objective)
        pages = [page for replay in replays for page in replay.pages(one, begin)]
        budget = float(one.budget)
        critical = sum(page.severity == "critical" for page in pages)
        left, bad = 1 - worst / budget, events * budget
        candidates.append(
            Candidate(
                objective=objective,
                worst=left,
                remaining=1 - last / budget,
                pages=critical,
                tickets=len(pages) - critical,
                events=bad,
                pageable=all(w.factor * one.budget < 1 for tier in slo.burn.values() for w in tier),
                # A budget of less than the alerts' minimum of events is spent before anybody is told.
                supported=left >= MARGIN and bad >= max(slo.minimum_events, 1),
            )
        )
    proposed = next((c.objective for c in candidates if c.supported), None)
    return Suggestion(
        slo.service, slo.name, slo.objective, proposed, float(lived * grid.step), float(slo.window.seconds), tuple(candidates)
    )


# --- Incidents ----------------------------------------------------------------------------------------------------------------

# A page that comes this many seconds after an incident's end still tells of it: the last bad minutes are in its windows.
_AFTERMATH = 600


@dataclass(frozen=True)
class Incident:
    """What somebody wrote down: Unix times, a service of the file (empty: of none in particular), and a name."""

    start: float
    end: float
    service: str
    name: str


@dataclass(frozen=True)
class Found:
    """An incident with the alerts that belong to it, in order: of its service, or of one that depends on that.

    ``paged`` is the first that pages somebody (severity critical), ``after`` how many seconds after the incident's start that
    was: 0 where it fired before. Both are None where nobody was paged: the incident is missed.
    """

    incident: Incident
    alerts: tuple[Page, ...]
    paged: Page | None
    after: float | None


def compare(model: Model, pages: Sequence[Page], incidents: Sequence[Incident]) -> tuple[list[Found], list[Page]]:
    """Each incident with its alerts, and the pages (severity critical) that belong to none of them."""
    found, used = [], set()
    for incident in incidents:
        services = _affected(model, incident.service) if incident.service else None
        mine = [
            page
            for page in pages
            if (services is None or page.service in services)
            and page.start <= incident.end + _AFTERMATH
            and (page.end is None or page.end > incident.start)
        ]
        used |= {id(page) for page in mine}
        paged = next((page for page in mine if page.severity == "critical"), None)
        after = None if paged is None else max(0.0, paged.start - incident.start)
        found.append(Found(incident, tuple(mine), paged, after))
    return found, [page for page in pages if page.severity == "critical" and id(page) not in used]


def _affected(model: Model, service: str) -> set[str]:
    """A service and all that depend on it, directly or not."""
    seen, todo = {service}, [service]
    while todo:
        for below in model.dependants.get(todo.pop(), ()):
            if below not in seen:
                seen.add(below)
                todo.append(below)
    return seen


def read_incidents(path: Path, model: Model) -> list[Incident]:
    """A list of incidents from YAML (a list of mappings) or CSV (with a header): start, end, service, name.

    Times are ISO 8601, in the file's time zone where they name none. Raises LgtmError for what cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise LgtmError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}.") from None
    hint = "Each incident has start, end, service and name; in CSV these are the first line."
    rows: Any
    if path.suffix.lower() == ".csv":
        rows = list(csv.DictReader(text.splitlines(), skipinitialspace=True))
    else:
        try:
            rows = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - makes nothing but text, lists and mappings
        except yaml.YAMLError as error:
            raise LgtmError(f"{path} is not YAML: {_short(str(error))}", hint) from None
        if isinstance(rows, dict) and "incidents" in rows:
            rows = rows["incidents"]
    if not isinstance(rows, list):
        raise LgtmError(f"{path} is not a list of incidents.", hint)
    zone = ZoneInfo(model.timezone)
    return [_incident(f"{path}: incident {number}", row, model, zone, hint) for number, row in enumerate(rows, 1)]


def _incident(where: str, row: object, model: Model, zone: tzinfo, hint: str) -> Incident:
    if not isinstance(row, dict):
        raise LgtmError(f"{where} is not a mapping.", hint)
    times = []
    for which in ("start", "end"):
        written = str(row.get(which) or "").strip()
        try:
            moment = datetime.fromisoformat(written)
        except ValueError:
            raise LgtmError(f"{where}: {which} {written!r} is not a time.", "Write it as 2026-11-20T14:43Z.") from None
        times.append((moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp())
    if times[1] < times[0]:
        raise LgtmError(f"{where} ends before it starts.", hint)
    service = str(row.get("service") or "").strip()
    if service and service not in model.by_name:
        raise LgtmError(f"{where}: there is no service {service!r}.", did_you_mean(service, model.by_name, "services") or hint)
    name = str(row.get("name") or "").strip() or datetime.fromtimestamp(times[0], UTC).strftime("%Y-%m-%d %H:%M")
    return Incident(times[0], times[1], service, name)
