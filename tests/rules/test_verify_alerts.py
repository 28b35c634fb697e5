"""The two alerts of the shipped slos.yaml on what `lgtm verify --push` sends, every five minutes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from generator import model
from generator.promtool import Counter, Promtool, Recorded
from generator.render import rules

ROOT = Path(__file__).parents[2]
PUSH, HOUR = 300, 3600
NAMES = ("ConfigurationDrift", "VerificationSilent")


@pytest.fixture(scope="module")
def groups() -> list[dict[str, object]]:
    found = model.load([ROOT / "slos.yaml"]).model
    assert found is not None
    (causes,) = [g for g in rules.service_groups(found, found.by_name["observability"]) if g["name"].endswith(":causes")]
    return [{**causes, "rules": [rule for rule in causes["rules"] if rule.get("alert") in NAMES]}]


def run(
    promtool: Promtool,
    groups: Sequence[dict[str, object]],
    turns: Sequence[float | None],
    kind: str,
    until: int,
    step: int = 60,
) -> Recorded:
    """One turn of verify every five minutes: how many checks of the kind failed, or None for a turn that never was."""
    stamps = [None if failed is None else i * PUSH for i, failed in enumerate(turns)]
    inputs = [
        Counter(f'lgtm_verify_checks{{job="lgtm",kind="{kind}",level="fail"}}', turns, PUSH),
        Counter(f'lgtm_verify_checks{{job="lgtm",kind="{kind}",level="ok"}}', [5 for _ in turns], PUSH),
        Counter('lgtm_verify_timestamp_seconds{job="lgtm"}', stamps, PUSH),
    ]
    return promtool.evaluate(groups, inputs, until, step=step, interval=60)


def test_drift_of_ten_minutes_fires_and_ends_with_the_next_good_turn(
    promtool: Promtool, groups: list[dict[str, object]]
) -> None:
    turns = [0.0, 0, 2, 2, 2, 2, 0, 0, 0]
    found = run(promtool, groups, turns, "rules", 2400)
    # Failing from 600 s on; good again at 1800 s.
    assert found.firing("ConfigurationDrift", kind="rules", service="observability") == list(range(1200, 1800, 60))
    assert found.firing("VerificationSilent") == []


def test_one_bad_turn_is_quiet(promtool: Promtool, groups: list[dict[str, object]]) -> None:
    assert run(promtool, groups, [0.0, 0, 1, 1, 0, 0, 0], "rules", 1800).alerts() == set()


def test_what_has_an_alert_of_its_own_is_left_out(promtool: Promtool, groups: list[dict[str, object]]) -> None:
    assert run(promtool, groups, [3.0] * 9, "targets", 2400).alerts() == set()


def test_a_verification_that_stops_is_noticed_for_a_day(promtool: Promtool, groups: list[dict[str, object]]) -> None:
    stopped = [0.0] * 5
    found = run(promtool, groups, stopped, "rules", 26 * HOUR, step=300)
    fired = found.firing("VerificationSilent")
    # Its last turn was at 1200 s; "above an hour" is the evaluation after.
    assert (fired[0], fired[-1]) == (1200 + HOUR + 300, 1200 + 24 * HOUR - 300)
    assert found.firing("ConfigurationDrift") == []


def test_a_verification_that_never_ran_is_no_alert(promtool: Promtool, groups: list[dict[str, object]]) -> None:
    assert run(promtool, groups, [None] * 5, "rules", 2 * HOUR).alerts() == set()
