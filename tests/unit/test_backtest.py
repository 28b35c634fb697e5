"""What `lgtm backtest` makes of its options and of a list of incidents; the replay itself is tested on a real Prometheus."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner, Result

from bench.replay import load
from generator.backtest import Incident, Page, Source, compare, read_incidents
from generator.cli import cli
from generator.errors import LgtmError

SPEC = """
version: 1
defaults: {owner: backend, timezone: Europe/Berlin}
services:
  database:
    slos: {reachable: {objective: 99.9%, sli: {boolean: database_up}}}
  checkout:
    depends_on: [database]
    slos: {availability: {objective: 99.5%, sli: {ratio: {errors: failed_total, total: all_total}}}}
  shop:
    depends_on: [checkout]
    slos: {availability: {objective: 99%, sli: {ratio: {errors: failed_total, total: all_total}}}}
  search:
    slos: {availability: {objective: 99.9%, sli: {ratio: {errors: failed_total, total: all_total}}}}
"""


def page(service: str, start: float, end: float | None, severity: str = "critical") -> Page:
    return Page(service, "availability", f"SLOBurnRate{severity.capitalize()}", severity, {}, start, end)


def test_an_alert_belongs_to_an_incident_of_its_service_or_of_what_that_depends_on() -> None:
    incident = Incident(1000, 2000, "database", "disk")
    mine = [page("database", 1100, 1900), page("shop", 1200, None)]
    others = [page("search", 1200, 1900), page("database", 0, 900), page("database", 2601, 2700)]
    ((found,), left) = compare(load(SPEC), [*mine, *others], [incident])
    assert found.alerts == tuple(mine) and found.paged == mine[0] and found.after == 100
    assert left == others
    # Not the other way round: what happens to the shop does not page for the database.
    ((found,), _) = compare(load(SPEC), [page("database", 1100, 1900)], [Incident(1000, 2000, "shop", "")])
    assert found.paged is None and found.alerts == ()


def test_a_page_of_the_last_bad_minutes_comes_a_little_after_them() -> None:
    ((found,), left) = compare(load(SPEC), [page("search", 2600, 2700)], [Incident(1000, 2000, "search", "")])
    assert found.after == 1600 and left == []


def test_a_ticket_is_no_page_and_what_paged_before_is_not_late() -> None:
    tickets = [page("search", 1100, 1900, "warning")]
    ((found,), left) = compare(load(SPEC), tickets, [Incident(1000, 2000, "search", "")])
    assert found.paged is None and found.after is None and found.alerts == tuple(tickets) and left == []
    ((found,), _) = compare(load(SPEC), [page("search", 500, 1500)], [Incident(1000, 2000, "", "anything")])
    assert found.after == 0


YAML = """
- {start: 2026-11-20 14:43, end: 2026-11-20T15:00:00+01:00, service: search, name: Slow index}
- {start: 2026-11-20T14:00Z, end: 2026-11-20T14:01Z}
"""
CSV = """\ufeffstart,end,service,name
2026-11-20 14:43, 2026-11-20T15:00:00+01:00, search, Slow index
2026-11-20T14:00Z,2026-11-20T14:01Z,,
"""


@pytest.mark.parametrize(("name", "text"), [("i.yaml", YAML), ("i.csv", CSV), ("i.yml", "incidents:\n" + YAML)])
def test_lists_of_incidents(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    # 14:43 in Berlin, where the spec is.
    assert read_incidents(tmp_path / name, load(SPEC)) == [
        Incident(1795182180, 1795183200, "search", "Slow index"),
        Incident(1795183200, 1795183260, "", "2026-11-20 14:00"),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: b", "is not a list of incidents"),
        ("- [", "is not YAML"),
        ("- 3", "incident 1 is not a mapping"),
        ("- {start: noon, end: 2026-11-20T14:43Z}", "incident 1: start 'noon' is not a time"),
        ("- {start: 2026-11-20T14:43Z}", "incident 1: end '' is not a time"),
        ("- {start: 2026-11-20T14:43Z, end: 2026-11-20T14:42Z}", "incident 1 ends before it starts"),
        ("- {start: 2026-11-20T14:43Z, end: 2026-11-20T14:44Z, service: serch}", "there is no service 'serch'"),
    ],
)
def test_a_list_that_cannot_be_read_says_where(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "incidents.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(LgtmError, match=r"incidents\.yaml") as caught:
        read_incidents(path, load(SPEC))
    assert said in caught.value.message


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LgtmError, match="cannot be read: No such file"):
        read_incidents(tmp_path / "none.yaml", load(SPEC))


def run(tmp_path: Path, *options: str) -> Result:
    (tmp_path / "slos.yaml").write_text(SPEC, encoding="utf-8")
    return CliRunner().invoke(cli, ["-f", str(tmp_path / "slos.yaml"), "backtest", *options])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--header", "authorization: Bearer abc"], "use --token-file"),
        (["--header", "nonsense"], "is no header"),
        (["--prometheus", "http://me:abc@example.com"], "use --user and --token-file"),
        (["--prometheus", "example.com:9090"], "is no address"),
        (["--user", "me"], "--token-file FILE"),
        (["--step", "10s"], "--step"),
    ],
)
def test_no_secret_on_the_command_line_and_no_nonsense(tmp_path: Path, options: list[str], said: str) -> None:
    result = run(tmp_path, *options)
    assert result.exit_code == 2 and said in result.stderr and "abc" not in result.stderr


def test_names_that_do_not_exist(tmp_path: Path) -> None:
    for options, said in ((["--slo", "serch/availability"], "did you mean 'search/"), (["--service", "serch"], "'search'?")):
        result = run(tmp_path, *options)
        assert result.exit_code == 1 and said in result.stderr, result.output


def test_a_token_file_holds_a_token(tmp_path: Path) -> None:
    for text, said in (("", "holds no token"), ("a\nb", "holds no token")):
        (tmp_path / "token").write_text(text, encoding="utf-8")
        result = run(tmp_path, "--token-file", str(tmp_path / "token"))
        assert result.exit_code == 1 and said in result.stderr
    assert "cannot be read" in run(tmp_path, "--token-file", str(tmp_path / "none")).stderr


def test_a_server_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    result = run(tmp_path, "--prometheus", "http://127.0.0.1:1")
    assert result.exit_code == 1 and result.stdout == ""
    assert "error: http://127.0.0.1:1 does not answer: connection refused." in result.stderr


def test_every_query_carries_the_tenant_and_the_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine mimir.example.com login other password other\n", encoding="utf-8")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with contextlib.closing(
        Source("https://mimir.example.com/prometheus", headers={"X-Scope-OrgID": "shop"}, token="abc")
    ) as one:
        request = requests.Request("POST", f"{one.url}/api/v1/query_range")
        sent = one._session.prepare_request(request).headers
    assert sent["X-Scope-OrgID"] == "shop" and sent["Authorization"] == "Bearer abc"


def test_ctrl_c_ends_it_with_one_word(tmp_path: Path) -> None:
    (tmp_path / "slos.yaml").write_text(SPEC, encoding="utf-8")
    # Who takes the connection and says nothing is waited for.
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        command = [sys.executable, "-c", "from generator.cli import main; main()", "-f", str(tmp_path / "slos.yaml")]
        root = Path(__file__).resolve().parents[2]
        with subprocess.Popen(
            [*command, "backtest", "--prometheus", address], cwd=root, stderr=subprocess.PIPE, text=True, env={**os.environ}
        ) as child:
            listening.settimeout(60)
            connection, _ = listening.accept()
            with connection:
                connection.recv(10)
                child.send_signal(signal.SIGINT)
                _, told = child.communicate(timeout=60)
    assert child.returncode == 130
    assert told.splitlines()[-1] == "interrupted" and "Traceback" not in told
