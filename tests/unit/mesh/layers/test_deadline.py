"""Deadlines: every call has one, none outlives its caller's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mesh.call import Call, Layer, Method, stack
from mesh.errors import DeadlineExceeded, Expired, Outcome
from mesh.layers.correlation import EnterScope
from mesh.layers.deadline import MARGIN_S, AttemptTimeout, CheckDeadline, ComputeDeadline
from mesh.runtime.clock import Runtime
from mesh.runtime.driven import drive
from mesh.scope import Scope, scope
from mesh.testing.loop import VirtualClock, run_virtual
from tests.support.echo import CHAT, COUNT, READ, SUM, EchoReply, EchoRequest, call_of, requests_of
from tests.support.runtime import FakeRuntime
from tests.support.target import Target

NEVER = float("inf")


@pytest.fixture
def runtime() -> FakeRuntime:
    return FakeRuntime()


@pytest.fixture
def now(runtime: FakeRuntime) -> float:
    return runtime.clock.monotonic()


async def sent(layer: Layer, deadline: float) -> float:
    target = Target()
    await layer(target.unary)(call_of(READ, deadline))
    return target.calls[0].deadline


class TestClient:
    async def test_a_call_without_one_gets_the_default(
        self, runtime: FakeRuntime, now: float
    ) -> None:
        assert await sent(ComputeDeadline(runtime, 10.0), NEVER) == now + 10.0

    async def test_the_callers_own_wins_over_the_default(
        self, runtime: FakeRuntime, now: float
    ) -> None:
        assert await sent(ComputeDeadline(runtime, 10.0), now + 3.0) == now + 3.0
        assert await sent(ComputeDeadline(runtime, 10.0), now + 60.0) == now + 60.0

    async def test_none_outlives_the_call_being_served(
        self, runtime: FakeRuntime, now: float
    ) -> None:
        scope.set(Scope(deadline=now + 2.0))
        assert await sent(ComputeDeadline(runtime, 10.0), NEVER) == now + 2.0 - MARGIN_S
        assert await sent(ComputeDeadline(runtime, 10.0), now + 1.0) == now + 1.0

    @pytest.mark.parametrize("left_s", [MARGIN_S, 0.0, -5.0])
    async def test_what_cannot_be_in_time_is_not_sent(
        self, runtime: FakeRuntime, now: float, left_s: float
    ) -> None:
        scope.set(Scope(deadline=now + left_s))
        with pytest.raises(Expired) as caught:
            await sent(ComputeDeadline(runtime, 10.0), NEVER)
        assert caught.value.outcome is Outcome.NOT_EXECUTED

    @pytest.mark.parametrize("method", [COUNT, CHAT], ids=lambda m: m.kind.name)
    async def test_a_stream_of_replies_may_be_endless(
        self, runtime: FakeRuntime, now: float, method: object
    ) -> None:
        target = Target()
        send = ComputeDeadline(runtime, 10.0).stream(target.stream)
        await anext(send(call_of(method), requests_of()))  # type: ignore[arg-type]
        assert target.calls[0].deadline == NEVER
        scope.set(Scope(deadline=now + 2.0))
        await anext(send(call_of(method), requests_of()))  # type: ignore[arg-type]
        assert target.calls[1].deadline == now + 2.0 - MARGIN_S

    async def test_a_stream_of_requests_is_not(self, runtime: FakeRuntime, now: float) -> None:
        target = Target()
        await anext(
            ComputeDeadline(runtime, 10.0).stream(target.stream)(call_of(SUM), requests_of())
        )
        assert target.calls[0].deadline == now + 10.0


class TestAttempt:
    async def test_it_is_bounded_by_its_own_time_and_by_the_calls(
        self, runtime: FakeRuntime, now: float
    ) -> None:
        layer = AttemptTimeout(runtime, 1.0)
        assert await sent(layer, now + 5.0) == now + 1.0
        assert await sent(layer, now + 0.5) == now + 0.5

    @pytest.mark.parametrize("method", [COUNT, CHAT, SUM], ids=lambda m: m.kind.name)
    async def test_a_stream_of_replies_is_not_cut(
        self, runtime: FakeRuntime, now: float, method: Method
    ) -> None:
        target = Target()
        send = AttemptTimeout(runtime, 1.0).stream(target.stream)
        await anext(send(call_of(method, now + 5.0), requests_of()))
        assert target.calls[0].deadline == now + (1.0 if method is SUM else 5.0)

    async def test_without_a_bound_it_has_the_calls(self, runtime: FakeRuntime, now: float) -> None:
        assert await sent(AttemptTimeout(runtime, None), now + 5.0) == now + 5.0


class TestServer:
    async def test_a_call_without_one_gets_the_default_and_hands_it_on(
        self, runtime: FakeRuntime, now: float
    ) -> None:
        scope.set(Scope(correlation_id="c"))
        assert await sent(CheckDeadline(runtime, 30.0), NEVER) == now + 30.0
        assert scope.get() == Scope(correlation_id="c", deadline=now + 30.0)

    async def test_the_callers_is_kept(self, runtime: FakeRuntime, now: float) -> None:
        assert await sent(CheckDeadline(runtime, 30.0), now + 300.0) == now + 300.0

    async def test_a_call_that_comes_too_late_is_not_worked_on(
        self, runtime: FakeRuntime, now: float
    ) -> None:
        target = Target()
        with pytest.raises(Expired):
            await CheckDeadline(runtime, 30.0)(target.unary)(call_of(READ, now))
        assert not target.calls

    async def test_a_stream_of_replies_may_be_endless(self, runtime: FakeRuntime) -> None:
        target = Target()
        send = CheckDeadline(runtime, 30.0).stream(target.stream)
        await anext(send(call_of(COUNT), requests_of()))
        assert target.calls[0].deadline == NEVER


class Slow:
    """A handler that takes a second, and what became of it."""

    def __init__(self, error: Exception | None = None) -> None:
        self.ended = ""
        self._error = error

    async def __call__(self, _: Call) -> Any:
        self.ended = "cancelled"
        await asyncio.sleep(1.0)
        if self._error:
            raise self._error
        self.ended = "done"
        return EchoReply(number=7)


class TestServerEndsWhatHasNoDeadline:
    def served(self, slow: Slow, timeout_s: float, deadline: float = NEVER) -> Any:
        async def story() -> Any:
            layer = CheckDeadline(Runtime(VirtualClock()), timeout_s)
            began = asyncio.get_running_loop().time()
            try:
                return await layer(slow)(call_of(READ, deadline))
            finally:
                took_s = asyncio.get_running_loop().time() - began
                assert took_s == pytest.approx(min(1.0, timeout_s if deadline == NEVER else 1.0))

        return run_virtual(story())

    def test_at_the_default(self) -> None:
        slow = Slow()
        with pytest.raises(DeadlineExceeded) as caught:
            self.served(slow, 0.3)
        assert caught.value.outcome is Outcome.UNKNOWN
        assert slow.ended == "cancelled"

    def test_and_not_before(self) -> None:
        assert self.served(Slow(), 2.0).number == 7

    def test_nor_what_has_one_which_grpc_ends(self) -> None:
        assert self.served(Slow(), 0.3, deadline=1e9).number == 7

    def test_a_stream_of_requests_too_that_nobody_ends(self) -> None:
        async def endless() -> AsyncIterator[EchoRequest]:
            try:
                await asyncio.sleep(1e6)
                yield EchoRequest()
            finally:
                left.append(True)

        async def add_up(_: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
            yield EchoReply(number=sum([request.number async for request in requests]))

        async def story() -> float:
            numbers = (EchoRequest(number=3), EchoRequest(number=4))
            serve = CheckDeadline(Runtime(VirtualClock()), 30.0).stream(add_up)
            assert [r.number async for r in serve(call_of(SUM), requests_of(*numbers))] == [7]
            with pytest.raises(DeadlineExceeded, match="has 30 s"):
                await anext(serve(call_of(SUM), endless()))
            return asyncio.get_running_loop().time()

        left: list[bool] = []
        assert run_virtual(story()) == 30.0
        assert left

    def test_a_timeout_of_the_handlers_own_stays_its_own(self) -> None:
        with pytest.raises(TimeoutError, match="its own"):
            self.served(Slow(TimeoutError("its own")), 2.0)

    def test_a_thread_is_only_told_how_much_time_is_left(self) -> None:
        target = Target()
        drive(CheckDeadline(FakeRuntime(), 0.3)(target.unary)(call_of(READ)))
        assert target.calls[0].deadline < NEVER


async def test_a_childs_whole_time_ends_before_its_parents_attempt(
    runtime: FakeRuntime, now: float
) -> None:
    """With all its attempts and sleeps: else the parent begins another beside it."""
    child = Target()

    async def serve(call: Call) -> Any:
        return await ComputeDeadline(runtime, 10.0)(child.unary)(call_of(READ))

    parent: tuple[Layer, ...] = (ComputeDeadline(runtime, 10.0), AttemptTimeout(runtime, 1.0))
    await stack(*parent, EnterScope(runtime), around=serve)(call_of(READ))
    assert child.calls[0].deadline == now + 1.0 - MARGIN_S
