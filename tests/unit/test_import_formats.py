"""Whole files of Sloth, OpenSLO and Pyrra: what comes over, what is told, and that the result is valid."""

from __future__ import annotations

import io
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from generator import importers, model, source
from generator.importers import sloth, writer
from generator.importers.documents import Documents
from generator.importers.queries import Carried
from generator.units import Duration

SAMPLES = Path(__file__).parent / "imports"
PERIOD = Duration.of("30d")


def imported(style: str, *names: str) -> importers.Imported:
    return importers.read(style, [str(SAMPLES / name) for name in names], "30d", io.BytesIO())


def said(style: str, text: str) -> importers.Imported:
    documents = Documents()
    documents.add(text, "their.yaml")
    return importers.convert(documents, style, PERIOD)


def data(result: importers.Imported) -> dict[str, Any]:
    """The written file as data, after the product's own check."""
    assert result.diagnostics == []
    assert result.text is not None
    checked = model.resolve(source.read_text(result.text, "ours.yaml"))
    assert checked.model is not None, checked.diagnostics
    found: dict[str, Any] = yaml.safe_load(result.text)
    return found


def slos(result: importers.Imported) -> dict[str, Any]:
    return {f"{s}/{o}": slo for s, service in data(result)["services"].items() for o, slo in service.get("slos", {}).items()}


def texts(findings: tuple[writer.Finding, ...]) -> str:
    return "\n".join(f"{f.about}: {f.text}" for f in findings)


@pytest.mark.parametrize(
    ("style", "name"),
    [
        ("sloth", "sloth.yml"),
        ("sloth", "sloth-kubernetes.yml"),
        ("sloth", "openslo-v1alpha.yaml"),
        ("openslo", "openslo.yaml"),
        ("openslo", "openslo-v1alpha.yaml"),
        ("pyrra", "pyrra.yaml"),
    ],
)
def test_every_sample_becomes_valid_and_tells_its_changes(style: str, name: str) -> None:
    result = imported(style, name)
    assert len(slos(result)) == result.slos > 0
    assert result.text is not None
    comments = " ".join(line.strip().removeprefix("#").strip() for line in result.text.splitlines() if line.strip()[:1] == "#")
    for finding in result.changed:
        assert " ".join(finding.text.split()) in comments
        assert finding.span.file.endswith(name)
    assert ("NOT CARRIED OVER" in comments) is bool(result.lost)


def test_sloth() -> None:
    result = imported("sloth", "sloth.yml")
    found = data(result)
    assert found["defaults"] == {"window": "30d", "minimum_events": 0, "labels": {"cluster": "north"}}
    shop = found["services"]["shop"]
    assert (shop["owner"], shop["tier"], shop["match"]) == ("checkout", "high", {})
    assert shop["slos"]["answers"] == {
        "description": "Requests do not fail.",
        "objective": "99.9%",
        "sli": {"ratio": {"errors": 'shop_requests_total{code=~"5.."}', "total": "shop_requests_total"}},
        "runbook": {"url": "https://wiki.example.com/shop", "symptoms": "Buyers see errors"},
    }
    assert shop["slos"]["fast"]["sli"] == {"latency": {"histogram": "shop_request_duration_seconds", "under": "250ms"}}
    assert shop["slos"]["stocked"]["sli"] == {"boolean": "shop_shelf_full"}
    assert shop["slos"]["stocked"]["alerting"] == "none"
    assert shop["slos"]["sums"]["by"] == ["region"]
    assert set(found["alerting"]["page-only"]) == {"critical"}
    # 14.4 times a budget of 10 % would be more errors than there are events
    assert [w["long"] for w in found["alerting"][shop["slos"]["sums"]["alerting"]]["critical"]] == ["6h"]
    assert "severity of its page was 'phone'" in texts(result.changed)
    assert "pager=checkout-duty" in texts(result.changed)
    assert result.lost == ()


def test_sloth_on_kubernetes() -> None:
    result = imported("sloth", "sloth-kubernetes.yml")
    found = data(result)
    cart = found["services"]["cart"]["slos"]
    assert cart["proxied"]["sli"]["latency"]["under"] == "300ms"
    matchers = 'method="GET",service=~"cart@.*",code!~"5.."'
    assert cart["proxied"]["sli"]["latency"]["histogram"] == f"traefik_service_request_duration_seconds{{{matchers}}}"
    assert found["defaults"]["window"] == "7d"
    policy = found["alerting"][found["defaults"]["alerting"]]
    assert policy["freeze"] == {"below": "5%", "severity": "info"}
    assert policy["critical"][1] == {"long": "6h", "short": "30m", "budget": "12.5%"}
    assert {f.about for f in result.lost} == {"mail/delivered", "mail/perfect"}
    assert [f.span.line for f in result.lost] == [37, 44]


def test_plugins_that_change_rules_are_told_as_lost() -> None:
    text = """
version: prometheus/v1
service: s
slo_plugins: {chain: [{id: mine/v1}, {id: mine/v1, priority: 3}]}
slos:
  - name: a
    objective: 99
    sli: {events: {error_query: "sum(rate(e[{{.window}}]))", total_query: "sum(rate(t[{{.window}}]))"}}
    alerting: {name: A}
"""
    result = said("sloth", text)
    assert list(slos(result)) == ["s/a"]
    assert len(result.lost) == 1
    assert "mine/v1" in result.lost[0].text


@pytest.mark.parametrize(
    ("config", "policy"),
    [
        ("{}", {"exhausted": "warning"}),
        ("{threshold: 0, alert_labels: {severity: critical}}", {"exhausted": "critical"}),
        ("{threshold: 0.125, alert_labels: {severity: loud}}", {"freeze": {"below": "12.5%", "severity": "warning"}}),
    ],
)
def test_the_plugin_for_spent_budgets_becomes_a_policy(config: str, policy: dict[str, Any]) -> None:
    text = f"""
version: prometheus/v1
service: s
slos:
  - name: a
    objective: 99
    plugins: {{chain: [{{id: sloth.dev/contrib/error_budget_exhausted_alert/v1, config: {config}}}]}}
    sli: {{raw: {{error_ratio_query: "1 - avg_over_time(up[{{{{.window}}}}])"}}}}
    alerting: {{name: A, page_alert: {{disable: true}}}}
"""
    result = said("sloth", text)
    found = data(result)
    (written,) = found["alerting"].values()
    assert {k: v for k, v in written.items() if k not in ("critical", "warning")} == policy
    assert "critical" not in written
    assert ("loud" in config) is ("'loud'" in texts(result.changed))


def test_every_common_plugin_makes_a_valid_sli() -> None:
    options = (
        "{bucket: '0.3', filter: 'a=\"b\"', service: s, namespace: n, controller: c, backend_regex: b, service_name_regex: r}"
    )
    names = [*sloth._COMMON, "prometheus/targets/availability", "kubernetes/kooper/availability"]
    entries = "\n".join(
        f"  - {{name: n{i}, objective: 99, sli: {{plugin: {{id: sloth-common/{name}, options: {options}}}}}}}"
        for i, name in enumerate(names)
    )
    result = said("sloth", f"version: prometheus/v1\nservice: s\nslos:\n{entries}\n")
    assert result.lost == ()
    assert len(slos(result)) == len(names) == 19
    assert all('a="b"' in str(slo["sli"]) for slo in slos(result).values())


def test_openslo() -> None:
    result = imported("openslo", "openslo.yaml")
    found = data(result)
    site = found["services"]["site"]
    assert (site["title"], site["description"]) == ("The site", "What visitors see.")
    pages = site["slos"]["pages"]
    assert pages["sli"] == {"ratio": {"good": 'site_requests_total{code!~"5.."}', "total": "site_requests_total"}}
    assert (pages["objective"], pages["window"], pages["owner"], pages["alerting"]) == ("99.5%", "28d", "web", "burning")
    assert found["alerting"]["burning"] == {"critical": [{"long": "2h", "short": "10m", "factor": 10}]}
    assert set(site["slos"]) == {"pages", "minutes-most-minutes", "minutes-nearly-all-minutes"}
    assert site["slos"]["minutes-nearly-all-minutes"]["sli"]["threshold"]["above"] == "50%"
    assert "[5m]" in site["slos"]["minutes-nearly-all-minutes"]["sli"]["threshold"]["expr"]
    assert found["services"]["jobs"]["slos"]["queue"]["sli"] == {"threshold": {"expr": "max(job_queue_length)", "above": 100}}
    assert found["defaults"]["alerting"] == "none"
    assert "rolled" in texts(result.changed) or "roll" in texts(result.changed)
    assert {f.about for f in result.lost} == {"jobs/billed", "target duty"}
    # what a data source connects with is nobody's business
    assert "hunter22" not in str(result.text) + texts(result.changed) + texts(result.lost)


def test_openslo_across_files_in_any_order(tmp_path: Path) -> None:
    documents = (SAMPLES / "openslo.yaml").read_text().split("\n---\n")
    for index, document in enumerate(reversed(documents)):
        (tmp_path / f"{index}.yaml").write_text(document)
    files = [str(tmp_path / f"{index}.yaml") for index in range(len(documents))]
    result = importers.read("openslo", files, "30d", io.BytesIO())
    assert slos(result).keys() == slos(imported("openslo", "openslo.yaml")).keys()


def test_openslo_v1alpha() -> None:
    found = slos(imported("openslo", "openslo-v1alpha.yaml"))
    assert found["api/quick-good"]["sli"] == {"latency": {"histogram": "api_latency_seconds", "under": "500ms"}}
    assert found["api/quick-never-dreadful"]["objective"] == "99.9%"
    assert found.keys() == slos(imported("sloth", "openslo-v1alpha.yaml")).keys()


@pytest.mark.parametrize(
    ("span", "ours", "word"),
    [("1Q", "90d", "1Q"), ("1Y", "90d", "365d"), ("12h", "1d", "12h"), ("2w", "14d", "")],
)
def test_openslo_windows(span: str, ours: str, word: str) -> None:
    text = f"""
apiVersion: openslo/v1
kind: SLO
metadata: {{name: a}}
spec:
  service: s
  indicator:
    spec: {{ratioMetric: {{rawType: success, raw: {{metricSource: {{type: Prometheus, spec: {{query: share}}}}}}}}}}
  timeWindow: [{{duration: {span}, isRolling: true}}]
  budgetingMethod: Occurrences
  objectives: [{{target: 0.9}}]
"""
    result = said("openslo", text)
    assert data(result)["defaults"]["window"] == ours
    assert word in texts(result.changed)
    assert slos(result)["s/a"]["sli"] == {"raw": {"error_ratio": "1 - (share)"}}


def test_pyrra() -> None:
    result = imported("pyrra", "pyrra.yaml")
    found = data(result)
    assert set(found["services"]) == {"orders", "shops", "probes"}
    orders = found["services"]["orders"]
    assert orders["owner"] == "orders"
    assert "match" not in orders
    assert orders["slos"]["orders-errors"] == {
        "description": "Orders go through.",
        "objective": "99.5%",
        "sli": {"ratio": {"errors": 'orders_total{job="orders",result="failed"}', "total": 'orders_total{job="orders"}'}},
        "by": ["country"],
    }
    assert orders["slos"]["orders-latency"]["sli"]["latency"]["under"] == "1s"
    grpc = found["services"]["shops"]["slos"]["grpc"]
    assert grpc["by"] == ["exported_service"]
    assert "histogram_fraction(-Inf, 0.2," in grpc["sli"]["raw"]["errors"]
    assert found["services"]["probes"]["slos"]["probes"]["alerting"] == "none"
    assert found["services"]["probes"]["match"] == {}
    assert "'chat'" in texts(result.changed)
    # Pyrra's own windows for 28 days, and half of them for 14
    assert [w["factor"] for w in found["alerting"]["pyrra-28d"]["critical"]] == [14, 7]
    assert found["alerting"]["pyrra-14d"]["critical"][0] == {"long": "30m", "short": "3m", "factor": 14}


def test_the_standard_policy_is_the_models_own() -> None:
    built_in = model.BUILT_IN_POLICIES["standard"]
    ours = writer.standard()
    assert [(c.long, c.short, c.budget) for c in ours.critical] == [(w.long, w.short, w.budget) for w in built_in.critical]
    assert writer._Policies().name(ours) == "standard"
    assert writer._Policies().name(writer.standard(critical=False, warning=False)) == "none"


def test_policies_of_one_content_are_written_once() -> None:
    policies = writer._Policies()
    hour, minutes = Duration.of("1h"), Duration.of("5m")
    first = writer.Policy("a", (writer.Condition(hour, minutes, factor=Decimal(3)),))
    other = writer.Policy("a", (writer.Condition(hour, minutes, factor=Decimal(4)),))
    same = writer.Policy("b", (writer.Condition(hour, minutes, factor=Decimal(3)),))
    assert [policies.name(p) for p in (first, other, same)] == ["a", "a-2", "a"]


def test_what_the_product_refuses_is_left_out_and_told() -> None:
    draft = writer.Draft("X")
    documents = Documents()
    documents.add("a: 1", "f")
    service = draft.service("s", documents.roots[0].span)
    for name, sli in (("good", {"boolean": "up"}), ("bad", {"ratio": {"errors": "rate(x[5m])", "total": "x"}})):
        carried = Carried(sli)
        draft.add(service, writer.Slo(name, documents.roots[0].span, Decimal("0.99"), PERIOD, carried, writer.standard()))
    text = writer.write(draft)
    assert text is not None
    assert text.slos == 1
    assert [f.about for f in text.lost] == ["s/bad"]
    assert "NOT CARRIED OVER: bad" in text.text


def test_hard_text_stays_what_it_was() -> None:
    hard = "yes: \"quoted\" \\ {brace} #hash 'single' " + "long words " * 30
    text = yaml.safe_dump(
        {
            "version": "prometheus/v1",
            "service": "on",
            "slos": [
                {
                    "name": name,
                    "objective": 99,
                    "description": description,
                    "sli": {"events": {"error_query": "sum(rate(e[{{.window}}]))", "total_query": "sum(rate(t[{{.window}}]))"}},
                    "alerting": {"name": "A"},
                }
                for name, description in (
                    ("1", hard),
                    ("null", "two\nlines: here\n"),
                    ("1e3", "0.10"),
                    ("a b", "é 😀"),
                    ("- d", "2026-01-01"),
                )
            ],
        },
        allow_unicode=True,
    ).replace("name: 1e3", "name: 1e3  # a number to some")
    found = data(said("sloth", text))["services"]["on"]["slos"]
    assert list(found) == ["1", "null", "1e3", "a-b", "d"]
    assert [slo["description"] for slo in found.values()] == [hard.strip(), "two\nlines: here", "0.10", "é 😀", "2026-01-01"]


@pytest.mark.parametrize(
    ("style", "text", "code", "line", "column"),
    [
        ("sloth", "version: prometheus/v9\n", "unknown-value", 1, 10),
        ("sloth", "service: s\n", "missing-key", 1, 1),
        ("sloth", "version: prometheus/v1\nservice: s\nslos: {}\n", "wrong-type", 3, 7),
        ("sloth", "version: prometheus/v1\nservice: s\nslos:\n- name: a\n  objective: 101\n", "out-of-range", 5, 14),
        (
            "sloth",
            "version: prometheus/v1\nservice: s\nslos:\n- name: a\n  objective: 99\n  sli:\n    raw:\n"
            "      error_ratio_query: |\n        sum(\n          rate(x[{{.window}}]\n        ) / sun(y)\n",
            "promql-syntax",
            9,
            12,
        ),
        ("openslo", "a: 1\n---\n# only a comment\n---\napiVersion: openslo/v3\nkind: SLO\n", "unknown-value", 5, 13),
        ("openslo", "- apiVersion: openslo/v1\n  kind: Slo\n  metadata: {name: [a]}\n", "wrong-type", 3, 20),
        ("openslo", "a: [1\n", "yaml-syntax", 1, 4),
        ("openslo", "apiVersion: openslo/v1\n---\na: [}\n", "yaml-syntax", 3, 5),
        ("pyrra", "apiVersion: pyrra.dev/v1alpha1\nkind: ServiceLevelObjective\nmetadata: {}\nspec: {}\n", "missing-key", 3, 1),
        (
            "pyrra",
            "apiVersion: pyrra.dev/v1alpha1\nkind: ServiceLevelObjective\nmetadata: {name: a}\n"
            "spec: {target: '99', window: 4w, indicator: {bool_gauge: {metric: 'sum(up)'}}}\n",
            "not-a-metric",
            4,
            67,
        ),
        (
            "pyrra",
            "apiVersion: pyrra.dev/v1alpha1\nkind: ServiceLevelObjective\nmetadata: {name: a}\n"
            "spec: {target: '99', window: a month, indicator: {}}\n",
            "bad-duration",
            4,
            30,
        ),
        ("pyrra", "# nothing\n", "empty-file", 1, 1),
    ],
)
def test_faults_have_a_place(style: str, text: str, code: str, line: int, column: int) -> None:
    result = said(style, text)
    assert result.text is None
    assert (code, line, column) in [(d.code, d.span.line, d.span.column) for d in result.diagnostics]


def test_other_objects_are_told_and_do_no_harm() -> None:
    text = "apiVersion: v1\nkind: Service\nmetadata: {name: x}\n---\n" + (SAMPLES / "pyrra.yaml").read_text()
    result = said("pyrra", text)
    assert result.slos == 4
    assert [f.about for f in result.lost] == ["Service"]


def test_broken_files_end_in_an_answer() -> None:
    """Each line left out, doubled or cut short: a result or diagnostics, and what is written is valid."""
    for style, name in (("sloth", "sloth-kubernetes.yml"), ("openslo", "openslo.yaml"), ("pyrra", "pyrra.yaml")):
        lines = (SAMPLES / name).read_text().splitlines()
        for index in range(0, len(lines), 3):
            line = lines[index]
            for replacement in ([], [line, line], [line[: len(line) // 2]], [line.partition(":")[0] + ": [1e99, null]"]):
                result = said(style, "\n".join([*lines[:index], *replacement, *lines[index + 1 :]]))
                assert result.diagnostics or result.lost or result.text
                if result.text:
                    assert model.resolve(source.read_text(result.text, "ours.yaml")).model is not None
