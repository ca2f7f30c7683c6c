"""A service with a read model of what it hears."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mesh.call import Call
from mesh.events.consumer import Consumer
from mesh.events.memory import MemoryBus, MemorySubscription
from mesh.events.port import BusError, Deliver
from mesh.events.read_models import ReadModels, begin, current
from mesh.node import Node
from mesh.runtime.clock import Runtime
from mesh.service import Context, Subscriber
from mesh.storage.migrate import Migration, own_migrations
from mesh.storage.port import Store, Tx
from tests.support.things import TOPIC, ThingEvent, thing

TABLE = Migration(
    "0001_seen.sql",
    "CREATE TABLE seen (model TEXT NOT NULL, thing TEXT NOT NULL, number BIGINT NOT NULL)",
)
SCHEMA = (*own_migrations(), TABLE)


class Broker(MemoryBus):
    """Is away now and then."""

    away = False

    async def subscribe(
        self, group: str, topics: Sequence[str], deliver: Deliver
    ) -> MemorySubscription:
        subscription = await super().subscribe(group, topics, deliver)
        there = subscription.lag

        async def lag() -> int:
            self._check()
            return await there()

        subscription.lag = lag  # type: ignore[method-assign]
        return subscription

    async def forget(self, group: str) -> None:
        self._check()
        await super().forget(group)

    def _check(self) -> None:
        if self.away:
            raise BusError("away")


class Reader:
    """A service with a read model of things; `sign` is its code's version."""

    def __init__(self, store: Store, runtime: Runtime) -> None:
        self.store, self.runtime = store, runtime
        self.bus = Broker(self.runtime)
        self.sign = 1
        self.fails = False
        self.models = self._models()

    def _models(self) -> ReadModels:
        return ReadModels(self.store, self.bus, self.runtime, "seen", ["seen"], self._follow)

    def _follow(self, name: str) -> Consumer:
        subscriber = Subscriber(ThingEvent, self._apply)
        node = Node("seen", self.runtime)
        return Consumer(node, self.store, self.bus, name, {TOPIC: subscriber}, self._context)

    def _context(self, call: Call) -> Context[Any]:
        return Context(None, self.store, self.runtime, call)

    async def _apply(self, tx: Tx, event: Any) -> None:
        if self.fails and tx.subscription != "seen":
            raise ConnectionError
        await tx.execute(
            "INSERT INTO seen VALUES ($1, $2, $3)",
            tx.subscription,
            event.thing_id,
            event.number * self.sign,
        )

    async def publish(self, first: int, last: int) -> None:
        for version in range(first, last + 1):
            await self.bus.publish(thing(version=version))
        await self.runtime.clock.sleep(0.5)

    async def seen(self) -> list[int]:
        async def work(tx: Tx) -> list[int]:
            rows = await tx.execute(
                "SELECT number FROM seen WHERE model = $1 ORDER BY ABS(number)", await current(tx)
            )
            return [number for (number,) in rows]

        return await self.store.read(work)

    async def all_models(self) -> list[str]:
        found = await self.store.read(lambda tx: tx.execute("SELECT DISTINCT model FROM seen"))
        return [name for (name,) in found]

    async def rebuild(self) -> str:
        return await self.store.write(lambda tx: begin(tx, "seen"))
