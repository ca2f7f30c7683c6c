"""The rules of shipments: which state follows which, and where nothing can be sent. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeAlias

from mesh.errors import Refused
from shop.shipping.v1 import shipping_pb2 as pb

State: TypeAlias = "pb.Shipment.State.ValueType"

#: A shipment goes through these one by one; cancelling leaves the way before DISPATCHED.
WAY = (
    pb.Shipment.CREATED,
    pb.Shipment.RELEASED,
    pb.Shipment.DISPATCHED,
    pb.Shipment.DELIVERED,
)


def advanced(state: State, to: State) -> State:
    """Return the state after recording that a shipment went on *to* a place of its way.

    What it has reached or passed already is no news. A place left out is refused.
    """
    if state == pb.Shipment.CANCELLED:
        raise Refused("the shipment was cancelled", reason="SHIPMENT_CANCELLED")
    if WAY.index(to) > WAY.index(state) + 1:
        missing = pb.Shipment.State.Name(WAY[WAY.index(to) - 1])
        raise Refused(f"the shipment was not {missing.lower()}", reason=f"NOT_{missing}")
    return max(state, to, key=WAY.index)


def cancelled(state: State) -> State:
    """Return the state that cancelling leads to; what is with the carrier cannot be recalled."""
    if state in (pb.Shipment.DISPATCHED, pb.Shipment.DELIVERED):
        raise Refused("the shipment has left the warehouse", reason="ALREADY_DISPATCHED")
    return pb.Shipment.CANCELLED


def check_shippable(region_code: str, postal_code: str, prefixes: Collection[str]) -> None:
    """Refuse a place whose postal code begins with one of its region's barred *prefixes*.

    The prefix "" bars the whole region. Where a part is barred, an address without a postal
    code may lie in it, and is refused too. The refusal names the region and no more of the
    address: refusals are kept and logged.
    """
    code = "".join(filter(str.isalnum, postal_code)).upper()
    if prefixes and (not code or code.startswith(tuple(prefixes))):
        raise Refused(
            f"nothing can be sent to this place in {region_code}",
            reason="UNSHIPPABLE_ADDRESS",
            info={"region_code": region_code},
        )
