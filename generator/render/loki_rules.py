"""Recording rules for Loki's ruler: what SLIs on logs count, written to Prometheus as series that its rules read."""

from __future__ import annotations

from typing import Any

from generator.model import Model, ResolvedService
from generator.render import Artifact
from generator.render.yamltext import dump
from generator.sli import Logs

# Loki's tenant when it has none: its ruler looks for rules in a directory of that name.
TENANT = "fake"


def render(model: Model) -> list[Artifact]:
    """One rule file for each service with an SLI on logs."""
    artifacts = []
    for service in model.services:
        if groups := service_groups(service):
            artifacts.append(Artifact(f"loki/generated/rules/{TENANT}/service-{service.name}.yaml", dump({"groups": groups})))
    return artifacts


def service_groups(service: ResolvedService) -> list[dict[str, Any]]:
    """The rule groups of one service."""
    rules = [
        {"record": record, "expr": expr, "labels": {"service": slo.service, "slo": slo.name}}
        for slo in service.slos
        if isinstance(slo.sli, Logs)
        for record, expr in slo.sli.recorded(slo.context).items()
    ]
    return [{"name": f"{service.name}:logs", "interval": "30s", "rules": rules}] if rules else []
