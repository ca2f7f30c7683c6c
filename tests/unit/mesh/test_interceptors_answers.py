"""The call that the caller of a stock stub sees is the one that its answer came with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from grpc import StatusCode

import mesh
from mesh.call import Call
from mesh.layers.budget import BudgetConfig
from mesh.layers.hedge import HedgeConfig
from mesh.metadata import ATTEMPT
from mesh.node import Node
from mesh.transport.grpc_server import GrpcServer
from tests.support.echo import Echo, EchoReply, EchoRequest, EchoStub, stock_channel

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
