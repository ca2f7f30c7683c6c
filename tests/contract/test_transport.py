"""What every transport promises, on each of them: real sockets, and the network in memory.

Calls go through the whole client stack and the whole server stack, as they do in a service.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from mesh.call import Call, Kind, Method
from mesh.client import Policy
from mesh.errors import (
    MeshError,
    Outcome,
    Unavailable,
)
from mesh.metadata import ATTEMPT, CORRELATION_ID, KEY, PUSHBACK
from mesh.scope import scope
from mesh.status import from_rpc_error
from mesh.transport.grpc_server import GrpcServer, PortInUseError
from tests.support.echo import ADD, CHAT, COUNT, SUM, EchoReply, EchoRequest
from tests.support.waiting import soon
from tests.support.wire import FOUR, PATIENCE_S, GrpcWire, Wire, send


class TestReplies:
    async def test_one_request_one_reply(self, wire: Wire) -> None:
        reply = await wire.stub().Add(EchoRequest(text="hello", number=7))
        assert (reply.text, reply.number) == ("hello", 7)

    async def test_one_request_many_replies(self, wire: Wire) -> None:
        replies = [r.number async for r in wire.stub().Count(EchoRequest(number=3))]
        assert replies == [0, 1, 2]
        assert [r async for r in wire.stub().Count(EchoRequest(number=0))] == []

    async def test_many_requests_one_reply(self, wire: Wire) -> None:
        numbers = [EchoRequest(number=n) for n in range(5)]
        assert (await wire.stub().Sum(iter(numbers))).number == 10
        assert (await wire.stub().Sum(iter([]))).number == 0

    async def test_many_requests_many_replies_by_turns(self, wire: Wire) -> None:
        heard: asyncio.Queue[str] = asyncio.Queue()

        async def talk() -> AsyncIterator[Any]:
            yield EchoRequest(text="a")
            yield EchoRequest(text=await heard.get() + "b")
            yield EchoRequest(text=await heard.get() + "c")

        said = []
        async for reply in wire.stub().Chat(talk()):
            said.append(reply.text)
            heard.put_nowait(reply.text)
        assert said == ["a", "ab", "abc"]

    @FOUR
    async def test_success_is_measured_as_success_on_both_sides(
        self, wire: Wire, method: Method
    ) -> None:
        await send(wire.stub(), method)
        statuses = [
            (sample.name.split("_")[1], sample.labels["rpc_response_status_code"])
            for metric in wire.node.metrics.registry.collect()
            for sample in metric.samples
            if sample.name.endswith("_call_duration_seconds_count")
        ]
        assert sorted(statuses) == [("client", "OK"), ("server", "OK")]

    @FOUR
    async def test_messages_do_not_pass_as_objects(self, wire: Wire, method: Method) -> None:
        seen: list[Any] = []

        async def keep(call: Call) -> Any:
            seen.append(call.request)
            return EchoReply()

        async def keep_all(call: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
            seen.extend([call.request, *[request async for request in requests]])
            yield EchoReply()

        wire.echo.on_unary, wire.echo.on_stream = keep, keep_all
        sent = EchoRequest(text="mine")
        await send(wire.stub(), method, sent)
        assert sent in seen
        assert not any(request is sent for request in seen)


class TestMetadata:
    @FOUR
    async def test_what_the_caller_adds_arrives(self, wire: Wire, method: Method) -> None:
        await send(wire.stub(), method, metadata=(("x-tenant", "acme"),))
        assert wire.echo.served[0].metadata["x-tenant"] == "acme"

    @FOUR
    async def test_the_correlation_id_arrives_and_is_in_scope(
        self, wire: Wire, method: Method
    ) -> None:
        scopes = []

        async def look(_: Call) -> Any:
            scopes.append(scope.get())
            return EchoReply()

        wire.on_any(look)
        await send(wire.stub(), method, metadata=((CORRELATION_ID, "order-7"),))
        assert scopes[0].correlation_id == "order-7"
        assert scopes[0].deadline == wire.echo.served[0].deadline
        assert not scope.get().correlation_id, "what is served here is not what is called from"

    async def test_a_key_arrives_for_what_changes_something(self, wire: Wire) -> None:
        stub = wire.stub()
        await stub.Put(EchoRequest(), metadata=((KEY, "mine"),))
        await stub.Put(EchoRequest())
        await stub.Read(EchoRequest())
        mine, made, none = (call.key for call in wire.echo.served)
        assert (mine, none) == ("mine", "")
        assert made not in ("", "mine")

    async def test_attempts_arrive_with_their_number_and_one_key(self, wire: Wire) -> None:
        async def twice_unavailable(_: Call) -> Any:
            if len(wire.echo.served) < 3:
                raise Unavailable
            return EchoReply(text="third")

        wire.echo.on_unary = twice_unavailable
        reply = await wire.stub(Policy()).Put(EchoRequest())
        assert reply.text == "third"
        assert [call.metadata.get(ATTEMPT) for call in wire.echo.served] == [None, "2", "3"]
        assert len({call.key for call in wire.echo.served}) == 1


class TestSockets:
    """What only a real server has."""

    async def test_a_reply_that_is_too_large_comes_after_execution(
        self, grpc_wire: GrpcWire
    ) -> None:
        async def large(_: Call) -> Any:
            return EchoReply(text="x" * (4 * 1024 * 1024 + 1))

        grpc_wire.echo.on_unary = large
        with pytest.raises(MeshError) as caught:
            await grpc_wire.stub(Policy()).Add(EchoRequest())
        assert caught.value.status is StatusCode.RESOURCE_EXHAUSTED
        assert caught.value.outcome is Outcome.UNKNOWN
        assert len(grpc_wire.echo.served) == 1, "an unknown outcome was sent again"

    async def test_a_second_server_does_not_share_the_port(self, grpc_wire: GrpcWire) -> None:
        with pytest.raises(PortInUseError, match=grpc_wire.address):
            await GrpcServer(grpc_wire.node.runtime).start(grpc_wire.address)

    async def test_a_drain_waits_for_the_handlers_under_way(self, grpc_wire: GrpcWire) -> None:
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def slow(_: Call) -> Any:
            begun.set()
            await go_on.wait()
            return EchoReply(text="done")

        grpc_wire.on_any(slow)
        call = asyncio.ensure_future(grpc_wire.stub().Add(EchoRequest()))
        await soon(begun)
        draining = asyncio.ensure_future(grpc_wire.servers[0].stop(PATIENCE_S))
        with pytest.raises(MeshError):
            await grpc_wire.stub().Add(EchoRequest())
        assert not draining.done()
        go_on.set()
        assert (await call).text == "done"
        await draining

    async def test_a_drain_waits_for_what_handlers_do_last(self, grpc_wire: GrpcWire) -> None:
        """Which gRPC itself does not: it has terminated while they are still at it."""
        begun, go_on, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def slow_to_end(_: Call) -> Any:
            begun.set()
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                await go_on.wait()
                ended.set()

        grpc_wire.on_any(slow_to_end)
        call = asyncio.ensure_future(grpc_wire.stub().Add(EchoRequest()))
        await soon(begun)
        [server] = grpc_wire.servers
        draining = asyncio.ensure_future(server.stop(0.5))
        await server.server.wait_for_termination()
        for _turn in range(50):
            await asyncio.sleep(0)
        assert not draining.done()
        go_on.set()
        await draining
        assert ended.is_set()
        with pytest.raises(MeshError):
            await call

    @pytest.mark.parametrize(
        ("text", "wait_s"), [("250", 0.25), ("0", 0.0), ("-1", -1.0), ("x", -1)]
    )
    def test_the_wait_that_a_foreign_server_asks_for_is_known(
        self, text: str, wait_s: float
    ) -> None:
        trailing = grpc.aio.Metadata((PUSHBACK, text))
        failed = grpc.aio.AioRpcError(StatusCode.UNAVAILABLE, grpc.aio.Metadata(), trailing)
        assert from_rpc_error(failed).retry_after_s == wait_s


def test_all_kinds_are_shown() -> None:
    assert {method.kind for method in (ADD, COUNT, SUM, CHAT)} == set(Kind)
