"""One order, cancelled by several people, or long after it was placed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import TypeAlias

import pytest
from google.type.money_pb2 import Money

from mesh.errors import NotFound, Refused
from mesh.runtime.clock import Runtime
from mesh.saga.v1.saga_pb2 import Saga
from mesh.storage.retention import LEASE_S, Retention
from mesh.testing.cluster import Faults
from mesh.testing.loop import VirtualClock, run_virtual
from shop.orchestrator.v1.orchestrator_pb2 import CancelOrderRequest, CancelOrderResponse
from shop.orchestrator.v1.orchestrator_pb2_grpc import OrchestratorServiceStub
from shop.order.v1.order_pb2 import CreateOrderRequest, PricedLine
from shop.order.v1.order_pb2_grpc import OrderServiceStub
from shop.shipping.v1 import shipping_pb2 as shipping
from shop.shipping.v1.shipping_pb2_grpc import ShippingServiceStub
from tests.saga.shop import SCENARIOS, Scenario, Shop

SUCCESS = SCENARIOS[0]
TAKEN_BACK = Scenario("taken back", cancel=True)
KEEP_S = 30 * 24 * 3600.0

Cancel: TypeAlias = Callable[[str], Awaitable[CancelOrderResponse]]


class Later(Faults):
    """For the orchestrator a month has passed."""

    def skew_s(self, node: str) -> float:
        return KEEP_S + 60.0 if node == "orchestrator" else 0.0


def tell(folder: Path, story: Callable[[Shop, Cancel], Awaitable[None]]) -> None:
    """Tell *story* of a shop that has sold one order."""

    async def told() -> None:
        async with Shop(folder) as shop:
            to = OrchestratorServiceStub(shop.cluster.channel("orchestrator"))

            async def cancel(reason: str) -> CancelOrderResponse:
                request = CancelOrderRequest(order_id="o-1", reason=reason, wait=True)
                answer: CancelOrderResponse = await to.CancelOrder(request)
                return answer

            await story(shop, cancel)

    run_virtual(told())


async def forget_sagas(shop: Shop) -> None:
    """Have the orchestrator forget what has ended: its calendar is that much ahead."""
    await shop.cluster.runtime.clock.sleep(LEASE_S)  # of the last one who did
    shop.cluster.faults = later = Later()
    clock = VirtualClock(lambda: later.skew_s("orchestrator"))
    retention = Retention(shop.cluster.store("orchestrator"), Runtime(clock, Random(0)), KEEP_S)
    assert await retention.sweep() > 0
    shop.cluster.faults = Faults()


async def dispatch(shop: Shop) -> None:
    """Send the parcel on its way."""
    parcels = ShippingServiceStub(shop.cluster.channel("shipping"))
    await parcels.DispatchShipment(shipping.DispatchShipmentRequest(order_id="o-1"))


def test_of_two_who_cancel_at_once_for_different_reasons_both_hear_of_the_same_cancellation(
    tmp_path: Path,
) -> None:
    async def story(shop: Shop, cancel: Cancel) -> None:
        await shop.place(SUCCESS)
        one, two = await asyncio.gather(cancel("too late"), cancel("too dear"))
        again = await cancel("never mind")
        assert one == two == again
        assert one.state == CancelOrderResponse.CANCELLED
        assert (await shop.books()).problems(TAKEN_BACK) == []

    tell(tmp_path, story)


def test_an_order_whose_placing_is_forgotten_is_cancelled_once(tmp_path: Path) -> None:
    async def story(shop: Shop, cancel: Cancel) -> None:
        await shop.place(SUCCESS)
        await forget_sagas(shop)
        answer = await cancel("found another")
        assert answer.state == CancelOrderResponse.CANCELLED
        books = await shop.books()
        assert books.problems(TAKEN_BACK) == []
        assert [(s.name, s.state) for s in books.sagas] == [("cancel_order", Saga.COMPLETED)]

        await forget_sagas(shop)
        answer = await cancel("found another")
        assert answer == CancelOrderResponse(order_id="o-1", state=CancelOrderResponse.CANCELLED)

    tell(tmp_path, story)


def test_an_order_sent_long_ago_cannot_be_cancelled_and_says_so(tmp_path: Path) -> None:
    async def story(shop: Shop, cancel: Cancel) -> None:
        await shop.place(SUCCESS)
        await dispatch(shop)
        await forget_sagas(shop)
        with pytest.raises(Refused, match="ALREADY_DISPATCHED"):
            await cancel("forgot it")
        await forget_sagas(shop)
        with pytest.raises(Refused, match="CANCEL_REFUSED"):
            await cancel("forgot it")

    tell(tmp_path, story)


async def create(shop: Shop) -> None:
    """Create the order without a saga."""
    price = Money(currency_code="GBP", units=2)
    line = PricedLine(sku="LANTERN", quantity=1, unit_price=price)
    orders = OrderServiceStub(shop.cluster.channel("order"))
    await orders.CreateOrder(CreateOrderRequest(order_id="o-1", user_id="ann", lines=[line]))


def test_an_order_that_nobody_is_placing_is_not_cancelled(tmp_path: Path) -> None:
    async def story(shop: Shop, cancel: Cancel) -> None:
        with pytest.raises(NotFound, match="ORDER_NOT_FOUND"):
            await cancel("there is none")
        await create(shop)
        with pytest.raises(Refused, match="ORDER_NOT_CONFIRMED"):
            await cancel("left behind")

    tell(tmp_path, story)


def test_an_order_that_is_placed_while_its_state_is_asked_for_is_cancelled(tmp_path: Path) -> None:
    async def story(shop: Shop, cancel: Cancel) -> None:
        await create(shop)
        shop.cluster.stop("order")
        cancelling = asyncio.ensure_future(cancel("too early"))
        await asyncio.sleep(0.2)
        placing = asyncio.ensure_future(shop.place(SUCCESS))
        await asyncio.sleep(0.2)
        shop.cluster.go_on("order")
        assert (await cancelling).state == CancelOrderResponse.CANCELLED
        await placing

    tell(tmp_path, story)
