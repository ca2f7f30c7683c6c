"""A chain of services, each of which does nothing but call the next; the last one is the leaf.

    edge -> s1 -> s2 -> s3 -> leaf

Four hops, each with the whole client and server stack, breakers off.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from typing import Any

from mesh.call import Call, Handler, stack
from mesh.client import Channel, Policy
from mesh.errors import MeshError
from mesh.layers.backoff import Backoff
from mesh.layers.budget import BudgetConfig
from mesh.layers.circuit import CircuitConfig
from mesh.layers.retry import RetryPolicy
from mesh.node import Node
from mesh.runtime.clock import Runtime
from mesh.server import server_layers
from mesh.transport.port import Route, Routes, Transport
from tests.support.echo import READ, EchoReply, EchoRequest

HOPS = 4
BACKOFF = Backoff(base_s=0.01, max_s=0.1)
NO_BREAKER = CircuitConfig(failures=1_000_000_000)


class Chain:
    """The chain, and what was offered to it and arrived at its leaf.

    Args:
        runtime: everybody's.
        transport: theirs, too.
        serve: takes the routes of the services, from the leaf up; returns where they are served.
        budget: of each client.
    """

    def __init__(self, runtime: Runtime, transport: Transport, budget: BudgetConfig) -> None:
        self._node = Node(runtime=runtime)
        self._transport = transport
        self._policy = Policy(
            timeout_s=30.0,
            retry=RetryPolicy(attempts_max=3, backoff=BACKOFF, budget=budget),
            circuit=NO_BREAKER,
        )
        self._edge: Any = None
        self.leaf: Callable[[], Awaitable[None]] = _succeed
        self.offered = self.succeeded = self.attempts = 0

    async def build(self, serve: Callable[[Routes], Awaitable[str]]) -> None:
        """Serve the services, the leaf first."""
        address = await serve(self._routes(self._answer))
        for _ in range(HOPS - 1):
            address = await serve(self._routes(self._pass_on(self._call(address))))
        self._edge = self._call(address)

    async def offer(self, calls: int, per_s: float) -> None:
        """Make *calls* calls at the edge, *per_s* a second, each from a context of its own."""
        loop, sleep = asyncio.get_running_loop(), self._node.runtime.clock.sleep
        tasks = []
        for _ in range(calls):
            tasks.append(loop.create_task(self._one(), context=contextvars.Context()))
            await sleep(1.0 / per_s)
        for task in tasks:
            await task

    async def _one(self) -> None:
        self.offered += 1
        try:
            await self._edge(EchoRequest())
        except MeshError:
            return
        self.succeeded += 1

    def _call(self, address: str) -> Any:
        # Each hop has a budget of its own, although all are one process.
        channel = Channel(self._node, address, [address], self._transport, self._policy)
        return channel.unary_unary(READ.path)

    def _routes(self, handler: Handler) -> Routes:
        unary = stack(*server_layers(self._node), around=handler)
        return {READ.path: Route(READ, unary=unary)}

    async def _answer(self, call: Call) -> Any:
        self.attempts += 1
        await self.leaf()
        return EchoReply()

    def _pass_on(self, remote: Any) -> Handler:
        async def handle(call: Call) -> Any:
            return await remote(call.request)

        return handle


async def _succeed() -> None:
    """The leaf is well."""
