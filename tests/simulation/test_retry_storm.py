"""What a failing leaf gets, four hops below who asks, with every breaker off.

Three attempts at each of four hops are 81 calls of the leaf for one. With budgets, attempts that
are handed on and exhaustion that is handed back, it gets what was offered and a tenth.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mesh import client
from mesh.call import Call, Handler, Layer
from mesh.errors import MeshError, Unavailable
from mesh.layers.budget import BudgetConfig
from mesh.runtime.clock import Runtime
from mesh.testing.loop import VirtualClock, run_virtual
from mesh.transport.grpc_client import GrpcTransport
from mesh.transport.grpc_server import GrpcServer
from mesh.transport.memory import MemoryNetwork
from mesh.transport.port import Routes
from tests.support.chain import HOPS, Chain

CALLS, PER_S = 2000, 100.0
AMPLIFICATION_MAX = 1.2


async def dead() -> None:
    raise Unavailable("dead")


def failing_half(chance: random.Random) -> Callable[[], Awaitable[None]]:
    async def leaf() -> None:
        if chance.random() < 0.5:
            raise Unavailable("a bad moment")

    return leaf


class NaiveRetry(Layer):
    """Three attempts, whatever the others do."""

    def __init__(self, *_: Any) -> None:
        pass

    def __call__(self, inner: Handler) -> Handler:
        async def retry(call: Call) -> Any:
            for attempt in (1, 2):
                try:
                    return await inner(call.replace(attempt=attempt))
                except MeshError:
                    pass
            return await inner(call.replace(attempt=3))

        return retry


def simulated(leaf: Callable[[], Awaitable[None]], calls: int = CALLS) -> Chain:
    """Return the chain after *calls* calls on virtual time, over the transport in memory."""

    async def main() -> Chain:
        runtime = Runtime(VirtualClock(), random.Random(11))
        network = MemoryNetwork(runtime)
        chain = Chain(runtime, network, BudgetConfig())
        chain.leaf = leaf
        served: list[str] = []

        async def serve(routes: Routes) -> str:
            served.append(f"service {len(served)}")
            network.serve(served[-1], routes)
            return served[-1]

        await chain.build(serve)
        await chain.offer(calls, PER_S)
        return chain

    return run_virtual(main())


def test_without_budgets_a_dead_leaf_gets_every_call_81_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "Retry", NaiveRetry)
    chain = simulated(dead, calls=10)
    assert chain.attempts == chain.offered * 3**HOPS


def test_a_dead_leaf_gets_little_more_than_what_is_offered() -> None:
    chain = simulated(dead)
    assert chain.succeeded == 0
    assert chain.offered <= chain.attempts <= AMPLIFICATION_MAX * chain.offered


def test_a_leaf_that_fails_half_its_calls_gets_little_more_and_retries_help() -> None:
    chain = simulated(failing_half(random.Random(5)))
    assert chain.attempts <= AMPLIFICATION_MAX * chain.offered
    assert chain.succeeded > 0.53 * chain.offered


def test_a_leaf_that_is_back_gets_what_is_offered_and_everything_succeeds() -> None:
    failures = iter([True] * 20)

    async def back_soon() -> None:
        if next(failures, False):
            raise Unavailable("starting")

    chain = simulated(back_soon, calls=200)
    assert chain.attempts <= chain.offered + 20
    assert chain.succeeded >= chain.offered - 15


@pytest.mark.parametrize("share", [0.0, 0.1])
@pytest.mark.parametrize("well", [0.0, 0.5], ids=["dead", "failing half"])
async def test_over_sockets_it_is_the_same(share: float, well: float) -> None:
    calls, runtime = 300, Runtime()
    budget = BudgetConfig(share=share, per_s=0.0)  # no matter how slow the machine is
    transport = GrpcTransport(runtime)
    servers: list[GrpcServer] = []

    async def serve(routes: Routes) -> str:
        server = GrpcServer(runtime)
        servers.append(server)
        server.add(routes)
        return f"127.0.0.1:{await server.start('127.0.0.1:0')}"

    chain = Chain(runtime, transport, budget)
    chain.leaf = failing_half(random.Random(5)) if well else dead
    try:
        await chain.build(serve)
        await chain.offer(calls, per_s=1000.0)
    finally:
        await transport.close()
        for server in servers:
            await server.stop(0)
    assert calls < chain.attempts <= calls * (1 + share) + budget.burst * HOPS
    assert (chain.succeeded > 0) == bool(well)
