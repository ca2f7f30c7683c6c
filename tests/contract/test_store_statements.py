"""What every storage engine keeps to, the contract of `mesh.storage.port`: statements."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from mesh.errors import InvalidArgument
from mesh.storage.port import ForeignAwaitError, Store, Tx
from tests.support.coins import coins, put
from tests.support.databases import Database


async def test_parameters_are_bound_by_their_number(store: Store) -> None:
    async def work(tx: Tx) -> None:
        await tx.execute("INSERT INTO coins (amount, owner) VALUES ($2, $1)", "ann", 7)
        await tx.execute("UPDATE coins SET amount = amount * $2 + $1 WHERE owner = $3", 6, 3, "ann")

    await store.write(work)
    assert await coins(store) == {"ann": 27}


async def test_more_than_nine_parameters(store: Store) -> None:
    async def work(tx: Tx) -> list[Any]:
        columns = ", ".join(f"CAST(${n} AS BIGINT)" for n in (10, 1, 2, 3, 4, 5, 6, 7, 8, 9))
        return await tx.execute(f"SELECT {columns}", *range(1, 11))

    assert [tuple(row) for row in await store.read(work)] == [(10, 1, 2, 3, 4, 5, 6, 7, 8, 9)]


async def test_a_dollar_in_a_literal_is_text(store: Store) -> None:
    async def work(tx: Tx) -> list[Any]:
        await tx.execute("INSERT INTO coins VALUES ('it''s $1 of ' || $1, 1)", "ann")
        return await tx.execute('SELECT owner AS "in $1" FROM coins')

    assert [tuple(row) for row in await store.write(work)] == [("it's $1 of ann",)]


async def test_values_come_back_as_they_were(store: Store) -> None:
    async def work(tx: Tx) -> list[Any]:
        await tx.execute("CREATE TABLE kept (a TEXT, b BIGINT, c DOUBLE PRECISION, d BYTEA)")
        await tx.execute("INSERT INTO kept VALUES ($1, $2, $3, $4)", "é\n", 2**62, 0.1, b"\0\xff")
        await tx.execute("INSERT INTO kept VALUES ($1, $2, $3, $4)", None, None, None, None)
        return await tx.execute("SELECT a, b, c, d FROM kept ORDER BY a IS NULL")

    rows = [tuple(row) for row in await store.write(work)]
    assert rows == [("é\n", 2**62, 0.1, b"\0\xff"), (None, None, None, None)]


async def test_an_sql_error_dooms_the_transaction(store: Store, database: Database) -> None:
    async def work(tx: Tx) -> str:
        await put("ann")(tx)
        with suppress(database.sql_error):
            await tx.execute("INSERT INTO coins VALUES ('bob', -1)")
        return "as if nothing had happened"

    with pytest.raises(database.sql_error):
        await store.write(work)
    assert await coins(store) == {}


async def test_a_doomed_transaction_runs_nothing_more(store: Store, database: Database) -> None:
    later: list[str] = []

    async def work(tx: Tx) -> None:
        with suppress(database.sql_error):
            await tx.execute("SELECT nonsense")
        await tx.rollback()
        with suppress(database.sql_error):
            await tx.execute("SELECT 1")
            later.append("it ran")

    with pytest.raises(database.sql_error):
        await store.write(work)
    assert later == []


BEYOND = [
    "COMMIT",
    "/* now */ rollback",
    "BEGIN",
    "SAVEPOINT one",
    "RELEASE work",
    "SELECT 1; COMMIT",
]


@pytest.mark.parametrize("sql", BEYOND)
async def test_what_would_reach_beyond_the_transaction_is_refused(
    store: Store, database: Database, sql: str
) -> None:
    async def work(tx: Tx) -> None:
        await put("ann")(tx)
        with suppress(Exception):
            await tx.execute(sql)

    for _ in range(2):  # no cache helps it past
        with pytest.raises((database.sql_error, ValueError)):
            await store.write(work)
        with pytest.raises((database.sql_error, ValueError)):
            await store.read(lambda tx: tx.execute(sql))
    await store.write(put("bob"))
    assert await coins(store) == {"bob": 1}


async def test_a_text_with_a_nul_is_refused_and_the_work_may_go_on(store: Store) -> None:
    async def work(tx: Tx) -> str:
        try:
            await put("a\0b")(tx)
        except InvalidArgument as refused:
            await put("ann")(tx)
            return refused.reason
        return "kept"

    assert await store.write(work) == "NUL_IN_TEXT"
    assert await coins(store) == {"ann": 1}


async def test_a_rollback_on_a_snapshot_changes_nothing(store: Store) -> None:
    async def work(tx: Tx) -> list[Any]:
        await tx.rollback()
        return await tx.execute("SELECT COUNT(*) FROM coins")

    assert [tuple(row) for row in await store.read(work)] == [(0,)]


async def test_two_statements_at_once_are_refused(store: Store) -> None:
    async def work(tx: Tx) -> None:
        await asyncio.gather(put("ann")(tx), put("bob")(tx))

    with pytest.raises(ForeignAwaitError):
        await store.write(work)
    await asyncio.sleep(0)
    assert await coins(store) == {}


async def test_a_transaction_that_is_over_runs_nothing_more(store: Store) -> None:
    kept: list[Tx] = []

    async def work(tx: Tx) -> None:
        kept.append(tx)

    for run in (store.write, store.read):
        await run(work)
        with pytest.raises(RuntimeError, match="is over"):
            await put("ann")(kept.pop())
    assert await coins(store) == {}
