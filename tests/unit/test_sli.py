"""The kinds of SLI: what they accept, what they refuse, and what they ask Prometheus and Loki for.

That they count right is tested on the real engines, in tests/rules.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import promql_parser as pp
import pytest
from lgtm_instrumentation.runtime import DURATION_BOUNDS

from generator import model, names, sli, source
from generator.model import ResolvedSlo, Result
from generator.render import loki_rules
from generator.units import Duration

# One way to write each kind, by kind.
WRITTEN = {
    "ratio": "{errors: 'http_total{code=~\"5..\"}', total: http_total}",
    "latency": "{histogram: d_seconds, under: 200ms}",
    "boolean": "up",
    "probe": "live",
    "process": "{id: pay, measure: within_sla, under: 2s}",
    "logs": "{errors: '| json | level=\"error\"', total: '{service_name=\"shop\"} | json'}",
    "traces": "POST /pay",
    "freshness": "{timestamp: last_success_seconds, under: 26h}",
    "threshold": "{expr: hits / gets, below: 80%}",
    "raw": "{errors: 'sum(rate(a[{{window}}]))', total: 'sum(rate(b[{{ window }}]))'}",
}


def load(kind: str, written: str, *, by: str = "[]", more: str = "") -> Result:
    text = f"""
version: 1
services:
  shop:
    runbook: https://wiki.example.com/shop
    probes: {{live: {{url: "http://shop/health"}}}}
    slos:
      x: {{objective: 99%, by: {by}, sli: {{{kind}: {written}}}}}
{more}"""
    return model.resolve(source.read_text(text, "slos.yaml"))


def slo(kind: str, written: str, **how: str) -> ResolvedSlo:
    found = load(kind, written, **how)
    assert found.model is not None, [(d.code, d.message) for d in found.diagnostics]
    return next(iter(found.model.slos))


def codes(kind: str, written: str) -> list[str]:
    return [d.code for d in load(kind, written).errors]


@pytest.mark.parametrize("kind", sli.KINDS)
@pytest.mark.parametrize("by", ["[]", "[region, zone]"])
def test_errors_and_total_are_vectors_with_the_groups(kind: str, by: str) -> None:
    made = slo(kind, WRITTEN[kind], by=by)
    for query in (made.sli.errors(made.context), made.sli.total(made.context)):
        assert pp.parse(query)
        assert ("by (region, zone)" in query) == (by != "[]")


@pytest.mark.parametrize("kind", sli.KINDS)
def test_a_kind_says_what_is_bad(kind: str) -> None:
    made = slo(kind, WRITTEN[kind]).sli
    assert made.kind == kind
    assert made.describe()
    assert type(made).__doc__
    for field in type(made).model_fields.values():
        assert field.description and field.examples


@pytest.mark.parametrize(
    ("kind", "written", "code"),
    [
        ("ratio", "{total: a}", "one-of"),
        ("ratio", "{errors: a, good: b, total: c}", "one-of"),
        ("ratio", "{errors: 'rate(a[5m])', total: b}", "not-a-metric"),
        ("latency", "{histogram: d_seconds_bucket, under: 1s}", "not-a-histogram"),
        ("latency", "{histogram: d_seconds, under: 0s}", "bad-duration"),
        ("latency", "{histogram: d_seconds, under: 0.00001s}", "bad-duration"),
        ("probe", "dead", "unknown-probe"),
        ("process", "{id: pay, measure: within_sla}", "missing-key"),
        ("process", "{id: pay, measure: fast}", "unknown-value"),
        ("logs", "{total: '| json'}", "one-of"),
        ("logs", "{errors: 'rate({a=\"b\"}[5m])', total: '| json'}", "bad-logql"),
        ("logs", "{errors: '{a=\"b\"} [5m]', total: '| json'}", "bad-logql"),
        ("logs", "{errors: '{} | json', total: '| json'}", "bad-logql"),
        ("logs", "{errors: '{a=\"b\"', total: '| json'}", "bad-logql"),
        ("logs", "{errors: '| json | x=\"y', total: '| json'}", "bad-logql"),
        ("logs", "{errors: 7, total: '| json'}", "bad-logql"),
        ("freshness", "{timestamp: t, under: 10s}", "below-resolution"),
        ("threshold", "{expr: a}", "one-of"),
        ("threshold", "{expr: a, above: 1, below: 2}", "one-of"),
        ("raw", "{errors: 'sum(rate(a[{{window}}]))'}", "one-of"),
        ("raw", "{errors: a, total: b, error_ratio: c}", "one-of"),
        ("raw", "{error_ratio: 'avg(up'}", "promql-syntax"),
    ],
)
def test_what_cannot_be_measured_is_refused(kind: str, written: str, code: str) -> None:
    assert codes(kind, written) == [code]


def test_text_inside_quotes_is_no_logql() -> None:
    assert slo("logs", "{errors: '|= \"{ [5m]\" | json', total: '| json'}")
    assert slo("logs", "{errors: '{a=~`x{2}`} | json', total: '| json'}")


def test_loki_records_what_prometheus_reads() -> None:
    found = load("logs", WRITTEN["logs"], by="[region]").model
    assert found is not None
    (artifact,) = loki_rules.render(found)
    assert artifact.path == "loki/generated/rules/fake/service-shop.yaml"
    (group,) = loki_rules.service_groups(found.services[0])
    assert group["rules"] == [
        {
            "record": names.LOG_ERRORS,
            "expr": 'sum by (region) (rate({service_name="shop"} | json | level="error" [1m]))',
            "labels": {"service": "shop", "slo": "x"},
        },
        {
            "record": names.LOG_TOTAL,
            "expr": 'sum by (region) (rate({service_name="shop"} | json [1m]))',
            "labels": {"service": "shop", "slo": "x"},
        },
    ]
    made = found.services[0].slos[0]
    assert f'{names.LOG_ERRORS}{{service="shop",slo="x"}}' in made.sli.errors(made.context)


def test_the_service_of_logs_and_spans_is_the_name_in_the_job() -> None:
    text = """
version: 1
services:
  shop:
    runbook: https://wiki.example.com/shop
    match: {job: market/storefront}
    slos:
      a: {objective: 99%, sli: {traces: GET /}}
      b: {objective: 99%, sli: {logs: {errors: "| json", total: "| json"}}}
"""
    found = model.resolve(source.read_text(text, "slos.yaml")).model
    assert found is not None
    a, b = found.slos
    assert 'service="storefront"' in a.sli.total(a.context)
    assert isinstance(b.sli, sli.Logs)
    assert '{service_name="storefront"} | json' in b.sli.recorded(b.context)[names.LOG_TOTAL]


PROCESSES = """
    processes:
      pay:
        name: Payment
        version: 1.2.0
        sla: 10s
        critical: true
        stages: [charge, invoice]
        probe: live
        objectives: {success: 99.9%, within_sla: 95%, timeouts: 1%}
"""


def test_each_objective_of_a_process_is_an_slo() -> None:
    found = load("boolean", "up", more=PROCESSES).model
    assert found is not None
    (process,) = found.services[0].processes
    assert (process.name, process.version, process.sla, process.tier) == ("Payment", "1.2.0", Duration(Decimal(10)), "critical")
    assert (process.stages, process.probe, process.critical) == (("charge", "invoice"), "live", True)
    assert process.slos == {m: f"pay_{m}" for m in ("success", "within_sla", "timeouts")}
    made = {s.name: s for s in found.slos if s.process == "pay"}
    assert {n: s.objective for n, s in made.items()} == {
        "pay_success": Decimal("0.999"),
        "pay_within_sla": Decimal("0.95"),
        "pay_timeouts": Decimal("0.99"),
    }
    assert {s.tier for s in made.values()} == {"critical"}
    assert 'le=~"10(\\\\.0)?"' in made["pay_within_sla"].sli.errors(made["pay_within_sla"].context)


def test_the_buckets_are_those_of_the_instrumentation() -> None:
    assert [Decimal(b) for b in names.PROCESS_BUCKETS] == [Decimal(str(b)) for b in DURATION_BOUNDS]


SLAS: list[tuple[str, str, Any]] = [
    # The same events: the SLA reads the SLO's own series.
    ("{ratio: {errors: e, total: t}}", "99%", ("x", "month", None)),
    ("{ratio: {errors: e, total: t}}", "{objective: 99%, window: calendar quarter}", ("x", "quarter", None)),
    # A threshold of its own: a companion measures it.
    ("{latency: {histogram: h, under: 200ms}}", "{objective: 99.95%, under: 500ms}", ("x_sla", "month", "500ms")),
    ("{latency: {histogram: h, under: 200ms}}", "{objective: 99%, under: 200ms}", ("x", "month", None)),
]


@pytest.mark.parametrize(("indicator", "written", "expected"), SLAS)
def test_an_sla(indicator: str, written: str, expected: tuple[str, str, str | None]) -> None:
    text = f"""
version: 1
services:
  shop:
    runbook: https://wiki.example.com/shop
    slos: {{x: {{objective: 99.9%, sla: {written}, sli: {indicator}}}}}
"""
    found = model.resolve(source.read_text(text, "slos.yaml")).model
    assert found is not None
    first, *rest = found.slos
    assert first.sla is not None
    name, period, threshold = expected
    assert (first.sla.slo, first.sla.period) == (name, period)
    if threshold is None:
        assert not rest
    else:
        (companion,) = rest
        assert (companion.name, companion.sla_of, companion.burn) == (name, "x", {})
        assert str(companion.sli.under) == threshold  # type: ignore[attr-defined]
        assert companion.context.slo == name


def test_a_policy_may_name_factors() -> None:
    text = """
version: 1
alerting: {own: {critical: [{long: 1h, short: 5m, factor: 10}, {long: 6h, short: 30m, budget: 5%}]}}
services:
  shop:
    runbook: https://wiki.example.com/shop
    slos: {x: {objective: 99%, alerting: own, sli: {boolean: up}}}
"""
    found = model.resolve(source.read_text(text, "slos.yaml")).model
    assert found is not None
    (made,) = found.slos
    first, second = made.burn["critical"]
    assert first.factor == 10
    assert first.budget == pytest.approx(Decimal(10) / 720)
    assert second.factor == 6
    assert "warning" not in made.burn
