"""The computed cost of rules beside what a real Prometheus counts, on the data of the benchmark."""

from __future__ import annotations

import pytest

from bench import reads
from bench.server import running
from generator import cost
from generator.render import rules


@pytest.mark.parametrize("size", [20])
def test_the_computed_cost_is_what_prometheus_counts(prometheus_image: str, size: int) -> None:
    with running(prometheus_image) as server:
        groups = reads.prepare(server, (size,))[size]
        counted, _ = reads.of_all(server, groups)
    computed = cost.of_groups(groups, lambda selector: reads.counters(size, selector))
    assert computed.samples == pytest.approx(counted, rel=0.01)
    assert computed.rules == len(rules.all_rules(groups))
    assert computed.series == sum("record" in rule for rule in rules.all_rules(groups))


def test_the_cost_of_slos_adds_up_to_that_of_their_service() -> None:
    shop = reads.SERVICE.format(name="shop")
    slo = shop[shop.index("      availability:") :]
    text = reads.SPEC.format(services=shop + slo.replace("availability", "other"))
    read = reads.read(text)
    costs = cost.of_model(read, 20)
    assert [c.slo for c in costs] == ["availability", "other"]
    groups = rules.service_groups(read, read.services[0])
    assert cost.total(costs).rules == pytest.approx(len(rules.all_rules(groups)))
    # The 30 days are read for both, so two cost twice as much as one.
    (alone,) = cost.of_model(reads.read(reads.SPEC.format(services=shop)), 20)
    assert cost.total(costs).samples == pytest.approx(2 * alone.samples)


def test_more_raw_series_cost_their_own_samples_and_no_more() -> None:
    read = reads.read(reads.SPEC.format(services=reads.SERVICE.format(name="shop")))
    (few,), (many,) = cost.of_model(read, 20), cost.of_model(read, 220)
    # Five samples of each series in 75 s, by the rules of the errors and of the total.
    assert many.samples - few.samples == pytest.approx(200 * 5 * 2)
