"""The Docker engine of this machine: find it, install and start it where that is for us to do, and say what is the matter."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import requests

from generator.errors import LgtmError
from generator.progress import Report

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container


DEFAULT_SOCKET = "/var/run/docker.sock"
# What a daemon says that we started ourselves.
DAEMON_LOG = Path("/var/log/dockerd.log")


class DockerUnavailableError(LgtmError):
    """Docker is missing, stopped, or not permitted."""


def address() -> str | None:
    """Where the Docker command-line client would look: DOCKER_HOST, its context, or None for the default socket."""
    if host := os.environ.get("DOCKER_HOST"):
        return host
    home = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    name = os.environ.get("DOCKER_CONTEXT")
    try:
        if not name:
            name = json.loads((home / "config.json").read_text(encoding="utf-8")).get("currentContext")
        if not name or name == "default":
            return None
        # The client files a context under the hash of its name.
        meta = home / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest() / "meta.json"
        host = json.loads(meta.read_text(encoding="utf-8"))["Endpoints"]["docker"]["Host"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return str(host) or None


def connect(timeout: int = 60) -> docker.DockerClient:
    """A client of the running engine; the caller closes it. Raises DockerUnavailableError when there is none."""
    import docker  # a quarter of a second: commands that need no engine should not pay for it
    from docker.errors import DockerException

    where = address()
    path = (where or f"unix://{DEFAULT_SOCKET}").partition("unix://")[2]
    if path:
        # The plain error of a plain socket says best what is the matter; the client wraps it thrice and leaks its own.
        try:
            with contextlib.closing(socket.socket(socket.AF_UNIX)) as probe:
                probe.settimeout(timeout)
                probe.connect(path)
        except OSError as error:
            raise _unavailable(error, where) from error
    client: docker.DockerClient | None = None
    try:
        if where is None or os.environ.get("DOCKER_HOST"):
            client = docker.DockerClient.from_env(timeout=timeout)
        else:
            client = docker.DockerClient(base_url=where, timeout=timeout)
        client.ping()
    except (DockerException, requests.RequestException) as error:
        if client is not None:
            client.close()
        raise _unavailable(error, where) from error
    return client


def _unavailable(error: Exception, where: str | None) -> DockerUnavailableError:
    if "Permission denied" in str(error) or "PermissionError" in str(error):
        return DockerUnavailableError(
            "You are not permitted to use Docker.",
            "Run `sudo usermod -aG docker $USER`, log out and in again, then try once more.",
        )
    if where is not None:
        return DockerUnavailableError(
            f"Docker does not answer at {where}.",
            "Start it there (Docker Desktop: open the application), or unset DOCKER_HOST / `docker context use default`.",
        )
    if shutil.which("dockerd") is None:
        return DockerUnavailableError(
            "Docker is not installed.",
            "On Debian or Ubuntu: `sudo apt-get update && sudo apt-get install -y docker.io`. Elsewhere: Docker Desktop.",
        )
    return DockerUnavailableError("Docker is installed but not running.", "Run `sudo systemctl start docker`.")


def ensure(report: Report) -> None:
    """Have an engine that answers: on Debian and Ubuntu root may install and start it.

    Raises DockerUnavailableError, with the commands to run, where that is not for us to do.
    """
    try:
        connect(timeout=10).close()
        return
    except DockerUnavailableError as error:
        if address() is not None or os.geteuid() != 0 or "not permitted" in error.message:
            raise
        if shutil.which("dockerd") is None:
            if shutil.which("apt-get") is None:
                raise
            _install_docker(report)
    _start_docker(report)


def _install_docker(report: Report) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words, said in (
        (["apt-get", "update"], "reading Debian's package lists"),
        (["apt-get", "install", "-y", "--no-install-recommends", "docker.io"], "installing Docker"),
    ):
        report(said)
        result = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
        if result.returncode != 0:
            raise DockerUnavailableError(
                f"`{' '.join(words)}` failed: {last_lines(result.stderr or result.stdout, 3)}",
                "Mend that, or install Docker another way, then try again.",
            )


def _start_docker(report: Report) -> None:
    report("starting Docker")
    if _started_as_service():
        return
    # No service manager, as in a container or a minimal machine: run the daemon itself, apart from this terminal.
    said = _run_daemon()
    if said is not None and (aside := set_networks_aside(said, _data_root())):
        report(f"Docker had ended in the middle of making a network and could not read its list of them: it is kept as {aside}")
        report("starting Docker with a new list; networks that Compose made are made again when they are next needed")
        said = None if _started_as_service() else _run_daemon()
        if said is None:
            _delete_lost_bridges()
    if said is not None:
        raise DockerUnavailableError(f"Docker did not start: {reason(said)}", f"Its whole log is in {DAEMON_LOG}.")


def _started_as_service() -> bool:
    words: list[list[str]] = []
    if Path("/run/systemd/system").is_dir():
        # After a few failed starts systemd refuses the next one until it is told to forget them.
        words = [["systemctl", "reset-failed", "docker"], ["systemctl", "start", "docker"]]
    elif Path("/etc/init.d/docker").exists() and shutil.which("service"):
        words = [["service", "docker", "start"]]
    for each in words:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(each, capture_output=True, timeout=60, check=False)
    return bool(words) and _answers(20)


def _run_daemon() -> str | None:
    """Start the daemon and wait a minute for its answer. Returns what it logged if it gave none, else None."""
    with DAEMON_LOG.open("ab") as sink:
        begin = sink.tell()
        daemon = subprocess.Popen(
            [shutil.which("dockerd") or "dockerd"],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if _answers(1):
            daemon.returncode = 0  # it is meant to outlive us: no warning about a child left behind
            return None
        if daemon.poll() is not None:
            break
    with DAEMON_LOG.open("rb") as log:
        log.seek(begin)
        return log.read().decode(errors="replace")


def reason(said: str) -> str:
    """Why a daemon ended, from what it logged: the line of its panic, else its last lines. The frames tell a person nothing."""
    panic = re.search(r"^(?:panic|fatal error): .*", said, re.MULTILINE)
    return panic[0] if panic else last_lines(said, 3)


def set_networks_aside(said: str, data: Path) -> Path | None:
    """Rename Docker's list of networks if what the daemon logged shows that it ended by reading it. Returns the new name.

    A daemon that is killed while it makes a network leaves one without addresses in the list, and up to 20.10.24 no daemon
    starts on that (moby issue 45057, whose maintainers say to remove the file). ``data`` is the daemon's data directory.
    """
    if "panic: " not in said or "libnetwork.(*controller).reservePools" not in said:
        return None
    networks = data / "network" / "files" / "local-kv.db"
    aside = networks.with_name(f"{networks.name}.{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    try:
        networks.rename(aside)
    except OSError:
        return None
    return aside


def _delete_lost_bridges() -> None:
    """Delete the bridges of networks that are no longer in Docker's list: it gives no addresses that a bridge still has.

    For a daemon that has just started with a new list: it stopped what ran before, so nothing is connected to them.
    """
    if (ip := shutil.which("ip")) is None:
        return  # then the 30 or so networks that Docker has addresses for are fewer, until the machine starts anew
    with contextlib.closing(connect()) as client:
        known = {f"br-{network['Id'][:12]}" for network in client.api.networks()}
    for bridge in Path("/sys/class/net").glob("br-????????????"):
        if re.fullmatch("br-[0-9a-f]{12}", bridge.name) and bridge.name not in known:
            subprocess.run([ip, "link", "delete", bridge.name], capture_output=True, check=False)


def _data_root() -> Path:
    try:
        return Path(json.loads(Path("/etc/docker/daemon.json").read_text(encoding="utf-8"))["data-root"])
    except (OSError, ValueError, KeyError, TypeError):
        return Path("/var/lib/docker")


def _answers(seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while True:
        try:
            connect(timeout=5).close()
            return True
        except DockerUnavailableError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.3)


@dataclass(frozen=True)
class Done:
    """A command that ended: ``code`` is None where its container went away meanwhile."""

    code: int | None
    output: bytes
    errors: bytes


def execute(container: Container, words: Sequence[str]) -> Done:
    """Run a command in a running container, and wait for its end. Raises docker.errors.APIError.

    docker-py's own ``exec_run`` reads from the bare socket what the HTTP client may have in its buffer already, and loses
    the beginning of what was printed when it came together with the headers (docker-py issues 425 and 3332). Without a
    request to upgrade the connection, Docker sends the same frames as the body of a plain answer.
    """
    from docker.errors import create_api_error_from_http_exception

    assert container.client is not None  # noqa: S101 - for the type checker
    api = container.client.api
    made = api.exec_create(container.id, list(words))
    url = f"{api.base_url}/v{api.api_version}/exec/{made['Id']}/start"
    answer = api.post(url, json={"Detach": False, "Tty": False})
    try:
        answer.raise_for_status()
    except requests.HTTPError as error:
        create_api_error_from_http_exception(error)
    streams = {1: bytearray(), 2: bytearray()}
    at, body = 0, answer.content
    while at < len(body):
        # A frame: which stream, three bytes of nothing, the length, and so many bytes of it.
        stream, length = struct.unpack_from(">BxxxL", body, at)
        streams[stream] += body[at + 8 : at + 8 + length]
        at += 8 + length
    code = api.exec_inspect(made["Id"])["ExitCode"]
    return Done(None if code is None else int(code), bytes(streams[1]), bytes(streams[2]))


def last_lines(text: str, lines: int) -> str:
    """The end of a program's output as one line."""
    return "; ".join(line.strip() for line in text.strip().splitlines()[-lines:]) or "it said nothing"
