"""The running servers: start, stop, ask how they are, find out what is wrong with the machine.

Docker is used in two ways: Compose (the real binary, from this environment) to make and start what ``compose.yaml`` says,
and the Engine API to look. Nothing here prints: progress goes to a ``report`` callback, one short line each time.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import requests
import yaml
from dotenv import dotenv_values

from generator import engine, secrets
from generator.engine import DockerUnavailableError
from generator.errors import LgtmError
from generator.progress import Report
from generator.project import DEFAULTS, Project

if TYPE_CHECKING:
    import docker

Secrets = Mapping[str, Mapping[str, bytes]]
# Makes everything that the servers read from ``generated/``, and says which secrets each server needs (server → file name →
# content). Called before anything is started; raises LgtmError to refuse.
Render = Callable[[Project], Secrets | None]

# Without these images the rest still works.
OPTIONAL = ("grafana", "node-exporter")

# Path of the endpoint that says whether a server is ready, on its published port.
READY: Mapping[str, str] = {
    "prometheus": "/-/ready",
    "alertmanager": "/-/ready",
    "loki": "/ready",
    "tempo": "/ready",
    "collector": "/",
    "blackbox": "/-/healthy",
    "grafana": "/api/health",
}

# Published ports and who publishes them.
PORTS: Mapping[str, str] = {
    "GRAFANA_PORT": "grafana",
    "PROMETHEUS_PORT": "prometheus",
    "ALERTMANAGER_PORT": "alertmanager",
    "LOKI_PORT": "loki",
    "TEMPO_PORT": "tempo",
    "OTLP_GRPC_PORT": "collector",
    "OTLP_HTTP_PORT": "collector",
    "FLUENT_PORT": "collector",
    "COLLECTOR_HEALTH_PORT": "collector",
    "BLACKBOX_PORT": "blackbox",
}

# Volumes that hold data: name, and where the server has it. Their roots must belong to the server's user.
DATA: Mapping[str, tuple[str, str]] = {
    "prometheus": ("prometheus-data", "/prometheus"),
    "alertmanager": ("alertmanager-data", "/alertmanager"),
    "loki": ("loki-data", "/loki"),
    "tempo": ("tempo-data", "/var/tempo"),
    "collector": ("collector-queue", "/var/lib/otelcol"),
    "grafana": ("grafana-data", "/var/lib/grafana"),
}

# Directories that containers read through a bind mount, as users who are not the owner.
CONFIGURATION = ("prometheus", "alertmanager", "loki", "tempo", "collector", "blackbox", "grafana")

# Hand-written configuration that a server reads only when it starts.
READ_AT_START: Mapping[str, tuple[str, ...]] = {
    "prometheus": ("prometheus/prometheus.yml", "prometheus/start.sh"),
    "loki": ("loki/loki.yaml",),
    "tempo": ("tempo/tempo.yaml",),
    "collector": ("collector/collector.yaml",),
    "grafana": ("grafana/provisioning",),
}

# Directories that a server cannot do without, and that git, which keeps no empty ones, may not have brought.
NEEDED = ("loki/generated/rules", "grafana/generated/dashboards", "prometheus/generated/rules", "prometheus/targets")

# Settings of compose.yaml and of Compose itself that .env may hold, beside the project's own.
OTHER_SETTINGS = ("DOCKER_BRIDGE_ADDRESS", "COMPOSE_FILE", "COMPOSE_PATH_SEPARATOR", "DOCKER_HOST", "TZ")


class StackError(LgtmError):
    """The stack or the machine is not as it must be."""


class PortInUseError(StackError):
    """A port that a server would publish belongs to something else."""


@dataclass(frozen=True)
class Server:
    """A service of compose.yaml. ``image`` is without the registry: ``prom/prometheus:v3.15.0``."""

    name: str
    image: str
    profiles: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """The version as the image's tag has it, without a leading v."""
        return self.image.rpartition(":")[2].removeprefix("v")


@dataclass(frozen=True)
class Up:
    """What `up` brought about. ``left_out`` maps a server to the reason, one sentence."""

    addresses: Mapping[str, str]
    left_out: Mapping[str, str]
    password_file: Path
    changed: bool
    seconds: float
    grafana_user: str = "admin"


@dataclass(frozen=True)
class ServerStatus:
    """How one server is. ``memory`` is in bytes, without the page cache; ``detail`` says why it is not ready."""

    name: str
    version: str
    state: Literal["running", "starting", "restarting", "stopped", "absent", "unknown"]
    health: str | None = None
    ready: bool | None = None
    memory: int | None = None
    address: str | None = None
    detail: str = ""


@dataclass(frozen=True)
class Status:
    """All servers; ``problem`` is why Docker could not be asked, if it could not."""

    servers: tuple[ServerStatus, ...]
    problem: str | None = None

    @property
    def memory(self) -> int:
        """Bytes used by all running servers together."""
        return sum(server.memory or 0 for server in self.servers)

    @property
    def ready(self) -> bool:
        """Whether every server that is wanted is ready (an optional one may be absent)."""
        return self.problem is None and all(
            server.ready or (server.name in OPTIONAL and server.state == "absent") for server in self.servers
        )


@dataclass(frozen=True)
class Check:
    """One finding of `doctor`: what was looked at, how it is, what was seen and what cures it."""

    name: str
    level: Literal["ok", "warn", "fail"]
    detail: str
    cure: str = ""


@dataclass
class _Container:
    id: str
    state: str
    status: str
    started: str
    ports: set[int] = field(default_factory=set)
    directory: str = ""
    networks: frozenset[str] = frozenset()
    unreachable: bool = False

    @property
    def health(self) -> str | None:
        for word in ("healthy", "unhealthy", "starting"):
            if f"({word})" in self.status or f"(health: {word})" in self.status:
                return word
        return None


# --- Compose ------------------------------------------------------------------------------------------------


def servers(project: Project) -> dict[str, Server]:
    """The services of compose.yaml by name. Raises StackError when it cannot be read."""
    path = project.root / "compose.yaml"
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        return {
            name: Server(name, service["image"].split("}/", 1)[-1], tuple(service.get("profiles", ())))
            for name, service in data["services"].items()
        }
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise StackError(f"{path} cannot be used: {error}.", "Restore it: `git checkout compose.yaml`.") from error


def wanted(project: Project) -> dict[str, Server]:
    """The servers that this project's profiles ask for."""
    profiles = {word.strip() for word in project.settings.get("COMPOSE_PROFILES", "").split(",") if word.strip()}
    return {
        name: server
        for name, server in servers(project).items()
        if not server.profiles or "*" in profiles or profiles & set(server.profiles)
    }


def registry(project: Project) -> str:
    """Where the images in use come from: the setting, or what the last `up` had to choose instead of it."""
    return str(_kept(project).get("used", project.settings["REGISTRY"]))


def image(project: Project, server: str) -> str:
    """The full image reference of a server, as it is used here: ``localhost/prom/prometheus:v3.15.0``."""
    return f"{registry(project)}/{servers(project)[server].image}"


def compose_binary() -> list[str]:
    """The Compose command: of this environment, else of the machine. Raises StackError when there is none."""
    own = Path(sys.executable).parent / "docker-compose"
    if own.is_file():
        return [str(own)]
    if found := shutil.which("docker-compose"):
        return [found]
    raise StackError("Docker Compose is missing from this environment.", "Run `bin/setup`.")


def compose(project: Project, *words: str, environment: Mapping[str, str] | None = None) -> str:
    """Run Compose on the project and return what it wrote to standard output.

    Raises StackError with its last lines when it fails. On Ctrl-C it is given time to end by itself.
    """
    process = _compose_process(project, words, stderr=subprocess.PIPE, environment=environment)
    try:
        output, errors = process.communicate()
    except KeyboardInterrupt:
        _end(process)
        raise
    if process.returncode != 0:
        raise StackError(f"`docker compose {' '.join(words[:2])}` failed: {compose_failure(errors)}", compose_cure(errors))
    return output


def compose_failure(errors: str) -> str:
    """What Docker itself says in Compose's output, or the last lines where it says nothing.

    Compose does several things at once: the first failure cancels the others, whose "context canceled" hides it.
    """
    own = dict.fromkeys(line.strip() for line in re.findall(r"Error response from daemon: ([^\n;]+)", errors))
    return "; ".join(own) or engine.last_lines(errors, 4)


def compose_cure(errors: str) -> str:
    """What to do about a failure of Compose."""
    if "non-overlapping IPv4 address pool" in errors:
        return (
            "Docker has no range of addresses left for another network. `docker network ls` shows them, `docker network prune`"
            " deletes those that nothing uses; default-address-pools in /etc/docker/daemon.json gives it more."
        )
    if "no space left on device" in errors:
        return "The disk is full. `docker system df` shows what Docker keeps; `docker system prune` deletes what nothing uses."
    return "Run `lgtm doctor` to see what is wrong."


def _compose_process(
    project: Project, words: Sequence[str], *, stderr: int, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*compose_binary(), "--progress", "plain", *words],
        cwd=project.root,
        env=compose_environment(project, environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        errors="replace",
    )


def compose_environment(project: Project, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment that makes Compose read the same settings as we do, whatever its own reading of .env."""
    keep = {key: project.settings[key] for key in project.settings if key in DEFAULTS}
    return {**os.environ, **keep, "REGISTRY": registry(project), **_digests(project), **(more or {})}


def _digests(project: Project) -> dict[str, str]:
    """A hash of each server's hand-written configuration. Compose sees only that a mount is the same, not what is in it."""
    found = {}
    for server, names in READ_AT_START.items():
        digest = hashlib.sha256()
        for name in names:
            top = project.root / name
            for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
                if path.is_file():
                    digest.update(f"{path.relative_to(project.root).as_posix()}\0".encode())
                    digest.update(path.read_bytes())
        found[f"{server.upper()}_CONFIGURATION"] = digest.hexdigest()[:16]
    return found


def _end(process: subprocess.Popen[str]) -> None:
    """Let a child that may have had the same Ctrl-C finish; insist, politely at first."""
    for number in (None, signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        if number is not None:
            process.send_signal(number)
        try:
            process.communicate(timeout=10)
            return
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            continue
    process.communicate()


# --- up -----------------------------------------------------------------------------------------------------


def up(project: Project, report: Report, render: Render | None = None, *, timeout: float = 120) -> Up:
    """Start every server and wait, at most ``timeout`` seconds, until each says that it is ready.

    Run again it changes nothing that is as it should be. Before anything is started it refuses with PortInUseError when a
    port belongs to something else, and with whatever ``render`` raises. Raises StackError with the last log lines of the
    server that did not become ready; servers that were started stay, for `logs` and `status` to be asked.
    """
    begun = time.monotonic()
    engine.ensure(report)
    with contextlib.closing(engine.connect()) as client:
        chosen = wanted(project)
        before = _containers(project, client)
        check_name(project, before)
        check_ports(project, chosen, before)
        needs: dict[str, Mapping[str, bytes]] = dict((render(project) if render is not None else None) or {})
        secrets.ensure(project, report)
        needs["grafana"] = {
            **needs.get("grafana", {}),
            secrets.GRAFANA_PASSWORD: secrets.read(project, secrets.GRAFANA_PASSWORD),
        }
        # A stack that runs already should not wait again for a registry that did not answer.
        left_out = _have_images(project, chosen, client, report, again=not before)
        running = [name for name in chosen if name not in left_out]
        open_configuration(project)
        _write_optional_targets(project, running)
        environment = _bridge(project, client) if "node-exporter" in running else {}

        # Compose makes a network anew that was pruned or lost, but not the containers that were to be in it.
        there = {"", *(network["Id"] for network in client.api.networks())}
        if lost := [name for name, own in before.items() if own.networks - there]:
            report(f"{', '.join(lost)}: the network is gone, so a new container takes the place of the old one")
            for name in lost:
                client.api.remove_container(before.pop(name).id, force=True, v=True)
        if missing := [name for name in running if name not in before]:
            report(f"creating {', '.join(missing)}")
            compose(project, "create", "--no-build", "--pull", "never", *running, environment=environment)
        _fill_volumes(project, client, running, before, needs)
        if any(name not in before or before[name].state != "running" for name in running):
            report("starting the servers")
        for name in running:
            # Docker waits longer and longer before it restarts a server that failed; a stopped one starts at once.
            if name in before and before[name].state == "restarting":
                client.api.stop(before[name].id, timeout=1)
        compose(project, "up", "--detach", "--no-build", "--pull", "never", "--no-deps", *running, environment=environment)
        for name in before.keys() & (servers(project).keys() - set(running)):
            compose(project, "--profile", "*", "rm", "--stop", "--force", name)
        for name, own in _containers(project, client).items():
            # Interrupted at the wrong moment, a start can leave a server that runs and that nobody reaches, for good.
            if own.unreachable:
                report(f"restarting {name}, which runs without its port")
                client.api.restart(own.id, timeout=10)
        _wait_ready(project, client, running, report, timeout)
        after = _containers(project, client)
    return Up(
        addresses={name: project.url(name) for name in running if name in READY},
        left_out=left_out,
        password_file=secrets.directory(project) / secrets.GRAFANA_PASSWORD,
        changed={name: (c.id, c.started) for name, c in before.items()}
        != {name: (c.id, c.started) for name, c in after.items()},
        seconds=time.monotonic() - begun,
    )


def _containers(project: Project, client: docker.DockerClient) -> dict[str, _Container]:
    """The project's containers by service."""
    found: dict[str, _Container] = {}
    for entry in client.api.containers(all=True, filters={"label": f"com.docker.compose.project={project.compose_project}"}):
        labels = entry.get("Labels") or {}
        name = labels.get("com.docker.compose.service")
        if name and labels.get("com.docker.compose.oneoff", "False") != "True":
            # The list leaves out when a container was started, which tells a restart from no change.
            detail = client.api.inspect_container(entry["Id"])
            found[name] = _Container(
                id=entry["Id"],
                state=str(entry["State"]),
                status=str(entry.get("Status", "")),
                started=str(detail["State"].get("StartedAt", "")),
                ports={int(port["PublicPort"]) for port in entry.get("Ports") or () if port.get("PublicPort")},
                directory=labels.get("com.docker.compose.project.working_dir", ""),
                networks=frozenset(each["NetworkID"] for each in (detail["NetworkSettings"].get("Networks") or {}).values()),
                unreachable=unpublished(detail),
            )
    return found


def unpublished(detail: Mapping[str, Any]) -> bool:
    """Whether a container runs without any of the ports that it should publish, from what Docker says of it."""
    asked = (detail.get("HostConfig") or {}).get("PortBindings") or {}
    given = (detail.get("NetworkSettings") or {}).get("Ports") or {}
    return bool(asked) and detail["State"].get("Status") == "running" and not any(given.values())


def check_name(project: Project, present: Mapping[str, _Container]) -> None:
    """Raise StackError when another copy of the project, which still exists, has containers under the same name.

    Compose would take them for ours and put them onto this copy's configuration.
    """
    for own in present.values():
        if own.directory and Path(own.directory).resolve() != project.root and Path(own.directory).is_dir():
            raise StackError(
                f"The copy of this project in {own.directory} is up under the same name, {project.compose_project}.",
                "Run `make down` there, or set COMPOSE_PROJECT_NAME and the ports in .env here.",
            )


def check_ports(project: Project, chosen: Iterable[str], present: Mapping[str, _Container]) -> None:
    """Raise PortInUseError unless each port of the chosen servers is free or already theirs.

    Does nothing when the engine is on another machine: its ports cannot be tried from here.
    """
    if not _engine_is_local():
        return
    names = set(chosen)
    claimed: dict[int, str] = {}
    for setting, server in PORTS.items():
        if server not in names:
            continue
        port = project.port(setting)
        if port in claimed:
            raise PortInUseError(f"{setting} and {claimed[port]} are both {port}.", "Set one of them to another port in .env.")
        claimed[port] = setting
        own = present.get(server)
        if own is not None and port in own.ports:
            continue
        if not _port_is_free(project.settings["BIND_ADDRESS"], port):
            if _publishes(project, server, port):
                continue  # started after `present` was listed: an `up` that was interrupted may still be at it
            holder = _holder(port)
            raise PortInUseError(
                f"Port {port}, for {server}, is in use{f' by {holder}' if holder else ''}.",
                f"Stop that, or set {setting} to another port in .env.",
            )


def _publishes(project: Project, server: str, port: int) -> bool:
    with contextlib.suppress(LgtmError), contextlib.closing(engine.connect(timeout=5)) as client:
        own = _containers(project, client).get(server)
        return own is not None and port in own.ports
    return False


def _engine_is_local() -> bool:
    address = engine.address()
    return address is None or address.startswith(("unix://", "npipe://"))


def _port_is_free(address: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        # Connections of a server that has just ended are no obstacle; a listener still is one.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            return error.errno != errno.EADDRINUSE
        return True


def _holder(port: int) -> str | None:
    """Who listens on a TCP port of this machine: a container, or a process with its id. None when it cannot be known."""
    with contextlib.suppress(LgtmError), contextlib.closing(engine.connect(timeout=5)) as client:
        for entry in client.api.containers():
            if any(published.get("PublicPort") == port for published in entry.get("Ports") or ()):
                return f"the container {entry['Names'][0].lstrip('/')}"
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
                words = line.split()
                if words[3] == "0A" and int(words[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{words[9]}]")
    if not inodes:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(handle.readlink()) in inodes for handle in (process / "fd").iterdir()):
                name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
                return f"{name} (process {process.name})"
        except OSError:
            continue  # it ended meanwhile, or belongs to another user
    return None


def get_images(project: Project, report: Report, *, again: bool = True) -> dict[str, str]:
    """Have the images of the wanted servers here, without starting anything; may take half an hour where they are built.

    Returns the optional servers whose image could not be had, with the reason. Unless ``again``, one that could not be had
    last time is not asked for. Raises LgtmError.
    """
    engine.ensure(report)
    with contextlib.closing(engine.connect()) as client:
        return _have_images(project, wanted(project), client, report, again=again)


def _have_images(
    project: Project, chosen: Mapping[str, Server], client: docker.DockerClient, report: Report, *, again: bool
) -> dict[str, str]:
    """Get the images; returns the optional servers that must be left out, with the reason.

    Keeps the registry that the images came from, so that later commands find the same ones. Unless ``again``, an optional
    image that could not be had last time is not asked for: a registry that does not answer costs seconds.
    """
    from generator import images

    asked = project.settings["REGISTRY"]
    recipes = {
        recipe.image: recipe.digest
        for recipe in images.load_recipes(project.root / "images").values()
        if registry(project) == images.BUILT_REGISTRY
    }
    absent = {name for name, server in chosen.items() if not _present(client, f"{registry(project)}/{server.image}")}
    left_out = {name: f"its image {chosen[name].image} could not be had from {asked}" for name in absent}
    if _kept(project).get("recipes") == recipes and (
        not absent or (not again and absent <= set(OPTIONAL) & set(_kept(project).get("absent", ())))
    ):
        return left_out

    result = images.ensure([server.image for server in chosen.values()], project.root, report, registry=asked)
    gone = {name: result.reason for name, server in chosen.items() if server.image in result.absent}
    if needed := set(gone) - set(OPTIONAL):
        raise StackError(f"No image for {', '.join(sorted(needed))}: {result.reason}", "Run `lgtm doctor`.")
    state = project.root / ".lgtm"
    state.mkdir(exist_ok=True)
    new = state / "registry.json.new"
    built = images.load_recipes(project.root / "images").values() if result.registry == images.BUILT_REGISTRY else ()
    kept = {
        "asked": asked,
        "used": result.registry,
        "recipes": {recipe.image: recipe.digest for recipe in built},
        "absent": sorted(gone),
    }
    new.write_text(json.dumps(kept, indent=1), encoding="utf-8")
    new.replace(state / "registry.json")
    return gone


def _kept(project: Project) -> dict[str, Any]:
    """What the last search for images found: ``asked``, ``used``, ``recipes``, ``absent``; empty when unknown."""
    try:
        kept = json.loads((project.root / ".lgtm" / "registry.json").read_text(encoding="utf-8"))
        return kept if isinstance(kept, dict) and kept["asked"] == project.settings["REGISTRY"] else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _present(client: docker.DockerClient, reference: str) -> bool:
    from docker.errors import ImageNotFound

    try:
        client.images.get(reference)
        return True
    except ImageNotFound:
        return False


def open_configuration(project: Project) -> None:
    """Let the servers' users read what is mounted from the project, also where the umask is 077.

    Nothing secret is in these directories. Raises StackError when a file belongs to someone else and is closed.
    """
    for name in NEEDED:
        (project.root / name).mkdir(parents=True, exist_ok=True)
    for name in CONFIGURATION:
        top = project.root / name
        top.mkdir(exist_ok=True)
        for path in (top, *top.rglob("*")):
            if path.is_symlink():
                continue
            mode = path.stat().st_mode
            open_mode = mode | (0o055 if path.is_dir() else 0o044)
            if open_mode != mode:
                try:
                    path.chmod(open_mode & 0o7777)
                except OSError as error:
                    raise StackError(
                        f"{path} is closed to the servers, and its mode cannot be changed: {error.strerror}.",
                        f"Run `sudo chmod -R go+rX {top}`.",
                    ) from error


def _write_optional_targets(project: Project, running: Sequence[str]) -> None:
    """Tell Prometheus which of the optional servers there are."""
    place = project.root / ".lgtm" / "targets"
    place.mkdir(parents=True, exist_ok=True)
    addresses = {
        "grafana": "grafana:3000",
        "node-exporter": f"host.docker.internal:{project.settings['NODE_EXPORTER_PORT']}",
    }
    groups = [{"targets": [addresses[name]], "labels": {"job": name}} for name in OPTIONAL if name in running]
    text = json.dumps(groups, indent=1)
    path = place / "optional.json"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        fresh = place / "optional.json.new"  # not read by Prometheus, which looks for *.json
        fresh.write_text(text, encoding="utf-8")
        fresh.chmod(0o644)
        fresh.replace(path)
    for directory in (place, place.parent):
        directory.chmod(0o755)


def _bridge(project: Project, client: docker.DockerClient) -> dict[str, str]:
    """The address of Docker's default bridge on the host, unless set: what `host-gateway` means to containers."""
    if os.environ.get("DOCKER_BRIDGE_ADDRESS") or project.settings.get("DOCKER_BRIDGE_ADDRESS"):
        return {}
    for block in client.api.inspect_network("bridge")["IPAM"]["Config"] or ():
        if block.get("Gateway"):
            return {"DOCKER_BRIDGE_ADDRESS": block["Gateway"]}
    return {}


def _fill_volumes(
    project: Project,
    client: docker.DockerClient,
    running: Sequence[str],
    before: Mapping[str, _Container],
    needs: Secrets,
) -> None:
    """Owners of data volumes, for servers about to start, and the secrets of all that have some."""
    from docker.errors import DockerException

    try:
        for stale in client.api.containers(all=True, filters={"label": f"lgtm.helper={project.compose_project}"}):
            client.api.remove_container(stale["Id"], force=True, v=True)  # of a run that was killed
        jobs: list[Callable[[], object]] = []
        for name in running:
            if name in DATA and (name not in before or before[name].state != "running"):
                volume, path = DATA[name]
                jobs.append(lambda n=name, v=volume, p=path: secrets.own_volume(project, client, n, v, p))  # type: ignore[misc]
            if name in needs:
                jobs.append(lambda n=name: secrets.sync(project, n, needs[n], client=client))  # type: ignore[misc]
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            for job in [pool.submit(job) for job in jobs]:
                job.result()
    except DockerException as error:
        raise StackError(f"A volume could not be prepared: {error}.", "Run `lgtm doctor`.") from error


def _wait_ready(project: Project, client: docker.DockerClient, names: Sequence[str], report: Report, timeout: float) -> None:
    waiting = {name for name in names if name in READY}
    begun = time.monotonic()
    said = 0.0
    while True:
        with concurrent.futures.ThreadPoolExecutor(len(READY)) as pool:
            for name, (ready, why) in zip(
                sorted(waiting), pool.map(lambda n: is_ready(project, n), sorted(waiting)), strict=True
            ):
                if ready:
                    waiting.discard(name)
                    if said:
                        report(f"{name} is ready")
                else:
                    last_reason = why
        if not waiting:
            return
        elapsed = time.monotonic() - begun
        present = _containers(project, client)
        for name in sorted(waiting):
            own = present.get(name)
            # A server that refuses its configuration ends at once and is restarted for ever: no use to wait for it.
            failed = own is None or own.state in ("exited", "dead", "restarting")
            if failed and elapsed > 2:
                raise StackError(
                    f"{name} does not stay up. Its last lines:\n{_log_tail(project, client, name)}",
                    f"`lgtm logs {name}` shows all of them.",
                )
        if elapsed > timeout:
            name = sorted(waiting)[0]
            raise StackError(
                f"{', '.join(sorted(waiting))} not ready after {timeout:.0f} s ({last_reason}). "
                f"Last lines of {name}:\n{_log_tail(project, client, name)}",
                f"`lgtm logs {name}` shows all of them; `lgtm doctor` looks at the machine.",
            )
        if elapsed - said >= 5 or not said:
            said = max(elapsed, 0.001)
            report(f"waiting for {', '.join(sorted(waiting))}")
        time.sleep(0.25)


def is_ready(project: Project, server: str, timeout: float = 2) -> tuple[bool, str]:
    """Whether a server answers 200 at its ready endpoint, and if not, why. A refused connection is not ready."""
    try:
        # No proxy: these are addresses of this machine.
        with requests.Session() as session:
            session.trust_env = False
            answer = session.get(project.url(server) + READY[server], timeout=timeout)
    except requests.ConnectionError:
        return False, "no connection"
    except requests.RequestException as error:
        return False, f"no answer ({type(error).__name__})"
    if answer.status_code != 200:
        first = answer.text.strip().splitlines()[:1]
        return False, f"answers {answer.status_code}{': ' + first[0][:120] if first else ''}"
    return True, ""


def _log_tail(project: Project, client: docker.DockerClient, name: str, lines: int = 12) -> str:
    from docker.errors import DockerException

    own = _containers(project, client).get(name)
    if own is None:
        return "  (it has no container)"
    try:
        raw: bytes = client.api.logs(own.id, tail=lines)
    except DockerException as error:
        return f"  (its log cannot be read: {error})"
    # A server that is restarted over and over says the same each time.
    said = list(dict.fromkeys(raw.decode(errors="replace").splitlines()))
    return "\n".join(f"  {line}" for line in said) or "  (it has logged nothing)"


# --- down, destroy, logs ------------------------------------------------------------------------------------


def down(project: Project, report: Report) -> bool:
    """Stop and remove the containers; data and secrets stay. Returns whether there were any."""
    with contextlib.closing(engine.connect()) as client:
        present = _containers(project, client)
        _remove_helpers(project, client)
    if not present:
        return False
    report(f"stopping {', '.join(sorted(present))}")
    compose(project, "--profile", "*", "down")
    return True


def volumes(project: Project) -> list[str]:
    """The names of the volumes that `destroy` would delete."""
    with contextlib.closing(engine.connect()) as client:
        found = client.api.volumes(filters={"label": f"com.docker.compose.project={project.compose_project}"})
        return sorted(entry["Name"] for entry in found["Volumes"] or ())


def destroy(project: Project, report: Report) -> None:
    """Delete the containers and all their data. Ask the user before calling this. Files of the project stay."""
    with contextlib.closing(engine.connect()) as client:
        _remove_helpers(project, client)
    report("deleting the containers and their volumes")
    compose(project, "--profile", "*", "down", "--volumes", "--timeout", "5")


def _remove_helpers(project: Project, client: docker.DockerClient) -> None:
    for stale in client.api.containers(all=True, filters={"label": f"lgtm.helper={project.compose_project}"}):
        client.api.remove_container(stale["Id"], force=True, v=True)


def logs(project: Project, names: Sequence[str] = (), *, follow: bool = False, tail: int = 100) -> Iterator[str]:
    """Yield the servers' log lines, the last ``tail`` of each first; with ``follow``, go on until closed or Ctrl-C.

    Raises StackError for a name that is no server.
    """
    known = servers(project)
    for name in names:
        if name not in known:
            raise StackError(f"{name} is not a server.", f"One of {', '.join(known)}.")
    words = ["--profile", "*", "logs", "--no-color", "--tail", str(tail), *(["--follow"] if follow else []), *names]
    process = _compose_process(project, words, stderr=subprocess.STDOUT)
    assert process.stdout is not None  # noqa: S101 - for the type checker: it is a pipe
    try:
        for line in process.stdout:
            yield line.rstrip("\n")
    finally:
        if process.poll() is None:
            process.terminate()
        process.stdout.close()
        process.wait()


# --- status -------------------------------------------------------------------------------------------------


def status(project: Project) -> Status:
    """How each server is now. Never raises for a Docker that is stopped: everything is then ``unknown``."""
    chosen = wanted(project)
    try:
        client = engine.connect(timeout=10)
    except DockerUnavailableError as error:
        return Status(tuple(ServerStatus(name, server.version, "unknown") for name, server in chosen.items()), error.message)
    with contextlib.closing(client):
        present = _containers(project, client)
        names = [name for name in servers(project) if name in chosen or name in present]
        with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
            every = servers(project)
            return Status(tuple(pool.map(lambda name: _server_status(project, client, every[name], present.get(name)), names)))


def _server_status(project: Project, client: docker.DockerClient, server: Server, own: _Container | None) -> ServerStatus:
    if own is None:
        return ServerStatus(server.name, server.version, "absent", ready=False, detail="not created")
    if own.state != "running":
        state: Literal["restarting", "stopped"] = "restarting" if own.state == "restarting" else "stopped"
        return ServerStatus(server.name, server.version, state, ready=False, detail=own.status)
    ready, why = is_ready(project, server.name) if server.name in READY else (True, "")
    return ServerStatus(
        server.name,
        server.version,
        "running",
        health=own.health,
        ready=ready,
        memory=_memory(client, own.id),
        address=project.url(server.name) if server.name in READY else None,
        detail=why,
    )


def _memory(client: docker.DockerClient, container: str) -> int | None:
    """Bytes that a container uses, without page cache that the kernel would give back."""
    from docker.errors import DockerException

    try:
        numbers: dict[str, Any] = client.api.stats(container, stream=False, one_shot=True)
        memory = numbers["memory_stats"]
        cache = memory["stats"].get("inactive_file", memory["stats"].get("total_inactive_file", 0))
        return int(memory["usage"]) - int(cache)
    except (DockerException, KeyError, TypeError):
        return None


# --- doctor -------------------------------------------------------------------------------------------------


def doctor(project: Project) -> list[Check]:
    """Look at the machine and the project, and say for each thing how it is. Changes nothing."""
    found: list[Check] = []
    try:
        binary = compose_binary()
        version = subprocess.run([*binary, "version", "--short"], capture_output=True, text=True, check=False)
        found.append(Check("compose", "ok", version.stdout.strip()))
    except (StackError, OSError) as error:
        found.append(Check("compose", "fail", str(error).splitlines()[0], "Run `bin/setup`."))
    try:
        client = engine.connect(timeout=10)
    except DockerUnavailableError as error:
        found.append(Check("docker", "fail", error.message, error.hint or ""))
        found += _check_env_file(project) + _check_secrets(project) + _check_files(project)
        return found
    with contextlib.closing(client):
        info = client.api.info()
        found.append(Check("docker", "ok", f"engine {info.get('ServerVersion')}"))
        found += _check_clock(info)
        found += _check_memory(info)
        found += _check_disk(project, info)
        present = _containers(project, client)
        found += _check_ports(project, present)
        found += _check_images(project, client)
        found += _check_env_file(project)
        found += _check_secrets(project)
        found += _check_files(project)
        found += _check_firewall()
        found += _check_servers(project, present)
    return found


def _check_clock(info: Mapping[str, Any]) -> list[Check]:
    try:
        skew = abs(datetime.fromisoformat(str(info["SystemTime"])).timestamp() - time.time())
    except (ValueError, KeyError):
        return []  # an engine that does not say
    if skew > 5:
        return [
            Check(
                "clock",
                "fail",
                f"Docker's clock differs from this machine's by {skew:.0f} s",
                "Restart Docker Desktop, or set the time (`timedatectl set-ntp true`).",
            )
        ]
    return [Check("clock", "ok", "Docker's clock agrees with this machine's")]


def _check_memory(info: Mapping[str, Any]) -> list[Check]:
    total = int(info.get("MemTotal", 0))
    detail = f"{total / 2**30:.1f} GiB for containers"
    if total < 1.5 * 2**30:
        return [Check("memory", "fail", detail, "Give Docker at least 2 GiB; the stack uses about 0.8 GiB when idle.")]
    if total < 3 * 2**30:
        return [Check("memory", "warn", detail, "4 GiB leave room for long queries.")]
    return [Check("memory", "ok", detail)]


def _check_disk(project: Project, info: Mapping[str, Any]) -> list[Check]:
    root = Path(str(info.get("DockerRootDir", "/var/lib/docker")))
    place = root if root.exists() else project.root
    try:
        free = shutil.disk_usage(place).free
    except OSError:
        return []
    detail = f"{free / 1e9:.0f} GB free under {place}"
    if free < 2e9:
        return [Check("disk", "fail", detail, "Free some: `docker system df` shows what Docker holds.")]
    found = [Check("disk", "warn" if free < 10e9 else "ok", detail, "10 GB are a comfortable start." if free < 10e9 else "")]
    limit = parse_size(project.settings["PROMETHEUS_RETENTION_SIZE"])
    if limit is None:
        found.append(
            Check(
                "retention",
                "fail",
                f"PROMETHEUS_RETENTION_SIZE={project.settings['PROMETHEUS_RETENTION_SIZE']} is not a size",
                "Write it like 20GB in .env.",
            )
        )
    elif limit and limit > free * 0.8:
        found.append(
            Check(
                "retention",
                "warn",
                f"metrics may grow to {limit / 1e9:.0f} GB, and {free / 1e9:.0f} GB are free",
                "Lower PROMETHEUS_RETENTION_SIZE in .env.",
            )
        )
    else:
        found.append(Check("retention", "ok", f"metrics at most {limit / 1e9:.0f} GB" if limit else "no size limit"))
    return found


def parse_size(text: str) -> int | None:
    """Bytes of a size as Prometheus writes it (``512MB``, powers of 1024); None when it is not one; 0 means no limit."""
    units = {"B": 0, "KB": 1, "MB": 2, "GB": 3, "TB": 4, "PB": 5, "EB": 6}
    digits = text.rstrip("BKMGTPE")
    unit = text[len(digits) :]
    if digits == "0" and not unit:
        return 0
    if not digits.isdecimal() or unit not in units:
        return None
    return int(digits) << (10 * units[unit])


def _check_ports(project: Project, present: Mapping[str, _Container]) -> list[Check]:
    found = []
    for setting, server in PORTS.items():
        try:
            check_one = {server: present[server]} if server in present else {}
            port = project.port(setting)
            own = check_one.get(server)
            if (own is None or port not in own.ports) and not _port_is_free(project.settings["BIND_ADDRESS"], port):
                holder = _holder(port) or "something"
                found.append(
                    Check(
                        "ports",
                        "fail",
                        f"port {port}, for {server}, is in use by {holder}",
                        f"Stop that, or set {setting} to another port in .env.",
                    )
                )
        except LgtmError as error:
            found.append(Check("ports", "fail", error.message, error.hint or ""))
    if project.settings["BIND_ADDRESS"] not in ("127.0.0.1", "::1", "localhost"):
        found.append(
            Check(
                "ports",
                "warn",
                f"the servers listen on {project.settings['BIND_ADDRESS']}, and only Grafana asks for a password",
                "Remove BIND_ADDRESS from .env, or put a proxy with a login in front.",
            )
        )
    return found or [Check("ports", "ok", "all free or ours, on loopback only")]


def _check_images(project: Project, client: docker.DockerClient) -> list[Check]:
    used = registry(project)
    missing = [server.image for server in wanted(project).values() if not _present(client, f"{used}/{server.image}")]
    if not missing:
        return [Check("images", "ok", f"all present, from {used}")]
    return [
        Check(
            "images",
            "warn",
            f"not here yet: {', '.join(missing)}",
            f"`make up` gets them from {project.settings['REGISTRY']}, or builds them (grafana cannot be built).",
        )
    ]


def _check_env_file(project: Project) -> list[Check]:
    path = project.root / ".env"
    if not path.exists():
        return [Check(".env", "ok", "none: all settings have their defaults")]
    known = {*DEFAULTS, *OTHER_SETTINGS}
    unknown = sorted(key for key in dotenv_values(path) if key not in known)
    if unknown:
        return [Check(".env", "warn", f"unknown: {', '.join(unknown)}", "See .env.example for what there is.")]
    return [Check(".env", "ok", "every setting is known")]


def _check_secrets(project: Project) -> list[Check]:
    place = secrets.directory(project)
    if not (place / secrets.GRAFANA_PASSWORD).exists():
        return [Check("secrets", "ok", "Grafana's password will be made by the first `make up`")]
    loose = [path.name for path in (place, *place.iterdir()) if path.name != "README.md" and path.stat().st_mode & 0o077]
    if loose:
        return [Check("secrets", "fail", f"open to other users: {', '.join(loose)}", "`make up` closes them.")]
    return [Check("secrets", "ok", "closed to other users")]


def _check_files(project: Project) -> list[Check]:
    closed = [
        str(path.relative_to(project.root))
        for name in CONFIGURATION
        for path in (project.root / name).rglob("*")
        if not path.is_symlink() and not path.stat().st_mode & 0o004
    ]
    if closed:
        return [Check("files", "warn", f"the servers cannot read {', '.join(closed[:5])}", "`make up` opens them.")]
    return [Check("files", "ok", "the servers can read their configuration")]


def _check_firewall() -> list[Check]:
    """ufw drops what containers send to the host, unless told otherwise: a probe of a service on the host then times out."""
    try:
        active = "ENABLED=yes" in Path("/etc/ufw/ufw.conf").read_text(encoding="utf-8")
    except OSError:
        return []
    if not active:
        return []
    return [
        Check(
            "firewall",
            "warn",
            "ufw is on: it drops what containers send to services on this machine",
            "Allow it: `sudo ufw allow in from 172.16.0.0/12`.",
        )
    ]


def _check_servers(project: Project, present: Mapping[str, _Container]) -> list[Check]:
    if not present:
        return [Check("servers", "ok", "not started")]
    found = []
    for name in wanted(project):
        if name not in present or name not in READY:
            continue
        ready, why = is_ready(project, name)
        if not ready:
            found.append(Check("servers", "fail", f"{name}: {why}", f"`lgtm logs {name}` shows what it says."))
    return found or [Check("servers", "ok", "every server is ready")]
