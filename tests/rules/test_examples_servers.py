"""The examples, and what else the language can say, accepted by the real promtool, amtool and Alertmanager."""

from __future__ import annotations

import datetime as dt
import io
import json
import tarfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import docker
import pytest
import requests
import yaml
from docker.models.containers import Container

from bench.replay import Promtool, load
from bench.server import published
from generator import engine, model, render, stack
from generator.model import Model
from generator.project import Project
from generator.receivers import SECTIONS
from generator.render import alertmanager
from generator.render.yamltext import dump

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted(p.stem for p in (ROOT / "examples").glob("*.yaml"))
TEMPLATES = {f"templates/{p.name}": p.read_text(encoding="utf-8") for p in (ROOT / "alertmanager" / "templates").glob("*.tmpl")}


def example(name: str) -> Model:
    result = model.load([ROOT / "examples" / f"{name}.yaml"], variables={})
    assert result.model is not None
    return result.model


def archive(files: Mapping[str, str]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as made:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            entry.mode = 0o644
            made.addfile(entry, io.BytesIO(text.encode()))
    return stream.getvalue()


class Alertmanager:
    """The real server of the stack's own image, with its amtool."""

    def __init__(self, container: Container) -> None:
        self.container = container
        self.url = published(container, 9093)

    def put(self, files: Mapping[str, str]) -> None:
        self.container.put_archive("/etc", archive({f"alertmanager/{name}": text for name, text in files.items()}))

    def check(self, config: str) -> tuple[int, str]:
        self.put({**TEMPLATES, "checked.yml": config})
        done = engine.execute(self.container, ["/bin/amtool", "check-config", "/etc/alertmanager/checked.yml"])
        assert done.code is not None
        return done.code, (done.output + done.errors).decode()

    def use(self, config: str) -> None:
        self.put({**TEMPLATES, "alertmanager.yml": config})
        answer = requests.post(f"{self.url}/-/reload", timeout=10)
        assert answer.ok, answer.text

    def post(self, name: str, *, over: bool = False) -> None:
        now = dt.datetime.now(dt.UTC)
        # Each in a group of its own.
        labels = {"alertname": name, "service": name, "severity": "critical"}
        until = now if over else now + dt.timedelta(minutes=5)
        body = [{"labels": labels, "startsAt": now.isoformat(), "endsAt": until.isoformat()}]
        assert requests.post(f"{self.url}/api/v2/alerts", json=body, timeout=10).ok

    def silence(self, name: str) -> None:
        now = dt.datetime.now(dt.UTC)
        body = {
            "matchers": [{"name": "service", "value": name, "isRegex": False}],
            "startsAt": now.isoformat(),
            "endsAt": (now + dt.timedelta(minutes=5)).isoformat(),
            "createdBy": "test",
            "comment": "somebody is on it",
        }
        assert requests.post(f"{self.url}/api/v2/silences", json=body, timeout=10).ok

    def sent(self, integration: str) -> int:
        """Notifications that were tried; nobody listens, so each attempt after the first is a retry of the same one."""
        text = requests.get(f"{self.url}/metrics", timeout=10).text
        start = f'alertmanager_notifications_total{{integration="{integration}"'
        return sum(int(float(line.rsplit(" ", 1)[1])) for line in text.splitlines() if line.startswith(start))


@pytest.fixture(scope="module")
def server(project: Project) -> Iterator[Alertmanager]:
    client = docker.from_env()
    command = [
        "--config.file=/etc/alertmanager/alertmanager.yml",
        "--storage.path=/tmp/data",
        "--cluster.listen-address=",
        "--log.level=error",
    ]
    container = client.containers.create(
        stack.image(project, "alertmanager"),
        command,
        user="0",
        ports={"9093/tcp": ("127.0.0.1", 0)},
        labels={"lgtm.test": "amtool"},
    )
    try:
        first = archive({"alertmanager/alertmanager.yml": "route: {receiver: a}\nreceivers: [{name: a}]\n"})
        container.put_archive("/etc", first)
        container.start()
        made = Alertmanager(container)
        until = time.monotonic() + 30
        while True:
            try:
                requests.get(f"{made.url}/-/ready", timeout=2).raise_for_status()
                break
            except requests.RequestException:
                assert time.monotonic() < until, container.logs().decode()
                time.sleep(0.2)
        yield made
    finally:
        container.remove(force=True, v=True)
        client.close()


@pytest.mark.parametrize("name", EXAMPLES)
def test_promtool_accepts_an_example(promtool: Promtool, name: str) -> None:
    artifacts = {a.path: a.text for a in render.everything(example(name))}
    rules = {p.rsplit("/", 1)[1]: text for p, text in artifacts.items() if p.startswith("prometheus/generated/rules/")}
    code, output = promtool.run("check", "rules", "--lint=all", "--lint-fatal", *(f"{promtool.put(rules)}/{n}" for n in rules))
    assert code == 0, output
    scrapes = {p.removeprefix("prometheus/"): t for p, t in artifacts.items() if p.startswith("prometheus/generated/scrape/")}
    assert scrapes
    base = (ROOT / "prometheus" / "prometheus.yml").read_text(encoding="utf-8")
    directory = promtool.put({"prometheus.yml": base, "generated/rules/x.yaml": "groups: []\n", "rules/x.yaml": "", **scrapes})
    code, output = promtool.run("check", "config", "--syntax-only", f"{directory}/prometheus.yml")
    assert code == 0, output


@pytest.mark.parametrize("name", EXAMPLES)
def test_amtool_accepts_an_example(server: Alertmanager, name: str) -> None:
    code, output = server.check(dump(alertmanager.configuration(example(name))))
    assert code == 0, output


def test_alertmanager_has_every_receiver_that_is_passed_through(server: Alertmanager) -> None:
    for section in SECTIONS:
        config = {"route": {"receiver": "a"}, "receivers": [{"name": "a", f"{section}_configs": [{"no_such_field": 1}]}]}
        _, output = server.check(yaml.safe_dump(config))
        # Alertmanager complains of the field, and not of the section.
        assert f"field {section}_configs not found" not in output, output
        assert "no_such_field" in output or "missing" in output or "must" in output, output


EVERYTHING = """
version: 1
defaults: {timezone: Europe/Berlin}
services:
  shop:
    runbook: https://wiki.example.com/shop
    slos: {up: {objective: 99%, sli: {boolean: up}}}
  data.base:
    runbook: https://wiki.example.com/shop
    slos: {up: {objective: 99%, sli: {boolean: up}}}
routing:
  hours:
    office: {days: mon-fri, times: 09:00-17:00}
    night: {days: [fri, sat], times: 22:00-06:00, timezone: America/New_York}
    first: {dates: [1-7, 31], times: ["08:00-12:00", "13:00-24:00"]}
  receivers:
    one: {slack: {url: {file: a}}, teams: {url: {file: a}}, discord: {url: {file: a}}, opsgenie: {api_key: {file: a}, team: t}}
    two: {telegram: {bot_token: {file: a}, chat: -5}, webhook: {url: {file: a}}, pagerduty: {routing_key: {file: a}}}
    three:
      alertmanager:
        pushover: {user_key: {file: a}, token: {env: B}}
        webex: {room_id: r, http_config: {authorization: {credentials: {file: w}}}}
        victorops: {api_key: {file: a}, routing_key: all}
    four: {email: {to: a@b, from: c@d, smarthost: "s:25"}}
  default: one
  routes:
    - {severity: critical, during: office, to: one, escalate: {after: 15m, to: two}}
    - {service: data.base, outside: night, to: [two, three]}
    - {severity: warning, during: first, to: four}
maintenance:
  upgrade: {from: 2026-12-31 22:00, until: 2027-01-01 04:00, services: data.base}
  backup: {days: sun, times: 23:00-04:00}
"""


def test_amtool_accepts_all_that_routing_can_say(server: Alertmanager) -> None:
    code, output = server.check(dump(alertmanager.configuration(load(EVERYTHING))))
    assert code == 0, output
    assert "1 templates" in output


ESCALATION = """
version: 1
services:
  shop: {runbook: "https://wiki.example.com/shop", slos: {up: {objective: 99%, sli: {boolean: up}}}}
routing:
  grouping: {by: [service], wait: 1s, interval: 1s, repeat: 1h}
  receivers:
    # Nobody listens at either address: what counts is who is tried.
    team: {webhook: {url: "http://127.0.0.1:9/"}}
    boss: {alertmanager: {wechat: {corp_id: x, api_secret: {file: a}, api_url: "http://127.0.0.1:9/"}}}
  default: team
  routes:
    - {severity: critical, to: team, escalate: {after: 6s, to: boss}}
"""


def test_an_alert_that_goes_on_is_escalated_and_one_that_is_over_or_taken_is_not(server: Alertmanager) -> None:
    server.use(dump(alertmanager.configuration(load(ESCALATION))))
    server.post("brief")
    server.post("taken")
    until = time.monotonic() + 20
    while server.sent("webhook") < 2:
        assert time.monotonic() < until
        time.sleep(0.2)
    server.silence("taken")
    server.post("brief", over=True)
    time.sleep(8)
    assert server.sent("wechat") == 0
    begun = time.monotonic()
    server.post("lasting")
    while server.sent("wechat") == 0:
        assert time.monotonic() - begun < 30
        time.sleep(0.2)
    assert time.monotonic() - begun > 5


def test_messages_say_what_to_do(server: Alertmanager) -> None:
    # A phone shows the first lines: what, how bad, how much is left, where to go on.
    data: dict[str, Any] = {
        "receiver": "x", "status": "firing", "externalURL": "http://am", "groupLabels": {"service": "shop"},
        "commonLabels": {"severity": "critical", "service": "shop"}, "commonAnnotations": {},
        "alerts": [
            {
                "status": "firing", "startsAt": "2026-11-21T10:00:00Z", "endsAt": "0001-01-01T00:00:00Z",
                "fingerprint": f"{i}",
                "labels": {"alertname": "A", "severity": "critical", "service": "shop", "owner": "team-a"},
                "annotations": {"summary": f"Shop: pay{i} fails for 5% of events", "description": "Promised is 99.9% <over>.",
                                "budget_left": "41%", "deployment": "2.4.0 succeeded 7m ago", "runbook_url": "http://g/r?from=now-6h&to=now",
                                "dashboard_url": "http://g/d?from=now-6h&to=now"},
            }
            for i in range(2)
        ],
    }  # fmt: skip
    server.put({**TEMPLATES, "data.json": json.dumps(data)})
    for template in ("lgtm.title", "lgtm.text", "lgtm.slack.text", "lgtm.markdown", "lgtm.telegram", "lgtm.email.html"):
        command = [
            "/bin/amtool", "template", "render", "--template.glob=/etc/alertmanager/templates/*.tmpl",
            "--template.data=/etc/alertmanager/data.json", f"--template.text={{{{ template \"{template}\" . }}}}",
        ]  # fmt: skip
        done = engine.execute(server.container, command)
        said = done.output.decode()
        assert done.code == 0, done.errors
        if template == "lgtm.title":
            assert said.strip() == "CRITICAL: 2 alerts, the first: Shop: pay0 fails for 5% of events"
            continue
        # Six hours before it began, whenever it is read.
        since = f"?from={int(dt.datetime(2026, 11, 21, 4, tzinfo=dt.UTC).timestamp() * 1000)}"
        for part in ("pay0", "pay1", "Promised is 99.9%", "41%", "2.4.0 succeeded", f"http://g/r{since}", f"http://g/d{since}"):
            assert part in said, (template, part, said)
