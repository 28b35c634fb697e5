"""The commands `lgtm history` and `lgtm rollback`."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from generator.commands.apply import agreed, shower, tell
from generator.commands.plan import show
from generator.console import State, read_spec, report
from generator.errors import LgtmError

_WIDEST = 90  # characters of what an apply changed, in the table


@click.group(
    invoke_without_command=True,
    epilog="Examples:\n\n\b\n  lgtm history\n  lgtm history --json\n  lgtm history show 7      # what it changed\n"
    "  lgtm history spec 7      # the file as it was\n",
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON, times in Unix seconds.")
@click.pass_context
def history(ctx: click.Context, as_json: bool) -> None:
    """What was applied here, when, and by whom: the last fifty."""
    from generator import history as applies

    if ctx.invoked_subcommand is not None:
        return
    found = applies.entries(ctx.obj.project)
    if as_json:
        click.echo(json.dumps([entry.as_json() for entry in found], indent=2, ensure_ascii=False))
        return
    if not found:
        click.echo("Nothing was applied here yet.")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("apply", "when", "who", "how", "spec", "files", "what"):
        table.add_column(column, justify="right" if column in ("apply", "files") else "left", no_wrap=True)
    for entry in found:
        how = f"back to {entry.of}" if entry.of else entry.how
        what = entry.summary if len(entry.summary) <= _WIDEST else f"{entry.summary[: _WIDEST - 1]}…"
        table.add_row(str(entry.number), entry.when(), entry.user, how, entry.digest[:10], str(entry.files), what)
    Console(width=_WIDEST + 100, highlight=False).print(table)


@history.command(name="show", epilog="Examples:\n\n\b\n  lgtm history show 7\n  lgtm history show 7 --json\n")
@click.argument("number", type=click.IntRange(1))
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.pass_obj
def show_(state: State, number: int, as_json: bool) -> None:
    """What an apply changed, in words."""
    from generator import history as applies
    from generator.plan import Change, Plan

    kept = applies.read(state.project, number)
    entry = kept.entry
    if as_json:
        click.echo(json.dumps({**entry.as_json(), "changes": list(kept.changes)}, indent=2, ensure_ascii=False))
        return
    click.echo(f"apply {number}, {entry.when()}, by {entry.user}, {entry.how}{f' to {entry.of}' if entry.of else ''}")
    click.echo(f"spec {entry.digest[:10]} ({', '.join(sorted(kept.snapshot.files))}), lgtm {entry.version}")
    for server, what in entry.confirmed.items():
        click.echo(f"{server}: {what}")
    click.echo(f"{entry.files} rendered files changed")
    show(Plan("the apply before it", tuple(Change.of(change) for change in kept.changes), ()))


@history.command(epilog="Examples:\n\n\b\n  lgtm history spec 7\n  diff <(lgtm history spec 7) slos.yaml\n")
@click.argument("number", type=click.IntRange(1))
@click.pass_obj
def spec(state: State, number: int) -> None:
    """The spec's file as it was applied; of several each, with its name before it."""
    from generator import history as applies

    kept = applies.read(state.project, number).snapshot
    for name, text in kept.files.items():
        if len(kept.files) > 1:
            click.echo(f"# --- {name}")
        click.echo(text, nl=not text.endswith("\n"))


@click.command(
    epilog="Examples:\n\n\b\n  lgtm rollback 7\n  lgtm rollback 7 --restore-file    # the spec's text as well\n",
)
@click.argument("number", type=click.IntRange(1))
@click.option("--restore-file", is_flag=True, help="Write the spec's text back too; what is there is kept beside it.")
@click.option("--ask/--yes", default=None, help="Ask in any case, or never. Left out: on a terminal, when less is watched.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_obj
def rollback(state: State, number: int, restore_file: bool, ask: bool | None, as_json: bool) -> None:
    """Bring what was applied once into force again, exactly as it was rendered then."""
    from generator import apply as applying
    from generator import history as applies
    from generator import rendered, rollout

    project = state.project
    kept = applies.read(project, number)
    try:
        rendered.by_server(kept.artifacts)
    except ValueError as error:
        raise LgtmError(
            f"Apply {number} was rendered by version {kept.entry.version}, whose files this one does not know: {error}.",
            f"Apply its text instead: `lgtm history spec {number} > old.yaml && lgtm -f old.yaml apply`.",
        ) from None
    wanted = rollout.Wanted(
        kept.snapshot.load().model,
        kept.snapshot,
        kept.artifacts,
        applying.read_secrets(project, {"alertmanager": kept.secrets}),
    )
    outcome = rollout.roll_out(
        project,
        wanted,
        report,
        how="rollback",
        of=number,
        show=shower(as_json),
        confirm=lambda planned: agreed(planned, ask),
        prove=False,  # it was in force; and who goes back has no time
    )
    tell(outcome, as_json)
    same = {name: _text(project.root / name) == text for name, text in kept.snapshot.files.items()}
    if all(same.values()):
        return
    others = ", ".join(name for name, equal in same.items() if not equal)
    if not restore_file:
        report(
            f"Not changed: {others}. The next `lgtm apply` would bring that text into force. The old text: "
            f"`lgtm history spec {number}`, or `lgtm rollback {number} --restore-file`."
        )
        return
    for name in (name for name, equal in same.items() if not equal):
        backup = restored(project.root / name, kept.snapshot.files[name])
        report(f"{name} is as it was applied then" + (f"; what was there is in {backup.name}" if backup else ""))
    if not state.files and read_spec(state)[1].digest != kept.entry.digest:
        report("The spec is not yet what it was: look for files that were added since, and for other variables.")


def restored(path: Path, text: str) -> Path | None:
    """Put a text in the place of a file; returns where that is kept now. Raises LgtmError."""
    try:
        backup = None
        if path.exists():
            names = (path.with_name(f"{path.name}.before-rollback-{number}") for number in itertools.count(1))
            backup = next(name for name in names if not name.exists())
            os.link(path, backup)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.new")
        temporary.write_text(text, encoding="utf-8")
        if backup is not None:
            temporary.chmod(backup.stat().st_mode & 0o777)
        temporary.replace(path)
        return backup
    except OSError as error:
        raise LgtmError(
            f"{path} cannot be written: {error.strerror or error}.", "The rollback itself is in force; the text is not back."
        ) from error


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError):
        return None
