"""Work beside the calls: it has no part in the deadline, the trace or the principal of any."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NoReturn, TypeVar

from .cancelling import is_stopped
from .clock import Clock
from .logs import log

T = TypeVar("T")


def begin(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Run *work* in a task and a context of its own."""
    return asyncio.get_running_loop().create_task(work, context=contextvars.Context())


async def end(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel *tasks*, as far as they were begun; return once all have ended, however."""
    begun = [task for task in tasks if task is not None]
    for task in begun:
        task.cancel()
    await asyncio.gather(*begun, return_exceptions=True)


async def keep_on(
    what: str, step: Callable[[], Awaitable[None]], clock: Clock, pause_s: float
) -> NoReturn:
    """Take one *step* after the other, until it is cancelled: nothing that a step meets ends it.

    After a step that raised it pauses for *pause_s*. The log hears under *what* of the first of a
    kind in a row, and when it works again: a database may be away for hours.
    """
    met: type[BaseException] | None = None
    while True:
        try:
            await step()
        except (Exception, asyncio.CancelledError) as error:
            if is_stopped(error):
                raise
            if type(error) is not met:
                met = type(error)
                log.error(f"{what} failed, and goes on", exc_info=error)
            await clock.sleep(pause_s)
        else:
            if met:
                met = None
                log.info(f"{what} works again")
