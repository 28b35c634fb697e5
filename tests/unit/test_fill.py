"""The made-up hours of telemetry that dashboards are measured on: as a service that keeps the contract sends it."""

from __future__ import annotations

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from bench import fill

AT = 1_795_000_000 * 10**9


def test_a_slice_tells_the_same_in_logs_and_traces() -> None:
    made = fill._Slice("shop", "checkout", fill.RATE, 0.2)
    for number in range(2):
        began = AT + number * 10**10
        logs, traces = made.at(began)
        lines = ExportLogsServiceRequest.FromString(logs).resource_logs[0].scope_logs[0].log_records
        spans = ExportTraceServiceRequest.FromString(traces).resource_spans[0].scope_spans[0].spans
        assert (len(lines), len(spans)) == (made.lines, made.spans)
        assert {line.trace_id for line in lines} == {span.trace_id for span in spans} and len(
            {s.span_id for s in spans}
        ) == made.spans
        assert all(began <= span.start_time_unix_nano < began + 2 * 10**10 for span in spans)

        def field(one: object, name: str) -> str | None:
            return next((a.value.string_value for a in one.attributes if a.key == name), None)  # type: ignore[attr-defined]

        ended = {line.trace_id: line for line in lines if field(line, "event") == "process.finished"}
        executions = [span for span in spans if field(span, "process.status")]
        assert len(executions) == fill.RATE * 10 == len(ended)
        failed = 0
        for span in executions:
            line = ended[span.trace_id]
            for name in ("process.id", "process.status", "company.id", "error.type", "request.id"):
                assert field(line, name) == field(span, name), name
            bad = field(span, "process.status") != "success"
            failed += bad
            # Whoever looks for failures reads no other lines.
            assert (line.severity_text == "ERROR") is bad and (field(line, "process.stage") is not None) is bad
        assert 0.1 < failed / len(executions) < 0.3
