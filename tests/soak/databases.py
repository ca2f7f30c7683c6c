"""Looks into the databases of a running system from outside, with SQL that both engines share."""

from __future__ import annotations

from typing import Any, Final

import apsw
import asyncpg

from tests.e2e.system import System

POSTGRES: Final = "postgres"
#: A server that was killed while it was asked may say nothing at all.
ANSWER_S: Final = 5.0
#: What asyncpg raises of a connection that is lost, the last where it was lost between two queries.
_AWAY: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)


class Away(Exception):
    """The database server does not answer."""


class Databases:
    """Those of a system, on PostgreSQL if it started one. An async context manager."""

    def __init__(self, system: System) -> None:
        self._data = system.data
        self._port = system.config.ports[POSTGRES]
        self._on_postgres = POSTGRES in system.pids
        self._connections: dict[str, asyncpg.Connection] = {}

    async def __aenter__(self) -> Databases:
        return self

    async def __aexit__(self, *_: object) -> None:
        while self._connections:
            self._connections.popitem()[1].terminate()

    async def rows(self, service: str, query: str) -> list[tuple[Any, ...]]:
        """What *query* finds in the database of *service*.

        Raises:
            Away: there is no server; of files, never.
        """
        if not self._on_postgres:
            return self._of_file(service, query)
        try:
            return [tuple(row) for row in await (await self._connected(service)).fetch(query)]
        except _AWAY as error:
            if gone := self._connections.pop(service, None):
                gone.terminate()
            raise Away from error

    async def _connected(self, service: str) -> asyncpg.Connection:
        if service not in self._connections:
            passfile = self._data / POSTGRES / f"{service}.pgpass"
            self._connections[service] = await asyncpg.connect(
                f"postgresql://{service}@127.0.0.1:{self._port}/{service}?passfile={passfile}",
                timeout=ANSWER_S,
                command_timeout=ANSWER_S,
            )
        return self._connections[service]

    def _of_file(self, service: str, query: str) -> list[tuple[Any, ...]]:
        path = str(self._data / f"{service}.db")
        file = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)
        try:
            file.set_busy_timeout(2000)
            return list(file.execute(query).fetchall())
        finally:
            file.close()
