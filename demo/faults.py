"""Faults that the demo service suffers on command, and the dependencies that suffer them.

A fault on a dependency hits only what uses it; a fault on no dependency hits every process. Within one execution each
fault strikes once, at the first use: "20 % errors" means 20 % of the executions, however many queries one makes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import MappingProxyType

from lgtm_instrumentation import Check, tracer
from opentelemetry.trace import SpanKind

DATABASE, CACHE, LLM = "database", "cache", "llm-provider"
DEPENDENCIES = (DATABASE, CACHE, LLM)
EVERYTHING = "*"
"""The target of a fault that hits every process, whatever it uses."""

# What the simulated dependencies say they are; health answers tell it.
VERSIONS_OF: Mapping[str, str] = MappingProxyType({DATABASE: "PostgreSQL 16.4", CACHE: "Redis 7.2", LLM: "v1"})

# One execution in five thousand fails by itself: a service without any error makes no convincing dashboard, and 0.02 %
# is a fifth of the budget of a 99.9 % objective.
BACKGROUND_ERRORS = 0.0002
# A health check that takes longer than this fails.
CHECK_TIMEOUT = 1.0
# Large enough that three more seconds per query at twice the usual traffic do not exhaust it.
POOL_SIZE = 60

_ATTRIBUTES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        DATABASE: {"db.system.name": "postgresql", "db.namespace": "council", "peer.service": DATABASE},
        CACHE: {"db.system.name": "redis", "peer.service": CACHE},
        LLM: {"server.address": "llm.example", "peer.service": LLM},
    }
)


class DependencyError(Exception):
    """A dependency answered with an error."""

    def __init__(self, dependency: str, message: str) -> None:
        super().__init__(message)
        self.dependency = dependency


class InternalError(Exception):
    """The service itself failed."""


@dataclass(frozen=True)
class Fault:
    """``errors`` is the share of executions that fail, 0 to 1; ``latency`` is added to each execution, in seconds."""

    errors: float = 0.0
    latency: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.errors <= 1 or not 0 <= self.latency <= 3600:
            raise ValueError(f"errors must be from 0 to 1 and latency from 0 to 3600 seconds, not {self}")


class Faults:
    """The faults in force, by target: a dependency's name or EVERYTHING."""

    def __init__(self, background: float = BACKGROUND_ERRORS) -> None:
        self._faults: dict[str, Fault] = {}
        self.background = background

    @property
    def active(self) -> Mapping[str, Fault]:
        return MappingProxyType(self._faults)

    def inflict(self, target: str, fault: Fault) -> None:
        """Put a fault in force, instead of the one on the same target. Raises KeyError for an unknown target."""
        if target != EVERYTHING and target not in DEPENDENCIES:
            raise KeyError(target)
        self._faults[target] = fault

    def heal(self) -> None:
        self._faults.clear()

    def of(self, target: str) -> Fault:
        return self._faults.get(target, Fault())


_struck: ContextVar[set[str] | None] = ContextVar("demo_struck", default=None)


def begin_execution() -> None:
    """Forget which faults have struck: a new execution begins in this context."""
    _struck.set(set())


class Backend:
    """The simulated dependencies of the service."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.pool_used = 0
        self.pool_size = POOL_SIZE
        self._pool = asyncio.Semaphore(POOL_SIZE)

    async def _suffer(self, target: str) -> None:
        struck = _struck.get()
        if struck is not None:
            if target in struck:
                return
            struck.add(target)
        fault = self.faults.of(target)
        if fault.latency:
            await asyncio.sleep(fault.latency)
        if fault.errors and random.random() < fault.errors:
            if target == EVERYTHING:
                raise InternalError("the service failed, as it was told to")
            raise DependencyError(target, f"{target} answered with an error")
        if target == EVERYTHING and random.random() < self.faults.background:
            raise InternalError("an unexpected state, as happens once in a while")

    async def begin(self) -> None:
        """The part of an execution that depends on nothing else."""
        begin_execution()
        await self._suffer(EVERYTHING)

    @asynccontextmanager
    async def _connection(self, dependency: str) -> AsyncIterator[None]:
        if dependency != DATABASE:
            yield
            return
        async with self._pool:
            self.pool_used += 1
            try:
                yield
            finally:
                self.pool_used -= 1

    async def call(self, dependency: str, operation: str, seconds: float) -> None:
        """Use a dependency for about ``seconds``. Raises DependencyError where a fault says so."""
        with tracer().start_as_current_span(
            f"{dependency} {operation}",
            kind=SpanKind.CLIENT,
            attributes={**_ATTRIBUTES[dependency], "operation.name": operation},
        ):
            async with self._connection(dependency):
                await self._suffer(dependency)
                await asyncio.sleep(seconds)

    async def ping(self, dependency: str) -> None:
        """What a health check asks. Deterministic: a dependency with any share of errors is reported as failing."""
        fault = self.faults.of(dependency)
        await asyncio.sleep(fault.latency + random.uniform(0.0005, 0.002))
        if fault.errors:
            raise DependencyError(dependency, f"{dependency} answers {fault.errors:.0%} of its calls with an error")

    async def ping_self(self) -> None:
        fault = self.faults.of(EVERYTHING)
        await asyncio.sleep(fault.latency)
        if fault.errors:
            raise InternalError(f"{fault.errors:.0%} of the executions fail")

    def checks(self) -> list[Check]:
        """A health check per dependency, and ``api`` for the service itself."""

        def of(dependency: str) -> Check:
            async def probe() -> None:
                await self.ping(dependency)

            return Check(dependency, probe, timeout=CHECK_TIMEOUT, version=VERSIONS_OF[dependency])

        return [*(of(d) for d in DEPENDENCIES), Check("api", self.ping_self, timeout=CHECK_TIMEOUT)]
