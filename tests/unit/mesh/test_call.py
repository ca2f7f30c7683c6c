"""The shapes everything is made of: what a contract says of a method, and how layers stack."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from mesh.call import (
    NOBODY,
    Call,
    Handler,
    Idempotency,
    Kind,
    Layer,
    Method,
    Prepare,
    Principal,
    StreamHandler,
    stack,
    stack_stream,
)
from tests.support.echo import (
    ADD,
    CHAT,
    COUNT,
    POUR,
    PUT,
    READ,
    SUM,
    EchoReply,
    EchoRequest,
    call_of,
    requests_of,
)
from tests.support.target import Target


@pytest.mark.parametrize(
    ("method", "kind", "idempotency", "repeatable", "reads"),
    [
        (READ, Kind.UNARY_UNARY, Idempotency.NO_SIDE_EFFECTS, True, True),
        (PUT, Kind.UNARY_UNARY, Idempotency.IDEMPOTENT, True, False),
        (ADD, Kind.UNARY_UNARY, Idempotency.UNKNOWN, False, False),
        (COUNT, Kind.UNARY_STREAM, Idempotency.NO_SIDE_EFFECTS, True, True),
        (POUR, Kind.UNARY_STREAM, Idempotency.UNKNOWN, False, False),
        (SUM, Kind.STREAM_UNARY, Idempotency.IDEMPOTENT, True, False),
        (CHAT, Kind.STREAM_STREAM, Idempotency.IDEMPOTENT, True, False),
    ],
    ids=lambda value: value.name if isinstance(value, Method) else "",
)
def test_a_method_is_what_its_contract_says(
    method: Method, kind: Kind, idempotency: Idempotency, repeatable: bool, reads: bool
) -> None:
    assert (method.kind, method.idempotency) == (kind, idempotency)
    assert (method.repeatable, method.reads) == (repeatable, reads)
    assert method.path == f"/tests.echo.v1.EchoService/{method.name}"
    assert method.full_name == f"tests.echo.v1.EchoService/{method.name}"
    assert (method.request_type, method.reply_type) == (EchoRequest, EchoReply)


def test_a_method_is_found_by_its_path() -> None:
    assert Method.at(READ.path) == READ
    assert Method.at(READ.path) is Method.at(READ.path)


@pytest.mark.parametrize(
    "path", ["", "/", "/tests.echo.v1.EchoService/Nothing", "/no.such.Service/Read"]
)
def test_a_method_that_nobody_describes_is_not_found(path: str) -> None:
    with pytest.raises(KeyError):
        Method.at(path)


def test_a_call_is_not_changed_once_made() -> None:
    with pytest.raises(AttributeError):
        call_of().key = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        call_of().metadata["key"] = "other"  # type: ignore[index]


def test_a_copy_differs_in_what_is_given_alone() -> None:
    full = Call(call_of().method, EchoRequest(), 1.0, {"a": "b"}, "k", 2, "host:1", NOBODY, "c")
    changes: dict[str, Any] = {
        "deadline": 2.0,
        "metadata": {},
        "key": "",
        "attempt": 3,
        "address": "",
        "principal": Principal("somebody"),
    }
    for name, value in changes.items():
        assert full.replace(**{name: value})._asdict() == full._asdict() | {name: value}


class Marked(Layer):
    """Writes down when a call passes, on its way in and on its way out."""

    def __init__(self, name: str, seen: list[str]) -> None:
        self._name, self._seen = name, seen

    def __call__(self, inner: Handler) -> Handler:
        async def marked(call: Call) -> Any:
            self._seen.append(f"{self._name} in")
            reply = await inner(call)
            self._seen.append(f"{self._name} out")
            return reply

        return marked

    def stream(self, inner: StreamHandler) -> StreamHandler:
        async def marked(call: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
            self._seen.append(f"{self._name} in")
            async for reply in inner(call, requests):
                yield reply
            self._seen.append(f"{self._name} out")

        return marked


async def test_the_first_layer_listed_sees_the_call_first() -> None:
    for streams in (False, True):
        seen: list[str] = []
        layers = (Marked("a", seen), Marked("b", seen))
        if streams:
            replies = stack_stream(*layers, around=Target().stream)(call_of(COUNT), requests_of())
            assert [_ async for _ in replies] == [EchoReply()]
        else:
            await stack(*layers, around=Target().unary)(call_of())
        assert seen == ["a in", "b in", "b out", "a out"]


async def test_a_layer_lets_pass_what_it_does_not_serve() -> None:
    target = Target()
    assert Layer()(target.unary) == target.unary
    assert Layer().stream(target.stream) == target.stream


async def test_a_layer_that_only_prepares_may_refuse_either_kind() -> None:
    class Closed(Prepare):
        def prepare(self, call: Call) -> Call:
            raise LookupError

    target = Target()
    with pytest.raises(LookupError):
        await stack(Closed(), around=target.unary)(call_of())
    with pytest.raises(LookupError):
        stack_stream(Closed(), around=target.stream)(call_of(COUNT), requests_of())
    assert not target.calls
