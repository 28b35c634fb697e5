"""What runs against what the file renders: files on disk, configuration in force, dashboards."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, cast

from generator import rendered, servers, stack, targets, words
from generator import secrets as secret_files
from generator.errors import LgtmError
from generator.rendered import GENERATED, TREES, Files
from generator.verify.check import APPLY, Check
from generator.verify.look import TIMEOUT, Look, in_parts, unreachable

_JOBS_BEGIN = 15.0  # seconds after its start; the scrape manager takes new jobs every 5


def files(look: Look) -> Iterator[Check]:
    """The rendered files on disk are those of the spec. Grafana's are among the dashboards."""
    for server in TREES:
        if server != "grafana":
            yield from _on_disk(look, server, "files")


def _on_disk(look: Look, server: str, kind: str) -> Iterator[Check]:
    differences = rendered.compare({server: look.wanted[server]}, {server: look.disk[server]})
    for difference in differences:
        inner = difference.path.removeprefix(f"{server}/{GENERATED}/")
        said = {
            "missing": "the spec renders it and it is not on disk",
            "stale": "it is on disk and nothing in the spec renders it",
            "changed": f"it is not what the spec renders: {first_change(difference.diff)}",
        }[difference.kind]
        yield Check(kind, difference.path, "fail", f"{said}; {look.who_changed(server, inner)}", APPLY)
    if not differences:
        yield Check(kind, f"{server}/{GENERATED}", "ok", f"{words.plural(look.wanted[server], 'file')} as rendered")


def first_change(diff: str) -> str:
    lines = [line for line in diff.splitlines() if line[:1] in "-+" and line[:3] not in ("---", "+++")]
    shown = {line[0]: line[1:].strip() for line in reversed(lines)}
    if "-" in shown and "+" in shown:
        # Of long lines that begin alike, where they part.
        alike = sum(1 for _ in itertools.takewhile(lambda two: two[0] == two[1], zip(shown["-"], shown["+"], strict=False)))
        start = alike - 20 if alike > 40 else 0
        cut = {sign: ("…" if start else "") + text[start : start + 60] for sign, text in shown.items()}
        return f"{cut['-']!r} where {cut['+']!r} belongs"
    return f"{shown['-'][:80]!r} is too much" if "-" in shown else f"{shown.get('+', '')[:80]!r} is missing"


def config(look: Look) -> Iterator[Check]:
    """What the servers have in force, beside the rules: routes, probes' modules, scrape jobs, hand-written configuration."""
    parts: list[Callable[[Look], Iterable[Check]]] = [_config_alertmanager, _config_blackbox, _config_scrapes, _config_loads]
    if not look.quick:
        parts.append(_config_at_start)
    yield from in_parts(look, "config", parts)


def _config_alertmanager(look: Look) -> Iterator[Check]:
    file = "alertmanager.yml"
    present = servers.value(look.page("alertmanager"), "alertmanager_config_hash")
    if present == servers.Alertmanager.config_hash(look.wanted["alertmanager"][file]):
        yield Check("config", "alertmanager", "ok", "the rendered routes and receivers are in force")
        return
    why = look.odd_one("alertmanager", file, lambda disk: present == servers.Alertmanager.config_hash(disk))
    yield Check("config", "alertmanager", "fail", f"other routes or receivers are in force than rendered: {why}", APPLY)


def _config_blackbox(look: Look) -> Iterator[Check]:
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
        odd = look.odd_one("blackbox", file, lambda disk: targets.not_within(modules(disk), present) is None)
        yield Check("config", f"blackbox module {module}", "fail", f"{difference}: {odd}", APPLY)


def _config_scrapes(look: Look) -> Iterator[Check]:
    wanted = {job["job_name"]: (name, job) for name, job in _jobs_by_file(look.wanted["prometheus"])}
    present = set(look.prometheus.scrape_pools())
    up = time.time() + look.runtime()["skew"] - words.moment(look.runtime()["startTime"])
    if wanted.keys() - present and up < _JOBS_BEGIN:
        text = f"Prometheus has run for {words.lasting(up)}: it begins its scrape jobs some seconds after its start"
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

        yield Check("config", name, "fail", f"{difference}: {look.odd_one('prometheus', file, loaded)}", APPLY)
    with contextlib.suppress(OSError):
        text = servers.load_text((look.project.root / "prometheus" / "prometheus.yml").read_bytes())
        known = {job["job_name"] for job in text.get("scrape_configs") or ()}
        if all(str(pattern).startswith(f"{GENERATED}/") for pattern in text.get("scrape_config_files") or ()):
            for job in sorted(present - known - wanted.keys()):
                yield Check("config", f"scrape job {job}", "fail", "it is in force, and no file has it", APPLY)


def _scrape_pool(look: Look, job: str) -> dict[str, Any]:
    return look.prometheus.scrape_pool(job)


def _jobs_by_file(files: Files) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, content in files.items():
        if name.startswith("scrape/"):
            yield from ((name, job) for job in servers.load_text(content)["scrape_configs"])


def _config_loads(look: Look) -> Iterator[Check]:
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
            yield unreachable("config", found)
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
            yield Check("config", shown, "fail", f"it was changed after {name} last read its files ({_clock(stamp)})", APPLY)
        if not newer:
            yield Check(
                "config", f"{name} reload", "ok", f"its last reload ({_clock(stamp)}) went well" if stamp else "went well"
            )


def _config_at_start(look: Look) -> Iterator[Check]:
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


def dashboards(look: Look) -> Iterator[Check]:
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
        with contextlib.closing(servers.Grafana(look.project.url("grafana"), password, timeout=TIMEOUT)) as client:
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
        return Check("dashboards", name, "fail", "Grafana does not have it", APPLY)
    difference = dashboard_differs(wanted, answer["dashboard"])
    meta = answer.get("meta", {})
    version = f"version {answer['dashboard'].get('version', '?')}"
    if difference is not None:
        by = f" by {meta['updatedBy']}" if meta.get("updatedBy") else ""
        return Check("dashboards", name, "fail", f"Grafana has another {difference} ({version}{by})", APPLY)
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


def _clock(at: float) -> str:
    moment = datetime.fromtimestamp(at, UTC).astimezone()
    return f"{moment:%H:%M:%S}" if time.time() - at < 72_000 else f"{moment:%Y-%m-%d %H:%M}"
