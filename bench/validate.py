"""Time and memory for large specs: 1,000 SLOs (1 s to validate, 2 s to render) and 10,000 (15 s in all, 1 GiB).

Each size runs in a process of its own, so that memory is its own. Limits are held against processor time, since the machine
may be shared; nothing here waits for anything else.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# Seconds to validate, seconds to render, MiB. For 10,000 the two together have 15 s.
LIMITS = {1_000: (1.0, 2.0, 1024), 10_000: (3.0, 12.0, 1024)}


def spec(slos: int) -> str:
    """A file with that many SLOs, ten for each service: ratios, latencies and probes, with runbooks and alerts."""
    out = ["version: 1", "organization: Bench", "defaults: {owner: backend}", "services:"]
    for s in range(slos // 10):
        out += [
            f"  svc-{s}:",
            "    tier: high",
            f'    scrape: {{targets: ["svc-{s}:8000"]}}',
            f'    probes: {{live: {{url: "http://svc-{s}:8000/health"}}}}',
            "    slos:",
        ]
        for i in range(10):
            route = f'route="/r{i}"'
            if i == 9:
                sli = "{probe: live}"
            elif i % 3 == 2:
                sli = f"{{latency: {{histogram: 'http_request_duration_seconds{{{route}}}', under: 300ms}}}}"
            else:
                errors, total = f'http_requests_total{{code=~"5..",{route}}}', f"http_requests_total{{{route}}}"
                sli = f"{{ratio: {{errors: '{errors}', total: '{total}'}}}}"
            out += [
                f"      slo{i}:",
                f"        title: Requests of route {i} succeed",
                "        objective: 99.9%",
                f"        sli: {sli}",
                "        runbook: {symptoms: Pages fail., impact: Buyers cannot pay.}",
            ]
        out.append("    alerts: {PoolFull: {expr: db_pool_used / db_pool_size, above: 80%, for: 5m}}")
    out.append('routing: {receivers: {pager: {webhook: {url: "http://localhost:8001/"}}}, default: pager}')
    return "\n".join(out) + "\n"


def measure() -> list[dict[str, Any]]:
    """For each size seconds, processor seconds, files, and MiB of them and of memory."""
    found = []
    for slos in LIMITS:
        command = [sys.executable, "-m", "bench.validate", str(slos)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found.append(json.loads(done.stdout))
    return found


def one(slos: int) -> dict[str, Any]:
    """One size, in this process."""
    from generator import model, render

    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "slos.yaml"
        file.write_text(spec(slos), encoding="utf-8")
        began, cpu = time.perf_counter(), time.process_time()
        result = model.load([file])
        validated, validated_cpu = time.perf_counter() - began, time.process_time() - cpu
        if result.model is None:
            raise SystemExit(str(result.diagnostics[:3]))
        began, cpu = time.perf_counter(), time.process_time()
        artifacts = render.everything(result.model)
        rendered, rendered_cpu = time.perf_counter() - began, time.process_time() - cpu
    return {
        "slos": slos,
        "validate": validated,
        "validate_cpu": validated_cpu,
        "render": rendered,
        "render_cpu": rendered_cpu,
        "files": len(artifacts),
        "size": sum(len(a.text) for a in artifacts) / 2**20,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(one(int(sys.argv[1]))))
