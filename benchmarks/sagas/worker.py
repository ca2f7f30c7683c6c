"""A process that runs sagas when it is told to.

A line on standard input says how many and how many at once, a line on standard output how long
it took. In between it does nothing, so that the others can be measured.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

import uvloop

#: Runs one saga to its end.
Run: TypeAlias = Callable[[], Awaitable[None]]


def work(opened: AbstractAsyncContextManager[Run]) -> None:
    """Run sagas on request, until standard input ends or SIGTERM comes."""
    uvloop.run(_work(opened))


async def _work(opened: AbstractAsyncContextManager[Run]) -> None:
    requests = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(requests)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: protocol, sys.stdin)
    loop.add_signal_handler(signal.SIGTERM, requests.feed_eof)
    async with opened as run:
        print("ready", flush=True)
        async for line in requests:
            print(json.dumps(await closed_loop(run, **json.loads(line))), flush=True)


async def closed_loop(run: Run, sagas: int, at_once: int) -> dict[str, float]:
    """Run *sagas*, *at_once* at a time; return what it took, in seconds."""
    turns = iter(range(sagas))
    latencies_s: list[float] = []

    async def some() -> None:
        for _ in turns:
            began = time.perf_counter()
            await run()
            latencies_s.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(some() for _ in range(at_once)))
    wall_s = time.perf_counter() - began
    latencies_s.sort()
    p50, p99 = (latencies_s[int(len(latencies_s) * share)] for share in (0.50, 0.99))
    return {"wall_s": wall_s, "p50_s": p50, "p99_s": p99}
