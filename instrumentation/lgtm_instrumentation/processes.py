"""Processes and their stages, as context managers and decorators, sync and async."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, cast

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from lgtm_instrumentation import runtime

P = ParamSpec("P")
R = TypeVar("R")
Value = str | bool | int | float

_logger = logging.getLogger("lgtm_instrumentation.process")
_current: ContextVar[Execution | None] = ContextVar("lgtm_execution", default=None)
_stage: ContextVar[str | None] = ContextVar("lgtm_stage", default=None)

UNKNOWN_VERSION = "unknown"


def is_timeout(error: BaseException) -> bool:
    """Whether an exception means that something took too long.

    Besides TimeoutError these are the exceptions of HTTP and model clients that call themselves so without deriving
    from it, and a cancellation: whoever awaited the process stopped waiting.
    """
    if isinstance(error, (TimeoutError, asyncio.CancelledError)):
        return True
    return any(
        cls.__name__.endswith(("Timeout", "TimeoutError", "TimeoutException", "TimeoutExpired")) for cls in type(error).__mro__
    )


def error_type(error: BaseException) -> str:
    """The exception's class, with its module unless it is a built-in."""
    cls = type(error)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def attribute_name(name: str) -> str:
    """``company_id`` → ``company.id``: a keyword argument cannot have the dot of the standard's attribute names."""
    return f"{name[:-3]}.id" if name.endswith("_id") and len(name) > 3 else name


class Execution:
    """One run of a process."""

    def __init__(self, process_id: str, version: str, context: Mapping[str, Value], span: trace.Span) -> None:
        self.process_id = process_id
        self.version = version
        self.span = span
        self.attributes: dict[str, Value] = dict(context)
        """The business context by attribute name, such as ``company.id``."""
        self.status = "success"
        self.error_type: str | None = None
        self.error_message: str | None = None
        self.failed_stage: str | None = None
        """The stage in which it failed, where it failed in one."""
        self._recorded: BaseException | None = None
        self._recorded_in: str | None = None

    def annotate(self, **business_context: Value | None) -> None:
        """Add business context that became known on the way; spans, errors and log lines from here on carry it."""
        for name, value in business_context.items():
            if value is not None:
                self.attributes[attribute_name(name)] = value
                self.span.set_attribute(attribute_name(name), value)

    def fail(self, kind: str, message: str = "", *, timeout: bool = False) -> None:
        """Mark the execution as failed without an exception: ``kind`` becomes its ``error.type``."""
        self.status = "timeout" if timeout else "error"
        self.error_type = kind
        self.error_message = message
        self.failed_stage = _stage.get()

    def _record(self, error: BaseException, span: trace.Span, stage: str | None = None) -> None:
        # One exception passes through the stage and then the process; its stack trace is wanted once.
        if self._recorded is not error:
            self._recorded, self._recorded_in = error, stage
            span.record_exception(error, attributes=self.attributes)

    def _end_with(self, error: BaseException, span: trace.Span) -> None:
        self.fail(error_type(error), str(error), timeout=is_timeout(error))
        # What ends the process may have another error of a stage as its cause: a time-out begins as a cancellation.
        cause: BaseException | None = error
        while cause is not None and cause is not self._recorded:
            cause = cause.__cause__ or cause.__context__
        self.failed_stage = self._recorded_in if cause is not None else None
        self._record(error, span)


def current_execution() -> Execution | None:
    """The execution that the running code belongs to."""
    return _current.get()


def annotate(**business_context: Value | None) -> None:
    """Add business context to the current execution; outside of one it does nothing."""
    execution = _current.get()
    if execution is not None:
        execution.annotate(**business_context)


def log_fields() -> dict[str, Value]:
    """Attributes that a log line inherits from the execution and stage it is written in."""
    execution = _current.get()
    if execution is None:
        return {}
    fields: dict[str, Value] = {"process.id": execution.process_id, "process.version": execution.version}
    running = _stage.get()
    if running is not None:
        fields["process.stage"] = running
    fields.update(execution.attributes)
    return fields


def _request() -> dict[str, Value]:
    request = runtime.request_id.get()
    return {} if request is None else {"request.id": request}


class _Scope:
    """What processes and stages have in common: one instance is one run, a decorated function makes one per call."""

    def _again(self) -> _Scope:
        raise NotImplementedError

    def _decorates(self) -> None:
        """Told that it is a decorator."""

    def _enter(self, depth: int) -> None:
        raise NotImplementedError

    def _exit(self, error: BaseException | None, depth: int) -> None:
        raise NotImplementedError

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate a function or a coroutine function.

        A function that returns an awaitable without being a coroutine function ends when it has returned: decorate what
        it awaits.

        Raises TypeError for a generator, whose body runs after the call has returned.
        """
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"{function.__qualname__} is a generator: it runs after the decorator ends; the context manager")
        self._decorates()
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def awaited(*args: P.args, **kwargs: P.kwargs) -> Any:
                scope = self._again()
                scope._enter(depth=2)
                try:
                    result = await function(*args, **kwargs)
                except BaseException as error:
                    scope._exit(error, depth=2)
                    raise
                scope._exit(None, depth=2)
                return result

            return cast("Callable[P, R]", awaited)

        @functools.wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> R:
            scope = self._again()
            scope._enter(depth=2)
            try:
                result = function(*args, **kwargs)
            except BaseException as error:
                scope._exit(error, depth=2)
                raise
            scope._exit(None, depth=2)
            return result

        return called


class Process(_Scope):
    """Made by :func:`process`."""

    def __init__(self, process_id: str, version: str | None, business_context: Mapping[str, Value | None]) -> None:
        self.process_id = process_id
        self.version = version
        self.business_context = business_context
        self._execution: Execution | None = None
        self._started = 0.0
        self._tokens: tuple[Token[Execution | None], Token[str | None], Token[otel_context.Context]] | None = None

    def _decorates(self) -> None:
        runtime.decorated.add((self.process_id, self.version))

    def _again(self) -> Process:
        return Process(self.process_id, self.version, self.business_context)

    def _enter(self, depth: int) -> None:
        if self._execution is not None:
            raise RuntimeError(f"process({self.process_id!r}) is already running; make a new one for each execution")
        instruments = runtime.active()
        version = self.version or instruments.processes.get(self.process_id, UNKNOWN_VERSION)
        instruments.declare(self.process_id, version)
        outer = _current.get()
        attributes: dict[str, Value] = dict(outer.attributes) if outer is not None else {}
        attributes.update((attribute_name(k), v) for k, v in self.business_context.items() if v is not None)
        span = instruments.tracer.start_span(
            self.process_id,
            kind=SpanKind.INTERNAL,
            attributes={"process.id": self.process_id, "process.version": version, **_request(), **attributes},
        )
        self._execution = Execution(self.process_id, version, attributes, span)
        self._tokens = (
            _current.set(self._execution),
            _stage.set(None),
            otel_context.attach(trace.set_span_in_context(span)),
        )
        self._started = time.perf_counter()
        _logger.info("%s started", self.process_id, extra={"event": "process.started"}, stacklevel=depth + 1)

    def _exit(self, error: BaseException | None, depth: int) -> None:
        execution, tokens = self._execution, self._tokens
        if execution is None or tokens is None:
            return
        elapsed = time.perf_counter() - self._started
        span = execution.span
        if error is not None:
            execution._end_with(error, span)
        success = execution.status == "success"
        span.set_attribute("process.status", execution.status)
        span.set_attribute("process.success", success)
        fields: dict[str, Any] = {
            "event": "process.finished",
            "process.status": execution.status,
            "duration_seconds": round(elapsed, 6),
        }
        if not success:
            kind = execution.error_type or "error"
            span.set_attribute("error.type", kind)
            span.set_status(Status(StatusCode.ERROR, execution.error_message or kind))
            fields.update({"error.type": kind, "error.message": execution.error_message})
            if execution.failed_stage is not None:
                # On the line only: among spans, those with a stage are stages.
                fields["process.stage"] = execution.failed_stage
        instruments = runtime.active()
        labels = runtime.process_labels(self.process_id, execution.version, execution.status)
        # While the span is current: the exemplar of both points to it.
        instruments.executions.add(1, labels)
        instruments.duration.record(elapsed, labels)
        if success:
            _logger.info("%s succeeded in %.3f s", self.process_id, elapsed, extra=fields, stacklevel=depth + 1)
        else:
            outcome = "timed out" if execution.status == "timeout" else "failed"
            _logger.error(
                "%s %s after %.3f s: %s",
                self.process_id,
                outcome,
                elapsed,
                execution.error_message or execution.error_type,
                extra=fields,
                stacklevel=depth + 1,
            )
        otel_context.detach(tokens[2])
        _stage.reset(tokens[1])
        _current.reset(tokens[0])
        span.end()
        self._execution = None
        self._tokens = None

    def __enter__(self) -> Execution:
        self._enter(depth=2)
        return cast("Execution", self._execution)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._exit(error, depth=2)

    async def __aenter__(self) -> Execution:
        self._enter(depth=2)
        return cast("Execution", self._execution)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._exit(error, depth=2)


class Stage(_Scope):
    """Made by :func:`stage`."""

    def __init__(self, name: str, attributes: Mapping[str, Value | None]) -> None:
        self.name = name
        self.attributes = attributes
        self._span: trace.Span | None = None
        self._started = 0.0
        self._tokens: tuple[Token[str | None], Token[otel_context.Context]] | None = None

    def _again(self) -> Stage:
        return Stage(self.name, self.attributes)

    def _enter(self, depth: int) -> None:
        if self._span is not None:
            raise RuntimeError(f"stage({self.name!r}) is already running; make a new one for each execution")
        attributes: dict[str, Value] = {"process.stage": self.name, **_request()}
        execution = _current.get()
        if execution is not None:
            attributes.update({"process.id": execution.process_id, "process.version": execution.version})
            attributes.update(execution.attributes)
        attributes.update((attribute_name(k), v) for k, v in self.attributes.items() if v is not None)
        self._span = runtime.active().tracer.start_span(self.name, kind=SpanKind.INTERNAL, attributes=attributes)
        self._tokens = (_stage.set(self.name), otel_context.attach(trace.set_span_in_context(self._span)))
        self._started = time.perf_counter()

    def _exit(self, error: BaseException | None, depth: int) -> None:
        span, tokens = self._span, self._tokens
        if span is None or tokens is None:
            return
        elapsed = time.perf_counter() - self._started
        execution = _current.get()
        if error is not None:
            if execution is not None:
                execution._record(error, span, self.name)
            else:
                span.record_exception(error)
            span.set_attribute("error.type", error_type(error))
            span.set_status(Status(StatusCode.ERROR, str(error) or error_type(error)))
        # A stage outside of any process is a span and nothing else: a metric without its process answers no question.
        if execution is not None:
            runtime.active().stage_duration.record(elapsed, {"process.id": execution.process_id, "process.stage": self.name})
        otel_context.detach(tokens[1])
        _stage.reset(tokens[0])
        span.end()
        self._span = None
        self._tokens = None

    def __enter__(self) -> Stage:
        self._enter(depth=2)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._exit(error, depth=2)

    async def __aenter__(self) -> Stage:
        self._enter(depth=2)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._exit(error, depth=2)


def process(process_id: str, *, version: str | None = None, **business_context: Value | None) -> Process:
    """One execution of a business process: ``with process("user_authentication", company_id=…) as execution:``.

    The span carries ``process.id``, ``process.version``, ``process.status`` (success, error or timeout),
    ``process.success`` and the business context; ``company_id`` becomes ``company.id``. ``version`` defaults to the
    one given to ``setup(processes=…)``. An exception passes through unchanged.
    """
    return Process(process_id, version, business_context)


def stage(name: str, **attributes: Value | None) -> Stage:
    """One stage of the running process: ``with stage("rank"):``."""
    return Stage(name, attributes)
