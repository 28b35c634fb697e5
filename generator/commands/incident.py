"""``lgtm incident``: what happened to a service, or to one company on it, around a minute."""

from __future__ import annotations

import json

import click

from generator.console import State, terminal


@click.command(
    epilog='Examples:\n\n\b\n  lgtm incident --service council-api --at "yesterday 14:43"\n'
    '  lgtm incident --service council-api --at "20 minutes ago" --company northwind\n'
    "  lgtm incident --service council-api --at now --within 20s    # on a slow machine\n"
)
@click.option("--service", required=True, help="The service: its name in slos.yaml.")
@click.option("--at", "at", required=True, help='When: "yesterday 14:43", "14:43", "20 minutes ago", "2026-11-20 14:43".')
@click.option("--company", help="Only executions and logs of this company (company.id).")
@click.option("--window", default="5m", show_default=True, help="How far to look before and after.")
@click.option("--within", help="Wait this long for the servers, as 20s. Otherwise all is said in less than five seconds.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.pass_obj
def incident(state: State, service: str, at: str, company: str | None, window: str, within: str | None, as_json: bool) -> None:
    """What happened: who was hurt, by what, since when; alerts, SLOs, executions and the deployment before, with links."""
    from generator import incident as incidents

    around = incidents.seconds(window)
    if around is None:
        raise click.UsageError(f"{window!r} is not a length of time. Write it as 5m or 1h.")
    if not 30 <= around <= 21_600:
        raise click.UsageError("--window is from 30s to 6h.")
    patience = incidents.seconds(within) if within is not None else None
    if within is not None and (patience is None or not 1 <= patience <= 300):
        raise click.UsageError("--within is from 1s to 5m.")
    found = incidents.investigate(
        state.project, service, incidents.parse_time(at), company=company, window=around, within=patience
    )
    if as_json:
        click.echo(json.dumps(found.as_json(), indent=2))
        return
    console = terminal()
    for line in incidents.as_text(found, clickable=console.is_terminal):
        console.print(line)
