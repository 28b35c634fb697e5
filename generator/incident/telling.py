"""The answer as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from generator import words
from generator.incident.answer import LOG_LIMIT, SEARCH_LIMIT, Execution, Incident, Stage

_SHOWN_COMPANIES = 5
# A deployment this many seconds before is named with what went wrong.
_RECENT = 3600


def as_text(incident: Incident, *, clickable: bool = False) -> list[str]:
    """The answer in lines, for a terminal; rich's markup around what matters. Values are escaped.

    ``clickable`` hides addresses behind what they lead to, for terminals that show links.
    """

    def link(address: str, words: str) -> str:
        return f"[dim][link={address}]{words}[/link][/]" if clickable else f"[dim]{_e(address)}[/]"

    def nothing(what: str, words: str) -> str:
        """That there is none, unless nobody said so."""
        unknown = any(problem.startswith(f"{what}: ") for problem in incident.missing)
        return "  [yellow]not known: see below[/]" if unknown else f"  {words}"

    at = datetime.fromtimestamp(incident.at).astimezone()
    whom = f" for {incident.company}" if incident.company else ""
    minutes = (incident.at - incident.start) / 60
    lines = [
        f"[bold]{_e(incident.service)}{_e(whom)} around {at:%Y-%m-%d %H:%M:%S}[/] ({at:%Z}, {minutes:g} min before and after)"
    ]
    lines += [f"  {line}" for line in _summary(incident)]

    counted = f"  ({_up_to(incident.log_lines, LOG_LIMIT)} log lines)" if incident.logs else ""
    lines += ["", f"[bold]Errors{_e(whom)}, by type and place[/]{counted}"]
    for group in incident.logs:
        when = f"{_clock(group.first)} to {_clock(group.at)}" if group.first else _clock(group.at)
        where = f"[red]{_e(group.kind)}[/] in {_e(group.place)}: " if group.kind else ""
        lines.append(f"  {when}  {group.count:>4}x  {where}{_e(_cut(group.message, 120))}")
        if group.link:
            lines.append(f"            the last of them: {link(group.link, f'trace {group.trace_id}')}")
    if not incident.logs:
        lines.append(nothing("the error logs", "no log line at level error or above"))

    seen, failed = incident.executions_seen, incident.executions_failed
    counted = f"  ({len(incident.executions)} of {_counted(seen)} shown; {_counted(failed)} failed)" if seen else ""
    lines += ["", f"[bold]Executions{_e(whom)}[/]{counted}"]
    for e in incident.executions:
        colour = "green" if e.status == "success" else "red"
        company = f" for {_e(e.company)}" if e.company and not incident.company else ""
        lines.append(
            f"  {_clock(e.start)}  [{colour}]{_e(e.status):<8}[/]{e.duration:>8.3f} s  {_e(e.process)} {_e(e.version)}{company}"
        )
        if e.error:
            where = f"in stage {_e(e.stage)}: " if e.stage else ""
            lines.append(f"            {where}{_e(_cut(e.error, 120))}")
        if e.stages:
            lines.append("            stages: " + ", ".join(_stage(s) for s in e.stages))
        lines.append(f"            {link(e.link, f'trace {e.trace_id}')}")
    if not incident.executions:
        having = f" with company.id={_e(incident.company)}" if whom else ""
        lines.append(nothing("the executions", f"none found: no trace of a process in this time{having}"))
        if incident.companies:
            lines.append(f"  [yellow]there are executions of: {_e(', '.join(incident.companies))}[/]")

    lines += ["", "[bold]Alerts[/]"]
    for alert in incident.alerts:
        colour = "red" if alert.state == "firing" and alert.severity == "critical" else "yellow"
        about = "/".join(part for part in (alert.service, alert.slo) if part)
        when = f"{_clock(alert.start)} to {_clock(alert.end)}"
        lines.append(f"  {when}  [{colour}]{alert.state:<8}{_e(alert.severity):<9}[/]{_e(alert.name)}  {_e(about)}")
    if not incident.alerts:
        lines.append(nothing("the alerts", "none was firing or pending"))

    lines += ["", "[bold]Objectives[/]"]
    if incident.slos:
        lines.append("  [dim]  spends  errors:    worst   budget[/]")
        lines.append("  [dim]  budget   5 min   in this     left[/]")
    for slo in incident.slos:
        groups = "".join(f" {k}={v}" for k, v in slo.groups.items())
        burn = f"{slo.burn:.1f}x" if slo.burn is not None else "-"
        colour = "red" if (slo.burn or 0) >= 14.4 else "yellow" if (slo.burn or 0) >= 1 else "green"
        lines.append(
            f"  [{colour}]{burn:>7}[/] {_share(slo.error_ratio):>8} {_share(slo.worst_error_ratio):>8} "
            f"{_share(slo.budget_remaining):>8}  {_e(slo.slo + groups)}  {_e(slo.title)} ({_e(slo.objective)})"
        )
    if not incident.slos:
        lines.append(nothing("the SLOs", "no SLO of this service has data at that time"))

    lines += ["", "[bold]The deployment before[/]"]
    deployment = incident.deployment
    if deployment is None:
        none = "none recorded in the 30 days before (lgtm deploy start|finish|fail records them)"
        lines.append(nothing("the deployment before", none))
    else:
        day = datetime.fromtimestamp(deployment.at)
        lines.append(
            f"  {day:%Y-%m-%d %H:%M:%S}  {_e(deployment.sentence())}; {words.lasting(incident.at - deployment.at)} before"
        )

    lines += ["", "[bold]The slowest requests[/]"]
    for trace in incident.slowest:
        lines.append(f"  {_clock(trace.start)}  {trace.duration:>8.3f} s  {_e(trace.name)}")
        lines.append(f"            {link(trace.link, f'trace {trace.trace_id}')}")
    if not incident.slowest:
        lines.append(nothing("the slowest traces", "no trace in this time"))

    lines += ["", "[bold]Go on[/]"]
    lines += [f"  {name:<10} {link(address, 'open')}" for name, address in incident.links.items()]
    lines += [f"[yellow]{_e(sentence)}[/]" for sentence in _incomplete(incident)]
    lines.append(f"[dim]answered in {incident.seconds:.1f} s[/]")
    return lines


def _incomplete(incident: Incident) -> list[str]:
    """A sentence for each reason why something is missing, with all that is."""
    reasons: dict[str, list[str]] = {}
    for problem in incident.missing:
        what, _, reason = problem.partition(": ")
        reasons.setdefault(reason.rstrip("."), []).append(what)
    return [
        f"{reason}: {', '.join(whats)} not known. Look: lgtm status; wait longer: --within 20s"
        for reason, whats in reasons.items()
    ]


def _up_to(number: int, limit: int) -> str:
    # A search ends at its limit: there may be more.
    return f"{number} or more" if number >= limit else str(number)


def _counted(number: int) -> str:
    return _up_to(number, SEARCH_LIMIT)


def _summary(incident: Incident) -> list[str]:
    """What matters, in sentences: what failed and where, who is hurt, what changed, who was told."""
    found = []
    # The logs count all of them, where a search for traces ends at its limit.
    told = incident.hurt.get(incident.company, 0) if incident.company else sum(incident.hurt.values())
    failures = str(told) if told >= incident.executions_failed else _counted(incident.executions_failed)
    if failures != "0":
        word = "execution" if failures == "1" else "executions"
        of = f" of {incident.company}" if incident.company else ""
        where = _often([f"{e.process}, stage {e.stage}" if e.stage else e.process for e in incident.executions if _failed(e)])
        what = _often([e.error for e in incident.executions if _failed(e) and e.error])
        found.append(f"[red]{failures} {word}{_e(of)} failed[/]{where and f', {where}'}.")
        if what:
            found.append(what[0].upper() + what[1:] + ".")
    elif incident.log_lines:
        found.append(f"{_up_to(incident.log_lines, LOG_LIMIT)} error lines in the logs.")
    if incident.hurt:
        found.append(_who(incident))
    worst = incident.slos[0] if incident.slos else None
    if worst is not None and (worst.burn or 0) >= 1:
        found.append(f"{_e(worst.slo)} spent its error budget {worst.burn:.1f} times too fast.")
    firing = [a for a in incident.alerts if a.state == "firing" and a.service == incident.service]
    if firing:
        since = _clock(min(a.start for a in firing))
        found.append(
            f"{len(firing)} {'alert' if len(firing) == 1 else 'alerts'} of {_e(incident.service)} firing since {since}."
        )
    last = incident.deployment
    if found and last is not None and incident.at - last.at < _RECENT:
        found.append(f"[yellow]{words.lasting(incident.at - last.at)} before: {_e(last.sentence())}.[/] Is it the cause?")
    if incident.missing:
        servers = sorted({word for word in ("Loki", "Prometheus", "Tempo") for m in incident.missing if word in m.title()})
        rest = "" if found else " What did answer says of nothing wrong."
        found.append(f"[yellow]Not all is known: {' and '.join(servers) or 'a server'} did not answer; see below.[/]{rest}")
    elif incident.empty:
        return [
            f"Nothing is known of {_e(incident.service)} at that time: is the name right, and is the time within retention?"
        ]
    calm = []
    if failures == "0" and incident.executions_seen:
        of = f" of {_e(incident.company)}" if incident.company else ""
        calm.append(f"[green]None of the {_counted(incident.executions_seen)} executions{of} failed.[/]")
    return [*calm, *found] if found else [*calm, "Nothing was wrong that any of the servers knows of."]


def _failed(execution: Execution) -> bool:
    return execution.status != "success"


def _often(values: list[str]) -> str:
    """What most of them are, and whether that is all of them."""
    if not values:
        return ""
    most = max(set(values), key=values.count)
    share = "all" if values.count(most) == len(values) else "most"
    return _e(_cut(most, 120)) if len(values) == 1 else f"{share} of those below: {_e(_cut(most, 120))}"


def _who(incident: Incident) -> str:
    named = {name: count for name, count in incident.hurt.items() if name}
    if incident.company is not None:
        others = [name for name in named if name != incident.company]
        if not others:
            return f"No other company is hurt: it is something of {_e(incident.company)}."
        return (
            f"{len(others)} other {'company is' if len(others) == 1 else 'companies are'} hurt too: {_e(_some(named, others))}."
        )
    if not named:
        return f"{sum(incident.hurt.values())} of them without a company."
    return f"{len(named)} {'company is' if len(named) == 1 else 'companies are'} hurt: {_e(_some(named, list(named)))}."


def _some(counts: Mapping[str, int], chosen: list[str]) -> str:
    told = ", ".join(f"{name} ({counts[name]})" for name in chosen[:_SHOWN_COMPANIES])
    return f"{told}, …" if len(chosen) > _SHOWN_COMPANIES else told


def _e(text: object) -> str:
    return str(text).replace("[", "\\[")


def _cut(text: str, length: int) -> str:
    line = text.replace("\n", " ")
    return line if len(line) <= length else line[: length - 1] + "…"


def _clock(at: float) -> str:
    return f"{datetime.fromtimestamp(at):%H:%M:%S}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value * 100:.3g} %"


def _stage(stage: Stage) -> str:
    text = f"{_e(stage.name)} {stage.duration:.3f} s"
    return f"[red]{text} failed[/]" if stage.status == "error" else text
