"""The saga engine's rules, one by one."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from mesh.errors import AlreadyExists, CircuitOpenError, DeadlineExceeded, Internal, Unavailable
from mesh.saga import Steps, Undo, saga
from mesh.saga.steps import DEADLINE_S
from mesh.saga.undo import UNDO_ANSWERS_MAX
from mesh.saga.v1.saga_pb2 import Saga, SagaStep
from mesh.testing.loop import run_virtual
from shop.inventory.v1 import inventory_pb2 as inventory
from shop.order.v1 import order_pb2 as order
from shop.payment.v1 import payment_pb2 as payment
from tests.unit.mesh.saga.world import World, no, undo_of


def test_a_saga_completes_and_journals_every_answer(tmp_path: Path) -> None:
    world = World(tmp_path)
    row = run_virtual(world.run())
    assert row.state == Saga.COMPLETED
    assert world.log == ["ReserveStock", "ChargePayment", "ConfirmOrder", "CommitReservation"]
    assert [s.state for s in row.steps] == [SagaStep.DONE] * 4
    assert [s.position for s in row.steps] == [1, 2, 3, 4]


def test_step_keys_are_the_saga_and_the_position(tmp_path: Path) -> None:
    world = World(tmp_path)
    row = run_virtual(world.run())
    assert world.to.charge.calls[0].key == f"{row.saga_id}/2"


def test_a_refusal_undoes_newest_first_and_says_which_step_and_why(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.to.confirm.answers.append(no("TOO_LATE"))
    row = run_virtual(world.run())
    assert row.state == Saga.FAILED
    assert world.log[3:] == ["RefundPayment", "ReleaseStock"]
    error = row.error()
    assert error is not None
    assert (row.failed_step, error.reason) == (
        "shop.order.v1.OrderService/ConfirmOrder",
        "TOO_LATE",
    )
    assert [s.state for s in row.steps] == [SagaStep.UNDONE, SagaStep.UNDONE, SagaStep.REFUSED]


def test_a_refused_step_itself_is_not_undone(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.to.charge.answers.append(no())
    run_virtual(world.run())
    assert world.log == ["ReserveStock", "ChargePayment", "ReleaseStock"]


def test_an_undo_names_its_do_and_has_a_key_of_its_own(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.to.charge.answers.append(no())
    row = run_virtual(world.run())
    (undo,) = world.to.release.calls
    assert undo_of(undo) == f"/shop.inventory.v1.InventoryService/ReserveStock {row.saga_id}/1"
    assert undo.key == f"{row.saga_id}/1/undo"


@pytest.mark.parametrize(
    "error", [Unavailable(), DeadlineExceeded(), Internal(), CircuitOpenError(retry_after_s=30.0)]
)
def test_an_unknown_outcome_is_asked_again_under_the_same_key(
    tmp_path: Path, error: Exception
) -> None:
    world = World(tmp_path)
    world.to.charge.answers.extend([error, error, error])
    row = run_virtual(world.run())
    assert row.state == Saga.COMPLETED
    assert [c.key for c in world.to.charge.calls] == [f"{row.saga_id}/2"] * 4
    assert row.steps[1].attempts == 4


def test_while_a_breaker_is_open_its_target_is_left_alone(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path)
        world.to.charge.answers.append(CircuitOpenError(retry_after_s=30.0))
        await world.run()
        assert world.runtime.clock.monotonic() >= 30.0

    run_virtual(story())


def test_a_step_of_unknown_outcome_is_undone_like_a_done_one(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path)
        world.to.charge.answers.extend([Unavailable()] * 1000)
        row = await world.run()
        assert row.state == Saga.FAILED
        assert row.steps[1].state == SagaStep.UNDONE
        assert world.counts()["RefundPayment"] == 1
        error = row.error()
        assert error is not None and error.reason == "SAGA_DEADLINE"
        assert world.runtime.clock.monotonic() >= DEADLINE_S

    run_virtual(story())


def test_a_failed_undo_parks_the_saga_and_never_stops_the_other_undos(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.to.confirm.answers.append(no())
    world.to.refund.answers.append(no("REFUND_DENIED"))
    row = run_virtual(world.run())
    assert row.state == Saga.PARKED
    assert world.log[3:] == ["RefundPayment", "ReleaseStock"]
    assert row.steps[1].undo_state == SagaStep.UNDO_FAILED
    assert row.steps[0].undo_state == SagaStep.UNDO_DONE


def test_an_undo_that_gets_no_answer_is_never_given_up(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.to.confirm.answers.append(no())
    world.to.refund.answers.extend([Unavailable()] * (UNDO_ANSWERS_MAX * 5))
    row = run_virtual(world.run())
    assert row.state == Saga.FAILED
    assert row.steps[1].undo_attempts == UNDO_ANSWERS_MAX * 5 + 1


def test_an_undo_that_keeps_answering_with_a_bug_is_given_up(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.to.confirm.answers.append(no())
    world.to.refund.answers.extend([Internal()] * 1000)
    row = run_virtual(world.run())
    assert row.state == Saga.PARKED
    assert row.steps[1].undo_attempts == UNDO_ANSWERS_MAX


def test_silence_does_not_use_up_the_answers_of_an_undo(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.to.confirm.answers.append(no())
    silence = [Unavailable()] * UNDO_ANSWERS_MAX
    world.to.refund.answers.extend([*silence, Internal()])
    row = run_virtual(world.run())
    assert row.state == Saga.FAILED


def test_after_the_pivot_a_saga_only_goes_forward(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path)
        world.to.commit.answers.extend([Unavailable()] * 300)
        saga_id = await world.start()
        await world.runtime.clock.sleep(DEADLINE_S + 1)
        assert not await world.engine.cancel(saga_id, "too late")
        row = await world.end(saga_id)
        assert row.state == Saga.COMPLETED
        assert "RefundPayment" not in world.log

    run_virtual(story())


def test_a_refusal_after_the_pivot_needs_a_person(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.to.commit.answers.append(no())
    row = run_virtual(world.run())
    assert row.state == Saga.PARKED
    assert "RefundPayment" not in world.log


Moment = Callable[[World], Awaitable[None]]


def test_one_key_starts_one_saga(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path)
        first, second = await asyncio.gather(world.start("o"), world.start("o"))
        assert first == second
        await world.end(first)
        assert world.counts()["ReserveStock"] == 1

    run_virtual(story())


def test_a_key_with_another_request_is_refused(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path)
        await world.run()
        with pytest.raises(AlreadyExists, match="KEY_REUSED"):
            await world.engine.start(world.sagas[0], order.GetOrderRequest(order_id="another"), "o")

    run_virtual(story())


def test_an_undo_belongs_to_the_service_of_its_do(tmp_path: Path) -> None:
    errors = []

    @saga(version=1)
    async def crossed(step: Steps, to: Any, it: order.GetOrderRequest) -> None:
        """Names another service's method as its undo."""
        wrong = Undo(to.refund, payment.RefundPaymentRequest())
        try:
            await step(to.reserve, inventory.ReserveStockRequest(), undo=wrong)
        except TypeError as error:
            errors.append(str(error))

    world = World(tmp_path, [crossed])
    run_virtual(world.run())
    assert "cannot undo" in errors[0]
    assert world.log == []


def test_overlapping_steps_are_an_error(tmp_path: Path) -> None:
    @saga(version=1)
    async def hasty(step: Steps, to: Any, it: order.GetOrderRequest) -> None:
        """Makes two steps at once."""
        await asyncio.gather(
            step(to.reserve, inventory.ReserveStockRequest(order_id="1")),
            step(to.reserve, inventory.ReserveStockRequest(order_id="2")),
        )

    world = World(tmp_path, [hasty])
    row = run_virtual(world.run())
    assert row.state == Saga.PARKED


def test_a_saga_can_live_with_a_refusal(tmp_path: Path) -> None:
    from mesh.errors import Refused

    @saga(version=1)
    async def modest(step: Steps, to: Any, it: order.GetOrderRequest) -> None:
        """Buys without reserving if it must."""
        try:
            await step(to.reserve, inventory.ReserveStockRequest(order_id="o"))
        except Refused:
            await step(to.charge, payment.ChargePaymentRequest(order_id="o"))

    world = World(tmp_path, [modest])
    world.to.reserve.answers.append(no())
    row = run_virtual(world.run())
    assert row.state == Saga.COMPLETED
    assert world.log == ["ReserveStock", "ChargePayment"]


def test_its_third_parameter_must_be_a_message() -> None:
    with pytest.raises(TypeError, match="message"):

        @saga(version=1)  # type: ignore[type-var]
        async def wrong(step: Steps, to: Any, it: str) -> None: ...


def test_waiting_gives_up_when_its_time_is_over_and_the_saga_goes_on(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path)

        async def slowly() -> Any:
            await asyncio.sleep(60)
            return payment.Payment()

        world.to.charge.answers.append(slowly)
        saga_id = await world.start()
        row = await world.engine.wait(saga_id, 5.0)
        assert row.state == Saga.EXECUTING
        assert (await world.end(saga_id)).state == Saga.COMPLETED

    run_virtual(story())


def test_of_two_targets_with_one_contract_each_gets_its_own_undo(tmp_path: Path) -> None:
    @saga(version=1)
    async def twice(step: Steps, to: Any, it: order.GetOrderRequest) -> None:
        """Reserves in the north, then in the south."""
        for place in (to.north, to.south):
            request = inventory.ReserveStockRequest(order_id=it.order_id)
            release = Undo(place.release, inventory.ReleaseStockRequest(order_id=it.order_id))
            await step(place.reserve, request, undo=release)

    world = World(tmp_path, [twice])
    world.two_places()
    world.to.south.reserve.answers.append(no())
    row = run_virtual(world.run())
    assert row.state == Saga.FAILED
    assert len(world.to.north.release.calls) == 1
    assert not world.to.south.release.calls


def test_an_undo_cannot_go_to_another_target_than_its_do(tmp_path: Path) -> None:
    @saga(version=1)
    async def crossed(step: Steps, to: Any, it: order.GetOrderRequest) -> None:
        """Reserves in the north, would release in the south."""
        release = Undo(to.south.release, inventory.ReleaseStockRequest())
        await step(to.north.reserve, inventory.ReserveStockRequest(), undo=release)

    world = World(tmp_path, [crossed])
    world.two_places()
    assert run_virtual(world.run()).state == Saga.PARKED
    assert world.log == []
