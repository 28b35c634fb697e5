"""What the servers are asked: each question that several kinds of checks share, once and from whatever thread."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import math
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any, TypeVar, cast

from generator import engine, rendered, servers, words
from generator.errors import LgtmError
from generator.model import Model
from generator.project import Project
from generator.render import Artifact
from generator.rendered import GENERATED, TREES, Files
from generator.verify.check import Check

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
Labels = dict[str, str]
Row = tuple[Labels, float]

# A server that hangs costs each kind this many seconds once.
TIMEOUT = 4.0
_ASKERS = 10
SILENT = "it does not answer"


class Look:
    """The file's side, and the servers' side: each question that kinds share is asked once, from whatever thread."""

    def __init__(self, project: Project, model: Model, artifacts: Iterable[Artifact], *, quick: bool) -> None:
        self.project, self.model, self.quick = project, model, quick
        self.wanted: Mapping[str, Files] = rendered.by_server(artifacts)
        self.disk: Mapping[str, Files] = {s: rendered.read_tree(project.root / s / GENERATED) for s in TREES}
        self._pool = concurrent.futures.ThreadPoolExecutor(_ASKERS, thread_name_prefix="verify-ask")
        self._clients: list[servers.Client] = []
        self._own = threading.local()
        self._lock = threading.Lock()
        self._shared: dict[str, concurrent.futures.Future[Any]] = {}
        self._silent: dict[str, servers.UnreachableError] = {}

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        for client in self._clients:
            client.close()

    def who_changed(self, server: str, path: str) -> str:
        """Why a file on disk is not the rendered one: is it the one that was applied last?"""
        good = rendered.read_tree(self.project.root / ".lgtm" / "last-good" / server / GENERATED)
        if not good:
            return "edited by hand, or not applied yet"
        return "the spec was edited and not applied" if self.disk[server].get(path) == good.get(path) else "edited by hand"

    def odd_one(self, server: str, path: str, in_force: Callable[[bytes], bool]) -> str:
        """Which of the three is the odd one, where what is in force is not what the spec renders."""
        disk = self.disk[server].get(path)
        if disk == self.wanted[server].get(path):
            return "the rendered file is on disk and is not loaded"
        why = self.who_changed(server, path)
        if disk is None:
            return f"its file is not on disk ({why})"
        try:
            loaded = in_force(disk)
        except Exception:  # whatever somebody has written into that file
            loaded = False
        return f"the file on disk is in force ({why})" if loaded else f"the file on disk is a third one ({why})"

    def client(self, server: str) -> servers.Client:
        """A client of this thread."""
        kinds = {
            "prometheus": servers.Prometheus,
            "alertmanager": servers.Alertmanager,
            "blackbox": servers.Blackbox,
            "loki": servers.Loki,
        }
        key = f"client_{server}"
        found: servers.Client | None = getattr(self._own, key, None)
        if found is None:
            found = kinds.get(server, servers.Client)(self.project.url(server), timeout=TIMEOUT)
            found.name = server
            found.call = functools.partial(self._call, server, found.call)  # type: ignore[method-assign]
            setattr(self._own, key, found)
            with self._lock:
                self._clients.append(found)
        return found

    def _call(self, server: str, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """One that did not answer is not asked again: of a server that hangs, each question would cost its time-out."""
        if server in self._silent:
            raise self._silent[server]
        try:
            return call(*arguments, **named)
        except servers.UnreachableError as error:
            self._silent[server] = error
            raise

    @property
    def prometheus(self) -> servers.Prometheus:
        return cast(servers.Prometheus, self.client("prometheus"))

    def every(self, work: Mapping[K, Callable[[], T]]) -> dict[K, T]:
        """Ask all at once. Raises what one of them raises. Not for questions that ask others in turn."""
        futures = {key: self._pool.submit(call) for key, call in work.items()}
        return {key: future.result() for key, future in futures.items()}

    def once(self, name: str, ask: Callable[[], T]) -> T:
        """The answer to a question that several kinds have."""
        with self._lock:
            future = self._shared.get(name)
            if future is None:
                future = self._shared[name] = self._pool.submit(ask)
        return cast(T, future.result())

    # Prometheus

    def query(self, promql_: str) -> list[Row]:
        data = self.prometheus.json("/api/v1/query", query=promql_)["data"]["result"]
        # A native histogram has no "value": that it is there is what is asked.
        return [(row["metric"], float(row["value"][1]) if "value" in row else math.nan) for row in data]

    def curve(self, promql_: str, start: float, end: float, step: float) -> list[tuple[Labels, dict[float, float]]]:
        """A range query: each series' labels, and its values by Unix time."""
        answer = self.prometheus.json(
            "/api/v1/query_range", query=promql_, start=f"{start:.3f}", end=f"{end:.3f}", step=f"{step:g}"
        )
        return [(row["metric"], {float(t): float(v) for t, v in row["values"]}) for row in answer["data"]["result"]]

    def queries(self, wanted: Mapping[K, str]) -> dict[K, list[Row]]:
        return self.every({key: functools.partial(self.query, text) for key, text in wanted.items()})

    def groups(self) -> list[dict[str, Any]]:
        """The rule groups in force."""
        return self.once("rules", lambda: self.prometheus.rule_groups())

    def targets(self) -> list[dict[str, Any]]:
        answer = self.once("targets", lambda: self.prometheus.json("/api/v1/targets", state="active"))
        found: list[dict[str, Any]] = answer["data"]["activeTargets"]
        return found

    def runtime(self) -> dict[str, Any]:
        """Prometheus's own account of itself, with ``skew``: its clock minus this machine's, seconds."""

        def ask() -> dict[str, Any]:
            before = time.time()
            answer: dict[str, Any] = self.prometheus.json("/api/v1/status/runtimeinfo")["data"]
            return {**answer, "skew": words.moment(answer["serverTime"]) - (before + time.time()) / 2}

        return self.once("runtime", ask)

    def metric_names(self) -> list[str]:
        """Every metric of the last day."""

        def ask() -> list[str]:
            found: list[str] = self.prometheus.json("/api/v1/label/__name__/values", start=f"{time.time() - 86400:.0f}")["data"]
            return found

        return self.once("names", ask)

    def page(self, server: str) -> list[servers.Sample]:
        """All samples of a server's own metrics page that verify reads."""
        prefixes = {"alertmanager": "alertmanager_", "loki": "loki_prometheus_rule_group_rules"}
        return self.once(f"page {server}", lambda: self.client(server).metrics(prefixes[server]))

    def containers(self) -> dict[str, dict[str, Any]]:
        """The project's containers by server, as Docker lists them, and under ``""`` what Docker says of itself."""

        def ask() -> dict[str, dict[str, Any]]:
            from docker.errors import DockerException

            with contextlib.closing(engine.connect(timeout=5)) as client:
                try:
                    label = f"com.docker.compose.project={self.project.compose_project}"
                    found = {"": dict(client.api.info())}
                    for entry in client.api.containers(all=True, filters={"label": label}):
                        found[(entry.get("Labels") or {}).get("com.docker.compose.service", "?")] = entry
                except (DockerException, OSError) as error:
                    raise engine.DockerUnavailableError(f"Docker does not answer: {error}") from error
            return found

        return self.once("docker", ask)


Kind = Callable[[Look], Iterable[Check]]


def in_parts(look: Look, kind: str, parts: Iterable[Kind]) -> Iterator[Check]:
    """The checks of each part, up to where a server does not answer as it should."""
    for part in parts:
        try:
            yield from part(look)
        except servers.UnreachableError as error:
            yield unreachable(kind, error)
        except servers.AnswerError as error:
            yield Check(kind, error.server, "fail", error.message, error.hint or "")
        except LgtmError as error:
            yield Check(kind, kind, "skipped", error.message, error.hint or "")
        except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
            text = f"an answer of another shape than expected: {type(error).__name__}: {error}"
            yield Check(
                kind, kind, "fail", text, "Does this version of lgtm belong to these servers? `lgtm status` shows theirs."
            )


def unreachable(kind: str, error: servers.UnreachableError) -> Check:
    return Check(kind, error.server, "skipped", f"{SILENT}: {error.why}", error.hint or "")
