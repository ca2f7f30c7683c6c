"""Throttle: no more is sent to a server that refuses than a multiple of what it accepts."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from mesh.call import Call, Criticality, Kind, Method
from mesh.errors import (
    EXHAUSTED_S,
    DeadlineExceeded,
    Expired,
    MeshError,
    Outcome,
    Overloaded,
    Unavailable,
)
from mesh.layers.breaker import classify
from mesh.layers.bulkhead import BulkheadFull
from mesh.layers.circuit import Result
from mesh.layers.retry import may_help
from mesh.layers.throttle import Throttle, ThrottleConfig, Throttled
from mesh.metadata import CRITICALITY
from mesh.runtime.metrics import Metrics
from tests.support.echo import COUNT, PUT, READ, EchoReply, call_of, requests_of
from tests.support.runtime import FakeRuntime

CONFIG = ThrottleConfig(multiple=2.0, window_s=1.0, calls_min=10)
CALLS = 2000


class Server:
    """Accepts so many default calls a second, and all critical ones; refuses others with `error`.

    There come a thousand a second.
    """

    def __init__(self, per_s: float, error: MeshError | None = None) -> None:
        self._earned = per_s / 1000.0
        self._room = 1.0
        self._error = error or Overloaded()
        self.asked = 0

    def pass_time(self) -> None:
        self._room = min(self._room + self._earned, 10.0)

    async def unary(self, call: Call) -> Any:
        self.asked += 1
        if CRITICALITY not in call.metadata:
            if self._room < 1.0:
                raise self._error
            self._room -= 1.0
        return EchoReply()

    async def stream(self, call: Call, _: Any) -> Any:
        yield await self.unary(call)


class World:
    def __init__(self) -> None:
        self.runtime = FakeRuntime()
        self.metrics = Metrics()
        self.throttle = Throttle(CONFIG, self.runtime, self.metrics)

    async def send(self, server: Server, count: int = CALLS, **facts: Any) -> Counter[str]:
        """Send calls, 1 ms apart; return how they ended."""
        method: Method = facts.pop("method", READ)
        unary, stream = self.throttle(server.unary), self.throttle.stream(server.stream)
        ends: Counter[str] = Counter()
        for _ in range(count):
            call = call_of(method, **facts)
            self.runtime.clock.advance(0.001)
            server.pass_time()
            try:
                if method.kind is Kind.UNARY_UNARY:
                    await unary(call)
                else:
                    assert [reply async for reply in stream(call, requests_of())]
                ends["served"] += 1
            except MeshError as error:
                ends[error.reason] += 1
        return ends

    def held_back(self) -> float:
        found = self.metrics.registry.get_sample_value(
            "mesh_throttled_total", {"rpc_method": READ.full_name, "criticality": "default"}
        )
        return found or 0.0


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("method", [READ, COUNT], ids=lambda m: m.kind.name)
async def test_a_server_that_refuses_is_asked_twice_as_much_as_it_accepts(
    world: World, method: Method
) -> None:
    server = Server(per_s=100.0)
    await world.send(server, method=method)  # until it is known
    server.asked = 0
    ends = await world.send(server, method=method)
    assert 1.5 < server.asked / ends["served"] < 2.5
    assert server.asked + ends["THROTTLED"] == CALLS
    assert ends["served"] > 0.95 * 100 * CALLS / 1000


async def test_what_is_held_back_is_counted(world: World) -> None:
    ends = await world.send(Server(per_s=100.0))
    assert world.held_back() == ends["THROTTLED"] > 0


async def test_half_of_them_refused_is_borne(world: World) -> None:
    ends = await world.send(Server(per_s=550.0))
    assert ends["THROTTLED"] < 0.05 * CALLS


async def test_it_lets_all_through_again_once_nothing_is_refused(world: World) -> None:
    await world.send(Server(per_s=100.0))
    world.runtime.clock.advance(CONFIG.window_s)
    assert await world.send(Server(per_s=1000.0)) == {"served": CALLS}


async def test_it_finds_out_by_itself_that_there_is_room(world: World) -> None:
    """Without a pause: what it lets through is accepted, so it lets through twice as much."""
    await world.send(Server(per_s=100.0))
    server = Server(per_s=1000.0)
    await world.send(server, 10 * CALLS)
    assert await world.send(server) == {"served": CALLS}


async def test_what_is_critical_and_other_methods_and_servers_have_measures_of_their_own(
    world: World,
) -> None:
    server = Server(per_s=10.0)
    await world.send(server)
    critical = {CRITICALITY: Criticality.CRITICAL.value}
    assert await world.send(server, metadata=critical) == {"served": CALLS}
    few = CONFIG.calls_min - 1
    assert "THROTTLED" not in await world.send(server, few, address="other")
    assert "THROTTLED" not in await world.send(server, few, method=PUT)


@pytest.mark.parametrize(
    "error", [BulkheadFull(), Expired(), Unavailable()], ids=lambda e: e.reason
)
async def test_other_failures_are_no_refusals(world: World, error: MeshError) -> None:
    assert "THROTTLED" not in await world.send(Server(100.0, error))


async def test_a_server_that_cannot_even_refuse_is_spared_too(world: World) -> None:
    assert "THROTTLED" in await world.send(Server(100.0, DeadlineExceeded()))


async def test_a_few_refusals_say_nothing(world: World) -> None:
    server = Server(per_s=0.0)
    await world.send(server, 1)
    assert set(await world.send(server, CONFIG.calls_min - 1)) == {"OVERLOADED"}


async def test_what_is_held_back_was_not_executed_and_is_not_sent_again(world: World) -> None:
    server = Server(per_s=0.0)
    await world.send(server)
    with pytest.raises(Throttled) as caught:  # the share is 0.999, and the chance fixed
        await world.throttle(server.unary)(call_of(READ))
    assert caught.value.outcome is Outcome.NOT_EXECUTED
    assert caught.value.retry_after_s == EXHAUSTED_S
    assert not may_help(call_of(READ), caught.value)
    assert classify(caught.value) is Result.NEUTRAL


def test_what_cannot_be_configured() -> None:
    for wrong in ({"multiple": 0.9}, {"window_s": 0.0}, {"calls_min": 0}):
        with pytest.raises(ValueError, match="multiple"):
            ThrottleConfig(**wrong)
