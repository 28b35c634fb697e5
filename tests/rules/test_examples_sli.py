"""Each kind of SLI counts what it says, on the real Prometheus engine: known events in, errors and total out."""

from __future__ import annotations

import pytest

from bench.replay import Counter, Promtool, load
from generator import sli
from generator.render import rules

UNTIL = 600
STEPS = UNTIL // 15 + 1


def counter(name: str, per_scrape: float) -> Counter:
    """A counter that grows by this much every 15 s."""
    return Counter(name, [1000 + i * per_scrape for i in range(STEPS)])


def gauge(name: str, *values: float) -> Counter:
    """A gauge that goes through the values again and again."""
    return Counter(name, [values[i % len(values)] for i in range(STEPS)])


def native(name: str, fast: int, slow: int) -> Counter:
    """A native histogram (schema 0): each scrape adds ``fast`` observations in (0.125, 0.25] and ``slow`` in (2, 4]."""
    values: list[float | str | None] = [
        f"{{{{schema:0 sum:{i} count:{i * (fast + slow)} offset:-2 buckets:[{i * fast} 0 0 0 {i * slow}]}}}}"
        for i in range(STEPS)
    ]
    return Counter(name, values)


PROCESS = 'process_id="pay",process_version="1"'
SPANS = 'service="shop",span_name="POST /pay",span_kind="SPAN_KIND_SERVER"'

# The SLI, its inputs, and the errors and the total of one evaluation.
CASES: dict[str, tuple[str, list[Counter], float, float]] = {
    "ratio of errors": (
        "{ratio: {errors: 'http_total{code=\"500\"}', total: http_total}}",
        [counter('http_total{job="shop",code="500"}', 3), counter('http_total{job="shop",code="200"}', 12)],
        0.2,
        1.0,
    ),
    "ratio of good, none of which was ever seen": (
        "{ratio: {good: done_total, total: started_total}}",
        [counter('started_total{job="shop"}', 15)],
        1.0,
        1.0,
    ),
    "latency, classic": (
        "{latency: {histogram: d_seconds, under: 1s}}",
        [counter('d_seconds_bucket{job="shop",le="1.0"}', 12), counter('d_seconds_count{job="shop"}', 15)],
        0.2,
        1.0,
    ),
    "latency, native": (
        "{latency: {histogram: d_seconds, under: 1s, native: true}}",
        [native('d_seconds{job="shop"}', 12, 3)],
        0.2,
        1.0,
    ),
    "latency, native, nothing observed": (
        "{latency: {histogram: d_seconds, under: 1s, native: true}}",
        [native('d_seconds{job="shop"}', 0, 0)],
        0.0,
        0.0,
    ),
    "boolean": ("{boolean: up}", [gauge('up{job="shop",instance="a"}', 1), gauge('up{job="shop",instance="b"}', 0)], 1, 2),
    "process": (
        "{process: pay}",
        [
            counter(f'process_executions_total{{job="shop",{PROCESS},process_status="success"}}', 12),
            counter(f'process_executions_total{{job="shop",{PROCESS},process_status="error"}}', 1.5),
            counter(f'process_executions_total{{job="shop",{PROCESS},process_status="timeout"}}', 1.5),
        ],
        0.2,
        1.0,
    ),
    "process, timeouts": (
        "{process: {id: pay, measure: timeouts}}",
        [
            counter(f'process_executions_total{{job="shop",{PROCESS},process_status="success"}}', 12),
            counter(f'process_executions_total{{job="shop",{PROCESS},process_status="timeout"}}', 3),
        ],
        0.2,
        1.0,
    ),
    "process, within its SLA": (
        "{process: {id: pay, measure: within_sla, under: 2s}}",
        [
            counter(f'process_execution_duration_seconds_bucket{{job="shop",{PROCESS},le="2"}}', 12),
            counter(f'process_execution_duration_seconds_count{{job="shop",{PROCESS}}}', 15),
        ],
        0.2,
        1.0,
    ),
    "process, from spans": (
        "{process: {id: pay, from: spans}}",
        [
            counter('traces_spanmetrics_calls_total{service="shop",process_id="pay",process_status="success"}', 12),
            counter('traces_spanmetrics_calls_total{service="shop",process_id="pay",process_status="error"}', 3),
            # A stage: the process's id, but no status of its own.
            counter('traces_spanmetrics_calls_total{service="shop",process_id="pay"}', 45),
        ],
        0.2,
        1.0,
    ),
    "process, within its SLA, from spans": (
        "{process: {id: pay, measure: within_sla, under: 1s, from: spans}}",
        [native('traces_spanmetrics_latency{service="shop",process_id="pay",process_status="success"}', 12, 3)],
        0.2,
        1.0,
    ),
    "logs": (
        "{logs: {errors: '| json | level=\"error\"', total: '| json'}}",
        [gauge('slo:log_errors:rate{service="shop",slo="x"}', 0.2), gauge('slo:log_total:rate{service="shop",slo="x"}', 1)],
        0.2,
        1.0,
    ),
    "logs without an error": (
        "{logs: {errors: '| json | level=\"error\"', total: '| json'}}",
        [gauge('slo:log_total:rate{service="shop",slo="x"}', 1)],
        0.0,
        1.0,
    ),
    "traces": (
        "{traces: POST /pay}",
        [
            counter(f'traces_spanmetrics_calls_total{{{SPANS},status_code="STATUS_CODE_ERROR"}}', 3),
            counter(f'traces_spanmetrics_calls_total{{{SPANS},status_code="STATUS_CODE_UNSET"}}', 12),
        ],
        0.2,
        1.0,
    ),
    "traces, slow ones": (
        "{traces: {span: POST /pay, kind: server, under: 1s}}",
        [native(f"traces_spanmetrics_latency{{{SPANS}}}", 12, 3)],
        0.2,
        1.0,
    ),
    # promtool's clock starts at 0 in 1970: at ten minutes the first job is 100 s old, the second 500 s.
    "freshness": (
        "{freshness: {timestamp: last_success_seconds, under: 5m}}",
        [gauge('last_success_seconds{job="shop",task="a"}', 500), gauge('last_success_seconds{job="shop",task="b"}', 100)],
        1,
        2,
    ),
    "threshold": (
        "{threshold: {expr: depth, above: 100}}",
        [gauge('depth{job="shop",queue="a"}', 101), gauge('depth{job="shop",queue="b"}', 100)],
        1,
        2,
    ),
    "threshold of an expression; 0/0 is no slice": (
        "{threshold: {expr: hits / gets, below: 80%}}",
        [
            gauge('hits{job="shop",cache="a"}', 7), gauge('gets{job="shop",cache="a"}', 10),
            gauge('hits{job="shop",cache="b"}', 0), gauge('gets{job="shop",cache="b"}', 0),
        ],
        1,
        1,
    ),
    "raw": (
        "{raw: {errors: 'sum(rate(bad_total[{{window}}]))', total: 'sum(rate(all_total[{{window}}]))'}}",
        [counter("bad_total", 3), counter("all_total", 15)],
        0.2,
        1.0,
    ),
    "raw, a share": ("{raw: {error_ratio: 1 - avg(up)}}", [gauge('up{instance="a"}', 1), gauge('up{instance="b"}', 0)], 0.5, 1),
}  # fmt: skip


def spec(indicator: str) -> str:
    return f"""
version: 1
services:
  shop:
    runbook: https://wiki.example.com/shop
    slos:
      x: {{objective: 99%, sli: {indicator}}}
"""


@pytest.mark.parametrize("case", CASES)
def test_an_sli_counts_what_it_says(promtool: Promtool, case: str) -> None:
    indicator, inputs, errors, total = CASES[case]
    (service,) = load(spec(indicator)).services
    fast = [g for g in rules.service_groups(load(spec(indicator)), service) if not g["name"].endswith(":slow")]
    seen = promtool.evaluate(fast, inputs, UNTIL)
    for name, wanted in (("slo:sli_errors:rate", errors), ("slo:sli_total:rate", total)):
        at, value = seen.one(name)[-1]
        assert at == UNTIL
        assert value == pytest.approx(wanted)


def test_every_kind_is_tried_on_the_engine() -> None:
    tried = {load(spec(indicator)).services[0].slos[0].sli.kind for indicator, _, _, _ in CASES.values()}
    # A probe's own rules are tested with those of probes.
    assert tried | {"probe"} == set(sli.KINDS)


def test_a_probe_that_is_slow_is_a_failure(promtool: Promtool) -> None:
    text = """
version: 1
services:
  shop:
    runbook: https://wiki.example.com/shop
    probes: {live: {url: "http://shop/health", interval: 15s, slower_than: 3s, objective: 99%}}
"""
    (service,) = load(text).services
    fast = [g for g in rules.service_groups(load(text), service) if not g["name"].endswith(":slow")]
    labels = 'job="probe",service="shop",probe="live"'
    inputs = [gauge(f"probe_success{{{labels}}}", 1), gauge(f"probe_duration_seconds{{{labels}}}", 4)]
    seen = promtool.evaluate(fast, inputs, UNTIL)
    assert seen.one("slo:sli_errors:rate")[-1] == (UNTIL, 1)


def test_an_alert_on_an_slo_waits_for_enough_bad_events(promtool: Promtool) -> None:
    text = spec("{ratio: {errors: bad_total, total: all_total}}") + (
        "    alerts: {TooMany: {slo: x, above: 5%, over: 5m, minimum_events: 30}}\n"
    )
    (service,) = load(text).services
    groups = [g for g in rules.service_groups(load(text), service) if not g["name"].endswith(":slow")]
    # 10 % are bad: 1.5 in each 15 s, so that 30 have come after five minutes and not before.
    seen = promtool.evaluate(groups, [counter('bad_total{job="shop"}', 1.5), counter('all_total{job="shop"}', 15)], UNTIL)
    few = promtool.evaluate(groups, [counter('bad_total{job="shop"}', 0.75), counter('all_total{job="shop"}', 7.5)], UNTIL)
    assert seen.firing("TooMany")
    assert not few.firing("TooMany")


def test_a_percentile_of_an_slo_is_that_of_its_histogram(promtool: Promtool) -> None:
    text = spec("{latency: {histogram: d_seconds, under: 1s, native: true}}") + (
        "    alerts:\n"
        "      Slow: {slo: x, percentile: 95, above: 2s, over: 5m}\n"
        "      Median: {slo: x, percentile: 50, above: 2s, over: 5m}\n"
    )
    (service,) = load(text).services
    groups = [g for g in rules.service_groups(load(text), service) if not g["name"].endswith(":slow")]
    seen = promtool.evaluate(groups, [native('d_seconds{job="shop"}', 12, 3)], UNTIL)
    assert seen.firing("Slow")
    assert not seen.firing("Median")


def test_a_policy_stops_deployments_and_tells_of_an_empty_budget(promtool: Promtool) -> None:
    text = """
version: 1
alerting: {careful: {freeze: 50%, exhausted: critical}}
services:
  shop:
    owner: team-a
    runbook: https://wiki.example.com/shop
    slos:
      half: {objective: 90%, alerting: careful, sli: {ratio: {errors: half_bad_total, total: all_total}}}
      over: {objective: 90%, alerting: careful, sli: {ratio: {errors: bad_total, total: all_total}}}
      fine: {objective: 90%, alerting: none, sli: {ratio: {errors: bad_total, total: all_total}}}
"""
    (service,) = load(text).services
    groups = rules.service_groups(load(text), service)
    remaining = [gauge(f'slo:error_budget_remaining:ratio{{service="shop",slo="{n}"}}', v) for n, v in
                 (("half", 0.4), ("over", -0.1), ("fine", -0.1))]  # fmt: skip
    budget = [rule for g in groups for rule in g["rules"] if rule.get("record") == "slo:error_budget:ratio"]
    alerts = [rule for g in groups for rule in g["rules"] if rule.get("alert") in ("SLOBudgetExhausted", "SLODeploymentFreeze")]
    assert len(alerts) == 2
    seen = promtool.evaluate([{"name": "x", "interval": "30s", "rules": [*budget, *alerts]}], remaining, UNTIL)
    for alert, wanted in (("SLODeploymentFreeze", {"half", "over"}), ("SLOBudgetExhausted", {"over"})):
        found = [dict(key) for key in seen.find("ALERTS", alertname=alert, alertstate="firing")]
        assert {labels["slo"] for labels in found} == wanted
        assert {labels["owner"] for labels in found} == {"team-a"}
