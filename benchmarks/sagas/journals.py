"""Journals in SQLite looked at, and filled, behind the engine's back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import apsw

#: Sagas that are copied in one transaction.
BATCH = 20_000
_UNFINISHED = "state IN (1, 2, 4)"
_COMPLETED = "state = 3"


def unfinished(database: Path) -> int:
    """Return how many sagas are under way; the engine may be at work meanwhile."""
    return _count(database, f"mesh_sagas WHERE {_UNFINISHED}")


def completed(database: Path) -> int:
    """Return how many sagas have made all their steps."""
    return _count(database, f"mesh_sagas WHERE {_COMPLETED}")


def sagas(database: Path) -> int:
    """Return how many sagas there are."""
    return _count(database, "mesh_sagas")


def applied(database: Path) -> int:
    """Return how many calls have taken effect at the durable echo."""
    return _count(database, "mesh_keys")


def _count(database: Path, what: str) -> int:
    connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        connection.set_busy_timeout(5000)
        query = f"SELECT count(*) FROM {what}"
        return int(next(iter(connection.execute(query)))[0])
    finally:
        connection.close()


def multiply(database: Path, number: int, done: Callable[[], None]) -> None:
    """Copy the one saga in *database* until there are *number*; tell *done* after each batch.

    Nobody else may have it open.
    """
    connection = apsw.Connection(str(database))
    for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-500000"):
        connection.execute(f"PRAGMA {pragma}")
    ((template,),) = connection.execute("SELECT saga_id FROM mesh_sagas")
    for start in range(1, number, BATCH):
        connection.execute("BEGIN")
        for table in ("mesh_sagas", "mesh_saga_steps"):
            _copy(connection, table, template, start, min(start + BATCH, number))
        connection.execute("COMMIT")
        done()
    connection.execute("PRAGMA journal_mode=WAL")
    connection.close()


def _copy(connection: apsw.Connection, table: str, saga_id: str, start: int, end: int) -> None:
    """Insert copies *start* to *end* of a saga's rows in *table*: same all, but for its names."""
    names = {
        "saga_id": "printf('%s-%012x', substr(saga_id, 1, 23), n)",
        "key": "printf('%s/%d', key, n)",
    }
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    values = ", ".join(names.get(column, column) for column in columns)
    copies = (
        "WITH RECURSIVE numbers(n) AS"
        " (VALUES (?1) UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < ?2)"
        f" INSERT INTO {table} SELECT {values}"
        f" FROM numbers, (SELECT * FROM {table} WHERE saga_id = ?3)"
    )
    connection.execute(copies, (start, end, saga_id))
