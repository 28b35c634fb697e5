"""Alertmanager's configuration: receivers, routes, escalation, grouping, inhibition, times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from generator import names
from generator.model import Model, ResolvedRoute, ResolvedRouting, ResolvedService
from generator.render import Artifact
from generator.render.yamltext import dump

# The receiver of what nobody is to be told; it has no configuration, so it sends nothing.
NOBODY = "nobody"


def render(model: Model) -> list[Artifact]:
    """The one configuration file."""
    return [Artifact("alertmanager/generated/alertmanager.yml", dump(configuration(model)))]


def configuration(model: Model) -> dict[str, Any]:
    """The configuration as data."""
    routing = model.routing
    routes: list[Node] = [
        {
            "receiver": receiver_name(routing.watchdog),
            "matchers": [_matcher("alertname", (names.ALERT_WATCHDOG,))],
            # A beat each minute: its silence is noticed after a few of them. Alertmanager compares the time since the last one
            # was delivered, a little after its minute, so a repeat of one minute would be every other time.
            "group_wait": "0s",
            "group_interval": "1m",
            "repeat_interval": "30s",
        },
        *_under_maintenance(model),
    ]
    out: dict[str, Any] = {
        "global": {"resolve_timeout": "5m"},
        "templates": [names.ALERTMANAGER_TEMPLATES],
        "route": {
            "receiver": receiver_name(routing.default),
            "group_by": list(routing.group_by),
            "group_wait": routing.wait,
            "group_interval": routing.interval,
            "repeat_interval": routing.repeat,
            "routes": routes,
        },
        "inhibit_rules": _inhibit(model),
        "receivers": _receivers(routing),
    }
    if intervals := _intervals(model, _mutes(routes)):
        out["time_intervals"] = intervals
    return out


Node = dict[str, Any]
# Labels with the values that an alert has when it comes to a part of the tree; a label that is not there can be anything.
Known = Mapping[str, tuple[str, ...]]


def _under_maintenance(model: Model) -> list[Node]:
    """The routes; and for services with maintenance windows of their own a copy that is muted in them."""
    routing = model.routing
    everybody = tuple(f"maintenance {m.name}" for m in model.maintenance if not m.services)
    windows: dict[tuple[str, ...], list[str]] = {}
    for service in model.services:
        own = tuple(f"maintenance {m.name}" for m in model.maintenance if not m.services or service.name in m.services)
        if own != everybody:
            windows.setdefault(own, []).append(service.name)
    nodes: list[Node] = []
    for mute, services in windows.items():
        known = {"service": tuple(services)}
        inside = _tree(routing, routing.routes, known, mute)
        nodes.append({"matchers": [_matcher("service", known["service"])], "routes": inside})
    return nodes + _tree(routing, routing.routes, {}, everybody)


def _tree(routing: ResolvedRouting, routes: Sequence[ResolvedRoute], known: Known, mute: tuple[str, ...]) -> list[Node]:
    """Routes so that the first one whose conditions hold gets an alert.

    To Alertmanager a route outside of its hours still matches, and keeps what it matches from the routes after it. So
    a route with hours becomes a node for what it matches, in which the routes after it are repeated, muted while it is
    open; those that cannot match there are left out.
    """
    nodes: list[Node] = []
    for index, route in enumerate(routes):
        inside = _narrowed(known, route.match)
        if inside is None:
            continue
        matchers = [_matcher(label, values) for label, values in route.match.items() if known.get(label) != values]
        if not route.timed:
            nodes += _deliver(route, matchers, mute)
        else:
            hours = str(route.during or route.outside)
            closed, open_ = (f"outside {hours}", hours) if route.during else (hours, f"outside {hours}")
            opened = _deliver(route, [], (*mute, closed))
            opened[-1]["continue"] = True
            after = _tree(routing, routes[index + 1 :], inside, tuple(dict.fromkeys((*mute, open_))))
            node: Node = {"matchers": matchers} if matchers else {}
            nodes.append({**node, "routes": opened + after})
        if not matchers:
            return nodes
    if mute:
        nodes.append({"receiver": receiver_name(routing.default), "mute_time_intervals": list(mute)})
    return nodes


def _narrowed(known: Known, match: Known) -> dict[str, tuple[str, ...]] | None:
    """What is known of an alert once it has matched; None when it cannot."""
    out = dict(known)
    for label, values in match.items():
        both = tuple(v for v in values if v in known[label]) if label in known else values
        if not both:
            return None
        out[label] = both
    return out


def _deliver(route: ResolvedRoute, matchers: list[str], mute: tuple[str, ...]) -> list[Node]:
    """The nodes of one route: its receivers, then each step of its escalation.

    Alertmanager has no escalation of its own; a route beside the first that waits longer before it says anything is
    what its maintainers propose (https://github.com/prometheus/alertmanager/issues/2150). It counts from the beginning
    of the alert, and an alert that is over, silenced or inhibited by then is not escalated.
    """
    steps = [(None, route.to), *route.escalate]
    nodes = []
    for position, (after, to) in enumerate(steps):
        node: Node = {"receiver": receiver_name(to)}
        if matchers:
            node["matchers"] = list(matchers)
        if position < len(steps) - 1:
            node["continue"] = True
        if after is not None:
            node["group_wait"] = after
        if mute:
            node["mute_time_intervals"] = list(mute)
        nodes.append(node)
    return nodes


def _mutes(nodes: list[Node]) -> set[str]:
    """Every time interval that a tree refers to."""
    found: set[str] = set()
    for node in nodes:
        found |= {*node.get("mute_time_intervals", ())} | _mutes(node.get("routes", []))
    return found


def _intervals(model: Model, used: set[str]) -> list[Node]:
    out = [(f"maintenance {m.name}", m.when.intervals()) for m in model.maintenance]
    for name, hours in model.routing.hours.items():
        out += [(name, hours.intervals()), (f"outside {name}", hours.outside())]
    return [{"name": name, "time_intervals": entries} for name, entries in out if name in used]


def receiver_name(to: tuple[str, ...]) -> str:
    """Alertmanager's receiver for a list of ours: it sends one notification to one receiver, so a list becomes one."""
    return " + ".join(to) if to else NOBODY


def _matcher(label: str, values: tuple[str, ...]) -> str:
    if len(values) == 1:
        return f'{label}="{values[0]}"'
    return f'{label}=~"{"|".join(_escape(v) for v in values)}"'


def _escape(value: str) -> str:
    # Names hold letters, digits, '-', '_' and '.': only the dot means something in a regular expression.
    return value.replace(".", "\\\\.")


def _receivers(routing: ResolvedRouting) -> list[dict[str, Any]]:
    told = {routing.default, *(route.to for route in routing.routes)}
    told |= {to for route in routing.routes for _, to in route.escalate}
    out = []
    for to in sorted({*told, routing.watchdog, ()}):
        receiver: dict[str, Any] = {"name": receiver_name(to)}
        for name in to:
            for part in routing.receivers[name]:
                for section, block in part.blocks():
                    # To what counts beats, the word that they have stopped would be one more.
                    beats = {} if to in told else {"send_resolved": False}
                    receiver.setdefault(section, []).append({**block, **beats})
        out.append(receiver)
    return out


def _inhibit(model: Model) -> list[dict[str, Any]]:
    """The higher severity mutes the lower of the same SLO; an outage mutes what follows from it, here and downstream."""
    rules: list[dict[str, Any]] = [
        {
            "source_matchers": [_matcher("alertname", (names.burn_alert("critical"),))],
            "target_matchers": [_matcher("alertname", (names.burn_alert("warning"),))],
            "equal": list(names.IDENTITY),
        },
        {
            "source_matchers": [_matcher("alertname", (names.ALERT_EXHAUSTED,))],
            "target_matchers": [_matcher("alertname", (names.ALERT_FREEZE,))],
            "equal": list(names.IDENTITY),
        },
    ]
    for service in model.services:
        source = _outage(service)
        rules.append(
            {
                "source_matchers": source,
                "target_matchers": [_matcher("service", (service.name,)), _matcher("alertname", (names.ALERT_NO_DATA,))],
            }
        )
        if downstream := _downstream(model, service.name):
            rules.append({"source_matchers": source, "target_matchers": [_matcher("service", downstream)]})
    return rules


def _outage(service: ResolvedService) -> list[str]:
    """Matchers for the alerts that mean that a service is down, and not merely in danger."""
    alerts = [names.burn_alert("critical"), names.ALERT_PROBE, *(a.name for a in service.alerts if a.outage)]
    return [
        _matcher("service", (service.name,)),
        _matcher("severity", ("critical",)),
        _matcher("alertname", tuple(alerts)),
    ]


def _downstream(model: Model, name: str) -> tuple[str, ...]:
    """The services that depend on one, directly or through others, in the file's order."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        for below in model.dependants.get(waiting.pop(), ()):
            if below not in found and below != name:
                found.add(below)
                waiting.append(below)
    return tuple(service.name for service in model.services if service.name in found) if found else ()
