"""The kinds of service level indicator: for each its fields, and its errors and total as PromQL.

Both expressions are instant vectors with exactly the labels of ``by``, evaluated every 30 s. Their unit is events per
second for counters, and watched things (targets, probes) for gauges: only their ratio, and the sums of both over time,
mean anything. A kind is one class here, one test, and one entry in the reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from pydantic import Field, model_validator

from generator import promql
from generator.base import Base, Name, Selector, fault
from generator.names import PROBE_JOB
from generator.promql import quote
from generator.units import Duration, DurationField, percent


@dataclass(frozen=True)
class Context:
    """What an SLI needs to know of the SLO that it belongs to.

    ``range`` is the range of the raw counters' rate: four scrape intervals, long enough to survive a lost scrape and
    short enough not to delay a page. ``match`` are the matchers for selectors that do not name them themselves.
    ``probes`` gives each probe's interval and the duration above which it counts as failed.
    """

    service: str
    by: tuple[str, ...]
    match: Mapping[str, str]
    range: Duration
    probes: Mapping[str, tuple[Duration, Duration | None]]

    def aggregate(self, operator: str, inner: str) -> str:
        """``sum by (region) (inner)``, or ``sum(inner)`` without groups."""
        return f"{operator} by ({', '.join(self.by)}) ({inner})" if self.by else f"{operator}({inner})"

    def rate(self, selector: str) -> str:
        """Events per second of a raw counter, summed over everything but the groups."""
        return self.aggregate("sum", f"rate({promql.with_matchers(selector, self.match)}[{self.range}])")


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


class Latency(Sli):
    """Events slower than a threshold, from a classic histogram. The threshold must be one of its buckets."""

    kind = "latency"

    histogram: Selector = Field(
        description="The histogram's name, without _bucket.", examples=["http_request_duration_seconds"]
    )
    under: DurationField = Field(description="What counts as fast enough.", examples=["200ms"])

    @model_validator(mode="after")
    def _checks(self) -> Latency:
        name = self.histogram.partition("{")[0]
        for suffix in ("_bucket", "_count", "_sum"):
            if name.endswith(suffix):
                raise fault(
                    "not-a-histogram",
                    "{value} is one series of a histogram",
                    f"write histogram: {name.removesuffix(suffix)}",
                    value=name,
                )
        if not name:
            raise fault("not-a-histogram", "the histogram needs a name", "write histogram: http_request_duration_seconds")
        if self.under.seconds <= 0:
            raise fault("bad-duration", "nothing is faster than 0s", "write it as 200ms")
        return self

    def bound(self) -> Decimal:
        """The threshold in the histogram's unit, which its name tells: seconds, or milliseconds."""
        name = self.histogram.partition("{")[0]
        return self.under.seconds * 1000 if name.endswith(("_milliseconds", "_ms")) else self.under.seconds

    def errors(self, context: Context) -> str:
        fast = promql.rename(self.histogram, "_bucket", regex={"le": promql.bucket_pattern(self.bound())})
        return f"clamp_min({self.total(context)} - {context.rate(fast)}, 0)"

    def total(self, context: Context) -> str:
        return context.rate(promql.rename(self.histogram, "_count"))

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
        return context.aggregate("sum", f"1 - clamp({self._now(context)}, 0, 1)")

    def total(self, context: Context) -> str:
        return context.aggregate("count", self._now(context))

    def _now(self, context: Context) -> str:
        return f"last_over_time({promql.with_matchers(self.gauge, context.match)}[{context.range}])"

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


KINDS: Mapping[str, type[Sli]] = {kind.kind: kind for kind in (Ratio, Latency, Boolean, Probe)}


def describe_objective(sli: Sli, objective: Decimal) -> str:
    """An objective in a sentence fragment: "99.9% without requests slower than 200ms"."""
    return f"{percent(objective)} without: {sli.describe()}"
