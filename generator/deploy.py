"""Deployments as events: a log line that dashboards show as an annotation, and series that rules and figures read.

Both go to the collector by OTLP, so that a build machine needs one address and nothing else. What began when is looked up in
Prometheus, or in a file beside the project where Prometheus cannot be reached.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from generator import names, otlp, words
from generator.errors import LgtmError
from generator.project import Project
from generator.servers import Prometheus

TIMESTAMP = names.DEPLOYMENT_TIMESTAMP
DURATION = "deployment_duration_seconds"
RECOVERY = "deployment_recovery_seconds"

STARTED, SUCCEEDED, FAILED = "started", "succeeded", "failed"
_EVENTS = {STARTED: "deployment.started", SUCCEEDED: "deployment.finished", FAILED: "deployment.failed"}
_CONSEQUENCE = "The deployment is not recorded"
# A finish belongs to a start of the same service and version within this time.
_BELONGS_SECONDS = 86_400


@dataclass(frozen=True)
class Deployment:
    """One event of a deployment. ``at`` is Unix time; ``duration`` and ``recovery`` are in seconds.

    ``duration`` is known at the end when the start was recorded; ``recovery`` at the first success after a failure: the
    time for which the service was left with the failed one.
    """

    id: str
    service: str
    version: str
    commit: str
    environment: str
    status: str
    at: float
    duration: float | None = None
    recovery: float | None = None
    url: str | None = None

    @property
    def labels(self) -> dict[str, str]:
        """The labels of its series."""
        return {
            "service": self.service,
            "environment": self.environment,
            "version": self.version,
            "commit": self.commit,
            "deployment": self.id,
            "status": self.status,
        }

    def sentence(self) -> str:
        """What happened, for people."""
        commit = f" ({self.commit[:12]})" if self.commit else ""
        took = f" after {words.lasting(self.duration)}" if self.duration is not None else ""
        back = (
            f"; the service is well again {words.lasting(self.recovery)} after the failed one"
            if self.recovery is not None
            else ""
        )
        return f"Deployment of {self.service} {self.version}{commit} {self.status}{took}{back}"

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


def record(
    project: Project,
    status: str,
    *,
    service: str,
    version: str,
    commit: str = "",
    environment: str,
    url: str | None = None,
    endpoint: str | None = None,
    now: float | None = None,
) -> Deployment:
    """Record that a deployment started, succeeded or failed, and return it.

    ``endpoint`` is the collector's base address (default: this project's). Failing a deployment that has succeeded marks it
    as one that had to be taken back. Raises LgtmError when the collector takes nothing.
    """
    at = time.time() if now is None else now
    known = _events(project, service, environment)
    deployment = _of(known, status, service=service, version=version, commit=commit, environment=environment, url=url, at=at)
    base = otlp.address(project, endpoint)
    otlp.post(f"{base}/v1/logs", _log(deployment), _CONSEQUENCE)
    otlp.post(f"{base}/v1/metrics", _metrics(deployment), _CONSEQUENCE)
    _remember(project, deployment)
    return deployment


def _of(
    known: list[Deployment],
    status: str,
    *,
    service: str,
    version: str,
    commit: str,
    environment: str,
    url: str | None,
    at: float,
) -> Deployment:
    if status == STARTED:
        id_ = f"{version}-{int(at)}"
        return Deployment(id_, service, version, commit, environment, status, at, url=url)
    starts = [d for d in known if d.status == STARTED and d.version == version and 0 <= at - d.at <= _BELONGS_SECONDS]
    start = max(starts, key=lambda d: d.at, default=None)
    # A failure of what has succeeded before is news of that deployment, not a long one.
    over = start is not None and any(d.id == start.id and d.status == SUCCEEDED for d in known)
    recovery = None
    if status == SUCCEEDED:
        last_success = max((d.at for d in known if d.status == SUCCEEDED and not _taken_back(d, known)), default=0.0)
        # From the first failure on that nothing has mended since.
        recovery = max((at - d.at for d in known if d.status == FAILED and d.at > last_success), default=None)
    return Deployment(
        id=start.id if start else f"{version}-{int(at)}",
        service=service,
        version=version,
        commit=commit or (start.commit if start else ""),
        environment=environment,
        status=status,
        at=at,
        duration=at - start.at if start and not over else None,
        recovery=recovery,
        url=url or (start.url if start else None),
    )


def _taken_back(deployment: Deployment, known: list[Deployment]) -> bool:
    return any(d.id == deployment.id and d.status == FAILED for d in known)


def _events(project: Project, service: str, environment: str) -> list[Deployment]:
    """What is known of earlier deployments: Prometheus's series of 30 days, and this machine's file."""
    found: dict[tuple[str, str], Deployment] = {}
    for deployment in _remembered(project):
        if (deployment.service, deployment.environment) == (service, environment):
            found[deployment.id, deployment.status] = deployment
    selector = f"service={json.dumps(service)},environment={json.dumps(environment)}"
    with contextlib.suppress(LgtmError):
        for labels, value in query(project, f"last_over_time({TIMESTAMP}{{{selector}}}[30d])", timeout=2):
            deployment = _from_labels(labels, value)
            found.setdefault((deployment.id, deployment.status), deployment)
    return list(found.values())


def _from_labels(labels: Mapping[str, str], value: float) -> Deployment:
    return Deployment(
        labels.get("deployment", ""),
        labels.get("service", ""),
        labels.get("version", ""),
        labels.get("commit", ""),
        labels.get("environment", ""),
        labels.get("status", ""),
        value,
    )


def query(project: Project, promql: str, *, at: float | None = None, timeout: float = 5) -> list[tuple[dict[str, str], float]]:
    """The series of an instant query: labels and value. Raises UnreachableError and AnswerError."""
    client = Prometheus(project.url("prometheus"), timeout=timeout)
    try:
        parameters = {"query": promql} if at is None else {"query": promql, "time": f"{at:.3f}"}
        data = client.json("/api/v1/query", **parameters)["data"]["result"]
    finally:
        client.close()
    return [(row["metric"], float(row["value"][1])) for row in data if "value" in row]


def before(project: Project, service: str, at: float, *, days: int = 30) -> list[Deployment]:
    """The events of ``service`` up to ``at`` (Unix time), newest first. Raises UnreachableError and AnswerError."""
    rows = query(project, f"last_over_time({TIMESTAMP}{{service={json.dumps(service)}}}[{days}d])", at=at)
    return sorted((_from_labels(labels, value) for labels, value in rows), key=lambda d: -d.at)


# Figures over a range such as 30d, by service: the queries that dashboards may use as they are.
_CHANGES = (
    f"count by (service) (count by (service, deployment) (last_over_time({TIMESTAMP}{{status=~'succeeded|failed'}}[RANGE])))"
)
_BROKEN = f"count by (service) (count by (service, deployment) (last_over_time({TIMESTAMP}{{status='failed'}}[RANGE])))"
_GOOD = f"count by (service) (count by (service, deployment) (last_over_time({TIMESTAMP}{{status='succeeded'}}[RANGE])))"
FIGURES: Mapping[str, str] = {
    "deployments": _CHANGES,
    "success_rate": f"({_GOOD} or 0 * {_CHANGES}) / {_CHANGES}",
    "change_failure_rate": f"({_BROKEN} or 0 * {_CHANGES}) / {_CHANGES}",
    "duration_seconds": f"avg by (service) (last_over_time({DURATION}{{status='succeeded'}}[RANGE]))",
    "time_to_recovery_seconds": f"avg by (service) (last_over_time({RECOVERY}[RANGE]))",
}


def figure(name: str, range_: str = "30d") -> str:
    """The query of a figure over a range. Raises KeyError for an unknown one."""
    return FIGURES[name].replace("RANGE", range_)


def figures(project: Project, days: int = 30) -> dict[str, dict[str, float]]:
    """Each service's figures over the last ``days``, with ``per_day``. Raises UnreachableError and AnswerError."""
    found: dict[str, dict[str, float]] = {}
    for name in FIGURES:
        for labels, value in query(project, figure(name, f"{days}d")):
            found.setdefault(labels.get("service", ""), {})[name] = value
    for service in found.values():
        service["per_day"] = service.get("deployments", 0.0) / days
    return dict(sorted(found.items()))


def _log(deployment: Deployment) -> dict[str, object]:
    failed = deployment.status == FAILED
    return {
        "resourceLogs": [
            {
                "resource": {
                    "attributes": otlp.attributes(
                        {
                            "service.name": deployment.service,
                            "service.version": deployment.version,
                            "deployment.environment.name": deployment.environment,
                        }
                    )
                },
                "scopeLogs": [
                    {
                        "scope": {"name": "lgtm.deploy"},
                        "logRecords": [
                            {
                                "timeUnixNano": str(int(deployment.at * 1e9)),
                                # Normal but significant. Dashboards find it by the severity among all other lines.
                                "severityNumber": 17 if failed else 10,
                                "severityText": "ERROR" if failed else "NOTICE",
                                "body": {"stringValue": deployment.sentence()},
                                "attributes": otlp.attributes(
                                    {
                                        "event": _EVENTS[deployment.status],
                                        "deployment.id": deployment.id,
                                        "deployment.status": deployment.status,
                                        "deployment.version": deployment.version,
                                        "deployment.commit": deployment.commit,
                                        "deployment.url": deployment.url,
                                        "deployment.duration": deployment.duration,
                                        "deployment.recovery": deployment.recovery,
                                    }
                                ),
                            }
                        ],
                    }
                ],
            }
        ]
    }


def _metrics(deployment: Deployment) -> dict[str, object]:
    # Gauges of one sample each: what they say does not change, and Prometheus keeps it for as long as it keeps anything.
    values = {
        "deployment.timestamp": deployment.at,
        "deployment.duration": deployment.duration,
        "deployment.recovery": deployment.recovery,
    }
    labels = tuple(deployment.labels.items())
    metrics = [otlp.gauge(name, "s", {labels: value}, deployment.at) for name, value in values.items() if value is not None]
    resource = {"attributes": otlp.attributes({"service.name": "deployments"})}
    return {"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": metrics}]}]}


def _remembered(project: Project) -> list[Deployment]:
    try:
        rows = json.loads((project.root / ".lgtm" / "deployments.json").read_text(encoding="utf-8"))
        return [Deployment(**row) for row in rows]
    except (OSError, ValueError, TypeError):
        return []


def _remember(project: Project, deployment: Deployment) -> None:
    # A read-only checkout on a build machine is no reason to fail.
    with contextlib.suppress(OSError):
        path = project.root / ".lgtm" / "deployments.json"
        path.parent.mkdir(exist_ok=True)
        rows = [*_remembered(project), deployment][-200:]
        path.write_text(json.dumps([asdict(row) for row in rows], indent=1), encoding="utf-8")
