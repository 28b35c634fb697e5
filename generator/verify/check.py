"""What was found: one check, how it is, and what cures it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "fail", "skipped"]
LEVELS: tuple[Level, ...] = ("fail", "warn", "skipped", "ok")

APPLY = "Run `lgtm apply`, or this with --repair."


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: its kind, its name within the kind, how it is, a sentence, and what cures it.

    ``skipped`` means that it could not be looked at; the sentence says why.
    """

    kind: str
    name: str
    level: Level
    text: str
    cure: str = ""


def server_cure(server: str) -> str:
    """What to do about a server of the stack that does not answer."""
    return f"Run `make up`; `lgtm logs {server}` has its last words."
