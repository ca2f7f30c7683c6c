"""Load shedding around calls and streams, and who may say what is critical."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest
from grpc import StatusCode

from mesh.call import Call, Criticality, Method, Principal
from mesh.errors import Internal, MeshError, Outcome, Overloaded
from mesh.layers.breaker import classify
from mesh.layers.circuit import Result
from mesh.layers.criticality import HandOnCriticality
from mesh.layers.identity import Authenticate, Identities, make_token
from mesh.layers.limit import LimitConfig
from mesh.layers.shed import Shed
from mesh.layers.turns import SHARE_S
from mesh.metadata import ATTEMPT, CRITICALITY, TOKEN
from mesh.node import LOCAL
from mesh.runtime.clock import Runtime
from mesh.runtime.metrics import Metrics
from mesh.scope import Scope, scope
from mesh.testing.loop import VirtualClock, run_virtual
from tests.support.echo import METHODS, READ, EchoReply, call_of, requests_of
from tests.support.target import Target, forever

ONE = LimitConfig(initial=1, least=1, most=1, critical_share=1.0, streams_max=1)


class Late(VirtualClock):
    """A clock that goes on while a handler holds the loop."""

    behind_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.behind_s


def shed(metrics: Metrics | None = None) -> Shed:
    return Shed(ONE, Runtime(clock=VirtualClock()), metrics or Metrics())


def streams(method: Method) -> bool:
    return method.client_streams or method.server_streams


async def held(_: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    yield EchoReply()
    await asyncio.get_running_loop().create_future()


async def failing(_: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    yield EchoReply()
    raise Internal


async def use(layer: Shed, method: Method, unary: Any, stream: Any) -> None:
    if streams(method):
        async with aclosing(layer.stream(stream)(call_of(method), requests_of())) as replies:  # type: ignore[type-var]
            async for _ in replies:
                pass
    else:
        await layer(unary)(call_of(method))


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_a_full_server_refuses_and_cancelled_or_failed_calls_leave_room(method: Method) -> None:
    async def scenario() -> None:
        metrics = Metrics()
        layer = shed(metrics)
        first = asyncio.ensure_future(use(layer, method, forever, held))
        await asyncio.sleep(1.0)
        with pytest.raises(Overloaded) as caught:
            await use(layer, method, Target().unary, Target().stream)
        assert caught.value.code() is StatusCode.RESOURCE_EXHAUSTED
        assert caught.value.outcome is Outcome.NOT_EXECUTED
        assert caught.value.retry_after_s == ONE.pushback_s
        assert metrics.load.shed.labels(method.full_name, "default")._value.get() == 1
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        with pytest.raises(Internal):
            await use(layer, method, Target(Internal()).unary, failing)
        await use(layer, method, Target().unary, Target().stream)
        assert (layer.limiter.under_way, layer.limiter.streams) == (0, 0)

    run_virtual(scenario())


def test_the_gauges_show_all_limits_of_a_server_together() -> None:
    """Methods with settings of their own have a limit of their own."""

    async def scenario() -> None:
        metrics = Metrics()
        layers = [shed(metrics), shed(metrics), shed(metrics)]
        calls = [asyncio.ensure_future(layer(forever)(call_of(READ))) for layer in layers[1:]]
        await asyncio.sleep(1.0)
        value = metrics.registry.get_sample_value
        assert (value("mesh_concurrency_limit"), value("mesh_calls_under_way")) == (3, 2)
        for call in calls:
            call.cancel()

    run_virtual(scenario())


def test_who_was_refused_before_is_told_not_to_come_again() -> None:
    async def scenario() -> None:
        layer = shed()
        first = asyncio.ensure_future(layer(forever)(call_of()))
        await asyncio.sleep(0)
        scope.set(Scope(attempt=2))
        with pytest.raises(Overloaded) as caught:
            await layer(forever)(call_of())
        assert (caught.value.retry_after_s or 0.0) < 0.0
        first.cancel()

    run_virtual(scenario())


def test_a_refusal_says_nothing_against_the_server() -> None:
    assert classify(Overloaded()) is Result.NEUTRAL


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_what_operators_need_is_let_in_always(method: Method) -> None:
    async def scenario() -> None:
        layer = shed()
        first = asyncio.ensure_future(use(layer, method, forever, held))
        await asyncio.sleep(1.0)
        own = replace(method, service="mesh.saga.v1.SagaService")
        await use(layer, own, Target().unary, Target().stream)
        first.cancel()

    run_virtual(scenario())


def test_a_loop_that_is_behind_is_noticed() -> None:
    async def scenario() -> None:
        clock = Late()
        layer = Shed(LimitConfig(), Runtime(clock=clock), Metrics())

        async def busy(_: Call) -> Any:
            clock.behind_s += 0.02  # it holds the loop so long
            await asyncio.sleep(0)
            return EchoReply()

        await asyncio.gather(*(layer(busy)(call_of()) for _ in range(10)))
        await asyncio.sleep(1.0)
        await layer(busy)(call_of())
        assert layer.limiter.limit == pytest.approx(LimitConfig().initial / 2.0)

    run_virtual(scenario())


PEER = make_token("secret", "peer")


@pytest.mark.parametrize(
    ("metadata", "believed"),
    [
        ({TOKEN: PEER, CRITICALITY: "critical"}, Criticality.CRITICAL),
        ({TOKEN: PEER, CRITICALITY: "sheddable"}, Criticality.SHEDDABLE),
        ({TOKEN: PEER, CRITICALITY: "most critical of all"}, Criticality.DEFAULT),
        ({TOKEN: PEER}, Criticality.DEFAULT),
        ({CRITICALITY: "critical"}, Criticality.DEFAULT),
    ],
    ids=str,
)
async def test_only_processes_of_the_system_are_believed(
    metadata: dict[str, str], believed: Criticality
) -> None:
    scope.set(Scope())
    known = Identities("secret", {"peer": Principal("peer")}, anonymous=LOCAL)
    Authenticate(known).prepare(call_of(metadata=metadata))
    assert scope.get().criticality is believed


@pytest.mark.parametrize(
    ("inherited", "own", "given", "sent"),
    [
        (Criticality.DEFAULT, Criticality.DEFAULT, None, None),
        (Criticality.DEFAULT, Criticality.CRITICAL, None, "critical"),
        (Criticality.SHEDDABLE, Criticality.CRITICAL, None, "sheddable"),
        (Criticality.CRITICAL, Criticality.DEFAULT, None, "critical"),
        (Criticality.CRITICAL, Criticality.DEFAULT, "sheddable", "sheddable"),
    ],
)
async def test_what_is_called_matters_as_much_as_what_it_is_called_for(
    inherited: Criticality, own: Criticality, given: str | None, sent: str | None
) -> None:
    scope.set(Scope(criticality=inherited))
    metadata = {CRITICALITY: given} if given else {}
    call = HandOnCriticality(own).prepare(call_of(READ, metadata=metadata))
    assert call.metadata.get(CRITICALITY) == sent


def at_the_door(layer: Shed, **metadata: str) -> MeshError | None:
    door = layer.door(READ)
    assert door
    return door(metadata.items())


def test_a_full_server_refuses_at_the_door_who_does_not_claim_to_be_critical() -> None:
    async def scenario() -> None:
        metrics = Metrics()
        layer = shed(metrics)
        assert at_the_door(layer) is None
        first = asyncio.ensure_future(layer(forever)(call_of()))
        await asyncio.sleep(0)
        for rank in ("sheddable", "default"):
            refusal = at_the_door(layer, **{CRITICALITY: rank})
            assert refusal and refusal.retry_after_s == ONE.pushback_s
            assert metrics.load.shed.labels(READ.full_name, rank)._value.get() == 1
        again = at_the_door(layer, **{ATTEMPT: "2"})
        assert again and (again.retry_after_s or 0.0) < 0.0
        assert at_the_door(layer, **{CRITICALITY: "critical"}) is None, "that is to be proved"
        first.cancel()

    run_virtual(scenario())


def test_what_operators_need_and_streams_have_no_door() -> None:
    layer = Shed(ONE, Runtime(), Metrics())
    assert layer.door(replace(READ, service="mesh.saga.v1.SagaService")) is None
    assert not any(layer.door(method) for method in METHODS if streams(method))


def test_the_most_critical_have_their_turns_first() -> None:
    async def scenario() -> None:
        clock, served = Late(), list[str]()
        layer = Shed(LimitConfig(), Runtime(clock=clock), Metrics())

        async def busy(call: Call) -> Any:
            clock.behind_s += SHARE_S
            served.append(call.key)
            return EchoReply()

        async def call(key: str, rank: Criticality) -> None:
            scope.set(Scope(criticality=rank))
            await layer(busy)(call_of(key=key))

        ranks = {
            "first": Criticality.DEFAULT,
            "sheddable": Criticality.SHEDDABLE,
            "default": Criticality.DEFAULT,
            "critical": Criticality.CRITICAL,
        }
        await call("first", Criticality.DEFAULT)
        await asyncio.sleep(0)
        await asyncio.gather(*(asyncio.ensure_future(call(*one)) for one in ranks.items()))
        assert served == ["first", "critical", "first", "default", "sheddable"]
        assert layer.limiter.under_way == 0

    run_virtual(scenario())


def test_to_be_asked_at_the_door_uses_none_of_the_room() -> None:
    """A limit that is far away stays as it is, however little of it is for sheddable calls."""

    async def scenario() -> None:
        config = LimitConfig(initial=100, sheddable_share=0.05)
        layer = Shed(config, Runtime(clock=VirtualClock()), Metrics())

        async def slow(_: Call) -> Any:
            await asyncio.sleep(config.window_s)
            return EchoReply()

        for _ in range(3):
            calls = [asyncio.ensure_future(layer(slow)(call_of())) for _ in range(20)]
            await asyncio.sleep(0)
            assert at_the_door(layer) is None
            await asyncio.gather(*calls)
        assert layer.limiter.limit == config.initial

    run_virtual(scenario())
