"""The page of the alerts themselves: which of them wake people for nothing."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as m

from generator import names
from generator.render.dashboards import ask
from generator.render.dashboards.style import (
    BAD,
    BLUE,
    GOOD,
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
    history,
    line,
    link,
    tile_number,
)

_QUIET = fine("No alert has fired in the last 7 days.")
SEVERITIES = {name: (name, colour) for name, colour in SEVERITY_COLOURS.items()}
# What `ask.all_alerts` and `ask.no_alert` say.
ALERT_WORDS = {"3": ("critical", BAD), "2": ("warning", WATCH), "1": ("info", BLUE), "0": ("quiet", GOOD)}
# More often than every day is noise, whatever it is about.
OFTEN = (Step(None, NEUTRAL), Step(0, GOOD), Step(3, WATCH), Step(7, BAD))


def render() -> m.Dashboard:
    """The page of alert quality."""
    sections = [Section("top", "", [*_numbers(), Tile("noisy", _noisy(), 24, 10), *_over_time()])]
    return dashboard(
        names.ALERTS_UID,
        "Alert quality",
        "Which alerts fire most and longest. One that nobody acts on teaches people to look away.",
        sections,
        tags=["alerts"],
        since="now-24h",
        links=[link("Overview", f"/d/{names.OVERVIEW_UID}", icon="apps")],
        refresh="5m",
    )


def _numbers() -> list[Tile]:
    week = tile_number(
        "Alerts this week",
        "How often alerts began to fire in the last 7 days. More than a few a day, and people stop to look.",
        Ask(ask.total(ask.alert_count()), instant=True),
        words={"0": ("None", GOOD)},
        limits=(Step(None, NEUTRAL),),
        empty="Prometheus does not answer",
    )
    before = tile_number(
        "The week before",
        "The same of the 7 days before: is it getting better?",
        Ask(ask.total(ask.alert_count(ended="7d")), instant=True),
        words={"0": ("None", GOOD)},
        limits=(Step(None, NEUTRAL),),
        empty="Prometheus does not answer",
    )
    alone = tile_number(
        f"Over within {ask.BY_ITSELF} by themselves",
        f"The share of the week's alerts that ended within {ask.BY_ITSELF}: nobody can have done anything about them, so they "
        "need not have been sent. Aim at less than 5%: a longer `for`, a higher threshold. It is measured by time alone; who "
        "acknowledged an alert is not recorded.",
        Ask(ask.by_itself_share(), instant=True),
        words={"0": ("None", GOOD)},
        limits=(Step(None, NEUTRAL), Step(0, GOOD), Step(0.05, WATCH), Step(0.25, BAD)),
        empty="No alert fired",
        unit="percentunit",
    )
    mend = tile_number(
        "Mean time to resolve",
        "From when an alert of the last 7 days began to fire to when it stopped; one that still fires counts up to now. Long: "
        "do its runbook's steps mend it, and does somebody look?",
        Ask(ask.time_to_resolve(), instant=True),
        words={},
        limits=(Step(None, NEUTRAL), Step(0, GOOD), Step(1800, WATCH), Step(7200, BAD)),
        empty="No alert fired",
        unit="s",
    )
    panels = {"week": week, "before": before, "alone": alone, "mend": mend}
    return [Tile(key, panel, 6, 3) for key, panel in panels.items()]


def _noisy() -> AnyPanel:
    return grid(
        "Alerts of the last 7 days, noisiest first",
        "Often and short: it fires too early, or is about something that mends itself. Rarely and long: nobody looks at it. "
        "Over by itself: it ended within five minutes, sooner than anybody can act. On average and in all: how long it fired.",
        [
            Ask(ask.alert_count(), instant=True, ref="Count"),
            Ask(ask.alert_time(), instant=True, ref="Time"),
            Ask(f"{ask.alert_time()} / {ask.alert_count()}", instant=True, ref="Mean"),
            Ask(ask.alert_by_itself(), instant=True, ref="Alone"),
        ],
        [
            Column("severity", "Severity", 110, words=SEVERITIES, limits=(Step(None, NEUTRAL),), filled=True),
            Column("alertname", "Alert"),
            Column("service", "Service", 150),
            Column("slo", "SLO", 270, empty=""),
            Column("probe", "Probe", 110, empty=""),
            Column("owner", "Owner", 100, empty=""),
            Column("Value #Count", "Times", 90, decimals=0, limits=OFTEN),
            Column("Value #Alone", "Over by itself", 120, decimals=0, limits=OFTEN, empty="0"),
            Column("Value #Mean", "On average", 105, "s", 0, empty="since before"),
            Column("Value #Time", "In all", 100, "s", 0),
        ],
        empty=_QUIET,
        sort=[("Times", True), ("In all", True)],
    )


def _over_time() -> list[Tile]:
    firing = graph(
        "Firing at once",
        "Many at once are one fault that shows in many places: dependencies in slos.yaml (depends_on) hold the others back.",
        [Ask(ask.alerts_by_severity(), "{{severity}}")],
        empty=fine("No alert fired in this range."),
        decimals=0,
        stacked=True,
    )
    for severity, colour in SEVERITY_COLOURS.items():
        line(firing, severity, colour)
    sent = graph(
        "Notifications per minute",
        "What reaches people. More than a few an hour, and nobody reads them: group them (routing: group_by).",
        [Ask(ask.notified(), "{{integration}}"), Ask(ask.notified(failed=True), "{{integration}} fails")],
        empty="No notification was sent in this range.",
        decimals=1,
    )
    line(sent, ".+ fails", BAD, regex=True)
    fired = history(
        "When each fired",
        "Drag over the picture to see what began first.",
        [Ask(ask.all_alerts(), "{{service}} {{about}}"), Ask(ask.no_alert(), "No alert")],
        ALERT_WORDS,
        empty=fine("No alert fired in this range."),
    )
    return [Tile("firing", firing, 12, 8), Tile("sent", sent, 12, 8), Tile("fired", fired, 24, 12)]
