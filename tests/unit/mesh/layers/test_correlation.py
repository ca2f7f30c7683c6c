"""Correlation ids: made once, handed on, never somebody's garbage."""

from __future__ import annotations

import contextvars

import pytest

from mesh.call import Call
from mesh.layers.correlation import Correlate, EnterScope
from mesh.metadata import ATTEMPT, CORRELATION_ID
from mesh.scope import Scope, scope
from tests.support.echo import COUNT, EchoReply, call_of, requests_of
from tests.support.runtime import FakeRuntime
from tests.support.target import Target

INVALID = ["", " ", "a b", "é", "x" * 129, "a\n", "'; drop", "<script>"]


@pytest.fixture
def runtime() -> FakeRuntime:
    return FakeRuntime()


def serve(runtime: FakeRuntime, deadline: float = 5_000.0, **metadata: str) -> Scope:
    """Return the scope in which a call that arrives with *metadata* is served."""
    found: list[Scope] = []

    async def handler(_: Call) -> object:
        found.append(scope.get())
        return EchoReply()

    coroutine = EnterScope(runtime)(handler)
    call = call_of(
        deadline=deadline, metadata={k.replace("_", "-"): v for k, v in metadata.items()}
    )

    def run() -> None:
        running = coroutine(call).__await__()
        with pytest.raises(StopIteration):
            next(running)

    contextvars.Context().run(run)
    return found[0]


async def test_a_client_begins_one(runtime: FakeRuntime) -> None:
    target = Target()
    send = Correlate(runtime)(target.unary)
    await send(call_of())
    await send(call_of())
    first, second = (call.metadata[CORRELATION_ID] for call in target.calls)
    assert first
    assert first != second


async def test_a_client_hands_on_that_of_the_call_being_served(runtime: FakeRuntime) -> None:
    target = Target()
    token = scope.set(Scope(correlation_id="order-7"))
    await Correlate(runtime)(target.unary)(call_of(metadata={"x-other": "kept"}))
    scope.reset(token)
    assert target.calls[0].metadata == {CORRELATION_ID: "order-7", "x-other": "kept"}


async def test_a_client_keeps_what_its_caller_gave(runtime: FakeRuntime) -> None:
    target = Target()
    await Correlate(runtime)(target.unary)(call_of(metadata={CORRELATION_ID: "mine"}))
    assert target.calls[0].metadata[CORRELATION_ID] == "mine"


@pytest.mark.parametrize("given", INVALID)
async def test_a_client_sends_no_invalid_one(runtime: FakeRuntime, given: str) -> None:
    target = Target()
    await Correlate(runtime)(target.unary)(call_of(metadata={CORRELATION_ID: given}))
    assert target.calls[0].metadata[CORRELATION_ID] not in ("", given)


@pytest.mark.parametrize("given", ["a", "order-7", "0190b6e2-7c3f-7d3a", "a.b_c~d:e", "x" * 128])
def test_a_server_takes_a_valid_one(runtime: FakeRuntime, given: str) -> None:
    assert serve(runtime, x_correlation_id=given).correlation_id == given


@pytest.mark.parametrize("given", INVALID)
def test_a_server_replaces_an_invalid_one(runtime: FakeRuntime, given: str) -> None:
    assert serve(runtime, x_correlation_id=given).correlation_id not in ("", given)


def test_a_server_hands_on_deadline_and_attempt(runtime: FakeRuntime) -> None:
    served = serve(runtime, 5_000.0, mesh_attempt="3")
    assert (served.deadline, served.attempt) == (5_000.0, 3)


@pytest.mark.parametrize("given", ["", "x", "-1", "1000", "2.5", "0"])
def test_an_attempt_that_is_no_number_is_the_first(runtime: FakeRuntime, given: str) -> None:
    assert serve(runtime, mesh_attempt=given).attempt == 1


async def test_streams_are_served_in_a_scope_too(runtime: FakeRuntime) -> None:
    target = Target()
    token = scope.set(Scope())
    metadata = {CORRELATION_ID: "s", ATTEMPT: "2"}
    replies = EnterScope(runtime).stream(target.stream)(
        call_of(COUNT, metadata=metadata), requests_of()
    )
    await anext(replies)
    assert scope.get() == Scope("s", float("inf"), 2, degraded=[])
    scope.reset(token)
