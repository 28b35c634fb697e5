"""Every link of an alert and of a dashboard leads to a dashboard that is there, with variables it has, and with the time."""

from __future__ import annotations

import copy
import html
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import yaml

from generator import model, names
from generator.incident import asking
from generator.model import Model
from generator.project import Project
from generator.render import everything

ROOT = Path(__file__).resolve().parents[2]
SPECS = ["slos.yaml", *sorted(f"examples/{path.name}" for path in (ROOT / "examples").glob("*.yaml"))]

_FIELD = re.compile(r"\$\{__data\.fields\.([^}]+)\}")
_OWN_VARIABLE = re.compile(r"\$\{(?!__)(\w+)(?::\w+)?\}")
_KEEPS_TIME = "${__url_time_range}"
_SLO = "{{ $labels.slo }}"


@dataclass
class Rendered:
    """A spec and what follows from it: pages by uid, rules by service."""

    model: Model
    pages: dict[str, dict[str, Any]]
    rules: dict[str, list[dict[str, Any]]]


def rendered(name: str) -> Rendered:
    found = model.load([ROOT / name], [name], variables={}).model
    assert found is not None
    pages: dict[str, dict[str, Any]] = {}
    rules: dict[str, list[dict[str, Any]]] = {}
    for artifact in everything(found):
        if artifact.path.startswith("grafana/"):
            page = json.loads(artifact.text)
            assert page["uid"] not in pages
            pages[page["uid"]] = page
        elif artifact.path.startswith("prometheus/generated/rules/"):
            service = Path(artifact.path).stem.removeprefix("service-")
            rules[service] = [r for g in yaml.safe_load(artifact.text)["groups"] for r in g["rules"] if "alert" in r]
    return Rendered(found, pages, rules)


@pytest.fixture(scope="module", params=SPECS)
def one(request: pytest.FixtureRequest) -> Rendered:
    return rendered(request.param)


@pytest.fixture(scope="module")
def sources() -> dict[str, Any]:
    """The provisioned data sources by uid."""
    path = ROOT / "grafana/provisioning/datasources/datasources.yaml"
    return {source["uid"]: source for source in yaml.safe_load(path.read_text(encoding="utf-8"))["datasources"]}


# --- one link ----------------------------------------------------------------------------------------------------------------


def choices(page: Mapping[str, Any], name: str) -> set[str] | None:
    """What a variable can be; None where it can be anything."""
    (variable,) = [v for v in page["templating"]["list"] if v["name"] == name]
    if variable["type"] != "custom":
        return None
    options = re.split(r"(?<!\\),", variable["query"])
    values = {re.sub(r"\\(.)", r"\1", option).rpartition(" : ")[2].strip() for option in options}
    return values | {"$__all"} if variable.get("includeAll") else values


def variables(page: Mapping[str, Any]) -> set[str]:
    return {variable["name"] for variable in page["templating"]["list"]}


def faults(
    address: str, pages: Mapping[str, Any], *, keeps_time: bool = False, here: Mapping[str, Any] | None = None
) -> list[str]:
    """What is wrong with a link to a dashboard. ``here`` is the page that it stands on."""
    parts = urlsplit(address)
    match = re.fullmatch(r"/d/([^/]+)", parts.path)
    if match is None:
        return [f"{address}: no dashboard's address"]
    asked = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    found = []
    if not (keeps_time or _KEEPS_TIME in parts.query or {"from", "to"} <= set(asked)):
        found.append(f"{address}: loses the time range")
    if "??" in address or "&&" in address or "?&" in address:
        found.append(f"{address}: has an empty parameter")
    for name in _OWN_VARIABLE.findall(address):
        if here is None or name not in variables(here):
            found.append(f"{address}: there is no variable {name} on its own page")
    # A uid out of the row is one of any service's: `labels_of` looks at those.
    page = None if _FIELD.fullmatch(match[1]) else pages.get(match[1])
    if page is None:
        if not _FIELD.fullmatch(match[1]):
            found.append(f"{address}: there is no dashboard {match[1]}")
        return found
    for name, value in parse_qsl(parts.query.replace(_KEEPS_TIME, ""), keep_blank_values=True):
        variable = name.removeprefix("var-")
        if name in ("from", "to"):
            continue
        if variable == name or variable not in variables(page):
            found.append(f"{address}: {match[1]} has no variable {variable}")
            continue
        known = choices(page, variable)
        if known is None or _FIELD.search(value):
            continue
        own = _OWN_VARIABLE.fullmatch(value)
        given = choices(here, own[1]) if own and here is not None and own[1] in variables(here) else {value}
        if given is None or not given <= known:
            found.append(f"{address}: {variable} can not be {value}")
    return found


# --- dashboards --------------------------------------------------------------------------------------------------------------


def panels(page: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in page["panels"]:
        yield panel
        yield from panel.get("panels") or ()


def fields(panel: Mapping[str, Any]) -> set[str]:
    """The names of the columns that a table has in the end."""
    found: set[str] = set()
    for step in panel.get("transformations") or ():
        if step["id"] == "organize":
            renamed = step["options"].get("renameByName", {})
            # Grafana looks for both: what the query calls it, and what the heading says.
            found |= {*step["options"]["indexByName"], *(renamed.get(n, "") for n in step["options"]["indexByName"])}
    return found


def _outside(address: str) -> bool:
    # What a user links to is his own affair.
    return address.startswith(("http://", "https://"))


def data_links(panel: Mapping[str, Any]) -> Iterator[str]:
    config = panel.get("fieldConfig") or {}
    yield from (link["url"] for link in config.get("defaults", {}).get("links") or ())
    for override in config.get("overrides") or ():
        for one in override["properties"]:
            if one["id"] == "links":
                yield from (link["url"] for link in one["value"])


def of_page(page: Mapping[str, Any], pages: Mapping[str, Any]) -> tuple[int, list[str]]:
    """How many links a page has, and what is wrong with them."""
    count, found = 0, []
    for link in page["links"]:
        count += 1
        if not _outside(link["url"]):
            found += faults(link["url"], pages, keeps_time=link["keepTime"], here=page)
    texts = [variable["query"] for variable in page["templating"]["list"] if variable["type"] == "custom"]
    for panel in panels(page):
        inside = [*data_links(panel), *(link["url"] for link in panel.get("links") or ())]
        for address in inside:
            count += 1
            found += faults(address, pages, here=page)
            found += [f"{address}: no column {name}" for name in _FIELD.findall(address) if name not in fields(panel)]
        texts.append((panel.get("options") or {}).get("content") or "")
        texts.append(panel.get("description") or "")
    for text in texts:
        for address in re.findall(r'href="([^"]*)"|\]\(([^)]*)\)', text):
            where = html.unescape(address[0] or address[1])
            count += 1
            found += faults(where, pages, here=page) if not _outside(where) else []
    return count, [f"{page['uid']}: {fault}" for fault in found]


def test_every_link_of_every_dashboard(one: Rendered) -> None:
    total = 0
    found: list[str] = []
    for page in one.pages.values():
        count, wrong = of_page(page, one.pages)
        total, found = total + count, found + wrong
    assert found == []
    assert total >= 3 * len(one.pages), "links were not found at all"


def test_no_dashboard_is_out_of_reach(one: Rendered) -> None:
    """From the overview every page can be reached, by a link or by the row of a table."""
    reached, waiting = set(), {names.OVERVIEW_UID}
    while waiting:
        uid = waiting.pop()
        reached.add(uid)
        page = one.pages[uid]
        text = json.dumps(page)
        waiting |= {other for other in one.pages if re.search(rf"/d/{other}(?![\w-])", text)}
        waiting |= {made for panel in panels(page) for made in _made_by_rows(one, panel)}
        waiting -= reached
    assert set(one.pages) - reached == set()


def _made_by_rows(one: Rendered, panel: Mapping[str, Any]) -> set[str]:
    """The uids that the query of a table puts into its rows, where a link goes to them."""
    wanted = {name for url in data_links(panel) for name in re.findall(r"/d/\$\{__data\.fields\.(\w+)\}", url)}
    queries = " ".join(target.get("expr", "") for target in panel.get("targets") or ())
    only = re.search(r'[{,]service="([^"]*)"', queries)
    rows = [{"service": s.name} for s in one.model.services if only is None or only[1] == s.name]
    rows += [{"process_id": process.id} for service in one.model.services for process in service.processes]
    found = set()
    for label in wanted:
        # As label_replace does, one after the other: the innermost is written first.
        steps = re.findall(rf'"{label}", "([^"]*)", "(\w*)", "([^"]*)"', queries)
        found |= {given for given, source, _ in steps if not source}
        for row in rows:
            made = ""
            for given, source, pattern in steps:
                if source in row and (match := re.fullmatch(pattern, row[source])):
                    made = given.replace("$1", match[0])
            found |= {made} - {""}
    return found


def test_rows_lead_to_pages_of_their_own(one: Rendered) -> None:
    """A uid out of a row comes from the query: what the query makes of each service is the uid of its page."""
    for page in one.pages.values():
        for panel in panels(page):
            assert _made_by_rows(one, panel) <= set(one.pages), (page["uid"], panel["title"])
    found = {uid for panel in panels(one.pages[names.OVERVIEW_UID]) for uid in _made_by_rows(one, panel)}
    assert found == {uid(service.name) for service in one.model.services for uid in (names.service_uid, names.runbook_uid)}


# --- alerts ------------------------------------------------------------------------------------------------------------------


def of_alerts(one: Rendered) -> tuple[int, list[str]]:
    """How many links the alerts have, and what is wrong with them."""
    count, found = 0, []
    services = {service.name: service for service in one.model.services}
    for name, rules in one.rules.items():
        for rule in rules:
            notes = rule["annotations"]
            if rule["alert"] == names.ALERT_WATCHDOG:
                continue
            for key in ("runbook_url", "dashboard_url"):
                address = notes.get(key, "")
                count += 1
                if not address.startswith(one.model.grafana + "/"):
                    own = key == "runbook_url" and re.match(r"https?://", address)
                    found += [] if own else [f"{name} {rule['alert']}: {key} is {address!r}"]
                    continue
                path = address.removeprefix(one.model.grafana)
                slos = [slo.name for slo in services[name].slos if slo.sla_of is None] if _SLO in path else [""]
                for slo in slos:
                    for fault in faults(path.replace(_SLO, slo), one.pages):
                        found.append(f"{name} {rule['alert']}: {key}: {fault}")
                if "{{" in path.replace(_SLO, ""):
                    found.append(f"{name} {rule['alert']}: {key} has a template in it: {path}")
    return count, found


def test_every_link_of_every_alert(one: Rendered) -> None:
    count, found = of_alerts(one)
    assert found == []
    assert count >= 2 * len(list(one.model.slos)) / 5


# --- into logs and traces ----------------------------------------------------------------------------------------------------


def explore_faults(address: str, sources: Mapping[str, Any]) -> list[str]:
    """What is wrong with a link to Grafana's Explore."""
    parts = urlsplit(address)
    asked = dict(parse_qsl(parts.query))
    try:
        panes = json.loads(asked["panes"])
    except (KeyError, ValueError) as error:
        return [f"{address}: its panes are no JSON: {error}"]
    found = [] if parts.path == "/explore" and asked.get("schemaVersion") == "1" else [f"{address}: not Explore"]
    for pane in panes.values():
        if not {"from", "to"} <= pane.get("range", {}).keys():
            found.append(f"{address}: loses the time range")
        for source in (pane["datasource"], *(q["datasource"]["uid"] for q in pane["queries"])):
            if source not in sources:
                found.append(f"{address}: there is no data source {source}")
        for query in pane["queries"]:
            if sources.get(query["datasource"]["uid"], {}).get("type") != query["datasource"]["type"]:
                found.append(f"{address}: another type")
    return found


def test_links_of_an_incident(tmp_path: Path, sources: Mapping[str, Any]) -> None:
    (tmp_path / "compose.yaml").touch()
    asker = asking._Asker(Project.load(tmp_path), "council-api", datetime(2026, 11, 20).timestamp(), 300, 'a"b&c d')
    asker.grafana.set_result(True)
    links = asker.links()
    pages = rendered("slos.yaml").pages
    for name in ("dashboard", "runbook", "incident"):
        assert faults(links[name].removeprefix(asker.project.url("grafana")), pages) == []
    assert explore_faults(links["logs"], sources) == []
    assert explore_faults(asker.trace_link("0" * 32), sources) == []
    (pane,) = json.loads(dict(parse_qsl(urlsplit(links["logs"]).query))["panes"]).values()
    assert pane["queries"][0]["expr"].endswith('| company_id="a\\"b&c d"')
    assert dict(parse_qsl(urlsplit(links["incident"]).query))["var-company"] == 'a"b&c d'


def test_data_sources_lead_to_each_other(sources: Mapping[str, Any]) -> None:
    assert set(sources) == set(names.DATASOURCES)
    text = json.dumps(list(sources.values()))
    linked = re.findall(r'"(?:datasourceUid|alertmanagerUid)": "([^"]*)"', text)
    assert linked and set(linked) <= set(sources)


# --- the test itself ---------------------------------------------------------------------------------------------------------


def _no_runbook(one: Rendered) -> None:
    del one.pages["runbook-council-api"]


def _other_variable(one: Rendered) -> None:
    for variable in one.pages["runbook-council-api"]["templating"]["list"]:
        variable["name"] = "section"


def _fewer_choices(one: Rendered) -> None:
    (variable,) = one.pages["runbook-council-api"]["templating"]["list"]
    variable["query"] = "all : all"


def _no_time(one: Rendered) -> None:
    for page in one.pages.values():
        for panel in panels(page):
            if "content" in (panel.get("options") or {}):
                panel["options"]["content"] = panel["options"]["content"].replace("&" + _KEEPS_TIME, "")


def _dropped_time(one: Rendered) -> None:
    one.pages["service-council-api"]["links"][0]["keepTime"] = False


def _renamed_column(one: Rendered) -> None:
    for panel in panels(one.pages[names.OVERVIEW_UID]):
        for step in panel.get("transformations") or ():
            if step["id"] == "organize":
                step["options"]["indexByName"].pop("dashboard", None)


def _alert_of_another_service(one: Rendered) -> None:
    for rule in one.rules["council-api"]:
        notes = rule["annotations"]
        notes["runbook_url"] = notes["runbook_url"].replace("runbook-council-api", "runbook-database")


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (_no_runbook, "there is no dashboard runbook-council-api"),
        (_other_variable, "has no variable alert"),
        (_fewer_choices, "alert can not be availability"),
        (_no_time, "loses the time range"),
        (_dropped_time, "loses the time range"),
        (_renamed_column, "no column dashboard"),
        (_alert_of_another_service, "runbook_url: .*alert can not be"),
    ],
)
def test_a_broken_link_is_found(damage: Callable[[Rendered], None], told: str) -> None:
    one = copy.deepcopy(_whole())
    damage(one)
    found = [fault for page in one.pages.values() for fault in of_page(page, one.pages)[1]] + of_alerts(one)[1]
    assert any(re.search(told, fault) for fault in found), found[:5]


def _whole(kept: list[Rendered] = []) -> Rendered:  # noqa: B006 - rendered once for all that break it
    if not kept:
        kept.append(rendered("slos.yaml"))
    return kept[0]


def test_a_broken_link_to_explore_is_found(sources: Mapping[str, Any]) -> None:
    assert explore_faults("http://g/explore?schemaVersion=1&panes={", sources)
    pane = {"a": {"datasource": "nowhere", "queries": [], "range": {"from": "0", "to": "1"}}}
    assert "no data source nowhere" in explore_faults(f"http://g/explore?schemaVersion=1&panes={json.dumps(pane)}", sources)[0]
