"""Sagas that ended long ago are forgotten, with all there is about them; on each engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from random import Random

import pytest

from mesh.errors import KeyExpired
from mesh.runtime.clock import Runtime, SystemClock
from mesh.saga.actions import record
from mesh.saga.journal import Journal
from mesh.saga.records import SagaRow, StepRow
from mesh.saga.v1.saga_pb2 import Saga
from mesh.storage.migrate import own_migrations
from mesh.storage.port import Store, Tx
from mesh.storage.retention import BATCH, Retention, delete_some
from tests.support.databases import Database

DAY_S = 24 * 3600.0
KEEP_S = 30 * DAY_S
#: Every table of the journal that says something of one saga.
TABLES = ("mesh_sagas", "mesh_saga_steps", "mesh_saga_actions")


class Past(SystemClock):
    """The clock of some days ago."""

    def __init__(self, days_ago: float) -> None:
        at = SystemClock.wall() - days_ago * DAY_S
        self.wall = lambda: at


class World:
    """A journal, and a past to have sagas in."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.journal = Journal(store)
        self.now = Runtime()

    def id_of(self, days_ago: float) -> str:
        return Runtime(Past(days_ago), Random(days_ago)).new_id()

    async def saga(
        self, key: str, *, born: float, ended: float, state: Saga.State.ValueType
    ) -> str:
        """Have a saga of two branches that a person acted on, so many days ago."""
        saga_id = self.id_of(born)
        row = await self.journal.add(self.row(saga_id, key), owner="")
        row.state = state
        await self.journal.save(row, [step(1), step(2), step(0, position=2)])

        async def act(tx: Tx) -> None:
            await record(tx, saga_id, "RETRY", "ops", "because", ["It is called again."])
            await tx.execute(
                "UPDATE mesh_saga_actions SET action_id = $2 WHERE saga_id = $1",
                saga_id,
                self.id_of(ended),
            )
            await tx.execute(
                "UPDATE mesh_sagas SET updated_at = updated_at - $2 WHERE saga_id = $1",
                saga_id,
                ended * DAY_S,
            )

        await self.store.write(act)
        return saga_id

    def row(self, saga_id: str, key: str) -> SagaRow:
        return SagaRow(saga_id, "buy", 1, key, b"", "", "", created_at=1.0, deadline_at=2.0)

    async def sweep(self) -> int:
        return await Retention(self.store, self.now, KEEP_S).sweep()

    async def rows_of(self, saga_id: str) -> list[int]:
        async def work(tx: Tx) -> list[int]:
            return [
                len(await tx.execute(f"SELECT 1 FROM {table} WHERE saga_id = $1", saga_id))
                for table in TABLES
            ]

        return await self.store.read(work)


@pytest.fixture
async def world(database: Database) -> AsyncIterator[World]:
    store = await database.open(own_migrations())
    yield World(store)
    await store.close()


def step(branch: int, position: int = 1) -> StepRow:
    return StepRow(position, branch, "inventory", "/x.Y/Z", b"", "", b"", started_at=1.0)


@pytest.mark.parametrize("state", [Saga.COMPLETED, Saga.FAILED])
async def test_what_ended_long_ago_goes_whole_and_does_not_start_again(
    world: World, state: Saga.State.ValueType
) -> None:
    old = await world.saga("old", born=40, ended=40, state=state)
    young = await world.saga("young", born=20, ended=20, state=state)
    assert await world.sweep() == 2  # the saga, and what was done to it
    assert await world.rows_of(old) == [0, 0, 0]
    assert await world.rows_of(young) == [1, 3, 1]
    with pytest.raises(KeyExpired):
        await world.journal.add(world.row(world.now.new_id(), "old"), owner="")
    assert await world.journal.find("buy", "old") is None  # nor was it, after all
    again = await world.journal.add(world.row(world.now.new_id(), "young"), owner="")
    assert again.saga_id == young


async def test_a_saga_is_kept_from_its_end_on_however_old_it_is(world: World) -> None:
    parked = await world.saga("parked", born=90, ended=80, state=Saga.PARKED)
    resolved = await world.saga("resolved", born=90.1, ended=1, state=Saga.COMPLETED)
    assert await world.sweep() == 0
    assert await world.rows_of(parked) == await world.rows_of(resolved) == [1, 3, 1]


async def test_what_people_did_is_kept_as_long_as_anything_else(world: World) -> None:
    saga_id = await world.saga("one", born=40, ended=40, state=Saga.FAILED)
    await world.store.write(lambda tx: record(tx, saga_id, "CANCEL", "ops", "late"))
    await world.sweep()
    assert await world.rows_of(saga_id) == [0, 0, 1]


async def test_the_journal_has_no_table_that_is_not_looked_at_here(database: Database) -> None:
    await (await database.open(own_migrations())).close()
    every = {
        "sqlite": "SELECT m.name FROM sqlite_schema m, pragma_table_info(m.name) c"
        " WHERE m.type = 'table' AND c.name = 'saga_id'",
        "postgres": "SELECT table_name FROM information_schema.columns"
        " WHERE column_name = 'saga_id'",
    }
    found = await database.rows(every[database.engine])
    assert {name for (name,) in found} == set(TABLES)


async def test_more_than_a_batch_goes(world: World) -> None:
    async def many(tx: Tx) -> None:
        for number in range(BATCH + 7):
            await record(tx, "gone", "CANCEL", "ops", str(number))
        rows = await tx.execute("SELECT action_id FROM mesh_saga_actions")
        for number, (action_id,) in enumerate(rows):
            old = f"{world.id_of(50)[:23]}-{number:012x}"
            await tx.execute(
                "UPDATE mesh_saga_actions SET action_id = $2 WHERE action_id = $1", action_id, old
            )

    await world.store.write(many)
    assert await world.sweep() == BATCH + 7
    assert await world.rows_of("gone") == [0, 0, 0]


async def test_what_has_a_value_goes_a_batch_at_a_time(world: World) -> None:
    async def many(tx: Tx) -> None:
        for number in range(BATCH + 7):
            await record(tx, "gone", "CANCEL", "ops", str(number))
        await record(tx, "kept", "CANCEL", "ops", "")

    async def some(tx: Tx) -> int:
        return await delete_some(tx, "mesh_saga_actions", "saga_id", "gone")

    await world.store.write(many)
    assert [await world.store.write(some) for _ in range(3)] == [BATCH, 7, 0]
    assert await world.rows_of("kept") == [0, 0, 1]
