"""When an outage is noticed and when its alert is over: against a simulation that slides the windows second by second."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner

from generator import burn, model, source
from generator.burn import Outage
from generator.cli import cli
from generator.model import BurnWindow, ResolvedSlo
from generator.units import Duration

SPEC = """
version: 1
services:
  shop:
    runbook: https://wiki.example.com/shop
    slos:
      up: {objective: 99.9%, sli: {ratio: {errors: e, total: t}}}
      quiet: {objective: 99.9%, alerting: none, sli: {ratio: {errors: e, total: t}}}
routing: {receivers: {a: {webhook: {url: "http://a/"}}}, default: a}
"""


def load(name: str) -> ResolvedSlo:
    found = model.resolve(source.read_text(SPEC, "slos.yaml")).model
    assert found is not None
    return next(s for s in found.slos if s.name == name)


def simulated(window: BurnWindow, threshold: float, ratio: float) -> tuple[int | None, int | None]:
    """Both windows of an outage of a day, in steps of ten seconds of equal traffic."""
    step, length, good = 10, 4 * 86400, 3 * 86400
    bad = [0.0] * (good // step) + [ratio] * (length // step) + [0.0] * (length // step)
    sums = [0.0]
    for value in bad:
        sums.append(sums[-1] + value)

    def over(at: int, seconds: Decimal) -> bool:
        count = int(seconds) // step
        return (sums[at] - sums[max(0, at - count)]) / count > threshold

    fires = [over(i, window.long.seconds) and over(i, window.short.seconds) for i in range(len(bad) + 1)]
    begin, end = good // step, (good + length) // step
    detect = next((i for i in range(begin, end + 1) if fires[i]), None)
    if detect is None:
        return None, None
    reset = next(i for i in range(end, len(fires)) if not fires[i])
    return (detect - begin) * step, (reset - end) * step


@pytest.mark.parametrize("ratio", ["1", "0.1", "0.01", "0.002", "0.0009"])
def test_times_are_those_of_sliding_windows(ratio: str) -> None:
    slo = load("up")
    for condition in burn.conditions(slo):
        made = burn.times(condition.window, condition.threshold, Outage(ratio, Decimal(ratio)))
        detect, reset = simulated(condition.window, float(condition.threshold), float(ratio))
        if detect is None or reset is None:
            assert made == burn.Times(None, None)
            continue
        assert made.detect is not None and made.reset is not None
        assert 0 <= detect - float(made.detect) <= 10
        assert abs(reset - float(made.reset)) <= 10


def test_the_table_of_the_workbook() -> None:
    # https://sre.google/workbook/alerting-on-slos/: 99.9 %, 30 days.
    found = burn.conditions(load("up"))
    assert [(c.severity, str(c.window.long), float(c.window.factor)) for c in found] == [
        ("critical", "1h", 14.4),
        ("critical", "6h", 6.0),
        ("warning", "1d", 3.0),
        ("warning", "3d", 1.0),
    ]
    assert burn.first(found, "critical", 0) == Decimal("51.84")
    assert burn.first(found, "critical", 3) is None
    assert burn.shown(burn.first(found, "warning", 3)) == "36h"


@pytest.mark.parametrize(("seconds", "text"), [("51.84", "52s"), ("599", "9m59s"), ("604", "11m"), ("90000", "25h")])
def test_times_are_rounded_up(seconds: str, text: str) -> None:
    assert burn.shown(Decimal(seconds)) == text


def test_the_command(tmp_path: Path) -> None:
    file = tmp_path / "slos.yaml"
    file.write_text(SPEC)
    run = CliRunner()
    shown = run.invoke(cli, ["-f", str(file), "explain-alert", "shop/up"])
    assert shown.exit_code == 0
    assert "14.4" in shown.output and "52s / 4m56s" in shown.output and "2× budget (0.2%)" in shown.output
    data = json.loads(run.invoke(cli, ["-f", str(file), "explain-alert", "shop/up", "--json"]).output)
    assert data["conditions"][0]["outages"]["100%"]["detected_after"] == 51.84
    assert "No burn-rate alert" in run.invoke(cli, ["-f", str(file), "explain-alert", "shop/quiet"]).output
    wrong = run.invoke(cli, ["-f", str(file), "explain-alert", "shop/upp"])
    assert wrong.exit_code == 1
    assert "did you mean 'shop/up'?" in wrong.output


def test_windows_are_as_they_are_written() -> None:
    assert str(Duration(Decimal(36 * 3600))) == "36h"
