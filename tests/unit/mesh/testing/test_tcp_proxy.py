"""What the proxy does to real HTTP/2 connections, and what the mesh's transport makes of it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.call import Call
from mesh.errors import DeadlineExceeded, MeshError, Unavailable
from mesh.runtime.clock import Runtime
from mesh.testing.tcp_proxy import Direction, Faults, Http2Frames, Link, TcpProxy
from mesh.transport.grpc_client import OPTIONS, GrpcTransport
from mesh.transport.grpc_server import GrpcServer
from tests.support.echo import PUT, Echo, EchoReply, EchoRequest

#: What is set in production, at its fastest: gRPC waits for a second at least.
FAST = {"grpc.keepalive_time_ms": 1000, "grpc.http2.ping_timeout_ms": 500}
PATIENCE_S = 30.0


class Wire:
    """A server, the proxy before it, and a client."""

    def __init__(self, echo: Echo, proxy: TcpProxy, transport: GrpcTransport, port: int) -> None:
        self.echo = echo
        self.proxy = proxy
        self._transport = transport
        self._address = f"127.0.0.1:{port}"

    async def put(self, text: str = "hello", timeout_s: float = PATIENCE_S) -> Any:
        deadline = asyncio.get_running_loop().time() + timeout_s
        call = Call(PUT, EchoRequest(text=text), deadline, address=self._address)
        return await self._transport.unary(call)

    async def put_again(self) -> None:
        """Call until a connection that works is found: soon, and not on one that is frozen."""
        for _ in range(100):
            with contextlib.suppress(Unavailable):
                assert (await self.put("again")).text == "again"
                return
            await asyncio.sleep(0.01)
        raise AssertionError("no connection works any more")

    @property
    def link(self) -> Link:
        (link,) = self.proxy.links
        return link


@asynccontextmanager
async def wired() -> AsyncIterator[Wire]:
    runtime, echo = Runtime(), Echo()
    server = GrpcServer(runtime)
    server.add(echo.routes())
    proxy = TcpProxy("echo", "127.0.0.1", await server.start("127.0.0.1:0"))
    transport = GrpcTransport(runtime, tuple({**dict(OPTIONS), **FAST}.items()))
    try:
        yield Wire(echo, proxy, transport, await proxy.start("127.0.0.1"))
    finally:
        await transport.close()
        await proxy.close()
        await server.stop(0.0)


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    async with wired() as wire:
        yield wire


class Slow:
    """Has the server begin its next answers, and end them when told."""

    def __init__(self, wire: Wire) -> None:
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()
        wire.echo.on_unary = self._answer

    async def _answer(self, call: Call) -> Any:
        self.begun.set()
        await self.go_on.wait()
        return EchoReply(text="late")


async def test_by_itself_it_is_not_noticed(wire: Wire) -> None:
    for text in ("a", "", "x" * 1_000_000):
        assert (await wire.put(text)).text == text
    assert len(wire.proxy.links) == 1


async def test_a_reset_is_told_at_once_and_the_next_call_connects_anew(wire: Wire) -> None:
    await wire.put()
    slow = Slow(wire)
    call = asyncio.create_task(wire.put())
    await slow.begun.wait()
    first = wire.link
    first.reset()
    with pytest.raises(Unavailable):
        await call
    wire.echo.on_unary = None
    await wire.put_again()
    assert wire.link is not first


@pytest.mark.parametrize("directions", [("request", "reply"), ("request",), ("reply",)])
async def test_keepalive_finds_a_black_hole_that_no_deadline_would(
    wire: Wire, directions: tuple[Direction, ...]
) -> None:
    await wire.put()
    slow = Slow(wire)
    call = asyncio.create_task(wire.put())
    await slow.begun.wait()
    assert FAST.keys() <= dict(OPTIONS).keys()
    hole = wire.link
    hole.freeze(*directions)
    if "reply" in directions:
        slow.go_on.set()
    with pytest.raises(Unavailable) as lost:  # not DeadlineExceeded
        await call
    assert not isinstance(lost.value, DeadlineExceeded)
    wire.echo.on_unary = None
    await wire.put_again()
    assert hole.faults.frozen == directions


async def test_what_waited_in_a_black_hole_passes_when_it_heals(wire: Wire) -> None:
    await wire.put()
    wire.link.freeze()
    call = asyncio.create_task(wire.put("waits"))
    await asyncio.sleep(0.05)
    assert len(wire.echo.served) == 1
    wire.link.heal()
    assert (await call).text == "waits"


@pytest.mark.parametrize(("direction", "served"), [("request", 1), ("reply", 2)])
async def test_a_frame_that_is_cut_is_no_message(
    wire: Wire, direction: Direction, served: int
) -> None:
    await wire.put()
    wire.link.cut(direction)
    with pytest.raises(Unavailable):
        await wire.put("y" * 1000)
    assert len(wire.echo.served) == served  # of a request cut in half nothing was served
    await wire.put_again()


async def test_delay_and_bandwidth_only_take_time(wire: Wire) -> None:
    await wire.put()
    for faults in (Faults(delay_s=0.05), Faults(bytes_per_s=1_000_000)):
        wire.link.apply(faults)
        assert (await wire.put("z" * 100_000)).text == "z" * 100_000
    wire.link.apply(Faults(delay_s=5.0))
    with pytest.raises(DeadlineExceeded):
        await wire.put(timeout_s=0.2)


async def test_who_is_refused_cannot_connect(wire: Wire) -> None:
    wire.proxy._faults = lambda peer: Faults(refused=True)
    with pytest.raises(MeshError) as refused:
        await wire.put(timeout_s=1.0)
    assert refused.value.reason
    assert wire.echo.served == []


async def test_without_a_server_the_client_is_told() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        proxy = TcpProxy("nobody", "127.0.0.1", nobody.getsockname()[1])
        reader, writer = await asyncio.open_connection("127.0.0.1", await proxy.start("127.0.0.1"))
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), PATIENCE_S)
        writer.close()
        await proxy.close()


async def test_an_end_in_peace_loses_nothing_that_was_sent_before() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * 500_000)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    proxy = TcpProxy("talker", "127.0.0.1", server.sockets[0].getsockname()[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", await proxy.start("127.0.0.1"))
    assert len(await asyncio.wait_for(reader.read(), PATIENCE_S)) == 500_000
    writer.close()
    await proxy.close()
    server.close()
    await server.wait_closed()


def frame(kind: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, 0]) + bytes(4) + payload


@given(
    st.lists(st.tuples(st.sampled_from([0, 1, 6, 8]), st.binary(max_size=40)), max_size=8),
    st.lists(st.integers(1, 60), max_size=20),
    st.booleans(),
)
def test_the_middle_of_a_message_is_found_however_it_comes(
    frames: list[tuple[int, bytes]], cuts: list[int], has_preface: bool
) -> None:
    stream, inside = (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" if has_preface else b""), set[int]()
    for kind, payload in frames:
        stream += frame(kind, payload)
        if kind == 0:  # a cut before its first byte, or behind its last, would be between frames
            inside |= set(range(len(stream) - len(payload) + 1, len(stream)))
    follower, position = Http2Frames(has_preface), 0
    for size in [*cuts, len(stream)]:
        piece = stream[position : position + size]
        middle = follower.middle_of_data(piece)
        assert not middle or position + middle in inside
        has_two = any({position + n, position + n - 1} <= inside for n in range(1, len(piece)))
        assert middle or not has_two or len(piece) <= 1
        position += len(piece)


async def test_a_frozen_link_passes_no_farewell_either() -> None:
    writers: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: writers.append(writer), "127.0.0.1", 0)
    proxy = TcpProxy("server", "127.0.0.1", server.sockets[0].getsockname()[1])
    port = await proxy.start("127.0.0.1")
    clients = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
    async with asyncio.timeout(PATIENCE_S):
        while len(writers) < len(clients):  # noqa: ASYNC110  # the server tells nobody
            await asyncio.sleep(0.01)
        frozen, other = proxy.links
        frozen.freeze("reply")
        for writer in writers:
            writer.close()
        readers = {client[1].get_extra_info("sockname"): client[0] for client in clients}
        assert await readers[other.peer].read() == b""
        assert not readers[frozen.peer].at_eof()
        frozen.heal()
        assert await readers[frozen.peer].read() == b""
    for _, writer in clients:
        writer.close()
    await proxy.close()
    server.close()
