"""Drills: something is broken on purpose, and what follows is timed against what the rules promise.

A drill breaks, waits until the alert fires, until a receiver was told, heals, waits until the alert is over and until
that was told too. Each of these has a longest time that follows from the file: the burn rate's windows (`burn`), the
scrape interval, the evaluation, the grouping. Healing is done in any case, also after Ctrl-C, and every drill leaves a
record in ``.lgtm/drills/``.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import requests

from generator import burn, names, servers
from generator.errors import LgtmError
from generator.model import BurnWindow, Model, ResolvedAlert, ResolvedService, ResolvedSlo
from generator.progress import Report
from generator.project import Project
from generator.receivers import Webhook
from generator.render.rules import STEP
from generator.units import Duration

COMMAND_SECONDS = 60.0
# What a delivery and a look at it may take.
DELIVERY = 5.0
# How long Alertmanager holds an alert of which Prometheus says nothing more: four times its resend delay of a minute.
HELD = 240.0
BEAT = 60.0
# A started Prometheus reads its rules, evaluates one, and sends an alert again after at most a minute.
START = 120.0


class DrillError(LgtmError):
    """A drill that cannot be held, or that cannot be brought to its end."""


class UnhealedError(DrillError):
    """What was broken could not be healed."""


class Pager(Protocol):
    """What the drill asks of a pager that shows what reached it: the demo's."""

    def pages(self, after: int) -> list[dict[str, Any]]:
        """Notifications with an id above ``after``, oldest first."""

    def heartbeat(self) -> dict[str, Any]:
        """Its state: ``beats``, ``last``, ``lost``, ``silence_seconds``."""

    def refuse(self, path: str | None) -> None:
        """Refuse what comes to a path; None ends it."""


@dataclass(frozen=True)
class Breakage:
    """How it is broken and healed: the actions, and their words for people."""

    broken_by: str
    healed_by: str
    break_: Callable[[], None]
    heal: Callable[[], None]


@dataclass(frozen=True)
class Step:
    """One thing that is timed. ``seconds`` is None when it did not come about, ``longest`` None when nothing promises it."""

    name: str
    seconds: float | None
    longest: float | None

    @property
    def passed(self) -> bool:
        """Whether it came about in time."""
        return self.seconds is not None and (self.longest is None or self.seconds <= self.longest)


@dataclass
class Outcome:
    """A drill as it is recorded; times are ISO 8601 in UTC.

    ``state`` is ``running`` until it has been healed, then ``done``, ``interrupted``, ``failed`` or ``not healed``.

    ``notifications`` has for each receiver how many came about the alert (``firing``, ``resolved``: known of the demo's
    pager) and how many Alertmanager delivered and failed to deliver to it meanwhile, whatever they were about.
    """

    id: str
    target: str
    alert: Mapping[str, str]
    broken_by: str
    healed_by: str
    begun: str
    state: str = "running"
    steps: list[Step] = field(default_factory=list)
    notifications: dict[str, dict[str, int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def broken(self) -> bool:
        """Whether what it broke may still be so."""
        return self.state in ("running", "not healed")

    @property
    def passed(self) -> bool:
        """Whether everything that was waited for came in time."""
        return self.state == "done" and all(step.passed for step in self.steps)

    def as_json(self) -> dict[str, Any]:
        """Everything, for a program."""
        steps = [{**asdict(step), "passed": step.passed} for step in self.steps]
        return {**asdict(self), "steps": steps, "passed": self.passed}


# --- what is promised -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Promise:
    """Longest times in seconds: until the alert fires and is over, and for each condition until its own end is seen."""

    detect: float | None
    resolve: Mapping[tuple[Duration, Duration], float]
    wait: float
    interval: float


def promise(model: Model, service: ResolvedService, slo: ResolvedSlo, severity: str, ratio: Decimal) -> Promise:
    """What the burn-rate alert of an SLO promises for an outage in which a share of the events, from 0 to 1, is bad.

    Added to the windows' own times (`burn.times`) are: a scrape, half the range of the rate that the SLI is recorded with
    (four scrapes) when it begins and all of it when it ends, and one evaluation.
    """
    outage = burn.Outage("the drill", ratio)
    detect: list[float] = []
    resolve = {}
    scrape = float(service.interval.seconds)
    for condition in burn.conditions(slo):
        if condition.severity != severity:
            continue
        found = burn.times(condition.window, condition.threshold, outage)
        if found.detect is None or found.reset is None:
            continue
        detect.append(float(found.detect) + 3 * scrape + float(STEP.seconds))
        over = float(found.reset) + 5 * scrape + float(STEP.seconds)
        resolve[condition.window.long, condition.window.short] = over
    routing = model.routing
    return Promise(min(detect, default=None), resolve, float(routing.wait.seconds), float(routing.interval.seconds) + DELIVERY)


def promise_of_alert(model: Model, service: ResolvedService, alert: ResolvedAlert) -> Promise:
    """What a threshold alert promises: the ranges that it reads, its ``for``, a scrape and an evaluation."""
    ranges = [float(Duration.of(text).seconds) for text in re.findall(r"\[(\d+[smhdw])[\]:]", alert.expr)]
    step = float(service.interval.seconds) + float(STEP.seconds) + max(ranges, default=0.0)
    routing = model.routing
    never = Duration(Decimal(0))
    return Promise(
        step + float(alert.hold.seconds),
        {(never, never): step},
        float(routing.wait.seconds),
        float(routing.interval.seconds) + DELIVERY,
    )


# --- breaking and healing -------------------------------------------------------------------------------------------


def command(words: str, seconds: float = COMMAND_SECONDS) -> None:
    """Run a command without a shell, apart from this terminal's Ctrl-C. Raises DrillError when it fails or takes longer."""
    try:
        process = subprocess.Popen(
            _arguments(words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise DrillError(f"`{words}` cannot be run: {error}.", _NO_SHELL) from None
    try:
        said, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise DrillError(
            f"`{words}` was not over after {seconds:.0f} s.", "Have it return at once, and work in the background."
        ) from None
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if process.returncode != 0:
        last = (said.strip().splitlines() or ["it said nothing"])[-1]
        raise DrillError(f"`{words}` ended with {process.returncode}: {last}", "Try it by hand.")


_NO_SHELL = "It is run without a shell; for one: bash -c '…'"


def _arguments(words: str) -> list[str]:
    """A command's program and arguments. Raises DrillError when there is no such program."""
    try:
        arguments = shlex.split(words)
    except ValueError as error:
        raise DrillError(f"`{words}` cannot be run: {error}.", _NO_SHELL) from None
    if not arguments or shutil.which(arguments[0]) is None:
        what = f"there is no program {arguments[0]}" if arguments else "it is empty"
        raise DrillError(f"`{words}` cannot be run: {what}.", _NO_SHELL)
    return arguments


def commands(break_: str, heal: str, seconds: float = COMMAND_SECONDS) -> Breakage:
    """Break and heal by commands of the user's. Raises DrillError when one of them cannot be run: nothing is broken yet."""
    for words in (break_, heal):
        _arguments(words)
    return Breakage(break_, heal, lambda: command(break_, seconds), lambda: command(heal, seconds))


@contextlib.contextmanager
def _healed(breakage: Breakage, report: Report) -> Iterator[Callable[[], float]]:
    """Break it; yields what heals it and returns when. At the end it is healed in any case, once.

    Raises UnhealedError when that fails.
    """
    done: list[float] = []

    def heal() -> float:
        if not done:
            with _undisturbed(report):
                try:
                    breakage.heal()
                except LgtmError as error:
                    text = f"It was not healed, and may still be broken: {error.message}"
                    raise UnhealedError(text, f"Heal it: {breakage.healed_by}") from error
                done.append(time.time())
        return done[0]

    with _ended_by_signals():
        try:
            breakage.break_()
            yield heal
        except UnhealedError:
            raise  # a second try would be no other
        except BaseException as error:
            if isinstance(error, LgtmError):
                report(error.message)
            report(f"healing: {breakage.healed_by}")
            heal()
            raise
        heal()


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """What would end this process without a word ends it like Ctrl-C."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with _handlers(interrupt, signal.SIGTERM, signal.SIGHUP):
        yield


@contextlib.contextmanager
def _undisturbed(report: Report) -> Iterator[None]:
    """Signals wait: half healed is worse than late."""
    kept: list[int] = []

    def later(number: int, _: object) -> None:
        kept.append(number)
        report("healing first; this takes a moment")

    with _handlers(later, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        yield
    if kept:
        raise KeyboardInterrupt


@contextlib.contextmanager
def _handlers(handler: Callable[[int, Any], None], *numbers: signal.Signals) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


# --- what the servers say -------------------------------------------------------------------------------------------


@dataclass
class Watch:
    """Looks at Prometheus, Alertmanager and, where there is one, the pager, for one alert."""

    project: Project
    labels: Mapping[str, str]
    pager: Pager | None = None

    def __post_init__(self) -> None:
        self._prometheus = servers.Prometheus(self.project.url("prometheus"))
        self._alertmanager = servers.Alertmanager(self.project.url("alertmanager"))
        self._seen = max((page["id"] for page in self.pager.pages(0)), default=0) if self.pager else 0

    def _ours(self, labels: Mapping[str, str]) -> bool:
        return self.labels.items() <= labels.items()

    def active(self) -> set[str]:
        """The states that the alert has in Prometheus for one series or another: ``pending``, ``firing``, or none."""
        alerts = self._prometheus.json("/api/v1/alerts")["data"]["alerts"]
        return {alert["state"] for alert in alerts if self._ours(alert["labels"])}

    def firing(self) -> bool:
        """Whether the alert fires in Prometheus."""
        return "firing" in self.active()

    def value(self, query: str) -> float | None:
        """The first value of an instant query."""
        found = self._prometheus.json("/api/v1/query", query=query)["data"]["result"]
        return float(found[0]["value"][1]) if found else None

    def held(self) -> list[dict[str, Any]]:
        """The alert as Alertmanager has it: with ``receivers`` and ``status``."""
        return [alert for alert in self._alertmanager.json("/api/v2/alerts") if self._ours(alert["labels"])]

    def counters(self) -> dict[str, tuple[int, int]]:
        """Notifications by receiver since Alertmanager was started: all, and those that failed."""
        found: dict[str, tuple[int, int]] = {}
        samples = self._alertmanager.metrics("alertmanager_notifications_")
        for place, metric in enumerate(("alertmanager_notifications_total", "alertmanager_notifications_failed_total")):
            for sample in samples:
                receiver = sample.labels.get("receiver_name") or sample.labels.get("integration", "")
                if sample.name == metric:
                    counts = list(found.get(receiver, (0, 0)))
                    counts[place] += int(sample.value)
                    found[receiver] = (counts[0], counts[1])
        return found

    def told(self, status: str | None = None) -> list[dict[str, Any]]:
        """The pages about the alert that came since this was made; each with when it ``arrived``."""
        out = []
        for page in self.pager.pages(self._seen) if self.pager else ():
            body = page["body"] if isinstance(page["body"], dict) else {}
            for alert in body.get("alerts") or ():
                if self._ours(alert["labels"]) and status in (None, alert["status"]):
                    arrived = datetime.fromisoformat(page["received_at"]).timestamp()
                    # Alertmanager quotes the name as for a regular expression: `pager \\+ platform`.
                    receiver = re.sub(r"\\(.)", r"\1", body.get("receiver", "?"))
                    out.append({"arrived": arrived, "receiver": receiver, "status": alert["status"]})
        return out

    def reached(self, status: str, since: float, before: Mapping[str, tuple[int, int]], receivers: set[str]) -> float | bool:
        """When the first (the last, of ``resolved``) page with this status came; without a pager, whether a counter has risen.

        Pages from before the Unix time ``since`` are about something else: an alert may have other series.

        ``before`` are the counters to compare with; receivers that Alertmanager names for the alert are added to
        ``receivers``. A counter does not say what it counted, so it is asked only where no pager shows the page itself.
        """
        receivers.update(r["name"] for held in self.held() for r in held["receivers"])
        if self.pager is not None:
            times: list[float] = [page["arrived"] for page in self.told(status) if page["arrived"] >= since]
            return (min if status == "firing" else max)(times, default=False)
        now = self.counters()
        return any(_delivered(now, receiver) > _delivered(before, receiver) for receiver in receivers)

    def since(self) -> list[dict[str, Any]]:
        """Every page that came since this was made."""
        return self.pager.pages(self._seen) if self.pager else []


@dataclass
class _Clock:
    """Waits for one step after the other, telling how it goes."""

    outcome: Outcome
    report: Report
    patience: float | None

    def wait(self, name: str, since: float, longest: float | None, look: Callable[[], float | bool | None]) -> float | None:
        """Seconds from ``since`` until ``look`` is true, or until the time that it returns; None when it did not come about.

        Waits for twice the longest time and two minutes more, unless told how long.
        """
        limit = self.patience or 2 * (longest or 300.0) + 120
        said = time.time()
        at_most = "" if longest is None else f", at most {longest:.0f} s"
        self.report(f"waiting until {name}{at_most}")
        seconds = None
        while time.time() - since < limit:
            found: float | bool | None = None
            with contextlib.suppress(servers.UnreachableError, servers.AnswerError):
                found = look()
            if found:
                seconds = round(max(0.0, (time.time() if found is True else float(found)) - since), 1)
                break
            if time.time() - said >= 15:
                said = time.time()
                self.report(f"  {said - since:.0f} s{at_most}")
            time.sleep(1)
        step = Step(name, seconds, None if longest is None else round(longest, 1))
        self.outcome.steps.append(step)
        result = "did not come about" if seconds is None else f"{seconds:.0f} s{'' if step.passed else ', too late'}"
        self.report(f"{name}: {result}")
        return seconds


# --- the drills -----------------------------------------------------------------------------------------------------


def of_alert(
    project: Project,
    model: Model,
    target: str,
    breakage: Breakage,
    report: Report,
    *,
    ratio: Decimal = Decimal(1),
    patience: float | None = None,
    pager: Pager | None = None,
) -> Outcome:
    """Break what ``target`` (``service/slo`` or ``service/Alert``) is about, and time its alert.

    ``ratio`` is the share of events that the breakage makes bad. Raises DrillError when the drill cannot be held.
    """
    service, slo, alert = find(model, target)
    if slo is not None:
        severity = next((s for s in burn.SEVERITIES if s in slo.burn), None)
        if severity is None:
            raise DrillError(f"{target} has no burn-rate alert.", "Choose an SLO that has one: lgtm test shows them.")
        labels = {"alertname": names.burn_alert(severity), "service": service.name, "slo": slo.name}
        promised = promise(model, service, slo, severity, ratio)
        if promised.detect is None:
            raise DrillError(
                f"An outage of {ratio:.2%} is no alert of {target}: it burns too slowly.",
                "Break more of it, or choose another.",
            )
    else:
        assert alert is not None  # noqa: S101 - find() returns one of both
        labels = {"alertname": alert.name, "service": service.name}
        promised = promise_of_alert(model, service, alert)
    watch = Watch(project, labels, pager)
    if states := watch.active():
        # One that is pending for something else would be taken for the drill's.
        how = "fires already" if "firing" in states else "is pending: its condition holds already"
        raise DrillError(f"The alert of {target} {how}.", "Mend that first; a drill begins when all is well.")
    if slo is not None and watch.value(f"{names.TOTAL_RATE}{{service={_quoted(service)},slo={_quoted(slo)}}}") is None:
        raise DrillError(
            f"Nothing is measured of {target}.", "Is the service up, and is it scraped? `lgtm verify` looks at all of that."
        )
    with recorded(project, target, labels, breakage) as outcome:
        clock = _Clock(outcome, report, patience)
        before = watch.counters()
        report(f"breaking: {breakage.broken_by}")
        with _healed(breakage, report) as heal:
            broken = time.time()
            if clock.wait("the alert fires", broken, promised.detect, watch.firing) is None:
                return outcome
            at_alertmanager = watch.counters()
            _explain(watch, outcome)
            notify = None if promised.detect is None else promised.detect + promised.wait + DELIVERY
            receivers: set[str] = set()
            clock.wait("a receiver is told", broken, notify, lambda: watch.reached("firing", 0.0, at_alertmanager, receivers))
            holding: set[tuple[Duration, Duration]] = set()
            if slo is not None:
                _note_conditions(watch, slo, holding)
            report(f"healing: {breakage.healed_by}")
            mending = time.time()
            healed = heal()

        def over() -> bool:
            if slo is not None:
                _note_conditions(watch, slo, holding)
            return not watch.firing()

        # The conditions that hold are known only once they do; the longest of them is waited for.
        every = max((s for w, s in promised.resolve.items() if w in holding or slo is None), default=None)
        every = every or max(promised.resolve.values(), default=300.0)
        resolved = clock.wait("the alert is over", healed, every, over)
        longest = max((s for w, s in promised.resolve.items() if w in holding), default=every)
        outcome.steps[-1] = Step("the alert is over", resolved, round(longest, 1))
        if resolved is not None:
            at_end = watch.counters()
            clock.wait(
                "its end is told",
                healed,
                longest + promised.interval,
                lambda: watch.reached("resolved", mending, at_end, receivers),
            )
        _count(watch, outcome, before, receivers)
        return outcome


def of_watchdog(
    project: Project,
    model: Model,
    server: str,
    report: Report,
    pager: Pager,
    *,
    stop: Callable[[str], None],
    start: Callable[[str], None],
    patience: float | None = None,
) -> Outcome:
    """Stop Alertmanager or Prometheus, and time how long the heartbeat's receiver takes to miss it.

    ``stop`` and ``start`` do that to a server of the stack. Raises DrillError when there is no heartbeat to be missed.
    """
    if not model.routing.watchdog:
        raise DrillError(
            "Nobody listens to the heartbeat: `routing.watchdog` names no receiver.",
            "Add one, for example of healthchecks.io: docs/drill.md",
        )
    labels = {"alertname": names.ALERT_WATCHDOG}
    breakage = Breakage(f"stop {server}", f"start {server}", lambda: stop(server), lambda: start(server))
    pulse = pager.heartbeat()
    until = time.monotonic() + 2 * BEAT
    while not pulse["beats"] or pulse["lost"]:
        if time.monotonic() > until:
            raise DrillError(
                "No heartbeat has reached the demo's pager in two minutes.", "Is it under `routing.watchdog`? Run `lgtm apply`."
            )
        report("waiting for a first heartbeat")
        time.sleep(10)
        pulse = pager.heartbeat()
    silence = float(pulse["silence_seconds"])
    # Without Prometheus, Alertmanager goes on for as long as it holds an alert that nobody repeats.
    longest = silence + DELIVERY + (HELD + BEAT if server == "prometheus" else 0.0)
    watch = Watch(project, labels, pager)

    def heard(state: str) -> Callable[[], float | None]:
        def look() -> float | None:
            for page in watch.since():
                if isinstance(page["body"], dict) and page["body"].get("heartbeat") == state:
                    return datetime.fromisoformat(page["received_at"]).timestamp()
            return None

        return look

    with recorded(project, f"watchdog ({server})", labels, breakage) as outcome:
        clock = _Clock(outcome, report, patience)
        report(f"breaking: {breakage.broken_by}")
        with _healed(breakage, report) as heal:
            broken = time.time()
            missed = clock.wait("the heartbeat is missed", broken, longest, heard("lost"))
            report(f"healing: {breakage.healed_by}")
            healed = heal()
        if missed is not None:
            clock.wait("it beats again", healed, START + BEAT, heard("back"))
        return outcome


def of_receiver(
    project: Project,
    model: Model,
    receiver: str,
    report: Report,
    *,
    breakage: Breakage | None = None,
    patience: float | None = None,
    pager: Pager | None = None,
) -> Outcome:
    """Lose a receiver: have a made-up page sent to it in vain, and time how long another receiver takes to be told so.

    Without a ``breakage`` the demo's pager refuses what comes to the receiver's path.
    """
    found = next(
        (
            (service, alert)
            for service in model.services
            for alert in service.alerts
            if "alertmanager_notifications_failed_total" in alert.expr
        ),
        None,
    )
    if found is None:
        raise DrillError(
            "No alert watches whether notifications arrive.",
            "Add one on alertmanager_notifications_failed_total: docs/drill.md",
        )
    service, alert = found
    if receiver not in model.routing.receivers:
        raise DrillError(f"There is no receiver {receiver}.", f"One of: {', '.join(model.routing.receivers)}.")
    if breakage is None:
        breakage = _refusal(model, receiver, pager)
    made_up = {"alertname": "LgtmDrill", "service": "lgtm-drill", "severity": "critical"}
    address = project.url("alertmanager") + "/api/v2/alerts"

    def put(ends: timedelta) -> None:
        body = {
            "labels": made_up,
            "annotations": {"summary": "A drill: nothing is wrong"},
            "endsAt": (datetime.now(UTC) + ends).isoformat(),
        }
        requests.post(address, json=[body], timeout=10).raise_for_status()

    labels = {"alertname": alert.name, "service": service.name}
    watch = Watch(project, labels, pager)
    if watch.firing():
        raise DrillError(f"{alert.name} fires already.", "Mend that first; a drill begins when all is well.")
    promised = promise_of_alert(model, service, alert)
    routing = model.routing
    lost = breakage

    def break_() -> None:
        lost.break_()
        put(timedelta(hours=1))

    def heal() -> None:
        lost.heal()
        put(timedelta(0))

    both = Breakage(f"{lost.broken_by}, and send it a page", lost.healed_by, break_, heal)
    with recorded(project, f"receiver {receiver}", labels, both) as outcome:
        clock = _Clock(outcome, report, patience)
        before = watch.counters()
        report(f"breaking: {both.broken_by}")
        with _healed(both, report) as mend:
            broken = time.time()

            def failed() -> bool:
                now = watch.counters()
                return any(now[r][1] > before.get(r, (0, 0))[1] for r in now if receiver in r.split(" + "))

            # Alertmanager tries again for as long as a group waits between two notifications, then gives up.
            gives_up = float(routing.wait.seconds) + max(float(routing.interval.seconds), 10.0) + DELIVERY
            if clock.wait(f"a notification to {receiver} fails", broken, gives_up, failed) is None:
                outcome.notes.append(f"Does a critical alert go to {receiver}? The drill's is routed like any other.")
                return outcome
            detect = gives_up + float(service.interval.seconds) + float(STEP.seconds)
            if clock.wait(f"{alert.name} fires", broken, detect, watch.firing) is None:
                return outcome
            _explain(watch, outcome)
            receivers: set[str] = set()
            at_alertmanager = watch.counters()
            clock.wait(
                "somebody else is told",
                broken,
                detect + float(routing.wait.seconds) + DELIVERY,
                lambda: watch.reached("firing", 0.0, at_alertmanager, receivers),
            )
            report(f"healing: {both.healed_by}")
            healed = mend()
        # What Alertmanager is still trying may fail once more.
        longest = max(promised.resolve.values()) + float(routing.interval.seconds)
        clock.wait(f"{alert.name} is over", healed, longest, lambda: not watch.firing())
        _count(watch, outcome, before, receivers)
        return outcome


def _refusal(model: Model, receiver: str, pager: Pager | None) -> Breakage:
    """The demo's pager refuses what comes to the path of a receiver's webhook."""
    urls = [part.url for part in model.routing.receivers[receiver] if isinstance(part, Webhook) and isinstance(part.url, str)]
    if pager is None or not urls:
        raise DrillError(
            f"{receiver} is not the demo's pager, or the demo is not running.",
            "Say how it is lost and found: --break CMD --heal CMD",
        )
    refusing, path = pager, urlsplit(urls[0]).path or "/"
    return Breakage(
        f"the demo's pager refuses {path}",
        "the demo's pager takes everything",
        lambda: refusing.refuse(path),
        lambda: refusing.refuse(None),
    )


def find(model: Model, target: str) -> tuple[ResolvedService, ResolvedSlo | None, ResolvedAlert | None]:
    """The service, and the SLO or threshold alert, that ``service/name`` names. Raises DrillError with what there is."""
    name, _, part = target.partition("/")
    service = model.by_name.get(name)
    if service is not None:
        slo = next((s for s in service.slos if s.name == part), None)
        alert = next((a for a in service.alerts if a.name == part), None)
        if slo is not None or alert is not None:
            return service, slo, None if slo is not None else alert
    known = [f"{s.name}/{one}" for s in model.services for one in (*(o.name for o in s.slos), *(a.name for a in s.alerts))]
    near = [k for k in known if k.startswith(f"{name}/")] or known
    raise DrillError(f"{target} names no SLO and no alert.", f"One of: {', '.join(near[:20])}, or watchdog, or receiver.")


def _quoted(one: ResolvedService | ResolvedSlo) -> str:
    return json.dumps(one.name)


def _delivered(counters: Mapping[str, tuple[int, int]], receiver: str) -> int:
    every, failed = counters.get(receiver, (0, 0))
    return every - failed


def _note_conditions(watch: Watch, slo: ResolvedSlo, holding: set[tuple[Duration, Duration]]) -> None:
    """Add the conditions whose long window is past its threshold: each of them is to be waited for."""
    for severity in slo.burn:
        for window in slo.burn[severity]:
            with contextlib.suppress(servers.UnreachableError, servers.AnswerError):
                if _past(watch, slo, window):
                    holding.add((window.long, window.short))


def _past(watch: Watch, slo: ResolvedSlo, window: BurnWindow) -> bool:
    selector = f"{{service={json.dumps(slo.service)},slo={json.dumps(slo.name)}}}"
    value = watch.value(f"max({names.error_ratio(window.long)}{selector})")
    return value is not None and not math.isnan(value) and Decimal(value) > window.factor * slo.budget


def _explain(watch: Watch, outcome: Outcome) -> None:
    """Say why a notification will not come, where Alertmanager knows."""
    with contextlib.suppress(servers.UnreachableError, servers.AnswerError):
        for held in watch.held():
            status = held["status"]
            if status.get("silencedBy"):
                outcome.notes.append("The alert is silenced: it reaches nobody.")
            if status.get("inhibitedBy"):
                outcome.notes.append("The alert is inhibited by another one that fires: it reaches nobody.")
            if status.get("mutedBy"):
                outcome.notes.append("The alert is muted by a time interval: it reaches nobody now.")


def _count(watch: Watch, outcome: Outcome, before: Mapping[str, tuple[int, int]], receivers: Iterable[str]) -> None:
    now = watch.counters()
    pages = watch.told()
    for receiver in sorted({*receivers, *(page["receiver"] for page in pages)}):
        every, failed = now.get(receiver, (0, 0))
        was, was_failed = before.get(receiver, (0, 0))
        counts = {"sent": max(0, every - was), "failed": max(0, failed - was_failed)}
        if watch.pager is not None:
            for status in ("firing", "resolved"):
                counts[status] = sum(page["receiver"] == receiver and page["status"] == status for page in pages)
        outcome.notifications[receiver] = counts


# --- records --------------------------------------------------------------------------------------------------------


def directory(project: Project) -> Path:
    """Where the records are."""
    return project.root / ".lgtm" / "drills"


@contextlib.contextmanager
def recorded(project: Project, target: str, labels: Mapping[str, str], breakage: Breakage) -> Iterator[Outcome]:
    """An Outcome that is on disk from the beginning, so that a drill that was killed tells what is left to be healed."""
    now = datetime.now(UTC)
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", target).strip("-")
    outcome = Outcome(
        id=f"{now:%Y%m%d-%H%M%S}-{name}",
        target=target,
        alert=dict(labels),
        broken_by=breakage.broken_by,
        healed_by=breakage.healed_by,
        begun=now.isoformat(timespec="seconds"),
    )
    _write(project, outcome)
    try:
        yield outcome
        outcome.state = "done"
    except KeyboardInterrupt:
        outcome.state = "interrupted"
        raise
    except LgtmError as error:
        outcome.state = "not healed" if isinstance(error, UnhealedError) else "failed"
        outcome.notes.append(error.message)
        raise
    finally:
        _write(project, outcome)


def _write(project: Project, outcome: Outcome) -> None:
    place = directory(project)
    place.mkdir(parents=True, exist_ok=True)
    fresh = place / f"{outcome.id}.json.new"
    fresh.write_text(json.dumps(outcome.as_json(), indent=1) + "\n", encoding="utf-8")
    fresh.replace(place / f"{outcome.id}.json")


def records(project: Project) -> list[Outcome]:
    """Every drill that was held, oldest first. A file that is no record is passed over."""
    found = []
    for path in sorted(directory(project).glob("*.json")):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            data = json.loads(path.read_text(encoding="utf-8"))
            data.pop("passed")
            steps = [Step(s["name"], s["seconds"], s["longest"]) for s in data.pop("steps")]
            found.append(Outcome(**data, steps=steps))
    return found
