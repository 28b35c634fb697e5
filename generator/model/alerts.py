"""Threshold alerts, on queries and on SLOs."""

from __future__ import annotations

from collections.abc import Mapping

from generator import names, promql
from generator.model.given import Given
from generator.model.resolved import HOUR, LONGEST_WINDOW, MINUTE, ResolvedAlert, ResolvedSlo
from generator.names import RESERVED_ALERTS
from generator.sli import has_window, with_window
from generator.source import Path_
from generator.spec import Alert
from generator.units import Duration, plain


def resolve_alert(
    given: Given,
    service: str,
    name: str,
    alert: Alert,
    owner: str,
    match: Mapping[str, str],
    interval: Duration,
    slos: Mapping[str, ResolvedSlo],
    at: Path_,
) -> ResolvedAlert:
    """A threshold alert. ``slos`` are those of its service, by name."""
    if name in RESERVED_ALERTS:
        given.say(
            "reserved-name",
            f"{name} is an alert of the generator's own",
            at,
            "give yours another name",
            on_key=True,
        )
    if alert.over is not None:
        if alert.over.seconds < interval.seconds * 2:
            given.say(
                "below-resolution",
                f"{alert.over} is too short: metrics arrive every {interval}",
                (*at, "over"),
                f"at least {interval * 2}",
            )
        elif alert.over > LONGEST_WINDOW:
            given.say("bad-window", f"{alert.over} is longer than {LONGEST_WINDOW}", (*at, "over"), "look at less")
    expr, measured = _measure(given, alert, match, slos, (*at,))
    check_ranges(given, expr, interval, (*at, "expr"))
    limit = alert.above or alert.below
    side = "above" if alert.above else "below"
    summary = alert.summary or (
        f"{measured} is {side} {limit.text}" if limit else f"{measured} is absent" if alert.absent else f"{measured} holds"
    )
    return ResolvedAlert(
        service=service,
        name=name,
        expr=expr,
        above=alert.above,
        below=alert.below,
        hold=alert.for_,
        severity=alert.severity,
        owner=alert.owner or owner,
        summary=summary,
        runbook=given.runbook(alert.runbook, (*at, "runbook")),
        absent=alert.absent,
        outage=alert.outage,
    )


def _measure(
    given: Given, alert: Alert, match: Mapping[str, str], slos: Mapping[str, ResolvedSlo], at: Path_
) -> tuple[str, str]:
    """The query of an alert without its threshold, and what it measures in words."""
    if alert.slo is not None:
        slo, over = slos.get(alert.slo), alert.over or MINUTE * 5
        if slo is None:
            return "vector(0)", alert.slo  # the references have said so
        if alert.percentile is not None:
            quantile = getattr(slo.sli, "quantile", None)
            if quantile is None:
                given.say(
                    "not-a-histogram",
                    f"the SLO {alert.slo} has no percentiles: it reads no histogram",
                    (*at, "percentile"),
                    "name an SLO of latency, of a process or of traces",
                )
                return "vector(0)", alert.slo
            words = f"the {plain(alert.percentile)}th percentile of {alert.slo}"
            return quantile(slo.context, alert.percentile, over), words
        selector = f"{{service={promql.quote(slo.service)},slo={promql.quote(slo.name)}}}"
        fast = over <= HOUR * 6
        errors, total = (names.ERRORS_RATE, names.TOTAL_RATE) if fast else (names.ERRORS_SLOW, names.TOTAL_SLOW)
        bad = f"sum_over_time({errors}{selector}[{over}])"
        expr = f"{bad} / (sum_over_time({total}{selector}[{over}]) > 0)"
        if alert.minimum_events:
            # Samples are rates, so each stands for thirty seconds of events.
            expr = f"{expr} and {bad} * 30 > {alert.minimum_events - 1}.5"
        return expr, f"the share of bad events of {alert.slo} over {over}"
    written = str(alert.expr)
    expr = with_window(written, alert.over)
    if "{" in expr or "(" in expr or match:
        expr = promql.with_matchers(expr, match)
    if alert.over is not None and not has_window(written):
        function = {"average": "avg", "highest": "max", "lowest": "min"}[alert.take] + "_over_time"
        if alert.absent:
            function = "absent_over_time"
        whole = promql.as_selector(with_window(written, alert.over)) is not None
        expr = f"{function}({expr}[{alert.over}])" if whole else f"{function}(({expr})[{alert.over}:1m])"
    elif alert.absent:
        expr = f"absent({expr})"
    return expr, written


def check_ranges(given: Given, expr: str, interval: Duration, at: Path_) -> None:
    """A rate over less than two scrapes is always empty."""
    for range_ in promql.ranges(expr):
        if range_ < interval.seconds * 2:
            given.say(
                "below-resolution",
                f"a range of {Duration(range_)} holds less than two samples: metrics arrive every {interval}",
                at,
                f"at least {interval * 2}; {interval * 4} survives a lost scrape",
            )
            return
