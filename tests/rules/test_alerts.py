"""What alerts carry: labels, groups, texts. By promtool's own alert tests, as a user would write them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bench.replay import Counter, Promtool, load, replay
from bench.traffic import HOUR, SHOP, during, http, steady
from generator.render import rules

FULL = """
version: 1
organization: Acme
links: {grafana: "https://grafana.example.com"}
defaults: {owner: backend, tier: high, labels: {environment: production}}
services:
  shop:
    title: Shop {{ "not a template" }}
    depends_on: [store]
    probes:
      live: {url: "http://shop:8080/health", interval: 15s, failures: 2, slower_than: 2s, severity: critical}
    slos:
      availability:
        objective: 99.9%
        owner: payments
        tier: critical
        sli: {ratio: {errors: 'http_requests_total{code=~"5.."}', total: http_requests_total}}
    alerts:
      PoolFull: {expr: pool_used / pool_size, above: 80%, for: 2m, severity: warning, summary: The pool is full}
  store:
    slos: {up: {objective: 99%, sli: {boolean: store_up}}}
"""


def files(spec: str) -> dict[str, str]:
    return {a.path.rpartition("/")[2]: a.text for a in rules.render(load(spec))}


def unit_test(promtool: Promtool, spec: str, inputs: list[Counter], **checks: Any) -> None:
    rendered = files(spec)
    series = [{"series": c.name, "values": c.written(15)} for c in inputs]
    test = {"interval": "15s", "input_series": series, **checks}
    read = load(spec)
    groups = ["lgtm", *(group["name"] for service in read.services for group in rules.service_groups(read, service))]
    # Else what one group reads of another is sometimes a step older.
    order = {"evaluation_interval": "30s", "group_eval_order": groups}
    promtool.check(rendered, {"rule_files": sorted(rendered), **order, "tests": [test]})


def links(service: str, section: str, slo: bool) -> dict[str, str]:
    grafana = "https://grafana.example.com/d"
    return {
        "runbook_url": f"{grafana}/runbook-{service}?var-alert={section}&from=now-6h&to=now",
        "dashboard_url": f"{grafana}/service-{service}?from=now-6h&to=now" + (f"&var-slo={section}" if slo else ""),
    }


def alert(name: str, at: str, *expected: dict[str, Any]) -> dict[str, Any]:
    return {"alertname": name, "eval_time": at, "exp_alerts": list(expected)}


def test_a_page_says_who_what_how_much_is_left_and_where_to_go(promtool: Promtool) -> None:
    store = Counter('store_up{job="store"}', [1.0] * 961)
    inputs = [*http(4 * HOUR, steady(10), steady(0.02), start=1000), store]
    labels = {
        "service": "shop",
        "slo": "availability",
        "owner": "payments",
        "tier": "critical",
        "environment": "production",
    }
    annotations = {
        "summary": 'Shop {{ "not a template" }}: availability fails for 2% of events',
        # 2 % where 0.1 % is allowed, for four of 720 hours. The 716 before count as good.
        "budget_left": "88.89%",
        "deployment": "none in the last 24 h",
        **links("shop", "availability", True),
    }
    critical = "Promised is 99.9% over 30d. The error budget will be gone in hours or days, not weeks. Act now."
    warning = "Promised is 99.9% over 30d. The error budget will not last the window. Act in the next working hours."
    page = {"exp_labels": {**labels, "severity": "critical"}, "exp_annotations": {**annotations, "description": critical}}
    # Over a day: of the four hours of it that there were.
    ticket = {"exp_labels": {**labels, "severity": "warning"}, "exp_annotations": {**annotations, "description": warning}}
    checks = [alert("SLOBurnRateCritical", "4h", page), alert("SLOBurnRateWarning", "4h", ticket), alert("SLONoData", "4h")]
    unit_test(promtool, FULL, inputs, alert_rule_test=checks)


KINDS = """
version: 1
services:
  shop:
    slos:
      availability:
        objective: 99.9%
        by: [region]
        sli: {ratio: {errors: 'http_requests_total{code=~"5.."}', total: http_requests_total}}
      latency: {objective: 99.9%, sli: {latency: {histogram: seconds, under: 300ms}}}
      up: {objective: 99.5%, sli: {boolean: shop_up}}
"""


def test_a_young_objective_says_the_share_of_what_it_has_seen(promtool: Promtool) -> None:
    until, born = 2 * HOUR, HOUR
    of = 'job="shop",region="{}"'.format
    inputs = http(until, steady(10), steady(0.05), labels=of("eu"), start=1000)
    # A region that appears later, and fails by more.
    inputs += [replace(c, offset=born) for c in http(until - born, steady(10), steady(0.2), labels=of("us"), start=1000)]
    events = [10.0 * second for second in range(0, until + 1, 15)]
    inputs.append(Counter('seconds_bucket{job="shop",le="0.3"}', [0.94 * count for count in events]))
    inputs.append(Counter('seconds_count{job="shop"}', events))
    inputs += [Counter(f'shop_up{{job="shop",instance="{n}"}}', [float(n > 3)] * len(events)) for n in range(10)]
    read = load(KINDS)
    groups = rules.service_groups(read, read.services[0])
    # What an alert's summary calls $value is what its query found.
    asked = [
        {**rule, "record": f"value:{rule['alert']}"} for rule in rules.all_rules(groups) if "SLOBurn" in rule.get("alert", "")
    ]
    values = [{key: rule[key] for key in ("record", "expr")} for rule in asked]
    found = promtool.evaluate([*groups, {"name": "values", "rules": values}], inputs, until, watch='{__name__=~"value:.+"}')
    last = {
        (name.rpartition("Rate")[2], dict(labels)["slo"], dict(labels).get("region")): round(dict(points)[until], 4)
        for name, series in found.series.items()
        for labels, points in series.items()
    }
    shares = {("availability", "eu"): 0.05, ("availability", "us"): 0.2, ("latency", None): 0.06, ("up", None): 0.4}
    assert last == {(severity, *slo): share for slo, share in shares.items() for severity in ("Critical", "Warning")}


def deployed(at: int, version: str, status: str, **more: str) -> Counter:
    """What `lgtm deploy` records of an event: one sample, whose value is its time."""
    given = {"service": "shop", "deployment": f"{version}-1", "version": version, "environment": "production"}
    labels = ",".join(f'{k}="{v}"' for k, v in {**given, "status": status, **more}.items())
    return Counter(f"deployment_timestamp_seconds{{{labels}}}", [float(at)], 15, at)


@pytest.mark.parametrize(
    ("events", "says"),
    [
        (
            [
                deployed(HOUR, "2.3.9", "succeeded"),
                deployed(2 * HOUR, "2.4.0", "started", commit="0123456789abcdef"),
                deployed(2 * HOUR + 300, "2.4.0", "succeeded", commit="0123456789abcdef"),
                deployed(2 * HOUR + 600, "9.9.9", "succeeded", service="store"),
            ],
            "2.4.0 (0123456789ab) to production succeeded 7m 0s ago",
        ),
        ([deployed(HOUR, "2.3.9", "failed")], "2.3.9 to production failed 1h 12m 0s ago"),
        ([deployed(HOUR, "9.9.9", "succeeded", service="store")], "none in the last 24 h"),
    ],
)
def test_a_page_names_the_deployment_before_it(promtool: Promtool, events: list[Counter], says: str) -> None:
    at = 2 * HOUR + 720
    inputs = [*http(at, steady(10), steady(0.02), start=1000), *events]
    expected = {
        "exp_labels": {"service": "shop", "slo": "availability", "owner": "payments", "tier": "critical"}
        | {"environment": "production", "severity": "critical"},
        "exp_annotations": {
            "summary": 'Shop {{ "not a template" }}: availability fails for 2% of events',
            "description": "Promised is 99.9% over 30d. The error budget will be gone in hours or days, not weeks. Act now.",
            "budget_left": "93.89%",
            "deployment": says,
            **links("shop", "availability", True),
        },
    }
    unit_test(promtool, FULL, inputs, alert_rule_test=[alert("SLOBurnRateCritical", f"{at}s", expected)])


def test_an_objective_without_data_is_told_in_its_own_words(promtool: Promtool) -> None:
    expected = {
        "exp_labels": {
            "service": "store",
            "slo": "up",
            "owner": "backend",
            "tier": "high",
            "environment": "production",
            "severity": "warning",
        },
        "exp_annotations": {
            "summary": "store: nothing is measured of up",
            "description": "The metrics of this SLO have been absent for five minutes: nobody would notice an outage. "
            "Is the service up, is it scraped or does it push, was a metric renamed?",
            **links("store", "up", True),
        },
    }
    checks = [alert("SLONoData", "4m30s"), alert("SLONoData", "5m", expected)]
    unit_test(promtool, FULL, http(600, steady(10), steady(0)), alert_rule_test=checks)


def probe(success: list[float | str | None], seconds: float = 0.1) -> list[Counter]:
    labels = '{job="probe",service="shop",probe="live"}'
    return [
        Counter(f"probe_success{labels}", success),
        Counter(f"probe_duration_seconds{labels}", [seconds] * len(success)),
    ]


def test_probe_threshold_and_watchdog(promtool: Promtool) -> None:
    good: list[float | str | None] = [1.0] * 20
    # One failure is none; from the second in a row on it is.
    inputs = [
        *probe([*good, 0.0, 1.0, *good[:18], 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
        Counter('pool_used{job="shop"}', [8.1] * 60),
        Counter('pool_size{job="shop"}', [10.0] * 60),
    ]
    base = {"service": "shop", "owner": "backend", "tier": "high", "environment": "production"}
    failing = {
        "exp_labels": {**base, "severity": "critical", "probe": "live"},
        "exp_annotations": {
            "summary": 'Shop {{ "not a template" }}: probe live fails',
            "description": "http://shop:8080/health failed or took longer than 2s 2 times in a row, asked every 15s.",
            **links("shop", "live", False),
        },
    }
    full = {
        # What the expression has left is kept: which job, which instance.
        "exp_labels": {**base, "severity": "warning", "job": "shop"},
        "exp_annotations": {
            "summary": 'Shop {{ "not a template" }}: The pool is full',
            "description": "Now 81%, above 80%.",
            **links("shop", "PoolFull", False),
        },
    }
    always = {
        "exp_labels": {"service": "lgtm", "severity": "none", "environment": "production"},
        "exp_annotations": {
            "summary": "Alerting works",
            "description": "This alert always fires. When it stops arriving, nothing else will arrive either.",
        },
    }
    unit_test(
        promtool,
        FULL,
        inputs,
        alert_rule_test=[
            alert("ProbeFailing", "5m"),
            alert("ProbeFailing", "5m30s"),
            alert("ProbeFailing", "10m30s", failing),
            alert("PoolFull", "1m30s"),
            alert("PoolFull", "2m", full),
            *(alert("Watchdog", at, always) for at in ("0s", "5m", "2h")),
        ],
    )


@pytest.mark.parametrize("first", [0, 40])
def test_the_first_result_after_a_start_is_not_yet_two_in_a_row(promtool: Promtool, first: int) -> None:
    """Of the whole stack, with nothing recorded before, and of Prometheus alone, after ten minutes of nothing."""
    spec = FULL.replace("interval: 15s", "interval: 60s")
    (service, _) = load(spec).services
    before: list[float | str | None] = [1.0] * 10 if first else []
    results = [[value, None, None, None] for value in (0.0, 0.0, 0.0)]
    inputs = probe([*before, *[None] * (first - len(before)), *(value for four in results for value in four)])
    found = promtool.evaluate(rules.service_groups(load(spec), service), inputs, 900)
    began = first * 15
    assert found.firing("ProbeFailing", probe="live")[0] == began + 60  # with the second


def test_an_answer_that_is_too_slow_is_a_failed_probe(promtool: Promtool) -> None:
    for seconds, fires in ((1.9, False), (2.1, True)):
        (service, _) = load(FULL).services
        found = promtool.evaluate(rules.service_groups(load(FULL), service), probe([1.0] * 40, seconds), 600)
        assert bool(found.firing("ProbeFailing", probe="live")) is fires


GROUPED = SHOP.replace("objective: 99.9%", "objective: 99.9%\n        by: [region, zone]")


def regions(until: int, *failing: str) -> list[Counter]:
    inputs = []
    for region in ("eu", "us"):
        share = during(HOUR, until, 1.0 if region in failing else 0.0)
        labels = f'job="shop",region="{region}",zone="a"'
        good, bad = http(until, steady(10), share, labels=labels, start=1000)
        # A region that never failed has no series for it.
        inputs += [good, bad] if region in failing else [good]
    return inputs


def test_each_group_has_a_budget_and_a_page_of_its_own(promtool: Promtool) -> None:
    until = HOUR + 600
    found = replay(promtool, GROUPED, regions(until, "eu"), until)
    eu = {"service": "shop", "slo": "availability", "region": "eu", "zone": "a", "owner": "backend", "tier": "high"}
    assert found.firing("SLOBurnRateCritical", **eu, severity="critical")
    assert found.firing("SLOBurnRateCritical", region="us") == []
    left = {r: dict(found.one("slo:error_budget_remaining:ratio", region=r))[until] for r in ("eu", "us")}
    # Ten minutes of thirty days, where 0.1 % of them may fail.
    assert left["us"] == 1 and left["eu"] == pytest.approx(1 - 600 / (30 * 86400) / 0.001, rel=0.02)
    # The warning comes by the slow tier.
    assert found.firing("SLOBurnRateWarning", region="eu") and not found.firing("SLOBurnRateWarning", region="us")


@pytest.mark.parametrize("kind", ["recording", "alerting"])
def test_identity_is_on_every_rule(kind: str) -> None:
    read = load(FULL)
    for service in read.services:
        for rule in rules.all_rules(rules.service_groups(read, service)):
            if kind == "alerting" and "alert" in rule:
                assert {"severity", "environment"} <= set(rule["labels"])
                assert {"summary", "description", "runbook_url", "dashboard_url"} <= set(rule["annotations"])
            if kind == "recording" and rule.get("record") in ("slo:sli_errors:rate", "slo:sli_total:rate"):
                assert rule["labels"] == {"service": service.name, "slo": service.slos[0].name}


def test_ten_objectives_take_at_most_five_rules_each() -> None:
    slo = SHOP[SHOP.index("      availability:") :]
    spec = SHOP + "".join(slo.replace("availability", f"slo{n}") for n in range(9))
    # Another window, another policy and another minimum do not change it.
    spec = spec.replace("slo3:\n", "slo3:\n        window: 7d\n").replace("slo4:\n", "slo4:\n        minimum_events: 50\n")
    read = load(spec)
    (service,) = read.services
    assert len(service.slos) == 10
    assert len(rules.all_rules(rules.service_groups(read, service))) / 10 <= 5


def test_services_are_files_and_groups_of_their_own() -> None:
    read = load(FULL)
    by_file = files(FULL)
    assert set(by_file) == {"lgtm.yaml", "service-shop.yaml", "service-store.yaml"}
    assert 'service="store"' not in by_file["service-shop.yaml"]
    names = [g["name"] for s in read.services for g in rules.service_groups(read, s)]
    assert len(names) == len(set(names))
