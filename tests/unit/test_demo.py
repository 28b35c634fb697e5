"""The demo service: what it does, what its faults hit, its pager, its commands, and the real background process."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from lgtm_instrumentation import runtime, setup
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from demo import control
from demo.app import create_app
from demo.cli import Seconds, Share, demo, describe_fault
from demo.faults import DATABASE, DEPENDENCIES, EVERYTHING, LLM, Fault, Faults
from demo.pager import KEEP, Pages, create_pager, describe
from demo.processes import TIMEOUTS
from demo.traffic import Traffic, rate_at
from generator.errors import LgtmError
from generator.project import Project
from tests import skipping

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@pytest.fixture
def telemetry() -> Iterator[tuple[InMemorySpanExporter, InMemoryMetricReader]]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    made = setup("council-api", "2.1.0", otlp_endpoint="", metric_readers=[reader], log_handler=logging.NullHandler())
    made.tracer_provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield exporter, reader
    made.shutdown()
    root.handlers[:] = handlers
    root.setLevel(level)
    runtime.activate(None)


class Service:
    """The service in this process, on a clock that jumps; every request on a fresh connection from ``peer``."""

    def __init__(self, peer: str = "127.0.0.1") -> None:
        self.faults = Faults(background=0)
        self.app = create_app(self.faults)
        self.peer = peer
        self.clock = skipping.Clock()

    def all(self, *requests: tuple[str, str] | tuple[str, str, Any], **headers: str) -> list[httpx.Response]:
        """Send requests at once; their answers in the same order."""

        async def run() -> list[httpx.Response]:
            transport = httpx.ASGITransport(self.app, client=(self.peer, 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://demo", headers=headers) as client:
                return await asyncio.gather(*(client.request(r[0], r[1], json=r[2] if len(r) > 2 else None) for r in requests))

        return self.clock.run(run())

    def one(self, method: str, path: str, body: object = None, **headers: str) -> httpx.Response:
        return self.all((method, path, body), **headers)[0]


LOGIN = ("POST", "/api/auth/login", {"company_id": "acme", "user_id": "u1"})
CONTEXT = ("GET", "/api/companies/acme/context")
COUNCIL = (
    "POST",
    "/api/council",
    {"company_id": "acme", "conversation_id": "c1", "user_id": "u1", "question": "Which market?"},
)


def test_each_process_leaves_its_trace(telemetry: tuple[InMemorySpanExporter, InMemoryMetricReader]) -> None:
    exporter, _ = telemetry
    answers = Service().all(COUNCIL, LOGIN, CONTEXT)
    assert [a.status_code for a in answers] == [200, 200, 200]
    spans = exporter.get_finished_spans()
    by_id = {s.context.span_id: s for s in spans if s.context is not None}
    trees: dict[str, set[str]] = {}
    for span in spans:
        if span.parent is not None:
            trees.setdefault(by_id[span.parent.span_id].name, set()).add(span.name)
    assert trees["POST /api/council"] == {"council_deliberation_3stage"}
    assert trees["council_deliberation_3stage"] == {"collect", "rank", "synthesize"}
    assert trees["POST /api/auth/login"] == {"user_authentication"}
    assert trees["user_authentication"] == {"login", "token_validation", "session"}
    assert trees["company_context_load"] == {"company", "department", "role", "playbooks", "decisions"}
    assert {f"llm-provider answer {m}" for m in ("alpha", "epsilon")} <= trees["collect"]
    council = next(s for s in spans if s.name == "council_deliberation_3stage")
    assert council.attributes is not None
    assert (council.attributes["process.version"], council.attributes["conversation.id"]) == ("unknown", "c1")


def test_timing(telemetry: object) -> None:
    service = Service()

    def seconds(request: tuple[str, str] | tuple[str, str, Any]) -> float:
        started = service.clock.now
        assert service.all(request)[0].status_code == 200
        return service.clock.now - started

    assert 0.01 < seconds(LOGIN) < 0.07
    assert 0.06 < seconds(CONTEXT) < 0.2
    assert 0.9 < seconds(COUNCIL) < 3


def test_scraped_metrics(telemetry: tuple[InMemorySpanExporter, InMemoryMetricReader]) -> None:
    exporter, _ = telemetry
    service = Service()
    text = service.one("GET", "/metrics", accept=OPENMETRICS).text
    # From zero, and without a series per company or path.
    assert 'http_requests_total{code="503",method="POST",route="/api/auth/login"} 0.0' in text
    service.all(LOGIN, CONTEXT, ("GET", "/nothing"), ("GET", "/health"))
    answer = service.one("GET", "/metrics", accept=OPENMETRICS)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    families = {f.name: f for f in text_string_to_metric_families(answer.text)}  # type: ignore[no-untyped-call]
    assert families.keys() == {
        "http_requests",
        "http_request_duration_seconds",
        "dependency_up",
        "db_pool_used",
        "db_pool_size",
    }
    counted = {(s.labels["route"], s.labels["code"]): s for s in families["http_requests"].samples if s.value}
    assert set(counted) == {
        ("/api/auth/login", "200"),
        ("/api/companies/{company_id}/context", "200"),
        ("unmatched", "404"),
    }
    traces = {f"{s.context.trace_id:032x}" for s in exporter.get_finished_spans() if s.context is not None}
    exemplars = [s.exemplar.labels["trace_id"] for f in families.values() for s in f.samples if getattr(s, "exemplar", None)]
    assert len(exemplars) >= 4 and set(exemplars) <= traces
    assert "# EOF" not in service.one("GET", "/metrics", accept="text/plain").text


@pytest.mark.parametrize("dependency", DEPENDENCIES)
def test_a_fault_on_a_dependency_hits_only_what_uses_it(telemetry: object, dependency: str) -> None:
    service = Service()
    service.faults.inflict(dependency, Fault(errors=1))
    uses = {"database": (503, 503, 503), "cache": (200, 503, 200), "llm-provider": (503, 200, 200)}
    assert tuple(a.status_code for a in service.all(COUNCIL, LOGIN, CONTEXT)) == uses[dependency]
    health = service.one("GET", "/health")
    assert health.status_code == 503
    failing = {name for name, check in health.json()["checks"].items() if check["status"] != "ok"}
    assert failing == {dependency}
    metrics = service.one("GET", "/metrics").text
    assert f'dependency_up{{dependency="{dependency}"}} 0.0' in metrics
    assert metrics.count("dependency_up{") == 3 and metrics.count('"} 0.0\ndependency_up') <= 1


def test_a_fault_on_everything(telemetry: object) -> None:
    service = Service()
    service.faults.inflict(EVERYTHING, Fault(errors=1))
    assert [a.status_code for a in service.all(COUNCIL, LOGIN, CONTEXT)] == [500, 500, 500]
    assert service.one("GET", "/health/api").status_code == 503
    assert service.one("GET", "/health/live").status_code == 200


@pytest.mark.parametrize("target", [DATABASE, EVERYTHING])
def test_the_share_of_errors_is_per_execution(
    telemetry: tuple[InMemorySpanExporter, InMemoryMetricReader], target: str
) -> None:
    random.seed(7)
    service = Service()
    service.faults.inflict(target, Fault(errors=0.2))
    # Five queries each: drawn per query it would be two thirds.
    failed = sum(a.status_code >= 500 for a in service.all(*[CONTEXT] * 300))
    assert 30 <= failed <= 95


def test_latency_comes_once_per_execution(telemetry: object) -> None:
    service = Service()
    service.faults.inflict(DATABASE, Fault(latency=0.5))
    started = service.clock.now
    (answer,) = service.all(CONTEXT)
    assert answer.status_code == 200
    assert 0.55 < service.clock.now - started < 0.7


def test_too_slow_is_a_timeout(
    telemetry: tuple[InMemorySpanExporter, InMemoryMetricReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter, reader = telemetry
    monkeypatch.setattr("demo.processes.TIMEOUTS", dict.fromkeys(TIMEOUTS, 0.2))
    service = Service()
    service.faults.inflict(LLM, Fault(latency=30))
    assert service.all(COUNCIL)[0].status_code == 504
    council = next(s for s in exporter.get_finished_spans() if s.name == "council_deliberation_3stage")
    assert (council.attributes or {})["process.status"] == "timeout"
    data = reader.get_metrics_data()
    assert data is not None
    counts = {
        p.attributes["process.status"]: p.value
        for r in data.resource_metrics
        for s in r.scope_metrics
        for m in s.metrics
        if m.name == "process.executions"
        for p in m.data.data_points
        if isinstance(p, NumberDataPoint) and p.attributes is not None
    }
    assert counts == {"success": 0, "error": 0, "timeout": 1}


def test_latency_fails_the_health_check(telemetry: object) -> None:
    service = Service()
    service.faults.inflict(LLM, Fault(latency=5))
    started = time.perf_counter()
    council, auth, db = service.all(("GET", "/health/council"), ("GET", "/health/auth"), ("GET", "/health/db"))
    assert [council.status_code, auth.status_code, db.status_code] == [503, 200, 200]
    assert council.json()["checks"]["llm-provider"]["status"] == "timeout"
    assert time.perf_counter() - started < 5, "it waited for the dependency"


def test_a_rejected_login_is_no_error_of_the_process(
    telemetry: tuple[InMemorySpanExporter, InMemoryMetricReader],
) -> None:
    exporter, _ = telemetry
    answer = Service().one("POST", "/api/auth/login", {"company_id": "a", "user_id": "u", "outcome": "rejected"})
    assert answer.status_code == 401
    login = next(s for s in exporter.get_finished_spans() if s.name == "user_authentication")
    assert (login.attributes or {})["process.status"] == "success"


def test_faults_over_http(telemetry: object) -> None:
    service = Service()
    assert service.one("GET", "/demo/faults").json() == {"faults": []}
    added = service.one("POST", "/demo/faults", {"dependency": "cache", "errors": 0.2, "latency_seconds": 3})
    service.one("POST", "/demo/faults", {"errors": 1})
    assert added.json() == {"faults": [{"dependency": "cache", "errors": 0.2, "latency_seconds": 3.0}]}
    assert len(service.faults.active) == 2
    for bad in ({"dependency": "disk", "errors": 1}, {"errors": 1.5}, {"latency_seconds": -1}, {"error": 1}):
        assert service.one("POST", "/demo/faults", bad).status_code == 422
    assert len(service.one("GET", "/demo/state").json()["faults"]) == 2
    assert service.one("DELETE", "/demo/faults").json() == {"faults": []}
    assert not service.faults.active


@pytest.mark.parametrize("peer", ["172.17.0.2", "192.168.1.4", "", "testclient"])
def test_faults_only_from_this_machine(telemetry: object, peer: str) -> None:
    service = Service(peer)
    for method, path in (("GET", "/demo/faults"), ("DELETE", "/demo/faults"), ("GET", "/demo/state")):
        assert service.one(method, path).status_code == 403
    assert service.one("POST", "/demo/faults", {"errors": 1}).status_code == 403
    assert not service.faults.active
    assert service.one("GET", "/metrics").status_code == 200


def test_traffic_swings_gently() -> None:
    rates = [rate_at(10, t) for t in range(0, 6000, 7)]
    assert 7.9 <= min(rates) < 8.8 and 11.2 < max(rates) <= 12.1
    assert abs(sum(rates) / len(rates) - 10) < 0.1


# The pager

FIRING = {
    "version": "4",
    "status": "firing",
    "alerts": [
        {
            "status": "firing",
            "labels": {
                "alertname": "SLOBurnRateCritical",
                "service": "council-api",
                "slo": "availability",
                "severity": "critical",
            },
            "annotations": {"summary": "Budget burns", "runbook_url": "http://g/r", "budget_left": "40 %"},
        }
    ],
}


def test_pager(caplog: pytest.LogCaptureFixture) -> None:
    pages = Pages()

    async def run() -> list[httpx.Response]:
        transport = httpx.ASGITransport(create_pager(pages), client=("172.17.0.3", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://pager") as client:
            return [
                await client.post("/", json=FIRING),
                await client.post("/team/backend", json={"text": "hello"}),
                await client.post("/", content=b"{"),
                await client.get("/notifications"),
                await client.get("/notifications?after=1"),
                await client.get("/notifications?after=x"),
                await client.delete("/notifications"),
            ]

    with caplog.at_level(logging.INFO, logger="pager"):
        first, other, bad, every, later, wrong, forget = asyncio.run(run())
    assert [r.status_code for r in (first, other, bad, wrong, forget)] == [200, 200, 400, 422, 403]
    assert [(p["id"], p["path"]) for p in every.json()] == [(1, "/"), (2, "/team/backend")]
    assert every.json()[0]["body"] == FIRING and [p["id"] for p in later.json()] == [2]
    assert caplog.messages[0] == "FIRING  critical  SLOBurnRateCritical  council-api/availability  Budget burns"
    assert describe({}) == "?  -  ?"


def test_pager_keeps_the_latest() -> None:
    pages = Pages()
    for number in range(KEEP + 10):
        pages.add("/", {"n": number})
    kept = pages.since()
    assert len(kept) == KEEP and kept[-1]["body"] == {"n": KEEP + 9} and kept[0]["id"] == 11


# The commands


@pytest.mark.parametrize(
    ("text", "share"), [("20%", 0.2), ("0.02 %", 0.0002), ("100%", 1.0), ("0.5", 0.5), ("1", 1.0), ("0%", 0.0)]
)
def test_shares(text: str, share: float) -> None:
    assert Share().convert(text, None, None) == pytest.approx(share)


@pytest.mark.parametrize(("text", "seconds"), [("3s", 3.0), ("500ms", 0.5), ("1m30s", 90.0), ("1.5s", 1.5)])
def test_durations(text: str, seconds: float) -> None:
    assert Seconds().convert(text, None, None) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--errors", "20"], "Did you mean 20%?"),
        (["--errors", "120%"], "from 0% to 100%"),
        (["--errors", "some"], "Write it as 20% or 0.2"),
        (["--errors", "-5%"], "-5%"),
        (["--latency", "3"], "Did you mean 3s?"),
        (["--latency", "soon"], "500ms, 3s or 1m"),
        (["--latency", "2h"], "more than an hour"),
        ([], "--errors 20%, --latency 3s, or both"),
        (["--dependency", "database"], "Say what to break"),
    ],
)
def test_break_refuses(arguments: list[str], says: str) -> None:
    result = CliRunner().invoke(demo, ["break", *arguments])
    assert result.exit_code == 2 and says in result.output


def test_every_command_has_help() -> None:
    for name in ("start", "stop", "status", "break", "heal", "pages"):
        result = CliRunner().invoke(demo, [name, "--help"])
        assert result.exit_code == 0 and result.output.strip()
        assert demo.commands[name].help


def test_describe_fault() -> None:
    assert (
        describe_fault({"dependency": "cache", "errors": 0.2, "latency_seconds": 3.0})
        == "20 % errors and 3 s more latency on cache"
    )
    assert describe_fault({"dependency": None, "errors": 1, "latency_seconds": 0}) == "100 % errors on every process"


# The process


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    (tmp_path / "compose.yaml").touch()
    settings = {name: _free_port() for name in ("DEMO_PORT", "DEMO_PAGER_PORT", "OTLP_HTTP_PORT")}
    (tmp_path / ".env").write_text("".join(f"{k}={v}\n" for k, v in settings.items()))
    made = Project.load(tmp_path)
    yield made
    control.stop(made, lambda _: None)


def _run(project: Project, *arguments: str) -> str:
    result = CliRunner().invoke(demo, list(arguments), obj=project, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_demo_from_start_to_stop(project: Project) -> None:
    with pytest.raises(LgtmError, match="not running"):
        control.break_(project, errors=1)
    assert CliRunner().invoke(demo, ["status"], obj=project).exit_code == 1
    assert "The demo runs at" in _run(project, "start", "--rate", "40")
    told: list[str] = []
    again = control.start(project, told.append)
    assert told == [f"The demo already runs at {again.url} (process {again.pid})."]
    assert (again.state or {})["traffic"]["rate"] == 40
    assert "50 % errors on cache" in _run(project, "break", "--errors", "50%", "--dependency", "cache")
    with pytest.raises(LgtmError, match="Unknown dependency 'disk'"):
        control.break_(project, errors=1, dependency="disk")
    assert "No fault" in _run(project, "heal")
    assert "No notification" in _run(project, "pages")
    assert httpx.post(f"{control.pager_url(project)}/", json=FIRING).status_code == 200
    shown = _run(project, "pages")
    for part in ("firing", "critical", "council-api/availability", "Budget burns", "http://g/r", "40 %"):
        assert part in shown
    assert json.loads(_run(project, "pages", "--json"))["body"] == FIRING
    assert "SLOBurnRateCritical" in (project.root / ".lgtm/pager.log").read_text()
    deadline = time.monotonic() + 10
    while (json.loads(_run(project, "status", "--json"))["state"]["traffic"]["sent"]) < 10:
        assert time.monotonic() < deadline, "no traffic"
        time.sleep(0.1)
    lines = [json.loads(line) for line in (project.root / ".lgtm/demo.log").read_text().splitlines()]
    assert {"http.request", "process.started", "process.finished"} <= {line["event"] for line in lines}
    # Nobody listens on the collector's port: said once, and nothing else goes wrong.
    assert [line["event"] for line in lines].count("telemetry.failing") <= 1
    assert "stopped" in _run(project, "stop")
    assert "not running" in _run(project, "stop")
    assert (project.root / ".lgtm/demo.out").read_text() == ""


def test_a_killed_demo_is_not_running(project: Project) -> None:
    pid = control.start(project, lambda _: None, rate=0).pid
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while control.status(project) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    again = control.start(project, lambda _: None, rate=0).pid
    assert again != pid
    # Told to stop it would try for three seconds to get rid of its last spans.
    os.kill(again, signal.SIGKILL)


@pytest.mark.parametrize("setting", ["DEMO_PORT", "DEMO_PAGER_PORT"])
def test_a_taken_port_is_refused(project: Project, setting: str) -> None:
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", project.port(setting)))
        other.listen()
        with pytest.raises(LgtmError, match=f"Port {project.port(setting)} on 127.0.0.1 is in use") as raised:
            control.start(project, lambda _: None)
    assert raised.value.hint is not None and setting in raised.value.hint
    assert control.status(project) is None


def test_traffic_does_not_wait_for_slow_answers(telemetry: object) -> None:
    """A server that never answers: the users keep coming."""

    async def run() -> int:
        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await reader.read()
            finally:
                writer.close()

        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        traffic = Traffic(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", rate=100)
        task = asyncio.create_task(traffic.run())
        try:
            # None of these is ever answered, so whoever waited for answers would never come so far.
            async with asyncio.timeout(60):
                while traffic.sent < 50:
                    await asyncio.sleep(0.05)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            server.close()
        return traffic.sent

    assert asyncio.run(run()) >= 50
