"""Every PromQL query of every dashboard, run by the real promtool on what the real rules record, healthy and broken."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from bench.replay import Counter, Promtool, load
from generator import names
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
        objective: 99.99%
        by: [region]
        sli: {ratio: {errors: 'http_requests_total{code=~"5.."}', total: http_requests_total}}
      latency: {objective: 95%, window: 7d, sli: {latency: {histogram: http_request_duration_seconds, under: 300ms}}}
      live: {objective: 99%, sli: {probe: live}, sla: 95%}
      silent: {objective: 99%, sli: {ratio: {errors: nobody_counts_this_total, total: nor_this_total}}}
    processes:
      checkout: {name: Checkout, sla: 5s, stages: [cart, pay]}
      export: {name: Export, from: spans}
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
# Of pages that show nothing bad in either case here.
QUIET = {("stack", "Disk is full in"), ("service-database", "The newest deployment, beside what was before it")}
# Tempo's native histograms are not written here.
QUIET |= {(names.process_uid("shop", "export"), panel) for panel in ("Duration", "95% end within, last hour")}
# A mark stands only where an alert begins to fire, or somebody deploys.
ONLY_AT_ITS_MOMENT = {"Alerts", "Deployments"}


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
    answers_ = 'service="shop",span_kind="SPAN_KIND_SERVER",span_name="POST /orders"'
    made += [
        Counter(f'traces_spanmetrics_calls_total{{{answers_},status_code="STATUS_CODE_UNSET"}}', counted(20, pick(20, 5))),
        Counter(f'traces_spanmetrics_calls_total{{{answers_},status_code="STATUS_CODE_ERROR"}}', counted(0, pick(0, 15))),
        Counter(f'traces_spanmetrics_latency_bucket{{{answers_},le="0.1"}}', counted(20, pick(20, 5))),
        Counter(f'traces_spanmetrics_latency_bucket{{{answers_},le="+Inf"}}', counted(20, 20)),
    ]
    made += [*of_processes(broken=broken), *of_the_stack(broken=broken), *of_deployments()]
    for version, runs in (("1", range(0, UNTIL - 300)), ("2", range(UNTIL - 300, UNTIL + 1))):
        values: list[float | str | None] = [1.0 if at in runs else None for at in range(0, UNTIL + 1, EVERY)]
        if version == "1":
            values[runs.stop // EVERY] = "stale"
        made.append(Counter(f'target_info{{service_name="shop",service_version="{version}"}}', values))
    return made


def of_processes(*, broken: bool) -> list[Counter]:
    """What lgtm_instrumentation exports of one process, and Tempo's metrics of another that only traces."""
    bad = 5.0 if broken else 0.0
    own, spans = 'job="shop",process_id="checkout",process_version="2"', 'service="shop",process_id="export"'
    return [
        Counter(f'process_executions_total{{{own},process_status="success"}}', counted(20, 20 - bad)),
        Counter(f'process_executions_total{{{own},process_status="error"}}', counted(0, bad)),
        Counter(f'process_executions_total{{{own},process_status="timeout"}}', counted(0, 0)),
        Counter(f'process_execution_duration_seconds_bucket{{{own},le="1"}}', counted(20, 20 - 4 * bad)),
        Counter(f'process_execution_duration_seconds_bucket{{{own},le="10"}}', counted(20, 20)),
        Counter(f'process_execution_duration_seconds_bucket{{{own},le="+Inf"}}', counted(20, 20)),
        *(
            Counter(f'process_stage_duration_seconds_{part}{{job="shop",process_id="checkout",process_stage="{stage}"{le}}}', n)
            for stage in ("cart", "pay")
            for part, le, n in (
                ("sum", "", counted(4, 4)),
                ("bucket", ',le="1"', counted(20, 20)),
                ("bucket", ',le="+Inf"', counted(20, 20)),
            )
        ),
        Counter(f'traces_spanmetrics_calls_total{{{spans},process_version="1",process_status="success"}}', counted(20, 20)),
        Counter(f'traces_spanmetrics_calls_total{{{spans},process_version="1",process_status="error"}}', counted(0, bad)),
        # Stages have the process's id and no status.
        Counter(f"traces_spanmetrics_calls_total{{{spans}}}", counted(900, 900)),
    ]


def of_the_stack(*, broken: bool) -> list[Counter]:
    """What the servers of the stack export of themselves; when broken, spans are refused and a rule fails."""
    bad = 3.0 if broken else 0.0
    servers = ("prometheus", "alertmanager", "loki", "tempo", "blackbox")
    levels = {
        **{f'up{{job="{name}"}}': 1 for name in (*servers, "collector")},
        **{f'process_resident_memory_bytes{{job="{name}"}}': 2e8 for name in servers},
        **{f'go_gc_gomemlimit_bytes{{job="{name}"}}': 4e8 for name in servers},
        **{f'go_memstats_sys_bytes{{job="{name}"}}': 3e8 for name in servers},
        **{f'go_memstats_heap_released_bytes{{job="{name}"}}': 1e8 for name in servers},
        **{f'process_start_time_seconds{{job="{name}"}}': 10 for name in servers},
        'otelcol_process_memory_rss_bytes{job="collector"}': 1e8,
        'otelcol_exporter_queue_size{job="collector",exporter="loki"}': 100,
        'otelcol_exporter_queue_capacity{job="collector",exporter="loki"}': 1000,
        'prometheus_rule_group_last_duration_seconds{rule_group="/rules/a.yaml;shop:slo"}': 3,
        'prometheus_rule_group_interval_seconds{rule_group="/rules/a.yaml;shop:slo"}': 30,
        'loki_ingester_wal_disk_usage_percent{job="loki"}': 0.25,
        "prometheus_tsdb_retention_limit_seconds": 8640000,
        'tempo_limits_defaults{limit_name="block_retention"}': 1209600e9,
        "loki_compactor_apply_retention_last_successful_run_timestamp_seconds": 60,
        "prometheus_tsdb_storage_blocks_bytes": 1e9,
        "prometheus_tsdb_wal_storage_size_bytes": 1e8,
        "prometheus_tsdb_head_chunks_storage_size_bytes": 1e8,
        "tempodb_backend_bytes_total": 1e9,
        "prometheus_tsdb_head_series": 10000,
        'probe_http_status_code{job="probe",service="shop",probe="live"}': 200,
        'probe_ssl_earliest_cert_expiry{job="probe",service="shop",probe="live"}': 1e6,
        'probe_http_duration_seconds{job="probe",service="shop",probe="live",phase="connect"}': 0.01,
    }
    counters = {
        **{f'process_cpu_seconds_total{{job="{name}"}}': (1.0, 1.0) for name in servers},
        'otelcol_process_cpu_seconds_total{job="collector"}': (1.0, 1.0),
        'otelcol_process_uptime_seconds_total{job="collector"}': (15.0, 15.0),
        "otelcol_receiver_accepted_spans_total": (100.0, 100.0),
        "otelcol_receiver_accepted_log_records_total": (50.0, 50.0),
        "otelcol_receiver_accepted_metric_points_total": (10.0, 10.0),
        "otelcol_receiver_refused_spans_total": (0.0, bad),
        "prometheus_tsdb_head_samples_appended_total": (500.0, 500.0),
        'loki_distributor_bytes_received_total{retention_hours="720"}': (1e4, 1e4),
        "loki_ingester_chunk_stored_bytes_total": (1e4, 1e4),
        "tempo_distributor_bytes_received_total": (1e4, 1e4),
        "prometheus_rule_evaluation_failures_total": (0.0, bad),
        "prometheus_rule_group_iterations_missed_total": (0.0, 0.0),
        'alertmanager_notifications_total{integration="webhook"}': (1.0, 1.0),
        'alertmanager_notifications_failed_total{integration="webhook",reason="other"}': (0.0, 0.0),
    }
    return [
        *(Counter(series, level(value, value)) for series, value in levels.items()),
        *(Counter(series, counted(*pace)) for series, pace in counters.items()),
    ]


def of_deployments() -> list[Counter]:
    """One that succeeded and one that failed and was mended: a single sample each, as the collector delivers them."""

    def once(at: int, value: float) -> list[float | str | None]:
        return [value if step == at else None for step in range(0, UNTIL + 1, EVERY)]

    about = 'service="shop",environment="production",commit="abc",version="{0}",deployment="{0}",status="{1}"'
    return [
        Counter(f"deployment_timestamp_seconds{{{about.format('1', 'succeeded')}}}", once(600, 600)),
        Counter(f"deployment_timestamp_seconds{{{about.format('2', 'failed')}}}", once(900, 900)),
        Counter(f"deployment_timestamp_seconds{{{about.format('3', 'succeeded')}}}", once(1200, 1200)),
        Counter(f"deployment_duration_seconds{{{about.format('1', 'succeeded')}}}", once(600, 120)),
        Counter(f"deployment_recovery_seconds{{{about.format('3', 'succeeded')}}}", once(1200, 300)),
    ]


@dataclass(frozen=True)
class Answers:
    """What each query answered at the end: its series' labels and values, as promtool prints them."""

    by_expr: Mapping[str, list[tuple[dict[str, str], float]]]
    errors: list[str]


_SAMPLE = re.compile(r'\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\} (\S+?)(?=, |$)')
_LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"')


def answers(
    promtool: Promtool, model: Model, exprs: set[str], *, broken: bool, more: Iterable[Counter] = (), until: int = UNTIL
) -> Answers:
    """Ask every query once, at the end; ``more`` is scraped as well."""
    groups = [group for service in model.services for group in rules.service_groups(model, service)]
    groups += yaml.safe_load(next(a.text for a in rules.render(model) if a.path.endswith("/lgtm.yaml")))["groups"]
    test = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "30s",
        "tests": [
            {
                "interval": f"{EVERY}s",
                "input_series": [{"series": c.name, "values": c.written(EVERY)} for c in [*scraped(broken=broken), *more]],
                # promtool shows an answer only where it is not the expected one: so none is expected.
                "promql_expr_test": [{"expr": e, "eval_time": f"{until}s", "exp_samples": []} for e in sorted(exprs)],
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
            boxes = {"company", "process", "request", "trace", "service", "kind", "place", "deployed", "environment"}
            assert all(variable["name"] in {"slo", "alert"} | boxes for variable in variables)
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
    expected = QUIET | (set() if broken else {key for key in answered if key[1] in QUIET_WHEN_HEALTHY})
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
    bad = ask.BURNING if broken else ask.HEALTHY
    wanted = {"availability": bad, "latency": bad, "live": bad, "reachable": bad, "silent": ask.SILENT}
    # Its budget is so small that half an hour spends that of thirty days.
    assert states == (wanted | {"availability": ask.BOTH} if broken else wanted)


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
        "Budgets exhausted": [1.0 if broken else 0.0],
        "SLOs without data": [1.0],
        "Alerting": [1.0],
    }


def test_the_worst_group_counts(run: tuple[bool, Answers], queries: list[dashboards.Query]) -> None:
    broken, found = run
    left = by_slo(found, expr_of(queries, "overview", TABLE, "Left"))
    if broken:
        # 75% of the events of one region failed for a quarter of two hours, where 0.01% of 30 days may.
        spent = 0.75 * 0.25 * (UNTIL / (30 * 86400)) / 0.0001
        assert left["availability"] == pytest.approx(1 - spent, rel=0.15)
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


def test_the_last_hour_of_a_younger_objective_is_its_life(
    promtool: Promtool, model: Model, queries: list[dashboards.Query], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.rules.test_dashboard_queries.BREAKS", 900)
    expr = expr_of(queries, "service-shop", "Share of bad events")
    found = answers(promtool, model, {expr}, broken=True, until=1800)
    shares = {labels["region"]: value for labels, value in found.by_expr[expr] if labels["slo"] == "availability"}
    # 75% of the events of one region failed for half of half an hour.
    assert shares["eu"] == pytest.approx(0.375, abs=0.04)


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


def one(found: Answers, queries: list[dashboards.Query], dashboard: str, panel: str, ref: str = "A") -> float:
    """The one value that a query answers."""
    ((_, value),) = found.by_expr[expr_of(queries, dashboard, panel, ref)]
    return value


def test_losses_and_failing_rules_are_counted(run: tuple[bool, Answers], queries: list[dashboards.Query]) -> None:
    broken, found = run
    # 3 every 15 s for the last quarter of an hour.
    expected = pytest.approx(180, rel=0.02) if broken else 0
    assert one(found, queries, "stack", "Lost in 15m") == expected
    assert one(found, queries, "stack", "Rules failed or late in 15m") == expected
    shares = {labels["job"]: value for labels, value in found.by_expr[expr_of(queries, "stack", "Servers", "Share")]}
    assert shares == dict.fromkeys(("prometheus", "alertmanager", "loki", "tempo", "blackbox"), 0.5)


def test_a_process_has_its_own_figures(run: tuple[bool, Answers], queries: list[dashboards.Query]) -> None:
    broken, found = run
    for process, failing in (("checkout", 0.25), ("export", 0.2)):
        uid = names.process_uid("shop", process)
        # An hour holds half an hour of the outage.
        share = one(found, queries, uid, "Fails, last hour")
        shorter = {"checkout": 0.125, "export": 5 / 2 / (20 + 5 / 2)}[process]
        assert share == (pytest.approx(shorter, rel=0.02) if broken else 0)
        by_version = {
            labels["process_version"]: v for labels, v in found.by_expr[expr_of(queries, uid, "By version", "Failed")]
        }
        assert list(by_version.values()) == [pytest.approx(failing) if broken else 0]
    uid = names.process_uid("shop", "checkout")
    stages = [q.expr for q in queries if (q.dashboard, q.panel) == (uid, "Time in each stage, per execution")]
    assert [value for expr in stages for _, value in found.by_expr[expr]] == [pytest.approx(0.2)] * 2
    slow = one(found, queries, uid, "95% end within, last hour")
    assert (slow > 5) is broken


def test_deployments_are_counted_once(run: tuple[bool, Answers], queries: list[dashboards.Query]) -> None:
    _, found = run
    figures = {
        q.ref: found.by_expr[q.expr][0][1]
        for q in queries
        if (q.dashboard, q.panel) == ("deployments", "By service, last 30 days")
    }
    assert figures == {
        "deployments": 3,
        "success_rate": pytest.approx(2 / 3),
        "change_failure_rate": pytest.approx(1 / 3),
        "duration_seconds": 120,
        "time_to_recovery_seconds": 300,
    }


def test_the_contract_breaks_when_more_fails_than_it_lets(run: tuple[bool, Answers], queries: list[dashboards.Query]) -> None:
    broken, found = run
    left = by_slo(found, expr_of(queries, "sla", "Promises, over the time at the top right", "Left"))
    # A quarter of the time the probe failed, where 5% may; sums of five minutes blur the edges.
    assert left == {"live": pytest.approx(1 - 0.25 / 0.05, rel=0.2) if broken else 1}


def test_alerts_are_counted_by_how_often_they_began(run: tuple[bool, Answers], queries: list[dashboards.Query]) -> None:
    broken, found = run
    table = "Alerts of the last 7 days, noisiest first"
    times = {
        (labels["alertname"], labels.get("slo", "")): value
        for labels, value in found.by_expr[expr_of(queries, "alerts", table, "Count")]
    }
    assert set(times.values()) == {1}
    assert (("SLOBurnRateCritical", "availability") in times) is broken


def test_a_release_is_beside_what_was_before_it(run: tuple[bool, Answers], queries: list[dashboards.Query]) -> None:
    """The last one that did not fail began at 1200 s; as much time before it reaches back to the start."""
    broken, found = run
    table = "The newest deployment, beside what was before it"
    since, before = (by_slo(found, expr_of(queries, "service-shop", table, ref)) for ref in ("Since", "Before"))
    # 15 of 40 requests fail in the last 1800 of 6000 s.
    assert since["availability"] == (pytest.approx(15 / 40 * 1800 / 6000, rel=0.05) if broken else 0)
    assert before["availability"] == 0
    worse = by_slo(found, expr_of(queries, "service-shop", table, "Times")) if broken else {}
    assert worse.get("availability", 0) == (float("inf") if broken else 0)


def test_endpoints_tell_what_fails(run: tuple[bool, Answers], queries: list[dashboards.Query]) -> None:
    broken, found = run
    failing = found.by_expr[expr_of(queries, "service-shop", "Endpoints, worst first", "Failed")]
    assert failing == [({"span_name": "POST /orders"}, pytest.approx(0.75) if broken else 0)]


def test_alerts_that_mended_themselves_are_counted(promtool: Promtool, model: Model) -> None:
    """Of three times that one fired, two were over within five minutes; another still fires."""
    minutes = [*([None] * 10), *([1.0] * 3), "stale", *([None] * 6), *([1.0] * 20), "stale", *([None] * 9), 1.0, "stale"]
    steps = [value for value in minutes for _ in range(60 // EVERY)]
    steps = [None if v == "stale" and steps[i - 1] == "stale" else v for i, v in enumerate(steps)]
    exprs = {ask.alert_count("1h"), ask.alert_by_itself("1h"), ask.alert_time("1h"), ask.by_itself_share("1h")}
    fired = 'ALERTS{alertname="Flaps",alertstate="firing",severity="warning",service="shop"}'
    found = answers(promtool, model, exprs, broken=False, more=[Counter(fired, steps)], until=3600)
    mine = {e: [v for labels, v in rows if labels.get("alertname") == "Flaps"] for e, rows in found.by_expr.items()}
    assert mine[ask.alert_count("1h")] == [3] and mine[ask.alert_by_itself("1h")] == [2]
    assert mine[ask.alert_time("1h")] == [pytest.approx(24 * 60, abs=120)]
