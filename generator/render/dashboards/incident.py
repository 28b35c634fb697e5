"""The page for "what happened for company X at 14:43": who, what and when in; executions, log lines and traces out."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as m

from generator import names
from generator.render.dashboards import ask
from generator.render.dashboards.process import STATUSES, executions
from generator.render.dashboards.style import (
    BAD,
    CLOCK,
    GOOD,
    KEEP_TIME,
    NEUTRAL,
    Ask,
    Column,
    Section,
    Step,
    TextBox,
    Tile,
    dashboard,
    graph,
    history,
    line,
    link,
    log_lines,
    one_trace,
    prose,
    rows,
    tile_number,
)

_HERE = f"/d/{names.INCIDENT_UID}?var-company=${{company}}&var-process=${{process}}&var-request=${{request}}"
TO_TRACE = f"{_HERE}&var-trace=${{__data.fields.Trace}}&{KEEP_TIME}"
TO_COMPANY = (
    f"/d/{names.INCIDENT_UID}?var-company=${{__data.fields.Company}}&var-process=${{process}}&var-request=${{request}}"
    f"&{KEEP_TIME}"
)
_HOW = (
    "<b>What happened?</b> Write whatever you know above: a company, a process or a request's id, whole or its beginning. "
    "Choose the time at the top right, such as 14:38 to 14:48. A company narrows the page to it; a trace shows its spans and "
    "all of its log lines below. What is left empty narrows nothing."
)
# A query that finds nothing, where the id of a trace would stand: an empty one is an error to Tempo.
_NO_TRACE = "{ false }"
_EMPTY = "None in this range, for what is written above."


def render() -> m.Dashboard:
    """The incident page."""
    boxes = [
        TextBox("company", "Company", "Its id or the beginning of it, as in the attribute company.id."),
        TextBox("process", "Process", "Its id or the beginning of it, as in the attribute process.id."),
        TextBox("request", "Request id", "As in the answer's header X-Request-ID, or the beginning of it."),
        TextBox("trace", "Trace", "Chosen in a table below.", hidden=True, default=_NO_TRACE),
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
        variables=[box.model() for box in boxes],
        refresh="",
    )


def _number(title: str, description: str, expr: str, limits: tuple[Step, ...], words: dict[str, tuple[str, str]]) -> Tile:
    query = Ask(expr, source="loki", instant=True)
    panel = tile_number(title, description, query, words=words, limits=limits, empty="None at all", unit="locale")
    return Tile(title, panel, 6, 3)


def _numbers() -> list[Tile]:
    bad = (Step(None, GOOD), Step(1, BAD))
    none = {"0": ("None", GOOD)}
    return [
        _number("Executions", "All that ended in the range.", ask.incident_total(), (Step(None, NEUTRAL),), {}),
        _number("Failed", "Those without success. Each is below.", ask.incident_failures(), bad, none),
        _number("Companies hurt", "All: the service. One: something of theirs.", ask.incident_companies(), bad, none),
        _number("Error logs", "Log lines at level error or above.", ask.incident_error_count(), bad, none),
    ]


def _when() -> list[Tile]:
    runs = graph(
        "Executions over time",
        "When it began, and whether it goes on. Drag over the picture to narrow the time to where it begins.",
        [Ask(ask.incident_runs("process_status"), "{{process_status}}", source="loki")],
        empty=_EMPTY,
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
        Ask(ask.incident_failures("company_id"), source="loki", instant=True),
        [
            Column("company_id", "Company", link=("Only this company", TO_COMPANY), empty="without a company"),
            Column("Value #A", "Failed", 80, decimals=0),
        ],
        empty="Nobody, for what is written above.",
        sort=[("Failed", True)],
    )
    types = rows(
        "By what",
        "Executions that failed, by process and the error's type. One type is one fault.",
        Ask(ask.incident_failures("process_id, error_type"), source="loki", instant=True),
        [
            Column("error_type", "Error"),
            Column("process_id", "Process", 215),
            Column("Value #A", "Failed", 80, decimals=0),
        ],
        empty="Nothing failed, for what is written above.",
        sort=[("Failed", True)],
    )
    return [Tile("runs", runs, 9, 7), Tile("companies", companies, 5, 7), Tile("types", types, 10, 7)]


def _which() -> list[Tile]:
    failed = executions(
        "Executions that failed",
        "The column Trace shows its spans and log lines below.",
        ask.incident_executions(failed=True),
        empty=_EMPTY,
        process=True,
        here=f"{_HERE}&",
        limit=50,
    )
    errors = rows(
        "Error lines",
        "The column Trace shows the execution that wrote it below, with all of its lines.",
        Ask(ask.incident_errors(), source="loki"),
        [
            Column("Time", "When", 130, CLOCK),
            Column("company_id", "Company", 90, link=("Only this company", TO_COMPANY), empty=""),
            Column("Line", "Line"),
            Column("trace_id", "Trace", 100, link=("Its spans and log lines", TO_TRACE), empty="none"),
        ],
        empty=_EMPTY,
        sort=[("Time", True)],
    )
    return [Tile("failed", failed, 12, 9), Tile("errors", errors, 12, 9)]


def _story() -> list[Tile]:
    spans = one_trace(
        "Spans of the trace",
        "Choose one in a table above. The red span is where it failed; the longest without children is where the time went.",
        Ask("${trace}", source="tempo"),
    )
    lines = log_lines(
        "Log lines of the trace, newest first",
        "Choose a trace in a table above.",
        Ask(ask.incident_story(), source="loki"),
    )
    return [Tile("spans", spans, 13, 13), Tile("lines", lines, 11, 13)]


def _around() -> list[Tile]:
    every = executions(
        "All executions, newest first",
        "Those that went well too: was it slow, which version, which stage?",
        ask.incident_executions(failed=False),
        empty=_EMPTY,
        process=True,
        here=f"{_HERE}&",
        limit=50,
    )
    alerts = history(
        "Alerts that fired then",
        "Of all services: what broke first is often what made the others fail.",
        [Ask(ask.all_alerts(), "{{service}} {{slo}}{{probe}} {{severity}}")],
        {"1": ("fires", BAD)},
        empty="No alert fired in this range.",
    )
    lines = log_lines(
        "All log lines, newest first",
        "Of every level, for what is written above. Open a line for its fields and its trace.",
        Ask(ask.incident_lines(), source="loki"),
    )
    return [Tile("every", every, 12, 10), Tile("alerts", alerts, 12, 10), Tile("all-lines", lines, 24, 12)]
