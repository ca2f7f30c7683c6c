"""Tracing never keeps a process from ending."""

import socket

import pytest

from mesh.runtime import telemetry
from mesh.runtime.clock import Runtime
from mesh.runtime.telemetry import Telemetry


@pytest.mark.parametrize("listens", [True, False], ids=["frozen", "gone"])
async def test_a_collector_that_does_not_answer_delays_the_end_for_seconds_only(
    monkeypatch: pytest.MonkeyPatch, listens: bool
) -> None:
    with socket.socket() as collector:
        collector.bind(("127.0.0.1", 0))
        if listens:
            collector.listen()
        port = collector.getsockname()[1]
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "3600")
        monkeypatch.setattr(telemetry, "FLUSH_TIMEOUT_S", 0.1)
        traced = Telemetry("test")
        traced.tracer.start_span("lost").end()
        await traced.close(Runtime().offload)  # and not in an hour
