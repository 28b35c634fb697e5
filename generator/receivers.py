"""The kinds of receiver: for each its fields, and the block of Alertmanager's configuration that it becomes.

A secret is never in the file: a field that needs one takes ``{file: NAME}``, the name of a file under ``secrets/``.
Field names of the blocks are Alertmanager 0.31's: https://prometheus.io/docs/alerting/latest/configuration/#receiver.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from generator.base import Base, Text, Url, fault
from generator.diagnostics import did_you_mean
from generator.names import SECRETS_DIRECTORY

Block = dict[str, Any]


class Secret(Base):
    """A secret by reference: the name of a file under ``secrets/``, or of an environment variable."""

    file: Annotated[str, BeforeValidator(lambda v: _file_name(v))] | None = Field(
        None, description="Name of a file under secrets/.", examples=["slack_url"]
    )
    env: Annotated[str, BeforeValidator(lambda v: _variable(v))] | None = Field(
        None, description="Instead: name of an environment variable, read by up and apply.", examples=["SLACK_URL"]
    )

    @model_validator(mode="after")
    def _one_of(self) -> Secret:
        if (self.file is None) == (self.env is None):
            raise fault("one-of", "a secret is named by file or by env, one of them", "write {file: NAME}")
        return self

    @property
    def name(self) -> str:
        """Its file in the container; one that comes from the environment is ``env.NAME``."""
        return self.file if self.file is not None else f"env.{self.env}"

    @property
    def path(self) -> str:
        """Where Alertmanager finds it."""
        return f"{SECRETS_DIRECTORY}/{self.name}"


def _file_name(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", value):
        raise fault("bad-name", "{value} cannot be the name of a file under secrets/", "write it as slack_url", value=value)
    return value


def _variable(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,99}", value):
        raise fault("bad-name", "{value} cannot be the name of a variable", "write it as SLACK_URL", value=value)
    return value


def _secret(value: Any) -> Any:
    if not isinstance(value, dict | Secret) or any(key not in Secret.model_fields for key in value):
        # The value is not repeated: it may be the secret itself.
        raise fault(
            "secret-in-file",
            "a secret must not stand in this file",
            "put it into secrets/NAME (mode 600) and write {file: NAME} here",
        )
    return value


def _address(value: Any) -> Any:
    """A URL as text, unless it is one whose path is the credential."""
    if isinstance(value, str) and re.search(
        r"hooks\.slack\.com|discord(app)?\.com/api/webhooks|webhook\.office\.com|api\.telegram\.org", value
    ):
        return _secret(value)
    return value


SecretField = Annotated[Secret, BeforeValidator(_secret)]
AddressField = Annotated[Url | Secret, BeforeValidator(_address)]


class Receiver(Base):
    """One kind of receiver."""

    kind: ClassVar[str]
    # Alertmanager's key for a list of these.
    section: ClassVar[str]

    send_resolved: bool = Field(True, description="Whether the end of an alert is sent too.", examples=[True])

    def block(self) -> Block:
        """The entry in Alertmanager's configuration."""
        raise NotImplementedError

    def blocks(self) -> Iterator[tuple[str, Block]]:
        """Every entry, each with the section that it belongs to."""
        yield self.section, self.block()

    def secrets(self) -> Iterator[Secret]:
        """Every secret that it refers to."""
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, Secret):
                yield value


class Webhook(Receiver):
    """A POST of Alertmanager's JSON to any address."""

    kind = "webhook"
    section = "webhook_configs"

    url: AddressField = Field(
        description="Where to post; {file: NAME} when the address is a secret.",
        examples=["http://host.docker.internal:8001/"],
    )

    def block(self) -> Block:
        where = {"url_file": self.url.path} if isinstance(self.url, Secret) else {"url": self.url}
        return {**where, "send_resolved": self.send_resolved}


class Slack(Receiver):
    """A message to a Slack channel by an incoming webhook."""

    kind = "slack"
    section = "slack_configs"

    url: SecretField = Field(description="The incoming webhook's address, as a secret.", examples=[{"file": "slack_url"}])
    channel: Text | None = Field(None, description="Channel, where it is not the webhook's own.", examples=["#alerts"])

    def block(self) -> Block:
        return {
            "api_url_file": self.url.path,
            **({"channel": self.channel} if self.channel else {}),
            "send_resolved": self.send_resolved,
            "color": '{{ template "lgtm.color" . }}',
            "title": '{{ template "lgtm.title" . }}',
            "title_link": '{{ template "lgtm.dashboard" . }}',
            "text": '{{ template "lgtm.slack.text" . }}',
            "fallback": '{{ template "lgtm.title" . }}',
        }


class PagerDuty(Receiver):
    """An incident by PagerDuty's Events API v2."""

    kind = "pagerduty"
    section = "pagerduty_configs"

    routing_key: SecretField = Field(
        description="The service's integration key, as a secret.", examples=[{"file": "pagerduty_key"}]
    )

    def block(self) -> Block:
        return {
            "routing_key_file": self.routing_key.path,
            "send_resolved": self.send_resolved,
            "description": '{{ template "lgtm.title" . }}',
            "severity": '{{ template "lgtm.pagerduty.severity" . }}',
            "client": "lgtm-as-code",
            "client_url": '{{ template "lgtm.dashboard" . }}',
            "details": {
                "alerts": '{{ template "lgtm.text" . }}',
                "runbook": '{{ template "lgtm.runbook" . }}',
            },
        }


class Email(Receiver):
    """A mail by SMTP."""

    kind = "email"
    section = "email_configs"

    to: Annotated[list[Text] | Text, BeforeValidator(lambda v: _mailboxes(v))] = Field(
        description="One address or a list.", examples=["oncall@example.com"]
    )
    sender: Annotated[str, BeforeValidator(lambda v: _mailbox(v))] = Field(
        alias="from", description="The sender's address.", examples=["alerts@example.com"]
    )
    smarthost: Annotated[str, BeforeValidator(lambda v: _host_port(v))] = Field(
        description="The mail server and its port.", examples=["smtp.example.com:587"]
    )
    username: Text | None = Field(None, description="User name, where the server asks for one.", examples=["alerts"])
    password: SecretField | None = Field(None, description="Password, as a secret.", examples=[{"file": "smtp_password"}])
    require_tls: bool = Field(True, description="Refuse to send without TLS.", examples=[True])

    def block(self) -> Block:
        to = [self.to] if isinstance(self.to, str) else self.to
        return {
            "to": ", ".join(to),
            "from": self.sender,
            "smarthost": self.smarthost,
            **({"auth_username": self.username} if self.username else {}),
            **({"auth_password_file": self.password.path} if self.password else {}),
            "require_tls": self.require_tls,
            "send_resolved": self.send_resolved,
            "headers": {"Subject": '{{ template "lgtm.title" . }}'},
            "html": '{{ template "lgtm.email.html" . }}',
            "text": '{{ template "lgtm.text" . }}',
        }


class Teams(Receiver):
    """A card in a Microsoft Teams channel, by the webhook of a workflow."""

    kind = "teams"
    section = "msteamsv2_configs"

    url: SecretField = Field(description="The workflow's address, as a secret.", examples=[{"file": "teams_url"}])

    def block(self) -> Block:
        return {
            "webhook_url_file": self.url.path,
            "send_resolved": self.send_resolved,
            "title": '{{ template "lgtm.title" . }}',
            "text": '{{ template "lgtm.markdown" . }}',
        }


class Discord(Receiver):
    """A message to a Discord channel by its webhook."""

    kind = "discord"
    section = "discord_configs"

    url: SecretField = Field(description="The webhook's address, as a secret.", examples=[{"file": "discord_url"}])

    def block(self) -> Block:
        return {
            "webhook_url_file": self.url.path,
            "send_resolved": self.send_resolved,
            "title": '{{ template "lgtm.title" . }}',
            "message": '{{ template "lgtm.markdown" . }}',
        }


class Telegram(Receiver):
    """A message of a Telegram bot."""

    kind = "telegram"
    section = "telegram_configs"

    bot_token: SecretField = Field(description="The bot's token, as a secret.", examples=[{"file": "telegram_token"}])
    chat: int = Field(description="The chat's number; negative for a group.", examples=[-1001234567890])

    def block(self) -> Block:
        return {
            "bot_token_file": self.bot_token.path,
            "chat_id": self.chat,
            "parse_mode": "HTML",
            "send_resolved": self.send_resolved,
            "message": '{{ template "lgtm.telegram" . }}',
        }


class Opsgenie(Receiver):
    """An alert in Opsgenie."""

    kind = "opsgenie"
    section = "opsgenie_configs"

    api_key: SecretField = Field(description="The integration's key, as a secret.", examples=[{"file": "opsgenie_key"}])
    region: Literal["us", "eu"] = Field("us", description="Where the account is.", examples=["eu"])
    team: Text | None = Field(None, description="Who is responsible, by the team's name.", examples=["backend"])

    def block(self) -> Block:
        return {
            "api_key_file": self.api_key.path,
            "api_url": f"https://api.{'eu.' if self.region == 'eu' else ''}opsgenie.com/",
            "send_resolved": self.send_resolved,
            "message": '{{ template "lgtm.title" . }}',
            "description": '{{ template "lgtm.text" . }}',
            "priority": '{{ template "lgtm.opsgenie.priority" . }}',
            "details": {"runbook": '{{ template "lgtm.runbook" . }}', "dashboard": '{{ template "lgtm.dashboard" . }}'},
            **({"responders": [{"name": self.team, "type": "team"}]} if self.team else {}),
        }


# What Alertmanager 0.31 can send to, as its sections are called without _configs.
SECTIONS = (
    "discord", "email", "incidentio", "jira", "mattermost", "msteams", "msteamsv2", "opsgenie", "pagerduty", "pushover",
    "rocketchat", "slack", "sns", "telegram", "victorops", "webex", "webhook", "wechat",
)  # fmt: skip
# Keys whose value is a credential. Alertmanager reads each from a file under the same name with _file.
_CREDENTIALS = frozenset(
    (
        "access_key", "alert_source_token", "api_key", "api_secret", "app_token", "auth_password", "auth_secret",
        "bearer_token", "bot_token", "client_secret", "credentials", "key", "password", "routing_key", "secret_key",
        "service_key", "token", "token_id", "user_key", "webhook_url",
    )
)  # fmt: skip
# These have no file to be read from, and are no secret.
_OPEN = frozenset({("victorops", "routing_key")})


class Raw(Receiver):
    """Any other receiver that Alertmanager has, in its own words: its section without _configs, then its fields.

    A field that is a credential takes ``{file: NAME}``, as everywhere.
    """

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, arbitrary_types_allowed=True)

    kind = "alertmanager"
    section = ""

    @model_validator(mode="before")
    @classmethod
    def _check(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not set(data) - {"send_resolved"}:
            raise fault("missing-kind", "this names no receiver of Alertmanager", f"one of: {', '.join(SECTIONS)}")
        out: dict[str, Any] = {}
        for section, block in data.items():
            name = str(section).removesuffix("_configs")
            if section == "send_resolved":
                out[section] = block
                continue
            if name not in SECTIONS:
                raise fault(
                    "unknown-kind",
                    "Alertmanager has no receiver {value}",
                    did_you_mean(name, SECTIONS, "receivers"),
                    value=section,
                )
            entries = block if isinstance(block, list) else [block]
            if not entries or not all(isinstance(entry, dict) for entry in entries):
                raise fault("wrong-type", "a receiver of Alertmanager is keys and values", "pushover: {user_key: {file: …}}")
            out[name] = [_raw_block(name, entry) for entry in entries]
        return out

    def blocks(self) -> Iterator[tuple[str, Block]]:
        for name, entries in (self.model_extra or {}).items():
            for entry in entries:
                yield f"{name}_configs", {"send_resolved": self.send_resolved, **_with_paths(entry)}

    def block(self) -> Block:
        return next(self.blocks())[1]

    def secrets(self) -> Iterator[Secret]:
        yield from _secrets_in(self.model_extra or {})


def _raw_block(section: str, data: Any) -> Any:
    if isinstance(data, list):
        return [_raw_block(section, value) for value in data]
    if not isinstance(data, dict):
        return data
    out: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, dict) and value and set(value) <= {"file", "env"}:
            out[key] = Secret.model_validate(value)
        elif key.endswith("_file") and isinstance(value, str):
            out[key.removesuffix("_file")] = Secret.model_validate({"file": value})
        elif key in _CREDENTIALS and (section, key) not in _OPEN and not isinstance(value, dict | list):
            _secret(str(value))
        else:
            out[key] = _raw_block(section, _address(value))
    return out


def _with_paths(data: Any) -> Any:
    """Alertmanager's form: a secret under KEY becomes the path under KEY_file."""
    if isinstance(data, list):
        return [_with_paths(value) for value in data]
    if not isinstance(data, dict):
        return data
    return {
        (f"{key}_file" if isinstance(value, Secret) else key): value.path if isinstance(value, Secret) else _with_paths(value)
        for key, value in data.items()
    }


def _secrets_in(data: Any) -> Iterator[Secret]:
    if isinstance(data, Secret):
        yield data
    elif isinstance(data, dict | list):
        for value in data.values() if isinstance(data, dict) else data:
            yield from _secrets_in(value)


def _mailbox(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[^@\s,]+@[^@\s,]+", value):
        raise fault("bad-email", "{value} is not a mail address", "write it as oncall@example.com", value=value)
    return value


def _mailboxes(value: Any) -> Any:
    if isinstance(value, list):
        if not value:
            raise fault("empty-list", "this list is empty", "name at least one address")
        return [_mailbox(v) for v in value]
    return _mailbox(value)


def _host_port(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_.-]+:\d{1,5}", value):
        raise fault("bad-address", "{value} is not a host and a port", "write it as smtp.example.com:587", value=value)
    return value


KINDS: Mapping[str, type[Receiver]] = {
    kind.kind: kind for kind in (Webhook, Slack, PagerDuty, Email, Teams, Discord, Telegram, Opsgenie, Raw)
}
