"""The breaker as outlier ejection: three real servers, one of which fails, one of which refuses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mesh.call import Call, stack, stack_stream
from mesh.client import Channel, Policy
from mesh.errors import Internal, MeshError, Refused
from mesh.layers.circuit import CircuitConfig, State
from mesh.node import Node
from mesh.server import server_layers
from mesh.transport.grpc_client import GrpcTransport
from mesh.transport.grpc_server import GrpcServer
from tests.support.echo import READ, Echo, EchoReply, EchoRequest, EchoStub

CALLS = 90


class Replicas:
    """Three servers of one contract, and how many calls each has had."""

    def __init__(self) -> None:
        self.node = Node()
        self.servers: list[GrpcServer] = []
        self.addresses: list[str] = []
        self.calls = {"healthy": 0, "failing": 0, "refusing": 0}
        self.ways: dict[str, str] = {}

    async def start(self, *ways: str) -> None:
        layers = server_layers(self.node)
        for way in ways:
            echo = Echo()
            echo.on_unary = self._answering(way)
            server = GrpcServer(self.node.runtime)
            server.add(
                echo.routes(
                    lambda handler: stack(*layers, around=handler),
                    lambda handler: stack_stream(*layers, around=handler),
                )
            )
            address = f"127.0.0.1:{await server.start('127.0.0.1:0')}"
            self.servers.append(server)
            self.addresses.append(address)
            self.ways[address] = way

    def _answering(self, way: str) -> Any:
        async def answer(_: Call) -> EchoReply:
            self.calls[way] += 1
            if way == "failing":
                raise Internal("a broken replica")
            if way == "refusing":
                raise Refused("not in this state")  # FAILED_PRECONDITION
            return EchoReply()

        return answer


@pytest.fixture
async def replicas() -> AsyncIterator[Replicas]:
    made = Replicas()
    yield made
    for server in made.servers:
        await server.stop(0.0)


@pytest.mark.parametrize("ways", [("healthy", "failing", "refusing"), ("healthy", "failing")])
async def test_who_fails_is_left_out_and_who_refuses_is_not(
    replicas: Replicas, ways: tuple[str, ...]
) -> None:
    await replicas.start(*ways)
    node = Node()
    policy = Policy(retry=None, circuit=CircuitConfig(failures=3, open_s=600.0))
    answers: dict[str, int] = {}
    transport = GrpcTransport(node.runtime)
    async with Channel(node, "echo", replicas.addresses, transport, policy) as channel:
        stub = EchoStub(channel)
        for _ in range(CALLS):
            try:
                await stub.Read(EchoRequest())
                how = "OK"
            except MeshError as error:
                how = error.status.name
            answers[how] = answers.get(how, 0) + 1
        circuits = {
            replicas.ways[address]: circuit.state
            for address, _, circuit in node.target("echo").circuits(method=READ.full_name)
        }
    assert replicas.calls["failing"] == 3, "it was called after its circuit had opened"
    assert answers["INTERNAL"] == 3
    assert "UNAVAILABLE" not in answers, "a call was refused although another could have had it"
    shares = [replicas.calls[way] for way in ways if way != "failing"]
    assert max(shares) - min(shares) <= 3, "those that are left take turns"
    assert circuits == {way: State.OPEN if way == "failing" else State.CLOSED for way in ways}


async def test_with_all_replicas_failing_the_caller_is_told_when_to_try_again(
    replicas: Replicas,
) -> None:
    await replicas.start("failing", "failing")
    node = Node()
    policy = Policy(retry=None, circuit=CircuitConfig(failures=1, open_s=600.0))
    transport = GrpcTransport(node.runtime)
    async with Channel(node, "echo", replicas.addresses, transport, policy) as channel:
        stub = EchoStub(channel)
        ends = await asyncio.gather(
            *(stub.Read(EchoRequest()) for _ in range(2)), return_exceptions=True
        )
        assert [type(end) for end in ends] == [Internal, Internal]
        with pytest.raises(MeshError) as caught:
            await stub.Read(EchoRequest())
    assert caught.value.reason == "CIRCUIT_OPEN"
    assert (caught.value.retry_after_s or 0.0) > 500.0
