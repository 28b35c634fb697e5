"""Alertmanager's configuration: receivers, routes, grouping, inhibition."""

from __future__ import annotations

from typing import Any

from generator import names
from generator.model import Model, ResolvedRouting
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
    routes: list[dict[str, Any]] = [
        {
            "receiver": receiver_name(routing.watchdog),
            "matchers": [_matcher("alertname", (names.ALERT_WATCHDOG,))],
            # A heartbeat's silence is noticed after a few of these.
            "group_wait": "0s",
            "group_interval": "1m",
            "repeat_interval": "1m",
        }
    ]
    routes += [
        {
            "receiver": receiver_name(route.to),
            "matchers": [_matcher(label, values) for label, values in route.match.items()],
        }
        for route in routing.routes
    ]
    return {
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
    lists = {routing.default, routing.watchdog, *(route.to for route in routing.routes), ()}
    out = []
    for to in sorted(lists):
        receiver: dict[str, Any] = {"name": receiver_name(to)}
        for name in to:
            for part in routing.receivers[name]:
                receiver.setdefault(part.section, []).append(part.block())
        out.append(receiver)
    return out


def _inhibit(model: Model) -> list[dict[str, Any]]:
    """The higher severity mutes the lower of the same SLO; a service's page mutes what depends on it."""
    rules: list[dict[str, Any]] = [
        {
            "source_matchers": [_matcher("alertname", (names.burn_alert("critical"),))],
            "target_matchers": [_matcher("alertname", (names.burn_alert("warning"),))],
            "equal": list(names.IDENTITY),
        }
    ]
    downstream: dict[str, list[str]] = {}
    for service in model.services:
        for dependency in service.depends_on:
            downstream.setdefault(dependency, []).append(service.name)
    for dependency, services in downstream.items():
        rules.append(
            {
                "source_matchers": [_matcher("service", (dependency,)), _matcher("severity", ("critical",))],
                "target_matchers": [_matcher("service", tuple(services))],
            }
        )
    return rules
