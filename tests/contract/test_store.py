"""What every storage engine keeps to, the contract of `mesh.storage.port`: reads and writes."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from mesh.call import NOBODY
from mesh.storage.port import StorageError, Store, Tx
from tests.support.coins import COINS, NotEnoughError, coins, put, take
from tests.support.databases import Database

# --- writes --------------------------------------------------------------------------------------


async def test_a_write_returns_what_its_work_returns_and_is_read_afterwards(store: Store) -> None:
    await store.write(put("ann", 5))
    assert await store.write(take("ann", 2)) == 3
    assert await coins(store) == {"ann": 3}


async def test_a_write_survives_a_restart(database: Database) -> None:
    first = await database.open([COINS])
    await first.write(put("ann"))
    await first.close()
    second = await database.open([COINS])
    assert await coins(second) == {"ann": 1}
    await second.close()


async def test_an_error_takes_back_every_statement_and_reaches_the_caller(store: Store) -> None:
    async def work(tx: Tx) -> None:
        await put("ann")(tx)
        await put("bob")(tx)
        raise NotEnoughError("of what")

    with pytest.raises(NotEnoughError, match="of what"):
        await store.write(work)
    assert await coins(store) == {}


async def test_an_error_takes_back_only_its_own_work(store: Store) -> None:
    async def fails(tx: Tx) -> None:
        await put("bob")(tx)
        raise NotEnoughError

    ends = await asyncio.gather(
        store.write(put("ann")),
        store.write(fails),
        store.write(put("cleo")),
        return_exceptions=True,
    )
    assert [type(end) for end in ends] == [type(None), NotEnoughError, type(None)]
    assert await coins(store) == {"ann": 1, "cleo": 1}


async def test_a_rollback_takes_back_what_was_written_and_the_work_goes_on(store: Store) -> None:
    async def work(tx: Tx) -> list[Any]:
        await put("ann")(tx)
        await tx.rollback()
        await put("bob")(tx)
        await tx.rollback()
        await put("cleo")(tx)
        return await tx.execute("SELECT owner FROM coins")

    seen = await store.write(work)
    assert [tuple(row) for row in seen] == [("cleo",)]
    assert await coins(store) == {"cleo": 1}


async def test_concurrent_transactions_are_serial(store: Store) -> None:
    await store.write(put("ann", 10))
    ends = await asyncio.gather(
        *(store.write(take("ann", 1)) for _ in range(15)), return_exceptions=True
    )
    assert sorted(end for end in ends if isinstance(end, int)) == list(range(10))
    assert sum(isinstance(end, NotEnoughError) for end in ends) == 5
    assert await coins(store) == {"ann": 0}


async def test_what_a_transaction_knows(store: Store) -> None:
    async def work(tx: Tx) -> tuple[float, float, str, str]:
        assert tx.principal == NOBODY
        return tx.now(), tx.now(), tx.new_id(), tx.new_id()

    began, later, one, other = await store.write(work)
    assert began == later > 1_600_000_000
    assert len(one) == len(other) == 36
    assert one != other


# --- reads ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO coins VALUES ('bob', 1)",
        "UPDATE coins SET amount = 9",
        "DELETE FROM coins",
        "CREATE TABLE more (a TEXT)",
        "DROP TABLE coins",
    ],
)
async def test_a_read_cannot_write(store: Store, database: Database, sql: str) -> None:
    await store.write(put("ann"))

    async def work(tx: Tx) -> None:
        await tx.execute(sql)

    with pytest.raises(database.sql_error):
        await store.read(work)
    assert await coins(store) == {"ann": 1}


async def test_an_sql_error_dooms_a_read_too(store: Store, database: Database) -> None:
    async def work(tx: Tx) -> str:
        with suppress(database.sql_error):
            await tx.execute("SELECT nonsense")
        return "as if nothing had happened"

    with pytest.raises(database.sql_error):
        await store.read(work)


async def test_an_error_in_a_read_reaches_the_caller_and_the_next_read_works(store: Store) -> None:
    async def work(tx: Tx) -> None:
        raise NotEnoughError

    with pytest.raises(NotEnoughError):
        await store.read(work)
    assert await coins(store) == {}


# --- changed -------------------------------------------------------------------------------------


async def test_changed_resolves_at_the_next_commit(store: Store) -> None:
    changed = asyncio.ensure_future(store.changed())
    await coins(store)
    assert not changed.done()
    await store.write(put("ann"))
    await changed
    again = asyncio.ensure_future(store.changed())
    await asyncio.sleep(0)
    assert not again.done()
    again.cancel()


async def test_what_was_written_is_there_when_changed_resolves(store: Store) -> None:
    seen: list[dict[str, int]] = []
    looked = asyncio.Event()

    async def watch() -> None:
        while "bob" not in (seen or [{}])[-1]:
            changed = store.changed()
            seen.append(await coins(store))
            looked.set()
            if "bob" not in seen[-1]:
                await changed

    watching = asyncio.create_task(watch())
    await looked.wait()
    await store.write(put("ann"))
    await store.write(put("bob"))
    await watching
    assert seen[0] == {}
    assert seen[-1] == {"ann": 1, "bob": 1}


async def test_a_write_that_is_refused_changes_nothing(store: Store) -> None:
    await store.write(put("ann"))
    changed = asyncio.ensure_future(store.changed())
    with pytest.raises(NotEnoughError):
        await store.write(take("ann", 2))
    await asyncio.sleep(0)
    assert not changed.done()
    changed.cancel()


async def test_who_stops_watching_disturbs_no_other(store: Store) -> None:
    leaves, stays = asyncio.ensure_future(store.changed()), asyncio.ensure_future(store.changed())
    leaves.cancel()
    await asyncio.sleep(0)
    await store.write(put("ann"))
    await stays


# --- close ---------------------------------------------------------------------------------------


async def test_close_finishes_what_is_under_way(database: Database) -> None:
    store = await database.open([COINS])
    writes = [asyncio.create_task(store.write(put(f"{n}"))) for n in range(20)]
    await asyncio.sleep(0)
    await store.close()
    await asyncio.gather(*writes)
    store = await database.open([COINS])
    assert len(await coins(store)) == 20
    await store.close()


async def test_a_closed_store_refuses(database: Database) -> None:
    store = await database.open([COINS])
    await store.close()
    with pytest.raises(StorageError, match="closed"):
        await store.write(put("ann"))
    with pytest.raises(StorageError, match="closed"):
        await coins(store)
    await store.close()  # once more does no harm


async def test_who_writes_while_it_closes_is_in_or_is_refused(database: Database) -> None:
    store = await database.open([COINS])
    writes = [asyncio.create_task(store.write(put("0")))]
    await asyncio.sleep(0)
    closing = asyncio.create_task(store.close())
    while not closing.done():
        writes.append(asyncio.create_task(store.write(put(f"{len(writes)}"))))
        await asyncio.sleep(0)
    ends = await asyncio.gather(*writes, return_exceptions=True)
    store = await database.open([COINS])
    held = await coins(store)
    await store.close()
    for n, end in enumerate(ends):
        assert (f"{n}" in held) is (end is None)
        assert end is None or isinstance(end, StorageError)
