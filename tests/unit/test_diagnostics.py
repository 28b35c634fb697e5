"""Every diagnostic: where it stands, what it says, and that nothing of it is missing."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from generator import diagnostics, explain, model
from generator import source as source_module
from generator.diagnostics import Diagnostic, Note, Span
from generator.explain import CODES
from generator.units import Duration
from tests.unit import faultfiles

ROOT = Path(__file__).parents[2]
GENERATOR = ROOT / "generator"
# What a file that is committed cannot show: a test of its own below says each of these.
ELSEWHERE = {"file-too-large", "beyond-retention"}


@pytest.mark.parametrize("case", faultfiles.cases(), ids=lambda c: c.name)
def test_faulty_file(case: faultfiles.Case) -> None:
    result = case.load()
    assert faultfiles.found(result.diagnostics) == case.expected()
    assert (result.model is None) == any(d.severity == "error" for d in result.diagnostics)
    assert result.diagnostics == sorted(result.diagnostics, key=lambda d: d.sort_key)
    for d in result.diagnostics:
        text = diagnostics.as_text(d, result.texts)
        assert text.startswith(f"{d.span.file}:{d.span.line}:{d.span.column}: {d.severity}[{d.code}]: ")
        assert "\n      = hint: " in text
        assert d.span.end_column > d.span.column


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_code_has_a_faulty_file(code: str) -> None:
    shown = {expected.code for case in faultfiles.cases() for expected in case.expected()}
    assert code in shown | ELSEWHERE, f"write tests/unit/faults/{code}.yaml"


@pytest.mark.parametrize("code", sorted(c.name for c in CODES.values() if not c.in_words))
def test_the_example_of_a_code_gives_it(code: str, tmp_path: Path) -> None:
    base, over = tmp_path / "base.yaml", tmp_path / "over.yaml"
    base.write_text(explain.EXAMPLE_BASE)
    over.write_text(CODES[code].example + "\n")
    assert not model.load([base]).diagnostics
    assert [d.code for d in model.load([base, over]).diagnostics] == [code]


@pytest.mark.parametrize("code", sorted(CODES))
def test_a_code_is_explained(code: str) -> None:
    entry = CODES[code]
    text = explain.as_text(entry)
    assert text.startswith(f"{entry.severity}[{code}]")
    for part in (entry.cause, entry.cure):
        assert part.endswith((".", "…", ")")), part
        assert part in text
    assert entry.example.split("\n")[0] in text
    reference = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    assert f"### {code}\n" in reference
    assert entry.cause in reference
    assert entry.cure in reference


def codes_in_source() -> dict[str, str]:
    """Every code that a call in generator/ makes a diagnostic with, and one place where it does."""
    makers = {"Diagnostic", "fault", "say", "PydanticCustomError", "PromqlError", "_fault", "_say"}
    found = {}
    for file in sorted(GENERATOR.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            first = node.args[0] if node.args else None
            value = first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else ""
            if name in makers and re.fullmatch("[a-z]+(-[a-z0-9]+)+", value):
                found[value] = f"{file.name}:{node.lineno}"
    return found


def test_codes_of_the_source_are_registered() -> None:
    found = codes_in_source()
    assert len(found) > 40, "the calls that make diagnostics were not found"
    assert not {code: place for code, place in found.items() if code not in CODES}


def test_registered_codes_are_in_the_source() -> None:
    text = "\n".join(f.read_text(encoding="utf-8") for f in GENERATOR.rglob("*.py") if f.name != "explain.py")
    assert not [code for code in CODES if f'"{code}"' not in text]


def test_an_unregistered_code_cannot_be_emitted() -> None:
    span = Span("a.yaml", 1, 1, 2)
    with pytest.raises(ValueError, match="no-such-code"):
        Diagnostic("no-such-code", "x", span)
    with pytest.raises(ValueError, match="unused-receiver"):
        Diagnostic("unused-receiver", "x", span)  # it is a warning
    assert Diagnostic("unused-receiver", "x", span, severity="warning").hint == CODES["unused-receiver"].cure


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "big.yaml"
    file.write_bytes(b"# filler\n" * (source_module.MAX_BYTES // 9 + 1))
    assert [d.code for d in source_module.load([file]).diagnostics] == ["file-too-large"]


def test_a_window_that_prometheus_forgets(tmp_path: Path) -> None:
    file = tmp_path / "slos.yaml"
    file.write_text(explain.EXAMPLE_BASE)
    assert not model.load([file], retention=Duration.of("30d")).diagnostics
    found = model.load([file], retention=Duration.of("15d")).diagnostics
    assert [d.code for d in found] == ["beyond-retention"]


def one(text: str, tmp_path: Path) -> tuple[Diagnostic, model.Result]:
    """The one diagnostic of a text."""
    file = tmp_path / "slos.yaml"
    file.write_bytes(text.encode())
    result = model.load([file], ["slos.yaml"])
    assert len(result.diagnostics) == 1, result.diagnostics
    return result.diagnostics[0], result


def test_text_form(tmp_path: Path) -> None:
    text = explain.EXAMPLE_BASE.replace("        sli:", "        owner: a\n        owner: b\n        sli:")
    d, result = one(text, tmp_path)
    assert diagnostics.as_text(d, result.texts).split("\n") == [
        "slos.yaml:12:9: error[duplicate-key]: the key 'owner' stands here twice",
        "   12 |         owner: b",
        "      |         ^^^^^",
        "      slos.yaml:11:9: first here",
        "   11 |         owner: a",
        "      |         ^^^^^",
        "      = hint: remove one of the two",
    ]


def test_json_form(tmp_path: Path) -> None:
    d, _ = one(explain.EXAMPLE_BASE.replace("        sli:", "        owner: a\n        owner: b\n        sli:"), tmp_path)
    assert json.loads(json.dumps(diagnostics.as_json(d))) == {
        "code": "duplicate-key",
        "severity": "error",
        "message": "the key 'owner' stands here twice",
        "file": "slos.yaml",
        "line": 12,
        "column": 9,
        "end_column": 14,
        "hint": "remove one of the two",
        "note": {"message": "first here", "file": "slos.yaml", "line": 11, "column": 9, "end_column": 14},
    }


def test_github_form() -> None:
    d = Diagnostic("wrong-type", "50 % of\nit", Span("a,b:c.yaml", 3, 5, 9), hint="write 1:2, once")
    assert diagnostics.as_github(d) == (
        "::error file=a%2Cb%3Ac.yaml,line=3,col=5,endColumn=9,title=wrong-type::50 %25 of%0Ait (write 1:2, once)"
    )


def test_the_caret_stands_under_wide_characters(tmp_path: Path) -> None:
    d, result = one(explain.EXAMPLE_BASE.replace("live: {", 'live: {status: 200, "🐈日本": 1, '), tmp_path)
    line, carets = diagnostics.as_text(d, result.texts).split("\n")[1:3]
    start = line.index('"🐈')
    # Three characters that are two cells wide each, and two quotes.
    assert carets == " " * 6 + "|" + " " * (start - 7) + "^" * 8
    assert d.span.end_column - d.span.column == 5


def test_a_long_line_is_cut_around_the_fault(tmp_path: Path) -> None:
    long = f'live: {{url: "http://{"x" * 5000}/", failures: 0}}\n      b: {{'
    d, result = one(explain.EXAMPLE_BASE.replace("live: {", long), tmp_path)
    line, carets = diagnostics.as_text(d, result.texts).split("\n")[1:3]
    assert len(line) < 120
    assert line[carets.index("^")] == "0"


def test_nothing_in_an_answer_drives_the_terminal(tmp_path: Path) -> None:
    file = tmp_path / "slos.yaml"
    file.write_bytes(b'organization: "a\x1b]0;owned\x07"\nversion: 1\n')
    result = model.load([file], ["s\x1b.yaml"])
    text = "".join(diagnostics.as_text(d, result.texts) for d in result.diagnostics)
    assert result.diagnostics
    assert "\x07" not in text
    assert "\x1b]" not in text


SECRET = "hunter2-geheim"


@pytest.mark.parametrize(
    "line",
    [
        f"    chat: {{slack: {{url: {SECRET}, chanel: x}}}}",
        f'    chat: {{slack: {{url: "{SECRET}", url: again}}}}',
        f"    chat: {{slack: https://hooks.slack.com/services/T0/B0/{SECRET}}}",
        f"    chat: {{slack: [https://hooks.slack.com/services/T0/B0/{SECRET}",
        f'    chat: {{webhook: {{url: "http://user:{SECRET}@chat/"}}}}',
        f'    chat: {{webhook: {{url: "ftp://user:{SECRET}@chat/"}}}}',
        f"    chat: {{pagerduty: {{routing_key: {{value: {SECRET}}}}}}}",
        f"    chat: {{pagerduty: {{routing_key: [{SECRET}]}}}}",
        f"    chat:\n      pagerduty:\n        routing_key: >-\n          {SECRET}\n        nothing: here",
        f"    chat: {{email: {{to: a@b.c, from: a@b.c, smarthost: 'a:1', password: {SECRET}}}}}",
        f"    chat: {{email: {{to: a@b.c, from: a@b.c, smarthost: 'a:1', pasword: 5, password: {SECRET}",
        f"    chat: {{webhook: {{url: http://a/, token: {SECRET}}}}}",
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_no_secret_is_ever_shown(line: str, newline: str, tmp_path: Path) -> None:
    file = tmp_path / "slos.yaml"
    text = explain.EXAMPLE_BASE.replace('    chat: {webhook: {url: "http://chat:8001/"}}', line)
    file.write_bytes(text.replace("\n", newline).encode())
    result = model.load([file], ["slos.yaml"])
    assert result.errors
    for d in result.diagnostics:
        assert SECRET not in diagnostics.as_text(d, result.texts)
        assert SECRET not in json.dumps(diagnostics.as_json(d))
        assert SECRET not in diagnostics.as_github(d)


def test_masking_keeps_columns_and_what_is_no_secret() -> None:
    for text in (
        "https://hooks.slack.com/services/T0/B0/abc",
        "http://user:pw@host/path",
        "{password: abcdef, file: x}",
        "xoxb-123456789-abc",
    ):
        masked = diagnostics.without_secrets(text)
        assert len(masked) == len(text)
        assert "*" in masked
    for text in (
        "routing_key: {file: pagerduty_key}",
        "password: {env: SMTP_PASSWORD}",
        'process_executions_total{process_id="user_authentication"}',
        "owner: backend@example.com",
        "http://host:8000/path?a=b",
    ):
        assert diagnostics.without_secrets(text) == text


def test_nearest_names() -> None:
    assert diagnostics.did_you_mean("chekout", ["checkout", "cart"]) == "did you mean 'checkout'?"
    assert diagnostics.did_you_mean("Window", ["window", "by"]) == "did you mean 'window'?"
    assert diagnostics.did_you_mean("zzz", ["checkout", "cart"], "services") == "services: cart, checkout"
    assert diagnostics.did_you_mean("zzz", [], "services") == "there are no services yet"
    assert diagnostics.nearest("x" * 100_000, ["x" * 99_999]) is None
    many = [f"service-{i}" for i in range(20_000)]
    assert diagnostics.nearest("servcie-77", many) is not None


def test_ordered() -> None:
    a, b = Span("a", 2, 1, 2), Span("a", 1, 9, 10)
    first, second = Diagnostic("wrong-type", "x", b), Diagnostic("wrong-type", "x", a, note=Note(b, "y"))
    assert diagnostics.ordered([second, first, second]) == [first, second]
