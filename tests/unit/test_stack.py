"""The parts of `stack` that need no engine."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from generator import engine, stack
from generator.project import DEFAULTS, SERVER_PORTS, Project

ROOT = Path(__file__).resolve().parents[2]


def project(place: Path, **settings: str) -> Project:
    return Project(place, {**DEFAULTS, **settings})


def test_every_image_is_pinned_and_from_the_registry_setting() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    assert set(services) == {*stack.READY, "node-exporter", "alertmanager-peer"}
    for name, service in services.items():
        prefix, _, rest = service["image"].partition("}/")
        assert prefix == "${REGISTRY:-docker.io", name
        tag = rest.rpartition(":")[2]
        assert tag[-1].isdigit(), name
        assert tag != "latest", name


def test_every_published_port_is_a_setting_on_the_bind_address() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    found = {}
    for name, service in services.items():
        for published in service.get("ports", ()):
            assert published.startswith("${BIND_ADDRESS:-127.0.0.1}:${"), (name, published)
            setting, _, rest = published.removeprefix("${BIND_ADDRESS:-127.0.0.1}:${").partition(":-")
            found[setting] = name
            assert rest.partition("}")[0] == DEFAULTS[setting]
    assert found == dict(stack.PORTS)
    assert {SERVER_PORTS[name] for name in stack.READY} <= set(found)


def test_env_example_names_every_setting_with_its_default() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    shown = dict(
        line.removeprefix("#").split("=", 1) for line in lines if line.startswith("#") and line[1:2].isupper() and "=" in line
    )
    assert shown.pop("COMPOSE_PROFILES") == "host"  # its default, nothing, would show nobody how to write it
    assert shown == {key: value for key, value in DEFAULTS.items() if key != "COMPOSE_PROFILES"}


def test_the_collector_has_no_batch_processor_and_queues_on_disk() -> None:
    config = yaml.safe_load((ROOT / "collector" / "collector.yaml").read_text())
    assert "batch" not in {name.partition("/")[0] for name in config["processors"]}
    for name, pipeline in config["service"]["pipelines"].items():
        assert pipeline["processors"][0] == "memory_limiter", name
    behind = config["service"]["pipelines"]["metrics/queued"]
    assert behind["receivers"] == ["otlp/queued"] and not behind.keys() - {"receivers", "processors", "exporters"}
    for name, exporter in config["exporters"].items():
        if name == "file/spans":
            continue  # that is a disk
        if name not in behind["exporters"]:
            assert exporter["sending_queue"]["storage"] == "file_storage", name
        assert exporter["retry_on_failure"]["max_elapsed_time"] == 0, name


def test_a_queue_gives_up_a_request_before_what_it_delivers_to_does() -> None:
    # What gives up first decides: the queue tries again, remote write drops.
    exporters = yaml.safe_load((ROOT / "collector" / "collector.yaml").read_text())["exporters"]
    kept, written = (
        int(exporters[name]["timeout"].removesuffix("s")) for name in ("otlp_http/queue", "prometheus_remote_write")
    )
    assert kept < written
    assert not exporters["prometheus_remote_write"]["remote_write_queue"]["enabled"]


def test_names_of_a_service_are_labels_by_remote_write_as_by_otlp() -> None:
    collector = yaml.safe_load((ROOT / "collector" / "collector.yaml").read_text())
    otlp = yaml.safe_load((ROOT / "prometheus" / "prometheus.yml").read_text())["otlp"]
    labels, _ = (block["statements"] for block in collector["processors"]["transform/labels"]["metric_statements"])
    assert [line.split('"')[1] for line in labels] == otlp["promote_resource_attributes"]


def test_profiles_choose_the_servers(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text((ROOT / "compose.yaml").read_text())
    assert "node-exporter" not in stack.wanted(project(tmp_path))
    assert "node-exporter" in stack.wanted(project(tmp_path, COMPOSE_PROFILES="other, host"))
    assert stack.servers(project(tmp_path))["loki"].version == "3.7.8"


def test_an_unusable_compose_file_is_an_error_with_a_cure(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services: {loki: {}}")
    with pytest.raises(stack.StackError, match="cannot be used"):
        stack.servers(project(tmp_path))


def test_of_a_failure_of_compose_docker_s_own_words_are_told_once_with_a_cure() -> None:
    # What Compose 2 wrote on a machine without a free range of addresses.
    pool = "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network"
    said = (
        " Network nx_x Creating \n Network nx_y Creating \n"
        f" Network nx_x Error Error response from daemon: {pool}\n"
        f' Network nx_y Error error during connect: Post "http://%2Fvar%2Frun%2Fdocker.sock/v1.41/networks/create": '
        f"failed to create network nx_x: Error response from daemon: {pool}\n"
        f"failed to create network nx_x: Error response from daemon: {pool} \n"
    )
    assert stack.compose_failure(said) == pool
    assert "docker network prune" in stack.compose_cure(said)
    assert stack.compose_failure(" one \ntwo\n") == "one; two"
    assert "lgtm doctor" in stack.compose_cure("one\ntwo\n")


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        ('{"asked": "docker.io", "used": "localhost"}', "localhost"),
        ('{"asked": "mirror.example", "used": "localhost"}', "docker.io"),  # the setting was changed since
        ("{broken", "docker.io"),
        ("[]", "docker.io"),
        (None, "docker.io"),
    ],
)
def test_the_registry_that_was_used_is_kept(tmp_path: Path, kept: str | None, expected: str) -> None:
    (tmp_path / ".lgtm").mkdir()
    if kept is not None:
        (tmp_path / ".lgtm" / "registry.json").write_text(kept)
    assert stack.registry(project(tmp_path)) == expected
    assert stack.compose_environment(project(tmp_path))["REGISTRY"] == expected


def test_compose_gets_the_settings_that_we_read(tmp_path: Path) -> None:
    environment = stack.compose_environment(project(tmp_path, LOKI_PORT="4242"), {"DOCKER_BRIDGE_ADDRESS": "10.0.0.1"})
    assert environment["LOKI_PORT"] == "4242"
    assert environment["COMPOSE_PROJECT_NAME"] == "lgtm"
    assert environment["DOCKER_BRIDGE_ADDRESS"] == "10.0.0.1"


def test_a_listener_is_found_with_its_process(tmp_path: Path) -> None:
    with contextlib.closing(socket.socket()) as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        assert not stack._port_is_free("127.0.0.1", port)
        assert not stack._port_is_free("0.0.0.0", port)
        holder_text = stack._holder(port)
        assert holder_text is not None
        assert f"(process {os.getpid()})" in holder_text
    assert stack._port_is_free("127.0.0.1", port)
    assert stack._holder(port) is None


def test_two_settings_of_one_port_are_refused(tmp_path: Path) -> None:
    with contextlib.closing(socket.socket()) as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = str(chosen.getsockname()[1])
    with pytest.raises(stack.PortInUseError, match=f"LOKI_PORT and GRAFANA_PORT are both {port}"):
        stack.check_ports(project(tmp_path, LOKI_PORT=port, GRAFANA_PORT=port), ["loki", "grafana"], {})


def test_own_ports_are_no_obstacle(tmp_path: Path) -> None:
    with contextlib.closing(socket.socket()) as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        here = project(tmp_path, LOKI_PORT=str(port))
        own = stack._Container("id", "running", "Up", "", {port})
        stack.check_ports(here, ["loki"], {"loki": own})
        with pytest.raises(stack.PortInUseError, match="LOKI_PORT"):
            stack.check_ports(here, ["loki"], {})


def test_another_copy_under_the_same_name_is_refused(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()

    def of(directory: Path) -> dict[str, stack._Container]:
        return {"loki": stack._Container("id", "running", "Up", "", set(), str(directory))}

    stack.check_name(project(here), of(here))
    stack.check_name(project(here), of(there))  # deleted or moved since: nobody can run `make down` there
    there.mkdir()
    with pytest.raises(stack.StackError, match="there is up under the same name, lgtm"):
        stack.check_name(project(here), of(there))


def test_a_refused_connection_is_not_ready(tmp_path: Path) -> None:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    assert stack.is_ready(project(tmp_path, LOKI_PORT=str(free)), "loki") == (False, "no connection")


@pytest.fixture
def docker_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.delenv("DOCKER_CONTEXT", raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tmp_path


def test_the_docker_context_is_respected(docker_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert engine.address() is None
    (docker_home / "config.json").write_text('{"currentContext": "desktop-linux"}')
    assert engine.address() is None  # it names a context that is not there
    meta = docker_home / "contexts" / "meta" / hashlib.sha256(b"desktop-linux").hexdigest()
    meta.mkdir(parents=True)
    (meta / "meta.json").write_text(json.dumps({"Endpoints": {"docker": {"Host": "unix:///desktop.sock"}}}))
    assert engine.address() == "unix:///desktop.sock"
    monkeypatch.setenv("DOCKER_CONTEXT", "default")
    assert engine.address() is None
    monkeypatch.setenv("DOCKER_HOST", "tcp://elsewhere:2375")
    assert engine.address() == "tcp://elsewhere:2375"


def test_an_engine_that_does_not_answer_is_named(docker_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{docker_home}/none.sock")
    with pytest.raises(engine.DockerUnavailableError, match=r"does not answer at unix://.*none\.sock"):
        engine.connect()
    said: list[str] = []
    with pytest.raises(engine.DockerUnavailableError):
        engine.ensure(said.append)  # another machine's engine is not ours to install or start
    assert said == []


def test_status_and_doctor_work_without_docker(docker_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{docker_home}/none.sock")
    status = stack.status(Project(ROOT, DEFAULTS))
    assert status.problem is not None
    assert not status.ready
    assert {server.state for server in status.servers} == {"unknown"}
    checks = {check.name: check for check in stack.doctor(Project(ROOT, DEFAULTS))}
    assert checks["docker"].level == "fail"
    assert checks["compose"].level == "ok"


def test_no_permission_says_what_to_run() -> None:
    error = engine._unavailable(PermissionError(13, "Permission denied"), None)
    assert "usermod -aG docker" in (error.hint or "")


# What Docker 20.10.24 logged when it had been killed while it made a network.
PANIC = """\
time="2026-11-21T18:47:16.134535798Z" level=info msg="Loading containers: start."
panic: runtime error: index out of range [0] with length 0

goroutine 1 [running]:
github.com/docker/libnetwork.(*controller).reservePools(0x55ba18743e70?)
\t/build/docker.io-20.10.24+dfsg1/_build/src/github.com/docker/libnetwork/controller.go:956 +0xb65
main.main()
\t/build/docker.io-20.10.24+dfsg1/_build/src/github.com/docker/docker/cmd/dockerd/docker.go:97 +0x15d
"""


def test_a_list_of_networks_that_docker_cannot_read_is_kept_aside(tmp_path: Path) -> None:
    networks = tmp_path / "network" / "files" / "local-kv.db"
    networks.parent.mkdir(parents=True)
    networks.write_bytes(b"half a network")
    assert engine.set_networks_aside("failed to start daemon: Error initializing network controller", tmp_path) is None
    assert engine.set_networks_aside(PANIC.replace("reservePools", "NewNetwork"), tmp_path) is None
    assert networks.exists()  # no other end is taken for this one
    aside = engine.set_networks_aside(PANIC, tmp_path)
    assert aside is not None
    assert aside.read_bytes() == b"half a network"
    assert not networks.exists()
    assert engine.set_networks_aside(PANIC, tmp_path) is None  # there is nothing left to try: the daemon's words are told


def test_a_panic_of_docker_is_told_by_its_first_line() -> None:
    assert engine.reason(PANIC) == "panic: runtime error: index out of range [0] with length 0"
    assert engine.reason("a\nb\nc\nfailed to start daemon: no space left\n") == "b; c; failed to start daemon: no space left"
    assert engine.reason("") == "it said nothing"


def test_configuration_is_opened_to_the_servers(tmp_path: Path) -> None:
    file = tmp_path / "loki" / "loki.yaml"
    file.parent.mkdir(mode=0o700)
    file.touch(mode=0o600)
    stack.open_configuration(project(tmp_path))
    assert file.stat().st_mode & 0o777 == 0o644
    assert file.parent.stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "loki" / "generated" / "rules").is_dir()


def test_optional_servers_become_targets_only_when_they_run(tmp_path: Path) -> None:
    here = project(tmp_path)
    path = tmp_path / ".lgtm" / "targets" / "optional.json"
    stack._write_optional_targets(here, ["prometheus"])
    assert json.loads(path.read_text()) == []
    stack._write_optional_targets(here, ["prometheus", "grafana"])
    assert json.loads(path.read_text()) == [{"targets": ["grafana:3000"], "labels": {"job": "grafana"}}]
    before = path.stat().st_mtime_ns
    stack._write_optional_targets(here, ["prometheus", "grafana"])
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("text", "size"),
    [("20GB", 20 * 2**30), ("512MB", 2**29), ("0", 0), ("20", None), ("20 GB", None), ("GB", None), ("2XB", None)],
)
def test_sizes_are_read_as_prometheus_reads_them(text: str, size: int | None) -> None:
    assert stack.parse_size(text) == size


@pytest.mark.parametrize(
    ("status", "health"),
    [
        ("Up 3 seconds (health: starting)", "starting"),
        ("Up 2 minutes (healthy)", "healthy"),
        ("Up 2 minutes (unhealthy)", "unhealthy"),
        ("Up 2 minutes", None),
    ],
)
def test_health_is_read_from_dockers_words(status: str, health: str | None) -> None:
    assert stack._Container("id", "running", status, "").health == health


@pytest.mark.parametrize(("stamp", "level"), [(0, "ok"), (-60, "fail")])
def test_a_clock_that_is_wrong_is_found(stamp: int, level: str) -> None:
    told = (datetime.now(UTC) + timedelta(seconds=stamp)).isoformat(timespec="microseconds")
    for text in (told, told.replace("+00:00", "123Z")):  # Docker gives nanoseconds
        assert [check.level for check in stack._check_clock({"SystemTime": text})] == [level]
    assert stack._check_clock({}) == []


@pytest.mark.parametrize(
    ("status", "asked", "given", "found"),
    [
        ("running", {"9093/tcp": [{"HostPort": "9093"}]}, {"9093/tcp": None, "9094/tcp": None}, True),
        ("running", {"9093/tcp": [{"HostPort": "9093"}]}, {}, True),
        ("running", {"9093/tcp": [{"HostPort": "9093"}]}, {"9093/tcp": [{"HostPort": "9093"}]}, False),
        ("exited", {"9093/tcp": [{"HostPort": "9093"}]}, {}, False),
        ("running", {}, {"9093/tcp": None}, False),
    ],
)
def test_a_server_that_runs_without_its_port_is_found(
    status: str, asked: dict[str, object], given: dict[str, object], found: bool
) -> None:
    detail = {"State": {"Status": status}, "HostConfig": {"PortBindings": asked}, "NetworkSettings": {"Ports": given}}
    assert stack.unpublished(detail) is found
