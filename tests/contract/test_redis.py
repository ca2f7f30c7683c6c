"""What Redis Streams add to the contract: bounds, and a broker that must be durable."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from mesh.events import redis, redis_link
from mesh.events.port import BusError
from mesh.events.redis import RedisBus
from mesh.runtime.clock import Runtime
from tests.contract.test_bus import Reader, no_lag, publish
from tests.support.brokers import ValkeyBroker
from tests.support.things import TOPIC, thing
from tests.support.waiting import until

STREAM = f"mesh:events:{TOPIC}"
KEEP, EVENTS = 100, 500


@pytest.fixture
async def valkey(tmp_path: Path) -> AsyncIterator[ValkeyBroker]:
    broker = ValkeyBroker(tmp_path)
    await broker.start()
    yield broker
    await broker.stop()


@pytest.fixture
async def admin(valkey: ValkeyBroker) -> AsyncIterator[Any]:
    async with Redis(port=valkey.port) as client:
        yield client


@pytest.fixture
async def bus(valkey: ValkeyBroker, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RedisBus]:
    monkeypatch.setattr(redis, "TRIM_EVERY", KEEP)
    bus = RedisBus(f"redis://127.0.0.1:{valkey.port}", Runtime(), keep=KEEP)
    yield bus
    await bus.close()


async def publish_all(bus: RedisBus, first: int = 1) -> None:
    for version in range(first, first + EVENTS):
        await publish(bus, thing(version=version))


async def test_what_everybody_has_confirmed_is_dropped(bus: RedisBus, admin: Any) -> None:
    readers = [Reader(), Reader()]
    for number, reader in enumerate(readers):
        await no_lag_known(await bus.subscribe(str(number), [TOPIC], reader.deliver))
    await publish_all(bus)
    for reader in readers:
        await reader.until(EVENTS)
    assert await admin.xlen(STREAM) <= EVENTS / 2


async def test_what_one_group_has_not_confirmed_stays(bus: RedisBus, admin: Any) -> None:
    reader, late = Reader(), Reader()
    slow = await bus.subscribe("slow", [TOPIC], late.deliver)
    await publish(bus, thing(version=1))
    await no_lag(slow)
    await slow.close()
    await bus.subscribe("quick", [TOPIC], reader.deliver)
    await publish_all(bus, first=2)
    await reader.until(EVENTS + 1)
    assert await admin.xlen(STREAM) >= EVENTS
    await bus.subscribe("slow", [TOPIC], late.deliver)
    await late.until(EVENTS + 1)
    assert late.versions() == list(range(1, EVENTS + 2))


async def test_a_new_group_is_refused_once_the_first_events_are_gone(
    bus: RedisBus, caplog: pytest.LogCaptureFixture
) -> None:
    await publish_all(bus)
    reader = Reader()
    subscription = await bus.subscribe("new", [TOPIC], reader.deliver)
    await until(lambda: f"the first events of {STREAM} are gone" in caplog.text)
    with pytest.raises(BusError):
        await subscription.lag()
    assert not reader.got


async def test_a_group_leaves_the_topics_that_it_does_not_ask_for_any_more(
    bus: RedisBus, admin: Any
) -> None:
    reader = Reader()
    first = await bus.subscribe("group", [TOPIC, "tests.events.v1.Other"], reader.deliver)
    await no_lag_known(first)
    assert len(await admin.xinfo_groups("mesh:events:tests.events.v1.Other")) == 1
    await first.close()
    await no_lag_known(await bus.subscribe("group", [TOPIC], reader.deliver))
    assert not await admin.xinfo_groups("mesh:events:tests.events.v1.Other")
    await bus.forget("group")
    assert not await admin.xinfo_groups(STREAM)


async def test_a_broker_without_a_file_is_refused(bus: RedisBus, admin: Any) -> None:
    await admin.config_set("appendonly", "no")
    with pytest.raises(BusError, match="appendonly is disabled"):
        await bus.publish(thing())
    await admin.config_set("appendonly", "yes")
    await publish(bus, thing())


async def test_a_broker_whose_memory_is_full_refuses_and_loses_nothing(
    bus: RedisBus, admin: Any
) -> None:
    reader = Reader()
    await bus.subscribe("reader", [TOPIC], reader.deliver)
    await publish(bus, thing(version=1))
    await admin.config_set("maxmemory", "1")
    with pytest.raises(BusError, match="OutOfMemory"):
        await bus.publish(thing(version=2))
    await admin.config_set("maxmemory", "0")
    await publish(bus, thing(version=2))
    await reader.until(2)
    assert reader.versions() == [1, 2]


async def test_late_answers_are_nobodys(
    bus: RedisBus, valkey: ValkeyBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_link, "TIMEOUT_S", 0.5)
    hasty = RedisBus(f"redis://127.0.0.1:{valkey.port}", Runtime())
    await publish(hasty, thing(version=1))
    valkey.pause()
    with pytest.raises(BusError):
        await hasty.publish(thing(version=2))
    valkey.go_on()
    reader = Reader()
    subscription = await hasty.subscribe("late", [TOPIC], reader.deliver)
    await publish(hasty, thing(version=2))
    await publish(hasty, thing(version=3))
    await reader.until(3)
    assert reader.versions() == [1, 2, 3]
    await no_lag_known(subscription)
    await hasty.close()


async def no_lag_known(subscription: Any) -> None:
    """Wait until the group is there and has nothing to do."""
    while True:
        try:
            return await no_lag(subscription)
        except BusError:
            continue
