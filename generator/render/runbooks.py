"""Runbooks: what each alert means, what to check, what mends it. The same text as Markdown here and as Grafana's page.

Rendered as ``runbooks/generated/service-<name>.md``, one file for each service with a section for everything of it that can
fire, and an index, ``README.md``. One file and not one for each alert: what is likely when one of them fires stands beside
it, and the alert's own link opens Grafana's page at the section. They are rendered files like all others: written at once or
not at all, removed when they are stale, in git. No server reads them, so that they are there when none answers; runbooks that
people write by hand live beside ``generated/`` and are named by ``runbook: {file: …}``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from generator import names
from generator.model import (
    Model,
    ResolvedAlert,
    ResolvedProbe,
    ResolvedRoute,
    ResolvedService,
    ResolvedSlo,
    alert_labels,
)
from generator.render import Artifact
from generator.spec import Runbook
from generator.units import Duration, percent, plain

FOLDER = "runbooks/generated"
_DOES = {"critical": "Pages", "warning": "Opens a ticket", "info": "Only informs"}


# --- text -------------------------------------------------------------------------------------------------------------------


class Code(str):
    """A part of a text that is to be read letter by letter."""

    __slots__ = ()


class Address(str):
    """A part of a text that leads somewhere."""

    __slots__ = ()


# A text in parts: prose, code, addresses. Each kind of page writes them in its own way.
Words = tuple[str, ...]

_ADDRESS = re.compile(r"\bhttps?://[^\s<>\"'`]*[^\s<>\"'`.,;:)]")


def words(text: object) -> Words:
    """A user's text: `code` between backticks, addresses as they stand, line breaks kept."""
    parts = str(text).strip().split("`")
    if len(parts) % 2 == 0:
        parts[-2:] = ["`".join(parts[-2:])]
    out: list[str] = []
    for index, part in enumerate(parts):
        if index % 2:
            out.append(Code(part))
            continue
        at = 0
        for match in _ADDRESS.finditer(part):
            out += [part[at : match.start()], Address(match[0])]
            at = match.end()
        out.append(part[at:])
    return tuple(part for part in out if part)


def _say(template: str, *parts: object) -> Words:
    """A sentence of ours with parts filled in: those that are Code stay so."""
    out: list[str] = []
    for index, prose in enumerate(template.split("{}")):
        out.append(prose)
        if index < len(parts):
            part = parts[index]
            out += part if isinstance(part, tuple) else [part if isinstance(part, str) else str(part)]
    return tuple(part for part in out if part)


# --- what a page holds ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Subject:
    """Everything of a service that goes by one name: an SLO may be named like the probe that it is about."""

    name: str
    slo: ResolvedSlo | None
    alert: ResolvedAlert | None
    probe: ResolvedProbe | None

    @property
    def title(self) -> str:
        """A heading for people."""
        if self.slo is not None:
            return self.slo.title
        return self.alert.summary if self.alert else f"Probe {self.name}"

    @property
    def kind(self) -> str:
        """What it is, in a few words."""
        kinds = [word for word, part in (("objective", self.slo), ("alert", self.alert), ("probe", self.probe)) if part]
        return " and ".join(kinds)


def subjects(service: ResolvedService) -> list[Subject]:
    """The sections of a service's runbook, in the file's order: objectives, alerts, probes."""
    slos = {slo.name: slo for slo in service.slos}
    alerts = {alert.name: alert for alert in service.alerts}
    probes = {probe.name: probe for probe in service.probes}
    every = dict.fromkeys([*slos, *alerts, *probes])
    return [Subject(name, slos.get(name), alerts.get(name), probes.get(name)) for name in every]


@dataclass(frozen=True)
class Firing:
    """One alert of a subject: its name, what it does, when it fires, what that spends of the budget, and who is told."""

    alert: str
    does: str
    when: Words
    spends: str
    told: str


@dataclass(frozen=True)
class Section:
    """What a runbook says of one subject. ``unwritten`` is the key of the spec where nobody has written one yet."""

    subject: Subject
    owner: str
    tier: str
    url: str | None
    meaning: tuple[Words, ...]
    firings: tuple[Firing, ...]
    symptoms: Words
    impact: Words
    steps: tuple[Words, ...]
    causes: tuple[tuple[Words, Words], ...]
    recovery: Words
    escalation: Words
    prevention: Words
    unwritten: str | None


def sections(model: Model, service: ResolvedService) -> list[Section]:
    """A service's runbook, in the file's order: for each subject its own, else the service's, else general steps."""
    alerts: dict[str, list[dict[str, str]]] = {}
    # Only this service: a page must not cost a pass over all of them.
    for _, labels in alert_labels(replace(model, services=(service,))):
        named = labels.get("slo") or labels.get("probe") or labels["alertname"]
        alerts.setdefault(named, []).append(labels)
    return [_of(model, service, subject, alerts.get(subject.name, [])) for subject in subjects(service)]


def _of(model: Model, service: ResolvedService, subject: Subject, alerts: Iterable[dict[str, str]]) -> Section:
    parts = [part for part in (subject.slo, subject.alert, subject.probe) if part is not None]
    own = [part.runbook for part in parts if part.runbook is not None]
    book = own[0] if own else service.runbook
    written = book is not None and bool(book.symptoms or book.diagnosis or book.causes or book.impact)
    book = book or Runbook()
    owner = parts[0].owner
    return Section(
        subject=subject,
        owner=owner,
        tier=subject.slo.tier if subject.slo else service.tier,
        url=book.url,
        meaning=tuple(_meaning(subject)),
        firings=tuple(_firings(model, subject, alerts)),
        symptoms=words(book.symptoms or ""),
        impact=words(book.impact or ""),
        steps=tuple(words(step) for step in book.diagnosis) or tuple(_general_steps(service, subject)),
        causes=tuple((words(cause.cause), words(cause.fix or "")) for cause in book.causes),
        recovery=words(book.recovery) if book.recovery else (_recovery(subject),),
        escalation=words(book.escalation)
        if book.escalation
        else (f"No cause found within 15 minutes: call the owner, {owner}.",),
        prevention=words(book.prevention or ""),
        unwritten=None if written or book.url else _place(service, subject),
    )


def _place(service: ResolvedService, subject: Subject) -> str:
    slo = subject.slo
    if slo is not None and slo.process is not None:
        return f"services.{service.name}.processes.{slo.process}"
    kind = "slos" if slo else "alerts" if subject.alert else "probes"
    return f"services.{service.name}.{kind}.{subject.name}"


def _meaning(subject: Subject) -> Iterable[Words]:
    if subject.slo is not None:
        yield from _slo_meaning(subject.slo)
    if subject.alert is not None:
        yield from _alert_meaning(subject.alert)
    if subject.probe is not None:
        yield _probe_meaning(subject.probe)


def _slo_meaning(slo: ResolvedSlo) -> Iterable[Words]:
    if slo.description:
        yield words(slo.description)
    yield _say(
        "Promised: over {}, {} of {} are good. Bad is: {}.",
        slo.window,
        percent(slo.objective),
        "events" if slo.sli.weighted_by_traffic else "checks",
        Code(slo.sli.describe()),
    )
    one_in = plain((1 / slo.budget).quantize(Decimal(1))) if slo.budget else "∞"
    outage = rounded(Duration(slo.budget * slo.window.seconds))
    yield _say("So 1 in {} may fail: as much as {} of complete outage in {}.", one_in, outage, slo.window)
    if slo.by:
        yield _say("Each {} has a budget of its own.", " and ".join(slo.by))
    yield _say(
        "Is the alert {}? Then nothing is measured: the service is down, not scraped, or its metric was renamed.",
        Code(names.ALERT_NO_DATA),
    )


def rounded(duration: Duration) -> str:
    """A length of time in one or two units: "43 min", "3 h 36 min"."""
    minutes = duration.seconds / 60
    if minutes < 2:
        return f"{plain(duration.seconds.quantize(Decimal(1)))} s"
    if minutes < 120:
        return f"{plain(minutes.quantize(Decimal(1)))} min"
    hours, rest = divmod(int(minutes), 60)
    return f"{hours} h {rest} min" if rest and hours < 24 else f"{hours} h"


def _alert_meaning(alert: ResolvedAlert) -> Iterable[Words]:
    yield _say("{}.", words(alert.summary.rstrip(".")))
    yield _say("{} when {} {}.", _DOES[alert.severity], Code(alert.expr), _beyond(alert))


def _beyond(alert: ResolvedAlert) -> str:
    limit = alert.above or alert.below
    held = f" for {alert.hold}" if alert.hold.seconds else ""
    side = "above" if alert.above else "below"
    return f"is {side} {limit.text}{held}" if limit else f"is there at all{held}"


def _probe_meaning(probe: ResolvedProbe) -> Words:
    good = "status " + " or ".join(str(status) for status in probe.status) if probe.status else "any 2xx status"
    late = f", and within {probe.slower_than}" if probe.slower_than else ""
    told = f"{_DOES[probe.severity]} after {_failures(probe)}." if probe.severity else "It alerts nobody by itself."
    return _say(
        "Every {} the stack asks {} and expects {} within {}{}. {}",
        probe.interval,
        Code(probe.url),
        good,
        probe.timeout,
        late,
        told,
    )


def _failures(probe: ResolvedProbe) -> str:
    return f"{probe.failures} failures in a row" if probe.failures > 1 else "one failure"


def _general_steps(service: ResolvedService, subject: Subject) -> Iterable[Words]:
    if service.depends_on:
        yield _say("Is a dependency unhealthy ({})? Then go there: it is the likelier cause.", ", ".join(service.depends_on))
    if subject.probe is not None:
        yield _say("Ask it yourself: {}", Code(f"curl -i {subject.probe.url}"))
    yield ("Since when? Look at the graph of the query: did it begin with a deployment or a change? Roll that back.",)
    yield ("Which part? On the service's dashboard, is it every group and request or only some?",)
    yield ("Why? Open the error logs there, follow one line's trace to the span that failed or took long.",)


def _recovery(subject: Subject) -> str:
    if subject.slo is not None:
        return "The share of bad events over 5 minutes is below what is promised, and stays there."
    return "The alert no longer fires, and its query stays on the good side of its limit."


# --- what fires, and who is told --------------------------------------------------------------------------------------------


def _firings(model: Model, subject: Subject, alerts: Iterable[dict[str, str]]) -> Iterable[Firing]:
    """Every alert that may name this subject, the loudest first, each burn-rate condition of its own."""
    found = []
    for labels in alerts:
        alert, severity = labels["alertname"], labels["severity"]
        told = notified(model, labels)
        for when, spends in _conditions(subject, alert, severity):
            found.append((names.SEVERITIES.index(severity), Firing(alert, _DOES[severity], when, spends, told)))
    return [firing for _, firing in sorted(found, key=lambda one: one[0])]


def _conditions(subject: Subject, alert: str, severity: str) -> Iterable[tuple[Words, str]]:
    slo, probe = subject.slo, subject.probe
    if slo is not None and alert == names.burn_alert(severity):
        for condition in slo.burn.get(severity, ()):
            factor = plain(condition.factor.quantize(Decimal("0.01")))
            share = percent((condition.factor * slo.budget).quantize(Decimal("1e-6")))
            when = f"{factor}× over {condition.long} and {condition.short}: more than {share} bad"
            yield (when,), f"{percent(condition.budget)} of the budget in {condition.long}"
    elif slo is not None and alert == names.ALERT_EXHAUSTED:
        yield ("Nothing is left of the budget",), "all of it"
    elif slo is not None and alert == names.ALERT_FREEZE and slo.freeze:
        yield (f"Less than {percent(slo.freeze[0])} of the budget is left: deploy nothing but fixes",), ""
    elif slo is not None and alert == names.ALERT_NO_DATA:
        yield ("Nothing has been measured for 5m",), ""
    elif probe is not None and alert == names.ALERT_PROBE:
        yield (f"After {_failures(probe)}",), ""
    elif subject.alert is not None and alert == subject.alert.name:
        yield _say("The query {}", _beyond(subject.alert)), ""


def notified(model: Model, labels: dict[str, str]) -> str:
    """Who is told of an alert with these labels, in words: receivers by name, with their hours and their escalation."""
    routes = model.routing.matching(labels)
    told = [_told(route) for route in routes]
    if not model.routing.closed(routes):
        told.append(_names(model.routing.default) + (" at other times" if routes else ""))
    return "; ".join(told)


def _told(route: ResolvedRoute) -> str:
    hours = f" during {route.during}" if route.during else f" outside {route.outside}" if route.outside else ""
    later = "".join(f", after {after} {_names(to)}" for after, to in route.escalate)
    return _names(route.to) + hours + later


def _names(receivers: Sequence[str]) -> str:
    return " and ".join(receivers) if receivers else "nobody"


# --- Markdown ---------------------------------------------------------------------------------------------------------------

_ALWAYS = re.compile(r"[\\`*\[<$|]|~(?=~)|&(?=[#\w]+;)|(?<!\w)_|_(?!\w)")
# What would begin a heading, a list, a quotation or a rule, where it begins a line.
_AT_START = re.compile(r"^(?:(\d*)([.)])(?=\s|$)|(?=[#+>=~-]))", re.MULTILINE)


def markdown(text: Iterable[str]) -> str:
    """Parts of a text as Markdown that reads as the text does, whatever is in it. Line breaks stay."""
    out = []
    for part in text:
        if isinstance(part, Code):
            out.append(_code(part))
        elif isinstance(part, Address):
            out.append(f"<{part}>")
        else:
            out.append(_ALWAYS.sub(r"\\\g<0>", part))
    lines = [line.strip() for line in "".join(out).splitlines()]
    whole = "\\\n".join(line for line in lines if line)
    return _AT_START.sub(lambda match: f"{match[1] or ''}\\{match[2] or ''}", whole)


def _code(text: str) -> str:
    line = " ".join(text.split())
    longest = max((len(run) for run in re.findall("`+", line)), default=0)
    fence = "`" * (longest + 1)
    space = " " if longest else ""
    # Even in code a table ends its cell at a bar; nothing here that holds code is in a table.
    # Spaces at its ends belong to the text around it: Markdown would drop them.
    before, after = (" " if end.isspace() else "" for end in (text[:1], text[-1:]))
    return f"{before}{fence}{space}{line}{space}{fence}{after}" if line else before


def _cell(text: Iterable[str]) -> str:
    return markdown(text).replace("\\\n", "<br>")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def render(model: Model) -> list[Artifact]:
    """A file for each service, and the index of all."""
    found = {service.name: sections(model, service) for service in model.services}
    files = [Artifact(f"{FOLDER}/{_file(one.name)}", _page(model, one, found[one.name])) for one in model.services]
    return [Artifact(f"{FOLDER}/README.md", _index(model, found)), *files]


def _file(service: str) -> str:
    return f"service-{service}.md"


_MADE = "<!-- Made from slos.yaml: change it there, then run `lgtm apply`. -->"


def _written(blocks: Iterable[str | list[str]]) -> str:
    return "\n\n".join(block if isinstance(block, str) else "\n".join(block) for block in blocks if block) + "\n"


def _index(model: Model, found: Mapping[str, Sequence[Section]]) -> str:
    blocks: list[str | list[str]] = [
        _MADE,
        f"# {markdown((f'{model.organization}: runbooks' if model.organization else 'Runbooks',))}",
        f"What each alert means, what to check, what mends it. With live graphs: {_link('Grafana', model.grafana)}.",
    ]
    for service in model.services:
        blocks.append(f"## [{markdown((service.title,))}]({_file(service.name)})")
        blocks.append(f"Owner: {service.owner}. Tier: {service.tier}.")
        blocks.append(_contents(found[service.name], _file(service.name)))
    blocks += [
        f"## {names.ALERT_WATCHDOG}",
        "This alert always fires; what listens to it notices when it stops, and nothing else could tell then.",
        [
            "1. `make status`: does Prometheus run, and Alertmanager?",
            "2. `make doctor`: is the disk full, was a server killed for its memory?",
            "3. `make logs S=alertmanager`: does the receiver refuse what it is sent?",
        ],
        f"It is over when it arrives again, once a minute, at {_names(model.routing.watchdog)}."
        if model.routing.watchdog
        else "Nothing listens to it yet: name a receiver that misses it in `routing.watchdog`.",
    ]
    return _written(blocks)


def _contents(found: Sequence[Section], file: str = "") -> list[str]:
    rows = []
    for one in found:
        subject = one.subject
        loudest = one.firings[0] if one.firings else None
        rows.append(
            [
                f"[{_cell((subject.title,))}]({file}#{subject.name})",
                f"{subject.kind} `{subject.name}`",
                percent(subject.slo.objective) if subject.slo else "–",
                _cell((f"{loudest.does}: {loudest.told}" if loudest else "Nothing",)),
                one.owner,
            ]
        )
    return _table(["What", "Name", "Objective", "At worst", "Owner"], rows) if rows else ["Nothing is watched of it."]


def _link(title: str, address: str) -> str:
    return f"[{markdown((title,))}](<{address}>)"


def _page(model: Model, service: ResolvedService, found: Sequence[Section]) -> str:
    dashboard = f"{model.grafana}/d/{names.service_uid(service.name)}"
    book = f"{model.grafana}/d/{names.runbook_uid(service.name)}"
    ways = [_link("Dashboard", dashboard), _link("This page with live graphs", book), "[All runbooks](README.md)"]
    ways += [f"depends on [{markdown((other,))}]({_file(other)})" for other in service.depends_on]
    blocks: list[str | list[str]] = [
        _MADE,
        f"# {markdown((service.title,))}",
        markdown(words(service.description or "")),
        f"Owner: {service.owner}. Tier: {service.tier}.",
        " · ".join(ways),
    ]
    if service.runbook is not None:
        blocks += _procedure(service.runbook, "Symptoms:", "It is over when:")
    if service.depends_on:
        blocks.append(
            f"While an outage of {_names(service.depends_on)} pages, alerts of this service are held back: mend that first."
        )
    blocks += ["## Contents", _contents(found)]
    for one in found:
        blocks += _section(model, service, one)
    if service.runbooks:
        blocks.append("## Procedures")
        for name, procedure in service.runbooks.items():
            title = name.replace("-", " ").capitalize()
            blocks += [f"### {markdown((title,))}", *_procedure(procedure, "When:", "It is done when:")]
    return _written(blocks)


def _labelled(parts: Iterable[tuple[str, Words]]) -> list[str]:
    return [f"**{title}** {markdown(text)}" for title, text in parts if text]


def _numbered(steps: Iterable[Words]) -> list[str]:
    return [f"{number}. {markdown(step)}" for number, step in enumerate(steps, 1)]


def _fixes(causes: Iterable[tuple[Words, Words]]) -> list[str]:
    out = []
    for cause, fix in causes:
        out.append(f"- {markdown(cause)}")
        if fix:
            out.append(f"  - Fix: {markdown(fix)}")
    return out


def _procedure(book: Runbook, when: str, over: str) -> list[str | list[str]]:
    """A runbook that belongs to no alert: a procedure's, or a whole service's."""
    blocks: list[str | list[str]] = [_link("The team's own page", book.url) if book.url else ""]
    blocks += _labelled(((when, words(book.symptoms or "")), ("Impact:", words(book.impact or ""))))
    blocks.append(_numbered(words(step) for step in book.diagnosis))
    blocks.append(_fixes((words(cause.cause), words(cause.fix or "")) for cause in book.causes))
    blocks += _labelled(
        (
            (over, words(book.recovery or "")),
            ("Escalation:", words(book.escalation or "")),
            ("Prevention:", words(book.prevention or "")),
        )
    )
    return blocks


def _section(model: Model, service: ResolvedService, one: Section) -> list[str | list[str]]:
    subject = one.subject
    chosen = f"&var-slo={subject.name}" if subject.slo else ""
    ways = [
        _link("Graphs, logs and traces", f"{model.grafana}/d/{names.service_uid(service.name)}?from=now-6h&to=now{chosen}"),
        _link(
            "The query that fires",
            f"{model.grafana}/d/{names.runbook_uid(service.name)}?var-alert={subject.name}&from=now-6h&to=now",
        ),
    ]
    if one.url:
        ways.insert(0, _link("The team's own runbook", one.url))
    blocks: list[str | list[str]] = [
        f'<a id="{subject.name}"></a>',
        f"## {markdown((subject.title,))}",
        f"{subject.kind.capitalize()} `{subject.name}` · owner {one.owner} · tier {one.tier}",
        " · ".join(ways),
        "### What it means",
        *(markdown(paragraph) for paragraph in one.meaning),
    ]
    for title, text in (("Symptoms", one.symptoms), ("Impact", one.impact)):
        blocks += [f"### {title}", markdown(text)] if text else []
    blocks += ["### Diagnosis", _numbered(one.steps)]
    if one.causes:
        blocks += ["### Causes and fixes", _fixes(one.causes)]
    blocks += ["### It is over when", markdown(one.recovery), "### Escalation", markdown(one.escalation)]
    if one.prevention:
        blocks += ["### Prevention", markdown(one.prevention)]
    if one.firings:
        blocks += ["### When it alerts", _table(["Alert", "When", "Which spends", "Who is told"], map(_row, one.firings))]
    if one.unwritten:
        blocks.append(
            "*Nobody has written a runbook for this yet; the steps above are general. "
            f"Add `runbook:` to `{one.unwritten}` in slos.yaml.*"
        )
    return blocks


def _row(firing: Firing) -> list[str]:
    return [f"{firing.does} (`{firing.alert}`)", _cell(firing.when), firing.spends or "–", _cell((firing.told,))]
