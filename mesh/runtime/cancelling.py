"""Whose a cancellation is."""

from __future__ import annotations

import asyncio


def is_stopped(error: BaseException) -> bool:
    """Whether this task is being cancelled, rather than what it runs raising *error* by itself.

    Without an event loop only who drives the coroutine can have stopped it.
    """
    if not isinstance(error, asyncio.CancelledError):
        return False
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return True
    return task is not None and task.cancelling() > 0
