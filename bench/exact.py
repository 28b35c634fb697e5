"""How far the budget of thirty days is from what really happened, and how far averages of ratios are."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from bench import sloths
from bench.history import DAY, END, SERVICES, Plan, write
from bench.server import Server
from generator import model, source
from generator.model import Model
from generator.render import rules
from generator.render.yamltext import dump

OBJECTIVE = Decimal("0.99")

SPEC = """
version: 1
defaults: {{interval: {interval}s}}
services:
{services}
"""
SERVICE = """
  {name}:
    slos:
      availability:
        objective: 99%
        sli: {{ratio: {{errors: 'http_requests_total{{code=~"5.."}}', total: http_requests_total}}}}
"""


@dataclass(frozen=True)
class Exactness:
    """What is left of a budget, as a share of it: in truth, by these rules, and by an average of five-minute ratios,
    and by Sloth's rules where they were evaluated as well.

    ``watched`` is the truth about the time in which Prometheus was there to see; ``truth`` is all of it.
    """

    service: str
    watched: float
    truth: float
    ours: float
    averaged: float
    sloth: float | None


def spec(interval: int) -> Model:
    """The services of the history."""
    services = "".join(SERVICE.format(name=name) for name in SERVICES)
    result = model.resolve(source.read_text(SPEC.format(interval=interval, services=services), "slos.yaml"))
    assert result.model is not None, [d.message for d in result.diagnostics]
    return result.model


def measure(server: Server, plan: Plan, work: Path | None = None) -> list[Exactness]:
    """Import a history, evaluate the product's rules over all of it, and compare; with ``work`` also Sloth's."""
    with tempfile.TemporaryFile() as text:
        truth = write(plan, text)
        server.import_openmetrics(text)
        server.restart()
    start = END - plan.days * DAY
    read = spec(plan.interval)
    groups = {g["name"]: g for service in read.services for g in rules.service_groups(read, service)}
    peer: dict[str, dict[str, dict[str, str]]] = {}
    if work is not None:
        for name in SERVICES:
            every = sloths.windows(rules.all_rules(sloths.groups(name, f'job="{name}"', work, "99")))
            peer[name] = {rule["labels"]["sloth_window"]: rule for rule in every}
        # Sloth's budget is an average of this one over 30 days. Its files name no interval: the server's is 30 s.
        five = [windows["5m"] for windows in peer.values()]
        server.record(dump({"groups": [{"name": "sloth", "interval": "30s", "rules": five}]}), start, END)
    # Rules that read recorded series come in the next pass: what one pass records is read only after it.
    for wanted in (("slo:sli_total:rate", "slo:sli_errors:rate"), ("slo:sli_errors:sum5m", "slo:sli_total:sum5m")):
        chosen = []
        for group in groups.values():
            some = [rule for rule in group["rules"] if rule.get("record") in wanted]
            if some:
                # The total is read back by the rule of the errors, in the same evaluation: here it must read the counters.
                chosen.append({**group, "rules": [_from_counters(rule, some) for rule in some]})
        server.record(dump({"groups": chosen}), start, END)
        server.restart()
    # The rate of the last moments is seen up to a minute late, and the slow tier runs every five.
    at = END
    found = []
    for service in read.services:
        (slo,) = service.slos
        counted = {rule["record"]: rule["expr"] for rule in groups[f"{service.name}:slo:slow"]["rules"] if "record" in rule}
        errors = server.query(counted["slo:sli_errors:counted"], at).value
        total = server.query(counted["slo:sli_total:counted"], at).value
        budget = float(slo.budget)
        mean = f'avg_over_time((sum_over_time(slo:sli_errors:rate{{service="{service.name}"}}[5m]) / '
        mean += f'sum_over_time(slo:sli_total:rate{{service="{service.name}"}}[5m]))[30d:5m])'
        averaged = server.query(mean, at).value
        # Without a series of errors Sloth's rules have no value at all.
        theirs = server.query(peer[service.name]["30d"]["expr"], at).result if peer else []
        found.append(
            Exactness(
                service.name,
                1 - truth.watched_errors[service.name] / truth.watched_total[service.name] / budget,
                1 - truth.errors[service.name] / truth.total[service.name] / budget,
                1 - errors / total / budget,
                1 - averaged / budget,
                1 - float(theirs[0]["value"][1]) / budget if theirs else None,
            )
        )
    return found


def _from_counters(rule: dict[str, str], others: list[dict[str, str]]) -> dict[str, str]:
    if rule["record"] != "slo:sli_errors:rate":
        return rule
    total = next(r["expr"] for r in others if r["record"] == "slo:sli_total:rate")
    head, _, _ = rule["expr"].partition("or 0 * ")
    return {**rule, "expr": f"{head}or 0 * ({total})" + (")" if head.startswith("(") else "")} if head != rule["expr"] else rule
