"""A gateway with stub services behind it and an OTLP collector beside it, for the tests of it."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
from google.protobuf.any_pb2 import Any as Packed
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from mesh.metadata import STATUS_DETAILS
from mesh.saga.v1 import saga_pb2, saga_pb2_grpc
from shop.inventory.v1 import inventory_pb2, inventory_pb2_grpc
from shop.orchestrator.v1 import orchestrator_pb2, orchestrator_pb2_grpc
from shop.order.v1 import order_pb2, order_pb2_grpc

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "the-gateways-own-token"
#: Exposed services that the stub does not serve: nothing listens there.
ABSENT = ("user", "payment", "shipping")
SERVED = ("inventory", "orchestrator", "order")


@dataclass
class Seen:
    """What reached a stub."""

    request: Any
    metadata: dict[str, str]
    remaining_s: float | None


@dataclass
class Edge:
    """A running gateway, and what came out at its other side."""

    base_url: str
    admin_url: str
    port: int
    data: Path
    calls: list[Seen] = field(default_factory=list)
    spans: list[tuple[str, Span]] = field(default_factory=list)

    @property
    def last(self) -> Seen:
        """The latest call that reached a service."""
        return self.calls[-1]

    def get(self, path: str, **options: Any) -> httpx.Response:
        """GET *path*."""
        return httpx.get(self.base_url + path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        """POST to *path*."""
        return httpx.post(self.base_url + path, **options)

    def trace_of(self, correlation_id: str, *, spans: int = 2) -> list[Span]:
        """Wait for the spans of a request; return them, roots first."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            found = [
                span
                for _, span in self.spans
                if attributes(span).get("mesh.correlation_id") == correlation_id
            ]
            if len(found) >= spans:
                return sorted(found, key=lambda span: bool(span.parent_span_id))
            time.sleep(0.05)
        raise AssertionError(f"no trace of {correlation_id}; got {self.spans}")


def attributes(span: Span) -> dict[str, str]:
    """Return a span's text attributes."""
    return {pair.key: pair.value.string_value for pair in span.attributes}


class Stub(
    order_pb2_grpc.OrderServiceServicer,
    orchestrator_pb2_grpc.OrchestratorServiceServicer,
    inventory_pb2_grpc.InventoryServiceServicer,
    saga_pb2_grpc.SagaServiceServicer,
):
    """Answers, and remembers. An order id such as `NOT_FOUND` is refused so."""

    def __init__(self, calls: list[Seen]) -> None:
        self.calls = calls

    def _see(self, request: Any, context: Any) -> None:
        metadata = {key: str(value) for key, value in context.invocation_metadata()}
        self.calls.append(Seen(request, metadata, context.time_remaining()))

    def GetOrder(self, request: Any, context: Any) -> order_pb2.Order:  # noqa: N802
        self._see(request, context)
        if code := getattr(grpc.StatusCode, request.order_id, None):
            refuse(context, code)
        return order_pb2.Order(order_id=request.order_id, state=order_pb2.Order.PENDING)

    def ListOrders(self, request: Any, context: Any) -> order_pb2.ListOrdersResponse:  # noqa: N802
        self._see(request, context)
        order = order_pb2.Order(user_id="x" * 60_000)
        return order_pb2.ListOrdersResponse(orders=[order] * 60)

    def WatchOrder(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        self._see(request, context)
        order = order_pb2.Order(order_id=request.order_id, state=order_pb2.Order.PENDING)
        yield order_pb2.WatchOrderResponse(order=order)
        order.state = order_pb2.Order.CONFIRMED
        yield order_pb2.WatchOrderResponse(order=order, final=True)

    def GetItem(self, request: Any, context: Any) -> inventory_pb2.Item:  # noqa: N802
        self._see(request, context)
        return inventory_pb2.Item(sku=request.sku)

    def PlaceOrder(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._see(request, context)
        return orchestrator_pb2.PlaceOrderResponse(order_id=request.order_id)

    def GetSaga(self, request: Any, context: Any) -> saga_pb2.Saga:  # noqa: N802
        self._see(request, context)
        return saga_pb2.Saga(saga_id=request.saga_id, state=saga_pb2.Saga.COMPLETED)


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

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
        for batch in request.resource_spans:
            names = {a.key: a.value.string_value for a in batch.resource.attributes}
            for scope in batch.scope_spans:
                self.spans += [(names["service.name"], span) for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


@contextmanager
def backend(edge: Edge) -> Iterator[int]:
    """Serve the stubs and the collector; yield their port."""
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
    stub = Stub(edge.calls)
    order_pb2_grpc.add_OrderServiceServicer_to_server(stub, server)
    orchestrator_pb2_grpc.add_OrchestratorServiceServicer_to_server(stub, server)
    inventory_pb2_grpc.add_InventoryServiceServicer_to_server(stub, server)
    saga_pb2_grpc.add_SagaServiceServicer_to_server(stub, server)
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Collector(edge.spans), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(grace=0).wait()


@contextmanager
def running(data: Path, *flags: str) -> Iterator[Edge]:
    """Start services and gateway as `python -m gateway` does; yield when it serves."""
    port, admin, nobody = free_ports(3)
    edge = Edge(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin}", port, data)
    with backend(edge) as served:
        services = [f"{name}=127.0.0.1:{served}" for name in SERVED]
        services += [f"{name}=127.0.0.1:{nobody}" for name in ABSENT]
        command = [
            *(sys.executable, "-m", "gateway", "--data", str(data)),
            *("--port", str(port), "--admin-port", str(admin), "--otlp-port", str(served)),
            *("--services", ",".join(services)),
            *flags,
        ]
        log = data / "envoy.log"
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                command, cwd=ROOT, stderr=stderr, env={**base_environment(), "MESH_TOKEN": TOKEN}
            )
            try:
                until_healthy(edge, process, log)
                yield edge
            finally:
                process.terminate()
                process.wait(10)


def base_environment() -> dict[str, str]:
    """Return our environment with this project importable in a child."""
    import os

    path = os.pathsep.join(str(entry) for entry in (ROOT, ROOT / "protos" / "python"))
    return {**os.environ, "PYTHONPATH": path}


def until_healthy(edge: Edge, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the gateway answers."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if edge.get("/healthz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError(f"the gateway did not start:\n{log.read_text()}")
