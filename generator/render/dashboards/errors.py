"""The page of errors: what fails, where, since when, how often, and which of it is new since the last deployment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from grafana_foundation_sdk.models import dashboard as m

from generator import names
from generator.model import Model
from generator.render.dashboards import ask
from generator.render.dashboards.style import (
    BAD,
    BLUE,
    CLOCK,
    KEEP_ENVIRONMENT,
    KEEP_TIME,
    NEUTRAL,
    Ask,
    Choices,
    Column,
    Looked,
    Section,
    Step,
    TextBox,
    Tile,
    dashboard,
    environment,
    fine,
    graph,
    grid,
    link,
    log_lines,
    panel_id,
    rows,
    tile_number,
)

TITLE = "Error tracking"
CHOSEN = ask.Like("$service")
_EMPTY = fine("No error was logged in this range, for what is chosen above.")
_HERE = f"/d/{names.ERRORS_UID}?{KEEP_ENVIRONMENT}&var-service=${{service}}"
TO_ERROR = f"{_HERE}&var-kind=${{__data.fields.Error}}&var-place=${{__data.fields.Where}}&{KEEP_TIME}"
TO_TRACE = f"/d/{names.INCIDENT_UID}?{KEEP_ENVIRONMENT}&var-trace=${{__data.fields.Trace}}&{KEEP_TIME}"
# The panels whose answers others show too.
_GROUPS = panel_id(names.ERRORS_UID, "top", "groups")
_LINES = panel_id(names.ERRORS_UID, "lines", "lines")
NEW = {"1": ("New", BAD), "0": ("Known", NEUTRAL)}


def render(model: Model, more: Sequence[Section] = ()) -> m.Dashboard:
    """The page of errors, with ``more`` that services show of theirs."""
    logging = sorted({ask.telemetry_name(service) for service in model.services})
    shown = [(ask.any_of([name]), name) for name in logging]
    variables = [
        Choices("service", "Service", shown, every=".+", description="That logs them: its service.name.").model(),
        TextBox("kind", "Error", "Its type or the beginning of it; a row of the table fills it in.").model(),
        TextBox("place", "Where", "The place or the beginning of it; a row of the table fills it in.").model(),
        environment(),
        Looked("deployed", ask.deployed("$service"), ask.NEVER).model(),
    ]
    sections = [
        Section("top", "", [*_numbers(), Tile("groups", _groups(), 24, 11), Tile("trend", _trend(), 24, 7)]),
        Section(
            "lines", "The newest of them, each with its trace", [Tile("lines", _lines(), 12, 10), Tile("all", _all(), 12, 10)]
        ),
        *more,
    ]
    return dashboard(
        names.ERRORS_UID,
        TITLE,
        "What fails, where, since when, how often, and what is new since the last deployment. From logs at level error.",
        sections,
        tags=["errors"],
        since="now-6h",
        links=[
            link("Overview", f"/d/{names.OVERVIEW_UID}", icon="apps"),
            link("Incident", f"/d/{names.INCIDENT_UID}?{KEEP_ENVIRONMENT}", icon="search"),
        ],
        variables=variables,
        refresh="1m",
    )


def _numbers() -> list[Tile]:
    new = tile_number(
        "New since the deployment",
        "Kinds of errors that were first seen after the newest deployment in the range. The deployment is the likeliest cause: "
        "take it back. With no deployment in the range, nothing counts as new.",
        Ask("", source="loki", instant=True, of=_GROUPS),
        words={"0": ("None", NEUTRAL)},
        limits=(Step(None, NEUTRAL), Step(1, BAD)),
        empty="No errors",
        column=("Value #New", "sum"),
    )
    every = tile_number(
        "Errors",
        "Log lines at level error or above in the range.",
        Ask("", source="loki", instant=True, of=_GROUPS),
        words={},
        limits=(Step(None, NEUTRAL),),
        empty="No errors",
        unit="locale",
        column=("Value #Count", "sum"),
    )
    return [Tile("new", new, 12, 3), Tile("every", every, 12, 3)]


def _groups() -> Any:
    return grid(
        "Errors by type and place: new ones first, then the most frequent",
        "New: first seen after the newest deployment in the range. A row narrows the page to that error; its lines and traces "
        "are below. Choose a range that begins before the deployment.",
        [
            Ask(ask.error_groups(CHOSEN, boxes=True), source="loki", instant=True, ref="Count"),
            Ask(ask.error_is_new(CHOSEN), source="loki", instant=True, ref="New"),
            Ask(f"{ask.error_seen(CHOSEN)} * 1000", source="loki", instant=True, ref="First"),
            Ask(f"{ask.error_seen(CHOSEN, last=True)} * 1000", source="loki", instant=True, ref="Last"),
        ],
        [
            Column("Value #New", "New", 80, words=NEW, limits=(Step(None, NEUTRAL),), filled=True, empty="–"),
            Column("kind", "Error", link=("Only this error", TO_ERROR)),
            Column("place", "Where", link=("Only this error", TO_ERROR)),
            Column("service_name", "Service", 150),
            Column("Value #Count", "Times", 80, decimals=0),
            Column("Value #First", "First seen", 130, CLOCK),
            Column("Value #Last", "Last seen", 150, "dateTimeFromNow"),
        ],
        empty=_EMPTY,
        sort=[("New", True), ("Times", True)],
    )


def _trend() -> Any:
    return graph(
        "Errors over time",
        "When each began, and whether it goes on. One that begins at a mark of a deployment comes with it.",
        [Ask(ask.error_groups(CHOSEN, boxes=True, span="$__auto"), "{{kind}} in {{place}}", source="loki")],
        empty=_EMPTY,
        decimals=0,
        values=False,
        stacked=True,
        bars=True,
        trouble=True,
    ).max_data_points(180)


def _lines() -> Any:
    # Each line costs more to send than to find.
    return lines("Lines and their traces", Ask(ask.error_lines(CHOSEN, boxes=True), source="loki", limit=300), empty=_EMPTY)


def lines(title: str, ask_: Ask, *, empty: str) -> Any:
    """Lines at level error or above, each with its trace."""
    return rows(
        title,
        "The column Trace opens the request that wrote it, with its spans and all of its lines.",
        ask_,
        [
            Column("Time", "When", 130, CLOCK),
            Column("Line", "Line"),
            Column("trace_id", "Trace", 100, link=("Its spans and log lines", TO_TRACE), empty="none"),
        ],
        empty=empty,
        sort=[("When", True)],
    )


def _all() -> Any:
    return log_lines(
        "Lines with all of their fields, newest first",
        "Open a line for its version, function, process and error's message.",
        Ask("", source="loki", of=_LINES),
    )


def top(telemetry: str) -> Any:
    """The most frequent errors of a service."""
    to = (
        f"/d/{names.ERRORS_UID}?{KEEP_ENVIRONMENT}&var-service={telemetry}"
        f"&var-kind=${{__data.fields.Error}}&var-place=${{__data.fields.Where}}&{KEEP_TIME}"
    )
    return grid(
        "Top errors",
        "By type and place. A row opens its first and last time, its lines and traces.",
        [Ask(f"topk(10, {ask.error_groups(telemetry)})", source="loki", instant=True)],
        [
            Column("kind", "Error", link=("When, how often, which requests", to)),
            Column("place", "Where", link=("When, how often, which requests", to)),
            Column("Value #A", "Times", 80, decimals=0, limits=(Step(None, BLUE),)),
            Column("service_name"),
        ],
        empty=fine(f"{telemetry} logged no error in this range."),
        sort=[("Times", True)],
    )
