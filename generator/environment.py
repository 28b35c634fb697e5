"""References to environment variables: ``${NAME}`` and ``${NAME:-value}``, in addresses and nowhere else.

A file that means another thing on each machine cannot be reviewed; addresses are what truly differs. Everything else is
for an overlay, which is a file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from generator.diagnostics import Diagnostic
from generator.source import Data, Path_, Source

_REFERENCE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<otherwise>[^}]*))?\}")
_ANY = None
# Where references are filled in.
ALLOWED: tuple[tuple[str | None, ...], ...] = (
    ("links", _ANY),
    ("services", _ANY, "scrape", "targets"),
    ("services", _ANY, "scrape", "targets", _ANY),
    ("services", _ANY, "probes", _ANY, "url"),
    ("routing", "receivers", _ANY, _ANY, "url"),
    ("routing", "receivers", _ANY, "email", "smarthost"),
    ("routing", "receivers", _ANY, "email", "to"),
    ("routing", "receivers", _ANY, "email", "to", _ANY),
    ("routing", "receivers", _ANY, "email", "from"),
)
# Keys whose text may hold ${…} that means something else: prose, commands, queries, templates.
_OTHER = frozenset({"title", "description", "summary", "reason", "runbook", "expr", "sli", "alertmanager"})


def fill(source: Source, variables: Mapping[str, str] | None = None) -> None:
    """Fill in the references of ``source`` where they are allowed; a diagnostic for each other one."""
    environment = os.environ if variables is None else variables
    if any("${" in text for text in source.texts.values()):
        _walk(source.data, (), source, environment)


def _walk(data: Data, path: Path_, source: Source, variables: Mapping[str, str]) -> None:
    items: list[tuple[str | int, Data]] = []
    if isinstance(data, dict):
        items = list(data.items())
    elif isinstance(data, list):
        items = list(enumerate(data))
    for key, value in items:
        here = (*path, key)
        if isinstance(value, str):
            if "${" in value and _REFERENCE.search(value):
                data[key] = _filled(value, here, source, variables)  # type: ignore[index]
        elif key not in _OTHER:
            _walk(value, here, source, variables)


def _filled(value: str, path: Path_, source: Source, variables: Mapping[str, str]) -> str:
    if not any(len(p) == len(path) and all(a is _ANY or a == b for a, b in zip(p, path, strict=True)) for p in ALLOWED):
        if not any(part in _OTHER for part in path):
            first = _REFERENCE.search(value)
            offset, length = (first.start(), len(first[0])) if first else (0, 1)
            source.diagnostics.append(
                Diagnostic(
                    "env-not-allowed",
                    "the environment may not decide this",
                    source.within(path, offset, length),
                    hint="lay a second file over this one with -f; ${NAME} may stand in addresses",
                )
            )
        return value

    def one(match: re.Match[str]) -> str:
        name, otherwise = match["name"], match["otherwise"]
        if found := variables.get(name):
            return found
        if otherwise is not None:
            return otherwise
        source.diagnostics.append(
            Diagnostic(
                "unset-variable",
                f"the environment has no {name}",
                source.within(path, match.start(), len(match[0])),
                hint=f"set it, or write ${{{name}:-value}}",
            )
        )
        return "unset"

    return _REFERENCE.sub(one, value)
