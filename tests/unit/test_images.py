"""Where images come from: the decision, the recipes, and a build with a `go` that is a shell script."""

from __future__ import annotations

import gc
import io
import os
import re
import tarfile
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

import pytest

from generator import images
from generator.images import BuildError, EngineError, ImageError, Progress, PullError, Refusal
from generator.progress import Report

ROOT = Path(__file__).parents[2]
PROMETHEUS = "prom/prometheus:v3.15.0"
LOKI = "grafana/loki:3.7.8"
GRAFANA = "grafana/grafana:12.2.0"
REFS = [f"${{REGISTRY:-docker.io}}/{image}" for image in (PROMETHEUS, LOKI, GRAFANA)]


class FakeEngine:
    """Docker with some local images and a registry that answers as it is told to."""

    def __init__(
        self, local: Mapping[str, Mapping[str, str]] | None = None, registry: Mapping[str, Refusal | None] | None = None
    ) -> None:
        self.local = dict(local or {})
        self.registry = registry
        self.asked: list[str] = []
        self.patience: list[float] = []
        self.contexts: dict[str, bytes] = {}

    def architecture(self) -> str:
        return "arm64"

    def labels(self, ref: str) -> Mapping[str, str] | None:
        return self.local.get(ref)

    def pull(self, ref: str, patience: float, report: Report) -> None:
        self.asked.append(ref)
        self.patience.append(patience)
        if self.registry is None:
            raise PullError(Refusal.UNREACHABLE, "no such host")
        refusal = self.registry.get(ref, Refusal.NOT_FOUND)
        if refusal is not None:
            raise PullError(refusal, "the engine's words")
        self.local[ref] = {}

    def tag(self, ref: str, new: str) -> None:
        self.local[new] = self.local[ref]

    def build(self, context: IO[bytes], ref: str, labels: Mapping[str, str]) -> int:
        self.contexts[ref] = context.read()
        self.local[ref] = labels
        return len(self.contexts[ref])


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with two recipes, Prometheus and Loki."""
    for name, image in (("prometheus", PROMETHEUS), ("loki", LOKI)):
        folder = tmp_path / "images" / name
        folder.mkdir(parents=True)
        (folder / "recipe.toml").write_text(
            f'image = "{image}"\npackages = ["tool"]\nldflags = ["-X main.Version=1"]\n', encoding="utf-8"
        )
        (folder / "go.mod").write_text(f"module lgtm/images/{name}\n\ngo 1.26.5\n", encoding="utf-8")
        (folder / "Dockerfile").write_text(f"FROM scratch\nCOPY bin/{name} /{name}\n", encoding="utf-8")
    return tmp_path


@pytest.fixture
def fake_go(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Put a `go` on PATH whose `go build` is the given shell commands; it logs its calls beside itself."""
    directory = tmp_path_factory.mktemp("go")

    def install(build: str, version: str = "1.26.8") -> Path:
        goroot = directory / "root"
        (goroot / "lib" / "time").mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(goroot / "lib" / "time" / "zoneinfo.zip", "w") as zones:
            zones.writestr("Europe/Berlin", b"TZif")
        script = directory / "go"
        script.write_text(
            f"""#!/bin/sh
echo "$GOARCH $CGO_ENABLED $*" >> {directory}/log
case "$1" in
version) echo "go version go{version} linux/amd64" ;;
env) case "$2" in GOROOT) echo {goroot} ;; *) echo {directory}/cache ;; esac ;;
list) printf 'fmt \\nexample.org/a v1\\n\\nexample.org/b v1\\n' ;;
build) out=$(echo "$*" | sed 's/.*-o \\([^ ]*\\) .*/\\1/'); name=$(basename "$PWD"); {build} ;;
esac
""",
            encoding="utf-8",
        )
        script.chmod(0o755)
        return directory / "log"

    monkeypatch.setenv("PATH", f"{directory}{os.pathsep}{os.environ['PATH']}")
    return install


COMPILES = 'echo example.org/a >&2; echo binary > "$out/$name"'


def quiet(_: str) -> None:
    pass


# ------------------------------------------------------------------------------------------------------------ decision


def test_images_that_are_here_are_used_without_asking_anyone(project: Path) -> None:
    engine = FakeEngine({f"docker.io/{image}": {} for image in (PROMETHEUS, LOKI, GRAFANA)})
    result = images.ensure(REFS, project, quiet, engine=engine)
    assert (result.registry, result.absent, engine.asked) == ("docker.io", (), [])
    assert result.reason == "3 images here already under docker.io."


def test_missing_images_are_pulled(project: Path) -> None:
    names = [f"docker.io/{image}" for image in (PROMETHEUS, LOKI, GRAFANA)]
    engine = FakeEngine({names[0]: {}}, dict.fromkeys(names))
    result = images.ensure(REFS, project, quiet, engine=engine)
    assert (result.registry, result.absent, result.pulled) == ("docker.io", (), (LOKI, GRAFANA))
    assert engine.asked == names[1:]


def test_without_a_registry_all_that_can_be_is_built(project: Path, fake_go: Callable[[str], Path]) -> None:
    fake_go(COMPILES)
    engine = FakeEngine()
    said: list[str] = []
    result = images.ensure(REFS, project, said.append, engine=engine)
    assert (result.registry, result.absent, result.built) == ("localhost", (GRAFANA,), (PROMETHEUS, LOKI))
    assert engine.asked == [f"docker.io/{PROMETHEUS}"], "one silence is enough to know"
    assert engine.patience == [images.PATIENCE]
    assert "docker.io could not be reached (no such host). Building 2 images from Go modules instead." in said
    assert result.reason == (
        "docker.io could not be reached (no such host); 2 images built from Go modules; grafana/grafana:12.2.0 is absent "
        "because it cannot be built from Go modules."
    )


def test_what_was_built_is_not_built_again(project: Path, fake_go: Callable[[str], Path]) -> None:
    log = fake_go(COMPILES)
    engine = FakeEngine()
    images.ensure(REFS, project, quiet, engine=engine)
    log.unlink()
    result = images.ensure(REFS, project, quiet, engine=engine)
    assert (result.registry, result.absent, result.built) == ("localhost", (GRAFANA,), ())
    assert not log.exists()
    assert engine.asked[1:] == [f"docker.io/{GRAFANA}"], "only what cannot be built is asked for"
    assert engine.patience[1:] == [images.SHORT_PATIENCE]


def test_a_changed_recipe_is_built_again_and_no_other(project: Path, fake_go: Callable[[str], Path]) -> None:
    fake_go(COMPILES)
    engine = FakeEngine()
    images.ensure(REFS, project, quiet, engine=engine)
    (project / "images" / "loki" / "Dockerfile").write_text("FROM scratch\nUSER 10001\n", encoding="utf-8")
    result = images.ensure(REFS, project, quiet, engine=engine)
    assert result.built == (LOKI,)


def test_one_image_that_the_registry_lacks_is_built_and_the_others_get_its_registry(
    project: Path, fake_go: Callable[[str], Path]
) -> None:
    fake_go(COMPILES)
    engine = FakeEngine(registry={f"docker.io/{image}": None for image in (LOKI, GRAFANA)})
    result = images.ensure(REFS, project, quiet, engine=engine)
    assert (result.registry, result.absent) == ("localhost", ())
    assert (result.pulled, result.built) == ((LOKI, GRAFANA), (PROMETHEUS,))
    assert all(f"localhost/{image}" in engine.local for image in (PROMETHEUS, LOKI, GRAFANA))


def test_an_image_that_can_only_be_pulled_joins_those_that_were_built(project: Path, fake_go: Callable[[str], Path]) -> None:
    fake_go(COMPILES)
    engine = FakeEngine()
    images.ensure(REFS, project, quiet, engine=engine)
    engine.registry = {f"docker.io/{GRAFANA}": None}
    result = images.ensure(REFS, project, quiet, engine=engine)
    assert (result.registry, result.absent, result.pulled) == ("localhost", (), (GRAFANA,))
    # And it stays so once the registry is gone.
    engine.registry = None
    assert images.ensure(REFS, project, quiet, engine=engine).absent == ()


def test_a_registry_that_limits_downloads_is_not_asked_again(project: Path, fake_go: Callable[[str], Path]) -> None:
    fake_go(COMPILES)
    engine = FakeEngine(registry={f"docker.io/{PROMETHEUS}": None, f"docker.io/{LOKI}": Refusal.LIMITED})
    result = images.ensure(REFS, project, quiet, engine=engine)
    assert engine.asked == [f"docker.io/{PROMETHEUS}", f"docker.io/{LOKI}"]
    assert (result.registry, result.pulled, result.built, result.absent) == (
        "localhost",
        (PROMETHEUS,),
        (LOKI,),
        (GRAFANA,),
    )
    assert "docker.io refuses more downloads for now" in result.reason


def test_localhost_as_registry_pulls_nothing(project: Path, fake_go: Callable[[str], Path]) -> None:
    fake_go(COMPILES)
    engine = FakeEngine(registry={})
    result = images.ensure(REFS, project, quiet, registry="localhost", engine=engine)
    assert (engine.asked, result.registry, result.absent) == ([], "localhost", (GRAFANA,))
    assert "REGISTRY=localhost means to pull nothing" in result.reason


def test_a_mirror_is_asked_instead_of_the_public_registry(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY", "mirror.example.org:5000/hub")
    engine = FakeEngine(registry={f"mirror.example.org:5000/hub/{i}": None for i in (PROMETHEUS, LOKI, GRAFANA)})
    result = images.ensure(REFS, project, quiet, engine=engine)
    assert (result.registry, len(result.pulled)) == ("mirror.example.org:5000/hub", 3)


def test_another_version_than_the_recipes_is_absent_and_says_why(project: Path) -> None:
    result = images.ensure(["docker.io/prom/prometheus:v3.16.0"], project, quiet, engine=FakeEngine())
    assert result.absent == ("prom/prometheus:v3.16.0",)
    assert result.reason.endswith("prom/prometheus:v3.16.0 is absent because images/prometheus builds v3.15.0.")


def test_a_full_disk_while_pulling_is_no_reason_to_build(project: Path) -> None:
    class FullDisk(FakeEngine):
        def pull(self, ref: str, patience: float, report: Report) -> None:
            raise images._pull_error("write /var/lib/docker/tmp/x: no space left on device")

    with pytest.raises(ImageError, match="no space left") as caught:
        images.ensure(REFS, project, quiet, engine=FullDisk())
    assert "docker system df" in str(caught.value)


@pytest.mark.parametrize(
    ("ref", "registry", "path"),
    [
        ("${REGISTRY:-docker.io}/prom/prometheus:v3.15.0", "docker.io", PROMETHEUS),
        ("${REGISTRY}/prom/prometheus:v3.15.0", "docker.io", PROMETHEUS),
        ("docker.io/prom/prometheus:v3.15.0", "mirror:5000", PROMETHEUS),
        ("mirror:5000/a/b/prom/prometheus:v3.15.0", "mirror:5000/a/b", PROMETHEUS),
        ("localhost/prom/prometheus:v3.15.0", "docker.io", PROMETHEUS),
        ("prom/prometheus:v3.15.0", "docker.io", PROMETHEUS),
    ],
)
def test_references_come_with_any_registry(ref: str, registry: str, path: str) -> None:
    assert images.image_path(ref, registry) == path


@pytest.mark.parametrize("ref", ["prometheus:v1", "prom/prometheus", "registry.example.org/prometheus/prometheus:v3", ""])
def test_other_references_are_refused(ref: str) -> None:
    with pytest.raises(ValueError, match="REGISTRY/owner/name:tag"):
        images.image_path(ref)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('Get "https://docker.io/v2/": dial tcp: lookup docker.io: no such host', "UNREACHABLE"),
        ("received unexpected HTTP status: 503 Service Unavailable", "UNREACHABLE"),
        ("x509: certificate signed by unknown authority", "UNREACHABLE"),
        ("manifest for prom/prometheus:v9 not found: manifest unknown: manifest unknown", "NOT_FOUND"),
        ("no matching manifest for linux/arm64/v8 in the manifest list entries", "NOT_FOUND"),
        ("pull access denied for prom/x, repository does not exist or may require 'docker login'", "DENIED"),
        ("unauthorized: authentication required", "DENIED"),
        ("toomanyrequests: You have reached your pull rate limit.", "LIMITED"),
    ],
)
def test_the_engines_words_are_understood(text: str, expected: str) -> None:
    assert images.refusal(text) is Refusal[expected]


def test_a_refusal_says_which_host_but_not_which_resolver() -> None:
    error = images._pull_error('Get "https://docker.io/v2/": dial tcp: lookup docker.io on 192.0.2.1:53: no such host')
    assert str(error) == "docker.io: no such host"


# The SDK leaves the socket of a failed connection to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_no_engine_and_no_permission_are_different_faults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    with pytest.raises(EngineError, match="Docker is not running"):
        images.connect()
    gc.collect()
    words = "Error while fetching server API version: ('Connection aborted.', PermissionError(13, 'Permission denied'))"
    assert "usermod" in str(images.engine_error(words))


# ------------------------------------------------------------------------------------------------------------- recipes


def test_the_digest_is_of_names_and_contents_only(tmp_path: Path) -> None:
    def folder(name: str, files: Mapping[str, str]) -> str:
        for path, text in files.items():
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).write_text(text, encoding="utf-8")
        return images.recipe_digest(tmp_path / name)

    first = folder("one", {"go.mod": "a", "main.go": "b", "sub/x": ""})
    assert folder("two", {"sub/x": "", "main.go": "b", "go.mod": "a"}) == first
    os.utime(tmp_path / "two" / "go.mod", (0, 0))
    (tmp_path / "two" / ".go.mod.swp").write_text("an editor's", encoding="utf-8")
    assert images.recipe_digest(tmp_path / "two") == first
    others = [
        folder("three", {"go.mod": "a", "main.go": "c", "sub/x": ""}),
        folder("four", {"go.mod": "a", "main2.go": "b", "sub/x": ""}),
        folder("five", {"go.mod": "ab", "main.go": "", "sub/x": ""}),
        folder("six", {"go.mod": "a", "main.go": "b"}),
    ]
    assert len({first, *others}) == 5


def test_every_server_that_can_be_built_has_a_recipe_for_compose_yamls_version() -> None:
    compose = (ROOT / "compose.yaml").read_text(encoding="utf-8")
    wanted = {images.image_path(ref) for ref in re.findall(r"image: (\$\{REGISTRY\S+)", compose)}
    recipes = images.load_recipes(ROOT / "images")
    assert wanted - set(recipes) == {GRAFANA}
    assert set(recipes) <= wanted
    assert {recipe.name for recipe in recipes.values()} == set(images.COSTS)


@pytest.mark.parametrize("recipe", images.load_recipes(ROOT / "images").values(), ids=lambda recipe: recipe.name)
def test_a_recipe_says_its_version_everywhere(recipe: images.Recipe) -> None:
    version = recipe.version.removeprefix("v")
    program = recipe.directory / "main.go"
    told = program.read_text(encoding="utf-8") if program.exists() else " ".join(recipe.ldflags)
    assert re.search(rf'Version(=|: *"){re.escape(version)}\b', told)
    assert recipe.labels == {images.VERSION_LABEL: recipe.version, images.RECIPE_LABEL: recipe.digest}


@pytest.mark.parametrize("recipe", images.load_recipes(ROOT / "images").values(), ids=lambda recipe: recipe.name)
def test_a_dockerfile_copies_what_is_in_its_context(
    recipe: images.Recipe, tmp_path: Path, fake_go: Callable[[str], Path]
) -> None:
    go = fake_go(COMPILES).parent / "go"
    mod = (recipe.directory / "go.mod").read_text(encoding="utf-8")
    programs: list[str] = []
    for package in recipe.packages:
        if package == "tool":
            block = re.search(r"^tool \(\n(.*?)^\)", mod, re.MULTILINE | re.DOTALL)
            programs += block[1].split() if block else re.findall(r"^tool (\S+)$", mod, re.MULTILINE)
        else:
            programs += re.findall(r"^module (\S+)$", mod, re.MULTILINE) if package == "." else [package]
    for tool in programs:
        (tmp_path / tool.rpartition("/")[2]).write_bytes(b"ELF")
    context = io.BytesIO()
    images.write_context(context, recipe, tmp_path, go)
    context.seek(0)
    with tarfile.open(fileobj=context) as archive:
        entries = {entry.name: entry for entry in archive}
    lines = (recipe.directory / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = {source for line in lines if line.startswith("COPY ") for source in _sources(line)}
    assert copied <= set(entries)
    assert {name for name in entries if name.startswith("bin/")} <= copied, "a program is compiled and then left out"
    assert all(entry.mtime == 0 and entry.uid == 0 for entry in entries.values())
    assert {entry.mode for name, entry in entries.items() if name.startswith("bin/")} == {0o755}


def _sources(line: str) -> list[str]:
    return [word for word in line.split()[1:-1] if not word.startswith("--")]


# ------------------------------------------------------------------------------------------------------------ building


def test_a_build_is_for_the_engines_architecture_and_labelled(project: Path, fake_go: Callable[[str], Path]) -> None:
    log = fake_go(COMPILES)
    engine = FakeEngine()
    recipes = images.load_recipes(project / "images")
    images.build([recipes[LOKI]], project, engine, quiet)
    built = [line for line in log.read_text(encoding="utf-8").splitlines() if " build " in line]
    assert len(built) == 1
    assert built[0].startswith("arm64 0 build ")
    assert built[0].endswith("-trimpath -buildvcs=false -mod=readonly -ldflags -s -w -X main.Version=1 tool")
    assert engine.local[f"localhost/{LOKI}"] == recipes[LOKI].labels
    with tarfile.open(fileobj=io.BytesIO(engine.contexts[f"localhost/{LOKI}"])) as archive:
        names = archive.getnames()
        assert archive.extractfile("bin/loki").read() == b"binary\n"  # type: ignore[union-attr]
    assert {"Dockerfile", "bin", "empty", "ca-certificates.crt", "zoneinfo/Europe/Berlin"} <= set(names)
    assert not (project / ".cache" / "images").exists()


def test_a_failing_build_shows_the_end_of_gos_output_and_keeps_what_came_before(
    project: Path, fake_go: Callable[[str], Path]
) -> None:
    fake_go(
        'if [ $name = loki ]; then for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do echo "x.go:$i: odd" >&2; done; '
        'echo example.org/a >&2; echo "write /tmp/x: no space left on device" >&2; exit 1; fi; ' + COMPILES
    )
    engine = FakeEngine()
    with pytest.raises(BuildError) as caught:
        images.ensure(REFS, project, quiet, engine=engine)
    message = caught.value.message.splitlines()
    assert message[0] == "grafana/loki:3.7.8 could not be built. Go's last lines:"
    assert message[-1].strip() == "write /tmp/x: no space left on device"
    assert len(message) == 1 + images.LINES_KEPT
    assert "    example.org/a" not in message
    assert "GOCACHE" in (caught.value.hint or "")
    assert set(engine.local) == {f"localhost/{PROMETHEUS}"}
    assert not (project / ".cache" / "images").exists()


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ('github.com/x@v1: Get "https://proxy.example.org/x.zip": dial tcp: i/o timeout', "GOPROXY"),
        ("verifying github.com/x@v1: checksum mismatch", "go.sum"),
        ("github.com/x: /usr/lib/go/tool/compile: signal: killed", "memory"),
        ("go: go.mod requires go >= 1.27.0 (running go 1.26.8; GOTOOLCHAIN=local)", "newer"),
        ("./main.go:3:2: undefined: y", "report it"),
    ],
)
def test_go_errors_come_with_advice(project: Path, line: str, advice: str) -> None:
    recipe = images.load_recipes(project / "images")[LOKI]
    assert advice in (images.build_error(recipe, [line], 1).hint or "")


def test_an_interrupt_ends_go_and_its_compilers_and_tags_nothing(
    project: Path, fake_go: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(images, "REPORT_EVERY", 0.1)
    pids = tmp_path / "pids"
    # The child is a compiler: it would outlive a `go` that is killed alone.
    fake_go(f'sleep 300 & echo "$! $$" > {pids}; wait')
    engine = FakeEngine()

    def interrupt(line: str) -> None:
        if "compiling" in line and pids.exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        images.ensure(REFS, project, interrupt, engine=engine)
    started = [int(pid) for pid in pids.read_text(encoding="utf-8").split()]
    deadline = time.monotonic() + 5
    while any(map(_runs, started)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_runs, started))
    assert engine.local == {}
    assert not (project / ".cache" / "images").exists()


def _runs(pid: int) -> bool:
    """Whether a process is there; one that has ended and waits to be collected is not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z")


# --------------------------------------------------------------------------------------------------------- toolchain


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("go version go1.26.8 linux/amd64", (1, 26, 8)),
        ("go version go1.27 darwin/arm64", (1, 27, 0)),
        ("go version go1.28rc1 linux/amd64", (1, 28, 0)),
        ("go version devel go1.28-a1b2c3 Tue linux/amd64", (1, 28, 0)),
        ("gccgo (Debian 12.2.0-14) 12.2.0", None),
        ("", None),
    ],
)
def test_go_versions_are_read(text: str, version: tuple[int, int, int] | None) -> None:
    assert images.parse_go_version(text) == version


def test_an_old_go_on_path_is_replaced_by_one_in_the_cache(
    tmp_path: Path, fake_go: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = fake_go(COMPILES, version="1.26.4")
    own = tmp_path / ".cache" / "go" / f"toolchain-{images.GO_PIN}" / "go" / "bin" / "go"

    def install(directory: Path) -> None:
        assert directory in own.parents
        own.parent.mkdir(parents=True)
        own.write_text("#!/bin/sh\necho go version go1.26.6 linux/amd64\n", encoding="utf-8")
        own.chmod(0o755)

    monkeypatch.setattr(images, "_install_go", install)
    assert images.find_go(tmp_path, (1, 26, 4), quiet) == log.parent / "go"
    said: list[str] = []
    assert images.find_go(tmp_path, (1, 26, 5), said.append) == own
    assert len(said) == 1
    assert images.find_go(tmp_path, (1, 26, 5), said.append) == own
    assert len(said) == 1, "the second time it is there"


def test_the_pinned_go_is_new_enough_for_every_recipe() -> None:
    pinned = images.parse_go_version(f"go{images.GO_PIN}")
    assert pinned is not None
    assert pinned >= max(recipe.go for recipe in images.load_recipes(ROOT / "images").values())


def test_without_a_home_gos_caches_are_the_projects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GOPATH", "GOCACHE", "GOFLAGS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GOOS", "plan9")
    monkeypatch.setenv("HOME", str(tmp_path))
    environment = images.go_environment(tmp_path, "arm64")
    assert "GOCACHE" not in environment
    assert (environment["GOOS"], environment["GOARCH"], environment["CGO_ENABLED"]) == ("linux", "arm64", "0")
    monkeypatch.delenv("HOME")
    environment = images.go_environment(tmp_path, "amd64")
    assert environment["GOCACHE"] == str(tmp_path / ".cache" / "go" / "build")
    assert environment["GOFLAGS"] == "-modcacherw"


# ---------------------------------------------------------------------------------------------------------- progress


def test_the_estimate_starts_with_the_work_and_follows_the_pace() -> None:
    progress = Progress({"prometheus": 1000, "loki": 500})
    cost = images.COSTS
    whole = 1000 * cost["prometheus"].package + 500 * cost["loki"].package
    whole += cost["prometheus"].link + cost["loki"].link
    assert progress.remaining(0.0) == pytest.approx(whole)
    # Half of the packages in three times the time that they take elsewhere: the rest will be slow, too.
    progress.compiled("prometheus", 500)
    work = 500 * cost["prometheus"].package
    assert whole - work < progress.remaining(3 * work) < 3 * (whole - work)
    progress.finish("prometheus")
    progress.finish("loki")
    assert progress.remaining(10_000.0) == pytest.approx(0.0)


def test_more_cores_promise_less_time_but_not_too_little() -> None:
    two, four, many = (Progress({"loki": 1000}, cores).remaining(0.0) for cores in (2, 4, 64))
    assert four == pytest.approx(two / 2)
    assert many == pytest.approx(two / 4)


def test_a_nearly_full_disk_is_told_before_anything_is_compiled(
    project: Path, fake_go: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = fake_go(COMPILES)
    monkeypatch.setattr(images, "DISK_NEEDED", 10**18)
    with pytest.raises(BuildError, match="GB of disk"):
        images.ensure(REFS, project, quiet, engine=FakeEngine())
    assert " build " not in log.read_text(encoding="utf-8")


def test_more_packages_than_were_counted_do_not_finish_an_image() -> None:
    progress = Progress({"loki": 10})
    progress.compiled("loki", 500)
    assert progress.remaining(0.0) == pytest.approx(
        images.COSTS["loki"].link * images.PACE_PRIOR / (10 * images.COSTS["loki"].package + images.PACE_PRIOR)
    )


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1, "10 seconds"), (44, "40 seconds"), (60, "1 minute"), (100, "2 minutes"), (900, "15 minutes")],
)
def test_estimates_are_no_more_exact_than_they_are(seconds: float, words: str) -> None:
    assert images.in_words(seconds) == words


def test_clock() -> None:
    assert [images.clock(s) for s in (0, 59.9, 245, 3600)] == ["0:00", "0:59", "4:05", "60:00"]
