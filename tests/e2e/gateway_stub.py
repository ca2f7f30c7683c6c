"""A gateway with stub services behind it and an OTLP collector beside it, for the tests of it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from mesh.metadata import STATUS_DETAILS
from mesh.saga.v1 import saga_pb2
from shop.inventory.v1 import inventory_pb2
from shop.orchestrator.v1 import orchestrator_pb2
from shop.order.v1 import order_pb2
from tests.support.ports import free_ports
from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "the-gateways-own-token"
SERVED = ("inventory", "orchestrator", "order")
#: Exposed services that have no stub: nothing listens where they should.
ABSENT = ("user", "payment", "shipping", "notification", "analytics")


@dataclass
class Seen:
    """A call that reached a stub."""

    request: Any
    metadata: dict[str, str]
    remaining_s: float | None


@dataclass
class Outcome:
    """What came out at the other side of the gateway."""

    calls: list[Seen] = field(default_factory=list)
    spans: list[tuple[str, Span]] = field(default_factory=list)


@dataclass
class Edge:
    """A running gateway."""

    port: int
    admin_url: str
    log: Path
    process: subprocess.Popen[bytes]
    outcome: Outcome = field(repr=False)

    @property
    def base_url(self) -> str:
        """Where REST is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def calls(self) -> list[Seen]:
        """Every call that reached a service."""
        return self.outcome.calls

    @property
    def last(self) -> Seen:
        """The latest of them."""
        return self.calls[-1]

    def get(self, path: str, **options: Any) -> httpx.Response:
        """GET *path*."""
        return httpx.get(self.base_url + path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        """POST to *path*."""
        return httpx.post(self.base_url + path, **options)

    def trace_of(self, correlation_id: str, *, spans: int) -> list[Span]:
        """Wait for the spans of a request; return them, the root first."""

        def found() -> list[Span]:
            return [
                span
                for _, span in self.outcome.spans
                if attributes(span).get("mesh.correlation_id") == correlation_id
            ]

        eventually(lambda: len(found()) >= spans)
        return sorted(found(), key=lambda span: bool(span.parent_span_id))


def attributes(span: Span) -> dict[str, str]:
    """Return a span's text attributes."""
    return {pair.key: pair.value.string_value for pair in span.attributes}


def get_order(request: Any, context: Any) -> order_pb2.Order:
    """Answer, or refuse with the status that the order's id is the name of."""
    if code := getattr(grpc.StatusCode, request.order_id, None):
        refuse(context, code)
    return order_pb2.Order(order_id=request.order_id, state=order_pb2.Order.PENDING)


def list_orders(request: Any, context: Any) -> order_pb2.ListOrdersResponse:
    """Answer with nearly all that fits into a gRPC message."""
    return order_pb2.ListOrdersResponse(orders=[order_pb2.Order(user_id="x" * 60_000)] * 60)


def watch_order(request: Any, context: Any) -> Iterator[order_pb2.WatchOrderResponse]:
    """Tell of one change, then the end."""
    order = order_pb2.Order(order_id=request.order_id, state=order_pb2.Order.PENDING)
    yield order_pb2.WatchOrderResponse(order=order)
    order.state = order_pb2.Order.CONFIRMED
    yield order_pb2.WatchOrderResponse(order=order, final=True)


def place_order(request: Any, context: Any) -> orchestrator_pb2.PlaceOrderResponse:
    """Answer without a state."""
    return orchestrator_pb2.PlaceOrderResponse(order_id=request.order_id)


def get_item(request: Any, context: Any) -> inventory_pb2.Item:
    """Answer with the SKU that came."""
    return inventory_pb2.Item(sku=request.sku)


def get_saga(request: Any, context: Any) -> saga_pb2.Saga:
    """Answer with a saga that is over."""
    return saga_pb2.Saga(saga_id=request.saga_id, state=saga_pb2.Saga.COMPLETED)


STUBS: tuple[tuple[Any, str, dict[str, Any]], ...] = (
    (
        order_pb2,
        "OrderService",
        {"GetOrder": get_order, "ListOrders": list_orders, "WatchOrder": watch_order},
    ),
    (orchestrator_pb2, "OrchestratorService", {"PlaceOrder": place_order}),
    (inventory_pb2, "InventoryService", {"GetItem": get_item}),
    (saga_pb2, "SagaService", {"GetSaga": get_saga}),
)


def refuse(context: Any, code: grpc.StatusCode) -> None:
    """Abort as a service of the mesh does: with the details of the refusal."""
    status = Status(code=code.value[0], message="no: ✗")
    for detail in (
        ErrorInfo(reason="BECAUSE", domain="mesh", metadata={"outcome": "refused"}),
        BadRequest(field_violations=[BadRequest.FieldViolation(field="a.b", description="bad")]),
    ):
        packed = Packed()
        packed.Pack(detail)
        status.details.append(packed)
    context.set_trailing_metadata(((STATUS_DETAILS, status.SerializeToString()),))
    context.abort(code, status.message)


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps the spans it is sent, each with its service's name."""

    def __init__(self, spans: list[tuple[str, Span]]) -> None:
        self.spans = spans

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802  # the protocol's name
        for batch in request.resource_spans:
            names = {pair.key: pair.value.string_value for pair in batch.resource.attributes}
            for scope in batch.scope_spans:
                self.spans += [(names["service.name"], span) for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()


@contextmanager
def backend(outcome: Outcome) -> Iterator[int]:
    """Serve the stubs and the collector; yield their port."""
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
    for module, name, answers in STUBS:
        service: ServiceDescriptor = module.DESCRIPTOR.services_by_name[name]
        methods = {
            method: _handler(service.methods_by_name[method], answer, outcome.calls)
            for method, answer in answers.items()
        }
        generic = grpc.method_handlers_generic_handler(service.full_name, methods)
        server.add_generic_rpc_handlers((generic,))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(  # type: ignore[no-untyped-call]
        Collector(outcome.spans), server
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(grace=0).wait()


def _handler(method: MethodDescriptor, answer: Any, calls: list[Seen]) -> Any:
    def see_and_answer(request: Any, context: Any) -> Any:
        metadata = {key: str(value) for key, value in context.invocation_metadata()}
        calls.append(Seen(request, metadata, context.time_remaining()))
        return answer(request, context)

    make = (
        grpc.unary_stream_rpc_method_handler
        if method.server_streaming
        else grpc.unary_unary_rpc_method_handler
    )
    return make(
        see_and_answer,
        request_deserializer=GetMessageClass(method.input_type).FromString,
        response_serializer=lambda reply: reply.SerializeToString(),
    )


def environment() -> dict[str, str]:
    """Return ours, with this project importable in a child."""
    path = os.pathsep.join(str(entry) for entry in (ROOT, ROOT / "protos" / "python"))
    return {**os.environ, "PYTHONPATH": path}


@contextmanager
def running(data: Path, *flags: str, absent: int | None = None) -> Iterator[Edge]:
    """Start the stubs, and the gateway as `mesh up` does; yield when it serves.

    absent: the port of the services that have no stub; by default one where nobody listens.
    """
    outcome = Outcome()
    port, admin, nobody = free_ports(3)
    with backend(outcome) as served, (data / "gateway.log").open("wb") as log:
        services = [f"{name}=127.0.0.1:{served}" for name in SERVED]
        services += [f"{name}=127.0.0.1:{absent or nobody}" for name in ABSENT]
        command = [
            *(sys.executable, "-m", "gateway", "--data", str(data)),
            *("--port", str(port), "--admin-port", str(admin), "--otlp-port", str(served)),
            *("--services", ",".join(services)),
            *flags,
        ]
        process = subprocess.Popen(
            command, cwd=ROOT, stderr=log, env={**environment(), "MESH_TOKEN": TOKEN}
        )
        edge = Edge(port, f"http://127.0.0.1:{admin}", data / "gateway.log", process, outcome)
        try:
            eventually(lambda: process.poll() is not None or serves(edge))
            assert process.poll() is None, edge.log.read_text()
            yield edge
        finally:
            process.terminate()
            process.wait(10)


def serves(edge: Edge) -> bool:
    """Tell whether the gateway answers."""
    try:
        return edge.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False
