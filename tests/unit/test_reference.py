"""The reference and the editors' schema: complete, current, and true."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import jsonschema
import pytest
from pydantic import TypeAdapter

from generator import explain, names, receivers, reference, schema, sli, source, spec
from generator.base import Base
from tests.unit import faultfiles

ROOT = Path(__file__).parents[2]
STALE = f"run: lgtm reference --output {reference.PATH}; lgtm schema --output {schema.PATH}"
PAGE = reference.markdown()
SCHEMA = schema.schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
FIELDS = [(path, model, key, field) for path, model in reference.sections() for key, field in reference.fields(model)]


def plain(data: Any) -> Any:
    """Data as other YAML readers give it."""
    if isinstance(data, Decimal):
        return float(data)
    if isinstance(data, dict):
        return {key: plain(value) for key, value in data.items()}
    return [plain(value) for value in data] if isinstance(data, list) else data


def test_the_committed_page_is_current() -> None:
    assert (ROOT / reference.PATH).read_text(encoding="utf-8") == PAGE, STALE


def test_the_committed_schema_is_current() -> None:
    assert json.loads((ROOT / schema.PATH).read_text(encoding="utf-8")) == SCHEMA, STALE


@pytest.mark.parametrize(("path", "model", "key", "field"), FIELDS, ids=[f"{p or 'top'}.{k}" for p, _, k, _ in FIELDS])
def test_every_field_is_explained(path: str, model: type[Base], key: str, field: Any) -> None:
    assert field.description, f"{model.__name__}.{key} needs a description"
    assert reference.example(field) is not None, f"{model.__name__}.{key} needs an example"
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{key}` | {reference.type_of(field)} |"))
    assert f"`{key}: " in row


@pytest.mark.parametrize(("path", "model", "key", "field"), FIELDS, ids=[f"{p or 'top'}.{k}" for p, _, k, _ in FIELDS])
def test_every_example_is_valid(path: str, model: type[Base], key: str, field: Any) -> None:
    annotation: Any = field.annotation
    for metadata in field.metadata:
        annotation = Annotated[annotation, metadata]
    text = json.dumps({key: reference.example(field)}, ensure_ascii=False)
    read = source.read_text(text, "example")
    assert not read.diagnostics
    if isinstance(read.data[key], dict) and read.data[key] in ({}, {"checkout": {}}):
        return
    TypeAdapter(annotation).validate_python(read.data[key])


def test_every_kind_and_series_and_alert_is_there() -> None:
    headings = set(re.findall(r"^### (\S+)$", PAGE, re.MULTILINE))
    assert {f"services.NAME.slos.NAME.sli.{kind}" for kind in sli.KINDS} <= headings
    assert {f"routing.receivers.NAME.{kind}" for kind in receivers.KINDS} <= headings
    assert set(explain.CODES) <= headings
    for name, _ in (*names.metric_glossary(), *names.alert_glossary()):
        assert f"| `{name}` |" in PAGE
    assert {name for name, _ in names.alert_glossary()} == set(names.RESERVED_ALERTS)


def test_every_recorded_series_is_in_the_glossary() -> None:
    listed = {name for name, _ in names.metric_glossary()}
    recorded = {v for k, v in vars(names).items() if k.isupper() and isinstance(v, str) and v.startswith("slo:")}
    assert recorded <= listed


def test_links_lead_somewhere() -> None:
    anchors = {reference._anchor(title) for title in re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([^)]*)\)", PAGE)) <= anchors


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


FILES = [ROOT / "slos.yaml", *sorted((ROOT / "examples").glob("*.yaml"))]


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_valid_files_fit_the_schema_and_name_it(file: Path) -> None:
    assert [e.message for e in VALIDATOR.iter_errors(plain(source.load([file]).data))] == []
    first = file.read_text(encoding="utf-8").split("\n")[0]
    written = first.removeprefix("# yaml-language-server: $schema=")
    assert written != first, "its first line tells editors where the schema is"
    assert (file.parent / written).resolve() == (ROOT / schema.PATH).resolve()


def test_short_forms_fit_the_schema() -> None:
    text = explain.EXAMPLE_BASE + "  watchdog: [chat]\n"
    short = "    depends_on: a\n    slos:\n      b: {objective: 99%, sla: 98%, sli: {probe: live}}\n"
    text = text.replace("    slos:\n", short, 1)
    assert not list(VALIDATOR.iter_errors(plain(source.read_text(text, "x").data)))


# What an editor can see without looking at two places at once.
SEEN = {
    "bad-duration", "bad-label", "bad-name", "bad-percent", "bad-threshold", "bad-url", "empty-list", "empty-text",
    "missing-key", "missing-kind", "out-of-range", "unknown-key", "unknown-kind", "unknown-value", "wrong-type",
}  # fmt: skip


@pytest.mark.parametrize("code", sorted(SEEN))
def test_an_editor_sees_it(code: str) -> None:
    case = next(c for c in faultfiles.cases() if c.name == f"{code}.yaml")
    assert list(VALIDATOR.iter_errors(plain(source.load([case.path]).data)))


def test_the_schema_knows_every_key_of_the_models() -> None:
    text = json.dumps(SCHEMA)
    for _, model, key, _ in FIELDS:
        assert f'"{key}": {{' in text, f"{model.__name__}.{key}"
    assert spec.Spec.__name__ not in SCHEMA["$defs"]
