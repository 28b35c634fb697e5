"""A service with everything that it inherits: probes, processes, panels and runbooks, its SLOs and its alerts."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from generator import names, promql, sli
from generator import spec as spec_module
from generator.diagnostics import Note
from generator.model import alerts, objectives
from generator.model.given import Given
from generator.model.resolved import ResolvedPanel, ResolvedProbe, ResolvedProcess, ResolvedService, ResolvedSlo
from generator.sli import with_window
from generator.source import Path_
from generator.spec import Probe, Process, Runbook, Scrape, Slo
from generator.units import Duration


def resolve_service(given: Given, name: str) -> ResolvedService:
    """A service, with all that belongs to it."""
    spec, defaults = given.spec.services[name], given.spec.defaults
    at: Path_ = ("services", name)
    owner = spec.owner or defaults.owner
    tier = spec.tier or defaults.tier
    match = {"job": name} if spec.match is None else spec.match
    interval = (spec.scrape.interval if spec.scrape else None) or defaults.interval
    if spec.scrape is not None:
        _check_scrape(given, spec.scrape, (*at, "scrape"))
    probes = tuple(_resolve_probe(given, name, p, probe, owner, (*at, "probes", p)) for p, probe in spec.probes.items())
    context = {
        "service": name,
        "match": match,
        "range": sli.rate_range(interval),
        "probes": {p: (probe.interval, probe.slower_than) for p, probe in spec.probes.items()},
        "processes": {p: process.sla for p, process in spec.processes.items()},
    }
    slos: list[ResolvedSlo] = []
    processes = []
    for s, slo in spec.slos.items():
        slos += objectives.resolve_slo(given, name, s, slo, owner, tier, context, (*at, "slos", s))
    for p, probe in spec.probes.items():
        if probe.objective is not None:
            promise = Slo.model_construct(
                objective=probe.objective,
                sli=spec_module.SliSpec(probe=sli.Probe(name=p)),
                title=f"{p} answers from outside",
                alerting=probe.alerting,
                runbook=probe.runbook,
            )
            slos += objectives.resolve_slo(given, name, p, promise, owner, tier, context, (*at, "probes", p))
        elif probe.alerting is not None:
            given.say("missing-key", "alerting needs an objective", (*at, "probes", p, "alerting"), "objective: 99.9%")
    for p, process in spec.processes.items():
        resolved, promises = _resolve_process(given, name, p, process, owner, tier, context, (*at, "processes", p))
        processes.append(resolved)
        slos += promises
    _check_identity(given, slos, at)
    by_name = {slo.name: slo for slo in slos}
    resolved_alerts = tuple(
        alerts.resolve_alert(given, name, a, alert, owner, match, interval, by_name, (*at, "alerts", a))
        for a, alert in spec.alerts.items()
    )
    # One whose text was faulty has been told of already.
    written = given.source.data_at((*at, "runbook"))
    dropped = isinstance(written, dict) and spec.runbook is not None and {*written} > spec.runbook.model_fields_set
    if _says_nothing(spec.runbook) and not dropped:
        _check_runbooks(given, name, (*at,))
    if not (slos or resolved_alerts or probes or processes or spec.scrape) and given.whole:
        given.say(
            "empty-service",
            f"nothing is watched of {name}",
            at,
            "give it slos:, alerts: or probes:",
            on_key=True,
            warning=True,
        )
    return ResolvedService(
        name=name,
        title=spec.title or name,
        description=spec.description,
        owner=owner,
        tier=tier,
        match=match,
        interval=interval,
        depends_on=tuple(spec.depends_on),
        scrape=spec.scrape,
        probes=probes,
        slos=tuple(slos),
        alerts=resolved_alerts,
        runbook=given.runbook(spec.runbook, (*at, "runbook")),
        processes=tuple(processes),
        panels=tuple(
            ResolvedPanel(
                service=name,
                title=title,
                exprs=tuple(_for_grafana(expr, match) for expr in panel.expr),
                unit=panel.unit,
                group=panel.group or "Metrics",
                show=panel.show,
                description=panel.description,
            )
            for title, panel in spec.panels.items()
        ),
        runbooks={
            procedure: book
            for procedure, runbook in spec.runbooks.items()
            if (book := given.runbook(runbook, (*at, "runbooks", procedure))) is not None
        },
    )


def _check_scrape(given: Given, scrape: Scrape, at: Path_) -> None:
    for index, target in enumerate(scrape.targets):
        if "://" in target or "/" in target or ":" not in target:
            given.say(
                "bad-target",
                f"{target!r} is not host:port",
                (*at, "targets", index),
                "the scheme and the path have keys of their own",
            )
    if scrape.interval is not None and not 1 <= scrape.interval.seconds <= 120:
        # Beyond two minutes a lost scrape makes series stale between two others.
        given.say("bad-interval", f"an interval of {scrape.interval} is not from 1s to 2m", (*at, "interval"))


def _resolve_probe(given: Given, service: str, name: str, probe: Probe, owner: str, at: Path_) -> ResolvedProbe:
    if probe.timeout > probe.interval:
        given.say(
            "bad-timeout",
            f"the timeout {probe.timeout} is longer than the interval {probe.interval}",
            (*at, "timeout"),
        )
    if not 1 <= probe.interval.seconds <= 3600:
        given.say("bad-interval", f"an interval of {probe.interval} is not from 1s to 1h", (*at, "interval"))
    if probe.slower_than is not None and probe.slower_than > probe.timeout:
        given.say(
            "unreachable-threshold",
            f"an answer slower than {probe.slower_than} is never seen: the timeout is {probe.timeout}",
            (*at, "slower_than"),
            f"set timeout: {probe.slower_than * 2} or a lower slower_than",
        )
    return ResolvedProbe(
        service=service,
        name=name,
        url=probe.url,
        interval=probe.interval,
        timeout=probe.timeout,
        slower_than=probe.slower_than,
        status=tuple(probe.status),
        failures=probe.failures,
        severity=probe.severity,
        owner=owner,
        runbook=given.runbook(probe.runbook, (*at, "runbook")),
    )


def _resolve_process(
    given: Given, service: str, id_: str, spec: Process, owner: str, tier: str, context: dict[str, object], at: Path_
) -> tuple[ResolvedProcess, list[ResolvedSlo]]:
    """A process, and an SLO for each of its objectives."""
    tier = spec.tier or ("critical" if spec.critical else tier)
    owner = spec.owner or owner
    slos: list[ResolvedSlo] = []
    named: dict[str, str] = {}
    for measure, title in (
        ("success", "succeeds"),
        ("within_sla", f"ends within {spec.sla}"),
        ("timeouts", "does not time out"),
    ):
        share = getattr(spec.objectives, measure)
        if share is None:
            continue
        named[measure] = f"{id_}_{measure}"
        slo = Slo.model_construct(
            objective=1 - share if measure == "timeouts" else share,
            sli=spec_module.SliSpec(process=sli.Process.model_validate({"id": id_, "measure": measure, "from": spec.source})),
            title=f"{spec.name} {title}",
            description=spec.description,
            window=spec.window,
            by=[],
            sla=None,
            alerting=spec.alerting,
            minimum_events=spec.minimum_events,
            owner=owner,
            tier=tier,  # type: ignore[arg-type]
            runbook=spec.runbook,
        )
        slos += objectives.resolve_slo(
            given, service, named[measure], slo, owner, tier, context, (*at, "objectives", measure), process=id_
        )
    if spec.sla is not None and named.get("within_sla") and spec.source == "metrics":
        bounds = [Decimal(b) for b in names.PROCESS_BUCKETS]
        if spec.sla.seconds not in bounds:
            near = min(bounds, key=lambda b: abs(b - spec.sla.seconds))  # type: ignore[union-attr]
            given.say(
                "not-a-bucket",
                f"lgtm_instrumentation has no bucket that ends at {spec.sla}",
                (*at, "sla"),
                f"the nearest is {Duration(near)}; or set from: spans, which can tell any time",
                warning=True,
            )
    return (
        ResolvedProcess(
            service=service,
            id=id_,
            name=spec.name,
            description=spec.description,
            version=spec.version,
            handler=spec.handler,
            sla=spec.sla,
            tier=tier,
            critical=tier == "critical",
            owner=owner,
            documentation_url=spec.documentation_url,
            stages=tuple(spec.stages),
            probe=spec.probe,
            source=spec.source,
            slos=named,
            runbook=given.runbook(spec.runbook, (*at, "runbook")),
        ),
        slos,
    )


def _check_runbooks(given: Given, service: str, at: Path_) -> None:
    """What can page somebody of a service without a runbook of its own."""
    spec = given.spec.services[service]

    def pages(name: str | None) -> bool:
        policy = given.policies.get(name or given.spec.defaults.alerting)
        if policy is None:
            return False
        freezes = policy.freeze is not None and policy.freeze.severity == "critical"
        return bool(policy.critical) or policy.exhausted == "critical" or freezes

    silent: list[tuple[str, Path_]] = [
        (f"the alert {name}", (*at, "alerts", name))
        for name, alert in spec.alerts.items()
        if alert.severity == "critical" and _says_nothing(alert.runbook)
    ]
    silent += [
        (f"the probe {name}", (*at, "probes", name))
        for name, probe in spec.probes.items()
        if _says_nothing(probe.runbook)
        and (probe.severity == "critical" or (probe.objective is not None and pages(probe.alerting)))
    ]
    for name, slo in spec.slos.items():
        if _says_nothing(slo.runbook) and pages(slo.alerting):
            silent.append((f"the SLO {name}", (*at, "slos", name)))
    for name, process in spec.processes.items():
        measured = any(getattr(process.objectives, m) is not None for m in ("success", "within_sla", "timeouts"))
        if _says_nothing(process.runbook) and pages(process.alerting) and measured:
            silent.append((f"the process {name}", (*at, "processes", name)))
    if silent:
        what, path = silent[0]
        more = f" and {len(silent) - 1} more of this service" if len(silent) > 1 else ""
        given.say(
            "missing-runbook",
            f"{what}{more} can page somebody, and nothing says what to do",
            path,
            "add runbook: to it, or to the service for all of it",
            on_key=True,
            warning=True,
        )


def _check_identity(given: Given, slos: list[ResolvedSlo], at: Path_) -> None:
    """SLOs that processes and SLAs make must not have the name of another one."""
    seen: set[str] = set()
    for slo in slos:
        if slo.name in seen:
            given.say(
                "duplicate-identity",
                f"{slo.name} would be the name of two SLOs",
                (*at, "processes", slo.process) if slo.process else (*at, "slos", slo.sla_of or slo.name),
                f"rename the SLO {slo.name}",
                on_key=True,
                note=Note(given.source.key_span((*at, "slos", slo.name)), "the other one"),
            )
        seen.add(slo.name)


# A range that nobody writes, in whose place Grafana's variable comes once the query has been rewritten.
_ANY_RANGE = "11h11m11s"


def _for_grafana(query: str, match: Mapping[str, str]) -> str:
    rewritten = promql.with_matchers(with_window(query, _ANY_RANGE), match)
    return rewritten.replace(_ANY_RANGE, "$__rate_interval")


def _says_nothing(runbook: Runbook | None) -> bool:
    """Whether a runbook is none for somebody who was paged."""
    if runbook is None:
        return True
    parts = (runbook.url, runbook.file, runbook.symptoms, runbook.impact, runbook.diagnosis, runbook.causes)
    return not any((*parts, runbook.recovery, runbook.escalation))
