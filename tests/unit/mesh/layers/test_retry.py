"""Retry: only what is safe to repeat, only while it can still help."""

from __future__ import annotations

import random
from contextlib import aclosing
from typing import Any

import pytest
from grpc import StatusCode
from hypothesis import given
from hypothesis import strategies as st

from mesh.call import Layer, Method, stack
from mesh.errors import (
    CircuitOpenError,
    DeadlineExceeded,
    Expired,
    Internal,
    KeyInFlight,
    MeshError,
    NotExecuted,
    NotFound,
    Outcome,
    Unavailable,
)
from mesh.layers.backoff import Backoff
from mesh.layers.deadline import AttemptTimeout
from mesh.layers.keys import AssignKey
from mesh.layers.retry import RETRYABLE, Retry, RetryPolicy
from mesh.metadata import ATTEMPT, KEY
from mesh.transport.port import outgoing
from tests.support.echo import (
    ADD,
    CHAT,
    COUNT,
    POUR,
    PUT,
    READ,
    SUM,
    EchoReply,
    call_of,
    requests_of,
)
from tests.support.runtime import FakeRuntime, LargestRandom
from tests.support.target import Target

POLICY = RetryPolicy(attempts_max=4, backoff=Backoff(base_s=0.05, max_s=2.0))


@pytest.fixture
def runtime() -> FakeRuntime:
    return FakeRuntime(LargestRandom())


@pytest.fixture
def retry(runtime: FakeRuntime) -> Layer:
    return Retry(POLICY, runtime)


@pytest.mark.parametrize("method", [READ, PUT], ids=lambda m: m.idempotency.name)
async def test_a_repeatable_method_is_sent_again(retry: Layer, method: Method) -> None:
    target = Target(Unavailable(), Unavailable(), EchoReply(number=3))
    assert (await retry(target.unary)(call_of(method))).number == 3
    assert [call.attempt for call in target.calls] == [1, 2, 3]


async def test_a_method_that_promises_nothing_is_sent_once(retry: Layer) -> None:
    target = Target(Unavailable())
    with pytest.raises(Unavailable):
        await retry(target.unary)(call_of(ADD))
    assert len(target.calls) == 1


@pytest.mark.parametrize("error", [NotExecuted(), CircuitOpenError(), KeyInFlight()], ids=repr)
async def test_what_certainly_did_not_execute_may_always_be_sent_again(
    retry: Layer, error: MeshError
) -> None:
    target = Target(error, EchoReply())
    await retry(target.unary)(call_of(ADD))
    assert len(target.calls) == 2


async def test_it_gives_up_after_the_last_attempt_with_the_last_error(retry: Layer) -> None:
    errors = [Unavailable(str(n)) for n in range(9)]
    target = Target(*errors)
    with pytest.raises(Unavailable) as caught:
        await retry(target.unary)(call_of())
    assert caught.value is errors[3]
    assert len(target.calls) == 4


@pytest.mark.parametrize("first", [Unavailable(), DeadlineExceeded()], ids=repr)
async def test_what_may_have_happened_stays_unknown_whatever_the_last_attempt_says(
    retry: Layer, first: MeshError
) -> None:
    target = Target(first, *(CircuitOpenError() for _ in range(9)))
    with pytest.raises(CircuitOpenError) as caught:
        await retry(target.unary)(call_of())
    assert caught.value.outcome is Outcome.UNKNOWN
    untouched = Target(*(CircuitOpenError() for _ in range(9)))
    with pytest.raises(CircuitOpenError) as caught:
        await retry(untouched.unary)(call_of())
    assert caught.value.outcome is Outcome.NOT_EXECUTED


async def test_when_there_was_no_time_for_the_last_attempt_the_first_may_have_happened(
    retry: Layer,
) -> None:
    target = Target(Unavailable(), *(Expired() for _ in range(9)))
    with pytest.raises(DeadlineExceeded) as caught:
        await retry(target.unary)(call_of())
    assert caught.value.outcome is Outcome.UNKNOWN


async def test_of_a_stream_too(retry: Layer) -> None:
    target = Target([Unavailable()], *([CircuitOpenError()] for _ in range(9)))
    with pytest.raises(CircuitOpenError) as caught:
        await anext(aiter(retry.stream(target.stream)(call_of(COUNT), requests_of())))
    assert caught.value.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("code", [c for c in StatusCode if c not in RETRYABLE])
async def test_other_codes_are_answers_and_are_not_retried(retry: Layer, code: StatusCode) -> None:
    target = Target(MeshError(status=code))
    with pytest.raises(MeshError):
        await retry(target.unary)(call_of())
    assert len(target.calls) == 1


def test_the_retryable_codes_are_these() -> None:
    names = {code.name for code in RETRYABLE}
    assert names == {"UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}


@pytest.mark.parametrize("error", [ValueError(), NotFound(), Internal()], ids=repr)
async def test_bugs_and_refusals_pass(retry: Layer, error: Exception) -> None:
    target = Target(error)
    with pytest.raises(type(error)):
        await retry(target.unary)(call_of())
    assert len(target.calls) == 1


async def test_every_attempt_carries_the_same_key_and_its_number(
    retry: Layer, runtime: FakeRuntime
) -> None:
    target = Target(Unavailable(), Unavailable())
    await stack(AssignKey(runtime), retry, around=target.unary)(call_of(PUT))
    sent = [dict(outgoing(call)) for call in target.calls]
    assert len({metadata[KEY] for metadata in sent}) == 1
    assert [metadata.get(ATTEMPT) for metadata in sent] == [None, "2", "3"]


async def test_the_delay_doubles_up_to_its_bound(runtime: FakeRuntime) -> None:
    policy = RetryPolicy(attempts_max=6, backoff=Backoff(base_s=0.5, max_s=3.0))
    with pytest.raises(Unavailable):
        await Retry(policy, runtime)(Target(*[Unavailable()] * 6).unary)(call_of())
    assert runtime.clock.slept == [0.5, 1.0, 2.0, 3.0, 3.0]


@given(attempt=st.integers(1, 10_000), seed=st.integers())
def test_delays_are_drawn_from_the_whole_range(attempt: int, seed: int) -> None:
    backoff = Backoff(base_s=0.05, max_s=2.0)
    ceiling_s = min(2.0, 0.05 * 2.0 ** min(attempt - 1, 60))
    assert 0.0 <= backoff.delay_s(attempt, random.Random(seed)) <= ceiling_s


def test_jitter_is_full() -> None:
    backoff, chance = Backoff(base_s=1.0, max_s=1.0), random.Random(3)
    drawn = [backoff.delay_s(1, chance) for _ in range(500)]
    assert min(drawn) < 0.05
    assert max(drawn) > 0.95


async def test_one_deadline_spans_all_attempts_and_sleeps(
    retry: Layer, runtime: FakeRuntime
) -> None:
    deadline = runtime.clock.monotonic() + 5.0
    target = Target(Unavailable(), Unavailable())
    await retry(target.unary)(call_of(deadline=deadline))
    assert {call.deadline for call in target.calls} == {deadline}


async def test_a_sleep_that_cannot_fit_is_not_begun(retry: Layer, runtime: FakeRuntime) -> None:
    target = Target(*[Unavailable()] * 4)
    with pytest.raises(Unavailable):
        await retry(target.unary)(call_of(deadline=runtime.clock.monotonic() + 0.12))
    assert runtime.clock.slept == [0.05]
    assert len(target.calls) == 2


async def test_the_servers_wait_is_honoured(retry: Layer, runtime: FakeRuntime) -> None:
    target = Target(Unavailable(retry_after_s=1.5))
    await retry(target.unary)(call_of())
    assert runtime.clock.slept == [1.55]


async def test_a_wait_beyond_the_deadline_ends_it_at_once(
    retry: Layer, runtime: FakeRuntime
) -> None:
    target = Target(CircuitOpenError(retry_after_s=30.0))
    with pytest.raises(CircuitOpenError):
        await retry(target.unary)(call_of(deadline=runtime.clock.monotonic() + 10.0))
    assert runtime.clock.slept == []


async def test_a_stream_without_a_deadline_is_begun_as_soon_as_a_call_or_not(
    runtime: FakeRuntime,
) -> None:
    retry = Retry(POLICY, runtime, begun_within_s=10.0)
    soon, late = CircuitOpenError(retry_after_s=2.0), CircuitOpenError(retry_after_s=30.0)
    replies = retry.stream(Target([soon], [EchoReply(number=3)]).stream)(
        call_of(COUNT), requests_of()
    )
    assert [reply.number async for reply in replies] == [3]
    before = runtime.clock.monotonic()
    with pytest.raises(CircuitOpenError):
        await anext(retry.stream(Target([late]).stream)(call_of(COUNT), requests_of()))
    assert runtime.clock.monotonic() == before
    given = call_of(COUNT, deadline=before + 60.0)
    replies = retry.stream(Target([late], [EchoReply()]).stream)(given, requests_of())
    assert [reply async for reply in replies]


async def test_a_negative_wait_means_never(retry: Layer) -> None:
    target = Target(Unavailable(retry_after_s=-1.0))
    with pytest.raises(Unavailable):
        await retry(target.unary)(call_of())
    assert len(target.calls) == 1


async def test_an_attempt_that_ran_out_of_its_own_time_is_repeated(runtime: FakeRuntime) -> None:
    seen = []

    async def slow_once(call: Any) -> Any:
        seen.append(call.deadline - runtime.clock.monotonic())
        if len(seen) == 1:
            runtime.clock.advance(1.0)
            raise DeadlineExceeded
        return EchoReply()

    send = stack(Retry(POLICY, runtime), AttemptTimeout(runtime, 1.0), around=slow_once)
    await send(call_of(deadline=runtime.clock.monotonic() + 1.25))
    assert seen == pytest.approx([1.0, 0.2])


async def test_when_the_calls_own_time_is_over_it_ends(retry: Layer, runtime: FakeRuntime) -> None:
    calls = 0

    async def slow(_: Any) -> Any:
        nonlocal calls
        calls += 1
        runtime.clock.advance(2.0)
        raise DeadlineExceeded

    with pytest.raises(DeadlineExceeded):
        await retry(slow)(call_of(deadline=runtime.clock.monotonic() + 2.0))
    assert calls == 1


async def test_a_write_whose_deadline_passed_is_not_repeated(retry: Layer) -> None:
    """Nobody knows whether it happened; one that never began is another matter."""
    target = Target(DeadlineExceeded())
    with pytest.raises(DeadlineExceeded):
        await retry(target.unary)(call_of(ADD))
    await retry(Target(Expired()).unary)(call_of(ADD))


async def test_a_stream_is_repeated_before_its_first_message(retry: Layer) -> None:
    target = Target([Unavailable()], [EchoReply(number=1), EchoReply(number=2)])
    replies = [r.number async for r in retry.stream(target.stream)(call_of(COUNT), requests_of())]
    assert replies == [1, 2]
    assert [call.attempt for call in target.calls] == [1, 2]


async def test_a_stream_is_not_repeated_after_its_first_message(retry: Layer) -> None:
    target = Target([EchoReply(), Unavailable()])
    stream: Any = retry.stream(target.stream)(call_of(COUNT), requests_of())
    async with aclosing(stream):
        await anext(stream)
        with pytest.raises(Unavailable):
            await anext(stream)
    assert len(target.calls) == 1


async def test_a_stream_that_promises_nothing_is_not_repeated(retry: Layer) -> None:
    target = Target([Unavailable()])
    with pytest.raises(Unavailable):
        await anext(retry.stream(target.stream)(call_of(POUR), requests_of()))
    assert len(target.calls) == 1


@pytest.mark.parametrize("method", [SUM, CHAT], ids=lambda m: m.kind.name)
async def test_what_the_client_streams_cannot_be_sent_again(retry: Layer, method: Method) -> None:
    target = Target([NotExecuted()])
    with pytest.raises(NotExecuted):
        await anext(retry.stream(target.stream)(call_of(method), requests_of()))
    assert len(target.calls) == 1


async def test_leaving_a_stream_ends_it_at_once(retry: Layer) -> None:
    target = Target([EchoReply(), EchoReply()])
    stream: Any = retry.stream(target.stream)(call_of(COUNT), requests_of())
    async with aclosing(stream):
        await anext(stream)
    assert target.left.is_set()
