"""The Model: what is inherited, what is computed, and what cannot be."""

from __future__ import annotations

import time
from decimal import Decimal
from pathlib import Path

import pytest

from generator import explain, model, source
from generator.model import Model
from generator.units import Duration


def resolve(text: str) -> model.Result:
    return model.resolve(source.read_text(text, "f"))


def made(text: str) -> Model:
    result = resolve(text)
    assert result.model is not None, result.diagnostics
    return result.model


def codes(text: str) -> list[str]:
    return [d.code for d in resolve(text).diagnostics]


def test_what_is_inherited() -> None:
    text = explain.EXAMPLE_BASE.replace("version: 1\n", "version: 1\ndefaults: {owner: shop, tier: high, window: 7d}\n")
    service = made(text).services[0]
    slo = service.slos[0]
    assert (service.owner, service.tier, slo.owner, slo.tier, slo.window) == ("shop", "high", "shop", "high", Duration.of("7d"))
    assert (slo.title, service.title, service.match) == ("availability", "checkout", {"job": "checkout"})
    closer = made(
        text.replace("    slos:\n", "    owner: pay\n    slos:\n").replace("objective:", "tier: low\n        objective:", 1)
    )
    assert (closer.services[0].slos[0].owner, closer.services[0].slos[0].tier) == ("pay", "low")


def test_factors_are_exact() -> None:
    burn = made(explain.EXAMPLE_BASE).services[0].slos[0].burn
    assert [w.factor for w in burn["critical"]] == [Decimal("14.4"), Decimal(6)]
    assert [w.factor for w in burn["warning"]] == [Decimal(3), Decimal(1)]
    assert [str(w) for w in made(explain.EXAMPLE_BASE).services[0].slos[0].windows] == [
        "5m", "30m", "1h", "2h", "6h", "1d", "3d",
    ]  # fmt: skip


@pytest.mark.parametrize(("objective", "fires"), [("93.06%", True), ("93%", False), ("99.999%", True)])
def test_an_alert_that_cannot_fire(objective: str, fires: bool) -> None:
    # A factor of 14.4 over a budget of 6.94 % is just below all events.
    found = codes(explain.EXAMPLE_BASE.replace("99.9%", objective))
    assert found == ([] if fires else ["impossible-alert"])


def test_warnings_do_not_stop() -> None:
    result = resolve(explain.EXAMPLE_BASE.replace("  default", '    mail: {webhook: {url: "http://m/"}}\n  default'))
    assert [d.code for d in result.diagnostics] == ["unused-receiver"]
    assert result.model is not None
    assert not result.errors


def test_a_fault_hides_no_other_and_makes_no_other() -> None:
    text = (
        explain.EXAMPLE_BASE.replace("99.9%", "lots")
        .replace("live: {url", "live: {slower_than: 10s, url")
        .replace("default: chat", "default: chta")
    )
    assert codes(text) == ["unreachable-threshold", "bad-percent", "unknown-receiver"]


def test_a_faulty_receiver_is_not_an_unknown_one() -> None:
    assert codes(explain.EXAMPLE_BASE.replace('"http://chat:8001/"', "nowhere")) == ["bad-url"]


def test_a_faulty_service_is_not_an_unknown_one() -> None:
    text = explain.EXAMPLE_BASE.replace("    scrape:", "    depends_on: [db]\n    scrape:")
    text = text.replace("routing:", "  db: {tier: urgent}\nrouting:")
    assert codes(text) == ["unknown-value"]


def test_cycles() -> None:
    def graph(edges: str) -> str:
        lines = [f"  {e[0]}: {{depends_on: [{', '.join(e[1:])}], alerts: {{A: {{expr: x}}}}}}\n" for e in edges.split()]
        routing = "routing: {receivers: {r: {webhook: {url: 'http://r/'}}}, default: r}\n"
        return "version: 1\nservices:\n" + "".join(lines) + routing

    assert codes(graph("ab bc c")) == []
    assert codes(graph("ab ba")) == ["dependency-cycle"]
    assert codes(graph("aa")) == ["dependency-cycle"]
    assert codes(graph("abc bd cd d")) == []
    assert codes(graph("ab bc ca de ed")) == ["dependency-cycle"] * 2
    assert codes(graph("dab bc cb a")) == ["dependency-cycle"]


def test_a_web_of_dependencies_takes_no_time() -> None:
    rows = [f"  s{i}: {{depends_on: [{', '.join(f's{j}' for j in range(i + 1, min(i + 15, 80)))}]}}\n" for i in range(80)]
    began = time.process_time()
    assert "dependency-cycle" not in codes("version: 1\nservices:\n" + "".join(rows))
    assert time.process_time() - began < 2


def test_routes_are_tried_in_order() -> None:
    text = explain.EXAMPLE_BASE.replace(
        "  default: chat\n",
        '    phone: {webhook: {url: "http://p/"}}\n  default: chat\n  routes:\n    - {severity: critical, to: phone}\n'
        "    - {severity: critical, service: checkout, to: chat}\n",
    )
    result = resolve(text)
    assert [d.code for d in result.diagnostics] == ["dead-route"]
    assert result.diagnostics[0].note is not None
    assert result.model is not None
    assert result.model.routing.reached({"severity": "critical", "service": "checkout"}) == ("phone",)
    assert result.model.routing.reached({"severity": "warning"}) == ("chat",)


def test_lookups_agree_with_the_services() -> None:
    text = explain.EXAMPLE_BASE.replace("routing:", "  db: {depends_on: checkout, alerts: {A: {expr: x}}}\nrouting:")
    found = made(text)
    assert list(found.by_name) == ["checkout", "db"]
    assert found.dependants == {"checkout": ("db",)}
    assert found.cut_names == ()


def test_a_secret_is_masked_in_every_excerpt(tmp_path: Path) -> None:
    text = explain.EXAMPLE_BASE.replace("{webhook:", "{slack: {url: &s geheim}, webhook:").replace(
        "default: chat", "default: *s"
    )
    result = resolve(text)
    assert "secret-in-file" in {d.code for d in result.diagnostics}
    assert not any("url: &s geheim" in t for t in result.texts.values())


@pytest.mark.parametrize("text", ["", "{}", "# nothing", "~", "include: []", "services: {}", "version: 1", "[]", "x"])
def test_nothing_is_never_silent(text: str, tmp_path: Path) -> None:
    file = tmp_path / "slos.yaml"
    file.write_text(text)
    result = model.load([file])
    assert result.model is None
    assert result.errors
