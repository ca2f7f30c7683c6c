"""An order that is cancelled while it is being placed, at each commit and message on the way."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from mesh.errors import Refused
from mesh.saga.v1.saga_pb2 import Saga
from mesh.testing.cluster import Faults, Point
from mesh.testing.loop import run_virtual
from mesh.testing.network import Message
from shop.orchestrator.v1 import orchestrator_pb2 as pb
from shop.orchestrator.v1 import orchestrator_pb2_grpc
from tests.saga.shop import SCENARIOS, STOCK, Books, Scenario, Shop

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


class Moment(Faults):
    """Resolves `reached` at the point with this number; kills that node if it is to."""

    def __init__(self, number: int, *, deadly: bool = False) -> None:
        super().__init__()
        self._number = number
        self._deadly = deadly
        self.reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def kills(self, point: Point) -> bool:
        if len(self.points) != self._number:
            return False
        self.reached.set_result(None)
        return self._deadly


async def cancelled_at(folder: Path, scenario: Scenario, number: int, *, deadly: bool) -> Books:
    """Place an order, cancel it at point *number*; return the books when both are answered."""
    moment = Moment(number, deadly=deadly)
    async with Shop(folder, moment) as shop:

        async def cancel() -> None:
            await moment.reached
            await shop.cancel()

        await asyncio.gather(shop.place(scenario), cancel())
        return await shop.books()


async def counted(folder: Path, scenario: Scenario) -> int:
    """Return how many points the undisturbed order has."""
    calm = Faults()
    async with Shop(folder, calm) as shop:
        await shop.place(scenario)
        return len(calm.points)


def problems(books: Books) -> list[str]:
    """Return what is not as it must be once an order is cancelled, however far it had got."""
    wanted = {
        "at_provider": (0,),
        "in_ledger": (0,),
        "stock": ((STOCK, 0, 0),),
        "unfinished": (0,),
        "order": ("", "CANCELLED"),
        "reservation": ("", "RELEASED", "RETURNED"),
        "shipment": ("", "CANCELLED"),
    }
    return [
        f"{name} is {getattr(books, name)!r}"
        for name, allowed in wanted.items()
        if getattr(books, name) not in allowed
    ]


def fate(books: Books) -> str:
    """Return how the order came to be cancelled."""
    sagas = {saga.name: saga for saga in books.sagas}
    placed = sagas["place_order"]
    if placed.state == Saga.COMPLETED:
        assert sagas["cancel_order"].state == Saga.COMPLETED
        return "taken back"
    assert placed.state == Saga.FAILED
    assert "cancel_order" not in sagas
    return placed.refusal.reason


@pytest.mark.parametrize("deadly", [False, True], ids=["", "and a node dies"])
@pytest.mark.parametrize("name", ["success", "declined", "unshippable"])
def test_a_cancelled_order_leaves_nothing_behind(
    name: str, deadly: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario = BY_NAME[name]
    number_of_points = run_virtual(counted(tmp_path / "calm", scenario))
    fates: Counter[str] = Counter()
    for number in range(1, number_of_points + 1):
        folder = tmp_path / str(number)
        books = run_virtual(cancelled_at(folder, scenario, number, deadly=deadly))
        assert problems(books) == [], f"cancelled at point {number}"
        fates[fate(books)] += 1
    with capsys.disabled():
        print(f"\n{name}: cancelled at {number_of_points} points: {dict(fates)}")
    expected = {"success": {"CANCELLED", "taken back"}, "declined": {"CANCELLED", "CARD_DECLINED"}}
    assert fates.keys() == expected.get(name, {"CANCELLED", "UNSHIPPABLE_ADDRESS"})


def order_of(shop: Shop) -> Any:
    return orchestrator_pb2_grpc.OrchestratorServiceStub(shop.cluster.channel("orchestrator"))


class Undoing(Faults):
    """Holds the charge, and back again the first undo."""

    def __init__(self) -> None:
        super().__init__()
        self.charging = asyncio.Event()
        self.answered = asyncio.Event()

    async def deliver(self, message: Message, send: Callable[[], Awaitable[Any]]) -> Any:
        if message.method == "ChargePayment":
            self.charging.set()
        if message.method in ("RefundPayment", "ReleaseStock"):
            await self.answered.wait()
        return await send()


def test_who_does_not_wait_hears_that_it_is_under_way(tmp_path: Path) -> None:
    async def story() -> None:
        faults = Undoing()
        async with Shop(tmp_path, faults) as shop:
            placing = asyncio.ensure_future(shop.place(BY_NAME["success"]))
            await faults.charging.wait()
            began = shop.cluster.runtime.clock.monotonic()
            answer = await order_of(shop).CancelOrder(pb.CancelOrderRequest(order_id="o-1"))
            assert answer.state == pb.CancelOrderResponse.EXECUTING
            assert shop.cluster.runtime.clock.monotonic() - began < 1.0  # virtual seconds
            faults.answered.set()
            await placing
            assert problems(await shop.books()) == []

    run_virtual(story())


class RefusesLate(Faults):
    """What must not be refused once the order is confirmed, is."""

    async def deliver(self, message: Message, send: Callable[[], Awaitable[Any]]) -> Any:
        if message.method == "CommitReservation":
            raise Refused("not today", reason="NOT_TODAY")
        return await send()


def test_an_order_that_stands_still_is_not_cancelled_and_says_so(tmp_path: Path) -> None:
    async def story() -> None:
        async with Shop(tmp_path, RefusesLate()) as shop:
            await order_of(shop).PlaceOrder(
                pb.PlaceOrderRequest(
                    order_id="o-1",
                    user_id="ann",
                    lines=[pb.PlaceOrderLine(sku="LANTERN", quantity=1)],
                    payment_token="tok_ok",
                    wait=True,
                )
            )
            for wait in (True, False):
                with pytest.raises(Refused, match="ORDER_PARKED"):
                    await order_of(shop).CancelOrder(
                        pb.CancelOrderRequest(order_id="o-1", wait=wait)
                    )

    run_virtual(story())
