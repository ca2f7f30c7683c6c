"""`step.all()`: several steps at one position."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from mesh.errors import Unavailable
from mesh.saga import Branch, Steps, Undo, saga
from mesh.saga.steps import DEADLINE_S
from mesh.saga.v1.saga_pb2 import Saga, SagaStep
from mesh.testing.loop import run_virtual
from shop.inventory.v1 import inventory_pb2 as inventory
from shop.order.v1 import order_pb2 as order
from shop.payment.v1 import payment_pb2 as payment
from tests.unit.mesh.saga.world import World, no, undo_of


def reserving(to: Any) -> Branch[Any, Any]:
    request = inventory.ReserveStockRequest(order_id="o")
    return Branch(to.reserve, request, Undo(to.release, inventory.ReleaseStockRequest()))


def charging(to: Any) -> Branch[Any, Any]:
    request = payment.ChargePaymentRequest(order_id="o")
    return Branch(to.charge, request, Undo(to.refund, payment.RefundPaymentRequest()))


@saga(version=1)
async def both(step: Steps, to: Any, it: order.GetOrderRequest) -> None:
    """Two steps side by side, then the pivot."""
    stock, paid = await step.all(reserving(to), charging(to))
    assert (type(stock), type(paid)) == (inventory.Reservation, payment.Payment)
    await step(to.confirm, order.ConfirmOrderRequest(order_id=it.order_id), pivot=True)


def tell(folder: Path, story: Callable[[World], Awaitable[None]]) -> None:
    async def told() -> None:
        await story(World(folder, [both]))

    run_virtual(told())


def after(world: World, remote: Any, delay_s: float, error: Exception | None = None) -> None:
    """Let the next call of *remote* be answered only after a while."""

    async def answer() -> Any:
        await world.runtime.clock.sleep(delay_s)
        if error:
            raise error
        return remote.method.reply_type()

    remote.answers.append(answer)


def test_they_are_made_at_the_same_time_under_keys_of_their_own(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        after(world, world.to.reserve, 5)
        after(world, world.to.charge, 5)
        row = await world.run()
        assert row.state == Saga.COMPLETED
        assert world.runtime.clock.monotonic() == pytest.approx(5, abs=0.1)
        assert [s.place for s in row.steps] == [(1, 1), (1, 2), (2, 0)]
        keys = [r.calls[0].key for r in (world.to.reserve, world.to.charge, world.to.confirm)]
        assert keys == [f"{row.saga_id}/{place}" for place in ("1.1", "1.2", "2")]

    tell(tmp_path, story)


def test_all_are_waited_for_before_anything_is_undone(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.to.reserve.answers.append(no("OUT_OF_STOCK"))
        after(world, world.to.charge, 30)
        row = await world.run()
        assert row.state == Saga.FAILED
        assert world.log == ["ReserveStock", "ChargePayment", "RefundPayment"]
        assert world.runtime.clock.monotonic() >= 30
        assert row.failed_step.endswith("ReserveStock")
        assert [s.state for s in row.steps] == [SagaStep.REFUSED, SagaStep.UNDONE]
        (refund,) = world.to.refund.calls
        assert undo_of(refund).endswith(f"ChargePayment {row.saga_id}/1.2")

    tell(tmp_path, story)


def test_what_was_done_side_by_side_is_undone_the_last_first(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.to.confirm.answers.append(no())
        await world.run()
        assert world.log[3:] == ["RefundPayment", "ReleaseStock"]

    tell(tmp_path, story)


def test_one_of_unknown_outcome_is_asked_again_alone(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.to.charge.answers.extend([Unavailable()] * 3)
        row = await world.run()
        assert row.state == Saga.COMPLETED
        assert world.counts() == {"ReserveStock": 1, "ChargePayment": 4, "ConfirmOrder": 1}

    tell(tmp_path, story)


def test_out_of_time_all_of_them_are_undone(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.to.reserve.answers.extend([Unavailable()] * 1000)
        after(world, world.to.charge, DEADLINE_S + 20)
        row = await world.run()
        error = row.error()
        assert error is not None and error.reason == "SAGA_DEADLINE"
        assert [s.state for s in row.steps] == [SagaStep.UNDONE] * 2
        assert world.runtime.clock.monotonic() >= DEADLINE_S + 20

    tell(tmp_path, story)


def test_after_a_crash_those_without_an_answer_are_asked_again(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        never = asyncio.get_running_loop().create_future()
        world.to.charge.answers.extend([Unavailable(), lambda: never])
        saga_id = await world.start()
        await world.runtime.clock.sleep(5)
        await world.crash()
        await world.up()
        row = await world.end(saga_id)
        assert row.state == Saga.COMPLETED
        assert world.counts()["ReserveStock"] == 1  # its answer was stored with the failed attempt
        assert [c.key for c in world.to.charge.calls] == [f"{saga_id}/1.2"] * 3

    tell(tmp_path, story)


def test_a_cancelled_saga_waits_for_what_is_under_way(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.to.reserve.answers.extend([Unavailable()] * 1000)
        after(world, world.to.charge, 100)
        saga_id = await world.start()
        await world.runtime.clock.sleep(10)
        assert await world.engine.cancel(saga_id, "enough")
        await world.runtime.clock.sleep(50)
        assert "ReleaseStock" not in world.log
        row = await world.end(saga_id)
        assert row.state == Saga.FAILED
        assert world.log[-2:] == ["RefundPayment", "ReleaseStock"]

    tell(tmp_path, story)


def test_an_engine_that_lost_its_lease_makes_nothing_of_their_answers(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        after(world, world.to.reserve, 5)
        after(world, world.to.charge, 5)
        saga_id = await world.start()
        await world.runtime.clock.sleep(1)
        other = world.another("second")
        await world.engine._leases.leave(world.engine._engine_id)
        await other.resume()
        assert (await other.wait(saga_id, 60)).state == Saga.COMPLETED
        await world.runtime.clock.sleep(60)
        assert world.counts() == {"ReserveStock": 2, "ChargePayment": 2, "ConfirmOrder": 1}

    tell(tmp_path, story)


def test_a_step_beside_them_overlaps(tmp_path: Path) -> None:
    @saga(version=1)
    async def hasty(step: Steps, to: Any, it: order.GetOrderRequest) -> None:
        """Does not know of step.all."""
        await asyncio.gather(step.all(reserving(to), charging(to)), step.all(charging(to)))

    world = World(tmp_path, [hasty])
    row = run_virtual(world.run())
    error = row.error()
    assert row.state == Saga.PARKED
    assert error is not None and error.message == "OverlapError: see the log"


def test_none_of_them_is_no_step(tmp_path: Path) -> None:
    @saga(version=1)
    async def idle(step: Steps, to: Any, it: order.GetOrderRequest) -> None:
        """Has nothing to do."""
        assert await step.all() == ()

    row = run_virtual(World(tmp_path, [idle]).run())
    assert row.state == Saga.COMPLETED
    assert row.steps == []


def test_time_is_when_the_last_of_them_was_answered_at_every_run(tmp_path: Path) -> None:
    seen = []

    @saga(version=1)
    async def curious(step: Steps, to: Any, it: order.GetOrderRequest) -> None:
        """Notes the time, and fails."""
        begun = step.now()
        await step.all(reserving(to), charging(to))
        seen.append(step.now() - begun)
        raise ZeroDivisionError

    async def story() -> None:
        world = World(tmp_path, [curious])
        after(world, world.to.reserve, 7)
        after(world, world.to.charge, 3)
        await world.run()

    run_virtual(story())
    assert seen == [pytest.approx(7)] * 3
