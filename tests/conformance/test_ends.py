"""Calls that end before their answer: cancelled, or out of time, with nothing left behind."""

from __future__ import annotations

import pytest
from grpc import StatusCode

from mesh.call import Method
from tests.conformance.conftest import POLICY, World
from tests.conformance.servicers import End
from tests.conformance.ways import CANCELLABLE, FOUR

CODE = "rpc.response.status_code"
DEADLINE_S = 1.0
#: A server that hears of the cancellation long before its own deadline cannot know the reason:
#: on a busy machine that happens now and then.
TRIES = 5


async def cancel_one(world: World, method: Method) -> None:
    world.script.began.clear()
    world.script.left.clear()
    world.script.ends.append(End("wait"))
    sent = world.begin(method)
    await world.until(world.script.began.is_set)
    sent.cancel()
    await world.until(world.script.left.is_set)
    assert (await sent.outcome).status is StatusCode.CANCELLED


@pytest.mark.parametrize(("world", "method"), CANCELLABLE, indirect=["world"])
async def test_a_cancelled_call_ends_its_servicer(world: World, method: Method) -> None:
    await cancel_one(world, method)
    served = await world.server_span()
    await world.until(lambda: world.client.spans)
    [called] = world.client.spans
    assert called.attributes and served.attributes
    assert called.attributes[CODE] == served.attributes[CODE] == "CANCELLED"


@pytest.mark.parametrize(("world", "method"), CANCELLABLE, indirect=["world"])
async def test_cancelling_says_nothing_against_the_target(world: World, method: Method) -> None:
    for _ in range(POLICY.circuit.failures + 1):
        await cancel_one(world, method)
    assert (await world.send(method)).status is StatusCode.OK


@FOUR
async def test_a_deadline_ends_both_sides(world: World, method: Method) -> None:
    assert (await world.send(method)).status is StatusCode.OK  # there is a connection
    for _ in range(TRIES):
        await world.server_span()
        world.client.forget()
        world.server.forget()
        world.script.left.clear()
        world.script.ends.append(End("wait"))
        ended = await world.send(method, timeout=DEADLINE_S)
        assert ended.status is StatusCode.DEADLINE_EXCEEDED
        await world.until(world.script.left.is_set)
        served = await world.server_span()
        [called] = world.client.spans
        assert called.attributes and served.attributes
        assert called.attributes[CODE] == "DEADLINE_EXCEEDED"
        if served.attributes[CODE] == "DEADLINE_EXCEEDED":
            return
    pytest.fail("the server takes it for something else")
