"""Parts of the week and windows in time, as people write them, and as Alertmanager's time intervals.

Alertmanager knows days, times of a day that ends at 24:00, and time zones; it has no window that passes midnight and
none with a beginning and an end in time. Both are made of several of its intervals here.
"""

from __future__ import annotations

import datetime as dt
import re
import zoneinfo
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, GetPydanticSchema
from pydantic_core import core_schema

from generator.base import fault

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
MIDNIGHT = 24 * 60
LONGEST_ONCE = dt.timedelta(days=92)


@dataclass(frozen=True, order=True)
class Times:
    """A part of a day in minutes since midnight; ``end`` is above 24 × 60 when it passes midnight."""

    start: int
    end: int

    def __str__(self) -> str:
        return f"{clock(self.start)}-{clock(self.end if self.end <= MIDNIGHT else self.end - MIDNIGHT)}"


@dataclass(frozen=True)
class Hours:
    """A recurring part of the week: on these days (0 is Monday) and days of the month, at these times, in a time zone.

    Days count where a part begins: Saturday 22:00-04:00 ends on Sunday.
    """

    days: tuple[int, ...] | None
    times: tuple[Times, ...] | None
    dates: tuple[tuple[int, int], ...] | None
    timezone: str

    def intervals(self) -> list[dict[str, Any]]:
        """The entries of Alertmanager's ``time_intervals`` list that together are this."""
        whole = [t for t in self.times or () if t.end <= MIDNIGHT]
        over = [t for t in self.times or () if t.end > MIDNIGHT]
        out = []
        if whole or self.times is None:
            out.append(self._interval(self.days, whole))
        if over:
            out.append(self._interval(self.days, [Times(t.start, MIDNIGHT) for t in over]))
            after = None if self.days is None else tuple((day + 1) % 7 for day in self.days)
            out.append(self._interval(after, [Times(0, t.end - MIDNIGHT) for t in over if t.end > MIDNIGHT]))
        return out

    def outside(self) -> list[dict[str, Any]]:
        """The entries that together are all other times. Alertmanager can mute in several intervals at once, but not be
        active in all of several; so a route that is open in these hours is one that is muted outside of them.
        """
        others = [_Part(frozenset(range(7)), frozenset(range(1, 32)), ((0, MIDNIGHT),))]
        for entry in self.intervals():
            others = [both for one in others for other in _Part.of(entry).complement() if (both := one.overlap(other))]
        return [part.interval(self.timezone) for part in others]

    def _interval(self, days: tuple[int, ...] | None, times: Sequence[Times]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        if days is not None:
            out["weekdays"] = [WEEKDAYS[day] for day in sorted(set(days))]
        if self.dates is not None:
            out["days_of_month"] = [str(a) if a == b else f"{a}:{b}" for a, b in self.dates]
        if times:
            out["times"] = [{"start_time": clock(t.start), "end_time": clock(t.end)} for t in times]
        out["location"] = self.timezone
        return out

    def describe(self) -> str:
        """The hours in words: "Mon, Tue 09:00-17:00 Europe/Berlin"."""
        days = ", ".join(WEEKDAYS[day][:3].capitalize() for day in self.days) if self.days is not None else "every day"
        dates = f" on days {', '.join(f'{a} to {b}' if a != b else str(a) for a, b in self.dates)}" if self.dates else ""
        times = f" {', '.join(str(t) for t in self.times)}" if self.times else ""
        return f"{days}{dates}{times} {self.timezone}"


@dataclass(frozen=True)
class _Part:
    """Days of the week, days of the month and minutes of the day: the times that lie in all three."""

    days: frozenset[int]
    dates: frozenset[int]
    minutes: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, entry: dict[str, Any]) -> _Part:
        dates = set()
        for item in entry.get("days_of_month", ["1:31"]):
            first, _, last = item.partition(":")
            dates |= set(range(int(first), int(last or first) + 1))
        times = entry.get("times", [{"start_time": "00:00", "end_time": "24:00"}])
        return cls(
            frozenset(WEEKDAYS.index(day) for day in entry.get("weekdays", WEEKDAYS)),
            frozenset(dates),
            tuple(sorted((_minutes(t["start_time"]), _minutes(t["end_time"])) for t in times)),
        )

    def complement(self) -> list[_Part]:
        """Parts that do not overlap and together are all other times."""
        week, month, day = frozenset(range(7)), frozenset(range(1, 32)), ((0, MIDNIGHT),)
        gaps, at = [], 0
        for start, end in self.minutes:
            if start > at:
                gaps.append((at, start))
            at = max(at, end)
        if at < MIDNIGHT:
            gaps.append((at, MIDNIGHT))
        parts = [
            _Part(week - self.days, month, day),
            _Part(self.days, month - self.dates, day),
            _Part(self.days, self.dates, tuple(gaps)),
        ]
        return [part for part in parts if part.days and part.dates and part.minutes]

    def overlap(self, other: _Part) -> _Part | None:
        """The times in both, or None."""
        minutes = tuple((max(a, c), min(b, d)) for a, b in self.minutes for c, d in other.minutes if max(a, c) < min(b, d))
        days, dates = self.days & other.days, self.dates & other.dates
        return _Part(days, dates, minutes) if days and dates and minutes else None

    def interval(self, timezone: str) -> dict[str, Any]:
        out: dict[str, Any] = {}
        if len(self.days) < 7:
            out["weekdays"] = [WEEKDAYS[day] for day in sorted(self.days)]
        if len(self.dates) < 31:
            out["days_of_month"] = [str(day) for day in sorted(self.dates)]
        if self.minutes != ((0, MIDNIGHT),):
            out["times"] = [{"start_time": clock(a), "end_time": clock(b)} for a, b in self.minutes]
        out["location"] = timezone
        return out


def _minutes(text: str) -> int:
    hours, _, minutes = text.partition(":")
    return int(hours) * 60 + int(minutes)


@dataclass(frozen=True)
class Once:
    """One window in time, in the local time of a time zone."""

    start: dt.datetime
    end: dt.datetime
    timezone: str

    def intervals(self) -> list[dict[str, Any]]:
        """One of Alertmanager's intervals for each day that the window touches."""
        out = []
        day = self.start.date()
        while dt.datetime.combine(day, dt.time()) < self.end:
            start = self.start.hour * 60 + self.start.minute if day == self.start.date() else 0
            end = self.end.hour * 60 + self.end.minute if day == self.end.date() else MIDNIGHT
            out.append(
                {
                    "times": [{"start_time": clock(start), "end_time": clock(end)}],
                    "days_of_month": [str(day.day)],
                    "months": [str(day.month)],
                    "years": [str(day.year)],
                    "location": self.timezone,
                }
            )
            day += dt.timedelta(days=1)
        return out

    def describe(self) -> str:
        """The window in words."""
        return f"{self.start:%Y-%m-%d %H:%M} to {self.end:%Y-%m-%d %H:%M} {self.timezone}"


def clock(minutes: int) -> str:
    """Minutes since midnight as ``09:00``; the end of a day is ``24:00``."""
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def _many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _weekdays(value: Any) -> tuple[int, ...] | None:
    if value is None:
        return None
    found: list[int] = []
    for item in (part for entry in _many(value) for part in (str(entry).split(",") if isinstance(entry, str) else [entry])):
        ends = [_weekday(part) for part in re.split(r"\s*-\s*", item.strip())] if isinstance(item, str) else []
        if not 1 <= len(ends) <= 2 or None in ends:
            raise fault("bad-time", "{value} is not a day of the week or a range of them", "write it as mon-fri", value=item)
        first, last = ends[0], ends[-1]
        # sat-mon goes round the end of the week.
        found += [(first + step) % 7 for step in range((last - first) % 7 + 1)]  # type: ignore[operator]
    return tuple(sorted(set(found)))


def _weekday(text: str) -> int | None:
    names = [i for i, name in enumerate(WEEKDAYS) if len(text) >= 3 and name.startswith(text.lower())]
    return names[0] if len(names) == 1 else None


def _times(value: Any) -> tuple[Times, ...] | None:
    if value is None:
        return None
    found = []
    for item in _many(value):
        match = re.fullmatch(r"\s*(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})\s*", item) if isinstance(item, str) else None
        if match is None:
            raise fault("bad-time", "{value} is not a part of the day", "write it as 09:00-17:00", value=item)
        hours = [int(match[1]), int(match[3])]
        minutes = [int(match[2]), int(match[4])]
        start, end = hours[0] * 60 + minutes[0], hours[1] * 60 + minutes[1]
        if max(minutes) > 59 or start >= MIDNIGHT or end > MIDNIGHT:
            raise fault("bad-time", "{value} is no time of a day", "write it as 09:00-17:00", value=item)
        if start == end:
            raise fault("bad-time", "{value} has no length", "leave times out for the whole day", value=item)
        found.append(Times(start, end if end > start else end + MIDNIGHT))
    # 22:00-00:00 ends with the day.
    return tuple(sorted(found))


def _dates(value: Any) -> tuple[tuple[int, int], ...] | None:
    if value is None:
        return None
    found = []
    for item in _many(value):
        text = str(item) if isinstance(item, int) and not isinstance(item, bool) else item
        match = re.fullmatch(r"\s*(\d{1,2})(?:\s*-\s*(\d{1,2}))?\s*", text) if isinstance(text, str) else None
        first = int(match[1]) if match else 0
        last = int(match[2]) if match and match[2] else first
        if not 1 <= first <= last <= 31:
            raise fault("bad-time", "{value} is not a day of the month or a range of them", "write it as 1-7", value=item)
        found.append((first, last))
    return tuple(found)


def _zone(value: Any) -> str:
    if isinstance(value, str):
        try:
            zoneinfo.ZoneInfo(value)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            pass
        else:
            return value
    raise fault(
        "bad-timezone",
        "{value} is not a time zone",
        "write it as Europe/Berlin, America/New_York or UTC; abbreviations such as CET name no rules for summer time",
        value=value,
    )


def _moment(value: Any) -> dt.datetime | None:
    if value is None:
        return None
    if isinstance(value, str):
        for form in ("%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%d"):
            try:
                return dt.datetime.strptime(value.strip(), form)
            except ValueError:
                continue
    raise fault("bad-time", "{value} is not a moment", "write it as 2026-12-01 22:00, in the window's timezone", value=value)


@dataclass(frozen=True)
class WeekTime:
    """A time of any week: a day (0 is Monday) and minutes since its midnight."""

    day: int
    minute: int

    def __str__(self) -> str:
        return f"{WEEKDAYS[self.day][:3].capitalize()} {clock(self.minute)}"


def _when(value: Any) -> WeekTime | dt.datetime | None:
    if value is None:
        return None
    match = re.fullmatch(r"\s*([A-Za-z]+)\s+(\d{1,2}):(\d{2})\s*", value) if isinstance(value, str) else None
    day = _weekday(match[1]) if match else None
    if match and day is not None and int(match[2]) < 24 and int(match[3]) < 60:
        return WeekTime(day, int(match[2]) * 60 + int(match[3]))
    if isinstance(value, str) and re.match(r"\s*\d{4}-", value):
        return _moment(value)
    raise fault("bad-time", "{value} is neither a time of the week nor a moment", "write it as Sun 03:00", value=value)


def _any(_source: Any, _handler: Any) -> core_schema.CoreSchema:
    return core_schema.any_schema()


def _text_or_list(_core: Any, _handler: Any) -> dict[str, Any]:
    one = {"type": ["string", "integer"]}
    return {"anyOf": [one, {"type": "array", "items": one}, {"type": "null"}]}


def _text_only(_core: Any, _handler: Any) -> dict[str, Any]:
    return {"type": "string"}


Weekdays = Annotated[tuple[int, ...] | None, GetPydanticSchema(_any, _text_or_list), BeforeValidator(_weekdays)]
TimesField = Annotated[tuple[Times, ...] | None, GetPydanticSchema(_any, _text_or_list), BeforeValidator(_times)]
Dates = Annotated[tuple[tuple[int, int], ...] | None, GetPydanticSchema(_any, _text_or_list), BeforeValidator(_dates)]
MomentField = Annotated[dt.datetime | None, GetPydanticSchema(_any, _text_only), BeforeValidator(_moment)]
WhenField = Annotated[WeekTime | dt.datetime | None, GetPydanticSchema(_any, _text_only), BeforeValidator(_when)]
ZoneField = Annotated[str, GetPydanticSchema(_any, _text_only), BeforeValidator(_zone)]
