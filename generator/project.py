"""Where a project lies on disk, and its settings: ports, retention, registry.

A project is a directory with a ``compose.yaml``. Its settings are the defaults below, overridden by ``.env`` beside the
compose file, overridden by the environment: the same order that Docker Compose uses, so that both read the same values.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from dotenv import dotenv_values

from generator.errors import LgtmError

DEFAULTS: Mapping[str, str] = MappingProxyType(
    {
        "COMPOSE_PROJECT_NAME": "lgtm",
        "REGISTRY": "docker.io",
        "GRAFANA_PORT": "3000",
        "PROMETHEUS_PORT": "9090",
        "ALERTMANAGER_PORT": "9093",
        "LOKI_PORT": "3100",
        "TEMPO_PORT": "3200",
        "OTLP_GRPC_PORT": "4317",
        "OTLP_HTTP_PORT": "4318",
        "FLUENT_PORT": "24224",
        "COLLECTOR_HEALTH_PORT": "13133",
        "BLACKBOX_PORT": "9115",
        "DEMO_PORT": "8000",
        "DEMO_PAGER_PORT": "8001",
        "NODE_EXPORTER_PORT": "9100",
        "BIND_ADDRESS": "127.0.0.1",
        "COMPOSE_PROFILES": "",
        "PROMETHEUS_RETENTION": "100d",
        "PROMETHEUS_RETENTION_SIZE": "20GB",
        "LOKI_RETENTION": "30d",
        "TEMPO_RETENTION": "14d",
        "REDACT_FIELDS": "lgtm_nothing_more",
    }
)

# The port setting under which each server is published on the host.
SERVER_PORTS: Mapping[str, str] = MappingProxyType(
    {
        "grafana": "GRAFANA_PORT",
        "prometheus": "PROMETHEUS_PORT",
        "alertmanager": "ALERTMANAGER_PORT",
        "loki": "LOKI_PORT",
        "tempo": "TEMPO_PORT",
        "collector": "COLLECTOR_HEALTH_PORT",
        "blackbox": "BLACKBOX_PORT",
        "demo": "DEMO_PORT",
        "pager": "DEMO_PAGER_PORT",
    }
)


@dataclass(frozen=True)
class Project:
    """A project directory and its settings."""

    root: Path
    settings: Mapping[str, str]

    @classmethod
    def load(cls, root: Path) -> Project:
        """Read the settings of the project at ``root``; a missing ``.env`` means the defaults."""
        from_file = {k: v for k, v in dotenv_values(root / ".env").items() if v is not None}
        known = set(DEFAULTS) | set(from_file)
        from_environment = {k: v for k, v in os.environ.items() if k in known and v != ""}
        return cls(root.resolve(), MappingProxyType({**DEFAULTS, **from_file, **from_environment}))

    @classmethod
    def find(cls, start: Path | None = None) -> Project:
        """The project of ``start`` (default: the working directory) or of the nearest directory above it.

        Raises LgtmError where there is none.
        """
        here = (start or Path.cwd()).resolve()
        for directory in (here, *here.parents):
            if (directory / "compose.yaml").is_file():
                return cls.load(directory)
        raise LgtmError(
            f"No compose.yaml in {here} or any directory above it.",
            "Run this inside the project, or name it with --project DIR.",
        )

    @property
    def compose_project(self) -> str:
        """The name under which Docker Compose keeps this project's containers and volumes."""
        return self.settings["COMPOSE_PROJECT_NAME"]

    def port(self, setting: str) -> int:
        """A port setting as a number. Raises LgtmError when it is not one."""
        value = self.settings[setting]
        if not value.isdecimal() or not 0 < int(value) < 65536:
            raise LgtmError(f"{setting}={value!r} is not a port.", "Set a number from 1 to 65535 in .env.")
        return int(value)

    def url(self, server: str) -> str:
        """The address of a server as the host sees it, without a trailing slash."""
        # A server that listens on every address answers on loopback too.
        address = self.settings["BIND_ADDRESS"]
        host = "127.0.0.1" if address in ("0.0.0.0", "localhost") else address  # noqa: S104
        return f"http://{host}:{self.port(SERVER_PORTS[server])}"
