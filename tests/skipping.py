"""An event loop whose clock jumps over every wait: what sleeps for a minute is done at once, and took a minute."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

T = TypeVar("T")


class Clock:
    """``now`` is in seconds, from anywhere, and goes on from one ``run`` to the next."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` to its end. It must not wait for a thread with a time-out, which would be over at once."""
        clock = self

        class Selector(selectors.DefaultSelector):
            def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
                ready = super().select(0 if timeout else timeout)
                # Whoever waits for nothing but time gets it; what is ready comes first.
                if not ready and timeout:
                    clock.now += timeout
                return ready

        loop = asyncio.SelectorEventLoop(Selector())
        loop.time = lambda: clock.now  # type: ignore[method-assign]
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            return runner.run(work)


def run(work: Coroutine[Any, Any, T], patch: pytest.MonkeyPatch) -> T:
    """Run ``work`` on a clock that the durations of processes and stages follow too."""
    clock = Clock()
    with patch.context() as inside:
        inside.setattr("lgtm_instrumentation.processes.time.perf_counter", lambda: clock.now)
        return clock.run(work)
