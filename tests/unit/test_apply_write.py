"""Rendered files on disk: all or nothing for each server, whatever happens."""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from generator import rendered
from generator.render import Artifact

SERVERS = ("prometheus", "alertmanager", "loki")


def version(number: int, files: int = 3, size: int = 40) -> list[Artifact]:
    """A rendered tree of which every file says its version."""
    text = f"version: {number}\n" + "x" * size + "\n"
    return [Artifact(f"{server}/generated/rules/{i}.yaml", text) for server in SERVERS for i in range(files)]


def seen(root: Path) -> dict[str, set[str]]:
    """By server: the first lines of its files."""
    return {
        server: {
            path.read_text(encoding="utf-8").split("\n")[0]
            for path in (root / server / "generated").rglob("*")
            if path.is_file()
        }
        for server in SERVERS
    }


def every(versions: set[str]) -> dict[str, set[str]]:
    return dict.fromkeys(SERVERS, versions)


def leftovers(root: Path) -> list[str]:
    return [str(path.relative_to(root)) for path in root.rglob(".generated.*")]


def snapshot(root: Path) -> dict[str, tuple[int, int, int]]:
    return {str(p): (p.stat().st_ino, p.stat().st_mtime_ns, p.stat().st_ctime_ns) for p in root.rglob("*")}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory that counts as a project."""
    (tmp_path / "compose.yaml").touch()
    return tmp_path


def test_files_are_written_and_readable_by_the_servers_whatever_the_umask(root: Path) -> None:
    before = os.umask(0o077)
    try:
        found = rendered.write(root, version(1))
    finally:
        os.umask(before)
    assert [str(d) for d in found][:2] == [
        "alertmanager/generated/rules/0.yaml: missing",
        "alertmanager/generated/rules/1.yaml: missing",
    ]
    assert seen(root) == every({"version: 1"})
    for path in (root / "loki" / "generated").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644)
    assert stat.S_IMODE((root / "loki" / "generated").stat().st_mode) == 0o755
    assert leftovers(root) == []


def test_the_same_content_changes_nothing_at_all(root: Path) -> None:
    rendered.write(root, version(1))
    before = {top: snapshot(root / top) for top in SERVERS}
    assert rendered.write(root, version(1)) == []
    assert {top: snapshot(root / top) for top in SERVERS} == before
    assert rendered.write(root, version(2)) != []
    assert {top: snapshot(root / top) for top in SERVERS} != before


def test_a_server_whose_files_are_the_same_is_not_touched(root: Path) -> None:
    rendered.write(root, version(1))
    before = snapshot(root / "loki")
    changed = [a for a in version(1) if not a.path.startswith("prometheus")]
    changed.append(Artifact("prometheus/generated/rules/0.yaml", "version: 9\n"))
    rendered.write(root, changed)
    assert snapshot(root / "loki") == before
    assert seen(root)["prometheus"] == {"version: 9"}


def test_a_file_that_stays_keeps_its_inode_and_time(root: Path) -> None:
    rendered.write(root, version(1))
    kept = root / "loki/generated/rules/1.yaml"
    before = kept.stat()
    files = {a.path: a for a in version(1)}
    files["loki/generated/rules/0.yaml"] = Artifact("loki/generated/rules/0.yaml", "changed\n")
    rendered.write(root, files.values())
    assert (kept.stat().st_ino, kept.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert kept.stat().st_nlink == 1


def test_stale_files_go_and_other_directories_stay(root: Path) -> None:
    rendered.write(root, version(1))
    own = root / "prometheus" / "targets" / "mine.yaml"
    own.parent.mkdir()
    own.write_text("mine")
    (root / "prometheus/generated/rules/old.yaml").write_text("old")
    (root / "prometheus/generated/link.yaml").symlink_to(own)
    assert rendered.check(root, version(1)) == [
        "prometheus/generated/link.yaml: stale",
        "prometheus/generated/rules/old.yaml: stale",
    ]
    rendered.write(root, version(1))
    assert rendered.check(root, version(1)) == []
    assert not (root / "prometheus/generated/rules/old.yaml").exists()
    assert own.read_text() == "mine"


def test_check_names_what_differs_and_changes_nothing(root: Path) -> None:
    rendered.write(root, version(1))
    (root / "loki/generated/rules/0.yaml").unlink()
    (root / "loki/generated/rules/1.yaml").write_text("version: 1\nby hand\n")
    (root / "alertmanager/generated/extra.yml").write_text("")
    before = snapshot(root)
    assert rendered.check(root, version(1)) == [
        "alertmanager/generated/extra.yml: stale",
        "loki/generated/rules/0.yaml: missing",
        "loki/generated/rules/1.yaml: changed",
    ]
    changed = rendered.differences(root, version(1))[2]
    assert "-by hand" in changed.diff
    assert "+" + "x" * 40 in changed.diff
    assert snapshot(root) == before


def test_a_long_diff_is_cut(root: Path) -> None:
    rendered.write(root, [Artifact("loki/generated/rules/0.yaml", "a\n" * 500)])
    (difference,) = rendered.differences(root, [Artifact("loki/generated/rules/0.yaml", "b\n" * 500)])
    lines = difference.diff.splitlines()
    assert len(lines) == 25
    assert lines[-1] == "… 979 more lines"


def test_directories_that_servers_want_are_there_without_files(root: Path) -> None:
    rendered.write(root, version(1))
    rendered.write(root, [])
    assert (root / "loki/generated/rules").is_dir()
    assert rendered.check(root, []) == []


@pytest.mark.parametrize(
    "path", ["prometheus/prometheus.yml", "/etc/generated/x", "prometheus/generated/../prometheus.yml", "x/generated/y"]
)
def test_a_renderer_cannot_write_elsewhere(root: Path, path: str) -> None:
    with pytest.raises(ValueError, match="is not below"):
        rendered.write(root, [Artifact(path, "")])


def test_a_reader_never_finds_the_directory_missing(root: Path) -> None:
    rendered.write(root, version(0))
    file = root / "prometheus/generated/rules/0.yaml"
    gaps = 0
    reads = 0
    done = threading.Event()

    def read() -> None:
        nonlocal gaps, reads
        while not done.is_set():
            reads += 1
            gaps += not file.exists()

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(1, 60):
        rendered.write(root, version(number))
    done.set()
    reader.join()
    assert reads > 100
    assert gaps == 0


def without_exchange(one: Path, other: Path) -> bool:
    """What `swap` answers where the file system knows no exchange."""
    return False


def test_where_the_system_knows_no_exchange_two_steps_do_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendered, "swap", without_exchange)
    rendered.write(root, version(1))
    rendered.write(root, version(2))
    assert seen(root) == every({"version: 2"})
    assert leftovers(root) == []


@pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="no system call for an exchange here")
def test_this_system_exchanges_in_one_step(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "was-a").touch()
    assert rendered.swap(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b" / "was-a").exists()
    with pytest.raises(OSError, match="No such file") as raised:
        rendered.swap(tmp_path / "a", tmp_path / "missing")
    assert raised.value.errno == errno.ENOENT


def _writer(root: Path, two_steps: bool) -> int:
    """A child of this process, which has read everything already, that writes version after version. Its process id."""
    ready, says = os.pipe()
    pid = os.fork()
    if pid:
        os.close(says)
        with os.fdopen(ready, "rb") as told:
            told.read(1)
        return pid
    try:
        # Whoever started pytest in the background had it ignore this.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if two_steps:
            rendered.swap = without_exchange
        os.write(says, b".")
        number = 1
        while True:
            rendered.write(root, version(number, files=6, size=4000))
            number += 1
    finally:
        # Nothing of pytest's may run here.
        os._exit(1)


def _end(pid: int, which: signal.Signals) -> None:
    """Send the signal, and once more each few seconds: Python drops a Ctrl-C that comes while it collects garbage."""
    for _ in range(5):
        os.kill(pid, which)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            if os.waitpid(pid, os.WNOHANG)[0]:
                return
            time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError("five signals, and it goes on")


@pytest.mark.parametrize("two_steps", [False, True], ids=["exchange", "two-steps"])
@pytest.mark.parametrize("which", [signal.SIGKILL, signal.SIGINT], ids=["kill-9", "ctrl-c"])
def test_killed_at_any_moment_each_server_has_one_whole_version(root: Path, which: signal.Signals, two_steps: bool) -> None:
    # Fixed: a failure can be repeated, as far as the scheduler allows.
    moments = random.Random(f"{which}{two_steps}")
    interrupted = 0
    for _ in range(30 if which == signal.SIGKILL and not two_steps else 8):
        child = _writer(root, two_steps)
        time.sleep(moments.uniform(0.005, 0.12))
        _end(child, which)
        interrupted += bool(leftovers(root))
        if two_steps:
            # Between the two steps nothing is there; the next run puts it right before it does anything else.
            rendered.recover(root, lambda line: None)
        for server, versions in seen(root).items():
            assert len(versions) <= 1, f"{server} has parts of {versions}"
            files = list((root / server / "generated").rglob("*.yaml"))
            assert len(files) in (0, 6)
            assert all(len(file.read_bytes()) > 4000 for file in files)
    rendered.write(root, version(0))
    assert leftovers(root) == []
    assert seen(root) == every({"version: 0"})
    # Ctrl-C cleans up after itself; a kill cannot, and if none had come in between, nothing would have been tried.
    if which == signal.SIGKILL:
        assert interrupted > 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("only root may mount a small file system")
    made = subprocess.run([mount, "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], capture_output=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"no small file system: {made.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["/bin/umount", str(place)], check=True)


def test_a_full_disk_changes_nothing(small_disk: Path) -> None:
    root = small_disk
    (root / "compose.yaml").touch()
    rendered.write(root, version(1))
    before = {server: snapshot(root / server / "generated") for server in SERVERS}
    # Prometheus's files fit, Loki's do not: neither may change.
    big = [a if not a.path.startswith("loki") else Artifact(a.path, "x" * 200_000) for a in version(2)]
    with pytest.raises(rendered.WriteError, match="is full") as raised:
        rendered.write(root, big)
    assert raised.value.hint == "Free some space and try again."
    assert {server: snapshot(root / server / "generated") for server in SERVERS} == before
    assert leftovers(root) == []
    rendered.write(root, version(3))
    assert seen(root) == every({"version: 3"})


def test_a_file_that_may_not_grow_changes_nothing(root: Path) -> None:
    rendered.write(root, version(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(rendered.WriteError, match="as they were"):
            rendered.write(root, version(2, size=5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert seen(root) == every({"version: 1"})
    assert leftovers(root) == []


def test_without_permission_nothing_changes() -> None:
    place = Path(tempfile.mkdtemp())
    try:
        place.chmod(0o755)
        (place / "compose.yaml").touch()
        rendered.write(place, version(1))
        (place / "loki").chmod(0o555)
        (place / ".lgtm").chmod(0o777)
        (place / ".lgtm" / "apply.lock").chmod(0o666)
        for server in SERVERS[:2]:
            (place / server).chmod(0o777)
        if os.geteuid() == 0:
            os.seteuid(65534)
        try:
            with pytest.raises(rendered.WriteError, match=r"loki.*Permission denied.*as they were") as raised:
                rendered.write(place, version(2))
        finally:
            os.seteuid(os.getuid())
        assert raised.value.hint is not None
        assert "chown" in raised.value.hint
        assert seen(place) == every({"version: 1"})
        assert leftovers(place) == []
    finally:
        (place / "loki").chmod(0o755)
        shutil.rmtree(place)


def test_two_at_once_are_refused_with_the_others_process(root: Path) -> None:
    rendered.write(root, version(1))
    # The lock belongs to the open file, so another process is not needed to be refused.
    with (
        rendered.lock(root),
        pytest.raises(rendered.BusyError, match=rf"\(process {os.getpid()} of .+, since \d\d:\d\d:\d\d\)"),
    ):
        rendered.write(root, version(2))
    assert seen(root)["loki"] == {"version: 1"}
    rendered.write(root, version(2))


def test_elsewhere_than_in_a_project_no_state_is_left(tmp_path: Path) -> None:
    rendered.write(tmp_path / "out", version(1))
    assert not (tmp_path / "out" / ".lgtm").exists()
    assert seen(tmp_path / "out")["loki"] == {"version: 1"}


def switched_but_not_confirmed(root: Path) -> None:
    """The disk as an `apply` leaves it that is killed between the exchange and the answer of the servers."""
    trees = {n: rendered.by_server(version(n)) for n in (1, 2)}
    rendered.write(root, version(1))
    rendered.stage(root / "loki", trees[2]["loki"], trees[1]["loki"], ())
    rendered.open_journal(root, trees[1], {"loki": trees[2]["loki"]})
    rendered.exchange(root / "loki")
    assert seen(root)["loki"] == {"version: 2"}


def test_what_a_killed_apply_had_not_confirmed_is_undone(root: Path) -> None:
    switched_but_not_confirmed(root)
    said: list[str] = []
    assert rendered.recover(root, said.append) == ["loki"]
    assert seen(root)["loki"] == {"version: 1"}
    assert "killed" in said[0]
    assert leftovers(root) == []
    assert not (root / ".lgtm" / "apply.journal").exists()
    assert rendered.recover(root, said.append) == []


def test_undoing_leaves_alone_what_someone_changed_since(root: Path) -> None:
    switched_but_not_confirmed(root)
    (root / "loki/generated/rules/0.yaml").write_text("version: by hand\n")
    assert rendered.recover(root, lambda line: None) == []
    assert "version: by hand" in seen(root)["loki"]


@pytest.mark.parametrize("text", ["", "{", "[]", json.dumps({"servers": 3}), json.dumps({"servers": {"../x": {}}})])
def test_a_broken_journal_does_no_harm(root: Path, text: str) -> None:
    rendered.write(root, version(1))
    (root / ".lgtm" / "apply.journal").write_text(text)
    rendered.write(root, version(2))
    assert seen(root)["loki"] == {"version: 2"}
    assert not (root / ".lgtm" / "apply.journal").exists()
