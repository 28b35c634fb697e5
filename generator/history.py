"""What was applied: the spec, what followed from it, who did it and when. So that a plan knows what is in force, and a
rollback what was.

Each apply is one file under ``.lgtm/history/``, readable by its owner only: gzipped lines of JSON, what a list shows on
the first, the rest on the second. It is complete before it has its name, so that a killed run leaves none that is half
written. Secrets are in none: a spec and what follows from it only name them.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.metadata
import json
import os
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from generator import model, rendered
from generator.errors import LgtmError
from generator.project import Project
from generator.render import Artifact
from generator.spec import Runbook

KEPT = 50


class HistoryError(LgtmError):
    """There is no such apply, or it cannot be read or kept."""


class Used(dict[str, str]):
    """Variables that note which of them a spec refers to."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        super().__init__(variables)
        self.used: dict[str, str] = {}

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a variable, noted."""
        if name in self:
            self.used[name] = self[name]
        return super().get(name, default)


@dataclass(frozen=True)
class Snapshot:
    """The files that a spec was read from, so that it can be read again when they have changed.

    ``files`` has each text by its path relative to the project, ``given`` those of them that were named, in order;
    ``variables`` what the spec's ``${NAME}`` stood for.
    """

    files: Mapping[str, str]
    given: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls, root: Path, paths: Sequence[Path], texts: Mapping[str, str], found: model.Model, variables: Mapping[str, str]
    ) -> Snapshot:
        """What a Model was read from: ``paths`` as named, ``texts`` as ``model.Result`` has them, by path."""
        files = {_relative(Path(name), root): text for name, text in texts.items()}
        directories = dict.fromkeys((root / name).parent for name in files)
        for name in sorted({book.file for book in _runbooks(found) if book.file is not None}):
            # Which of the files refers to it is not known any more; one that is there for nothing does no harm.
            for directory in directories:
                try:
                    files[_relative(directory / name, root)] = (directory / name).read_text(encoding="utf-8")
                except (OSError, ValueError):
                    continue
        return cls(files, tuple(_relative(path, root) for path in paths), dict(variables))

    @property
    def digest(self) -> str:
        """A name for exactly this content."""
        text = json.dumps([sorted(self.files.items()), self.given, sorted(self.variables.items())])
        return hashlib.sha256(text.encode()).hexdigest()

    def load(self) -> model.Result:
        """Read it again, as it was."""
        with tempfile.TemporaryDirectory(prefix="lgtm-") as place:
            # So deep that files beside and above the project find their places below it.
            above = max((Path(name).parts.count("..") for name in self.files), default=0)
            root = Path(place, *(["_"] * above))
            for name, text in self.files.items():
                path = _joined(root, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            return model.load([_joined(root, name) for name in self.given], list(self.given), variables=self.variables)


def _relative(path: Path, root: Path) -> str:
    return os.path.relpath(Path(os.path.abspath(path)), root)  # noqa: PTH100 - a symbolic link keeps its name


def _joined(root: Path, name: str) -> Path:
    return Path(os.path.normpath(root / name))


def _runbooks(found: object) -> Iterator[Runbook]:
    """Every runbook in a Model."""
    if isinstance(found, Runbook):
        yield found
    elif isinstance(found, Mapping):
        for value in found.values():
            yield from _runbooks(value)
    elif isinstance(found, tuple | list):
        for value in found:
            yield from _runbooks(value)
    elif hasattr(found, "__dataclass_fields__") and type(found).__module__ == model.Model.__module__:
        for one in fields(found):  # type: ignore[arg-type]
            yield from _runbooks(getattr(found, one.name))


@dataclass(frozen=True)
class Entry:
    """One apply that succeeded. ``time`` is in Unix seconds, ``files`` the number of rendered files that it changed.

    ``digest`` names the spec, ``rendered`` what followed from it. ``how`` is apply, up, repair or rollback, ``of`` the apply
    that a rollback went back to. ``seconds`` is how long the servers took, ``confirmed`` what each of them showed.
    """

    number: int
    time: float
    user: str
    how: str
    digest: str
    rendered: str
    version: str
    summary: str
    files: int
    seconds: float
    confirmed: Mapping[str, str]
    of: int | None = None

    def when(self) -> str:
        """Its time, by this machine's time zone."""
        return datetime.fromtimestamp(self.time).astimezone().strftime("%Y-%m-%d %H:%M")

    def as_json(self) -> dict[str, object]:
        """For tools."""
        return asdict(self)


@dataclass(frozen=True)
class Kept:
    """An apply with all that was kept of it: the spec, the rendered files, and the changes that it made."""

    entry: Entry
    snapshot: Snapshot
    artifacts: tuple[Artifact, ...]
    secrets: tuple[str, ...]
    changes: tuple[Mapping[str, Any], ...]


def rendered_digest(artifacts: Iterable[Artifact]) -> str:
    """A name for exactly these rendered files."""
    whole = hashlib.sha256()
    for artifact in sorted(artifacts):
        whole.update(f"{artifact.path}\0{len(artifact.text)}\0{artifact.text}".encode())
    return whole.hexdigest()


def version() -> str:
    """The version of this program."""
    return importlib.metadata.version("lgtm-as-code")


def keep(
    project: Project,
    snapshot: Snapshot,
    artifacts: Sequence[Artifact],
    *,
    secrets: Sequence[str],
    how: str,
    summary: str,
    changes: Sequence[Mapping[str, Any]],
    changed: int,
    seconds: float,
    confirmed: Mapping[str, str],
    of: int | None = None,
) -> Entry:
    """Keep what is now in force, as the newest; only the last fifty stay. To be called under ``rendered.lock``.

    Raises HistoryError: what is in force stays in force.
    """
    place = _place(project)
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        numbers = _numbers(place)
        entry = Entry(
            number=max(numbers, default=0) + 1,
            time=round(time.time(), 3),
            user=rendered.user(),
            how=how,
            digest=snapshot.digest,
            rendered=rendered_digest(artifacts),
            version=version(),
            summary=summary,
            files=changed,
            seconds=round(seconds, 3),
            confirmed=dict(confirmed),
            of=of,
        )
        rest = {
            "files": dict(snapshot.files),
            "given": list(snapshot.given),
            "variables": dict(snapshot.variables),
            "secrets": list(secrets),
            "changes": list(changes),
            "artifacts": {artifact.path: artifact.text for artifact in artifacts},
        }
        text = "\n".join(json.dumps(part, ensure_ascii=False) for part in (entry.as_json(), rest))
        temporary = place / "next"
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as sink:
            sink.write(gzip.compress(text.encode(), 3))
            sink.flush()
            os.fsync(sink.fileno())
        temporary.replace(_path(place, entry.number))
        rendered.sync(place)
        for number in sorted((*numbers, entry.number))[:-KEPT]:
            _path(place, number).unlink(missing_ok=True)
    except OSError as error:
        raise HistoryError(
            f"The apply could not be kept in {place}: {error.strerror or error}.", "What was applied is in force all the same."
        ) from error
    return entry


def entries(project: Project) -> list[Entry]:
    """All that are kept, oldest first. One that cannot be read is left out."""
    found = []
    place = _place(project)
    for number in _numbers(place):
        try:
            found.append(_head(place, number))
        except HistoryError:
            continue
    return found


def last(project: Project) -> Entry | None:
    """The newest that can be read: what is in force, unless files were rendered or changed by hand since."""
    place = _place(project)
    for number in reversed(_numbers(place)):
        try:
            return _head(place, number)
        except HistoryError:
            continue
    return None


def read(project: Project, number: int) -> Kept:
    """One apply with all that was kept of it. Raises HistoryError."""
    place = _place(project)
    if not _path(place, number).is_file():
        known = _numbers(place)
        there = f"There are {known[0]} to {known[-1]}." if known else "Nothing was applied here yet."
        raise HistoryError(f"There is no apply {number} in the history.", there)
    try:
        with gzip.open(_path(place, number), "rt", encoding="utf-8") as source:
            entry = Entry(**json.loads(source.readline()))
            rest = json.loads(source.readline())
        return Kept(
            entry,
            Snapshot(rest["files"], tuple(rest["given"]), rest["variables"]),
            tuple(Artifact(path, text) for path, text in sorted(rest["artifacts"].items())),
            tuple(rest["secrets"]),
            tuple(rest["changes"]),
        )
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, zlib.error) as error:
        raise _unreadable(place, number) from error


def _head(place: Path, number: int) -> Entry:
    try:
        with gzip.open(_path(place, number), "rt", encoding="utf-8") as source:
            return Entry(**json.loads(source.readline()))
    except (OSError, EOFError, ValueError, TypeError, zlib.error) as error:
        raise _unreadable(place, number) from error


def _unreadable(place: Path, number: int) -> HistoryError:
    return HistoryError(f"Apply {number} in {place} cannot be read.", f"Remove the file {_path(place, number).name} there.")


def _place(project: Project) -> Path:
    return project.root / ".lgtm" / "history"


def _path(place: Path, number: int) -> Path:
    return place / f"{number:06}.gz"


def _numbers(place: Path) -> list[int]:
    return sorted(int(path.stem) for path in place.glob("*.gz") if path.stem.isdecimal())
