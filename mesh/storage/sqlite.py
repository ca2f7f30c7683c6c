"""The storage port on SQLite: one writer with group commit, and snapshots beside it."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import apsw

from ..runtime.clock import Runtime
from .group_commit import GroupCommit
from .migrate import Migration
from .port import StorageError, Tx, Work, check_texts
from .sqlite_file import (
    FILE_ERRORS,
    Connect,
    GuardedConnection,
    SqliteFile,
    lock_file,
    storage_error,
    translate,
)
from .waiting import Waiting, refuse

T = TypeVar("T")


class SqliteTx(Tx):
    """A transaction on one SQLite connection."""

    def __init__(
        self, connection: GuardedConnection, runtime: Runtime, control: Callable[[str], None]
    ) -> None:
        self._connection = connection
        self._runtime = runtime
        self._control = control
        self._now = runtime.clock.wall()
        self.doomed: Exception | None = None

    async def execute(self, sql: str, *params: Any) -> list[Any]:
        """Run one statement. It completes without suspending."""
        if self.doomed:
            raise self.doomed
        check_texts(params)
        try:
            return self._connection.execute(translate(sql), params)
        except Exception as error:
            self.doomed = error
            raise

    async def rollback(self) -> None:
        """Go back to this work's savepoint."""
        if not self.doomed:
            self._control("ROLLBACK TO work")

    def end(self) -> None:
        """Let no task that its work left behind use it any more."""
        self.doomed = self.doomed or RuntimeError("this transaction is over")

    def now(self) -> float:
        """Return when the transaction began."""
        return self._now

    def new_id(self) -> str:
        """Return a new UUIDv7."""
        return self._runtime.new_id()


class SqliteStore:
    """A SQLite database file, open in this process only.

    Args:
        path: the file; made if it is missing.
        runtime: clock, ids, and where COMMIT's fsync runs.
        schema: the migrations, in order; each is applied once.
        connect: opens the connections.

    Raises:
        StorageError: another process has the file open, it is no database, or a migration fails.
    """

    shared = False

    def __init__(
        self,
        path: Path,
        runtime: Runtime,
        schema: Sequence[Migration] = (),
        connect: Connect = GuardedConnection,
    ) -> None:
        self._name = path.name
        self._runtime = runtime
        self._closed = False
        self._lock = self._hold(path)
        try:
            self._file = SqliteFile(path, connect)
            self._file.migrate(schema)
        except BaseException as error:
            self._let_go()
            if isinstance(error, apsw.Error):
                raise storage_error(str(path), error) from error
            raise
        self._groups = self._group_commit()

    async def read(self, work: Work[T]) -> T:
        """Run *work* on a snapshot. It never waits for writers."""
        self._check_open()
        try:
            reader = self._file.reader
            reader.control("BEGIN")
            try:
                tx = SqliteTx(reader, self._runtime, control=_no_control)
                return _drive(work, tx)
            finally:
                if reader.in_transaction:
                    reader.control("ROLLBACK")
        except apsw.ReadOnlyError:  # the work wrote
            raise
        except FILE_ERRORS as error:
            raise storage_error(self._name, error) from error

    async def write(self, work: Work[T]) -> T:
        """Run *work* in the next group; return once the group's COMMIT is synced."""
        self._check_open()
        return cast("T", await self._groups.write(work))

    def changed(self) -> Awaitable[None]:
        """Return what resolves at the next commit."""
        return self._groups.changed()

    @property
    def failing(self) -> StorageError | None:
        """What the last transaction met; None if the database took it."""
        return self._groups.condition.failing

    async def close(self) -> None:
        """Finish the queue, close the file, and let another process have it."""
        if self._closed:
            return
        self._closed = True
        await self._groups.finish()
        self._file.close()
        self._let_go()

    def abandon(self) -> None:
        """Let go of the file as a crash would: what is not committed is gone."""
        self._closed = True
        self._file.close(checkpoint=False)
        self._let_go()

    def _hold(self, path: Path) -> int | None:
        """Make the file this process's own."""
        return lock_file(path)

    def _let_go(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def _group_commit(self) -> GroupCommit:
        return GroupCommit(self._name, self._file, self._runtime, self._run)

    def _check_open(self) -> None:
        if self._closed:
            raise StorageError(f"{self._name} is closed")

    def _run(self, waiting: Waiting) -> Any:
        """Run a work on the writer's open transaction; in a failure of the file, raise that."""
        tx = SqliteTx(self._file.writer, self._runtime, self._file.control)
        try:
            return waiting.context.run(_drive, waiting.work, tx)
        except BaseException:
            if isinstance(tx.doomed, FILE_ERRORS):
                raise tx.doomed from None
            raise


def _no_control(sql: str) -> None:
    """A snapshot has nothing to roll back."""


def _drive(work: Work[T], tx: SqliteTx) -> T:
    """Run a work, which never suspends; refuse one that does."""
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
        tx.end()
