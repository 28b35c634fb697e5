"""How long work tells what it does: line by line, to whoever called it. The command line prints them on stderr."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[str], None]
