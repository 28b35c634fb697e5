"""Drills without servers: what is promised, that it is healed in any case, and what is kept of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner

from generator import drill, model, source
from generator.cli import cli
from generator.model import Model
from generator.project import Project

ROOT = Path(__file__).resolve().parents[2]
SPEC = """
version: 1
services:
  shop:
    runbook: https://wiki.example.com/shop
    scrape: {targets: ["shop:8000"], interval: 10s}
    slos:
      up: {objective: 99.9%, sli: {boolean: up}}
    alerts:
      Full: {expr: disk_used, above: 90%, for: 2m}
      Slow: {expr: 'rate(slow_total[5m])', above: 1}
routing:
  receivers: {chat: {webhook: {url: "http://chat:8001/"}}}
  default: chat
"""


@pytest.fixture(scope="module")
def found() -> Model:
    result = model.resolve(source.read_text(SPEC, "slos.yaml"))
    assert result.model is not None
    return result.model


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "compose.yaml").write_text("services: {}\n")
    (tmp_path / "slos.yaml").write_text(SPEC)
    return Project.load(tmp_path)


def note(path: Path, word: str) -> drill.Breakage:
    def write(what: str) -> None:
        path.write_text((path.read_text() if path.exists() else "") + what)

    return drill.Breakage("break", "heal", lambda: write("broken "), lambda: write(word))


def test_what_is_promised_follows_from_the_windows(found: Model) -> None:
    service, slo, _ = drill.find(found, "shop/up")
    assert slo is not None
    whole = drill.promise(found, service, slo, "critical", Decimal(1))
    # 14.4 × 0.1 % of an hour; three scrapes of 10 s, an evaluation of 30 s.
    assert whole.detect == pytest.approx(3600 * 0.0144 + 30 + 30)
    by_window = {str(long): seconds for (long, _), seconds in whole.resolve.items()}
    assert by_window == {
        "1h": pytest.approx(300 * (1 - 0.0144) + 80),
        "6h": pytest.approx(1800 * (1 - 0.006) + 80),
    }
    tenth = drill.promise(found, service, slo, "critical", Decimal("0.1"))
    assert tenth.detect == pytest.approx(3600 * 0.144 + 60)
    # Burns at four times the budget: no page, ever.
    assert drill.promise(found, service, slo, "critical", Decimal("0.004")).detect is None


def test_what_a_threshold_alert_promises(found: Model) -> None:
    service, slo, full = drill.find(found, "shop/Full")
    _, _, slow = drill.find(found, "shop/Slow")
    assert slo is None and full is not None and slow is not None
    assert drill.promise_of_alert(found, service, full).detect == 10 + 30 + 120
    assert drill.promise_of_alert(found, service, slow).detect == 10 + 30 + 300


def test_an_unknown_target_is_told_what_there_is(found: Model) -> None:
    with pytest.raises(drill.DrillError) as raised:
        drill.find(found, "shop/down")
    assert raised.value.hint is not None and "shop/up, shop/Full, shop/Slow" in raised.value.hint


def test_a_command_is_run_without_a_shell(tmp_path: Path) -> None:
    words = tmp_path / "words"
    drill.command(f"""{sys.executable} -c "import sys; open('{words}', 'w').write(sys.argv[1])" '$HOME; exit 1' """)
    assert words.read_text() == "$HOME; exit 1"


@pytest.mark.parametrize(
    ("words", "says"),
    [("false", "ended with 1"), ("no-such-command", "cannot be run"), ("", "cannot be run"), ("echo 'a", "cannot be run")],
)
def test_a_command_that_fails_is_told(words: str, says: str) -> None:
    with pytest.raises(drill.DrillError, match=says):
        drill.command(words)


def test_a_command_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with pytest.raises(drill.DrillError, match="was not over after 1 s"):
        drill.command(f"bash -c 'sleep 60 & echo $! > {pid}; wait'", seconds=1)
    child = int(pid.read_text())
    deadline = time.monotonic() + 10
    while Path(f"/proc/{child}/stat").exists() and time.monotonic() < deadline:
        if Path(f"/proc/{child}/stat").read_text().split()[2] == "Z":
            break
        time.sleep(0.05)
    else:
        assert not Path(f"/proc/{child}").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_is_healed_when_it_is_interrupted(number: signal.Signals, tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt), drill._healed(note(tmp_path / "log", "healed"), said.append):
        os.kill(os.getpid(), number)
        time.sleep(5)
    assert (tmp_path / "log").read_text() == "broken healed"
    assert said == ["healing: heal"]


def test_healing_itself_is_not_interrupted(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def heal() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        log.write_text("healed")

    said: list[str] = []
    breakage = drill.Breakage("break", "heal", lambda: None, heal)
    with pytest.raises(KeyboardInterrupt), drill._healed(breakage, said.append) as mend:
        mend()
    assert log.read_text() == "healed" and "healing first; this takes a moment" in said


def test_it_is_healed_when_breaking_fails_half_way(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def break_() -> None:
        raise drill.DrillError("no")

    breakage = drill.Breakage("break", "heal", break_, lambda: (log.write_text("healed"), None)[1])
    with pytest.raises(drill.DrillError), drill._healed(breakage, lambda line: None):
        pytest.fail("it goes on although nothing was broken")
    assert log.read_text() == "healed"


@pytest.mark.parametrize("words", ["no-such-command", "", "echo 'a"])
def test_a_command_that_cannot_heal_is_refused_before_anything_is_broken(words: str) -> None:
    with pytest.raises(drill.DrillError, match="cannot be run"):
        drill.commands("true", words)


def test_what_could_not_be_healed_is_told_and_kept(project: Project) -> None:
    said: list[str] = []
    breakage = drill.commands("bash -c 'echo half way; exit 3'", "false")
    with (
        pytest.raises(drill.UnhealedError, match="may still be broken: `false` ended with 1") as raised,
        drill.recorded(project, "shop/up", {}, breakage),
        drill._healed(breakage, said.append),
    ):
        pytest.fail("it goes on although breaking failed")
    assert raised.value.hint == "Heal it: false"
    assert said == ["`bash -c 'echo half way; exit 3'` ended with 3: half way", "healing: false"]
    code, listed = lgtm(project, "list")
    assert code == 0 and "was not healed: it may still be broken. Heal it: false" in listed


def test_a_record_is_there_before_the_end(project: Project, tmp_path: Path) -> None:
    breakage = note(tmp_path / "log", "healed")
    with drill.recorded(project, "shop/up", {"alertname": "A"}, breakage) as outcome:
        assert [r.state for r in drill.records(project)] == ["running"]
        outcome.steps.append(drill.Step("the alert fires", 40.0, 100.0))
    assert [(r.state, r.passed, r.steps[0].seconds) for r in drill.records(project)] == [("done", True, 40.0)]
    with pytest.raises(KeyboardInterrupt), drill.recorded(project, "shop/up 2", {}, breakage):
        raise KeyboardInterrupt
    (drill.directory(project) / "zz.json").write_text("{")
    assert sorted(r.state for r in drill.records(project)) == ["done", "interrupted"]


@pytest.mark.parametrize(("seconds", "passed"), [(100.0, True), (100.1, False), (None, False)])
def test_late_is_failed(seconds: float | None, passed: bool) -> None:
    outcome = drill.Outcome("i", "t", {}, "b", "h", "2026-11-21T12:00:00+00:00", "done", [drill.Step("s", seconds, 100.0)])
    assert outcome.passed is passed and outcome.as_json()["passed"] is passed


# --- the command ----------------------------------------------------------------------------------------------------------


def lgtm(project: Project, *words: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["-C", str(project.root), "drill", *words])
    return done.exit_code, done.output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("run", "shop/up"), "is not the demo's"),
        (("run", "shop/up", "--break", "true"), "--break needs --heal"),
        (("run", "shop/up", "--heal", "true"), "--heal needs --break"),
        (("run", "shop/up", "--break", "true", "--heal", "true", "--errors", "5%"), "one of both"),
        (("run", "shop/up", "--errors", "120%"), "is not a share"),
        (("run", "shop/up", "--patience", "soon"), "is not a length of time"),
        (("run", "watchdog"), "--stop alertmanager"),
    ],
)
def test_usage(project: Project, words: tuple[str, ...], says: str) -> None:
    code, said = lgtm(project, *words)
    assert code == 2 and says in said


def test_what_cannot_be_drilled_is_told(project: Project) -> None:
    code, said = lgtm(project, "run", "shop/nothing", "--break", "true", "--heal", "true")
    assert code == 1 and "names no SLO and no alert" in said
    # The page cannot come: too slow a burn.
    code, said = lgtm(project, "run", "shop/up", "--break", "true", "--heal", "true", "--ratio", "0.2%")
    assert code == 1 and "burns too slowly" in said
    # Nothing runs at the ports of this project, so nothing was broken either.
    touched = project.root / "broken"
    settings = {"PROMETHEUS_PORT": "1", "ALERTMANAGER_PORT": "1"}
    (project.root / ".env").write_text("".join(f"{k}={v}\n" for k, v in settings.items()))
    code, said = lgtm(project, "run", "shop/up", "--break", f"touch {touched}", "--heal", "true")
    assert code == 1 and "prometheus does not answer" in said and not touched.exists()
    code, said = lgtm(project, "run", "watchdog", "--stop", "prometheus")
    assert code == 1 and "The demo is not running" in said
    code, said = lgtm(project, "run", "receiver")
    assert code == 1 and "No alert watches whether notifications arrive" in said


def test_the_list(project: Project, tmp_path: Path) -> None:
    assert lgtm(project, "list") == (0, "No drill was held yet. One on the demo: lgtm drill run council-api/availability\n")
    with drill.recorded(project, "shop/up", {}, note(tmp_path / "log", "healed")) as outcome:
        outcome.steps.append(drill.Step("the alert fires", 40.0, 100.0))
        code, said = lgtm(project, "list")
        assert code == 0 and "it may still be broken. Heal it: heal" in said
    code, said = lgtm(project, "list")
    assert code == 0 and "passed" in said and "the alert fires 40 s" in said
    code, said = lgtm(project, "list", "--json")
    assert code == 0 and [one["passed"] for one in json.loads(said)] == [True]


def test_ctrl_c_in_a_terminal_heals(project: Project) -> None:
    """The whole process: killed politely while it waits, it heals before it ends."""
    log = project.root / "log"
    code = (
        "import sys, time; from pathlib import Path; from generator import drill\n"
        f"b = drill.commands('true', \"bash -c 'echo healed > {log}'\")\n"
        "with drill._healed(b, print):\n  print('waiting', flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    assert log.read_text() == "healed\n"
