"""Times of the week: when the file's hours are open, when Alertmanager's intervals are, and the moments at which they differ.

Alertmanager reads the machine's clock and can be asked about no other time; so its own rule for intervals is said here
again, and a test holds it against the real server.
"""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from generator.model import Model
from generator.schedule import WEEKDAYS, Hours, Once

# A week in winter and one in summer, each beginning on a Monday.
WEEKS = (dt.date(2027, 1, 4), dt.date(2027, 7, 5))
_DAY = 24 * 60


@lru_cache(maxsize=64)
def zone(name: str) -> zoneinfo.ZoneInfo:
    """A time zone by name."""
    return zoneinfo.ZoneInfo(name)


def is_open(when: Hours | Once, moment: dt.datetime) -> bool:
    """Whether a moment lies in hours or a window of the file. A part that passes midnight belongs to the day it began on."""
    local = moment.astimezone(zone(when.timezone)).replace(tzinfo=None)
    if isinstance(when, Once):
        return when.start <= local < when.end
    minute = local.hour * 60 + local.minute
    for back in (0, 1):
        day = local.date() - dt.timedelta(days=back)
        if when.days is not None and day.weekday() not in when.days:
            continue
        if when.dates is not None and not any(a <= day.day <= b for a, b in when.dates):
            continue
        at = minute + back * _DAY
        if when.times is None:
            if back == 0:
                return True
        elif any(t.start <= at < t.end for t in when.times):
            return True
    return False


def contains(entry: Mapping[str, Any], moment: dt.datetime) -> bool:
    """Whether a moment lies in one entry of Alertmanager's ``time_intervals``.

    https://prometheus.io/docs/alerting/latest/configuration/#time_interval; every field that is there must match.
    """
    local = moment.astimezone(zone(str(entry.get("location") or "UTC")))
    minute = local.hour * 60 + local.minute
    last = (local.replace(day=28) + dt.timedelta(days=4)).replace(day=1) - dt.timedelta(days=1)

    def among(field: str, value: int, parse: Any = int) -> bool:
        if not entry.get(field):
            return True
        for item in entry[field]:
            first, _, end = str(item).partition(":")
            low, high = parse(first), parse(end or first)
            if field == "days_of_month":
                # Below 0 it counts from the end of the month.
                low, high = (n if n > 0 else last.day + n + 1 for n in (low, high))
                high = min(high, last.day)
            if low <= value <= high:
                return True
        return False

    times = entry.get("times")
    if times and not any(_minutes(t["start_time"]) <= minute < _minutes(t["end_time"]) for t in times):
        return False
    return (
        among("weekdays", (local.weekday() + 1) % 7, lambda name: (WEEKDAYS.index(name.lower()) + 1) % 7)
        and among("days_of_month", local.day)
        and among("months", local.month, lambda name: int(name) if name.isdecimal() else _MONTHS.index(name.lower()) + 1)
        and among("years", local.year)
    )


_MONTHS = "january february march april may june july august september october november december".split()  # noqa: SIM905


def _minutes(text: str) -> int:
    hours, _, minutes = str(text).partition(":")
    return int(hours) * 60 + int(minutes)


def moments(model: Model) -> list[dt.datetime]:
    """The moments between which anything in the file may change, each with its neighbour, in UTC and in order."""
    found = {dt.datetime.combine(week, dt.time(12), zone(model.timezone)).astimezone(dt.UTC) for week in WEEKS}
    for when in [*model.routing.hours.values(), *(m.when for m in model.maintenance)]:
        for local in _edges(when):
            for step in (-1, 0):
                moment = (local + dt.timedelta(minutes=step)).replace(tzinfo=zone(when.timezone))
                found.add(moment.astimezone(dt.UTC))
    return sorted(found)


def _edges(when: Hours | Once) -> Iterator[dt.datetime]:
    """Local times at which hours or a window begin or end."""
    if isinstance(when, Once):
        yield from (when.start, when.end, when.start + (when.end - when.start) / 2)
        return
    minutes = {m for t in when.times or () for m in (t.start, t.end)} or {0, _DAY}
    for week in WEEKS:
        days = {week + dt.timedelta(days=n) for n in range(8)}
        for first, last in when.dates or ():
            # The days of the month itself, and their neighbours.
            for number in (first - 1, first, last, last + 1):
                if 1 <= number <= 31:
                    days.add(week.replace(day=number))
        for day in days:
            for minute in minutes:
                yield dt.datetime.combine(day, dt.time()) + dt.timedelta(minutes=minute)


def said(moment: dt.datetime, name: str) -> str:
    """A moment for people, in a time zone: "Sun 03:00"; outside of the two weeks with its date."""
    local = moment.astimezone(zone(name))
    week = any(start <= local.date() < start + dt.timedelta(days=7) for start in WEEKS)
    return f"{local:%a %H:%M}" if week else f"{local:%Y-%m-%d %H:%M}"
