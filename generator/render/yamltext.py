"""Data to YAML text, the same on every run, with long queries readable in a diff."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import yaml

from generator.units import Duration, plain

HEADER = "# Rendered from slos.yaml by `lgtm render`. Changes made here are lost.\n"

_Dumper: type[Any] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _Writer(_Dumper):  # type: ignore[misc]
    """Safe YAML without aliases, multi-line text as blocks, our own types as text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_data(self, data: Any) -> Any:
        # The common types directly: PyYAML's own way through its tables takes most of the time of a large file.
        kind = type(data)
        if kind is str:
            return yaml.ScalarNode("tag:yaml.org,2002:str", data, style="|" if "\n" in data else None)
        if kind is dict:
            pairs = [(self.represent_data(key), self.represent_data(value)) for key, value in data.items()]
            return yaml.MappingNode("tag:yaml.org,2002:map", pairs, flow_style=False)
        if kind is list:
            return yaml.SequenceNode("tag:yaml.org,2002:seq", [self.represent_data(v) for v in data], flow_style=False)
        return super().represent_data(data)


def _text(dumper: Any, value: str) -> Any:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Writer.add_representer(str, _text)
_Writer.add_representer(Duration, lambda d, v: d.represent_scalar("tag:yaml.org,2002:str", str(v)))
_Writer.add_representer(Decimal, lambda d, v: d.represent_scalar("tag:yaml.org,2002:float", plain(v)))


def dump(data: Any) -> str:
    """YAML text with the header that says where it comes from."""
    body: str = yaml.dump(data, Dumper=_Writer, sort_keys=False, allow_unicode=True, width=1_000_000)
    return HEADER + body
