"""The faulty files under ``faults/``, and what each of them says that is wrong with it.

A file says it where it is wrong, as mypy's tests do: ``# E:12 [code]`` at the end of a line means an error with that
code at column 12 of the line, ``# W:12 [code]`` a warning; several stand one after the other. ``@7:5`` after the code
is the second position. What cannot carry a comment has a file of the same name with ``.expect`` appended, whose lines
begin with the line's number. A directory is loaded by its ``slos.yaml``, with ``overlay.yaml`` laid over it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from generator import model
from generator.diagnostics import Diagnostic, split_lines

FAULTS = Path(__file__).parent / "faults"
EXPECTATION = re.compile(r"(?P<severity>[EW]):(?P<column>\d+) \[(?P<code>[a-z0-9-]+)\](?: @(?P<note>\d+:\d+))?")


@dataclass(frozen=True, order=True)
class Expected:
    """A diagnostic as a faulty file announces it."""

    file: str
    line: int
    column: int
    severity: str
    code: str
    note: str | None = None


@dataclass(frozen=True)
class Case:
    """A faulty file, or a directory of them."""

    path: Path

    @property
    def name(self) -> str:
        """What tests call it."""
        return self.path.name

    def files(self) -> list[Path]:
        """The files that are loaded, in order."""
        if self.path.is_dir() and not self.path.suffix:
            overlay = self.path / "overlay.yaml"
            return [self.path / "slos.yaml", *([overlay] if overlay.exists() else [])]
        return [self.path]

    def load(self) -> model.Result:
        """What the program says to it."""
        files = self.files()
        return model.load(files, [f.name for f in files])

    def expected(self) -> list[Expected]:
        """What it says of itself, by position."""
        return sorted(self._expected())

    def _expected(self) -> Iterator[Expected]:
        sidecar = self.path.with_name(self.path.name + ".expect")
        if sidecar.exists():
            for row in sidecar.read_text(encoding="utf-8").splitlines():
                where, _, rest = row.partition(" ")
                if where.isdecimal():
                    yield from _read(self.path.name, int(where), rest)
            return
        whole = self.path.is_dir() and not self.path.suffix
        for file in sorted(self.path.glob("*.yaml")) if whole else [self.path]:
            for number, line in enumerate(split_lines(file.read_text(encoding="utf-8")), 1):
                comment = line.rpartition("# ")[2] if EXPECTATION.search(line) else ""
                yield from _read(file.name, number, comment)


def _read(file: str, line: int, text: str) -> Iterator[Expected]:
    for match in EXPECTATION.finditer(text):
        yield Expected(file, line, int(match["column"]), match["severity"], match["code"], match["note"])


def found(diagnostics: list[Diagnostic]) -> list[Expected]:
    """Diagnostics in the form in which files announce them."""
    return sorted(
        Expected(
            d.span.file,
            d.span.line,
            d.span.column,
            "E" if d.severity == "error" else "W",
            d.code,
            None if d.note is None else f"{d.note.span.line}:{d.note.span.column}",
        )
        for d in diagnostics
    )


def cases() -> list[Case]:
    """Every faulty file, by name."""
    paths = {p for p in FAULTS.iterdir() if p.suffix != ".expect"}
    # A case may be that a file is not there.
    paths |= {p.with_name(p.name.removesuffix(".expect")) for p in FAULTS.glob("*.expect")}
    return sorted((Case(p) for p in paths), key=lambda c: c.name)
