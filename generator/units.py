"""Times, shares and thresholds as people write them: ``200ms``, ``1h30m``, ``99.9%``. Exact: Decimals throughout."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, GetPydanticSchema, PlainSerializer
from pydantic_core import PydanticCustomError, core_schema

# Prometheus's own units and order; a year is left out, since no window here is that long.
_UNITS: tuple[tuple[str, Decimal], ...] = (
    ("w", Decimal(604800)),
    ("d", Decimal(86400)),
    ("h", Decimal(3600)),
    ("m", Decimal(60)),
    ("s", Decimal(1)),
    ("ms", Decimal("0.001")),
)
_DURATION = re.compile(
    r"(?:(?P<w>\d{1,9})w)?(?:(?P<d>\d{1,9})d)?(?:(?P<h>\d{1,9})h)?(?:(?P<m>\d{1,9})m(?!s))?"
    r"(?:(?P<s>\d{1,9}(?:\.\d{1,3})?)s)?(?:(?P<ms>\d{1,9})ms)?\Z",
    re.ASCII,
)
_PERCENT = re.compile(r"(?P<number>\d{1,3}(?:\.\d{1,12})?)\s*%\Z", re.ASCII)
_SIZE = re.compile(r"(?P<number>\d{1,18}(?:\.\d{1,6})?)\s*(?P<unit>[kKMGT]i?)B\Z", re.ASCII)
_SIZES = {"k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY = {"ki": 2**10, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


@dataclass(frozen=True, order=True)
class Duration:
    """A length of time, in seconds."""

    seconds: Decimal

    @classmethod
    def of(cls, text: str) -> Duration:
        """Parse Prometheus's notation, with decimals allowed for seconds. Raises ValueError for anything else."""
        match = _DURATION.match(text)
        if match is None or not text:
            raise ValueError(text)
        return cls(sum((Decimal(match[u]) * s for u, s in _UNITS if match[u] is not None), Decimal(0)))

    @classmethod
    def or_none(cls, text: str) -> Duration | None:
        """As ``of``, with None for anything else."""
        return cls.of(text) if text and _DURATION.match(text) else None

    def __str__(self) -> str:
        """In Prometheus's notation, in the largest units that divide it: ``30d``, ``1h30m``, ``200ms``."""
        return _notation(self.seconds)

    def __mul__(self, factor: int) -> Duration:
        return Duration(self.seconds * factor)


@lru_cache(maxsize=1024)
def _notation(seconds: Decimal) -> str:
    rest, out = seconds, ""
    for unit, size in _UNITS[1:]:
        if unit == "d" and rest % size != 0:
            continue  # 36h reads better than 1d12h
        count = rest // size
        if count:
            out += f"{int(count)}{unit}"
            rest -= count * size
    return out or "0s"


def plain(value: Decimal) -> str:
    """A Decimal as rules and people want it: no exponent, no trailing zeros."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(ratio: Decimal) -> str:
    """A ratio as a percentage: Decimal("0.999") is ``99.9%``."""
    return plain(ratio * 100) + "%"


def _duration(value: Any) -> Duration:
    if isinstance(value, Duration):
        return value
    if isinstance(value, str):
        try:
            return Duration.of(value.strip())
        except ValueError:
            pass
    raise PydanticCustomError(
        "bad-duration",
        "{value} is not a length of time",
        {"value": show(value), "hint": "write it as 30s, 5m, 1h30m or 30d"},
    )


def _ratio(value: Any) -> Decimal:
    if isinstance(value, str) and (match := _PERCENT.match(value.strip())):
        ratio = Decimal(match["number"]) / 100
        if ratio <= 1:
            return ratio
    near = "99.9%"
    if isinstance(value, int | Decimal) and not isinstance(value, bool) and 0 < value < 100:
        # 0.999 was meant as a share, 99.9 as percent.
        near = f"{plain(Decimal(value) * 100 if value < 1 else Decimal(value))}%"
    raise PydanticCustomError(
        "bad-percent",
        "{value} is not a percentage from 0 % to 100 %",
        {"value": show(value), "hint": f"write it as {near}"},
    )


@dataclass(frozen=True)
class Threshold:
    """A limit for a metric: ``value`` in the metric's base unit, ``text`` as it was written, and what it measures."""

    value: Decimal
    text: str
    unit: Literal["number", "percent", "seconds", "bytes"]


def _threshold(value: Any) -> Threshold:
    if isinstance(value, Threshold):
        return value
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return Threshold(Decimal(value), plain(Decimal(value)), "number")
    if isinstance(value, str):
        text = value.strip()
        if match := re.match(r"([0-9]{1,9}(?:\.[0-9]{1,12})?)\s*%\Z", text):
            return Threshold(Decimal(match[1]) / 100, text, "percent")
        if match := _SIZE.match(text):
            size = Decimal(match["number"]) * (_BINARY.get(match["unit"]) or _SIZES[match["unit"]])
            return Threshold(size, text, "bytes")
        try:
            return Threshold(Duration.of(text).seconds, text, "seconds")
        except ValueError:
            pass
    raise PydanticCustomError(
        "bad-threshold",
        "{value} is not a number, a percentage, a length of time or a size",
        {"value": show(value), "hint": "write it as 0.8, 80%, 500ms or 2GiB"},
    )


def show(value: Any) -> str:
    """A value for a message: short, and as it was written."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list):
        return "a list" if isinstance(value, list) else "keys and values"
    text = str(value)
    text = text if len(text) <= 60 else text[:57] + "…"
    return repr(text) if isinstance(value, str) else text


def _any(_source: Any, _handler: Any) -> core_schema.CoreSchema:
    return core_schema.any_schema()


def _pattern(pattern: str) -> Callable[[Any, Any], dict[str, Any]]:
    # For editors. No \\d: in their dialect of regular expressions as in ours it would be other things too.
    return lambda _core, _handler: {"type": "string", "pattern": pattern}


_DURATION_JSON = (
    "^(?=.)([0-9]{1,9}w)?([0-9]{1,9}d)?([0-9]{1,9}h)?([0-9]{1,9}m(?!s))?([0-9]{1,9}([.][0-9]{1,3})?s)?([0-9]{1,9}ms)?$"
)


DurationField = Annotated[
    Duration,
    GetPydanticSchema(_any, _pattern(_DURATION_JSON)),
    BeforeValidator(_duration),
    PlainSerializer(str, return_type=str),
]
RatioField = Annotated[
    Decimal,
    GetPydanticSchema(_any, _pattern("^[0-9]{1,3}([.][0-9]{1,12})? *%$")),
    BeforeValidator(_ratio),
    PlainSerializer(percent, return_type=str),
]
ThresholdField = Annotated[
    Threshold,
    GetPydanticSchema(_any, lambda _c, _h: {"type": ["string", "number"]}),
    BeforeValidator(_threshold),
    PlainSerializer(lambda t: t.text, return_type=str),
]
