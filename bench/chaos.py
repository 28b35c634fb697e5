"""``make chaos``: what is lost when a server dies under load. Counts what was acknowledged, and what is found afterwards.

    python -m bench.chaos [--servers loki,tempo,…] [--faults kill,pause,restart,disk,both] [--write] [--keep]

On a copy of the repository with its own name and ports, each server in turn is killed with -9, paused for a minute,
restarted, and left without room on its disk, while the demo and a sender of spans, log lines and points keep the
collector busy. Of each kind, what the collector acknowledged is compared with what its server holds in the end; alerts
and silences are compared with what Alertmanager shows and sends. With ``--write`` every result that is known goes to
docs/chaos.md. All of it takes three quarters of an hour; parts may be run one by one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import docker
import requests
from docker.models.containers import Container

from bench import otlp
from bench.copies import MADE_BY, ROOT, copy_of_repository
from demo import control
from generator import stack
from generator.project import Project

PAGE = ROOT / "docs" / "chaos.md"
NOTES = ROOT / "bench" / "chaos.md"
WORK = ROOT / ".cache" / "bench" / "chaos"
RESULTS = ROOT / ".cache" / "bench" / "chaos.json"
SERVERS = ("loki", "tempo", "prometheus", "alertmanager", "collector")
FAULTS = ("kill", "pause", "restart", "disk", "both")
PAUSED = 60
ALERTS = 10
# MiB of each server's own disk: ext4 in a file, so that one server alone can be out of room.
DISKS = {"loki": 4096, "tempo": 4096, "prometheus": 4096, "alertmanager": 64, "collector": 4096}

SPEC = """
version: 1
services:
  council-api:
    scrape: {{targets: ["host.docker.internal:{demo}"], interval: 15s}}
    runbook: https://example.com
    slos:
      availability:
        objective: 99.9%
        sli: {{ratio: {{errors: 'http_requests_total{{code=~"5.."}}', total: http_requests_total}}}}
  chaos:
    match: {{}}
    runbook: https://example.com
    alerts:
      Chaos: {{expr: 'chaos_alerting', above: 0}}
      ChaosWaits: {{expr: 'vector(1)', above: 0, for: 12h}}
routing:
  receivers: {{pager: {{webhook: {{url: "http://host.docker.internal:{pager}/"}}}}}}
  default: pager
  grouping: {{wait: 5s, interval: 10s}}
"""


def say(line: str) -> None:
    """Progress, with the time."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stderr.flush()


@dataclass
class Cell:
    """What one fault of one server did: of each kind how many went in and how many were found. Rates are per second."""

    server: str
    fault: str
    seconds: float
    rates: dict[str, float]
    sent: dict[str, int]
    found: dict[str, int]
    more: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class Stand:
    """The stack under test."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.docker = docker.from_env(timeout=180)
        self._http = requests.Session()
        self._http.trust_env = False

    def get(self, server: str, path: str, **parameters: Any) -> Any:
        """GET and parse JSON, trying again for a minute: a server has just come back."""
        deadline = time.monotonic() + 60
        while True:
            try:
                answer = self._http.get(self.project.url(server) + path, params=parameters, timeout=60)
                answer.raise_for_status()
                return answer.json()
            except (requests.RequestException, ValueError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(2)

    def value(self, query: str, at: float | None = None) -> float:
        """The only value of an instant query; 0 when there is none."""
        found = self.get("prometheus", "/api/v1/query", query=query, **({} if at is None else {"time": f"{at:.3f}"}))
        result = found["data"]["result"]
        return float(result[0]["value"][1]) if result else 0.0

    def container(self, server: str) -> Container:
        """Its container."""
        labels = [f"com.docker.compose.project={self.project.compose_project}", f"com.docker.compose.service={server}"]
        return self.docker.containers.list(all=True, filters={"label": labels})[0]

    def ready(self, server: str, seconds: float) -> bool:
        """Whether it is ready, waiting for it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if stack.is_ready(self.project, server)[0]:
                return True
            time.sleep(0.5)
        return False

    def memory(self, server: str) -> float:
        """MiB in use, without page cache."""
        stats = self.container(server).stats(stream=False)
        assert isinstance(stats, dict)  # and no stream of them
        found = stats["memory_stats"]
        return float(found["usage"] - found["stats"].get("inactive_file", 0)) / 2**20


# --- the stand -----------------------------------------------------------------------------------------------------------


def prepare() -> Stand:
    """The stack of an earlier part where it still runs, or a new one."""
    place = WORK / "project"
    if (place / ".env").exists():
        project = Project.load(place)
        if stack.status(project).ready and control.status(project) is not None:
            return Stand(project)
        remove()
    WORK.mkdir(parents=True, exist_ok=True)
    project = copy_of_repository(place, COMPOSE_PROJECT_NAME=f"lgtmchaos-{uuid.uuid4().hex[:6]}")
    (place / MADE_BY).unlink()  # it outlives this process, for the next part
    text = SPEC.format(demo=project.port("DEMO_PORT"), pager=project.port("DEMO_PAGER_PORT"))
    (place / "slos.yaml").write_text(text, encoding="utf-8")
    _disks(project)
    lgtm(project, "up")
    control.start(project, say)
    return Stand(project)


def remove() -> None:
    """Delete the stack, its volumes and their disks."""
    place = WORK / "project"
    if not place.exists():
        return
    project = Project.load(place)
    control.stop(project, say)
    stack.destroy(project, say)
    for image in WORK.glob("*.img"):
        for line in _tool("losetup", "-j", str(image)).splitlines():
            _tool("losetup", "-d", line.partition(":")[0])
        image.unlink()
    shutil.rmtree(place)


def lgtm(project: Project, *words: str) -> str:
    """Run a command of the product in the copy; what it prints."""
    command = [str(Path(sys.executable).with_name("lgtm")), "-C", str(project.root), *words]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    # If spans are missing all the same, the table says so.
    if done.returncode and words[0] != "resend":
        raise subprocess.CalledProcessError(done.returncode, command)
    return done.stdout


def _disks(project: Project) -> None:
    """A disk of its own for each server's volume, where this user may make one: root on Linux, engine on this machine."""
    if os.geteuid() != 0 or not Path("/dev/loop-control").exists():
        say("no disks of their own (that takes root on Linux): `disk` is left out")
        return
    volumes = {}
    for server, size in DISKS.items():
        image = WORK / f"{server}.img"
        with image.open("wb") as file:
            file.truncate(size << 20)
        # No reserve for root, who fills it.
        _tool("mkfs.ext4", "-q", "-m", "0", str(image))
        options = {"type": "ext4", "device": _tool("losetup", "-f", "--show", str(image)).strip()}
        volumes[stack.DATA[server][0]] = {"driver": "local", "driver_opts": options}
    (project.root / "compose.override.yaml").write_text(json.dumps({"volumes": volumes}), encoding="utf-8")


def _tool(name: str, *words: str) -> str:
    """What a tool of the machine's prints. Raises FileNotFoundError and CalledProcessError."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        raise FileNotFoundError(name)
    return subprocess.run([path, *words], check=True, capture_output=True, text=True).stdout


@contextlib.contextmanager
def _mounted(stand: Stand, server: str) -> Iterator[Path]:
    """The disk of a server, mounted once more: Docker unmounts it when a server ends that has no room."""
    volume = stand.docker.volumes.get(f"{stand.project.compose_project}_{stack.DATA[server][0]}")
    place = WORK / "mounted"
    place.mkdir(exist_ok=True)
    _tool("mount", volume.attrs["Options"]["device"], str(place))
    try:
        yield place
    finally:
        _tool("umount", str(place))


# --- faults --------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def kill(stand: Stand, server: str) -> Iterator[None]:
    """Killed with -9 and started again ten seconds later."""
    container = stand.container(server)
    container.kill("SIGKILL")
    yield
    time.sleep(10)
    container.start()


@contextlib.contextmanager
def pause(stand: Stand, server: str) -> Iterator[None]:
    """Stopped in its tracks for a minute."""
    container = stand.container(server)
    container.pause()
    try:
        yield
        time.sleep(PAUSED)
    finally:
        container.unpause()


@contextlib.contextmanager
def restart(stand: Stand, server: str) -> Iterator[None]:
    """Stopped as it should be, and started."""
    yield
    container = stand.container(server)
    container.restart(timeout=container.attrs["Config"]["StopTimeout"])


@contextlib.contextmanager
def disk(stand: Stand, server: str) -> Iterator[None]:
    """No byte left on its disk for a minute. Where it does not come back by itself, Docker's restart is not waited for."""
    with _mounted(stand, server) as place:
        filler = place / "filler"
        try:
            _fill(filler)
            yield
            until = time.monotonic() + PAUSED
            while time.monotonic() < until:
                time.sleep(5)
                _fill(filler)  # what the server itself has freed meanwhile
        finally:
            filler.unlink(missing_ok=True)
    # Tempo 2.9 goes on failing to write the block that it had begun, until it is started again; Prometheus's log is torn, and a
    # start shows what that costs.
    if server in {"tempo", "prometheus"} or stand.container(server).status == "restarting":
        container = stand.container(server)
        container.restart(timeout=container.attrs["Config"]["StopTimeout"])


@contextlib.contextmanager
def both(stand: Stand, server: str) -> Iterator[None]:
    """No byte left on the collector's disk, and every server that it delivers to paused, for a minute."""
    away = [stand.container(name) for name in ("loki", "tempo", "prometheus")]
    try:
        for container in away:
            container.pause()
        with disk(stand, server):
            yield
    finally:
        for container in away:
            container.unpause()


def _fill(path: Path) -> None:
    with path.open("ab", buffering=0) as file:
        free = os.statvfs(path.parent)
        with contextlib.suppress(OSError):
            os.posix_fallocate(file.fileno(), file.tell(), max(1, free.f_bavail * free.f_frsize - (1 << 20)))
        with contextlib.suppress(OSError):
            file.seek(0, os.SEEK_END)
            # A server that tries again and again frees some each time: not for ever.
            until = time.monotonic() + 2
            while time.monotonic() < until:
                file.write(bytes(4096))


INFLICT: dict[str, Callable[[Stand, str], contextlib.AbstractContextManager[None]]] = {
    "kill": kill,
    "pause": pause,
    "restart": restart,
    "disk": disk,
    "both": both,
}


# --- one cell ------------------------------------------------------------------------------------------------------------


class Alerting:
    """Alerts that begin before the fault and while it lasts, each known by name; half of the first are silenced."""

    def __init__(self, stand: Stand, cell: str) -> None:
        self._stand, self._cell = stand, cell
        self.begun = ["before"]
        self.silences: list[str] = []
        self._client = otlp.Client(stand.project.port("OTLP_HTTP_PORT"))
        self.after = max((page["id"] for page in control.pages(stand.project)), default=0)

    def beat(self) -> None:
        """Say once that they are on."""
        points = [{"cell": self._cell, "phase": phase, "number": str(n)} for phase in self.begun for n in range(ALERTS)]
        self._client.post("/v1/metrics", otlp.gauge("chaos_alerting", points, 1, time.time()), timeout=2)

    def silence(self, **labels: str) -> None:
        """Silence these for an hour."""
        now = datetime.now(UTC)
        matchers = [{"name": k, "value": v, "isEqual": True, "isRegex": False} for k, v in labels.items()]
        body = {"matchers": matchers, "startsAt": now.isoformat(), "endsAt": (now + timedelta(hours=1)).isoformat()}
        url = self._stand.project.url("alertmanager") + "/api/v2/silences"
        answer = requests.post(url, json={**body, "createdBy": "chaos", "comment": self._cell}, timeout=10)
        self.silences.append(answer.json()["silenceID"])

    def told(self) -> set[tuple[str, str]]:
        """Which of them have reached the pager, by phase and number."""
        return {
            (alert["labels"]["phase"], alert["labels"]["number"])
            for page in control.pages(self._stand.project, self.after)
            for alert in page["body"]["alerts"]
            if alert["labels"].get("cell") == self._cell and alert["status"] == "firing"
        }

    def kept(self) -> int:
        """How many of the silences are still in force."""
        found = self._stand.get("alertmanager", "/api/v2/silences")
        return sum(s["id"] in self.silences and s["status"]["state"] == "active" for s in found)


def run(stand: Stand, server: str, fault: str, rates: dict[str, float]) -> Cell:
    """Load, fault, recovery, and the count."""
    name = f"{server}-{fault}-{uuid.uuid4().hex[:4]}"
    say(f"{server}: {fault}")
    alerting = Alerting(stand, name)
    for number in range(ALERTS // 2):
        alerting.silence(cell=name, number=str(number), phase="before")
    waiting = _waits_since(stand)
    senders = otlp.senders(stand.project.port("OTLP_HTTP_PORT"), **rates)
    for sender in senders.values():
        sender.start()
    begun = time.time()
    peak = dict.fromkeys(senders, 0.0)

    def let_pass(seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            alerting.beat()
            time.sleep(1)

    let_pass(15)
    # One more silence, as short before as anybody could.
    alerting.silence(cell=name, number="none")
    broken = time.time()
    with INFLICT[fault](stand, server):
        alerting.begun.append("during")
        alerting.beat()
    outage = time.time() - broken
    ready = stand.ready(server, 120)
    back = time.time() - broken
    let_pass(15)

    def all_are_told() -> bool:
        alerting.beat()
        return len(alerting.told() - _silenced()) >= ALERTS // 2 + ALERTS

    _until(100, all_are_told)
    told = alerting.told()
    for sender in senders.values():
        sender.stop()
    ended = time.time()
    cell = Cell(
        server,
        fault,
        ended - begun,
        {kind: len(s.sent.batches) * s.sent.items / (ended - begun) for kind, s in senders.items()},
        {kind: len(s.sent.batches) * s.sent.items for kind, s in senders.items()},
        {},
        {"outage": outage, "back": back, "broken": broken, "retries": {k: s.sent.retries for k, s in senders.items()}},
    )
    if not ready:
        cell.notes.append("not ready two minutes after")
    # What the demo sends is under way at any moment. Of a Prometheus that has just come back, nothing is known yet.
    queued = "max(max_over_time(otelcol_exporter_queue_size[20s])) or vector(1e9)"
    drained = _until(240, lambda: stand.value(queued) < 200_000)
    if not drained:
        cell.notes.append("the queue was not empty four minutes after")
    cell.more["drained"] = time.time() - ended
    for kind in peak:
        signal = {"logs": "logs", "spans": "traces", "points": "metrics"}[kind]
        query = f'max_over_time(otelcol_exporter_queue_size{{data_type="{signal}"}}[{int(time.time() - begun) + 30}s])'
        cell.more.setdefault("queue", {})[kind] = stand.value(f"max({query})")
    time.sleep(10)
    if server == "tempo":
        cell.more["resent"] = json.loads(lgtm(stand.project, "resend", "--since", f"{begun - 5:.0f}", "--at-once", "--json"))
        say(f"  sent again: {cell.more['resent']['lacking']:,} spans")
    cell.found["logs"] = count_logs(stand, senders["logs"].sent, cell)
    cell.found["spans"] = count_spans(stand, senders["spans"].sent, cell, broken)
    cell.found["points"] = count_points(stand, senders["points"].sent, cell)
    cell.sent["alerts"], cell.found["alerts"] = ALERTS // 2 + ALERTS, len(told - _silenced())
    cell.sent["silences"], cell.found["silences"] = len(alerting.silences), alerting.kept()
    if leaked := told & _silenced():
        cell.notes.append(f"{len(leaked)} silenced alerts were sent")
    # The time without Prometheus does not count: from its last evaluation to the second one after its start.
    if waiting is not None and not _until(100, lambda: -1 < (_waits_since(stand) or 0.0) - waiting <= back + 90):
        cell.notes.append(f"an alert that waits waits {(_waits_since(stand) or 0.0) - waiting:.0f} s less")
    _demo(stand, cell, begun, ended)
    cell.more["tempo_memory"] = stand.memory("tempo")
    say(f"  in {cell.sent}")
    say(f"  found {cell.found} {cell.notes} back after {back:.0f} s, {json.dumps(cell.more['queue'])}")
    return cell


def _silenced() -> set[tuple[str, str]]:
    return {("before", str(number)) for number in range(ALERTS // 2)}


def _until(seconds: float, look: Callable[[], Any]) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(requests.RequestException):
            if look():
                return True
        time.sleep(2)
    return False


def _waits_since(stand: Stand) -> float | None:
    for alert in stand.get("prometheus", "/api/v1/alerts")["data"]["alerts"]:
        if alert["labels"]["alertname"] == "ChaosWaits":
            return datetime.fromisoformat(alert["activeAt"]).timestamp()
    return None


# --- counting ------------------------------------------------------------------------------------------------------------


def count_logs(stand: Stand, sent: otlp.Sent, cell: Cell) -> int:
    """Distinct lines of the batches that were acknowledged."""
    counted: dict[str, int] = {}
    if not sent.batches:
        return 0
    # Loki answers with at most 500 series, and each batch is one.
    for first in range(0, len(sent.batches), 200):
        part = sent.batches[first : first + 200]
        begin, end = part[0][1] - 1_000_000, part[-1][1] + 1_000_000
        query = f'sum by (chaos_batch) (count_over_time({{service_name="{otlp.SERVICE}"}}[{(end - begin) // 1_000_000}ms]))'
        found = stand.get("loki", "/loki/api/v1/query", query=query, time=str(end))
        for one in found["data"]["result"]:
            batch = one["metric"].get("chaos_batch", "")
            counted[batch] = counted.get(batch, 0) + int(one["value"][1])
    total = 0
    for batch, at in sent.batches:
        lines = counted.get(batch, 0)
        if lines > sent.items:
            cell.more["duplicates"] = cell.more.get("duplicates", 0) + lines - sent.items
            found = stand.get(
                "loki",
                "/loki/api/v1/query_range",
                query=f'{{service_name="{otlp.SERVICE}"}} | chaos_batch="{batch}"',
                start=str(at - 1),
                end=str(at + 1),
                limit="5000",
            )
            lines = len({line for s in found["data"]["result"] for _, line in s["values"]})
        if lines < sent.items:
            _lost(cell, "logs", at, sent.items - lines)
        total += lines
    return total


def count_points(stand: Stand, sent: otlp.Sent, cell: Cell) -> int:
    """Points of the requests that were acknowledged, and whether every counter stands where it was left."""
    if not sent.batches:
        return 0
    total, times = 0, [at // 1_000_000 for _, at in sent.batches]
    for first in range(0, len(times), 200):
        part = times[first : first + 200]
        query = f"sum(count_over_time(chaos_points_total[{part[-1] - part[0] + 1}ms]))"
        here = int(stand.value(query, part[-1] / 1000))
        total += here
        if here < len(part) * sent.items:
            for begin in range(0, len(part), 10):
                some = part[begin : begin + 10]
                query = f"sum(count_over_time(chaos_points_total[{some[-1] - some[0] + 1}ms]))"
                missing = len(some) * sent.items - int(stand.value(query, some[-1] / 1000))
                if missing:
                    _lost(cell, "points", some[0] * 1_000_000, missing)
    last = times[-1] / 1000 + 0.001
    span = f"[{int(times[-1] - times[0]) + 2}ms]"
    lowest = stand.value(f"min(max_over_time(chaos_points_total{span}))", last)
    cell.more["counter"] = {"truth": int(sent.batches[-1][0][16:], 16), "lowest": lowest}
    return total


def count_spans(stand: Stand, sent: otlp.Sent, cell: Cell, broken: float) -> int:
    """Spans of the traces that were acknowledged. A trace that a search does not show whole is asked for by its id."""
    if not sent.batches:
        return 0
    matched: dict[str, int] = {}
    first, last = sent.batches[0][1] // 10**9, sent.batches[-1][1] // 10**9 + 2
    for begin in range(first, last, 20):
        found = stand.get(
            "tempo",
            "/api/search",
            q=f'{{resource.service.name="{otlp.SERVICE}"}}',
            start=str(begin - 1),
            end=str(min(begin + 20, last) + 1),
            limit="5000",
            spss="1",
        )
        for trace in found.get("traces", ()):
            seen = max(s.get("matched", 0) for s in trace.get("spanSets") or [trace.get("spanSet") or {}])
            key = trace["traceID"].rjust(32, "0")
            matched[key] = max(matched.get(key, 0), int(seen))
    total = asked = 0
    for batch, at in sent.batches:
        for key in otlp.traces_of(batch):
            spans = matched.get(key, 0)
            if spans < otlp.SPANS_OF_A_TRACE:
                asked += 1
                spans = _spans_of(stand, key)
            if spans < otlp.SPANS_OF_A_TRACE:
                _lost(cell, "spans", at, otlp.SPANS_OF_A_TRACE - spans)
            # A request that was sent again is whole traces twice.
            total += min(spans, otlp.SPANS_OF_A_TRACE)
    cell.more["asked_by_id"] = asked
    return total


def _spans_of(stand: Stand, key: str) -> int:
    answer = requests.get(f"{stand.project.url('tempo')}/api/v2/traces/{key}", timeout=30)
    if answer.status_code != 200:
        return 0
    resources = answer.json().get("trace", {}).get("resourceSpans", ())
    return len({s["spanId"] for r in resources for scope in r["scopeSpans"] for s in scope["spans"]})


def _lost(cell: Cell, kind: str, at: int, count: int) -> None:
    """Keep when what is lost was sent, in seconds from the fault."""
    when = round(at / 1e9 - cell.more["broken"], 1)
    span = cell.more.setdefault("lost", {}).setdefault(kind, {"from": when, "to": when, "count": 0})
    span["from"], span["to"], span["count"] = min(span["from"], when), max(span["to"], when), span["count"] + count


def _demo(stand: Stand, cell: Cell, begun: float, ended: float) -> None:
    """The demo's own lines: those in its file beside those in Loki, told apart by their microsecond."""
    begin, end = int(begun) * 10**6, (int(ended) - 1) * 10**6
    written = set()
    for path in (stand.project.root / ".lgtm" / "demo.log.1", stand.project.root / ".lgtm" / "demo.log"):
        with contextlib.suppress(OSError):
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                with contextlib.suppress(ValueError, KeyError):
                    record = json.loads(line)
                    # What the package says of its own delivery goes to the file only.
                    if record["logger"] != "lgtm_instrumentation.telemetry":
                        written.add(round(datetime.fromisoformat(record["timestamp"]).timestamp() * 10**6))
    written = {at for at in written if begin <= at < end}
    kept: set[int] = set()
    for first in range(begin, end, 20 * 10**6):
        query = {"start": f"{first - 1}000", "end": f"{min(first + 20 * 10**6, end) + 1}000", "limit": "5000"}
        found = stand.get("loki", "/loki/api/v1/query_range", query='{service_name="council-api"}', **query)
        # The file's times are rounded from a float, Loki's were made an integer from it.
        microseconds = {int(at) // 1000 for stream in found["data"]["result"] for at, _ in stream["values"]}
        kept |= {at + off for at in microseconds for off in (-1, 0, 1)}
    cell.sent["demo"], cell.found["demo"] = len(written), len(written & kept)
    for at in sorted(written - kept):
        _lost(cell, "demo", at * 1000, 1)


# --- the page ------------------------------------------------------------------------------------------------------------

KINDS = {
    "logs": "log lines",
    "spans": "spans",
    "points": "metric points",
    "increase": "counters' increase",
    "demo": "the demo's lines",
    "alerts": "alerts told",
    "silences": "silences",
}
WORDS = {
    "kill": "killed with -9",
    "pause": "paused for 60 s",
    "restart": "restarted",
    "disk": "no room on its disk for 60 s",
    "both": "the same, with Loki, Tempo and Prometheus paused",
}


def page(known: dict[str, Any]) -> str:
    """docs/chaos.md from every result that is known; its words are in bench/chaos.md."""
    cells = [known[key] for server in SERVERS for fault in FAULTS if (key := f"{server} {fault}") in known]
    head = ["server", "what happened to it", *KINDS.values()]
    rows = [[c["server"], WORDS[c["fault"]], *(_count(c, kind) for kind in KINDS)] for c in cells]
    table = "".join("| " + " | ".join(row) + " |\n" for row in [head, ["---", "---", *["---:"] * len(KINDS)], *rows])
    text = NOTES.read_text(encoding="utf-8")
    return text.replace("TABLE\n", table + _lost_words(cells)).replace("RATES\n", _rates(cells)) if cells else text


def _count(cell: dict[str, Any], kind: str) -> str:
    if kind == "increase":
        # Each of the counters grows by one with each request.
        sent, found = cell["more"]["counter"]["truth"], int(cell["more"]["counter"]["lowest"])
    else:
        sent, found = cell["sent"].get(kind), cell["found"].get(kind)
    if not sent or found is None:
        return "-"
    if found >= sent:
        return f"{sent:,}"
    return f"{sent:,}, **{sent - found:,} lost**"


def _lost_words(cells: list[dict[str, Any]]) -> str:
    lines = []
    for cell in cells:
        if (resent := cell["more"].get("resent")) and resent["lacking"]:
            broken = cell["more"]["broken"]
            first, last = (datetime.fromisoformat(resent[key]).timestamp() - broken for key in ("first", "last"))
            lines.append(
                f"- {cell['server']}, {WORDS[cell['fault']]}: `lgtm resend` sent {resent['lacking']:,} spans again, which had "
                f"ended from {first:+.1f} s to {last:+.1f} s of the fault."
            )
        for kind, lost in cell["more"].get("lost", {}).items():
            lines.append(
                f"- {cell['server']}, {WORDS[cell['fault']]}: the {KINDS[kind]} that were lost had been sent from "
                f"{lost['from']:+.1f} s to {lost['to']:+.1f} s of the fault."
            )
        lines += [f"- {cell['server']}, {WORDS[cell['fault']]}: {note}." for note in cell["notes"]]
    return "\n" + "\n".join(lines) + "\n" if lines else ""


def _rates(cells: list[dict[str, Any]]) -> str:
    lines = []
    for kind in ("spans", "logs", "points"):
        every = sorted(cell["rates"][kind] for cell in cells)
        middle = every[len(every) // 2]
        lines.append(f"{KINDS[kind]} {every[0]:,.0f} to {every[-1]:,.0f} a second, {middle:,.0f} in the middle")
    peak = max(cell["more"]["tempo_memory"] for cell in cells)
    back = max(cell["more"]["back"] - cell["more"]["outage"] for cell in cells)
    return (
        f"Reached with {os.cpu_count()} cores for the load, the servers and whatever else ran: {'; '.join(lines)}.\n"
        f"Each server was ready again {back:.0f} s after it was started or let go, or sooner. Tempo took "
        f"{peak:.0f} MiB of its 1,536 after the load, at most.\n"
    )


def main() -> None:
    """Run what was asked for, keep every figure, and print the table of all that is known."""
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--servers", default=",".join(SERVERS), help="with commas between them")
    parser.add_argument("--faults", default=",".join(FAULTS), help="with commas between them")
    parser.add_argument("--spans", type=float, default=5000, help="a second (default: 5000)")
    parser.add_argument("--lines", type=float, default=5000, help="log lines a second (default: 5000)")
    parser.add_argument("--points", type=float, default=50000, help="metric points a second (default: 50000)")
    parser.add_argument("--write", action="store_true", help="write docs/chaos.md")
    parser.add_argument("--keep", action="store_true", help="leave the stack up for the next part")
    asked = parser.parse_args()
    known: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    rates = {"spans": asked.spans, "lines": asked.lines, "points": asked.points}
    try:
        if asked.servers:
            stand = prepare()
            has_disks = (stand.project.root / "compose.override.yaml").exists()
            for server in asked.servers.split(","):
                for fault in asked.faults.split(","):
                    if (fault in {"disk", "both"} and not has_disks) or (fault == "both" and server != "collector"):
                        continue
                    known[f"{server} {fault}"] = asdict(run(stand, server, fault, rates))
                    RESULTS.parent.mkdir(parents=True, exist_ok=True)
                    RESULTS.write_text(json.dumps(known, indent=1), encoding="utf-8")
    finally:
        if not asked.keep:
            remove()
    text = page(known)
    sys.stdout.write(text)
    if asked.write:
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
