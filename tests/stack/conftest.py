"""A real stack for tests: a copy of the repository in another directory, with its own name and ports."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from copies import ROOT, Stack, copy_of_repository

from generator import stack as servers
from generator.errors import LgtmError
from generator.project import DEFAULTS, Project


def pytest_collection_finish(session: pytest.Session) -> None:
    """Get the images before the first test: building them may take longer than any test is allowed to."""
    own = Path(__file__).parent
    if session.config.option.collectonly or not any(item.path.is_relative_to(own) for item in session.items):
        return
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    say = terminal.write_line if terminal is not None else lambda line: None
    # A failure is told again, and counted, by the first test that needs a server.
    with contextlib.suppress(LgtmError):
        for server, reason in servers.get_images(Project.load(ROOT), say).items():
            say(f"without {server}: {reason}")


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
