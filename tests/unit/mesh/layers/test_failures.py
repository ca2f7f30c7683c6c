"""Failures: whatever a handler raises leaves as an error of ours, and its text stays here."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from mesh.call import Call
from mesh.errors import (
    EXHAUSTED_S,
    CircuitOpenError,
    DeadlineExceeded,
    Expired,
    Internal,
    MeshError,
    NotFound,
    Outcome,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
    UndeclaredCall,
)
from mesh.layers.failures import Failures
from mesh.metadata import CORRELATION_ID, PUSHBACK, STATUS_DETAILS
from mesh.scope import Scope, scope
from mesh.status import to_status
from mesh.storage.port import NotStoredError, StorageError
from tests.support.echo import COUNT, READ, EchoReply, call_of, requests_of
from tests.support.runtime import FakeRuntime
from tests.support.target import Target, forever

SECRET = "card 4111 of jane@example.com"


@pytest.fixture(autouse=True)
def served() -> Iterator[None]:
    token = scope.set(Scope(correlation_id="order-7"))
    yield
    scope.reset(token)


@pytest.fixture
def failures() -> Failures:
    return Failures(FakeRuntime())


def stock_error(*trailing: tuple[str, Any]) -> grpc.aio.AioRpcError:
    nothing = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(StatusCode.UNAVAILABLE, nothing, grpc.aio.Metadata(*trailing))


async def raised(failures: Failures, error: BaseException) -> MeshError:
    with pytest.raises(MeshError) as caught:
        await failures(Target(error).unary)(call_of())
    return caught.value


async def raised_by_stream(failures: Failures, error: BaseException) -> MeshError:
    replies = failures.stream(Target([EchoReply(), error]).stream)(call_of(COUNT), requests_of())
    await anext(replies)
    with pytest.raises(MeshError) as caught:
        await anext(replies)
    return caught.value


EITHER_KIND = pytest.mark.parametrize("of", [raised, raised_by_stream], ids=["unary", "stream"])


@EITHER_KIND
async def test_a_bug_is_internal_and_its_text_stays_in_the_log(
    failures: Failures, of: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "mesh"):
        error = await of(failures, ValueError(SECRET))
    assert isinstance(error, Internal)
    assert error.outcome is Outcome.UNKNOWN
    assert SECRET.encode() not in to_status(error).SerializeToString()
    [line] = [json.loads(record.message) for record in caplog.records]
    assert SECRET in line["exception"]
    assert line["error_id"] == error.info["error_id"] != ""
    assert line["correlation_id"] == "order-7"


@EITHER_KIND
async def test_our_errors_pass_as_they_are(failures: Failures, of: Any) -> None:
    refusal = NotFound("no such order")
    error = await of(failures, refusal)
    assert error is refusal
    assert (error.status, error.outcome) == (StatusCode.NOT_FOUND, Outcome.REFUSED)


@EITHER_KIND
async def test_every_error_carries_the_correlation_id(failures: Failures, of: Any) -> None:
    assert (await of(failures, ValueError())).info[CORRELATION_ID] == "order-7"
    assert (await of(failures, NotFound())).info[CORRELATION_ID] == "order-7"
    kept = NotFound(info={CORRELATION_ID: "of who asked first"})
    assert (await of(failures, kept)).info[CORRELATION_ID] == "order-7"


@EITHER_KIND
async def test_the_causes_of_an_error_stay_a_chain(failures: Failures, of: Any) -> None:
    root = OSError("disk")
    known = Unavailable()
    known.__cause__ = root
    assert (await of(failures, known)).__cause__ is root
    bug = ValueError()
    assert (await of(failures, bug)).__cause__ is bug


@EITHER_KIND
async def test_a_stock_stub_that_failed_says_nothing_of_what_happened(
    failures: Failures, of: Any
) -> None:
    text = grpc.aio.Metadata()
    error = await of(failures, grpc.aio.AioRpcError(StatusCode.NOT_FOUND, text, text, SECRET))
    assert (error.status, error.outcome) == (StatusCode.UNAVAILABLE, Outcome.UNKNOWN)
    assert SECRET not in str(error)


@EITHER_KIND
async def test_what_a_stock_stub_was_told_of_trying_again_is_handed_on(
    failures: Failures, of: Any
) -> None:
    said = {"-1": EXHAUSTED_S, "250": 0.25, "soon": EXHAUSTED_S}
    for text, wait_s in said.items():
        error = await of(failures, stock_error((PUSHBACK, text)))
        assert error.retry_after_s == wait_s
    assert (await of(failures, stock_error())).retry_after_s is None
    assert (await of(failures, grpc.RpcError())).retry_after_s is None
    told = to_status(Unavailable(retry_after_s=2.0)).SerializeToString()
    assert (await of(failures, stock_error((STATUS_DETAILS, told)))).retry_after_s == 2.0


@EITHER_KIND
async def test_only_a_call_that_the_handler_made_is_not_executed_behind_it(
    failures: Failures, of: Any
) -> None:
    own = PermissionDenied("lacks the role")
    assert await of(failures, own) is own
    behind = CircuitOpenError("the circuit is open", retry_after_s=3.0)
    behind.of_call = READ.full_name
    error = await of(failures, behind)
    assert (error.reason, error.outcome) == ("DOWNSTREAM_UNAVAILABLE", Outcome.UNKNOWN)
    assert (error.status, error.retry_after_s) == (StatusCode.UNAVAILABLE, 3.0)
    assert error.__cause__ is behind
    late = Expired("no time is left")
    late.of_call = READ.full_name
    assert isinstance(await of(failures, late), DeadlineExceeded)
    refused = NotFound("no such user")
    refused.of_call = READ.full_name
    assert await of(failures, refused) is refused


@EITHER_KIND
@pytest.mark.parametrize("denied", [Unauthenticated, PermissionDenied, UndeclaredCall])
async def test_that_the_handler_may_not_make_a_call_is_a_bug_of_its_own(
    failures: Failures, of: Any, denied: type[MeshError], caplog: pytest.LogCaptureFixture
) -> None:
    behind = denied("'order' lacks the role 'auditor'")
    behind.of_call = READ.full_name
    with caplog.at_level(logging.ERROR, "mesh"):
        error = await of(failures, behind)
    assert isinstance(error, Internal), "to ask again would not help"
    assert "auditor" not in str(error)
    [line] = [json.loads(record.message) for record in caplog.records]
    assert "auditor" in line["exception"]
    assert line["error_id"] == error.info["error_id"]


@EITHER_KIND
async def test_a_handlers_own_cancellation_becomes_a_status(failures: Failures, of: Any) -> None:
    """It awaited something that somebody else cancelled; its caller is still there."""
    assert isinstance(await of(failures, asyncio.CancelledError()), Internal)


async def test_the_callers_cancellation_passes(failures: Failures) -> None:
    ended = asyncio.Event()

    async def waiting(call: Call) -> Any:
        try:
            await forever(call)
        finally:
            ended.set()

    async def stream(call: Call, _: AsyncIterator[Any]) -> AsyncIterator[Any]:
        yield await waiting(call)

    for send in (
        failures(waiting),
        lambda call: anext(failures.stream(stream)(call, requests_of())),
    ):
        ended.clear()
        task = asyncio.ensure_future(send(call_of(COUNT)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended.is_set()


async def test_what_a_handler_gives_passes(failures: Failures) -> None:
    reply = EchoReply(text="good")
    assert await failures(Target(reply).unary)(call_of()) is reply
    replies = failures.stream(Target([reply, reply]).stream)(call_of(COUNT), requests_of())
    assert [r async for r in replies] == [reply, reply]


@EITHER_KIND
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (StorageError("shop.db: disk I/O error"), StatusCode.UNAVAILABLE),
        (NotStoredError("shop.db: no room", "STORAGE_FULL"), StatusCode.UNAVAILABLE),
        (StorageError("shop.db: malformed", "STORAGE_CORRUPT"), StatusCode.DATA_LOSS),
    ],
    ids=lambda value: getattr(value, "reason", ""),
)
async def test_a_database_that_failed_is_no_bug_and_the_outcome_is_unknown(
    failures: Failures,
    of: Any,
    error: StorageError,
    status: StatusCode,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caught = await of(failures, error)
    assert (caught.status, caught.reason) == (status, error.reason)
    assert caught.outcome is Outcome.UNKNOWN
    assert "shop.db" not in str(to_status(caught))
    assert caplog.records == []  # the store says it once, not to every caller
