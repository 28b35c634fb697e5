"""Rendered files on disk: each server's ``generated`` directory changes at once or not at all.

A new version is written beside the old one, inside the directory that the container mounts, and the two are exchanged in one
step of the file system: a server, or a run that is killed, sees the old directory or the new one and nothing in between. While
two versions are in play a journal in ``.lgtm/`` says which, so that the next run can undo what a killed one left behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import difflib
import errno
import fcntl
import functools
import getpass
import hashlib
import json
import os
import shutil
import stat
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from generator.errors import LgtmError
from generator.progress import Report
from generator.render import Artifact

if TYPE_CHECKING:
    pass

# Relative path inside ``generated/`` → content.
Files = Mapping[str, bytes]

GENERATED = "generated"
# Beside ``generated``, in the same file system, and matched by no pattern that a server reads.
STAGE = ".generated.new"
ASIDE = ".generated.old"
CHECK_CONFIG = ".generated.check.yml"

# The servers that read rendered files, and the directories that must be there even when they are empty: Loki's ruler and
# Grafana complain about a missing one, and git keeps no empty ones. Runbooks are for people: no server reads them.
TREES: Mapping[str, tuple[str, ...]] = {
    "prometheus": ("rules", "scrape"),
    "alertmanager": (),
    "blackbox": (),
    "loki": ("rules",),
    "grafana": ("dashboards",),
    "runbooks": (),
}

_DIFF_LINES = 24


class WriteError(LgtmError):
    """The rendered files could not be written; the old ones are in place."""


class BusyError(LgtmError):
    """Another run is writing or applying."""


@dataclass(frozen=True, order=True)
class Difference:
    """A rendered file that is not on disk as it should be. ``diff`` is a unified diff, cut after a screenful."""

    path: str
    kind: Literal["missing", "stale", "changed"]
    diff: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"{self.path}: {self.kind}"


# --- on disk -----------------------------------------------------------------------------------------------------------------


def write(root: Path, artifacts: Iterable[Artifact]) -> list[Difference]:
    """Put the rendered files under ``root`` (a project, or any directory), remove stale ones, return what was different.

    Every server's directory changes at once or not at all; one whose content is the same is not touched. Raises WriteError
    (full disk, no permission), and BusyError when another run is at it; the old files are then in place.
    """
    trees = by_server(artifacts)
    # Elsewhere than in a project nothing runs that could be disturbed, and no state is kept.
    with lock(root) if (root / "compose.yaml").is_file() else contextlib.nullcontext():
        recover(root, lambda line: None)
        present = {server: read_tree(root / server / GENERATED) for server in TREES}
        found = compare(trees, present)
        staged = [server for server in TREES if present[server] != trees[server]]
        try:
            # All are complete before the first is exchanged: a full disk then changes nothing at all.
            for server in staged:
                stage(root / server, trees[server], present[server], TREES[server])
            for server in staged:
                exchange(root / server)
        finally:
            for server in TREES:
                clean(root / server)
        return found


def differences(root: Path, artifacts: Iterable[Artifact]) -> list[Difference]:
    """How the files under ``root`` differ from the rendered ones, sorted by path. Changes nothing. Raises WriteError."""
    return compare(by_server(artifacts), {server: read_tree(root / server / GENERATED) for server in TREES})


def check(root: Path, artifacts: Iterable[Artifact]) -> list[str]:
    """`differences` as lines: ``path: missing``, ``path: stale``, ``path: changed``. Empty when all is as rendered."""
    return [str(difference) for difference in differences(root, artifacts)]


def by_server(artifacts: Iterable[Artifact]) -> dict[str, dict[str, bytes]]:
    """The artifacts by server and path inside ``generated/``. ValueError for one that belongs nowhere: a renderer's bug."""
    trees: dict[str, dict[str, bytes]] = {server: {} for server in TREES}
    for artifact in artifacts:
        parts = PurePosixPath(artifact.path).parts
        if len(parts) < 3 or parts[0] not in TREES or parts[1] != GENERATED or ".." in parts:
            raise ValueError(f"{artifact.path} is not below <server>/{GENERATED}/")
        inner = "/".join(parts[2:])
        if inner in trees[parts[0]]:
            raise ValueError(f"{artifact.path} is rendered twice")
        trees[parts[0]][inner] = artifact.text.encode()
    return trees


def read_tree(directory: Path) -> dict[str, bytes]:
    """All files below a directory by relative path; empty when there is none. Raises WriteError."""
    found: dict[str, bytes] = {}
    try:
        for path in sorted(directory.rglob("*")):
            if path.is_symlink():
                # Never what was rendered, whatever it points to.
                found[path.relative_to(directory).as_posix()] = b"symbolic link to " + os.fsencode(path.readlink())
            elif path.is_file():
                found[path.relative_to(directory).as_posix()] = path.read_bytes()
    except OSError as error:
        raise write_error(error, directory) from error
    return found


def compare(trees: Mapping[str, Mapping[str, bytes]], present: Mapping[str, Mapping[str, bytes]]) -> list[Difference]:
    found = []
    for server, files in trees.items():
        for name in sorted(files.keys() | present[server].keys()):
            old, new = present[server].get(name), files.get(name)
            if old == new:
                continue
            kind: Literal["missing", "stale", "changed"] = "missing" if old is None else "stale" if new is None else "changed"
            path = f"{server}/{GENERATED}/{name}"
            found.append(Difference(path, kind, _unified(path, old or b"", new or b"") if kind == "changed" else ""))
    return sorted(found)


def _unified(path: str, old: bytes, new: bytes) -> str:
    lines = list(
        difflib.unified_diff(
            old.decode(errors="replace").splitlines(),
            new.decode(errors="replace").splitlines(),
            f"{path} (on disk)",
            f"{path} (rendered)",
            n=1,
            lineterm="",
        )
    )
    more = len(lines) - _DIFF_LINES
    return "\n".join(lines[:_DIFF_LINES] + ([f"… {more} more lines"] if more > 0 else []))


def stage(parent: Path, files: Files, present: Files, directories: Sequence[str]) -> None:
    """Write the complete new directory beside the old one and onto the disk. Raises WriteError, leaving nothing behind."""
    stage = parent / STAGE
    try:
        parent.mkdir(parents=True, exist_ok=True)
        _remove(stage)
        made = {stage, *(stage / name for name in directories)}
        for name in files:
            made.update(path for path in (stage / name).parents if path.is_relative_to(stage))
        # Servers read as other users, whatever the umask.
        for path in sorted(made):
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(0o755)
        for name, content in files.items():
            old, new = parent / GENERATED / name, stage / name
            if present.get(name) == content and _link(old, new):
                continue
            with new.open("wb") as sink:
                os.fchmod(sink.fileno(), 0o644)
                sink.write(content)
                sink.flush()
                os.fsync(sink.fileno())
        for path in made:
            sync(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            _remove(stage)
        raise write_error(error, stage) from error
    except BaseException:
        with contextlib.suppress(OSError):
            _remove(stage)
        raise


def _link(old: Path, new: Path) -> bool:
    """Let an unchanged file keep its inode and its time; False when that is not possible."""
    try:
        if stat.S_IMODE(old.stat().st_mode) & 0o444 != 0o444:
            return False
        os.link(old, new)
        return True
    except OSError:
        return False


def exchange(parent: Path) -> None:
    """Exchange ``generated`` and the staged directory in one step. Raises WriteError with the old one in place."""
    live, stage = parent / GENERATED, parent / STAGE
    try:
        if not os.path.lexists(live):
            live.mkdir(mode=0o755)
        if not swap(live, stage):
            # No such system call here: two steps, and `recover_tree` knows how to finish either.
            aside = parent / ASIDE
            live.rename(aside)
            try:
                stage.rename(live)
            except BaseException:
                if not os.path.lexists(live):
                    aside.rename(live)
                raise
            aside.rename(stage)
        sync(parent)
    except OSError as error:
        raise write_error(error, live) from error


def swap(one: Path, other: Path) -> bool:
    """Exchange two paths atomically; False where the system or the file system cannot. Raises OSError."""
    library = _libc()
    first, second = os.fsencode(one), os.fsencode(other)
    at_cwd, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE; RENAME_SWAP is 2 as well
    if sys.platform == "darwin" and hasattr(library, "renamex_np"):
        result = library.renamex_np(first, second, exchange)
    elif sys.platform == "linux" and hasattr(library, "renameat2"):
        result = library.renameat2(at_cwd, first, at_cwd, second, exchange)
    else:
        return False
    if result == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP):
        return False
    raise OSError(code, os.strerror(code), str(one))


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def recover_tree(parent: Path) -> None:
    """Finish an exchange in two steps that was killed between them. Raises WriteError."""
    live, stage, aside = parent / GENERATED, parent / STAGE, parent / ASIDE
    try:
        if os.path.lexists(aside):
            if not os.path.lexists(live):
                aside.rename(live)
            elif not os.path.lexists(stage):
                aside.rename(stage)
            else:
                _remove(aside)
    except OSError as error:
        raise write_error(error, aside) from error


def clean(parent: Path) -> None:
    """Remove what is not needed any more: the staged or the replaced directory. Failing to is no fault: the next run will."""
    with contextlib.suppress(WriteError):
        # Never remove what was moved aside before the new one has its place.
        recover_tree(parent)
        for name in (STAGE, CHECK_CONFIG):
            with contextlib.suppress(OSError):
                _remove(parent / name)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync(directory: Path) -> None:
    """Have the names in a directory on the disk. Raises OSError."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_error(error: OSError, path: Path) -> WriteError:
    where = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else path
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return WriteError(
            f"The disk under {path.parent} is full; the files there are as they were.", "Free some space and try again."
        )
    if error.errno == errno.EFBIG:
        return WriteError(f"A file under {path.parent} may not grow so large; the files there are as they were.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return WriteError(
            f"{where} cannot be read or written: {error.strerror}; the files there are as they were.",
            f"Make {path.parent} writable for the user who runs this: `sudo chown -R $USER {path.parent}`.",
        )
    return WriteError(f"{where} could not be written: {error.strerror or error}; the files there are as they were.")


# --- one at a time, and what a killed run left -------------------------------------------------------------------------------


@contextlib.contextmanager
def lock(root: Path) -> Iterator[None]:
    """Hold the lock of the project at ``root``. Raises BusyError at once when another run holds it."""
    state = root / ".lgtm"
    try:
        state.mkdir(exist_ok=True)
        handle = os.open(state / "apply.lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise write_error(error, state / "apply.lock") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(handle, 100, 0).decode(errors="replace").strip()
            raise BusyError(
                f"Another `lgtm` is writing or applying this project{f' (process {holder})' if holder else ''}.",
                "Wait until it has ended, then try again.",
            ) from None
        with contextlib.suppress(OSError):  # only for the message above: a full disk must not stop a rollback
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()} of {user()}, since {time.strftime('%H:%M:%S')}".encode(), 0)
        yield
    finally:
        os.close(handle)


def user() -> str:
    """Who runs this; with sudo, who asked for it."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (OSError, KeyError):
        return f"user {os.getuid()}"


def _journal(root: Path) -> Path:
    return root / ".lgtm" / "apply.journal"


def _digest(files: Files) -> str:
    whole = hashlib.sha256()
    for name in sorted(files):
        whole.update(f"{name}\0{len(files[name])}\0".encode())
        whole.update(files[name])
    return whole.hexdigest()


def open_journal(root: Path, old: Mapping[str, Files], new: Mapping[str, Files]) -> None:
    entry = {server: {"old": _digest(old[server]), "new": _digest(new[server])} for server in new}
    path = _journal(root)
    temporary = path.with_suffix(".new")
    try:
        with temporary.open("w", encoding="utf-8") as sink:
            json.dump({"pid": os.getpid(), "servers": entry}, sink)
            sink.flush()
            os.fsync(sink.fileno())
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        raise write_error(error, path) from error


def close_journal(root: Path) -> None:
    path = _journal(root)
    try:
        if path.exists():
            path.unlink()
            sync(path.parent)
    except OSError as error:
        raise write_error(error, path) from error


def recover(root: Path, report: Report) -> list[str]:
    """Undo what a killed `apply` had exchanged but not confirmed; returns those servers. Raises WriteError.

    Their running configuration may still be the new one: `apply` finds that out by asking.
    """
    for server in TREES:
        recover_tree(root / server)
    undone = []
    entries: dict[str, Any] = {}
    # One that cannot be read was never written by us, for it is renamed into place; nothing in it can be trusted.
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        entries = dict(json.loads(_journal(root).read_text(encoding="utf-8"))["servers"])
    for server, digests in entries.items():
        parent = root / server
        if (
            server in TREES
            and _digest(read_tree(parent / GENERATED)) == digests.get("new")
            and (parent / STAGE).is_dir()
            and _digest(read_tree(parent / STAGE)) == digests.get("old")
        ):
            exchange(parent)
            undone.append(server)
    if undone:
        report(f"an earlier run was killed before it could confirm {', '.join(undone)}: the files before it are back")
    close_journal(root)
    for server in TREES:
        clean(root / server)
    return undone
