"""Waiting, not for ever, for what nobody tells of: another process or thread, a broker."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

POLL_S = 0.01
#: As long as the slowest machine may take.
WITHIN_S = 60.0


def eventually(
    found: Callable[[], T], *, within_s: float = WITHIN_S, known: Callable[[], object] = str
) -> T:
    """Wait until *found* gives something true, and return that; what is *known* tells why not."""
    ends = time.monotonic() + within_s
    while not (value := found()):
        assert time.monotonic() < ends, f"it did not happen within {within_s:.0f} s {known()}"
        time.sleep(POLL_S)
    return value


async def until(found: Callable[[], Any], *, within_s: float = WITHIN_S) -> Any:
    """The same on the event loop, which runs meanwhile; *found* may be a coroutine function."""
    async with asyncio.timeout(within_s):
        while True:
            value = found()
            if inspect.isawaitable(value):
                value = await value
            if value:
                return value
            await asyncio.sleep(POLL_S)


async def soon(event: asyncio.Event) -> None:
    """Wait for *event*, not for ever."""
    async with asyncio.timeout(WITHIN_S):
        await event.wait()
