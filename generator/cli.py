"""The command `lgtm`. The only place that prints.

Exit codes: 0 ok, 1 the spec or the stack is at fault, 2 usage, 130 interrupted.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, Literal

import click
from rich.console import Console

from generator import diagnostics, model
from generator.errors import LgtmError
from generator.project import Project

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


def _console(*, stderr: bool = False) -> Console:
    # Rich honours NO_COLOR and a terminal's absence; wrapping would break paths and queries that people copy.
    return Console(stderr=stderr, soft_wrap=True, highlight=False)


def _report(message: str) -> None:
    """Progress of long work: on stderr, so that stdout stays for results."""
    _console(stderr=True).print(message, markup=False)


class Group(click.Group):
    """Commands whose errors are sentences."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run, and turn what a user can mend into a message and an exit code."""
        try:
            return super().invoke(ctx)
        except LgtmError as error:
            console = _console(stderr=True)
            console.print(f"[bold red]error:[/] {_escaped(error.message)}")
            if error.hint:
                console.print(_escaped(error.hint))
            ctx.exit(error.exit_code)
        except BrokenPipeError:
            # The reader of a pipe has seen enough.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)


def _escaped(text: str) -> str:
    return text.replace("[", "\\[")


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Examples:\n\n\b\n  lgtm validate\n  lgtm -f slos.yaml -f production.yaml render --check\n  lgtm apply\n",
)
@click.option(
    "-C",
    "--project",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="The project's directory; the nearest one with a compose.yaml when left out.",
)
@click.option("-f", "--file", "files", multiple=True, type=click.Path(), help="The spec; again for files laid over it.")
@click.version_option(package_name="lgtm-as-code", prog_name="lgtm")
@click.pass_context
def cli(ctx: click.Context, project: Path | None, files: tuple[str, ...]) -> None:
    """One file says what good service means; rules, dashboards, routes and probes follow from it."""
    ctx.obj = State(project, files)


def _load(state: State, style: Format = "text") -> model.Model:
    """The Model, or the diagnostics printed and exit code 1."""
    files, shown = state.spec_files()
    result = model.load(files, shown)
    _print_diagnostics(result, style)
    if result.model is None:
        sys.exit(1)
    return result.model


def _print_diagnostics(result: model.Result, style: Format) -> None:
    if style == "json":
        click.echo(json.dumps([diagnostics.as_json(d) for d in result.diagnostics], indent=2, ensure_ascii=False))
        return
    console = _console(stderr=True)
    for d in result.diagnostics:
        if style == "github":
            click.echo(diagnostics.as_github(d))
            continue
        first, *rest = diagnostics.as_text(d, result.texts).split("\n")
        head, _, message = first.partition(f" {d.severity}[")
        colour = "red" if d.severity == "error" else "yellow"
        console.print(
            f"[bold]{_escaped(head)}[/] [{colour}]{d.severity}\\[{_escaped(message.partition(':')[0])}[/]:{_escaped(message.partition(':')[2])}"
        )
        for line in rest:
            console.print(line, markup=False)
    if style == "text" and result.diagnostics:
        errors = len(result.errors)
        warnings = len(result.diagnostics) - errors
        parts = [f"{n} {word}{'' if n == 1 else 's'}" for n, word in ((errors, "error"), (warnings, "warning")) if n]
        console.print(", ".join(parts), markup=False)


FORMAT = click.option(
    "--format", "style", type=click.Choice(["text", "json", "github"]), default="text", help="How diagnostics are printed."
)


@cli.command(epilog="Examples:\n\n\b\n  lgtm validate\n  lgtm -f examples/beacon.yaml validate --format json\n")
@FORMAT
@click.pass_obj
def validate(state: State, style: Format) -> None:
    """Check the spec: every fault, with its place and what to do. Writes nothing."""
    found = _load(state, style)
    if style == "text":
        slos = list(found.slos)
        alerts = sum(len(s.alerts) for s in found.services)
        click.echo(f"ok: {len(found.services)} services, {len(slos)} SLOs, {alerts} threshold alerts")


@cli.command(
    epilog="Examples:\n\n\b\n  lgtm render\n  lgtm render --check          # in CI: are the rendered files those of slos.yaml?\n  lgtm -f my.yaml render --output out/\n"
)
@click.option("--check", is_flag=True, help="Write nothing; exit 1 when the files on disk differ.")
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), help="Another directory than the project.")
@FORMAT
@click.pass_obj
def render(state: State, check: bool, output: Path | None, style: Format) -> None:
    """Write what follows from the spec: rules, scrape targets, routes, dashboards."""
    from generator import apply, render

    artifacts = render.everything(_load(state, style))
    root = output if output is not None else state.project.root
    if check:
        differences = apply.check(root, artifacts)
        for difference in differences:
            click.echo(difference)
        if differences:
            raise LgtmError(f"{len(differences)} rendered files are not those of the spec.", "Run: lgtm render")
        click.echo(f"ok: {len(artifacts)} files are up to date")
        return
    changed = apply.write(root, artifacts)
    click.echo(f"{len(artifacts)} files rendered, {len(changed)} changed")


def main() -> None:
    """The entry point."""
    cli()
