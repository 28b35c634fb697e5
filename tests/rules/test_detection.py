"""How long an outage takes to page, beside rules that evaluate every window over the raw counters in the same run."""

from __future__ import annotations

import pytest

from bench.replay import STEP, Promtool, Recorded, load
from bench.speed import BEGIN, BUDGET, raw_rules
from bench.traffic import HOUR, SHOP, during, http, steady
from generator.render import rules


def both(promtool: Promtool, share: float, length: int, *, offset: int = 0, extra: int = HOUR) -> Recorded:
    """An outage after six good hours, seen by the product's rules and by the raw ones."""
    (service,) = load(SHOP).services
    fast = [g for g in rules.service_groups(load(SHOP), service) if not g["name"].endswith(":slow")]
    until = BEGIN + length + extra
    inputs = http(until, steady(100), during(BEGIN, BEGIN + length, share), offset=offset, start=10_000)
    return promtool.evaluate([*fast, raw_rules("Raw")], inputs, until, interval=5)


@pytest.mark.parametrize(
    ("share", "length", "offset"),
    [
        (1.0, 600, 0),
        (1.0, 600, 5),
        (1.0, 600, 10),
        (0.2, 1800, 0),
        (0.2, 1800, 10),
        (0.05, HOUR, 0),
        (0.05, HOUR, 5),
        # Just over 14.4 and just over 6 times the budget; the latter takes nearly all of its six hours.
        (0.0146, HOUR + 600, 10),
        (0.0061, 6 * HOUR + 600, 5),
    ],
)
def test_a_page_comes_as_soon_as_over_raw_counters(promtool: Promtool, share: float, length: int, offset: int) -> None:
    seen = both(promtool, share, length, offset=offset)
    ours, raw = seen.firing("SLOBurnRateCritical"), seen.firing("Raw")
    assert raw, "the outage must be one that raw rules page for"
    assert 0 <= ours[0] - raw[0] <= 45, f"paged {ours[0] - BEGIN} s after the start, raw rules {raw[0] - BEGIN} s"
    # One page: not one that comes and goes.
    assert ours == list(range(ours[0], ours[-1] + STEP, STEP))
    # The last minute of an outage leaves the short window a minute later than the outage itself.
    assert 0 <= ours[-1] - raw[-1] <= 60, f"resolved {ours[-1] - raw[-1]} s after raw rules"


def test_it_resolves_by_the_short_window(promtool: Promtool) -> None:
    end = BEGIN + 1800
    seen = both(promtool, 0.04, 1800)
    ours = seen.firing("SLOBurnRateCritical")
    # The hour is still over its threshold when it resolves; only the short windows are clean again.
    last_ratio = dict(seen.one("slo:error_ratio:1h"))[ours[-1] + STEP]
    assert last_ratio > 14.4 * BUDGET
    assert end < ours[-1] <= end + 1800 + 60


def test_just_under_the_threshold_does_not_page(promtool: Promtool) -> None:
    seen = both(promtool, 0.0059, 6 * HOUR + 600)
    assert seen.firing("Raw") == [] and seen.firing("SLOBurnRateCritical") == []
