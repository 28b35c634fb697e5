"""`lgtm test` on the files that are delivered, and what it says where something cannot be proven."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.replay import load
from generator import cli, engine, model, render
from generator.project import Project
from generator.proof import Proof, prove
from generator.proof.proving import LABEL, Tools

ROOT = Path(__file__).resolve().parents[2]
FILES = [ROOT / "slos.yaml", *sorted((ROOT / "examples").glob("*.yaml"))]


def proof_of(text: str, made: Tools, *only: str) -> Proof:
    read = load(text)
    return prove(Project.load(ROOT), read, render.everything(read), lambda line: None, set(only) or None, made=made)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_alert_of_the_file_is_proven(path: Path, made: Tools) -> None:
    read = model.load([path], [path.name], variables={}).model
    assert read is not None
    proof = prove(Project.load(ROOT), read, render.everything(read), lambda line: None, made=made)
    assert [str(f) for f in proof.failures] == []
    assert len(proof.table) == len(list(model.alert_labels(read)))
    assert all(so for _, so in proof.tests)
    # What is not proven is few, and said.
    assert sum(1 for row in proof.table if row.unproven) <= 4


KINDS = """
version: 1
defaults: {owner: backend, interval: 30s}
services:
  shop:
    runbook: https://wiki.example.com/shop
    probes: {live: {url: "http://shop/", interval: 1m, failures: 1, severity: null}}
    slos:
      good: {objective: 99%, by: [region], sli: {ratio: {good: 'jobs_total{result=~"ok|skipped"}', total: jobs_total}}}
      two_metrics: {objective: 99%, sli: {ratio: {errors: failures_total, total: 'attempts_total{kind!="probe"}'}}}
      native: {objective: 99%, sli: {latency: {histogram: page_seconds, under: 250ms, native: true}}}
      milliseconds: {objective: 95%, sli: {latency: {histogram: page_milliseconds, under: 250ms}}}
      up: {objective: 99.9%, window: 7d, sli: {boolean: shop_up}}
      live: {objective: 99.9%, sli: {probe: live}}
      backup: {objective: 99%, alerting: tickets, sli: {freshness: {timestamp: backup_timestamp_seconds, under: 26h}}}
      queue: {objective: 99%, sli: {threshold: {expr: queue_depth, above: 1000}}}
      free: {objective: 99%, sli: {threshold: {expr: disk_free / disk_size, below: 10%}}}
      spans: {objective: 99%, sli: {traces: {span: POST /webhooks, kind: server}}}
      slow_spans: {objective: 95%, sli: {traces: {span: POST /webhooks, under: 2s}}}
      process: {objective: 99%, sli: {process: {id: pay, measure: within_sla, under: 2s, from: spans}}}
      logs: {objective: 99%, sli: {logs: {good: '| json | ok="1"', total: '| json'}}}
      raw: {objective: 99%, sli: {raw: {errors: "sum(rate(bad_total[{{window}}]))", total: "sum(rate(all_total[{{window}}]))"}}}
      free_hand: {objective: 99%, sli: {raw: {error_ratio: 1 - avg(up)}}}
    alerts:
      Falling: {expr: "deriv(orders[1h])", below: -5}
      Compared: {expr: temperature > 40, for: 1m}
"""


def test_every_kind_of_sli_is_fed_and_what_is_too_free_is_said(made: Tools) -> None:
    proof = proof_of(KINDS, made)
    assert [str(f) for f in proof.failures] == []
    partly = {(row.subject, row.alert): row.unproven for row in proof.table if row.unproven}
    assert {subject for subject, _ in partly} == {"shop/free_hand", "shop/logs", "shop"}
    assert partly["shop/free_hand", "SLOBurnRateCritical"] == ("the SLI's own query: error_ratio is PromQL of the file's own",)
    assert partly["shop", "Falling"] == ("the query that it compares: no value can be chosen for what deriv reads",)
    assert not any(row.failed for row in proof.table)


def test_an_expectation_that_is_not_so_fails_with_its_sentence(made: Tools) -> None:
    text = """
version: 1
services: {shop: {runbook: See the wiki., slos: {up: {objective: 99%, sli: {boolean: up}}}}}
routing: {receivers: {chat: {webhook: {url: "http://chat/"}}, phone: {webhook: {url: "http://phone/"}}}, default: chat,
          routes: [{severity: info, to: phone}]}
tests:
  - {name: pages, alert: SLOBurnRateCritical, service: shop, at: "Sun 03:00", reaches: phone}
  - {name: tells, alert: SLOBurnRateCritical, service: shop, reaches: chat, not: phone}
  - {name: silent, alert: SLOBurnRateWarning, service: shop, quiet: true}
"""
    proof = proof_of(text, made, "shop")
    assert proof.tests == (("pages", False), ("tells", True), ("silent", False))
    assert [(f.path, f.message) for f in proof.failures] == [
        (("tests", 0), "on Sun 03:00 it must reach phone, and reaches chat"),
        (("tests", 2), "nobody must be told, and it reaches chat"),
    ]


def test_the_command_prints_a_table_and_json_and_leaves_no_container(tmp_path: Path, prometheus_image: str) -> None:
    before = containers()
    spec = tmp_path / "slos.yaml"
    spec.write_text(KINDS[: KINDS.index("      two_metrics")])
    base = ["-C", str(ROOT), "-f", str(spec), "test", "--only", "shop/good"]
    run = CliRunner().invoke(cli.cli, base)
    assert run.exit_code == 0, run.output
    assert "SLOBurnRateCritical  shop/good  8m38s" in run.stdout and "ok: 3 alerts, 0 failures" in run.stdout
    run = CliRunner().invoke(cli.cli, [*base, "--json"])
    rows = json.loads(run.stdout)["alerts"]
    assert [row["result"] for row in rows] == ["proven"] * 3
    assert rows[0]["detects_in_seconds"] == 518.4
    assert CliRunner().invoke(cli.cli, [*base[:-1], "shop/goo"]).exit_code == 2
    assert containers() <= before


def containers() -> set[str]:
    with contextlib.closing(engine.connect()) as client:
        return {c["Id"] for c in client.api.containers(all=True, filters={"label": LABEL})}


POLICIES = """
version: 1
defaults: {owner: backend}
alerting:
  fast: {critical: [{long: 1h, short: 2m, budget: 2%}]}
  slow: {warning: [{long: 6h, short: 30m, budget: 10%}]}
  slower: {warning: [{long: 3d, short: 6h, budget: 10%}], exhausted: critical}
  three:
    critical: [{long: 30m, short: 5m, budget: 2%}, {long: 12h, short: 1h, budget: 8%}]
    warning: [{long: 1d, short: 2h, budget: 10%}]
services:
  shop:
    runbook: https://wiki.example.com/shop
    slos:
"""


def test_policies_of_ones_own_are_proven_over_any_window(made: Tools) -> None:
    text = POLICIES + "".join(
        f"      {policy}_{window}: {{objective: 99%, window: {window}, alerting: {policy}, sli: {{boolean: shop_up}}}}\n"
        for policy in ("fast", "slow", "slower", "three")
        for window in ("7d", "30d", "90d")
    )
    assert [str(f) for f in proof_of(text, made).failures] == []
