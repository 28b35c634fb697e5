"""What the middleware of ASGI and WSGI applications share: span, request id, metrics and log line of one request."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from lgtm_instrumentation import runtime
from lgtm_instrumentation.processes import error_type

_logger = logging.getLogger("lgtm_instrumentation.http")

# What a caller may call a request: it ends up in logs and in a header.
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}\Z")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_PROPAGATOR = TraceContextTextMapPropagator()


@dataclass(frozen=True)
class Response:
    """A finished request: ``route`` is the template (``/api/companies/{company_id}/context``), ``duration`` in seconds.

    ``trace_id`` is 32 hex digits, None when the trace is not sampled.
    """

    method: str
    route: str
    status: int
    duration: float
    trace_id: str | None


@dataclass(frozen=True)
class Capture:
    """What of requests and responses goes into their log line, masked by the redaction: headers, and bodies of text up to
    ``body`` bytes each (0: none; a longer one is left out, since half a document cannot be masked by its fields)."""

    headers: bool = False
    body: int = 0


class Exchange:
    """One request being served. Made when it comes; :meth:`finish` once when it has been answered or has failed."""

    def __init__(self, method: str, path: str, scheme: str, headers: Mapping[str, str], query: str = "") -> None:
        given = headers.get("x-request-id", "")
        self.request_id = given if _REQUEST_ID.match(given) else uuid.uuid4().hex
        self.method = method if method in _METHODS else "_OTHER"
        self.path, self.scheme, self.query = path, scheme, query
        self.status = 500  # what the server answers when the application raises before it has answered
        # The framework or another middleware may have begun the server span: two would count each request twice.
        outer = trace.get_current_span()
        self.inherited = outer.is_recording() and getattr(outer, "kind", None) is SpanKind.SERVER
        self.span = (
            outer
            if self.inherited
            else runtime.tracer().start_span(
                self.method,
                context=_PROPAGATOR.extract(headers),
                kind=SpanKind.SERVER,
                attributes={"http.request.method": self.method, "url.path": path, "url.scheme": scheme},
            )
        )
        self.span.set_attribute("request.id", self.request_id)
        self._request_token = runtime.request_id.set(self.request_id)
        self._context_token = otel_context.attach(trace.set_span_in_context(self.span))
        self._active = {"http.request.method": self.method, "url.scheme": scheme}
        if not self.inherited:
            runtime.active().active_requests.add(1, self._active)
        self._started = time.perf_counter()
        self._error: str | None = None

    def failed(self, error: BaseException) -> None:
        """The application raised instead of answering."""
        self._error = error_type(error)
        self.span.record_exception(error)
        self.span.set_attribute("error.type", self._error)

    def finish(
        self,
        route: str | None,
        on_response: Callable[[Response], None] | None,
        captured: Mapping[str, Any] | None = None,
    ) -> None:
        """Close the span, count, and log. ``captured`` are more fields of the log line."""
        elapsed = time.perf_counter() - self._started
        route = route or "unmatched"
        span, status = self.span, self.status
        span.update_name(f"{self.method} {route}")
        span.set_attribute("http.route", route)
        span.set_attribute("http.response.status_code", status)
        if status >= 500:
            span.set_status(Status(StatusCode.ERROR))
            if self._error is None:
                span.set_attribute("error.type", str(status))
        context = span.get_span_context()
        sampled = context.is_valid and context.trace_flags.sampled
        trace_id = trace.format_trace_id(context.trace_id) if sampled else None
        if not self.inherited:
            # While the span is current: the exemplar points to it.
            labels: dict[str, Any] = {**self._active, "http.route": route, "http.response.status_code": status}
            if status >= 500:
                labels["error.type"] = self._error or str(status)
            instruments = runtime.active()
            instruments.request_duration.record(elapsed, labels)
            instruments.active_requests.add(-1, self._active)
        if on_response is not None:
            on_response(Response(self.method, route, status, elapsed, trace_id))
        _logger.log(
            logging.ERROR if status >= 500 else logging.INFO,
            "%s %s %d in %.3f s",
            self.method,
            self.path,
            status,
            elapsed,
            extra={
                "event": "http.request",
                "http.request.method": self.method,
                "http.route": route,
                "http.response.status_code": status,
                "duration_seconds": round(elapsed, 6),
                **(captured or {}),
            },
        )
        otel_context.detach(self._context_token)
        with contextlib.suppress(ValueError):  # a server that ends the answer in another context than it began in
            runtime.request_id.reset(self._request_token)
        if not self.inherited:
            span.end()


class Captured:
    """Headers and bodies of one request and its response, as far as the application wants them logged."""

    def __init__(self, what: Capture) -> None:
        self._what = what
        self._headers: dict[str, dict[str, str]] = {}
        self._bodies: dict[str, bytearray | None] = {"request": bytearray(), "response": bytearray()}

    def headers(self, side: str, headers: Iterable[tuple[str, str]]) -> None:
        if self._what.headers:
            self._headers[side] = {name.lower(): value for name, value in headers}

    def body(self, side: str, chunk: bytes) -> None:
        known = self._bodies[side]
        if not self._what.body or known is None:
            return
        if len(known) + len(chunk) > self._what.body:
            self._bodies[side] = None
        else:
            known += chunk

    def fields(self, query: str) -> dict[str, Any]:
        """Fields of the log line, not yet masked: the formatter does that."""
        fields: dict[str, Any] = {}
        if self._what.headers and query:
            fields["url.query"] = query
        for side, headers in self._headers.items():
            for name, value in headers.items():
                fields[f"http.{side}.header.{name}"] = value
        for side, body in self._bodies.items():
            if body is None:
                fields[f"http.{side}.body"] = "left out: too long"
            elif body:
                fields[f"http.{side}.body"] = _document(bytes(body), self._headers.get(side, {}).get("content-type", ""))
        return fields


def _document(body: bytes, content_type: str) -> Any:
    """A body as data where it is, so that the redaction sees its fields' names."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        return f"{len(body)} bytes"
    try:
        return json.loads(text)
    except ValueError:
        if "form-urlencoded" in content_type:
            return dict(parse_qsl(text))
        return text
