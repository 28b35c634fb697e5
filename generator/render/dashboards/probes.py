"""The page of probes: how everything looks from outside, over time."""

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
    history,
    link,
)

UP_DOWN = {"1": ("Up", GOOD), "0": ("Down", BAD)}
_DAY = 86_400
TO_SERVICE = f"/d/${{__data.fields.dashboard}}?{KEEP_TIME}"
_NONE = "No probe runs: is the blackbox exporter up?"


def render(model: Model) -> m.Dashboard | None:
    """The page of probes, where there is any."""
    services = [service for service in model.services if service.probes]
    if not services:
        return None
    count = sum(len(service.probes) for service in services)
    table = grid(
        "Probes now, worst first",
        "Down here while its objectives are well: the way to it is broken. Status 0 is no answer at all.",
        [
            Ask(ask.targets(ask.all_probes(), model), instant=True, ref="Up"),
            Ask(ask.probe_share(), instant=True, ref="Share"),
            Ask(ask.probe_time(), instant=True, ref="Time"),
            Ask(ask.probe_status(), instant=True, ref="Status"),
            Ask(ask.probe_certificate(), instant=True, ref="Certificate"),
        ],
        [
            Column("Value #Up", "State", 90, words=UP_DOWN, limits=(Step(None, NEUTRAL),), filled=True),
            Column("service", "Service", link=("Open the service", TO_SERVICE)),
            Column("probe", "Probe"),
            Column("Value #Share", "Answered, last hour", 190, "percentunit", 1, limits=_SHARE),
            Column("Value #Time", "Took, last hour", 140, "s", 1),
            Column("Value #Status", "Status", 90, decimals=0),
            Column("Value #Certificate", "Certificate lasts", 150, "dtdurations", 0, limits=_CERTIFICATE, empty="none"),
            Column("dashboard"),
            Column("runbook"),
        ],
        empty=_NONE,
        sort=[("State", False), ("Answered, last hour", False)],
    )
    timeline = history(
        "Up and down",
        "Red: no answer, a wrong status or too late. Many red at once is this side's network; one alone is its own.",
        [Ask(ask.all_probes(), "{{service}} {{probe}}")],
        UP_DOWN,
        empty=_NONE,
    )
    top = [Tile("now", table, 24, min(count, 10) + 3), Tile("history", timeline, 24, min(count, 16) + 3)]
    sections = [
        Section("top", "", [*top, *_groups(model)]),
        Section("time", "Where the time of a probe goes", [Tile(s.name, _phases(s.name, s.title), 8, 7) for s in services]),
    ]
    return dashboard(
        names.PROBES_UID,
        "Probes",
        "How everything looks from outside: what answers, how fast, since when.",
        sections,
        tags=["probes"],
        since="now-6h",
        links=[link("Overview", f"/d/{names.OVERVIEW_UID}", icon="apps")],
    )


def _groups(model: Model) -> list[Tile]:
    """How each provider, region or other group of an objective is: what the service itself sees of them."""
    return [
        Tile(
            f"groups-{slo.service}-{slo.name}",
            history(
                f"{slo.title}: by {' and '.join(slo.by)}",
                "As those see it who call, not as a probe does. Red: more fails than the objective allows, over five minutes. "
                "One alone is red: go round it.",
                [Ask(ask.group_fails(slo), " ".join(f"{{{{{label}}}}}" for label in slo.by))],
                {"0": ("Well", GOOD), "1": ("Fails", BAD)},
                empty="No events in this range.",
            ),
            24,
            8,
        )
        for slo in model.slos
        if slo.by
    ]


_SHARE = (Step(None, BAD), Step(0.99, WATCH), Step(0.999, GOOD))
_CERTIFICATE = (Step(None, NEUTRAL), Step(-1e9, BAD), Step(7 * _DAY, WATCH), Step(21 * _DAY, GOOD))


def _phases(service: str, title: str) -> AnyPanel:
    return graph(
        title,
        "The slowest HTTP probe. Resolving: the name server. Connecting and tls: the network. Processing: the service itself.",
        [Ask(ask.probe_phases(service), "{{phase}}")],
        empty="No HTTP probe of it ran in this range.",
        unit="s",
        stacked=True,
    )
