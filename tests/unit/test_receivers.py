"""Each kind of receiver becomes Alertmanager's block, with every credential by the name of a file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from generator import apply, model, receivers, secrets, source
from generator.errors import LgtmError
from generator.model import Result
from generator.project import Project
from generator.receivers import SECTIONS, Receiver
from generator.render import alertmanager
from generator.render.yamltext import dump

# By kind: as it is written, Alertmanager's section, some of its block, and the secrets that it needs.
CASES: dict[str, tuple[str, str, dict[str, Any], list[str]]] = {
    "webhook": ("{url: {file: hook}}", "webhook_configs", {"url_file": "/run/lgtm-secrets/hook"}, ["hook"]),
    "slack": (
        "{url: {file: slack_url}, channel: '#alerts'}",
        "slack_configs",
        {"api_url_file": "/run/lgtm-secrets/slack_url", "channel": "#alerts"},
        ["slack_url"],
    ),
    "pagerduty": (
        "{routing_key: {file: pd}, send_resolved: false}",
        "pagerduty_configs",
        {"routing_key_file": "/run/lgtm-secrets/pd", "send_resolved": False},
        ["pd"],
    ),
    "email": (
        "{to: [a@example.com, b@example.com], from: c@example.com, smarthost: 'smtp:587', username: u, password: {file: pw}}",
        "email_configs",
        {"to": "a@example.com, b@example.com", "auth_password_file": "/run/lgtm-secrets/pw", "require_tls": True},
        ["pw"],
    ),
    "teams": ("{url: {file: t}}", "msteamsv2_configs", {"webhook_url_file": "/run/lgtm-secrets/t"}, ["t"]),
    "discord": ("{url: {file: d}}", "discord_configs", {"webhook_url_file": "/run/lgtm-secrets/d"}, ["d"]),
    "telegram": (
        "{bot_token: {env: TELEGRAM_TOKEN}, chat: -100}",
        "telegram_configs",
        {"bot_token_file": "/run/lgtm-secrets/env.TELEGRAM_TOKEN", "chat_id": -100, "parse_mode": "HTML"},
        ["env.TELEGRAM_TOKEN"],
    ),
    "opsgenie": (
        "{api_key: {file: og}, region: eu, team: backend}",
        "opsgenie_configs",
        {
            "api_key_file": "/run/lgtm-secrets/og",
            "api_url": "https://api.eu.opsgenie.com/",
            "responders": [{"name": "backend", "type": "team"}],
        },
        ["og"],
    ),
    "alertmanager": (
        "{pushover: {user_key: {file: pu}, token: {file: pt}, priority: '1'}}",
        "pushover_configs",
        {"user_key_file": "/run/lgtm-secrets/pu", "token_file": "/run/lgtm-secrets/pt", "priority": "1"},
        ["pt", "pu"],
    ),
}


def load(kind: str, written: str) -> Result:
    text = f"""
version: 1
services:
  shop: {{runbook: "https://wiki.example.com", slos: {{up: {{objective: 99%, sli: {{boolean: up}}}}}}}}
routing:
  receivers:
    one: {{{kind}: {written}}}
  default: one
"""
    return model.resolve(source.read_text(text, "slos.yaml"))


def configuration(kind: str, written: str) -> dict[str, Any]:
    found = load(kind, written)
    assert found.model is not None, [(d.code, d.message) for d in found.diagnostics]
    every: list[dict[str, Any]] = alertmanager.configuration(found.model)["receivers"]
    (one,) = [r for r in every if r["name"] == "one"]
    return one


@pytest.mark.parametrize("kind", receivers.KINDS)
def test_a_receiver_becomes_a_block(kind: str) -> None:
    written, section, block, needed = CASES[kind]
    (made,) = configuration(kind, written)[section]
    assert block.items() <= made.items()
    found = load(kind, written).model
    assert found is not None
    assert found.routing.secrets() == needed


@pytest.mark.parametrize("kind", receivers.KINDS)
def test_a_receiver_tells_of_the_end_unless_told_not_to(kind: str) -> None:
    written, section, block, _ = CASES[kind]
    (made,) = configuration(kind, written)[section]
    assert made["send_resolved"] is block.get("send_resolved", True)


SECRET = "xoxb-not-a-real-one"
IN_THE_OPEN = {
    "slack": f"{{url: 'https://hooks.slack.com/services/{SECRET}'}}",
    "webhook": f"{{url: 'https://discord.com/api/webhooks/{SECRET}'}}",
    "pagerduty": f"{{routing_key: {SECRET}}}",
    "email": f"{{to: a@b, from: a@b, smarthost: 's:25', username: u, password: {SECRET}}}",
    "teams": f"{{url: 'https://x.webhook.office.com/{SECRET}'}}",
    "discord": f"{{url: 'https://discord.com/api/webhooks/{SECRET}'}}",
    "telegram": f"{{bot_token: '{SECRET}', chat: 1}}",
    "opsgenie": f"{{api_key: {SECRET}}}",
    "alertmanager": f"{{pushover: {{user_key: {{file: u}}, token: {SECRET}}}}}",
}


@pytest.mark.parametrize("kind", receivers.KINDS)
def test_a_secret_in_the_file_is_refused_and_not_repeated(kind: str) -> None:
    found = load(kind, IN_THE_OPEN[kind])
    assert "secret-in-file" in [d.code for d in found.errors]
    assert not any(SECRET in d.message or SECRET in (d.hint or "") for d in found.diagnostics)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        # The nested credential of an HTTP client, a list of receivers, and Alertmanager's own way to name a file.
        (
            "{webex_configs: {room_id: r, http_config: {authorization: {credentials: {file: w}}}}}",
            {"webex_configs": [{"send_resolved": True, "room_id": "r",
                                "http_config": {"authorization": {"credentials_file": "/run/lgtm-secrets/w"}}}]},
        ),
        (
            "{mattermost: [{webhook_url: {file: a}}, {webhook_url: {file: b}}], send_resolved: false}",
            {"mattermost_configs": [{"send_resolved": False, "webhook_url_file": "/run/lgtm-secrets/a"},
                                    {"send_resolved": False, "webhook_url_file": "/run/lgtm-secrets/b"}]},
        ),
        (
            "{victorops: {api_key_file: v, routing_key: everyone}}",
            {"victorops_configs": [{"send_resolved": True, "api_key_file": "/run/lgtm-secrets/v", "routing_key": "everyone"}]},
        ),
    ],
)  # fmt: skip
def test_any_receiver_of_alertmanager_passes_through(written: str, expected: dict[str, Any]) -> None:
    made = configuration("alertmanager", written)
    assert {k: v for k, v in made.items() if k != "name"} == expected


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("{}", "missing-kind"),
        ("{send_resolved: true}", "missing-kind"),
        ("{pushoverr: {token: {file: a}}}", "unknown-kind"),
        ("{pushover: 7}", "wrong-type"),
        ("{pushover: []}", "wrong-type"),
    ],
)
def test_what_alertmanager_does_not_have_is_refused(written: str, code: str) -> None:
    assert [d.code for d in load("alertmanager", written).errors] == [code]


def test_one_name_can_be_several_receivers() -> None:
    text = "{file: hook}}, slack: {url: {file: slack}"
    made = configuration("webhook", "{url: " + text + "}")
    assert set(made) == {"name", "webhook_configs", "slack_configs"}


def test_a_list_of_receivers_is_one_notification_to_all() -> None:
    text = """
version: 1
services:
  shop: {runbook: "https://wiki.example.com", slos: {up: {objective: 99%, sli: {boolean: up}}}}
routing:
  receivers:
    a: {slack: {url: {file: a}}}
    b: {slack: {url: {file: b}}}
  default: [a, b]
"""
    found = model.resolve(source.read_text(text, "slos.yaml")).model
    assert found is not None
    config = alertmanager.configuration(found)
    assert config["route"]["receiver"] == "a + b"
    (both,) = [r for r in config["receivers"] if r["name"] == "a + b"]
    assert [block["api_url_file"] for block in both["slack_configs"]] == ["/run/lgtm-secrets/a", "/run/lgtm-secrets/b"]
    assert "Secret(" not in dump(config)


def test_every_template_that_a_receiver_names_exists() -> None:
    text = (Path(__file__).parents[2] / "alertmanager" / "templates" / "lgtm.tmpl").read_text(encoding="utf-8")
    defined = set(re.findall(r'define "([^"]+)"', text))
    used = set()
    for kind, (written, _, _, _) in CASES.items():
        used |= set(re.findall(r'template "([^"]+)"', str(configuration(kind, written))))
    assert used
    assert used <= defined


def test_every_kind_has_fields_with_examples() -> None:
    for kind, cls in receivers.KINDS.items():
        assert issubclass(cls, Receiver)
        assert cls.__doc__
        assert kind == "alertmanager" or all(f.description and f.examples for f in cls.model_fields.values()), kind
    assert "msteamsv2" in SECTIONS


def test_a_secret_of_the_environment_is_read_when_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project.load(tmp_path)
    monkeypatch.setenv("TELEGRAM_TOKEN", "12:ab")
    assert secrets.read(project, "env.TELEGRAM_TOKEN") == b"12:ab"
    monkeypatch.delenv("TELEGRAM_TOKEN")
    with pytest.raises(LgtmError, match="TELEGRAM_TOKEN"):
        secrets.read(project, "env.TELEGRAM_TOKEN")
    with pytest.raises(LgtmError, match="TELEGRAM_TOKEN"):
        apply.read_secrets(project, {"alertmanager": ["env.TELEGRAM_TOKEN"]})
