"""Shipments in the database.

A shipment is read *brief*, without its address, lines and events, or whole. Replies to changes
are brief: the mesh keeps them for ever, 500 lines would not fit, and the address is nobody's
business who does not ask for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.type.postal_address_pb2 import PostalAddress

from mesh.errors import AlreadyExists, NotFound
from mesh.storage.port import Tx
from services.shared.paging import Page
from services.shared.times import to_timestamp
from shop.shipping.v1 import shipping_pb2 as pb


async def barred_prefixes(tx: Tx, region_code: str) -> list[str]:
    """Return the postal prefixes in *region_code* to which nothing can be sent."""
    rows = await tx.execute(
        "SELECT postal_prefix FROM unshippable_places WHERE region_code = $1", region_code
    )
    return [prefix for (prefix,) in rows]


async def insert(tx: Tx, request: pb.CreateShipmentRequest) -> pb.Shipment:
    """Record a new shipment as CREATED; refuse if its order has one."""
    now = tx.now()
    rows = await tx.execute(
        "INSERT INTO shipments (order_id, position, user_id, address, state, create_time,"
        " update_time) VALUES ($1, $2, $3, $4, $5, $6, $6)"
        " ON CONFLICT (order_id) DO NOTHING"
        " RETURNING order_id, user_id, state, create_time, update_time",
        request.order_id,
        tx.new_id(),
        request.user_id,
        request.address.SerializeToString(deterministic=True),
        pb.Shipment.CREATED,
        now,
    )
    if not rows:
        raise AlreadyExists(
            f"the order {request.order_id!r} has a shipment", reason="SHIPMENT_EXISTS"
        )
    for number, line in enumerate(request.lines, 1):
        await tx.execute(
            "INSERT INTO shipment_lines (order_id, number, sku, quantity) VALUES ($1, $2, $3, $4)",
            request.order_id,
            number,
            line.sku,
            line.quantity,
        )
    await _record(tx, request.order_id, pb.Shipment.CREATED, now)
    return _brief(rows[0])


async def enter(tx: Tx, order_id: str, state: int, note: str) -> pb.Shipment:
    """Move a shipment to another state, and write that into its events."""
    now = tx.now()
    await _record(tx, order_id, state, now, note)
    rows = await tx.execute(
        "UPDATE shipments SET state = $2, update_time = $3 WHERE order_id = $1"
        " RETURNING order_id, user_id, state, create_time, update_time",
        order_id,
        state,
        now,
    )
    return _brief(rows[0])


async def brief(tx: Tx, order_id: str) -> pb.Shipment:
    """Return a shipment without its address, lines and events."""
    rows = await tx.execute(
        "SELECT order_id, user_id, state, create_time, update_time"
        " FROM shipments WHERE order_id = $1",
        order_id,
    )
    if not rows:
        # An id has up to 64 characters; what was asked for may have any number.
        raise NotFound(f"the order {order_id!r:.66} has no shipment", reason="SHIPMENT_NOT_FOUND")
    return _brief(rows[0])


async def whole(tx: Tx, order_id: str) -> pb.Shipment:
    """Return a shipment with its address, lines and events."""
    shipment = await brief(tx, order_id)
    ((address,),) = await tx.execute("SELECT address FROM shipments WHERE order_id = $1", order_id)
    shipment.address.CopyFrom(PostalAddress.FromString(bytes(address)))
    for sku, quantity in await tx.execute(
        "SELECT sku, quantity FROM shipment_lines WHERE order_id = $1 ORDER BY number", order_id
    ):
        shipment.lines.add(sku=sku, quantity=quantity)
    for state, time, note in await tx.execute(
        "SELECT state, time, note FROM shipment_events WHERE order_id = $1 ORDER BY state",
        order_id,
    ):
        shipment.events.add(state=state, time=to_timestamp(time), note=note)
    return shipment


async def newest(tx: Tx, page: Page, user_id: str, state: int) -> list[tuple[str, pb.Shipment]]:
    """Return (position, brief shipment) of a page; *user_id* "" and *state* 0 are any."""
    if user_id:
        rows = await tx.execute(
            "SELECT position, order_id, user_id, state, create_time, update_time FROM shipments"
            " WHERE position < $1 AND ($2 = 0 OR state = $2) AND user_id = $3"
            " ORDER BY position DESC LIMIT $4",
            page.before,
            state,
            user_id,
            page.limit,
        )
    else:
        rows = await tx.execute(
            "SELECT position, order_id, user_id, state, create_time, update_time FROM shipments"
            " WHERE position < $1 AND ($2 = 0 OR state = $2)"
            " ORDER BY position DESC LIMIT $3",
            page.before,
            state,
            page.limit,
        )
    return [(position, _brief(shipment)) for position, *shipment in rows]


async def _record(tx: Tx, order_id: str, state: int, time: float, note: str = "") -> None:
    await tx.execute(
        "INSERT INTO shipment_events (order_id, state, time, note) VALUES ($1, $2, $3, $4)",
        order_id,
        state,
        time,
        note,
    )


def _brief(row: Sequence[Any]) -> pb.Shipment:
    order_id, user_id, state, create_time, update_time = row
    return pb.Shipment(
        order_id=order_id,
        user_id=user_id,
        state=state,
        create_time=to_timestamp(create_time),
        update_time=to_timestamp(update_time),
    )
