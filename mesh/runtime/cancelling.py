"""Whose a cancellation is, and who can be cancelled."""

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


def can_be_stopped() -> bool:
    """Whether what runs here is a task: a thread cannot be made to end."""
    try:
        return asyncio.current_task() is not None
    except RuntimeError:
        return False
