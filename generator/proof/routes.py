"""Proof of the routes: whom each alert reaches at which time, what keeps it back, and who is told when it goes on.

A real Alertmanager reads the rendered routes and inhibitions. Each of its routes gets a receiver of its own that sends
nothing, so that Alertmanager itself says which routes an alert went to; the times at which those are muted are looked up
in the rendered configuration (`times`). What is expected is said here again, from the model alone.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import yaml

from generator import names
from generator.errors import LgtmError
from generator.model import Model, ResolvedMaintenance, ResolvedRoute, ResolvedTest, alert_labels
from generator.proof import times
from generator.proof.result import Findings, Path_, slo_path
from generator.receivers import Receiver, Secret
from generator.render import Artifact
from generator.units import Duration

CONFIG = "alertmanager/generated/alertmanager.yml"
# Keeps pairs of alerts apart from each other where they are tried on each other.
PAIR = "proof_pair"
# So many pairs of alerts are tried on each other; of a larger file only some of each kind.
MOST_PAIRS = 12_000

Labels = Mapping[str, str]
Key = frozenset[tuple[str, str]]
# Seconds that a route waits, and whom it tells.
Told = tuple[float, frozenset[str]]

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Node:
    """A route of the rendered tree with what it inherits."""

    receiver: str
    wait: float
    mute: tuple[str, ...]
    active: tuple[str, ...]


@dataclass(frozen=True)
class Known:
    """An alert that the file can make."""

    subject: str
    labels: Labels
    path: Path_

    @property
    def key(self) -> Key:
        return frozenset(self.labels.items())

    @property
    def name(self) -> str:
        return self.labels["alertname"]

    @property
    def severity(self) -> str:
        return self.labels["severity"]


@dataclass
class Routed:
    """What Alertmanager did: for each alert its routes and groups; for each alert those that keep it back."""

    nodes: dict[Key, tuple[int, ...]] = field(default_factory=dict)
    groups: dict[Key, tuple[tuple[int, Key], ...]] = field(default_factory=dict)
    # Source, target.
    muted: set[tuple[Key, Key]] = field(default_factory=set)
    tried: set[tuple[Key, Key]] = field(default_factory=set)


# The JSON of a call to Alertmanager: method, path, body.
Ask = Callable[[str, str, Any], Any]


class RoutesError(LgtmError):
    """Alertmanager did not take the configuration, or did not answer."""


class RefusedError(Exception):
    """Alertmanager did not take the configuration; its own words."""


def known_alerts(model: Model) -> list[Known]:
    """Every alert of the file, one group of each, and the heartbeat."""
    slos = {(s.service, s.name): s for s in model.slos}
    found = []
    for subject, labels in alert_labels(model):
        service = labels["service"]
        if "slo" in labels:
            slo = slos[service, labels["slo"]]
            groups = {} if labels["alertname"] == names.ALERT_NO_DATA else {label: f"a-{label}" for label in slo.by}
            found.append(Known(subject, {**labels, **groups}, slo_path(slo, model)))
        elif "probe" in labels:
            found.append(Known(subject, labels, ("services", service, "probes", labels["probe"])))
        else:
            found.append(Known(service, labels, ("services", service, "alerts", labels["alertname"])))
    heartbeat = {**model.labels, "service": "lgtm", "severity": "none", "alertname": names.ALERT_WATCHDOG}
    return [*found, Known("lgtm", heartbeat, ("routing", "watchdog"))]


# --- what is expected ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Expected:
    """The routing of the file, in small: for an alert at a moment who is told, and after how long."""

    model: Model

    def told(self, alert: Known, moment: dt.datetime) -> tuple[frozenset[Told], Path_]:
        """Whom an alert reaches, and the place in the file that says so."""
        routing = self.model.routing
        if alert.name == names.ALERT_WATCHDOG:
            return _told([(0.0, routing.watchdog)]), ("routing", "watchdog")
        if (silent := self.silence(alert, moment)) is not None:
            return frozenset(), ("maintenance", silent.name)
        for index, route in enumerate(routing.routes):
            if self._matches(route, alert.labels) and self._open(route, moment):
                steps = [(float(after.seconds), to) for after, to in route.escalate]
                return _told([(float(routing.wait.seconds), route.to), *steps]), ("routing", "routes", index)
        return _told([(float(routing.wait.seconds), routing.default)]), ("routing", "default")

    def silence(self, alert: Known, moment: dt.datetime) -> ResolvedMaintenance | None:
        """The maintenance window that mutes an alert."""
        for window in self.model.maintenance:
            if (not window.services or alert.labels["service"] in window.services) and times.is_open(window.when, moment):
                return window
        return None

    def like(self, alert: Known) -> tuple[object, ...]:
        """What its routing depends on: alerts for which this is the same are routed the same at any time."""
        matched = tuple(i for i, route in enumerate(self.model.routing.routes) if self._matches(route, alert.labels))
        windows = tuple(m.name for m in self.model.maintenance if not m.services or alert.labels["service"] in m.services)
        return alert.name == names.ALERT_WATCHDOG, matched, windows

    @staticmethod
    def _matches(route: ResolvedRoute, labels: Labels) -> bool:
        return all(labels.get(label, "") in values for label, values in route.match.items())

    def _open(self, route: ResolvedRoute, moment: dt.datetime) -> bool:
        if route.during is not None:
            return times.is_open(self.model.routing.hours[route.during], moment)
        if route.outside is not None:
            return not times.is_open(self.model.routing.hours[route.outside], moment)
        return True

    def inhibits(self, source: Known, target: Known) -> bool:
        """Whether one alert keeps another one back."""
        s, t = source.labels, target.labels
        same = s.get("slo") is not None and (s["service"], s.get("slo")) == (t["service"], t.get("slo"))
        if same and (source.name, target.name) in _LOWER:
            return True
        if not self.is_outage(source):
            return False
        if t["service"] == s["service"]:
            return target.name == names.ALERT_NO_DATA
        return t["service"] in self.downstream(s["service"])

    def is_outage(self, alert: Known) -> bool:
        """Whether an alert means that its service is down."""
        if alert.severity != "critical":
            return False
        service = self.model.by_name.get(alert.labels["service"])
        flagged = {a.name for a in service.alerts if a.outage} if service is not None else set()
        return alert.name in {names.burn_alert("critical"), names.ALERT_PROBE, *flagged}

    def downstream(self, service: str) -> frozenset[str]:
        """The services that depend on one, directly or through others."""
        found: set[str] = set()
        waiting = [service]
        while waiting:
            now = waiting.pop()
            for other in self.model.services:
                if now in other.depends_on and other.name not in found and other.name != service:
                    found.add(other.name)
                    waiting.append(other.name)
        return frozenset(found)


_LOWER = {
    (names.burn_alert("critical"), names.burn_alert("warning")),
    (names.ALERT_EXHAUSTED, names.ALERT_FREEZE),
}


def _told(steps: Sequence[tuple[float, tuple[str, ...]]]) -> frozenset[Told]:
    return frozenset((wait, frozenset(to)) for wait, to in steps if to)


# --- what Alertmanager does ------------------------------------------------------------------------------------------


class Configuration:
    """The rendered configuration: its routes in order, and the same for the proof, with receivers that tell them apart."""

    def __init__(self, text: str) -> None:
        self.data: dict[str, Any] = yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader
        self.nodes: list[Node] = []
        root = self.data["route"]
        tree = self._walk(root, Node(str(root.get("receiver")), _seconds(root.get("group_wait", "30s")), (), ()))
        rules = [{**rule, "equal": [*rule.get("equal", ()), PAIR]} for rule in self.data.get("inhibit_rules") or ()]
        self.text: str = yaml.safe_dump(
            {
                "route": tree,
                "receivers": [{"name": f"node-{i}"} for i in range(len(self.nodes))],
                "inhibit_rules": rules,
            },
            sort_keys=False,
        )
        self.intervals = {i["name"]: i.get("time_intervals") or [] for i in self.data.get("time_intervals") or ()}

    def _walk(self, route: Mapping[str, Any], parent: Node) -> dict[str, Any]:
        own = Node(
            str(route.get("receiver", parent.receiver)),
            _seconds(route["group_wait"]) if "group_wait" in route else parent.wait,
            tuple(route.get("mute_time_intervals") or ()),
            tuple(route.get("active_time_intervals") or ()),
        )
        index = len(self.nodes)
        self.nodes.append(own)
        left_out = ("receiver", "mute_time_intervals", "active_time_intervals", "routes", "group_wait", "repeat_interval")
        kept = {k: v for k, v in route.items() if k not in (*left_out, "group_interval")}
        children = [self._walk(child, own) for child in route.get("routes") or ()]
        return {"receiver": f"node-{index}", **kept, **({"routes": children} if children else {})}

    def told(self, nodes: Sequence[int], moment: dt.datetime) -> frozenset[Told]:
        """Whom some of the routes tell at a moment."""
        found = []
        for index in nodes:
            node = self.nodes[index]
            muted = any(self._in(name, moment) for name in node.mute)
            if muted or (node.active and not any(self._in(name, moment) for name in node.active)):
                continue
            found.append((node.wait, tuple(self.members(node.receiver))))
        return _told(found)

    def _in(self, name: str, moment: dt.datetime) -> bool:
        return any(times.contains(entry, moment) for entry in self.intervals.get(name, ()))

    @staticmethod
    def members(receiver: str) -> list[str]:
        """The file's receivers that one of Alertmanager's stands for; what it holds is checked against them."""
        return [] if receiver == "nobody" else receiver.split(" + ")


def _clock(seconds: float) -> str:
    return str(Duration(Decimal(int(seconds))))


def _seconds(text: object) -> float:
    return float(Duration.of(str(text)).seconds)


def ask_all(
    ask: Ask, configuration: Configuration, expected: Expected, alerts: Sequence[Known], pause: Callable[[], None]
) -> Routed:
    """Have Alertmanager route all alerts, and try them on each other."""
    routed = Routed()
    _post(ask, [dict(a.labels) for a in alerts])
    wanted = {a.key for a in alerts}
    for _ in range(200):
        routed.nodes, routed.groups = _routes(ask)
        if wanted <= set(routed.nodes):
            break
        pause()
    else:
        raise RoutesError("Alertmanager did not route every alert in time.", "Is this machine very busy? Try again.")
    pairs = list(_pairs(expected, alerts))
    routed.tried = {(s.key, t.key) for s, t in pairs}
    posted = []
    for index, (source, target) in enumerate(pairs):
        posted += [{**source.labels, PAIR: f"{index}"}, {**target.labels, PAIR: f"{index}"}]
    _post(ask, posted)
    for _ in range(200):
        if sum(1 for _ in _all(ask)) >= len({frozenset(p.items()) for p in posted}):
            break
        pause()
    for labels in _inhibited(ask):
        index = int(labels.pop(PAIR, -1))
        if index < 0:
            continue
        source, target = pairs[index]
        key = frozenset(labels.items())
        routed.muted.add((source.key, target.key) if key == target.key else (target.key, source.key))
    return routed


def _post(ask: Ask, alerts: Sequence[Mapping[str, str]]) -> None:
    # In the past and in the future of any clock.
    when = {"startsAt": "2020-01-01T00:00:00Z", "endsAt": "2120-01-01T00:00:00Z"}
    for start in range(0, len(alerts), 4000):
        ask("POST", "/api/v2/alerts", [{"labels": dict(a), **when} for a in alerts[start : start + 4000]])


def _routes(ask: Ask) -> tuple[dict[Key, tuple[int, ...]], dict[Key, tuple[tuple[int, Key], ...]]]:
    nodes: dict[Key, list[int]] = defaultdict(list)
    groups: dict[Key, list[tuple[int, Key]]] = defaultdict(list)
    for group in ask("GET", "/api/v2/alerts/groups", None):
        index = int(group["receiver"]["name"].removeprefix("node-"))
        for alert in group["alerts"]:
            key = frozenset(alert["labels"].items())
            nodes[key].append(index)
            groups[key].append((index, frozenset(group["labels"].items())))
    return {k: tuple(sorted(v)) for k, v in nodes.items()}, {k: tuple(v) for k, v in groups.items()}


def _all(ask: Ask) -> Iterator[dict[str, str]]:
    for alert in ask("GET", f'/api/v2/alerts?filter={PAIR}!=""', None):
        yield dict(alert["labels"])


def _inhibited(ask: Ask) -> Iterator[dict[str, str]]:
    for alert in ask("GET", "/api/v2/alerts?active=false&silenced=false&unprocessed=false&inhibited=true", None):
        if alert["status"]["inhibitedBy"]:
            yield dict(alert["labels"])


def _pairs(expected: Expected, alerts: Sequence[Known]) -> Iterator[tuple[Known, Known]]:
    """Pairs of alerts to try on each other, each once; which of the two keeps the other back, Alertmanager says."""
    if len(alerts) * (len(alerts) - 1) // 2 <= MOST_PAIRS:
        for index, one in enumerate(alerts):
            yield from ((one, other) for other in alerts[index + 1 :])
        return
    # Of other services, one of each name and severity stands for all.
    kinds: dict[tuple[str, str, str], Known] = {}
    for alert in alerts:
        kinds.setdefault((alert.labels["service"], alert.name, alert.severity), alert)
    by_service: dict[str, list[Known]] = defaultdict(list)
    for alert in alerts:
        by_service[alert.labels["service"]].append(alert)
    seen: set[frozenset[Key]] = set()
    sources = [a for a in kinds.values() if a.severity == "critical" or a.name == names.ALERT_EXHAUSTED]
    near = ((s, t) for s in alerts for t in by_service[s.labels["service"]])
    below = ((s, t) for s in sources for d in sorted(expected.downstream(s.labels["service"])) for t in by_service[d])
    far = ((s, t) for s in sources for t in kinds.values())
    count = 0
    for part in (near, below, far):
        for source, target in part:
            pair = frozenset((source.key, target.key))
            if source.key != target.key and pair not in seen:
                seen.add(pair)
                yield source, target
                count += 1
                if part is far and count >= 2 * MOST_PAIRS:
                    return


# --- both together ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reach:
    """Whom an alert reaches at once and later; where that depends on the time, in words when whom."""

    now: tuple[str, ...]
    later: tuple[str, ...]
    times: tuple[str, ...]


@dataclass(frozen=True)
class Routing:
    """What came of it: whom each alert reaches, the file's tests by name and whether each holds, and facts in words."""

    reached: Mapping[tuple[str, str], Reach] = field(default_factory=dict)
    tests: tuple[tuple[str, bool], ...] = ()
    facts: tuple[str, ...] = ()


def check(
    model: Model,
    configuration: Configuration,
    routed: Routed,
    alerts: Sequence[Known],
    found: Findings,
    wanted: Callable[[Known], bool],
) -> Routing:
    """Compare what Alertmanager did with what the file says, and with its ``tests:``, for the alerts that are ``wanted``."""
    expected = Expected(model)
    concerned = [alert for alert in alerts if wanted(alert)]
    tests = tuple(_check_tests(model, configuration, routed, alerts, concerned, found))
    reached = _check_routes(expected, configuration, routed, concerned, found)
    _check_inhibitions(expected, routed, alerts, concerned, found)
    _check_root(model, configuration, found)
    _check_receivers(model, configuration, found)
    return Routing(reached, tests, tuple(_outages(expected, configuration, routed, alerts)))


def _check_routes(
    expected: Expected, configuration: Configuration, routed: Routed, concerned: Sequence[Known], found: Findings
) -> dict[tuple[str, str], Reach]:
    moments = times.moments(expected.model)
    reached: dict[tuple[str, str], Reach] = {}
    known: dict[tuple[object, ...], tuple[list[str], Path_, Reach]] = {}
    for alert in concerned:
        nodes = routed.nodes.get(alert.key, ())
        like = (nodes, expected.like(alert))
        if like not in known:
            known[like] = _compared(configuration, expected, alert, nodes, moments)
        messages, path, reach = known[like]
        found.fail("routes", alert.name, alert.subject, messages, path)
        reached[alert.subject, f"{alert.name} {alert.severity}"] = reach
    return reached


def _compared(
    configuration: Configuration,
    expected: Expected,
    alert: Known,
    nodes: Sequence[int],
    moments: Sequence[dt.datetime],
) -> tuple[list[str], Path_, Reach]:
    messages: list[str] = []
    path: Path_ = ("routing",)
    at: dict[frozenset[Told], dt.datetime] = {}
    for moment in moments:
        want, place = expected.told(alert, moment)
        got = configuration.told(nodes, moment)
        at.setdefault(got, moment)
        if want != got:
            path = place if not messages else path
            when = f"on {times.said(moment, expected.model.timezone)}" if len(moments) > 2 else "at any time"
            messages.append(f"{when} it must reach {_people(want)}, and reaches {_people(got)}")
    steps = [sorted(told, key=lambda s: s[0]) for told in at]
    first = min((wait for told in steps for wait, _ in told), default=0.0)
    now = dict.fromkeys(name for told in steps for wait, to in told if wait == first for name in sorted(to))
    later = dict.fromkeys(
        f"{name} after {_clock(wait)}" for told in steps for wait, to in told if wait > first for name in sorted(to)
    )
    words: tuple[str, ...] = ()
    if len(at) > 1:
        words = tuple(f"{times.said(moment, expected.model.timezone)}: {_people(told)}" for told, moment in at.items())
    return messages, path, Reach(tuple(now), tuple(later), words)


def _people(told: frozenset[Told]) -> str:
    if not told:
        return "nobody"
    first = min(wait for wait, _ in told)
    return ", then ".join(
        ", ".join(sorted(to)) + (f" after {_clock(wait)}" if wait > first else "")
        for wait, to in sorted(told, key=lambda s: (s[0], sorted(s[1])))
    )


def _check_tests(
    model: Model,
    configuration: Configuration,
    routed: Routed,
    alerts: Sequence[Known],
    concerned: Sequence[Known],
    found: Findings,
) -> Iterator[tuple[str, bool]]:
    """Hold what Alertmanager did against the expectations under ``tests:``; each by name, and whether it is so."""
    for index, test in enumerate(model.tests):
        mine = [alert for alert in concerned if test.is_about(alert.labels)]
        if not mine:
            continue
        messages = []
        for alert in mine:
            for moment in _moments_of(model, test):
                when = f"on {times.said(moment, model.timezone)} " if test.at is not None else ""
                told = configuration.told(routed.nodes.get(alert.key, ()), moment)
                first = min((wait for wait, _ in told), default=0.0)
                now = {name for wait, to in told for name in to if wait == first}
                later = {name for wait, to in told for name in to if wait > first}
                is_ = f"reaches {_people(told)}"
                for receivers, wrong, words in (
                    (test.reaches, set(test.reaches) - now, "reach"),
                    (test.escalates, set(test.escalates) - later, "escalate to"),
                    (test.never, set(test.never) & (now | later), "not reach"),
                ):
                    if receivers and wrong:
                        messages.append(f"{when}it must {words} {', '.join(sorted(wrong))}, and {is_}")
                if test.quiet and told:
                    messages.append(f"{when}nobody must be told, and it {is_}")
            if test.inhibited_by is not None and not any(
                a.labels["service"] == test.inhibited_by and (a.key, alert.key) in routed.muted for a in alerts
            ):
                messages.append(f"an outage of {test.inhibited_by} must keep it back, and does not")
        found.fail(f"test {test.name!r}", test.alert, mine[0].subject, list(dict.fromkeys(messages)), ("tests", index))
        yield test.name, not messages


def _moments_of(model: Model, test: ResolvedTest) -> list[dt.datetime]:
    if test.at is None:
        return times.moments(model)
    zone = times.zone(model.timezone)
    if isinstance(test.at, dt.datetime):
        return [test.at.replace(tzinfo=zone)]
    day, minute = test.at.day, test.at.minute
    return [
        dt.datetime.combine(week + dt.timedelta(days=day), dt.time(minute // 60, minute % 60), zone) for week in times.WEEKS
    ]


def _check_inhibitions(
    expected: Expected, routed: Routed, alerts: Sequence[Known], concerned: Sequence[Known], found: Findings
) -> None:
    by_key = {a.key: a for a in alerts}
    wrong: dict[Key, list[str]] = defaultdict(list)
    for one, other in routed.tried:
        for source, target in ((one, other), (other, one)):
            s, t = by_key[source], by_key[target]
            want, got = expected.inhibits(s, t), (source, target) in routed.muted
            if want and not got and not ((target, source) in routed.muted and expected.inhibits(t, s)):
                wrong[target].append(f"{_named(s)} must keep it back, and does not")
            elif got and not want:
                wrong[target].append(f"{_named(s)} keeps it back, and must not")
    for alert in concerned:
        found.fail("inhibition", alert.name, alert.subject, sorted(wrong.get(alert.key, ())), alert.path)


def _named(alert: Known) -> str:
    return f"{alert.name} of {alert.subject}"


def _check_root(model: Model, configuration: Configuration, found: Findings) -> None:
    root, routing = configuration.data["route"], model.routing
    for name, want in (("group_wait", routing.wait), ("group_interval", routing.interval), ("repeat_interval", routing.repeat)):
        if _seconds(root.get(name, "0s")) != float(want.seconds):
            found.fail(
                "grouping", "all", "routing", [f"{name} must be {want}, and is {root.get(name)}"], ("routing", "grouping")
            )
    if list(root.get("group_by") or ()) != list(routing.group_by):
        message = f"alerts must be grouped by {', '.join(routing.group_by)}, and are by {', '.join(root.get('group_by') or ())}"
        found.fail("grouping", "all", "routing", [message], ("routing", "grouping"))


def _check_receivers(model: Model, configuration: Configuration, found: Findings) -> None:
    """Each receiver must hold what the file's receivers of its name are, and nothing else."""
    for receiver in configuration.data.get("receivers") or ():
        blocks = [(section, block) for section, many in receiver.items() if section != "name" for block in many]
        wanted = [
            (name, part) for name in configuration.members(receiver["name"]) for part in model.routing.receivers.get(name, ())
        ]
        for name, part in wanted:
            mine = [block for section, block in blocks if section == part.section]
            if not any(_facts(part) <= set(_texts(block)) for block in mine):
                found.fail(
                    "receivers",
                    "all",
                    f"receiver {name}",
                    [f"it must tell {part.kind} {', '.join(sorted(_facts(part))) or ''}, and does not"],
                    ("routing", "receivers", name),
                )
        sections = {part.section for _, part in wanted}
        for section in {s for s, _ in blocks} - sections:
            message = f"{receiver['name']} has {section}, which the file does not give it"
            found.fail("receivers", "all", f"receiver {receiver['name']}", [message], ("routing", "receivers"))


def _facts(part: Receiver) -> set[str]:
    """What tells a receiver from any other: its addresses, and where its secrets are."""
    facts = set()
    for name in type(part).model_fields:
        value = getattr(part, name)
        if isinstance(value, Secret):
            facts.add(value.path)
        elif name in ("url", "channel", "chat", "to", "topic") and isinstance(value, str | int) and not isinstance(value, bool):
            facts.add(str(value))
    return facts


def _texts(block: Any) -> Iterator[str]:
    if isinstance(block, dict):
        for value in block.values():
            yield from _texts(value)
    elif isinstance(block, list):
        for value in block:
            yield from _texts(value)
    else:
        yield str(block)


def _outages(expected: Expected, configuration: Configuration, routed: Routed, alerts: Sequence[Known]) -> Iterator[str]:
    """What an outage of each service that others depend on makes: alerts, those that are kept back, notifications."""
    at_once = min((node.wait for node in configuration.nodes), default=0.0)
    wait = max(at_once, configuration.nodes[0].wait)
    burning = {names.burn_alert("critical"), names.burn_alert("warning"), names.ALERT_PROBE}
    for service in expected.model.services:
        below = expected.downstream(service.name)
        if not below:
            continue
        firing = [
            a for a in alerts if a.labels["service"] in {service.name, *below} and (a.name in burning or expected.is_outage(a))
        ]
        kept = [t for t in firing if any((s.key, t.key) in routed.muted for s in firing)]
        sent = {
            group
            for a in firing
            if a not in kept
            for group in routed.groups.get(a.key, ())
            if configuration.nodes[group[0]].wait <= wait and configuration.members(configuration.nodes[group[0]].receiver)
        }
        people = sorted({n for index, _ in sent for n in configuration.members(configuration.nodes[index].receiver)})
        if firing:
            yield (
                f"An outage of {service.name} fires up to {len(firing)} alerts, here and in "
                f"{', '.join(sorted(below))}; {len(kept)} are kept back, and {len(sent)} "
                f"notification{'s go' if len(sent) != 1 else ' goes'} to {', '.join(people) or 'nobody'}."
            )


def configuration_of(artifacts: Sequence[Artifact]) -> Configuration | None:
    """The rendered configuration, None where there is none."""
    return next((Configuration(a.text) for a in artifacts if a.path == CONFIG), None)
