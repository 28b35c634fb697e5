"""Rules of the product on made-up data, evaluated by the real promtool, with everything that they recorded to look at.

promtool evaluates all groups at one interval, so the slow tier is run by itself, on what the fast one recorded, and the
fast one again with what the slow one counted. No query may read more than 10,000 samples: some days of one SLO.
"""

from __future__ import annotations

import contextlib
import io
import re
import tarfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import docker
import yaml
from docker.models.containers import Container

from generator import model, source
from generator.model import Model
from generator.render import rules

STEP = 30
SLOW = 300

Labels = frozenset[tuple[str, str]]
# Seconds since the start, and the value.
Points = list[tuple[int, float]]


def load(text: str) -> Model:
    """The Model of a spec. Raises AssertionError with the diagnostics where it has errors."""
    result = model.resolve(source.read_text(text, "slos.yaml"))
    assert result.model is not None, [d.message for d in result.diagnostics]
    return result.model


@dataclass(frozen=True)
class Counter:
    """An input series: ``values[i]`` is what was scraped at ``offset + i * every`` seconds.

    None is a scrape that Prometheus did not make, "stale" one that it made and that failed.
    """

    name: str
    values: Sequence[float | str | None]
    every: int = 15
    offset: int = 0

    def written(self, interval: int) -> str:
        """In promtool's notation, at the test's interval, which must divide ``every`` and ``offset``."""
        gap = "_ " * (self.every // interval - 1)
        said = ("_" if v is None else v if isinstance(v, str) else repr(v) for v in self.values)
        return "_ " * (self.offset // interval) + (" " + gap).join(said)


@dataclass
class Recorded:
    """Every series at the end, inputs and alerts too."""

    series: dict[str, dict[Labels, Points]] = field(default_factory=dict)

    def find(self, name: str, **labels: str) -> dict[Labels, Points]:
        """The series of a name with these labels, by all their labels."""
        wanted = set(labels.items())
        return {key: points for key, points in self.series.get(name, {}).items() if wanted <= key}

    def one(self, name: str, **labels: str) -> Points:
        """The only series of a name with these labels."""
        found = self.find(name, **labels)
        assert len(found) == 1, f"{name}{labels}: {sorted(map(sorted, found))}"
        return next(iter(found.values()))

    def firing(self, alert: str, **labels: str) -> list[int]:
        """Every evaluation at which an alert fired for any series with these labels."""
        found = self.find("ALERTS", alertname=alert, alertstate="firing", **labels)
        return sorted({t for points in found.values() for t, _ in points})

    def alerts(self) -> set[str]:
        """The names of all alerts that ever fired."""
        return {dict(key)["alertname"] for key in self.find("ALERTS", alertstate="firing")}

    def as_inputs(self, names: Iterable[str], every: int, until: int) -> list[Counter]:
        """Recorded series as inputs of another run."""
        made = []
        for name in names:
            for key, points in self.series.get(name, {}).items():
                offset = points[0][0] % every if points else 0
                values: list[float | str | None] = [None] * (until // every + 1)
                for t, value in points:
                    values[t // every] = value
                labels = ",".join(f"{k}={yaml_quote(v)}" for k, v in sorted(key))
                made.append(Counter(f"{name}{{{labels}}}", values, every, offset))
        return made


def yaml_quote(text: str) -> str:
    """A label's value in PromQL."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


_LABEL = re.compile(r'([a-zA-Z_][\w.]*)="((?:[^"\\]|\\.)*)"')


class Promtool:
    """The real promtool, in a container that is kept for the session."""

    def __init__(self, container: Container) -> None:
        self._container = container

    def put(self, files: Mapping[str, str]) -> str:
        """Write files into a new directory of the container, and say which."""
        directory = f"/tests/{uuid.uuid4().hex}"
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for name, text in files.items():
                content = text.encode()
                entry = tarfile.TarInfo(f"{directory[1:]}/{name}")
                entry.size = len(content)
                entry.mode = 0o644
                archive.addfile(entry, io.BytesIO(content))
        self._container.put_archive("/", stream.getvalue())
        return directory

    def run(self, *arguments: str) -> tuple[int, str]:
        """Exit code, and what it printed: output first, then errors."""
        # Docker would put the pieces of both one after the other as they come, in the middle of lines.
        code, (output, errors) = self._container.exec_run(["/bin/promtool", *arguments], demux=True)
        return code, ((output or b"") + (errors or b"")).decode()

    def check(self, files: Mapping[str, str], test: object) -> None:
        """Run a promtool unit test. Raises AssertionError with what promtool says."""
        directory = self.put({**files, "test.yaml": yaml.safe_dump(test, sort_keys=False, width=10**9)})
        code, output = self.run("test", "rules", f"{directory}/test.yaml")
        assert code == 0, output

    def evaluate(
        self,
        groups: Sequence[Mapping[str, Any]],
        inputs: Sequence[Counter],
        until: int,
        *,
        step: int = STEP,
        interval: int = 15,
        watch: str = '{__name__=~"slo:.+|ALERTS"}',
    ) -> Recorded:
        """Evaluate groups every ``step`` seconds up to ``until``, and look at the series of ``watch`` after each step.

        promtool shows values only where they are not what a test expects; so this test expects nothing at all.
        """
        looks = [{"expr": watch, "eval_time": f"{at}s", "exp_samples": []} for at in range(0, until + 1, step)]
        series = [{"series": c.name, "values": c.written(interval)} for c in inputs]
        test = {
            "rule_files": ["rules.yaml"],
            "evaluation_interval": f"{step}s",
            # Else the order is another one in each run, and what one group reads of another is sometimes a step older.
            "group_eval_order": [g["name"] for g in groups],
            "tests": [{"interval": f"{interval}s", "input_series": series, "promql_expr_test": looks}],
        }
        files = {"rules.yaml": rules.dump({"groups": list(groups)}), "test.yaml": yaml.dump(test, Dumper=_Dumper, width=10**9)}
        directory = self.put(files)
        _, output = self.run("test", "rules", f"{directory}/test.yaml")
        return parse(output)


@contextlib.contextmanager
def kept(image: str) -> Iterator[Promtool]:
    """promtool in a container that is kept. The server in it is idle: it only keeps the container running."""
    client = docker.from_env()
    command = ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/bench/data", "--log.level=error"]
    # The image has no /tmp, and promtool needs one.
    place: dict[str, Any] = {"user": "0", "network_mode": "none", "tmpfs": {"/tmp": ""}}  # noqa: S108
    container = client.containers.run(image, command, detach=True, labels={"lgtm.bench": "1"}, **place)
    try:
        yield Promtool(container)
    finally:
        container.remove(force=True, v=True)
        client.close()


_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_TIME = re.compile(r"time: (\S+),$")
_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


def parse(output: str) -> Recorded:
    """What promtool said about a test that expected nothing. Raises AssertionError for any other failure of it."""
    recorded = Recorded()
    found: dict[tuple[str, Labels], Points] = {}
    at = -1
    for line in output.splitlines():
        stripped = line.strip()
        if stripped.startswith("expr: "):
            match = _TIME.search(stripped)
            assert match, line
            at = sum(int(n) * _UNITS[u] for n, u in re.findall(r"(\d+)([dhms])", match[1]))
        elif stripped.startswith("got: "):
            for written, value in _SAMPLE.findall(stripped.removeprefix("got: ")):
                labels = {k: v.replace('\\"', '"').replace("\\\\", "\\") for k, v in _LABEL.findall(written)}
                name = labels.pop("__name__", "")
                found.setdefault((name, frozenset(labels.items())), []).append((at, float(value)))
        else:
            assert stripped in ("", "FAILED:", "SUCCESS", "exp: nil") or stripped.startswith("Unit Testing:"), output[:3000]
    for (name, key), points in found.items():
        recorded.series.setdefault(name, {})[key] = points
    return recorded


_SAMPLE = re.compile(r'\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\} (\S+?)(?=, |$)')


FAST_FOR_SLOW = (
    "slo:sli_errors:rate",
    "slo:sli_total:rate",
    "slo:error_budget:ratio",
    "slo:error_ratio:2h",
    "slo:error_ratio:6h",
)


def replay(
    promtool: Promtool,
    spec: str,
    inputs: Sequence[Counter],
    until: int,
    *,
    phase: int = 120,
    interval: int = 15,
    change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] = lambda groups: groups,
    only_fast: bool = False,
) -> Recorded:
    """Every series and alert of a spec with one service on some inputs, each group at its own interval.

    ``phase`` is when in its five minutes the slow group runs. ``change`` may rewrite the groups.
    """
    read = load(spec)
    (service,) = read.services
    groups = change(rules.service_groups(read, service))
    slow = [g for g in groups if g["name"].endswith(":slow")]
    fast = [g for g in groups if g not in slow]
    first = promtool.evaluate(fast, inputs, until, interval=interval)
    if only_fast or not slow:
        return first
    # promtool starts at the first step, so a phase is a start that is as much later, on inputs that are moved back.
    given = first.as_inputs(FAST_FOR_SLOW, STEP, until)
    moved = [Counter(c.name, c.values, c.every, c.offset) for c in given]
    second = _slow(promtool, slow, moved, until, phase)
    counted = second.as_inputs(("slo:sli_errors:counted", "slo:sli_total:counted"), SLOW, until)
    last = promtool.evaluate(fast, [*inputs, *counted], until, interval=interval)
    for name, found in second.series.items():
        for key, points in found.items():
            known = last.series.setdefault(name, {})
            known.setdefault(key, points)
    return last


def _slow(promtool: Promtool, slow: list[dict[str, Any]], inputs: Sequence[Counter], until: int, phase: int) -> Recorded:
    skip = phase // STEP
    shifted = [Counter(c.name, c.values[skip:], c.every) for c in inputs]
    found = promtool.evaluate(slow, shifted, (until - phase) // SLOW * SLOW, step=SLOW, interval=STEP)
    return Recorded({n: {k: [(t + phase, v) for t, v in p] for k, p in s.items()} for n, s in found.series.items()})
