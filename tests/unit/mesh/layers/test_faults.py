"""Faults on purpose: who meets them, how often, for how long; and nobody when nothing is asked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from grpc import StatusCode

from mesh.call import Call
from mesh.errors import MeshError, Outcome
from mesh.layers.faults import DELAY_MAX_S, DURATION_MAX_S, FAULTS_MAX, Fault, Faults
from mesh.runtime.metrics import Metrics
from tests.support.echo import COUNT, PUT, READ, EchoReply, call_of, requests_of
from tests.support.runtime import FakeRuntime
from tests.support.target import Target, forever

DOWN = Fault(StatusCode.UNAVAILABLE, duration_s=60.0)


class World:
    def __init__(self) -> None:
        self.runtime, self.metrics = FakeRuntime(), Metrics()
        self.faults = Faults(self.runtime, self.metrics)
        self.target = Target()

    async def send(self, call: Call | None = None) -> str:
        try:
            await self.faults(self.target.unary)(call or call_of())
        except MeshError as error:
            assert error.outcome is Outcome.UNKNOWN, "nobody could know that nothing happened"
            return error.status.name
        return "OK"

    def counted(self, kind: str) -> float | None:
        labels = {"rpc_method": READ.full_name, "kind": kind}
        return self.metrics.registry.get_sample_value("mesh_faults_total", labels)


@pytest.fixture
def world() -> World:
    return World()


async def test_off_the_call_is_passed_on_as_it_is(world: World) -> None:
    assert await world.send() == "OK"

    def marked(call: Call) -> Any:
        return ("as it is", call)

    call = call_of()
    passed: Any = world.faults(marked)(call)
    assert passed == ("as it is", call)


async def test_a_code_comes_before_execution(world: World) -> None:
    world.faults.inject(READ.full_name, DOWN)
    assert await world.send() == "UNAVAILABLE"
    assert not world.target.calls
    assert await world.send(call_of(PUT)) == "OK"
    assert world.counted("UNAVAILABLE") == 1.0


async def test_or_after_it(world: World) -> None:
    world.faults.inject(READ.full_name, Fault(StatusCode.ABORTED, after_execution=True))
    assert await world.send() == "ABORTED"
    assert len(world.target.calls) == 1


async def test_a_delay_is_no_longer_than_the_deadline(world: World) -> None:
    world.faults.inject(READ.full_name, Fault(delay_s=5.0))
    now = world.runtime.clock.monotonic()
    assert await world.send(call_of().replace(deadline=now + 9.0)) == "OK"
    assert await world.send(call_of().replace(deadline=now + 7.0)) == "OK"
    assert world.runtime.clock.slept == [5.0, 2.0]
    assert world.counted("DELAY") == 2.0


async def test_the_share_is_kept(world: World) -> None:
    world.faults.inject(READ.full_name, Fault(StatusCode.UNAVAILABLE, share=0.2))
    ends = [await world.send() for _ in range(2000)]
    assert 320 < ends.count("UNAVAILABLE") < 480


async def test_it_ends_by_itself(world: World) -> None:
    world.faults.inject(READ.full_name, DOWN)
    world.runtime.clock.advance(59.0)
    assert world.faults.left()[READ.full_name] == (DOWN, 1.0)
    assert await world.send() == "UNAVAILABLE"
    world.runtime.clock.advance(1.0)
    assert await world.send() == "OK"
    assert not world.faults.left()


async def test_an_operator_ends_it(world: World) -> None:
    world.faults.inject(READ.full_name, DOWN)
    world.faults.inject(PUT.full_name, DOWN)
    assert world.faults.clear() == 2
    assert await world.send() == "OK"


@pytest.mark.parametrize("after", [False, True])
async def test_streams_meet_them_too(world: World, after: bool) -> None:
    fault = Fault(StatusCode.UNAVAILABLE, after_execution=after)
    world.faults.inject(COUNT.full_name, fault)
    target = Target([EchoReply(), EchoReply()])
    stream = world.faults.stream(target.stream)(call_of(COUNT), requests_of())
    if after:
        assert [await anext(stream), await anext(stream)] == [EchoReply(), EchoReply()]
    with pytest.raises(MeshError, match="operator"):
        await anext(stream)


async def test_cancelling_a_late_call_cancels_it(world: World) -> None:
    faults = Faults(FakeRuntime())
    faults.inject(READ.full_name, Fault(StatusCode.UNAVAILABLE, after_execution=True))
    task = asyncio.ensure_future(faults(forever)(call_of()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_there_are_only_so_many(world: World) -> None:
    for number in range(FAULTS_MAX):
        world.faults.inject(f"m{number}", DOWN)
    world.faults.inject("m0", DOWN)
    with pytest.raises(ValueError, match="16 methods"):
        world.faults.inject("another", DOWN)
    world.runtime.clock.advance(60.0)
    world.faults.inject("another", DOWN)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"code": StatusCode.OK},
        {"delay_s": -1.0},
        {"delay_s": DELAY_MAX_S + 1.0},
        {"code": StatusCode.UNAVAILABLE, "share": 0.0},
        {"code": StatusCode.UNAVAILABLE, "share": 1.1},
        {"code": StatusCode.UNAVAILABLE, "duration_s": 0.0},
        {"code": StatusCode.UNAVAILABLE, "duration_s": DURATION_MAX_S + 1.0},
        {"delay_s": 1.0, "after_execution": True},
    ],
    ids=repr,
)
def test_what_makes_no_sense_or_too_much_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"fault|delay|share|answer"):
        Fault(**wrong)
