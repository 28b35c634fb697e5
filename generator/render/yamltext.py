"""Data to YAML text, the same on every run, with long queries readable in a diff."""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache
from typing import Any

import yaml

from generator.units import Duration, plain

HEADER = "# Rendered from slos.yaml by `lgtm render`. Changes made here are lost.\n"

_Dumper: type[Any] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _Writer(_Dumper):  # type: ignore[misc]
    """Safe YAML without aliases, multi-line text as blocks, our own types as text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: Any, value: str) -> Any:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Writer.add_representer(str, _text)
_Writer.add_representer(Duration, lambda d, v: d.represent_scalar("tag:yaml.org,2002:str", str(v)))
_Writer.add_representer(Decimal, lambda d, v: d.represent_scalar("tag:yaml.org,2002:float", plain(v)))


def dump(data: Any) -> str:
    """YAML text with the header that says where it comes from."""
    try:
        out: list[str] = []
        _write(data, "", "", out)
        return HEADER + "\n".join(out) + "\n"
    except _UnusualError:
        return HEADER + by_library(data)


def by_library(data: Any) -> str:
    """The same without the header, by PyYAML alone."""
    text: str = yaml.dump(data, Dumper=_Writer, sort_keys=False, allow_unicode=True, width=1_000_000)
    return text


# Nearly everything that is rendered is a mapping, a list or one of these texts, and PyYAML's way through nodes and events
# takes most of the time of a large file. So these are written here, exactly as it does; it writes all others itself.

# ASCII that begins with a letter, and is no word that means something to YAML; or that can be nothing but text.
_PLAIN = re.compile(r"(?!(?:yes|no|on|off|true|false|null)\Z)[a-z(][ -~]*(?<![ :])", re.ASCII | re.IGNORECASE)
_QUOTED = re.compile(r"[{\[][ -~]*(?<! )|[a-z(][ -~]*(?:: | #)[ -~]*(?<! )", re.ASCII | re.IGNORECASE)
_BLOCK = re.compile(r"(?:[!-~][ -~]*\n)(?:[ -~]*\n)*", re.ASCII)
_SPACE_AT_END = re.compile(r" \n|\n\n\Z")
_KEY_LENGTH = 100


class _UnusualError(Exception):
    """Data that only the library knows how to write."""


def _write(data: Any, indent: str, lead: str, out: list[str]) -> None:
    """The lines of a collection. ``lead`` is what stands before the first of them in the place of ``indent``."""
    if type(data) is dict and data:
        for key, value in data.items():
            if type(key) is not str or len(key) > _KEY_LENGTH or not _is_plain(key):
                raise _UnusualError
            kind = type(value)
            if (kind is dict or kind is list) and value:
                out.append(f"{lead}{key}:")
                inner = indent if kind is list else indent + "  "
                _write(value, inner, inner, out)
            else:
                out.append(f"{lead}{key}:{_scalar(value, indent)}")
            lead = indent
    elif type(data) is list and data:
        for value in data:
            if isinstance(value, dict | list) and value:
                _write(value, indent + "  ", lead + "- ", out)
            else:
                out.append(f"{lead}-{_scalar(value, indent)}")
            lead = indent
    else:
        raise _UnusualError


def _is_plain(text: str) -> bool:
    return ": " not in text and " #" not in text and bool(_PLAIN.fullmatch(text))


def _scalar(value: Any, indent: str) -> str:
    if type(value) is str:
        if _is_plain(value):
            return " " + value
        if "\n" in value:
            if not _BLOCK.fullmatch(value) or _SPACE_AT_END.search(value):
                raise _UnusualError
            lines = value[:-1].split("\n")
            return " |\n" + "\n".join(f"{indent}  {line}" if line else "" for line in lines)
        if _QUOTED.fullmatch(value):
            return " '" + value.replace("'", "''") + "'"
    if isinstance(value, dict | list):
        return " {}" if isinstance(value, dict) else " []"
    return " " + _alone((type(value), str(value)), value)


@lru_cache(maxsize=4096)
def _alone(_: tuple[object, ...], value: Any) -> str:
    # 1, 1.0 and True are equal, and so are 0.0 and -0.0: what is asked for is known by its type and its text too.
    text = by_library([value])
    if text.count("\n") != 1 or not text[:-1].isprintable():
        raise _UnusualError
    return text[2:-1]
