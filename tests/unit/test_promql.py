"""PromQL: where it is wrong, and how it is rewritten."""

from __future__ import annotations

import re
import time
from decimal import Decimal

import promql_parser
import pytest

from generator import promql
from generator.promql import PromqlError


@pytest.mark.parametrize(
    ("query", "marked", "says"),
    [
        ("sum(rate(x[5m])", "(", "never closed"),
        ("rate(x[5m]))", ")", "closes nothing"),
        ("(x]", "]", "must come before"),
        ("raet(x[5m])", "raet", "no function 'raet'"),
        ("x +", "+", "nothing stands after '+'"),
        ("* x", "*", "nothing stands before"),
        ("x > > y", ">", "nothing stands before"),
        ("sum(x) by (a) > 3 unless", "unless", "nothing stands after"),
        ("x y", "y", "operator is missing"),
        ("x{a=b}", "b", "needs quotes"),
        ('x{a=="b"}', "==", "compared with"),
        ('x{a="b" c="d"}', "c", "comma is missing"),
        ('x{a="b}', '"', "never closed"),
        ('x{a=~"("}', '"("', "regular expression"),
        ("x[5x]", "5x", "neither a number nor a duration"),
        ("rate(x[$__rate_interval])", "$", "means nothing here"),
        ("rate(x[{{window}}])", "{{", "templates"),
        ("sum(rate(x)) / sum(rate(y[5m]))", "rate(x)", "needs a range"),
        ("sum(x[5m])", "sum(x[5m])", "takes no range"),
        ("sum by le (x)", "by", "labels in brackets"),
        ("x offset", "offset", "needs a duration"),
        ("{a=''}", "{a=''}", "every series"),
        ("é", "é", "means nothing here"),
    ],
)
def test_faults_have_a_place(query: str, marked: str, says: str) -> None:
    with pytest.raises(PromqlError, match=re.escape(says)) as error:
        promql.check(query)
    assert error.value.at is not None
    offset, length = error.value.at
    assert query[offset : offset + length] == marked
    assert error.value.code == "promql-syntax"


@pytest.mark.parametrize(
    "query",
    [
        "x",
        "vector(1)",
        'sum by (a) (rate(x{b=~"c.*"}[5m])) / on (a) group_left () y > bool 0.5',
        "histogram_quantile(0.9, sum by (le) (rate(x_bucket[5m] offset 1h)))",
        "x @ end() and ignoring (a) y offset -5m unless -z ^ 2",
        '{__name__=~"a.*", "b.c"="d"}',
        "max_over_time(rate(x[5m])[1h:1m]) # a comment",
    ],
)
def test_queries_are_taken(query: str) -> None:
    promql.check(query)


@pytest.mark.parametrize(("query", "what"), [("x[5m]", "a range"), ("(x[5m:1m])", "a range"), ('"text"', "a text")])
def test_no_vector(query: str, what: str) -> None:
    with pytest.raises(PromqlError, match=what) as error:
        promql.check(query)
    assert error.value.code == "not-a-vector"


@pytest.mark.parametrize(
    "query",
    [
        "(" * 5000 + "x" + ")" * 5000,
        "x" + "+x" * 5000,
        "-" * 5000 + "x",
        "abs(" * 200 + "x" + ")" * 200,
        "x" * 20_000,
        "x" + " or x" * 99,
    ],
)
def test_what_would_take_forever_is_refused_at_once(query: str) -> None:
    began = time.process_time()
    with pytest.raises(PromqlError) as error:
        promql.check(query)
    assert error.value.code == "promql-too-large"
    assert time.process_time() - began < 1


def test_the_largest_query_is_quick() -> None:
    began = time.process_time()
    promql.with_matchers("x" + "+x" * promql.MAX_OPERATORS, {"job": "a"})
    promql.with_matchers("(" * promql.MAX_NESTING + "x" + ")" * promql.MAX_NESTING, {"job": "a"})
    assert time.process_time() - began < 2


def test_every_function_that_is_proposed_exists() -> None:
    for name in promql.FUNCTIONS:
        with pytest.raises(ValueError, match=r".*") as error:
            promql_parser.parse(f"{name}(((")
        assert "unknown function" not in str(error.value)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("x", 'x{job="a"}'),
        ('x{b="c"}', 'x{job="a",b="c"}'),
        ('x{job="other"}', 'x{job="other"}'),
        ("rate(x[5m]) / y", 'rate(x{job="a"}[5m]) / y{job="a"}'),
        ('sum(x{job=~"b.*"}) + y', 'sum(x{job=~"b.*"}) + y{job="a"}'),
        ('{__name__=~"a.*"}', '{job="a",__name__=~"a.*"}'),
        ("vector(1)", "vector(1)"),
        ("x offset 5m", 'x{job="a"} offset 5m'),
    ],
)
def test_matchers_are_added(query: str, expected: str) -> None:
    def canonical(text: str) -> str:
        return " ".join(str(promql_parser.parse(text).prettify()).split())

    assert canonical(promql.with_matchers(query, {"job": "a"})) == canonical(expected)


def test_values_are_quoted() -> None:
    odd = 'a"b\\c\nd'
    added = promql.parse(promql.with_matchers("x", {"job": odd}))
    assert [m.value for m in promql.selectors(added)[0].matchers.matchers] == [odd]


def test_selectors() -> None:
    assert promql.as_selector("(x)") == "x"
    assert promql.as_selector("rate(x[5m])") is None
    assert promql.as_selector("x offset 5m") is None
    assert promql.rename('x{a="1"}', "_bucket", regex={"le": "0\\.3"}) == 'x_bucket{le=~"0\\\\.3",a="1"}'
    assert promql.metric_name(promql.selectors(promql.parse('{__name__="y"}'))[0]) == "y"


@pytest.mark.parametrize(("bound", "pattern"), [("0.3", "0\\.3"), ("1", "1(\\.0)?"), ("0.25", "0\\.25"), ("300", "300(\\.0)?")])
def test_bucket_patterns(bound: str, pattern: str) -> None:
    assert promql.bucket_pattern(Decimal(bound)) == pattern
