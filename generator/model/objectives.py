"""An SLO with everything that it inherits, its SLA, and what its SLI needs to know of the service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from generator import sli
from generator.diagnostics import Note
from generator.model import alerts, policies
from generator.model.given import Given
from generator.model.resolved import LONGEST_WINDOW, SHORTEST_WINDOW, ResolvedSla, ResolvedSlo
from generator.names import RESERVED_LABELS
from generator.sli import Context, Freshness, Latency, Ratio, Sli, Traces
from generator.source import Path_
from generator.spec import Slo
from generator.units import percent

# The events of a gauge or a probe are seconds. While a window has little history, one failed check at a start would be most
# of it; over a full hour, the standard policy needs 52 bad seconds at 99.9% anyway.
MINIMUM_BAD_SECONDS = 60

# Labels with a value for each request, person or message.
HIGH_CARDINALITY = frozenset((
    "user_id", "userid", "user", "username", "email", "email_address", "request_id", "requestid", "trace_id", "traceid",
    "span_id", "session_id", "session", "conversation_id", "message_id", "order_id", "ip", "ip_address", "client_ip",
    "remote_addr", "url", "uri", "full_path", "query", "token", "uuid", "guid",
))  # fmt: skip


def resolve_slo(
    given: Given,
    service: str,
    name: str,
    spec: Slo,
    owner: str,
    tier: str,
    context: dict[str, object],
    at: Path_,
    process: str | None = None,
) -> list[ResolvedSlo]:
    """An SLO; and with an SLA that has its own latency threshold, the companion that measures that."""
    defaults = given.spec.defaults
    window = spec.window or defaults.window
    indicator: Sli = next(s for kind in sli.KINDS if (s := getattr(spec.sli, kind)) is not None)
    if not 0 < spec.objective < 1:
        given.say(
            "impossible-objective",
            f"an objective of {percent(spec.objective)} leaves no budget"
            if spec.objective
            else "an objective of 0% promises nothing",
            (*at, "objective"),
            "choose one between, such as 99.9%",
        )
    if not SHORTEST_WINDOW <= window <= LONGEST_WINDOW:
        path: Path_ = (*at, "window") if spec.window else ("defaults", "window")
        given.say("bad-window", f"{window} is not from {SHORTEST_WINDOW} to {LONGEST_WINDOW}", path)
    for index, label in enumerate(spec.by):
        if label in RESERVED_LABELS:
            given.say("reserved-label", f"the label {label} means something on every SLO already", (*at, "by", index))
        elif label in HIGH_CARDINALITY:
            given.say(
                "label-explodes",
                f"{label} has a value for each request or person, and each would get a budget and alerts of its own",
                (*at, "by", index),
                "group by something with few values, such as region; find the single one in traces and logs",
                warning=True,
            )
    if isinstance(indicator, Ratio) and indicator.total_ in (indicator.errors_, indicator.good):
        which = "errors" if indicator.errors_ else "good"
        given.say(
            "same-metric",
            f"{which} and total are the same metric, so that every event is {'bad' if indicator.errors_ else 'good'}",
            (*at, "sli", "ratio", which),
            f'narrow {which} by a label, such as {{code=~"5.."}}',
        )
    if given.retention is not None and window > given.retention:
        given.say(
            "beyond-retention",
            f"a window of {window} needs data that Prometheus keeps for {given.retention} only",
            (*at, "window") if spec.window else ("defaults", "window"),
            f"set PROMETHEUS_RETENTION={window} in .env, or a shorter window",
        )
    _check_indicator(given, indicator, context, at)
    policy = spec.alerting or defaults.alerting
    burn = policies.conditions(given, spec.objective, window, policy, at)
    minimum = defaults.minimum_events if indicator.weighted_by_traffic else MINIMUM_BAD_SECONDS
    if spec.minimum_events is not None:
        minimum = spec.minimum_events
    chosen = given.policies.get(policy)
    first = ResolvedSlo(
        service=service,
        name=name,
        title=spec.title or name,
        description=spec.description,
        objective=spec.objective,
        window=window,
        sli=indicator,
        by=tuple(spec.by),
        owner=spec.owner or owner,
        tier=spec.tier or tier,
        policy=policy,
        burn=burn,
        minimum_events=minimum,
        runbook=given.runbook(spec.runbook, (*at, "runbook")),
        context=Context(by=tuple(spec.by), slo=name, **context),  # type: ignore[arg-type]
        process=process,
        exhausted=chosen.exhausted if chosen else None,
        freeze=(chosen.freeze.below, chosen.freeze.severity) if chosen and chosen.freeze else None,
    )
    return _with_sla(given, first, spec, at)


def _with_sla(given: Given, slo: ResolvedSlo, spec: Slo, at: Path_) -> list[ResolvedSlo]:
    """The SLO with its SLA, and the companion that measures it where its threshold is another one."""
    if spec.sla is None:
        return [slo]
    here: Path_ = (*at, "sla", "objective") if (*at, "sla", "objective") in given.source.values else (*at, "sla")
    period = spec.sla.window.removeprefix("calendar ")
    if not 0 < spec.sla.objective < 1:
        given.say("impossible-objective", "an SLA is between 0% and 100%", here, "write it as 99.5%")
    threshold = spec.sla.under
    own = getattr(slo.sli, "under", None)
    if threshold is not None and not isinstance(slo.sli, Latency | Traces):
        given.say("one-of", "under belongs to the SLA of a latency SLO", (*at, "sla", "under"), "remove it")
    elif threshold is not None and own is not None and threshold < own:
        given.say(
            "slo-looser-than-sla",
            f"the SLA promises {threshold}, faster than the SLO's {own}",
            (*at, "sla", "under"),
            "the SLO's threshold is the stricter one",
        )
    if threshold is None or own is None or threshold == own:
        if spec.sla.objective >= spec.objective:
            given.say(
                "slo-looser-than-sla",
                f"the SLA of {percent(spec.sla.objective)} is not looser than the objective of {percent(spec.objective)}",
                here,
                "the SLO must fail first, so that there is time to act",
                note=Note(given.source.value_span((*at, "objective")), "the objective"),
            )
        return [replace(slo, sla=ResolvedSla(spec.sla.objective, period, slo.name))]
    companion = replace(
        slo,
        name=f"{slo.name}_sla",
        title=f"{slo.title}: what was promised",
        description=f"Measures the SLA of {slo.name}.",
        objective=spec.sla.objective,
        sli=slo.sli.model_copy(update={"under": threshold}),
        policy="none",
        burn={},
        context=replace(slo.context, slo=f"{slo.name}_sla"),
        sla_of=slo.name,
        exhausted=None,
        freeze=None,
    )
    return [replace(slo, sla=ResolvedSla(spec.sla.objective, period, companion.name)), companion]


def _check_indicator(given: Given, indicator: Sli, context: Mapping[str, object], at: Path_) -> None:
    """What an SLI needs to know of its service."""
    interval = given.spec.defaults.interval
    service = given.spec.services.get(str(context["service"]))
    if service is not None and service.scrape is not None and service.scrape.interval is not None:
        interval = service.scrape.interval
    if isinstance(indicator, Freshness) and indicator.under.seconds < interval.seconds * 2:
        given.say(
            "below-resolution",
            f"an age of {indicator.under} cannot be told: metrics arrive every {interval}",
            (*at, "sli", "freshness", "under"),
            f"at least {interval * 2}",
        )
    if isinstance(indicator, sli.Limit):
        alerts.check_ranges(given, indicator.expr, interval, (*at, "sli", "threshold", "expr"))
    if isinstance(indicator, sli.Process) and indicator.measure == "within_sla":
        known: object = context["processes"]
        if indicator.under is None and not (isinstance(known, dict) and known.get(indicator.id)):
            given.say(
                "missing-key",
                f"no SLA of {indicator.id} is known",
                (*at, "sli", "process"),
                "add under: 2s, or the process with its sla under processes: of this service",
            )
