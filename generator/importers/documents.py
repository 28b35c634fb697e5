"""Files of other projects as documents with positions: several in one file, lists of them, and YAML as they read it.

What those projects accept, we read: a bare ``yes`` where they expect true or false, a number where they expect text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from pathlib import Path

from generator import source as source_module
from generator.diagnostics import Diagnostic, Note, Span, did_you_mean, split_lines
from generator.source import Data, Path_, Source, kind_of
from generator.units import show

# What keeps a file from being read as text at all; anything else of the first pass is about several documents in one.
_UNREADABLE = {"no-file", "unreadable-file", "file-too-large", "not-utf8"}
_DOCUMENT = re.compile(r"(?m)^---(?=\s|\Z)")
# Kubernetes' own wrappers: `kubectl get -o yaml` writes a List.
_LIST_KIND = re.compile(r"\w*List\Z")
# Digits before and after the point that a number can need.
_FAR = 15
_TRUE, _FALSE = {"true", "yes", "on", "y"}, {"false", "no", "off", "n"}


class Fault(Exception):  # noqa: N818 - ends the reading of one part; its diagnostic has been noted
    """A part cannot be read; why stands among the file's diagnostics."""


class Node:
    """A value of a document, with where it stands. Getters note a diagnostic and raise Fault for what cannot be read."""

    def __init__(self, source: Source, path: Path_, diagnostics: list[Diagnostic]) -> None:
        self.source = source
        self.path = path
        self.data: Data = source.data_at(path)
        self._diagnostics = diagnostics

    @property
    def span(self) -> Span:
        """Where the value stands."""
        return self.source.value_span(self.path)

    @property
    def key_span(self) -> Span:
        """Where its key stands."""
        return self.source.key_span(self.path)

    @property
    def name(self) -> str:
        """Its key, or its position in a list."""
        part = self.path[-1] if self.path else ""
        return f"{self.path[-2]}[{part}]" if isinstance(part, int) and len(self.path) > 1 else str(part)

    def fault(
        self, code: str, message: str, hint: str | None = None, *, on_key: bool = False, span: Span | None = None
    ) -> Fault:
        """Note what is wrong here, and give the exception to raise."""
        place = span or (self.key_span if on_key else self.span)
        self._diagnostics.append(Diagnostic(code, message, place, hint=hint))
        return Fault()

    def at(self, key: str) -> Node:
        """A child, which may be nothing."""
        return Node(self.source, (*self.path, key), self._diagnostics)

    def find(self, *keys: str) -> Node | None:
        """The first of some children that is there and says something."""
        if self.data is None:
            return None
        self.mapping()
        for key in keys:
            child = self.at(key)
            if child.data is not None:
                return child
        return None

    def need(self, *keys: str) -> Node:
        """As find, for what must be there."""
        found = self.find(*keys)
        if found is None:
            raise self.fault("missing-key", f"{self.name or 'this'} needs {keys[0]!r}", on_key=True)
        return found

    def mapping(self) -> dict[str, Data]:
        """Keys and values."""
        if not isinstance(self.data, dict):
            raise self.fault("wrong-type", f"{self.name} must be keys and values, not {_said(self.data)}")
        return self.data

    def items(self) -> list[Node]:
        """The entries of a list."""
        if not isinstance(self.data, list):
            raise self.fault("wrong-type", f"{self.name} must be a list, not {_said(self.data)}")
        return [Node(self.source, (*self.path, i), self._diagnostics) for i in range(len(self.data))]

    def pairs(self) -> dict[str, str]:
        """Labels or annotations: text by name, other scalars as they were written."""
        return {key: self.at(key).text() for key in self.mapping() if self.at(key).data is not None}

    def text(self) -> str:
        """Text; a number or a truth value counts as what was written."""
        if isinstance(self.data, bool | int | Decimal):
            return self._written()
        if not isinstance(self.data, str):
            raise self.fault("wrong-type", f"{self.name} must be text, not {_said(self.data)}")
        if not self.data.strip():
            raise self.fault("empty-text", f"{self.name} is empty")
        return self.data

    def _written(self) -> str:
        """A plain scalar as it was written: 1e3, 0.10 and True keep their looks."""
        span = self.span
        lines = _lines(self.source.texts.get(span.file, ""))
        text = lines[span.line - 1][span.column - 1 : span.end_column - 1].strip() if span.line <= len(lines) else ""
        return text or str(self.data)

    def number(self) -> Decimal:
        """A number, also one in quotes."""
        value = Decimal("NaN")
        if isinstance(self.data, int | Decimal | str) and not isinstance(self.data, bool):
            with suppress(InvalidOperation):
                value = Decimal(self.data.strip() if isinstance(self.data, str) else self.data)
        if value.is_finite():
            if value and not -_FAR <= value.adjusted() <= _FAR:
                raise self.fault("out-of-range", f"{show(self.data)} cannot be meant")
            return value
        raise self.fault("wrong-type", f"{self.name} must be a number, not {_said(self.data)}")

    def flag(self) -> bool:
        """True or false, in any of YAML 1.1's spellings."""
        if isinstance(self.data, bool):
            return self.data
        word = str(self.data).lower()
        if word in _TRUE | _FALSE:
            return word in _TRUE
        raise self.fault("wrong-type", f"{self.name} must be true or false, not {_said(self.data)}")

    def one_of(self, *values: str) -> str:
        """One of some words; upper and lower case are the same."""
        text = self.text()
        for value in values:
            if value.lower() == text.strip().lower():
                return value
        raise self.fault("unknown-value", f"{self.name} cannot be {show(text)}", did_you_mean(text, values, "choose one of"))

    def others(self, *known: str) -> list[Node]:
        """The children that the format does not have."""
        return [self.at(key) for key in self.mapping() if key not in known]


@lru_cache(maxsize=8)
def _lines(text: str) -> tuple[str, ...]:
    return split_lines(text)


def _said(value: Data) -> str:
    kind = kind_of(value)
    return kind if kind in ("nothing", "a list", "keys and values") else f"{kind} ({show(value)})"


class Documents:
    """The documents of some files. ``diagnostics`` collects what is wrong with them while they are read."""

    def __init__(self) -> None:
        self.diagnostics: list[Diagnostic] = []
        self.texts: dict[str, str] = {}
        self.roots: list[Node] = []

    def read(self, path: Path, name: str) -> None:
        """Add the documents of a file. Never raises on bad content."""
        whole = source_module.read(path, name)
        if any(d.code in _UNREADABLE for d in whole.diagnostics):
            self.texts |= whole.texts
            self.diagnostics += whole.diagnostics
            return
        self.add(whole.texts[name], name)

    def add_bytes(self, raw: bytes, name: str) -> None:
        """Add the documents of a text that is not in a file."""
        if len(raw) > source_module.MAX_BYTES:
            limit = source_module.MAX_BYTES // 2**20
            self.diagnostics.append(Diagnostic("file-too-large", f"{name} is larger than {limit} MiB", Span(name, 1, 1, 2)))
            return
        try:
            self.add(raw.decode("utf-8-sig"), name)
        except UnicodeDecodeError:
            self.diagnostics.append(Diagnostic("not-utf8", f"{name} is not UTF-8 text", Span(name, 1, 1, 2)))

    def add(self, text: str, name: str) -> None:
        """Add the documents of a text; ``name`` is what diagnostics call it."""
        self.texts[name] = text
        starts = [0, *(m.start() for m in _DOCUMENT.finditer(text) if m.start())]
        found, above = False, 0
        for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
            chunk = text[start:end]
            lines = len(split_lines(chunk)) - 1
            if not re.sub(r"(?m)^---|#.*$|^%.*$|^\.\.\.\s*$", "", chunk).strip():
                above += lines
                continue
            found = True
            self._document(chunk, above, text, name)
            above += lines
        if not found:
            self.diagnostics.append(Diagnostic("empty-file", f"{name} says nothing", Span(name, 1, 1, 2)))

    def _document(self, chunk: str, offset: int, text: str, name: str) -> None:
        source = source_module.read_text(chunk, name)
        if any(d.code == "wrong-type" and not source.data for d in source.diagnostics) and re.search(
            r"(?m)^(?:---[ \t]*)?(?:- |\[)", chunk
        ):
            # A list of objects: read as what `kind: List` would hold, one line further down.
            body = re.sub(r"\A---[^\n]*\n?", lambda m: "#" * (len(m[0].rstrip("\n"))) + "\n", chunk)
            source, offset = source_module.read_text("items:\n" + body, name), offset - 1
        source.texts = {name: text}
        source.keys = {path: _down(span, offset) for path, span in source.keys.items()}
        source.values = {path: _down(span, offset) for path, span in source.values.items()}
        # Other readers take `yes` for true and 010 for 8: that is what such a file means.
        self.diagnostics += [
            replace(d, span=_down(d.span, offset), note=d.note and Note(_down(d.note.span, offset), d.note.message))
            for d in source.diagnostics
            if d.code != "yaml-trap"
        ]
        if source.data:
            self.roots += self._unpacked(Node(source, (), self.diagnostics))

    def _unpacked(self, node: Node) -> Iterator[Node]:
        data = node.data
        if (
            isinstance(data, dict)
            and isinstance(data.get("items"), list)
            and ("kind" not in data or _LIST_KIND.match(str(data["kind"])))
        ):
            for item in node.at("items").items():
                if isinstance(item.data, dict):
                    yield item
                else:
                    item.fault("wrong-type", f"an object must be keys and values, not {_said(item.data)}")
        else:
            yield node


def _down(span: Span, lines: int) -> Span:
    return span._replace(line=max(1, span.line + lines))
