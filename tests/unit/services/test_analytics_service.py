"""The read model against what was published, whatever the topics' events are mixed like."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.money_pb2 import Money

from mesh.errors import InvalidArgument, NotFound, Unavailable
from mesh.events.memory import MemoryBus
from mesh.events.port import Event, aggregate_of
from mesh.node import Node
from mesh.runtime.clock import Runtime
from mesh.server import Application
from mesh.storage.migrate import migrations, own_migrations
from mesh.storage.sqlite import SqliteStore
from mesh.testing.loop import VirtualClock, run_virtual
from services.analytics.service import service
from shop.analytics.v1 import analytics_pb2 as pb
from shop.order.v1.events_pb2 import OrderCancelled, OrderConfirmed, OrderCreated, OrderEvent
from shop.order.v1.order_pb2 import Order, OrderLine
from shop.payment.v1.events_pb2 import ChargeRequested, PaymentCharged, PaymentEvent
from shop.payment.v1.payment_pb2 import Payment
from shop.shipping.v1.events_pb2 import ShipmentEvent
from shop.shipping.v1.shipping_pb2 import Shipment
from shop.user.v1.events_pb2 import UserCreated, UserEvent
from shop.user.v1.user_pb2 import User

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
    def __init__(self, folder: Path) -> None:
        async def inline(function: Any) -> Any:
            return function()

        self.runtime = Runtime(VirtualClock(), Random(1), inline)
        self.bus = MemoryBus(self.runtime)
        assert service.schema
        schema = [*own_migrations(), *migrations(service.schema)]
        self.store = SqliteStore(folder / "analytics.db", self.runtime, schema)
        node = Node("analytics", self.runtime)
        self.application = Application(node, service, self.store, _nobody, _nobody, self.bus)

    async def follow(self, *streams: Iterable[Message], seed: int = 0) -> None:
        """Publish each stream in its order, mixed with the others, each event twice."""
        events = list(chain.from_iterable(numbered(stream) for stream in streams))
        again = [replace(event, event_id=event.event_id + "+") for event in events]
        mixed = events + again
        Random(seed).shuffle(mixed)
        for event in mixed:
            await self.bus.publish(event)
        await self.runtime.clock.sleep(5.0)

    async def ask(self, method: str, request: Message, timeout_s: float = 10.0) -> Any:
        from mesh.call import Call, Method

        route = self.application.routes[f"/shop.analytics.v1.AnalyticsService/{method}"]
        assert route.unary
        deadline = self.runtime.clock.monotonic() + timeout_s
        path = Method.at(f"/shop.analytics.v1.AnalyticsService/{method}")
        return await route.unary(Call(path, request, deadline))


def _nobody(target: str) -> Any:
    raise AssertionError(target)


def play(folder: Path, story: Any) -> None:
    async def played() -> None:
        analytics = Analytics(folder)
        await analytics.application.resume()
        try:
            await story(analytics)
        finally:
            await analytics.application.stop()
            await analytics.store.close()

    run_virtual(played())


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


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_same_in_whatever_order_events_come(tmp_path: Path, seed: int) -> None:
    async def story(analytics: Analytics) -> None:
        await analytics.follow(*STREAMS, seed=seed)
        customer = await analytics.ask("GetCustomer", pb.GetCustomerRequest(user_id="ann"))
        assert customer == pb.Customer(
            user_id="ann",
            state=User.ACTIVE,
            order_count=4,
            confirmed_count=2,
            spent=[pounds(1250)],
        )
        one = await analytics.ask("GetOrderOverview", pb.GetOrderOverviewRequest(order_id="o-1"))
        assert (one.state, one.payment_state, one.shipment_state, one.version) == (
            Order.CONFIRMED,
            Payment.CHARGED,
            Shipment.RELEASED,
            2,
        )
        sales = await analytics.ask("ListDailySales", pb.ListDailySalesRequest())
        assert [(d.date, d.order_count, d.revenue) for d in sales.days] == [
            ("2010-12-01", 1, pounds(1000)),
            ("2010-12-02", 1, pounds(250)),
        ]
        items = await analytics.ask("ListTopItems", pb.ListTopItemsRequest(currency_code="GBP"))
        assert [(i.sku, i.quantity, i.revenue) for i in items.items] == [
            ("LANTERN", 2, pounds(1000)),
            ("LAMP", 1, pounds(250)),
        ]

    play(tmp_path, story)


def test_orders_of_a_customer_by_page(tmp_path: Path) -> None:
    async def story(analytics: Analytics) -> None:
        await analytics.follow(*STREAMS)
        found, token = [], ""
        while True:
            page = await analytics.ask(
                "ListCustomerOrders",
                pb.ListCustomerOrdersRequest(user_id="ann", page_size=3, page_token=token),
            )
            found += [one.order_id for one in page.orders]
            token = page.next_page_token
            if not token:
                break
        assert found == ["o-4", "o-3", "o-2", "o-1"]

    play(tmp_path, story)


def test_who_has_written_waits_to_read_it(tmp_path: Path) -> None:
    async def story(analytics: Analytics) -> None:
        first, second = numbered(order("o-9", created(100), CONFIRMED))
        await analytics.bus.publish(first)
        await analytics.runtime.clock.sleep(1.0)
        newest = pb.GetOrderOverviewRequest(order_id="o-9", min_version=2)
        asking = asyncio.ensure_future(analytics.ask("GetOrderOverview", newest))
        await analytics.runtime.clock.sleep(3.0)
        assert not asking.done()
        await analytics.bus.publish(second)
        assert (await asking).state == Order.CONFIRMED
        newest.min_version = 3
        with pytest.raises(Unavailable) as behind:
            await analytics.ask("GetOrderOverview", newest, timeout_s=2.0)
        assert behind.value.reason == "READ_MODEL_BEHIND"

    play(tmp_path, story)


def test_what_is_not_there(tmp_path: Path) -> None:
    async def story(analytics: Analytics) -> None:
        with pytest.raises(NotFound):
            await analytics.ask("GetCustomer", pb.GetCustomerRequest(user_id="bob"))
        with pytest.raises(NotFound):
            await analytics.ask("GetOrderOverview", pb.GetOrderOverviewRequest(order_id="o"))
        with pytest.raises(InvalidArgument):
            await analytics.ask("ListDailySales", pb.ListDailySalesRequest(start_date="today"))

    play(tmp_path, story)
