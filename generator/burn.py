"""What a burn-rate policy means in time: when an outage is noticed, and when its alert goes away again.

For an outage that begins at once after good times and stays the same. A window of length w holds the outage's error
ratio e after t seconds at e × t / w; so it passes the threshold after t = w × threshold / e. Both windows must, and the
long one is the later. Once it is over, the short window falls below first.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

from generator.model import BurnWindow, ResolvedSlo
from generator.units import Duration, percent, plain

SEVERITIES = ("critical", "warning")


@dataclass(frozen=True)
class Outage:
    """A share of bad events, from 0 to 1, and what people call it."""

    name: str
    ratio: Decimal


@dataclass(frozen=True)
class Times:
    """Seconds until an alert notices an outage, and from its end until the alert is over; None for never."""

    detect: Decimal | None
    reset: Decimal | None


@dataclass(frozen=True)
class Condition:
    """One condition of an alert, with its times for each outage."""

    severity: str
    window: BurnWindow
    threshold: Decimal
    times: tuple[Times, ...]


def outages(slo: ResolvedSlo) -> tuple[Outage, ...]:
    """The outages that the table is about."""
    return (
        Outage("100%", Decimal(1)),
        Outage("10%", Decimal("0.1")),
        Outage("1%", Decimal("0.01")),
        Outage(f"2× budget ({percent(2 * slo.budget)})", 2 * slo.budget),
    )


def conditions(slo: ResolvedSlo) -> list[Condition]:
    """Every condition of an SLO's burn-rate alerts."""
    found = []
    for severity in SEVERITIES:
        for window in slo.burn.get(severity, ()):
            threshold = window.factor * slo.budget
            found.append(Condition(severity, window, threshold, tuple(times(window, threshold, o) for o in outages(slo))))
    return found


def times(window: BurnWindow, threshold: Decimal, outage: Outage) -> Times:
    """When one condition notices an outage that goes on, and how long after its end it is over."""
    if outage.ratio <= threshold:
        return Times(None, None)
    share = threshold / outage.ratio
    return Times(window.long.seconds * share, window.short.seconds * (1 - share))


def first(found: list[Condition], severity: str, outage: int) -> Decimal | None:
    """Seconds until the first condition of a severity notices an outage; None when none does."""
    seconds = [t for c in found if c.severity == severity and (t := c.times[outage].detect) is not None]
    return min(seconds, default=None)


def shown(seconds: Decimal | None) -> str:
    """Seconds for people: two units at most, ``-`` for never."""
    if seconds is None:
        return "never"
    step = Decimal(1) if seconds < 600 else Decimal(60) if seconds < 86400 else Decimal(3600)
    return str(Duration((seconds / step).to_integral_value(ROUND_CEILING) * step))


def as_json(slo: ResolvedSlo) -> dict[str, object]:
    """The table as data; times in seconds."""
    found = conditions(slo)
    return {
        "slo": f"{slo.service}/{slo.name}",
        "objective": percent(slo.objective),
        "window": str(slo.window),
        "policy": slo.policy,
        "minimum_events": slo.minimum_events,
        "conditions": [
            {
                "severity": c.severity,
                "long": str(c.window.long),
                "short": str(c.window.short),
                "factor": float(c.window.factor),
                "budget_spent": percent(_rounded(c.window.budget)),
                "error_ratio": float(c.threshold),
                "outages": {
                    o.name: {
                        "detected_after": None if t.detect is None else float(t.detect),
                        "over_after": None if t.reset is None else float(t.reset),
                    }
                    for o, t in zip(outages(slo), c.times, strict=True)
                },
            }
            for c in found
        ],
    }


def rows(slo: ResolvedSlo) -> list[list[str]]:
    """The table as text: for each condition what it is, and for each outage "noticed / over"."""
    out = []
    for c in conditions(slo):
        cells = [
            c.severity,
            f"{c.window.long} and {c.window.short}",
            plain(_rounded(c.window.factor)),
            percent(_rounded(c.threshold)),
        ]
        cells += [f"{shown(t.detect)} / {shown(t.reset)}" if t.detect is not None else "never" for t in c.times]
        out.append(cells)
    return out


def _rounded(value: Decimal) -> Decimal:
    return value.quantize(Decimal("1e-6")).normalize()
