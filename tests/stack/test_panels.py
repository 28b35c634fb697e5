"""Every query of every panel, on the real servers, with the demo running: well and broken. None may fail, each answers.

Grafana itself cannot be had without a registry; its panels send these very queries.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from urllib3.util import Retry

from generator.render.dashboards import Query, panels, queries
from generator.render.dashboards.ask import EVERYWHERE, endpoint_rate, recent_ratio
from tests.stack.copies import Watched, lgtm, until

# What has something to show as soon as the demo runs.
WELL = {
    "overview": {"Service level objectives, worst first", "Alerting"},
    "service-council-api": {"Objectives, worst first", "Burn rates, against their alerts", "Share of bad events", "Traffic"},
    "service-observability": {"Objectives, worst first", "Traffic"},
    "stack": {"Servers", "Alerting"},
    "probes": {"Probes now, worst first"},
}
# What may be empty with the demo broken as well, and why.
QUIET = {
    "Calls, as traces show them": "the stack's own servers do not trace",
    "Endpoints, worst first": "the same",
    "Requests that fail, by endpoint": "the same",
    "Top errors": "the stack and the database log nothing to Loki",
    "Error logs over time": "the same",
    "Error logs, newest first": "the same",
    "Failed traces, any of the range": "the same",
    "Traces slower than 1s, any of the range": "the same",
    "Executions that took longer than 5s": "the fault makes them fail, and not that slow",
    "Firing alerts": "a fault must last before it is one",
    "Firing at once": "the same",
    "When each fired": "the same",
    "Alerts that fired then": "the same",
    "Alerts of the last 7 days, noisiest first": "the same",
    "Over within 5m by themselves": "the same",
    "Mean time to resolve": "the same",
    "Notifications per minute": "the same",
    "Error budget spent": "the first sums come after five minutes",
    "Budgets: the ten with least left": "the same",
    "Promises, over the time at the top right": "the same",
    "Spans of the trace": "none is chosen",
    "Log lines of the trace, newest first": "none is chosen",
    "The newest deployment, beside what was before it": "of a service that nobody deploys",
    "Disk is full in": "it does not fill",
    "Left of each promise, in its own month or quarter": "counted by whole hours",
    "The week before": "nothing ran then",
    "Logs deleted": "Loki has not looked for any yet",
    "Alerts": "marks of moments",
    "New versions": "marks of moments",
    "Deployments": "marks of moments",
}
# And what must not be, whoever else has a panel of that name.
BROKEN = {
    "errors": {
        "Errors by type and place: new ones first, then the most frequent",
        "Errors over time",
        "Lines and their traces",
    },
    "service-council-api": {
        "Top errors",
        "Endpoints, worst first",
        "Requests that fail, by endpoint",
        "Calls, as traces show them",
        "The newest deployment, beside what was before it",
        "Error logs over time",
        "Error logs, newest first",
        "Failed traces, any of the range",
        "Deployments",
    },
    "deployments": {"Deployments of the last 30 days, newest first", "By service, last 30 days"},
    "incident": {
        *("Executions", "Failed", "Companies hurt", "Error logs", "Executions over time"),
        *("Executions that failed", "Error lines", "Who is hurt", "By what, and where"),
        *("All executions, newest first", "Executions that failed, as traces tell", "All log lines, newest first"),
    },
}


class Servers:
    """Asks what panels ask, as Grafana would."""

    def __init__(self, watched: Watched) -> None:
        self._url = {name: watched.project.url(name) for name in ("prometheus", "loki", "tempo")}
        self._session = requests.Session()
        # A machine that is busy with other tests may let a search run into the server's own time limit.
        again = Retry(total=3, backoff_factor=2, allowed_methods=None)
        self._session.mount("http://", requests.adapters.HTTPAdapter(max_retries=again))

    def ask(self, query: Query) -> list[Any]:
        """The result, as the panel would get it; raises with the server's words when the query is refused."""
        now = time.time()
        assert query.datasource in self._url, f"{query.panel} asks {query.datasource}, which is not provisioned"
        url = self._url[query.datasource]
        if query.datasource == "prometheus" and query.kind == "instant":
            answer = self._session.post(f"{url}/api/v1/query", data={"query": query.expr}, timeout=90)
        elif query.datasource == "prometheus":
            span: dict[str, str | float] = {"start": now - 1800, "end": now, "step": 30}
            answer = self._session.post(f"{url}/api/v1/query_range", data={"query": query.expr, **span}, timeout=90)
        elif query.datasource == "loki":
            # Loki answers an instant query for lines with an error.
            path = "query" if query.kind == "instant" else "query_range"
            span = (
                {"time": int(now * 1e9)}
                if query.kind == "instant"
                else {"start": int((now - 1800) * 1e9), "end": int(now * 1e9)}
            )
            answer = self._session.get(f"{url}/loki/api/v1/{path}", params={"query": query.expr, **span}, timeout=90)
        else:
            search: dict[str, Any] = {"q": query.expr, "start": int(now - 1800), "end": int(now), "limit": 20}
            answer = self._session.get(f"{url}/api/search", params=search, timeout=90)
        assert answer.ok, f"{query.dashboard}, {query.panel}: {answer.text[:300]}\n{query.expr}"
        body = answer.json()
        found: list[Any] = body.get("traces") or [] if query.datasource == "tempo" else body["data"]["result"]
        return found

    def panels(self, watched: Watched, variables: Mapping[str, str], having: str = "") -> dict[tuple[str, str], int]:
        """How many series, lines or traces each panel and each mark of each page gets, of queries that have a text in them."""
        asked = [query for page in pages(watched) for query in queries(page, variables) if having in query.expr]
        found: dict[tuple[str, str], int] = {(query.dashboard, query.panel): 0 for query in asked}

        def all_of(source: str) -> None:
            # What panels share is asked once, as Grafana does.
            answers: dict[tuple[str, str], list[Any]] = {}
            for query in asked:
                if query.datasource == source:
                    key = query.expr, query.kind
                    if not query.shared or key not in answers:
                        answers[key] = self.ask(query)
                    found[query.dashboard, query.panel] += sum(shown(query, row) for row in answers[key])

        # The servers at once, each with one query at a time: a small machine has enough to do with that.
        with ThreadPoolExecutor(len(self._url)) as threads:
            list(threads.map(all_of, sorted({query.datasource for query in asked})))
        return found


def shown(query: Query, row: Mapping[str, Any]) -> bool:
    """Whether a row of the answer meets what the panel asks of its rows."""
    labels = row.get("metric") or row.get("stream") or {}
    return all((labels.get(name, "") == value) is equals for name, equals, value in query.only)


def pages(watched: Watched) -> list[dict[str, Any]]:
    """Every rendered dashboard, those in folders too."""
    files = sorted((watched.project.root / "grafana/generated/dashboards").rglob("*.json"))
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def told(state: str, found: Mapping[tuple[str, str], int]) -> None:
    """Each panel and its result: shown with ``pytest -rP``, and when the test fails."""
    for (page, panel), count in sorted(found.items()):
        print(f"{state:7} {page:45} {panel:60} {count or 'empty'}")


def missing(wanted: Mapping[str, set[str]], found: Mapping[tuple[str, str], int]) -> list[tuple[str, str]]:
    """Which of the panels that must answer are empty, or not there."""
    return [(page, panel) for page, names in wanted.items() for panel in names if not found.get((page, panel))]


@pytest.mark.timeout(600)
def test_every_panel_answers_well_and_broken(watched: Watched, capsys: pytest.CaptureFixture[str]) -> None:
    """On a stack that has run for some minutes."""
    servers = Servers(watched)
    services = {"council-api", "database", "observability"}

    def measured() -> bool:
        rows = watched.prometheus("slo:error_ratio:1h")
        found = {row["metric"]["service"] for row in rows}
        return found == services and any(row["metric"]["slo"] == "availability" for row in rows)

    until("burn rates", 180, measured)
    well = servers.panels(watched, {})
    told("well", well)
    assert not missing(WELL, well)

    release = ("--service", "council-api", "--version", "9.9.9")
    lgtm(watched.project, "deploy", "start", *release)
    deployed = time.time()
    lgtm(watched.project, "demo", "break", "--errors", "50%", "--latency", "500ms", "--dependency", "database")
    try:
        until("the deployment", 60, lambda: watched.prometheus("deployment_timestamp_seconds"))
        rising = f"{recent_ratio('council-api', 'availability')} > 0.05"
        until("the errors to be recorded", 180, lambda: watched.prometheus(rising))
        failing = endpoint_rate("council-api", failed=True).replace("$environment", EVERYWHERE)
        until("the errors to be counted in spans", 60, lambda: watched.prometheus(failing))
        lgtm(watched.project, "deploy", "finish", *release)
        done = 'deployment_timestamp_seconds{status="succeeded"}'
        until("the end of the deployment", 60, lambda: watched.prometheus(done))
        # A release is compared in whole minutes.
        until("a new minute", 61, lambda: time.time() // 60 > deployed // 60)
        chosen = {"deployed": f"{deployed:.0f}"}
        broken = servers.panels(watched, chosen)
        here, elsewhere = (servers.panels(watched, {**chosen, "environment": name}, name) for name in ("demo", "nowhere"))
    finally:
        lgtm(watched.project, "demo", "heal")
    told("broken", broken)
    assert not missing(BROKEN, broken)
    # Everything that the demo sends says where it runs, so that its environment is as good as all, and another one is empty.
    assert {key for key, count in here.items() if not count and broken[key]} == set()
    # But for a picture that says so itself where there is nothing.
    assert {key for key, count in elsewhere.items() if count and key[1] != "Who calls whom"} == set()
    assert len(elsewhere) > 50
    empty = {key for key, count in broken.items() if not count and not well[key]}
    drawn = {(page["uid"], one["title"]): one for page in pages(watched) for one in panels(page) if one.get("targets")}
    # Of an alert whose series are born with the trouble that it is about.
    unborn = {
        key for key in empty & set(drawn) if '"No such series' in (it := json.dumps(drawn[key])) or '"Its condition' in it
    }
    assert {key for key in empty - unborn if key[1] not in QUIET} == set()
    with capsys.disabled():
        print(f"\npanels that were asked: {len(broken)}; empty, well and broken: {len(empty)}")
    assert set(drawn) <= set(broken)


def test_the_servers_metrics_have_the_names_that_pages_and_alerts_read(watched: Watched) -> None:
    """A panel that reads many may answer without some of them: after a move to another version, say."""
    generated = [watched.project.root / "grafana/generated/dashboards/stack.json"]
    generated += sorted((watched.project.root / "prometheus/generated/rules").glob("*.yaml"))
    prefixes = "otelcol|prometheus|loki|tempo|tempodb|alertmanager|net_conntrack|process_cpu|process_resident|process_start|go"
    # `"` for names of exporters, `:` for names of groups
    named = re.compile(rf'(?<!["\w:/])(?:{prefixes})_[a-z0-9_]+[a-z0-9](?![\w:])')
    read = {name for file in generated for name in named.findall(file.read_text(encoding="utf-8"))}
    assert len(read) > 40
    there = {*watched.get("prometheus", "/api/v1/label/__name__/values").json()["data"]}
    # Born with the first of the troubles that they count, or after hours.
    later = re.compile(
        r"otelcol_exporter_(enqueue|send)_failed_.*|loki_(discarded|prometheus_rule|ingester_chunk_stored)_.*|tempodb_backend_.*"
    )
    assert {name for name in read - there if not later.fullmatch(name)} == set()
