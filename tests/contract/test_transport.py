"""What every transport promises, on each of them: real sockets, and the network in memory.

Calls go through the whole client stack and the whole server stack, as they do in a service.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from mesh.call import Call, Kind, Method, stack, stack_stream
from mesh.client import Channel, Policy
from mesh.errors import (
    DeadlineExceeded,
    Expired,
    Internal,
    InvalidArgument,
    MeshError,
    NotFound,
    Outcome,
    Unavailable,
)
from mesh.metadata import ATTEMPT, CORRELATION_ID, KEY, PUSHBACK
from mesh.node import Node
from mesh.scope import scope
from mesh.server import server_layers
from mesh.transport.grpc_client import GrpcTransport, to_mesh_error
from mesh.transport.grpc_server import GrpcServer, PortInUseError
from mesh.transport.memory import MemoryNetwork
from mesh.transport.port import Routes, Transport
from tests.support.echo import ADD, CHAT, COUNT, SUM, Echo, EchoReply, EchoRequest, EchoStub

SECRET = "card 4111 of jane@example.com"
ONCE = Policy(retry=None)
#: Longer than any machine takes; only a failure waits for it.
PATIENCE_S = 20.0

FOUR = pytest.mark.parametrize("method", [ADD, COUNT, SUM, CHAT], ids=lambda m: m.kind.name)
STREAMED = pytest.mark.parametrize("method", [COUNT, CHAT], ids=lambda m: m.kind.name)


class Wire:
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

    async def serve(self, routes: Routes) -> str:
        """Serve *routes*; return where."""
        raise NotImplementedError

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


@pytest.fixture(params=[GrpcWire, MemoryWire], ids=["grpc", "memory"])
async def wire(request: pytest.FixtureRequest) -> AsyncIterator[Wire]:
    wire: Wire = request.param(Node())
    wire.address = await wire.serve(wire.routes())
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        wire.nowhere = f"127.0.0.1:{taken.getsockname()[1]}"
        yield wire
        await wire.close()


@pytest.fixture
async def grpc_wire() -> AsyncIterator[GrpcWire]:
    wire = GrpcWire(Node())
    wire.address = await wire.serve(wire.routes())
    yield wire
    await wire.close()


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


async def soon(event: asyncio.Event) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await event.wait()


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


class TestFailures:
    @FOUR
    async def test_a_refusal_arrives_with_its_details(self, wire: Wire, method: Method) -> None:
        refusal = InvalidArgument(
            violations=[("lines[3].sku", "is too long")], reason="WHY", info={"limit": "8"}
        )

        async def refuse(_: Call) -> Any:
            raise refusal

        wire.on_any(refuse)
        with pytest.raises(InvalidArgument) as caught:
            await send(wire.stub(), method, metadata=((CORRELATION_ID, "order-7"),))
        assert caught.value.outcome is Outcome.REFUSED
        assert caught.value.reason == "WHY"
        assert caught.value.violations == (("lines[3].sku", "is too long"),)
        assert caught.value.info == {"limit": "8", CORRELATION_ID: "order-7"}

    @FOUR
    async def test_a_bug_arrives_without_its_text(self, wire: Wire, method: Method) -> None:
        async def fail(_: Call) -> Any:
            raise ValueError(SECRET)

        wire.on_any(fail)
        with pytest.raises(Internal) as caught:
            await send(wire.stub(), method)
        assert caught.value.outcome is Outcome.UNKNOWN
        assert caught.value.info["error_id"]
        assert SECRET not in str(caught.value)

    @FOUR
    async def test_what_escapes_the_servers_layers_is_of_unknown_outcome(
        self, wire: Wire, method: Method
    ) -> None:
        async def fail(_: Call) -> Any:
            raise ValueError

        wire.on_any(fail)
        bare = await wire.serve(wire.echo.routes())
        with pytest.raises(MeshError) as caught:
            await send(wire.stub(address=bare), method)
        assert caught.value.status is StatusCode.UNKNOWN
        assert caught.value.outcome is Outcome.UNKNOWN

    @STREAMED
    async def test_what_was_said_before_a_failure_arrives(self, wire: Wire, method: Method) -> None:
        async def stream(*_: Any) -> AsyncIterator[Any]:
            yield EchoReply(text="first")
            raise NotFound(reason="NO_MORE")

        wire.echo.on_stream = stream
        replies = getattr(wire.stub(), method.name)(
            EchoRequest() if method is COUNT else iter([EchoRequest()])
        )
        assert (await anext(replies)).text == "first"
        with pytest.raises(NotFound, match="NO_MORE"):
            await anext(replies)

    @pytest.mark.parametrize("count", [0, 2])
    async def test_a_handler_gives_as_many_replies_as_its_contract_says(
        self, wire: Wire, count: int
    ) -> None:
        async def stream(*_: Any) -> AsyncIterator[Any]:
            for _number in range(count):
                yield EchoReply()

        wire.echo.on_stream = stream
        with pytest.raises(MeshError, match=f"{count} replies") as caught:
            await wire.stub().Sum(iter([]))
        assert caught.value.outcome is Outcome.UNKNOWN

    @FOUR
    async def test_a_server_that_says_cancelled_does_not_cancel_the_client(
        self, wire: Wire, method: Method
    ) -> None:
        async def fail(_: Call) -> Any:
            raise MeshError(status=StatusCode.CANCELLED)

        wire.on_any(fail)
        with pytest.raises(MeshError) as caught:
            await send(wire.stub(), method)
        assert caught.value.status is StatusCode.CANCELLED

    async def test_a_request_with_much_wrong_is_still_answered_in_full(self, wire: Wire) -> None:
        """The violations travel as metadata, of which gRPC takes 8 KiB and no more."""
        named = {"k" * 40 + str(n): {"sku": "x" * 9} for n in range(50)}
        with pytest.raises(InvalidArgument) as caught:
            await wire.stub().Add(EchoRequest(named=named))
        assert len(caught.value.violations) == 20

    @FOUR
    async def test_where_nobody_listens_nothing_is_known(self, wire: Wire, method: Method) -> None:
        with pytest.raises(Unavailable) as caught:
            await send(wire.stub(address=wire.nowhere), method)
        assert caught.value.outcome is Outcome.UNKNOWN

    @FOUR
    async def test_a_method_that_nobody_implements(self, wire: Wire, method: Method) -> None:
        empty = await wire.serve({})
        with pytest.raises(MeshError) as caught:
            await send(wire.stub(address=empty), method)
        assert caught.value.status is StatusCode.UNIMPLEMENTED
        assert caught.value.outcome is Outcome.UNKNOWN


class TestTime:
    @FOUR
    async def test_a_deadline_ends_the_call_and_its_handler(
        self, wire: Wire, method: Method
    ) -> None:
        endless = Endless()
        wire.on_any(endless)
        with pytest.raises(DeadlineExceeded) as caught:
            await send(wire.stub(), method, timeout=0.2)
        assert caught.value.outcome is Outcome.UNKNOWN
        await soon(endless.ended)

    @FOUR
    async def test_no_time_at_all_is_not_sent(self, wire: Wire, method: Method) -> None:
        with pytest.raises(Expired):
            await send(wire.stub(), method, timeout=0.0)
        assert not wire.echo.served

    @FOUR
    async def test_the_deadline_arrives(self, wire: Wire, method: Method) -> None:
        now = wire.node.runtime.clock.monotonic()
        await send(wire.stub(), method, timeout=300.0)
        # gRPC writes a timeout with three digits and rounds it up.
        assert now < wire.echo.served[0].deadline < now + 310.0

    @FOUR
    async def test_a_caller_who_leaves_ends_the_handler(self, wire: Wire, method: Method) -> None:
        endless = Endless()
        wire.on_any(endless)
        task = asyncio.ensure_future(send(wire.stub(), method))
        await soon(endless.begun)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await soon(endless.ended)

    @STREAMED
    async def test_a_reader_who_leaves_ends_the_handler(self, wire: Wire, method: Method) -> None:
        endless = Endless()

        async def stream(call: Call, _: AsyncIterator[Any]) -> AsyncIterator[Any]:
            yield EchoReply()
            await endless(call)

        wire.echo.on_stream = stream
        request = EchoRequest() if method is COUNT else iter([EchoRequest()])
        async with aclosing(getattr(wire.stub(), method.name)(request)) as replies:
            await anext(replies)
            waiting = asyncio.ensure_future(anext(replies))
            await soon(endless.begun)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        await soon(endless.ended)

    @STREAMED
    async def test_a_reader_who_leaves_between_replies_ends_the_handler(
        self, wire: Wire, method: Method
    ) -> None:
        ended = asyncio.Event()

        async def stream(*_: Any) -> AsyncIterator[Any]:
            try:
                while True:
                    yield EchoReply(text="x" * 10_000)
            finally:
                ended.set()

        wire.echo.on_stream = stream
        request = EchoRequest() if method is COUNT else iter([EchoRequest()])
        async with aclosing(getattr(wire.stub(), method.name)(request)) as replies:
            await anext(replies)
        await soon(ended)


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
        assert to_mesh_error(failed).retry_after_s == wait_s


def test_all_kinds_are_shown() -> None:
    assert {method.kind for method in (ADD, COUNT, SUM, CHAT)} == set(Kind)
