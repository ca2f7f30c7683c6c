"""Two replicas behind one channel, over sockets: drained, killed, come back."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from mesh.call import stack, stack_stream
from mesh.client import Channel, Policy
from mesh.discovery import Reach
from mesh.node import Node
from mesh.runtime.lifecycle import NOTICE_S
from mesh.server import server_layers
from mesh.transport.grpc_client import GrpcTransport
from mesh.transport.grpc_server import GrpcServer
from tests.support.echo import Echo, EchoReply, EchoRequest, EchoStub
from tests.support.waiting import until

AT_ONCE = 8
RESTARTS = 12
PATIENCE_S = 20.0
#: Long enough for gRPC to try in vain to connect again, and to wait before the next time.
DOWN_S = 0.4
#: A call that is sent once: whatever goes wrong with it, its caller sees.
ONCE = Policy(retry=None)


def is_used(replica: Replica, before: int) -> bool:
    return replica.served > before


class Replica:
    """One echo service with an address of its own, which it keeps."""

    def __init__(self, node: Node, *, tells_health: bool = True) -> None:
        self.node = node
        self.address = "127.0.0.1:0"
        self.served = 0
        self._tells_health = tells_health
        self._server = GrpcServer(node.runtime)
        self._health = health.aio.HealthServicer()

    async def start(self) -> None:
        self._server = GrpcServer(self.node.runtime)
        self._health = health.aio.HealthServicer()
        if self._tells_health:
            health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server.server)
        echo = Echo()

        async def answer(_: Any) -> Any:
            self.served += 1
            await asyncio.sleep(0.005)
            return EchoReply()

        echo.on_unary = answer
        layers = server_layers(self.node)
        self._server.add(
            echo.routes(
                lambda handler: stack(*layers, around=handler),
                lambda handler: stack_stream(*layers, around=handler),
            )
        )
        self.address = f"127.0.0.1:{await self._server.start(self.address)}"
        await self._health.set("", health_pb2.HealthCheckResponse.SERVING)

    async def drain(self) -> None:
        """End as a service's process does."""
        await self._health.enter_graceful_shutdown()
        await asyncio.sleep(NOTICE_S)
        await self._server.stop(10.0)

    async def die(self) -> None:
        await self._server.stop(0.0)


class Site:
    def __init__(self, *replicas: Replica) -> None:
        self.replicas = replicas
        self.transport = GrpcTransport(replicas[0].node.runtime)
        addresses = [one.address for one in replicas]
        channel = Channel(replicas[0].node, "echo", addresses, self.transport, ONCE)
        self.stub = EchoStub(channel)
        self.failures: Counter[str] = Counter()
        #: Of calls that began when all was known.
        self.late_failures: Counter[str] = Counter()
        self.known = False
        self.calls = 0

    async def until(self, replica: Replica, wanted: Reach) -> None:
        await until(lambda: self.transport.reach(replica.address) is wanted)

    @asynccontextmanager
    async def load(self) -> AsyncIterator[None]:
        """Call `Add`, which may not be repeated, from many sides at once."""
        over = False

        async def customer() -> None:
            while not over:
                self.calls += 1
                failures = self.late_failures if self.known else self.failures
                try:
                    await self.stub.Add(EchoRequest(), timeout=PATIENCE_S)
                except Exception as error:  # noqa: BLE001 - all are counted
                    failures[repr(error)] += 1

        customers = [asyncio.create_task(customer()) for _ in range(AT_ONCE)]
        try:
            yield
        finally:
            over = True
            await asyncio.gather(*customers)


@asynccontextmanager
async def site(*replicas: Replica) -> AsyncIterator[Site]:
    for replica in replicas:
        await replica.start()
    made = Site(*replicas)
    try:
        for replica in replicas:
            await made.until(replica, Reach.READY)
        yield made
    finally:
        await made.transport.close()
        for replica in replicas:
            await replica.die()


async def test_replicas_restarted_in_turn_fail_no_call() -> None:
    node = Node()
    async with site(Replica(node), Replica(node)) as two:
        async with two.load():
            for number in range(RESTARTS):
                replica = two.replicas[number % 2]
                await replica.drain()
                await asyncio.sleep(DOWN_S)
                await replica.start()
                await two.until(replica, Reach.READY)
                await until(partial(is_used, replica, replica.served))
        assert not two.failures, f"of {two.calls}"


async def test_a_replica_that_says_that_it_does_not_serve_gets_nothing() -> None:
    node = Node()
    async with site(Replica(node), Replica(node)) as two:
        first, second = two.replicas
        await first._health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        await two.until(first, Reach.FAILING)  # we never called it
        before = first.served
        for _ in range(10):
            await two.stub.Add(EchoRequest())
        assert (first.served, second.served) == (before, 10)


async def test_when_none_says_that_it_serves_those_still_there_are_called() -> None:
    node = Node()
    async with site(Replica(node), Replica(node)) as two:
        first, second = two.replicas
        for _ in range(4):
            await two.stub.Add(EchoRequest())
        await first.die()
        await second._health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        await two.until(first, Reach.FAILING)
        await two.until(second, Reach.UNWILLING)
        for _ in range(10):
            await two.stub.Add(EchoRequest())


async def test_after_a_death_only_what_was_under_way_fails() -> None:
    node = Node()
    async with site(Replica(node), Replica(node)) as two:
        first, second = two.replicas
        async with two.load():
            await asyncio.sleep(0.1)
            await first.die()
            await two.until(first, Reach.FAILING)
            two.known = True
            before = second.served
            await until(lambda: second.served >= before + 50)
        assert not two.late_failures
        assert two.failures.total() <= AT_ONCE


@pytest.mark.parametrize("tells_health", [True, False])
async def test_a_server_without_a_health_service_counts_as_serving(*, tells_health: bool) -> None:
    node = Node()
    replicas = (Replica(node), Replica(node, tells_health=tells_health))
    async with site(*replicas) as two:
        for _ in range(10):
            await two.stub.Add(EchoRequest())
        assert [one.served for one in two.replicas] == [5, 5]


async def test_an_address_that_is_forgotten_is_connected_no_more() -> None:
    node = Node()
    async with site(Replica(node), Replica(node)) as two:
        for _ in range(4):
            await two.stub.Add(EchoRequest())
        first, second = (one.address for one in two.replicas)
        two.transport.forget(first)
        assert {*two.transport._connections} == {*two.transport._watches} == {second}
        await two.stub.Add(EchoRequest())  # asked for again, it is opened again
