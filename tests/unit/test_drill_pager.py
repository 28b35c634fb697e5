"""The demo's pager as a receiver of heartbeats, and as one that is lost."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import pytest

from demo.pager import Heartbeat, Pages, create_pager


def bodies(pages: Pages) -> list[Any]:
    return [page["body"]["heartbeat"] for page in pages.since()]


def test_silence_is_told_once_and_so_is_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    pages = Pages()
    heart = Heartbeat(pages, silence=150)
    now += 1000
    heart.look()
    assert bodies(pages) == []  # none has come yet, so none is missed
    heart.beat()
    now += 150
    heart.look()
    assert bodies(pages) == []
    now += 1
    heart.look()
    heart.look()
    assert bodies(pages) == ["lost"] and heart.lost
    heart.beat()
    heart.beat()
    assert bodies(pages) == ["lost", "back"] and not heart.lost and heart.beats == 3
    now += 151
    heart.look()
    assert bodies(pages) == ["lost", "back", "lost"]


def test_beats_are_no_pages_and_a_lost_receiver_refuses() -> None:
    pages = Pages()
    heart = Heartbeat(pages)

    async def run() -> list[httpx.Response]:
        app = create_pager(pages, heart)
        here = httpx.ASGITransport(app, client=("127.0.0.1", 1))
        away = httpx.ASGITransport(app, client=("172.17.0.3", 1))
        async with (
            httpx.AsyncClient(transport=here, base_url="http://pager") as near,
            httpx.AsyncClient(transport=away, base_url="http://pager") as far,
        ):
            return [
                await far.post("/heartbeat", json={"alerts": []}),
                await far.get("/heartbeat"),
                await far.post("/refuse", json={"path": "/"}),
                await near.post("/refuse", json={"path": "/"}),
                await far.post("/", json={"alerts": []}),
                await far.post("/platform", json={"alerts": []}),
                await far.delete("/refuse"),
                await near.delete("/refuse"),
                await far.post("/", json={"alerts": []}),
            ]

    answers = asyncio.run(run())
    assert [a.status_code for a in answers] == [200, 200, 403, 200, 503, 200, 403, 204, 200]
    assert answers[1].json()["beats"] == 1 and not answers[1].json()["lost"]
    assert [page["path"] for page in pages.since()] == ["/platform", "/"]
