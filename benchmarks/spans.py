"""One span, from its start to its bytes: ours against OpenTelemetry's SDK and its encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, Tracer

from benchmarks.rounds import Work
from mesh.runtime.clock import Runtime
from mesh.runtime.otlp import Envelope
from mesh.runtime.recorder import Recorder

NAME = "shop.order.v1.OrderService/GetOrder"
BATCH = 500


def variants() -> dict[str, Work]:
    """Return both, with the attributes of a client span of the mesh."""
    kept = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    encoded: list[bytes] = []
    envelope = Envelope({"service.name": "benchmark"}, "mesh")

    def send_ours() -> None:
        envelope.around(encoded).SerializeToString()
        encoded.clear()

    def send_theirs() -> None:
        encode_spans(kept.get_finished_spans()).SerializeToString()
        kept.clear()

    return {
        "span": _many(Recorder(encoded.append, Runtime()), send_ours),
        "span of the SDK": _many(provider.get_tracer("mesh"), send_theirs),
    }


def _many(tracer: Tracer, send: Callable[[], None]) -> Work:
    runtime = Runtime()
    ids = [runtime.new_id() for _ in range(BATCH)]  # each call has another

    async def work(spans: int) -> Sequence[float]:
        for number in range(spans):
            attributes = {
                "rpc.system.name": "grpc",
                "rpc.method": NAME,
                "mesh.correlation_id": ids[number % BATCH],
                "server.address": "order",
            }
            span = tracer.start_span(NAME, kind=SpanKind.CLIENT, attributes=attributes)
            span.set_attribute("rpc.response.status_code", "OK")
            span.end()
            if number % BATCH == BATCH - 1:
                send()
        return ()

    return work
