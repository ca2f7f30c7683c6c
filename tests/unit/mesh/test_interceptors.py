"""The client stack on channels as they come with gRPC: stock stubs keep all that they had."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from grpc import StatusCode

import mesh
from mesh.call import Call, Method, stack, stack_stream
from mesh.errors import NotFound, Unavailable
from mesh.layers.backoff import Backoff
from mesh.metadata import ATTEMPT, CORRELATION_ID, KEY, STATUS_DETAILS
from mesh.node import Node
from mesh.scope import Scope, scope
from mesh.server import server_layers
from mesh.transport.grpc_server import GrpcServer
from tests.support.echo import (
    ADD,
    CHAT,
    COUNT,
    SUM,
    Echo,
    EchoReply,
    EchoRequest,
    EchoStub,
    stock_channel,
)
from tests.support.waiting import soon
from tests.support.wire import FOUR

POLICY = mesh.Policy(
    retry=mesh.RetryPolicy(attempts_max=3, backoff=Backoff(base_s=0.0)),
    circuit=mesh.CircuitConfig(failures=4),
)
STREAMED = pytest.mark.parametrize("method", [COUNT, CHAT], ids=lambda m: m.kind.name)

Open = Callable[..., EchoStub]


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def port(echo: Echo) -> AsyncIterator[int]:
    node = Node()
    layers = server_layers(node)
    server = GrpcServer(node.runtime)
    server.add(
        echo.routes(
            lambda handler: stack(*layers, around=handler),
            lambda handler: stack_stream(*layers, around=handler),
        )
    )
    yield await server.start("127.0.0.1:0")
    await server.stop(0.0)


@pytest.fixture
async def stub(port: int) -> AsyncIterator[EchoStub]:
    async with stock_channel(port, *mesh.interceptors("echo", policy=POLICY)) as channel:
        yield EchoStub(channel)


def begin(stub: EchoStub, method: Method, **options: Any) -> Any:
    """Return the call, whatever its kind."""
    request = EchoRequest(number=2)
    argument = iter([request]) if method.client_streams else request
    return getattr(stub, method.name)(argument, **options)


async def finish(call: Any, method: Method) -> list[Any]:
    if method.server_streams:
        return [reply async for reply in call]
    return [await call]


def failing(echo: Echo, *errors: BaseException) -> None:
    """Let the first calls fail, each with one of *errors*."""
    left = iter(errors)

    def fail() -> None:
        if error := next(left, None):
            raise error

    async def unary(_: Call) -> Any:
        fail()
        return EchoReply()

    async def stream(*_: Any) -> AsyncIterator[Any]:
        fail()
        yield EchoReply()

    echo.on_unary, echo.on_stream = unary, stream


class Waiting:
    """A handler that never answers, after one reply if it may give many."""

    def __init__(self, echo: Echo) -> None:
        self.begun, self.ended = asyncio.Event(), asyncio.Event()
        echo.on_unary, echo.on_stream = self._unary, self._stream

    async def _unary(self, _: Call) -> Any:
        self.begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.ended.set()

    async def _stream(self, call: Call, _: AsyncIterator[Any]) -> AsyncIterator[Any]:
        if call.method.server_streams:
            yield EchoReply()
        yield await self._unary(call)


def test_each_kind_has_an_object_of_its_own() -> None:
    """gRPC asks `isinstance` in turn: one that were of all kinds would serve the first only."""
    kinds = (
        grpc.aio.UnaryUnaryClientInterceptor,
        grpc.aio.UnaryStreamClientInterceptor,
        grpc.aio.StreamUnaryClientInterceptor,
        grpc.aio.StreamStreamClientInterceptor,
    )
    found = [[isinstance(one, kind) for kind in kinds] for one in mesh.interceptors()]
    assert found == [[position == n for position in range(4)] for n in range(4)]


class TestReplies:
    async def test_all_kinds(self, stub: EchoStub) -> None:
        assert (await stub.Add(EchoRequest(text="a"))).text == "a"
        assert [r.number async for r in stub.Count(EchoRequest(number=3))] == [0, 1, 2]
        assert (await stub.Sum(EchoRequest(number=n) for n in range(4))).number == 6
        assert [r.text async for r in stub.Chat(iter([EchoRequest(text="b")]))] == ["b"]

    @FOUR
    async def test_a_call_tells_its_status_when_it_has_ended(
        self, stub: EchoStub, method: Method
    ) -> None:
        call = begin(stub, method)
        await finish(call, method)
        assert await call.code() is StatusCode.OK
        assert not await call.details()
        assert call.done()
        assert not call.cancelled()

    @FOUR
    async def test_a_callback_is_told_of_the_end(self, stub: EchoStub, method: Method) -> None:
        told: list[Any] = []
        call = begin(stub, method)
        call.add_done_callback(told.append)
        await finish(call, method)
        await call.code()
        assert told == [call]

    async def test_requests_may_be_written_one_by_one(self, stub: EchoStub) -> None:
        adding = stub.Sum()
        for number in range(4):
            await adding.write(EchoRequest(number=number))
        await adding.done_writing()
        assert (await adding).number == 6

        chat = stub.Chat()
        for text in "ab":
            await chat.write(EchoRequest(text=text))
            assert (await chat.read()).text == text
        await chat.done_writing()
        assert await chat.read() is grpc.aio.EOF

    async def test_replies_may_be_read_one_by_one(self, stub: EchoStub) -> None:
        call = stub.Count(EchoRequest(number=2))
        assert [(await call.read()).number for _ in range(2)] == [0, 1]
        assert await call.read() is grpc.aio.EOF


class TestStack:
    @FOUR
    async def test_every_call_has_a_correlation_id_a_key_and_a_deadline(
        self, stub: EchoStub, echo: Echo, method: Method
    ) -> None:
        token = scope.set(Scope(correlation_id="order-7"))
        await finish(begin(stub, method), method)
        scope.reset(token)
        [served] = echo.served
        assert served.metadata[CORRELATION_ID] == "order-7"
        assert bool(served.metadata.get(KEY)) != method.reads
        assert (served.deadline < float("inf")) != method.server_streams

    @FOUR
    async def test_what_the_caller_gives_arrives(
        self, stub: EchoStub, echo: Echo, method: Method
    ) -> None:
        given = (("x-tenant", "acme"), (KEY, "mine"))
        await finish(begin(stub, method, metadata=given, timeout=300.0), method)
        [served] = echo.served
        assert served.metadata["x-tenant"] == "acme"
        assert served.key == "mine"
        assert served.deadline < float("inf")

    @pytest.mark.parametrize("name", ["Read", "Put", "Count"])
    async def test_what_may_be_repeated_is(self, stub: EchoStub, echo: Echo, name: str) -> None:
        failing(echo, Unavailable(), Unavailable())
        method = Method.at(f"/{ADD.service}/{name}")
        await finish(begin(stub, method), method)
        assert [call.metadata.get(ATTEMPT) for call in echo.served] == [None, "2", "3"]

    @pytest.mark.parametrize("method", [ADD, SUM, CHAT], ids=lambda m: m.kind.name)
    async def test_what_may_not_is_not(self, stub: EchoStub, echo: Echo, method: Method) -> None:
        failing(echo, Unavailable())
        with pytest.raises(grpc.aio.AioRpcError):
            await finish(begin(stub, method), method)
        assert len(echo.served) == 1

    @FOUR
    async def test_the_breaker_opens(self, stub: EchoStub, echo: Echo, method: Method) -> None:
        failing(echo, *[Unavailable(retry_after_s=-1.0)] * 99)
        for _ in range(POLICY.circuit.failures):
            with pytest.raises(grpc.aio.AioRpcError):
                await finish(begin(stub, method), method)
        with pytest.raises(grpc.aio.AioRpcError, match="CIRCUIT_OPEN") as caught:
            await finish(begin(stub, method, timeout=5.0), method)
        assert isinstance(caught.value.__cause__, mesh.CircuitOpenError)
        assert len(echo.served) == POLICY.circuit.failures

    async def test_no_time_left_is_not_sent(self, stub: EchoStub, echo: Echo) -> None:
        with pytest.raises(grpc.aio.AioRpcError, match="DEADLINE_EXPIRED"):
            await stub.Add(EchoRequest(), timeout=0.0)
        assert not echo.served


class TestBinaryMetadata:
    """The mesh has none of its own; what the caller sends passes by the layers."""

    async def test_it_arrives(self) -> None:
        seen: list[Any] = []

        async def look(_: Any, context: Any) -> Any:
            seen.extend(context.invocation_metadata())
            return EchoReply()

        server = grpc.aio.server()
        rpc = grpc.unary_unary_rpc_method_handler(
            look, EchoRequest.FromString, EchoReply.SerializeToString
        )
        handlers = grpc.method_handlers_generic_handler(ADD.service, {ADD.name: rpc})
        server.add_generic_rpc_handlers((handlers,))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with stock_channel(port, *mesh.interceptors("echo")) as channel:
            await EchoStub(channel).Add(EchoRequest(), metadata=(("x-token-bin", b"\x00\xff"),))
        await server.stop(0.0)
        assert dict(seen)["x-token-bin"] == b"\x00\xff"


class TestErrors:
    @FOUR
    async def test_they_are_stock_errors_whose_cause_is_ours(
        self, stub: EchoStub, echo: Echo, method: Method
    ) -> None:
        failing(echo, NotFound("none such", reason="NO_ORDER"))
        call = begin(stub, method)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await finish(call, method)
        assert caught.value.code() is StatusCode.NOT_FOUND
        assert caught.value.details() == "none such"
        assert STATUS_DETAILS in dict(caught.value.trailing_metadata())
        cause = caught.value.__cause__
        assert isinstance(cause, NotFound)
        assert cause.reason == "NO_ORDER"
        assert cause.__cause__ is None, "a chain of causes comes to an end"
        assert await call.code() is StatusCode.NOT_FOUND
        assert await call.details() == "none such"
        assert STATUS_DETAILS in dict(await call.trailing_metadata())

    @FOUR
    async def test_the_status_can_be_asked_for_without_the_reply(
        self, stub: EchoStub, echo: Echo, method: Method
    ) -> None:
        failing(echo, NotFound())
        assert await begin(stub, method).code() is StatusCode.NOT_FOUND

    @STREAMED
    async def test_replies_before_a_failure_are_read_first(
        self, stub: EchoStub, echo: Echo, method: Method
    ) -> None:
        async def stream(*_: Any) -> AsyncIterator[Any]:
            yield EchoReply(number=1)
            yield EchoReply(number=2)
            raise NotFound

        echo.on_stream = stream
        call = begin(stub, method)
        assert [(await call.read()).number for _ in range(2)] == [1, 2]
        with pytest.raises(grpc.aio.AioRpcError):
            await call.read()


class TestCancellation:
    @FOUR
    async def test_a_cancelled_call_ends_its_handler(
        self, stub: EchoStub, echo: Echo, method: Method
    ) -> None:
        waiting = Waiting(echo)
        call = begin(stub, method)
        reader = asyncio.ensure_future(finish(call, method))
        await soon(waiting.begun)
        assert call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        await soon(waiting.ended)
        assert await call.code() is StatusCode.CANCELLED
        assert call.cancelled()

    @FOUR
    async def test_a_cancelled_task_ends_its_handler(
        self, stub: EchoStub, echo: Echo, method: Method
    ) -> None:
        waiting = Waiting(echo)
        reader = asyncio.ensure_future(finish(begin(stub, method), method))
        await soon(waiting.begun)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        await soon(waiting.ended)

    @STREAMED
    async def test_a_stream_may_be_cancelled_between_replies(
        self, stub: EchoStub, echo: Echo, method: Method
    ) -> None:
        waiting = Waiting(echo)
        call = begin(stub, method)
        await call.read()
        await soon(waiting.begun)
        call.cancel()
        await soon(waiting.ended)
        assert await call.code() is StatusCode.CANCELLED

    async def test_cancelling_says_nothing_against_the_target(
        self, stub: EchoStub, echo: Echo
    ) -> None:
        for _ in range(POLICY.circuit.failures + 1):
            waiting = Waiting(echo)
            call = stub.Add(EchoRequest())
            reader = asyncio.ensure_future(finish(call, ADD))
            await soon(waiting.begun)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reader
        echo.on_unary = None
        await stub.Add(EchoRequest())


class TestChannelOfOurOwn:
    """`mesh.channel`: the same stack, errors as they are."""

    @pytest.fixture
    async def stub(self, port: int) -> AsyncIterator[EchoStub]:
        channel = mesh.channel("echo", f"127.0.0.1:{port}", policy=POLICY)
        yield EchoStub(channel)
        await channel.close()

    @FOUR
    async def test_all_kinds(self, stub: EchoStub, method: Method) -> None:
        assert await finish(begin(stub, method), method)

    @FOUR
    async def test_errors_are_ours(self, stub: EchoStub, echo: Echo, method: Method) -> None:
        failing(echo, NotFound(reason="NO_ORDER"))
        with pytest.raises(NotFound, match="NO_ORDER"):
            await finish(begin(stub, method), method)

    async def test_it_retries_and_it_breaks(self, stub: EchoStub, echo: Echo) -> None:
        failing(echo, *[Unavailable()] * 2)
        await stub.Read(EchoRequest())
        assert len(echo.served) == 3
        failing(echo, *[Unavailable()] * 9)
        for _ in range(POLICY.circuit.failures):
            with pytest.raises(Unavailable):
                await stub.Add(EchoRequest())
        with pytest.raises(mesh.CircuitOpenError):
            await stub.Add(EchoRequest())
