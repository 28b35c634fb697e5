"""The graphs that a service asks for under ``panels``, under their headings."""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.builders import common as c
from grafana_foundation_sdk.builders import stat
from grafana_foundation_sdk.models import common as cm

from generator.model import ResolvedPanel, ResolvedService
from generator.render.dashboards import style
from generator.render.dashboards.style import BLUE, Ask, Section, Step, Tile, graph, steps

_UNITS = {"number": "short", "percent": "percentunit", "seconds": "s", "bytes": "bytes", "per second": "reqps"}
_EMPTY = "Nothing yet: is the metric exported, and is its name right?"


def sections(service: ResolvedService) -> list[Section]:
    """A row for each heading, in the file's order."""
    groups: dict[str, list[ResolvedPanel]] = {}
    for panel in service.panels:
        groups.setdefault(panel.group, []).append(panel)
    return [
        Section(f"own-{group}", group, [Tile(f"own-{p.title}", _panel(p), 6 if p.show == "number" else 12, 8) for p in panels])
        for group, panels in groups.items()
    ]


def _panel(panel: ResolvedPanel) -> Any:
    about = panel.description or f"As services.{panel.service}.panels of slos.yaml asks for."
    asks = [Ask(expr, instant=panel.show == "number") for expr in panel.exprs]
    if panel.show == "number":
        number = stat.Panel().title(panel.title).description(about).no_value(_EMPTY).unit(_UNITS[panel.unit])
        number.color_mode(cm.BigValueColorMode.VALUE).graph_mode(cm.BigValueGraphMode.NONE)
        number.reduce_options(c.ReduceDataOptions().calcs(["lastNotNull"])).thresholds(steps(Step(None, BLUE)))
        return style._targets(number, asks)
    made = graph(panel.title, about, asks, empty=_EMPTY, unit=_UNITS[panel.unit], lowest=None)
    if panel.show == "bars":
        made.draw_style(cm.GraphDrawStyle.BARS).fill_opacity(60)
    return made
