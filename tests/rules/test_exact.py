"""The budget of thirty days beside the truth that made the data. The large version is `make bench`."""

from __future__ import annotations

import pytest

from bench.exact import Exactness, measure
from bench.history import SERVICES, Plan
from bench.server import running


@pytest.fixture(scope="module")
def found(prometheus_image: str) -> dict[str, Exactness]:
    with running(prometheus_image) as server:
        return {e.service: e for e in measure(server, Plan(interval=30))}


@pytest.mark.parametrize("service", SERVICES)
def test_the_budget_is_that_of_the_events(found: dict[str, Exactness], service: str) -> None:
    one = found[service]
    print(f"{service}: watched {one.watched:.4%}, ours {one.ours:.4%}, averaged {one.averaged:.4%}")
    assert one.ours == pytest.approx(one.watched, abs=0.001)
    # What happened while Prometheus itself was away, for 4 h 34 min in all, is known to nobody.
    assert one.ours == pytest.approx(one.truth, abs=0.003)


def test_averages_of_ratios_would_not_do(found: dict[str, Exactness]) -> None:
    # The data must be such that the usual mistake shows: by it, most of what is spent is still there.
    burst = found["burst"]
    assert (1 - burst.watched) / (1 - burst.averaged) > 5
    assert found["clean"].ours == 1
