"""What promtool says must all arrive: an alert of which nothing is read would be taken for one that did not fire."""

from __future__ import annotations

import contextlib
import select
import socket
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from bench.replay import Counter, Promtool
from generator import engine
from generator.promtool import PromtoolError


class Cut(Promtool):
    """Is killed when it has said half of it."""

    def run(self, *arguments: str) -> tuple[int, str]:
        code, output = super().run(*arguments)
        return code, output[: len(output) // 2]


INPUTS = [Counter("pool", [float(i) for i in range(40)])]


def test_what_is_not_whole_is_no_result(promtool: Promtool) -> None:
    whole = promtool.evaluate([], INPUTS, 300, watch="pool")
    assert len(whole.one("pool")) == 11
    with pytest.raises(PromtoolError, match="before it had said all"):
        Cut(promtool._container).evaluate([], INPUTS, 300, watch="pool")


@contextlib.contextmanager
def in_one_piece(path: Path) -> Iterator[docker.DockerClient]:
    """The engine through a socket that passes on what it answers only when it has been silent for a while.

    So what a command prints always comes together with the headers, as it does by chance on a busy machine.
    """
    real = (engine.address() or f"unix://{engine.DEFAULT_SOCKET}").removeprefix("unix://")

    class Piecewise(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.socket(socket.AF_UNIX) as upstream:
                upstream.connect(real)
                held = b""
                while True:
                    ready, _, _ = select.select([self.request, upstream], [], [], 0.3)
                    if not ready:
                        self.request.sendall(held)
                        held = b""
                    if self.request in ready:
                        if not (asked := self.request.recv(65536)):
                            return
                        upstream.sendall(asked)
                    if upstream in ready:
                        if not (said := upstream.recv(65536)):
                            self.request.sendall(held)
                            return
                        held += said

    with socketserver.ThreadingUnixStreamServer(str(path), Piecewise) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
        with contextlib.closing(docker.DockerClient(base_url=f"unix://{path}")) as client:
            yield client
        server.shutdown()


def test_what_a_command_prints_arrives_also_when_it_comes_with_the_headers(promtool: Promtool, tmp_path: Path) -> None:
    with in_one_piece(tmp_path / "docker.sock") as client:
        done = engine.execute(client.containers.get(str(promtool._container.id)), ["/bin/promtool", "--version"])
    assert done.code == 0
    assert done.output.startswith(b"promtool, version ")


def test_output_and_errors_of_a_command_are_told_apart(promtool: Promtool) -> None:
    done = engine.execute(promtool._container, ["/bin/promtool", "check", "rules", "/nowhere.yml"])
    assert done.code == 1
    assert b"does not exist" in done.errors
    assert b"does not exist" not in done.output
