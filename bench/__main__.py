"""``make bench``: one table of what these rules cost and do, beside Sloth's, in one run on one machine.

    python -m bench [--only reads,exact] [--write]

With ``--write`` the table goes to docs/benchmarks.md. It takes three quarters of an hour on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import apply, dashboards, exact, load, reads, sloths, speed, validate
from bench.history import Plan
from bench.replay import kept
from bench.server import running
from generator import images
from generator.project import Project
from generator.render import rules

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
KEPT = ROOT / ".cache" / "bench" / "results.json"

# In a process of its own, as a user waits for it: start, read, check, render, write.
OURS = """
import sys
from pathlib import Path
from generator import model
from generator.render import rules
read = model.load([Path(sys.argv[1])]).model
for artifact in rules.render(read):
    path = Path(sys.argv[2], artifact.path.rpartition("/")[2])
    path.write_text(artifact.text, encoding="utf-8")
"""


def say(line: str) -> None:
    """Progress, with the time."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stderr.flush()


def image() -> str:
    """The Prometheus of compose.yaml."""
    lines = (ROOT / "compose.yaml").read_text(encoding="utf-8").splitlines()
    path = next(line for line in lines if "/prom/prometheus:" in line).strip().partition("}/")[2]
    registry = Project.load(ROOT).settings["REGISTRY"]
    return f"{images.ensure([f'{registry}/{path}'], ROOT, say, registry=registry).registry}/{path}"


def render(work: Path) -> dict[str, Any]:
    """Both render 1,000 SLOs, each in a process of its own, five times by turns; and what came of it for ten."""
    mine, specs = work / "ours.yaml", work / "sloth-specs"
    mine.write_text(load.spec(1000), encoding="utf-8")
    specs.mkdir()
    for service in range(100):
        slos = {f"slo{n}": f'job="svc{service:03}",route="r{n}"' for n in range(10)}
        (specs / f"svc{service:03}.yaml").write_text(sloths.spec(f"svc{service:03}", slos), encoding="utf-8")
    out = {who: work / f"{who}-out" for who in ("ours", "sloth")}
    for place in out.values():
        place.mkdir()
    taken: dict[str, list[float]] = {"ours": [], "sloth": []}
    used: dict[str, list[float]] = {"ours": [], "sloth": []}
    commands = {
        "ours": [sys.executable, "-c", OURS, str(mine), str(out["ours"])],
        "sloth": [str(sloths.build()), "generate", "-i", str(specs), "-o", str(out["sloth"])],
    }
    for _ in range(5):
        for who, command in commands.items():
            begin, before = time.perf_counter(), os.times()
            subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
            after = os.times()
            taken[who].append(time.perf_counter() - begin)
            used[who].append(after.children_user + after.children_system - before.children_user - before.children_system)
    import yaml

    def count(path: Path) -> tuple[int, int]:
        every = rules_of(yaml.safe_load(path.read_text(encoding="utf-8"))["groups"])
        return len(every), sum("record" in rule for rule in every)

    ours, theirs = count(out["ours"] / "service-svc000.yaml"), count(out["sloth"] / "svc000.yaml")
    recorded = load_rules(mine)
    return {
        **{f"{who}_seconds": min(taken[who]) for who in taken},
        **{f"{who}_cpu": min(used[who]) for who in used},
        "ours_rules": ours[0] / 10,
        "sloth_rules": theirs[0] / 10,
        "ours_series": recorded,
        "sloth_series": theirs[1] / 10,
    }


def rules_of(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every rule of some groups."""
    return [rule for group in groups for rule in group["rules"]]


def load_rules(path: Path) -> float:
    """The series that are recorded for each SLO."""
    from generator import cost, model

    read = model.load([path]).model
    assert read is not None
    return cost.of_model(read, 20)[0].series


def main() -> None:
    """Run what was asked for, keep every figure, and print the table of all that is known."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md")
    known: dict[str, Any] = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)

        def part_speed() -> Any:
            with kept(server) as promtool:
                return [vars(d) for d in speed.measure(promtool, work)]

        def part_reads() -> Any:
            with running(server) as one:
                return [vars(r) for r in reads.measure(one, work)]

        def part_exact() -> Any:
            with running(server) as one:
                return [vars(e) for e in exact.measure(one, Plan(interval=15), work)]

        def part_load() -> Any:
            with running(server, extra_hosts={"host.docker.internal": "host-gateway"}) as one:
                return vars(load.measure(one))

        parts: dict[str, Callable[[], Any]] = {
            "render": lambda: render(work),
            "speed": part_speed,
            "reads": part_reads,
            "exact": part_exact,
            "load": part_load,
            "dashboards": lambda: dashboards.run(server, 200, 6),
            "apply": apply.measure,
            "spec": validate.measure,
        }
        parser.add_argument("--only", default=",".join(parts), metavar="PARTS", help="with commas between them (%(default)s)")
        asked = parser.parse_args()
        if unknown := set(asked.only.split(",")) - parts.keys():
            parser.error(f"no such part: {', '.join(sorted(unknown))}")
        server = image()
        say("building Sloth, where it is not there yet")
        sloths.build()
        for name in asked.only.split(","):
            say(f"measuring: {name}")
            begin = time.monotonic()
            known[name] = parts[name]()
            known.setdefault("took", {})[name] = time.monotonic() - begin
            known.setdefault("when", {})[name] = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
            known.setdefault("busy", {})[name] = os.getloadavg()[1]
            KEPT.parent.mkdir(parents=True, exist_ok=True)
            KEPT.write_text(json.dumps(known, indent=1), encoding="utf-8")
    table = report(known)
    sys.stdout.write(table)
    if asked.write:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(table, encoding="utf-8")


def report(known: dict[str, Any]) -> str:
    """The page: every figure, what it should be, and by how much it is missed where it is."""
    from bench.page import page

    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}"
    return page(known, machine, sloths.VERSION, rules.STEP)


if __name__ == "__main__":
    main()
