"""An address that is forgotten is left by those only who have no call under way there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from mesh.call import Call, Method
from mesh.errors import MeshError
from mesh.node import Node
from mesh.transport.grpc_client import GrpcTransport
from mesh.transport.grpc_server import GrpcServer
from tests.support.echo import ADD, Echo, EchoReply, call_of, requests_of
from tests.support.waiting import soon, until
from tests.support.wire import FOUR


class Site:
    """A server that answers when it may, and a transport to it that several clients share."""

    def __init__(self) -> None:
        node = Node()
        self.begun, self.may_answer = asyncio.Event(), asyncio.Event()
        self.server = GrpcServer(node.runtime)
        self.transport = GrpcTransport(node.runtime)
        echo = Echo()
        echo.on_unary, echo.on_stream = self._unary, self._stream
        self.server.add(echo.routes())
        self.address = ""

    async def _unary(self, _: Call) -> Any:
        self.begun.set()
        await self.may_answer.wait()
        return EchoReply(text="late")

    async def _stream(self, call: Call, _: AsyncIterator[Any]) -> AsyncIterator[Any]:
        yield await self._unary(call)

    def send(self, method: Method) -> asyncio.Task[list[Any]]:
        call = call_of(method, address=self.address)

        async def replies() -> list[Any]:
            if method is ADD:
                return [await self.transport.unary(call)]
            return [reply async for reply in self.transport.stream(call, requests_of())]

        return asyncio.create_task(replies())

    @property
    def channel(self) -> grpc.aio.Channel:
        return self.transport._connections[self.address].channel


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    site.address = f"127.0.0.1:{await site.server.start('127.0.0.1:0')}"
    yield site
    await site.transport.close()
    await site.server.stop(0.0)


@FOUR
async def test_a_call_under_way_is_let_finish(site: Site, method: Method) -> None:
    """Another client's, on the same transport: its own has none there, or it would not forget."""
    sent = site.send(method)
    await soon(site.begun)
    channel = site.channel
    site.transport.forget(site.address)
    assert channel.get_state() is grpc.ChannelConnectivity.READY
    site.may_answer.set()
    assert [reply.text for reply in await sent] == ["late"]
    await until(lambda: channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN)


async def test_whoever_still_has_the_address_connects_again(site: Site) -> None:
    first = site.send(ADD)
    await soon(site.begun)
    site.transport.forget(site.address)
    second = site.send(ADD)
    site.may_answer.set()
    assert await first == await second
    assert site.channel.get_state() is not grpc.ChannelConnectivity.SHUTDOWN


async def test_closing_the_transport_ends_them(site: Site) -> None:
    sent = site.send(ADD)
    await soon(site.begun)
    site.transport.forget(site.address)
    await site.transport.close()
    with pytest.raises((MeshError, asyncio.CancelledError)):
        await sent
