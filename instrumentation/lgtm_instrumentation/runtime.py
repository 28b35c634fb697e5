"""The instruments in use and the context of the running code: what the other modules share."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextvars import ContextVar

from opentelemetry import metrics, trace

from lgtm_instrumentation.registry import Registry

SCOPE = "lgtm_instrumentation"
STATUSES = ("success", "error", "timeout")

# Seconds. From a login to a deliberation of several minutes; the usual SLAs (2, 5, 10, 120 s) and latency objectives
# are bounds, so that "within its SLA" is exact and not interpolated.
DURATION_BOUNDS: Sequence[float] = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300,
)  # fmt: skip

# The bounds that OpenTelemetry's semantic conventions advise for requests, in seconds.
REQUEST_BOUNDS: Sequence[float] = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)

decorated: set[tuple[str, str | None]] = set()
"""Processes (id, version) named by decorators: known before they run, so that `setup()` can compare them."""

request_id: ContextVar[str | None] = ContextVar("lgtm_request_id", default=None)
"""The id of the request being served; the middleware sets it, `request_context` does in a worker."""


class Runtime:
    """The tracer and instruments that processes and stages write to.

    Labels are the process, its version, its status and its stage: never a company or user: those are not
    bounded.
    """

    def __init__(
        self,
        spans: trace.Tracer,
        meter: metrics.Meter,
        processes: Mapping[str, str] | None = None,
        registry: Registry | None = None,
    ) -> None:
        self.tracer = spans
        self.meter = meter
        self.registry = registry
        self.processes = {**(registry.versions if registry is not None else {}), **(processes or {})}
        self.executions = meter.create_counter(
            "process.executions", unit="{execution}", description="Executions of a business process, by outcome."
        )
        self.duration = meter.create_histogram(
            "process.execution.duration",
            unit="s",
            description="Duration of an execution of a business process.",
            explicit_bucket_boundaries_advisory=DURATION_BOUNDS,
        )
        self.stage_duration = meter.create_histogram(
            "process.stage.duration",
            unit="s",
            description="Duration of one stage of a business process.",
            explicit_bucket_boundaries_advisory=DURATION_BOUNDS,
        )
        self.request_duration = meter.create_histogram(
            "http.server.request.duration",
            unit="s",
            description="Duration of HTTP server requests.",
            explicit_bucket_boundaries_advisory=REQUEST_BOUNDS,
        )
        self.active_requests = meter.create_up_down_counter(
            "http.server.active_requests", unit="{request}", description="Number of active HTTP server requests."
        )
        self._declared: set[tuple[str, str]] = set()
        self._lock = threading.Lock()
        for process_id, version in self.processes.items():
            self.declare(process_id, version)

    def declare(self, process_id: str, version: str) -> None:
        """Start the process's counters at zero: `rate()` cannot see the first error of a counter that begins at 1."""
        key = (process_id, version)
        if key in self._declared:
            return
        with self._lock:
            if key in self._declared:
                return
            self._declared.add(key)
        if self.registry is not None:
            self.registry.tell(process_id, version)
        for status in STATUSES:
            self.executions.add(0, process_labels(process_id, version, status))

    def compare(self) -> None:
        """Warn of decorated processes that the registry does not know, or knows with another version."""
        if self.registry is not None:
            for process_id, version in sorted(decorated, key=str):
                self.registry.tell(process_id, version or self.processes.get(process_id))


def process_labels(process_id: str, version: str, status: str) -> dict[str, str]:
    return {"process.id": process_id, "process.version": version, "process.status": status}


_active: Runtime | None = None


def activate(runtime: Runtime | None) -> None:
    """Make ``runtime`` the one in use; None returns to OpenTelemetry's globals."""
    global _active
    _active = runtime


def active() -> Runtime:
    """The runtime of the last `setup()`; before it one on OpenTelemetry's globals, idle until configured."""
    global _active
    if _active is None:
        _active = Runtime(trace.get_tracer(SCOPE), metrics.get_meter(SCOPE))
    return _active


def tracer() -> trace.Tracer:
    """The tracer in use, for spans that are neither process nor stage: calls of a database, of another service."""
    return active().tracer
