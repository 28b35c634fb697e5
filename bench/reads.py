"""How many samples each evaluation of one SLO reads, and how long that takes, over 1, 20 and 200 raw series."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import promql_parser as pp

from bench import sloths
from bench.history import DAY, END
from bench.server import Server
from generator import cost, model, names, source
from generator.model import Model
from generator.render import rules
from generator.render.yamltext import dump

SIZES = (1, 20, 200)
SPEC = """
version: 1
services:
{services}
"""
SERVICE = """
  {name}:
    slos:
      availability:
        objective: 99.9%
        sli: {{ratio: {{errors: 'http_requests_total{{code=~"5.."}}', total: http_requests_total}}}}
"""


@dataclass(frozen=True)
class Reads:
    """Of one SLO, every 30 s: samples and seconds of all its rules; what runs seldom counts by its share."""

    series: int
    ours: float
    ours_seconds: float
    sloth: float
    sloth_seconds: float
    predicted: float


def raw(size: int) -> Iterable[tuple[str, float]]:
    """The labels of a service's counters, and their rates: a quarter of them counts errors. One series is its own."""
    for number in range(size):
        code = "500" if size > 1 and number % 4 == 3 else "200"
        yield f'job="size{size}",instance="{number}",code="{code}"', 10 if code == "200" else 0.001
    if size == 1:
        yield f'job="size{size}",instance="0",code="500"', 0.001


def read(text: str) -> Model:
    """The Model of a spec. Raises AssertionError where it has errors."""
    found = model.resolve(source.read_text(text, "slos.yaml"))
    assert found.model is not None, [d.message for d in found.diagnostics]
    return found.model


def prepare(
    server: Server, sizes: Sequence[int], peer: Iterable[list[dict[str, Any]]] = (), raw_days: float = 0.05
) -> dict[int, list[dict[str, Any]]]:
    """Raw counters of some days, and thirty of what is recorded of them by our groups, returned by size, and a peer's.

    What is recorded is made by expressions of the right shape: how many samples are read depends on no value.
    """
    spec = read(SPEC.format(services="".join(SERVICE.format(name=f"size{size}") for size in sizes)))
    ours = {size: rules.service_groups(spec, service) for size, service in zip(sizes, spec.services, strict=True)}
    seeds = [f"seed{{{labels}}} {value} {END - 60}" for size in sizes for labels, value in raw(size)]
    text = "# TYPE seed gauge\n" + "\n".join(seeds) + "\n# EOF\n"
    server.import_openmetrics(io.BytesIO(text.encode()))
    server.restart()
    start = END - 31 * DAY

    def make(name: str, interval: int, days: float, block: str, recorded: list[dict[str, Any]]) -> None:
        group = {"name": name, "interval": f"{interval}s", "rules": recorded}
        server.record(dump({"groups": [group]}), END - int(days * DAY), END, block=block)

    growing = {"record": "http_requests_total", "expr": f"seed @ {END} * (time() - {start})"}
    make("raw", 15, raw_days, "18h", [growing])

    def constant(rule: dict[str, Any]) -> dict[str, Any]:
        return {"record": rule["record"], "expr": "vector(0.001)", "labels": rule["labels"]}

    fast, slow, short, sloth5m = [], [], [], []
    for size in sizes:
        labels = {"service": f"size{size}", "slo": "availability"}
        for rule in rules.all_rules(ours[size]):
            name = rule.get("record", "")
            here = constant({"record": name, "labels": {**labels, **rule.get("labels", {})}})
            if name.endswith(":rate"):
                fast.append(here)
            # Where a history began is read at moments of a whole day.
            elif name.endswith((":sum5m", ":counted")) or name == names.HISTORY_START:
                slow.append(here)
            elif name:
                short.append(here)
    for rule in (rule for groups in peer for rule in rules.all_rules(groups)):
        if rule.get("record") == "slo:sli_error:ratio_rate5m":
            sloth5m.append(constant(rule))
        elif "record" in rule:
            short.append(constant(rule))
    make("fast", 30, 0.3, "54h", fast)
    make("slow", 300, 30.1, "54h", slow)
    make("short", 30, 0.02, "54h", short)
    if sloth5m:
        make("sloth", 30, 30.1, "54h", sloth5m)
    server.restart()
    return ours


def measure(server: Server, work: Path) -> list[Reads]:
    """Count by the query API's statistics."""
    peer = {size: sloths.groups(f"size{size}", f'job="size{size}"', work) for size in SIZES}
    ours = prepare(server, SIZES, peer.values(), 3.1)
    found = []
    for size in SIZES:
        mine = of_all(server, ours[size])
        theirs = of_all(server, peer[size])
        predicted = cost.of_groups(ours[size], partial(counters, size)).samples
        found.append(Reads(size, *mine, *theirs, predicted))
    return found


def counters(size: int, selector: pp.VectorSelector) -> int:
    """How many series a selector of the raw counters finds."""
    bad = any(m.name == "code" for m in selector.matchers.matchers)
    codes = ['code="500"' in labels for labels, _ in raw(size)]
    return sum(codes) if bad else len(codes)


def of_all(server: Server, groups: list[dict[str, Any]]) -> tuple[float, float]:
    """Samples and seconds of one evaluation of groups; what runs seldom counts by its share of 30 s."""
    samples = seconds = 0.0
    for group in groups:
        interval = float(group["interval"].seconds) if "interval" in group else 30.0
        for rule in group["rules"]:
            runs = [server.query(rule["expr"], END) for _ in range(3)]
            samples += runs[0].samples * 30 / interval
            seconds += min(run.seconds for run in runs) * 30 / interval
    return samples, seconds
