"""What promtool says must all arrive: an alert of which nothing is read would be taken for one that did not fire."""

from __future__ import annotations

import threading

import pytest

from bench.replay import Counter, Promtool
from generator import engine
from generator.promtool import PromtoolError


class Cut(Promtool):
    """Is killed when it has said half of it."""

    def run(self, *arguments: str) -> tuple[int, str]:
        code, output = super().run(*arguments)
        return code, output[: len(output) // 2]


INPUTS = [Counter("pool", [float(i) for i in range(40)])]


def test_what_is_not_whole_is_no_result(promtool: Promtool) -> None:
    whole = promtool.evaluate([], INPUTS, 300, watch="pool")
    assert len(whole.one("pool")) == 11
    with pytest.raises(PromtoolError, match="before it had said all"):
        Cut(promtool._container).evaluate([], INPUTS, 300, watch="pool")


def test_the_first_words_of_a_command_arrive_on_a_busy_machine_too(promtool: Promtool) -> None:
    """Several at once, so that what is printed often comes together with Docker's headers."""
    lost: list[engine.Done] = []

    def ask() -> None:
        for _ in range(40):
            done = engine.execute(promtool._container, ["/bin/promtool", "--version"])
            if done.code != 0 or not done.output.startswith(b"promtool, version "):
                lost.append(done)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not lost


def test_output_and_errors_of_a_command_are_told_apart(promtool: Promtool) -> None:
    done = engine.execute(promtool._container, ["/bin/promtool", "check", "rules", "/nowhere.yml"])
    assert done.code == 1
    assert b"does not exist" in done.errors
    assert b"does not exist" not in done.output
