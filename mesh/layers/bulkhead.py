"""The bulkhead: so many calls to one method at a time, so many more that wait, and no more.

A target that has become slow holds its callers' calls; without a bound it would in the end hold
all there is of memory, connections and time, and those who never call it suffer with those who
do. (M. Nygard, *Release It!*, 2nd ed. 2018, chapter 5.)
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from threading import Lock
from typing import Any

from ..call import Call, Handler, Layer, StreamHandler
from ..errors import EXHAUSTED_S, Overloaded
from ..runtime.clock import Runtime
from ..runtime.metrics import Metrics
from .streams import Reading


class BulkheadFull(Overloaded):
    """As many calls of the method as may be are under way: this one was not sent."""

    reason = "BULKHEAD_FULL"


@dataclass(frozen=True)
class BulkheadConfig:
    """How many calls of a method are under way at a time.

    `queue_max` more wait, first come first served, each `wait_s` seconds at most. A queue needs
    an event loop: without one, on sync channels, it is refused.
    """

    concurrent_max: int = 1000
    queue_max: int = 0
    wait_s: float = 1.0

    def __post_init__(self) -> None:
        if self.concurrent_max < 1 or self.queue_max < 0 or self.wait_s <= 0.0:
            raise ValueError(
                "a bulkhead lets at least one call through, and who waits does so for some time"
            )


class Slots:
    """The places of one bulkhead. Without a queue it is thread-safe."""

    def __init__(self, config: BulkheadConfig) -> None:
        self._config = config
        self._lock = Lock()
        self._waiting: deque[asyncio.Future[bool]] = deque()
        self.taken = 0

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def take(self) -> bool:
        """Take a place, if one is free."""
        with self._lock:
            if self.taken >= self._config.concurrent_max:
                return False
            self.taken += 1
            return True

    async def wait(self, wait_s: float) -> bool:
        """Take a place when one becomes free within *wait_s* seconds; whether one did."""
        if len(self._waiting) >= self._config.queue_max or wait_s <= 0.0:
            return False
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[bool] = loop.create_future()
        timer = loop.call_later(wait_s, _too_late, turn)
        self._waiting.append(turn)
        try:
            return await turn
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.result():
                self.give_back()  # it came in the moment in which the caller left
            raise
        finally:
            timer.cancel()
            with contextlib.suppress(ValueError):
                self._waiting.remove(turn)

    def give_back(self) -> None:
        """Let the first who waits have the place, or nobody."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(True)
                return
        with self._lock:
            self.taken -= 1


def _too_late(turn: asyncio.Future[bool]) -> None:
    if not turn.done():
        turn.set_result(False)


class Bulkhead(Layer):
    """One bulkhead for each method."""

    def __init__(
        self, config: BulkheadConfig, runtime: Runtime, metrics: Metrics | None = None
    ) -> None:
        self._config = config
        self.suspends = config.queue_max > 0
        self._now = runtime.clock.monotonic
        self._metrics = metrics
        self.slots: defaultdict[str, Slots] = defaultdict(lambda: Slots(config))

    async def _wait(self, slots: Slots, call: Call) -> None:
        """Wait for a place, not beyond the call's deadline.

        Raises:
            BulkheadFull: there was none. It is not worth a retry: the queue was that.
        """
        wait_s = min(self._config.wait_s, call.deadline - self._now())
        if await slots.wait(wait_s):
            return
        method = call.method.full_name
        if self._metrics:
            self._metrics.load.bulkhead_full.labels(method).inc()
        most = self._config.concurrent_max
        raise BulkheadFull(f"{most} calls of {method} are under way", retry_after_s=EXHAUSTED_S)

    def __call__(self, inner: Handler) -> Handler:
        """Let calls through while there are places."""

        async def limited(call: Call) -> Any:
            slots = self.slots[call.method.path]
            if not slots.take():
                await self._wait(slots, call)
            try:
                return await inner(call)
            finally:
                slots.give_back()

        return limited

    def stream(self, inner: StreamHandler) -> StreamHandler:
        """The same; a stream has its place until its end."""

        async def limited(call: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
            slots = self.slots[call.method.path]
            if not slots.take():
                await self._wait(slots, call)
            try:
                async with Reading(inner(call, requests)) as replies:
                    async for reply in replies:
                        yield reply
            finally:
                slots.give_back()

        return limited
