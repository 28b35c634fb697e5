"""The page of the stack itself: whether what watches everything else can be trusted."""

from __future__ import annotations

from itertools import cycle
from typing import Any

from grafana_foundation_sdk.models import common as cm
from grafana_foundation_sdk.models import dashboard as m

from generator import names
from generator.render.dashboards import ask
from generator.render.dashboards.style import (
    BAD,
    BLUE,
    GOOD,
    NEUTRAL,
    PURPLE,
    TROUBLE,
    WATCH,
    Ask,
    Column,
    Section,
    Step,
    Tile,
    dashboard,
    graph,
    grid,
    history,
    line,
    link,
    tile_number,
)

UP_DOWN = {"1": ("Up", GOOD), "0": ("Down", BAD)}
MEMORY_STEPS = (Step(None, NEUTRAL), Step(0, GOOD), Step(0.85, WATCH), Step(1, BAD))
DISK_STEPS = (Step(None, BAD), Step(0, GOOD), Step(0.8, WATCH), Step(0.9, BAD))
_DAY = 86_400
_SILENT = "Prometheus does not answer"


def render() -> m.Dashboard:
    """The page of the stack itself."""
    sections = [
        Section("top", "", [*_numbers(), *_servers()]),
        Section("in", "What comes in, and what is lost", _flow()),
        Section("rules", "Rules and notifications", _rules()),
        Section("disk", "Disk, memory, retention", _room()),
    ]
    return dashboard(
        names.STACK_UID,
        "The stack itself",
        "Whether what watches everything else works. What is not green in the top row makes other pages lie.",
        sections,
        tags=["stack"],
        since="now-3h",
        links=[link("Overview", f"/d/{names.OVERVIEW_UID}", icon="apps")],
    )


def _numbers() -> list[Tile]:
    lost = tile_number(
        f"Lost in {ask.RECENT}",
        "Samples, lines, spans and notifications that nobody will ever see. The graph “Losses” below says who loses them.",
        Ask(ask.lost_recently(), instant=True),
        words={"0": ("Nothing", GOOD)},
        limits=(Step(None, BAD), Step(0, GOOD), Step(0.5, BAD)),
        empty=_SILENT,
    )
    rules = tile_number(
        f"Rules failed or late in {ask.RECENT}",
        "What they record has holes, and alerts on it may not fire. Prometheus names the rule: /rules.",
        Ask(ask.rules_failing(), instant=True),
        words={"0": ("None", GOOD)},
        limits=(Step(None, BAD), Step(0, GOOD), Step(0.5, BAD)),
        empty=_SILENT,
    )
    alive = tile_number(
        "Alerting",
        "The Watchdog alert always fires. When it is silent, no alert reaches anybody: check Prometheus and its rules.",
        Ask(ask.heartbeat(), instant=True),
        words={"0": ("Silent", BAD), "1": ("Alive", GOOD)},
        limits=(Step(None, BAD), Step(1, GOOD)),
        empty=_SILENT,
    )
    disk = tile_number(
        "Disk used",
        "Of the disk that holds the data. At 90% Loki goes on without its write-ahead log. Free space, or lower the retention "
        "in .env.",
        Ask(f"max({ask.disk_used()})", instant=True),
        words={},
        limits=DISK_STEPS,
        empty="Loki does not say: is it up?",
        unit="percentunit",
    )
    full = tile_number(
        "Disk is full in",
        "At the pace of the last hour. Not known in the first half hour, when servers fill their first files.",
        Ask(ask.disk_lasts(), instant=True),
        words={},
        limits=(Step(None, NEUTRAL), Step(0, BAD), Step(_DAY, WATCH), Step(7 * _DAY, GOOD)),
        empty="No sign of it",
        unit="dtdurations",
    )
    panels = {"lost": lost, "failing": rules, "alive": alive, "disk": disk, "full": full}
    widths = (5, 5, 4, 5, 5)
    return [Tile(key, panel, width, 3) for (key, panel), width in zip(panels.items(), widths, strict=True)]


def _servers() -> list[Tile]:
    table = grid(
        "Servers",
        "A server that is down, or was started just now without anybody having done so, was likely killed for its memory: "
        "make logs S=NAME.",
        [
            Ask(ask.server_up(), instant=True, ref="Up"),
            Ask(ask.server_memory_share(), instant=True, ref="Share"),
            Ask(ask.server_memory(), instant=True, ref="Memory"),
            Ask(ask.server_cpu(), instant=True, ref="CPU"),
            Ask(ask.server_started(), instant=True, ref="Started"),
        ],
        [
            Column("Value #Up", "State", 100, words=UP_DOWN, limits=(Step(None, NEUTRAL),), filled=True),
            Column("job", "Server", 115),
            Column("Value #Share", "Of its memory", 135, "percentunit", 0, limits=MEMORY_STEPS, empty="no limit told"),
            Column("Value #Memory", "Memory", 100, "bytes", 0),
            Column("Value #CPU", "Processors", 100, decimals=2),
            Column("Value #Started", "Started", None, "dateTimeFromNow"),
        ],
        empty="No server of the stack is scraped.",
        sort=[("State", False), ("Of its memory", True)],
    )
    up = history(
        "Up and down",
        "Red: it could not be scraped. All red at once is Prometheus's own network; one alone is that server.",
        [Ask(ask.server_up(), "{{job}}")],
        UP_DOWN,
        empty="No server of the stack is scraped.",
    )
    return [Tile("servers", table, 13, 9), Tile("up", up, 11, 9)]


def _flow() -> list[Tile]:
    names_ = {"spans": "Spans", "log_records": "Log lines", "metric_points": "Metric points"}
    items = graph(
        "Into the collector",
        "Nothing while services run: they cannot reach it, or send elsewhere. Ports 4317 and 4318.",
        [Ask(ask.taken_in(signal), shown) for signal, shown in names_.items()],
        empty="Nothing is sent to the collector in this range.",
        unit="suffix:/s",
        decimals=0,
    )
    samples = graph(
        "Samples into Prometheus",
        "A jump is a new target or a label with many values: the series it holds, below, jump too.",
        [Ask(ask.taken_in("samples"), "Samples")],
        empty="Prometheus takes in nothing: are its targets up?",
        unit="suffix:/s",
        decimals=0,
    )
    bytes_ = graph(
        "Bytes into Loki and Tempo",
        "What retention has to keep. A service that logs in a loop shows here first.",
        [Ask(ask.taken_in("log_bytes"), "Logs"), Ask(ask.taken_in("span_bytes"), "Traces")],
        empty="No logs and traces come in.",
        unit="Bps",
    )
    queues = graph(
        "The collector's queues",
        "They fill while a server behind them is down, and empty by themselves. At 100% what comes next is lost: bring the "
        "server back before.",
        [Ask(ask.queue_share(), "{{exporter}}")],
        empty="The collector does not tell: is it up?",
        unit="percentunit",
        limits=(Step(None, "transparent"), Step(1, BAD)),
        softest=1.05,
        decimals=1,
    )
    losses = graph(
        "Losses",
        "Everything that is thrown away. Each line says who does it; its log says why: make logs S=NAME.",
        [Ask(ask.lost(what), what) for what in ask.LOSSES],
        empty="Prometheus does not answer for this range.",
        unit="suffix:/s",
        softest=1,
        values=False,
    )
    for what, colour in zip(ask.LOSSES, cycle(TROUBLE)):
        line(losses, what, colour)
    for panel, colours in (
        (items, {"Spans": PURPLE, "Log lines": GOOD, "Metric points": BLUE}),
        (bytes_, {"Logs": GOOD, "Traces": PURPLE}),
        (samples, {"Samples": BLUE}),
    ):
        for name, colour in colours.items():
            line(panel, name, colour)
    return [
        Tile("items", items, 8, 7),
        Tile("samples", samples, 8, 7),
        Tile("bytes", bytes_, 8, 7),
        Tile("queues", queues, 12, 8),
        Tile("losses", losses, 12, 8),
    ]


def _rules() -> list[Tile]:
    took = graph(
        "Rules: the slowest groups, as a part of their interval",
        "At 100% a group is not done when it is due again, and is left out: alerts come late. Make its queries cheaper.",
        [Ask(ask.rule_time(), "{{group}}")],
        empty="Prometheus evaluates no rule: is prometheus/generated/rules there?",
        unit="percentunit",
        limits=(Step(None, "transparent"), Step(1, BAD)),
        softest=1.05,
        decimals=0,
        values=False,
    )
    trouble = graph(
        "Rules that fail or come late",
        "Above 0, what they record has holes. Prometheus names the rule and the error: /rules.",
        [Ask(query, name) for name, query in ask.rule_trouble()],
        empty="Prometheus evaluates no rule in this range.",
        unit="suffix:/s",
        softest=0.1,
    )
    for (name, _), colour in zip(ask.rule_trouble(), (BAD, WATCH, PURPLE), strict=True):
        line(trouble, name, colour)
    sent = graph(
        "Notifications per minute",
        "What leaves for people. Red: a receiver does not take it; check its address and its secret.",
        [Ask(ask.notified(), "{{integration}}"), Ask(ask.notified(failed=True), "{{integration}} fails")],
        empty="No notification was sent in this range.",
        decimals=1,
    )
    line(sent, ".+ fails", BAD, regex=True)
    return [Tile("took", took, 8, 8), Tile("trouble", trouble, 8, 8), Tile("sent", sent, 8, 8)]


def _room() -> list[Tile]:
    disk = graph(
        "Disk used",
        "Of the data's disk, and of each of this machine where node-exporter runs (COMPOSE_PROFILES=host in .env).",
        [Ask(ask.disk_used(), "{{mountpoint}}")],
        empty="Loki does not say: is it up?",
        unit="percentunit",
        limits=(Step(None, "transparent"), Step(0.9, BAD)),
        highest=1,
        decimals=0,
    )
    memory = graph(
        "Memory, of what each is told to keep to",
        "Above 100% the server collects garbage all the time; at 125% the kernel ends it. Raise mem_limit and GOMEMLIMIT in "
        "compose.override.yaml.",
        [Ask(ask.server_memory_share(), "{{job}}")],
        empty="No server tells a limit.",
        unit="percentunit",
        limits=(Step(None, "transparent"), Step(1, BAD)),
        softest=1.05,
        decimals=0,
    )
    stored = graph(
        "On disk",
        "What is kept for the retention below. It levels off when the oldest is deleted as fast as new comes.",
        [Ask(query, name) for name, query in ask.stored_bytes()],
        empty="No server tells.",
        unit="bytes",
    )
    series = graph(
        "Series in Prometheus",
        "Its memory follows this. A jump is a new label with many values: prometheus/tsdb-status in its own pages names it.",
        [Ask(ask.series_held(), "Series")],
        empty="Prometheus does not answer for this range.",
        decimals=0,
    )
    line(series, "Series", BLUE)
    tiles = [
        Tile("used", disk, 8, 8),
        Tile("memory", memory, 8, 8),
        Tile("stored", stored, 8, 8),
        Tile("series", series, 12, 6),
    ]
    for name, query in ask.kept():
        tiles.append(Tile(f"kept-{name}", _kept(f"{name} kept", Ask(query, instant=True), "dtdurations"), 3, 6))
    logs = _kept("Logs kept", Ask(ask.logs_kept(), "{{retention_hours}} h", instant=True), "short")
    logs.text_mode(cm.BigValueTextMode.NAME)
    deleted = _kept("Logs deleted", Ask(ask.logs_deleted(), instant=True), "dateTimeFromNow")
    deleted.description("When Loki last looked for logs that are too old. Hours ago: the disk fills; see its log.")
    return [*tiles, Tile("kept-logs", logs, 3, 6), Tile("deleted", deleted, 3, 6)]


def _kept(title: str, query: Ask, unit: str) -> Any:
    panel = tile_number(
        title,
        "Set it in .env and run make up. It must be longer than the longest window of an SLO.",
        query,
        words={},
        limits=(Step(None, NEUTRAL),),
        empty="Nothing has come in yet.",
        unit=unit,
    )
    return panel.color_mode(cm.BigValueColorMode.NONE)
