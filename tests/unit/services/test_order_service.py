"""OrderService on its own database, through the whole stack."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
from google.protobuf.message import Message

from mesh.call import Principal
from mesh.dial import declared
from mesh.errors import AlreadyExists, InvalidArgument, NotFound, Refused
from mesh.metadata import KEY
from mesh.storage.keys import REPLY_LIMIT_BYTES
from services.order.clients import Clients
from services.order.service import service
from services.shared.money import to_money
from shop.inventory.v1 import inventory_pb2
from shop.order.v1 import order_pb2 as pb
from shop.order.v1.order_pb2_grpc import OrderServiceStub
from shop.user.v1 import user_pb2
from tests.support.databases import Database
from tests.unit.services.serving import Fake, serving

if TYPE_CHECKING:
    from shop.order.v1.order_pb2_grpc import OrderServiceAsyncStub

STATES = pb.Order.State


@pytest.fixture
async def orders(database: Database) -> AsyncIterator[OrderServiceAsyncStub]:
    async with serving(service, database) as channel:
        yield OrderServiceStub(channel)


def creation(
    order_id: str = "o1", user_id: str = "ann", *lines: tuple[str, int, int]
) -> pb.CreateOrderRequest:
    return pb.CreateOrderRequest(
        order_id=order_id,
        user_id=user_id,
        lines=[
            pb.PricedLine(sku=sku, quantity=quantity, unit_price=to_money("GBP", minor))
            for sku, quantity, minor in lines or [("85123A", 6, 255)]
        ],
    )


def confirm(order_id: str = "o1") -> pb.ConfirmOrderRequest:
    return pb.ConfirmOrderRequest(order_id=order_id)


def cancel(order_id: str = "o1", reason: str = "") -> pb.CancelOrderRequest:
    return pb.CancelOrderRequest(order_id=order_id, reason=reason)


def get(order_id: str = "o1") -> pb.GetOrderRequest:
    return pb.GetOrderRequest(order_id=order_id)


async def test_a_new_order_is_pending_and_priced(orders: OrderServiceAsyncStub) -> None:
    created = await orders.CreateOrder(creation("o1", "ann", ("A", 6, 255), ("A", 2, 10)))
    assert (created.order_id, created.user_id) == ("o1", "ann")
    assert created.state == pb.Order.PENDING
    assert created.total == to_money("GBP", 1550)
    order = await orders.GetOrder(get())
    assert [(line.sku, line.quantity) for line in order.lines] == [("A", 6), ("A", 2)]
    assert [line.amount for line in order.lines] == [to_money("GBP", 1530), to_money("GBP", 20)]
    assert [line.unit_price for line in order.lines] == [to_money("GBP", 255), to_money("GBP", 10)]
    assert [change.state for change in order.history] == [pb.Order.PENDING]
    assert order.create_time == order.update_time == order.history[0].time


async def test_only_get_and_watch_return_the_whole(orders: OrderServiceAsyncStub) -> None:
    for brief in (
        await orders.CreateOrder(creation()),
        await orders.ConfirmOrder(confirm()),
        await orders.CancelOrder(cancel()),
        (await orders.ListOrders(pb.ListOrdersRequest())).orders[0],
    ):
        assert not brief.lines
        assert not brief.history


async def test_an_id_is_taken_once(orders: OrderServiceAsyncStub) -> None:
    await orders.CreateOrder(creation())
    with pytest.raises(AlreadyExists) as refused:
        await orders.CreateOrder(creation("o1", "bob"))
    assert refused.value.reason == "ORDER_EXISTS"
    assert (await orders.GetOrder(get())).user_id == "ann"


async def test_a_repeated_creation_is_answered_as_the_first(orders: OrderServiceAsyncStub) -> None:
    first = await orders.CreateOrder(creation(), metadata=((KEY, "k1"),))
    await orders.ConfirmOrder(confirm())
    assert await orders.CreateOrder(creation(), metadata=((KEY, "k1"),)) == first


async def test_a_refused_order_leaves_nothing(orders: OrderServiceAsyncStub) -> None:
    request = creation()
    request.lines.add(sku="B", quantity=1, unit_price=to_money("EUR", 1))
    with pytest.raises(InvalidArgument) as refused:
        await orders.CreateOrder(request)
    assert refused.value.reason == "MIXED_CURRENCIES"
    with pytest.raises(NotFound):
        await orders.GetOrder(get())


@pytest.mark.parametrize(
    ("method", "request_"),
    [("GetOrder", get("none")), ("ConfirmOrder", confirm("none")), ("CancelOrder", cancel("none"))],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_an_unknown_order_is_not_found(
    orders: OrderServiceAsyncStub, method: str, request_: Message
) -> None:
    with pytest.raises(NotFound) as refused:
        await getattr(orders, method)(request_)
    assert refused.value.reason == "ORDER_NOT_FOUND"


async def test_a_refusal_does_not_repeat_an_endless_id(orders: OrderServiceAsyncStub) -> None:
    with pytest.raises(NotFound) as refused:
        await orders.GetOrder(get("x" * 100_000))
    assert len(refused.value.message) < 100


async def test_every_change_is_in_the_history(orders: OrderServiceAsyncStub) -> None:
    await orders.CreateOrder(creation())
    confirmed = await orders.ConfirmOrder(confirm())
    assert confirmed.state == pb.Order.CONFIRMED
    assert await orders.ConfirmOrder(confirm()) == confirmed
    cancelled = await orders.CancelOrder(cancel(reason="changed my mind"))
    assert cancelled.state == pb.Order.CANCELLED
    assert await orders.CancelOrder(cancel(reason="again")) == cancelled
    order = await orders.GetOrder(get())
    assert [(STATES.Name(change.state), change.reason) for change in order.history] == [
        ("PENDING", ""),
        ("CONFIRMED", ""),
        ("CANCELLED", "changed my mind"),
    ]
    assert order.history[-1].time == order.update_time
    assert order.state == order.history[-1].state


async def test_a_cancelled_order_stays_cancelled(orders: OrderServiceAsyncStub) -> None:
    await orders.CreateOrder(creation())
    await orders.CancelOrder(cancel())
    with pytest.raises(Refused) as refused:
        await orders.ConfirmOrder(confirm())
    assert refused.value.reason == "ORDER_CANCELLED"
    order = await orders.GetOrder(get())
    assert [change.state for change in order.history] == [pb.Order.PENDING, pb.Order.CANCELLED]


async def ids_by_page(
    orders: OrderServiceAsyncStub, request: pb.ListOrdersRequest
) -> list[list[str]]:
    pages = []
    while True:
        reply = await orders.ListOrders(request)
        pages.append([order.order_id for order in reply.orders])
        if not reply.next_page_token:
            return pages
        request.page_token = reply.next_page_token


async def test_orders_are_listed_newest_first_page_by_page(orders: OrderServiceAsyncStub) -> None:
    for number in range(6):
        await orders.CreateOrder(creation(f"o{number}", "ann" if number % 2 else "bob"))
        await asyncio.sleep(0.002)  # ids of one millisecond are in no order
    await orders.ConfirmOrder(confirm("o3"))
    everything = pb.ListOrdersRequest(page_size=4)
    assert await ids_by_page(orders, everything) == [["o5", "o4", "o3", "o2"], ["o1", "o0"]]
    of_ann = pb.ListOrdersRequest(page_size=2, user_id="ann")
    assert await ids_by_page(orders, of_ann) == [["o5", "o3"], ["o1"]]
    pending = pb.ListOrdersRequest(page_size=2, user_id="ann", state=pb.Order.PENDING)
    assert await ids_by_page(orders, pending) == [["o5", "o1"]]
    confirmed = pb.ListOrdersRequest(state=pb.Order.CONFIRMED)
    assert await ids_by_page(orders, confirmed) == [["o3"]]


async def test_a_token_of_other_filters_is_refused(orders: OrderServiceAsyncStub) -> None:
    for number in range(2):
        await orders.CreateOrder(creation(f"o{number}"))
    token = (await orders.ListOrders(pb.ListOrdersRequest(page_size=1))).next_page_token
    with pytest.raises(InvalidArgument):
        await orders.ListOrders(pb.ListOrdersRequest(page_token=token, user_id="ann"))


async def watched(orders: OrderServiceAsyncStub, order_id: str = "o1") -> list[tuple[str, bool]]:
    watch = orders.WatchOrder(pb.WatchOrderRequest(order_id=order_id))
    return [(STATES.Name(news.order.state), news.final) async for news in watch]


async def test_a_watch_tells_each_change_until_the_order_is_settled(
    orders: OrderServiceAsyncStub,
) -> None:
    await orders.CreateOrder(creation())
    watch = aiter(orders.WatchOrder(pb.WatchOrderRequest(order_id="o1")))
    now = await anext(watch)
    assert now.order == await orders.GetOrder(get())
    assert not now.final
    later = asyncio.ensure_future(anext(watch))
    await orders.CreateOrder(creation("another"))  # a commit that is no news of this order
    await asyncio.sleep(0.01)
    assert not later.done()
    await orders.ConfirmOrder(confirm())
    last = await later
    assert (last.order.state, last.final) == (pb.Order.CONFIRMED, True)
    assert last.order == await orders.GetOrder(get())
    with pytest.raises(StopAsyncIteration):
        await anext(watch)


async def test_many_watch_one_order(orders: OrderServiceAsyncStub) -> None:
    await orders.CreateOrder(creation())
    watches = [asyncio.ensure_future(watched(orders)) for _ in range(20)]
    await asyncio.sleep(0.01)
    await orders.CancelOrder(cancel())
    for watch in watches:
        assert await watch == [("PENDING", False), ("CANCELLED", True)]


async def test_a_watch_of_a_settled_order_is_one_message(orders: OrderServiceAsyncStub) -> None:
    await orders.CreateOrder(creation())
    await orders.ConfirmOrder(confirm())
    assert await watched(orders) == [("CONFIRMED", True)]


async def test_a_watch_of_no_order_is_refused(orders: OrderServiceAsyncStub) -> None:
    with pytest.raises(NotFound) as refused:
        await watched(orders, "none")
    assert refused.value.reason == "ORDER_NOT_FOUND"


async def test_the_longest_order_can_be_kept_and_read(orders: OrderServiceAsyncStub) -> None:
    sku = "\N{CJK UNIFIED IDEOGRAPH-20000}" * 64  # 256 bytes
    request = creation("o" * 64, "\N{CJK UNIFIED IDEOGRAPH-20000}" * 64, *[(sku, 1, 2**30)] * 500)
    replies = [
        await orders.CreateOrder(request),
        await orders.ConfirmOrder(confirm("o" * 64)),
        await orders.CancelOrder(cancel("o" * 64, "\N{CJK UNIFIED IDEOGRAPH-20000}" * 500)),
    ]
    assert max(reply.ByteSize() for reply in replies) < REPLY_LIMIT_BYTES / 64
    order = await orders.GetOrder(get("o" * 64))
    assert [line.sku for line in order.lines] == [sku] * 500
    assert order.ByteSize() > REPLY_LIMIT_BYTES  # why replies to changes leave the lines out


# --- QuoteOrder: the services it reads are replaced -----------------------------------------------

GET_USER = "/shop.user.v1.UserService/GetUser"
BATCH_GET_ITEMS = "/shop.inventory.v1.InventoryService/BatchGetItems"


class Others:
    """A user service that knows ann, an inventory service with two items; both wait to meet."""

    def __init__(self) -> None:
        self.both = asyncio.Barrier(2)
        self.skus: list[str] = []

    async def get_user(self, request: user_pb2.GetUserRequest) -> user_pb2.User:
        await self.both.wait()
        if request.user_id != "ann":
            raise NotFound("no such user", reason="USER_NOT_FOUND")
        return user_pb2.User(user_id="ann", state=user_pb2.User.ACTIVE)

    async def batch_get_items(
        self, request: inventory_pb2.BatchGetItemsRequest
    ) -> inventory_pb2.BatchGetItemsResponse:
        await self.both.wait()
        self.skus = list(request.skus)
        reply = inventory_pb2.BatchGetItemsResponse()
        for sku in request.skus:
            if sku in ("A", "B"):
                price = to_money("GBP", 1_000)
                stock = inventory_pb2.Stock(sku=sku, free=10)
                reply.items.add(sku=sku, unit_price=price, stock=stock)
            else:
                reply.missing_skus.append(sku)
        return reply


def quotation(user_id: str, *lines: tuple[str, int, int]) -> pb.QuoteOrderRequest:
    request = pb.QuoteOrderRequest(user_id=user_id)
    for sku, quantity, minor in lines:
        price = to_money("GBP", minor) if minor else None
        request.lines.add(sku=sku, quantity=quantity, unit_price=price)
    return request


async def quoted(
    database: Database, request: pb.QuoteOrderRequest, *roles: str, others: Others | None = None
) -> pb.QuoteOrderResponse:
    others = others or Others()
    fakes: dict[str, Fake] = {GET_USER: others.get_user, BATCH_GET_ITEMS: others.batch_get_items}
    caller = Principal("caller", frozenset(roles))
    async with serving(service, database, caller=caller, others=fakes) as channel:
        return await OrderServiceStub(channel).QuoteOrder(request, timeout=5)


async def test_a_quote_reads_user_and_stock_at_once(database: Database) -> None:
    others = Others()
    request = quotation("ann", ("A", 6, 0), ("B", 10, 0), ("A", 5, 0))
    quote = await quoted(database, request, others=others)
    assert others.skus == ["A", "B"]
    assert quote.total == to_money("GBP", 21_000)
    assert [line.available for line in quote.lines] == [False, True, False]
    assert not quote.available
    assert quote.user_state == user_pb2.User.ACTIVE


async def test_a_price_is_taken_from_sales_only(database: Database) -> None:
    request = quotation("ann", ("A", 1, 750))
    assert (await quoted(database, request, "sales")).total == to_money("GBP", 750)
    assert (await quoted(database, request)).total == to_money("GBP", 1_000)


@pytest.mark.parametrize(
    ("user_id", "sku", "reason"),
    [("nobody", "A", "USER_NOT_FOUND"), ("ann", "Z", "UNKNOWN_SKU")],
)
async def test_a_quote_for_the_unknown_is_refused(
    database: Database, user_id: str, sku: str, reason: str
) -> None:
    with pytest.raises(NotFound) as refused:
        await quoted(database, quotation(user_id, (sku, 1, 0)))
    assert refused.value.reason == reason


def test_it_calls_what_it_declares() -> None:
    calls = {(target, method.path) for target, method in declared(Clients)}
    assert calls == {("user", GET_USER), ("inventory", BATCH_GET_ITEMS)}
