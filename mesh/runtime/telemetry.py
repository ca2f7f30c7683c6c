"""Tracing set-up, by OpenTelemetry's standard OTEL_* variables."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import NoOpTracer, Tracer

from .clock import Runtime
from .export import Batches, BatchLimits
from .metrics import Metrics
from .otlp import Envelope
from .recorder import Recorder
from .sampling import Sampling

#: What an unreachable collector may cost at shutdown.
FLUSH_TIMEOUT_S = 2.0


class Telemetry:
    """The tracer of one service. Spans go to OTEL_EXPORTER_OTLP_ENDPOINT, if it is set.

    Raises:
        ValueError: an OTEL_* variable makes no sense.
    """

    def __init__(
        self, service: str, runtime: Runtime | None = None, metrics: Metrics | None = None
    ) -> None:
        self._spans: ExportedSpans | None = None
        self.tracer: Tracer = NoOpTracer()
        disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
        unwanted = os.environ.get("OTEL_TRACES_EXPORTER", "otlp") == "none"
        endpoint = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or os.environ.get(
            "OTEL_EXPORTER_OTLP_ENDPOINT"
        )
        if disabled or unwanted or not endpoint:
            return
        self._spans = ExportedSpans(service, metrics or Metrics())
        self.tracer = Recorder(self._spans.add, runtime or Runtime(), Sampling.of(os.environ))

    def flush(self) -> None:
        """Send what is left, in this thread; for `atexit`."""
        if self._spans is not None:
            self._spans.close(FLUSH_TIMEOUT_S)

    async def close(self, offload: Callable[[Callable[[], object]], Awaitable[object]]) -> None:
        """Send what is left, off the event loop and not for ever."""
        if self._spans is not None:
            await offload(self.flush)


class ExportedSpans:
    """Sends spans of *service*, batch by batch, by OTLP over gRPC."""

    def __init__(self, service: str, metrics: Metrics) -> None:
        resource = Resource.create({"service.name": service})
        self._envelope = Envelope(resource.attributes, "mesh")
        self._exporter = _Exporter()
        self._batches = Batches(
            self._send,
            BatchLimits.of(os.environ),
            lambda count, why: metrics.spans_dropped.labels(why).inc(count),
        )
        self.add = self._batches.add

    def _send(self, spans: list[bytes]) -> bool:
        return self._exporter.send(self._envelope.around(spans))

    def close(self, timeout_s: float) -> None:
        """Send what is left, for *timeout_s* seconds at most."""
        self._batches.close(timeout_s)
        self._exporter.shutdown()


class _Exporter(OTLPSpanExporter):
    """OpenTelemetry's exporter: its variables, connection and retries; the encoding is ours."""

    def send(self, request: ExportTraceServiceRequest) -> bool:
        """Send *request*; return whether it arrived."""
        return self._export(request) is SpanExportResult.SUCCESS  # type: ignore[arg-type]

    def _translate_data(self, data: ExportTraceServiceRequest) -> ExportTraceServiceRequest:  # type: ignore[override]
        return data

    def _count_data(self, data: ExportTraceServiceRequest) -> int:  # type: ignore[override]
        return len(data.resource_spans[0].scope_spans[0].spans)
