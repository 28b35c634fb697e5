"""Made-up raw metrics: for each SLI events that are good and bad, and for a query values that it is to have.

Which metrics a kind of SLI reads, and what of them is bad, is said here again, from the file format and not from
generator/sli.py: a fault there must not hide itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import lru_cache
from itertools import accumulate
from typing import Any

import promql_parser as pp

from generator import names, promql, sli
from generator.model import ResolvedSlo
from generator.promtool import quoted

# What happens to each group of an SLO, phase by phase: good and bad events per second, or watched things.
GOOD, MIXED = 0, 1
PHASES = (GOOD, MIXED, GOOD)
EVENTS = ((8.0, 0.0), (6.0, 2.0))
THINGS = ((2, 0), (1, 1))

Labels = dict[str, str]


class FreeError(Exception):
    """A query too free for inputs to be made up for it; says why."""


@dataclass(frozen=True)
class Feed:
    """One raw series: what it is in each phase.

    ``kind`` is ``counter`` (values are increments per second), ``gauge`` (values), ``clock`` (a gauge of times: values are
    ages in seconds) or ``histogram`` (a native one; a value is events per second by bucket).
    None is no sample at all.
    """

    name: str
    labels: tuple[tuple[str, str], ...]
    kind: str
    values: tuple[Any, ...]

    @property
    def series(self) -> str:
        return self.name + "{" + ",".join(f"{k}={quoted(v)}" for k, v in self.labels) + "}"

    def written(self, lengths: Sequence[int], every: int, *, reset: int | None = None) -> str:
        """In promtool's notation: each phase so many seconds long, sampled every ``every``; a counter is 0 at ``reset``."""
        parts: list[str] = []
        total, at, started = 0.0, 0, False
        buckets: dict[int, float] = {}
        for value, end in zip(self.values, accumulate(lengths), strict=True):
            while at < end:
                if value is None:
                    parts.append("stale" if started else "_")
                elif self.kind == "counter":
                    total = 0.0 if at == reset else total + value * every
                    parts.append(f"{total:.10g}")
                elif self.kind == "histogram":
                    for bucket, rate in value:
                        buckets[bucket] = 0.0 if at == reset else buckets.get(bucket, 0.0) + rate * every
                    parts.append(histogram(buckets))
                else:
                    parts.append(f"{at - value if self.kind == 'clock' else value:.10g}")
                started = started or value is not None
                at += every
        return " ".join(parts)


def histogram(buckets: Mapping[int, float]) -> str:
    """A native histogram with so many events in each bucket, whose upper end is 2 to that power."""
    first = min(buckets)
    counts = [round(buckets.get(b, 0.0)) for b in range(first, max(buckets) + 1)]
    total = sum(counts)
    return f"{{{{schema:0 count:{total} sum:{total} offset:{first} buckets:[{' '.join(map(str, counts))}]}}}}"


@dataclass(frozen=True)
class Fed:
    """The raw series of an SLO, and for each of its groups the errors and total that must be recorded in each phase."""

    feeds: tuple[Feed, ...]
    expected: Mapping[tuple[tuple[str, str], ...], tuple[tuple[float, float], ...]]
    weighted: bool = True


# --- selectors -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Selector:
    """A metric's name and its matchers (label, operator, value)."""

    name: str
    matchers: tuple[tuple[str, str, str], ...] = ()

    def selects(self, name: str, labels: Mapping[str, str]) -> bool:
        """Whether a series is one of those that it selects."""
        return name == self.name and all(_holds(op, value, labels.get(label, "")) for label, op, value in self.matchers)

    def with_match(self, match: Mapping[str, str]) -> Selector:
        """With the service's own matchers, unless one of their labels is named already."""
        if any(label in match for label, _, _ in self.matchers):
            return self
        return replace(self, matchers=(*self.matchers, *((k, "=", v) for k, v in match.items())))

    def sample(self, **others: str) -> Labels:
        """Labels of a series that it selects. Raises FreeError when none is found."""
        labels: Labels = dict(others)
        for label in dict.fromkeys(label for label, _, _ in self.matchers):
            mine = [(op, value) for name, op, value in self.matchers if name == label]
            candidates = [v for op, value in mine for v in _candidates(op, value)]
            found = next(
                (c for c in [*candidates, "x", "other", "200", "1", ""] if all(_holds(o, v, c) for o, v in mine)), None
            )
            if found is None:
                raise FreeError(f"no value of {label} was found that {self.name} selects")
            if found:
                labels[label] = found
            else:
                labels.pop(label, None)
        return labels


def selector(text: str) -> Selector:
    """A selector as it is written. Raises FreeError when it has no name of its own."""
    expr = promql.parse(text)
    if not isinstance(expr, pp.VectorSelector):
        raise FreeError("it is no plain selector")
    return _selector(expr)


_OPS = {"MatchOp.Equal": "=", "MatchOp.NotEqual": "!=", "MatchOp.Re": "=~", "MatchOp.NotRe": "!~"}


def _selector(expr: pp.VectorSelector) -> Selector:
    if expr.offset is not None or expr.at is not None or expr.matchers.or_matchers:
        raise FreeError("it reads another time than now")
    matchers = [(str(m.name), _OPS[str(m.op)], str(m.value)) for m in expr.matchers.matchers]
    name = expr.name
    if not name:
        named = [(op, value) for label, op, value in matchers if label == "__name__"]
        name = next((c for op, value in named for c in _candidates(op, value) if all(_holds(o, v, c) for o, v in named)), None)
        matchers = [m for m in matchers if m[0] != "__name__"]
    if not name:
        raise FreeError("a selector names no metric")
    return Selector(str(name), tuple(matchers))


def _holds(op: str, value: str, actual: str) -> bool:
    if op in ("=", "!="):
        return (actual == value) is (op == "=")
    try:
        return (re.fullmatch(value, actual, re.DOTALL) is not None) is (op == "=~")
    except re.error:
        raise FreeError(f"the regular expression {value} is not one of Python's") from None


@lru_cache(maxsize=1024)
def _candidates(op: str, value: str) -> tuple[str, ...]:
    if op == "=":
        return (value,)
    return _matching(value) if op == "=~" else ()


def _matching(pattern: str) -> tuple[str, ...]:
    """Some texts that a regular expression matches: its alternatives, with the simplest of every class."""
    tries = [pattern, *re.split(r"\|", pattern.strip("()"))]
    simple = []
    for text in tries:
        text = re.sub(r"\(\?:|[()^$]", "", text)
        text = re.sub(r"\[([^\]^])[^\]]*\]", r"\1", text)
        text = re.sub(r"\[\^[^\]]*\]", "x", text)
        # What may be there or not is left out, once as it stands and once without.
        for form in (text, re.sub(r"\\?.\?|\\?.\*", "", text)):
            form = re.sub(r"\\d", "5", form).replace("\\w", "x").replace("\\.", "\0")
            form = re.sub(r"(?<!\\)\.[+*]?\??", "0", form)
            simple.append(re.sub(r"[+*?]", "", form).replace("\0", ".").replace("\\", ""))
    return tuple(dict.fromkeys(t for t in simple if re.fullmatch(pattern, t, re.DOTALL)))


# --- SLIs ------------------------------------------------------------------------------------------------------------


@dataclass
class _Maker:
    slo: ResolvedSlo
    feeds: dict[tuple[str, tuple[tuple[str, str], ...]], Feed] = field(default_factory=dict)

    def groups(self, *read: Selector) -> list[Labels]:
        """Two groups by each label that the SLO is split by; one where a selector says which it must be."""
        fixed: Labels = {}
        for label in self.slo.by:
            for one in read:
                if any(m[0] == label for m in one.matchers):
                    fixed[label] = one.sample().get(label, "")
        free = [label for label in self.slo.by if label not in fixed]
        names_ = ("one", "two") if free else ("one",)
        return [{**fixed, **{label: f"{n}-{label}" for label in free}} for n in names_]

    def add(self, kind: str, name: str, labels: Mapping[str, str], values: tuple[Any, ...]) -> None:
        key = (name, tuple(sorted(labels.items())))
        if key in self.feeds and kind == "counter":
            old = self.feeds[key].values
            values = tuple((a or 0) + (b or 0) for a, b in zip(old, values, strict=True))
        self.feeds[key] = Feed(name, key[1], kind, values)

    def events(self, good: list[tuple[str, Labels]], bad: list[tuple[str, Labels]]) -> None:
        """Counters that a good event and a bad one count in. A series of bad ones alone is not there before the first."""
        for place in (*good, *(b for b in bad if b not in good)):
            rates: list[float | None] = []
            for phase in PHASES:
                g, b = EVENTS[phase]
                rates.append(g * (place in good) + b * (place in bad))
            if place not in good:
                rates[0] = None
            self.add("counter", place[0], place[1], tuple(rates))

    def finish(self, groups: list[Labels], *, weighted: bool = True) -> Fed:
        per = EVENTS if weighted else THINGS
        want = tuple((float(per[p][1]), float(sum(per[p]))) for p in PHASES)
        by = self.slo.by
        expected = {tuple((label, group[label]) for label in sorted(by)): want for group in groups}
        return Fed(tuple(self.feeds.values()), expected, weighted)


def feed(slo: ResolvedSlo) -> Fed:
    """Raw metrics of an SLO. Raises FreeError when its SLI is too free for that."""
    maker = _Maker(slo)
    match slo.sli:
        case sli.Ratio():
            return _ratio(maker, slo.sli.errors_, slo.sli.good, slo.sli.total_, slo.context.match)
        case sli.Latency():
            name = slo.sli.histogram.partition("{")[0]
            scale = 1000 if name.endswith(("_milliseconds", "_ms")) else 1
            read = selector(slo.sli.histogram).with_match(slo.context.match)
            return _histograms(maker, read, slo.sli.under.seconds * scale, native=slo.sli.native)
        case sli.Boolean():
            return _things(maker, selector(slo.sli.gauge).with_match(slo.context.match), "gauge", 1.0, 0.0)
        case sli.Probe():
            return _probe(maker, slo.sli)
        case sli.Process():
            return _process(maker, slo.sli)
        case sli.Logs():
            return _logs(maker)
        case sli.Traces():
            return _traces(maker, slo.sli)
        case sli.Freshness():
            read = selector(slo.sli.timestamp).with_match(slo.context.match)
            if read.name.endswith(("_milliseconds", "_ms")):
                raise FreeError("its times are milliseconds")
            return _things(maker, read, "clock", 0.0, float(slo.sli.under.seconds) + 60)
        case sli.Limit():
            return _limit(maker, slo.sli)
        case sli.Raw():
            return _raw(maker, slo.sli)
        case _:
            raise FreeError(f"inputs for the kind {slo.sli.kind} are not made up yet")


def _decoys(maker: _Maker, match: Mapping[str, str]) -> None:
    """The same series of somebody else, all bad: a lost matcher would count them."""
    own = [f for f in maker.feeds.values() if any(dict(f.labels).get(k) == v for k, v in match.items())]
    for one in own:
        labels = {**dict(one.labels), **{k: f"not-{v}" for k, v in match.items() if k in dict(one.labels)}}
        worst: tuple[Any, ...] = (5.0, 5.0, 5.0) if one.kind == "counter" else one.values
        if one.kind == "gauge":
            worst = (0.0, 0.0, 0.0)
        maker.add(one.kind, one.name, labels, worst)


def _ratio(
    maker: _Maker, errors: str | None, good: str | None, total: str, match: Mapping[str, str], *, decoys: bool = True
) -> Fed:
    every = selector(total).with_match(match)
    part = selector(str(errors or good)).with_match(match)
    groups = maker.groups(every, part)
    for group in groups:
        inside = (part.name, part.sample(**group))
        if every.selects(*inside):
            rest = (every.name, _unlike(every, part, group))
            of_part, of_rest = [inside], [rest]
        else:
            rest = (every.name, every.sample(**group))
            of_part, of_rest = [inside, rest], [rest]
        if errors is not None:
            maker.events(of_rest, of_part)
        else:
            maker.events(of_part, of_rest)
    if decoys:
        _decoys(maker, match)
    return maker.finish(groups)


def _unlike(every: Selector, part: Selector, group: Labels) -> Labels:
    """Labels that ``every`` selects and ``part`` does not."""
    for label, op, value in part.matchers:
        options = ["200", "ok", "good", "other", "2xx", "success", "0", "false"]
        if op in ("!=", "!~"):
            options = [*_candidates("=" if op == "!=" else "=~", value), *options]
        for option in options:
            labels = {**every.sample(**group), label: option}
            if every.selects(every.name, labels) and not part.selects(every.name, labels):
                return labels
    raise FreeError("every event would be a bad one")


def _histograms(maker: _Maker, read: Selector, bound: Decimal, *, native: bool, match: Mapping[str, str] | None = None) -> Fed:
    groups = maker.groups(read)
    for group in groups:
        labels = read.sample(**group)
        if native:
            _native(maker, read.name, labels, bound)
            continue
        fast = [(f"{read.name}_bucket", {**labels, "le": _le(b)}) for b in (bound, bound * 2)]
        fast += [(f"{read.name}_bucket", {**labels, "le": "+Inf"}), (f"{read.name}_count", labels)]
        # A good event is in the bucket that ends at the threshold and in none below; a bad one in the next.
        maker.events(fast, fast[1:])
        maker.add("counter", f"{read.name}_bucket", {**labels, "le": _le(bound / 2)}, (0.0,) * len(PHASES))
    _decoys(maker, match if match is not None else maker.slo.context.match)
    return maker.finish(groups)


def _native(maker: _Maker, name: str, labels: Labels, bound: Decimal) -> None:
    """Events far below and far above a threshold; between two powers of two it is not exact."""
    power = 0
    while Decimal(2) ** power < bound:
        power += 1
    while Decimal(2) ** power >= bound:
        power -= 1
    values = tuple(((power - 1, EVENTS[p][0]), (power + 3, EVENTS[p][1])) for p in PHASES)
    maker.add("histogram", name, labels, values)


def _le(bound: Decimal) -> str:
    # As Prometheus 3 writes it: 1.0, 0.25.
    text = f"{bound.normalize():f}"
    return text if "." in text else f"{text}.0"


def _things(maker: _Maker, read: Selector, kind: str, good: float, bad: float) -> Fed:
    groups = maker.groups(read)
    for group in groups:
        for position in range(2):
            values = tuple(bad if THINGS[p][1] > position else good for p in PHASES)
            maker.add(kind, read.name, {**read.sample(**group), "instance": f"{position}"}, values)
    if kind == "gauge":
        _decoys(maker, maker.slo.context.match)
    return maker.finish(groups, weighted=False)


def _probe(maker: _Maker, found: sli.Probe) -> Fed:
    labels = {"job": names.PROBE_JOB, "service": maker.slo.service, "probe": found.name}
    _, slower = maker.slo.context.probes[found.name]
    values = tuple(0.0 if THINGS[p][1] else 1.0 for p in PHASES)
    durations = (0.001,) * len(PHASES)
    if slower is not None:
        # Too slow is as bad as no answer.
        durations = tuple(float(slower.seconds) * (1.1 if THINGS[p][1] else 0.9) for p in PHASES)
        values = (1.0,) * len(PHASES)
    maker.add("gauge", "probe_success", labels, values)
    maker.add("gauge", "probe_duration_seconds", labels, durations)
    maker.add("gauge", "probe_success", {**labels, "probe": f"not-{found.name}"}, (0.0,) * len(PHASES))
    want = tuple((1.0 if THINGS[p][1] else 0.0, 1.0) for p in PHASES)
    return Fed(tuple(maker.feeds.values()), {(): want}, weighted=False)


def _process(maker: _Maker, found: sli.Process) -> Fed:
    version = {"process_version": found.version} if found.version else {}
    spans = found.source == "spans"
    match = {"service": _span_service(maker.slo)} if spans else dict(maker.slo.context.match)
    labels = {"process_id": found.id, **version, **match}
    if found.measure == "within_sla":
        limit = found.under or maker.slo.context.processes.get(found.id)
        if limit is None:
            raise FreeError("its SLA is not known")
        status = {"process_status": "success"} if spans else {}
        name = "traces_spanmetrics_latency" if spans else "process_execution_duration_seconds"
        read = Selector(name, tuple((k, "=", v) for k, v in {**labels, **status}.items()))
        return _histograms(maker, read, limit.seconds, native=spans, match={**match, "process_id": found.id})
    name = "traces_spanmetrics_calls_total" if spans else "process_executions_total"
    bad = "timeout" if found.measure == "timeouts" else "error"
    for group in (groups := maker.groups()):
        good_place = (name, {**labels, **group, "process_status": "success"})
        maker.events([good_place], [(name, {**labels, **group, "process_status": bad})])
    _decoys(maker, {**match, "process_id": found.id})
    return maker.finish(groups)


def _span_service(slo: ResolvedSlo) -> str:
    return slo.context.match.get("job", slo.service).rpartition("/")[2]


def _logs(maker: _Maker) -> Fed:
    """What Loki's ruler writes to Prometheus: events per second, as gauges."""
    slo = maker.slo
    recorded = sum_ = {"service": slo.service, "slo": slo.name}
    by_good = isinstance(slo.sli, sli.Logs) and slo.sli.good is not None
    groups = maker.groups()
    for group in groups:
        part = tuple(EVENTS[p][0 if by_good else 1] for p in PHASES)
        maker.add("gauge", names.LOG_ERRORS, {**recorded, **group}, part)
        maker.add("gauge", names.LOG_TOTAL, {**sum_, **group}, tuple(sum(EVENTS[p]) for p in PHASES))
    return maker.finish(groups)


def _traces(maker: _Maker, found: sli.Traces) -> Fed:
    kind = {"span_kind": f"SPAN_KIND_{found.span_kind.upper()}"} if found.span_kind else {}
    match = {"service": _span_service(maker.slo)}
    labels = {"span_name": found.span, **kind, **match}
    if found.under is not None:
        read = Selector("traces_spanmetrics_latency", tuple((k, "=", v) for k, v in labels.items()))
        return _histograms(maker, read, found.under.seconds, native=True, match=match)
    name = "traces_spanmetrics_calls_total"
    for group in (groups := maker.groups()):
        ok = (name, {**labels, **group, "status_code": "STATUS_CODE_UNSET"})
        maker.events([ok], [(name, {**labels, **group, "status_code": "STATUS_CODE_ERROR"})])
    _decoys(maker, match)
    return maker.finish(groups)


def _limit(maker: _Maker, found: sli.Limit) -> Fed:
    limit = found.above or found.below
    assert limit is not None  # noqa: S101 - the format allows no other
    bad, good = around(float(limit.value), above=found.above is not None)
    if (plain := promql.as_selector(found.expr)) is not None:
        return _things(maker, selector(plain).with_match(maker.slo.context.match), "gauge", good, bad)
    if maker.slo.by:
        raise FreeError("its PromQL is an expression by groups")
    states = [solved(promql.with_matchers(found.expr, maker.slo.context.match), good if p == GOOD else bad) for p in PHASES]
    for name, labels, kind in {(f.name, f.labels, f.kind): 0 for state in states for f in state}:
        values = tuple(next((f.values[0] for f in state if (f.name, f.labels) == (name, labels)), None) for state in states)
        maker.add(kind, name, dict(labels), values)
    want = tuple((0.0 if p == GOOD else 1.0, 1.0) for p in PHASES)
    return Fed(tuple(maker.feeds.values()), {(): want}, weighted=False)


def _raw(maker: _Maker, found: sli.Raw) -> Fed:
    if found.error_ratio is not None:
        raise FreeError("error_ratio is PromQL of the file's own")
    window = "1m"
    errors = _rated(sli.with_window(str(found.errors_), window))
    total = _rated(sli.with_window(str(found.total_), window))
    return _ratio(maker, errors, None, total, {}, decoys=False)


def _rated(query: str) -> str:
    """The counter of ``sum(rate(counter[1m]))``. Raises FreeError for any other query."""
    expr = promql.parse(query)
    while isinstance(expr, pp.ParenExpr | pp.AggregateExpr):
        if isinstance(expr, pp.AggregateExpr) and str(expr.op) != "sum":
            raise FreeError("it is PromQL of the file's own, and not the sum of a rate")
        expr = expr.expr
    if isinstance(expr, pp.Call) and expr.func.name == "rate" and isinstance(expr.args[0], pp.MatrixSelector):
        inner = expr.args[0].vector_selector
        _selector(inner)
        return str(inner.prettify())
    raise FreeError("it is PromQL of the file's own, and not the sum of a rate")


# --- queries of alerts -----------------------------------------------------------------------------------------------


def around(limit: float, *, above: bool) -> tuple[float, float]:
    """A value at which a threshold fires, and one next to it at which it must not: 2 % of it to each side."""
    gap = abs(limit) * 0.02 or 0.02
    over, under = limit + gap, limit - gap
    if limit == 0:
        # Nothing counts less than nothing.
        return (over, 0.0) if above else (under, over)
    return (over, under) if above else (under, over)


def solved(query: str, value: float) -> list[Feed]:
    """Series for which a query is (nearly) ``value``. Raises FreeError when the query is too free for that."""
    assigned: dict[tuple[str, str], float] = {}
    made: dict[tuple[str, str], Feed] = {}
    solver = _Solver(assigned, made)
    solver.solve(promql.parse(query), value, {})
    return list(made.values())


@dataclass
class _Solver:
    """Finds values of the selectors of a query, from the outside inwards."""

    assigned: dict[tuple[str, str], float]
    made: dict[tuple[str, str], Feed]

    def solve(self, expr: Any, value: float, extra: Labels, kind: str = "gauge") -> None:
        match expr:
            case pp.ParenExpr():
                self.solve(expr.expr, value, extra, kind)
            case pp.AggregateExpr():
                if str(expr.op) not in ("sum", "avg", "max", "min"):
                    raise FreeError(f"{expr.op} of several series")
                self.solve(expr.expr, value, extra, kind)
            case pp.UnaryExpr():
                self.solve(expr.expr, -value, extra, kind)
            case pp.Call():
                self._call(expr, value, extra, kind)
            case pp.SubqueryExpr():
                self.solve(expr.expr, value, extra, kind)
            case pp.MatrixSelector():
                self._give(expr.vector_selector, value, extra, kind)
            case pp.VectorSelector():
                self._give(expr, value, extra, kind)
            case pp.BinaryExpr():
                self._binary(expr, value, extra)
            case _:
                raise FreeError("it holds something that no value can be chosen for")

    def known(self, expr: Any) -> float | None:
        """What an expression is already known to be."""
        match expr:
            case pp.ParenExpr() | pp.AggregateExpr():
                return self.known(expr.expr)
            case pp.NumberLiteral():
                return float(expr.val)
            case pp.VectorSelector():
                return self.assigned.get(("gauge", str(expr.prettify())))
            case pp.MatrixSelector():
                return self.assigned.get(("counter", str(expr.vector_selector.prettify())))
            case pp.Call() if expr.func.name == "rate":
                return self.known(expr.args[0])
            case pp.BinaryExpr():
                left, right = self.known(expr.lhs), self.known(expr.rhs)
                if left is None or right is None:
                    return None
                return {"+": left + right, "-": left - right, "*": left * right, "/": left / right if right else None}.get(
                    str(expr.op)
                )
            case _:
                return None

    def _binary(self, expr: Any, value: float, extra: Labels) -> None:
        op, left, right = str(expr.op), self.known(expr.lhs), self.known(expr.rhs)
        if op == "-" and isinstance(expr.lhs, pp.Call) and expr.lhs.func.name == "time":
            self.solve(expr.rhs, value, extra, "clock")
            return
        if op not in "+-*/":
            raise FreeError(f"it joins queries with {op}")
        if left is not None and right is not None:
            raise FreeError("one series stands in it several times")
        if right is None and left is None:
            # One of the two can be chosen: 100 of something.
            if op in "+-":
                right = value / 2 if op == "+" else 0.0 if value >= 0 else -value
                self.solve(expr.rhs, right, extra)
            else:
                left = value * 100 if op == "/" else 100.0
                self.solve(expr.lhs, left, extra)
        if right is not None:
            need = {"+": value - right, "-": value + right, "*": value / right if right else 0.0, "/": value * right}[op]
            self.solve(expr.lhs, need, extra)
            return
        assert left is not None  # noqa: S101
        if op == "/" and value == 0 and left == 0:
            need = 100.0
        else:
            need = {"+": value - left, "-": left - value, "*": value / left if left else 0.0, "/": left / (value or 1e-9)}[op]
        self.solve(expr.rhs, need, extra)

    def _call(self, expr: Any, value: float, extra: Labels, kind: str) -> None:
        name, arguments = expr.func.name, list(expr.args)
        if name in ("rate", "irate"):
            self.solve(arguments[0], value, extra, "counter")
        elif name in ("increase", "delta") and isinstance(arguments[0], pp.MatrixSelector):
            seconds = arguments[0].range.total_seconds()
            self.solve(arguments[0], value / seconds if name == "increase" else value, extra, "counter")
        elif name in ("avg_over_time", "max_over_time", "min_over_time", "last_over_time", "clamp_min", "clamp_max"):
            self.solve(arguments[0], value, extra, kind)
        elif name == "histogram_quantile":
            self._quantile(arguments[1], value)
        else:
            raise FreeError(f"no value can be chosen for what {name} reads")

    def _quantile(self, expr: Any, value: float) -> None:
        """All events just below the value, in a bucket of their own."""
        found = list({str(one.prettify()): one for one in promql.selectors(expr)}.values())
        if len(found) != 1:
            raise FreeError("its percentile is of several histograms")
        read = _selector(found[0])
        labels = read.sample()
        if not read.name.endswith("_bucket"):
            power = 0
            while 2.0**power < value:
                power += 1
            while 2.0 ** (power - 1) >= value:
                power -= 1
            # Of the two buckets next to it the one that lies wholly on its side is the caller's to tell apart.
            self._put(read.name, labels, "histogram", ((power, 10.0), (power + 1, 0.0)))
            return
        for bound, rate in ((value * 0.999, 0.0), (value * 1.001, 10.0), (value * 100, 10.0)):
            self._put(read.name, {**labels, "le": repr(bound)}, "counter", rate)
        self._put(read.name, {**labels, "le": "+Inf"}, "counter", 10.0)

    def _give(self, expr: Any, value: float, extra: Labels, kind: str) -> None:
        read = _selector(expr)
        if kind == "counter" and value < 0:
            raise FreeError("a counter would have to fall")
        self.assigned[kind, str(expr.prettify())] = value
        self._put(read.name, read.sample(**extra), kind, value)

    def _put(self, name: str, labels: Labels, kind: str, value: Any) -> None:
        if (name, repr(sorted(labels.items()))) in self.made:
            raise FreeError("one series stands in it several times")
        self.made[name, repr(sorted(labels.items()))] = Feed(name, tuple(sorted(labels.items())), kind, (value,))
