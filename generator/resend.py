"""Spans that Tempo has lost are sent again, from the copies of the last ones that the collector keeps.

Tempo acknowledges spans before they are on its disk, and drops what cannot be written. The collector's exporter ``file/spans``
keeps a copy of whatever it hands to Tempo. Here the two are compared, trace by trace, and what Tempo lacks goes through the
collector once more. Nothing is sent that Tempo has, so that doing it twice does no harm.
"""

from __future__ import annotations

import bisect
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import requests
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData

from generator import otlp, span_copies, words
from generator.errors import LgtmError
from generator.progress import Report
from generator.project import Project
from generator.servers import AnswerError, Client, Tempo

# `metrics_ingestion_time_range_slack` in tempo/tempo.yaml, in seconds: what is younger than that when Tempo gets it is counted
# in the metrics that it makes of spans, where it was counted when it came first.
SLACK = 300
# A trace is looked at whole that reaches out of the time that was asked for by so many seconds.
_AROUND = 300
_SEARCHED = 5000  # traces that one answer of a search may hold
_ASKERS = 4
# Tempo shows a span about two seconds after the collector has it.
_UNDER_WAY = 5.0
_SHOWN_WITHIN = 90.0
_TAKEN_WITHIN = 120.0


@dataclass(slots=True)
class Trace:
    """What the copies hold of a trace: how many spans (one that was sent twice counts twice), and when the first and the
    last of them ended, in Unix nanoseconds.
    """

    spans: int
    first: int
    last: int


@dataclass(frozen=True)
class Resent:
    """What was found and done. Times are Unix seconds.

    ``kept_since`` is when the oldest span ended of which there is a copy; ``spans`` and ``traces`` are what the copies hold of
    the time that was asked for, ``lacking`` the spans of it that Tempo did not have and ``lacking_traces`` of how many traces,
    the first and last of which ended at ``first`` and ``last``. ``missing`` of them it does not have now either. All copies
    take ``size`` bytes; at ``torn`` places they cannot be read.
    """

    since: float
    until: float
    kept_since: float | None
    spans: int
    traces: int
    lacking: int
    lacking_traces: int
    first: float | None
    last: float | None
    missing: int
    size: int
    torn: int

    def as_json(self) -> dict[str, Any]:
        """For programs; times as ISO 8601."""
        times = {"since", "until", "kept_since", "first", "last"}
        return {key: _iso(value) if key in times else value for key, value in vars(self).items()}


def resend(
    project: Project, since: float, until: float, report: Report, *, only_look: bool = False, at_once: bool = False
) -> Resent:
    """Send again what Tempo lacks of the spans that ended between two Unix times, and wait until it has them.

    Waits first until they are older than SLACK, unless it is to be done ``at_once``; ``only_look`` sends nothing. Raises
    LgtmError where there is no collector, and where a server does not answer.
    """
    kept = _Copies(project)
    found = kept.traces(since, until)
    spans = sum(trace.spans for trace in found.values())
    report(f"the collector has copies of {spans:,} spans of {len(found):,} traces from then; asking Tempo for them")
    with _Askers(project) as tempo:
        short = tempo.short(found, report)
        ids = kept.ids(short, since)
        lacking = _without(ids, tempo.spans(ids))
        if lacking and time.time() - _last(found, lacking) < 2 * _UNDER_WAY:
            time.sleep(_UNDER_WAY)
            lacking = _without(lacking, tempo.spans(lacking))
        if lacking and not only_look:
            ready = _last(found, lacking) + SLACK
            if not at_once and (left := ready - time.time()) > 0:
                report(
                    f"Tempo lacks {_count(lacking):,} spans. Until {_clock(ready)} it would count them a second time in the "
                    f"metrics that it makes of spans: waiting {words.lasting(left)} (--at-once does not)"
                )
                time.sleep(left)
                # Whoever had the same thought meanwhile, or a queue that was long, may have brought them.
                lacking = _without(lacking, tempo.spans(lacking))
        missing = lacking
        if lacking and not only_look:
            report(f"sending {_count(lacking):,} spans of {len(lacking):,} traces again")
            kept.send(lacking, since, report)
            missing = tempo.wait(lacking)
    times = [found[trace].last / 1e9 for trace in lacking]
    return Resent(
        since,
        until,
        kept.oldest / 1e9 if kept.oldest else None,
        spans,
        len(found),
        _count(lacking),
        len(lacking),
        min(times, default=None),
        max(times, default=None),
        _count(missing),
        kept.size,
        kept.torn,
    )


# --- what the collector has -------------------------------------------------------------------------------------------------


class _Copies:
    """The collector's files, read anew each time: they may be larger than memory."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self.oldest = self.size = self.torn = 0

    def traces(self, since: float, until: float) -> dict[bytes, Trace]:
        """Each trace with a span that ended in between, by its id."""
        begin, end = int(since * 1e9), int(until * 1e9)
        around = _AROUND * 10**9
        found: dict[bytes, Trace] = {}
        within: set[bytes] = set()
        self.oldest = self.size = self.torn = 0
        for key, span in self._all():
            ended = span.end_time_unix_nano
            if not self.oldest or ended < self.oldest:
                self.oldest = ended
            if not begin - around <= ended <= end + around:
                continue
            if begin <= ended <= end:
                within.add(key)
            if trace := found.get(key):
                trace.spans += 1
                trace.first, trace.last = min(trace.first, ended), max(trace.last, ended)
            else:
                found[key] = Trace(1, ended, ended)
        return {key: trace for key, trace in found.items() if key in within}

    def ids(self, traces: Collection[bytes], since: float) -> dict[bytes, set[bytes]]:
        """The ids of the spans of these traces."""
        found: dict[bytes, set[bytes]] = {key: set() for key in traces}
        for message in self._messages(since) if traces else ():
            for key, span in span_copies.spans(message):
                if key in found:
                    found[key].add(span.span_id)
        return found

    def send(self, wanted: Mapping[bytes, Collection[bytes]], since: float, report: Report) -> None:
        """Send these spans to the collector. Raises LgtmError when it takes none for two minutes."""
        url = f"{otlp.address(self._project)}/v1/traces"
        sent, every, told = 0, _count(wanted), time.monotonic()
        # There may be two copies of one, and of what is sent now there is another one at once.
        left = {key: set(ids) for key, ids in wanted.items()}
        with requests.Session() as session:
            session.trust_env = False  # a proxy for the web is not the way to a collector
            for message in self._messages(since):
                if not (number := _take(message, left)):
                    continue
                _post(session, url, message.SerializeToString())
                sent += number
                if time.monotonic() - told > 5:
                    told = time.monotonic()
                    report(f"sent {sent:,} of {every:,}")

    def _all(self) -> Iterator[tuple[bytes, Span]]:
        for _, content in span_copies.files(self._project):
            self.size += len(content)
            for message in span_copies.messages(content):
                if message is None:
                    self.torn += 1
                else:
                    yield from span_copies.spans(message)

    def _messages(self, since: float) -> Iterator[TracesData]:
        """What was written into files that were still written to a little before ``since``, or later."""
        for written, content in span_copies.files(self._project):
            if written > since - _AROUND:
                yield from (message for message in span_copies.messages(content) if message is not None)


def _take(message: TracesData, wanted: Mapping[bytes, set[bytes]]) -> int:
    """Leave only these spans in the message, each of which is wanted no more then; how many there are."""
    taken = 0
    for resource in message.resource_spans:
        for scope in resource.scope_spans:
            every = list(scope.spans)
            spans = []
            for span in every:
                ids = wanted.get(span.trace_id, set())
                if span.span_id in ids:
                    ids.remove(span.span_id)
                    spans.append(span)
            taken += len(spans)
            if len(spans) < len(every):
                del scope.spans[:]
                scope.spans.extend(spans)
    return taken


def _post(session: requests.Session, url: str, body: bytes) -> None:
    """Send a request until the collector takes it."""
    deadline = time.monotonic() + _TAKEN_WITHIN
    while True:
        try:
            answer = session.post(url, data=body, headers={"Content-Type": "application/x-protobuf"}, timeout=30)
            if answer.ok:
                return
            why = f"it answers {answer.status_code}"
        except requests.RequestException as error:
            why = type(error).__name__
        if time.monotonic() > deadline:
            raise LgtmError(
                f"The collector takes no spans: {why}.", "What it took is not lost. Run this again when it is well: lgtm status"
            )
        time.sleep(1)


# --- what Tempo has ---------------------------------------------------------------------------------------------------------


def _matched(tempo: Tempo, begin: int, end: int) -> dict[bytes, int]:
    """How many spans a search shows of each trace between two Unix seconds."""
    found = tempo.json("/api/search", q="{}", start=str(begin), end=str(end), limit=str(_SEARCHED), spss="1")
    matched: dict[bytes, int] = {}
    for trace in found.get("traces", ()):
        sets = trace.get("spanSets") or [trace.get("spanSet") or {}]
        # Tempo leaves out zeros at the beginning of an id.
        matched[bytes.fromhex(trace["traceID"].rjust(32, "0"))] = max(int(spans.get("matched", 0)) for spans in sets)
    return matched


def span_ids(tempo: Client, trace: bytes) -> set[bytes]:
    """The ids of the spans that Tempo has of a trace."""
    try:
        answer = tempo.call("GET", f"/api/traces/{trace.hex()}", accept="application/protobuf")
    except AnswerError as error:
        if error.status == 404:
            return set()
        raise
    return {span.span_id for _, span in span_copies.spans(TracesData.FromString(answer.content))}


class _Askers:
    """Several clients of Tempo's, each with a part of the traces."""

    def __init__(self, project: Project) -> None:
        self._clients = [Tempo(project.url("tempo"), timeout=60) for _ in range(_ASKERS)]
        self._pool = ThreadPoolExecutor(_ASKERS, thread_name_prefix="resend")

    def __enter__(self) -> _Askers:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        for client in self._clients:
            client.close()

    def short(self, traces: Mapping[bytes, Trace], report: Report) -> list[bytes]:
        """Those of which a search shows fewer spans than there are copies: quick, and it may miss some."""
        keys = sorted(traces, key=lambda key: traces[key].first)
        times = [traces[key].first // 10**9 for key in keys]
        matched: dict[bytes, int] = {}
        told = time.monotonic()
        at = times[0] if times else 0
        step = 60
        while times and at <= times[-1]:
            found = _matched(self._clients[0], at - 1, at + step + 1)
            if len(found) >= _SEARCHED and step > 1:
                step = max(1, step // 4)
                continue
            for key, number in found.items():
                matched[key] = max(matched.get(key, 0), number)
            if time.monotonic() - told > 5:
                told = time.monotonic()
                report(f"asked Tempo for {bisect.bisect(times, at + step) / len(times):.0%}")
            at += step
            step = min(600, step * 2)
            if at <= times[-1]:
                at = max(at, times[bisect.bisect_left(times, at)])
        return [key for key in keys if matched.get(key, 0) < traces[key].spans]

    def spans(self, traces: Collection[bytes]) -> dict[bytes, set[bytes]]:
        """The ids of the spans that Tempo has of each of these."""
        keys = list(traces)
        parts = [keys[number::_ASKERS] for number in range(_ASKERS)]

        def ask(client: Tempo, part: Sequence[bytes]) -> dict[bytes, set[bytes]]:
            return {key: span_ids(client, key) for key in part}

        found: dict[bytes, set[bytes]] = {}
        for some in self._pool.map(ask, self._clients, parts):
            found |= some
        return found

    def wait(self, lacking: Mapping[bytes, set[bytes]]) -> dict[bytes, set[bytes]]:
        """What Tempo still lacks when it has all of it, or does not get it any more."""
        deadline = time.monotonic() + _SHOWN_WITHIN
        missing = dict(lacking)
        while missing and time.monotonic() < deadline:
            time.sleep(2)
            missing = _without(missing, self.spans(missing))
        return missing


def _without(spans: Mapping[bytes, set[bytes]], held: Mapping[bytes, set[bytes]]) -> dict[bytes, set[bytes]]:
    return {key: left for key, ids in spans.items() if (left := ids - held.get(key, set()))}


def _count(spans: Mapping[bytes, Collection[bytes]]) -> int:
    return sum(map(len, spans.values()))


def _last(traces: Mapping[bytes, Trace], some: Iterable[bytes]) -> float:
    """When the last span of some of these traces ended, in Unix seconds."""
    return max(traces[key].last for key in some) / 1e9


def _clock(at: float) -> str:
    return f"{datetime.fromtimestamp(at).astimezone():%H:%M:%S}"


def _iso(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
