"""The connections of one process to one database: made when needed, kept, and never too many."""

from __future__ import annotations

import asyncio

from .database import Connection, Database


class Pool:
    """At most *size* connections; who wants one more waits."""

    def __init__(self, database: Database, size: int) -> None:
        self._database = database
        self._idle: list[Connection] = []
        self._free = asyncio.Semaphore(size)

    async def take(self) -> Connection:
        """Return a connection, to be given back.

        Raises:
            StorageError: none can be made.
        """
        await self._free.acquire()
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        try:
            return await self._database.connect()
        except BaseException:
            self._free.release()
            raise

    def give(self, connection: Connection) -> None:
        """Take *connection* back; one with a transaction open, for whatever reason, is dropped."""
        if not connection.is_closed() and connection.is_in_transaction():
            connection.terminate()
        if not connection.is_closed():
            self._idle.append(connection)
        self._free.release()

    async def close(self) -> None:
        """Close all that were given back."""
        idle, self._idle = self._idle, []
        await asyncio.gather(*(connection.close(timeout=1) for connection in idle))
