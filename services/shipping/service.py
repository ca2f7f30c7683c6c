"""ShippingService: one function for each method of `shop.shipping.v1`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from mesh.service import Service
from mesh.storage.port import Tx
from services.shared.paging import next_token, open_page
from shop.shipping.v1 import shipping_pb2 as pb
from shop.shipping.v1.events_pb2 import ShipmentEvent

from . import domain, records

service: Service[None] = Service(
    pb.DESCRIPTOR.services_by_name["ShippingService"],
    schema=Path(__file__).parent / "schema",
)


@service.rpc
async def create_shipment(tx: Tx, request: pb.CreateShipmentRequest) -> pb.Shipment:
    """Plan an order's shipment, if anything can be sent there."""
    region = request.address.region_code
    prefixes = await records.barred_prefixes(tx, region)
    domain.check_shippable(region, request.address.postal_code, prefixes)
    shipment = await records.insert(tx, request)
    await tx.publish(_event(shipment))
    return shipment


@service.rpc
async def cancel_shipment(tx: Tx, request: pb.CancelShipmentRequest) -> pb.Shipment:
    """Call a shipment off."""
    return await _move(tx, request.order_id, domain.cancelled, request.reason)


@service.rpc
async def release_shipment(tx: Tx, request: pb.ReleaseShipmentRequest) -> pb.Shipment:
    """Hand a shipment to the warehouse."""
    released = partial(domain.advanced, to=pb.Shipment.RELEASED)
    return await _move(tx, request.order_id, released)


@service.rpc
async def dispatch_shipment(tx: Tx, request: pb.DispatchShipmentRequest) -> pb.Shipment:
    """Record that a shipment left the warehouse."""
    dispatched = partial(domain.advanced, to=pb.Shipment.DISPATCHED)
    return await _move(tx, request.order_id, dispatched, request.note)


@service.rpc
async def deliver_shipment(tx: Tx, request: pb.DeliverShipmentRequest) -> pb.Shipment:
    """Record that a shipment arrived."""
    delivered = partial(domain.advanced, to=pb.Shipment.DELIVERED)
    return await _move(tx, request.order_id, delivered, request.note)


@service.rpc
async def get_shipment(tx: Tx, request: pb.GetShipmentRequest) -> pb.Shipment:
    """Return a whole shipment."""
    return await records.whole(tx, request.order_id)


@service.rpc
async def list_shipments(tx: Tx, request: pb.ListShipmentsRequest) -> pb.ListShipmentsResponse:
    """Return a page of shipments, newest first."""
    page = open_page(request)
    rows, last = page.cut(await records.newest(tx, page, request.user_id, request.state))
    return pb.ListShipmentsResponse(
        shipments=[shipment for _, shipment in rows], next_page_token=next_token(request, last)
    )


async def _move(
    tx: Tx, order_id: str, rule: Callable[[domain.State], domain.State], note: str = ""
) -> pb.Shipment:
    """Apply *rule*. Where the shipment is there already, nothing changes."""
    shipment = await records.brief(tx, order_id)
    state = rule(shipment.state)
    if state == shipment.state:
        return shipment
    shipment = await records.enter(tx, order_id, state, note)
    await tx.publish(_event(shipment, note))
    return shipment


def _event(shipment: pb.Shipment, note: str = "") -> ShipmentEvent:
    return ShipmentEvent(
        order_id=shipment.order_id,
        user_id=shipment.user_id,
        time=shipment.update_time,
        state=shipment.state,
        note=note,
    )
