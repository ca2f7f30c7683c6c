"""The layers that do nothing unless they are asked, or there is too much to do: on each way in."""

from __future__ import annotations

from dataclasses import replace

import pytest
from grpc import StatusCode

import mesh
from mesh.call import Method
from mesh.errors import Overloaded
from mesh.layers.budget import BudgetConfig
from mesh.layers.bulkhead import BulkheadConfig
from mesh.layers.fallback import FallbackConfig
from mesh.layers.faults import Fault
from mesh.layers.hedge import HedgeConfig
from mesh.layers.limit import LimitConfig
from mesh.layers.throttle import ThrottleConfig, Throttled
from mesh.metadata import ATTEMPT
from mesh.scope import Scope, scope
from mesh.server import ServerSettings
from tests.conformance.conftest import POLICY, World, opened
from tests.conformance.servicers import End
from tests.conformance.ways import CANCELLABLE, FOUR, WAYS, Sent
from tests.support.echo import READ

EVERY = pytest.mark.parametrize("way", WAYS)
LOOPS = pytest.mark.parametrize("way", [way for way in WAYS if not way.startswith("sync")])
ONCE = replace(POLICY, retry=None, circuit=mesh.CircuitConfig(failures=1000))
ONE_AT_A_TIME = LimitConfig(initial=1, least=1, most=1, default_share=1.0, streams_max=1)


async def begin(world: World, method: Method) -> Sent:
    """A call that goes on until it is cancelled."""
    world.script.ends.append(End("wait"))
    sent = world.begin(method)
    await world.until(world.script.began.is_set)
    return sent


async def cancel(world: World, sent: Sent) -> None:
    sent.cancel()
    assert (await sent.outcome).status is StatusCode.CANCELLED
    await world.until(world.script.left.is_set)


@pytest.mark.parametrize(("way", "method"), CANCELLABLE)
async def test_a_bulkhead_has_its_places(way: str, method: Method) -> None:
    policy = replace(ONCE, bulkhead=BulkheadConfig(concurrent_max=1))
    async with opened(way, policy=policy) as world:
        sent = await begin(world, method)
        ended = await world.send(method)
        assert ended.meant.reason == "BULKHEAD_FULL"
        await cancel(world, sent)
        assert (await world.send(method)).status is StatusCode.OK
        assert len(world.script.metadata) == 2


@pytest.mark.parametrize(("way", "method"), CANCELLABLE)
async def test_a_server_sheds_what_is_too_much(way: str, method: Method) -> None:
    settings = ServerSettings(limit=ONE_AT_A_TIME)
    async with opened(way, policy=ONCE, settings=settings) as world:
        sent = await begin(world, method)
        ended = await world.send(method)
        assert isinstance(ended.meant, Overloaded)
        assert ended.meant.retry_after_s == ONE_AT_A_TIME.pushback_s
        assert len(world.script.metadata) == 1
        await cancel(world, sent)
        served = len(world.server.spans)
        await world.until(lambda: len(world.server.spans) >= served)


@FOUR
@EVERY
async def test_a_throttle_holds_back_what_would_be_refused(way: str, method: Method) -> None:
    policy = replace(ONCE, throttle=ThrottleConfig(calls_min=1, window_s=3600.0))
    async with opened(way, policy=policy) as world:
        world.script.ends += [End("raise", error=Overloaded())] * 100
        for sent in range(100):  # the n-th is held back with n / (n + 1)
            if isinstance((await world.send(method)).meant, Throttled):
                assert 0 < sent == len(world.script.metadata)
                return
    pytest.fail("none of them was held back")


@FOUR
@EVERY
@pytest.mark.parametrize("executed", [False, True])
async def test_a_fault_is_met(way: str, method: Method, *, executed: bool) -> None:
    async with opened(way, policy=ONCE) as world:
        fault = Fault(code=StatusCode.DATA_LOSS, after_execution=executed)
        world.client.node.faults.inject(method.full_name, fault)
        assert (await world.send(method)).status is StatusCode.DATA_LOSS
        assert len(world.script.metadata) == executed
        world.client.node.faults.clear()
        assert (await world.send(method)).status is StatusCode.OK


@EVERY
async def test_a_fallback_answers_and_says_so(way: str) -> None:
    async with opened(way, policy=replace(POLICY, fallback=FallbackConfig())) as world:
        assert [reply.number for reply in (await world.send(READ, 7)).replies] == [7]
        world.script.ends += [End("abort", StatusCode.UNAVAILABLE)] * 3
        noted: list[str] = []
        token = scope.set(Scope(degraded=noted))
        ended = await world.send(READ, 7)
        scope.reset(token)
        assert ended.status is StatusCode.OK
        assert [reply.number for reply in ended.replies] == [7]
        assert len(world.script.metadata) == 4
        assert noted == [f"{READ.full_name};age=0"]


@LOOPS
async def test_a_slow_read_is_hedged(way: str) -> None:
    """The second attempt wins, and the first one ends."""
    hedge = HedgeConfig(samples_min=1, budget=BudgetConfig(share=1.0, per_s=100.0))
    async with opened(way, policy=replace(ONCE, hedge=hedge)) as world:
        await world.send(READ, 1)
        world.script.metadata.clear()
        world.script.ends.append(End("wait"))
        ended = await world.send(READ, 7)
        assert ended.status is StatusCode.OK
        assert [reply.number for reply in ended.replies] == [7]
        attempts = [dict(metadata).get(ATTEMPT) for metadata in world.script.metadata]
        assert attempts == [None, "2"]
        await world.until(world.script.left.is_set)
