"""Thirty days of a service's counters as Prometheus would have scraped them, with all that happens in thirty days.

Everything is made from a seed, and the truth is known: every event is counted when it happens, whether or not a scrape
ever saw it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO

DAY = 86400
# A fixed end, on a whole block of every size: what is measured depends on no clock.
END = 1_767_225_600


@dataclass
class Truth:
    """Every event that happened, by service; ``watched`` are those that happened while Prometheus was there."""

    total: dict[str, float] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    watched_total: dict[str, float] = field(default_factory=dict)
    watched_errors: dict[str, float] = field(default_factory=dict)

    def add(self, service: str, count: float, failed: float, watched: bool) -> None:
        """Count events."""
        books = [(self.total, count), (self.errors, failed)]
        books += [(self.watched_total, count), (self.watched_errors, failed)] if watched else []
        for book, number in books:
            book[service] = book.get(service, 0) + number


@dataclass(frozen=True)
class Plan:
    """What happens: ``days`` of scrapes every ``interval`` seconds of ``instances`` that always run, and others.

    ``lost`` is the share of scrapes that are lost, one at a time and for one instance.
    """

    days: int = 30
    interval: int = 30
    instances: int = 3
    lost: float = 0.01
    seed: int = 7


# Services: "swing" is strong by day and nearly silent at night; "burst" has 90 % of its traffic, and all of its errors,
# in a tenth of the time; "clean" has no error at all, and no series for one.
SERVICES = ("swing", "burst", "clean")


def _traffic(service: str, second: int) -> tuple[float, float]:
    """Requests per second and the share of them that fails."""
    hour = second % DAY / 3600
    if service == "burst":
        # One hour of every ten.
        busy = second // 3600 % 10 == 3
        return (90.0, 0.01) if busy else (90.0 / 81, 0.0)
    swing = 20 * (1 + 0.95 * math.sin((hour - 9) / 24 * 2 * math.pi))
    if service == "clean":
        return swing, 0.0
    day = second // DAY
    # Errors come with the load, and twice there is an outage: at night of everything, at noon of a tenth.
    share = 0.0002 * swing
    if day == 11 and 3 <= hour < 3.5:
        share = 1.0
    if day == 22 and 12 <= hour < 12.75:
        share = 0.1
    return swing, share


def write(plan: Plan, out: IO[bytes]) -> Truth:
    """Write OpenMetrics text with timestamps, series by series, and say what really happened."""
    dice = random.Random(plan.seed)
    span = plan.days * DAY
    begin = END - span
    gaps = list(_gaps(dice, span))
    truth = Truth()
    out.write(b"# TYPE http_requests counter\n")
    for service in SERVICES:
        lives = [(0, span, 1 / plan.instances)] * plan.instances
        # At the peak of each day another one comes for some hours, with a name that never comes back.
        for day in range(plan.days):
            noon = day * DAY + 12 * 3600
            lives.append((noon + dice.randrange(600), noon + 4 * 3600 + dice.randrange(600), 0.2))
        for number, (start, end, weight) in enumerate(lives):
            _instance(plan, dice, out, truth, service, f"{service}-{number}", (start, end), weight, gaps, begin)
    out.write(b"# EOF\n")
    return truth


def _gaps(dice: random.Random, span: int) -> Iterator[tuple[int, int]]:
    """When Prometheus itself was away: minutes several times, hours once."""
    for minutes in (2, 6, 11, 25, 40, 190):
        start = dice.randrange(span // 20, span - DAY)
        yield start, start + minutes * 60


def _instance(
    plan: Plan,
    dice: random.Random,
    out: IO[bytes],
    truth: Truth,
    service: str,
    instance: str,
    life: tuple[int, int],
    weight: float,
    gaps: list[tuple[int, int]],
    begin: int,
) -> None:
    """The counters of one instance. They start at 0 and are set back at every deployment."""
    start, end = life
    deployments = set()
    at = start
    while at < end:
        deployments.add(at // plan.interval)
        at += dice.randrange(DAY, 4 * DAY)
    phase = dice.randrange(plan.interval)
    good = bad = 0.0
    goods: list[str] = []
    bads: list[str] = []
    for slot in range(start // plan.interval, end // plan.interval):
        second = slot * plan.interval
        rate, share = _traffic(service, second)
        # Requests come as they like: whole ones, more or less.
        count = max(0, round(dice.gauss(rate * weight * plan.interval, math.sqrt(rate * weight * plan.interval))))
        failed = min(count, _binomial(dice, count, share))
        stamp = second + plan.interval + phase
        away = any(a <= stamp < b for a, b in gaps)
        truth.add(service, count, failed, not away)
        if slot in deployments:
            # What came since the last scrape is never seen.
            good = bad = 0.0
        good += count - failed
        bad += failed
        if away or dice.random() < plan.lost or stamp >= end:
            continue
        goods.append(f"{good:.0f} {begin + stamp}\n")
        if bad or bads:
            # A series of errors is born with the first one.
            bads.append(f"{bad:.0f} {begin + stamp}\n")
    for code, lines in (("200", goods), ("500", bads)):
        head = f'http_requests_total{{job="{service}",instance="{instance}",code="{code}"}} '
        out.write("".join(head + line for line in lines).encode())


def _binomial(dice: random.Random, count: int, share: float) -> int:
    """How many of ``count`` fail; by the normal approximation where that is good."""
    if share <= 0 or count == 0:
        return 0
    if share >= 1:
        return count
    mean = count * share
    if mean > 20:
        return max(0, round(dice.gauss(mean, math.sqrt(mean * (1 - share)))))
    return sum(dice.random() < share for _ in range(count)) if count < 60 else _poisson(dice, mean)


def _poisson(dice: random.Random, mean: float) -> int:
    limit, product, number = math.exp(-mean), dice.random(), 0
    while product > limit:
        product *= dice.random()
        number += 1
    return number
