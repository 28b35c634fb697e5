"""Moments and lengths of time as people write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from generator.errors import LgtmError

# At the end of a time: 14:43Z, 14:43 UTC, 14:43+02:00, 14:43 Europe/Berlin.
_ZONE = re.compile(
    r"(?P<time>.*\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?)"
    r"(?:\s*(?P<utc>z|utc|gmt)|\s*(?P<sign>[+-])(?P<hours>\d{2}):?(?P<minutes>\d{2})|\s+(?P<name>\w+/[\w/+-]+))",
    re.IGNORECASE,
)
_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*(s|sec|seconds?|m|min|minutes?|h|hours?|d|days?)\s+ago")
_CLOCK = re.compile(
    r"(?:(?P<day>[a-z]+|\d{4}-\d{2}-\d{2})(?:\s+at)?\s+)?(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2}))?"
)
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def parse_time(text: str, now: datetime | None = None) -> datetime:
    """A moment as people say it, in this machine's time zone unless it says another.

    ``now``, ``10 minutes ago``, ``14:43`` (the last one), ``yesterday 14:43``, ``monday 9:05``, ``2026-11-20 14:43``, ISO 8601
    or Unix seconds. A clock's time may end with its zone: ``yesterday 14:43 UTC``, ``14:43+02:00``, ``14:43 Europe/Berlin``.
    Raises LgtmError for anything else, and for what lies ahead.
    """
    present = (now or datetime.now(UTC)).astimezone()
    said = " ".join(text.split())
    if match := _ZONE.fullmatch(said):
        zone = _zone(match)
        found = _moment(match["time"], present.astimezone(zone), zone) if zone is not None else None
    else:
        found = _moment(said, present, None)
    if found is None:
        raise LgtmError(
            f"{text!r} is not a time.", 'Write it like "yesterday 14:43", "14:43", "20 minutes ago" or "2026-11-20 14:43".'
        )
    if found > present + timedelta(seconds=60):
        raise LgtmError(f"{text!r} lies ahead: {found:%Y-%m-%d %H:%M}.", "Write a time that has passed.")
    return found


def _zone(match: re.Match[str]) -> tzinfo | None:
    if match["utc"]:
        return UTC
    if match["sign"]:
        offset = timedelta(hours=int(match["hours"]), minutes=int(match["minutes"]))
        return timezone(-offset if match["sign"] == "-" else offset) if offset < timedelta(days=1) else None
    try:
        return ZoneInfo(match["name"])
    except (ValueError, OSError, ZoneInfoNotFoundError):
        return None


def _moment(original: str, now: datetime, zone: tzinfo | None) -> datetime | None:
    said = original.lower()

    def aware(naive: datetime) -> datetime:
        # By the calendar and then in the zone, so that a change of the clocks does not shift it by an hour.
        return naive.astimezone() if zone is None else naive.replace(tzinfo=zone)

    if said == "now":
        return now
    if match := _AGO.fullmatch(said):
        return now - timedelta(seconds=float(match[1]) * _UNITS[match[2][0]])
    if re.fullmatch(r"\d{10}(\.\d+)?", said):
        return datetime.fromtimestamp(float(said), now.tzinfo)
    if match := _CLOCK.fullmatch(said):
        hour, minute, second = int(match["hour"]), int(match["minute"]), int(match["second"] or 0)
        if hour > 23 or minute > 59 or second > 59:
            return None
        day = match["day"]
        naive = now.replace(tzinfo=None, hour=hour, minute=minute, second=second, microsecond=0)
        if day is None:
            return aware(naive) if aware(naive) <= now else aware(naive - timedelta(days=1))
        if day in ("today", "yesterday"):
            return aware(naive - timedelta(days=day == "yesterday"))
        if day in _DAYS:
            naive -= timedelta(days=(now.weekday() - _DAYS.index(day)) % 7)
            return aware(naive) if aware(naive) <= now else aware(naive - timedelta(days=7))
        if "-" not in day:
            return None
    try:
        found = datetime.fromisoformat(original)
    except ValueError:
        return None
    if len(original) <= 10:
        return None  # a day is not a moment
    return aware(found) if found.tzinfo is None else found


def seconds(length: str) -> float | None:
    """A length of time such as 90s, 5m or 1h30m; None for anything else."""
    # generator.units would be half of the program's start.
    if not re.fullmatch(r"(\d+(\.\d+)?[smhd])+", length.strip()):
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+)([smhd])", length))
