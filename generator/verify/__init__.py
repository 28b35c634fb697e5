"""The running stack against the file: is what runs what slos.yaml says, and does it work?

Every kind of check is a function in a module here that asks the servers and yields `Check`s. All kinds run at once and share
what was asked (`look`); a server that does not answer is told once, and what needed it is skipped. Nothing is changed.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterable, Mapping, Sequence

from generator import stack
from generator.model import Model
from generator.progress import Report
from generator.project import Project
from generator.render import Artifact
from generator.verify import alerting, drift, machine, metrics, reach, rules, traces
from generator.verify.check import Check
from generator.verify.look import SILENT, Kind, Look, in_parts

# In the order in which they are printed: what explains the rest first.
KINDS: Mapping[str, Kind] = {
    "servers": reach.servers,
    "files": drift.files,
    "config": drift.config,
    "rules": rules.rules,
    "evaluation": rules.evaluation,
    "targets": reach.targets,
    "probes": reach.probes,
    "slis": metrics.slis,
    "processes": metrics.processes,
    "traces": traces.traces,
    "receivers": alerting.receivers,
    "watchdog": alerting.watchdog,
    "dashboards": drift.dashboards,
    "cardinality": machine.cardinality,
    "retention": machine.retention,
    "disk": machine.disk,
    "clock": machine.clock,
}
QUICK = ("files", "config", "rules")
# Kinds of which `apply` mends the failures.
REPAIRABLE = ("files", "config", "rules", "dashboards")


def verify(
    project: Project,
    model: Model,
    artifacts: Iterable[Artifact],
    *,
    quick: bool = False,
    only: Sequence[str] = (),
    report: Report = lambda line: None,
) -> list[Check]:
    """Everything that was looked at, by kind; never raises for a server that is down or answers oddly.

    ``quick`` looks only whether files, configuration and rules are those of the spec and healthy: after `apply`.
    ``only`` names kinds (``KINDS``).
    """
    kinds = [kind for kind in KINDS if (kind in only if only else not quick or kind in QUICK)]
    report(f"looking at {', '.join(kinds)}")
    look = Look(project, model, artifacts, quick=quick)
    try:
        with concurrent.futures.ThreadPoolExecutor(len(kinds), thread_name_prefix="verify") as pool:
            futures = [pool.submit(_listed, look, kind) for kind in kinds]
            found = [check for future in futures for check in future.result()]
    finally:
        look.close()
    if "servers" not in kinds:
        # Whoever asks for a few kinds only is told all the same that the others' silence has a reason.
        silent = {check.name: check for check in found if check.level == "skipped" and check.text.startswith(SILENT)}
        found = [Check("servers", n, "fail", c.text, c.cure) for n, c in silent.items() if n not in stack.OPTIONAL] + found
    return found


def _listed(look: Look, kind: str) -> list[Check]:
    return list(in_parts(look, kind, [KINDS[kind]]))


def failed(checks: Iterable[Check]) -> bool:
    """Whether any check failed."""
    return any(check.level == "fail" for check in checks)
