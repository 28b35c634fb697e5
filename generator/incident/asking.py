"""Prometheus, Tempo and Loki are asked all at once; what does not answer in time is said to be missing."""

from __future__ import annotations

import base64
import difflib
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from generator import deploy, names
from generator.errors import LgtmError
from generator.incident.answer import LOG_LIMIT, SEARCH_LIMIT, Alert, Execution, Incident, LogGroup, Slo, SlowTrace, Stage
from generator.project import Project
from generator.servers import Grafana, Loki, Prometheus, Tempo, UnreachableError

T = TypeVar("T")

# Seconds from the start of the program to what is known by then: the answer is to be read within five.
DEADLINE = 3.5
# A machine that takes all of that for the start itself still asks this long.
_AT_LEAST = 1.5
# Some executions are better than none, and without their stages too: the share of the time by which there is what has come.
_SEARCH_SHARE = 0.65
_STAGES_SHARE = 0.85
_GRAFANA_SECONDS = 1.0
_SHOWN_EXECUTIONS = 10
_SHOWN_FAILED = 7
_SHOWN_LOGS = 10
_SHOWN_TRACES = 5
_SHOWN_COMPANIES = 5
_SLOW_LIMIT = 50
# Labels of slo:error_budget:ratio that say something about the SLO; what else is on it are groups (`by`).
_METADATA = frozenset(
    {"__name__", "service", "slo", "owner", "tier", "sli", "objective", "window", "title", "policy", "minimum_events", "unit"}
)


class _Asker:
    def __init__(
        self, project: Project, service: str, at: float, window: float, company: str | None, within: float | None = None
    ) -> None:
        self.project, self.service, self.at, self.company = project, service, at, company
        self.start, self.end = at - window, min(at + window, time.time())
        self.window = window
        self.grafana: Future[bool] = Future()
        self._began = time.monotonic()
        self._seconds = within if within is not None else max(_AT_LEAST, DEADLINE - _age())
        # Whom there are executions of, where there is none of the company that was asked for.
        self.companies: list[str] = []
        # Parts that came without the rest: what is missing of them, in words.
        self.incomplete: list[str] = []

    def left(self, share: float = 1.0) -> float:
        """Seconds that are left of the time for the answer, or of a share of it."""
        return max(0.05, share * self._seconds - (time.monotonic() - self._began))

    def late(self, server: str) -> str:
        """That a server took longer than there was time."""
        return f"{server} did not answer within {self._seconds:.1f} s"

    # Prometheus

    def _range(self, promql: str, step: float) -> list[dict[str, Any]]:
        client = Prometheus(self.project.url("prometheus"), timeout=self.left())
        try:
            answer = client.json(
                "/api/v1/query_range", query=promql, start=f"{self.start:.3f}", end=f"{self.end:.3f}", step=f"{step:.0f}"
            )
        finally:
            client.close()
        rows: list[dict[str, Any]] = answer["data"]["result"]
        return rows

    def slos(self) -> list[Slo]:
        selector = f"{{service={json.dumps(self.service)}}}"
        soon = min(self.at + 60, time.time())
        span = max(60, int(self.end - self.start))

        def ask(promql: str, at: float) -> list[tuple[dict[str, str], float]]:
            return deploy.query(self.project, promql, at=at, timeout=self.left())

        about = {labels["slo"]: (labels, value) for labels, value in ask(names.ERROR_BUDGET + selector, soon)}
        ratio = names.error_ratio("5m")
        at_minute = _by_identity(ask(ratio + selector, soon))
        worst = _by_identity(ask(f"max_over_time({ratio}{selector}[{span}s])", self.end))
        remaining = _by_identity(ask(names.BUDGET_REMAINING + selector, soon))
        found = []
        for key in sorted({*at_minute, *worst, *remaining}):
            labels = dict(key)
            slo = labels.pop("slo", "")
            metadata, budget = about.get(slo, ({}, 0.0))
            highest = worst.get(key)
            found.append(
                Slo(
                    slo,
                    metadata.get("title", slo),
                    metadata.get("objective", ""),
                    {k: v for k, v in labels.items() if k not in _METADATA},
                    at_minute.get(key),
                    highest,
                    highest / budget if highest is not None and budget else None,
                    remaining.get(key),
                )
            )
        return sorted(found, key=lambda s: (-(s.burn or 0), s.slo))

    def alerts(self) -> list[Alert]:
        found = []
        for row in self._range('ALERTS{severity!="none"}', 15):
            labels, values = row["metric"], row["values"]
            found.append(
                Alert(
                    labels.get("alertname", ""),
                    labels.get("service", labels.get("job", "")),
                    labels.get("slo", ""),
                    labels.get("severity", ""),
                    labels.get("alertstate", ""),
                    float(values[0][0]),
                    float(values[-1][0]),
                )
            )
        firing = {(a.name, a.service, a.slo, a.severity) for a in found if a.state == "firing"}
        kept = [a for a in found if a.state == "firing" or (a.name, a.service, a.slo, a.severity) not in firing]
        return sorted(kept, key=lambda a: (a.service != self.service, a.state != "firing", a.start, a.name))

    def deployment(self) -> deploy.Deployment | None:
        events = deploy.before(self.project, self.service, self.at)
        return events[0] if events else None

    # Tempo

    def _search(self, client: Tempo, traceql: str, limit: int, start: float, end: float) -> list[dict[str, Any]]:
        answer = client.json(
            "/api/search", q=traceql, limit=str(limit), spss="10", start=str(int(start)), end=str(int(end) + 1)
        )
        traces: list[dict[str, Any]] = answer.get("traces") or []
        return traces

    def _ours(self, *more: str) -> str:
        terms = [f"resource.service.name={json.dumps(self.service)}", *more]
        if self.company is not None:
            terms.append(f"span.company.id={json.dumps(self.company)}")
        return " && ".join(terms)

    def executions(self) -> tuple[list[Execution], int, int]:
        """Failed ones of the window first, then those of the minute; how many were seen, and how many of them failed."""
        select = "| select(span.process.id, span.process.version, span.process.status, span.company.id, span.error.type)"
        bad = f"{{ {self._ours('span.process.status != nil', 'span.process.status != `success`')} }} {select}"
        everything = f"{{ {self._ours('span.process.status != nil')} }} {select}"

        def search(traceql: str, start: float, end: float) -> list[dict[str, Any]]:
            client = Tempo(self.project.url("tempo"), timeout=self.left())
            try:
                return self._search(client, traceql, SEARCH_LIMIT, start, end)
            finally:
                client.close()

        both = {
            "the failed executions": _in_background(_quietly, search, bad, self.start, self.end),
            "the executions of the minute": _in_background(
                _quietly, search, everything, self.at - 60, min(self.at + 60, self.end)
            ),
        }
        logged = _in_background(_quietly, self._logged)
        found: dict[tuple[str, str], Execution] = {}
        errors = {}
        for what, future in both.items():
            rows, error = _in_time(future, self.left(_SEARCH_SHARE), self.late("Tempo"))
            if error is not None:
                errors[what] = error
            for execution in (execution for row in rows or () for execution in self._executions_of(row)):
                found.setdefault((execution.trace_id, execution.process), execution)
        from_logs = _in_time(logged, self.left(_SEARCH_SHARE), self.late("Loki"))[0] or {}
        if len(errors) == len(both):
            # Executions say in the logs how they ended, too.
            if not from_logs:
                raise LgtmError(next(iter(errors.values())))
            found.update(from_logs)
            errors = {"the executions that succeeded, and all stages": next(iter(errors.values()))}
        self.incomplete += [f"{what}: {error}" for what, error in errors.items()]
        for key, execution in found.items():
            if (line := from_logs.get(key)) is not None:
                found[key] = replace(execution, stage=line.stage)
        if not found and self.company is not None:
            self.companies = self._companies()
        everyone = sorted(found.values(), key=lambda e: (e.status == "success", abs(e.start - self.at)))
        failed = sum(e.status != "success" for e in everyone)
        # Mostly what failed, and some of what did not, since the contrast tells.
        shown = everyone[: min(failed, _SHOWN_FAILED)]
        shown += [e for e in everyone if e.status == "success"][: _SHOWN_EXECUTIONS - len(shown)]
        shown += everyone[len(shown) : _SHOWN_EXECUTIONS] if len(shown) < _SHOWN_EXECUTIONS else []
        shown = list({(e.trace_id, e.process): e for e in shown}.values())
        # Three at a time: Tempo shares its processors with the others that are asked.
        columns = [_in_background(lambda part: [self._with_stages(e) for e in part], shown[i::3]) for i in range(3)]
        detailed: dict[tuple[str, str], Execution] = {}
        for column in columns:
            try:
                for e in column.result(self.left(_STAGES_SHARE)):
                    detailed[e.trace_id, e.process] = e
            except FutureTimeoutError:
                continue
        shown = [detailed.get((e.trace_id, e.process), e) for e in shown]
        return sorted(shown, key=lambda e: (e.status == "success", e.start)), len(everyone), failed

    def _logged(self) -> dict[tuple[str, str], Execution]:
        """Executions that failed, by trace and process, out of the lines that they end with."""
        ended = self.log_query() + ' | event="process.finished" | process_status!="success"'
        found = {}
        for at, line, fields in self._lines(ended, SEARCH_LIMIT):
            took, trace_id = float(fields.get("duration_seconds") or 0), fields.get("trace_id", "")
            kind, told = fields.get("error_type"), fields.get("error_message") or line
            execution = Execution(
                fields.get("process_id", ""),
                fields.get("process_version", ""),
                fields.get("process_status", "error"),
                fields.get("company_id"),
                at - took,
                took,
                trace_id,
                f"{kind}: {told}" if kind else told,
                (),
                self.trace_link(trace_id),
                fields.get("process_stage"),
            )
            found[execution.trace_id, execution.process] = execution
        return found

    def _executions_of(self, row: Mapping[str, Any]) -> list[Execution]:
        # Tempo leaves out leading zeros of ids.
        trace_id = str(row["traceID"]).zfill(32)
        found = []
        for span_set in row.get("spanSets") or [row.get("spanSet") or {}]:
            for span in span_set.get("spans", ()):
                values = _values(span.get("attributes", ()))
                if "process.id" not in values:
                    continue
                start = int(span["startTimeUnixNano"]) / 1e9
                found.append(
                    Execution(
                        str(values["process.id"]),
                        str(values.get("process.version", "")),
                        str(values.get("process.status", "")),
                        str(values["company.id"]) if "company.id" in values else None,
                        start,
                        int(span.get("durationNanos", 0)) / 1e9,
                        trace_id,
                        str(values["error.type"]) if "error.type" in values else None,
                        (),
                        self.trace_link(trace_id),
                    )
                )
        return found

    def _with_stages(self, execution: Execution) -> Execution:
        if self.left(_STAGES_SHARE) < 0.1:
            return execution
        client = Tempo(self.project.url("tempo"), timeout=self.left(_STAGES_SHARE))
        try:
            # With a time, for Tempo opens every block that it has otherwise.
            around = {"start": str(int(execution.start) - 60), "end": str(int(execution.start + execution.duration) + 60)}
            spans = _spans(client.json(f"/api/v2/traces/{execution.trace_id}", **around))
        except LgtmError:
            return execution
        finally:
            client.close()
        own = next(
            (s for s in spans if s["values"].get("process.id") == execution.process and "process.status" in s["values"]), None
        )
        stages = [
            s
            for s in spans
            if "process.stage" in s["values"]
            and (own is None or s["parent"] == own["id"] or s["values"].get("process.id") == execution.process)
        ]
        stages.sort(key=lambda s: s["start"])
        told = own["message"] if own is not None and own["message"] else None
        found = tuple(
            Stage(str(s["values"]["process.stage"]), s["duration"], "error" if s["failed"] else "ok", s["message"] or None)
            for s in stages
        )
        failed = execution.stage or next((stage.name for stage in found if stage.status == "error"), None)
        return replace(
            execution,
            error=f"{execution.error}: {told}" if execution.error and told else execution.error or told,
            stages=found,
            stage=failed if execution.status != "success" else None,
        )

    def _companies(self) -> list[str]:
        """The companies that the service worked for in the window, those whose names are most alike first."""
        client = Tempo(self.project.url("tempo"), timeout=self.left(_STAGES_SHARE))
        window = {"start": str(int(self.start)), "end": str(int(self.end) + 1)}
        try:
            of = f"{{ resource.service.name={json.dumps(self.service)} }}"
            answer = client.json("/api/v2/search/tag/span.company.id/values", q=of, limit="200", **window)
            known = [str(one.get("value", "")) for one in answer.get("tagValues") or ()]
        except LgtmError:
            return []
        finally:
            client.close()
        alike = difflib.get_close_matches(str(self.company), known, _SHOWN_COMPANIES, 0)
        return [name for name in alike if name != self.company]

    def slowest(self) -> list[SlowTrace]:
        client = Tempo(self.project.url("tempo"), timeout=self.left())
        rows: list[dict[str, Any]] = []

        def slower_than(duration: str) -> list[dict[str, Any]]:
            return self._search(client, f"{{ {self._ours(f'traceDuration>{duration}')} }}", _SLOW_LIMIT, self.start, self.end)

        try:
            # A search returns any that match, not the slowest: ask for slower ones where there are too many, for less slow
            # ones until there are enough.
            rows = slower_than("2s")
            if len(rows) >= _SLOW_LIMIT and len(slower := slower_than("10s")) >= _SHOWN_TRACES:
                rows = slower
            for less in ("300ms", "0ms"):
                if len(rows) < _SHOWN_TRACES:
                    rows = slower_than(less)
        finally:
            client.close()
        rows.sort(key=lambda row: -int(row.get("durationMs", 0)))
        return [
            SlowTrace(
                str(row.get("rootTraceName", "")),
                int(row["startTimeUnixNano"]) / 1e9,
                int(row.get("durationMs", 0)) / 1000,
                trace_id := str(row["traceID"]).zfill(32),
                self.trace_link(trace_id),
            )
            for row in rows[:_SHOWN_TRACES]
        ]

    # Loki

    def log_query(self, *, everyone: bool = False) -> str:
        """The lines of the errors."""
        company = f" | company_id={json.dumps(self.company)}" if self.company is not None and not everyone else ""
        streams = f"{{service_name={json.dumps(self.service)},{names.NOT_ERRORS}}}"
        return f'{streams} | detected_level=~"{names.ERROR_LEVELS}"{company}'

    def _lines(self, query: str, limit: int) -> list[tuple[float, str, dict[str, str]]]:
        """The newest lines: Unix time, text, fields."""
        client = Loki(self.project.url("loki"), timeout=self.left())
        times = {"start": str(int(self.start * 1e9)), "end": str(int(self.end * 1e9))}
        try:
            answer = client.json("/loki/api/v1/query_range", query=query, limit=str(limit), direction="backward", **times)
        finally:
            client.close()
        streams = answer["data"]["result"]
        return [(int(at) / 1e9, line, stream["stream"]) for stream in streams for at, line in stream["values"]]

    def logs(self) -> tuple[list[LogGroup], int]:
        groups: dict[tuple[str, str], list[tuple[float, str, str | None]]] = {}
        for at, line, fields in self._lines(self.log_query(), LOG_LIMIT):
            groups.setdefault((_kind(fields), _place(fields)), []).append((at, line, fields.get("trace_id")))
        found = []
        for (kind, place), lines in groups.items():
            at, message, trace_id = max(lines, key=lambda one: one[0])
            link = self.trace_link(trace_id) if trace_id else None
            found.append(LogGroup(len(lines), message, at, trace_id, link, kind, place, min(lines, key=lambda one: one[0])[0]))
        found.sort(key=lambda g: (-g.count, -g.at))
        return found[:_SHOWN_LOGS], sum(g.count for g in found)

    def hurt(self) -> dict[str, int]:
        """How many executions of each company failed, of all companies: is it theirs, or the service's?"""
        failed = self.log_query(everyone=True) + ' | event="process.finished" | process_status!="success"'
        query = f"sum by (company_id) (count_over_time({failed} [{max(1, int(self.end - self.start))}s]))"
        client = Loki(self.project.url("loki"), timeout=self.left())
        try:
            rows = client.json("/loki/api/v1/query", query=query, time=str(int(self.end * 1e9)))["data"]["result"]
        finally:
            client.close()
        counts = {row["metric"].get("company_id", ""): int(float(row["value"][1])) for row in rows}
        return dict(sorted(counts.items(), key=lambda one: -one[1]))

    # Links

    def ask_grafana(self) -> bool:
        """Whether it runs: addresses lead into it then."""
        client = Grafana(self.project.url("grafana"), "", timeout=_GRAFANA_SECONDS)
        try:
            client.call("GET", "/api/health")
            return True
        except LgtmError:
            return False
        finally:
            client.close()

    def has_grafana(self) -> bool:
        """What `ask_grafana` found, as soon as it has."""
        try:
            return self.grafana.result(_GRAFANA_SECONDS)
        except FutureTimeoutError:
            return False

    def trace_link(self, trace_id: str) -> str:
        if not self.has_grafana():
            return f"{self.project.url('tempo')}/api/v2/traces/{trace_id}"
        return self._explore("tempo", {"queryType": "traceql", "query": trace_id})

    def links(self) -> dict[str, str]:
        """Where to go on: dashboards and logs in Grafana where it runs, else the servers' own answers."""
        around = f"from={int(self.start * 1000)}&to={int(self.end * 1000)}"
        grafana = self.project.url("grafana")
        if self.has_grafana():
            asked = f"&var-company={quote(self.company, safe='')}" if self.company is not None else ""
            return {
                "dashboard": f"{grafana}/d/{names.service_uid(self.service)}?{around}",
                "runbook": f"{grafana}/d/{names.runbook_uid(self.service)}?{around}",
                "incident": f"{grafana}/d/{names.INCIDENT_UID}?{around}{asked}",
                "logs": self._explore("loki", {"expr": self.log_query()}),
            }
        times = f"start={int(self.start * 1e9)}&end={int(self.end * 1e9)}"
        selector = f'slo:error_ratio:5m{{service="{self.service}"}}'
        span = f"start={self.start:.0f}&end={self.end:.0f}"
        return {
            "slos": f"{self.project.url('prometheus')}/api/v1/query_range?query={quote(selector)}&{span}&step=30",
            "logs": f"{self.project.url('loki')}/loki/api/v1/query_range?query={quote(self.log_query())}&{times}",
        }

    def _explore(self, source: str, query: Mapping[str, str]) -> str:
        pane = {
            "datasource": source,
            "queries": [{"refId": "A", "datasource": {"type": source, "uid": source}, **query}],
            "range": {"from": str(int(self.start * 1000)), "to": str(int(self.end * 1000))},
        }
        panes = quote(json.dumps({"a": pane}, separators=(",", ":")))
        return f"{self.project.url('grafana')}/explore?schemaVersion=1&panes={panes}&orgId=1"


# Who is asked for what.
_SERVERS = {
    "the executions": "Tempo",
    "the SLOs": "Prometheus",
    "the alerts": "Prometheus",
    "the error logs": "Loki",
    "who is hurt": "Loki",
    "the slowest traces": "Tempo",
    "the deployment before": "Prometheus",
}


def investigate(
    project: Project,
    service: str,
    at: datetime,
    *,
    company: str | None = None,
    window: float = 300.0,
    within: float | None = None,
) -> Incident:
    """Everything about ``service`` within ``window`` seconds of ``at``, in less than five seconds of the program's start.

    With ``within``, servers are waited for so many seconds instead.

    Raises LgtmError when no server answers at all.
    """
    began = time.monotonic()
    asker = _Asker(project, service, at.timestamp(), window, company, within)
    asker.grafana = _in_background(asker.ask_grafana)
    found = Incident(service, company, asker.at, asker.start, asker.end)
    asked: dict[str, Future[tuple[Any, str | None]]] = {
        what: _in_background(_quietly, ask)
        for what, ask in (
            ("the executions", asker.executions),
            ("the SLOs", asker.slos),
            ("the alerts", asker.alerts),
            ("the error logs", asker.logs),
            ("who is hurt", asker.hurt),
            ("the slowest traces", asker.slowest),
            ("the deployment before", asker.deployment),
        )
    }
    got: dict[str, Any] = {}
    for what, future in asked.items():
        value, error = _in_time(future, asker.left(), asker.late(_SERVERS[what]))
        if error is not None:
            found.missing.append(f"{what}: {error}")
        else:
            got[what] = value
    if not got:
        raise LgtmError("No server answers: " + "; ".join(found.missing), "Is the stack up? Run: lgtm status")
    found.slos = got.get("the SLOs", [])
    found.alerts = got.get("the alerts", [])
    found.executions, found.executions_seen, found.executions_failed = got.get("the executions", ([], 0, 0))
    found.logs, found.log_lines = got.get("the error logs", ([], 0))
    found.slowest = got.get("the slowest traces", [])
    found.hurt = got.get("who is hurt", {})
    found.deployment = got.get("the deployment before")
    found.companies = asker.companies
    found.missing += asker.incomplete
    found.links = asker.links()
    found.seconds = time.monotonic() - began
    return found


def _in_background(function: Callable[..., T], *arguments: Any) -> Future[T]:
    """On a thread of its own that keeps nobody: a pool's would be waited for when the program ends."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(function(*arguments))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True, name="incident").start()
    return future


def _in_time(future: Future[tuple[T | None, str | None]], left: float, late: str) -> tuple[T | None, str | None]:
    try:
        return future.result(left)
    except FutureTimeoutError:
        return None, late


def _age() -> float:
    """Seconds since this program began; the processor time that it has used where the system does not say."""
    try:
        # The 22nd field, counted after the name, which may hold spaces; both are on the clock that runs since the boot.
        began = int(Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - began / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return time.process_time()


def _kind(fields: Mapping[str, str]) -> str:
    """What is one error, as the page of errors has it."""
    for name in ("error_type", "exception_type"):
        if fields.get(name):
            return fields[name]
    if fields.get("http_response_status_code"):
        return f"HTTP {fields['http_response_status_code']}"
    return fields.get("event") or fields.get("logger") or fields.get("scope_name") or "untyped"


def _place(fields: Mapping[str, str]) -> str:
    """Where it is, as the page of errors has it."""
    if fields.get("process_id"):
        return ", ".join(part for part in (fields["process_id"], fields.get("process_stage", "")) if part)
    if fields.get("http_route"):
        return fields["http_route"]
    for name, line in (("code_function_name", "code_line_number"), ("function", "line")):
        if fields.get(name):
            return f"{fields[name]}:{fields.get(line, '')}"
    return fields.get("logger") or fields.get("scope_name") or "unknown"


def _quietly(ask: Callable[..., T], *arguments: Any) -> tuple[T | None, str | None]:
    try:
        return ask(*arguments), None
    except UnreachableError as error:
        if error.why.startswith("no answer within"):
            raise FutureTimeoutError from error
        return None, f"{error.server.title()} does not answer ({error.why})"
    except LgtmError as error:
        return None, error.message
    except (KeyError, TypeError, ValueError) as error:
        return None, f"an answer of another shape than expected ({type(error).__name__})"


def _by_identity(rows: list[tuple[dict[str, str], float]]) -> dict[tuple[tuple[str, str], ...], float]:
    return {
        tuple(sorted((k, v) for k, v in labels.items() if k == "slo" or k not in _METADATA)): value
        for labels, value in rows
        if value == value  # NaN: no event, no ratio
    }


def _values(attributes: Any) -> dict[str, Any]:
    return {a["key"]: next(iter((a.get("value") or {"": None}).values()), None) for a in attributes or ()}


def _spans(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The spans of a trace as Tempo's API has them, flat; durations in seconds, ids as hex."""
    found = []
    for resource in (answer.get("trace") or answer).get("resourceSpans") or ():
        for scope in resource.get("scopeSpans", ()):
            for span in scope.get("spans", ()):
                status = span.get("status") or {}
                start, end = int(span.get("startTimeUnixNano", 0)), int(span.get("endTimeUnixNano", 0))
                found.append(
                    {
                        "id": _hex(span.get("spanId")),
                        "parent": _hex(span.get("parentSpanId")),
                        "name": span.get("name", ""),
                        "start": start / 1e9,
                        "duration": (end - start) / 1e9,
                        "failed": status.get("code") in (2, "STATUS_CODE_ERROR"),
                        "message": status.get("message", ""),
                        "values": _values(span.get("attributes")),
                    }
                )
    return found


def _hex(value: str | None) -> str:
    try:
        return base64.b64decode(value or "", validate=True).hex()
    except ValueError:
        return str(value)
