"""The commands that help to begin: init, explain, completion."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from generator import first, model
from generator.cli import cli
from generator.errors import LgtmError
from generator.explain import CODES
from generator.first import Answers

GIVEN = ["--organization", "Acme", "--owner", "shop", "--service", "checkout", "--target", "checkout:8000"]


@pytest.mark.parametrize("receiver", [*first.SECRET_RECEIVERS, "https://hooks.example.com/x", "none"])
@pytest.mark.parametrize("target", ["checkout:8000", ""])
def test_a_first_file_is_valid(receiver: str, target: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / "slos.yaml"
    steps = first.write(path, Answers('Ämter: "yes"', "on-call", "no", target, receiver))
    result = model.load([path])
    assert result.model is not None
    assert {d.code for d in result.diagnostics} <= ({"unrouted-alert"} if receiver == "none" else set())
    assert result.model.organization == 'Ämter: "yes"'
    service = result.model.services[0]
    assert (service.name, service.owner, service.scrape is not None) == ("no", "on-call", bool(target))
    assert (f"secrets/{first.SECRET_RECEIVERS[receiver][1]}" in steps[0]) if receiver in first.SECRET_RECEIVERS else steps


def test_init_writes_once(tmp_path: Path) -> None:
    path = tmp_path / "slos.yaml"
    arguments = ["init", *GIVEN, "--receiver", "slack", "--output", str(path)]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    before = path.read_text()
    again = CliRunner().invoke(cli, arguments)
    assert again.exit_code == 1
    assert "exists" in again.output
    assert path.read_text() == before


def test_init_asks_only_on_a_terminal(tmp_path: Path) -> None:
    path = tmp_path / "slos.yaml"
    done = CliRunner().invoke(cli, ["init", "--organization", "Acme", "--output", str(path)])
    assert done.exit_code == 2
    assert "--owner" in done.output
    assert not path.exists()


@pytest.mark.parametrize(
    ("option", "value"), [("--owner", "a b"), ("--service", "ä"), ("--target", "http://x/"), ("--receiver", "slak")]
)
def test_init_refuses_what_is_not_valid(option: str, value: str, tmp_path: Path) -> None:
    path = tmp_path / "slos.yaml"
    done = CliRunner().invoke(cli, ["init", *GIVEN, "--receiver", "none", "--output", str(path), option, value])
    assert done.exit_code == 1
    assert "Traceback" not in done.output
    assert not path.exists()


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LgtmError, match="cannot be written"):
        first.write(tmp_path / "file" / "below" / "slos.yaml", Answers("A", "b", "c", "", "none"))


def test_explain() -> None:
    done = CliRunner().invoke(cli, ["explain", "impossible-alert"])
    assert done.exit_code == 0
    assert CODES["impossible-alert"].cure in done.output
    everything = CliRunner().invoke(cli, ["explain"])
    assert all(code in everything.output for code in CODES)
    unknown = CliRunner().invoke(cli, ["explain", "imposible-alert"])
    assert unknown.exit_code == 1
    assert "did you mean 'impossible-alert'?" in unknown.output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    done = CliRunner().invoke(cli, ["completion", shell])
    assert done.exit_code == 0
    assert f"_LGTM_COMPLETE={shell}_complete" in done.output


def test_completion_is_bash() -> None:
    script = CliRunner().invoke(cli, ["completion", "bash"]).output
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)  # noqa: S607
