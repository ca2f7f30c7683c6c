"""One unary call through both stacks, against the same call on bare grpc.aio.

Client and server share one process and one uvloop, so that the CPU of both sides is counted. The
collector is a process of its own and is not. Both tracers are set up as a process sets them up, by
the standard variables.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import grpc
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation import grpc as untyped_contrib
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from benchmarks.rounds import Work
from mesh.api import channel
from mesh.call import Call, Method, Principal, door, stack
from mesh.layers.identity import Identities, make_token
from mesh.node import Node
from mesh.runtime.metrics import Metrics
from mesh.runtime.telemetry import Telemetry
from mesh.server import server_layers
from mesh.transport.grpc_server import GrpcServer
from mesh.transport.port import Route
from shop.order.v1 import order_pb2, order_pb2_grpc

METHOD = Method.at("/shop.order.v1.OrderService/GetOrder")
CONCURRENT = 10
SECRET = "benchmark"  # noqa: S105
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


@contextmanager
def exporting(collector: str, sampled: float) -> Iterator[None]:
    """Let the variables be set by which both OpenTelemetry's SDK and the mesh trace."""
    wanted = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{collector}",
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": str(sampled),
        "OTEL_BSP_SCHEDULE_DELAY": "100",  # milliseconds: what is left is sent within `SETTLE_S`
    }
    with patch.dict(os.environ, wanted):
        yield


@asynccontextmanager
async def bare(collector: str = "") -> AsyncIterator[Work]:
    """Stock server and stub; with a *collector*, under OpenTelemetry's own instrumentation."""
    traced = None
    if collector:
        with exporting(collector, 1.0):
            resource = Resource.create({"service.name": "benchmark"})
            traced = TracerProvider(resource=resource, shutdown_on_exit=False)
            traced.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
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
async def layered(collector: str = "", sampled: float = 1.0) -> AsyncIterator[Work]:
    """Both stacks of the mesh, every layer in place; with a *collector*, tracing."""
    with exporting(collector, sampled) if collector else nullcontext():
        metrics = Metrics()
        telemetry = Telemetry("benchmark", metrics=metrics)
    node = Node(
        tracer=telemetry.tracer,
        metrics=metrics,
        identities=Identities(SECRET, {"caller": Principal("caller")}),
        token=make_token(SECRET, "caller"),
    )

    async def get_order(call: Call) -> order_pb2.Order:
        return REPLY

    layers = server_layers(node)
    route = Route(METHOD, stack(*layers, around=get_order), door=door(layers, METHOD))
    server = GrpcServer(node.runtime)
    server.add({METHOD.path: route})
    port = await server.start("127.0.0.1:0")
    opened = channel("order", f"127.0.0.1:{port}", node=node)
    yield _concurrently(order_pb2_grpc.OrderServiceStub(opened).GetOrder)
    await opened.close()
    await server.stop(0)
    await telemetry.close(node.runtime.offload)
    for lost in metrics.spans_dropped.collect():
        if lost.samples:
            raise RuntimeError(f"spans were dropped, the figures are void: {lost.samples}")


def _concurrently(call: Callable[..., Awaitable[Any]]) -> Work:
    async def work(calls: int) -> Sequence[float]:
        took_s: list[float] = []

        async def some() -> None:
            for _ in range(calls // CONCURRENT):
                began = time.perf_counter()
                await call(REQUEST, timeout=10)
                took_s.append(time.perf_counter() - began)

        await asyncio.gather(*(some() for _ in range(CONCURRENT)))
        return took_s

    return work


@asynccontextmanager
async def variants(collector: str) -> AsyncIterator[dict[str, Work]]:
    """Open everything that is compared; all of it stays open, only one works at a time."""
    async with AsyncExitStack() as opened:
        enter = opened.enter_async_context
        yield {
            "raw": await enter(bare()),
            "layers": await enter(layered()),
            "layers, 10% traced": await enter(layered(collector, 0.1)),
            "layers, 100% traced": await enter(layered(collector)),
            "contrib, 100% traced": await enter(bare(collector)),
        }
