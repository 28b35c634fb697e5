"""The kinds of receiver: for each its fields, and the block of Alertmanager's configuration that it becomes.

A secret is never in the file: a field that needs one takes ``{file: NAME}``, the name of a file under ``secrets/``.
Field names of the blocks are Alertmanager 0.31's: https://prometheus.io/docs/alerting/latest/configuration/#receiver.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from generator.base import Base, Text, Url, fault
from generator.names import SECRETS_DIRECTORY

Block = dict[str, Any]


class Secret(Base):
    """A secret by reference: the name of a file under ``secrets/``."""

    file: Annotated[str, BeforeValidator(lambda v: _file_name(v))] = Field(
        description="Name of a file under secrets/.", examples=["slack_url"]
    )

    @property
    def path(self) -> str:
        """Where Alertmanager finds it."""
        return f"{SECRETS_DIRECTORY}/{self.file}"


def _file_name(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", value):
        raise fault("bad-name", "{value} cannot be the name of a file under secrets/", "write it as slack_url", value=value)
    return value


def _secret(value: Any) -> Any:
    if isinstance(value, str | int):
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


KINDS: Mapping[str, type[Receiver]] = {kind.kind: kind for kind in (Webhook, Slack, PagerDuty, Email)}
