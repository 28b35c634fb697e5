"""The graphs that services ask for under ``panels``: on the service's page, and a page for each heading that they have."""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.builders import common as c
from grafana_foundation_sdk.builders import stat
from grafana_foundation_sdk.models import common as cm
from grafana_foundation_sdk.models import dashboard as m

from generator import names
from generator.model import Model, ResolvedPanel, ResolvedService
from generator.render.dashboards import ask, style
from generator.render.dashboards.style import BLUE, Ask, Section, Step, Tile, graph, link, steps

_UNITS = {"number": "short", "percent": "percentunit", "seconds": "s", "bytes": "bytes", "per second": "suffix:/s"}
_EMPTY = "Nothing in this range: is it exported?"
# The heading of those that name none: they stay on the service's page.
UNNAMED = "Metrics"


def sections(service: ResolvedService) -> list[Section]:
    """A row for each heading, in the file's order."""
    groups: dict[str, list[ResolvedPanel]] = {}
    for panel in service.panels:
        groups.setdefault(panel.group, []).append(panel)
    return [Section(f"own-{group}", group, _tiles(panels)) for group, panels in groups.items()]


def _tiles(panels: list[ResolvedPanel]) -> list[Tile]:
    # Numbers first, beside each other: between graphs they would leave holes.
    numbers = [panel for panel in panels if panel.show == "number"]
    width = style.WIDTH // min(max(len(numbers), 1), 4)
    rest = [panel for panel in panels if panel.show != "number"]
    return [
        *(Tile(f"own-{panel.title}", _panel(panel), width, 4) for panel in numbers),
        *(Tile(f"own-{panel.title}", _panel(panel), style.WIDTH // 2, 8) for panel in rest),
    ]


def headings(model: Model) -> dict[str, tuple[str, list[ResolvedService]]]:
    """The page of each heading by uid: its title, and the services with panels under it."""
    found: dict[str, tuple[str, list[ResolvedService]]] = {}
    for service in model.services:
        for group in dict.fromkeys(panel.group for panel in service.panels):
            if group != UNNAMED:
                found.setdefault(names.board_uid(group), (group, []))[1].append(service)
    return found


def of_heading(uid: str, services: list[ResolvedService]) -> list[Section]:
    """The rows of a heading's page, one for each service."""
    found = []
    for service in services:
        panels = [panel for panel in service.panels if names.board_uid(panel.group) == uid]
        # One service alone needs no heading of its own.
        found.append(Section(f"own-{service.name}", service.title if len(services) > 1 else "", _tiles(panels)))
    return found


def render(uid: str, title: str, services: list[ResolvedService]) -> m.Dashboard:
    """The page of a heading."""
    links = [link("Overview", f"/d/{names.OVERVIEW_UID}", icon="apps")]
    links += [link(service.title, f"/d/{names.service_uid(service.name)}", icon="arrow-left") for service in services]
    return style.dashboard(
        uid,
        title,
        f"What {' and '.join(service.title for service in services)} measure under “{title}” in slos.yaml.",
        of_heading(uid, services),
        tags=["board", *(f"service:{service.name}" for service in services)],
        since="now-6h",
        links=links,
    )


def _panel(panel: ResolvedPanel) -> Any:
    about = (
        panel.description or f"Change it under services.{panel.service}.panels of slos.yaml, and say there what to look for."
    )
    asks = [Ask(expr, ask.series_name(expr, panel.title), instant=panel.show == "number") for expr in panel.exprs]
    if panel.show == "number":
        number = stat.Panel().title(panel.title).description(about).no_value(_EMPTY).unit(_UNITS[panel.unit])
        number.color_mode(cm.BigValueColorMode.VALUE).graph_mode(cm.BigValueGraphMode.NONE)
        number.reduce_options(c.ReduceDataOptions().calcs(["lastNotNull"])).thresholds(steps(Step(None, BLUE)))
        return style.with_queries(number, asks)
    trouble, bars = style.is_trouble(panel.group, panel.title), panel.show == "bars"
    return graph(panel.title, about, asks, empty=_EMPTY, unit=_UNITS[panel.unit], lowest=None, bars=bars, trouble=trouble)
