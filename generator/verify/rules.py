"""Rules, Prometheus's and Loki's: loaded as rendered, evaluated without a fault, and in time."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from generator import servers, targets, words
from generator.rendered import GENERATED, Files
from generator.verify.check import APPLY, Check
from generator.verify.look import Look, in_parts

# Of a group's interval that its evaluation takes: then it is late as soon as anything else is slow.
_SLOW_EVALUATION, _LATE_EVALUATION = 0.5, 0.9


def rules(look: Look) -> Iterator[Check]:
    """Each rule is loaded as rendered, and its last evaluation went well."""
    yield from in_parts(look, "rules", [_rules_prometheus, _rules_loki])


def _rules_prometheus(look: Look) -> Iterator[Check]:
    place = f"{targets.MOUNTS['prometheus']}/{GENERATED}/"
    wanted = _groups_of(look.wanted["prometheus"])
    present = {(g["file"].removeprefix(place), g["name"]): g for g in look.groups()}
    for key in sorted(wanted.keys() | present.keys()):
        file, name = key
        group = present.get(key)
        if key not in wanted:
            if str(present[key]["file"]).startswith(place):
                yield Check("rules", name, "fail", f"it is in force, and nothing in the spec renders it ({file})", APPLY)
            else:
                yield from _health(name, present[key])  # a hand-written one
            continue
        difference = "it is not loaded" if group is None else targets.group_differs(wanted[key], group, look.prometheus)
        if difference is not None:
            said = difference if group is None else f"in force it has {difference}"

            def loaded(disk: bytes, name: str = name, group: dict[str, Any] | None = group) -> bool:
                there = {g["name"]: g for g in servers.load_text(disk).get("groups") or ()}
                if group is None or name not in there:
                    return group is None and name not in there
                return targets.group_differs(there[name], group, look.prometheus) is None

            yield Check("rules", name, "fail", f"{said}: {look.odd_one('prometheus', file, loaded)}", APPLY)
        if group is not None:
            yield from _health(name, group, as_rendered=difference is None)


def _groups_of(files: Files) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (name, group["name"]): group
        for name, content in files.items()
        if name.startswith("rules/")
        for group in servers.load_text(content).get("groups") or ()
    }


def _health(name: str, group: Mapping[str, Any], *, as_rendered: bool = True) -> Iterator[Check]:
    rules = group["rules"]
    failing = [rule for rule in rules if rule.get("health") == "err" or rule.get("lastError")]
    for rule in failing:
        yield Check(
            "rules",
            f"{name}: {rule['name']}",
            "fail",
            f"its last evaluation failed: {evaluation_error(str(rule.get('lastError', '')))}",
            "Ask Prometheus the rule's query, and mend what it reads: the metric, its labels, or the SLO's sli.",
        )
    if failing or not as_rendered:
        return
    if not words.moment(group["lastEvaluation"]):
        yield Check(
            "rules", name, "skipped", f"{words.plural(rules, 'rule')} loaded, not evaluated yet: {_every(group['interval'])}"
        )
    else:
        yield Check("rules", name, "ok", f"{words.plural(rules, 'rule')} as rendered, last evaluation without an error")


def evaluation_error(text: str) -> str:
    """Prometheus's reason without the series that it lists, which may be many."""
    return re.sub(r":\s*\[\{.*?\}\](?=;)", "", text.strip(), flags=re.DOTALL).replace(";", "; ")[:300]


def _rules_loki(look: Look) -> Iterator[Check]:
    """Loki's ruler has no API here; its metrics tell how many rules of each group it runs, and how they fare."""
    wanted = {key: len(group.get("rules") or ()) for key, group in targets.loki_groups(look.wanted["loki"]).items()}
    present = {_loki_group(s.labels): int(s.value) for s in look.page("loki") if s.name == "loki_prometheus_rule_group_rules"}
    failed = {}
    if present:
        rows = look.query("increase(loki_prometheus_rule_evaluation_failures_total[5m]) > 0")
        failed = {_loki_group(labels): value for labels, value in rows}
    for key in sorted(wanted.keys() | present.keys()):
        file, name = key
        has, should = present.get(key, 0), wanted.get(key, 0)
        if has != should:
            yield Check("rules", name, "fail", f"Loki runs {has} of its rules instead of {should} ({file})", APPLY)
        elif key in failed:
            yield Check(
                "rules",
                name,
                "fail",
                f"{math.ceil(failed[key])} evaluations of its log queries failed in the last 5 minutes",
                "`lgtm logs loki` says which and why.",
            )
        else:
            yield Check("rules", name, "ok", f"{should} log rules as rendered, no evaluation failed in the last 5 minutes")


def _loki_group(labels: Mapping[str, str]) -> tuple[str, str]:
    file, _, group = labels.get("rule_group", "").rpartition(";")
    return file.rpartition("/")[2], group


def evaluation(look: Look) -> Iterator[Check]:
    """Each group runs in time: none missed, none that takes as long as its interval."""
    rows = look.queries(
        {
            "prometheus": "increase(prometheus_rule_group_iterations_missed_total[1h]) > 0",
            "loki": "increase(loki_prometheus_rule_group_iterations_missed_total[1h]) > 0",
        }
    )
    missed = {labels.get("rule_group", ""): math.ceil(value) for part in rows.values() for labels, value in part}
    now = time.time() + look.runtime()["skew"]
    for group in look.groups():
        name, interval = group["name"], float(group["interval"])
        lost = missed.pop(f"{group['file']};{name}", 0)
        yield evaluated(name, interval, float(group["evaluationTime"]), now, words.moment(group["lastEvaluation"]), lost)
    for group_name, lost in missed.items():
        if group_name.startswith("/loki/"):
            name = group_name.rpartition(";")[2]
            yield Check("evaluation", name, "warn", f"Loki missed {lost} evaluations in the last hour", "See `lgtm status`.")


def evaluated(name: str, interval: float, took: float, now: float, last: float, missed: int) -> Check:
    """Whether a group runs in time. Times in seconds, ``last`` and ``now`` Unix time; ``missed`` in the last hour."""
    cure = "`lgtm cost` shows which SLOs are dear; a machine that is busy or short of memory is the other cause."
    share = took / interval
    said = f"takes {words.lasting(took)} every {words.lasting(interval)}"
    if not last:
        return Check("evaluation", name, "skipped", f"not evaluated yet: {_every(interval)}")
    if now - last > 2 * interval + 15:
        return Check("evaluation", name, "fail", f"last evaluated {words.lasting(now - last)} ago; {_every(interval)}", cure)
    if share >= _LATE_EVALUATION:
        return Check("evaluation", name, "fail", f"{said}: it comes too late or misses turns", cure)
    if missed:
        return Check("evaluation", name, "warn", f"missed {missed} evaluations in the last hour; {said}", cure)
    if share >= _SLOW_EVALUATION:
        return Check("evaluation", name, "warn", f"{said}: more than half of its time", cure)
    return Check("evaluation", name, "ok", said)


def _every(interval: object) -> str:
    return f"it runs every {words.lasting(float(str(interval)))}"
