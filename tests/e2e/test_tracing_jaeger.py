"""One order is one trace, as the real Jaeger shows it."""

import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.grpc import client_interceptor
from opentelemetry.instrumentation.grpc.grpcext import intercept_channel
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import format_span_id, format_trace_id

from shop.orchestrator.v1 import orchestrator_pb2
from shop.orchestrator.v1.orchestrator_pb2_grpc import OrchestratorServiceStub
from shop.user.v1.user_pb2 import GetUserRequest
from shop.user.v1.user_pb2_grpc import UserServiceStub
from tests.e2e import system as systems
from tests.e2e.books import check, read_books
from tests.e2e.shop import Customer, customer, new_id
from tests.e2e.system import SERVICES, System
from tests.e2e.test_without_listeners import kept_dead
from tests.e2e.traces import (
    CLIENT,
    ERROR,
    INTERNAL,
    SERVER,
    Span,
    Trace,
    read_trace,
    wait_for_trace,
)
from tests.support.jaeger import built_jaeger
from tests.support.waiting import eventually

EVERYBODY = {"gateway", "provider", *SERVICES}
#: What placing an order asks of the services, in this sequence.
STEPS = (
    "GetUser",
    "QuoteOrder",
    "CreateOrder",
    "ReserveStock",
    "ChargePayment",
    "CreateShipment",
    "ConfirmOrder",
    "CommitReservation",
    "ReleaseShipment",
)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system whose spans go to the real Jaeger, soon after they end."""
    built_jaeger()
    data = tmp_path_factory.mktemp("traced")
    with systems.running(data, JAEGER="1", OTEL_BSP_SCHEDULE_DELAY="200") as system:
        yield system
    check(read_books(data))


@pytest.fixture(scope="module")
def buyer(system: System) -> Customer:
    return customer(system, "GB", "CU")


def trace_of_saga(system: System, saga_id: str, spans: int) -> Trace:
    """The trace that a saga is part of, once it has that many spans and is in one piece."""
    trace_id = system.read(f"/v1/sagas/{saga_id}")["traceId"]
    return wait_for_trace(system, trace_id, lambda trace: len(trace) >= spans and not trace.orphans)


def check_calls(trace: Trace) -> None:
    """Each call is a client's span with a server's of the same name below, in another process."""
    for client in trace.some_of_kind(CLIENT):
        (server,) = trace.children(client)
        assert (server.kind, server.name) == (SERVER, client.name)
        if client.service != "gateway":
            assert server.service == client.attributes["server.address"]
            assert client.attributes["rpc.system.name"] == "grpc"
            assert client.attributes["rpc.method"] == client.name
    for server in trace.some_of_kind(SERVER):
        if server.parent_id:
            assert trace.parent(server).kind == CLIENT
            assert trace.parent(server).service != server.service


def steps(trace: Trace, run: Span) -> list[str]:
    """What a run of a saga asked of the services, in sequence."""
    return [span.method for span in trace.children(run) if span.kind == CLIENT]


def test_one_order_is_one_trace(system: System, buyer: Customer) -> None:
    answer = system.post("/v1/orders", buyer.body(new_id()), X_Correlation_Id="order-of-mine")
    assert answer.headers["x-correlation-id"] == "order-of-mine"
    trace = trace_of_saga(system, answer.json()["sagaId"], spans=29)
    assert trace.services == EVERYBODY
    (root,) = trace.roots
    assert (root.service, root.name, root.kind) == ("gateway", "POST /v1/orders", SERVER)
    check_calls(trace)

    (upstream,) = trace.children(root)
    assert (upstream.service, upstream.kind) == ("gateway", CLIENT)
    (placed,) = trace.children(upstream)
    assert (placed.service, placed.method) == ("orchestrator", "PlaceOrder")
    (saga,) = trace.children(placed)
    assert (saga.name, saga.kind) == ("saga place_order", INTERNAL)
    (run,) = trace.children(saga)
    assert steps(trace, run) == list(STEPS)
    charge = trace.one("ChargePayment", SERVER)
    assert [span.method for span in trace.children(charge)] == ["Charge"]
    quote = trace.one("QuoteOrder", SERVER)
    assert {span.method for span in trace.children(quote)} == {"GetUser", "BatchGetItems"}

    assert {span.attributes.get("mesh.correlation_id") for span in trace} == {"order-of-mine"}
    assert {span.trace_id for span in trace} == {root.trace_id}
    assert [span for span in trace if span.status == ERROR or span.links] == []
    codes = {
        span.attributes.get("rpc.response.status_code")
        for span in trace
        if span.service != "gateway" and span.kind != INTERNAL
    }
    assert codes == {"OK"}


def test_a_refused_order_shows_what_was_undone(system: System, buyer: Customer) -> None:
    refused = buyer.order(addressId="cu")
    trace = trace_of_saga(system, refused["sagaId"], spans=29)
    check_calls(trace)
    run = trace.one("saga place_order run", INTERNAL)
    refusal = STEPS.index("CreateShipment") + 1
    assert steps(trace, run)[:refusal] == list(STEPS[:refusal])
    assert steps(trace, run)[refusal:] == ["RefundPayment", "ReleaseStock", "CancelOrder"]
    refund = trace.one("RefundPayment", SERVER)
    assert [span.method for span in trace.children(refund)] == ["Refund"]

    client, server = trace.one("CreateShipment", CLIENT), trace.one("CreateShipment", SERVER)
    errors = [span for span in trace if span.status == ERROR]
    assert {span.span_id for span in errors} == {run.span_id, client.span_id}
    for span in errors:
        assert span.attributes["error.type"] == "UNSHIPPABLE_ADDRESS"
    for span in (client, server):
        assert span.attributes["rpc.response.status_code"] == "FAILED_PRECONDITION"
    assert server.attributes["mesh.refusal"] == "UNSHIPPABLE_ADDRESS"
    assert run.attributes["mesh.saga_state"] == "FAILED"


def test_a_traceparent_from_outside_is_linked_and_no_parent(
    system: System, buyer: Customer
) -> None:
    trace_id, span_id = secrets.token_hex(16), secrets.token_hex(8)
    answer = system.post(
        "/v1/orders", buyer.body(new_id()), Traceparent=f"00-{trace_id}-{span_id}-01"
    )
    trace = trace_of_saga(system, answer.json()["sagaId"], spans=29)
    (root,) = trace.roots
    assert root.trace_id != trace_id
    linking = [span for span in trace if (trace_id, span_id) in span.links]
    assert [(span.service, span.method) for span in linking] == [("orchestrator", "PlaceOrder")]
    assert len(read_trace(system, trace_id)) == 0


def test_a_stock_client_with_the_stock_instrumentation_joins(
    system: System, buyer: Customer
) -> None:
    provider = TracerProvider(
        resource=Resource.create({"service.name": "stock-client"}), shutdown_on_exit=False
    )
    exporter = OTLPSpanExporter(endpoint=system.otlp, insecure=True)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    request = orchestrator_pb2.PlaceOrderRequest(
        user_id=buyer.user_id,
        lines=[orchestrator_pb2.PlaceOrderLine(sku=buyer.sku, quantity=1)],
        payment_token="tok_ok",
        wait=True,
    )

    def instrumented(channel: Any) -> Any:
        interceptor = client_interceptor(provider)  # type: ignore[no-untyped-call]
        return intercept_channel(channel, interceptor)  # type: ignore[no-untyped-call]

    with provider.get_tracer("test").start_as_current_span("shopping") as shopping:
        with system.channel("user") as channel:
            users = UserServiceStub(instrumented(channel))
            users.GetUser(GetUserRequest(user_id=buyer.user_id))
        with system.channel("orchestrator") as channel:
            orders = OrchestratorServiceStub(instrumented(channel))
            placed = orders.PlaceOrder(request)
    provider.shutdown()
    assert placed.state == placed.CONFIRMED

    context = shopping.get_span_context()
    trace = wait_for_trace(
        system,
        format_trace_id(context.trace_id),
        lambda trace: len(trace) >= 31 and not trace.orphans,
    )
    assert trace.services == {"stock-client", *EVERYBODY} - {"gateway"}
    (root,) = trace.roots
    assert root.span_id == format_span_id(context.span_id)
    calls = trace.children(root)
    assert [(call.service, call.kind) for call in calls] == [("stock-client", CLIENT)] * 2
    for call, service, method in zip(
        calls, ("user", "orchestrator"), ("GetUser", "PlaceOrder"), strict=True
    ):
        (served,) = trace.children(call)
        assert (served.service, served.method, served.kind) == (service, method, SERVER)


def test_a_saga_that_was_resumed_stays_in_its_trace(system: System, buyer: Customer) -> None:
    order_id = new_id()
    placed = buyer.order(order_id, paymentToken="tok_slow", wait=None)
    eventually(lambda: system.get(f"/v1/payments/{order_id}").status_code == 200)
    trace_id = system.read(f"/v1/sagas/{placed['sagaId']}")["traceId"]
    wait_for_trace(system, trace_id, lambda trace: trace.some("ReserveStock", CLIENT))
    pid = system.kill("orchestrator")
    system.wait_restarted("orchestrator", pid, "orchestrator")

    trace = wait_for_trace(
        system,
        trace_id,
        lambda trace: (
            trace.some("saga place_order run", INTERNAL) and trace.some("ReleaseShipment", SERVER)
        ),
    )
    assert system.read(f"/v1/orders/{order_id}")["state"] == "CONFIRMED"
    resumed = trace.one("saga place_order run", INTERNAL)
    assert trace.parent(resumed).name == "saga place_order"
    ((linked_trace, lost),) = resumed.links
    assert linked_trace == trace_id
    assert lost not in {span.span_id for span in trace}
    before = [span for span in trace if span.parent_id == lost and span.kind == CLIENT]
    assert [span.method for span in before] == ["GetUser", "QuoteOrder", *STEPS[2:4]]
    assert steps(trace, resumed) == list(STEPS[4:])


def test_orders_go_on_while_jaeger_is_dead(system: System, buyer: Customer) -> None:
    with kept_dead(system, "jaeger"):
        for _ in range(3):
            assert buyer.order(new_id())["state"] == "CONFIRMED"
