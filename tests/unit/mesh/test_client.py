"""The stacks, in the order in which the design lists them, and the channel around one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

import mesh
from mesh.client import Channel, Policy, client_layers
from mesh.discovery import Listed, Reach
from mesh.errors import MeshError, Unavailable
from mesh.layers.backoff import Backoff
from mesh.layers.balance import Endpoints
from mesh.layers.fallback import FallbackConfig
from mesh.metadata import CORRELATION_ID, KEY, TOKEN
from mesh.node import Node
from mesh.server import server_layers
from mesh.transport.memory import MemoryNetwork
from tests.support.echo import COUNT, SUM, Echo, EchoReply, EchoRequest, EchoStub, requests_of
from tests.support.runtime import FakeClock, FakeRuntime

FAST = Policy(retry=mesh.RetryPolicy(backoff=Backoff(base_s=0.0)))


def names(layers: list[Any]) -> list[str]:
    return [type(layer).__name__ for layer in layers]


def layers_of(policy: Policy, endpoints: Endpoints | None = None) -> list[Any]:
    node = Node()
    return client_layers(node, node.target("order"), policy, endpoints)


def test_the_client_stack_is_in_this_order() -> None:
    endpoints = Endpoints(
        Listed(["a", "b"]), lambda _: Reach.READY, lambda _: None, FakeClock().monotonic
    )
    assert names(layers_of(Policy(fallback=FallbackConfig()), endpoints)) == [
        "Correlate",
        "HandOnCriticality",
        "AssignKey",
        "TraceCall",
        "Observe",
        "ComputeDeadline",
        "Fallback",
        "Retry",
        "Balance",
        "Breaker",
        "Bulkhead",
        "TraceAttempt",
        "AttemptTimeout",
        "Identify",
        "Faults",
    ]


def test_a_stock_channel_picks_its_address_by_itself() -> None:
    assert "Balance" not in names(layers_of(Policy()))


def test_without_a_retry_policy_there_is_one_attempt() -> None:
    assert "Retry" not in names(layers_of(Policy(retry=None)))


def test_the_server_stack_is_in_this_order() -> None:
    assert names(server_layers(Node())) == [
        "EnterScope",
        "TraceServer",
        "Observe",
        "Failures",
        "CheckDeadline",
        "Authenticate",
        "Shed",
        "Validate",
    ]


class World:
    """Echo services at addresses, on a network in memory."""

    def __init__(self, *addresses: str) -> None:
        self.runtime = FakeRuntime()
        self.node = Node("order", self.runtime, token="order.xyz")
        self.network = MemoryNetwork(self.node.runtime)
        self.echoes = {address: Echo() for address in addresses}
        for address, echo in self.echoes.items():
            self.network.serve(address, echo.routes())

    def stub(self, *addresses: str) -> EchoStub:
        return EchoStub(Channel(self.node, "echo", addresses, self.network, FAST))


async def test_attempts_go_to_the_addresses_in_turn() -> None:
    world = World("b", "c")
    stub = world.stub("a", "b", "c")  # nobody answers at a
    for _ in range(4):
        await stub.Read(EchoRequest())
    assert [len(world.echoes[address].served) for address in "bc"] == [2, 2]


async def test_an_address_whose_circuit_is_open_is_passed_over() -> None:
    world = World("b")
    stub = world.stub("a", "b")  # nobody answers at a
    for _ in range(30):
        await stub.Read(EchoRequest())
    assert len(world.echoes["b"].served) == 30
    tries = FAST.circuit.failures
    assert len(world.runtime.clock.slept) == tries, "it was tried after its circuit opened"


async def test_when_every_circuit_is_open_the_call_is_refused() -> None:
    stub = World().stub("a", "b")
    for _ in range(10):
        with pytest.raises(Unavailable):
            await stub.Add(EchoRequest())
    with pytest.raises(mesh.CircuitOpenError):
        await stub.Add(EchoRequest())


async def test_everything_a_call_needs_is_on_it() -> None:
    world = World("a")
    await world.stub("a").Put(EchoRequest(), metadata={"x-tenant": "acme"})
    [served] = world.echoes["a"].served
    assert served.metadata.keys() == {"x-tenant", CORRELATION_ID, KEY, TOKEN}
    assert served.metadata[TOKEN] == world.node.token


async def test_requests_may_come_from_any_iterable() -> None:
    stub = World("a").stub("a")
    numbers = [EchoRequest(number=n) for n in (1, 2)]
    assert (await stub.Sum(numbers)).number == 3
    assert (await stub.Sum(iter(numbers))).number == 3
    assert (await stub.Sum(requests_of(*numbers))).number == 3


@pytest.mark.parametrize("count", [0, 2])
async def test_one_reply_is_what_the_contract_says(count: int) -> None:
    world = World("a")

    async def stream(*_: Any) -> AsyncIterator[Any]:
        for _number in range(count):
            yield EchoReply()

    world.echoes["a"].on_stream = stream
    with pytest.raises(MeshError, match=f"{count} replies"):
        await world.stub("a").Sum([])


def test_a_channel_to_nowhere_is_refused_at_once() -> None:
    world = World()
    with pytest.raises(ValueError, match="echo"):
        world.stub()


async def test_remote_methods_know_what_they_are() -> None:
    stub = World("a").stub("a")
    assert (stub.Count.method, stub.Count.target) == (COUNT, "echo")
    assert stub.Sum.method == SUM


async def test_nobody_at_all_is_unavailable_after_every_attempt() -> None:
    with pytest.raises(Unavailable):
        await World().stub("a").Read(EchoRequest())
