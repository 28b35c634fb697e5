"""``lgtm demo``: the commands that start, break and heal the demo service."""

from __future__ import annotations

import json
import re
import time
from datetime import datetime
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from demo import control
from generator.project import Project
from generator.units import Duration


class Share(click.ParamType[float]):
    """``20%`` or ``0.2`` as a float from 0 to 1."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%?)", str(value).strip())
        if match is None:
            self.fail(f"{value!r} is not a share. Write it as 20% or 0.2.", param, ctx)
        number = float(match[1])
        if not match[2] and number > 1:
            self.fail(f"{value!r} is more than everything. Did you mean {match[1]}%?", param, ctx)
        share = number / 100 if match[2] else number
        if share > 1:
            self.fail(f"{value!r} is more than everything. Write a share from 0% to 100%.", param, ctx)
        return share


class Seconds(click.ParamType[float]):
    """``3s``, ``500ms`` or ``1m30s`` as a float in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        text = str(value).strip()
        try:
            seconds = float(Duration.of(text).seconds)
        except ValueError:
            near = f" Did you mean {text}s?" if re.fullmatch(r"\d+(\.\d+)?", text) else ""
            self.fail(f"{value!r} is not a length of time.{near} Write it as 500ms, 3s or 1m.", param, ctx)
        if seconds > 3600:
            self.fail(f"{value!r} is more than an hour, which nobody waits for.", param, ctx)
        return seconds


def _project(ctx: click.Context) -> Project:
    # Under `lgtm`, the context's object knows which --project was meant.
    found = getattr(ctx.obj, "project", ctx.obj)
    return found if isinstance(found, Project) else Project.find()


def _console() -> Console:
    # Made per call: rich reads NO_COLOR and the terminal's width when it is made.
    return Console(highlight=False)


def _say(text: str) -> None:
    _console().print(text, markup=False, soft_wrap=True)


def describe_fault(fault: dict[str, Any]) -> str:
    """A fault in words: ``20 % errors and 3 s more latency on the database``."""
    parts = []
    if fault["errors"]:
        parts.append(f"{fault['errors'] * 100:g} % errors")
    if fault["latency_seconds"]:
        parts.append(f"{fault['latency_seconds']:g} s more latency")
    where = fault["dependency"] or "every process"
    return f"{' and '.join(parts) or 'nothing'} on {where}"


def _tell_faults(faults: list[dict[str, Any]]) -> None:
    if not faults:
        _say("No fault is switched on.")
    for fault in faults:
        _say(f"Switched on: {describe_fault(fault)}.")


@click.group()
def demo() -> None:
    """A service that can fail: start it, break it, see the page arrive, heal it.

    \b
    lgtm demo start
    lgtm demo break --errors 20%
    lgtm demo pages --follow
    lgtm demo heal
    """


@demo.command()
@click.option(
    "--rate",
    type=click.FloatRange(0, 500),
    default=control.DEFAULT_RATE,
    show_default=True,
    help="Requests per second that its users send; 0 for none.",
)
@click.option(
    "--heartbeat",
    type=Seconds(),
    default=control.DEFAULT_HEARTBEAT,
    help="How long the pager waits for a heartbeat before it says that it is lost.  [default: 2m30s]",
)
@click.pass_context
def start(ctx: click.Context, rate: float, heartbeat: float) -> None:
    """Start the demo service, its users and its pager in the background.

    \b
    lgtm demo start
    lgtm demo start --rate 30
    """
    control.start(_project(ctx), _say, rate, heartbeat)


@demo.command()
@click.pass_context
def stop(ctx: click.Context) -> None:
    """Stop the demo."""
    control.stop(_project(ctx), _say)


@demo.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_context
def status(ctx: click.Context, as_json: bool) -> None:
    """Tell whether the demo runs, where, and what is broken. Exit code 1 when it does not run.

    \b
    lgtm demo status
    """
    running = control.status(_project(ctx))
    if as_json:
        shown = None if running is None else {"pid": running.pid, "url": running.url, "state": running.state}
        click.echo(json.dumps(shown))
    elif running is None:
        _say("The demo is not running. Start it with: lgtm demo start")
    else:
        _say(f"The demo runs at {running.url} (process {running.pid}), its pager at {running.pager_url}.")
        _say(f"Its log is {running.log}.")
        if running.state is None:
            _say("It does not answer. Try: lgtm demo stop; lgtm demo start")
        else:
            _tell_state(running.state)
    if running is None:
        ctx.exit(1)


def _tell_state(state: dict[str, Any]) -> None:
    traffic, telemetry = state.get("traffic"), state.get("telemetry")
    if traffic:
        _say(f"Its users send {traffic['rate']:g} requests a second: {traffic['sent']} sent, {traffic['failed']} failed.")
    if telemetry and telemetry["failing_since"]:
        since = datetime.fromtimestamp(telemetry["failing_since"]).strftime("%H:%M:%S")
        _say(f"Since {since} the collector at {telemetry['endpoint']} takes no telemetry. Is the stack up? (lgtm status)")
    _tell_faults(state["faults"])


@demo.command("break")
@click.option("--errors", type=Share(), default=0.0, help="Share of the executions that fail, such as 20%.")
@click.option("--latency", type=Seconds(), default=0.0, help="Time added to each execution, such as 3s.")
@click.option(
    "--dependency",
    metavar="NAME",
    help="Break only what uses it: database, cache or llm-provider. Default: everything.",
)
@click.pass_context
def break_(ctx: click.Context, errors: float, latency: float, dependency: str | None) -> None:
    """Switch a fault on. Faults on different dependencies add up; a second one on the same replaces the first.

    \b
    lgtm demo break --errors 20%
    lgtm demo break --latency 3s --dependency database
    lgtm demo break --errors 100% --dependency llm-provider
    """
    if not errors and not latency:
        raise click.UsageError("Say what to break: --errors 20%, --latency 3s, or both.")
    _tell_faults(control.break_(_project(ctx), errors=errors, latency=latency, dependency=dependency))


@demo.command()
@click.pass_context
def heal(ctx: click.Context) -> None:
    """Switch all faults off."""
    _tell_faults(control.heal(_project(ctx)))


@demo.command()
@click.option("--follow", "-f", is_flag=True, help="Wait for more, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="The notifications as Alertmanager sent them, one per line.")
@click.pass_context
def pages(ctx: click.Context, follow: bool, as_json: bool) -> None:
    """Show the notifications that reached the demo's pager.

    \b
    lgtm demo pages
    lgtm demo pages --follow
    """
    project = _project(ctx)
    after, first = 0, True
    while True:
        fresh = control.pages(project, after)
        if as_json:
            for page in fresh:
                click.echo(json.dumps(page))
        elif fresh:
            for page in fresh:
                _tell_page(page)
        elif first:
            _say("No notification has arrived yet. A full outage pages within 3 minutes.")
        after, first = max((page["id"] for page in fresh), default=after), False
        if not follow:
            return
        try:
            time.sleep(1)
        except KeyboardInterrupt:
            return


_COLOURS = {"resolved": "green", "critical": "bold red", "warning": "yellow"}
# What a person who is paged looks for, in this order.
_ANNOTATIONS = ("summary", "budget_left", "deployment", "runbook_url", "dashboard_url")


def _tell_page(page: dict[str, Any]) -> None:
    at = datetime.fromisoformat(page["received_at"]).astimezone().strftime("%H:%M:%S")
    body = page["body"] if isinstance(page["body"], dict) else {}
    if "heartbeat" in body:
        last = datetime.fromisoformat(body["last"]).astimezone().strftime("%H:%M:%S")
        line = Text(f"{at}  ")
        line.append(f"heartbeat {body['heartbeat']}", style="bold red" if body["heartbeat"] == "lost" else "green")
        line.append(f"  the last beat before came at {last}")
        _console().print(line, soft_wrap=True)
        return
    alerts = body.get("alerts")
    if not isinstance(alerts, list):
        _say(f"{at}  a message that is not Alertmanager's: {json.dumps(page['body'])[:200]}")
        return
    for alert in alerts:
        labels, annotations = alert.get("labels") or {}, alert.get("annotations") or {}
        status, severity = str(alert.get("status", "?")), str(labels.get("severity", ""))
        about = "/".join(str(labels[key]) for key in ("service", "slo") if labels.get(key))
        line = Text(f"{at}  ")
        line.append(f"{status:<9}", style=_COLOURS.get(status, ""))
        line.append(f"{severity:<9}", style=_COLOURS.get(severity, ""))
        line.append(f"{labels.get('alertname', '?')}  {about}")
        console = _console()
        console.print(line, soft_wrap=True)
        for name in _ANNOTATIONS:
            if annotations.get(name):
                label = "" if name == "summary" else f"{name.removesuffix('_url').replace('_', ' ')}: "
                console.print(f"          {label}{annotations[name]}", markup=False, soft_wrap=True)
