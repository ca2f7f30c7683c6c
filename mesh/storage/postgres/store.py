"""The storage port on PostgreSQL: a queue, lanes that empty it, and snapshots beside them.

A lane runs one group of works after the other (`Group`). There are several, so that one does not
wait for another's round trips, and as many as their conflicts allow: each conflict halves their
number, each commit lets it grow, as TCP does with its window
(V. Jacobson, "Congestion Avoidance and Control", SIGCOMM 1988).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Coroutine, Sequence
from typing import Any, TypeVar, cast

import asyncpg

from ...layers.backoff import Backoff
from ...runtime import beside
from ...runtime.clock import Runtime
from ..condition import Condition
from ..migrate import Migration
from ..port import NotStoredError, StorageError, Work
from ..waiting import QUEUE_LIMIT, Waiting
from .database import Connection, Database
from .group import Group
from .pool import Pool
from .prepare import prepare
from .snapshot import read
from .watch import Watch

T = TypeVar("T")

#: Transactions that write at the same time, and the connections of one process; one more listens.
LANES_MAX = 4
CONNECTIONS_MAX = 7
#: How long a process that starts waits for its database.
START_PATIENCE_S = 20.0
GROWTH = 0.5
AGAIN = Backoff(base_s=0.001, max_s=0.1)


class PostgresStore:
    """A PostgreSQL database, open in any number of processes."""

    shared = True

    def __init__(self, database: Database, runtime: Runtime, watch: Watch) -> None:
        self._where = database.where
        self._runtime = runtime
        self._watch = watch
        self._condition = Condition(database.where)
        self._pool = Pool(database, CONNECTIONS_MAX)
        self._queue: deque[Waiting] = deque()
        self._lanes = 0
        self._lanes_allowed = float(LANES_MAX)
        self._tasks: set[asyncio.Task[None]] = set()
        self._reads = 0
        self._closed = False

    @classmethod
    async def open(
        cls, url: str, name: str, runtime: Runtime, schema: Sequence[Migration] = ()
    ) -> PostgresStore:
        """Open the database at *url* for the service called *name*, and bring it up to date.

        Raises:
            StorageError: it cannot be reached, is another service's, or a migration fails.
        """
        database = Database(url, name, runtime)
        watch = Watch(database, runtime)
        connection = await database.connect(START_PATIENCE_S)
        try:
            await prepare(connection, name, schema)
            await watch.start(connection)
        except BaseException as error:
            connection.terminate()
            if isinstance(error, (StorageError, OSError, asyncpg.PostgresError)):
                raise StorageError(f"{database.where}: {error}") from error
            raise
        return cls(database, runtime, watch)

    async def write(self, work: Work[T]) -> T:
        """Run *work* in the next group; return once the group's COMMIT is durable."""
        self._check_open()
        if len(self._queue) >= QUEUE_LIMIT:
            raise NotStoredError(
                f"{self._where}: {QUEUE_LIMIT} transactions are waiting", "STORAGE_BUSY"
            )
        waiting = Waiting(work)
        self._queue.append(waiting)
        self._add_lane()
        return cast("T", await waiting.future)

    async def read(self, work: Work[T]) -> T:
        """Run *work* on a snapshot."""
        self._check_open()
        if self._reads >= QUEUE_LIMIT:
            raise NotStoredError(f"{self._where}: {QUEUE_LIMIT} reads wait", "STORAGE_BUSY")
        waiting = Waiting(work)
        self._begin(self._read(waiting))
        return cast("T", await waiting.future)

    def changed(self) -> Awaitable[None]:
        """Return what resolves at the next commit of any process, or a few seconds later."""
        return self._watch.changed()

    @property
    def failing(self) -> StorageError | None:
        """What the last transaction met; None if the database took it."""
        return self._condition.failing

    async def close(self) -> None:
        """Finish what is under way and close the connections."""
        if self._closed:
            return
        self._closed = True
        while self._tasks:
            await asyncio.gather(*self._tasks)
        await self._watch.close()
        await self._pool.close()

    def _check_open(self) -> None:
        if self._closed:
            raise StorageError(f"{self._where} is closed")

    def _begin(self, run: Coroutine[Any, Any, None]) -> None:
        """Run beside the callers, and in nobody's context: it outlives who gives up waiting."""
        task = beside.begin(run)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read(self, waiting: Waiting) -> None:
        self._reads += 1
        try:
            await read(waiting, self._pool, self._runtime, self._watch)
        finally:
            self._reads -= 1

    def _add_lane(self) -> None:
        if self._lanes < int(self._lanes_allowed):
            self._lanes += 1
            self._begin(self._run_lane())

    async def _run_lane(self) -> None:
        try:
            while self._queue and self._lanes <= int(self._lanes_allowed):
                await self._run_group()
        finally:
            self._lanes -= 1

    async def _run_group(self) -> None:
        try:
            connection = await self._pool.take()
        except NotStoredError as error:
            self._give_up(error)
            return
        try:
            conflicts = await self._group(connection).run()
        finally:
            self._pool.give(connection)
        if conflicts:
            self._lanes_allowed = max(1.0, self._lanes_allowed / 2)
            await self._runtime.clock.sleep(AGAIN.delay_s(conflicts, self._runtime.random))
        else:
            self._lanes_allowed = min(float(LANES_MAX), self._lanes_allowed + GROWTH)

    def _group(self, connection: Connection) -> Group:
        return Group(connection, self._queue, self._runtime, self._watch, self._condition)

    def _give_up(self, error: NotStoredError) -> None:
        """The database cannot be reached: whoever waits hears of it."""
        for waiting in self._queue:
            waiting.fail(error)
        self._queue.clear()
        self._condition.note(error)
