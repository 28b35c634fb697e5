"""The page for "what happened for company X at 14:43": who, what and when in; executions, log lines and traces out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from grafana_foundation_sdk.models import dashboard as m

from generator import names
from generator.render.dashboards import ask
from generator.render.dashboards.alerts import ALERT_WORDS
from generator.render.dashboards.process import STATUSES, ended, executions
from generator.render.dashboards.style import (
    BAD,
    CLOCK,
    GOOD,
    KEEP_ENVIRONMENT,
    KEEP_TIME,
    NEUTRAL,
    WATCH,
    Ask,
    Column,
    Only,
    Section,
    Step,
    TextBox,
    Tile,
    dashboard,
    environment,
    fine,
    graph,
    history,
    line,
    link,
    one_trace,
    panel_id,
    prose,
    rows,
    tile_number,
)

_PAGE = f"/d/{names.INCIDENT_UID}?{KEEP_ENVIRONMENT}"
_HERE = f"{_PAGE}&var-company=${{company}}&var-process=${{process}}&var-request=${{request}}"
TO_TRACE = f"{_HERE}&var-trace=${{__data.fields.Trace}}&{KEEP_TIME}"
TO_COMPANY = f"{_PAGE}&var-company=${{__data.fields.Company}}&var-process=${{process}}&var-request=${{request}}&{KEEP_TIME}"
_HOW = (
    "<b>What happened?</b> Write whatever you know above: a company, a process or a request's id, whole or its beginning. "
    "Choose the time at the top right, such as 14:38 to 14:48. A company narrows the page to it; a trace shows its spans and "
    "all of its log lines below. What is left empty narrows nothing."
)
# The panels whose answers others show too: each answer reads every line of the range.
_FAILURES = panel_id(names.INCIDENT_UID, "top", "types")
_ERRORS = panel_id(names.INCIDENT_UID, "which", "errors")
# Lines to look through; each costs more to send than to find.
_MOST = 500
_FAILED = (("process_status", False, "success"),)
_LEVELS = {
    **{name: (name, BAD) for name in ("fatal", "critical", "error")},
    **{name: (name, WATCH) for name in ("warning", "warn")},
}
_ABOVE = "in this range, for what is written above"
_NONE_FAILED = fine(f"No execution failed {_ABOVE}.")
# Grafana's panel of spans cannot say it itself.
_NO_TRACE = (
    "No trace is chosen: choose one in the column Trace of a table above. "
    "Or the one that is chosen is no longer kept, or wrote no log lines."
)


def render() -> m.Dashboard:
    """The incident page."""
    boxes = [
        TextBox("company", "Company", "Its id or the beginning of it, as in the attribute company.id."),
        TextBox("process", "Process", "Its id or the beginning of it, as in the attribute process.id."),
        TextBox("request", "Request id", "As in the answer's header X-Request-ID, or the beginning of it."),
        TextBox("trace", "Trace", "Chosen in a table below.", hidden=True, default=ask.NO_TRACE),
    ]
    sections = [
        Section("top", "", [Tile("how", prose(_HOW), 24, 2), *_numbers(), *_when()]),
        Section("which", "", _which()),
        Section("trace", "The trace that is chosen, and its log lines", _story()),
        # Closed, for these read the most by far: every execution and every line. Grafana asks for them when it is opened.
        Section("around", "What else there was: every execution, alert and log line", _around(), collapsed=True),
    ]
    return dashboard(
        names.INCIDENT_UID,
        "Incident",
        "What happened, to whom, when: executions, log lines and traces by company, process or request.",
        sections,
        tags=["incident"],
        since="now-30m",
        links=[link("Overview", f"/d/{names.OVERVIEW_UID}", icon="apps")],
        variables=[*(box.model() for box in boxes), environment()],
        refresh="",
    )


def _numbers() -> list[Tile]:
    bad, any_number = (Step(None, NEUTRAL), Step(0, GOOD), Step(1, BAD)), (Step(None, NEUTRAL),)
    none = {"0": ("None", GOOD)}
    runs, lines = Ask("", source="loki", instant=True, of=_FAILURES), Ask("", source="loki", of=_ERRORS)

    def number(
        title: str,
        description: str,
        shown: Ask,
        column: tuple[str, str],
        only: Sequence[Only] = (),
        limits: tuple[Step, ...] = bad,
        words: Mapping[str, tuple[str, str]] = none,
    ) -> Tile:
        panel = tile_number(
            title,
            description,
            shown,
            words=words,
            limits=limits,
            empty="None at all",
            unit="locale",
            column=column,
            only=only,
        )
        return Tile(title, panel, 6, 3)

    companies = (*_FAILED, ("company_id", False, ""))
    most = {**none, str(_MOST): (f"{_MOST} or more", BAD)}
    return [
        number("Executions", "All that ended in the range.", runs, ("Value #A", "sum"), (), any_number, {}),
        number("Failed", "Those without success. Each is below.", runs, ("Value #A", "sum"), _FAILED),
        number("Companies hurt", "Many: the service. One: theirs.", runs, ("company_id", "distinctCount"), companies),
        number("Error logs", "Lines at level error or above; the newest below.", lines, ("Line", "count"), words=most),
    ]


def _when() -> list[Tile]:
    runs = graph(
        "Executions over time",
        "When it began, and whether it goes on. Drag over the picture to narrow the time to where it begins.",
        [Ask(ask.incident_runs(), "{{process_status}}", source="loki")],
        empty=f"No execution ended {_ABOVE}.",
        decimals=0,
        values=False,
        stacked=True,
        bars=True,
    )
    runs.max_data_points(180)
    for status, colour in STATUSES.items():
        line(runs, status, colour)
    companies = rows(
        "Who is hurt",
        "Executions that failed, by company. A row narrows the page to it.",
        Ask("", source="loki", instant=True, of=_FAILURES),
        [
            Column("company_id", "Company", link=("Only this company", TO_COMPANY), empty="without a company"),
            Column("Value #A", "Failed", 80, decimals=0),
        ],
        empty=fine(f"Nobody {_ABOVE}."),
        sort=[("Failed", True)],
        only=_FAILED,
        summed="Value #A",
    )
    types = rows(
        "By what, and where",
        "Executions that failed, by the error's type, the process and its stage. One row is one fault.",
        Ask(ask.incident_outcomes(), source="loki", instant=True),
        [
            Column("error_type", "Error"),
            Column("process_id", "Process"),
            Column("process_stage", "Stage", 110, empty="none"),
            Column("Value #A", "Failed", 80, decimals=0),
        ],
        empty=_NONE_FAILED,
        sort=[("Failed", True)],
        only=_FAILED,
        summed="Value #A",
    )
    return [Tile("runs", runs, 7, 7), Tile("companies", companies, 5, 7), Tile("types", types, 12, 7)]


def _which() -> list[Tile]:
    failed = ended(
        "Executions that failed",
        "The column Trace shows its spans and log lines below. Stage and error say where and what.",
        Ask("", source="loki", of=_ERRORS),
        empty=_NONE_FAILED,
        process=True,
        here=f"{_HERE}&",
        only=[(ask.ENDED[0], True, ask.ENDED[1])],
    )
    errors = rows(
        "Error lines",
        "The column Trace shows the execution that wrote it below, with all of its lines.",
        Ask(ask.incident_errors(), source="loki", limit=_MOST),
        [
            Column("Time", "When", 130, CLOCK),
            Column("company_id", "Company", 90, link=("Only this company", TO_COMPANY), empty=""),
            Column("process_stage", "Stage", 90, empty=""),
            Column("Line", "Line"),
            Column("trace_id", "Trace", 100, link=("Its spans and log lines", TO_TRACE), empty="none"),
        ],
        empty=fine(f"No error was logged {_ABOVE}."),
        sort=[("When", True)],
    )
    return [Tile("failed", failed, 24, 8), Tile("errors", errors, 24, 8)]


def _story() -> list[Tile]:
    spans = one_trace(
        "Spans of the trace",
        "Choose one in a table above. The red span is where it failed; the longest without children is where the time went.",
        Ask("${trace}", source="tempo"),
    )
    lines = rows(
        "Log lines of the trace, newest first",
        "Of every level, from all services that took part. A span beside them has its attributes and what was thrown.",
        Ask(ask.incident_story(), source="loki", limit=_MOST),
        [
            Column("Time", "When", 105, "time:HH:mm:ss.SSS"),
            Column("detected_level", "Level", 70, words=_LEVELS, limits=(Step(None, NEUTRAL),)),
            Column("process_stage", "Stage", 90, empty=""),
            Column("Line", "Line", wrapped=True),
        ],
        empty=_NO_TRACE,
        sort=[("When", True)],
    )
    return [Tile("spans", spans, 13, 13), Tile("lines", lines, 11, 13)]


def _around() -> list[Tile]:
    every = ended(
        "All executions, newest first",
        "Those that went well too: was it slow, which stage, which company?",
        Ask(ask.incident_ended(), source="loki", limit=200),
        empty=f"No execution ended {_ABOVE}.",
        process=True,
        here=f"{_HERE}&",
    )
    traced = executions(
        "Executions that failed, as traces tell",
        "Any fifty, not the newest. Services that write no log lines about their executions are only here.",
        ask.incident_executions(),
        empty=_NONE_FAILED,
        process=True,
        here=f"{_HERE}&",
        limit=50,
    )
    alerts = history(
        "Alerts that fired then",
        "Of all services: what broke first is often what made the others fail.",
        [Ask(ask.all_alerts(), "{{service}} {{about}}"), Ask(ask.no_alert(), "No alert")],
        ALERT_WORDS,
        empty=fine("No alert fired in this range."),
    )
    lines = rows(
        "All log lines, newest first",
        "Of every level. The column Trace shows the execution that wrote it above, with all of its lines.",
        Ask(ask.incident_lines(), source="loki", limit=_MOST),
        [
            Column("Time", "When", 130, CLOCK),
            Column("detected_level", "Level", 80, words=_LEVELS, limits=(Step(None, NEUTRAL),)),
            Column("service_name", "Service", 130),
            Column("Line", "Line"),
            Column("trace_id", "Trace", 100, link=("Its spans and log lines", TO_TRACE), empty="none"),
        ],
        empty=f"No line was logged {_ABOVE}.",
        sort=[("When", True)],
    )
    return [
        Tile("every", every, 24, 9),
        Tile("traced", traced, 12, 9),
        Tile("alerts", alerts, 12, 9),
        Tile("all-lines", lines, 24, 12),
    ]
