"""The NATS adapter on connections that break in every way there is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mesh.events import nats
from mesh.events.nats import NatsBus
from mesh.runtime.clock import Runtime
from mesh.testing.tcp_proxy import TcpProxy
from tests.contract.test_bus import Reader, publish
from tests.soak.hurter import HURTS
from tests.support.brokers import NatsBroker
from tests.support.things import TOPIC, thing

ROUNDS = 2


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[TcpProxy]:
    broker = NatsBroker(tmp_path)
    await broker.start()
    made = TcpProxy("nats", "127.0.0.1", broker.port)
    yield made
    await made.close()
    await broker.stop()


# Nothing of these is a frame of HTTP/2: what is to be cut stays whole.
@pytest.mark.parametrize("hurt", [one for one in HURTS if not one.endswith("cut")])
async def test_every_event_arrives_whatever_is_done_to_the_connections(
    proxy: TcpProxy, hurt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats, "PING_S", 1)
    monkeypatch.setattr(nats, "PUBLISH_TIMEOUT_S", 2.0)
    port, reader = await proxy.start("127.0.0.1"), Reader()
    # What was sent into the void is sent again after ack_wait_s.
    url = f"nats://127.0.0.1:{port}"
    buses = [NatsBus(url, Runtime(), ack_wait_s=2.0) for _ in range(2)]
    await buses[0].subscribe("readers", [TOPIC], reader.deliver)
    for version in range(1, ROUNDS + 1):
        await publish(buses[1], thing(version=version))
        await reader.until(version)
        for link in proxy.links:
            HURTS[hurt](link)
    await publish(buses[1], thing(version=ROUNDS + 1))
    await reader.until(ROUNDS + 1)
    for bus in buses:
        await bus.close()
