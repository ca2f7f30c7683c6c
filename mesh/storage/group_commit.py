"""Group commit: many transactions, one COMMIT, and nobody is answered before theirs is on disk.

Works that wait are run one after the other, each to its end inside a savepoint of its own, and one
COMMIT makes all of them durable; while it syncs, off the event loop, the next group gathers. So a
hundred concurrent transactions cost a handful of fsyncs, and each of them still is atomic, isolated
and durable before its caller hears of it.

What spoils a group (a deferred constraint, no room, a damaged page) may be one work's: it is rolled
back, and its works run again one by one. What fails beneath it leaves the COMMIT that was under way
unknown, and turns everybody else away.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import apsw

from ..runtime import beside
from ..runtime.clock import Runtime
from .changes import Changes
from .condition import Condition
from .port import NotStoredError, Work
from .sqlite_file import CHECKPOINT_PAGES, FILE_ERRORS, SqliteFile, storage_error
from .waiting import QUEUE_LIMIT, Waiting

#: A group takes no new work after this long, so that its first member is not kept waiting.
GROUP_TIME_S = 0.005
#: With these a transaction is certainly rolled back, and the file is as it was.
SPOILT = (apsw.ConstraintError, apsw.FullError, apsw.CorruptError)


class GroupCommit:
    """Runs the works that write to *file*, called *name*.

    `run` drives one work on the open transaction, returns its result or raises.
    """

    def __init__(
        self, name: str, file: SqliteFile, runtime: Runtime, run: Callable[[Waiting], Any]
    ) -> None:
        self.condition = Condition(name)
        self._name = name
        self._file = file
        self._runtime = runtime
        self._run = run
        self._queue: deque[Waiting] = deque()
        self._group: list[Waiting] = []
        self._alone: deque[Waiting] = deque()
        self._committing = False
        self._groups: asyncio.Task[None] | None = None
        self._changes = Changes()

    async def write(self, work: Work[Any]) -> Any:
        """Run *work* in the next group; return once the group's COMMIT is synced."""
        if len(self._queue) >= QUEUE_LIMIT:
            raise NotStoredError(
                f"{self._name}: {QUEUE_LIMIT} transactions are waiting", "STORAGE_BUSY"
            )
        waiting = Waiting(work)
        self._queue.append(waiting)
        if self._groups is None:
            self._groups = beside.begin(self._run_groups())  # which belong to no single caller
        return await waiting.future

    def changed(self) -> Awaitable[None]:
        """Return what resolves at the next commit."""
        return self._changes.wait()

    async def finish(self) -> None:
        """Wait until the queue is empty."""
        if self._groups:
            await asyncio.shield(self._groups)

    async def _run_groups(self) -> None:
        try:
            while self._queue:
                try:
                    self._file.open()
                    await self._run_group()
                    await self._checkpoint()
                except Exception as error:  # noqa: BLE001  # nobody may wait for ever
                    self._give_up(error)
        finally:
            self._groups = None

    async def _run_group(self) -> None:
        spoilt = await self._attempt(self._queue)
        if spoilt is None:
            return
        if len(self._group) == 1:
            self._fail(self._group[0], spoilt)
            return
        self._alone.extend(self._group)
        while self._alone:
            spoilt = await self._attempt(self._alone, many=False)
            if spoilt:
                self._fail(self._group[0], spoilt)

    async def _attempt(self, works: deque[Waiting], *, many: bool = True) -> Exception | None:
        """Run *works*, one or *many*, as one transaction; return what spoilt it."""
        self._group = []
        self._file.control("BEGIN IMMEDIATE")
        ends = self._runtime.clock.monotonic() + GROUP_TIME_S
        try:
            while works:
                self._run_work(works.popleft())
                if not many or self._runtime.clock.monotonic() >= ends:
                    break
            await self._commit()
        except SPOILT as error:
            self._file.rollback()
            self._committing = False
            return error
        for waiting in self._group:
            waiting.succeed()
        return None

    def _run_work(self, waiting: Waiting) -> None:
        """Run one work in its savepoint; if it ends well it joins the group."""
        if waiting.future.done():  # cancelled while it waited
            return
        self._group.append(waiting)
        control = self._file.control
        control("SAVEPOINT work")
        try:
            waiting.result = self._run(waiting)
        except FILE_ERRORS:
            raise  # not this work's, or not this work's alone
        except BaseException as error:  # noqa: BLE001  # its caller gets it
            control("ROLLBACK TO work")
            control("RELEASE work")
            self._group.pop()
            waiting.fail(error)
        else:
            control("RELEASE work")

    async def _commit(self) -> None:
        """Make the group durable."""
        if not self._group:
            self._file.control("ROLLBACK")
            await asyncio.sleep(0)  # however many are refused, the event loop gets its turn
            return
        # Nothing may touch the writer until this is over: whoever writes awaits it.
        self._committing, before = True, self._file.writer.commits
        await self._runtime.offload(lambda: self._file.control("COMMIT"))
        self._committing = False
        self._changes.tell()
        if self._file.writer.commits > before:  # to write nothing takes no room
            self.condition.note(None)

    async def _checkpoint(self) -> None:
        """Keep the log short. Everybody has been answered, so its failure is nobody's."""
        if self._file.writer.log_pages < CHECKPOINT_PAGES:
            return
        try:
            await self._runtime.offload(self._file.writer.checkpoint)
        except apsw.FullError:
            return  # the log keeps it, and the next commit may find no room either
        except FILE_ERRORS as error:
            self._file.fail()
            self.condition.note(storage_error(self._name, error))

    def _give_up(self, error: Exception) -> None:
        """The file failed: how the COMMIT ended is unknown, and nobody else was begun."""
        if not isinstance(error, apsw.BusyError):
            self._file.fail()
        unknown = self._group if self._committing else []
        certain = [*(() if self._committing else self._group), *self._alone, *self._queue]
        self._committing = False
        self._alone.clear()
        self._queue.clear()
        for waiting in unknown:
            waiting.fail(storage_error(self._name, error))
        for waiting in certain:
            waiting.fail(storage_error(self._name, error, certain=True))
        self.condition.note(storage_error(self._name, error))
        self._changes.tell()  # what failed may be in

    def _fail(self, waiting: Waiting, error: Exception) -> None:
        """Tell the one whose *error* it was."""
        if isinstance(error, apsw.ConstraintError):
            waiting.fail(error)
        else:
            failure = storage_error(self._name, error)
            waiting.fail(failure)
            self.condition.note(failure)
