"""Outages that a burn-rate policy must notice and others that it must not, worked out from the policy alone.

A window of length w that holds nothing but good events passes the threshold (factor × budget) t = w × threshold / e
seconds after the beginning of an outage in which the share e of events fails, and falls below it w × (1 − threshold / e)
seconds after its end. An alert fires while any of its conditions holds over both of its windows, and has seen enough bad
events in the long one. Chapter 5 of Google's SRE Workbook: https://sre.google/workbook/alerting-on-slos/.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

from generator.model import BurnWindow, ResolvedSlo
from generator.units import Duration

# What one sample of a recorded rate stands for.
SAMPLE = 30
# Steps to each side of a computed moment: a window's edge falls between two samples.
MARGIN = 2
SPACINGS = (30, 60, 150, 300, 600, 900, 1800, 3600, 7200)


@dataclass(frozen=True)
class Span:
    """So many steps with so many events per second, of which this share is bad."""

    steps: int
    traffic: float
    share: float


@dataclass(frozen=True)
class Case:
    """What happened up to a moment, and whether the alert must be firing then. ``what`` says it in words."""

    what: str
    history: tuple[Span, ...]
    fires: bool


@dataclass(frozen=True)
class Policy:
    """The conditions of one severity: windows in seconds with their thresholds; the budget; bad events that it takes."""

    windows: tuple[tuple[int, int, Fraction], ...]
    minimum: int

    @classmethod
    def of(cls, slo: ResolvedSlo, conditions: Sequence[BurnWindow]) -> Policy:
        budget = 1 - Fraction(slo.objective)
        found = []
        for c in conditions:
            long, short = int(c.long.seconds), int(c.short.seconds)
            # The factor again, from the share of the budget and the windows.
            factor = Fraction(c.budget) * int(slo.window.seconds) / long
            found.append((long, short, factor * budget))
        return cls(tuple(found), slo.minimum_events)

    @property
    def lowest(self) -> Fraction:
        """The share of bad events that just never fires."""
        return min(threshold for _, _, threshold in self.windows)

    @property
    def longest(self) -> int:
        return max(long for long, _, _ in self.windows)

    @property
    def spacing(self) -> int:
        """Seconds between samples: as far apart as the windows allow, for days hold many."""
        windows = [w for long, short, _ in self.windows for w in (long, short)]
        fits = [s for s in SPACINGS if all(w % s == 0 for w in windows) and s * 10 <= min(windows)]
        return max(fits, default=SAMPLE)

    def detect(self, share: Fraction) -> Fraction | None:
        """Seconds until an outage is noticed; None when it never is."""
        return min((long * limit / share for long, _, limit in self.windows if share > limit), default=None)

    def reset(self, share: Fraction, lasted: int) -> Fraction | None:
        """Seconds from the end of an outage of so many seconds until the alert is over; None when it did not fire."""
        ends = []
        for long, short, limit in self.windows:
            if share * min(lasted, long) <= limit * long:
                continue
            # The short window clears first, unless the long one just barely held.
            # Nothing has left that before it has gone by once.
            ends.append(min(short - limit * short / share, long - (limit * long / share if lasted >= long else Fraction(0))))
        return max(ends, default=None)

    def holds(self, history: Sequence[Span], spacing: int) -> bool:
        """Whether the alert fires at the end of a history. Nothing happened before it."""
        for long, short, limit in self.windows:
            bad, whole = _seen(history, long // spacing)
            recent_bad, recent = _seen(history, short // spacing)
            over = whole > 0 and bad > float(limit) * whole and recent > 0 and recent_bad > float(limit) * recent
            if over and bad * spacing > self.minimum - 0.5:
                return True
        return False


def _seen(history: Sequence[Span], steps: int) -> tuple[float, float]:
    """Bad events and all events, per second of a step, in the last steps."""
    bad = whole = 0.0
    for span in reversed(history):
        n = min(steps, span.steps)
        bad += n * span.traffic * span.share
        whole += n * span.traffic
        steps -= n
        if not steps:
            break
    return bad, whole


def outages(policy: Policy) -> list[tuple[str, Fraction]]:
    """Shares of bad events to try: everything, a middle one, just over each threshold."""
    found = [("100%", Fraction(1))]
    lowest = policy.lowest
    if lowest * 4 < 1:
        # Between all and just enough: as far from the one as from the other.
        middle = Fraction(round(float(lowest) ** 0.5 * 1000), 1000)
        found.append((_percent(middle), middle))
    for _, _, limit in sorted(set(policy.windows), key=lambda w: -w[2]):
        share = limit * Fraction(103, 100)
        if share < 1:
            found.append((f"{_percent(share)}, just over the threshold of {_percent(limit)},", share))
    return found


def _percent(share: Fraction) -> str:
    return f"{float(share * 100):.4g}%"


@lru_cache(maxsize=256)
def cases(policy: Policy) -> tuple[Case, ...]:
    """Every outage to try on a policy. Pure: SLOs with the same conditions have the same ones."""
    s = policy.spacing
    whole = policy.longest // s
    # Traffic at which the minimum of events is no matter.
    busy = max(10.0, policy.minimum * 1000.0 / min(long for long, _, _ in policy.windows) / float(policy.lowest))
    found: list[Case] = []

    def add(what: str, *history: tuple[int, float, float], fires: bool) -> None:
        spans = tuple(Span(steps, traffic, share) for steps, traffic, share in history if steps > 0)
        assert policy.holds(spans, s) is fires, f"{what}: the two calculations differ"  # noqa: S101 - ours, not the user's
        found.append(Case(what, spans, fires))

    def outage(steps: int, share: Fraction, after: int = 0, traffic: float = busy) -> list[tuple[int, float, float]]:
        before = max(0, 2 * whole - steps - after)
        return [(before, traffic, 0.0), (steps, traffic, float(share)), (after, traffic, 0.0)]

    for name, share in outages(policy):
        due = policy.detect(share)
        if due is None:
            continue
        early, late = int(due // s) - MARGIN, -int(-due // s) + MARGIN
        words = f"{name} of events fail"
        if early > 0:
            add(f"{words} for {clock(early * s)}, and {clock(due)} are due", *outage(early, share), fires=False)
        add(f"{words} for {clock(late * s)}, and {clock(due)} are due", *outage(late, share), fires=True)
        over = policy.reset(share, late * s)
        if over is None or share != 1:
            continue
        soon, past = int(over // s) - MARGIN, -int(-over // s) + MARGIN
        if soon > 0:
            add(f"{words}, and it is over for {clock(soon * s)}", *outage(late, share, soon), fires=True)
        add(f"{words}, and it is over for {clock(past * s)}", *outage(late, share, past), fires=False)
    # Where several conditions held, the slowest to clear hid the short windows of the others.
    lasted = whole
    over = policy.reset(Fraction(1), lasted * s)
    if over is not None:
        soon, past = int(over // s) - MARGIN, -int(-over // s) + MARGIN
        if soon > 0:
            add(f"a long outage is over for {clock(soon * s)}", *outage(lasted, Fraction(1), soon), fires=True)
        add(f"a long outage is over for {clock(past * s)}", *outage(lasted, Fraction(1), past), fires=False)
    quiet = policy.lowest * Fraction(97, 100)
    add(f"{_percent(quiet)} of events fail for ever", (2 * whole, busy, float(quiet)), fires=False)
    if policy.minimum > 1:
        length = whole * s
        few = (policy.minimum - 1) / length
        add(f"{policy.minimum - 1} events came, and all failed", (whole, few, 1.0), fires=False)
        enough = policy.minimum / length
        add(f"{policy.minimum} events came, and all failed", (whole, enough, 1.0), fires=True)
        # Many good ones beside them: it is the bad ones that count.
        part = min(1.0, float(policy.lowest) * 2)
        if part < 1:
            add(f"{policy.minimum - 1} of many events failed", (whole, few / part, part), fires=False)
    found += _weighting(policy, whole, busy)
    return tuple(found)


def _weighting(policy: Policy, whole: int, busy: float) -> list[Case]:
    """Bad minutes with little traffic between good ones with much, and at the end nothing else.

    So the short windows are full of them, and an average of ratios would be over the long ones, too.
    """
    period = 5
    bad = int(float(policy.lowest) * period) + 1
    if bad >= period:
        return []
    last = max(short for _, short, _ in policy.windows) // policy.spacing
    quiet = busy * float(policy.lowest) / 50
    history = (Span(bad, quiet, 1.0), Span(period - bad, busy, 0.0)) * (whole // period) + (Span(last, quiet, 1.0),)
    if policy.holds(history, policy.spacing):
        return []
    return [Case("all fails while there is little traffic, and nothing while there is much", history, False)]


def clock(seconds: Fraction | int) -> str:
    return str(Duration(Decimal(int(seconds))))


def values(history: Sequence[Span], length: int, spacing: int) -> tuple[str, str]:
    """Errors and total as recorded, in promtool's notation: ``length`` steps, the last at the end.

    A sample is worth 30 s to the rules, and here stands for ``spacing`` seconds.
    """
    errors, totals = [], []
    steps = 0
    for span in reversed(history):
        n = min(span.steps, length - steps)
        if n <= 0:
            break
        steps += n
        worth = span.traffic * spacing / SAMPLE
        errors.append(_times(worth * span.share, n))
        totals.append(_times(worth, n))
    missing = length - steps
    head = [f"_x{missing}"] if missing else []
    return " ".join([*head, *reversed(errors)]), " ".join([*head, *reversed(totals)])


def _times(value: float, steps: int) -> str:
    text = f"{value:.10g}"
    return f"{text}x{steps - 1}" if steps > 1 else text
