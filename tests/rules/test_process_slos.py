"""The objectives of AxCouncil's processes burn when a stage of the demo's fails, times out or is slow, and only then.

The demo's own processes run on a clock that jumps; what the instrumentation counts of them goes to the real engine.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from lgtm_instrumentation import runtime, setup
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint

from bench.replay import Counter, Promtool
from demo import processes
from demo.faults import CACHE, DATABASE, LLM, Backend, Fault, Faults
from generator import model
from generator.render import rules
from tests import skipping

ROOT = Path(__file__).resolve().parents[2]
UNTIL = 600
STEPS = UNTIL // 15 + 1

COUNCIL, LOGIN, CONTEXT = processes.COUNCIL, processes.LOGIN, processes.CONTEXT
SUCCESS = {f"{process}_success" for process in (COUNCIL, LOGIN, CONTEXT)}


@pytest.fixture
def reader() -> Iterator[InMemoryMetricReader]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    found = InMemoryMetricReader()
    quiet = logging.NullHandler()
    made = setup(
        "council-api", "1", otlp_endpoint="", metric_readers=[found], log_handler=quiet, processes=dict(processes.VERSIONS)
    )
    yield found
    made.shutdown()
    root.handlers[:] = handlers
    root.setLevel(level)
    runtime.activate(None)


def traffic(fault: Fault | None, target: str, patch: pytest.MonkeyPatch) -> None:
    """One execution of each process, one after the other."""
    faults = Faults(background=0)
    if fault is not None:
        faults.inflict(target, fault)

    async def work() -> None:
        backend = Backend(faults)
        for execution in (
            processes.deliberate(backend, "globex", "c1", "u1"),
            processes.authenticate(backend, "globex", "u1", True),
            processes.load_context(backend, "globex", "u1"),
        ):
            # The caller of a process that fails gets its error; here nobody cares.
            await asyncio.gather(execution, return_exceptions=True)

    skipping.run(work(), patch)


def counters(reader: InMemoryMetricReader) -> list[Counter]:
    """What was counted, as Prometheus has it, and again with each scrape."""
    data = reader.get_metrics_data()
    assert data is not None
    once: dict[str, float] = {}
    for metric in (m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics):
        for point in metric.data.data_points:
            labels = ",".join(f'{k.replace(".", "_")}="{v!s}"' for k, v in sorted((point.attributes or {}).items()))
            if metric.name == "process.executions" and isinstance(point, NumberDataPoint):
                once[f'process_executions_total{{job="council-api",{labels}}}'] = point.value
            elif metric.name == "process.execution.duration" and isinstance(point, HistogramDataPoint):
                name, below = "process_execution_duration_seconds", 0
                for bound, count in zip((*point.explicit_bounds, "+Inf"), point.bucket_counts, strict=True):
                    below += count
                    once[f'{name}_bucket{{job="council-api",{labels},le="{bound}"}}'] = below
                once[f'{name}_count{{job="council-api",{labels}}}'] = below
    return [Counter(name, [100 + step * count for step in range(STEPS)]) for name, count in once.items()]


CASES: dict[str, tuple[str, Fault | None, set[str]]] = {
    "all is well": (DATABASE, None, set()),
    "a stage of each fails": (DATABASE, Fault(errors=1), SUCCESS),
    "a stage of the deliberation fails": (LLM, Fault(errors=1), {f"{COUNCIL}_success"}),
    "a stage of the login fails": (CACHE, Fault(errors=1), {f"{LOGIN}_success"}),
    # The login's SLA is 2 s, the context's 5 s, the deliberation's 120 s.
    "a little slow": (DATABASE, Fault(latency=1.5), set()),
    "slow for the login": (DATABASE, Fault(latency=3), {f"{LOGIN}_within_sla"}),
    "slow for the context too": (DATABASE, Fault(latency=6), {f"{LOGIN}_within_sla", f"{CONTEXT}_within_sla"}),
    "slow for the deliberation": (LLM, Fault(latency=130), {f"{COUNCIL}_within_sla"}),
    "the deliberation times out": (LLM, Fault(latency=1000), {f"{COUNCIL}_{m}" for m in ("success", "timeouts", "within_sla")}),
    "the login times out": (CACHE, Fault(latency=1000), {f"{LOGIN}_success", f"{LOGIN}_within_sla"}),
}


@pytest.mark.parametrize("case", CASES)
def test_they_burn_then_and_only_then(
    promtool: Promtool, reader: InMemoryMetricReader, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, fault, wanted = CASES[case]
    # Longer than the SLA, which is more than the demo's caller waits.
    monkeypatch.setattr(processes, "TIMEOUTS", {**processes.TIMEOUTS, COUNCIL: 200.0})
    traffic(fault, target, monkeypatch)
    found = model.load([ROOT / "examples" / "axcouncil.yaml"], variables={}).model
    assert found is not None
    service = found.by_name["council-api"]
    ours = [slo.name for slo in service.slos if slo.process in (COUNCIL, LOGIN, CONTEXT)]
    assert len(ours) == 7 and wanted <= set(ours)
    fast = [group for group in rules.service_groups(found, service) if group["name"] == "council-api:slo"]
    recorded = [{**group, "rules": [rule for rule in group["rules"] if "record" in rule]} for group in fast]
    seen = promtool.evaluate(recorded, counters(reader), UNTIL)
    burning = set()
    for slo in ours:
        assert seen.one("slo:sli_total:rate", slo=slo)[-1][1] > 0
        errors = seen.one("slo:sli_errors:rate", slo=slo)[-1][1]
        assert errors in (0, pytest.approx(1 / 15)), slo
        if errors:
            burning.add(slo)
            assert seen.one("slo:error_ratio:5m", slo=slo)[-1][1] == pytest.approx(1)
    assert burning == wanted
