"""Grafana's dashboards, from the Model.

An overview, a page and a runbook for each service, a page for each process, and what all services share: incidents,
deployments, probes, the SLA report, alert quality, the stack itself.
"""

from __future__ import annotations

from collections.abc import Iterator

from grafana_foundation_sdk.models.dashboard import Dashboard

from generator.model import Model
from generator.render import Artifact
from generator.render.dashboards import (
    alerts,
    contract,
    deployments,
    incident,
    overview,
    probes,
    process,
    runbook,
    service,
    stack,
)
from generator.render.dashboards.inspect import Query, panels, queries
from generator.render.dashboards.style import encoded

FOLDER = "grafana/generated/dashboards"

__all__ = ["FOLDER", "Query", "panels", "queries", "render"]


def render(model: Model) -> list[Artifact]:
    """Every dashboard as a file named after its uid, sorted by path."""
    return sorted(Artifact(f"{FOLDER}/{page.uid}.json", encoded(page)) for page in _pages(model))


def _pages(model: Model) -> Iterator[Dashboard]:
    # One at a time: a page takes several times the memory of its text.
    yield overview.render(model)
    yield stack.render()
    yield incident.render()
    yield deployments.render()
    yield alerts.render()
    for page in (contract.render(model), probes.render(model)):
        if page is not None:
            yield page
    for one in model.services:
        yield service.render(model, one)
        yield runbook.render(model, one)
        for part in one.processes:
            yield process.render(model, one, part)
