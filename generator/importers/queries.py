"""Other projects' queries as our SLIs: what a query measures is read off its parsed form, not off its text.

``sum(rate(x[{{.window}}]))`` is the counter x; a bucket beside its count is a latency; a mean of a gauge is a boolean.
What is none of these stays PromQL, as the raw kind.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from typing import Any

import promql_parser as pp

from generator import promql
from generator.names import RESERVED_LABELS
from generator.sli import with_window
from generator.units import Duration, plain

# {{.window}}, {{ .window }}, {{- .window -}}: what Go's templates and our own spelling allow.
_TEMPLATE = re.compile(r"\{\{-?\s*\.?window\s*-?\}\}")
# Stands for the open window while a query is parsed; nobody writes this many seconds.
_SECONDS = 7777
_PRETTY = str(Duration(Decimal(_SECONDS)))
_TEXTS = re.compile(r"(\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|`[^`]*`)|(#[^\n]*)|(\s+)")
_OPERATORS = {"MatchOp.Equal": "=", "MatchOp.NotEqual": "!=", "MatchOp.Re": "=~", "MatchOp.NotRe": "!~"}
_SECONDS_NAMES = re.compile(r"duration|latency|time|seconds|_ms\Z|milliseconds")


class NotCarried(Exception):  # noqa: N818 - a finding, told to the user as one of a list
    """A query that has no equal here, with the reason as a sentence."""


# Label, operator, value.
_Matchers = tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Query:
    """A parsed query. ``open`` tells that it has a window to be filled in."""

    text: str
    expr: pp.Expr
    open: bool

    @property
    def ours(self) -> str:
        """On one line, its window written as {{window}}."""
        return one_line(_TEMPLATE.sub("{{window}}", self.text))


@dataclass(frozen=True)
class Carried:
    """An SLI of ours, as it stands in the file, with its groups and what changed on the way."""

    sli: Mapping[str, Mapping[str, Any] | str]
    by: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Counter:
    """A counter's increase, summed over all but some labels."""

    name: str
    matchers: _Matchers
    by: tuple[str, ...]
    function: str
    changes: tuple[str, ...] = field(default=(), compare=False)

    def measures_as(self, other: _Counter) -> bool:
        """Whether it is the same counter, in whatever order its matchers were written."""
        return replace(self, matchers=tuple(sorted(self.matchers))) == replace(other, matchers=tuple(sorted(other.matchers)))

    @property
    def selector(self) -> str:
        return selector(self.name, self.matchers)


def one_line(text: str) -> str:
    """A query without comments and line breaks; what stands in quotes is left alone."""
    return _TEXTS.sub(lambda m: m[1] or " ", text).strip()


def parse(text: str) -> Query:
    """Parse a query with or without an open window. Raises PromqlError, whose place counts in ``text``."""
    # The filler is as long as what it stands for, so that a fault's place stays right.
    filled = _TEMPLATE.sub(lambda m: f"{_SECONDS}s".rjust(len(m[0]), "0"), text)
    return Query(text, promql.parse(filled), filled != text)


def selector(name: str, matchers: Sequence[tuple[str, str, str]]) -> str:
    """A metric with its matchers as PromQL."""
    inside = ",".join(f"{label}{operator}{promql.quote(value)}" for label, operator, value in matchers)
    return f"{name}{{{inside}}}" if inside else name


def metric(text: str) -> tuple[str, _Matchers] | None:
    """Name and matchers of a plain selector, None for anything else. Raises PromqlError."""
    expr = _bare(promql.parse(text))
    return _selected(expr)


# What a query is made of.


def _bare(expr: pp.Expr) -> pp.Expr:
    """Without the brackets around it."""
    while isinstance(expr, pp.ParenExpr):
        expr = expr.expr
    return expr


def _call(expr: pp.Expr, *functions: str) -> pp.Expr | None:
    """The only argument of a call of one of some functions."""
    expr = _bare(expr)
    if isinstance(expr, pp.Call) and expr.func.name in functions and len(expr.args) == 1:
        return _bare(expr.args[0])
    return None


def _binary(expr: pp.Expr, *operators: str) -> pp.BinaryExpr | None:
    expr = _bare(expr)
    return expr if isinstance(expr, pp.BinaryExpr) and str(expr.op) in operators else None


def _number(expr: pp.Expr) -> float | None:
    expr = _bare(expr)
    return float(expr.val) if isinstance(expr, pp.NumberLiteral) else None


def _default(expr: pp.Expr, value: float) -> pp.Expr:
    """Without ``or vector(value)`` and ``> 0``: here nothing counts as 0, and nothing is divided by 0, anyway."""
    while True:
        if (either := _binary(expr, "or")) is not None:
            inner = _call(either.rhs, "vector")
            if inner is None or _number(inner) != value:
                return _bare(expr)
            expr = either.lhs
        elif (more := _binary(expr, ">")) is not None and _number(more.rhs) == 0 and not _returns_bool(more):
            expr = more.lhs
        else:
            return _bare(expr)


def _returns_bool(expr: pp.BinaryExpr) -> bool:
    return expr.modifier is not None and bool(expr.modifier.return_bool)


def _selected(expr: pp.Expr) -> tuple[str, _Matchers] | None:
    expr = _bare(expr)
    if not isinstance(expr, pp.VectorSelector) or expr.offset is not None or expr.at is not None:
        return None
    if expr.matchers.or_matchers:
        return None
    found = [(str(m.name), _OPERATORS[str(m.op)], str(m.value)) for m in expr.matchers.matchers]
    name = expr.name
    if not name:
        names = [value for label, operator, value in found if label == "__name__" and operator == "="]
        if len(names) != 1 or not re.fullmatch(r"[a-zA-Z_:][a-zA-Z0-9_:]*", names[0]):
            return None
        name = names[0]
        found = [m for m in found if m[0] != "__name__"]
    if str(_SECONDS) in name:
        # A recording of the other project's, one for each window: job:errors:rate{{.window}}.
        return None
    return str(name), tuple(found)


def _counter(expr: pp.Expr, *, plain_counter: bool = False) -> _Counter | None:
    """A sum of a counter's rate, read through brackets and defaults. With ``plain_counter``: of the counter itself."""
    expr = _default(expr, 0)
    by: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    if isinstance(expr, pp.AggregateExpr):
        if str(expr.op) != "sum" or (groups := _groups(expr)) is None:
            return None
        by, expr = groups, _default(expr.expr, 0)
    else:
        changes += ("it had no sum(), so that each series was an SLO; here all share one (name labels under by: to split it)",)
    if isinstance(expr, pp.Call) and expr.func.name in ("rate", "increase", "irate") and len(expr.args) == 1:
        matrix = expr.args[0]
        if not isinstance(matrix, pp.MatrixSelector) or (found := _selected(matrix.vector_selector)) is None:
            return None
        if matrix.range.total_seconds() != _SECONDS:
            span = Duration(Decimal(str(matrix.range.total_seconds())))
            changes += (f"the fixed range [{span}] in the query is now the one that the generator uses",)
        if expr.func.name == "irate":
            changes += ("irate() looked at the last two samples only; here it is rate()",)
        function = "increase" if expr.func.name == "increase" else "rate"
    elif plain_counter and (found := _selected(expr)) is not None:
        function = "rate"
    else:
        return None
    return _Counter(found[0], found[1], by, function, changes)


def _groups(expr: pp.AggregateExpr) -> tuple[str, ...] | None:
    """The labels of ``by (…)``, none without it, None for ``without (…)`` and for aggregations with a parameter."""
    if expr.param is not None:
        return None
    if expr.modifier is None:
        return ()
    if expr.modifier.type != pp.AggModifierType.By:
        return None
    return tuple(str(label) for label in expr.modifier.labels)


def _labels(expr: pp.Expr) -> tuple[str, ...] | None:
    """The labels of what an expression gives, sorted; None when that cannot be known from the query alone."""
    expr = _bare(expr)
    if isinstance(expr, pp.NumberLiteral):
        return ()
    if isinstance(expr, pp.UnaryExpr):
        return _labels(expr.expr)
    if isinstance(expr, pp.SubqueryExpr):
        return _labels(expr.expr)
    if isinstance(expr, pp.AggregateExpr):
        # topk and its like have a parameter, and then no groups are told.
        groups = _groups(expr)
        return tuple(sorted(groups)) if groups is not None else None
    if isinstance(expr, pp.Call):
        if expr.func.name in ("vector", "scalar", "time", "pi"):
            return ()
        if expr.func.name in ("label_replace", "label_join", "absent", "absent_over_time"):
            return None
        vectors = [a for a in expr.args if _number(a) is None and not isinstance(_bare(a), pp.StringLiteral)]
        return _labels(vectors[0]) if len(vectors) == 1 else None
    if isinstance(expr, pp.BinaryExpr):
        left, right = _labels(expr.lhs), _labels(expr.rhs)
        if left is None or right is None:
            return None
        if str(expr.op) in ("or", "and", "unless") or _number(expr.rhs) is not None:
            return left
        if _number(expr.lhs) is not None:
            return right
        return left if left == right and _matches_all(expr) else None
    return None


def _recorded(expr: pp.Expr) -> bool:
    """Whether it reads recordings whose names hold the window."""
    return any(str(_SECONDS) in (s.name or "") for s in promql.selectors(expr))


# What a query measures.


def from_events(part: Query, total: Query, *, good: bool, counters: bool = False) -> Carried:
    """The SLI of two queries: bad events (or good ones) and all of them.

    ``counters`` tells that a bare metric in them is a counter that only grows. Raises NotCarried.
    """
    carried = _events(part.expr, total.expr, good=good, counters=counters)
    if carried is not None:
        return _fit(carried)
    if counters and (_unrated(part.expr) or _unrated(total.expr)):
        raise NotCarried("its query computes with counters that only grow, and none of rate() or increase() is around them")
    labels = _labels(total.expr)
    same = labels is not None and labels == _labels(part.expr)
    by, changes = _raw_groups(labels if same else None)
    errors, every = part.ours, total.ours
    if good:
        some, all_ = (f"({part.ours})", f"({every})") if same else (f"sum({part.ours})", f"sum({every})")
        errors = f"{all_} - ({some} or 0 * {all_})"
    changes += tuple(dict.fromkeys((*_oddities(part), *_oddities(total))))
    return _fit(Carried({"raw": {"errors": errors, "total": every}}, by, changes))


def from_ratio(query: Query, *, success: bool = False) -> Carried:
    """The SLI of one query that gives the share of bad events, or with ``success`` of good ones. Raises NotCarried."""
    expr, good = _default(query.expr, 1 if success else 0), success
    if (minus := _binary(expr, "-")) is not None and _number(minus.lhs) == 1:
        expr, good = _default(minus.rhs, 0 if success else 1), not success
    if (share := _binary(expr, "/")) is not None and _matches_all(share) and not _recorded(expr):
        carried = _events(share.lhs, share.rhs, good=good, counters=False)
        if carried is not None:
            return _fit(carried)
        labels = _labels(share.lhs)
        if labels is not None and labels == _labels(share.rhs):
            part, every = _text_of(share.lhs), _text_of(share.rhs)
            errors = f"({every}) - (({part}) or 0 * ({every}))" if good else part
            return _fit(Carried({"raw": {"errors": errors, "total": every}}, labels))
    if good and (gauge := _mean(expr)) is not None:
        return _fit(gauge)
    by, changes = _raw_groups(_labels(query.expr))
    changes += ("a share is all that the query gives: every moment counts the same here, however many events it had",)
    text = f"1 - ({query.ours})" if success else query.ours
    return _fit(Carried({"raw": {"error_ratio": text}}, by, changes + _oddities(query)))


def from_metrics(part: str, total: str, by: Sequence[str], *, good: bool) -> Carried:
    """The SLI of two plain counters with groups. Raises NotCarried, and PromqlError for what is no PromQL."""
    found = [metric(text) for text in (part, total)]
    if found[0] is None or found[1] is None:
        raise NotCarried("its metrics are expressions, not plain metrics")
    left, right = (_Counter(name, tuple(matchers), tuple(by), "rate") for name, matchers in (found[0], found[1]))
    return _fit(_two_counters(left, right, good=good))


def from_gauge(text: str, by: Sequence[str]) -> Carried:
    """The SLI of a gauge that is 1 or 0. Raises NotCarried."""
    found = metric(text)
    if found is None:
        raise NotCarried("its metric is an expression, not a plain metric")
    return _fit(Carried({"boolean": selector(*found)}, tuple(by)))


def from_native(text: str, under: Duration, by: Sequence[str]) -> Carried:
    """The SLI of a native histogram. Raises NotCarried."""
    found = metric(text)
    if found is None:
        raise NotCarried("its metric is an expression, not a plain metric")
    return _fit(Carried({"latency": {"histogram": selector(*found), "under": str(under), "native": True}}, tuple(by)))


def from_threshold(query: Query, operator: str, value: Decimal) -> Carried:
    """The SLI of a value that is good while ``value_of_query operator value`` (lt, lte, gt, gte) holds."""
    bad = ">" if operator in ("lt", "lte") else "<"
    changes: tuple[str, ...] = ()
    if operator in ("lt", "gt"):
        changes += (f"a value of exactly {plain(value)} is good here",)
    by: tuple[str, ...] = ()
    if (groups := _labels(query.expr)) is not None:
        by = groups
    if query.open:
        text = query.ours
        # 0/0 is no value: only what equals itself is.
        total = f"({text}) == bool ({text})"
        sli: dict[str, Any] = {"raw": {"errors": f"({text}) {bad} bool {plain(value)}", "total": total}}
        return _fit(Carried(sli, by, changes + _oddities(query)))
    side = "above" if bad == ">" else "below"
    return _fit(Carried({"threshold": {"expr": query.ours, side: value}}, by, changes))


def from_slices(
    part: Query, total: Query, *, good: bool, counters: bool, window: Duration, at_least: Decimal | None
) -> Carried:
    """The SLI of slices of time, each ``window`` long: good when ``at_least`` of its events are, or without it averaged.

    Raises NotCarried.
    """
    texts = []
    for query in (part, total):
        labels = _labels(query.expr)
        found = _counter(query.expr, plain_counter=counters)
        if found is not None:
            texts.append(f"sum{_by(found.by)}(rate({found.selector}[{window}]))")
            continue
        if labels is None or (counters and _unrated(query.expr)):
            raise NotCarried("its queries cannot be divided: their labels cannot be told, or they compute with bare counters")
        texts.append(f"({with_window(query.ours, window)})")
    groups = [c.by if (c := _counter(q.expr, plain_counter=counters)) else _labels(q.expr) or () for q in (part, total)]
    if groups[0] != groups[1]:
        raise NotCarried("its two queries are grouped differently")
    bad, every = f"({texts[0]} or 0 * {texts[1]})", texts[1]
    share = f"1 - {bad} / {every}" if good else f"{bad} / {every}"
    if at_least is None:
        change = f"slices of {window} overlap here: one begins every 30s"
        return _fit(Carried({"raw": {"error_ratio": share}}, groups[0], (change,)))
    change = f"slices of {window} overlap here: one begins every 30s; one without events is neither good nor bad"
    limit = plain((1 - at_least) * 100)
    return _fit(Carried({"threshold": {"expr": share, "above": f"{limit}%" if limit != "0" else 0}}, groups[0], (change,)))


def _matches_all(expr: pp.BinaryExpr) -> bool:
    """Whether both sides are matched by all their labels."""
    return expr.modifier is None or expr.modifier.matching is None


def _unrated(expr: pp.Expr) -> bool:
    """Whether a metric stands in it without a range."""
    found = False

    def visit(node: pp.Expr) -> bool:
        nonlocal found
        found = found or isinstance(node, pp.VectorSelector)
        return not isinstance(node, pp.MatrixSelector | pp.SubqueryExpr)

    pp.walk(expr, pre_visit=visit)
    return found


def _by(labels: Sequence[str]) -> str:
    return f" by ({', '.join(labels)}) " if labels else ""


def _text_of(expr: pp.Expr) -> str:
    # Long expressions are printed over several lines, without comments.
    return one_line(_bare(expr).prettify()).replace(f"[{_PRETTY}", "[{{window}}")


def _oddities(query: Query) -> tuple[str, ...]:
    if _recorded(query.expr):
        return ("it reads recordings with the window in their names: they must go on being recorded, for 1m too",)
    return ()


def _raw_groups(labels: tuple[str, ...] | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if labels is None:
        return (), ("all series of the query share one budget here (name labels under by: to split it)",)
    return labels, ()


def _events(part: pp.Expr, total: pp.Expr, *, good: bool, counters: bool) -> Carried | None:
    """The structural readings: two counters, a histogram, a gauge's mean, a limit. None when it is none of them."""
    every = _counter(total, plain_counter=counters)
    if every is not None:
        minus = _binary(_default(part, 0), "-")
        if minus is not None and _matches_all(minus):
            whole, rest = _counter(minus.lhs, plain_counter=counters), _counter(minus.rhs, plain_counter=counters)
            if whole is not None and rest is not None and _plain_total(whole).measures_as(_plain_total(every)):
                return _two_counters(rest, every, good=not good)
            return None
        some = _counter(part, plain_counter=counters)
        if some is not None:
            return _two_counters(some, every, good=good)
        return None
    return _samples(part, total, good=good)


def _plain_total(counter: _Counter) -> _Counter:
    """A histogram's +Inf bucket is its count."""
    rest = tuple(m for m in counter.matchers if m[0] != "le")
    infinite = ("le", "=", "+Inf") in counter.matchers
    if infinite and counter.name.endswith("_bucket"):
        return replace(counter, name=counter.name.removesuffix("_bucket") + "_count", matchers=rest)
    return counter


def _two_counters(part: _Counter, total: _Counter, *, good: bool) -> Carried | None:
    total = _plain_total(total)
    if sorted(part.by) != sorted(total.by) or part.function != total.function:
        return None
    changes = tuple(dict.fromkeys((*part.changes, *total.changes)))
    limits = [(operator, value) for label, operator, value in part.matchers if label == "le"]
    rest = tuple(m for m in part.matchers if m[0] != "le")
    if part.name.endswith("_bucket") and len(limits) == 1 and (bound := _bound(*limits[0])) is not None:
        base = part.name.removesuffix("_bucket")
        under = _under(base, bound)
        if good and under is not None and total.name == f"{base}_count" and sorted(rest) == sorted(total.matchers):
            return Carried({"latency": {"histogram": selector(base, rest), "under": str(under)}}, part.by, changes)
        # The same bucket is 1 to some clients of Prometheus and 1.0 to others.
        part = replace(part, matchers=(("le", "=~", promql.bucket_pattern(bound)), *rest))
    return Carried({"ratio": {"good" if good else "errors": part.selector, "total": total.selector}}, part.by, changes)


def _bound(operator: str, value: str) -> Decimal | None:
    """The bucket's bound: of an equality, or of a pattern whose alternatives all say the same (``5|5.0``)."""
    if operator not in ("=", "=~"):
        return None
    texts = [value] if operator == "=" else value.replace("\\.", ".").replace("(.0)?", "").split("|")
    try:
        bounds = {Decimal(text) for text in texts}
    except InvalidOperation:
        return None
    bound = bounds.pop()
    return bound if bound.is_finite() and not bounds else None


def _under(histogram: str, bound: Decimal) -> Duration | None:
    """A bucket's bound as a length of time, when the histogram measures one and it is at least a millisecond long."""
    if not _SECONDS_NAMES.search(histogram) or bound <= 0:
        return None
    seconds = bound / 1000 if histogram.endswith(("_milliseconds", "_ms")) else bound
    return Duration(seconds) if seconds * 1000 == (seconds * 1000).to_integral_value() else None


def _over_time(expr: pp.Expr, function: str) -> pp.Expr | None:
    """What ``sum(function(x[{{window}}]))`` is taken of: a selector, or the inside of a subquery."""
    expr = _default(expr, 0)
    if isinstance(expr, pp.AggregateExpr):
        if str(expr.op) != "sum" or _groups(expr) != ():
            return None
        expr = _bare(expr.expr)
    inner = _call(expr, function)
    if isinstance(inner, pp.MatrixSelector):
        return inner.vector_selector
    return _bare(inner.expr) if isinstance(inner, pp.SubqueryExpr) and inner.offset is None else None


def _samples(part: pp.Expr, total: pp.Expr, *, good: bool) -> Carried | None:
    """Samples of a gauge as events: those over a limit, or the gauge's own value as the good share."""
    counted = _over_time(total, "count_over_time")
    if counted is not None and (gauge := _selected(counted)) is not None:
        if good and (mean := _over_time(part, "sum_over_time")) is not None and _selected(mean) == gauge:
            return Carried({"boolean": selector(*gauge)})
        if (some := _over_time(part, "count_over_time")) is not None:
            return _limit(some, gauge, good=good)
    # sum_over_time((count(x < 1))[w:]) over sum_over_time((count(x))[w:])
    inner_total, inner_part = _over_time(total, "sum_over_time"), _over_time(part, "sum_over_time")
    if inner_total is not None and inner_part is not None:
        all_series, some_series = _counted(inner_total), _counted(inner_part)
        if all_series is not None and some_series is not None and (gauge := _selected(all_series)) is not None:
            return _limit(some_series, gauge, good=good)
    return None


def _mean(expr: pp.Expr) -> Carried | None:
    """A gauge's mean over time, of one series or of all."""
    by: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    if isinstance(expr, pp.AggregateExpr):
        if str(expr.op) != "avg" or (groups := _groups(expr)) is None:
            return None
        by, expr = groups, _bare(expr.expr)
    else:
        changes += ("it had no avg(), so that each series was an SLO; here all share one (name labels under by: to split it)",)
    inner = _call(expr, "avg_over_time")
    if isinstance(inner, pp.MatrixSelector) and (gauge := _selected(inner.vector_selector)) is not None:
        return Carried({"boolean": selector(*gauge)}, by, changes)
    return None


def _counted(expr: pp.Expr) -> pp.Expr | None:
    expr = _default(expr, 0)
    if isinstance(expr, pp.AggregateExpr) and str(expr.op) == "count" and _groups(expr) == ():
        return _bare(expr.expr)
    return None


def _limit(expr: pp.Expr, gauge: tuple[str, _Matchers], *, good: bool) -> Carried | None:
    """Samples of a gauge that a comparison picks."""
    compared = _binary(expr, "<", ">", "<=", ">=", "==")
    if compared is None or _returns_bool(compared) or _selected(compared.lhs) != gauge:
        return None
    value = _number(compared.rhs)
    operator = str(compared.op)
    if value is None:
        return None
    if operator == "==":
        # up == 0: of a gauge that is 1 or 0.
        return Carried({"boolean": selector(*gauge)}) if value == (1 if good else 0) else None
    bad = operator if not good else {"<": ">=", "<=": ">", ">": "<=", ">=": "<"}[operator]
    limit = Decimal(str(value))
    changes = (f"a sample of exactly {plain(limit)} is good here",) if bad.endswith("=") else ()
    side = "above" if bad.startswith(">") else "below"
    return Carried({"threshold": {"expr": selector(*gauge), side: limit}}, (), changes)


# Groups by a label that means something here already.


def _fit(carried: Carried | None) -> Carried:
    if carried is None:
        raise NotCarried("its queries are grouped or computed in different ways")
    taken = [label for label in carried.by if label in RESERVED_LABELS or label.startswith("__")]
    if not taken:
        return carried
    (kind, fields), by = next(iter(carried.sli.items())), list(carried.by)
    renamed = {label: f"exported_{label.strip('_')}" for label in taken}
    groups = [renamed.get(label, label) for label in by]
    around = f"sum by ({', '.join(groups)})"

    def moved(inner: str) -> str:
        for old, new in renamed.items():
            inner = f'label_replace({inner}, "{new}", "$1", "{old}", "(.*)")'
        return f"{around} ({inner})"

    window = "[{{window}}]"
    if kind == "boolean":
        last = f"last_over_time({fields}{window})"
        errors, total = moved(f"1 - clamp({last}, 0, 1)"), moved(f"{last} * 0 + 1")
    elif not isinstance(fields, Mapping) or kind == "threshold" or "error_ratio" in fields:
        field_ = "expr" if kind == "threshold" else "error_ratio"
        inner = str(fields[field_]) if isinstance(fields, Mapping) else str(fields)
        return Carried({kind: {**fields, field_: moved(inner)}}, tuple(groups), (*carried.changes, _told(renamed)))  # type: ignore[dict-item]
    elif kind == "raw":
        errors, total = moved(str(fields["errors"])), moved(str(fields["total"]))
    elif kind == "ratio":
        total = moved(f"rate({fields['total']}{window})")
        if "errors" in fields:
            errors = moved(f"rate({fields['errors']}{window})")
        else:
            good = moved(f"rate({fields['good']}{window})")
            errors = f"{total} - ({good} or 0 * {total})"
    else:
        histogram, under = str(fields["histogram"]), Duration.of(str(fields["under"]))
        bound = under.seconds * 1000 if histogram.partition("{")[0].endswith(("_milliseconds", "_ms")) else under.seconds
        if fields.get("native"):
            rate = moved(f"rate({histogram}{window})")
            total = f"histogram_count({rate})"
            # Nothing observed is NaN, which is no error: the comparison drops it.
            errors = f"{total} * (1 - histogram_fraction(-Inf, {plain(bound)}, {rate})) >= 0"
        else:
            total = moved(f"rate({promql.rename(histogram, '_count')}{window})")
            fast = promql.rename(histogram, "_bucket", regex={"le": promql.bucket_pattern(bound)})
            errors = f"{total} - {moved(f'rate({fast}{window})')}"
    return Carried({"raw": {"errors": errors, "total": total}}, tuple(groups), (*carried.changes, _told(renamed)))


def _told(renamed: Mapping[str, str]) -> str:
    names = " and ".join(f"{old} is called {new}" for old, new in renamed.items())
    return f"the label {names} here: the generator sets its own"
