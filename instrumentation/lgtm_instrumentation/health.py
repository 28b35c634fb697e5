"""Health endpoints: a true answer per dependency, quickly, however the dependencies fare.

    health = Health("council-api", "2.1.0", [Check("database", ping_database)], groups={"db": ["database"]})
    app = FastAPI(routes=health.routes())

``/health`` reports everything, ``/health/live`` only that the process answers, ``/health/ready`` whether it should get
traffic, ``/health/{name}`` one dependency or group. 503 when a critical dependency fails.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import BaseRoute

_logger = logging.getLogger(__name__)

_RESERVED = frozenset({"live", "ready"})


@dataclass(frozen=True)
class Check:
    """A dependency and how to ask whether it works.

    ``probe`` returns when all is well and raises when not; a plain function runs on a thread. ``timeout`` is in
    seconds. Only a critical dependency makes the service unhealthy; another one makes it degraded.
    """

    name: str
    probe: Callable[[], Awaitable[object] | object]
    critical: bool = True
    timeout: float = 1.0


@dataclass(frozen=True)
class CheckResult:
    """``status`` is ok, failed or timeout; ``latency`` in seconds; ``error`` the exception's class, never its text."""

    name: str
    status: str
    critical: bool
    latency: float
    error: str | None = None

    @property
    def ok(self) -> bool:
        return self.status == "ok"


@dataclass(frozen=True)
class Report:
    """The results of some checks."""

    results: tuple[CheckResult, ...]

    @property
    def status(self) -> str:
        """ok, degraded (something that is not critical fails) or unhealthy."""
        if any(not r.ok and r.critical for r in self.results):
            return "unhealthy"
        return "ok" if all(r.ok for r in self.results) else "degraded"


class Health:
    """The checks of a service, run in parallel and remembered for ``cache`` seconds.

    ``groups`` names sets of checks, such as those that one business process needs; in a group every member counts as
    critical. Raises ValueError for a name used twice, a reserved name, or a group with an unknown member.
    """

    def __init__(
        self,
        service: str,
        version: str,
        checks: Iterable[Check] = (),
        *,
        groups: Mapping[str, Sequence[str]] | None = None,
        cache: float = 2.0,
    ) -> None:
        self.service = service
        self.version = version
        self.cache = cache
        self._checks: dict[str, Check] = {}
        for check in checks:
            if check.name in self._checks or check.name in _RESERVED:
                raise ValueError(f"health check {check.name!r} is named twice or reserved")
            self._checks[check.name] = check
        self._groups = {name: tuple(members) for name, members in (groups or {}).items()}
        for name, members in self._groups.items():
            unknown = sorted(set(members) - set(self._checks))
            if name in self._checks or name in _RESERVED:
                raise ValueError(f"health group {name!r} is also a check, or reserved")
            if unknown:
                raise ValueError(f"health group {name!r} names unknown checks: {', '.join(unknown)}")
        self._started = time.monotonic()
        self._results: dict[str, tuple[float, CheckResult]] = {}
        self._running: dict[str, asyncio.Task[CheckResult]] = {}
        self._was_ok: dict[str, bool] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """What ``/health/{name}`` answers to."""
        return (*self._checks, *self._groups)

    async def report(self, names: Iterable[str] | None = None) -> Report:
        """Results of the checks ``names`` (default: all), none older than the cache allows."""
        wanted = tuple(self._checks) if names is None else tuple(names)
        return Report(tuple(await asyncio.gather(*(self._result(self._checks[name]) for name in wanted))))

    async def _result(self, check: Check) -> CheckResult:
        known = self._results.get(check.name)
        if known is not None and time.monotonic() - known[0] < self.cache:
            return known[1]
        # However many ask at once, the dependency is asked once.
        task = self._running.get(check.name)
        if task is None or task.done() or task.get_loop() is not asyncio.get_running_loop():
            task = asyncio.create_task(self._run(check))
            self._running[check.name] = task
        return await asyncio.shield(task)

    async def _run(self, check: Check) -> CheckResult:
        started = time.perf_counter()
        status = "ok"
        error: Exception | None = None
        try:
            async with asyncio.timeout(check.timeout):
                if inspect.iscoroutinefunction(check.probe):
                    await check.probe()
                else:
                    answer = await asyncio.to_thread(check.probe)
                    if inspect.isawaitable(answer):
                        await answer
        except TimeoutError:
            status, error = "timeout", TimeoutError(f"no answer in {check.timeout:g} s")
        except Exception as exception:
            status, error = "failed", exception
        result = CheckResult(
            check.name, status, check.critical, time.perf_counter() - started, type(error).__name__ if error else None
        )
        self._results[check.name] = (time.monotonic(), result)
        # Changes only: a check runs every few seconds for hours.
        if self._was_ok.get(check.name, True) != result.ok:
            log = _logger.info if result.ok else _logger.error
            log(
                "Health check %s: %s%s",
                check.name,
                status,
                f" ({error})" if error else "",
                extra={"event": "health.changed", "dependency": check.name, "health_status": status},
            )
        self._was_ok[check.name] = result.ok
        return result

    def routes(self) -> list[BaseRoute]:
        """The endpoints, for ``FastAPI(routes=…)`` or ``Starlette(routes=…)``."""
        from starlette.routing import Route

        async def everything(request: Request) -> JSONResponse:
            return self._answer(await self.report())

        async def live(request: Request) -> JSONResponse:
            return self._answer(Report(()))

        async def ready(request: Request) -> JSONResponse:
            return self._answer(await self.report(c.name for c in self._checks.values() if c.critical))

        async def one(request: Request) -> JSONResponse:
            name = request.path_params["name"]
            if name in self._groups:
                report = await self.report(self._groups[name])
                return self._answer(report, failed=report.status != "ok")
            if name in self._checks:
                report = await self.report([name])
                return self._answer(report, failed=report.status != "ok")
            from starlette.responses import JSONResponse

            return JSONResponse({"error": f"no health check named {name!r}", "known": list(self.names)}, 404)

        return [
            Route("/health", everything, methods=["GET"]),
            Route("/health/live", live, methods=["GET"]),
            Route("/health/ready", ready, methods=["GET"]),
            Route("/health/{name}", one, methods=["GET"]),
        ]

    def _answer(self, report: Report, failed: bool | None = None) -> JSONResponse:
        from starlette.responses import JSONResponse

        unhealthy = report.status == "unhealthy" if failed is None else failed
        body: dict[str, Any] = {
            "status": "unhealthy" if unhealthy else report.status,
            "service": self.service,
            "version": self.version,
            "uptime_seconds": round(time.monotonic() - self._started, 1),
            "checks": {
                r.name: {
                    "status": r.status,
                    "critical": r.critical,
                    "latency_ms": round(r.latency * 1000, 2),
                    **({"error": r.error} if r.error else {}),
                }
                for r in report.results
            },
        }
        return JSONResponse(body, 503 if unhealthy else 200, headers={"Cache-Control": "no-store"})
