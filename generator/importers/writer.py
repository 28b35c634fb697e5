"""What was carried over, as our YAML: with comments where a meaning changed, and checked as the product itself checks it."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import yaml

from generator import model, promql
from generator import source as source_module
from generator.diagnostics import Diagnostic, Span, without_secrets
from generator.importers.queries import Carried
from generator.names import RESERVED_LABELS, TIERS
from generator.units import Duration, percent, plain

_WIDTH = 118
_NUMBER_LIKE = re.compile(r"[-+.]?[0-9][0-9_.,:eE+-]*\Z|0[xob][0-9a-fA-F_]+\Z")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}\Z")
_LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]{0,99}\Z")
_SHORTEST, _LONGEST = Duration.of("1d"), Duration.of("90d")
# The built-in policy, as conditions; a test holds it against the model's own.
STANDARD = "standard"
NONE = "none"


@dataclass(frozen=True)
class Finding:
    """Something to tell: what it is about, where it stands in the imported file, and a sentence."""

    span: Span
    about: str
    text: str


@dataclass(frozen=True)
class Condition:
    """A burn-rate condition: over two windows at once, by a factor or by a share of the budget."""

    long: Duration
    short: Duration
    factor: Decimal | None = None
    budget: Decimal | None = None

    def rate(self, window: Duration) -> Decimal:
        """How many times faster than allowed the budget is spent."""
        if self.factor is not None:
            return self.factor
        return (self.budget or Decimal(0)) * window.seconds / self.long.seconds

    def data(self) -> dict[str, Any]:
        """As it stands in the file."""
        share = {"factor": self.factor} if self.factor is not None else {"budget": percent(self.budget or Decimal(0))}
        return {"long": str(self.long), "short": str(self.short), **share}


@dataclass(frozen=True)
class Policy:
    """A burn-rate policy, under the name that it gets when no other one has it."""

    name: str
    critical: tuple[Condition, ...] = ()
    warning: tuple[Condition, ...] = ()
    extra: tuple[tuple[str, object], ...] = ()

    def data(self) -> dict[str, Any]:
        """As it stands in the file."""
        tiers = {"critical": self.critical, "warning": self.warning}
        data: dict[str, Any] = {tier: [c.data() for c in conditions] for tier, conditions in tiers.items() if conditions}
        return data | dict(self.extra)


def standard(*, critical: bool = True, warning: bool = True) -> Policy:
    """The built-in policy, or one of its halves."""
    found = model.BUILT_IN_POLICIES[STANDARD]

    def conditions(on: bool, windows: Iterable[Any]) -> tuple[Condition, ...]:
        return tuple(Condition(w.long, w.short, budget=w.budget) for w in windows) if on else ()

    name = STANDARD if critical and warning else "page-only" if critical else "ticket-only" if warning else NONE
    return Policy(name, conditions(critical, found.critical), conditions(warning, found.warning))


@dataclass
class Slo:
    """An SLO to be written. ``where`` is where it stands in the imported file."""

    name: str
    where: Span
    objective: Decimal
    window: Duration
    carried: Carried
    policy: Policy
    title: str | None = None
    description: str | None = None
    owner: str | None = None
    runbook: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)


@dataclass
class Service:
    """A service to be written."""

    name: str
    title: str | None = None
    description: str | None = None
    owner: str | None = None
    tier: str | None = None
    slos: dict[str, Slo] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


class Draft:
    """What an importer gathers. ``project`` is the other project's name, for comments."""

    def __init__(self, project: str) -> None:
        self.project = project
        self.services: dict[str, Service] = {}
        self.notes: list[str] = []
        self.changed: list[Finding] = []
        self.lost: list[Finding] = []
        self.files: list[str] = []

    def service(self, name: str, where: Span) -> Service:
        """A service by name; a name that ours cannot be is changed into one that can."""
        clean = tidy(name)
        if clean not in self.services:
            self.services[clean] = Service(clean)
            if clean != name:
                self.services[clean].notes.append(f"{name!r} in {self.project}; here names have no spaces")
        return self.services[clean]

    def add(self, service: Service, slo: Slo) -> None:
        """Add an SLO, unless nothing can be promised as it says."""
        about = f"{service.name}/{slo.name}"
        if not 0 < slo.objective < 1:
            what = "leaves no budget for a single failure" if slo.objective else "promises nothing"
            self.lose(service, slo.where, about, f"an objective of {percent(slo.objective)} {what}; choose one between")
            return
        clean = tidy(slo.name)
        if clean != slo.name:
            slo.notes.append(f"{slo.name!r} in {self.project}")
        name, count = clean, 2
        while name in service.slos:
            name, count = f"{clean}-{count}", count + 1
        if name != clean:
            slo.changes.append(f"another SLO of this service is called {clean} already")
        slo.name = name
        self._fit_window(slo)
        self._fit_policy(slo)
        slo.changes = [*slo.carried.changes, *slo.changes]
        service.slos[name] = slo

    def lose(self, service: Service | None, where: Span, about: str, reason: str) -> None:
        """Tell that something could not be carried over; the file says so where it would have stood."""
        self.lost.append(Finding(where, about, without_secrets(reason)))
        if service is not None:
            service.missing.append(f"{about.rpartition('/')[2]}: {reason}")

    def change(self, where: Span, about: str, text: str) -> None:
        """Tell of a changed meaning that belongs to no single SLO."""
        self.changed.append(Finding(where, about, without_secrets(text)))
        self.notes.append(f"{about}: {text}" if about else text)

    @staticmethod
    def _fit_window(slo: Slo) -> None:
        fitted = min(max(slo.window, _SHORTEST), _LONGEST)
        if fitted != slo.window:
            slo.changes.append(f"its window was {slo.window}; here one goes from {_SHORTEST} to {_LONGEST}")
            slo.window = fitted

    @staticmethod
    def _fit_policy(slo: Slo) -> None:
        """Leave out what could never fire: the product refuses alerts that promise more than they can do."""
        dropped: list[str] = []

        def possible(conditions: tuple[Condition, ...]) -> tuple[Condition, ...]:
            kept = []
            for c in conditions:
                if c.rate(slo.window) * (1 - slo.objective) >= 1:
                    share = percent((c.rate(slo.window) * (1 - slo.objective)).quantize(Decimal("0.001")))
                    dropped.append(f"the alert over {c.long} is left out: it needed {share} errors, so it could never fire")
                else:
                    kept.append(c)
            return tuple(kept)

        policy = slo.policy
        critical, warning = possible(policy.critical), possible(policy.warning)
        if dropped:
            base = policy.name if policy.name != NONE else "none"
            name = f"{base}-at-{percent(slo.objective).rstrip('%')}" if critical or warning else NONE
            slo.policy = Policy(name, critical, warning, policy.extra)
            slo.notes += dropped


def tidy(name: str) -> str:
    """A name that services and SLOs may have."""
    if _NAME.match(name):
        return name
    clean = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-_.")[:100]
    return clean or "unnamed"


def is_name(text: str) -> bool:
    """Whether a text can be an owner, a service or an SLO."""
    return bool(_NAME.match(text))


def take_labels(service: Service, labels: Mapping[str, str]) -> dict[str, str]:
    """Give a service the owner and the tier that its labels name; what is left are labels of alerts."""
    rest = dict(labels)
    for key in ("owner", "team"):
        if service.owner is None and is_name(rest.get(key, "")):
            service.owner = rest.pop(key)
    if rest.get("tier", "").lower() in TIERS:
        service.tier = rest.pop("tier").lower()
    return rest


# From the draft to text.


@dataclass(frozen=True)
class Text:
    """The YAML text, and what of the draft it could not keep in the end."""

    text: str
    changed: tuple[Finding, ...]
    lost: tuple[Finding, ...]
    slos: int
    services: int


def write(draft: Draft) -> Text | None:
    """The file, checked; an SLO that does not pass the product's own check is left out and told. None for no SLO at all.

    Raises AssertionError when it cannot be told which part is at fault: that would be a mistake of the importer's.
    """
    for _ in range(1 + sum(len(s.slos) for s in draft.services.values())):
        if not draft.services:
            return None
        text = _text(draft)
        source = source_module.read_text(text, "imported.yaml")
        faults = [d for d in model.resolve(source).diagnostics if d.severity == "error"]
        if not faults:
            return _result(draft, text)
        for fault in faults:
            _leave_out(draft, source, fault)
    raise AssertionError("what was imported does not become valid")


def _result(draft: Draft, text: str) -> Text:
    changed = [
        Finding(slo.where, f"{service.name}/{slo.name}", without_secrets(change))
        for service in draft.services.values()
        for slo in service.slos.values()
        for change in slo.changes
    ]
    return Text(
        text=text,
        changed=in_order([*draft.changed, *changed]),
        lost=in_order(draft.lost),
        slos=sum(len(s.slos) for s in draft.services.values()),
        services=sum(1 for s in draft.services.values() if s.slos) or len(draft.services),
    )


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """By file and position."""
    return tuple(sorted(findings, key=lambda f: (f.span.file, f.span.line, f.span.column)))


def _leave_out(draft: Draft, source: source_module.Source, fault: Diagnostic) -> None:
    """Take the SLO that a fault stands in out of the draft."""
    found: tuple[str, str] | None = None
    last = 0
    for path, span in source.keys.items():
        if len(path) == 4 and path[0] == "services" and path[2] == "slos" and last <= span.line <= fault.span.line:
            found, last = (str(path[1]), str(path[3])), span.line
    if found is None:
        raise AssertionError(f"what was imported is not valid: {fault.message}")
    service = draft.services[found[0]]
    slo = service.slos.pop(found[1], None)
    if slo is not None:
        draft.lose(service, slo.where, f"{service.name}/{slo.name}", fault.message)


def _text(draft: Draft) -> str:
    slos = [slo for service in draft.services.values() for slo in service.slos.values()]
    policies = _Policies()
    names = [policies.name(slo.policy) for slo in slos]
    window = _most([slo.window for slo in slos], Duration.of("30d"))
    policy = _most(names, STANDARD)
    labels = _shared_labels(slos)

    out = _Lines()
    files = ", ".join(draft.files)
    out.comment(f"Imported from {draft.project}{f' ({files})' if files else ''} by `lgtm import`.")
    out.comment("Each comment tells what is different here; docs/import.md tells what is different everywhere.")
    for note in dict.fromkeys(draft.notes):
        out.comment(note)
    out.line("version: 1")
    out.blank()
    out.line("defaults:")
    out.pair(1, "window", str(window))
    if policy != STANDARD:
        out.pair(1, "alerting", policy)
    out.comment(
        f"{draft.project} alerts on any number of bad events; a few, such as 5, spare quiet services a page at night", 1
    )
    out.pair(1, "minimum_events", 0)
    if labels:
        out.pair(1, "labels", labels)
    out.blank()
    out.line("services:")
    numbers = iter(names)
    for service in draft.services.values():
        for note in service.notes:
            out.comment(note, 1)
        own = service.slos.values()
        empty = not (service.title or service.description or service.owner or service.tier or own)
        out.line(f"  {_scalar(service.name)}:{' {}' if empty else ''}")
        for key in ("title", "description", "owner", "tier"):
            if getattr(service, key):
                out.pair(2, key, getattr(service, key))
        if any(_without_job(slo) for slo in own):
            out.comment("the queries name all the labels that they need", 2)
            out.pair(2, "match", {})
        if own:
            out.line("    slos:")
        for slo in own:
            _write_slo(out, slo, window, next(numbers), policy, labels)
        for missing in service.missing:
            out.comment(f"NOT CARRIED OVER: {missing}", 3 if own else 2)
        out.blank()
    if policies.named:
        out.line("alerting:")
        for name, one in policies.named.items():
            out.pair(1, name, one.data())
        out.blank()
    out.comment("Who is told of alerts is not imported. For example, with the address in secrets/slack_url:")
    for line in (
        "routing:",
        "  receivers:",
        "    chat: {slack: {url: {file: slack_url}}}",
        "  default: chat",
    ):
        out.line(f"# {line}")
    return str(out)


def _write_slo(out: _Lines, slo: Slo, window: Duration, policy: str, default: str, labels: Mapping[str, str]) -> None:
    own = {k: v for k, v in slo.labels.items() if k not in labels}
    if own:
        text = "labels of its alerts that have no place here: " + ", ".join(f"{k}={v}" for k, v in own.items())
        slo.changes = [*(c for c in slo.changes if not c.startswith("labels of its alerts that")), text]
    for change in slo.changes:
        out.comment(f"changed: {change}", 3)
    for note in slo.notes:
        out.comment(note, 3)
    out.line(f"      {_scalar(slo.name)}:")
    for key in ("title", "description"):
        if getattr(slo, key):
            out.pair(4, key, getattr(slo, key))
    out.pair(4, "objective", percent(slo.objective))
    if slo.window != window:
        out.pair(4, "window", str(slo.window))
    out.pair(4, "sli", slo.carried.sli)
    if slo.carried.by:
        out.pair(4, "by", list(slo.carried.by))
    if slo.owner:
        out.pair(4, "owner", slo.owner)
    if policy != default:
        out.pair(4, "alerting", policy)
    if slo.runbook:
        out.pair(4, "runbook", slo.runbook)


def _without_job(slo: Slo) -> bool:
    """Whether one of its queries would get the service's own job added."""
    (kind, fields) = next(iter(slo.carried.sli.items()))
    if kind == "raw":
        return False  # nothing is added to those
    texts = [fields] if isinstance(fields, str) else [v for v in fields.values() if isinstance(v, str)]
    for text in texts:
        try:
            found = promql.selectors(promql.parse(text))
        except promql.PromqlError:
            continue  # a length of time, or true
        if any(all(m.name != "job" for m in s.matchers.matchers) for s in found):
            return True
    return False


def _shared_labels(slos: Sequence[Slo]) -> dict[str, str]:
    """Labels that every alert had: those can stay."""
    if not slos:
        return {}
    shared = {k: v for k, v in slos[0].labels.items() if all(s.labels.get(k) == v for s in slos)}
    return {k: v for k, v in shared.items() if _LABEL.match(k) and k not in RESERVED_LABELS}


def _most(values: Sequence[Any], default: Any) -> Any:
    counted = Counter(values)
    return max(counted, key=lambda v: (counted[v], v == default)) if counted else default


class _Policies:
    """Policies by name, each content once."""

    def __init__(self) -> None:
        self.named: dict[str, Policy] = {}

    def name(self, policy: Policy) -> str:
        if not policy.data():
            return NONE
        if policy.data() == standard().data():
            return STANDARD
        for name, known in self.named.items():
            if known.data() == policy.data():
                return name
        base = tidy(policy.name)
        name, count = (f"{base}-2", 3) if base in (STANDARD, NONE) else (base, 2)
        while name in self.named:
            name, count = f"{base}-{count}", count + 1
        self.named[name] = policy
        return name


class _Lines:
    """Lines of YAML with comments. Every value goes through a YAML writer."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __str__(self) -> str:
        return "\n".join(self.lines).rstrip() + "\n"

    def line(self, text: str) -> None:
        self.lines.append(text)

    def blank(self) -> None:
        if self.lines and self.lines[-1]:
            self.lines.append("")

    def comment(self, text: str, depth: int = 0) -> None:
        head = "  " * depth + "# "
        line = ""
        for word in _printable(without_secrets(text)).split():
            if line and len(head) + len(line) + 1 + len(word) > _WIDTH:
                self.lines.append(head + line)
                # Lines that go on stand a little further in.
                line = "  " + word
            else:
                line = f"{line} {word}" if line else word
        self.lines.append(head + line)

    def pair(self, depth: int, key: str, value: Any) -> None:
        head = "  " * depth + f"{_scalar(key)}: "
        if isinstance(value, Mapping | list):
            flow = _flow(value)
            if len(head) + len(flow) <= _WIDTH:
                self.lines.append(head + flow)
            elif isinstance(value, Mapping):
                self.lines.append(head.rstrip())
                for inner, content in value.items():
                    self.pair(depth + 1, inner, content)
            else:
                self.lines.append(head.rstrip())
                self.lines += ["  " * (depth + 1) + f"- {_flow(item)}" for item in value]
            return
        text = _printable(value, keep="\n").strip() if isinstance(value, str) else value
        if isinstance(text, str) and "\n" not in text and len(head) + len(_scalar(text)) > _WIDTH:
            folded = textwrap.wrap(
                text, _WIDTH - 2 * depth - 2, break_long_words=False, break_on_hyphens=False, drop_whitespace=True
            )
            # Folding gives each break back as one space: right only where there was exactly one.
            if len(folded) > 1 and " ".join(folded) == text:
                self.lines.append(head + ">-")
                self.lines += ["  " * (depth + 1) + line for line in folded]
                return
        if isinstance(text, str) and "\n" in text:
            self.lines.append(head + "|-")
            self.lines += [("  " * (depth + 1) + line.strip()).rstrip() for line in text.splitlines()]
            return
        self.lines.append(head + _scalar(text))


def _printable(text: str, keep: str = "") -> str:
    return "".join(c if c.isprintable() or c in keep else " " for c in text)


def _plain_data(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain_data(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_data(v) for v in value]
    if isinstance(value, Decimal):
        return _Number(plain(value))
    if isinstance(value, str):
        return _Quoted(_printable(value)) if _NUMBER_LIKE.match(value) else _printable(value)
    return value


class _Number(str):
    """A number with the digits that it was written with."""


class _Quoted(str):
    """Text that some reader of YAML would take for a number."""


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_representer(_Quoted, lambda d, v: d.represent_scalar("tag:yaml.org,2002:str", str(v), style='"'))
_Dumper.add_representer(_Number, lambda d, v: d.represent_scalar(f"tag:yaml.org,2002:{'float' if '.' in v else 'int'}", str(v)))


def _flow(value: Any) -> str:
    text: str = yaml.dump(
        _plain_data(value), Dumper=_Dumper, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6
    )
    return text.strip()


def _scalar(value: Any) -> str:
    text: str = yaml.dump(_plain_data(value), Dumper=_Dumper, allow_unicode=True, width=10**6)
    return text.removesuffix("...\n").strip()
