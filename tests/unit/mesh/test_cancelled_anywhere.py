"""A call that is cancelled at any of its awaits gives back all that its layers took for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from mesh.call import Call, Method, stack, stack_stream
from mesh.client import Policy, client_layers
from mesh.discovery import Reach, directory_of
from mesh.errors import Unavailable
from mesh.layers.backoff import Backoff
from mesh.layers.balance import Endpoints
from mesh.layers.budget import BudgetConfig
from mesh.layers.bulkhead import Bulkhead, BulkheadConfig
from mesh.layers.circuit import CircuitConfig
from mesh.layers.hedge import HedgeConfig
from mesh.layers.retry import RetryPolicy
from mesh.layers.throttle import ThrottleConfig
from mesh.node import Node
from mesh.runtime.clock import Runtime
from mesh.testing.loop import VirtualClock, run_virtual
from tests.support.echo import CHAT, COUNT, READ, EchoReply, call_of, requests_of

RETRIED = Policy(
    retry=RetryPolicy(backoff=Backoff(base_s=0.0), budget=BudgetConfig(burst=1e6)),
    circuit=CircuitConfig(failures=1, open_s=0.0, probes=1),
    bulkhead=BulkheadConfig(concurrent_max=2, queue_max=2),
    throttle=ThrottleConfig(),
)
HEDGED = replace(RETRIED, hedge=HedgeConfig(budget=BudgetConfig(share=1.0, burst=1e6)))
#: More awaits than a call has.
AWAITS_MAX = 200


class World:
    """A client's whole stack around a target that fails the first attempt."""

    def __init__(self, policy: Policy) -> None:
        node = Node(runtime=Runtime(VirtualClock()))
        self.target = node.target("echo")
        directory = directory_of(["a", "b"], node.runtime)
        self.endpoints = Endpoints(
            directory, lambda _: Reach.READY, lambda _: None, node.runtime.clock.monotonic
        )
        layers = client_layers(node, self.target, policy, self.endpoints)
        self._unary = stack(*layers, around=self._serve)
        self._stream = stack_stream(*layers, around=self._serve_stream)
        self.begun = self.under_way = 0

    async def _serve(self, call: Call) -> Any:
        self.begun += 1
        number = self.begun
        self.under_way += 1
        try:
            await asyncio.sleep(0)
            if number == 1 and call.method != CHAT:  # which is not sent again
                raise Unavailable
            await asyncio.sleep(0)
            return EchoReply()
        finally:
            self.under_way -= 1

    async def _serve_stream(self, call: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for _ in requests:
            yield await self._serve(call)
        yield await self._serve(call)

    async def call(self, method: Method) -> None:
        if method is READ:
            await self._unary(call_of(method))
            return
        replies = self._stream(call_of(method), requests_of())
        try:
            async for _ in replies:
                await asyncio.sleep(0)
        finally:
            await replies.aclose()  # type: ignore[attr-defined]

    def left(self) -> list[Any]:
        """What was not given back."""
        places = [
            slots.taken + slots.waiting
            for shared in self.target.shared.values()
            if isinstance(shared, Bulkhead)
            for slots in shared.slots.values()
        ]
        assert places
        return [*places, self.under_way, *self.endpoints._under_way.values()]


@pytest.mark.parametrize(
    ("policy", "method"), [(RETRIED, READ), (HEDGED, READ), (RETRIED, COUNT), (RETRIED, CHAT)]
)
def test_nothing_is_kept(policy: Policy, method: Method) -> None:
    ended = False

    def cancelled_after(awaits: int) -> Callable[[], Any]:
        async def story() -> bool:
            world = World(policy)
            task = asyncio.get_running_loop().create_task(world.call(method))
            for _ in range(awaits):
                await asyncio.sleep(0)
            over = task.done()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            for _ in range(9):  # a loser of a hedge is told, and ends
                await asyncio.sleep(0)
            if awaits > 2:
                assert not any(world.left()), f"cancelled at await {awaits}: {world.left()}"
            for _, _, circuit in world.target.circuits():
                permits = [circuit.acquire() for _ in range(policy.circuit.probes)]
                assert all(permits), f"cancelled at await {awaits}: a probe is kept"
            return over

        return story

    for awaits in range(AWAITS_MAX):
        if ended := run_virtual(cancelled_after(awaits)()):
            break
    assert ended
    assert awaits > 4
