"""Requests of an ASGI application: a server span, a request id and one log line each."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from lgtm_instrumentation import runtime
from lgtm_instrumentation.processes import error_type

_logger = logging.getLogger("lgtm_instrumentation.http")

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

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


class RequestTelemetry:
    """ASGI middleware. Continues a caller's trace (W3C traceparent) and request id (X-Request-ID), or begins them; a server
    span that is already there is used.

    Paths that begin with one of ``skip`` pass untouched: health checks and scrapes would drown what people do.
    ``on_response`` is called for each finished request, for metrics of the application's own.
    """

    def __init__(
        self,
        app: App,
        *,
        skip: Sequence[str] = ("/health", "/metrics"),
        on_response: Callable[[Response], None] | None = None,
    ) -> None:
        self._app = app
        self._skip = tuple(skip)
        self._on_response = on_response

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        if scope["type"] != "http" or scope["path"].startswith(self._skip):
            await self._app(scope, receive, send)
            return
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        given = headers.get("x-request-id", "")
        request = given if _REQUEST_ID.match(given) else uuid.uuid4().hex
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        # The framework or another middleware may have begun the server span: two would count each request twice.
        outer = trace.get_current_span()
        inherited = outer.is_recording() and getattr(outer, "kind", None) is SpanKind.SERVER
        span = (
            outer
            if inherited
            else runtime.tracer().start_span(
                method,
                context=_PROPAGATOR.extract(headers),
                kind=SpanKind.SERVER,
                attributes={
                    "http.request.method": method,
                    "url.path": scope["path"],
                    "url.scheme": scope.get("scheme", "http"),
                },
            )
        )
        span.set_attribute("request.id", request)
        request_token = runtime.request_id.set(request)
        context_token = otel_context.attach(trace.set_span_in_context(span))
        started = time.perf_counter()
        status = 500  # what the server answers when the application raises before it has answered

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request.encode())]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except BaseException as error:
            span.record_exception(error)
            span.set_attribute("error.type", error_type(error))
            raise
        finally:
            elapsed = time.perf_counter() - started
            route = getattr(scope.get("route"), "path", None) or "unmatched"
            span.update_name(f"{method} {route}")
            span.set_attribute("http.route", route)
            span.set_attribute("http.response.status_code", status)
            if status >= 500:
                span.set_status(Status(StatusCode.ERROR))
            context = span.get_span_context()
            sampled = context.is_valid and context.trace_flags.sampled
            trace_id = trace.format_trace_id(context.trace_id) if sampled else None
            if self._on_response is not None:
                self._on_response(Response(method, route, status, elapsed, trace_id))
            _logger.log(
                logging.ERROR if status >= 500 else logging.INFO,
                "%s %s %d in %.3f s",
                method,
                scope["path"],
                status,
                elapsed,
                extra={
                    "event": "http.request",
                    "http.request.method": method,
                    "http.route": route,
                    "http.response.status_code": status,
                    "duration_seconds": round(elapsed, 6),
                },
            )
            otel_context.detach(context_token)
            runtime.request_id.reset(request_token)
            if not inherited:
                span.end()
