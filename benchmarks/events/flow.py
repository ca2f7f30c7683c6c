"""Two services and a broker: one publishes, the other applies, the broker is killed meanwhile.

The services are real ones below their gRPC: outbox, relay, inbox, each on a SQLite file that syncs
every commit. What was applied is read from the listener's file when all is over.
"""

from __future__ import annotations

import asyncio
import functools
import random
import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from google.protobuf.type_pb2 import EnumValue

from mesh.events import outbox
from mesh.events.consumer import Consumer
from mesh.events.port import Bus, BusError, Event
from mesh.events.relay import Relay
from mesh.node import Node
from mesh.runtime.clock import Runtime
from mesh.service import Subscriber
from mesh.storage.migrate import Migration, own_migrations
from mesh.storage.port import Tx
from mesh.storage.sqlite import SqliteStore
from tests.support.brokers import Broker

#: protobuf's own message of a text and a number: a counter's name, and how often it was raised.
Raised = EnumValue
WRITERS = 32
APPLIED = Migration(
    "0001_applied.sql",
    "CREATE TABLE applied (place INTEGER PRIMARY KEY, name TEXT NOT NULL, number BIGINT NOT NULL)",
)
#: A broker that was killed stays away for up to this long.
AWAY_MAX_S = 1.0
#: Nothing was applied for so long: it has stopped for good.
STALLED_S = 120.0
LOOK_S = 0.01


class StalledError(Exception):
    """Events do not arrive any more."""


@dataclass
class Outcome:
    """What became of the events, by the listener's own file."""

    events: int
    kills: int
    seconds: float
    delivered: int
    lost: int
    twice: int
    disordered: int
    waiting: list[int] = field(default_factory=list)
    resumed_s: list[float] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether each event was applied once, in the order of its counter."""
        return not (self.lost or self.twice or self.disordered)


class Listener(Consumer):
    """Counts what the broker delivers, again included."""

    delivered = 0

    async def receive(self, event: Event) -> None:
        """Take one."""
        self.delivered += 1
        await super().receive(event)


class Flow:
    """Both services and the broker, in *folder*."""

    def __init__(self, folder: Path, broker: Broker, counters: int, seed: int) -> None:
        runtime = Runtime()
        self._broker = broker
        self._counters = counters
        self._chance = random.Random(seed)  # noqa: S311  # chooses when to kill
        self._file = folder / "listener.db"
        self._published = SqliteStore(folder / "publisher.db", runtime, own_migrations())
        self._heard = SqliteStore(self._file, runtime, [*own_migrations(), APPLIED])
        self._buses: list[Bus] = [broker.bus(), broker.bus()]
        publisher, listener = Node("publisher", runtime), Node("listener", runtime)
        self._relay = Relay(
            self._published, self._buses[0], runtime, publisher.metrics, publisher.name
        )
        subscriber = Subscriber(Raised, self._apply, None)
        topic = Raised.DESCRIPTOR.full_name
        self._listener = Listener(
            listener, self._heard, self._buses[1], listener.name, {topic: subscriber}, _no_outside
        )
        self._applied = 0

    async def run(self, events: int, kills: int, done: Callable[[], None]) -> Outcome:
        """Publish *events* and kill the broker *kills* times before all of them are applied.

        Raises:
            StalledError: they do not arrive any more.
        """
        self._done = done
        began = time.monotonic()
        await self._listener.start()
        self._relay.start()
        writing = [self._write(n, events) for n in range(WRITERS)]
        _, (waiting, resumed_s), _ = await asyncio.gather(
            asyncio.gather(*writing), self._kill(events, kills), self._until_applied(events)
        )
        seconds = time.monotonic() - began
        delivered = self._listener.delivered
        await self.close()
        lost, twice, disordered = count(self._file, events, self._counters)
        return Outcome(
            events, kills, seconds, delivered, lost, twice, disordered, waiting, resumed_s
        )

    async def close(self) -> None:
        """Stop both services."""
        await self._listener.stop()
        await self._relay.stop()
        for bus in self._buses:
            await bus.close()
        await self._heard.close()
        await self._published.close()

    async def _write(self, writer: int, events: int) -> None:
        """Raise the counters that are this writer's, one transaction each."""
        for serial in range(events):
            earlier, counter = divmod(serial, self._counters)
            if counter % WRITERS != writer:
                continue
            raised = Raised(name=str(counter), number=earlier + 1)
            await self._published.write(functools.partial(outbox.append, event=raised))

    async def _apply(self, tx: Tx, event: Any, *_: Any) -> None:
        await tx.execute(
            "INSERT INTO applied (name, number) VALUES ($1, $2)", event.name, event.number
        )
        self._applied += 1
        self._done()

    async def _kill(self, events: int, kills: int) -> tuple[list[int], list[float]]:
        """Kill the broker at random instants; return what waited each time, and how long it took.

        That is the time from its being back to the next event that was applied.
        """
        waiting, resumed_s = [], []
        for at in sorted(self._chance.randrange(1, events) for _ in range(kills)):
            await self._until_more_than(at - 1)
            await self._broker.kill()
            waiting.append(await self._published.read(_unpublished))
            await asyncio.sleep(self._chance.uniform(0, AWAY_MAX_S))
            await self._broker.start()
            back, so_far = time.monotonic(), self._applied
            await self._until_more_than(min(so_far, events - 1))
            resumed_s.append(round(time.monotonic() - back, 3))
        return waiting, resumed_s

    async def _until_more_than(self, applied: int) -> None:
        while self._applied <= applied:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(LOOK_S)

    async def _until_applied(self, events: int) -> None:
        """Wait until all are, and the broker has nothing left to deliver."""
        seen, since = -1, time.monotonic()
        while True:
            if self._applied != seen:
                seen, since = self._applied, time.monotonic()
            if self._applied >= events and await self._is_idle():
                return
            if time.monotonic() - since > STALLED_S:
                raise StalledError(f"{self._applied:,} of {events:,} events were applied")
            await asyncio.sleep(LOOK_S * 10)

    async def _is_idle(self) -> bool:
        try:
            return not await self._listener.lag()
        except BusError:
            return False


def count(file: Path, events: int, counters: int) -> tuple[int, int, int]:
    """Return how many events are lost, applied twice, or out of order in the listener's *file*."""
    seen: dict[str, list[int]] = defaultdict(list)
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as database:
        for name, number in database.execute("SELECT name, number FROM applied ORDER BY place"):
            seen[name].append(number)
    lost = twice = disordered = 0
    for counter in range(counters):
        numbers = seen.pop(str(counter), [])
        lost += len(range(counter, events, counters)) - len(set(numbers))
        twice += len(numbers) - len(set(numbers))
        disordered += sum(a > b for a, b in pairwise(numbers))
    if seen:
        raise ValueError(f"events that nobody published: {sorted(seen)[:5]}")
    return lost, twice, disordered


async def _unpublished(tx: Tx) -> int:
    ((found,),) = await tx.execute("SELECT COUNT(*) FROM mesh_outbox WHERE published_at IS NULL")
    return int(found)


def _no_outside(_: Any) -> Any:
    raise AssertionError("nothing here is outside")
