"""Databases of each engine, for tests that must hold on all of them.

A further engine is one more entry in `ENGINES`.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import apsw
import asyncpg
import pytest

from mesh.runtime.clock import Runtime
from mesh.storage.migrate import Migration
from mesh.storage.port import Store
from mesh.storage.postgres.store import PostgresStore
from mesh.storage.sqlite import SqliteStore
from tests.support.postgres import PostgresServer


class Database(Protocol):
    """The databases of one test, by name: each can be opened, closed and opened again."""

    engine: str
    sql_error: type[Exception]

    async def open(
        self, schema: Sequence[Migration], name: str = "test", runtime: Runtime | None = None
    ) -> Store:
        """Open the database called *name*."""
        ...

    async def rows(self, query: str, name: str = "test") -> list[tuple[Any, ...]]:
        """Return what *query* finds in it, past whoever has it open."""
        ...

    async def restore(self, dump: str, name: str = "test") -> None:
        """Make the database called *name* from a dump of SQLite's."""
        ...


class SqliteDatabase:
    """One file a name."""

    engine = "sqlite"
    sql_error: type[Exception] = apsw.Error

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def open(
        self, schema: Sequence[Migration], name: str = "test", runtime: Runtime | None = None
    ) -> Store:
        return SqliteStore(self._folder / f"{name}.db", runtime or Runtime(), schema)

    async def rows(self, query: str, name: str = "test") -> list[tuple[Any, ...]]:
        with closing(apsw.Connection(str(self._folder / f"{name}.db"))) as database:
            return database.execute(query).fetchall()

    async def restore(self, dump: str, name: str = "test") -> None:
        with closing(sqlite3.connect(self._folder / f"{name}.db")) as database:
            database.executescript(dump)


class PostgresDatabase:
    """One database a name, empty when a test begins."""

    engine = "postgres"
    sql_error: type[Exception] = asyncpg.PostgresError

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._urls: dict[str, str] = {}

    async def open(
        self, schema: Sequence[Migration], name: str = "test", runtime: Runtime | None = None
    ) -> Store:
        if name not in self._urls:
            self._urls[name] = await self._server.fresh(name)
        return await PostgresStore.open(self._urls[name], name, runtime or Runtime(), schema)

    async def rows(self, query: str, name: str = "test") -> list[tuple[Any, ...]]:
        return await self._server.rows(name, query)

    async def restore(self, dump: str, name: str = "test") -> None:
        self._urls[name] = await self._server.fresh(name)
        bytes_literals = re.sub(r"\bX'([0-9A-F]*)'", r"'\\x\1'", dump)
        await self._server.run(name, bytes_literals)


ENGINES: Mapping[str, Callable[[pytest.FixtureRequest], Database]] = {
    "sqlite": lambda request: SqliteDatabase(request.getfixturevalue("tmp_path")),
    "postgres": lambda request: PostgresDatabase(request.getfixturevalue("postgres_server")),
}
