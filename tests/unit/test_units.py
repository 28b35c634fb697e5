"""Times, shares and limits: exact, and written back as people write them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from pydantic import TypeAdapter, ValidationError

from generator.units import Duration, DurationField, RatioField, Threshold, ThresholdField, percent, plain, show


@pytest.mark.parametrize(
    ("text", "seconds", "again"),
    [
        ("500ms", "0.5", "500ms"),
        ("1.5s", "1.5", "1s500ms"),
        ("5m", "300", "5m"),
        ("90s", "90", "1m30s"),
        ("1h30m", "5400", "1h30m"),
        ("36h", "129600", "36h"),
        ("1d12h", "129600", "36h"),
        ("4w", "2419200", "28d"),
        ("30d", "2592000", "30d"),
        ("0s", "0", "0s"),
    ],
)
def test_durations(text: str, seconds: str, again: str) -> None:
    duration = Duration.of(text)
    assert duration.seconds == Decimal(seconds)
    assert str(duration) == again
    assert Duration.of(str(duration)) == duration


@pytest.mark.parametrize("text", ["", "5", "m", "5 m", "-5m", "5m1h", "1y", "5M", "٥m", "1m1m", "0x5s", "1e3s"])
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        Duration.of(text)


def test_minutes_are_not_milliseconds() -> None:
    assert Duration.of("1m") == Duration.of("60000ms")
    assert Duration.of("1m5ms").seconds == Decimal("60.005")


RATIO: TypeAdapter[Decimal] = TypeAdapter(RatioField)


@pytest.mark.parametrize(
    ("text", "ratio"),
    [("99.9%", "0.999"), ("100%", "1"), ("0%", "0"), ("99.999999999999%", "0.99999999999999"), ("5 %", "0.05")],
)
def test_percentages_are_exact(text: str, ratio: str) -> None:
    value = RATIO.validate_python(text)
    assert value == Decimal(ratio)
    assert percent(value) == text.replace(" ", "")
    assert plain(1 - value) == plain(1 - Decimal(ratio))


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (Decimal("0.999"), "99.9%"),
        (Decimal("99.9"), "99.9%"),
        (99, "99%"),
        (1000, "99.9%"),
        (True, "99.9%"),
        ("101%", "99.9%"),
        (Decimal("1e400"), "99.9%"),
    ],
)
def test_no_percentages(value: object, hint: str) -> None:
    with pytest.raises(ValidationError) as error:
        RATIO.validate_python(value)
    assert error.value.errors()[0]["ctx"]["hint"] == f"write it as {hint}"


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        (80, "80", "number"),
        (Decimal("0.8"), "0.8", "number"),
        ("80%", "0.8", "percent"),
        ("250%", "2.5", "percent"),
        ("500ms", "0.5", "seconds"),
        ("2GiB", "2147483648", "bytes"),
        ("1.5MB", "1500000", "bytes"),
    ],
)
def test_thresholds(text: object, value: str, unit: str) -> None:
    limit: Threshold = TypeAdapter(ThresholdField).validate_python(text)
    assert (limit.value, limit.unit) == (Decimal(value), unit)


def test_plain_numbers_have_no_exponent() -> None:
    assert plain(Decimal("0.0010")) == "0.001"
    assert plain(Decimal("1e-9")) == "0.000000001"
    assert plain(Decimal("1E+3")) == "1000"
    assert plain(Decimal("100")) == "100"


def test_values_in_messages_are_short() -> None:
    assert show(None) == "nothing"
    assert show(True) == "true"
    assert show(5) == "5"
    assert show("a") == "'a'"
    assert show([1]) == "a list"
    assert len(show("x" * 1000)) < 70


def test_a_model_dump_writes_what_was_read() -> None:
    assert TypeAdapter(DurationField).dump_python(Duration.of("90s")) == "1m30s"
    assert RATIO.dump_python(Decimal("0.999")) == "99.9%"
