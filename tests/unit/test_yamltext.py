"""Rendered YAML: what is written here by ourselves is what the library would have written."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from generator.render import yamltext
from generator.units import Duration

# Pieces that mean something to YAML, in any order.
PIECES = (
    *("a", "no", "null", "~", "y", "on", "True", "yes", "x y", "1", "0x1", "1e3", "2020-01-01", "[1m15s]"),
    *(": ", "#", " #", ":", "\n", " ", "'", '"', "{", "}", "- ", "(", "<<", "=", "|", ">", "%", "@", "`", "&", "*", "!", "?"),
    *("é", "\t", "\u2028", "\x85", "\ufeff"),
)
texts = st.one_of(st.lists(st.sampled_from(PIECES), max_size=6).map("".join), st.text(max_size=8))
numbers = st.one_of(
    st.integers(), st.booleans(), st.none(), st.floats(allow_nan=False), st.decimals(allow_nan=False, allow_infinity=False)
)
lengths = st.builds(lambda seconds: Duration(Decimal(seconds)), st.integers(0, 10**6))
data = st.recursive(
    st.one_of(texts, numbers, lengths),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(value=data)
def test_it_is_what_the_library_writes(value: Any) -> None:
    assert yamltext.dump(value) == yamltext.HEADER + yamltext.by_library(value)


@pytest.mark.parametrize(
    "text", ["one line", "sum(x) > 1\nor\n  y\n", "yes", "a: b", "{{ $value }}", "0123", "", " x", "a\n\n", "x:"]
)
def test_text_is_read_back_as_it_was(text: str) -> None:
    groups = {"groups": [{"name": text, "rules": [], "labels": {}, "nested": [[text], {"a": text}]}]}
    assert yaml.safe_load(yamltext.dump(groups)) == groups
