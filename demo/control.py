"""Start, stop, break and heal the demo: a background process on this machine, one per project."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import importlib.util
import ipaddress
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import requests

from generator.errors import LgtmError
from generator.progress import Report
from generator.project import Project

LOOPBACK = "127.0.0.1"
DEFAULT_RATE = 12.0
DEFAULT_HEARTBEAT = 150.0
START_SECONDS = 20.0
STOP_SECONDS = 8.0
# What the demo needs beside the generator; imported lazily, so that `lgtm` works without it.
_NEEDS = ("fastapi", "uvicorn", "httpx", "prometheus_client", "opentelemetry.sdk", "opentelemetry.exporter.otlp")


@dataclass(frozen=True)
class Running:
    """A demo that runs. ``started`` is Unix time; ``state`` is its own report, None when it does not answer."""

    pid: int
    url: str
    pager_url: str
    started: float
    log: Path
    state: dict[str, Any] | None


def docker_bridge_address() -> str | None:
    """The host's address on Docker's default bridge, which ``host.docker.internal:host-gateway`` means in a container.

    None where there is no Docker or where the bridge is not on this machine (Docker Desktop forwards to loopback).
    """
    import docker
    from docker.errors import DockerException

    try:
        client = docker.from_env(timeout=3)
        try:
            configs = client.networks.get("bridge").attrs["IPAM"]["Config"] or []
        finally:
            client.close()
    except (DockerException, requests.RequestException, KeyError, TypeError):
        return None
    for config in configs:
        # Docker 20.10 names no gateway until it has started a container; then it is the subnet's first address.
        gateway = config.get("Gateway")
        if not gateway:
            with contextlib.suppress(KeyError, ValueError, StopIteration):
                gateway = str(next(ipaddress.ip_network(config["Subnet"]).hosts()))
        if gateway and ":" not in gateway and _can_bind(gateway, 0) is None:
            return str(gateway)
    return None


def _can_bind(address: str, port: int) -> OSError | None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            return error
    return None


def _directory(project: Project) -> Path:
    return project.root / ".lgtm"


def _url(project: Project) -> str:
    return f"http://{LOOPBACK}:{project.port('DEMO_PORT')}"


def pager_url(project: Project) -> str:
    """Where the pager's notifications are read on this machine."""
    return f"http://{LOOPBACK}:{project.port('DEMO_PAGER_PORT')}"


def _holder(project: Project) -> dict[str, Any] | None:
    """What the running demo wrote into its lock file; None when no process holds the lock."""
    path = _directory(project) / "demo.lock"
    try:
        with path.open("r+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                with contextlib.suppress(ValueError):
                    return cast("dict[str, Any]", json.loads(file.read()))
                return {}
    except FileNotFoundError:
        return None
    return None


def _get(url: str, seconds: float = 2.0) -> Any:
    return _request("GET", url, seconds=seconds).json()


def _request(method: str, url: str, body: object = None, seconds: float = 5.0) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False  # a proxy for the web does not lead to this machine
        return session.request(method, url, json=body, timeout=seconds)


def status(project: Project) -> Running | None:
    """The running demo of this project, or None."""
    holder = _holder(project)
    if not holder or "pid" not in holder:
        return None
    # The settings may have changed since it was started: ask it where it said it listens.
    url = f"http://{LOOPBACK}:{holder['port']}"
    state = None
    with contextlib.suppress(requests.RequestException, ValueError):
        state = _get(f"{url}/demo/state")
    return Running(
        holder["pid"],
        url,
        state["pager"] if state else pager_url(project),
        holder["started"],
        _directory(project) / "demo.log",
        state,
    )


def _check_ports(project: Project, addresses: list[str]) -> None:
    for setting in ("DEMO_PORT", "DEMO_PAGER_PORT"):
        port = project.port(setting)
        for address in addresses:
            error = _can_bind(address, port)
            if error is None:
                continue
            if error.errno == errno.EADDRINUSE:
                raise LgtmError(
                    f"Port {port} on {address} is in use by another program.",
                    f"Stop that program, or set {setting} to a free port in .env.",
                )
            raise LgtmError(
                f"The demo cannot listen on {address}:{port}: {error.strerror}.",
                f"Set {setting} to another port in .env.",
            )


def start(project: Project, report: Report, rate: float = DEFAULT_RATE, heartbeat: float = DEFAULT_HEARTBEAT) -> Running:
    """Start the demo in the background and wait until it answers; when it already runs, say so and change nothing.

    ``rate`` is the requests per second that its users send; 0 for none. ``heartbeat`` is how many seconds without a beat
    the pager waits before it says so. Raises LgtmError when a port is taken, a
    package is missing or the demo does not come up.
    """
    running = status(project)
    if running is not None:
        report(f"The demo already runs at {running.url} (process {running.pid}).")
        return running
    missing = [name for name in _NEEDS if _missing(name)]
    if missing:
        raise LgtmError(
            f"The demo needs Python packages that are not installed: {', '.join(missing)}.",
            "Run bin/setup, or: pip install -e '.[demo]'",
        )
    bridge = docker_bridge_address()
    addresses = [LOOPBACK, *([bridge] if bridge else [])]
    _check_ports(project, addresses)
    directory = _directory(project)
    directory.mkdir(exist_ok=True)
    output = directory / "demo.out"
    source = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-m", "demo.server", "--project", str(project.root), "--rate", f"{rate:g}"]
    command += ["--heartbeat", f"{heartbeat:g}"]
    for address in addresses:
        command += ["--address", address]
    with output.open("wb") as out:
        child = subprocess.Popen(
            [*command, "--log-to-files"],
            cwd=source,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # the shell's Ctrl-C and its end are not the demo's
            # This copy of the code, whatever copy the virtual environment points to.
            env={**os.environ, "PYTHONPATH": os.pathsep.join((str(source), str(source / "instrumentation")))},
        )
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if child.poll() is not None:
            break
        running = status(project)
        if running is not None and running.state is not None:
            # It outlives this process: without this, Popen warns that it was left behind, which is the purpose.
            child.returncode = 0
            report(f"The demo runs at {running.url}, its pager at {running.pager_url}.")
            if bridge is None:
                report("Docker's bridge is not on this machine: containers reach the demo if Docker forwards to it.")
            return running
        time.sleep(0.1)
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    told = output.read_text("utf-8", errors="replace").strip().splitlines()
    raise LgtmError(
        "The demo did not start" + (f": {told[-1]}" if told else "."),
        f"Its output is in {output}, its log in {directory / 'demo.log'}.",
    )


def _missing(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is None
    except ModuleNotFoundError:
        return True


def stop(project: Project, report: Report) -> bool:
    """Stop the demo and wait for its end. False when none was running. Raises LgtmError when it does not end."""
    running = status(project)
    if running is None:
        report("The demo is not running.")
        return False
    for number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, 2.0)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(running.pid, number)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if _holder(project) is None:
                report("The demo is stopped.")
                return True
            time.sleep(0.05)
    raise LgtmError(f"The demo (process {running.pid}) does not stop.", f"Look at it with: ps -fp {running.pid}")


def _running(project: Project) -> Running:
    running = status(project)
    if running is None:
        raise LgtmError("The demo is not running.", "Start it with: lgtm demo start")
    return running


def _faults(response: requests.Response) -> list[dict[str, Any]]:
    if response.status_code != 200:
        detail = response.json().get("detail", response.text) if response.content else response.reason
        raise LgtmError(f"The demo refused: {detail}")
    return cast("list[dict[str, Any]]", response.json()["faults"])


def _told(project: Project, method: str, path: str, body: object = None) -> requests.Response:
    running = _running(project)
    try:
        return _request(method, running.url + path, body)
    except requests.RequestException as error:
        raise LgtmError(
            f"The demo at {running.url} does not answer: {type(error).__name__}.",
            "Try: lgtm demo stop; lgtm demo start",
        ) from error


def break_(
    project: Project, *, errors: float = 0.0, latency: float = 0.0, dependency: str | None = None
) -> list[dict[str, Any]]:
    """Switch a fault on, in place of the one on the same dependency, and return all faults in force.

    ``errors`` is the share of executions that fail (0 to 1), ``latency`` is added to each, in seconds; ``dependency``
    None means every process. Each fault is ``{"dependency", "errors", "latency_seconds"}``. Raises LgtmError when the
    demo does not run or knows no such dependency.
    """
    body = {"dependency": dependency, "errors": errors, "latency_seconds": latency}
    return _faults(_told(project, "POST", "/demo/faults", body))


def heal(project: Project) -> list[dict[str, Any]]:
    """Switch all faults off. Raises LgtmError when the demo does not run."""
    return _faults(_told(project, "DELETE", "/demo/faults"))


def pages(project: Project, after: int = 0) -> list[dict[str, Any]]:
    """Notifications that reached the pager, oldest first: ``{"id", "received_at", "path", "body"}``.

    ``after`` leaves out those up to that id. Raises LgtmError when the pager does not answer.
    """
    running = _running(project)
    try:
        return cast("list[dict[str, Any]]", _get(f"{running.pager_url}/notifications?after={after}", seconds=5))
    except (requests.RequestException, ValueError) as error:
        raise LgtmError(f"The pager at {running.pager_url} does not answer.", "Try: lgtm demo start") from error


def heartbeat(project: Project) -> dict[str, Any]:
    """The pager's state of the heartbeat: ``{"beats", "last", "lost", "silence_seconds"}``. Raises LgtmError."""
    running = _running(project)
    try:
        return cast("dict[str, Any]", _get(f"{running.pager_url}/heartbeat", seconds=5))
    except (requests.RequestException, ValueError) as error:
        raise LgtmError(f"The pager at {running.pager_url} does not answer.", "Try: lgtm demo start") from error


def refuse(project: Project, path: str | None) -> None:
    """Have the pager refuse what is sent to ``path``, as a lost receiver would; None ends it. Raises LgtmError."""
    running = _running(project)
    body = None if path is None else {"path": path}
    try:
        _request("DELETE" if path is None else "POST", f"{running.pager_url}/refuse", body).raise_for_status()
    except requests.RequestException as error:
        raise LgtmError(f"The pager at {running.pager_url} does not answer.", "Try: lgtm demo start") from error
