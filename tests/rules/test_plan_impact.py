"""What a plan says of history is what was: two incidents at known minutes, in a real Prometheus."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import datetime

import pytest

from bench.history import END
from bench.server import Server, running
from bench.traffic import HOUR, http, steady
from generator import model, plan, source

DAYS = 3
DAY = 24 * HOUR
START = END - DAYS * DAY
# All fails for ten minutes; a fiftieth fails for two hours.
HARD, SOFT = DAY + 9 * HOUR, 2 * DAY + 3 * HOUR

SPEC = """
version: 1
defaults: {owner: backend, window: 1d}
alerting:
  pages: {critical: [{long: 1h, short: 5m, factor: 14.4}]}
services:
  shop:
    slos:
      availability:
        objective: 99%
        alerting: pages
        sli: {ratio: {errors: 'http_requests_total{code=~"5.."}', total: http_requests_total}}
      unchanged:
        objective: 99%
        alerting: pages
        sli: {ratio: {errors: 'http_requests_total{code=~"5.."}', total: http_requests_total}}
      empty: {objective: 99%, alerting: pages, sli: {boolean: there_is_none}}
    alerts:
      Failing: {expr: 'rate(http_requests_total{code="500"}[1m])', above: 5, for: 2m}
"""


@pytest.fixture(scope="module")
def server(prometheus_image: str) -> Iterator[Server]:
    def failing(second: int) -> float:
        return 1.0 if HARD <= second < HARD + 600 else 0.02 if SOFT <= second < SOFT + 2 * HOUR else 0.0

    with running(prometheus_image) as found, tempfile.TemporaryFile() as text:
        text.write(b"# TYPE http_requests counter\n")
        for counter in http(DAYS * DAY, steady(10), failing, labels='job="shop"', start=1000):
            for number, value in enumerate(counter.values):
                if value is not None:
                    text.write(f"{counter.name} {value} {START + counter.offset + number * counter.every}\n".encode())
        text.write(b"# EOF\n")
        found.import_openmetrics(text)
        found.restart()
        yield found


def resolved(text: str) -> model.Model:
    result = model.resolve(source.read_text(text, "slos.yaml"))
    assert result.model is not None, result.errors
    return result.model


def impact(server: Server, *edits: tuple[str, str]) -> plan.Plan:
    text = SPEC
    for part, replacement in edits:
        assert part in text
        text = text.replace(part, replacement, 1)
    old, new = resolved(SPEC), resolved(text)
    planned = plan.Plan("it", tuple(plan.compare(old, new)), ())
    return plan.with_impact(planned, old, new, server.url, 30, lambda line: None, end=float(END))


def test_pages_before_and_after_and_when_the_budget_would_have_been_spent(server: Server) -> None:
    planned = impact(server, ("objective: 99%", "objective: 99.9%"))
    (found,) = planned.impacts
    # 14.4 × 1% is more than the soft one ever was, and 14.4 × 0.1% is less.
    assert (found.slo, found.pages) == ("shop/availability", (1, 2))
    assert found.days == pytest.approx(DAYS, abs=0.02)
    # Of a day with ten events a second 8640 may be bad, or 864: which is 86.4 s of HARD, seen at one of the next evaluations.
    then, soon = found.spent
    assert then is None
    assert soon is not None
    assert 86.4 <= soon - (START + HARD) <= 86.4 + 60
    day = datetime.fromtimestamp(soon).astimezone()
    (sentence,) = found.sentences
    assert sentence == (
        f"shop/availability in the last 3 days: pages 1 → 2; the budget would have been spent on {day.day} {day:%B %H:%M}"
    )


def test_an_alert_on_a_cause_is_counted_too(server: Server) -> None:
    (found,) = impact(server, ("above: 5", "above: 50")).impacts
    assert (found.slo, found.pages) == ("shop/Failing", (1, 0))
    assert found.sentences[0].endswith("fires 1 → 0")


def test_without_data_there_is_a_note_and_no_figure(server: Server) -> None:
    planned = impact(server, ("empty: {objective: 99%", "empty: {objective: 99.5%"))
    assert planned.impacts == ()
    assert planned.notes == ("Prometheus has no history yet of shop/empty.",)


def test_what_does_not_change_an_alert_is_not_replayed(server: Server) -> None:
    planned = impact(server, ("owner: backend", "owner: other"))
    assert planned.changes
    assert (planned.impacts, planned.notes) == ((), ())
