"""Validation: where a request breaks its contract is told, what it holds is not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.call import Call, Method
from mesh.errors import InvalidArgument
from mesh.layers.validation import VIOLATIONS_MAX, Validate, validate, warm_up
from tests.support.echo import CHAT, COUNT, SUM, EchoReply, EchoRequest, Line, call_of, requests_of
from tests.support.target import Target

SECRET = "4111-1111-1111-1111"
GOOD = EchoRequest(text="short", lines=[Line(sku="POST")])


def violations(request: Any) -> dict[str, str]:
    with pytest.raises(InvalidArgument) as caught:
        validate(request)
    return dict(caught.value.violations)


def test_a_request_that_obeys_its_contract_passes() -> None:
    validate(GOOD)
    validate(EchoRequest())


def test_every_broken_rule_is_told() -> None:
    found = violations(EchoRequest(text=SECRET, number=-1))
    assert found == {
        "text": "must be at most 8 characters",
        "number": "must be greater than or equal to 0",
    }


def test_lists_are_told_with_the_position() -> None:
    lines = [Line(), Line(), Line(), Line(sku=SECRET)]
    assert list(violations(EchoRequest(lines=lines))) == ["lines[3].sku"]


def test_maps_are_told_with_the_key() -> None:
    """As protovalidate writes them: text in quotes, so that no key can pass for a path."""
    bad = Line(sku=SECRET)
    found = violations(EchoRequest(named={"].x[": bad, 'a"b': bad}, numbered={-5: bad}))
    assert sorted(found) == [r'named["].x["].sku', r'named["a\"b"].sku', "numbered[-5].sku"]


@given(st.text(min_size=9))
def test_no_value_is_ever_told(value: str) -> None:
    value = f"<{value}>"
    request = EchoRequest(text=value, lines=[Line(sku=value)])
    with pytest.raises(InvalidArgument) as caught:
        validate(request)
    assert value not in str(caught.value)
    assert value not in "".join(path + what for path, what in caught.value.violations)


def test_no_more_is_told_than_somebody_reads() -> None:
    request = EchoRequest(lines=[Line(sku=SECRET)] * 500)
    assert len(violations(request)) == VIOLATIONS_MAX


async def test_the_handler_sees_only_valid_requests() -> None:
    target = Target()
    with pytest.raises(InvalidArgument):
        await Validate()(target.unary)(call_of(request=EchoRequest(text=SECRET)))
    call = call_of(COUNT, request=EchoRequest(text=SECRET))
    with pytest.raises(InvalidArgument):
        await anext(Validate().stream(target.stream)(call, requests_of()))
    assert not target.calls


@pytest.mark.parametrize("method", [SUM, CHAT], ids=lambda m: m.name)
async def test_of_streamed_requests_each_one_is_checked(method: Method) -> None:
    read = []

    async def handler(_: Call, requests: Any) -> Any:
        async for request in requests:
            read.append(request)  # noqa: PERF401  # what was read before a failure counts
        yield EchoReply()

    send = Validate().stream(handler)
    messages = requests_of(GOOD, EchoRequest(text=SECRET), GOOD)
    with pytest.raises(InvalidArgument, match="text"):
        await anext(send(call_of(method), messages))
    assert read == [GOOD]


async def test_what_stands_in_for_a_streams_first_request_is_not_checked() -> None:
    """It is an empty message that nobody sent, which many a contract would refuse."""
    target = Target()
    placeholder = call_of(SUM, request=EchoRequest(text=SECRET))
    await anext(Validate().stream(target.stream)(placeholder, requests_of(GOOD)))
    assert target.calls


async def test_rules_can_be_compiled_before_the_first_call() -> None:
    warm_up([SUM, CHAT])
