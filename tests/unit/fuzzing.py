"""Mutated spec files, and a program that runs many of them: each must end in diagnostics or in a render.

``python fuzzing.py run FIRST COUNT`` prints the number of each case before it and a line of JSON at the end;
``python fuzzing.py show NUMBER`` prints the file of a case. A case depends on its number alone.
"""

from __future__ import annotations

import faulthandler
import json
import random
import re
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from generator import diagnostics, explain, model
from generator.render import alertmanager, everything, rules, scrape

SEED = 20261121
ROOT = Path(__file__).resolve().parents[2]
# A case that takes more than this many seconds of processor time is at fault; one that does not end within the second
# many ends the program, with a traceback of where it was. (Tests share the machine, so that the clock alone says little.)
TOO_LONG, HANGS = 15, 60
# Dashboards take most of a render's time, so only every tenth file that is valid gets its own.
DASHBOARDS_EVERY = 10

FULL = """\
version: 1
organization: Acme
links: {grafana: "https://grafana.example.com"}
defaults: &d {owner: shop, tier: high, window: 30d, interval: 15s, minimum_events: 5, labels: {environment: test}}
services:
  checkout:
    title: Checkout 🛒
    depends_on: [database]
    scrape: {targets: ["checkout:8000", "checkout-2:8000"], interval: 15s, path: /metrics}
    probes:
      live: &p {url: "http://checkout:8000/health", interval: 30s, timeout: 5s, slower_than: 3s, status: [200, 204]}
      ready: {<<: *p, severity: critical, failures: 1}
    slos:
      availability:
        objective: 99.9%
        by: [region]
        sli: {ratio: {errors: 'http_requests_total{code=~"5.."}', total: http_requests_total}}
      latency:
        objective: 95%
        window: 7d
        sli: {latency: {histogram: 'http_request_duration_seconds{route!="/x"}', under: 300ms}}
      reachable: {objective: 99%, sli: {boolean: 'dependency_up{dependency="db"}'}}
      live: {objective: 99%, sli: {probe: live}, alerting: slow}
    alerts:
      PoolFull:
        expr: |
          sum by (pool) (db_pool_used)
            / on (pool) sum by (pool) (db_pool_size)
        above: 80%
        for: 2m
      Slow: {expr: "rate(x_total[5m] offset 5m)", below: 500ms, severity: info}
    runbook:
      symptoms: Nobody can pay.
      diagnosis: ["docker logs checkout", Look.]
      causes: [{cause: disk, fix: grow it}, memory]
  database:
    runbook: https://wiki.example.com/db
    match: {}
    slos: {up: {objective: 99.95%, sli: {ratio: {good: a_total, total: b_total}}}}
alerting:
  slow: {warning: [{long: 1d, short: 2h, budget: 10%}]}
routing:
  receivers:
    chat: {slack: {url: {file: slack_url}, channel: "#alerts"}, webhook: {url: "http://a/"}}
    mail: {email: {to: [a@example.com], from: b@example.com, smarthost: "smtp:587", password: {file: smtp}}}
  default: chat
  watchdog: [mail]
  routes:
    - {severity: critical, tier: [high, critical], to: [chat, mail]}
    - {owner: shop, to: chat}
  grouping: {by: [service], wait: 10s, interval: 1m, repeat: 4h}
"""

NASTY = (
    *(
        "",
        "~",
        "null",
        "[]",
        "{}",
        "[[]]",
        "{a: }",
        "yes",
        "on",
        "0",
        "-1",
        "1e999",
        "1e-999",
        "1e400%",
        ".inf",
        ".nan",
        "0x10",
    ),
    *("0777", "1_000", "1:30", "99999999999999999999999999999999999999999999", "9" * 5000, "1" + "0" * 300 + "d", "0.0000001%"),
    *("100%", "0%", "-5%", "99,9%", "5m5s", "0s", "999999999w", "1h-5m", "5ms5s", "2GiB", "2 parsecs", "x" * 20_000),
    *("*a", "*p", "*d", "&a", "&p x", "<<", "<<: *d", "!!binary aGk=", "!!python/object:os.system x", "!x", "!!int '5'", "? a"),
    *(
        "|",
        ">",
        ">-",
        "- - - -",
        ": ",
        "#",
        "\t",
        "---",
        "...",
        "%YAML 1.2",
        "'",
        '"',
        "''",
        "`",
        "@",
        "\\",
        "\\n",
        "\x00",
        "\x1b[31m",
    ),
    *(
        "\u2028",
        "\x85",
        "\ufeff",
        "\u200d",
        "🐈",
        "日本語",
        "e\u0301",
        "\ud7ff",
        "\U0010ffff",
        "İ",
        "ß",
        "[/red]",
        "[bold]",
        ":cat:",
    ),
    *(
        "{{",
        "}}",
        "{{ $labels.x }}",
        "{value}",
        "{hint}",
        "{0}",
        "%s",
        "%(x)s",
        "${HOME}",
        "${X:-y}",
        "$(id)",
        "`id`",
        "../../etc",
    ),
    *("sum(", ")", "rate(x[5m])", "x[5m", "x{", 'x{a=~"("}', "x{a=b}", "rate(x)", "x +", "by (", "(" * 500, "-" * 300 + "x"),
    *(
        "x" + "+x" * 500,
        "abs(" * 100 + "x" + ")" * 100,
        "x offset -5m",
        "x @ end()",
        "{a=''}",
        "vector(1)",
        "absent(x)",
        "'text'",
    ),
    *(
        'x{a="\\xff"}',
        'x{a="é"}',
        "sum by (le) (x)",
        "histogram_quantile(0.9, x)",
        "1/0",
        "Inf",
        "NaN",
        "topk(5, x)",
        "x == bool 1",
    ),
    *("http://", "https://u:p@h/", "http://[::1]:80/", "http://h\n/", "a@b", "host:99999", "/abs/path", "checkout", "database"),
    *("true", "false", "2026-12-01", "2026-12-01 22:00", "mon-fri", "25:00-26:00", "Europe/Berlin", "1-99"),
)


def bases() -> list[str]:
    """The texts that are mutated: one that has something of everything, and those of the repository."""
    files = [ROOT / "slos.yaml", *sorted((ROOT / "examples").glob("*.yaml"))]
    files += [p for p in sorted((ROOT / "tests/unit/faults").glob("*.yaml")) if p.is_file() and not p.name.startswith("too-")]
    texts = []
    for file in files:
        try:
            texts.append(file.read_text(encoding="utf-8"))
        except UnicodeDecodeError:
            continue
    return [FULL] * len(texts) + [explain.EXAMPLE_BASE] * (len(texts) // 2) + texts


def bytes_changed(rng: random.Random, text: str) -> bytes:
    """Bits turned, parts lost, doubled, moved; other encodings."""
    raw = bytearray(text.encode())
    if rng.random() < 0.2:
        encoding = rng.choice(["utf-16", "utf-16-be", "utf-32", "latin-1", "cp1252", "utf-7", "shift_jis", "utf-8-sig"])
        return text.encode(encoding, "replace")
    for _ in range(rng.choice([1, 1, 2, 5, 50])):
        start = rng.randrange(len(raw) or 1)
        end = min(len(raw), start + rng.choice([1, 1, 2, 10, 200]))
        action = rng.randrange(6)
        if action == 0 and raw:
            raw[start] ^= 1 << rng.randrange(8)
        elif action == 1:
            raw[start:start] = rng.randbytes(rng.choice([1, 4, 30]))
        elif action == 2:
            del raw[start:end]
        elif action == 3:
            raw[start:start] = raw[start:end] * rng.choice([1, 2, 20])
        elif action == 4:
            piece = raw[start:end]
            del raw[start:end]
            place = rng.randrange(len(raw) + 1)
            raw[place:place] = piece
        else:
            del raw[start if rng.random() < 0.1 else len(raw) :]
    return bytes(raw)


def tokens_changed(rng: random.Random, text: str) -> bytes:
    """Words and marks replaced by others of the file, or by nasty ones."""
    words = text.replace("{", " { ").replace("}", " } ") if rng.random() < 0.2 else text
    import re

    parts = re.split(r"(\s+|[{}\[\],:\"'|&*#-])", words)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        place = rng.randrange(len(parts))
        action = rng.randrange(4)
        if action == 0:
            parts[place] = rng.choice(NASTY)
        elif action == 1:
            parts[place] = rng.choice(parts)
        elif action == 2:
            parts.insert(place, rng.choice(NASTY) + rng.choice(["", " ", "\n"]))
        else:
            parts[place] = parts[place] * rng.choice([0, 2, 3])
    return "".join(parts).encode("utf-8", "surrogatepass")


def values(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value."""
    found = [path] if path else []
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        found += values(value, (*path, key))
    return found


def structure_changed(rng: random.Random, text: str) -> bytes:
    """The data changed: other types, parts renamed, lost, moved, wrapped, nested; and written again."""
    try:
        data = yaml.safe_load(text)
        data = json.loads(json.dumps(data, default=str))  # no aliases: each change is in one place
    except (yaml.YAMLError, ValueError, TypeError):
        return tokens_changed(rng, text)
    if not isinstance(data, dict):
        return tokens_changed(rng, text)
    for _ in range(rng.choice([1, 1, 2, 3, 10])):
        paths = values(data)
        if not paths:
            break
        path = rng.choice(paths)
        parent = data
        for part in path[:-1]:
            parent = parent[part]
        key, action = path[-1], rng.randrange(8)
        if action == 0:
            parent[key] = rng.choice([None, True, 0, -1, 1.5, 10**40, "", "x", [], {}, [None], {"": ""}, {"a": {"b": []}}])
        elif action == 1:
            parent[key] = rng.choice(NASTY)
        elif action == 2:
            del parent[key]
        elif action == 3 and isinstance(parent, dict):
            parent[rng.choice([f"{key}s", f"{key}"[:-1], rng.choice(NASTY), f"{key}".upper()])] = parent.pop(key)
        elif action == 4:
            one = json.dumps(parent[key])
            parent[key] = [json.loads(one) for _ in range(rng.choice([1, 2, 30]) if len(one) < 2000 else 1)]
        elif action == 5:
            other = data
            for part in rng.choice(paths):
                other = other[part]
            copy = json.dumps(other)
            parent[key] = json.loads(copy) if len(copy) < 20_000 else None
        elif action == 6:
            for _ in range(rng.choice([1, 3, 70])):
                parent[key] = {"a": parent[key]} if rng.random() < 0.5 else [parent[key]]
        elif isinstance(parent[key], str) and parent[key]:
            old = parent[key]
            place = rng.randrange(len(old))
            parent[key] = (
                old[:place] + rng.choice([*NASTY, "", "(", ")", "{", "}", "[", "]", '"', "=", "+", " "]) + old[place + 1 :]
            )
    return yaml.safe_dump(data, allow_unicode=True, sort_keys=False).encode("utf-8", "replace")


PLAUSIBLE = (
    (r"\b\d+(\.\d+)?%", ("99.999%", "99.5%", "95%", "90%", "50%", "1%", "0.001%", "99.9999999999%", "10%")),
    (r"\b\d+(ms|s|m|h|d|w)\b", ("1ms", "1s", "15s", "1m", "90s", "5m", "1h", "6h", "1d", "36h", "7d", "4w", "90d", "1h30m")),
    (r"\b(critical|warning|info|high|medium|low)\b", ("critical", "warning", "info", "high", "medium", "low")),
    (r"\b\d+\b", ("0", "1", "2", "7", "80", "200", "1000000000", "3.5", "0.001")),
    (r"[A-Za-z][a-z_]{3,}(?=:)", ("a", "x-y", "a.b", "Z" * 90, "checkout", "total", "above", "below")),
    (
        r"(?<=: )[A-Za-z][a-z ]+$",
        ("Ein Titel 🐈", "{{ $value }}", "a 'b' \"c\"", "x" * 300, "[/b] %s {0}", "<script>", "\\n", "`x` | y"),
    ),
)


def gentle(rng: random.Random, text: str) -> bytes:
    """Numbers, times and words changed to others that may well be valid, so that many of these are rendered."""
    for _ in range(rng.choice([1, 2, 5])):
        pattern, choice = rng.choice(PLAUSIBLE)
        found = list(re.finditer(pattern, text, re.MULTILINE))
        if found:
            match = rng.choice(found)
            text = text[: match.start()] + rng.choice(choice) + text[match.end() :]
    return text.encode()


def special(rng: random.Random, _text: str) -> bytes:
    """Files that are large or deep in one way."""
    n = rng.choice([10, 100, 1000, 20_000])
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{i}: &a{i} {{{', '.join(f'k{j}: *a{i - 1}' for j in range(9))}}}\n" for i in range(1, rng.choice([3, 9]))
    )
    merges = "b0: &b0 {x: 1}\n" + "".join(
        f"b{i}: &b{i} {{<<: [*b{i - 1}, *b{i - 1}]}}\n" for i in range(1, rng.choice([5, 40]))
    )
    head, n_small = explain.EXAMPLE_BASE, min(n, 1000)
    texts: list[Callable[[], str]] = [
        lambda: "[" * n,
        lambda: "{a: " * n,
        lambda: "- " * n + "x",
        lambda: "? " * n + "x",
        lambda: "x: " + "[" * n + "]" * n,
        lambda: "\n".join(" " * i + f"a{i}:" for i in range(min(n, 1500))),
        lambda: "\n".join(" " * i + "-" for i in range(min(n, 1500))),
        lambda: bomb,
        lambda: head + bomb,
        lambda: merges,
        lambda: "a: &a {<<: *a}\n",
        lambda: "a: &a [*a, *a]\n",
        lambda: head + "".join(f"k{i}: {i}\n" for i in range(n)),
        lambda: "version: 1\nservices:\n" + "".join(f"  s{i}: {{depends_on: [s{i + 1}, s{i + 2}]}}\n" for i in range(n_small)),
        lambda: (
            "version: 1\nservices:\n"
            + "".join(
                f"  s{i}: {{depends_on: [{', '.join(f's{j}' for j in range(i + 1, min(i + 20, 60)))}]}}\n" for i in range(60)
            )
        ),
        lambda: "version: 1\nservices:\n" + "".join(f"  s{i}: {{depends_on: [zz{i}]}}\n" for i in range(n_small)),
        lambda: (
            "version: 1\nservices:\n"
            + "".join(f"  s{i}: {{ownr: x, alerts: {{A: {{expr: 'x{{'}}}}}}\n" for i in range(n_small))
        ),
        lambda: head.replace("availability:", "? [availability]\n      :"),
        lambda: head.replace("checkout:\n", f"{'c' * n}:\n", 1),
        lambda: head.replace("99.9%", "9" * n + "%"),
        lambda: head.replace("http_requests_total}", "x{" + ",".join(f'l{i}="v"' for i in range(n_small)) + "}}"),
        lambda: head.replace("http_requests_total{code", "(" * n + "http_requests_total{code"),
        lambda: head + "x: '" + "\n" * n + "'\n",
        lambda: head + "x: " + "é" * n + "\n",
        lambda: "\n" * n + head,
        lambda: "#" * n + "\n" + head + "%" * n,
        lambda: head + f"include: [{', '.join(['nothing*.yaml'] * n_small)}]\n",
        lambda: head + "include: [case.yaml, '**/*.yaml', '/dev/zero', '/proc/self/mem', '../**']\n",
        lambda: "a: " + "!" * n,
        lambda: "&" * n,
        lambda: "*" * n,
        lambda: "a: |\n" + " x\n" * n,
        lambda: '"' + "\\" * n + '"',
        lambda: "x: [" + "a, " * n + "]",
        lambda: "x: {" + "".join(f"a{i}: , " for i in range(n)) + "}",
        lambda: "".join(f"? {{a: {i}}}\n: b\n" for i in range(n_small)),
        lambda: "\r".join(head.split("\n")),
        lambda: head.replace("\n", "\u2028"),
        lambda: "---\n" * n,
        lambda: "%TAG ! tag:x:\n---\n" + head,
    ]
    return rng.choice(texts)().encode("utf-8", "surrogatepass")


MUTATIONS = (bytes_changed, tokens_changed, tokens_changed, structure_changed, structure_changed, gentle, gentle)


def case(number: int) -> bytes:
    """The file of a case."""
    rng = random.Random(SEED * 1_000_003 + number)
    text = rng.choice(BASES)
    return special(rng, text) if rng.random() < 0.06 else rng.choice(MUTATIONS)(rng, text)


BASES = bases()


def run_one(number: int, file: Path) -> bool:
    """Check a case, and render it when it is valid; whether it was."""
    result = model.load([file], ["case.yaml"], variables={})
    for d in result.diagnostics[:200]:
        text = diagnostics.as_text(d, result.texts)
        json.dumps(diagnostics.as_json(d))
        diagnostics.as_github(d).encode("utf-8", "surrogatepass")
        if "\x1b" in text or "\x00" in text:
            raise AssertionError(f"a control character in an answer: {text!r}")
    spans = [(d.span.file, d.span.line, d.span.column) for d in result.diagnostics]
    if spans != sorted(spans) or any(line < 1 or column < 1 for _, line, column in spans):
        raise AssertionError("positions are out of order or out of the file")
    if (result.model is None) != any(d.severity == "error" for d in result.diagnostics):
        raise AssertionError(f"no model and no error, or both: {result.diagnostics}")
    if result.model is None:
        return False
    if number % DASHBOARDS_EVERY == 0:
        everything(result.model)
    else:
        for part in (rules, scrape, alertmanager):
            part.render(result.model)
    return True


def run(first: int, count: int) -> None:
    """Run cases, telling the number of each beforehand."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    failures: list[dict[str, Any]] = []
    valid, slowest = 0, (0.0, -1)
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "case.yaml"
        for number in range(first, first + count):
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()
            file.write_bytes(case(number))
            faulthandler.dump_traceback_later(HANGS, exit=True)
            began = time.process_time()
            try:
                valid += run_one(number, file)
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                failures.append({"case": number, "error": repr(error)[:300], "where": traceback.format_exc()[-1500:]})
            took = time.process_time() - began
            slowest = max(slowest, (took, number))
            if took > TOO_LONG:
                failures.append({"case": number, "error": f"it took {took:.1f} s", "where": ""})
            faulthandler.cancel_dump_traceback_later()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(
        json.dumps({"count": count, "valid": valid, "failures": failures, "peak_mib": round(peak), "slowest": slowest}) + "\n"
    )


if __name__ == "__main__":
    if sys.argv[1] == "show":
        sys.stdout.buffer.write(case(int(sys.argv[2])))
    else:
        run(int(sys.argv[2]), int(sys.argv[3]))
