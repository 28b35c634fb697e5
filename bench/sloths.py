"""The peer: Sloth, built from the go.mod beside this file, and its rules for the same objectives."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import yaml

from bench.server import BenchError

HERE = Path(__file__).parent
BINARY = HERE.parent / ".cache" / "bench" / "sloth"
VERSION = "v0.12.0"

SLO = """
  - name: {slo}
    objective: {objective}
    sli:
      events:
        error_query: sum(rate(http_requests_total{{{match},code=~"5.."}}[{{{{.window}}}}]))
        total_query: sum(rate(http_requests_total{{{match}}}[{{{{.window}}}}]))
    alerting:
      name: {slo}
      page_alert: {{labels: {{severity: critical}}}}
      ticket_alert: {{labels: {{severity: warning}}}}
"""


def build() -> Path:
    """The program; built when it is not there. Raises BenchError."""
    if BINARY.exists():
        return BINARY
    go = shutil.which("go")
    if go is None:
        raise BenchError("Sloth is built with Go, and there is no Go on PATH. Install it from https://go.dev/dl.")
    BINARY.parent.mkdir(parents=True, exist_ok=True)
    command = [go, "build", "-o", str(BINARY), "github.com/slok/sloth/cmd/sloth"]
    done = subprocess.run(command, cwd=HERE / "sloth", capture_output=True, text=True)
    if done.returncode:
        raise BenchError(f"Sloth could not be built:\n{done.stderr[-1500:]}")
    return BINARY


def spec(service: str, slos: dict[str, str], objective: str = "99.9") -> str:
    """Sloth's file of a service: the matchers of each SLO, by its name."""
    parts = [SLO.format(slo=slo, match=match, objective=objective) for slo, match in slos.items()]
    return f"version: prometheus/v1\nservice: {service}\nslos:" + "".join(parts)


def render(specs: Path, out: Path) -> float:
    """Render a directory of files; how long it took, in seconds of wall time. Raises BenchError."""
    begin = time.perf_counter()
    command = [str(build()), "generate", "-i", str(specs), "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise BenchError(f"sloth generate failed:\n{done.stderr[-1500:]}")
    return time.perf_counter() - begin


def groups(service: str, match: str, work: Path, objective: str = "99.9") -> list[dict[str, Any]]:
    """Sloth's rule groups for one SLO."""
    specs, out = work / "specs", work / "out"
    for directory in (specs, out):
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
    (specs / f"{service}.yaml").write_text(spec(service, {"availability": match}, objective), encoding="utf-8")
    render(specs, out)
    found: list[dict[str, Any]] = yaml.safe_load((out / f"{service}.yaml").read_text(encoding="utf-8"))["groups"]
    return found


def alert(rules: list[dict[str, Any]], severity: str) -> dict[str, Any]:
    """The alert of a severity, under a name of its own."""
    return next({**r, "alert": "Sloth"} for r in rules if r.get("labels", {}).get("severity") == severity)


def windows(rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rules that record an error ratio over a window."""
    return [r for r in rules if re.fullmatch(r"slo:sli_error:ratio_rate\w+", r.get("record", ""))]
