"""`lgtm import` as it is typed."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from generator.cli import cli

SAMPLES = Path(__file__).parent / "imports"


def run(*arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(cli, ["import", *arguments], input=stdin, catch_exceptions=False)


def test_to_stdout() -> None:
    result = run("pyrra", str(SAMPLES / "pyrra.yaml"))
    assert result.exit_code == 0
    assert result.stdout.startswith("# Imported from Pyrra")
    assert "4 SLOs of 3 services carried over, 5 changes to read" in result.stderr
    assert "pyrra.yaml:31:5: shops/grpc: " in result.stderr


def test_from_stdin() -> None:
    result = run("sloth", "-", stdin=(SAMPLES / "sloth.yml").read_bytes())
    assert result.exit_code == 0
    assert "<stdin>:9:5: shop/answers" in result.stderr


def test_to_a_file_only_once(tmp_path: Path) -> None:
    target = tmp_path / "slos.yaml"
    first = run("sloth", str(SAMPLES / "sloth.yml"), "--output", str(target))
    assert (first.exit_code, first.stdout) == (0, "")
    written = target.read_text()
    valid = CliRunner().invoke(cli, ["-f", str(target), "validate"])
    assert valid.exit_code == 0, valid.stderr
    second = run("pyrra", str(SAMPLES / "pyrra.yaml"), "--output", str(target))
    assert second.exit_code == 1
    assert "--force" in second.stderr
    assert target.read_text() == written
    assert run("pyrra", str(SAMPLES / "pyrra.yaml"), "--output", str(target), "--force").exit_code == 0
    assert target.read_text() != written
    assert [p.name for p in tmp_path.iterdir()] == ["slos.yaml"]


def test_what_is_lost_is_listed_and_exits_3() -> None:
    result = run("openslo", str(SAMPLES / "openslo.yaml"))
    assert result.exit_code == 3
    assert "not carried over:\n" in result.stderr
    assert "openslo.yaml:58:1: jobs/billed: its data source is Datadog" in result.stderr
    assert "# NOT CARRIED OVER: billed:" in result.stdout


def test_nothing_to_carry(tmp_path: Path) -> None:
    file = tmp_path / "sli.yaml"
    file.write_text("apiVersion: openslo/v1\nkind: SLI\nmetadata: {name: a}\nspec: {}\n")
    result = run("openslo", str(file), "--output", str(tmp_path / "out.yaml"))
    assert result.exit_code == 3
    assert "there is no SLO in what was named" in result.stderr
    assert not (tmp_path / "out.yaml").exists()


def test_faults_write_nothing(tmp_path: Path) -> None:
    file = tmp_path / "bad.yml"
    file.write_text("version: prometheus/v1\nservice: s\nslos:\n  - name: a\n    objective: many\n")
    target = tmp_path / "out.yaml"
    result = run("sloth", str(file), "--output", str(target))
    assert result.exit_code == 1
    assert "bad.yml:5:16: error[wrong-type]: objective must be a number" in result.stderr
    assert "    objective: many" in result.stderr
    assert not target.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["sloth", "no-such.yml"], 1, "error[no-file]"),
        (["grafana", "x.yml"], 2, "grafana"),
        (["sloth"], 2, "FILE"),
        (["sloth", "-", "--window", "a month"], 1, "'a month' is not a length of time"),
    ],
)
def test_wrong_use(arguments: list[str], code: int, words: str) -> None:
    result = run(*arguments, stdin=b"")
    assert result.exit_code == code
    assert words in result.stderr


def test_bytes_that_are_no_text() -> None:
    result = run("pyrra", "-", stdin=b"\xff\xfe\x00a")
    assert result.exit_code == 1
    assert "error[not-utf8]" in result.stderr


def test_the_period_that_sloth_is_told_elsewhere() -> None:
    result = run("sloth", str(SAMPLES / "sloth.yml"), "--window", "28d")
    assert "window: 28d" in result.stdout
