"""What rules cost: how many there are, the series that they make, the samples that each evaluation reads.

Computed from the rendered rules alone, by the rule that Prometheus's own statistics follow (``stats=all`` of its query
API): a selector reads one sample of each series, a range as many as it holds, a subquery what comes out of it at each step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

import promql_parser as pp

from generator import names, promql
from generator.model import Model
from generator.render import rules
from generator.units import Duration

# How many series of a raw selector there are: what only a running Prometheus knows.
Count = Callable[[pp.VectorSelector], int]

SLOW = (names.ERRORS_SLOW, names.TOTAL_SLOW, names.ERRORS_COUNTED, names.TOTAL_COUNTED)


@dataclass(frozen=True)
class Cost:
    """Of one SLO, or of several together. A rule that serves n SLOs counts as 1/n; samples are those of 30 s."""

    service: str
    slo: str
    rules: float
    series: float
    samples: float


def of_model(model: Model, raw: int) -> list[Cost]:
    """The cost of each SLO, in the file's order, where each raw selector finds ``raw`` series and no ``by`` splits it."""
    found = []
    for service in model.services:
        groups = rules.service_groups(model, service)
        interval = float(service.interval.seconds)
        for slo in service.slos:
            one = _rules(groups, {"service": service.name, "slo": slo.name}, lambda _: raw, interval, len(service.slos))
            found.append(Cost(service.name, slo.name, *one))
    return found


def of_groups(groups: Iterable[Mapping[str, Any]], count: Count, interval: float = 15) -> Cost:
    """The cost of the groups of a service with one SLO. ``interval`` is how often raw metrics are scraped, in seconds."""
    return Cost("", "", *_rules(groups, {}, count, interval, 1))


def _rules(
    groups: Iterable[Mapping[str, Any]], slo: Mapping[str, str], count: Count, interval: float, slos: int
) -> tuple[float, float, float]:
    number = series = samples = 0.0
    labels = dict(slo)
    for group in groups:
        if ":slo" not in group["name"]:
            continue
        every = group["interval"]
        share = float(rules.STEP.seconds / (every.seconds if isinstance(every, Duration) else Duration.of(every).seconds))
        for rule in group["rules"]:
            own = rule.get("labels", {})
            if slo and "slo" in own and own["slo"] != slo["slo"]:
                continue
            if rule.get("record") == names.ERROR_BUDGET:
                labels.update(own)
            number += 1 if "slo" in own else 1 / slos
            series += "record" in rule
            samples += share * _samples(promql.parse(rule["expr"]), _Reader(labels, count, interval))
    return number, series, samples


@dataclass(frozen=True)
class _Reader:
    labels: Mapping[str, str]
    count: Count
    interval: float

    def series(self, selector: pp.VectorSelector) -> int:
        name = promql.metric_name(selector) or ""
        if not name.startswith("slo:"):
            return self.count(selector)
        return int(all(self._matches(m) for m in selector.matchers.matchers))

    def _matches(self, matcher: pp.Matcher) -> bool:
        if matcher.name not in self.labels or matcher.op not in (pp.MatchOp.Equal, pp.MatchOp.Re):
            return True
        wanted = matcher.value.split("|") if matcher.op == pp.MatchOp.Re else [matcher.value]
        return self.labels[matcher.name] in [value.replace("\\", "") for value in wanted]

    def step(self, selector: pp.VectorSelector) -> float:
        name = promql.metric_name(selector) or ""
        if not name.startswith("slo:"):
            return self.interval
        return float((rules.SLOW_STEP if name in SLOW else rules.STEP).seconds)


def _samples(node: pp.Expr, reader: _Reader) -> float:
    """Samples that one evaluation of ``node`` reads."""
    if isinstance(node, pp.VectorSelector):
        return reader.series(node)
    if isinstance(node, pp.MatrixSelector):
        inner = node.vector_selector
        return reader.series(inner) * _seconds(node.range) / reader.step(inner)
    if isinstance(node, pp.SubqueryExpr):
        # Prometheus counts what comes out of it at each step, however much went in.
        inside = max((reader.series(s) for s in promql.selectors(node.expr)), default=0)
        return inside * _seconds(node.range) / _seconds(node.step or node.range)
    return sum(_samples(child, reader) for child in _children(node))


def _seconds(length: timedelta | None) -> float:
    return length.total_seconds() if length is not None else 0.0


def _children(node: pp.Expr) -> list[pp.Expr]:
    if isinstance(node, pp.BinaryExpr):
        return [node.lhs, node.rhs]
    if isinstance(node, pp.Call):
        return list(node.args)
    if isinstance(node, pp.AggregateExpr | pp.ParenExpr | pp.UnaryExpr):
        return [node.expr]
    return []


def total(costs: Iterable[Cost]) -> Cost:
    """All of them together."""
    every = list(costs)
    return Cost("", "", *(float(sum(Decimal(str(getattr(c, key))) for c in every)) for key in ("rules", "series", "samples")))
