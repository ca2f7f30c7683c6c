"""What the NATS adapter adds to the contract: it goes on at once, whatever the broker forgot."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mesh.events import nats, nats_pull
from mesh.events.nats import NatsBus
from mesh.events.port import BusError
from tests.contract.test_bus import Reader, publish
from tests.support.brokers import NatsBroker
from tests.support.things import TOPIC, thing


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[NatsBroker]:
    made = NatsBroker(tmp_path)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def bus(broker: NatsBroker) -> AsyncIterator[NatsBus]:
    made = broker.bus()
    assert isinstance(made, NatsBus)
    yield made
    await made.close()


async def test_after_a_kill_it_goes_on_without_waiting_for_silence(
    broker: NatsBroker, bus: NatsBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_pull, "SILENCE_S", 3600.0)
    reader = Reader()
    await bus.subscribe("readers", [TOPIC], reader.deliver)
    for version in range(1, 4):
        await publish(bus, thing(version=version))
        await reader.until(version)
        await broker.kill()
        await broker.start()


async def test_who_publishes_while_the_broker_dies_is_told_at_once(
    broker: NatsBroker, bus: NatsBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats, "PUBLISH_TIMEOUT_S", 3600.0)
    await publish(bus, thing())
    broker.pause()
    asked = asyncio.ensure_future(bus.publish(thing(version=2)))
    await asyncio.sleep(0)
    await broker.kill()
    with pytest.raises(BusError):
        await asked


async def test_a_broker_that_has_forgotten_everything_is_used_again(
    broker: NatsBroker, bus: NatsBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_pull, "SILENCE_S", 3600.0)
    reader = Reader()
    await bus.subscribe("readers", [TOPIC], reader.deliver)
    await publish(bus, thing(version=1))
    await reader.until(1)
    await broker.kill()
    shutil.rmtree(broker.folder / "nats" / "jetstream")
    await broker.start()
    await publish(bus, thing(version=2))
    await reader.until(2)
