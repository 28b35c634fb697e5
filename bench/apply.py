"""How long `lgtm apply` takes from a changed objective until Prometheus and Alertmanager have confirmed it.

Runs against the project's running stack (`make up`), changes an objective back and forth, and leaves it as it was:

    .venv/bin/python -m bench.apply
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LGTM = Path(sys.executable).with_name("lgtm")
ROUNDS = 5


def apply(spec: Path) -> tuple[float, float]:
    """Seconds of the whole command, and of `apply` itself, for one spec. Raises when it is refused."""
    begun = time.monotonic()
    done = subprocess.run(
        [str(LGTM), "-C", str(ROOT), "-f", str(spec), "apply", "--no-test", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    return time.monotonic() - begun, float(json.loads(done.stdout)["seconds"]["total"])


def main() -> None:
    """Print the table."""
    original = ROOT / "slos.yaml"
    text = original.read_text(encoding="utf-8")
    apply(original)
    whole, inner = [], []
    with tempfile.TemporaryDirectory() as place:
        spec = Path(place) / "slos.yaml"
        try:
            for number in range(ROUNDS):
                spec.write_text(text.replace("objective: 99.9%", f"objective: 99.{80 + number}%", 1), encoding="utf-8")
                seconds, own = apply(spec)
                whole.append(seconds)
                inner.append(own)
        finally:
            apply(original)
    print(f"| {ROUNDS} changes of one objective | median s | slowest s |")
    print("| --- | ---: | ---: |")
    print(f"| whole command, until confirmed | {statistics.median(whole):.2f} | {max(whole):.2f} |")
    print(f"| of that, check, swap, reload, confirm | {statistics.median(inner):.2f} | {max(inner):.2f} |")


if __name__ == "__main__":
    main()
