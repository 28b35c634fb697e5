"""What a query of another project measures, read off its structure."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from generator import promql
from generator.importers import queries
from generator.importers.queries import Carried, NotCarried
from generator.names import RESERVED_LABELS
from generator.sli import KINDS, with_window
from generator.units import Duration

W = "[{{.window}}]"
WATCH = 'v!="WATCH"'


def events(errors: str, total: str, *, good: bool = False, counters: bool = False) -> Carried:
    return queries.from_events(queries.parse(errors), queries.parse(total), good=good, counters=counters)


def share(query: str, *, success: bool = False) -> Carried:
    return queries.from_ratio(queries.parse(query), success=success)


def usable(carried: Carried) -> None:
    """The SLI is one that the product takes, and its PromQL parses."""
    (kind, fields), *rest = carried.sli.items()
    assert not rest
    KINDS[kind].model_validate(fields)
    if kind == "raw" and isinstance(fields, Mapping):
        for query in fields.values():
            promql.parse(with_window(query, "1m"))
    assert not set(carried.by) & RESERVED_LABELS


@pytest.mark.parametrize(
    ("errors", "total", "sli", "by"),
    [
        (f"sum(rate(x{W}))", f"sum(rate(y{W}))", {"ratio": {"errors": "x", "total": "y"}}, ()),
        ("sum(increase(x[{{ .window }}]))", f"((sum(increase(y{W}))) > 0)", {"ratio": {"errors": "x", "total": "y"}}, ()),
        (
            f"sum by (region) (rate(x{{a='1'}}{W})) or on() vector(0)",
            f"sum(rate(x{W})) by (region)",
            {"ratio": {"errors": 'x{a="1"}', "total": "x"}},
            ("region",),
        ),
        # everything less the good ones
        (
            f"sum(rate(x{{b='2',a='1'}}{W})) - sum(rate(ok{W}))",
            f"sum(rate(x{{a='1',b='2'}}{W}))",
            {"ratio": {"good": "ok", "total": 'x{a="1",b="2"}'}},
            (),
        ),
        (
            f'(sum(rate(d_seconds_count{{{WATCH}}}{W})) - sum(rate(d_seconds_bucket{{le="0.4",{WATCH}}}{W})))',
            f"sum(rate(d_seconds_count{{{WATCH}}}{W}))",
            {"latency": {"histogram": 'd_seconds{v!="WATCH"}', "under": "400ms"}},
            (),
        ),
        (
            f'sum(rate(d_seconds_bucket{{le="+Inf"}}{W})) - sum(rate(d_seconds_bucket{{le=~"2|2.0"}}{W}))',
            f'sum(rate(d_seconds_bucket{{le="+Inf"}}{W}))',
            {"latency": {"histogram": "d_seconds", "under": "2s"}},
            (),
        ),
        (
            "sum_over_time((count(sat < 0.75))[{{.window}}:]) OR on() vector(0)",
            "sum_over_time((count(sat))[{{.window}}:])",
            {"threshold": {"expr": "sat", "below": Decimal("0.75")}},
            (),
        ),
        (
            "sum(count_over_time((up{a='1'} == 0)[{{.window}}:])) or vector(0)",
            "sum(count_over_time((up{a='1'})[{{.window}}:]))",
            {"boolean": 'up{a="1"}'},
            (),
        ),
    ],
)
def test_structure_is_recognised(errors: str, total: str, sli: dict[str, Any], by: tuple[str, ...]) -> None:
    carried = events(errors, total)
    assert carried == Carried(sli, by)
    usable(carried)


def test_a_bucket_beside_another_count_stays_a_ratio() -> None:
    carried = events(f'sum(rate(d_seconds_bucket{{le="1.0",code="500"}}{W}))', f"sum(rate(d_seconds_count{W}))", good=True)
    good = r'd_seconds_bucket{le=~"1(\\.0)?",code="500"}'
    assert carried.sli == {"ratio": {"good": good, "total": "d_seconds_count"}}
    usable(carried)


def test_sizes_are_no_lengths_of_time() -> None:
    carried = events(f'sum(rate(body_bytes_bucket{{le="1000"}}{W}))', f"sum(rate(body_bytes_count{W}))", good=True)
    assert "ratio" in carried.sli


def test_a_threshold_below_a_millisecond_stays_a_ratio() -> None:
    carried = events(f'sum(rate(d_seconds_bucket{{le="0.0005"}}{W}))', f"sum(rate(d_seconds_count{W}))", good=True)
    assert "ratio" in carried.sli
    milliseconds = events(f'sum(rate(d_ms_bucket{{le="250"}}{W}))', f"sum(rate(d_ms_count{W}))", good=True)
    assert milliseconds.sli == {"latency": {"histogram": "d_ms", "under": "250ms"}}


@pytest.mark.parametrize(
    ("query", "sli"),
    [
        (f"sum(rate(a{W})) / sum(rate(b{W}))", {"ratio": {"errors": "a", "total": "b"}}),
        (f"1 - (sum(rate(a{W})) / (sum(rate(b{W})) > 0) or on() vector(1))", {"ratio": {"good": "a", "total": "b"}}),
        (f"(sum(rate(a{W})) / (sum(rate(b{W})) > 0)) OR on() vector(0)", {"ratio": {"errors": "a", "total": "b"}}),
        (f"1 - avg(avg_over_time(up{W}))", {"boolean": "up"}),
        (f"1 - sum(sum_over_time(s{W})) / sum(count_over_time(s{W}))", {"boolean": "s"}),
    ],
)
def test_a_share_is_taken_apart(query: str, sli: dict[str, Any]) -> None:
    assert share(query) == Carried(sli)


def test_a_share_of_good_events() -> None:
    assert share(f"sum(rate(a{W})) / sum(rate(b{W}))", success=True).sli == {"ratio": {"good": "a", "total": "b"}}
    assert share(f"1 - sum(rate(a{W})) / sum(rate(b{W}))", success=True).sli == {"ratio": {"errors": "a", "total": "b"}}
    raw = share("my:good:share", success=True)
    assert raw.sli == {"raw": {"error_ratio": "1 - (my:good:share)"}}
    assert any("every moment counts the same" in change for change in raw.changes)


def test_an_error_gauge_is_no_boolean() -> None:
    assert share(f"avg(avg_over_time(broken{W}))").sli == {"raw": {"error_ratio": "avg(avg_over_time(broken[{{window}}]))"}}


def test_what_is_no_ratio_of_counters_stays_promql() -> None:
    carried = events(f"sum by (r) (rate(a{W})) + sum by (r) (rate(b{W}))", f"sum by (r) (rate(c{W})) # all")
    assert carried.sli == {
        "raw": {
            "errors": "sum by (r) (rate(a[{{window}}])) + sum by (r) (rate(b[{{window}}]))",
            "total": "sum by (r) (rate(c[{{window}}]))",
        }
    }
    assert carried.by == ("r",)
    assert not carried.changes
    usable(carried)


def test_good_events_that_never_were_are_no_success() -> None:
    carried = events(f"sum(rate(a{W})) + sum(rate(b{W}))", f"sum(rate(c{W}))", good=True)
    raw = carried.sli["raw"]
    assert isinstance(raw, Mapping)
    assert raw["errors"].endswith("or 0 * (sum(rate(c[{{window}}]))))")


def test_text_in_quotes_is_left_alone() -> None:
    assert queries.one_line('sum(\n  x{a="b  # c"}) # tail') == 'sum( x{a="b  # c"})'


def test_labels_of_the_generator_are_renamed() -> None:
    for carried in (
        events(f"sum by (service, m) (rate(a{W}))", f"sum by (service, m) (rate(b{W}))"),
        queries.from_metrics("ok_total", "all_total", ["service", "m"], good=True),
        queries.from_metrics('d_seconds_bucket{le="1"}', "d_seconds_count", ["service", "m"], good=True),
        queries.from_native("d_seconds", Duration.of("200ms"), ["service", "m"]),
        queries.from_gauge("up", ["service", "m"]),
    ):
        assert carried.by == ("exported_service", "m")
        assert "raw" in carried.sli
        assert any("exported_service" in change for change in carried.changes)
        usable(carried)


def test_series_without_a_sum_are_told() -> None:
    assert any("no sum()" in change for change in events(f"rate(a{W})", f"rate(b{W})").changes)


def test_fixed_ranges_are_told() -> None:
    carried = events("sum(rate(a[5m]))", "sum(rate(b[5m]))")
    assert carried.sli == {"ratio": {"errors": "a", "total": "b"}}
    assert any("[5m]" in change for change in carried.changes)


def test_bare_counters_only_where_they_are_said_to_be_counters() -> None:
    assert events("sum(a)", "sum(b)", counters=True).sli == {"ratio": {"errors": "a", "total": "b"}}
    assert events("sum(a)", "sum(b)").sli == {"raw": {"errors": "sum(a)", "total": "sum(b)"}}
    with pytest.raises(NotCarried, match="counters"):
        events("sum(a) + sum(c)", "sum(b)", counters=True)


def test_recordings_by_window_are_told() -> None:
    carried = events("job:errors:rate{{.window}}", "job:total:rate{{.window}}")
    assert carried.sli == {"raw": {"errors": "job:errors:rate{{window}}", "total": "job:total:rate{{window}}"}}
    assert any("recordings" in change for change in carried.changes)


@pytest.mark.parametrize(
    ("operator", "side", "exact"),
    [("lt", "above", False), ("lte", "above", True), ("gt", "below", False), ("gte", "below", True)],
)
def test_thresholds_turn_round(operator: str, side: str, exact: bool) -> None:
    carried = queries.from_threshold(queries.parse("max(depth)"), operator, Decimal(100))
    assert carried.sli == {"threshold": {"expr": "max(depth)", side: Decimal(100)}}
    assert bool(carried.changes) is not exact
    usable(carried)
    usable(queries.from_threshold(queries.parse(f"max_over_time(depth{W})"), operator, Decimal(100)))


def test_slices_of_time() -> None:
    parts = queries.parse("sum(ok_total)"), queries.parse("sum(all_total)")
    minute = Duration.of("1m")
    counted = queries.from_slices(*parts, good=True, counters=True, window=minute, at_least=Decimal("0.95"))
    threshold = counted.sli["threshold"]
    assert isinstance(threshold, Mapping)
    assert threshold["above"] == "5%"
    assert threshold["expr"].startswith("1 - (sum(rate(ok_total[1m])) or 0 * ")
    averaged = queries.from_slices(*parts, good=False, counters=True, window=minute, at_least=None)
    assert "error_ratio" in averaged.sli["raw"]
    for carried in (counted, averaged):
        usable(carried)


def test_a_fault_is_where_it_was_written() -> None:
    text = "sum(rate(a[{{ .window }}])) + sun(b)"
    with pytest.raises(promql.PromqlError) as caught:
        queries.parse(text)
    assert caught.value.at is not None
    start, length = caught.value.at
    assert text[start : start + length] == "sun"
