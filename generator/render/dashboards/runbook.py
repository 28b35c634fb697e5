"""One runbook page for each service. The address of an alert says which section it shows: ``?var-alert=<name>``.

Grafana's dashboards cannot jump to a place on a page, so the page shows one section at a time: the variable ``alert`` has
each section's text as its label, and a text panel prints the label. The reader lands on what he needs, with the query
that fired beside it, and a list of all other sections below.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from grafana_foundation_sdk.models import dashboard as m
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from generator import names
from generator.model import Model, ResolvedAlert, ResolvedProbe, ResolvedService, ResolvedSlo
from generator.render.dashboards import ask, overview
from generator.render.dashboards import service as service_page
from generator.render.dashboards.style import (
    BAD,
    BLUE,
    KEEP_TIME,
    Ask,
    Choices,
    Section,
    Tile,
    dashboard,
    graph,
    line,
    link,
    prose,
)
from generator.spec import Runbook
from generator.units import Duration, percent, plain

CHOSEN = ask.Like("$alert")
_SEVERITY = {"critical": "Pages", "warning": "Opens a ticket", "info": "Only informs"}


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
    """The sections of a service's page, in the file's order: objectives, alerts, probes."""
    slos = {slo.name: slo for slo in service.slos}
    alerts = {alert.name: alert for alert in service.alerts}
    probes = {probe.name: probe for probe in service.probes}
    every = dict.fromkeys([*slos, *alerts, *probes])
    return [Subject(name, slos.get(name), alerts.get(name), probes.get(name)) for name in every]


def render(model: Model, service: ResolvedService) -> m.Dashboard:
    """A service's runbooks."""
    uid = names.runbook_uid(service.name)
    found = subjects(service)
    sections = [Section("section", "", _tiles(model, service, found)), *_procedures(service)]
    variables = []
    if found:
        options = [(subject.name, section_html(model, service, subject)) for subject in found]
        variables = [_variable(options)]
    return dashboard(
        uid,
        f"{service.title}: Runbook",
        f"What each alert of {service.title} means, what to check and what mends it. Owner: {service.owner}.",
        sections,
        tags=["runbook", f"owner:{service.owner}"],
        since="now-6h",
        links=[
            link("Overview", f"/d/{names.OVERVIEW_UID}", icon="apps"),
            link(f"Dashboard of {service.title}", f"/d/{names.service_uid(service.name)}", icon="dashboard"),
        ],
        variables=variables,
    )


_PROCEDURE = """
{% if book.url %}<p><a href="{{ book.url }}"><b>The team's own page</b></a></p>{% endif %}
{% for title, part in parts %}{% if part %}<h4>{{ title }}</h4><p>{{ part | text }}</p>{% endif %}{% endfor %}
{% if book.diagnosis %}<h4>Steps</h4><ol>{% for step in book.diagnosis %}<li>{{ step | text }}</li>{% endfor %}</ol>{% endif %}
{% if book.recovery %}<h4>It is done when</h4><p>{{ book.recovery | text }}</p>{% endif %}
{% if book.escalation %}<h4>Escalation</h4><p>{{ book.escalation | text }}</p>{% endif %}
"""


def _procedures(service: ResolvedService) -> list[Section]:
    """What belongs to no alert, such as a deployment: each beside the next, below what is looked up in a hurry."""
    if not service.runbooks:
        return []
    template = _ENVIRONMENT.from_string(_PROCEDURE)
    tiles = [
        Tile(
            f"procedure-{name}",
            prose(
                template.render(book=book, parts=[("When", book.symptoms), ("Impact", book.impact)]).strip(),
                title=name.replace("-", " ").capitalize(),
            ),
            12,
            9,
        )
        for name, book in service.runbooks.items()
    ]
    return [Section("procedures", "Procedures", tiles)]


def _variable(options: list[tuple[str, str]]) -> m.VariableModel:
    made = Choices("alert", "Alert", options, hidden=True).model()
    # Grafana reads the choices from the query; repeating every text in `options` would double the file.
    made.options = []
    made.current = m.VariableOption(selected=True, text=options[0][0], value=options[0][0])
    return made


def _tiles(model: Model, service: ResolvedService, found: list[Subject]) -> list[Tile]:
    if not found:
        empty = f"<p>Nothing is watched of {escape(service.title)}, so no alert of it can fire.</p>"
        return [Tile("empty", prose(empty), 24, 4)]
    return [
        Tile("text", prose(_SHOWN, title="", description="What it means, what to check and what mends it."), 15, 25),
        Tile("live", _live(service, found), 9, 9),
        Tile("firing", overview.firing_alerts(model, service.name, narrow=True), 9, 7, under=True),
        Tile("index", prose(_index(service, found), title=f"All runbooks of {service.title}"), 9, 9, under=True),
    ]


# The label of the chosen section, which is its text; a name that nothing here has is printed as it is.
_SHOWN = "${alert:text}<p>Everything else that can fire here is in the list beside this.</p>"


def _index(service: ResolvedService, found: list[Subject]) -> str:
    uid = names.runbook_uid(service.name)
    lines = [
        f'<li><a href="/d/{uid}?var-alert={subject.name}&{KEEP_TIME}">{_text(subject.title)}</a> '
        f"({escape(subject.kind)} {escape(subject.name)})</li>"
        for subject in found
    ]
    return f"<ul>{''.join(lines)}</ul>"


def _live(service: ResolvedService, found: list[Subject]) -> Any:
    """The query of the section that is shown: those of all others answer nothing."""
    asks = []
    limits: dict[str, str] = {}
    units: dict[str, str] = {}
    for ask_ in service_page.nearness_asks(service, CHOSEN):
        asks.append(ask_)
    if asks:
        asks.append(Ask(f"1 + 0 * {ask.budget(service.name, CHOSEN)}", "Fires at"))
    for subject in found:
        alert = subject.alert
        if alert is None:
            continue
        asks.append(Ask(ask.only_if("alert", CHOSEN, alert.name, alert.expr), alert.name))
        limit = alert.above or alert.below
        if limit is not None:
            units[alert.name] = service_page.UNITS[limit.unit]
            limits[alert.name] = f"{alert.name} fires {'above' if alert.above else 'below'}"
            units[limits[alert.name]] = units[alert.name]
            shown = f"vector({plain(limit.value)})"
            asks.append(Ask(ask.only_if("alert", CHOSEN, alert.name, shown), limits[alert.name]))
    if service.probes:
        asks.append(Ask(ask.probe_success(service.name, CHOSEN), "{{probe}}: 1 is up, 0 is down"))
        units[".*1 is up.*"] = "short"
    panel = graph(
        "The query that fires",
        "The alert's own query. A dashed line is its limit; burn rates are shown as shares of theirs.",
        asks,
        empty="Its query has no data in this range: is the service up, is its metric still there?",
        unit="percentunit",
        values=False,
    )
    for name, unit in units.items():
        properties = [m.DynamicConfigValue(id_val="unit", value=unit)]
        panel.override_by_regexp(name, properties) if name.startswith(".*") else panel.override_by_name(name, properties)
    line(panel, "Fires at", BAD, dashed=True)
    line(panel, ".*fires (above|below)", BAD, dashed=True, regex=True)
    service_page.colour_conditions(panel)
    for name in limits:
        line(panel, name, BLUE)
    return panel


# --- text ---------------------------------------------------------------------------------------------------------


_ADDRESS = re.compile(r"\bhttps?://[^\s<>&]*[^\s<>&.,;:)]")


def _text(value: object) -> Markup:
    """A user's text as HTML: escaped, `code` as code, line breaks kept, addresses as links, and no Grafana variables."""
    parts = str(escape(str(value).strip())).split("`")
    if len(parts) % 2 == 0:
        parts[-2:] = ["`".join(parts[-2:])]
    for index, part in enumerate(parts):
        parts[index] = f"<code>{part}</code>" if index % 2 else _ADDRESS.sub(r'<a href="\g<0>">\g<0></a>', part)
    return Markup(re.sub(r"\s*\n\s*", "<br>", "".join(parts)).replace("$", "&#36;"))  # noqa: S704 - escaped above


_ENVIRONMENT = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
_ENVIRONMENT.filters["text"] = _text

_TEMPLATE = _ENVIRONMENT.from_string("""
<h2>{{ subject.title | text }}</h2>
<p>{{ service.title | text }} · {{ subject.kind }} <code>{{ subject.name }}</code> · owner {{ owner }} · tier {{ tier }}</p>
<p>
{% if url %}<a href="{{ url }}"><b>The team's own runbook</b></a> · {% endif %}
<a href="{{ dashboard }}">Graphs, logs and traces</a>
{% for other in service.depends_on %} · <a href="{{ uids[other] }}">Depends on {{ other }}</a>{% endfor %}
</p>
<h3>What it means</h3>
{% for paragraph in meaning %}<p>{{ paragraph }}</p>{% endfor %}
{% if book.symptoms %}<h3>Symptoms</h3><p>{{ book.symptoms | text }}</p>{% endif %}
{% if book.impact %}<h3>Impact</h3><p>{{ book.impact | text }}</p>{% endif %}
<h3>Diagnosis</h3>
<ol>{% for step in steps %}<li>{{ step }}</li>{% endfor %}</ol>
{% if book.causes %}
<h3>Causes and fixes</h3>
<table><thead><tr><th>Cause</th><th>Fix</th></tr></thead><tbody>
{% for cause in book.causes %}
<tr><td>{{ cause.cause | text }}</td><td>{% if cause.fix %}{{ cause.fix | text }}{% else %}–{% endif %}</td></tr>
{% endfor %}
</tbody></table>
{% endif %}
<h3>It is over when</h3><p>{{ recovery }}</p>
<h3>Escalation</h3><p>{{ escalation }}</p>
{% if book.prevention %}<h3>Prevention</h3><p>{{ book.prevention | text }}</p>{% endif %}
{% if rows %}
<h3>When it alerts</h3>
<table><thead><tr><th>Who is told</th><th>When both windows burn faster than</th><th>Which spends</th></tr></thead><tbody>
{% for row in rows %}<tr><td>{{ row[0] }}</td><td>{{ row[1] }}</td><td>{{ row[2] }}</td></tr>{% endfor %}
</tbody></table>
{% endif %}
{% if unwritten %}
<p><i>Nobody has written a runbook for this yet; the steps above are general. Add <code>runbook:</code> to
<code>{{ unwritten }}</code> in slos.yaml.</i></p>
{% endif %}
""")


def section_html(model: Model, service: ResolvedService, subject: Subject) -> str:
    """A section on one line, as HTML with everything of the user's escaped."""
    parts = [part for part in (subject.slo, subject.alert, subject.probe) if part is not None]
    owner = parts[0].owner
    own = [part.runbook for part in parts if part.runbook is not None]
    book = own[0] if own else service.runbook
    written = book is not None and bool(book.symptoms or book.diagnosis or book.causes or book.impact)
    chosen = f"var-slo={subject.name}&" if subject.slo else ""
    html = _TEMPLATE.render(
        subject=subject,
        service=service,
        owner=owner,
        tier=subject.slo.tier if subject.slo else service.tier,
        url=book.url if book else None,
        dashboard=f"/d/{names.service_uid(service.name)}?{chosen}from=now-6h&to=now",
        uids={other: f"/d/{names.service_uid(other)}" for other in service.depends_on},
        meaning=_meaning(subject),
        rows=_conditions(subject.slo) if subject.slo else [],
        book=book or Runbook(),
        steps=_steps(service, subject, book),
        recovery=_text(book.recovery) if book and book.recovery else _recovery(subject),
        escalation=_text(book.escalation)
        if book and book.escalation
        else f"No cause found within 15 minutes: call the owner, {owner}.",
        unwritten=None if written or (book and book.url) else _place(service, subject),
    )
    return " ".join(html.split()).replace("$", "&#36;")


def _place(service: ResolvedService, subject: Subject) -> str:
    kind = "slos" if subject.slo else "alerts" if subject.alert else "probes"
    return f"services.{service.name}.{kind}.{subject.name}"


def _code(value: str) -> Markup:
    return Markup("<code>{}</code>").format(value)


def _sentence(text: str, *parts: object) -> Markup:
    return Markup(text).format(*parts)  # noqa: S704 - the text is ours; the parts are escaped


def _meaning(subject: Subject) -> list[Markup]:
    out = []
    if subject.slo is not None:
        out += _slo_meaning(subject.slo)
    if subject.alert is not None:
        out += _alert_meaning(subject.alert)
    if subject.probe is not None:
        out += _probe_meaning(subject.probe)
    return out


def _slo_meaning(slo: ResolvedSlo) -> list[Markup]:
    out = [_text(slo.description)] if slo.description else []
    out.append(
        _sentence(
            "Promised: over {}, {} of {} are good. Bad is: {}.",
            slo.window,
            percent(slo.objective),
            "events" if slo.sli.weighted_by_traffic else "checks",
            _code(slo.sli.describe()),
        )
    )
    one_in = plain((1 / slo.budget).quantize(Decimal(1))) if slo.budget else "∞"
    outage = rounded(Duration(slo.budget * slo.window.seconds))
    out.append(_sentence("So 1 in {} may fail: as much as {} of complete outage in {}.", one_in, outage, slo.window))
    if slo.by:
        out.append(_sentence("Each {} has a budget of its own.", " and ".join(slo.by)))
    out.append(
        _sentence(
            "Is the alert {}? Then nothing is measured: the service is down, not scraped, or its metric was renamed.",
            _code(names.ALERT_NO_DATA),
        )
    )
    return out


def rounded(duration: Duration) -> str:
    """A length of time in one or two units: "43 min", "3 h 36 min"."""
    minutes = duration.seconds / 60
    if minutes < 2:
        return f"{plain(duration.seconds.quantize(Decimal(1)))} s"
    if minutes < 120:
        return f"{plain(minutes.quantize(Decimal(1)))} min"
    hours, rest = divmod(int(minutes), 60)
    return f"{hours} h {rest} min" if rest and hours < 24 else f"{hours} h"


def _conditions(slo: ResolvedSlo) -> list[tuple[str, str, str]]:
    rows = []
    for severity in ("critical", "warning"):
        for condition in slo.burn.get(severity, ()):
            factor = plain(condition.factor.quantize(Decimal("0.01")))
            share = percent((condition.factor * slo.budget).quantize(Decimal("1e-6")))
            rows.append(
                (
                    f"{_SEVERITY[severity]} ({names.burn_alert(severity)})",
                    f"{factor}× over {condition.long} and {condition.short}: more than {share} bad",
                    f"{percent(condition.budget)} of the budget in {condition.long}",
                )
            )
    return rows


def _alert_meaning(alert: ResolvedAlert) -> list[Markup]:
    limit = alert.above or alert.below
    held = f" for {alert.hold}" if alert.hold.seconds else ""
    when = f"{'above' if alert.above else 'below'} {limit.text}" if limit else "there at all"
    return [
        _sentence("{}.", _text(alert.summary.rstrip("."))),
        _sentence("{} when {} is {}{}.", _SEVERITY[alert.severity], _code(alert.expr), when, held),
    ]


def _probe_meaning(probe: ResolvedProbe) -> list[Markup]:
    good = "status " + " or ".join(str(status) for status in probe.status) if probe.status else "any 2xx status"
    late = f", and within {probe.slower_than}" if probe.slower_than else ""
    times = f"{probe.failures} failures in a row" if probe.failures > 1 else "one failure"
    told = f"{_SEVERITY[probe.severity]} after {times}." if probe.severity else "It alerts nobody by itself."
    return [
        _sentence(
            "Every {} the stack asks {} and expects {} within {}{}. {}",
            probe.interval,
            _code(probe.url),
            good,
            probe.timeout,
            late,
            told,
        )
    ]


def _steps(service: ResolvedService, subject: Subject, book: Runbook | None) -> list[Markup]:
    if book is not None and book.diagnosis:
        return [_text(step) for step in book.diagnosis]
    steps = []
    if service.depends_on:
        steps.append(
            _sentence("Is a dependency unhealthy ({})? Then go there: it is the likelier cause.", ", ".join(service.depends_on))
        )
    if subject.probe is not None:
        steps.append(_sentence("Ask it yourself: {}", _code(f"curl -i {subject.probe.url}")))
    steps += [
        Markup("Since when? Look at the graph beside this: did it begin with a deployment or a change? Roll that back."),
        Markup("Which part? On the service's dashboard, is it every group and request or only some?"),
        Markup("Why? Open the error logs there, follow one line's trace to the span that failed or took long."),
    ]
    return steps


def _recovery(subject: Subject) -> str:
    if subject.slo is not None:
        return "The share of bad events over 5 minutes is below what is promised, and stays there."
    return "The alert no longer fires, and its query stays on the good side of its limit."
