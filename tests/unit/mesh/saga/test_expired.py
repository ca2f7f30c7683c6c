"""Keys that were forgotten: what is known of nobody any more is left to a person."""

from pathlib import Path
from typing import Any

import pytest

from mesh.errors import KeyExpired
from mesh.saga.v1.saga_pb2 import Saga, SagaStep
from mesh.testing.loop import run_virtual
from tests.unit.mesh.saga.world import World, no


def test_a_step_whose_key_was_forgotten_parks_the_saga(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.to.charge.answers.append(KeyExpired())
    row = run_virtual(world.run())
    error = row.error()
    assert row.state == Saga.PARKED
    assert error is not None and error.reason == "KEY_EXPIRED"
    assert world.log == ["ReserveStock", "ChargePayment"]


def test_an_undo_whose_key_was_forgotten_fails_and_the_others_are_made(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.to.confirm.answers.append(no())
    world.to.refund.answers.append(KeyExpired())
    row = run_virtual(world.run())
    assert row.state == Saga.PARKED
    assert [s.undo_state for s in row.steps[:2]] == [SagaStep.UNDO_DONE, SagaStep.UNDO_FAILED]
    assert world.counts()["RefundPayment"] == 1


def test_a_forgotten_saga_is_not_started_again(tmp_path: Path) -> None:
    async def forget(tx: Any) -> None:
        await tx.execute("INSERT INTO mesh_spent_keys (name, key) VALUES ('buy', 'o')")

    async def story() -> None:
        world = World(tmp_path)
        await world.store.write(forget)
        with pytest.raises(KeyExpired):
            await world.start("o")
        assert (await world.end(await world.start("p"))).state == Saga.COMPLETED
        assert [row.key for row in await world.engine.journal.list("", 0, "", 9)] == ["p"]

    run_virtual(story())
