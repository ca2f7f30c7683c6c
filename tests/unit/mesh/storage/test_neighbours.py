"""Whoever shares a group with others can do them no harm."""

from __future__ import annotations

import asyncio

import apsw
import pytest

from mesh.storage.port import StorageError, Tx
from mesh.storage.sqlite import SqliteStore

from .disk import Disk
from .works import add, names, outcomes, run

FORBIDDEN = [
    "BEGIN",
    "BEGIN IMMEDIATE",
    "COMMIT",
    "END",
    "ROLLBACK",
    "ROLLBACK TO work",
    "SAVEPOINT work",
    "RELEASE work",
    "PRAGMA foreign_keys=OFF",
    "PRAGMA query_only=OFF",
    "PRAGMA synchronous=OFF",
    "ATTACH ':memory:' AS other",
    "DETACH main",
    "/* by the store */ COMMIT",
    "/* By The Store */ ROLLBACK TO work",
    "SELECT 1; COMMIT",
    "INSERT OR ROLLBACK INTO nodes (name) VALUES ('x')",
    "update or\n rollback nodes SET size = 1",
    "CREATE TABLE t (a TEXT REFERENCES nodes DEFERRABLE INITIALLY DEFERRED)",
]


@pytest.mark.parametrize("sql", FORBIDDEN)
async def test_what_would_reach_beyond_a_transaction_is_refused(
    store: SqliteStore, sql: str
) -> None:
    ends = await outcomes(store, [add("before"), run(sql), add("after")])
    assert isinstance(ends[1], (apsw.AuthError, apsw.SQLError, ValueError))
    assert (ends[0], ends[2]) == ("before", "after")
    assert await names(store) == ["after", "before"]


@pytest.mark.parametrize("sql", FORBIDDEN)
async def test_the_same_on_a_snapshot(store: SqliteStore, sql: str) -> None:
    with pytest.raises((apsw.Error, ValueError)):
        await store.read(run(sql))
    with pytest.raises(apsw.ReadOnlyError):
        await store.read(add("a"))
    assert await store.write(add("b")) == "b"
    assert await names(store) == ["b"]


@pytest.mark.parametrize("sql", ["COMMIT", "ROLLBACK TO work", "SAVEPOINT work", "RELEASE work"])
async def test_the_stores_own_statement_does_not_let_the_same_text_pass(
    store: SqliteStore, sql: str
) -> None:
    for _ in range(3):  # the store itself has run it by now, and the handler again and again
        await store.write(add(f"{sql} {_}"))
        with pytest.raises(apsw.AuthError):
            await store.write(run(sql))


async def test_catching_the_refusal_does_not_help(store: SqliteStore) -> None:
    async def work(tx: Tx) -> None:
        await add("a")(tx)
        try:
            await tx.execute("INSERT OR ROLLBACK INTO nodes (name) VALUES ('a')")
        except ValueError:
            return

    with pytest.raises(ValueError, match="beyond this transaction"):
        await store.write(work)
    assert await names(store) == []


async def test_during_a_commit_a_snapshot_is_guarded_as_ever(
    store: SqliteStore, disk: Disk
) -> None:
    disk.hold()
    first = asyncio.create_task(store.write(add("a")))
    await disk.syncing.wait()
    with pytest.raises(apsw.AuthError):
        await store.read(run("PRAGMA query_only=OFF"))
    disk.release()
    await first


async def test_a_deferred_constraint_fails_only_the_guilty(store: SqliteStore, disk: Disk) -> None:
    works = [add("root"), add("leaf", "root"), add("orphan", "nobody"), add("last", "leaf")]
    ends = await outcomes(store, works)
    assert isinstance(ends[2], apsw.ConstraintError)
    assert [ends[0], ends[1], ends[3]] == ["root", "leaf", "last"]
    assert await names(store) == ["last", "leaf", "root"]
    assert disk.commits == 1 + len(works)


async def test_a_deferred_constraint_on_its_own(store: SqliteStore, disk: Disk) -> None:
    with pytest.raises(apsw.ConstraintError):
        await store.write(add("orphan", "nobody"))
    assert disk.commits == 1
    assert await names(store) == []


async def test_whoever_relied_on_the_guilty_fails_with_it(store: SqliteStore) -> None:
    ends = await outcomes(
        store,
        [add("orphan", "nobody"), add("its child", "orphan"), add("root"), add("leaf", "root")],
    )
    assert [type(end) for end in ends] == [apsw.ConstraintError, apsw.ConstraintError, str, str]
    assert await names(store) == ["leaf", "root"]


async def test_a_work_that_runs_again_may_end_otherwise(store: SqliteStore) -> None:
    async def only_beside_the_orphan(tx: Tx) -> None:
        if not await tx.execute("SELECT 1 FROM nodes WHERE name = 'orphan'"):
            raise LookupError
        await add("friend")(tx)

    ends = await outcomes(store, [add("orphan", "nobody"), only_beside_the_orphan, add("root")])
    assert [type(end) for end in ends] == [apsw.ConstraintError, LookupError, str]
    assert await names(store) == ["root"]


async def test_cancelled_before_it_runs_again_is_dropped(store: SqliteStore, disk: Disk) -> None:
    disk.hold()
    guilty, cancelled, innocent = [
        asyncio.create_task(store.write(work))
        for work in (add("orphan", "nobody"), add("cancelled"), add("root"))
    ]
    await disk.syncing.wait()
    cancelled.cancel()
    await asyncio.sleep(0)
    disk.release()
    await asyncio.gather(guilty, cancelled, innocent, return_exceptions=True)
    assert isinstance(guilty.exception(), apsw.ConstraintError)
    assert cancelled.cancelled()
    assert await names(store) == ["root"]


async def test_what_a_schema_rolls_back_by_itself_is_nobodys_success(store: SqliteStore) -> None:
    await store.write(run("CREATE TABLE t (a TEXT UNIQUE ON CONFLICT ROLLBACK)"))
    ends = await outcomes(store, [add("a"), run(*["INSERT INTO t VALUES ('x')"] * 2), add("b")])
    assert all(isinstance(end, StorageError) for end in ends)
    assert await names(store) == []
    assert await store.write(add("c")) == "c"
