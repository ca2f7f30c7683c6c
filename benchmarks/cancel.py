"""How soon work ends for a caller who leaves: three services further down, over real sockets."""

from __future__ import annotations

import asyncio
import time

from tests.support.echo import EchoRequest
from tests.support.relay import Endless, Row

TIMES = 100


async def took_ms(times: int = TIMES) -> list[float]:
    """Return how long it took each time until the last service had ended, in milliseconds."""
    found = []
    async with Row() as row:
        for _ in range(times):
            leaf = Endless(row.leaf)
            caller = asyncio.ensure_future(row.stub.Read(EchoRequest()))
            await leaf.begun.wait()
            left = time.perf_counter()
            caller.cancel()
            await leaf.ended.wait()
            found.append((time.perf_counter() - left) * 1e3)
            await asyncio.gather(caller, return_exceptions=True)
    return found
