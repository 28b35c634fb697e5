"""What a proof expects, worked out by hand; and the inputs that it makes up."""

from __future__ import annotations

import datetime as dt
import random
from decimal import Decimal
from fractions import Fraction

import pytest

from generator import burn, model, source
from generator.model import Model
from generator.promtool import parse
from generator.proof import inputs, routes, scenarios, times
from generator.proof.scenarios import Policy, Span
from generator.schedule import Hours, Once, Times

SPEC = """
version: 1
services:
  shop:
    runbook: See the wiki.
    slos:
      a: {objective: 99.9%, sli: {boolean: up}}
      b: {objective: 95%, window: 7d, sli: {ratio: {errors: e, total: t}}}
      c: {objective: 99.99%, window: 90d, minimum_events: 40, sli: {ratio: {errors: e, total: t}}}
"""


def load(text: str = SPEC) -> Model:
    result = model.resolve(source.read_text(text, "slos.yaml"))
    assert result.model is not None, result.diagnostics
    return result.model


STANDARD = Policy(((3600, 300, Fraction("0.0144")), (21600, 1800, Fraction("0.006"))), 5)


def test_an_outage_is_noticed_when_the_workbook_says() -> None:
    assert STANDARD.detect(Fraction(1)) == Fraction("51.84")
    assert STANDARD.detect(Fraction("0.01")) == 6 * 3600 * Fraction("0.6")
    assert STANDARD.detect(Fraction("0.006")) is None
    # One minute spends enough for the page of one hour alone, whose short window clears after five.
    assert STANDARD.reset(Fraction(1), 60) == 300 - 300 * Fraction("0.0144")
    assert STANDARD.reset(Fraction(1), 3600) == 1800 - 1800 * Fraction("0.006")
    assert STANDARD.reset(Fraction(1), 30) is None


def test_times_are_those_of_the_table_that_lgtm_shows() -> None:
    for slo in load().slos:
        for severity, conditions in slo.burn.items():
            policy = Policy.of(slo, conditions)
            for index, outage in enumerate(burn.outages(slo)):
                mine = policy.detect(Fraction(outage.ratio))
                shown = burn.first(burn.conditions(slo), severity, index)
                assert (mine is None) is (shown is None)
                assert mine is None or shown is None or abs(Decimal(float(mine)) - shown) < Decimal("0.001")


def test_a_history_is_counted_by_traffic_and_by_the_minimum() -> None:
    outage = (Span(718, 10.0, 0.0), Span(2, 10.0, 1.0))
    assert STANDARD.holds(outage, 30)
    assert not STANDARD.holds((Span(719, 10.0, 0.0), Span(1, 10.0, 1.0)), 30)
    # Four events in all are too few, five are enough.
    assert not STANDARD.holds((Span(2, 4 / 60, 1.0),), 30)
    assert STANDARD.holds((Span(2, 5 / 60, 1.0),), 30)
    # One in a thousand by traffic, one in ten by minutes.
    assert not STANDARD.holds((Span(18, 1000.0, 0.0), Span(2, 10.0, 1.0)) * 36, 30)


@pytest.mark.parametrize("slo", list(load().slos), ids=lambda slo: slo.name)
def test_both_calculations_agree_on_every_case(slo: model.ResolvedSlo) -> None:
    for conditions in slo.burn.values():
        # An assertion in it holds one calculation against the other.
        cases = scenarios.cases(Policy.of(slo, conditions))
        assert len(cases) >= 10
        assert {case.fires for case in cases} == {True, False}


def test_values_are_written_as_promtool_reads_them() -> None:
    errors, totals = scenarios.values((Span(5, 10.0, 0.0), Span(2, 10.0, 0.5)), 4, 60)
    assert (errors, totals) == ("0x1 10x1", "20x1 20x1")
    assert scenarios.values((Span(2, 10.0, 1.0),), 4, 30) == ("_x2 10x1", "_x2 10x1")


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("5..", "500"),
        ("ok|skipped", "ok"),
        ("[45]..", "400"),
        ("/api/v1/query(_range)?", "/api/v1/query_range"),
        (r"a\.b", "a.b"),
        ("otel_.+", "otel_0"),
        (r"\d+", "5"),
        ("(prod|stage)-.*", "stage-0"),
        ("x{3}", None),
    ],
)
def test_a_text_is_found_that_a_pattern_matches(pattern: str, text: str | None) -> None:
    found = inputs.Selector("m", (("x", "=~", pattern),))
    if text is None:
        with pytest.raises(inputs.FreeError):
            found.sample()
    else:
        assert found.sample() == {"x": text}


def test_a_good_event_is_none_of_the_bad() -> None:
    every, bad = inputs.selector('t{job="a"}'), inputs.selector('t{job="a",code=~"5.."}')
    labels = inputs._unlike(every, bad, {})
    assert every.selects("t", labels) and not bad.selects("t", labels)
    with pytest.raises(inputs.FreeError):
        inputs._unlike(every, every, {})


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("pool_used / pool_size", {"pool_used": 40.0, "pool_size": 100.0}),
        ("1 - free / size", {"free": 60.0, "size": 100.0}),
        ("sum(rate(h[5m])) / (sum(rate(h[5m])) + sum(rate(m[5m])))", {"h": 40.0, "m": 60.0}),
        ("increase(x[5m])", {"x": 0.4 / 300}),
        ("max_over_time((a - b)[1h:1m])", {"a": 0.4, "b": 0.0}),
        ("time() - max(t)", {"t": 0.4}),
    ],
)
def test_values_are_found_for_which_a_query_is_what_it_should_be(query: str, wanted: dict[str, float]) -> None:
    assert {f.name: f.values[0] for f in inputs.solved(query, 0.4)} == pytest.approx(wanted)


@pytest.mark.parametrize("query", ["a and b", "topk(3, a)", "deriv(a[1h])", "a / a", "x offset 5m"])
def test_a_query_that_is_too_free_is_none_that_is_passed_silently(query: str) -> None:
    with pytest.raises(inputs.FreeError):
        inputs.solved(query, 0.4)


def test_hours_of_the_file_are_those_that_are_rendered_at_every_moment() -> None:
    chance = random.Random(7)
    zones = ("UTC", "Europe/Berlin", "Asia/Kolkata", "America/St_Johns")
    for _ in range(60):
        days = tuple(sorted(chance.sample(range(7), chance.randrange(1, 6)))) if chance.random() < 0.7 else None
        start = chance.randrange(1440)
        overnight = chance.random() < 0.4
        parts = (Times(start, start + chance.randrange(30, 600)),) if overnight or start < 1300 else None
        if parts and parts[0].end > 1440 and not overnight:
            parts = None
        hours = Hours(days, parts, None, chance.choice(zones))
        for _ in range(40):
            moment = dt.datetime(2027, 1, 1, tzinfo=dt.UTC) + dt.timedelta(minutes=chance.randrange(365 * 1440))
            want = times.is_open(hours, moment)
            assert any(times.contains(entry, moment) for entry in hours.intervals()) is want, (hours, moment)
            assert any(times.contains(entry, moment) for entry in hours.outside()) is not want, (hours, moment)


def test_a_window_once_is_open_between_its_ends() -> None:
    once = Once(dt.datetime(2026, 12, 5, 22), dt.datetime(2026, 12, 6, 4), "Europe/Berlin")
    for hour, want in ((20, False), (21, True), (26, True), (27, False)):
        moment = dt.datetime(2026, 12, 5, tzinfo=dt.UTC) + dt.timedelta(hours=hour)
        assert times.is_open(once, moment) is want
        assert any(times.contains(entry, moment) for entry in once.intervals()) is want


def test_what_promtool_says_is_read_with_everything_in_it() -> None:
    (alert, expr) = parse(
        "FAILED:\n    name: one/0,\n    alertname: A, time: 1h5m, \n        exp:[], \n        got:[\n            0:\n"
        '              Labels:{alertname="A", q="a\\"b, c}"}\n'
        '              Annotations:{d="a\\nb [1: Labels", e=""}\n            ]\n'
        '    expr: "x{a=\\"1\\"}", time: 30s,\n        exp: nil\n        got: {__name__="x", a="1"} 6E+01, {a="2"} NaN\n'
    )
    assert (alert.test, alert.what, alert.at) == ("one/0", "A", 3900)
    assert alert.alerts == (({"alertname": "A", "q": 'a"b, c}'}, {"d": "a\nb [1: Labels", "e": ""}),)
    assert (expr.what, expr.at, expr.samples[0]) == ('x{a="1"}', 30, ({"__name__": "x", "a": "1"}, 60.0))
    assert len(expr.samples) == 2


def test_of_a_large_file_every_kind_of_pair_is_tried() -> None:
    slos = "slos: {a: {objective: 99%, sli: {boolean: up}}, b: {objective: 99%, sli: {boolean: up}}}"
    text = "version: 1\nservices:\n" + "".join(
        f"  s{n}: {{runbook: See the wiki., {f'depends_on: [s{n - 1}], ' if n else ''}{slos}}}\n" for n in range(40)
    )
    found = load(text)
    alerts = routes.known_alerts(found)
    expected = routes.Expected(found)
    pairs = list(routes._pairs(expected, alerts))
    assert len(alerts) > 200 and len(pairs) <= 3 * routes.MOST_PAIRS
    tried = {frozenset((one.key, other.key)) for one, other in pairs}
    assert len(tried) == len(pairs)

    def kind(alert: routes.Known) -> tuple[str, str]:
        return alert.labels["service"], alert.name

    kinds = {frozenset((kind(one), kind(other))) for one, other in pairs}
    wanted = {frozenset((kind(s), kind(t))) for s in alerts for t in alerts if expected.inhibits(s, t)}
    assert wanted <= kinds
