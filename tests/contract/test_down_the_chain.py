"""Who leaves, and whose time is up, ends what is done for them three services further down."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from mesh.call import Call, Method
from mesh.client import Policy
from mesh.errors import (
    DeadlineExceeded,
    Expired,
    MeshError,
    NotFound,
    Outcome,
    PermissionDenied,
)
from mesh.layers.deadline import MARGIN_S
from mesh.layers.hedge import HedgeConfig
from tests.support.echo import CHAT, COUNT, READ, SUM, EchoReply, EchoRequest, EchoStub
from tests.support.relay import HOPS, Endless, Row

#: Longer than any machine takes; only a failure waits for it.
PATIENCE_S = 30.0
STREAMS = 1000
AT_ONCE = 50

FOUR = pytest.mark.parametrize("method", [READ, COUNT, SUM, CHAT], ids=lambda m: m.kind.name)


def hedged(method: Method) -> Policy:
    return Policy(hedge=HedgeConfig()) if method is READ else Policy()


@pytest.fixture(params=[Policy(retry=None), Policy(), hedged], ids=["once", "retried", "hedged"])
async def row(request: pytest.FixtureRequest) -> AsyncIterator[Row]:
    async with Row(request.param) as made:
        yield made


async def send(stub: EchoStub, method: Method, **options: Any) -> None:
    """Call *method* and read what it replies."""
    request = iter([EchoRequest()]) if method.client_streams else EchoRequest()
    remote = getattr(stub, method.name)(request, **options)
    if not method.server_streams:
        await remote
        return
    async with aclosing(remote) as replies:
        async for _ in replies:
            pass


async def soon(event: asyncio.Event) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await event.wait()


@FOUR
async def test_a_caller_who_leaves_ends_the_leaf(row: Row, method: Method) -> None:
    leaf = Endless(row.leaf)
    caller = asyncio.ensure_future(send(row.stub, method))
    await soon(leaf.begun)
    now = row.node.runtime.clock.monotonic
    left = now()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await soon(leaf.ended)
    print(f"cancelled {HOPS} hops down after {(now() - left) * 1e3:.1f} ms")


@FOUR
async def test_what_the_leaf_says_reaches_the_caller(row: Row, method: Method) -> None:
    async def refuse(_: Call) -> Any:
        raise NotFound("no such thing", reason="NO_SUCH_THING")

    async def stream(call: Call, _: AsyncIterator[Any]) -> AsyncIterator[Any]:
        yield await refuse(call)

    row.leaf.on_unary, row.leaf.on_stream = refuse, stream
    with pytest.raises(NotFound, match="NO_SUCH_THING"):
        await send(row.stub, method)
    assert len(row.leaf.served) == 1


@FOUR
async def test_only_who_raised_it_was_not_allowed(row: Row, method: Method) -> None:
    """Behind a service that called it, it says nothing of that service's own call."""

    async def refuse(_: Call) -> Any:
        raise PermissionDenied("not you")

    async def stream(call: Call, _: AsyncIterator[Any]) -> AsyncIterator[Any]:
        yield await refuse(call)

    told = {row.leaf: "INTERNAL", row.echoes[0]: "PERMISSION_DENIED"}
    for echo, reason in told.items():
        echo.on_unary, echo.on_stream = refuse, stream
        with pytest.raises(MeshError) as caught:
            await send(row.stub, method)
        assert caught.value.reason == reason
        assert (caught.value.outcome is Outcome.NOT_EXECUTED) == (echo is row.echoes[0])


@FOUR
async def test_a_deadline_ends_the_leaf(row: Row, method: Method) -> None:
    await send(row.stub, method)  # on a busy machine it takes a while to be connected
    leaf = Endless(row.leaf)
    caller = asyncio.ensure_future(send(row.stub, method, timeout=2.0))
    await soon(leaf.begun)
    with pytest.raises(DeadlineExceeded):
        await caller
    await soon(leaf.ended)


@FOUR
async def test_each_hop_has_less_time_than_the_one_above(row: Row, method: Method) -> None:
    """Although gRPC rounds up, of so long a time by seconds."""
    timeout_s = 5000.0
    caller = row.node.runtime.clock.monotonic() + timeout_s
    await send(row.stub, method, timeout=timeout_s)
    first, second, leaf = (echo.served[0].deadline for echo in row.echoes)
    assert caller > first > second > leaf


@FOUR
async def test_what_would_be_too_late_is_not_sent_further(row: Row, method: Method) -> None:
    """The first service is called with less time than it has to keep back itself."""
    with pytest.raises(MeshError) as caught:
        await send(row.stub, method, timeout=MARGIN_S)
    assert isinstance(caught.value, (DeadlineExceeded, Expired))
    assert not row.leaf.served


@pytest.mark.parametrize("row", [Policy()], indirect=True, ids=["retried"])
@pytest.mark.parametrize("method", [COUNT, CHAT], ids=lambda m: m.kind.name)
async def test_cancelled_streams_leave_nothing_behind(row: Row, method: Method) -> None:
    """No task, no span, no descriptor: half of them left waiting, half between two replies."""
    begun = ended = 0
    idle = asyncio.Event()

    async def stream(*_: Any) -> AsyncIterator[Any]:
        nonlocal begun, ended
        begun += 1
        try:
            yield EchoReply()
            await asyncio.get_running_loop().create_future()
        finally:
            ended += 1
            if ended == STREAMS:
                idle.set()

    row.leaf.on_stream = stream

    async def leave(number: int) -> None:
        request = EchoRequest() if method is COUNT else iter([EchoRequest()])
        async with aclosing(getattr(row.stub, method.name)(request)) as replies:
            await anext(replies)
            if number % 2:
                waiting = asyncio.ensure_future(anext(replies))
                await asyncio.sleep(0)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting

    async def some(numbers: range) -> None:
        await asyncio.gather(*map(leave, numbers))

    ended = -AT_ONCE
    await some(range(AT_ONCE))  # connections, workers: what stays is here from now on
    await settled(lambda: ended == 0)
    tasks, descriptors = len(asyncio.all_tasks()), count_descriptors()
    for first in range(0, STREAMS, AT_ONCE):
        await some(range(first, first + AT_ONCE))
    await soon(idle)
    await settled(lambda: len(asyncio.all_tasks()) <= tasks)
    await settled(lambda: row.spans.ended == row.spans.begun)
    await settled(lambda: count_descriptors() <= descriptors)
    assert begun == STREAMS + AT_ONCE
    assert row.spans.begun == begun * 2 * HOPS


async def settled(condition: Any) -> None:
    """Wait until *condition* holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            gc.collect()
            await asyncio.sleep(0.01)


def count_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
