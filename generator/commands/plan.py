"""The command `lgtm plan`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from generator.console import State, escaped, read_spec, report, terminal
from generator.plan import Plan
from generator.progress import Report

_COLOURS = {"added": "green", "changed": "yellow", "removed": "red"}


@click.command(
    epilog="Exit code 0: nothing would change; 2: something would; 1: the spec is at fault, or what it is compared with."
    "\n\nExamples:\n\n\b\n  lgtm plan\n  lgtm plan --against main             # what a branch means, without a stack: for CI\n"
    "  lgtm plan --against main --markdown  # … as a comment on a pull request\n"
    "  lgtm -f new.yaml plan --against old.yaml --json\n"
)
@click.option(
    "--against",
    metavar="FILE|REVISION",
    multiple=True,
    help="Compare with a file (again: files laid over it) or with a revision of git, and not with what is in force.",
)
@click.option("--backtest/--no-backtest", default=True, help="Whether to replay SLOs that change on Prometheus's history.")
@click.option("--days", default=30, show_default=True, type=click.IntRange(1, 365), help="How much of it.")
@click.option("--markdown", "style", flag_value="markdown", help="Print as Markdown.")
@click.option("--json", "style", flag_value="json", help="Print as JSON.")
@click.pass_obj
def plan(state: State, against: tuple[str, ...], backtest: bool, days: int, style: str | None) -> None:
    """What an edit of the spec means, in words and numbers, before it is applied. Changes nothing."""
    from generator import plan as plans
    from generator import render, rendered

    found, snapshot = read_spec(state)
    artifacts = render.everything(found)
    if not against:
        base = plans.in_force(state.project)
        files = rendered.differences(state.project.root, artifacts)
    else:
        paths = [Path(name) for name in against]
        if all(path.is_file() for path in paths):
            base = plans.of_files(paths, state.variables)
        elif len(against) == 1:
            base = plans.of_revision(against[0], state.spec_files()[0], state.variables)
        else:
            missing = next(path for path in paths if not path.is_file())
            raise click.UsageError(f"There is no file {missing}.")
        files = rendered.compare(rendered.by_server(artifacts), rendered.by_server(base.artifacts))
    planned = plans.make(base, found, artifacts, files, snapshot.digest)
    if backtest and base.model is not None:
        told = terminal(stderr=True).is_terminal  # a log needs no progress
        say: Report = report if told else lambda line: None
        planned = plans.with_impact(
            planned,
            base.model,
            found,
            state.project.url("prometheus"),
            days,
            lambda line: say(f"replaying the last {days} days, {line}"),
        )
    if style == "json":
        click.echo(json.dumps(planned.as_json(), indent=2, ensure_ascii=False))
    elif style == "markdown":
        click.echo(planned.markdown(), nl=False)
    else:
        show(planned)
    if not planned.empty:
        sys.exit(2)


def show(planned: Plan, *, short: bool = False) -> None:
    """Print a plan; a short one has a screenful of it at most."""
    console = terminal()
    changes = planned.changes[:12] if short else planned.changes
    if changes:
        console.print(f"Compared with {escaped(planned.against)}:")
    for change in changes:
        colour = _COLOURS[change.action]
        flag = " [bold red](less is watched)[/]" if change.loses and change.kind != "on-call" else ""
        console.print(f"  [{colour}]{change.mark}[/] {change.kind} [bold]{escaped(change.name)}[/]{flag}")
        for detail in change.details[: 3 if short else None]:
            console.print(f"      {detail}", markup=False)
    if len(changes) < len(planned.changes):
        console.print(f"  … and {len(planned.changes) - len(changes)} more; `lgtm plan` shows all", markup=False)
    for impact in planned.impacts:
        for sentence in impact.sentences:
            console.print(f"  history: {sentence}", markup=False)
    for note in planned.notes:
        console.print(f"  note: {note}", markup=False)
    console.print(f"plan: {planned.summary()}", markup=False)
