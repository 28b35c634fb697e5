"""What is wrong with a spec, said so that a person can mend it: position, code, sentence, caret, hint.

The shape follows compilers and pint: ``file:line:column: severity[code]: message``, then the line with a
caret under the fault, then a second place where two things conflict, then a hint.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, NamedTuple

from rich.cells import cell_len

from generator.explain import CODES

Severity = Literal["error", "warning"]

# Wider lines are cut around the caret, so that a minified file still gives a readable answer.
_EXCERPT_WIDTH = 100
# Comparing names costs more the longer and the more they are; past these nobody mistyped anything.
_LONGEST_NAME = 100
_MOST_CANDIDATES = 300

# What ends a line for YAML; the same everywhere here, so that an excerpt is the line that the parser counted.
_LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")

# What looks like a credential wherever it stands: the named group is what nobody may see again.
_SECRETS = re.compile(
    r"(?:"
    r"//(?P<userinfo>[^/@\s'\"]+)@"
    r"|hooks\.slack\.com/(?P<slack>[^\s'\",}]+)"
    r"|discord(?:app)?\.com/api/webhooks/(?P<discord>[^\s'\",}]+)"
    r"|webhook\.office\.com/(?P<teams>[^\s'\",}]+)"
    r"|api\.telegram\.org/bot(?P<telegram>[^\s'\",}]+)"
    r"|(?P<token>\b(?:xox[a-z]-|xapp-|gh[pousr]_|glpat-|glsa_|AKIA|sk_live_|sk-)[A-Za-z0-9_-]{8,})"
    r"|\bBearer\s+(?P<bearer>[^\s'\",}]{8,})"
    r"|(?<![A-Za-z0-9])(?:password|passwd|secret|token|api_?key|routing_key|service_key|integration_key|access_key|credentials)"
    r"['\"]?\s*[:=]\s*(?P<value>(?![{\[*&\s|>])[^\n,}]{3,}?)(?=\s*(?:[,}\n]|$))"
    r")",
    re.IGNORECASE,
)


@lru_cache(maxsize=8)
def split_lines(text: str) -> tuple[str, ...]:
    """The lines of a file as YAML counts them, without their ends."""
    return tuple(_LINE_BREAK.split(text))


def without_secrets(text: str) -> str:
    """The text with what looks like a credential starred out, each character for one, so that columns stay."""

    def star(match: re.Match[str]) -> str:
        kind = match.lastgroup or ""
        start, end = match.start(kind) - match.start(), match.end(kind) - match.start()
        whole = match.group()
        return whole[:start] + "*" * (end - start) + whole[end:]

    return _SECRETS.sub(star, text)


class Span(NamedTuple):
    """A piece of text in a file. Lines and columns count characters from 1; ``end_column`` is one past the last.

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
    """One fault. ``code`` never changes once published; ``message`` may.

    Its severity is the code's (generator/explain.py). Raises ValueError for a code that is not registered there.
    """

    code: str
    message: str
    span: Span
    severity: Severity = field(default="error")
    hint: str | None = None
    note: Note | None = None
    # The faulty text is a secret: it is never shown again.
    masked: bool = False

    def __post_init__(self) -> None:
        """Messages quote what was written, so credentials are starred out of them."""
        known = CODES.get(self.code)
        if known is None or known.severity != self.severity:
            raise ValueError(f"{self.code} is no {self.severity} of generator/explain.py")
        object.__setattr__(self, "message", without_secrets(self.message))
        # There is always something to do about it.
        object.__setattr__(self, "hint", without_secrets(self.hint or known.cure))

    @property
    def sort_key(self) -> tuple[str, int, int, str, str]:
        """By file, then position, then code, so that two runs print the same list."""
        return (self.span.file, self.span.line, self.span.column, self.code, self.message)


def ordered(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Sorted by position, without exact repeats."""
    return sorted(set(diagnostics), key=lambda d: d.sort_key)


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate most like ``name``, or None when none is alike."""
    if len(name) > _LONGEST_NAME:
        return None
    alike = [c for c in candidates if abs(len(c) - len(name)) <= max(3, len(name) // 2)]
    if len(alike) > _MOST_CANDIDATES:
        # Most slips leave the first letters alone.
        alike = [c for c in alike if c[:2].lower() == name[:2].lower()][:_MOST_CANDIDATES]
    by_lower: dict[str, str] = {}
    for candidate in sorted(alike):
        by_lower.setdefault(candidate.lower(), candidate)
    found = difflib.get_close_matches(name.lower(), list(by_lower), n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


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


def _shown(text: str) -> str:
    """A part of a line that a terminal can be given: one character for each, nothing that it would obey."""
    return "".join(" " if c == "\t" else c if c.isprintable() else "\ufffd" for c in text)


def _excerpt(span: Span, texts: Mapping[str, str], *, masked: bool = False) -> list[str]:
    lines = split_lines(texts.get(span.file, ""))
    if not 1 <= span.line <= len(lines) or not texts.get(span.file):
        return []
    line = without_secrets(lines[span.line - 1])
    start = min(span.column - 1, len(line))
    width = max(1, min(span.end_column, len(line) + 1) - span.column)
    if masked:
        line = line[:start] + "*" * width + line[start + width :]
    if len(line) > _EXCERPT_WIDTH:
        cut = max(0, start - _EXCERPT_WIDTH // 2)
        line, start = line[cut : cut + _EXCERPT_WIDTH], start - cut
        width = max(1, min(width, len(line) - start))
    line = _shown(line)
    # Some characters are two cells wide on a terminal, some none: the caret stands under what is seen.
    pad, carets = cell_len(line[:start]), max(1, cell_len(line[start : start + width]))
    number = f"{span.line:>5} | "
    return [(number + line).rstrip(), " " * (len(number) - 2) + "| " + " " * pad + "^" * carets]


def as_text(diagnostic: Diagnostic, texts: Mapping[str, str]) -> str:
    """The diagnostic as people read it. ``texts`` holds the files' text by the name that spans give."""
    d = diagnostic
    out = [f"{d.span.file}:{d.span.line}:{d.span.column}: {d.severity}[{d.code}]: {_shown(d.message)}"]
    out += _excerpt(d.span, texts, masked=d.masked)
    if d.note is not None:
        s = d.note.span
        out.append(f"      {s.file}:{s.line}:{s.column}: {_shown(d.note.message)}")
        out += _excerpt(s, texts)
    if d.hint:
        out.append(f"      = hint: {_shown(d.hint)}")
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

    def attribute(text: str) -> str:
        return escape(text).replace(":", "%3A").replace(",", "%2C")

    message = d.message + (f" ({d.hint})" if d.hint else "")
    return (
        f"::{d.severity} file={attribute(d.span.file)},line={d.span.line},col={d.span.column},"
        f"endColumn={d.span.end_column},title={d.code}::{escape(message)}"
    )
