"""OpenTelemetry's own gRPC instrumentation and ours meet in one trace, whichever side has which."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import grpc
import pytest
from opentelemetry import propagate
from opentelemetry.instrumentation import grpc as instrumentation
from opentelemetry.instrumentation.grpc import grpcext
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import mesh
from tests.conformance.servicers import AioServicer, Script, SyncServicer, handlers
from tests.support.echo import EchoRequest, EchoStub, stock_channel

CONTRIB: Any = instrumentation  # it has no types
EXTENSION: Any = grpcext  # how it wants its sync interceptors to be put on a channel


class Traced:
    """One provider for both instrumentations, and what it recorded."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.node = mesh.Node(tracer=self.provider.get_tracer("mesh"))

    def joined(self) -> bool:
        """Whether the server's span is the child of the client's."""
        spans = {span.kind: span for span in self._exporter.get_finished_spans()}
        assert spans.keys() == {SpanKind.CLIENT, SpanKind.SERVER}, spans
        client, server = spans[SpanKind.CLIENT], spans[SpanKind.SERVER]
        assert client.context and server.parent
        return bool(server.parent.span_id == client.context.span_id)


@pytest.fixture
def traced() -> Iterator[Traced]:
    before = propagate.get_global_textmap()
    propagate.set_global_textmap(TraceContextTextMapPropagator())
    yield Traced()
    propagate.set_global_textmap(before)


@asynccontextmanager
async def aio_server(*interceptors: Any) -> AsyncIterator[int]:
    server = grpc.aio.server(interceptors=[*interceptors])
    server.add_generic_rpc_handlers((handlers(AioServicer(Script())),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield port
    await server.stop(0.0)


@contextmanager
def sync_server(*interceptors: Any) -> Iterator[int]:
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool, interceptors=[*interceptors])
        server.add_generic_rpc_handlers((handlers(SyncServicer(Script())),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield port
        server.stop(0.0).wait()


OURS_FIRST = pytest.mark.parametrize("ours", ["client", "server"])


@OURS_FIRST
async def test_aio(traced: Traced, ours: str) -> None:
    contrib = traced.provider
    if ours == "client":
        serving = [CONTRIB.aio_server_interceptor(tracer_provider=contrib)]
        calling = mesh.interceptors("echo", node=traced.node)
    else:
        serving = mesh.server_interceptors(node=traced.node)
        calling = CONTRIB.aio_client_interceptors(tracer_provider=contrib)
    async with aio_server(*serving) as port, stock_channel(port, *calling) as channel:
        await EchoStub(channel).Read(EchoRequest())
    assert traced.joined()


@OURS_FIRST
def test_sync(traced: Traced, ours: str) -> None:
    contrib = traced.provider
    if ours == "client":
        serving = [CONTRIB.server_interceptor(tracer_provider=contrib)]
        calling = mesh.sync.interceptors("echo", node=traced.node)
        intercept = grpc.intercept_channel
    else:
        serving = mesh.sync.server_interceptors(node=traced.node)
        calling = [CONTRIB.client_interceptor(tracer_provider=contrib)]
        intercept = EXTENSION.intercept_channel
    with sync_server(*serving) as port, grpc.insecure_channel(f"127.0.0.1:{port}") as plain:
        EchoStub(intercept(plain, *calling)).Read(EchoRequest())
    assert traced.joined()


async def test_a_mesh_client_within_a_span_of_the_application(traced: Traced) -> None:
    """What is current when a call is made is its parent, whoever made it current."""
    tracer = traced.provider.get_tracer("application")
    async with aio_server(*mesh.server_interceptors(node=traced.node)) as port:
        layers = mesh.interceptors("echo", node=traced.node)
        async with stock_channel(port, *layers) as channel:
            with tracer.start_as_current_span("work") as work:
                await EchoStub(channel).Read(EchoRequest())
    spans = traced._exporter.get_finished_spans()
    assert len({span.context.trace_id for span in spans if span.context}) == 1
    [client] = [span for span in spans if span.kind is SpanKind.CLIENT]
    assert client.parent
    assert client.parent.span_id == work.get_span_context().span_id
