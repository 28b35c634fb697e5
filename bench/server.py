"""A Prometheus of its own in a container, whose history is made up: blocks are imported, then it is restarted."""

from __future__ import annotations

import contextlib
import hashlib
import io
import tarfile
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

import docker
import requests
from docker.models.containers import Container

from generator import engine

DATA = "/bench/data"
# Recorded every 30 s, and no query may return more than 11,000 points of a series: so no block longer than 91 h.
BLOCK = "54h"


class BenchError(Exception):
    """Something that was measured did not run; the message says what."""


@dataclass(frozen=True)
class Answer:
    """A query's result, how many samples it read, and how long it took in seconds inside the server."""

    result: list[dict[str, Any]]
    samples: int
    seconds: float

    @property
    def value(self) -> float:
        """The only value. Raises BenchError where there is not exactly one."""
        if len(self.result) != 1:
            raise BenchError(f"expected one value, got {self.result}")
        return float(self.result[0]["value"][1])


def published(container: Container, port: int) -> str:
    """The address of a container's TCP port on this machine. Raises LookupError where it has none (yet)."""
    container.reload()
    bindings = (container.ports or {}).get(f"{port}/tcp")
    if not bindings:
        raise LookupError(f"{container.name}: port {port} is not published")
    return f"http://127.0.0.1:{bindings[0]['HostPort']}"


class Server:
    """A running Prometheus, and promtool beside it."""

    def __init__(self, container: Container) -> None:
        self.container = container
        self._session = requests.Session()
        self.wait()

    @property
    def url(self) -> str:
        """Its address on this machine; another one after each restart."""
        return published(self.container, 9090)

    def wait(self) -> None:
        """Until it answers. Raises BenchError after two minutes."""
        end = time.monotonic() + 120
        while time.monotonic() < end:
            with contextlib.suppress(requests.RequestException, LookupError):
                if self._session.get(f"{self.url}/-/ready", timeout=5).ok:
                    self._address = self.url
                    return
            time.sleep(0.2)
        raise BenchError(f"Prometheus does not start:\n{self.container.logs(tail=20).decode()}")

    def restart(self) -> None:
        """Stop and start, so that it reads the blocks that were imported."""
        self.container.restart(timeout=30)
        self.wait()

    def page(self) -> str:
        """Its own metrics, as it exposes them now."""
        return self._session.get(f"{self._address}/metrics", timeout=60).text

    def put(self, files: Mapping[str, str | IO[bytes]], directory: str = "") -> str:
        """Write files into a directory of the container, a new one when none is named, and say which."""
        directory = directory or f"bench/{uuid.uuid4().hex}"
        with tempfile.TemporaryFile() as stream:
            with tarfile.open(fileobj=stream, mode="w") as archive:
                for name, content in files.items():
                    body = io.BytesIO(content.encode()) if isinstance(content, str) else content
                    entry = tarfile.TarInfo(f"{directory}/{name}")
                    entry.size = body.seek(0, io.SEEK_END)
                    entry.mode = 0o644
                    body.seek(0)
                    archive.addfile(entry, body)
            stream.seek(0)
            self.container.put_archive("/", stream)
        return f"/{directory}"

    def promtool(self, *arguments: str) -> str:
        """Run promtool, and return what it printed. Raises BenchError when it fails."""
        done = engine.execute(self.container, ["/bin/promtool", *arguments])
        output = (done.output + done.errors).decode()
        if done.code != 0:
            raise BenchError(f"promtool {' '.join(arguments)}:\n{output[-2000:]}")
        return output

    def import_openmetrics(self, text: IO[bytes]) -> None:
        """Make blocks of OpenMetrics text with timestamps. They can be read after the next restart."""
        directory = self.put({"history.om": text})
        options = [f"--max-block-duration={BLOCK}", "--quiet", "openmetrics", f"{directory}/history.om", DATA]
        self.promtool("tsdb", "create-blocks-from", *options)

    def record(self, rules: str, start: int, end: int, *, block: str = BLOCK) -> None:
        """Evaluate recording rules over the past, each group at its own interval and phase.

        What is recorded can be read after the next restart. The phase of a group follows from its name and its file's, so
        these are the same in each run: how many samples are in a window would else change by one in a hundred.
        """
        directory = self.put({"rules.yaml": rules}, f"bench/{hashlib.sha256(rules.encode()).hexdigest()[:16]}")
        options = [f"--start={start}", f"--end={end}", "--url=http://127.0.0.1:9090", f"--output-dir={DATA}"]
        self.promtool(
            "tsdb", "create-blocks-from", f"--max-block-duration={block}", "rules", *options, f"{directory}/rules.yaml"
        )

    def query(self, expr: str, at: float) -> Answer:
        """An instant query with its statistics. Raises BenchError when it fails."""
        parameters: dict[str, str | float] = {"query": expr, "time": at, "stats": "all"}
        answer = self._session.post(f"{self._address}/api/v1/query", data=parameters, timeout=300).json()
        if answer["status"] != "success":
            raise BenchError(f"{answer['error']}: {expr}")
        data = answer["data"]
        result = data["result"] if data["resultType"] == "vector" else [{"metric": {}, "value": data["result"]}]
        stats = data["stats"]
        return Answer(result, stats["samples"]["totalQueryableSamples"], stats["timings"]["evalTotalTime"])


@contextlib.contextmanager
def running(image: str, options: Iterable[str] = (), **arguments: Any) -> Iterator[Server]:
    """A server that is deleted at the end, data and all. ``options`` are more of its flags."""
    client = docker.from_env(timeout=1800)
    container = client.containers.run(
        image,
        [
            "--config.file=/etc/prometheus/prometheus.yml",
            f"--storage.tsdb.path={DATA}",
            "--storage.tsdb.retention.time=10y",
            "--query.max-samples=200000000",
            "--query.timeout=10m",
            "--log.level=warn",
            *options,
        ],
        detach=True,
        user="0",
        ports={"9090/tcp": ("127.0.0.1", 0)},
        # The image has no /tmp, and promtool needs one.
        tmpfs={"/tmp": ""},  # noqa: S108
        labels={"lgtm.bench": "1"},
        **arguments,
    )
    try:
        yield Server(container)
    finally:
        container.remove(force=True, v=True)
        client.close()
