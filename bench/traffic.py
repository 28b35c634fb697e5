"""Counters as a service would expose them, from a description of its traffic second by second."""

from __future__ import annotations

from collections.abc import Callable

from bench.replay import Counter

SHOP = """
version: 1
defaults: {owner: backend, tier: high}
services:
  shop:
    title: Shop
    slos:
      availability:
        objective: 99.9%
        sli: {ratio: {errors: 'http_requests_total{code=~"5.."}', total: http_requests_total}}
"""

Rate = Callable[[int], float]
HOUR = 3600


def http(
    until: int,
    requests: Rate,
    failing: Rate,
    *,
    every: int = 15,
    offset: int = 0,
    labels: str = 'job="shop"',
    start: float = 0.0,
) -> list[Counter]:
    """Two counters: requests per second and the share of them that fails, at each second; scraped every ``every``."""
    good, bad = start, start
    goods: list[float | str | None] = []
    bads: list[float | str | None] = []
    for second in range(until + 1):
        if second % every == offset % every and second >= offset:
            goods.append(round(good, 3))
            bads.append(round(bad, 3))
        now, share = requests(second), failing(second)
        good += now * (1 - share)
        bad += now * share
    return [
        Counter(f'http_requests_total{{{labels},code="200"}}', goods, every, offset),
        Counter(f'http_requests_total{{{labels},code="500"}}', bads, every, offset),
    ]


def mature(*labels: str, days: int = 30) -> list[Counter]:
    """What is recorded of SLOs whose history began so many days before the test."""
    series = labels or ('service="shop",slo="availability"',)
    return [Counter(f"slo:history_start:timestamp{{{one}}}", [-86400.0 * days]) for one in series]


def steady(value: float) -> Rate:
    """The same at every second."""
    return lambda second: value


def during(begin: int, end: int, value: float, otherwise: float = 0.0) -> Rate:
    """One value from ``begin`` to ``end``, another one before and after."""
    return lambda second: value if begin <= second < end else otherwise
