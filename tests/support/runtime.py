"""Time and chance for tests: nothing moves unless the test, or a sleep, moves it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from mesh.runtime.clock import Runtime


class FakeClock:
    """Stands still until `advance`; a sleep takes no time at all, yet moves the clock on."""

    def __init__(self) -> None:
        self._now = 1_000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self._now

    def wall(self) -> float:
        return 1_800_000_000.0 + self._now

    def advance(self, delay_s: float) -> None:
        self._now += delay_s

    async def sleep(self, delay_s: float) -> None:
        self.slept.append(delay_s)
        self.advance(delay_s)
        await asyncio.sleep(0)


class LargestRandom(random.Random):
    """Draws the upper bound every time, so that a test can say what a jittered delay will be."""

    def uniform(self, a: float, b: float) -> float:
        return max(a, b)


async def _at_once(function: Callable[[], Any]) -> Any:
    return function()


class FakeRuntime(Runtime):
    """A runtime on a `FakeClock`, with chance from a seed and no threads."""

    clock: FakeClock

    def __init__(self, chance: random.Random | None = None) -> None:
        super().__init__(FakeClock(), chance or random.Random(7), _at_once)
