"""``setup()``: OpenTelemetry's SDK configured for traces, metrics and logs, so that a dead collector costs nothing.

Exports run on threads of their own. While the collector is away, spans and log lines wait in bounded queues (the oldest
are dropped when one is full), metrics are cumulative and lose nothing but resolution; there is one warning when it goes
and one line when it is back.
"""

from __future__ import annotations

import atexit
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import requests
from opentelemetry import _logs, metrics, trace
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord, ReadWriteLogRecord
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExportResult
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider, ObservableCounter, TraceBasedExemplarFilter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    MetricExportResult,
    MetricReader,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult

from lgtm_instrumentation import registry as registries
from lgtm_instrumentation import runtime
from lgtm_instrumentation.logs import JsonFormatter, OtlpHandler
from lgtm_instrumentation.redaction import NOTHING, Redactor, redacted_metrics, redacted_resource, redacted_span

_logger = logging.getLogger(__name__)

DEFAULT_ENDPOINT = "http://127.0.0.1:4318"
DEFAULT_METRIC_INTERVAL = 5.0

_ATTEMPT_SECONDS = 5.0
_MAX_PAUSE_SECONDS = 10.0
_QUEUE_ITEMS = 20_000
_BATCH_ITEMS = 512
_DELAY_MILLIS = 1_000.0
_SHUTDOWN_SECONDS = 3.0
_RETRYABLE = frozenset({429, 502, 503, 504})

# Durations twice: with their own bounds, as classic histograms, and as exponential ones, which Prometheus stores natively.
# Both have the same name there and no series in common.
_NATIVE_VIEWS = (
    View(instrument_name="*.duration", instrument_type=Histogram),
    View(
        instrument_name="*.duration",
        instrument_type=Histogram,
        aggregation=ExponentialBucketHistogramAggregation(max_size=100),
    ),
)

# These report every failed attempt, some with a traceback; Delivery reports the outage.
_NOISY = ("opentelemetry.exporter.otlp", "opentelemetry.sdk._shared_internal")


class Delivery:
    """Whether telemetry reaches the collector, over all three signals."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.dropped: dict[str, int] = {"spans": 0, "log lines": 0}
        """Items that the collector refused for good, that a full queue pushed out, or that shutdown left behind."""
        self._failing: dict[str, float] = {}
        self._lock = threading.Lock()
        self.closing = threading.Event()

    @property
    def failing_since(self) -> float | None:
        """Unix time of the first failure of the present outage, None while all is well."""
        with self._lock:
            return min(self._failing.values(), default=None)

    def lost(self, signal: str, count: int) -> None:
        """Count items that nobody will see."""
        with self._lock:
            self.dropped[signal] += count

    def succeeded(self, signal: str) -> None:
        with self._lock:
            since = self._failing.pop(signal, None)
            recovered = since is not None and not self._failing
        if recovered and since is not None:
            _logger.info(
                "The collector at %s answers again after %.0f s",
                self.endpoint,
                time.time() - since,
                extra={"event": "telemetry.recovered"},
            )

    def failed(self, signal: str) -> None:
        with self._lock:
            first = not self._failing
            self._failing.setdefault(signal, time.time())
        if first and not self.closing.is_set():
            _logger.warning(
                "The collector at %s does not take telemetry; the latest %d spans and log lines wait",
                self.endpoint,
                _QUEUE_ITEMS,
                extra={"event": "telemetry.failing"},
            )


class _Session(requests.Session):
    """Remembers how the last attempt ended, which decides whether another one makes sense."""

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False  # a proxy for the web is not the way to a collector
        self.last_status: int | None = None

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        self.last_status = None
        response = super().request(*args, **kwargs)
        self.last_status = response.status_code
        return response

    @property
    def may_recover(self) -> bool:
        return self.last_status is None or self.last_status in _RETRYABLE


def _pauses() -> Iterator[float]:
    pause = 1.0
    while True:
        yield pause
        pause = min(pause * 2, _MAX_PAUSE_SECONDS)


class _SpanExporter(OTLPSpanExporter):
    def __init__(self, delivery: Delivery, redact: Redactor) -> None:
        self._delivery, self._requests, self._redact = delivery, _Session(), redact
        super().__init__(f"{delivery.endpoint}/v1/traces", timeout=_ATTEMPT_SECONDS, session=self._requests)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        # Here, on the exporting thread, it costs the service's requests nothing.
        spans = [redacted_span(span, self._redact) for span in spans]
        for pause in _pauses():
            result = super().export(spans)
            if result is SpanExportResult.SUCCESS:
                self._delivery.succeeded("spans")
                return result
            self._delivery.failed("spans")
            if not self._requests.may_recover or self._delivery.closing.wait(pause):
                break
        self._delivery.lost("spans", len(spans))
        return SpanExportResult.FAILURE


class _LogExporter(OTLPLogExporter):
    def __init__(self, delivery: Delivery) -> None:
        self._delivery, self._requests = delivery, _Session()
        super().__init__(f"{delivery.endpoint}/v1/logs", timeout=_ATTEMPT_SECONDS, session=self._requests)

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        for pause in _pauses():
            result = super().export(batch)
            if result is LogRecordExportResult.SUCCESS:
                self._delivery.succeeded("log lines")
                return result
            self._delivery.failed("log lines")
            if not self._requests.may_recover or self._delivery.closing.wait(pause):
                break
        self._delivery.lost("log lines", len(batch))
        return LogRecordExportResult.FAILURE


class _SpanProcessor(BatchSpanProcessor):
    """Counts what its full queue drops, of which OpenTelemetry's own keeps no number that can be read."""

    def __init__(self, delivery: Delivery, redact: Redactor) -> None:
        super().__init__(
            _SpanExporter(delivery, redact),
            max_queue_size=_QUEUE_ITEMS,
            schedule_delay_millis=_DELAY_MILLIS,
            max_export_batch_size=_BATCH_ITEMS,
        )
        self._delivery = delivery

    def on_end(self, span: ReadableSpan) -> None:
        if waiting(self) >= _QUEUE_ITEMS:
            self._delivery.lost("spans", 1)
        super().on_end(span)


class _LogProcessor(BatchLogRecordProcessor):
    def __init__(self, delivery: Delivery) -> None:
        super().__init__(
            _LogExporter(delivery),
            max_queue_size=_QUEUE_ITEMS,
            schedule_delay_millis=_DELAY_MILLIS,
            max_export_batch_size=_BATCH_ITEMS,
        )
        self._delivery = delivery

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        if waiting(self) >= _QUEUE_ITEMS:
            self._delivery.lost("log lines", 1)
        super().on_emit(log_record)


def waiting(processor: BatchSpanProcessor | BatchLogRecordProcessor) -> int:
    """Items in a processor's queue; 0 where OpenTelemetry keeps it elsewhere than it does today."""
    queue = getattr(getattr(processor, "_batch_processor", None), "_queue", None)
    return 0 if queue is None else len(queue)


class _MetricExporter(OTLPMetricExporter):
    def __init__(self, delivery: Delivery, redact: Redactor) -> None:
        self._delivery, self._requests, self._redact = delivery, _Session(), redact
        super().__init__(
            f"{delivery.endpoint}/v1/metrics",
            timeout=_ATTEMPT_SECONDS,
            session=self._requests,
            # Prometheus reads cumulative values; said here, so that an environment variable cannot change it.
            preferred_temporality=dict.fromkeys((Counter, Histogram, ObservableCounter), AggregationTemporality.CUMULATIVE),
        )

    def export(self, metrics_data: MetricsData, timeout_millis: float | None = 10_000, **kwargs: Any) -> MetricExportResult:
        result = super().export(redacted_metrics(metrics_data, self._redact), timeout_millis, **kwargs)
        if result is MetricExportResult.SUCCESS:
            self._delivery.succeeded("metrics")
        else:
            self._delivery.failed("metrics")
        return result


class Telemetry:
    """What ``setup()`` made. The providers are OpenTelemetry's: processors are added as it documents."""

    def __init__(
        self,
        tracer_provider: TracerProvider,
        meter_provider: MeterProvider,
        logger_provider: LoggerProvider,
        delivery: Delivery | None,
        handlers: Sequence[logging.Handler],
    ) -> None:
        self.tracer_provider = tracer_provider
        self.meter_provider = meter_provider
        self.logger_provider = logger_provider
        self.delivery = delivery
        self._handlers = tuple(handlers)
        self._closed = False

    def flush(self) -> None:
        """Export what is waiting, now. Blocks for as long as the collector takes; for tests and short scripts."""
        self.tracer_provider.force_flush()
        self.logger_provider.force_flush()
        self.meter_provider.force_flush()

    def shutdown(self, timeout: float = _SHUTDOWN_SECONDS) -> None:
        """Export what waits, for at most ``timeout`` seconds, and stop. Called at exit; once is enough."""
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.shutdown)
        for handler in self._handlers:
            logging.getLogger().removeHandler(handler)
        if self.delivery is not None:
            self.delivery.closing.set()
        threads = [
            threading.Thread(target=provider.shutdown, daemon=True, name="lgtm-telemetry-shutdown")
            for provider in (self.tracer_provider, self.logger_provider, self.meter_provider)
        ]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + timeout
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))


def setup(
    service: str,
    version: str,
    *,
    environment: str = "production",
    otlp_endpoint: str | None = None,
    processes: Mapping[str, str] | None = None,
    namespace: str | None = None,
    instance: str | None = None,
    metric_interval: float = DEFAULT_METRIC_INTERVAL,
    metric_readers: Sequence[MetricReader] = (),
    log_handler: logging.Handler | None = None,
    log_level: int = logging.INFO,
    registry: str | Path | Mapping[str, Any] | None = None,
    redact: Iterable[str] | Literal[False] = (),
    native_histograms: bool = True,
) -> Telemetry:
    """Configure traces, metrics and logs of this process, and send them to a collector by OTLP over HTTP.

    ``otlp_endpoint`` is the collector's base address; by default OTEL_EXPORTER_OTLP_ENDPOINT, else port 4318 of this
    machine; an empty string exports nothing. ``processes`` maps process ids to versions: their counters start at zero
    at once. ``metric_interval`` is in seconds. ``namespace`` is service.namespace, which Prometheus puts before the
    job. ``instance`` tells processes of one service apart (default: host and process id). JSON lines go to
    ``log_handler``, by default standard output; the root logger's other handlers are removed.

    ``registry`` is the specification (``slos.yaml``, or its data): processes that it does not know, or knows with another
    version, are warned of, and versions that ``processes`` leaves out come from it. ``redact`` names fields that are
    masked beside the secrets and personal data that always are; False masks nothing. ``native_histograms`` sends durations
    as native histograms beside the classic ones.

    Never fails or waits because of the collector, nor because of a registry that cannot be read, which is a warning.
    Raises ValueError for an interval that is not positive.
    """
    if metric_interval <= 0:
        raise ValueError(f"metric_interval must be positive, not {metric_interval}")
    redactor = NOTHING if redact is False else Redactor(redact)
    known, unreadable = _registry(registry, service)
    endpoint = otlp_endpoint
    if endpoint is None:
        endpoint = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", DEFAULT_ENDPOINT)
    delivery = Delivery(endpoint.rstrip("/")) if endpoint else None
    host = socket.gethostname()
    about = {
        "service.name": service,
        "service.version": version,
        "service.instance.id": instance or f"{host}:{os.getpid()}",
        "deployment.environment.name": environment,
        "host.name": host,
        **({"service.namespace": namespace} if namespace else {}),
    }
    resource = redacted_resource(Resource.create(about), redactor)
    # shutdown_on_exit is off throughout: the SDK's own would wait 30 s for each of three signals when nobody listens.
    tracer_provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    logger_provider = LoggerProvider(resource=resource, shutdown_on_exit=False)
    readers = list(metric_readers)
    if delivery is not None:
        for name in _NOISY:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        spans, lines_out = _SpanProcessor(delivery, redactor), _LogProcessor(delivery)
        tracer_provider.add_span_processor(spans)
        logger_provider.add_log_record_processor(lines_out)
        readers.append(
            PeriodicExportingMetricReader(
                _MetricExporter(delivery, redactor),
                export_interval_millis=metric_interval * 1000,
                export_timeout_millis=_ATTEMPT_SECONDS * 1000,
            )
        )
    meter_provider = MeterProvider(
        readers,
        resource=resource,
        exemplar_filter=TraceBasedExemplarFilter(),
        shutdown_on_exit=False,
        views=_NATIVE_VIEWS if native_histograms else (),
    )

    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    lines = log_handler or logging.StreamHandler(sys.stdout)
    lines.setFormatter(JsonFormatter(service, version, environment, redactor))
    handlers: list[logging.Handler] = [lines]
    if delivery is not None:
        handlers.append(OtlpHandler(logger_provider, redactor))
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(log_level)

    _set_globals(tracer_provider, meter_provider, logger_provider)
    meter = meter_provider.get_meter(runtime.SCOPE)
    active = runtime.Runtime(tracer_provider.get_tracer(runtime.SCOPE), meter, processes, known)
    runtime.activate(active)
    active.compare()
    if delivery is not None:
        _observe_delivery(meter, delivery, spans, lines_out)
    if known is not None:
        registered = known
        meter.create_observable_gauge(
            "process.registry.mismatches",
            callbacks=[lambda options: [metrics.Observation(registered.mismatches)]],
            description="Processes of the code that the registry does not know, or knows with another version.",
        )
    if unreadable is not None:
        _logger.warning("The registry of processes cannot be read: %s", unreadable, extra={"event": "process.no_registry"})
    telemetry = Telemetry(tracer_provider, meter_provider, logger_provider, delivery, handlers)
    atexit.register(telemetry.shutdown)
    return telemetry


def _registry(
    source: str | Path | Mapping[str, Any] | None, service: str
) -> tuple[registries.Registry | None, Exception | None]:
    if source is None:
        return None, None
    try:
        return registries.load(source, service), None
    except (OSError, ValueError) as error:
        return None, error


def _observe_delivery(meter: metrics.Meter, delivery: Delivery, spans: _SpanProcessor, lines: _LogProcessor) -> None:
    signals = {"spans": "traces", "log lines": "logs"}

    def dropped(options: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
        return [metrics.Observation(count, {"signal": signals[name]}) for name, count in delivery.dropped.items()]

    def queued(options: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
        return [
            metrics.Observation(waiting(spans), {"signal": "traces"}),
            metrics.Observation(waiting(lines), {"signal": "logs"}),
        ]

    meter.create_observable_counter(
        "telemetry.dropped", callbacks=[dropped], unit="{item}", description="Spans and log lines that will never arrive."
    )
    meter.create_observable_gauge(
        "telemetry.queued", callbacks=[queued], unit="{item}", description="Spans and log lines that wait for the collector."
    )


def _set_globals(spans: TracerProvider, meters: MeterProvider, logs: LoggerProvider) -> None:
    # For the libraries that use OpenTelemetry's API. It allows this once per process and logs an error after that.
    if isinstance(trace.get_tracer_provider(), TracerProvider):
        return
    trace.set_tracer_provider(spans)
    metrics.set_meter_provider(meters)
    _logs.set_logger_provider(logs)
