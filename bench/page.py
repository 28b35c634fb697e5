"""The results as a page: what was measured, beside what it should be."""

from __future__ import annotations

from typing import Any

from generator.units import Duration


def page(known: dict[str, Any], machine: str, sloth: str, step: Duration) -> str:
    """docs/benchmarks.md from every figure that is known."""
    parts = [
        "# Benchmarks\n",
        f"Written by `make bench` (a part of it: `.venv/bin/python -m bench --only reads`), beside Sloth {sloth}, both on\n"
        f"the same Prometheus and in the same run, rules evaluated every {step}. This run: {machine}. Samples (but for\n"
        "some twenty, by when in its five minutes the slow tier ran) and exactness are the same on every machine; seconds are\n"
        "not, so compare the two columns and not two runs.\n",
    ]
    made = (
        *(("reads", _reads), ("render", _render), ("exact", _exact)),
        *(("speed", _speed), ("load", _load), ("dashboards", _dashboards), ("apply", _apply)),
        ("spec", _spec),
    )
    for name, make in made:
        if name in known:
            parts.append(make(known[name]) + _measured(known, name))
    return "\n".join(parts)


def _measured(known: dict[str, Any], name: str) -> str:
    """When a part was measured, and what else the machine did: parts can be run by themselves."""
    when, busy = known.get("when", {}).get(name), known.get("busy", {}).get(name)
    return f"\nMeasured {when}, with {busy:.0f} processes running or waiting on average.\n" if when else ""


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join("| " + " | ".join(row) + " |\n" for row in lines)


def _met(holds: bool) -> str:
    return "met" if holds else "**missed**"


def _reads(found: list[dict[str, Any]]) -> str:
    goals = {1: 40, 20: 150, 200: 1000}
    rows = []
    for r in found:
        ratio = r["sloth"] / r["ours"]
        goal = goals[r["series"]]
        rows.append(
            [
                f"{r['series']}",
                f"{r['ours']:,.0f}",
                f"{r['predicted']:,.0f}",
                f"{r['sloth']:,.0f}",
                f"1/{ratio:,.0f}",
                f"1/{goal:,} {_met(ratio >= goal)}",
                f"{r['ours_seconds'] * 1000:.1f} ms",
                f"{r['sloth_seconds'] * 1000:.1f} ms",
            ]
        )
    head = ["raw series", "samples", "`lgtm cost` says", "Sloth", "ratio", "asked for", "time", "Sloth's time"]
    return (
        "## Samples read\n\nAll rules of one SLO, alone in its service, for one evaluation, counted by the query API\n"
        "(`stats=all`). What runs every five minutes counts a tenth. A quarter of the raw series counts\n"
        "errors; three days of raw data, thirty of what is recorded. Time is the server's own `evalTotalTime`, the best of\n"
        "three of each rule: of one SLO nearly all of it is the start of a query.\n\n" + _table(head, rows)
    )


def _render(found: dict[str, Any]) -> str:
    late = found["ours_seconds"] - found["sloth_seconds"]
    rows = [
        [
            "rules per SLO, ten in a service",
            f"{found['ours_rules']:.1f}",
            f"{found['sloth_rules']:.0f}",
            _met(found["ours_rules"] <= 5),
        ],
        ["recorded series per SLO", f"{found['ours_series']:.0f}", f"{found['sloth_series']:.0f}", ""],
        [
            "render 1,000 SLOs, wall time",
            f"{found['ours_seconds']:.2f} s",
            f"{found['sloth_seconds']:.2f} s",
            _met(found["ours_seconds"] <= found["sloth_seconds"]),
        ],
        ["render 1,000 SLOs, processor time", f"{found['ours_cpu']:.2f} s", f"{found['sloth_cpu']:.2f} s", ""],
    ]
    return (
        "## Rules and rendering\n\n"
        "Each a process of its own, that reads, checks, renders and writes; the best of five by turns.\n\n"
        + _table(["", "ours", "Sloth", "asked for: at most 5 rules; no slower"], rows)
        + (
            ""
            if late <= 0
            else f"\nMissed by {late:.2f} s of wall time. Python takes 0.3 s to start and to import the format before it\n"
            "reads anything, and Sloth uses both cores.\n"
        )
    )


def _exact(found: list[dict[str, Any]]) -> str:
    rows = []
    for e in found:
        off = abs(e["ours"] - e["watched"])
        rows.append(
            [
                e["service"],
                f"{e['watched']:.2%}",
                f"{e['ours']:.2%}",
                f"{off:.3%} {_met(off <= 0.001)}",
                f"{e['sloth']:.2%}" if e["sloth"] is not None else "no value",
                f"{(1 - e['watched']) / (1 - e['sloth']):.1f} times too little spent"
                if e["sloth"] is not None and e["watched"] < 1
                else "",
                f"{e['truth']:.2%}",
            ]
        )
    head = ["service", "budget left in truth", "ours", "off (asked for: 0.1 %)", "Sloth", "Sloth is off", "truth with gaps"]
    return (
        "## Exactness\n\n"
        "The 30-day budget beside the truth that made the data: scrapes every 15 s; strong daily swings and two\n"
        "outages (swing), a tenth of the time with 90 % of the traffic and all errors (burst), no error series at all\n"
        "(clean). In all of them counters are reset by deployments, instances come and go every day, one scrape in a\n"
        "hundred is lost, and Prometheus itself is away six times, from 2 minutes to 3 h 10 min. What happened while it was\n"
        "away nobody saw: the truth that is compared is that of the rest; the last column is all of it.\n\n"
        + _table(head, rows)
    )


def _speed(found: list[dict[str, Any]]) -> str:
    def clock(seconds: int | None) -> str:
        return "never" if seconds is None else f"{seconds // 60}:{seconds % 60:02}"

    rows = []
    for d in found:
        late = None if d["ours"] is None or d["raw"] is None else d["ours"] - d["raw"]
        verdict = "" if late is None else f"{late} s {_met(0 <= late <= 45)}"
        rows.append([f"{d['share']:.2%}", clock(d["raw"]), clock(d["ours"]), verdict, clock(d["sloth"])])
    head = ["requests that fail", "raw windows", "ours", "later (asked for: 0 to 45 s)", "Sloth"]
    return (
        "## Time to page\n\nFrom the start of an outage after six good hours, objective 99.9 %; beside rules that evaluate\n"
        "every window over the raw counters. In promtool, where every evaluation is at its 30 s.\n\n" + _table(head, rows)
    )


def _load(found: dict[str, Any]) -> str:
    rules_alone = found["processor"] - found["before"]
    rows = [
        ["iterations missed", f"{found['missed']:.0f} of {found['iterations']:,.0f}", _met(found["missed"] == 0)],
        ["rule evaluation, seconds per second", f"{found['evaluating']:.1%} of one core", _met(found["evaluating"] < 0.2)],
        [
            "processor for the rules: all, less the same without rules",
            f"{rules_alone:.1%} of one core",
            _met(rules_alone < 0.2),
        ],
        ["processor of the whole process, scraping too", f"{found['processor']:.1%} of one core", ""],
        ["slowest group", f"{found['slowest']:.2f} s", ""],
        ["memory", f"{found['memory'] / 2**20:,.0f} MiB", ""],
    ]
    return (
        f"## {found['slos']:,} SLOs, live\n\nTen SLOs in each service, {found['raw_series']:,} raw series scraped every 15 s, "
        f"30 days of history, evaluated every 30 s\nfor {found['seconds'] / 60:.0f} minutes.\n\n"
        + _table(["", "measured", "asked for: none missed, under 20 %"], rows)
    )


def _dashboards(found: dict[str, Any]) -> str:
    from bench import dashboards

    return (
        f"## Dashboards\n\nEvery query of every page, over the page's own time range, on thirty days of {found['slos']} SLOs\n"
        f"and {found['hours']:g} hours of logs and traces ({found['lines']:,} lines, {found['spans']:,} spans: what the demo\n"
        "sends, with ten bad minutes at the end). Seconds are those of the page's queries one after the other, the fastest of\n"
        "three each: Prometheus's own, and Loki's and Tempo's answers from the outside. Processor seconds are those of the\n"
        "servers meanwhile, on average, with what else they did. Asked for: less than one second for each page. A row that\n"
        "is closed asks nothing until somebody opens it, and stands apart. The page of the stack itself finds nothing here:\n"
        "the servers' own metrics are no part of the data.\n\n" + dashboards.table(dashboards.costs_of(found))
    )


def _apply(found: dict[str, Any]) -> str:
    from bench import apply

    return (
        f"## From the file to the servers\n\nOn a copy of the repository with servers of its own; {apply.ROUNDS} edits each, "
        f"memory {apply.REST} s after the start.\n\n" + _table(["", "middle", "slowest", "asked for"], apply.rows(found))
    )


def _spec(found: list[dict[str, Any]]) -> str:
    from bench.validate import LIMITS

    rows = []
    for one in found:
        validate, render, memory = LIMITS[one["slos"]]
        rows.append(
            [
                f"{one['slos']:,}",
                f"{one['validate']:.2f} s (processor {one['validate_cpu']:.2f}), {_met(one['validate_cpu'] <= validate)}",
                f"{one['render']:.2f} s (processor {one['render_cpu']:.2f}), {_met(one['render_cpu'] <= render)}",
                f"{one['files']:,} of {one['size']:.0f} MiB",
                f"{one['memory']:,.0f} MiB, {_met(one['memory'] <= memory)}",
            ]
        )
    goals = ", ".join(f"{v:g} s and {r:g} s for {n:,}" for n, (v, r, _) in LIMITS.items())
    return (
        "## Large files\n\nEverything is rendered: rules, routes, probes, dashboards, runbooks. Asked for, in processor time: "
        f"{goals}; 1 GiB.\n\n" + _table(["SLOs", "validate", "render", "files", "memory"], rows)
    )
