"""A copy of the repository to run in a test: another directory, its own name and ports."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest
import requests

from generator import stack as servers
from generator.project import Project

T = TypeVar("T")
LGTM = Path(sys.executable).with_name("lgtm")


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
            alerts = page["body"].get("alerts", ())  # a heartbeat that is lost is no alert
            out += [{**alert, "arrived": arrived, "receiver": page["body"]["receiver"]} for alert in alerts]
        return out
