"""A journal that an earlier release wrote is finished by this one."""

from pathlib import Path
from typing import Any

from mesh.saga.v1.saga_pb2 import Saga, SagaStep
from mesh.storage.migrate import own_migrations
from mesh.storage.sqlite import SqliteStore
from mesh.testing.loop import run_virtual
from shop.inventory.v1 import inventory_pb2 as inventory
from shop.order.v1 import order_pb2 as order
from tests.unit.mesh.saga.world import INVENTORY, World

FIRST_RELEASE = ("mesh/0001_keys.sql", "mesh/0002_sagas.sql")


async def leave_unfinished(tx: Any) -> None:
    """Leave a saga whose first step was answered, and one that is being undone."""
    request = order.GetOrderRequest(order_id="o").SerializeToString()
    for saga_id, state in (("s-1", Saga.EXECUTING), ("s-2", Saga.COMPENSATING)):
        await tx.execute(
            "INSERT INTO mesh_sagas (saga_id, name, version, key, request, state, epoch,"
            " correlation_id, traceparent, created_at, updated_at, deadline_at)"
            " VALUES ($1, 'buy', 1, $1, $2, $3, 4, 'c', '', 1.0, 2.0, 1e10)",
            saga_id,
            request,
            state,
        )
        await tx.execute(
            "INSERT INTO mesh_saga_steps (saga_id, position, target, method, request, state,"
            " answer, attempts, undo_method, undo_request, undo_state, started_at, ended_at)"
            " VALUES ($1, 1, 'fake', $2, $3, 2, $4, 1, $5, $6, $7, 1.0, 2.0)",
            saga_id,
            INVENTORY + "ReserveStock",
            inventory.ReserveStockRequest(order_id="o").SerializeToString(),
            inventory.Reservation().SerializeToString(),
            INVENTORY + "ReleaseStock",
            inventory.ReleaseStockRequest(order_id="o").SerializeToString(),
            SagaStep.UNDO_PENDING if saga_id == "s-2" else 0,
        )


def test_sagas_of_the_first_release_are_taken_up(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path / "new")
        world.folder = tmp_path
        old = [m for m in own_migrations() if m.name in FIRST_RELEASE]
        store = SqliteStore(tmp_path / "sagas.db", world.runtime, old)
        await store.write(leave_unfinished)
        await store.close()

        world.open()
        assert await world.up() == 2
        forward, back = await world.end("s-1"), await world.end("s-2")
        assert (forward.state, forward.epoch) == (Saga.COMPLETED, 5)
        assert back.state == Saga.FAILED
        assert world.counts() == {
            "ChargePayment": 1,
            "ConfirmOrder": 1,
            "CommitReservation": 1,
            "ReleaseStock": 1,
        }
        assert world.to.charge.calls[0].key == "s-1/2"
        assert world.to.release.calls[0].key == "s-2/1/undo"

    run_virtual(story())
