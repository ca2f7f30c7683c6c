"""Events are there if and only if their transaction is, and reach the bus in order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mesh.events import outbox
from mesh.events.memory import MemoryBus
from mesh.events.port import EVENT_LIMIT_BYTES, BusError, Event, EventTypeError
from mesh.events.relay import LEASE_S, Relay
from mesh.runtime.metrics import Metrics
from mesh.scope import Scope, scope
from mesh.storage.port import Store, Tx
from mesh.testing.loop import run_virtual
from tests.support.things import NoEvent, ThingEvent

from .world import World


async def publish(store: Store, *things: tuple[str, int]) -> list[int]:
    async def work(tx: Tx) -> list[int]:
        return [await tx.publish(ThingEvent(thing_id=of, number=number)) for of, number in things]

    return await store.write(work)


async def waiting(store: Store) -> list[tuple[str, int]]:
    found = await store.read(lambda tx: outbox.heads(tx, "things", 100))
    return [(event.aggregate, event.version) for event in found]


class Broker(MemoryBus):
    """Notes what it gets; may be away."""

    def __init__(self, world: World) -> None:
        super().__init__(world.runtime)
        self.away = False
        self.got: list[tuple[str, int]] = []
        self.under_way = 0
        self.under_way_max = 0
        self._clock = world.runtime.clock

    async def publish(self, event: Event) -> None:
        self.under_way += 1
        self.under_way_max = max(self.under_way_max, self.under_way)
        await self._clock.sleep(0.01)
        self.under_way -= 1
        if self.away:
            raise BusError("away")
        self.got.append((event.aggregate, event.version))


def relay(world: World, broker: Broker) -> Relay:
    return Relay(world.store, broker, world.runtime, Metrics(), "things")


def test_each_aggregate_is_numbered_without_a_gap(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        scope.set(Scope("c-7"))
        assert await publish(world.store, ("a", 1), ("b", 1), ("a", 2)) == [1, 1, 2]

        async def fails(tx: Tx) -> None:
            await tx.publish(ThingEvent(thing_id="a"))
            raise LookupError

        with pytest.raises(LookupError):
            await world.store.write(fails)
        assert await publish(world.store, ("a", 3)) == [3]
        found = await world.store.read(lambda tx: outbox.heads(tx, "things", 9))
        (first,) = [event for event in found if event.aggregate == "a"]
        assert first.message() == ThingEvent(thing_id="a", number=1)
        assert (first.source, first.correlation_id) == ("things", "c-7")
        await world.store.close()

    run_virtual(main())


@pytest.mark.parametrize(
    ("event", "complaint"),
    [
        (NoEvent(count=1), "field 1 must be a string"),
        (ThingEvent(number=1), "thing_id is empty"),
        (ThingEvent(thing_id="x" * EVENT_LIMIT_BYTES), "bytes"),
    ],
    ids=["no event", "about nothing", "too long"],
)
def test_what_cannot_be_an_event_is_refused(tmp_path: Path, event: Any, complaint: str) -> None:
    async def main() -> None:
        world = World(tmp_path)
        with pytest.raises(EventTypeError, match=complaint):
            await world.store.write(lambda tx: tx.publish(event))
        await world.store.close()

    run_virtual(main())


def test_events_are_published_in_order_and_aggregates_side_by_side(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        broker = Broker(world)
        await publish(world.store, *((of, 0) for of in "abcabcabc"))
        relaying = relay(world, broker)
        relaying.start()
        await world.runtime.clock.sleep(5.0)
        await publish(world.store, ("a", 0))
        await world.runtime.clock.sleep(0.5)
        await relaying.stop()
        assert [v for of, v in broker.got if of == "a"] == [1, 2, 3, 4]
        assert len(broker.got) == 10
        assert broker.under_way_max == 3
        assert await waiting(world.store) == []
        await world.store.close()

    run_virtual(main())


def test_while_the_broker_is_away_events_wait_and_nothing_else_does(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        broker = Broker(world)
        broker.away = True
        relaying = relay(world, broker)
        relaying.start()
        for number in range(5):
            await publish(world.store, ("a", number))
        await world.runtime.clock.sleep(3600.0)
        assert await waiting(world.store) == [("a", 1)]
        broker.away = False
        await world.runtime.clock.sleep(30.0)
        assert broker.got == [("a", version) for version in range(1, 6)]
        await relaying.stop()
        await world.store.close()

    run_virtual(main())


def test_one_relay_of_several_works_and_another_takes_over(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        one, two = Broker(world), Broker(world)
        first, second = relay(world, one), relay(world, two)
        first.start()
        await publish(world.store, ("a", 0))
        await world.runtime.clock.sleep(1.0)
        second.start()
        await publish(world.store, ("a", 0))
        await world.runtime.clock.sleep(1.0)
        assert (one.got, two.got) == ([("a", 1), ("a", 2)], [])
        await first.stop()  # gives its lease back
        await publish(world.store, ("a", 0))
        await world.runtime.clock.sleep(LEASE_S / 2)
        assert two.got == [("a", 3)]
        await second.stop()
        await world.store.close()

    run_virtual(main())


def test_a_lease_from_before_the_clock_was_set_back_holds_nobody_up(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        broker = Broker(world)
        dead = relay(world, broker)
        assert await dead._is_ours()
        world.runtime.clock._skew_s = lambda: -3600.0  # type: ignore[attr-defined]
        await publish(world.store, ("a", 1))
        alive = relay(world, broker)
        alive.start()
        await world.runtime.clock.sleep(2 * LEASE_S)
        assert broker.got == [("a", 1)]
        await alive.stop()
        await world.store.close()

    run_virtual(main())
