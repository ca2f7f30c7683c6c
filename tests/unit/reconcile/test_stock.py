"""Stock is counted exactly where nothing moves, and never wrongly accused where something does."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from reconcile.stock import CLOCK_SKEW_S, Shelf
from shop.inventory.v1.inventory_pb2 import Reservation, Stock, StockLine

BEGAN_AT = 1_000.0
LONG_AGO, JUST_NOW = BEGAN_AT - CLOCK_SKEW_S - 1, BEGAN_AT + 1


def shelf(*stock: Stock) -> Shelf:
    shelf = Shelf(BEGAN_AT)
    for item in stock:
        shelf.put(item)
    return shelf


def reservation(
    state: Reservation.State.ValueType, quantity: int, time: float = LONG_AGO
) -> Reservation:
    return Reservation(
        state=state,
        lines=[StockLine(sku="A", quantity=quantity)],
        update_time=Timestamp(seconds=int(time)),
    )


def rules(shelf: Shelf) -> list[str]:
    return [finding.rule for finding in shelf.check()]


def test_right_stock() -> None:
    counted = shelf(Stock(sku="A", free=1, reserved=2, shipped=3, received=6), Stock(sku="B"))
    counted.count(reservation(Reservation.HELD, 2))
    counted.count(reservation(Reservation.COMMITTED, 3))
    counted.count(reservation(Reservation.RELEASED, 9))
    counted.count(reservation(Reservation.RETURNED, 9))
    assert rules(counted) == []


def test_units_from_nowhere_or_gone() -> None:
    for free in (0, 2):
        assert rules(shelf(Stock(sku="A", free=free, received=1))) == ["STOCK_NOT_CONSERVED"]
    assert rules(shelf(Stock(sku="A", free=-1, received=-1))) == ["STOCK_NOT_CONSERVED"]


def test_counters_that_are_not_the_reservations() -> None:
    counted = shelf(Stock(sku="A", reserved=2, shipped=3, received=5))
    counted.count(reservation(Reservation.HELD, 1))
    counted.count(reservation(Reservation.COMMITTED, 4))
    assert [finding.text for finding in counted.check()] == [
        "2 reserved, by its reservations 1",
        "3 shipped, by its reservations 4",
    ]
    unknown = shelf()
    unknown.count(reservation(Reservation.HELD, 1))
    assert rules(unknown) == ["STOCK_DIFFERS"]


def test_what_moves_meanwhile_may_be_counted_already_or_not_yet() -> None:
    for reserved in (2, 3, 7):
        counted = shelf(Stock(sku="A", reserved=reserved, shipped=0, received=reserved))
        counted.count(reservation(Reservation.HELD, 2))
        counted.count(reservation(Reservation.COMMITTED, 5, JUST_NOW))
        assert rules(counted) == []
    counted = shelf(Stock(sku="A", reserved=8, received=8))
    counted.count(reservation(Reservation.HELD, 2))
    counted.count(reservation(Reservation.RELEASED, 5, JUST_NOW))
    assert [finding.text for finding in counted.check()] == [
        "8 reserved, by its reservations 2 to 7"
    ]
