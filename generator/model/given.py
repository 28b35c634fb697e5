"""What every part of resolving has at hand: the spec, where each part of it stands, and what was found wrong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from generator import runbooks
from generator.diagnostics import Diagnostic, Note
from generator.model.policies import BUILT_IN_POLICIES
from generator.source import Path_, Source
from generator.spec import Policy, Runbook, Spec
from generator.units import Duration, show


class Given:
    """A spec on its way to a Model. ``whole`` tells that nothing of the file was left out."""

    def __init__(self, spec: Spec, source: Source, *, whole: bool, retention: Duration | None) -> None:
        self.spec = spec
        self.source = source
        self.whole = whole
        self.retention = retention
        self.diagnostics: list[Diagnostic] = []
        self.policies: Mapping[str, Policy] = {**BUILT_IN_POLICIES, **spec.alerting}

    def say(
        self,
        code: str,
        message: str,
        path: Path_,
        hint: str | None = None,
        *,
        on_key: bool = False,
        warning: bool = False,
        note: Note | None = None,
    ) -> None:
        """Add a diagnostic about the value at a path of the file, or about its key."""
        span = self.source.key_span(path) if on_key else self.source.value_span(path)
        self.diagnostics.append(
            Diagnostic(code, message, span, severity="warning" if warning else "error", hint=hint, note=note)
        )

    def runbook(self, runbook: Runbook | None, at: Path_) -> Runbook | None:
        """A runbook; one that is a file must exist, and is read."""
        if runbook is None or runbook.file is None:
            return runbook
        path: Path_ = (*at, "file") if (*at, "file") in self.source.values else at
        name = self.source.value_span(path).file
        try:
            text = (self.source.directories.get(name, Path()) / runbook.file).read_text(encoding="utf-8")
        except (OSError, ValueError):
            self.say("no-runbook", f"there is no runbook {show(runbook.file)}", path, f"the path is relative to {name}")
            return runbook
        # What stands in the spec itself goes before what the file says.
        return runbooks.parse(text).model_copy(update={key: getattr(runbook, key) for key in runbook.model_fields_set})
