"""The REST contract (docs/rest.md), on the real Envoy with stub services behind it."""

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from shop.order.v1 import order_pb2, order_pb2_grpc
from tests.e2e.gateway_stub import Edge, running


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with running(tmp_path_factory.mktemp("gateway")) as edge:
        yield edge


def gateways_own(answer: httpx.Response) -> tuple[int, int, str, str]:
    """Return HTTP status, gRPC code, reason and outcome of what the gateway answered by itself."""
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"code", "message", "details"}
    assert body["message"]
    (info,) = body["details"]
    assert info["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
    assert info["domain"] == "gateway"
    return answer.status_code, body["code"], info["reason"], info["metadata"]["outcome"]


def test_json_says_every_scalar_in_camel_case_and_enums_by_name(edge: Edge) -> None:
    answer = edge.get("/v1/orders/536365")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "orderId": "536365",
        "userId": "",
        "lines": [],
        "state": "PENDING",
        "history": [],
        "version": "0",
    }


def test_a_body_reaches_the_service(edge: Edge) -> None:
    line = {"sku": "POST", "quantity": 2, "unitPrice": {"currencyCode": "GBP", "units": "18"}}
    answer = edge.post("/v1/orders", json={"orderId": "a", "lines": [line], "wait": True})
    assert answer.json()["state"] == "STATE_UNSPECIFIED"
    request = edge.last.request
    assert (request.order_id, request.wait) == ("a", True)
    assert request.lines[0].unit_price.units == 18


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("BANK%20CHARGES", "BANK CHARGES"),
        ("a%2Fb", "a/b"),
        ("a%2fb", "a/b"),
        ("50%25%20off", "50% off"),
        ("x%3Ay", "x:y"),
        ("%C3%A9", "é"),
        ("a+b", "a+b"),
    ],
)
def test_any_sku_can_stand_in_a_path(edge: Edge, written: str, meant: str) -> None:
    assert edge.get(f"/v1/items/{written}").json()["sku"] == meant
    assert edge.last.request.sku == meant


def test_query_parameters_are_fields(edge: Edge) -> None:
    edge.get("/v1/orders?pageSize=3&userId=a+b%2B&state=CONFIRMED")
    request = edge.last.request
    assert (request.page_size, request.user_id) == (3, "a b+")
    assert request.state == order_pb2.Order.CONFIRMED


def test_a_reply_may_be_as_large_as_grpc_allows(edge: Edge) -> None:
    answer = edge.get("/v1/orders")
    assert answer.status_code == 200
    assert len(answer.content) > 3_500_000


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, 400),
        (grpc.StatusCode.FAILED_PRECONDITION, 400),
        (grpc.StatusCode.UNAUTHENTICATED, 401),
        (grpc.StatusCode.PERMISSION_DENIED, 403),
        (grpc.StatusCode.NOT_FOUND, 404),
        (grpc.StatusCode.ALREADY_EXISTS, 409),
        (grpc.StatusCode.ABORTED, 409),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 429),
        (grpc.StatusCode.INTERNAL, 500),
        (grpc.StatusCode.UNKNOWN, 500),
        (grpc.StatusCode.UNAVAILABLE, 503),
        (grpc.StatusCode.DEADLINE_EXCEEDED, 504),
    ],
)
def test_a_services_refusal_keeps_its_details(
    edge: Edge, code: grpc.StatusCode, status: int
) -> None:
    calls = len(edge.calls)
    answer = edge.get(f"/v1/orders/{code.name}")
    assert answer.status_code == status
    assert answer.json() == {
        "code": code.value[0],
        "message": "no: ✗",
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "BECAUSE",
                "domain": "mesh",
                "metadata": {"outcome": "refused"},
            },
            {
                "@type": "type.googleapis.com/google.rpc.BadRequest",
                "fieldViolations": [{"field": "a.b", "description": "bad", "reason": ""}],
            },
        ],
    }
    assert len(edge.calls) == calls + 1, "Envoy must not retry"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1/nope",
        "/v1/stock/1",
        "/shop.order.v1.OrderService/GetOrder",
        "/shop.order.v1.OrderService/CreateOrder",
        "/shop.provider.v1.PaymentProviderService/GetTotals",
    ],
)
@pytest.mark.parametrize("verb", ["GET", "POST", "DELETE"])
def test_what_is_not_exposed_is_404(edge: Edge, verb: str, path: str) -> None:
    calls = len(edge.calls)
    answer = httpx.request(verb, edge.base_url + path, headers={"mesh-nowhere": "order"})
    assert gateways_own(answer) == (404, 5, "UNKNOWN_PATH", "not_executed")
    assert len(edge.calls) == calls


BAD: dict[str, dict[str, Any]] = {
    "malformed JSON": {"content": '{"orderId": '},
    "a wrong type": {"json": {"orderId": {"a": 1}}},
    "an unknown enum value": {"params": {"state": "NOPE"}, "method": "GET"},
    "an unknown parameter": {"params": {"nope": "1"}, "method": "GET"},
    "a parameter of the wrong type": {"params": {"pageSize": "many"}, "method": "GET"},
}


@pytest.mark.parametrize("what", BAD)
def test_a_malformed_request_is_400_and_says_why(edge: Edge, what: str) -> None:
    calls = len(edge.calls)
    answer = httpx.request(**{"method": "POST", "url": f"{edge.base_url}/v1/orders"} | BAD[what])
    assert gateways_own(answer) == (400, 3, "BAD_REQUEST", "not_executed")
    assert len(edge.calls) == calls


def test_a_body_over_the_limit_is_413(edge: Edge) -> None:
    under = edge.post("/v1/orders", json={"orderId": "x" * 1_000_000})
    assert under.status_code == 200
    over = edge.post("/v1/orders", json={"orderId": "x" * 1_100_000})
    assert gateways_own(over) == (413, 3, "BODY_TOO_LARGE", "not_executed")


def test_headers_over_what_grpc_takes_are_431(edge: Edge) -> None:
    answer = edge.get("/v1/orders/1", headers={"x-large": "y" * 8000})
    assert gateways_own(answer) == (431, 3, "HEADERS_TOO_LARGE", "not_executed")


def test_a_service_that_is_down_is_503_at_once(edge: Edge) -> None:
    answer = edge.get("/v1/users/17850")
    assert gateways_own(answer) == (503, 14, "SERVICE_UNREACHABLE", "not_executed")
    assert answer.elapsed.total_seconds() < 2


def test_a_service_that_hangs_up_may_have_executed_the_call(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            connection, _ = listener.accept()
            connection.recv(1)
            connection.close()

        service = threading.Thread(target=hang_up)
        service.start()
        with running(tmp_path, absent=listener.getsockname()[1]) as edge:
            answer = edge.get("/v1/users/17850")
        service.join()
    assert gateways_own(answer) == (503, 14, "CONNECTION_LOST", "unknown")


def test_a_stream_is_server_sent_events_up_to_the_final_one(edge: Edge) -> None:
    answer = edge.get("/v1/orders/7:watch")
    assert answer.headers["content-type"] == "text/event-stream"
    *events, end = answer.text.split("\n\n")
    assert end == ""
    assert all(event.startswith("data: ") for event in events)
    told = [json.loads(event.removeprefix("data: ")) for event in events]
    assert [(one["order"]["state"], one["final"]) for one in told] == [
        ("PENDING", False),
        ("CONFIRMED", True),
    ]


def test_the_librarys_own_sagas_are_the_orchestrators(edge: Edge) -> None:
    saga = edge.get("/v1/sagas/0198-a").json()
    assert (saga["sagaId"], saga["state"]) == ("0198-a", "COMPLETED")


def test_grpc_comes_through_for_exposed_methods_only(edge: Edge) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{edge.port}") as channel:
        orders = order_pb2_grpc.OrderServiceStub(channel)
        assert orders.GetOrder(order_pb2.GetOrderRequest(order_id="7")).order_id == "7"
        told = list(orders.WatchOrder(order_pb2.WatchOrderRequest(order_id="7")))
        assert told[-1].final
        with pytest.raises(grpc.RpcError) as refused:
            orders.GetOrder(order_pb2.GetOrderRequest(order_id="NOT_FOUND"))
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.RpcError) as hidden:
            orders.CreateOrder(order_pb2.CreateOrderRequest())
        assert hidden.value.code() is grpc.StatusCode.UNIMPLEMENTED
