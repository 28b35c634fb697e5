"""The registry of processes: ``slos.yaml`` itself, so that code and objectives cannot drift apart unnoticed.

``setup(registry="slos.yaml")`` reads ``services.<service>.processes``. A process of the code that is not there, or has
another version, is one warning at start (or at its first execution, where the code names it only then), and
``process.registry.mismatches`` counts them.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Registered:
    """A process as the registry has it; None and empty where it says nothing."""

    version: str | None = None
    stages: tuple[str, ...] = ()
    sla: str | None = None
    critical: bool = False


@dataclass
class Registry:
    """The processes of one service, by id."""

    processes: Mapping[str, Registered]
    source: str
    mismatches: int = 0
    _told: set[tuple[str, str]] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def versions(self) -> dict[str, str]:
        """Process id → version, of the processes that state one."""
        return {name: p.version for name, p in self.processes.items() if p.version is not None}

    def check(self, process_id: str, version: str | None) -> str | None:
        """What is wrong with a process of the code, in a sentence; None when nothing is.

        A registry without any process is one that nobody has begun, and says nothing.
        """
        if not self.processes:
            return None
        known = self.processes.get(process_id)
        if known is None:
            there = ", ".join(sorted(self.processes))
            return f"Process {process_id} is not in {self.source} (there: {there}): no objective and no alert covers it."
        if version is not None and known.version is not None and version != known.version:
            return f"Process {process_id} runs version {version}, but {self.source} says {known.version}."
        return None

    def tell(self, process_id: str, version: str | None) -> None:
        """Warn, once for each process and version."""
        key = (process_id, version or "")
        if key in self._told:
            return
        with self._lock:
            if key in self._told:
                return
            self._told.add(key)
        if (wrong := self.check(process_id, version)) is not None:
            self.mismatches += 1
            _logger.warning(
                "%s",
                wrong,
                extra={"event": "process.unregistered", "process.id": process_id, "process.version": version or "unknown"},
            )


def load(source: str | Path | Mapping[str, Any], service: str) -> Registry:
    """The registry of ``service`` in a spec: its file (YAML, for which PyYAML is needed, or JSON) or its parsed data.

    ``include:`` is followed. Raises OSError for a file that cannot be read, ValueError for one that is not a spec.
    """
    if isinstance(source, Mapping):
        return Registry(_processes([source], service), "the registry")
    path = Path(source)
    return Registry(_processes(list(_documents(path, set())), service), path.name)


def _documents(path: Path, seen: set[Path]) -> Iterable[Mapping[str, Any]]:
    path = path.resolve()
    if path in seen:
        return
    seen.add(path)
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        data = json.loads(text)
    else:
        try:
            import yaml
        except ModuleNotFoundError as error:
            raise ValueError(f"{path.name} is YAML: install PyYAML, or give setup() parsed data or a JSON file") from error
        try:
            data = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(f"{path.name} is not YAML: {error}") from error
    if not isinstance(data, Mapping):
        raise ValueError(f"{path.name} is not a spec: it holds no services")
    yield data
    for pattern in _list(data.get("include")):
        for included in sorted(path.parent.glob(str(pattern))):
            yield from _documents(included, seen)


def _processes(documents: list[Mapping[str, Any]], service: str) -> dict[str, Registered]:
    found: dict[str, Registered] = {}
    for document in documents:
        services = document.get("services")
        described = services.get(service) if isinstance(services, Mapping) else None
        processes = described.get("processes") if isinstance(described, Mapping) else None
        for name, process in (processes or {}).items() if isinstance(processes, Mapping) else ():
            data = process if isinstance(process, Mapping) else {}
            version, sla = data.get("version"), data.get("sla")
            found[str(name)] = Registered(
                None if version is None else str(version),
                tuple(str(s) for s in _list(data.get("stages"))),
                None if sla is None else str(sla),
                bool(data.get("critical", False)),
            )
    return found


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]
