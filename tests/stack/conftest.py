"""A real stack for tests: a copy of the repository in another directory, with its own name and ports."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from bench.copies import copy_of_repository
from generator import apply, rendered
from generator import stack as servers
from generator.project import DEFAULTS, Project
from generator.render import Artifact
from tests.stack.copies import Stack, Watched, lgtm


@pytest.fixture(scope="session", autouse=True)
def _own_settings_only() -> Iterator[None]:
    """The environment overrides .env: a user's own settings must not reach the copies."""
    with pytest.MonkeyPatch.context() as patch:
        for name in {*DEFAULTS} & {*os.environ}:
            if name != "REGISTRY":
                patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def make_project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Project]]:
    """Copies of the repository, whose containers and volumes are deleted at the end."""
    made: list[Project] = []

    def make(**settings: str) -> Project:
        project = copy_of_repository(tmp_path_factory.mktemp("copy") / "project", **settings)
        made.append(project)
        return project

    yield make
    for project in made:
        servers.destroy(project, lambda line: None)


@pytest.fixture(scope="session")
def stack(make_project: Callable[..., Project]) -> Stack:
    """One running stack for all tests of the session. A test that stops it must start it again."""
    project = make_project()
    said: list[str] = []
    return Stack(project, servers.up(project, said.append), said)


@pytest.fixture(scope="module")
def project(stack: Stack) -> Iterator[Project]:
    """The shared stack's project, for tests that apply what they like: its own configuration is in force again at the end."""
    project = stack.project
    # For a user's own rules; git keeps no empty directory.
    (project.root / "prometheus" / "rules").mkdir(exist_ok=True)
    before = [
        Artifact(path.relative_to(project.root).as_posix(), path.read_text(encoding="utf-8"))
        for server in rendered.TREES
        for path in (project.root / server / rendered.GENERATED).rglob("*")
        if path.is_file()
    ]
    yield project
    apply.apply(project, before, {"alertmanager": {}}, lambda line: None)


@pytest.fixture(scope="session")
def watched(make_project: Callable[..., Project]) -> Iterator[Watched]:
    """A stack as a user starts it, with the demo running on it. A test that breaks the demo must heal it."""
    project = make_project()
    spec = project.root / "slos.yaml"
    text = spec.read_text(encoding="utf-8")
    for shipped, setting in (("8000", "DEMO_PORT"), ("8001", "DEMO_PAGER_PORT")):
        assert f"host.docker.internal:{shipped}" in text
        text = text.replace(f"host.docker.internal:{shipped}", f"host.docker.internal:{project.port(setting)}")
    # Only the fast condition of the standard policy: the other one resolves by its 30-minute window, too long for a test.
    text = text.replace("  window: 30d\n", "  window: 30d\n  alerting: fast\n", 1)
    text += "\nalerting:\n  fast: {critical: [{long: 1h, short: 2m, budget: 2%}]}\n"
    spec.write_text(text, encoding="utf-8")
    lgtm(project, "up")
    # A beat comes each minute; the drill that stops them need not wait for more than one that is missed.
    lgtm(project, "demo", "start", "--heartbeat", "80s")
    yield Watched(project)
    lgtm(project, "demo", "stop")
