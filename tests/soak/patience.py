"""Waiting, not for ever."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from tests.soak.databases import Away

WITHIN_S = 180.0
POLL_S = 0.02


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Return once it holds; while a database server is away nothing does."""
    ends = time.monotonic() + WITHIN_S
    while not await _holds_now(holds):  # a condition of other processes has no event
        assert time.monotonic() < ends, f"it did not happen within {WITHIN_S:.0f} s"
        await asyncio.sleep(POLL_S)


async def _holds_now(holds: Callable[[], Awaitable[bool]]) -> bool:
    try:
        return await holds()
    except Away:
        return False
