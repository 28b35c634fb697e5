"""Alertmanager's configuration: who is told what, and when. The tree of routes is walked as Alertmanager walks it."""

from __future__ import annotations

import datetime as dt
import itertools
import random
import re
import zoneinfo
from typing import Any

import pytest

from generator import model, source
from generator.model import Model, ResolvedRoute, alert_labels
from generator.render import alertmanager
from generator.schedule import WEEKDAYS

Labels = dict[str, str]
BASE = """
version: 1
defaults: {timezone: Europe/Berlin}
services:
  shop:
    owner: backend
    tier: critical
    depends_on: [database]
    runbook: https://wiki.example.com/shop
    slos: {up: {objective: 99%, sli: {boolean: up}}}
    alerts:
      Full: {expr: disk, above: 90%, severity: critical}
      Slow: {expr: slow, above: 1}
  web.site:
    owner: front
    depends_on: [shop]
    runbook: https://wiki.example.com/web
    slos: {up: {objective: 99%, sli: {boolean: up}}}
  database:
    owner: data
    runbook: https://wiki.example.com/database
    slos: {up: {objective: 99%, sli: {boolean: up}}}
    alerts:
      Down: {expr: up, below: 1, severity: critical, outage: true}
      Full: {expr: disk, above: 90%, severity: critical}
"""


def load(text: str) -> Model:
    result = model.resolve(source.read_text(BASE + text, "slos.yaml"))
    assert result.model is not None, [(d.code, d.message) for d in result.diagnostics]
    return result.model


# --- Alertmanager's own rules, in small ------------------------------------------------------------------------------


def matches(matcher: str, labels: Labels) -> bool:
    found = re.fullmatch(r'(\w+)(=~|=)"(.*)"', matcher)
    assert found, matcher
    name, operator, value = found.groups()
    value = value.replace("\\\\", "\\")
    return bool(re.fullmatch(value, labels.get(name, ""))) if operator == "=~" else labels.get(name, "") == value


def inside(entry: dict[str, Any], now: dt.datetime) -> bool:
    """Whether a moment lies in one entry of a time interval."""
    local = now.astimezone(zoneinfo.ZoneInfo(entry["location"]))
    minute = local.hour * 60 + local.minute

    def minutes(text: str) -> int:
        return int(text[:2]) * 60 + int(text[3:])

    times = [(minutes(t["start_time"]), minutes(t["end_time"])) for t in entry.get("times", ())] or [(0, 1440)]
    days = [range(*(int(x) + i for i, x in enumerate((d.split(":") * 2)[:2]))) for d in entry.get("days_of_month", ["1:31"])]
    return (
        any(a <= minute < b for a, b in times)
        and WEEKDAYS[local.weekday()] in entry.get("weekdays", WEEKDAYS)
        and any(local.day in d for d in days)
        and str(local.month) in entry.get("months", [str(local.month)])
        and str(local.year) in entry.get("years", [str(local.year)])
    )


def told(config: dict[str, Any], labels: Labels, now: dt.datetime) -> list[tuple[str, Any]]:
    """Each receiver that is told of an alert at a moment, with the time that its route waits."""
    intervals = {i["name"]: i["time_intervals"] for i in config.get("time_intervals", ())}
    root = config["route"]

    def walk(node: dict[str, Any], inherited: dict[str, Any]) -> list[dict[str, Any]] | None:
        if not all(matches(m, labels) for m in node.get("matchers", ())):
            return None
        own = {
            "receiver": node.get("receiver", inherited.get("receiver")),
            "group_wait": node.get("group_wait", inherited.get("group_wait")),
            "mute": node.get("mute_time_intervals", []),
        }
        found: list[dict[str, Any]] = []
        for child in node.get("routes", ()):
            below = walk(child, own)
            if below is not None:
                found += below
                if not child.get("continue"):
                    break
        return found or [own]

    leaves = walk(root, {}) or []
    return [
        (leaf["receiver"], leaf["group_wait"])
        for leaf in leaves
        if not any(inside(entry, now) for name in leaf["mute"] for entry in intervals[name])
    ]


# --- what the file says, in small ------------------------------------------------------------------------------------


def wanted(found: Model, labels: Labels, now: dt.datetime) -> list[tuple[str, Any]]:
    """Who is to be told, from the Model alone: the first route whose conditions all hold."""
    routing = found.routing
    for maintenance in found.maintenance:
        hit = not maintenance.services or labels["service"] in maintenance.services
        if hit and any(inside(entry, now) for entry in maintenance.when.intervals()):
            return []

    def is_open(route: ResolvedRoute) -> bool:
        if not route.timed:
            return True
        hours = routing.hours[str(route.during or route.outside)]
        return any(inside(entry, now) for entry in hours.intervals()) == (route.during is not None)

    for route in routing.routes:
        if all(labels.get(k) in v for k, v in route.match.items()) and is_open(route):
            steps = [(routing.wait, route.to), *route.escalate]
            return [(" + ".join(to) if to else "nobody", wait) for wait, to in steps]
    return [(" + ".join(routing.default) or "nobody", routing.wait)]


ROUTING = """
routing:
  hours:
    office: {days: mon-fri, times: 09:00-17:00}
    night: {days: [fri, sat], times: 22:00-06:00, timezone: UTC}
    first: {dates: 1-7, times: ["08:00-12:00", "13:00-18:00"]}
  receivers:
    chat: {webhook: {url: "http://chat/"}}
    phone: {webhook: {url: "http://phone/"}}
    boss: {webhook: {url: "http://boss/"}}
    data: {webhook: {url: "http://data/"}}
  default: chat
  routes:
ROUTES
maintenance:
  upgrade: {from: 2026-12-01 22:00, until: 2026-12-02 04:30, services: database}
  backup: {days: sun, times: 02:00-04:00}
  monthly: {dates: 1-7, days: sat, times: "23:00-24:00", timezone: UTC, services: [database, web.site]}
"""
CHOICES = [
    "{severity: critical, during: office, to: phone, escalate: {after: 15m, to: boss}}",
    "{severity: critical, to: [phone, chat], escalate: [{after: 15m, to: boss}, {after: 1h, to: data}]}",
    "{service: [web.site, shop], outside: night, to: data}",
    "{owner: data, to: data}",
    "{tier: critical, during: night, to: boss}",
    "{alert: [Full, Slow], outside: office, to: [data, boss]}",
    "{severity: [critical, warning], during: first, to: boss}",
    "{to: boss}",
    "{outside: office, to: phone}",
]


@pytest.mark.parametrize("seed", range(40))
def test_the_first_route_whose_conditions_hold_gets_the_alert(seed: int) -> None:
    dice = random.Random(seed)
    chosen = dice.sample(CHOICES, dice.randint(1, 6))
    found = load(ROUTING.replace("ROUTES", "\n".join(f"    - {route}" for route in chosen)))
    config = alertmanager.configuration(found)
    moments = [dt.datetime(2026, 11, 25, tzinfo=dt.UTC) + dt.timedelta(minutes=dice.randrange(15 * 24 * 60)) for _ in range(60)]
    # The edges, where mistakes are made.
    moments += [
        dt.datetime(2026, 12, d, h, m, tzinfo=dt.UTC) for d, h, m in itertools.product((1, 2, 5, 6), (21, 22, 3), (0, 59))
    ]
    for _, labels in alert_labels(found):
        for now in moments:
            assert told(config, labels, now) == wanted(found, labels, now), (chosen, labels, now)


def test_a_route_out_of_hours_leaves_the_alert_to_the_next() -> None:
    found = load(ROUTING.replace("ROUTES", "    - {severity: critical, during: office, to: phone}\n    - {to: boss}"))
    config = alertmanager.configuration(found)
    labels = {"severity": "critical", "service": "shop", "alertname": "Full"}
    # A Wednesday; Berlin is an hour ahead.
    assert told(config, labels, dt.datetime(2026, 12, 9, 8, 0, tzinfo=dt.UTC))[0][0] == "phone"
    assert told(config, labels, dt.datetime(2026, 12, 9, 7, 59, tzinfo=dt.UTC))[0][0] == "boss"
    assert told(config, labels, dt.datetime(2026, 12, 9, 16, 0, tzinfo=dt.UTC))[0][0] == "boss"


def test_summer_time_moves_the_hours() -> None:
    found = load(ROUTING.replace("ROUTES", "    - {during: office, to: phone}"))
    config = alertmanager.configuration(found)
    labels = {"severity": "critical", "service": "shop"}
    assert told(config, labels, dt.datetime(2026, 7, 8, 7, 0, tzinfo=dt.UTC))[0][0] == "phone"
    assert told(config, labels, dt.datetime(2026, 12, 9, 7, 0, tzinfo=dt.UTC))[0][0] == "chat"


def test_escalation_waits_longer_and_goes_to_somebody_else() -> None:
    found = load(ROUTING.replace("ROUTES", f"    - {CHOICES[1]}"))
    labels = {"severity": "critical", "service": "shop"}
    sent = told(alertmanager.configuration(found), labels, dt.datetime(2026, 12, 9, 12, tzinfo=dt.UTC))
    assert [(to, str(wait)) for to, wait in sent] == [("phone + chat", "10s"), ("boss", "15m"), ("data", "1h")]


def test_maintenance_of_one_service_mutes_no_other() -> None:
    found = load(ROUTING.replace("ROUTES", "    - {severity: critical, to: phone}"))
    config = alertmanager.configuration(found)
    inside_upgrade = dt.datetime(2026, 12, 2, 3, 0, tzinfo=dt.UTC)
    assert told(config, {"severity": "critical", "service": "database"}, inside_upgrade) == []
    assert told(config, {"severity": "warning", "service": "database"}, inside_upgrade) == []
    assert told(config, {"severity": "critical", "service": "shop"}, inside_upgrade)
    # Over at 04:30 in Berlin.
    assert told(config, {"severity": "critical", "service": "database"}, dt.datetime(2026, 12, 2, 3, 30, tzinfo=dt.UTC))


def test_the_watchdog_is_never_muted() -> None:
    found = load(ROUTING.replace("ROUTES", "    - {to: phone}").replace("  default: chat", "  default: chat\n  watchdog: boss"))
    sunday = dt.datetime(2026, 12, 6, 2, 0, tzinfo=dt.UTC)
    labels = {"alertname": "Watchdog", "service": "lgtm", "severity": "none"}
    assert told(alertmanager.configuration(found), labels, sunday) == [("boss", "0s")]


def test_what_counts_beats_is_sent_no_end_and_a_beat_each_minute() -> None:
    """Alertmanager's repeat interval begins with the delivery: one that is as long as the group's beats every other time."""
    beats = "  receivers: {beats: {webhook: {url: 'http://beats/'}}, chat: {webhook: {url: 'http://chat/'}}}\n  default: chat\n"
    for watchdog, ends in (("beats", False), ("chat", True)):
        config = alertmanager.configuration(load(f"routing:\n{beats}  watchdog: {watchdog}\n"))
        route = config["route"]["routes"][0]
        assert route["receiver"] == watchdog
        assert (route["group_wait"], route["group_interval"], route["repeat_interval"]) == ("0s", "1m", "30s")
        receivers = {r["name"]: r for r in config["receivers"]}
        assert receivers[watchdog]["webhook_configs"][0]["send_resolved"] is ends
        assert receivers["chat"]["webhook_configs"][0]["send_resolved"] is True


def mutes(config: dict[str, Any], source_: Labels, target: Labels) -> bool:
    return any(
        all(matches(m, source_) for m in rule["source_matchers"])
        and all(matches(m, target) for m in rule["target_matchers"])
        and all(source_.get(name) == target.get(name) for name in rule.get("equal", ()))
        for rule in config["inhibit_rules"]
    )


def alert(service: str, name: str, severity: str = "critical", slo: str = "up") -> Labels:
    return {"service": service, "alertname": name, "severity": severity, "slo": slo}


def test_inhibition() -> None:
    config = alertmanager.configuration(load(""))
    page = alert("database", "SLOBurnRateCritical")
    # The page mutes the ticket of the same objective, and no other's.
    assert mutes(config, page, alert("database", "SLOBurnRateWarning", "warning"))
    assert not mutes(config, page, alert("database", "SLOBurnRateWarning", "warning", "other"))
    # What depends on it, straight or through others; and never the other way round.
    assert mutes(config, page, alert("shop", "SLOBurnRateCritical"))
    assert mutes(config, page, alert("web.site", "SLOBurnRateCritical"))
    assert not mutes(config, alert("web.site", "SLOBurnRateCritical"), page)
    assert mutes(config, alert("shop", "SLOBurnRateCritical"), alert("web.site", "Anything"))
    # A service that is down needs no alert that its metrics are gone.
    assert mutes(config, page, alert("database", "SLONoData", "warning"))
    # An alert that is an outage mutes what is downstream; a disk that will be full tomorrow must not hide a page.
    assert mutes(config, alert("database", "Down"), alert("shop", "SLOBurnRateCritical"))
    assert not mutes(config, alert("database", "Full"), alert("shop", "SLOBurnRateCritical"))


def test_a_name_with_a_dot_is_no_pattern() -> None:
    config = alertmanager.configuration(load(ROUTING.replace("ROUTES", "    - {service: [web.site, shop], to: boss}")))
    now = dt.datetime(2026, 12, 9, 12, tzinfo=dt.UTC)
    assert told(config, {"service": "web.site", "severity": "critical"}, now)[0][0] == "boss"
    assert told(config, {"service": "webXsite", "severity": "critical"}, now)[0][0] == "chat"
