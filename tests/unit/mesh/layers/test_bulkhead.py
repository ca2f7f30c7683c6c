"""The bulkhead around calls and streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from grpc import StatusCode

from mesh.call import Call, Method
from mesh.errors import NotFound, Outcome
from mesh.layers.breaker import classify
from mesh.layers.bulkhead import Bulkhead, BulkheadConfig, BulkheadFull
from mesh.layers.circuit import Result
from mesh.runtime.clock import Runtime
from mesh.runtime.metrics import Metrics
from mesh.testing.loop import VirtualClock, run_virtual
from tests.support.echo import ADD, CHAT, COUNT, METHODS, READ, EchoReply, call_of, requests_of
from tests.support.target import Target, forever

ONE = BulkheadConfig(concurrent_max=1)
QUEUE = BulkheadConfig(concurrent_max=1, queue_max=1, wait_s=2.0)


def bulkhead(config: BulkheadConfig, metrics: Metrics | None = None) -> Bulkhead:
    return Bulkhead(config, Runtime(clock=VirtualClock()), metrics)


async def held(_: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """A stream that says one thing and goes on for ever."""
    yield EchoReply()
    await asyncio.get_running_loop().create_future()


async def use(layer: Bulkhead, method: Method) -> None:
    """Make one call that ends at once."""
    if method.client_streams or method.server_streams:
        async for _ in layer.stream(Target().stream)(call_of(method), requests_of()):
            pass
    else:
        await layer(Target().unary)(call_of(method))


async def hold(layer: Bulkhead, method: Method) -> asyncio.Task[None]:
    """Make one call that ends only by being cancelled."""

    async def read() -> None:
        if method.client_streams or method.server_streams:
            async with aclosing(layer.stream(held)(call_of(method), requests_of())) as replies:  # type: ignore[type-var]
                async for _ in replies:
                    pass
        else:
            await layer(forever)(call_of(method))

    task = asyncio.ensure_future(read())
    await asyncio.sleep(0.1)
    assert layer.slots[method.path].taken == 1
    return task


async def end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_a_full_one_refuses_and_a_cancelled_call_gives_its_place_back(method: Method) -> None:
    async def scenario() -> None:
        metrics = Metrics()
        layer = bulkhead(ONE, metrics)
        first = await hold(layer, method)
        with pytest.raises(BulkheadFull) as caught:
            await use(layer, method)
        assert caught.value.code() is StatusCode.RESOURCE_EXHAUSTED
        assert caught.value.outcome is Outcome.NOT_EXECUTED
        assert metrics.load.bulkhead_full.labels(method.full_name)._value.get() == 1
        await end(first)
        await use(layer, method)
        assert layer.slots[method.path].taken == 0

    run_virtual(scenario())


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_who_waits_gets_the_place_of_who_ends(method: Method) -> None:
    async def scenario() -> None:
        layer = bulkhead(QUEUE)
        first = await hold(layer, method)
        second = asyncio.ensure_future(use(layer, method))
        await asyncio.sleep(1.0)
        assert layer.slots[method.path].waiting == 1
        with pytest.raises(BulkheadFull):
            await use(layer, method)  # the queue is full too
        await end(first)
        await second
        assert layer.slots[method.path].taken == 0

    run_virtual(scenario())


def test_a_wait_ends_by_its_limit_or_by_the_deadline_of_the_call() -> None:
    async def scenario() -> None:
        layer, loop = bulkhead(QUEUE), asyncio.get_running_loop()
        await hold(layer, READ)
        send = layer(Target().unary)
        for deadline, waited_s in ((float("inf"), 2.0), (loop.time() + 2.5, 0.5)):
            began = loop.time()
            with pytest.raises(BulkheadFull):
                await send(call_of(READ, deadline))
            assert loop.time() - began == waited_s
        with pytest.raises(BulkheadFull):
            await send(call_of(READ, loop.time()))
        assert layer.slots[READ.path].waiting == 0

    run_virtual(scenario())


def test_failures_give_the_place_back() -> None:
    async def scenario() -> None:
        layer = bulkhead(ONE)
        with pytest.raises(NotFound):
            await layer(Target(NotFound()).unary)(call_of(ADD))
        with pytest.raises(NotFound):
            async for _ in layer.stream(Target([NotFound()]).stream)(call_of(CHAT), requests_of()):
                pass
        async for _ in layer.stream(Target([1, 2]).stream)(call_of(COUNT), requests_of()):
            break  # its reader leaves
        await asyncio.sleep(0.1)
        assert all(slots.taken == 0 for slots in layer.slots.values())

    run_virtual(scenario())


def test_methods_do_not_take_each_others_places() -> None:
    async def scenario() -> None:
        layer = bulkhead(ONE)
        await hold(layer, READ)
        await use(layer, ADD)

    run_virtual(scenario())


def test_it_says_nothing_of_the_target() -> None:
    assert classify(BulkheadFull()) is Result.NEUTRAL


@pytest.mark.parametrize("wrong", [{"concurrent_max": 0}, {"queue_max": -1}, {"wait_s": 0.0}])
def test_sizes_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        BulkheadConfig(**wrong)
