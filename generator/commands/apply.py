"""The command `lgtm apply`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import click

from generator.commands.plan import show
from generator.console import State, read_spec, report, secrets_for
from generator.plan import Plan
from generator.rollout import Outcome


@click.command(
    epilog="It asks before something that was watched is not watched any more, and only on a terminal.\n\n"
    "Examples:\n\n\b\n  lgtm apply\n  lgtm -f slos.yaml -f production.yaml apply\n  lgtm apply --no-test    # seconds matter\n"
)
@click.option("--ask/--yes", default=None, help="Ask in any case, or never. Left out: on a terminal, when less is watched.")
@click.option("--test/--no-test", "prove", default=True, help="Whether the alerts that change are proven first.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_obj
def apply(state: State, ask: bool | None, prove: bool, as_json: bool) -> None:
    """Bring the running stack to what the spec says: plan, test, swap, reload, confirm; roll back when refused."""
    from generator import render, rollout

    found, snapshot = read_spec(state)
    wanted = rollout.Wanted(found, snapshot, render.everything(found), secrets_for(state.project, found))
    outcome = rollout.roll_out(
        state.project,
        wanted,
        report,
        show=shower(as_json),
        confirm=lambda planned: agreed(planned, ask),
        prove=prove,
    )
    tell(outcome, as_json)


def shower(as_json: bool) -> Callable[[Plan], None]:
    """What prints a plan before it is carried out: nothing for tools, which get it in the result."""

    def one(planned: Plan) -> None:
        if planned.changes and not as_json:
            show(planned, short=True)

    return one


def agreed(planned: Plan, ask: bool | None) -> bool:
    """Whether to go on."""
    terminal = sys.stdin.isatty() and sys.stderr.isatty()
    if ask is False or planned.empty or (ask is None and not (planned.loses and terminal)):
        return True
    if not terminal:
        raise click.UsageError("--ask needs a terminal to ask on.")
    for change in planned.loses:
        click.echo(f"  less is watched: {change.kind} {change.name} is {change.action}", err=True)
    return click.confirm("Apply this?", err=True)


def tell(outcome: Outcome, as_json: bool) -> None:
    """Print what was done."""
    if as_json:
        click.echo(json.dumps(outcome.as_json(), indent=2, ensure_ascii=False))
        return
    for note in outcome.notes:
        click.echo(f"note: {note}")
    click.echo(outcome.result.summary())
    if outcome.entry is not None:
        click.echo(f"kept as apply {outcome.entry.number}; `lgtm rollback {outcome.entry.number}` comes back to it")
