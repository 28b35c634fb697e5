"""The file format: pydantic models that check each value by itself. What needs two places at once is model.py's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BeforeValidator, Field, ValidationError, create_model, model_validator

from generator import receivers as receiver_kinds
from generator import sli as sli_kinds
from generator.base import AlertName, Base, LabelName, Name, Query, Text, Url, fault
from generator.diagnostics import Diagnostic, Span, did_you_mean
from generator.source import Path_, Source, kind_of
from generator.units import DurationField, RatioField, ThresholdField, show

Severity = Literal["critical", "warning", "info"]
Tier = Literal["critical", "high", "medium", "low"]


def _one_or_many(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


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


class Runbook(Base):
    """What to do: a link to a page of your own, or the parts of one that is made for you."""

    url: Url | None = Field(None, description="A page elsewhere.", examples=["https://wiki.example.com/runbooks/db"])
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
            return {"url": data} if data.startswith(("http://", "https://")) else {"symptoms": data}
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


def _some_kind(kinds: Mapping[str, type[Any]], what: str, *, many: bool = False) -> Any:
    def check(data: Any) -> Any:
        if isinstance(data, dict):
            named = [key for key in data if key in kinds]
            if not data or all(data[key] is None for key in data):
                raise fault("missing-kind", f"this names no kind of {what} with its fields", f"kinds: {', '.join(kinds)}")
            if len(named) > 1 and not many:
                raise fault("one-of", f"an {what} is of one kind, not {' and '.join(named)}", f"make {len(named)} SLOs")
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


class Slo(Base):
    """A service level objective: which share of events must be good, over which window."""

    objective: RatioField = Field(description="The share of events that must be good.", examples=["99.9%"])
    sli: Annotated[SliSpec, BeforeValidator(_some_kind(sli_kinds.KINDS, "SLI"))] = Field(
        description="What is measured.",
        examples=[{"ratio": {"errors": 'http_requests_total{code=~"5.."}', "total": "http_requests_total"}}],
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

    expr: Query = Field(description="PromQL.", examples=["db_pool_used / db_pool_size"])
    above: ThresholdField | None = Field(None, description="It fires above this.", examples=["80%"])
    below: ThresholdField | None = Field(None, description="It fires below this.", examples=["10%"])
    for_: DurationField = Field("0s", alias="for", validate_default=True, description="… for this long.", examples=["5m"])
    severity: Severity = Field("warning", description="critical pages, warning tickets, info informs.", examples=["warning"])
    owner: Name | None = Field(None, description="Who gets it, where not the service's owner.", examples=["dba"])
    summary: Text | None = Field(None, description="One sentence.", examples=["The connection pool is nearly used up"])
    runbook: Runbook | None = Field(None, description="What to do.", examples=["https://wiki.example.com/pool"])

    @model_validator(mode="after")
    def _one_threshold(self) -> Alert:
        if self.above is not None and self.below is not None:
            raise fault("one-of", "an alert is above or below a threshold, not both", "make two alerts")
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
    alerts: dict[AlertName, Alert] = Field(default_factory=dict, description="Alerts on causes.", examples=[{}])
    runbook: Runbook | None = Field(None, description="For every alert without one of its own.", examples=[{"impact": "…"}])


class Window(Base):
    """One condition of a burn-rate policy: it holds over a long and a short window at once."""

    long: DurationField = Field(description="The window that says it matters.", examples=["1h"])
    short: DurationField = Field(description="The window that says it goes on.", examples=["5m"])
    budget: RatioField = Field(description="The share of the budget that is spent within the long window.", examples=["2%"])


class Policy(Base):
    """A burn-rate policy: conditions for each severity. One that is left out is off."""

    critical: list[Window] = Field(
        default_factory=list, description="Pages.", examples=[[{"long": "1h", "short": "5m", "budget": "2%"}]]
    )
    warning: list[Window] = Field(
        default_factory=list, description="Tickets.", examples=[[{"long": "3d", "short": "6h", "budget": "10%"}]]
    )


class Route(Base):
    """Who gets an alert: the first route whose conditions all hold."""

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
    to: Annotated[list[Name], BeforeValidator(_one_or_many), BeforeValidator(_not_empty)] = Field(
        description="Receivers.", examples=[["phone", "chat"]]
    )


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
    routes: list[Route] = Field(
        default_factory=list, description="Tried in order.", examples=[[{"severity": "critical", "to": "phone"}]]
    )
    watchdog: Annotated[list[Name], BeforeValidator(_one_or_many)] | None = Field(
        None, description="Who gets the heartbeat that never stops.", examples=["heartbeat"]
    )
    grouping: Grouping = Field(
        default_factory=lambda: Grouping(), description="How alerts become notifications.", examples=[{"wait": "10s"}]
    )


class Spec(Base):
    """The whole file."""

    version: Literal[1] = Field(description="The format's version.", examples=[1])
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
            diagnostics = [_diagnostic(fault, source) for fault in faults]
            data = _close_up(data)
        for one in faults:
            _remove(data, _written(one["loc"]), whole=attempt > 0 or one["type"] == "missing")
        data = _close_up(data)
    return None, diagnostics


# Each attempt cuts a level further up, so this is the depth of the format.
_ATTEMPTS = 8


def _written(location: tuple[str | int, ...]) -> Path_:
    return tuple(part for part in location if part != "[key]")


def _remove(data: Any, path: Path_, *, whole: bool) -> None:
    """Drop the part at ``path``, or with ``whole`` the part that holds it."""
    chain = [data]
    for part in path:
        node = chain[-1]
        if (isinstance(node, dict) and part in node) or (isinstance(node, list) and isinstance(part, int) and part < len(node)):
            chain.append(node[part])  # type: ignore[index]
        else:
            break
    depth = len(chain) - 1
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


def _diagnostic(error: dict[str, Any], source: Source) -> Diagnostic:
    kind: str = error["type"]
    # pydantic puts the names of union members and "[key]" into the location; positions know only what was written.
    location = _written(error["loc"])
    on_key = "[key]" in error["loc"]
    while location and location not in source.values and kind not in ("missing", "extra_forbidden"):
        location = location[:-1]
    context = error.get("ctx") or {}
    value = error.get("input")
    span: Span = source.key_span(location) if on_key else source.value_span(location)
    where = _dotted(location)
    if kind == "extra_forbidden":
        return _unknown_key(location, source)
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
        return Diagnostic("wrong-type", f"{where} must be {_TYPES[kind]}, not {_said(value)}", span, hint=hint)
    if kind in ("literal_error", "enum"):
        expected = [p.strip().strip("'") for p in str(context.get("expected", "")).replace(" or ", ",").split(",")]
        hint = did_you_mean(str(value), [e for e in expected if e], "choose one of")
        return Diagnostic("unknown-value", f"{where} cannot be {show(value)}", span, hint=hint)
    if kind in ("greater_than_equal", "less_than_equal"):
        limit = context.get("ge", context.get("le"))
        side = "at least" if kind == "greater_than_equal" else "at most"
        return Diagnostic("out-of-range", f"{where} must be {side} {limit}, not {show(value)}", span)
    hint = context.get("hint")
    # Only our own errors have codes with a dash; any other is a kind of pydantic's that has no words of its own here.
    code = kind if "-" in kind else "bad-value"
    return Diagnostic(code, error["msg"], span, hint=hint, masked=code == "secret-in-file")


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


def _unknown_key(location: Path_, source: Source) -> Diagnostic:
    model, _ = _field(location[:-1])
    key = str(location[-1])
    parent = _dotted(location[:-1]) or "the file"
    known = [f.alias or name for name, f in model.model_fields.items()] if model is not None else []
    code, what = "unknown-key", "keys"
    if model is SliSpec or model is ReceiverSpec:
        code, what = "unknown-kind", "kinds"
        message = f"{key!r} is not a kind of {'SLI' if model is SliSpec else 'receiver'}"
    else:
        message = f"{parent} has no key {key!r}"
    return Diagnostic(code, message, source.key_span(location), hint=did_you_mean(key, known, what))


def _example(location: Path_) -> str | None:
    _, field = _field(location)
    examples = getattr(field, "examples", None)
    if not examples or examples[0] in ({}, [], [{}]):
        return None
    example = examples[0]
    text = example if isinstance(example, str) else json.dumps(example, ensure_ascii=False)
    return f"for example {location[-1]}: {text}"
