"""Nothing secret or personal leaves through a log line or a span; what people need stays."""

from __future__ import annotations

import json

import pytest
from lgtm_instrumentation.redaction import MASK, NOTHING, Redactor

from tests.leaks import HARMLESS, LEAKS, Leak

REDACT = Redactor()


def test_there_are_a_hundred() -> None:
    assert len({(leak.key, leak.secret) for leak in LEAKS}) >= 100


@pytest.mark.parametrize("leak", LEAKS, ids=lambda leak: f"{leak.key or ''}:{leak.secret[:24]}")
def test_nothing_leaks(leak: Leak) -> None:
    for text in (leak.sentence, leak.document, leak.header, f"before\n{leak.header}\nafter"):
        found = REDACT.text(text)
        assert leak.secret not in found and MASK in found, text
    found = REDACT.text(leak.url)
    assert (
        leak.url.split("=", 2)[2].removesuffix("&x=1") not in found
        and MASK in found
        and found.startswith("https://shop.example")
    )
    assert REDACT.value(leak.secret, leak.field) == MASK or leak.secret not in REDACT.value(leak.secret, leak.field)
    assert leak.secret not in json.dumps(REDACT.value({"a": [{leak.field: leak.secret}]}), ensure_ascii=False)
    assert leak.secret not in str(REDACT.value([(leak.field.encode(), leak.secret.encode())]))
    assert leak.secret not in REDACT.text(repr({leak.field: leak.secret}))
    if leak.key is None:
        assert leak.secret not in str(REDACT.value((leak.secret, "of two")))


def test_the_rest_of_a_message_stays() -> None:
    assert REDACT.text("sent to jane@example.com after 3 s") == f"sent to {MASK} after 3 s"
    assert REDACT.text("postgres://shop:hunter2@db:5432/orders") == f"postgres://{MASK}@db:5432/orders"
    assert REDACT.text("GET /a?x=1&token=abc&y=2") == f"GET /a?x=1&token={MASK}&y=2"
    assert REDACT.text('{"user": "u1", "password": "a \\" b", "n": 1}') == f'{{"user": "u1", "password": "{MASK}", "n": 1}}'


@pytest.mark.parametrize(("key", "value"), HARMLESS)
def test_what_people_need_stays(key: str, value: object) -> None:
    assert REDACT.value(value, key) == value
    assert REDACT.text(f"{key}={value}") == f"{key}={value}"


def test_twice_is_once() -> None:
    for leak in LEAKS:
        once = REDACT.text(leak.sentence)
        assert REDACT.text(once) == once


def test_a_number_that_is_a_card() -> None:
    assert REDACT.value(4111111111111111, "amount") == MASK
    assert REDACT.value(4111111111111112, "amount") == 4111111111111112


def test_configured_fields() -> None:
    redact = Redactor(["birth_place", "Diagnosis"])
    assert redact.fields({"birthPlace": "Ulm", "patient.diagnosis": ["flu"], "city": "Ulm"}) == {
        "birthPlace": MASK,
        "patient.diagnosis": MASK,
        "city": "Ulm",
    }
    body = json.dumps({"patient": {"diagnosis": "flu"}, "padding": "x" * 200})
    assert "flu" not in redact.text(body)
    assert redact.text('{"diagnosis": ["flu", "cold"]}') == f'{{"diagnosis": "{MASK}"}}'
    assert redact.text("saved with birth-place=Ulm and diagnosis: flu, city=Ulm") == (
        f"saved with birth-place={MASK} and diagnosis: {MASK}, city=Ulm"
    )


def test_it_can_be_switched_off() -> None:
    assert NOTHING.value("hunter2", "password") == "hunter2" and NOTHING.text("a@b.example") == "a@b.example"


def test_long_text_takes_no_long_time() -> None:
    import time

    for unit in ("a", "a.", "1 ", "password", "eyJ", "+1", "@", "x@y", "token:", "-----BEGIN ", '"', "://"):
        text = unit * (100_000 // len(unit))
        started = time.process_time()
        REDACT.text(text)
        assert time.process_time() - started < 20, unit  # a pattern that tries every pair of places takes many minutes
