"""What orders ask for, told by their events: counted once, whatever is delivered how often."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from mesh.errors import InvalidArgument
from mesh.events.memory import MemoryBus
from mesh.events.port import Event
from mesh.runtime.clock import Runtime
from services.inventory.service import service
from shop.inventory.v1 import inventory_pb2 as pb
from shop.inventory.v1.inventory_pb2_grpc import InventoryServiceStub
from shop.order.v1.events_pb2 import OrderCancelled, OrderConfirmed, OrderCreated, OrderEvent
from shop.order.v1.order_pb2 import OrderLine
from tests.support.databases import Database
from tests.support.waiting import until
from tests.unit.services.serving import serving

if TYPE_CHECKING:
    from shop.inventory.v1.inventory_pb2_grpc import InventoryServiceAsyncStub as Inventory

CONFIRMED, CANCELLED = OrderConfirmed(), OrderCancelled(reason="no stock")
ENDS: list[list[Any]] = [[CONFIRMED], [CANCELLED], [CONFIRMED, CANCELLED], []]


@pytest.fixture
def bus() -> MemoryBus:
    return MemoryBus(Runtime())


@pytest.fixture
async def inventory(database: Database, bus: MemoryBus) -> AsyncIterator[Inventory]:
    async with serving(service, database, bus=bus) as channel:
        yield InventoryServiceStub(channel)


def created(*lines: tuple[str, int]) -> OrderCreated:
    return OrderCreated(lines=[OrderLine(sku=sku, quantity=n) for sku, n in lines])


def events(order_id: str, *happened: Any) -> list[Event]:
    found = []
    for version, what in enumerate(happened, 1):
        message = OrderEvent(order_id=order_id)
        getattr(message, type(what).__name__.removeprefix("Order").lower()).CopyFrom(what)
        found.append(
            Event(
                topic=OrderEvent.DESCRIPTOR.full_name,
                aggregate=order_id,
                version=version,
                event_id=f"{order_id}/{version}",
                payload=message.SerializeToString(),
                source="order",
                time=1.0,
            )
        )
    return found


async def demand(inventory: Inventory, *skus: str) -> dict[str, tuple[int, int]]:
    listed = await inventory.ListDemand(pb.ListDemandRequest(skus=skus))
    return {one.sku: (one.asked, one.confirmed) for one in listed.demand}


async def until_told(inventory: Inventory, told: dict[str, tuple[int, int]]) -> None:
    async def is_told() -> bool:
        return await demand(inventory) == told

    await until(is_told)


async def test_confirmed_units_are_those_of_confirmed_orders(
    inventory: Inventory, bus: MemoryBus
) -> None:
    for event in [
        *events("placed", created(("LAMP", 2), ("CUP", 1), ("LAMP", 3)), CONFIRMED),
        *events("refused", created(("LAMP", 10)), CANCELLED),
        *events("called off", created(("CUP", 4)), CONFIRMED, CANCELLED),
        *events("on its way", created(("NOT SOLD HERE", 7))),
    ]:
        await bus.publish(event)
    await until_told(inventory, {"CUP": (5, 5), "LAMP": (15, 5), "NOT SOLD HERE": (7, 0)})
    assert await demand(inventory, "LAMP", "NOBODY ASKS") == {"LAMP": (15, 5)}


async def test_it_is_the_same_however_often_and_in_which_order_events_come(
    inventory: Inventory, bus: MemoryBus
) -> None:
    random = Random(7)
    published: list[Event] = []
    told: dict[str, Counter[str]] = {"asked": Counter(), "confirmed": Counter()}
    for number in range(40):
        lines = [(random.choice("ABC"), random.randint(1, 9)) for _ in range(random.randint(1, 4))]
        end = random.choice(ENDS)
        published += events(str(number), created(*lines), *end)
        for sku, n in lines:
            told["asked"][sku] += n
            told["confirmed"][sku] += n * (CONFIRMED in end)
    repeated = [replace(event, event_id=f"{event.event_id} again") for event in published]
    mixed = published + repeated
    random.shuffle(mixed)
    for event in mixed:
        await bus.publish(event)
    await until_told(
        inventory, {sku: (told["asked"][sku], told["confirmed"][sku]) for sku in "ABC"}
    )


async def test_pages_of_it(inventory: Inventory, bus: MemoryBus) -> None:
    for event in events("big", created(*((f"SKU {n:03}", n) for n in range(1, 301))), CONFIRMED):
        await bus.publish(event)
    await until_counted(inventory, "SKU 300")
    request, found = pb.ListDemandRequest(page_size=128), []
    while True:
        page = await inventory.ListDemand(request)
        found += [(one.sku, one.asked, one.confirmed) for one in page.demand]
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    assert found == [(f"SKU {n:03}", n, n) for n in range(1, 301)]
    with pytest.raises(InvalidArgument):
        await inventory.ListDemand(pb.ListDemandRequest(page_size=1001))


async def until_counted(inventory: Inventory, sku: str) -> None:
    async def is_counted() -> bool:
        return any(n for _, n in (await demand(inventory, sku)).values())

    await until(is_counted)
