"""What every storage engine keeps to, the contract of `mesh.storage.port`: works and who calls."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from mesh.storage.port import ForeignAwaitError, Store, Tx
from tests.support.coins import COINS, NotEnoughError, coins, put
from tests.support.databases import Database

# --- awaiting what is not the transaction --------------------------------------------------------


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


# --- callers -------------------------------------------------------------------------------------


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
