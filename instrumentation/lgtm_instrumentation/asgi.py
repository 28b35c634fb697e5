"""Requests of an ASGI application: a server span, a request id, RED metrics and one log line each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from lgtm_instrumentation.http import Capture, Captured, Exchange, Response

__all__ = ["Capture", "RequestTelemetry", "Response"]

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]


class RequestTelemetry:
    """ASGI middleware. Continues a caller's trace (W3C traceparent) and request id (X-Request-ID), or begins them; a server
    span that is already there is used.

    Paths that begin with one of ``skip`` pass untouched: health checks and scrapes would drown what people do.
    ``on_response`` is called for each finished request, for metrics of the application's own. ``capture`` adds headers and
    bodies, masked, to the log line.
    """

    def __init__(
        self,
        app: App,
        *,
        skip: Sequence[str] = ("/health", "/metrics"),
        on_response: Callable[[Response], None] | None = None,
        capture: Capture | None = None,
    ) -> None:
        self._app = app
        self._skip = tuple(skip)
        self._on_response = on_response
        self._capture = capture

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        if scope["type"] != "http" or scope["path"].startswith(self._skip):
            await self._app(scope, receive, send)
            return
        headers = _text(scope["headers"])
        exchange = Exchange(
            scope["method"],
            scope["path"],
            scope.get("scheme", "http"),
            dict(headers),
            scope.get("query_string", b"").decode("latin-1"),
        )
        captured = Captured(self._capture) if self._capture else None
        if captured:
            captured.headers("request", headers)

        async def heard() -> Message:
            message = await receive()
            if captured and message["type"] == "http.request":
                captured.body("request", message.get("body", b""))
            return message

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", exchange.request_id.encode())]
                if captured:
                    captured.headers("response", _text(message["headers"]))
            elif captured and message["type"] == "http.response.body":
                captured.body("response", message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, heard if captured else receive, watched)
        except BaseException as error:
            exchange.failed(error)
            raise
        finally:
            route = getattr(scope.get("route"), "path", None)
            exchange.finish(route, self._on_response, captured.fields(exchange.query) if captured else None)


def _text(headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    return [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers]
