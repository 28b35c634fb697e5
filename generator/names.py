"""Every metric, label, rule, alert, uid and file name that the generated parts share, in one place."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

# Recorded series. Names follow Prometheus's level:metric:operation convention.
ERRORS_RATE = "slo:sli_errors:rate"
TOTAL_RATE = "slo:sli_total:rate"
ERRORS_SLOW = "slo:sli_errors:sum5m"
TOTAL_SLOW = "slo:sli_total:sum5m"
ERROR_BUDGET = "slo:error_budget:ratio"
BUDGET_REMAINING = "slo:error_budget_remaining:ratio"

# Alerts that the generator makes.
ALERT_BURN = "SLOBurnRate"
ALERT_NO_DATA = "SLONoData"
ALERT_PROBE = "ProbeFailing"
ALERT_WATCHDOG = "Watchdog"
RESERVED_ALERTS = (f"{ALERT_BURN}Critical", f"{ALERT_BURN}Warning", ALERT_NO_DATA, ALERT_PROBE, ALERT_WATCHDOG)

SEVERITIES = ("critical", "warning", "info")
TIERS = ("critical", "high", "medium", "low")

# Labels that identify an SLO on every series; `by` labels come beside them.
IDENTITY = ("service", "slo")
# Labels that a `by` may not use, because they mean something on the series or the alerts themselves.
RESERVED_LABELS = frozenset({*IDENTITY, "owner", "tier", "severity", "alertname", "le", "quantile", "__name__", "probe"})

PROBE_JOB = "probe"
BLACKBOX_ADDRESS = "blackbox:9115"
# Where a secret of `secrets/` is found inside the container that needs it.
SECRETS_DIRECTORY = "/run/lgtm-secrets"
ALERTMANAGER_TEMPLATES = "/etc/alertmanager/templates/*.tmpl"

# Grafana's data sources, as grafana/provisioning/datasources names them.
DATASOURCES = ("prometheus", "loki", "tempo", "alertmanager")
OVERVIEW_UID = "overview"


def error_ratio(window: object) -> str:
    """The recorded error ratio over a window such as ``1h``."""
    return f"slo:error_ratio:{window}"


def burn_alert(severity: str) -> str:
    """The burn-rate alert of a severity: one name per severity, so that routes and silences stay stable."""
    return f"{ALERT_BURN}{severity.capitalize()}"


def service_uid(service: str) -> str:
    """The uid of a service's dashboard. Grafana allows 40 characters; a longer one is cut and gets a digest."""
    return _uid("service", service)


def runbook_uid(service: str) -> str:
    """The uid of the page that holds a service's runbooks."""
    return _uid("runbook", service)


def _uid(kind: str, name: str) -> str:
    uid = f"{kind}-{name}"
    if len(uid) <= 40:
        return uid
    return f"{uid[:31]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def metric_glossary() -> Iterable[tuple[str, str]]:
    """Each recorded series with what it means, for the reference."""
    return (
        (ERRORS_RATE, "bad events per second, every 30 s, from the raw counters"),
        (TOTAL_RATE, "all events per second, every 30 s, from the raw counters"),
        (ERRORS_SLOW, "five minutes of errors summed, every 5 min: what long windows read"),
        (TOTAL_SLOW, "five minutes of all events summed, every 5 min"),
        (error_ratio("<window>"), "share of bad events over a window, weighted by traffic"),
        (ERROR_BUDGET, "share of events that may fail (1 - objective), with the SLO's metadata as labels"),
        (BUDGET_REMAINING, "share of the error budget left over the SLO's window: 1 untouched, below 0 overspent"),
    )
