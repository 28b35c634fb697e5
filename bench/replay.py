"""Rules of the product on made-up data, evaluated by the real promtool, each group at its own interval.

promtool evaluates all groups at one interval, so the slow tier is run by itself, on what the fast one recorded, and the
fast one again with what the slow one counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from generator import model, source
from generator.model import Model
from generator.promtool import STEP, Counter, Promtool, Recorded, kept
from generator.render import rules

__all__ = ["STEP", "Counter", "Promtool", "Recorded", "kept", "load", "replay"]

SLOW = 300


def load(text: str) -> Model:
    """The Model of a spec. Raises AssertionError with the diagnostics where it has errors."""
    result = model.resolve(source.read_text(text, "slos.yaml"))
    assert result.model is not None, [d.message for d in result.diagnostics]
    return result.model


FAST_FOR_SLOW = (
    "slo:sli_errors:rate",
    "slo:sli_total:rate",
    "slo:history_start:timestamp",
    "slo:error_budget:ratio",
    "slo:error_ratio:2h",
    "slo:error_ratio:6h",
)


def replay(
    promtool: Promtool,
    spec: str,
    inputs: Sequence[Counter],
    until: int,
    *,
    phase: int = 120,
    interval: int = 15,
    change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] = lambda groups: groups,
    only_fast: bool = False,
) -> Recorded:
    """Every series and alert of a spec with one service on some inputs, each group at its own interval.

    ``phase`` is when in its five minutes the slow group runs. ``change`` may rewrite the groups.
    """
    read = load(spec)
    (service,) = read.services
    groups = change(rules.service_groups(read, service))
    slow = [g for g in groups if g["name"].endswith(":slow")]
    fast = [g for g in groups if g not in slow]
    first = promtool.evaluate(fast, inputs, until, interval=interval)
    if only_fast or not slow:
        return first
    # promtool starts at the first step, so a phase is a start that is as much later, on inputs that are moved back.
    given = first.as_inputs(FAST_FOR_SLOW, STEP, until)
    moved = [Counter(c.name, c.values, c.every, c.offset) for c in given]
    second = _slow(promtool, slow, moved, until, phase)
    counted = second.as_inputs(("slo:sli_errors:counted", "slo:sli_total:counted"), SLOW, until)
    last = promtool.evaluate(fast, [*inputs, *counted], until, interval=interval)
    for name, found in second.series.items():
        for key, points in found.items():
            known = last.series.setdefault(name, {})
            known.setdefault(key, points)
    return last


def _slow(promtool: Promtool, slow: list[dict[str, Any]], inputs: Sequence[Counter], until: int, phase: int) -> Recorded:
    skip = phase // STEP
    shifted = [Counter(c.name, c.values[skip:], c.every) for c in inputs]
    found = promtool.evaluate(slow, shifted, (until - phase) // SLOW * SLOW, step=SLOW, interval=STEP)
    return Recorded({n: {k: [(t + phase, v) for t, v in p] for k, p in s.items()} for n, s in found.series.items()})
