"""Three business processes of the council, with the stages and dependencies that the specification describes."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping
from types import MappingProxyType

from lgtm_instrumentation import process, stage

from demo.faults import CACHE, DATABASE, LLM, Backend

_logger = logging.getLogger("council")

COUNCIL, LOGIN, CONTEXT = "council_deliberation_3stage", "user_authentication", "company_context_load"
VERSIONS: Mapping[str, str] = MappingProxyType({COUNCIL: "2.1.0", LOGIN: "1.4.0", CONTEXT: "1.2.0"})

# What the caller waits for at most, in seconds. Well above each process's SLA, so that "slow" and "timed out" differ.
TIMEOUTS: Mapping[str, float] = MappingProxyType({COUNCIL: 60.0, LOGIN: 10.0, CONTEXT: 10.0})

MODELS = ("alpha", "beta", "gamma", "delta", "epsilon")


class RejectedError(Exception):
    """A login with a wrong password: the process did its work, the user does not get in."""


async def _all_answers(backend: Backend) -> None:
    try:
        async with asyncio.TaskGroup() as answers:
            for model in MODELS:
                answers.create_task(backend.call(LLM, f"answer {model}", random.uniform(0.35, 0.9)))
    except ExceptionGroup as group:
        # One model that fails ends the deliberation; its error, not the group around it, is what happened.
        raise group.exceptions[0] from None


async def deliberate(backend: Backend, company_id: str, conversation_id: str, user_id: str) -> dict[str, object]:
    """Five models answer in parallel, rank each other's answers, and a chairman puts them together: 1 to 3 s."""
    async with process(COUNCIL, company_id=company_id, conversation_id=conversation_id, user_id=user_id):
        async with asyncio.timeout(TIMEOUTS[COUNCIL]):
            await backend.begin()
            with stage("collect", **{"model.count": len(MODELS)}):
                await backend.call(DATABASE, "load conversation", random.uniform(0.005, 0.015))
                await _all_answers(backend)
            with stage("rank", **{"model.count": len(MODELS)}):
                await backend.call(LLM, "rank", random.uniform(0.25, 0.8))
            with stage("synthesize", **{"model.count": 1}):
                await backend.call(LLM, "synthesize", random.uniform(0.4, 1.1))
                await backend.call(DATABASE, "save answer", random.uniform(0.005, 0.015))
        ranking = random.sample(MODELS, len(MODELS))
        _logger.info("The council prefers %s", ranking[0], extra={"event": "council.decided", "model.count": len(MODELS)})
        return {"ranking": ranking, "chairman": ranking[0]}


async def authenticate(backend: Backend, company_id: str, user_id: str, valid: bool) -> str:
    """Log a user in: 20 to 60 ms. Raises RejectedError, outside of the process, for a wrong password."""
    async with process(LOGIN, company_id=company_id, user_id=user_id):
        async with asyncio.timeout(TIMEOUTS[LOGIN]):
            await backend.begin()
            with stage("login"):
                await backend.call(DATABASE, "find user", random.uniform(0.008, 0.025))
            if valid:
                with stage("token_validation"):
                    await backend.call(CACHE, "check token", random.uniform(0.003, 0.01))
                with stage("session"):
                    await backend.call(CACHE, "store session", random.uniform(0.003, 0.01))
    if not valid:
        _logger.warning("Login rejected", extra={"event": "login.rejected", "company.id": company_id})
        raise RejectedError
    return f"{random.getrandbits(64):016x}"


async def load_context(backend: Backend, company_id: str, user_id: str | None) -> dict[str, int]:
    """Load what the council must know of a company, in this order: 80 to 150 ms."""
    loaded: dict[str, int] = {}
    async with process(CONTEXT, company_id=company_id, user_id=user_id):
        async with asyncio.timeout(TIMEOUTS[CONTEXT]):
            await backend.begin()
            for part in ("company", "department", "role", "playbooks", "decisions"):
                with stage(part):
                    await backend.call(DATABASE, f"load {part}", random.uniform(0.014, 0.028))
                loaded[part] = random.randint(1, 12)
    return loaded
