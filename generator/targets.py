"""The servers as `apply` sees them: how each checks a new version, loads it, and shows that it is in force."""

from __future__ import annotations

import contextlib
import functools
import json
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import yaml

from generator import promql, rendered, servers
from generator import secrets as secret_files
from generator.project import Project
from generator.rendered import CHECK_CONFIG, GENERATED, STAGE, Files

if TYPE_CHECKING:
    pass

# Runs a command in the server's container: exit code, standard output, standard error.
Run = Callable[[Sequence[str]], tuple[int, str, str]]

# Where each server's directory is mounted: compose.yaml says the same.
MOUNTS: Mapping[str, str] = {
    "prometheus": "/etc/prometheus",
    "alertmanager": "/etc/alertmanager",
    "blackbox": "/etc/blackbox_exporter",
    "loki": "/etc/loki",
    "grafana": "/etc/lgtm-grafana",
}

# The stack works without it; dashboards that cannot be confirmed are no reason to take alerts back.
OPTIONAL = frozenset({"grafana"})

# Without these there is nothing to apply to.
NEEDED = ("prometheus", "alertmanager", "blackbox")

POLL = 0.03  # seconds between two questions


@dataclass(frozen=True)
class Fault:
    """One thing that a tool or a server found wrong. ``file`` is relative to the project, None when it named none."""

    by: str
    message: str
    file: str | None = None

    def __str__(self) -> str:
        if self.file is None or self.file in self.message:
            return f"{self.by}: {self.message}"
        return f"{self.by}: {self.file}: {self.message}"


class RejectedError(Exception):
    """A server said no, in its own words."""


class StoppedError(Exception):
    """The wait for a server was given up for another reason than this server."""


class Target:
    """One server: how to check new files for it, have it load them, and see whether they are in force."""

    name: ClassVar[str]
    # Hand-written files that it reads too, below its directory: a change of theirs needs a reload as well.
    base: ClassVar[tuple[str, ...]] = ()
    # Prefix of the metrics that tell about its last reload.
    metric: ClassVar[str] = ""
    seconds: ClassVar[float] = 10  # for the new configuration to be in force after the reload

    def __init__(self, project: Project) -> None:
        self.project = project
        self.url = project.url(self.name)

    def client(self) -> servers.Client:
        """A client of its own for each call: calls come from several threads."""
        raise NotImplementedError

    def state(self) -> tuple[bool, float]:
        """Whether its last reload went well, and when (Unix seconds, by its own clock) the last good one was."""
        with contextlib.closing(self.client()) as client:
            samples = client.metrics(self.metric)
        good = servers.value(samples, f"{self.metric}_successful") == 1
        return good, servers.value(samples, f"{self.metric}_success_timestamp_seconds", 0)

    def pending(self, files: Files) -> str | None:
        """What of these files is not in force; None when all is."""
        raise NotImplementedError

    def reload(self) -> None:
        """Have it read its files. Raises RejectedError, UnreachableError."""
        with contextlib.closing(self.client()) as client:
            try:
                client.reload()
            except servers.AnswerError as error:
                raise RejectedError(error.reason) from None

    def confirm(self, files: Files, since: float | None, old: Files, stopped: Callable[[], bool]) -> str:
        """Wait until these files are in force and return what showed it. ``since``: the stamp before the reload.

        Raises RejectedError with the last thing that was not as it should be.
        """
        deadline = time.monotonic() + self.seconds
        why: str | None = "it was not asked"
        while True:
            try:
                good, stamp = self.state()
                if not good:
                    why = "its last reload failed"
                elif since is not None and stamp <= since:
                    why = "it has not loaded its files yet"
                else:
                    why = self.pending(files)
                    if why is None:
                        return self.evidence(files)
            except servers.UnreachableError as error:
                why = error.why
            except servers.AnswerError as error:
                why = error.reason
            if stopped():
                raise StoppedError
            if time.monotonic() > deadline:
                raise RejectedError(f"not in force after {self.seconds:g} s: {why}")
            time.sleep(POLL)

    def evidence(self, files: Files) -> str:
        """What `confirm` has seen, for people."""
        return f"{len(files)} files in force"

    def check(self, run: Run, stage: Files) -> list[Fault]:
        """Faults that its own tool finds in the staged files."""
        return []

    def changed_at(self) -> float:
        """When (Unix seconds, this machine's clock) a file that it reads was last changed or moved into place."""
        parent = self.project.root / self.name
        latest = 0.0
        for top in (GENERATED, *self.base):
            path = parent / top
            for one in (path, *path.rglob("*")) if path.is_dir() else (path,):
                with contextlib.suppress(OSError):
                    found = one.stat()
                    # A directory's ctime moves when it is exchanged or an entry of it replaced. A file's would also move when
                    # its second name in the replaced directory is removed.
                    latest = max(latest, found.st_ctime if stat.S_ISDIR(found.st_mode) else found.st_mtime)
        return latest

    def own_words(self, text: str, tool: str) -> list[Fault]:
        """A tool's lines as faults, with paths of the container and of the staged copy made the project's."""
        faults: dict[Fault, None] = {}
        mount = re.escape(MOUNTS[self.name])
        for line in text.splitlines():
            line = re.sub(rf"{mount}/{re.escape(STAGE)}(?=[/:'\" ]|$)", f"{self.name}/{GENERATED}", line)
            line = line.replace(f"{MOUNTS[self.name]}/{CHECK_CONFIG}", f"{self.name}/prometheus.yml")
            line = re.sub(rf"{mount}/", f"{self.name}/", line)
            line = re.sub(r"^\s*(?:.*\bFAILED:)\s*", "", line).strip()
            if not line:
                continue
            file = re.search(rf"\b{self.name}/[\w./+-]*\w", line)
            faults[Fault(tool, line, file.group() if file else None)] = None
        return list(faults)


class Prometheus(Target):
    name = "prometheus"
    base = ("prometheus.yml", "rules")
    metric = "prometheus_config_last_reload"
    # New targets pass through two stages that each look every five seconds.
    seconds = 25

    def client(self) -> servers.Prometheus:
        return servers.Prometheus(self.url)

    def pending(self, files: Files) -> str | None:
        with contextlib.closing(self.client()) as client:
            return self._pending_rules(client, files) or self._pending_scrapes(client, files)

    def _pending_rules(self, client: servers.Prometheus, files: Files) -> str | None:
        place = f"{MOUNTS[self.name]}/{GENERATED}/"
        present = {
            (group["file"].removeprefix(place), group["name"]): group
            for group in client.rule_groups()
            if group["file"].startswith(place)
        }
        wanted: dict[tuple[str, str], Mapping[str, Any]] = {}
        for name, content in files.items():
            if name.startswith("rules/"):
                for group in _load(content).get("groups") or ():
                    wanted[name, group["name"]] = group
        for key in sorted(wanted.keys() ^ present.keys()):
            return f"the group {key[1]} of {key[0]} is {'missing' if key in wanted else 'still there'}"
        for key, group in wanted.items():
            why = group_differs(group, present[key], client)
            if why is not None:
                return f"the group {key[1]} of {key[0]} has {why}"
        return None

    def _pending_scrapes(self, client: servers.Prometheus, files: Files) -> str | None:
        wanted = {job["job_name"]: job for job in jobs(files)}
        present = set(client.scrape_pools())
        for job in wanted.keys() - present:
            return f"the scrape job {job} is missing"
        with contextlib.suppress(OSError, yaml.YAMLError, AttributeError, TypeError, KeyError):
            config = _load((self.project.root / self.name / "prometheus.yml").read_bytes())
            known = {job["job_name"] for job in config.get("scrape_configs") or ()}
            patterns = config.get("scrape_config_files") or []
            if all(pattern.startswith(f"{GENERATED}/") for pattern in patterns):
                for job in present - known - wanted.keys():
                    return f"the scrape job {job} is still there"
        for job, config in wanted.items():
            difference = not_within(config, client.scrape_pool(job))
            if difference is not None:
                return f"the scrape job {job} has another {difference}"
        return None

    def evidence(self, files: Files) -> str:
        groups = [g for n, c in files.items() if n.startswith("rules/") for g in _load(c).get("groups") or ()]
        rules = sum(len(group.get("rules") or ()) for group in groups)
        return f"{rules} rules in {len(groups)} groups and {len(jobs(files))} scrape jobs in force"

    def reload(self) -> None:
        try:
            super().reload()
        except RejectedError as error:
            # Its answer says only that something failed; what did stands in its log, which `apply` adds.
            raise RejectedError(str(error).partition(" (--config.file")[0]) from None

    def check(self, run: Run, stage: Files) -> list[Fault]:
        parent = self.project.root / self.name
        try:
            text = (parent / "prometheus.yml").read_text(encoding="utf-8")
            # As text, so that the tool's line numbers are the file's.
            staged = re.sub(rf"(?<![\w./-])((?:{MOUNTS[self.name]}|\.)/)?{GENERATED}/", rf"\g<1>{STAGE}/", text)
            (parent / CHECK_CONFIG).write_text(staged, encoding="utf-8")
            (parent / CHECK_CONFIG).chmod(0o644)
        except OSError as error:
            raise rendered.write_error(error, parent / CHECK_CONFIG) from error
        if STAGE not in staged:
            return [
                Fault("lgtm", f"it reads nothing from {GENERATED}/, so no rule would ever load", "prometheus/prometheus.yml")
            ]
        mount = MOUNTS[self.name]
        # Without lint: two alerts may share a name and differ in what they look at.
        code, _, errors = run(["/bin/promtool", "check", "config", "--lint=none", f"{mount}/{CHECK_CONFIG}"])
        if code == 0:
            return []
        rules = [f"{mount}/{STAGE}/{name}" for name in sorted(stage) if name.startswith("rules/")]
        # When the configuration itself is at fault it stops there, and says nothing of the rules.
        _, _, more = run(["/bin/promtool", "check", "rules", "--lint=none", *rules]) if rules else (0, "", "")
        faults = dict.fromkeys((*self.own_words(errors, "promtool"), *self.own_words(more, "promtool")))
        return list(faults) or [Fault("promtool", f"ended with exit code {code} and said nothing")]


class Alertmanager(Target):
    name = "alertmanager"
    base = ("templates",)
    metric = "alertmanager_config_last_reload"
    file = "alertmanager.yml"

    def client(self) -> servers.Alertmanager:
        return servers.Alertmanager(self.url)

    def pending(self, files: Files) -> str | None:
        with contextlib.closing(self.client()) as client:
            present = servers.value(client.metrics("alertmanager_config_hash"), "alertmanager_config_hash")
        return None if present == servers.Alertmanager.config_hash(files[self.file]) else "another configuration"

    def evidence(self, files: Files) -> str:
        return f"configuration with hash {servers.Alertmanager.config_hash(files[self.file]):.0f} in force"

    def check(self, run: Run, stage: Files) -> list[Fault]:
        path = f"{MOUNTS[self.name]}/{STAGE}/{self.file}"
        code, output, errors = run(["/bin/amtool", "check-config", path])
        if code == 0:
            return []
        # It says the fault on standard output, and on standard error how many files have one.
        said = "\n".join(line for line in output.splitlines() if "FAILED" in line) or errors or output
        here = f"{self.name}/{GENERATED}/{self.file}"
        faults = self.own_words(said, "amtool") or [Fault("amtool", f"ended with exit code {code}")]
        return [Fault(fault.by, fault.message, fault.file or here) for fault in faults]


class Blackbox(Target):
    name = "blackbox"
    metric = "blackbox_exporter_config_last_reload"
    file = "blackbox.yml"

    def client(self) -> servers.Blackbox:
        return servers.Blackbox(self.url)

    def pending(self, files: Files) -> str | None:
        with contextlib.closing(self.client()) as client:
            present = client.config().get("modules") or {}
        wanted = _load(files[self.file]).get("modules") or {}
        for module in sorted(wanted.keys() ^ present.keys()):
            return f"the module {module} is {'missing' if module in wanted else 'still there'}"
        difference = not_within(wanted, present)
        return None if difference is None else f"a module has another {difference}"

    def evidence(self, files: Files) -> str:
        return f"{len(_load(files[self.file]).get('modules') or {})} probe modules in force"

    def check(self, run: Run, stage: Files) -> list[Fault]:
        path = f"{MOUNTS[self.name]}/{STAGE}/{self.file}"
        code, output, errors = run(["/bin/blackbox_exporter", f"--config.file={path}", "--config.check"])
        if code == 0:
            return []
        said = [match[1] for match in re.finditer(r'level=ERROR.*?\berr="((?:[^"\\]|\\.)*)"', errors + output)]
        here = f"{self.name}/{GENERATED}/{self.file}"
        faults = self.own_words("\n".join(said) or errors or output, "blackbox_exporter")
        return [Fault(f.by, f.message, f.file or here) for f in faults] or [
            Fault("blackbox_exporter", f"ended with exit code {code}", here)
        ]


class Loki(Target):
    """Its ruler looks for itself, every few seconds, and has no API here; its metrics tell what it runs."""

    name = "loki"
    seconds = 20

    def client(self) -> servers.Loki:
        return servers.Loki(self.url)

    def state(self) -> tuple[bool, float]:
        with contextlib.closing(self.client()) as client:
            samples = client.metrics("loki_ruler_config_last_reload_successful")
        good = servers.value(samples, "loki_ruler_config_last_reload_successful", 1) == 1
        return good, servers.value(samples, "loki_ruler_config_last_reload_successful_seconds", 0)

    def pending(self, files: Files) -> str | None:
        wanted = {key: len(group.get("rules") or ()) for key, group in loki_groups(files).items()}
        with contextlib.closing(self.client()) as client:
            present = client.rule_groups()
        for key in sorted(wanted.keys() | present.keys()):
            if wanted.get(key) != present.get(key):
                return f"the group {key[1]} of {key[0]} has {present.get(key, 0)} rules, not {wanted.get(key, 0)}"
        return None

    def reload(self) -> None:
        """Nothing to do: it polls."""

    def confirm(self, files: Files, since: float | None, old: Files, stopped: Callable[[], bool]) -> str:
        # It reloads only when the rules mean something else, and has no time of a reload while it has no rules.
        same = loki_groups(files) == loki_groups(old) or not loki_groups(files)
        return super().confirm(files, None if same else since, old, stopped)

    def evidence(self, files: Files) -> str:
        groups = loki_groups(files)
        return f"{sum(len(g.get('rules') or ()) for g in groups.values())} log rules in {len(groups)} groups in force"

    def check(self, run: Run, stage: Files) -> list[Fault]:
        # There is no tool in its image that checks rules; the server parses queries for us.
        faults = []
        with contextlib.closing(self.client()) as client:
            for (file, name), group in loki_groups(stage).items():
                for rule in group.get("rules") or ():
                    try:
                        client.format_query(rule.get("expr", ""))
                    except servers.AnswerError as error:
                        what = rule.get("record") or rule.get("alert")
                        path = f"{self.name}/{GENERATED}/rules/fake/{file}"
                        faults.append(Fault("loki", f'group "{name}", rule "{what}": {error.reason}', path))
        return faults


class Grafana(Target):
    name = "grafana"
    seconds = 15

    def client(self) -> servers.Grafana:
        password = secret_files.read(self.project, secret_files.GRAFANA_PASSWORD).decode()
        return servers.Grafana(self.url, password)

    def state(self) -> tuple[bool, float]:
        with contextlib.closing(self.client()) as client:
            client.json("/api/health")
        return True, 0

    def reload(self) -> None:
        with contextlib.closing(self.client()) as client:
            try:
                client.provision()
            except servers.AnswerError as error:
                raise RejectedError(error.reason) from None

    def pending(self, files: Files) -> str | None:
        with contextlib.closing(self.client()) as client:
            for name, content in files.items():
                wanted = json.loads(content)
                try:
                    present = client.dashboard(wanted["uid"])
                except servers.AnswerError as error:
                    if error.status != 404:
                        raise
                    return f"the dashboard of {name} is missing"
                if not _same_dashboard(wanted, present):
                    return f"the dashboard of {name} is another version"
        return None

    def confirm(self, files: Files, since: float | None, old: Files, stopped: Callable[[], bool]) -> str:
        return super().confirm(files, None, old, stopped)

    def evidence(self, files: Files) -> str:
        return f"{len(files)} dashboards in force"


TARGETS: Mapping[str, type[Target]] = {target.name: target for target in (Prometheus, Alertmanager, Blackbox, Loki, Grafana)}


# --- comparing what was written with what a server shows ---------------------------------------------------------------------


def _load(content: bytes) -> dict[str, Any]:
    """A rendered YAML file, every scalar as text. Raises yaml.YAMLError."""
    data = servers.load_text(content)
    return data if isinstance(data, dict) else {}


def jobs(files: Files) -> list[dict[str, Any]]:
    return [job for name, content in files.items() if name.startswith("scrape/") for job in _load(content)["scrape_configs"]]


def loki_groups(files: Files) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (name.rpartition("/")[2], group["name"]): group
        for name, content in files.items()
        if name.startswith("rules/")
        for group in _load(content).get("groups") or ()
    }


def group_differs(wanted: Mapping[str, Any], present: Mapping[str, Any], client: servers.Prometheus) -> str | None:
    """The first thing in which a group in force is not the written one."""
    if "interval" in wanted and _seconds(wanted["interval"]) != present["interval"]:
        return f"the interval {present['interval']} s"
    rules, running = wanted.get("rules") or [], present["rules"]
    if len(rules) != len(running):
        return f"{len(running)} rules, not {len(rules)}"
    common = wanted.get("labels") or {}
    for rule, other in zip(rules, running, strict=True):
        alert = "alert" in rule
        name = rule.get("alert") or rule.get("record")
        if (name, "alerting" if alert else "recording") != (other["name"], other["type"]):
            return f"{other['name']} in the place of {name}"
        if {**common, **(rule.get("labels") or {})} != other.get("labels", {}):
            return f"other labels on {name}"
        if alert and (
            _seconds(rule.get("for", "0s")) != other["duration"]
            or _seconds(rule.get("keep_firing_for", "0s")) != other["keepFiringFor"]
            or (rule.get("annotations") or {}) != other.get("annotations", {})
        ):
            return f"other times or annotations on {name}"
        if not _same_query(rule["expr"], other["query"], client):
            return f"another query for {name}"
    return None


def _same_query(written: str, shown: str, client: servers.Prometheus) -> bool:
    """Whether a query that Prometheus prints is the one that was written."""
    if written == shown or normal_query(written) == normal_query(shown):
        return True
    # Rare: something that our parser does not know, or prints in another way. The server's printer is the judge.
    try:
        return client.format_query(written) == client.format_query(shown)
    except servers.AnswerError:
        return False


@functools.lru_cache(maxsize=65536)
def normal_query(query: str) -> str:
    """One spelling for queries that differ in blanks, order of matchers, or how numbers and times are written."""
    with contextlib.suppress(promql.PromqlError):
        query = promql.parse(query).prettify()
    pieces = re.split(r'("(?:[^"\\]|\\.)*")', query)
    text = "".join(piece if index % 2 else re.sub(r"\s+", "", piece) for index, piece in enumerate(pieces))

    def ordered(match: re.Match[str]) -> str:
        return "{" + ",".join(sorted(re.findall(r'[^,{}"]+"(?:[^"\\]|\\.)*"', match.group()))) + "}"

    return re.sub(r'\{(?:[^{}"]|"(?:[^"\\]|\\.)*")*\}', ordered, text)


_TIME = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdwy])")
_TIME_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31536000}


def _seconds(text: str) -> float | None:
    """Seconds of a time in Prometheus's notation; None when it is not one."""
    pieces = _TIME.findall(text)
    if "".join(number + unit for number, unit in pieces) != text:
        return 0 if text == "0" else None
    return round(sum(float(number) * _TIME_UNITS[unit] for number, unit in pieces), 3)


def not_within(wanted: Any, present: Any, name: str = "value") -> str | None:
    """The name of the first value that was written and is not in force. Defaults that the server filled in are no matter."""
    if isinstance(wanted, dict):
        if not isinstance(present, dict):
            return name if wanted else None
        for key, inner in wanted.items():
            if inner in ("", {}, [], "false") and key not in present:
                continue  # servers leave out what is empty
            found = not_within(inner, present.get(key), str(key))
            if found is not None:
                return found
        return None
    if isinstance(wanted, list):
        if not isinstance(present, list) or len(wanted) != len(present):
            return name
        return next((f for w, p in zip(wanted, present, strict=True) if (f := not_within(w, p, name))), None)
    if wanted == present or present == "<secret>":
        return None
    seconds = _seconds(wanted) if isinstance(wanted, str) else None
    if seconds is not None and isinstance(present, str) and seconds == _seconds(present):
        return None
    return name


def _same_dashboard(wanted: Mapping[str, Any], present: Mapping[str, Any]) -> bool:
    """By what cannot be changed on the way: Grafana migrates and completes a dashboard when it stores it."""

    def essence(dashboard: Mapping[str, Any]) -> Any:
        def panels(of: Mapping[str, Any]) -> Iterator[Any]:
            for panel in of.get("panels") or ():
                queries = [t.get("expr") or t.get("query") for t in panel.get("targets") or ()]
                yield panel.get("title", ""), panel.get("type"), queries
                yield from panels(panel)

        return dashboard.get("uid"), dashboard.get("title"), list(panels(dashboard))

    return bool(essence(wanted) == essence(present))
