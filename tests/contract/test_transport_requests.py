"""What every transport promises of the requests that a client streams."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mesh.call import Call, Method, stack, stack_stream
from mesh.errors import (
    InvalidArgument,
    NotFound,
)
from mesh.server import server_layers
from tests.support.echo import SUM, Echo, EchoReply, EchoRequest
from tests.support.waiting import soon
from tests.support.wire import REQUESTS, Wire

AT_ONCE = 50


async def ended(remote: Any) -> None:
    """Read what was called to its end."""
    if inspect.isawaitable(remote):
        await remote
    else:
        async for _ in remote:
            pass


@REQUESTS
async def test_an_answer_before_the_last_request_arrives(wire: Wire, method: Method) -> None:
    """gRPC loses such answers: https://github.com/grpc/grpc/issues/36066."""

    async def refuse(_: Call) -> Any:
        raise NotFound(reason="NO_MORE")

    async def requests() -> AsyncIterator[EchoRequest]:
        for _ in range(20):
            yield EchoRequest()
            await asyncio.sleep(0)

    wire.on_any(refuse)
    send_all = getattr(wire.stub(), method.name)
    calls = (ended(send_all(requests())) for _ in range(AT_ONCE))
    said = await asyncio.gather(*calls, return_exceptions=True)
    assert {repr(error) for error in said} == {repr(NotFound(reason="NO_MORE"))}


@REQUESTS
async def test_requests_that_fail_cancel_their_call_and_say_why(wire: Wire, method: Method) -> None:
    left = asyncio.Event()

    async def stream(_: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        try:
            async for _ in requests:
                pass
        finally:
            left.set()
        yield EchoReply()

    async def requests() -> AsyncIterator[EchoRequest]:
        yield EchoRequest()
        raise ZeroDivisionError("the caller's own")

    wire.echo.on_stream = stream
    with pytest.raises(ZeroDivisionError, match="the caller's own"):
        await ended(getattr(wire.stub(), method.name)(requests()))
    await soon(left)


@REQUESTS
async def test_what_is_wrong_with_a_request_that_is_handed_on_reaches_the_caller(
    wire: Wire, method: Method
) -> None:
    further = Echo()
    layers = server_layers(wire.node)
    address = await wire.serve(
        further.routes(
            lambda handler: stack(*layers, around=handler),
            lambda handler: stack_stream(*layers, around=handler),
        )
    )
    stub = wire.stub(address=address)

    async def hand_on(call: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        if method is SUM:
            yield await stub.Sum(requests)
        else:
            async for reply in stub.Chat(requests):
                yield reply

    wire.echo.on_stream = hand_on
    wrong = iter([EchoRequest(), EchoRequest(text="more than it may be")])
    with pytest.raises(InvalidArgument, match="at most 8 characters"):
        await ended(getattr(wire.stub(), method.name)(wrong))
