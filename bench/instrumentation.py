"""What the instrumentation costs a service: processor time per execution and log line, memory, and with the collector away.

    .venv/bin/python bench/instrumentation.py [--seconds 2] [--json]

Times are processor time of the measuring thread, which other programs on the machine do not lengthen; the exporting threads'
share is told apart. A collector is played by a server that answers 200 and keeps nothing.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "instrumentation"))


class _Collector(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


def rss() -> float:
    """Resident memory of this process in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def microseconds(work: Callable[[], object], seconds: float, *, rounds: int = 5) -> float:
    """Processor time of one call on this thread: the best of some rounds, since noise only ever adds."""
    for _ in range(50):
        work()
    best = float("inf")
    for _ in range(rounds):
        calls, began, ends = 0, time.thread_time(), time.monotonic() + seconds / rounds
        while time.monotonic() < ends:
            for _ in range(20):
                work()
            calls += 20
        best = min(best, (time.thread_time() - began) / calls)
    return best * 1e6


def measure(mode: str, seconds: float) -> dict[str, float]:
    """The figures of one mode: `off` (no setup), `up`, `down` (nobody listens), `unredacted`."""
    before = rss()
    from lgtm_instrumentation import process, setup, stage

    telemetry = None
    stream = io.StringIO() if mode != "off" else None
    if mode != "off":
        address = "http://127.0.0.1:9" if mode == "down" else f"http://127.0.0.1:{_Collector().server_port}"
        telemetry = setup(
            "bench",
            "1.0.0",
            otlp_endpoint=address,
            processes={"order": "1.0.0"},
            log_handler=logging.StreamHandler(open("/dev/null", "w")),  # noqa: PTH123, SIM115 - the null device
            redact=False if mode == "unredacted" else (),
        )
    log = logging.getLogger("bench")
    if mode == "off":
        log.addHandler(logging.NullHandler())
        log.propagate = False
        logging.getLogger("lgtm_instrumentation").addHandler(logging.NullHandler())
        logging.getLogger("lgtm_instrumentation").propagate = False

    def execution() -> None:
        with process("order", company_id="northwind", user_id="northwind-12"):
            with stage("reserve"):
                pass
            with stage("charge"):
                pass
            with stage("ship"):
                pass

    number = 0

    def line() -> None:
        nonlocal number
        number += 1
        log.info("order %d of %s paid", number, "northwind", extra={"event": "order.paid", "amount": number, "currency": "EUR"})

    def error_line() -> None:
        try:
            raise ValueError("no cover for order 42: status=declined")
        except ValueError:
            log.exception("order failed")

    idle = rss()
    wall = time.perf_counter()
    found = {
        "execution_us": microseconds(execution, seconds),
        "log_line_us": microseconds(line, seconds),
        "error_line_us": microseconds(error_line, seconds / 2),
        "memory_setup_mib": idle - before,
        "memory_after_mib": rss() - before,
    }
    found["wall_seconds"] = time.perf_counter() - wall
    if telemetry is not None:
        # The longest that one execution holds up its caller while nobody, or somebody, listens.
        slowest = 0.0
        for _ in range(2000):
            began = time.perf_counter()
            execution()
            slowest = max(slowest, time.perf_counter() - began)
        found["slowest_execution_ms"] = slowest * 1000
        delivery = telemetry.delivery
        if delivery is not None:
            found["dropped_spans"], found["dropped_lines"] = delivery.dropped["spans"], delivery.dropped["log lines"]
        began = time.perf_counter()
        telemetry.shutdown()
        found["shutdown_seconds"] = time.perf_counter() - began
    del stream
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each figure")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--mode", choices=("off", "up", "down", "unredacted"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.mode:
        json.dump(measure(options.mode, options.seconds), sys.stdout)
        return
    # A process for each, so that memory and OpenTelemetry's globals are its own.
    results = {}
    for mode in ("off", "up", "down", "unredacted"):
        command = [sys.executable, __file__, "--mode", mode, "--seconds", str(options.seconds)]
        results[mode] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    if options.json:
        json.dump(results, sys.stdout, indent=2)
        return
    names = list(results["up"])
    print(f"{'':<24}" + "".join(f"{mode:>14}" for mode in results))
    for name in names:
        row = (f"{r[name]:>14.1f}" if name in r else f"{'-':>14}" for r in results.values())
        print(f"{name:<24}" + "".join(row))


if __name__ == "__main__":
    main()
