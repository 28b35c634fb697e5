"""The file's alerts replayed on known history in a real Prometheus, beside what promtool says of the rendered rules."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import docker
import pytest
from click.testing import CliRunner

from bench.history import END
from bench.replay import Counter, Promtool, Recorded, load
from bench.server import Server, published, running
from bench.traffic import HOUR, Rate, http, steady
from generator import names
from generator.backtest import STEP, Backtest, LimitError, Page, Source, backtest, compare, read_incidents
from generator.cli import cli
from generator.errors import LgtmError
from generator.render import rules

DAY = 24 * HOUR
DAYS = 5
START = END - DAYS * DAY

# Start and length in seconds from START, and the share of bad events: for each the time after which it is noticed is known.
INCIDENTS = {
    # All of it: 14.4 × 0.1 % of an hour is 51.84 s.
    "shop": (2 * DAY + 9 * HOUR, 600, 1.0),
    # A tenth: 8 min 38 s.
    "mail": (3 * DAY + 3 * HOUR + 600, 1200, 0.1),
    # 2 %: 43 min 12 s.
    "search": (4 * DAY + 20 * HOUR, 2 * HOUR, 0.02),
    # Below every threshold of a page: 14.4 × 0.1 % over an hour, 6 × 0.1 % over six.
    "quiet": (4 * DAY + 5 * HOUR, 1800, 0.014),
}
DETECT = {"shop": 51.84, "mail": 518.4, "search": 2592.0}

SLI = "{ratio: {errors: 'http_requests_total{code=~\"5..\"}', total: http_requests_total}}"
SPEC = "version: 1\ndefaults: {owner: backend}\nservices:\n" + "".join(
    f"  {name}:\n    slos:\n      availability:\n        objective: 99.9%\n        sli: {SLI}\n"
    for name in (*INCIDENTS, "ghost", "recorded")
)
# Alerts on thresholds, and one on an SLO of which nothing is recorded.
SPEC += f"""
  causes:
    match: {{job: shop}}
    slos:
      copy: {{objective: 99%, alerting: none, sli: {SLI}}}
    alerts:
      Failing: {{expr: 'rate(http_requests_total{{code="500"}}[1m])', above: 5, for: 2m, severity: critical}}
      Share: {{slo: copy, over: 5m, above: 50%, severity: warning}}
      Gone: {{expr: 'http_requests_total{{code="200"}}', absent: true, severity: critical}}
"""

# For promtool: groups, a minimum, both alerts on the budget, a policy whose page reads a window of the slow tier.
GROUPED = """
version: 1
defaults: {owner: backend, window: 2d}
alerting:
  own:
    critical: [{long: 30m, short: 5m, budget: 2%}, {long: 12h, short: 30m, budget: 50%}]
    warning: [{long: 12h, short: 2h, budget: 30%}, {long: 1h, short: 10m, budget: 3%}]
    freeze: {below: 40%, severity: warning}
    exhausted: critical
services:
  grouped:
    slos:
      availability:
        objective: 99%
        alerting: own
        minimum_events: 8
        by: [region]
        sli: {ratio: {errors: 'http_requests_total{code=~"5.."}', total: http_requests_total}}
"""
GROUPED_UNTIL = 6 * HOUR


def outage(begin: int, length: int, share: float) -> Rate:
    return lambda second: share if begin <= second < begin + length else 0.0


def grouped() -> list[Counter]:
    """Two regions: one quiet with some failures, one that is there later and has outages of several sizes."""
    faults = ((HOUR, 900, 0.6), (2 * HOUR + 45, 240, 1.0), (3 * HOUR, 3000, 0.03), (4 * HOUR + 7, 1800, 0.6))

    def failing(second: int) -> float:
        return next((share for begin, length, share in faults if begin <= second < begin + length), 0.0005)

    def few(second: int) -> float:
        return 0.2 if second % 7200 < 600 else 0.0

    east = http(GROUPED_UNTIL, steady(20), failing, labels='job="grouped",region="east"')
    west = http(GROUPED_UNTIL, steady(0.05), few, labels='job="grouped",region="west"')
    # West has no series in its first hour, and loses its scrapes for twelve minutes.
    for counter in west:
        values = list(counter.values)
        values[: HOUR // 15] = [None] * (HOUR // 15)
        values[4 * HOUR // 15 : 4 * HOUR // 15 + 48] = [None] * 48
        east.append(Counter(counter.name, values))
    return east


# For twenty minutes Prometheus was away, and for twenty others the service.
AWAY, LOST = (2 * HOUR, 2 * HOUR + 1200), (3 * HOUR, 3 * HOUR + 1200)


def without(counter: Counter, *gaps: tuple[int, int]) -> Counter:
    """A counter with no samples in some times."""
    values = [None if any(a <= i * 15 < b for a, b in gaps) else value for i, value in enumerate(counter.values)]
    return Counter(counter.name, values)


# Two minutes between two multiples of five: 36 s of everything, too little for a page.
GAPPY = ("gappy", "availability")
BRIEF = (10 * HOUR + 60, 120, 0.3)


def gappy() -> list[Counter]:
    return [without(c, AWAY, LOST) for c in http(DAY, steady(10), outage(*BRIEF), labels='job="gappy"', start=1000)]


def lines(counters: list[Counter], start: int) -> Iterator[str]:
    """OpenMetrics text, series by series."""
    for counter in counters:
        for number, value in enumerate(counter.values):
            if value is not None:
                yield f"{counter.name} {value} {start + counter.offset + number * counter.every}\n"


@pytest.fixture(scope="module")
def server(prometheus_image: str) -> Iterator[Server]:
    with running(prometheus_image) as found, tempfile.TemporaryFile() as text:
        text.write(b"# TYPE http_requests counter\n")
        for service, fault in INCIDENTS.items():
            counters = http(DAYS * DAY, steady(10), outage(*fault), labels=f'job="{service}"', start=1000)
            text.write("".join(lines(counters, START)).encode())
        text.write("".join(lines(grouped(), START)).encode())
        text.write("".join(lines(gappy(), START)).encode())
        text.write(b"# TYPE up gauge\n")
        text.write("".join(lines([without(Counter('up{job="x"}', [1.0] * (DAY // 15)), AWAY)], START)).encode())
        # As rules record it, at a phase of their own: half an hour of failures, and nothing raw.
        for what, failed in (("errors", 10.0), ("total", 10.0)):
            text.write(f"# TYPE slo:sli_{what}:rate gauge\n".encode())
            for at in range(START + 7, END, 30):
                if END - 3 * HOUR + 600 <= at < END - 3 * HOUR + 840:
                    continue  # a busy Prometheus: what is not there is not made up
                value = failed if what == "total" or END - 3 * HOUR <= at < END - 3 * HOUR + 1800 else 0.0
                text.write(f'slo:sli_{what}:rate{{service="recorded",slo="availability"}} {value} {at}\n'.encode())
        text.write(b"# EOF\n")
        found.import_openmetrics(text)
        found.restart()
        yield found


@pytest.fixture(scope="module")
def source(server: Server) -> Iterator[Source]:
    with contextlib.closing(Source(server.url)) as found:
        yield found


@pytest.fixture(scope="module")
def found(source: Source) -> Backtest:
    # From a day before there was anything.
    return backtest(load(SPEC), source, START - DAY, END, suggest=True)


def pages(found: Backtest, service: str, severity: str = "critical", slo: str = "availability") -> list[Page]:
    return [p for p in found.pages if (p.service, p.severity, p.slo) == (service, severity, slo)]


def test_the_incidents_are_found_and_no_others(found: Backtest) -> None:
    for service, after in DETECT.items():
        begin, length, _ = INCIDENTS[service]
        (page,) = pages(found, service)
        assert page.alert == "SLOBurnRateCritical" and page.group == {}
        late = page.start - (START + begin + after)
        # An evaluation later at most than the formula and the 15 s for which the rate is behind.
        assert 0 <= late <= STEP + 15, f"{service}: {late} s after the formula"
        assert page.end is not None and page.end > START + begin + length
    assert pages(found, "quiet") == []
    assert {p.service for p in found.pages if p.severity == "critical"} == {*DETECT, "recorded", "causes"}


def test_what_has_no_data_is_said_to_have_none(found: Backtest) -> None:
    key = ("ghost", "availability")
    assert found.no_data == [key]
    assert found.remaining[key] is None and found.spent[key] is None and key not in found.since
    assert found.since["shop", "availability"] == pytest.approx(START + 30, abs=30)


def test_what_was_recorded_is_read_where_nothing_raw_is_left(found: Backtest) -> None:
    (page,) = pages(found, "recorded")
    # A rate of all failing: 51.84 s, at the next evaluation, and the sample up to 30 s later.
    assert 0 <= page.start - (END - 3 * HOUR + 51.84) <= 2 * STEP
    assert any(key == ("recorded", "availability") for key, _ in found.notes)


def test_budgets(found: Backtest) -> None:
    for service, (begin, length, share) in INCIDENTS.items():
        key = (service, "availability")
        # What was not lived through of the 30 days counts as good.
        assert found.remaining[key] == pytest.approx(1 - length * share / (30 * DAY) / 0.001, abs=0.001)
        assert found.spent[key] is None
        before = [left for at, left in found.budget[key] if at <= START + begin]
        assert set(before) == {1.0}
    # Twenty-six minutes of everything are 60 % of the budget of 30 days.
    assert found.remaining["recorded", "availability"] == pytest.approx(1 - 1560 / (30 * DAY) / 0.001, abs=0.001)


def test_a_budget_that_is_spent_is_spent_at_a_moment(source: Source) -> None:
    spec = load(SPEC.replace("owner: backend", "owner: backend, window: 4d"))
    spent = backtest(spec, source, START, END, only={("shop", "availability")}).spent["shop", "availability"]
    # 0.1 % of four days are 345.6 s of an outage.
    assert spent is not None
    assert 0 <= spent - (START + INCIDENTS["shop"][0] + 345.6) <= STEP + 15


def test_alerts_that_are_no_slo_are_replayed(found: Backtest) -> None:
    begin, length, _ = INCIDENTS["shop"]
    mine = {p.alert: p for p in found.pages if p.service == "causes"}
    assert set(mine) == {"Failing", "Share"}
    # 5 of 10 a second fail from half a minute on, for two minutes.
    assert 0 <= mine["Failing"].start - (START + begin + 30 + 120) <= 2 * STEP
    assert mine["Failing"].group == {"code": "500", "job": "shop"}
    # Half of five minutes, and half of the first half minute.
    assert 0 <= mine["Share"].start - (START + begin + 150) <= STEP + 15
    assert mine["Share"].slo == "" and mine["Share"].end is not None
    assert 0 <= mine["Share"].end - (START + begin + length + 150) <= STEP + 15


def test_suggestions_are_what_history_allows(found: Backtest) -> None:
    made = {s.service: s for s in found.suggestions if s.slo == "availability"}
    assert set(made) == {*INCIDENTS, "recorded"}
    for service, (_, length, share) in INCIDENTS.items():
        # Taken as if the five days went on like that.
        ratio = length * share / (DAYS * DAY)
        ladder = [c.objective for c in made[service].candidates]
        expected = next(o for o in ladder if 1 - ratio / float(1 - o) >= 0.25)
        assert made[service].proposed == expected, service
        for candidate in made[service].candidates:
            assert candidate.worst == pytest.approx(
                1 - ratio / float(1 - candidate.objective), abs=0.06 / float(1 - candidate.objective) / 100
            )
    # In so many words: 25 s of everything, 2 min, 2 min 24 s, 10 min, 26 min of five days.
    objectives = {"quiet": "0.9999", "mail": "0.9995", "search": "0.9995", "shop": "0.995", "recorded": "0.995"}
    assert {name: suggestion.proposed for name, suggestion in made.items()} == {n: Decimal(o) for n, o in objectives.items()}


def test_a_candidate_is_the_objective_replayed(found: Backtest, source: Source) -> None:
    (suggestion,) = (s for s in found.suggestions if s.service == "mail")
    for objective in ("99.99%", "99.5%"):
        spec = load(SPEC.replace("objective: 99.9%", f"objective: {objective}"))
        real = backtest(spec, source, START, END, only={("mail", "availability")})
        (candidate,) = (c for c in suggestion.candidates if c.objective == next(spec.slos).objective)
        assert candidate.pages == len(pages(real, "mail")) and candidate.tickets == len(pages(real, "mail", "warning"))
        assert candidate.remaining == real.remaining["mail", "availability"]


@pytest.fixture(scope="module")
def rules_say(promtool: Promtool) -> Recorded:
    """What promtool says of both groups of rules, each at its own interval, and of the alerts that read the other's windows."""
    spec = load(GROUPED)
    fast, slow = rules.service_groups(spec, spec.services[0])
    first = promtool.evaluate([fast], grouped(), GROUPED_UNTIL, watch='{__name__=~"slo:.+"}')
    series = [names.ERRORS_RATE, names.TOTAL_RATE, names.HISTORY_START, names.ERROR_BUDGET, names.errors_sum("1h")]
    series += [names.error_ratio(window) for window in ("10m", "1h", "2h")]
    read = first.as_inputs(series, 30, GROUPED_UNTIL)
    second = promtool.evaluate([slow], read, GROUPED_UNTIL, step=300, interval=30)
    read = second.as_inputs(
        (names.ERRORS_COUNTED, names.TOTAL_COUNTED, names.ERRORS_SLOW, names.error_ratio("12h")), 300, GROUPED_UNTIL
    )
    last = promtool.evaluate(
        [fast], [*grouped(), *read], GROUPED_UNTIL, watch=f'{{__name__=~"ALERTS|{names.BUDGET_REMAINING}"}}'
    )
    last.series["ALERTS"] |= second.series["ALERTS"]
    return last


def test_the_replay_is_what_promtool_says_of_the_rules(rules_say: Recorded, source: Source) -> None:
    mine = backtest(load(GROUPED), source, START, START + GROUPED_UNTIL)
    alerts = {
        "SLOBurnRateCritical": 30,
        "SLOBurnRateWarning": 300,
        "SLODeploymentFreeze": 30,
        "SLOBudgetExhausted": 30,
        "SLONoData": 30,
    }
    told = set()
    for alert, every in alerts.items():
        for region in ("east", "west", None):
            labels = {"region": region} if region else {}
            theirs = rules_say.firing(alert, **labels) if region or alert == "SLONoData" else []
            ours: set[int] = set()
            for page in mine.pages:
                if page.alert == alert and page.group == labels:
                    end = GROUPED_UNTIL + every if page.end is None else int(page.end) - START
                    ours |= set(range(int(page.start) - START, min(end, GROUPED_UNTIL + 1), every))
            assert sorted(ours) == theirs, (alert, region)
            told |= {(alert, region)} if theirs else set()
    # The data must be such that everything but the absence of all regions happens.
    assert {alert for alert, _ in told} == set(alerts) - {"SLONoData"}
    for at, left in mine.budget["grouped", "availability"]:
        second = int(at) - START
        recorded = [
            dict(points)[second]
            for points in rules_say.find("slo:error_budget_remaining:ratio").values()
            if second in dict(points)
        ]
        assert left == pytest.approx(min(recorded), abs=1e-9)


def test_metrics_that_are_lost_are_told_and_a_prometheus_that_was_away_is_not(source: Source) -> None:
    spec = load(SPEC.replace("  ghost:", "  gappy:"))
    (page,) = backtest(spec, source, START, START + 20 * HOUR, only={GAPPY}).pages
    assert (page.alert, page.severity) == ("SLONoData", "warning")
    # The rate has a value for up to 75 s more, and again with the second scrape.
    assert page.start - (START + LOST[0]) in (330, 360, 390)
    assert page.end is not None and page.end - (START + LOST[1]) in (30, 60)


def test_what_was_before_the_start_is_in_the_budget_and_no_page(found: Backtest, source: Source) -> None:
    key = ("shop", "availability")
    begin, _, _ = INCIDENTS["shop"]
    for start in (START + begin + 300, START + begin + DAY):
        later = backtest(load(SPEC), source, start, END, only={key})
        # The page was there before; the ticket, that comes in the first five minutes or at their end, is told of.
        assert pages(later, "shop") == []
        assert later.remaining == {key: found.remaining[key]} and later.since[key] == found.since[key]


def test_a_coarser_step_finds_the_same_a_little_later(found: Backtest, source: Source) -> None:
    only = {(service, "availability") for service in INCIDENTS}
    for step in (60, 300):
        coarse = backtest(load(SPEC), source, START, END, only=only, step=step)
        for service in DETECT:
            (page,), (exact,) = pages(coarse, service), pages(found, service)
            assert abs(page.start - exact.start) <= step + 30
            assert coarse.remaining[service, "availability"] == pytest.approx(
                found.remaining[service, "availability"], abs=0.001
            )
        assert pages(coarse, "quiet") == []
        # What fails between two steps is in the budget.
        gap = backtest(load(SPEC.replace("  ghost:", "  gappy:")), source, START, START + 20 * HOUR, only={GAPPY}, step=step)
        assert gap.remaining[GAPPY] == pytest.approx(1 - 36 / (30 * DAY) / 0.001, abs=0.001)


def test_incidents_of_a_list_are_compared(found: Backtest, tmp_path: Path) -> None:
    path = tmp_path / "incidents.csv"
    rows = [f"{START + b},{START + b + n},{service}" for service, (b, n, _) in INCIDENTS.items()]
    written = "start,end,service,name\n"
    for row in rows:
        begin, end, service = row.split(",")
        stamps = [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(t))) for t in (begin, end)]
        written += f"{stamps[0]},{stamps[1]},{service},{service} is down\n"
    path.write_text(written, encoding="utf-8")
    matched, others = compare(load(SPEC), found.pages, read_incidents(path, load(SPEC)))
    assert {one.incident.service for one in matched if one.paged is None} == {"quiet"}
    assert {one.incident.service: one.after for one in matched}["shop"] == pages(found, "shop")[0].start - START - INCIDENTS[
        "shop"
    ][0]
    assert {page.service for page in others} == {"recorded", "causes"}


def test_the_command_says_all_of_it(server: Server, tmp_path: Path) -> None:
    spec = tmp_path / "slos.yaml"
    spec.write_text(SPEC, encoding="utf-8")
    until = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(END))
    options = ["-f", str(spec), "backtest", "--prometheus", server.url, "--days", str(DAYS), "--until", until]
    text = CliRunner().invoke(cli, [*options, "--suggest", "--service", "shop", "--service", "ghost"], env={"COLUMNS": "200"})
    assert text.exit_code == 0, text.output
    assert "no data before" in text.stdout and "SLOBurnRateCritical" in text.stdout and "instead of 99.9%" in text.stdout
    data = CliRunner().invoke(cli, [*options, "--json", "--slo", "shop/availability"])
    assert data.exit_code == 0, data.output
    answer = json.loads(data.stdout)
    assert [page["alert"] for page in answer["pages"] if page["severity"] == "critical"] == ["SLOBurnRateCritical"]
    assert list(answer["slos"]) == ["shop/availability"]


# bcrypt of "correct horse", cost 4.
WEB = "basic_auth_users: {reader: $2b$04$0j7TrH9tCxWe7qGswsVU9uoF91mZtN/eLV/sJ3nvqEmoaA.XvcoMK}\n"


@pytest.fixture(scope="module")
def guarded(prometheus_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus with a password, that loads 2,000 samples for a query and no more; without any history."""
    directory = tmp_path_factory.mktemp("web")
    (directory / "web.yml").write_text(WEB, encoding="utf-8")
    command = ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/bench/data", "--log.level=error"]
    command += ["--web.config.file=/web/web.yml", "--query.max-samples=2000"]
    client = docker.from_env()
    container = client.containers.run(
        prometheus_image,
        command,
        detach=True,
        user="0",
        ports={"9090/tcp": ("127.0.0.1", 0)},
        volumes={str(directory): {"bind": "/web", "mode": "ro"}},
        labels={"lgtm.bench": "1"},
    )
    try:
        url = published(container, 9090)
        end = time.monotonic() + 60
        while "401" not in refusal(Source(url)):
            assert time.monotonic() < end, container.logs(tail=20).decode()
            time.sleep(0.2)
        yield url
    finally:
        container.remove(force=True, v=True)
        client.close()


def refusal(source: Source, expr: str = "vector(1)") -> str:
    """What a person is told when a query fails."""
    with contextlib.closing(source):
        try:
            source.range(expr, END - DAY, END, STEP)
        except LgtmError as error:
            return str(error)
    return ""


def test_a_server_that_wants_to_know_who_asks(guarded: str, tmp_path: Path) -> None:
    said = refusal(Source(guarded))
    assert said.startswith(f"{guarded} answers 401:") and "--token-file" in said and "X-Scope-OrgID" in said
    assert "401" in refusal(Source(guarded, user="reader", token="wrong"))
    spec, token = tmp_path / "slos.yaml", tmp_path / "token"
    spec.write_text(SPEC, encoding="utf-8")
    token.write_text("correct horse\n", encoding="utf-8")
    options = ["-f", str(spec), "backtest", "--prometheus", guarded, "--days", "1"]
    refused = CliRunner().invoke(cli, options)
    assert refused.exit_code == 1 and "answers 401" in refused.stderr and refused.stdout == ""
    # An empty history: every SLO is told to have no data, and none to have had no pages.
    empty = CliRunner().invoke(cli, [*options, "--user", "reader", "--token-file", str(token), "--suggest"])
    assert empty.exit_code == 0, empty.output
    assert "correct horse" not in empty.output and "No alert would have fired" not in empty.stdout
    told = [line for line in empty.stdout.splitlines() if "/availability" in line]
    assert len(told) == 6 and all("no data before" in line for line in told)


def test_a_query_that_is_too_much_is_asked_in_parts(guarded: str) -> None:
    with contextlib.closing(Source(guarded, user="reader", token="correct horse")) as source:
        ((_, points),) = source.range("vector(1)", END - DAY, END, STEP).items()
        assert [t for t, _ in points] == list(range(END - DAY, END + 1, STEP))
        with pytest.raises(LimitError, match="too many samples") as caught:
            source.range("sum_over_time(vector(1)[1d:30s])", END - DAY, END, STEP)
    assert "--step 5m" in str(caught.value.hint)


def test_an_slo_that_cannot_be_asked_for_is_neither_empty_nor_quiet(guarded: str, tmp_path: Path) -> None:
    spec, token = tmp_path / "slos.yaml", tmp_path / "token"
    query = "{raw: {error_ratio: 'sum_over_time(vector(0)[1d:30s])'}}"
    spec.write_text(f"version: 1\nservices: {{big: {{slos: {{all: {{objective: 99%, sli: {query}}}}}}}}}", encoding="utf-8")
    token.write_text("correct horse", encoding="utf-8")
    options = ["-f", str(spec), "backtest", "--prometheus", guarded, "--days", "0.02"]
    result = CliRunner().invoke(cli, [*options, "--user", "reader", "--token-file", str(token)])
    assert result.exit_code == 1
    assert "could not be asked for" in result.stdout and "no data" not in result.stdout
    assert "error: big/all:" in result.stdout and "--query.max-samples" in result.stdout


def test_nobody_there_and_somebody_else() -> None:
    said = refusal(Source("http://127.0.0.1:1"))
    assert said.startswith("http://127.0.0.1:1 does not answer: connection refused.") and "--prometheus" in said


def test_an_address_that_is_not_that_of_the_api(server: Server) -> None:
    assert "ends in /prometheus" in refusal(Source(f"{server.url}/nowhere"))
