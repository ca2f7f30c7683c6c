"""The circuit breaker around calls, streams and plain functions."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from mesh import CircuitConfig, CircuitOpenError, circuit_breaker
from mesh.call import Call
from mesh.errors import InvalidArgument, KeyInFlight, MeshError, NotFound, Unavailable
from mesh.layers.breaker import FAILURES, Breaker, classify
from mesh.layers.circuit import Result, State
from mesh.layers.streams import only
from tests.support.echo import COUNT, PUT, READ, SUM, EchoReply, EchoRequest, call_of, requests_of
from tests.support.runtime import FakeRuntime
from tests.support.target import Target, forever

CONFIG = CircuitConfig(failures=2, open_s=30.0, jitter=0.0, probes=1)


@pytest.fixture
def runtime() -> FakeRuntime:
    return FakeRuntime()


@pytest.fixture
def breaker(runtime: FakeRuntime) -> Breaker:
    return Breaker(CONFIG, runtime)


@pytest.mark.parametrize("code", StatusCode)
def test_only_these_codes_speak_against_the_target(code: StatusCode) -> None:
    bad = {"UNKNOWN", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "INTERNAL", "UNAVAILABLE"}
    expected = Result.FAILURE if code.name in bad | {"DATA_LOSS"} else Result.NEUTRAL
    assert classify(MeshError(status=code)) is expected
    assert (code in FAILURES) == (expected is Result.FAILURE)


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (asyncio.CancelledError(), Result.NEUTRAL),
        (GeneratorExit(), Result.NEUTRAL),
        (KeyboardInterrupt(), Result.NEUTRAL),
        (ValueError(), Result.NEUTRAL),
        (KeyInFlight(), Result.NEUTRAL),
    ],
    ids=repr,
)
def test_what_other_ends_of_a_call_say(error: BaseException, result: Result) -> None:
    assert classify(error) is result


def stock_error(code: StatusCode) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata())


def test_errors_of_stock_stubs_count_by_their_codes() -> None:
    assert classify(stock_error(StatusCode.NOT_FOUND)) is Result.NEUTRAL
    assert classify(stock_error(StatusCode.UNAVAILABLE)) is Result.FAILURE
    assert classify(grpc.RpcError(), Result.FAILURE) is Result.FAILURE


async def test_an_open_circuit_refuses_without_calling(
    breaker: Breaker, runtime: FakeRuntime
) -> None:
    target = Target(Unavailable(), Unavailable())
    send = breaker(target.unary)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await send(call_of())
    runtime.clock.advance(10.0)
    with pytest.raises(CircuitOpenError) as caught:
        await send(call_of())
    assert len(target.calls) == 2
    assert caught.value.retry_after_s == 20.0
    assert caught.value.code() is StatusCode.UNAVAILABLE
    runtime.clock.advance(20.0)
    await send(call_of())
    assert breaker.circuit(call_of()).state is State.CLOSED


async def test_refusals_never_open_it(breaker: Breaker) -> None:
    send = breaker(Target(*[NotFound(), InvalidArgument()] * 50).unary)
    for _ in range(100):
        with pytest.raises(MeshError):
            await send(call_of())
    assert breaker.circuit(call_of()).state is State.CLOSED


async def test_addresses_and_methods_have_circuits_of_their_own(breaker: Breaker) -> None:
    send = breaker(Target(Unavailable(), Unavailable()).unary)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await send(call_of(READ, address="a"))
    with pytest.raises(CircuitOpenError):
        await send(call_of(READ, address="a"))
    await send(call_of(READ, address="b"))
    await send(call_of(PUT, address="a"))


async def half_open(breaker: Breaker, runtime: FakeRuntime) -> None:
    send = breaker(Target(Unavailable(), Unavailable()).unary)
    for _ in range(CONFIG.failures):
        with pytest.raises(Unavailable):
            await send(call_of(COUNT))
    runtime.clock.advance(CONFIG.open_s)


async def test_a_cancelled_probe_is_given_back(breaker: Breaker, runtime: FakeRuntime) -> None:
    await half_open(breaker, runtime)
    probe = asyncio.ensure_future(breaker(forever)(call_of(COUNT)))
    await asyncio.sleep(0)
    with pytest.raises(CircuitOpenError) as caught:
        await breaker(forever)(call_of(COUNT))
    assert caught.value.retry_after_s == 0.0
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    await breaker(Target().unary)(call_of(COUNT))


async def test_a_stream_that_its_reader_leaves_is_neutral(breaker: Breaker) -> None:
    target = Target([Unavailable()], [EchoReply(), EchoReply()], [Unavailable()])
    count = breaker.stream(target.stream)
    with pytest.raises(Unavailable):
        await anext(count(call_of(COUNT), requests_of()))
    async with aclosing(count(call_of(COUNT), requests_of())) as stream:  # type: ignore[type-var]
        await anext(stream)
    assert target.left.is_set(), "leaving a stream ends what is below at once"
    assert breaker.circuit(call_of(COUNT)).state is State.CLOSED
    with pytest.raises(Unavailable):
        await anext(count(call_of(COUNT), requests_of()))
    assert breaker.circuit(call_of(COUNT)).state is State.OPEN, "it broke no row of failures"


async def test_a_probe_that_its_reader_leaves_before_a_reply_is_given_back(
    breaker: Breaker, runtime: FakeRuntime
) -> None:
    async def silent(call: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        yield await forever(call)

    await half_open(breaker, runtime)
    probe = asyncio.ensure_future(
        only(breaker.stream(silent)(call_of(COUNT), requests_of())),
    )
    await asyncio.sleep(0)
    assert not breaker.admits(call_of(COUNT))
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    assert breaker.circuit(call_of(COUNT)).state is State.HALF_OPEN
    assert breaker.admits(call_of(COUNT))


async def test_streams_open_it_and_are_refused(breaker: Breaker) -> None:
    target = Target(*[[EchoReply(), Unavailable()]] * 2)
    send = breaker.stream(target.stream)
    for _ in range(2):
        with pytest.raises(Unavailable):
            [_ async for _ in send(call_of(COUNT), requests_of())]
    with pytest.raises(CircuitOpenError):
        await anext(send(call_of(COUNT), requests_of()))
    assert len(target.calls) == 2


async def test_a_caller_whose_own_requests_fail_says_nothing_of_the_target(
    breaker: Breaker,
) -> None:
    async def own() -> AsyncIterator[Any]:
        yield EchoRequest()
        raise ValueError("a bug of the caller's")

    async def sum_of(call: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        yield EchoReply(number=sum([request.number async for request in requests]))

    for _ in range(3):
        with pytest.raises(ValueError, match="a bug of the caller's"):
            [reply async for reply in breaker.stream(sum_of)(call_of(SUM), own())]
    assert breaker.circuit(call_of(SUM)).state is State.CLOSED


async def test_a_probe_that_is_a_stream_has_succeeded_with_its_first_reply(
    breaker: Breaker, runtime: FakeRuntime
) -> None:
    call, endless = call_of(COUNT), [EchoReply()] * 100
    target = Target([Unavailable()], [Unavailable()], endless)
    count = breaker.stream(target.stream)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await anext(count(call, requests_of()))
    runtime.clock.advance(30.0)
    async with aclosing(count(call, requests_of())) as replies:  # type: ignore[type-var]
        await anext(replies)
        assert breaker.circuit(call).state is State.CLOSED
        await anext(count(call, requests_of()))
    assert breaker.circuit(call).counts.failed == 0


async def test_a_probe_that_is_a_stream_fails_if_it_fails_before_a_reply(
    breaker: Breaker, runtime: FakeRuntime
) -> None:
    call, bad = call_of(COUNT), [Unavailable()]
    count = breaker.stream(Target(bad, bad, bad).stream)
    for wait_s in (0.0, 0.0, 30.0):
        runtime.clock.advance(wait_s)
        with pytest.raises(Unavailable):
            await anext(count(call, requests_of()))
    assert breaker.circuit(call).state is State.OPEN


async def test_a_stream_never_begun_takes_no_probe(breaker: Breaker, runtime: FakeRuntime) -> None:
    await half_open(breaker, runtime)
    begun_by_nobody = breaker.stream(Target().stream)(call_of(COUNT), requests_of())
    await breaker(Target().unary)(call_of(COUNT))
    del begun_by_nobody


async def test_changes_of_state_are_logged(
    breaker: Breaker, caplog: pytest.LogCaptureFixture
) -> None:
    send = breaker(Target(Unavailable(), Unavailable()).unary)
    with caplog.at_level(logging.WARNING, "mesh"):
        for _ in range(2):
            with pytest.raises(Unavailable):
                await send(call_of(address="a:1"))
    [line] = [json.loads(record.message) for record in caplog.records]
    assert line["event"] == "circuit breaker"
    assert (line["target"], line["method"]) == ("a:1", READ.full_name)
    assert (line["was"], line["state"]) == ("closed", "open")


def test_the_decorator_guards_a_sync_function(runtime: FakeRuntime) -> None:
    asked = []

    @circuit_breaker(CONFIG, runtime)
    def fetch(what: str) -> str:
        """Fetch it."""
        asked.append(what)
        if what == "bad":
            raise OSError(what)
        return what.upper()

    assert fetch("good") == "GOOD"
    assert (fetch.__name__, fetch.__doc__) == ("fetch", "Fetch it.")
    for _ in range(2):
        with pytest.raises(OSError, match="bad"):
            fetch("bad")
    with pytest.raises(CircuitOpenError, match="fetch") as caught:
        fetch("good")
    assert asked == ["good", "bad", "bad"]
    assert caught.value.retry_after_s == 30.0
    runtime.clock.advance(30.0)
    assert fetch("good") == "GOOD"


async def test_the_decorator_guards_an_async_function(runtime: FakeRuntime) -> None:
    @circuit_breaker(CONFIG, runtime)
    async def fetch(fails: bool) -> str:
        if fails:
            raise ConnectionError
        return "good"

    assert await fetch(False) == "good"
    for _ in range(2):
        with pytest.raises(ConnectionError):
            await fetch(True)
    with pytest.raises(CircuitOpenError):
        await fetch(False)
    circuit: Any = fetch
    assert circuit.circuit.state is State.OPEN


def test_decorated_functions_have_circuits_of_their_own(runtime: FakeRuntime) -> None:
    guard = circuit_breaker(CircuitConfig(failures=1), runtime)

    @guard
    def bad() -> None:
        raise ConnectionError

    @guard
    def good() -> None:
        pass

    with pytest.raises(ConnectionError):
        bad()
    with pytest.raises(CircuitOpenError):
        bad()
    good()
