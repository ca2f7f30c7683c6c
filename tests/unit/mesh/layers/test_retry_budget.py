"""Retry and its budget: one hop retries, out of what it has earned, and says when it gave up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from mesh.call import Layer, stack
from mesh.errors import (
    EXHAUSTED_S,
    CircuitOpenError,
    DeadlineExceeded,
    MeshError,
    NotFound,
    Unavailable,
)
from mesh.layers.backoff import Backoff
from mesh.layers.budget import BudgetConfig
from mesh.layers.correlation import Correlate, EnterScope
from mesh.layers.retry import Retry, RetryPolicy
from mesh.metadata import ATTEMPT
from mesh.runtime.metrics import Metrics
from mesh.scope import Scope, scope
from mesh.status import from_status, to_status
from mesh.transport.port import outgoing
from tests.support.echo import ADD, COUNT, READ, EchoReply, call_of, requests_of
from tests.support.runtime import FakeRuntime, LargestRandom
from tests.support.target import Target

BACKOFF = Backoff(base_s=0.05, max_s=2.0)


@pytest.fixture
def runtime() -> FakeRuntime:
    return FakeRuntime(LargestRandom())


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def retrying(
    runtime: FakeRuntime, metrics: Metrics | None = None, attempts_max: int = 3, **budget: float
) -> Retry:
    config = BudgetConfig(**budget) if budget else BudgetConfig(burst=1000.0)
    return Retry(RetryPolicy(attempts_max, BACKOFF, config), runtime, metrics)


def one_retry(runtime: FakeRuntime, metrics: Metrics | None = None) -> Retry:
    """A budget of one retry, and no more for ever."""
    return retrying(runtime, metrics, share=0.0, per_s=0.0, burst=1.0)


@pytest.fixture
def under_a_retry() -> Iterator[None]:
    token = scope.set(Scope(attempt=2))
    yield
    scope.reset(token)


async def failure(layer: Layer, *errors: MeshError, **facts: Any) -> tuple[MeshError, int]:
    """Return what a call ends with, and how often it was sent."""
    target = Target(*errors)
    with pytest.raises(MeshError) as caught:
        await layer(target.unary)(call_of(**facts))
    return caught.value, len(target.calls)


async def test_without_budget_nothing_is_sent_again(runtime: FakeRuntime) -> None:
    retry = one_retry(runtime)
    assert (await failure(retry, Unavailable(), Unavailable()))[1] == 2
    assert (await failure(retry, Unavailable()))[1] == 1


async def test_calls_earn_retries_and_streams_do_too(runtime: FakeRuntime) -> None:
    retry = retrying(runtime, share=0.25, per_s=0.0, burst=1.0)
    assert (await failure(retry, Unavailable(), Unavailable()))[1] == 2
    for _ in range(2):
        await retry(Target().unary)(call_of())
        assert [_ async for _ in retry.stream(Target().stream)(call_of(COUNT), requests_of())]
    assert retry.budget.left == 1.0
    target = Target([Unavailable()], [EchoReply()])
    assert [_ async for _ in retry.stream(target.stream)(call_of(COUNT), requests_of())]
    assert len(target.calls) == 2


async def test_a_retry_earns_nothing(runtime: FakeRuntime) -> None:
    retry = retrying(runtime, share=0.5, per_s=0.0, burst=10.0)
    await failure(retry, *[Unavailable()] * 3)
    assert retry.budget.left == 8.0  # it was full, and two were paid


async def test_what_is_not_sent_costs_nothing(runtime: FakeRuntime) -> None:
    retry = one_retry(runtime)
    deadline = runtime.clock.monotonic() + 0.01
    await failure(retry, Unavailable(), deadline=deadline)
    await failure(retry, NotFound())
    await failure(retry, Unavailable(), method=ADD)
    await failure(retry, Unavailable(retry_after_s=-1.0))
    assert retry.budget.left == 1.0


class TestExhausted:
    """Whoever gave up what may have helped says so; those above leave it."""

    async def test_out_of_attempts(self, runtime: FakeRuntime) -> None:
        error, sent = await failure(retrying(runtime), *[Unavailable()] * 3)
        assert (error.retry_after_s, sent) == (EXHAUSTED_S, 3)

    async def test_out_of_attempts_and_of_time(self, runtime: FakeRuntime) -> None:
        deadline = runtime.clock.monotonic() + 0.001
        layer = retrying(runtime, attempts_max=1)
        error, _ = await failure(layer, Unavailable(), deadline=deadline)
        assert error.retry_after_s == EXHAUSTED_S

    async def test_out_of_budget(self, runtime: FakeRuntime) -> None:
        error, _ = await failure(one_retry(runtime), Unavailable(), Unavailable())
        assert error.retry_after_s == EXHAUSTED_S

    async def test_in_a_stream(self, runtime: FakeRuntime) -> None:
        target = Target([Unavailable()], [Unavailable()], [Unavailable()])
        with pytest.raises(Unavailable) as caught:
            await anext(retrying(runtime).stream(target.stream)(call_of(COUNT), requests_of()))
        assert caught.value.retry_after_s == EXHAUSTED_S

    @pytest.mark.parametrize(
        ("error", "facts"),
        [
            (NotFound(), {}),
            (DeadlineExceeded(), {"method": ADD}),
            (CircuitOpenError(retry_after_s=30.0), {"deadline": 1010.0}),
        ],
        ids=["an answer", "nobody may repeat it", "no time"],
    )
    async def test_whoever_did_not_try_says_nothing(
        self, runtime: FakeRuntime, error: MeshError, facts: dict[str, Any]
    ) -> None:
        before = error.retry_after_s
        ended, _ = await failure(retrying(runtime), error, **facts)
        assert ended.retry_after_s == before

    async def test_nobody_above_begins_anew(self, runtime: FakeRuntime) -> None:
        target = Target(*[Unavailable()] * 99)
        with pytest.raises(Unavailable):
            await stack(retrying(runtime), retrying(runtime), around=target.unary)(call_of())
        assert len(target.calls) == 3

    def test_it_goes_over_the_wire_and_no_wait_with_it(self) -> None:
        status = to_status(Unavailable(retry_after_s=EXHAUSTED_S))
        assert [packed.TypeName() for packed in status.details] == ["google.rpc.ErrorInfo"]
        error = from_status(status)
        assert error.retry_after_s == EXHAUSTED_S
        assert not error.info


class TestUnderARetry:
    """A call that serves somebody's retry is one itself, all the way down."""

    pytestmark = pytest.mark.usefixtures("under_a_retry")

    async def test_it_is_sent_once(self, runtime: FakeRuntime) -> None:
        error, sent = await failure(retrying(runtime), Unavailable())
        assert sent == 1
        assert error.retry_after_s is None  # its caller goes on as its own attempts allow

    async def test_its_number_goes_on(self, runtime: FakeRuntime) -> None:
        target = Target()
        await Correlate(runtime)(target.unary)(call_of())
        [call] = target.calls
        assert dict(outgoing(call))[ATTEMPT] == "2"

    async def test_who_is_below_knows(self, runtime: FakeRuntime) -> None:
        seen = []

        async def below(_: Any) -> Any:
            seen.append(scope.get().attempt)
            return EchoReply()

        await stack(Correlate(runtime), EnterScope(runtime), around=below)(call_of())
        assert seen == [2]


async def test_a_first_attempt_has_no_number(runtime: FakeRuntime) -> None:
    target = Target()
    await Correlate(runtime)(target.unary)(call_of())
    [call] = target.calls
    assert ATTEMPT not in dict(outgoing(call))


async def test_what_is_decided_is_counted(runtime: FakeRuntime, metrics: Metrics) -> None:
    await failure(one_retry(runtime, metrics), Unavailable(), Unavailable())
    await failure(retrying(runtime, metrics), *[Unavailable()] * 3)
    await failure(retrying(runtime, metrics), NotFound())
    [family] = metrics.retries.collect()
    counted = {
        (sample.labels["rpc_method"], sample.labels["decision"]): sample.value
        for sample in family.samples
        if sample.name == "mesh_retries_total"
    }
    assert counted == {
        (READ.full_name, "sent"): 3.0,
        (READ.full_name, "budget"): 1.0,
        (READ.full_name, "attempts"): 1.0,
    }
