"""Proof of the rules: each alert fires when it should and only then, and says all that it should say.

Three things are made up and given to promtool, which evaluates the rendered files as they are:

- raw metrics of each SLI, of which errors and total must be recorded; after a restart no error; and once they are gone,
  SLONoData;
- recorded rates of outages that a policy must notice at a computed time, each as a group of the SLO of its own, all of
  them up to one and the same moment: so that days of history cost one evaluation;
- values around each threshold, and results of probes, step by step.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import promql_parser as pp
import yaml

from generator import names, promql, sli
from generator.model import Model, ResolvedAlert, ResolvedProbe, ResolvedService, ResolvedSlo
from generator.promtool import Look, quoted
from generator.proof import inputs, scenarios
from generator.proof.result import Findings, Path_, slo_path
from generator.render import Artifact

RULES = "prometheus/generated/rules"
# How far back the 30 s samples are read; what is longer reads sums of five minutes (docs/decisions/0001-rules.md).
FAST_REACH = 6 * 3600
EVALUATION, SLOW_EVALUATION = 30, 300
NO_DATA_HOLD = 300
# Tells apart the outages that are tried on one SLO: as a group, like a label of `by`.
CASE = "proof"
# Begins a comment after an expression, with the name of its test.
NAMED = "  # "

# When the slow tier's sums are looked at; what it sums, of what, and a value of that.
_SUMMED = 900
_SUMS = ((names.ERRORS_SLOW, names.ERRORS_RATE, 5), (names.TOTAL_SLOW, names.TOTAL_RATE, 10))

Fired = tuple[dict[str, str], dict[str, str]]
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass
class Job:
    """A promtool test file, the rule file that it reads, and what is to be made of its answers."""

    name: str
    file: str
    rules: str
    test: dict[str, Any]
    check: Callable[[Sequence[Look]], None]
    subject: str
    path: Path_


def jobs(model: Model, artifacts: Sequence[Artifact], wanted: Callable[[str, str], bool], found: Findings) -> Iterator[Job]:
    """Everything to run. ``wanted`` says of a service and an SLO (or empty) whether it is asked for."""
    files = {a.path: a.text for a in artifacts if a.path.startswith(f"{RULES}/")}
    yield from _watchdog(model, files, found)
    for service in model.services:
        slos = [s for s in service.slos if wanted(service.name, s.name)]
        causes = wanted(service.name, "")
        if not slos and not (causes and (service.alerts or service.probes)):
            continue
        path = f"{RULES}/service-{service.name}.yaml"
        text = files.get(path)
        if text is None:
            if slos or service.alerts or any(p.severity for p in service.probes):
                found.fail("rules", "all", service.name, [f"{path} was not rendered"], ("services", service.name))
            continue
        groups: list[dict[str, Any]] = (yaml.load(text, Loader=_Loader) or {}).get("groups", [])  # noqa: S506 - a safe loader
        prover = _Service(model, service, path, text, groups, found)
        if slos:
            yield from prover.raw(slos)
            yield from prover.burning(slos)
            yield from prover.budgets(slos)
        if causes:
            yield from prover.causes()


def _watchdog(model: Model, files: Mapping[str, str], found: Findings) -> Iterator[Job]:
    path = f"{RULES}/lgtm.yaml"
    want = {**model.labels, "alertname": names.ALERT_WATCHDOG, "service": "lgtm", "severity": "none"}

    def check(looks: Sequence[Look]) -> None:
        fired = [alert for look in looks for alert in look.alerts]
        if [labels for labels, _ in fired] != [want, want]:
            found.fail("watchdog", names.ALERT_WATCHDOG, "lgtm", ["the heartbeat must always fire, and does not"], ("routing",))

    if path not in files:
        found.fail("watchdog", names.ALERT_WATCHDOG, "lgtm", [f"{path} was not rendered"], ("routing",))
        return
    looks: list[dict[str, Any]] = [
        {"eval_time": at, "alertname": names.ALERT_WATCHDOG, "exp_alerts": []} for at in ("0s", "1d")
    ]
    test = {"name": "watchdog/0", "interval": "1d", "input_series": [], "alert_rule_test": looks}
    yield Job("watchdog", path, files[path], {"evaluation_interval": "1d", "tests": [test]}, check, "lgtm", ("routing",))


@dataclass
class _Service:
    model: Model
    service: ResolvedService
    path: str
    text: str
    groups: list[dict[str, Any]]
    found: Findings

    @property
    def at(self) -> Path_:
        return ("services", self.service.name)

    def job(
        self,
        name: str,
        step: int,
        tests: list[dict[str, Any]],
        check: Callable[[Sequence[Look]], None],
        *,
        text: str | None = None,
        **more: Any,
    ) -> Job:
        whole = {"evaluation_interval": f"{step}s", **more, "tests": tests}
        full = f"{self.service.name} {name}"
        for index, test in enumerate(tests):
            test["name"] = f"{full}/{index}"
            for look in test.get("promql_expr_test", ()):
                # promtool names a test with alerts only.
                look["expr"] += f"{NAMED}{test['name']}"
        return Job(full, self.path, text or self.text, whole, check, self.service.name, self.at)

    def order(self, alert: str) -> list[str]:
        """The groups, that with an alert last: it reads what the others record."""
        mine = [g["name"] for g in self.groups if any(r.get("alert") == alert for r in g["rules"])]
        return [g["name"] for g in self.groups if g["name"] not in mine] + mine

    def _without(self, given: Collection[str]) -> str:
        """The rules, but for those that record a series of these names."""
        if not given:
            return self.text
        groups = [{**g, "rules": [r for r in g["rules"] if r.get("record") not in given]} for g in self.groups]
        return yaml.dump({"groups": groups}, sort_keys=False, allow_unicode=True, width=10**9)

    # --- raw metrics ---

    def raw(self, slos: Sequence[ResolvedSlo]) -> Iterator[Job]:
        """From raw metrics to recorded rates, and SLONoData when the metrics are gone."""
        fed: dict[str, inputs.Fed] = {}
        for slo in slos:
            subject = f"{slo.service}/{slo.name}"
            alerts = [*(names.burn_alert(s) for s in slo.burn), names.ALERT_NO_DATA]
            try:
                fed[slo.name] = inputs.feed(slo)
            except inputs.FreeError as error:
                for alert in alerts:
                    self.found.cannot(alert, subject, f"the SLI's own query: {error}")
            if slo.sli.kind == "logs":
                for alert in alerts:
                    self.found.cannot(alert, subject, "the LogQL, which is Loki's: the proof begins at what Loki records")
        # SLOs that read the same metrics would see each other's events: each gets a test in which it is alone with them.
        tests: list[tuple[set[str], list[ResolvedSlo]]] = []
        for slo in slos:
            if slo.name in fed:
                read = {feed.name for feed in fed[slo.name].feeds}
                free = next((t for t in tests if not t[0] & read), None)
                if free is None:
                    tests.append((read, [slo]))
                else:
                    free[0].update(read)
                    free[1].append(slo)
        for index, (_, members) in enumerate(tests):
            yield self._raw(f"raw {index}", members, fed, sums=index == 0)

    def _raw(self, name: str, slos: Sequence[ResolvedSlo], fed: Mapping[str, inputs.Fed], *, sums: bool) -> Job:
        every = int(self.service.interval.seconds)
        reach = {slo.name: _reach(slo) for slo in slos}
        # A phase is looked at five minutes before its end, when the one before it is out of reach.
        length = _up(max(reach.values()) + 2 * every, 300) + 300
        seen = [(phase + 1) * length - 300 for phase in range(len(inputs.PHASES))]
        read = f"{{service={quoted(self.service.name)}}}"
        series: dict[str, str] = {}
        for slo in slos:
            for feed in fed[slo.name].feeds:
                lengths, reset = (length,) * len(inputs.PHASES), (seen[-1] - 2 * every) // every * every
                series[feed.series] = feed.written(lengths, every, reset=reset) + " stale"
        looks = [(name_, f"{name_}{read}", at) for at in seen for name_ in (names.ERRORS_RATE, names.TOTAL_RATE)]
        sums = sums and EVALUATION % every == 0
        if sums:
            gap = " _" * (EVALUATION // every - 1)
            for name_, source, value in _SUMS:
                labels = {"service": self.service.name, "slo": CASE}
                series[_named(source, labels)] = " ".join([f"{value}{gap}"] * (_SUMMED // EVALUATION + 1))
                looks.append((name_, _named(name_, labels), _SUMMED))
        # The first evaluation at which nothing is left within reach.
        end = len(inputs.PHASES) * length
        silent = {n: _up(end - every + r, SLOW_EVALUATION) if r else end for n, r in reach.items()}
        moments = sorted({seen[0], seen[-1], *silent.values(), *(t + NO_DATA_HOLD for t in silent.values())})

        def check(found: Sequence[Look]) -> None:
            at = {(look.what, look.at): look for look in found}
            for slo in slos:
                self._recorded(slo, fed[slo.name], at, seen, read)
                self._no_data(slo, at, silent[slo.name], (seen[0], seen[-1]))
            for name_, _, value in _SUMS if sums else ():
                look = at.get((_named(name_, {"service": self.service.name, "slo": CASE}), _SUMMED))
                got = [v for _, v in look.samples] if look else []
                if got != [10.0 * value]:
                    message = f"{name_} must be the sum of ten samples, {10 * value}, and is {_said(got)}"
                    self.found.fail("sums of five minutes", "all", self.service.name, [message], self.at)

        test = {
            "interval": f"{every}s",
            "input_series": [{"series": k, "values": v} for k, v in series.items()],
            "promql_expr_test": [{"expr": expr, "eval_time": f"{t}s", "exp_samples": []} for _, expr, t in looks],
            "alert_rule_test": [{"eval_time": f"{t}s", "alertname": names.ALERT_NO_DATA, "exp_alerts": []} for t in moments],
        }
        return self.job(name, SLOW_EVALUATION, [test], check, group_eval_order=[g["name"] for g in self.groups])

    def _recorded(
        self, slo: ResolvedSlo, fed: inputs.Fed, at: Mapping[tuple[str, int], Look], seen: Sequence[int], read: str
    ) -> None:
        words = ("while all is well", "while some events are bad", "after a restart")
        messages = []
        for phase in range(len(inputs.PHASES)):
            for which, name in enumerate((names.ERRORS_RATE, names.TOTAL_RATE)):
                look = at.get((f"{name}{read}", seen[phase]))
                got: dict[tuple[tuple[str, str], ...], float] = {}
                for labels, value in look.samples if look else ():
                    if labels.get("slo") == slo.name:
                        rest = {k: v for k, v in labels.items() if k not in ("__name__", *names.IDENTITY)}
                        got[tuple(sorted(rest.items()))] = value
                want = {key: values[phase][which] for key, values in fed.expected.items()}
                what = "bad events" if which == 0 else "events"
                if set(got) != set(want):
                    groups = f" for the groups {_groups(want)}" if slo.by else ""
                    there = f"for {_groups(got)}" if got else "not there"
                    messages.append(f"{words[phase]}, {what} must be recorded{groups}, and are {there}")
                    continue
                # What a counter counted while it was away is not known, so after a restart the total is a rough one.
                slack = 0.5 if phase == 2 and which == 1 and fed.weighted else 0.02
                for key, value in want.items():
                    if abs(got[key] - value) > slack * max(abs(value), 0.05):
                        unit = "a second" if fed.weighted else "of what is watched"
                        messages.append(f"{words[phase]}, {value:g} {what} {unit} must be recorded, and {got[key]:g} are")
        alerts = [names.burn_alert(s) for s in slo.burn]
        for alert in alerts or [names.ALERT_NO_DATA]:
            self.found.fail("raw metrics", alert, f"{slo.service}/{slo.name}", messages, slo_path(slo, self.model))

    def _no_data(self, slo: ResolvedSlo, at: Mapping[tuple[str, int], Look], silent: int, good: Sequence[int]) -> None:
        want = self._labels(slo, names.ALERT_NO_DATA, "warning")
        messages = []

        def firing(moment: int) -> list[Fired]:
            look = at.get((names.ALERT_NO_DATA, moment))
            return [a for a in (look.alerts if look else ()) if a[0].get("slo") == slo.name]

        if any(firing(t) for t in good):
            messages.append("it fires while its metrics are there")
        if firing(silent):
            messages.append("it must wait for 5m once the metrics are gone, and fires at once")
        fired = firing(silent + NO_DATA_HOLD)
        if not fired:
            messages.append("the metrics are gone for 5m: it should fire, and is quiet")
        messages += self._complete(fired, [want], slo.name, slo.title)
        subject = f"{slo.service}/{slo.name}"
        self.found.fail("absent metrics", names.ALERT_NO_DATA, subject, messages, slo_path(slo, self.model))

    # --- burn rates ---

    def burning(self, slos: Sequence[ResolvedSlo]) -> Iterator[Job]:
        """From recorded rates to the burn-rate alerts, by the cases of `scenarios`."""
        for severity in names.SEVERITIES:
            chosen = [s for s in slos if s.burn.get(severity)]
            alert = names.burn_alert(severity)
            rest = [s for s in slos if s not in chosen]
            spread: dict[tuple[int, int], list[ResolvedSlo]] = {}
            for slo in chosen:
                policy = scenarios.Policy.of(slo, slo.burn[severity])
                spread.setdefault((policy.spacing, policy.longest), []).append(slo)
            for (spacing, longest), members in spread.items():
                # No query may hold more than 10,000 samples at once, and one looks at twenty of each series.
                for first in range(0, len(members), 10):
                    part = members[first : first + 10]
                    yield self._burning(severity, alert, part, rest if first == 0 else (), spacing, longest)

    def _burning(
        self, severity: str, alert: str, slos: Sequence[ResolvedSlo], others: Sequence[ResolvedSlo], spacing: int, longest: int
    ) -> Job:
        steps = longest // spacing
        series: list[dict[str, str]] = []
        tried: dict[str, tuple[scenarios.Case, ...]] = {}
        for slo in slos:
            tried[slo.name] = scenarios.cases(scenarios.Policy.of(slo, slo.burn[severity]))
            for index, case in enumerate(tried[slo.name]):
                labels = {"service": slo.service, "slo": slo.name, **_group(slo), CASE: f"{index}"}
                series += _histories(labels, case.history, steps, spacing)
        for slo in others:
            # One that has no such alert, in the worst outage there is.
            labels = {"service": slo.service, "slo": slo.name, **_group(slo), CASE: "none"}
            series += _histories(labels, [scenarios.Span(steps, 1000.0, 1.0)], steps, spacing)
        end = steps * spacing

        def check(looks: Sequence[Look]) -> None:
            fired = [a for look in looks for a in look.alerts if look.what == alert]
            for slo in slos:
                self._burned(slo, alert, severity, tried[slo.name], [a for a in fired if a[0].get("slo") == slo.name])
            strangers = [labels for labels, _ in fired if labels.get("slo") not in tried]
            for slo in others:
                if any(labels.get("slo") == slo.name for labels in strangers):
                    message = f"its policy {slo.policy} has no {severity} alert, and it fires"
                    self.found.fail("burn rates", alert, f"{slo.service}/{slo.name}", [message], slo_path(slo, self.model))
            if any("slo" not in labels for labels in strangers):
                self.found.fail("burn rates", alert, self.service.name, ["it fires without the label slo"], self.at)

        test = {
            "interval": f"{spacing}s",
            "input_series": series,
            "alert_rule_test": [{"eval_time": f"{end}s", "alertname": alert, "exp_alerts": []}],
        }
        # Between its samples of five minutes a sum is given here where shorter windows need that, and not made.
        given = (names.ERRORS_SLOW, names.TOTAL_SLOW) if spacing < SLOW_EVALUATION and longest > FAST_REACH else ()
        name = f"{severity} {slos[0].name}"
        return self.job(name, end, [test], check, text=self._without(given), group_eval_order=self.order(alert))

    def _burned(
        self, slo: ResolvedSlo, alert: str, severity: str, cases: Sequence[scenarios.Case], fired: Sequence[Fired]
    ) -> None:
        by_case = {labels.get(CASE): (labels, annotations) for labels, annotations in fired}
        messages = []
        if None in by_case:
            messages.append("each group of the SLO must have an alert of its own, and they are all one")
        for index, case in enumerate(cases):
            if (str(index) in by_case) is not case.fires and None not in by_case:
                want, is_ = ("should fire", "is quiet") if case.fires else ("should be quiet", "fires")
                messages.append(f"{case.what}: it {want}, and {is_}")
        wanted = [{**self._labels(slo, alert, severity), **_group(slo), CASE: str(labels.get(CASE))} for labels, _ in fired]
        complete = self._complete(fired, wanted, slo.name, self.service.title)
        subject, path = f"{slo.service}/{slo.name}", slo_path(slo, self.model)
        self.found.fail("burn rates", alert, subject, messages, path)
        self.found.fail("labels and annotations", alert, subject, complete, path)

    # --- what is left of the budget ---

    def budgets(self, slos: Sequence[ResolvedSlo]) -> Iterator[Job]:
        """Alerts on what is left of the budget, over the whole window."""
        chosen = [s for s in slos if s.exhausted or s.freeze]
        if not chosen:
            return
        parts = 120
        longest = max(int(s.window.seconds) for s in chosen)
        end = longest + longest // 4
        tests, tried = [], {}
        for window in sorted({int(s.window.seconds) for s in chosen}):
            spacing = window // parts
            steps = end // spacing
            series: list[dict[str, str]] = []
            for slo in (s for s in chosen if int(s.window.seconds) == window):
                tried[slo.name] = list(_spendings(slo, parts, steps))
                for index, (_, shares, _) in enumerate(tried[slo.name]):
                    labels = {"service": slo.service, "slo": slo.name, **_group(slo), CASE: f"{index}"}
                    # The moment of the end is off this series' grid, so that the last sample is a little older.
                    errors = " ".join(f"{1000 * share:.10g}" for share in shares)
                    series.append({"series": _named(names.ERRORS_SLOW, labels), "values": errors})
                    series.append({"series": _named(names.TOTAL_SLOW, labels), "values": f"1000x{steps - 1}"})
            looks = [
                {"eval_time": f"{end}s", "alertname": a, "exp_alerts": []} for a in (names.ALERT_EXHAUSTED, names.ALERT_FREEZE)
            ]
            tests.append({"interval": f"{spacing}s", "input_series": series, "alert_rule_test": looks})

        def check(looks: Sequence[Look]) -> None:
            for alert, severity in ((a, s) for slo in chosen for a, s in _budget_alerts(slo)):
                for slo in chosen:
                    if (alert, severity) not in _budget_alerts(slo):
                        continue
                    fired = [a for k in looks for a in k.alerts if k.what == alert and a[0].get("slo") == slo.name]
                    by_case = {a[0].get(CASE): a for a in fired}
                    messages = []
                    for index, (what, _, expected) in enumerate(tried[slo.name]):
                        fires = alert in expected
                        if (str(index) in by_case) is not fires:
                            want, is_ = ("should fire", "is quiet") if fires else ("should be quiet", "fires")
                            messages.append(f"{what}: it {want}, and {is_}")
                    labels = self._labels(slo, alert, severity)
                    wanted = [{**labels, **_group(slo), CASE: str(a[0].get(CASE))} for a in fired]
                    messages += self._complete(fired, wanted, slo.name, self.service.title)
                    subject = f"{slo.service}/{slo.name}"
                    self.found.fail("budget", alert, subject, messages, slo_path(slo, self.model))

        # The slow tier first: here the alerts read what it counts.
        yield self.job(
            "budget",
            end,
            tests,
            check,
            group_eval_order=self.order(names.ALERT_EXHAUSTED if any(s.exhausted for s in chosen) else names.ALERT_FREEZE),
        )

    # --- thresholds and probes ---

    def causes(self) -> Iterator[Job]:
        """Threshold alerts and probes, each step by step, with nothing but the groups that hold them."""
        for alert in self.service.alerts:
            yield from self._threshold(alert)
        for probe in self.service.probes:
            if probe.severity:
                yield from self._probe(probe)

    def _only(self, alert: str) -> str | None:
        """The rule file with nothing but the groups that hold an alert; None when none does."""
        mine = [g for g in self.groups if any(r.get("alert") == alert for r in g["rules"])]
        return yaml.dump({"groups": mine}, sort_keys=False, allow_unicode=True, width=10**9) if mine else None

    def _threshold(self, alert: ResolvedAlert) -> Iterator[Job]:
        subject, path = f"{alert.service}", (*self.at, "alerts", alert.name)
        text = self._only(alert.name)
        if text is None:
            self.found.fail("thresholds", alert.name, subject, ["no rule makes this alert"], path)
            return
        query, above, limit = alert.expr, alert.above is not None, alert.above or alert.below
        number = float(limit.value) if limit is not None else None
        if limit is None and not alert.absent and (compared := _compared(alert.expr)) is not None:
            query, above, number = compared
        over, under = inputs.around(number, above=above) if number is not None else (1.0, 0.0)
        reach = int(max((r for r in promql.ranges(query)), default=0))
        replaced = None
        try:
            if alert.absent:
                gone = _absent(query)
                bad: list[inputs.Feed] = []
                good = inputs.solved(gone, 1.0)
            elif names.ERRORS_RATE in query or names.ERRORS_SLOW in query:
                good, bad = _recorded_share(query, under), _recorded_share(query, over)
            elif number is None:
                raise inputs.FreeError("it compares in a way of its own")
            else:
                if "histogram_quantile" in query:
                    # Within a bucket a percentile is interpolated: well on either side of it.
                    over, under = (number * 3, number / 3) if above else (number / 3, number * 3)
                good, bad = inputs.solved(query, under), inputs.solved(query, over)
        except inputs.FreeError as error:
            self.found.cannot(alert.name, subject, f"the query that it compares: {error}")
            replaced, problem = self._replaced(text, alert)
            if replaced is None:
                self.found.fail("thresholds", alert.name, subject, [problem], path)
                return
            text, reach = replaced, 0
            free = "proof_input"
            if alert.absent or number is None:
                good, bad = [], [inputs.Feed(free, (), "gauge", (1.0,))]
            else:
                good, bad = [inputs.Feed(free, (), "gauge", (under,))], [inputs.Feed(free, (), "gauge", (over,))]
        yield self._stepwise(alert, text, good, bad, reach, path)

    def _replaced(self, text: str, alert: ResolvedAlert) -> tuple[str | None, str]:
        """The rules with a plain series instead of the query that no input can be made for."""
        data = yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader
        for group in data["groups"]:
            for rule in group["rules"]:
                if rule.get("alert") == alert.name:
                    if alert.expr not in rule["expr"]:
                        return None, f"its rule must ask for {alert.expr}, and asks for {rule['expr'].strip()}"
                    rule["expr"] = rule["expr"].replace(alert.expr, "proof_input")
        return yaml.dump(data, sort_keys=False, allow_unicode=True, width=10**9), ""

    def _stepwise(
        self, alert: ResolvedAlert, text: str, good: Sequence[inputs.Feed], bad: Sequence[inputs.Feed], reach: int, path: Path_
    ) -> Job:
        hold = int(alert.hold.seconds)
        every = int(self.service.interval.seconds)
        step = EVALUATION
        while step * 100 < reach + hold:
            step *= 2
        interval = min(every, step)
        while step % interval:
            interval -= 1
        settle = _up(max(reach, 300) + 2 * step, step)
        firing = _up(reach + hold + 4 * step, step)
        begin, end = settle, settle + firing
        last = end + settle
        merged: dict[tuple[str, tuple[tuple[str, str], ...], str], list[Any]] = {}
        for place, feeds in ((0, good), (1, bad), (2, good)):
            for one in feeds:
                merged.setdefault((one.name, one.labels, one.kind), [None, None, None])[place] = one.values[0]
        lengths = (begin, end - begin, settle + step)
        series = []
        for (name, labels, kind), values in merged.items():
            written = inputs.Feed(name, labels, kind, tuple(values)).written(lengths, interval)
            series.append({"series": inputs.Feed(name, labels, kind, ()).series, "values": written})
        before = [begin - step]
        if hold > step:
            # It cannot have held for long enough before this, whatever the query looks back over.
            before.append(begin + (hold - 1) // step * step - step)
        moments = {"before": before, "during": [end - step], "after": [last]}
        looks = [
            {"eval_time": f"{t}s", "alertname": alert.name, "exp_alerts": []}
            for t in sorted({t for m in moments.values() for t in m})
        ]

        def check(found: Sequence[Look]) -> None:
            at = {k.at: list(k.alerts) for k in found if k.what == alert.name}
            messages = []
            side = _side(alert)
            if any(at.get(t) for t in moments["before"][:1]):
                messages.append(f"its value is not {side}: it should be quiet, and fires")
            if any(at.get(t) for t in moments["before"][1:]):
                messages.append(f"it must hold for {alert.hold} before it fires, and fires earlier")
            fired = at.get(moments["during"][0], [])
            if not fired:
                messages.append(f"its value is {side} for {_clock(firing)}: it should fire, and is quiet")
            if any(at.get(t) for t in moments["after"]):
                messages.append(f"its value is not {side} any more for {_clock(settle)}: it should be over, and fires")
            want = {**self.model.labels, "alertname": alert.name, "service": alert.service, "owner": alert.owner}
            want |= {"tier": self.service.tier, "severity": alert.severity}
            # The query's own labels come beside them.
            wanted = [{**labels, **want} for labels, _ in fired]
            messages += self._complete(
                fired, wanted, alert.name, self.service.title, runbook=alert.runbook or self.service.runbook
            )
            self.found.fail("thresholds", alert.name, alert.service, messages, path)

        test = {"interval": f"{interval}s", "input_series": series, "alert_rule_test": looks}
        return self.job(f"alert {alert.name}", step, [test], check, text=text)

    def _probe(self, probe: ResolvedProbe) -> Iterator[Job]:
        subject, path = f"{probe.service}/{probe.name}", (*self.at, "probes", probe.name)
        text = self._only(names.ALERT_PROBE)
        if text is None:
            self.found.fail("probes", names.ALERT_PROBE, subject, ["no rule makes this alert"], path)
            return
        every, n = int(probe.interval.seconds), probe.failures
        # Results, one each interval: well, one failure too few, well, as many as it takes, well.
        pattern = [1] * (n + 2) + [0] * (n - 1) + [1] * (n + 1) + [0] * n + [1] * 2
        begin = (n + 2 + n - 1 + n + 1) * every
        moments = {
            "few": (2 * n) * every,
            "early": begin + (n - 2) * every,
            "due": begin + (n - 1) * every,
            "over": begin + n * every,
        }
        labels = {"job": names.PROBE_JOB, "service": probe.service, "probe": probe.name}
        slow = probe.slower_than
        tests = []
        kinds = ["fails"] + (["is too slow"] if slow is not None else [])
        for kind in kinds:
            success = pattern if kind == "fails" else [1] * len(pattern)
            limit = float(slow.seconds) if slow is not None else 1.0
            seconds = [limit * (0.98 if ok or kind == "fails" else 1.02) for ok in pattern]
            other = {**labels, "probe": f"not-{probe.name}"}
            series = [
                (_named("probe_success", labels), " ".join(map(str, success))),
                (_named("probe_duration_seconds", labels), " ".join(f"{s:.6g}" for s in seconds)),
                (_named("probe_success", other), " ".join(["0"] * len(pattern))),
            ]
            looks = [
                {"eval_time": f"{t}s", "alertname": names.ALERT_PROBE, "exp_alerts": []}
                for t in sorted({*moments.values()})
                if t >= 0
            ]
            tests.append(
                {
                    "interval": f"{every}s",
                    "input_series": [{"series": a, "values": b} for a, b in series],
                    "alert_rule_test": looks,
                }
            )

        def check(found: Sequence[Look]) -> None:
            messages = []
            for index, kind in enumerate(kinds):
                at = {
                    k.at: [a for a in k.alerts if a[0].get("probe") == probe.name]
                    for k in found
                    if k.test.endswith(f"/{index}")
                }
                if n > 1 and (at.get(moments["few"]) or at.get(moments["early"])):
                    messages.append(f"it {kind} {_times(n - 1)}: it should be quiet, and fires")
                if n == 1 and at.get(moments["early"]):
                    messages.append("it does not fail: it should be quiet, and fires")
                fired = at.get(moments["due"], [])
                if not fired:
                    messages.append(f"it {kind} {_times(n)}: it should fire, and is quiet")
                if at.get(moments["over"]):
                    messages.append("it is well again: the alert should be over, and fires")
                want = {**self.model.labels, "alertname": names.ALERT_PROBE, "service": probe.service, "owner": probe.owner}
                want |= {"tier": self.service.tier, "severity": str(probe.severity), "probe": probe.name}
                book = probe.runbook or self.service.runbook
                messages += self._complete(fired, [want] * len(fired), probe.name, self.service.title, runbook=book)
            self.found.fail("probes", names.ALERT_PROBE, subject, messages, path)

        yield self.job(f"probe {probe.name}", every, tests, check, text=text)

    # --- what an alert says ---

    def _labels(self, slo: ResolvedSlo, alert: str, severity: str) -> dict[str, str]:
        who = {"service": slo.service, "slo": slo.name, "owner": slo.owner, "tier": slo.tier}
        return {**self.model.labels, "alertname": alert, "severity": severity, **who}

    def _complete(
        self, fired: Sequence[Fired], wanted: Sequence[Mapping[str, str]], about: str, title: str, *, runbook: Any = None
    ) -> list[str]:
        """What is wrong with the labels and annotations of an alert."""
        messages: list[str] = []
        for (labels, texts), want in zip(fired, wanted, strict=False):
            lost = {k: v for k, v in want.items() if labels.get(k) != v}
            more = sorted(set(labels) - set(want))
            if lost:
                said = ", ".join(f"{k}={labels.get(k, 'nothing')}" for k in lost)
                messages.append(f"it must have {', '.join(f'{k}={v}' for k, v in lost.items())}, and has {said}")
            if more:
                messages.append(f"it has a label that it should not have: {', '.join(more)}")
            messages += _annotations(texts, self.model, self.service, about, title, runbook)
        return list(dict.fromkeys(messages))


def _annotations(
    annotations: Mapping[str, str], model: Model, service: ResolvedService, about: str, title: str, runbook: Any
) -> list[str]:
    messages = []
    for name in ("summary", "description", "runbook_url", "dashboard_url"):
        if not annotations.get(name, "").strip():
            messages.append(f"it must say its {name}, and says nothing")
    for name, text in annotations.items():
        if "<error expanding template" in text or "<no value>" in text or "%!" in text:
            messages.append(f"its {name} must be filled in, and is {text[:160]}")
    summary = annotations.get("summary", "")
    if summary and service.title not in summary and service.name not in summary and title not in summary:
        messages.append(f"its summary must name {service.title}, and is {summary[:160]}")
    link, dashboard = annotations.get("runbook_url", ""), annotations.get("dashboard_url", "")
    if runbook is not None and runbook.url:
        if link and link != runbook.url:
            messages.append(f"its runbook_url must be {runbook.url}, and is {link}")
    elif link and not (link.startswith(f"{model.grafana}/d/{names.runbook_uid(service.name)}") and about in link):
        messages.append(f"its runbook_url must lead to the runbook of {about}, and is {link}")
    if dashboard and not dashboard.startswith(f"{model.grafana}/d/{names.service_uid(service.name)}"):
        messages.append(f"its dashboard_url must lead to the page of {service.name}, and is {dashboard}")
    return messages


def _named(name: str, labels: Mapping[str, str]) -> str:
    return name + "{" + ",".join(f"{k}={quoted(v)}" for k, v in labels.items()) + "}"


def _group(slo: ResolvedSlo) -> dict[str, str]:
    return {label: f"a-{label}" for label in slo.by}


def _histories(labels: Mapping[str, str], history: Sequence[scenarios.Span], steps: int, spacing: int) -> list[dict[str, str]]:
    """A history as the recorded samples that rules read: those of 30 s as far as they reach, and sums of five minutes."""
    recent = min(steps, FAST_REACH // spacing)
    out = []
    for names_, length in (((names.ERRORS_RATE, names.TOTAL_RATE), recent), ((names.ERRORS_SLOW, names.TOTAL_SLOW), steps)):
        if names_[0] == names.ERRORS_SLOW and steps * spacing <= FAST_REACH:
            continue
        gap = steps - length
        # The test begins a step before the first sample of the longest window.
        head = f"_x{gap + 1} "
        for name, values in zip(names_, scenarios.values(history, length, spacing), strict=True):
            out.append({"series": _named(name, labels), "values": head + values})
    if steps * spacing < 86400:
        # So short a history has no sample at any moment at which the rules look for its beginning.
        out.append({"series": _named(names.HISTORY_START, labels), "values": f"0x{steps}"})
    return out


def _budget_alerts(slo: ResolvedSlo) -> list[tuple[str, str]]:
    found = [(names.ALERT_EXHAUSTED, slo.exhausted)] if slo.exhausted else []
    return found + ([(names.ALERT_FREEZE, slo.freeze[1])] if slo.freeze else [])


def _spendings(slo: ResolvedSlo, parts: int, steps: int) -> Iterator[tuple[str, list[float], set[str]]]:
    """Ways to spend a budget: in words, the share of bad events in each step, and the alerts that must fire at the end."""
    budget = float(slo.budget)
    exhausted = {names.ALERT_EXHAUSTED} if slo.exhausted else set()
    freeze = {names.ALERT_FREEZE} if slo.freeze else set()

    def alerts(spent: float) -> set[str]:
        stop = slo.freeze is not None and 1 - spent < float(slo.freeze[0])
        return (exhausted if spent >= 1 else set()) | (freeze if stop else set())

    shares = {0.98, 1.02}
    if slo.freeze:
        shares |= {(1 - float(slo.freeze[0])) * 0.98, (1 - float(slo.freeze[0])) * 1.02}
    for spent in sorted(shares):
        yield f"{spent:.1%} of the budget is spent", [budget * spent] * steps, alerts(spent)
    # Spent all at once: ten steps long, as long ago as the window reaches, and longer ago.
    burst = min(1.0, budget * parts / 10 * 1.2)
    spent = burst * 10 / parts / budget
    for words, first in (("just within", steps - parts + 3), ("before", steps - parts - 14)):
        bad = [0.0] * steps
        bad[first : first + 10] = [burst] * 10
        yield f"{spent:.0%} of the budget was spent {words} the window", bad, alerts(spent) if words != "before" else set()


def _reach(slo: ResolvedSlo) -> int:
    """How long after its last sample an SLI still has a value."""
    if slo.sli.kind == "probe":
        interval, _ = slo.context.probes[getattr(slo.sli, "name")]  # noqa: B009 - a field of this kind only
        return max(2 * int(interval.seconds) + 5, int(slo.context.range.seconds))
    if isinstance(slo.sli, sli.Limit) and promql.as_selector(slo.sli.expr) is None:
        # An expression of the file's own sees at once that a series has ended, unless it looks back itself.
        return int(max(promql.ranges(slo.sli.expr), default=0))
    return max(int(slo.context.range.seconds), 120 if slo.sli.kind == "logs" else 0)


def _up(seconds: int, step: int) -> int:
    return -(-seconds // step) * step


def _compared(query: str) -> tuple[str, bool, float] | None:
    """A query that compares with a number itself: what is compared, whether it is to be above, and the number."""
    expr = promql.parse(query)
    while isinstance(expr, pp.ParenExpr):
        expr = expr.expr
    if isinstance(expr, pp.BinaryExpr) and str(expr.op) in (">", "<", ">=", "<=") and isinstance(expr.rhs, pp.NumberLiteral):
        return str(expr.lhs.prettify()), str(expr.op).startswith(">"), float(expr.rhs.val)
    return None


def _absent(query: str) -> str:
    match = re.fullmatch(r"absent(?:_over_time)?\((.*)\)", query.strip(), re.DOTALL)
    if match is None:
        raise inputs.FreeError("it is no absence that can be made")
    call: Any = promql.parse(query)
    inner = call.args[0]
    selector = inner.vector_selector if isinstance(inner, pp.MatrixSelector) else inner
    return str(selector.prettify())


def _recorded_share(query: str, share: float) -> list[inputs.Feed]:
    """Recorded rates of the SLO that an alert names, with a share of bad events."""
    found = {}
    for one in promql.selectors(promql.parse(query)):
        labels = {str(m.name): str(m.value) for m in one.matchers.matchers}
        bad = one.name in (names.ERRORS_RATE, names.ERRORS_SLOW)
        found[str(one.name)] = inputs.Feed(
            str(one.name), tuple(sorted(labels.items())), "gauge", (1e6 * share if bad else 1e6,)
        )
    return list(found.values())


def _side(alert: ResolvedAlert) -> str:
    if alert.absent:
        return "absent"
    if alert.above is not None:
        return f"above {alert.above.text}"
    return f"below {alert.below.text}" if alert.below is not None else "what it asks for"


def _groups(found: Mapping[tuple[tuple[str, str], ...], float]) -> str:
    return "; ".join(",".join(f"{k}={v}" for k, v in key) or "all together" for key in found)


def _said(values: Sequence[float]) -> str:
    return " and ".join(f"{v:g}" for v in values) or "not there"


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n} times in a row"


def _clock(seconds: int) -> str:
    return scenarios.clock(seconds)
