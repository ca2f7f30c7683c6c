"""The storage port on SQLite, with group commit.

One writer connection. Works that wait are run one after the other, each to its end inside a
savepoint of its own, and one COMMIT makes all of them durable; while it syncs, off the event
loop, the next group gathers. So a hundred concurrent transactions cost a handful of fsyncs, and
each of them still is atomic, isolated and durable before its caller hears of it.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import apsw

from ..runtime.clock import Runtime
from .migrate import Migration
from .port import StorageError, Tx, Work
from .sqlite_file import FILE_ERRORS, GuardedConnection, SqliteFile, lock_file, translate
from .waiting import QUEUE_LIMIT, Waiting, refuse

T = TypeVar("T")

#: A group takes no new work after this long, so that its first member is not kept waiting.
GROUP_TIME_S = 0.005


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
        try:
            return self._connection.execute(translate(sql), params)
        except Exception as error:
            self.doomed = error
            raise

    async def rollback(self) -> None:
        """Go back to this work's savepoint."""
        self._control("ROLLBACK TO work")

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

    Raises:
        StorageError: another process has the file open, it is no database, or a migration fails.
    """

    def __init__(self, path: Path, runtime: Runtime, schema: Sequence[Migration] = ()) -> None:
        self._name = path.name
        self._runtime = runtime
        self._queue: deque[Waiting] = deque()
        self._group: list[Waiting] = []
        self._alone: deque[Waiting] = deque()
        self._groups: asyncio.Task[None] | None = None
        self._changed: asyncio.Future[None] | None = None
        self._closed = False
        self._lock = lock_file(path)
        try:
            self._file = SqliteFile(path)
            self._file.migrate(schema)
        except BaseException as error:
            os.close(self._lock)
            if isinstance(error, apsw.Error):
                raise StorageError(f"{path}: {error}") from error
            raise

    async def read(self, work: Work[T]) -> T:
        """Run *work* on a snapshot. It never waits for writers."""
        self._check_open()
        try:
            self._file.open()  # a failure may have closed it
            reader = self._file.reader
            reader.control("BEGIN")
            try:
                tx = SqliteTx(reader, self._runtime, control=_no_control)
                result = _drive(work(tx))
                if tx.doomed:
                    raise tx.doomed
                return result
            finally:
                if reader.in_transaction:
                    reader.control("ROLLBACK")
        except apsw.ReadOnlyError:  # the work wrote
            raise
        except FILE_ERRORS as error:
            raise StorageError(f"{self._name}: {error}") from error

    async def write(self, work: Work[T]) -> T:
        """Run *work* in the next group; return once the group's COMMIT is synced."""
        self._check_open()
        if len(self._queue) >= QUEUE_LIMIT:
            raise StorageError(f"{self._name}: {QUEUE_LIMIT} transactions are waiting")
        loop = asyncio.get_running_loop()
        waiting = Waiting(work)
        self._queue.append(waiting)
        if self._groups is None:
            # In a fresh context: the groups belong to no single caller.
            self._groups = loop.create_task(self._run_groups(), context=contextvars.Context())
        return cast("T", await waiting.future)

    def changed(self) -> Awaitable[None]:
        """Return what resolves at the next commit."""
        if self._changed is None or self._changed.done():
            self._changed = asyncio.get_running_loop().create_future()
        return asyncio.shield(self._changed)

    async def close(self) -> None:
        """Finish the queue, close the file, and let another process have it."""
        if self._closed:
            return
        self._closed = True
        if self._groups:
            await asyncio.shield(self._groups)
        self._file.close()
        os.close(self._lock)

    def abandon(self) -> None:
        """Let go of the file as a crash would: what is not committed is gone."""
        self._closed = True
        self._file.close()
        os.close(self._lock)

    def _check_open(self) -> None:
        if self._closed:
            raise StorageError(f"{self._name} is closed")

    async def _run_groups(self) -> None:
        try:
            while self._queue:
                try:
                    self._file.open()
                    await self._run_group()
                except Exception as error:  # noqa: BLE001  # nobody may wait for ever
                    self._give_up(error)
        finally:
            self._groups = None

    def _give_up(self, error: Exception) -> None:
        """The file failed: nobody in the group, nor waiting, knows how it ended."""
        self._file.close()
        for waiting in (*self._group, *self._alone, *self._queue):
            waiting.fail(StorageError(f"{self._name}: {error}"))
        self._alone.clear()
        self._queue.clear()
        self._tell_watchers()  # what failed may be in

    async def _run_group(self) -> None:
        self._begin()
        ends = self._runtime.clock.monotonic() + GROUP_TIME_S
        while self._queue:
            self._run_work(self._queue.popleft())
            if self._runtime.clock.monotonic() >= ends:
                break
        group, failed = self._group, await self._commit()
        if failed is None or len(group) == 1:
            _tell(group, failed)
            return
        # A deferred constraint: run one by one, to find out whose it was.
        self._alone.extend(group)
        while self._alone:
            self._begin()
            self._run_work(self._alone.popleft())
            _tell(self._group, await self._commit())

    def _begin(self) -> None:
        self._group = []
        self._file.control("BEGIN IMMEDIATE")

    async def _commit(self) -> apsw.ConstraintError | None:
        """Make the group durable, or return the deferred constraint that it breaks."""
        if not self._group:
            self._file.control("ROLLBACK")
            await asyncio.sleep(0)  # however many are refused, the event loop gets its turn
            return None
        try:
            # Nothing may touch the writer until this is over: whoever writes awaits it.
            await self._runtime.offload(lambda: self._file.control("COMMIT"))
        except apsw.ConstraintError as error:
            self._file.control("ROLLBACK")
            return error
        self._tell_watchers()
        return None

    def _tell_watchers(self) -> None:
        if self._changed and not self._changed.done():
            self._changed.set_result(None)

    def _run_work(self, waiting: Waiting) -> None:
        """Run one work in its savepoint; if it ends well it joins the group."""
        if waiting.future.done():  # cancelled while it waited
            return
        self._group.append(waiting)
        control = self._file.control
        control("SAVEPOINT work")
        tx = SqliteTx(self._file.writer, self._runtime, control)
        try:
            waiting.result = waiting.context.run(lambda: _drive(waiting.work(tx)))
            if tx.doomed:
                raise tx.doomed
        except BaseException as error:  # noqa: BLE001  # its caller gets it
            if isinstance(tx.doomed, FILE_ERRORS):
                raise tx.doomed from None  # the file's failure, not this work's
            control("ROLLBACK TO work")
            control("RELEASE work")
            self._group.pop()
            waiting.fail(error)
        else:
            control("RELEASE work")


def _tell(group: Sequence[Waiting], failed: apsw.ConstraintError | None) -> None:
    """Tell the callers of *group* how its COMMIT ended."""
    for waiting in group:
        waiting.fail(failed) if failed else waiting.succeed()


def _no_control(sql: str) -> None:
    """A snapshot has nothing to roll back."""


def _drive(work: Awaitable[T]) -> T:
    """Run a coroutine that never suspends, and refuse one that does."""
    coroutine = cast("Coroutine[Any, Any, T]", work)
    try:
        awaited = coroutine.send(None)
    except StopIteration as stop:
        return cast("T", stop.value)
    raise refuse(coroutine, awaited)
