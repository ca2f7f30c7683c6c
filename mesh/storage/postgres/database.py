"""A PostgreSQL database: how to reach it, how sessions are set up, and what its errors mean."""

from __future__ import annotations

import ssl
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import asyncpg

from ...layers.backoff import Backoff
from ...runtime.clock import Runtime
from ..port import NotStoredError

#: How long a connection that cannot be made is tried again.
PATIENCE_S = 5.0
CONNECT_TIMEOUT_S = 5.0
#: A statement without an answer for so long has lost its server; that of the server is shorter.
COMMAND_TIMEOUT_S = 20.0
RECONNECT = Backoff(base_s=0.05, max_s=1.0)
STATEMENTS_CACHED = 500

#: What every session is set to, whatever the server's or the role's defaults are.
SESSION = {
    "statement_timeout": "15s",
    # Shorter than the server looks for deadlocks: whoever waits this long gives way and runs again.
    "lock_timeout": "500ms",
    # A process that froze within a transaction holds its locks for so long.
    "idle_in_transaction_session_timeout": "15s",
    # A sequential scan is a read of every row there is, and conflicts with every write.
    "enable_seqscan": "off",
    "jit": "off",
}


class Connection(Protocol):
    """What we use of `asyncpg.Connection`, which has no types of its own."""

    async def fetch(self, query: str, *args: Any) -> list[Any]: ...  # noqa: D102
    async def fetchrow(self, query: str, *args: Any) -> Any: ...  # noqa: D102
    async def fetchval(self, query: str, *args: Any) -> Any: ...  # noqa: D102
    async def execute(self, query: str, *args: Any) -> str: ...  # noqa: D102
    async def add_listener(self, channel: str, callback: Any) -> None: ...  # noqa: D102
    async def close(self, *, timeout: float) -> None: ...  # noqa: D102, ASYNC109
    def add_termination_listener(self, callback: Any) -> None: ...  # noqa: D102
    def transaction(self) -> AbstractAsyncContextManager[Any]: ...  # noqa: D102
    def terminate(self) -> None: ...  # noqa: D102
    def is_closed(self) -> bool: ...  # noqa: D102
    def is_in_transaction(self) -> bool: ...  # noqa: D102
    def get_server_pid(self) -> int: ...  # noqa: D102


#: The transaction cannot go on as things are; run again, it may.
CONFLICTS = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
    asyncpg.InvalidCachedStatementError,  # another process has migrated the schema
    asyncpg.OutdatedSchemaCacheError,
)
_LOST = (
    OSError,  # timeouts too
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.IdleSessionTimeoutError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InternalClientError,
)
#: The server is in trouble, such as a full disk, or too slow. Later it may be better.
_TROUBLES = (
    asyncpg.QueryCanceledError,  # at the statement's timeout, or by an operator
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,
    asyncpg.InternalServerError,
)
_UNREADABLE = (asyncpg.ClientConfigurationError, ValueError)
_URL_FORM = "postgresql://ROLE:PASSWORD@HOST:PORT/DATABASE, with %XX for special characters"
_NEVER = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
    ssl.SSLError,
)


def is_trouble(error: BaseException) -> bool:
    """Whether *error* may be the server's, whatever the statement was."""
    return isinstance(error, _TROUBLES)


def is_lost(connection: Connection, error: BaseException) -> bool:
    """Whether *error* means that *connection* is of no more use."""
    if isinstance(error, CONFLICTS):
        return False
    return isinstance(error, _LOST) or connection.is_closed()


def not_stored(error: BaseException, prefix: str = "") -> NotStoredError:
    """Return what is told to those of whose work nothing is in."""
    if isinstance(error, NotStoredError):
        return error
    full = isinstance(error, asyncpg.DiskFullError)
    reason = "STORAGE_BUSY" if isinstance(error, CONFLICTS) else "STORAGE_FAILED"
    return NotStoredError(prefix + describe(error), "STORAGE_FULL" if full else reason)


def describe(error: BaseException) -> str:
    """Return what *error* says, or is called."""
    return str(error) or type(error).__name__


class Database:
    """One service's database.

    Args:
        url: as libpq reads it; may hold a password, which is never shown.
        name: the service's, for errors and for the server's own views.
    """

    def __init__(self, url: str, name: str, runtime: Runtime) -> None:
        # What is behind the last @, so that no part of a password is shown, however it is written.
        address = url.rpartition("://")[2].rpartition("@")[2].partition("?")[0]
        self.where = f"{name}: PostgreSQL at {address}"
        self._url = url
        self._name = name
        self._runtime = runtime

    async def connect(self, patience_s: float | None = None) -> Connection:
        """Connect; while there is no server, try again for *patience_s*, else `PATIENCE_S`.

        Raises:
            NotStoredError: it cannot be reached, or it does not let us in.
        """
        clock = self._runtime.clock
        ends = clock.monotonic() + (PATIENCE_S if patience_s is None else patience_s)
        attempt = 1
        while True:
            try:
                return await self._connect()
            except _UNREADABLE as error:
                unread = f"{self.where}: its URL cannot be read: {_URL_FORM}"
                raise NotStoredError(unread, "STORAGE_FAILED") from error
            except _NEVER as error:
                raise NotStoredError(f"{self.where}: {error}", "STORAGE_FAILED") from error
            except (*_LOST, asyncpg.PostgresError) as error:
                delay_s = RECONNECT.delay_s(attempt, self._runtime.random)
                if clock.monotonic() + delay_s >= ends:
                    raise not_stored(error, f"{self.where}: ") from error
            attempt += 1
            await clock.sleep(delay_s)

    async def _connect(self) -> Connection:
        connection: Connection = await asyncpg.connect(
            self._url,
            target_session_attrs="primary",  # a standby may have been one
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=COMMAND_TIMEOUT_S,
            statement_cache_size=STATEMENTS_CACHED,
            max_cached_statement_lifetime=0,
            server_settings={**SESSION, "application_name": f"mesh {self._name}"},
        )
        return connection
