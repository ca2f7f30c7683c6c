"""The consumer: from the bus, through the inbox, to a service's functions.

An event whose turn it is is applied in one transaction with its place in the inbox. If its function
has an outside part, that is done first, at least once, and with the same event each time. What
fails is tried again with backoff, and after `ATTEMPTS_MAX` answers is dead: it and the later events
of its aggregate wait for an operator, and nobody else does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from ..call import Call, Principal
from ..errors import MeshError, Outcome
from ..layers.backoff import Backoff
from ..node import Node
from ..runtime import beside
from ..runtime.logs import log
from ..service import Context, Subscriber
from ..storage.port import StorageError, Store, Tx
from .delivery import as_call, served
from .inbox import WAIT_MAX_S, Inbox, Kept, State
from .port import Bus, BusError, Event, Subscription

#: Answers, of one event, after which it is dead; silence is not counted.
ATTEMPTS_MAX = 10
BACKOFF = Backoff(base_s=0.2, max_s=WAIT_MAX_S)
#: How long the outside part of one attempt may take; what is left of the wait is for its commit.
OUTSIDE_TIMEOUT_S = WAIT_MAX_S - 15.0
#: The inbox is looked at this often at least: an operator or a replica may have changed it.
POLL_S = 1.0
OBSERVE_S = 5.0


class Consumer:
    """One subscription of one service.

    Args:
        name: of the subscription; its replicas share it.
        subscribers: what to do with each topic.
        context: makes what the outside parts may use.
        at_once: kept events that are worked on at the same time.
    """

    def __init__(
        self,
        node: Node,
        store: Store,
        bus: Bus,
        name: str,
        subscribers: Mapping[str, Subscriber],
        context: Callable[[Call], Context[Any]],
        at_once: int = 32,
    ) -> None:
        self._node = node
        self._runtime = node.runtime
        self._store = store
        self._bus = bus
        self._name = name
        self._subscribers = subscribers
        self._context = context
        self._at_once = at_once
        self.inbox = Inbox(name)
        self._wake = asyncio.Event()
        self._working: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._subscription: Subscription | None = None
        claims = any(subscriber.outside for subscriber in subscribers.values())
        #: Whether events may be claimed by a process that is dead, as any other is here.
        self._orphaned = claims and not store.shared

    async def start(self) -> None:
        """Subscribe, and take up what is kept."""
        clock = self._runtime.clock
        self._tasks = [
            beside.begin(beside.keep_on("work on the inbox", self._look, clock, POLL_S)),
            beside.begin(beside.keep_on("a look at the lag", self._observe, clock, OBSERVE_S)),
        ]
        self._subscription = await self._bus.subscribe(
            self._name, list(self._subscribers), self.receive
        )

    async def stop(self) -> None:
        """Stop where it stands; inbox and broker know where to go on."""
        if self._subscription:
            await self._subscription.close()
        await beside.end(*self._tasks, *self._working.values())
        metrics = self._node.metrics
        for gauge in (metrics.inbox, metrics.inbox_gap, metrics.bus_lag):
            gauge.remove_by_labels({"subscription": self._name})

    async def lag(self) -> int:
        """Return how many events the bus still has for this subscription.

        Raises:
            BusError: it does not say.
        """
        if self._subscription is None:
            raise BusError("not subscribed yet")
        return await self._subscription.lag()

    async def receive(self, event: Event) -> None:
        """Apply or keep *event*; once this returns the broker may forget it.

        Raises:
            StorageError: neither is certain; it is to be delivered again.
        """
        subscriber = self._subscribers[event.topic]
        if subscriber.outside is not None:
            await self._store.write(lambda tx: self.inbox.keep(tx, event))
            self._wake.set()
            return
        with served(event, self._node.tracer):
            try:
                wake = await self._store.write(
                    lambda tx: self._apply_in_turn(tx, event, subscriber)
                )
            except StorageError:
                raise
            except Exception as error:  # noqa: BLE001  # a function's failure is its event's
                found = self._explain(event, error)
                delay_s = BACKOFF.delay_s(1, self._runtime.random)
                await self._store.write(lambda tx: self.inbox.keep(tx, event, found, delay_s))
                wake = True
        if wake:
            self._wake.set()

    async def _apply_in_turn(self, tx: Tx, event: Event, subscriber: Subscriber) -> bool:
        """Apply *event* if it is next, else keep it; whether there is something to work on."""
        head = await self.inbox.applied(tx, event)
        if event.version <= head:
            return False
        if event.version > head + 1 or await self.inbox.is_kept(tx, event):
            await self.inbox.keep(tx, event)
            return False
        return await self._apply(tx, event, subscriber)

    async def _apply(self, tx: Tx, event: Event, subscriber: Subscriber, *result: Any) -> bool:
        tx.principal, tx.correlation_id = Principal(event.source), event.correlation_id
        tx.subscription = self._name
        await subscriber.apply(tx, event.message(), *result)
        more = await self.inbox.advance(tx, event)
        self._node.metrics.events_applied.labels(event.topic).inc()
        return more

    async def _look(self) -> None:
        """Begin work on what is kept, one event of each aggregate at a time; wait for more."""
        self._wake.clear()
        if self._orphaned:
            await self._store.write(self.inbox.let_go)
            self._orphaned = False
        due, delay_s = await self._store.read(self._due)
        for kept in due:
            self._begin(kept)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(POLL_S, POLL_S if delay_s is None else delay_s)):
                await self._wake.wait()

    async def _due(self, tx: Tx) -> tuple[list[Kept], float | None]:
        return await self.inbox.due(tx, self._at_once + len(self._working))

    def _begin(self, kept: Kept) -> None:
        key = (kept.event.topic, kept.event.aggregate)
        if key in self._working or len(self._working) >= self._at_once:
            return
        task = beside.begin(self._again(kept))
        self._working[key] = task

        def ended(_: asyncio.Task[None]) -> None:
            self._working.pop(key, None)
            self._wake.set()

        task.add_done_callback(ended)

    async def _again(self, kept: Kept) -> None:
        """Try a kept event once."""
        with served(kept.event, self._node.tracer):
            try:
                await self._try(kept)
            except Exception as error:  # noqa: BLE001  # mostly the database's
                log.error("an event waits", event_id=kept.event.event_id, exc_info=error)
                await self._runtime.clock.sleep(BACKOFF.delay_s(3, self._runtime.random))

    async def _try(self, kept: Kept) -> None:
        event = kept.event
        ends = self._runtime.clock.monotonic() + OUTSIDE_TIMEOUT_S
        subscriber = self._subscribers.get(event.topic)
        if subscriber is None:  # its function is gone from the code
            await self._postpone(kept, WAIT_MAX_S)
            return
        if subscriber.outside is not None:
            claimed = await self._postpone(kept, WAIT_MAX_S)
            if claimed is None:  # a replica has it
                return
            kept = claimed
        try:
            result = await self._outside(event, subscriber, ends)
            await self._store.write(lambda tx: self._apply_kept(tx, event, subscriber, *result))
        except StorageError:
            raise
        except Exception as error:  # noqa: BLE001  # a function's failure is its event's
            await self._note_failure(kept, error)

    async def _postpone(self, kept: Kept, delay_s: float) -> Kept | None:
        return await self._store.write(lambda tx: self.inbox.postpone(tx, kept, delay_s))

    async def _outside(self, event: Event, subscriber: Subscriber, ends: float) -> tuple[Any, ...]:
        """Do the outside part, if there is one, until *ends*; return its result."""
        if subscriber.outside is None:
            return ()
        call = as_call(event, ends)
        async with asyncio.timeout(ends - self._runtime.clock.monotonic()):
            return (await subscriber.outside(self._context(call), call.request),)

    async def _apply_kept(self, tx: Tx, event: Event, subscriber: Subscriber, *result: Any) -> None:
        if await self.inbox.applied(tx, event) < event.version:
            await self._apply(tx, event, subscriber, *result)
        await self.inbox.remove(tx, event)

    async def _note_failure(self, kept: Kept, error: Exception) -> None:
        event, attempts = kept.event, kept.attempts + 1
        if _is_silence(error):
            log.warning(
                "event waits", topic=event.topic, event_id=event.event_id, error=_name(error)
            )
            await self._postpone(kept, BACKOFF.max_s / 10)
            return
        found = self._explain(event, error)
        delay_s = BACKOFF.delay_s(attempts, self._runtime.random)
        dead = attempts >= ATTEMPTS_MAX
        noted = await self._store.write(
            lambda tx: self.inbox.failed(tx, kept, found, delay_s, dead)
        )
        if noted and dead:
            log.error("event is dead", topic=event.topic, event_id=event.event_id, error=found)

    def _explain(self, event: Event, error: Exception) -> str:
        """Log what happened; return what may be stored of it: no text of the function's."""
        self._node.metrics.events_failed.labels(event.topic).inc()
        error_id = self._runtime.new_id()
        log.warning(
            "event failed",
            topic=event.topic,
            event_id=event.event_id,
            error_id=error_id,
            exc_info=error,
        )
        return f"{_name(error)} (error_id {error_id})"

    async def _kept(self, tx: Tx) -> tuple[dict[State, int], float]:
        return await self.inbox.counts(tx), await self.inbox.gap_s(tx)

    async def _observe(self) -> None:
        """Keep the gauges: what is kept here, and what the broker still has for us."""
        metrics = self._node.metrics
        counts, gap_s = await self._store.read(self._kept)
        for state in State:
            metrics.inbox.labels(self._name, state.name.lower()).set(counts[state])
        metrics.inbox_gap.labels(self._name).set(gap_s)
        if self._subscription:
            with contextlib.suppress(BusError):
                metrics.bus_lag.labels(self._name).set(await self._subscription.lag())
        await self._runtime.clock.sleep(OBSERVE_S)


def _is_silence(error: Exception) -> bool:
    """Whether *error* says nothing about the event: somebody was not there."""
    if isinstance(error, MeshError):
        return error.outcome is not Outcome.REFUSED and error.reason != "INTERNAL"
    return isinstance(error, OSError)  # TimeoutError is one


def _name(error: Exception) -> str:
    return error.reason if isinstance(error, MeshError) else type(error).__name__
