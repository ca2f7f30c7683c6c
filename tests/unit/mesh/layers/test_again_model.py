"""Retry and hedging against what is said of them, whatever comes back and when."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import (
    EXHAUSTED_S,
    DeadlineExceeded,
    Expired,
    MeshError,
    NotFound,
    Outcome,
    Unavailable,
)
from mesh.layers.backoff import Backoff
from mesh.layers.budget import BudgetConfig
from mesh.layers.hedge import Hedge, HedgeConfig
from mesh.layers.retry import RETRYABLE, Retry, RetryPolicy
from mesh.runtime.clock import Runtime
from mesh.testing.loop import VirtualClock, run_virtual
from tests.support.echo import ADD, PUT, READ, EchoReply, call_of
from tests.support.runtime import FakeRuntime
from tests.support.target import Target

ERRORS = st.sampled_from(
    [
        Unavailable,
        lambda: Unavailable(retry_after_s=2.0),
        lambda: Unavailable(retry_after_s=EXHAUSTED_S),
        DeadlineExceeded,
        Expired,
        NotFound,
    ]
)


@given(
    made=st.lists(ERRORS, max_size=8),
    method=st.sampled_from([READ, PUT, ADD]),
    attempts_max=st.integers(1, 5),
    burst=st.integers(1, 4),
    time_s=st.floats(0.01, 30.0),
)
def test_retry_keeps_its_rules(
    made: list[Any], method: Any, attempts_max: int, burst: int, time_s: float
) -> None:
    errors = [make() for make in made]
    runtime, target = FakeRuntime(), Target(*errors)
    budget = BudgetConfig(share=0.0, per_s=0.0, burst=float(burst))
    layer = Retry(RetryPolicy(attempts_max, Backoff(), budget), runtime)
    deadline = runtime.clock.monotonic() + time_s

    async def story() -> MeshError | None:
        try:
            await layer(target.unary)(call_of(method, deadline, key="k"))
        except MeshError as error:
            return error
        return None

    ended = asyncio.run(story())
    sent = len(target.calls)
    assert sent <= min(attempts_max, 1 + burst, 1 + len(errors))
    assert [call.attempt for call in target.calls] == list(range(1, sent + 1))
    assert {call.key for call in target.calls} == {"k"}
    assert runtime.clock.monotonic() < deadline
    for error in errors[: sent - 1]:  # each that was followed by another attempt
        assert error.status in RETRYABLE
        assert error.retry_after_s != EXHAUSTED_S
        assert method.repeatable or error.outcome is Outcome.NOT_EXECUTED
    last = errors[sent - 1] if sent <= len(errors) else None
    if isinstance(last, Expired) and any(e.outcome is Outcome.UNKNOWN for e in errors[: sent - 1]):
        assert isinstance(ended, DeadlineExceeded)
    else:
        assert ended is last


#: The percentile of calls that took a second each: a bucket's upper bound.
USUAL_S = 1.0
ENDS = st.tuples(
    st.sampled_from([0.25, 0.5, 2.0, 3.25, 7.0]), st.sampled_from(["reply", "gone", "no"])
)


def expected(first: tuple[float, str], second: tuple[float, str]) -> tuple[str, int]:
    """Return what a hedged call comes to, and how many attempts it takes."""
    if first[0] < USUAL_S and first[1] != "gone":
        return first[1], 1
    began_s = min(first[0], USUAL_S)
    ends = sorted([(first[0], first[1]), (began_s + second[0], second[1])])
    decided = [how for _, how in ends if how != "gone"]
    return (decided[0] if decided else "gone"), 2


@given(first=ENDS, second=ENDS)
def test_hedging_is_decided_by_the_first_that_says_something(
    first: tuple[float, str], second: tuple[float, str]
) -> None:
    ends, sent = iter([first, second]), 0

    async def target(_: Any) -> Any:
        nonlocal sent
        sent += 1
        after_s, how = next(ends)
        await asyncio.sleep(after_s)
        if how == "reply":
            return EchoReply()
        raise Unavailable() if how == "gone" else NotFound()

    async def story() -> str:
        config = HedgeConfig(samples_min=1, budget=BudgetConfig(share=0.0, per_s=0.0))
        hedge = Hedge(config, Runtime(VirtualClock()))
        hedge.methods[READ.path].replied(USUAL_S)
        try:
            await hedge(target)(call_of(READ, deadline=100.0))
        except MeshError as error:
            return "no" if isinstance(error, NotFound) else "gone"
        finally:
            await asyncio.sleep(0.01)
            assert len(asyncio.all_tasks()) == 1
        return "reply"

    assert (run_virtual(story()), sent) == expected(first, second)
