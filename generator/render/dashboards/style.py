"""One style for every dashboard: colours, words for states, panels, layout and the file's text.

Rules that hold everywhere: a colour never stands alone but beside a word or a line; an empty panel says why it is empty;
every panel says what to do about it; panel ids follow from keys, so that a new panel renumbers no other.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import orjson
from grafana_foundation_sdk.builders import common as c
from grafana_foundation_sdk.builders import dashboard as d
from grafana_foundation_sdk.builders import (
    datasource,
    heatmap,
    logs,
    loki,
    nodegraph,
    prometheus,
    stat,
    statetimeline,
    table,
    tempo,
    text,
    timeseries,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as cm
from grafana_foundation_sdk.models import dashboard as m
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from grafana_foundation_sdk.models.statetimeline import Options as StateTimelineOptions
from grafana_foundation_sdk.models.tempo import SearchTableType
from grafana_foundation_sdk.models.text import TextMode

from generator.render.dashboards.ask import EVERYWHERE, environments

WIDTH = 24
GOOD, WATCH, BAD, NEUTRAL, PLAIN = "green", "orange", "red", "#8e8e8e", "text"
BLUE, PURPLE = "blue", "purple"
# A row's day and time, short.
CLOCK = "time:MM-DD HH:mm:ss"
SEVERITY_COLOURS = {"critical": BAD, "warning": WATCH, "info": BLUE}
# Of bad things, each of a kind that only a query knows, such as types of errors: none looks as if all were well.
TROUBLE = (BAD, WATCH, PURPLE, "yellow", "super-light-red", "#a0643c", NEUTRAL, "dark-red")

PROMETHEUS = m.DataSourceRef(type_val="prometheus", uid="prometheus")
LOKI = m.DataSourceRef(type_val="loki", uid="loki")
TEMPO = m.DataSourceRef(type_val="tempo", uid="tempo")
# What another panel of the page was answered.
SHARED = m.DataSourceRef(type_val="datasource", uid="-- Dashboard --")

# Data and panel links keep the range that the reader looks at, and the environment where both pages have that.
KEEP_TIME = "${__url_time_range}"
KEEP_ENVIRONMENT = "var-environment=${environment}"

AnyPanel = Builder[m.Panel]
P = TypeVar("P", bound=Any)


@dataclass(frozen=True)
class Ask:
    """A query of a panel: PromQL unless ``source`` says otherwise."""

    expr: str
    legend: str = ""
    source: str = "prometheus"
    instant: bool = False
    exemplars: bool = False
    ref: str = ""
    step: str = ""
    # Of traces: a row for each span that matches instead of each trace. Of traces and log lines: how many rows at most; else 20
    # traces, or what the data source says of lines.
    spans: bool = False
    limit: int | None = None
    # Of buckets: each is a row of a heat map.
    heat: bool = False
    # Asks nothing, but shows what the panel with this id was answered; all else says what that is.
    of: int | None = None


# A condition on a column: its name, whether it equals, and the value.
Only = tuple[str, bool, str]


@dataclass(frozen=True)
class Tile:
    """A panel with its stable key and its size in grid units: 24 across, one is 30 pixels high.

    It stands to the right of the one before, or ``under`` it.
    """

    key: str
    panel: AnyPanel
    width: int
    height: int
    under: bool = False


@dataclass(frozen=True)
class Section:
    """A row of panels with a heading; ``repeat`` names the variable that it is repeated for."""

    key: str
    title: str
    tiles: Sequence[Tile]
    repeat: str | None = None
    collapsed: bool = False


@dataclass(frozen=True)
class Step:
    """From ``value`` on, this colour; None is the lowest, and what has no value at all: never green, for that is not known."""

    value: float | None
    colour: str


def panel_id(*keys: str) -> int:
    """A stable id, below 2^28, that follows from the panel's key alone."""
    return int(hashlib.sha256("\n".join(keys).encode()).hexdigest()[:7], 16) + 1


# --- panels -------------------------------------------------------------------------------------------------------


def with_queries(panel: P, asks: Sequence[Ask], *, as_table: bool = False) -> P:
    """The panel with its queries, and with the data source that they share."""
    for index, ask in enumerate(asks):
        ref = ask.ref or chr(ord("A") + index % 26) + ("" if index < 26 else str(index // 26))
        target: Any
        if ask.of is not None:
            target = datasource.Dataquery().datasource(SHARED).panel_id(ask.of).ref_id(ref)
        elif ask.source == "prometheus":
            target = prometheus.Dataquery().datasource(PROMETHEUS).expr(ask.expr).ref_id(ref)
            target = target.instant() if ask.instant else target.range()
            if as_table and ask.instant:
                target = target.format(PromQueryFormat.TABLE)
            elif ask.heat:
                target = target.format(PromQueryFormat.HEATMAP)
            if ask.legend:
                target = target.legend_format(ask.legend)
            if ask.exemplars:
                target = target.exemplar(True)
            if ask.step:
                target = target.interval(ask.step)
        elif ask.source == "loki":
            kind = "instant" if ask.instant else "range"
            target = loki.Dataquery().datasource(LOKI).expr(ask.expr).query_type(kind).ref_id(ref)
            if ask.legend:
                target = target.legend_format(ask.legend)
            if ask.limit:
                target = target.max_lines(ask.limit)
        else:
            target = tempo.TempoQuery().datasource(TEMPO).query_type("traceql").query(ask.expr).ref_id(ref)
            target = target.table_type(SearchTableType.SPANS if ask.spans else SearchTableType.TRACES).limit(ask.limit or 20)
            if ask.spans:
                target = target.spss(ask.limit or 20)
        panel.with_target(target)
    sources = {"shared" if ask.of is not None else ask.source for ask in asks}
    if len(sources) == 1:
        panel.datasource({"prometheus": PROMETHEUS, "loki": LOKI, "tempo": TEMPO, "shared": SHARED}[sources.pop()])
    return panel


def _keep(panel: P, only: Sequence[Only]) -> P:
    """Only the rows that meet every condition."""
    if only:
        filters = [
            {"fieldName": name, "config": {"id": "equal" if equals else "notEqual", "options": {"value": value}}}
            for name, equals, value in only
        ]
        options = {"filters": filters, "type": "include", "match": "all"}
        panel.with_transformation(m.DataTransformerConfig(id_val="filterByValue", options=options))
    return panel


def _base(panel: P, title: str, description: str, empty: str | None = None) -> P:
    panel.title(title).description(description)
    if empty is not None:
        panel.no_value(empty)
    return panel


def steps(*parts: Step) -> d.ThresholdsConfig:
    """Thresholds by absolute value."""
    models = [m.Threshold(value=part.value, color=part.colour) for part in parts]
    return d.ThresholdsConfig().mode(m.ThresholdsMode.ABSOLUTE).steps(models)


def _explained(panel: P) -> P:
    """The table, which says why it is empty where it is.

    Columns without rows are their headings to Grafana, and no word. Cut into parts by a column that is the same everywhere, a
    table is one part, and one without rows is none.
    """
    zero = {"left": {"fixed": "0"}, "operator": "+", "right": {"fixed": "0"}}
    panel.with_transformation(
        m.DataTransformerConfig(id_val="calculateField", options={"mode": "binary", "alias": _PART, "binary": zero})
    )
    parts = {"fields": [_PART], "keepFields": False, "naming": {"asLabels": False}}
    panel.with_transformation(m.DataTransformerConfig(id_val="partitionByValues", options=parts))
    return panel


_PART = "part"


def fine(nothing: str) -> str:
    """Why a panel is empty where that is good news: Grafana says the same of a server that did not answer, with a red mark."""
    return f"{nothing} That is good, unless the title has a red mark: then the server did not answer."


def graph(
    title: str,
    description: str,
    asks: Sequence[Ask],
    *,
    empty: str,
    unit: str = "short",
    limits: Sequence[Step] = (),
    lowest: float | None = 0,
    highest: float | None = None,
    softest: float | None = None,
    decimals: int | None = None,
    fill: int = 0,
    values: bool = True,
    stacked: bool = False,
    bars: bool = False,
    trouble: bool = False,
) -> timeseries.Panel:
    """Lines over time. ``limits`` are drawn as dashed lines, ``values`` puts the last value beside each name.

    ``stacked`` puts series on top of each other, ``bars`` draws each step on its own. ``trouble``: every series is a bad thing.
    """
    panel = with_queries(_base(timeseries.Panel(), title, description, empty), asks)
    panel.unit(unit).line_width(2).fill_opacity(fill).show_points(cm.VisibilityMode.NEVER)
    panel.tooltip(c.VizTooltipOptions().mode(cm.TooltipDisplayMode.MULTI).sort(cm.SortOrder.DESCENDING))
    legend = c.VizLegendOptions().display_mode(cm.LegendDisplayMode.LIST).placement(cm.LegendPlacement.BOTTOM)
    panel.legend(legend.show_legend(True).calcs(["lastNotNull"] if values else []))
    if stacked:
        panel.stacking(c.StackingConfig().mode(cm.StackingMode.NORMAL).group("A")).line_width(1).fill_opacity(55)
    if bars:
        panel.draw_style(cm.GraphDrawStyle.BARS).line_width(0).fill_opacity(75)
    if lowest is not None:
        panel.min(lowest)
    if highest is not None:
        panel.max(highest)
    if softest is not None:
        panel.axis_soft_max(softest)
    if decimals is not None:
        panel.decimals(decimals)
    if limits:
        panel.thresholds(steps(*limits))
        panel.thresholds_style(c.GraphThresholdsStyleConfig().mode(cm.GraphThresholdsStyleMode.DASHED))
    if trouble:
        _troubled(panel)
    return panel


def is_trouble(*names: str) -> bool:
    """Whether names that users gave say that more of it is worse."""
    return any(_TROUBLE.search(name) for name in names)


_TROUBLE = re.compile(r"error|fail|(?<!de)fault|timeout|reject|refus|drop|los[st]|5xx", re.IGNORECASE)


def _troubled(panel: timeseries.Panel) -> None:
    """Colours that follow from the series' names: each has its own on every page and at every time, as far as there are enough.

    Grafana's palettes begin with green, and those without it are shades of one colour, of which two beside each other look the
    same. A regular expression can count: here every second letter and digit. Names that agree in that are shades.
    """
    panel.color_scheme(d.FieldColor().mode(m.FieldColorModeId.SHADES).fixed_color(TROUBLE[0]))
    for number, colour in enumerate(TROUBLE[1:], start=1):
        one, all_ = f"{_COUNTED}{_REST}*", len(TROUBLE)
        shade = m.DynamicConfigValue(id_val="color", value={"mode": "shades", "fixedColor": colour})
        panel.override_by_regexp(f"{_REST}*(?:(?:{one}){{{all_}}})*(?:{one}){{{number}}}", [shade])


_COUNTED, _REST = "[aAcCeEgGiIkKmMoOqQsSuUwWyY02468]", "[^aAcCeEgGiIkKmMoOqQsSuUwWyY02468]"


def line(panel: timeseries.Panel, name: str, colour: str, *, dashed: bool = False, regex: bool = False) -> None:
    """Gives the series called ``name`` its colour; dashed where it is a limit and not a measurement."""
    properties = [m.DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": colour})]
    if dashed:
        properties.append(m.DynamicConfigValue(id_val="custom.lineStyle", value={"fill": "dash", "dash": [8, 6]}))
        properties.append(m.DynamicConfigValue(id_val="custom.lineWidth", value=1))
        properties.append(m.DynamicConfigValue(id_val="custom.fillOpacity", value=0))
    if regex:
        panel.override_by_regexp(name, properties)
    else:
        panel.override_by_name(name, properties)


def tile_number(
    title: str,
    description: str,
    ask: Ask,
    *,
    words: Mapping[str, tuple[str, str]],
    limits: Sequence[Step],
    empty: str,
    unit: str = "short",
    decimals: int = 0,
    column: tuple[str, str] | None = None,
    only: Sequence[Only] = (),
) -> stat.Panel:
    """One number, or the word that ``words`` gives for it with its colour.

    Of a table it is what ``column`` names: the column, and how it becomes one number (``sum``, ``count``, ``distinctCount``).
    """
    panel = _keep(with_queries(_base(stat.Panel(), title, description, empty), [ask]), only)
    panel.color_mode(cm.BigValueColorMode.BACKGROUND_SOLID).graph_mode(cm.BigValueGraphMode.NONE)
    panel.text_mode(cm.BigValueTextMode.VALUE).decimals(decimals).thresholds(steps(*limits))
    panel.unit(unit).mappings([mapping(words)] if words else [])
    reduce = c.ReduceDataOptions().calcs([column[1] if column else "lastNotNull"])
    panel.reduce_options(reduce.fields(f"/^{column[0]}$/") if column else reduce)
    return panel


def mapping(words: Mapping[str, tuple[str, str]]) -> m.ValueMap:
    """Value to word and colour."""
    return m.ValueMap(
        options={
            value: m.ValueMappingResult(text=word, color=colour, index=index)
            for index, (value, (word, colour)) in enumerate(words.items())
        }
    )


@dataclass(frozen=True)
class Column:
    """A column of a table, by the name that the query gives it; hidden when ``title`` is empty.

    ``below`` gives values under a number a word instead.
    """

    name: str
    title: str = ""
    width: int | None = None
    unit: str | None = None
    decimals: int | None = None
    words: Mapping[str, tuple[str, str]] | None = None
    below: tuple[float, str] | None = None
    limits: Sequence[Step] = ()
    filled: bool = False
    link: tuple[str, str] | None = None
    empty: str | None = None
    wrapped: bool = False


def grid(
    title: str,
    description: str,
    asks: Sequence[Ask],
    columns: Sequence[Column],
    *,
    empty: str,
    sort: Sequence[tuple[str, bool]] = (),
) -> table.Panel:
    """A table: the answers to ``asks``, joined where their labels agree, with ``columns`` in order and no others.

    ``sort`` names columns by title, each with whether the largest comes first.
    """
    panel = with_queries(_base(table.Panel(), title, description, empty), asks, as_table=True)
    if len(asks) > 1:
        _explained(panel.with_transformation(m.DataTransformerConfig(id_val="merge", options={})))
    organize = {
        "excludeByName": {"Time": True},
        "indexByName": {column.name: index for index, column in enumerate(columns)},
        "renameByName": {column.name: column.title for column in columns if column.title and column.title != column.name},
    }
    panel.with_transformation(m.DataTransformerConfig(id_val="organize", options=organize))
    panel.cell_height(cm.TableCellHeight.SM).sort_by(
        [c.TableSortByFieldState().display_name(name).desc(desc) for name, desc in sort]
    )
    for column in columns:
        panel.override_by_name(column.title or column.name, _column(column))
    return panel


def _column(column: Column) -> list[m.DynamicConfigValue]:
    out: list[tuple[str, object]] = []
    if not column.title:
        out.append(("custom.hidden", True))
    if column.width:
        out.append(("custom.width", column.width))
    if column.unit:
        out.append(("unit", column.unit))
    if column.decimals is not None:
        out.append(("decimals", column.decimals))
    if column.words:
        out.append(("mappings", [mapping(column.words)]))
    if column.below:
        word = m.ValueMappingResult(text=column.below[1], color=BAD)
        out.append(("mappings", [m.RangeMap(options=m.DashboardRangeMapOptions(to=column.below[0], result=word))]))
    if column.limits:
        out.append(("thresholds", steps(*column.limits).build()))
    if column.filled:
        out.append(("custom.cellOptions", {"type": "color-background", "mode": "basic"}))
        out.append(("custom.align", "center"))
    elif column.limits:
        out.append(("custom.cellOptions", {"type": "color-text"}))
    elif column.wrapped:
        out.append(("custom.cellOptions", {"type": "auto", "wrapText": True}))
    if column.link and column.title:
        link = {"title": column.link[0], "url": column.link[1], "targetBlank": False}
        out.append(("links", [link]))
    # Without this an empty cell would repeat why the whole table may be empty.
    out.append(("noValue", column.empty or "–"))
    return [m.DynamicConfigValue(id_val=name, value=value) for name, value in out]


def rows(
    title: str,
    description: str,
    ask: Ask,
    columns: Sequence[Column],
    *,
    empty: str,
    sort: Sequence[tuple[str, bool]] = (),
    only: Sequence[Only] = (),
    summed: str = "",
) -> table.Panel:
    """A table of a single query to Loki or Tempo, with ``columns`` in order and no others.

    ``summed`` is the column of which each row has the sum, where several rows of the answer agree in all other columns.
    """
    panel = with_queries(_base(table.Panel(), title, description, empty), [ask])
    if ask.source == "loki" and not ask.instant:
        # Each line, with what is known of it as fields.
        # By other names than the data source's own fields have, for those would come twice.
        paths = [{"path": column.name, "alias": column.title} for column in columns if column.name.islower()]
        paths += [{"path": name, "alias": name} for name, _, _ in only]
        labels = {"source": "labels", "format": "json", "replace": False, "keepTime": False, "jsonPaths": paths}
        panel.with_transformation(m.DataTransformerConfig(id_val="extractFields", options=labels))
        # What is known of a line is text.
        numbers = [column.title for column in columns if column.name.islower() and column.unit]
        if numbers:
            conversions = [{"targetField": title, "destinationType": "number"} for title in numbers]
            panel.with_transformation(m.DataTransformerConfig(id_val="convertFieldType", options={"conversions": conversions}))
        # “Not Found” is what Grafana writes where a line has no such field.
        columns = [
            replace(column, name=column.title, words={**(column.words or {}), "Not Found": (column.empty or "–", NEUTRAL)})
            if column.name.islower()
            else column
            for column in columns
        ]
    _keep(panel, only)
    if summed:
        fields: dict[str, object] = {
            column.name: {"operation": "groupby", "aggregations": []} for column in columns if column.name != summed
        }
        fields[summed] = {"operation": "aggregate", "aggregations": ["sum"]}
        panel.with_transformation(m.DataTransformerConfig(id_val="groupBy", options={"fields": fields}))
        columns = [replace(one, name=f"{summed} (sum)") if one.name == summed else one for one in columns]
    _explained(panel)
    organize = {
        "includeByName": {column.name: True for column in columns},
        "indexByName": {column.name: index for index, column in enumerate(columns)},
        "renameByName": {column.name: column.title for column in columns if column.title and column.title != column.name},
    }
    panel.with_transformation(m.DataTransformerConfig(id_val="organize", options=organize))
    panel.cell_height(cm.TableCellHeight.SM).sort_by(
        [c.TableSortByFieldState().display_name(name).desc(desc) for name, desc in sort]
    )
    for column in columns:
        panel.override_by_name(column.title or column.name, _column(column))
    return panel


def one_trace(title: str, description: str, ask: Ask) -> AnyPanel:
    """The spans of one trace under each other, as long as they took."""
    # The SDK has no builder for it. Grafana's panel of it has no field config, and so no word of ours where it is empty.
    return with_queries(d.Panel().type("traces").title(title).description(description), [ask])


def prose(html: str, *, title: str = "", description: str = "") -> text.Panel:
    """Text for people. ``html`` must be escaped where it holds anything of the user's."""
    panel = text.Panel().title(title).mode(TextMode.HTML).content(html)
    if description:
        panel.description(description)
    if not title:
        panel.transparent(True)
    return panel


def log_lines(title: str, description: str, ask: Ask) -> logs.Panel:
    """Log lines, newest first; a line's details have the link to its trace.

    Grafana's panel of logs has no field config, and so no word of ours where it is empty: put one beside it that is empty when
    it is. Use ``rows`` where the fields of a line need not be looked through.
    """
    panel = with_queries(_base(logs.Panel(), title, description), [ask])
    return panel.show_time(True).wrap_log_message(True).enable_log_details(True).sort_order(cm.LogsSortOrder.DESCENDING)


def traces(title: str, description: str, ask: Ask, *, empty: str) -> table.Panel:
    """Traces that a TraceQL query finds; each row opens one."""
    panel = _explained(with_queries(_base(table.Panel(), title, description, empty), [ask]))
    for name, width in (("traceID", 110), ("startTime", 120), ("traceService", 110), ("traceName", 230), ("traceDuration", 90)):
        panel.override_by_name(name, [m.DynamicConfigValue(id_val="custom.width", value=width)])
    panel.override_by_name("startTime", [m.DynamicConfigValue(id_val="unit", value="dateTimeFromNow")])
    # Why the table may be empty would stand there, in a row whose first span has yet to come.
    panel.override_by_name("traceName", [m.DynamicConfigValue(id_val="noValue", value="–")])
    return panel.cell_height(cm.TableCellHeight.SM).sort_by([c.TableSortByFieldState().display_name("Start time").desc(True)])


def history(
    title: str, description: str, asks: Sequence[Ask], words: Mapping[str, tuple[str, str]], *, empty: str
) -> statetimeline.Panel:
    """Words over time, one line for each series: what follows itself is one bar with its word in it."""
    panel = with_queries(_base(statetimeline.Panel(), title, description, empty), asks)
    panel.mappings([mapping(words)]).color_scheme(d.FieldColor().mode(m.FieldColorModeId.FIXED).fixed_color(NEUTRAL))
    panel.show_value(cm.VisibilityMode.AUTO).merge_values(True).row_height(0.8).fill_opacity(80).line_width(0)
    panel.legend(c.VizLegendOptions().show_legend(False))
    options = panel.build().options
    if isinstance(options, StateTimelineOptions):
        # The builder refuses 0, and any other number brings buttons for pages.
        options.per_page = None
    return panel


def heat(title: str, description: str, ask: Ask, *, unit: str) -> heatmap.Panel:
    """How many values fell into each bucket over time; an exemplar is a dot that opens its trace.

    Of the field config Grafana's picture takes only links, and so no word of ours where it is empty: put a graph of the same
    buckets beside it.
    """
    panel = with_queries(_base(heatmap.Panel(), title, description), [replace(ask, heat=True, exemplars=True)])
    panel.calculate(False).show_legend().cell_gap(1).filter_values(heatmap.FilterValueRange().le(1e-9))
    panel.y_axis(heatmap.YAxisConfig().unit(unit).axis_placement(cm.AxisPlacement.LEFT))
    colours = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Blues").exponent(0.5).steps(32).reverse(False)
    panel.cell_values(heatmap.CellValues().unit("suffix:/s").decimals(2))
    return panel.color(colours).exemplars_color("orange")


def who_calls_whom(title: str, description: str, rate: Ask, failed: Ask) -> nodegraph.Panel:
    """Circles and arrows from the labels ``id``, ``source`` and ``target``: calls per second, and those of them that fail.

    Of the field config Grafana's picture takes only links, and so no word of ours where it is empty: `ask.arrows` says it.
    """
    panel = with_queries(_base(nodegraph.Panel(), title, description), [rate, failed], as_table=True)
    panel.with_transformation(m.DataTransformerConfig(id_val="merge", options={}))
    # It goes by the names of fields, and a field that is renamed keeps its own: what it looks for has to be made.
    for asked, name in ((rate, "mainstat"), (failed, "secondarystat")):
        value = {"matcher": {"id": "byName", "options": f"Value #{asked.ref}"}}
        same = {"left": value, "operator": "*", "right": {"fixed": "1"}}
        options = {"mode": "binary", "alias": name, "binary": same}
        panel.with_transformation(m.DataTransformerConfig(id_val="calculateField", options=options))
    shown = {"excludeByName": {"Time": True}, "renameByName": {"mainstat": "Calls", "secondarystat": "Those that fail"}}
    panel.with_transformation(m.DataTransformerConfig(id_val="organize", options=shown))
    # Written behind the numbers as they are.
    return panel.edges(nodegraph.EdgeOptions().main_stat_unit("/s").secondary_stat_unit("/s fail"))


# --- dashboards ---------------------------------------------------------------------------------------------------


class Mark(m.AnnotationQuery):
    """Marks on every graph from a Prometheus query, with the fields that the SDK's model has no names for."""

    def __init__(
        self, name: str, expr: str, colour: str, title: str, text: str, *, at_value: bool = False, shown: bool = True
    ) -> None:
        """``at_value``: the query's value is the time of the mark, in milliseconds. Not ``shown``: until it is switched on."""
        super().__init__(name=name, datasource=PROMETHEUS, enable=shown, icon_color=colour, expr=expr)
        self.title, self.text, self.at_value = title, text, at_value

    def to_json(self) -> dict[str, object]:
        """As the SDK does, with title, text and step."""
        more = {"titleFormat": self.title, "textFormat": self.text, "step": "60s"}
        return {**super().to_json(), **more, **({"useValueForTime": True} if self.at_value else {})}


def link(title: str, url: str, *, tooltip: str = "", icon: str = "external link") -> d.DashboardLink:
    """A link at the top of a dashboard, which keeps the time range."""
    made = d.DashboardLink(title).type(m.DashboardLinkType.LINK).url(url).icon(icon).keep_time(True)
    return made.tooltip(tooltip) if tooltip else made


def dashboard(
    uid: str,
    title: str,
    description: str,
    sections: Sequence[Section],
    *,
    tags: Sequence[str],
    since: str,
    links: Sequence[d.DashboardLink] = (),
    variables: Sequence[m.VariableModel] = (),
    annotations: Sequence[m.AnnotationQuery] = (),
    refresh: str = "30s",
) -> m.Dashboard:
    """A dashboard, read-only, with its panels laid out from left to right and top to bottom."""
    made = d.Dashboard(title).uid(uid).description(description).tags(["lgtm", *tags]).readonly().timezone("browser")
    made.tooltip(m.DashboardCursorSync.CROSSHAIR).time(since, "now").refresh(refresh).links(list(links))
    built = made.build()
    built.templating.list_val = list(variables)
    built.annotations.list_val = list(annotations)
    built.panels = _laid_out(uid, sections)
    return built


def _laid_out(uid: str, sections: Sequence[Section]) -> list[m.Panel | m.RowPanel]:
    out: list[m.Panel | m.RowPanel] = []
    y = 0
    for section in sections:
        if not section.tiles:
            continue
        row = None
        if section.title:
            row = m.RowPanel(
                title=section.title,
                id_val=panel_id(uid, section.key),
                collapsed=section.collapsed,
                repeat=section.repeat,
                grid_pos=m.GridPos(h=1, w=WIDTH, x=0, y=y),
            )
            out.append(row)
            y += 1
        placed, y = _placed(uid, section, y)
        if row is not None and section.collapsed:
            row.panels = placed
        else:
            out += placed
    return out


def _placed(uid: str, section: Section, y: int) -> tuple[list[m.Panel], int]:
    x, bottom = 0, y
    placed: list[m.Panel] = []
    at = m.GridPos()
    for tile in section.tiles:
        if tile.under:
            at = m.GridPos(h=tile.height, w=tile.width, x=at.x, y=at.y + at.h)
        else:
            if x + tile.width > WIDTH:
                x, y = 0, bottom
            at = m.GridPos(h=tile.height, w=tile.width, x=x, y=y)
        panel = tile.panel.build()
        panel.id_val = panel_id(uid, section.key, tile.key)
        panel.grid_pos = at
        placed.append(panel)
        x, bottom = at.x + tile.width, max(bottom, at.y + tile.height)
    return placed, bottom


# --- text ---------------------------------------------------------------------------------------------------------


def encoded(made: m.Dashboard) -> str:
    """The dashboard as a file: keys sorted, indented, a newline at the end."""
    # Dashboards are most of what a render takes, and the standard library indents in Python.
    option = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
    return orjson.dumps(made, default=lambda part: part.to_json(), option=option).decode()


@dataclass(frozen=True)
class Choices:
    """A variable that the reader chooses from a fixed list: value and text of each."""

    name: str
    label: str
    options: Sequence[tuple[str, str]]
    every: str | None = None
    hidden: bool = False
    description: str = ""

    def model(self) -> m.VariableModel:
        """As Grafana has it. ``every`` is the text for all of them, which then stands first."""

        def written(part: str) -> str:
            return part.replace("\\", "\\\\").replace(",", "\\,")

        query = ",".join(f"{written(shown)} : {written(value)}" for value, shown in self.options)
        options = [m.VariableOption(selected=False, text=shown, value=value) for value, shown in self.options]
        current = m.VariableOption(selected=True, text=self.options[0][1], value=self.options[0][0])
        if self.every is not None:
            current = m.VariableOption(selected=True, text="All", value="$__all")
            options.insert(0, current)
        return m.VariableModel(
            type_val=m.VariableType.CUSTOM,
            name=self.name,
            label=self.label,
            description=self.description or None,
            query=query,
            options=options,
            current=current,
            multi=False,
            include_all=self.every is not None,
            all_value=self.every,
            hide=m.VariableHide.HIDE_VARIABLE if self.hidden else m.VariableHide.DONT_HIDE,
            allow_custom_value=False,
        )


def environment(more: str = "") -> m.VariableModel:
    """The variable that narrows a page to one environment: what services send themselves, and deployments."""
    about = "Narrows logs, traces, deployments and what services send themselves. Logs and traces that name none have “none”."
    return m.VariableModel(
        type_val=m.VariableType.QUERY,
        name="environment",
        label="Environment",
        description=f"{about} {more}".strip(),
        datasource=PROMETHEUS,
        query={"query": environments(), "refId": "environment"},
        refresh=m.VariableRefresh.ON_TIME_RANGE_CHANGED,
        sort=m.VariableSort.ALPHABETICAL_ASC,
        multi=False,
        include_all=True,
        all_value=EVERYWHERE,
        current=m.VariableOption(selected=True, text="All", value="$__all"),
    )


@dataclass(frozen=True)
class Looked:
    """A hidden variable that is what a PromQL query of one value answers, asked again when the time range changes."""

    name: str
    expr: str
    default: str

    def model(self) -> m.VariableModel:
        """As Grafana has it."""
        return m.VariableModel(
            type_val=m.VariableType.QUERY,
            name=self.name,
            datasource=PROMETHEUS,
            query={"query": f"query_result({self.expr})", "refId": self.name},
            # What it is given: labels, value, time.
            regex=r"/\} (\S+) /",
            refresh=m.VariableRefresh.ON_TIME_RANGE_CHANGED,
            current=m.VariableOption(selected=True, text=self.default, value=self.default),
            hide=m.VariableHide.HIDE_VARIABLE,
        )


@dataclass(frozen=True)
class TextBox:
    """A variable that the reader types."""

    name: str
    label: str
    description: str = ""
    hidden: bool = False
    default: str = ""

    def model(self) -> m.VariableModel:
        """As Grafana has it."""
        return m.VariableModel(
            type_val=m.VariableType.TEXTBOX,
            name=self.name,
            label=self.label,
            description=self.description or None,
            query=self.default,
            current=m.VariableOption(selected=True, text=self.default, value=self.default),
            options=[m.VariableOption(selected=True, text=self.default, value=self.default)],
            hide=m.VariableHide.HIDE_VARIABLE if self.hidden else m.VariableHide.DONT_HIDE,
        )
