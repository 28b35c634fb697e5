"""Files laid over each other, files that include others, and references to the environment: what is said of them is true."""

from __future__ import annotations

from pathlib import Path

import pytest

from generator import model
from generator.model import Result

BASE = """\
version: 1
include: [services/*.yaml]
defaults: {owner: backend, window: 30d}
routing:
  receivers: {chat: {webhook: {url: "http://chat:8001/"}}}
  default: chat
"""
SHOP = """\
services:
  shop:
    runbook: https://wiki.example.com/shop
    scrape: {targets: ["${SHOP_TARGET:-shop:8000}"]}
    slos:
      up: {objective: 99%, sli: {boolean: up}}
      fast: {objective: 95%, sli: {latency: {histogram: d_seconds, under: 200ms}}}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "services").mkdir()
    (tmp_path / "slos.yaml").write_text(BASE)
    (tmp_path / "services" / "shop.yaml").write_text(SHOP)
    return tmp_path


def load(project: Path, *overlays: str, variables: dict[str, str] | None = None) -> Result:
    files = [project / "slos.yaml"]
    for index, text in enumerate(overlays):
        files.append(project / f"over{index}.yaml")
        files[-1].write_text(text)
    return model.load(files, [f.name for f in files], variables=variables or {})


def where(result: Result) -> list[tuple[str, str, int, int]]:
    return [(d.code, d.span.file, d.span.line, d.span.column) for d in result.diagnostics]


def test_an_overlay_changes_one_value_and_keeps_the_rest(project: Path) -> None:
    result = load(project, "services: {shop: {slos: {up: {objective: 99.9%}}}}\ndefaults: {window: 7d}\n")
    assert result.model is not None, where(result)
    up, fast = result.model.slos
    assert (str(up.objective), up.sli.kind, str(up.window), up.owner) == ("0.999", "boolean", "7d", "backend")
    assert (str(fast.objective), str(fast.window)) == ("0.95", "7d")


def test_a_later_overlay_wins(project: Path) -> None:
    result = load(project, "defaults: {owner: one}\n", "defaults: {owner: two}\n")
    assert result.model is not None
    assert {s.owner for s in result.model.slos} == {"two"}


def test_an_overlay_replaces_a_list_as_a_whole(project: Path) -> None:
    result = load(project, 'services: {shop: {scrape: {targets: ["a:1", "b:2"]}}}\n')
    assert result.model is not None
    scrape = result.model.services[0].scrape
    assert scrape is not None
    assert scrape.targets == ["a:1", "b:2"]


def test_each_fault_is_where_it_was_written(project: Path) -> None:
    (project / "services" / "shop.yaml").write_text(SHOP.replace("under: 200ms", "under: soon"))
    result = load(project, "services:\n  shop:\n    slos:\n      up: {objective: 100%}\n      other: {objective: 1}\n")
    assert where(result) == [
        ("impossible-objective", "over0.yaml", 4, 23),
        ("missing-key", "over0.yaml", 5, 7),
        ("bad-percent", "over0.yaml", 5, 26),
        ("bad-duration", "services/shop.yaml", 7, 75),
    ]


def test_two_included_files_may_not_disagree(project: Path) -> None:
    (project / "services" / "again.yaml").write_text("services: {shop: {tier: low, slos: {up: {objective: 98%}}}}\n")
    (found,) = load(project).errors
    assert (found.code, found.span.file) == ("duplicate-key", "services/shop.yaml")
    assert found.note is not None
    assert found.note.span.file == "services/again.yaml"


def test_an_included_file_may_add_to_a_service(project: Path) -> None:
    (project / "services" / "more.yaml").write_text("services: {shop: {slos: {new: {objective: 98%, sli: {boolean: up}}}}}\n")
    result = load(project)
    assert result.model is not None
    assert {s.name for s in result.model.slos} == {"up", "fast", "new"}


def test_an_anchor_is_of_its_own_file(project: Path) -> None:
    (project / "services" / "shop.yaml").write_text(SHOP + "      more: {<<: *base, objective: 90%}\n")
    assert "yaml-syntax" in [d.code for d in load(project).errors]


# --- the environment -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("variables", "target"), [({}, "shop:8000"), ({"SHOP_TARGET": "10.0.0.1:1"}, "10.0.0.1:1")])
def test_an_address_may_come_from_the_environment(project: Path, variables: dict[str, str], target: str) -> None:
    result = load(project, variables=variables)
    assert result.model is not None
    scrape = result.model.services[0].scrape
    assert scrape is not None
    assert scrape.targets == [target]


def test_an_address_from_the_environment_is_checked_as_any_other(project: Path) -> None:
    assert where(load(project, variables={"SHOP_TARGET": "http://shop"})) == [("bad-target", "services/shop.yaml", 4, 24)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("defaults: {owner: '${TEAM}'}\n", [("env-not-allowed", "over0.yaml", 1, 20)]),
        ("services: {shop: {probes: {a: {url: 'http://${HOST}/'}}}}\n", [("unset-variable", "over0.yaml", 1, 45)]),
    ],
)
def test_a_reference_is_told_where_it_cannot_be_followed(
    project: Path, text: str, expected: list[tuple[str, str, int, int]]
) -> None:
    assert sorted(where(load(project, text))) == sorted(expected)


def test_prose_and_queries_are_left_alone(project: Path) -> None:
    result = load(
        project,
        "services:\n  shop:\n    description: Started by ${USER}.\n    runbook: {symptoms: x, diagnosis: ['echo ${HOME}']}\n"
        '    alerts: {A: {expr: \'label_replace(up, "a", "${b}", "c", "(?P<b>.*)")\', below: 1}}\n',
    )
    assert result.model is not None, where(result)
    service = result.model.services[0]
    assert service.description == "Started by ${USER}."
    assert service.runbook is not None
    assert service.runbook.diagnosis == ["echo ${HOME}"]
    assert "${b}" in service.alerts[0].expr


def test_a_runbook_in_a_file(project: Path) -> None:
    over = "services: {shop: {runbook: runbooks/shop.md}}\n"
    (found,) = load(project, over).errors
    assert (found.code, found.span.file, found.span.column) == ("no-runbook", "over0.yaml", 28)
    (project / "runbooks").mkdir()
    (project / "runbooks" / "shop.md").write_text(
        "# Shop\n\n## Symptoms\nPages are empty.\n\n## Diagnosis\n1. docker ps\n2. docker logs shop\n\n"
        "## Causes\n- The disk is full: grow it\n- Something else\n\n## How to verify recovery\nPages show.\n"
    )
    result = load(project, over)
    assert result.model is not None, where(result)
    book = result.model.services[0].runbook
    assert book is not None
    assert (book.symptoms, book.diagnosis, book.recovery) == (
        "Pages are empty.",
        ["docker ps", "docker logs shop"],
        "Pages show.",
    )
    assert [(c.cause, c.fix) for c in book.causes] == [("The disk is full", "grow it"), ("Something else", None)]
