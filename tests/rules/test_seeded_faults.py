"""Faults put into what was rendered, one at a time: the proof must fail on each, and only then.

docs/proof.md has the table of them; `LGTM_WRITE_DOCS=1 pytest tests/rules/test_seeded_faults.py` writes it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.replay import load
from generator import render
from generator.model import Model
from generator.project import Project
from generator.proof import Proof, prove
from generator.proof.proving import Tools
from generator.render import Artifact

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs" / "proof.md"

SPEC = """
version: 1
organization: Acme
links: {grafana: "https://grafana.example.com"}
defaults: {owner: backend, tier: high, timezone: Europe/Berlin, labels: {environment: production}}
alerting:
  strict:
    critical: [{long: 1h, short: 5m, budget: 2%}, {long: 6h, short: 30m, budget: 5%}]
    warning: [{long: 1d, short: 2h, budget: 10%}, {long: 3d, short: 6h, budget: 10%}]
    freeze: 10%
    exhausted: warning
services:
  shop:
    title: The shop
    depends_on: [store]
    runbook: See the wiki.
    probes:
      live: {url: "http://shop:8080/health", interval: 30s, failures: 2, slower_than: 2s, severity: critical}
    slos:
      availability:
        objective: 99.9%
        by: [region]
        alerting: strict
        owner: payments
        sli: {ratio: {errors: 'http_requests_total{code=~"5.."}', total: http_requests_total}}
      latency:
        objective: 95%
        sli: {latency: {histogram: http_request_duration_seconds, under: 300ms}}
    alerts:
      PoolFull: {expr: pool_used / pool_size, above: 80%, for: 5m, severity: warning, summary: The pool is full}
      NoOrders: {expr: orders_total, absent: true, for: 10m, severity: info, summary: Nothing is ordered}
  store:
    owner: data
    runbook: https://wiki.example.com/store
    slos:
      up: {objective: 99.5%, sli: {boolean: store_up}}
routing:
  hours:
    office: {days: mon-fri, times: 08:00-18:00}
  receivers:
    phone: {pagerduty: {routing_key: {file: pagerduty_key}}}
    boss: {pagerduty: {routing_key: {file: boss_key}}}
    chat: {webhook: {url: "http://chat:8001/"}}
    data: {webhook: {url: "http://data:8001/"}}
    heartbeat: {webhook: {url: "http://heartbeat:8001/"}}
  default: chat
  watchdog: heartbeat
  routes:
    - {owner: data, severity: warning, to: data}
    - {severity: critical, during: office, to: [phone, chat], escalate: {after: 15m, to: boss}}
    - {severity: critical, to: phone, escalate: {after: 15m, to: boss}}
maintenance:
  backup: {services: [store], days: sun, times: 02:00-04:00}
tests:
  - {name: the shop down on Sunday night reaches the phone, alert: SLOBurnRateCritical, service: shop, at: "Sun 03:00",
     reaches: phone, not: chat, escalates: boss}
  - {name: nobody is woken by the backup, alert: SLOBurnRateCritical, service: store, at: "Sun 03:00", quiet: true}
  - {name: the store's page holds the shop's back, alert: SLOBurnRateCritical, service: shop, inhibited_by: store}
"""

SHOP, LGTM = "prometheus/generated/rules/service-shop.yaml", "prometheus/generated/rules/lgtm.yaml"
ROUTES = "alertmanager/generated/alertmanager.yml"

Change = Callable[[str], str]


@dataclass(frozen=True)
class Fault:
    """A mistake in a rendered file, in words, and what makes it of the right one."""

    name: str
    path: str
    change: Change

    @property
    def only(self) -> set[str] | None:
        """What is proven of the file with this fault: enough to see it."""
        if self.path != SHOP:
            return None
        return (
            {"shop"}
            if self.name in WHOLE_SERVICE
            else {"shop/latency" if self.name == "a bucket too high" else "shop/availability"}
        )

    @property
    def parts(self) -> tuple[str, ...]:
        return ("routes",) if self.path == ROUTES else ("rules",)


def sub(pattern: str, by: str, count: int = 0) -> Change:
    return lambda text: re.sub(pattern, by, text, count=count, flags=re.DOTALL | re.MULTILINE)


def within(alert: str, pattern: str, by: str) -> Change:
    """A replacement in the rule of one alert."""

    def change(text: str) -> str:
        def one(rule: dict[str, Any]) -> None:
            if rule.get("alert") == alert:
                changed = yaml.safe_load(re.sub(pattern, by, yaml.safe_dump(rule, width=10**9), flags=re.DOTALL))
                rule.clear()
                rule.update(changed)

        return each_rule(one)(text)

    return change


def expression(name: str, pattern: str, by: str) -> Change:
    """A replacement in the expressions of one alert or record."""

    def one(rule: dict[str, Any]) -> None:
        if name in (rule.get("alert"), rule.get("record")):
            rule["expr"] = re.sub(pattern, by, rule["expr"], flags=re.DOTALL)

    return each_rule(one)


def each_rule(change: Callable[[dict[str, Any]], None]) -> Change:
    def whole(text: str) -> str:
        data = yaml.safe_load(text)
        for group in data["groups"]:
            for rule in group["rules"]:
                change(rule)
            group["rules"] = [rule for rule in group["rules"] if rule.get("expr")]
        return yaml.safe_dump(data, sort_keys=False, width=10**9)

    return whole


def lost(name: str) -> Change:
    return each_rule(lambda rule: rule.pop("expr") if name in (rule.get("alert"), rule.get("record")) else None)


def data(change: Callable[[dict[str, Any]], object]) -> Change:
    def whole(text: str) -> str:
        read = yaml.safe_load(text)
        change(read)
        return yaml.safe_dump(read, sort_keys=False, width=10**9)

    return whole


def nodes(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every route of the tree."""

    def walk(route: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield route
        for child in route.get("routes", ()):
            yield from walk(child)

    return walk(config["route"])


def all_nodes(change: Callable[[dict[str, Any]], object]) -> Change:
    return data(lambda config: [change(node) for node in nodes(config)])


def swapped(a: str, b: str) -> Change:
    def change(node: dict[str, Any]) -> None:
        if "receiver" in node:
            node["receiver"] = {a: b, b: a}.get(node["receiver"], node["receiver"])

    return all_nodes(change)


def blocks_swapped(config: dict[str, Any]) -> None:
    by_name = {r["name"]: r for r in config["receivers"]}
    phone, boss = by_name["phone"], by_name["boss"]
    phone["pagerduty_configs"], boss["pagerduty_configs"] = boss["pagerduty_configs"], phone["pagerduty_configs"]


def without(key: str, where: Callable[[dict[str, Any]], bool] = lambda node: True) -> Change:
    return all_nodes(lambda node: node.pop(key, None) if where(node) else None)


def no_escalation(config: dict[str, Any]) -> None:
    for node in list(nodes(config)):
        node["routes"] = [child for child in node.get("routes", ()) if child.get("receiver") != "boss"]


# promtool lets no query hold many samples, so the longer windows are averaged in larger steps.
STEPS = {"1h": "2m", "6h": "7m"}


def averaged(rule: dict[str, Any]) -> None:
    """An average of the ratios of all moments, where the sums should be divided."""
    window = str(rule.get("record", "")).removeprefix("slo:error_ratio:")
    if window in STEPS:
        ratio = '(slo:sli_errors:rate{service="shop"} / slo:sli_total:rate{service="shop"})'
        rule["expr"] = f"avg_over_time({ratio}[{window}:{STEPS[window]}])"


BURN = "SLOBurnRateCritical"

FAULTS = (
    # Burn rates
    Fault("a factor of 12 instead of 14.4", SHOP, expression(BURN, r"\b14\.4 \*", "12 *")),
    Fault("a factor of 20 instead of 14.4", SHOP, expression(BURN, r"\b14\.4 \*", "20 *")),
    Fault("a factor of 6.5 instead of 6", SHOP, expression(BURN, r"\(6 \*", "(6.5 *")),
    Fault("the long window is 2h instead of 1h", SHOP, expression(BURN, r"error_ratio:1h", "error_ratio:2h")),
    Fault("a window records another length", SHOP, expression("slo:error_ratio:6h", r"\[6h\]", "[4h]")),
    Fault("the short window is missing", SHOP, expression(BURN, r"and slo:error_ratio:(5m|30m).*?\)\)?\n", "")),
    Fault("the short window is as long as the long one", SHOP, expression(BURN, r"error_ratio:5m", "error_ratio:1h")),
    Fault("two conditions joined by and", SHOP, expression(BURN, r"\nor\n", "\nand\n")),
    Fault("the minimum of events is dropped", SHOP, expression(BURN, r"\nand ignoring[^\n]*|\n\s*and ignoring[^\n]*", "")),
    Fault(
        "the minimum counts all events",
        SHOP,
        expression(BURN, r"slo:sli_errors:sum_(\w+)(\{[^}]*\})", r"sum_over_time(slo:sli_total:rate\2[\1])"),
    ),
    Fault("an average of ratios", SHOP, each_rule(averaged)),
    Fault("the objective taken for the budget", SHOP, sub(r"vector\(0\.001\)", "vector(0.999)")),
    Fault("the slow tier reads fast series", SHOP, expression("slo:error_ratio:3d", r"sum5m", "rate")),
    Fault("the slow tier sums ten minutes", SHOP, expression("slo:sli_errors:sum5m", r"\[5m\]", "[10m]")),
    Fault("an alert lost", SHOP, lost("SLOBurnRateWarning")),
    # SLIs
    Fault("errors that are none", SHOP, expression("slo:sli_errors:rate", r'code=~"5\.\."', 'code!~"5.."')),
    Fault("the job's matcher lost", SHOP, expression("slo:sli_total:rate", r'job="shop",?', "")),
    Fault("no zero for errors that never were", SHOP, expression("slo:sli_errors:rate", r"or 0 \* .*?(?=\) >= 0)", "")),
    Fault("increase instead of rate", SHOP, expression("slo:sli_total:rate", r"\brate\(", "increase(")),
    Fault("a bucket too high", SHOP, expression("slo:sli_errors:rate", r"0\\\\?\.3", "0\\\\\\\\.6")),
    Fault("groups lost in the SLI", SHOP, expression("slo:sli_errors:rate", r"sum by \(region\)", "sum")),
    Fault("groups lost in the alert", SHOP, expression(BURN, r"^(.*)$", r"max by (service, slo, owner, tier) (\1)")),
    # What an alert says
    Fault(
        "severities swapped",
        SHOP,
        each_rule(
            lambda rule: (
                rule["labels"].update(severity={"critical": "warning", "warning": "critical"}[rule["labels"]["severity"]])
                if rule.get("alert", "").startswith("SLOBurnRate")
                else None
            )
        ),
    ),
    Fault("the owner is not joined", SHOP, expression(BURN, r"group_left \(owner, tier\)", "group_left (tier)")),
    Fault("a common label lost", SHOP, each_rule(lambda rule: rule.get("labels", {}).pop("environment", None))),
    Fault("runbook_url lost", SHOP, each_rule(lambda rule: rule.get("annotations", {}).pop("runbook_url", None))),
    Fault("a template that does not parse", SHOP, within(BURN, r"\{\{ \$labels\.slo \}\}", "{{ $labels.slo | nothing }}")),
    Fault("a template that cannot be filled in", SHOP, within(BURN, r"\{\{ \$labels\.slo \}\}", "{{ index $labels 3 }}")),
    Fault("a link to another service's page", SHOP, sub(r"/d/service-shop", "/d/service-store")),
    # Absent data, thresholds, probes, the budget
    Fault("SLONoData lost", SHOP, lost("SLONoData")),
    Fault(
        "SLONoData without its for",
        SHOP,
        each_rule(lambda rule: rule.pop("for", None) if rule.get("alert") == "SLONoData" else None),
    ),
    Fault(
        "a threshold's for forgotten",
        SHOP,
        each_rule(lambda rule: rule.pop("for", None) if rule.get("alert") == "PoolFull" else None),
    ),
    Fault("a threshold's for too long", SHOP, within("PoolFull", r"for: 5m", "for: 20m")),
    Fault("a threshold inverted", SHOP, expression("PoolFull", r" > ", " < ")),
    Fault("a threshold in percent", SHOP, expression("PoolFull", r"0\.8", "80")),
    Fault("an alert on absence inverted", SHOP, expression("NoOrders", r"absent\(", "count(")),
    Fault("a probe that fails once pages", SHOP, expression("ProbeFailing", r"\[1m\]", "[30s]")),
    Fault("slow answers of a probe are good", SHOP, expression("ProbeFailing", r"\nor\n[^\n]*", "")),
    Fault("a freeze inverted", SHOP, expression("SLODeploymentFreeze", r" < ", " > ")),
    Fault("an exhausted budget a tenth late", SHOP, expression("SLOBudgetExhausted", r"<= 0$", "<= -0.1")),
    Fault("a budget over 25 days", SHOP, sub(r"\[30d\]", "[25d]")),
    Fault("the Watchdog stops", LGTM, sub(r"vector\(1\)", "vector(1) > 1")),
    # Routes
    Fault(
        "a route catches too much",
        ROUTES,
        all_nodes(lambda n: n.update(matchers=['severity="warning"']) if n.get("receiver") == "data" else None),
    ),
    Fault("a route without matchers", ROUTES, without("matchers", lambda n: n.get("receiver") == "data")),
    Fault("another severity's matcher", ROUTES, sub(r'severity="critical"', 'severity="info"')),
    Fault("two receivers swapped", ROUTES, swapped("phone", "data")),
    Fault("the keys of two receivers swapped", ROUTES, data(blocks_swapped)),
    Fault("a receiver tells another address", ROUTES, sub(r"http://chat:8001/", "http://chat:8002/")),
    Fault("no escalation", ROUTES, data(no_escalation)),
    Fault("an escalation too late", ROUTES, sub(r"group_wait: 15m", "group_wait: 1h")),
    Fault("a continue missing", ROUTES, without("continue")),
    Fault("a mute time inverted", ROUTES, sub(r"- (outside )?office$", lambda m: "- office" if m[1] else "- outside office")),  # type: ignore[arg-type]
    Fault("hours in another time zone", ROUTES, sub(r"location: Europe/Berlin", "location: UTC")),
    Fault(
        "maintenance of one service mutes all",
        ROUTES,
        all_nodes(
            lambda n: (
                n.update(mute_time_intervals=[*n.get("mute_time_intervals", []), "maintenance backup"])
                if n.get("receiver") and "group_by" not in n
                else None
            )
        ),
    ),
    Fault(
        "maintenance lost",
        ROUTES,
        all_nodes(
            lambda n: n.update(mute_time_intervals=[m for m in n.get("mute_time_intervals", []) if m != "maintenance backup"])
        ),
    ),
    Fault(
        "the heartbeat goes to the default",
        ROUTES,
        all_nodes(lambda n: n.update(receiver="chat") if n.get("receiver") == "heartbeat" else None),
    ),
    Fault("the default is nobody", ROUTES, data(lambda c: c["route"].update(receiver="nobody"))),
    Fault("one notification for everything", ROUTES, data(lambda c: c["route"].update(group_by=["severity"]))),
    Fault(
        "a probe mutes the pages of its own service",
        ROUTES,
        data(
            lambda c: c["inhibit_rules"].append(
                {
                    "source_matchers": ['alertname="ProbeFailing"'],
                    "target_matchers": ['alertname="SLOBurnRateCritical"'],
                    "equal": ["service"],
                }
            )
        ),
    ),
    Fault(
        "a ticket mutes a page",
        ROUTES,
        data(
            lambda c: [
                r.update(source_matchers=r["target_matchers"], target_matchers=r["source_matchers"])
                for r in c["inhibit_rules"][:1]
            ]
        ),
    ),
    Fault("a page mutes tickets of other SLOs", ROUTES, data(lambda c: c["inhibit_rules"][0].update(equal=["environment"]))),
    Fault(
        "an outage does not mute what follows from it",
        ROUTES,
        data(lambda c: c.update(inhibit_rules=[r for r in c["inhibit_rules"] if r["target_matchers"] != ['service="shop"']])),
    ),
    Fault("a configuration that Alertmanager refuses", ROUTES, sub(r"group_by:", "group_by_all:")),
)


# Faults of what belongs to no SLO.
WHOLE_SERVICE = (
    "a threshold's for forgotten",
    "a threshold's for too long",
    "a threshold inverted",
    "a threshold in percent",
    "an alert on absence inverted",
    "a probe that fails once pages",
    "slow answers of a probe are good",
)


@pytest.fixture(scope="module")
def spec() -> Model:
    return load(SPEC)


@pytest.fixture(scope="module")
def artifacts(spec: Model) -> list[Artifact]:
    return [a for a in render.everything(spec) if a.path.startswith(("prometheus/", "alertmanager/"))]


@pytest.fixture(scope="module")
def proven(spec: Model, artifacts: list[Artifact], made: Tools) -> Callable[[Fault], Proof]:
    """The proof of a file with a fault, made once."""

    @cache
    def of(fault: Fault) -> Proof:
        changed = [replace(a, text=fault.change(a.text)) if a.path == fault.path else a for a in artifacts]
        before, after = ([yaml.safe_load(a.text) for a in many if a.path == fault.path] for many in (artifacts, changed))
        assert before != after, "the fault changes nothing"
        return prove(Project.load(ROOT), spec, changed, lambda line: None, fault.only, parts=fault.parts, made=made)

    return of


def test_without_a_fault_it_is_proven(spec: Model, artifacts: list[Artifact], made: Tools) -> None:
    proof = prove(Project.load(ROOT), spec, artifacts, lambda line: None, made=made)
    assert [str(f) for f in proof.failures] == []
    assert proof.table
    assert not any(row.failed or row.unproven for row in proof.table)
    assert [so for _, so in proof.tests] == [True, True, True]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_caught(fault: Fault, proven: Callable[[Fault], Proof]) -> None:
    proof = proven(fault)
    assert proof.failures
    assert all(f.message and f.by for f in proof.failures)


def test_there_are_more_than_thirty_and_each_has_a_name_of_its_own() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) > 30


def test_the_page_has_the_table_of_them(proven: Callable[[Fault], Proof]) -> None:
    lines = ["| fault | caught by | it says, for example |", "|---|---|---|"]
    for fault in FAULTS:
        failures = proven(fault).failures
        by = ", ".join(dict.fromkeys(f.by for f in failures))
        said = re.sub(r" \(and \d+ more such cases\)", "", str(failures[0])).replace("|", "\\|").replace("\n", " ")
        # What a tool says itself is not for this page: it says it in other words with each version.
        said = re.sub(r"(, and do not|, and says): .*|<error expanding template.*", r"\1 …", said)
        lines.append(f"| {fault.name} | {by} | {said[:180]} |")
    begin, end = "<!-- faults -->\n", "\n<!-- end of faults -->"
    page = DOCS.read_text(encoding="utf-8")
    table = "\n".join(lines)
    head, _, rest = page.partition(begin)
    present, _, tail = rest.partition(end)
    if os.environ.get("LGTM_WRITE_DOCS"):
        DOCS.write_text(head + begin + table + end + tail, encoding="utf-8")
    else:
        assert present == table
