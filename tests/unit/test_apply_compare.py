"""Whether what a server shows is what was written, without a server."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from generator import apply, secrets, servers, targets
from generator.project import Project


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ('http_requests_total{job="a",code=~"5.."}', 'http_requests_total{code=~"5..",job="a"}'),
        ("sum(rate(x[300s])) by (a)", "sum by (a) (rate(x[5m]))"),
        ("0.10*x", "0.1 * x"),
        ('{__name__="x", a="b"}', '{a="b",__name__="x"}'),
        ('x{a="} b{",c="\\""}', 'x{c="\\"",a="} b{"}'),
        ("a  and\n on(x) b", "a and on (x) b"),
    ],
)
def test_spellings_of_one_query_are_the_same(written: str, shown: str) -> None:
    assert targets.normal_query(written) == targets.normal_query(shown)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('x{a="1"}', 'x{a="2"}'),
        ('x{a="b c"}', 'x{a="bc"}'),
        ("rate(x[5m])", "rate(x[6m])"),
        ("x > 0.001", "x > 0.0001"),
        ("x > 0.001", "x >= 0.001"),
        ("a and on (x) b", "a and ignoring (x) b"),
        ('x{a="1"}', 'x{a!="1"}'),
    ],
)
def test_other_queries_are_not(one: str, other: str) -> None:
    assert targets.normal_query(one) != targets.normal_query(other)


@pytest.mark.parametrize(
    ("wanted", "present", "found"),
    [
        ({"scrape_interval": "60s"}, {"scrape_interval": "1m", "scheme": "http"}, None),
        ({"scrape_interval": "61s"}, {"scrape_interval": "1m"}, "scrape_interval"),
        ({"static_configs": [{"targets": ["a"]}]}, {"static_configs": [{"targets": ["a", "b"]}]}, "targets"),
        ({"params": {"module": ["x"]}}, {}, "params"),
        ({"params": {}}, {}, None),
        ({"password": "x"}, {"password": "<secret>"}, None),
        ({"http": {"follow_redirects": "true"}}, {"http": {"follow_redirects": "true", "more": "1"}}, None),
        ({"http": {"follow_redirects": "true"}}, {"http": {"follow_redirects": "false"}}, "follow_redirects"),
    ],
)
def test_written_settings_are_looked_for_among_defaults(wanted: Any, present: Any, found: str | None) -> None:
    assert targets.not_within(wanted, present) == found


def test_the_hash_is_the_one_that_alertmanager_shows() -> None:
    # Read from Alertmanager 0.31.1, which had loaded a file with just this line.
    assert servers.Alertmanager.config_hash(b"route: {receiver: none}\nreceivers: [{name: none}]\n") == 173707481207614.0


def test_metrics_are_read_with_their_labels() -> None:
    page = '# HELP a b\na_total{x="1",y="q\\"}"} 3\na_other 1.5e+3 1700000000000\nb 7\n'
    assert servers.parse_metrics(page, "a_") == [
        servers.Sample("a_total", {"x": "1", "y": 'q"}'}, 3.0),
        servers.Sample("a_other", {}, 1500.0),
    ]


def test_a_tools_message_names_the_projects_files(tmp_path: Path) -> None:
    target = targets.Prometheus(Project.load(tmp_path))
    said = (
        "  FAILED:\n"
        '/etc/prometheus/.generated.new/rules/d.yaml: 9:11: group "foo", rule 2: could not parse expression\n'
        "  FAILED: parsing YAML file /etc/prometheus/.generated.check.yml: yaml: line 3\n"
    )
    first, second = target.own_words(said, "promtool")
    assert first == targets.Fault(
        "promtool",
        'prometheus/generated/rules/d.yaml: 9:11: group "foo", rule 2: could not parse expression',
        "prometheus/generated/rules/d.yaml",
    )
    assert second.file == "prometheus/prometheus.yml"


def test_every_missing_secret_is_named_with_the_command_that_makes_it(tmp_path: Path) -> None:
    project = Project.load(tmp_path)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "there").write_text("x\n")
    with pytest.raises(secrets.SecretsError, match="one, two are missing; nothing was changed") as raised:
        apply.read_secrets(project, {"alertmanager": ["two", "there", "one"]})
    assert raised.value.hint is not None
    assert "`install -m 600 /dev/stdin secrets/one`" in raised.value.hint
    assert "`install -m 600 /dev/stdin secrets/two`" in raised.value.hint
    assert apply.read_secrets(project, {"alertmanager": ["there"]}) == {"alertmanager": {"there": b"x"}}


def test_a_signal_waits_for_a_safe_place_and_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with apply._Signals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(apply.InterruptedApplyError) as raised:
            signals.check()
    assert raised.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) is before


def dashboard(**changes: Any) -> dict[str, Any]:
    panel = {"title": "Errors", "type": "timeseries", "targets": [{"expr": "x", "refId": "A"}], "id": 1}
    return {"uid": "u", "title": "t", "panels": [{**panel, **changes}]}


def test_a_dashboard_is_compared_by_what_it_shows() -> None:
    assert targets._same_dashboard(dashboard(), {**dashboard(id=7), "version": 3, "id": 12})
    assert not targets._same_dashboard(dashboard(), dashboard(targets=[{"expr": "y"}]))
    assert not targets._same_dashboard(dashboard(), dashboard(title="Other"))
