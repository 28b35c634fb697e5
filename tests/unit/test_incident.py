"""Times as people say them, answers of Tempo, and the text of an incident."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.text import Text

from generator import deploy, incident
from generator.cli import cli
from generator.errors import LgtmError
from generator.incident import Incident, answer, asking, parse_time

# A Saturday.
NOW = datetime(2026, 11, 21, 11, 30, 0).astimezone()


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("yesterday 14:43", datetime(2026, 11, 20, 14, 43)),
        ("Yesterday at 14:43", datetime(2026, 11, 20, 14, 43)),
        ("today 9:05", datetime(2026, 11, 21, 9, 5)),
        ("11:29", datetime(2026, 11, 21, 11, 29)),
        ("14:43", datetime(2026, 11, 20, 14, 43)),  # not yet today
        ("14:43:07", datetime(2026, 11, 20, 14, 43, 7)),
        ("monday 8:00", datetime(2026, 11, 16, 8, 0)),
        ("saturday 11:00", datetime(2026, 11, 21, 11, 0)),
        ("saturday 12:00", datetime(2026, 11, 14, 12, 0)),
        ("2026-11-20 14:43", datetime(2026, 11, 20, 14, 43)),
        ("2026-11-20T14:43:07", datetime(2026, 11, 20, 14, 43, 7)),
        ("20 minutes ago", datetime(2026, 11, 21, 11, 10)),
        ("2h ago", datetime(2026, 11, 21, 9, 30)),
        ("1 day ago", datetime(2026, 11, 20, 11, 30)),
        ("now", datetime(2026, 11, 21, 11, 30)),
    ],
)
def test_times(said: str, meant: datetime) -> None:
    assert parse_time(said, NOW) == meant.astimezone()


def test_times_with_a_zone() -> None:
    assert parse_time("2026-11-20T14:43:00+02:00", NOW) == datetime(2026, 11, 20, 12, 43, tzinfo=UTC)
    assert parse_time("2026-11-20T14:43:00Z", NOW) == datetime(2026, 11, 20, 14, 43, tzinfo=UTC)
    assert parse_time(f"{int(NOW.timestamp()) - 60}", NOW) == NOW - timedelta(seconds=60)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("2026-11-20T14:43Z", (20, 14, 43)),
        ("2026-11-20 14:43 UTC", (20, 14, 43)),
        ("2026-11-20 14:43:07.5+0200", (20, 12, 43)),
        ("yesterday 14:43 utc", (20, 14, 43)),
        ("yesterday at 14:43 Europe/Berlin", (20, 13, 43)),
        ("2026-11-20 14:43 America/New_York", (20, 19, 43)),
        ("14:43 -03:00", (20, 17, 43)),  # not yet today, there
        ("8:00 Asia/Tokyo", (20, 23, 0)),
        ("yesterday 23:30 Asia/Tokyo", (20, 14, 30)),  # there it is the evening of today already
    ],
)
def test_a_time_may_end_with_its_zone(said: str, meant: tuple[int, int, int]) -> None:
    day, hour, minute = meant
    found = parse_time(said, datetime(2026, 11, 21, 11, 30, tzinfo=UTC))
    assert found.astimezone(UTC).replace(second=0, microsecond=0) == datetime(2026, 11, day, hour, minute, tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "meant"),
    [("Europe/Berlin", 13), ("America/New_York", 19), ("Asia/Tokyo", 5)],
)
def test_without_one_it_is_this_machines(zone: str, meant: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        found = parse_time("yesterday 14:43", datetime(2026, 11, 21, 11, 30, tzinfo=UTC)).astimezone(UTC)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert found == datetime(2026, 11, 20, meant, 43, tzinfo=UTC)


def test_the_clocks_change_in_a_zone() -> None:
    """On 2026-10-25 Berlin put its clocks back: yesterday's 14:43 was 25 hours before today's."""
    monday = datetime(2026, 10, 25, 20, 0, tzinfo=UTC)
    assert parse_time("yesterday 14:43 Europe/Berlin", monday).astimezone(UTC) == datetime(2026, 10, 24, 12, 43, tzinfo=UTC)
    assert parse_time("14:43 Europe/Berlin", monday).astimezone(UTC) == datetime(2026, 10, 25, 13, 43, tzinfo=UTC)


@pytest.mark.parametrize(
    "said",
    ["", "soon", "25:00", "12:61", "someday 10:00", "2026-11-20", "14", "2026-13-01 10:00", "14:43 Europe/Bern", "14:43+99:00"],
)
def test_what_is_no_time(said: str) -> None:
    with pytest.raises(LgtmError, match="is not a time"):
        parse_time(said, NOW)


def test_the_future_is_refused() -> None:
    with pytest.raises(LgtmError, match="lies ahead"):
        parse_time("2026-11-22 10:00", NOW)


def test_spans_of_tempo() -> None:
    answer = {
        "trace": {
            "resourceSpans": [
                {
                    "scopeSpans": [
                        {
                            "spans": [
                                {
                                    "spanId": "Kjk4QMZPBWw=",
                                    "name": "rank",
                                    "startTimeUnixNano": "1000000000",
                                    "endTimeUnixNano": "3500000000",
                                    "status": {"code": "STATUS_CODE_ERROR", "message": "no"},
                                    "attributes": [{"key": "process.stage", "value": {"stringValue": "rank"}}],
                                }
                            ]
                        }
                    ]
                }
            ]
        }
    }
    (span,) = asking._spans(answer)
    assert (span["id"], span["duration"], span["failed"], span["message"]) == ("2a393840c64f056c", 2.5, True, "no")
    assert span["values"] == {"process.stage": "rank"}


def _found() -> Incident:
    at = NOW.timestamp()
    return Incident(
        "council-api",
        "north[wind]",
        at,
        at - 300,
        at + 300,
        slos=[answer.Slo("auth", "Sign in", "99.9%", {"region": "eu"}, 0.05, 0.1, 100.0, -3.2)],
        alerts=[answer.Alert("SLOBurnRateCritical", "council-api", "auth", "critical", "firing", at, at + 60)],
        executions=[
            answer.Execution(
                "login",
                "1",
                "error",
                "north[wind]",
                at,
                1.5,
                "a" * 32,
                "E: [x]",
                (answer.Stage("rank", 1.0, "error"),),
                "http://t",
                "rank",
            )
        ],
        executions_seen=4,
        executions_failed=1,
        logs=[answer.LogGroup(3, "failed [3]", at, None, None, "E", "login, rank", at - 60)],
        log_lines=3,
        slowest=[answer.SlowTrace("POST /x", at, 2.0, "b" * 32, "http://t2")],
        deployment=deploy.Deployment("1", "council-api", "2.2.0", "abc", "production", "succeeded", at - 3600, 60.0),
        hurt={"globex": 9, "north[wind]": 1},
        links={"logs": "http://l"},
        missing=["the alerts: Prometheus did not answer within 3.1 s"],
    )


def test_the_text_says_everything_once() -> None:
    text = "\n".join(Text.from_markup(line).plain for line in incident.as_text(_found()))
    for part in (
        "council-api for north[wind] around 2026-11-21 11:30:00",
        "1 execution of north[wind] failed, login, stage rank.",
        "E: [x].",
        "1 other company is hurt too: globex (9).",
        "auth spent its error budget 100.0 times too fast.",
        "1 alert of council-api firing since 11:30:00.",
        "Deployment of council-api 2.2.0 (abc) succeeded after 60 s; 60 min before",
        "Not all is known: Prometheus did not answer; see below.",
        "critical SLOBurnRateCritical  council-api/auth",
        "100.0x      5 %     10 %   -320 %  auth region=eu  Sign in (99.9%)",
        "error      1.500 s  login 1",
        "in stage rank: E: [x]",
        "rank 1.000 s failed",
        "11:29:00 to 11:30:00     3x  E in login, rank: failed [3]",
        "2.000 s  POST /x",
        "Prometheus did not answer within 3.1 s: the alerts not known.",
    ):
        assert part in text, part


def test_addresses_hide_behind_what_they_lead_to_in_a_terminal() -> None:
    found = _found()
    assert "http://t" in "\n".join(incident.as_text(found))
    lines = [Text.from_markup(line) for line in incident.as_text(found, clickable=True)]
    assert "http" not in "\n".join(line.plain for line in lines)
    assert "trace " + "a" * 32 in "\n".join(line.plain for line in lines)
    assert {"http://t", "http://t2", "http://l"} == {
        str(span.style).removeprefix("link ") for line in lines for span in line.spans if str(span.style).startswith("link ")
    }


def test_what_did_not_answer_is_not_taken_for_nothing() -> None:
    at = NOW.timestamp()
    whats = ("the deployment before", "the alerts", "the SLOs", "the executions", "the error logs", "the slowest traces")
    late = "Tempo did not answer within 3.1 s"
    empty = Incident("shop", None, at, at - 300, at + 300, missing=[f"{what}: {late}" for what in whats])
    text = "\n".join(Text.from_markup(line).plain for line in incident.as_text(empty))
    assert text.count("not known: see below") == len(whats) and "Not all is known: Tempo did not answer" in text
    # One reason, one sentence.
    assert text.count(late) == 1 and f"{late}: {', '.join(whats)} not known" in text
    answered = Incident("shop", None, at, at - 300, at + 300, missing=[f"the alerts: {late}"])
    text = "\n".join(Text.from_markup(line).plain for line in incident.as_text(answered))
    assert text.count("not known: see below") == 1 and "Nothing was wrong" not in text and "Nothing is known" not in text


def test_an_unknown_company_is_told_of_the_known_ones() -> None:
    at = NOW.timestamp()
    found = Incident("shop", "nortwind", at, at - 300, at + 300, companies=["northwind", "globex"])
    assert "there are executions of: northwind, globex" in "\n".join(incident.as_text(found))


def test_nothing_known_is_said() -> None:
    nothing = Incident("shop", None, NOW.timestamp(), NOW.timestamp() - 300, NOW.timestamp() + 300)
    assert nothing.empty and "Nothing is known of shop" in "\n".join(incident.as_text(nothing))


def test_a_company_that_is_hurt_alone_is_told_so() -> None:
    at = NOW.timestamp()
    alone = Incident("shop", "acme", at, at - 300, at + 300, hurt={"acme": 3})
    text = "\n".join(incident.as_text(alone))
    assert "3 executions of acme failed" in text and "No other company is hurt: it is something of acme." in text


def test_a_deployment_just_before_is_named_with_what_went_wrong() -> None:
    at = NOW.timestamp()
    deployed = deploy.Deployment("1", "shop", "2", "", "production", "succeeded", at - 240)
    text = "\n".join(incident.as_text(Incident("shop", None, at, at - 300, at + 300, hurt={"acme": 3}, deployment=deployed)))
    assert "4 min before: Deployment of shop 2 succeeded.[/] Is it the cause?" in text
    # But not where nothing did.
    assert "Is it the cause?" not in "\n".join(incident.as_text(Incident("shop", None, at, at, at, deployment=deployed)))


@pytest.mark.parametrize(
    ("fields", "kind", "place"),
    [
        ({"error_type": "E", "process_id": "login", "process_stage": "rank"}, "E", "login, rank"),
        ({"exception_type": "V", "process_id": "login", "http_route": "/x"}, "V", "login"),
        ({"http_response_status_code": "503", "http_route": "/x", "event": "http.request"}, "HTTP 503", "/x"),
        ({"event": "late", "code_function_name": "work", "code_line_number": "7"}, "late", "work:7"),
        ({"logger": "shop"}, "shop", "shop"),
        ({}, "untyped", "unknown"),
    ],
)
def test_an_error_has_a_type_and_a_place(fields: dict[str, str], kind: str, place: str) -> None:
    assert (asking._kind(fields), asking._place(fields)) == (kind, place)


@pytest.mark.parametrize(("said", "meant"), [("5m", 300), ("90s", 90), ("1h30m", 5400), ("5", None), ("m", None), ("", None)])
def test_lengths_of_time(said: str, meant: float | None) -> None:
    assert incident.seconds(said) == meant


def test_the_time_for_an_answer_runs_from_the_start_of_the_program() -> None:
    age = asking._age()
    assert age > 0
    code = "from generator.incident.asking import _age; import time; a = _age(); time.sleep(0.2); print(_age() - a, a)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    passed, young = map(float, done.stdout.split())
    assert passed >= 0.19 and young < age


class _Hanging:
    """A server that takes connections and says nothing."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]

    def close(self) -> None:
        self._socket.close()


def test_servers_that_hang_are_waited_for_together(nobody: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "DEADLINE", 0.0)
    monkeypatch.setattr(asking, "_AT_LEAST", 2.0)
    with contextlib.closing(_Hanging()) as hanging:
        for name in ("PROMETHEUS_PORT", "LOKI_PORT", "TEMPO_PORT", "GRAFANA_PORT"):
            monkeypatch.setenv(name, str(hanging.port))
        code, said = _lgtm(nobody, "incident", "--service", "shop", "--at", "now")
    assert code == 1 and "No server answers" in said
    # Not one after the other: each was given up at the same moment.
    given_up = {float(found) for found in re.findall(r"within (\d\.\d) s", said)}
    assert given_up and max(given_up) - min(given_up) < 1.5


def test_the_start_reads_no_more_than_the_command_needs() -> None:
    """What reads and checks the spec is most of a start, and an incident needs none of it."""
    code = "import sys; import generator.cli, generator.commands.incident, generator.incident; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert not {"pydantic", "generator.model", "docker", "demo.cli"} & set(done.stdout.split())


# Deployments


def _event(status: str, at: float, id_: str, version: str = "1") -> deploy.Deployment:
    return deploy.Deployment(id_, "shop", version, "c0ffee", "production", status, at)


def _next(known: list[deploy.Deployment], status: str, at: float, version: str = "1") -> deploy.Deployment:
    return deploy._of(known, status, service="shop", version=version, commit="", environment="production", url=None, at=at)


def test_an_end_belongs_to_its_start() -> None:
    known = [_event("started", 1000, "1-1000")]
    done = _next(known, "succeeded", 1060)
    assert (done.id, done.duration, done.commit, done.recovery) == ("1-1000", 60, "c0ffee", None)
    other = _next(known, "succeeded", 1060, version="2")
    assert other.duration is None and other.id != "1-1000"


def test_recovery_runs_from_the_first_failure_to_the_next_success() -> None:
    known = [
        _event("succeeded", 500, "1-400"),
        _event("started", 1000, "2-1000", "2"),
        _event("succeeded", 1050, "2-1000", "2"),
        _event("failed", 1200, "2-1000", "2"),  # taken back
        _event("started", 1300, "3-1300", "3"),
        _event("failed", 1350, "3-1300", "3"),
        _event("started", 1400, "4-1400", "4"),
    ]
    assert _next(known, "succeeded", 1500, "4").recovery == 300
    well = [*known, _event("succeeded", 1500, "4-1400", "4"), _event("started", 1600, "5-1600", "5")]
    assert _next(well, "succeeded", 1700, "5").recovery is None


def test_taking_back_is_not_a_long_deployment() -> None:
    known = [_event("started", 1000, "1-1000"), _event("succeeded", 1060, "1-1000")]
    back = _next(known, "failed", 5000)
    assert (back.id, back.duration, back.status) == ("1-1000", None, "failed")


def test_figures_are_queries() -> None:
    from generator import promql

    for name in deploy.FIGURES:
        promql.parse(deploy.figure(name, "7d"))
        assert "RANGE" not in deploy.figure(name)


# The commands, with nobody listening


@pytest.fixture
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "compose.yaml").write_text("services: {}\n")
    with contextlib.ExitStack() as held:
        names = ("PROMETHEUS_PORT", "LOKI_PORT", "TEMPO_PORT", "OTLP_HTTP_PORT", "GRAFANA_PORT")
        for name in names:
            probe = held.enter_context(contextlib.closing(socket.socket()))
            probe.bind(("127.0.0.1", 0))
            monkeypatch.setenv(name, str(probe.getsockname()[1]))
    return tmp_path


def _lgtm(project: Path, *words: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["-C", str(project), *words])
    return done.exit_code, done.output


def test_no_stack_is_one_sentence(nobody: Path) -> None:
    code, said = _lgtm(nobody, "incident", "--service", "shop", "--at", "now")
    assert code == 1 and "No server answers" in said and "lgtm status" in said
    code, said = _lgtm(nobody, "deploy", "start", "--service", "shop", "--version", "1")
    assert code == 1 and "The deployment is not recorded" in said and "--to" in said
    code, said = _lgtm(nobody, "deploy", "figures")
    assert code == 1 and "prometheus does not answer" in said


def test_wrong_questions(nobody: Path) -> None:
    code, said = _lgtm(nobody, "incident", "--service", "shop", "--at", "soon")
    assert code == 1 and "yesterday 14:43" in said
    code, said = _lgtm(nobody, "incident", "--service", "shop", "--at", "now", "--window", "5")
    assert code == 2 and "5m" in said
    code, said = _lgtm(nobody, "incident", "--service", "shop", "--at", "now", "--within", "long")
    assert code == 2 and "from 1s to 5m" in said
    assert _lgtm(nobody, "deploy", "start", "--service", "shop")[0] == 2


class _Otlp(BaseHTTPRequestHandler):
    """Takes everything; the server keeps the bodies."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.append((self.path, json.loads(body)))  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Otlp)
    server.bodies = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_deployment_is_to_where_the_spec_says_and_of_a_service_that_it_has(
    nobody: Path, collector: ThreadingHTTPServer
) -> None:
    to = ("--version", "2", "--to", f"http://127.0.0.1:{collector.server_port}/", "--json")

    def recorded(*words: str) -> tuple[str, str]:
        done = CliRunner().invoke(cli, ["-C", str(nobody), "deploy", "start", *to, *words])
        assert done.exit_code == 0
        return json.loads(done.stdout)["environment"], done.stderr

    assert recorded("--service", "shop") == ("production", "")
    (nobody / "slos.yaml").write_text(
        "version: 1\ndefaults: {labels: {environment: staging}}\n"
        "services: {shop: {slos: {up: {objective: 99%, sli: {boolean: up}}}}}\n"
    )
    assert recorded("--service", "shop") == ("staging", "")
    assert recorded("--service", "shop", "--environment", "edge") == ("edge", "")
    where, warned = recorded("--service", "shpo")
    assert where == "staging" and "shpo is no service of" in warned and "Did you mean 'shop'?" in warned


def test_without_prometheus_this_machine_remembers_the_start(nobody: Path, collector: ThreadingHTTPServer) -> None:
    to = ("--service", "shop", "--version", "2", "--to", f"http://127.0.0.1:{collector.server_port}/")
    assert _lgtm(nobody, "deploy", "start", *to, "--commit", "c0ffee")[0] == 0
    code, said = _lgtm(nobody, "deploy", "finish", *to, "--json")
    done = json.loads(said)
    assert (code, done["status"], done["commit"]) == (0, "succeeded", "c0ffee") and 0 <= done["duration"] < 60
    paths = [path for path, _ in collector.bodies]  # type: ignore[attr-defined]
    assert paths == ["/v1/logs", "/v1/metrics"] * 2
    (line,) = collector.bodies[-2][1]["resourceLogs"][0]["scopeLogs"][0]["logRecords"]  # type: ignore[attr-defined]
    # By this the page of deployments finds it without reading all other lines.
    assert (line["severityText"], line["severityNumber"]) == ("NOTICE", 10)
    metrics = collector.bodies[-1][1]["resourceMetrics"][0]["scopeMetrics"][0]["metrics"]  # type: ignore[attr-defined]
    assert [m["name"] for m in metrics] == ["deployment.timestamp", "deployment.duration"]
