"""Renderers: pure functions from the Model to artifacts. No files, no clock, no network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from generator.model import Model


@dataclass(frozen=True, order=True)
class Artifact:
    """A rendered file: its path relative to the project, with forward slashes, and its text."""

    path: str
    text: str


def everything(model: Model) -> list[Artifact]:
    """Every file that follows from a Model, sorted by path."""
    from generator.collecting import without_collecting
    from generator.render import alertmanager, dashboards, loki_rules, rules, runbooks, scrape

    parts = (rules, loki_rules, scrape, alertmanager, dashboards, runbooks)
    with without_collecting():
        return sorted(artifact for part in parts for artifact in part.render(model))
