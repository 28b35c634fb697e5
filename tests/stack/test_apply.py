"""`apply` on real servers: what is new is in force and confirmed, or everything is as it was."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import random
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest
from click.testing import CliRunner, Result

from generator import apply, engine, history, model, render, rendered, rollout, servers, targets
from generator import secrets as secret_files
from generator import stack as stacks
from generator.cli import cli
from generator.errors import LgtmError
from generator.project import Project
from generator.render import Artifact
from tests.stack.copies import LGTM

RULES = "prometheus/generated/rules/shop.yaml"
SCRAPE = "prometheus/generated/scrape/shop.yaml"
ROUTES = "alertmanager/generated/alertmanager.yml"
PROBES = "blackbox/generated/blackbox.yml"
LOGS = "loki/generated/rules/fake/shop.yaml"


def quiet(_line: str) -> None:
    """Progress that nobody reads."""


def tree(budget: str = "0.001", **more: str) -> list[Artifact]:
    """A small rendered tree; ``more`` replaces or adds files by the constants' names in lower case."""
    files = {
        "rules": (
            "groups:\n- name: shop\n  interval: 30s\n  rules:\n"
            f"  - record: slo:error_budget:ratio\n    expr: vector({budget})\n    labels: {{service: shop, n: 5}}\n"
            '  - alert: Down\n    expr: up{job="shop",instance=~"a.*"} ==  0\n    for: 90s\n    labels: {service: shop}\n'
            "    annotations: {summary: 'it is {{ $value }}'}\n"
        ),
        "routes": "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n",
        "probes": "modules:\n  http_2xx: {prober: http, timeout: 5s}\n",
        **more,
    }
    places = {"rules": RULES, "scrape": SCRAPE, "routes": ROUTES, "probes": PROBES, "logs": LOGS}
    return [Artifact(places[name], text) for name, text in files.items()]


def budget_in_force(project: Project) -> str:
    """What Prometheus itself says that the constant series is."""
    with contextlib.closing(servers.Prometheus(project.url("prometheus"))) as client:
        rules = (rule for group in client.rule_groups() for rule in group["rules"])
        return str(next(rule["query"] for rule in rules if rule["name"] == "slo:error_budget:ratio"))


def routes_hash(project: Project) -> float:
    with contextlib.closing(servers.Alertmanager(project.url("alertmanager"))) as client:
        return servers.value(client.metrics("alertmanager_config_hash"), "alertmanager_config_hash")


def everything(project: Project) -> dict[str, Any]:
    """All that a refused apply must leave as it was: files, what is in force, and when it was loaded."""
    with (
        contextlib.closing(servers.Prometheus(project.url("prometheus"))) as prometheus,
        contextlib.closing(servers.Alertmanager(project.url("alertmanager"))) as alertmanager,
    ):
        return {
            "files": files_on_disk(project),
            "rules": [(g["file"], g["name"], [r["query"] for r in g["rules"]]) for g in prometheus.rule_groups()],
            "loaded": [
                servers.value(client.metrics(prefix), prefix)
                for client, prefix in (
                    (prometheus, "prometheus_config_last_reload_success_timestamp_seconds"),
                    (alertmanager, "alertmanager_config_last_reload_success_timestamp_seconds"),
                )
            ],
            "routes": routes_hash(project),
        }


def files_on_disk(project: Project) -> dict[str, str]:
    return {
        str(path.relative_to(project.root)): path.read_text(encoding="utf-8")
        for server in rendered.TREES
        for path in (project.root / server).rglob("*")
        if path.is_file()
    }


def settled(project: Project) -> None:
    """Nothing of a run is left beside what it produced."""
    assert list(project.root.glob("*/.generated.*")) == []
    assert not (project.root / ".lgtm" / "apply.journal").exists()


@pytest.fixture
def shop(project: Project) -> Project:
    """The project with the small tree in force."""
    apply.apply(project, tree(), {"alertmanager": {}}, quiet)
    assert budget_in_force(project) == "vector(0.001)"
    return project


@pytest.fixture
def client() -> Iterator[docker.DockerClient]:
    with contextlib.closing(engine.connect()) as made:
        yield made


def container(client: docker.DockerClient, project: Project, server: str) -> Any:
    labels = [f"com.docker.compose.project={project.compose_project}", f"com.docker.compose.service={server}"]
    (found,) = client.containers.list(all=True, filters={"label": labels})
    return found


def secrets_of(client: docker.DockerClient, project: Project, server: str) -> dict[str, bytes]:
    stream, _ = container(client, project, server).get_archive("/run/lgtm-secrets")
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
        read = {m.name.rpartition("/")[2]: archive.extractfile(m) for m in archive.getmembers() if m.isfile()}
        return {name: source.read() for name, source in read.items() if source is not None}


def test_a_changed_objective_of_the_shipped_file_is_in_force(project: Project) -> None:
    path = project.root / "slos.yaml"
    text = path.read_text(encoding="utf-8")
    assert "objective: 99.9%" in text

    def rendered() -> tuple[list[Artifact], dict[str, dict[str, bytes]]]:
        found = model.load([path]).model
        assert found is not None
        return render.everything(found), apply.read_secrets(project, {"alertmanager": found.routing.secrets()})

    apply.apply(project, *rendered(), quiet)
    before = budgets(project)
    path.write_text(text.replace("objective: 99.9%", "objective: 99.8%", 1), encoding="utf-8")
    try:
        result = apply.apply(project, *rendered(), quiet)
    finally:
        path.write_text(text, encoding="utf-8")
    assert "vector(0.002)" in budgets(project) - before
    assert result.reloaded[:1] == ("prometheus",)
    assert "alertmanager" not in result.reloaded
    assert {"prometheus", "alertmanager", "blackbox"} <= result.confirmed.keys()
    assert {d.kind for d in result.changed} == {"changed"}
    print({step: round(seconds, 2) for step, seconds in result.seconds.items()})


def budgets(project: Project) -> set[str]:
    with contextlib.closing(servers.Prometheus(project.url("prometheus"))) as client:
        return {r["query"] for g in client.rule_groups() for r in g["rules"] if r["name"] == "slo:error_budget:ratio"}


def test_rules_routes_and_probes_are_in_force_together(shop: Project) -> None:
    routes = "route: {receiver: somebody}\nreceivers: [{name: somebody}]\n"
    probes = "modules:\n  tcp: {prober: tcp, timeout: 1500ms}\n"
    result = apply.apply(shop, tree("0.01", routes=routes, probes=probes), {}, quiet)
    assert budget_in_force(shop) == "vector(0.01)"
    assert routes_hash(shop) == servers.Alertmanager.config_hash(routes.encode())
    with contextlib.closing(servers.Blackbox(shop.url("blackbox"))) as blackbox:
        assert blackbox.config()["modules"].keys() == {"tcp"}
    assert set(result.reloaded) == {"prometheus", "alertmanager", "blackbox"} == set(result.confirmed)
    assert [str(d) for d in result.changed] == [f"{path}: changed" for path in (ROUTES, PROBES, RULES)]
    settled(shop)


def test_again_it_changes_nothing(shop: Project) -> None:
    before = everything(shop)
    said: list[str] = []
    result = apply.apply(shop, tree(), {"alertmanager": {}}, said.append)
    assert (result.changed, result.reloaded, said) == ((), (), [])
    assert set(result.confirmed) == {"prometheus", "alertmanager", "blackbox"}
    assert "nothing to change" in result.summary()
    assert everything(shop) == before


def test_files_that_were_only_rendered_are_loaded(shop: Project) -> None:
    rendered.write(shop.root, tree("0.02"))
    assert budget_in_force(shop) == "vector(0.001)"
    result = apply.apply(shop, tree("0.02"), {}, quiet)
    assert budget_in_force(shop) == "vector(0.02)"
    assert (result.changed, result.reloaded) == ((), ("prometheus",))


def test_a_hand_written_file_that_changed_is_loaded_too(shop: Project) -> None:
    own = shop.root / "prometheus" / "rules" / "mine.yaml"
    own.write_text("groups: [{name: mine, rules: [{record: a, expr: vector(1)}]}]\n", encoding="utf-8")
    try:
        assert apply.apply(shop, tree(), {}, quiet).reloaded == ("prometheus",)
        with contextlib.closing(servers.Prometheus(shop.url("prometheus"))) as client:
            assert "mine" in {group["name"] for group in client.rule_groups()}
    finally:
        own.unlink()
        assert apply.apply(shop, tree(), {}, quiet).reloaded == ("prometheus",)


def test_scrape_jobs_come_and_go(shop: Project) -> None:
    scrape = (
        "scrape_configs:\n- job_name: shop\n  scrape_interval: 60s\n  scrape_timeout: 2500ms\n"
        "  static_configs: [{targets: ['localhost:9090'], labels: {a: b}}]\n"
    )
    result = apply.apply(shop, tree(scrape=scrape), {}, quiet)
    assert "1 scrape jobs in force" in result.confirmed["prometheus"]
    with contextlib.closing(servers.Prometheus(shop.url("prometheus"))) as client:
        assert client.scrape_pool("shop")["scrape_interval"] == "1m"
        apply.apply(shop, tree(scrape=scrape.replace("60s", "30s")), {}, quiet)
        assert client.scrape_pool("shop")["scrape_interval"] == "30s"
        apply.apply(shop, tree(), {}, quiet)
        assert "shop" not in client.scrape_pools()


def test_log_rules_are_in_force_and_wrong_ones_refused(shop: Project) -> None:
    rule = 'groups:\n- name: logs\n  rules:\n  - record: shop:logs\n    expr: sum(rate({service_name="shop"}[1m]))\n'
    assert apply.apply(shop, tree(logs=rule), {}, quiet).confirmed["loki"] == "1 log rules in 1 groups in force"
    with pytest.raises(apply.RefusedError, match="parse error") as raised:
        apply.apply(shop, tree(logs=rule.replace("[1m]", "")), {}, quiet)
    assert raised.value.faults[0].file == LOGS
    apply.apply(shop, tree(), {}, quiet)
    with contextlib.closing(servers.Loki(shop.url("loki"))) as loki:
        assert loki.rule_groups() == {}


BAD_RULES = "groups:\n- name: shop\n  rules:\n  - record: a\n    expr: no_such_function(up)\n  - record: b\n    expr: sum(\n"
BAD_ROUTES = "route: {receiver: gone}\nreceivers: [{name: nobody}]\n"


def test_everything_that_the_tools_refuse_is_told_at_once_and_nothing_changes(shop: Project) -> None:
    before = everything(shop)
    with pytest.raises(apply.RefusedError) as raised:
        apply.apply(shop, tree(rules=BAD_RULES, routes=BAD_ROUTES, probes="modules: {a: {what: 1}}\n"), {}, quiet)
    faults = raised.value.faults
    assert [(f.by, f.file) for f in faults] == [
        ("promtool", RULES),
        ("promtool", RULES),
        ("amtool", ROUTES),
        ("blackbox_exporter", PROBES),
    ]
    assert "no_such_function" in faults[0].message
    assert 'undefined receiver "gone" used in route' in faults[2].message
    assert "field what not found" in faults[3].message
    assert ".generated" not in raised.value.message
    assert "/etc/" not in raised.value.message
    assert everything(shop) == before
    settled(shop)


def test_a_route_alone_is_refused(shop: Project) -> None:
    before = everything(shop)
    with pytest.raises(apply.RefusedError, match=f"amtool: {ROUTES}: undefined receiver"):
        apply.apply(shop, tree("0.03", routes=BAD_ROUTES), {}, quiet)
    assert everything(shop) == before


def test_a_scrape_job_and_a_rule_are_refused_together(shop: Project) -> None:
    before = everything(shop)
    scrape = "scrape_configs:\n- job_name: shop\n  scrape_timeout: 60s\n  scrape_interval: 1s\n"
    with pytest.raises(apply.RefusedError) as raised:
        apply.apply(shop, tree(scrape=scrape, rules=BAD_RULES), {}, quiet)
    # promtool stops at the first of these; both are told all the same.
    assert any("scrape timeout" in fault.message for fault in raised.value.faults)
    assert any("no_such_function" in fault.message for fault in raised.value.faults)
    assert everything(shop) == before


def test_refused_files_that_were_on_disk_already_give_way_to_the_last_good_ones(shop: Project) -> None:
    good = files_on_disk(shop)
    rendered.write(shop.root, tree(rules=BAD_RULES))
    with pytest.raises(apply.RefusedError, match="no_such_function") as raised:
        apply.apply(shop, tree(rules=BAD_RULES), {}, quiet)
    assert raised.value.restored == ("prometheus",)
    assert files_on_disk(shop) == good
    assert budget_in_force(shop) == "vector(0.001)"


@pytest.mark.parametrize("how", ["stop", "pause"])
def test_a_server_that_is_down_is_named_and_nothing_changes(shop: Project, client: docker.DockerClient, how: str) -> None:
    before = files_on_disk(shop)
    down = container(client, shop, "alertmanager")
    down.stop() if how == "stop" else down.pause()
    try:
        with pytest.raises(apply.NotRunningError, match=r"Not running: alertmanager \(it is .*\); nothing was changed"):
            apply.apply(shop, tree("0.04"), {}, quiet)
        assert files_on_disk(shop) == before
        assert budget_in_force(shop) == "vector(0.001)"
    finally:
        down.start() if how == "stop" else down.unpause()
        eventually(lambda: stacks.is_ready(shop, "alertmanager")[0])
    apply.apply(shop, tree("0.04"), {}, quiet)
    assert budget_in_force(shop) == "vector(0.04)"


def eventually(what: Callable[[], Any], seconds: float = 30, why: Callable[[], object] = str) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, why()
        time.sleep(0.2)


def test_a_server_that_does_not_answer_is_named(shop: Project) -> None:
    before = files_on_disk(shop)
    deaf = replace(shop, settings={**shop.settings, "BLACKBOX_PORT": "1"})
    with pytest.raises(apply.NotRunningError, match="blackbox does not answer; nothing was changed"):
        apply.apply(deaf, tree("0.05"), {}, quiet)
    assert files_on_disk(shop) == before


def test_no_stack_and_somebody_elses_stack_are_told_apart(shop: Project, tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").touch()
    other = Project(tmp_path, {**shop.settings, "COMPOSE_PROJECT_NAME": "lgtm-there-is-none"})
    with pytest.raises(apply.NotRunningError, match="'lgtm-there-is-none' is not running") as raised:
        apply.apply(other, tree(), {}, quiet)
    assert "make up" in str(raised.value.hint)
    same = Project(tmp_path, shop.settings)
    with pytest.raises(apply.NotRunningError, match="belongs to"):
        apply.apply(same, tree(), {}, quiet)
    assert not (tmp_path / "prometheus").exists()


def with_secret() -> list[Artifact]:
    routes = (
        "route: {receiver: chat}\nreceivers:\n- name: chat\n"
        "  slack_configs: [{api_url_file: /run/lgtm-secrets/slack_url, channel: '#a'}]\n"
    )
    return tree(routes=routes)


def test_secrets_are_handed_over_and_taken_back_when_refused(shop: Project, client: docker.DockerClient) -> None:
    apply.apply(shop, with_secret(), {"alertmanager": {"slack_url": b"https://first"}}, quiet)
    assert secrets_of(client, shop, "alertmanager")["slack_url"] == b"https://first"
    bad = shop.root / "prometheus" / "rules" / "bad.yaml"

    def tamper(line: str) -> None:
        if line.startswith("switching"):
            bad.write_text("groups: [{name: x}\n", encoding="utf-8")
        elif line.startswith("refused"):
            bad.unlink()

    more = [a if a.path != RULES else tree("0.06")[0] for a in with_secret()]
    with pytest.raises(apply.RefusedError):
        apply.apply(shop, more, {"alertmanager": {"slack_url": b"https://second"}}, tamper)
    assert secrets_of(client, shop, "alertmanager")["slack_url"] == b"https://first"
    apply.apply(shop, tree(), {"alertmanager": {}}, quiet)
    assert secrets_of(client, shop, "alertmanager")["slack_url"] == b""


def test_a_secret_that_was_replaced_is_handed_over_though_nothing_else_changed(
    shop: Project, client: docker.DockerClient
) -> None:
    apply.apply(shop, with_secret(), {"alertmanager": {"slack_url": b"https://first"}}, quiet)
    result = apply.apply(shop, with_secret(), {"alertmanager": {"slack_url": b"https://second"}}, quiet)
    assert secrets_of(client, shop, "alertmanager")["slack_url"] == b"https://second"
    assert (result.changed, result.reloaded) == ((), ())
    assert "alertmanager was handed its secrets anew." in result.notes
    apply.apply(shop, tree(), {"alertmanager": {}}, quiet)


def test_a_secret_that_a_killed_run_left_behind_is_taken_back_though_nothing_else_changed(
    shop: Project, client: docker.DockerClient
) -> None:
    secret_files.sync(shop, "alertmanager", {"slack_url": b"https://left"})
    result = apply.apply(shop, tree(), {"alertmanager": {}}, quiet)
    assert secrets_of(client, shop, "alertmanager")["slack_url"] == b""
    assert (result.changed, result.reloaded) == ((), ())


def test_the_old_secret_stays_until_the_new_configuration_is_in_force(shop: Project, client: docker.DockerClient) -> None:
    apply.apply(shop, with_secret(), {"alertmanager": {"slack_url": b"https://first"}}, quiet)
    seen: list[bytes] = []

    def look() -> list[targets.Fault]:
        seen.append(secrets_of(client, shop, "alertmanager")["slack_url"])
        return []

    apply.apply(shop, tree(), {"alertmanager": {}}, quiet, accept=look)
    assert seen == [b"https://first"]
    assert secrets_of(client, shop, "alertmanager")["slack_url"] == b""


def test_what_is_found_wrong_once_it_is_in_force_puts_the_old_one_back(shop: Project) -> None:
    before = everything(shop)
    seen: list[str] = []

    def look() -> list[targets.Fault]:
        seen.append(budget_in_force(shop))
        return [targets.Fault("prometheus", "it is not well")]

    with pytest.raises(apply.RefusedError, match="prometheus: it is not well") as raised:
        apply.apply(shop, tree("0.03"), {}, quiet, accept=look)
    assert seen == ["vector(0.03)"]
    assert raised.value.restored == ("prometheus",)
    after = everything(shop)
    assert after.pop("loaded") > before.pop("loaded")
    assert after == before
    settled(shop)


def test_a_rule_that_parses_and_cannot_be_evaluated_is_found(shop: Project) -> None:
    two = " or ".join(f"label_replace(vector(1), 'a', '{n}', '', '')" for n in (1, 2))
    rules = (
        "groups:\n- name: shop\n  interval: 30s\n  rules:\n"
        f"  - record: shop:twice\n    expr: vector(1) / on () ({two})\n  - record: shop:good\n    expr: vector(1)\n"
    )
    found: list[targets.Fault] = []

    def look() -> list[targets.Fault]:
        found.extend(rollout.unhealthy(shop))
        return found

    with pytest.raises(apply.RefusedError, match="shop:twice cannot be evaluated"):
        apply.apply(shop, tree(rules=rules), {}, quiet, accept=look)
    assert [(fault.by, fault.file) for fault in found] == [("prometheus", RULES)]
    assert budget_in_force(shop) == "vector(0.001)"


def test_a_reload_that_fails_after_a_good_check_is_undone(shop: Project) -> None:
    before = everything(shop)
    bad = shop.root / "prometheus" / "rules" / "bad.yaml"

    def tamper(line: str) -> None:
        if line.startswith("switching"):
            bad.write_text("groups: [{name: x, rules: [{record: y, expr: 'sum('}]}]\n", encoding="utf-8")
        elif line.startswith("refused"):
            bad.unlink()

    routes = "route: {receiver: somebody}\nreceivers: [{name: somebody}]\n"
    with pytest.raises(apply.RefusedError, match="prometheus refused the new configuration") as raised:
        apply.apply(shop, tree("0.07", routes=routes), {}, tamper)
    (fault,) = raised.value.faults
    assert fault.file == "prometheus/rules/bad.yaml"
    assert "could not parse expression" in fault.message
    assert set(raised.value.restored) == {"prometheus", "alertmanager"}
    assert raised.value.hint == "The last good configuration of prometheus, alertmanager is in force again."
    after = everything(shop)
    assert after.pop("loaded") > before.pop("loaded")  # they did load the new one, or tried to, and then the old one
    assert after == before
    with contextlib.closing(servers.Prometheus(shop.url("prometheus"))) as client:
        name = "prometheus_config_last_reload_successful"
        assert servers.value(client.metrics(name), name) == 1
    settled(shop)


def test_when_the_old_one_is_refused_too_it_says_so(shop: Project) -> None:
    bad = shop.root / "prometheus" / "rules" / "bad.yaml"
    before = files_on_disk(shop)

    def spoil(line: str) -> None:
        if line.startswith("switching"):
            bad.write_text("groups: {\n")

    try:
        with pytest.raises(apply.RefusedError) as raised:
            apply.apply(shop, tree("0.08"), {}, spoil)
        assert "not all is as before: prometheus" in str(raised.value.hint)
    finally:
        bad.unlink()
    assert files_on_disk(shop) == before
    # The next run puts everything right, and says so by confirming.
    assert apply.apply(shop, tree(), {}, quiet).reloaded == ("prometheus",)
    assert budget_in_force(shop) == "vector(0.001)"


def test_files_that_change_between_check_and_switch_are_not_loaded(shop: Project) -> None:
    before = everything(shop)

    def tamper(line: str) -> None:
        if line.startswith("switching"):
            (shop.root / "prometheus/.generated.new/rules/shop.yaml").write_text("groups: []\n", encoding="utf-8")

    with pytest.raises(apply.RefusedError, match="changed by something else meanwhile"):
        apply.apply(shop, tree("0.09"), {}, tamper)
    assert everything(shop) == before


CHILD = """
import sys
sys.path.insert(0, {repository!r})
from pathlib import Path
from generator.project import Project
from tests.stack import test_apply as t
project = Project.load(Path({root!r}))
def report(line):
    print(line, flush=True)
print("ready", flush=True)
number = 0
try:
    while True:
        number += 1
        routes = "route: {{receiver: r%d}}\\nreceivers: [{{name: r%d}}]\\n" % (number, number)
        t.apply.apply(project, t.tree("0.1%d" % number, routes=routes), {{}}, report)
        print("done", flush=True)
except t.LgtmError as error:
    print(error, flush=True)
    sys.exit(error.exit_code)
"""


def child_of(project: Project) -> subprocess.Popen[str]:
    code = CHILD.format(repository=str(Path(__file__).parents[2]), root=str(project.root))
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def wait_for(child: subprocess.Popen[str], start: str) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith(start):
            return
    pytest.fail(f"the child ended before it said {start!r}")


def test_plan_apply_history_and_rollback_as_a_person_types_them(project: Project) -> None:
    path = project.root / "slos.yaml"
    text = path.read_text(encoding="utf-8")
    assert command(project, "apply", "--no-test").exit_code == 0
    first = history.last(project)
    assert first is not None
    assert command(project, "plan").exit_code == 0
    good = budgets(project)
    try:
        path.write_text(text.replace("objective: 99.9%", "objective: 99.8%", 1), encoding="utf-8")
        planned = command(project, "plan", "--json", "--no-backtest")
        assert planned.exit_code == 2, planned.output
        (slo,) = [c for c in json.loads(planned.stdout)["changes"] if c["kind"] == "SLO"]
        assert slo["details"][:2] == [
            "objective 99.9% over 30d → 99.8% over 30d",
            "budget 43.2 min → 86.4 min of outage a month",
        ]
        done = command(project, "apply")  # with the proof of what changes
        assert done.exit_code == 0, done.output
        assert f"~ SLO {slo['name']}" in done.stdout
        assert "vector(0.002)" in budgets(project)
        second = history.last(project)
        assert second is not None
        assert (second.number, second.how) == (first.number + 1, "apply")
        assert "99.9% over 30d → 99.8% over 30d" in command(project, "history", "show", str(second.number)).stdout
        again = json.loads(command(project, "apply", "--json").stdout)
        assert (again["changed"], again["reloaded"], again["history"], again["plan"]["changes"]) == ([], [], None, [])
        assert "test" not in again["seconds"]

        back = command(project, "rollback", str(first.number))
        assert back.exit_code == 0, back.output
        assert budgets(project) == good
        assert "Not changed: slos.yaml" in back.stderr
        assert "objective: 99.8%" in path.read_text(encoding="utf-8")
        assert command(project, "plan", "--no-backtest").exit_code == 2
        whole = command(project, "rollback", str(first.number), "--restore-file")
        assert whole.exit_code == 0, whole.output
        assert path.read_text(encoding="utf-8") == text
        (backup,) = project.root.glob("slos.yaml.before-rollback-*")
        assert "objective: 99.8%" in backup.read_text(encoding="utf-8")
        assert command(project, "plan").exit_code == 0
        last = history.last(project)
        assert last is not None
        assert (last.how, last.of) == ("rollback", first.number)
    finally:
        path.write_text(text, encoding="utf-8")
        for backup in project.root.glob("slos.yaml.before-rollback-*"):
            backup.unlink()


KILLS = 50
# A machine that is busy with other things gets as far as it comes.
KILLING = 150.0


@pytest.fixture
def specs(project: Project) -> Iterator[dict[str, Path]]:
    """Files that differ in what every server reads; the last one needs a secret as well."""
    one = (project.root / "slos.yaml").read_text(encoding="utf-8")
    other = (
        one.replace("objective: 99.9%", "objective: 99.8%", 1)
        .replace('/health/live", interval: 15s', '/health/live", status: [200, 204], interval: 30s', 1)
        .replace("  default: pager", "    second: {webhook: {url: 'http://two:8001/'}}\n  default: [pager, second]", 1)
    )
    secret = other.replace("second: {webhook: {url: 'http://two:8001/'}}", "second: {slack: {url: {file: slack_url}}}")
    assert len({one, other, secret}) == 3
    assert "status: [200, 204]" in other
    (project.root / "secrets" / "slack_url").write_text("https://hooks.example.com/x\n", encoding="utf-8")
    paths = {name: project.root / f"{name}.yaml" for name in ("one", "other", "secret")}
    for path, text in zip(paths.values(), (one, other, secret), strict=True):
        path.write_text(text, encoding="utf-8")
    yield paths
    for path in paths.values():
        path.unlink()


def command(project: Project, *words: str) -> Result:
    """The command, in this process: it starts no Python of its own."""
    return CliRunner().invoke(cli, ["-C", str(project.root), *words])


def versions(paths: dict[str, Path]) -> dict[str, dict[str, dict[str, bytes]]]:
    """What each server is to read, by file and server."""
    out = {}
    for name, path in paths.items():
        read = model.load([path])
        assert read.model is not None, read.errors
        out[name] = rendered.by_server(render.everything(read.model))
    return out


def whole(project: Project, known: dict[str, dict[str, dict[str, bytes]]]) -> dict[str, str]:
    """Which version each server has in force, once a reload that was under way is over; fails where it is a mixture."""
    in_force: dict[str, str] = {}
    why: list[str] = []
    for server in ("prometheus", "alertmanager", "blackbox", "loki"):
        target = targets.TARGETS[server](project)

        def look(server: str = server, target: targets.Target = target) -> bool:
            good, _ = target.state()
            differs = {name: target.pending(trees[server]) for name, trees in known.items()}
            in_force[server] = " or ".join(name for name in known if differs[name] is None)
            why[:] = [f"{server}: {good=}, {differs}"]
            return good and bool(in_force[server])

        eventually(look, 15, why.copy)
        assert stacks.is_ready(project, server)[0]
        # Also what it would find if it started again just now.
        assert files_of(project, server) in [trees[server] for trees in known.values()]
    return in_force


def files_of(project: Project, server: str) -> dict[str, bytes]:
    return rendered.read_tree(project.root / server / rendered.GENERATED)


def test_killed_at_fifty_random_points_the_stack_stays_whole_and_the_next_apply_finishes(
    project: Project, client: docker.DockerClient, specs: dict[str, Path]
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    moments = random.Random(seed)
    known = versions(specs)
    assert command(project, "-f", str(specs["one"]), "apply", "--no-test").exit_code == 0

    def start(name: str) -> subprocess.Popen[str]:
        words = [str(LGTM), "-C", str(project.root), "-f", str(specs[name]), "apply", "--no-test"]
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    began = time.monotonic()
    with start("other") as usual:
        assert usual.wait(timeout=60) == 0, usual.stdout.read() if usual.stdout else ""
    usual_length = time.monotonic() - began
    # A secret is handed over by a container that is made for it, which takes longer than all else.
    turns = itertools.cycle(["one", "other"] * 3 + ["one", "secret"])
    kills, journals, mixed = 0, 0, 0
    ends: dict[str, int] = {}
    deadline = time.monotonic() + KILLING
    while kills < KILLS and time.monotonic() < deadline:
        now = next(turns)
        child = start(now)
        try:
            # Over the whole of it, and more often where two versions are in play.
            if word := ("", "checking", "switching")[kills % 3]:
                wait_for(child, word)
            time.sleep(moments.uniform(0, usual_length / (1, 4, 8)[kills % 3]))
        finally:
            child.kill()
            said = (child.communicate()[0] or "").strip().splitlines()
        kills += 1
        last = said[-1].split()[0] if said else word or "nothing"
        ends[last] = ends.get(last, 0) + 1
        journals += (project.root / ".lgtm" / "apply.journal").exists()
        in_force = whole(project, known)
        mixed += len({in_force[server] for server in ("prometheus", "alertmanager")}) > 1
        kept = history.entries(project)
        assert [entry.number for entry in kept] == list(range(kept[0].number, kept[0].number + len(kept))), f"seed {seed}"
        done = command(project, "-f", str(specs[now]), "apply", "--no-test")
        assert done.exit_code == 0, f"seed {seed}, kill {kills}, after {said[-1:]}: {done.output}"
        whole(project, {now: known[now]})
        for server, files in known[now].items():
            assert files_of(project, server) == files
        assert bool(secrets_of(client, project, "alertmanager").get("slack_url")) == (now == "secret")
        entry = history.last(project)
        assert entry is not None
        assert entry.rendered == history.rendered_digest(history.read(project, entry.number).artifacts)
        assert rendered.by_server(history.read(project, entry.number).artifacts) == known[now], f"seed {seed}"
        settled(project)
    print(f"seed {seed}: {kills} kills, {journals} with a journal, {mixed} between two servers, last words {ends}")
    assert kills > 5


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["ready", "checking", "switching"])
def test_a_signal_leaves_one_whole_version_in_force(shop: Project, moment: str, which: signal.Signals) -> None:
    before = everything(shop)
    child = child_of(shop)
    wait_for(child, moment)
    if moment == "ready":
        time.sleep(0.01)
    child.send_signal(which)
    rest = child.communicate(timeout=30)[0]
    if moment != "ready":
        assert child.returncode == 128 + which, rest
        assert "Stopped" in rest
    assert "0.1" in budget_in_force(shop) if "done" in rest else budget_in_force(shop) == "vector(0.001)"
    if "done" not in rest:
        assert everything(shop)["files"] == before["files"]
    assert routes_hash(shop) == servers.Alertmanager.config_hash((shop.root / ROUTES).read_bytes())
    settled(shop)


def test_two_at_once_are_refused(shop: Project) -> None:
    with rendered.lock(shop.root), pytest.raises(rendered.BusyError):
        apply.apply(shop, tree(), {}, quiet)


def test_an_error_is_a_sentence_for_users() -> None:
    for kind in (apply.RefusedError, apply.NotRunningError, rendered.WriteError, rendered.BusyError, servers.UnreachableError):
        assert issubclass(kind, LgtmError)
