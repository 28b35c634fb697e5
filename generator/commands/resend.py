"""``lgtm resend``: spans that Tempo has lost, from the collector's copies."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import TYPE_CHECKING

import click

from generator import words
from generator.console import State, report, terminal

if TYPE_CHECKING:
    from generator.resend import Resent

# Seconds: what is lacking from so soon after the beginning of the time that was asked for began before it.
_NEAR = 120


@click.command(
    epilog='Examples:\n\n\b\n  lgtm resend --dry-run\n  lgtm resend --since "yesterday 22:10" --until "yesterday 23:00"\n'
    '  lgtm resend --since "20 minutes ago" --at-once\n\n'
    "Tempo loses spans when its disk is full (until it is restarted), when it is killed, and with its volume."
)
@click.option("--since", default="1 hour ago", show_default=True, help='Spans that ended after this, such as "14:43".')
@click.option("--until", default="now", show_default=True, help='And before this, such as "yesterday 14:43".')
@click.option("--dry-run", is_flag=True, help="Only say what Tempo lacks.")
@click.option("--at-once", is_flag=True, help="Do not wait: Tempo counts spans of the last 5 minutes twice in its metrics.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.pass_obj
def resend(state: State, since: str, until: str, dry_run: bool, at_once: bool, as_json: bool) -> None:
    """Send spans again that Tempo has lost, from the copies that the collector keeps of the last ones."""
    from generator import resend as resending
    from generator.incident.moment import parse_time

    begin, end = parse_time(since).timestamp(), parse_time(until).timestamp()
    if begin >= end:
        raise click.UsageError(f"--since {since!r} is not before --until {until!r}.")
    found = resending.resend(state.project, begin, end, report, only_look=dry_run, at_once=at_once)
    if as_json:
        click.echo(json.dumps(found.as_json(), indent=2))
    else:
        console = terminal()
        for line in as_text(found, dry_run):
            console.print(line, markup=False)
    sys.exit(1 if found.missing else 0)


def as_text(found: Resent, dry_run: bool) -> list[str]:
    """What was found and done, in sentences."""
    lines = []
    if found.kept_since is None:
        return ["The collector has no copies: no span has come since it keeps them."]
    if found.kept_since > found.since:
        lines.append(f"The collector's copies reach back to {_when(found.kept_since)}: what came before is not known.")
    if found.torn:
        lines.append(f"{words.plural(found.torn, 'place')} in its files cannot be read: what stood there is not known.")
    every = f"{words.plural(found.spans, 'span')} of {words.plural(found.traces, 'trace')}"
    if not found.lacking or found.first is None or found.last is None:
        lines.append(f"Tempo has all that there are copies of from then: {every}.")
        return lines
    what = f"{words.plural(found.lacking, 'span')} of {words.plural(found.lacking_traces, 'trace')}"
    lines.append(f"Of {every}, Tempo lacked {what}, which ended from {_when(found.first)} to {_when(found.last)}.")
    if found.first - found.since < _NEAR and found.kept_since < found.since:
        lines.append(f'It may lack more from before: lgtm resend --since "{_when(found.kept_since)}" looks at all copies.')
    if dry_run:
        lines.append("Nothing was sent. To send them: the same without --dry-run.")
    elif found.missing:
        lines.append(
            f"They were sent again, and it still lacks {words.plural(found.missing, 'span')}. Is its disk full? Make room, "
            "then: docker compose restart tempo, and this once more."
        )
    else:
        lines.append("They were sent again, and it has them all.")
    return lines


def _when(at: float) -> str:
    moment = datetime.fromtimestamp(at).astimezone()
    today = moment.date() == datetime.now().astimezone().date()
    return f"{moment:%H:%M:%S}" if today else f"{moment:%Y-%m-%d %H:%M:%S}"
