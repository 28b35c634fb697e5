"""One runbook page for each service. The address of an alert says which section it shows: ``?var-alert=<name>``.

Grafana's dashboards cannot jump to a place on a page, so the page shows one section at a time: the variable ``alert`` has
each section's text as its label, and a text panel prints the label. The reader lands on what he needs, with the query
that fired beside it, and a list of all other sections below.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from grafana_foundation_sdk.models import dashboard as m
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from generator import names
from generator.model import Model, ResolvedService
from generator.render import runbooks
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
from generator.render.runbooks import Address, Code, Subject
from generator.units import percent, plain

CHOSEN = ask.Like("$alert")


def render(model: Model, service: ResolvedService) -> m.Dashboard:
    """A service's runbooks."""
    uid = names.runbook_uid(service.name)
    found = runbooks.subjects(service)
    sections = [Section("section", "", _tiles(model, service, found)), *_procedures(service)]
    variables = []
    if found:
        options = [(one.subject.name, section_html(service, one)) for one in runbooks.sections(model, service)]
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


def _procedures(service: ResolvedService) -> list[Section]:
    """What belongs to no alert, such as a deployment: each beside the next, below what is looked up in a hurry."""
    books = [(f"procedure-{name}", name.replace("-", " ").capitalize(), book) for name, book in service.runbooks.items()]
    own = [part.runbook for parts in (service.slos, service.alerts, service.probes) for part in parts]
    if service.runbook is not None and any(own):
        # Else every section says it already.
        books.insert(0, ("service", f"{service.title} as a whole", service.runbook))
    tiles = []
    for key, title, book in books:
        html = _PROCEDURE.render(
            book=book,
            before=[("When", book.symptoms), ("Impact", book.impact)],
            after=[("It is over when", book.recovery), ("Escalation", book.escalation), ("Prevention", book.prevention)],
        )
        tiles.append(Tile(key, prose(html.strip(), title=title), 12, 9))
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
        Tile("text", prose(_shown(service), title="", description="What it means, what to check and what mends it."), 15, 29),
        Tile("live", _live(service, found), 9, 9),
        Tile("firing", overview.firing_alerts(model, service.name, narrow=True, brief=True), 9, 7, under=True),
        Tile("index", prose(_index(service, found), title=f"All runbooks of {service.title}"), 9, 13, under=True),
    ]


def _shown(service: ResolvedService) -> str:
    """The label of the chosen section, which is its text; a name that nothing here has is printed as it is."""
    # Beside the label and not in it: Grafana fills in no variable that stands in another one's text.
    ways = [("Graphs, logs and traces", service.name), *((f"Depends on {other}", other) for other in service.depends_on)]
    links = [f'<a href="/d/{names.service_uid(name)}?{KEEP_TIME}">{escape(title)}</a>' for title, name in ways]
    return f"<p>{' · '.join(links)}</p>${{alert:text}}<p>Everything else that can fire here is in the list beside this.</p>"


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
    asks += _budgets(service)
    if service.probes:
        asks.append(Ask(ask.probe_success(service.name, CHOSEN), "{{probe}}: 1 is up, 0 is down"))
        units[".*1 is up.*"] = "short"
    panel = graph(
        "The query that fires",
        "The alert's own query. A dashed line is its limit; burn rates are shown as shares of theirs.",
        asks,
        empty="Its query has no data in this range: is the service up, is its metric still there?",
        unit="percentunit",
        lowest=None,
        softest=1.1,
        values=False,
    )
    for name, unit in units.items():
        properties = [m.DynamicConfigValue(id_val="unit", value=unit)]
        panel.override_by_regexp(name, properties) if name.startswith(".*") else panel.override_by_name(name, properties)
    line(panel, "Fires (at|below).*", BAD, dashed=True, regex=True)
    line(panel, ".*fires (above|below)", BAD, dashed=True, regex=True)
    service_page.colour_conditions(panel, asks)
    for name in limits:
        line(panel, name, BLUE)
    return panel


def _budgets(service: ResolvedService) -> list[Ask]:
    """What is left of the budgets whose policy alerts on that, and the shares at which it does."""
    shares: dict[Decimal, set[str]] = {}
    for slo in service.slos:
        for share in ([Decimal(0)] if slo.exhausted else []) + ([slo.freeze[0]] if slo.freeze else []):
            shares.setdefault(share, set()).add(slo.policy)
    if not shares:
        return []
    every = ask.any_of(sorted(set().union(*shares.values())))
    asks = [Ask(ask.left_by_policy(service.name, CHOSEN, every), "Budget left")]
    for share, policies in sorted(shares.items()):
        limit = ask.left_by_policy(service.name, CHOSEN, ask.any_of(sorted(policies)))
        asks.append(Ask(f"{plain(share)} + 0 * max({limit})", f"Fires below {percent(share)} of the budget"))
    return asks


# --- text ---------------------------------------------------------------------------------------------------------


def _html(text: Iterable[str]) -> Markup:
    """Parts of a text as HTML: escaped, code as code, line breaks kept, addresses as links, and no Grafana variables."""
    out = ""
    for part in text:
        shown = re.sub(r"\s*\n\s*", "<br>", str(escape(str(part))))
        if isinstance(part, Code):
            shown = f"<code>{shown}</code>"
        elif isinstance(part, Address):
            shown = f'<a href="{shown}">{shown}</a>'
        out += shown
    return Markup(out.replace("$", "&#36;"))  # noqa: S704 - escaped above


def _text(value: object) -> Markup:
    """A user's text as HTML."""
    return _html(runbooks.words(value))


_ENVIRONMENT = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
_ENVIRONMENT.filters["text"] = _text
_ENVIRONMENT.filters["html"] = _html

_TEMPLATE = _ENVIRONMENT.from_string("""
<h2>{{ one.subject.title | text }}</h2>
<p>{{ service.title | text }} · {{ one.subject.kind }} <code>{{ one.subject.name }}</code>
· owner {{ one.owner }} · tier {{ one.tier }}</p>
{% if one.url %}<p><a href="{{ one.url }}"><b>The team's own runbook</b></a></p>{% endif %}
<h3>What it means</h3>
{% for paragraph in one.meaning %}<p>{{ paragraph | html }}</p>{% endfor %}
{% if one.symptoms %}<h3>Symptoms</h3><p>{{ one.symptoms | html }}</p>{% endif %}
{% if one.impact %}<h3>Impact</h3><p>{{ one.impact | html }}</p>{% endif %}
<h3>Diagnosis</h3>
<ol>{% for step in one.steps %}<li>{{ step | html }}</li>{% endfor %}</ol>
{% if one.causes %}
<h3>Causes and fixes</h3>
<table><thead><tr><th>Cause</th><th>Fix</th></tr></thead><tbody>
{% for cause, fix in one.causes %}
<tr><td>{{ cause | html }}</td><td>{% if fix %}{{ fix | html }}{% else %}–{% endif %}</td></tr>
{% endfor %}
</tbody></table>
{% endif %}
<h3>It is over when</h3><p>{{ one.recovery | html }}</p>
<h3>Escalation</h3><p>{{ one.escalation | html }}</p>
{% if one.prevention %}<h3>Prevention</h3><p>{{ one.prevention | html }}</p>{% endif %}
{% if one.firings %}
<h3>When it alerts</h3>
<table><thead><tr><th>It does</th><th>When</th><th>Which spends</th><th>Who is told</th></tr></thead><tbody>
{% for firing in one.firings %}
<tr><td>{{ firing.does }} ({{ firing.alert }})</td><td>{{ firing.when | html }}</td><td>{{ firing.spends or "–" }}</td>
<td>{{ firing.told }}</td></tr>
{% endfor %}
</tbody></table>
{% endif %}
{% if one.unwritten %}
<p><i>Nobody has written a runbook for this yet; the steps above are general. Add <code>runbook:</code> to
<code>{{ one.unwritten }}</code> in slos.yaml.</i></p>
{% endif %}
""")


def section_html(service: ResolvedService, one: runbooks.Section) -> str:
    """A section on one line, as HTML with everything of the user's escaped."""
    html = _TEMPLATE.render(one=one, service=service)
    return " ".join(html.split()).replace("$", "&#36;")


# Compiled once, as the other: of a thousand services it was a fifth of the whole render.
_PROCEDURE = _ENVIRONMENT.from_string("""
{% if book.url %}<p><a href="{{ book.url }}"><b>The team's own page</b></a></p>{% endif %}
{% for title, part in before %}{% if part %}<h4>{{ title }}</h4><p>{{ part | text }}</p>{% endif %}{% endfor %}
{% if book.diagnosis %}<h4>Steps</h4><ol>{% for step in book.diagnosis %}<li>{{ step | text }}</li>{% endfor %}</ol>{% endif %}
{% if book.causes %}<h4>Causes and fixes</h4><ul>
{% for one in book.causes %}<li>{{ one.cause | text }}{% if one.fix %}: {{ one.fix | text }}{% endif %}</li>{% endfor %}
</ul>{% endif %}
{% for title, part in after %}{% if part %}<h4>{{ title }}</h4><p>{{ part | text }}</p>{% endif %}{% endfor %}
""")
