"""The proof's own reading of Alertmanager's time intervals, held against the real server at this very moment."""

from __future__ import annotations

import datetime as dt
import random
import time
from pathlib import Path
from typing import Any

import yaml

from generator.proof import times
from generator.proof.proving import Tools
from generator.schedule import WEEKDAYS

ROOT = Path(__file__).resolve().parents[2]
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Pacific/Kiritimati",
    "Pacific/Pago_Pago",
    "Australia/Adelaide",
    "America/St_Johns",
    "Asia/Kathmandu",
    "Africa/Cairo",
    "Pacific/Chatham",
]


def some(chance: random.Random, now: dt.datetime) -> dict[str, Any]:
    """An interval near enough to this moment that it is in it about every other time."""
    entry: dict[str, Any] = {"location": chance.choice(ZONES)}
    if chance.random() < 0.6:
        start = chance.randrange(0, 1380)
        end = chance.randrange(start + 30, 1441)
        entry["times"] = [{"start_time": f"{start // 60:02}:{start % 60:02}", "end_time": f"{end // 60:02}:{end % 60:02}"}]
    if chance.random() < 0.5:
        first = chance.randrange(7)
        entry["weekdays"] = [WEEKDAYS[(first + n) % 7] for n in range(chance.randrange(2, 6))]
    if chance.random() < 0.3:
        low = chance.randrange(1, 28)
        entry["days_of_month"] = chance.choice([[f"{low}:{min(31, low + 14)}"], [f"{now.day}"], ["-15:-1"], ["1:-5"]])
    if chance.random() < 0.2:
        entry["months"] = [chance.choice([f"{now.month}", "january:june", "7:12", "november"])]
    if chance.random() < 0.1:
        entry["years"] = [chance.choice([f"{now.year}", f"{now.year + 1}"])]
    return entry


def test_an_interval_is_read_as_alertmanager_reads_it(made: Tools) -> None:
    chance = random.Random(20261121)
    now = dt.datetime.now(dt.UTC)
    entries = [some(chance, now) for _ in range(250)]
    config = {
        "route": {
            "receiver": "nobody",
            "group_by": ["number"],
            "group_wait": "0s",
            "routes": [{"matchers": [f'number="{i}"'], "mute_time_intervals": [f"{i}"]} for i in range(len(entries))],
        },
        "receivers": [{"name": "nobody"}],
        "time_intervals": [{"name": f"{i}", "time_intervals": [entry]} for i, entry in enumerate(entries)],
    }
    with made.alertmanager(yaml.safe_dump(config)) as ask:
        before = dt.datetime.now(dt.UTC)
        labels = [{"alertname": "A", "number": f"{i}"} for i in range(len(entries))]
        ask("POST", "/api/v2/alerts", [{"labels": one} for one in labels])
        want = {i for i, entry in enumerate(entries) if times.contains(entry, before)}
        for _ in range(300):
            alerts = [a for g in ask("GET", "/api/v2/alerts/groups", None) for a in g["alerts"]]
            got = {int(a["labels"]["number"]) for a in alerts if a["status"]["mutedBy"]}
            after = dt.datetime.now(dt.UTC)
            # One that begins or ends in these seconds says nothing.
            sure = {i for i, entry in enumerate(entries) if times.contains(entry, after) is (i in want)}
            if len(alerts) == len(entries) and got & sure == want & sure:
                break
            time.sleep(0.1)
    assert got & sure == want & sure
    assert 40 < len(want) < 210 and len(sure) > 200
