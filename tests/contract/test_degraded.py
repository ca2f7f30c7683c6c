"""A degraded answer says so to whoever gets it, over any number of hops: on each transport."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from mesh.call import Call
from mesh.client import Channel, Policy
from mesh.errors import Unavailable
from mesh.layers.fallback import FallbackConfig
from mesh.metadata import DEGRADED
from mesh.scope import scope
from tests.support.echo import ADD, PUT, READ, EchoReply, EchoRequest, EchoStub, stock_channel
from tests.support.wire import ONCE, GrpcWire, Wire

KEEPING = Policy(retry=None, fallback=FallbackConfig(last_good_s=60.0))
SAID = f"{READ.full_name};age=0"


class Hops:
    """One server that calls itself: Add and Count call Put, which calls Read, which may fail."""

    def __init__(self, wire: Wire) -> None:
        self.broken = False
        #: What Add's handler knew of its own answer.
        self.known: list[str] | None = None
        self.stub = EchoStub(
            Channel(
                wire.node,
                "echo",
                [wire.address],
                wire.transport,
                lambda method: KEEPING if method == READ else ONCE,
            )
        )
        wire.echo.on_unary = self.unary
        wire.echo.on_stream = self.stream

    async def unary(self, call: Call) -> Any:
        if call.method == ADD:
            reply = await self.stub.Put(EchoRequest())
            self.known = scope.get().degraded
            return reply
        if call.method == PUT:
            return await self.stub.Read(EchoRequest())
        if self.broken:
            raise Unavailable
        return EchoReply(text="read")

    async def stream(self, _: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        for _number in range(2):
            yield await self.stub.Put(EchoRequest())


async def test_each_hop_learns_it(wire: Wire) -> None:
    hops = Hops(wire)
    assert (await hops.stub.Add(EchoRequest())).text == "read"
    assert hops.known == []
    hops.broken = True
    assert (await hops.stub.Add(EchoRequest())).text == "read"
    assert hops.known == [SAID]


async def test_without_a_fallback_it_fails(wire: Wire) -> None:
    hops = Hops(wire)
    hops.broken = True
    with pytest.raises(Unavailable):
        await hops.stub.Add(EchoRequest())


async def test_it_is_in_the_initial_metadata(grpc_wire: GrpcWire) -> None:
    hops = Hops(grpc_wire)
    async with stock_channel(int(grpc_wire.address.rpartition(":")[2])) as channel:
        stub = EchoStub(channel)
        whole = stub.Add(EchoRequest())
        await whole
        assert DEGRADED not in dict(await whole.initial_metadata())
        hops.broken = True
        degraded = stub.Add(EchoRequest())
        await degraded
        assert dict(await degraded.initial_metadata())[DEGRADED] == SAID
        streamed = stub.Count(EchoRequest())
        assert len([reply async for reply in streamed]) == 2
        assert dict(await streamed.initial_metadata())[DEGRADED] == SAID
