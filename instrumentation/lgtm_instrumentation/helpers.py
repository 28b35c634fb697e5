"""Metrics of what services have in common beside processes: pools, caches, queues, webhooks.

    pool = observe_pool("orders-db", used=lambda: engine.pool.checkedout(), size=lambda: engine.pool.size())
    with cache("sessions") as lookup:
        lookup.hit = (value := redis.get(key)) is not None
    with consume("emails", headers=message.headers, sent_at=message.timestamp):
        ...
    with webhook("payments", event_id) as delivery:
        if already_seen(event_id):
            delivery.duplicate()

Names follow OpenTelemetry's semantic conventions where it has them. Labels are names from the code, never ids.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import metrics, trace
from opentelemetry.trace import Link, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from lgtm_instrumentation import runtime
from lgtm_instrumentation.processes import error_type, is_timeout

_PROPAGATOR = TraceContextTextMapPropagator()
_SHORT_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_REQUEST_HEADER = "x-request-id"


class _Instruments:
    """Counters and histograms of one meter, made when first used."""

    def __init__(self, meter: metrics.Meter) -> None:
        self.meter = meter
        self.cache = meter.create_counter("cache.requests", unit="{request}", description="Look-ups in a cache, by result.")
        self.cache_duration = meter.create_histogram(
            "cache.request.duration",
            unit="s",
            description="Duration of a look-up in a cache.",
            explicit_bucket_boundaries_advisory=_SHORT_BOUNDS,
        )
        self.consumed = meter.create_counter(
            "messaging.client.consumed.messages", unit="{message}", description="Messages taken from a queue."
        )
        self.sent = meter.create_counter(
            "messaging.client.sent.messages", unit="{message}", description="Messages put into a queue."
        )
        self.processing = meter.create_histogram(
            "messaging.process.duration",
            unit="s",
            description="Duration of the work on one message.",
            explicit_bucket_boundaries_advisory=runtime.DURATION_BOUNDS,
        )
        self.waited = meter.create_histogram(
            "messaging.wait.duration",
            unit="s",
            description="How long a message lay in its queue.",
            explicit_bucket_boundaries_advisory=runtime.DURATION_BOUNDS,
        )
        self.webhooks = meter.create_counter(
            "webhook.deliveries", unit="{delivery}", description="Webhooks received, by outcome."
        )
        self.webhook_duration = meter.create_histogram(
            "webhook.duration",
            unit="s",
            description="Duration of the work on one webhook.",
            explicit_bucket_boundaries_advisory=runtime.DURATION_BOUNDS,
        )


_made: _Instruments | None = None


def _instruments() -> _Instruments:
    global _made
    meter = runtime.active().meter
    if _made is None or _made.meter is not meter:
        _made = _Instruments(meter)
    return _made


def observe_pool(
    name: str, *, used: Callable[[], float], size: Callable[[], float], pending: Callable[[], float] | None = None
) -> None:
    """Report a pool of connections at each export: in use and idle (``db.client.connection.count``), at most
    (``.max``), waiting for one (``.pending_requests``). Call it once, after ``setup()``. A callback that raises skips a turn.
    """
    meter = runtime.active().meter
    pool = {"db.client.connection.pool.name": name}

    def count(options: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
        busy, most = used(), size()
        return [
            metrics.Observation(busy, {**pool, "db.client.connection.state": "used"}),
            metrics.Observation(max(most - busy, 0), {**pool, "db.client.connection.state": "idle"}),
        ]

    meter.create_observable_up_down_counter("db.client.connection.count", callbacks=[count], unit="{connection}")
    meter.create_observable_up_down_counter(
        "db.client.connection.max", callbacks=[lambda options: [metrics.Observation(size(), pool)]], unit="{connection}"
    )
    if pending is not None:
        waiting = pending
        meter.create_observable_up_down_counter(
            "db.client.connection.pending_requests",
            callbacks=[lambda options: [metrics.Observation(waiting(), pool)]],
            unit="{request}",
        )


@dataclass
class Lookup:
    """One look-up: set ``hit``."""

    hit: bool = False


@contextlib.contextmanager
def cache(name: str) -> Iterator[Lookup]:
    """Count a look-up as hit, miss or error, and time it."""
    instruments, lookup, started, result = _instruments(), Lookup(), time.perf_counter(), "error"
    try:
        yield lookup
        result = "hit" if lookup.hit else "miss"
    finally:
        instruments.cache.add(1, {"cache.name": name, "cache.result": result})
        instruments.cache_duration.record(time.perf_counter() - started, {"cache.name": name})


def observe_queue(name: str, depth: Callable[[], float], *, oldest_seconds: Callable[[], float] | None = None) -> None:
    """Report a queue's messages (``messaging.queue.depth``) and the age of the oldest (``messaging.queue.oldest``), in
    seconds, at each export. Call it once, after ``setup()``.
    """
    meter = runtime.active().meter
    labels = {"messaging.destination.name": name}
    meter.create_observable_gauge(
        "messaging.queue.depth", callbacks=[lambda options: [metrics.Observation(depth(), labels)]], unit="{message}"
    )
    if oldest_seconds is not None:
        age = oldest_seconds
        meter.create_observable_gauge(
            "messaging.queue.oldest", callbacks=[lambda options: [metrics.Observation(age(), labels)]], unit="s"
        )


def produce(queue: str, headers: Mapping[str, str] | None = None) -> dict[str, str]:
    """Headers for a message that is put into ``queue``: trace and request id go with it. Counts it as sent."""
    carrier = dict(headers or {})
    _PROPAGATOR.inject(carrier)
    request = runtime.request_id.get()
    if request is not None:
        carrier[_REQUEST_HEADER] = request
    _instruments().sent.add(1, {"messaging.destination.name": queue})
    return carrier


@contextlib.contextmanager
def consume(queue: str, *, headers: Mapping[str, str] | None = None, sent_at: float | None = None) -> Iterator[trace.Span]:
    """The work on one message of ``queue``: a span that links to its sender's, the sender's request id, count and duration
    by outcome. ``sent_at`` is Unix time, for how long the message waited.
    """
    given = {k.lower(): v for k, v in (headers or {}).items()}
    sender = trace.get_current_span(_PROPAGATOR.extract(given)).get_span_context()
    labels = {"messaging.destination.name": queue}
    instruments = _instruments()
    if sent_at is not None:
        instruments.waited.record(max(0.0, time.time() - sent_at), labels)
    with (
        request_context(given.get(_REQUEST_HEADER)),
        _timed(
            f"process {queue}",
            SpanKind.CONSUMER,
            {**labels, "messaging.operation.type": "process"},
            [Link(sender)] if sender.is_valid else [],
        ) as run,
    ):
        try:
            yield run.span
        except BaseException as error:
            run.failed(error)
            raise
        finally:
            outcome = {**labels, **({"error.type": run.error} if run.error else {})}
            instruments.consumed.add(1, outcome)
            instruments.processing.record(run.elapsed, outcome)


class Delivery:
    """One webhook being received."""

    def __init__(self, span: trace.Span) -> None:
        self.span = span
        self.result = "success"

    def duplicate(self) -> None:
        """It has been delivered before, and nothing is done."""
        self.result = "duplicate"

    def failure(self) -> None:
        """It could not be used, and there is no exception to say so."""
        self.result = "failure"


@contextlib.contextmanager
def webhook(name: str, event_id: str | None = None) -> Iterator[Delivery]:
    """A webhook from ``name``: a span, a count by outcome (success, failure, duplicate, timeout) and a duration.

    ``event_id`` is an attribute of the span, and no label.
    """
    instruments = _instruments()
    attributes = {"webhook.name": name, **({"webhook.event.id": event_id} if event_id else {})}
    with _timed(f"webhook {name}", SpanKind.INTERNAL, attributes, []) as run:
        delivery = Delivery(run.span)
        try:
            yield delivery
        except BaseException as error:
            run.failed(error)
            delivery.result = "timeout" if is_timeout(error) else "failure"
            raise
        finally:
            labels = {"webhook.name": name, "webhook.result": delivery.result}
            run.span.set_attribute("webhook.result", delivery.result)
            instruments.webhooks.add(1, labels)
            instruments.webhook_duration.record(run.elapsed, labels)


@contextlib.contextmanager
def request_context(request: str | None = None) -> Iterator[str]:
    """Give what runs inside a request id, for workers and scripts: ``request``, else the present one, else a new one."""
    chosen = request or runtime.request_id.get() or uuid.uuid4().hex
    token = runtime.request_id.set(chosen)
    try:
        yield chosen
    finally:
        runtime.request_id.reset(token)


class _Run:
    def __init__(self, span: trace.Span) -> None:
        self.span = span
        self.error: str | None = None
        self._started = time.perf_counter()

    @property
    def elapsed(self) -> float:
        return time.perf_counter() - self._started

    def failed(self, error: BaseException) -> None:
        self.error = error_type(error)
        self.span.record_exception(error)
        self.span.set_attribute("error.type", self.error)
        self.span.set_status(Status(StatusCode.ERROR, str(error) or self.error))


@contextlib.contextmanager
def _timed(name: str, kind: SpanKind, attributes: Mapping[str, Any], links: list[Link]) -> Iterator[_Run]:
    request = runtime.request_id.get()
    span = runtime.tracer().start_span(
        name, kind=kind, attributes={**attributes, **({"request.id": request} if request else {})}, links=links
    )
    token = otel_context.attach(trace.set_span_in_context(span))
    try:
        yield _Run(span)
    finally:
        otel_context.detach(token)
        span.end()
