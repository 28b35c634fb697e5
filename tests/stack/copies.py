"""A copy of the repository to run in a test: another directory, its own name and ports."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest
import requests

from generator import stack as servers
from generator.project import DEFAULTS, Project

T = TypeVar("T")
LGTM = Path(sys.executable).with_name("lgtm")
ROOT = Path(__file__).resolve().parents[2]
NOT_COPIED = shutil.ignore_patterns(
    ".git",
    ".venv",
    ".lgtm",
    ".env",
    ".cache",
    "__pycache__",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
    "*.egg-info",
    "build",
)


@dataclass
class Stack:
    """A running copy. ``said`` is what `up` reported, ``started`` what it returned."""

    project: Project
    started: servers.Up
    said: list[str] = field(default_factory=list)

    def get(self, server: str, path: str, **parameters: str) -> requests.Response:
        """GET from a server; raises unless it answers 2xx."""
        answer = requests.get(self.project.url(server) + path, params=parameters, timeout=10)
        answer.raise_for_status()
        return answer

    def post(self, path: str, body: object) -> None:
        """POST JSON to the collector's OTLP endpoint; raises unless it answers 2xx."""
        port = self.project.port("OTLP_HTTP_PORT")
        requests.post(f"http://127.0.0.1:{port}{path}", json=body, timeout=10).raise_for_status()


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on. All are held until the last is found, so that no two are the same."""
    with contextlib.ExitStack() as held:
        found = []
        for _ in range(count):
            probe = held.enter_context(contextlib.closing(socket.socket()))
            probe.bind(("127.0.0.1", 0))
            found.append(int(probe.getsockname()[1]))
        return found


def copy_of_repository(place: Path, **settings: str) -> Project:
    """A project in ``place`` with ports that are free now and a name of its own; ``settings`` go to its .env."""
    shutil.copytree(ROOT, place, ignore=lambda d, names: {*NOT_COPIED(d, names), *_own_secrets(d, names)})
    names = [name for name in DEFAULTS if name.endswith("_PORT")]
    values = {name: str(port) for name, port in zip(names, free_ports(len(names)), strict=True)}
    values["COMPOSE_PROJECT_NAME"] = f"lgtmtest-{uuid.uuid4().hex[:8]}"
    values["REGISTRY"] = Project.load(ROOT).settings["REGISTRY"]
    values.update(settings)
    (place / ".env").write_text("".join(f"{key}={value}\n" for key, value in values.items()), encoding="utf-8")
    # The images that this repository's last `up` found: a test need not ask the registry again.
    known = ROOT / ".lgtm" / "registry.json"
    if known.exists():
        (place / ".lgtm").mkdir()
        shutil.copy(known, place / ".lgtm")
    return Project.load(place)


def _own_secrets(directory: str, names: list[str]) -> set[str]:
    return {name for name in names if Path(directory).name == "secrets" and name != "README.md"}


def lgtm(project: Project, *words: str) -> str:
    """Run the command in a project as a person would; raises with what it printed when it fails."""
    done = subprocess.run(
        [str(LGTM), "-C", str(project.root), *words], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, f"lgtm {' '.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def until(what: str, seconds: float, look: Callable[[], T | None]) -> T:
    """What ``look`` returns, as soon as it returns something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(1)
    pytest.fail(f"{what}: not within {seconds:.0f} s")


@dataclass
class Watched:
    """A stack with the demo running on it, and ways to ask."""

    project: Project

    def get(self, server: str, path: str, **parameters: str) -> requests.Response:
        """GET from a server; raises unless it answers 2xx."""
        answer = requests.get(self.project.url(server) + path, params=parameters, timeout=10)
        answer.raise_for_status()
        return answer

    def prometheus(self, query: str) -> list[dict[str, Any]]:
        """The result of an instant query."""
        answer = self.get("prometheus", "/api/v1/query", query=query)
        found: list[dict[str, Any]] = answer.json()["data"]["result"]
        return found

    def pages(self) -> list[dict[str, Any]]:
        """Every alert that reached the pager, oldest first, with the time at which it arrived."""
        out = []
        for line in lgtm(self.project, "demo", "pages", "--json").splitlines():
            page = json.loads(line)
            arrived = datetime.fromisoformat(page["received_at"])
            out += [{**alert, "arrived": arrived, "receiver": page["body"]["receiver"]} for alert in page["body"]["alerts"]]
        return out
