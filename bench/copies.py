"""A copy of the repository to run beside the one that is in use: another directory, its own name and ports."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import uuid
from pathlib import Path

from generator import engine, stack
from generator.progress import Report
from generator.project import DEFAULTS, Project

ROOT = Path(__file__).resolve().parents[1]
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


# The process that a copy is for. Three networks of a copy that is left behind are a tenth of what Docker has.
MADE_BY = "made-by.pid"


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
    (place / MADE_BY).write_text(str(os.getpid()), encoding="utf-8")
    # The images that this repository's last `up` found: a copy need not ask the registry again.
    known = ROOT / ".lgtm" / "registry.json"
    if known.exists():
        (place / ".lgtm").mkdir()
        shutil.copy(known, place / ".lgtm")
    return Project.load(place)


def destroy_left_behind(report: Report) -> None:
    """Delete the stacks of copies whose process ended without it: killed, or out of patience with a Ctrl-C.

    Raises LgtmError when Docker does not answer, or not as it should.
    """
    label = "com.docker.compose.project.working_dir"
    with contextlib.closing(engine.connect()) as client:
        found = {Path(each["Labels"][label]) for each in client.api.containers(all=True, filters={"label": label})}
    for root in sorted(found):
        # A file that another run has just deleted with its copy is that run's affair.
        with contextlib.suppress(FileNotFoundError):
            if not Path("/proc", (root / MADE_BY).read_text(encoding="utf-8")).exists():
                project = Project.load(root)
                report(f"deleting the stack {project.compose_project} of a run that was killed")
                stack.destroy(project, lambda line: None)


def _own_secrets(directory: str, names: list[str]) -> set[str]:
    return {name for name in names if Path(directory).name == "secrets" and name != "README.md"}
