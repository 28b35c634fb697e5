"""A thousand SLOs over twenty series each, with thirty days of history, evaluated by a live Prometheus every 30 s."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from bench.history import DAY
from bench.server import BenchError, Server
from generator import model, source
from generator.render import rules
from generator.render.yamltext import dump

PER_SERVICE = 10


def spec(slos: int) -> str:
    """The product's file of so many SLOs, ten in a service."""
    lines = ["version: 1", "services:"]
    for service in range(slos // PER_SERVICE):
        lines += [f"  svc{service:03}:", "    slos:"]
        for number in range(PER_SERVICE):
            route = f'route="r{number}"'
            ratio = f"{{errors: 'http_requests_total{{{route},code=~\"5..\"}}', total: 'http_requests_total{{{route}}}'}}"
            lines += [f"      slo{number}:", "        objective: 99.9%", f"        sli: {{ratio: {ratio}}}"]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Load:
    """What a live Prometheus took. Shares are of one core; ``before`` is the process with no rules but scraping as much."""

    slos: int
    raw_series: int
    seconds: float
    iterations: float
    missed: float
    slowest: float
    evaluating: float
    processor: float
    before: float
    memory: float


class _Counters:
    """The service's metrics: twenty series for each SLO, that grow."""

    def __init__(self, slos: int, series: int) -> None:
        self._begin = time.time()
        self._heads = []
        for slo in range(slos):
            job = f'job="svc{slo // PER_SERVICE:03}",route="r{slo % PER_SERVICE}"'
            for number in range(series):
                code, per_second = ("500", 0.001) if number % 4 == 3 else ("200", 10.0)
                self._heads.append((f'http_requests_total{{{job},instance="{number}",code="{code}"}} ', per_second))

    def text(self) -> bytes:
        """What a scrape reads."""
        age = time.time() - self._begin + 10_000
        return "".join(f"{head}{age * by:.3f}\n" for head, by in self._heads).encode()


@contextmanager
def target(slos: int, series: int) -> Iterator[int]:
    """Serves the counters; the port."""
    counters = _Counters(slos, series)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Any path is /metrics."""
            body = counters.text()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("0.0.0.0", 0), Handler)  # noqa: S104
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


CONFIG = """
global: {{scrape_interval: 15s, evaluation_interval: 30s}}
rule_files: [{rules}]
scrape_configs:
  - {{job_name: load, honor_labels: true, static_configs: [{{targets: ["host.docker.internal:{port}"]}}]}}
  - {{job_name: prometheus, static_configs: [{{targets: ["localhost:9090"]}}]}}
"""


def measure(server: Server, slos: int = 1000, series: int = 20, seconds: int = 480, settle: int = 120) -> Load:
    """Import the history, let it run, and read Prometheus's own metrics. ``settle`` is before the measuring begins."""
    read = model.resolve(source.read_text(spec(slos), "slos.yaml")).model
    assert read is not None
    now = int(time.time()) // 60 * 60
    _history(server, slos, now)
    rendered = {a.path.rpartition("/")[2]: a.text for a in rules.render(read)}
    with target(slos, series) as port:
        directory = server.put(rendered)
        _configure(server, CONFIG.format(rules="", port=port))
        before = _processor(server, 90)
        _configure(server, CONFIG.format(rules=f'"{directory}/*.yaml"', port=port))
        time.sleep(settle)
        first = _metrics(server)
        time.sleep(seconds)
        last = _metrics(server)
    took = last["time"] - first["time"]
    found = {key: last[key] - first[key] for key in first}
    if not found["iterations"]:
        raise BenchError("no rule was evaluated")
    return Load(
        slos=slos,
        raw_series=slos * series,
        seconds=took,
        iterations=found["iterations"],
        missed=last["missed"],
        slowest=last["slowest"],
        evaluating=found["evaluating"] / took,
        processor=found["processor"] / took,
        before=before,
        memory=last["memory"],
    )


def _history(server: Server, slos: int, now: int) -> None:
    """Thirty days of sums and six hours of rates, by expressions over one seed for each SLO."""
    names = [(f"svc{slo // PER_SERVICE:03}", f"slo{slo % PER_SERVICE}") for slo in range(slos)]
    seeds = [f'seed{{service="{service}",slo="{slo}"}} 1 {now - 120}' for service, slo in names]
    server.import_openmetrics(io.BytesIO(("# TYPE seed gauge\n" + "\n".join(seeds) + "\n# EOF\n").encode()))
    server.restart()
    wave = f"seed @ {now - 120} * (200 + 100 * scalar(sin(vector(time() / 13751))))"
    for interval, length, total, errors in (
        (300, 30.1 * DAY, "slo:sli_total:sum5m", "slo:sli_errors:sum5m"),
        (30, 6.1 * 3600, "slo:sli_total:rate", "slo:sli_errors:rate"),
    ):
        recorded = [{"record": total, "expr": wave}, {"record": errors, "expr": f"0.0005 * ({wave})"}]
        group = {"name": f"every{interval}", "interval": f"{interval}s", "rules": recorded}
        server.record(dump({"groups": [group]}), int(now - length), now - 60)
    server.restart()


def _configure(server: Server, text: str) -> None:
    # The path that the server was started with.
    server.put({"prometheus.yml": text}, "etc/prometheus")
    server.restart()


def _processor(server: Server, seconds: int) -> float:
    time.sleep(45)
    first = _metrics(server)
    time.sleep(seconds)
    last = _metrics(server)
    return (last["processor"] - first["processor"]) / (last["time"] - first["time"])


def _metrics(server: Server) -> dict[str, float]:
    """Prometheus's own counters, now, from its own page and not from its storage."""
    found = dict.fromkeys(("iterations", "missed", "evaluating", "processor", "memory", "slowest"), 0.0)
    names = {
        "prometheus_rule_group_iterations_total": "iterations",
        "prometheus_rule_group_iterations_missed_total": "missed",
        "prometheus_rule_evaluation_duration_seconds_sum": "evaluating",
        "process_cpu_seconds_total": "processor",
        "process_resident_memory_bytes": "memory",
    }
    for line in server.page().splitlines():
        name, _, value = line.rpartition(" ")
        name = name.partition("{")[0]
        if name in names:
            found[names[name]] += float(value)
        elif name == "prometheus_rule_group_last_duration_seconds":
            found["slowest"] = max(found["slowest"], float(value))
    found["time"] = time.time()
    return found
