"""Idempotency keys: reads have none, everything else has one, an outside one is respected."""

from __future__ import annotations

import pytest

from mesh.call import Call, Method
from mesh.layers.keys import AssignKey
from mesh.metadata import KEY, OUTSIDE_KEY
from mesh.transport.port import KEY_LIMIT_CHARS, incoming, outgoing
from tests.support.echo import ADD, COUNT, POUR, PUT, READ, SUM, EchoRequest, call_of
from tests.support.runtime import FakeRuntime


@pytest.fixture
def runtime() -> FakeRuntime:
    return FakeRuntime()


def prepared(runtime: FakeRuntime, call: Call) -> Call:
    return AssignKey(runtime).prepare(call)


@pytest.mark.parametrize("method", [READ, COUNT], ids=lambda m: m.name)
def test_reads_get_none(runtime: FakeRuntime, method: Method) -> None:
    call = prepared(runtime, call_of(method))
    assert call.key == ""
    assert KEY not in call.metadata


@pytest.mark.parametrize("method", [PUT, ADD, POUR, SUM], ids=lambda m: m.name)
def test_everything_else_gets_a_new_one(runtime: FakeRuntime, method: Method) -> None:
    first, second = (prepared(runtime, call_of(method)) for _ in range(2))
    assert first.metadata == {KEY: first.key}
    assert first.key
    assert first.key != second.key


def test_one_given_with_the_call_is_kept(runtime: FakeRuntime) -> None:
    assert prepared(runtime, call_of(PUT, key="saga/3")).metadata[KEY] == "saga/3"
    assert prepared(runtime, call_of(PUT, metadata={KEY: "mine"})).key == "mine"


def test_one_from_outside_is_respected(runtime: FakeRuntime) -> None:
    sent = prepared(runtime, call_of(PUT, metadata={OUTSIDE_KEY: "theirs"}))
    assert KEY not in sent.metadata
    assert arrived(runtime, dict(outgoing(sent))).key == "theirs"


def test_an_empty_one_from_outside_is_none(runtime: FakeRuntime) -> None:
    sent = prepared(runtime, call_of(PUT, metadata={OUTSIDE_KEY: ""}))
    assert arrived(runtime, dict(outgoing(sent))).key == sent.metadata[KEY] != ""


def test_one_that_is_too_long_arrives_as_too_long(runtime: FakeRuntime) -> None:
    """Cut to a bound, yet never to one that another key could share."""
    assert len(arrived(runtime, {KEY: "k" * 10_000}).key) == KEY_LIMIT_CHARS + 1


def arrived(runtime: FakeRuntime, metadata: dict[str, str]) -> Call:
    return incoming(PUT, EchoRequest(), metadata, None, runtime)
