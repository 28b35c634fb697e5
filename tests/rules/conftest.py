"""The real promtool for every test of rules."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.replay import Promtool, kept


@pytest.fixture(scope="session")
def promtool(prometheus_image: str) -> Iterator[Promtool]:
    """promtool of the very image that the stack runs."""
    with kept(prometheus_image) as found:
        yield found
