"""Other projects' SLO files as ours: Sloth, OpenSLO and Pyrra.

documents   YAML with positions, several documents in a file
fields      values that the three formats share
queries     what a query measures, read off its structure
sloth, openslo, pyrra   one format each: documents → Draft
writer      Draft → checked YAML with comments
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

from generator.diagnostics import Diagnostic, ordered
from generator.errors import LgtmError
from generator.importers import openslo, pyrra, sloth
from generator.importers.documents import Documents
from generator.importers.writer import Draft, Finding, Text, in_order, write
from generator.units import Duration

Converter = Callable[[Documents, Draft, Duration], None]

FORMATS: Mapping[str, tuple[str, Converter]] = MappingProxyType(
    {
        "sloth": (sloth.NAME, sloth.convert),
        "openslo": (openslo.NAME, openslo.convert),
        "pyrra": (pyrra.NAME, pyrra.convert),
    }
)


@dataclass(frozen=True)
class Imported:
    """What came of some files.

    ``diagnostics`` are faults of the files themselves; with any, nothing was written. ``text`` is None too when nothing
    at all could be carried over. ``changed`` and ``lost`` are in the files' order.
    """

    text: str | None
    diagnostics: list[Diagnostic]
    texts: Mapping[str, str]
    changed: tuple[Finding, ...] = ()
    lost: tuple[Finding, ...] = ()
    slos: int = 0
    services: int = 0

    def summary(self) -> str:
        """What came over, in a line."""
        if self.text is None:
            return "nothing could be carried over" + ("" if self.lost else ": there is no SLO in what was named")
        counts = [f"{_count(self.slos, 'SLO')} of {_count(self.services, 'service')} carried over"]
        if self.changed:
            counts.append(f"{_count(len(self.changed), 'change')} to read")
        if self.lost:
            counts.append(f"{len(self.lost)} not carried over")
        return ", ".join(counts)


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def read(style: str, files: Sequence[str], window: str, stdin: BinaryIO) -> Imported:
    """Carry files over; ``-`` is ``stdin``. Raises LgtmError for a window that is none."""
    try:
        period = Duration.of(window)
    except ValueError:
        raise LgtmError(f"{window!r} is not a length of time.", "Write it as 28d.") from None
    documents = Documents()
    for file in files:
        if file == "-":
            documents.add_bytes(stdin.read(), "<stdin>")
        else:
            documents.read(Path(file), file)
    return convert(documents, style, period)


def save(path: Path, text: str) -> None:
    """Write a file in one step. Raises LgtmError when it cannot be written."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise LgtmError(f"Cannot write {path}: {error.strerror}.", "Name a place that you may write to.") from None


def convert(documents: Documents, style: str, period: Duration) -> Imported:
    """Carry documents over. ``style`` is a key of FORMATS; ``period`` the window of SLOs whose file names none."""
    name, converter = FORMATS[style]
    draft = Draft(name)
    draft.files = list(documents.texts)
    if not documents.diagnostics:
        converter(documents, draft, period)
    if documents.diagnostics:
        return Imported(None, ordered(documents.diagnostics), documents.texts)
    text: Text | None = write(draft)
    if text is None:
        return Imported(None, [], documents.texts, in_order(draft.changed), in_order(draft.lost))
    return Imported(text.text, [], documents.texts, text.changed, text.lost, text.slos, text.services)
