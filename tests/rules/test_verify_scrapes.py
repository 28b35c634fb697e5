"""What `lgtm verify` says of scrape jobs that a Prometheus which has just started has yet to begin."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import pytest

from bench.replay import load
from generator import render, verify
from generator.project import Project
from generator.verify import drift
from generator.verify.check import Check

Start = Callable[[Mapping[str, str]], Project]

MODEL = load(
    """
version: 1
services:
  shop:
    scrape: {targets: ["127.0.0.1:9"]}
    slos: {up: {objective: 99%, sli: {boolean: shop_up}}}
"""
)
CONFIG = {"prometheus.yml": "scrape_config_files: [generated/scrape/*.yaml]\n"}
JOBS = {a.path.removeprefix("prometheus/"): a.text for a in render.everything(MODEL) if "/scrape/" in a.path}


def of_jobs(project: Project) -> list[Check]:
    found = verify.verify(project, MODEL, render.everything(MODEL), only=["config"])
    return [check for check in found if check.name.startswith("scrape job")]


def test_a_job_that_is_rendered_is_skipped_until_it_has_begun(alone: Start) -> None:
    project = alone({**CONFIG, **JOBS})
    seen: list[Check] = []
    until = time.monotonic() + 60
    while not any(check.level == "ok" for check in seen):
        assert time.monotonic() < until, seen
        seen += of_jobs(project)
        time.sleep(0.2)
    assert [check for check in seen if check.level not in ("ok", "skipped")] == []
    assert {check.name for check in seen if check.level == "ok"} == {"scrape job shop"}


def test_a_job_that_never_begins_is_told(alone: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    project = alone(CONFIG)
    monkeypatch.setattr(drift, "_JOBS_BEGIN", 600.0)
    (skipped,) = of_jobs(project)
    assert (skipped.name, skipped.level) == ("scrape jobs", "skipped") and skipped.text.startswith("Prometheus has run for ")
    # Once that time is over, as it is here at once, it is missing.
    monkeypatch.setattr(drift, "_JOBS_BEGIN", 0.0)
    (missing,) = of_jobs(project)
    assert (missing.name, missing.level) == ("scrape job shop", "fail")
    assert missing.text.startswith("it is not in force")
