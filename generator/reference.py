"""docs/reference.md: every key, kind, series and diagnostic, made from the models and registries themselves."""

from __future__ import annotations

import itertools
import json
import re
import types
from collections.abc import Iterator
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BeforeValidator, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from generator import explain, names, receivers, source, spec
from generator.base import Base
from generator.units import Duration

PATH = "docs/reference.md"

# What the functions that look at a value first make of it, in words; links are to the sections of "How values are written".
_WORDS = {
    "_text": "text",
    "_name": "[name](#names)",
    "_label": "[label](#names)",
    "_alert_name": "[alert name](#names)",
    "_selector": "[metric](#queries)",
    "_query": "[PromQL](#queries)",
    "_raw": "[PromQL](#queries)",
    "_logql": "[LogQL](#queries)",
    "_url": "[address](#addresses)",
    "_duration": "[time](#times)",
    "_ratio": "[percentage](#percentages)",
    "_threshold": "[limit](#limits)",
    "_percentile": "number from 0 to 100",
    "_factor": "number above 0",
    "_weekdays": "[days](#parts-of-the-week)",
    "_times": "[times of day](#parts-of-the-week)",
    "_dates": "[days of the month](#parts-of-the-week)",
    "_moment": "[moment](#parts-of-the-week)",
    "_when": "[time of the week](#parts-of-the-week)",
    "_zone": "[time zone](#parts-of-the-week)",
    "_secret": "[secret](#secrets)",
    "_address": "[address](#addresses) or [secret](#secrets)",
    "_relative": "path below this file",
    "_mailbox": "mail address",
    "_mailboxes": "mail address, or a list of them",
    "_host_port": "host:port",
}

_VALUES = """\
## How values are written

### Times

A number and a unit without a space, largest unit first: `500ms`, `30s`, `5m`, `1h30m`, `30d`, `4w`.

### Percentages

With their sign: `99.9%`. A bare number could be a share or percent, so it is a fault.

### Limits

A number (`0.8`), a percentage (`80%`, which is 0.8), a time (`500ms`, in seconds) or a size (`2GiB`, `500MB`, in bytes).

### Names

Names of services, SLOs and receivers: letters, digits, `-`, `_` and `.`, at most 100, starting with a letter or digit.
Labels and alert names: letters, digits and `_`, not starting with a digit.

### Queries

A metric is a selector alone, such as `http_requests_total{code=~"5.."}`; rates, sums and ranges are added to it. PromQL is any
expression that gives one value for each series. The service's `match` is added to every selector that does not name its labels.

### Addresses

`http://` or `https://`, a host, and the rest. `${NAME}` and `${NAME:-value}` stand for a variable of the environment or of
.env. An address never holds a password.

### Secrets

`{file: NAME}` is the file `secrets/NAME` (mode 600); `{env: NAME}` is a variable of the environment. The secret itself never
stands in slos.yaml.

### Parts of the week

Days are `mon` to `sun` and ranges such as `mon-fri`, times are `09:00-17:00`, dates `1-7`, a moment is
`2026-12-01 22:00`, and a time zone is `Europe/Berlin`. Each of the first three may be a list. A time of the week is
`Sun 03:00`, or a moment.

### Shared parts

YAML anchors, aliases and `<<` work. `include:` names further files, whose keys are merged by name; two files that set the same
key differently are a fault. `-f slos.yaml -f production.yaml` lays the second file over the first. `on`, `yes`, `1:30` and
others that YAML readers disagree about are faults: quote them.
"""


def markdown() -> str:
    """The whole page."""
    parts = [
        "# Reference\n\n<!-- Made by `lgtm reference` from the models. Changes made here are lost. -->\n",
        "Everything that slos.yaml may hold, everything that is recorded, and every diagnostic. `lgtm schema` gives the same "
        "to editors, `lgtm explain CODE` the diagnostics to terminals.\n",
        "- [How values are written](#how-values-are-written)\n- [The file](#the-file)\n"
        "- [Recorded series](#recorded-series)\n- [Alerts](#alerts)\n- [Diagnostics](#diagnostics)\n",
        _VALUES,
        "## The file\n",
        *(_section(path, model) for path, model in sections()),
        _recorded(),
        _alerts(),
        _diagnostics(),
    ]
    return "\n".join(parts)


def sections() -> Iterator[tuple[str, type[Base]]]:
    """Every model with the place where it stands first, outer ones before inner ones."""
    seen: set[type[Base]] = set()
    queue: list[tuple[str, type[Base]]] = [("", spec.Spec)]
    while queue:
        path, model = queue.pop(0)
        if model in seen:
            continue
        seen.add(model)
        yield path, model
        for key, field in fields(model):
            for inner, suffix in _models(field.annotation):
                queue.append((f"{path}.{key}{suffix}".lstrip("."), inner))


def fields(model: type[Base]) -> Iterator[tuple[str, FieldInfo]]:
    """The keys of a model as they are written, with their fields."""
    for name, field in model.model_fields.items():
        yield field.alias or name, field


def _models(annotation: Any, suffix: str = "") -> Iterator[tuple[type[Base], str]]:
    if isinstance(annotation, type) and issubclass(annotation, Base):
        yield annotation, suffix
        return
    here = suffix + (".NAME" if get_origin(annotation) is dict else "[]" if get_origin(annotation) is list else "")
    for argument in get_args(annotation):
        yield from _models(argument, here)


def _anchor(path: str) -> str:
    # As GitHub makes them: lower case, without what is no letter, digit, '-' or '_'.
    return re.sub(r"[^\w\- ]", "", path.lower()).replace(" ", "-")


def _title(path: str) -> str:
    return path or "the top level"


def _section(path: str, model: type[Base]) -> str:
    doc = " ".join((model.__doc__ or "").replace("``", "`").split())
    rows = [
        f"| `{key}` | {type_of(field)} | {_default(field)} | {_cell(field.description or '')} | {_example(key, field)} |"
        for key, field in fields(model)
    ]
    if model is spec.Spec:
        rows.append("| `include` | path or pattern, or a list of them | none | Further files. | `include: [services/*.yaml]` |")
    table = "| key | value | default | meaning | example |\n|---|---|---|---|---|\n" + "\n".join(rows)
    return f"### {_title(path)}\n\n{doc}\n\n{table}\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("``", "`").split())


@cache
def _homes() -> dict[type[Base], str]:
    return {model: path for path, model in sections()}


def _home(model: type[Base]) -> str:
    return _homes()[model]


def type_of(field: FieldInfo) -> str:
    """What may stand in a field, in words."""
    return _words(field.annotation, tuple(field.metadata))


def _words(annotation: Any, metadata: tuple[Any, ...]) -> str:
    checks = [getattr(m.func, "__name__", "") for m in metadata if isinstance(m, BeforeValidator)]
    for name in checks:
        if name in _WORDS:
            return _WORDS[name]
    many = "_one_or_many" in checks
    if hasattr(annotation, "__metadata__"):
        return _words(annotation.__origin__, (*metadata, *annotation.__metadata__))
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(_words(a, metadata) for a in arguments if a is not type(None))
    if origin is Literal:
        return ", ".join(f"`{a}`" for a in arguments)
    if origin is list:
        inner = _words(arguments[0], ())
        return f"{inner}, or a list of them" if many else f"list of {inner}"
    if origin is dict:
        return f"by name: {_words(arguments[1], ())}"
    if isinstance(annotation, type) and issubclass(annotation, Base):
        path = _home(annotation)
        return f"[{_title(path)}](#{_anchor(_title(path))})"
    plain = {bool: "`true` or `false`", int: "whole number", str: "text"}
    return plain.get(annotation, "as the example shows")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    value = field.get_default()
    if value is PydanticUndefined or value is None or value in ("", {}, []):
        value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, Base) or value is None or value in ("", {}, []):
        return "none"
    shown = "true" if value is True else "false" if value is False else str(value)
    return f"`{', '.join(value) if isinstance(value, list) else shown}`"


def sample(model: type[Base]) -> dict[str, Any]:
    """A small valid value of a model: what it needs, with as few other keys as make it valid."""
    needed = {key: example(field) for key, field in fields(model) if field.is_required()}
    others = {key: example(field) for key, field in fields(model) if not field.is_required()}
    for count in range(0 if needed else 1, 3):
        for more in itertools.combinations(others, count):
            made = {**needed, **{key: others[key] for key in more}}
            if _valid(model, made):
                return made
    return needed


def _valid(model: type[Base], value: dict[str, Any]) -> bool:
    # As the reader gives it: numbers that are no whole ones are Decimals.
    read = source.read_text(json.dumps(value, ensure_ascii=False), "example")
    try:
        model.model_validate(read.data)
    except ValidationError:
        return False
    return not read.diagnostics


def example(field: FieldInfo) -> Any:
    """An example of a field's value, as it would be written: the field's own, or put together from those below it."""
    if field.annotation == receivers.Raw | None:
        # Its keys are Alertmanager's, so that no field of ours has an example.
        return {"pushover": {"user_key": {"file": "pushover_user"}, "token": {"file": "pushover_token"}}}
    if field.examples and field.examples[0] not in ({}, [], [{}]):
        return field.examples[0]
    for inner, suffix in _models(field.annotation):
        value: Any = sample(inner)
        return {"example": value} if suffix == ".NAME" else [value] if suffix == "[]" else value
    return None


def _example(key: str, field: FieldInfo) -> str:
    value = example(field)
    if isinstance(value, Duration):
        value = str(value)
    text = yaml.safe_dump({key: value}, default_flow_style=True, width=10_000, allow_unicode=True, sort_keys=False).strip()
    # Without the outer braces it reads as it is written.
    text = text[1:-1].replace("|", "\\|")
    return f"``{text}``" if "`" in text else f"`{text}`"


def _recorded() -> str:
    rows = "\n".join(f"| `{name}` | {_cell(meaning)} |" for name, meaning in names.metric_glossary())
    return (
        "## Recorded series\n\nEach has the labels `service` and `slo`, and the labels of the SLO's `by`.\n\n"
        f"| series | what it is |\n|---|---|\n{rows}\n"
    )


def _alerts() -> str:
    rows = "\n".join(f"| `{name}` | {_cell(meaning)} |" for name, meaning in names.alert_glossary())
    return (
        "## Alerts\n\nThese are made for you; alerts under `alerts` have their own names. Each has the labels `service`, "
        f"`owner`, `tier` and `severity`, and those about an SLO `slo`.\n\n| alert | when it fires |\n|---|---|\n{rows}\n"
    )


def _diagnostics() -> str:
    out = [
        "## Diagnostics\n\nCodes are stable: none ever comes to mean something else. An error keeps the file from being used.\n"
    ]
    for code in explain.CODES.values():
        fence = "text" if code.in_words else "yaml"
        out.append(
            f"### {code.name}\n\n{code.severity.capitalize()} ({code.group}). {code.cause}\n\n"
            f"```{fence}\n{code.example}\n```\n\n{code.cure}\n"
        )
    return "\n".join(out)
