"""A sender of much telemetry by OTLP over HTTP, cheap enough to leave the machine to what is measured.

A request is made once, with marks where its ids and times stand; each one that is sent is a copy with the marks replaced.
Ids have a fixed length and times are fixed64 in protobuf, so nothing else moves. A request is sent again until the
collector has acknowledged it, as OTLP asks of a client: what counts as "in" was acknowledged.
"""

from __future__ import annotations

import http.client
import secrets
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

SERVICE = "chaos"
# Ten requests a second of each kind, at the full rates.
LINES, SPANS, SERIES = 500, 500, 5000
SPANS_OF_A_TRACE = 100

# Marks: values that occur nowhere else in a request.
_TIME, _LATER, _VALUE = 0x5AA5C33C96691EE1, 0x5BB5C44C97791FF2, 0x5CC5C55C98892DD3
_BATCH = "fedcba9876543210" * 2
_TRACE = bytes.fromhex("fedcba98765432100123cdef")


def _text(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=value))


def _resource() -> Resource:
    return Resource(attributes=[_text("service.name", SERVICE), _text("service.version", "1.0.0")])


def _logs() -> bytes:
    request = ExportLogsServiceRequest()
    of_resource = request.resource_logs.add(resource=_resource())
    records = of_resource.scope_logs.add().log_records
    for number in range(LINES):
        record = records.add(time_unix_nano=_TIME, observed_time_unix_nano=_TIME, severity_number=9, severity_text="INFO")
        record.body.string_value = f"work item {number:04}"
        record.attributes.extend([_text("chaos.batch", _BATCH), _text("logger", "chaos.work"), _text("event", "item_done")])
    return bytes(request.SerializeToString())


def _traces() -> bytes:
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add(resource=_resource()).scope_spans.add().spans
    for number in range(SPANS):
        trace, index = divmod(number, SPANS_OF_A_TRACE)
        spans.add(
            trace_id=_TRACE + struct.pack(">I", trace),
            span_id=struct.pack(">II", 0xABCD, index + 1),
            parent_span_id=struct.pack(">II", 0xABCD, 1) if index else b"",
            name="work item" if index else "work",
            kind=1,
            start_time_unix_nano=_TIME,
            end_time_unix_nano=_LATER,
            attributes=[_text("operation.name", "work"), _text("http.route", "/api/work")],
        )
    return bytes(request.SerializeToString())


def _metrics() -> bytes:
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add(resource=_resource()).scope_metrics.add().metrics.add(name="chaos.points")
    metric.sum.is_monotonic = True
    metric.sum.aggregation_temporality = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    for number in range(SERIES):
        metric.sum.data_points.add(
            time_unix_nano=_TIME,
            as_int=_VALUE,
            attributes=[_text("series", f"{number:04}")],
        )
    return bytes(request.SerializeToString())


def gauge(name: str, points: list[dict[str, str]], value: int, at: float) -> bytes:
    """A request with one gauge, the same value for each set of attributes; ``at`` in Unix seconds."""
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add(resource=_resource()).scope_metrics.add().metrics.add(name=name)
    for attributes in points:
        metric.gauge.data_points.add(
            time_unix_nano=int(at * 1e9), as_int=value, attributes=[_text(k, v) for k, v in attributes.items()]
        )
    return bytes(request.SerializeToString())


def _fixed(number: int) -> bytes:
    return struct.pack("<Q", number)


@dataclass
class Sent:
    """What was acknowledged. ``batches`` holds, for each request, its id and its time in Unix nanoseconds."""

    items: int
    batches: list[tuple[str, int]] = field(default_factory=list)
    retries: int = 0
    tries: int = 0


class Client:
    """A connection to the collector's OTLP/HTTP port, made again whenever it breaks. Belongs to one thread."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: http.client.HTTPConnection | None = None

    def post(self, path: str, body: bytes, timeout: float = 10) -> bool:
        """Whether the collector acknowledged it."""
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=timeout)
            self._connection.request("POST", path, body, {"Content-Type": "application/x-protobuf"})
            answer = self._connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            self.close()
            return False
        return answer.status == 200

    def close(self) -> None:
        """Give back the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Sender:
    """Sends one kind of telemetry from a thread, ``rate`` items a second, until stopped. One request after the other."""

    def __init__(self, port: int, path: str, items: int, rate: float, make: Callable[[str, int, int], bytes]) -> None:
        self.sent = Sent(items)
        self._client, self._path, self._make = Client(port), path, make
        self._pause = items / rate if rate else 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._run_id = secrets.randbits(31)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; the request under way is still brought to its end, for at most a minute."""
        self._stop.set()
        self._thread.join(70)
        self._client.close()

    def _run(self) -> None:
        due, number = time.monotonic(), 0
        while self._pause and not self._stop.is_set():
            number += 1
            # Not faster than asked for after a pause: what is late stays late.
            due = max(due + self._pause, time.monotonic() - self._pause)
            self._stop.wait(max(0.0, due - time.monotonic()))
            at, batch = time.time_ns() // 1_000_000 * 1_000_000, f"{self._run_id:016x}{number:016x}"
            body = self._make(batch, at, number)
            until = None
            while True:
                self.sent.tries += 1
                if self._client.post(self._path, body):
                    self.sent.batches.append((batch, at))
                    break
                self.sent.retries += 1
                if self._stop.is_set():
                    until = until or time.monotonic() + 60
                    if time.monotonic() > until:
                        break
                time.sleep(0.5)


def senders(port: int, spans: float, lines: float, points: float) -> dict[str, Sender]:
    """One sender for each kind; rates are items a second, 0 for none."""
    logs, traces, metrics = _logs(), _traces(), _metrics()
    zero, later, value, mark = _fixed(_TIME), _fixed(_LATER), _fixed(_VALUE), _BATCH.encode()

    def log(batch: str, at: int, _: int) -> bytes:
        return logs.replace(zero, _fixed(at)).replace(mark, batch.encode())

    def trace(batch: str, at: int, _: int) -> bytes:
        return traces.replace(zero, _fixed(at)).replace(later, _fixed(at + 20_000_000)).replace(_TRACE, trace_prefix(batch))

    def metric(_: str, at: int, number: int) -> bytes:
        return metrics.replace(zero, _fixed(at)).replace(value, _fixed(number))

    return {
        "logs": Sender(port, "/v1/logs", LINES, lines, log),
        "spans": Sender(port, "/v1/traces", SPANS, spans, trace),
        "points": Sender(port, "/v1/metrics", SERIES, points, metric),
    }


def trace_prefix(batch: str) -> bytes:
    """The first twelve bytes of the ids of a request's traces; the other four count them."""
    return bytes.fromhex(batch[8:])


def traces_of(batch: str) -> list[str]:
    """The ids of a request's traces, as Tempo writes them."""
    return [(trace_prefix(batch) + struct.pack(">I", n)).hex() for n in range(SPANS // SPANS_OF_A_TRACE)]
