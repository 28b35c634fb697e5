"""council-api: the demo service."""

from __future__ import annotations

import ipaddress
import logging
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from lgtm_instrumentation import Health, RequestTelemetry, Telemetry, observe_pool
from lgtm_instrumentation import Response as Finished
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import choose_encoder
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from demo.faults import CACHE, DATABASE, DEPENDENCIES, EVERYTHING, LLM, Backend, DependencyError, Fault, Faults
from demo.faults import InternalError as ServiceFailed
from demo.processes import RejectedError, authenticate, deliberate, load_context

SERVICE, VERSION = "council-api", "2.1.0"

DURATION_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2.5, 5, 10)

# Which dependencies each business process and synthetic check needs.
HEALTH_GROUPS = {"council": [LLM, DATABASE, "api"], "auth": [DATABASE, CACHE, "api"], "db": [DATABASE]}

_ROUTES = (
    ("POST", "/api/council"),
    ("POST", "/api/auth/login"),
    ("GET", "/api/companies/{company_id}/context"),
)
# Not what users do: neither counted as requests nor traced.
_INTERNAL = ("/health", "/metrics", "/demo")

_logger = logging.getLogger("council")

Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.@-]{1,64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class CouncilQuestion(_Strict):
    company_id: Identifier
    conversation_id: Identifier
    user_id: Identifier
    question: str = Field(min_length=1, max_length=4000)


class Login(_Strict):
    company_id: Identifier
    user_id: Identifier
    # The demo knows no passwords: the caller says how the login ends.
    outcome: Literal["accepted", "rejected"] = "accepted"


class FaultRequest(_Strict):
    dependency: str | None = None
    errors: float = Field(default=0.0, ge=0, le=1)
    latency_seconds: float = Field(default=0.0, ge=0, le=3600)


class RequestMetrics:
    """What Prometheus scrapes, with exemplars that lead to traces."""

    def __init__(self, backend: Backend) -> None:
        # Prometheus would keep a `_created` series beside every counter and bucket.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        labels = ("method", "route", "code")
        self.requests = Counter("http_requests", "Requests answered.", labels, registry=self.registry)
        self.duration = Histogram(
            "http_request_duration_seconds",
            "Time to answer a request.",
            ("method", "route"),
            buckets=DURATION_BUCKETS,
            registry=self.registry,
        )
        self.dependency_up = Gauge(
            "dependency_up", "1 when the dependency's health check passes.", ("dependency",), registry=self.registry
        )
        Gauge("db_pool_used", "Database connections in use.", registry=self.registry).set_function(lambda: backend.pool_used)
        Gauge("db_pool_size", "Database connections at most.", registry=self.registry).set_function(lambda: backend.pool_size)
        # From zero: rate() does not see the first error of a counter that begins with it.
        for method, route in _ROUTES:
            for code in ("200", "500", "503", "504"):
                self.requests.labels(method, route, code)
            self.duration.labels(method, route)
        self.requests.labels("POST", "/api/auth/login", "401")
        for dependency in DEPENDENCIES:
            self.dependency_up.labels(dependency).set(1)

    def observe(self, finished: Finished) -> None:
        exemplar = {"trace_id": finished.trace_id} if finished.trace_id else None
        self.requests.labels(finished.method, finished.route, str(finished.status)).inc(exemplar=exemplar)
        self.duration.labels(finished.method, finished.route).observe(finished.duration, exemplar)


def is_loopback(host: str | None) -> bool:
    """Whether a request's peer is this machine."""
    try:
        return host is not None and ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _loopback_only(request: Request) -> None:
    if not is_loopback(request.client.host if request.client else None):
        raise HTTPException(403, "Faults can be switched from this machine only.")


def create_app(
    faults: Faults | None = None, telemetry: Telemetry | None = None, state: Callable[[], dict[str, Any]] | None = None
) -> FastAPI:
    """The service. ``state`` adds to what GET /demo/state tells; telemetry's delivery is part of it when given."""
    backend = Backend(faults if faults is not None else Faults())
    health = Health(SERVICE, VERSION, backend.checks(), groups=HEALTH_GROUPS, cache=2.0)
    metrics = RequestMetrics(backend)
    observe_pool(DATABASE, used=lambda: backend.pool_used, size=lambda: backend.pool_size)
    started = time.time()
    app = FastAPI(
        title="Council API",
        version=VERSION,
        routes=health.routes(),
        docs_url=None,
        redoc_url=None,
        # Newer FastAPI traces by itself, health checks and scrapes included. RequestTelemetry does it here; older FastAPI
        # takes the argument and ignores it.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.backend = backend
    app.state.health = health
    app.state.metrics = metrics
    app.add_middleware(RequestTelemetry, skip=_INTERNAL, on_response=metrics.observe)

    @app.post("/api/council")
    async def council(question: CouncilQuestion) -> dict[str, object]:
        return await deliberate(backend, question.company_id, question.conversation_id, question.user_id)

    @app.post("/api/auth/login")
    async def login(credentials: Login) -> dict[str, str]:
        accepted = credentials.outcome == "accepted"
        return {"session": await authenticate(backend, credentials.company_id, credentials.user_id, accepted)}

    @app.get("/api/companies/{company_id}/context")
    async def context(company_id: Identifier, user_id: Identifier | None = None) -> dict[str, int]:
        return await load_context(backend, company_id, user_id)

    @app.get("/metrics")
    async def scrape(request: Request) -> Response:
        report = await health.report(DEPENDENCIES)
        for result in report.results:
            metrics.dependency_up.labels(result.name).set(result.ok)
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(metrics.registry), headers={"Content-Type": content_type})

    def shown() -> dict[str, Any]:
        return {
            "faults": [
                {
                    "dependency": None if target == EVERYTHING else target,
                    "errors": f.errors,
                    "latency_seconds": f.latency,
                }
                for target, f in backend.faults.active.items()
            ]
        }

    local = [Depends(_loopback_only)]

    @app.get("/demo/faults", dependencies=local)
    async def show_faults() -> dict[str, Any]:
        return shown()

    @app.post("/demo/faults", dependencies=local)
    async def add_fault(fault: FaultRequest) -> dict[str, Any]:
        if fault.dependency is not None and fault.dependency not in DEPENDENCIES:
            raise HTTPException(422, f"Unknown dependency {fault.dependency!r}; there are {', '.join(DEPENDENCIES)}.")
        wanted = Fault(fault.errors, fault.latency_seconds)
        backend.faults.inflict(fault.dependency or EVERYTHING, wanted)
        _logger.warning(
            "Fault switched on: %s",
            wanted,
            extra={"event": "demo.broken", "dependency": fault.dependency, **asdict(wanted)},
        )
        return shown()

    @app.delete("/demo/faults", dependencies=local)
    async def heal() -> dict[str, Any]:
        backend.faults.heal()
        _logger.warning("Faults switched off", extra={"event": "demo.healed"})
        return shown()

    @app.get("/demo/state", dependencies=local)
    async def show_state() -> dict[str, Any]:
        delivery = telemetry.delivery if telemetry is not None else None
        return {
            "service": SERVICE,
            "version": VERSION,
            "pid": os.getpid(),
            "started": started,
            **shown(),
            "telemetry": None
            if delivery is None
            else {
                "endpoint": delivery.endpoint,
                "failing_since": delivery.failing_since,
                "dropped": dict(delivery.dropped),
            },
            **(state() if state is not None else {}),
        }

    _add_error_answers(app)
    return app


def _add_error_answers(app: FastAPI) -> None:
    def answer(status: int, title: str) -> Callable[[Request, Exception], Awaitable[Response]]:
        async def handler(request: Request, error: Exception) -> Response:
            return JSONResponse({"error": title}, status)

        return handler

    app.add_exception_handler(DependencyError, answer(503, "A service that this one needs does not work."))
    app.add_exception_handler(ServiceFailed, answer(500, "Something went wrong."))
    app.add_exception_handler(TimeoutError, answer(504, "This took too long."))
    app.add_exception_handler(RejectedError, answer(401, "Wrong user or password."))
