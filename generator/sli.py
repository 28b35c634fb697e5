"""The kinds of service level indicator: for each its fields, and its errors and total as PromQL.

Both expressions are instant vectors with exactly the labels of ``by``, evaluated every 30 s. Their unit is events per
second for counters, and watched things (targets, probes) for gauges: only their ratio, and the sums of both over time,
mean anything. A kind is one class here, one test, and one entry in the reference.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from generator import promql
from generator.base import Base, Name, Query, Selector, Text, fault
from generator.names import LOG_ERRORS, LOG_TOTAL, PROBE_JOB
from generator.promql import quote
from generator.units import Duration, DurationField, Threshold, ThresholdField, percent, plain


def rate_range(interval: Duration) -> Duration:
    """The range of a raw counter's rate: one interval more than a multiple of 30 s, at least 60 s.

    Between the first and the last of its samples then lies a whole number of evaluations' steps, and every increment is
    seen by equally many evaluations: their sum is the number of events, and not one that depends on where in the range
    the events fell. Where no such range is short enough, it is five intervals.
    """
    for span in range(60, 241, 30):
        if span >= 2 * interval.seconds and span % interval.seconds == 0:
            return Duration(span + interval.seconds)
    return Duration(max(Decimal(60), 4 * interval.seconds) + interval.seconds)


@dataclass(frozen=True)
class Context:
    """What an SLI needs to know of the SLO that it belongs to.

    ``range`` is the range of the raw counters' rate, by ``rate_range``: long enough to survive a lost scrape and
    short enough not to delay a page. ``match`` are the matchers for selectors that do not name them themselves.
    ``probes`` gives each probe's interval and the duration above which it counts as failed; ``processes`` the SLA of
    each process of the registry that has one. ``slo`` is the SLO's name.
    """

    service: str
    by: tuple[str, ...]
    match: Mapping[str, str]
    range: Duration
    probes: Mapping[str, tuple[Duration, Duration | None]]
    slo: str = ""
    processes: Mapping[str, Duration | None] = field(default_factory=dict)

    @property
    def span_match(self) -> dict[str, str]:
        """Matchers for metrics that Tempo makes from spans: they know the service's name and no job."""
        return {"service": self.match.get("job", self.service).rpartition("/")[2]}

    def aggregate(self, operator: str, inner: str) -> str:
        """``sum by (region) (inner)``, or ``sum(inner)`` without groups."""
        return f"{operator} by ({', '.join(self.by)}) ({inner})" if self.by else f"{operator}({inner})"

    def rate(self, selector: str, match: Mapping[str, str] | None = None) -> str:
        """Events per second of a raw counter, summed over everything but the groups."""
        matchers = self.match if match is None else match
        return self.aggregate("sum", f"rate({promql.with_matchers(selector, matchers)}[{self.range}])")

    def last(self, selector: str) -> str:
        """The last value of a gauge, through a lost scrape, of each of its series."""
        return f"last_over_time({promql.with_matchers(selector, self.match)}[{self.range}])"


class Sli(Base):
    """One kind of SLI."""

    kind: ClassVar[str]
    # The field that a bare text stands for: `probe: database` is `probe: {name: database}`.
    shorthand: ClassVar[str | None] = None

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, data: object) -> object:
        return {cls.shorthand: data} if cls.shorthand and isinstance(data, str) else data

    def errors(self, context: Context) -> str:
        """PromQL for the bad events; present whenever ``total`` is, so that no error means 0 and not nothing."""
        raise NotImplementedError

    def total(self, context: Context) -> str:
        """PromQL for all events."""
        raise NotImplementedError

    def describe(self) -> str:
        """What counts as bad, as a phrase for people: "requests slower than 200ms"."""
        raise NotImplementedError

    def selectors(self) -> Mapping[str, str]:
        """The raw metrics that it reads, by field, for cross-checks."""
        return {}

    @property
    def weighted_by_traffic(self) -> bool:
        """Whether the events are requests (a quiet night then means little) and not time."""
        return True


class Ratio(Sli):
    """Bad events, or good ones, over all events: two counters."""

    kind = "ratio"

    errors_: Selector | None = Field(
        None, alias="errors", description="Counter of the bad events.", examples=['http_requests_total{code=~"5.."}']
    )
    good: Selector | None = Field(
        None,
        description="Counter of the good events, where no counter of bad ones exists.",
        examples=["jobs_succeeded_total"],
    )
    total_: Selector = Field(alias="total", description="Counter of all events.", examples=["http_requests_total"])

    @model_validator(mode="after")
    def _one_of(self) -> Ratio:
        if (self.errors_ is None) == (self.good is None):
            raise fault(
                "one-of",
                "a ratio needs either errors or good, and not both",
                "errors: counts the bad events, good: the good ones",
                field="good",
                against="errors",
            )
        return self

    def errors(self, context: Context) -> str:
        total = self.total(context)
        if self.errors_ is not None:
            return f"{context.rate(self.errors_)} or 0 * {total}"
        return f"clamp_min({total} - ({context.rate(str(self.good))} or 0 * {total}), 0)"

    def total(self, context: Context) -> str:
        return context.rate(self.total_)

    def describe(self) -> str:
        return f"{self.errors_} of {self.total_}" if self.errors_ else f"all but {self.good} of {self.total_}"

    def selectors(self) -> Mapping[str, str]:
        fields = {"errors": self.errors_, "good": self.good, "total": self.total_}
        return {name: value for name, value in fields.items() if value is not None}


def _slower(context: Context, histogram: str, match: Mapping[str, str], bound: Decimal) -> tuple[str, str]:
    """Errors and total of a native histogram: exact within its resolution for any threshold."""
    rate = context.rate(histogram, match)
    total = f"histogram_count({rate})"
    # Nothing observed is NaN / NaN; that is no error, so NaN is dropped and 0 takes its place.
    slow = f"({total} * (1 - histogram_fraction(-Inf, {plain(bound)}, {rate})) >= 0)"
    return f"{slow} or 0 * {total}", total


class Latency(Sli):
    """Events slower than a threshold, from a histogram. The threshold of a classic one must be one of its buckets."""

    kind = "latency"

    histogram: Selector = Field(
        description="The histogram's name, without _bucket.", examples=["http_request_duration_seconds"]
    )
    under: DurationField = Field(description="What counts as fast enough.", examples=["200ms"])
    native: bool = Field(False, description="Read the native histogram: then any threshold will do.", examples=[True])

    @model_validator(mode="after")
    def _checks(self) -> Latency:
        name = self.histogram.partition("{")[0]
        for suffix in ("_bucket", "_count", "_sum"):
            if name.endswith(suffix):
                raise fault(
                    "not-a-histogram",
                    "{value} is one series of a histogram",
                    f"write histogram: {name.removesuffix(suffix)}",
                    field="histogram",
                    value=name,
                )
        if not name:
            raise fault(
                "not-a-histogram",
                "the histogram needs a name",
                "write histogram: http_request_duration_seconds",
                field="histogram",
            )
        if self.under.seconds <= 0:
            raise fault("bad-duration", "nothing is faster than 0s", "write it as 200ms", field="under")
        return self

    def bound(self) -> Decimal:
        """The threshold in the histogram's unit, which its name tells: seconds, or milliseconds."""
        name = self.histogram.partition("{")[0]
        return self.under.seconds * 1000 if name.endswith(("_milliseconds", "_ms")) else self.under.seconds

    def errors(self, context: Context) -> str:
        if self.native:
            return _slower(context, self.histogram, context.match, self.bound())[0]
        fast = promql.rename(self.histogram, "_bucket", regex={"le": promql.bucket_pattern(self.bound())})
        return f"clamp_min({self.total(context)} - {context.rate(fast)}, 0)"

    def total(self, context: Context) -> str:
        if self.native:
            return _slower(context, self.histogram, context.match, self.bound())[1]
        return context.rate(promql.rename(self.histogram, "_count"))

    def quantile(self, context: Context, percentile: Decimal, window: Duration) -> str:
        """PromQL for a percentile (95 is the 95th) over a window, in the histogram's unit."""
        inside = self.histogram if self.native else promql.rename(self.histogram, "_bucket")
        rate = f"rate({promql.with_matchers(inside, context.match)}[{window}])"
        groups = [*context.by, *([] if self.native else ["le"])]
        by = f" by ({', '.join(groups)})" if groups else ""
        return f"histogram_quantile({plain(percentile / 100)}, sum{by} ({rate}))"

    def describe(self) -> str:
        return f"{self.histogram} above {self.under}"

    def selectors(self) -> Mapping[str, str]:
        return {"histogram": self.histogram}


class Boolean(Sli):
    """Time during which a gauge that is 1 or 0 was not 1, over every series that it has."""

    kind = "boolean"
    shorthand = "gauge"

    gauge: Selector = Field(description="A gauge: 1 is good, 0 is bad.", examples=['dependency_up{dependency="database"}'])

    def errors(self, context: Context) -> str:
        return context.aggregate("sum", f"1 - clamp({context.last(self.gauge)}, 0, 1)")

    def total(self, context: Context) -> str:
        return context.aggregate("count", context.last(self.gauge))

    def describe(self) -> str:
        return f"{self.gauge} is 0"

    def selectors(self) -> Mapping[str, str]:
        return {"gauge": self.gauge}

    @property
    def weighted_by_traffic(self) -> bool:
        return False


class Probe(Sli):
    """Time during which one of the service's own probes failed, or was slower than its ``slower_than``."""

    kind = "probe"
    shorthand = "name"

    name: Name = Field(description="A probe of the same service.", examples=["database"])

    def errors(self, context: Context) -> str:
        _, slower_than = context.probes[self.name]
        good = self._last("probe_success", context)
        if slower_than is not None:
            slow = self._last("probe_duration_seconds", context)
            good = f"{good} * ({slow} <= bool {slower_than.seconds:f})"
        return context.aggregate("sum", f"1 - {good}")

    def total(self, context: Context) -> str:
        return context.aggregate("count", self._last("probe_success", context))

    def _last(self, metric: str, context: Context) -> str:
        # The last result counts until the next one is due; a probe may run seldom, so the range is its own.
        interval, _ = context.probes[self.name]
        reach = Duration(max(interval.seconds * 2 + 5, context.range.seconds))
        matchers = f'job="{PROBE_JOB}",service={quote(context.service)},probe={quote(self.name)}'
        return f"last_over_time({metric}{{{matchers}}}[{reach}])"

    def describe(self) -> str:
        return f"probe {self.name} failed"

    @property
    def weighted_by_traffic(self) -> bool:
        return False


class Process(Sli):
    """Executions of a business process that failed, timed out, or took longer than its SLA."""

    kind = "process"
    shorthand = "id"

    id: Name = Field(description="The process's id.", examples=["user_authentication"])
    measure: Literal["success", "within_sla", "timeouts"] = Field(
        "success",
        description="What is bad: any execution without success, one slower than the SLA, or one that timed out.",
        examples=["within_sla"],
    )
    under: DurationField | None = Field(
        None, description="The SLA, where it is not the one of the registry under processes:.", examples=["2s"]
    )
    version: Text | None = Field(None, description="Only this version.", examples=["2.1.0"])
    source: Literal["metrics", "spans"] = Field(
        "metrics",
        alias="from",
        description="metrics, as lgtm_instrumentation emits them; or spans, for a service that only traces.",
        examples=["spans"],
    )

    def _matchers(self, **more: str) -> dict[str, str]:
        return {"process_id": self.id, **({"process_version": self.version} if self.version else {}), **more}

    def limit(self, context: Context) -> Duration:
        """The SLA. Raises KeyError when neither this nor the registry says one."""
        limit = self.under or context.processes.get(self.id)
        if limit is None:
            raise KeyError(self.id)
        return limit

    def errors(self, context: Context) -> str:
        total = self.total(context)
        if self.measure == "within_sla":
            bound = self.limit(context).seconds
            if self.source == "spans":
                return _slower(context, self._span_latency(), context.span_match, bound)[0]
            duration = _selector("process_execution_duration_seconds", self._matchers())
            fast = promql.rename(duration, "_bucket", regex={"le": promql.bucket_pattern(bound)})
            return f"clamp_min({total} - {context.rate(fast)}, 0)"
        bad = 'process_status="timeout"' if self.measure == "timeouts" else 'process_status!="success"'
        return f"{self._rate(context, bad)} or 0 * {total}"

    def total(self, context: Context) -> str:
        if self.measure == "within_sla":
            if self.source == "spans":
                return _slower(context, self._span_latency(), context.span_match, Decimal(1))[1]
            return context.rate(_selector("process_execution_duration_seconds_count", self._matchers()))
        return self._rate(context, None)

    def _rate(self, context: Context, extra: str | None) -> str:
        if self.source == "spans":
            # Stages carry the process's id too, but only the process's own span has a status.
            status = ",".join(part for part in (extra, 'process_status!=""') if part)
            return context.rate(_selector("traces_spanmetrics_calls_total", self._matchers(), status), context.span_match)
        return context.rate(_selector("process_executions_total", self._matchers(), extra))

    def _span_latency(self) -> str:
        return _selector("traces_spanmetrics_latency", self._matchers(), 'process_status!=""')

    def quantile(self, context: Context, percentile: Decimal, window: Duration) -> str:
        """PromQL for a percentile of the duration over a window, in seconds."""
        if self.source == "spans":
            inside, groups, match = self._span_latency(), list(context.by), context.span_match
        else:
            inside = _selector("process_execution_duration_seconds_bucket", self._matchers())
            groups, match = [*context.by, "le"], dict(context.match)
        by = f" by ({', '.join(groups)})" if groups else ""
        rate = f"rate({promql.with_matchers(inside, match)}[{window}])"
        return f"histogram_quantile({plain(percentile / 100)}, sum{by} ({rate}))"

    def describe(self) -> str:
        slow = f"took longer than {self.under or 'its SLA'}"
        what = {"success": "did not succeed", "within_sla": slow, "timeouts": "timed out"}[self.measure]
        return f"executions of {self.id} that {what}"


def _selector(metric: str, matchers: Mapping[str, str], extra: str | None = None) -> str:
    parts = [f"{name}={quote(value)}" for name, value in matchers.items()]
    parts += [extra] if extra else []
    return f"{metric}{{{','.join(parts)}}}" if parts else metric


def _logql(value: Any) -> str:
    """A log query: a stream selector with its filters, or filters alone. Its own syntax is Loki's to check."""
    if not isinstance(value, str) or not value.strip():
        raise fault("bad-logql", "a log query is text", 'write it as \'{service_name="shop"} | json | level="error"\'')
    text = " ".join(value.split())
    if not text.startswith(("{", "|", "!=", "!~")):
        raise fault(
            "bad-logql",
            "a log query starts with the streams in braces, or with |, |= or |~ for the logs of this service",
            "leave out rate(), count_over_time() and sum(): they are added for you",
        )
    bare, open_quote = "", ""
    index = 0
    while index < len(text):
        character = text[index]
        if open_quote:
            if character == "\\" and open_quote == '"':
                index += 1
            elif character == open_quote:
                open_quote = ""
        elif character in '"`':
            open_quote = character
        else:
            bare += character
        index += 1
    if open_quote:
        raise fault("bad-logql", "a quote in this log query is not closed", "each text stands between two quotes or backticks")
    if bare.count("{") != bare.count("}") or bare.count("(") != bare.count(")"):
        raise fault("bad-logql", "a brace in this log query is not closed", "the streams stand in braces, before the first |")
    if re.search(r"\[[0-9]+[a-z]+\]\s*\Z", bare):
        raise fault("bad-logql", "a log query has no range", "leave out the [5m] at its end: it is added for you")
    if text.startswith("{") and "=" not in bare.partition("}")[0]:
        raise fault("bad-logql", "Loki needs at least one label between the braces", "start with | for this service's logs")
    return text


LogQuery = Annotated[str, BeforeValidator(_logql)]


class Logs(Sli):
    """Log lines that tell of a failure, or of a success, over the lines that tell of any event."""

    kind = "logs"

    errors_: LogQuery | None = Field(
        None,
        alias="errors",
        description="LogQL for the lines of bad events. Starting with | it reads the service's own logs.",
        examples=['| json | event="webhook.failed"'],
    )
    good: LogQuery | None = Field(
        None, description="LogQL for the lines of good events, instead.", examples=['| json | event="webhook.done"']
    )
    total_: LogQuery = Field(
        alias="total", description="LogQL for the lines of all events.", examples=['| json | event=~"webhook[.].+"']
    )

    @model_validator(mode="after")
    def _one_of(self) -> Logs:
        if (self.errors_ is None) == (self.good is None):
            raise fault("one-of", "a log SLI needs either errors or good, and not both", "errors: finds the bad events")
        return self

    def recorded(self, context: Context) -> dict[str, str]:
        """What Loki's ruler records, by the series' name: LogQL, lines per second."""
        part = str(self.errors_ or self.good)
        return {LOG_ERRORS: self._rate(part, context), LOG_TOTAL: self._rate(self.total_, context)}

    @staticmethod
    def _rate(query: str, context: Context) -> str:
        if not query.startswith("{"):
            query = f"{{service_name={quote(context.span_match['service'])}}} {query}"
        # Two evaluations of the ruler: a line that arrives late is still counted by one of them.
        return context.aggregate("sum", f"rate({query} [1m])")

    def errors(self, context: Context) -> str:
        total, part = self.total(context), self._last(LOG_ERRORS, context)
        if self.errors_ is not None:
            return f"{part} or 0 * {total}"
        return f"clamp_min({total} - ({part} or 0 * {total}), 0)"

    def total(self, context: Context) -> str:
        return self._last(LOG_TOTAL, context)

    @staticmethod
    def _last(metric: str, context: Context) -> str:
        labels = _selector(metric, {"service": context.service, "slo": context.slo})
        # The ruler writes every 30 s; its samples arrive a little late.
        return context.aggregate("sum", f"last_over_time({labels}[2m])")

    def describe(self) -> str:
        return f"log lines {self.errors_}" if self.errors_ else f"log lines other than {self.good}"


class Traces(Sli):
    """Spans that failed or were too slow, from the metrics that Tempo makes of spans."""

    kind = "traces"
    shorthand = "span"

    span: Text = Field(description="The span's name.", examples=["POST /webhooks"])
    under: DurationField | None = Field(
        None, description="Slower ones are bad. Without it the failed ones are.", examples=["5s"]
    )
    span_kind: Literal["server", "client", "internal", "producer", "consumer"] | None = Field(
        None, alias="kind", description="Only spans of this kind.", examples=["server"]
    )

    def _select(self, metric: str, extra: str | None = None) -> str:
        kind = {"span_kind": f"SPAN_KIND_{self.span_kind.upper()}"} if self.span_kind else {}
        return _selector(metric, {"span_name": self.span, **kind}, extra)

    def errors(self, context: Context) -> str:
        if self.under is not None:
            return _slower(context, self._select("traces_spanmetrics_latency"), context.span_match, self.under.seconds)[0]
        failed = self._select("traces_spanmetrics_calls_total", 'status_code="STATUS_CODE_ERROR"')
        return f"{context.rate(failed, context.span_match)} or 0 * {self.total(context)}"

    def total(self, context: Context) -> str:
        if self.under is not None:
            return _slower(context, self._select("traces_spanmetrics_latency"), context.span_match, self.under.seconds)[1]
        return context.rate(self._select("traces_spanmetrics_calls_total"), context.span_match)

    def quantile(self, context: Context, percentile: Decimal, window: Duration) -> str:
        """PromQL for a percentile of the duration over a window, in seconds."""
        by = f" by ({', '.join(context.by)})" if context.by else ""
        latency = promql.with_matchers(self._select("traces_spanmetrics_latency"), context.span_match)
        return f"histogram_quantile({plain(percentile / 100)}, sum{by} (rate({latency}[{window}])))"

    def describe(self) -> str:
        return f"spans {self.span!r} " + (f"above {self.under}" if self.under else "that failed")


class Freshness(Sli):
    """Time during which the last success of a job was too long ago."""

    kind = "freshness"

    timestamp: Selector = Field(
        description="A gauge with the time of the last success, in seconds (or _milliseconds) since 1970.",
        examples=["backup_last_success_timestamp_seconds"],
    )
    under: DurationField = Field(description="The age that is still good.", examples=["26h"])

    def errors(self, context: Context) -> str:
        scale = " / 1000" if self.timestamp.partition("{")[0].endswith(("_milliseconds", "_ms")) else ""
        age = f"time() - {context.last(self.timestamp)}{scale}"
        return context.aggregate("sum", f"{age} > bool {plain(self.under.seconds)}")

    def total(self, context: Context) -> str:
        return context.aggregate("count", context.last(self.timestamp))

    def describe(self) -> str:
        return f"{self.timestamp} is older than {self.under}"

    def selectors(self) -> Mapping[str, str]:
        return {"timestamp": self.timestamp}

    @property
    def weighted_by_traffic(self) -> bool:
        return False


class Limit(Sli):
    """Time during which a value was above, or below, what it should be: slices of 30 s, good or bad."""

    kind = "threshold"

    expr: Query = Field(description="PromQL: a gauge, or an expression.", examples=["queue_depth"])
    above: ThresholdField | None = Field(None, description="A slice above this is bad.", examples=[1000])
    below: ThresholdField | None = Field(None, description="A slice below this is bad.", examples=["80%"])

    @model_validator(mode="after")
    def _one_of(self) -> Limit:
        if (self.above is None) == (self.below is None):
            raise fault("one-of", "a threshold SLI needs either above or below, and not both", "above: 80% makes more bad")
        return self

    def _limit(self) -> tuple[str, Threshold]:
        return (">", self.above) if self.above is not None else ("<", self.below)  # type: ignore[return-value]

    def _values(self, context: Context) -> str:
        query = promql.with_matchers(self.expr, context.match)
        if promql.as_selector(self.expr) is not None:
            return context.last(self.expr)
        # 0/0 is no value: only what equals itself is.
        return f"(({query}) == ({query}))"

    def errors(self, context: Context) -> str:
        operator, limit = self._limit()
        return context.aggregate("sum", f"{self._values(context)} {operator} bool {plain(limit.value)}")

    def total(self, context: Context) -> str:
        return context.aggregate("count", self._values(context))

    def describe(self) -> str:
        operator, limit = self._limit()
        return f"{self.expr} is {'above' if operator == '>' else 'below'} {limit.text}"

    @property
    def weighted_by_traffic(self) -> bool:
        return False


# As templates elsewhere write it, with or without spaces.
_WINDOW = re.compile(r"\{\{\s*\.?window\s*\}\}")


def with_window(query: str, window: object) -> str:
    """A query with its ``{{window}}`` filled in."""
    return _WINDOW.sub(str(window), query)


def has_window(query: str) -> bool:
    """Whether a query leaves its window open."""
    return _WINDOW.search(query) is not None


def _raw(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise fault("wrong-type", "expected PromQL, not {value}", value=value)
    try:
        # As long as what it replaces, so that the position of a fault stays true.
        promql.check(_WINDOW.sub(lambda m: "1m".ljust(len(m.group())), value))
    except promql.PromqlError as error:
        raise fault(error.code, error.message, error.hint, at=error.at) from None
    return value.strip()


RawQuery = Annotated[str, BeforeValidator(_raw)]


class Raw(Sli):
    """PromQL of your own, where no other kind fits. Nothing is added to it but the sum over the groups."""

    kind = "raw"

    errors_: RawQuery | None = Field(
        None,
        alias="errors",
        description="Bad events per second; {{window}} stands for the range of a rate.",
        examples=["sum(rate(jobs_failed_total[{{window}}]))"],
    )
    total_: RawQuery | None = Field(
        None, alias="total", description="All events per second.", examples=["sum(rate(jobs_total[{{window}}]))"]
    )
    error_ratio: RawQuery | None = Field(
        None,
        description="Instead of both: the share of bad events, from 0 to 1. Then every moment counts the same.",
        examples=["1 - avg(up)"],
    )

    @model_validator(mode="after")
    def _one_of(self) -> Raw:
        if (self.error_ratio is None) == (self.errors_ is None) or (self.errors_ is None) != (self.total_ is None):
            raise fault("one-of", "a raw SLI needs errors and total, or error_ratio alone", "errors: …, total: …")
        return self

    def errors(self, context: Context) -> str:
        if self.error_ratio is not None:
            return context.aggregate("sum", f"clamp(({self._ratio(context)}) >= 0, 0, 1)")
        bad = with_window(str(self.errors_), context.range)
        return f"{context.aggregate('sum', bad)} or 0 * {self.total(context)}"

    def total(self, context: Context) -> str:
        if self.error_ratio is not None:
            return context.aggregate("count", f"({self._ratio(context)}) >= 0")
        return context.aggregate("sum", with_window(str(self.total_), context.range))

    def _ratio(self, context: Context) -> str:
        return with_window(str(self.error_ratio), context.range)

    def describe(self) -> str:
        return f"{self.error_ratio}" if self.error_ratio else f"{self.errors_} of {self.total_}"

    @property
    def weighted_by_traffic(self) -> bool:
        return self.error_ratio is None


KINDS: Mapping[str, type[Sli]] = {
    kind.kind: kind for kind in (Ratio, Latency, Boolean, Probe, Process, Logs, Traces, Freshness, Limit, Raw)
}


def describe_objective(sli: Sli, objective: Decimal) -> str:
    """An objective in a sentence fragment: "99.9% without requests slower than 200ms"."""
    return f"{percent(objective)} without: {sli.describe()}"
