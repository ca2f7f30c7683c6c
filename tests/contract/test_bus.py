"""What every bus keeps to: the contract of `mesh.events.port`, on real brokers.

A further one is one more entry in `tests.support.brokers.BROKERS`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from mesh.events.port import Bus, BusError, Event, Subscription
from tests.support.brokers import BROKERS, REAL, Broker
from tests.support.things import TOPIC, thing
from tests.support.waiting import until

OTHER = "tests.events.v1.Other"


@pytest.fixture(params=BROKERS)
async def broker(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Broker]:
    made: Broker = BROKERS[request.param](tmp_path)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def bus(broker: Broker) -> AsyncIterator[Bus]:
    bus = broker.bus()
    yield bus
    await bus.close()


async def no_lag(subscription: Subscription) -> None:
    async def none() -> bool:
        return not await subscription.lag()

    await until(none)


class Reader:
    """Takes events; may fail at some of them."""

    def __init__(self, fails: int = 0) -> None:
        self.got: list[Event] = []
        self.fails = fails

    async def deliver(self, event: Event) -> None:
        if self.fails:
            self.fails -= 1
            raise ValueError
        self.got.append(event)

    async def until(self, count: int) -> None:
        await until(lambda: len({event.event_id for event in self.got}) >= count)

    def versions(self, topic: str = TOPIC) -> list[int]:
        return [event.version for event in self.got if event.topic == topic]


async def publish(bus: Bus, event: Event) -> None:
    """Publish as the relay does: until it is confirmed."""

    async def is_published() -> bool:
        try:
            await bus.publish(event)
        except BusError:
            return False
        return True

    await until(is_published)


async def test_an_event_arrives_as_it_was(bus: Bus) -> None:
    reader = Reader()
    await bus.subscribe("readers", [TOPIC], reader.deliver)
    event = replace(
        thing("ä b/c.d*>\n"),
        event_id="0190",
        traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01",
        time=1e9 + 0.5,
    )
    await publish(bus, event)
    await reader.until(1)
    assert reader.got == [event]


async def test_a_new_group_gets_everything_from_the_first(bus: Bus) -> None:
    for version in range(1, 400):
        await publish(bus, thing(version=version))
    reader = Reader()
    await bus.subscribe("late", [TOPIC], reader.deliver)
    await reader.until(399)
    assert reader.versions() == list(range(1, 400))


async def test_each_group_gets_each_event_and_one_member_takes_it(bus: Bus) -> None:
    one, other, twin = Reader(), Reader(), Reader()
    await bus.subscribe("one", [TOPIC], one.deliver)
    await bus.subscribe("other", [TOPIC], other.deliver)
    await bus.subscribe("other", [TOPIC], twin.deliver)
    for version in range(1, 101):
        await publish(bus, thing(version=version))
    await one.until(100)
    await until(lambda: len(other.got) + len(twin.got) >= 100)
    assert sorted(other.versions() + twin.versions()) == list(range(1, 101))


async def test_only_what_was_asked_for_comes(bus: Bus) -> None:
    reader = Reader()
    await bus.subscribe("picky", [TOPIC], reader.deliver)
    await publish(bus, other(1))
    await publish(bus, thing("y"))
    await reader.until(1)
    assert [event.aggregate for event in reader.got] == ["y"]


def other(version: int) -> Event:
    """An event of another topic."""
    return replace(thing(version=version), topic=OTHER, event_id=f"other-{version}")


async def test_a_topic_that_is_added_comes_from_the_first(broker: Broker) -> None:
    bus, before, after = broker.bus(), Reader(), Reader()
    subscription = await bus.subscribe("growing", [TOPIC], before.deliver)
    for version in range(1, 11):
        await publish(bus, other(version))
        await publish(bus, thing(version=version))
    await before.until(10)
    await no_lag(subscription)
    await subscription.close()
    grown = await bus.subscribe("growing", [TOPIC, OTHER], after.deliver)
    for version in range(11, 21):
        await publish(bus, other(version))
        await publish(bus, thing(version=version))
    await after.until(30)
    await no_lag(grown)
    assert after.versions(OTHER) == list(range(1, 21))
    assert before.versions() + after.versions() == list(range(1, 21))
    await bus.close()


async def test_members_with_a_topic_more_do_well_beside_those_without(broker: Broker) -> None:
    bus, old, new = broker.bus(), Reader(), Reader()
    leaving = await bus.subscribe("mixed", [TOPIC], old.deliver)
    await bus.subscribe("mixed", [TOPIC, OTHER], new.deliver)
    await publish(bus, other(1))
    await new.until(1)
    await leaving.close()
    await bus.subscribe("mixed", [TOPIC], old.deliver)
    for version in range(1, 21):
        await publish(bus, other(version))
        await publish(bus, thing(version=version))
    await until(lambda: set(new.versions(OTHER)) == set(range(1, 21)))
    await until(lambda: set(old.versions() + new.versions()) == set(range(1, 21)))
    assert old.versions(OTHER) == []
    await bus.close()


async def test_a_group_that_was_forgotten_begins_again(broker: Broker) -> None:
    bus, reader, beside = broker.bus(), Reader(), Reader()
    await bus.forget("nobody")
    kept = await bus.subscribe("group-2", [TOPIC], beside.deliver)
    leaving = await bus.subscribe("group", [TOPIC, OTHER], reader.deliver)
    await publish(bus, thing())
    await publish(bus, other(1))
    await reader.until(2)
    await no_lag(kept)
    await leaving.close()
    await bus.forget("group")
    again = Reader()
    await bus.subscribe("group", [TOPIC, OTHER], again.deliver)
    await again.until(2)
    assert len(beside.got) == 1
    await bus.close()


async def test_what_is_not_taken_comes_again(bus: Bus) -> None:
    reader = Reader(fails=5)
    await bus.subscribe("slow", [TOPIC], reader.deliver)
    for version in range(1, 11):
        await publish(bus, thing(version=version))
    await reader.until(10)
    assert set(reader.versions()) == set(range(1, 11))


async def test_an_event_published_twice_is_there_once(bus: Bus) -> None:
    reader = Reader()
    await bus.subscribe("once", [TOPIC], reader.deliver)
    for _ in range(3):
        await publish(bus, thing("a"))
    await publish(bus, thing("b"))
    await reader.until(2)
    assert Counter(event.aggregate for event in reader.got) == {"a": 1, "b": 1}


async def test_lag_is_what_is_not_confirmed(bus: Bus) -> None:
    held = asyncio.Event()

    async def hold(_: Event) -> None:
        await held.wait()

    subscription = await bus.subscribe("lagging", [TOPIC], hold)
    for version in range(1, 8):
        await publish(bus, thing(version=version))
    assert await subscription.lag() == 7
    held.set()
    await no_lag(subscription)


async def test_a_group_goes_on_where_it_stopped(broker: Broker) -> None:
    bus, reader = broker.bus(), Reader()
    subscription = await bus.subscribe("durable", [TOPIC], reader.deliver)
    await publish(bus, thing(version=1))
    await reader.until(1)
    await no_lag(subscription)
    await subscription.close()
    await publish(bus, thing(version=2))
    again = Reader()
    await bus.subscribe("durable", [TOPIC], again.deliver)
    await again.until(1)
    assert again.versions() == [2]
    await bus.close()


@pytest.mark.parametrize("broker", REAL, indirect=True)
async def test_what_a_member_took_and_never_confirms_is_anothers(broker: Broker) -> None:
    bus = broker.bus(ack_wait_s=1)
    took, other = Reader(), Reader()

    async def hold(event: Event) -> None:
        await took.deliver(event)
        await asyncio.Event().wait()

    await bus.subscribe("group", [TOPIC], hold)
    for version in range(1, 6):
        await publish(bus, thing(version=version))
    await took.until(5)
    await bus.subscribe("group", [TOPIC], other.deliver)
    await other.until(5)
    assert set(other.versions()) == set(range(1, 6))
    await bus.close()


@pytest.mark.parametrize("broker", REAL, indirect=True)
async def test_what_is_under_way_when_a_member_leaves_is_anothers_at_once(broker: Broker) -> None:
    bus = broker.bus(ack_wait_s=3600)
    took, other = Reader(), Reader()

    async def hold(event: Event) -> None:
        await took.deliver(event)
        await asyncio.Event().wait()

    leaving = await bus.subscribe("group", [TOPIC], hold)
    await publish(bus, thing())
    await took.until(1)
    await leaving.close()
    await bus.subscribe("group", [TOPIC], other.deliver)
    await other.until(1)
    await bus.close()


@pytest.mark.parametrize("broker", REAL, indirect=True)
async def test_nothing_is_lost_when_the_broker_is_killed(broker: Broker, bus: Bus) -> None:
    reader = Reader()
    await bus.subscribe("survivors", [TOPIC], reader.deliver)
    version = 0
    for _ in range(3):
        async with asyncio.TaskGroup() as group:
            for _ in range(100):
                version += 1
                group.create_task(publish(bus, thing(str(version))))
            await asyncio.sleep(0.02)
            await broker.kill()
            with pytest.raises(BusError):
                await bus.publish(thing("refused"))
            await broker.start()
        await reader.until(version)
    assert {event.aggregate for event in reader.got} == {str(n) for n in range(1, version + 1)}


@pytest.mark.parametrize("broker", REAL, indirect=True)
async def test_a_subscription_may_begin_before_its_broker(broker: Broker) -> None:
    await broker.kill()
    bus, reader = broker.bus(), Reader()
    await bus.subscribe("early", [TOPIC], reader.deliver)
    with pytest.raises(BusError):
        await bus.publish(thing())
    await broker.start()
    await publish(bus, thing())
    await reader.until(1)
    await bus.close()
