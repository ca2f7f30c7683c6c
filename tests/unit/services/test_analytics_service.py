"""The read model against what was published, whatever the topics' events are mixed like."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.money_pb2 import Money

from mesh.errors import InvalidArgument, NotFound, Unavailable
from mesh.events.memory import MemoryBus
from mesh.events.port import Event, aggregate_of
from mesh.runtime.clock import Runtime
from mesh.testing.loop import run_virtual
from services.analytics.service import service
from shop.analytics.v1 import analytics_pb2 as pb
from shop.analytics.v1.analytics_pb2_grpc import AnalyticsServiceStub
from shop.order.v1.events_pb2 import OrderCancelled, OrderConfirmed, OrderCreated, OrderEvent
from shop.order.v1.order_pb2 import Order, OrderLine
from shop.payment.v1.events_pb2 import ChargeRequested, PaymentCharged, PaymentEvent
from shop.payment.v1.payment_pb2 import Payment
from shop.shipping.v1.events_pb2 import ShipmentEvent
from shop.shipping.v1.shipping_pb2 import Shipment
from shop.user.v1.events_pb2 import UserCreated, UserEvent
from shop.user.v1.user_pb2 import User
from tests.support.databases import Database, SqliteDatabase
from tests.support.waiting import WITHIN_S, until
from tests.unit.mesh.events.world import virtual_runtime
from tests.unit.services.serving import SERVED, serving

if TYPE_CHECKING:
    from shop.analytics.v1.analytics_pb2_grpc import AnalyticsServiceAsyncStub

DAY_1 = 1_291_161_600  # 1 December 2010, 00:00 UTC


def pounds(minor: int) -> Money:
    return Money(currency_code="GBP", units=minor // 100, nanos=minor % 100 * 10_000_000)


def order(order_id: str, *happened: Any, user_id: str = "ann", day: int = 0) -> list[Message]:
    found: list[Message] = []
    for number, event in enumerate(happened):
        time = Timestamp(seconds=DAY_1 + day * 86_400 + number)
        made = OrderEvent(order_id=order_id, user_id=user_id, time=time)
        getattr(made, type(event).__name__.removeprefix("Order").lower()).CopyFrom(event)
        found.append(made)
    return found


def created(minor: int, sku: str = "LANTERN", quantity: int = 1) -> OrderCreated:
    lines = [OrderLine(sku=sku, quantity=quantity, amount=pounds(minor))]
    return OrderCreated(lines=lines, total=pounds(minor))


def numbered(messages: Iterable[Message]) -> list[Event]:
    return [
        Event(
            topic=message.DESCRIPTOR.full_name,
            aggregate=aggregate_of(message),
            version=version,
            event_id=f"{message.DESCRIPTOR.name}/{aggregate_of(message)}/{version}",
            payload=message.SerializeToString(),
            source="tests",
            time=float(DAY_1),
        )
        for version, message in enumerate(messages, 1)
    ]


class Analytics:
    """The service, and what feeds it."""

    def __init__(self, channel: Any, database: Database, bus: MemoryBus) -> None:
        self.stub: AnalyticsServiceAsyncStub = AnalyticsServiceStub(channel)
        self._database = database
        self._bus = bus

    async def follow(self, *streams: Iterable[Message], seed: int = 0) -> None:
        """Publish each stream in its order, mixed with the others, each event twice; see it in."""
        events = list(chain.from_iterable(numbered(stream) for stream in streams))
        again = [replace(event, event_id=event.event_id + "+") for event in events]
        mixed = events + again
        Random(seed).shuffle(mixed)
        for event in mixed:
            await self._bus.publish(event)

        async def are_applied() -> bool:
            found = await self._database.rows("SELECT version FROM mesh_inbox_heads", SERVED)
            return sum(int(version) for (version,) in found) == len(events)

        await until(are_applied)


@pytest.fixture
async def analytics(database: Database) -> AsyncIterator[Analytics]:
    bus = MemoryBus(Runtime())
    async with serving(service, database, bus=bus) as channel:
        yield Analytics(channel, database, bus)


CONFIRMED, CANCELLED = OrderConfirmed(), OrderCancelled()
STREAMS: list[list[Message]] = [
    [UserEvent(user_id="ann", created=UserCreated(state=User.ACTIVE))],
    order("o-1", created(1000, quantity=2), CONFIRMED),
    order("o-2", created(250, "LAMP"), CONFIRMED, day=1),
    order("o-3", created(77, "LAMP"), CANCELLED, day=1),
    order("o-4", created(5000, "LAMP"), CONFIRMED, CANCELLED, day=1),
    [
        PaymentEvent(order_id="o-1", user_id="ann", charge_requested=ChargeRequested()),
        PaymentEvent(order_id="o-1", user_id="ann", charged=PaymentCharged()),
    ],
    [
        ShipmentEvent(order_id="o-1", user_id="ann", state=Shipment.CREATED),
        ShipmentEvent(order_id="o-1", user_id="ann", state=Shipment.RELEASED),
    ],
]


@pytest.mark.parametrize("seed", range(3))
async def test_it_is_the_same_in_whatever_order_events_come(
    analytics: Analytics, seed: int
) -> None:
    await analytics.follow(*STREAMS, seed=seed)
    asked = analytics.stub
    assert await asked.GetCustomer(pb.GetCustomerRequest(user_id="ann")) == pb.Customer(
        user_id="ann",
        state=User.ACTIVE,
        order_count=4,
        confirmed_count=2,
        spent=[pounds(1250)],
    )
    one = await asked.GetOrderOverview(pb.GetOrderOverviewRequest(order_id="o-1"))
    assert (one.state, one.payment_state, one.shipment_state, one.version) == (
        Order.CONFIRMED,
        Payment.CHARGED,
        Shipment.RELEASED,
        2,
    )
    sales = await asked.ListDailySales(pb.ListDailySalesRequest())
    assert [(d.date, d.order_count, d.revenue) for d in sales.days] == [
        ("2010-12-01", 1, pounds(1000)),
        ("2010-12-02", 1, pounds(250)),
    ]
    items = await asked.ListTopItems(pb.ListTopItemsRequest(currency_code="GBP"))
    assert [(i.sku, i.quantity, i.revenue) for i in items.items] == [
        ("LANTERN", 2, pounds(1000)),
        ("LAMP", 1, pounds(250)),
    ]


async def test_orders_of_a_customer_by_page(analytics: Analytics) -> None:
    await analytics.follow(*STREAMS)
    found, request = [], pb.ListCustomerOrdersRequest(user_id="ann", page_size=3)
    while True:
        page = await analytics.stub.ListCustomerOrders(request)
        found += [one.order_id for one in page.orders]
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    assert found == ["o-4", "o-3", "o-2", "o-1"]


async def test_who_has_written_waits_to_read_it(analytics: Analytics) -> None:
    first, both = order("o-9", created(100)), order("o-9", created(100), CONFIRMED)
    await analytics.follow(first)
    newest = pb.GetOrderOverviewRequest(order_id="o-9", min_version=2)
    asking = asyncio.ensure_future(analytics.stub.GetOrderOverview(newest, timeout=WITHIN_S))
    await asyncio.sleep(0.1)
    assert not asking.done()
    await analytics.follow(both)
    assert (await asking).state == Order.CONFIRMED


async def test_what_is_not_there(analytics: Analytics) -> None:
    with pytest.raises(NotFound):
        await analytics.stub.GetCustomer(pb.GetCustomerRequest(user_id="bob"))
    with pytest.raises(NotFound):
        await analytics.stub.GetOrderOverview(pb.GetOrderOverviewRequest(order_id="o"))
    with pytest.raises(InvalidArgument):
        await analytics.stub.ListDailySales(pb.ListDailySalesRequest(start_date="today"))


def test_who_waits_in_vain_is_told(tmp_path: Path) -> None:
    async def story() -> None:
        runtime, database = virtual_runtime(), SqliteDatabase(tmp_path)
        bus = MemoryBus(runtime)
        async with serving(service, database, bus=bus, runtime=runtime) as channel:
            analytics = Analytics(channel, database, bus)
            await analytics.follow(order("o-9", created(100)))
            ahead = pb.GetOrderOverviewRequest(order_id="o-9", min_version=2)
            with pytest.raises(Unavailable) as behind:
                await analytics.stub.GetOrderOverview(ahead, timeout=2.0)
            assert behind.value.reason == "READ_MODEL_BEHIND"

    run_virtual(story())
