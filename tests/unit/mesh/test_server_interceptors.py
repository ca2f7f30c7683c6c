"""Servicers of every style that stock `grpc.aio` servers take, behind the server stack."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import StatusCode
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

import mesh
from mesh.errors import Outcome, PermissionDenied
from mesh.layers.identity import Identities
from mesh.metadata import TOKEN
from mesh.scope import scope
from mesh.server import ServerSettings
from mesh.status import from_rpc_error
from tests.support.echo import (
    CHAT,
    COUNT,
    PUT,
    READ,
    SUM,
    EchoReply,
    EchoRequest,
    EchoStub,
    stock_channel,
)
from tests.support.runtime import FakeRuntime

CONFIGURED = """
[target.echo]
[server]
timeout_s = 7.0
[server.echo]
timeout_s = 8.0
[server.echo.Read]
timeout_s = 9.0
"""
STRICT = mesh.Node(identities=Identities("of these tests"))


@asynccontextmanager
async def serving(
    behaviours: dict[Any, Any], node: mesh.Node | None = None, *given: Any, **options: Any
) -> AsyncIterator[grpc.aio.Channel]:
    server = grpc.aio.server(interceptors=mesh.server_interceptors(*given, node=node, **options))
    handlers = {
        method.name: getattr(grpc, f"{method.kind.name.lower()}_rpc_method_handler")(
            behaviour, EchoRequest.FromString, EchoReply.SerializeToString
        )
        for method, behaviour in behaviours.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(READ.service, handlers),))
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with stock_channel(port) as channel:
        yield channel
    await server.stop(0.0)


async def test_plain_functions_have_the_layers_in_their_threads() -> None:
    def read(request: Any, context: Any) -> Any:
        if request.number:
            context.abort(StatusCode.DATA_LOSS, "gone")
        raise mesh.Refused("none left", reason="OUT_OF_STOCK")

    def count(request: Any, _: Any) -> Iterator[Any]:
        for number in range(request.number):
            yield EchoReply(number=number)

    async with serving({READ: read, COUNT: count}) as channel:
        stub = EchoStub(channel)
        for number, code in ((0, StatusCode.FAILED_PRECONDITION), (1, StatusCode.DATA_LOSS)):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.Read(EchoRequest(number=number))
            assert caught.value.code() is code
        assert [reply.number async for reply in stub.Count(EchoRequest(number=3))] == [0, 1, 2]


async def test_what_a_servicer_says_of_its_own_call_is_believed() -> None:
    async def put(_: Any, __: Any) -> Any:
        raise PermissionDenied("not you")

    async with serving({PUT: put}) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await EchoStub(channel).Put(EchoRequest())
    meant = from_rpc_error(caught.value)
    assert isinstance(meant, PermissionDenied)
    assert meant.outcome is Outcome.NOT_EXECUTED


async def test_replies_may_be_written() -> None:
    async def chat(_: Any, context: Any) -> None:
        while (request := await context.read()) is not grpc.aio.EOF:
            await context.write(EchoReply(text=request.text))

    async with serving({CHAT: chat}) as channel:
        replies = EchoStub(channel).Chat(iter([EchoRequest(text=text) for text in "ab"]))
        assert [reply.text async for reply in replies] == ["a", "b"]


async def test_requests_that_a_servicer_reads_obey_their_contract() -> None:
    async def total(_: Any, context: Any) -> Any:
        found = EchoReply()
        while (request := await context.read()) is not grpc.aio.EOF:
            found.number += request.number
        return found

    async with serving({SUM: total}) as channel:
        stub = EchoStub(channel)
        assert (await stub.Sum(iter([EchoRequest(number=n) for n in (1, 2)]))).number == 3
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Sum(iter([EchoRequest(number=n) for n in (1, -2)]))
    assert caught.value.code() is StatusCode.INVALID_ARGUMENT


async def test_servers_take_what_is_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = FakeRuntime()

    async def left(_: Any, __: Any) -> Any:
        return EchoReply(number=int(scope.get().deadline - runtime.clock.monotonic()))

    async def answers(*given: Any, **options: Any) -> list[int]:
        node = mesh.Node(runtime=runtime)
        async with serving({READ: left, PUT: left}, node, *given, **options) as channel:
            stub = EchoStub(channel)
            return [(await ask(EchoRequest())).number for ask in (stub.Read, stub.Put)]

    path = tmp_path / "mesh.toml"
    path.write_text(CONFIGURED)
    monkeypatch.setenv("MESH_CONFIG", str(path))
    assert await answers() == [7, 7]
    assert await answers("echo") == [9, 8]
    assert await answers("echo", settings=ServerSettings(timeout_s=5.0)) == [5, 5]
    path.unlink()
    assert await answers() == [30, 30]
    monkeypatch.setenv("MESH_SERVER__TIMEOUT_S", "6")
    assert await answers() == [6, 6]


async def test_a_code_that_was_set_before_an_exception_stands_and_its_text_does_not() -> None:
    async def put(_: Any, context: Any) -> Any:
        context.set_code(StatusCode.RESOURCE_EXHAUSTED)
        raise ValueError("card 4111")

    async with serving({PUT: put}) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await EchoStub(channel).Put(EchoRequest())
    assert caught.value.code() is StatusCode.RESOURCE_EXHAUSTED
    assert "4111" not in str(caught.value)


async def test_health_answers_whoever_asks() -> None:
    async def read(request: Any, _: Any) -> Any:
        return EchoReply()

    async with serving({READ: read}, STRICT) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await EchoStub(channel).Read(EchoRequest(), metadata=((TOKEN, "nobody's"),))
        assert caught.value.code() is StatusCode.UNAUTHENTICATED
        check: Any = health_pb2_grpc.HealthStub(channel).Check
        reply = await check(health_pb2.HealthCheckRequest())
    assert reply.status == health_pb2.HealthCheckResponse.SERVING
