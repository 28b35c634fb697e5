"""Values that all three formats have: PromQL, and lengths of time."""

from __future__ import annotations

import re
from decimal import Decimal

from generator.importers import queries
from generator.importers.documents import Node
from generator.importers.queries import NotCarried, Query
from generator.promql import PromqlError
from generator.units import Duration, show

# A month and longer have no fixed length; what is counted by the calendar is told where it is used.
_DAYS = {"M": 30, "Q": 90, "Y": 365, "y": 365}
_TEN_YEARS = 3660 * 86400
_LONG = re.compile(r"(\d{1,6})([MQYy])\Z")


def duration(node: Node) -> Duration:
    """A length of time in Prometheus's notation, or OpenSLO's with its months, quarters and years."""
    text = node.text().strip()
    if match := _LONG.match(text):
        return seconds(node, Decimal(match[1]) * _DAYS[match[2]] * 86400)
    try:
        found = Duration.of(text)
    except ValueError:
        raise node.fault("bad-duration", f"{show(text)} is not a length of time", "write it as 5m, 1h or 28d") from None
    return seconds(node, found.seconds)


def seconds(node: Node, value: Decimal) -> Duration:
    """A length of time that somebody can mean: more than nothing, at most ten years, in whole milliseconds."""
    if not 0 < value <= _TEN_YEARS:
        raise node.fault(
            "bad-duration", f"{show(node.text())} cannot be meant as a length of time", "write it as 5m, 1h or 28d"
        )
    return Duration(value.quantize(Decimal("0.001")))


def query(node: Node, *, lenient: bool = False) -> Query:
    """PromQL. Raises Fault; NotCarried when ``lenient``, for what its own project does not check, and for giants."""
    text = node.text()
    try:
        return queries.parse(text)
    except PromqlError as error:
        if lenient or error.code == "promql-too-large":
            raise NotCarried(error.message) from None
        raise promql_fault(node, error) from None


def promql_fault(node: Node, error: PromqlError) -> Exception:
    """Note a fault of PromQL where it stands in the text."""
    span = node.source.within(node.path, *error.at) if error.at is not None else None
    return node.fault(error.code, error.message, error.hint, span=span)
