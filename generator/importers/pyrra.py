"""Pyrra's ServiceLevelObjective, pyrra.dev/v1alpha1, with all four kinds of indicator.

The fields are those of https://github.com/pyrra-dev/pyrra. Pyrra has no services, so they are read off what there is.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal

from generator import promql
from generator.importers import queries
from generator.importers.documents import Documents, Fault, Node
from generator.importers.fields import duration, promql_fault
from generator.importers.queries import Carried, NotCarried
from generator.importers.writer import Condition, Draft, Policy, Slo, is_name
from generator.units import Duration, plain

NAME = "Pyrra"

_PREFIX = "pyrra.dev/"
# What names a service on Kubernetes objects, the plainest first.
_SERVICE_LABELS = (f"{_PREFIX}service", "app.kubernetes.io/name", "app")
# For a window of 28 days: long, short, factor, severity. Pyrra scales the windows with the SLO's own.
_TIERS = (
    ("fastBurn", "1h", "5m", 14, "critical"),
    ("mediumBurn", "6h", "30m", 7, "critical"),
    ("slowBurn", "1d", "2h", 2, "warning"),
    ("longTermBurn", "4d", "6h", 1, "warning"),
)
_SEVERITIES = {"critical": "critical", "page": "critical", "warning": "warning", "ticket": "warning"}
_KINDS = ("ratio", "latency", "latencyNative", "bool_gauge")
_SHORTEST = Duration.of("2m")


def convert(documents: Documents, draft: Draft, period: Duration) -> None:
    """Gather what Pyrra's objects say. Every one names its window, so ``period`` is not used."""
    for root in documents.roots:
        try:
            _objective(root, draft)
        except Fault:
            continue


def _objective(root: Node, draft: Draft) -> None:
    version = root.find("apiVersion")
    if version is None:
        raise root.fault("missing-key", "this is no object of Pyrra's: it needs 'apiVersion'", "apiVersion: pyrra.dev/v1alpha1")
    if not version.text().startswith(_PREFIX):
        kind = root.find("kind")
        draft.lose(None, root.span, kind.text() if kind else "document", "it is no object of Pyrra's")
        return
    version.one_of("pyrra.dev/v1alpha1")
    root.need("kind").one_of("ServiceLevelObjective")
    metadata, spec = root.need("metadata"), root.need("spec")
    name = metadata.need("name").text()
    labels_node = metadata.find("labels")
    labels = labels_node.pairs() if labels_node else {}
    notes: list[str] = []
    changes: list[str] = []
    for node in (
        *root.others("apiVersion", "kind", "metadata", "spec", "status"),
        *spec.others(
            "description",
            "target",
            "window",
            "indicator",
            "alerting",
            "partial_response_strategy",
            "performanceOverAccuracy",
            "ruleOutput",
        ),
    ):
        changes.append(f"{node.name!r} is no field of Pyrra's; it is left out")
    target_node, window_node = spec.need("target"), spec.need("window")
    target, window = target_node.number(), duration(window_node)
    if not 0 <= target <= 100:
        raise target_node.fault("out-of-range", f"a target is from 0 to 100, not {plain(target)}")
    if 0 < target < 1:
        changes.append(f"Pyrra reads its target as {plain(target)}%; was {plain(target * 100)}% meant?")
    indicator = spec.need("indicator")
    service_name, why = _service(indicator, metadata, labels, name)
    service = draft.service(service_name, root.span)
    if why not in service.notes:
        service.notes.append(why)
    owner = next((labels[f"{_PREFIX}{key}"] for key in ("owner", "team") if is_name(labels.get(f"{_PREFIX}{key}", ""))), None)
    if service.owner is None and not service.slos:
        service.owner = owner
    propagated = {
        key.removeprefix(_PREFIX): value
        for key, value in labels.items()
        if key.startswith(_PREFIX) and key not in (f"{_PREFIX}team", f"{_PREFIX}owner", f"{_PREFIX}service")
    }
    description = spec.find("description")
    slo = Slo(
        name=name,
        where=root.span,
        objective=target / 100,
        window=window,
        carried=Carried({}),
        policy=_policy(spec.find("alerting"), window, changes, notes),
        description=description.text() if description and str(description.data).strip() else None,
        owner=owner if owner != service.owner else None,
        labels=propagated,
        notes=notes,
        changes=changes,
    )
    try:
        slo.carried = _indicator(indicator)
    except NotCarried as reason:
        draft.lose(service, slo.where, f"{service.name}/{name}", str(reason))
        return
    draft.add(service, slo)


def _indicator(node: Node) -> Carried:
    kinds = [kind for kind in _KINDS if node.find(kind)]
    if len(kinds) != 1:
        if kinds:
            raise node.fault("one-of", f"an indicator is of one kind, not {' and '.join(kinds)}", on_key=True)
        raise node.fault("missing-key", "an indicator needs ratio, latency, latencyNative or bool_gauge", on_key=True)
    kind = node.need(kinds[0])
    grouping = kind.find("grouping")
    by = [label.text() for label in grouping.items()] if grouping else []
    match kinds[0]:
        case "ratio":
            errors, total = _metric(kind.need("errors")), _metric(kind.need("total"))
            return queries.from_metrics(errors, total, by, good=False)
        case "latency":
            fast, total = _metric(kind.need("success")), _metric(kind.need("total"))
            return queries.from_metrics(fast, total, by, good=True)
        case "latencyNative":
            total, limit = _metric(kind.need("total")), duration(kind.need("latency"))
            return queries.from_native(total, limit, by)
        case _:
            return queries.from_gauge(_metric(kind), by)


def _metric(node: Node) -> str:
    """A plain selector, checked where it stands."""
    metric = node.need("metric")
    text = metric.text()
    try:
        if queries.metric(text) is None:
            raise metric.fault("not-a-metric", "Pyrra takes a metric with its labels here, not an expression")
    except promql.PromqlError as error:
        raise promql_fault(metric, error) from None
    return text


def _service(indicator: Node, metadata: Node, labels: Mapping[str, str], name: str) -> tuple[str, str]:
    """The service of an SLO, and a sentence on where it was read."""
    for key in _SERVICE_LABELS:
        if key in labels:
            return labels[key], f"Pyrra has no services: this one is the label {key}"
    jobs = set()
    for kind in _KINDS:
        node = indicator.find(kind)
        if node is None:
            continue
        for part in (node, *(node.at(key) for key in ("errors", "success", "total"))):
            data = part.data if isinstance(part.data, dict) else {}
            text = data.get("metric")
            try:
                found = queries.metric(text) if isinstance(text, str) else None
            except promql.PromqlError:
                continue  # told where the indicator is read
            jobs |= {value for label, operator, value in (found[1] if found else ()) if (label, operator) == ("job", "=")}
    if len(jobs) == 1:
        return jobs.pop(), "Pyrra has no services: this one is the job in its queries"
    namespace = metadata.find("namespace")
    if namespace is not None:
        return namespace.text(), "Pyrra has no services: this one is a namespace"
    return name, "Pyrra has no services: this one is called as its SLO"


def _policy(alerting: Node | None, window: Duration, changes: list[str], notes: list[str]) -> Policy:
    def flag(key: str, default: bool) -> bool:
        node = alerting.find(key) if alerting else None
        return node.flag() if node else default

    def text(key: str) -> str | None:
        node = alerting.find(key) if alerting else None
        return node.text() if node else None

    if not flag("absent", True):
        changes.append("it had no alert on absent metrics; here SLONoData fires when there are none")
    if flag("disabled", False) or not flag("burnrates", True):
        return Policy("none")
    if name := text("name"):
        notes.append(f"its alert was {name}; now it is SLOBurnRateCritical or SLOBurnRateWarning")
    if name := text("absentName"):
        notes.append(f"its alert on absent metrics was {name}; now it is SLONoData")
    severities = alerting.find("severities") if alerting else None
    tiers: dict[str, list[Condition]] = {"critical": [], "warning": []}
    if severities and (absent := severities.find("absent")) and absent.text() != "critical":
        changes.append(f"the severity of its alert on absent metrics was {absent.text()!r}")
    lengthened = False
    for key, long, short, factor, default in _TIERS:
        said = node.text() if severities and (node := severities.find(key)) else default
        severity = _SEVERITIES.get(said.lower(), default)
        if severity != said:
            changes.append(f"the severity of its {key} alert was {said!r}; here it is {severity!r}")
        small = _scaled(short, window)
        lengthened = lengthened or small < _SHORTEST
        condition = Condition(_scaled(long, window), max(small, _SHORTEST), factor=Decimal(factor))
        if condition.long > condition.short:
            tiers[severity].append(condition)
        else:
            changes.append(f"the {key} alert over {condition.long} is left out: windows here are of 2m and longer")
    if lengthened:
        changes.append("its shortest window was below 2m, which is the shortest here")
    return Policy(f"pyrra-{window}", tuple(tiers["critical"]), tuple(tiers["warning"]))


def _scaled(of_28_days: str, window: Duration) -> Duration:
    """A window in proportion to the SLO's own, in whole minutes as Pyrra rounds them."""
    minutes = Duration.of(of_28_days).seconds * window.seconds / (28 * 86400) / 60
    return Duration(minutes.quantize(Decimal(1), ROUND_HALF_UP) * 60)
