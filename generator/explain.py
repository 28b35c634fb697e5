"""Every diagnostic code: its severity, what causes it, an example, and the cure. The one registry of codes.

A Diagnostic cannot be made with a code that is not here, and tests demand a faulty file for each. Examples are laid
over ``EXAMPLE_BASE`` the way a second ``-f`` is; a test demands that each gives its own code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

EXAMPLE_BASE = """\
version: 1
services:
  checkout:
    runbook: https://wiki.example.com/checkout
    scrape: {targets: ["checkout:8000"]}
    probes:
      live: {url: "http://checkout:8000/health"}
    slos:
      availability:
        objective: 99.9%
        sli: {ratio: {errors: 'http_requests_total{code=~"5.."}', total: http_requests_total}}
routing:
  receivers:
    chat: {webhook: {url: "http://chat:8001/"}}
  default: chat
"""


@dataclass(frozen=True)
class Code:
    """A kind of fault. ``example`` is YAML that has it, unless ``in_words``: then it says how it comes about."""

    name: str
    group: str
    severity: Literal["error", "warning"]
    cause: str
    example: str
    cure: str
    in_words: bool = False


# Blocks: `group:`, or `code [warning] [words]`, then its cause, its example (indented), its cure.
_TEXT = r"""
group: Files

no-file words
A file that was named with -f, or the project's slos.yaml, does not exist.
    lgtm -f slso.yaml validate
Name an existing file. `lgtm init` writes a first one.

unreadable-file words
The file is there but cannot be read: a directory, or permissions.
    lgtm -f services/ validate
Name a file, and give yourself the right to read it.

file-too-large words
A file of more than 8 MiB is not read: no hand wrote it, and checking it would take minutes.
    A generated slos.yaml of 9 MiB
Split it into files for each team and name them under include:.

not-utf8 words
The file holds bytes that are not UTF-8 text: it was saved in another encoding, or is not text at all.
    A file saved as UTF-16 or Windows-1252 by an editor
Save it as UTF-8. A byte-order mark does no harm.

empty-file words
The file holds nothing, or nothing but comments.
    An empty slos.yaml
Write at least version: and services:, or let `lgtm init` write a first file.

missing-include
A pattern under include: matches no file.
    include: [services/*.yml]
Paths are relative to the file that holds the include:. Mend the pattern or remove it.

include-cycle words
A file includes itself, straight or through others.
    slos.yaml with `include: [team.yaml]`, and team.yaml with `include: [slos.yaml]`
Remove one of the two includes.

group: YAML

yaml-syntax
The text is not YAML. Most often a bracket or quote is open, indentation is uneven, or a value with ': ' is not quoted.
    services:
      checkout:
        title: Checkout: the shop
Quote the value, close the bracket, or indent with spaces as the lines around do.

yaml-trap
What is written means one thing to some YAML readers and another to others: yes and on may be true, 0123 may be octal.
    services: {checkout: {title: on}}
Quote it when it is text; write true, false or a plain number when it is not.

duplicate-key
A key stands twice in one place, or two included files set the same key to different values. One of the two would be lost.
    services:
      checkout:
        owner: shop
        owner: payments
Remove one of the two. To change a value for one environment, lay a second file over the first with -f.

alias-cycle
An anchor contains its own alias, so that it would never end.
    services: {checkout: &a {runbook: *a}}
Remove the alias inside the part that the anchor names.

too-deep words
Brackets or indentation nest more than 60 levels. The format itself has nine.
    [[[[[[[[[[[[[[[[ … ]]]]]]]]]]]]]]]]
Look for brackets that were never closed.

too-large words
The file holds more values than can be checked, counting each alias as often as it is used.
    Anchors that hold many aliases, which hold many aliases, …
Use fewer aliases, or split the file into several projects.

group: Shape

missing-key
A key that has no default is left out.
    services: {checkout: {probes: {pay: {interval: 1m}}}}
Add the key; the hint shows an example.

unknown-key
A key that the format does not have, mostly a slip of the pen. It would be ignored silently, so it is an error.
    services: {checkout: {teir: high}}
Take the name that the hint proposes, or look it up in docs/reference.md.

unknown-kind
A kind of SLI or of receiver that does not exist.
    routing: {receivers: {chat: {slak: {url: {file: slack_url}}}}}
Take one of the kinds that the hint names.

missing-kind
An SLI or a receiver is there, but of no kind.
    routing: {receivers: {chat2: {}}, default: [chat, chat2]}
Name a kind with its fields, such as webhook: {url: …}.

one-of
Two things exclude each other and both are written, or one of two is needed and none is.
    services:
      checkout:
        alerts: {PoolFull: {expr: db_pool_used, above: 10, below: 5}}
Keep one of the two.

wrong-type
A value of another type is expected: text, a whole number, true or false, a list, or keys and values.
    defaults: {minimum_events: many}
Write it as docs/reference.md shows for this field.

unknown-value
The value is none of the few that may stand here.
    services: {checkout: {tier: urgent}}
Choose one of the values that the hint names.

out-of-range
The number is smaller or larger than can be meant.
    defaults: {minimum_events: -1}
Choose a number within the limits of the message.

empty-list
A list or a mapping that must hold something is empty.
    services: {checkout: {scrape: {targets: []}}}
Remove the key, or fill it.

empty-text
A text is empty or only spaces.
    services: {checkout: {title: ""}}
Remove the key, or write something.

bad-text
A text holds control characters, which no dashboard or notification can show.
    services: {checkout: {title: "a\bb"}}
Remove them; they often come from copying out of a terminal.

group: Values

bad-name
A name of a service, SLO, probe, receiver, owner or policy becomes a label, a file name and a web address, so it is short
and plain.
    services: {checkout: {owner: "the shop!"}}
Use letters, digits, '-', '_' and '.', at most 100, starting with a letter or digit. Titles may be anything.

bad-label
A label's name is not one that Prometheus has everywhere.
    defaults: {labels: {cost-center: "42"}}
Use letters, digits and '_', not starting with a digit or with '__'.

bad-duration
Not a length of time.
    defaults: {window: 30 days}
Write a number and a unit without a space: 500ms, 30s, 5m, 1h30m, 30d, 4w.

bad-percent
Not a percentage from 0 % to 100 %. A bare number could mean a share or percent, so the sign is needed.
    services: {checkout: {slos: {availability: {objective: 99.9}}}}
Write the sign: 99.9%.

bad-threshold
A limit is a number, a percentage, a length of time or a size.
    services: {checkout: {alerts: {PoolFull: {expr: db_pool_used, above: lots}}}}
Write it as 0.8, 80%, 500ms or 2GiB.

bad-url
Not a web address.
    services: {checkout: {probes: {live: {url: checkout/health}}}}
Write it with its scheme: http://checkout:8000/health.

bad-email
Not a mail address.
    routing:
      receivers:
        chat: {email: {to: oncall, from: lgtm@example.com, smarthost: "smtp.example.com:587"}}
Write it as oncall@example.com.

bad-address
Not a host and a port.
    routing:
      receivers:
        chat: {email: {to: a@example.com, from: lgtm@example.com, smarthost: smtp.example.com}}
Write it as smtp.example.com:587.

bad-target
A scrape target is host:port. Scheme and path have keys of their own.
    services: {checkout: {scrape: {targets: ["http://checkout:8000/metrics"]}}}
Write targets: ["checkout:8000"], and scheme: https or path: /metrics beside it.

bad-path
Not the path of a file below the directory of this one.
    services: {checkout: {runbook: {file: ../elsewhere/checkout.md}}}
Write it as runbooks/checkout.md, without a slash before it and without '..'.

secret-in-file
A credential stands in the file, where everybody who can read the repository can read it. It is never shown in messages.
    routing: {receivers: {chat: {slack: {url: not-shown-here}}}}
Put it into a file under secrets/ (mode 600), write {file: NAME} in its place, and replace the credential: it is known now.

env-not-allowed
${NAME} stands where the environment may not decide: the same file would mean something else on another machine.
    services: {checkout: {owner: "${TEAM}"}}
References are allowed in addresses (links, targets, probes' and receivers' url) and as {env: NAME} for secrets. For the
rest lay a second file over the first with -f.

unset-variable
The environment has no such variable, and the reference gives no value for that case.
    services: {checkout: {probes: {live: {url: "${LGTM_NO_SUCH_HOST}/health"}}}}
Set it, in the environment or in .env, or write ${NAME:-value}.

group: Queries

promql-syntax
A query is not PromQL. The caret points at the place inside the query.
    services: {checkout: {alerts: {PoolFull: {expr: "sum(rate(db_pool_used[5m])"}}}}
Close the bracket, name an existing function, complete the operator; try the query in Prometheus first.

promql-too-large
A query is longer or nested deeper than Prometheus should be asked every 30 seconds.
    services:
      checkout:
        alerts:
          PoolFull:
            expr: "(((((((((((((((((((((((((((((((((((((((((x)))))))))))))))))))))))))))))))))))))))))"
Split it: record its parts with rules of your own, and use those here.

bad-logql
A log query starts with the streams in braces, or with | for the service's own logs; rate() and ranges are added for it.
    services:
      checkout:
        slos: {paid: {objective: 99%, sli: {logs: {errors: "sum(rate({app=\"shop\"}[5m]))", total: "| json"}}}}
Write the streams and filters alone: {service_name="shop"} | json | level="error".

not-a-metric
An SLI takes raw counters and adds rate(), sum() and ranges itself; an expression stands where a metric is expected.
    services:
      checkout:
        slos: {availability: {sli: {ratio: {total: "sum(rate(http_requests_total[5m]))"}}}}
Write the metric with its labels alone: http_requests_total{code=~"5.."}.

not-a-vector
The query gives a range or a text, and an alert needs one value for each series.
    services: {checkout: {alerts: {PoolFull: {expr: "db_pool_used[5m]", above: 10}}}}
Put a function around the range, such as max_over_time(db_pool_used[5m]).

not-a-histogram
One series of a histogram is named, or none, where the histogram's own name is needed.
    services:
      checkout:
        slos: {fast: {objective: 99%, sli: {latency: {histogram: http_request_duration_seconds_bucket, under: 300ms}}}}
Leave _bucket, _count or _sum off: http_request_duration_seconds.

not-a-bucket warning
A threshold on a classic histogram is exact only at the bound of a bucket; lgtm_instrumentation has none there.
    services:
      checkout:
        processes: {pay: {name: Pay, sla: 4s, objectives: {within_sla: 95%}}}
Take the nearest bound, which the hint names, or read the objective from spans.

same-metric
Errors (or good events) and total are the same metric, so that every event would be bad, or good.
    services: {checkout: {slos: {availability: {sli: {ratio: {errors: http_requests_total}}}}}}
Narrow one of them by a label, such as {code=~"5.."}.

group: Objectives

impossible-objective
100 % leaves no budget for a single failure, ever; 0 % promises nothing.
    services: {checkout: {slos: {availability: {objective: 100%}}}}
Choose one between, such as 99.9%.

impossible-alert
A burn-rate alert would need more errors than there are events: factor × budget is 100 % or more.
    services: {checkout: {slos: {availability: {objective: 90%}}}}
Raise the objective, or name a policy under alerting: with a smaller share of the budget over that window.

slo-looser-than-sla
The SLO allows as much as customers were promised, or more: the SLA would be broken before the SLO warns.
    services: {checkout: {slos: {availability: {sla: 99.95%}}}}
Make the SLO stricter than the SLA.

unreachable-objective warning
A service can be no better than what it depends on: its objective is above that of its dependencies, multiplied.
    services:
      checkout: {depends_on: [database]}
      database: {runbook: Ask the DBA., slos: {up: {objective: 99.5%, sli: {boolean: db_up}}}}
Lower the objective, raise the dependency's, or remove the dependency when the service works without it.

bad-window
A window that is too short, too long, or a short window that is not shorter than its long one.
    services: {checkout: {slos: {availability: {window: 12h}}}}
An objective's window goes from 1d to 90d; a policy's windows from 2m to 90d.

beyond-retention words
An objective's window is longer than Prometheus keeps data, so that its budget could never be computed.
    window: 90d, with PROMETHEUS_RETENTION=15d in .env
Set a shorter window, or a longer PROMETHEUS_RETENTION in .env.

below-resolution
A time is shorter than metrics can tell: a rate needs two scrapes, and an age is no finer than the interval.
    services: {checkout: {alerts: {Errors: {expr: "rate(errors_total[15s])", above: 1}}}}
Use at least twice the scrape interval; four times survives a lost scrape.

missing-runbook warning
Somebody can be paged by this, and nothing says what to do.
    services: {shop: {alerts: {Down: {expr: up, below: 1, severity: critical}}}}
Add a runbook: to it, or to its service for everything in it.

no-runbook
A runbook that is a file does not exist.
    services: {checkout: {runbook: runbooks/checkout.md}}
Write the file, relative to the one that names it, or mend the path.

label-explodes warning
Each value of a label under `by` gets series, a budget and alerts of its own; this one has a value for each request or user.
    services: {checkout: {slos: {availability: {by: [user_id]}}}}
Group by something with few values, such as region; find the user in traces and logs.

group: Names

unknown-receiver
A route names a receiver that routing.receivers does not have.
    routing: {default: chta}
Mend the name, or add the receiver.

unknown-service
A service is named that services: does not have.
    services: {checkout: {depends_on: [databse]}}
Mend the name, or add the service.

unknown-probe
An SLI names a probe that its own service does not have.
    services: {checkout: {slos: {reachable: {objective: 99%, sli: {probe: lives}}}}}
Mend the name, or add the probe under the same service's probes:.

unknown-policy
A burn-rate policy is named that neither alerting: has nor is built in.
    defaults: {alerting: relaxed}
Use standard, tickets or none, or define the policy under alerting:.

unknown-slo
An alert names an SLO that its service does not have.
    services: {checkout: {alerts: {Errors: {slo: availabilty, above: 5%, over: 5m}}}}
Mend the name. The SLOs of a process are called after it: pay_success, pay_within_sla, pay_timeouts.

unknown-alert
A test expects something of an alert that its service does not have.
    tests: [{name: it pages, alert: SLOBurnRateCritcal, service: checkout, reaches: chat}]
Mend the name. `lgtm test` lists every alert of the file.

unknown-hours
A route names hours that routing.hours does not have.
    routing: {routes: [{during: office, to: chat}]}
Mend the name, or add the hours.

duplicate-identity
Two things would have the same name in metrics, files or alerts, and one would be lost or mixed up with the other.
    services:
      checkout:
        slos: {pay_success: {objective: 99%, sli: {boolean: up}}}
        processes: {pay: {name: Pay, objectives: {success: 99%}}}
Rename one of the two.

reserved-name
The name belongs to a policy or an alert of the generator's own.
    alerting: {standard: {critical: [{long: 1h, short: 5m, budget: 2%}]}}
Give yours another name.

reserved-label
The label means something on every series or alert already.
    services: {checkout: {slos: {availability: {by: [service]}}}}
Use another label.

duplicate-job
Two services are scraped under one job name; Prometheus would refuse the configuration.
    services:
      shop: {match: {job: checkout}, scrape: {targets: ["shop:8000"]}}
Name all targets under one of the services, and match its job from the other.

dependency-cycle
Services depend on each other in a circle, so that each would mute the other's page.
    services:
      checkout: {depends_on: [database]}
      database: {depends_on: [checkout], alerts: {DiskFull: {expr: disk_used, above: 80%}}}
Leave out the weaker dependency.

group: Times

bad-interval
An interval that is too short or too long for what it does.
    services: {checkout: {scrape: {interval: 10m}}}
Scrapes run every 1s to 2m, probes every 1s to 1h; a notification repeats no sooner than its group's interval.

bad-timeout
A probe would wait for an answer longer than until the next one starts.
    services: {checkout: {probes: {live: {interval: 5s, timeout: 10s}}}}
Choose a timeout that is not longer than the interval.

unreachable-threshold
slower_than is longer than the probe waits, so that no answer can be slower.
    services: {checkout: {probes: {live: {timeout: 5s, slower_than: 10s}}}}
Set a lower slower_than or a higher timeout.

bad-time
Not a time of the day, a day, or a moment; or a window that ends before it begins.
    maintenance: {backup: {days: sun, times: 2-4}}
Write times as 02:00-04:00, days as mon-fri, dates as 1-7, and a moment as 2026-12-01 22:00.

bad-timezone
Not the name of a time zone.
    defaults: {timezone: CEST}
Write it as Europe/Berlin or UTC: only such names know when summer time begins.

group: Routing

unused-receiver warning
A receiver that no route names: nobody hears anything from it.
    routing: {receivers: {mail: {webhook: {url: "http://mail:8001/"}}}}
Name it in a route or as the default, or remove it.

dead-route warning
No alert of this file comes to the route: none matches it, or an earlier route takes all that do.
    routing: {routes: [{owner: shop, to: chat}]}
Mend its conditions, move it up, or remove it.

unrouted-alert warning
Alerts that no route catches, without a default: they fire and nobody is told.
    routing: {default: [], routes: [{severity: critical, to: chat}]}
Set routing.default to a receiver, or add a route for them.

bad-escalation
An escalation that cannot help: to those who were told already, or sooner than the step before it.
    routing: {routes: [{severity: critical, to: chat, escalate: {after: 15m, to: chat}}]}
Name another receiver, and later times for later steps.

group: Services

no-services words
The file watches nothing.
    services: {}
Add a service under services:.

empty-service warning
A service without SLOs, alerts, probes or a scrape: nothing follows from it.
    services: {database: {title: Database}}
Give it slos:, alerts: or probes:, or remove it.
"""


def _read(text: str) -> Iterator[Code]:
    group = ""
    for block in re.split(r"\n{2,}", text.strip()):
        head, *lines = block.split("\n")
        if head.startswith("group: "):
            group = head.removeprefix("group: ")
            continue
        name, *flags = head.split()
        example = [line[4:] for line in lines if line.startswith("    ")]
        first = next(i for i, line in enumerate(lines) if line.startswith("    "))
        yield Code(
            name=name,
            group=group,
            severity="warning" if "warning" in flags else "error",
            cause=" ".join(lines[:first]),
            example="\n".join(example),
            cure=" ".join(lines[first + len(example) :]),
            in_words="words" in flags,
        )


CODES: Mapping[str, Code] = MappingProxyType({code.name: code for code in _read(_TEXT)})


def as_text(code: Code) -> str:
    """What `lgtm explain CODE` prints."""
    example = "\n".join("    " + line for line in code.example.split("\n"))
    return f"{code.severity}[{code.name}]\n\n{code.cause}\n\nFor example:\n\n{example}\n\nCure: {code.cure}"
