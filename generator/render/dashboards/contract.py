"""The SLA report: what customers were promised, by the calendar, and what they got."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as m

from generator import names
from generator.model import Model
from generator.render.dashboards import ask
from generator.render.dashboards.style import (
    BAD,
    GOOD,
    KEEP_TIME,
    NEUTRAL,
    WATCH,
    AnyPanel,
    Ask,
    Column,
    Section,
    Step,
    Tile,
    dashboard,
    graph,
    grid,
    link,
    prose,
)

_RANGES = (
    ("This month", "now/M", "now"),
    ("Last month", "now-1M/M", "now-1M/M"),
    ("This quarter", "now/Q", "now"),
    ("Last quarter", "now-1Q/Q", "now-1Q/Q"),
)
LEFT_STEPS = (Step(None, NEUTRAL), Step(-1e9, BAD), Step(0.0, WATCH), Step(0.25, GOOD))


def render(model: Model) -> m.Dashboard | None:
    """The report, where anything has an SLA."""
    if not any(slo.sla for slo in model.slos):
        return None
    rows = min(sum(slo.sla is not None for slo in model.slos), 12) + 3
    ranges = " · ".join(f'<a href="/d/{names.SLA_UID}?from={start}&amp;to={end}">{shown}</a>' for shown, start, end in _RANGES)
    return dashboard(
        names.SLA_UID,
        "SLA report",
        "What customers were promised, by the calendar, and what they got. It opens with this month.",
        [
            Section(
                "top", "", [Tile("ranges", prose(f"Over: {ranges}"), 24, 2), Tile("table", _table(model), 24, rows), _course()]
            )
        ],
        tags=["sla"],
        since="now/M",
        links=[link("Overview", f"/d/{names.OVERVIEW_UID}", icon="apps")],
        refresh="5m",
    )


def _course() -> Tile:
    panel = graph(
        "Left of each promise, in its own month or quarter",
        "It begins at 100% with each period, and must not reach 0 before its end. A step down is an incident; a slope that "
        "gets there before the end needs work now. Counted by whole hours, in UTC: the table above is up to an hour ahead.",
        [Ask(ask.sla_left(), "{{service}} {{slo}}")],
        empty="Nothing has been recorded in this range: it is counted by whole hours.",
        unit="percentunit",
        limits=(Step(None, BAD), Step(0, "transparent")),
        lowest=-1,
        highest=1,
        decimals=1,
        values=False,
    )
    return Tile("course", panel, 24, 9)


def _table(model: Model) -> AnyPanel:
    slos = [slo for slo in model.slos if slo.sla]
    return grid(
        "Promises, over the time at the top right",
        "“Left” is the part of what may fail that has not failed yet: at 0 the contract is broken. "
        "Compare a promise only over the period that it is counted in.",
        [
            Ask(ask.contract_left(slos), instant=True, ref="Left"),
            Ask(ask.promised(slos), instant=True, ref="Promised"),
            Ask(ask.kept_promise(slos), instant=True, ref="Kept"),
            Ask(ask.sla_events(slos, bad=True), instant=True, ref="Bad"),
            Ask(ask.sla_events(slos, bad=False), instant=True, ref="All"),
        ],
        [
            Column("service", "Service", 180, link=("Open the service", f"/d/${{__data.fields.dashboard}}?{KEEP_TIME}")),
            Column("title", "Promise"),
            Column("slo", "SLO", 200),
            Column("period", "Counted by", 110),
            Column("Value #Promised", "Promised", 110, "percentunit", 3),
            Column("Value #Kept", "Was", 110, "percentunit", 3, empty="no events"),
            Column("Value #Left", "Left", 120, "percentunit", 1, limits=LEFT_STEPS, below=(0.0, "Broken"), empty="no events"),
            Column("Value #Bad", "Bad events", 120, "locale", 0),
            Column("Value #All", "All events", 120, "locale", 0),
            Column("dashboard"),
        ],
        empty="Nothing has been recorded in this range: the first sums appear five minutes after the start.",
        sort=[("Left", False)],
    )
