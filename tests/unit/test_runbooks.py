"""Runbooks: each alert has one, in Markdown and in Grafana, that says the same and who is told; without one it is said."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from generator import names, source
from generator.model import Model, Result, alert_labels, resolve
from generator.render import dashboards, runbooks

SPEC = """
version: 1
organization: Shop [*] & Co
defaults: {owner: backend}
services:
  shop:
    title: The <b>Shop</b>
    depends_on: [database]
    runbook: {symptoms: Nothing sells., causes: [{cause: "A | B", fix: "Ask `psql | head`"}]}
    runbooks:
      roll-back: {symptoms: A release is bad., diagnosis: [make rollback], recovery: The version before runs.}
    probes:
      live: {url: "http://shop:8000/health", severity: critical}
    slos:
      availability:
        objective: 99.9%
        by: [region]
        alerting: careful
        sli: {ratio: {errors: 'http_requests_total{code=~"5.."}', total: http_requests_total}}
        runbook:
          symptoms: "1. Not a list\\n# Not a heading\\n<script>alert(1)</script>"
          diagnosis: ["`curl -s http://shop:8000/health`", "See http://example.com/a_b_c."]
      live: {objective: 99%, sli: {probe: live}}
    processes:
      checkout: {name: Checkout, sla: 5s, objectives: {success: 99%}}
    alerts:
      PoolSaturated: {expr: db_pool_used / db_pool_size, above: 80%, for: 5m}
      DiskLow: {expr: disk_free_bytes, below: 2GiB, severity: critical, owner: platform}
  database:
    slos: {reachable: {objective: 99.95%, sli: {boolean: 'dependency_up{dependency="database"}'}}}
  idle.service: {scrape: {targets: ["x:1"]}}
alerting:
  careful: {critical: [{long: 1h, short: 5m, budget: 2%}], exhausted: critical, freeze: 10%}
routing:
  receivers:
    phone: {webhook: {url: "http://phone/"}}
    chat: {webhook: {url: "http://chat/"}}
    boss: {webhook: {url: "http://boss/"}}
    heart: {webhook: {url: "http://heart/"}}
  default: chat
  watchdog: heart
  hours: {office: {days: mon-fri, times: "09:00-17:00"}}
  routes:
    - {owner: platform, to: chat, during: office}
    - {severity: critical, to: phone, escalate: [{after: 15m, to: boss}]}
"""


def resolved(text: str) -> Result:
    return resolve(source.read_text(text, "slos.yaml"))


@pytest.fixture(scope="module")
def model() -> Model:
    found = resolved(SPEC)
    assert found.model is not None, found.diagnostics
    return found.model


@pytest.fixture(scope="module")
def files(model: Model) -> dict[str, str]:
    """Rendered files by their name in the folder."""
    found = {}
    for artifact in runbooks.render(model):
        path = PurePosixPath(artifact.path)
        assert path.parent.as_posix() == "runbooks/generated"
        found[path.name] = artifact.text
    return found


@pytest.fixture(scope="module")
def pages(model: Model) -> dict[str, dict[str, Any]]:
    return {page["uid"]: page for page in (json.loads(artifact.text) for artifact in dashboards.render(model))}


def tokens(text: str) -> list[Token]:
    """The inline and block tokens of a Markdown text, flat."""
    out = []
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        out += [token, *(token.children or ())]
    return out


def plain(text: str) -> str:
    """What a reader of a Markdown text sees."""
    shown = {"softbreak": " ", "hardbreak": "\n", "paragraph_close": "\n"}
    return "".join(shown.get(t.type, t.content if t.type in ("text", "code_inline") else "") for t in tokens(text)).strip()


def targets(text: str) -> list[str]:
    """Where the links of a Markdown text lead."""
    return [str(t.attrs["href"]) for t in tokens(text) if t.type == "link_open"]


def section_of(text: str, name: str) -> str:
    """The part of a file that an anchor leads to."""
    return text.partition(f'<a id="{name}"></a>')[2].partition("<a id=")[0].partition("## Procedures")[0]


# --- there is one for everything ---------------------------------------------------------------------------------------------


def test_each_service_has_a_file_and_the_index_leads_to_all(files: Mapping[str, str]) -> None:
    services = {"service-shop.md", "service-database.md", "service-idle.service.md"}
    assert set(files) == {"README.md", *services}
    assert services <= {target.partition("#")[0] for target in targets(files["README.md"])}
    assert plain(files["README.md"]).startswith("Shop [*] & Co: runbooks")
    assert "Nothing is watched of it" in files["service-idle.service.md"]


def test_every_alert_has_a_section_and_an_entry_in_the_index(model: Model, files: Mapping[str, str]) -> None:
    found = list(alert_labels(model))
    assert {labels["alertname"] for _, labels in found} >= {*names.RESERVED_ALERTS, "DiskLow"} - {names.ALERT_WATCHDOG}
    for where, labels in found:
        service, _, name = where.partition("/")
        part = section_of(files[f"service-{service}.md"], name)
        assert f"(`{labels['alertname']}`)" in part, (where, labels["alertname"])
        for title in ("What it means", "Diagnosis", "It is over when", "Escalation", "When it alerts"):
            assert f"### {title}\n" in part
        assert f"(service-{service}.md#{name})" in files["README.md"]
    assert f"## {names.ALERT_WATCHDOG}" in files["README.md"] and "at heart." in files["README.md"]


def test_every_link_leads_to_a_file_and_an_anchor_or_a_page(
    model: Model, files: Mapping[str, str], pages: Mapping[str, Any]
) -> None:
    for file, text in files.items():
        for target in targets(text):
            if target.startswith(model.grafana + "/d/"):
                address = urlsplit(target)
                uid = address.path.rpartition("/")[2]
                page = pages[uid]
                values = {v["name"]: v["query"] for v in page["templating"]["list"]}
                for name, (value,) in parse_qs(address.query).items():
                    if name.startswith("var-"):
                        assert re.search(rf" : {re.escape(value)}(,|$)", values[name.removeprefix("var-")]), target
            elif not target.startswith("http"):
                there, _, anchor = target.partition("#")
                assert f'<a id="{anchor}"></a>' in files[there or file] if anchor else there in files, target


# --- what it says ------------------------------------------------------------------------------------------------------------


def test_a_section_says_the_alert_in_words_its_objective_its_owner_and_who_is_told(files: Mapping[str, str]) -> None:
    shop = files["service-shop.md"]
    availability = plain(section_of(shop, "availability"))
    for part in (
        "owner backend · tier medium",
        "Promised: over 30d, 99.9% of events are good.",
        "Each region has a budget of its own.",
        "14.4× over 1h and 5m: more than 1.44% bad",
        "2% of the budget in 1h",
        "Nothing is left of the budget",
        "Less than 10% of the budget is left: deploy nothing but fixes",
        "phone, after 15m boss",
    ):
        assert part in availability, part
    low = plain(section_of(shop, "DiskLow"))
    assert 'Pages when disk_free_bytes{job="shop"} is below 2GiB.' in low
    # Outside of the office's hours the next route has it.
    assert "chat during office; phone, after 15m boss" in low
    assert "chat" in plain(section_of(shop, "PoolSaturated")) and "phone" not in plain(section_of(shop, "PoolSaturated"))
    live = plain(section_of(shop, "live"))
    assert "the stack asks http://shop:8000/health and expects any 2xx status" in live
    assert "While an outage of database pages" in shop
    assert (
        "| [availability](#availability) | objective `availability` | 99.9% | Pages: phone, after 15m boss | backend |" in shop
    )


def test_the_loudest_alert_comes_first(model: Model) -> None:
    found = {one.subject.name: one for one in runbooks.sections(model, model.services[0])}
    assert [f.does for f in found["availability"].firings] == ["Pages", "Pages", "Opens a ticket", "Opens a ticket"]


def test_a_section_has_its_own_runbook_or_its_services_or_general_steps(files: Mapping[str, str]) -> None:
    shop = files["service-shop.md"]
    assert "make rollback" in shop.partition("## Procedures")[2]
    assert "Nothing sells" in section_of(shop, "live") and "Nothing sells" not in section_of(shop, "availability")
    assert "Nobody has written a runbook" not in shop
    database = section_of(files["service-database.md"], "reachable")
    assert "Add `runbook:` to `services.database.slos.reachable`" in database and "Since when?" in database


def test_the_key_to_add_is_one_that_the_file_can_have() -> None:
    found = resolved(SPEC.replace("    runbook: {symptoms: Nothing sells", "    x: {symptoms: Nothing sells")).model
    assert found is None
    found = resolved(re.sub(r"    runbook: \{symptoms: Nothing.*\n", "", SPEC)).model
    assert found is not None
    unwritten = {one.subject.name: one.unwritten for one in runbooks.sections(found, found.services[0])}
    assert unwritten["checkout_success"] == "services.shop.processes.checkout"
    assert unwritten["PoolSaturated"] == "services.shop.alerts.PoolSaturated"
    assert unwritten["live"] == "services.shop.slos.live"


def test_grafana_says_the_same(model: Model, pages: Mapping[str, Any]) -> None:
    for service in model.services:
        page = pages[names.runbook_uid(service.name)]
        variables = {v["name"]: v["query"].replace("\\,", ",") for v in page["templating"]["list"]}
        shown = html.unescape(re.sub(r"<[^>]*>", "", variables.get("alert", "")))
        for one in runbooks.sections(model, service):
            texts = [*one.meaning, one.symptoms, one.impact, *one.steps, *(c for pair in one.causes for c in pair)]
            texts += [one.recovery, one.escalation, one.prevention, *(f.when for f in one.firings)]
            texts += [(f.told,) for f in one.firings]
            for text in texts:
                assert re.sub(r"\s*\n\s*", "", "".join(text)) in shown, text


def test_grafana_draws_what_is_left_of_a_budget_whose_end_is_an_alert(pages: Mapping[str, Any]) -> None:
    def drawn(uid: str, chosen: str) -> list[str]:
        found = dashboards.queries(pages[uid], {"alert": chosen})
        return [q.expr for q in found if q.panel == "The query that fires" and names.BUDGET_REMAINING in q.expr]

    budget, exhausted, freeze = drawn("runbook-shop", "availability")
    assert 'policy=~"careful"' in budget
    assert exhausted.startswith("0 + 0 * ") and freeze.startswith("0.1 + 0 * ")
    assert drawn("runbook-database", "reachable") == []


# --- whatever a user writes --------------------------------------------------------------------------------------------------


def test_nothing_of_a_user_becomes_markup(files: Mapping[str, str]) -> None:
    shop = files["service-shop.md"]
    raw = [t.content for t in tokens(shop) if t.type in ("html_inline", "html_block")]
    assert raw and all(re.fullmatch(r'(<!-- Made .*-->|<a id="[\w.-]+">|</a>|<a id="[\w.-]+"></a>)\n?', part) for part in raw)
    symptoms = plain(section_of(shop, "availability"))
    assert "1. Not a list\n# Not a heading\n<script>alert(1)</script>" in symptoms
    assert "A | B" in plain(section_of(shop, "live")) and "psql | head" in plain(section_of(shop, "live"))
    assert "http://example.com/a_b_c" in targets(shop)


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.sampled_from("ab 1.)-+*_#`<>[]()|~=!&;$\\:/\n\t\"'äh"), max_size=40))
def test_markdown_reads_as_it_was_written(text: str) -> None:
    shown = plain(runbooks.markdown(runbooks.words(text)))
    assert shown.replace("`", "").split() == text.replace("`", "").split()
    if "`" not in text:
        # Code is on one line; everything else keeps its lines.
        lines = [" ".join(line.split()) for line in text.splitlines()]
        assert [" ".join(line.split()) for line in shown.splitlines()] == [line for line in lines if line]


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="a `|\\", min_size=1, max_size=12))
def test_code_stays_letter_by_letter(text: str) -> None:
    shown = plain(runbooks.markdown((runbooks.Code(text),)))
    assert shown == " ".join(text.split())


# --- a critical alert without one is said ------------------------------------------------------------------------------------

QUIET = "version: 1\ndefaults: {alerting: quiet}\nalerting: {quiet: {warning: [{long: 3d, short: 6h, budget: 10%}]}MORE}\n"
POLICIES = {
    "burn": "critical: [{long: 1h, short: 5m, budget: 2%}]",
    "exhausted": "exhausted: critical",
    "frozen": "freeze: {below: 10%, severity: critical}",
}
UP = "{objective: 99%, sli: {boolean: up}, alerting: p}"


@pytest.mark.parametrize(
    ("policy", "watched", "place"),
    [
        ("burn", f"slos: {{up: {UP}}}", "the SLO up"),
        ("exhausted", f"slos: {{up: {UP}}}", "the SLO up"),
        ("frozen", f"slos: {{up: {UP}}}", "the SLO up"),
        ("burn", "processes: {pay: {name: Pay, sla: 2s, alerting: p, objectives: {success: 99%}}}", "the process pay"),
        ("exhausted", "processes: {pay: {name: Pay, sla: 2s, alerting: p, objectives: {timeouts: 1%}}}", "the process pay"),
        ("burn", 'probes: {live: {url: "http://x/", severity: critical}}', "the probe live"),
        ("exhausted", 'probes: {live: {url: "http://x/", objective: 99%, alerting: p}}', "the probe live"),
        ("burn", "alerts: {Down: {expr: up, below: 1, severity: critical}}", "the alert Down"),
    ],
)
def test_what_can_page_somebody_without_a_runbook_is_a_diagnostic(policy: str, watched: str, place: str) -> None:
    text = QUIET.replace("MORE", f", p: {{{POLICIES[policy]}}}")
    text += "services:\n  shop:\n    scrape: {targets: [x:1]}\n    " + watched + "\n"
    told = [d for d in resolved(text).diagnostics if d.code == "missing-runbook"]
    assert len(told) == 1 and place in told[0].message, [d.message for d in resolved(text).diagnostics]
    with_one = text.replace("    scrape:", "    runbook: Ask the shop.\n    scrape:")
    assert not [d for d in resolved(with_one).diagnostics if d.code == "missing-runbook"]


def test_what_pages_nobody_needs_none() -> None:
    text = QUIET.replace("MORE", "") + "services: {shop: {slos: {up: {objective: 99%, sli: {boolean: up}}}}}\n"
    assert not [d for d in resolved(text).diagnostics if d.code == "missing-runbook"]


def test_a_runbook_that_says_nothing_is_none() -> None:
    alert = "{Down: {expr: up, below: 1, severity: critical}}"
    text = f"version: 1\nservices: {{shop: {{runbook: {{prevention: Think.}}, alerts: {alert}}}}}\n"
    assert [d for d in resolved(text).diagnostics if d.code == "missing-runbook"]
