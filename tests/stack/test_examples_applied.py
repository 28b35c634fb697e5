"""Each example in force on real servers: applied, confirmed, every rule evaluated without a fault."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

import pytest

from generator import apply, model, render, servers
from generator.project import Project

EXAMPLES = sorted(p for p in (Path(__file__).parents[2] / "examples").glob("*.yaml"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda p: p.stem)
def test_an_example_is_in_force(project: Project, example: Path) -> None:
    found = model.load([example], variables={}).model
    assert found is not None
    artifacts = render.everything(found)
    secrets = dict.fromkeys(found.routing.secrets(), b"https://127.0.0.1:9/")
    result = apply.apply(project, artifacts, {"alertmanager": secrets}, lambda line: None)
    assert {"prometheus", "alertmanager", "blackbox"} <= result.confirmed.keys()
    assert ("loki" in result.confirmed) or not any(a.path.startswith("loki/") for a in artifacts)
    with contextlib.closing(servers.Prometheus(project.url("prometheus"))) as prometheus:
        rules = evaluated(prometheus)
        budgets = {(r["labels"]["service"], r["labels"]["slo"]) for r in rules if r["name"] == "slo:error_budget:ratio"}
        assert budgets == {(s.service, s.name) for s in found.slos}
        wanted = {a.name for s in found.services for a in s.alerts}
        assert wanted <= {r["name"] for r in rules if r["type"] == "alerting"}


def evaluated(prometheus: servers.Prometheus) -> list[dict[str, Any]]:
    """Every rule of the fast groups, once each has been evaluated. None may fail, in its first evaluation or later.

    The examples have services and SLOs of the same names: in the first evaluation after a change both budgets of such an
    SLO are there, the old and the new.
    """
    until = time.monotonic() + 120
    while True:
        groups = [g for g in prometheus.rule_groups() if float(g["interval"]) <= 30]
        rules = [r for g in groups for r in g["rules"]]
        assert [(r["name"], r.get("lastError")) for r in rules if r["health"] == "err"] == []
        if all(r["health"] == "ok" for r in rules):
            return rules
        assert time.monotonic() < until, [r["name"] for r in rules if r["health"] != "ok"]
        time.sleep(1)
