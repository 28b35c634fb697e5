"""When a drill does not begin: what is wrong already would be taken for its doing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import pytest

from bench.replay import load
from generator import drill, servers
from generator.project import Project

MODEL = load(
    """
version: 1
services:
  shop:
    alerts: {Full: {expr: vector(1), above: 0, for: 1h, severity: warning}}
"""
)
RULES = """
groups:
  - name: shop
    interval: 1s
    rules: [{alert: Full, expr: vector(1), for: HOLD, labels: {service: shop}}]
"""


@pytest.mark.parametrize(("hold", "says"), [("1h", "is pending: its condition holds already"), ("0s", "fires already")])
def test_it_does_not_begin_while_the_alert_is_active(
    alone: Callable[[Mapping[str, str]], Project], hold: str, says: str
) -> None:
    project = alone({"prometheus.yml": "rule_files: [rules.yaml]\n", "rules.yaml": RULES.replace("HOLD", hold)})
    until = time.monotonic() + 60
    while not servers.Prometheus(project.url("prometheus")).json("/api/v1/alerts")["data"]["alerts"]:
        assert time.monotonic() < until
        time.sleep(0.2)
    broken: list[str] = []
    breakage = drill.Breakage("break", "heal", lambda: broken.append("broken"), lambda: broken.append("healed"))
    with pytest.raises(drill.DrillError, match=says):
        drill.of_alert(project, MODEL, "shop/Full", breakage, lambda line: None)
    assert broken == []
