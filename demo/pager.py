"""A pager for trying things out: takes Alertmanager's webhooks, keeps the latest, and lets them be read.

POST to any path is a notification. GET /notifications returns them, newest last; DELETE /notifications forgets them.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from demo.app import is_loopback

KEEP = 1000
MAX_BYTES = 4 << 20

_logger = logging.getLogger("pager")


def describe(alert: Mapping[str, Any]) -> str:
    """One readable line for one alert of a notification."""
    labels, annotations = alert.get("labels") or {}, alert.get("annotations") or {}
    status = str(alert.get("status", "?")).upper()
    about = "/".join(str(labels[k]) for k in ("service", "slo") if labels.get(k))
    text = annotations.get("summary") or annotations.get("description") or ""
    parts = (status, str(labels.get("severity", "-")), str(labels.get("alertname", "?")), about, text)
    return "  ".join(part for part in parts if part)


class Pages:
    """The latest notifications, each ``{"id", "received_at", "path", "body"}``; ``id`` counts up from 1."""

    def __init__(self) -> None:
        self._kept: deque[dict[str, Any]] = deque(maxlen=KEEP)
        self._count = 0

    def add(self, path: str, body: Any) -> None:
        self._count += 1
        self._kept.append({"id": self._count, "received_at": datetime.now(UTC).isoformat(), "path": path, "body": body})
        alerts = body.get("alerts") if isinstance(body, dict) else None
        for alert in alerts if isinstance(alerts, list) else ():
            if isinstance(alert, dict):
                _logger.info("%s", describe(alert))
        if not isinstance(alerts, list):
            _logger.info("A message that is not Alertmanager's: %.200s", json.dumps(body))

    def since(self, after: int = 0) -> list[dict[str, Any]]:
        """Notifications with an id above ``after``, oldest first."""
        return [page for page in self._kept if page["id"] > after]

    def clear(self) -> None:
        self._kept.clear()


def create_pager(pages: Pages | None = None) -> Starlette:
    """The pager as an ASGI application."""
    kept = pages if pages is not None else Pages()

    async def receive(request: Request) -> Response:
        received = b""
        async for chunk in request.stream():
            received += chunk
            if len(received) > MAX_BYTES:
                return JSONResponse({"error": f"more than {MAX_BYTES} bytes"}, 413)
        try:
            body = json.loads(received)
        except ValueError:
            return JSONResponse({"error": "not JSON"}, 400)
        kept.add(request.url.path, body)
        return JSONResponse({"kept": True})

    async def read(request: Request) -> Response:
        after = request.query_params.get("after", "0")
        if not after.isdecimal():
            return JSONResponse({"error": "after must be a number"}, 422)
        return JSONResponse(kept.since(int(after)))

    async def forget(request: Request) -> Response:
        if not is_loopback(request.client.host if request.client else None):
            return JSONResponse({"error": "from this machine only"}, 403)
        kept.clear()
        return Response(status_code=204)

    async def alive(request: Request) -> Response:
        return JSONResponse({"status": "ok", "service": "lgtm-demo-pager"})

    return Starlette(
        routes=[
            Route("/notifications", read, methods=["GET"]),
            Route("/notifications", forget, methods=["DELETE"]),
            Route("/health", alive, methods=["GET"]),
            Route("/{path:path}", receive, methods=["POST"]),
        ]
    )
