"""What must page nobody, and the outage next to it that must."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from bench.replay import Counter, Promtool, Recorded, load, replay
from bench.traffic import HOUR, SHOP, during, http, mature, steady
from generator.render import rules

UNTIL = 3 * HOUR
# Half of the budget is spent all the time: what a fault adds or loses would show.
USUAL = steady(0.0005)
TEN = steady(10)


def seen(promtool: Promtool, inputs: list[Counter], spec: str = SHOP, until: int = UNTIL) -> Recorded:
    return replay(promtool, spec, [*mature(), *inputs], until)


def broken(counter: Counter, at: int, *values: float | str | None) -> Counter:
    """A counter with other values from the scrape at ``at`` on."""
    changed = list(counter.values)
    changed[at // counter.every : at // counter.every + len(values)] = values
    return replace(counter, values=changed)


def requests(*failing: int, every: int = 20, until: int = UNTIL) -> list[Counter]:
    """One request every ``every`` seconds, of which those at these seconds fail."""
    good, bad = 0, 0
    goods: list[float | str | None] = []
    bads: list[float | str | None] = []
    for second in range(until + 1):
        if second % 15 == 0:
            goods.append(good + 1000)
            bads.append(bad + 1000)
        fails = second in failing
        bad += fails
        good += second % every == 0 and not fails
    return [
        Counter('http_requests_total{job="shop",code="200"}', goods),
        Counter('http_requests_total{job="shop",code="500"}', bads),
    ]


def test_three_bad_requests_at_night_page_nobody(promtool: Promtool) -> None:
    night = requests(6000, 6020, 6040)
    assert seen(promtool, night).alerts() == set()
    # They are far over the thresholds: without the minimum they would page.
    assert "SLOBurnRateCritical" in seen(promtool, night, SHOP.replace("tier: high", "tier: high, minimum_events: 0")).alerts()


def test_an_outage_of_a_quiet_service_pages(promtool: Promtool) -> None:
    outage = requests(*range(6000, 6300, 20))
    assert "SLOBurnRateCritical" in seen(promtool, outage).alerts()


@pytest.mark.parametrize(("bad", "pages"), [(4, False), (5, True)])
def test_the_minimum_counts_bad_events_exactly(promtool: Promtool, bad: int, pages: bool) -> None:
    night = requests(*range(6001, 6001 + bad * 10, 10))
    assert ("SLOBurnRateCritical" in seen(promtool, night).alerts()) is pages


@pytest.mark.parametrize("value", ["NaN", "Inf"])
@pytest.mark.parametrize("which", [0, 1])
def test_one_nan_or_inf_pages_nobody_and_poisons_nothing(promtool: Promtool, which: int, value: str) -> None:
    inputs = http(UNTIL, TEN, USUAL, start=1000)
    inputs[which] = broken(inputs[which], 6000, value)
    found = seen(promtool, inputs)
    assert found.alerts() == set()
    for name in ("slo:error_ratio:1h", "slo:error_ratio:6h", "slo:error_ratio:1d", "slo:error_budget_remaining:ratio"):
        values = [v for t, v in found.one(name) if t > 6000]
        assert values and all(math.isfinite(v) for v in values), name
    assert dict(found.one("slo:error_ratio:1h"))[UNTIL - 30] == pytest.approx(0.0005, rel=0.03)
    assert dict(found.one("slo:error_budget_remaining:ratio"))[UNTIL - 30] == pytest.approx(0.5, abs=0.02)


def test_a_restart_pages_nobody(promtool: Promtool) -> None:
    before = http(6000, TEN, USUAL, start=100_000)
    after = http(UNTIL - 6000, TEN, USUAL)
    inputs = [replace(a, values=[*a.values, *b.values[1:]]) for a, b in zip(before, after, strict=True)]
    found = seen(promtool, inputs)
    assert found.alerts() == set()
    # No spike of the size of the counter.
    assert max(v for _, v in found.one("slo:sli_total:rate")) < 11


@pytest.mark.parametrize("lost", [None, "stale"])
@pytest.mark.parametrize("scrapes", [1, 2, 12])
def test_a_gap_of_scrapes_pages_nobody(promtool: Promtool, scrapes: int, lost: str | None) -> None:
    inputs = [broken(c, 6000, *[lost] * scrapes) for c in http(UNTIL, TEN, USUAL, start=1000)]
    found = seen(promtool, inputs)
    assert found.alerts() == set()
    assert dict(found.one("slo:error_budget_remaining:ratio"))[UNTIL - 30] == pytest.approx(0.5, abs=0.02)


def test_ten_minutes_without_scrapes_tell_that_nothing_is_measured_and_nothing_else(promtool: Promtool) -> None:
    inputs = [broken(c, 6000, *["stale"] * 40) for c in http(UNTIL, TEN, USUAL, start=1000)]
    found = seen(promtool, inputs)
    assert found.alerts() == {"SLONoData"}
    told = found.firing("SLONoData")
    assert 6000 + 300 <= told[0] <= 6000 + 420 and told[-1] <= 6600 + 90
    # The budget is known all the time, from before.
    assert {t for t, _ in found.one("slo:error_budget_remaining:ratio")} >= set(range(6000, 6600, 30))


def test_an_error_series_that_never_was_is_no_error(promtool: Promtool) -> None:
    found = seen(promtool, http(UNTIL, TEN, steady(0))[:1])
    assert found.alerts() == set()
    assert {v for _, v in found.one("slo:error_ratio:1h")} == {0.0}
    assert {v for _, v in found.one("slo:error_budget_remaining:ratio")} == {1.0}


def test_an_error_series_that_appears_and_vanishes_counts_while_it_is_there(promtool: Promtool) -> None:
    good, bad = http(UNTIL, TEN, during(6000, 6060, 1.0))
    held = [v if 6000 <= i * 15 < 7000 else None if i * 15 < 6000 else "stale" for i, v in enumerate(bad.values)]
    found = seen(promtool, [good, replace(bad, values=held)])
    assert "SLOBurnRateCritical" in found.alerts()
    # Gone with its pod: from then on there are no errors, and not nothing.
    assert dict(found.one("slo:sli_errors:rate"))[UNTIL - 30] == 0


def test_no_traffic_is_no_outage_and_no_absence(promtool: Promtool) -> None:
    found = seen(promtool, http(UNTIL, steady(0), steady(0), start=5))
    assert found.alerts() == set()
    # No share of nothing: neither 0 nor NaN.
    assert found.find("slo:error_ratio:1h") == {}
    assert found.find("slo:error_budget_remaining:ratio") == {}


def test_absent_metrics_are_an_alert_of_their_own(promtool: Promtool) -> None:
    found = seen(promtool, [])
    assert found.alerts() == {"SLONoData"}
    assert found.firing("SLONoData")[0] == 300
    assert found.find("ALERTS", alertname="SLONoData", alertstate="firing", service="shop", slo="availability", owner="backend")


def test_the_first_minutes_after_the_start_page_nobody_and_know_the_budget(promtool: Promtool) -> None:
    found = replay(promtool, SHOP, http(900, TEN, USUAL, start=1000), 900, phase=270)
    assert found.alerts() == set()
    budget = dict(found.one("slo:error_budget_remaining:ratio"))
    # From the second scrape on, and not from the first turn of the slow tier at 4:30 on; and no step when that comes.
    assert set(budget) == set(range(30, 901, 30))
    spent = {at: (1 - left) * 30 * 86400 for at, left in budget.items()}
    assert all(spent[at] == pytest.approx(0.5 * at, rel=0.02) for at in budget)


def test_the_budget_is_never_older_than_one_step(promtool: Promtool) -> None:
    begin = 2 * HOUR
    for phase in (0, 30, 120, 270):
        found = replay(promtool, SHOP, http(UNTIL, TEN, during(begin, begin + 600, 1.0), start=1000), UNTIL, phase=phase)
        spent = dict(found.one("slo:sli_errors:sum_window"))
        for at in range(begin + 90, begin + 600, 30):
            # Samples are rates: each stands for 30 s. The last half minute is only half seen.
            assert spent[at] * 30 == pytest.approx(10 * (at - begin - 15), abs=15), (phase, at)
        # Nothing is counted twice or lost when the slow tier takes over.
        assert spent[begin + 1800] * 30 == pytest.approx(10 * 600, rel=0.002), phase


def test_an_evaluation_that_was_missed_is_not_made_up_from_the_one_before(promtool: Promtool) -> None:
    read = load(SHOP)
    group = next(g for g in rules.service_groups(read, read.services[0]) if g["name"] == "shop:slo")
    only = {**group, "rules": [r for r in group["rules"] if r.get("record", "").endswith(":sum_window")]}
    labels = '{service="shop",slo="availability"}'
    # Prometheus was busy for four minutes: no sample, and no mark that the series ended either.
    rates: list[float | None] = [1.0] * 8 + [None] * 8 + [1.0] * 4
    inputs = [Counter(f"slo:sli_{what}:rate{labels}", rates, 30) for what in ("errors", "total")]
    found = promtool.evaluate([only], inputs, 570, interval=30)
    assert dict(found.one("slo:sli_errors:sum_window"))[570] == 12
    assert dict(found.one("slo:sli_errors:sum_window"))[360] == 8
