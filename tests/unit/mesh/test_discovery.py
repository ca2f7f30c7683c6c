"""Names that are looked up, and what is known while that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from mesh import discovery
from mesh.client import Channel, Policy
from mesh.discovery import (
    ADDRESSES_MAX,
    DOUBT_S,
    REFRESH_S,
    Listed,
    Names,
    directory_of,
    look_up,
)
from mesh.errors import Expired, NotExecuted, Unavailable
from mesh.node import Node
from mesh.runtime.clock import Runtime
from mesh.testing.loop import VirtualClock, run_virtual
from mesh.transport.memory import MemoryNetwork
from tests.support.echo import EchoRequest, EchoStub
from tests.support.runtime import FakeRuntime


class NameServer:
    """Answers as a test says."""

    def __init__(self, *addresses: str) -> None:
        self.answer: list[str] | OSError = list(addresses)
        self.asked: list[tuple[str, int]] = []
        self.slow: asyncio.Event | None = None

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        answer = self.answer
        if self.slow:
            await self.slow.wait()
        if isinstance(answer, OSError):
            raise answer
        return answer


class World:
    def __init__(self, *addresses: str, names: Sequence[str] = ("dns:///order:50052",)) -> None:
        self.runtime = FakeRuntime()
        self.server = NameServer(*addresses)
        self.names = Names(names, self.runtime, self.server)

    async def known_after(self, delay_s: float) -> list[str]:
        """Return what is known once a call so much later has had its lookup."""
        self.runtime.clock.advance(delay_s)
        await self.names.addresses()
        await settled()
        return list(await self.names.addresses())


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_the_first_call_waits_for_the_lookup() -> None:
    world = World("10.0.0.1:50052", "10.0.0.2:50052")
    assert await world.names.addresses() == ("10.0.0.1:50052", "10.0.0.2:50052")
    assert world.server.asked == [("order", 50052)]


async def test_many_first_calls_are_one_lookup() -> None:
    world = World("10.0.0.1:50052")
    await asyncio.gather(*(world.names.addresses() for _ in range(5)))
    assert len(world.server.asked) == 1


def test_a_call_waits_for_the_lookup_until_its_deadline_and_takes_no_other_with_it() -> None:
    async def story() -> None:
        clock = VirtualClock()

        async def slow(host: str, port: int) -> Sequence[str]:
            await clock.sleep(3.0)
            return ["10.0.0.1:50052"]

        names = Names(["dns:///order:50052"], Runtime(clock), slow)
        patient = asyncio.ensure_future(names.addresses())
        began = clock.monotonic()
        with pytest.raises(Expired, match="order:50052"):
            await names.addresses(began + 0.3)
        assert clock.monotonic() - began == pytest.approx(0.3)
        assert await patient == ("10.0.0.1:50052",)
        assert clock.monotonic() - began == pytest.approx(3.0), "there was one lookup"

    run_virtual(story())


async def test_a_cancelled_first_call_takes_no_other_with_it() -> None:
    world = World("10.0.0.1:50052")
    world.server.slow = asyncio.Event()
    first, second = (asyncio.ensure_future(world.names.addresses()) for _ in range(2))
    await settled()
    first.cancel()
    await settled()
    world.server.slow.set()
    assert await second == ("10.0.0.1:50052",)


async def test_new_replicas_are_found_while_calls_go_on() -> None:
    world = World("10.0.0.1:50052")
    await world.names.addresses()
    world.server.answer = ["10.0.0.2:50052"]
    world.server.slow = asyncio.Event()
    world.runtime.clock.advance(REFRESH_S + 1)
    assert await world.names.addresses() == ("10.0.0.1:50052",), "nobody waits for the lookup"
    world.server.slow.set()
    await settled()
    assert await world.names.addresses() == ("10.0.0.2:50052",)


async def test_what_is_known_is_not_looked_up_again_for_a_while() -> None:
    world = World("10.0.0.1:50052")
    await world.names.addresses()
    await world.known_after(REFRESH_S - 1)
    assert len(world.server.asked) == 1


async def test_an_address_out_of_reach_has_it_looked_up_soon_but_not_all_the_time() -> None:
    world = World("10.0.0.1:50052")
    await world.names.addresses()
    world.names.doubt()
    await settled()
    assert len(world.server.asked) == 1
    world.runtime.clock.advance(DOUBT_S + 0.1)
    for _ in range(3):
        world.names.doubt()
        await settled()
    assert len(world.server.asked) == 2


@pytest.mark.parametrize("answer", [OSError("no such host"), []], ids=["it fails", "none"])
async def test_a_lookup_in_vain_changes_nothing(answer: OSError | list[str]) -> None:
    world = World("10.0.0.1:50052")
    await world.names.addresses()
    world.server.answer = answer
    assert await world.known_after(REFRESH_S + 1) == ["10.0.0.1:50052"]
    world.server.answer = ["10.0.0.9:50052"]
    assert await world.known_after(REFRESH_S + 1) == ["10.0.0.9:50052"]


async def test_a_call_to_a_name_that_nobody_knows_was_certainly_not_executed() -> None:
    world = World()
    world.server.answer = OSError("no such host")
    with pytest.raises(NotExecuted, match="order:50052"):
        await world.names.addresses()
    world.server.answer = ["10.0.0.1:50052"]
    assert await world.names.addresses() == ("10.0.0.1:50052",)


async def test_names_and_addresses_may_be_mixed_and_come_once() -> None:
    world = World("10.0.0.1:1", names=["10.0.0.1:1", "dns:///a:1", "dns:///b:2"])
    assert await world.names.addresses() == ("10.0.0.1:1",)
    assert world.server.asked == [("a", 1), ("b", 2)]


async def test_a_name_server_cannot_fill_the_memory() -> None:
    world = World(*(f"10.0.{n // 256}.{n % 256}:1" for n in range(1000)))
    assert len(await world.names.addresses()) == ADDRESSES_MAX


def test_only_names_are_looked_up() -> None:
    runtime = FakeRuntime()
    assert isinstance(directory_of(["127.0.0.1:1", "unix:/x"], runtime), Listed)
    assert isinstance(directory_of(["127.0.0.1:1", "dns:///a:1"], runtime), Names)


@pytest.mark.parametrize("name", ["dns:///order", "dns:///:1", "dns:///order:http"])
def test_a_name_without_a_port_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="dns:///HOST:PORT"):
        directory_of([name], FakeRuntime())


async def test_the_machines_own_resolver() -> None:
    assert "127.0.0.1:50052" in await look_up("localhost", 50052)
    assert await look_up("::1", 50052) == ["[::1]:50052"]


def test_what_was_known_of_an_address_goes_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        lookups = 0

        async def look(host: str, port: int) -> Sequence[str]:
            nonlocal lookups
            lookups += 1
            return [f"10.0.0.{lookups}:1"]

        monkeypatch.setattr(discovery, "look_up", look)
        runtime = Runtime(VirtualClock())
        node, network = Node(runtime=runtime), MemoryNetwork(runtime)
        stub = EchoStub(Channel(node, "echo", ["dns:///echo:1"], network, Policy(retry=None)))
        for _ in range(5):
            with pytest.raises(Unavailable):  # nobody is there
                await stub.Read(EchoRequest())
            await asyncio.sleep(REFRESH_S + 1.0)
        assert lookups > 3
        assert len(list(node.target("echo").circuits())) == 1

    run_virtual(story())
