"""What services emit against what the file reads of it: SLIs, and registered processes."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import cast

import promql_parser as pp

from generator import promql
from generator.diagnostics import did_you_mean, nearest
from generator.model import ResolvedProcess, ResolvedService, ResolvedSlo
from generator.sli import Latency, Probe, Process, Traces
from generator.units import plain
from generator.verify.check import Check
from generator.verify.look import Look, Row

Seen = Mapping[tuple[str, str], set[str]]  # versions by service and process id


@dataclass(frozen=True)
class _Selector:
    """A selector of an SLI's query."""

    metric: str
    text: str

    @classmethod
    def all_of(cls, query: str) -> dict[str, _Selector]:
        found = {}
        for one in promql.selectors(promql.parse(query)):
            metric = promql.metric_name(one) or ""
            bare = _with(one, lambda matcher: True)
            found[bare] = cls(metric, bare)
        return found

    @property
    def bucket(self) -> bool:
        return self.metric.endswith("_bucket") and 'le=~"' in self.text

    def without(self, label: str) -> str:
        one = promql.selectors(promql.parse(self.text))[0]
        return _with(one, lambda matcher: matcher.name != label)


def _with(selector: pp.VectorSelector, keep: Callable[[pp.Matcher], bool]) -> str:
    """A selector without range and offset, and with the matchers that are to stay."""
    signs = {"MatchOp.Equal": "=", "MatchOp.NotEqual": "!=", "MatchOp.Re": "=~", "MatchOp.NotRe": "!~"}
    kept = [f"{m.name}{signs[str(m.op)]}{promql.quote(m.value)}" for m in selector.matchers.matchers if keep(m)]
    return f"{selector.name or ''}{{{','.join(kept)}}}"


@dataclass
class Indicator:
    """What is asked for one SLO, and what came."""

    slo: ResolvedSlo
    total: str
    others: list[_Selector]
    bucket: _Selector | None

    @classmethod
    def of(cls, slo: ResolvedSlo) -> Indicator:
        total = slo.sli.total(slo.context)
        inside = _Selector.all_of(total)
        more = [s for text, s in _Selector.all_of(slo.sli.errors(slo.context)).items() if text not in inside]
        bucket = next((s for s in more if s.bucket), None)
        return cls(slo, total, [s for s in more if s is not bucket], bucket)

    def queries(self) -> dict[tuple[str, str], str]:
        found = {("total", ""): self.total}
        found |= {("other", s.text): f"count({s.text})" for s in self.others}
        if self.bucket is not None:
            found["bucket", ""] = f"group by (le) ({self.bucket.without('le')})"
        return found


def slis(look: Look) -> Iterator[Check]:
    """Each SLI has data; a latency's threshold is one of the histogram's buckets, or there is a native histogram."""
    asked = [Indicator.of(slo) for slo in look.model.slos]
    rows = look.queries({(i, *key): text for i, one in enumerate(asked) for key, text in one.queries().items()})
    for i, one in enumerate(asked):
        mine = {(part, text): found for (index, part, text), found in rows.items() if index == i}
        yield from _sli(look, one, mine)


def _sli(look: Look, one: Indicator, rows: Mapping[tuple[str, str], list[Row]]) -> Iterator[Check]:
    slo = one.slo
    name = f"{slo.service}/{slo.name}"
    total = rows["total", ""]
    if one.bucket is not None and (total or rows["bucket", ""]):
        bound = slo.sli.bound() if isinstance(slo.sli, Latency) else cast(Process, slo.sli).limit(slo.context).seconds
        problem = bucket_problem(bound, [labels.get("le", "") for labels, _ in rows["bucket", ""]])
        if problem is not None:
            text = f"{one.bucket.metric} has no bucket that ends at {plain(bound)}: {problem}"
            cure = "Set the threshold to a bucket there is, add the bucket to the service, or read native: true."
            yield Check("slis", name, "fail", text, cure)
            return
    if not total:
        yield _absent(look, one, name)
        return
    if all(math.isnan(value) or math.isinf(value) or value < 0 for _, value in total):
        yield Check("slis", name, "fail", f"all events are {total[0][1]:g}, which is no number of events", "Mend its sli.")
        return
    without = [label for label in slo.by if not all(labels.get(label) for labels, _ in total)]
    if without:
        text = f"it is grouped by {', '.join(without)}, and its metrics have no such label"
        yield Check("slis", name, "fail", text, "Mend `by`, or the metric.")
        return
    amount = sum(value for _, value in total if not math.isnan(value))
    if slo.sli.weighted_by_traffic:
        said = f"{amount:.3g} events a second" if amount else "its series are there; no events at the moment"
    else:
        said = f"{amount:g} series"
    never = sorted({s.text for s in one.others if not rows["other", s.text]})
    if never:
        # A counter of errors is often born with the first error: that is no fault, but worth knowing.
        said += f"; errors were never counted (no {', '.join(never)}): fine as long as there were none"
    yield Check("slis", name, "ok", said)


def _absent(look: Look, one: Indicator, name: str) -> Check:
    """Why there is no event at all: the metric, its labels, or that it has stopped."""
    slo = one.slo
    pool = f"probe:{slo.service}:{slo.sli.name}" if isinstance(slo.sli, Probe) else slo.context.match.get("job")
    if any(target["health"] == "unknown" and target["scrapePool"] == pool for target in look.targets()):
        return Check("slis", name, "skipped", "what it reads has not been scraped yet")
    known = set(look.metric_names())
    for selector in _Selector.all_of(one.total).values():
        metric = selector.metric
        if metric and metric not in known:
            if metric.removesuffix("_count") + "_bucket" in known and isinstance(slo.sli, Latency) and slo.sli.native:
                text = f"{metric} is no native histogram: there are only its classic buckets"
                return Check(
                    "slis", name, "fail", text, "Leave out native: true, or have the service expose native histograms."
                )
            if metric.removesuffix("_count") in known and isinstance(slo.sli, Latency):
                text = f"{metric.removesuffix('_count')} is a native histogram without classic buckets"
                return Check("slis", name, "fail", text, "Set native: true.")
            near = nearest(metric, known)
            cure = f"Did you mean {near}?" if near else "Is the service up, and is it scraped or does it push?"
            return Check("slis", name, "fail", f"no metric {metric} was seen in the last day", cure)
        if look.query(f"count({selector.text})"):
            if isinstance(slo.sli, Latency | Traces | Process) and not look.query(f"histogram_count({selector.text})"):
                text = f"{metric} is there, but not as a native histogram"
                return Check(
                    "slis", name, "fail", text, "Leave out native: true, or have the service expose native histograms."
                )
            continue
        if look.query(f"count(last_over_time({selector.text}[1d]))"):
            # What is counted as it happens may rightly be silent for a while.
            quiet = slo.sli.kind in ("process", "logs", "traces")
            text = "its series were there in the last day and are not now"
            return Check("slis", name, "warn" if quiet else "fail", text, "Is the service up? Targets, above, may say more.")
        jobs = sorted({labels.get("job", "") for labels, _ in look.query(f"group by (job) ({metric})")} - {""})
        where = f"; {metric} exists for {', '.join(jobs[:5])}" if jobs else ""
        text = f"nothing matches {selector.text}{where}"
        return Check("slis", name, "fail", text, "Mend the selector, or the service's `match`, or start what emits it.")
    if any(
        rule.get("lastError") for group in look.groups() if group["name"].startswith(slo.service) for rule in group["rules"]
    ):
        return Check("slis", name, "fail", "its query fails: see the rules", "Mend its sli.")
    return Check("slis", name, "warn", "its metrics are there, and too few samples of them for a rate yet", "Wait a minute.")


def bucket_problem(bound: Decimal, bounds: Iterable[str]) -> str | None:
    """None when a bucket of these ``le`` ends at ``bound``; else the nearest below and above, or that there is none."""
    finite = sorted({float(le) for le in bounds if le and not math.isinf(float(le))})
    if any(math.isclose(le, float(bound), rel_tol=1e-9) for le in finite):
        return None
    if not finite:
        return "it has none at all, as a summary has not"
    below = max((le for le in finite if le < float(bound)), default=None)
    above = min((le for le in finite if le > float(bound)), default=None)
    near = [f"{le:g}" for le in (below, above) if le is not None]
    return f"the nearest end{'s' if len(near) == 1 else ''} at {' and '.join(near)}"


def processes(look: Look) -> Iterator[Check]:
    """Each registered process is seen, with its version; and none that is not registered."""
    labels = "job, process_id, process_version"
    spans = 'traces_spanmetrics_calls_total{process_id!="",process_status!=""}'
    rows = look.queries(
        {
            "now": f"group by ({labels}) (process_executions_total)",
            "day": f"group by ({labels}) (last_over_time(process_executions_total[1d]))",
            "spans": f"group by (service, process_id, process_version) (last_over_time({spans}[1d]))",
        }
    )
    seen: dict[str, dict[tuple[str, str], set[str]]] = {key: defaultdict(set) for key in rows}
    for key, part in rows.items():
        for ls, _ in part:
            owner = (ls.get("job") or ls.get("service", "")).rpartition("/")[2]
            seen[key][owner, ls.get("process_id", "")].add(ls.get("process_version", ""))
    # Several services may read one job: the one that has processes is meant.
    services = {_job(service): service for service in sorted(look.model.services, key=lambda s: len(s.processes))}
    for service in look.model.services:
        for process in service.processes:
            spans_only = process.source == "spans"
            now = seen["spans"] if spans_only else seen["now"]
            yield registered(process, _job(service), now, seen["spans"] if spans_only else seen["day"])
    known = {(_job(s), p.id) for s in look.model.services for p in s.processes}
    for (job, id_), versions in sorted(seen["day"].items()):
        if (job, id_) not in known and not any(k[1] == id_ and k[0] == "" for k in known):
            yield unregistered(job, id_, versions, services.get(job))


def _job(service: ResolvedService) -> str:
    """What a service's processes carry as job; empty where the service reads any."""
    if not service.match:
        return ""
    return service.match.get("job", service.name).rpartition("/")[2]


def registered(process: ResolvedProcess, job: str, now: Seen, day: Seen) -> Check:
    """A process of the registry against what was seen now and in the last day."""
    name = f"{process.service}/{process.id}"

    def versions(seen: Seen) -> set[str]:
        return set().union(*(vs for (j, id_), vs in seen.items() if id_ == process.id and job in ("", j)))

    live, recent = versions(now), versions(day)
    present = live or recent
    registry = f"slos.yaml registers {process.version}"
    if not present:
        elsewhere = sorted({j for j, id_ in day if id_ == process.id})
        if elsewhere:
            text = f"it is seen from {', '.join(elsewhere)}, not from {job}"
            return Check(
                "processes", name, "fail", text, "Register it under that service, or mend the service's name in setup()."
            )
        near = nearest(process.id, {id_ for j, id_ in day if job in ("", j)})
        cure = (
            f"Is it {near!r}, which is seen? Then mend one of the two."
            if near
            else "Has it run? Does the service use process()?"
        )
        return Check("processes", name, "fail", "no execution was seen in the last day", cure)
    if process.version is None or present == {process.version}:
        when = "" if live else ", in the last day though not now"
        return Check("processes", name, "ok", f"seen with version {', '.join(sorted(present))}{when}")
    others = ", ".join(sorted(present - {process.version})) or "none"
    if process.version in present:
        text = f"version {others} is seen beside {process.version}"
        return Check("processes", name, "warn", text, "Fine while a deployment is under way; else an old instance still runs.")
    return Check("processes", name, "fail", f"seen with version {others}; {registry}", "Deploy the one, or register the other.")


def unregistered(job: str, id_: str, versions: Iterable[str], service: ResolvedService | None) -> Check:
    """A process that is seen and stands in no registry."""
    about = f"it is seen (version {', '.join(sorted(versions))}) and slos.yaml does not register it"
    if service is None:
        return Check("processes", f"{job}/{id_}", "warn", f"{about}, nor the service {job}", "Add the service to slos.yaml.")
    ids = [process.id for process in service.processes]
    hint = did_you_mean(id_, ids, "registered processes")
    cure = f"{hint[0].upper()}{hint[1:].removesuffix('.')} Else add it under processes of {service.name}."
    return Check(
        "processes", f"{job}/{id_}", "warn", about, cure.replace(" Else", ". Else") if not hint.endswith("?") else cure
    )
