"""How long `make up` takes with the images here, what the idle servers hold, and how soon an edit is in force.

On a copy of the repository with its own name and ports, which is deleted at the end.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.copies import copy_of_repository
from generator import stack
from generator.project import Project

LGTM = Path(sys.executable).with_name("lgtm")
ROUNDS = 5
# Garbage of the start is gone by then.
REST = 60


def measure() -> dict[str, Any]:
    """Seconds and bytes; ``whole`` and ``own`` have the whole command and the part after its proof, by round."""
    with tempfile.TemporaryDirectory() as place:
        project = copy_of_repository(Path(place) / "project")
        try:
            found: dict[str, Any] = {"up": _timed(project, "up")[0], "again": _timed(project, "up")[0]}
            time.sleep(REST)
            found["memory"] = sum(server.memory or 0 for server in stack.status(project).servers)
            return {**found, "proven": _rounds(project, "--yes"), "unproven": _rounds(project, "--no-test")}
        finally:
            stack.destroy(project, lambda line: None)


def _timed(project: Project, *words: str) -> tuple[float, str]:
    begun = time.monotonic()
    done = subprocess.run([str(LGTM), "-C", str(project.root), *words], capture_output=True, text=True, check=True)
    return time.monotonic() - begun, done.stdout


def _rounds(project: Project, how: str) -> dict[str, list[float]]:
    """One objective changed each time."""
    spec = project.root / "slos.yaml"
    text = spec.read_text(encoding="utf-8")
    found: dict[str, list[float]] = {"whole": [], "own": []}
    try:
        _timed(project, "apply", how)
        for number in range(ROUNDS):
            spec.write_text(text.replace("objective: 99.9%", f"objective: 99.{80 + number}%", 1), encoding="utf-8")
            seconds, said = _timed(project, "apply", how, "--json")
            found["whole"].append(seconds)
            found["own"].append(float(json.loads(said)["seconds"]["total"]))
    finally:
        spec.write_text(text, encoding="utf-8")
    return found


def rows(found: dict[str, Any]) -> list[list[str]]:
    """What was measured, its middle, its worst, and what it should be."""

    def row(what: str, seconds: list[float], goal: float | None = None) -> list[str]:
        middle = statistics.median(seconds)
        asked = "" if goal is None else f"{goal:g} s {'met' if middle <= goal else '**missed**'}"
        return [what, f"{middle:.2f} s", f"{max(seconds):.2f} s", asked]

    return [
        row("`lgtm up`, nothing there but the images", [found["up"]], 30),
        row("`lgtm up` again, which changes nothing", [found["again"]]),
        ["memory of all idle servers", f"{found['memory'] / 2**20:,.0f} MiB", "", ""],
        row("`lgtm apply --no-test`, one objective changed, until confirmed", found["unproven"]["whole"], 2),
        row("of that, check, swap, reload and confirm", found["unproven"]["own"]),
        row("`lgtm apply`: planned, proven, confirmed, verified", found["proven"]["whole"]),
    ]
