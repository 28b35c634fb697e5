"""Burn-rate policies: those that are built in, and what one means for an objective."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING

from generator.diagnostics import Note
from generator.model.resolved import LONGEST_WINDOW, MINUTE, BurnWindow
from generator.source import Path_
from generator.spec import Policy, Window
from generator.units import Duration, percent, plain

if TYPE_CHECKING:
    from generator.model.given import Given


def _window(long: str, short: str, budget: str) -> Window:
    return Window.model_validate({"long": long, "short": short, "budget": budget})


_TICKETS = [_window("1d", "2h", "10%"), _window("3d", "6h", "10%")]

# Google's SRE Workbook, chapter 5, table 5-8: https://sre.google/workbook/alerting-on-slos/
BUILT_IN_POLICIES: Mapping[str, Policy] = MappingProxyType(
    {
        "standard": Policy(
            critical=[_window("1h", "5m", "2%"), _window("6h", "30m", "5%")],
            warning=_TICKETS,
        ),
        # For what can wait until the morning.
        "tickets": Policy(critical=[], warning=_TICKETS),
        "none": Policy(critical=[], warning=[]),
    }
)


def check(given: Given) -> None:
    """Policies of the file's own whose windows or shares are none."""
    for name, policy in given.spec.alerting.items():
        at: Path_ = ("alerting", name)
        if name in BUILT_IN_POLICIES:
            given.say("reserved-name", f"the policy {name!r} is built in", at, "give yours another name", on_key=True)
        for severity in ("critical", "warning"):
            for index, window in enumerate(getattr(policy, severity)):
                here = (*at, severity, index)
                if window.short < MINUTE * 2:
                    given.say("bad-window", f"{window.short} is shorter than 2m, which a window has at least", (*here, "short"))
                elif window.long > LONGEST_WINDOW:
                    given.say("bad-window", f"{window.long} is longer than {LONGEST_WINDOW}", (*here, "long"))
                elif window.short >= window.long:
                    given.say(
                        "bad-window",
                        f"the short window {window.short} is not shorter than {window.long}",
                        (*here, "short"),
                        note=Note(given.source.value_span((*here, "long")), "the long window"),
                    )
                if window.budget is not None and window.budget <= 0:
                    given.say("bad-percent", "a share of 0% is always spent", (*here, "budget"))


def conditions(given: Given, objective: Decimal, window: Duration, name: str, at: Path_) -> dict[str, tuple[BurnWindow, ...]]:
    """The conditions of a policy for an objective. Raises a diagnostic for one that cannot hold.

    A burn rate of ``factor`` spends the share ``budget`` of the whole budget within the long window:
    factor = budget × window / long.
    """
    policy = given.policies.get(name)
    burn: dict[str, tuple[BurnWindow, ...]] = {}
    if policy is None or not 0 < objective < 1:
        return burn
    # One diagnostic for an objective: the shortest window asks the most, so what allows it allows the others.
    impossible = False
    for severity in ("critical", "warning"):
        conditions = []
        for w in getattr(policy, severity):
            if not w.long.seconds:
                continue  # check has said so
            factor = w.factor if w.factor is not None else (w.budget or Decimal(0)) * window.seconds / w.long.seconds
            budget = w.budget if w.budget is not None else factor * w.long.seconds / window.seconds
            if w.long > window or factor < 1:
                # Below 1 the budget would outlast the SLO's window: nothing to wake anybody for.
                continue
            if factor * (1 - objective) >= 1 and not impossible:
                impossible = True
                allowed = 1 - 1 / factor
                given.say(
                    "impossible-alert",
                    f"the {severity} alert over {w.long} cannot fire: it needs an error ratio above "
                    f"{percent((factor * (1 - objective)).normalize())}",
                    (*at, "objective"),
                    f"an objective above {plain((allowed * 100).quantize(Decimal('0.01')))}% allows it; or set alerting: "
                    "to a policy with a smaller budget share over this window",
                )
            conditions.append(BurnWindow(w.long, w.short, budget, factor))
        if conditions:
            burn[severity] = tuple(conditions)
    return burn
