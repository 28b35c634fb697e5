"""A real stack for tests: a copy of the repository in another directory, with its own name and ports."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from copies import Stack, Watched, lgtm

from bench.copies import ROOT, copy_of_repository
from generator import apply, rendered
from generator import stack as servers
from generator.errors import LgtmError
from generator.project import DEFAULTS, Project
from generator.render import Artifact

# The process whose tests a copy is for. Three networks of a copy that is left behind are a tenth of what Docker has.
MADE_BY = "made-by.pid"


def left_behind() -> list[Project]:
    """The copies of test runs that ended without deleting them: killed, or out of patience with a Ctrl-C."""
    with contextlib.suppress(LgtmError), contextlib.closing(servers.engine()) as client:
        names = {"label": "com.docker.compose.project.working_dir"}
        found = client.api.containers(all=True, filters=names)
        roots = {Path(container["Labels"][names["label"]]) for container in found}
        made = {root: root / MADE_BY for root in roots if (root / MADE_BY).is_file()}
        return [Project.load(root) for root, by in made.items() if not Path("/proc", by.read_text("utf-8")).exists()]
    return []


def pytest_collection_finish(session: pytest.Session) -> None:
    """Get the images before the first test: building them may take longer than any test is allowed to."""
    own = Path(__file__).parent
    if session.config.option.collectonly or not any(item.path.is_relative_to(own) for item in session.items):
        return
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    say = terminal.write_line if terminal is not None else lambda line: None
    for project in left_behind():
        say(f"deleting the stack {project.compose_project} of a test run that was killed")
        servers.destroy(project, lambda line: None)
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
        (project.root / MADE_BY).write_text(str(os.getpid()), encoding="utf-8")
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
