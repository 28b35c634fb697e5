"""Log lines: JSON for people and files, OTLP for the collector, both from the same standard ``logging`` call.

Fields beyond the message are given as ``extra={"event": "login.rejected", "attempts": 3}``. Secrets and personal data are
masked in both, see :mod:`lgtm_instrumentation.redaction`.
"""

from __future__ import annotations

import json
import logging
import time
from datetime import UTC, datetime
from typing import Any

from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider

from lgtm_instrumentation.processes import error_type, log_fields
from lgtm_instrumentation.redaction import Redactor
from lgtm_instrumentation.runtime import request_id

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}

# The keys every line has, in the order in which a person reads them.
_HEAD = (
    "timestamp", "level", "message", "logger", "function", "line", "service", "version", "environment", "request_id",
    "trace_id", "span_id", "event",
)  # fmt: skip

_SEVERITIES = (
    (logging.CRITICAL, SeverityNumber.FATAL, "FATAL"),
    (logging.ERROR, SeverityNumber.ERROR, "ERROR"),
    (logging.WARNING, SeverityNumber.WARN, "WARN"),
    (logging.INFO, SeverityNumber.INFO, "INFO"),
    (logging.NOTSET, SeverityNumber.DEBUG, "DEBUG"),
)


class _Line:
    """What a record says, masked: worked out once, for however many handlers it passes."""

    __slots__ = ("body", "event", "extras", "inherited", "redact")

    def __init__(self, record: logging.LogRecord, redact: Redactor) -> None:
        self.redact = redact
        self.body = redact.text(record.getMessage())
        extras = {k: v for k, v in vars(record).items() if k not in _STANDARD and not k.startswith("_")}
        self.event = extras.pop("event", None)
        self.inherited = redact.fields(log_fields())
        self.extras = {**redact.fields(_exception(record)), **redact.fields(extras)}


def _line(record: logging.LogRecord, redact: Redactor) -> _Line:
    known: _Line | None = vars(record).get("_lgtm_line")
    if known is None or known.redact is not redact:
        known = record._lgtm_line = _Line(record, redact)
    return known


def _exception(record: logging.LogRecord) -> dict[str, Any]:
    if not record.exc_info or record.exc_info[1] is None:
        return {}
    error = record.exc_info[1]
    return {
        "exception.type": error_type(error),
        "exception.message": str(error),
        "exception.stacktrace": logging.Formatter().formatException(record.exc_info),
    }


class JsonFormatter(logging.Formatter):
    """One JSON object per line.

    Always has timestamp (UTC, RFC 3339), level, message, logger, function, line, service, version, environment,
    request_id, trace_id, span_id and event (null where there is none); then the fields of the running process and stage
    and of the event itself, dots in their names replaced by underscores. A field named like one of these gets a leading
    underscore.
    """

    def __init__(self, service: str, version: str, environment: str, redact: Redactor | None = None) -> None:
        super().__init__()
        self._redact = redact or Redactor()
        self._service = {"service": service, "version": version, "environment": environment}

    def format(self, record: logging.LogRecord) -> str:
        said = _line(record, self._redact)
        span = trace.get_current_span().get_span_context()
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")[:-6] + "Z",
            "level": record.levelname,
            "message": said.body,
            "logger": record.name,
            "function": record.funcName,
            "line": record.lineno,
            **self._service,
            "request_id": request_id.get(),
            "trace_id": trace.format_trace_id(span.trace_id) if span.is_valid else None,
            "span_id": trace.format_span_id(span.span_id) if span.is_valid else None,
            "event": said.event,
        }
        for source in (said.inherited, said.extras):
            for name, value in source.items():
                key = name.replace(".", "_")
                line[f"_{key}" if key in _HEAD else key] = value
        return json.dumps(line, default=str, ensure_ascii=False)


class OtlpHandler(logging.Handler):
    """Hands log records to OpenTelemetry, with the running span, execution and request.

    The body is the message; everything else is an attribute. Records of OpenTelemetry and of the HTTP client that it
    exports with are left out, since sending them would make more of them.
    """

    _OWN = ("opentelemetry", "urllib3", "requests", "lgtm_instrumentation.telemetry")

    def __init__(self, provider: LoggerProvider, redact: Redactor | None = None) -> None:
        super().__init__()
        self._redact = redact or Redactor()
        self._provider = provider

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith(self._OWN):
            return
        try:
            number, text = next((n, t) for level, n, t in _SEVERITIES if record.levelno >= level)
            attributes: dict[str, Any] = {
                "code.function.name": record.funcName,
                "code.line.number": record.lineno,
                "logger": record.name,
            }
            if (request := request_id.get()) is not None:
                attributes["request.id"] = request
            said = _line(record, self._redact)
            if said.event is not None:
                attributes["event"] = said.event
            attributes.update(said.inherited)
            attributes.update(
                (k, v if isinstance(v, (str, bool, int, float)) else str(v)) for k, v in said.extras.items() if v is not None
            )
            self._provider.get_logger(record.name).emit(
                LogRecord(
                    timestamp=int(record.created * 1e9),
                    observed_timestamp=time.time_ns(),
                    severity_number=number,
                    severity_text=text,
                    body=said.body,
                    attributes=attributes,
                )
            )
        except Exception:  # logging's own rule: a log line that cannot be written never stops the program
            self.handleError(record)
