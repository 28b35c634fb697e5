"""One page for each business process of the registry: whether it works, how long it takes, where the time goes, for whom."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from grafana_foundation_sdk.models import dashboard as m

from generator import names
from generator.model import Model, ResolvedProcess, ResolvedService, ResolvedSlo
from generator.render.dashboards import ask, errors, overview
from generator.render.dashboards.style import (
    BAD,
    BLUE,
    CLOCK,
    GOOD,
    KEEP_ENVIRONMENT,
    KEEP_TIME,
    NEUTRAL,
    PURPLE,
    WATCH,
    Ask,
    Column,
    Only,
    Section,
    Step,
    Tile,
    dashboard,
    environment,
    fine,
    graph,
    grid,
    line,
    link,
    rows,
    tile_number,
)
from generator.units import Duration, percent

# What counts as slow where the process has no SLA.
SLOW = Duration(Decimal(1))
STATUSES = {"success": GOOD, "timeout": WATCH, "error": BAD}
STATUS_WORDS = {"success": ("Success", GOOD), "timeout": ("Timeout", WATCH), "error": ("Error", BAD)}
FAILED_STEPS = (Step(None, NEUTRAL), Step(0, GOOD), Step(0.001, WATCH), Step(0.05, BAD))
_INCIDENT = f"/d/{names.INCIDENT_UID}?{KEEP_ENVIRONMENT}"


def render(model: Model, service: ResolvedService, process: ResolvedProcess) -> m.Dashboard:
    """The page of a process."""
    runs = ask.Runs(service.match, process.id, ask.telemetry_name(service), process.source == "spans")
    sections = [
        Section("top", "", _top(model, service, process, runs)),
        Section("flow", "Executions", _flow(service, process, runs)),
        Section("stages", "Versions" if runs.spans else "Where the time goes", _stages(process, runs)),
        Section("who", "Who is affected, and by what", _who(process, runs)),
        Section("evidence", "Executions and log lines", _evidence(process, runs)),
    ]
    links = [
        link("Overview", f"/d/{names.OVERVIEW_UID}", icon="apps"),
        link(service.title, f"/d/{names.service_uid(service.name)}?{KEEP_ENVIRONMENT}", icon="arrow-left"),
        link("Incident", f"{_INCIDENT}&var-process={quote(process.id)}", icon="search"),
        *(link(title, f"/d/{uid}", icon="doc") for title, uid in _runbook(service, process)),
    ]
    if process.documentation_url:
        links.append(link("Documentation", process.documentation_url, icon="external link"))
    limit = f" It may take {process.sla}." if process.sla else ""
    about = f"{(process.description or process.name).rstrip('.')}.{limit} Owner: {process.owner}. Tier: {process.tier}."
    return dashboard(
        names.process_uid(service.name, process.id),
        process.name,
        about,
        sections,
        tags=["process", f"service:{service.name}", f"owner:{process.owner}", f"tier:{process.tier}"],
        since="now-3h",
        links=links,
        variables=[environment("Its objectives are of all that its metrics count.")],
    )


def _runbook(service: ResolvedService, process: ResolvedProcess) -> list[tuple[str, str]]:
    chosen = next(iter(process.slos.values()), "")
    return [("Runbook", f"{names.runbook_uid(service.name)}?var-alert={quote(chosen)}")] if chosen else []


def _objective(service: ResolvedService, process: ResolvedProcess, measure: str) -> ResolvedSlo | None:
    name = process.slos.get(measure)
    return next((slo for slo in service.slos if slo.name == name), None)


def _top(model: Model, service: ResolvedService, process: ResolvedProcess, runs: ask.Runs) -> list[Tile]:
    nothing = "No execution in the last hour"
    failing, limit = _objective(service, process, "success"), process.sla
    allowed = float(failing.budget) if failing else 0.01
    promise = f"{percent(failing.objective)} must succeed. " if failing else "No objective is set for it. "
    slow = (Step(None, NEUTRAL), Step(0, GOOD), Step(float(limit.seconds), BAD)) if limit else (Step(None, NEUTRAL),)
    numbers = {
        "failed": tile_number(
            "Fails, last hour",
            f"{promise}Green up to what may fail, red from ten times that. Errors by type, below, say why.",
            Ask(runs.share("failed", window="1h"), instant=True),
            words={"0": ("None", GOOD)},
            limits=(Step(None, NEUTRAL), Step(0, GOOD), Step(allowed, WATCH), Step(min(allowed * 10, 0.5), BAD)),
            empty=nothing,
            unit="percentunit",
            decimals=2,
        ),
        "timeouts": tile_number(
            "Times out, last hour",
            "Whoever waited gave up. Which stage takes the time, below, says where.",
            Ask(runs.share("timeout", window="1h"), instant=True),
            words={"0": ("None", GOOD)},
            limits=(Step(None, NEUTRAL), Step(0, GOOD), Step(allowed, WATCH), Step(min(allowed * 10, 0.5), BAD)),
            empty=nothing,
            unit="percentunit",
            decimals=2,
        ),
        "p95": tile_number(
            "95% end within, last hour",
            f"Red above the SLA of {limit}." if limit else "No SLA is set for it: sla: under the process in slos.yaml.",
            Ask(runs.quantile("0.95", "1h"), instant=True),
            words={},
            limits=slow,
            empty=nothing,
            unit="s",
            decimals=2,
        ),
        "rate": tile_number(
            "Executions a minute",
            "None where there always were some is an outage too: nobody gets here.",
            Ask(f"{runs.rate()} * 60", instant=True),
            words={},
            limits=(Step(None, NEUTRAL),),
            empty="No execution in the last five minutes",
            decimals=1,
        ),
    }
    tiles = [Tile(key, panel, 6, 3) for key, panel in numbers.items()]
    if process.slos:
        table = overview.slo_table(model, service.name, tuple(process.slos.values()))
        tiles.append(Tile("slos", table, 24, 3 + len(process.slos)))
    return tiles


def _flow(service: ResolvedService, process: ResolvedProcess, runs: ask.Runs) -> list[Tile]:
    executions = graph(
        "Executions",
        "Red and orange within the green are what people see fail. A drop to nothing is an outage in front of it.",
        [Ask(f"{runs.rate(process_status=status)} * 60", status) for status in STATUSES],
        empty="No execution in this range.",
        unit="suffix:/min",
        stacked=True,
    )
    for status, colour in STATUSES.items():
        line(executions, status, colour)
    success = _objective(service, process, "success")
    asks = [Ask(runs.share("failed"), "Fails"), Ask(runs.share("timeout"), "Times out")]
    allowed = (Step(None, "transparent"), Step(float(success.budget), BAD)) if success else ()
    meant = f"Above the dashed line more fails than {percent(success.objective)} allows." if success else "No objective is set."
    failures = graph(
        "Share that fails",
        f"{meant} Did it begin at a mark of a deployment? Errors by type, below, say why.",
        asks,
        empty="No execution in this range: nothing could fail.",
        unit="percentunit",
        limits=allowed,
        softest=float(success.budget) * 1.5 if success else None,
    )
    line(failures, "Fails", BAD)
    line(failures, "Times out", WATCH)
    limit = float(process.sla.seconds) if process.sla else None
    duration = graph(
        f"Duration, against {process.sla}" if process.sla else "Duration",
        "If the 99% line rises alone, few are hurt; if the half rises, all are. A dot is an execution; it opens its trace.",
        [Ask(runs.quantile(q), f"{shown} within", exemplars=q == "0.99" and not runs.spans) for q, shown, _ in _QUANTILES],
        empty="No execution in this range.",
        unit="s",
        limits=(Step(None, "transparent"), Step(limit, BAD)) if limit else (),
    )
    for _, shown, colour in _QUANTILES:
        line(duration, f"{shown} within", colour)
    return [Tile("executions", executions, 8, 8), Tile("failures", failures, 8, 8), Tile("duration", duration, 8, 8)]


_QUANTILES = (("0.99", "99%", PURPLE), ("0.95", "95%", BLUE), ("0.5", "Half", GOOD))


def _stages(process: ResolvedProcess, runs: ask.Runs) -> list[Tile]:
    missing = "No stage has run in this range; stages come from lgtm_instrumentation's stage()."
    stages = [Ask(runs.stage_time(stage), stage) for stage in process.stages] or [Ask(runs.stage_time(), "{{process_stage}}")]
    stacked = graph(
        "Time in each stage, per execution",
        "In order from below. The band that has grown is where to look: open a slow execution below and go to that stage.",
        stages,
        empty=missing,
        unit="s",
        stacked=True,
    )
    slowest = graph(
        "The slowest of each stage: 95% end within",
        "A stage that is slow only here is slow for few: look at who is affected.",
        [Ask(runs.stage_quantile("0.95"), "{{process_stage}}")],
        empty=missing,
        unit="s",
    )
    version = grid(
        "By version",
        "Two versions at once are a deployment. If only the newer fails, take it back.",
        [
            Ask(f"{runs.rate('process_version')} * 60 > 0", instant=True, ref="Rate"),
            Ask(runs.share("failed", "process_version"), instant=True, ref="Failed"),
        ],
        [
            Column("process_version", "Version", 90),
            Column("Value #Rate", "A minute", 85, decimals=1),
            Column("Value #Failed", "Fails", 80, "percentunit", 1, limits=FAILED_STEPS),
        ],
        empty="No execution in the last five minutes.",
        sort=[("Fails", True)],
    )
    by_version = Tile("version", version, 6, 8)
    # Spans tell the time of a stage only inside of a trace.
    return [by_version] if runs.spans else [Tile("stacked", stacked, 9, 8), Tile("slowest", slowest, 9, 8), by_version]


def _who(process: ResolvedProcess, runs: ask.Runs) -> list[Tile]:
    types = graph(
        "Errors by type",
        "One type is one fault. Which of them began when the trouble began? Its lines are below.",
        [Ask(runs.errors_by_type(), "{{error_type}}", source="loki")],
        empty=fine("No execution failed in this range."),
        decimals=0,
        values=False,
        stacked=True,
        bars=True,
        trouble=True,
    )
    companies = rows(
        "Companies whose executions failed",
        "All of them: it is the process or a dependency. One: it is something of theirs. A row opens what happened to them.",
        Ask(runs.errors_by_company(), source="loki", instant=True),
        [
            Column(
                "company_id",
                "Company",
                link=(
                    "What happened to them",
                    f"{_INCIDENT}&var-company=${{__data.fields.Company}}&var-process={quote(process.id)}&{KEEP_TIME}",
                ),
            ),
            Column("Value #A", "Failed", 100, decimals=0),
        ],
        empty=fine("Nobody: no execution with a company failed in this range."),
        sort=[("Failed", True)],
    )
    return [Tile("types", types, 14, 8), Tile("companies", companies, 10, 8)]


def executions(
    title: str,
    description: str,
    query: str,
    *,
    empty: str,
    process: bool = False,
    here: str = f"{_INCIDENT}&",
    limit: int = 20,
) -> Any:
    """Executions that a TraceQL query finds, newest first; each row opens one on the incident page.

    ``here`` is that page's address with what is chosen there already, up to the next variable. ``process`` says which process
    each is of.
    """
    company = f"{_INCIDENT}&var-company=${{__data.fields.Company}}&{KEEP_TIME}"
    trace = f"{here}var-trace=${{__data.fields.Trace}}&{KEEP_TIME}"
    return rows(
        title,
        description,
        Ask(query, source="tempo", spans=True, limit=limit),
        [
            Column("Start time", "Began", 130, CLOCK),
            Column("process.status", "Status", 85, words=STATUS_WORDS, limits=(Step(None, NEUTRAL),), filled=True),
            *([Column("process.id", "Process")] if process else []),
            Column("company.id", "Company", 100, link=("What happened to them", company)),
            Column("Duration", "Took", 80),
            # Where there are all processes there is no room for both.
            *([] if process else [Column("error.type", "Error", empty="")]),
            Column("traceIdHidden", "Trace", 100 if process else None, link=("Its spans and log lines", trace)),
        ],
        empty=empty,
        sort=[("Began", True)],
    )


def ended(
    title: str,
    description: str,
    ask_: Ask,
    *,
    empty: str,
    process: bool = False,
    here: str = f"{_INCIDENT}&",
    only: Sequence[Only] = (),
) -> Any:
    """Executions out of the log lines that they end with, newest first; the rest as in `executions`.

    Loki has the newest first and the lines of what failed apart, where Tempo would read every span of the range.
    """
    company = f"{_INCIDENT}&var-company=${{__data.fields.Company}}&{KEEP_TIME}"
    trace = f"{here}var-trace=${{__data.fields.Trace}}&{KEEP_TIME}"
    return rows(
        title,
        description,
        ask_,
        [
            Column("Time", "Ended", 130, CLOCK),
            Column("process_status", "Status", 85, words=STATUS_WORDS, limits=(Step(None, NEUTRAL),), filled=True),
            *([Column("process_id", "Process")] if process else []),
            Column("process_stage", "Stage", 100, empty=""),
            Column("error_type", "Error", empty=""),
            Column("company_id", "Company", 100, link=("What happened to them", company), empty=""),
            Column("duration_seconds", "Took", 80, "s", 2),
            Column("trace_id", "Trace", 100, link=("Its spans and log lines", trace), empty="none"),
        ],
        empty=empty,
        sort=[("Ended", True)],
        only=only,
    )


def _evidence(process: ResolvedProcess, runs: ask.Runs) -> list[Tile]:
    slow = process.sla or SLOW
    title, empty = "Executions that failed", fine("No execution failed in this range.")
    about = "The column Trace opens one with its spans and its log lines: the red span is the place."
    if runs.spans:
        failed = executions(title, about, runs.failed(), empty=empty)
    else:
        failed = ended(title, about, Ask(runs.failed_lines(), source="loki", limit=100), empty=empty)
    return [
        Tile("failed", failed, 14, 9),
        Tile(
            "slow",
            executions(
                f"Executions that took longer than {slow}",
                "Any of them, not the newest. In a trace, the longest span without children is where the time went.",
                runs.slower(slow),
                empty=fine(f"No execution took longer than {slow} in this range."),
            ),
            10,
            9,
        ),
        Tile(
            "lines",
            errors.lines(
                "Error logs of executions, newest first",
                Ask(runs.error_lines(), source="loki", limit=300),
                empty=fine("No execution logged an error in this range."),
            ),
            24,
            10,
        ),
    ]
