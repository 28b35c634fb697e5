"""The command `lgtm verify`."""

from __future__ import annotations

import dataclasses
import itertools
import json
import sys
import time
from collections.abc import Iterator, Sequence

import click

from generator import model, render
from generator import verify as verification
from generator.console import State, escaped, load_spec, read_spec, report, secrets_for, terminal
from generator.errors import LgtmError
from generator.units import Duration
from generator.verify import KINDS, telemetry
from generator.verify.check import LEVELS, Check
from generator.verify.look import SILENT

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red", "skipped": "dim"}
_MANY = 6
_TITLES = {"fail": "failed", "warn": "warnings", "skipped": "could not be looked at", "ok": "ok"}


def _every(_context: click.Context, _parameter: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    try:
        seconds = float(Duration.of(value).seconds)
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a length of time. Write it as 5m or 1h.") from None
    if not 10 <= seconds <= 86_400:
        raise click.BadParameter("from 10s to 1d.")
    return seconds


@click.command(
    epilog="Exit code 1: something failed. --every runs until Ctrl-C (130) and tells only what has changed.\n\n"
    "Examples:\n\n\b\n  lgtm verify\n  lgtm verify --repair             # then `lgtm apply`, and look again\n"
    "  lgtm verify --only slis --only processes --all\n"
    "  lgtm verify --push --every 5m    # so that the alert ConfigurationDrift can fire\n"
    "  lgtm verify --json | jq '.checks[] | select(.level == \"fail\")'\n"
)
@click.option("--all", "everything", is_flag=True, help="One line for each check, also for those that are ok.")
@click.option("--only", multiple=True, type=click.Choice(list(KINDS)), metavar="KIND", help=f"Of {', '.join(KINDS)}; again.")
@click.option("--quick", is_flag=True, help="Only whether files, configuration and rules are those of the spec and healthy.")
@click.option("--repair", is_flag=True, help="Run `lgtm apply` when files or configuration differ, and look again.")
@click.option("--push", is_flag=True, help="Send the result to the collector, where alerts see it.")
@click.option("--to", "endpoint", envvar="OTEL_EXPORTER_OTLP_ENDPOINT", help="The collector, when not this project's.")
@click.option("--every", callback=_every, metavar="TIME", help="Go on, at this interval (5m), until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON; with --every one line each time.")
@click.pass_obj
def verify(
    state: State,
    everything: bool,
    only: tuple[str, ...],
    quick: bool,
    repair: bool,
    push: bool,
    endpoint: str | None,
    every: float | None,
    as_json: bool,
) -> None:
    """Compare the running stack with the spec, and look whether it works. Changes nothing without --repair."""
    if only and quick:
        raise click.UsageError("--only and --quick are two choices of what to look at: give one.")
    if push and (only or quick):
        raise click.UsageError("--push sends the whole result: leave out --only and --quick.")
    if every is not None:
        _watch(state, every, endpoint if push else None, push, only, quick, repair, as_json)
        return
    found = load_spec(state)
    checks, seconds = _look(state, found, only, quick)
    repaired: list[str] = []
    if repair and _repairable(checks):
        repaired = _apply(state)
        checks, seconds = _look(state, found, only, quick)
    if as_json:
        click.echo(json.dumps(_as_json(checks, seconds, repaired), indent=2, ensure_ascii=False))
    else:
        _print(checks, seconds, everything)
    if push:
        telemetry.push(state.project, checks, endpoint=endpoint)
    if verification.failed(checks):
        sys.exit(1)


def _look(state: State, found: model.Model, only: Sequence[str], quick: bool) -> tuple[list[Check], float]:
    began = time.monotonic()
    checks = verification.verify(state.project, found, render.everything(found), quick=quick, only=only)
    return checks, time.monotonic() - began


def _repairable(checks: Sequence[Check]) -> bool:
    return any(check.level == "fail" and check.kind in verification.REPAIRABLE for check in checks)


def _apply(state: State) -> list[str]:
    """What `lgtm apply` does, and what it changed."""
    from generator import rollout
    from generator.commands.apply import agreed

    found, snapshot = read_spec(state)
    wanted = rollout.Wanted(found, snapshot, render.everything(found), secrets_for(state.project, found))
    outcome = rollout.roll_out(state.project, wanted, report, how="repair", confirm=lambda planned: agreed(planned, None))
    for line in outcome.result.summary().splitlines():
        report(line)
    return [*(d.path for d in outcome.result.changed), *(f"{server} reloaded" for server in outcome.result.reloaded)]


def _watch(
    state: State,
    every: float,
    endpoint: str | None,
    push: bool,
    only: Sequence[str],
    quick: bool,
    repair: bool,
    as_json: bool,
) -> None:
    """Look again and again; tell what has changed. What goes wrong in one turn is told, and the next one comes."""
    before: dict[tuple[str, str], Check] | None = None
    while True:
        began = time.monotonic()
        checks, seconds, repaired = _turn(state, only, quick, repair)
        if as_json:
            click.echo(json.dumps(_as_json(checks, seconds, repaired), ensure_ascii=False))
        else:
            before = _print_changes(checks, before)
        if push:
            try:
                telemetry.push(state.project, checks, endpoint=endpoint)
            except LgtmError as error:
                report(error.message)
        time.sleep(max(1.0, every - (time.monotonic() - began)))


def _turn(state: State, only: Sequence[str], quick: bool, repair: bool) -> tuple[list[Check], float, list[str]]:
    """One turn of the watch. A spec with faults is a failed check of its own: people edit while it runs."""
    files, shown = state.spec_files()
    result = model.load(files, shown, retention=state.retention, variables=state.variables)
    if result.model is None:
        faults = f"{len(result.errors)} error{'' if len(result.errors) == 1 else 's'}"
        unseen = [Check(kind, kind, "skipped", f"{shown[0]} has {faults}") for kind in KINDS]
        return [Check("files", shown[0], "fail", f"it has {faults}", "Run `lgtm validate`."), *unseen], 0.0, []
    checks, seconds = _look(state, result.model, only, quick)
    repaired: list[str] = []
    if repair and _repairable(checks):
        try:
            repaired = _apply(state)
            checks, seconds = _look(state, result.model, only, quick)
        except LgtmError as error:
            report(str(error))
    return checks, seconds, repaired


def _as_json(checks: Sequence[Check], seconds: float, repaired: Sequence[str]) -> dict[str, object]:
    return {
        "ok": not verification.failed(checks),
        "at": round(time.time(), 3),
        "seconds": round(seconds, 3),
        "counts": {level: sum(check.level == level for check in checks) for level in LEVELS},
        "repaired": list(repaired),
        "checks": [dataclasses.asdict(check) for check in checks],
    }


def _line(check: Check) -> str:
    colour = _COLOURS[check.level]
    return f"[{colour}]{check.level:<7}[/] [bold]{check.kind}[/] {escaped(check.name)}: {escaped(check.text)}"


def _print(checks: Sequence[Check], seconds: float, everything: bool) -> None:
    console = terminal()
    for level in LEVELS:
        of_level = [check for check in checks if check.level == level]
        if not of_level:
            continue
        console.print(f"[bold]{_TITLES[level]}[/]")
        if level == "ok" and not everything:
            for kind in KINDS:
                ok = [check for check in of_level if check.kind == kind]
                if ok:
                    whole = sum(check.kind == kind for check in checks)
                    # A kind of one or two checks has room for what they say; of others, how many.
                    said = (
                        "; ".join(c.text for c in ok)
                        if len(ok) == 1
                        else f"{len(ok)} of {whole}"
                        if len(ok) < whole
                        else f"all {whole}"
                    )
                    console.print(f"  [green]ok[/]      [bold]{kind}[/] {escaped(said)}")
            continue
        for check, more in _shortened(of_level, everything):
            console.print(f"  {_line(check)}")
            if more:
                console.print(f"          {more}", markup=False)
    console.print(f"{_summary(checks)}; looked at in {seconds:.1f} s", markup=False)


def _summary(checks: Sequence[Check]) -> str:
    numbers = {level: sum(check.level == level for check in checks) for level in LEVELS}
    words = {**_TITLES, "warn": "warning" if numbers["warn"] == 1 else "warnings"}
    return ", ".join(f"{number} {words[level]}" for level, number in numbers.items() if number)


def _shortened(checks: Sequence[Check], everything: bool) -> Iterator[tuple[Check, str]]:
    """Each check with what stands below it. What several have in common is said once."""
    # One server that is silent is the reason of many kinds.
    kinds: dict[tuple[str, str], list[str]] = {}
    for check in checks:
        kinds.setdefault((check.name, check.text), []).append(check.kind)
    told = [
        dataclasses.replace(check, kind=", ".join(dict.fromkeys(kinds.pop((check.name, check.text)))))
        for check in checks
        if (check.name, check.text) in kinds
    ]
    for _, group in itertools.groupby(told, key=lambda check: (check.kind, check.cure)):
        same = list(group)
        shown = same if everything or len(same) <= _MANY else same[: _MANY - 1]
        left = len(same) - len(shown)
        more = [f"… and {left} more: --all shows them"] if left else []
        cure = [same[0].cure] if same[0].cure and same[0].level != "ok" else []
        yield from ((check, "") for check in shown[:-1])
        yield shown[-1], "\n          ".join([*more, *cure])


def _print_changes(checks: Sequence[Check], before: dict[tuple[str, str], Check] | None) -> dict[tuple[str, str], Check]:
    """A line for each check that is worse or better than at the last turn; at the first, for each that is not ok.

    What could not be looked at is neither: it is as it was.
    """
    console = terminal()
    levels = {(check.kind, check.name): check.level for check in checks}
    # A server that is silent hides the single checks, and stands there itself.
    unseen = {c.kind for c in checks if c.level == "skipped" and (c.name == c.kind or c.text.startswith(SILENT))}
    now = {(check.kind, check.name): check for check in checks if check.level in ("fail", "warn")}
    stamp = time.strftime("%H:%M:%S")
    for key, check in now.items():
        if before is None or key not in before or before[key].level != check.level:
            console.print(f"{stamp} {_line(check)}")
    for key, check in (before or {}).items():
        if key in now:
            continue
        if levels.get(key, "skipped" if check.kind in unseen else "ok") == "skipped":
            now[key] = check
        else:
            console.print(
                f"{stamp} [green]ok     [/] [bold]{check.kind}[/] {escaped(check.name)}: it was: {escaped(check.text)}"
            )
    if before is None:
        console.print(f"{stamp} looking: {_summary(checks)}", markup=False)
    return now
