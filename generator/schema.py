"""The JSON Schema of slos.yaml, for editors: it completes keys, shows what they mean, and underlines slips.

It says what can be said about one value at a time; `lgtm validate` says the rest. Made from the models, so that a field
that is added there is in the editor too.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from generator import base, receivers, sli, spec

# Where slos.yaml finds it, from the root of a project.
PATH = "docs/slos.schema.json"

_NAME = {"type": ["string", "number"], "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"}
_LABEL = {"type": "string", "pattern": "^[a-zA-Z_][a-zA-Z0-9_]{0,99}$"}
_TEXT = {"type": ["string", "number"], "pattern": r"\S"}
_QUERY = {"type": ["string", "number"], "pattern": r"\S"}
_URL = {"type": "string", "pattern": r"^https?://[^\s/?#@]+\S*$|\$\{"}
# What a value that is checked by a function of ours looks like; the functions themselves are the exact answer.
_CHECKED: dict[Any, JsonSchemaValue] = {
    base._text: _TEXT,
    base._name: _NAME,
    base._label: _LABEL,
    base._alert_name: _LABEL,
    base._selector: _QUERY,
    base._query: _QUERY,
    base._url: _URL,
}
_NUMBER: dict[str, JsonSchemaValue] = {"_percentile": {"type": "number"}, "_factor": {"type": "number", "exclusiveMinimum": 0}}


def modeline(path: str = PATH) -> str:
    """The first line of a file that tells editors where its schema is."""
    return f"# yaml-language-server: $schema={path}"


class _Generator(GenerateJsonSchema):
    """Knows what our checks accept beside what the models hold: short forms, one item for a list, units as text."""

    def function_before_schema(self, schema: core_schema.BeforeValidatorFunctionSchema) -> JsonSchemaValue:
        """A value that a function looks at first."""
        function: Any = schema["function"]["function"]
        if (known := _CHECKED.get(function)) is not None:
            return dict(known)
        name = getattr(function, "__name__", "")
        if name in _NUMBER:
            return dict(_NUMBER[name])
        inner = self.generate_inner(schema["schema"])
        if function is spec._one_or_many:
            return _or(dict(_item(inner)), inner)
        if function is spec._not_empty and inner.get("anyOf"):
            for branch in inner["anyOf"]:
                if branch.get("type") == "array":
                    branch["minItems"] = 1
        if name == "_expand":
            owner = getattr(function, "__self__", None)
            # An SLI has a short form only where one of its fields is what a text stands for.
            if getattr(owner, "shorthand", "text") is not None:
                return _or({"type": ["string", "number"]}, inner)
        return inner

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        """Keys and values by name: what a name may look like is said of the keys."""
        result: JsonSchemaValue = {"type": "object"}
        if "values_schema" in schema:
            result["additionalProperties"] = self.generate_inner(schema["values_schema"])
        keys = self.generate_inner(schema["keys_schema"]) if "keys_schema" in schema else {}
        if "pattern" in keys:
            result["propertyNames"] = {"pattern": keys["pattern"]}
        return result


def _or(first: JsonSchemaValue, second: JsonSchemaValue) -> JsonSchemaValue:
    return {"anyOf": [first, second]}


def _item(schema: JsonSchemaValue) -> JsonSchemaValue:
    return schema["items"] if isinstance(schema.get("items"), dict) else {}


def _tidy(node: Any) -> Any:
    """Without titles that only repeat a field's name, without defaults that say nothing, with unions flat."""
    if isinstance(node, list):
        return [_tidy(value) for value in node]
    if not isinstance(node, dict):
        return node
    out: dict[str, Any] = {}
    for key, value in node.items():
        if key in ("properties", "$defs"):
            out[key] = {name: _tidy(inner) for name, inner in value.items()}
        elif key in ("examples", "default"):
            # Data, not schemas. null, {} and [] say no more than that the key may be left out.
            if value not in (None, {}, []):
                out[key] = value
        elif key != "title":
            out[key] = _tidy(value)
    if isinstance(out.get("anyOf"), list):
        flat: list[Any] = []
        for branch in out["anyOf"]:
            flat += branch["anyOf"] if set(branch) == {"anyOf"} else [branch]
        out["anyOf"] = flat
        for branch in flat:
            # pydantic says this of a model once it is made; where a text may stand for it, it belongs to the keys.
            if "properties" in branch and "additionalProperties" in out:
                branch["additionalProperties"] = out["additionalProperties"]
        if any("properties" in branch for branch in flat):
            out.pop("additionalProperties", None)
    return out


def schema(model: type[BaseModel] = spec.Spec) -> dict[str, Any]:
    """The schema of the whole file, as JSON Schema draft 2020-12."""
    made = _tidy(model.model_json_schema(schema_generator=_Generator, mode="validation", by_alias=True))
    if model is not spec.Spec:
        return dict(made)
    # The reader takes includes out before the models see the file.
    made["properties"]["include"] = {
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
        "description": "Further files, relative to this one; their keys are merged by name.",
        "examples": [["services/*.yaml"]],
    }
    for kinds, name in ((sli.KINDS, "SliSpec"), (receivers.KINDS, "ReceiverSpec")):
        made["$defs"][name]["minProperties"] = 1
        if name == "SliSpec":
            made["$defs"][name]["maxProperties"] = 1
        made["$defs"][name]["description"] += f" One of: {', '.join(kinds)}."
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "slos.yaml",
        "description": "What good service means: services, objectives, alerts, routing. docs/reference.md explains each key.",
    }
    return {**head, **{key: value for key, value in made.items() if key not in head}}
