"""What more than one directory of tests needs."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from generator import images
from generator.project import Project

ROOT = Path(__file__).resolve().parents[1]

# Started in the background, a shell has us ignore Ctrl-C, and so would every child that a test interrupts on purpose.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes to make says more about the machine than about the test.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def prometheus_image() -> str:
    """The image that compose.yaml names: the one that is here, or pulled, or built from its recipe."""
    lines = (ROOT / "compose.yaml").read_text(encoding="utf-8").splitlines()
    written = next(line.split("image:")[1].strip() for line in lines if "image:" in line and "/prom/prometheus:" in line)
    path = written.partition("}/")[2]
    registry = Project.load(ROOT).settings["REGISTRY"]
    found = images.ensure([f"{registry}/{path}"], ROOT, lambda line: None, registry=registry)
    return f"{found.registry}/{path}"
