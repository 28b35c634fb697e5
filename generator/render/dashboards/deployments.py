"""The page of deployments: what was deployed when, and the four figures of how well that goes."""

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.models import dashboard as m

from generator import names
from generator.render.dashboards import ask
from generator.render.dashboards.style import (
    BAD,
    BLUE,
    CLOCK,
    GOOD,
    NEUTRAL,
    WATCH,
    AnyPanel,
    Ask,
    Column,
    Section,
    Step,
    Tile,
    dashboard,
    environment,
    grid,
    link,
    rows,
)

STATUSES = {"started": ("Started", BLUE), "succeeded": ("Succeeded", GOOD), "failed": ("Failed", BAD)}
_NONE = "None is recorded in the last 30 days: lgtm deploy start, finish and fail record them."


TITLE = "Deployments"


def render(more: Sequence[Section] = ()) -> m.Dashboard:
    """The page of deployments, with ``more`` that services show of theirs."""
    tiles = [Tile("figures", _figures(), 24, 7), Tile("list", _list(), 14, 12), Tile("lines", _lines(), 10, 12)]
    sections = [Section("top", "", tiles), *more]
    return dashboard(
        names.DEPLOYMENTS_UID,
        TITLE,
        "What was deployed when, whether it went well, and how long it took to mend what did not.",
        sections,
        tags=["deployments"],
        since="now-7d",
        links=[link("Overview", f"/d/{names.OVERVIEW_UID}", icon="apps")],
        variables=[environment()],
    )


def _figures() -> AnyPanel:
    columns = {
        "deployments": Column("Value #deployments", "Deployments", decimals=0),
        "success_rate": Column("Value #success_rate", "Succeeded", unit="percentunit", decimals=0),
        "change_failure_rate": Column(
            "Value #change_failure_rate",
            "Failed, or taken back",
            unit="percentunit",
            decimals=0,
            limits=(Step(None, NEUTRAL), Step(0, GOOD), Step(0.15, WATCH), Step(0.3, BAD)),
        ),
        "duration_seconds": Column("Value #duration_seconds", "Takes", unit="s", decimals=0),
        "time_to_recovery_seconds": Column("Value #time_to_recovery_seconds", "Well again after", unit="s", decimals=0),
    }
    return grid(
        "By service, last 30 days",
        "Often and small is safest. Many that fail: what do they have in common? Long until it is well again: "
        "is taking one back a single step?",
        [Ask(ask.deployment_figure(name), instant=True, ref=name) for name in columns],
        [Column("service", "Service"), *columns.values()],
        empty=_NONE,
        sort=[("Failed, or taken back", True), ("Deployments", True)],
    )


def _list() -> AnyPanel:
    return grid(
        "Deployments of the last 30 days, newest first",
        "What changed just before the trouble began? One that has started and never ended was forgotten, or hangs.",
        [Ask(ask.deployments(), instant=True)],
        [
            Column("Value", "When", 165, "dateTimeAsIso"),
            Column("status", "State", 110, words=STATUSES, limits=(Step(None, NEUTRAL),), filled=True),
            Column("service", "Service"),
            Column("version", "Version", 110),
            Column("commit", "Commit", 130),
            Column("environment", "Environment", 125),
            Column("deployment"),
        ],
        empty=_NONE,
        sort=[("When", True)],
    )


def _lines() -> AnyPanel:
    return rows(
        "What was recorded, newest first",
        "What each step of a deployment said, with the address that it gave: of a pipeline or a change.",
        Ask(ask.deployment_marks(), source="loki", limit=300),
        [
            Column("Time", "When", 130, CLOCK),
            Column("Line", "What"),
            Column("deployment_url", "Address", 130, empty="none"),
        ],
        empty="None was recorded in this range: lgtm deploy start, finish and fail record them.",
        sort=[("When", True)],
    )
