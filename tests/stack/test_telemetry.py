"""Telemetry on real servers: what happened to a company at a minute, how soon it is found, and that no secret is."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import pytest

from bench.copies import ROOT
from generator import engine
from generator.render.dashboards import queries
from tests.leaks import LEAKS
from tests.stack.copies import Stack

T = TypeVar("T")
LGTM = Path(sys.executable).with_name("lgtm")

# What the product promises, in seconds from writing to finding.
LOG_SECONDS, TRACE_SECONDS, METRIC_SECONDS = 5, 10, 20


def until(what: str, seconds: float, look: Callable[[], T | None], pause: float = 0.3) -> T:
    """What ``look`` returns, as soon as it returns something."""
    deadline = time.monotonic() + seconds
    while True:
        if found := look():
            return found
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {seconds:.0f} s")
        time.sleep(pause)


class Ask:
    """Questions to the servers of a stack."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.project = stack.project

    def lgtm(self, *words: str) -> str:
        done = subprocess.run(
            [str(LGTM), "-C", str(self.project.root), *words], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"lgtm {' '.join(words)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def prometheus(self, query: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.stack.get("prometheus", "/api/v1/query", query=query).json()["data"]["result"]
        return rows

    def loki(self, query: str, seconds: float = 900) -> list[tuple[dict[str, str], str]]:
        """Lines of the last ``seconds``: their labels and metadata, and the text."""
        now = time.time()
        answer = self.stack.get(
            "loki",
            "/loki/api/v1/query_range",
            query=query,
            limit="5000",
            start=str(int((now - seconds) * 1e9)),
            end=str(int((now + 5) * 1e9)),
        ).json()
        return [(stream["stream"], line) for stream in answer["data"]["result"] for _, line in stream["values"]]

    def tempo(self, query: str, seconds: float = 900, limit: int = 50) -> list[dict[str, Any]]:
        now = int(time.time())
        answer = self.stack.get(
            "tempo", "/api/search", q=query, limit=str(limit), start=str(int(now - seconds)), end=str(now + 5)
        ).json()
        traces: list[dict[str, Any]] = answer.get("traces") or []
        return traces

    def trace(self, trace_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.stack.get("tempo", f"/api/v2/traces/{trace_id}").json()
        return found

    def run(self, script: str, *arguments: str) -> str:
        """Run a service: Python code with the collector's address and the arguments."""
        address = f"http://127.0.0.1:{self.project.port('OTLP_HTTP_PORT')}"
        path = os.pathsep.join(str(p) for p in (ROOT / "instrumentation", ROOT))
        done = subprocess.run(
            [sys.executable, "-c", script, address, *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={**os.environ, "PYTHONPATH": path},
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout


@pytest.fixture(scope="module")
def ask(stack: Stack) -> Ask:
    return Ask(stack)


@pytest.fixture(scope="module")
def demo(ask: Ask) -> Iterator[Ask]:
    ask.lgtm("demo", "start")
    try:
        yield ask
    finally:
        ask.lgtm("demo", "stop")


def _attribute(key: str, value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return {"key": key, "value": {"kvlistValue": {"values": [_attribute(k, v) for k, v in value.items()]}}}
    if isinstance(value, list):
        return {"key": key, "value": {"arrayValue": {"values": [_attribute("", v)["value"] for v in value]}}}
    return {"key": key, "value": {"stringValue": value}}


# --- No secret is found ------------------------------------------------------------------------------------------------------


def _nothing_leaked(ask: Ask, service: str, lines: int, trace_ids: list[str]) -> None:
    """Every line and trace has arrived, and none holds one of the hundred."""
    selector = f'{{service_name="{service}"}}'
    until("every line is in Loki", 30, lambda: len(ask.loki(selector)) == lines, pause=1)

    def all_traces() -> list[dict[str, Any]] | None:
        found = [ask.trace(trace_id) for trace_id in trace_ids]
        return found if all(t["trace"] for t in found) else None

    traces = until("every trace is in Tempo", 40, all_traces, pause=2)

    def labels() -> list[dict[str, str]] | None:
        found: list[dict[str, str]] = ask.stack.get(
            "prometheus", "/api/v1/series", **{"match[]": f'{{job="{service}"}}'}
        ).json()["data"]
        return found if len([row for row in found if row["__name__"] == "shop_sold_total"]) == len(LEAKS) else None

    stored = {
        "Loki": json.dumps(ask.loki(selector), ensure_ascii=False),
        "Tempo": json.dumps(traces, ensure_ascii=False),
        "Prometheus": json.dumps(until("every series is in Prometheus", 40, labels, pause=2), ensure_ascii=False),
    }
    assert "****" in stored["Loki"] or "[redacted]" in stored["Loki"]
    for leak in LEAKS:
        shapes = {leak.secret, quote(leak.secret, safe=""), json.dumps(leak.secret, ensure_ascii=False)[1:-1]}
        for server, text in stored.items():
            assert not [shape for shape in shapes if shape in text], f"{leak.key or 'text'}: {leak.secret!r} is in {server}"


def test_no_secret_past_the_package(ask: Ask) -> None:
    """By plain OTLP, as a service in another language sends it: fields, messages, exceptions, URLs, headers, names.

    Also in what is said of the service, of the library and in labels of metrics. Not in span links: nothing of the
    collector reaches their attributes.
    """
    service = f"plain-{uuid.uuid4().hex[:8]}"
    now = str(time.time_ns())
    logs: list[dict[str, Any]] = []
    spans: list[dict[str, Any]] = []
    metrics: list[dict[str, Any]] = []
    trace_ids = []
    for number, leak in enumerate(LEAKS):
        attributes = [
            # Loki keeps one of lines that are the same, which masked ones may be.
            _attribute("number", str(number)),
            _attribute(leak.field, leak.secret),
            _attribute("document", leak.document),
            _attribute("url.full", leak.url),
            _attribute("header", leak.header),
            _attribute(f"http.request.header.{leak.field}", [leak.secret]),
            _attribute("nested", {leak.field: leak.secret, "deep": {leak.field: leak.secret}}),
            _attribute("exception.message", leak.sentence),
            _attribute("exception.stacktrace", f"Traceback\n  line\nValueError: {leak.sentence}\n{leak.header}\nend"),
        ]
        bodies = [{"stringValue": text} for text in (leak.sentence, leak.document, leak.url, leak.header)]
        bodies.append(_attribute("", {leak.field: leak.secret})["value"])
        # One resource and one library for each: Loki takes no more than 128 fields with a line.
        resource = {"attributes": [_attribute("service.name", service), _attribute(f"said.{leak.field}", leak.secret)]}
        scope = {"name": "library", "attributes": [_attribute(f"by.{leak.field}", leak.secret)]}
        records = [{"timeUnixNano": now, "body": body, "attributes": attributes} for body in bodies]
        trace_ids.append(secrets.token_hex(16))
        span = {
            "traceId": trace_ids[-1],
            "spanId": secrets.token_hex(8),
            "name": f"GET {leak.url}",
            "kind": 1,
            "startTimeUnixNano": now,
            "endTimeUnixNano": str(int(now) + 1_000_000),
            "attributes": attributes,
            "status": {"code": 2, "message": leak.sentence},
            "events": [{"timeUnixNano": now, "name": leak.sentence, "attributes": attributes}],
        }
        point = {"timeUnixNano": now, "startTimeUnixNano": now, "asDouble": 1.0, "attributes": attributes}
        counter = {"name": "shop.sold", "sum": {"isMonotonic": True, "aggregationTemporality": 2, "dataPoints": [point]}}
        logs.append({"resource": resource, "scopeLogs": [{"scope": scope, "logRecords": records}]})
        spans.append({"resource": resource, "scopeSpans": [{"scope": scope, "spans": [span]}]})
        metrics.append({"resource": resource, "scopeMetrics": [{"scope": scope, "metrics": [counter]}]})
    ask.stack.post("/v1/logs", {"resourceLogs": logs})
    ask.stack.post("/v1/traces", {"resourceSpans": spans})
    ask.stack.post("/v1/metrics", {"resourceMetrics": metrics})
    _nothing_leaked(ask, service, 5 * len(LEAKS), trace_ids)


WITH_THE_PACKAGE = """
import logging, os, sys
from urllib.parse import quote
from tests.leaks import LEAKS
from lgtm_instrumentation import annotate, process, setup, stage, tracer
from opentelemetry.trace import Link, SpanContext

# Half of them: Loki takes no more than 128 fields with a line.
said = [f"x{number}.{leak.field}={quote(leak.secret)}" for number, leak in enumerate(LEAKS)]
os.environ["OTEL_RESOURCE_ATTRIBUTES"] = ",".join(said[::2])
telemetry = setup(sys.argv[2], "1.0.0", otlp_endpoint=sys.argv[1])
log = logging.getLogger("shop")
sold = telemetry.meter_provider.get_meter("shop").create_counter("shop.sold")
for number, leak in enumerate(LEAKS):
    sold.add(1, {"number": number, leak.field: leak.secret, "address": leak.url, "document": leak.document})
    try:
        with process("order", user_id=leak.secret if not leak.key else leak.sentence) as execution, stage("charge"):
            print("TRACE", format(execution.span.get_span_context().trace_id, "032x"))
            annotate(address=leak.url)
            log.info(leak.sentence, extra={leak.field: leak.secret, "document": leak.document, "header": leak.header})
            link = Link(SpanContext(1, 2, is_remote=True), {leak.field: leak.secret, "header": leak.header})
            with tracer().start_as_current_span(leak.url, links=[link]) as span:
                span.set_attribute("http.request.header." + leak.field, [leak.secret])
                span.add_event(leak.sentence, {leak.field: leak.secret})
            raise RuntimeError(leak.sentence)
    except RuntimeError:
        log.exception("at %s", leak.url)
telemetry.flush()
telemetry.shutdown(timeout=20)
"""


def test_no_secret_through_the_package(ask: Ask) -> None:
    service = f"package-{uuid.uuid4().hex[:8]}"
    printed = ask.run(WITH_THE_PACKAGE, service)
    trace_ids = [line.split()[1] for line in printed.splitlines() if line.startswith("TRACE")]
    assert len(trace_ids) == len(LEAKS)
    assert not [leak for leak in LEAKS if json.dumps(leak.secret, ensure_ascii=False)[1:-1] in printed]
    _nothing_leaked(ask, service, 4 * len(LEAKS), trace_ids)


def test_what_people_need_passes_unchanged(ask: Ask) -> None:
    service = f"harmless-{uuid.uuid4().hex[:8]}"
    from tests.leaks import HARMLESS

    record = {
        "timeUnixNano": str(time.time_ns()),
        "body": {"stringValue": "company_context_load succeeded in 0.128 s"},
        "attributes": [_attribute(key, str(value)) for key, value in HARMLESS if key != "message"],
    }
    body = {
        "resource": {"attributes": [_attribute("service.name", service)]},
        "scopeLogs": [{"logRecords": [record]}],
    }
    ask.stack.post("/v1/logs", {"resourceLogs": [body]})
    ((fields, line),) = until("the line is in Loki", 15, lambda: ask.loki(f'{{service_name="{service}"}}'))
    assert line == "company_context_load succeeded in 0.128 s"
    for key, value in HARMLESS:
        if key != "message":
            assert fields[key.replace(".", "_")] == str(value)


# --- Found in time -----------------------------------------------------------------------------------------------------------


def test_found_in_time(ask: Ask) -> None:
    """Logs within 5 s of being written, traces within 10, metrics within 20."""
    service, trace_id = f"quick-{uuid.uuid4().hex[:8]}", "00" + secrets.token_hex(15)
    resource = {"attributes": [_attribute("service.name", service)]}
    wrote = time.monotonic()
    now = str(time.time_ns())
    span = {
        "traceId": trace_id,
        "spanId": secrets.token_hex(8),
        "name": "work",
        "kind": 1,
        "startTimeUnixNano": now,
        "endTimeUnixNano": str(int(now) + 1_000_000),
        "attributes": [_attribute("company.id", service)],
    }
    point = {"timeUnixNano": now, "asDouble": 7.0}
    ask.stack.post(
        "/v1/logs",
        {
            "resourceLogs": [
                {"resource": resource, "scopeLogs": [{"logRecords": [{"timeUnixNano": now, "body": {"stringValue": "x"}}]}]}
            ]
        },
    )
    ask.stack.post("/v1/traces", {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]})
    ask.stack.post(
        "/v1/metrics",
        {
            "resourceMetrics": [
                {"resource": resource, "scopeMetrics": [{"metrics": [{"name": "work.size", "gauge": {"dataPoints": [point]}}]}]}
            ]
        },
    )
    until("the line is found", LOG_SECONDS - (time.monotonic() - wrote), lambda: ask.loki(f'{{service_name="{service}"}}'))
    logs = time.monotonic() - wrote
    query = f'{{ span.company.id="{service}" }}'
    until("the trace is found", TRACE_SECONDS - (time.monotonic() - wrote), lambda: ask.tempo(query))
    traces = time.monotonic() - wrote
    metric = f'work_size{{job="{service}"}}'
    until("the metric is found", METRIC_SECONDS - (time.monotonic() - wrote), lambda: ask.prometheus(metric))
    metrics = time.monotonic() - wrote
    print(f"found after: log line {logs:.1f} s, trace {traces:.1f} s, metric at most {metrics:.1f} s")
    # An id that begins with zeros is found as well.
    assert ask.trace(trace_id)["trace"]


# --- Without the package -----------------------------------------------------------------------------------------------------

PLAIN_OPENTELEMETRY = """
import logging, sys, time
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Status, StatusCode

address, service = sys.argv[1:]
resource = Resource.create({"service.name": service, "service.version": "4.2.0"})
spans = TracerProvider(resource=resource)
spans.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(address + "/v1/traces")))
meters = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter(address + "/v1/metrics"), 1000)], resource=resource)
logs = LoggerProvider(resource=resource)
logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(address + "/v1/logs")))
tracer, meter, log = spans.get_tracer("plain"), meters.get_meter("plain"), logs.get_logger("plain")
executions = meter.create_counter("process.executions", unit="{execution}")
duration = meter.create_histogram("process.execution.duration", unit="s", explicit_bucket_boundaries_advisory=[0.1, 0.5, 1, 5])
for status in ("success", "error"):
    labels = {"process.id": "invoice_run", "process.version": "7.0.0", "process.status": status}
    with tracer.start_as_current_span("invoice_run", attributes={**labels, "company.id": "globex"}) as span:
        step = {"process.stage": "collect", "process.id": "invoice_run"}
        with tracer.start_as_current_span("collect", attributes=step) as stage:
            time.sleep(0.01)
            if status == "error":
                stage.set_status(Status(StatusCode.ERROR, "no tariff"))
                span.set_attribute("error.type", "TariffError")
                span.set_status(Status(StatusCode.ERROR, "no tariff"))
                log.emit(LogRecord(timestamp=time.time_ns(), severity_number=SeverityNumber.ERROR, severity_text="ERROR",
                                   body="invoice_run failed: no tariff",
                                   attributes={"event": "process.finished", "company.id": "globex"}))
        executions.add(1, labels)
        duration.record(0.01, labels)
for provider in (spans, meters, logs):
    provider.force_flush()
    provider.shutdown()
"""


def test_plain_opentelemetry_keeps_the_contract(ask: Ask) -> None:
    """The attribute names of docs/instrumentation.md are enough: no package of ours is in the service."""
    service = f"billing-{uuid.uuid4().hex[:8]}"
    ask.run(PLAIN_OPENTELEMETRY, service)
    series = f'process_executions_total{{job="{service}",process_id="invoice_run",process_version="7.0.0"}}'
    rows = until("the counter is in Prometheus", METRIC_SECONDS, lambda: ask.prometheus(series))
    assert {row["metric"]["process_status"]: row["value"][1] for row in rows} == {"success": "1", "error": "1"}
    assert ask.prometheus(f'process_execution_duration_seconds_bucket{{job="{service}",le="0.5"}}')
    # It names no environment, and is found where all are asked for.
    anywhere = f'resource.service.name="{service}" && resource.deployment.environment.name =~ ".*"'
    until("the trace is found", 15, lambda: len(ask.tempo(f"{{ {anywhere} }}")) == 2)
    until("the log is found", 15, lambda: ask.loki(f'{{service_name="{service}"}} | company_id="globex"'))
    assert ask.loki(f'{{service_name="{service}", deployment_environment_name="none"}}')
    answer = json.loads(
        ask.lgtm("incident", "--service", service, "--at", "now", "--company", "globex", "--within", "30s", "--json")
    )
    assert [(e["process"], e["status"], e["error"]) for e in answer["executions"]] == [
        ("invoice_run", "error", "TariffError: no tariff"),
        ("invoice_run", "success", None),
    ]
    assert [(s["name"], s["status"], s["error"]) for s in answer["executions"][0]["stages"]] == [
        ("collect", "error", "no tariff")
    ]
    assert [(g["message"], g["count"]) for g in answer["logs"]] == [("invoice_run failed: no tariff", 1)]


# --- Deployments -------------------------------------------------------------------------------------------------------------


def test_deployments(ask: Ask) -> None:
    service = f"shop-{uuid.uuid4().hex[:8]}"

    def deploy(what: str, version: str) -> dict[str, Any]:
        said = ask.lgtm("deploy", what, "--service", service, "--version", version, "--commit", f"c{version}", "--json")
        found: dict[str, Any] = json.loads(said)
        return found

    deploy("start", "1.0")
    time.sleep(1.1)
    good = deploy("finish", "1.0")
    time.sleep(1.1)
    deploy("start", "1.1")
    deploy("fail", "1.1")
    time.sleep(1.1)
    deploy("start", "1.2")
    mended = deploy("finish", "1.2")
    assert good["id"] and good["duration"] >= 1 and mended["recovery"] >= 1
    until(
        "every event is in Prometheus",
        METRIC_SECONDS,
        lambda: len(ask.prometheus(f'last_over_time(deployment_timestamp_seconds{{service="{service}"}}[1h])')) == 6,
    )
    figures = json.loads(ask.lgtm("deploy", "figures", "--days", "1", "--json"))[service]
    assert figures["deployments"] == 3 and figures["success_rate"] == pytest.approx(2 / 3)
    assert figures["change_failure_rate"] == pytest.approx(1 / 3) and figures["time_to_recovery_seconds"] >= 1
    events = {fields["event"] for fields, _ in until("six log lines", 10, lambda: _six(ask, service))}
    assert events == {"deployment.started", "deployment.finished", "deployment.failed"}
    # The one before a moment is not the last one of all.
    answer = json.loads(
        ask.lgtm("incident", "--service", service, "--at", f"{good['at'] + 0.5:.3f}", "--within", "30s", "--json")
    )
    assert (answer["deployment"]["version"], answer["deployment"]["status"]) == ("1.0", "succeeded")
    latest = json.loads(ask.lgtm("incident", "--service", service, "--at", "now", "--within", "30s", "--json"))
    assert latest["deployment"]["version"] == "1.2"


def _six(ask: Ask, service: str) -> list[tuple[dict[str, str], str]] | None:
    found = ask.loki(f'{{service_name="{service}"}} | event=~"deployment.+"')
    return found if len(found) == 6 else None


# --- What happened to company X? ---------------------------------------------------------------------------------------------


def test_what_happened_to_the_company(demo: Ask) -> None:
    """By API, by `lgtm incident`, and by the queries of the dashboard: the same failed executions of one company."""
    company = "northwind"
    until("the demo is seen", 40, lambda: demo.tempo(f'{{ span.company.id="{company}" }}'), pause=1)
    demo.lgtm("demo", "break", "--errors", "100%", "--dependency", "database")
    time.sleep(8)
    demo.lgtm("demo", "heal")

    # API
    failed = f'{{ resource.service.name="council-api" && span.company.id="{company}" && span.process.status="error" }}'
    by_api = {t["traceID"].zfill(32) for t in until("failures are in Tempo", TRACE_SECONDS, lambda: demo.tempo(failed))}
    finished = '{service_name="council-api"} | event="process.finished" | process_status="error"'

    def in_loki() -> set[str]:
        return {fields["trace_id"] for fields, _ in demo.loki(f'{finished} | company_id="{company}"')}

    until("the same failures are in Loki", LOG_SECONDS, lambda: by_api <= in_loki())

    # Terminal
    question = ("incident", "--service", "council-api", "--at", "5 seconds ago", "--company", company, "--within", "30s")
    started = time.monotonic()
    answer = json.loads(demo.lgtm(*question, "--json"))
    took = time.monotonic() - started
    told = [e for e in answer["executions"] if e["status"] == "error"]
    assert told and {e["company"] for e in answer["executions"]} == {company} and answer["missing"] == []
    until("what was told is in Loki", LOG_SECONDS, lambda: {e["trace_id"] for e in told} <= in_loki())
    assert all("DependencyError: database answered with an error" in e["error"] for e in told)
    assert any(s["status"] == "error" for e in told for s in e["stages"]) and all(e["stage"] for e in told)
    assert answer["hurt"][company] >= len(told)
    # By type and place, with the stage in it.
    places = {(g["kind"], g["place"].partition(", ")[2]) for g in answer["logs"]}
    assert any(kind.endswith("DependencyError") and stage for kind, stage in places), places
    assert answer["log_lines"] > 0 and answer["slowest"] and answer["links"]["logs"].startswith("http")
    print(f"lgtm incident: {took:.1f} s, of which the servers {answer['seconds']:.1f} s")
    text = demo.lgtm(*question)
    assert f"executions of {company} failed" in text and "database answered with an error" in text and "failed" in text

    # Dashboard
    dashboard = json.loads(
        (demo.project.root / "grafana/generated/dashboards/backend/service-council-api.json").read_text("utf-8")
    )
    asked = {query.panel: query.expr for query in queries(dashboard)}
    shown = demo.loki(asked["Error logs, newest first"])
    assert [line for fields, line in shown if fields.get("company_id") == company]
    traces = {t["traceID"].zfill(32) for t in demo.tempo(asked["Failed traces, any of the range"], limit=500)}
    assert traces & by_api


def test_what_does_not_answer_is_named_and_the_rest_is_told(demo: Ask) -> None:
    """With Tempo stopped in its tracks the answer comes all the same, and says what it lacks."""
    labels = [f"com.docker.compose.project={demo.project.compose_project}", "com.docker.compose.service=tempo"]
    with contextlib.closing(engine.connect()) as docker:
        (tempo,) = docker.containers.list(filters={"label": labels})
        tempo.pause()
        try:
            started = time.monotonic()
            answer = json.loads(demo.lgtm("incident", "--service", "council-api", "--at", "now", "--within", "8s", "--json"))
            took = time.monotonic() - started
        finally:
            tempo.unpause()
    print(f"lgtm incident without Tempo: {took:.1f} s, of which the servers {answer['seconds']:.1f} s")
    lacks = dict(problem.split(": ") for problem in answer["missing"])
    assert "the slowest traces" in lacks and {reason.partition(" within ")[0] for reason in lacks.values()} == {
        "Tempo did not answer"
    }
    # Those that failed a moment ago are told by the logs, without their stages.
    assert ("the executions" in lacks) is not bool(answer["executions"])
    assert all(e["status"] != "success" and not e["stages"] for e in answer["executions"])
    assert answer["slos"] and answer["links"]


def test_metrics_of_the_service_arrive(demo: Ask) -> None:
    """RED metrics by the semantic conventions, processes as classic and native histograms, and what the package lost."""
    for series in (
        'http_server_request_duration_seconds_count{job="council-api",http_route="/api/auth/login"}',
        'process_execution_duration_seconds_bucket{job="council-api",le="0.5"}',
        'histogram_count(process_execution_duration_seconds{job="council-api",process_status="success"}) > 0',
        'db_client_connection_count{job="council-api",db_client_connection_state="used"}',
        'telemetry_dropped_total{job="council-api",signal="traces"} == 0',
    ):
        until(series, 30, lambda series=series: demo.prometheus(series), pause=1)  # type: ignore[misc]
