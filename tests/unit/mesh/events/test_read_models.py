"""A read model is made anew while the old one serves, and takes its place when it is as far."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from mesh.call import Call
from mesh.events.consumer import Consumer
from mesh.events.memory import MemoryBus
from mesh.events.read_models import ReadModels, begin, current, describe
from mesh.events.v1.read_models_pb2 import ReadModel
from mesh.node import Node
from mesh.service import Context, Subscriber
from mesh.storage.migrate import Migration, own_migrations
from mesh.storage.port import Tx
from mesh.storage.sqlite import SqliteStore
from mesh.testing.loop import run_virtual
from tests.support.things import TOPIC, ThingEvent, thing

from .world import virtual_runtime

TABLE = Migration(
    "0001_seen.sql",
    "CREATE TABLE seen (model TEXT NOT NULL, thing TEXT NOT NULL, number BIGINT NOT NULL)",
)


class Reader:
    """A service with a read model of things; `sign` is its code's version."""

    def __init__(self, folder: Path) -> None:
        self.runtime = virtual_runtime()
        self.bus = MemoryBus(self.runtime)
        self.store = SqliteStore(folder / "r.db", self.runtime, [*own_migrations(), TABLE])
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
                "SELECT number FROM seen WHERE model = $1 ORDER BY rowid", await current(tx)
            )
            return [number for (number,) in rows]

        return await self.store.read(work)

    async def all_models(self) -> list[str]:
        found = await self.store.read(lambda tx: tx.execute("SELECT DISTINCT model FROM seen"))
        return [name for (name,) in found]

    async def rebuild(self) -> str:
        return await self.store.write(lambda tx: begin(tx, "seen"))


def play(folder: Path, story: Callable[[Reader], Awaitable[None]]) -> None:
    async def played() -> None:
        reader = Reader(folder)
        await reader.models.start()
        try:
            await story(reader)
        finally:
            await reader.models.stop()
            await reader.store.close()

    run_virtual(played())


def test_a_new_model_takes_over_and_the_old_one_goes(tmp_path: Path) -> None:
    async def story(reader: Reader) -> None:
        await reader.publish(1, 20)
        reader.sign = -1
        assert await reader.rebuild() == "seen-2"
        assert await reader.rebuild() == "seen-2"  # one at a time
        assert await reader.seen() == list(range(1, 21))
        await reader.runtime.clock.sleep(10.0)
        assert await reader.seen() == list(range(-1, -21, -1))
        assert await reader.all_models() == ["seen-2"]
        await reader.publish(21, 22)
        assert (await reader.seen())[-2:] == [-21, -22]
        (model,) = await reader.store.read(describe)
        assert (model.name, model.state, model.aggregate_count) == ("seen-2", ReadModel.SERVING, 1)

    play(tmp_path, story)


def test_until_it_is_as_far_the_old_one_serves_and_follows(tmp_path: Path) -> None:
    async def story(reader: Reader) -> None:
        await reader.publish(1, 5)
        reader.fails = True
        await reader.rebuild()
        await reader.publish(6, 8)
        await reader.runtime.clock.sleep(600.0)
        assert await reader.seen() == list(range(1, 9))
        reader.fails = False
        await reader.runtime.clock.sleep(600.0)
        assert await reader.all_models() == ["seen-2"]
        assert await reader.seen() == list(range(1, 9))

    play(tmp_path, story)


def test_a_restart_goes_on_building(tmp_path: Path) -> None:
    async def story(reader: Reader) -> None:
        await reader.publish(1, 5)
        reader.fails = True
        await reader.rebuild()
        await reader.runtime.clock.sleep(5.0)
        await reader.models.stop()
        reader.fails = False
        reader.models = reader._models()
        await reader.models.start()
        await reader.runtime.clock.sleep(60.0)
        assert await reader.all_models() == ["seen-2"]
        assert await reader.seen() == [1, 2, 3, 4, 5]

    play(tmp_path, story)
