"""Sagas that are run again, from their journals."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mesh.errors import Unavailable
from mesh.saga import Steps, saga
from mesh.saga.v1.saga_pb2 import Saga
from mesh.testing.loop import run_virtual
from shop.inventory.v1 import inventory_pb2 as inventory
from shop.order.v1 import order_pb2 as order
from tests.unit.mesh.saga.world import World, no


def test_a_crash_is_resumed_without_making_a_step_twice(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path)
        never = asyncio.get_running_loop().create_future()
        world.to.charge.answers.append(lambda: never)
        saga_id = await world.start()
        await world.runtime.clock.sleep(1)
        await world.crash()
        assert await world.up() == 1
        row = await world.end(saga_id)
        assert row.state == Saga.COMPLETED
        assert world.counts()["ReserveStock"] == 1
        assert [c.key for c in world.to.charge.calls] == [f"{saga_id}/2"] * 2

    run_virtual(story())


def test_a_crash_while_undoing_goes_on_undoing_from_the_journal_alone(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path)
        never = asyncio.get_running_loop().create_future()
        world.to.confirm.answers.append(no())
        world.to.refund.answers.append(lambda: never)
        saga_id = await world.start()
        await world.runtime.clock.sleep(1)
        await world.crash()
        world.log.clear()
        assert await world.up() == 1
        row = await world.end(saga_id)
        assert row.state == Saga.FAILED
        assert world.log == ["RefundPayment", "ReleaseStock"]

    run_virtual(story())


def test_a_saga_of_an_unknown_version_is_left_for_who_knows_it(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path)
        world.to.charge.answers.extend([Unavailable()] * 10)
        await world.start()
        await world.runtime.clock.sleep(1)
        world.sagas = []
        await world.crash()
        assert await world.up() == 0

    run_virtual(story())


def test_a_function_with_a_bug_is_parked_after_three_runs(tmp_path: Path) -> None:
    runs = []

    @saga(version=1)
    async def broken(step: Steps, to: Any, it: order.GetOrderRequest) -> None:
        """Fails after its first step."""
        runs.append(await step(to.reserve, inventory.ReserveStockRequest(order_id=it.order_id)))
        raise ZeroDivisionError

    world = World(tmp_path, [broken])
    row = run_virtual(world.run())
    assert row.state == Saga.PARKED
    assert len(runs) == 3
    assert world.log == ["ReserveStock"]


def test_a_function_that_differs_from_its_journal_is_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    drawn = iter(range(100))

    @saga(version=1)
    async def fickle(step: Steps, to: Any, it: order.GetOrderRequest) -> None:
        """Asks for something else at each run."""
        line = inventory.StockLine(sku="A", quantity=next(drawn) + 1)
        await step(to.reserve, inventory.ReserveStockRequest(order_id="o", lines=[line]))
        raise ZeroDivisionError

    world = World(tmp_path, [fickle])
    row = run_virtual(world.run())
    assert row.state == Saga.PARKED
    assert "DivergedError" in caplog.text
    assert world.counts() == {"ReserveStock": 1}


def test_time_chance_and_ids_are_the_same_at_every_run(tmp_path: Path) -> None:
    seen = []

    @saga(version=1)
    async def curious(step: Steps, to: Any, it: order.GetOrderRequest) -> None:
        """Notes what it is given, and fails."""
        before = step.now()
        await step(to.reserve, inventory.ReserveStockRequest(order_id="o"))
        seen.append((before, step.now(), step.random().random(), step.uuid(), step.uuid()))
        raise ZeroDivisionError

    async def slowly() -> Any:
        await asyncio.sleep(5)
        return inventory.Reservation()

    world = World(tmp_path, [curious])
    world.to.reserve.answers.append(slowly)
    run_virtual(world.run())
    assert len(seen) == 3
    assert len(set(seen)) == 1
    before, after, _, one, two = seen[0]
    assert after == pytest.approx(before + 5)
    assert one != two
