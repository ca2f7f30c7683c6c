"""The rules of stock."""

from __future__ import annotations

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.type.money_pb2 import Money
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import NotFound, Refused
from services.inventory.domain import (
    COMMIT,
    RELEASE,
    RESERVE,
    RETURN,
    Move,
    State,
    check_available,
    must_move,
    sum_by_sku,
    updated,
)
from shop.inventory.v1 import inventory_pb2 as pb


@given(st.lists(st.tuples(st.sampled_from(["POST", "M", "85123A"]), st.integers(1, 100))))
def test_lines_are_summed_by_ascending_sku(lines: list[tuple[str, int]]) -> None:
    wanted = sum_by_sku(pb.StockLine(sku=sku, quantity=quantity) for sku, quantity in lines)
    assert list(wanted) == sorted({sku for sku, _ in lines})
    assert sum(wanted.values()) == sum(quantity for _, quantity in lines)


def test_all_that_is_wanted_must_be_free() -> None:
    check_available({"A": 2, "B": 1}, {"A": 2, "B": 1, "C": 0})
    with pytest.raises(Refused) as short:
        check_available({"A": 1, "B": 3}, {"A": 1, "B": 2})
    assert short.value.reason == "OUT_OF_STOCK"
    assert short.value.info == {"sku": "B", "requested": "3", "free": "2"}


def test_an_unknown_sku_is_told_before_a_short_one() -> None:
    with pytest.raises(NotFound) as unknown:
        check_available({"A": 5, "Z": 1}, {"A": 1})
    assert (unknown.value.reason, unknown.value.info) == ("UNKNOWN_SKU", {"sku": "Z"})


@pytest.mark.parametrize("move", [RESERVE, RELEASE, COMMIT, RETURN])
def test_a_move_neither_makes_nor_loses_units(move: Move) -> None:
    assert move.free + move.reserved + move.shipped == 0


@pytest.mark.parametrize("move", [RELEASE, COMMIT, RETURN])
def test_a_move_has_one_start_and_is_made_once(move: Move) -> None:
    states = (State.HELD, State.COMMITTED, State.RELEASED, State.RETURNED)
    for state in states:
        reservation = pb.Reservation(order_id="o1", state=state)
        if state in (move.start, move.end):
            assert must_move(move, reservation) is (state == move.start)
        else:
            with pytest.raises(Refused) as refused:
                must_move(move, reservation)
            assert refused.value.reason == f"RESERVATION_{State.Name(state)}"


def test_an_update_changes_what_the_mask_names() -> None:
    item = pb.Item(sku="A", description="old", unit_price=Money(currency_code="GBP", units=1))
    values = pb.Item(sku="A", unit_price=Money(currency_code="EUR", nanos=500_000_000))
    price = updated(item, values, FieldMask(paths=["unit_price"]))
    assert (price.description, price.unit_price) == ("old", values.unit_price)
    cleared = updated(item, values, FieldMask(paths=["description"]))
    assert (cleared.description, cleared.unit_price) == ("", item.unit_price)
