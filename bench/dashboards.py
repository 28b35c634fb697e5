"""What the dashboards' queries cost: every PromQL query of each page, on thirty days of what 200 SLOs record.

    python -m bench.dashboards [--slos 200]

Panels are asked for as Grafana would on a laptop: over their page's own time range, one point for each two pixels. What is
recorded has made-up values: how many samples are read depends on none. Logs and traces are not part of it.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import requests
import yaml

from bench.history import DAY, END
from bench.server import BenchError, Server, running
from generator import model, names, source
from generator.model import Model
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
class Cost:
    """Of one page: its PromQL queries, the samples that they read, seconds inside the server, and the slowest panel."""

    page: str
    queries: int
    samples: int
    seconds: float
    worst: str
    worst_seconds: float


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


def measure(server: Server, pages: Sequence[Mapping[str, Any]]) -> list[Cost]:
    """Every PromQL query of each page, the fastest of three runs each; a query of two panels counts twice."""
    found = []
    with requests.Session() as session:
        for page in pages:
            costs = [(panel, _asked(session, server.url, *query)) for panel, query in _queries(page)]
            by_panel: dict[str, float] = {}
            for panel, (_, seconds) in costs:
                by_panel[panel] = by_panel.get(panel, 0.0) + seconds
            worst = max(by_panel, key=lambda name: by_panel[name], default="")
            samples, seconds = sum(c[0] for _, c in costs), sum(c[1] for _, c in costs)
            found.append(Cost(str(page["uid"]), len(costs), samples, seconds, worst, by_panel.get(worst, 0.0)))
    return found


def _queries(page: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, int, int]]]:
    """The name of each panel with each of its queries: expression, seconds that it reaches back, and step, 0 for an instant."""
    for panel in dashboards.panels(page):
        span = _seconds(panel.get("timeFrom") or page["time"]["from"])
        points = panel.get("maxDataPoints") or _WIDE * panel["gridPos"]["w"] // 24 // 2
        for target in panel.get("targets") or ():
            least = _seconds(target["interval"]) if target.get("interval") else 15
            step = max(least, -(-span // int(points)))
            built_in = {"__interval": f"{step}s", "__rate_interval": f"{max(4 * 15, step)}s", "__range": f"{span}s"}
            alone = {**page, "panels": [{**panel, "targets": [target]}], "annotations": {}}
            for query in dashboards.queries(alone, built_in):
                if query.datasource == "prometheus":
                    yield query.panel, (query.expr, span, 0 if query.kind == "instant" else step)
    for mark in (page.get("annotations") or {}).get("list") or ():
        if not mark["enable"]:
            continue
        span = _seconds(page["time"]["from"])
        # No more points than Prometheus answers.
        yield f"marks: {mark['name']}", (mark["expr"], span, max(int(mark["step"][:-1]), -(-span // 11_000)))


def _seconds(text: str) -> int:
    text = text.removeprefix("now-")
    if text.startswith("now/"):
        return 30 * DAY
    return int(text[:-1]) * _UNITS[text[-1]]


def _asked(session: requests.Session, url: str, expr: str, span: int, step: int) -> tuple[int, float]:
    """Samples read, and seconds of evaluation. Raises BenchError when the query fails."""
    kind, when = ("query_range", {"start": END - span, "end": END, "step": step}) if step else ("query", {"time": END})
    seconds, samples = [], 0
    for _ in range(3):
        answer = session.post(f"{url}/api/v1/{kind}", data={"query": expr, "stats": "all", **when}, timeout=300).json()
        if answer["status"] != "success":
            raise BenchError(f"{answer['error']}: {expr}")
        stats = answer["data"]["stats"]
        samples = int(stats["samples"]["totalQueryableSamples"])
        seconds.append(float(stats["timings"]["evalTotalTime"]))
    return samples, min(seconds)


def table(costs: Sequence[Cost], slos: int) -> str:
    """For people, as Markdown."""
    lines = [
        f"| page ({slos} SLOs, 30 days) | queries | samples read | seconds | slowest panel | its seconds |",
        "|---|---|---|---|---|---|",
    ]
    for cost in sorted(costs, key=lambda c: -c.seconds):
        missed = "" if cost.seconds < ALLOWED else f" (more than {ALLOWED:g})"
        numbers = f"{cost.queries} | {cost.samples:,} | {cost.seconds:.2f}{missed} | {cost.worst} | {cost.worst_seconds:.2f}"
        lines.append(f"| {cost.page} | {numbers} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure, print the table; 1 where a page takes too long."""
    from bench.__main__ import image

    parser = argparse.ArgumentParser(prog="python -m bench.dashboards")
    parser.add_argument("--slos", type=int, default=200)
    slos = parser.parse_args().slos
    spec_ = read(spec(slos))
    with running(image()) as server:
        prepare(server, spec_)
        costs = measure(server, chosen(spec_))
    sys.stdout.write(table(costs, slos))
    return 1 if any(cost.seconds >= ALLOWED for cost in costs) else 0


if __name__ == "__main__":
    sys.exit(main())
