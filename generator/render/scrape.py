"""What Prometheus scrapes, and what blackbox_exporter asks: from services' ``scrape`` and ``probes``."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from generator import names
from generator.model import Model, ResolvedProbe, ResolvedService
from generator.render import Artifact
from generator.render.yamltext import dump
from generator.units import Duration


def render(model: Model) -> list[Artifact]:
    """A scrape file for each service that is scraped or probed, and blackbox_exporter's modules."""
    artifacts = []
    for service in model.services:
        jobs = ([_scrape(service)] if service.scrape else []) + [_probe(probe) for probe in service.probes]
        if jobs:
            path = f"prometheus/generated/scrape/service-{service.name}.yaml"
            artifacts.append(Artifact(path, dump({"scrape_configs": jobs})))
    return [*artifacts, Artifact("blackbox/generated/blackbox.yml", dump({"modules": _modules(model)}))]


def _scrape(service: ResolvedService) -> dict[str, Any]:
    scrape = service.scrape
    if scrape is None:
        raise ValueError(f"{service.name} is not scraped")
    # The job is what the service's matchers will ask for.
    return {
        "job_name": service.match.get("job", service.name),
        "scrape_interval": service.interval,
        "scrape_timeout": min(service.interval, Duration(Decimal(10))),
        "scheme": scrape.scheme,
        "metrics_path": scrape.path,
        "static_configs": [{"targets": list(scrape.targets)}],
    }


def _probe(probe: ResolvedProbe) -> dict[str, Any]:
    # blackbox_exporter keeps half a second of the scrape's timeout for itself.
    timeout = min(Duration(probe.timeout.seconds + Decimal("0.5")), probe.interval)
    return {
        "job_name": f"probe:{probe.service}:{probe.name}",
        "scrape_interval": probe.interval,
        "scrape_timeout": timeout,
        "metrics_path": "/probe",
        "params": {"module": [module_name(probe)], "target": [probe.url]},
        "static_configs": [
            {
                "targets": [names.BLACKBOX_ADDRESS],
                "labels": {
                    "job": names.PROBE_JOB,
                    "service": probe.service,
                    "probe": probe.name,
                    "instance": probe.url,
                },
            }
        ],
    }


def module_name(probe: ResolvedProbe) -> str:
    """The blackbox_exporter module that a probe uses: one for each set of good statuses."""
    return "http_" + ("_".join(str(s) for s in sorted(probe.status)) if probe.status else "2xx")


def _modules(model: Model) -> dict[str, Any]:
    modules: dict[str, Any] = {"http_2xx": _module([])}
    for service in model.services:
        for probe in service.probes:
            modules[module_name(probe)] = _module(sorted(probe.status))
    return dict(sorted(modules.items()))


def _module(status: list[int]) -> dict[str, Any]:
    http: dict[str, Any] = {"preferred_ip_protocol": "ip4", "follow_redirects": True}
    if status:
        http["valid_status_codes"] = status
    return {"prober": "http", "http": http}
