"""Doing many things, a bounded number at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


async def for_each(
    things: Iterable[T], action: Callable[[T], Awaitable[None]], *, concurrency: int
) -> None:
    """Await `action` on each of `things`, in their sequence, at most `concurrency` at a time.

    The first failure is raised and ends it, as does being cancelled: nothing goes on behind.
    """
    rest = iter(things)

    async def work() -> None:
        for thing in rest:
            await action(thing)

    workers = [asyncio.create_task(work()) for _ in range(concurrency)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
