"""Errors on the wire: what each says of the outcome arrives, and nothing else is believed."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, DebugInfo, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode
from hypothesis import given
from hypothesis import strategies as st

from mesh import errors
from mesh.errors import (
    DOMAIN,
    EXHAUSTED_S,
    CircuitOpenError,
    InvalidArgument,
    MeshError,
    NotExecuted,
    NotFound,
    Outcome,
    Refused,
    Unavailable,
)
from mesh.status import _BY_REASON, from_status, from_wire, to_status

CLASSES = sorted(
    (cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, MeshError)),
    key=lambda cls: cls.__name__,
)
ERROR_CODES = [code for code in StatusCode if code is not StatusCode.OK]


def facts(error: MeshError) -> tuple[Any, ...]:
    return (
        type(error),
        error.status,
        error.outcome,
        error.reason,
        error.message,
        error.retry_after_s,
        error.info,
        getattr(error, "violations", ()),
    )


def over_the_wire(error: MeshError) -> MeshError:
    return from_wire(error.code(), error.details(), to_status(error).SerializeToString())


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_class_arrives_as_it_was_sent(cls: type[MeshError]) -> None:
    plain, full = cls(), cls("what", reason="WHY", retry_after_s=1.5, info={"a": "1"})
    assert facts(over_the_wire(plain)) == facts(plain)
    if cls in _BY_REASON.values():
        # They are known by their reason: under another one they are what they are made of.
        assert over_the_wire(full).outcome is full.outcome
    else:
        assert facts(over_the_wire(full)) == facts(full)


@pytest.mark.parametrize("code", ERROR_CODES, ids=lambda code: code.name)
@pytest.mark.parametrize("cls", [Refused, NotExecuted, MeshError], ids=lambda cls: cls.__name__)
def test_outcome_and_status_arrive_in_any_combination(
    cls: type[MeshError], code: StatusCode
) -> None:
    arrived = over_the_wire(cls("what", status=code, reason="WHY"))
    assert (arrived.outcome, arrived.status, arrived.reason) == (cls.outcome, code, "WHY")
    assert isinstance(arrived, MeshError)


def test_violations_arrive() -> None:
    violations = (("lines[3].sku", "is too long"), ("text", "is empty"))
    arrived = over_the_wire(InvalidArgument(violations=violations))
    assert isinstance(arrived, InvalidArgument)
    assert arrived.violations == violations
    assert arrived.message == "lines[3].sku: is too long; text: is empty"


@pytest.mark.parametrize("wait_s", [0.0, 0.25, 30.0, EXHAUSTED_S, 1e9])
def test_the_wait_arrives(wait_s: float) -> None:
    assert over_the_wire(Unavailable(retry_after_s=wait_s)).retry_after_s == wait_s


@pytest.mark.parametrize("wait_s", [float("inf"), float("-inf"), float("nan"), 1e300])
def test_a_wait_that_is_no_time_does_not_stop_the_error(wait_s: float) -> None:
    assert over_the_wire(Unavailable(retry_after_s=wait_s)).status is StatusCode.UNAVAILABLE


def test_the_standard_details_say_the_same_to_others() -> None:
    """What a client that knows nothing of us reads: https://google.aip.dev/193."""
    status = to_status(InvalidArgument(violations=[("a.b", "bad")], retry_after_s=2.0))
    assert status.code == StatusCode.INVALID_ARGUMENT.value[0]
    info, retry, bad = ErrorInfo(), RetryInfo(), BadRequest()
    for detail, packed in zip((info, retry, bad), status.details, strict=True):
        assert packed.Unpack(detail)
    assert (info.domain, info.reason) == (DOMAIN, "INVALID_ARGUMENT")
    assert retry.retry_delay.seconds == 2
    assert [(v.field, v.description) for v in bad.field_violations] == [("a.b", "bad")]


@pytest.mark.parametrize("code", ERROR_CODES, ids=lambda code: code.name)
def test_a_bare_code_says_nothing_of_what_happened(code: StatusCode) -> None:
    error = from_wire(code, "from a proxy", None)
    assert (error.status, error.outcome) == (code, Outcome.UNKNOWN)
    assert error.message == "from a proxy"
    assert not isinstance(error, (Refused, NotExecuted))


@pytest.mark.parametrize("code", ERROR_CODES, ids=lambda code: code.name)
@pytest.mark.parametrize("outcome", [o.value for o in Outcome])
def test_only_our_domain_is_believed(code: StatusCode, outcome: str) -> None:
    info = ErrorInfo(domain="example.com", reason="NOT_FOUND", metadata={"outcome": outcome})
    assert from_wire(code, "", packed_status(code, info)).outcome is Outcome.UNKNOWN


def packed_status(code: StatusCode, *details: Message) -> bytes:
    status = Status(code=code.value[0], message="")
    for detail in details:
        packed = Packed()
        packed.Pack(detail)
        status.details.append(packed)
    return status.SerializeToString()


def ours(outcome: str, reason: str = "R") -> ErrorInfo:
    return ErrorInfo(domain=DOMAIN, reason=reason, metadata={"outcome": outcome})


class TestHostileDetails:
    """A peer may send anything. It is an answer of unknown outcome, never a crash."""

    def test_details_for_another_code(self) -> None:
        details = packed_status(StatusCode.NOT_FOUND, ours("refused"))
        error = from_wire(StatusCode.UNAVAILABLE, "message", details)
        assert (error.status, error.outcome) == (StatusCode.UNAVAILABLE, Outcome.UNKNOWN)
        assert error.message == "message"

    @pytest.mark.parametrize("outcome", ["", "REFUSED", "executed", "x" * 10_000])
    def test_an_outcome_that_we_do_not_know(self, outcome: str) -> None:
        details = packed_status(StatusCode.NOT_FOUND, ours(outcome))
        assert from_wire(StatusCode.NOT_FOUND, "", details).outcome is Outcome.UNKNOWN

    def test_two_infos_of_which_one_is_ours(self) -> None:
        """A proxy may add its own beside ours: outcome and reason are those of one."""
        theirs = ErrorInfo(domain="proxy", reason="CIRCUIT_OPEN", metadata={"outcome": "refused"})
        mine = ours("not_executed", "KEY_IN_FLIGHT")
        for details in ((theirs, mine), (mine, theirs)):
            error = from_wire(
                StatusCode.UNAVAILABLE, "", packed_status(StatusCode.UNAVAILABLE, *details)
            )
            assert isinstance(error, errors.KeyInFlight)
            assert error.reason == "KEY_IN_FLIGHT"

    def test_a_reason_of_another_outcome_makes_no_class(self) -> None:
        details = packed_status(StatusCode.UNAVAILABLE, ours("unknown", "CIRCUIT_OPEN"))
        assert not isinstance(from_wire(StatusCode.UNAVAILABLE, "", details), CircuitOpenError)

    @pytest.mark.parametrize("detail", [ErrorInfo, RetryInfo, BadRequest])
    @pytest.mark.parametrize("value", [b"\xff", b"\x0a\xff", b"\x0a\x05\xff\xfe\xfd\xfc\xfb"])
    def test_a_detail_that_cannot_be_read(self, detail: type[Message], value: bytes) -> None:
        url = f"type.googleapis.com/{detail.DESCRIPTOR.full_name}"
        status = Status(code=StatusCode.NOT_FOUND.value[0], details=[Packed(type_url=url)])
        status.details[0].value = value
        error = from_wire(StatusCode.NOT_FOUND, "m", status.SerializeToString())
        assert (error.status, error.outcome) == (StatusCode.NOT_FOUND, Outcome.UNKNOWN)

    def test_waits_beyond_all_bounds(self) -> None:
        wild = RetryInfo(retry_delay=Duration(seconds=2**62, nanos=2**31 - 1))
        error = from_wire(StatusCode.ABORTED, "", packed_status(StatusCode.ABORTED, wild))
        assert error.status is StatusCode.ABORTED

    def test_details_that_we_do_not_use(self) -> None:
        details = packed_status(StatusCode.INTERNAL, DebugInfo(detail="stack"))
        assert from_wire(StatusCode.INTERNAL, "", details).outcome is Outcome.UNKNOWN

    @given(details=st.binary(), code=st.sampled_from(ERROR_CODES))
    def test_any_bytes(self, details: bytes, code: StatusCode) -> None:
        error = from_wire(code, "message", details)
        assert (error.status, error.outcome) == (code, Outcome.UNKNOWN)

    @given(
        code=st.sampled_from(ERROR_CODES),
        outcome=st.text(max_size=20),
        reason=st.text(max_size=20),
        domain=st.text(max_size=20),
    )
    def test_any_info(self, code: StatusCode, outcome: str, reason: str, domain: str) -> None:
        info = ErrorInfo(domain=domain, reason=reason, metadata={"outcome": outcome})
        error = from_wire(code, "", packed_status(code, info))
        assert error.status is code
        assert error.outcome is Outcome.UNKNOWN or domain == DOMAIN

    @given(st.integers(-(2**31), 2**31 - 1))
    def test_any_number_as_a_code(self, number: int) -> None:
        assert from_status(Status(code=number)).outcome is Outcome.UNKNOWN


def test_it_is_an_error_as_grpc_users_know_it() -> None:
    error = NotFound("no such order", reason="NO_ORDER")
    assert isinstance(error, grpc.RpcError)
    assert (error.code(), error.details()) == (StatusCode.NOT_FOUND, "no such order")
    assert str(error) == "NO_ORDER: no such order"
    assert str(NotFound()) == "NOT_FOUND"


def test_what_may_be_kept_is_the_handlers_affair() -> None:
    assert Refused(keep=True).keep
    assert not Refused().keep
    assert not over_the_wire(Refused(keep=True)).keep  # type: ignore[attr-defined]
