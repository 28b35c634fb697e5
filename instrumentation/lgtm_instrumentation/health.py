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
import re
import threading
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
_VERSION = re.compile(r"[A-Za-z]{0,20}[ /]?v?\d[\w.+\-]{0,39}")


@dataclass(frozen=True)
class Check:
    """A dependency and how to ask whether it works.

    ``probe`` returns when all is well and raises when not; a plain function runs on a thread. ``timeout`` is in
    seconds. Only a critical dependency makes the service unhealthy; another one makes it degraded. ``version`` is the
    dependency's, or a function that tells it, called after a successful probe; where the probe itself learns it, it may
    return it as text.
    """

    name: str
    probe: Callable[[], Awaitable[object] | object]
    critical: bool = True
    timeout: float = 1.0
    version: str | Callable[[], str] | None = None


@dataclass(frozen=True)
class CheckResult:
    """``status`` is ok, failed or timeout; ``latency`` in seconds; ``error`` the exception's class, never its text.

    ``version`` is the dependency's as last seen, None where nobody tells it.
    """

    name: str
    status: str
    critical: bool
    latency: float
    error: str | None = None
    version: str | None = None

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
        self._versions: dict[str, str] = {}
        self._lock = threading.Lock()

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
                    answer: object = await check.probe()
                else:
                    answer = await asyncio.to_thread(check.probe)
                    if inspect.isawaitable(answer):
                        answer = await answer
                self._note_version(check, answer)
        except TimeoutError:
            status, error = "timeout", TimeoutError(f"no answer in {check.timeout:g} s")
        except Exception as exception:
            status, error = "failed", exception
        result = CheckResult(
            check.name,
            status,
            check.critical,
            time.perf_counter() - started,
            type(error).__name__ if error else None,
            self._versions.get(check.name),
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

    def _note_version(self, check: Check, answer: object) -> None:
        told = check.version() if callable(check.version) else check.version
        version = told if told is not None else answer
        # Only what looks like a version: a probe may return anything, a row or an address with a password included.
        if isinstance(version, str) and _VERSION.fullmatch(version):
            self._versions[check.name] = version

    def answer(self, path: str) -> tuple[int, dict[str, Any]] | None:
        """Status code and body for a path such as ``/health/ready``, for frameworks without ASGI; None for another path.

        Blocks until the checks are done; many threads may call it. In Flask: ``status, body = health.answer(request.path)``.
        """
        name = path.rstrip("/").removeprefix("/health").lstrip("/")
        if not path.startswith("/health") or "/" in name:
            return None
        with self._lock:
            return asyncio.run(self._told(name))

    async def _told(self, name: str) -> tuple[int, dict[str, Any]]:
        if name == "live":
            return self._body(Report(()))
        if name in ("", "ready"):
            wanted = None if not name else [c.name for c in self._checks.values() if c.critical]
            return self._body(await self.report(wanted))
        if name in self._groups or name in self._checks:
            report = await self.report(self._groups.get(name, (name,)))
            return self._body(report, failed=report.status != "ok")
        return 404, {"error": f"no health check named {name!r}", "known": list(self.names)}

    def routes(self) -> list[BaseRoute]:
        """The endpoints, for ``FastAPI(routes=…)`` or ``Starlette(routes=…)``."""
        from starlette.routing import Route

        async def answer(request: Request) -> JSONResponse:
            from starlette.responses import JSONResponse

            path = request.url.path[request.url.path.index("/health") :]
            status, body = await self._told(path.removeprefix("/health").strip("/"))
            return JSONResponse(body, status, headers={"Cache-Control": "no-store"})

        return [
            Route("/health", answer, methods=["GET"]),
            Route("/health/{name}", answer, methods=["GET"]),
        ]

    def _body(self, report: Report, failed: bool | None = None) -> tuple[int, dict[str, Any]]:
        unhealthy = report.status == "unhealthy" if failed is None else failed
        return 503 if unhealthy else 200, {
            "status": "unhealthy" if unhealthy else report.status,
            "service": self.service,
            "version": self.version,
            "uptime_seconds": round(time.monotonic() - self._started, 1),
            "checks": {
                r.name: {
                    "status": r.status,
                    "critical": r.critical,
                    "latency_ms": round(r.latency * 1000, 2),
                    **({"version": r.version} if r.version else {}),
                    **({"error": r.error} if r.error else {}),
                }
                for r in report.results
            },
        }
