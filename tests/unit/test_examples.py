"""Each example against a table of what its organisation asks for: every alert, threshold, receiver, interval, process."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from generator import model, render
from generator.model import Model, ResolvedAlert, ResolvedProbe, ResolvedService, ResolvedSlo
from generator.render import alertmanager
from generator.units import Duration

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = ("axcouncil", "beacon", "greenstack", "livesop", "operations")
RETENTION = Duration.of("100d")


def load(name: str) -> Model:
    result = model.load([EXAMPLES / f"{name}.yaml"], [f"{name}.yaml"], retention=RETENTION, variables={})
    assert result.model is not None, [(d.span.line, d.code, d.message) for d in result.diagnostics]
    assert not result.diagnostics, [(d.span.line, d.code, d.message) for d in result.diagnostics]
    return result.model


def service(found: Model, name: str) -> ResolvedService:
    return next(s for s in found.services if s.name == name)


def slo(found: Model, path: str) -> ResolvedSlo:
    return next(s for s in found.slos if f"{s.service}/{s.name}" == path)


def alert(found: Model, path: str) -> ResolvedAlert:
    return next(a for s in found.services for a in s.alerts if f"{a.service}/{a.name}" == path)


def told(found: Model, **labels: str) -> set[str]:
    """The kinds of all receivers that get an alert with these labels, at some time of the week."""
    return {part.kind for name in found.routing.reached(labels) for part in found.routing.receivers[name]}


def escalated(found: Model, **labels: str) -> Mapping[str, tuple[str, ...]]:
    route = next(r for r in found.routing.routes if all(labels.get(k) in v for k, v in r.match.items()))
    return {str(after): to for after, to in route.escalate}


# --- all of them -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_an_example_renders(name: str) -> None:
    artifacts = {a.path: a.text for a in render.everything(load(name))}
    assert "alertmanager/generated/alertmanager.yml" in artifacts
    readers: dict[str, Callable[[str], Any]] = {"json": json.loads, "md": str.strip}
    for path, text in artifacts.items():
        read = readers.get(path.rpartition(".")[2], yaml.safe_load)
        assert read(text), path
    assert artifacts == {a.path: a.text for a in render.everything(load(name))}


@pytest.mark.parametrize("name", NAMES)
def test_an_example_tells_editors_of_its_schema(name: str) -> None:
    first = (EXAMPLES / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# yaml-language-server: $schema=")


def test_there_is_an_example_for_each_organisation() -> None:
    assert sorted(p.stem for p in EXAMPLES.glob("*.yaml")) == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_whoever_is_paged_finds_a_runbook(name: str) -> None:
    found = load(name)
    for s in found.services:
        watched: list[ResolvedAlert | ResolvedProbe | ResolvedSlo] = [*s.alerts, *s.probes, *s.slos]
        for one in watched:
            pages = "critical" in one.burn if isinstance(one, ResolvedSlo) else one.severity == "critical"
            book = one.runbook or s.runbook
            assert not pages or (
                book and book.symptoms and book.diagnosis and book.causes and book.recovery and book.escalation
            ), f"{s.name}/{one.name}"


# --- 1. AxCouncil ----------------------------------------------------------------------------------------------------

PROCESSES = [
    # process, tier, SLA, steps, health endpoint
    ("council_deliberation_3stage", "critical", "2m", ("collect", "rank", "synthesize"), "/health/council"),
    ("user_authentication", "critical", "2s", ("login", "token_validation", "session"), "/health/auth"),
    ("company_context_load", "high", "5s", ("company", "department", "role", "playbooks", "decisions"), None),
    ("payment_subscription", "critical", "10s", ("subscribe", "charge", "invoice", "webhook"), "/health/billing"),
    ("knowledge_entry_save", "medium", None, (), None),
    ("department_delete", "medium", None, (), None),
    ("conversation_delete", "low", None, (), None),
]


@pytest.mark.parametrize(("name", "tier", "sla", "stages", "endpoint"), PROCESSES)
def test_axcouncil_process(name: str, tier: str, sla: str | None, stages: tuple[str, ...], endpoint: str | None) -> None:
    found = service(load("axcouncil"), "council-api")
    process = next(p for p in found.processes if p.id == name)
    assert (process.tier, process.stages) == (tier, stages)
    assert (None if process.sla is None else str(process.sla)) == sla
    assert process.name and process.description and process.version and process.handler and process.documentation_url
    assert "success" in process.slos
    assert ("within_sla" in process.slos) == (sla is not None)
    probe = next((p for p in found.probes if p.name == process.probe), None)
    assert (probe is None) == (endpoint is None)
    assert probe is None or endpoint is None or probe.url.endswith(endpoint)


def test_axcouncil_has_no_other_process() -> None:
    assert [p.id for p in service(load("axcouncil"), "council-api").processes] == [row[0] for row in PROCESSES]


@pytest.mark.parametrize(
    ("path", "severity", "limit", "parts"),
    [
        # success rate < 95 % over 5 min
        ("CouncilSuccessLow", "critical", ">5%", ["council_deliberation_3stage_success", "[5m]"]),
        # P95 latency > 90 s over 1 h
        ("CouncilSlow", "warning", ">90s", ["histogram_quantile(0.95", "council_deliberation_3stage", "[1h]"]),
        # timeouts > 10 %
        ("CouncilTimeouts", "critical", ">10%", ["council_deliberation_3stage_timeouts", "[5m]"]),
        ("AuthenticationFailureSpike", "critical", "", ["user_authentication", 'process_status!="success"', "3 *"]),
        # any payment failure
        ("PaymentFailed", "critical", ">0", ["payment_subscription", 'process_status!="success"', "increase("]),
        # the noise rule: warning before critical
        ("CouncilSuccessFalling", "warning", ">2%", ["council_deliberation_3stage_success"]),
    ],
)
def test_axcouncil_alert(path: str, severity: str, limit: str, parts: list[str]) -> None:
    found = alert(load("axcouncil"), f"council-api/{path}")
    assert found.severity == severity
    assert said(found) == limit
    assert all(part in found.expr for part in parts), found.expr


def said(found: ResolvedAlert) -> str:
    return f">{found.above.text}" if found.above else f"<{found.below.text}" if found.below else ""


@pytest.mark.parametrize(
    ("name", "path", "interval", "slower_than"),
    [
        ("council", "/health/council", "5m", "45s"),
        ("database", "/health/db", "5m", "3s"),
        ("api", "/health/api", "10m", None),
    ],
)
def test_axcouncil_check(name: str, path: str, interval: str, slower_than: str | None) -> None:
    found = load("axcouncil")
    probe = next(p for p in service(found, "council-api").probes if p.name == name)
    assert probe.url.endswith(path)
    assert (str(probe.interval), str(probe.slower_than) if probe.slower_than else None) == (interval, slower_than)
    assert probe.failures == 1
    labels = {"alertname": "ProbeFailing", "severity": str(probe.severity), "service": "council-api"}
    assert told(found, **labels) == {"slack", "email"}


def test_axcouncil_panels() -> None:
    titles = " ".join(
        f"{p.title} {' '.join(e.replace('( ', '(') for e in p.exprs)}" for p in service(load("axcouncil"), "council-api").panels
    )
    for wanted in ("(0.5,", "0.95", "0.99", "Success rate", "process_stage_duration_seconds"):
        assert wanted in titles


# --- 2. Beacon -------------------------------------------------------------------------------------------------------


def test_beacon_providers_are_checked_every_30_s_each_with_a_history() -> None:
    found = load("beacon")
    providers = service(found, "providers")
    assert len(providers.probes) >= 4
    assert {str(p.interval) for p in providers.probes} == {"30s"}
    assert len({p.name.rsplit("-", 2)[-2:][0] for p in providers.probes}) >= 2, "more than one region"
    assert {s.name for s in providers.slos if s.sli.kind == "probe"} == {p.name for p in providers.probes}
    # Alert before jobs fail: a warning after a minute.
    assert {(p.severity, p.failures) for p in providers.probes} == {("warning", 2)}


def test_beacon_logs_are_counted_by_provider_and_region() -> None:
    calls = slo(load("beacon"), "providers/calls")
    assert calls.sli.kind == "logs"
    assert calls.by == ("provider", "region")
    assert "error_type" in calls.sli.describe()
    paths = [a.path for a in render.everything(load("beacon"))]
    assert "loki/generated/rules/fake/service-providers.yaml" in paths


def test_beacon_health_endpoints_go_to_mail_and_slack() -> None:
    found = load("beacon")
    assert {p.url.rsplit("/", 1)[1] for p in service(found, "router").probes} == {"health", "ready", "providers"}
    for severity in ("critical", "warning"):
        assert told(found, alertname="ProbeFailing", severity=severity, service="router") == {"slack", "email"}


def test_beacon_deployments() -> None:
    deployments = service(load("beacon"), "deployments")
    (deployment,) = [p for p in deployments.processes if p.id == "deployment"]
    assert set(deployment.slos) == {"success", "within_sla"}
    assert deployment.source == "spans"
    assert {a.name: said(a) for a in deployments.alerts} == {"DeploymentFailed": ">0%", "RecoverySlow": ">30m"}
    assert {p.title for p in deployments.panels} == {"Time to recovery", "Deployments and failures"}


# --- 3. LiveSOP ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "objective", "threshold"),
    [
        ("webhooks/webhook_delivery_success", "0.99", None),
        ("webhooks/webhook_delivery_timeouts", "0.99", None),
        ("webhooks/webhook_delivery_within_sla", "0.95", "5s"),
        ("webhooks/dashboard", "0.95", "500ms"),
        ("database/queries", "0.95", "100ms"),
        ("webhooks/requests", "0.999", None),
    ],
)
def test_livesop_signal(path: str, objective: str, threshold: str | None) -> None:
    found = load("livesop")
    made = slo(found, path)
    assert str(made.objective) == objective
    if threshold is not None:
        limit = made.context.processes.get(str(made.process)) if made.process else made.sli.under  # type: ignore[attr-defined]
        assert str(limit) == threshold


def test_livesop_duplicates_are_shown_and_page_nobody() -> None:
    found = load("livesop")
    assert slo(found, "webhooks/duplicates").burn == {}
    assert any("duplicate" in " ".join(p.exprs) for p in service(found, "webhooks").panels)


def test_livesop_health() -> None:
    probes = service(load("livesop"), "webhooks").probes
    assert {p.url.partition("8000")[2]: p.status for p in probes} == {
        "/health": (200,),
        "/health/ready": (200,),
        "/health/live": (200,),
    }


# --- 4. GreenStack ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "severity", "limit", "hold", "parts"),
    [
        ("greenstack/ServiceDown", "critical", "<1", "1m", ["up"]),
        ("greenstack/HighErrorRate", "critical", ">5%", "2m", ["availability"]),
        ("database/DatabaseDown", "critical", "<1", "30s", ["database_up"]),
        ("host/DiskSpaceCritical", "critical", "<10%", "5m", ["node_filesystem_avail_bytes", "node_filesystem_size_bytes"]),
        ("greenstack/SlowRequests", "warning", ">1s", "5m", ["histogram_quantile(0.95"]),
        ("host/HighMemoryUsage", "warning", ">80%", "10m", ["MemAvailable"]),
        ("greenstack/UploadFailureSpike", "warning", ">0.1", "5m", ['uploads_total{job="greenstack",status="failed"}[15m]']),
    ],
)
def test_greenstack_alert(path: str, severity: str, limit: str, hold: str, parts: list[str]) -> None:
    found = load("greenstack")
    one = alert(found, path)
    assert (one.severity, said(one), str(one.hold)) == (severity, limit, hold)
    assert all(part in one.expr.replace(" ", "").replace("\n", "") for part in (p.replace(" ", "") for p in parts)), one.expr
    labels = {"alertname": one.name, "severity": severity, "service": one.service}
    assert told(found, **labels) == {"pagerduty" if severity == "critical" else "slack"}
    assert escalated(found, **labels) == ({"15m": ("team-lead",)} if severity == "critical" else {})


def test_greenstack_escalates_in_alertmanager() -> None:
    nodes = alertmanager.configuration(load("greenstack"))["route"]["routes"]
    waits = [(n["receiver"], str(n["group_wait"])) for n in flat(nodes) if "group_wait" in n and n["receiver"] != "nobody"]
    assert set(waits) == {("team-lead", "15m")}


def flat(nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for node in nodes for one in (node, *flat(node.get("routes", [])))]


def test_greenstack_scrapes_every_15_s() -> None:
    found = service(load("greenstack"), "greenstack")
    assert found.scrape is not None
    assert str(found.interval) == "15s"


def test_greenstack_panels() -> None:
    found = load("greenstack")
    panels = [p for s in found.services for p in s.panels]
    wanted = {
        "Application overview": [
            "Request rate", "Error rate", "Duration of requests", "Active devices", "Uploads per hour", "Requests in progress",
        ],
        "System health": ["CPU", "Memory", "Disk", "Network", "Database connections"],
        "Business metrics": [
            "Uploads by type", "Parameters parsed", "Tickets by priority", "Analysis runs by result", "Active users",
            "Duration of parsing",
        ],
        "Error tracking": [
            "Errors by endpoint", "Ten most frequent errors", "Failed uploads by reason", "Database errors", "5xx",
        ],
    }  # fmt: skip
    for group, titles in wanted.items():
        assert set(titles) <= {p.title for p in panels if p.group == group}
    assert {"(0.5,", "(0.95,", "(0.99,"} <= {
        q for p in panels for e in p.exprs for q in ("(0.5,", "(0.95,", "(0.99,") if q in e.replace("( ", "(")
    }


def test_greenstack_has_ten_runbooks_and_a_drill() -> None:
    found = load("greenstack")
    books = [s.runbook for s in found.services] + [a.runbook for s in found.services for a in s.alerts]
    books += [b for s in found.services for b in s.runbooks.values()]
    assert len({id(b) for b in books if b is not None}) >= 10
    assert "disaster-recovery" in service(found, "greenstack").runbooks


# --- 5. Operations ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "objective", "under", "sla", "sla_under"),
    [
        ("api/availability", "0.999", None, "0.995", None),
        ("api/latency", "0.95", "200ms", "0.99", "500ms"),
        ("api/errors", "0.999", None, "0.995", None),
        ("database/queries", "0.95", "100ms", "0.99", "500ms"),
    ],
)
def test_operations_pair(path: str, objective: str, under: str | None, sla: str, sla_under: str | None) -> None:
    found = load("operations")
    one = slo(found, path)
    assert one.sla is not None
    assert (str(one.objective), str(one.sla.objective), one.sla.period) == (objective, sla, "month")
    if under is not None:
        assert str(one.sli.under) == under  # type: ignore[attr-defined]
        assert str(slo(found, f"{one.service}/{one.sla.slo}").sli.under) == sla_under  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("path", "limit", "parts"),
    [
        ("api/ErrorsAboveHalfPercent", ">0.5%", ["errors"]),
        ("database/ConnectionPoolNearlyUsed", ">80%", ["db_pool_used", "db_pool_size"]),
        ("database/QuerySlow", ">1s", ["db_query_duration_seconds"]),
        ("api/CacheHitRateLow", "<80%", ["cache_hits_total", "cache_misses_total"]),
    ],
)
def test_operations_signal(path: str, limit: str, parts: list[str]) -> None:
    one = alert(load("operations"), path)
    assert said(one) == limit
    assert all(part in one.expr for part in parts)


def test_operations_health_every_30_s() -> None:
    (probe,) = service(load("operations"), "api").probes
    assert probe.url.endswith("/health")
    assert str(probe.interval) == "30s"


def test_operations_metrics_are_shown() -> None:
    shown = " ".join(e for s in load("operations").services for p in s.panels for e in p.exprs)
    for metric in (
        "http_requests_total", "http_request_duration_seconds_bucket", "authentication_failures_total", "rate_limit_hits_total",
        "db_pool_used", "db_slow_queries_total", "db_transactions_total", "cache_hits_total", "cache_misses_total",
        "cache_evictions_total", "node_cpu_seconds_total", "node_memory", "node_filesystem", "node_network",
    ):  # fmt: skip
        assert metric in shown


def test_operations_runbooks() -> None:
    found = load("operations")
    api, database = service(found, "api"), service(found, "database")
    assert set(api.runbooks) == {"deployment-and-rollback", "migration-and-rollback", "monitoring-set-up"}
    incidents = [slo(found, "api/availability").runbook, slo(found, "api/errors").runbook, database.runbook]
    incidents.append(alert(found, "api/AuthenticationFailures").runbook)
    assert len({id(b) for b in incidents if b and b.diagnosis}) == 4


def test_operations_freezes_deployments_before_the_sla_breaks() -> None:
    found = load("operations")
    assert {str(s.freeze[0]) for s in found.slos if s.freeze} == {"0.1"}
    assert all(s.exhausted for s in found.slos if not s.sla_of)
