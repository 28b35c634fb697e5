"""The command `lgtm backtest`."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import click
from rich.table import Table

from generator import words
from generator.console import State, escaped, load_spec, report, terminal
from generator.errors import LgtmError
from generator.progress import Report
from generator.units import Duration, percent

if TYPE_CHECKING:
    from generator.backtest import Backtest, Candidate, Found, Page, Source, Suggestion
    from generator.model import Model

_SECRET_HEADERS = ("authorization", "proxy-authorization", "cookie", "x-api-key", "apikey")
_WEEK = 604_800
_BARS = "▁▂▃▄▅▆▇█"


@click.command(
    epilog="FILE of --incidents is YAML or CSV: start, end, service, name; times as 2026-11-20T14:43Z.\n\n"
    "Examples:\n\n\b\n  lgtm backtest\n  lgtm backtest --days 30 --suggest\n"
    "  lgtm backtest --service checkout --incidents incidents.yaml\n"
    "  lgtm -f new.yaml backtest --slo checkout/latency --json\n"
    "  lgtm backtest --prometheus https://mimir.example.com/prometheus \\\n"
    "      --header 'X-Scope-OrgID: shop' --token-file ~/.mimir-token\n"
)
@click.option("--days", type=click.FloatRange(0.01, 400), help="How far back; as far as Prometheus keeps data when left out.")
@click.option("--until", help='The end of the history, such as "yesterday 18:00"; now when left out.')
@click.option("--service", "services", multiple=True, help="Only this service; again for others.")
@click.option("--slo", "slos", multiple=True, metavar="SERVICE/NAME", help="Only this SLO or alert; again for others.")
@click.option("--suggest", is_flag=True, help="Propose objectives that history supports.")
@click.option("--incidents", type=click.Path(path_type=Path), help="Known incidents: which were missed, which pages were none.")
@click.option("--step", default="30s", type=click.Choice(["30s", "1m", "5m"]), show_default=True, help="Coarser is quicker.")
@click.option("--prometheus", "url", help="The address of another Prometheus, or of Mimir (…/prometheus).")
@click.option(
    "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="Send this with each query; again for others."
)
@click.option("--token-file", type=click.Path(path_type=Path), help="A file with a bearer token, or with --user a password.")
@click.option("--user", help="The user of basic authentication; the password is in --token-file.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON: times in Unix seconds, shares from 0 to 1.")
@click.pass_obj
def backtest(
    state: State,
    days: float | None,
    until: str | None,
    services: tuple[str, ...],
    slos: tuple[str, ...],
    suggest: bool,
    incidents: Path | None,
    step: str,
    url: str | None,
    headers: tuple[str, ...],
    token_file: Path | None,
    user: str | None,
    as_json: bool,
) -> None:
    """Replay the file's alerts on the history in Prometheus: when each would have fired, and what was left of each budget.

    Exit code 1: the server does not answer, or not every query.
    """
    from generator import backtest as backtesting
    from generator import incident

    found = load_spec(state)
    only = _chosen(found, services, slos)
    known = backtesting.read_incidents(incidents, found) if incidents else None
    end = incident.parse_time(until).timestamp() if until else time.time()
    prometheus = _source(state, url, headers, token_file, user)
    try:
        whole = min(prometheus.retention() or 30 * backtesting.DAY, 400 * backtesting.DAY)
        start = end - (days * backtesting.DAY if days else whole)
        with _progress() as say:
            result = backtesting.backtest(
                found, prometheus, start, end, only=only, step=int(Duration.of(step).seconds), suggest=suggest, report=say
            )
    finally:
        prometheus.close()
    compared = backtesting.compare(found, result.pages, known) if known is not None else None
    if as_json:
        click.echo(json.dumps(_as_json(result, compared), indent=2, ensure_ascii=False))
    else:
        _print(found, result, compared)
    if result.failed:
        sys.exit(1)


@contextmanager
def _progress() -> Iterator[Report]:
    """On a terminal one line that changes, elsewhere nothing but that it began: a log of a hundred lines helps nobody."""
    console = terminal(stderr=True)
    if console.is_terminal:
        with console.status("asking Prometheus") as status:
            yield lambda line: status.update(escaped(line))
        return
    report("asking Prometheus …")
    yield lambda line: None


def _chosen(found: Model, services: tuple[str, ...], slos: tuple[str, ...]) -> set[tuple[str, str]] | None:
    from generator import diagnostics

    if not services and not slos:
        return None
    every = {
        (service.name, name)
        for service in found.services
        for name in (
            *(slo.name for slo in service.slos),
            *(alert.name for alert in service.alerts),
            *(probe.name for probe in service.probes),
        )
    }
    for name in services:
        if name not in found.by_name:
            raise LgtmError(f"There is no service {name!r}.", diagnostics.did_you_mean(name, found.by_name, "services"))
    shown = {f"{service}/{name}" for service, name in every}
    for name in slos:
        if name not in shown:
            raise LgtmError(f"There is no SLO or alert {name!r}.", diagnostics.did_you_mean(name, shown, "SLOs and alerts"))
    return {key for key in every if key[0] in services or f"{key[0]}/{key[1]}" in slos}


def _source(state: State, url: str | None, headers: tuple[str, ...], token_file: Path | None, user: str | None) -> Source:
    from generator.backtest import Source

    sent = {}
    for header in headers:
        name, colon, value = header.partition(":")
        if not colon or not name.strip():
            raise click.UsageError(f"{name!r} is no header. Write it as 'X-Scope-OrgID: shop'.")
        if name.strip().lower() in _SECRET_HEADERS:
            raise click.UsageError(f"{name.strip()} is a secret, which everybody on this machine could read: use --token-file.")
        sent[name.strip()] = value.strip()
    if url is not None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise click.UsageError(f"{url!r} is no address. Write it as http://HOST:9090.")
        if parts.password is not None or parts.username is not None:
            raise click.UsageError(
                "A password in an address is seen by everybody on this machine: use --user and --token-file."
            )
    if user is not None and token_file is None:
        raise click.UsageError("--user needs its password in a file: --token-file FILE.")
    token = None
    if token_file is not None:
        try:
            token = token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise LgtmError(f"{token_file} cannot be read: {reason}.", "It holds the token and nothing else.") from None
        if not token or not token.isprintable():
            raise LgtmError(f"{token_file} holds no token.", "It holds the token and nothing else, on one line.")
    return Source(url or state.project.url("prometheus"), headers=sent, token=token, user=user)


# --- JSON --------------------------------------------------------------------------------------------------------------------


def _as_json(result: Backtest, compared: tuple[list[Found], list[Page]] | None) -> dict[str, Any]:
    data: dict[str, Any] = {
        "start": result.start,
        "end": result.end,
        "pages": [_page(page) for page in result.pages],
        "slos": {
            f"{service}/{name}": {
                "no_data": (service, name) in result.no_data,
                "error": result.failed.get((service, name)),
                "since": result.since.get((service, name)),
                "weeks": round(result.weeks((service, name)), 4) if (service, name) in result.since else None,
                "remaining": result.remaining[service, name],
                "spent": spent,
                "budget": result.budget.get((service, name), []),
            }
            for (service, name), spent in result.spent.items()
        },
        "notes": [{"of": "/".join(filter(None, key)), "note": note} for key, note in result.notes],
    }
    if result.suggestions:
        data["suggestions"] = [_suggestion(suggestion) for suggestion in result.suggestions]
    if compared is not None:
        found, others = compared
        data["incidents"] = [
            {
                **dataclasses.asdict(one.incident),
                "missed": one.paged is None,
                "after": one.after,
                "alerts": [_page(page) for page in one.alerts],
            }
            for one in found
        ]
        data["pages_of_no_incident"] = [_page(page) for page in others]
    return data


def _page(page: Page) -> dict[str, Any]:
    return {**dataclasses.asdict(page), "group": dict(page.group)}


def _suggestion(suggestion: Suggestion) -> dict[str, Any]:
    data = dataclasses.asdict(suggestion)
    data["objective"] = float(suggestion.objective)
    data["proposed"] = None if suggestion.proposed is None else float(suggestion.proposed)
    for candidate in data["candidates"]:
        candidate["objective"] = float(candidate["objective"])
    return data


# --- For people --------------------------------------------------------------------------------------------------------------


def _print(found: Model, result: Backtest, compared: tuple[list[Found], list[Page]] | None) -> None:
    zone = ZoneInfo(found.timezone)
    console = terminal()
    # What has no data at all is no history: say how long it is where there is some.
    begin = max(result.start, min(result.since.values(), default=result.start))
    console.print(
        f"{_moment(begin, zone)} to {_moment(result.end, zone)} {found.timezone}, {words.lasting(result.end - begin)}\n",
        markup=False,
    )
    _print_slos(result, begin, zone)
    _print_pages(result, begin, zone)
    if compared is not None:
        _print_incidents(*compared, zone)
    for suggestion in result.suggestions:
        _print_suggestion(suggestion)
    for key, reason in result.failed.items():
        console.print(f"[bold red]error:[/] {escaped('/'.join(key))}: {escaped(reason)}")
    for key, note in result.notes:
        console.print(f"note: {'/'.join(filter(None, key))}{': ' if key[0] else ''}{note}", markup=False)


def _table(*titles: str, right: tuple[str, ...] = ()) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in titles:
        table.add_column(title, justify="right" if title in right else "left", no_wrap=True)
    return table


def _put(table: Table) -> None:
    from rich.console import Console

    # Tables are as wide as they are: what a narrow terminal wraps can be read, what is cut off cannot.
    wide = Console(width=1000, highlight=False, emoji=False)
    wide.print(table, width=wide.measure(table).maximum)
    click.echo()


def _print_slos(result: Backtest, begin: float, zone: tzinfo) -> None:
    if not result.spent:
        return
    numbers = ("pages", "a week", "tickets", "budget left")
    table = _table("SLO", "data since", *numbers, "budget over time", "", right=numbers)
    for key in result.spent:
        name = "/".join(key)
        if key in result.failed:
            table.add_row(escaped(name), "-", "-", "-", "-", "-", "", "could not be asked for, see below")
            continue
        if key in result.no_data:
            note = f"no data before {_moment(result.end, zone)}: nothing can be said of it"
            table.add_row(escaped(name), "-", "-", "-", "-", "-", "", note)
            continue
        mine = [page for page in result.pages if (page.service, page.slo) == key]
        pages = sum(page.severity == "critical" for page in mine)
        left, spent, since = result.remaining[key], result.spent[key], result.since[key]
        notes = []
        if since > begin + 3600:
            notes.append(f"no data before {_moment(since, zone)}")
        if spent is not None:
            notes.append(f"spent on {_moment(spent, zone)}")
        table.add_row(
            escaped(name),
            _moment(since, zone),
            str(pages),
            _a_week(pages, result.weeks(key)),
            str(len(mine) - pages),
            "-" if left is None else _share(left),
            _sparkline([share for _, share in result.budget.get(key, ())]),
            "; ".join(notes),
        )
    _put(table)


def _print_pages(result: Backtest, begin: float, zone: tzinfo) -> None:
    if not result.pages:
        click.echo("No alert would have fired.\n" if result.since else "")
        return
    table = _table("fired", "for", "severity", "service", "SLO", "alert", "group")
    for page in result.pages:
        lasted = "still firing" if page.end is None else words.lasting(page.end - page.start)
        group = ", ".join(f"{name}={value}" for name, value in page.group.items())
        cells = (_moment(page.start, zone, seconds=True), lasted, page.severity, page.service, page.slo, page.alert, group)
        table.add_row(*(escaped(cell) for cell in cells))
    _put(table)
    pages = sum(page.severity == "critical" for page in result.pages)
    weekly = _a_week(pages, (result.end - begin) / _WEEK)
    rate = "" if weekly == "-" else f": {weekly} pages a week"
    click.echo(f"{_count(pages, 'page')} and {_count(len(result.pages) - pages, 'ticket')}{rate}\n")


def _print_incidents(found: list[Found], others: list[Page], zone: tzinfo) -> None:
    table = _table("incident", "service", "start", "", "by")
    for one in found:
        if one.paged is not None and one.after is not None:
            state = f"paged after {words.lasting(one.after)}" if one.after else "had paged before"
            by = f"{one.paged.alert} of {'/'.join(filter(None, (one.paged.service, one.paged.slo)))}"
        elif one.alerts:
            state, by = "missed: a ticket only", f"{one.alerts[0].alert} at {_moment(one.alerts[0].start, zone)}"
        else:
            state, by = "missed", ""
        cells = (one.incident.name, one.incident.service, _moment(one.incident.start, zone), state, by)
        table.add_row(*(escaped(cell) for cell in cells))
    _put(table)
    missed = sum(one.paged is None for one in found)
    click.echo(
        f"{len(found) - missed} of {_count(len(found), 'incident')} paged, {missed} missed; "
        f"{_count(len(others), 'page')} of no incident{':' if others else ''}"
    )
    for page in others:
        name = "/".join(filter(None, (page.service, page.slo)))
        click.echo(f"  {_moment(page.start, zone, seconds=True)}  {page.alert} of {name}")
    click.echo()


def _print_suggestion(suggestion: Suggestion) -> None:
    name = f"{suggestion.service}/{suggestion.slo}"
    now = percent(suggestion.objective)
    if suggestion.proposed is None:
        click.echo(f"{name}: history supports no objective of the ladder; now {now}")
    elif suggestion.proposed == suggestion.objective:
        click.echo(f"{name}: {now}, as it is")
    else:
        click.echo(f"{name}: {percent(suggestion.proposed)} instead of {now}")
    numbers = ("objective", "worst budget", "left now", "pages", "tickets", "bad events allowed")
    table = _table(*numbers, "", right=numbers)
    for candidate in _near(suggestion):
        notes = []
        if candidate.objective == suggestion.proposed:
            notes.append("proposed")
        if candidate.objective == suggestion.objective:
            notes.append("now")
        if not candidate.pageable:
            notes.append("needs another policy: one of its alerts cannot fire")
        table.add_row(
            percent(candidate.objective),
            _share(candidate.worst),
            _share(candidate.remaining),
            str(candidate.pages),
            str(candidate.tickets),
            f"{candidate.events:,.0f}",
            ", ".join(notes),
        )
    if suggestion.lived < suggestion.window:
        has, whole = words.lasting(suggestion.lived), words.lasting(suggestion.window)
        click.echo(f"Of a window of {whole} there are {has}; the worst budget is the one if it went on like that.")
    _put(table)


def _near(suggestion: Suggestion) -> tuple[Candidate, ...]:
    """The candidates from one stricter than what is proposed and what there is to one looser; JSON has them all."""
    marked = (suggestion.proposed, suggestion.objective)
    places = [place for place, candidate in enumerate(suggestion.candidates) if candidate.objective in marked]
    return suggestion.candidates[max(places[0] - 1, 0) : places[-1] + 2]


def _share(share: float) -> str:
    if share <= -10:
        return f"spent {1 - share:,.0f} times"
    # What is nearly all is not said to be all.
    return f"{share:.2%}" if 0.995 <= share < 0.99995 else f"{share:.0%}"


def _a_week(count: int, weeks: float) -> str:
    """Of less than a day nothing can be said about a week."""
    return f"{count / weeks:.1f}" if weeks * 7 >= 1 else "-"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _sparkline(shares: list[float], width: int = 30) -> str:
    """The lowest of each part of the time; a dot where nothing was left."""
    if not shares:
        return ""
    size = max(len(shares) / width, 1)
    parts = [shares[int(i * size) : max(int((i + 1) * size), int(i * size) + 1)] for i in range(min(width, len(shares)))]
    return "".join("·" if min(p) <= 0 else _BARS[min(int(min(p) * len(_BARS)), len(_BARS) - 1)] for p in parts if p)


def _moment(at: float, zone: tzinfo, *, seconds: bool = False) -> str:
    return datetime.fromtimestamp(at, zone).strftime("%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M")
