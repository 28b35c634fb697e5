"""Every PromQL query of every dashboard, run by the real promtool on what the real rules record, healthy and broken."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from bench.replay import Counter, Promtool, load
from generator.model import Model
from generator.render import dashboards, rules
from generator.render.dashboards import ask
from generator.render.yamltext import dump

SPEC = """
version: 1
services:
  shop:
    title: Shop
    depends_on: [database]
    probes: {live: {url: "http://shop/health", interval: 30s}}
    slos:
      availability:
        title: Orders are taken
        objective: 99.9%
        by: [region]
        sli: {ratio: {errors: 'http_requests_total{code=~"5.."}', total: http_requests_total}}
      latency: {objective: 95%, window: 7d, sli: {latency: {histogram: http_request_duration_seconds, under: 300ms}}}
      live: {objective: 99%, sli: {probe: live}}
      silent: {objective: 99%, sli: {ratio: {errors: nobody_counts_this_total, total: nor_this_total}}}
    alerts:
      PoolSaturated: {expr: db_pool_used / db_pool_size, above: 80%, severity: critical}
  database:
    match: {job: shop}
    slos: {reachable: {objective: 99.5%, sli: {boolean: 'dependency_up{dependency="database"}'}}}
"""
UNTIL = 7200
# The outage begins here, and lasts to the end.
BREAKS = 5400
EVERY = 15

# What answers nothing when nothing is wrong, and why that is right.
QUIET_WHEN_HEALTHY = {"Firing alerts"}
# A mark stands only where an alert begins to fire.
ONLY_AT_ITS_MOMENT = {"Alerts"}


def counted(per_step: float, per_step_broken: float) -> list[float | str | None]:
    """A counter that grows at one pace, and at another from the outage on."""
    values: list[float | str | None] = []
    total = 0.0
    for at in range(0, UNTIL + 1, EVERY):
        values.append(total)
        total += per_step_broken if at >= BREAKS else per_step
    return values


def level(healthy: float, broken: float) -> list[float | str | None]:
    """A gauge that has one value, and another from the outage on."""
    return [broken if at >= BREAKS else healthy for at in range(0, UNTIL + 1, EVERY)]


def scraped(*, broken: bool) -> list[Counter]:
    """What the services of SPEC export."""

    def pick(healthy: float, when_broken: float) -> float:
        return when_broken if broken else healthy

    buckets = {"0.1": (10.0, 1.0), "0.3": (19.0, 4.0), "1.0": (20.0, 20.0), "+Inf": (20.0, 20.0)}
    made = [
        Counter('http_requests_total{job="shop",region="eu",code="200"}', counted(20, pick(20, 5))),
        Counter('http_requests_total{job="shop",region="eu",code="500"}', counted(0, pick(0, 15))),
        Counter('http_requests_total{job="shop",region="us",code="200"}', counted(20, 20)),
        *(
            Counter(f'http_request_duration_seconds_bucket{{job="shop",le="{le}"}}', counted(fine, pick(fine, bad)))
            for le, (fine, bad) in buckets.items()
        ),
        Counter('http_request_duration_seconds_count{job="shop"}', counted(20, 20)),
        Counter('probe_success{job="probe",service="shop",probe="live"}', level(1, pick(1, 0))),
        Counter('probe_duration_seconds{job="probe",service="shop",probe="live"}', level(0.01, pick(0.01, 5))),
        Counter('db_pool_used{job="shop"}', level(3, pick(3, 10))),
        Counter('db_pool_size{job="shop"}', level(10, 10)),
        Counter('dependency_up{job="shop",dependency="database"}', level(1, pick(1, 0))),
        Counter('traces_service_graph_request_total{client="shop",server="database"}', counted(30, 30)),
        Counter('traces_service_graph_request_failed_total{client="shop",server="database"}', counted(0, pick(0, 30))),
    ]
    for version, runs in (("1", range(0, UNTIL - 300)), ("2", range(UNTIL - 300, UNTIL + 1))):
        values: list[float | str | None] = [1.0 if at in runs else None for at in range(0, UNTIL + 1, EVERY)]
        if version == "1":
            values[runs.stop // EVERY] = "stale"
        made.append(Counter(f'target_info{{service_name="shop",service_version="{version}"}}', values))
    return made


@dataclass(frozen=True)
class Answers:
    """What each query answered at the end: its series' labels and values, as promtool prints them."""

    by_expr: Mapping[str, list[tuple[dict[str, str], float]]]
    errors: list[str]


_SAMPLE = re.compile(r'\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\} (\S+?)(?=, |$)')
_LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"')


def answers(promtool: Promtool, model: Model, exprs: set[str], *, broken: bool) -> Answers:
    """Ask every query once, at the end."""
    groups = [group for service in model.services for group in rules.service_groups(model, service)]
    groups += yaml.safe_load(next(a.text for a in rules.render(model) if a.path.endswith("/lgtm.yaml")))["groups"]
    test = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "30s",
        "tests": [
            {
                "interval": f"{EVERY}s",
                "input_series": [{"series": c.name, "values": c.written(EVERY)} for c in scraped(broken=broken)],
                # promtool shows an answer only where it is not the expected one: so none is expected.
                "promql_expr_test": [{"expr": e, "eval_time": f"{UNTIL}s", "exp_samples": []} for e in sorted(exprs)],
            }
        ],
    }
    directory = promtool.put({"rules.yaml": dump({"groups": groups}), "test.yaml": yaml.safe_dump(test, width=10**9)})
    _, output = promtool.run("test", "rules", f"{directory}/test.yaml")
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    errors, expr = [], ""
    for line in output.splitlines():
        stripped = line.strip()
        if match := re.match(r'expr: ("(?:[^"\\]|\\.)*"), time: ', stripped):
            expr = json.loads(match[1])
            if "err:" in stripped:
                errors.append(stripped)
        elif stripped.startswith("got: "):
            got = stripped.removeprefix("got: ")
            found[expr] = [(dict(_LABEL.findall(labels)), float(value)) for labels, value in _SAMPLE.findall(got)]
        elif "err" in stripped.lower() and not stripped.startswith("exp:"):
            errors.append(stripped)
    return Answers(found, errors)


@pytest.fixture(scope="module")
def model() -> Model:
    return load(SPEC)


@pytest.fixture(scope="module")
def pages(model: Model) -> list[dict[str, Any]]:
    return [json.loads(artifact.text) for artifact in dashboards.render(model)]


@pytest.fixture(scope="module")
def queries(pages: list[dict[str, Any]]) -> list[dashboards.Query]:
    """Every PromQL query; those of runbooks for each of their sections."""
    found = []
    for page in pages:
        variables = page["templating"]["list"]
        if page["uid"] == "runbook-shop":
            for name in ("availability", "latency", "live", "silent", "PoolSaturated"):
                found += dashboards.queries(page, {"alert": name})
        else:
            assert all(variable["name"] in ("slo", "alert") for variable in variables)
            found += dashboards.queries(page)
    return [query for query in found if query.datasource == "prometheus"]


@pytest.fixture(scope="module", params=["healthy", "broken"])
def run(
    request: pytest.FixtureRequest, promtool: Promtool, model: Model, queries: list[dashboards.Query]
) -> tuple[bool, Answers]:
    broken = request.param == "broken"
    return broken, answers(promtool, model, {query.expr for query in queries}, broken=broken)


def test_no_query_fails(run: tuple[bool, Answers]) -> None:
    assert run[1].errors == []


def test_every_panel_has_an_answer(run: tuple[bool, Answers], queries: list[dashboards.Query]) -> None:
    broken, found = run
    answered: dict[tuple[str, str], bool] = {}
    for query in queries:
        key = (query.dashboard, query.panel)
        answered[key] = answered.get(key, False) or bool(found.by_expr.get(query.expr))
    empty = {key for key, has in answered.items() if not has and key[1] not in ONLY_AT_ITS_MOMENT}
    # The database has no traces of its own: those of the shop, whose job it goes by, are shown.
    expected = set() if broken else {key for key in answered if key[1] in QUIET_WHEN_HEALTHY}
    # An SLO without data is told in both cases, and it is the shop's.
    expected -= {("overview", "Firing alerts"), ("service-shop", "Firing alerts"), ("runbook-shop", "Firing alerts")}
    assert empty == expected


def by_slo(found: Answers, expr: str) -> dict[str, float]:
    """Values by the label slo."""
    return {labels["slo"]: value for labels, value in found.by_expr[expr]}


def expr_of(queries: list[dashboards.Query], dashboard: str, panel: str, ref: str = "A") -> str:
    """The one query with this place."""
    found = {q.expr for q in queries if (q.dashboard, q.panel, q.ref) == (dashboard, panel, ref)}
    assert len(found) == 1, found
    return found.pop()


TABLE = "Service level objectives, worst first"


def test_states_are_right(run: tuple[bool, Answers], queries: list[dashboards.Query]) -> None:
    broken, found = run
    states = by_slo(found, expr_of(queries, "overview", TABLE, "State"))
    bad = ask.BOTH if broken else ask.HEALTHY
    assert states == {"availability": bad, "latency": bad, "live": bad, "reachable": bad, "silent": ask.SILENT}


def test_tiles_count_what_the_table_shows(run: tuple[bool, Answers], queries: list[dashboards.Query]) -> None:
    broken, found = run
    shown = {
        tile: found.by_expr[expr_of(queries, "overview", tile)]
        for tile in ("Critical alerts", "SLOs burning", "Budgets exhausted", "SLOs without data", "Alerting")
    }
    values = {tile: [value for _, value in answer] for tile, answer in shown.items()}
    # Four SLOs burn, and the pool is saturated; the probe only warns.
    assert values == {
        "Critical alerts": [5.0 if broken else 0.0],
        "SLOs burning": [4.0 if broken else 0.0],
        "Budgets exhausted": [4.0 if broken else 0.0],
        "SLOs without data": [1.0],
        "Alerting": [1.0],
    }


def test_the_worst_group_counts(run: tuple[bool, Answers], queries: list[dashboards.Query]) -> None:
    broken, found = run
    left = by_slo(found, expr_of(queries, "overview", TABLE, "Left"))
    if broken:
        # 75% of the events of one region failed for a quarter of the time, where 0.1% may; sums of five minutes blur its edges.
        assert left["availability"] == pytest.approx(1 - 0.75 * 0.25 / 0.001, rel=0.15)
    else:
        assert left["availability"] == 1


def test_the_budget_line_is_the_share_that_was_spent(run: tuple[bool, Answers], queries: list[dashboards.Query]) -> None:
    broken, found = run
    spent = by_slo(found, expr_of(queries, "service-shop", "Error budget spent", "Spent1"))
    # The last five of thirty minutes of outage: a sixth of what was spent. Both regions share the line.
    if broken:
        assert spent["availability"] > 0
    else:
        assert spent["availability"] == 0
    assert set(spent) == {"availability", "live"}, "those of another window have a line of their own"


def test_alerts_say_since_when_and_lead_to_their_runbook(run: tuple[bool, Answers], queries: list[dashboards.Query]) -> None:
    broken, found = run
    rows = {(labels["alertname"], labels["section"]): (labels, value) for labels, value in found.by_expr[firing_query(queries)]}
    assert ("SLONoData", "silent") in rows
    if not broken:
        assert set(rows) == {("SLONoData", "silent")}
        return
    labels, since = rows[("SLOBurnRateCritical", "availability")]
    assert (labels["dashboard"], labels["runbook"], labels["urgency"]) == ("service-shop", "runbook-shop", "0")
    assert BREAKS < since / 1000 < BREAKS + 300
    assert {section for _, section in rows} == {"availability", "latency", "live", "reachable", "silent", "PoolSaturated"}


def firing_query(queries: list[dashboards.Query]) -> str:
    """The overview's list of firing alerts."""
    return expr_of(queries, "overview", "Firing alerts")


def test_burn_rates_pass_100_percent_when_their_alert_fires(run: tuple[bool, Answers], queries: list[dashboards.Query]) -> None:
    broken, found = run
    exprs = {q.expr for q in queries if (q.dashboard, q.panel) == ("service-shop", "Burn rates, against their alerts")}
    nearest = [(labels, value) for expr in exprs for labels, value in found.by_expr.get(expr, ())]
    of_availability = [value for labels, value in nearest if labels["slo"] == "availability" and labels["region"] == "eu"]
    assert (max(of_availability) > 1) is broken


def test_percentiles_come_from_the_histogram(run: tuple[bool, Answers], queries: list[dashboards.Query]) -> None:
    broken, found = run
    p95 = found.by_expr[expr_of(queries, "service-shop", "Latency: latency", "B")][0][1]
    assert (p95 > 0.3) is broken


def test_a_runbook_shows_only_the_query_of_its_own_section(
    promtool: Promtool, model: Model, pages: list[dict[str, Any]]
) -> None:
    page = next(page for page in pages if page["uid"] == "runbook-shop")
    live = [q for q in dashboards.queries(page, {"alert": "PoolSaturated"}) if q.panel == "The query that fires"]
    found = answers(promtool, model, {q.expr for q in live}, broken=True)
    answered = [value for q in live for _, value in found.by_expr.get(q.expr, ())]
    assert answered == [1.0, 0.8]
