"""Waiting, not for ever."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

WITHIN_S = 180.0
POLL_S = 0.02


async def until(holds: Callable[[], bool]) -> None:
    """Return once it holds."""
    ends = time.monotonic() + WITHIN_S
    while not holds():  # a condition of other processes has no event
        assert time.monotonic() < ends, f"it did not happen within {WITHIN_S:.0f} s"
        await asyncio.sleep(POLL_S)
