"""The rules of shipments."""

from __future__ import annotations

import pytest

from mesh.errors import Refused
from services.shipping import domain
from shop.shipping.v1 import shipping_pb2 as pb

CREATED, RELEASED, DISPATCHED, DELIVERED = domain.WAY
CANCELLED = pb.Shipment.CANCELLED
#: (state, place recorded) -> the state after it, or the reason of the refusal.
ADVANCES: dict[tuple[domain.State, domain.State], domain.State | str] = {
    (CREATED, RELEASED): RELEASED,
    (CREATED, DISPATCHED): "NOT_RELEASED",
    (CREATED, DELIVERED): "NOT_DISPATCHED",
    (RELEASED, RELEASED): RELEASED,
    (RELEASED, DISPATCHED): DISPATCHED,
    (RELEASED, DELIVERED): "NOT_DISPATCHED",
    (DISPATCHED, RELEASED): DISPATCHED,
    (DISPATCHED, DISPATCHED): DISPATCHED,
    (DISPATCHED, DELIVERED): DELIVERED,
    (DELIVERED, RELEASED): DELIVERED,
    (DELIVERED, DISPATCHED): DELIVERED,
    (DELIVERED, DELIVERED): DELIVERED,
    (CANCELLED, RELEASED): "SHIPMENT_CANCELLED",
    (CANCELLED, DISPATCHED): "SHIPMENT_CANCELLED",
    (CANCELLED, DELIVERED): "SHIPMENT_CANCELLED",
}
CANCELLATIONS: dict[domain.State, domain.State | str] = {
    CREATED: CANCELLED,
    RELEASED: CANCELLED,
    DISPATCHED: "ALREADY_DISPATCHED",
    DELIVERED: "ALREADY_DISPATCHED",
    CANCELLED: CANCELLED,
}


def test_every_transition_is_listed() -> None:
    states = set(pb.Shipment.State.values()) - {pb.Shipment.STATE_UNSPECIFIED}
    assert set(ADVANCES) == {(state, to) for state in states for to in domain.WAY[1:]}
    assert set(CANCELLATIONS) == states


@pytest.mark.parametrize(("state", "to"), ADVANCES)
def test_a_shipment_goes_its_way_step_by_step(state: domain.State, to: domain.State) -> None:
    expected = ADVANCES[state, to]
    if isinstance(expected, int):
        assert domain.advanced(state, to) == expected
        return
    with pytest.raises(Refused) as refused:
        domain.advanced(state, to)
    assert refused.value.reason == expected


@pytest.mark.parametrize("state", CANCELLATIONS)
def test_a_shipment_is_called_off_before_it_leaves(state: domain.State) -> None:
    expected = CANCELLATIONS[state]
    if isinstance(expected, int):
        assert domain.cancelled(state) == expected
        return
    with pytest.raises(Refused) as refused:
        domain.cancelled(state)
    assert refused.value.reason == expected


@pytest.mark.parametrize(
    ("postal_code", "prefixes"),
    [
        ("N1 9GU", []),
        ("", []),
        ("01001", ["95", "96"]),
        ("19500", ["95"]),  # a prefix, not a part
        ("9", ["95"]),
    ],
)
def test_a_place_outside_the_barred_ones_is_shippable(
    postal_code: str, prefixes: list[str]
) -> None:
    domain.check_shippable("XX", postal_code, prefixes)


@pytest.mark.parametrize(
    ("postal_code", "prefixes"),
    [
        ("", [""]),
        ("12345", [""]),
        ("95000", ["95", "96"]),
        (" 95-000 ", ["95"]),
        ("ab1 2cd", ["AB1"]),
        ("", ["95"]),  # it may lie in the barred part
        (" - ", ["95"]),
    ],
)
def test_a_barred_place_is_refused(postal_code: str, prefixes: list[str]) -> None:
    with pytest.raises(Refused) as refused:
        domain.check_shippable("XX", postal_code, prefixes)
    assert refused.value.reason == "UNSHIPPABLE_ADDRESS"
    assert refused.value.info == {"region_code": "XX"}
    digits = "".join(filter(str.isalnum, postal_code))
    assert not digits or digits not in str(refused.value)
