"""PostgreSQL as it fails: connections, servers, locks. What was answered is in; nothing hangs."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from itertools import count

import asyncpg
import pytest

from mesh.runtime.clock import Runtime
from mesh.storage.port import NotStoredError, StorageError, Tx, Work
from mesh.storage.postgres import database, group, watch
from mesh.storage.postgres.store import PostgresStore
from tests.contract.postgres_nodes import add, failing, names, open_store
from tests.support.cut import cutting
from tests.support.postgres import PostgresServer, postgres
from tests.support.waiting import until

PATIENCE_S = 30.0


@pytest.fixture
async def url(postgres_server: PostgresServer) -> str:
    return await postgres_server.fresh("failures")


@pytest.fixture
async def store(url: str) -> AsyncIterator[PostgresStore]:
    store = await open_store(url)
    yield store
    await store.close()


# --- connections --------------------------------------------------------------------------------


@pytest.mark.parametrize("heeded", [True, False])
async def test_what_is_lost_before_its_commit_runs_again(
    store: PostgresStore, heeded: bool
) -> None:
    tries = count(1)

    async def work(tx: Tx) -> int:
        number = next(tries)
        await add(f"try {number}")(tx)
        if number == 1:
            with suppress(*(() if heeded else (Exception,))):
                await tx.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return number

    assert [*await asyncio.gather(store.write(add("a")), store.write(work))] == ["a", 2]
    assert await names(store) == ["a", "try 2"]


async def test_a_read_that_is_lost_is_read_again(store: PostgresStore) -> None:
    tries = count(1)

    async def work(tx: Tx) -> int:
        if (number := next(tries)) == 1:
            await tx.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return number

    assert await store.read(work) == 2


async def test_a_commit_that_is_not_answered_is_unknown(store: PostgresStore) -> None:
    with pytest.raises(StorageError) as caught:
        await store.write(add("dies at COMMIT"))
    assert not isinstance(caught.value, NotStoredError)
    assert failing(store) is caught.value
    await store.write(add("next"))
    assert failing(store) is None
    assert await names(store) == ["next"]


async def test_an_unknown_commit_may_be_in(url: str, postgres_server: PostgresServer) -> None:
    async with cutting(postgres_server.port) as cut:
        store = await open_store(url.replace(f":{postgres_server.port}/", f":{cut.port}/"))
        await store.write(add("a"))
        cut.word = b"COMMIT"
        with pytest.raises(StorageError) as caught:
            await store.write(add("b"))
        assert not isinstance(caught.value, NotStoredError)
        assert await names(store) == ["a", "b"]
        await store.close()


async def test_a_server_that_falls_silent_is_given_up(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "COMMAND_TIMEOUT_S", 0.5)
    store = await open_store(url)
    frozen: list[int] = []

    async def work(tx: Tx) -> str:
        if not frozen:
            ((pid,),) = await tx.execute("SELECT pg_backend_pid()")
            frozen.append(pid)
            os.kill(pid, signal.SIGSTOP)
        return await add("a")(tx)

    try:
        assert await store.write(work) == "a"
    finally:
        os.kill(frozen[0], signal.SIGCONT)
    assert await names(store) == ["a"]
    await store.close()


async def test_a_schema_that_another_process_changes_harms_nobody(
    store: PostgresStore, postgres_server: PostgresServer
) -> None:
    async def everything(tx: Tx) -> list[tuple[object, ...]]:
        return [tuple(row) for row in await tx.execute("SELECT * FROM nodes")]

    await store.write(add("a"))
    for number in range(2):
        for run in (store.write, store.read):
            for _ in range(8):  # on each connection there is
                assert await run(everything) == [("a", None) + (None,) * number]
        await postgres_server.run("failures", f"ALTER TABLE nodes ADD COLUMN more{number} TEXT")


# --- the server ---------------------------------------------------------------------------------


async def test_a_server_killed_under_load_loses_nothing_that_was_answered() -> None:
    with postgres() as server:
        url = await server.fresh("failures")
        store = await open_store(url)
        answered: set[str] = set()
        asked = count()

        async def writer() -> None:
            while len(answered) < 600:
                name = f"{next(asked):06}"
                with suppress(StorageError):
                    answered.add(await store.write(add(name)))

        writers = [asyncio.create_task(writer()) for _ in range(20)]
        for goal in (150, 300, 450):
            await until(lambda goal=goal: len(answered) >= goal)  # type: ignore[misc]
            server.process.kill()
            server.process.wait()
            server.start()
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*writers)
        held = set(await names(store))
        assert answered <= held
        assert len(held - answered) <= 3 * 20  # what was unknown
        await store.close()


async def test_while_there_is_no_server_nothing_is_stored_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(database, "PATIENCE_S", 0.2)
    with postgres() as server:
        store = await open_store(await server.fresh("failures"))
        changed = asyncio.ensure_future(store.changed())
        await store.write(add("before"))
        server.stop()
        ends = await asyncio.gather(
            *(store.write(add(f"{n}")) for n in range(20)), names(store), return_exceptions=True
        )
        assert {type(end) for end in ends} == {NotStoredError}
        assert "failures: PostgreSQL at 127.0.0.1" in str(ends[0])
        assert isinstance(failing(store), NotStoredError)
        server.start()
        async with asyncio.timeout(PATIENCE_S):
            await changed
            await store.write(add("after"))
        assert failing(store) is None
        assert await names(store) == ["after", "before"]
        await store.close()


# --- locks and constraints ----------------------------------------------------------------------


async def test_a_row_that_somebody_holds_is_waited_for(store: PostgresStore, url: str) -> None:
    await store.write(add("a"))
    other = await asyncpg.connect(url)
    holding = other.transaction()
    await holding.start()
    await other.execute("UPDATE nodes SET parent = 'a' WHERE name = 'a'")
    write = asyncio.create_task(store.write(rename("a", "b")))
    await asyncio.sleep(0.05)
    await holding.rollback()
    await write
    assert await names(store) == ["b"]
    await other.close()


async def test_a_row_that_is_held_for_ever_is_not_waited_for_as_long(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(database.SESSION, "lock_timeout", "20ms")
    monkeypatch.setattr(group, "TRIES_MAX", 3)
    store = await open_store(url)
    await store.write(add("a"))
    other = await asyncpg.connect(url)
    async with other.transaction():
        await other.execute("UPDATE nodes SET parent = NULL WHERE name = 'a'")
        with pytest.raises(NotStoredError, match="given up after 3 times") as caught:
            await store.write(rename("a", "b"))
    assert caught.value.reason == "STORAGE_BUSY"
    await store.write(rename("a", "c"))
    assert await names(store) == ["c"]
    await other.close()
    await store.close()


async def test_two_who_wait_for_one_another_both_get_in(store: PostgresStore, url: str) -> None:
    other = await open_store(url)
    await store.write(add("a"))
    await store.write(add("b"))

    def touch(*names: str) -> Work[None]:
        async def work(tx: Tx) -> None:
            for name in names:
                await tx.execute("UPDATE nodes SET parent = name WHERE name = $1", name)
                await tx.execute("SELECT pg_sleep(0.05)::text")

        return work

    await asyncio.gather(store.write(touch("a", "b")), other.write(touch("b", "a")))
    await other.close()


async def test_a_deferred_constraint_fails_only_the_guilty(store: PostgresStore) -> None:
    works = [add("a"), add("orphan", "nobody"), add("b"), add("c"), add("other", "nobody")]
    ends = await asyncio.gather(*map(store.write, works), return_exceptions=True)
    guilty = [isinstance(end, asyncpg.ForeignKeyViolationError) for end in ends]
    assert guilty == [False, True, False, False, True]
    assert await names(store) == ["a", "b", "c"]


async def test_a_statement_that_takes_too_long_is_not_stored_and_its_neighbours_are(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(database.SESSION, "statement_timeout", "50ms")
    store = await open_store(url)

    async def work(tx: Tx) -> None:
        await tx.execute("SELECT pg_sleep(5)::text")

    ends = await asyncio.gather(store.write(add("a")), store.write(work), return_exceptions=True)
    assert ends[0] == "a"
    assert isinstance(ends[1], NotStoredError)
    assert "statement timeout" in str(ends[1])
    with pytest.raises(NotStoredError, match="statement timeout"):
        await store.read(work)
    assert await names(store) == ["a"]
    await store.close()


def rename(name: str, to: str) -> Work[None]:
    async def work(tx: Tx) -> None:
        await tx.execute("UPDATE nodes SET name = $2 WHERE name = $1", name, to)

    return work


# --- hearing of commits, and the time -----------------------------------------------------------


async def test_a_commit_of_another_process_is_heard_of(store: PostgresStore, url: str) -> None:
    other = await open_store(url)
    for number in range(3):
        changed = asyncio.ensure_future(other.changed())
        async with asyncio.timeout(watch.BEAT_S / 2):
            await store.write(add(f"{number}"))
            await changed
    await other.close()


async def test_the_last_commit_before_closing_is_heard_of_too(
    store: PostgresStore, url: str
) -> None:
    other = await open_store(url)
    changed = asyncio.ensure_future(store.changed())
    await other.write(add("a"))
    await other.close()
    async with asyncio.timeout(watch.BEAT_S / 2):
        await changed


async def test_what_nobody_was_told_is_found_at_the_next_beat(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "BEAT_S", 0.2)
    store = await open_store(url)
    changed = asyncio.ensure_future(store.changed())
    async with asyncio.timeout(PATIENCE_S):
        await changed
    await store.close()


async def test_a_listener_that_is_lost_comes_back(
    url: str, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "BEAT_S", 1000.0)  # nothing but listening helps
    store, other = await open_store(url), await open_store(url)
    await postgres_server.rows(
        "failures",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'mesh failures'",
    )
    numbers = count()
    heard = 0
    async with asyncio.timeout(PATIENCE_S):
        while heard < 3:  # what resolves first may be the reconnection itself
            changed = asyncio.ensure_future(other.changed())
            await store.write(add(f"{next(numbers)}"))
            with suppress(TimeoutError):
                await asyncio.wait_for(changed, 0.2)
                heard += 1
    await other.close()
    await store.close()


async def test_the_time_is_the_servers(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_TIME", watch._TIME + " + 3600")
    store = await open_store(url)

    async def now(tx: Tx) -> float:
        assert tx.now() == tx.now()
        return tx.now()

    for run in (store.write, store.read):
        ahead_s = await run(now) - Runtime().clock.wall()
        assert 3600 - 10 < ahead_s < 3600 + 10
    await store.close()
