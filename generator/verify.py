"""The running stack against the file: is what runs what slos.yaml says, and does it work?

Every kind of check is a function here that asks the servers and yields `Check`s. All kinds run at once and share what was
asked; a server that does not answer is told once, and what needed it is skipped. Nothing is changed.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import email.utils
import functools
import itertools
import json
import math
import re
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, TypeVar, cast
from urllib.parse import urlsplit

import promql_parser as pp

from generator import cost, names, otlp, promql, rendered, servers, stack, targets
from generator import secrets as secret_files
from generator.diagnostics import did_you_mean, nearest
from generator.errors import LgtmError
from generator.model import DAY, Model, ResolvedProcess, ResolvedService, ResolvedSlo
from generator.project import Project
from generator.render import Artifact
from generator.rendered import GENERATED, TREES, Files
from generator.sli import Latency, Probe, Process, Traces
from generator.units import Duration, plain

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
Level = Literal["ok", "warn", "fail", "skipped"]
LEVELS: tuple[Level, ...] = ("fail", "warn", "skipped", "ok")
Report = Callable[[str], None]
Labels = dict[str, str]
Row = tuple[Labels, float]

_APPLY = "Run `lgtm apply`, or this with --repair."
# A server that hangs costs each kind this many seconds once.
_TIMEOUT = 4.0
_ASKERS = 10
# Of a group's interval that its evaluation takes: then it is late as soon as anything else is slow.
_SLOW_EVALUATION, _LATE_EVALUATION = 0.5, 0.9
_JOBS_BEGIN = 15.0  # seconds after its start; the scrape manager takes new jobs every 5
_PROBE_SLOW = 0.8  # of the probe's timeout
_SKEW_WARN, _SKEW_FAIL = 2.0, 30.0  # seconds
# https://prometheus.io/docs/prometheus/latest/storage: one to two bytes a sample.
_BYTES_PER_SAMPLE = 2
_MANY_VALUES = 10_000  # of one label
_RESULTS = 6 * 3600  # seconds back in which a receiver's last notification is looked for
DISK_FREE = "lgtm_verify_disk_free_bytes"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: its kind, its name within the kind, how it is, a sentence, and what cures it.

    ``skipped`` means that it could not be looked at; the sentence says why.
    """

    kind: str
    name: str
    level: Level
    text: str
    cure: str = ""


# --- What is asked -----------------------------------------------------------------------------------------------------------


class _Look:
    """The file's side, and the servers' side: each question that kinds share is asked once, from whatever thread."""

    def __init__(self, project: Project, model: Model, artifacts: Iterable[Artifact], *, quick: bool) -> None:
        self.project, self.model, self.quick = project, model, quick
        self.wanted: Mapping[str, Files] = rendered.by_server(artifacts)
        self.disk: Mapping[str, Files] = {s: rendered.read_tree(project.root / s / GENERATED) for s in TREES}
        self._pool = concurrent.futures.ThreadPoolExecutor(_ASKERS, thread_name_prefix="verify-ask")
        self._clients: list[servers.Client] = []
        self._own = threading.local()
        self._lock = threading.Lock()
        self._shared: dict[str, concurrent.futures.Future[Any]] = {}
        self._silent: dict[str, servers.UnreachableError] = {}

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        for client in self._clients:
            client.close()

    def who_changed(self, server: str, path: str) -> str:
        """Why a file on disk is not the rendered one: is it the one that was applied last?"""
        good = rendered.read_tree(self.project.root / ".lgtm" / "last-good" / server / GENERATED)
        if not good:
            return "edited by hand, or not applied yet"
        return "the spec was edited and not applied" if self.disk[server].get(path) == good.get(path) else "edited by hand"

    def client(self, server: str) -> servers.Client:
        """A client of this thread."""
        kinds = {
            "prometheus": servers.Prometheus,
            "alertmanager": servers.Alertmanager,
            "blackbox": servers.Blackbox,
            "loki": servers.Loki,
        }
        key = f"client_{server}"
        found: servers.Client | None = getattr(self._own, key, None)
        if found is None:
            found = kinds.get(server, servers.Client)(self.project.url(server), timeout=_TIMEOUT)
            found.name = server
            found.call = functools.partial(self._call, server, found.call)  # type: ignore[method-assign]
            setattr(self._own, key, found)
            with self._lock:
                self._clients.append(found)
        return found

    def _call(self, server: str, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """One that did not answer is not asked again: of a server that hangs, each question would cost its time-out."""
        if server in self._silent:
            raise self._silent[server]
        try:
            return call(*arguments, **named)
        except servers.UnreachableError as error:
            self._silent[server] = error
            raise

    @property
    def prometheus(self) -> servers.Prometheus:
        return cast(servers.Prometheus, self.client("prometheus"))

    def every(self, work: Mapping[K, Callable[[], T]]) -> dict[K, T]:
        """Ask all at once. Raises what one of them raises. Not for questions that ask others in turn."""
        futures = {key: self._pool.submit(call) for key, call in work.items()}
        return {key: future.result() for key, future in futures.items()}

    def once(self, name: str, ask: Callable[[], T]) -> T:
        """The answer to a question that several kinds have."""
        with self._lock:
            future = self._shared.get(name)
            if future is None:
                future = self._shared[name] = self._pool.submit(ask)
        return cast(T, future.result())

    # Prometheus

    def query(self, promql_: str) -> list[Row]:
        data = self.prometheus.json("/api/v1/query", query=promql_)["data"]["result"]
        # A native histogram has no "value": that it is there is what is asked.
        return [(row["metric"], float(row["value"][1]) if "value" in row else math.nan) for row in data]

    def curve(self, promql_: str, start: float, end: float, step: float) -> list[tuple[Labels, dict[float, float]]]:
        """A range query: each series' labels, and its values by Unix time."""
        answer = self.prometheus.json(
            "/api/v1/query_range", query=promql_, start=f"{start:.3f}", end=f"{end:.3f}", step=f"{step:g}"
        )
        return [(row["metric"], {float(t): float(v) for t, v in row["values"]}) for row in answer["data"]["result"]]

    def queries(self, wanted: Mapping[K, str]) -> dict[K, list[Row]]:
        return self.every({key: functools.partial(self.query, text) for key, text in wanted.items()})

    def groups(self) -> list[dict[str, Any]]:
        """The rule groups in force."""
        return self.once("rules", lambda: self.prometheus.rule_groups())

    def targets(self) -> list[dict[str, Any]]:
        answer = self.once("targets", lambda: self.prometheus.json("/api/v1/targets", state="active"))
        found: list[dict[str, Any]] = answer["data"]["activeTargets"]
        return found

    def runtime(self) -> dict[str, Any]:
        """Prometheus's own account of itself, with ``skew``: its clock minus this machine's, seconds."""

        def ask() -> dict[str, Any]:
            before = time.time()
            answer: dict[str, Any] = self.prometheus.json("/api/v1/status/runtimeinfo")["data"]
            return {**answer, "skew": _moment(answer["serverTime"]) - (before + time.time()) / 2}

        return self.once("runtime", ask)

    def metric_names(self) -> list[str]:
        """Every metric of the last day."""

        def ask() -> list[str]:
            found: list[str] = self.prometheus.json("/api/v1/label/__name__/values", start=f"{time.time() - 86400:.0f}")["data"]
            return found

        return self.once("names", ask)

    def page(self, server: str) -> list[servers.Sample]:
        """All samples of a server's own metrics page that verify reads."""
        prefixes = {"alertmanager": "alertmanager_", "loki": "loki_prometheus_rule_group_rules"}
        return self.once(f"page {server}", lambda: self.client(server).metrics(prefixes[server]))

    def containers(self) -> dict[str, dict[str, Any]]:
        """The project's containers by server, as Docker lists them, and under ``""`` what Docker says of itself."""

        def ask() -> dict[str, dict[str, Any]]:
            from docker.errors import DockerException

            with contextlib.closing(stack.engine(timeout=5)) as client:
                try:
                    label = f"com.docker.compose.project={self.project.compose_project}"
                    found = {"": dict(client.api.info())}
                    for entry in client.api.containers(all=True, filters={"label": label}):
                        found[(entry.get("Labels") or {}).get("com.docker.compose.service", "?")] = entry
                except (DockerException, OSError) as error:
                    raise stack.StackError(f"Docker does not answer: {error}") from error
            return found

        return self.once("docker", ask)


def _moment(text: str) -> float:
    """Unix seconds of a time as Go prints it, with nanoseconds; 0 for its zero."""
    text = re.sub(r"(\.\d{6})\d*", r"\1", text).replace("Z", "+00:00")
    found = datetime.fromisoformat(text)
    return 0.0 if found.year <= 1 else found.timestamp()


# --- Servers, files, configuration -------------------------------------------------------------------------------------------


def _servers(look: _Look) -> Iterator[Check]:
    """Each server that is wanted answers at its ready endpoint."""
    chosen = stack.wanted(look.project)
    asked = look.every({n: functools.partial(stack.is_ready, look.project, n) for n in chosen if n in stack.READY})
    for name, (ready, why) in asked.items():
        if ready:
            yield Check("servers", name, "ok", "ready")
        elif name in stack.OPTIONAL:
            yield Check("servers", name, "skipped", f"{why}; the rest works without it", "Run `make up`.")
        else:
            yield Check("servers", name, "fail", f"not ready: {why}", _server_cure(name))


def _files(look: _Look) -> Iterator[Check]:
    """The rendered files on disk are those of the spec. Grafana's are among the dashboards."""
    for server in TREES:
        if server != "grafana":
            yield from _on_disk(look, server, "files")


def _on_disk(look: _Look, server: str, kind: str) -> Iterator[Check]:
    differences = rendered.compare({server: look.wanted[server]}, {server: look.disk[server]})
    for difference in differences:
        inner = difference.path.removeprefix(f"{server}/{GENERATED}/")
        said = {
            "missing": "the spec renders it and it is not on disk",
            "stale": "it is on disk and nothing in the spec renders it",
            "changed": f"it is not what the spec renders: {_first_change(difference.diff)}",
        }[difference.kind]
        yield Check(kind, difference.path, "fail", f"{said}; {look.who_changed(server, inner)}", _APPLY)
    if not differences:
        yield Check(kind, f"{server}/{GENERATED}", "ok", f"{_count(look.wanted[server], 'file')} as rendered")


def _first_change(diff: str) -> str:
    lines = [line for line in diff.splitlines() if line[:1] in "-+" and line[:3] not in ("---", "+++")]
    shown = {line[0]: line[1:].strip() for line in reversed(lines)}
    if "-" in shown and "+" in shown:
        # Of long lines that begin alike, where they part.
        alike = sum(1 for _ in itertools.takewhile(lambda two: two[0] == two[1], zip(shown["-"], shown["+"], strict=False)))
        start = alike - 20 if alike > 40 else 0
        cut = {sign: ("…" if start else "") + text[start : start + 60] for sign, text in shown.items()}
        return f"{cut['-']!r} where {cut['+']!r} belongs"
    return f"{shown['-'][:80]!r} is too much" if "-" in shown else f"{shown.get('+', '')[:80]!r} is missing"


def _odd_one(look: _Look, server: str, path: str, in_force: Callable[[bytes], bool]) -> str:
    """Which of the three is the odd one, where what is in force is not what the spec renders."""
    disk = look.disk[server].get(path)
    if disk == look.wanted[server].get(path):
        return "the rendered file is on disk and is not loaded"
    why = look.who_changed(server, path)
    if disk is None:
        return f"its file is not on disk ({why})"
    try:
        loaded = in_force(disk)
    except Exception:  # whatever somebody has written into that file
        loaded = False
    return f"the file on disk is in force ({why})" if loaded else f"the file on disk is a third one ({why})"


def _config(look: _Look) -> Iterator[Check]:
    """What the servers have in force, beside the rules: routes, probes' modules, scrape jobs, hand-written configuration."""
    parts: list[Callable[[_Look], Iterable[Check]]] = [_config_alertmanager, _config_blackbox, _config_scrapes, _config_loads]
    if not look.quick:
        parts.append(_config_at_start)
    yield from _all(look, "config", parts)


def _config_alertmanager(look: _Look) -> Iterator[Check]:
    file = "alertmanager.yml"
    present = servers.value(look.page("alertmanager"), "alertmanager_config_hash")
    if present == servers.Alertmanager.config_hash(look.wanted["alertmanager"][file]):
        yield Check("config", "alertmanager", "ok", "the rendered routes and receivers are in force")
        return
    why = _odd_one(look, "alertmanager", file, lambda disk: present == servers.Alertmanager.config_hash(disk))
    yield Check("config", "alertmanager", "fail", f"other routes or receivers are in force than rendered: {why}", _APPLY)


def _config_blackbox(look: _Look) -> Iterator[Check]:
    file = "blackbox.yml"
    present = cast(servers.Blackbox, look.client("blackbox")).config().get("modules") or {}

    def modules(content: bytes) -> dict[str, Any]:
        return dict(servers.load_text(content).get("modules") or {})

    wanted = modules(look.wanted["blackbox"][file])
    for module in sorted(wanted.keys() | present.keys()):
        why = "it is not there" if module not in present else "nothing renders it" if module not in wanted else None
        why = why or targets.not_within(wanted[module], present[module], "prober")
        if why is None:
            yield Check("config", f"blackbox module {module}", "ok", "as rendered")
            continue
        difference = why if module not in wanted or module not in present else f"in force it has another {why}"
        odd = _odd_one(look, "blackbox", file, lambda disk: targets.not_within(modules(disk), present) is None)
        yield Check("config", f"blackbox module {module}", "fail", f"{difference}: {odd}", _APPLY)


def _config_scrapes(look: _Look) -> Iterator[Check]:
    wanted = {job["job_name"]: (name, job) for name, job in _jobs_by_file(look.wanted["prometheus"])}
    present = set(look.prometheus.scrape_pools())
    up = time.time() + look.runtime()["skew"] - _moment(look.runtime()["startTime"])
    if wanted.keys() - present and up < _JOBS_BEGIN:
        text = f"Prometheus has run for {_seconds(up)}: it begins its scrape jobs some seconds after its start"
        yield Check("config", "scrape jobs", "skipped", text)
        return
    configs = look.every({j: functools.partial(_scrape_pool, look, j) for j in sorted(wanted.keys() & present)})
    for job, (file, config) in wanted.items():
        name = f"scrape job {job}"
        if job in configs:
            difference = targets.not_within(config, configs[job])
            if difference is None:
                yield Check("config", name, "ok", "as rendered")
                continue
            difference = f"in force it has another {difference}"
        else:
            difference = "it is not in force"

        def loaded(disk: bytes, job: str = job) -> bool:
            jobs = {j["job_name"]: j for j in servers.load_text(disk).get("scrape_configs") or ()}
            return targets.not_within(jobs.get(job, {}), configs.get(job, {})) is None

        yield Check("config", name, "fail", f"{difference}: {_odd_one(look, 'prometheus', file, loaded)}", _APPLY)
    with contextlib.suppress(OSError):
        text = servers.load_text((look.project.root / "prometheus" / "prometheus.yml").read_bytes())
        known = {job["job_name"] for job in text.get("scrape_configs") or ()}
        if all(str(pattern).startswith(f"{GENERATED}/") for pattern in text.get("scrape_config_files") or ()):
            for job in sorted(present - known - wanted.keys()):
                yield Check("config", f"scrape job {job}", "fail", "it is in force, and no file has it", _APPLY)


def _scrape_pool(look: _Look, job: str) -> dict[str, Any]:
    return look.prometheus.scrape_pool(job)


def _jobs_by_file(files: Files) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, content in files.items():
        if name.startswith("scrape/"):
            yield from ((name, job) for job in servers.load_text(content)["scrape_configs"])


def _config_loads(look: _Look) -> Iterator[Check]:
    """Each server's last reload went well, and is newer than what people write by hand beside the rendered files."""
    loaders = {name: targets.TARGETS[name](look.project) for name in ("prometheus", "alertmanager", "blackbox", "loki")}

    def state(name: str) -> tuple[bool, float] | servers.UnreachableError:
        prefix = loaders[name].metric or "loki_ruler_config_last_reload"
        try:
            samples = look.client(name).metrics(prefix)
        except servers.UnreachableError as error:
            return error
        stamp = next((s.value for s in samples if s.name.endswith("_seconds")), 0.0)
        return servers.value(samples, f"{prefix}_successful", 1) == 1, stamp

    for name, found in look.every({n: functools.partial(state, n) for n in loaders}).items():
        if isinstance(found, servers.UnreachableError):
            yield _unreachable("config", found)
            continue
        target, (good, stamp) = loaders[name], found
        if not good:
            yield Check(
                "config",
                f"{name} reload",
                "fail",
                "its last reload was refused, so it goes on with what it had before",
                f"`lgtm apply` says what is wrong with which file; so does `lgtm logs {name}`.",
            )
            continue
        newer = [
            path
            for top in target.base
            for path in ((look.project.root / name / top), *(look.project.root / name / top).rglob("*"))
            if path.is_file() and path.stat().st_mtime > stamp
        ]
        for path in newer:
            shown = path.relative_to(look.project.root).as_posix()
            yield Check("config", shown, "fail", f"it was changed after {name} last read its files ({_clock(stamp)})", _APPLY)
        if not newer:
            yield Check(
                "config", f"{name} reload", "ok", f"its last reload ({_clock(stamp)}) went well" if stamp else "went well"
            )


def _config_at_start(look: _Look) -> Iterator[Check]:
    """Hand-written files that a server reads only when it starts."""
    wanted = stack.compose_environment(look.project)
    found = look.containers()
    for server in stack.READ_AT_START:
        if server not in found:
            continue
        present = (found[server].get("Labels") or {}).get("lgtm.configuration")
        files = ", ".join(stack.READ_AT_START[server])
        if present == wanted[f"{server.upper()}_CONFIGURATION"]:
            yield Check("config", files, "ok", f"{server} was started with it")
        else:
            yield Check("config", files, "fail", f"it was changed after {server} was started with it", "Run `make up`.")


# --- Rules -------------------------------------------------------------------------------------------------------------------


def _rules(look: _Look) -> Iterator[Check]:
    """Each rule is loaded as rendered, and its last evaluation went well."""
    yield from _all(look, "rules", [_rules_prometheus, _rules_loki])


def _rules_prometheus(look: _Look) -> Iterator[Check]:
    place = f"{targets.MOUNTS['prometheus']}/{GENERATED}/"
    wanted = _groups_of(look.wanted["prometheus"])
    present = {(g["file"].removeprefix(place), g["name"]): g for g in look.groups()}
    for key in sorted(wanted.keys() | present.keys()):
        file, name = key
        group = present.get(key)
        if key not in wanted:
            if str(present[key]["file"]).startswith(place):
                yield Check("rules", name, "fail", f"it is in force, and nothing in the spec renders it ({file})", _APPLY)
            else:
                yield from _health(name, present[key])  # a hand-written one
            continue
        difference = "it is not loaded" if group is None else targets.group_differs(wanted[key], group, look.prometheus)
        if difference is not None:
            said = difference if group is None else f"in force it has {difference}"

            def loaded(disk: bytes, name: str = name, group: dict[str, Any] | None = group) -> bool:
                there = {g["name"]: g for g in servers.load_text(disk).get("groups") or ()}
                if group is None or name not in there:
                    return group is None and name not in there
                return targets.group_differs(there[name], group, look.prometheus) is None

            yield Check("rules", name, "fail", f"{said}: {_odd_one(look, 'prometheus', file, loaded)}", _APPLY)
        if group is not None:
            yield from _health(name, group, as_rendered=difference is None)


def _groups_of(files: Files) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (name, group["name"]): group
        for name, content in files.items()
        if name.startswith("rules/")
        for group in servers.load_text(content).get("groups") or ()
    }


def _health(name: str, group: Mapping[str, Any], *, as_rendered: bool = True) -> Iterator[Check]:
    rules = group["rules"]
    failing = [rule for rule in rules if rule.get("health") == "err" or rule.get("lastError")]
    for rule in failing:
        yield Check(
            "rules",
            f"{name}: {rule['name']}",
            "fail",
            f"its last evaluation failed: {evaluation_error(str(rule.get('lastError', '')))}",
            "Ask Prometheus the rule's query, and mend what it reads: the metric, its labels, or the SLO's sli.",
        )
    if failing or not as_rendered:
        return
    if not _moment(group["lastEvaluation"]):
        yield Check("rules", name, "skipped", f"{_count(rules, 'rule')} loaded, not evaluated yet: {_every(group['interval'])}")
    else:
        yield Check("rules", name, "ok", f"{_count(rules, 'rule')} as rendered, last evaluation without an error")


def evaluation_error(text: str) -> str:
    """Prometheus's reason without the series that it lists, which may be many."""
    return re.sub(r":\s*\[\{.*?\}\](?=;)", "", text.strip(), flags=re.DOTALL).replace(";", "; ")[:300]


def _rules_loki(look: _Look) -> Iterator[Check]:
    """Loki's ruler has no API here; its metrics tell how many rules of each group it runs, and how they fare."""
    wanted = {key: len(group.get("rules") or ()) for key, group in targets.loki_groups(look.wanted["loki"]).items()}
    present = {_loki_group(s.labels): int(s.value) for s in look.page("loki") if s.name == "loki_prometheus_rule_group_rules"}
    failed = {}
    if present:
        rows = look.query("increase(loki_prometheus_rule_evaluation_failures_total[5m]) > 0")
        failed = {_loki_group(labels): value for labels, value in rows}
    for key in sorted(wanted.keys() | present.keys()):
        file, name = key
        has, should = present.get(key, 0), wanted.get(key, 0)
        if has != should:
            yield Check("rules", name, "fail", f"Loki runs {has} of its rules instead of {should} ({file})", _APPLY)
        elif key in failed:
            yield Check(
                "rules",
                name,
                "fail",
                f"{math.ceil(failed[key])} evaluations of its log queries failed in the last 5 minutes",
                "`lgtm logs loki` says which and why.",
            )
        else:
            yield Check("rules", name, "ok", f"{should} log rules as rendered, no evaluation failed in the last 5 minutes")


def _loki_group(labels: Mapping[str, str]) -> tuple[str, str]:
    file, _, group = labels.get("rule_group", "").rpartition(";")
    return file.rpartition("/")[2], group


def _evaluation(look: _Look) -> Iterator[Check]:
    """Each group runs in time: none missed, none that takes as long as its interval."""
    rows = look.queries(
        {
            "prometheus": "increase(prometheus_rule_group_iterations_missed_total[1h]) > 0",
            "loki": "increase(loki_prometheus_rule_group_iterations_missed_total[1h]) > 0",
        }
    )
    missed = {labels.get("rule_group", ""): math.ceil(value) for part in rows.values() for labels, value in part}
    now = time.time() + look.runtime()["skew"]
    for group in look.groups():
        name, interval = group["name"], float(group["interval"])
        lost = missed.pop(f"{group['file']};{name}", 0)
        yield evaluated(name, interval, float(group["evaluationTime"]), now, _moment(group["lastEvaluation"]), lost)
    for group_name, lost in missed.items():
        if group_name.startswith("/loki/"):
            name = group_name.rpartition(";")[2]
            yield Check("evaluation", name, "warn", f"Loki missed {lost} evaluations in the last hour", "See `lgtm status`.")


def evaluated(name: str, interval: float, took: float, now: float, last: float, missed: int) -> Check:
    """Whether a group runs in time. Times in seconds, ``last`` and ``now`` Unix time; ``missed`` in the last hour."""
    cure = "`lgtm cost` shows which SLOs are dear; a machine that is busy or short of memory is the other cause."
    share = took / interval
    said = f"takes {_seconds(took)} every {_seconds(interval)}"
    if not last:
        return Check("evaluation", name, "skipped", f"not evaluated yet: {_every(interval)}")
    if now - last > 2 * interval + 15:
        return Check("evaluation", name, "fail", f"last evaluated {_seconds(now - last)} ago; {_every(interval)}", cure)
    if share >= _LATE_EVALUATION:
        return Check("evaluation", name, "fail", f"{said}: it comes too late or misses turns", cure)
    if missed:
        return Check("evaluation", name, "warn", f"missed {missed} evaluations in the last hour; {said}", cure)
    if share >= _SLOW_EVALUATION:
        return Check("evaluation", name, "warn", f"{said}: more than half of its time", cure)
    return Check("evaluation", name, "ok", said)


# --- Targets and probes ------------------------------------------------------------------------------------------------------


def _targets(look: _Look) -> Iterator[Check]:
    """Each target that Prometheus scrapes is up. Probes are told apart."""
    for target in look.targets():
        if target["scrapePool"].startswith("probe:"):
            continue
        name = f"{target['labels'].get('job', '?')} at {target['labels'].get('instance', target['scrapeUrl'])}"
        took, timeout = float(target.get("lastScrapeDuration") or 0), _prometheus_seconds(target.get("scrapeTimeout", ""))
        if target["health"] == "unknown":
            yield Check("targets", name, "skipped", f"not scraped yet; it will be within {target.get('scrapeInterval')}")
        elif target["health"] != "up":
            error = target.get("lastError") or "no reason given"
            own = target["labels"].get("job") in names.STACK_JOBS
            cure = _server_cure(target["labels"]["job"]) if own else scrape_cure(error, target["scrapeUrl"])
            yield Check("targets", name, "fail", f"it cannot be scraped: {error}", cure)
        elif timeout and took > 0.8 * timeout:
            text = f"a scrape takes {_seconds(took)}, and {_seconds(timeout)} are allowed"
            yield Check("targets", name, "warn", text, "Give it fewer series, or a longer scrape interval.")
        else:
            yield Check("targets", name, "ok", f"up, scraped in {_seconds(took)}")


def _server_cure(server: str) -> str:
    return f"Run `make up`; `lgtm logs {server}` has its last words."


def scrape_cure(error: str, url: str) -> str:
    """What to do about Prometheus's reason for a failed scrape."""
    causes = {
        r"connection refused": f"Nothing listens at {url}: start the service, or mend its port under scrape.",
        r"no such host|server misbehaving": "No container or host has this name: mend it under scrape in slos.yaml.",
        r"deadline exceeded|timeout|no route": "It does not answer in time: is it overloaded, or does a firewall drop it?",
        r"HTTP status 40[13]": "It asks for credentials.",
        r"HTTP status 404": "There are no metrics at this path: set scrape.path.",
        r"HTTP status 5": "The service itself fails there: its log says why.",
        r"sample limit": "It has more series than prometheus.yml allows: find the label with too many values.",
        r"unsupported Content-Type|expected|invalid": "What it answers is not Prometheus's format: is it the right path?",
    }
    return next((cure for pattern, cure in causes.items() if re.search(pattern, error)), f"Ask it yourself: curl {url}")


def _probes(look: _Look) -> Iterator[Check]:
    """Each probe answers, and how slowly."""
    wanted = [probe for service in look.model.services for probe in service.probes]
    if not wanted:
        return
    metrics = {"success": "probe_success", "seconds": "probe_duration_seconds", "status": "probe_http_status_code"}
    rows = look.queries({key: f'{metric}{{job="{names.PROBE_JOB}"}}' for key, metric in metrics.items()})
    seen = {key: {(ls.get("service"), ls.get("probe")): value for ls, value in part} for key, part in rows.items()}
    pools = {target["scrapePool"]: target for target in look.targets()}
    for probe in wanted:
        name, key = f"{probe.service}/{probe.name}", (probe.service, probe.name)
        target = pools.get(f"probe:{probe.service}:{probe.name}")
        status = int(seen["status"].get(key, 0))
        took = seen["seconds"].get(key, 0.0)
        limit = float(probe.slower_than.seconds) if probe.slower_than else _PROBE_SLOW * float(probe.timeout.seconds)
        host = urlsplit(probe.url).hostname or ""
        cure = _server_cure(host) if host in stack.READY else f"Ask it yourself: curl -i {probe.url}"
        if target is None:
            yield Check("probes", name, "fail", "Prometheus does not run it", _APPLY)
        elif target["health"] == "unknown" or (key not in seen["success"] and target["health"] == "up"):
            yield Check("probes", name, "skipped", f"not asked yet; it will be within {probe.interval}")
        elif target["health"] != "up":
            text = f"blackbox_exporter cannot be asked for it: {target.get('lastError')}"
            yield Check("probes", name, "fail", text, "See `lgtm logs blackbox`.")
        elif seen["success"][key] != 1:
            answer = f"it answered {status} in {_seconds(took)}" if status else f"no answer after {_seconds(took)}"
            yield Check("probes", name, "fail", f"{answer} ({probe.url})", cure)
        elif took > limit:
            yield Check("probes", name, "warn", f"it answers {status}, in {_seconds(took)}: over {_seconds(limit)}", cure)
        else:
            yield Check("probes", name, "ok", f"answers {status} in {_seconds(took)}")


# --- SLIs --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Selector:
    """A selector of an SLI's query."""

    metric: str
    text: str

    @classmethod
    def all_of(cls, query: str) -> dict[str, _Selector]:
        found = {}
        for one in promql.selectors(promql.parse(query)):
            metric = promql.metric_name(one) or ""
            bare = _with(one, lambda matcher: True)
            found[bare] = cls(metric, bare)
        return found

    @property
    def bucket(self) -> bool:
        return self.metric.endswith("_bucket") and 'le=~"' in self.text

    def without(self, label: str) -> str:
        one = promql.selectors(promql.parse(self.text))[0]
        return _with(one, lambda matcher: matcher.name != label)


def _with(selector: pp.VectorSelector, keep: Callable[[pp.Matcher], bool]) -> str:
    """A selector without range and offset, and with the matchers that are to stay."""
    signs = {"MatchOp.Equal": "=", "MatchOp.NotEqual": "!=", "MatchOp.Re": "=~", "MatchOp.NotRe": "!~"}
    kept = [f"{m.name}{signs[str(m.op)]}{promql.quote(m.value)}" for m in selector.matchers.matchers if keep(m)]
    return f"{selector.name or ''}{{{','.join(kept)}}}"


@dataclass
class _Indicator:
    """What is asked for one SLO, and what came."""

    slo: ResolvedSlo
    total: str
    others: list[_Selector]
    bucket: _Selector | None

    @classmethod
    def of(cls, slo: ResolvedSlo) -> _Indicator:
        total = slo.sli.total(slo.context)
        inside = _Selector.all_of(total)
        more = [s for text, s in _Selector.all_of(slo.sli.errors(slo.context)).items() if text not in inside]
        bucket = next((s for s in more if s.bucket), None)
        return cls(slo, total, [s for s in more if s is not bucket], bucket)

    def queries(self) -> dict[tuple[str, str], str]:
        found = {("total", ""): self.total}
        found |= {("other", s.text): f"count({s.text})" for s in self.others}
        if self.bucket is not None:
            found["bucket", ""] = f"group by (le) ({self.bucket.without('le')})"
        return found


def _slis(look: _Look) -> Iterator[Check]:
    """Each SLI has data; a latency's threshold is one of the histogram's buckets, or there is a native histogram."""
    asked = [_Indicator.of(slo) for slo in look.model.slos]
    rows = look.queries({(i, *key): text for i, one in enumerate(asked) for key, text in one.queries().items()})
    for i, one in enumerate(asked):
        mine = {(part, text): found for (index, part, text), found in rows.items() if index == i}
        yield from _sli(look, one, mine)


def _sli(look: _Look, one: _Indicator, rows: Mapping[tuple[str, str], list[Row]]) -> Iterator[Check]:
    slo = one.slo
    name = f"{slo.service}/{slo.name}"
    total = rows["total", ""]
    if one.bucket is not None and (total or rows["bucket", ""]):
        bound = slo.sli.bound() if isinstance(slo.sli, Latency) else cast(Process, slo.sli).limit(slo.context).seconds
        problem = bucket_problem(bound, [labels.get("le", "") for labels, _ in rows["bucket", ""]])
        if problem is not None:
            text = f"{one.bucket.metric} has no bucket that ends at {plain(bound)}: {problem}"
            cure = "Set the threshold to a bucket there is, add the bucket to the service, or read native: true."
            yield Check("slis", name, "fail", text, cure)
            return
    if not total:
        yield _absent(look, one, name)
        return
    if all(math.isnan(value) or math.isinf(value) or value < 0 for _, value in total):
        yield Check("slis", name, "fail", f"all events are {total[0][1]:g}, which is no number of events", "Mend its sli.")
        return
    without = [label for label in slo.by if not all(labels.get(label) for labels, _ in total)]
    if without:
        text = f"it is grouped by {', '.join(without)}, and its metrics have no such label"
        yield Check("slis", name, "fail", text, "Mend `by`, or the metric.")
        return
    amount = sum(value for _, value in total if not math.isnan(value))
    if slo.sli.weighted_by_traffic:
        said = f"{amount:.3g} events a second" if amount else "its series are there; no events at the moment"
    else:
        said = f"{amount:g} series"
    never = sorted({s.text for s in one.others if not rows["other", s.text]})
    if never:
        # A counter of errors is often born with the first error: that is no fault, but worth knowing.
        said += f"; errors were never counted (no {', '.join(never)}): fine as long as there were none"
    yield Check("slis", name, "ok", said)


def _absent(look: _Look, one: _Indicator, name: str) -> Check:
    """Why there is no event at all: the metric, its labels, or that it has stopped."""
    slo = one.slo
    pool = f"probe:{slo.service}:{slo.sli.name}" if isinstance(slo.sli, Probe) else slo.context.match.get("job")
    if any(target["health"] == "unknown" and target["scrapePool"] == pool for target in look.targets()):
        return Check("slis", name, "skipped", "what it reads has not been scraped yet")
    known = set(look.metric_names())
    for selector in _Selector.all_of(one.total).values():
        metric = selector.metric
        if metric and metric not in known:
            if metric.removesuffix("_count") + "_bucket" in known and isinstance(slo.sli, Latency) and slo.sli.native:
                text = f"{metric} is no native histogram: there are only its classic buckets"
                return Check(
                    "slis", name, "fail", text, "Leave out native: true, or have the service expose native histograms."
                )
            if metric.removesuffix("_count") in known and isinstance(slo.sli, Latency):
                text = f"{metric.removesuffix('_count')} is a native histogram without classic buckets"
                return Check("slis", name, "fail", text, "Set native: true.")
            near = nearest(metric, known)
            cure = f"Did you mean {near}?" if near else "Is the service up, and is it scraped or does it push?"
            return Check("slis", name, "fail", f"no metric {metric} was seen in the last day", cure)
        if look.query(f"count({selector.text})"):
            if isinstance(slo.sli, Latency | Traces | Process) and not look.query(f"histogram_count({selector.text})"):
                text = f"{metric} is there, but not as a native histogram"
                return Check(
                    "slis", name, "fail", text, "Leave out native: true, or have the service expose native histograms."
                )
            continue
        if look.query(f"count(last_over_time({selector.text}[1d]))"):
            # What is counted as it happens may rightly be silent for a while.
            quiet = slo.sli.kind in ("process", "logs", "traces")
            text = "its series were there in the last day and are not now"
            return Check("slis", name, "warn" if quiet else "fail", text, "Is the service up? Targets, above, may say more.")
        jobs = sorted({labels.get("job", "") for labels, _ in look.query(f"group by (job) ({metric})")} - {""})
        where = f"; {metric} exists for {', '.join(jobs[:5])}" if jobs else ""
        text = f"nothing matches {selector.text}{where}"
        return Check("slis", name, "fail", text, "Mend the selector, or the service's `match`, or start what emits it.")
    if any(
        rule.get("lastError") for group in look.groups() if group["name"].startswith(slo.service) for rule in group["rules"]
    ):
        return Check("slis", name, "fail", "its query fails: see the rules", "Mend its sli.")
    return Check("slis", name, "warn", "its metrics are there, and too few samples of them for a rate yet", "Wait a minute.")


def bucket_problem(bound: Decimal, bounds: Iterable[str]) -> str | None:
    """None when a bucket of these ``le`` ends at ``bound``; else the nearest below and above, or that there is none."""
    finite = sorted({float(le) for le in bounds if le and not math.isinf(float(le))})
    if any(math.isclose(le, float(bound), rel_tol=1e-9) for le in finite):
        return None
    if not finite:
        return "it has none at all, as a summary has not"
    below = max((le for le in finite if le < float(bound)), default=None)
    above = min((le for le in finite if le > float(bound)), default=None)
    near = [f"{le:g}" for le in (below, above) if le is not None]
    return f"the nearest end{'s' if len(near) == 1 else ''} at {' and '.join(near)}"


# --- Processes ---------------------------------------------------------------------------------------------------------------

Seen = Mapping[tuple[str, str], set[str]]  # versions by service and process id


def _processes(look: _Look) -> Iterator[Check]:
    """Each registered process is seen, with its version; and none that is not registered."""
    labels = "job, process_id, process_version"
    spans = 'traces_spanmetrics_calls_total{process_id!="",process_status!=""}'
    rows = look.queries(
        {
            "now": f"group by ({labels}) (process_executions_total)",
            "day": f"group by ({labels}) (last_over_time(process_executions_total[1d]))",
            "spans": f"group by (service, process_id, process_version) (last_over_time({spans}[1d]))",
        }
    )
    seen: dict[str, dict[tuple[str, str], set[str]]] = {key: defaultdict(set) for key in rows}
    for key, part in rows.items():
        for ls, _ in part:
            owner = (ls.get("job") or ls.get("service", "")).rpartition("/")[2]
            seen[key][owner, ls.get("process_id", "")].add(ls.get("process_version", ""))
    # Several services may read one job: the one that has processes is meant.
    services = {_job(service): service for service in sorted(look.model.services, key=lambda s: len(s.processes))}
    for service in look.model.services:
        for process in service.processes:
            spans_only = process.source == "spans"
            now = seen["spans"] if spans_only else seen["now"]
            yield registered(process, _job(service), now, seen["spans"] if spans_only else seen["day"])
    known = {(_job(s), p.id) for s in look.model.services for p in s.processes}
    for (job, id_), versions in sorted(seen["day"].items()):
        if (job, id_) not in known and not any(k[1] == id_ and k[0] == "" for k in known):
            yield unregistered(job, id_, versions, services.get(job))


def _job(service: ResolvedService) -> str:
    """What a service's processes carry as job; empty where the service reads any."""
    if not service.match:
        return ""
    return service.match.get("job", service.name).rpartition("/")[2]


def registered(process: ResolvedProcess, job: str, now: Seen, day: Seen) -> Check:
    """A process of the registry against what was seen now and in the last day."""
    name = f"{process.service}/{process.id}"

    def versions(seen: Seen) -> set[str]:
        return set().union(*(vs for (j, id_), vs in seen.items() if id_ == process.id and job in ("", j)))

    live, recent = versions(now), versions(day)
    present = live or recent
    registry = f"slos.yaml registers {process.version}"
    if not present:
        elsewhere = sorted({j for j, id_ in day if id_ == process.id})
        if elsewhere:
            text = f"it is seen from {', '.join(elsewhere)}, not from {job}"
            return Check(
                "processes", name, "fail", text, "Register it under that service, or mend the service's name in setup()."
            )
        near = nearest(process.id, {id_ for j, id_ in day if job in ("", j)})
        cure = (
            f"Is it {near!r}, which is seen? Then mend one of the two."
            if near
            else "Has it run? Does the service use process()?"
        )
        return Check("processes", name, "fail", "no execution was seen in the last day", cure)
    if process.version is None or present == {process.version}:
        when = "" if live else ", in the last day though not now"
        return Check("processes", name, "ok", f"seen with version {', '.join(sorted(present))}{when}")
    others = ", ".join(sorted(present - {process.version})) or "none"
    if process.version in present:
        text = f"version {others} is seen beside {process.version}"
        return Check("processes", name, "warn", text, "Fine while a deployment is under way; else an old instance still runs.")
    return Check("processes", name, "fail", f"seen with version {others}; {registry}", "Deploy the one, or register the other.")


def unregistered(job: str, id_: str, versions: Iterable[str], service: ResolvedService | None) -> Check:
    """A process that is seen and stands in no registry."""
    about = f"it is seen (version {', '.join(sorted(versions))}) and slos.yaml does not register it"
    if service is None:
        return Check("processes", f"{job}/{id_}", "warn", f"{about}, nor the service {job}", "Add the service to slos.yaml.")
    ids = [process.id for process in service.processes]
    hint = did_you_mean(id_, ids, "registered processes")
    cure = f"{hint[0].upper()}{hint[1:].removesuffix('.')} Else add it under processes of {service.name}."
    return Check(
        "processes", f"{job}/{id_}", "warn", about, cure.replace(" Else", ". Else") if not hint.endswith("?") else cure
    )


# --- Receivers and the Watchdog ----------------------------------------------------------------------------------------------


def _receivers(look: _Look) -> Iterator[Check]:
    """Each receiver's last notification succeeded."""
    config = servers.load_text(look.wanted["alertmanager"]["alertmanager.yml"])
    pairs = [
        (receiver["name"], key.removesuffix("_configs"))
        for receiver in config.get("receivers") or ()
        for key in receiver
        if key.endswith("_configs")
    ]
    if not pairs:
        yield Check("receivers", "all", "warn", "no receiver tells anybody", "Add one under routing.receivers.")
        return
    samples = look.page("alertmanager")
    by_name = any("receiver_name" in s.labels for s in samples)
    kinds = ("requests_total", "requests_failed_total")
    grouped = "receiver_name, integration" if by_name else "integration"
    now = time.time()
    history = look.every(
        {
            kind: functools.partial(
                look.curve, f"sum by ({grouped}) (alertmanager_notification_{kind})", now - _RESULTS, now, 15
            )
            for kind in kinds
        }
    )
    for name, integration in pairs:
        own = {"receiver_name": name, "integration": integration} if by_name else {"integration": integration}
        shared = (
            "" if by_name or sum(i == integration for _, i in pairs) == 1 else f" (all receivers by {integration} together)"
        )
        curves = []
        for kind in kinds:
            points = next((dict(values) for labels, values in history[kind] if labels == own), {})
            mine = [s for s in samples if s.name == f"alertmanager_notification_{kind}" and own.items() <= s.labels.items()]
            points[now] = sum(s.value for s in mine)
            curves.append(points)
        reasons = {
            s.labels.get("reason", ""): s.value
            for s in samples
            if s.name == "alertmanager_notifications_failed_total" and own.items() <= s.labels.items() and s.value
        }
        yield notified(name, integration, curves[0], curves[1], reasons, now, shared)


_REASONS = {
    "clientError": "the receiver refuses them (4xx): its address or its secret is wrong",
    "serverError": "the receiver itself fails (5xx)",
    "contextDeadlineExceeded": "it does not answer in time",
    "contextCanceled": "Alertmanager gave them up when it was reloaded",
}


def notified(
    name: str,
    integration: str,
    requests: Mapping[float, float],
    failed: Mapping[float, float],
    reasons: Mapping[str, float],
    now: float,
    shared: str = "",
) -> Check:
    """Whether the last notification through a receiver succeeded.

    ``requests`` and ``failed`` are Alertmanager's counters by Unix time, newest at ``now``; a counter that falls was reset.
    """
    title = f"{name} ({integration})"
    if not requests.get(now):
        return Check(
            "receivers", title, "skipped", f"nothing was sent to it since Alertmanager last read its configuration{shared}"
        )
    times = sorted(requests)
    for before, after in zip(reversed(times[:-1]), reversed(times[1:]), strict=True):
        sent = requests[after] - requests[before]
        if sent == 0:
            continue
        bad = failed.get(after, 0) - failed.get(before, 0)
        if sent < 0:  # it was restarted in between
            sent, bad = requests[after], failed.get(after, 0)
        if not sent:
            continue
        ago = f"{_seconds(max(0.0, now - after))} ago" if now - after > 60 else "a moment ago"
        break
    else:
        known = now - times[0]
        sent, bad, ago = requests[now], failed.get(now, 0), f"more than {_seconds(known)} ago" if known > 60 else "lately"
    whole = f"{requests[now]:.0f} sent, {failed.get(now, 0):.0f} failed since Alertmanager last read its configuration{shared}"
    worst = max(reasons, key=lambda reason: reasons[reason], default="")
    cure = f"`lgtm logs alertmanager` has the answer it got{'; ' + _REASONS[worst] if worst in _REASONS else ''}."
    if bad >= sent:
        return Check("receivers", title, "fail", f"the last notification, {ago}, failed; {whole}", cure)
    if bad > 0:
        return Check("receivers", title, "warn", f"{bad:.0f} of the last {sent:.0f} tries, {ago}, failed; {whole}", cure)
    return Check("receivers", title, "ok", f"the last notification, {ago}, succeeded; {whole}")


def _watchdog(look: _Look) -> Iterator[Check]:
    """The alert that always fires does, and reaches Alertmanager."""
    name = names.ALERT_WATCHDOG
    cure = "Nothing else will arrive either: see rules and config, then `lgtm logs prometheus`."
    running = time.time() - _moment(look.runtime()["startTime"])
    firing = look.query(f'ALERTS{{alertname="{name}",alertstate="firing"}}')
    lost = look.query("increase(prometheus_notifications_dropped_total[15m]) > 0")
    alerts = look.client("alertmanager").json("/api/v2/alerts", filter=f'alertname="{name}"', active="true")
    if not firing and running < 90:
        yield Check(
            "watchdog", "Prometheus", "skipped", f"Prometheus has run for {_seconds(running)}: rules have yet to be evaluated"
        )
        return
    if not firing:
        yield Check(
            "watchdog", "Prometheus", "fail", f"{name} does not fire: rules are not evaluated, or it was taken out", cure
        )
        return
    yield Check("watchdog", "Prometheus", "ok", f"{name} fires")
    if lost:
        text = f"{math.ceil(sum(value for _, value in lost))} alerts were dropped on the way in the last 15 minutes"
        yield Check("watchdog", "on the way", "warn", text, "Was Alertmanager away? `lgtm logs prometheus` has the errors.")
    if not alerts and running < 90:
        yield Check("watchdog", "Alertmanager", "skipped", "not there yet: Prometheus has just started")
    elif not alerts:
        yield Check(
            "watchdog", "Alertmanager", "fail", f"{name} does not arrive", "See `alerting:` in prometheus/prometheus.yml."
        )
    else:
        told = ", ".join(sorted({r["name"] for r in alerts[0].get("receivers", ())}))
        silenced = alerts[0].get("status", {}).get("silencedBy")
        text = f"{name} arrived {_seconds(max(0.0, time.time() - _moment(alerts[0]['updatedAt'])))} ago, for {told}"
        if silenced:
            yield Check("watchdog", "Alertmanager", "warn", f"{text}; but it is silenced", "Remove that silence.")
        else:
            yield Check("watchdog", "Alertmanager", "ok", text)


# --- Dashboards --------------------------------------------------------------------------------------------------------------


def _dashboards(look: _Look) -> Iterator[Check]:
    """Each dashboard is as rendered: on disk, and in Grafana where it runs."""
    yield from _on_disk(look, "grafana", "dashboards")
    if not stack.is_ready(look.project, "grafana")[0]:
        text = "Grafana does not run, so that only the files were compared"
        yield Check("dashboards", "in Grafana", "skipped", text, "Run `make up` where its image can be had.")
        return
    try:
        password = secret_files.read(look.project, secret_files.GRAFANA_PASSWORD).decode()
    except LgtmError as error:
        yield Check("dashboards", "in Grafana", "skipped", error.message, error.hint or "")
        return
    wanted = {json.loads(content)["uid"]: json.loads(content) for content in look.wanted["grafana"].values()}

    def ask(uid: str) -> dict[str, Any] | None:
        with contextlib.closing(servers.Grafana(look.project.url("grafana"), password, timeout=_TIMEOUT)) as client:
            try:
                found: dict[str, Any] = client.json(f"/api/dashboards/uid/{uid}")
                return found
            except servers.AnswerError as error:
                if error.status == 404:
                    return None
                raise

    try:
        found = look.every({uid: functools.partial(ask, uid) for uid in wanted})
    except servers.AnswerError as error:
        cure = (
            "Its password was changed in the browser: put that into secrets/grafana_admin_password."
            if error.status == 401
            else ""
        )
        yield Check("dashboards", "in Grafana", "fail", error.message, cure or error.hint or "")
        return
    for uid, dashboard in wanted.items():
        yield in_grafana(dashboard, found[uid])


def in_grafana(wanted: Mapping[str, Any], answer: Mapping[str, Any] | None) -> Check:
    """A rendered dashboard against Grafana's answer for its uid; None when Grafana has none."""
    name = str(wanted["uid"])
    if answer is None:
        return Check("dashboards", name, "fail", "Grafana does not have it", _APPLY)
    difference = dashboard_differs(wanted, answer["dashboard"])
    meta = answer.get("meta", {})
    version = f"version {answer['dashboard'].get('version', '?')}"
    if difference is not None:
        by = f" by {meta['updatedBy']}" if meta.get("updatedBy") else ""
        return Check("dashboards", name, "fail", f"Grafana has another {difference} ({version}{by})", _APPLY)
    if meta.get("provisioned") is False:
        text = "it was saved in the browser, and no longer follows slos.yaml"
        return Check("dashboards", name, "warn", text, "Delete it in Grafana: the rendered one comes back.")
    return Check("dashboards", name, "ok", f"as rendered, {version}")


# What Grafana gives a dashboard when it stores it, or moves to its newest schema.
_GRAFANAS_OWN = frozenset({"id", "version", "schemaVersion", "iteration", "pluginVersion", "gnetId"})


def dashboard_differs(wanted: Any, present: Any, place: str = "") -> str | None:
    """Where a dashboard that Grafana shows is not the rendered one; None when each written value is there.

    Grafana completes and migrates dashboards, so what it adds is no difference; a list that is longer is.
    """
    if isinstance(wanted, Mapping):
        if not isinstance(present, Mapping):
            return place or "content"
        for key, value in wanted.items():
            if key in _GRAFANAS_OWN or (value in (None, "", [], {}, False) and key not in present):
                continue
            found = dashboard_differs(value, present.get(key), f"{place}.{key}" if place else str(key))
            if found is not None:
                return found
        return None
    if isinstance(wanted, list):
        if not isinstance(present, list) or len(wanted) != len(present):
            return place
        pairs = enumerate(zip(wanted, present, strict=True))
        return next((f for i, (w, p) in pairs if (f := dashboard_differs(w, p, f"{place}[{i}]")) is not None), None)
    return None if wanted == present else place


# --- Cardinality, retention, disk, clock -------------------------------------------------------------------------------------


def _cardinality(look: _Look) -> Iterator[Check]:
    """How many series there are, what most of them are, and what the file itself costs."""
    data = look.prometheus.json("/api/v1/status/tsdb", limit="5")["data"]
    memory = look.query('process_resident_memory_bytes{job="prometheus"}')
    allowed = int(look.runtime().get("GOMEMLIMIT") or 0)
    series = int(data["headStats"]["numSeries"])
    biggest = ", ".join(f"{m['name']} {m['value']:,}" for m in data["seriesCountByMetricName"][:3])
    text = f"{series:,} series in memory; most: {biggest}"
    used = memory[0][1] if memory else 0.0
    if allowed and used:
        text += f"; {used / 2**20:,.0f} MiB of {allowed / 2**20:,.0f} MiB used"
    full = bool(allowed) and used > 0.8 * allowed
    cure = "Drop what nobody reads, or raise mem_limit and GOMEMLIMIT in compose.override.yaml."
    yield Check("cardinality", "series", "warn" if full else "ok", text, cure if full else "")
    for label in data["labelValueCountByLabelName"]:
        if label["name"] != "__name__" and label["value"] > _MANY_VALUES:
            text = f"it has {label['value']:,} values: an id of a user or a request does not belong into a label"
            yield Check(
                "cardinality", f"label {label['name']}", "warn", text, "Take it out of the metric; logs and traces hold it."
            )
    together = cost.total(cost.of_model(look.model, 20))
    text = f"{together.rules:.0f} rules, {together.series:,.0f} series, about {together.samples:,.0f} samples read every 30 s"
    yield Check("cardinality", "slos.yaml", "ok", f"{text} (computed)")


def _retention(look: _Look) -> Iterator[Check]:
    """Data is kept for as long as the longest window needs it, and as .env says."""
    yield from _all(look, "retention", [_retention_prometheus, _retention_others])


def longest_window(model: Model) -> tuple[Duration, str]:
    """The longest time that any rule looks back, and what does."""
    found = [(slo.window, f"{slo.service}/{slo.name}") for slo in model.slos]
    for slo in model.slos:
        if slo.sla is not None:
            found.append((DAY * (92 if slo.sla.period == "quarter" else 31), f"the SLA of {slo.service}/{slo.name}"))
    return max(found, key=lambda pair: pair[0], default=(Duration(Decimal(0)), "nothing"))


def parse_retention(text: str) -> tuple[Duration | None, int | None]:
    """Time and bytes of what Prometheus says that it keeps: ``100d or 20GiB``. None where it names no such limit."""
    length, size = None, None
    for part in text.split(" or "):
        try:
            length = Duration.of(part.strip())
        except ValueError:
            size = stack.parse_size(part.strip().replace("iB", "B")) or size
    return length, size


def _retention_prometheus(look: _Look) -> Iterator[Check]:
    rows = look.queries(
        {
            "rate": 'rate(prometheus_tsdb_head_samples_appended_total{job="prometheus"}[15m])',
            "oldest": 'prometheus_tsdb_lowest_timestamp_seconds{job="prometheus"}',
        }
    )
    kept, size = parse_retention(str(look.runtime().get("storageRetention", "")))
    setting = look.project.settings["PROMETHEUS_RETENTION"]
    limit = look.project.settings["PROMETHEUS_RETENTION_SIZE"]
    window, whose = longest_window(look.model)
    asked = f"the longest window is {window} ({whose})"
    if kept is not None and kept < window:
        text = f"Prometheus keeps {kept}, and {asked}"
        yield Check("retention", "Prometheus", "fail", text, "Raise PROMETHEUS_RETENTION in .env and run `make up`.")
    elif kept is not None and str(kept) != str(_length_of(setting)):
        text = f"Prometheus keeps {kept}, and .env says {setting}"
        yield Check("retention", "Prometheus", "warn", text, "Run `make up`.")
    elif size is not None and size != (stack.parse_size(limit) or 0):
        text = f"Prometheus keeps {size / 2**30:.3g} GiB, and .env says {limit}"
        yield Check("retention", "Prometheus", "warn", text, "Run `make up`.")
    else:
        yield Check("retention", "Prometheus", "ok", f"keeps {kept}; {asked}")
    rate = sum(value for _, value in rows["rate"])
    if size and rate:
        days = size / (rate * _BYTES_PER_SAMPLE * 86400)
        text = f"at {rate:,.0f} samples a second {size / 2**30:.3g} GiB hold about {days:,.0f} days"
        short = days < float(window.seconds) / 86400
        cure = "Raise PROMETHEUS_RETENTION_SIZE in .env, or drop series that nobody reads." if short else ""
        yield Check("retention", "size", "warn" if short else "ok", f"{text}; {asked}" if short else text, cure)
    oldest = min((value for _, value in rows["oldest"]), default=0.0)
    if oldest:
        age = time.time() - oldest
        whole = "" if age >= float(window.seconds) else f": windows of {window} are not full yet"
        yield Check("retention", "history", "ok", f"the oldest sample is {_seconds(age)} old{whole}")


def _length_of(text: str) -> Duration | None:
    try:
        return Duration.of(text)
    except ValueError:
        return None


def _retention_others(look: _Look) -> Iterator[Check]:
    """Loki and Tempo keep what .env says: they read it when they start."""
    places = {
        "loki": ("/config", "LOKI_RETENTION", ("limits_config", "retention_period")),
        "tempo": ("/status/config", "TEMPO_RETENTION", ("compactor", "compaction", "block_retention")),
    }
    for server, (path, setting, keys) in places.items():
        text = look.client(server).call("GET", path).text
        # Tempo has a line before its document, and both print times as Go does.
        value: Any = servers.load_text(text.partition("---")[2] or text)
        for key in keys:
            value = value.get(key, {}) if isinstance(value, dict) else {}
        kept, wanted = _length_of(re.sub(r"(?<=[hms])0[ms]", "", str(value))), _length_of(look.project.settings[setting])
        if kept is None or wanted is None:
            yield Check("retention", server.capitalize(), "skipped", f"how long it keeps data is not known ({value})")
        elif kept != wanted:
            said = f"it keeps {kept}, and .env says {look.project.settings[setting]}"
            yield Check("retention", server.capitalize(), "warn", said, "Run `make up`.")
        else:
            yield Check("retention", server.capitalize(), "ok", f"keeps {look.project.settings[setting]}")


def disk_free(project: Project, docker_root: str | None) -> tuple[Path, int]:
    """Where the data lies and how many bytes are free there, as far as this machine can tell. Raises OSError."""
    place = Path(docker_root or "/var/lib/docker")
    place = place if place.exists() else project.root
    return place, shutil.disk_usage(place).free


def _disk(look: _Look) -> Iterator[Check]:
    """When the disk will be full, by how it filled in the last hours."""
    root = None
    with contextlib.suppress(LgtmError):
        root = look.containers()[""].get("DockerRootDir")
    place, free = disk_free(look.project, root)
    # A pace of some minutes would be that of one compaction.
    rows = look.queries({"slope": f"deriv({DISK_FREE}[6h])", "before": f"last_over_time({DISK_FREE}[5h] offset 1h)"})
    slope = min((value for _, value in rows["slope"]), default=None) if rows["before"] else None
    yield disk_left(str(place), free, slope)


def disk_left(place: str, free: float, slope: float | None) -> Check:
    """``free`` bytes and their change in bytes a second; None when not enough is known of it."""
    text = f"{free / 1e9:,.0f} GB free under {place}"
    cure = "Free space, or lower the retention in .env and run `make up`."
    days = free / -slope / 86400 if slope is not None and slope < 0 else math.inf
    if slope is None:
        text += "; how fast it fills is known when `lgtm verify --push` has run for an hour"
    elif days < 3650:
        text += f"; full in {_seconds(days * 86400)} at the pace of the last hours"
    else:
        text += "; not filling"
    if free < 2e9 or days < 1:
        return Check("disk", "free space", "fail", text, cure)
    if free < 10e9 or days < 14:
        return Check("disk", "free space", "warn", text, cure)
    return Check("disk", "free space", "ok", text)


def _clock_kind(look: _Look) -> Iterator[Check]:
    """This machine and the servers agree on the time."""
    yield skewed("Prometheus", look.runtime()["skew"])
    paths = {"loki": "/ready", "tempo": "/ready", "alertmanager": "/-/ready"}
    for server, path in paths.items():
        try:
            before = time.time()
            said = look.client(server).call("GET", path).headers.get("Date")
        except LgtmError:
            continue  # `servers` tells
        if said:
            # A header has whole seconds, cut off.
            yield skewed(server.capitalize(), email.utils.parsedate_to_datetime(said).timestamp() + 0.5 - before)


def skewed(server: str, seconds: float) -> Check:
    """Whether a server's clock, ahead by ``seconds``, is near enough."""
    off = abs(seconds)
    text = f"its clock is {_seconds(off)} {'ahead of' if seconds > 0 else 'behind'} this machine's"
    cure = (
        "Set the time (`timedatectl set-ntp true`), or restart Docker Desktop: samples and spans would be refused or misplaced."
    )
    if off < _SKEW_WARN:
        return Check("clock", server, "ok", "agrees with this machine's")
    return Check("clock", server, "fail" if off >= _SKEW_FAIL else "warn", text, cure)


# --- All of it ---------------------------------------------------------------------------------------------------------------

_Kind = Callable[[_Look], Iterable[Check]]
# In the order in which they are printed: what explains the rest first.
KINDS: Mapping[str, _Kind] = {
    "servers": _servers,
    "files": _files,
    "config": _config,
    "rules": _rules,
    "evaluation": _evaluation,
    "targets": _targets,
    "probes": _probes,
    "slis": _slis,
    "processes": _processes,
    "receivers": _receivers,
    "watchdog": _watchdog,
    "dashboards": _dashboards,
    "cardinality": _cardinality,
    "retention": _retention,
    "disk": _disk,
    "clock": _clock_kind,
}
QUICK = ("files", "config", "rules")
# Kinds of which `apply` mends the failures.
REPAIRABLE = ("files", "config", "rules", "dashboards")


def verify(
    project: Project,
    model: Model,
    artifacts: Iterable[Artifact],
    *,
    quick: bool = False,
    only: Sequence[str] = (),
    report: Report = lambda line: None,
) -> list[Check]:
    """Everything that was looked at, by kind; never raises for a server that is down or answers oddly.

    ``quick`` looks only whether files, configuration and rules are those of the spec and healthy: after `apply`.
    ``only`` names kinds (``KINDS``).
    """
    kinds = [kind for kind in KINDS if (kind in only if only else not quick or kind in QUICK)]
    report(f"looking at {', '.join(kinds)}")
    look = _Look(project, model, artifacts, quick=quick)
    try:
        with concurrent.futures.ThreadPoolExecutor(len(kinds), thread_name_prefix="verify") as pool:
            futures = [pool.submit(_listed, look, kind) for kind in kinds]
            found = [check for future in futures for check in future.result()]
    finally:
        look.close()
    if "servers" not in kinds:
        # Whoever asks for a few kinds only is told all the same that the others' silence has a reason.
        silent = {check.name: check for check in found if check.level == "skipped" and check.text.startswith(_SILENT)}
        found = [Check("servers", n, "fail", c.text, c.cure) for n, c in silent.items() if n not in stack.OPTIONAL] + found
    return found


_SILENT = "it does not answer"


def _listed(look: _Look, kind: str) -> list[Check]:
    return list(_all(look, kind, [KINDS[kind]]))


def _all(look: _Look, kind: str, parts: Iterable[_Kind]) -> Iterator[Check]:
    """The checks of each part, up to where a server does not answer as it should."""
    for part in parts:
        try:
            yield from part(look)
        except servers.UnreachableError as error:
            yield _unreachable(kind, error)
        except servers.AnswerError as error:
            yield Check(kind, error.server, "fail", error.message, error.hint or "")
        except LgtmError as error:
            yield Check(kind, kind, "skipped", error.message, error.hint or "")
        except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
            text = f"an answer of another shape than expected: {type(error).__name__}: {error}"
            yield Check(
                kind, kind, "fail", text, "Does this version of lgtm belong to these servers? `lgtm status` shows theirs."
            )


def _unreachable(kind: str, error: servers.UnreachableError) -> Check:
    return Check(kind, error.server, "skipped", f"{_SILENT}: {error.why}", error.hint or "")


def failed(checks: Iterable[Check]) -> bool:
    """Whether any check failed."""
    return any(check.level == "fail" for check in checks)


def counts(checks: Iterable[Check]) -> dict[tuple[str, Level], int]:
    """How many checks of each kind have each level; also those that are none."""
    found: dict[tuple[str, Level], int] = {(kind, level): 0 for kind in KINDS for level in LEVELS}
    for check in checks:
        found[check.kind, check.level] = found.get((check.kind, check.level), 0) + 1
    return found


def push(project: Project, checks: Sequence[Check], *, endpoint: str | None = None, at: float | None = None) -> None:
    """Send the outcome to the collector: two series for alerts, the free disk, and a log line for each failure.

    Raises LgtmError when the collector takes nothing.
    """
    now = time.time() if at is None else at
    base = otlp.address(project, endpoint)
    points: dict[tuple[tuple[str, str], ...], float] = {
        (("kind", kind), ("level", level)): float(count) for (kind, level), count in counts(checks).items()
    }
    metrics = [
        otlp.gauge("lgtm.verify.checks", "", points, now),
        otlp.gauge("lgtm.verify.timestamp", "s", {(): now}, now),
    ]
    with contextlib.suppress(OSError, LgtmError), contextlib.closing(stack.engine(timeout=5)) as client:
        free = disk_free(project, client.api.info().get("DockerRootDir"))[1]
        metrics.append(otlp.gauge("lgtm.verify.disk.free", "By", {(): float(free)}, now))
    resource = {"attributes": otlp.attributes({"service.name": "lgtm"})}
    consequence = "The result was not sent"
    otlp.post(
        f"{base}/v1/metrics",
        {"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"scope": {"name": "lgtm.verify"}, "metrics": metrics}]}]},
        consequence,
    )
    records = [
        {
            "timeUnixNano": str(int(now * 1e9)),
            "severityNumber": 17,
            "severityText": "ERROR",
            "body": {"stringValue": f"{check.kind}: {check.name}: {check.text}"},
            "attributes": otlp.attributes(
                {"event": "verify.failed", "kind": check.kind, "name": check.name, "cure": check.cure}
            ),
        }
        for check in checks
        if check.level == "fail"
    ]
    if records:
        logs = {"resource": resource, "scopeLogs": [{"scope": {"name": "lgtm.verify"}, "logRecords": records}]}
        otlp.post(f"{base}/v1/logs", {"resourceLogs": [logs]}, consequence)


# --- Words -------------------------------------------------------------------------------------------------------------------


def _prometheus_seconds(text: str) -> float:
    length = _length_of(text)
    return float(length.seconds) if length is not None else 0.0


def _every(interval: object) -> str:
    return f"it runs every {_seconds(float(str(interval)))}"


def _count(things: Sized, word: str) -> str:
    return f"{len(things)} {word}{'' if len(things) == 1 else 's'}"


def _clock(at: float) -> str:
    moment = datetime.fromtimestamp(at, UTC).astimezone()
    return f"{moment:%H:%M:%S}" if time.time() - at < 72_000 else f"{moment:%Y-%m-%d %H:%M}"


def _seconds(seconds: float) -> str:
    """A length of time for people."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 or seconds == 0 else f"{seconds * 1000:.1f} ms"
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.3g} s"
