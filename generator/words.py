"""Times and numbers: as servers write them, and as people read them. It imports little: every command starts with it."""

from __future__ import annotations

import re
from collections.abc import Sized
from datetime import datetime


def lasting(seconds: float) -> str:
    """A length of time for people, to two figures or so: `12 min`. An exact one, as a file has it, is a Duration."""
    if 0 < seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if (number := seconds / size) >= 2:
            return f"{number:.1f}".removesuffix(".0") + f" {unit}" if size > 60 and number < 10 else f"{number:.0f} {unit}"
    return f"{seconds:.3g} s"


def plural(things: Sized | int, word: str) -> str:
    """So many things, in words."""
    number = things if isinstance(things, int) else len(things)
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def moment(text: str) -> float:
    """Unix seconds of a time as Go prints it, with nanoseconds; 0 for its zero."""
    text = re.sub(r"(\.\d{6})\d*", r"\1", text).replace("Z", "+00:00")
    found = datetime.fromisoformat(text)
    return 0.0 if found.year <= 1 else found.timestamp()
