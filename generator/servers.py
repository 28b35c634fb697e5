"""Thin typed clients of the servers' HTTP APIs: what commands ask of them, and no more.

Every client takes the address as the host sees it. Nothing here retries or waits; a call that fails raises
`UnreachableError` (nobody answered) or `AnswerError` (an answer that is not the hoped-for one, with the server's own words).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import requests
import yaml

from generator.errors import LgtmError

_SERIES = re.compile(r"(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)(?: -?\d+)?\Z")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')


class UnreachableError(LgtmError):
    """A server did not answer. ``server`` is its name in compose.yaml."""

    def __init__(self, server: str, why: str) -> None:
        super().__init__(f"{server} does not answer: {why}.", f"Run `make up`, or look why: `make logs` ({server}).")
        self.server = server
        self.why = why


class AnswerError(LgtmError):
    """A server answered with an error. ``status`` is HTTP's; ``reason`` is what the server said."""

    def __init__(self, server: str, status: int, reason: str) -> None:
        super().__init__(f"{server} answers {status}: {reason}", f"Its log may say more: `make logs` ({server}).")
        self.server = server
        self.status = status
        self.reason = reason


@dataclass(frozen=True)
class Sample:
    """One series of a metrics page."""

    name: str
    labels: Mapping[str, str]
    value: float


class Client:
    """A server at ``url`` (no trailing slash). One client belongs to one thread at a time."""

    name = ""

    def __init__(self, url: str, *, timeout: float = 5, auth: tuple[str, str] | None = None) -> None:
        self.url = url
        self.timeout = timeout
        self._session = requests.Session()
        # Proxies of the environment are for the internet, not for loopback.
        self._session.trust_env = False
        self._session.auth = auth

    def close(self) -> None:
        """Give back its connections."""
        self._session.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        timeout: float | None = None,
        parameters: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        body: Any = None,
        accept: str = "*/*",
    ) -> requests.Response:
        """Send a request, with a form or with JSON, for an answer of some type.

        Raises UnreachableError and AnswerError (any status but 2xx).
        """
        try:
            url, seconds = self.url + path, timeout or self.timeout
            answer = self._session.request(
                method, url, params=parameters, data=form, json=body, headers={"Accept": accept}, timeout=seconds
            )
        except requests.Timeout:
            raise UnreachableError(self.name, f"no answer within {timeout or self.timeout:g} s") from None
        except requests.ConnectionError as error:
            refused = "refused" in str(error)
            raise UnreachableError(self.name, "connection refused" if refused else "the connection broke") from None
        except requests.RequestException as error:
            raise UnreachableError(self.name, type(error).__name__) from None
        if not answer.ok:
            raise AnswerError(self.name, answer.status_code, _reason(answer))
        return answer

    def json(self, path: str, **parameters: str) -> Any:
        """GET and parse JSON. Raises UnreachableError and AnswerError."""
        answer = self.call("GET", path, parameters=parameters)
        try:
            return answer.json()
        except ValueError:
            raise AnswerError(self.name, answer.status_code, "the answer is not JSON") from None

    def metrics(self, prefix: str) -> list[Sample]:
        """The series of ``/metrics`` whose names start with ``prefix``. Raises UnreachableError and AnswerError."""
        return parse_metrics(self.call("GET", "/metrics").text, prefix)

    def reload(self, *, timeout: float = 60) -> None:
        """Have the server read its files again; returns when it has. Raises UnreachableError and AnswerError."""
        self.call("POST", "/-/reload", timeout=timeout)


class Prometheus(Client):
    """Prometheus 3."""

    name = "prometheus"

    def rule_groups(self) -> list[dict[str, Any]]:
        """The groups in force, as ``/api/v1/rules`` has them: name, file, interval (seconds), rules."""
        groups: list[dict[str, Any]] = self.json("/api/v1/rules")["data"]["groups"]
        return groups

    def scrape_pools(self) -> list[str]:
        """The names of the scrape jobs in force."""
        pools: list[str] = self.json("/api/v1/scrape_pools")["data"]["scrapePools"]
        return pools

    def scrape_pool(self, job: str) -> dict[str, Any]:
        """The configuration in force of one job, with defaults filled in. Raises AnswerError when there is none."""
        text = self.json("/api/v1/scrape_pools/config", scrapePool=job)["data"]["yaml"]
        return _mapping(text)

    def format_query(self, query: str) -> str:
        """The query as this server prints it. Raises AnswerError when it does not parse."""
        text: str = self.json("/api/v1/format_query", query=query)["data"]
        return text


class Alertmanager(Client):
    """Alertmanager 0.27 or newer."""

    name = "alertmanager"

    @staticmethod
    def config_hash(content: bytes) -> float:
        """The value of the metric ``alertmanager_config_hash`` for a configuration file with this content."""
        digest = hashlib.md5(content, usedforsecurity=False).digest()
        # 48 bits, so that a float holds it exactly: config/coordinator.go.
        return float(int.from_bytes(digest[:6], "little"))


class Blackbox(Client):
    """blackbox_exporter."""

    name = "blackbox"

    def config(self) -> dict[str, Any]:
        """The configuration in force, with defaults filled in; every scalar as text."""
        return _mapping(self.call("GET", "/config").text)


class Loki(Client):
    """Loki 3."""

    name = "loki"

    def format_query(self, query: str) -> str:
        """The query as this server prints it. Raises AnswerError when it does not parse."""
        answer = self.json("/loki/api/v1/format_query", query=query)
        if answer.get("status") != "success":
            raise AnswerError(self.name, 200, str(answer.get("error", answer)))
        return str(answer["data"])

    def rule_groups(self) -> dict[tuple[str, str], int]:
        """Number of rules by (file name, group). From the metrics: the ruler's API is off, since it could also write."""
        found: dict[tuple[str, str], int] = {}
        for sample in self.metrics("loki_prometheus_rule_group_rules"):
            file, _, group = sample.labels.get("rule_group", "").rpartition(";")
            found[file.rpartition("/")[2], group] = int(sample.value)
        return found


class Tempo(Client):
    """Tempo 2."""

    name = "tempo"


class Grafana(Client):
    """Grafana 11 or newer, as its admin."""

    name = "grafana"

    def __init__(self, url: str, password: str, *, timeout: float = 5) -> None:
        super().__init__(url, timeout=timeout, auth=("admin", password))

    def provision(self) -> None:
        """Have the provisioned dashboards read again now, instead of at the next poll."""
        self.call("POST", "/api/admin/provisioning/dashboards/reload", timeout=30)

    def dashboard(self, uid: str) -> dict[str, Any]:
        """A dashboard's JSON. Raises AnswerError (status 404) when there is none."""
        found: dict[str, Any] = self.json(f"/api/dashboards/uid/{uid}")["dashboard"]
        return found


def parse_metrics(text: str, prefix: str) -> list[Sample]:
    """The samples of a page in Prometheus's text format whose names start with ``prefix``; other lines are skipped."""
    found = []
    for line in text.splitlines():
        if line.startswith(prefix) and (match := _SERIES.match(line)):
            labels = {key: json.loads(f'"{value}"') for key, value in _LABEL.findall(match["labels"] or "")}
            found.append(Sample(match["name"], labels, float(match["value"])))
    return found


def value(samples: Sequence[Sample], name: str, default: float = float("nan")) -> float:
    """The value of the first sample with this name."""
    return next((sample.value for sample in samples if sample.name == name), default)


def load_text(text: str | bytes) -> Any:
    """YAML with every scalar left as it is written: Prometheus reads ``5`` as a label's value as text, too."""
    loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    return yaml.load(text, Loader=loader)  # noqa: S506 - the base loader makes nothing but text, lists and mappings


def _mapping(text: str) -> dict[str, Any]:
    data = load_text(text)
    return data if isinstance(data, dict) else {}


def _reason(answer: requests.Response) -> str:
    """What a server said about its refusal, without JSON around it."""
    text = answer.text.strip()
    try:
        data = json.loads(text)
    except ValueError:
        return text[:2000] or answer.reason
    if isinstance(data, dict):
        for key in ("error", "message"):
            if isinstance(data.get(key), str):
                return str(data[key])[:2000]
    return text[:2000]
