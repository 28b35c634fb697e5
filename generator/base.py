"""What every part of the file format shares: strict models, and text types with their messages."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic_core import PydanticCustomError

from generator import promql
from generator.explain import CODES
from generator.units import plain, show


class Base(BaseModel):
    """A mapping in the file. Unknown keys are faults; values are never converted behind the user's back."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def fault(
    code: str,
    message: str,
    hint: str | None = None,
    *,
    at: tuple[int, int] | None = None,
    field: str | None = None,
    against: str | None = None,
    **shown: Any,
) -> PydanticCustomError:
    """A validation error that becomes a diagnostic with this code; ``{names}`` in it are filled from ``shown``.

    ``at`` is the offset and the length of the fault inside the text, where it is not the whole; ``field`` the key that
    is at fault, where a check of a whole mapping found it, and ``against`` the key that it conflicts with. Raises
    ValueError for a code that generator/explain.py does not have.
    """
    if code not in CODES:
        raise ValueError(f"{code} is not in generator/explain.py")
    for name, value in shown.items():
        message = message.replace(f"{{{name}}}", show(value))
    # pydantic fills names in braces too, and PromQL is full of braces: so the text goes as a value, not as a template.
    context: dict[str, Any] = {"message": message, "hint": hint, "at": at, "field": field, "against": against}
    return PydanticCustomError(code, "{message}", context)


def _text(value: Any) -> str:
    # A version such as 2.10 is a number to YAML; its digits were kept, so it can be taken as it was written.
    if isinstance(value, Decimal):
        return plain(value) if value == value.to_integral_value() else f"{value:f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise fault("wrong-type", "expected text, not {value}", value=value)
    if not value.strip():
        raise fault("empty-text", "this text is empty")
    if _CONTROL.search(value):
        raise fault("bad-text", "this text holds control characters")
    return value


def _name(value: Any) -> str:
    text = _text(value)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", text):
        raise fault(
            "bad-name",
            "{value} cannot be a name",
            "letters, digits, '-', '_' and '.', at most 100, starting with a letter or digit",
            value=text,
        )
    return text


def _label(value: Any) -> str:
    text = _text(value)
    if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]{0,99}", text) or text.startswith("__"):
        raise fault("bad-label", "{value} cannot be a label", "letters, digits and '_', such as region", value=text)
    return text


def _alert_name(value: Any) -> str:
    text = _text(value)
    if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]{0,99}", text):
        raise fault("bad-name", "{value} cannot be an alert's name", "write it as ConnectionPoolSaturated", value=text)
    return text


def _selector(value: Any) -> str:
    text = _text(value)
    try:
        selector = promql.as_selector(text)
    except promql.PromqlError as error:
        raise _promql_fault(error) from None
    if selector is None:
        raise fault(
            "not-a-metric",
            'expected a metric, such as http_requests_total{code=~"5.."}, not an expression',
            "leave out rate(), sum() and ranges: they are added for you",
        )
    return selector


def _query(value: Any) -> str:
    text = _text(value)
    try:
        promql.check(text)
    except promql.PromqlError as error:
        raise _promql_fault(error) from None
    return text.strip()


def _promql_fault(error: promql.PromqlError) -> PydanticCustomError:
    return fault(error.code, error.message, error.hint, at=error.at)


def _url(value: Any) -> str:
    text = _text(value)
    match = re.fullmatch(r"https?://(?P<user>[^/@\s]*@)?[^\s/?#@]+\S*", text)
    if match is None:
        raise fault("bad-url", "{value} is not a web address", "write it as http://host:port/path", value=text)
    if match["user"]:
        raise fault(
            "secret-in-file",
            "this address holds a password",
            "leave it out; the address of a webhook may stand in secrets/NAME: url: {file: NAME}",
        )
    return text


Text = Annotated[str, BeforeValidator(_text)]
Name = Annotated[str, BeforeValidator(_name)]
LabelName = Annotated[str, BeforeValidator(_label)]
AlertName = Annotated[str, BeforeValidator(_alert_name)]
Selector = Annotated[str, BeforeValidator(_selector)]
Query = Annotated[str, BeforeValidator(_query)]
Url = Annotated[str, BeforeValidator(_url)]
