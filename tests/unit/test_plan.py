"""A plan says what an edit means, all of it, and nothing else."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from generator import history, model, plan, render, source
from generator.cli import cli
from generator.errors import LgtmError
from generator.model import Model, ResolvedPanel, ResolvedProcess, ResolvedSla
from generator.plan import Change
from generator.rendered import Difference
from generator.sli import Boolean
from generator.spec import Runbook
from generator.units import Duration, Threshold

SPEC = """\
version: 1
organization: Shop
defaults: {owner: shop, window: 30d}
services:
  checkout:
    title: Checkout
    tier: critical
    runbook: https://wiki.example.com/checkout
    scrape: {targets: ["checkout:8000"]}
    probes:
      live: {url: "http://checkout:8000/health", interval: 15s, severity: critical}
    slos:
      availability:
        objective: 99.9%
        sli: {ratio: {errors: 'http_requests_total{code=~"5.."}', total: http_requests_total}}
      latency:
        objective: 95%
        sli: {latency: {histogram: http_request_duration_seconds, under: 300ms}}
    alerts:
      PoolFull: {expr: pool_used / pool_size, above: 80%, for: 2m, summary: The pool is nearly used up}
  payments:
    owner: pay
    runbook: https://wiki.example.com/payments
    slos:
      taken:
        objective: 99.5%
        sli: {ratio: {good: payments_taken_total, total: payments_total}}
routing:
  receivers:
    chat: {webhook: {url: "http://chat:8001/in/a1b2"}}
    phone: {pagerduty: {routing_key: {file: pagerduty_key}}}
    team-b: {webhook: {url: "http://team-b:8001/"}}
  hours:
    office: {days: mon-fri, times: "09:00-17:00"}
  default: chat
  routes:
    - {severity: critical, owner: pay, to: phone}
    - {severity: critical, to: chat, during: office, escalate: {after: 15m, to: phone}}
    - {severity: warning, owner: shop, to: [chat, team-b]}
"""


@functools.cache
def resolved(text: str = SPEC) -> Model:
    result = model.resolve(source.read_text(text, "slos.yaml"))
    assert result.model is not None, result.errors
    return result.model


def edited(*edits: tuple[str, str], text: str = SPEC) -> list[Change]:
    """What a plan says of replacements in the spec, each made once."""
    new = text
    for old, replacement in edits:
        assert old in new, old
        new = new.replace(old, replacement, 1)
    return plan.compare(resolved(text), resolved(new))


def said(changes: list[Change]) -> list[str]:
    return [f"{c.mark} {c.kind} {c.name}: {'; '.join(c.details)}" for c in changes]


def test_what_means_the_same_is_no_change() -> None:
    new = SPEC.replace("defaults: {owner: shop, window: 30d}", "defaults: {owner: shop, window: 720h}  # a month")
    new = new.replace("        objective: 99.9%\n", "        window: 30d\n        objective: 99.90%\n        owner: shop\n")
    new = new.replace(
        '{url: "http://checkout:8000/health", interval: 15s', "{interval: 15000ms, url: 'http://checkout:8000/health'"
    )
    assert new != SPEC
    assert edited() == [] == plan.compare(resolved(), resolved(new))


def test_an_objective_in_words_and_numbers() -> None:
    # 14.4 × 0.1% of an hour is 51.84 s, and half of it with half the budget; 6 × 0.05% of 6 h is 64.8 s.
    assert said(edited(("objective: 99.9%", "objective: 99.95%"))) == [
        "~ SLO checkout/availability: objective 99.9% over 30d → 99.95% over 30d; "
        "budget 43.2 min → 21.6 min of outage a month; "
        "pages (at 14.4x and 6x): an outage of 100% after 52s → 26s, of 10% after 8m39s → 4m20s, of 1% after 3h36m → 44m; "
        "warns (at 3x and 1x): an outage of 100% after 4m20s → 2m10s, of 10% after 44m → 22m, of 1% after 7h12m → 3h36m"
    ]


def test_a_window_and_a_policy_of_its_own() -> None:
    policy = "alerting:\n  fast: {critical: [{long: 1h, short: 5m, factor: 10}]}\nservices:"
    (window,) = edited(("objective: 99.5%", "objective: 99.5%\n        window: 7d"))
    assert window.details[0] == "objective 99.5% over 30d → 99.5% over 7d"
    assert window.details[1] == "budget 3.6 h of outage a month → 50.4 min a week"
    assert "pages at 14.4x → 3.36x over 1h" in window.details
    assert "no longer warns at 1x over 3d and 6h" in window.details
    found = edited(("services:", policy), ("objective: 99.5%", "objective: 99.5%\n        alerting: fast"))
    (policed,) = [c for c in found if c.kind == "SLO"]
    assert "pages at 14.4x → 10x over 1h" in policed.details
    assert "no longer pages at 6x over 6h and 30m" in policed.details
    assert "alerting standard → fast" in policed.details


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (("under: 300ms", "under: 500ms"), "~ SLO checkout/latency: bad is what '.* above 500ms' finds .was '.* above 300ms'."),
        (("good: payments_taken_total", "good: paid_total"), "~ SLO payments/taken: bad is what 'all but paid_total of .*"),
        (("title: Checkout\n", "title: Pay here\n"), "~ service checkout: title Checkout → Pay here"),
        (("above: 80%", "above: 90%"), "~ alert checkout/PoolFull: above 80% → 90%"),
        (("for: 2m", "for: 5m"), "~ alert checkout/PoolFull: holds for 2m → 5m"),
        (("/health", "/ready"), "~ probe checkout/live: url http://checkout:8000/health → http://checkout:8000/ready"),
        (("interval: 15s", "interval: 1m"), "~ probe checkout/live: interval 15s → 1m; a failure is noticed in 30s → 2m"),
        (("https://wiki.example.com/pay", "https://new.example.com/pay"), ".* service payments: runbook changed: url"),
        (("09:00-17:00", "08:00-17:00"), "~ hours office: Mon, .* 09:00-17:00 UTC → Mon, .* 08:00-17:00 UTC"),
        (("http://team-b:8001/", "http://other:8001/"), "~ receiver team-b: webhook: url http://team-b:8001 → http://other:8001"),
        (("default: chat", "grouping: {wait: 1m}\n  default: chat"), "~ routing wait: the first message .* waits 10s → 1m"),
    ],
)  # fmt: skip
def test_one_edit_is_one_change(edit: tuple[str, str], expected: str) -> None:
    (line,) = said(edited(edit))
    assert re.fullmatch(expected, line), line


def test_how_often_metrics_arrive_changes_what_rates_look_at() -> None:
    assert said(edited(('checkout:8000"]}', 'checkout:8000"], interval: 30s}'))) == [
        "~ service checkout: metrics arrive every 15s → 30s; scraped changed: interval",
        "~ SLO checkout/availability: rates over 1m15s → 1m30s",
        "~ SLO checkout/latency: rates over 1m15s → 1m30s",
    ]


def test_what_is_added_says_who_hears_of_it() -> None:
    more = "      checked: {objective: 99%, sli: {boolean: up}}\nrouting:"
    (change,) = edited(("routing:", more))
    assert (change.action, change.kind, change.name, change.loses) == ("added", "SLO", "payments/checked", False)
    assert change.details == (
        "99% over 30d: up is 0",
        "budget 7.2 h of outage a month",
        "pages 8m39s into an outage of 100%, reaches phone",
        "warns 44m into an outage of 100%, reaches chat",
    )


def test_less_is_watched_when_something_goes() -> None:
    without = re.sub(r"      latency:\n(        .*\n)+", "", SPEC)
    (change,) = plan.compare(resolved(), resolved(without))
    assert (change.action, change.name, change.loses) == ("removed", "checkout/latency", True)
    whole = re.sub(r"  payments:\n(    .*\n)+", "", SPEC).replace("    - {severity: critical, owner: pay, to: phone}\n", "")
    assert {(c.action, c.kind, c.name, c.loses) for c in plan.compare(resolved(), resolved(whole))} == {
        ("removed", "service", "payments", False),
        ("removed", "SLO", "payments/taken", True),
        ("removed", "route", "severity=critical owner=pay", False),
    }


# --- who is told -------------------------------------------------------------------------------------------------------------


def on_call(changes: list[Change]) -> dict[str, str]:
    return {c.name: c.details[0] for c in changes if c.kind == "on-call"}


def test_another_receiver_is_told_by_whose_alerts_reach_it() -> None:
    found = edited(("owner: pay, to: phone", "owner: pay, to: team-b"))
    assert on_call(found) == {
        "critical alerts of pay": "now reach team-b instead of phone (SLOBurnRateCritical of payments/taken)"
    }
    assert [c.name for c in found if c.kind == "route"] == ["severity=critical owner=pay"]


def test_another_owner_moves_the_alerts_and_is_told_once() -> None:
    found = edited(("    owner: pay\n", "    owner: shop\n"))
    assert said(found)[0] == "~ service payments: owner pay → shop"
    assert not [c for c in found if c.kind == "SLO"]
    assert on_call(found)["critical alerts of shop"] == (
        "now reach chat during office, after 15m phone, chat instead of phone (SLOBurnRateCritical of payments/taken)"
    )


def test_who_is_told_later_counts() -> None:
    found = edited(("escalate: {after: 15m, to: phone}", "escalate: {after: 1h, to: phone}"))
    assert on_call(found)["critical alerts of shop"].startswith(
        "now reach chat during office, after 1h phone, chat instead of chat during office, after 15m phone, chat (every one"
    )


def test_an_order_of_routes_that_decides_nothing_is_told_as_that() -> None:
    routes = [f"    - {line}\n" for line in re.findall(r"    - (\{severity.*)\n", SPEC)]
    new = SPEC.replace("".join(routes), "".join([routes[0], routes[2], routes[1]]))
    assert new != SPEC
    assert said(plan.compare(resolved(), resolved(new))) == ["~ routes order: tried in another order"]


def test_alerts_that_reach_nobody_any_more_are_a_loss() -> None:
    found = edited(("  default: chat\n", ""))
    lost = [c for c in found if c.loses]
    assert [(c.kind, c.name) for c in lost] == [("on-call", "warning alerts of pay")]
    assert "now reach nobody instead of chat" in lost[0].details[0]


def test_where_a_webhook_is_stays_between_the_two_of_them() -> None:
    (change,) = edited(("/in/a1b2", "/in/c3d4"))
    assert change.details == ("webhook: url at http://chat:8001/… has another path",)
    found = edited(
        ("  hours:", "    more: {webhook: {url: 'http://more/s3cret'}}\n  hours:"), ("default: chat", "default: [chat, more]")
    )
    assert "s3cret" not in str(found)


# --- nothing is left out -----------------------------------------------------------------------------------------------------


def another(value: Any) -> Any:
    """A value of the same kind that is a different one."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, Decimal):
        return value / 2
    if isinstance(value, Duration):
        return value * 2
    if isinstance(value, Threshold):
        return dataclasses.replace(value, value=value.value / 2, text="half")
    if isinstance(value, str | None):
        return f"{value}x"
    if isinstance(value, Mapping):
        return {**value, "x": "y"}
    return value[:-1] if value else ("x",)


PARTS: dict[str, Callable[[Model], Any]] = {
    "services": lambda m: m.services[0],
    "slos": lambda m: m.services[0].slos[0],
    "probes": lambda m: m.services[0].probes[0],
    "alerts": lambda m: m.services[0].alerts[0],
}
# Where a value of the same kind would be none that a Model can have.
VALUES: dict[str, Any] = {
    "sli": Boolean(gauge="up"),
    "sla": ResolvedSla(Decimal("0.9"), "month", "availability"),
    "freeze": (Decimal("0.1"), "warning"),
    "burn": {},
    "exhausted": "warning",
    "runbook": Runbook(symptoms="none"),
    "scrape": None,
    "panels": (ResolvedPanel("checkout", "Uploads", ("up",), "number", "Metrics", "lines", None),),
    "processes": (
        ResolvedProcess(
            "checkout", "pay", "Pay", None, None, None, None, "low", False, "shop", None, (), None, "metrics", {}, None
        ),
    ),
    "runbooks": {"restart": Runbook(symptoms="none")},
    "severity": "info",
}
# Names are what two versions are matched by; a context is compared by the queries that come of it.
IDENTITY = {("slos", "context"), *((part, name) for part in PARTS for name in ("name", "service"))}


@pytest.mark.parametrize(
    ("part", "name"),
    [
        (part, field.name)
        for part, pick in PARTS.items()
        for field in dataclasses.fields(pick(resolved()))
        if (part, field.name) not in IDENTITY
    ],
)
def test_every_field_of_the_model_that_changes_is_told(part: str, name: str) -> None:
    old = resolved()
    value = VALUES.get(name) if name in VALUES else another(getattr(PARTS[part](old), name))
    changed = dataclasses.replace(PARTS[part](old), **{name: value})
    if part != "services":
        _, *rest = getattr(old.services[0], part)
        parts: dict[str, Any] = {part: (changed, *rest)}
        changed = dataclasses.replace(old.services[0], **parts)
    new = dataclasses.replace(old, services=(changed, *old.services[1:]))
    assert old != new
    kind = {"services": "service", "slos": "SLO", "probes": "probe", "alerts": "alert"}[part]
    own = {"slos": "SLO", "probes": "probe", "alerts": "alert", "processes": "process"}.get(name, kind)
    assert own in {change.kind for change in plan.compare(old, new)}


# --- how it is shown ---------------------------------------------------------------------------------------------------------


def a_plan(*changes: Change) -> plan.Plan:
    return plan.Plan("main", changes, (Difference("loki/generated/rules/fake/a.yaml", "missing"),))


def test_markdown_is_not_broken_by_what_a_label_says() -> None:
    text = a_plan(Change("changed", "SLO", "a|b", ("<script>", "`x` | *y* @everybody _z_"), loses=True)).markdown()
    row = next(line for line in text.splitlines() if "SLO" in line)
    assert row == ("| `~` | SLO a\\|b ⚠️ | &lt;script&gt;<br>\\`x\\` \\| \\*y\\* @\u200beverybody \\_z\\_ |")
    assert "- `loki/generated/rules/fake/a.yaml` (added)" in text
    assert text.startswith("### Plan: 1 changed; 1 rendered file differs\n")


def test_a_change_is_the_same_after_it_was_kept() -> None:
    for change in plan.compare(None, resolved(), (), render.everything(resolved())):
        assert Change.of(json.loads(json.dumps(change.as_json()))) == change


def test_first_everything_is_new() -> None:
    found = plan.compare(None, resolved(), (), render.everything(resolved()))
    assert {c.action for c in found} == {"added"}
    assert {c.kind for c in found} == {"service", "SLO", "alert", "probe", "receiver", "route", "hours", "dashboards"}


def test_dashboards_by_the_panels_that_come_and_go() -> None:
    new = SPEC.replace(
        "    slos:\n      availability:",
        "    panels:\n      Uploads: rate(uploads_total[{{window}}])\n    slos:\n      availability:",
    )
    assert new != SPEC
    found = plan.compare(resolved(), resolved(new), render.everything(resolved()), render.everything(resolved(new)))
    assert any(c.kind == "dashboard" and "Uploads" in " ".join(c.details) for c in found), said(found)


# --- what with: files and revisions ------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project in a git repository, below its top, with a spec of several files."""
    root = tmp_path / "repository" / "observability"
    (root / "services").mkdir(parents=True)
    (root / "compose.yaml").touch()
    (root / ".env").write_text("PROMETHEUS_PORT=1\n")
    parts = re.split(r"(?m)^(?=  payments:|routing:)", SPEC)
    (root / "slos.yaml").write_text("include: [services/*.yaml]\n" + parts[0] + parts[2])
    (root / "services" / "payments.yaml").write_text(
        "services:\n" + parts[1].replace("runbook: https://wiki.example.com/payments", "runbook: pay.md")
    )
    (root / "services" / "pay.md").write_text("# Pay\n\n## Symptoms\nNobody can pay.\n")
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    git(root.parent, "init", "--quiet", "--initial-branch=main")
    commit(root)
    monkeypatch.chdir(root)
    yield root


def git(place: Path, *words: str) -> None:
    settings = ("-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", str(place), *settings, *words], check=True, capture_output=True)  # noqa: S607


def commit(place: Path) -> None:
    git(place, "add", "--all", ".")
    git(place, "commit", "--quiet", "--message", "as it is")


def lgtm(*words: str) -> Result:
    return CliRunner().invoke(cli, list(words))


def test_against_a_revision_with_includes_and_a_runbook_in_a_file(project: Path) -> None:
    same = lgtm("plan", "--against", "main")
    assert (same.exit_code, same.stdout) == (0, "plan: no changes\n"), same.output
    path = project / "services" / "payments.yaml"
    path.write_text(path.read_text().replace("objective: 99.5%", "objective: 99.9%"))
    (project / "services" / "pay.md").write_text("# Pay\n\n## Symptoms\nNobody at all can pay.\n")
    found = lgtm("plan", "--against", "main", "--json", "--no-backtest")
    assert found.exit_code == 2, found.output
    data = json.loads(found.stdout)
    kinds = [(c["kind"], c["name"], c["details"][0]) for c in data["changes"]]
    assert ("service", "payments", "runbook changed: symptoms") in kinds
    assert ("SLO", "payments/taken", "objective 99.5% over 30d → 99.9% over 30d") in kinds
    assert "prometheus/generated/rules/service-payments.yaml" in [f["path"] for f in data["files"]]
    assert data["against"] == "main"
    commit(project)
    assert lgtm("plan", "--against", "HEAD").exit_code == 0
    assert lgtm("plan", "--against", "HEAD~1").exit_code == 2


def test_a_file_that_a_revision_does_not_have_is_all_new(project: Path) -> None:
    (project / "new.yaml").write_text(SPEC)
    found = lgtm("-f", "new.yaml", "plan", "--against", "main")
    assert found.exit_code == 2
    assert "Compared with main, which has no observability/new.yaml:" in found.stdout
    assert "+ SLO checkout/availability" in found.stdout


@pytest.mark.parametrize(
    ("against", "why"), [("nowhere", "Nothing to compare with"), ("--upload-pack=x", "Nothing to compare with")]
)
def test_a_revision_that_is_none_is_a_fault(project: Path, against: str, why: str) -> None:
    found = lgtm("plan", f"--against={against}")
    assert (found.exit_code, why in found.stderr) == (1, True), found.output


def test_a_revision_with_faults_is_named(project: Path) -> None:
    path = project / "slos.yaml"
    good = path.read_text()
    path.write_text(good.replace("objective: 99.9%", "objective: 100%"))
    commit(project)
    path.write_text(good)
    found = lgtm("plan", "--against", "main")
    assert found.exit_code == 1
    assert "main cannot be compared with: " in found.stderr
    assert "slos.yaml:15: an objective of 100%" in found.stderr


def test_against_files_laid_over_each_other(project: Path) -> None:
    (project / "base.yaml").write_text(SPEC)
    (project / "over.yaml").write_text("defaults: {owner: other}\n")
    assert lgtm("-f", "base.yaml", "plan", "--against", "base.yaml").exit_code == 0
    found = lgtm("-f", "base.yaml", "-f", "over.yaml", "plan", "--against", "base.yaml")
    assert found.exit_code == 2
    assert "owner shop → other" in found.stdout
    assert lgtm("-f", "base.yaml", "-f", "over.yaml", "plan", "--against", "base.yaml", "--against", "over.yaml").exit_code == 0
    assert lgtm("plan", "--against", "base.yaml", "--against", "gone.yaml").exit_code == 2  # usage


def test_without_a_history_everything_is_new_and_then_nothing_is(project: Path) -> None:
    found = lgtm("plan", "--markdown", "--no-backtest")
    assert found.exit_code == 2
    assert "Compared with nothing: no apply was made here yet." in found.stdout


def test_a_spec_with_faults_is_no_plan(project: Path) -> None:
    (project / "slos.yaml").write_text("version: 1\n")
    assert lgtm("plan").exit_code == 1


def test_no_prometheus_in_reach_is_a_note(project: Path) -> None:
    path = project / "slos.yaml"
    path.write_text(path.read_text().replace("objective: 99.9%", "objective: 99.95%"))
    found = lgtm("plan", "--against", "main")
    assert found.exit_code == 2
    assert "note: Not replayed on history: http://127.0.0.1:1 does not answer" in found.stdout


def test_what_was_applied_is_what_a_plan_compares_with(project: Path) -> None:
    from generator.project import Project

    found = resolved()
    artifacts = render.everything(found)
    snapshot = history.Snapshot({"slos.yaml": SPEC}, ("slos.yaml",))
    here = Project.load(project)
    facts: dict[str, Any] = {"secrets": [], "how": "apply", "summary": "", "changes": [], "changed": 1, "seconds": 1.0}
    history.keep(here, snapshot, artifacts, confirmed={}, **facts)
    base = plan.in_force(here)
    assert base.model == found
    assert plan.make(base, found, artifacts, [], snapshot.digest).empty
    # Another text with the same meaning is read, compared, and found to be the same.
    assert plan.make(base, found, artifacts, [], "another").empty
    broken = history.Snapshot({"slos.yaml": "version: 7\n"}, ("slos.yaml",))
    history.keep(here, broken, artifacts, confirmed={}, **facts)
    base = plan.in_force(here)
    assert base.model is None
    assert "cannot be read by this version" in str(base.note)


def test_an_error_is_a_sentence_for_users(project: Path) -> None:
    with pytest.raises(LgtmError, match="Nothing to compare with") as raised:
        plan.of_revision("none", [project / "slos.yaml"], {})
    assert raised.value.hint
