"""A hundred secrets and personal data, none real, and the places where services put such things by mistake.

Written in parts, so that nothing here looks like a secret to the scanners of code hosts.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True)
class Leak:
    """``secret`` must not be found anywhere. With a ``key`` only the name beside it tells that it is one."""

    secret: str
    key: str | None = None

    @property
    def sentence(self) -> str:
        """A log message that gives it away."""
        return f"retry 3 of 5 with {self.key}={self.secret} failed" if self.key else f"retry 3 of 5 for {self.secret} failed"

    @property
    def document(self) -> str:
        """A JSON document inside of text."""
        return json.dumps({"id": 7, "user": {self.key or "note": self.secret}})

    @property
    def url(self) -> str:
        """An address with it in the query."""
        return f"https://shop.example/pay?step=2&{self.key or 'q'}={quote(self.secret, safe='')}&x=1"

    @property
    def header(self) -> str:
        """A header as text."""
        return f"{(self.key or 'x-note').replace('_', '-').title()}: {self.secret}"

    @property
    def field(self) -> str:
        """The name of a field that holds it."""
        return self.key or "note"


def _b64(text: str) -> str:
    import base64

    return base64.b64encode(text.encode()).decode()


_MADE = "0a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T"
_HEX = "0123456789abcdef0123456789abcdef"
_JWT = "eyJ" + "hbGciOiJIUzI1NiJ9.eyJ" + "zdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
_PEM = "PRIVATE KEY-----"

# What gives itself away, wherever it stands.
EVIDENT: tuple[str, ...] = (
    # E-mail addresses
    "jane.doe@example.com", "j+newsletter@mail.example.co.uk", "MAX@EXAMPLE.ORG", "a_b-c.d@sub.domain.example",
    "o%27hara@example.ie", "1234@example.net", "jürgen@beispiel.de", "x@y.example", "first.last@example.museum",
    "root@mail-01.internal.example", "kunde+42@example.ch", "very.long.local.part.of.an.address@example.com",
    # Payment cards, all of test ranges
    "4111111111111111", "4111 1111 1111 1111", "4012-8888-8888-1881", "5555555555554444", "5105 1051 0510 5100",
    "2223003122003222", "378282246310005", "3782 822463 10005", "6011111111111117", "30569309025904", "3530111333300000",
    "6304000000000000",
    # Bank accounts, social security, telephones
    "DE89370400440532013000", "GB82 WEST 1234 5698 7654 32", "FR1420041010050500013M02606", "NL91ABNA0417164300",
    "078-05-1120", "219-09-9999", "+49 30 901820", "+1 (415) 555-2671", "+442079460958",
    # Tokens whose shape tells whose they are
    _JWT, "Bearer " + _MADE, "bearer abc.def-" + _MADE, "Basic " + _b64("alice:correct horse"), "Digest " + _MADE,
    "AK" + "IAIOSFODNN7EXAMPLE", "AS" + "IAY34FZKBOKMUTVV7A", "gh" + "p_" + _MADE, "gh" + "s_" + _MADE,
    "github" + "_pat_11ABCDEFG0" + _MADE, "gl" + "pat-" + _MADE[:20], "xo" + "xb-123456789012-" + _MADE[:24],
    "xo" + "xp-" + _MADE[:30], "sk" + "_live_" + _MADE[:24], "rk" + "_test_" + _MADE[:24], "wh" + "sec_" + _MADE[:32],
    "sk" + "-proj-" + _MADE, "sk" + "-ant-api03-" + _MADE, "AI" + "zaSy" + _MADE[:33], "ya" + "29.a0Af" + _MADE,
    "SG" + "." + _MADE[:22] + "." + _MADE, "np" + "m_" + _MADE[:36], "py" + "pi-AgEIcHlwaS5vcmc" + _MADE,
    "hf" + "_" + _MADE[:34],
    "sh" + "pat_" + _HEX, "hv" + "s." + _MADE, "gl" + "sa_" + _MADE[:32], "dop" + "_v1_" + _HEX + _HEX,
    "SK" + _HEX, "hooks.slack" + ".com/services/T00000000/B00000000/" + _MADE[:24],
    "-----BEGIN " + _PEM + "\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n-----END " + _PEM,
    "-----BEGIN RSA " + _PEM + "\nMIIEowIBAAKCAQEA" + _MADE + "\n-----END RSA " + _PEM,
)  # fmt: skip

# What only a name gives away.
NAMED: tuple[tuple[str, str], ...] = (
    ("password", "hunter2"), ("password", "tr0ub4dor&3".replace("&", "_")), ("passwd", "letmein!"), ("pwd", "qwertz123"),
    ("passphrase", "open-sesame-55"), ("db_password", "pg-S3cr3t"), ("PASSWORD", "UPPER-case-9"),
    ("old_password", "winter2025"),
    ("secret", "s3cr3t-value"), ("client_secret", "cs-998877"), ("secret_key", "django-insecure-1x"), ("api_key", "k-4242424"),
    ("apikey", "ak-5151"), ("x-api-key", "xk-6161"), ("api-key", "ik-7171"), ("access_key", "acc-8181"), ("token", "t-9191"),
    ("access_token", "at-1a1a"), ("refresh_token", "rt-2b2b"), ("id_token", "it-3c3c"), ("auth_token", "au-4d4d"),
    ("csrf_token", "cs-5e5e"), ("session_id", "sess-6f6f"), ("private_key", "pk-7a7a"), ("credential", "cr-8b8b"),
    ("authorization", "opaque-9c9c"), ("cookie", "theme_dark_0d0d"), ("set-cookie", "sid_1e1e"), ("pin", "90817263"),
    ("otp", "77118822"),
    ("cvv", "66337744"), ("ssn", "078051120"), ("iban", "XX-55-66"), ("email", "not-an-address-2f2f"), ("phone", "030901820"),
    ("date_of_birth", "1970-02-03"),
)  # fmt: skip

LEAKS: tuple[Leak, ...] = (*(Leak(secret) for secret in EVIDENT), *(Leak(secret, key) for key, secret in NAMED))

# Names and text that look a little like the above and that people need to find again.
HARMLESS: tuple[tuple[str, object], ...] = (
    ("process.id", "user_authentication"), ("process.stage", "token_validation"), ("gen_ai.usage.input_tokens", 512),
    ("token_count", 99), ("company.id", "northwind"), ("user.id", "northwind-12"), ("conversation.id", "c-0123456789ab"),
    ("trace", "4bf92f3577b34da6a3ce929d0e0e4736"), ("order", "1234567890123456"), ("at", "2026-11-20T14:43:07.123456Z"),
    ("nanos", 1763649787123456789), ("url.path", "/api/companies/northwind/context"), ("span", "GET /items/{id}"),
    ("version", "2.1.0"), ("ip", "192.168.12.123"), ("image", "registry.example/shop@sha256:" + _HEX + _HEX),
    ("message", "council_deliberation_3stage succeeded in 2.345 s"), ("message", "3 of 5 tokens used: 60 %"),
    ("uuid", "123e4567-e89b-12d3-a456-426614174000"), ("shipping", "express"), ("duration_seconds", 0.123456),
)  # fmt: skip
