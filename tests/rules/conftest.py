"""The real promtool for every test of rules."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from replay import Promtool  # noqa: E402


@pytest.fixture(scope="session")
def promtool(prometheus_image: str) -> Iterator[Promtool]:
    """promtool of the very image that the stack runs. The server beside it is idle: it only keeps the container."""
    client = docker.from_env()
    container = client.containers.run(
        prometheus_image,
        ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/tmp/data", "--log.level=error"],
        detach=True,
        remove=True,
        user="0",
        network_mode="none",
        labels={"lgtm.test": "promtool"},
    )
    try:
        yield Promtool(container)
    finally:
        container.kill()
        client.close()
