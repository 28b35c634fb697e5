"""The command `lgtm drill`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from generator import drill as drills
from generator import model as models
from generator import stack
from generator.console import State, load_spec, report, terminal
from generator.errors import LgtmError
from generator.project import Project
from generator.units import Duration


@click.group()
def drill() -> None:
    """Break something on purpose, and time what the alerts do about it.

    \b
    lgtm drill run council-api/availability
    lgtm drill run watchdog --stop alertmanager
    lgtm drill list
    """


def _share(_: click.Context, option: click.Parameter, text: str | None) -> Decimal | None:
    if text is None:
        return None
    try:
        ratio = Decimal(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ArithmeticError:
        ratio = Decimal(-1)
    if not 0 < ratio <= 1:
        raise click.BadParameter(f"{text!r} is not a share. Write it as 20% or 0.2.", param=option)
    return ratio


def _seconds(_: click.Context, option: click.Parameter, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return float(Duration.of(text).seconds)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a length of time. Write it as 500ms, 3s or 10m.", param=option) from None


@drill.command(
    epilog="Exit code 1: something came too late, or not at all.\n\n"
    "Examples:\n\n\b\n"
    "  lgtm drill run council-api/availability                  # the demo fails, as with `lgtm demo break`\n"
    "  lgtm drill run council-api/availability --errors 20%\n"
    "  lgtm drill run council-api/latency --latency 3s --dependency database\n"
    "  lgtm drill run checkout/availability --break 'kubectl scale deploy/checkout --replicas 0' \\\n"
    "      --heal 'kubectl scale deploy/checkout --replicas 3'\n"
    "  lgtm drill run watchdog --stop prometheus                # who notices that nobody can be told?\n"
    "  lgtm drill run receiver --receiver pager                 # who is told that pages are lost?\n"
)
@click.argument("target", metavar="SERVICE/SLO|SERVICE/ALERT|watchdog|receiver")
@click.option("--errors", callback=_share, help="On the demo: share of its executions that fail.  [default: 100%]")
@click.option("--latency", callback=_seconds, help="On the demo: time added to each execution, such as 3s.")
@click.option("--dependency", metavar="NAME", help="On the demo: break only what uses it.")
@click.option("--break", "break_", metavar="CMD", help="A command that breaks it; run without a shell.")
@click.option("--heal", metavar="CMD", help="A command that heals it; run in any case, also after Ctrl-C.")
@click.option("--ratio", callback=_share, help="Share of the events that CMD makes bad.  [default: 100%]")
@click.option("--stop", type=click.Choice(["alertmanager", "prometheus"]), help="For watchdog: the server to stop.")
@click.option("--receiver", default="pager", show_default=True, help="For receiver: the one that is lost.")
@click.option("--limit", callback=_seconds, default="1m", show_default=True, help="How long CMD may take.")
@click.option(
    "--patience", callback=_seconds, help="How long to wait for each step.  [default: twice what is promised, and 2m]"
)
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON; progress stays on stderr.")
@click.pass_obj
def run(state: State, /, target: str, as_json: bool, **options: Any) -> None:
    """Break TARGET, wait for its alert and its notification, heal it, wait for the end; each against what is promised."""
    for one, other in (("break_", "heal"), ("heal", "break_")):
        if options[one] and not options[other]:
            raise click.UsageError(f"--{one.rstrip('_')} needs --{other.rstrip('_')} beside it.")
    if options["break_"] and (options["errors"] or options["latency"] or options["dependency"]):
        raise click.UsageError("Break it by --break CMD, or the demo by --errors and --latency: one of both.")
    found = load_spec(state)
    outcome = _hold(state.project, found, target, options)
    if as_json:
        click.echo(json.dumps(outcome.as_json(), indent=2))
    else:
        _show(outcome)
    if not outcome.passed:
        sys.exit(1)


def _hold(project: Project, found: models.Model, target: str, options: dict[str, Any]) -> drills.Outcome:
    patience = options["patience"]
    own = drills.commands(options["break_"], options["heal"], options["limit"]) if options["break_"] else None
    pager = _pager(project)
    if target == "watchdog":
        server = options["stop"]
        if server is None:
            raise click.UsageError("Say which server may be stopped: --stop alertmanager, or --stop prometheus.")
        if pager is None:
            raise LgtmError("The demo is not running, and its pager is what listens here.", "Start it with: lgtm demo start")

        def switch(*words: str) -> Callable[[str], None]:
            return lambda name: (stack.compose(project, *words, name), None)[1]

        return drills.of_watchdog(
            project, found, server, report, pager, stop=switch("stop"), start=switch("start"), patience=patience
        )
    if target == "receiver":
        return drills.of_receiver(project, found, options["receiver"], report, breakage=own, patience=patience, pager=pager)
    ratio = options["ratio"] or Decimal(1)
    if own is None:
        service, slo, _ = drills.find(found, target)
        own, ratio = _demo(project, service.name, options)
        if slo is not None and options["ratio"]:
            ratio = options["ratio"]
    return drills.of_alert(project, found, target, own, report, ratio=ratio, patience=patience, pager=pager)


def _demo(project: Project, service: str, options: dict[str, Any]) -> tuple[drills.Breakage, Decimal]:
    """A fault of the demo, and the share of events that it makes bad."""
    if service not in ("council-api", "database"):
        raise click.UsageError(f"{service} is not the demo's. Say how to break and heal it: --break CMD --heal CMD")
    from demo import control
    from demo.cli import describe_fault

    latency = float(options["latency"] or 0)
    errors = options["errors"] or Decimal(0 if latency else 1)
    dependency: str | None = options["dependency"] or ("database" if service == "database" else None)
    if control.status(project) is None:
        raise LgtmError("The demo is not running.", "Start it with: lgtm demo start")

    def break_() -> None:
        control.break_(project, errors=float(errors), latency=latency, dependency=dependency)

    def heal() -> None:
        control.heal(project)

    words = describe_fault({"dependency": dependency, "errors": float(errors), "latency_seconds": latency})
    return drills.Breakage(words, "switch the demo's faults off", break_, heal), errors or Decimal(1)


@dataclass(frozen=True)
class _DemoPager:
    project: Project

    def pages(self, after: int) -> list[dict[str, Any]]:
        from demo import control

        return control.pages(self.project, after)

    def heartbeat(self) -> dict[str, Any]:
        from demo import control

        return control.heartbeat(self.project)

    def refuse(self, path: str | None) -> None:
        from demo import control

        control.refuse(self.project, path)


def _pager(project: Project) -> drills.Pager | None:
    """The demo's pager, where it runs."""
    try:
        from demo import control
    except ImportError:
        return None
    return None if control.status(project) is None else _DemoPager(project)


@drill.command(name="list", epilog="Examples:\n\n\b\n  lgtm drill list\n  lgtm drill list --json\n")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.pass_obj
def list_(state: State, as_json: bool) -> None:
    """The drills that were held, the latest last."""
    found = drills.records(state.project)
    if as_json:
        click.echo(json.dumps([one.as_json() for one in found], indent=2))
        return
    if not found:
        click.echo("No drill was held yet. One on the demo: lgtm drill run council-api/availability")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("begun", "target", "result", ""):
        table.add_column(column, no_wrap=True)
    for one in found:
        begun = datetime.fromisoformat(one.begun).astimezone().strftime("%Y-%m-%d %H:%M")
        steps = "\n".join(f"{s.name} {_time(s.seconds)}" for s in one.steps)
        table.add_row(begun, one.target, _verdict(one), steps)
    console = terminal()
    Console(width=max(120, console.width), highlight=False).print(table)
    for one in found:
        if one.broken:
            why = "was not healed" if one.state == "not healed" else "has no end"
            console.print(f"{one.target} of {one.begun} {why}: it may still be broken. Heal it: {one.healed_by}", markup=False)


def _verdict(one: drills.Outcome) -> str:
    return ("[green]passed[/]" if one.passed else "[red]failed[/]") if one.state == "done" else f"[yellow]{one.state}[/]"


def _time(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.0f} s"


def _show(outcome: drills.Outcome) -> None:
    console = terminal()
    console.print(f"[bold]{outcome.target}[/]: {outcome.broken_by}")
    table = Table(box=None, pad_edge=False)
    for column, side in (("", "left"), ("took", "right"), ("at most", "right"), ("", "left")):
        table.add_column(column, justify="right" if side == "right" else "left")
    for step in outcome.steps:
        mark = "[green]ok[/]" if step.passed else "[red]too late[/]" if step.seconds is not None else "[red]missing[/]"
        table.add_row(f"  {step.name}", _time(step.seconds), "-" if step.longest is None else _time(step.longest), mark)
    console.print(table)
    for receiver, counts in outcome.notifications.items():
        told = [f"{counts[key]} {key}" for key in ("firing", "resolved") if key in counts]
        about = f"{', '.join(told)} about this; " if told else ""
        console.print(f"  {receiver}: {about}{counts['sent']} sent in all, {counts['failed']} failed", markup=False)
    for note in outcome.notes:
        console.print(f"  {note}", markup=False)
    console.print(_verdict(outcome))
