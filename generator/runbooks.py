"""Runbooks that are Markdown files: their headings are the keys that `runbook:` has."""

from __future__ import annotations

import re

from generator.spec import Cause, Runbook

# The word that a heading holds, and the part that stands under it.
_HEADINGS = (
    ("symptom", "symptoms"),
    ("impact", "impact"),
    ("diagnos", "diagnosis"),
    ("investigat", "diagnosis"),
    ("cause", "causes"),
    ("recover", "recovery"),
    ("verif", "recovery"),
    ("escalat", "escalation"),
    ("prevent", "prevention"),
)
_ITEM = re.compile(r"\s*(?:[-*+]|\d+[.)])\s+(?P<text>.+)")


def parse(text: str) -> Runbook:
    """The parts of a Markdown runbook. What stands before the first heading that is known tells the symptoms.

    A cause is a list item, with its fix after the first colon.
    """
    parts: dict[str, list[str]] = {}
    part = "symptoms"
    for line in text.splitlines():
        if heading := re.match(r"#+\s+(?P<title>.+)", line):
            title = heading["title"].lower()
            part = next((name for word, name in _HEADINGS if word in title), part if parts else "symptoms")
            continue
        if line.strip() and not line.startswith("```"):
            parts.setdefault(part, []).append(line.strip() if part not in ("diagnosis", "causes") else line.rstrip())
    prose = {name: "\n".join(lines) for name, lines in parts.items() if name not in ("diagnosis", "causes")}
    causes = []
    for item in _items(parts.get("causes", [])):
        cause, _, fix = item.partition(": ")
        causes.append(Cause.model_construct(cause=cause, fix=fix or None))
    return Runbook.model_construct(**prose, diagnosis=_items(parts.get("diagnosis", [])), causes=causes)  # type: ignore[arg-type]


def _items(lines: list[str]) -> list[str]:
    """List items, each with the lines that go on under it; lines of their own are items too."""
    items: list[str] = []
    for line in lines:
        if match := _ITEM.match(line):
            items.append(match["text"])
        elif items and line.startswith((" ", "\t")):
            items[-1] += " " + line.strip()
        else:
            items.append(line.strip())
    return items
