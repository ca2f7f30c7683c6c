"""The bus port in memory: a broker that lives as long as its process.

For tests and the simulator, where it outlives the nodes it serves. It keeps every event, so a new
group gets them all from the first; nothing survives its own process.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections import deque
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

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
        self._groups: dict[str, dict[str, _Topic]] = {}

    async def publish(self, event: Event) -> None:
        """Keep *event*, unless it is here already."""
        if event.event_id in self._log:
            return
        self._log[event.event_id] = event
        for group in self._groups.values():
            if event.topic in group:
                group[event.topic].offer(event)

    async def subscribe(
        self, group: str, topics: Sequence[str], deliver: Deliver
    ) -> MemorySubscription:
        """Add a member to *group*."""
        known = self._groups.setdefault(group, {})
        for topic in topics:
            if topic not in known:
                known[topic] = _Topic()
                for event in self._log.values():
                    if event.topic == topic:
                        known[topic].offer(event)
        return MemorySubscription([known[topic] for topic in topics], deliver, self._runtime)

    async def forget(self, group: str) -> None:
        """Forget *group*."""
        self._groups.pop(group, None)

    @property
    def unconfirmed(self) -> int:
        """How many events some group has yet to confirm."""
        return sum(topic.lag for group in self._groups.values() for topic in group.values())

    async def close(self) -> None:
        """There is nothing to let go of."""


@dataclass
class _Topic:
    """What a group has not confirmed yet of one topic."""

    waiting: deque[Event] = field(default_factory=deque)
    under_way: int = 0
    filled: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def lag(self) -> int:
        return len(self.waiting) + self.under_way

    def offer(self, event: Event) -> None:
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

    def __init__(self, topics: Sequence[_Topic], deliver: Deliver, runtime: Runtime) -> None:
        self._topics = topics
        self._deliver = deliver
        self._runtime = runtime
        self._window = asyncio.Semaphore(WINDOW)
        # Their context is the broker's, not that of whoever subscribed.
        self._context = contextvars.Context()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._taking = [self._begin(self._take(topic)) for topic in topics]

    async def lag(self) -> int:
        """Return how many events wait or are under way."""
        return sum(topic.lag for topic in self._topics)

    async def close(self) -> None:
        """Leave the group."""
        self.drop()
        await asyncio.gather(*self._taking, *self._tasks.values(), return_exceptions=True)

    def drop(self) -> None:
        """Leave at once, as a member does that dies."""
        for task in (*self._taking, *self._tasks.values()):
            task.cancel()

    async def _take(self, topic: _Topic) -> None:
        while True:
            await self._window.acquire()
            event = await topic.take()
            topic.under_way += 1
            task = self._begin(self._deliver_until_confirmed(event))
            self._tasks[event.event_id] = task
            task.add_done_callback(functools.partial(self._done, topic, event))

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work, context=self._context)

    async def _deliver_until_confirmed(self, event: Event) -> None:
        while True:
            try:
                async with asyncio.timeout(ACK_WAIT_S):
                    return await self._deliver(event)
            except Exception:  # noqa: BLE001  # not confirmed, whatever it was
                await self._runtime.clock.sleep(RETRY_S)

    def _done(self, topic: _Topic, event: Event, task: asyncio.Task[None]) -> None:
        topic.under_way -= 1
        if task.cancelled():  # perhaps before it began
            topic.give_back(event)
        self._tasks.pop(event.event_id, None)
        self._window.release()
