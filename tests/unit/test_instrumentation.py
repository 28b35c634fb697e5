"""Processes, stages, logs, delivery and health, against OpenTelemetry's own in-memory exporters and real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import json
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest
from lgtm_instrumentation import (
    Check,
    Health,
    RequestTelemetry,
    Response,
    Telemetry,
    annotate,
    current_execution,
    is_timeout,
    process,
    request_id,
    runtime,
    setup,
    stage,
)
from lgtm_instrumentation import telemetry as telemetry_module
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics.export import (
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
    InMemoryMetricReader,
    NumberDataPoint,
)
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


@dataclass
class Captured:
    telemetry: Telemetry
    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader
    stream: io.StringIO

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.exporter.get_finished_spans()}

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def points(self, metric: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        assert data is not None
        return [
            point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for found in scope.metrics
            if found.name == metric
            for point in found.data.data_points
        ]


@pytest.fixture
def root_logger(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # What is sent once a second, and again after seconds, is sent at once here.
    monkeypatch.setattr(telemetry_module, "_DELAY_MILLIS", 50.0)
    monkeypatch.setattr(telemetry_module, "_pauses", lambda: itertools.repeat(0.05))
    # By which the exporter multiplies its own pauses.
    monkeypatch.setattr("random.uniform", lambda low, high: 0.02)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    runtime.activate(None)


@pytest.fixture
def captured(root_logger: None) -> Iterator[Captured]:
    exporter, reader, stream = InMemorySpanExporter(), InMemoryMetricReader(), io.StringIO()
    telemetry = setup(
        "shop",
        "3.1.0",
        environment="test",
        otlp_endpoint="",
        processes={"order": "1.2.0"},
        metric_readers=[reader],
        log_handler=logging.StreamHandler(stream),
    )
    telemetry.tracer_provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield Captured(telemetry, exporter, reader, stream)
    telemetry.shutdown()


def test_span_tree(captured: Captured) -> None:
    with process("order", company_id="acme", conversation_id=None, attempt=2) as execution:
        with stage("reserve", **{"model.count": 5}):
            pass
        execution.annotate(user_id="u1")
        with stage("charge"):
            pass
    order, reserve, charge = (captured.spans[name] for name in ("order", "reserve", "charge"))
    assert order.attributes == {
        "process.id": "order",
        "process.version": "1.2.0",
        "company.id": "acme",
        "attempt": 2,
        "user.id": "u1",
        "process.status": "success",
        "process.success": True,
    }
    assert order.status.status_code is StatusCode.UNSET
    for child in (reserve, charge):
        assert child.parent is not None and order.context is not None
        assert child.parent.span_id == order.context.span_id
        assert child.context is not None and child.context.trace_id == order.context.trace_id
    assert reserve.attributes is not None and charge.attributes is not None
    assert (reserve.attributes["process.stage"], reserve.attributes["model.count"]) == ("reserve", 5)
    assert "user.id" not in reserve.attributes and charge.attributes["user.id"] == "u1"
    assert current_execution() is None


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (ValueError("no such item"), "error", "ValueError"),
        (TimeoutError("bank"), "timeout", "TimeoutError"),
        (httpx.ReadTimeout("bank"), "timeout", "httpx.ReadTimeout"),
        (asyncio.CancelledError(), "timeout", "asyncio.exceptions.CancelledError"),
        (KeyboardInterrupt(), "error", "KeyboardInterrupt"),
    ],
)
def test_failures(captured: Captured, error: BaseException, status: str, kind: str) -> None:
    with pytest.raises(type(error)) as raised, process("order", company_id="acme"), stage("charge"):
        raise error
    assert raised.value is error
    order, charge = captured.spans["order"], captured.spans["charge"]
    assert order.attributes is not None and charge.attributes is not None
    assert order.attributes["process.status"] == status
    assert order.attributes["process.success"] is False
    assert order.attributes["error.type"] == charge.attributes["error.type"] == kind
    assert order.status.status_code is charge.status.status_code is StatusCode.ERROR
    # The stack trace is recorded once, where it happened, with the business context.
    assert [event.name for event in charge.events] == ["exception"] and not order.events
    assert (charge.events[0].attributes or {})["company.id"] == "acme"
    counts = {p.attributes["process.status"]: p.value for p in captured.points("process.executions")}
    assert counts == {"success": 0, "error": 0, "timeout": 0} | {status: 1}
    finished = captured.lines[-1]
    assert (finished["event"], finished["level"]) == ("process.finished", "ERROR")
    assert (finished["process_status"], finished["error_type"], finished["company_id"]) == (status, kind, "acme")


def _stage_of_the_failure(captured: Captured) -> str | None:
    (finished,) = [line for line in captured.lines if line["event"] == "process.finished"]
    stage: str | None = finished.get("process_stage")
    return stage


def test_the_line_of_a_failed_execution_says_in_which_stage_it_failed(captured: Captured) -> None:
    with pytest.raises(RuntimeError), process("order"), stage("reserve"), stage("lock"):
        raise RuntimeError("no seats")
    assert _stage_of_the_failure(captured) == "lock"
    # A span with a stage is a stage.
    assert "process.stage" not in (captured.spans["order"].attributes or {})


def test_a_stage_that_recovered_is_not_where_it_failed(captured: Captured) -> None:
    with pytest.raises(RuntimeError), process("order"):
        with contextlib.suppress(ValueError), stage("reserve"):
            raise ValueError
        # Raised after the block, whose error is handled: not its cause.
        raise RuntimeError("afterwards")
    assert _stage_of_the_failure(captured) is None


def test_a_stage_whose_error_is_passed_on_as_another_is_where_it_failed(captured: Captured) -> None:
    with pytest.raises(RuntimeError), process("order"):
        try:
            with stage("charge"):
                raise ValueError
        except ValueError as error:
            raise RuntimeError("declined") from error
    assert _stage_of_the_failure(captured) == "charge"


def test_a_time_out_around_a_stage_failed_in_it(captured: Captured) -> None:
    async def order() -> None:
        with process("order"):
            async with asyncio.timeout(0.01):
                with stage("charge"):
                    await asyncio.sleep(5)

    with pytest.raises(TimeoutError):
        asyncio.run(order())
    assert _stage_of_the_failure(captured) == "charge"


def test_a_failure_without_an_exception_has_its_stage(captured: Captured) -> None:
    with process("order") as execution, stage("charge"):
        execution.fail("card_declined")
    assert _stage_of_the_failure(captured) == "charge"


def test_is_timeout() -> None:
    class GatewayTimeout(Exception):  # noqa: N818 - the name is what is tested
        pass

    class TimeoutPolicyError(Exception):
        pass

    assert is_timeout(GatewayTimeout()) and is_timeout(TimeoutError())
    assert not is_timeout(TimeoutPolicyError()) and not is_timeout(OSError())


def test_fail_without_exception(captured: Captured) -> None:
    with process("order") as execution:
        execution.fail("card_declined", "no cover")
    attributes = captured.spans["order"].attributes or {}
    assert (attributes["process.status"], attributes["error.type"]) == ("error", "card_declined")


def test_counters_begin_at_zero(captured: Captured) -> None:
    points: list[NumberDataPoint] = captured.points("process.executions")
    assert {p.attributes["process.status"]: p.value for p in points if p.attributes} == {
        "success": 0,
        "error": 0,
        "timeout": 0,
    }


def test_metric_labels_and_exemplars(captured: Captured) -> None:
    with process("order", company_id="acme", user_id="u1"), stage("reserve"):
        pass
    span = captured.spans["order"].context
    assert span is not None
    data = captured.reader.get_metrics_data()
    assert data is not None
    both = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics]
    metrics = {m.name: m for m in both if not isinstance(m.data, ExponentialHistogram)}
    native = {m.name: m for m in both if isinstance(m.data, ExponentialHistogram)}
    (duration,) = metrics["process.execution.duration"].data.data_points
    (staged,) = metrics["process.stage.duration"].data.data_points
    assert isinstance(duration, HistogramDataPoint) and isinstance(staged, HistogramDataPoint)
    (fine,) = native["process.execution.duration"].data.data_points
    assert isinstance(fine, ExponentialHistogramDataPoint)
    assert (fine.count, fine.attributes) == (1, duration.attributes) and fine.exemplars[0].trace_id == span.trace_id
    assert metrics["process.execution.duration"].unit == metrics["process.stage.duration"].unit == "s"
    # Neither company nor user: their number has no bound.
    assert duration.attributes == {"process.id": "order", "process.version": "1.2.0", "process.status": "success"}
    assert staged.attributes == {"process.id": "order", "process.stage": "reserve"}
    assert {2.0, 5.0, 10.0, 120.0} <= set(duration.explicit_bounds)
    assert [e.trace_id for e in duration.exemplars] == [span.trace_id]
    assert [e.span_id for e in duration.exemplars] == [span.span_id]


def test_decorators(captured: Captured) -> None:
    @process("order", company_id="acme")
    def place(item: str) -> str:
        annotate(item=item)
        return reserve(item)

    @stage("reserve")
    def reserve(item: str) -> str:
        return item.upper()

    @process("order")
    async def place_async(item: str) -> str:
        return await reserve_async(item)

    @stage("reserve_async")
    async def reserve_async(item: str) -> str:
        await asyncio.sleep(0)
        if item == "bad":
            raise ValueError(item)
        return item.upper()

    async def both() -> list[Any]:
        # At once: one execution each, not one shared.
        return list(await asyncio.gather(place_async("a"), place_async("bad"), return_exceptions=True))

    assert place("x") == "X" and place("y") == "Y"
    assert place.__name__ == "place"
    good, bad = asyncio.run(both())
    assert good == "A" and isinstance(bad, ValueError)
    statuses = [(s.attributes or {})["process.status"] for s in captured.exporter.get_finished_spans() if s.name == "order"]
    assert sorted(map(str, statuses)) == ["error", "success", "success", "success"]
    counts = {p.attributes["process.status"]: p.value for p in captured.points("process.executions")}
    assert counts == {"success": 3, "error": 1, "timeout": 0}


def test_generators_are_refused() -> None:
    def rows() -> Iterator[int]:
        yield 1

    async def pages() -> AsyncIterator[int]:
        yield 1

    functions: list[Callable[..., object]] = [rows, pages]
    for function in functions:
        with pytest.raises(TypeError, match="generator"):
            process("order")(function)


def test_a_scope_runs_once_at_a_time(captured: Captured) -> None:
    scope = process("order")
    with scope, pytest.raises(RuntimeError, match="already running"), scope:
        pass
    with scope:  # after its end it may be used again
        pass
    assert len(captured.exporter.get_finished_spans()) == 2


def test_nested_process_inherits_business_context(captured: Captured) -> None:
    with process("order", company_id="acme"), process("invoice", version="9"):
        pass
    invoice = captured.spans["invoice"].attributes or {}
    assert (invoice["company.id"], invoice["process.version"]) == ("acme", "9")


def test_without_setup_nothing_happens(root_logger: None) -> None:
    runtime.activate(None)
    with process("order", company_id="acme"), stage("reserve"):
        pass


def test_json_lines(captured: Captured) -> None:
    log = logging.getLogger("shop.orders")
    token = request_id.set("r-1")
    try:
        with process("order", company_id="acme"), stage("charge"):
            log.warning("declined %s", "x", extra={"event": "card.declined", "attempts": 3, "level": "mine"})
    finally:
        request_id.reset(token)
    try:
        raise RuntimeError("lost")
    except RuntimeError:
        log.exception("failed")
    started, declined, finished, failed = captured.lines
    assert list(declined)[:13] == [
        *("timestamp", "level", "message", "logger", "function", "line", "service", "version", "environment"),
        *("request_id", "trace_id", "span_id", "event"),
    ]
    charge = captured.spans["charge"].context
    assert charge is not None
    expected = {
        "level": "WARNING",
        "message": "declined x",
        "logger": "shop.orders",
        "function": "test_json_lines",
        "service": "shop",
        "version": "3.1.0",
        "environment": "test",
        "request_id": "r-1",
        "trace_id": f"{charge.trace_id:032x}",
        "span_id": f"{charge.span_id:016x}",
        "event": "card.declined",
        "process_id": "order",
        "process_stage": "charge",
        "company_id": "acme",
        "attempts": 3,
        "_level": "mine",
    }
    assert {k: declined.get(k) for k in expected} == expected
    assert declined["timestamp"].endswith("Z")
    # The line of a process points to who runs it, not into the package.
    assert (started["function"], finished["function"]) == ("test_json_lines", "test_json_lines")
    assert (started["event"], finished["process_status"]) == ("process.started", "success")
    assert (failed["trace_id"], failed["event"], failed["exception_type"]) == (None, None, "RuntimeError")
    assert "Traceback" in failed["exception_stacktrace"]


class _Collector(HTTPServer):
    """Answers OTLP with ``status`` and counts the requests by path."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.paths: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                outer.paths.append(self.path)
                self.send_response(outer.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def close(self) -> None:
        self.shutdown()
        self.thread.join()
        self.server_close()


def _wait(condition: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


PAUSES = telemetry_module._pauses


def test_it_is_tried_again_after_longer_and_longer_pauses() -> None:
    assert list(itertools.islice(PAUSES(), 6)) == [1, 2, 4, 8, 10, 10]


def test_all_three_signals_reach_the_collector(root_logger: None) -> None:
    collector = _Collector()
    telemetry = setup(
        "shop", "1", otlp_endpoint=collector.url, metric_interval=0.2, log_handler=logging.StreamHandler(io.StringIO())
    )
    try:
        with process("order"):
            pass
        _wait(lambda: {"/v1/traces", "/v1/logs", "/v1/metrics"} <= set(collector.paths))
        assert telemetry.delivery is not None and telemetry.delivery.failing_since is None
    finally:
        telemetry.shutdown()
        collector.close()


def test_a_dead_collector_costs_one_warning_and_no_telemetry(root_logger: None, capfd: pytest.CaptureFixture[str]) -> None:
    collector = _Collector(status=503)
    stream = io.StringIO()
    telemetry = setup("shop", "1", otlp_endpoint=collector.url, metric_interval=0.2, log_handler=logging.StreamHandler(stream))
    delivery = telemetry.delivery
    assert delivery is not None
    try:
        started = time.perf_counter()
        for _ in range(100):
            with process("order"):
                pass
        assert time.perf_counter() - started < 8, "the service waits for its collector"  # which would be 10 s each time
        _wait(lambda: delivery.failing_since is not None and collector.paths.count("/v1/metrics") > 2)
        events = [json.loads(line)["event"] for line in stream.getvalue().splitlines()]
        assert events.count("telemetry.failing") == 1
        collector.status = 200
        _wait(lambda: delivery.failing_since is None)
        assert json.loads(stream.getvalue().splitlines()[-1])["event"] == "telemetry.recovered"
        assert delivery.dropped == {"spans": 0, "log lines": 0}
    finally:
        telemetry.shutdown()
        collector.close()
    assert capfd.readouterr().err == ""


def test_what_the_collector_refuses_for_good_is_dropped_and_counted(root_logger: None) -> None:
    collector = _Collector(status=400)
    telemetry = setup("shop", "1", otlp_endpoint=collector.url, log_handler=logging.StreamHandler(io.StringIO()))
    delivery = telemetry.delivery
    assert delivery is not None
    try:
        with process("order"):
            pass
        _wait(lambda: delivery.dropped == {"spans": 1, "log lines": 2})
    finally:
        telemetry.shutdown()
        collector.close()


def test_shutdown_does_not_wait_for_a_collector_that_does_not_answer(root_logger: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        telemetry = setup("shop", "1", otlp_endpoint=url, log_handler=logging.StreamHandler(io.StringIO()))
        with process("order"):
            pass
        started = time.perf_counter()
        telemetry.shutdown(timeout=0.5)
        telemetry.shutdown()
        took = time.perf_counter() - started
    assert took < 4, "it waited for the exporters, which take 5 s to give up"
    # Their use of `random` would disturb the tests after this one.
    for thread in threading.enumerate():
        if thread.name.startswith(("Otel", "lgtm-telemetry")):
            thread.join(30)


def test_otlp_log_records(captured: Captured) -> None:
    from lgtm_instrumentation.logs import OtlpHandler

    exporter = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
    captured.telemetry.logger_provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    handler = OtlpHandler(captured.telemetry.logger_provider)
    log = logging.getLogger("shop.orders")
    log.addHandler(handler)
    try:
        with process("order", company_id="acme"):
            log.error("declined", extra={"event": "card.declined", "items": [1, 2]})
    finally:
        log.removeHandler(handler)
    (found,) = exporter.get_finished_logs()
    record, span = found.log_record, captured.spans["order"].context
    assert span is not None and record.attributes is not None
    assert (record.body, record.severity_text) == ("declined", "ERROR")
    assert (record.trace_id, record.span_id) == (span.trace_id, span.span_id)
    wanted = {"event": "card.declined", "company.id": "acme", "process.id": "order", "items": "[1, 2]"}
    assert {k: record.attributes[k] for k in wanted} == wanted
    assert found.resource.attributes["service.name"] == "shop"
    assert found.resource.attributes["deployment.environment.name"] == "test"


def test_interval_must_be_positive(root_logger: None) -> None:
    with pytest.raises(ValueError, match="positive"):
        setup("shop", "1", otlp_endpoint="", metric_interval=0)


# Health


def _ask(health: Health, *paths: str) -> list[httpx.Response]:
    async def all_paths() -> list[httpx.Response]:
        transport = httpx.ASGITransport(Starlette(routes=health.routes()))
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            return [await client.get(path) for path in paths]

    return asyncio.run(all_paths())


async def _works() -> None:
    pass


async def _fails() -> None:
    raise ConnectionError("postgres://shop:hunter2@db")


async def _hangs() -> None:
    await asyncio.sleep(60)


def test_health_tells_each_dependency(captured: Captured) -> None:
    health = Health(
        "shop",
        "3.1.0",
        [Check("database", _fails), Check("cache", _works), Check("search", _hangs, critical=False, timeout=0.05)],
        groups={"db": ["database"], "browse": ["cache"]},
    )
    everything, live, ready, db, browse, cache, search, unknown = _ask(
        health, *(f"/health{p}" for p in ("", "/live", "/ready", "/db", "/browse", "/cache", "/search", "/nothing"))
    )
    codes = [r.status_code for r in (everything, live, ready, db, browse, cache, search, unknown)]
    assert codes == [503, 200, 503, 503, 200, 200, 503, 404]
    checks = everything.json()["checks"]
    assert {name: c["status"] for name, c in checks.items()} == {
        "database": "failed",
        "cache": "ok",
        "search": "timeout",
    }
    assert everything.json()["status"] == "unhealthy" and checks["search"]["latency_ms"] >= 50
    assert everything.headers["cache-control"] == "no-store"
    assert "hunter2" not in everything.text, "an answer that anybody may read repeats an exception's text"
    assert unknown.json()["known"] == ["database", "cache", "search", "db", "browse"]


def test_only_a_critical_dependency_makes_it_unhealthy() -> None:
    (answer,) = _ask(Health("shop", "1", [Check("search", _fails, critical=False), Check("db", _works)]), "/health")
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")


def test_health_checks_run_in_parallel_and_are_cached() -> None:
    begun = 0

    # Each ends when all three have begun, so that one after the other would end none of them.
    async def waits() -> None:
        nonlocal begun
        begun += 1
        while begun % 3:
            await asyncio.sleep(0.01)

    def blocks() -> None:
        nonlocal begun
        begun += 1
        while begun % 3:
            time.sleep(0.01)

    checks = [Check("a", waits, timeout=20), Check("b", waits, timeout=20), Check("c", blocks, timeout=20)]

    async def run(health: Health, times: int) -> set[str]:
        reports = await asyncio.gather(*(health.report() for _ in range(times)))
        return {report.status for report in [*reports, await health.report()]}

    assert asyncio.run(run(Health("shop", "1", checks, cache=3600), 20)) == {"ok"}
    assert begun == 3, "the cache or a running check was not used"
    assert asyncio.run(run(Health("shop", "1", checks, cache=0), 1)) == {"ok"}
    assert begun == 9, "what is too old was answered"


def test_health_refuses_bad_names() -> None:
    for checks, groups in (
        ([Check("live", _works)], {}),
        ([Check("a", _works), Check("a", _works)], {}),
        ([Check("a", _works)], {"g": ["b"]}),
        ([Check("a", _works)], {"a": ["a"]}),
    ):
        with pytest.raises(ValueError, match="health"):
            Health("shop", "1", checks, groups=groups)


# Requests


def test_request_telemetry(captured: Captured) -> None:
    seen: list[Response] = []

    async def item(request: Request) -> JSONResponse:
        if request.path_params["id"] == "bad":
            raise RuntimeError("lost")
        return JSONResponse({"request": request_id.get()})

    async def health(request: Request) -> JSONResponse:
        return JSONResponse({})

    inner = Starlette(routes=[Route("/items/{id}", item), Route("/health", health)])
    app = RequestTelemetry(inner, on_response=seen.append)

    async def run() -> tuple[httpx.Response, httpx.Response]:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            first = await client.get(
                "/items/7",
                headers={"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "X-Request-ID": "r-9"},
            )
            second = await client.get("/items/bad", headers={"X-Request-ID": "bad id\n"})
            await client.get("/health")
            await client.get("/nothing")
            return first, second

    first, second = asyncio.run(run())
    assert first.json() == {"request": "r-9"} and first.headers["x-request-id"] == "r-9"
    assert second.status_code == 500
    assert [(r.route, r.status) for r in seen] == [("/items/{id}", 200), ("/items/{id}", 500), ("unmatched", 404)]
    assert seen[0].trace_id == "a" * 32
    spans = captured.exporter.get_finished_spans()
    assert [s.name for s in spans] == ["GET /items/{id}", "GET /items/{id}", "GET unmatched"]
    assert spans[0].parent is not None and spans[0].parent.span_id == int("b" * 16, 16)
    assert spans[1].status.status_code is StatusCode.ERROR
    lines = [line for line in captured.lines if line["event"] == "http.request"]
    assert [(line["level"], line["http_response_status_code"]) for line in lines] == [
        ("INFO", 200),
        ("ERROR", 500),
        ("INFO", 404),
    ]
    assert lines[0]["request_id"] == "r-9" and lines[1]["request_id"] not in (None, "bad id\n")
    assert request_id.get() is None


def test_a_server_span_that_is_there_is_used(captured: Captured) -> None:
    async def item(request: Request) -> JSONResponse:
        return JSONResponse({})

    app = RequestTelemetry(RequestTelemetry(Starlette(routes=[Route("/items", item)])))

    async def run() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client:
            await client.get("/items")

    asyncio.run(run())
    assert [span.name for span in captured.exporter.get_finished_spans()] == ["GET /items"]
