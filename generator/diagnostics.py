"""What is wrong with a spec, said so that a person can mend it: position, code, sentence, caret, hint.

The shape follows compilers and pint: ``file:line:column: severity[code]: message``, then the line with a
caret under the fault, then a second place where two things conflict, then a hint.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]

# Wider lines are cut around the caret, so that a minified file still gives a readable answer.
_EXCERPT_WIDTH = 100


@dataclass(frozen=True, order=True)
class Span:
    """A piece of text in a file. Lines and columns count from 1; ``end_column`` is one past the last character.

    A span that covers several lines keeps only its first for the caret: ``end_column`` is then the end of that line.
    """

    file: str
    line: int
    column: int
    end_column: int


@dataclass(frozen=True)
class Note:
    """A second place that matters to a diagnostic, with what it has to do with it."""

    span: Span
    message: str


@dataclass(frozen=True)
class Diagnostic:
    """One fault. ``code`` never changes once published; ``message`` may."""

    code: str
    message: str
    span: Span
    severity: Severity = "error"
    hint: str | None = None
    note: Note | None = None
    # The faulty text is a secret: it is never shown again.
    masked: bool = False

    @property
    def sort_key(self) -> tuple[str, int, int, str, str]:
        """By file, then position, then code, so that two runs print the same list."""
        return (self.span.file, self.span.line, self.span.column, self.code, self.message)


def ordered(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Sorted by position, without exact repeats."""
    return sorted(set(diagnostics), key=lambda d: d.sort_key)


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate most like ``name``, or None when none is alike."""
    found = difflib.get_close_matches(name, list(candidates), n=1, cutoff=0.6)
    return found[0] if found else None


def did_you_mean(name: str, candidates: Iterable[str], what: str = "known names") -> str:
    """A hint that names the nearest candidate, else the whole choice."""
    choice = sorted(set(candidates))
    near = nearest(name, choice)
    if near is not None:
        return f"did you mean {near!r}?"
    if not choice:
        return f"there are no {what} yet"
    shown = ", ".join(choice[:12]) + (", …" if len(choice) > 12 else "")
    return f"{what}: {shown}"


def _excerpt(span: Span, texts: Mapping[str, str], *, masked: bool = False) -> list[str]:
    lines = texts.get(span.file, "").split("\n")
    if not 1 <= span.line <= len(lines):
        return []
    line = lines[span.line - 1].rstrip("\r").replace("\t", " ")
    start = span.column - 1
    width = max(1, min(span.end_column, len(line) + 1) - span.column)
    if masked:
        line = line[:start] + "*" * width + line[start + width :]
    if len(line) > _EXCERPT_WIDTH:
        cut = max(0, start - _EXCERPT_WIDTH // 2)
        line, start = line[cut : cut + _EXCERPT_WIDTH], start - cut
        width = max(1, min(width, len(line) - start))
    number = f"{span.line:>5} | "
    return [number + line, " " * (len(number) - 2) + "| " + " " * start + "^" * width]


def as_text(diagnostic: Diagnostic, texts: Mapping[str, str]) -> str:
    """The diagnostic as people read it. ``texts`` holds the files' text by the name that spans give."""
    d = diagnostic
    out = [f"{d.span.file}:{d.span.line}:{d.span.column}: {d.severity}[{d.code}]: {d.message}"]
    out += _excerpt(d.span, texts, masked=d.masked)
    if d.note is not None:
        s = d.note.span
        out.append(f"      {s.file}:{s.line}:{s.column}: {d.note.message}")
        out += _excerpt(s, texts)
    if d.hint:
        out.append(f"      = hint: {d.hint}")
    return "\n".join(out)


def as_json(diagnostic: Diagnostic) -> dict[str, object]:
    """The diagnostic as data, for tools."""
    d = diagnostic

    def place(span: Span) -> dict[str, object]:
        return {
            "file": span.file,
            "line": span.line,
            "column": span.column,
            "end_column": span.end_column,
        }

    return {
        "code": d.code,
        "severity": d.severity,
        "message": d.message,
        **place(d.span),
        "hint": d.hint,
        "note": None if d.note is None else {"message": d.note.message, **place(d.note.span)},
    }


def as_github(diagnostic: Diagnostic) -> str:
    """A workflow command that a code forge shows beside the line of a pull request."""
    d = diagnostic

    def escape(text: str) -> str:
        return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")

    message = d.message + (f" ({d.hint})" if d.hint else "")
    return (
        f"::{d.severity} file={d.span.file},line={d.span.line},col={d.span.column},"
        f"endColumn={d.span.end_column},title={d.code}::{escape(message)}"
    )
