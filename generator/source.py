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

from generator.diagnostics import Diagnostic, Note, Span, split_lines
from generator.units import show

Path_ = tuple[str | int, ...]
Data = None | bool | int | Decimal | str | list["Data"] | dict[str, "Data"]

MAX_BYTES = 8 * 1024 * 1024
MAX_DEPTH = 60
# Values of a file, keys among them: what 15,000 SLOs need; this bounds the memory that positions take. Those that come
# out of an alias are counted apart, since a few nested ones can grow into anything.
MAX_NODES = 400_000
MAX_REPEATED = 50_000
# A file below this cannot hold so many values that it has to be counted before it is parsed.
_SMALL = 512 * 1024

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
_TRAP_NUMBER = re.compile(
    r"[-+]?(0x[0-9a-fA-F_]+|0o[0-7]+|0b[01_]+|[1-9][0-9]*(_[0-9]+)+(\.[0-9_]*)?|\.(inf|Inf|INF|nan|NaN|NAN))\Z"
)
# Queries are never longer; positions inside longer texts are not looked for.
_LONGEST_SCALAR = 50_000
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_BRACKET = re.compile(r"[\[\]{}]")
# The white space that a line starts with, and the dashes that open lists inside lists on one line.
_INDENT = re.compile(r"(?m)^[ \t]*(?:[-?][ \t]+)*")


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
    # Where each file lies, for what is named relative to it.
    directories: dict[str, Path] = field(default_factory=dict)

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

        Works for plain, quoted and block scalars over any number of lines: their white space may be folded, so it is
        the other characters that are counted. The whole value where that does not lead anywhere.
        """
        span = self.value_span(path)
        value = self.data_at(path)
        if not isinstance(value, str) or not 0 <= offset <= len(value):
            return span
        places = self.places(span)
        solid = [i for i, c in enumerate(value) if not c.isspace()]
        if len(places) < len(solid) or not solid:
            return span
        before = sum(1 for i in solid if i < offset)
        inside = max(1, sum(1 for i in solid if offset <= i < offset + length))
        if before >= len(solid):
            # Past the end of the text: right after its last character.
            line, _, stop = places[len(solid) - 1]
            return Span(span.file, line, stop, stop + 1)
        line, start, stop = places[before]
        for other, _, end in places[before : before + inside]:
            if other == line:
                stop = end
        return Span(span.file, line, start, stop)

    def data_at(self, path: Path_) -> Data:
        """What stands at a path, or None."""
        data: Data = self.data
        for part in path:
            if isinstance(data, dict):
                data = data.get(str(part))
            elif isinstance(data, list) and isinstance(part, int) and part < len(data):
                data = data[part]
            else:
                return None
        return data

    def places(self, span: Span) -> list[tuple[int, int, int]]:
        """Line, column and end of each character of the scalar at ``span`` that is not white space."""
        lines = split_lines(self.texts.get(span.file, ""))
        first = lines[span.line - 1] if span.line <= len(lines) else ""
        mark = first[span.column - 1 : span.column]
        quote = mark if mark in ("'", '"') and mark else ""
        row, column = (span.line + 1, 1) if mark and mark in "|>" else (span.line, span.column + len(quote))
        places: list[tuple[int, int, int]] = []
        while row <= len(lines):
            line = lines[row - 1]
            at = column - 1
            while at < len(line):
                width = 1
                if quote and line[at] == quote:
                    if quote == "'" and line[at + 1 : at + 2] == "'":
                        width = 2
                    else:
                        return places
                elif quote == '"' and line[at] == "\\":
                    width = {"x": 4, "u": 6, "U": 10}.get(line[at + 1 : at + 2], 2)
                    if line[at + 1 : at + 2] in ("", "n", "t", "r", " ", "N", "_", "L", "P", "v", "f", "e", "a", "b", "0"):
                        at += width
                        continue
                if not line[at].isspace():
                    places.append((row, at + 1, at + 1 + width))
                at += width
            if len(places) > _LONGEST_SCALAR:
                break
            row, column = row + 1, 1
        return places


def load(files: Sequence[Path], display: Sequence[str] | None = None) -> Source:
    """Read ``files`` in order, later ones laid over earlier ones by name, with the files that each includes.

    Never raises on bad content: what is wrong stands in ``Source.diagnostics``.
    """
    source = Source()
    names = list(display) if display is not None else [str(f) for f in files]
    for index, (path, name) in enumerate(zip(files, names, strict=True)):
        _load_file(source, path, name, overlay=index > 0, seen=(), loaded=set())
    if not source.data and not source.diagnostics:
        first = names[0] if names else "slos.yaml"
        source.diagnostics.append(_empty(first))
    return source


def _empty(name: str) -> Diagnostic:
    return Diagnostic("empty-file", f"{name} says nothing", Span(name, 1, 1, 2), hint="lgtm init writes a first file")


def _load_file(source: Source, path: Path, name: str, *, overlay: bool, seen: tuple[Path, ...], loaded: set[Path]) -> None:
    loaded.add(path.resolve())
    part = read(path, name)
    source.texts |= part.texts
    source.directories[name] = path.parent
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
        if "**" in pattern:
            # From the wrong directory it would walk through a whole disk before it says anything.
            source.diagnostics.append(
                Diagnostic(
                    "missing-include",
                    "a pattern with ** is not followed",
                    where,
                    hint="name each level: services/*.yaml, services/*/*.yaml",
                )
            )
            continue
        base = Path(pattern)
        try:
            found = [base] if base.is_absolute() else sorted(path.parent.glob(pattern))
            found = [f for f in found if f.is_file()]
        except (ValueError, NotImplementedError, OSError, RecursionError):
            # A NUL, a path that is too long, '**' in the wrong place: nothing that a file could be called.
            found = []
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
                source.diagnostics.append(
                    Diagnostic(
                        "include-cycle",
                        f"{pattern!r} includes a file that includes it" if seen else f"{pattern!r} includes this file itself",
                        where,
                        hint="remove one of the two",
                    )
                )
                continue
            if file.resolve() in loaded:
                continue  # two patterns, or two files, that lead to the same third
            child = str(Path(name).parent / file.relative_to(path.parent)) if not base.is_absolute() else str(file)
            _load_file(source, file, child, overlay=False, seen=(*seen, path.resolve()), loaded=loaded)


def read(path: Path, name: str) -> Source:
    """Read one file, without its includes."""
    source = Source(texts={name: ""})
    start = Span(name, 1, 1, 2)
    try:
        # One more byte than is read tells that there is more; a device file would never end.
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        source.diagnostics.append(
            Diagnostic("no-file", f"there is no file {name}", start, hint="name one with -f, or write one: lgtm init")
        )
        return source
    except ValueError:
        # A NUL in the name.
        source.diagnostics.append(
            Diagnostic("no-file", f"there is no file {name!r}", start, hint="name one with -f, or write one: lgtm init")
        )
        return source
    except OSError as error:
        hint = "name a file that you may read"
        source.diagnostics.append(Diagnostic("unreadable-file", f"cannot read {name}: {error.strerror}", start, hint=hint))
        return source
    if len(raw) > MAX_BYTES:
        source.diagnostics.append(
            Diagnostic(
                "file-too-large",
                f"{name} is larger than {MAX_BYTES // 2**20} MiB",
                start,
                hint="split it with include:",
            )
        )
        return source
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # The position is that of the byte among the characters before it, which are whole; a mark at the start is none.
        good = raw[: error.start].decode("utf-8-sig", "replace")
        before = split_lines(good)
        line, column = len(before), len(before[-1]) + 1
        hint = "save the file as UTF-8"
        if raw[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in raw[:64]:
            hint = "it looks like UTF-16: save it as UTF-8"
        source.texts[name] = raw[: error.start + 200].decode("utf-8-sig", "replace")
        source.diagnostics.append(
            Diagnostic("not-utf8", f"{name} is not UTF-8 text", Span(name, line, column, column + 1), hint=hint)
        )
        return source
    return read_text(text, name)


def read_text(text: str, name: str) -> Source:
    """Parse YAML text; ``name`` is what diagnostics call the file."""
    source = Source(texts={name: text})
    start = Span(name, 1, 1, 2)
    # A deep document would exhaust the parser's own stack, and a huge one the memory, before we could look at it.
    if (len(text) > _SMALL or _may_be_deep(text)) and (stop := _beyond_limits(text, name)) is not None:
        source.diagnostics.append(stop)
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
        # The parser's own position counts bytes; what it refuses is the first character that YAML does not print.
        position = next((m.start() for m in _UNPRINTABLE.finditer(text)), 0)
        before = split_lines(text[:position])
        line, column = len(before), len(before[-1]) + 1
        character = f"U+{ord(text[position]):04X}" if text else ""
        if "control characters" in problem or "special characters" in problem:
            problem = f"the character {character} may not stand in a text file"
        source.diagnostics.append(
            Diagnostic(
                "yaml-syntax",
                f"this is not YAML: {problem}",
                Span(name, line, column, column + 1),
                hint='remove it, or write it as "\\u…" in double quotes',
            )
        )
        return source
    except (RecursionError, ValueError, OverflowError):
        source.diagnostics.append(Diagnostic("yaml-syntax", "this is not YAML that can be read", start))
        return source
    finally:
        if loader is not None:
            loader.dispose()
    if node is None:
        source.diagnostics.append(_empty(name))
        return source
    builder = _Builder(source, name, text)
    try:
        data = builder.build(node, (), 0)
    except _TooMuch as stop:
        source.diagnostics.append(stop.diagnostic)
        return source
    except RecursionError:
        source.diagnostics.append(_too_deep(start))
        return source
    if data is None:
        source.diagnostics.append(_empty(name))
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


def _may_be_deep(text: str) -> bool:
    """Whether a text could nest so deep that a parser which recurses must not see it. Quick, and errs towards yes."""
    depth = deepest = 0
    for match in _BRACKET.finditer(text):
        if match.group() in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif depth:
            depth -= 1
    # Brackets inside quotes are counted too: what is exact is the count of the parser's events.
    return deepest > MAX_DEPTH or any(m.end() - m.start() > 8 * MAX_DEPTH for m in _INDENT.finditer(text))


def _beyond_limits(text: str, name: str) -> Diagnostic | None:
    """Where a text is nested too deep or holds too many values. Neither recurses nor builds anything."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    depth = count = 0
    try:
        while loader.check_event():
            event = loader.get_event()
            if isinstance(event, yaml.NodeEvent):
                count += 1
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            if depth > MAX_DEPTH + 1 or count > MAX_NODES:
                mark = event.start_mark
                span = Span(name, mark.line + 1, mark.column + 1, mark.column + 2)
                return _too_deep(span) if depth > MAX_DEPTH + 1 else _too_large(span)
    except (yaml.YAMLError, ValueError):
        pass  # the parser itself will say it
    finally:
        loader.dispose()
    return None


def _too_deep(span: Span) -> Diagnostic:
    return Diagnostic(
        "too-deep", f"this is nested more than {MAX_DEPTH} levels deep", span, hint="look for brackets that are never closed"
    )


def _too_large(span: Span) -> Diagnostic:
    message = f"more than {MAX_NODES} values, or more than {MAX_REPEATED} that aliases repeat; the limit is reached here"
    return Diagnostic("too-large", message, span, hint="use fewer aliases, or split the file into several projects")


# What libyaml says, in plain words, and what to do about it.
_SYNTAX: tuple[tuple[str, str, str], ...] = (
    ("mapping values are not allowed", "no colon can stand here", "quote a value that holds ': ', or mend the indentation"),
    ("could not find expected ':'", "this key has no colon", "a key needs a colon and a space after it"),
    ("found undefined alias", "nothing defines this alias", "define the anchor (&name) before it is used (*name)"),
    ("found another document", "a second document begins here", "one file holds one document: remove the '---' between them"),
    ("did not find expected key", "a key is expected here", "look at the indentation of this line and the one above"),
    (
        "did not find expected '-'",
        "an item of a list is expected here",
        "look at the indentation of this line and the one above",
    ),
    ("block sequence entries are not", "no list can begin here", "put the first '- ' on a line of its own"),
    ("found unknown escape", "this escape does not exist", "double the backslash, or use single quotes"),
    ("found unexpected end of stream", "this is never closed", "close the quote"),
    ("found incompatible YAML", "this version of YAML is not read", "remove the %YAML line"),
    ("cannot start any token", "{character} cannot begin a value", 'quote the value: "{character}…"'),
    ("expected ',' or", "a comma or a closing bracket is missing before this", "close the bracket, or quote the value"),
)


def _syntax_error(error: yaml.MarkedYAMLError, name: str, text: str) -> Diagnostic:
    lines = split_lines(text)

    def at(mark: yaml.Mark) -> Span:
        # At the end of the text there is nothing to point at but its last line.
        line = min(mark.line, len(lines) - 1)
        column = mark.column if line == mark.line else len(lines[line])
        return Span(name, line + 1, column + 1, column + 2)

    mark = error.problem_mark or error.context_mark
    span = at(mark) if mark is not None else Span(name, 1, 1, 2)
    here = lines[span.line - 1]
    said = error.problem or "it cannot be parsed"
    character = here[span.column - 1 : span.column] or "this"
    problem, hint = said, None
    for part, words, cure in _SYNTAX:
        if part in said:
            problem, hint = words.format(character=character), cure.format(character=character)
            break
    if "\t" in here[: len(here) - len(here.lstrip())] or character == "\t":
        problem, hint = "a tab stands where YAML counts spaces", "YAML is indented with spaces, not tabs"
    note = None
    before = error.context_mark
    if before is not None and mark is not None and before.line != mark.line and "another document" not in said:
        if "',' or" in said or "end of stream" in said:
            # The parser notices it long after: what is at fault is the bracket or quote that was opened.
            note = Note(span, "this cannot stand inside it" if here.strip() else "the text ends here")
            span = at(before)
            problem = "this is never closed"
        elif error.context:
            note = Note(at(before), error.context)
    return Diagnostic("yaml-syntax", f"this is not YAML: {problem}", span, hint=hint, note=note)


class _TooMuch(Exception):  # noqa: N818 - control flow inside this module
    def __init__(self, diagnostic: Diagnostic) -> None:
        self.diagnostic = diagnostic


class _Builder:
    """Turns a node graph into data, recording positions. An alias is expanded where it is used."""

    def __init__(self, source: Source, name: str, text: str) -> None:
        self.source = source
        self.name = name
        self.lines = split_lines(text)
        self.count = 0
        self.repeated = 0
        self.built: set[int] = set()
        # The collections that are being built: one that turns up again inside itself would never end.
        self.open: set[int] = set()

    def span(self, node: Node) -> Span:
        start, end = node.start_mark, node.end_mark
        line = self.lines[start.line] if start.line < len(self.lines) else ""
        stop = end.column if end.line == start.line else len(line.rstrip())
        return Span(self.name, start.line + 1, start.column + 1, max(stop, start.column + 1) + 1)

    def build(self, node: Node, path: Path_, depth: int) -> Data:
        self.count += 1
        if depth > MAX_DEPTH:
            raise _TooMuch(_too_deep(self.span(node)))
        if id(node) in self.built:
            self.repeated += 1
        else:
            self.built.add(id(node))
        if self.count > MAX_NODES or self.repeated > MAX_REPEATED:
            raise _TooMuch(_too_large(self.span(node)))
        self.source.values[path] = self.span(node)
        if node.tag not in _PLAIN_TAGS:
            self.fault(
                "yaml-trap",
                f"the tag {node.tag.replace('tag:yaml.org,2002:', '!!')} means nothing here",
                self.span(node),
                "remove it",
            )
        if isinstance(node, ScalarNode):
            return self.scalar(node)
        if id(node) in self.open:
            raise _TooMuch(
                Diagnostic(
                    "alias-cycle",
                    "this part contains an alias of itself, so that it would never end",
                    self.span(node),
                    hint="remove the alias inside it",
                )
            )
        self.open.add(id(node))
        try:
            if isinstance(node, MappingNode):
                return self.mapping(node, path, depth)
            return [self.build(child, (*path, index), depth + 1) for index, child in enumerate(node.value)]
        finally:
            self.open.discard(id(node))

    def mapping(self, node: MappingNode, path: Path_, depth: int) -> dict[str, Data]:
        data: dict[str, Data] = {}
        written: dict[str, Span] = {}
        for key_node, value_node in self.own_pairs(node):
            span = self.span(key_node)
            if not isinstance(key_node, ScalarNode):
                self.fault("wrong-type", "a key must be text", span, 'write it as key: value, and quote "{…}"')
                continue
            key = key_node.value
            if key_node.style not in _QUOTED and key.lower() in _TRAP_BOOL:
                self.fault(
                    "yaml-trap",
                    f"the key {key} is true or false to some YAML readers and text to others",
                    span,
                    f'quote it: "{key}"',
                )
            if key in written:
                first = written[key]
                self.fault(
                    "duplicate-key",
                    f"the key {show(key)} stands here twice",
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
                self.repeated += 1
                if self.repeated > MAX_REPEATED:
                    raise _TooMuch(_too_large(self.span(value)))
                if id(part) in self.open:
                    raise _TooMuch(
                        Diagnostic(
                            "alias-cycle",
                            "this merges a part into itself, so that it would never end",
                            self.span(value),
                            hint="remove the alias inside it",
                        )
                    )
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
        elif _TRAP_NUMBER.match(text):
            self.fault(
                "yaml-trap",
                f"{text} is a number to some YAML readers and text to others",
                self.span(node),
                f'write the number in plain digits, or quote it: "{text}"',
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
                        f"{show(key)} is set in two included files",
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
