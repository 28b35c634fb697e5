"""Reading rendered dashboards back: every query with its variables filled in, for the tests that run them all."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Query:
    """A query as Grafana would send it.

    ``datasource`` is the data source's uid; ``panel`` the panel's title, or the name of an annotation.
    """

    dashboard: str
    panel: str
    ref: str
    datasource: str
    expr: str
    kind: Literal["instant", "range"]


# What Grafana fills in itself, as it would be for six hours on a wide panel.
BUILT_IN: Mapping[str, str] = {
    "__interval": "5m",
    "__rate_interval": "1m",
    "__range": "6h",
    "__auto": "1m",
    "__interval_ms": "300000",
    "__range_s": "21600",
}
_VARIABLE = re.compile(r"\$(?:(?P<plain>\w+)|\{(?P<braced>\w+)(?::\w+)?\})")


def queries(dashboard: Mapping[str, Any], variables: Mapping[str, str] | None = None) -> list[Query]:
    """Every query of a dashboard's panels, those inside collapsed rows too, and of its annotations.

    Variables have their default value (all of them, where that is the default) unless ``variables`` says otherwise.
    """
    values = {**BUILT_IN, **_defaults(dashboard), **(variables or {})}
    uid = str(dashboard["uid"])
    found = []
    for panel in panels(dashboard):
        for target in panel.get("targets") or ():
            text = target.get("expr") or target.get("query") or ""
            source = (target.get("datasource") or panel.get("datasource") or {}).get("uid", "")
            instant = target.get("instant") or target.get("queryType") == "instant"
            kind: Literal["instant", "range"] = "instant" if instant else "range"
            found.append(Query(uid, panel.get("title", ""), target.get("refId", ""), source, _filled(text, values), kind))
    for mark in dashboard.get("annotations", {}).get("list") or ():
        if mark.get("expr"):
            text = _filled(mark["expr"], values)
            found.append(Query(uid, mark["name"], "Anno", mark["datasource"]["uid"], text, "range"))
    return found


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
        return values.get(name, match[0])

    return _VARIABLE.sub(fill, text)
