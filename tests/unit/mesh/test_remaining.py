"""The time that goes over the wire: never more than there is, whatever gRPC makes of it."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from mesh.call import NEVER
from mesh.transport.port import remaining_s
from tests.support.echo import READ, call_of


def as_grpc_writes(timeout_s: float) -> float:
    """Milliseconds, rounded up, in three digits, rounded up (`grpc_core::Timeout`)."""
    left_ms = int(timeout_s * 1e3) + 1
    unit_ms = 1
    while left_ms >= 1000 * unit_ms:
        unit_ms *= 10
    return math.ceil(left_ms / unit_ms) * unit_ms / 1e3


@given(left_s=st.floats(0.002, 1e6))
def test_what_arrives_is_not_more_than_there_is_nor_much_less(left_s: float) -> None:
    arrives_s = as_grpc_writes(remaining_s(call_of(READ, left_s), 0.0) or 0.0)
    assert arrives_s <= left_s
    assert arrives_s >= left_s * 0.99 - 0.002


@given(left_s=st.floats(-1e6, 0.002, exclude_max=True))
def test_next_to_nothing_stays_what_it_is(left_s: float) -> None:
    assert remaining_s(call_of(READ, left_s), 0.0) == max(0.0, left_s)


def test_no_deadline_stays_none() -> None:
    assert remaining_s(call_of(READ, NEVER), 0.0) is None
