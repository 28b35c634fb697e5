"""Secrets: files under ``secrets/`` on the host, and copies that a server can read in its container.

A bind mount would keep the host's owner and mode, so that a server (which is not root) could not read a file of mode 600.
Environment and arguments are open to everyone who may inspect the container. So each server that needs secrets has a
volume of its own, which only the Docker Engine API writes: into a container of the server's image that is created, never
started, and removed.
"""

from __future__ import annotations

import contextlib
import io
import os
import secrets as randomness
import tarfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from generator.errors import LgtmError
from generator.progress import Report
from generator.project import Project

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container

MOUNT = "/run/lgtm-secrets"
GRAFANA_PASSWORD = "grafana_admin_password"  # noqa: S105 - the file's name, not a password

# User and group ids that the servers run as; compose.yaml names the same.
OWNERS: Mapping[str, tuple[int, int]] = {
    "prometheus": (65534, 65534),
    "alertmanager": (65534, 65534),
    "blackbox": (65534, 65534),
    "loki": (10001, 10001),
    "tempo": (10001, 10001),
    "collector": (10001, 10001),
    "grafana": (472, 0),
}

SERVERS_WITH_SECRETS = ("prometheus", "alertmanager", "blackbox", "grafana")


class SecretsError(LgtmError):
    """A secret is missing, unreadable or could not be handed to a server."""


def directory(project: Project) -> Path:
    """The directory that holds one file per secret."""
    return project.root / "secrets"


def ensure(project: Project, report: Report | None = None) -> bool:
    """Close ``secrets/`` to other users and make Grafana's admin password when there is none.

    Returns whether a password was made. Raises SecretsError when the directory cannot be written.
    """
    place = directory(project)
    password = place / GRAFANA_PASSWORD
    try:
        place.mkdir(mode=0o700, exist_ok=True)
        _restrict(place, 0o700)
        for file in place.iterdir():
            if file.is_file() and not file.is_symlink() and file.name != "README.md":
                _restrict(file, 0o600)
        if password.exists() and password.stat().st_size > 0:
            return False
        # The mode at creation, the name at the end: at no moment is there a readable or half-written password.
        temporary = place / f".{GRAFANA_PASSWORD}.new"
        temporary.unlink(missing_ok=True)
        temporary.touch(mode=0o600)
        temporary.write_text(randomness.token_urlsafe(18), encoding="ascii")
        temporary.replace(password)
    except OSError as error:
        raise SecretsError(
            f"The secrets under {place} cannot be written: {error.strerror or error}.",
            "Make that directory writable for the user who runs this.",
        ) from error
    if report is not None:
        report(f"made Grafana's password in {password}")
    return True


def read(project: Project, name: str) -> bytes:
    """The content of ``secrets/<name>`` without the line break at its end.

    Raises SecretsError when it is missing, unreadable or empty, or when the name leads out of the directory.
    """
    if not name or "/" in name or name.startswith("."):
        raise SecretsError(
            f"{name!r} is not the name of a secret.",
            "Name a file directly under secrets/, without a path.",
        )
    if name.startswith("env."):
        # Named by {env: NAME}: no file holds it.
        variable = name.removeprefix("env.")
        if not (value := os.environ.get(variable, "")):
            raise SecretsError(f"The environment has no {variable}, and a receiver needs it.", f"Run: export {variable}=…")
        return value.encode()
    path = directory(project) / name
    try:
        content = path.read_bytes().rstrip(b"\r\n")
    except FileNotFoundError:
        raise SecretsError(
            f"The secret {name} is missing.",
            f"Put it in {path}: (umask 077; cat > {path}), paste, Enter, Ctrl-D.",
        ) from None
    except OSError as error:
        raise SecretsError(
            f"The secret {path} cannot be read: {error.strerror}.",
            "Make it readable for the user who runs this.",
        ) from error
    if not content:
        raise SecretsError(f"The secret {path} is empty.", "Put the secret in it.")
    return content


def sync(project: Project, server: str, wanted: Mapping[str, bytes], *, client: docker.DockerClient | None = None) -> bool:
    """Make the volume of ``server`` hold exactly ``wanted`` (file name → content); True when that changed anything.

    Files are owned by the server's user with mode 400 and seen by it at once, under ``/run/lgtm-secrets``. A secret that
    is no longer wanted is emptied: without a shell in the image, nothing can delete it while the server runs.

    The volume must exist (``docker-compose create`` makes it). Raises SecretsError when Docker refuses.
    """
    from docker.errors import DockerException  # late: importing the client takes a quarter of a second

    if server not in SERVERS_WITH_SECRETS:
        raise SecretsError(f"{server} is not a server that reads secrets.", f"One of {', '.join(SERVERS_WITH_SECRETS)} is.")
    try:
        with (
            _engine(client) as engine,
            unstarted(project, engine, server, f"secrets-{server}", MOUNT) as helper,
        ):
            present = _contents(helper)
            target = {**dict.fromkeys(present, b""), **wanted}
            if target == present:
                return False
            helper.put_archive(str(Path(MOUNT).parent), _archive(target, OWNERS[server]))
            return True
    except DockerException as error:
        raise SecretsError(f"The secrets of {server} could not be handed over: {error}.", "Run `lgtm doctor`.") from error


def own_volume(project: Project, engine: docker.DockerClient, server: str, volume: str, path: str) -> None:
    """Give the root of a named volume, which ``server`` mounts at ``path``, to the server's user.

    A new volume belongs to root unless the image has that directory. Raises docker's own exceptions.
    """
    uid, gid = OWNERS[server]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo(Path(path).name)
        entry.type, entry.mode, entry.uid, entry.gid, entry.mtime = tarfile.DIRTYPE, 0o700, uid, gid, int(time.time())
        archive.addfile(entry)
    with unstarted(project, engine, server, volume, path) as helper:
        helper.put_archive(str(Path(path).parent), buffer.getvalue())


def image_of(project: Project, engine: docker.DockerClient, server: str) -> str:
    """The image of the server's container in this project. Raises SecretsError when the container does not exist."""
    found = engine.api.containers(
        all=True,
        filters={
            "label": [
                f"com.docker.compose.project={project.compose_project}",
                f"com.docker.compose.service={server}",
            ]
        },
    )
    if not found:
        raise SecretsError(f"{server} has no container yet.", "Run `lgtm up` first.")
    return str(found[0]["ImageID"])


@contextlib.contextmanager
def unstarted(project: Project, engine: docker.DockerClient, server: str, volume: str, path: str) -> Iterator[Container]:
    """A container of the server's image with the volume mounted writable, never started, removed at the end."""
    image = image_of(project, engine, server)
    helper = engine.containers.create(
        image,
        entrypoint=["/never-started"],
        command=[],
        network_mode="none",
        labels={"lgtm.helper": project.compose_project},
        volumes={f"{project.compose_project}_{volume}": {"bind": path, "mode": "rw"}},
    )
    try:
        yield helper
    finally:
        helper.remove(force=True, v=True)  # v: the image declares a volume, and Docker makes one for each container


@contextlib.contextmanager
def _engine(client: docker.DockerClient | None) -> Iterator[docker.DockerClient]:
    if client is not None:
        yield client
        return
    from generator.engine import connect

    with contextlib.closing(connect()) as made:
        yield made


def _contents(helper: Container) -> dict[str, bytes]:
    """Name and content of each file in the secrets volume of a helper container."""
    stream, _ = helper.get_archive(MOUNT)
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
        for entry in archive.getmembers():
            source = archive.extractfile(entry) if entry.isfile() else None
            if source is not None:
                found[Path(entry.name).name] = source.read()
    return found


def _archive(files: Mapping[str, bytes], owner: tuple[int, int]) -> bytes:
    """A tar of the directory itself and the files in it, all owned by ``owner``."""
    buffer = io.BytesIO()
    now = int(time.time())
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        root = tarfile.TarInfo(Path(MOUNT).name)
        root.type, root.mode, root.mtime = tarfile.DIRTYPE, 0o500, now
        root.uid, root.gid = owner
        archive.addfile(root)
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(f"{Path(MOUNT).name}/{name}")
            entry.size, entry.mode, entry.mtime = len(content), 0o400, now
            entry.uid, entry.gid = owner
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _restrict(path: Path, mode: int) -> None:
    if path.stat().st_mode & 0o777 != mode:
        path.chmod(mode)
