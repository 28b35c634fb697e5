"""Telemetry that commands send themselves, to the collector: OTLP over HTTP, as JSON, without an SDK."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import requests

from generator.errors import LgtmError
from generator.project import Project

_TIMEOUT = 5.0


def address(project: Project, endpoint: str | None = None) -> str:
    """The collector's base address without a trailing slash: ``endpoint``, or this project's."""
    return (endpoint or f"http://127.0.0.1:{project.port('OTLP_HTTP_PORT')}").rstrip("/")


def post(url: str, body: object, consequence: str) -> None:
    """Send one request. Raises LgtmError, which begins with ``consequence``, when the collector takes nothing."""
    session = requests.Session()
    session.trust_env = False  # a proxy for the web is not the way to a collector
    try:
        answer = session.post(url, json=body, timeout=_TIMEOUT)
    except requests.RequestException as error:
        raise LgtmError(
            f"{consequence}: the collector at {url} does not answer ({type(error).__name__}).",
            "Is the stack up (lgtm status)? On another machine, say where it is: --to http://HOST:4318",
        ) from error
    finally:
        session.close()
    if not answer.ok:
        raise LgtmError(f"{consequence}: the collector at {url} answers {answer.status_code}.")


def attributes(values: Mapping[str, object]) -> list[dict[str, object]]:
    """Attributes as OTLP has them; those without a value are left out."""
    return [
        {"key": key, "value": {"doubleValue": value} if isinstance(value, float) else {"stringValue": str(value)}}
        for key, value in values.items()
        if value not in (None, "")
    ]


def gauge(name: str, unit: str, points: Mapping[tuple[tuple[str, str], ...], float], at: float) -> dict[str, Any]:
    """A gauge with one point for each set of labels, at the Unix time ``at``."""
    return {
        "name": name,
        "unit": unit,
        "gauge": {
            "dataPoints": [
                {"timeUnixNano": str(int(at * 1e9)), "asDouble": value, "attributes": attributes(dict(labels))}
                for labels, value in points.items()
            ]
        },
    }
