"""Grafana's dashboards, from the Model.

An overview, a page and a runbook for each service, a page for each process, one for each heading of the services' own panels,
and what all services share: errors, incidents, deployments, probes, the SLA report, alert quality, the stack itself.

Pages of one service lie in the folder of its owner; those of all lie outside of any folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from grafana_foundation_sdk.models.dashboard import Dashboard

from generator import names
from generator.model import Model
from generator.render import Artifact
from generator.render.dashboards import (
    alerts,
    ask,
    contract,
    deployments,
    errors,
    incident,
    overview,
    own,
    probes,
    process,
    runbook,
    service,
    stack,
)
from generator.render.dashboards.inspect import Query, panels, queries
from generator.render.dashboards.style import BLUE, Mark, Section, encoded

FOLDER = "grafana/generated/dashboards"

__all__ = ["FOLDER", "Query", "panels", "queries", "render"]


def render(model: Model) -> list[Artifact]:
    """Every dashboard as a file named after its uid, in the directory of its owner, sorted by path."""
    made = []
    for owner, concerned, page in _pages(model):
        page.annotations.list_val = [*(page.annotations.list_val or ()), _deployments(concerned, page)]
        made.append(Artifact("/".join(part for part in (FOLDER, owner, f"{page.uid}.json") if part), encoded(page)))
    return sorted(made)


def _deployments(services: Iterable[str], page: Dashboard) -> Mark:
    # Over weeks there are more than anybody can tell apart, and they cost more than all else on the page.
    shown = page.time is not None and page.time.from_val.endswith(("m", "h"))
    title, text = "{{service}} {{version}} {{status}}", "Deployment to {{environment}} {{commit}}"
    narrow = any(variable.name == "environment" for variable in page.templating.list_val or ())
    events = ask.deployment_events(services, narrow=narrow)
    return Mark("Deployments", events, BLUE, title, text, at_value=True, shown=shown)


def _pages(model: Model) -> Iterator[tuple[str, Iterable[str], Dashboard]]:
    """Each page with its owner, if it has one, and the services whose deployments concern it, if not all do."""
    # One at a time: a page takes several times the memory of its text.
    boards = own.headings(model)

    def of(title: str) -> list[Section]:
        # What services show under the title of a page that is there anyway stands on that page.
        uid = names.board_uid(title)
        return own.of_heading(uid, boards.pop(uid)[1]) if uid in boards else []

    shared = [
        overview.render(model),
        stack.render(),
        incident.render(),
        errors.render(model, of(errors.TITLE)),
        deployments.render(of(deployments.TITLE)),
        alerts.render(),
        contract.render(model),
        probes.render(model),
    ]
    for page in shared:
        if page is not None:
            yield "", (), page
    for uid, (title, services) in boards.items():
        owners = {one.owner for one in services}
        yield owners.pop() if len(owners) == 1 else "", [one.name for one in services], own.render(uid, title, services)
    for one in model.services:
        # What it depends on changes too.
        concerned = (one.name, *one.depends_on)
        yield one.owner, concerned, service.render(model, one)
        yield one.owner, concerned, runbook.render(model, one)
        for part in one.processes:
            yield part.owner, concerned, process.render(model, one, part)
