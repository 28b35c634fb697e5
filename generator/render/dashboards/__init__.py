"""Grafana's dashboards, from the Model: an overview, a page for each service, and a runbook for each service."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from generator.model import Model
from generator.render import Artifact
from generator.render.dashboards import overview, runbook, service
from generator.render.dashboards.inspect import Query, panels, queries
from generator.render.dashboards.style import encoded

FOLDER = "grafana/generated/dashboards"

__all__ = ["FOLDER", "Query", "panels", "queries", "render"]


def render(model: Model) -> list[Artifact]:
    """Every dashboard as a file named after its uid, sorted by path."""
    pages: list[Dashboard] = [overview.render(model)]
    for one in model.services:
        pages += [service.render(model, one), runbook.render(model, one)]
    return sorted(Artifact(f"{FOLDER}/{page.uid}.json", encoded(page)) for page in pages)
