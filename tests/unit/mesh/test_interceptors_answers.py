"""The call that the caller of a stock stub sees is the one that its answer came with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc import StatusCode

import mesh
from mesh.call import Call
from mesh.errors import Unavailable
from mesh.layers.backoff import Backoff
from mesh.layers.budget import BudgetConfig
from mesh.layers.fallback import FallbackConfig
from mesh.layers.hedge import HedgeConfig
from mesh.metadata import ATTEMPT, DEGRADED
from mesh.node import Node
from mesh.transport.grpc_server import GrpcServer
from tests.support.echo import READ, Echo, EchoReply, EchoRequest, EchoStub, stock_channel

#: Longer than any machine takes: only a failure waits for it.
PATIENCE_S = 30.0

HEDGED = mesh.Policy(
    hedge=HedgeConfig(samples_min=1, budget=BudgetConfig(share=1.0, per_s=100.0)),
)


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def port(echo: Echo) -> AsyncIterator[int]:
    server = GrpcServer(Node().runtime)
    server.add(echo.routes())
    yield await server.start("127.0.0.1:0")
    await server.stop(0.0)


@pytest.mark.parametrize("winner", ["1", "2"])
async def test_whichever_attempt_wins_a_hedge(echo: Echo, port: int, winner: str) -> None:
    """The other one is cancelled, and nothing of it reaches the caller."""
    both_begun = asyncio.Event()

    async def unary(call: Call) -> Any:
        attempt = call.metadata.get(ATTEMPT, "1")
        if attempt == "2":
            both_begun.set()
        await both_begun.wait()
        if attempt != winner:
            await asyncio.get_running_loop().create_future()
        return EchoReply(text=attempt)

    async with stock_channel(port, *mesh.interceptors("echo", policy=HEDGED)) as channel:
        stub = EchoStub(channel)
        await stub.Read(EchoRequest())  # how long a call takes
        echo.on_unary = unary
        call = stub.Read(EchoRequest())
        assert (await call).text == winner
        assert await call.code() is StatusCode.OK


FALLING_BACK = mesh.Policy(
    retry=mesh.RetryPolicy(attempts_max=2, backoff=Backoff(base_s=0.0)),
    fallback=FallbackConfig(function=lambda request: EchoReply(text="instead")),
)


class TestAnswersOfAFallback:
    """They say so in their initial metadata, as those do that a fallback further down answered."""

    @pytest.fixture(autouse=True)
    def failing(self, echo: Echo) -> None:
        async def unary(call: Call) -> Any:
            if call.metadata.get("x-way") == "well":
                return EchoReply(text="well")
            raise Unavailable

        echo.on_unary = unary

    async def test_on_an_aio_channel(self, port: int) -> None:
        layers = mesh.interceptors("echo", policy=FALLING_BACK)
        async with stock_channel(port, *layers) as channel:
            told: list[Any] = []
            call = EchoStub(channel).Read(EchoRequest())
            call.add_done_callback(told.append)
            assert (await call).text == "instead"
            assert dict(await call.initial_metadata()) == {DEGRADED: READ.full_name}
            assert not await call.trailing_metadata()
            assert await call.code() is StatusCode.OK
            assert await call.details() == ""
            assert call.done()
            assert told == [call]
            call = EchoStub(channel).Read(EchoRequest(), metadata=(("x-way", "well"),))
            assert (await call).text == "well"
            assert DEGRADED not in dict(await call.initial_metadata())

    @pytest.mark.parametrize("way", ["future", "with_call"])
    async def test_on_a_sync_channel(self, port: int, way: str) -> None:
        def ask(*metadata: tuple[str, str]) -> tuple[Any, Any]:
            if way == "with_call":
                reply, call = stub.Read.with_call(EchoRequest(), metadata=metadata)
            else:
                call = stub.Read.future(EchoRequest(), metadata=metadata)
                reply = call.result(PATIENCE_S)
            return reply, call

        layers = mesh.sync.interceptors("echo", policy=FALLING_BACK)
        with grpc.insecure_channel(f"127.0.0.1:{port}") as plain:
            stub = EchoStub(grpc.intercept_channel(plain, *layers))
            reply, call = await asyncio.to_thread(ask)
            assert reply.text == "instead"
            assert dict(call.initial_metadata()) == {DEGRADED: READ.full_name}
            assert not call.trailing_metadata()
            assert call.code() is StatusCode.OK
            reply, call = await asyncio.to_thread(ask, ("x-way", "well"))
            assert reply.text == "well"
            assert DEGRADED not in dict(call.initial_metadata())
