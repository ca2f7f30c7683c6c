"""Time, chance and threads: what a process gets from its machine, in one replaceable piece.

Everything else in the mesh receives a `Runtime` and asks it; the simulator hands in its own, so
that a whole system replays from a seed.
"""

from __future__ import annotations

import asyncio
import os
import random
import struct
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from .driven import Rest

T = TypeVar("T")


def timestamp(seconds: float) -> Timestamp:
    """Return *seconds* since the epoch, to the microsecond, as messages have them."""
    made = Timestamp()
    made.FromMicroseconds(int(seconds * 1e6))
    return made


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


class DrivenClock:
    """The same clocks for layers without an event loop: who drives them waits out their sleeps."""

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)

    async def sleep(self, delay_s: float) -> None:
        """Pause."""
        await Rest(delay_s)


class OsRandom(random.SystemRandom):
    """The machine's own chance, fetched 4 KiB at a time.

    Every id is made of it. A system call for each would cost what the whole rest of the client's
    stack does.
    """

    def __init__(self) -> None:
        super().__init__()
        self.forget()

    def forget(self) -> None:
        """Throw away what was fetched."""
        self._words: Iterator[tuple[int, int]] = iter(())

    def getrandbits(self, k: int) -> int:
        """Return *k* random bits."""
        if k > 128:
            return super().getrandbits(k)
        words = next(self._words, None)  # of a C iterator: no two threads get the same
        if words is None:
            fetched = struct.iter_unpack("=QQ", os.urandom(4096))
            words = next(fetched)
            self._words = fetched
        return (words[0] << 64 | words[1]) >> (128 - k)


_CHANCE = OsRandom()
os.register_at_fork(after_in_child=_CHANCE.forget)  # not the same ids as in the parent

_THREADS = ThreadPoolExecutor(thread_name_prefix="mesh-io")


async def _in_thread(function: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(_THREADS, function)


@dataclass(frozen=True)
class Runtime:
    """What the process runs on."""

    clock: Clock = field(default_factory=SystemClock)
    random: random.Random = field(default=_CHANCE)
    #: Runs a blocking function off the event loop.
    offload: Callable[[Callable[[], Any]], Awaitable[Any]] = _in_thread

    def new_id(self) -> str:
        """Return a UUIDv7 (RFC 9562): unique, and ordered by time to the millisecond."""
        millis = int(self.clock.wall() * 1000) & ((1 << 48) - 1)
        bits = self.random.getrandbits(74)
        return "%08x-%04x-%04x-%04x-%012x" % (  # noqa: UP031  # half the time of an f-string
            millis >> 16,
            millis & 0xFFFF,
            0x7000 | bits >> 62,
            0x8000 | (bits >> 48) & 0x3FFF,
            bits & 0xFFFFFFFFFFFF,
        )
