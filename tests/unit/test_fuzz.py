"""Ten thousand mutated files: each ends in diagnostics or in a render, within five seconds and 500 MiB.

A few hundred run with the unit tests; all of them with ``pytest -m fuzz`` (or LGTM_FUZZ=10000). A case that fails is
shown by ``python tests/unit/fuzzing.py show NUMBER``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from generator import model
from tests.unit import fuzzing

PROGRAM = Path(__file__).with_name("fuzzing.py")
ALL = 10_000
FEW = int(os.environ.get("LGTM_FUZZ", "200"))
PEAK_MIB = 500


def run(first: int, count: int) -> subprocess.Popen[str]:
    """Start a child that runs some cases, under a limit of memory that it can never reach honestly."""
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({3 << 30}, {3 << 30})); "
    program = f"import runpy, sys; sys.argv = sys.argv[1:]; {limited}runpy.run_path(sys.argv[0], run_name='__main__')"
    return subprocess.Popen(
        [sys.executable, "-c", program, str(PROGRAM), "run", str(first), str(count)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=PROGRAM.parent,
    )


def check(child: subprocess.Popen[str], timeout: float) -> int:
    """Wait for a child, and fail with what it found; the number of valid files among its cases."""
    try:
        out, err = child.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        child.kill()
        out, err = child.communicate()
    last = (out.strip().splitlines() or [""])[-1]
    assert child.returncode == 0, f"it died in case {last}:\n{err[-3000:]}"
    summary = json.loads(last)
    assert not summary["failures"], json.dumps(summary["failures"][:5], indent=2)
    assert summary["peak_mib"] < PEAK_MIB
    return int(summary["valid"])


def test_what_is_mutated_is_valid(tmp_path: Path) -> None:
    file = tmp_path / "slos.yaml"
    file.write_text(fuzzing.FULL, encoding="utf-8")
    assert not model.load([file], variables={}).errors


def test_a_few_mutated_files() -> None:
    valid = check(run(0, FEW), 60 + FEW / 20)
    assert valid > FEW / 20, "nearly nothing was valid, so that nearly nothing was rendered"


@pytest.mark.fuzz
def test_ten_thousand_mutated_files() -> None:
    children = [run(first, ALL // 2) for first in (0, ALL // 2)]
    for child in children:
        check(child, 500)


def test_the_program_tells_what_fails(tmp_path: Path) -> None:
    """A fuzzer that finds nothing must be able to find something."""
    broken = tmp_path / "broken.py"
    broken.write_text(
        f"import sys; sys.path.insert(0, {str(PROGRAM.parent)!r})\n"
        "import fuzzing\n"
        "def fail(number, file): raise KeyError(number)\n"
        "fuzzing.run_one = fail\n"
        "fuzzing.run(0, 2)\n"
    )
    done = subprocess.run([sys.executable, str(broken)], capture_output=True, text=True, check=True)
    summary = json.loads(done.stdout.splitlines()[-1])
    assert [f["error"] for f in summary["failures"]] == ["KeyError(0)", "KeyError(1)"]
