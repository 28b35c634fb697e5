"""OpenSLO: v1alpha and v1, and the draft of v2alpha; all kinds of object, in any order and over several files.

The fields are those of https://github.com/OpenSLO/OpenSLO. What a query of another data source than Prometheus measures
cannot be known, so such an SLO is told as lost.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from generator.importers import queries
from generator.importers.documents import Documents, Fault, Node
from generator.importers.fields import duration, query, seconds
from generator.importers.queries import Carried, NotCarried, Query
from generator.importers.writer import Condition, Draft, Policy, Service, Slo, tidy
from generator.units import Duration, percent, plain

NAME = "OpenSLO"

_VERSIONS = ("openslo/v1alpha", "openslo/v1", "openslo.com/v2alpha")
_KINDS = ("SLO", "SLI", "Service", "DataSource", "AlertPolicy", "AlertCondition", "AlertNotificationTarget")
# Servers that speak PromQL.
_PROMETHEUS = re.compile(r"prom|thanos|cortex|mimir|victoria|sloth|amp\Z|gmp\Z", re.IGNORECASE)
_UNITS = {
    "second": 1,
    "minute": 60,
    "hour": 3600,
    "day": 86400,
    "week": 604800,
    "month": 2592000,
    "quarter": 7776000,
    "year": 31536000,
}
_PAGE = re.compile(r"page|crit|emerg|high|fatal|sev-?[01]|p[01]\Z", re.IGNORECASE)


@dataclass
class _Objects:
    """The objects by kind and name, and the data sources that were asked for but are not among them."""

    named: dict[tuple[str, str], Node]
    draft: Draft
    used: set[tuple[str, str]]

    def get(self, kind: str, name: str) -> Node | None:
        self.used.add((kind, name))
        return self.named.get((kind, name))


def convert(documents: Documents, draft: Draft, period: Duration) -> None:
    """Gather what OpenSLO's documents say. ``period`` is the window of SLOs that name none."""
    objects(documents.roots, draft, documents, period)


def objects(roots: Sequence[Node], draft: Draft, documents: Documents, period: Duration | None = None) -> None:
    """Gather what some objects say."""
    found = _Objects({}, draft, set())
    slos: list[Node] = []
    for root in roots:
        try:
            version = root.find("apiVersion")
            if version is None:
                raise root.fault(
                    "missing-key", "this is no object of OpenSLO's: it needs 'apiVersion'", "apiVersion: openslo/v1"
                )
            if not version.text().startswith("openslo"):
                draft.lose(None, root.span, _title(root), "it is no object of OpenSLO's")
                continue
            version.one_of(*_VERSIONS)
            kind = root.need("kind").one_of(*_KINDS)
            name = root.need("metadata").need("name").text()
            if kind == "SLO":
                slos.append(root)
            elif (kind, name) in found.named and kind != "Service":
                raise root.at("metadata").at("name").fault("duplicate-key", f"there are two {kind} objects called {name!r}")
            else:
                found.named[kind, name] = root
        except Fault:
            continue
    for root in slos:
        try:
            _slo(root, found, draft, period or Duration.of("30d"))
        except Fault:
            continue
    for (kind, name), node in found.named.items():
        if kind == "Service":
            _service(name, node, found, draft)
        elif (kind, name) not in found.used:
            draft.change(node.span, f"{kind} {name}", "no SLO of these files uses it, so it is left out")


def _title(node: Node) -> str:
    kind = node.find("kind")
    return kind.text() if kind else "document"


def _service(name: str, where: Node, found: _Objects, draft: Draft) -> Service:
    service = draft.service(name, where.span)
    node = found.named.get(("Service", name))
    if node is not None and service.title is None and service.description is None:
        try:
            service.title = _display(node)
            spec = node.find("spec")
            description = spec.find("description") if spec else None
            service.description = description.text() if description else None
            service.owner = _owner(node)
        except Fault:
            pass  # it is among the diagnostics
    return service


def _display(node: Node) -> str | None:
    metadata = node.find("metadata")
    display = metadata.find("displayName") if metadata else None
    return display.text() if display else None


def _owner(node: Node) -> str | None:
    """Who is paged, when a label says it: one team, or the first of several."""
    metadata = node.find("metadata")
    labels = metadata.find("labels") if metadata else None
    for key in ("owner", "team"):
        value = labels.find(key) if labels else None
        if value is not None:
            teams = value.items() if isinstance(value.data, list) else [value]
            if teams:
                return tidy(teams[0].text())
    return None


def _slo(root: Node, found: _Objects, draft: Draft, period: Duration) -> None:
    metadata, spec = root.need("metadata"), root.need("spec")
    name = metadata.need("name").text()
    named = spec.need("service", "serviceRef")
    service = _service(named.text(), named, found, draft)
    about = f"{service.name}/{name}"
    title, description = _display(root), spec.find("description")
    changes: list[str] = []
    window = _window(spec, changes, period)
    method_node = spec.find("budgetingMethod")
    method = method_node.one_of("Occurrences", "Timeslices", "RatioTimeslices") if method_node else "Occurrences"
    policy, notes = _policy(spec, found, draft, service, about, changes)
    objectives = spec.need("objectives").items()
    if not objectives:
        raise spec.at("objectives").fault("empty-list", "at least one objective is needed")
    owner = _owner(root)
    names = _names(name, objectives)
    composite = len(objectives) > 1 and any(o.find("indicator", "indicatorRef", "sli", "sliRef") for o in objectives)
    if composite:
        draft.lose(service, root.span, about, "the composite of its objectives: each is an SLO of its own here")
    for own, objective in zip(names, objectives, strict=True):
        try:
            target = _target(objective)
            display = objective.find("displayName")
            extra = None if len(objectives) == 1 else display.text() if display else percent(target)
            slo = Slo(
                name=own,
                where=objective.span if len(objectives) > 1 else root.span,
                objective=target,
                window=window,
                carried=Carried({}),
                policy=policy,
                title=f"{title or name}: {extra}" if extra else title,
                description=description.text() if description else None,
                owner=owner if owner != service.owner else None,
                notes=list(notes),
                changes=list(changes),
            )
            try:
                slo.carried = _carried(spec, objective, method, found, slo.changes)
            except NotCarried as reason:
                draft.lose(service, slo.where, f"{service.name}/{own}", str(reason))
                continue
            draft.add(service, slo)
        except Fault:
            continue


def _names(name: str, objectives: Sequence[Node]) -> list[str]:
    """One objective has the SLO's name; several have their own added."""
    if len(objectives) == 1:
        return [name]
    out = []
    for index, objective in enumerate(objectives):
        display = objective.find("displayName")
        word = re.sub(r"[^a-z0-9]+", "-", display.text().lower()).strip("-")[:30] if display else ""
        out.append(f"{name}-{word or index}")
    return out


def _target(objective: Node) -> Decimal:
    target, by_hundred = objective.find("target"), objective.find("targetPercent")
    if (target is None) == (by_hundred is None):
        raise objective.fault("one-of", "an objective needs either target or targetPercent, and not both")
    if target is not None:
        value = target.number()
        if not 0 <= value <= 1:
            raise target.fault(
                "out-of-range", f"a target is from 0 to 1, not {plain(value)}", "targetPercent: 99.9 is target: 0.999"
            )
        return value
    assert by_hundred is not None  # noqa: S101 - one of the two is there
    value = by_hundred.number()
    if not 0 <= value <= 100:
        raise by_hundred.fault("out-of-range", f"a targetPercent is from 0 to 100, not {plain(value)}")
    return value / 100


def _window(spec: Node, changes: list[str], period: Duration) -> Duration:
    node = spec.find("timeWindow", "timeWindows")
    if node is None:
        return period
    entries = node.items() if isinstance(node.data, list) else [node]
    if not entries:
        return period
    if len(entries) > 1:
        raise entries[1].fault("one-of", "an SLO has one time window", "make two SLOs")
    entry = entries[0]
    rolling = entry.find("isRolling")
    if (unit := entry.find("unit")) is not None:
        word = unit.text().lower().rstrip("s")
        if word not in _UNITS:
            unit.one_of(*(known.capitalize() for known in _UNITS))
        count = entry.need("count").number()
        found, text = seconds(entry.at("count"), count * _UNITS[word]), f"{plain(count)} {word}{'' if count == 1 else 's'}"
    else:
        found, text = duration(entry.need("duration")), entry.need("duration").text()
    if text[-1:] in "MQY" or text.rstrip("s").endswith(("month", "quarter", "year")):
        changes.append(f"its window {text} is {found} here")
    if (rolling is not None and not rolling.flag()) or (rolling is None and entry.find("calendar")):
        changes.append(f"its window began anew by the calendar; here {found} roll")
    return found


# What is measured.


def _carried(spec: Node, objective: Node, method: str, found: _Objects, changes: list[str]) -> Carried:
    sli = _indicator(objective, found) or _indicator(spec, found)
    ratio = objective.find("ratioMetrics") or (sli.find("ratioMetric", "ratioMetrics") if sli else None)
    limit = sli.find("thresholdMetric") if sli else None
    if ratio is not None:
        return _ratio(ratio, objective, method, found, changes)
    if limit is None:
        raise objective.fault("missing-key", "neither a ratio nor a threshold says what is measured", on_key=True)
    asked = _query(limit, found, changes)
    said, value = objective.find("op"), objective.find("value")
    if said is None or value is None:
        raise NotCarried("its metric is a value, and no op and value say when that is good")
    carried = queries.from_threshold(asked, said.one_of("lte", "gte", "lt", "gt"), value.number())
    slice_target = objective.find("timeSliceTarget")
    if method == "Occurrences":
        changes.append("each value, looked at every 30s, is an event")
    elif slice_target is not None and slice_target.number() != 1 and method == "Timeslices":
        changes.append(f"a slice is one moment, every 30s; it was good when {plain(slice_target.number() * 100)}% of it was")
    else:
        changes.append("a slice is one moment, every 30s")
    return carried


def _indicator(node: Node, found: _Objects) -> Node | None:
    """The spec of an SLI, written here or named."""
    inline = node.find("indicator", "sli")
    if inline is not None:
        return inline.find("spec") or inline
    reference = node.find("indicatorRef", "sliRef")
    if reference is None:
        return None
    sli = found.get("SLI", reference.text())
    if sli is None:
        raise NotCarried(f"the SLI {reference.text()} is in none of these files")
    return sli.need("spec")


def _ratio(ratio: Node, objective: Node, method: str, found: _Objects, changes: list[str]) -> Carried:
    raw = ratio.find("raw")
    if raw is not None:
        kind = ratio.need("rawType").one_of("success", "failure")
        return queries.from_ratio(_query(raw, found, changes), success=kind == "success")
    good, bad = ratio.find("good"), ratio.find("bad")
    if (good is None) == (bad is None):
        raise ratio.fault("one-of", "a ratio needs either good or bad, and not both", on_key=True)
    part = good or bad
    assert part is not None  # noqa: S101 - one of the two is there
    counter = ratio.find("counter", "incremental")
    counters = bool(counter and counter.flag())
    some, every = _query(part, found, changes), _query(ratio.need("total"), found, changes)
    share = objective.find("timeSliceTarget")
    if method == "Timeslices" and share is None:
        changes.append("it counts slices of time, but no timeSliceTarget says when one is good; here events are counted")
    if method == "Occurrences" or (method == "Timeslices" and share is None):
        return queries.from_events(some, every, good=good is not None, counters=counters)
    window_node = objective.find("timeSliceWindow")
    window = Duration.of("1m")
    if window_node is not None:
        data = window_node.data
        bare = isinstance(data, int | Decimal) and not isinstance(data, bool)
        window = seconds(window_node, window_node.number() * 60) if bare else duration(window_node)
    else:
        changes.append("it names no timeSliceWindow; here a slice is 1m")
    at_least = None
    if method == "Timeslices" and share is not None:
        at_least = share.number()
        if not 0 <= at_least <= 1:
            raise share.fault("out-of-range", f"a timeSliceTarget is from 0 to 1, not {plain(at_least)}")
    return queries.from_slices(some, every, good=good is not None, counters=counters, window=window, at_least=at_least)


def _query(metric: Node, found: _Objects, changes: list[str]) -> Query:
    """A metric's query, when its data source is a Prometheus."""
    place = metric.find("metricSource") or metric
    kind, reference = place.find("type", "source"), place.find("metricSourceRef", "dataSourceRef")
    inline = place.find("dataSourceSpec")
    if kind is None and inline is not None:
        kind = inline.find("type")
    if reference is not None:
        source = found.get("DataSource", reference.text())
        spec = source.find("spec") if source else None
        kind = kind or (spec.find("type") if spec else None)
        if source is None and kind is None:
            _once(changes, f"the data source {reference.text()} is in none of these files; its query was taken for PromQL")
        elif kind is not None and _PROMETHEUS.search(kind.text()):
            _once(changes, f"it asked the data source {reference.text()}; here the stack's own Prometheus is asked")
    if kind is not None and not _PROMETHEUS.search(kind.text()):
        raise NotCarried(f"its data source is {kind.text()}, and queries of others than Prometheus cannot be translated")
    inside = place.find("spec") or place
    text = inside.find("query", "promql", "expr", "expression")
    if text is None:
        if inside is place and kind is None:
            raise place.fault("missing-key", f"{place.name} needs a query", "spec: {query: …}", on_key=True)
        raise NotCarried("it names no query under query, promql or expr")
    # A data source that nothing names may speak any language.
    return query(text, lenient=kind is None)


def _once(changes: list[str], text: str) -> None:
    if text not in changes:
        changes.append(text)


# Who is told.


def _policy(
    spec: Node, found: _Objects, draft: Draft, service: Service, about: str, changes: list[str]
) -> tuple[Policy, list[str]]:
    """The burn-rate policy that its alert policies come to; without any it has no alerts."""
    listed = spec.find("alertPolicies")
    entries = listed.items() if listed is not None else []
    if not entries:
        return Policy("none"), ["it has no alert policy: alerting: standard would page when its budget burns"]
    names: list[str] = []
    tiers: dict[str, list[Condition]] = {"critical": [], "warning": []}
    for entry in entries:
        reference = entry.find("alertPolicyRef", "policyRef", "targetRef") if isinstance(entry.data, dict) else None
        node: Node | None = entry
        if isinstance(entry.data, str) or reference is not None:
            name = (reference or entry).text()
            node = found.get("AlertPolicy", name)
            if node is None:
                draft.lose(service, entry.span, about, f"the alert policy {name} is in none of these files")
                continue
        assert node is not None  # noqa: S101
        metadata = node.find("metadata")
        names.append(metadata.need("name").text() if metadata else "inline")
        for severity, condition, note in _conditions(node.need("spec"), found, draft, service, about):
            if condition not in tiers[severity]:
                tiers[severity].append(condition)
            _once(changes, note)
        _targets(node.need("spec"), found, draft, service, about)
    policy = Policy(tidy("-and-".join(names)) if names else "none", tuple(tiers["critical"]), tuple(tiers["warning"]))
    return policy, []


def _conditions(
    spec: Node, found: _Objects, draft: Draft, service: Service, about: str
) -> Iterator[tuple[str, Condition, str]]:
    breaching = spec.find("alertWhenBreaching")
    if breaching is not None and not breaching.flag():
        draft.change(spec.span, about, "an alert policy that does not alert when breaching is left out")
        return
    for entry in spec.need("conditions").items():
        reference = entry.find("conditionRef")
        node: Node | None = entry
        if reference is not None:
            node = found.get("AlertCondition", reference.text())
            if node is None:
                draft.lose(service, entry.span, about, f"the alert condition {reference.text()} is in none of these files")
                continue
        assert node is not None  # noqa: S101
        inner = node.need("spec")
        condition = inner.need("condition")
        kind = condition.find("kind")
        if kind is not None and kind.text().lower() != "burnrate":
            draft.lose(service, condition.span, about, f"an alert condition of kind {kind.text()}")
            continue
        said = inner.need("severity").text()
        severity = "critical" if _PAGE.search(said) else "warning"
        factor, long = condition.need("threshold").number(), duration(condition.need("lookbackWindow"))
        after = condition.find("alertAfter")
        short = Duration.of("2m")
        if long.seconds >= 36 * 60:
            short = Duration(Decimal(int(long.seconds) // 720 * 60))
        if factor <= 0 or long <= short:
            draft.lose(service, condition.span, about, f"an alert on a burn rate of {plain(factor)} over {long}")
            continue
        words = [f"the burn rate must be high over {short} too, so that it ends soon after the trouble does"]
        if after is not None and not after.text().startswith("0"):
            words.append(f"instead of lasting {after.text()}")
        if (operator := condition.find("op")) is not None and operator.one_of("lte", "gte", "lt", "gt") in ("lt", "lte"):
            words.append(f"{operator.text()} was read as gt: a low burn rate is no trouble")
        if severity != said.lower():
            words.append(f"its severity {said!r} is {severity!r} here")
        yield severity, Condition(long, short, factor=factor), f"alert over {long}: {'; '.join(words)}"


def _targets(spec: Node, found: _Objects, draft: Draft, service: Service, about: str) -> None:
    targets = spec.find("notificationTargets")
    for entry in targets.items() if targets is not None else []:
        reference = entry.find("targetRef")
        node = found.get("AlertNotificationTarget", reference.text()) if reference is not None else entry
        inner = node.find("spec") if node is not None else None
        kind = inner.find("target") if inner is not None else None
        metadata = node.find("metadata") if node is not None else None
        name = reference.text() if reference is not None else metadata.need("name").text() if metadata else "?"
        if any(f.about == f"target {name}" for f in draft.lost):
            continue
        how = f" ({kind.text()})" if kind is not None else ""
        draft.lose(
            None, entry.span, f"target {name}", f"notifications to it{how}: OpenSLO names no address; add one under routing:"
        )
        draft.notes.append(f"NOT CARRIED OVER: notifications to {name}{how}; OpenSLO names no address, see routing below")
