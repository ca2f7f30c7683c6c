"""An echo service behind each of the transports, with the whole client and server stacks."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from typing import Any, Self

import pytest

from mesh.call import Call, Method, stack, stack_stream
from mesh.client import Channel, Policy
from mesh.node import Node
from mesh.server import server_layers
from mesh.transport.grpc_client import GrpcTransport
from mesh.transport.grpc_server import GrpcServer
from mesh.transport.memory import MemoryNetwork
from mesh.transport.port import Routes, Transport
from tests.support.echo import ADD, CHAT, COUNT, SUM, Echo, EchoRequest, EchoStub

ONCE = Policy(retry=None)
#: Longer than any machine takes; only a failure waits for it.
PATIENCE_S = 20.0

FOUR = pytest.mark.parametrize("method", [ADD, COUNT, SUM, CHAT], ids=lambda m: m.kind.name)
REQUESTS = pytest.mark.parametrize("method", [SUM, CHAT], ids=lambda m: m.kind.name)
STREAMED = pytest.mark.parametrize("method", [COUNT, CHAT], ids=lambda m: m.kind.name)


class Wire(ABC):
    """An echo service, a transport that reaches it, and the node that both belong to."""

    def __init__(self, transport: Transport, node: Node) -> None:
        self.node = node
        self.transport = transport
        self.address = ""
        self.nowhere = ""
        self.echo = Echo()

    def stub(self, policy: Policy = ONCE, address: str = "") -> EchoStub:
        address = address or self.address
        return EchoStub(Channel(self.node, "echo", [address], self.transport, policy))

    def routes(self) -> Routes:
        layers = server_layers(self.node)
        return self.echo.routes(
            lambda handler: stack(*layers, around=handler),
            lambda handler: stack_stream(*layers, around=handler),
        )

    def on_any(self, answer: Callable[[Call], Any]) -> None:
        """Let *answer* be the handler of every method; a stream has its one reply."""

        async def stream(call: Call, _: AsyncIterator[Any]) -> AsyncIterator[Any]:
            yield await answer(call)

        self.echo.on_unary = answer
        self.echo.on_stream = stream

    async def __aenter__(self) -> Self:
        self.address = await self.serve(self.routes())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @abstractmethod
    async def serve(self, routes: Routes) -> str:
        """Serve *routes*; return where."""

    async def close(self) -> None:
        await self.transport.close()


class GrpcWire(Wire):
    def __init__(self, node: Node) -> None:
        super().__init__(GrpcTransport(node.runtime), node)
        self.servers: list[GrpcServer] = []

    async def serve(self, routes: Routes) -> str:
        server = GrpcServer(self.node.runtime)
        server.add(routes)
        self.servers.append(server)
        return f"127.0.0.1:{await server.start('127.0.0.1:0')}"

    async def close(self) -> None:
        await super().close()
        for server in self.servers:
            await server.stop(0.0)


class MemoryWire(Wire):
    def __init__(self, node: Node) -> None:
        self.network = MemoryNetwork(node.runtime)
        self._addresses = iter("abc")
        super().__init__(self.network, node)

    async def serve(self, routes: Routes) -> str:
        address = next(self._addresses)
        self.network.serve(address, routes)
        return address


async def send(stub: EchoStub, method: Method, *requests: Any, **options: Any) -> list[Any]:
    """Call *method* and return its replies, whatever its kind."""
    remote = getattr(stub, method.name)
    requests = requests or (EchoRequest(number=1),)
    argument = iter(requests) if method.client_streams else requests[0]
    if method.server_streams:
        return [reply async for reply in remote(argument, **options)]
    return [await remote(argument, **options)]


class Endless:
    """A handler that never answers, and tells when it was begun and when it was ended."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.ended = asyncio.Event()

    async def __call__(self, _: Call) -> Any:
        self.begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.ended.set()
