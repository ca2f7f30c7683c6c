"""Sagas that are cancelled while they run."""

from pathlib import Path
from typing import Any

from mesh.errors import Unavailable
from mesh.saga.records import SagaRow
from mesh.saga.v1.saga_pb2 import Saga
from mesh.testing.loop import run_virtual
from tests.unit.mesh.saga.world import World


async def cancelled_during(world: World, remote: Any) -> tuple[bool, SagaRow]:
    """Cancel the saga while *remote* is being called; return whether that was possible."""
    asked: list[bool] = []
    saga_id = ""

    async def answer() -> Any:
        asked.append(await world.engine.cancel(saga_id, "changed my mind"))
        return remote.method.reply_type()

    remote.answers.append(answer)
    saga_id = await world.start()
    row = await world.end(saga_id)
    return asked[0], row


def test_cancelled_before_its_pivot_a_saga_is_undone(tmp_path: Path) -> None:
    world = World(tmp_path)
    possible, row = run_virtual(cancelled_during(world, world.to.charge))
    assert possible
    assert row.state == Saga.FAILED
    assert world.log[2:] == ["RefundPayment", "ReleaseStock"]
    error = row.error()
    assert error is not None and error.reason == "CANCELLED"


def test_once_the_intent_of_its_pivot_is_written_it_cannot_be_cancelled(tmp_path: Path) -> None:
    world = World(tmp_path)
    possible, row = run_virtual(cancelled_during(world, world.to.confirm))
    assert not possible
    assert row.state == Saga.COMPLETED


def test_an_ended_saga_cannot_be_cancelled(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path)
        row = await world.run()
        assert not await world.engine.cancel(row.saga_id, "too late")

    run_virtual(story())


def test_a_cancelled_saga_stops_asking_a_target_that_does_not_answer(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path)
        world.to.charge.answers.extend([Unavailable()] * 1000)
        saga_id = await world.start()
        await world.runtime.clock.sleep(20)
        assert await world.engine.cancel(saga_id, "enough")
        row = await world.end(saga_id)
        assert row.state == Saga.FAILED
        assert world.runtime.clock.monotonic() < 60

    run_virtual(story())
