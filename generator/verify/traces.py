"""Whether Tempo has what the collector has handed over: it acknowledges spans that it loses, and says that it is well."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from generator import words
from generator.verify.check import Check
from generator.verify.look import Look

if TYPE_CHECKING:
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

_MINUTES = 15
# What is younger may be under way.
_UNDER_WAY = 30
# So many traces are asked for, from all over that time: a hole of half a minute is seen.
_ASKED = 60
# The end of the newest file: 340,000 spans such as the demo's, whatever the file holds.
_READ_BYTES = 16_000_000
# Of the spans' queue: less is under way at any moment.
_WAITING_BYTES = 4_000_000
_QUEUE = 'max(otelcol_exporter_queue_size{exporter="otlp_grpc/tempo"})'


def traces(look: Look) -> Iterator[Check]:
    """Traces of the last minutes that the collector has copies of are in Tempo, as far as some of them show."""
    waiting = max((size for _, size in look.query(_QUEUE)), default=0.0)
    if waiting > _WAITING_BYTES:
        text = f"{waiting / 1e6:.0f} MB of spans wait in the collector's queue for Tempo"
        yield Check(
            "traces", "tempo", "skipped", text, "Look again when they are through; `lgtm logs tempo` says what keeps them."
        )
        return
    asked = _some(look, time.time())
    if not asked:
        yield Check("traces", "tempo", "ok", f"no span has come in the last {_MINUTES} minutes, so that it can lack none")
        return
    held = look.every({key: functools.partial(_held, look, key) for key in asked})
    lacking = {key: ended for key, (ended, spans) in asked.items() if spans - held[key]}
    if not lacking:
        yield Check(
            "traces", "tempo", "ok", f"it has {words.plural(asked, 'trace')} that the collector handed over, each whole"
        )
        return
    first, last = (datetime.fromtimestamp(at(lacking.values())).astimezone() for at in (min, max))
    when = f"from {first:%H:%M:%S} to {last:%H:%M:%S}"
    text = f"it lacks spans of {len(lacking)} of {words.plural(asked, 'trace')} that were asked for, which ended {when}"
    cure = "If its disk was full: make room, then `docker compose restart tempo`. `lgtm resend` sends what it lacks."
    yield Check("traces", "tempo", "fail" if len(lacking) > 1 else "warn", text, cure)


def _held(look: Look, trace: bytes) -> set[bytes]:
    from generator import resend

    return resend.span_ids(look.client("tempo"), trace)


def _some(look: Look, now: float) -> dict[bytes, tuple[float, set[bytes]]]:
    """When it ended (Unix seconds), and its spans, of each of some traces of the last minutes, evenly spread over them."""
    from generator import span_copies  # late: it reads protobuf, and `apply` looks at other kinds only

    begin, length = now - _MINUTES * 60, _MINUTES * 60 - _UNDER_WAY
    tails = [content[-_READ_BYTES:] for _, content in span_copies.files(look.project, span_copies.LATEST)]
    chosen: dict[int, bytes] = {}
    for key, span in _spans(tails):
        after = span.end_time_unix_nano / 1e9 - begin
        if 0 <= after < length:
            chosen.setdefault(int(after / length * _ASKED), key)
    found: dict[bytes, tuple[float, set[bytes]]] = {key: (0.0, set()) for key in chosen.values()}
    for key, span in _spans(tails):
        if key in found:
            ended, ids = found[key]
            found[key] = (max(ended, span.end_time_unix_nano / 1e9), ids | {span.span_id})
    # One that has gone on since may be under way in part.
    return {key: trace for key, trace in found.items() if trace[0] < begin + length}


def _spans(tails: Sequence[bytes]) -> Iterator[tuple[bytes, Span]]:
    from generator import span_copies

    for tail in tails:
        for message in span_copies.messages(tail):
            if message is not None:
                yield from span_copies.spans(message)
