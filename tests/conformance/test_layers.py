"""Each layer does its work on each way in, for each kind of RPC."""

from __future__ import annotations

import pytest
from grpc import StatusCode

import mesh
from mesh.call import Method
from mesh.errors import Expired, Internal, InvalidArgument, Unauthenticated
from mesh.metadata import ATTEMPT, CORRELATION_ID, KEY, TOKEN, TRACEPARENT
from mesh.scope import Scope, scope
from tests.conformance.conftest import POLICY, World, opened
from tests.conformance.servicers import End
from tests.conformance.ways import WAYS
from tests.support.echo import ADD, CHAT, COUNT, POUR, PUT, READ, SUM
from tests.support.wire import FOUR

#: Where the servicer is gRPC's own, and where the stub is as well.
STOCK = pytest.mark.parametrize("world", [w for w in WAYS if w != "aio-routes"], indirect=True)
STUBS = pytest.mark.parametrize("world", ["aio", "sync", "sync-future"], indirect=True)
SECRET_TEXT = "card 4111"


def once(world: World, name: str) -> str:
    """The one value of *name* that the last call brought."""
    [value] = [value for key, value in world.script.metadata[-1] if key == name]
    return str(value)


@FOUR
async def test_replies_are_as_they_were(world: World, method: Method) -> None:
    ended = await world.send(method, 2, *((3, 4) if method.client_streams else ()))
    expected = {ADD: [2], COUNT: [0, 1], SUM: [9], CHAT: [2, 3, 4]}[method]
    assert [reply.number for reply in ended.replies] == expected
    assert ended.status is StatusCode.OK


@FOUR
@STOCK
async def test_repeated_entries_stay_repeated_both_ways(world: World, method: Method) -> None:
    """A mapping would keep one of them."""
    world.script.trailing = (("x-shelf", "a"), ("x-shelf", "b"))
    given = (("x-tag", "1"), ("x-id-bin", b"\xff\x00"), ("x-tag", "2"))
    ended = await world.send(method, metadata=given)
    brought = [entry for entry in world.script.metadata[-1] if entry[0] in dict(given)]
    assert sorted(map(tuple, brought), key=str) == sorted(given, key=str)
    assert [value for name, value in brought if name == "x-tag"] == ["1", "2"]
    if world.name != "channel":  # its replies come alone
        assert [value for name, value in ended.trailing if name == "x-shelf"] == ["a", "b"]


@FOUR
@STUBS
async def test_an_error_keeps_the_servicers_trailing_metadata(world: World, method: Method) -> None:
    world.script.trailing = (("x-shelf", "a"),)
    world.script.ends.append(End("raise", error=mesh.Refused("none left", reason="OUT_OF_STOCK")))
    ended = await world.send(method)
    assert ended.meant.reason == "OUT_OF_STOCK"
    assert dict(ended.trailing)["x-shelf"] == "a"


@FOUR
async def test_correlation_key_trace_and_identity_go_along(world: World, method: Method) -> None:
    token = scope.set(Scope(correlation_id="order-7"))
    await world.send(method)
    scope.reset(token)
    assert once(world, CORRELATION_ID) == "order-7"
    assert once(world, TOKEN).startswith("echo-client.")
    [called] = world.client.spans
    assert called.context
    assert f"{called.context.trace_id:032x}" in once(world, TRACEPARENT)
    keys = [value for name, value in world.script.metadata[-1] if name == KEY]
    assert len(keys) == (0 if method.reads else 1)


@FOUR
@pytest.mark.parametrize("way", WAYS)
async def test_who_is_not_known_is_refused(way: str, method: Method) -> None:
    async with opened(way, token="") as world:
        ended = await world.send(method)
        assert ended.status is StatusCode.UNAUTHENTICATED
        assert isinstance(ended.meant, Unauthenticated)
        assert not world.script.metadata


@FOUR
async def test_requests_that_break_their_contract_do_not_reach_the_servicer(
    world: World, method: Method
) -> None:
    ended = await world.send(method, -1)
    assert ended.status is StatusCode.INVALID_ARGUMENT
    assert isinstance(ended.meant, InvalidArgument)
    assert not world.script.requests


@FOUR
@STOCK
async def test_a_degraded_answer_says_so_over_every_hop(world: World, method: Method) -> None:
    """In initial metadata, before the answer: what a client in between hands on."""
    world.script.degrades = "last known stock"
    noted: list[str] = []
    token = scope.set(Scope(degraded=noted))
    assert (await world.send(method, 2)).status is StatusCode.OK
    scope.reset(token)
    assert noted == ["last known stock"]


@FOUR
async def test_no_time_left_is_not_sent(world: World, method: Method) -> None:
    ended = await world.send(method, timeout=0.0)
    assert ended.status is StatusCode.DEADLINE_EXCEEDED
    assert isinstance(ended.meant, Expired)
    assert not world.script.metadata


@FOUR
async def test_a_bug_is_internal_and_keeps_its_text(world: World, method: Method) -> None:
    world.script.ends.append(End("raise", error=ValueError(SECRET_TEXT)))
    ended = await world.send(method)
    assert ended.status is StatusCode.INTERNAL
    assert isinstance(ended.meant, Internal)
    assert ended.meant.info["error_id"]
    assert SECRET_TEXT not in f"{ended.error}{ended.trailing}{ended.meant.info}"


@pytest.mark.parametrize("method", [READ, PUT], ids=lambda m: m.name)
@pytest.mark.parametrize("how", ["abort", "set_code"])
async def test_what_may_be_repeated_is(world: World, method: Method, how: str) -> None:
    world.script.ends += [End(how, StatusCode.UNAVAILABLE)] * 2
    assert (await world.send(method)).status is StatusCode.OK
    attempts = [dict(metadata).get(ATTEMPT) for metadata in world.script.metadata]
    assert attempts == [None, "2", "3"]
    assert len({dict(metadata).get(KEY) for metadata in world.script.metadata}) == 1


async def test_a_stream_is_repeated_before_its_first_reply(world: World) -> None:
    world.script.ends.append(End("abort", StatusCode.UNAVAILABLE))
    ended = await world.send(COUNT, 0)
    assert ended.status is StatusCode.OK
    assert len(world.script.metadata) == 2
    world.script.ends.append(End("abort", StatusCode.UNAVAILABLE))
    ended = await world.send(COUNT, 2)
    assert ended.status is StatusCode.UNAVAILABLE
    assert len(ended.replies) == 2


@pytest.mark.parametrize("method", [ADD, POUR, SUM, CHAT], ids=lambda m: m.kind.name)
async def test_what_may_not_be_repeated_is_not(world: World, method: Method) -> None:
    world.script.ends.append(End("abort", StatusCode.UNAVAILABLE))
    assert (await world.send(method)).status is StatusCode.UNAVAILABLE
    assert len(world.script.metadata) == 1


async def test_attempts_are_child_spans(world: World) -> None:
    world.script.ends += [End("abort", StatusCode.UNAVAILABLE)] * 2
    await world.send(READ)
    await world.server_span(3)
    *attempts, logical = world.client.spans
    assert len(attempts) == 2
    assert logical.context
    assert [span.parent and span.parent.span_id for span in attempts] == [
        logical.context.span_id
    ] * 2
    parents = {span.parent and span.parent.span_id for span in world.server.spans}
    assert parents == {span.context and span.context.span_id for span in world.client.spans}
    assert logical.attributes
    assert logical.attributes["rpc.response.status_code"] == "OK"


@pytest.mark.parametrize("method", [ADD, POUR, SUM, CHAT], ids=lambda m: m.kind.name)
async def test_a_circuit_opens(world: World, method: Method) -> None:
    failures = POLICY.circuit.failures
    world.script.ends += [End("abort", StatusCode.DATA_LOSS)] * failures
    for _ in range(failures):
        assert (await world.send(method)).status is StatusCode.DATA_LOSS
    ended = await world.send(method, timeout=5.0)  # too short for a probe
    assert ended.status is StatusCode.UNAVAILABLE
    assert isinstance(ended.meant, mesh.CircuitOpenError)
    assert len(world.script.metadata) == failures


@pytest.mark.parametrize("method", [ADD, POUR, SUM, CHAT], ids=lambda m: m.kind.name)
async def test_what_a_circuit_does_is_on_the_span_that_it_is_done_for(
    world: World, method: Method
) -> None:
    failures = POLICY.circuit.failures
    world.script.ends += [End("abort", StatusCode.DATA_LOSS)] * failures
    with world.client.node.tracer.start_as_current_span("work"):
        for _ in range(failures + 1):
            await world.send(method, timeout=5.0)
    told = [(event.name, span.name) for span in world.client.spans for event in span.events]
    assert "mesh.breaker.changed" in dict(told)
    assert dict(told)["mesh.breaker.rejected"] == method.full_name
