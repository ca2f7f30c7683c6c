"""A small database under load, and what must be true of it whenever its power failed.

Workers book entries, many at a time so that they share COMMITs. An entry is a few rows and a total,
in one transaction; its number follows the last one of its worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

import apsw

from mesh.runtime.clock import Runtime
from mesh.storage.migrate import Migration
from mesh.storage.port import NotStoredError, StorageError, Tx, Work
from mesh.storage.sqlite import SqliteStore
from mesh.testing.loop import VirtualClock

NAME: Final = "ledger.db"
WORKERS: Final = 8
#: Small, so that the files are written at other places than their ends all the time.
CHECKPOINT_PAGES: Final = 24
SCHEMA: Final = [
    Migration(
        "0001_totals.sql",
        "CREATE TABLE totals"
        " (worker BIGINT PRIMARY KEY, rows BIGINT NOT NULL, sum BIGINT NOT NULL)",
    ),
    Migration(
        "0002_rows.sql",
        "CREATE TABLE rows (worker BIGINT NOT NULL REFERENCES totals (worker),"
        " number BIGINT NOT NULL, part BIGINT NOT NULL, entry BIGINT NOT NULL,"
        " note TEXT NOT NULL, PRIMARY KEY (worker, number, part));"
        "CREATE INDEX rows_by_entry ON rows (entry)",
    ),
]


async def _inline(function: Callable[[], Any]) -> Any:
    return function()


def open_store(folder: Path, random: Random) -> SqliteStore:
    """Open the database; everything it does follows from *random*."""
    return SqliteStore(folder / NAME, Runtime(VirtualClock(), random, _inline), SCHEMA)


@dataclass
class Booked:
    """What the workers were told of their entries, by the entries' ids.

    `acknowledged`: it is in; how long the disk's log was when they heard. `refused`: it is not.
    """

    position: Callable[[], int]
    acknowledged: dict[int, int] = field(default_factory=dict)
    refused: set[int] = field(default_factory=set)

    async def book(self, store: SqliteStore, entries: int, random: Random) -> None:
        """Let every worker book so many entries, one after the other."""
        workers = [self._work(store, worker, entries, random) for worker in range(WORKERS)]
        await asyncio.gather(*workers)

    async def _work(self, store: SqliteStore, worker: int, entries: int, random: Random) -> None:
        for _ in range(entries):
            await self._book(store, entry(worker, random))
            await asyncio.sleep(random.random())

    async def _book(self, store: SqliteStore, new: Booking) -> None:
        try:
            await store.write(new.work)
        except (NotStoredError, ArithmeticError):
            self.refused.add(new.id)
        except StorageError:
            pass  # it may be in
        else:
            self.acknowledged[new.id] = self.position()

    def until(self, at: int) -> set[int]:
        """What had been acknowledged when the log was *at* long."""
        return {id_ for id_, position in self.acknowledged.items() if position <= at}


def inspect(folder: Path) -> tuple[set[int], list[str]]:
    """Open the database as it was found; return its entries, and what is wrong with it."""
    try:
        with closing(apsw.Connection(str(folder / NAME))) as database:
            faults = [*_faults(database)]
            if faults or not _has_rows(database):
                return set(), faults
            rows: Any = database.execute("SELECT DISTINCT entry FROM rows").fetchall()
            return {id_ for (id_,) in rows}, faults
    except apsw.Error as error:
        return set(), [str(error)]


@dataclass(frozen=True)
class Booking:
    """An entry to be booked."""

    id: int
    work: Work[None]


def entry(worker: int, random: Random) -> Booking:
    """The worker's next entry; one in eight is refused in the end."""
    id_ = random.getrandbits(40)
    refused = random.random() < 0.125
    notes = ["x" * random.choice((10, 200, 6000)) for _ in range(random.randrange(1, 6))]

    async def work(tx: Tx) -> None:
        await tx.execute(
            "INSERT INTO totals VALUES ($1, 0, 0) ON CONFLICT (worker) DO NOTHING", worker
        )
        ((number,),) = await tx.execute(
            "SELECT COALESCE(MAX(number), 0) + 1 FROM rows WHERE worker = $1", worker
        )
        for part, note in enumerate(notes):
            await tx.execute(
                "INSERT INTO rows VALUES ($1, $2, $3, $4, $5)", worker, number, part, id_, note
            )
        await tx.execute(
            "UPDATE totals SET rows = rows + $2, sum = sum + $3 WHERE worker = $1",
            worker,
            len(notes),
            id_ * len(notes),
        )
        if refused:
            raise ArithmeticError

    return Booking(id_, work)


def _has_rows(database: apsw.Connection) -> bool:
    return bool(database.execute("SELECT 1 FROM sqlite_schema WHERE name = 'rows'").get)


def _faults(database: apsw.Connection) -> Iterator[str]:
    """What can never be right."""
    checked = database.pragma("integrity_check")
    if checked != "ok":
        yield f"integrity_check: {checked}"
        return
    if not _has_rows(database):
        return
    broken = database.execute("PRAGMA foreign_key_check").fetchall()
    yield from (f"no such parent: {row}" for row in broken)
    partial = database.execute(
        "SELECT worker, rows, sum, (SELECT COUNT(*) FROM rows r WHERE r.worker = t.worker),"
        " (SELECT COALESCE(SUM(entry), 0) FROM rows r WHERE r.worker = t.worker) FROM totals t"
    ).fetchall()
    yield from (f"in part: {row}" for row in partial if row[1:3] != row[3:5])
    gaps = database.execute(
        "SELECT worker, COUNT(DISTINCT number), MAX(number) FROM rows GROUP BY worker"
    ).fetchall()
    yield from (f"gap: {row}" for row in gaps if row[1] != row[2])
