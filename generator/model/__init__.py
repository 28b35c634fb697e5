"""The Spec resolved: defaults filled in, references checked, burn rates computed. What renderers read.

User errors end here. A Model is consistent: every name in it exists, every alert in it can fire.

`resolved` is what comes of it, `given` what every step has at hand. `references` looks at the data as written; `policies`,
`services` (with `objectives` and `alerts`) and `routing` resolve each their part; `consistency` is what only shows at the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from generator import environment
from generator import source as source_module
from generator import spec as spec_module
from generator.collecting import without_collecting
from generator.diagnostics import Diagnostic, Span, ordered, split_lines
from generator.model import consistency, policies, references, routing, services
from generator.model.given import Given
from generator.model.policies import BUILT_IN_POLICIES
from generator.model.resolved import (
    DAY,
    HOUR,
    MINUTE,
    BurnWindow,
    Model,
    ResolvedAlert,
    ResolvedMaintenance,
    ResolvedPanel,
    ResolvedProbe,
    ResolvedProcess,
    ResolvedRoute,
    ResolvedRouting,
    ResolvedService,
    ResolvedSla,
    ResolvedSlo,
    ResolvedTest,
    alert_labels,
)
from generator.names import RESERVED_LABELS
from generator.source import Source
from generator.units import Duration

__all__ = [
    "BUILT_IN_POLICIES",
    "DAY",
    "HOUR",
    "MINUTE",
    "BurnWindow",
    "Model",
    "ResolvedAlert",
    "ResolvedMaintenance",
    "ResolvedPanel",
    "ResolvedProbe",
    "ResolvedProcess",
    "ResolvedRoute",
    "ResolvedRouting",
    "ResolvedService",
    "ResolvedSla",
    "ResolvedSlo",
    "ResolvedTest",
    "Result",
    "alert_labels",
    "load",
    "resolve",
]


@dataclass(frozen=True)
class Result:
    """What came of reading a file: its Model where there is no error, and every diagnostic, sorted."""

    model: Model | None
    diagnostics: list[Diagnostic] = field(default_factory=list)
    texts: Mapping[str, str] = field(default_factory=dict)

    @property
    def errors(self) -> list[Diagnostic]:
        """The diagnostics that keep the file from being used."""
        return [d for d in self.diagnostics if d.severity == "error"]


def load(
    files: Sequence[Path],
    display: Sequence[str] | None = None,
    *,
    retention: Duration | None = None,
    variables: Mapping[str, str] | None = None,
) -> Result:
    """Read, check and resolve ``files``. Never raises on bad content.

    ``retention`` is how long Prometheus keeps data, where that is known. ``variables`` are what ``${NAME}`` refers to;
    the environment when left out.
    """
    with without_collecting():
        source = source_module.load(files, display)
        environment.fill(source, variables)
        return resolve(source, retention=retention)


def resolve(source: Source, *, retention: Duration | None = None) -> Result:
    """Check and resolve data that was read."""
    diagnostics = list(source.diagnostics)
    if not source.data:
        return Result(None, _told(diagnostics), source.texts)
    spec, faults = spec_module.parse(source)
    diagnostics += faults
    diagnostics += references.undefined(source)
    model = None
    if spec is not None:
        given = Given(spec, source, whole=not diagnostics, retention=retention)
        model = _model(given)
        diagnostics += given.diagnostics
    result = _told(diagnostics)
    failed = model is None or any(d.severity == "error" for d in result)
    return Result(None if failed else model, result, _masked(source, result))


def _model(given: Given) -> Model:
    """The Model, as far as the spec allows one; what is wrong is said to ``given``."""
    spec = given.spec
    policies.check(given)
    consistency.check_cycles(given)
    if not spec.services:
        given.say("no-services", "the file watches nothing", ("services",), "add a service under services:")
    resolved = tuple(services.resolve_service(given, name) for name in spec.services)
    consistency.check_names(given, resolved)
    consistency.check_dependencies(given, resolved)
    model = Model(
        organization=spec.organization,
        grafana=spec.links.grafana.rstrip("/"),
        labels=spec.defaults.labels,
        services=resolved,
        routing=routing.resolve_routing(given),
        maintenance=tuple(routing.resolve_maintenance(given, name) for name in spec.maintenance),
        timezone=spec.defaults.timezone,
        tests=tuple(
            ResolvedTest(
                name=test.name,
                alert=test.alert,
                service=test.service,
                slo=test.slo,
                severity=test.severity,
                at=test.at,
                reaches=tuple(test.reaches),
                never=tuple(test.never),
                escalates=tuple(test.escalates),
                quiet=test.quiet,
                inhibited_by=test.inhibited_by,
            )
            for test in spec.tests
        ),
    )
    for label in spec.defaults.labels:
        if label in RESERVED_LABELS:
            given.say(
                "reserved-label",
                f"the label {label} is set by the generator",
                ("defaults", "labels", label),
                on_key=True,
            )
    if given.whole and not any(d.severity == "error" for d in given.diagnostics):
        routing.check_routes(given, model)
        consistency.check_tests(given, model)
    return model


def _told(diagnostics: list[Diagnostic]) -> list[Diagnostic]:
    """What is told of all that was found: sorted, and one diagnostic for one fault."""
    # What is not valid there anyway is said in the words of its field, and not as YAML's trap or as an unknown name.
    follows = ("yaml-trap", *references.CODES)
    other = {d.span for d in diagnostics if d.code not in follows}
    # A variable that is not filled in makes whatever stands there wrong.
    unfilled = {d.span for d in diagnostics if d.code in _UNFILLED}

    def caused(span: Span) -> bool:
        at = [s for s in unfilled if (s.file, s.line) == (span.file, span.line)]
        return any(span.column <= s.column and s.end_column <= span.end_column for s in at)

    return ordered(
        d
        for d in diagnostics
        if (d.span not in other or d.code not in follows) and (d.code in _UNFILLED or not unfilled or not caused(d.span))
    )


_UNFILLED = ("env-not-allowed", "unset-variable")


def _masked(source: Source, diagnostics: list[Diagnostic]) -> Mapping[str, str]:
    """The files' text for excerpts, with every secret that was found starred out wherever it stands."""
    texts = {name: list(split_lines(text)) for name, text in source.texts.items()}
    masked = {d.span for d in diagnostics if d.masked}
    roots = {path for path, span in source.values.items() if span in masked} if masked else set()
    for path, span in source.values.items() if masked else ():
        value = source.data_at(path)
        if isinstance(value, dict | list) or not any(path[:end] in roots for end in range(1, len(path) + 1)):
            continue
        value = str(value)
        for line, start, end in source.places(span)[: len("".join(value.split()))]:
            row = texts[span.file][line - 1]
            texts[span.file][line - 1] = row[: start - 1] + "*" * (end - start) + row[end - 1 :]
    return {name: "\n".join(lines) for name, lines in texts.items()} if masked else source.texts
