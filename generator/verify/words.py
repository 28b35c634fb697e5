"""Times and numbers: as servers write them, and as people read them."""

from __future__ import annotations

import re
from collections.abc import Sized
from datetime import datetime

from generator.units import Duration


def duration(seconds: float) -> str:
    """A length of time for people."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 or seconds == 0 else f"{seconds * 1000:.1f} ms"
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.3g} s"


def plural(things: Sized, word: str) -> str:
    """So many things, in words."""
    return f"{len(things)} {word}{'' if len(things) == 1 else 's'}"


def length(text: str) -> Duration | None:
    """A length of time, None for what is none."""
    try:
        return Duration.of(text)
    except ValueError:
        return None


def moment(text: str) -> float:
    """Unix seconds of a time as Go prints it, with nanoseconds; 0 for its zero."""
    text = re.sub(r"(\.\d{6})\d*", r"\1", text).replace("Z", "+00:00")
    found = datetime.fromisoformat(text)
    return 0.0 if found.year <= 1 else found.timestamp()
