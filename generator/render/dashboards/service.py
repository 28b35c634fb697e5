"""One page for each service: from its promises to the request, the log line and the trace that broke them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from grafana_foundation_sdk.models import dashboard as m
from grafana_foundation_sdk.models.common import GraphDrawStyle

from generator import names
from generator.model import Model, ResolvedAlert, ResolvedService, ResolvedSlo
from generator.render.dashboards import ask, errors, overview, own
from generator.render.dashboards.style import (
    BAD,
    BLUE,
    GOOD,
    KEEP_ENVIRONMENT,
    KEEP_TIME,
    NEUTRAL,
    PURPLE,
    WATCH,
    Ask,
    Choices,
    Column,
    Mark,
    Section,
    Step,
    Tile,
    dashboard,
    environment,
    fine,
    graph,
    grid,
    heat,
    history,
    is_trouble,
    line,
    link,
    traces,
    who_calls_whom,
)
from generator.sli import Latency
from generator.units import Duration, Threshold, percent, plain

# What counts as a slow trace where no latency SLO says.
SLOW = Duration(Decimal(1))
# From this many SLOs on, the page opens with one of them instead of all.
MANY = 6
UNITS = {"number": "short", "percent": "percentunit", "seconds": "s", "bytes": "bytes"}
FAILED_STEPS = (Step(None, NEUTRAL), Step(0, GOOD), Step(0.001, WATCH), Step(0.05, BAD))
TIMES_STEPS = (Step(None, NEUTRAL), Step(0, GOOD), Step(1.5, WATCH), Step(3, BAD))
_ENDLESS = {"Infinity": ("none before", BAD)}
UP_DOWN = {"1": ("Up", GOOD), "0": ("Down", BAD)}
CHOSEN = ask.Like("$slo")
_COUNTED = "Objectives, alerts, probes and latency are of all that this service's metrics count."
_ABSENT = "No such series in this range. Some appear only once something goes wrong; else, was the metric renamed?"


def render(model: Model, service: ResolvedService) -> m.Dashboard:
    """A service's page. Its variable ``slo`` narrows it to one objective."""
    telemetry = ask.telemetry_name(service)
    uid = names.service_uid(service.name)
    sections = [_top(model, service), _endpoints(telemetry)]
    if service.processes:
        sections.append(Section("processes", "Processes", [Tile("processes", _processes(service), 24, _rows(service))]))
    # What is looked for first stands first: the request, the log line, the neighbour; then how it came about.
    sections += [_evidence(service, telemetry), _neighbours(model, service, telemetry)]
    if service.slos:
        sections.append(_objective(service))
    sections += [_latency(service), _causes(service), _probes(service), *own.sections(service)]
    links = [
        link("Overview", f"/d/{names.OVERVIEW_UID}", icon="apps"),
        link("Runbook", f"/d/{names.runbook_uid(service.name)}", icon="doc", tooltip="What each alert means and what mends it"),
        *(
            link(f"Depends on {other}", f"/d/{names.service_uid(other)}?{KEEP_ENVIRONMENT}", icon="sitemap")
            for other in service.depends_on
        ),
    ]
    about = f"{(service.description or service.title).rstrip('.')}. Owner: {service.owner}. Tier: {service.tier}."
    return dashboard(
        uid,
        service.title,
        about,
        sections,
        tags=["service", f"owner:{service.owner}", f"tier:{service.tier}"],
        since="now-6h",
        links=links,
        variables=[*([_choice(service).model()] if service.slos else []), environment(_COUNTED)],
        annotations=_annotations(service, telemetry),
    )


def _choice(service: ResolvedService) -> Choices:
    options = [(slo.name, _name(slo)) for slo in service.slos]
    every = ".+" if len(options) < MANY else None
    return Choices("slo", "SLO", options, every=every, description="Narrows the page to one objective.")


def _name(slo: ResolvedSlo) -> str:
    return slo.title if slo.title == slo.name else f"{slo.title} ({slo.name})"


def _annotations(service: ResolvedService, telemetry: str) -> list[m.AnnotationQuery]:
    seen = "Version {{service_version}} seen"
    return [
        Mark("Alerts", ask.alert_starts(service.name), BAD, "{{alertname}} fires", "{{severity}} {{slo}}{{probe}}"),
        Mark("New versions", ask.new_versions(telemetry), PURPLE, seen, "New in the last ten minutes."),
    ]


def _top(model: Model, service: ResolvedService) -> Section:
    rows = min(max(len(service.slos), 3), 9) + 3
    tiles = []
    if service.slos:
        tiles.append(Tile("slos", overview.slo_table(model, service.name), 24, rows))
    tiles.append(
        Tile("firing", overview.firing_alerts(model, service.name, narrow=bool(service.slos)), 12 if service.slos else 24, 6)
    )
    if service.slos:
        tiles.append(Tile("release", _release(service), 12, 6))
    return Section("top", "", tiles)


def _release(service: ResolvedService) -> Any:
    since, before = ask.release_ratio(service.name), ask.release_ratio(service.name, before=True)
    return grid(
        "The newest deployment, beside what was before it",
        "The share of bad events since it began, and in as much time before it, six hours at most. Many times more: take it "
        "back. Deployments are recorded by lgtm deploy.",
        [
            Ask(since, instant=True, ref="Since"),
            Ask(before, instant=True, ref="Before"),
            Ask(f"({since} > 0) / ({before})", instant=True, ref="Times"),
        ],
        [
            Column("slo", "SLO"),
            Column("Value #Before", "Bad before", 105, "percentunit", 2, empty="no events"),
            Column("Value #Since", "Bad since", 105, "percentunit", 2, empty="no events"),
            Column("Value #Times", "Times as many", 140, "suffix:×", 1, words=_ENDLESS, limits=TIMES_STEPS),
            Column("service"),
        ],
        empty="No deployment of it is recorded in the last day, or it began within this minute. lgtm deploy records them.",
        sort=[("Times as many", True), ("Bad since", True)],
    )


def _endpoints(telemetry: str) -> Section:
    table = grid(
        "Endpoints, worst first",
        "Of the last five minutes, as the service's spans tell. One endpoint: its code. All of them: the service, or what it "
        "depends on.",
        [
            Ask(f"{ask.endpoint_rate(telemetry)} > 0", instant=True, ref="Rate"),
            Ask(ask.endpoint_failing(telemetry), instant=True, ref="Failed"),
            Ask(ask.endpoint_quantile(telemetry, "0.95"), instant=True, ref="Slow"),
        ],
        [
            Column("span_name", "Endpoint"),
            Column("Value #Rate", "Per second", 115, decimals=2),
            Column("Value #Failed", "Fails", 80, "percentunit", 1, limits=FAILED_STEPS),
            Column("Value #Slow", "95% within", 100, "s", 2, empty="no traffic"),
        ],
        empty=f"No request reached {telemetry} in the last five minutes, or it does not trace them.",
        sort=[("Fails", True), ("Per second", True)],
    )
    failing = graph(
        "Requests that fail, by endpoint",
        "Which began first? The others may only follow it.",
        [Ask(ask.endpoint_rate(telemetry, failed=True), "{{span_name}}")],
        empty=fine(f"No request to {telemetry} failed in this range."),
        unit="suffix:/s",
        stacked=True,
        values=False,
        trouble=True,
    )
    tiles = [
        Tile("table", table, 12, 8),
        Tile("top-errors", errors.top(telemetry), 12, 8),
        Tile("failing", failing, 12, 7),
    ]
    return Section("endpoints", "What fails", [*tiles, Tile("error-rate", _error_rate(telemetry), 12, 7)])


def _rows(service: ResolvedService) -> int:
    return min(len(service.processes), 8) + 3


def _processes(service: ResolvedService) -> Any:
    rate, failed, slow = ask.process_figures(service)
    title = {process.id: (process.name, BLUE) for process in service.processes}
    return grid(
        "Processes, worst first",
        "What the service does for the business, over five minutes. A row leads to its stages, its errors and who is affected.",
        [
            Ask(rate, instant=True, ref="Rate"),
            Ask(failed, instant=True, ref="Failed"),
            Ask(slow, instant=True, ref="Slow"),
        ],
        [
            Column("process_id", "Process", words=title, link=("Open the process", TO_PROCESS)),
            Column("Value #Failed", "Fails", 110, "percentunit", 1, limits=FAILED_STEPS, empty="no traffic"),
            Column("Value #Slow", "95% end within", 140, "s", 2, empty="no traffic"),
            Column("Value #Rate", "Per second", 110, decimals=2),
            Column("dashboard"),
        ],
        empty="No process has run in the last five minutes, or none is instrumented: lgtm_instrumentation's process().",
        sort=[("Fails", True)],
    )


TO_PROCESS = f"/d/${{__data.fields.dashboard}}?{KEEP_ENVIRONMENT}&{KEEP_TIME}"


def _spent(service: ResolvedService) -> Any:
    windows = sorted({slo.window for slo in service.slos})
    asks = []
    for index, window in enumerate(windows):
        spent = ask.spent_per_step(window, service.name, CHOSEN)
        asks.append(Ask(spent, "Spent", step=ask.SLOW_STEP, ref=f"Spent{index}"))
        asks.append(Ask(ask.even_spending(window, service.name, CHOSEN), "Even spending", ref=f"Even{index}"))
    panel = graph(
        "Error budget spent",
        "Above the dashed line the budget is spent faster than it lasts; at 100% the promise is broken. A step is an "
        "incident: look what happened then. A slope is a steady fault: plan its repair.",
        asks,
        empty="Nothing has been recorded of it yet.",
        unit="percentunit",
        limits=(Step(None, "transparent"), Step(1, BAD)),
        softest=1.05,
        fill=10,
    )
    total = {
        "mode": "cumulativeFunctions",
        "cumulative": {"reducer": "sum"},
        "alias": "Spent",
        "replaceFields": True,
    }
    only = m.MatcherConfig(id_val="byRefId", options="/^Spent/")
    panel.with_transformation(m.DataTransformerConfig(id_val="calculateField", options=total, filter_val=only))
    line(panel, "Spent", BLUE)
    line(panel, "Even spending", NEUTRAL, dashed=True)
    return panel.time_from(str(windows[-1])).max_data_points(2880)


def _groups(service: ResolvedService) -> list[str]:
    return sorted({label for slo in service.slos for label in slo.by})


def _objective(service: ResolvedService) -> Section:
    groups = "".join(f" {{{{{label}}}}}" for label in _groups(service))
    ratio = graph(
        "Share of bad events",
        "Above the dashed line more fails than is promised. Compare with marks of deployments and alerts: what changed then?",
        [
            Ask(ask.error_ratio(Duration.of("1h"), service.name, CHOSEN), "Last hour" + groups),
            Ask(ask.recent_ratio(service.name, CHOSEN), "Last 5 min" + groups),
            Ask(ask.budget(service.name, CHOSEN), "Allowed"),
        ],
        empty="No events in this range: nothing could fail.",
        unit="percentunit",
    )
    line(ratio, "Last hour.*", BLUE, regex=True)
    line(ratio, "Last 5 min.*", PURPLE, regex=True)
    line(ratio, "Allowed", BAD, dashed=True)
    traffic = graph(
        "Traffic",
        "All events, and the bad ones. A sudden drop is as bad as errors: requests no longer arrive. See what is in front.",
        [
            Ask(ask.traffic(service.name, CHOSEN), "All"),
            Ask(ask.bad_traffic(service.name, CHOSEN), "Bad"),
        ],
        empty="No events in this range.",
        unit="suffix:/s",
    )
    line(traffic, "All", BLUE)
    line(traffic, "Bad", BAD)
    panels = {"spent": _spent(service), "nearness": _nearness(service), "ratio": ratio, "traffic": traffic}
    tiles = [Tile(key, panel, 6, 8) for key, panel in panels.items()]
    return Section("objective", "Objective: ${slo:text}", tiles, repeat="slo")


def nearness_asks(service: ResolvedService, slo: str) -> list[Ask]:
    """How near each burn-rate condition of a service's SLOs is to holding, those of pages first."""
    groups = "".join(f" {{{{{label}}}}}" for label in _groups(service))
    asks: dict[str, Ask] = {}
    for severity, verb in (("critical", "Page"), ("warning", "Ticket")):
        for one in service.slos:
            for condition in one.burn.get(severity, ()):
                expr = ask.nearness(service.name, slo, one.policy, one.window, condition)
                factor = plain(condition.factor.quantize(Decimal("0.01")))
                asks[expr] = Ask(expr, f"{verb} {factor}× {condition.long}/{condition.short}{groups}")
    return list(asks.values())


def colour_conditions(panel: Any, asks: Sequence[Ask]) -> None:
    """The colours of what ``nearness_asks`` draws: pages are red, tickets orange, the quickest condition is the brightest."""
    for verb, shades in (("Page", ("red", "dark-red")), ("Ticket", ("orange", "dark-orange"))):
        names_ = dict.fromkeys(one.legend.partition(" {{")[0] for one in asks if one.legend.startswith(verb))
        for index, name in enumerate(names_):
            line(panel, f"{re.escape(name)}.*", shades[min(index, 1)], regex=True)


def _nearness(service: ResolvedService) -> Any:
    asks = nearness_asks(service, CHOSEN)
    panel = graph(
        "Burn rates, against their alerts",
        "At 100% the alert fires: over both of its windows the budget is spent that many times too fast. "
        "A page burns the budget within days, a ticket within the window.",
        asks,
        empty="No events in this range, or no burn-rate alert is set for it.",
        unit="percentunit",
        limits=(Step(None, "transparent"), Step(1, BAD)),
        softest=1.1,
        decimals=0,
        values=False,
    )
    colour_conditions(panel, asks)
    return panel


def _latency(service: ResolvedService) -> Section:
    tiles = []
    for slo in service.slos:
        if not isinstance(slo.sli, Latency):
            continue
        quantiles = [("0.99", "99%", PURPLE), ("0.95", "95%", BLUE), ("0.5", "Half", GOOD)]
        limit = float(slo.sli.bound())
        panel = graph(
            f"Latency: {slo.title}",
            f"{percent(slo.objective)} must be below {slo.sli.under}, the dashed line. A dot is a request; it opens its trace.",
            [Ask(ask.percentile(slo, q), f"{shown} faster than", exemplars=q == "0.99") for q, shown, _ in quantiles],
            empty="No requests in this range.",
            unit="ms" if slo.sli.bound() != slo.sli.under.seconds else "s",
            limits=(Step(None, "transparent"), Step(limit, BAD)),
            softest=limit * 1.2,
        )
        for _, shown, colour in quantiles:
            line(panel, f"{shown} faster than", colour)
        tiles.append(Tile(slo.name, panel, 12, 8))
        picture = heat(
            f"Where requests lie: {slo.title}",
            "Each row is a bucket; the stronger, the more requests. Two bands are two kinds of request: one is slow. "
            "A dot is a request; it opens its trace.",
            Ask(ask.buckets(slo), "{{le}}"),
            unit="ms" if slo.sli.bound() != slo.sli.under.seconds else "s",
        )
        tiles.append(Tile(f"heat-{slo.name}", picture, 12, 8))
    return Section("latency", "Latency", tiles)


def _causes(service: ResolvedService) -> Section:
    width = 8 if len(service.alerts) > 2 else 12
    return Section("causes", "Causes and saturation", [Tile(a.name, alert_panel(a), width, 7) for a in service.alerts])


def alert_panel(alert: ResolvedAlert) -> Any:
    """A threshold alert's own query with its threshold."""
    limit = alert.above or alert.below
    held = f" for {alert.hold}" if alert.hold.seconds else ""
    side = "above" if alert.above else "below"
    when = f"{side} {limit.text}" if limit else "while this has a value"
    lead = {"critical": "Pages", "warning": "Opens a ticket", "info": "Tells"}[alert.severity]
    panel = graph(
        alert.summary if len(alert.summary) <= 60 else alert.name,
        f"{alert.name}: {alert.summary.rstrip('.')}. {lead} {when}{held}. Its runbook says what to do.",
        [Ask(alert.expr, ask.series_name(alert.expr, alert.name))],
        empty=_ABSENT if limit else fine("Its condition does not hold."),
        unit=UNITS[limit.unit] if limit else "short",
        limits=threshold_steps(alert.above, alert.below),
        lowest=None if alert.below else 0,
        softest=float(limit.value) * 1.1 if limit else None,
        trouble=limit is None or is_trouble(alert.name, alert.summary),
    )
    if limit:
        # As in its runbook.
        line(panel, alert.name, BLUE)
    return panel


def threshold_steps(above: Threshold | None, below: Threshold | None) -> tuple[Step, ...]:
    """The threshold as a line."""
    limit = above or below
    if limit is None:
        return ()
    return (Step(None, "transparent"), Step(float(limit.value), BAD))


def _probes(service: ResolvedService) -> Section:
    if not service.probes:
        return Section("probes", "", [])
    up = history(
        "Probes",
        "Green: answered as expected. Red: no answer, a wrong status or too late. Red here and healthy SLOs: the path to the "
        "service is broken, not the service.",
        [Ask(ask.probe_success(service.name), "{{probe}}")],
        UP_DOWN,
        empty="No probe has run in this range: is the blackbox exporter up?",
    )
    slowest = [p.slower_than for p in service.probes if p.slower_than is not None]
    duration = graph(
        "Duration of probes",
        "A rise here before anything fails is the first sign of saturation.",
        [Ask(ask.probe_duration(service.name), "{{probe}}")],
        empty="No probe has run in this range.",
        unit="s",
        limits=(Step(None, "transparent"), Step(float(min(slowest).seconds), BAD)) if slowest else (),
    )
    return Section("probes", "Probes from outside", [Tile("up", up, 14, 7), Tile("duration", duration, 10, 7)])


def _error_rate(telemetry: str) -> Any:
    panel = graph(
        "Error logs over time",
        "When errors began, and whether they go on. Narrow the range to where they begin and read the first of them below.",
        [Ask(ask.error_log_rate(telemetry), "Error lines", source="loki")],
        empty=fine(f"{telemetry} logged no error in this range."),
        decimals=0,
        values=False,
    )
    line(panel, "Error lines", BAD)
    return panel.draw_style(GraphDrawStyle.BARS).fill_opacity(70).line_width(0)


def _evidence(service: ResolvedService, telemetry: str) -> Section:
    limits = [slo.sli.under for slo in service.slos if isinstance(slo.sli, Latency)]
    slow = max(limits, default=SLOW)
    tiles = [
        Tile(
            "error-logs",
            errors.lines(
                "Error logs, newest first",
                Ask(ask.error_logs(telemetry), source="loki", limit=300),
                empty=fine(f"{telemetry} logged no error in this range."),
            ),
            24,
            10,
        ),
        Tile(
            "failed-traces",
            traces(
                "Failed traces, any of the range",
                "Requests in which a span of this service failed. Open one: the red span is the place.",
                Ask(ask.failed_traces(telemetry), source="tempo"),
                empty=fine(f"No trace of {telemetry} failed in this range."),
            ),
            12,
            9,
        ),
        Tile(
            "slow-traces",
            traces(
                f"Traces slower than {slow}, any of the range",
                "Open one: the longest span without children is where the time goes.",
                Ask(ask.slow_traces(telemetry, slow), source="tempo"),
                empty=fine(f"No trace of {telemetry} took longer than {slow} in this range."),
            ),
            12,
            9,
        ),
    ]
    return Section("evidence", "Logs and traces", tiles)


def _neighbours(model: Model, service: ResolvedService, telemetry: str) -> Section:
    dependants = model.dependants.get(service.name, ())
    around = [*service.depends_on, *dependants]
    tiles = []
    if any(model.by_name[name].slos for name in around):
        near = ask.any_of(around)
        there = f"{overview.TO_SERVICE}&{KEEP_ENVIRONMENT}"
        columns = [
            Column("Value #State", "State", 150, words=overview.STATES, limits=(Step(None, NEUTRAL),), filled=True),
            Column("service", "Service", 180, link=("Open the service", there)),
            Column("slo", "SLO", None, link=("Open this SLO", there)),
            Column(
                "Value #Left",
                "Budget left",
                120,
                "percentunit",
                1,
                below=overview.FAR_OVERSPENT,
                limits=overview.BUDGET_STEPS,
                empty="not yet",
            ),
            *(Column(name) for name in ("Value #Objective", "dashboard", "runbook", *_METADATA)),
        ]
        panel = grid(
            "Services that it depends on, or that depend on it",
            "A dependency that is not healthy is the likelier cause: go there first."
            + (f" Depends on {', '.join(service.depends_on)}." if service.depends_on else "")
            + (f" {', '.join(dependants)} depend on it." if dependants else ""),
            [
                Ask(ask.objectives(model, service=near), instant=True, ref="Objective"),
                Ask(ask.state(service=near), instant=True, ref="State"),
                Ask(ask.worst_remaining(service=near), instant=True, ref="Left"),
            ],
            columns,
            empty="Nothing is recorded of them yet.",
            sort=[("State", True), ("Budget left", False)],
        )
        tiles.append(Tile("states", panel, 12, 8))
    calls = grid(
        "Calls, as traces show them",
        "Who calls whom, and how much of it fails, over five minutes. The pair that fails most points to the broken side.",
        [
            Ask(ask.calls(telemetry), instant=True, ref="Rate"),
            Ask(ask.failed_share(telemetry), instant=True, ref="Failed"),
        ],
        [
            Column("client", "From"),
            Column("server", "To"),
            Column("Value #Rate", "Per second", 110, decimals=2),
            Column("Value #Failed", "Failed", 100, "percentunit", 1, limits=FAILED_STEPS, empty="no calls"),
        ],
        empty="No calls between services in the last five minutes, or they are not traced.",
        sort=[("Failed", True)],
    )
    picture = who_calls_whom(
        "Who calls whom",
        "Calls per second, and below those of them that fail: at an arrow too, where one points at it. Follow the arrows from "
        "this service to the last that fails: there is the cause.",
        Ask(ask.arrows(ask.calls(telemetry), "No calls in five minutes"), instant=True, ref="Rate"),
        Ask(ask.arrows(ask.failed_calls(telemetry)), instant=True, ref="Failed"),
    )
    # The picture needs room: lower, it is cut off.
    tiles += [Tile("calls", calls, 12 if tiles else 24, 8), Tile("graph", picture, 24, 11)]
    return Section("neighbours", "Dependencies", tiles)


_METADATA = ("title", "owner", "tier", "objective", "window", "promised")
