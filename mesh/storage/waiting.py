"""What waits for its turn on a database: a work, and whom to tell how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Coroutine
from typing import Any

from .port import ForeignAwaitError, Work

#: Waiting works beyond this are turned away rather than queued.
QUEUE_LIMIT = 10_000


class Waiting:
    """A work in a store's queue. It runs in the context of whoever asked for it."""

    __slots__ = ("context", "future", "result", "tries", "work")

    def __init__(self, work: Work[Any]) -> None:
        self.work = work
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.context = contextvars.copy_context()
        self.result: Any = None
        self.tries = 0

    def fail(self, error: BaseException) -> None:
        """Tell the caller, if it still waits, that nothing of its work is in."""
        if self.future.done():
            return
        if isinstance(error, asyncio.CancelledError):
            self.future.cancel()
        else:
            self.future.set_exception(error)

    def succeed(self) -> None:
        """Tell the caller, if it still waits, that its work is durable."""
        if not self.future.done():
            self.future.set_result(self.result)


def refuse(work: Coroutine[Any, Any, Any], awaited: Any) -> ForeignAwaitError:
    """End a work that awaits what is not its transaction; return the error to raise for it."""
    if isinstance(awaited, asyncio.Future):
        awaited._asyncio_future_blocking = False  # noqa: SLF001  # as a task that resumes does
    error = ForeignAwaitError(awaited)
    with contextlib.suppress(BaseException):  # whatever it makes of it, this is what went wrong
        work.throw(error)
        work.close()
    return error
