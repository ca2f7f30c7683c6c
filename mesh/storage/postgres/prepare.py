"""What is checked and brought up to date when a process opens its database."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from ...runtime.logs import log
from ..migrate import SEEN, TABLES, Migration, pending
from ..port import StorageError
from .database import Connection

#: Replicas that start together migrate one after the other: whoever has this lock ("mesh").
_LOCK = 0x6D657368
_OWNER_TABLE = "CREATE TABLE IF NOT EXISTS mesh_owner (service TEXT PRIMARY KEY)"


async def prepare(connection: Connection, name: str, schema: Sequence[Migration]) -> None:
    """Check the database, and apply the migrations that it has not seen.

    Raises:
        StorageError: it is not as it must be, or a migration fails; nothing of that one is in.
    """
    await connection.execute("SET statement_timeout = 0; SET lock_timeout = '5min'")
    await _check(connection)
    await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
    try:
        await _claim(connection, name)
        await _migrate(connection, schema)
    finally:
        await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK)
    await connection.execute("RESET statement_timeout; RESET lock_timeout")


async def _check(connection: Connection) -> None:
    encoding, by_bytes, fsync = await connection.fetchrow(
        "SELECT current_setting('server_encoding'), 'B' < 'a', current_setting('fsync')"
    )
    if encoding != "UTF8" or not by_bytes:
        raise StorageError(
            "texts must be UTF-8 and sorted by their bytes, as in SQLite: create the database"
            " with TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'"
        )
    if fsync == "off":
        log.warning("fsync is off: a power cut loses what was answered, or the whole database")
    if await connection.fetchval("SHOW synchronous_commit") == "off":
        raise StorageError("synchronous_commit is off: what is answered must be durable")


async def _claim(connection: Connection, name: str) -> None:
    """See to it that no two services share the database."""
    await connection.execute(_OWNER_TABLE)
    owner = await connection.fetchval("SELECT service FROM mesh_owner")
    if owner is None:
        await connection.execute("INSERT INTO mesh_owner VALUES ($1)", name)
    elif owner != name:
        raise StorageError(f"this is the database of {owner}; each service has one of its own")


async def _migrate(connection: Connection, schema: Sequence[Migration]) -> None:
    for table in TABLES:
        await connection.execute(table)
    seen = {row["name"]: row["sha256"] for row in await connection.fetch(SEEN)}
    for step in pending(schema, "postgres", seen):
        try:
            async with connection.transaction():
                if step.script:
                    await connection.execute(step.script)
                for note, params in step.notes:
                    await connection.execute(note, *params)
        except asyncpg.PostgresError as error:
            raise StorageError(f"{step.name}: {error}") from error
