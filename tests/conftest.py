"""What more than one directory of tests needs."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Started in the background, a shell has us ignore Ctrl-C, and so would every child that a test interrupts on purpose.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes to make says more about the machine than about the test.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

HERE = Path(__file__).parent


def pytest_collection_finish(session: pytest.Session) -> None:
    """Have all images before the first test that needs a server: to build them takes longer than a test is allowed to."""
    needing = [
        item for item in session.items if item.path.is_relative_to(HERE / "rules") or item.path.is_relative_to(HERE / "stack")
    ]
    if session.config.option.collectonly or not needing:
        return
    from bench.copies import destroy_left_behind
    from generator import stack
    from generator.errors import LgtmError
    from generator.project import Project

    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    say = terminal.write_line if terminal is not None else lambda line: None
    # A failure is told again, and counted, by the first test that needs a server.
    with contextlib.suppress(LgtmError):
        if getattr(session.config, "workerinput", {}).get("workerid", "gw0") == "gw0":  # one of the processes does it for all
            destroy_left_behind(say)
        for server, reason in stack.get_images(Project.load(HERE.parent), say, again=False).items():
            say(f"without {server}: {reason}")
