"""What the dashboards' queries cost: every query of each page, on thirty days of what 200 SLOs record and hours of telemetry.

    python -m bench.dashboards [--slos 200] [--hours 6]

Panels are asked for as Grafana would on a laptop: over their page's own time range, one point for each two pixels. What is
recorded has made-up values: how many samples are read depends on none. Logs and traces are those of `bench.fill`, in a copy of
the stack: hours of what the demo sends, with ten bad minutes at their end. What a panel shows of another's answers is not asked
for again, as in Grafana.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import requests
import yaml

from bench import copies
from bench.fill import Filled, fill
from bench.history import DAY, END
from bench.server import BenchError, Server, running
from generator import model, names, source, stack
from generator.model import Model
from generator.project import Project
from generator.render import dashboards, rules
from generator.render.yamltext import dump

HOUR = 3600
PER_SERVICE = 10
# A page's queries together may take this many seconds.
ALLOWED = 1.0
# A panel of the whole width, in pixels.
_WIDE = 1400
# Ranges of pages and panels as seconds; what is counted by the calendar is at its longest.
_UNITS = {"m": 60, "h": HOUR, "d": DAY}


@dataclass(frozen=True)
class Read:
    """Of one query: samples, log lines, and bytes of logs and traces that it read; whether its row is closed.

    ``seconds`` are until the answer, ``processor`` those that the server's process used meanwhile.
    """

    panel: str
    samples: int = 0
    lines: int = 0
    bytes: int = 0
    seconds: float = 0.0
    processor: float = 0.0
    closed: bool = False


@dataclass(frozen=True)
class Cost:
    """Of one page: what its queries read. ``seconds`` leave out the rows that are closed until somebody opens them."""

    page: str
    reads: tuple[Read, ...]

    def total(self, what: str, *, closed: bool = False) -> float:
        """The sum over its queries; of those in closed rows, or of the others."""
        return float(sum(getattr(read, what) for read in self.reads if read.closed is closed))

    def slowest(self) -> Read:
        """The panel that takes longest, its queries together."""
        panels: dict[str, float] = {}
        for read in self.reads:
            if not read.closed:
                panels[read.panel] = panels.get(read.panel, 0.0) + read.seconds
        name = max(panels, key=lambda panel: panels[panel], default="")
        return Read(name, seconds=panels.get(name, 0.0))


def spec(slos: int) -> str:
    """The file: ten SLOs in each service, of which the first is on latency, has an SLA and a probe, and one process."""
    services = {}
    for number in range(slos // PER_SERVICE):
        ratio = {"ratio": {"errors": 'http_requests_total{code=~"5.."}', "total": "http_requests_total"}}
        found: dict[str, Any] = {f"slo{n}": {"objective": "99.9%", "sli": ratio} for n in range(PER_SERVICE - 2)}
        found["slo0"]["sla"] = "99.5%"
        found["latency"] = {
            "objective": "95%",
            "sli": {"latency": {"histogram": "http_request_duration_seconds", "under": "300ms"}},
        }
        services[f"svc{number:03}"] = {
            "slos": found,
            "probes": {"live": {"url": "http://x/"}},
            "processes": {f"run{number}": {"name": "Run", "sla": "5s", "objectives": {"success": "99%"}}},
        }
    return str(yaml.safe_dump({"version": 1, "services": services}))


def read(text: str) -> Model:
    """The Model of a spec. Raises BenchError where it has errors."""
    found = model.resolve(source.read_text(text, "slos.yaml")).model
    if found is None:
        raise BenchError("the spec of the benchmark is not valid")
    return found


# --- thirty days ------------------------------------------------------------------------------------------------------------


def prepare(server: Server, spec_: Model) -> None:
    """Put there what the pages read: all that is recorded, alerts of a week, deployments, probes, and raw counters of a day."""
    seeds = []
    for slo in spec_.slos:
        told = f'owner="{slo.owner}",tier="{slo.tier}",objective="99.9%",window="{slo.window}",policy="{slo.policy}"'
        seeds.append(f'seed_slo{{service="{slo.service}",slo="{slo.name}"}} 1')
        seeds.append(f'seed_told{{service="{slo.service}",slo="{slo.name}",title="Promise",{told}}} 1')
    for service in spec_.services:
        name = service.name
        seeds.append(f'seed_probe{{job="probe",service="{name}",probe="live",instance="http://x/"}} 1')
    # Only one service's own page is measured, and shared ones read no raw counters.
    for service in spec_.services[:1]:
        name = service.name
        seeds += [f'seed_bucket{{job="{name}",instance="{i}",le="{le}"}} 1' for i in range(4) for le in _BUCKETS]
        endpoints = [f'service="{name}",span_kind="SPAN_KIND_SERVER",span_name="GET /{n}"' for n in range(10)]
        for code in ("UNSET", "ERROR"):
            seeds += [f'seed_calls{{{labels},status_code="STATUS_CODE_{code}"}} 1' for labels in endpoints]
        seeds += [f'seed_spans{{{labels},le="{le}"}} 1' for labels in endpoints for le in _BUCKETS]
        runs = [f'job="{name}",process_id="{p.id}",process_version="1"' for p in service.processes]
        for status in ("success", "error", "timeout"):
            seeds += [f'seed_runs{{{labels},process_status="{status}"}} 1' for labels in runs]
    # Ten burn at once, all week.
    for slo in list(spec_.slos)[:10]:
        labels = (
            f'alertname="SLOBurnRateCritical",service="{slo.service}",slo="{slo.name}",severity="critical",owner="{slo.owner}"'
        )
        seeds.append(f"seed_alerts{{{labels}}} 1")
    stamped = [f"{line} {END - 60}" for line in sorted(seeds)]
    server.import_openmetrics(io.BytesIO("\n".join([*stamped, *_deployments(spec_), "# EOF\n"]).encode()))
    server.restart()
    windows = sorted({*rules.DASHBOARD_WINDOWS, *(w for slo in spec_.slos for w in slo.windows)})

    def of(seed: str, days: float, every: int, made: Mapping[str, str]) -> None:
        begin = time.monotonic()
        recorded = [{"record": name, "expr": expr.replace("SEED", f"seed_{seed} @ {END}")} for name, expr in made.items()]
        group = {"name": seed, "interval": f"{every}s", "rules": recorded}
        server.record(dump({"groups": [group]}), END - int(days * DAY), END)
        sys.stderr.write(f"{seed}: {days:g} days every {every} s, in {time.monotonic() - begin:.0f} s\n")

    ratios = {names.error_ratio(window): "SEED * 0.001" for window in windows}
    of("slo", 1.3, 30, {names.TOTAL_RATE: "SEED * 10", names.ERRORS_RATE: "SEED * 0.01"})
    of("slo", 0.3, 30, {**ratios, names.HISTORY_START: f"SEED * {END - 40 * DAY}"})
    of("slo", 30.1, 30, {names.BUDGET_REMAINING: "SEED * 0.5"})
    of("slo", 30.1, 300, {names.TOTAL_SLOW: "SEED * 100", names.ERRORS_SLOW: "SEED * 0.1", names.SLA_REMAINING: "SEED * 0.5"})
    of("told", 0.3, 30, {names.ERROR_BUDGET: "SEED * 0.001"})
    alerts = 'label_replace(SEED, "alertstate", "firing", "", "")'
    of("alerts", 7.1, 30, {"ALERTS": alerts, "ALERTS_FOR_STATE": f"SEED * {END - 7 * DAY}"})
    of(
        "probe",
        0.3,
        30,
        {"probe_success": "SEED", "probe_duration_seconds": "SEED * 0.01", "probe_http_status_code": "SEED * 200"},
    )
    growing = f"SEED * (time() - {END - DAY})"
    of("bucket", 0.3, 15, {"http_request_duration_seconds_bucket": growing})
    of("calls", 0.3, 15, {"traces_spanmetrics_calls_total": growing})
    of("spans", 0.3, 15, {"traces_spanmetrics_latency_bucket": growing})
    of("runs", 0.3, 15, {"process_executions_total": growing})
    server.restart()


_BUCKETS = ("0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.3", "0.5", "1", "2.5", "5", "+Inf")


def _deployments(spec_: Model) -> Iterator[str]:
    """Two a day of each service, a sample for each event."""
    yield "# TYPE deployment_timestamp_seconds gauge"
    for service in spec_.services:
        for number in range(60):
            for status, later in (("started", 0), ("succeeded", 120)):
                at = END - 30 * DAY + number * DAY // 2 + later
                labels = (
                    f'service="{service.name}",environment="production",commit="abc",version="1.{number}",deployment="{number}"'
                )
                yield f'deployment_timestamp_seconds{{{labels},status="{status}"}} {at} {at}'


# --- pages ------------------------------------------------------------------------------------------------------------------


def chosen(spec_: Model) -> Sequence[dict[str, Any]]:
    """The shared pages, and those of one service."""
    first = spec_.services[0].name
    pages = [json.loads(artifact.text) for artifact in dashboards.render(spec_)]
    return [page for page in pages if "-svc" not in page["uid"] or f"-{first}" in page["uid"]]


@dataclass(frozen=True)
class Asked:
    """A query with the seconds that it reaches back, its step (0 for an instant) and how many lines or traces it wants."""

    query: dashboards.Query
    span: int
    step: int
    limit: int = 0
    closed: bool = False


def measure(ask: Callable[[Asked], Read | None], pages: Sequence[Mapping[str, Any]]) -> list[Cost]:
    """What ``ask`` says of every query of each page; None is for another server to say."""
    return [Cost(str(page["uid"]), tuple(read for one in _queries(page) if (read := ask(one)))) for page in pages]


def together(*measured: Sequence[Cost]) -> list[Cost]:
    """Costs of the same pages, from several servers."""
    return [Cost(costs[0].page, tuple(read for cost in costs for read in cost.reads)) for costs in zip(*measured, strict=True)]


def _queries(page: Mapping[str, Any]) -> Iterator[Asked]:
    opened = {panel.get("id") for panel in page["panels"]}
    for panel in dashboards.panels(page):
        span = _seconds(panel.get("timeFrom") or page["time"]["from"])
        points = panel.get("maxDataPoints") or _WIDE * panel["gridPos"]["w"] // 24 // 2
        for target in panel.get("targets") or ():
            if "panelId" in target:
                continue  # another panel's answer
            least = _seconds(target["interval"]) if target.get("interval") else 15
            step = max(least, -(-span // int(points)))
            built_in = {"__interval": f"{step}s", "__rate_interval": f"{max(4 * 15, step)}s", "__range": f"{span}s"}
            built_in["__auto"] = f"{step}s"
            alone = {**page, "panels": [{**panel, "targets": [target]}], "annotations": {}}
            limit = target.get("limit") or target.get("maxLines") or _LINES
            for query in dashboards.queries(alone, built_in):
                yield Asked(query, span, 0 if query.kind == "instant" else step, limit, panel["id"] not in opened)
    for mark in (page.get("annotations") or {}).get("list") or ():
        if not mark["enable"]:
            continue
        span = _seconds(page["time"]["from"])
        query = dashboards.Query(str(page["uid"]), f"marks: {mark['name']}", "Anno", "prometheus", mark["expr"], "range")
        # No more points than Prometheus answers.
        yield Asked(query, span, max(int(mark["step"][:-1]), -(-span // 11_000)))


# As grafana/provisioning says.
_LINES = 1000


def _seconds(text: str) -> int:
    text = text.removeprefix("now-")
    if text.startswith("now/"):
        return 30 * DAY
    return int(text[:-1]) * _UNITS[text[-1]]


_TRIES = 3


def _used(session: requests.Session, url: str) -> float:
    """Processor seconds that a server has used since its start."""
    for line in session.get(f"{url}/metrics", timeout=60).text.splitlines():
        if line.startswith("process_cpu_seconds_total "):
            return float(line.split()[1])
    raise BenchError(f"{url} does not say what it uses")


def prometheus(url: str) -> Callable[[Asked], Read | None]:
    """Asks Prometheus: samples, and the fastest evaluation of three. Raises BenchError when a query fails."""
    session = requests.Session()

    def ask(asked: Asked) -> Read | None:
        if asked.query.datasource != "prometheus":
            return None
        when = {"start": END - asked.span, "end": END, "step": asked.step} if asked.step else {"time": END}
        kind = "query_range" if asked.step else "query"
        seconds, samples, before = [], 0, _used(session, url)
        for _ in range(_TRIES):
            data = {"query": asked.query.expr, "stats": "all", **when}
            answer = session.post(f"{url}/api/v1/{kind}", data=data, timeout=300).json()
            if answer["status"] != "success":
                raise BenchError(f"{answer['error']}: {asked.query.expr}")
            stats = answer["data"]["stats"]
            samples = int(stats["samples"]["totalQueryableSamples"])
            seconds.append(float(stats["timings"]["evalTotalTime"]))
        used = (_used(session, url) - before) / _TRIES
        return Read(asked.query.panel, samples=samples, seconds=min(seconds), processor=used, closed=asked.closed)

    return ask


def telemetry(loki: str, tempo: str, end: float) -> Callable[[Asked], Read | None]:
    """Asks Loki and Tempo at a time: what they say that they read, and the fastest answer of three, from the outside.

    Raises BenchError when a query fails.
    """
    session = requests.Session()

    def ask(asked: Asked) -> Read | None:
        query, span = asked.query, asked.span
        parameters: dict[str, Any]
        if query.datasource == "tempo":
            url = f"{tempo}/api/search"
            times = {"start": int(end - span), "end": int(end)}
            parameters = {"q": query.expr, "limit": asked.limit, "spss": asked.limit, **times}
        elif query.datasource == "loki" and asked.step == 0:
            url, parameters = f"{loki}/loki/api/v1/query", {"query": query.expr, "time": int(end * 1e9)}
        elif query.datasource == "loki":
            url = f"{loki}/loki/api/v1/query_range"
            times = {"start": int((end - span) * 1e9), "end": int(end * 1e9), "step": asked.step}
            parameters = {"query": query.expr, "limit": asked.limit, **times}
        else:
            return None
        base = url.partition("/loki/")[0].removesuffix("/api/search")
        seconds, before = [], _used(session, base)
        for _ in range(_TRIES):
            begin = time.perf_counter()
            answer = session.get(url, params=parameters, timeout=300)
            seconds.append(time.perf_counter() - begin)
            if not answer.ok:
                raise BenchError(f"{answer.text[:300]}: {query.expr}")
        body = answer.json()
        if query.datasource == "tempo":
            lines, size = 0, int(body["metrics"].get("inspectedBytes", 0))
        else:
            summary = body["data"]["stats"]["summary"]
            lines, size = summary["totalLinesProcessed"], summary["totalBytesProcessed"]
        used = (_used(session, base) - before) / _TRIES
        return Read(query.panel, lines=lines, bytes=size, seconds=min(seconds), processor=used, closed=asked.closed)

    return ask


def table(costs: Sequence[Cost]) -> str:
    """For people, as Markdown."""
    head = (
        "page",
        "queries",
        "samples",
        "log lines",
        "MB logs, traces",
        "seconds",
        "processor",
        "slowest panel",
        "its seconds",
    )
    lines = ["| " + " | ".join([*head, "closed rows"]) + " |", "|---|" + "---:|" * 6 + "---|---:|---:|"]
    for cost in sorted(costs, key=lambda c: -c.total("seconds")):
        seconds, closed, worst = cost.total("seconds"), cost.total("seconds", closed=True), cost.slowest()
        missed = "" if seconds < ALLOWED else " **missed**"
        columns = [
            cost.page,
            str(sum(not read.closed for read in cost.reads)),
            *(f"{cost.total(what):,.0f}" for what in ("samples", "lines")),
            f"{cost.total('bytes') / 1e6:,.1f}",
            f"{seconds:.2f}{missed}",
            f"{cost.total('processor'):.2f}",
            worst.panel,
            f"{worst.seconds:.2f}",
            f"{closed:.2f}" if closed else "",
        ]
        lines.append("| " + " | ".join(columns) + " |")
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def filled(service: str, process: str, hours: float) -> Iterator[tuple[Project, Filled]]:
    """A copy of the stack with hours of logs and traces; deleted at the end."""
    with tempfile.TemporaryDirectory() as directory:
        project = copies.copy_of_repository(Path(directory) / "project")
        # It takes spans of hours ago for those of now otherwise, and does not find them by their time.
        _set(project.root / "tempo" / "tempo.yaml", "wal: {path: /var/tempo/wal", ", ingestion_time_range_slack: 168h")
        # Half of it is how much older than the newest of its stream a line may be: hours are sent within minutes, and what
        # Loki has to be sent again is old by then.
        _set(project.root / "loki" / "loki.yaml", "  chunk_encoding: snappy", "\n  max_chunk_age: 24h")
        try:
            stack.up(project, lambda line: None)
            sent = fill(project.port("OTLP_HTTP_PORT"), service, process, int(hours * HOUR))
            _settle(project, service, sent)
            yield project, sent
        finally:
            stack.destroy(project, lambda line: None)


def _set(path: Path, after: str, what: str) -> None:
    text = path.read_text(encoding="utf-8")
    if after not in text:
        raise BenchError(f"{path} has no line with {after}")
    path.write_text(text.replace(after, after + what), encoding="utf-8")


def _settle(project: Project, service: str, sent: Filled) -> None:
    """Wait until Loki has every line, and for Tempo to have put what it has into blocks."""
    # The last executions end a little later than the time that is filled.
    until = sent.end + 60
    query = f'sum(count_over_time({{service_name="{service}"}}[{int(until - sent.start) + 60}s]))'
    url = f"{project.url('loki')}/loki/api/v1/query"
    for _ in range(20):
        answer = requests.get(url, params={"query": query, "time": str(int(until * 1e9))}, timeout=60).json()
        if any(int(row["value"][1]) >= sent.lines for row in answer["data"]["result"]):
            break
        time.sleep(5)
    else:
        raise BenchError("Loki does not have every line")
    # Longer than Tempo's max_block_duration.
    time.sleep(150)


def run(server: str, slos: int, hours: float) -> dict[str, Any]:
    """Fill the servers and measure every page."""
    spec_ = read(spec(slos))
    pages = chosen(spec_)
    with running(server) as one:
        prepare(one, spec_)
        recorded = measure(prometheus(one.url), pages)
    first = spec_.services[0]
    with filled(first.name, first.processes[0].id, hours) as (project, sent):
        told = measure(telemetry(project.url("loki"), project.url("tempo"), sent.end), pages)
    costs = together(recorded, told)
    return {"slos": slos, "hours": hours, "lines": sent.lines, "spans": sent.spans, "costs": [asdict(c) for c in costs]}


def costs_of(known: Mapping[str, Any]) -> list[Cost]:
    """The costs of a run, as it kept them."""
    return [Cost(cost["page"], tuple(Read(**one) for one in cost["reads"])) for cost in known["costs"]]


def main() -> int:
    """Measure, print the table; 1 where a page takes too long."""
    from bench.__main__ import image

    parser = argparse.ArgumentParser(prog="python -m bench.dashboards")
    parser.add_argument("--slos", type=int, default=200)
    parser.add_argument("--hours", type=float, default=6)
    asked = parser.parse_args()
    costs = costs_of(run(image(), asked.slos, asked.hours))
    sys.stdout.write(table(costs))
    return 1 if any(cost.total("seconds") >= ALLOWED for cost in costs) else 0


if __name__ == "__main__":
    sys.exit(main())
