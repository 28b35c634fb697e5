"""What `lgtm verify` concludes from what the servers say: the parts that need no server."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from generator import model, render, source, verify, words
from generator.cli import cli
from generator.commands import verify as command
from generator.console import State
from generator.project import DEFAULTS, Project
from generator.units import Duration
from generator.verify import alerting, drift, machine, metrics, reach, rules, telemetry
from generator.verify.check import LEVELS, Check

ROOT = Path(__file__).parents[2]
BOUNDS = ["0.005", "0.1", "0.2", "0.3", "1.0", "5.0", "+Inf"]


# --- Buckets -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bound", "bounds", "problem"),
    [
        ("0.3", BOUNDS, None),
        ("1", BOUNDS, None),  # Prometheus writes 1.0 when it scrapes
        ("5", ["5", "+Inf"], None),  # and 5 when it comes by OTLP
        ("0.30000000000000004", BOUNDS, None),
        ("0.25", BOUNDS, "the nearest end at 0.2 and 0.3"),
        ("0.299", BOUNDS, "the nearest end at 0.2 and 0.3"),
        ("0.001", BOUNDS, "the nearest ends at 0.005"),
        ("10", BOUNDS, "the nearest ends at 5"),
        ("10", ["+Inf"], "it has none at all, as a summary has not"),
        ("10", [""], "it has none at all, as a summary has not"),
        ("250", ["200", "300"], "the nearest end at 200 and 300"),
    ],
)
def test_the_nearest_buckets_are_named(bound: str, bounds: list[str], problem: str | None) -> None:
    assert metrics.bucket_problem(Decimal(bound), bounds) == problem


# --- Rules -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("took", "ago", "missed", "level", "words"),
    [
        (0.01, 20, 0, "ok", "takes 10 ms every 30 s"),
        (16, 20, 0, "warn", "takes 16 s every 30 s: more than half of its time"),
        (28, 20, 0, "fail", "takes 28 s every 30 s: it comes too late or misses turns"),
        (0.01, 20, 3, "warn", "missed 3 evaluations in the last hour"),
        (0.01, 74, 0, "ok", "takes"),  # two turns and a little: one may be under way
        (0.01, 76, 0, "fail", "last evaluated 76 s ago; it runs every 30 s"),
    ],
)
def test_a_group_in_time(took: float, ago: float, missed: int, level: str, words: str) -> None:
    check = rules.evaluated("shop:slo", 30, took, 1e9, 1e9 - ago, missed)
    assert (check.level, check.text[: len(words)]) == (level, words)
    assert bool(check.cure) == (level != "ok")


def test_a_group_that_has_not_run_yet_is_not_judged() -> None:
    check = rules.evaluated("shop:slo", 300, 0, 1e9, 0, 0)
    assert (check.level, check.text) == ("skipped", "not evaluated yet: it runs every 5 min")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0001-01-01T00:00:00Z", 0),
        ("2026-11-21T12:55:07.960424631Z", 1795265707.960424),
        ("2026-11-21T12:55:07Z", 1795265707),
        ("2026-11-21T13:55:07.5+01:00", 1795265707.5),
    ],
)
def test_times_as_servers_print_them(text: str, seconds: float) -> None:
    assert words.moment(text) == pytest.approx(seconds, abs=1e-5)


@pytest.mark.parametrize(
    ("diff", "said"),
    [
        ("--- a\n+++ b\n@@ -1 +1 @@\n-  for: 9h\n+  for: 4h", "'for: 9h' where 'for: 4h' belongs"),
        ("--- a\n+++ b\n@@ -1 +1 @@\n-mine", "'mine' is too much"),
        ("--- a\n+++ b\n@@ -1 +1 @@\n x\n+a: 1\n+b: 2", "'a: 1' is missing"),
    ],
)
def test_the_first_change_of_a_file_in_words(diff: str, said: str) -> None:
    assert drift.first_change(diff) == said


def test_the_series_of_an_error_are_left_out() -> None:
    said = (
        "found duplicate series for the match group {} on the right hand-side of the operation: "
        '[{__name__="up", instance="a:1"}, {__name__="up", instance="b[1]"}];many-to-many matching not allowed: matching labels'
    )
    assert rules.evaluation_error(said) == (
        "found duplicate series for the match group {} on the right hand-side of the operation; "
        "many-to-many matching not allowed: matching labels"
    )
    assert rules.evaluation_error("query timed out") == "query timed out"


# --- Targets -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ('Get "http://a:1/metrics": dial tcp 1.2.3.4:1: connect: connection refused', "Nothing listens at http://a:1/metrics"),
        ("dial tcp: lookup shop on 127.0.0.11:53: no such host", "has this name"),
        ("context deadline exceeded", "answer in time"),
        ("server returned HTTP status 404 Not Found", "scrape.path"),
        ("server returned HTTP status 503 Service Unavailable", "its log says why"),
        ("sample limit exceeded (limit 50000)", "too many values"),
        ("something new", "curl http://a:1/metrics"),
    ],
)
def test_each_reason_of_a_failed_scrape_has_a_cure(error: str, words: str) -> None:
    assert words in reach.scrape_cure(error, "http://a:1/metrics")


# --- Receivers ---------------------------------------------------------------------------------------------------------------

NOW = 10_000.0


def outcome(requests: Mapping[float, float], failed: Mapping[float, float], **reasons: float) -> Check:
    return alerting.notified("chat", "slack", requests, failed, reasons, NOW)


def test_nothing_sent_yet_is_a_state_of_its_own() -> None:
    check = outcome({NOW - 60: 0, NOW: 0}, {NOW: 0})
    assert (check.name, check.level) == ("chat (slack)", "skipped")
    assert check.text == "nothing was sent to it since Alertmanager last read its configuration"


def test_the_last_notification_counts_not_the_sum() -> None:
    # Three failed long ago; the last one, five minutes ago, did not.
    recovered = outcome({100: 3, 9000: 3, 9700: 4, NOW: 4}, {100: 3, 9000: 3, 9700: 3, NOW: 3})
    assert recovered.level == "ok"
    assert (
        recovered.text
        == "the last notification, 5 min ago, succeeded; 4 sent, 3 failed since Alertmanager last read its configuration"
    )
    broken = outcome({100: 30, 9700: 31, NOW: 31}, {100: 0, 9700: 1, NOW: 1}, clientError=1)
    assert broken.level == "fail"
    assert "4xx" in broken.cure


def test_tries_that_failed_before_one_that_did_not_are_a_warning() -> None:
    check = outcome({9900: 10, NOW: 15}, {9900: 0, NOW: 4})
    assert check.level == "warn"
    assert check.text.startswith("4 of the last 5 tries, a moment ago, failed")


def test_a_restart_of_alertmanager_begins_to_count_anew() -> None:
    # Its counters fell: what they show now was sent since.
    assert outcome({9000: 50, 9900: 2, NOW: 2}, {9000: 50, 9900: 0, NOW: 0}).level == "ok"
    assert outcome({9000: 50, 9900: 2, NOW: 2}, {9000: 0, 9900: 0, NOW: 0}).level == "ok"
    assert outcome({9000: 50, 9900: 2, NOW: 2}, {9000: 0, 9900: 2, NOW: 2}).level == "fail"


def test_a_receiver_of_which_nothing_is_known_but_the_sum() -> None:
    assert outcome({NOW: 5}, {NOW: 5}).level == "fail"
    assert outcome({NOW: 5}, {NOW: 1}).level == "warn"
    assert outcome({NOW: 5}, {NOW: 0}).level == "ok"


# --- Processes ---------------------------------------------------------------------------------------------------------------

SPEC = """\
version: 1
organization: Shop
defaults: {owner: a, window: 30d}
services:
  shop:
    runbook: https://wiki.example.com/shop
    processes:
      order: {name: Order, version: 2.1.0, sla: 5s, objectives: {success: 99%, within_sla: 95%}}
      refund: {name: Refund, objectives: {success: 99%}}
    slos:
      fast:
        objective: 95%
        sla: {objective: 90%, window: calendar quarter}
        sli: {latency: {histogram: d_seconds, under: 300ms}}
      native: {objective: 95%, sli: {latency: {histogram: d_seconds, under: 250ms, native: true}}}
      good: {objective: 99%, by: [region], sli: {ratio: {errors: 'x_total{code=~"5.."}', total: x_total}}}
routing: {receivers: {chat: {webhook: {url: "http://chat:1/"}}}, default: chat}
"""


@pytest.fixture(scope="module")
def shop() -> model.Model:
    result = model.resolve(source.read_text(SPEC, "slos.yaml"))
    assert result.model is not None, result.diagnostics
    return result.model


def seen(*versions: str, id_: str = "order", job: str = "shop") -> dict[tuple[str, str], set[str]]:
    return {(job, id_): set(versions)} if versions else {}


@pytest.mark.parametrize(
    ("now", "day", "level", "words"),
    [
        (seen("2.1.0"), seen("2.1.0"), "ok", "seen with version 2.1.0"),
        (seen(), seen("2.1.0"), "ok", "seen with version 2.1.0, in the last day though not now"),
        (seen("2.1.0"), seen("2.0.0", "2.1.0"), "ok", "seen with version 2.1.0"),  # deployed today
        (seen("2.0.0", "2.1.0"), seen("2.0.0", "2.1.0"), "warn", "version 2.0.0 is seen beside 2.1.0"),
        (seen("2.2.0"), seen("2.1.0", "2.2.0"), "fail", "seen with version 2.2.0; slos.yaml registers 2.1.0"),
        (seen(), seen(), "fail", "no execution was seen in the last day"),
        (seen("2.1.0", job="other"), seen("2.1.0", job="other"), "fail", "it is seen from other, not from shop"),
    ],
)
def test_a_registered_process(shop: model.Model, now: metrics.Seen, day: metrics.Seen, level: str, words: str) -> None:
    check = metrics.registered(shop.services[0].processes[0], "shop", now, day)
    assert (check.kind, check.name, check.level, check.text) == ("processes", "shop/order", level, words)


def test_a_process_that_is_nearly_named_as_one_that_is_seen(shop: model.Model) -> None:
    check = metrics.registered(shop.services[0].processes[0], "shop", {}, seen("2.1.0", id_="ordre"))
    assert check.level == "fail"
    assert "'ordre'" in check.cure


def test_a_process_without_a_version_has_any(shop: model.Model) -> None:
    order = replace(shop.services[0].processes[0], version=None)
    assert metrics.registered(order, "shop", seen("7"), seen("7")).level == "ok"


def test_an_unknown_process_is_named_with_the_nearest(shop: model.Model) -> None:
    check = metrics.unregistered("shop", "ordr", {"1", "2"}, shop.services[0])
    assert check.text == "it is seen (version 1, 2) and slos.yaml does not register it"
    assert check.cure == "Did you mean 'order'? Else add it under processes of shop."
    assert metrics.unregistered("shop", "zzz", {"1"}, shop.services[0]).cure == (
        "Registered processes: order, refund. Else add it under processes of shop."
    )
    assert "nor the service nowhere" in metrics.unregistered("nowhere", "x", {"1"}, None).text


# --- What is asked of an SLI -------------------------------------------------------------------------------------------------


def test_what_is_asked_of_each_indicator(shop: model.Model) -> None:
    asked = {slo.name: metrics.Indicator.of(slo) for slo in shop.slos}
    assert asked["good"].queries() == {
        ("total", ""): 'sum by (region) (rate(x_total{job="shop"}[1m15s]))',
        ("other", 'x_total{code=~"5..",job="shop"}'): 'count(x_total{code=~"5..",job="shop"})',
    }
    # The bucket is looked for among all that there are.
    assert asked["fast"].queries()["bucket", ""] == 'group by (le) (d_seconds_bucket{job="shop"})'
    assert asked["fast"].others == []
    assert asked["native"].bucket is None
    within = asked["order_within_sla"].queries()["bucket", ""]
    assert within == 'group by (le) (process_execution_duration_seconds_bucket{job="shop",process_id="order"})'


def test_the_longest_window_is_also_an_sla_s(shop: model.Model) -> None:
    assert [str(machine.longest_window(shop)[0]), machine.longest_window(shop)[1]] == ["92d", "the SLA of shop/fast"]


# --- Retention, disk, clock --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "length", "size"),
    [
        ("100d or 20GiB", "100d", 20 << 30),
        ("15d", "15d", None),
        ("14w", "98d", None),
        ("512MiB", None, 512 << 20),
        ("", None, None),
    ],
)
def test_how_long_prometheus_says_it_keeps_data(text: str, length: str | None, size: int | None) -> None:
    assert machine.parse_retention(text) == (None if length is None else Duration.of(length), size)


@pytest.mark.parametrize(
    ("free", "slope", "level", "words"),
    [
        (100e9, None, "ok", "known when `lgtm verify --push` has run"),
        (100e9, 5.0, "ok", "not filling"),
        (100e9, -1e9 / 86400, "ok", "full in 100 days"),
        (100e9, -10e9 / 86400, "warn", "full in 10 days"),
        (100e9, -200e9 / 86400, "fail", "full in 12 h"),
        (9e9, 0.0, "warn", "9 GB free"),
        (1.5e9, 0.0, "fail", "2 GB free"),
    ],
)
def test_when_the_disk_will_be_full(free: float, slope: float | None, level: str, words: str) -> None:
    check = machine.disk_left("/data", free, slope)
    assert check.level == level
    assert words in check.text


@pytest.mark.parametrize(("off", "level"), [(0.4, "ok"), (-1.9, "ok"), (3, "warn"), (-31, "fail")])
def test_clocks(off: float, level: str) -> None:
    check = machine.skewed("Prometheus", off)
    assert check.level == level
    assert ("behind" in check.text) == (off < -2)


# --- Dashboards --------------------------------------------------------------------------------------------------------------


def dashboard() -> dict[str, Any]:
    pages = [a for a in render.everything(_shipped()) if a.path.endswith("dashboards/overview.json")]
    found: dict[str, Any] = json.loads(pages[0].text)
    return found


def _shipped() -> model.Model:
    found = model.load([ROOT / "slos.yaml"]).model
    assert found is not None
    return found


def as_grafana_stores_it(page: dict[str, Any]) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(page))
    copy |= {"id": 12, "version": 3, "schemaVersion": 42, "weekStart": ""}
    for panel in copy["panels"]:
        panel["pluginVersion"] = "12.2.0"
    return copy


def test_what_grafana_adds_is_no_difference() -> None:
    page = dashboard()
    stored = as_grafana_stores_it(page)
    assert drift.dashboard_differs(page, stored) is None
    check = drift.in_grafana(page, {"dashboard": stored, "meta": {"provisioned": True}})
    assert (check.level, check.text) == ("ok", "as rendered, version 3")


def test_what_somebody_changed_in_grafana_is_named() -> None:
    page = dashboard()
    title = as_grafana_stores_it(page) | {"title": "Mine"}
    assert drift.dashboard_differs(page, title) == "title"
    query = as_grafana_stores_it(page)
    index = next(i for i, panel in enumerate(query["panels"]) if panel.get("targets"))
    query["panels"][index]["targets"][0]["expr"] = "vector(1)"
    check = drift.in_grafana(page, {"dashboard": query, "meta": {"updatedBy": "ann"}})
    assert check.level == "fail"
    assert check.text == f"Grafana has another panels[{index}].targets[0].expr (version 3 by ann)"
    fewer = as_grafana_stores_it(page)
    fewer["panels"].pop()
    assert drift.dashboard_differs(page, fewer) == "panels"


def test_a_dashboard_that_is_gone_or_no_longer_provisioned() -> None:
    page = dashboard()
    assert drift.in_grafana(page, None).level == "fail"
    saved = drift.in_grafana(page, {"dashboard": as_grafana_stores_it(page), "meta": {"provisioned": False}})
    assert saved.level == "warn"


# --- The whole, without a stack ----------------------------------------------------------------------------------------------


@pytest.fixture
def nowhere(tmp_path: Path) -> Project:
    """A project whose ports nobody answers at, with what the file renders on disk."""
    (tmp_path / "compose.yaml").write_bytes((ROOT / "compose.yaml").read_bytes())
    (tmp_path / "slos.yaml").write_text(SPEC, encoding="utf-8")
    ports = {name: "1" for name in DEFAULTS if name.endswith("_PORT")}
    (tmp_path / ".env").write_text(
        "".join(f"{k}={v}\n" for k, v in {**ports, "COMPOSE_PROJECT_NAME": "lgtm-there-is-none"}.items()), encoding="utf-8"
    )
    return Project.load(tmp_path)


def test_without_servers_each_is_told_once_and_the_rest_is_skipped(nowhere: Project, shop: model.Model) -> None:
    artifacts = render.everything(shop)
    checks = verify.verify(nowhere, shop, artifacts)
    assert {c.name for c in checks if c.kind == "servers" and c.level == "fail"} == {
        "prometheus",
        "alertmanager",
        "loki",
        "tempo",
        "collector",
        "blackbox",
    }
    # The files are not on disk: that is seen without any server.
    assert {c.kind for c in checks if c.level == "fail"} == {"servers", "files", "dashboards"}
    skipped = [c for c in checks if c.level == "skipped"]
    assert {"config", "rules", "evaluation", "targets", "slis", "processes", "receivers", "watchdog"} <= {
        c.kind for c in skipped
    }
    assert all(c.text and "Traceback" not in c.text for c in checks)


def test_quick_fails_when_prometheus_does_not_answer(nowhere: Project, shop: model.Model) -> None:
    checks = verify.verify(nowhere, shop, render.everything(shop), quick=True)
    assert {c.kind for c in checks} <= {"servers", *verify.QUICK}
    assert {"prometheus", "alertmanager"} <= {c.name for c in checks if c.kind == "servers" and c.level == "fail"}


def test_only_some_kinds(nowhere: Project, shop: model.Model) -> None:
    assert {c.kind for c in verify.verify(nowhere, shop, render.everything(shop), only=["files"])} == {"files"}


def test_edited_by_hand_and_not_applied_are_told_apart(nowhere: Project, shop: model.Model) -> None:
    from generator import rendered

    artifacts = render.everything(shop)
    rendered.write(nowhere.root, artifacts)
    assert not verify.failed(verify.verify(nowhere, shop, artifacts, only=["files"]))
    file = nowhere.root / "alertmanager/generated/alertmanager.yml"
    good = nowhere.root / ".lgtm/last-good/alertmanager/generated/alertmanager.yml"
    good.parent.mkdir(parents=True)
    good.write_bytes(file.read_bytes())
    longer = [replace(a, text=a.text.replace("4h", "5h")) for a in artifacts]
    (edited,) = [c for c in verify.verify(nowhere, shop, longer, only=["files"]) if c.level == "fail"]
    assert edited.text.endswith("the spec was edited and not applied")
    file.write_text(file.read_text(encoding="utf-8").replace("4h", "6h"), encoding="utf-8")
    (by_hand,) = [c for c in verify.verify(nowhere, shop, artifacts, only=["files"]) if c.level == "fail"]
    assert by_hand.text == (
        "it is not what the spec renders: 'repeat_interval: 6h' where 'repeat_interval: 4h' belongs; edited by hand"
    )


# --- Figures and the command -------------------------------------------------------------------------------------------------


def test_every_kind_and_level_is_a_figure_also_zero() -> None:
    figures = telemetry.counts(
        [Check("rules", "a", "fail", "x"), Check("rules", "b", "fail", "x"), Check("slis", "c", "ok", "x")]
    )
    assert len(figures) == len(verify.KINDS) * len(LEVELS)
    assert (figures["rules", "fail"], figures["slis", "ok"], figures["clock", "fail"]) == (2, 1, 0)
    assert sum(figures.values()) == 3


def lgtm(project: Project, *words: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["-C", str(project.root), *words], catch_exceptions=False)
    return done.exit_code, done.output


def test_the_command_s_output_and_exit_code(nowhere: Project) -> None:
    code, output = lgtm(nowhere, "verify")
    assert code == 1
    lines = output.splitlines()
    assert lines[0] == "failed"
    assert "could not be looked at" in lines
    assert lines[-1].split(";")[0].endswith("ok")
    # A cure that several in a row have is said once.
    assert output.count("Run `lgtm apply`, or this with --repair.") == 2
    code, output = lgtm(nowhere, "verify", "--only", "files", "--json")
    data = json.loads(output)
    assert (code, data["ok"], data["counts"]["ok"]) == (1, False, 1)
    assert set(data["checks"][0]) == {"kind", "name", "level", "text", "cure"}


@pytest.mark.parametrize(
    "words",
    [
        ["--only", "rules", "--quick"],
        ["--push", "--quick"],
        ["--push", "--only", "rules"],
        ["--every", "soon"],
        ["--every", "1s"],
    ],
)
def test_what_does_not_go_together_is_a_usage_error(nowhere: Project, words: list[str]) -> None:
    code, output = lgtm(nowhere, "verify", *words)
    assert code == 2
    assert "Error:" in output


def test_a_spec_with_faults_is_a_failed_check_of_the_watch(nowhere: Project) -> None:
    (nowhere.root / "slos.yaml").write_text(SPEC.replace("objective: 95%", "objective: 195%"), encoding="utf-8")
    checks, _, _ = command._turn(State(nowhere.root, ()), (), False, False)
    assert [(c.kind, c.level) for c in checks] == [("files", "fail"), *((kind, "skipped") for kind in verify.KINDS)]
    assert "lgtm validate" in checks[0].cure


def test_the_watch_tells_what_has_changed(capsys: pytest.CaptureFixture[str]) -> None:
    bad, fine = Check("rules", "a", "fail", "gone"), Check("slis", "b", "ok", "3 series")
    now = command._print_changes([bad, fine], None)
    assert "1 failed, 1 ok" in capsys.readouterr().out
    now = command._print_changes([bad, fine], now)
    assert capsys.readouterr().out == ""
    silent = Check("rules", "prometheus", "skipped", "it does not answer: no connection")
    now = command._print_changes([silent, fine], now)
    now = command._print_changes([Check("rules", "rules", "skipped", "slos.yaml has 1 error")], now)
    now = command._print_changes([Check("rules", "a", "skipped", "not evaluated yet"), fine], now)
    now = command._print_changes([bad, fine], now)
    assert capsys.readouterr().out == "", "what cannot be looked at is neither well nor new"
    command._print_changes([fine], now)
    assert "rules a: it was: gone" in capsys.readouterr().out


def test_ctrl_c_ends_the_watch(nowhere: Project) -> None:
    words = [
        str(Path(sys.executable).with_name("lgtm")),
        "-C",
        str(nowhere.root),
        "verify",
        "--only",
        "files",
        "--every",
        "10s",
    ]
    watch = subprocess.Popen([*words, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert watch.stdout is not None
    first = json.loads(watch.stdout.readline())
    watch.send_signal(signal.SIGINT)
    rest, said = watch.communicate(timeout=30)
    assert (watch.returncode, rest, said) == (130, "", "interrupted\n")
    assert first["counts"]["fail"] > 0
