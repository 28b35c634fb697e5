"""The command `lgtm test`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from generator import source
from generator.console import State, escaped, load_spec, report, terminal
from generator.diagnostics import did_you_mean
from generator.model import Model
from generator.proof import Failure, Proof, Row
from generator.render import Artifact
from generator.units import Duration


@click.command(
    epilog="Needs Docker and the servers' images, but no running stack; one that runs is left alone.\n\n"
    "Exit code 0: everything is as the file wants it; 1: something is not; 2: usage.\n\n"
    "Examples:\n\n\b\n  lgtm test\n  lgtm test --changed                  # only what differs from the rendered files\n"
    "  lgtm test --only checkout --only cart/availability\n  lgtm -f examples/beacon.yaml test --json\n",
)
@click.option("--changed", is_flag=True, help="Only what differs from the rendered files on disk.")
@click.option("--only", metavar="SERVICE[/SLO]", multiple=True, help="Only this service or SLO; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.pass_obj
def test(state: State, changed: bool, only: tuple[str, ...], as_json: bool) -> None:
    """Prove each alert by the servers' own tools: that it fires, is quiet, resolves, and reaches somebody.

    From what `lgtm render` would write, on made-up data: outages of several sizes, values just under each threshold, low
    traffic, restarts, absent metrics; and for every alert whom it reaches at which time of the week, what keeps it back,
    and who is told later. docs/proof.md says more.
    """
    from generator import render
    from generator.proof import prove

    if changed and only:
        raise click.UsageError("--changed and --only exclude each other.")
    found = load_spec(state)
    _check_names(found, only)
    artifacts = render.everything(found)
    chosen: set[str] | None = set(only) or None
    all_routes = False
    if changed:
        chosen, all_routes = _changed(state, found, artifacts)
        if not chosen and not all_routes:
            click.echo("[]" if as_json else "ok: nothing that alerts differs from the rendered files")
            return
    began = time.monotonic()
    proof = prove(state.project, found, artifacts, report, chosen, all_routes=all_routes)
    places = _places(state, proof.failures)
    if as_json:
        click.echo(json.dumps(_as_json(proof, places), indent=2, ensure_ascii=False))
    else:
        _show(proof, places, time.monotonic() - began)
    if proof.failures:
        sys.exit(1)


def _check_names(found: Model, only: Sequence[str]) -> None:
    for name in only:
        service, _, slo = name.partition("/")
        if service not in found.by_name:
            hint = did_you_mean(service, found.by_name, "services")
            raise click.UsageError(f"There is no service {service}: {hint}.")
        slos = [s.name for s in found.by_name[service].slos]
        if slo and slo not in slos:
            raise click.UsageError(f"{service} has no SLO {slo}: {did_you_mean(slo, slos, 'SLOs')}.")


def _changed(state: State, found: Model, artifacts: Sequence[Artifact]) -> tuple[set[str], bool]:
    """The services whose rules differ from the files on disk, and whether the routes do."""
    root = state.project.root

    def differs(artifact: Artifact) -> bool:
        try:
            return (root / artifact.path).read_text(encoding="utf-8") != artifact.text
        except (OSError, ValueError):
            return True

    paths = {a.path for a in artifacts if a.path.startswith(("prometheus/", "alertmanager/")) and differs(a)}
    services = {s.name for s in found.services if f"prometheus/generated/rules/service-{s.name}.yaml" in paths}
    return services, any(path.startswith("alertmanager/") for path in paths)


def _places(state: State, failures: Sequence[Failure]) -> list[str]:
    """Where in the file each failure's wish stands, as ``slos.yaml:12:7``."""
    if not failures:
        return []
    read = source.load(*state.spec_files())
    return [f"{span.file}:{span.line}:{span.column}" for span in (read.key_span(failure.path) for failure in failures)]


def _show(proof: Proof, places: Sequence[str], seconds: float) -> None:
    console = terminal()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("alert", "of", "detects in", "resolves in", "reaches", "escalates to", "result"):
        table.add_column(heading, no_wrap=True)
    for row in proof.table:
        colour = "red" if row.failed else "yellow" if row.unproven else "green"
        result = "failed" if row.failed else "proven in part" if row.unproven else "proven"
        table.add_row(
            row.alert,
            escaped(row.subject),
            _clock(row.detects),
            _clock(row.resolves),
            escaped(", ".join(row.reaches) or "nobody") + (" *" if row.times else ""),
            escaped(", ".join(row.escalates)),
            f"[{colour}]{result}[/]",
        )
    # As wide as it must be: names are not cut.
    wide = Console(width=1000, highlight=False, emoji=False)
    wide.print(table, width=wide.measure(table).maximum)
    for lines in (_by_time(proof.table), _unproven(proof.table), [escaped(fact) for fact in proof.facts]):
        if lines:
            console.print()
        for line in lines:
            console.print(line)
    if proof.tests:
        console.print()
    for name, so in proof.tests:
        console.print(f"[{'green' if so else 'red'}]{'as expected' if so else 'not so':12}[/]{escaped(name)}")
    if proof.failures:
        console.print()
    for failure, place in zip(proof.failures, places, strict=True):
        console.print(f"[bold]{escaped(place)}[/] [red]failed[/] {escaped(str(failure))}")
    failed = len(proof.failures)
    partly = sum(1 for row in proof.table if row.unproven and not row.failed)
    console.print()
    words = [f"{len(proof.table)} alerts", f"{failed} failure{'' if failed == 1 else 's'}"]
    words += [f"{partly} proven in part"] if partly else []
    console.print(f"{'failed' if failed else 'ok'}: {', '.join(words)}, in {seconds:.0f} s", markup=False)


def _by_time(rows: Sequence[Row]) -> list[str]:
    """Whom alerts reach at which time, each way once."""
    ways = dict.fromkeys(row.times for row in rows if row.times)
    return [f"* {escaped('; '.join(way))}" for way in ways]


def _unproven(rows: Sequence[Row]) -> list[str]:
    return [f"[yellow]not proven[/] {escaped(f'{row.subject}, {row.alert}: {why}')}" for row in rows for why in row.unproven]


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return ""
    whole = round(seconds) if seconds < 600 else round(seconds / 60) * 60
    return str(Duration(Decimal(whole))) if whole else "at once"


def _as_json(proof: Proof, places: Sequence[str]) -> dict[str, Any]:
    return {
        "alerts": [
            {
                "alert": row.alert,
                "of": row.subject,
                "severity": row.severity,
                "detects_in_seconds": row.detects,
                "resolves_in_seconds": row.resolves,
                "reaches": list(row.reaches),
                "escalates_to": list(row.escalates),
                "by_time": list(row.times),
                "result": "failed" if row.failed else "proven in part" if row.unproven else "proven",
                "not_proven": list(row.unproven),
            }
            for row in proof.table
        ],
        "tests": [{"name": name, "as_expected": so} for name, so in proof.tests],
        "facts": list(proof.facts),
        "failures": [
            {"place": place, "alert": f.alert, "of": f.subject, "found_by": f.by, "message": f.message}
            for f, place in zip(proof.failures, places, strict=True)
        ],
    }
