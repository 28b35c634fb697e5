"""Users of the demo service: several companies of unequal size, arriving at random, never waiting for each other."""

from __future__ import annotations

import asyncio
import math
import random
import time
import uuid
from dataclasses import dataclass, field

import httpx

DEFAULT_RATE = 12.0
MAX_IN_FLIGHT = 800

# Company and its share of the traffic.
COMPANIES = {"northwind": 40, "globex": 25, "initech": 18, "umbrella": 12, "hooli": 5}
# What users do: nine of ten requests are quick, a deliberation takes seconds.
ACTIONS = {"context": 60, "login": 30, "council": 10}
REJECTED_LOGINS = 0.005

_QUESTIONS = ("Which market first?", "Hire or outsource?", "Raise the price?", "Which supplier?", "Build or buy?")


def rate_at(rate: float, seconds: float) -> float:
    """Requests per second at a time: ``rate`` with a gentle swing of 15 % over ten minutes and 5 % over 97 s."""
    slow, quick = math.sin(2 * math.pi * seconds / 600), math.sin(2 * math.pi * seconds / 97)
    return rate * (1 + 0.15 * slow + 0.05 * quick)


@dataclass
class Traffic:
    """Sends requests to ``url`` until cancelled. ``rate`` is in requests per second, over all kinds."""

    url: str
    rate: float = DEFAULT_RATE
    sent: int = 0
    failed: int = 0
    skipped: int = 0
    """Requests not sent because MAX_IN_FLIGHT were waiting for their answer."""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self) -> None:
        limits = httpx.Limits(max_connections=MAX_IN_FLIGHT, max_keepalive_connections=50)
        async with httpx.AsyncClient(base_url=self.url, timeout=90, limits=limits, trust_env=False) as client:
            try:
                due = time.monotonic()
                while True:
                    due += random.expovariate(rate_at(self.rate, time.time()))
                    # After a pause of the machine, go on from now instead of sending what was missed all at once.
                    due = max(due, time.monotonic() - 1)
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
                    if len(self._tasks) >= MAX_IN_FLIGHT:
                        self.skipped += 1
                        continue
                    task = asyncio.create_task(self._one(client))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
            finally:
                for task in list(self._tasks):
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _one(self, client: httpx.AsyncClient) -> None:
        company = random.choices(list(COMPANIES), list(COMPANIES.values()))[0]
        user = f"{company}-{random.randint(1, 40)}"
        self.sent += 1
        try:
            response = await self._act(client, company, user)
        except httpx.HTTPError:
            self.failed += 1
        else:
            self.failed += response.status_code >= 500

    async def _act(self, client: httpx.AsyncClient, company: str, user: str) -> httpx.Response:
        action = random.choices(list(ACTIONS), list(ACTIONS.values()))[0]
        if action == "context":
            return await client.get(f"/api/companies/{company}/context", params={"user_id": user})
        if action == "login":
            outcome = "rejected" if random.random() < REJECTED_LOGINS else "accepted"
            return await client.post("/api/auth/login", json={"company_id": company, "user_id": user, "outcome": outcome})
        return await client.post(
            "/api/council",
            json={
                "company_id": company,
                "conversation_id": f"c-{uuid.uuid4().hex[:12]}",
                "user_id": user,
                "question": random.choice(_QUESTIONS),
            },
        )
