"""YAML text to plain data, with the position of every key and value, and without YAML's surprises.

Scalars follow YAML 1.2's core schema, so that ``on``, ``yes`` and ``1:30`` stay what they look like; where YAML 1.1
would have read something else, that is a diagnostic, since other tools that read the same file would disagree with
us. Numbers stay Decimals: 99.9 is never 99.90000000000001.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from generator.diagnostics import Diagnostic, Note, Span

Path_ = tuple[str | int, ...]
Data = None | bool | int | Decimal | str | list["Data"] | dict[str, "Data"]

MAX_BYTES = 8 * 1024 * 1024
MAX_DEPTH = 60
# Aliases repeat a part of the document; this bounds what a few nested ones can grow into.
MAX_NODES = 1_500_000

_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,30})\Z")
_FLOAT = re.compile(
    r"[-+]?([0-9]{1,30}\.[0-9]{0,30}|\.[0-9]{1,30})([eE][-+]?[0-9]{1,3})?\Z|[-+]?[0-9]{1,30}[eE][-+]?[0-9]{1,3}\Z"
)
_QUOTED = ("'", '"', "|", ">")
_PLAIN_TAGS = {
    f"tag:yaml.org,2002:{name}" for name in ("bool", "int", "float", "null", "str", "timestamp", "merge", "value", "map", "seq")
}
_TRAP_BOOL = {"yes", "no", "on", "off"}
_TRAP_BASE60 = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9]*)?\Z")
_TRAP_OCTAL = re.compile(r"[-+]?0[0-9_]+\Z")


@dataclass
class Source:
    """The merged data of one or more files, and where each part of it was written.

    ``keys`` and ``values`` map a path (``("services", "shop", "slos")``) to its span. ``texts`` holds each file's text.
    """

    data: dict[str, Data] = field(default_factory=dict)
    keys: dict[Path_, Span] = field(default_factory=dict)
    values: dict[Path_, Span] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    diagnostics: list[Diagnostic] = field(default_factory=list)

    def value_span(self, path: Path_) -> Span:
        """Where the value at ``path`` stands, or the nearest part above it that was written."""
        for end in range(len(path), -1, -1):
            if (span := self.values.get(path[:end])) is not None:
                return span
        return Span(next(iter(self.texts), "slos.yaml"), 1, 1, 2)

    def key_span(self, path: Path_) -> Span:
        """Where the key of ``path`` stands; for a list item, its value."""
        return self.keys.get(path) or self.value_span(path)

    def within(self, path: Path_, offset: int, length: int = 1) -> Span:
        """A part of a scalar's own text, counted in characters from its start.

        Exact for plain and quoted one-line scalars without escapes; else the whole value.
        """
        span = self.value_span(path)
        line = self.texts.get(span.file, "").split("\n")[span.line - 1 :][:1]
        if not line:
            return span
        text = line[0][span.column - 1 : span.end_column - 1]
        quote = 1 if text[:1] in "'\"" else 0
        if text[:1] in "|>" or "\\" in text or "''" in text[1:-1] or offset + quote >= len(text):
            return span
        start = span.column + quote + offset
        return Span(span.file, span.line, start, min(start + max(1, length), span.end_column))


def load(files: Sequence[Path], display: Sequence[str] | None = None) -> Source:
    """Read ``files`` in order, later ones laid over earlier ones by name, with the files that each includes.

    Never raises on bad content: what is wrong stands in ``Source.diagnostics``.
    """
    source = Source()
    names = list(display) if display is not None else [str(f) for f in files]
    for index, (path, name) in enumerate(zip(files, names, strict=True)):
        _load_file(source, path, name, overlay=index > 0, seen=())
    return source


def _load_file(source: Source, path: Path, name: str, *, overlay: bool, seen: tuple[Path, ...]) -> None:
    part = read(path, name)
    source.texts |= part.texts
    source.diagnostics += part.diagnostics
    includes = part.data.pop("include", None)
    _merge(source, part, overlay=overlay)
    if includes is None:
        return
    patterns = includes if isinstance(includes, list) else [includes]
    for index, pattern in enumerate(patterns):
        where = part.value_span(("include", index) if isinstance(includes, list) else ("include",))
        if not isinstance(pattern, str) or not pattern:
            source.diagnostics.append(
                Diagnostic(
                    "wrong-type",
                    "include lists files by name or pattern",
                    where,
                    hint="include: [services/*.yaml]",
                )
            )
            continue
        base = Path(pattern)
        try:
            found = [base] if base.is_absolute() else sorted(path.parent.glob(pattern))
        except (ValueError, NotImplementedError, OSError):
            found = []
        found = [f for f in found if f.is_file()]
        if not found:
            source.diagnostics.append(
                Diagnostic(
                    "missing-include",
                    f"no file matches {pattern!r}",
                    where,
                    hint=f"paths are relative to {name}",
                )
            )
        for file in found:
            if file.resolve() in (*seen, path.resolve()):
                source.diagnostics.append(Diagnostic("include-cycle", f"{pattern!r} includes itself", where))
                continue
            child = str(Path(name).parent / file.relative_to(path.parent)) if not base.is_absolute() else str(file)
            _load_file(source, file, child, overlay=False, seen=(*seen, path.resolve()))


def read(path: Path, name: str) -> Source:
    """Read one file, without its includes."""
    source = Source(texts={name: ""})
    start = Span(name, 1, 1, 2)
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        source.diagnostics.append(Diagnostic("no-file", f"there is no file {name}", start, hint="name one with -f FILE"))
        return source
    except OSError as error:
        source.diagnostics.append(Diagnostic("unreadable-file", f"cannot read {name}: {error.strerror}", start))
        return source
    if len(raw) > MAX_BYTES:
        source.diagnostics.append(
            Diagnostic(
                "file-too-large",
                f"{name} has {len(raw)} bytes; at most {MAX_BYTES} are read",
                start,
                hint="split it with include:",
            )
        )
        return source
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        column = error.start - (raw.rfind(b"\n", 0, error.start) + 1) + 1
        source.diagnostics.append(
            Diagnostic(
                "not-utf8",
                f"{name} is not UTF-8 text",
                Span(name, line, column, column + 1),
                hint="save the file as UTF-8",
            )
        )
        return source
    return read_text(text, name)


def read_text(text: str, name: str) -> Source:
    """Parse YAML text; ``name`` is what diagnostics call the file."""
    source = Source(texts={name: text})
    start = Span(name, 1, 1, 2)
    # A deep document would exhaust the parser's own stack before we could look at it.
    depth = _flow_depth(text)
    if depth > MAX_DEPTH:
        source.diagnostics.append(Diagnostic("too-deep", f"nested more than {MAX_DEPTH} levels", start))
        return source
    loader = None
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        source.diagnostics.append(_syntax_error(error, name, text))
        return source
    except yaml.YAMLError as error:
        problem = str(getattr(error, "reason", "") or error).splitlines()[0]
        position = int(getattr(error, "position", 0) or 0)
        line = text.count("\n", 0, position) + 1
        column = position - (text.rfind("\n", 0, position) + 1) + 1
        source.diagnostics.append(
            Diagnostic("yaml-syntax", f"this is not YAML: {problem}", Span(name, line, column, column + 1))
        )
        return source
    except (RecursionError, ValueError):
        source.diagnostics.append(Diagnostic("yaml-syntax", "this is not YAML that can be read", start))
        return source
    finally:
        if loader is not None:
            loader.dispose()
    if node is None:
        source.diagnostics.append(Diagnostic("empty-file", f"{name} says nothing", start, hint="lgtm init writes a first file"))
        return source
    builder = _Builder(source, name, text)
    try:
        data = builder.build(node, (), 0)
    except _TooMuch as stop:
        source.diagnostics.append(stop.diagnostic)
        return source
    except RecursionError:
        source.diagnostics.append(Diagnostic("too-deep", f"nested more than {MAX_DEPTH} levels", start))
        return source
    if not isinstance(data, dict):
        source.diagnostics.append(
            Diagnostic("wrong-type", f"{name} must hold keys and values, not {kind_of(data)}", builder.span(node))
        )
        return source
    source.data = data
    return source


def kind_of(value: object) -> str:
    """What a value is, in the words of someone who writes YAML."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | Decimal | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list) else "keys and values"


def _flow_depth(text: str) -> int:
    """The deepest nesting of brackets, and of block dashes on one line: what makes a YAML parser recurse."""
    depth = deepest = 0
    for character in text:
        if character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth = max(0, depth - 1)
    dashes = max((len(m.group(0)) // 2 for m in re.finditer(r"(?m)^\s*((?:[-?] ){2,})", text)), default=0)
    # Brackets inside quotes are counted too, so the bound is generous; the exact one is the builder's.
    return max(deepest // 4, dashes)


def _syntax_error(error: yaml.MarkedYAMLError, name: str, text: str) -> Diagnostic:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
    problem = error.problem or "it cannot be parsed"
    hint = None
    lines = text.split("\n")
    here = lines[line - 1] if line <= len(lines) else ""
    if "\t" in here[: len(here) - len(here.lstrip())] or "'\\t'" in problem:
        hint = "YAML is indented with spaces, not tabs"
    elif "mapping values are not allowed" in problem:
        hint = "a value that holds ': ' needs quotes, or a line above is indented wrongly"
    elif "could not find expected ':'" in problem:
        hint = "a key needs a colon and a space after it"
    elif "found undefined alias" in problem:
        hint = "define the anchor (&name) before it is used (*name)"
    elif "expected a single document" in problem:
        hint = "one file holds one document; remove the '---' between them"
    elif "expected <block end>" in problem:
        hint = "look at the indentation of this line and the one above"
    note = None
    if error.context and error.context_mark is not None and error.context_mark.line + 1 != line:
        at = error.context_mark
        note = Note(Span(name, at.line + 1, at.column + 1, at.column + 2), error.context)
    return Diagnostic(
        "yaml-syntax",
        f"this is not YAML: {problem}",
        Span(name, line, column, column + 1),
        hint=hint,
        note=note,
    )


class _TooMuch(Exception):  # noqa: N818 - control flow inside this module
    def __init__(self, diagnostic: Diagnostic) -> None:
        self.diagnostic = diagnostic


class _Builder:
    """Turns a node graph into data, recording positions. An alias is expanded where it is used."""

    def __init__(self, source: Source, name: str, text: str) -> None:
        self.source = source
        self.name = name
        self.lines = text.split("\n")
        self.count = 0

    def span(self, node: Node) -> Span:
        start, end = node.start_mark, node.end_mark
        line = self.lines[start.line] if start.line < len(self.lines) else ""
        stop = end.column if end.line == start.line else len(line.rstrip())
        return Span(self.name, start.line + 1, start.column + 1, max(stop, start.column + 1) + 1)

    def build(self, node: Node, path: Path_, depth: int) -> Data:
        self.count += 1
        if depth > MAX_DEPTH:
            raise _TooMuch(Diagnostic("too-deep", f"nested more than {MAX_DEPTH} levels", self.span(node)))
        if self.count > MAX_NODES:
            raise _TooMuch(
                Diagnostic(
                    "too-large",
                    f"more than {MAX_NODES} values once its aliases are expanded",
                    self.span(node),
                )
            )
        self.source.values[path] = self.span(node)
        if node.tag not in _PLAIN_TAGS:
            self.fault("yaml-trap", f"the tag {node.tag!r} means nothing here", self.span(node), "remove it")
        if isinstance(node, MappingNode):
            return self.mapping(node, path, depth)
        if isinstance(node, SequenceNode):
            return [self.build(child, (*path, index), depth + 1) for index, child in enumerate(node.value)]
        return self.scalar(node) if isinstance(node, ScalarNode) else None

    def mapping(self, node: MappingNode, path: Path_, depth: int) -> dict[str, Data]:
        data: dict[str, Data] = {}
        written: dict[str, Span] = {}
        for key_node, value_node in self.own_pairs(node):
            span = self.span(key_node)
            if not isinstance(key_node, ScalarNode):
                self.fault("wrong-type", "a key must be text", span)
                continue
            key = key_node.value
            if key in written:
                first = written[key]
                self.fault(
                    "duplicate-key",
                    f"{key!r} stands here twice",
                    span,
                    "remove one of the two",
                    Note(first, "first here"),
                )
                continue
            written[key] = span
            self.source.keys[(*path, key)] = span
            data[key] = self.build(value_node, (*path, key), depth + 1)
        for merged in self.merged_mappings(node):
            for key_node, value_node in self.own_pairs(merged):
                if isinstance(key_node, ScalarNode) and key_node.value not in data:
                    key = key_node.value
                    self.source.keys[(*path, key)] = self.span(key_node)
                    data[key] = self.build(value_node, (*path, key), depth + 1)
        return data

    @staticmethod
    def own_pairs(node: MappingNode) -> Iterator[tuple[Node, Node]]:
        for key, value in node.value:
            if not (isinstance(key, ScalarNode) and key.value == "<<" and key.style not in _QUOTED):
                yield key, value

    def merged_mappings(self, node: MappingNode, depth: int = 0) -> Iterator[MappingNode]:
        """The mappings that ``<<`` brings in, nearest first."""
        for key, value in node.value:
            if not (isinstance(key, ScalarNode) and key.value == "<<" and key.style not in _QUOTED):
                continue
            parts = value.value if isinstance(value, SequenceNode) else [value]
            for part in parts:
                if not isinstance(part, MappingNode) or depth > MAX_DEPTH:
                    self.fault(
                        "wrong-type",
                        "<< merges keys and values",
                        self.span(value),
                        "<<: *an_anchor_of_keys_and_values",
                    )
                    continue
                yield part
                yield from self.merged_mappings(part, depth + 1)

    def scalar(self, node: ScalarNode) -> Data:
        text: str = node.value
        if node.style in _QUOTED:
            return text
        if text in ("", "~", "null", "Null", "NULL"):
            return None
        if text in ("true", "True", "TRUE"):
            return True
        if text in ("false", "False", "FALSE"):
            return False
        if _INT.match(text):
            return int(text)
        if _FLOAT.match(text):
            return Decimal(text)
        if text.lower() in _TRAP_BOOL:
            self.fault(
                "yaml-trap",
                f"{text} is true or false to some YAML readers and text to others",
                self.span(node),
                f'write {"true" if text.lower() in ("yes", "on") else "false"}, or quote it: "{text}"',
            )
        elif _TRAP_BASE60.match(text):
            self.fault(
                "yaml-trap",
                f"{text} is a number in base 60 to some YAML readers and text to others",
                self.span(node),
                f'quote it: "{text}"',
            )
        elif _TRAP_OCTAL.match(text):
            self.fault(
                "yaml-trap",
                f"{text} is an octal number to some YAML readers",
                self.span(node),
                f'quote it: "{text}", or write the number without its leading zero',
            )
        return text

    def fault(self, code: str, message: str, span: Span, hint: str | None = None, note: Note | None = None) -> None:
        self.source.diagnostics.append(Diagnostic(code, message, span, hint=hint, note=note))


def _merge(source: Source, part: Source, *, overlay: bool) -> None:
    """Lay ``part`` over ``source``: keys merge by name, anything else is replaced, with its positions."""

    replaced: set[Path_] = set()
    refused: set[Path_] = set()

    def under(path: Path_, roots: set[Path_]) -> bool:
        return any(path[:end] in roots for end in range(1, len(path) + 1))

    def lay(into: dict[str, Data], new: dict[str, Data], path: Path_) -> None:
        for key, value in new.items():
            here = (*path, key)
            old = into.get(key)
            if isinstance(old, dict) and isinstance(value, dict):
                lay(old, value, here)
            elif key in into and not overlay and old != value:
                source.diagnostics.append(
                    Diagnostic(
                        "duplicate-key",
                        f"{key!r} is set in two included files",
                        part.key_span(here),
                        hint="remove one of the two, or lay files over each other with -f",
                        note=Note(source.key_span(here), "first here"),
                    )
                )
                refused.add(here)
            else:
                if key in into:
                    replaced.add(here)
                into[key] = value

    if not source.data and not source.values:
        source.data, source.keys, source.values = part.data, part.keys, part.values
        return
    lay(source.data, part.data, ())
    for mine, theirs in ((source.keys, part.keys), (source.values, part.values)):
        for path in [p for p in mine if under(p, replaced)]:
            del mine[path]
        for path, span in theirs.items():
            if path and not under(path, refused):
                mine[path] = span
