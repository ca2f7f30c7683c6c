"""Time, chance and threads: what a process gets from its machine, in one replaceable piece.

Everything else in the mesh receives a `Runtime` and asks it; the simulator hands in its own, so
that a whole system replays from a seed.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Clock(Protocol):
    """Where time comes from."""

    def monotonic(self) -> float:
        """Return seconds that never go back; deadlines and timers are in these."""
        ...

    def wall(self) -> float:
        """Return seconds since the Unix epoch; for people and records only."""
        ...

    async def sleep(self, delay_s: float) -> None:
        """Wait."""
        ...


class SystemClock:
    """The machine's clocks and the running event loop's timers."""

    #: Asked nine times a call, so nothing stands between.
    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)

    async def sleep(self, delay_s: float) -> None:
        """Wait on the event loop."""
        await asyncio.sleep(delay_s)


_THREADS = ThreadPoolExecutor(thread_name_prefix="mesh-io")


async def _in_thread(function: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(_THREADS, function)


@dataclass(frozen=True)
class Runtime:
    """What the process runs on."""

    clock: Clock = field(default_factory=SystemClock)
    random: random.Random = field(default_factory=random.SystemRandom)
    #: Runs a blocking function off the event loop.
    offload: Callable[[Callable[[], Any]], Awaitable[Any]] = _in_thread

    def new_id(self) -> str:
        """Return a UUIDv7 (RFC 9562): unique, and ordered by time to the millisecond."""
        millis = int(self.clock.wall() * 1000) & ((1 << 48) - 1)
        bits = self.random.getrandbits(74)
        time = f"{millis >> 16:08x}-{millis & 0xFFFF:04x}"
        node = f"{0x8000 | (bits >> 48) & 0x3FFF:04x}-{bits & 0xFFFFFFFFFFFF:012x}"
        return f"{time}-{0x7000 | bits >> 62:04x}-{node}"
