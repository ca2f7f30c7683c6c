"""What every storage engine keeps to: the contract of `mesh.storage.port`."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from mesh.call import NOBODY
from mesh.errors import InvalidArgument
from mesh.storage.migrate import Migration
from mesh.storage.port import ForeignAwaitError, StorageError, Store, Tx, Work
from tests.support.databases import Database

COINS = Migration(
    "0001_coins.sql",
    "CREATE TABLE coins (owner TEXT PRIMARY KEY, amount BIGINT NOT NULL CHECK (amount >= 0))",
)


@pytest.fixture
async def store(database: Database) -> AsyncIterator[Store]:
    store = await database.open([COINS])
    yield store
    await store.close()


def put(owner: str, amount: int = 1) -> Work[None]:
    async def work(tx: Tx) -> None:
        await tx.execute("INSERT INTO coins VALUES ($1, $2)", owner, amount)

    return work


def take(owner: str, amount: int) -> Work[int]:
    """Read, decide, write: what goes wrong where transactions see each other half done."""

    async def work(tx: Tx) -> int:
        ((held,),) = await tx.execute("SELECT amount FROM coins WHERE owner = $1", owner)
        if held < amount:
            raise NotEnoughError(held)
        await tx.execute("UPDATE coins SET amount = $2 WHERE owner = $1", owner, held - amount)
        return int(held - amount)

    return work


class NotEnoughError(Exception):
    """A rule of the domain."""


async def coins(store: Store) -> dict[str, int]:
    async def work(tx: Tx) -> dict[str, int]:
        return dict(await tx.execute("SELECT owner, amount FROM coins ORDER BY owner"))

    return await store.read(work)


# --- writes -------------------------------------------------------------------------------------


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


# --- statements ---------------------------------------------------------------------------------


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


# --- reads --------------------------------------------------------------------------------------


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


# --- awaiting what is not the transaction -------------------------------------------------------

ForeignAwait = Callable[[Store], Awaitable[Any]]


async def sleep_nothing(other: Store) -> None:
    await asyncio.sleep(0)


async def sleep_an_hour(other: Store) -> None:
    await asyncio.sleep(3600)


async def wait_for_an_event(other: Store) -> None:
    await asyncio.Event().wait()


async def gather_two(other: Store) -> None:
    await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0))


async def write_elsewhere(other: Store) -> None:
    await other.write(put("of another store"))


async def translate_it(other: Store) -> None:
    try:
        await asyncio.sleep(0)
    except ForeignAwaitError as error:
        raise NotEnoughError from error


async def swallow_it(other: Store) -> None:
    with suppress(ForeignAwaitError):
        await asyncio.sleep(0)


async def swallow_it_and_await_again(other: Store) -> None:
    for _ in range(3):
        with suppress(BaseException):
            await asyncio.sleep(0)


FOREIGN = [
    sleep_nothing,
    sleep_an_hour,
    wait_for_an_event,
    gather_two,
    write_elsewhere,
    translate_it,
    swallow_it,
    swallow_it_and_await_again,
]


@pytest.mark.parametrize("foreign", FOREIGN)
@pytest.mark.parametrize("kind", ["write", "read"])
async def test_awaiting_anything_else_is_refused_at_once(
    database: Database, store: Store, kind: str, foreign: ForeignAwait
) -> None:
    other = await database.open([COINS], "other")

    async def work(tx: Tx) -> None:
        if kind == "write":
            await put("ann")(tx)
        await foreign(other)

    run = store.write if kind == "write" else store.read
    with pytest.raises(ForeignAwaitError, match="may await only its tx"):
        await run(work)
    assert await coins(store) == {}
    await store.write(put("bob"))
    assert await coins(store) == {"bob": 1}
    await other.close()


async def test_a_foreign_await_harms_no_neighbour(store: Store) -> None:
    async def work(tx: Tx) -> None:
        await put("bob")(tx)
        await asyncio.sleep(0)

    ends = await asyncio.gather(
        store.write(put("ann")), store.write(work), store.write(put("cleo")), return_exceptions=True
    )
    assert [type(end) for end in ends] == [type(None), ForeignAwaitError, type(None)]
    assert await coins(store) == {"ann": 1, "cleo": 1}


# --- callers ------------------------------------------------------------------------------------

caller: contextvars.ContextVar[str] = contextvars.ContextVar("caller", default="nobody")


async def test_a_work_runs_in_its_callers_context(store: Store) -> None:
    async def who(tx: Tx) -> str:
        return caller.get()

    async def ask(name: str) -> tuple[str, str]:
        caller.set(name)
        return await store.write(who), await store.read(who)

    names = ["ann", "bob", "cleo"]
    assert await asyncio.gather(*map(ask, names)) == [(name, name) for name in names]
    assert await store.write(who) == "nobody"


async def test_a_cancelled_write_is_in_as_a_whole_or_not_at_all(store: Store) -> None:
    async def both(tx: Tx) -> None:
        await put("ann")(tx)
        await put("bob")(tx)

    for turns in range(6):
        task = asyncio.create_task(store.write(both))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.write(put(f"after {turns}"))
        held = await coins(store)
        assert ("ann" in held) is ("bob" in held)
        assert f"after {turns}" in held
        if "ann" in held:
            return


async def test_what_was_cancelled_before_it_began_never_runs(store: Store) -> None:
    ran: list[str] = []

    async def work(tx: Tx) -> None:
        ran.append("it ran")

    task = asyncio.create_task(store.write(work))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await store.write(put("ann"))
    assert ran == []


# --- changed ------------------------------------------------------------------------------------


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


# --- close --------------------------------------------------------------------------------------


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
