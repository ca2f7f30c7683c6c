"""InventoryService: one function for each method of `shop.inventory.v1`."""

from __future__ import annotations

from pathlib import Path

from mesh.service import Service
from mesh.storage.port import Tx
from services.shared.paging import next_token, open_page
from shop.inventory.v1 import inventory_pb2 as pb
from shop.order.v1.events_pb2 import OrderEvent

from . import demand, domain, records, reservations

service: Service[None] = Service(
    pb.DESCRIPTOR.services_by_name["InventoryService"],
    schema=Path(__file__).parent / "schema",
)

#: A reservation may have 500 lines: more of them in a page could exceed a message's 4 MB.
RESERVATIONS_PAGE_MAX = 100


@service.rpc
async def create_item(tx: Tx, request: pb.CreateItemRequest) -> pb.Item:
    """Add an item to the price list, with its first stock."""
    await records.add_item(tx, request)
    return await records.item(tx, request.sku)


@service.rpc
async def get_item(tx: Tx, request: pb.GetItemRequest) -> pb.Item:
    """Return an item."""
    return await records.item(tx, request.sku)


@service.rpc
async def batch_get_items(tx: Tx, request: pb.BatchGetItemsRequest) -> pb.BatchGetItemsResponse:
    """Return several items, and name those that there are not."""
    skus = list(dict.fromkeys(request.skus))
    found = await records.items(tx, skus)
    return pb.BatchGetItemsResponse(
        items=[found[sku] for sku in skus if sku in found],
        missing_skus=[sku for sku in skus if sku not in found],
    )


@service.rpc
async def list_stock(tx: Tx, request: pb.ListStockRequest) -> pb.ListStockResponse:
    """Return a page of stock."""
    page = open_page(request)
    stock, last = await records.stock(tx, request.skus, request.in_stock, page)
    return pb.ListStockResponse(stock=stock, next_page_token=next_token(request, last))


@service.on(OrderEvent)
async def order_changed(tx: Tx, event: OrderEvent) -> None:
    """Follow what orders ask for."""
    match event.WhichOneof("event"):
        case "created":
            await demand.ask(tx, event.order_id, domain.sum_by_sku(event.created.lines))
        case "confirmed":
            await demand.confirm(tx, event.order_id)
        case "cancelled":
            await demand.close(tx, event.order_id)


@service.rpc
async def list_demand(tx: Tx, request: pb.ListDemandRequest) -> pb.ListDemandResponse:
    """Return a page of what orders asked for."""
    found, last = await demand.by_sku(tx, request.skus, open_page(request))
    return pb.ListDemandResponse(demand=found, next_page_token=next_token(request, last))


@service.rpc
async def update_item(tx: Tx, request: pb.UpdateItemRequest) -> pb.Item:
    """Change what the mask names."""
    item = await records.item(tx, request.item.sku)
    changed = domain.updated(item, request.item, request.update_mask)
    if changed == item:
        return item
    await records.save_item(tx, changed)
    return await records.item(tx, item.sku)


@service.rpc
async def restock_item(tx: Tx, request: pb.RestockItemRequest) -> pb.Item:
    """Add free units."""
    await records.restock(tx, request.sku, request.quantity)
    return await records.item(tx, request.sku)


@service.rpc
async def reserve_stock(tx: Tx, request: pb.ReserveStockRequest) -> pb.Reservation:
    """Hold all lines of an order, or none."""
    wanted = domain.sum_by_sku(request.lines)
    reservation = await reservations.add(tx, request.order_id, wanted)
    domain.check_available(wanted, await reservations.free(tx, request.order_id))
    await reservations.move_units(tx, domain.RESERVE, request.order_id)
    return reservation


@service.rpc
async def release_stock(tx: Tx, request: pb.ReleaseStockRequest) -> pb.Reservation:
    """Free what is held."""
    return await _make(tx, domain.RELEASE, request.order_id)


@service.rpc
async def commit_reservation(tx: Tx, request: pb.CommitReservationRequest) -> pb.Reservation:
    """Ship what is held."""
    return await _make(tx, domain.COMMIT, request.order_id)


@service.rpc
async def return_stock(tx: Tx, request: pb.ReturnStockRequest) -> pb.Reservation:
    """Take back what was shipped."""
    return await _make(tx, domain.RETURN, request.order_id)


@service.rpc
async def get_reservation(tx: Tx, request: pb.GetReservationRequest) -> pb.Reservation:
    """Return an order's reservation."""
    return await reservations.one(tx, request.order_id)


@service.rpc
async def list_reservations(
    tx: Tx, request: pb.ListReservationsRequest
) -> pb.ListReservationsResponse:
    """Return a page of reservations."""
    page = open_page(request, size_max=RESERVATIONS_PAGE_MAX)
    found, last = await reservations.newest(tx, request.state, page)
    return pb.ListReservationsResponse(
        reservations=found, next_page_token=next_token(request, last)
    )


async def _make(tx: Tx, move: domain.Move, order_id: str) -> pb.Reservation:
    reservation = await reservations.one(tx, order_id)
    if not domain.must_move(move, reservation):
        return reservation
    await reservations.move_units(tx, move, order_id)
    return await reservations.enter(tx, order_id, move.end)
