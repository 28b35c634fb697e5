"""YAML with positions and without surprises."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from generator import source
from generator.diagnostics import Span
from generator.source import Source


def read(text: str) -> Source:
    return source.read_text(text, "f")


def test_scalars_follow_yaml_1_2() -> None:
    data = read('a: 1\nb: 99.9\nc: true\nd: null\ne: text\nf: "1"\ng: 1e3\nh: -5\ni: 2.10\nj: 30d\nk: 0.1\n').data
    assert data == {
        "a": 1,
        "b": Decimal("99.9"),
        "c": True,
        "d": None,
        "e": "text",
        "f": "1",
        "g": Decimal("1e3"),
        "h": -5,
        "i": Decimal("2.10"),
        "j": "30d",
        "k": Decimal("0.1"),
    }


@pytest.mark.parametrize("text", ["yes", "No", "ON", "off", "1:30", "0123", "1_000", "0x1F", ".inf", "0o17"])
def test_traps(text: str) -> None:
    assert [d.code for d in read(f"a: {text}\n").diagnostics] == ["yaml-trap"]
    assert not read(f'a: "{text}"\n').diagnostics


def test_positions() -> None:
    found = read('a:\n  "b": [x, {c: d}]\n')
    assert found.value_span(("a", "b", 1, "c")) == Span("f", 2, 16, 17)
    assert found.key_span(("a", "b")) == Span("f", 2, 3, 6)
    assert found.value_span(("a", "b", 7)) == found.value_span(("a", "b"))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("q: sum(x) + needle(y)\n", "needle"),
        ("q: 'it''s {a=\"b\"} needle'\n", "needle"),
        ('q: "a\\"b\\\\c \\u00e9 needle"\n', "needle"),
        ("q: |\n  one\n  two needle\n", "needle"),
        ("q: >-\n    one\n    needle two\n", "needle"),
        ("q: one\n  two\n  three needle\n", "needle"),
        ('q: "one\n  two needle"\n', "needle"),
        ("{q: [🐈 日本 needle]}\n", "needle"),
        ("q: |+2\n    one\n  needle\n\n", "needle"),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_place_inside_a_text(text: str, word: str, newline: str) -> None:
    written = text.replace("\n", newline)
    found = read(written)
    path = ("q", 0) if "[" in text.split("needle")[0][:5] else ("q",)
    value = str(found.data_at(path))
    span = found.within(path, value.index(word), len(word))
    line = written.split(newline)[span.line - 1]
    assert line[span.column - 1 : span.end_column - 1] == word


def test_a_place_after_the_end_of_a_text() -> None:
    found = read("q: sum(\n")
    assert found.within(("q",), 4) == Span("f", 1, 8, 9)
    assert found.within(("nothing",), 4) == found.value_span(())


def test_merge_keys_and_aliases() -> None:
    found = read("base: &b {x: 1, y: 2}\none: {<<: *b, y: 3}\ntwo: {<<: [*b, {z: 4, x: 9}]}\nthree: *b\n")
    assert not found.diagnostics
    assert found.data["one"] == {"y": 3, "x": 1}
    assert found.data["two"] == {"x": 1, "y": 2, "z": 4}
    assert found.data["three"] == {"x": 1, "y": 2}
    assert found.value_span(("one", "x")).line == 1


def test_bombs_end_quickly() -> None:
    nine = ", ".join(["*x{0}"] * 9)
    bomb = "x0: &x0 [a]\n" + "".join(f"x{i}: &x{i} [{nine.format(i - 1)}]\n" for i in range(1, 20))
    assert [d.code for d in read(bomb).diagnostics] == ["too-large"]
    merges = "x0: &x0 {a: 1}\n" + "".join(f"x{i}: &x{i} {{<<: [*x{i - 1}, *x{i - 1}]}}\n" for i in range(1, 60))
    assert [d.code for d in read(merges).diagnostics] == ["too-large"]
    assert [d.code for d in read("[" * 100_000).diagnostics] == ["too-deep"]
    assert [d.code for d in read("- " * 100_000 + "x").diagnostics] == ["too-deep"]


def test_brackets_in_prose_are_not_deep() -> None:
    assert not read("".join(f'k{i}: "[[[ not closed"\n' for i in range(500))).diagnostics


def test_files_are_laid_over_each_other(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "services: {x: {owner: a, slos: {p: {objective: 99%}, q: {objective: 98%}}}}\nlist: [1, 2]\n"
    )
    (tmp_path / "b.yaml").write_text("services: {x: {slos: {p: {objective: 95%}}}, y: {}}\nlist: [3]\n")
    found = source.load([tmp_path / "a.yaml", tmp_path / "b.yaml"], ["a", "b"])
    assert not found.diagnostics
    assert found.data == {
        "services": {"x": {"owner": "a", "slos": {"p": {"objective": "95%"}, "q": {"objective": "98%"}}}, "y": {}},
        "list": [3],
    }
    assert found.value_span(("services", "x", "slos", "p", "objective")).file == "b"
    assert found.value_span(("services", "x", "slos", "q", "objective")).file == "a"
    assert found.value_span(("list", 0)).file == "b"
    assert ("list", 1) not in found.values


def test_includes(tmp_path: Path) -> None:
    (tmp_path / "services").mkdir()
    (tmp_path / "slos.yaml").write_text("include: [services/*.yaml, services/a.yaml]\nversion: 1\n")
    (tmp_path / "services" / "a.yaml").write_text("services: {a: {owner: x}}\n")
    (tmp_path / "services" / "b.yaml").write_text("services: {b: {owner: y}}\ninclude: a.yaml\n")
    found = source.load([tmp_path / "slos.yaml"], ["slos.yaml"])
    assert not found.diagnostics
    assert found.data == {"version": 1, "services": {"a": {"owner": "x"}, "b": {"owner": "y"}}}
    assert found.value_span(("services", "b", "owner")).file == "services/b.yaml"


def test_many_files_that_include_each_other_are_read_once(tmp_path: Path) -> None:
    for i in range(30):
        following = f"include: [f{i + 1}.yaml, ./f{i + 1}.yaml]\n" if i < 29 else ""
        (tmp_path / f"f{i}.yaml").write_text(f"{following}k{i}: 1\n")
    found = source.load([tmp_path / "f0.yaml"], ["f0.yaml"])
    assert not found.diagnostics
    assert len(found.data) == 30


@pytest.mark.parametrize("pattern", ["'\\0'", "''", "'///'", "'../../*nothing*'", "'[a'", "'" + "x" * 5000 + "'", "'**/*'"])
def test_odd_includes_end_in_a_diagnostic(pattern: str, tmp_path: Path) -> None:
    (tmp_path / "slos.yaml").write_text(f"include: [{pattern}]\nversion: 1\n")
    assert {d.code for d in source.load([tmp_path / "slos.yaml"]).diagnostics} <= {"missing-include", "wrong-type"}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "cp1252", "shift_jis"])
def test_other_encodings(encoding: str, tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_bytes(
        "organization: Zoé\n".encode(encoding, "replace") if encoding != "shift_jis" else "a: 日本\n".encode(encoding)
    )
    assert [d.code for d in source.load([file]).diagnostics] == ["not-utf8"]
