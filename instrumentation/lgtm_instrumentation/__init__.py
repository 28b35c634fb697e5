"""Telemetry of a service's processes, on OpenTelemetry's SDK and standard names.

    telemetry = setup("council-api", "2.1.0", processes={"council_deliberation_3stage": "2.1.0"})

    with process("council_deliberation_3stage", company_id=company.id):
        with stage("rank"):
            ...

Both are context managers and decorators, sync and async. Each execution is a span with its stages as children, one
count, one duration with an exemplar that leads to the trace, and a JSON log line at its start and at its end.
"""

from lgtm_instrumentation.asgi import RequestTelemetry
from lgtm_instrumentation.health import Check, CheckResult, Health, Report
from lgtm_instrumentation.helpers import (
    Lookup,
    cache,
    consume,
    observe_pool,
    observe_queue,
    produce,
    request_context,
    webhook,
)
from lgtm_instrumentation.http import Capture, Response
from lgtm_instrumentation.logs import JsonFormatter
from lgtm_instrumentation.processes import (
    Execution,
    Process,
    Stage,
    annotate,
    current_execution,
    is_timeout,
    process,
    stage,
)
from lgtm_instrumentation.redaction import Redactor
from lgtm_instrumentation.registry import Registered, Registry
from lgtm_instrumentation.runtime import request_id, tracer
from lgtm_instrumentation.telemetry import Delivery, Telemetry, setup
from lgtm_instrumentation.wsgi import WsgiTelemetry

__all__ = [
    "Capture",
    "Check",
    "CheckResult",
    "Delivery",
    "Execution",
    "Health",
    "JsonFormatter",
    "Lookup",
    "Process",
    "Redactor",
    "Registered",
    "Registry",
    "Report",
    "RequestTelemetry",
    "Response",
    "Stage",
    "Telemetry",
    "WsgiTelemetry",
    "annotate",
    "cache",
    "consume",
    "current_execution",
    "is_timeout",
    "observe_pool",
    "observe_queue",
    "process",
    "produce",
    "request_context",
    "request_id",
    "setup",
    "stage",
    "tracer",
    "webhook",
]
