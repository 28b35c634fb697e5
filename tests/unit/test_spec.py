"""The format: each value by itself, every fault in one run, one diagnostic for one fault."""

from __future__ import annotations

from decimal import Decimal

import pytest

from generator import explain, source, spec
from generator.diagnostics import Diagnostic
from generator.units import Duration


def parse(text: str) -> tuple[spec.Spec | None, list[Diagnostic]]:
    return spec.parse(source.read_text(text, "f"))


def codes(text: str) -> list[str]:
    return [d.code for d in parse(text)[1]]


def test_defaults() -> None:
    found, faults = parse(explain.EXAMPLE_BASE)
    assert not faults
    assert found is not None
    service = found.services["checkout"]
    slo = service.slos["availability"]
    assert (slo.objective, slo.window, found.defaults.window) == (Decimal("0.999"), None, Duration.of("30d"))
    assert service.probes["live"].timeout == Duration.of("5s")
    assert found.routing.default == ["chat"]


def test_short_forms() -> None:
    text = explain.EXAMPLE_BASE + "services2: {}\n"
    assert codes(text) == ["unknown-key"]
    found, faults = parse(
        "version: 1\nservices:\n  a:\n    depends_on: b\n    runbook: Look.\n    probes: {p: {url: 'http://a/', status: 200}}\n"
        "    slos: {s: {objective: 99%, sli: {probe: p}, by: region}, t: {objective: 99%, sli: {boolean: up}}}\n"
    )
    assert not faults
    assert found is not None
    a = found.services["a"]
    assert (a.depends_on, a.slos["s"].by, a.probes["p"].status) == (["b"], ["region"], [200])
    assert a.slos["s"].sli.probe.name == "p"
    assert a.slos["t"].sli.boolean.gauge == "up"
    assert a.runbook is not None
    assert a.runbook.symptoms == "Look."


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("interval: 15s", "interval: 15"),
        ("objective: 99.9%", "objective: 0.999"),
        ("version: 1", 'version: "1"'),
        ("version: 1", "version: true"),
        ("version: 1", "version: 1.0"),
        ("live: {", 'live: {failures: "2", '),
        ("live: {", "live: {failures: true, "),
        ("live: {", "live: {failures: 2.0, "),
    ],
)
def test_nothing_is_converted_silently(old: str, new: str) -> None:
    text = explain.EXAMPLE_BASE.replace('["checkout:8000"]', '["checkout:8000"], interval: 15s')
    assert codes(text) == []
    assert len(codes(text.replace(old, new))) == 1


def test_every_fault_is_told_at_once() -> None:
    text = "version: 1\nservices:\n" + "".join(f"  s{i}: {{tier: urgent, ownr: x, title: [a]}}\n" for i in range(20))
    assert sorted(set(codes(text))) == ["unknown-key", "unknown-value", "wrong-type"]
    assert len(codes(text)) == 60


def test_one_fault_in_an_alias_is_told_once() -> None:
    uses = "".join(f"  s{i}: *a\n" for i in range(10))
    assert codes(f"version: 1\nservices:\n  a: &a {{teir: high, owner: '!'}}\n{uses}") == ["bad-name", "unknown-key"]


def test_what_is_left_is_still_checked() -> None:
    found, faults = parse(explain.EXAMPLE_BASE.replace("99.9%", "lots"))
    assert [d.code for d in faults] == ["bad-percent"]
    assert found is not None
    assert list(found.services) == ["checkout"]
    assert "availability" not in found.services["checkout"].slos
    assert "live" in found.services["checkout"].probes


def test_many_faults_take_no_time() -> None:
    text = "version: 1\nservices:\n" + "".join(f"  s{i}: {{unknwon{i}: x}}\n" for i in range(1000))
    assert len(codes(text)) == 1000
