"""What every transport promises of calls that fail, run out of time or are left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from grpc import StatusCode

from mesh.call import Call, Method
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
from mesh.metadata import CORRELATION_ID
from tests.support.echo import COUNT, EchoReply, EchoRequest
from tests.support.waiting import soon
from tests.support.wire import FOUR, STREAMED, Endless, Wire, send

SECRET = "card 4111 of jane@example.com"


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
