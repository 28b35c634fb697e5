"""`lgtm verify` on the real stack: nothing fails while all is well, each drift put in by hand is named, --repair mends."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from generator import verify
from generator.project import Project
from tests.stack.copies import LGTM, Watched, lgtm, until

Found = dict[str, Any]
PROCESS = "user_authenticaton"


def look(project: Project, *words: str, files: Sequence[str] = ()) -> tuple[int, Found]:
    """The exit code, and what was printed as JSON."""
    spec = [word for file in files for word in ("-f", file)]
    command = [str(LGTM), "-C", str(project.root), *spec, "verify", "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout)


def of(found: Found, level: str, *kinds: str) -> dict[str, str]:
    """What the checks of a level say, by kind and name."""
    return {
        f"{c['kind']} {c['name']}": c["text"]
        for c in found["checks"]
        if c["level"] == level and (not kinds or c["kind"] in kinds)
    }


def reload(project: Project, server: str) -> None:
    requests.post(f"{project.url(server)}/-/reload", timeout=10).raise_for_status()


def execution(project: Project, process: str, version: str) -> None:
    """An execution of a process of the demo, as its instrumentation would send it."""

    def attributes(**values: str) -> list[dict[str, Any]]:
        return [{"key": key.replace("_", "."), "value": {"stringValue": value}} for key, value in values.items()]

    now = str(time.time_ns())
    point = {
        "timeUnixNano": now,
        "startTimeUnixNano": now,
        "asDouble": 1,
        "attributes": attributes(process_id=process, process_version=version, process_status="success"),
    }
    counter = {
        "name": "process.executions",
        "sum": {"aggregationTemporality": 2, "isMonotonic": True, "dataPoints": [point]},
    }
    resource = {"attributes": attributes(service_name="council-api")}
    body = {"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": [counter]}]}]}
    url = f"http://127.0.0.1:{project.port('OTLP_HTTP_PORT')}/v1/metrics"
    requests.post(url, json=body, timeout=10).raise_for_status()


def notify(project: Project) -> None:
    """An alert straight to Alertmanager, for the receiver that tells of everything."""
    now = datetime.now(UTC)
    alert = {
        "labels": {"alertname": "OnlyATest", "severity": "info", "service": "verify"},
        "startsAt": now.isoformat(),
        "endsAt": (now + timedelta(minutes=1)).isoformat(),
    }
    requests.post(f"{project.url('alertmanager')}/api/v2/alerts", json=[alert], timeout=10).raise_for_status()


@pytest.fixture(scope="module")
def project(watched: Watched) -> Iterator[Project]:
    """The stack with the demo; left as it was found."""
    root = watched.project.root
    spec = (root / "slos.yaml").read_text(encoding="utf-8")
    yield watched.project
    (root / "slos.yaml").write_text(spec, encoding="utf-8")
    (root / "prometheus/targets/gone.yaml").unlink(missing_ok=True)
    lgtm(watched.project, "verify", "--only", "files", "--only", "config", "--only", "rules", "--repair")


def gone(watched: Watched) -> list[str]:
    """The health of the target that nobody answers at, where Prometheus knows it."""
    active = watched.get("prometheus", "/api/v1/targets", state="active").json()["data"]["activeTargets"]
    return [target["health"] for target in active if target["labels"]["job"] == "gone"]


def change(path: Path, how: Callable[[str], str]) -> None:
    text = path.read_text(encoding="utf-8")
    assert how(text) != text
    path.write_text(how(text), encoding="utf-8")


def test_nothing_fails_while_all_is_well(project: Project, watched: Watched) -> None:
    notify(project)
    found: Found = {}

    def well() -> bool:
        code, answer = look(project)
        found.update(answer)
        # Every target and probe has been asked, and a receiver been told.
        waiting = of(answer, "skipped", "targets", "probes", "slis", "watchdog").keys()
        return code == 0 and not waiting and "receivers pager (webhook)" in of(answer, "ok")

    try:
        until("a healthy verification", 150, well)
    except pytest.fail.Exception as error:
        raise AssertionError(f"{error}: {of(found, 'fail')} {of(found, 'skipped')}") from None
    ok = of(found, "ok")
    assert {c["kind"] for c in found["checks"]} == set(verify.KINDS)
    assert "succeeded" in ok["receivers pager (webhook)"]
    assert ok["config alertmanager"] == "the rendered routes and receivers are in force"
    assert "rules as rendered, last evaluation without an error" in ok["rules council-api:slo"]
    assert ok["processes council-api/user_authentication"] == "seen with version 1.4.0"
    assert "events a second" in ok["slis council-api/latency"]
    assert "answers 200 in" in ok["probes council-api/live"]
    # One for each SLO, probe and rule group of the file, and none left out.
    assert sum(key.startswith("slis ") for key in ok) == len(
        watched.prometheus("count by (service, slo) (slo:error_budget:ratio)")
    )
    assert sum(key.startswith("probes ") for key in ok) == len(watched.prometheus("probe_success"))


ODD = """
services:
  odd:
    owner: backend
    match: {job: council-api}
    runbook: https://wiki.example.com/odd
    slos:
      misspelt: {objective: 99%, sli: {ratio: {errors: 'http_request_total{code="500"}', total: http_request_total}}}
      elsewhere: {objective: 99%, sli: {boolean: prometheus_ready}}
      summary: {objective: 95%, sli: {latency: {histogram: 'go_gc_duration_seconds{job="prometheus"}', under: 300ms}}}
      no_native: {objective: 95%, sli: {latency: {histogram: http_request_duration_seconds, under: 123ms, native: true}}}
      no_label: {objective: 99%, by: [region], sli: {boolean: 'up{job="council-api"}'}}
      never: {objective: 99%, sli: {ratio: {errors: 'http_requests_total{code="599"}', total: http_requests_total}}}
      native:
        objective: 95%
        sli: {latency: {histogram: 'prometheus_http_request_duration_seconds{job="prometheus"}', under: 123ms, native: true}}
"""


def test_what_is_wrong_with_an_indicator_is_named(project: Project, tmp_path: Path) -> None:
    (tmp_path / "odd.yaml").write_text(ODD, encoding="utf-8")
    spec = [str(project.root / "slos.yaml"), str(tmp_path / "odd.yaml")]
    found = look(project, "--only", "slis", files=spec)[1]
    said = {c["name"].removeprefix("odd/"): c for c in found["checks"] if c["name"].startswith("odd/")}
    assert {name: c["level"] for name, c in said.items()} == {
        **dict.fromkeys(("misspelt", "elsewhere", "summary", "no_native", "no_label"), "fail"),
        **dict.fromkeys(("never", "native"), "ok"),
    }
    assert (said["misspelt"]["text"], said["misspelt"]["cure"]) == (
        "no metric http_request_total was seen in the last day",
        "Did you mean http_requests_total?",
    )
    assert said["elsewhere"]["text"].endswith("prometheus_ready exists for prometheus")
    assert "it has none at all, as a summary has not" in said["summary"]["text"]
    assert "no native histogram: there are only its classic buckets" in said["no_native"]["text"]
    assert "grouped by region" in said["no_label"]["text"]
    assert "errors were never counted" in said["never"]["text"]


def test_each_drift_is_named_and_repair_mends(project: Project, watched: Watched) -> None:
    root = project.root
    # In force: a rule file that is gone, other routes. On disk only: a dashboard.
    (root / "prometheus/generated/rules/service-database.yaml").unlink()
    reload(project, "prometheus")
    change(root / "alertmanager/generated/alertmanager.yml", lambda text: text.replace("group_wait: 10s", "group_wait: 11s"))
    reload(project, "alertmanager")
    change(
        root / "grafana/generated/dashboards/overview.json", lambda text: text.replace('"editable": false', '"editable": true')
    )
    # In the spec: a bucket that there is none of, a version that nobody runs.
    edits = {"under: 300ms": "under: 250ms", "version: 1.2.0": "version: 1.2.1"}
    for old, new in edits.items():
        change(root / "slos.yaml", lambda text, old=old, new=new: text.replace(old, new))  # type: ignore[misc]
    # Outside: a target that is down, a process that is nearly named as another.
    (root / "prometheus/targets/gone.yaml").write_text('- {targets: ["host.docker.internal:1"], labels: {job: gone}}\n')
    execution(project, PROCESS, "1.4.0")
    until("the target that is down", 60, lambda: gone(watched) == ["down"])

    code, found = look(project, "--push")
    assert code == 1
    fails, warns = of(found, "fail"), of(found, "warn")
    assert "edited by hand" in fails["files prometheus/generated/rules/service-database.yaml"]
    assert fails["rules database:slo"].startswith("it is not loaded: its file is not on disk (edited by hand")
    assert fails["rules council-api:slo"].startswith("in force it has another query for slo:sli_errors:rate: the file on")
    assert "'group_wait: 11s' where 'group_wait: 10s' belongs" in fails["files alertmanager/generated/alertmanager.yml"]
    assert "the file on disk is in force (edited by hand" in fails["config alertmanager"]
    assert "edited by hand" in fails["dashboards grafana/generated/dashboards/overview.json"]
    assert fails["slis council-api/latency"].endswith("has no bucket that ends at 0.25: the nearest end at 0.2 and 0.3")
    assert fails["processes council-api/company_context_load"] == "seen with version 1.2.0; slos.yaml registers 1.2.1"
    assert "connection refused" in fails["targets gone at host.docker.internal:1"]
    assert "slos.yaml does not register it" in warns[f"processes council-api/{PROCESS}"]
    cures = {f"{c['kind']} {c['name']}": c["cure"] for c in found["checks"] if c["level"] != "ok"}
    assert "'user_authentication'" in cures[f"processes council-api/{PROCESS}"]
    assert all(cures[key] for key in fails)
    # What fails is also a series for the alert, and a line for whoever reads it.
    failed = 'lgtm_verify_checks{kind="config",level="fail"}'
    until("the pushed result", 30, lambda: [r for r in watched.prometheus(failed) if float(r["value"][1]) >= 1])

    def line() -> bool:
        query = '{service_name="lgtm"} | event="verify.failed" | kind="config"'
        answer = watched.get("loki", "/loki/api/v1/query_range", query=query, since="10m").json()
        return bool(answer["data"]["result"])

    until("a log line of the failure", 30, line)

    for old, new in edits.items():
        change(root / "slos.yaml", lambda text, old=old, new=new: text.replace(new, old))  # type: ignore[misc]
    (root / "prometheus/targets/gone.yaml").unlink()
    until("the target is forgotten", 60, lambda: gone(watched) == [])
    code, found = look(project, "--repair", "--push")
    assert of(found, "fail") == {}
    assert code == 0
    assert "prometheus/generated/rules/service-database.yaml" in found["repaired"]
    assert {"prometheus reloaded", "alertmanager reloaded"} <= set(found["repaired"])
    until("the good result", 30, lambda: [r for r in watched.prometheus(failed) if float(r["value"][1]) == 0])


def test_a_rule_that_fails_is_told_in_prometheus_s_words(project: Project, watched: Watched) -> None:
    own = project.root / "prometheus/rules/mine.yaml"
    # Two series of one side match one of the other.
    own.write_text("groups: [{name: mine, interval: 1s, rules: [{record: twice, expr: 'up * on () up'}]}]\n", encoding="utf-8")
    try:
        unread = of(look(project, "--quick")[1], "fail")
        assert "it was changed after prometheus last read its files" in unread["config prometheus/rules/mine.yaml"]
        reload(project, "prometheus")

        def told() -> str | None:
            return of(look(project, "--quick")[1], "fail", "rules").get("rules mine: twice")

        assert "many-to-many matching not allowed" in until("the failed evaluation", 30, told)
    finally:
        own.unlink()
        reload(project, "prometheus")
