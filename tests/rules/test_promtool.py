"""What promtool says must all arrive: an alert of which nothing is read would be taken for one that did not fire."""

from __future__ import annotations

import pytest

from bench.replay import Counter, Promtool
from generator.promtool import PromtoolError


class Cut(Promtool):
    """Passes on only the first half of what promtool says, so many times: what a Docker short of time does."""

    def __init__(self, other: Promtool, times: int) -> None:
        super().__init__(other._container)
        self.times = times

    def run(self, *arguments: str) -> tuple[int, str]:
        code, output = super().run(*arguments)
        self.times -= 1
        return code, output[: len(output) // 2] if self.times >= 0 else output


INPUTS = [Counter("pool", [float(i) for i in range(40)])]


def test_what_is_cut_off_is_asked_again(promtool: Promtool) -> None:
    whole = promtool.evaluate([], INPUTS, 300, watch="pool")
    assert len(whole.one("pool")) == 11
    assert Cut(promtool, 2).evaluate([], INPUTS, 300, watch="pool") == whole


def test_what_never_arrives_whole_is_no_result(promtool: Promtool) -> None:
    with pytest.raises(PromtoolError, match="not all of what it said arrived"):
        Cut(promtool, 9).evaluate([], INPUTS, 300, watch="pool")
