"""Names that are used, and defined nowhere."""

from __future__ import annotations

from collections.abc import Iterator

from generator.diagnostics import Diagnostic, did_you_mean
from generator.model.policies import BUILT_IN_POLICIES
from generator.source import Path_, Source
from generator.units import show

_ANY = None
_Pattern = tuple[str | None, ...]

# Where a name is used; where it must be defined ("$n" is the n-th part of the first path); code; what it is.
_REFERENCES: tuple[tuple[_Pattern, tuple[str, ...], str, str], ...] = (
    (("routing", "default"), ("routing", "receivers"), "unknown-receiver", "receiver"),
    (("routing", "watchdog"), ("routing", "receivers"), "unknown-receiver", "receiver"),
    (("routing", "routes", _ANY, "to"), ("routing", "receivers"), "unknown-receiver", "receiver"),
    (("routing", "routes", _ANY, "service"), ("services",), "unknown-service", "service"),
    (("routing", "routes", _ANY, "escalate", "to"), ("routing", "receivers"), "unknown-receiver", "receiver"),
    (("routing", "routes", _ANY, "escalate", _ANY, "to"), ("routing", "receivers"), "unknown-receiver", "receiver"),
    (("routing", "routes", _ANY, "during"), ("routing", "hours"), "unknown-hours", "hours"),
    (("routing", "routes", _ANY, "outside"), ("routing", "hours"), "unknown-hours", "hours"),
    (("maintenance", _ANY, "services"), ("services",), "unknown-service", "service"),
    (("services", _ANY, "depends_on"), ("services",), "unknown-service", "service"),
    (("services", _ANY, "probes", _ANY, "alerting"), ("alerting",), "unknown-policy", "burn-rate policy"),
    (("services", _ANY, "processes", _ANY, "probe"), ("services", "$1", "probes"), "unknown-probe", "probe"),
    (("services", _ANY, "processes", _ANY, "alerting"), ("alerting",), "unknown-policy", "burn-rate policy"),
    (("services", _ANY, "alerts", _ANY, "slo"), ("services", "$1", "slos"), "unknown-slo", "SLO"),
    (("services", _ANY, "slos", _ANY, "sli", "probe"), ("services", "$1", "probes"), "unknown-probe", "probe"),
    (("services", _ANY, "slos", _ANY, "sli", "probe", "name"), ("services", "$1", "probes"), "unknown-probe", "probe"),
    (("services", _ANY, "slos", _ANY, "alerting"), ("alerting",), "unknown-policy", "burn-rate policy"),
    (("defaults", "alerting"), ("alerting",), "unknown-policy", "burn-rate policy"),
    (("tests", _ANY, "service"), ("services",), "unknown-service", "service"),
    (("tests", _ANY, "inhibited_by"), ("services",), "unknown-service", "service"),
    (("tests", _ANY, "reaches"), ("routing", "receivers"), "unknown-receiver", "receiver"),
    (("tests", _ANY, "not"), ("routing", "receivers"), "unknown-receiver", "receiver"),
    (("tests", _ANY, "escalates"), ("routing", "receivers"), "unknown-receiver", "receiver"),
)
# What is told of such a name; where its text is faulty anyway, only that is.
CODES = frozenset(code for _, _, code, _ in _REFERENCES)


def _uses(data: object, pattern: _Pattern, path: Path_ = ()) -> Iterator[tuple[Path_, str]]:
    """Every text at a place that a pattern names, one or a list of them."""
    if len(path) == len(pattern):
        if isinstance(data, str):
            yield path, data
        elif isinstance(data, list):
            yield from (((*path, i), item) for i, item in enumerate(data) if isinstance(item, str))
        return
    part = pattern[len(path)]
    if isinstance(data, dict):
        keys = [k for k in data if part is _ANY or k == part]
        for key in keys:
            yield from _uses(data[key], pattern, (*path, key))
    elif isinstance(data, list) and part is _ANY:
        for index, item in enumerate(data):
            yield from _uses(item, pattern, (*path, index))


def undefined(source: Source) -> list[Diagnostic]:
    """Names that nothing defines. Works on the data as written, so that a fault elsewhere hides none of them."""
    found: list[Diagnostic] = []
    for pattern, home, code, what in _REFERENCES:
        for path, name in _uses(source.data, pattern):
            where = tuple(str(path[int(part[1:])]) if part.startswith("$") else part for part in home)
            known = set(_keys(source.data_at(where)))
            if code == "unknown-policy":
                known |= set(BUILT_IN_POLICIES)
            elif code == "unknown-slo":
                probes, processes = (*where[:-1], "probes"), (*where[:-1], "processes")
                known |= {p for p in _keys(source.data_at(probes)) if "objective" in _keys(source.data_at((*probes, p)))}
                known |= {
                    f"{process}_{measure}"
                    for process in _keys(source.data_at(processes))
                    for measure in _keys(source.data_at((*processes, process, "objectives")))
                }
            if name not in known:
                many = what if what.endswith("s") else f"{what.replace('policy', 'policie')}s"
                no = f"there {'are' if what.endswith('s') else 'is'} no {what} {show(name)}"
                hint = did_you_mean(name, known, many) if len(found) < 200 else None
                found.append(Diagnostic(code, no, source.value_span(path), hint=hint))
    return found


def _keys(data: object) -> list[str]:
    return list(data) if isinstance(data, dict) else []
