"""Tracing set-up: OpenTelemetry's SDK, configured by its standard OTEL_* variables."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import NoOpTracer, Tracer

#: What an unreachable collector may cost at shutdown.
FLUSH_TIMEOUT_S = 2.0


class Telemetry:
    """The tracer of one service. Spans go to OTEL_EXPORTER_OTLP_ENDPOINT, if it is set."""

    def __init__(self, service: str) -> None:
        self._provider: TracerProvider | None = None
        self.tracer: Tracer = NoOpTracer()
        disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
        unwanted = os.environ.get("OTEL_TRACES_EXPORTER", "otlp") == "none"
        endpoint = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or os.environ.get(
            "OTEL_EXPORTER_OTLP_ENDPOINT"
        )
        if disabled or unwanted or not endpoint:
            return
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": service}), shutdown_on_exit=False
        )
        self._exporter = OTLPSpanExporter(insecure=endpoint.startswith("http://"))
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self.tracer = self._provider.get_tracer("mesh")

    async def close(self, offload: Callable[[Callable[[], object]], Awaitable[object]]) -> None:
        """Send what is left, off the event loop and not for ever."""
        provider = self._provider
        if provider is None:
            return
        # The SDK's own flush knows no limit; without its exporter it has nothing to wait for.
        flush = asyncio.ensure_future(offload(provider.force_flush))
        try:
            await asyncio.wait_for(asyncio.shield(flush), FLUSH_TIMEOUT_S)
        except TimeoutError:
            self._exporter.shutdown()
            await flush
        await offload(provider.shutdown)
