"""Receivers, routes, hours and maintenance; and what the routes do with the alerts of the file."""

from __future__ import annotations

from generator import receivers, schedule
from generator.diagnostics import Note, did_you_mean
from generator.model.given import Given
from generator.model.resolved import Model, ResolvedMaintenance, ResolvedRoute, ResolvedRouting, alert_labels
from generator.schedule import Hours, Once
from generator.source import Path_
from generator.units import Duration

_ROUTE_LABELS = {"alert": "alertname"}


def resolve_maintenance(given: Given, name: str) -> ResolvedMaintenance:
    """A maintenance window."""
    spec = given.spec.maintenance[name]
    zone = spec.timezone or given.spec.defaults.timezone
    when: Hours | Once
    if spec.start is not None and spec.end is not None:
        when = Once(spec.start, spec.end, zone)
        if spec.end - spec.start > schedule.LONGEST_ONCE:
            given.say(
                "bad-time",
                f"a maintenance window of more than {schedule.LONGEST_ONCE.days} days",
                ("maintenance", name, "until"),
                "who would notice an outage in it? Make it shorter, or remove the alerts",
            )
    else:
        when = Hours(spec.days, spec.times, spec.dates, zone)
        _check_hours(given, when, ("maintenance", name))
    return ResolvedMaintenance(name, spec.reason, tuple(spec.services), when)


def _check_hours(given: Given, hours: Hours, at: Path_) -> None:
    if hours.dates is not None and any(t.end > schedule.MIDNIGHT for t in hours.times or ()):
        given.say(
            "bad-time",
            "times that pass midnight cannot be bound to days of the month: the next day may be another month's",
            (*at, "times"),
            "make two windows, one to 24:00 and one from 00:00",
        )


def resolve_routing(given: Given) -> ResolvedRouting:
    """The receivers, and the routes to them."""
    spec = given.spec.routing
    by_name = {
        name: tuple(part for kind in receivers.KINDS if (part := getattr(value, kind)) is not None)
        for name, value in spec.receivers.items()
    }
    routes: list[ResolvedRoute] = []
    for route in spec.routes:
        match = {
            _ROUTE_LABELS.get(label, label): tuple(values)
            for label in ("alert", "severity", "owner", "service", "tier")
            if (values := getattr(route, label))
        }
        steps = tuple((step.after, tuple(step.to)) for step in route.escalate)
        _check_escalation(given, tuple(route.to), steps, spec.grouping.wait, ("routing", "routes", len(routes), "escalate"))
        routes.append(ResolvedRoute(match, tuple(route.to), route.during, route.outside, steps))
    if spec.grouping.interval.seconds <= 0 or spec.grouping.repeat < spec.grouping.interval:
        given.say("bad-interval", "repeat must be at least interval, and interval more than 0s", ("routing", "grouping"))
    return ResolvedRouting(
        receivers=by_name,
        default=tuple(spec.default or ()),
        watchdog=tuple(spec.watchdog or ()),
        routes=tuple(routes),
        group_by=tuple(spec.grouping.by),
        wait=spec.grouping.wait,
        interval=spec.grouping.interval,
        repeat=spec.grouping.repeat,
        hours={name: _resolve_hours(given, name) for name in spec.hours},
    )


def _resolve_hours(given: Given, name: str) -> Hours:
    spec = given.spec.routing.hours[name]
    hours = Hours(spec.days, spec.times, spec.dates, spec.timezone or given.spec.defaults.timezone)
    _check_hours(given, hours, ("routing", "hours", name))
    if hours.days is None and hours.times is None and hours.dates is None:
        given.say("bad-time", f"the hours {name} are always", ("routing", "hours", name), "add days: or times:", on_key=True)
    return hours


def _check_escalation(
    given: Given, to: tuple[str, ...], steps: tuple[tuple[Duration, tuple[str, ...]], ...], wait: Duration, at: Path_
) -> None:
    told, latest = set(to), wait
    for index, (after, receivers_) in enumerate(steps):
        here: Path_ = (*at, index) if (*at, index) in given.source.values else at
        if after <= latest:
            given.say(
                "bad-escalation",
                f"{after} is not later than {latest}, when others are told",
                (*here, "after"),
                "give each step more time than the one before",
            )
        if set(receivers_) <= told:
            given.say(
                "bad-escalation",
                f"{', '.join(receivers_)} {'has' if len(receivers_) == 1 else 'have'} been told already",
                (*here, "to"),
                "escalate to somebody else; grouping.repeat says how often the same ones are reminded",
            )
        told |= set(receivers_)
        latest = after


def check_routes(given: Given, model: Model) -> None:
    """What routes do with the alerts that this file can make."""
    routing = model.routing
    used = {*routing.default, *routing.watchdog, *(name for route in routing.routes for name in route.to)}
    used |= {name for route in routing.routes for _, to in route.escalate for name in to}
    for name in routing.receivers:
        if name not in used:
            at: Path_ = ("routing", "receivers", name)
            given.say(
                "unused-receiver",
                f"nothing is routed to {name!r}",
                at,
                "name it in a route, or remove it",
                on_key=True,
                warning=True,
            )
    alerts = list(alert_labels(model))
    for index, route in enumerate(routing.routes):
        mine = [labels for _, labels in alerts if route.matches(labels)]
        if not mine:
            near = None
            if "owner" in route.match:
                near = did_you_mean(route.match["owner"][0], {labels["owner"] for _, labels in alerts}, "owners")
            at = ("routing", "routes", index)
            given.say("dead-route", "no alert of this file can match this route", at, near, warning=True)
            continue
        # Routes that are open at some times only leave alerts to later ones, so they are left out here.
        before = [(i, r) for i, r in enumerate(routing.routes[:index]) if not r.timed]
        takers = [next((i for i, r in before if r.matches(labels)), None) for labels in mine]
        if None not in takers:
            given.say(
                "dead-route",
                "every alert that this route matches goes to an earlier one",
                ("routing", "routes", index),
                "move it up, or remove it",
                warning=True,
                note=Note(given.source.value_span(("routing", "routes", takers[0] or 0)), "to this one, for example"),
            )
    lost: dict[tuple[str, str], str] = {}
    for what, labels in alerts:
        if not routing.reached(labels):
            lost.setdefault((labels["severity"], labels["owner"]), what)
    for (severity, owner), what in lost.items():
        given.say(
            "unrouted-alert",
            f"{severity} alerts of {owner} reach nobody, such as {what}",
            ("routing",) if "routing" in given.source.data else (),
            "set routing.default to a receiver, or add a route",
            warning=True,
        )
