"""Services in a row over real sockets, each of which hands every kind of call on to the next.

    caller -> first -> second -> leaf

Each hop has the whole client and the whole server stack.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from mesh.call import Call, Layer, stack, stack_stream
from mesh.client import Channel, Policing, Policy
from mesh.layers.streams import Reading
from mesh.node import Node
from mesh.runtime.clock import Runtime
from mesh.runtime.recorder import Recorder
from mesh.server import server_layers
from mesh.transport.grpc_client import GrpcTransport
from mesh.transport.grpc_server import GrpcServer
from tests.support.echo import Echo, EchoStub

HOPS = 3


class Spans(Recorder):
    """Counts the spans that were begun and those that were ended."""

    def __init__(self) -> None:
        self.begun = self.ended = 0
        super().__init__(self._end, Runtime())

    def _end(self, _: bytes) -> None:
        self.ended += 1

    def start_below(self, *args: Any, **options: Any) -> Any:
        self.begun += 1
        return super().start_below(*args, **options)


class Row:
    """The services; `leaf` is the last one's echo. An async context manager."""

    def __init__(self, policy: Policing | None = None) -> None:
        self.spans = Spans()
        self.node = Node(tracer=self.spans)
        self.leaf = Echo()
        self.echoes = [self.leaf]  # from the first to the leaf
        self._policy = policy or Policy(retry=None)
        self._transports: list[GrpcTransport] = []
        self._servers: list[GrpcServer] = []
        self.stub: EchoStub

    async def __aenter__(self) -> Row:
        self.stub = await self._serve(self.leaf)
        for _ in range(HOPS - 1):
            self.echoes.insert(0, handing_on(self.stub))
            self.stub = await self._serve(self.echoes[0])
        return self

    async def __aexit__(self, *_: object) -> None:
        for transport in self._transports:
            await transport.close()
        for server in self._servers:
            await server.stop(0.0)

    async def _serve(self, echo: Echo) -> EchoStub:
        server, transport = GrpcServer(self.node.runtime), GrpcTransport(self.node.runtime)
        layers: list[Layer] = server_layers(self.node)
        server.add(
            echo.routes(
                lambda handler: stack(*layers, around=handler),
                lambda handler: stack_stream(*layers, around=handler),
            )
        )
        address = f"127.0.0.1:{await server.start('127.0.0.1:0')}"
        self._servers.append(server)
        self._transports.append(transport)
        return EchoStub(Channel(self.node, "next", [address], transport, self._policy))


def handing_on(stub: EchoStub) -> Echo:
    """Return a service whose every method calls the same one of *stub*."""
    echo = Echo()

    async def unary(call: Call) -> Any:
        return await getattr(stub, call.method.name)(call.request)

    async def stream(call: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        remote = getattr(stub, call.method.name)
        given = requests if call.method.client_streams else call.request
        if not call.method.server_streams:
            yield await remote(given)
            return
        async with Reading(remote(given)) as replies:
            async for reply in replies:
                yield reply

    echo.on_unary, echo.on_stream = unary, stream
    return echo


class Endless:
    """A leaf that never answers, and tells when it was begun and how often it was ended."""

    def __init__(self, echo: Echo) -> None:
        self.begun = asyncio.Event()
        self.ended = asyncio.Event()
        echo.on_unary = self._answer
        echo.on_stream = self._reply

    async def _answer(self, _: Call) -> Any:
        self.begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.ended.set()

    async def _reply(self, call: Call, _: AsyncIterator[Any]) -> AsyncIterator[Any]:
        yield await self._answer(call)
