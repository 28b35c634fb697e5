"""Reading and rewriting the PromQL that a user writes. Parsing is promql-parser's; nothing here edits queries as text
but to add matchers to one selector that the parser has printed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal

import promql_parser as pp

from generator.units import plain

_OPERATORS = {"MatchOp.Equal": "=", "MatchOp.NotEqual": "!=", "MatchOp.Re": "=~", "MatchOp.NotRe": "!~"}


class PromqlError(ValueError):
    """A query that does not parse, with what the parser said."""


def parse(query: str) -> pp.Expr:
    """Parse a query. Raises PromqlError."""
    try:
        expr: pp.Expr = pp.parse(query)
    except ValueError as error:
        raise PromqlError(str(error)) from None
    return expr


def quote(value: str) -> str:
    """A label value as a PromQL string."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def selectors(expr: pp.Expr) -> list[pp.VectorSelector]:
    """Every vector selector of an expression, those inside range selectors too."""
    found: list[pp.VectorSelector] = []

    def visit(node: pp.Expr) -> bool:
        if isinstance(node, pp.VectorSelector):
            found.append(node)
        elif isinstance(node, pp.MatrixSelector):
            found.append(node.vector_selector)
        return True

    pp.walk(expr, pre_visit=visit)
    return found


def metric_name(selector: pp.VectorSelector) -> str | None:
    """The metric that a selector reads, also when it is written as ``{__name__="…"}``."""
    if selector.name:
        return selector.name
    for matcher in selector.matchers.matchers:
        if matcher.name == "__name__" and matcher.op == pp.MatchOp.Equal:
            return str(matcher.value)
    return None


def _added(text: str, matchers: Mapping[str, str], has_matchers: bool) -> str:
    """A printed selector with more matchers, which stand first."""
    more = ",".join(f"{name}={quote(value)}" for name, value in matchers.items())
    if "{" in text:
        head, _, tail = text.partition("{")
        return head + "{" + more + ("," if has_matchers else "") + tail
    match = re.match(r"[^\s\[]+", text)
    end = match.end() if match else len(text)
    return text[:end] + "{" + more + "}" + text[end:]


def with_matchers(query: str, matchers: Mapping[str, str]) -> str:
    """The query with ``matchers`` added to every selector that names none of their labels itself.

    Raises PromqlError.
    """
    expr = parse(query)
    if not matchers:
        return expr.prettify() if isinstance(expr, pp.VectorSelector) else query

    def visit(node: pp.Expr) -> pp.Expr | None:
        inner = node.vector_selector if isinstance(node, pp.MatrixSelector) else node
        if not isinstance(inner, pp.VectorSelector):
            return None
        own = inner.matchers.matchers
        if any(m.name in matchers for m in own):
            return None
        return parse(_added(node.prettify(), matchers, has_matchers=bool(own)))

    result: pp.Expr = pp.transform(expr, post_visit=visit)
    return re.sub(r"\s*\n\s*", " ", result.prettify()).strip()


def as_selector(query: str) -> str | None:
    """The query if it is one plain selector (a raw counter or gauge, no function, range or offset), else None.

    Raises PromqlError.
    """
    expr = parse(query)
    while isinstance(expr, pp.ParenExpr):
        expr = expr.expr
    if isinstance(expr, pp.VectorSelector) and expr.offset is None and expr.at is None:
        return expr.prettify()
    return None


def rename(
    selector: str, suffix: str, matchers: Mapping[str, str] | None = None, regex: Mapping[str, str] | None = None
) -> str:
    """A selector with ``suffix`` appended to its metric's name, and matchers added: ``x{a="1"}`` to ``x_bucket{…}``.

    Raises PromqlError; ValueError when the selector names no metric.
    """
    expr = parse(selector)
    if not isinstance(expr, pp.VectorSelector) or not expr.name:
        raise ValueError(f"{selector} names no metric")
    parts = [f"{name}={quote(value)}" for name, value in (matchers or {}).items()]
    parts += [f"{name}=~{quote(value)}" for name, value in (regex or {}).items()]
    parts += [f"{m.name}{_OPERATORS[str(m.op)]}{quote(m.value)}" for m in expr.matchers.matchers]
    return f"{expr.name}{suffix}" + ("{" + ",".join(parts) + "}" if parts else "")


def bucket_pattern(bound: Decimal) -> str:
    """A regular expression for the ``le`` label of a classic histogram's bucket.

    Prometheus 3 writes whole bounds as ``1.0`` when it scrapes them and ``1`` when they come by OTLP.
    """
    text = plain(bound)
    escaped = text.replace(".", "\\.")
    return escaped if "." in text else f"{escaped}(\\.0)?"
