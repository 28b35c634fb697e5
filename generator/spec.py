"""The file format: pydantic models that check each value by itself. What needs two places at once is for the model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BeforeValidator, Field, ValidationError, create_model, model_validator

from generator import receivers as receiver_kinds
from generator import sli as sli_kinds
from generator.base import AlertName, Base, LabelName, Name, Text, Url, fault
from generator.diagnostics import Diagnostic, Note, Span, did_you_mean
from generator.schedule import Dates, MomentField, TimesField, Weekdays, WhenField, ZoneField
from generator.sli import RawQuery
from generator.source import Path_, Source, kind_of
from generator.units import DurationField, RatioField, ThresholdField, show

Severity = Literal["critical", "warning", "info"]
Tier = Literal["critical", "high", "medium", "low"]


def _one_or_many(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _percentile(value: Any) -> Decimal:
    if isinstance(value, int | Decimal) and not isinstance(value, bool) and 0 < value < 100:
        return Decimal(value)
    raise fault("out-of-range", "{value} is not a percentile between 0 and 100", "write it as 95", value=value)


def _factor(value: Any) -> Decimal:
    if isinstance(value, int | Decimal) and not isinstance(value, bool) and 1 <= value <= 100000:
        return Decimal(value)
    raise fault("out-of-range", "{value} is not a factor of 1 or more", "write it as 14.4", value=value)


def _version(value: Any) -> Any:
    if type(value) is not int or value != 1:
        raise fault("unknown-value", "this program reads version 1 of the format, not {value}", "write version: 1", value=value)
    return value


def _not_empty(value: Any) -> Any:
    if isinstance(value, dict | list) and not value:
        raise fault("empty-list", "nothing stands here", "remove the key, or fill it")
    return value


class Links(Base):
    """Addresses that alerts and dashboards link to."""

    grafana: Url = Field(
        "http://localhost:3000",
        description="Grafana, as a browser reaches it.",
        examples=["https://grafana.example.com"],
    )


class Defaults(Base):
    """What every service and SLO gets unless it says otherwise."""

    owner: Name = Field("unowned", description="Who is paged.", examples=["backend"])
    tier: Tier = Field("medium", description="How much the business needs a service.", examples=["critical"])
    window: DurationField = Field(
        "30d", validate_default=True, description="The window of an objective, rolling.", examples=["30d"]
    )
    alerting: Name = Field("standard", description="The burn-rate policy.", examples=["standard"])
    interval: DurationField = Field(
        "15s", validate_default=True, description="How often metrics are scraped or pushed.", examples=["15s"]
    )
    minimum_events: int = Field(
        5,
        ge=0,
        le=10**9,
        description="A burn-rate alert needs at least this many bad events in its long window; for counters only.",
        examples=[5],
    )
    timezone: ZoneField = Field(
        "UTC", description="The time zone of hours and maintenance windows.", examples=["Europe/Berlin"]
    )
    labels: dict[LabelName, Text] = Field(
        default_factory=dict, description="Labels for every alert.", examples=[{"environment": "production"}]
    )


class Cause(Base):
    """A likely cause, and its fix."""

    cause: Text = Field(description="What may be wrong.", examples=["the connection pool is exhausted"])
    fix: Text | None = Field(None, description="What mends it.", examples=["restart the workers one by one"])

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, data: Any) -> Any:
        return {"cause": data} if isinstance(data, str) else data


def _relative(value: Any) -> str:
    if not isinstance(value, str) or not value or "\0" in value or value.startswith("/") or ".." in value.split("/"):
        raise fault("bad-path", "{value} is not a path below this file", "write it as runbooks/database.md", value=value)
    return value


class Runbook(Base):
    """What to do: a link to a page of your own, or the parts of one that is made for you."""

    url: Url | None = Field(None, description="A page elsewhere.", examples=["https://wiki.example.com/runbooks/db"])
    file: Annotated[str, BeforeValidator(_relative)] | None = Field(
        None, description="A Markdown file, relative to this one.", examples=["runbooks/database.md"]
    )
    symptoms: Text | None = Field(None, description="What people see.", examples=["Pages load but stay empty."])
    impact: Text | None = Field(None, description="Who is hurt, and how.", examples=["Nobody can sign in."])
    diagnosis: Annotated[list[Text], BeforeValidator(_one_or_many)] = Field(
        default_factory=list, description="Steps to find the cause, in order.", examples=[["docker logs db | tail -50"]]
    )
    causes: Annotated[list[Cause], BeforeValidator(_one_or_many)] = Field(
        default_factory=list,
        description="Likely causes, each with its fix.",
        examples=[[{"cause": "disk full", "fix": "grow it"}]],
    )
    recovery: Text | None = Field(None, description="How to see that it is over.", examples=["Burn rate below 1."])
    escalation: Text | None = Field(None, description="Whom to call next, and when.", examples=["After 15 min: the DBA."])
    prevention: Text | None = Field(None, description="What keeps it from coming back.", examples=["Alert at 80 %."])

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, data: Any) -> Any:
        if isinstance(data, str):
            if data.startswith(("http://", "https://")):
                return {"url": data}
            return {"file": data} if data.endswith(".md") and " " not in data else {"symptoms": data}
        return data


class Scrape(Base):
    """Where Prometheus finds a service's metrics."""

    targets: Annotated[list[Text], BeforeValidator(_one_or_many), BeforeValidator(_not_empty)] = Field(
        description="host:port, as the containers reach it; the host itself is host.docker.internal.",
        examples=[["host.docker.internal:8000"]],
    )
    interval: DurationField | None = Field(None, description="How often.", examples=["15s"])
    path: Text = Field("/metrics", description="Path of the metrics.", examples=["/metrics"])
    scheme: Literal["http", "https"] = Field("http", description="http or https.", examples=["https"])


class Probe(Base):
    """A check from outside, made by the stack."""

    url: Url = Field(description="What is asked for.", examples=["http://host.docker.internal:8000/health/db"])
    interval: DurationField = Field("30s", validate_default=True, description="How often.", examples=["5m"])
    timeout: DurationField = Field("5s", validate_default=True, description="When to give up.", examples=["5s"])
    slower_than: DurationField | None = Field(None, description="An answer slower than this is a failure.", examples=["3s"])
    status: Annotated[list[Annotated[int, Field(ge=100, le=599)]], BeforeValidator(_one_or_many)] = Field(
        default_factory=list, description="Statuses that are good; any 2xx when left out.", examples=[[200, 204]]
    )
    failures: int = Field(2, ge=1, le=100, description="How many failures in a row make the alert.", examples=[1])
    severity: Severity | None = Field(
        "warning", description="Of the alert when it fails; null for none.", examples=["critical"]
    )
    runbook: Runbook | None = Field(None, description="What to do when it fails.", examples=["https://wiki.example.com/x"])
    objective: RatioField | None = Field(
        None, description="The share of checks that must be good: makes an SLO of the probe's name.", examples=["99.9%"]
    )
    alerting: Name | None = Field(None, description="That SLO's burn-rate policy.", examples=["tickets"])


def _some_kind(kinds: Mapping[str, type[Any]], what: str, *, many: bool = False) -> Any:
    def check(data: Any) -> Any:
        if isinstance(data, dict):
            named = [key for key in data if key in kinds]
            if not data or all(data[key] is None for key in data):
                raise fault("missing-kind", f"this names no kind of {what} with its fields", f"kinds: {', '.join(kinds)}")
            if len(named) > 1 and not many:
                raise fault(
                    "one-of",
                    f"an {what} is of one kind, not {' and '.join(named)}",
                    f"make {len(named)} SLOs",
                    field=named[1],
                    against=named[0],
                )
        if isinstance(data, str):
            raise fault(
                "wrong-type",
                f"expected a kind of {what} with its fields, not {{value}}",
                f"kinds: {', '.join(kinds)}",
                value=data,
            )
        return data

    return check


def _kinds(name: str, doc: str, kinds: Mapping[str, type[Base]]) -> Any:
    """A model with one optional field for each kind."""
    fields: dict[str, Any] = {
        kind: (model | None, Field(None, description=(model.__doc__ or "").split("\n")[0])) for kind, model in kinds.items()
    }
    return create_model(name, __base__=Base, __doc__=doc, **fields)


SliSpec: Any = _kinds("SliSpec", "One kind of SLI, by name.", sli_kinds.KINDS)
ReceiverSpec: Any = _kinds(
    "ReceiverSpec", "One or more kinds of receiver, by name: all of them get the message.", receiver_kinds.KINDS
)


class Sla(Base):
    """What customers were promised: looser than the SLO, counted by the calendar."""

    objective: RatioField = Field(description="The share of events that was promised to be good.", examples=["99.5%"])
    window: Literal["calendar month", "calendar quarter"] = Field(
        "calendar month", description="What it is counted over.", examples=["calendar quarter"]
    )
    under: DurationField | None = Field(
        None, description="For latency: the promised threshold, where it is not the SLO's.", examples=["500ms"]
    )

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, data: Any) -> Any:
        return {"objective": data} if isinstance(data, str) else data


class Slo(Base):
    """A service level objective: which share of events must be good, over which window."""

    objective: RatioField = Field(description="The share of events that must be good.", examples=["99.9%"])
    sli: Annotated[SliSpec, BeforeValidator(_some_kind(sli_kinds.KINDS, "SLI"))] = Field(
        description="What is measured.",
        examples=[{"ratio": {"errors": 'http_requests_total{code=~"5.."}', "total": "http_requests_total"}}],
    )
    sla: Sla | None = Field(
        None,
        description="What customers were promised.",
        examples=[{"objective": "99.5%", "window": "calendar month"}],
    )
    title: Text | None = Field(None, description="A name for people.", examples=["Checkout answers"])
    description: Text | None = Field(None, description="What it promises, to whom.", examples=["Buyers can pay."])
    window: DurationField | None = Field(None, description="Its window, rolling, 1d to 90d.", examples=["7d"])
    by: Annotated[list[LabelName], BeforeValidator(_one_or_many)] = Field(
        default_factory=list, description="Labels that each get a budget of their own.", examples=[["region"]]
    )
    alerting: Name | None = Field(None, description="Its burn-rate policy, or none.", examples=["none"])
    minimum_events: int | None = Field(None, ge=0, le=10**9, description="As under defaults.", examples=[20])
    owner: Name | None = Field(None, description="Who is paged, where not the service's owner.", examples=["payments"])
    tier: Tier | None = Field(None, description="Where not the service's tier.", examples=["high"])
    runbook: Runbook | None = Field(None, description="What to do.", examples=[{"symptoms": "…"}])


class Alert(Base):
    """An alert on a cause or on saturation, beside the SLOs."""

    expr: RawQuery | None = Field(
        None, description="PromQL; {{window}} stands for over.", examples=["db_pool_used / db_pool_size"]
    )
    slo: Name | None = Field(
        None,
        description="Instead of expr: the share of bad events of an SLO of this service, over the time that over says.",
        examples=["availability"],
    )
    percentile: Annotated[Decimal, BeforeValidator(_percentile)] | None = Field(
        None, description="With slo: this percentile of its latency instead, in seconds.", examples=[95]
    )
    above: ThresholdField | None = Field(None, description="It fires above this.", examples=["80%"])
    below: ThresholdField | None = Field(None, description="It fires below this.", examples=["10%"])
    absent: bool = Field(False, description="It fires when expr gives nothing at all.", examples=[True])
    for_: DurationField = Field("0s", alias="for", validate_default=True, description="… for this long.", examples=["5m"])
    over: DurationField | None = Field(
        None, description="The time that is looked at: fills {{window}}, else the value is taken over it.", examples=["1h"]
    )
    take: Literal["average", "highest", "lowest"] = Field(
        "average", description="What of the values over that time.", examples=["highest"]
    )
    minimum_events: int = Field(0, ge=0, le=10**9, description="With slo: at least this many bad events.", examples=[3])
    severity: Severity = Field("warning", description="critical pages, warning tickets, info informs.", examples=["warning"])
    outage: bool = Field(
        False,
        description="While it fires the service is down: it mutes the alerts of services that depend on it.",
        examples=[True],
    )
    owner: Name | None = Field(None, description="Who gets it, where not the service's owner.", examples=["dba"])
    summary: Text | None = Field(None, description="One sentence.", examples=["The connection pool is nearly used up"])
    runbook: Runbook | None = Field(None, description="What to do.", examples=["https://wiki.example.com/pool"])

    @model_validator(mode="after")
    def _consistent(self) -> Alert:
        if (self.expr is None) == (self.slo is None):
            raise fault("one-of", "an alert needs either expr or slo, and not both", "expr: is PromQL, slo: names an SLO")
        if (self.above is not None) + (self.below is not None) + self.absent > 1:
            raise fault("one-of", "an alert is above a threshold, below one, or absent: one of them", "make two alerts")
        if self.slo is not None:
            if self.above is None and self.below is None:
                raise fault("missing-key", "an alert on an SLO needs above or below", "above: 5%")
            if self.over is None:
                raise fault("missing-key", "an alert on an SLO needs over, the time that it looks at", "over: 5m")
        elif self.percentile is not None or self.minimum_events:
            raise fault("one-of", "percentile and minimum_events belong to an alert on an SLO", "name it with slo:")
        elif self.over is None and sli_kinds.has_window(str(self.expr)):
            raise fault("missing-key", "{{window}} needs over, the time that it stands for", "over: 5m")
        return self


class Panel(Base):
    """A graph on the service's page, beside what follows from its objectives."""

    expr: Annotated[list[RawQuery], BeforeValidator(_one_or_many), BeforeValidator(_not_empty)] = Field(
        description="PromQL, one or a list; {{window}} stands for a range that suits the graph's width.",
        examples=["sum by (status) (rate(uploads_total[{{window}}]))"],
    )
    unit: Literal["number", "percent", "seconds", "bytes", "per second"] = Field(
        "number", description="Of its values; percent means a share from 0 to 1.", examples=["per second"]
    )
    group: Text | None = Field(
        None, description="The heading that it stands under; Metrics when left out.", examples=["Business"]
    )
    show: Literal["lines", "bars", "number"] = Field("lines", description="How it is shown.", examples=["number"])
    description: Text | None = Field(None, description="What to look for.", examples=["A dip at noon is normal."])

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, data: Any) -> Any:
        return {"expr": data} if isinstance(data, str | list) else data


class Objectives(Base):
    """What a process promises; each becomes an SLO, named after the process."""

    success: RatioField | None = Field(None, description="The share of executions that succeed.", examples=["99%"])
    within_sla: RatioField | None = Field(None, description="The share that ends within the SLA.", examples=["95%"])
    timeouts: RatioField | None = Field(None, description="The share that may time out, at most.", examples=["1%"])

    @model_validator(mode="after")
    def _shares(self) -> Objectives:
        if self.timeouts is not None and self.timeouts > Decimal("0.5"):
            raise fault(
                "out-of-range",
                "timeouts is the share that may time out, and most executions should not",
                "write the small share, such as timeouts: 1%",
            )
        return self


class Process(Base):
    """A business process: the registry that tracing, objectives, alerts and pages share."""

    name: Text = Field(description="A name for people.", examples=["Council deliberation"])
    description: Text | None = Field(None, description="What it does for the business.", examples=["Answers a question."])
    version: Text | None = Field(None, description="Its version, as the instrumentation reports it.", examples=["2.1.0"])
    handler: Text | None = Field(None, description="Where the code is.", examples=["backend/council.py::run_council"])
    sla: DurationField | None = Field(None, description="How long it may take.", examples=["120s"])
    critical: bool = Field(False, description="Whether the business stands still without it.", examples=[True])
    tier: Tier | None = Field(None, description="Where neither critical nor the service's tier.", examples=["high"])
    documentation_url: Url | None = Field(None, description="Its page.", examples=["https://docs.example.com/council"])
    stages: Annotated[list[Name], BeforeValidator(_one_or_many)] = Field(
        default_factory=list, description="Its traced steps, in order.", examples=[["collect", "rank", "synthesize"]]
    )
    probe: Name | None = Field(None, description="The service's probe that checks it from outside.", examples=["council"])
    source: Literal["metrics", "spans"] = Field(
        "metrics", alias="from", description="Where its objectives are read; as for an SLI of kind process.", examples=["spans"]
    )
    objectives: Objectives = Field(
        default_factory=lambda: Objectives(),
        description="What it promises.",
        examples=[{"success": "99%", "within_sla": "95%", "timeouts": "1%"}],
    )
    window: DurationField | None = Field(None, description="Their window, where not the default.", examples=["7d"])
    alerting: Name | None = Field(None, description="Their burn-rate policy, where not the default.", examples=["standard"])
    minimum_events: int | None = Field(None, ge=0, le=10**9, description="As under defaults.", examples=[20])
    owner: Name | None = Field(None, description="Who is paged, where not the service's owner.", examples=["payments"])
    runbook: Runbook | None = Field(None, description="What to do when it fails.", examples=[{"symptoms": "…"}])

    @model_validator(mode="after")
    def _consistent(self) -> Process:
        if self.critical and self.tier not in (None, "critical"):
            raise fault("one-of", "this is critical and of another tier at once", "leave out one of the two")
        if self.objectives.within_sla is not None and self.sla is None:
            raise fault("missing-key", "within_sla needs the process's sla", "sla: 5s")
        return self


class Service(Base):
    """A service: its name is OpenTelemetry's service.name and Prometheus's job."""

    title: Text | None = Field(None, description="A name for people.", examples=["Council API"])
    description: Text | None = Field(None, description="What it does.", examples=["Answers questions with a council."])
    owner: Name | None = Field(None, description="Who is paged.", examples=["backend"])
    tier: Tier | None = Field(None, description="How much the business needs it.", examples=["critical"])
    match: dict[LabelName, Text] | None = Field(
        None,
        description="Matchers for metrics that do not name these labels; job: NAME when left out, {} for none.",
        examples=[{"job": "shop/checkout"}],
    )
    depends_on: Annotated[list[Name], BeforeValidator(_one_or_many)] = Field(
        default_factory=list, description="Services whose page mutes this one's.", examples=[["database"]]
    )
    scrape: Scrape | None = Field(
        None,
        description="Where its metrics are; leave out when it pushes by OTLP.",
        examples=[{"targets": ["api:8000"]}],
    )
    probes: dict[Name, Probe] = Field(
        default_factory=dict, description="Checks from outside.", examples=[{"live": {"url": "http://api:8000/health"}}]
    )
    slos: dict[Name, Slo] = Field(default_factory=dict, description="Its objectives.", examples=[{}])
    processes: dict[Name, Process] = Field(
        default_factory=dict, description="The business processes that it runs, by id.", examples=[{}]
    )
    alerts: dict[AlertName, Alert] = Field(default_factory=dict, description="Alerts on causes.", examples=[{}])
    panels: dict[Text, Panel] = Field(
        default_factory=dict,
        description="More graphs for its page, by title.",
        examples=[{"Uploads": "sum by (status) (rate(uploads_total[{{window}}]))"}],
    )
    runbook: Runbook | None = Field(None, description="For every alert without one of its own.", examples=[{"impact": "…"}])
    runbooks: dict[Name, Runbook] = Field(
        default_factory=dict,
        description="Procedures that belong to no alert, by name.",
        examples=[{"rollback": {"diagnosis": ["make rollback"], "recovery": "The version is the old one."}}],
    )


class Window(Base):
    """One condition of a burn-rate policy: it holds over a long and a short window at once."""

    long: DurationField = Field(description="The window that says it matters.", examples=["1h"])
    short: DurationField = Field(description="The window that says it goes on.", examples=["5m"])
    budget: RatioField | None = Field(
        None, description="The share of the budget that is spent within the long window.", examples=["2%"]
    )
    factor: Annotated[Decimal, BeforeValidator(_factor)] | None = Field(
        None, description="Instead: how many times faster than allowed the budget is spent.", examples=[14.4]
    )

    @model_validator(mode="after")
    def _one_of(self) -> Window:
        if (self.budget is None) == (self.factor is None):
            raise fault("one-of", "a window needs either budget or factor, and not both", "budget: 2% of it in the long window")
        return self


class Freeze(Base):
    """When to stop deploying: too little of the budget is left."""

    below: RatioField = Field(description="The share of the budget that must be left.", examples=["10%"])
    severity: Severity = Field("warning", description="Of the alert.", examples=["info"])

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, data: Any) -> Any:
        return {"below": data} if isinstance(data, str) else data


class Policy(Base):
    """A burn-rate policy: conditions for each severity. One that is left out is off."""

    critical: list[Window] = Field(
        default_factory=list, description="Pages.", examples=[[{"long": "1h", "short": "5m", "budget": "2%"}]]
    )
    warning: list[Window] = Field(
        default_factory=list, description="Tickets.", examples=[[{"long": "3d", "short": "6h", "budget": "10%"}]]
    )
    freeze: Freeze | None = Field(
        None, description="An alert that stops deployments while little budget is left.", examples=["10%"]
    )
    exhausted: Severity | None = Field(
        None, description="Severity of an alert while no budget is left; none when left out.", examples=["warning"]
    )


class Hours(Base):
    """A part of the week, in a time zone."""

    days: Weekdays = Field(None, description="Days of the week; all when left out.", examples=["mon-fri"])
    times: TimesField = Field(None, description="Times of the day; may pass midnight.", examples=["09:00-17:00"])
    dates: Dates = Field(None, description="Days of the month.", examples=["1-7"])
    timezone: ZoneField | None = Field(None, description="Where not the default.", examples=["Europe/Berlin"])


class Maintenance(Base):
    """A time in which alerts are muted: once (from, until) or again and again (days, dates, times)."""

    reason: Text | None = Field(None, description="What is done.", examples=["The database is upgraded"])
    services: Annotated[list[Name], BeforeValidator(_one_or_many)] = Field(
        default_factory=list, description="Whose alerts are muted; everybody's when left out.", examples=[["database"]]
    )
    start: MomentField = Field(None, alias="from", description="Its beginning, when it is once.", examples=["2026-12-01 22:00"])
    end: MomentField = Field(None, alias="until", description="Its end, when it is once.", examples=["2026-12-02 04:00"])
    days: Weekdays = Field(None, description="As under hours.", examples=["sun"])
    times: TimesField = Field(None, description="As under hours.", examples=["02:00-04:00"])
    dates: Dates = Field(None, description="As under hours.", examples=["1-7"])
    timezone: ZoneField | None = Field(None, description="Where not the default.", examples=["Europe/Berlin"])

    @model_validator(mode="after")
    def _once_or_again(self) -> Maintenance:
        again = self.days is not None or self.times is not None or self.dates is not None
        if (self.start is None) != (self.end is None):
            raise fault("missing-key", "a maintenance window needs both from and until", "until: 2026-12-02 04:00")
        if again == (self.start is not None):
            raise fault(
                "one-of",
                "a maintenance window is either once or recurring",
                "from: and until: for once; days:, dates: and times: for recurring",
            )
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise fault(
                "bad-time",
                "this window ends before it begins",
                "until: comes after from:",
                field="until",
                against="from",
            )
        return self


class Escalation(Base):
    """Who is told next, when an alert goes on."""

    after: DurationField = Field(description="How long after it began.", examples=["15m"])
    to: Annotated[list[Name], BeforeValidator(_one_or_many), BeforeValidator(_not_empty)] = Field(
        description="Receivers.", examples=["boss"]
    )


class Route(Base):
    """Who gets an alert: the first route whose conditions all hold."""

    alert: Annotated[list[AlertName], BeforeValidator(_one_or_many)] = Field(
        default_factory=list, description="Any of these alerts.", examples=["PaymentFailed"]
    )

    severity: Annotated[list[Severity], BeforeValidator(_one_or_many)] = Field(
        default_factory=list, description="Any of these severities.", examples=["critical"]
    )
    owner: Annotated[list[Name], BeforeValidator(_one_or_many)] = Field(
        default_factory=list, description="Any of these owners.", examples=["backend"]
    )
    service: Annotated[list[Name], BeforeValidator(_one_or_many)] = Field(
        default_factory=list, description="Any of these services.", examples=[["checkout", "cart"]]
    )
    tier: Annotated[list[Tier], BeforeValidator(_one_or_many)] = Field(
        default_factory=list, description="Any of these tiers.", examples=["critical"]
    )
    during: Name | None = Field(None, description="Only during these hours.", examples=["office"])
    outside: Name | None = Field(None, description="Only outside these hours.", examples=["office"])
    to: Annotated[list[Name], BeforeValidator(_one_or_many), BeforeValidator(_not_empty)] = Field(
        description="Receivers.", examples=[["phone", "chat"]]
    )
    escalate: Annotated[list[Escalation], BeforeValidator(_one_or_many)] = Field(
        default_factory=list,
        description="Who is told as well when it is not over by then.",
        examples=[{"after": "15m", "to": "boss"}],
    )

    @model_validator(mode="after")
    def _one_time(self) -> Route:
        if self.during is not None and self.outside is not None:
            raise fault("one-of", "a route is for during some hours or outside some, not both", "make two routes")
        return self


class Grouping(Base):
    """How alerts become notifications."""

    by: Annotated[list[LabelName], BeforeValidator(_one_or_many)] = Field(
        default_factory=lambda: ["service", "severity"],
        description="One notification for each of these.",
        examples=[["service"]],
    )
    wait: DurationField = Field("10s", validate_default=True, description="Before the first.", examples=["10s"])
    interval: DurationField = Field("1m", validate_default=True, description="Before news of the same group.", examples=["1m"])
    repeat: DurationField = Field("4h", validate_default=True, description="Before saying it again.", examples=["4h"])


class Routing(Base):
    """Who is told, and how."""

    receivers: dict[Name, Annotated[ReceiverSpec, BeforeValidator(_some_kind(receiver_kinds.KINDS, "receiver", many=True))]] = (
        Field(
            default_factory=dict,
            description="Receivers by name.",
            examples=[{"chat": {"slack": {"url": {"file": "slack_url"}}}}],
        )
    )
    default: Annotated[list[Name], BeforeValidator(_one_or_many)] | None = Field(
        None, description="Who gets what no route catches.", examples=["chat"]
    )
    hours: dict[Name, Hours] = Field(
        default_factory=dict,
        description="Parts of the week that routes refer to.",
        examples=[{"office": {"days": "mon-fri", "times": "09:00-17:00"}}],
    )
    routes: list[Route] = Field(
        default_factory=list, description="Tried in order.", examples=[[{"severity": "critical", "to": "phone"}]]
    )
    watchdog: Annotated[list[Name], BeforeValidator(_one_or_many)] | None = Field(
        None, description="Who gets the heartbeat that never stops.", examples=["heartbeat"]
    )
    grouping: Grouping = Field(
        default_factory=lambda: Grouping(), description="How alerts become notifications.", examples=[{"wait": "10s"}]
    )


class Test(Base):
    """What is expected of an alert; `lgtm test` has Alertmanager show that it is so."""

    name: Text = Field(description="The expectation, in a sentence.", examples=["checkout down on Sunday night reaches phone"])
    alert: AlertName = Field(description="The alert.", examples=["SLOBurnRateCritical"])
    service: Name = Field(description="Its service.", examples=["checkout"])
    slo: Name | None = Field(None, description="Its SLO; any when left out.", examples=["availability"])
    severity: Severity | None = Field(None, description="Its severity; any when left out.", examples=["critical"])
    at: WhenField = Field(
        None,
        description="A time of the week, or a moment, in the default time zone; always when left out.",
        examples=["Sun 03:00"],
    )
    reaches: Annotated[list[Name], BeforeValidator(_one_or_many)] = Field(
        default_factory=list, description="Receivers that are told at once; others may be as well.", examples=["phone"]
    )
    never: Annotated[list[Name], BeforeValidator(_one_or_many)] = Field(
        default_factory=list,
        alias="not",
        description="Receivers that are not told, neither at once nor later.",
        examples=["chat"],
    )
    escalates: Annotated[list[Name], BeforeValidator(_one_or_many)] = Field(
        default_factory=list, description="Receivers that are told when it goes on.", examples=["boss"]
    )
    quiet: bool = Field(False, description="Nobody is told at all.", examples=[True])
    inhibited_by: Name | None = Field(None, description="A service whose outage keeps this alert back.", examples=["database"])

    @model_validator(mode="after")
    def _expects(self) -> Test:
        if self.quiet and (self.reaches or self.escalates):
            raise fault("one-of", "nobody is told, or somebody is, and not both", "leave out one of the two", field="quiet")
        if not (self.reaches or self.never or self.escalates or self.quiet or self.inhibited_by):
            raise fault(
                "missing-key", "this expects nothing", "reaches: phone, not: chat, quiet: true or inhibited_by: database"
            )
        return self


class Spec(Base):
    """The whole file."""

    version: Annotated[Literal[1], BeforeValidator(_version)] = Field(description="The format's version.", examples=[1])
    organization: Text = Field("", description="Whose it is; shown on dashboards.", examples=["AxCouncil"])
    links: Links = Field(
        default_factory=lambda: Links(),
        description="Addresses that alerts link to.",
        examples=[{"grafana": "https://grafana.example.com"}],
    )
    defaults: Defaults = Field(
        default_factory=lambda: Defaults(),
        description="What services get unless they say otherwise.",
        examples=[{"owner": "backend"}],
    )
    services: dict[Name, Service] = Field(description="What is watched, by name.", examples=[{"checkout": {}}])
    alerting: dict[Name, Policy] = Field(
        default_factory=dict, description="Burn-rate policies beside the built-in ones.", examples=[{}]
    )
    routing: Routing = Field(default_factory=lambda: Routing(), description="Who is told, and how.", examples=[{}])
    maintenance: dict[Name, Maintenance] = Field(
        default_factory=dict,
        description="Windows in which alerts are muted, and which reports leave out.",
        examples=[{"backup": {"days": "sun", "times": "02:00-04:00"}}],
    )
    tests: list[Test] = Field(
        default_factory=list,
        description="What is expected of alerts; `lgtm test` proves it.",
        examples=[
            [{"name": "it pages", "alert": "ProbeFailing", "service": "checkout", "at": "Sun 03:00", "reaches": "phone"}]
        ],
    )


# How a fault of the format is said: pydantic's own type → our code and words.
_TYPES = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "dict_type": "keys and values",
    "model_type": "keys and values",
    "model_attributes_type": "keys and values",
}


def parse(source: Source) -> tuple[Spec | None, list[Diagnostic]]:
    """Check each value of the file by itself.

    Where values are at fault, the Spec is what is left without them, so that the cross-checks of the rest can still be
    made and every fault is told in one run; None when nothing usable is left.
    """
    data: Any = source.data
    diagnostics: list[Diagnostic] = []
    for attempt in range(_ATTEMPTS):
        try:
            return Spec.model_validate(data), diagnostics
        except ValidationError as error:
            faults: list[Any] = error.errors(include_url=False)
        if attempt == 0:
            diagnostics = _diagnostics(faults, source)
            data = _close_up(data)
        # Every place is looked up before anything is removed: what is gone already must not take its neighbours along.
        for path, missing in [(_written(one["loc"], data), one["type"] == "missing") for one in faults]:
            _remove(data, path, whole=attempt > 0 or missing, missing=missing)
        data = _close_up(data)
    return None, diagnostics


# Each attempt cuts a level further up, so this is the depth of the format.
_ATTEMPTS = 8


def _diagnostics(faults: list[Any], source: Source) -> list[Diagnostic]:
    """One diagnostic for each fault: an alias that is used ten times, or a union's two readings, make one."""
    found: dict[tuple[object, ...], Diagnostic] = {}
    for one in faults:
        diagnostic = _diagnostic(one, source, hints=len(found) < _MOST_HINTS)
        last = _written(one["loc"], source.data)[-1:]
        # A missing key stands at its owner, where other keys may be missing as well.
        found.setdefault((diagnostic.span, last if diagnostic.code == "missing-key" else None), diagnostic)
    return list(found.values())


# Looking for the nearest name takes time; a file with more faults than this is no slip of the pen.
_MOST_HINTS = 200


def _written(location: tuple[str | int, ...], data: Any) -> Path_:
    """A location without what pydantic puts into it: the names of union members, and ``[key]``."""
    path: list[str | int] = []
    for index, part in enumerate(location):
        if part == "[key]":
            continue
        if isinstance(data, list):
            inside = isinstance(part, int) and part < len(data)
        else:
            inside = isinstance(data, dict) and part in data
        if inside:
            data = data[part]
        elif index + 1 < len(location) or not isinstance(data, dict):
            continue
        path.append(part)
    return tuple(path)


def _remove(data: Any, path: Path_, *, whole: bool, missing: bool) -> None:
    """Drop the part at ``path``, or with ``whole`` the part that holds it."""
    chain = [data]
    for part in path:
        node = chain[-1]
        if (isinstance(node, dict) and part in node) or (isinstance(node, list) and isinstance(part, int) and part < len(node)):
            chain.append(node[part])  # type: ignore[index]
        else:
            break
    depth = len(chain) - 1
    if depth < len(path) - missing:
        return
    if whole and depth == len(path):
        depth -= 1
    if depth >= 1:
        parent, key = chain[depth - 1], path[depth - 1]
        if isinstance(parent, dict):
            parent.pop(str(key), None)
        elif isinstance(parent, list) and isinstance(key, int):
            # Several faults of one item must not remove its neighbours, so lists are closed up at the end.
            parent[key] = _REMOVED


_REMOVED = object()


def _close_up(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _close_up(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_close_up(value) for value in data if value is not _REMOVED]
    return data


def _diagnostic(error: dict[str, Any], source: Source, *, hints: bool = True) -> Diagnostic:
    kind: str = error["type"]
    # pydantic puts the names of union members and "[key]" into the location; positions know only what was written.
    location = _written(error["loc"], source.data)
    on_key = "[key]" in error["loc"]
    while location and location not in source.values and kind not in ("missing", "extra_forbidden"):
        location = location[:-1]
    context = error.get("ctx") or {}
    value = error.get("input")
    note = None
    if context.get("field") is not None and (*location, context["field"]) in source.values:
        if context.get("against") is not None and (*location, context["against"]) in source.values:
            on_key = True
            note = Note(source.key_span((*location, context["against"])), "and this")
        location = (*location, context["field"])
    span: Span = source.key_span(location) if on_key else source.value_span(location)
    where = _dotted(location)
    if kind == "extra_forbidden":
        return _unknown_key(location, source, hints=hints)
    if kind == "missing":
        parent = location[:-1]
        owner = _dotted(parent) or "the file"
        return Diagnostic(
            "missing-key",
            f"{owner} needs {location[-1]!r}",
            source.key_span(parent) if parent else source.value_span(()),
            hint=_example(location),
        )
    if kind in _TYPES:
        hint = _example(location)
        if kind.startswith("bool_") and isinstance(value, str):
            meant = {"yes": "true", "on": "true", "true": "true", "no": "false", "off": "false", "false": "false"}
            hint = f"write {meant[value.lower()]}, without quotes" if value.lower() in meant else hint
        return Diagnostic("wrong-type", f"{where} must be {_TYPES[kind]}, not {_said(value)}", span, hint=hint)
    if kind in ("literal_error", "enum"):
        expected = [p.strip().strip("'") for p in str(context.get("expected", "")).replace(" or ", ",").split(",")]
        hint = did_you_mean(str(value), [e for e in expected if e], "choose one of")
        if isinstance(value, dict | list | None):
            return Diagnostic("wrong-type", f"{where} must be text or a number, not {_said(value)}", span, hint=hint)
        return Diagnostic("unknown-value", f"{where} cannot be {show(value)}", span, hint=hint)
    if kind in ("greater_than_equal", "less_than_equal"):
        limit = context.get("ge", context.get("le"))
        side = "at least" if kind == "greater_than_equal" else "at most"
        return Diagnostic("out-of-range", f"{where} must be {side} {limit}, not {show(value)}", span)
    hint = context.get("hint")
    # Only our own errors have codes with a dash; any other is a kind of pydantic's that has no words of its own here.
    code = kind if "-" in kind else "wrong-type"
    if context.get("at") is not None:
        span = source.within(location, *context["at"])
    return Diagnostic(code, context.get("message") or error["msg"], span, hint=hint, note=note, masked=code == "secret-in-file")


def _said(value: Any) -> str:
    kind = kind_of(value)
    return kind if kind in ("nothing", "a list", "keys and values") else f"{kind} ({show(value)})"


def _dotted(path: Path_) -> str:
    out = ""
    for part in path:
        out += f"[{part}]" if isinstance(part, int) else f".{part}" if out else str(part)
    return out


def _field(location: Path_) -> tuple[type[Base] | None, Any]:
    """The model at a location, and the field of its last step, found by walking the models as the data was."""
    model: type[Base] | None = Spec
    field = None
    for part in location:
        if model is None:
            # Inside a mapping by name or a list: the element's model is the field's.
            model = _inner(field.annotation) if field is not None else None
            field = None
            continue
        fields = {f.alias or name: f for name, f in model.model_fields.items()}
        field = fields.get(str(part))
        if field is None:
            return model, None
        inner = _inner(field.annotation)
        model = None if inner is None or _is_container(field.annotation) else inner
    return (model if model is not None else _inner(field.annotation) if field is not None else None), field


def _is_container(annotation: Any) -> bool:
    if get_origin(annotation) in (dict, list):
        return True
    return any(_is_container(a) for a in get_args(annotation) if a is not type(None))


def _inner(annotation: Any) -> type[Base] | None:
    if isinstance(annotation, type) and issubclass(annotation, Base):
        return annotation
    for argument in reversed(get_args(annotation)):
        if (found := _inner(argument)) is not None:
            return found
    return None


def _unknown_key(location: Path_, source: Source, *, hints: bool = True) -> Diagnostic:
    model, _ = _field(location[:-1])
    key = str(location[-1])
    parent = _dotted(location[:-1]) or "the file"
    known = [f.alias or name for name, f in model.model_fields.items()] if model is not None else []
    code, what = "unknown-key", "keys"
    if model is SliSpec or model is ReceiverSpec:
        code, what = "unknown-kind", "kinds"
        message = f"{show(key)} is not a kind of {'SLI' if model is SliSpec else 'receiver'}"
    else:
        message = f"{parent} has no key {show(key)}"
    hint = did_you_mean(key, known, what) if hints else None
    return Diagnostic(code, message, source.key_span(location), hint=hint)


def _example(location: Path_) -> str | None:
    while location and isinstance(location[-1], int):
        location = location[:-1]
    _, field = _field(location)
    examples = getattr(field, "examples", None)
    if not examples or examples[0] in ({}, [], [{}]):
        return None
    example = examples[0]
    text = example if isinstance(example, str) else json.dumps(example, ensure_ascii=False)
    return f"for example {location[-1]}: {text}"
