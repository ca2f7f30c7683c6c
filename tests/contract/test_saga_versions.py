"""Engines of two versions on one database: each takes what it knows, and leaves the rest alone."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from mesh.saga.journal import Journal
from mesh.saga.leases import Leases
from mesh.saga.records import SagaRow
from mesh.saga.v1.saga_pb2 import Saga
from mesh.storage.migrate import own_migrations
from mesh.storage.port import Store
from tests.support.databases import Database


@pytest.fixture
async def store(database: Database) -> AsyncIterator[Store]:
    store = await database.open(own_migrations())
    journal = Journal(store)
    for saga_id, version in (("s-1", 1), ("s-2", 2), ("s-3", 1), ("s-4", 2)):
        row = SagaRow(saga_id, "buy", version, saga_id, b"", "", "", 1.0, 2.0)
        await journal.add(row, owner="")
    yield store
    await store.close()


async def test_what_one_leaves_the_other_takes_if_it_knows_it(store: Store) -> None:
    old = Leases(store, [("buy", 1)])
    new = Leases(store, [("buy", 1), ("buy", 2), ("sell", 1)])
    await old.enter("old", "")
    await new.enter("new", "")
    assert await old.claim("old", 9) == [("s-1", 1), ("s-3", 1)]
    assert await new.claim("new", 9) == [("s-2", 1), ("s-4", 1)]
    assert await old.claim("old", 9) == await new.claim("new", 9) == []
    await old.leave("old")
    assert await new.claim("new", 9) == [("s-1", 2), ("s-3", 2)]
    await new.leave("new")
    await old.enter("old again", "")
    assert await old.claim("old again", 9) == [("s-1", 3), ("s-3", 3)]  # the others wait
    await new.enter("new again", "")
    assert await new.claim("new again", 9) == [("s-2", 2), ("s-4", 2)]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (("", 0, "", 9), ["s-4", "s-3", "s-2", "s-1"]),
        (("buy", Saga.PENDING, "s-3", 1), ["s-2"]),
        (("sell", 0, "", 9), []),
        (("", Saga.PARKED, "", 9), []),
        (("buy", 0, "s-2", 9), ["s-1"]),
    ],
)
async def test_they_are_listed_newest_first(
    store: Store, asked: tuple[str, Saga.State.ValueType, str, int], found: list[str]
) -> None:
    assert [row.saga_id for row in await Journal(store).list(*asked)] == found
