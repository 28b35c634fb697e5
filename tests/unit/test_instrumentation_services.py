"""What services use beside processes: the registry, requests by ASGI and WSGI, helpers, and what leaves them masked."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote
from wsgiref.util import setup_testing_defaults

import httpx
import pytest
from lgtm_instrumentation import (
    Capture,
    Check,
    Health,
    RequestTelemetry,
    Telemetry,
    WsgiTelemetry,
    annotate,
    cache,
    consume,
    observe_pool,
    observe_queue,
    process,
    produce,
    request_context,
    request_id,
    runtime,
    setup,
    stage,
    tracer,
    webhook,
)
from lgtm_instrumentation import telemetry as telemetry_module
from lgtm_instrumentation.registry import load
from opentelemetry import trace
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tests.leaks import LEAKS

SPEC = """
version: 1
services:
  shop:
    processes:
      order: {name: Order, version: 1.2.0, stages: [reserve, charge], sla: 5s, critical: true}
"""


class Service:
    """What one service has told: spans, log lines, metric points."""

    def __init__(self, **options: Any) -> None:
        self.stream, self.exporter, self.reader = io.StringIO(), InMemorySpanExporter(), InMemoryMetricReader()
        self.telemetry: Telemetry = setup(
            "shop",
            "3.1.0",
            **{
                "otlp_endpoint": "",
                "metric_readers": [self.reader],
                "log_handler": logging.StreamHandler(self.stream),
                **options,
            },
        )
        self.telemetry.tracer_provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def points(self, metric: str) -> dict[tuple[Any, ...], Any]:
        """Points of a metric (classic ones of histograms) by their labels' values in the labels' order."""
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        return {
            tuple(v for _, v in sorted((point.attributes or {}).items())): getattr(
                point, "value", getattr(point, "count", None)
            )
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for found in scope.metrics
            if found.name == metric and "Exponential" not in type(found.data).__name__
            for point in found.data.data_points
        }


@pytest.fixture
def service() -> Iterator[Callable[..., Service]]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    made: list[Service] = []

    def make(**options: Any) -> Service:
        made.append(Service(**options))
        return made[-1]

    runtime.decorated.clear()
    yield make
    for one in made:
        one.telemetry.shutdown(timeout=1)
    root.handlers[:] = handlers
    root.setLevel(level)
    runtime.activate(None)
    runtime.decorated.clear()


# The registry


def test_registry_is_the_spec(tmp_path: Path) -> None:
    (tmp_path / "slos.yaml").write_text("include: [services/*.yaml]\nservices: {other: {processes: {x: {version: 9}}}}")
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "shop.yaml").write_text(SPEC)
    registry = load(tmp_path / "slos.yaml", "shop")
    order = registry.processes["order"]
    assert list(registry.processes) == ["order"] and registry.versions == {"order": "1.2.0"}
    assert (order.stages, order.sla, order.critical) == (("reserve", "charge"), "5s", True)
    assert registry.check("order", "1.2.0") is None
    assert "1.3.0" in str(registry.check("order", "1.3.0")) and "not in slos.yaml" in str(registry.check("oder", "1.2.0"))
    assert load({"services": {"shop": {}}}, "shop").check("anything", "1") is None


def test_start_warns_of_what_the_registry_does_not_know(service: Callable[..., Service], tmp_path: Path) -> None:
    path = tmp_path / "slos.yaml"
    path.write_text(SPEC)

    @process("refund")
    def refund() -> None:
        pass

    shop = service(registry=path, processes={"order": "1.3.0"})
    warned = [line for line in shop.lines if line["event"] == "process.unregistered"]
    assert [(w["process_id"], w["process_version"], w["level"]) for w in warned] == [
        ("order", "1.3.0", "WARNING"),
        ("refund", "unknown", "WARNING"),
    ]
    with process("gift"):
        pass
    with process("gift"):
        pass
    assert [line["process_id"] for line in shop.lines if line["event"] == "process.unregistered"].count("gift") == 1
    assert next(iter(shop.points("process.registry.mismatches").values())) >= 3


def test_the_registry_tells_versions(service: Callable[..., Service], tmp_path: Path) -> None:
    path = tmp_path / "slos.yaml"
    path.write_text(SPEC)
    shop = service(registry=path)
    with process("order"):
        pass
    assert not [line for line in shop.lines if line["level"] == "WARNING"]
    assert shop.points("process.executions")[("order", "success", "1.2.0")] == 1


@pytest.mark.parametrize("text", [None, "a: [", "just text"])
def test_a_registry_that_cannot_be_read_is_a_warning(service: Callable[..., Service], tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "slos.yaml").write_text(text)
    shop = service(registry=tmp_path / "slos.yaml")
    assert [line["event"] for line in shop.lines] == ["process.no_registry"]
    with process("order"):
        pass


# Requests


def _ask(app: Any, *requests: tuple[str, str, dict[str, Any]]) -> list[httpx.Response]:
    async def run() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            return [await client.request(method, path, **options) for method, path, options in requests]

    return asyncio.run(run())


async def _item(request: Request) -> JSONResponse:
    await request.body()
    if request.path_params["id"] == "bad":
        raise RuntimeError("lost")
    with process("order"), stage("reserve"):
        pass
    return JSONResponse({"token": "t-0815", "n": 1}, int(request.query_params.get("status", "200")))


def test_red_metrics_by_the_semantic_conventions(service: Callable[..., Service]) -> None:
    shop = service()
    app = RequestTelemetry(Starlette(routes=[Route("/items/{id}", _item, methods=["GET", "POST"])]))
    _ask(app, ("GET", "/items/1", {}), ("GET", "/items/2?status=503", {}), ("GET", "/items/bad", {}), ("GET", "/none", {}))
    assert shop.points("http.server.request.duration") == {
        ("GET", 200, "/items/{id}", "http"): 1,
        ("503", "GET", 503, "/items/{id}", "http"): 1,
        ("RuntimeError", "GET", 500, "/items/{id}", "http"): 1,
        ("GET", 404, "unmatched", "http"): 1,
    }
    assert shop.points("http.server.active_requests") == {("GET", "http"): 0}


def test_the_request_id_is_everywhere(service: Callable[..., Service]) -> None:
    shop = service()
    app = RequestTelemetry(Starlette(routes=[Route("/items/{id}", _item)]))
    _ask(app, ("GET", "/items/1", {"headers": {"X-Request-ID": "r-7"}}))
    assert {s.name: (s.attributes or {}).get("request.id") for s in shop.exporter.get_finished_spans()} == {
        "reserve": "r-7",
        "order": "r-7",
        "GET /items/{id}": "r-7",
    }
    assert [line["request_id"] for line in shop.lines if line["event"]] == ["r-7"] * 3


def test_captured_requests_are_masked(service: Callable[..., Service]) -> None:
    shop = service(redact=["diagnosis"])
    app = RequestTelemetry(
        Starlette(routes=[Route("/items/{id}", _item, methods=["POST"])]), capture=Capture(headers=True, body=1000)
    )
    _ask(
        app,
        (
            "POST",
            "/items/1?api_key=k-99",
            {
                "headers": {"Authorization": "Bearer abc", "Cookie": "sid=1", "X-Trace": "kept"},
                "json": {"user": {"password": "hunter2", "name": "Ann"}, "diagnosis": "flu"},
            },
        ),
        ("POST", "/items/1", {"content": b"x" * 2000}),
    )
    first, second = (line for line in shop.lines if line["event"] == "http.request")
    assert first["http_request_body"] == {"user": {"password": "[redacted]", "name": "Ann"}, "diagnosis": "[redacted]"}
    assert first["http_response_body"] == {"token": "[redacted]", "n": 1}
    assert first["http_request_header_authorization"] == first["http_request_header_cookie"] == "[redacted]"
    assert first["http_request_header_x-trace"] == "kept" and first["url_query"] == "api_key=[redacted]"
    assert second["http_request_body"] == "left out: too long"


def _wsgi(app: Callable[..., Iterable[bytes]], path: str, **headers: str) -> tuple[str, dict[str, str], bytes]:
    environ: dict[str, Any] = {"PATH_INFO": path, **{f"HTTP_{k.upper()}": v for k, v in headers.items()}}
    setup_testing_defaults(environ)
    said: dict[str, Any] = {}

    def start_response(status: str, answer: list[tuple[str, str]], *more: Any) -> Callable[[bytes], None]:
        said.update(status=status, headers=dict(answer))
        return lambda data: None

    parts = app(environ, start_response)
    try:
        return said.get("status", ""), said.get("headers", {}), b"".join(parts)
    finally:
        close = getattr(parts, "close", None)
        if close:
            close()


def test_wsgi(service: Callable[..., Service]) -> None:
    shop = service()

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/bad":
            raise RuntimeError("lost")
        start_response("200 OK", [("Content-Type", "text/plain")])

        def parts() -> Iterator[bytes]:
            with process("order"):
                yield str(request_id.get()).encode()
            if environ["PATH_INFO"] == "/late":
                raise RuntimeError("late")

        return parts()

    app = WsgiTelemetry(application, route=lambda environ: "/fixed" if environ["PATH_INFO"] != "/none" else None)
    status, headers, body = _wsgi(app, "/items/1", x_request_id="r-9", traceparent=f"00-{'a' * 32}-{'b' * 16}-01")
    assert (status, headers["X-Request-ID"], body) == ("200 OK", "r-9", b"r-9")
    for path in ("/bad", "/late"):
        with pytest.raises(RuntimeError):
            _wsgi(app, path)
    _wsgi(app, "/none")
    assert request_id.get() is None
    found = shop.points("http.server.request.duration")
    assert found[("GET", 200, "/fixed", "http")] == 2 and found[("RuntimeError", "GET", 500, "/fixed", "http")] == 1
    spans = [s for s in shop.exporter.get_finished_spans() if s.name.startswith("GET")]
    assert [s.name for s in spans] == ["GET /fixed", "GET /fixed", "GET /fixed", "GET unmatched"]
    assert spans[0].context is not None and spans[0].context.trace_id == int("a" * 32, 16)
    (order, *_) = [s for s in shop.exporter.get_finished_spans() if s.name == "order"]
    assert order.parent is not None and order.parent.span_id == spans[0].context.span_id


def test_flask(service: Callable[..., Service]) -> None:
    flask = pytest.importorskip("flask")
    shop = service()
    app = flask.Flask("shop")

    @app.get("/items/<int:number>")  # type: ignore[untyped-decorator, unused-ignore]
    def item(number: int) -> str:
        with process("order"):
            return str(number)

    app.wsgi_app = WsgiTelemetry(app.wsgi_app)
    assert app.test_client().get("/items/7", buffered=True).text == "7"
    app.test_client().get("/nothing", buffered=True)
    names = [s.name for s in shop.exporter.get_finished_spans()]
    assert names == ["order", "GET /items/<int:number>", "GET unmatched"]


def test_health_without_asgi() -> None:
    def database() -> str:
        return "PostgreSQL 16.4"

    def broken() -> str:
        raise ConnectionError("postgres://shop:hunter2@db")

    health = Health(
        "shop",
        "3.1.0",
        [Check("database", database), Check("cache", broken), Check("search", lambda: None, version=lambda: "8.2")],
    )
    status, body = health.answer("/health") or (0, {})
    assert (status, body["version"], body["checks"]["database"]["version"]) == (503, "3.1.0", "PostgreSQL 16.4")
    assert body["checks"]["search"]["version"] == "8.2" and "version" not in body["checks"]["cache"]
    assert "hunter2" not in json.dumps(body)
    assert (health.answer("/health/database") or (0, {}))[0] == 200
    assert (health.answer("/health/live") or (0, {}))[0] == 200 and health.answer("/items") is None
    assert (health.answer("/health/nothing") or (0, {}))[0] == 404


def test_a_probes_answer_that_is_no_version_is_not_told() -> None:
    health = Health("shop", "1", [Check("db", lambda: "postgres://shop:hunter2@db:5432/x")])
    assert "hunter2" not in json.dumps(health.answer("/health"))


# Helpers


def test_pool_and_queue(service: Callable[..., Service]) -> None:
    shop = service()
    observe_pool("orders", used=lambda: 3, size=lambda: 10, pending=lambda: 2)
    observe_queue("emails", lambda: 7, oldest_seconds=lambda: 1.5)
    assert shop.points("db.client.connection.count") == {("orders", "used"): 3, ("orders", "idle"): 7}
    assert shop.points("db.client.connection.max") == {("orders",): 10}
    assert shop.points("db.client.connection.pending_requests") == {("orders",): 2}
    assert shop.points("messaging.queue.depth") == {("emails",): 7}
    assert shop.points("messaging.queue.oldest") == {("emails",): 1.5}


def test_cache(service: Callable[..., Service]) -> None:
    shop = service()
    for hit in (True, False, True):
        with cache("sessions") as lookup:
            lookup.hit = hit
    with pytest.raises(OSError), cache("sessions"):
        raise OSError
    assert shop.points("cache.requests") == {("sessions", "hit"): 2, ("sessions", "miss"): 1, ("sessions", "error"): 1}
    assert shop.points("cache.request.duration") == {("sessions",): 4}


def test_messages_carry_trace_and_request(service: Callable[..., Service]) -> None:
    shop = service()
    with request_context("r-3"), tracer().start_as_current_span("ordering") as sending:
        headers = produce("emails")
    assert headers["x-request-id"] == "r-3"
    with consume("emails", headers=headers, sent_at=time.time() - 2), process("mail"):
        assert request_id.get() == "r-3"
    with pytest.raises(ValueError), consume("emails"):
        raise ValueError
    taken = next(s for s in shop.exporter.get_finished_spans() if s.name == "process emails")
    assert [link.context.trace_id for link in taken.links] == [sending.get_span_context().trace_id]
    assert shop.points("messaging.client.consumed.messages") == {("emails",): 1, ("ValueError", "emails"): 1}
    assert shop.points("messaging.client.sent.messages") == {("emails",): 1}
    assert shop.points("messaging.wait.duration") == {("emails",): 1} and request_id.get() is None


def test_webhooks(service: Callable[..., Service]) -> None:
    shop = service()
    with webhook("payments", "evt_1"):
        pass
    with webhook("payments", "evt_1") as delivery:
        delivery.duplicate()
    with webhook("payments") as delivery:
        delivery.failure()
    for error in (TimeoutError, ValueError):
        with pytest.raises(error), webhook("payments"):
            raise error
    assert shop.points("webhook.deliveries") == {
        ("payments", "success"): 1,
        ("payments", "duplicate"): 1,
        ("payments", "failure"): 2,
        ("payments", "timeout"): 1,
    }
    assert sum(shop.points("webhook.duration").values()) == 5


# What leaves the process


class _Sink(HTTPServer):
    """An OTLP receiver that keeps what it gets, or answers 503."""

    def __init__(self, status: int = 200) -> None:
        self.bodies: dict[str, list[bytes]] = {}
        self.status = status
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                import gzip

                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                outer.bodies.setdefault(self.path, []).append(body)
                self.send_response(outer.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def close(self) -> None:
        self.shutdown()
        self.thread.join()
        self.server_close()


def test_no_secret_leaves_the_process(service: Callable[..., Service], monkeypatch: pytest.MonkeyPatch) -> None:
    """In messages, fields, exceptions, events, links, labels of metrics and what is said of the service itself."""
    said = [f"x{number}.{leak.field}={quote(leak.secret)}" for number, leak in enumerate(LEAKS)]
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", ",".join(said))
    sink = _Sink()
    try:
        shop = service(otlp_endpoint=f"http://127.0.0.1:{sink.server_port}")
        log = logging.getLogger("shop")
        sold = shop.telemetry.meter_provider.get_meter("shop").create_counter("shop.sold")
        took = shop.telemetry.meter_provider.get_meter("shop").create_histogram("shop.took")
        linked = trace.SpanContext(1, 2, is_remote=True)
        for leak in LEAKS:
            sold.add(1, {leak.field: leak.secret, "address": leak.url})
            took.record(0.1, {"sentence": leak.sentence, "list": [leak.sentence, leak.header]})
            log.info(
                leak.sentence, extra={leak.field: leak.secret, "document": leak.document, "nested": {leak.field: leak.secret}}
            )
            try:
                with process("order", user_id=leak.secret if not leak.key else leak.sentence), stage("charge"):
                    annotate(**{"address": leak.url})
                    ours = [trace.Link(linked, {leak.field: leak.secret, "document": leak.document})]
                    with tracer().start_as_current_span(leak.url, links=ours) as span:
                        span.add_event(leak.sentence)
                        span.set_attribute(f"http.request.header.{leak.field}", leak.secret)
                        span.add_event("sent", {leak.field: leak.secret, "header": leak.header})
                    raise RuntimeError(leak.sentence)
            except RuntimeError:
                log.exception("at %s", leak.url)
        shop.telemetry.flush()
        shop.telemetry.shutdown()
    finally:
        sink.close()
    spans, logs, metrics = ExportTraceServiceRequest(), ExportLogsServiceRequest(), ExportMetricsServiceRequest()
    for body in sink.bodies["/v1/traces"]:
        spans.MergeFromString(body)
    for body in sink.bodies["/v1/logs"]:
        logs.MergeFromString(body)
    for body in sink.bodies["/v1/metrics"]:
        metrics.MergeFromString(body)
    assert {"shop.sold", "shop.took", "x0.note", f"x{len(LEAKS) - 1}.date_of_birth"} <= _strings(metrics)
    assert {"charge", "order", "exception.stacktrace"} <= _strings(spans) and {"shop", "document"} <= _strings(logs)
    sent = _strings(spans) | _strings(logs) | _strings(metrics)
    written = shop.stream.getvalue()
    assert len(shop.lines) == 4 * len(LEAKS)
    for leak in LEAKS:
        assert not [text for text in sent if leak.secret in text], f"{leak} was sent"
        assert json.dumps(leak.secret, ensure_ascii=False)[1:-1] not in written, f"{leak} was written"


def _strings(message: Any) -> set[str]:
    found: set[str] = set()

    def walk(value: Any) -> None:
        if isinstance(value, str):
            found.add(value)
        elif hasattr(value, "ListFields"):
            for _, inner in value.ListFields():
                walk(inner)
        elif not isinstance(value, (bytes, bool, int, float)):
            # A repeated field, which has no __iter__ that could be asked for.
            for inner in value:
                walk(inner)

    walk(message)
    return found


def test_a_full_queue_counts_what_it_drops(service: Callable[..., Service], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry_module, "_QUEUE_ITEMS", 50)
    monkeypatch.setattr(telemetry_module, "_BATCH_ITEMS", 10)
    sink = _Sink(status=503)
    try:
        shop = service(otlp_endpoint=f"http://127.0.0.1:{sink.server_port}")
        delivery = shop.telemetry.delivery
        assert delivery is not None
        for _ in range(200):
            with process("order"):
                pass
        # One batch of ten may be with the exporter, the rest waits.
        assert 140 <= delivery.dropped["spans"] <= 150 and 340 <= delivery.dropped["log lines"] <= 350
        assert shop.points("telemetry.dropped")[("traces",)] == delivery.dropped["spans"]
        assert shop.points("telemetry.queued")[("traces",)] <= 50
    finally:
        sink.status = 200  # so that its threads end, whose use of `random` would disturb the tests after this one
        shop.telemetry.shutdown(timeout=20)
        sink.close()
