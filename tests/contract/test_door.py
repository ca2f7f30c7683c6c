"""A server that says at its door, before it has read a call, why it does not let it in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from mesh.call import Door, Layer, Method
from mesh.errors import MeshError, Outcome, Overloaded
from mesh.metadata import CORRELATION_ID
from mesh.node import Node
from mesh.runtime.clock import Runtime
from mesh.transport.server_interceptors import ServerInterceptor
from tests.support.echo import CHAT, READ, EchoReply, EchoRequest, EchoStub, stock_channel
from tests.support.wire import FOUR, GrpcWire, send

REFUSAL = Overloaded("not now", retry_after_s=7.0)


class Full(GrpcWire):
    """Lets nobody in whose metadata has no pass."""

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self.came: list[dict[str, str | bytes]] = []

    def routes(self) -> dict[str, Any]:
        return {path: replace(one, door=self.door) for path, one in super().routes().items()}

    def door(self, metadata: Iterable[tuple[str, str | bytes]]) -> MeshError | None:
        self.came.append(dict(metadata))
        return None if "pass" in self.came[-1] else REFUSAL


@pytest.fixture
async def full() -> AsyncIterator[Full]:
    async with Full(Node()) as wire:
        yield wire


@FOUR
async def test_who_is_refused_hears_why_and_is_not_served(full: Full, method: Method) -> None:
    with pytest.raises(Overloaded) as caught:
        await send(full.stub(), method)
    assert caught.value.code() is StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.outcome is Outcome.NOT_EXECUTED
    assert (caught.value.message, caught.value.retry_after_s) == ("not now", 7.0)
    assert full.echo.served == []
    assert CORRELATION_ID in full.came[0]


@FOUR
async def test_who_is_let_in_is_served(full: Full, method: Method) -> None:
    await send(full.stub(), method, metadata=(("pass", "yes"),))
    assert [call.method for call in full.echo.served] == [method]


async def test_a_stream_that_is_refused_need_not_send_what_it_has(full: Full) -> None:
    requests = [EchoRequest(text="x" * 8)] * 1000
    with pytest.raises(Overloaded):
        await send(full.stub(), CHAT, *requests)
    await send(full.stub(), CHAT, *requests, metadata=(("pass", "yes"),))
    assert len(full.echo.served) == 1


async def test_what_is_not_served_has_no_door(full: Full) -> None:
    await full.servers[0].stop(0.0)
    full.address = await full.serve({})
    with pytest.raises(MeshError) as caught:
        await send(full.stub(address=full.address), CHAT)
    assert caught.value.code() is StatusCode.UNIMPLEMENTED
    assert full.came == []


class Closed(Layer):
    """Refuses at the door, and nowhere else."""

    def door(self, method: Method) -> Door | None:
        return lambda metadata: None if "pass" in dict(metadata) else REFUSAL


@pytest.mark.parametrize("threaded", [False, True], ids=["coroutine", "thread"])
async def test_stock_servers_have_the_door_of_their_layers(threaded: bool) -> None:
    asked: list[str] = []

    def read(request: EchoRequest, _: object) -> EchoReply:
        asked.append(request.text)
        return EchoReply(text=request.text)

    async def read_async(request: EchoRequest, context: object) -> EchoReply:
        return read(request, context)

    rpc = grpc.unary_unary_rpc_method_handler(
        read if threaded else read_async, EchoRequest.FromString, EchoReply.SerializeToString
    )
    server = grpc.aio.server(interceptors=[ServerInterceptor(lambda _: [Closed()], Runtime())])
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(READ.service, {READ.name: rpc}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with stock_channel(port) as channel:
        stub = EchoStub(channel)
        for _ in range(2):
            with pytest.raises(grpc.aio.AioRpcError, match="not now"):
                await stub.Read(EchoRequest(text="a"))
        assert (await stub.Read(EchoRequest(text="b"), metadata=(("pass", "yes"),))).text == "b"
    await server.stop(None)
    assert asked == ["b"]
