"""Works that share one transaction: each in a savepoint of its own, and one COMMIT for all.

What waits while a transaction runs joins it, for a few milliseconds: that is a COMMIT and its fsync
less for each, and no conflict between them. A conflict with somebody else's transaction takes the
whole group back, and all of it runs again.
"""

from __future__ import annotations

from collections import deque

import asyncpg

from ...runtime.clock import Runtime
from ..condition import Condition
from ..port import StorageError
from ..waiting import Waiting
from .database import CONFLICTS, Connection, describe, not_stored
from .tx import PostgresTx, run_work
from .watch import Watch

#: A group takes no new work after this long, so that its first member is not kept waiting.
GROUP_TIME_S = 0.005
#: A work that was taken back this often runs alone: the shorter, the likelier it gets in.
ALONE_AFTER = 2
TRIES_MAX = 20

_BEGIN = "BEGIN ISOLATION LEVEL SERIALIZABLE; SAVEPOINT work"
_NEXT = "RELEASE work; SAVEPOINT work"


class Group:
    """One transaction on *connection*, for what waits in *queue*."""

    def __init__(
        self,
        connection: Connection,
        queue: deque[Waiting],
        runtime: Runtime,
        watch: Watch,
        condition: Condition,
    ) -> None:
        self._connection = connection
        self._queue = queue
        self._runtime = runtime
        self._watch = watch
        self._condition = condition
        #: Those that ended well, and the one that runs.
        self._members: list[Waiting] = []
        self._running: Waiting | None = None

    async def run(self) -> int:
        """Run works to their end and commit them.

        Every work taken from the queue has been told how it ended, or is back in it.

        Returns:
            0, or after a conflict how often a work of the group has been taken back by now.
        """
        try:
            self._running = self._take()
            if self._running is None:
                return 0
            await self._connection.execute(_BEGIN)
            await self._run_works()
        except CONFLICTS as error:
            await self._take_back()
            return self._again(error)
        except asyncpg.ReadOnlySQLTransactionError as error:
            self._connection.terminate()  # there may be a primary elsewhere
            for waiting in self._works():
                self._fail(waiting, not_stored(error))
            return 0
        except Exception as error:  # noqa: BLE001  # before its COMMIT nothing of it is in
            self._connection.terminate()
            self._again(error)
            return 0
        return await self._commit()

    def _take(self) -> Waiting | None:
        """Return the next work that somebody still waits for, and that may join."""
        while self._queue:
            waiting = self._queue[0]
            if not waiting.future.done():
                if self._members and waiting.tries >= ALONE_AFTER:
                    return None
                return self._queue.popleft()
            self._queue.popleft()  # cancelled while it waited
        return None

    async def _run_works(self) -> None:
        clock = self._runtime.clock
        ends = clock.monotonic() + GROUP_TIME_S
        while self._running is not None:
            in_group = await self._run_work(self._running)
            alone = self._running.tries >= ALONE_AFTER
            self._running = None
            if alone or clock.monotonic() >= ends:
                return
            self._running = self._take()
            if self._running is not None and in_group:
                await self._connection.execute(_NEXT)

    async def _run_work(self, waiting: Waiting) -> bool:
        """Run one work in its savepoint; whether it ended well, and joined the group."""
        tx = PostgresTx(self._connection, self._runtime, self._watch.now())
        failed = await run_work(waiting, tx)
        if failed is None:
            self._members.append(waiting)
            return True
        if isinstance(failed, asyncpg.ReadOnlySQLTransactionError):
            raise failed
        await self._connection.execute("ROLLBACK TO work")
        self._fail(waiting, failed)
        return False

    async def _commit(self) -> int:
        try:
            if not self._members:
                await self._connection.execute("ROLLBACK")
                return 0
            status = await self._connection.execute("COMMIT")
            if status != "COMMIT":  # it had failed unseen, and is rolled back
                raise StorageError(f"COMMIT was answered {status}")
        except CONFLICTS as error:
            return self._again(error)
        except asyncpg.IntegrityConstraintViolationError as error:
            self._separate(error)
            return 0
        except Exception as error:  # noqa: BLE001  # nobody may wait for ever
            self._connection.terminate()
            for waiting in self._members:
                self._fail(waiting, StorageError(describe(error)))
            self._watch.committed()  # it may be in
            return 0
        for waiting in self._members:
            waiting.succeed()
        self._watch.committed()
        self._condition.note(None)
        return 0

    async def _take_back(self) -> None:
        try:
            await self._connection.execute("ROLLBACK")
        except Exception:  # noqa: BLE001  # then it goes with its connection
            self._connection.terminate()

    def _works(self) -> list[Waiting]:
        return [*self._members, *([self._running] if self._running else [])]

    def _again(self, error: BaseException) -> int:
        """Put all works back to the head of the queue, in their order."""
        works = self._works()
        for waiting in reversed(works):
            waiting.tries += 1
            if waiting.tries < TRIES_MAX:
                self._queue.appendleft(waiting)
            else:
                self._fail(waiting, not_stored(error, f"given up after {TRIES_MAX} times: "))
        return max((waiting.tries for waiting in works), default=0)

    def _separate(self, error: asyncpg.IntegrityConstraintViolationError) -> None:
        """A deferred constraint is broken: find out by whom, or tell the only one it can be."""
        if len(self._members) == 1:
            self._members[0].fail(error)
            return
        for waiting in reversed(self._members):
            waiting.tries = max(waiting.tries, ALONE_AFTER)
            self._queue.appendleft(waiting)

    def _fail(self, waiting: Waiting, error: BaseException) -> None:
        waiting.fail(error)
        if isinstance(error, StorageError):
            self._condition.note(error)
