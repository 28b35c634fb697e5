"""The copies that the collector keeps of the last spans that it handed to Tempo, and reading them."""

from __future__ import annotations

import contextlib
import io
import tarfile
from collections.abc import Iterable, Iterator
from typing import Any

import requests
import zstandard
from google.protobuf.message import DecodeError
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData

from generator import engine, stack
from generator.errors import LgtmError
from generator.project import Project

# Beside its queue: `file/spans` in collector/collector.yaml. Full files get another name; this is the one being written.
DIRECTORY = f"{stack.DATA['collector'][1]}/spans"
LATEST = f"{DIRECTORY}/spans.pb"
_MAGIC = bytes.fromhex("28b52ffd")  # the beginning of each zstd frame, RFC 8878 section 3.1.1


def files(project: Project, path: str = DIRECTORY) -> Iterator[tuple[float, bytes]]:
    """When each file was last written (Unix seconds), and its content: up to 64 MiB. There is none where no span has come yet.

    Raises LgtmError where there is no collector, and where Docker does not give them.
    """
    from docker.errors import APIError, DockerException, NotFound

    with contextlib.closing(engine.connect()) as client:
        labels = [
            f"com.docker.compose.project={project.compose_project}",
            "com.docker.compose.service=collector",
            "com.docker.compose.oneoff=False",
        ]
        try:
            there = client.containers.list(all=True, filters={"label": labels})
            if not there:
                raise LgtmError("There is no collector here.", "Run `make up`, or name the project's directory: lgtm -C …")
            stream, _ = there[0].get_archive(path)
            with tarfile.open(fileobj=io.BufferedReader(_Stream(stream)), mode="r|") as archive:
                for entry in archive:
                    if entry.isfile() and (source := archive.extractfile(entry)) is not None:
                        yield entry.mtime, source.read()
        except NotFound:
            return
        except (APIError, DockerException, requests.RequestException, tarfile.TarError) as error:
            raise LgtmError(
                f"The collector's copies could not be read: {error}", "Try again; lgtm doctor may say why."
            ) from None


class _Stream(io.RawIOBase):
    """The parts of an answer as a file that is read once."""

    def __init__(self, parts: Iterable[bytes]) -> None:
        self._parts = iter(parts)
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            part = next(self._parts, None)
            if part is None:
                return 0
            self._left = memoryview(part)
        number = min(len(buffer), len(self._left))
        buffer[:number] = self._left[:number]
        self._left = self._left[number:]
        return number


def messages(content: bytes) -> Iterator[TracesData | None]:
    """The messages in a file of the exporter's: four bytes of length stand before each. None stands where some cannot be read.

    A write that a full disk cut short leaves a part of one, and whole ones after it. One that is being written is left out.
    """
    decompressor = zstandard.ZstdDecompressor()
    at, torn = 0, False
    while (begin := content.find(_MAGIC, at + 4)) >= 0:
        length = int.from_bytes(content[begin - 4 : begin], "big")
        try:
            message = TracesData.FromString(decompressor.decompress(content[begin : begin + length]))
        except (zstandard.ZstdError, DecodeError):
            at, torn = begin - 3, True
            continue
        if torn:
            yield None
        yield message
        at, torn = begin + length, False


def spans(message: TracesData) -> Iterator[tuple[bytes, Span]]:
    """Each span of a message, with the id of its trace."""
    for resource in message.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield span.trace_id, span
