"""The demo's process: the service, its traffic and the pager, until SIGTERM. ``demo.control`` starts it.

python -m demo.server --project DIR [--rate 12] [--address 127.0.0.1 …] [--log-to-files]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import json
import logging
import logging.handlers
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import uvicorn
from lgtm_instrumentation import setup
from starlette.types import ASGIApp

from demo.app import SERVICE, VERSION, create_app
from demo.pager import SILENCE_SECONDS, Heartbeat, Pages, create_pager
from demo.processes import VERSIONS
from demo.traffic import DEFAULT_RATE, Traffic
from generator.project import Project

LOG_BYTES = 10_000_000
LOOPBACK = "127.0.0.1"
# A deliberation in progress ends in this time; cancelled, it would count as timed out.
GRACE_SECONDS = 4


class _Server(uvicorn.Server):
    """Two of these share one process, which takes the signals itself."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen(addresses: list[str], port: int) -> list[socket.socket]:
    sockets = []
    for address in addresses:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(512)
        listener.setblocking(False)
        sockets.append(listener)
    return sockets


def _server(app: ASGIApp) -> _Server:
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=GRACE_SECONDS,
        server_header=False,
    )
    return _Server(config)


def lock(path: Path) -> TextIO:
    """Hold ``path`` until the process ends: this, not a number in a file, says that a demo runs.

    Raises BlockingIOError when another one does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    held = path.open("a+", encoding="utf-8")
    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return held


async def serve(
    project: Project, rate: float, addresses: list[str], log_handler: logging.Handler | None, silence: float = SILENCE_SECONDS
) -> None:
    """Run until SIGTERM or SIGINT. Raises OSError when a port is taken.

    ``silence`` is how long the pager waits for a heartbeat, in seconds.
    """
    port, pager_port = project.port("DEMO_PORT"), project.port("DEMO_PAGER_PORT")
    listeners, pager_listeners = _listen(addresses, port), _listen(addresses, pager_port)
    telemetry = setup(
        SERVICE,
        VERSION,
        environment="demo",
        otlp_endpoint=f"http://{LOOPBACK}:{project.port('OTLP_HTTP_PORT')}",
        processes=VERSIONS,
        registry=project.root / "slos.yaml",
        instance=f"{socket.gethostname()}:{port}",
        log_handler=log_handler,
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    traffic = Traffic(f"http://{LOOPBACK}:{port}", rate)

    def state() -> dict[str, Any]:
        return {
            "addresses": addresses,
            "pager": f"http://{LOOPBACK}:{pager_port}",
            "traffic": {"rate": rate, "sent": traffic.sent, "failed": traffic.failed, "skipped": traffic.skipped},
        }

    pages = Pages()
    heartbeat = Heartbeat(pages, silence)
    servers = [_server(create_app(telemetry=telemetry, state=state)), _server(create_pager(pages, heartbeat))]

    tasks = [asyncio.create_task(heartbeat.watch())]
    if rate > 0:
        tasks.append(asyncio.create_task(traffic.run()))

    def stop() -> None:
        for task in tasks:
            task.cancel()
        for server in servers:
            server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        await asyncio.gather(*(s.serve(sockets=k) for s, k in zip(servers, (listeners, pager_listeners), strict=True)))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        telemetry.shutdown()


def _rotating(path: Path) -> logging.Handler:
    return logging.handlers.RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=1, encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 after a signal, 1 when it could not start."""
    parser = argparse.ArgumentParser(prog="python -m demo.server", description=__doc__)
    parser.add_argument("--project", type=Path, required=True)
    parser.add_argument("--rate", type=float, default=DEFAULT_RATE)
    parser.add_argument("--address", action="append", default=[])
    parser.add_argument("--heartbeat", type=float, default=SILENCE_SECONDS)
    parser.add_argument("--log-to-files", action="store_true")
    options = parser.parse_args(arguments)
    project = Project.load(options.project)
    directory = project.root / ".lgtm"
    try:
        held = lock(directory / "demo.lock")
    except BlockingIOError:
        sys.stderr.write("The demo of this project already runs.\n")
        return 1
    held.truncate(0)
    held.write(json.dumps({"pid": os.getpid(), "port": project.port("DEMO_PORT"), "started": time.time()}))
    held.flush()
    if options.log_to_files:
        pager_lines = _rotating(directory / "pager.log")
        pager_lines.setFormatter(logging.Formatter("%(asctime)s  %(message)s"))
        pager = logging.getLogger("pager")
        pager.addHandler(pager_lines)
        pager.setLevel(logging.INFO)
        pager.propagate = False  # the pager is not part of the service whose logs go to Loki
    try:
        asyncio.run(
            serve(
                project,
                options.rate,
                options.address or [LOOPBACK],
                _rotating(directory / "demo.log") if options.log_to_files else None,
                options.heartbeat,
            )
        )
    except OSError as error:
        sys.stderr.write(f"The demo could not start: {error}\n")
        return 1
    finally:
        held.truncate(0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
