"""Alerts on random traffic, against a model of its own of what each should have done: it knows events, and no PromQL."""

from __future__ import annotations

from itertools import accumulate

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from bench.replay import STEP, Promtool, replay
from bench.traffic import SHOP, http, mature

BUDGET = 0.001
MINIMUM = 5
POLICY = {
    "critical": ((14.4, 3600, 300), (6.0, 6 * 3600, 1800)),
    "warning": ((3.0, 86400, 7200), (1.0, 3 * 86400, 6 * 3600)),
}
# What is recorded at a moment is an average over the last minute, of scrapes up to 15 s old.
LAG = 90

Segment = tuple[int, float, float]
segments = st.lists(
    st.tuples(
        st.sampled_from([60, 180, 600, 1800, 3600]),
        st.sampled_from([0.0, 0.02, 0.5, 10.0, 300.0]),
        st.sampled_from([0.0, 0.0, 0.0005, 0.004, 0.012, 0.05, 0.3, 1.0]),
    ),
    min_size=2,
    max_size=7,
)


class Truth:
    """Events by the second, and whether an alert's condition holds for them at a moment.

    ``before`` is how many seconds the service was already there at the start: without traffic, but watched.
    """

    def __init__(self, shape: list[Segment], before: int) -> None:
        self._before = before
        self.requests = [rate for length, rate, _ in shape for _ in range(length)]
        self.share = [share for length, _, share in shape for _ in range(length)]
        bad = [r * s for r, s in zip(self.requests, self.share, strict=True)]
        self._all = [0.0, *accumulate(self.requests)]
        self._bad = [0.0, *accumulate(bad)]
        self.end = len(bad)

    def _window(self, sums: list[float], at: int, length: int) -> float:
        return sums[at] - sums[max(0, at - length)]

    def holds(self, severity: str, at: int, slack: float, minimum: float) -> bool:
        """Whether any condition of a severity holds, with thresholds times ``slack`` and so many bad events."""
        for factor, long, short in POLICY[severity]:
            limit = factor * BUDGET * slack
            # As much of a window as the service was not there for would have been good.
            over = all(
                (total := self._window(self._all, at, w)) > 0
                and self._window(self._bad, at, w) / total * min(1, (at + self._before) / w) > limit
                for w in (long, short)
            )
            if over and self._window(self._bad, at, long) >= minimum:
                return True
        return False

    def verdict(self, severity: str, at: int) -> bool | None:
        """True where it must fire, False where it must not, None where that depends on seconds or single events."""
        moments = range(max(1, at - LAG), at + 1)
        if all(self.holds(severity, m, 1.05, MINIMUM + 0.5) for m in moments):
            return True
        if not any(self.holds(severity, m, 0.95, MINIMUM - 1.5) for m in moments):
            return False
        return None


@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(shape=segments, days=st.sampled_from([0, 30]))
def test_alerts_do_what_the_events_ask_for(promtool: Promtool, shape: list[Segment], days: int) -> None:
    truth = Truth(shape, days * 86400)
    until = truth.end // STEP * STEP - STEP
    inputs = http(until, lambda s: truth.requests[s], lambda s: truth.share[s], start=100_000)
    found = replay(promtool, SHOP, [*inputs, *(mature(days=days) if days else [])], until, phase=0)
    assert found.alerts() <= {"SLOBurnRateCritical", "SLOBurnRateWarning"}
    for severity, every in (("critical", STEP), ("warning", 300)):
        fired = set(found.firing(f"SLOBurnRate{severity.capitalize()}"))
        verdicts = {at: truth.verdict(severity, at) for at in range(300, until + 1, every)}
        wrong = {at: verdict for at, verdict in verdicts.items() if verdict is not None and verdict is not (at in fired)}
        assert not wrong, f"{severity}: {dict(list(wrong.items())[:5])} of {shape} after {days} d"
        event(f"{severity} fires after {days} d: {any(v for v in verdicts.values())}")
