"""A pager for trying things out: takes Alertmanager's webhooks, keeps the latest, and lets them be read.

POST to any path is a notification. GET /notifications returns them, newest last; DELETE /notifications forgets them.
POST to /heartbeat is a beat: when they stop, or come again, that is a notification too. POST to /refuse with a path makes
the pager refuse what comes to that path, as a lost receiver would; DELETE /refuse ends it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
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
HEARTBEAT = "/heartbeat"
# Alertmanager sends the Watchdog once a minute: two and a half beats.
SILENCE_SECONDS = 150.0

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
        if isinstance(body, dict) and "heartbeat" in body:
            _logger.info("heartbeat %s; the last beat came at %s", body["heartbeat"], body["last"])
        elif not isinstance(alerts, list):
            _logger.info("A message that is not Alertmanager's: %.200s", json.dumps(body))

    def since(self, after: int = 0) -> list[dict[str, Any]]:
        """Notifications with an id above ``after``, oldest first."""
        return [page for page in self._kept if page["id"] > after]

    def clear(self) -> None:
        self._kept.clear()


class Heartbeat:
    """Notices when beats stop: a notification once no beat has come for ``silence`` seconds, and one when they are back.

    Until the first beat it waits for none.
    """

    def __init__(self, pages: Pages, silence: float = SILENCE_SECONDS) -> None:
        self._pages, self.silence = pages, silence
        self.beats = 0
        self.lost = False
        self._last: tuple[float, datetime] | None = None

    @property
    def last(self) -> str | None:
        """When the last beat came."""
        return None if self._last is None else self._last[1].isoformat()

    def beat(self) -> None:
        """One has come."""
        if self.lost:
            self._pages.add(HEARTBEAT, {"heartbeat": "back", "last": self.last})
        self.lost = False
        self.beats += 1
        self._last = time.monotonic(), datetime.now(UTC)

    def look(self) -> None:
        """Notice whether they have stopped."""
        if self._last is not None and not self.lost and time.monotonic() - self._last[0] > self.silence:
            self.lost = True
            self._pages.add(HEARTBEAT, {"heartbeat": "lost", "last": self.last})

    async def watch(self) -> None:
        """Look once a second, until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(1)


def create_pager(pages: Pages | None = None, heartbeat: Heartbeat | None = None) -> Starlette:
    """The pager as an ASGI application. The caller has the heartbeat watched."""
    kept = pages if pages is not None else Pages()
    heart = heartbeat if heartbeat is not None else Heartbeat(kept)
    refused: set[str] = set()

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
        path = request.url.path
        if path == "/refuse":
            if not is_loopback(request.client.host if request.client else None) or not isinstance(body, dict):
                return JSONResponse({"error": 'from this machine only, as {"path": "/"}'}, 403)
            refused.add(str(body.get("path", "/")))
            return JSONResponse({"refused": sorted(refused)})
        if path in refused:
            return JSONResponse({"error": "lost, as it was told to be"}, 503)
        if path == HEARTBEAT:
            heart.beat()
        else:
            kept.add(path, body)
        return JSONResponse({"kept": True})

    async def accept(request: Request) -> Response:
        if not is_loopback(request.client.host if request.client else None):
            return JSONResponse({"error": "from this machine only"}, 403)
        refused.clear()
        return Response(status_code=204)

    async def pulse(request: Request) -> Response:
        state = {"beats": heart.beats, "last": heart.last, "lost": heart.lost, "silence_seconds": heart.silence}
        return JSONResponse(state)

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
            Route("/refuse", accept, methods=["DELETE"]),
            Route(HEARTBEAT, pulse, methods=["GET"]),
            Route("/{path:path}", receive, methods=["POST"]),
        ]
    )
