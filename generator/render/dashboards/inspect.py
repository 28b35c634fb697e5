"""Reading rendered dashboards back: every query with its variables filled in, for the tests that run them all."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Query:
    """A query as Grafana would send it.

    ``datasource`` is the data source's uid; ``panel`` the panel's title, or the name of an annotation. What a panel shows of
    another one's answers is that one's query, ``shared``: Grafana sends it once. ``only`` are the conditions on labels that the
    panel's rows meet: a label's name, whether it equals, and the value.
    """

    dashboard: str
    panel: str
    ref: str
    datasource: str
    expr: str
    kind: Literal["instant", "range"]
    shared: bool = False
    only: tuple[tuple[str, bool, str], ...] = ()


# What Grafana fills in itself, as it would be for six hours on a wide panel.
BUILT_IN: Mapping[str, str] = {
    "__interval": "5m",
    "__rate_interval": "1m",
    "__range": "6h",
    "__auto": "1m",
    "__interval_ms": "300000",
    "__range_s": "21600",
}
_VARIABLE = re.compile(r"\$(?:(?P<plain>\w+)|\{(?P<braced>\w+)(?::(?P<format>\w+))?\})")


def queries(dashboard: Mapping[str, Any], variables: Mapping[str, str] | None = None) -> list[Query]:
    """Every query of a dashboard's panels, those inside collapsed rows too, and of its annotations.

    Variables have their default value (all of them, where that is the default) unless ``variables`` says otherwise.
    """
    values = {**BUILT_IN, **_defaults(dashboard), **(variables or {})}
    uid = str(dashboard["uid"])
    by_id = {panel.get("id"): panel for panel in panels(dashboard)}
    found = []
    for panel in by_id.values():
        only = tuple(_conditions(panel))
        asked = [(target, panel, False) for target in panel.get("targets") or ()]
        for target, asking, shared in _followed(asked, by_id):
            text = target.get("expr") or target.get("query") or ""
            source = (target.get("datasource") or asking.get("datasource") or {}).get("uid", "")
            instant = target.get("instant") or target.get("queryType") == "instant"
            kind: Literal["instant", "range"] = "instant" if instant else "range"
            ref = target.get("refId", "")
            found.append(Query(uid, panel.get("title", ""), ref, source, _filled(text, values), kind, shared, only))
    for mark in dashboard.get("annotations", {}).get("list") or ():
        if mark.get("expr"):
            text = _filled(mark["expr"], values)
            found.append(Query(uid, mark["name"], "Anno", mark["datasource"]["uid"], text, "range"))
    return found


# Grafana's name for the data source that hands on what another panel of the page was answered.
SHARED = "-- Dashboard --"


def _followed(
    asked: list[tuple[Mapping[str, Any], Mapping[str, Any], bool]], by_id: Mapping[Any, Mapping[str, Any]]
) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any], bool]]:
    """Each query with the panel that sends it, and whether that is another one."""
    for target, panel, _ in asked:
        if (target.get("datasource") or {}).get("uid") != SHARED:
            yield target, panel, False
            continue
        source = by_id[target["panelId"]]
        for other in source.get("targets") or ():
            yield other, source, True


def _conditions(panel: Mapping[str, Any]) -> Iterator[tuple[str, bool, str]]:
    for step in panel.get("transformations") or ():
        if step["id"] == "filterByValue":
            for one in step["options"]["filters"]:
                if (kind := one["config"]["id"]) in ("equal", "notEqual"):
                    yield one["fieldName"], kind == "equal", str(one["config"]["options"]["value"])


def panels(dashboard: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Every panel of a dashboard but its rows, in order."""
    for panel in dashboard.get("panels") or ():
        if panel.get("type") == "row":
            yield from panel.get("panels") or ()
        else:
            yield panel


def _defaults(dashboard: Mapping[str, Any]) -> dict[str, str]:
    values = {}
    for variable in dashboard.get("templating", {}).get("list") or ():
        value = (variable.get("current") or {}).get("value", "")
        if value == "$__all":
            value = variable.get("allValue") or "|".join(o["value"] for o in variable["options"] if o["value"] != value)
        values[variable["name"]] = str(value)
    return values


def _filled(text: str, values: Mapping[str, str]) -> str:
    def fill(match: re.Match[str]) -> str:
        name = match["plain"] or match["braced"]
        value = values.get(name, match[0])
        return re.sub(r"[\\^$*+?.()|\[\]{}/]", r"\\\g<0>", value) if match["format"] == "regex" and name in values else value

    return _VARIABLE.sub(fill, text)
