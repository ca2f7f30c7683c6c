"""A service that notes the events it gets, on virtual time, with a database of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from mesh.call import Call
from mesh.events.consumer import Consumer
from mesh.events.memory import MemoryBus
from mesh.node import Node
from mesh.runtime.clock import Runtime
from mesh.service import Context, Subscriber
from mesh.storage.migrate import Migration, own_migrations
from mesh.storage.port import Store, Tx
from mesh.storage.sqlite import SqliteStore
from mesh.testing.loop import VirtualClock
from tests.support.things import TOPIC, ThingEvent

NOTES = Migration(
    "0001_notes.sql",
    "CREATE TABLE notes (thing TEXT NOT NULL, place BIGINT NOT NULL, number BIGINT NOT NULL,"
    " PRIMARY KEY (thing, place))",
)
SCHEMA = (*own_migrations(), NOTES)


async def _inline(function: Callable[[], Any]) -> Any:
    return function()


def virtual_runtime() -> Runtime:
    return Runtime(VirtualClock(), Random(1), _inline)


@dataclass
class World:
    """The service, and what its function is to do wrong: (thing, number) -> how often."""

    folder: Path
    runtime: Runtime = field(default_factory=virtual_runtime)
    failures: dict[tuple[str, int], int] = field(default_factory=dict)
    error: Exception = field(default_factory=lambda: ValueError("a bug"))
    outside: Callable[[Context[Any], Any], Any] | None = None

    def __post_init__(self) -> None:
        self.bus = MemoryBus(self.runtime)
        self.node = Node("notes", self.runtime)
        self.open()

    def open(self) -> None:
        self.store = self.opened()
        self.consumer = self.replica()

    def replica(self) -> Consumer:
        """Return a consumer as that of another process would be."""
        subscriber = Subscriber(ThingEvent, self.apply, self.outside)
        return Consumer(
            self.node, self.store, self.bus, "notes", {TOPIC: subscriber}, self._context
        )

    def opened(self) -> Store:
        return SqliteStore(self.folder / "notes.db", self.runtime, SCHEMA)

    async def crash(self) -> None:
        """End as kill -9 would, and start again."""
        await self.consumer.stop()
        assert isinstance(self.store, SqliteStore)
        self.store.abandon()
        self.open()
        await self.consumer.start()

    async def stop(self) -> None:
        await self.consumer.stop()
        await self.store.close()

    async def apply(self, tx: Tx, event: Any, *_: Any) -> None:
        await tx.execute(
            "INSERT INTO notes (thing, place, number)"
            " VALUES ($1, (SELECT COUNT(*) FROM notes WHERE thing = $1), $2)",
            event.thing_id,
            event.number,
        )
        left = self.failures.get((event.thing_id, event.number), 0)
        if left:
            self.failures[event.thing_id, event.number] = left - 1
            raise self.error

    async def notes(self, thing: str = "a") -> list[int]:
        async def work(tx: Tx) -> list[int]:
            found = await tx.execute(
                "SELECT number FROM notes WHERE thing = $1 ORDER BY place", thing
            )
            return [number for (number,) in found]

        return await self.store.read(work)

    def _context(self, call: Call) -> Context[Any]:
        return Context(None, self.store, self.runtime, call)
