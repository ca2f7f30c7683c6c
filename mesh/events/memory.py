"""The bus port in memory: a broker that lives as long as its process.

For tests and the simulator, where it outlives the nodes it serves. It keeps every event, so a new
group gets them all from the first; nothing survives its own process.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..runtime.clock import Runtime
from .port import Deliver, Event

#: An event that was not confirmed after this long is delivered again.
ACK_WAIT_S = 5.0
RETRY_S = 0.5
#: Events that a group may have under way.
WINDOW = 256


class MemoryBus:
    """A broker in this process."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._log: dict[str, Event] = {}
        self._groups: dict[str, _Group] = {}

    async def publish(self, event: Event) -> None:
        """Keep *event*, unless it is here already."""
        if event.event_id in self._log:
            return
        self._log[event.event_id] = event
        for group in self._groups.values():
            group.offer(event)

    async def subscribe(
        self, group: str, topics: Sequence[str], deliver: Deliver
    ) -> MemorySubscription:
        """Add a member to *group*."""
        if group not in self._groups:
            made = self._groups[group] = _Group(self._runtime, frozenset(topics))
            for event in self._log.values():
                made.offer(event)
        return MemorySubscription(self._groups[group], deliver)

    async def forget(self, group: str) -> None:
        """Forget *group*."""
        self._groups.pop(group, None)

    @property
    def unconfirmed(self) -> int:
        """How many events some group has yet to confirm."""
        return sum(group.lag for group in self._groups.values())

    async def close(self) -> None:
        """There is nothing to let go of."""


@dataclass
class _Group:
    """What a group has not confirmed yet, and who takes it."""

    runtime: Runtime
    topics: frozenset[str]
    waiting: deque[Event] = field(default_factory=deque)
    under_way: int = 0
    filled: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def lag(self) -> int:
        return len(self.waiting) + self.under_way

    def offer(self, event: Event) -> None:
        if event.topic in self.topics:
            self.waiting.append(event)
            self.filled.set()

    async def take(self) -> Event:
        while not self.waiting:
            self.filled.clear()
            await self.filled.wait()
        return self.waiting.popleft()

    def give_back(self, event: Event) -> None:
        self.waiting.appendleft(event)
        self.filled.set()


class MemorySubscription:
    """One member of a group."""

    def __init__(self, group: _Group, deliver: Deliver) -> None:
        self._group = group
        self._deliver = deliver
        self._window = asyncio.Semaphore(WINDOW)
        # Their context is the broker's, not that of whoever subscribed.
        self._context = contextvars.Context()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._taking = asyncio.get_running_loop().create_task(self._take(), context=self._context)

    async def lag(self) -> int:
        """Return how many events wait or are under way."""
        return self._group.lag

    async def close(self) -> None:
        """Leave the group."""
        self.drop()
        await asyncio.gather(self._taking, *self._tasks.values(), return_exceptions=True)

    def drop(self) -> None:
        """Leave at once, as a member does that dies."""
        for task in (self._taking, *self._tasks.values()):
            task.cancel()

    async def _take(self) -> None:
        while True:
            await self._window.acquire()
            event = await self._group.take()
            self._group.under_way += 1
            task = asyncio.get_running_loop().create_task(
                self._deliver_until_confirmed(event), context=self._context
            )
            self._tasks[event.event_id] = task
            task.add_done_callback(functools.partial(self._done, event))

    async def _deliver_until_confirmed(self, event: Event) -> None:
        while True:
            try:
                async with asyncio.timeout(ACK_WAIT_S):
                    return await self._deliver(event)
            except Exception:  # noqa: BLE001  # not confirmed, whatever it was
                await self._group.runtime.clock.sleep(RETRY_S)

    def _done(self, event: Event, task: asyncio.Task[None]) -> None:
        self._group.under_way -= 1
        if task.cancelled():  # perhaps before it began
            self._group.give_back(event)
        self._tasks.pop(event.event_id, None)
        self._window.release()
