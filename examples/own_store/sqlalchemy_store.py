"""A store of one's own behind the mesh's keys, effects, sagas and events: SQLAlchemy's connections.

It is for SQLite. Its statements, and COMMIT with its fsync, keep the event loop: simple, and slower
than the mesh's own store, which commits groups and waits for the disk in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import re
import sqlite3
from collections.abc import Awaitable, Coroutine, Iterator, Sequence
from typing import Any, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, OperationalError

from mesh.runtime.clock import Runtime
from mesh.storage.migrate import SEEN, TABLES, Migration, pending
from mesh.storage.port import ForeignAwaitError, StorageError, Tx, Work, check_texts
from mesh.storage.waiting import refuse

T = TypeVar("T")

_BEGIN, _READ_ONLY = "BEGIN IMMEDIATE", "PRAGMA query_only = ON"
#: A literal, a quoted name, or a parameter: the mesh writes $1 where SQLite wants ?1.
_PARAMETER = re.compile(r"""'[^']*'|"[^"]*"|\$(\d+)""")
_CONTROL = re.compile(
    r"(?is)(?:\s|--[^\n]*\n|/\*.*?\*/)*(?:begin|commit|end|rollback|savepoint|release)\b"
)

#: Whether a work is being driven: it may not ask for another, which would not suspend it either.
_WORKING = contextvars.ContextVar("working", default=False)


class SqlAlchemyTx(Tx):
    """One open transaction."""

    def __init__(self, connection: sa.Connection, runtime: Runtime, *, writes: bool) -> None:
        self._connection = connection
        self._runtime = runtime
        self._savepoint = connection.begin_nested() if writes else None
        self._began = runtime.clock.wall()
        self.doomed: Exception | None = None

    async def execute(self, sql: str, *params: Any) -> list[Any]:
        """Run one statement; an error dooms the transaction, whoever catches it."""
        if self.doomed:
            raise self.doomed
        check_texts(params)
        try:
            if _CONTROL.match(sql):
                raise ValueError("the transaction is not the work's to end")
            result = self._connection.exec_driver_sql(_numbered(sql), params or None)
            return list(result.fetchall()) if result.returns_rows else []
        except Exception as error:
            self.doomed = error
            raise

    async def rollback(self) -> None:
        """Take back what was written so far; the work may go on."""
        if self._savepoint and not self.doomed:
            self._savepoint.rollback()
            self._savepoint = self._connection.begin_nested()

    def now(self) -> float:
        """Return when it began."""
        return self._began

    def new_id(self) -> str:
        """Return a new UUIDv7."""
        return self._runtime.new_id()


class SqlAlchemyStore:
    """The storage port (`mesh.storage.port.Store`) on an SQLAlchemy engine.

    Raises:
        StorageError: a migration fails.
    """

    shared = False  # with another engine, if other processes write to it too

    def __init__(self, url: str, runtime: Runtime, schema: Sequence[Migration] = ()) -> None:
        self._engine = sa.create_engine(url)
        sa.event.listen(self._engine, "connect", _leave_transactions_to_us)
        sa.event.listen(self._engine, "begin", _begin)
        self._runtime = runtime
        self._waiting: list[asyncio.Future[None]] = []
        self._closed = False
        self.failing: StorageError | None = None
        self._migrate(schema)

    async def write(self, work: Work[T]) -> T:
        """Run *work* in a transaction; return its result once that is on disk."""
        with self._transaction(writes=True) as connection:
            result = _drive(work, SqlAlchemyTx(connection, self._runtime, writes=True))
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
        return result

    async def read(self, work: Work[T]) -> T:
        """Run *work* on a snapshot."""
        with self._transaction(writes=False) as connection:
            return _drive(work, SqlAlchemyTx(connection, self._runtime, writes=False))

    def changed(self) -> Awaitable[None]:
        """Return what resolves at the next commit."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        return future

    async def close(self) -> None:
        """Close the connections."""
        self._closed = True
        self._engine.dispose()

    @contextlib.contextmanager
    def _transaction(self, *, writes: bool) -> Iterator[sa.Connection]:
        """A failure of the work is the work's; of BEGIN or COMMIT, the database's."""
        if self._closed:
            raise StorageError("the store is closed")
        with self._engine.connect().execution_options(writes=writes) as connection:
            try:
                connection.begin()
                yield connection
                connection.commit()
            except OperationalError as error:
                if not writes or error.statement:  # what the work asked for
                    raise
                self.failing = StorageError(str(error.orig))
                raise self.failing from error
        self.failing = None

    def _migrate(self, schema: Sequence[Migration]) -> None:
        with self._engine.begin() as connection:
            for table in TABLES:
                connection.exec_driver_sql(table)
            seen = {row.name: row.sha256 for row in connection.exec_driver_sql(SEEN)}
            for step in pending(schema, "sqlite", seen):
                try:
                    for statement in _statements(step.script):
                        connection.exec_driver_sql(statement)
                    for note, params in step.notes:
                        connection.exec_driver_sql(_numbered(note), params)
                except DBAPIError as error:
                    raise StorageError(f"{step.name}: {error.orig}") from error


def _drive(work: Work[T], tx: SqlAlchemyTx) -> T:
    """Run a work, which awaits nothing but its transaction and so never suspends."""
    if _WORKING.get():
        raise ForeignAwaitError(work)
    working = _WORKING.set(True)
    coroutine = cast("Coroutine[Any, Any, T]", work(tx))
    try:
        awaited = coroutine.send(None)
    except StopIteration as stop:
        if tx.doomed:
            raise tx.doomed from None
        return cast("T", stop.value)
    else:
        raise refuse(coroutine, awaited)
    finally:
        _WORKING.reset(working)
        tx.doomed = tx.doomed or RuntimeError("this transaction is over")


def _numbered(sql: str) -> str:
    return _PARAMETER.sub(lambda found: f"?{found[1]}" if found[1] else found[0], sql)


def _statements(script: str) -> Iterator[str]:
    """Yield the statements of *script*: SQLite takes one at a time."""
    statement = ""
    for part in re.split(r"(;)", script):
        statement += part
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        yield statement


def _leave_transactions_to_us(connection: Any, _: object) -> None:
    connection.isolation_level = None  # or the driver begins one by itself, and too late
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")


def _begin(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("writes", True)
    connection.exec_driver_sql("PRAGMA query_only = OFF" if writes else _READ_ONLY)
    connection.exec_driver_sql(_BEGIN if writes else "BEGIN")
