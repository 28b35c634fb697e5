"""The real promtool for every test of rules, and what a proof needs, of the very images that the stack runs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import docker
import pytest

from bench.copies import free_ports
from bench.replay import Promtool, kept
from generator import stack
from generator.errors import LgtmError
from generator.project import Project
from generator.promtool import put
from generator.proof.proving import Tools, tools
from generator.servers import Prometheus

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def project() -> Project:
    """This repository, with the images of its servers here."""
    found = Project.load(ROOT)
    stack.get_images(found, lambda line: None, again=False)
    return found


@pytest.fixture(scope="session")
def prometheus_image(project: Project) -> str:
    """The image that compose.yaml names, from where it was found."""
    return stack.image(project, "prometheus")


@pytest.fixture(scope="session")
def promtool(prometheus_image: str) -> Iterator[Promtool]:
    """promtool in a container that is kept."""
    with kept(prometheus_image) as found:
        yield found


@pytest.fixture(scope="session")
def made(project: Project) -> Iterator[Tools]:
    """What `lgtm test` proves with: its promtool is kept too."""
    with tools(project) as found:
        yield found


@pytest.fixture
def alone(prometheus_image: str, tmp_path: Path) -> Iterator[Callable[[Mapping[str, str]], Project]]:
    """Starts a Prometheus with these files under /etc/prometheus, and gives a project of which it is the only server."""
    (port,) = free_ports(1)
    (tmp_path / ".env").write_text(f"PROMETHEUS_PORT={port}\nALERTMANAGER_PORT=1\nLOKI_PORT=1\nBLACKBOX_PORT=1\n")
    (tmp_path / "prometheus").mkdir()
    client = docker.from_env()
    command = ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/data", "--log.level=error"]
    container = client.containers.create(
        prometheus_image, command, user="0", ports={"9090/tcp": ("127.0.0.1", port)}, labels={"lgtm.test": "alone"}
    )

    def start(files: Mapping[str, str]) -> Project:
        found = Project.load(tmp_path)
        put(container, "/etc/prometheus", files)
        container.start()
        until = time.monotonic() + 60
        with contextlib.closing(Prometheus(found.url("prometheus"))) as asked:
            while True:
                try:
                    asked.call("GET", "/-/ready")
                    return found
                except LgtmError:
                    assert time.monotonic() < until, container.logs().decode()
                    time.sleep(0.05)

    try:
        yield start
    finally:
        container.remove(force=True, v=True)
        client.close()
