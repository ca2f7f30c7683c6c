"""Work beside the calls: it has no part in the deadline, the trace or the principal of any."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any, TypeVar

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
