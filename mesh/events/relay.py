"""The relay: from the outbox to the bus.

Of each aggregate one event is under way at a time, and it is marked only once the broker has
confirmed it: so events arrive in order, and at least once. While the broker is away they wait.
"""

from __future__ import annotations

import asyncio
import functools

from ..layers.backoff import Backoff
from ..runtime import beside
from ..runtime.clock import Runtime
from ..runtime.logs import log
from ..runtime.metrics import Metrics
from ..storage import leases
from ..storage.port import Store
from . import outbox
from .port import Bus, BusError, Event

#: Aggregates whose events are under way at the same time.
BATCH = 256
#: The relay looks at least this often while events wait, or where a replica's commit may have gone
#: unnoticed; else seldom.
POLL_S, IDLE_S = 1.0, 30.0
LEASE = "relay"
LEASE_S = 15.0
#: Once the broker is back, what waits goes out within this: asking an absent one costs little.
BACKOFF = Backoff(base_s=0.1, max_s=1.0)
#: After an error that is not the broker's, the database's mostly.
STORE_RETRY_S = 5.0


class Relay:
    """Publishes what one database's outbox holds; one relay of all replicas works at a time."""

    def __init__(
        self, store: Store, bus: Bus, runtime: Runtime, metrics: Metrics, source: str
    ) -> None:
        self._store = store
        self._bus = bus
        self._runtime = runtime
        self._metrics = metrics
        self._source = source
        self._task: asyncio.Task[None] | None = None
        self._holder = runtime.new_id()
        self._held_until = 0.0
        self._ask_at = 0.0
        self._failures = 0
        self._idle_s = POLL_S
        self._refusal = ""  # what the broker said last

    def start(self) -> None:
        """Relay from now on."""
        self._task = beside.begin(self._run())

    async def stop(self) -> None:
        """Stop where it stands; what is not marked is published again."""
        await beside.end(self._task)

    async def _run(self) -> None:
        try:
            await beside.keep_on("the relay", self._step, self._runtime.clock, STORE_RETRY_S)
        finally:
            if self._held_until:
                await asyncio.shield(
                    self._store.write(lambda tx: leases.give_back(tx, LEASE, self._holder))
                )

    async def _step(self) -> None:
        """Publish one batch; without one, wait for a commit."""
        changed = asyncio.ensure_future(self._store.changed())
        try:
            moved = await self._pass()
            delay_s = self._pause_s()
            if delay_s:
                await self._runtime.clock.sleep(delay_s)
            elif not moved:
                await _first(changed, self._idle_s)
        finally:
            changed.cancel()

    async def _pass(self) -> bool:
        """Publish one batch; whether there was one."""
        events = await self._store.read(lambda tx: outbox.heads(tx, self._source, BATCH))
        self._metrics.outbox_oldest.set(
            max(0.0, self._runtime.clock.wall() - events[0].time) if events else 0.0
        )
        self._idle_s = POLL_S if events or self._store.shared else IDLE_S
        if not events or not await self._is_ours():
            return False
        published = await asyncio.gather(*(self._publish(event) for event in events))
        confirmed = [event for event, done in zip(events, published, strict=True) if done]
        if confirmed:
            await self._store.write(functools.partial(outbox.mark_published, events=confirmed))
        self._note(len(events) - len(confirmed))
        return bool(confirmed)

    async def _is_ours(self) -> bool:
        now = self._runtime.clock.monotonic()
        if now < self._held_until - LEASE_S / 2:
            return True
        if now < self._ask_at:
            return False
        self._ask_at = now + POLL_S
        held = await self._store.write(
            lambda tx: leases.take(tx, LEASE, self._holder, ttl_s=LEASE_S)
        )
        self._held_until = now + LEASE_S if held else 0.0
        return held

    async def _publish(self, event: Event) -> bool:
        try:
            await self._bus.publish(event)
        except Exception as error:  # noqa: BLE001  # a bug at one event is not to hold up the others
            self._refusal = str(error) if isinstance(error, BusError) else repr(error)
            return False
        self._metrics.events_published.labels(event.topic).inc()
        return True

    def _note(self, failed: int) -> None:
        """Say once that the broker is away, and once that it is back."""
        if failed and not self._failures:
            log.warning(
                "the broker does not confirm: events wait in the outbox",
                failed=failed,
                error=self._refusal,
            )
        if not failed and self._failures:
            log.info("the broker confirms again")
        self._failures = self._failures + 1 if failed else 0

    def _pause_s(self) -> float:
        return BACKOFF.delay_s(self._failures, self._runtime.random) if self._failures else 0.0


async def _first(change: asyncio.Future[None], timeout_s: float) -> None:
    """Wait for *change*, at most *timeout_s*."""
    try:
        async with asyncio.timeout(timeout_s):
            await change
    except TimeoutError:
        return
