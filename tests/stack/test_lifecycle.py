"""Start, stop and start again: on real servers."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import docker
import pytest
import requests

from generator import engine, secrets
from generator import stack as servers
from generator.project import Project
from tests.stack.copies import Stack


def eventually(what: Callable[[], Any], seconds: float = 30) -> Any:
    """The first result of ``what`` that is true; fails with the last one when the time is over."""
    deadline = time.monotonic() + seconds
    while not (result := what()):
        assert time.monotonic() < deadline, f"still {result!r} after {seconds} s"
        time.sleep(0.3)
    return result


@pytest.fixture
def client() -> Iterator[docker.DockerClient]:
    with contextlib.closing(engine.connect()) as made:
        yield made


def containers(client: docker.DockerClient, project: Project) -> dict[str, dict[str, Any]]:
    found = client.containers.list(all=True, filters={"label": f"com.docker.compose.project={project.compose_project}"})
    return {c.labels["com.docker.compose.service"]: c.attrs for c in found}


def test_every_server_is_ready(stack: Stack) -> None:
    status = servers.status(stack.project)
    assert status.problem is None
    assert {s.name: s.ready for s in status.servers if s.name not in servers.OPTIONAL} == dict.fromkeys(
        ("prometheus", "alertmanager", "alertmanager-peer", "loki", "tempo", "collector", "blackbox"), True
    )
    assert status.ready
    assert all(s.memory and s.memory > 2**20 for s in status.servers if s.state == "running")


def test_a_server_without_an_image_is_left_out_with_a_reason(stack: Stack, client: docker.DockerClient) -> None:
    present = containers(client, stack.project)
    for name in servers.wanted(stack.project):
        assert (name in present) != (name in stack.started.left_out)
    for reason in stack.started.left_out.values():
        assert "image" in reason


def test_no_target_fails(stack: Stack) -> None:
    def all_up() -> bool:
        jobs = {"prometheus", "alertmanager", "loki", "tempo", "collector", "blackbox"}
        if "grafana" not in stack.started.left_out:
            jobs.add("grafana")
        targets = [
            t for t in stack.get("prometheus", "/api/v1/targets").json()["data"]["activeTargets"] if t["labels"]["job"] in jobs
        ]
        return {t["labels"]["job"] for t in targets} == jobs and all(t["health"] == "up" for t in targets)

    eventually(all_up, 45)


def test_only_loopback_is_listened_on(stack: Stack, client: docker.DockerClient) -> None:
    for name, attributes in containers(client, stack.project).items():
        published = [entry for entries in attributes["NetworkSettings"]["Ports"].values() for entry in entries or ()]
        # The peer speaks with the other Alertmanager alone.
        assert bool(published) is (name != "alertmanager-peer"), name
        assert {entry["HostIp"] for entry in published} <= {"127.0.0.1"}, name


def test_containers_are_hardened(stack: Stack, client: docker.DockerClient) -> None:
    for name, attributes in containers(client, stack.project).items():
        host = attributes["HostConfig"]
        assert host["ReadonlyRootfs"] is True, name
        assert host["CapDrop"] == ["ALL"], name
        assert not host["CapAdd"], name
        assert any(option.startswith("no-new-privileges") for option in host["SecurityOpt"]), name
        assert host["Memory"] > 0, name
        assert host["PidsLimit"] > 0, name
        assert host["LogConfig"]["Config"]["max-size"], name
        assert attributes["Config"]["User"].partition(":")[0] not in ("", "0", "root"), name
        assert not any("docker.sock" in mount["Source"] for mount in attributes["Mounts"]), name
        for mount in attributes["Mounts"]:
            if mount["Type"] == "bind":
                assert mount["RW"] is False, (name, mount["Destination"])


def test_secrets_are_seen_by_their_server_only(stack: Stack, client: docker.DockerClient) -> None:
    project = stack.project
    secret = uuid.uuid4().hex
    assert secrets.sync(project, "alertmanager", {"slack_url": secret.encode(), "other": b"x"}) is True
    assert secrets.sync(project, "alertmanager", {"slack_url": secret.encode(), "other": b"x"}) is False

    # What the server itself sees: the archive is read through its running container.
    own = client.containers.get(containers(client, project)["alertmanager"]["Id"])
    stream, _ = own.get_archive(secrets.MOUNT)
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
        entries = {Path(entry.name).name: entry for entry in archive.getmembers()}
        file = entries["slack_url"]
        assert (file.uid, file.gid, file.mode & 0o7777) == (65534, 65534, 0o400)
        content = archive.extractfile(file)
        assert content is not None
        assert content.read() == secret.encode()
    directory = entries[Path(secrets.MOUNT).name]
    assert (directory.uid, directory.mode & 0o777) == (65534, 0o500)

    password = secrets.read(project, secrets.GRAFANA_PASSWORD).decode()
    for value in (secret, password):
        for name, attributes in containers(client, project).items():
            assert value not in json.dumps(attributes), name
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                assert value.encode() not in process.read_bytes(), process

    # No longer wanted: what the server has of it is empty.
    assert secrets.sync(project, "alertmanager", {"other": b"x"}) is True
    stream, _ = own.get_archive(f"{secrets.MOUNT}/slack_url")
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
        assert archive.getmembers()[0].size == 0
    # And no helper container is left behind.
    assert not client.containers.list(all=True, filters={"label": f"lgtm.helper={project.compose_project}"})


def test_a_helper_takes_its_image_s_own_volume_with_it(stack: Stack, client: docker.DockerClient) -> None:
    with secrets.unstarted(stack.project, client, "alertmanager", "secrets-alertmanager", "/run/lgtm-secrets") as helper:
        helper.reload()
        mounted = {mount["Name"] for mount in helper.attrs["Mounts"]}
    left = {volume["Name"] for volume in client.api.volumes()["Volumes"]}
    assert len(mounted) == 2  # the one asked for, and the one that the image declares
    assert mounted & left == {f"{stack.project.compose_project}_secrets-alertmanager"}


def test_second_up_changes_nothing(stack: Stack, client: docker.DockerClient) -> None:
    def fingerprint() -> dict[str, tuple[str, str]]:
        return {n: (a["Id"], a["State"]["StartedAt"]) for n, a in containers(client, stack.project).items()}

    before = fingerprint()
    password = secrets.read(stack.project, secrets.GRAFANA_PASSWORD)
    again = servers.up(stack.project, lambda line: None)
    assert again.changed is False
    assert fingerprint() == before
    assert secrets.read(stack.project, secrets.GRAFANA_PASSWORD) == password


def test_a_server_that_was_stopped_is_started_again(stack: Stack, client: docker.DockerClient) -> None:
    own = containers(client, stack.project)["blackbox"]["Id"]
    client.containers.get(own).stop(timeout=1)
    stopped = {s.name: s for s in servers.status(stack.project).servers}["blackbox"]
    assert (stopped.state, stopped.ready) == ("stopped", False)
    assert not servers.status(stack.project).ready
    assert servers.up(stack.project, lambda line: None).changed is True
    eventually(lambda: servers.status(stack.project).ready)


def test_a_silence_younger_than_alertmanager_s_file_outlives_its_kill(stack: Stack, client: docker.DockerClient) -> None:
    url = stack.project.url("alertmanager") + "/api/v2/silences"
    now = datetime.now(UTC)
    matcher = {"name": "none", "value": "such", "isEqual": True, "isRegex": False}
    silence = {"matchers": [matcher], "startsAt": now.isoformat(), "endsAt": (now + timedelta(hours=1)).isoformat()}
    container = client.containers.get(containers(client, stack.project)["alertmanager"]["Id"])
    made = set()
    # It writes its file once a second: one of three at the least is younger.
    for pause in (0.0, 0.3, 0.6):
        time.sleep(pause)
        answer = requests.post(url, json={**silence, "createdBy": "test", "comment": "kept"}, timeout=10)
        made.add(answer.json()["silenceID"])
    # Ten times as long as it takes to tell the peer.
    time.sleep(0.2)
    container.kill("SIGKILL")
    container.start()
    eventually(lambda: servers.is_ready(stack.project, "alertmanager")[0])
    # Its peer tells it when it has found it again.
    eventually(lambda: made <= {found["id"] for found in requests.get(url, timeout=10).json()})


@pytest.mark.parametrize(("size", "starts"), [("64m", False), ("1g", True)])
def test_prometheus_starts_only_where_it_has_room_to_mend_its_log(
    stack: Stack, client: docker.DockerClient, size: str, starts: bool
) -> None:
    running = client.containers.get(containers(client, stack.project)["prometheus"]["Id"])
    assert running.attrs["Path"] == "/bin/sh" and "prometheus" in running.top()["Processes"][0][-1].split()[0]
    container = client.containers.run(
        servers.image(stack.project, "prometheus"),
        ["--version"],
        entrypoint=running.attrs["Config"]["Entrypoint"],
        user=running.attrs["Config"]["User"],
        volumes={str(stack.project.root / "prometheus"): {"bind": "/etc/prometheus", "mode": "ro"}},
        tmpfs={"/prometheus": f"size={size},mode=1777"},
        detach=True,
    )
    try:
        code, said = container.wait()["StatusCode"], container.logs().decode()
    finally:
        container.remove(force=True, v=True)
    if starts:
        assert code == 0 and said.startswith("prometheus, version ")
    else:
        assert code == 1 and said == "No room: 64 MiB are free on its disk, and it needs 512 to start without losing data.\n"


def test_an_edited_configuration_takes_effect_and_no_other_server_is_touched(stack: Stack, client: docker.DockerClient) -> None:
    path = stack.project.root / "loki" / "loki.yaml"
    before = {name: attributes["Id"] for name, attributes in containers(client, stack.project).items()}
    edited = path.read_text(encoding="utf-8").replace("max_line_size: 256KB", "max_line_size: 255KB")
    assert "255KB" in edited
    path.write_text(edited, encoding="utf-8")
    assert servers.up(stack.project, lambda line: None).changed is True
    after = {name: attributes["Id"] for name, attributes in containers(client, stack.project).items()}
    assert {name for name in before if before[name] != after[name]} == {"loki"}
    assert "max_line_size: 255KB" in stack.get("loki", "/config").text


def test_ctrl_c_at_any_point_leaves_nothing_that_the_next_up_cannot_use(
    make_project: Callable[..., Project], client: docker.DockerClient
) -> None:
    project = make_project()
    start = (
        "import sys; from pathlib import Path; from generator import stack; from generator.project import Project\n"
        "stack.up(Project.load(Path(sys.argv[1])), lambda line: None)"
    )
    for seconds in (0.6, 1.2, 2.5):
        # Its own group, all of which gets the signal: as a terminal does it.
        process = subprocess.Popen(
            [sys.executable, "-c", start, str(project.root)], stderr=subprocess.DEVNULL, start_new_session=True
        )
        time.sleep(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=40)
    servers.up(project, lambda line: None)
    eventually(lambda: servers.status(project).ready)
    assert not client.containers.list(all=True, filters={"label": f"lgtm.helper={project.compose_project}"})
    servers.destroy(project, lambda line: None)


def test_servers_whose_networks_were_pruned_are_made_anew(stack: Stack, client: docker.DockerClient) -> None:
    project = stack.project
    for container in client.containers.list(filters={"label": f"com.docker.compose.project={project.compose_project}"}):
        container.stop(timeout=5)
    for network in client.networks.list(filters={"label": f"com.docker.compose.project={project.compose_project}"}):
        network.remove()
    said: list[str] = []
    servers.up(project, said.append)
    assert any("prometheus" in line and "the network is gone" in line for line in said)
    assert servers.status(project).ready


def test_data_survives_down_and_up(stack: Stack, client: docker.DockerClient) -> None:
    word = uuid.uuid4().hex
    trace = uuid.uuid4().hex
    now = time.time_ns()
    resource = {
        "attributes": [
            {"key": "service.name", "value": {"stringValue": "survivor"}},
            {"key": "service.instance.id", "value": {"stringValue": word}},
        ]
    }
    log = {
        "timeUnixNano": str(now),
        "body": {"stringValue": f"kept {word}"},
        "traceId": trace,
        "spanId": "00f067aa0ba902b7",
    }
    stack.post("/v1/logs", {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": [log]}]}]})
    point = {"timeUnixNano": str(now), "startTimeUnixNano": str(now), "asDouble": 42}
    total = {"aggregationTemporality": 2, "isMonotonic": True, "dataPoints": [point]}
    metric = {"name": "survivor.count", "unit": "1", "sum": total}
    stack.post("/v1/metrics", {"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": [metric]}]}]})
    span = {
        "traceId": trace,
        "spanId": "00f067aa0ba902b7",
        "name": "kept",
        "kind": 2,
        "startTimeUnixNano": str(now),
        "endTimeUnixNano": str(now + 10**6),
    }
    stack.post("/v1/traces", {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]})

    def lines() -> list[Any]:
        query = f'{{service_name="survivor"}} | trace_id="{trace}" |= "{word}"'
        found = stack.get("loki", "/loki/api/v1/query_range", query=query, since="1h").json()["data"]["result"]
        return list(found)

    def series() -> list[Any]:
        query = f'last_over_time(survivor_count_total{{job="survivor",instance="{word}"}}[1h])'
        return list(stack.get("prometheus", "/api/v1/query", query=query).json()["data"]["result"])

    def spans() -> bool:
        # By id, not by search: TraceQL does not find an id that is written with its leading zeros.
        return requests.get(f"{stack.project.url('tempo')}/api/traces/{trace}", timeout=10).status_code == 200

    stream = eventually(lines)[0]
    # Loki's indexed labels are the allow-list: an instance's id would be a new stream at every restart.
    labels = stack.get("loki", "/loki/api/v1/labels").json()["data"]
    assert "service_name" in labels
    assert not {"service_instance_id", "trace_id"} & {*labels}
    assert stream["stream"]["trace_id"] == trace
    # Identifying attributes are kept: a series can be tied to its service.
    assert eventually(series)[0]["metric"]["service_name"] == "survivor"
    eventually(spans)

    assert servers.down(stack.project, lambda line: None) is True
    assert containers(client, stack.project) == {}
    assert servers.down(stack.project, lambda line: None) is False
    servers.up(stack.project, lambda line: None)
    assert eventually(lines)
    assert eventually(series)[0]["value"][1] == "42"
    assert eventually(spans)


def test_logs_come_line_by_line(stack: Stack) -> None:
    lines = list(servers.logs(stack.project, ["prometheus"], tail=20))
    assert 0 < len(lines) <= 20
    assert any("prometheus" in line for line in lines)
    following = servers.logs(stack.project, ["prometheus"], follow=True, tail=5)
    assert next(iter(following))
    following.close()  # type: ignore[attr-defined]
    with pytest.raises(servers.StackError, match="nonsense is not a server"):
        next(iter(servers.logs(stack.project, ["nonsense"])))


def test_doctor_finds_a_healthy_stack(stack: Stack) -> None:
    checks = servers.doctor(stack.project)
    assert [check for check in checks if check.level == "fail"] == []
    assert {"docker", "compose", "disk", "ports", "images", "secrets", "servers"} <= {check.name for check in checks}


def test_doctor_names_what_is_wrong(stack: Stack) -> None:
    env = stack.project.root / ".env"
    kept = env.read_text(encoding="utf-8")
    password = secrets.directory(stack.project) / secrets.GRAFANA_PASSWORD
    try:
        env.write_text(kept + "GRAFANA_PROT=3\n", encoding="utf-8")
        password.chmod(0o644)
        found = {check.name: check for check in servers.doctor(Project.load(stack.project.root))}
    finally:
        env.write_text(kept, encoding="utf-8")
        password.chmod(0o600)
    assert found[".env"].level == "warn"
    assert "GRAFANA_PROT" in found[".env"].detail
    assert found["secrets"].level == "fail"
    assert "grafana_admin_password" in found["secrets"].detail


def test_a_port_in_use_is_refused_and_nothing_changes(
    make_project: Callable[..., Project], client: docker.DockerClient
) -> None:
    with contextlib.closing(socket.socket()) as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        project = make_project(LOKI_PORT=str(port))
        before = sorted(path.relative_to(project.root) for path in project.root.rglob("*"))
        with pytest.raises(servers.PortInUseError) as refusal:
            servers.up(project, lambda line: None)
        assert f"Port {port}, for loki, is in use by" in refusal.value.message
        assert "(process " in refusal.value.message
        assert "LOKI_PORT" in (refusal.value.hint or "")
        assert sorted(path.relative_to(project.root) for path in project.root.rglob("*")) == before
        assert containers(client, project) == {}
        assert servers.volumes(project) == []


def test_the_port_of_another_stack_is_refused_with_its_container(stack: Stack, make_project: Callable[..., Project]) -> None:
    project = make_project(TEMPO_PORT=stack.project.settings["TEMPO_PORT"])
    with pytest.raises(servers.PortInUseError, match=f"{stack.project.compose_project}-tempo-1"):
        servers.up(project, lambda line: None)


def test_a_server_that_refuses_its_configuration_is_named_with_its_words(
    make_project: Callable[..., Project],
) -> None:
    project = make_project()
    path = project.root / "tempo" / "tempo.yaml"
    good = path.read_text(encoding="utf-8")
    path.write_text(good + "\nno_such_key: 1\n", encoding="utf-8")
    with pytest.raises(servers.StackError) as failure:
        servers.up(project, lambda line: None)
    assert failure.value.message.startswith("tempo does not stay up")
    assert "no_such_key" in failure.value.message
    # Mended, the next `up` needs no help.
    path.write_text(good, encoding="utf-8")
    servers.up(project, lambda line: None)
    eventually(lambda: servers.status(project).ready)
    servers.destroy(project, lambda line: None)
    assert servers.volumes(project) == []


def test_starts_without_anything_rendered(make_project: Callable[..., Project]) -> None:
    project = make_project()
    for generated in ("prometheus", "loki", "grafana"):
        shutil.rmtree(project.root / generated / "generated", ignore_errors=True)
    servers.up(project, lambda line: None)
    eventually(lambda: servers.status(project).ready)
    servers.destroy(project, lambda line: None)
