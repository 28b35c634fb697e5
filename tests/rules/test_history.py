"""What an SLO has not lived through counts as good: young SLOs, new groups, Prometheus away, changed objectives."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.replay import STEP, Counter, Promtool, load, replay
from bench.traffic import HOUR, SHOP, during, http, mature, steady
from generator.render import rules

DAY = 86400
WINDOW = 30 * DAY
BUDGET = 0.001
TEN = steady(10)
START = "slo:history_start:timestamp"
LEFT = "slo:error_budget_remaining:ratio"
SLO = 'service="shop",slo="availability"'


def expression(record: str, spec: str = SHOP) -> str:
    """A rule's expression, as a query whose result has a name."""
    read = load(spec)
    every = rules.all_rules(rules.service_groups(read, read.services[0]))
    expr = next(rule["expr"] for rule in every if rule.get("record") == record).strip()
    return f'label_replace({expr}, "__name__", "asked", "", "")'


def asked(promtool: Promtool, record: str, inputs: list[Counter], at: int, interval: int) -> float | None:
    """What a rule would record at a moment, with these series and nothing else."""
    found = promtool.evaluate([], inputs, at, step=at, interval=interval, watch=expression(record))
    return next((dict(points).get(at) for points in found.series.get("asked", {}).values()), None)


# A new SLO


def test_two_hours_of_two_percent_are_a_twentieth_of_a_month(promtool: Promtool) -> None:
    found = replay(promtool, SHOP, http(2 * HOUR, TEN, steady(0.02), start=1000), 2 * HOUR)
    # By the traffic of these two hours alone it would be -1900 %.
    assert dict(found.one(LEFT))[2 * HOUR] == pytest.approx(0.9444, abs=0.0005)
    assert dict(found.one(START)) == dict.fromkeys(range(30, 2 * HOUR + 1, STEP), 0.0)


def test_twenty_bad_minutes_after_the_birth_are_over_when_they_are_over(promtool: Promtool) -> None:
    end = 1200
    found = replay(promtool, SHOP, http(2 * HOUR, TEN, during(0, end, 0.1), start=1000), 2 * HOUR)
    paged = found.firing("SLOBurnRateCritical")
    # A tenth of an hour's 14.4th: 10 % for nine minutes. The six hours before the birth keep the slower condition quiet.
    assert paged[0] == pytest.approx(9 * 60, abs=60) and paged[-1] <= end + 300 + 60
    assert found.firing("SLOBurnRateWarning") == []
    assert dict(found.one(LEFT))[end + 60] == pytest.approx(1 - 0.1 * end / WINDOW / BUDGET, abs=0.0005)


@pytest.mark.parametrize(("share", "length"), [(1.0, 600), (0.2, 1200), (0.05, HOUR)])
@pytest.mark.parametrize("age", [0, 600])
def test_a_new_service_pages_as_fast_as_an_old_one(promtool: Promtool, share: float, length: int, age: int) -> None:
    def paged(before: int, inputs: list[Counter]) -> list[int]:
        until = before + length
        made = http(until, TEN, during(before, until, share), start=1000)
        found = replay(promtool, SHOP, [*inputs, *made], until, only_fast=True)
        return [at - before for at in found.firing("SLOBurnRateCritical")]

    young, old = paged(age, []), paged(6 * HOUR, mature())
    assert old and abs(young[0] - old[0]) <= STEP
    assert young == list(range(young[0], length + 1, STEP))


# Groups

GROUPED = SHOP.replace("objective: 99.9%", "objective: 99.9%\n        by: [region]")
OF_EU, OF_US = (f'{SLO},region="{region}"' for region in ("eu", "us"))


def region(name: str, born: int, until: int, share: float) -> list[Counter]:
    """A region's counters, which are there from its birth on and then fail at once."""
    made = http(until - born, TEN, steady(share), labels=f'job="shop",region="{name}"', start=1000)
    return [replace(counter, offset=born) for counter in made]


def test_a_group_that_appears_has_a_history_of_its_own(promtool: Promtool) -> None:
    born, until = 2 * HOUR, 3 * HOUR
    inputs = [*mature(OF_EU), *region("eu", 0, until, 0.0005), *region("us", born, until, 0.02)]
    found = replay(promtool, GROUPED, inputs, until)
    assert dict(found.one(LEFT, region="us"))[until] == pytest.approx(1 - 0.02 * (until - born) / WINDOW / BUDGET, abs=0.001)
    # The old one's is by its events, whatever else appears.
    assert dict(found.one(LEFT, region="eu"))[until] == pytest.approx(0.5, abs=0.01)
    paged = found.firing("SLOBurnRateCritical", region="us")
    # 2 % over 43 minutes are 1.44 % over the hour.
    assert paged[0] - born == pytest.approx(0.0144 / 0.02 * HOUR, abs=90)
    assert found.firing("SLOBurnRateCritical", region="eu") == []


def test_a_group_that_comes_and_goes_is_as_old_as_it_is(promtool: Promtool) -> None:
    # Ten minutes of every hour, as a job has them: only in these are there series at all.
    until = 5 * HOUR
    good, bad = region("eu", 0, until, 0.02)
    there = [index * 15 % HOUR < 600 for index in range(len(good.values))]
    ended = [replace(c, values=[v if t else "stale" for v, t in zip(c.values, there, strict=True)]) for c in (good, bad)]
    found = replay(promtool, GROUPED, ended, until)
    assert {v for _, v in found.one(START)} == {0.0}
    # What it served failed by 2 %, weighted by events and not by minutes.
    last = dict(found.one(LEFT, region="eu"))[until]
    assert last == pytest.approx(1 - 0.02 * until / WINDOW / BUDGET, abs=0.001)


# Prometheus was away, or the rules are new


def recorded(record: str, value: float, every: int, begin: int, end: int) -> Counter:
    return Counter(f"{record}{{{SLO}}}", [value] * ((end - begin) // every + 1), every, begin)


@pytest.mark.parametrize("away", [STEP, 240, 600, 2 * HOUR, 20 * HOUR])
def test_an_absence_of_prometheus_makes_nothing_young(promtool: Promtool, away: int) -> None:
    gone = 3 * HOUR
    at = gone + away
    # Born an hour before it was recorded for the first time here; the total is there again, the slow tier is not yet.
    inputs = [recorded(START, -HOUR, STEP, 0, gone), recorded("slo:sli_total:sum5m", 1.0, STEP, 0, gone)]
    inputs += [recorded(name, 1.0, STEP, at, at) for name in ("slo:sli_total:rate", "slo:sli_total:sum_window")]
    assert asked(promtool, START, inputs, at, STEP) == -HOUR


def test_an_absence_of_days_is_looked_up_in_what_was_counted(promtool: Promtool) -> None:
    gone, at = 2 * DAY, 5 * DAY
    inputs = [recorded(START, 0, 300, 0, gone), recorded("slo:sli_total:sum5m", 1.0, 300, 300, gone)]
    inputs += [recorded(name, 1.0, 300, at, at) for name in ("slo:sli_total:rate", "slo:sli_total:sum_window")]
    start = asked(promtool, START, inputs, at, 300)
    assert start is not None and -6 * HOUR <= start <= 6 * HOUR


def test_rules_that_are_new_to_an_old_stack_take_nothing_for_young(promtool: Promtool) -> None:
    at = 31 * DAY
    inputs = [recorded("slo:sli_total:sum5m", 1.0, 300, 0, at)]
    inputs += [recorded(name, 1.0, 300, at, at) for name in ("slo:sli_total:rate", "slo:sli_total:sum_window")]
    start = asked(promtool, START, inputs, at, 300)
    assert start is not None and at - start >= WINDOW


def test_what_nothing_is_left_of_in_the_window_is_forgotten(promtool: Promtool) -> None:
    inputs = [recorded(START, 0, STEP, 0, HOUR)]
    assert asked(promtool, START, [*inputs, recorded("slo:sli_total:sum_window", 1.0, STEP, 0, HOUR)], HOUR, STEP) == 0
    assert asked(promtool, START, inputs, HOUR, STEP) is None


def test_a_new_slo_begins_half_a_minute_before_its_first_sample(promtool: Promtool) -> None:
    inputs = [recorded(name, 1.0, STEP, 600, 600) for name in ("slo:sli_total:rate", "slo:sli_total:sum_window")]
    assert asked(promtool, START, inputs, 600, STEP) == 570


@pytest.mark.parametrize(
    ("start", "counted", "known"), [(-30 * DAY, False, False), (-30 * DAY, True, True), (HOUR - 600, False, True)]
)
def test_the_last_minutes_are_no_budget_of_thirty_days(promtool: Promtool, start: int, counted: bool, known: bool) -> None:
    sums = {"slo:sli_errors:sum_window": 0.02, "slo:sli_total:sum_window": 1.0, "slo:error_budget:ratio": BUDGET, START: start}
    inputs = [recorded(name, value, STEP, HOUR, HOUR) for name, value in sums.items()]
    inputs += [recorded("slo:sli_total:counted", 1.0, STEP, HOUR - 840, HOUR - 840)] if counted else []
    assert (asked(promtool, LEFT, inputs, HOUR, STEP) is not None) is known


# An objective, a title or an owner changes

BEFORE = {
    "title": "Another title",
    "owner": "others",
    "tier": "low",
    "sli": "ratio",
    "objective": "99.5%",
    "window": "30d",
    "policy": "standard",
    "minimum_events": "5",
}


@pytest.mark.parametrize("stale", [False, True])
@pytest.mark.parametrize("budget", [0.005, 0.0005])
def test_a_changed_objective_fails_no_rule(promtool: Promtool, stale: bool, budget: float) -> None:
    labels = ",".join(f'{k}="{v}"' for k, v in BEFORE.items())
    # From before, through an outage. After a reload it ends at once, after a restart when it is five minutes old.
    seen: list[float | str | None] = [budget] * 242
    was = Counter(f"slo:error_budget:ratio{{{SLO},{labels}}}", [*seen, *(["stale"] if stale else [])], STEP)
    inputs = [*mature(), was, *http(3 * HOUR, TEN, during(2 * HOUR, 3 * HOUR, 1.0), start=1000)]
    spec = SHOP.replace("objective: 99.9%", "objective: 99.9%\n        sla: {objective: 99%, window: calendar month}")
    found = replay(promtool, spec, inputs, 3 * HOUR)
    # promtool would have said so. And nothing is missing while both are there.
    assert {at for at, _ in found.one(LEFT)} >= set(range(HOUR, 3 * HOUR + 1, STEP))
    paged = found.firing("SLOBurnRateCritical")
    assert paged == list(range(paged[0], 3 * HOUR + 1, STEP)) and paged[0] <= 2 * HOUR + 330 + 90
    # The slow tier too; an SLA counts whole hours.
    assert any(HOUR + 300 < at < 2 * HOUR for at, _ in found.one("slo:sla_budget_remaining:ratio"))
