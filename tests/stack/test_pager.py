"""The main job on real servers: break the demo, see the page arrive with all that a person needs, find the cause, heal it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest

from generator import model
from generator.project import Project

T = TypeVar("T")
LGTM = Path(sys.executable).with_name("lgtm")
# Detection of a full outage, from the first bad request to the receiver: the product's promise.
PROMISED_SECONDS = 180


def lgtm(project: Project, *words: str) -> str:
    """Run the command in a project as a person would; raises with what it printed when it fails."""
    done = subprocess.run(
        [str(LGTM), "-C", str(project.root), *words], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, f"lgtm {' '.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def until(what: str, seconds: float, look: Callable[[], T | None]) -> T:
    """What ``look`` returns, as soon as it returns something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(1)
    pytest.fail(f"{what}: not within {seconds:.0f} s")


class Watched:
    """A stack with the demo running on it, and ways to ask."""

    def __init__(self, project: Project, get: Callable[..., Any]) -> None:
        self.project = project
        self.get = get

    def prometheus(self, query: str) -> list[dict[str, Any]]:
        """The result of an instant query."""
        answer = self.get(self.project, "prometheus", "/api/v1/query", query=query)
        found: list[dict[str, Any]] = answer.json()["data"]["result"]
        return found

    def pages(self) -> list[dict[str, Any]]:
        """Every alert that reached the pager, oldest first, with the time at which it arrived."""
        out = []
        for line in lgtm(self.project, "demo", "pages", "--json").splitlines():
            page = json.loads(line)
            arrived = datetime.fromisoformat(page["received_at"])
            out += [{**alert, "arrived": arrived, "receiver": page["body"]["receiver"]} for alert in page["body"]["alerts"]]
        return out


@pytest.fixture(scope="module")
def watched(make_project: Callable[..., Project]) -> Iterator[Watched]:
    import requests

    project = make_project()
    spec = project.root / "slos.yaml"
    text = spec.read_text(encoding="utf-8")
    for shipped, setting in (("8000", "DEMO_PORT"), ("8001", "DEMO_PAGER_PORT")):
        assert f"host.docker.internal:{shipped}" in text
        text = text.replace(f"host.docker.internal:{shipped}", f"host.docker.internal:{project.port(setting)}")
    spec.write_text(text, encoding="utf-8")

    def get(project: Project, server: str, path: str, **parameters: str) -> requests.Response:
        answer = requests.get(project.url(server) + path, params=parameters, timeout=10)
        answer.raise_for_status()
        return answer

    lgtm(project, "up")
    lgtm(project, "demo", "start")
    try:
        yield Watched(project, get)
    finally:
        lgtm(project, "demo", "stop")


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


def test_break_page_find_heal_resolve(watched: Watched, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole way: fault, alert, notification, log, trace, recovery, resolution."""
    broken_at = datetime.now(UTC)
    lgtm(watched.project, "demo", "break", "--errors", "100%")

    def page(status: str) -> dict[str, Any] | None:
        wanted = {"alertname": "SLOBurnRateCritical", "service": "council-api", "slo": "availability"}
        for alert in watched.pages():
            if alert["status"] == status and wanted.items() <= alert["labels"].items():
                return alert
        return None

    alert = until("the page", PROMISED_SECONDS, lambda: page("firing"))
    detected = (alert["arrived"] - broken_at).total_seconds()
    with capsys.disabled():
        print(f"\ntime to detect a full outage, fault to receiver: {detected:.0f} s")
    assert detected <= PROMISED_SECONDS

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
    assert notes["runbook_url"] == "http://localhost:3000/d/runbook-council-api?var-alert=availability"
    assert notes["budget_left"]

    # It passed through both servers, not around one.
    assert watched.prometheus('ALERTS{alertname="SLOBurnRateCritical",slo="availability",alertstate="firing"}')
    active = watched.get(watched.project, "alertmanager", "/api/v2/alerts", active="true").json()
    assert any(a["labels"].get("slo") == "availability" and a["receivers"] == [{"name": "pager"}] for a in active)

    # The budget left follows the outage within minutes.
    query = 'slo:error_budget_remaining:ratio{service="council-api",slo="availability"} < 0.9'
    until("the budget to shrink", 330, lambda: watched.prometheus(query))

    # A failing request's log line and its trace have the same id.
    def failed_log() -> str | None:
        answer = watched.get(
            watched.project,
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
        import requests

        try:
            found: dict[str, Any] = watched.get(watched.project, "tempo", f"/api/v2/traces/{trace_id}").json()
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

    healed_at = datetime.now(UTC)
    lgtm(watched.project, "demo", "heal")
    resolved = until("the end of the page", 600, lambda: page("resolved"))
    with capsys.disabled():
        print(f"time to resolve, healed to receiver: {(resolved['arrived'] - healed_at).total_seconds():.0f} s")
