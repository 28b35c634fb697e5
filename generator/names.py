"""Every metric, label, rule, alert, uid and file name that the generated parts share, in one place."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

# Recorded series. Names follow Prometheus's level:metric:operation convention.
ERRORS_RATE = "slo:sli_errors:rate"
TOTAL_RATE = "slo:sli_total:rate"
ERRORS_SLOW = "slo:sli_errors:sum5m"
TOTAL_SLOW = "slo:sli_total:sum5m"
ERRORS_COUNTED = "slo:sli_errors:counted"
TOTAL_COUNTED = "slo:sli_total:counted"
ERRORS_WINDOW = "slo:sli_errors:sum_window"
TOTAL_WINDOW = "slo:sli_total:sum_window"
HISTORY_START = "slo:history_start:timestamp"
ERROR_BUDGET = "slo:error_budget:ratio"
BUDGET_REMAINING = "slo:error_budget_remaining:ratio"
SLA_REMAINING = "slo:sla_budget_remaining:ratio"
# What `lgtm deploy` records: the value is the Unix time of the event.
DEPLOYMENT_TIMESTAMP = "deployment_timestamp_seconds"
# Severities that are no error, as a pattern. Loki keeps a stream for each severity: who looks for errors need not read these.
# What says no severity, or one in words of its own, is read, and the level that Loki makes out decides.
USUAL_SEVERITIES = "trace|debug|info|information|warn|warning"
NOT_ERRORS = f'severity_text!~"(?i)({USUAL_SEVERITIES}|notice)[1-4]?"'
ERROR_LEVELS = "error|fatal|critical"
# What Loki's ruler records of logs and writes to Prometheus.
LOG_ERRORS = "slo:log_errors:rate"
LOG_TOTAL = "slo:log_total:rate"

# Alerts that the generator makes.
ALERT_BURN = "SLOBurnRate"
ALERT_NO_DATA = "SLONoData"
ALERT_PROBE = "ProbeFailing"
ALERT_WATCHDOG = "Watchdog"
ALERT_EXHAUSTED = "SLOBudgetExhausted"
ALERT_FREEZE = "SLODeploymentFreeze"
RESERVED_ALERTS = (
    f"{ALERT_BURN}Critical",
    f"{ALERT_BURN}Warning",
    ALERT_NO_DATA,
    ALERT_PROBE,
    ALERT_WATCHDOG,
    ALERT_EXHAUSTED,
    ALERT_FREEZE,
)

SEVERITIES = ("critical", "warning", "info")
TIERS = ("critical", "high", "medium", "low")

# Labels that identify an SLO on every series; `by` labels come beside them.
IDENTITY = ("service", "slo")
# Labels that a `by` may not use, because they mean something on the series or the alerts themselves.
RESERVED_LABELS = frozenset({*IDENTITY, "owner", "tier", "severity", "alertname", "le", "quantile", "__name__", "probe"})

PROBE_JOB = "probe"
# What prometheus.yml scrapes itself.
STACK_JOBS = frozenset(
    {"prometheus", "alertmanager", "loki", "tempo", "collector", "blackbox", "optional", "targets", PROBE_JOB}
)
# Bounds of the buckets of lgtm_instrumentation's process durations, in seconds.
PROCESS_BUCKETS = (
    "0.005", "0.01", "0.025", "0.05", "0.1", "0.2", "0.3", "0.5", "1", "2", "3", "5", "7.5", "10", "15", "20", "30", "45", "60",
    "90", "120", "180", "300",
)  # fmt: skip
BLACKBOX_ADDRESS = "blackbox:9115"
# Where a secret of `secrets/` is found inside the container that needs it.
SECRETS_DIRECTORY = "/run/lgtm-secrets"
ALERTMANAGER_TEMPLATES = "/etc/alertmanager/templates/*.tmpl"

# Grafana's data sources, as grafana/provisioning/datasources names them.
DATASOURCES = ("prometheus", "loki", "tempo", "alertmanager")
OVERVIEW_UID = "overview"
STACK_UID = "stack"
INCIDENT_UID = "incident"
DEPLOYMENTS_UID = "deployments"
SLA_UID = "sla"
PROBES_UID = "probes"
ALERTS_UID = "alerts"
ERRORS_UID = "errors"


def error_ratio(window: object) -> str:
    """The recorded error ratio over a window such as ``1h``."""
    return f"slo:error_ratio:{window}"


def errors_sum(window: object) -> str:
    """The recorded sum of the errors' rates over a window such as ``1h``."""
    return f"slo:sli_errors:sum_{window}"


def burn_alert(severity: str) -> str:
    """The burn-rate alert of a severity: one name per severity, so that routes and silences stay stable."""
    return f"{ALERT_BURN}{severity.capitalize()}"


def service_uid(service: str) -> str:
    """The uid of a service's dashboard. Grafana allows 40 letters, digits, `-` and `_`; any other gets a digest."""
    return _uid("service", service)


def runbook_uid(service: str) -> str:
    """The uid of the page that holds a service's runbooks."""
    return _uid("runbook", service)


def process_uid(service: str, process: str) -> str:
    """The uid of the page of a service's process. The dot can be in no uid, so that two never make the same one."""
    return _uid("process", f"{service}.{process}")


def board_uid(group: str) -> str:
    """The uid of the page for a heading of `panels`; headings that differ in case and signs only share one."""
    return _uid("board", re.sub(r"[^a-z0-9]+", "-", group.lower()).strip("-"))


def uid_is_cut(name: str) -> bool:
    """Whether a service's name cannot stand in its uids as it is."""
    return service_uid(name) != f"service-{name}" or runbook_uid(name) != f"runbook-{name}"


def _uid(kind: str, name: str) -> str:
    uid = f"{kind}-{name}"
    if re.fullmatch(r"[A-Za-z0-9_-]{1,40}", uid):
        return uid
    return f"{re.sub(r'[^A-Za-z0-9_-]', '-', uid)[:31]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def metric_glossary() -> Iterable[tuple[str, str]]:
    """Each recorded series with what it means, for the reference."""
    return (
        (ERRORS_RATE, "bad events per second, every 30 s, from the raw counters"),
        (TOTAL_RATE, "all events per second, every 30 s, from the raw counters"),
        (ERRORS_SLOW, "five minutes of errors summed, every 5 min: what long windows read"),
        (TOTAL_SLOW, "five minutes of all events summed, every 5 min"),
        (ERRORS_COUNTED, "errors over the SLO's own window as far as sums of five minutes have come, every 5 min"),
        (TOTAL_COUNTED, "all events over the SLO's own window, the same"),
        (ERRORS_WINDOW, "errors over the SLO's own window up to now, every 30 s, as a sum of rates: times 30 s, events"),
        (TOTAL_WINDOW, "all events over the SLO's own window up to now, the same"),
        (errors_sum("<window>"), "errors over a window of which an alert counts the bad events"),
        (
            HISTORY_START,
            "Unix time from which on the SLO's events are known, by group; the time before counts as good",
        ),
        (
            error_ratio("<window>"),
            "share of bad events over a window, weighted by traffic; all was good before the history began",
        ),
        (ERROR_BUDGET, "share of events that may fail (1 - objective), with the SLO's metadata as labels"),
        (LOG_ERRORS, "bad log lines per second, recorded by Loki's ruler"),
        (LOG_TOTAL, "log lines per second of which those are a part, the same"),
        (SLA_REMAINING, "share of an SLA's error budget left in this calendar month or quarter (UTC), by whole hours"),
        (BUDGET_REMAINING, "share of the error budget left over the SLO's window: 1 untouched, below 0 overspent"),
    )


def alert_glossary() -> Iterable[tuple[str, str]]:
    """Each alert that the generator makes with when it fires, for the reference."""
    return (
        (f"{ALERT_BURN}Critical", "a condition under `critical` of the SLO's burn-rate policy holds over both its windows"),
        (f"{ALERT_BURN}Warning", "a condition under `warning` of the SLO's burn-rate policy holds over both its windows"),
        (ALERT_NO_DATA, "the metrics that an SLO reads are not there, so that nobody knows"),
        (ALERT_PROBE, "a probe failed as often in a row as its `failures` says"),
        (ALERT_EXHAUSTED, "nothing is left of an SLO's budget; where its policy has `exhausted`"),
        (ALERT_FREEZE, "less of an SLO's budget is left than its policy's `freeze` demands: deploy nothing"),
        (ALERT_WATCHDOG, "always: when it stops arriving, alerting is broken"),
    )
