"""What is left of an SLA over calendar months and quarters, on the real engine. promtool's time begins on 1 January 1970."""

from __future__ import annotations

import pytest

from bench.replay import Counter, Promtool, load
from bench.traffic import SHOP
from generator.render import rules

DAY = 86400
BY_DAY = DAY // 300
LABELS = '{service="shop",slo="availability"}'
JANUARY = 31


def left(promtool: Promtool, period: str, bad: dict[int, float], until: int) -> dict[int, float]:
    """What is left at the start of each day, where these days have bad events and every day has as many in all."""
    spec = SHOP.replace("objective: 99.9%", f"objective: 99.9%\n        sla: {{objective: 99%, window: calendar {period}}}")
    read = load(spec)
    (rule,) = [
        r
        for r in rules.all_rules(rules.service_groups(read, read.services[0]))
        if r.get("record") == "slo:sla_budget_remaining:ratio"
    ]
    assert rule["labels"] == {"service": "shop", "slo": "availability", "objective": "99%", "period": period}
    days = range(until + 1)
    inputs = [
        Counter(f"slo:sli_errors:sum5m{LABELS}", [bad.get(d, 0.0) for d in days for _ in range(BY_DAY)], 300),
        Counter(f"slo:sli_total:sum5m{LABELS}", [1.0 for _ in days for _ in range(BY_DAY)], 300),
        Counter(f"slo:error_budget:ratio{LABELS}", [0.001 for _ in days for _ in range(BY_DAY)], 300),
    ]
    query = f'label_replace({rule["expr"].strip()}, "__name__", "left", "", "")'
    found = promtool.evaluate([], inputs, until * DAY, step=DAY, interval=300, watch=query)
    return {at // DAY: value for at, value in found.one("left", service="shop")}


def test_a_month_begins_anew(promtool: Promtool) -> None:
    # 2 % of the events of 10 January, and of 31 January, the last of the month.
    found = left(promtool, "month", {9: 0.02, 30: 0.02}, 33)
    assert found[9] == pytest.approx(1, abs=0.01)
    # A fifth of a promise of 1 % in ten days; less as more good days come.
    assert found[10] == pytest.approx(1 - 2 / 10, abs=0.01)
    assert found[20] == pytest.approx(1 - 2 / 20, abs=0.01)
    # February is untouched; it has no value before its first hour is over.
    assert JANUARY not in found
    assert found[JANUARY + 1] == found[JANUARY + 2] == 1


def test_a_quarter_goes_on_over_a_month(promtool: Promtool) -> None:
    found = left(promtool, "quarter", {9: 0.02}, 33)
    assert found[33] == pytest.approx(1 - 2 / 33, abs=0.01)
