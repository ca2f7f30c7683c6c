"""One unary call through both stacks, against the same call on bare grpc.aio.

Client and server share one process and one uvloop, so that the CPU of both sides is counted. The
collector is a process of its own and is not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation import grpc as untyped_contrib
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import NoOpTracer, Tracer

from benchmarks.rounds import Work
from mesh.api import channel
from mesh.call import Call, Method, stack
from mesh.node import Node
from mesh.server import server_layers
from mesh.transport.grpc_server import GrpcServer
from mesh.transport.port import Route
from shop.order.v1 import order_pb2, order_pb2_grpc

METHOD = Method.at("/shop.order.v1.OrderService/GetOrder")
CONCURRENT = 10
contrib: Any = untyped_contrib
REQUEST = order_pb2.GetOrderRequest(order_id="536365")
REPLY = order_pb2.Order(order_id="536365", user_id="17850", state=order_pb2.Order.CONFIRMED)


async def _reply(request: Any, context: Any) -> order_pb2.Order:
    return REPLY


_STOCK_HANDLER = grpc.method_handlers_generic_handler(
    METHOD.service,
    {
        METHOD.name: grpc.unary_unary_rpc_method_handler(
            _reply,
            request_deserializer=METHOD.request_type.FromString,
            response_serializer=METHOD.reply_type.SerializeToString,
        )
    },
)


def provider(collector: str, sampled: float) -> TracerProvider:
    """Return a tracer provider that exports a share of all traces to *collector*."""
    made = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(sampled)),
        resource=Resource.create({"service.name": "benchmark"}),
        shutdown_on_exit=False,
    )
    exporter = OTLPSpanExporter(endpoint=f"http://{collector}", insecure=True)
    made.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=65536))
    return made


@asynccontextmanager
async def bare(traced: TracerProvider | None = None) -> AsyncIterator[Work]:
    """Stock server and stub; with *traced*, under OpenTelemetry's own instrumentation."""
    ours = [contrib.aio_server_interceptor(tracer_provider=traced)] if traced else []
    theirs = contrib.aio_client_interceptors(tracer_provider=traced) if traced else []
    server = grpc.aio.server(interceptors=ours)
    server.add_generic_rpc_handlers((_STOCK_HANDLER,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", interceptors=theirs) as opened:
        yield _concurrently(order_pb2_grpc.OrderServiceStub(opened).GetOrder)
    await server.stop(None)


@asynccontextmanager
async def layered(tracer: Tracer | None = None) -> AsyncIterator[Work]:
    """Both stacks of the mesh, every layer in place."""
    node = Node(tracer=tracer or NoOpTracer())

    async def get_order(call: Call) -> order_pb2.Order:
        return REPLY

    route = Route(METHOD, unary=stack(*server_layers(node), around=get_order))
    server = GrpcServer(node.runtime)
    server.add({METHOD.path: route})
    port = await server.start("127.0.0.1:0")
    opened = channel("order", f"127.0.0.1:{port}", node=node)
    yield _concurrently(order_pb2_grpc.OrderServiceStub(opened).GetOrder)
    await opened.close()
    await server.stop(0)


def _concurrently(call: Callable[..., Awaitable[Any]]) -> Work:
    async def work(calls: int) -> None:
        async def some() -> None:
            for _ in range(calls // CONCURRENT):
                await call(REQUEST, timeout=10)

        await asyncio.gather(*(some() for _ in range(CONCURRENT)))

    return work


@asynccontextmanager
async def variants(collector: str) -> AsyncIterator[dict[str, Work]]:
    """Open everything that is compared; all of it stays open, only one works at a time."""
    async with AsyncExitStack() as opened:
        enter = opened.enter_async_context
        yield {
            "raw": await enter(bare()),
            "layers": await enter(layered()),
            "layers, 10% traced": await enter(layered(_tracer(collector, 0.1))),
            "layers, 100% traced": await enter(layered(_tracer(collector, 1.0))),
            "contrib, 100% traced": await enter(bare(provider(collector, 1.0))),
        }


def _tracer(collector: str, sampled: float) -> Tracer:
    return provider(collector, sampled).get_tracer("mesh")
