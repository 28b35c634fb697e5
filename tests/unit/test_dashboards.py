"""Dashboards: valid, stable, linked, with thresholds that follow from the objectives."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from generator import names, promql, source
from generator.model import Model, load, resolve
from generator.render import dashboards, runbooks
from generator.render.dashboards import ask
from generator.units import Duration

ROOT = Path(__file__).parents[2]
GREENSTACK = ROOT / "examples" / "greenstack.yaml"
SPEC = """
version: 1
organization: Shop
defaults: {owner: backend}
services:
  shop:
    title: The <b>Shop</b>
    depends_on: [database]
    probes:
      live: {url: "http://shop:8000/health", slower_than: 3s}
      latency: {url: "http://shop:8000/fast"}
    slos:
      availability:
        title: Orders, paid and shipped
        objective: 99.9%
        by: [region]
        sli: {ratio: {errors: 'http_requests_total{code=~"5.."}', total: http_requests_total}}
        runbook:
          symptoms: "Costs $slo and ${alert} and $5, says <script>alert(1)</script>"
          diagnosis: ["Run `curl -s http://shop:8000/health`", "line one\\nline two", "See http://example.com/a, a lone ` too"]
          causes: [{cause: "disk : full", fix: grow it}, a bug]
      latency:
        objective: 95%
        window: 7d
        sli: {latency: {histogram: http_request_duration_seconds, under: 300ms}}
      live: {objective: 99%, sli: {probe: live}, sla: {objective: 98%, window: calendar quarter}}
    processes:
      checkout:
        name: Checkout
        sla: 5s
        stages: [cart, pay]
        objectives: {success: 99%, within_sla: 95%}
      nightly: {name: Nightly export, from: spans}
    alerts:
      PoolSaturated: {expr: db_pool_used / db_pool_size, above: 80%, for: 5m}
      DiskLow: {expr: disk_free_bytes, below: 2GiB, severity: critical, runbook: "https://wiki.example.com/disk"}
      Strange: {expr: strange_total > 3}
  database:
    match: {job: shop}
    slos:
      reachable: {objective: 99.95%, sli: {boolean: 'dependency_up{dependency="database"}'}}
  dotted.name: {probes: {p: {url: "http://x/"}}, depends_on: [shop]}
  a-service-with-a-name-that-is-longer-than-forty: {scrape: {targets: ["x:1"]}}
"""


def model_of(text: str) -> Model:
    """A Model from the text of a file."""
    result = resolve(source.read_text(text, "slos.yaml"))
    assert result.model is not None, result.diagnostics
    return result.model


@pytest.fixture(scope="module")
def model() -> Model:
    return model_of(SPEC)


@pytest.fixture(scope="module")
def pages(model: Model) -> dict[str, dict[str, Any]]:
    return {artifact.path: json.loads(artifact.text) for artifact in dashboards.render(model)}


@pytest.fixture(scope="module")
def by_uid(pages: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {page["uid"]: page for page in pages.values()}


def panel(page: Mapping[str, Any], title: str) -> Mapping[str, Any]:
    """The one panel with a title."""
    found = [p for p in dashboards.panels(page) if p.get("title") == title]
    assert len(found) == 1, [p.get("title") for p in dashboards.panels(page)]
    return found[0]


def ids(page: Mapping[str, Any]) -> list[int]:
    """The ids of all panels and rows."""
    rows = [p["id"] for p in page["panels"] if p["type"] == "row"]
    return rows + [p["id"] for p in dashboards.panels(page)]


def test_there_are_the_shared_pages_and_those_of_each_service_and_process(pages: Mapping[str, Any], model: Model) -> None:
    expected = {names.OVERVIEW_UID, names.STACK_UID, names.INCIDENT_UID, names.DEPLOYMENTS_UID, names.ALERTS_UID}
    expected |= {names.PROBES_UID, names.SLA_UID, names.ERRORS_UID}
    owned: dict[str, str] = {}
    for service in model.services:
        owned |= dict.fromkeys((names.service_uid(service.name), names.runbook_uid(service.name)), service.owner)
        owned |= {names.process_uid(service.name, process.id): process.owner for process in service.processes}
    assert len(expected) + len(owned) == 8 + 2 * 4 + 2
    paths = {*expected, *(f"{owner}/{uid}" for uid, owner in owned.items())}
    assert set(pages) == {f"grafana/generated/dashboards/{path}.json" for path in paths}
    assert all(page["uid"] == path.rpartition("/")[2].removesuffix(".json") for path, page in pages.items())


def test_uids_fit_grafana(by_uid: Mapping[str, Any]) -> None:
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", uid) for uid in by_uid)


def test_panel_ids_are_unique_within_a_page(by_uid: Mapping[str, Any]) -> None:
    for page in by_uid.values():
        assert len(set(ids(page))) == len(ids(page))


def test_a_new_slo_alert_or_probe_renumbers_nothing(by_uid: Mapping[str, Any]) -> None:
    data = yaml.safe_load(SPEC)
    shop = data["services"]["shop"]
    shop["slos"] = {"first": {"objective": "95%", "sli": {"latency": {"histogram": "h", "under": "300ms"}}}, **shop["slos"]}
    shop["alerts"] = {"First": {"expr": "x", "above": 1}, **shop["alerts"]}
    after = {
        page["uid"]: page
        for page in map(json.loads, (a.text for a in dashboards.render(model_of(yaml.safe_dump(data, sort_keys=False)))))
    }
    for uid, page in by_uid.items():
        before = {p["id"]: p.get("title") for p in dashboards.panels(page)}
        now = {p["id"]: p.get("title") for p in dashboards.panels(after[uid])}
        assert before.items() <= now.items()
    # The latency and where its requests lie, and the alert.
    assert len(ids(after["service-shop"])) == len(ids(by_uid["service-shop"])) + 3


def test_rendering_twice_gives_the_same_bytes_with_a_newline_at_the_end(model: Model) -> None:
    first, second = dashboards.render(model), dashboards.render(model_of(SPEC))
    assert first == second
    assert all(a.text.endswith("}\n") for a in first)
    assert first == sorted(first)


def test_every_page_is_read_only_and_described(by_uid: Mapping[str, Any]) -> None:
    for page in by_uid.values():
        assert page["editable"] is False
        assert page["description"]
        assert "lgtm" in page["tags"]
        for one in dashboards.panels(page):
            assert one["type"] == "text" or one["description"], one["title"]


def test_a_panel_says_in_more_than_a_word_or_two_what_to_look_for(by_uid: Mapping[str, Any]) -> None:
    for page in by_uid.values():
        for one in dashboards.panels(page):
            text = one.get("description") or ""
            assert one["type"] == "text" or (len(text.split()) > 4 and text.endswith((".", "?"))), (
                page["uid"],
                one["title"],
                text,
            )


def test_what_is_not_known_is_never_green(by_uid: Mapping[str, Any]) -> None:
    """What has no value takes the lowest step's colour: a green "Prometheus does not answer" would be read as all is well."""
    seen = 0
    for page in by_uid.values():
        for one in dashboards.panels(page):
            config = one.get("fieldConfig") or {}
            limits = [config.get("defaults", {}).get("thresholds")]
            limits += [p["value"] for o in config.get("overrides") or () for p in o["properties"] if p["id"] == "thresholds"]
            for steps in (limit["steps"] for limit in limits if limit):
                seen += 1
                assert steps[0]["value"] is None and steps[0]["color"] != "green", (page["uid"], one["title"])
    assert seen > 50


def test_a_table_without_rows_says_why(by_uid: Mapping[str, Any]) -> None:
    """Grafana shows the headings of columns without rows, and no word: such an answer must become no table at all."""
    for page in by_uid.values():
        for one in dashboards.panels(page):
            asked = one.get("targets") or ()
            kinds = {q.datasource for q in dashboards.queries(page) if q.panel == one["title"]}
            if one["type"] == "table" and (len(asked) > 1 or "tempo" in kinds):
                steps = [step["id"] for step in one["transformations"]]
                assert "partitionByValues" in steps, (page["uid"], one["title"])
                assert steps.index("partitionByValues") == steps.index("calculateField") + 1


@pytest.fixture(scope="module")
def everywhere(by_uid: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The pages of this file's spec, of the shipped one and of every example."""
    found = list(by_uid.values())
    for file in (ROOT / "slos.yaml", *sorted((ROOT / "examples").glob("*.yaml"))):
        result = load([file], variables={})
        assert result.model is not None, result.diagnostics
        found += [json.loads(artifact.text) for artifact in dashboards.render(result.model)]
    assert len(found) > 60
    return found


# Of a panel's field config Grafana keeps what its type takes, and these take no word for an empty answer.
MUTE = {"logs", "traces", "nodeGraph", "heatmap"}


def test_every_panel_says_in_words_why_it_may_be_empty(everywhere: list[dict[str, Any]]) -> None:
    for page in everywhere:
        for one in dashboards.panels(page):
            if one.get("targets") and one["type"] not in MUTE:
                assert len(one["fieldConfig"]["defaults"]["noValue"].split()) > 1, one["title"]
        assert "No data" not in json.dumps(page), page["uid"]


def test_what_cannot_say_why_it_is_empty_stands_beside_what_says_it_of_both(everywhere: list[dict[str, Any]]) -> None:
    seen = set()
    for page in everywhere:
        for one in dashboards.panels(page):
            if one["type"] not in MUTE:
                continue
            seen.add(one["type"])
            assert "noValue" not in (one.get("fieldConfig") or {}).get("defaults", {}), one["title"]
            if one["type"] == "nodeGraph":
                assert any(re.search(r'or on \(\) .*vector\(0\), "id", "No calls', target["expr"]) for target in one["targets"])
                continue
            (target,) = one["targets"]
            beside = [
                other
                for other in dashboards.panels(page)
                if other["gridPos"]["y"] == one["gridPos"]["y"]
                and (other["id"] == target.get("panelId") or asked_of(one) & asked_of(other))
                and len((other.get("fieldConfig") or {}).get("defaults", {}).get("noValue", "").split()) > 1
            ]
            assert beside, (page["uid"], one["title"])
    assert seen == MUTE


def asked_of(one: Mapping[str, Any]) -> set[str]:
    """What a panel's queries read: the variable of the trace, or buckets."""
    text = " ".join(target.get("expr") or target.get("query") or "" for target in one["targets"])
    return {"trace"} if "${trace" in text else set(re.findall(r"\w+_bucket\{[^}]*\}", text))


def test_good_news_is_none_where_a_server_does_not_answer(everywhere: list[dict[str, Any]]) -> None:
    """Grafana says the same of an answer that is empty and of none, which has a red mark too."""
    told = {
        one["title"]: one["fieldConfig"]["defaults"]["noValue"]
        for page in everywhere
        for one in dashboards.panels(page)
        if one.get("targets") and one["type"] not in MUTE
    }
    for title in ("Firing alerts", "Error logs, newest first", "Requests that fail, by endpoint", "Executions that failed"):
        assert "the server did not answer" in told[title], title
    assert {told[title] for title in ("Critical alerts", "Alerting")} == {"Prometheus does not answer"}


def colour_of(one: Mapping[str, Any], series: str) -> Mapping[str, Any]:
    """The colour that Grafana gives a series of a graph, by the override that comes last."""
    found: Mapping[str, Any] = one["fieldConfig"]["defaults"].get("color") or {"mode": "palette-classic"}
    for override in one["fieldConfig"].get("overrides") or ():
        kind, name = override["matcher"]["id"], override["matcher"]["options"]
        if name == series if kind == "byName" else re.fullmatch(name, series):
            found = next((p["value"] for p in override["properties"] if p["id"] == "color"), found)
    return found


# Of the kinds that only a query knows.
KINDS = (
    *("TimeoutError", "ValueError", "demo.faults.InternalError", "HTTP 500", "HTTP 502", "HTTP 503", "untyped", "x", ""),
    *("GET /", "GET /api/orders", "POST /api/orders", "DELETE /api/users/{id}", "zahlung abgelehnt", "Ошибка", "a\\b"),
)


def test_no_graph_of_bad_things_has_a_colour_of_good_ones(everywhere: list[dict[str, Any]]) -> None:
    graphs = {
        one["title"]: one
        for page in everywhere
        for one in dashboards.panels(page)
        if one["type"] == "timeseries" and re.search(r"(?i)\b(error|fail|loss|late$)", one["title"])
    }
    by_kind = {"Requests that fail, by endpoint", "Errors by type", "Errors over time", "Ten most frequent errors"}
    assert {*by_kind, "Failed uploads by reason", "Losses", "Share that fails", "Error logs over time"} <= set(graphs)
    for title, one in graphs.items():
        for target in one["targets"]:
            # Without one, of the series' labels.
            legend = target.get("legendFormat") or "{{it}}"
            for kind in KINDS if "{{" in legend else ("",):
                colour = colour_of(one, re.sub(r"\{\{\w+\}\}", lambda _, kind=kind: kind, legend))
                assert colour["mode"] in ("fixed", "shades") and "green" not in colour["fixedColor"], (title, legend, kind)
    # A kind has its colour wherever it is drawn, and most have one of their own.
    for kind in KINDS:
        assert len({json.dumps(colour_of(graphs[title], kind), sort_keys=True) for title in by_kind}) == 1
    assert len({colour_of(graphs["Errors by type"], kind)["fixedColor"] for kind in KINDS}) > 5
    assert len({colour_of(graphs["Losses"], name)["fixedColor"] for name in ask.LOSSES}) == 8


def test_a_graph_of_no_measured_badness_keeps_all_colours(everywhere: list[dict[str, Any]]) -> None:
    graphs = {one["title"]: one for page in everywhere for one in dashboards.panels(page) if one["type"] == "timeseries"}
    for title in ("Duration of probes", "Uploads by type", "Request rate"):
        assert colour_of(graphs[title], "GET /")["mode"] == "palette-classic", title


def test_a_percentile_of_nothing_is_no_line(everywhere: list[dict[str, Any]]) -> None:
    """Of no events it is NaN: Grafana draws axes without a line for that, and the number NaN, but not why it is empty."""
    ours = r"Latency: .*|Duration(, against .*)?|95% end within.*|The slowest of each stage.*|(Processes|Endpoints), worst.*"
    found = [query for page in everywhere for query in dashboards.queries(page) if re.fullmatch(ours, query.panel)]
    found = [query for query in found if "histogram_quantile(" in query.expr]
    assert len({query.panel for query in found}) > 8
    for query in found:
        assert re.search(r"histogram_quantile\(.*\) > 0", query.expr), query


def test_tables_sort_by_columns_that_they_show(everywhere: list[dict[str, Any]]) -> None:
    """A name that no column has sorts nothing, and Grafana does not say so."""
    for page in everywhere:
        for one in dashboards.panels(page):
            shown = {override["matcher"]["options"] for override in (one.get("fieldConfig") or {}).get("overrides") or ()}
            wanted = {column["displayName"] for column in (one.get("options") or {}).get("sortBy") or ()}
            # Tempo's own tables have names of their own.
            assert wanted <= shown | {"Start time"}, (page["uid"], one["title"], wanted - shown)


def test_the_picture_of_calls_finds_its_numbers(by_uid: Mapping[str, Any]) -> None:
    """Grafana's looks for fields called mainstat and secondarystat; one that is renamed keeps the name it had."""
    one = panel(by_uid["service-shop"], "Who calls whom")
    made = {
        step["options"]["alias"]: step["options"]["binary"]["left"]["matcher"]["options"]
        for step in one["transformations"]
        if step["id"] == "calculateField"
    }
    assert made == {"mainstat": "Value #Rate", "secondarystat": "Value #Failed"}
    assert {target["refId"] for target in one["targets"]} == {"Rate", "Failed"}
    assert one["options"]["edges"] == {"mainStatUnit": "/s", "secondaryStatUnit": "/s fail"}


def test_the_sdk_reads_every_page_back(by_uid: Mapping[str, Any]) -> None:
    plugins.register_default_plugins()
    for page in by_uid.values():
        assert Dashboard.from_json(page).uid == page["uid"]


def test_panels_do_not_overlap_and_stay_on_the_page(by_uid: Mapping[str, Any]) -> None:
    for page in by_uid.values():
        taken: set[tuple[int, int]] = set()
        for one in [*page["panels"]]:
            at = one["gridPos"]
            cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            assert not taken & cells, one.get("title")
            assert at["x"] + at["w"] <= 24
            taken |= cells


def test_every_promql_query_parses(by_uid: Mapping[str, Any]) -> None:
    found = [q for page in by_uid.values() for q in dashboards.queries(page) if q.datasource == "prometheus"]
    assert len(found) > 50
    for query in found:
        assert "$__" not in query.expr and "${" not in query.expr, query
        promql.parse(query.expr)


def test_queries_are_enumerated_with_variables_filled_in(by_uid: Mapping[str, Any]) -> None:
    found = dashboards.queries(by_uid["service-shop"])
    traffic = [q for q in found if q.panel == "Traffic"]
    assert [q.expr for q in traffic] == [
        'sum by (service, slo) (slo:sli_total:rate{service="shop",slo=~".+"})',
        'sum by (service, slo) (slo:sli_errors:rate{service="shop",slo=~".+"})',
    ]
    narrowed = dashboards.queries(by_uid["service-shop"], {"slo": "latency"})
    assert any('slo=~"latency"' in q.expr for q in narrowed)
    assert {q.datasource for q in found} == {"prometheus", "loki", "tempo"}
    assert {q.panel for q in found} >= {"Alerts", "Deployments", "Error logs, newest first", "Failed traces, any of the range"}
    assert {q.kind for q in found if q.panel == "Objectives, worst first"} == {"instant"}


def test_every_data_source_is_provisioned(by_uid: Mapping[str, Any]) -> None:
    for page in by_uid.values():
        assert {q.datasource for q in dashboards.queries(page)} <= set(names.DATASOURCES)
        for uid in re.findall(r'"datasource": \{[^}]*"uid": "([^"]*)"', json.dumps(page)):
            # Grafana's own name for what another panel was answered.
            assert uid in (*names.DATASOURCES, "-- Dashboard --")


def test_what_a_panel_shows_of_another_is_followed_to_its_query(by_uid: Mapping[str, Any]) -> None:
    page = by_uid["incident"]
    shown = [q for q in dashboards.queries(page) if q.shared]
    assert {q.panel for q in shown} == {
        *("Executions", "Failed", "Companies hurt", "Who is hurt"),
        *("Error logs", "Executions that failed"),
    }
    sent = {q.panel: q.expr for q in dashboards.queries(page) if not q.shared}
    for query in shown:
        source = "Error lines" if query.panel in ("Error logs", "Executions that failed") else "By what, and where"
        assert (query.expr, query.datasource) == (sent[source], "loki")
    # Whose answers are shown is asked for when the page opens, and not only when a row of it does.
    for uid in ("incident", "errors"):
        open_panels = {one["id"] for one in by_uid[uid]["panels"]}
        targets = [target for one in dashboards.panels(by_uid[uid]) for target in one.get("targets") or ()]
        assert {target["panelId"] for target in targets if "panelId" in target} <= open_panels
    only = {q.panel: q.only for q in shown}
    assert only["Failed"] == (("process_status", False, "success"),)
    assert only["Executions that failed"] == (("event", True, "process.finished"),)


def test_before_a_trace_is_chosen_no_log_line_is_read(by_uid: Mapping[str, Any]) -> None:
    def excluded(trace: str) -> bool:
        (query,) = asked(by_uid["incident"], "Log lines of the trace, newest first", {"trace": trace} if trace else None)
        (pattern,) = re.findall(r'service_name!~"([^"]*)"', query)
        return re.fullmatch(pattern, "shop") is not None

    assert excluded("") and not excluded("0af7651916cd43dd8448eb211c80319c")


@pytest.mark.parametrize(
    ("severity", "read"),
    [("INFO", False), ("Information", False), ("WARN2", False), ("ERROR", True), ("", True), ("Oops", True)],
)
def test_errors_are_looked_for_where_there_may_be_any(by_uid: Mapping[str, Any], severity: str, read: bool) -> None:
    for expr in (*asked(by_uid["incident"], "Error lines"), *asked(by_uid["errors"], "Errors over time")):
        (pattern,) = re.findall(r'severity_text!~"([^"]*)"', expr)
        assert (re.fullmatch(pattern, severity) is None) is read


def test_raw_counters_are_never_read_over_more_than_an_hour(by_uid: Mapping[str, Any]) -> None:
    for page in by_uid.values():
        for query in dashboards.queries(page):
            if query.datasource != "prometheus":
                continue
            for metric, window in re.findall(r"([a-zA-Z_:][\w:]*)(?:\{[^}]*\})?\[(\w+)\]", query.expr):
                # What is written once per deployment or while an alert fires is as small as what is recorded.
                if not metric.startswith(("slo:", "deployment_", "ALERTS")):
                    assert Duration.of(window).seconds <= 3600, (query.panel, metric, window)


def test_the_overview_reads_recorded_series_and_alerts_only(by_uid: Mapping[str, Any]) -> None:
    for query in dashboards.queries(by_uid["overview"]):
        for selector in promql.selectors(promql.parse(query.expr)):
            name = promql.metric_name(selector) or ""
            assert name.startswith(("slo:", "deployment_")) or name in ("ALERTS", "ALERTS_FOR_STATE"), query.expr


def links_of(page: Mapping[str, Any]) -> set[str]:
    """Every address in a page that leads to a dashboard."""
    text = json.dumps(page)
    return set(re.findall(r"/d/([^\"'?\\&]+)", text))


def test_links_lead_to_pages_that_exist(by_uid: Mapping[str, Any]) -> None:
    for page in by_uid.values():
        found = links_of(page)
        assert found or page["uid"] == names.runbook_uid("none")
        for target in found:
            assert target in by_uid or target in ("${__data.fields.dashboard}", "${__data.fields.runbook}"), target


def test_rows_of_tables_lead_to_the_pages_of_every_service_long_names_too(by_uid: Mapping[str, Any], model: Model) -> None:
    objective = next(q for q in dashboards.queries(by_uid["overview"]) if q.ref == "Objective")
    for service in model.services:
        for label, uid in (("dashboard", names.service_uid), ("runbook", names.runbook_uid)):
            given = ""
            pattern = rf'"{label}", "([^"]*)", "service", "([^"]*)"'
            for replacement, source_pattern in re.findall(pattern, objective.expr):
                if match := re.fullmatch(source_pattern, service.name):
                    given = replacement.replace("$1", match[0])
            assert given == uid(service.name)


def test_links_keep_the_time_range(by_uid: Mapping[str, Any]) -> None:
    for page in by_uid.values():
        assert all(link["keepTime"] for link in page["links"])
        for url in re.findall(r'"url": "(/d/\$[^"]*)"', json.dumps(page)):
            assert "${__url_time_range}" in url


def test_latency_thresholds_come_from_the_objective(by_uid: Mapping[str, Any]) -> None:
    steps = panel(by_uid["service-shop"], "Latency: latency")["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert [s["value"] for s in steps] == [None, 0.3]
    assert any(t.get("exemplar") for t in panel(by_uid["service-shop"], "Latency: latency")["targets"])


@pytest.mark.parametrize(("name", "limit", "unit"), [("PoolSaturated", 0.8, "percentunit"), ("DiskLow", 2 * 2**30, "bytes")])
def test_alert_panels_show_the_alerts_own_threshold(
    by_uid: Mapping[str, Any], model: Model, name: str, limit: float, unit: str
) -> None:
    one = next(p for p in dashboards.panels(by_uid["service-shop"]) if p["description"].startswith(f"{name}:"))
    defaults = one["fieldConfig"]["defaults"]
    assert [s["value"] for s in defaults["thresholds"]["steps"]] == [None, limit]
    assert defaults["unit"] == unit
    alert = next(a for s in model.services for a in s.alerts if a.name == name)
    assert one["targets"][0]["expr"] == alert.expr


def test_burn_rate_lines_have_the_factors_of_the_alerts(by_uid: Mapping[str, Any], model: Model) -> None:
    drawn = {q.expr for q in dashboards.queries(by_uid["service-shop"]) if q.panel == "Burn rates, against their alerts"}
    shop = next(s for s in model.services if s.name == "shop")
    budget = 'max by (service, slo) (slo:error_budget:ratio{service="shop",slo=~".+",policy="standard"'
    for slo in shop.slos:
        for conditions in slo.burn.values():
            for condition in conditions:
                factor = format(condition.factor.quantize(Decimal("1e-9")).normalize(), "f")
                assert any(
                    f"slo:error_ratio:{condition.long}{{" in expr
                    and f"slo:error_ratio:{condition.short}{{" in expr
                    and f'({factor} * {budget},window="{slo.window}"}}' in expr
                    for expr in drawn
                ), (slo.name, condition, drawn)


def test_a_budget_is_drawn_over_its_own_window(by_uid: Mapping[str, Any]) -> None:
    spent = [
        q.expr
        for q in dashboards.queries(by_uid["service-shop"])
        if q.panel == "Error budget spent" and q.ref.startswith("Spent")
    ]
    assert any("[7d] @ end()" in e and 'window="7d"' in e and "< 604800" in e for e in spent)
    assert any("[30d] @ end()" in e and 'window="30d"' in e and "< 2592000" in e for e in spent)
    assert panel(by_uid["service-shop"], "Error budget spent")["timeFrom"] == "30d"


def choices(page: Mapping[str, Any]) -> dict[str, str]:
    """The choices of a custom variable, value to text, read as Grafana reads them."""
    (variable,) = [one for one in page["templating"]["list"] if one["type"] == "custom"]
    out = {}
    for part in re.findall(r"(?:\\,|[^,])+", variable["query"]):
        match = re.fullmatch(r"\s*(.+)\s:\s(.+)", part.replace("\\,", ","))
        assert match, part
        out[match[2].strip()] = match[1].strip()
    return out


def test_the_slo_variable_offers_every_slo_by_its_title(by_uid: Mapping[str, Any]) -> None:
    found = choices(by_uid["service-shop"])
    assert {name: found[name] for name in ("availability", "latency", "live")} == {
        "availability": "Orders, paid and shipped (availability)",
        "latency": "latency",
        "live": "live",
    }


def test_a_runbook_has_a_section_for_everything_that_an_alert_can_name(by_uid: Mapping[str, Any]) -> None:
    found = choices(by_uid["runbook-shop"])
    processes = {"checkout_success", "checkout_within_sla"}
    assert set(found) == {"availability", "latency", "live", "PoolSaturated", "DiskLow", "Strange"} | processes
    # The SLO and the probe of one name share a section, and both are explained.
    assert "the stack asks <code>http://shop:8000/health</code>" in found["live"]
    assert "probe live failed" in found["live"]


def test_a_runbook_says_what_the_objective_means(by_uid: Mapping[str, Any]) -> None:
    found = choices(by_uid["runbook-shop"])
    assert "over 30d, 99.9% of events are good" in found["availability"]
    assert "1 in 1000 may fail: as much as 43 min of complete outage in 30d" in found["availability"]
    assert "Each region has a budget of its own" in found["availability"]
    assert "14.4× over 1h and 5m: more than 1.44% bad" in found["availability"]
    assert 'href="https://wiki.example.com/disk"' in found["DiskLow"]
    assert "is below 2GiB" in found["DiskLow"]
    assert "Add <code>runbook:</code> to <code>services.shop.slos.latency</code>" in found["latency"]


def test_a_users_text_is_escaped_and_no_variable_of_grafana(by_uid: Mapping[str, Any]) -> None:
    text = choices(by_uid["runbook-shop"])["availability"]
    assert "<script" not in text and "&lt;script&gt;" in text
    assert "$" not in text and "&#36;slo" in text and "&#36;{alert}" in text
    assert "<code>curl -s http://shop:8000/health</code>" in text
    assert "line one<br>line two" in text
    assert "disk : full" in text
    assert '<a href="http://example.com/a">http://example.com/a</a>, a lone ` too' in text
    assert "The &lt;b&gt;Shop&lt;/b&gt;" in text


def test_a_runbook_shows_the_query_that_fires(by_uid: Mapping[str, Any]) -> None:
    page = by_uid["runbook-shop"]
    live = [q.expr for q in dashboards.queries(page, {"alert": "PoolSaturated"}) if q.panel == "The query that fires"]
    assert any('db_pool_used{job="shop"}' in e and '"PoolSaturated"' in e for e in live)
    assert any("vector(0.8)" in e for e in live)


def test_a_service_without_anything_has_pages_too(by_uid: Mapping[str, Any], model: Model) -> None:
    page = by_uid[names.service_uid(model.services[-1].name)]
    assert {q.datasource for q in dashboards.queries(page)} == {"prometheus", "loki", "tempo"}
    assert "Nothing is watched" in json.dumps(by_uid[names.runbook_uid(model.services[-1].name)])


def test_many_slos_do_not_all_open_at_once() -> None:
    slos = {f"s{i}": {"objective": "99%", "sli": {"boolean": "up"}} for i in range(12)}
    page = next(
        json.loads(a.text)
        for a in dashboards.render(model_of(yaml.safe_dump({"version": 1, "services": {"x": {"slos": slos}}})))
        if a.path.endswith("service-x.json")
    )
    assert page["templating"]["list"][0]["current"]["value"] == "s0"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [("90", "90 s"), ("2592", "43 min"), ("12960", "3 h 36 min"), ("129600", "36 h"), ("7200", "2 h")],
)
def test_lengths_of_time_are_told_as_people_do(seconds: str, text: str) -> None:
    assert runbooks.rounded(Duration(Decimal(seconds))) == text


def test_a_thousand_slos_have_two_pages_for_each_service_and_the_shared_ones() -> None:
    slos = {f"s{i}": {"objective": "99.9%", "sli": {"ratio": {"errors": "e_total", "total": "t_total"}}} for i in range(10)}
    services = {f"service-{i}": {"slos": slos, "probes": {"live": {"url": "http://x/"}}} for i in range(100)}
    big = model_of(yaml.safe_dump({"version": 1, "services": services}))
    assert len(dashboards.render(big)) == 207


# --- processes, incidents, deployments, the contract, probes, alerts, the stack ----------------------------------------------


@pytest.fixture(scope="module")
def checkout(by_uid: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    return by_uid[names.process_uid("shop", "checkout")]


def asked(page: Mapping[str, Any], title: str, variables: Mapping[str, str] | None = None) -> list[str]:
    """The queries of a panel."""
    return [query.expr for query in dashboards.queries(page, variables) if query.panel == title]


def test_uids_of_processes_do_not_meet() -> None:
    assert names.process_uid("a-b", "c") != names.process_uid("a", "b-c")


def test_a_process_is_measured_against_its_own_sla(checkout: Mapping[str, Any]) -> None:
    steps = panel(checkout, "Duration, against 5s")["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert [s["value"] for s in steps] == [None, 5]
    failures = panel(checkout, "Share that fails")["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert [s["value"] for s in failures] == [None, 0.01]
    assert any("duration > 5000ms" in q for q in asked(checkout, "Executions that took longer than 5s"))
    objectives = asked(checkout, "Objectives, worst first")
    assert objectives and all('slo=~"checkout_success|checkout_within_sla"' in q for q in objectives)


def test_stages_are_stacked_in_their_order(checkout: Mapping[str, Any]) -> None:
    stages = panel(checkout, "Time in each stage, per execution")
    assert [target["legendFormat"] for target in stages["targets"]] == ["cart", "pay"]
    assert stages["fieldConfig"]["defaults"]["custom"]["stacking"]["mode"] == "normal"


def test_a_process_of_spans_asks_for_no_metrics_that_it_has_not(by_uid: Mapping[str, Any]) -> None:
    page = by_uid[names.process_uid("shop", "nightly")]
    found = [q.expr for q in dashboards.queries(page) if q.datasource == "prometheus" and q.ref != "Anno"]
    assert found and all("process_execution" not in expr and "process_stage_" not in expr for expr in found)
    assert all('service="shop"' in expr for expr in found)


def test_the_service_leads_to_its_processes(by_uid: Mapping[str, Any]) -> None:
    for expr in asked(by_uid["service-shop"], "Processes, worst first"):
        assert f'"dashboard", "{names.process_uid("shop", "checkout")}", "process_id", "checkout"' in expr


def test_what_is_left_empty_narrows_no_incident(by_uid: Mapping[str, Any]) -> None:
    page = by_uid["incident"]
    (failed,) = asked(page, "Executions that failed, as traces tell")
    assert "(span.company.id =~ `.*` || `` = ``)" in failed
    (narrowed,) = asked(page, "Executions that failed, as traces tell", {"company": "acme"})
    assert "(span.company.id =~ `acme.*` || `acme` = ``)" in narrowed
    (lines,) = asked(page, "Error lines", {"request": "f00"})
    assert "| company_id =~ `.*` | process_id =~ `.*` | request_id =~ `f00.*`" in lines


def test_rows_of_an_incident_lead_to_their_trace_and_back(by_uid: Mapping[str, Any]) -> None:
    page = by_uid["incident"]
    for title in (
        "Executions that failed",
        "Error lines",
        "All executions, newest first",
        "Executions that failed, as traces tell",
    ):
        text = json.dumps(panel(page, title))
        assert "var-trace=${__data.fields.Trace}" in text and "var-company=${company}" in text
    assert asked(page, "Spans of the trace", {"trace": "abc"}) == ["abc"]
    # Tempo leaves out leading zeros of ids, Loki has them.
    assert asked(page, "Log lines of the trace, newest first", {"trace": "abc"})[0].endswith("trace_id =~ `0*abc.*`")


def test_the_contract_is_counted_from_recorded_sums(by_uid: Mapping[str, Any]) -> None:
    page = by_uid["sla"]
    assert page["time"]["from"] == "now/M"
    for query in dashboards.queries(page):
        for selector in promql.selectors(promql.parse(query.expr)):
            assert (promql.metric_name(selector) or "").startswith(("slo:", "deployment_")), query.expr
    assert any("vector(0.98)" in expr and '"period", "quarter"' in expr for expr in asked(page, _PROMISES))


_PROMISES = "Promises, over the time at the top right"


def test_pages_that_would_be_empty_are_not_made() -> None:
    bare = model_of(yaml.safe_dump({"version": 1, "services": {"x": {"scrape": {"targets": ["x:1"]}}}}))
    pages = {json.loads(artifact.text)["uid"]: json.loads(artifact.text) for artifact in dashboards.render(bare)}
    assert not {"sla", "probes"} & set(pages)
    assert not {"sla", "probes"} & links_of(pages["overview"])


def test_the_overview_leads_to_every_shared_page(by_uid: Mapping[str, Any]) -> None:
    assert links_of(by_uid["overview"]) >= {"stack", "incident", "deployments", "sla", "probes", "alerts", "errors"}


# --- the environment -------------------------------------------------------------------------------------------------------

NARROWED = ("incident", "errors", "deployments", "service-", "process-")
# Recorded of objectives, or what a user's own query counts: it need not say its environment.
_WIDE = r"slo:|ALERTS|probe_|up\b|http_request|db_pool|dependency|disk|strange|vector\("


def test_pages_of_what_services_send_are_narrowed_by_environment(by_uid: Mapping[str, Any]) -> None:
    for uid, page in by_uid.items():
        found = [one for one in page["templating"]["list"] if one["name"] == "environment"]
        assert bool(found) is uid.startswith(NARROWED), uid
        if not found:
            continue
        (variable,) = found
        assert variable["current"]["value"] == "$__all" and variable["allValue"] == ".*"
        assert not uid.startswith("service-") or "Objectives" in variable["description"]
        for query in dashboards.queries(page, {"environment": "elsewhere"}):
            wide = query.datasource == "prometheus" and re.search(_WIDE, query.expr) and "deployment_" not in query.expr
            # A trace that was chosen is what it is.
            if not wide and "of the trace" not in query.panel:
                assert "elsewhere" in query.expr, (uid, query)


def test_all_environments_are_also_what_names_none(by_uid: Mapping[str, Any]) -> None:
    found = {q.panel: q.expr for q in dashboards.queries(by_uid["service-shop"])}
    assert 'deployment_environment_name=~".*"' in found["Error logs, newest first"]
    # Tempo matches no absent attribute: the collector gives those that have none the name "none".
    assert "resource.deployment.environment.name =~ `.*`" in found["Failed traces, any of the range"]


def test_links_keep_the_environment(by_uid: Mapping[str, Any]) -> None:
    """From each page that has it to each that has it."""
    for uid, page in by_uid.items():
        for url in re.findall(r'"(?:url|href)": "(/d/[^"]*)"', json.dumps(page)):
            target = url.removeprefix("/d/").partition("?")[0]
            # A row's page is a service's or a process's, but for the runbooks.
            there = target.startswith(NARROWED) or target == "${__data.fields.dashboard}"
            assert ("var-environment=${environment}" in url) is (uid.startswith(NARROWED) and there), (uid, url)


# --- errors, deployments, the services' own pages --------------------------------------------------------------------------


def test_deployments_are_marked_on_every_page_and_those_of_a_service_on_its_own(by_uid: Mapping[str, Any]) -> None:
    for uid, page in by_uid.items():
        (mark,) = [one for one in page["annotations"]["list"] if one["name"] == "Deployments"]
        assert mark["useValueForTime"] and mark["expr"].endswith("* 1000")
        whose = re.findall(r'service=~"([^"]*)"', mark["expr"])
        assert whose == (["shop|database"] if uid.endswith("-shop") else whose)
        assert bool(whose) is uid.startswith(("service-", "runbook-", "process-")), uid


def test_a_row_of_the_errors_narrows_the_page_to_that_error(by_uid: Mapping[str, Any]) -> None:
    page = by_uid["errors"]
    table = panel(page, "Errors by type and place: new ones first, then the most frequent")
    assert "var-kind=${__data.fields.Error}&var-place=${__data.fields.Where}&${__url_time_range}" in json.dumps(table)
    (lines,) = asked(page, "Lines and their traces", {"kind": "demo.Error", "service": "shop"})
    assert '{service_name=~"shop",' in lines and r"| kind =~ `demo\.Error.*` | place =~ `.*`" in lines
    assert "var-trace=${__data.fields.Trace}" in json.dumps(panel(page, "Lines and their traces"))


def test_nothing_is_new_without_a_deployment(by_uid: Mapping[str, Any]) -> None:
    assert [q.ref for q in dashboards.queries(by_uid["errors"]) if q.expr.endswith("> bool 9999999999")] == [
        "New",
        "New",
        "New",
    ]
    (variable,) = [one for one in by_uid["errors"]["templating"]["list"] if one["name"] == "deployed"]
    query = variable["query"]["query"].removeprefix("query_result(").removesuffix(")")
    promql.parse(query.replace("${__from:date:seconds}", "1").replace("$service", "x"))
    # As Grafana writes what it was answered.
    pattern = variable["regex"].strip("/")
    assert [re.search(pattern, text)[1] for text in ("{} 1795265790.5 1795265791000",)] == ["1795265790.5"]  # type: ignore[index]


def test_a_release_is_compared_with_as_much_time_before_it(by_uid: Mapping[str, Any]) -> None:
    found = {q.ref: q.expr for q in dashboards.queries(by_uid["service-shop"]) if q.panel.startswith("The newest deployment")}
    assert found["Times"] == f"({found['Since']} > 0) / ({found['Before']})"
    assert found["Since"] != found["Before"]


def test_headings_of_panels_have_pages_of_their_own() -> None:
    """GreenStack asked for four: three come of its panels, and the fourth is the page of errors with its panels on it."""
    result = load([GREENSTACK])
    assert result.model is not None
    made = {artifact.path: json.loads(artifact.text) for artifact in dashboards.render(result.model)}
    titles = {page["title"]: (path, {p["title"] for p in dashboards.panels(page)}) for path, page in made.items()}
    wanted = {
        "Application overview": {"Request rate", "Error rate", "Duration of requests", "Active devices", "Uploads per hour"},
        "System health": {"CPU", "Memory", "Disk", "Network", "Database connections"},
        "Business metrics": {"Uploads by type", "Parameters parsed", "Tickets by priority", "Analysis runs by result"},
        "Error tracking": {"Errors by endpoint", "Ten most frequent errors", "Failed uploads by reason", "Database errors"},
    }
    for title, panels in wanted.items():
        assert panels <= titles[title][1], title
    assert titles["Application overview"][0] == "grafana/generated/dashboards/backend/board-application-overview.json"
    # Of a host and a database, which two own.
    assert titles["System health"][0] == "grafana/generated/dashboards/board-system-health.json"
    overview = next(page for page in made.values() if page["uid"] == "overview")
    assert {page["uid"] for page in made.values() if page["uid"].startswith("board-")} <= links_of(overview)


@pytest.mark.parametrize(
    ("expr", "name"),
    [
        ("sum by (code, route) (rate(x[$__rate_interval]))", "{{code}} {{route}}"),
        ("histogram_quantile(0.95, sum by (le, stage) (rate(x_bucket[5m])))", "{{stage}} 95% within"),
        ("histogram_quantile(0.5, sum by (le) (rate(x_bucket[5m])))", "50% within"),
        ("100 * sum by (code) (x) / scalar(sum(x))", "{{code}}"),
        ("sum(x) / sum(y)", "Title"),
        ("time() - max(x)", "Title"),
        ("x / y", ""),
        ("topk(3, sum by (code) (x))", ""),
        ("sum without (instance) (x)", ""),
    ],
)
def test_series_of_a_users_query_are_called_by_the_labels_that_are_left(expr: str, name: str) -> None:
    """Without a name Grafana writes every label between braces, which hides the graph."""
    assert ask.series_name(expr, "Title") == name


def test_groups_of_objectives_have_a_line_of_time_each(by_uid: Mapping[str, Any]) -> None:
    (query,) = asked(by_uid["probes"], "Orders, paid and shipped: by region")
    assert 'slo:sli_errors:rate{service="shop",slo="availability"}[5m]' in query and "> bool on (service, slo)" in query
