"""Secrets and personal data out of log lines, spans and labels of metrics, before they leave the process.

What a field is called decides first (``password``, ``authorization``, ``email``, and the fields given to ``setup``): its
whole value goes. Every other text is searched for what gives itself away: e-mail addresses, payment cards (by their check
digit), IBANs, bearer and vendors' tokens, private keys, passwords in URLs, ``password=…`` inside a message. The collector
looks again, for services that do not use this package.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import unquote_plus

from opentelemetry.sdk.metrics.export import MetricsData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link, Status
from opentelemetry.util.types import Attributes

MASK = "[redacted]"

# Names of fields whose value is nobody's business. `token` counts at the end of a name only: `token_count` and
# `gen_ai.usage.input_tokens` are numbers that people need.
_KEYS = (
    r"passw(?:or)?d|passphrase|passwd|secret|credential|api[_.\- ]?key|access[_.\- ]?key|private[_.\- ]?key|"
    r"encryption[_.\- ]?key|signing[_.\- ]?key|authorization|cookie|card[_.\- ]?(?:number|no)|security[_.\- ]?code|"
    r"e[_.\-]?mail|mail[_.\-]?address|phone|telephone|mobile[_.\-]?number|birth[_.\-]?da(?:te|y)|date[_.\-]?of[_.\-]?birth|"
    r"social[_.\- ]?security|tax[_.\-]?(?:id|number)|passport|account[_.\-]?number|routing[_.\-]?number|"
    r"phpsessid|session[_\-]?id|connect\.sid|connection[_.\- ]?string"
)
# These only as the whole last word of a name.
_ENDS = (
    r"token|pwd|pass|pw|jwt|csrf|xsrf|otp|totp|mfa[_.\-]?code|pin|cvv2?|cvc2?|ssn|iban|bic|dob|pan|dsn|api[_.\-]?secret|bearer"
)

_KEY = re.compile(
    rf"(?:{_KEYS})|(?:^|[_.\-\s]|(?-i:(?<=[a-z])(?=[A-Z])))(?:{_ENDS})$|(?:access|refresh|auth|id|bearer)token$", re.I
)

_EMAIL = re.compile(r"[\w.%+\-]+(?:@|%40)[\w\-]+(?:\.[\w\-]+)+")
_URL_PASSWORD = re.compile(r"(?<=://)[^\s/@\"'<>]*@")
# In the groups that cards are printed in, or in one: a UUID's groups of digits are no card.
_CARD = re.compile(
    r"(?<![\w.])[2-6](?:\d{12,18}|\d{3}(?:[ \-.]\d{4}){3}(?:[ \-.]?\d{1,3})?|\d{3}[ \-.]\d{6}[ \-.]\d{4,5})(?!\w)"
)
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
_SSN = re.compile(r"(?<![\w\-])\d{3}-\d{2}-\d{4}(?![\w\-])")
_PHONE = re.compile(r"(?<![\w+])(?:\+|%2B)\d(?:[ ().\-]{0,2}\d){7,14}(?!\w)")
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----|\Z)", re.S
)
# A capital letter or a digit inside: "basic authentication" is prose.
_SCHEME = re.compile(
    r"\b((?i:bearer|basic|digest|negotiate))(\s+|%20|\+)(?=[^\s\"',;&]{6})[\w~+/][a-z]*[A-Z0-9=+/._~\-][^\s\"',;&]*"
)
_TOKEN = re.compile(
    r"""\beyJ[\w\-]{8,}(?:\.[\w\-]*){0,4}                    # JSON web token
    |\b(?:AKIA|ASIA|AGPA|AIDA|AROA)[A-Z0-9]{12,}             # AWS
    |\bgh[pousr]_\w{16,}|\bgithub_pat_\w{16,}|\bglpat-[\w\-]{10,}
    |\bxox[abeoprs]-[\w\-]{8,}|\bxapp-[\w\-]{8,}|hooks\.slack\.com/(?:services|workflows)/[\w/]+
    |\b[spr]k_(?:live|test)_\w{8,}|\bwhsec_[\w+/=]{8,}       # Stripe
    |\bsk-[\w\-]{16,}|\bAIza[\w\-]{20,}|\bya29\.[\w\-]{10,}|\bGOCSPX-[\w\-]{10,}
    |\bSG\.[\w\-]{10,}\.[\w\-]{10,}|\bkey-[0-9a-f]{32}\b|\bSK[0-9a-f]{32}\b|\bAC[0-9a-f]{32}\b
    |\bnpm_[A-Za-z0-9]{20,}|\bpypi-[\w\-]{16,}|\bhf_[A-Za-z0-9]{20,}|\bdop_v1_\w{16,}|\bshp(?:at|ca|pa|ss)_\w{16,}|\bhvs\.[\w\-]{16,}
    |\bglsa_\w{16,}|\bdckr_pat_[\w\-]{10,}|\bsq0[a-z]{3}-[\w\-]{16,}|\b\d{8,10}:AA[\w\-]{30,}|\bAGE-SECRET-KEY-1\w+
    """,
    re.X,
)
_QUOTED = r"\"(?:[^\"\\]|\\.)*\"?|'(?:[^'\\]|\\.)*'?|\\\"[^\"\\]*\\?\"?"


def _pairs(names: str) -> str:
    """Verbose pattern for a name beside its value inside of text: group 1 up to the value, group 2 the value."""
    return rf"""({names}\]?\\?["']?
    \s{{0,3}}(?::|=>|=|%3D)\s{{0,3}})
    (?!\[redacted\]|["']\[redacted\])
    ({_QUOTED}|(?:bearer|basic|digest|token|apikey)\s+[^\s,;"'&]+|[^\s"'&,;)\]}}]+)"""


_PAIR = re.compile(
    _pairs(
        rf"(?:(?:{_KEYS})[\w.\-]*|(?<![A-Za-z])(?:{_ENDS})|(?:access|refresh|auth|id|csrf|bearer)[_.\- ]?token)".replace(
            " ", r"\ "
        )
    ),
    re.X | re.I,
)
# Headers run to the end of their line: a cookie has semicolons, an authorization has spaces and commas.
_HEADER = re.compile(
    r"\b((?:proxy-)?authorization|(?:set-)?cookie)([\"']?\s{0,3}[:=]\s{0,3})(?!\[redacted\])([^\s\"'][^\r\n\"']*)", re.I
)
_ENCODED = re.compile(r"[^\s&=?/\"'<>%]*%[0-9A-Fa-f]{2}[^\s&=?/\"'<>]*")
_DIGITS = re.compile(r"\D")
_DIGIT = re.compile(r"\d")
# At least one of these is in whatever the patterns above find: a look for plain text is many times quicker than they are.
_NAMES = (
    "pass", "secret", "credential", "key", "authorization", "cookie", "card", "code", "mail", "phone", "birth", "social", "tax",
    "number", "phpsessid", "session", "connect", "token", "pwd", "pw", "jwt", "csrf", "xsrf", "otp", "pin", "cvv", "cvc", "ssn",
    "iban", "bic", "dob", "pan", "dsn", "bearer",
)  # fmt: skip
_SCHEMES = ("bearer", "basic", "digest", "negotiate")
_STARTS = (
    "eyJ", "AKIA", "ASIA", "AGPA", "AIDA", "AROA", "gh", "github_pat", "glpat-", "xox", "xapp-", "hooks.slack", "k_live",
    "k_test", "whsec_",
    "sk-", "AIza", "ya29", "GOCSPX", "SG.", "key-", "SK", "AC", "npm_", "pypi-", "hf_", "dop_v1", "shp", "hvs.", "glsa_",
    "dckr_pat", "sq0", ":AA", "AGE-SECRET",
)  # fmt: skip


def _luhn(digits: str) -> bool:
    total = 0
    for index, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + index % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _card(match: re.Match[str]) -> str:
    digits = _DIGITS.sub("", match[0])
    return MASK if 13 <= len(digits) <= 19 and _luhn(digits) else match[0]


def _iban(match: re.Match[str]) -> str:
    compact = match[0].replace(" ", "")
    number = "".join(str(int(c, 36)) for c in compact[4:] + compact[:4])
    return MASK if int(number) % 97 == 1 else match[0]


def _pair(match: re.Match[str]) -> str:
    value = match[2]
    quote = value[0] if value[0] in "\"'" else ""
    return f"{match[1]}{quote}{MASK}{quote}"


def _encoded(match: re.Match[str]) -> str:
    decoded = unquote_plus(match[0])
    return MASK if _search(decoded) != decoded else match[0]


def _search(text: str) -> str:
    if "%" in text:
        text = _ENCODED.sub(_encoded, text)
    # Each test before a search is cheaper than the search by an order of magnitude, and seldom true.
    if "-----BEGIN" in text:
        text = _PRIVATE_KEY.sub(MASK, text)
    lower = text.lower()
    if (":" in text or "=" in text or "%3" in text) and any(word in lower for word in _NAMES):
        text = _HEADER.sub(rf"\1\2{MASK}", text)
        text = _PAIR.sub(_pair, text)
    if "@" in text or "%40" in text:
        if "://" in text:
            text = _URL_PASSWORD.sub(f"{MASK}@", text)
        text = _EMAIL.sub(MASK, text)
    if any(start in text for start in _STARTS):
        text = _TOKEN.sub(MASK, text)
    if any(word in lower for word in _SCHEMES):
        text = _SCHEME.sub(rf"\1 {MASK}", text)
    if _DIGIT.search(text):
        text = _CARD.sub(_card, text)
        text = _SSN.sub(MASK, text)
        text = _IBAN.sub(_iban, text)
        if "+" in text or "%2B" in text:
            text = _PHONE.sub(MASK, text)
    return text


# Ids, routes and the like repeat: most values of fields are looked up and not searched.
_remembered = functools.lru_cache(maxsize=8192)(_search)


class Redactor:
    """Masks secrets and personal data. ``fields`` names more fields whose values go; dots, dashes and case are the same."""

    def __init__(self, fields: Iterable[str] = ()) -> None:
        named = [name for name in fields if _plain(name)]
        self._fields = frozenset(_plain(name) for name in named)
        self._known: dict[str, bool] = {}
        words = (r"[_.\- ]?".join(re.findall(r"[A-Za-z][a-z]*|\d+|[A-Z]+", name)) for name in named)
        self._named = re.compile(_pairs(rf"(?<![A-Za-z])(?:{'|'.join(words)})"), re.X | re.I) if named else None

    def hides(self, key: str) -> bool:
        """Whether a field of this name has its value masked, whatever it is."""
        known = self._known.get(key)
        if known is None:
            known = bool(_KEY.search(key)) or _plain(key) in self._fields or _plain(key.rpartition(".")[2]) in self._fields
            if len(self._known) < 10_000:
                self._known[key] = known
        return known

    def text(self, text: str) -> str:
        """``text`` without what gives itself away as secret or personal."""
        found = _remembered(text) if len(text) <= 128 else _search(text)
        return found if self._named is None else self._own(found, self._named)

    def _own(self, text: str, named: re.Pattern[str]) -> str:
        # A document inside a message may hold fields whose values have a structure of their own.
        if text[:1] in "{[":
            try:
                return json.dumps(self.value(json.loads(text)), ensure_ascii=False)
            except ValueError:
                pass
        return named.sub(_pair, text)

    def value(self, value: Any, key: str = "") -> Any:
        """A field's value, masked where its name or its content asks for it; mappings and sequences are copied."""
        if value is None or isinstance(value, bool):
            return value
        if key and self.hides(key):
            return MASK
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, (int, float)):
            return MASK if isinstance(value, int) and 10**12 <= value < 10**19 and self.text(str(value)) == MASK else value
        if isinstance(value, Mapping):
            return {k: self.value(v, str(k)) for k, v in value.items()}
        if isinstance(value, (bytes, bytearray)):
            return self.text(bytes(value).decode("utf-8", "replace"))
        if isinstance(value, BaseException) or not isinstance(value, (Sequence, set, frozenset)):
            return self.text(str(value))
        if len(value) == 2 and isinstance(value, tuple) and isinstance(value[0], (str, bytes)):
            # A header or a form's field: name and value. It may as well be two of anything.
            name = value[0] if isinstance(value[0], str) else value[0].decode("latin-1")
            return (self.text(name), self.value(value[1], name))
        return [self.value(item) for item in value]

    def fields(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """``fields`` masked, in the same order."""
        return {key: self.value(value, key) for key, value in fields.items()}


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def redacted_span(span: ReadableSpan, redact: Redactor) -> ReadableSpan:
    """``span`` itself when there is nothing to mask in it, else a copy: name, status, attributes, events and links."""
    attributes = _masked(span.attributes, redact)
    events = [_masked_event(event, redact) for event in span.events]
    links = [
        Link(link.context, link_attributes)
        if (link_attributes := _masked(link.attributes, redact)) is not link.attributes
        else link
        for link in span.links
    ]
    name = redact.text(span.name)
    told = span.status.description
    status = span.status
    if told and (hidden := redact.text(told)) != told:
        status = Status(status.status_code, hidden)
    if (
        attributes is span.attributes
        and name == span.name
        and status is span.status
        and all(a is b for a, b in zip(events, span.events, strict=True))
        and all(a is b for a, b in zip(links, span.links, strict=True))
    ):
        return span
    return ReadableSpan(
        name,
        span.context,
        span.parent,
        span.resource,
        attributes,
        events,
        links,
        span.kind,
        status=status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _masked_event(event: Event, redact: Redactor) -> Event:
    attributes, name = _masked(event.attributes, redact), redact.text(event.name)
    return event if attributes is event.attributes and name == event.name else Event(name, attributes, event.timestamp)


def redacted_metrics(data: MetricsData, redact: Redactor) -> MetricsData:
    """``data`` itself when no label of a point has anything to mask, else a copy.

    Points that differ in nothing but what is masked become one series, and Prometheus keeps the first of them.
    """

    def within(holder: Any, name: str, inner: Callable[[Any], Any]) -> Any:
        parts = getattr(holder, name)
        made = [inner(part) for part in parts]
        return holder if all(a is b for a, b in zip(made, parts, strict=True)) else replace(holder, **{name: made})

    def point(one: Any) -> Any:
        labels = _masked(one.attributes, redact)
        return one if labels is one.attributes else replace(one, attributes=labels)

    def metric(one: Any) -> Any:
        points = within(one.data, "data_points", point)
        return one if points is one.data else replace(one, data=points)

    def scope(one: Any) -> Any:
        return within(one, "metrics", metric)

    made: MetricsData = within(data, "resource_metrics", lambda one: within(one, "scope_metrics", scope))
    return made


def redacted_resource(resource: Resource, redact: Redactor) -> Resource:
    """What is said of the service itself, which OTEL_RESOURCE_ATTRIBUTES may add to."""
    attributes = _masked(resource.attributes, redact)
    return resource if attributes is resource.attributes else Resource(dict(attributes or {}), resource.schema_url)


def _masked(attributes: Attributes, redact: Redactor) -> Attributes:
    if not attributes:
        return attributes
    found = redact.fields(attributes)
    return found if any(_differ(found[key], value) for key, value in attributes.items()) else attributes


def _differ(masked: Any, value: Any) -> bool:
    # OpenTelemetry keeps sequences as tuples, the redactor answers with lists.
    return bool(masked != (list(value) if isinstance(value, tuple) and isinstance(masked, list) else value))


class _Nothing(Redactor):
    """For ``setup(redact=False)``: tests, and services whose logs never leave their machine."""

    def hides(self, key: str) -> bool:
        return False

    def text(self, text: str) -> str:
        return text

    def value(self, value: Any, key: str = "") -> Any:
        return value


NOTHING: Redactor = _Nothing()
