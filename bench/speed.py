"""How long an outage takes to page: by rules over the raw counters, by these, by Sloth's. In promtool's own time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import sloths
from bench.replay import Promtool, load
from bench.traffic import HOUR, SHOP, during, http, steady
from generator.render import rules

BUDGET = 0.001
BEGIN = 6 * HOUR + 600
OUTAGES = ((1.0, 600), (0.2, 1800), (0.05, HOUR), (0.0146, HOUR + 600), (0.0061, 6 * HOUR + 600))
CRITICAL = ((14.4, "1h", "5m"), (6, "6h", "30m"))


@dataclass(frozen=True)
class Detection:
    """Seconds from the start of an outage, in which a share of the requests fails, to the page. None: it never came."""

    share: float
    raw: int | None
    ours: int | None
    sloth: int | None


def raw_rules(name: str) -> dict[str, Any]:
    """The page as the SRE Workbook writes it: each window a rate over the raw counters."""

    def ratio(window: str) -> str:
        bad, every = 'http_requests_total{job="shop",code=~"5.."}', 'http_requests_total{job="shop"}'
        return f"(sum(rate({bad}[{window}])) / sum(rate({every}[{window}])))"

    parts = [f"({ratio(long)} > {f} * {BUDGET} and {ratio(short)} > {f} * {BUDGET})" for f, long, short in CRITICAL]
    return {"name": name, "interval": "30s", "rules": [{"alert": name, "expr": " or ".join(parts)}]}


def measure(promtool: Promtool, work: Path) -> list[Detection]:
    """Each outage after six good hours; both evaluate every 30 s, and scrapes come every 15."""
    read = load(SHOP)
    ours = [g for g in rules.service_groups(read, read.services[0]) if not g["name"].endswith(":slow")]
    theirs = rules.all_rules(sloths.groups("shop", 'job="shop"', work))
    wanted = [r for r in sloths.windows(theirs) if r["labels"]["sloth_window"] in ("5m", "30m", "1h", "6h")]
    peer = {"name": "sloth", "interval": "30s", "rules": [*wanted, sloths.alert(theirs, "critical")]}
    found = []
    for share, length in OUTAGES:
        inputs = http(BEGIN + length, steady(100), during(BEGIN, BEGIN + length, share), offset=10, start=10_000)
        seen = promtool.evaluate([*ours, raw_rules("Raw"), peer], inputs, BEGIN + length, interval=5, watch="ALERTS")
        first = [next(iter(seen.firing(a)), None) for a in ("Raw", "SLOBurnRateCritical", "Sloth")]
        found.append(Detection(share, *(None if at is None else at - BEGIN for at in first)))
    return found
