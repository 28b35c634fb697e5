"""Every query of every panel, on the real servers, with the demo running: none may fail, and those that must answer do.

Grafana itself cannot be had without a registry; its panels send these very queries.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from copies import Watched, until

from generator.render.dashboards import Query, queries

# What has something to show as soon as the demo runs. The others may rightly be empty while all is well.
ALWAYS = {
    "overview": {"Service level objectives, worst first", "Alerting"},
    "service-council-api": {"Objectives, worst first", "Burn rates, against their alerts", "Share of bad events", "Traffic"},
    "service-observability": {"Objectives, worst first", "Traffic"},
    "stack": {"Servers", "Alerting"},
    "probes": {"Probes now, worst first"},
}


def ask(watched: Watched, query: Query) -> list[Any]:
    """The result, as the panel would get it; raises with the server's words when the query is refused."""
    now = time.time()
    url = watched.project.url(query.datasource)
    if query.datasource == "prometheus" and query.kind == "instant":
        answer = requests.post(f"{url}/api/v1/query", data={"query": query.expr}, timeout=20)
    elif query.datasource == "prometheus":
        span = {"start": now - 1800, "end": now, "step": 30}
        answer = requests.post(f"{url}/api/v1/query_range", data={"query": query.expr, **span}, timeout=20)
    elif query.datasource == "loki":
        parameters: dict[str, Any] = {"query": query.expr, "start": int((now - 1800) * 1e9), "end": int(now * 1e9)}
        answer = requests.get(f"{url}/loki/api/v1/query_range", params=parameters, timeout=20)
    else:
        assert query.datasource == "tempo", f"{query.panel} asks {query.datasource}, which is not provisioned"
        search: dict[str, Any] = {"q": query.expr, "start": int(now - 1800), "end": int(now), "limit": 20}
        answer = requests.get(f"{url}/api/search", params=search, timeout=20)
    assert answer.ok, f"{query.dashboard}, {query.panel}: {answer.text[:300]}\n{query.expr}"
    body = answer.json()
    found: list[Any] = body.get("traces") or [] if query.datasource == "tempo" else body["data"]["result"]
    return found


def pages(watched: Watched) -> Iterator[dict[str, Any]]:
    """Every rendered dashboard."""
    for file in sorted((watched.project.root / "grafana/generated/dashboards").glob("*.json")):
        yield json.loads(file.read_text(encoding="utf-8"))


@pytest.mark.timeout(600)
def test_every_query_of_every_panel_answers(watched: Watched, capsys: pytest.CaptureFixture[str]) -> None:
    """On a stack that has run for some minutes."""
    until("burn rates", 180, lambda: watched.prometheus('slo:error_ratio:1h{service="council-api"}'))
    asked: dict[str, int] = {}
    answered: dict[str, set[str]] = {}
    for page in pages(watched):
        for query in queries(page):
            asked[query.datasource] = asked.get(query.datasource, 0) + 1
            if ask(watched, query):
                answered.setdefault(query.dashboard, set()).add(query.panel)
    with capsys.disabled():
        print(f"\nqueries of panels that ran: {', '.join(f'{n} on {source}' for source, n in sorted(asked.items()))}")
    assert set(asked) == {"prometheus", "loki", "tempo"}
    for uid, wanted in ALWAYS.items():
        assert wanted <= answered.get(uid, set()), f"{uid}: nothing in {wanted - answered.get(uid, set())}"
