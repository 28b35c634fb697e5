"""Hours of a service's logs and traces, as the demo would have written them, sent to a stack within minutes.

Each request runs one process of four stages: ten spans, three log lines and one more where it fails. One in a hundred fails,
and in the last ten minutes one in five. What a slice of ten seconds holds is made once; for each further slice only its times
and ids are set anew.
"""

from __future__ import annotations

import random
import secrets
import struct
import time
from dataclasses import dataclass

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from bench.otlp import Client

# Requests per second: a little more than those of the demo.
RATE = 13
COMPANIES = 300
BROKEN_SECONDS = 600
_SLICE = 10
_SECOND = 1_000_000_000
_STAGES = ("load", "check", "write", "answer")
_OTHERS = (("sign_in", "POST /api/sign-in"), ("load_context", "GET /api/context"))


@dataclass(frozen=True)
class Filled:
    """What was sent, and from when to when in Unix time."""

    lines: int
    spans: int
    start: float
    end: float


class BackfillError(Exception):
    """The collector did not take something."""


def fill(port: int, service: str, process: str, seconds: int, *, rate: int = RATE) -> Filled:
    """Send the last ``seconds`` of a service to the collector's OTLP/HTTP port, oldest first.

    A third of the executions are of ``process``. Tempo finds them by their time only where its WAL takes times that long ago
    (``ingestion_time_range_slack``). Raises BackfillError.
    """
    well, broken = (_Slice(service, process, rate, share) for share in (0.01, 0.2))
    client = Client(port)
    lines = spans = 0
    end = time.time()
    try:
        for ago in range(seconds, _SLICE - 1, -_SLICE):
            part = broken if ago <= BROKEN_SECONDS else well
            logs, traces = part.at(int((end - ago) * _SECOND))
            for path, body in (("/v1/logs", logs), ("/v1/traces", traces)):
                _send(client, path, body)
            lines, spans = lines + part.lines, spans + part.spans
    finally:
        client.close()
    return Filled(lines, spans, end - seconds, end)


def _send(client: Client, path: str, body: bytes) -> None:
    for _ in range(120):
        if client.post(path, body, timeout=30):
            return
        time.sleep(0.5)
    raise BackfillError(f"the collector takes nothing at {path} for a minute")


def _attributes(**values: str) -> list[KeyValue]:
    return [KeyValue(key=k.replace("__", "."), value=AnyValue(string_value=v)) for k, v in values.items()]


class _Slice:
    """Ten seconds of it."""

    def __init__(self, service: str, process: str, rate: int, failing: float) -> None:
        # The same at every run.
        self._chance = random.Random(f"{service} {failing}")
        self._logs, self._traces = ExportLogsServiceRequest(), ExportTraceServiceRequest()
        resource = Resource(
            attributes=_attributes(
                service__name=service,
                service__version="2.1.0",
                service__instance__id="host:8000",
                deployment__environment__name="production",
                host__name="host",
                telemetry__sdk__language="python",
                telemetry__sdk__name="opentelemetry",
                telemetry__sdk__version="1.45.2",
            )
        )
        self._records = self._logs.resource_logs.add(resource=resource).scope_logs.add().log_records
        self._all_spans = self._traces.resource_spans.add(resource=resource).scope_spans.add().spans
        # The execution that each belongs to.
        self._owners: tuple[list[int], list[int]] = ([], [])
        self._count = rate * _SLICE
        processes = ((process, "POST /api/run"), *_OTHERS)
        for number in range(self._count):
            self._execute(number, number * _SLICE * _SECOND // self._count, *processes[number % 3], failing)
        self.lines, self.spans = len(self._records), len(self._all_spans)
        self._began = 0

    def _execute(self, number: int, start: int, process: str, route: str, failing: float) -> None:
        chance = self._chance
        company = f"company-{chance.randrange(COMPANIES):02}"
        about = {"process__id": process, "process__version": "1.4.0", "company__id": company, "request__id": ""}
        fails = chance.random() < failing
        wrong = chance.choice(("DependencyError", "TimeoutError"))
        took = int(chance.lognormvariate(-2, 0.8) * _SECOND)
        status = ("timeout" if wrong == "TimeoutError" else "error") if fails else "success"

        def span(
            name: str, kind: int, after: int, length: int, above: bytes | None = None, *, bad: bool = False, **more: str
        ) -> bytes:
            made = self._all_spans.add(name=name, kind=kind, attributes=_attributes(**more))
            made.start_time_unix_nano, made.end_time_unix_nano = start + after, start + after + length
            made.span_id = struct.pack(">II", number + 1, len(self._all_spans))
            if above is not None:
                made.parent_span_id = above
            if bad:
                made.status.code, made.status.message = Status.STATUS_CODE_ERROR, f"{wrong}: the database does not answer"
            self._owners[1].append(number)
            return bytes(made.span_id)

        def line(text: str, after: int, level: int, **more: str) -> None:
            made = self._records.add(severity_number=level, severity_text="ERROR" if level > 16 else "INFO")
            made.time_unix_nano = made.observed_time_unix_nano = start + after
            made.body.string_value = text
            fields = {"logger": "shop.work", "code__function__name": "work", "code__line__number": "60", **more}
            made.attributes.extend(_attributes(**fields))
            self._owners[0].append(number)

        code = "503" if fails else "200"
        parts = _STAGES[: chance.randrange(1, 5)] if fails else _STAGES
        named = {"http__route": route.split()[1], "http__response__status_code": code, "request__id": ""}
        root = span(route, 2, 0, took, None, bad=fails, **named)
        ended = {"process__status": status, **({"error__type": wrong} if fails else {})}
        whole = span(process, 1, took // 50, took * 9 // 10, root, bad=fails, **about, **ended)
        for index, stage in enumerate(parts):
            at, length, bad = took // 50 + index * took // 5, took // 6, fails and index == len(parts) - 1
            more = {"error__type": wrong} if bad else {}
            part = span(stage, 1, at, length, whole, bad=bad, process__stage=stage, **about, **more)
            asks = {"db__system__name": "postgresql", "peer__service": "database"}
            span(f"database {stage}", 3, at, length * 9 // 10, part, bad=bad, **asks)
        line(f"{process} started", took // 50, 9, event="process.started", **about)
        seconds = f"{took / _SECOND:.3f}"
        if fails:
            failed = {**about, "process__stage": parts[-1]}
            line("database does not answer", took * 8 // 10, 17, exception__type=wrong, **failed)
            told = {"error__type": wrong, "error__message": "the database does not answer", **ended}
            text = f"{process} failed after {seconds} s: the database does not answer"
            line(text, took * 9 // 10, 17, event="process.finished", duration_seconds=seconds, **failed, **told)
        else:
            text = f"{process} succeeded in {seconds} s"
            line(text, took * 9 // 10, 9, event="process.finished", duration_seconds=seconds, **about, **ended)
        level, text = (17 if fails else 9), f"{route} {code} in {seconds} s"
        line(text, took, level, event="http.request", duration_seconds=seconds, **named)

    def at(self, nanoseconds: int) -> tuple[bytes, bytes]:
        """The requests with the logs and the traces of the ten seconds that begin at this Unix time."""
        later, self._began = nanoseconds - self._began, nanoseconds
        prefix = secrets.token_bytes(12)
        traces = [prefix + struct.pack(">I", number) for number in range(self._count)]
        for record, owner in zip(self._records, self._owners[0], strict=True):
            record.time_unix_nano += later
            record.observed_time_unix_nano += later
            record.trace_id = traces[owner]
            record.span_id = struct.pack(">II", owner + 1, 1)
            _named(record.attributes, traces[owner])
        for span, owner in zip(self._all_spans, self._owners[1], strict=True):
            span.start_time_unix_nano += later
            span.end_time_unix_nano += later
            span.trace_id = traces[owner]
            _named(span.attributes, traces[owner])
        return self._logs.SerializeToString(), self._traces.SerializeToString()


def _named(attributes: object, trace: bytes) -> None:
    for attribute in attributes:  # type: ignore[attr-defined]
        if attribute.key == "request.id":
            attribute.value.string_value = trace[::-1].hex()
