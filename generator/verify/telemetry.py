"""The outcome of `lgtm verify` as metrics and logs, where alerts see it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence

from generator import engine, otlp
from generator.errors import LgtmError
from generator.project import Project
from generator.verify import KINDS, machine
from generator.verify.check import LEVELS, Check, Level


def counts(checks: Iterable[Check]) -> dict[tuple[str, Level], int]:
    """How many checks of each kind have each level; also those that are none."""
    found: dict[tuple[str, Level], int] = {(kind, level): 0 for kind in KINDS for level in LEVELS}
    for check in checks:
        found[check.kind, check.level] = found.get((check.kind, check.level), 0) + 1
    return found


def push(project: Project, checks: Sequence[Check], *, endpoint: str | None = None, at: float | None = None) -> None:
    """Send the outcome to the collector: two series for alerts, the free disk, and a log line for each failure.

    Raises LgtmError when the collector takes nothing.
    """
    now = time.time() if at is None else at
    base = otlp.address(project, endpoint)
    points: dict[tuple[tuple[str, str], ...], float] = {
        (("kind", kind), ("level", level)): float(count) for (kind, level), count in counts(checks).items()
    }
    metrics = [
        otlp.gauge("lgtm.verify.checks", "", points, now),
        otlp.gauge("lgtm.verify.timestamp", "s", {(): now}, now),
    ]
    with contextlib.suppress(OSError, LgtmError), contextlib.closing(engine.connect(timeout=5)) as client:
        free = machine.disk_free(project, client.api.info().get("DockerRootDir"))[1]
        metrics.append(otlp.gauge("lgtm.verify.disk.free", "By", {(): float(free)}, now))
    resource = {"attributes": otlp.attributes({"service.name": "lgtm"})}
    consequence = "The result was not sent"
    otlp.post(
        f"{base}/v1/metrics",
        {"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"scope": {"name": "lgtm.verify"}, "metrics": metrics}]}]},
        consequence,
    )
    records = [
        {
            "timeUnixNano": str(int(now * 1e9)),
            "severityNumber": 17,
            "severityText": "ERROR",
            "body": {"stringValue": f"{check.kind}: {check.name}: {check.text}"},
            "attributes": otlp.attributes(
                {"event": "verify.failed", "kind": check.kind, "name": check.name, "cure": check.cure}
            ),
        }
        for check in checks
        if check.level == "fail"
    ]
    if records:
        logs = {"resource": resource, "scopeLogs": [{"scope": {"name": "lgtm.verify"}, "logRecords": records}]}
        otlp.post(f"{base}/v1/logs", {"resourceLogs": [logs]}, consequence)
