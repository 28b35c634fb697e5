"""What was applied is kept: whole, to its owner only, and so that it can be read again."""

from __future__ import annotations

import dataclasses
import json
import random
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from generator import apply, console, history, model, plan, proof, rendered, rollout
from generator.cli import cli
from generator.console import State
from generator.history import Snapshot
from generator.plan import Change, Plan
from generator.project import Project
from generator.render import Artifact

SPEC = """\
version: 1
organization: Shop
services:
  checkout:
    runbook: https://wiki.example.com/checkout
    scrape: {targets: ["${CHECKOUT:-checkout:8000}"]}
    slos:
      availability: {objective: 99.9%, sli: {boolean: up}}
routing:
  receivers: {chat: {webhook: {url: "http://chat:8001/"}}}
  default: chat
"""
ARTIFACTS = (Artifact("prometheus/generated/rules/a.yaml", "groups: []\n"),)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project without a stack."""
    root = tmp_path / "project"
    root.mkdir()
    (root / "compose.yaml").touch()
    (root / ".env").write_text("COMPOSE_PROJECT_NAME=lgtm-there-is-none\nPROMETHEUS_PORT=1\n")
    (root / "slos.yaml").write_text(SPEC)
    monkeypatch.chdir(root)
    return Project.load(root)


def keep(project: Project, text: str = SPEC, **facts: Any) -> history.Entry:
    given: dict[str, Any] = {
        "secrets": ["slack_url"],
        "how": "apply",
        "summary": "1 changed",
        "changes": [Change("changed", "SLO", "a/b", ("x → y",)).as_json()],
        "changed": 3,
        "seconds": 0.5,
        "confirmed": {"prometheus": "1 rule in force"},
        **facts,
    }
    return history.keep(project, Snapshot({"slos.yaml": text}, ("slos.yaml",)), ARTIFACTS, **given)


def lgtm(*words: str) -> Result:
    return CliRunner().invoke(cli, list(words))


def test_what_is_kept_is_what_is_read(project: Project) -> None:
    entry = keep(project, of=None)
    assert history.last(project) == entry == history.entries(project)[0]
    assert (entry.number, entry.digest) == (1, Snapshot({"slos.yaml": SPEC}, ("slos.yaml",)).digest)
    kept = history.read(project, 1)
    assert kept.entry == entry
    assert kept.artifacts == ARTIFACTS
    assert (dict(kept.snapshot.files), kept.snapshot.given, kept.secrets) == (
        {"slos.yaml": SPEC},
        ("slos.yaml",),
        ("slack_url",),
    )
    assert [Change.of(c).details for c in kept.changes] == [("x → y",)]


def test_only_its_owner_may_read_it(project: Project) -> None:
    keep(project)
    place = project.root / ".lgtm" / "history"
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in place.iterdir()] == [0o600]


def test_the_last_fifty_stay(project: Project) -> None:
    for _ in range(history.KEPT + 3):
        keep(project)
    assert [entry.number for entry in history.entries(project)] == list(range(4, history.KEPT + 4))
    with pytest.raises(history.HistoryError, match="no apply 2 in the history") as raised:
        history.read(project, 2)
    assert raised.value.hint == "There are 4 to 53."


def test_one_that_cannot_be_read_is_passed_over(project: Project) -> None:
    keep(project)
    keep(project)
    path = project.root / ".lgtm" / "history" / "000002.gz"
    whole = path.read_bytes()
    for broken in (b"", whole[:20], whole[: len(whole) // 2], b"\x1f\x8b" + whole[2:40] + b"\0" * 40, b"not gzip at all"):
        path.write_bytes(broken)
        with pytest.raises(history.HistoryError, match="cannot be read"):
            history.read(project, 2)
        if len(broken) < len(whole) // 2:  # of half a file the first line may still be there
            assert [entry.number for entry in history.entries(project)] == [1]
            assert history.last(project) == history.entries(project)[0]
        base = plan.in_force(project)
        assert (base.model is not None) != ("cannot be read" in str(base.note))
    assert keep(project).number == 3


CHILD = """
import sys
from generator import history
from generator.project import Project
from generator.render import Artifact
project = Project.load(__import__("pathlib").Path(sys.argv[1]))
text = "x" * 200_000
print("ready", flush=True)
while True:
    history.keep(project, history.Snapshot({"a": text}, ("a",)), [Artifact("prometheus/generated/a", text)], secrets=[],
        how="apply", summary="", changes=[], changed=1, seconds=1.0, confirmed={})
"""


def test_a_killed_run_leaves_none_that_is_half_written(project: Project) -> None:
    seed = random.SystemRandom().randrange(10**6)
    moments = random.Random(seed)
    left = 0
    for _ in range(12):
        with subprocess.Popen([sys.executable, "-c", CHILD, str(project.root)], stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(moments.uniform(0, 0.1))
            child.kill()
        left += (project.root / ".lgtm" / "history" / "next").exists()
        found = history.entries(project)
        assert [e.number for e in found] == [int(p.stem) for p in sorted((project.root / ".lgtm" / "history").glob("*.gz"))]
        for entry in found[-2:]:
            assert history.read(project, entry.number).entry == entry, f"seed {seed}"
    print(f"seed {seed}: {left} left something half written under another name")
    before = history.last(project)
    assert before is not None
    assert keep(project).number == before.number + 1
    assert not (project.root / ".lgtm" / "history" / "next").exists()


# --- a spec that can be read again -------------------------------------------------------------------------------------------


def test_a_spec_of_many_files_is_read_again_as_it_was(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    root = project.root
    outside = root.parent / "teams"
    for place in (root / "services", root / "runbooks", outside):
        place.mkdir()
    (root / "slos.yaml").write_text("include: [services/*.yaml, ../teams/*.yaml]\n" + SPEC)
    (root / "services" / "more.yaml").write_text(
        "services: {more: {runbook: book.md, slos: {up: {objective: 99%, sli: {boolean: up}}}}}\n"
    )
    (root / "services" / "book.md").write_text("## Symptoms\nNothing.\n")
    (outside / "theirs.yaml").write_text("services: {theirs: {slos: {up: {objective: 99%, sli: {boolean: up}}}}}\n")
    (root / "over.yaml").write_text("defaults: {owner: night}\n")
    monkeypatch.setenv("CHECKOUT", "10.0.0.1:9")
    monkeypatch.setenv("UNUSED_TOKEN", "hunter2")
    found, snapshot = console.read_spec(State(root, ("slos.yaml", "over.yaml")))
    assert set(snapshot.files) == {
        "slos.yaml", "over.yaml", "services/more.yaml", "services/book.md", "../teams/theirs.yaml"
    }  # fmt: skip
    assert snapshot.variables == {"CHECKOUT": "10.0.0.1:9"}
    for path in (root / "slos.yaml", root / "services" / "book.md", outside / "theirs.yaml"):
        path.unlink()
    monkeypatch.delenv("CHECKOUT")
    again = snapshot.load()
    assert again.model == found
    assert plan.compare(found, again.model) == []
    assert {s.owner for s in found.slos} == {"night"}


@pytest.mark.parametrize(
    "other",
    [
        Snapshot({"slos.yaml": "b"}, ("slos.yaml",)),
        Snapshot({"slos.yaml": "a", "x": ""}, ("slos.yaml",)),
        Snapshot({"slos.yaml": "a"}, ()),
        Snapshot({"slos.yaml": "a"}, ("slos.yaml",), {"A": "1"}),
    ],
)
def test_a_digest_is_of_everything(other: Snapshot) -> None:
    assert Snapshot({"slos.yaml": "a"}, ("slos.yaml",)).digest != other.digest


# --- steps of an apply -------------------------------------------------------------------------------------------------------


def wanted(project: Project, text: str = SPEC) -> rollout.Wanted:
    from generator import render

    (project.root / "slos.yaml").write_text(text)
    found, snapshot = console.read_spec(State(project.root, ()))
    return rollout.Wanted(found, snapshot, render.everything(found), {"alertmanager": {}})


def untouched(project: Project) -> bool:
    return not any((project.root / server).exists() for server in rendered.TREES) and history.entries(project) == []


def test_what_is_not_proven_is_not_applied(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def fails(*given: Any) -> proof.Proof:
        asked.append(given[4])
        return proof.Proof(failures=(proof.Failure("SLOBurnRateCritical", "checkout/availability", "it did not fire"),) * 12)

    monkeypatch.setattr("generator.proof.prove", fails)
    with pytest.raises(rollout.UnprovenError, match="checkout/availability, SLOBurnRateCritical: it did not fire") as raised:
        rollout.roll_out(project, wanted(project), lambda line: None)
    assert "… and 2 more" in raised.value.message
    assert "lgtm apply --no-test" in str(raised.value.hint)
    assert untouched(project)
    assert asked == [None]  # the first time all of it
    # Without the proof it gets as far as the servers, of which there are none.
    with pytest.raises(apply.NotRunningError):
        rollout.roll_out(project, wanted(project), lambda line: None, prove=False)
    assert untouched(project)


def test_who_says_no_has_changed_nothing(project: Project) -> None:
    seen: list[Plan] = []
    with pytest.raises(rollout.DeclinedError):
        rollout.roll_out(project, wanted(project), lambda line: None, show=seen.append, confirm=lambda planned: False)
    assert untouched(project)
    assert seen[0].changes


def test_the_lock_is_held_from_the_first_step(project: Project) -> None:
    def meanwhile(_: Plan) -> bool:
        with pytest.raises(rendered.BusyError, match=r"\(process \d+ of .*, since"):
            rollout.roll_out(project, ours, lambda line: None)
        return False

    ours = wanted(project)
    with pytest.raises(rollout.DeclinedError):
        rollout.roll_out(project, ours, lambda line: None, confirm=meanwhile)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (Change("changed", "SLO", "a/b"), {"a/b"}),
        (Change("added", "probe", "a/live"), {"a/live"}),
        (Change("changed", "service", "a"), {"a"}),
        (Change("removed", "SLO", "a/b"), set()),
        (Change("changed", "dashboards", "x"), set()),
        (Change("added", "maintenance", "x"), set()),
        (Change("changed", "receiver", "x"), None),
        (Change("removed", "route", "x"), None),
        (Change("changed", "setting", "labels"), None),
    ],
)
def test_a_proof_is_of_what_a_change_touches(change: Change, names: set[str] | None) -> None:
    assert rollout.touched(Plan("x", (change,), ())) == names
    assert rollout.touched(Plan("x", (change,), ()), everything=True) is None


def test_the_first_start_is_noted_once(project: Project) -> None:
    ours = wanted(project)
    for _ in range(2):
        rollout.started(project, ours, 7)
    (entry,) = history.entries(project)
    assert (entry.how, entry.files) == ("up", 7)
    assert lgtm("plan", "--no-backtest").exit_code == 2  # its files are not on disk
    rendered.write(project.root, ours.artifacts)
    assert lgtm("plan").exit_code == 0


# --- the commands ------------------------------------------------------------------------------------------------------------


def test_the_list_and_one_of_it(project: Project) -> None:
    assert lgtm("history").stdout == "Nothing was applied here yet.\n"
    keep(project)
    keep(project, how="rollback", of=1, summary="y" * 300)
    lines = lgtm("history").stdout.splitlines()
    assert lines[0].split() == ["apply", "when", "who", "how", "spec", "files", "what"]
    assert "back to 1" in lines[2]
    assert len(lines) == 3
    assert [e["number"] for e in json.loads(lgtm("history", "--json").stdout)] == [1, 2]
    shown = lgtm("history", "show", "1").stdout
    assert "~ SLO a/b\n      x → y\n" in shown
    assert "prometheus: 1 rule in force" in shown
    assert json.loads(lgtm("history", "show", "1", "--json").stdout)["changes"][0]["name"] == "a/b"
    assert lgtm("history", "spec", "1").stdout == SPEC
    missing = lgtm("history", "show", "9")
    assert (missing.exit_code, "There are 1 to 2." in missing.stderr) == (1, True)


def test_a_rollback_to_none_is_a_sentence(project: Project) -> None:
    found = lgtm("rollback", "3")
    assert (found.exit_code, "Nothing was applied here yet." in found.stderr) == (1, True)


def test_files_of_another_version_are_not_guessed_at(project: Project) -> None:
    keep(project)
    entry = history.read(project, 1)
    history.keep(
        project, entry.snapshot, [Artifact("elsewhere/generated/x", "")], secrets=[], how="apply", summary="", changes=[],
        changed=0, seconds=0, confirmed={},
    )  # fmt: skip
    found = lgtm("rollback", "2")
    assert found.exit_code == 1
    assert "whose files this one does not know" in found.stderr


def test_a_text_is_put_back_and_what_was_there_is_kept(project: Project) -> None:
    from generator.commands.history import restored

    path = project.root / "slos.yaml"
    path.write_text("new\n")
    path.chmod(0o640)
    backup = restored(path, "old\n")
    assert backup is not None
    assert (path.read_text(), backup.read_text(), backup.name) == ("old\n", "new\n", "slos.yaml.before-rollback-1")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    again = restored(path, "older\n")
    assert again is not None
    assert (path.read_text(), again.read_text(), backup.read_text()) == ("older\n", "old\n", "new\n")
    assert restored(project.root / "there" / "was-none.yaml", "x") is None


def test_it_asks_only_on_a_terminal_and_when_less_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    from generator.commands import apply as command

    less = Plan("x", (Change("removed", "SLO", "a/b", loses=True),), ())
    more = Plan("x", (Change("added", "SLO", "a/b"),), ())
    asked: list[str] = []

    def confirm(question: str, **_: Any) -> bool:
        asked.append(question)
        return False

    monkeypatch.setattr(click, "confirm", confirm)
    assert command.agreed(less, None)  # no terminal here: scripts go on
    with pytest.raises(click.UsageError):
        command.agreed(more, True)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert command.agreed(more, None)
    assert command.agreed(less, False)
    assert asked == []
    assert not command.agreed(less, None)
    assert not command.agreed(more, True)
    assert len(asked) == 2


def test_an_entry_is_made_of_what_json_knows(project: Project) -> None:
    entry = keep(project)
    assert history.Entry(**json.loads(json.dumps(entry.as_json()))) == entry
    assert dataclasses.asdict(entry)["confirmed"] == {"prometheus": "1 rule in force"}
    assert model.load([project.root / "slos.yaml"]).model is not None
