"""The rules of stock. Pure: no database, no clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from google.protobuf.field_mask_pb2 import FieldMask

from mesh.errors import NotFound, Refused
from shop.inventory.v1 import inventory_pb2 as pb
from shop.order.v1.order_pb2 import OrderLine

State = pb.Reservation.State


@dataclass(frozen=True, slots=True)
class Move:
    """A step of a reservation: between which states, and what a unit adds to each count."""

    start: State.ValueType
    end: State.ValueType
    free: int = 0
    reserved: int = 0
    shipped: int = 0


RESERVE = Move(State.STATE_UNSPECIFIED, State.HELD, free=-1, reserved=+1)
RELEASE = Move(State.HELD, State.RELEASED, free=+1, reserved=-1)
COMMIT = Move(State.HELD, State.COMMITTED, reserved=-1, shipped=+1)
RETURN = Move(State.COMMITTED, State.RETURNED, free=+1, shipped=-1)


def must_move(move: Move, reservation: pb.Reservation) -> bool:
    """Return whether *move* is to be made, False if it was made before; refuse any other."""
    if reservation.state == move.end:
        return False
    if reservation.state != move.start:
        start, actual = State.Name(move.start), State.Name(reservation.state)
        raise Refused(
            f"the reservation of order {reservation.order_id!r} is {actual}, not {start}",
            reason=f"RESERVATION_{actual}",
            info={"order_id": reservation.order_id, "state": actual},
        )
    return True


def sum_by_sku(lines: Iterable[pb.StockLine | OrderLine]) -> dict[str, int]:
    """Return how many units *lines* ask for of each SKU, by ascending SKU."""
    wanted: Counter[str] = Counter()
    for line in lines:
        wanted[line.sku] += line.quantity
    return dict(sorted(wanted.items()))


def check_available(wanted: Mapping[str, int], free: Mapping[str, int]) -> None:
    """Refuse unless every SKU of *wanted* is known and has that many units *free*."""
    for sku in wanted:
        if sku not in free:
            raise NotFound(f"no item {sku!r}", reason="UNKNOWN_SKU", info={"sku": sku})
    for sku, quantity in wanted.items():
        if free[sku] < quantity:
            raise Refused(
                f"{quantity} of {sku!r} were asked for and {free[sku]} are free",
                reason="OUT_OF_STOCK",
                info={"sku": sku, "requested": str(quantity), "free": str(free[sku])},
            )


def updated(item: pb.Item, values: pb.Item, mask: FieldMask) -> pb.Item:
    """Return *item* with the fields that *mask* names taken from *values*."""
    result = pb.Item()
    result.CopyFrom(item)
    mask.MergeMessage(values, result, replace_message_field=True)
    return result
