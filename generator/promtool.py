"""The real promtool: rules on made-up series, and everything that they recorded or fired.

promtool evaluates all groups of a test at one interval, and lets no query hold more than 10,000 samples at once.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import tarfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from generator import engine
from generator.errors import LgtmError
from generator.render.yamltext import dump

if TYPE_CHECKING:
    from docker.models.containers import Container

STEP = 30

Labels = frozenset[tuple[str, str]]
# Seconds since the start, and the value.
Points = list[tuple[int, float]]


class PromtoolError(LgtmError):
    """promtool said something else than what was asked of it: rules that do not load, or inputs that do not."""


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
        """The only series of a name with these labels. Raises KeyError when there is another number of them."""
        found = self.find(name, **labels)
        if len(found) != 1:
            raise KeyError(f"{name}{labels}: {sorted(map(sorted, found))}")
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
                labels = ",".join(f"{k}={quoted(v)}" for k, v in sorted(key))
                made.append(Counter(f"{name}{{{labels}}}", values, every, offset))
        return made


def quoted(text: str) -> str:
    """A label's value in PromQL."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def put(container: Container, directory: str, files: Mapping[str, str]) -> None:
    """Write files into a directory of a container, which is made."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, text in files.items():
            content = text.encode()
            entry = tarfile.TarInfo(f"{directory[1:]}/{name}")
            entry.size = len(content)
            entry.mode = 0o644
            archive.addfile(entry, io.BytesIO(content))
    container.put_archive("/", stream.getvalue())


class Promtool:
    """The real promtool, in a container that is kept."""

    def __init__(self, container: Container) -> None:
        self._container = container

    def put(self, files: Mapping[str, str]) -> str:
        """Write files into a new directory of the container, and say which."""
        directory = f"/tests/{uuid.uuid4().hex}"
        put(self._container, directory, files)
        return directory

    def run(self, *arguments: str) -> tuple[int, str]:
        """Exit code, and what it printed: output first, then errors."""
        # Docker would put the pieces of both one after the other as they come, in the middle of lines.
        done = engine.execute(self._container, ["/bin/promtool", *arguments])
        if done.code is None:
            raise PromtoolError("The container of promtool went away.", "Is Docker well? `lgtm doctor` looks.")
        return done.code, (done.output + done.errors).decode()

    def check(self, files: Mapping[str, str], test: object) -> None:
        """Run a promtool unit test. Raises PromtoolError with what promtool says."""
        code, output = self.unit_test(files, test)
        if code:
            raise PromtoolError(output)

    def unit_test(self, files: Mapping[str, str], test: object) -> tuple[int, str]:
        """Run a promtool unit test, with experimental functions: exit code, and what it printed."""
        directory = self.put({**files, "test.yaml": _written(test)})
        return self.run(_EXPERIMENTAL, "test", "rules", f"{directory}/test.yaml")

    def looks(self, files: Mapping[str, str], tests: Sequence[str], *flags: str) -> list[Look]:
        """Run the unit tests of ``files`` that ``tests`` names, which expect nothing: everything that they show.

        The last test is one that always shows something: promtool ended before it, killed perhaps, where that is missing.
        Raises PromtoolError.
        """
        directory = self.put({**files, _LAST: dump(_LAST_TEST)})
        code, output = self.run(*flags, "test", "rules", *(f"{directory}/{name}" for name in (*tests, _LAST)))
        found = parse(output.replace(f"{directory}/", "")) if _LAST_QUERY in output else []
        if not found or found[-1].what != _LAST_QUERY:
            raise PromtoolError(f"promtool ended with {code} before it had said all.", "Is this machine very busy? Try again.")
        return found[:-1]

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
        files = {"rules.yaml": dump({"groups": list(groups)}), "test.yaml": _written(test)}
        recorded = Recorded()
        for look in self.looks(files, ["test.yaml"], _EXPERIMENTAL):
            for labels, value in look.samples:
                name = labels.get("__name__", "")
                key = frozenset((k, v) for k, v in labels.items() if k != "__name__")
                recorded.series.setdefault(name, {}).setdefault(key, []).append((look.at, value))
        return recorded


def _written(test: object) -> str:
    text: str = yaml.dump(test, Dumper=_Dumper, sort_keys=False, width=10**9)
    return text


@contextlib.contextmanager
def kept(image: str) -> Iterator[Promtool]:
    """promtool in a container that is kept. The server in it is idle: it only keeps the container running."""
    import docker

    client = docker.from_env()
    # The image has no /tmp, and promtool needs one.
    container = client.containers.run(image, IDLE, detach=True, labels={"lgtm.bench": "1"}, **PLACE)
    try:
        yield Promtool(container)
    finally:
        container.remove(force=True, v=True)
        client.close()


IDLE = ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/idle", "--log.level=error"]
PLACE: Mapping[str, Any] = {"user": "0", "network_mode": "none", "tmpfs": {"/tmp": ""}}  # noqa: S108

_EXPERIMENTAL = "--enable-feature=promql-experimental-functions"
_LAST, _LAST_QUERY = "last.yaml", "vector(1) unless lgtm_last"
_LAST_TEST = {"tests": [{"promql_expr_test": [{"expr": _LAST_QUERY, "eval_time": "0s", "exp_samples": []}]}]}

_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


@dataclass(frozen=True)
class Look:
    """What a query gave at a moment: ``samples`` for an expression, ``alerts`` (labels, annotations) for an alert's name.

    ``test`` is the name of the test that it belongs to, empty where it has none.
    """

    test: str
    what: str
    at: int
    samples: tuple[tuple[dict[str, str], float], ...] = ()
    alerts: tuple[tuple[dict[str, str], dict[str, str]], ...] = ()


# Go's quoting of a text, whose escapes are JSON's but for a few that labels and annotations do not have.
_TEXT = r'"((?:[^"\\]|\\.)*)"'
_LABEL = re.compile(r"([a-zA-Z_][\w.]*)=" + _TEXT)
_SAMPLE = re.compile(r'\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\} (\S+?)(?=, |$)')
_EXPRESSION = re.compile(r"expr: " + _TEXT + r", time: (\S+),$")
_ALERT = re.compile(r"alertname: (\S+), time: (\S+),$")


def _seconds(text: str) -> int:
    return sum(int(n) * _UNITS[u] for n, u in re.findall(r"(\d+)([dhms])", text))


def _texts(written: str) -> dict[str, str]:
    return {k: _unquoted(v) for k, v in _LABEL.findall(written)}


def _unquoted(text: str) -> str:
    try:
        return str(json.loads(f'"{text}"')) if "\\" in text else text
    except ValueError:
        return text.replace('\\"', '"').replace("\\\\", "\\")


def parse(output: str) -> list[Look]:
    """What promtool showed of tests that expected nothing. Raises PromtoolError for any other failure of it."""
    looks: list[Look] = []
    test, what, at = "", "", -1
    alerts: list[tuple[dict[str, str], dict[str, str]]] = []
    labels: dict[str, str] | None = None
    for line in output.splitlines():
        stripped = line.strip()
        if stripped.startswith("name: "):
            test = stripped.removeprefix("name: ").removesuffix(",")
        elif match := _EXPRESSION.match(stripped):
            what, at = _unquoted(match[1]), _seconds(match[2])
        elif match := _ALERT.match(stripped):
            what, at, alerts = match[1], _seconds(match[2]), []
        elif stripped.startswith("got: "):
            found = tuple((_texts(s), float(v)) for s, v in _SAMPLE.findall(stripped.removeprefix("got: ")))
            looks.append(Look(test, what, at, samples=found))
        elif stripped.startswith("Labels:{"):
            labels = _texts(stripped)
        elif stripped.startswith("Annotations:{"):
            alerts.append((labels or {}, _texts(stripped)))
        elif stripped == "]":
            looks.append(Look(test, what, at, alerts=tuple(alerts)))
        elif stripped not in ("", "FAILED:", "SUCCESS", "exp: nil", "exp:[],", "got:[") and not re.fullmatch(
            r"\d+:|Unit Testing:.*", stripped
        ):
            said = " ".join(output[output.index(line) :].split())
            raise PromtoolError(f"promtool says: {said[:600]}")
    return looks
