"""The fallback: what is answered in place of a failure, to whom, and that it says so."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from grpc import StatusCode
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from mesh.call import Call, Criticality, stack
from mesh.client import Policy
from mesh.errors import (
    CircuitOpenError,
    DeadlineExceeded,
    MeshError,
    NotFound,
    Overloaded,
    Refused,
    Unavailable,
)
from mesh.layers.breaker import FAILURES
from mesh.layers.criticality import HandOnCriticality
from mesh.layers.fallback import Fallback, FallbackConfig, LastGood
from mesh.layers.tracing import TraceCall
from mesh.runtime.metrics import Metrics
from mesh.scope import Scope, scope
from tests.support.echo import METHODS, READ, EchoReply, EchoRequest, call_of
from tests.support.runtime import FakeRuntime
from tests.support.target import Target

GOOD = EchoReply(text="good")


@pytest.fixture
def runtime() -> FakeRuntime:
    scope.set(Scope(degraded=[]))
    return FakeRuntime()


def made(runtime: FakeRuntime, config: FallbackConfig | None = None) -> Fallback:
    return Fallback(config or FallbackConfig(last_good_s=60.0), runtime, Metrics())


def call(text: str = "") -> Call:
    return call_of(READ, request=EchoRequest(text=text))


@pytest.mark.parametrize(
    "failure",
    [Unavailable(), CircuitOpenError(), Overloaded(), DeadlineExceeded()]
    + [MeshError(status=code) for code in sorted(FAILURES, key=str)],
    ids=lambda e: f"{type(e).__name__} {e.status.name}",
)
async def test_the_last_good_reply_is_given_and_it_says_so(
    runtime: FakeRuntime, failure: MeshError
) -> None:
    layer = made(runtime)
    send = layer(Target(GOOD, failure).unary)
    assert await send(call()) == GOOD
    assert scope.get().degraded == []
    runtime.clock.advance(12.0)
    assert await send(call()) == GOOD
    assert scope.get().degraded == [f"{READ.full_name};age=12"]


async def test_what_is_too_old_is_not_given(runtime: FakeRuntime) -> None:
    layer = made(runtime)
    send = layer(Target(GOOD, Unavailable(), Unavailable()).unary)
    await send(call())
    runtime.clock.advance(60.0)
    assert await send(call()) == GOOD
    runtime.clock.advance(0.1)
    with pytest.raises(Unavailable):
        await send(call())
    assert len(layer.last_good) == 0


@pytest.mark.parametrize(
    "answer",
    [NotFound(), Refused(status=StatusCode.UNAVAILABLE), MeshError(status=StatusCode.CANCELLED)],
    ids=repr,
)
async def test_an_answer_stays_one(runtime: FakeRuntime, answer: MeshError) -> None:
    send = made(runtime)(Target(GOOD, answer).unary)
    await send(call())
    with pytest.raises(type(answer)):
        await send(call())
    assert scope.get().degraded == []


async def test_a_cancelled_call_gets_nothing(runtime: FakeRuntime) -> None:
    send = made(runtime)(Target(GOOD, asyncio.CancelledError()).unary)
    await send(call())
    with pytest.raises(asyncio.CancelledError):
        await send(call())


async def test_it_is_for_the_same_request_and_the_same_caller(runtime: FakeRuntime) -> None:
    send = made(runtime)(Target(GOOD, *[Unavailable()] * 3).unary)
    scope.set(Scope(principal="anna", degraded=[]))
    await send(call("a"))
    with pytest.raises(Unavailable):
        await send(call("b"))
    scope.set(Scope(principal="berta", degraded=[]))
    with pytest.raises(Unavailable):
        await send(call("a"))
    scope.set(Scope(principal="anna", degraded=[]))
    assert await send(call("a")) == GOOD


@pytest.mark.parametrize(
    ("inherited", "own"),
    [
        (Criticality.CRITICAL, Criticality.DEFAULT),
        (Criticality.DEFAULT, Criticality.CRITICAL),  # by its policy
    ],
)
async def test_what_is_critical_waits_for_what_is_so(
    runtime: FakeRuntime, inherited: Criticality, own: Criticality
) -> None:
    layers = HandOnCriticality(own), made(runtime)
    send = stack(*layers, around=Target(GOOD, Unavailable()).unary)
    scope.set(Scope(criticality=inherited))
    await send(call())
    with pytest.raises(Unavailable):
        await send(call())


async def test_what_the_caller_does_to_a_reply_is_not_kept(runtime: FakeRuntime) -> None:
    send = made(runtime)(Target(EchoReply(text="good"), Unavailable()).unary)
    (await send(call())).text = "changed"
    assert await send(call()) == GOOD


async def test_a_function_answers_what_is_not_known(runtime: FakeRuntime) -> None:
    def empty(request: Any) -> Any:
        return EchoReply(text="made") if request.text else None

    send = made(runtime, FallbackConfig(function=empty))(Target(Unavailable(), Unavailable()).unary)
    assert (await send(call("a"))).text == "made"
    assert scope.get().degraded == [READ.full_name]
    with pytest.raises(Unavailable):
        await send(call())


def fails(_: Any) -> Any:
    raise KeyError("a bug of the fallback's")


@pytest.mark.parametrize("function", [fails, lambda _: "no message"], ids=["raises", "no message"])
async def test_a_function_that_fails_leaves_the_failure_as_it_was(
    runtime: FakeRuntime, caplog: pytest.LogCaptureFixture, function: Any
) -> None:
    send = made(runtime, FallbackConfig(function=function))(Target(Unavailable("down")).unary)
    with pytest.raises(Unavailable, match="down"):
        await send(call("a"))
    assert scope.get().degraded == []
    assert "a fallback failed" in caplog.text


def test_an_async_function_is_refused() -> None:
    async def later(_: Any) -> Any:
        return GOOD

    with pytest.raises(ValueError, match="cannot be async"):
        FallbackConfig(function=later)  # type: ignore[arg-type]


async def test_the_mark_is_on_the_calls_own_span(runtime: FakeRuntime) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    layers = TraceCall(provider.get_tracer("test"), "echo"), made(runtime)
    send = stack(*layers, around=Target(GOOD, Unavailable()).unary)
    with provider.get_tracer("test").start_as_current_span("served"):
        await send(call())
        await send(call())
    marks = [(span.attributes or {}).get("mesh.degraded") for span in exporter.get_finished_spans()]
    assert marks == [None, f"{READ.full_name};age=0", None]


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_only_what_reads_and_does_not_stream_may_have_one(method: Any) -> None:
    policy = Policy(fallback=FallbackConfig())
    if method is READ:
        policy.check(method)
    else:
        with pytest.raises(ValueError, match="cannot have a fallback"):
            policy.check(method)


def test_sagas_have_none() -> None:
    assert Policy(fallback=FallbackConfig()).once().fallback is None


@pytest.mark.parametrize("wrong", [{"last_good_s": -1.0}, {"entries_max": 0}, {"bytes_max": 0}])
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="or more"):
        FallbackConfig(**wrong)


_kept = st.lists(st.tuples(st.text("ab", max_size=4), st.integers(0, 40), st.floats(0, 9)))


@given(_kept)
def test_it_is_bounded_whatever_is_kept(kept: list[tuple[str, int, float]]) -> None:
    runtime = FakeRuntime()
    config = FallbackConfig(last_good_s=10.0, entries_max=5, bytes_max=100)
    known = LastGood(config, runtime.clock.monotonic)
    latest: dict[str, tuple[float, int]] = {}
    for text, size, pause_s in kept:
        runtime.clock.advance(pause_s)
        known.keep(call(text), EchoReply(text="x" * size))
        latest[text] = (runtime.clock.monotonic(), size)
        assert len(known) <= config.entries_max
        assert 0 <= known.bytes <= config.bytes_max
        for asked, (since, was) in latest.items():
            found = known.find(call(asked))
            if found:
                reply: Any = found[0]
                assert len(reply.text) == was
                assert found[1] == runtime.clock.monotonic() - since <= config.last_good_s
