"""Rendered files into the running servers, or everything as it was.

`apply` has the new files checked by the servers' own tools first, exchanges them for the old ones, has the servers load them,
asks each server's API whether they are in force, and puts the old ones back when anything is refused.

Nothing here prints; progress goes to a ``report`` callback, one short line each time.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import io
import re
import signal
import tarfile
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import FrameType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import requests
import yaml

from generator import engine, rendered, servers
from generator import secrets as secret_files
from generator.errors import LgtmError
from generator.progress import Report
from generator.project import Project
from generator.render import Artifact
from generator.rendered import (
    GENERATED,
    TREES,
    Difference,
    Files,
)
from generator.targets import (
    OPTIONAL,
    POLL,
    TARGETS,
    Fault,
    RejectedError,
    StoppedError,
)

if TYPE_CHECKING:
    import docker

T = TypeVar("T")


class NotRunningError(LgtmError):
    """The stack, or a server that is needed, does not run. Nothing was changed."""


class InterruptedApplyError(LgtmError):
    """A signal came; the old configuration is in place."""

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        # What a shell reports for a process that a signal ended.
        self.exit_code = 128 + signum


class RefusedError(LgtmError):
    """A tool or a server refused the new configuration. ``faults`` has all of them, ``restored`` the servers put back."""

    def __init__(self, faults: Sequence[Fault], what: str, hint: str | None, restored: Sequence[str] = ()) -> None:
        super().__init__("\n".join([what, *(f"  {fault}" for fault in faults)]), hint)
        self.faults = tuple(faults)
        self.restored = tuple(restored)


@dataclass(frozen=True)
class ApplyResult:
    """What `apply` did.

    ``changed`` are the files that differ now; ``reloaded`` the servers that read theirs again; ``confirmed`` maps each server
    to what its API showed; ``notes`` are sentences for the user; ``seconds`` by step, ``total`` among them.
    """

    changed: tuple[Difference, ...]
    reloaded: tuple[str, ...]
    confirmed: Mapping[str, str]
    notes: tuple[str, ...]
    seconds: Mapping[str, float]

    def summary(self) -> str:
        """For people: one line for each server that confirmed, then what was changed and how long it took."""
        lines = [f"{server}: {what}" for server, what in self.confirmed.items()]
        lines += [f"note: {note}" for note in self.notes]
        changed = f"{len(self.changed)} file{'' if len(self.changed) == 1 else 's'} changed" if self.changed else None
        reloaded = f"{', '.join(self.reloaded)} reloaded" if self.reloaded else None
        what = "; ".join(part for part in (changed, reloaded) if part) or "nothing to change"
        return "\n".join([*lines, f"applied in {self.seconds['total']:.2f} s: {what}"])

    def as_json(self) -> dict[str, object]:
        """For tools."""
        return {
            "changed": [{"path": d.path, "kind": d.kind} for d in self.changed],
            "reloaded": list(self.reloaded),
            "confirmed": dict(self.confirmed),
            "notes": list(self.notes),
            "seconds": {step: round(seconds, 3) for step, seconds in self.seconds.items()},
        }


# --- signals -----------------------------------------------------------------------------------------------------------------


class _Signals:
    """While active, SIGINT, SIGTERM and SIGHUP only set a flag, which `check` turns into an exception at a safe place."""

    caught: ClassVar = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self.signum: int | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> _Signals:
        # Only the main thread may set handlers, and only it is interrupted.
        if threading.current_thread() is threading.main_thread():
            for which in self.caught:
                # An ignored signal (nohup) stays ignored.
                if signal.getsignal(which) is not signal.SIG_IGN:
                    self._before[which] = signal.signal(which, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for which, handler in self._before.items():
            signal.signal(which, handler)

    def _note(self, signum: int, _frame: FrameType | None) -> None:
        self.signum = signum

    def check(self) -> None:
        """Raise InterruptedApplyError when a signal has come."""
        if self.signum is not None:
            raise InterruptedApplyError(self.signum, "Stopped before anything was changed.")


# --- the servers, as apply sees them -----------------------------------------------------------------------------------------


# --- apply -------------------------------------------------------------------------------------------------------------------


def read_secrets(project: Project, needs: Mapping[str, Collection[str]]) -> dict[str, dict[str, bytes]]:
    """The content of the secrets that servers need: ``needs`` has their names by server.

    Raises SecretsError that names every file that is missing, with the command that makes each.
    """
    found: dict[str, dict[str, bytes]] = {}
    missing: list[str] = []
    others: list[LgtmError] = []
    for server, names in needs.items():
        found[server] = {}
        for name in sorted(names):
            try:
                found[server][name] = secret_files.read(project, name)
            except secret_files.SecretsError as error:
                if name.startswith("env.") or (secret_files.directory(project) / name).exists():
                    others.append(error)
                elif name not in missing:
                    missing.append(name)
    if missing:
        one = len(missing) == 1
        raise secret_files.SecretsError(
            f"The secret{'' if one else 's'} {', '.join(missing)} {'is' if one else 'are'} missing; nothing was changed.",
            "Make each with its command, paste, then Enter and Ctrl-D: "
            + "; ".join(f"`install -m 600 /dev/stdin secrets/{name}`" for name in missing)
            + ".",
        )
    if others:
        raise others[0]
    return found


# Faults that are found once everything is in force; a list that is not empty has it all put back.
Accept = Callable[[], Sequence[Fault]]


def apply(
    project: Project,
    artifacts: Iterable[Artifact],
    secrets: Mapping[str, Mapping[str, bytes]],
    report: Report,
    *,
    accept: Accept | None = None,
    locked: bool = False,
) -> ApplyResult:
    """Put the rendered files in force on the running servers, or leave everything as it was.

    ``secrets`` has, by server and name, what its configuration refers to: see `read_secrets`. ``accept`` looks at the servers
    once they have loaded something. ``locked`` says that the caller holds ``rendered.lock``.

    Raises NotRunningError, SecretsError, BusyError and WriteError before anything is changed; RefusedError with every fault
    of every tool, or with a server's own reason once the last good configuration is back; InterruptedApplyError likewise.
    """
    trees = rendered.by_server(artifacts)
    with contextlib.nullcontext() if locked else rendered.lock(project.root), _Signals() as signals:
        return _Apply(project, trees, secrets, report, signals, accept).run()


# Lines of Prometheus's log that say that something failed, and not what.
# How long a reason is waited for that stands only in a log.
_LOG_SECONDS = 2.0
_NO_REASON = r"one or more errors occurred|previous rule set restored"


@contextlib.contextmanager
def _docker_errors(what: str) -> Iterator[None]:
    """Docker's own errors as a sentence; used only before anything is changed."""
    from docker.errors import DockerException

    try:
        yield
    except (DockerException, requests.RequestException, tarfile.TarError) as error:
        raise LgtmError(f"{what}; nothing was changed: {error}.", "Run `lgtm doctor`.") from error


class _Apply:
    """One run of `apply`, under the lock."""

    def __init__(
        self,
        project: Project,
        trees: Mapping[str, Files],
        secrets: Mapping[str, Mapping[str, bytes]],
        report: Report,
        signals: _Signals,
        accept: Accept | None = None,
    ) -> None:
        self.project = project
        self.accept = accept
        self.new = dict(trees)
        self.secrets = secrets
        self.report = report
        self.signals = signals
        self.targets = {name: kind(project) for name, kind in TARGETS.items()}
        self.seconds: dict[str, float] = {}
        self.notes: list[str] = []
        self.client: docker.DockerClient | None = None
        self.containers: dict[str, dict[str, Any]] = {}
        self.old: dict[str, Files] = {}
        self.stamps: dict[str, float] = {}
        self.swapped: list[str] = []
        self.reloaded: list[str] = []
        self.secrets_before: dict[str, dict[str, bytes]] = {}
        self.stop = False  # for threads that wait while another server has already refused
        self.undoing = False  # the way back is not interrupted: it is short, and half of it would be worse
        self.pool = concurrent.futures.ThreadPoolExecutor(12, thread_name_prefix="apply")

    def run(self) -> ApplyResult:
        begun = time.monotonic()
        try:
            rendered.recover(self.project.root, self.report)
            with self.step("look"):
                self.old = {server: rendered.read_tree(self.project.root / server / GENERATED) for server in TREES}
                changed = [server for server in TREES if self.new[server] != self.old[server]]
                needed, stale = self.look(changed)
            work = [server for server in TREES if server in changed or server in stale]
            # A server that does not run reads its files when it starts.
            load = [server for server in work if server in needed]
            confirmed = {s: self.targets[s].evidence(self.new[s]) for s in needed if s not in work}
            try:
                with self.step("stage"):
                    for server in changed:
                        self.signals.check()
                        self.stage(server)
                if load:
                    with self.step("check"):
                        self.check(load, changed)
                else:
                    # One that was replaced under its name changes no configuration, and neither does one that a run which
                    # was killed after its switch did not come to take back.
                    with self.step("secrets"):
                        self.compare_secrets()
                self.signals.check()
                confirmed |= self.switch(changed, load)
            finally:
                for server in TREES:
                    rendered.clean(self.project.root / server)
            found = rendered.compare(self.new, self.old)
            self.keep_last_good(needed)
            self.seconds["total"] = time.monotonic() - begun
            return ApplyResult(tuple(found), tuple(load), confirmed, tuple(self.notes), dict(self.seconds))
        finally:
            self.stop = True
            self.pool.shutdown(wait=False, cancel_futures=True)
            if self.client is not None:
                self.client.close()

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        begun = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0) + time.monotonic() - begun

    def start(self, work: Mapping[str, Callable[[], T]]) -> dict[str, concurrent.futures.Future[T]]:
        return {name: self.pool.submit(call) for name, call in work.items()}

    def collect(
        self, futures: Mapping[str, concurrent.futures.Future[T]], *, interruptible: bool = True
    ) -> dict[str, T | Exception]:
        """Wait for all: results, or the exceptions, by name. A signal ends the waiting, not the work."""
        waiting = set(futures.values())
        while waiting:
            _, waiting = concurrent.futures.wait(waiting, timeout=0.05)
            if interruptible:
                self.signals.check()
        found: dict[str, T | Exception] = {}
        for name, future in futures.items():
            error = future.exception()
            if error is not None and not isinstance(error, Exception):
                raise error
            found[name] = future.result() if error is None else error
        return found

    def gather(self, work: Mapping[str, Callable[[], T]], *, interruptible: bool = True) -> dict[str, T | Exception]:
        """Run all at once and wait for all."""
        return self.collect(self.start(work), interruptible=interruptible)

    # - before anything changes

    def look(self, changed: Sequence[str]) -> tuple[list[str], list[str]]:
        """The servers that have rendered files and run, and those of them whose configuration in force is another one.

        Raises NotRunningError when one that is needed does not run, or does not answer.
        """

        wanted = [server for server in TREES if server in self.targets and (self.new[server] or server in changed)]
        asked = self.start({server: self.targets[server].state for server in wanted if server not in OPTIONAL})
        # What Docker knows of a server that is down is better than the silence of the server, and sooner there.
        containers = self.gather({"docker": self.find_containers})["docker"]
        if isinstance(containers, Exception):
            raise containers
        self.require(wanted)
        states = self.collect(asked)
        running = [server for server in wanted if server in self.containers]
        if late := [server for server in running if server in OPTIONAL]:
            states |= self.gather({server: self.targets[server].state for server in late})
        needed, stale, asks2 = [], [], {}
        for server in running:
            state = states[server]
            if isinstance(state, Exception):
                if server in OPTIONAL and isinstance(state, LgtmError):
                    self.notes.append(f"{server} does not answer; it reads its files when it is back.")
                    continue
                if isinstance(state, servers.UnreachableError | servers.AnswerError):
                    raise NotRunningError(
                        f"{server} does not answer; nothing was changed ({state.message})",
                        "If it has just been started, wait until `make status` says that it is ready.",
                    ) from state
                raise state
            needed.append(server)
            good, self.stamps[server] = state
            target = self.targets[server]
            old_enough = bool(target.metric) and self.stamps[server] < target.changed_at()
            if not good or old_enough:
                stale.append(server)
            elif server not in changed:
                asks2[server] = functools.partial(target.pending, self.new[server])
        for server, why in self.gather(asks2).items():
            if isinstance(why, Exception) and server not in OPTIONAL:
                raise why
            if why is not None:
                stale.append(server)
        return needed, stale

    def find_containers(self) -> None:
        self.client = engine.connect(timeout=60)
        name = self.project.compose_project
        with _docker_errors("The servers' containers could not be listed"):
            found = self.client.api.containers(all=True, filters={"label": f"com.docker.compose.project={name}"})
            # Containers through which a killed run was handing over secrets; one of this minute may be in use.
            helpers = self.client.api.containers(all=True, filters={"label": f"lgtm.helper={name}"})
            for helper in (h for h in helpers if h.get("Created", 0) < time.time() - 60):
                self.client.api.remove_container(helper["Id"], force=True, v=True)
        for entry in found:
            labels = entry.get("Labels") or {}
            server = labels.get("com.docker.compose.service")
            if server and labels.get("com.docker.compose.oneoff", "False") != "True":
                self.containers[server] = entry

    def require(self, wanted: Sequence[str]) -> None:
        states = {server: str(entry.get("State")) for server, entry in self.containers.items()}
        name = self.project.compose_project
        if "running" not in states.values():
            raise NotRunningError(
                f"The stack {name!r} is not running; nothing was changed.",
                "Start it with `make up`: it reads the rendered files when it starts.",
            )
        for entry in self.containers.values():
            other = (entry.get("Labels") or {}).get("com.docker.compose.project.working_dir", "")
            if other and Path(other).resolve() != self.project.root:
                raise NotRunningError(
                    f"The stack {name!r} that runs belongs to {other}, not to {self.project.root}; nothing was changed.",
                    f"Run this in {other}, or set another COMPOSE_PROJECT_NAME and other ports in .env here, and `make up`.",
                )
        down = {s: states.get(s, "not there") for s in wanted if s not in OPTIONAL and states.get(s) != "running"}
        if down:
            raise NotRunningError(
                "Not running: " + ", ".join(f"{s} (it is {state})" for s, state in down.items()) + "; nothing was changed.",
                f"Start with `make up`; `make logs` says why {next(iter(down))} stopped.",
            )
        for server in OPTIONAL & set(wanted):
            if states.get(server) != "running":
                self.containers.pop(server, None)
                if server in states:
                    self.notes.append(f"{server} is {states[server]}; it reads its files when it starts.")

    def stage(self, server: str) -> None:
        parent = self.project.root / server
        rendered.stage(parent, self.new[server], self.old[server], TREES[server])

    def check(self, load: Sequence[str], changed: Sequence[str]) -> None:
        """Have the servers' own tools read the new files, and the secrets ready. Raises RefusedError with all faults."""
        self.report("checking with the servers' own tools")
        # The tools look at the staged directory; one whose files stay is staged too, only for this.
        for server in load:
            if server not in changed:
                self.stage(server)

        def compare_secrets() -> list[Fault]:
            self.compare_secrets()
            return []

        work: dict[str, Callable[[], list[Fault]]] = {"secrets": compare_secrets}
        if "prometheus" in self.secrets and "prometheus" in self.containers:
            # promtool wants to see each file that a scrape job's credentials are read from.
            self.secrets_before["prometheus"] = self.present_secrets("prometheus")
            if self.secrets["prometheus"].keys() - self.secrets_before["prometheus"].keys():
                more = {**self.secrets["prometheus"], **self.secrets_before["prometheus"]}
                secret_files.sync(self.project, "prometheus", more, client=self.client)
        for server in load:
            run = functools.partial(self.in_container, server)
            work[server] = functools.partial(self.targets[server].check, run, self.new[server])
        faults: list[Fault] = []
        for found in self.gather(work).values():
            if isinstance(found, Exception):
                raise found
            faults += found
        if faults:
            restored = self.restore_last_good([s for s in load if s not in changed])
            raise RefusedError(
                faults,
                "The new configuration was refused before it was loaded; the servers go on as they were.",
                "What is refused follows from slos.yaml: mend it there, and try again."
                if not restored
                else f"The refused files were on disk already: the last good ones of {', '.join(restored)} are back.",
                restored,
            )

    def compare_secrets(self) -> None:
        """Note what secrets each server has now."""
        for server in self.secrets:
            if server in self.containers:
                self.secrets_before[server] = self.present_secrets(server)

    def in_container(self, server: str, words: Sequence[str]) -> tuple[int, str, str]:
        assert self.client is not None  # noqa: S101 - for the type checker
        with _docker_errors(f"{words[0]} could not be run in {server}'s container"):
            done = engine.execute(self.client.containers.get(self.containers[server]["Id"]), words)
        code = 1 if done.code is None else done.code
        return code, done.output.decode(errors="replace"), done.errors.decode(errors="replace")

    def present_secrets(self, server: str) -> dict[str, bytes]:
        """What the running server sees under /run/lgtm-secrets, without the emptied ones."""
        assert self.client is not None  # noqa: S101 - for the type checker
        found = {}
        with _docker_errors(f"The secrets of {server} could not be compared"):
            stream, _ = self.client.api.get_archive(self.containers[server]["Id"], secret_files.MOUNT)
            with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
                for entry in archive.getmembers():
                    source = archive.extractfile(entry) if entry.isfile() else None
                    if source is not None and (content := source.read()):
                        found[PurePosixPath(entry.name).name] = content
        return found

    # - the change

    def switch(self, changed: Sequence[str], load: Sequence[str]) -> dict[str, str]:
        """Exchange, reload, confirm; on any refusal, timeout or signal put all back and raise."""
        handed = [server for server in self.secrets_before if self.secrets_before[server] != self.secrets[server]]
        if not changed and not load and not handed:
            return {}
        try:
            if handed:
                with self.step("secrets"):
                    self.report(f"handing new secrets to {', '.join(handed)}")
                    for server in handed:
                        # What only the old configuration needs stays until the new one is in force.
                        both = {**self.secrets_before[server], **self.secrets[server]}
                        secret_files.sync(self.project, server, both, client=self.client)
            with self.step("switch"):
                self.report(f"switching {', '.join(load or changed or handed)}")
                rendered.open_journal(self.project.root, self.old, {server: self.new[server] for server in changed})
                for server in changed:
                    self.signals.check()
                    # Noted first: an exchange that fails half-way is undone by looking at the directories.
                    self.swapped.append(server)
                    rendered.exchange(self.project.root / server)
                if changed and (left := rendered.compare(self.new, {s: self.on_disk(s) for s in TREES})):
                    raise RejectedError(f"{left[0].path} was changed by something else meanwhile")
            with self.step("reload and confirm"):
                confirmed = self.load(load, self.new, self.old)
                self.signals.check()
            if self.accept is not None and load:
                with self.step("accept"):
                    if faults := self.accept():
                        raise RefusedError(faults, "", None)
                self.signals.check()
            rendered.close_journal(self.project.root)
        except BaseException as error:
            self.undo(error, handed)
            raise
        self.drop_secrets(handed)
        return confirmed

    def drop_secrets(self, handed: Sequence[str]) -> None:
        """Take back the secrets that the configuration in force does not name. A failure harms nothing, so it is a note."""
        for server in handed:
            self.notes.append(f"{server} was handed its secrets anew.")
            if self.secrets_before[server].keys() - self.secrets[server].keys():
                try:
                    secret_files.sync(self.project, server, self.secrets[server], client=self.client)
                except LgtmError as error:
                    self.notes.append(error.message)

    def on_disk(self, server: str) -> Files:
        return rendered.read_tree(self.project.root / server / GENERATED)

    def load(self, load: Sequence[str], files: Mapping[str, Files], before: Mapping[str, Files]) -> dict[str, str]:
        """Have servers read their files and wait until they are in force. Raises RefusedError with every refusal."""
        since = dict(self.stamps)
        began = time.time()

        def stopped() -> bool:
            return self.stop or (self.signals.signum is not None and not self.undoing)

        def one(server: str) -> str:
            target = self.targets[server]
            try:
                target.reload()
                return target.confirm(files[server], since.get(server), before[server], stopped)
            except RejectedError as error:
                faults = self.reasons(server, str(error), began)
            except servers.UnreachableError as error:
                faults = [Fault(server, error.why)]
            # While this way back is taken, each server is to have its full time.
            self.stop = server not in OPTIONAL and not self.undoing
            raise RefusedError(faults, "", None)

        self.reloaded = list(load)
        found = self.gather({server: functools.partial(one, server) for server in load}, interruptible=False)
        confirmed: dict[str, str] = {}
        faults: list[Fault] = []
        for server, result in found.items():
            if isinstance(result, str):
                confirmed[server] = result
            elif isinstance(result, RefusedError) and server in OPTIONAL:
                self.notes.append(f"Not confirmed, but nothing else depends on it: {result.faults[0]}.")
            elif isinstance(result, RefusedError):
                faults += result.faults
            elif not isinstance(result, StoppedError):
                raise result
        if faults:
            raise RefusedError(faults, "", None)
        if not self.undoing:
            self.signals.check()
        return confirmed

    def reasons(self, server: str, said: str, began: float) -> list[Fault]:
        """A server's refusal as faults; where its answer gives no reason, those of its log since then."""
        target = self.targets[server]
        if "one or more errors occurred" in said and self.client is not None:
            with contextlib.suppress(Exception):  # the log is a help, and the refusal stands without it
                # Docker takes a moment to write down what the server has said already.
                deadline = time.monotonic() + _LOG_SECONDS
                while time.monotonic() < deadline:
                    raw = self.client.api.logs(self.containers[server]["Id"], since=began - 0.05, tail=200)
                    errors = re.findall(r'level=ERROR.*?\berr="((?:[^"\\]|\\.)*)"', raw.decode(errors="replace"))
                    lines = [re.sub(r"\\(.)", r"\1", e) for e in errors if not re.search(_NO_REASON, e)]
                    if lines:
                        # Its own lines name the live directory already.
                        return target.own_words("\n".join(dict.fromkeys(lines)), server)
                    time.sleep(POLL)
        return target.own_words(said, server) or [Fault(server, said)]

    # - the way back

    def undo(self, error: BaseException, handed: Sequence[str]) -> None:
        """Put the old files and secrets back, have them loaded, and raise what the user is to read."""
        self.report("refused: putting the last good configuration back" if not self.signals.signum else "stopping")
        began_reload = bool(self.reloaded)
        failed: list[str] = []
        restored: list[str] = []
        for server in self.swapped:
            parent = self.project.root / server
            try:
                rendered.recover_tree(parent)
                if self.on_disk(server) != self.old[server]:
                    rendered.exchange(parent)
                restored.append(server)
            except LgtmError as problem:
                failed.append(problem.message)
        # Without a change of files, what is on disk is what was refused; a copy of what was confirmed last may help.
        unchanged = [server for server in self.reloaded if server not in self.swapped]
        restored += self.restore_last_good(unchanged) if isinstance(error, RefusedError) else []
        for server in handed:
            try:
                secret_files.sync(self.project, server, self.secrets_before[server], client=self.client)
            except LgtmError as problem:
                failed.append(problem.message)
        if began_reload:
            self.undoing, self.stop = True, False
            back = [server for server in self.reloaded if server in restored or server in self.swapped]
            try:
                now = {server: self.on_disk(server) for server in TREES}
                self.stamps = {s: self.stamp(s) for s in back}
                self.load(back, now, self.new)
            except RefusedError as problem:
                failed += [str(fault) for fault in problem.faults]
            except (LgtmError, yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError) as problem:
                failed.append(str(problem))
        if not failed:
            rendered.close_journal(self.project.root)
        self.tell(error, restored, failed)

    def stamp(self, server: str) -> float:
        try:
            return self.targets[server].state()[1]
        except LgtmError:
            return self.stamps.get(server, 0)

    def tell(self, error: BaseException, restored: Sequence[str], failed: Sequence[str]) -> None:
        """Raise the sentence for the user; return when the error itself says it all."""
        loaded = [server for server in restored if server in self.targets]
        back = f"The last good configuration of {', '.join(loaded)} is in force again." if loaded else None
        if failed:
            back = "The old files are back, but not all is as before: " + "; ".join(failed) + ". Run `make status`."
        if isinstance(error, InterruptedApplyError):
            done = InterruptedApplyError(error.exit_code - 128, "Stopped. " + (back or "Nothing was changed."))
            raise done from None
        if isinstance(error, RefusedError):
            who = ", ".join(dict.fromkeys(fault.by for fault in error.faults))
            raise RefusedError(error.faults, f"{who} refused the new configuration:", back, restored) from None
        if isinstance(error, RejectedError):
            raise RefusedError([Fault("lgtm", str(error))], "The switch was not made:", back, restored) from None
        if isinstance(error, LgtmError):
            error.hint = " ".join(part for part in (error.hint, back) if part) or None

    # - the last good configuration, for when what is on disk was refused before this run wrote anything

    def last_good(self, server: str) -> Path:
        return self.project.root / ".lgtm" / "last-good" / server

    def keep_last_good(self, confirmed: Sequence[str]) -> None:
        """Keep a copy of what is now in force. A failure here changes nothing that runs, so it is a note."""
        for server in confirmed:
            place = self.last_good(server)
            try:
                if rendered.read_tree(place / GENERATED) != self.new[server]:
                    rendered.stage(place, self.new[server], {}, ())
                    rendered.exchange(place)
                    rendered.clean(place)
            except LgtmError as error:
                self.notes.append(f"No copy of the good configuration could be kept: {error.message}")
                return

    def restore_last_good(self, among: Sequence[str]) -> list[str]:
        """Put the copies of what was in force last in the place of refused files; returns the servers."""
        restored = []
        for server in among:
            parent = self.project.root / server
            good = rendered.read_tree(self.last_good(server) / GENERATED)
            if good and good != self.on_disk(server):
                with contextlib.suppress(LgtmError):
                    rendered.stage(parent, good, {}, TREES[server])
                    rendered.exchange(parent)
                    restored.append(server)
        return restored
