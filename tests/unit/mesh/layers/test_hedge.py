"""Hedging, on virtual time: who is asked when, who wins, and what becomes of the other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from mesh.call import Call, Method
from mesh.client import Channel, Policy, under
from mesh.errors import EXHAUSTED_S, MeshError, NotFound, Unavailable
from mesh.layers.budget import BudgetConfig
from mesh.layers.hedge import Hedge, HedgeConfig
from mesh.node import Node
from mesh.runtime.clock import Runtime
from mesh.runtime.metrics import Metrics
from mesh.scope import Scope, scope
from mesh.testing.loop import VirtualClock, run_virtual
from mesh.transport.memory import MemoryNetwork
from tests.support.echo import METHODS, READ, Echo, EchoReply, EchoRequest, call_of

#: The estimate of calls that took a second each is at most this.
USUAL_S, USUAL_MAX_S = 1.0, 1.02
CONFIG = HedgeConfig(samples_min=10, budget=BudgetConfig(share=0.0, per_s=0.0, burst=100.0))


class Attempt:
    """One attempt that arrived: when it began, and how it ended."""

    def __init__(self, call: Call, began: float) -> None:
        self.call = call
        self.began = began
        self.cancelled = False


class Slow:
    """Answers each attempt after a time, or raises; the script says which."""

    def __init__(self, *script: float | tuple[float, Exception]) -> None:
        self.attempts: list[Attempt] = []
        self._script = iter(script)

    async def unary(self, call: Call) -> Any:
        attempt = Attempt(call, asyncio.get_running_loop().time())
        self.attempts.append(attempt)
        step = next(self._script)
        after_s, error = step if isinstance(step, tuple) else (step, None)
        try:
            await asyncio.sleep(after_s)
        except asyncio.CancelledError:
            attempt.cancelled = True
            raise
        if error:
            raise error
        return EchoReply(number=len(self.attempts))


class World:
    """A hedge that knows what is usual."""

    def __init__(self, *script: Any, config: HedgeConfig = CONFIG, known: bool = True) -> None:
        self.metrics = Metrics()
        self.target = Slow(*script)
        self._config, self._known = config, known
        self.hedge: Hedge

    async def call(self, timeout_s: float = 60.0) -> Any:
        deadline = asyncio.get_running_loop().time() + timeout_s
        return await self.hedge(self.target.unary)(call_of(deadline=deadline))

    def run(self, story: Callable[[], Awaitable[Any]] | None = None) -> Any:
        async def main() -> Any:
            self.hedge = Hedge(self._config, Runtime(VirtualClock()), self.metrics)
            for _ in range(self._config.samples_min if self._known else 0):
                self.hedge.methods[READ.path].replied(USUAL_S)
            result = await (story or self.call)()
            await asyncio.sleep(0.01)  # losers end
            assert len(asyncio.all_tasks()) == 1, "an attempt or a timer was left behind"
            return result

        return run_virtual(main())

    def fails(self) -> MeshError:
        async def story() -> MeshError:
            with pytest.raises(MeshError) as caught:
                await self.call()
            return caught.value

        failed: MeshError = self.run(story)
        return failed

    def decisions(self) -> dict[str, float]:
        [family] = self.metrics.hedges.collect()
        return {s.labels["decision"]: s.value for s in family.samples if s.name.endswith("_total")}

    @property
    def sent(self) -> int:
        return len(self.target.attempts)


def test_a_call_that_is_as_fast_as_most_is_sent_once() -> None:
    world = World(USUAL_S)
    assert world.run().number == 1
    assert world.sent == 1


def test_a_slow_one_is_sent_again_after_the_percentile_and_the_first_reply_wins() -> None:
    world = World(60.0, 0.5)
    assert world.run().number == 2
    first, second = world.target.attempts
    assert USUAL_S <= second.began - first.began <= USUAL_MAX_S
    assert (first.cancelled, second.cancelled) == (True, False)
    assert (first.call.attempt, second.call.attempt) == (1, 2)
    assert world.decisions() == {"sent": 1.0, "won": 1.0}


def test_the_first_may_still_win() -> None:
    world = World(1.5, 60.0)
    world.run()
    first, second = world.target.attempts
    assert (first.cancelled, second.cancelled) == (False, True)
    assert world.decisions() == {"sent": 1.0}


def test_nothing_is_sent_twice_before_it_is_known_what_is_slow() -> None:
    world = World(60.0, known=False)
    world.run()
    assert world.sent == 1


def test_it_learns() -> None:
    world = World(*[USUAL_S] * 10, 50.0, 0.1, known=False)

    async def story() -> None:
        for _ in range(11):
            await world.call()

    world.run(story)
    assert world.sent == 12


def test_without_budget_nothing_is_sent_twice() -> None:
    config = replace(CONFIG, budget=BudgetConfig(share=0.0, per_s=0.0, burst=1.0))
    world = World(5.0, 0.1, 5.0, 5.0, config=config)

    async def story() -> None:
        for _ in range(3):
            await world.call()

    world.run(story)
    assert world.sent == 4
    assert world.decisions() == {"sent": 1.0, "won": 1.0, "budget": 2.0}


def test_when_no_time_is_left_then_no_timer_is_set() -> None:
    world = World(0.5)
    world.run(lambda: world.call(timeout_s=0.9))
    assert world.sent == 1


def test_under_somebodys_retry_there_is_one_attempt() -> None:
    world = World(60.0)

    async def story() -> Any:
        scope.set(Scope(attempt=2))
        return await world.call(timeout_s=100.0)

    world.run(story)
    assert world.sent == 1


class TestFailures:
    def test_one_that_another_endpoint_may_not_have_is_a_reason_to_ask_it_at_once(self) -> None:
        world = World((0.1, Unavailable()), 0.2)
        assert world.run().number == 2
        first, second = world.target.attempts
        assert second.began - first.began == pytest.approx(0.1)

    def test_an_answer_ends_it(self) -> None:
        world = World((0.1, NotFound()))
        assert isinstance(world.fails(), NotFound)
        assert world.sent == 1

    def test_an_answer_to_the_second_ends_the_first(self) -> None:
        world = World(60.0, (0.1, NotFound()))
        assert isinstance(world.fails(), NotFound)
        assert world.target.attempts[0].cancelled

    def test_while_another_is_under_way_a_failure_is_no_end(self) -> None:
        world = World(5.0, (0.1, Unavailable()))
        assert world.run().number == 2
        assert not world.target.attempts[0].cancelled

    def test_who_fails_twice_tells_those_above_not_to_begin_anew(self) -> None:
        world = World((0.1, Unavailable()), (0.1, Unavailable()))
        assert world.fails().retry_after_s == EXHAUSTED_S
        assert world.sent == 2

    def test_who_has_no_budget_says_so_too(self) -> None:
        config = replace(CONFIG, budget=BudgetConfig(share=0.0, per_s=0.0, burst=1.0))
        world = World(*[(0.1, Unavailable())] * 3, config=config)

        async def story() -> None:
            for _ in range(2):
                with pytest.raises(Unavailable) as caught:
                    await world.call()
                assert caught.value.retry_after_s == EXHAUSTED_S

        world.run(story)
        assert world.sent == 3

    @pytest.mark.parametrize("wait_s", [3.0, EXHAUSTED_S])
    def test_who_says_when_or_that_never_is_heeded(self, wait_s: float) -> None:
        world = World((0.1, Unavailable(retry_after_s=wait_s)))
        assert world.fails().retry_after_s == wait_s
        assert world.sent == 1

    def test_a_bug_is_no_reason_to_ask_twice(self) -> None:
        world = World((0.1, ValueError("a bug")))

        async def story() -> None:
            with pytest.raises(ValueError, match="a bug"):
                await world.call()

        world.run(story)
        assert world.sent == 1


@pytest.mark.parametrize("after_s", [0.0, 0.5, 1.5, 3.0])
def test_who_is_cancelled_cancels_all_its_attempts(after_s: float) -> None:
    world = World(60.0, 60.0)

    async def story() -> None:
        call = asyncio.ensure_future(world.call())
        await asyncio.sleep(after_s)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    world.run(story)
    assert all(attempt.cancelled for attempt in world.target.attempts)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_asking_for_it_where_it_is_not_safe_refuses_to_start(method: Method) -> None:
    policy = Policy(hedge=HedgeConfig())
    if method is READ:
        assert under(policy, method.path) == (READ, policy)
        return
    with pytest.raises(ValueError, match=f"{method.name} cannot be hedged"):
        under(policy, method.path)


@pytest.mark.parametrize(
    "wrong",
    [{"percentile": 0.0}, {"percentile": 1.0}, {"samples_min": 0}, {"delay_min_s": -0.1}],
    ids=str,
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="is "):
        HedgeConfig(**wrong)


def test_on_a_channel_the_second_goes_to_another_endpoint() -> None:
    async def main() -> list[str]:
        node = Node(runtime=Runtime(VirtualClock()))
        network, went = MemoryNetwork(node.runtime), []
        for address in ("slow", "fast"):
            echo = Echo()

            async def answer(_: Call, address: str = address) -> Any:
                went.append(address)
                await asyncio.sleep({"slow": 10.0, "fast": 0.5}[address] if known else USUAL_S)
                return EchoReply()

            echo.on_unary = answer
            network.serve(address, echo.routes())
        policy = Policy(hedge=CONFIG, timeout_s=60.0)
        channel = Channel(node, "echo", ["slow", "fast"], network, policy)
        read, known = channel.unary_unary(READ.path), False
        for _ in range(CONFIG.samples_min):
            await read(EchoRequest())
        known = True
        went.clear()
        began = asyncio.get_running_loop().time()
        for _ in range(4):
            await read(EchoRequest())
        assert asyncio.get_running_loop().time() - began < 6.0
        return went

    went = "".join(address[0] for address in run_virtual(main()))
    assert "s" in went
    assert went.count("sf") == went.count("s")
