"""Requests of a WSGI application (Flask, Django, plain): a server span, a request id, RED metrics and one log line each.

app = Flask("shop")
app.wsgi_app = WsgiTelemetry(app.wsgi_app)
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from lgtm_instrumentation.http import Capture, Captured, Exchange, Response

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
WsgiApp = Callable[[Environ, StartResponse], Iterable[bytes]]


def flask_route(environ: Environ) -> str | None:
    """The route's template of a request that Flask has matched, such as ``/items/<id>``; None where nothing matched."""
    request = environ.get("werkzeug.request")
    rule = getattr(request, "url_rule", None)
    return getattr(rule, "rule", None)


class WsgiTelemetry:
    """WSGI middleware; what it does is what ``RequestTelemetry`` does for ASGI.

    ``route`` tells the template of a request from its environ once the application answers; by default Flask's. Without
    one, requests are ``unmatched``: a path with ids in it is no label.
    """

    def __init__(
        self,
        app: WsgiApp,
        *,
        skip: Sequence[str] = ("/health", "/metrics"),
        on_response: Callable[[Response], None] | None = None,
        capture: Capture | None = None,
        route: Callable[[Environ], str | None] = flask_route,
    ) -> None:
        self._app = app
        self._skip = tuple(skip)
        self._on_response = on_response
        self._capture = capture
        self._route = route

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "") or "/"
        if path.startswith(self._skip):
            return self._app(environ, start_response)
        headers = [(k[5:].replace("_", "-").lower(), v) for k, v in environ.items() if k.startswith("HTTP_")]
        headers += [(k.replace("_", "-").lower(), environ[k]) for k in ("CONTENT_TYPE", "CONTENT_LENGTH") if environ.get(k)]
        exchange = Exchange(
            environ["REQUEST_METHOD"],
            path,
            environ.get("wsgi.url_scheme", "http"),
            dict(headers),
            environ.get("QUERY_STRING", ""),
        )
        captured = Captured(self._capture) if self._capture else None
        if captured:
            captured.headers("request", headers)
            self._body(environ, captured)

        matched: str | None = None

        def watched(status: str, answer: list[tuple[str, str]], *more: Any) -> Any:
            nonlocal matched
            # Now or never: Flask forgets the request before the middleware sees the end of it.
            matched = self._route(environ)
            exchange.status = int(status.split(" ", 1)[0])
            answer = [*answer, ("X-Request-ID", exchange.request_id)]
            if captured:
                captured.headers("response", answer)
            return start_response(status, answer, *more)

        def finish() -> None:
            exchange.finish(
                matched or self._route(environ), self._on_response, captured.fields(exchange.query) if captured else None
            )

        try:
            parts = self._app(environ, watched)
        except BaseException as error:
            exchange.failed(error)
            finish()
            raise
        return _Answer(parts, exchange, captured, finish)

    def _body(self, environ: Environ, captured: Captured) -> None:
        length = str(environ.get("CONTENT_LENGTH") or "")
        if self._capture is None or not length.isdecimal() or not 0 < int(length) <= self._capture.body:
            return
        body = environ["wsgi.input"].read(int(length))
        captured.body("request", body)
        environ["wsgi.input"] = io.BytesIO(body)


class _Answer:
    """The response's parts. The request ends when the server has sent them all, which a generator has yet to make."""

    def __init__(
        self, parts: Iterable[bytes], exchange: Exchange, captured: Captured | None, finish: Callable[[], None]
    ) -> None:
        self._parts, self._exchange, self._captured, self._finish = parts, exchange, captured, finish
        self._finished = False

    def __iter__(self) -> Iterator[bytes]:
        try:
            for part in self._parts:
                if self._captured:
                    self._captured.body("response", part)
                yield part
        except BaseException as error:
            if not isinstance(error, GeneratorExit):
                self._exchange.failed(error)
            raise

    def close(self) -> None:
        """Called by the server, always, per PEP 3333."""
        if self._finished:
            return
        self._finished = True
        try:
            close = getattr(self._parts, "close", None)
            if close is not None:
                close()
        finally:
            self._finish()
