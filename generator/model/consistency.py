"""What only shows when all services are there: names, cycles, objectives out of reach, tests of alerts that are not."""

from __future__ import annotations

from decimal import Decimal

from generator import names, sli
from generator.diagnostics import Note, did_you_mean
from generator.model.given import Given
from generator.model.resolved import Model, ResolvedService, ResolvedSlo, alert_labels
from generator.sli import Ratio, Traces
from generator.source import Path_
from generator.units import percent


def check_cycles(given: Given) -> None:
    """Each dependency that closes a circle, found by a search that visits every service once."""
    graph = {name: service.depends_on for name, service in given.spec.services.items()}
    done: set[str] = set()
    for start in graph:
        if start in done:
            continue
        trail = {start: None}
        stack = [(start, iter(enumerate(graph[start])))]
        while stack:
            node, children = stack[-1]
            index, child = next(children, (-1, ""))
            if index < 0:
                stack.pop()
                trail.pop(node)
                done.add(node)
            elif child in trail:
                names = list(trail)
                loop = [*names[names.index(child) :], child]
                shown = loop if len(loop) <= 8 else [*loop[:4], "…", *loop[-3:]]
                first: Path_ = ("services", child, "depends_on")
                given.say(
                    "dependency-cycle",
                    f"these services depend on each other: {' → '.join(shown)}"
                    if len(loop) > 2
                    else f"{child} depends on itself",
                    ("services", node, "depends_on", index),
                    "leave out the dependency that is the weaker one",
                    note=Note(given.source.value_span(first), f"{child} depends on {loop[1]}") if len(loop) > 2 else None,
                )
            elif child in graph and child not in done:
                trail[child] = None
                stack.append((child, iter(enumerate(graph[child]))))


def check_names(given: Given, services: tuple[ResolvedService, ...]) -> None:
    """Names of services become names of files and of scrape jobs."""
    files: dict[str, str] = {}
    jobs: dict[str, str] = {}
    for service in services:
        at: Path_ = ("services", service.name)
        if (other := files.setdefault(service.name.lower(), service.name)) != service.name:
            given.say(
                "duplicate-identity",
                f"{service.name} and {other} differ only in capitals, and some file systems see no difference",
                at,
                "rename one of the two",
                on_key=True,
                note=Note(given.source.key_span(("services", other)), "the other one"),
            )
        if service.scrape is None:
            continue
        job = service.match.get("job", service.name)
        if job in names.STACK_JOBS:
            given.say(
                "reserved-name",
                f"the stack scrapes {job} itself",
                (*at, "scrape"),
                f"leave scrape out and write match: {{job: {job}}}, or rename the service",
                on_key=True,
            )
        elif (other := jobs.setdefault(job, service.name)) != service.name:
            given.say(
                "duplicate-job",
                f"{service.name} and {other} are both scraped as the job {job}",
                (*at, "scrape"),
                "name all targets under one of them",
                on_key=True,
                note=Note(given.source.key_span(("services", other, "scrape")), "the other one"),
            )


def check_dependencies(given: Given, services: tuple[ResolvedService, ...]) -> None:
    """No service is more available than what it depends on."""
    by_name = {service.name: service for service in services}

    def best(service: ResolvedService) -> ResolvedSlo | None:
        promises = [slo for slo in service.slos if not slo.sla_of and _tells_availability(slo)]
        return max(promises, key=lambda slo: slo.objective, default=None)

    for service in services:
        caps = [slo for name in service.depends_on if name in by_name and (slo := best(by_name[name])) is not None]
        if not caps:
            continue
        cap = Decimal(1)
        for slo in caps:
            cap *= slo.objective
        weakest = min(caps, key=lambda slo: slo.objective)
        for slo in service.slos:
            if slo.objective > cap and not slo.sla_of and slo.process is None and _tells_availability(slo):
                given.say(
                    "unreachable-objective",
                    f"{percent(slo.objective)} is more than {service.name} can reach behind "
                    f"{', '.join(f'{c.service} at {percent(c.objective)}' for c in caps)}: {percent(_rounded(cap))}",
                    ("services", service.name, "slos", slo.name, "objective"),
                    "lower it, raise the dependency's, or remove depends_on where the service works without it",
                    warning=True,
                    note=Note(
                        given.source.value_span(("services", weakest.service, "slos", weakest.name, "objective")),
                        "the dependency's objective",
                    ),
                )


def check_tests(given: Given, model: Model) -> None:
    """Expectations of alerts that the file does not make."""
    for index, test in enumerate(model.tests):
        at: Path_ = ("tests", index)
        mine = [labels for _, labels in alert_labels(model) if labels["service"] == test.service]
        if any(test.is_about(labels) for labels in mine):
            continue
        named = [labels for labels in mine if labels["alertname"] == test.alert]
        if not named:
            known = {labels["alertname"] for labels in mine}
            hint = did_you_mean(test.alert, known, f"alerts of {test.service}")
            given.say("unknown-alert", f"{test.service} has no alert {test.alert}", (*at, "alert"), hint)
        elif test.slo is not None and test.slo not in (slos := {labels.get("slo", "") for labels in named} - {""}):
            hint = did_you_mean(test.slo, slos, "SLOs")
            given.say("unknown-slo", f"no {test.alert} is of an SLO {test.slo}", (*at, "slo"), hint)
        else:
            severities = " or ".join(sorted({labels["severity"] for labels in named}))
            given.say(
                "unknown-alert", f"{test.alert} of {test.service} is never {test.severity}", (*at, "severity"), severities
            )


def _tells_availability(slo: ResolvedSlo) -> bool:
    """Whether an SLO is about working at all, and not about speed, age or a limit."""
    if isinstance(slo.sli, sli.Process):
        return slo.sli.measure == "success"
    return isinstance(slo.sli, Ratio | sli.Boolean | sli.Probe) or (isinstance(slo.sli, Traces) and slo.sli.under is None)


def _rounded(ratio: Decimal) -> Decimal:
    return ratio.quantize(Decimal("1e-6")).normalize()
