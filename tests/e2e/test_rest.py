"""The REST contract, through the real gateway and the real services."""

import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import grpc
import pytest

from shop.orchestrator.v1 import orchestrator_pb2
from shop.orchestrator.v1.orchestrator_pb2_grpc import OrchestratorServiceStub
from shop.payment.v1.payment_pb2 import ListAuditRecordsRequest
from shop.payment.v1.payment_pb2_grpc import PaymentServiceStub
from shop.shipping.v1.shipping_pb2 import DispatchShipmentRequest
from shop.shipping.v1.shipping_pb2_grpc import ShippingServiceStub
from tests.e2e.books import check, read_books
from tests.e2e.shop import (
    PRICE_JSON,
    PRICE_PENCE,
    STOCK,
    Customer,
    add_item,
    customer,
    new_id,
)
from tests.e2e.system import System
from tests.support.waiting import eventually

INVENTORY = "shop.inventory.v1.InventoryService"
ORDER = "shop.order.v1.OrderService"
PAYMENT = "shop.payment.v1.PaymentService"
SHIPPING = "shop.shipping.v1.ShippingService"
USER = "shop.user.v1.UserService"
FULL = {"free": STOCK, "reserved": 0, "shipped": 0}
TWO_SHIPPED = {"free": STOCK - 2, "reserved": 0, "shipped": 2}


@pytest.fixture(scope="module", autouse=True)
def books_at_the_end(system: System) -> Iterator[None]:
    """Whatever these tests order, nothing may be left half done."""
    yield
    system.stop()
    check(read_books(system.data))


@pytest.fixture
def buyer(system: System) -> Customer:
    return customer(system)


def reason(answer: Any) -> str:
    """The stable word in an error's body, which is a `google.rpc.Status`."""
    (info,) = [detail for detail in answer.json()["details"] if "reason" in detail]
    return str(info["reason"])


def cancel(system: System, order_id: str, **body: Any) -> Any:
    return system.post(f"/v1/orders/{order_id}:cancel", {"wait": True, **body})


def watch(system: System, path: str) -> Iterator[dict[str, Any]]:
    """Each message of an SSE stream, to its end."""
    with system.http.stream("GET", path) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))


def test_an_order_that_is_waited_for(system: System, buyer: Customer) -> None:
    order_id = new_id()
    placed = buyer.order(order_id)
    assert placed == {"orderId": order_id, "sagaId": placed["sagaId"], "state": "CONFIRMED"}
    order = system.read(f"/v1/orders/{order_id}")
    assert (order["userId"], order["state"]) == (buyer.user_id, "CONFIRMED")
    assert [change["state"] for change in order["history"]] == ["PENDING", "CONFIRMED"]
    assert order["total"] == {"currencyCode": "GBP", "units": "5", "nanos": 100_000_000}
    payment = system.read(f"/v1/payments/{order_id}")
    assert (payment["state"], payment["amount"]) == ("CHARGED", order["total"])
    assert system.read(f"/v1/reservations/{order_id}")["state"] == "COMMITTED"
    assert system.read(f"/v1/shipments/{order_id}")["state"] == "RELEASED"
    assert buyer.stock() == TWO_SHIPPED
    saga = system.read(f"/v1/sagas/{placed['sagaId']}")
    assert (saga["key"], saga["state"]) == (order_id, "COMPLETED")
    assert {step["state"] for step in saga["steps"]} == {"DONE"}
    (entry,) = system.read("/v1/ledger/entries", orderId=order_id)["entries"]
    assert (entry["kind"], entry["amount"]) == ("CHARGE", order["total"])


def test_waiting_for_a_slow_payment(system: System, buyer: Customer) -> None:
    began = time.monotonic()
    assert buyer.order(paymentToken="tok_slow")["state"] == "CONFIRMED"
    assert time.monotonic() - began > 1.9


def test_not_waiting_and_watching(system: System, buyer: Customer) -> None:
    order_id = new_id()
    began = time.monotonic()
    placed = buyer.order(order_id, paymentToken="tok_slow", wait=None)
    assert time.monotonic() - began < 1.9
    assert placed == {"orderId": order_id, "sagaId": placed["sagaId"], "state": "EXECUTING"}
    eventually(lambda: system.get(f"/v1/orders/{order_id}").status_code == 200)
    seen = [
        (message["order"]["state"], message["final"])
        for message in watch(system, f"/v1/orders/{order_id}:watch")
    ]
    assert seen == [("PENDING", False), ("CONFIRMED", True)]


def test_watching_a_saga_from_its_start(system: System, buyer: Customer) -> None:
    placed = buyer.order(paymentToken="tok_slow", wait=None)
    seen = list(watch(system, f"/v1/sagas/{placed['sagaId']}:watch"))
    assert [message["final"] for message in seen] == [*([False] * (len(seen) - 1)), True]
    assert seen[-1]["saga"]["state"] == "COMPLETED"
    counts = [len(message["saga"]["steps"]) for message in seen]
    assert counts == sorted(counts)
    assert list(watch(system, f"/v1/sagas/{placed['sagaId']}:watch")) == seen[-1:]


def test_a_caller_out_of_time_is_told_that_it_goes_on(system: System, buyer: Customer) -> None:
    request = orchestrator_pb2.PlaceOrderRequest(
        order_id=new_id(),
        user_id=buyer.user_id,
        lines=[orchestrator_pb2.PlaceOrderLine(sku=buyer.sku, quantity=1)],
        payment_token="tok_slow",
        wait=True,
    )
    with system.channel("orchestrator") as channel:
        response = OrchestratorServiceStub(channel).PlaceOrder(request, timeout=1)
    assert response.state == response.EXECUTING
    path = f"/v1/sagas/{response.saga_id}:watch"
    assert list(watch(system, path))[-1]["saga"]["state"] == "COMPLETED"


# --- keys -----------------------------------------------------------------------------------------


def test_the_same_again_is_the_same_answer(system: System, buyer: Customer) -> None:
    body = buyer.body(new_id())
    first, again = system.post("/v1/orders", body), system.post("/v1/orders", body)
    without_waiting = system.post("/v1/orders", {**body, "wait": False})
    assert first.status_code == again.status_code == without_waiting.status_code == 200
    assert first.json() == again.json() == without_waiting.json()
    assert buyer.stock() == TWO_SHIPPED


def test_a_refusal_again_is_the_same_refusal(system: System, buyer: Customer) -> None:
    order_id = new_id()
    refused = buyer.order(order_id, lines=[{"sku": buyer.sku, "quantity": STOCK + 1}])
    assert refused["refusal"]["reason"] == "OUT_OF_STOCK"
    assert buyer.order(order_id, lines=[{"sku": buyer.sku, "quantity": STOCK + 1}]) == refused


@pytest.mark.parametrize(
    "change",
    [
        {"lines": [{"sku": "other", "quantity": 2}]},
        {"userId": "other"},
        {"paymentToken": "tok_slow"},
        {"addressId": "other"},
    ],
)
def test_the_same_key_for_another_order_is_409(
    system: System, buyer: Customer, change: dict[str, Any]
) -> None:
    body = buyer.body(new_id())
    assert system.post("/v1/orders", body).status_code == 200
    answer = system.post("/v1/orders", {**body, **change})
    assert (answer.status_code, reason(answer)) == (409, "KEY_REUSED")
    assert buyer.stock() == TWO_SHIPPED


def test_the_header_is_the_orders_id(system: System, buyer: Customer) -> None:
    order_id = new_id()
    first = system.post("/v1/orders", buyer.body(), Idempotency_Key=order_id)
    again = system.post("/v1/orders", buyer.body(), Idempotency_Key=order_id)
    assert first.status_code == 200
    assert first.json() == again.json()
    assert first.json()["orderId"] == order_id
    in_the_body = system.post("/v1/orders", buyer.body(order_id))
    assert in_the_body.json() == first.json()
    other = system.post("/v1/orders", buyer.body(userId="other"), Idempotency_Key=order_id)
    assert other.status_code == 409


def test_a_header_that_differs_is_400(system: System, buyer: Customer) -> None:
    order_id = new_id()
    answer = system.post("/v1/orders", buyer.body(order_id), Idempotency_Key=new_id())
    assert (answer.status_code, reason(answer)) == (400, "INVALID_ARGUMENT")
    assert system.get(f"/v1/orders/{order_id}").status_code == 404
    same = system.post("/v1/orders", buyer.body(order_id), Idempotency_Key=order_id)
    assert same.status_code == 200


def test_a_header_that_can_be_no_id_is_400(system: System, buyer: Customer) -> None:
    for key in ("a b", "a/b", "x" * 65, ".a"):
        answer = system.post("/v1/orders", buyer.body(), Idempotency_Key=key)
        assert (answer.status_code, reason(answer)) == (400, "INVALID_ARGUMENT"), key


def test_without_any_key_each_post_is_an_order(system: System, buyer: Customer) -> None:
    first, second = (system.post("/v1/orders", buyer.body()).json() for _ in range(2))
    assert first["orderId"] != second["orderId"]
    assert system.read(f"/v1/orders/{first['orderId']}")["state"] == "CONFIRMED"


# --- prices ---------------------------------------------------------------------------------------


def test_without_a_price_the_list_holds(system: System, buyer: Customer) -> None:
    dear = new_id("sku")
    add_item(system, dear)
    cheaper = {"currencyCode": "GBP", "units": "1", "nanos": 0}
    order_id = new_id()
    lines: list[dict[str, Any]] = [
        {"sku": buyer.sku, "quantity": 3},
        {"sku": buyer.sku, "quantity": 1, "unitPrice": cheaper},
        {"sku": dear, "quantity": 2, "unitPrice": PRICE_JSON},
    ]
    assert buyer.order(order_id, lines=lines)["state"] == "CONFIRMED"
    order = system.read(f"/v1/orders/{order_id}")
    assert [line["unitPrice"] for line in order["lines"]] == [PRICE_JSON, cheaper, PRICE_JSON]
    pence = 3 * PRICE_PENCE + 100 + 2 * PRICE_PENCE
    total = {"currencyCode": "GBP", "units": str(pence // 100), "nanos": pence % 100 * 10_000_000}
    assert order["total"] == total
    assert system.read(f"/v1/payments/{order_id}")["amount"] == total
    assert buyer.stock()["shipped"] == 4
    assert buyer.stock(dear)["shipped"] == 2


def test_a_quote_is_what_it_then_costs(system: System, buyer: Customer) -> None:
    order_id, lines = new_id(), [{"sku": buyer.sku, "quantity": 7}]
    body = {"userId": buyer.user_id, "lines": lines}
    quoted = system.post("/v1/orders:quote", body).json()
    assert quoted["available"] is True
    buyer.order(order_id, lines=lines)
    assert system.read(f"/v1/orders/{order_id}")["total"] == quoted["total"]


# --- refusals -------------------------------------------------------------------------------------


def check_refused(system: System, answer: Any, step: str, word: str) -> None:
    """The answer says who refused and why, and no trace of the order is left anywhere."""
    assert (answer["state"], answer["refusal"]["step"]) == ("CANCELLED", step)
    assert answer["refusal"]["reason"] == word
    assert answer["refusal"]["message"]
    order_id = answer["orderId"]
    order = system.get(f"/v1/orders/{order_id}")
    assert order.status_code == 404 or order.json()["state"] == "CANCELLED"
    entries = system.read("/v1/ledger/entries", orderId=order_id)["entries"]
    assert [entry["kind"] for entry in entries] in ([], ["CHARGE", "REFUND"])
    assert len({json.dumps(entry["amount"]) for entry in entries}) <= 1
    for path, gone in (
        ("payments", ("DECLINED", "REFUNDED")),
        ("reservations", ("RELEASED",)),
        ("shipments", ("CANCELLED",)),
    ):
        kept = system.get(f"/v1/{path}/{order_id}")
        assert kept.status_code == 404 or kept.json()["state"] in gone, kept.text
    saga = system.read(f"/v1/sagas/{answer['sagaId']}")
    assert (saga["state"], saga["failedStep"], saga["refusal"]["reason"]) == ("FAILED", step, word)


def test_an_unknown_user(system: System, buyer: Customer) -> None:
    answer = buyer.order(userId="nobody")
    check_refused(system, answer, f"{USER}/GetUser", "USER_NOT_FOUND")


def test_a_suspended_user(system: System) -> None:
    suspended = customer(system, suspended=True)
    check_refused(system, suspended.order(), f"{USER}/GetUser", "USER_SUSPENDED")
    assert suspended.stock() == FULL


def test_an_unknown_address(system: System, buyer: Customer) -> None:
    check_refused(system, buyer.order(addressId="x"), f"{USER}/GetUser", "ADDRESS_NOT_FOUND")


@pytest.mark.parametrize("priced", [True, False])
def test_an_unknown_sku(system: System, buyer: Customer, priced: bool) -> None:
    lines: list[dict[str, Any]] = [
        {"sku": buyer.sku, "quantity": 1},
        {"sku": "no such thing", "quantity": 1},
    ]
    if priced:
        lines = [{**line, "unitPrice": PRICE_JSON} for line in lines]
    step = f"{INVENTORY}/ReserveStock" if priced else f"{ORDER}/QuoteOrder"
    check_refused(system, buyer.order(lines=lines), step, "UNKNOWN_SKU")
    assert buyer.stock() == FULL


def test_too_little_stock_summed_over_the_lines(system: System, buyer: Customer) -> None:
    other = new_id("sku")
    add_item(system, other)
    lines = [
        {"sku": other, "quantity": 1},
        {"sku": buyer.sku, "quantity": STOCK - 1},
        {"sku": buyer.sku, "quantity": 2},
    ]
    answer = buyer.order(lines=lines)
    check_refused(system, answer, f"{INVENTORY}/ReserveStock", "OUT_OF_STOCK")
    assert buyer.stock() == buyer.stock(other) == FULL


@pytest.mark.parametrize("token", ["tok_declined", "tok_nonsense"])
def test_a_declined_payment(system: System, buyer: Customer, token: str) -> None:
    answer = buyer.order(paymentToken=token)
    check_refused(system, answer, f"{PAYMENT}/ChargePayment", "CARD_DECLINED")
    assert system.read(f"/v1/payments/{answer['orderId']}")["state"] == "DECLINED"
    assert buyer.stock() == FULL


def test_an_unshippable_address_gives_the_money_back(system: System) -> None:
    buyer = customer(system, "GB", "CU")
    answer = buyer.order(addressId="cu")
    check_refused(system, answer, f"{SHIPPING}/CreateShipment", "UNSHIPPABLE_ADDRESS")
    assert system.read(f"/v1/payments/{answer['orderId']}")["state"] == "REFUNDED"
    assert len(system.read("/v1/ledger/entries", orderId=answer["orderId"])["entries"]) == 2
    assert buyer.stock() == FULL
    assert buyer.order(addressId="gb")["state"] == "CONFIRMED"


def test_a_lost_reply_of_the_provider_charges_once(system: System, buyer: Customer) -> None:
    answer = buyer.order(paymentToken="tok_reply_lost")
    assert answer["state"] == "CONFIRMED"
    entries = system.read("/v1/ledger/entries", orderId=answer["orderId"])["entries"]
    assert [entry["kind"] for entry in entries] == ["CHARGE"]


# --- cancelling -----------------------------------------------------------------------------------


def test_cancelling_while_it_is_being_placed(system: System, buyer: Customer) -> None:
    order_id = new_id()
    placed = buyer.order(order_id, paymentToken="tok_slow", wait=None)
    eventually(lambda: system.get(f"/v1/payments/{order_id}").status_code == 200)
    answer = cancel(system, order_id, reason="changed my mind")
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "orderId": order_id,
        "sagaId": placed["sagaId"],
        "state": "CANCELLED",
    }
    assert system.read(f"/v1/orders/{order_id}")["state"] == "CANCELLED"
    assert system.read(f"/v1/payments/{order_id}")["state"] == "REFUNDED"
    assert system.read(f"/v1/reservations/{order_id}")["state"] == "RELEASED"
    assert buyer.stock() == FULL
    assert cancel(system, order_id).json() == answer.json()
    again = buyer.order(order_id, paymentToken="tok_slow")
    assert (again["state"], again["refusal"]["reason"]) == ("CANCELLED", "CANCELLED")


def test_cancelling_a_confirmed_order(system: System, buyer: Customer) -> None:
    order_id = new_id()
    placed = buyer.order(order_id)
    assert buyer.stock() == TWO_SHIPPED
    answer = cancel(system, order_id, reason="too big")
    assert answer.status_code == 200, answer.text
    saga_id = answer.json()["sagaId"]
    assert saga_id != placed["sagaId"]
    assert answer.json() == {"orderId": order_id, "sagaId": saga_id, "state": "CANCELLED"}
    order = system.read(f"/v1/orders/{order_id}")
    assert [change["state"] for change in order["history"]] == [
        "PENDING",
        "CONFIRMED",
        "CANCELLED",
    ]
    assert order["history"][-1]["reason"] == "too big"
    assert system.read(f"/v1/payments/{order_id}")["state"] == "REFUNDED"
    assert system.read(f"/v1/shipments/{order_id}")["state"] == "CANCELLED"
    assert system.read(f"/v1/reservations/{order_id}")["state"] == "RETURNED"
    entries = system.read("/v1/ledger/entries", orderId=order_id)["entries"]
    assert [entry["kind"] for entry in entries] == ["CHARGE", "REFUND"]
    assert buyer.stock() == FULL
    assert cancel(system, order_id).json() == answer.json()
    assert buyer.stock() == FULL


def test_cancelling_without_waiting(system: System, buyer: Customer) -> None:
    order_id = new_id()
    buyer.order(order_id)
    assert cancel(system, order_id, wait=False).status_code == 200
    eventually(lambda: system.read(f"/v1/orders/{order_id}")["state"] == "CANCELLED")
    assert cancel(system, order_id, wait=False).json()["state"] == "CANCELLED"


def test_once_dispatched_it_cannot_be_cancelled(system: System, buyer: Customer) -> None:
    order_id = new_id()
    buyer.order(order_id)
    with system.channel("shipping") as channel:
        ShippingServiceStub(channel).DispatchShipment(DispatchShipmentRequest(order_id=order_id))
    for _ in range(2):
        answer = cancel(system, order_id)
        assert (answer.status_code, answer.json()["code"]) == (
            400,
            grpc.StatusCode.FAILED_PRECONDITION.value[0],
        )
        assert reason(answer) == "ALREADY_DISPATCHED"
    assert system.read(f"/v1/orders/{order_id}")["state"] == "CONFIRMED"
    assert system.read(f"/v1/payments/{order_id}")["state"] == "CHARGED"
    assert buyer.stock() == TWO_SHIPPED


def test_a_refused_order_is_cancelled_already(system: System, buyer: Customer) -> None:
    order_id = new_id()
    buyer.order(order_id, paymentToken="tok_declined")
    answer = cancel(system, order_id)
    assert (answer.status_code, answer.json()["state"]) == (200, "CANCELLED")


# --- what is wrong with the request itself --------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("orderId", "a b"),
        ("orderId", "x" * 65),
        ("userId", None),
        ("userId", "x" * 65),
        ("paymentToken", None),
        ("lines", []),
        ("lines", [{"sku": "a", "quantity": 1}] * 501),
        ("lines", [{"sku": "", "quantity": 1}]),
        ("lines", [{"sku": "a\nb", "quantity": 1}]),
        ("lines", [{"sku": "x" * 65, "quantity": 1}]),
        ("lines", [{"sku": "a", "quantity": 0}]),
        ("lines", [{"sku": "a", "quantity": -1}]),
        ("lines", [{"sku": "a", "quantity": 10_000_001}]),
        ("lines", [{"sku": "a", "quantity": 1, "unitPrice": {"currencyCode": "GBP"}}]),
        ("lines", [{"sku": "a", "quantity": 1, "unitPrice": {"currencyCode": "x", "units": 1}}]),
        ("lines", [{"sku": "a", "quantity": 1, "unitPrice": {**PRICE_JSON, "units": "-2"}}]),
        ("lines", [{"sku": "a", "quantity": 1, "unitPrice": {**PRICE_JSON, "nanos": 1000}}]),
        (
            "lines",
            [
                {"sku": "a", "quantity": 1, "unitPrice": PRICE_JSON},
                {"sku": "a", "quantity": 1, "unitPrice": {**PRICE_JSON, "currencyCode": "EUR"}},
            ],
        ),
    ],
)
def test_an_invalid_order_is_400(
    system: System, buyer: Customer, field: str, value: object
) -> None:
    order_id = new_id()
    answer = system.post("/v1/orders", {**buyer.body(order_id), field: value})
    assert (answer.status_code, reason(answer)) == (400, "INVALID_ARGUMENT"), answer.text
    (bad,) = [one for one in answer.json()["details"] if one["@type"].endswith("BadRequest")]
    snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in field)
    assert bad["fieldViolations"][0]["field"].startswith(snake)
    assert system.get(f"/v1/orders/{order_id}").status_code == 404


@pytest.mark.parametrize("content", ["", "{", "[]", '"x"', '{"lines": 7}', '{"wait": "maybe"}'])
def test_what_is_no_order_at_all_is_400(system: System, content: str) -> None:
    answer = system.http.post(
        "/v1/orders", content=content, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 400, answer.text
    assert reason(answer)


ODD_IDS = (
    "none",
    "0",
    "-1",
    "a b",
    "a/b",
    "..",
    "%",
    "%00",
    "\n",
    "é",
    "💩",
    "' OR 1=1 --",
    "{order_id}",
    "a:b",
    "a:watch",
    "?",
    "#",
    "x" * 65,
    "x" * 5_000,
    "00000000-0000-0000-0000-000000000000",
)


@pytest.mark.parametrize(
    "resource", ["orders", "sagas", "users", "items", "payments", "shipments", "reservations"]
)
def test_an_unknown_id_of_any_form_is_404(system: System, resource: str) -> None:
    statuses = {
        id_: system.get(f"/v1/{resource}/{quote(id_, safe='')}").status_code for id_ in ODD_IDS
    }
    assert {id_: status for id_, status in statuses.items() if status != 404} == {}


def test_an_unknown_order_can_be_neither_watched_nor_cancelled(system: System) -> None:
    for id_ in ODD_IDS:
        path = f"/v1/orders/{quote(id_, safe='')}"
        assert system.get(f"{path}:watch").status_code == 404, id_
        assert system.post(f"{path}:cancel", {}).status_code == 404, id_


# --- reading --------------------------------------------------------------------------------------


def test_lists_come_in_pages(system: System, buyer: Customer) -> None:
    placed = [buyer.order()["orderId"] for _ in range(5)]
    found, token = [], ""
    while True:
        page = system.read("/v1/orders", userId=buyer.user_id, pageSize=2, pageToken=token)
        found += [order["orderId"] for order in page["orders"]]
        token = page["nextPageToken"]
        if not token:
            break
        assert len(page["orders"]) == 2
    assert found == placed[::-1]
    newest = system.read("/v1/sagas", name="place_order", pageSize=2)["sagas"]
    assert [saga["key"] for saga in newest] == found[:2]


def test_the_summaries_add_up(system: System, buyer: Customer) -> None:
    def net() -> tuple[int, int]:
        totals = {row["currencyCode"]: row for row in system.read("/v1/ledger/summary")["totals"]}
        money = totals.get("GBP", {}).get("net", {"units": "0", "nanos": 0})
        return int(money["units"]) * 100 + money["nanos"] // 10_000_000, len(totals)

    before, _ = net()
    buyer.order()
    after, currencies = net()
    assert (after - before, currencies) == (2 * PRICE_PENCE, 1)
    (stock,) = system.read("/v1/stock", skus=buyer.sku)["stock"]
    there = {**TWO_SHIPPED, "received": STOCK}
    assert stock == {"sku": buyer.sku, **{k: str(v) for k, v in there.items()}}
    provider, sales = system.read("/v1/ledger/trialBalance")["accounts"]
    assert (provider["debited"], provider["credited"]) == (sales["credited"], sales["debited"])


def test_the_audit_trail_is_not_for_the_outside(system: System, buyer: Customer) -> None:
    order_id = buyer.order()["orderId"]
    answer = system.get("/v1/ledger/auditRecords", orderId=order_id)
    assert (answer.status_code, reason(answer)) == (403, "PERMISSION_DENIED")
    with system.channel("payment") as channel:
        records = PaymentServiceStub(channel).ListAuditRecords(
            ListAuditRecordsRequest(order_id=order_id)
        )
    told = [(r.event.WhichOneof("event"), r.principal) for r in records.records]
    assert told == [("charge_requested", "orchestrator"), ("charged", "orchestrator")]
