"""The first slos.yaml of a project: what `lgtm init` writes from a few answers."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from generator import base, model, schema
from generator.diagnostics import as_text, did_you_mean
from generator.errors import LgtmError

# Receivers that need nothing but one secret: kind → its field and the file that it is kept in.
SECRET_RECEIVERS = {
    "slack": ("url", "slack_url"),
    "pagerduty": ("routing_key", "pagerduty_key"),
    "teams": ("url", "teams_url"),
    "discord": ("url", "discord_url"),
}
NOBODY = "none"


@dataclass(frozen=True)
class Answers:
    """What has to be known for a first file.

    ``target`` is host:port of the service's metrics, empty when it pushes by OTLP. ``receiver`` is a kind of
    ``SECRET_RECEIVERS``, the address of a webhook, or ``none``.
    """

    organization: str
    owner: str
    service: str
    target: str
    receiver: str


def check_name(text: str) -> str:
    """A name as the file takes it. Raises LgtmError."""
    try:
        return str(TypeAdapter(base.Name).validate_python(text))
    except ValidationError as error:
        context = error.errors()[0].get("ctx") or {}
        raise LgtmError(f"{context.get('message')}.", f"{context.get('hint')}.") from None


def check_target(text: str) -> str:
    """host:port, or nothing. Raises LgtmError."""
    if text and not re.fullmatch(r"[A-Za-z0-9_.\-]+:[0-9]{1,5}", text):
        raise LgtmError(f"{text!r} is not host:port.", "Write it as host.docker.internal:8000, or leave it empty for OTLP.")
    return text


def check_receiver(text: str) -> str:
    """A kind, the address of a webhook, or none. Raises LgtmError."""
    if text in SECRET_RECEIVERS or text == NOBODY:
        return text
    if re.match(r"https?://", text):
        found = TypeAdapter(base.Url)
        try:
            return str(found.validate_python(text))
        except ValidationError as error:
            context = error.errors()[0].get("ctx") or {}
            raise LgtmError(f"{context.get('message')}.", f"{context.get('hint')}.") from None
    hint = did_you_mean(text, [*SECRET_RECEIVERS, NOBODY], "choose one of")
    raise LgtmError(f"{text!r} is no receiver.", f"{hint}; or write the address of a webhook, http://…")


def _scalar(text: str) -> str:
    """Text as YAML, quoted only where it has to be."""
    plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9 ._/-]*[A-Za-z0-9]", text)
    if plain and text.lower() not in ("yes", "no", "on", "off", "true", "false", "null"):
        return text
    return json.dumps(text, ensure_ascii=False)


def render(answers: Answers, schema_path: str | None = None) -> str:
    """The file's text: one service with one objective that counts HTTP requests, and one receiver.

    ``schema_path`` is where an editor finds the schema, from the file's own directory; None for no such line.
    """
    modeline = f"{schema.modeline(schema_path)}\n" if schema_path else ""
    service = answers.service
    scrape = f"    scrape: {{targets: [{json.dumps(answers.target)}], interval: 15s}}\n" if answers.target else ""
    if answers.receiver == NOBODY:
        routing = "# Nobody is told yet. `lgtm explain unrouted-alert` says what to write here.\nrouting: {}\n"
    else:
        if answers.receiver in SECRET_RECEIVERS:
            field, file = SECRET_RECEIVERS[answers.receiver]
            what = f"{answers.receiver}: {{{field}: {{file: {file}}}}}"
            comment = f"    # The secret itself is in secrets/{file}, never in this file.\n"
        else:
            what, comment = f"webhook: {{url: {json.dumps(answers.receiver)}}}", ""
        routing = f"routing:\n  receivers:\n{comment}    alerts: {{{what}}}\n  default: alerts\n"
    return f"""\
{modeline}# What good service means. After a change: lgtm validate, then lgtm apply.
version: 1
organization: {_scalar(answers.organization)}

defaults:
  owner: {_scalar(answers.owner)}
  window: 30d

services:
  {_scalar(service)}:
    tier: high
{scrape}    slos:
      availability:
        title: Requests succeed
        objective: 99.9%
        # Counters, without rate(): bad events, and all of them. Other kinds of SLI: docs/reference.md
        sli:
          ratio:
            errors: 'http_requests_total{{code=~"5.."}}'
            total: http_requests_total
      # latency:
      #   title: Requests are fast
      #   objective: 95%
      #   sli: {{latency: {{histogram: http_request_duration_seconds, under: 300ms}}}}   # one of its buckets
    # alerts:
    #   ConnectionPoolSaturated: {{expr: db_pool_used / db_pool_size, above: 80%, for: 5m}}
    runbook:
      symptoms: People see errors instead of answers.
      diagnosis:
        - Open the dashboard; is it one route or all of them?
        - Open the error logs below it and follow a trace.
      recovery: The burn rate over 5 minutes is below 1.

{routing}"""


def write(path: Path, answers: Answers, schema_path: str | None = None) -> list[str]:
    """Write the first file, and return what is still to be done, as sentences.

    Raises LgtmError when the file exists, when it cannot be written, or when the answers do not make a valid file.
    """
    text = render(answers, schema_path)
    if path.exists():
        raise LgtmError(f"{path} exists; nothing was written.", "Name another file with --output, or move it away.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise LgtmError(f"{path} cannot be written: {error.strerror}.", "Name another file with --output.") from None
    result = model.load([path], [str(path)])
    if result.model is None:
        path.unlink()
        shown = "\n".join(as_text(d, {str(path): text}) for d in result.errors)
        raise LgtmError(f"These answers make no valid file:\n{shown}", "Answer again; nothing was written.")
    steps = []
    if answers.receiver in SECRET_RECEIVERS:
        file_name = SECRET_RECEIVERS[answers.receiver][1]
        steps.append(f"Put the secret of {answers.receiver} into secrets/{file_name} (mode 600).")
    steps.append(f"Check it: lgtm -f {path} validate")
    return steps
