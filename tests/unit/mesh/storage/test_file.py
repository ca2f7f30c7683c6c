"""The file behind a store: its settings, its failures, and who may have it open."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from unittest.mock import Mock

import apsw
import pytest

from mesh.runtime.clock import Runtime
from mesh.storage import sqlite_file
from mesh.storage.port import NotStoredError, StorageError
from mesh.storage.sqlite import SqliteStore

from .conftest import SCHEMA
from .disk import Disk
from .works import add, names, outcomes, run

# --- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize("connection", ["writer", "reader"])
async def test_durability_and_foreign_keys_are_on(store: SqliteStore, connection: str) -> None:
    guarded = getattr(store._file, connection)
    guarded._controlling = True  # it may ask now
    pragma = guarded._connection.pragma
    assert pragma("journal_mode") == "wal"
    assert pragma("synchronous") == 2  # FULL
    assert pragma("foreign_keys") == 1
    assert pragma("recursive_triggers") == 1
    assert pragma("query_only") == (connection == "reader")


async def test_a_statement_is_planned_once_whatever_it_is_given(store: SqliteStore) -> None:
    guarded = store._file.reader
    for limit in (1, 2):
        planning = Mock(return_value=apsw.SQLITE_OK)
        guarded._connection.authorizer = planning  # makes all be planned anew
        guarded.execute("SELECT size FROM nodes ORDER BY name LIMIT ?1", (limit,))
        planned = planning.call_count
        guarded.execute("SELECT size FROM nodes ORDER BY name LIMIT ?1", (limit + 1,))
        assert planning.call_count == planned > 0


# --- failures -----------------------------------------------------------------------------------

IO_ERROR = apsw.IOError("disk I/O error")


async def test_when_a_commit_fails_the_whole_group_is_unknown(
    store: SqliteStore, disk: Disk
) -> None:
    await store.write(add("before"))
    disk.failures = [(IO_ERROR, False)]
    ends = await outcomes(store, [add("a"), add("b")])
    assert [str(end) for end in ends] == ["nodes.db: disk I/O error"] * 2
    assert all(isinstance(end, StorageError) for end in ends)
    assert await names(store) == ["before"]  # a snapshot works at once
    assert await store.write(add("after")) == "after"
    assert await names(store) == ["after", "before"]


async def test_a_commit_that_fails_may_have_happened(store: SqliteStore, disk: Disk) -> None:
    changed = asyncio.ensure_future(store.changed())
    disk.failures = [(IO_ERROR, True)]
    with pytest.raises(StorageError):
        await store.write(add("a"))
    await changed  # so who watches must look
    assert await names(store) == ["a"]


async def test_whoever_waits_behind_a_failure_hears_of_it(store: SqliteStore, disk: Disk) -> None:
    disk.hold()
    disk.failures = [(IO_ERROR, False)]
    first = asyncio.create_task(store.write(add("first")))
    await disk.syncing.wait()
    queued = asyncio.create_task(store.write(add("queued")))
    await asyncio.sleep(0)
    disk.release()
    ends = await asyncio.gather(first, queued, return_exceptions=True)
    assert [type(end) for end in ends] == [StorageError, NotStoredError]
    assert await store.write(add("after")) == "after"


async def test_who_finds_no_room_is_turned_away_and_nobody_else(store: SqliteStore) -> None:
    await store.write(add("before"))
    store._file.control("PRAGMA max_page_count = 20")
    fill = run(f"INSERT INTO nodes (name) VALUES (printf('%.{1_000_000}c', 'x'))")
    ends = await outcomes(store, [add("a"), fill, add("b")])
    assert ends[::2] == ["a", "b"]
    assert isinstance(ends[1], NotStoredError)
    assert (ends[1].reason, store.failing) == ("STORAGE_FULL", None)
    assert await names(store) == ["a", "b", "before"]


async def test_that_it_fails_is_said_once_and_that_it_works_again(
    store: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mesh")
    store._file.control("PRAGMA max_page_count = 20")
    fill = run(f"INSERT INTO nodes (name) VALUES (printf('%.{1_000_000}c', 'x'))")
    for work in (fill, run("UPDATE nodes SET size = 1 WHERE name = 'nobody'"), fill):
        await outcomes(store, [work])
        assert store.failing
    await store.write(add("a"))
    said = [json.loads(record.message)["event"] for record in caplog.records]
    assert said == ["the database fails", "the database works again"]


async def test_while_another_process_holds_the_database_who_writes_is_turned_away(
    store: SqliteStore, tmp_path: Path
) -> None:
    store._file.writer._connection.set_busy_timeout(1)
    with closing(apsw.Connection(str(tmp_path / "nodes.db"))) as other:
        other.execute("BEGIN IMMEDIATE")
        ends = await outcomes(store, [add("a"), add("b")])
        assert await names(store) == []
    assert all(isinstance(end, NotStoredError) and end.reason == "STORAGE_BUSY" for end in ends)
    assert await store.write(add("after")) == "after"


async def test_a_damaged_page_is_said_to_whom_it_concerns(
    store: SqliteStore, tmp_path: Path
) -> None:
    await store.write(run("CREATE TABLE t (a); INSERT INTO t SELECT printf('%.5000c', 'x')"))
    ((page,),) = store._file.writer.execute("SELECT rootpage FROM sqlite_schema WHERE name = 't'")
    await store.close()
    with (tmp_path / "nodes.db").open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)
    store = SqliteStore(tmp_path / "nodes.db", Runtime())
    ends = await outcomes(store, [add("a"), run("UPDATE t SET a = 1"), add("b")])
    assert ends[::2] == ["a", "b"]
    assert isinstance(ends[1], StorageError)
    assert ends[1].reason == "STORAGE_CORRUPT"
    with pytest.raises(StorageError, match=r"nodes\.db: database disk image is malformed"):
        await store.read(run("SELECT * FROM t"))
    assert await names(store) == ["a", "b"]
    await store.close()


async def test_reads_go_on_while_the_file_cannot_be_opened_again(
    store: SqliteStore, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.write(add("before"))
    disk.failures = [(IO_ERROR, False)]
    with pytest.raises(StorageError):
        await store.write(add("a"))
    with monkeypatch.context() as patch:
        patch.setattr(sqlite_file, "write_anew", Mock(side_effect=IO_ERROR))
        with pytest.raises(NotStoredError):
            await store.write(add("b"))
        assert store.failing
        assert await names(store) == ["before"]
    assert await store.write(add("after")) == "after"
    assert store.failing is None


async def test_the_log_is_kept_short(store: SqliteStore, tmp_path: Path) -> None:
    log = tmp_path / "nodes.db-wal"
    fill = run("UPDATE nodes SET parent = NULL, name = printf('%.2000000c', 'x')")
    await store.write(add("a"))
    with closing(apsw.Connection(str(tmp_path / "nodes.db"))) as other:
        other.execute("BEGIN; SELECT * FROM nodes")  # as a backup does
        for _ in range(9):
            await store.write(fill)
        assert log.stat().st_size > sqlite_file.LOG_LIMIT_BYTES
    for _ in range(3):
        await store.write(fill)
    assert log.stat().st_size <= sqlite_file.LOG_LIMIT_BYTES


async def test_a_failure_while_the_guilty_is_looked_for_reaches_all_who_are_left(
    store: SqliteStore, disk: Disk
) -> None:
    disk.failures = [(apsw.ConstraintError("deferred"), False), (IO_ERROR, False)]
    ends = await asyncio.wait_for(outcomes(store, [add("a"), add("b"), add("c")]), timeout=30)
    assert [type(end) for end in ends] == [StorageError, NotStoredError, NotStoredError]
    assert await store.write(add("after")) == "after"


async def test_whatever_fails_nobody_waits_for_ever(store: SqliteStore, disk: Disk) -> None:
    disk.failures = [(RuntimeError("cannot schedule new futures after shutdown"), False)]
    with pytest.raises(StorageError, match="after shutdown"):
        await asyncio.wait_for(store.write(add("a")), timeout=30)
    assert await names(store) == []


# --- opening ------------------------------------------------------------------------------------


def test_the_folders_of_a_new_database_are_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []

    def fsync(file: int) -> None:
        synced.append(Path(f"/proc/self/fd/{file}").resolve())

    monkeypatch.setattr(os, "fsync", fsync)
    SqliteStore(tmp_path / "a" / "b" / "nodes.db", Runtime()).abandon()
    assert synced == [tmp_path, tmp_path / "a"]
    SqliteStore(tmp_path / "a" / "b" / "nodes.db", Runtime()).abandon()
    assert synced == [tmp_path, tmp_path / "a"]


async def test_a_second_store_on_the_file_is_refused(store: SqliteStore, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"nodes\.db: another process has this database open"):
        SqliteStore(tmp_path / "nodes.db", Runtime())
    assert await store.write(add("a")) == "a"


OPEN = """
import sys
from pathlib import Path
from mesh.runtime.clock import Runtime
from mesh.storage.sqlite import SqliteStore
SqliteStore(Path(sys.argv[1]), Runtime())
print("opened")
"""


def open_elsewhere(path: Path) -> subprocess.CompletedProcess[str]:
    """Open the store in another process."""
    return subprocess.run(
        [sys.executable, "-c", OPEN, path], capture_output=True, text=True, check=False, timeout=60
    )


async def test_a_second_process_on_the_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "nodes.db"
    store = SqliteStore(path, Runtime(), [SCHEMA])
    refused = open_elsewhere(path)
    assert refused.returncode == 1
    assert "another process has this database open" in refused.stderr
    await store.close()
    assert open_elsewhere(path).stdout == "opened\n"


async def test_a_log_without_its_database_is_nothing(store: SqliteStore, tmp_path: Path) -> None:
    await store.write(add("a"))
    store.abandon()
    (tmp_path / "nodes.db").unlink()
    again = SqliteStore(tmp_path / "nodes.db", Runtime(), [SCHEMA])
    assert await names(again) == []
    await again.close()


async def test_a_closed_store_lets_go_of_the_file(tmp_path: Path) -> None:
    for _ in range(2):
        store = SqliteStore(tmp_path / "nodes.db", Runtime(), [SCHEMA])
        await store.close()


def test_what_is_no_database_is_refused_and_let_go(tmp_path: Path) -> None:
    path = tmp_path / "nodes.db"
    path.write_bytes(b"something else entirely, " * 100)
    for _ in range(2):
        with pytest.raises(StorageError, match=r"nodes\.db: .*not a database"):
            SqliteStore(path, Runtime())


WRITE_FOR_EVER = """
import asyncio, sys
from pathlib import Path
from mesh.runtime.clock import Runtime
from mesh.storage.migrate import Migration
from mesh.storage.sqlite import SqliteStore

async def main():
    schema = Migration("0001.sql", "CREATE TABLE nodes (name TEXT)")
    store = SqliteStore(Path(sys.argv[1]), Runtime(), [schema])
    async def write_for_ever(worker):
        n = 0
        while True:
            name = f"{worker}/{n}"
            async def work(tx):
                await tx.execute("INSERT INTO nodes VALUES ($1)", name)
            await store.write(work)
            print(name, flush=True)
            n += 1
    await asyncio.gather(*map(write_for_ever, range(8)))

asyncio.run(main())
"""


def write_until_killed(path: Path) -> set[str]:
    """Kill a process in the middle of its writes; return those that it was told are in."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITE_FOR_EVER, path], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        answered = {process.stdout.readline().strip() for _ in range(100)}
        process.kill()
        answered |= {line.strip() for line in process.stdout if line.endswith("\n")}
    assert process.returncode == -signal.SIGKILL
    return answered


async def test_what_was_answered_before_a_kill_is_in(tmp_path: Path) -> None:
    path = tmp_path / "nodes.db"
    answered = write_until_killed(path)
    store = SqliteStore(path, Runtime())
    assert len(answered) >= 100
    assert answered <= set(await names(store))
    await store.close()
