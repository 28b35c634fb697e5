"""Reading and rewriting the PromQL that a user writes. Parsing is promql-parser's; nothing here edits queries as text
but to add matchers to one selector that the parser has printed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from itertools import pairwise

import promql_parser as pp

from generator.diagnostics import nearest
from generator.units import plain

_OPERATORS = {"MatchOp.Equal": "=", "MatchOp.NotEqual": "!=", "MatchOp.Re": "=~", "MatchOp.NotRe": "!~"}


# Prometheus is asked every 30 seconds, and what walks a query here costs the cube of its depth.
MAX_CHARACTERS = 10_000
MAX_NESTING = 40
MAX_OPERATORS = 60

# https://prometheus.io/docs/prometheus/latest/querying/functions/, to find the one that was meant.
FUNCTIONS = frozenset(
    """abs absent absent_over_time acos acosh asin asinh atan atanh avg_over_time ceil changes clamp clamp_max clamp_min
    cos cosh count_over_time day_of_month day_of_week day_of_year days_in_month deg delta deriv double_exponential_smoothing
    exp floor histogram_avg histogram_count histogram_fraction histogram_quantile histogram_stddev histogram_stdvar
    histogram_sum hour idelta increase info irate label_join label_replace last_over_time ln log10 log2 mad_over_time
    max_over_time min_over_time minute month pi predict_linear present_over_time quantile_over_time rad rate resets round
    scalar sgn sin sinh sort sort_by_label sort_by_label_desc sort_desc sqrt stddev_over_time stdvar_over_time
    sum_over_time tan tanh time timestamp vector year""".split()  # noqa: SIM905 - easier to compare with the page
)
_AGGREGATES = frozenset(
    "sum avg count min max group stddev stdvar topk bottomk count_values quantile limitk limit_ratio".split()  # noqa: SIM905
)
_WORD_OPERATORS = frozenset(("and", "or", "unless", "atan2"))
_MODIFIERS = frozenset(("bool", "on", "ignoring", "group_left", "group_right"))
_TOKEN = re.compile(
    r"(?P<space>\s+|\#[^\n]*)"
    r"|(?P<string>\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'|`[^`]*`)"
    r"|(?P<open_string>[\"'`])"
    r"|(?P<number>0[xX][0-9a-fA-F]+|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?[A-Za-z0-9]*)"
    r"|(?P<word>[A-Za-z_:][A-Za-z0-9_:]*)"
    r"|(?P<operator>==|!=|=~|!~|<=|>=|[-+*/%^<>=])"
    r"|(?P<mark>[(){}\[\],@])"
    r"|(?P<other>.)",
    re.DOTALL,
)
_BETWEEN = "write one between the two, such as + or and, or remove one"
_COMPLETE = "complete it, or remove the operator"
_CLOSES = {"(": ")", "[": "]", "{": "}"}


class PromqlError(ValueError):
    """A query that cannot be used: a diagnostic's code, a sentence, a hint, and where in the query it is at fault.

    ``at`` is the offset and the length of the faulty part in characters, None for the whole.
    """

    def __init__(self, message: str, hint: str | None = None, at: tuple[int, int] | None = None, code: str = "promql-syntax"):
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.at = at
        self.code = code


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    start: int

    @property
    def at(self) -> tuple[int, int]:
        return self.start, len(self.text)


def _tokens(query: str) -> list[_Token]:
    return [_Token(str(m.lastgroup), m.group(), m.start()) for m in _TOKEN.finditer(query) if m.lastgroup != "space"]


def _check_size(query: str) -> None:
    """Raise PromqlError for what the parser could not take without running out of time or stack."""
    if len(query) > MAX_CHARACTERS:
        raise _too_large(f"it has more than {MAX_CHARACTERS} characters", (0, 1))
    # Counting marks, those inside texts too, is quick and says of nearly all queries that they are small.
    words = query.count("and") + query.count("or") + query.count("unless") + query.count("atan2")
    if sum(map(query.count, "([{")) <= MAX_NESTING and words + sum(map(query.count, "+-*/%^=<>!")) <= MAX_OPERATORS:
        return
    depth = operators = 0
    for token in _tokens(query):
        if token.text in _CLOSES:
            depth += 1
            if depth > MAX_NESTING:
                raise _too_large(f"its brackets nest more than {MAX_NESTING} deep", token.at)
        elif token.text in (")", "]", "}"):
            depth = max(0, depth - 1)
        elif token.text in _WORD_OPERATORS or (token.kind == "operator" and token.text not in ("=", "=~", "!~")):
            operators += 1
            if operators > MAX_OPERATORS:
                raise _too_large(f"it has more than {MAX_OPERATORS} operators", token.at)


def _too_large(why: str, at: tuple[int, int]) -> PromqlError:
    return PromqlError(
        f"this query is too large: {why}", "record its parts with rules of your own, and use those", at, "promql-too-large"
    )


def _parse(query: str) -> pp.Expr:
    try:
        expr: pp.Expr = pp.parse(query)
    except ValueError:
        raise
    except BaseException as error:
        # A panic of the parser's is no Exception; to us it is a query that it cannot read.
        if type(error).__name__ != "PanicException":
            raise
        raise ValueError("it cannot be read") from None
    return expr


@lru_cache(maxsize=4096)
def parse(query: str) -> pp.Expr:
    """Parse a query. Raises PromqlError, which says where in the query the fault is."""
    _check_size(query)
    try:
        return _parse(query)
    except ValueError as error:
        raise _located(query, str(error)) from None


def check(query: str) -> None:
    """Check a query that is to give one value for each series. Raises PromqlError."""
    expr = parse(query)
    while isinstance(expr, pp.ParenExpr | pp.UnaryExpr):
        expr = expr.expr
    if isinstance(expr, pp.MatrixSelector | pp.SubqueryExpr | pp.StringLiteral):
        what, hint = "a range", "leave the range out, or put a function around it, such as max_over_time(…[5m])"
        if isinstance(expr, pp.StringLiteral):
            what, hint = "a text", "write the metric without quotes around it"
        raise PromqlError(f"this is {what}, not one value for each series", hint, code="not-a-vector")


def _located(query: str, problem: str) -> PromqlError:
    """What is wrong with a query that did not parse, and where. The parser tells only what, so the place is looked for."""
    tokens = _tokens(query)
    if not tokens:
        return PromqlError("there is no query here", "write a metric, such as db_pool_used")
    for search in (_bad_character, _bad_brackets, _bad_function, _bad_braces, _bad_range, _bad_operands):
        if (found := search(tokens)) is not None:
            return found
    start, length = _smallest(query, tokens, problem)
    hint = None
    if match := re.fullmatch(r"expected type (\w+) in (?:call to function '(\w+)'|aggregation expression), got (\w+)", problem):
        wanted, function, got = match.groups()
        name = function or "an aggregation"
        if (wanted, got) == ("matrix", "vector"):
            problem, hint = f"{name} needs a range", "add one, such as [5m], right after the metric"
        elif (wanted, got) == ("vector", "matrix"):
            problem, hint = f"{name} takes no range", "leave out the range, or put rate() around it"
        else:
            problem = f"{name} needs a {wanted}, not a {got}"
    elif match := re.fullmatch(r"illegal regex for (.*)", problem, re.DOTALL):
        at = next((t.at for t in tokens if t.kind == "string" and t.text[1:-1] == match[1]), (start, length))
        shown = match[1] if len(match[1]) <= 60 else match[1][:57] + "…"
        return _syntax(f"{shown!r} is not a regular expression", "mind brackets, and double backslashes", at)
    elif "at least one non-empty matcher" in problem:
        problem, hint = "this selects every series there is", "name a metric or a label's value"
    elif problem == "ranges only allowed for vector selectors":
        problem, hint = "a range stands right after a metric only", "for an expression, write a subquery: [5m:30s]"
    elif problem == "invalid promql query":
        problem = "it does not parse"
    problem = problem.splitlines()[0] if problem.strip() else "it does not parse"
    return _syntax(problem if len(problem) <= 160 else problem[:157] + "…", hint, (start, length))


def _syntax(message: str, hint: str | None, at: tuple[int, int]) -> PromqlError:
    return PromqlError(f"this is not PromQL: {message}", hint, at)


def _bad_character(tokens: list[_Token]) -> PromqlError | None:
    for index, token in enumerate(tokens):
        if token.kind == "open_string":
            return _syntax("this quote is never closed", f"close it with {token.text}", token.at)
        if token.text == "{" and index + 1 < len(tokens) and tokens[index + 1].text == "{":
            return _syntax("templates are not filled in here", "write the value itself", (token.start, 2))
        if token.kind == "other":
            hint = "variables of Grafana's are not filled in here: write a range such as 5m" if token.text == "$" else None
            return _syntax(f"{token.text!r} means nothing here", hint, token.at)
    return None


def _bad_brackets(tokens: list[_Token]) -> PromqlError | None:
    stack: list[_Token] = []
    for token in tokens:
        if token.text in _CLOSES and token.kind == "mark":
            stack.append(token)
        elif token.kind == "mark" and token.text in ")]}":
            if not stack:
                return _syntax(f"this {token.text!r} closes nothing", "remove it, or open it before", token.at)
            opened = stack.pop()
            if _CLOSES[opened.text] != token.text:
                return _syntax(
                    f"{_CLOSES[opened.text]!r} must come before this {token.text!r}", "close the brackets in turn", token.at
                )
    if stack:
        return _syntax(f"this {stack[-1].text!r} is never closed", f"close it with {_CLOSES[stack[-1].text]!r}", stack[-1].at)
    return None


def _bad_function(tokens: list[_Token]) -> PromqlError | None:
    inside = 0
    for token, after in pairwise(tokens):
        if token.text.lower() in ("by", "without") and token.kind == "word" and after.text != "(":
            return _syntax(f"{token.text} needs labels in brackets", f"{token.text} (service)", token.at)
    for token, after in pairwise(tokens):
        inside += (token.text in ("{", "[")) - (token.text in ("}", "]"))
        if token.kind != "word" or after.text != "(" or inside:
            continue
        name = token.text
        if name.lower() in _AGGREGATES | _MODIFIERS | _WORD_OPERATORS | {"by", "without", "start", "end"} or name in FUNCTIONS:
            continue
        try:
            _parse(f"{name}()")
        except ValueError as error:
            if "unknown function" in str(error):
                near = nearest(name, FUNCTIONS | _AGGREGATES)
                hint = f"did you mean {near!r}?" if near else "a metric is not followed by brackets"
                return _syntax(f"there is no function {name!r}", hint, token.at)
    return None


def _bad_braces(tokens: list[_Token]) -> PromqlError | None:
    """Label matchers: ``name op "value"``, with commas between. A quoted name may stand alone."""
    inside, expect = False, "name"
    for index, token in enumerate(tokens):
        if not inside:
            inside, expect = token.text == "{" and token.kind == "mark", "name"
            continue
        if token.text == "}" and token.kind == "mark":
            if expect in ("operator", "value"):
                return _syntax("a label needs an operator and a quoted value", '{code="200"}', token.at)
            inside = False
        elif expect == "name":
            if token.kind not in ("word", "string"):
                return _syntax("a label's name belongs here", '{code="200"}', token.at)
            alone = token.kind == "string" and index + 1 < len(tokens) and tokens[index + 1].text in (",", "}")
            expect = "comma" if alone else "operator"
        elif expect == "operator":
            if token.text not in ("=", "!=", "=~", "!~"):
                hint = 'write = for "is"' if token.text == "==" else '{code="200"}'
                return _syntax("a label is compared with =, !=, =~ or !~", hint, token.at)
            expect = "value"
        elif expect == "value":
            if token.kind != "string":
                quoted = f'write "{token.text}"' if token.kind != "mark" else None
                return _syntax("a label's value needs quotes", quoted, token.at)
            expect = "comma"
        elif token.text == "," or (token.kind == "word" and token.text.lower() == "or"):
            expect = "name"
        else:
            return _syntax("a comma is missing before this", None, token.at)
    return None


def _bad_range(tokens: list[_Token]) -> PromqlError | None:
    """A number is a number or a duration; a range holds one duration, or two with a colon."""
    for token in tokens:
        if token.kind == "number":
            try:
                _parse(token.text)
            except ValueError:
                return _syntax(f"{token.text!r} is neither a number nor a duration", "write it as 5m or 1h30m", token.at)
    for index, token in enumerate(tokens):
        if token.text == "[" and token.kind == "mark":
            end = next((i for i in range(index, len(tokens)) if tokens[i].text == "]"), len(tokens))
            inner = tokens[index + 1 : end]
            if not inner:
                return _syntax("a range needs a duration", "[5m]", token.at)
            first = inner[0]
            if first.kind == "word" and not first.text.startswith(":"):
                return _syntax("a range needs a duration", "[5m]", first.at)
    return None


def _bad_operands(tokens: list[_Token]) -> PromqlError | None:
    """Operands and operators take turns. Label lists, braces and ranges are passed over."""
    operand = False  # whether one has just been read
    last: _Token | None = None
    index = 0
    while index < len(tokens):
        token = tokens[index]
        word = token.text.lower() if token.kind == "word" else ""
        after = tokens[index + 1].text if index + 1 < len(tokens) else ""
        if word in ("by", "without", "on", "ignoring", "group_left", "group_right") and (after == "(" or not operand):
            if after == "(":
                index = next((i for i in range(index, len(tokens)) if tokens[i].text == ")"), index)
            elif word in ("by", "without", "on", "ignoring"):
                return _syntax(f"{word} needs labels in brackets", f"{word} (service)", token.at)
        elif word == "bool" and not operand:
            pass
        elif word == "offset" and operand:
            if index + 1 < len(tokens) and tokens[index + 1].text in "-+":
                index += 1
            if index + 1 >= len(tokens) or tokens[index + 1].kind != "number":
                return _syntax("offset needs a duration", "offset 5m", token.at)
            index += 1
        elif token.text == "@" and operand:
            index += 1
            if index < len(tokens) and tokens[index].text in ("-", "+"):
                index += 1
            if index + 1 < len(tokens) and tokens[index + 1].text == "(":
                index += 2
        elif word in _WORD_OPERATORS or (token.kind == "operator"):
            if token.text in ("=", "=~", "!~"):
                return _syntax(f"{token.text!r} belongs into braces", "compare values with ==", token.at)
            if not operand and token.text not in "-+":
                return _syntax(f"nothing stands before {token.text!r}", _COMPLETE, token.at)
            operand = False
        elif token.text in ("{", "["):
            close = _CLOSES[token.text]
            if token.text == "{" and operand and (last is None or last.kind != "word"):
                return _syntax("an operator is missing before this", _BETWEEN, token.at)
            if token.text == "[" and not operand:
                return _syntax("a range stands right after a metric", None, token.at)
            index = next((i for i in range(index, len(tokens)) if tokens[i].text == close), index)
            operand = True
        elif token.text == "(":
            if operand and (last is None or last.kind != "word"):
                # After `by (…)` comes the aggregation's own bracket, where no operand has been read.
                return _syntax("an operator is missing before this", _BETWEEN, token.at)
            operand = False
        elif token.text in (")", ","):
            if not operand and not (last is not None and last.text == "(" and token.text == ")"):
                what = f"nothing stands after {last.text!r}" if last is not None else f"nothing stands before {token.text!r}"
                return _syntax(what, _COMPLETE, last.at if last is not None else token.at)
            operand = token.text == ")"
        elif operand:
            return _syntax("an operator is missing before this", _BETWEEN, token.at)
        else:
            operand = not (word in _AGGREGATES and after in ("by", "without"))
        last = tokens[min(index, len(tokens) - 1)]
        index += 1
    if not operand and last is not None:
        return _syntax(f"nothing stands after {last.text!r}", _COMPLETE, last.at)
    return None


def _smallest(query: str, tokens: list[_Token], problem: str) -> tuple[int, int]:
    """The smallest call or bracket of a query that fails for the same reason by itself, else the whole."""
    stack: list[int] = []
    parts: list[tuple[int, int]] = []
    for index, token in enumerate(tokens):
        if token.text in _CLOSES and token.kind == "mark":
            stack.append(index)
        elif token.kind == "mark" and token.text in ")]}" and stack:
            first = stack.pop()
            if first and tokens[first - 1].kind == "word":
                first -= 1
            parts.append((tokens[first].start, token.start + 1 - tokens[first].start))
    for start, length in sorted(parts, key=lambda part: part[1])[:100]:
        try:
            _parse(query[start : start + length])
        except ValueError as error:
            if str(error) == problem:
                return start, length
    text = query.strip()
    return query.index(text), len(text)


def quote(value: str) -> str:
    """A label value as a PromQL string."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def selectors(expr: pp.Expr) -> list[pp.VectorSelector]:
    """Every vector selector of an expression, those inside range selectors too."""
    found: list[pp.VectorSelector] = []

    def visit(node: pp.Expr) -> bool:
        if isinstance(node, pp.VectorSelector):
            found.append(node)
        elif isinstance(node, pp.MatrixSelector):
            found.append(node.vector_selector)
        return True

    pp.walk(expr, pre_visit=visit)
    return found


def ranges(query: str) -> list[Decimal]:
    """The ranges that a query looks back over, in seconds: 300 for ``x[5m]``. Raises PromqlError."""
    found: list[Decimal] = []

    def visit(node: pp.Expr) -> bool:
        if isinstance(node, pp.MatrixSelector):
            found.append(Decimal(str(node.range.total_seconds())))
        return True

    pp.walk(parse(query), pre_visit=visit)
    return found


def metric_name(selector: pp.VectorSelector) -> str | None:
    """The metric that a selector reads, also when it is written as ``{__name__="…"}``."""
    if selector.name:
        return selector.name
    for matcher in selector.matchers.matchers:
        if matcher.name == "__name__" and matcher.op == pp.MatchOp.Equal:
            return str(matcher.value)
    return None


def _added(text: str, matchers: Mapping[str, str], has_matchers: bool) -> str:
    """A printed selector with more matchers, which stand first."""
    more = ",".join(f"{name}={quote(value)}" for name, value in matchers.items())
    if "{" in text:
        head, _, tail = text.partition("{")
        return head + "{" + more + ("," if has_matchers else "") + tail
    match = re.match(r"[^\s\[]+", text)
    end = match.end() if match else len(text)
    return text[:end] + "{" + more + "}" + text[end:]


def with_matchers(query: str, matchers: Mapping[str, str]) -> str:
    """The query with ``matchers`` added to every selector that names none of their labels itself.

    Raises PromqlError.
    """
    return _with_matchers(query, tuple(matchers.items()))


# Rules and dashboards of a service ask for the same few again and again.
@lru_cache(maxsize=4096)
def _with_matchers(query: str, added: tuple[tuple[str, str], ...]) -> str:
    matchers = dict(added)
    expr = parse(query)
    if not matchers:
        return expr.prettify() if isinstance(expr, pp.VectorSelector) else query
    if isinstance(expr, pp.VectorSelector) and expr.offset is None and expr.at is None and query.isprintable():
        # By far the most. Sorted, as the printer does: but parsing and printing again takes as long as all the rest.
        own = [(m.name, f"{m.name}{_OPERATORS[str(m.op)]}{quote(m.value)}") for m in expr.matchers.matchers]
        if any(name in matchers for name, _ in own):
            return expr.prettify()
        every = sorted(own + [(name, f"{name}={quote(value)}") for name, value in added])
        return f"{expr.name or ''}{{{','.join(text for _, text in every)}}}"

    def visit(node: pp.Expr) -> pp.Expr | None:
        inner = node.vector_selector if isinstance(node, pp.MatrixSelector) else node
        if not isinstance(inner, pp.VectorSelector):
            return None
        own = inner.matchers.matchers
        if any(m.name in matchers for m in own):
            return None
        return parse(_added(node.prettify(), matchers, has_matchers=bool(own)))

    result: pp.Expr = pp.transform(expr, post_visit=visit)
    return re.sub(r"\s*\n\s*", " ", result.prettify()).strip()


def as_selector(query: str) -> str | None:
    """The query if it is one plain selector (a raw counter or gauge, no function, range or offset), else None.

    Raises PromqlError.
    """
    expr = parse(query)
    while isinstance(expr, pp.ParenExpr):
        expr = expr.expr
    if isinstance(expr, pp.VectorSelector) and expr.offset is None and expr.at is None:
        return expr.prettify()
    return None


def rename(
    selector: str, suffix: str, matchers: Mapping[str, str] | None = None, regex: Mapping[str, str] | None = None
) -> str:
    """A selector with ``suffix`` appended to its metric's name, and matchers added: ``x{a="1"}`` to ``x_bucket{…}``.

    Raises PromqlError; ValueError when the selector names no metric.
    """
    expr = parse(selector)
    if not isinstance(expr, pp.VectorSelector) or not expr.name:
        raise ValueError(f"{selector} names no metric")
    parts = [f"{name}={quote(value)}" for name, value in (matchers or {}).items()]
    parts += [f"{name}=~{quote(value)}" for name, value in (regex or {}).items()]
    parts += [f"{m.name}{_OPERATORS[str(m.op)]}{quote(m.value)}" for m in expr.matchers.matchers]
    return f"{expr.name}{suffix}" + ("{" + ",".join(parts) + "}" if parts else "")


def bucket_pattern(bound: Decimal) -> str:
    """A regular expression for the ``le`` label of a classic histogram's bucket.

    Prometheus 3 writes whole bounds as ``1.0`` when it scrapes them and ``1`` when they come by OTLP.
    """
    text = plain(bound)
    escaped = text.replace(".", "\\.")
    return escaped if "." in text else f"{escaped}(\\.0)?"
