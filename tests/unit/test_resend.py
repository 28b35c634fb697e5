"""`lgtm resend`: the copies of spans as they lie in the collector's files, what is sent of them, and what a person is told."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
import zstandard
from click.testing import CliRunner
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from generator.cli import cli
from generator.commands.resend import as_text
from generator.incident.moment import parse_time
from generator.resend import SLACK, Resent, _take
from generator.span_copies import LATEST, messages
from generator.units import Duration

ROOT = Path(__file__).resolve().parents[2]
A, B = b"a" * 16, b"b" * 16


def _message(*spans: tuple[bytes, bytes], text: str = "") -> TracesData:
    message = TracesData()
    scope = message.resource_spans.add().scope_spans.add()
    for trace, span in spans:
        scope.spans.add(trace_id=trace, span_id=span, name=text or "work")
    return message


def _file(*written: TracesData) -> bytes:
    """As the exporter writes it: compressed, with the length before it in four bytes."""
    frames = [zstandard.ZstdCompressor(write_checksum=True).compress(m.SerializeToString()) for m in written]
    return b"".join(struct.pack(">I", len(frame)) + frame for frame in frames)


def _names(found: Sequence[TracesData | None]) -> list[str | None]:
    return [None if m is None else m.resource_spans[0].scope_spans[0].spans[0].name for m in found]


def test_messages_are_read_as_they_were_written() -> None:
    # The mark by which a message is found may also stand inside of one.
    marked = "inside (\N{VULGAR FRACTION ONE HALF}"
    content = _file(_message((A, b"1"), text="one"), _message((A, b"2"), text=marked), _message((A, b"3"), text="three"))
    assert _names(list(messages(content))) == ["one", marked, "three"]
    assert list(messages(b"")) == []


def test_a_mark_inside_of_a_message_is_not_taken_for_the_next_one() -> None:
    message = _message((bytes.fromhex("28b52ffd") * 4, b"1" * 8), text="marked")
    # Too short to be compressed, so that it stands there as it is.
    content = _file(message, message)
    assert content.count(bytes.fromhex("28b52ffd")) > 2
    assert _names(list(messages(content))) == ["marked", "marked"]


@pytest.mark.parametrize("left", [1, 3, 4, 6, 20, 40])
def test_a_write_that_was_cut_short_loses_no_other(left: int) -> None:
    one, torn, three = (_file(_message((A, b"1"), text=text * 10)) for text in ("one", "torn", "three"))
    assert len(torn) > left
    found = _names(list(messages(one + torn[:left] + three)))
    assert [name for name in found if name] == ["one" * 10, "three" * 10]
    assert found.count(None) == (1 if left >= 8 else 0), "without its beginning nothing shows that it was there"
    assert _names(list(messages(one + three + torn[:left]))) == ["one" * 10, "three" * 10], "that is being written"


def test_only_what_is_lacking_is_sent_and_once() -> None:
    wanted = {A: {b"2", b"3"}, B: {b"9"}}
    message = _message((A, b"1"), (B, b"1"), (A, b"2"), (A, b"2"))
    assert _take(message, wanted) == 1
    assert [(s.trace_id, s.span_id) for s in message.resource_spans[0].scope_spans[0].spans] == [(A, b"2")]
    assert _take(_message((A, b"2"), (A, b"3")), wanted) == 1
    assert _take(_message((A, b"2"), (A, b"3")), wanted) == 0
    assert wanted == {A: set(), B: {b"9"}}


def test_the_wait_is_as_long_as_tempo_counts_spans() -> None:
    tempo = yaml.safe_load((ROOT / "tempo" / "tempo.yaml").read_text(encoding="utf-8"))
    assert Duration.of(tempo["metrics_generator"]["metrics_ingestion_time_range_slack"]).seconds == SLACK


def test_the_collector_keeps_what_it_hands_to_tempo_and_after_redaction() -> None:
    collector = yaml.safe_load((ROOT / "collector" / "collector.yaml").read_text(encoding="utf-8"))
    assert collector["exporters"]["file/spans"]["path"] == LATEST
    for name, pipeline in collector["service"]["pipelines"].items():
        assert ("file/spans" in pipeline["exporters"]) == ("otlp_grpc/tempo" in pipeline["exporters"]), name
    assert {"redaction/names", "redaction/values"} <= {*collector["service"]["pipelines"]["traces"]["processors"]}


def _found(**more: object) -> Resent:
    known: dict[str, object] = {
        "since": 1000.0, "until": 4600.0, "kept_since": 900.0, "spans": 50, "traces": 5, "lacking": 12, "lacking_traces": 1,
        "first": 2000.0, "last": 2060.0, "missing": 0, "size": 4096, "torn": 0,
    }  # fmt: skip
    return Resent(**{**known, **more})  # type: ignore[arg-type]


def test_what_a_person_is_told() -> None:
    told = "\n".join(as_text(_found(), dry_run=False))
    assert re.search(r"Of 50 spans of 5 traces, Tempo lacked 12 spans of 1 trace, which ended from \S+ \S+ to", told)
    assert told.endswith("sent again, and it has them all.")
    assert as_text(_found(missing=12), dry_run=True)[-1].startswith("Nothing was sent.")
    assert "still lacks 3 spans. Is its disk full?" in as_text(_found(missing=3), dry_run=False)[-1]
    assert as_text(_found(lacking=0, first=None, last=None), dry_run=False) == [
        "Tempo has all that there are copies of from then: 50 spans of 5 traces."
    ]
    assert "reach back to" in as_text(_found(kept_since=2000.0), dry_run=False)[0]
    assert "2 places in" in as_text(_found(torn=2), dry_run=False)[0]
    assert not [line for line in as_text(_found(), dry_run=False) if "more from before" in line]
    (earlier,) = [line for line in as_text(_found(first=1060.0), dry_run=False) if "more from before" in line]
    assert parse_time(earlier.split('"')[1]).timestamp() == 900.0, "it can be run as it is shown"
    assert as_text(_found(kept_since=None), dry_run=False) == [
        "The collector has no copies: no span has come since it keeps them."
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--since", "10 minutes ago", "--until", "20 minutes ago"], "is not before --until"),
        (["--since", "whenever"], "'whenever' is not a time"),
    ],
)
def test_a_time_that_cannot_be_meant_is_refused(words: list[str], said: str) -> None:
    done = CliRunner().invoke(cli, ["-C", str(ROOT), "resend", *words])
    assert done.exit_code in (1, 2) and said in done.output
