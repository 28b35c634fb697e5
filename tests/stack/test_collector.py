"""What the collector takes beside OTLP, and what it keeps with tail sampling on: on real servers."""

from __future__ import annotations

import json
import re
import secrets
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from typing import Any

import docker
import pytest
import requests
import yaml

from bench.server import published
from generator import stack as servers
from tests.stack.copies import LGTM, Stack, until

TRACES = 60


@pytest.fixture(scope="module")
def client() -> docker.DockerClient:
    return docker.from_env()


def _lines(stack: Stack, selector: str) -> list[tuple[dict[str, str], str]]:
    now = time.time()
    answer = stack.get(
        "loki", "/loki/api/v1/query_range", query=selector, start=str(int((now - 300) * 1e9)), end=str(int((now + 5) * 1e9))
    ).json()
    return [(found["stream"], line) for found in answer["data"]["result"] for _, line in found["values"]]


def test_a_container_s_lines_are_in_loki_under_its_name_and_without_secrets(stack: Stack, client: docker.DockerClient) -> None:
    name, password = f"worker-{uuid.uuid4().hex[:8]}", secrets.token_urlsafe(12)
    # Any image will do: this one writes a line that names what it was given, and ends.
    image = servers.image(stack.project, "blackbox")
    container = client.containers.run(
        image,
        [f"--config.file=/password={password}"],
        name=name,
        detach=True,
        log_config=docker.types.LogConfig(
            type="fluentd", config={"fluentd-address": f"127.0.0.1:{stack.project.port('FLUENT_PORT')}"}
        ),
    )

    def named() -> list[str]:
        found = _lines(stack, f'{{service_name="containers"}} | container_name="{name}"')
        return [line for _, line in found if "Error loading config" in line]

    try:
        lines = until("the line is in Loki", 30, named)
    finally:
        container.remove(force=True, v=True)
    assert not any(password in line for line in lines)
    assert "/****" in lines[0]


@pytest.fixture
def sampling(stack: Stack, client: docker.DockerClient) -> Iterator[str]:
    """The stack's collector with tail sampling put in as its comment says, beside the running one. Yields its address."""
    running = client.containers.list(
        filters={
            "label": [f"com.docker.compose.project={stack.project.compose_project}", "com.docker.compose.service=collector"]
        }
    )[0]
    path = stack.project.root / "collector" / "collector.yaml"
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    settings["service"]["pipelines"]["traces"]["processors"].append("tail_sampling")
    settings["processors"]["tail_sampling"]["decision_wait"] = "2s"
    place = stack.project.root / ".lgtm" / "sampling"
    place.mkdir(exist_ok=True)
    (place / "collector.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    networks = list(running.attrs["NetworkSettings"]["Networks"])
    outward = next(name for name in networks if name.endswith("_publish"))
    assert running.image is not None
    container = client.containers.run(
        running.image,
        ["--config=/etc/otelcol/collector.yaml"],
        detach=True,
        network=outward,
        ports={"4318/tcp": ("127.0.0.1", 0)},
        volumes={str(place): {"bind": "/etc/otelcol", "mode": "ro"}},
        user="0",
        tmpfs={"/var/lib/otelcol": ""},
    )
    try:
        for name in networks:
            if name != outward:
                client.networks.get(name).connect(container)
        address = published(container, 4318)

        def answers() -> bool:
            try:
                return requests.post(f"{address}/v1/traces", json={}, timeout=2).ok
            except requests.ConnectionError:
                return False

        until("the collector takes spans", 30, answers)
        yield address
    except BaseException:
        print(container.logs().decode())
        raise
    finally:
        container.remove(force=True, v=True)


def test_tail_sampling_keeps_errors_slow_and_critical_executions_and_every_count(stack: Stack, sampling: str) -> None:
    service = f"sampled-{uuid.uuid4().hex[:8]}"
    resource = {"attributes": [_text("service.name", service)]}
    now = time.time_ns()
    spans = [
        *(_span(now, 10) for _ in range(TRACES)),
        _span(now, 10, status=2),
        _span(now, 10, ("process.status", "timeout")),
        _span(now, 2500),
        _span(now, 10, ("process.id", "council_deliberation_3stage")),
    ]
    kept = [span["traceId"] for span in spans[TRACES:]]
    _post(sampling, "traces", {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]})
    point = {"asInt": str(len(spans)), "timeUnixNano": str(now), "startTimeUnixNano": str(now - 10**9)}
    counter = {"name": "sampled_executions", "sum": {"aggregationTemporality": 2, "isMonotonic": True, "dataPoints": [point]}}
    _post(sampling, "metrics", {"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": [counter]}]}]})

    def found() -> set[str] | None:
        answer = stack.get("tempo", "/api/search", q=f'{{ resource.service.name="{service}" }}', limit="200").json()
        # Tempo leaves leading zeros out.
        ids = {trace["traceID"].zfill(32) for trace in answer.get("traces") or []}
        return ids if ids >= set(kept) else None

    ids = until("each trace that matters is in Tempo", 40, found)
    # A tenth of the rest: that all sixty, or even half, are kept by chance happens less than once in 10^12 runs.
    assert len(ids) - len(kept) < TRACES / 2
    query = f'sampled_executions_total{{job="{service}"}}'
    rows = until(
        "the count is in Prometheus",
        20,
        lambda: stack.get("prometheus", "/api/v1/query", query=query).json()["data"]["result"],
    )
    assert float(rows[0]["value"][1]) == len(spans)


def test_points_are_in_prometheus_by_remote_write_as_they_would_be_by_otlp(stack: Stack) -> None:
    """Names, labels, native histograms, exemplars and target_info of the collector's are those of Prometheus's own."""
    now = time.time_ns()
    seen = {}
    for way in ("otlp", "collector"):
        service = f"points-{uuid.uuid4().hex[:8]}"
        if way == "otlp":
            address = stack.project.url("prometheus") + "/api/v1/otlp"
        else:
            address = f"http://127.0.0.1:{stack.project.port('OTLP_HTTP_PORT')}"
        # The exemplar of a native histogram is taken from its second point on.
        for at in (now - 10**9, now):
            _post(address, "metrics", _points(service, at))
            rows = _stored(stack, service, at)
        exemplars = _exemplars(stack, service, now)
        seen[way] = [json.dumps(row, sort_keys=True).replace(service, "") for row in (*rows, *exemplars)]
    assert {json.loads(row)["metric"]["__name__"] for row in seen["otlp"] if "metric" in json.loads(row)} == {
        "jobs_done_total",
        "queue_length_seconds",
        "jobs_duration_seconds",
        *(f"jobs_duration_seconds_{part}" for part in ("bucket", "count", "sum")),
        "target_info",
    }
    assert set(seen["collector"]) == set(seen["otlp"])


def test_spans_that_tempo_has_lost_are_sent_again_as_they_were(stack: Stack, client: docker.DockerClient) -> None:
    service, end = f"lost-{uuid.uuid4().hex[:8]}", time.time_ns() - 60 * 10**9
    spans = [
        _span(end - number * 10 * 10**9, 100, ("user.password", "hunter2"), ("company.id", f"company-{number}"), status=2)
        for number in range(40)
    ]
    # A trace in two requests, of which Tempo is to have the one that comes after.
    parted = [{**_span(end, 100), "traceId": spans[0]["traceId"]} for _ in range(3)]
    resource = {"attributes": [_text("service.name", service)]}
    stack.post("/v1/traces", {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]})

    def held() -> dict[str, Any]:
        """What Tempo has of each trace that it has."""
        found = {}
        for trace in {span["traceId"] for span in spans}:
            answer = requests.get(f"{stack.project.url('tempo')}/api/v2/traces/{trace}", timeout=10)
            if answer.status_code == 200 and (batches := answer.json().get("trace", {}).get("resourceSpans")):
                found[trace] = batches
        return found

    def numbers() -> list[int]:
        return sorted(sum(len(scope["spans"]) for b in batches for scope in b["scopeSpans"]) for batches in held().values())

    def resend(*words: str) -> tuple[int, dict[str, Any]]:
        command = [str(LGTM), "-C", str(stack.project.root), "resend", "--since", "10 minutes ago", "--json", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        return done.returncode, json.loads(done.stdout)

    def verified() -> dict[str, str]:
        command = [str(LGTM), "-C", str(stack.project.root), "verify", "--only", "traces", "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        (check,) = json.loads(done.stdout)["checks"]
        return {"level": check["level"], "text": check["text"]}

    before = until("Tempo has all", 30, lambda: found if len(found := held()) == 40 else None)
    code, nothing = resend("--dry-run")
    assert (code, nothing["lacking"]) == (0, 0) and nothing["spans"] >= 40
    assert verified()["level"] == "ok"

    # Its volume is gone, which loses the same as a full disk, and at once.
    servers.compose(stack.project, "rm", "--stop", "--force", "tempo")
    client.volumes.get(f"{stack.project.compose_project}_{servers.DATA['tempo'][0]}").remove()
    servers.up(stack.project, lambda line: None)
    stack.post("/v1/traces", {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": parted}]}]})
    until("Tempo has what came after", 30, lambda: numbers() == [3])

    assert verified()["level"] == "fail" and re.match(r"it lacks spans of \d+ of \d+ traces", verified()["text"])
    code, lost = resend("--dry-run")
    assert code == 1 and lost["lacking"] == lost["missing"] >= 40 and lost["lacking_traces"] >= 40
    assert numbers() == [3], "to look sends nothing"
    # Tempo would count the youngest of them twice: it waits, and whoever does not want to has sent nothing.
    patient = subprocess.Popen([str(LGTM), "-C", str(stack.project.root), "resend"], stderr=subprocess.PIPE, text=True)
    assert patient.stderr is not None
    assert any("a second time in the metrics that it makes of spans: waiting" in line for line in patient.stderr)
    patient.send_signal(signal.SIGINT)
    assert patient.wait(30) == 130
    patient.stderr.close()
    assert numbers() == [3]
    code, sent = resend("--at-once")
    assert (code, sent["lacking"], sent["missing"]) == (0, lost["lacking"], 0)
    assert numbers() == [1] * 39 + [4]
    assert verified()["level"] == "ok"
    after = held()
    whole = [trace for trace in before if trace != spans[0]["traceId"]]
    assert [_sorted(after[trace]) for trace in whole] == [_sorted(before[trace]) for trace in whole]
    assert "hunter2" not in json.dumps(after)
    code, again = resend("--at-once")
    assert (code, again["lacking"]) == (0, 0) and numbers() == [1] * 39 + [4]


def _sorted(value: Any) -> Any:
    """The same with its lists in one order: Tempo gives attributes in another one out of a block than out of memory."""
    if isinstance(value, dict):
        return {key: _sorted(one) for key, one in value.items()}
    return sorted(map(_sorted, value), key=json.dumps) if isinstance(value, list) else value


def _stored(stack: Stack, service: str, at: int) -> list[dict[str, Any]]:
    """Every series of a service at a time, once the last that its request makes is there."""

    def rows() -> list[dict[str, Any]]:
        query = f'{{job="shop/{service}"}}'
        found = stack.get("prometheus", "/api/v1/query", query=query, time=str(at / 1e9)).json()["data"]["result"]
        names = {row["metric"]["__name__"] for row in found}
        return found if {"target_info", "queue_length_seconds", "jobs_duration_seconds"} <= names else []

    return until(f"the points of {service} are in Prometheus", 20, rows)


def _exemplars(stack: Stack, service: str, at: int) -> list[dict[str, Any]]:
    """Those of that time, once each of the three metrics that can have one has it."""

    def found() -> list[dict[str, Any]]:
        window = {"start": str(at / 1e9 - 0.5), "end": str(at / 1e9 + 0.5)}
        answer = stack.get("prometheus", "/api/v1/query_exemplars", query=f'{{service_name="{service}"}}', **window).json()
        return answer["data"] if len(answer["data"]) >= 3 else []

    return until(f"the exemplars of {service} are in Prometheus", 20, found)


def _points(service: str, at: int) -> dict[str, Any]:
    """One point of each kind that services send."""
    names = {
        "service.name": service,
        "service.namespace": "shop",
        "service.instance.id": "one",
        "service.version": "1.0",
        "deployment.environment.name": "test",
        "host.name": "here",
        "telemetry.sdk.language": "go",
    }
    exemplar = {"timeUnixNano": str(at), "asDouble": 0.5, "traceId": "ab" * 16, "spanId": "cd" * 8}
    point = {"timeUnixNano": str(at), "startTimeUnixNano": str(at - 10**9), "attributes": [_text("http.route", "/a")]}
    classic = {"count": "3", "sum": 1.5, "explicitBounds": [0.1, 1], "bucketCounts": ["1", "1", "1"], "exemplars": [exemplar]}
    buckets = {"offset": 2, "bucketCounts": ["1", "0", "2"]}
    native = {"count": "4", "sum": 2.5, "scale": 3, "zeroCount": "1", "positive": buckets, "exemplars": [exemplar]}
    metrics = [
        {
            "name": "jobs.done",
            "unit": "{job}",
            "sum": {
                "aggregationTemporality": 2,
                "isMonotonic": True,
                "dataPoints": [{**point, "asInt": "5", "exemplars": [exemplar]}],
            },
        },
        {"name": "queue.length", "unit": "s", "gauge": {"dataPoints": [{**point, "asDouble": 3.5}]}},
        {
            "name": "jobs.duration",
            "unit": "s",
            "histogram": {"aggregationTemporality": 2, "dataPoints": [{**point, **classic}]},
        },
        {
            "name": "jobs.duration",
            "unit": "s",
            "exponentialHistogram": {"aggregationTemporality": 2, "dataPoints": [{**point, **native}]},
        },
    ]
    resource = {"attributes": [_text(key, value) for key, value in names.items()]}
    scope = {"name": "library", "version": "2"}
    return {"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"scope": scope, "metrics": metrics}]}]}


def _post(address: str, signal: str, body: object) -> None:
    requests.post(f"{address}/v1/{signal}", json=body, timeout=10).raise_for_status()


def _text(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": value}}


def _span(end: int, milliseconds: int, *attributes: tuple[str, str], status: int = 0) -> dict[str, Any]:
    """A span that is a trace of its own, ending at ``end`` (Unix time in nanoseconds)."""
    return {
        "traceId": secrets.token_hex(16),
        "spanId": secrets.token_hex(8),
        "name": "work",
        "kind": 1,
        "startTimeUnixNano": str(end - milliseconds * 10**6),
        "endTimeUnixNano": str(end),
        "status": {"code": status},
        "attributes": [_text(key, value) for key, value in attributes],
    }
