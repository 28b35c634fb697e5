"""The first page: who is hurt, how badly, since when, and where to go. Reads recorded series and alerts only."""

from __future__ import annotations

from collections.abc import Collection

from grafana_foundation_sdk.builders.dashboard import DashboardLink
from grafana_foundation_sdk.models import common as cm
from grafana_foundation_sdk.models import dashboard as m

from generator import names
from generator.model import Model, ResolvedSlo
from generator.render.dashboards import ask, deployments, errors, own
from generator.render.dashboards.style import (
    BAD,
    GOOD,
    KEEP_ENVIRONMENT,
    KEEP_TIME,
    NEUTRAL,
    SEVERITY_COLOURS,
    WATCH,
    AnyPanel,
    Ask,
    Column,
    Section,
    Step,
    Tile,
    dashboard,
    fine,
    graph,
    grid,
    link,
    tile_number,
)

STATES = {
    str(ask.BOTH): ("Exhausted, burning", BAD),
    str(ask.BURNING): ("Burning", BAD),
    str(ask.EXHAUSTED): ("Exhausted", WATCH),
    str(ask.SILENT): ("Not measured", NEUTRAL),
    str(ask.HEALTHY): ("Healthy", GOOD),
}
# The first step colours what has no value at all.
BUDGET_STEPS = (Step(None, NEUTRAL), Step(-1e9, BAD), Step(0.0, WATCH), Step(0.25, GOOD))
FAR_OVERSPENT = (-10.0, "> 10× spent")
TO_SERVICE = "/d/${__data.fields.dashboard}?var-slo=${__data.fields.slo}&" + KEEP_TIME
TO_RUNBOOK = "/d/${__data.fields.runbook}?var-alert=${__data.fields.section}&" + KEEP_TIME
ALERT_TO_SERVICE = "/d/${__data.fields.dashboard}?" + KEEP_TIME


def render(model: Model) -> m.Dashboard:
    """The overview of everything in the file."""
    organization = f"{model.organization}: " if model.organization else ""
    top = Section("top", "", [*_tiles(), Tile("firing", firing_alerts(model), 24, 6), Tile("slos", slo_table(model), 24, 11)])
    trend = Section("trend", "Last 30 days", [Tile("budgets", _trend(), 24, 9)])
    return dashboard(
        names.OVERVIEW_UID,
        f"{organization}Overview",
        "Who is hurt, how badly, since when. Start with the firing alerts; each row leads to its runbook and its service.",
        [top, trend],
        tags=["overview"],
        since="now-6h",
        links=_links(model),
    )


def _links(model: Model) -> list[DashboardLink]:
    shown = [("Incident", names.INCIDENT_UID, "What happened for company X at 14:43")]
    shown.append(("Error tracking", names.ERRORS_UID, "What fails, since when, and what is new"))
    shown.append(("Deployments", names.DEPLOYMENTS_UID, "What changed"))
    if any(service.probes for service in model.services):
        shown.append(("Probes", names.PROBES_UID, "How it looks from outside"))
    if any(slo.sla for slo in model.slos):
        shown.append(("SLA report", names.SLA_UID, "The contract, by the calendar"))
    shown.append(("Alert quality", names.ALERTS_UID, "Which alerts fire most"))
    shown.append(("The stack itself", names.STACK_UID, "Whether these pages can be trusted"))
    tracked = {names.board_uid(title) for title in (errors.TITLE, deployments.TITLE)}
    shown += [(title, uid, "As panels in slos.yaml") for uid, (title, _) in own.headings(model).items() if uid not in tracked]
    return [link(title, f"/d/{uid}", tooltip=tooltip, icon="apps") for title, uid, tooltip in shown]


def _tiles() -> list[Tile]:
    none_or_bad = (Step(None, BAD), Step(0, GOOD), Step(1, BAD))
    none = {"0": ("None", GOOD)}
    return [
        Tile(
            "critical",
            tile_number(
                "Critical alerts",
                "Alerts that page somebody, firing now. Open the first in the list below and follow its runbook.",
                Ask(ask.critical_firing(), instant=True),
                words=none,
                limits=none_or_bad,
                empty="Prometheus does not answer",
            ),
            5,
            3,
        ),
        Tile(
            "burning",
            tile_number(
                "SLOs burning",
                "SLOs whose burn-rate alert fires: their budget will not last. Find them below, worst first.",
                Ask(ask.in_state(ask.BURNING, ask.BOTH), instant=True),
                words=none,
                limits=none_or_bad,
                empty="Prometheus does not answer",
            ),
            5,
            3,
        ),
        Tile(
            "exhausted",
            tile_number(
                "Budgets exhausted",
                "SLOs that have broken their promise for this window. No risky change to these services until they recover.",
                Ask(ask.exhausted(), instant=True),
                words=none,
                limits=(Step(None, BAD), Step(0, GOOD), Step(1, WATCH)),
                empty="Prometheus does not answer",
            ),
            5,
            3,
        ),
        Tile(
            "silent",
            tile_number(
                "SLOs without data",
                "Nothing is measured of these, so an outage would go unnoticed. See whether the service is up and still "
                "exports its metrics.",
                Ask(ask.in_state(ask.SILENT), instant=True),
                words=none,
                limits=(Step(None, BAD), Step(0, GOOD), Step(1, NEUTRAL)),
                empty="Prometheus does not answer",
            ),
            5,
            3,
        ),
        Tile(
            "heartbeat",
            tile_number(
                "Alerting",
                "The Watchdog alert always fires. When it is silent, no alert reaches anybody: check Prometheus and its rules.",
                Ask(ask.heartbeat(), instant=True),
                words={"0": ("Silent", BAD), "1": ("Alive", GOOD)},
                limits=(Step(None, BAD), Step(1, GOOD)),
                empty="Prometheus does not answer",
            ),
            4,
            3,
        ),
    ]


def slo_table(model: Model, service: str = "", slos: Collection[str] = ()) -> AnyPanel:
    """Every SLO, those of one service, or some of it, worst first. Pages of one service have the variable ``environment``."""
    there = f"{TO_SERVICE}&{KEEP_ENVIRONMENT}" if service else TO_SERVICE
    shown = tuple(model.by_name[service].slos if service else model.slos)
    windows = {slo.window for slo in shown if not slos or slo.name in slos}
    labels = {"service": service} if service else {}
    if slos:
        labels["slo"] = ask.any_of(slos)
    asks = [
        Ask(ask.objectives(model, **labels), instant=True, ref="Objective"),
        Ask(ask.state(**labels), instant=True, ref="State"),
        Ask(ask.worst_remaining(**labels), instant=True, ref="Left"),
        Ask(ask.worst_burn_rate(**labels), instant=True, ref="Burn"),
    ]
    if windows:
        asks.append(Ask(ask.lasts(windows, **labels), instant=True, ref="Lasts"))
    columns = [
        Column("Value #State", "State", 150, words=STATES, limits=(Step(None, NEUTRAL),), filled=True),
        Column("service", "" if service else "Service", 120, link=("Open the service", there)),
        Column("slo", "SLO", 285, link=("Open this SLO", there)),
        Column("title", "Promise", None),
        Column("Value #Left", "Budget left", 115, "percentunit", 1, below=FAR_OVERSPENT, limits=BUDGET_STEPS, empty="not yet"),
        Column("Value #Burn", "Burn rate 1h", 110, "suffix:×", 1, limits=_burn_steps(shown), empty="no traffic"),
        Column("Value #Lasts", "Gone in", 95, "dtdurations", 0, empty="–"),
        Column("promised", "Promised", 120),
        Column("owner", "Owner", 90),
        *(Column(name) for name in ("Value #Objective", "objective", "window", "tier", "dashboard", "runbook")),
    ]
    return grid(
        "Service level objectives, worst first" if not service else "Objectives, worst first",
        "Exhausted: the promise is broken for this window. Burning: its alert fires. Not measured: nothing is known of it. "
        "Budget left is what may still fail; a burn rate of 1× spends it exactly over the window; “gone in” is when it is "
        "spent at the rate of the last hour. Open a row for what to do.",
        asks,
        columns,
        empty="No SLO is recorded yet. Rules are first evaluated within a minute of the start.",
        sort=[("State", True), ("Budget left", False)],
    )


def _burn_steps(slos: Collection[ResolvedSlo]) -> tuple[Step, ...]:
    """Red is what pages soonest: a burn rate that is red beside a state that is healthy has to be explained to nobody."""
    paging = [max(window.factor for window in slo.burn["critical"]) for slo in slos if slo.burn.get("critical")]
    pages = [Step(float(min(paging)), BAD)] if paging else []
    return (Step(None, NEUTRAL), Step(0.0, GOOD), Step(1.0, WATCH), *pages)


def firing_alerts(model: Model, service: str = "", *, narrow: bool = False, brief: bool = False) -> AnyPanel:
    """What fires now, pages first. ``narrow`` leaves out what its page says already, ``brief`` the alerts' names too."""
    labels = {"service": service} if service else {}
    severities = {str(rank): (name, colour) for rank, (name, colour) in enumerate(SEVERITY_COLOURS.items())}
    columns = [
        # On a telephone there is room for the first three.
        Column("urgency", "Severity", 108, words=severities, limits=(Step(None, NEUTRAL),), filled=True),
        Column("service", "" if service else "Service", 120, link=("Open the service", ALERT_TO_SERVICE)),
        Column("section", "About", None if narrow else 300, link=("What to do", TO_RUNBOOK)),
        Column("Value", "Since", 130, "dateTimeFromNow"),
        Column("alertname", "" if brief else "Alert", 185 if narrow else None, link=("What to do", TO_RUNBOOK)),
        Column("owner", "" if narrow else "Owner", 110),
        *(Column(name) for name in ("severity", "slo", "probe", "dashboard", "runbook")),
    ]
    return grid(
        "Firing alerts",
        "Follow the alert's name to its runbook: what it means, what to check, what mends it.",
        [Ask(ask.firing(model, **labels), instant=True)],
        columns,
        empty=fine("No alert is firing."),
        sort=[("Severity", False), ("Since", False)],
    )


def _trend() -> AnyPanel:
    panel = graph(
        "Budgets: the ten with least left",
        "A step down is an incident, a slope is a slow leak. Plan work on reliability where a line keeps falling. "
        "Below -100% a line leaves the picture.",
        [Ask(ask.worst_budgets(), "{{service}} {{slo}}")],
        empty="Nothing recorded yet: the first budgets appear five minutes after the start.",
        unit="percentunit",
        limits=(Step(None, BAD), Step(0, "transparent")),
        lowest=-1,
        highest=1,
        decimals=1,
        # As many as the table has, but older: the last point may be an hour and a half ago.
        values=False,
    )
    # A young history is one point, of which no line can be drawn.
    return panel.time_from("30d").max_data_points(480).show_points(cm.VisibilityMode.AUTO)
