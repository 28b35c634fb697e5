"""What every command shares: the options before it, the spec that it reads, and how it speaks to a person."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
from rich.console import Console
from rich.markup import escape

from generator import diagnostics
from generator.errors import LgtmError
from generator.project import Project

if TYPE_CHECKING:
    from generator import model
    from generator.history import Snapshot
    from generator.units import Duration

Format = Literal["text", "json", "github"]


class State:
    """What the options before the command say."""

    def __init__(self, project: Path | None, files: tuple[str, ...]) -> None:
        self._directory = project
        self.files = files
        self._project: Project | None = None

    @property
    def project(self) -> Project:
        """The project that the command works on."""
        if self._project is None:
            self._project = Project.find(self._directory)
        return self._project

    @property
    def retention(self) -> Duration | None:
        """How long Prometheus keeps data, where that is known: a spec is also checked outside of any project."""
        from generator.units import Duration

        try:
            return Duration.of(self.project.settings["PROMETHEUS_RETENTION"])
        except (LgtmError, ValueError):
            return None

    @property
    def variables(self) -> dict[str, str]:
        """What the spec's ``${NAME}`` refers to: the environment over the project's .env."""
        try:
            settings = dict(self.project.settings)
        except LgtmError:
            settings = {}
        return {**settings, **os.environ}

    def spec_files(self) -> tuple[list[Path], list[str]]:
        """The files of the spec, and what messages call them."""
        if self.files:
            return [Path(f) for f in self.files], list(self.files)
        root = self.project.root
        path = root / "slos.yaml"
        try:
            return [path], [os.path.relpath(path)]
        except ValueError:  # another drive
            return [path], [str(path)]


def terminal(*, stderr: bool = False) -> Console:
    # Rich honours NO_COLOR and a terminal's absence; wrapping would break paths and queries that people copy.
    return Console(stderr=stderr, soft_wrap=True, highlight=False, emoji=False)


def report(message: str) -> None:
    """Progress of long work: on stderr, so that stdout stays for results."""
    terminal(stderr=True).print(message, markup=False)


def escaped(text: str) -> str:
    return escape(text)


def load_spec(state: State, style: Format = "text") -> model.Model:
    """The Model, or the diagnostics printed and exit code 1."""
    return read_spec(state, style)[0]


def read_spec(state: State, style: Format = "text") -> tuple[model.Model, Snapshot]:
    """The Model and the files that it was read from, or the diagnostics printed and exit code 1."""
    from generator import model
    from generator.history import Snapshot, Used

    files, shown = state.spec_files()
    variables = Used(state.variables)
    result = model.load(files, shown, retention=state.retention, variables=variables)
    print_diagnostics(result, style)
    if result.model is None:
        sys.exit(1)
    try:
        root = state.project.root
    except LgtmError:  # outside of any project
        root = Path.cwd()
    return result.model, Snapshot.of(root, files, result.texts, result.model, variables.used)


def print_diagnostics(result: model.Result, style: Format) -> None:
    if style == "json":
        click.echo(json.dumps([diagnostics.as_json(d) for d in result.diagnostics], indent=2, ensure_ascii=False))
        return
    console = terminal(stderr=True)
    for d in result.diagnostics:
        if style == "github":
            click.echo(diagnostics.as_github(d))
            continue
        first, *rest = diagnostics.as_text(d, result.texts).split("\n")
        place, _, message = first.partition(f" {d.severity}[{d.code}]")
        colour = "red" if d.severity == "error" else "yellow"
        console.print(f"[bold]{escaped(place)}[/] [{colour}]{d.severity}{escaped(f'[{d.code}]')}[/]{escaped(message)}")
        for line in rest:
            console.print(line, markup=False)
    if style == "text" and result.diagnostics:
        errors = len(result.errors)
        warnings = len(result.diagnostics) - errors
        parts = [f"{n} {word}{'' if n == 1 else 's'}" for n, word in ((errors, "error"), (warnings, "warning")) if n]
        codes = sorted({d.code for d in result.diagnostics})
        more = f"; for more: lgtm explain {codes[0] if len(codes) == 1 else 'CODE'}"
        console.print(", ".join(parts) + more, markup=False)


FORMAT = click.option(
    "--format", "style", type=click.Choice(["text", "json", "github"]), default="text", help="How diagnostics are printed."
)


def secrets_for(project: Project, found: model.Model) -> dict[str, dict[str, bytes]]:
    """The secrets that servers need for this spec, by server. Raises LgtmError for a file that is missing."""
    from generator import apply as applying

    return applying.read_secrets(project, {"alertmanager": found.routing.secrets()})


def put(text: str, output: Path | None) -> None:
    """Print a text, or write it where it is to stand."""
    if output is None:
        click.echo(text, nl=not text.endswith("\n"))
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise LgtmError(f"{output} cannot be written: {error.strerror}.", "Name another file with --output.") from None


OUTPUT = click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file.")
