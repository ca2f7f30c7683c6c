"""What a server refuses to take from the wire, shown on sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from mesh.call import Call
from mesh.runtime.clock import Runtime
from mesh.transport.grpc_server import GrpcServer
from mesh.transport.wire import WireConfig
from tests.support.echo import Echo, EchoReply, EchoRequest, EchoStub, stock_channel

Serve = Callable[[WireConfig], Awaitable[tuple[Echo, int]]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    servers: list[GrpcServer] = []

    async def started(wire: WireConfig) -> tuple[Echo, int]:
        echo, server = Echo(), GrpcServer(Runtime(), wire)
        server.add(echo.routes())
        servers.append(server)
        return echo, await server.start("127.0.0.1:0")

    yield started
    for server in servers:
        await server.stop(0.0)


async def test_messages_and_metadata_over_their_limits_are_refused(serve: Serve) -> None:
    echo, port = await serve(WireConfig(message_bytes_max=1000, metadata_bytes_max=1000))
    async with stock_channel(port) as channel:
        stub = EchoStub(channel)
        assert (await stub.Read(EchoRequest(text="x" * 900))).text
        for request, metadata in ((EchoRequest(text="x" * 1100), ()), (EchoRequest(), HEAVY)):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.Read(request, metadata=metadata)
            assert caught.value.code() is StatusCode.RESOURCE_EXHAUSTED
    assert len(echo.served) == 1


HEAVY = (("x-heavy", "x" * 3000),)


async def test_a_connection_has_only_so_many_calls_at_a_time(serve: Serve) -> None:
    echo, port = await serve(WireConfig(streams_max=3))
    free, under_way, peak = asyncio.Event(), 0, 0

    async def held(_: Call) -> Any:
        nonlocal under_way, peak
        under_way += 1
        peak = max(peak, under_way)
        if under_way == 3:
            free.set()
        await free.wait()
        await asyncio.sleep(0.01)
        under_way -= 1
        return EchoReply()

    async with stock_channel(port) as channel:
        stub = EchoStub(channel)
        await stub.Read(EchoRequest())  # the connection is there: its client knows the limit
        echo.on_unary = held
        calls = (stub.Read(EchoRequest()) for _ in range(12))
        ends = await asyncio.gather(*calls, return_exceptions=True)
    assert peak == 3
    refused = [end for end in ends if isinstance(end, grpc.aio.AioRpcError)]
    assert {error.code() for error in refused} <= {StatusCode.UNAVAILABLE}
    assert len(echo.served) == 1 + len(ends) - len(refused), "what is refused is not executed"


async def test_connections_beyond_the_limit_are_closed(serve: Serve) -> None:
    _, port = await serve(WireConfig(connections_max=1))
    alone = (("grpc.use_local_subchannel_pool", 1),)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=alone) as first:
        await EchoStub(first).Read(EchoRequest())
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=alone) as second:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await EchoStub(second).Read(EchoRequest(), timeout=20.0)
            assert caught.value.code() is StatusCode.UNAVAILABLE


async def test_a_connection_is_opened_anew_when_it_is_old_and_no_call_fails(serve: Serve) -> None:
    echo, port = await serve(WireConfig(connection_age_s=0.2, connection_age_grace_s=20.0))

    async def slow(_: Call) -> Any:
        await asyncio.sleep(0.02)
        return EchoReply()

    echo.on_unary = slow
    async with stock_channel(port) as channel:
        for _ in range(50):
            await EchoStub(channel).Read(EchoRequest())
    assert len(echo.served) == 50


@pytest.mark.parametrize("name", WireConfig.__dataclass_fields__)
def test_a_limit_of_nothing_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="more than 0"):
        WireConfig(**{name: 0})
