"""What flows goes on flowing, whatever a database, a broker or a bug threw into the way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from mesh.events import outbox
from mesh.events.inbox import Inbox
from mesh.events.port import Event
from mesh.storage import watermark
from mesh.storage.retention import EVERY_S, Retention
from mesh.testing.loop import run_virtual
from tests.support.things import thing

from .test_outbox import Broker, publish, relay, waiting
from .world import World


@contextmanager
def failing(owner: Any, name: str, times: int = 3) -> Iterator[list[int]]:
    """Let a function raise what nobody has foreseen, a few times; yield how often it has."""
    right, raised = getattr(owner, name), [0]

    def function(*args: Any, **kwargs: Any) -> Any:
        if raised[0] < times:
            raised[0] += 1
            raise RuntimeError("nobody has foreseen it")
        return right(*args, **kwargs)

    with patch.object(owner, name, function):
        yield raised


@pytest.mark.parametrize("what", ["heads", "mark_published"])
def test_the_relay(tmp_path: Path, what: str) -> None:
    async def main() -> None:
        world = World(tmp_path)
        broker = Broker(world)
        relaying = relay(world, broker)
        with failing(outbox, what) as raised:
            relaying.start()
            await publish(world.store, ("a", 0))
            await world.runtime.clock.sleep(60.0)
        assert raised == [3]
        assert not await waiting(world.store)
        await relaying.stop()
        await world.store.close()

    run_virtual(main())


def test_what_a_broker_chokes_on_holds_up_its_own_aggregate_only(tmp_path: Path) -> None:
    class Choking(Broker):
        async def publish(self, event: Event) -> None:
            if event.aggregate == "b":
                raise ValueError("not this one")
            await super().publish(event)

    async def main() -> None:
        world = World(tmp_path)
        broker = Choking(world)
        relaying = relay(world, broker)
        relaying.start()
        await publish(world.store, *((name, 0) for name in "abacbc"))
        await world.runtime.clock.sleep(60.0)
        assert sorted(broker.got) == [("a", 1), ("a", 2), ("c", 1), ("c", 2)]
        assert await waiting(world.store) == [("b", 1)]
        await relaying.stop()
        await world.store.close()

    run_virtual(main())


@pytest.mark.parametrize("what", ["due", "let_go", "postpone", "remove", "counts"])
def test_the_consumer(tmp_path: Path, what: str) -> None:
    async def outside(*_: Any) -> str:
        return "sent"

    async def main() -> None:
        world = World(tmp_path, outside=outside)
        with failing(Inbox, what) as raised:
            await world.consumer.start()
            await world.consumer.receive(thing())
            await world.runtime.clock.sleep(300.0)
        assert raised == [3]
        assert await world.notes() == [1]
        await world.stop()

    run_virtual(main())


def test_retention(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        forgetting = Retention(world.store, world.runtime, watermark.RETENTION_MIN_S)
        with failing(watermark, "raise_to") as raised:
            forgetting.start()
            await world.runtime.clock.sleep(4.5 * EVERY_S)
        assert raised == [3]
        low = await world.store.read(watermark.low)
        assert low > world.runtime.clock.wall() - 2 * EVERY_S - watermark.RETENTION_MIN_S
        await forgetting.stop()
        await world.stop()

    run_virtual(main())
