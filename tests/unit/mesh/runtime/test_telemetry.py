"""Spans reach a collector as the standard variables say, and never keep a process from ending."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.trace import NoOpTracer

from mesh.runtime import telemetry
from mesh.runtime.clock import Runtime
from mesh.runtime.metrics import Metrics
from mesh.runtime.telemetry import Telemetry

OFFLOAD = Runtime().offload


class Collector(TraceServiceServicer):
    """An OTLP receiver that keeps what it gets."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.headers: dict[str, Any] = {}
        self.refuses = False

    async def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.headers = dict(context.invocation_metadata())
        if self.refuses:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you")
        self.requests.append(request)
        return ExportTraceServiceResponse()


@pytest.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    made = Collector()
    server = grpc.aio.server()
    add_TraceServiceServicer_to_server(made, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    yield made
    await server.stop(None)


async def test_spans_go_where_and_as_the_standard_variables_say(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=shop")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2")
    metrics = Metrics()
    traced = Telemetry("order", metrics=metrics)
    for number in range(3):
        traced.tracer.start_span(f"span {number}").end()
    await traced.close(OFFLOAD)

    sent = [request.resource_spans[0] for request in collector.requests]
    names = [span.name for part in sent for span in part.scope_spans[0].spans]
    assert names == ["span 0", "span 1", "span 2"]
    assert all(len(part.scope_spans[0].spans) <= 2 for part in sent)
    resource = {pair.key: pair.value.string_value for pair in sent[0].resource.attributes}
    assert resource["service.name"] == "order"
    assert resource["deployment.environment.name"] == "test"
    assert sent[0].scope_spans[0].scope.name == "mesh"
    assert collector.headers["x-tenant"] == "shop"
    assert [family.samples for family in metrics.spans_dropped.collect()] == [[]]


async def test_the_share_that_is_asked_for_is_recorded(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    traced = Telemetry("order")
    span = traced.tracer.start_span("no")
    assert not span.is_recording()
    span.end()
    await traced.close(OFFLOAD)
    assert not collector.requests


async def test_what_a_collector_refuses_is_counted(collector: Collector) -> None:
    collector.refuses = True
    metrics = Metrics()
    traced = Telemetry("order", metrics=metrics)
    traced.tracer.start_span("refused").end()
    await traced.close(OFFLOAD)
    assert metrics.spans_dropped.labels("not_sent")._value.get() == 1.0


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_SDK_DISABLED", "true"),
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", ""),
    ],
)
async def test_it_can_be_turned_off(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    traced = Telemetry("order")
    assert isinstance(traced.tracer, NoOpTracer)
    await traced.close(OFFLOAD)


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
        await traced.close(OFFLOAD)  # and not in an hour
