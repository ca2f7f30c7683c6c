"""Waiting for what a system under disturbance comes to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tests.soak.databases import Away
from tests.support import waiting

WITHIN_S = 180.0


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Return once it holds, not for ever; while a database server is away nothing does."""

    async def holds_now() -> bool:
        try:
            return await holds()
        except Away:
            return False

    await waiting.until(holds_now, within_s=WITHIN_S)
