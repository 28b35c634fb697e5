"""The main job on real servers: break the demo, see the page arrive with all that a person needs, find the cause, heal it.

It is a drill that breaks and heals, so that `lgtm drill` is shown by the same minutes.
"""

from __future__ import annotations

import json
import subprocess
import time
from datetime import UTC, datetime
from typing import Any

import pytest
import requests

from generator import model
from tests.stack.copies import LGTM, Watched, lgtm, until

# Detection of a full outage, from the first bad request to the receiver: the product's promise.
PROMISED_SECONDS = 180


def test_every_slo_of_the_shipped_file_lives(watched: Watched) -> None:
    """The first `make up` with `make demo` shows living SLOs: each has events, and a budget that is not spent."""
    found = model.load([watched.project.root / "slos.yaml"]).model
    assert found is not None
    wanted = {(slo.service, slo.name) for slo in found.slos}

    def measured() -> bool:
        rows = watched.prometheus("slo:sli_errors:rate and slo:sli_total:rate")
        return {(r["metric"]["service"], r["metric"]["slo"]) for r in rows} == wanted

    until("every SLO is measured", 180, measured)
    until("every target is up", 60, lambda: not watched.prometheus("up == 0"))
    until("every probe succeeds", 60, lambda: not watched.prometheus("probe_success == 0"))


def test_no_page_while_it_is_well(watched: Watched) -> None:
    """Only the heartbeat may fire."""
    time.sleep(60)
    firing = {row["metric"]["alertname"] for row in watched.prometheus('ALERTS{alertstate="firing"}')}
    assert firing == {"Watchdog"}
    assert [a for a in watched.pages() if a["labels"]["severity"] == "critical"] == []


@pytest.mark.timeout(1500)
def test_break_page_find_heal_resolve(
    watched: Watched, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    """The whole way: fault, alert, notification, log, trace, recovery, resolution."""
    query = 'slo:sli_total:rate{service="council-api",slo="availability"}'
    until("it is measured", 180, lambda: watched.prometheus(query))
    broken_at = datetime.now(UTC)
    drilling = subprocess.Popen(
        [str(LGTM), "-C", str(watched.project.root), "drill", "run", "council-api/availability", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    def end() -> None:
        drilling.terminate()
        drilling.communicate()

    # Told to end before its time, it heals first.
    request.addfinalizer(end)

    def page(status: str) -> dict[str, Any] | None:
        wanted = {"alertname": "SLOBurnRateCritical", "service": "council-api", "slo": "availability"}
        assert drilling.poll() in (None, 0), drilling.communicate()
        for alert in watched.pages():
            if alert["status"] == status and wanted.items() <= alert["labels"].items():
                return alert
        return None

    alert = until("the page", PROMISED_SECONDS, lambda: page("firing"))

    # All that somebody needs who was asleep a moment ago.
    assert alert["receiver"] == "pager"
    assert alert["labels"] == {
        "alertname": "SLOBurnRateCritical",
        "service": "council-api",
        "slo": "availability",
        "owner": "backend",
        "tier": "critical",
        "severity": "critical",
        "environment": "demo",
    }
    notes = alert["annotations"]
    assert "Council API" in notes["summary"] and "availability" in notes["summary"] and "%" in notes["summary"]
    assert "99.9% over 30d" in notes["description"]
    assert notes["dashboard_url"].startswith("http://localhost:3000/d/service-council-api?")
    assert "var-slo=availability" in notes["dashboard_url"]
    assert notes["runbook_url"] == "http://localhost:3000/d/runbook-council-api?var-alert=availability&from=now-6h&to=now"
    assert notes["budget_left"]

    # It passed through both servers, not around one.
    assert watched.prometheus('ALERTS{alertname="SLOBurnRateCritical",slo="availability",alertstate="firing"}')
    active = watched.get("alertmanager", "/api/v2/alerts", active="true").json()
    assert any(a["labels"].get("slo") == "availability" and a["receivers"] == [{"name": "pager"}] for a in active)

    # The budget left follows the outage within minutes.
    query = 'slo:error_budget_remaining:ratio{service="council-api",slo="availability"} < 0.99'
    until("the budget to shrink", 330, lambda: watched.prometheus(query))

    # A failing request's log line and its trace have the same id.
    def failed_log() -> str | None:
        answer = watched.get(
            "loki",
            "/loki/api/v1/query_range",
            query='{service_name="council-api"} | detected_level=~"(?i)error" | trace_id != ""',
            limit="20",
            start=str(int(broken_at.timestamp()) * 10**9),
        )
        for stream in answer.json()["data"]["result"]:
            return str(stream["stream"]["trace_id"])
        return None

    trace_id = until("an error in Loki", 30, failed_log)

    def trace() -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = watched.get("tempo", f"/api/v2/traces/{trace_id}").json()
        except requests.HTTPError:
            return None
        return found if found.get("trace", found).get("resourceSpans") else None

    spans = [
        span
        for resource in until("the trace in Tempo", 30, trace)["trace"]["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]
    assert any(span.get("status", {}).get("code") in (2, "STATUS_CODE_ERROR") for span in spans)

    said, progress = drilling.communicate(timeout=900)
    drill = json.loads(said)
    took = {step["name"]: step["seconds"] for step in drill["steps"]}
    with capsys.disabled():
        print(f"\na full outage, fault to receiver: {took['a receiver is told']:.0f} s")
        print(f"healed to receiver: {took['its end is told']:.0f} s")
    assert drill["passed"], (drill, progress)
    assert took["the alert fires"] < took["a receiver is told"] <= PROMISED_SECONDS
    assert took["the alert is over"] < took["its end is told"]
    assert page("resolved")
    told = drill["notifications"]["pager"]
    assert told["firing"] >= 1 and told["resolved"] >= 1 and told["failed"] == 0
    assert told["sent"] >= told["firing"]
    assert lgtm(watched.project, "demo", "status", "--json").count('"faults": []') == 1
    assert "council-api/availability" in lgtm(watched.project, "drill", "list")


@pytest.mark.timeout(900)
def test_the_silence_of_the_watchdog_is_noticed_from_outside(watched: Watched) -> None:
    drill = json.loads(lgtm(watched.project, "drill", "run", "watchdog", "--stop", "alertmanager", "--json"))
    assert drill["passed"] and [step["name"] for step in drill["steps"]] == ["the heartbeat is missed", "it beats again"]
    pages = lgtm(watched.project, "demo", "pages")
    assert pages.count("heartbeat lost") == 1 and pages.count("heartbeat back") == 1
