"""OrderService: one function for each method of `shop.order.v1`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from mesh.service import Context, Service
from mesh.storage.port import Tx
from services.shared.paging import next_token, open_page
from shop.inventory.v1 import inventory_pb2
from shop.order.v1 import order_pb2 as pb
from shop.user.v1 import user_pb2

from . import domain, events, records
from .clients import Clients

service = Service(
    pb.DESCRIPTOR.services_by_name["OrderService"],
    clients=Clients,
    schema=Path(__file__).parent / "schema",
)


@service.rpc
async def create_order(tx: Tx, request: pb.CreateOrderRequest) -> pb.Order:
    """Record an order as PENDING."""
    priced = domain.price_order(request.lines)
    order = await records.insert(tx, request.order_id, request.user_id, priced)
    await tx.publish(events.created(order, priced))
    return order


@service.rpc
async def get_order(tx: Tx, request: pb.GetOrderRequest) -> pb.Order:
    """Return a whole order."""
    return await records.whole(tx, request.order_id)


@service.rpc
async def list_orders(tx: Tx, request: pb.ListOrdersRequest) -> pb.ListOrdersResponse:
    """Return a page of orders, newest first."""
    page = open_page(request)
    rows, last = page.cut(await records.newest(tx, page, request.user_id, request.state))
    return pb.ListOrdersResponse(
        orders=[order for _, order in rows], next_page_token=next_token(request, last)
    )


@service.rpc
async def confirm_order(tx: Tx, request: pb.ConfirmOrderRequest) -> pb.Order:
    """Move a PENDING order to CONFIRMED."""
    return await _move(tx, request.order_id, domain.confirmed)


@service.rpc
async def cancel_order(tx: Tx, request: pb.CancelOrderRequest) -> pb.Order:
    """Move an order to CANCELLED."""
    return await _move(tx, request.order_id, domain.cancelled, request.reason)


@service.call
async def watch_order(
    ctx: Context[Clients], request: pb.WatchOrderRequest
) -> AsyncIterator[pb.WatchOrderResponse]:
    """Send the order now and after each change, until it is settled."""
    sent: domain.State = pb.Order.STATE_UNSPECIFIED

    async def news(tx: Tx) -> pb.Order | None:
        order = await records.brief(tx, request.order_id)
        return None if order.state == sent else await records.whole(tx, request.order_id)

    while sent not in domain.SETTLED:
        changed = ctx.changed()  # before reading, so that no change falls in between
        order = await ctx.read(news)
        if order is None:
            await changed
            continue
        sent = order.state
        yield pb.WatchOrderResponse(order=order, final=sent in domain.SETTLED)


@service.call
async def quote_order(
    ctx: Context[Clients], request: pb.QuoteOrderRequest
) -> pb.QuoteOrderResponse:
    """Price an order and hold it against stock and user, without placing it."""
    skus = {line.sku: None for line in request.lines}
    user, stock = await asyncio.gather(
        ctx.to.user.GetUser(user_pb2.GetUserRequest(user_id=request.user_id)),
        ctx.to.inventory.BatchGetItems(inventory_pb2.BatchGetItemsRequest(skus=skus)),
    )
    own_prices = domain.SALES in ctx.principal.roles
    priced = domain.price_lines(request.lines, stock.items, own_prices=own_prices)
    return domain.quote(priced, stock.items, user)


async def _move(
    tx: Tx, order_id: str, rule: Callable[[domain.State], domain.State], reason: str = ""
) -> pb.Order:
    """Apply *rule*. Where the order is there already, nothing changes."""
    order = await records.brief(tx, order_id)
    state = rule(order.state)
    if state == order.state:
        return order
    order = await records.enter(tx, order_id, state, reason)
    await tx.publish(events.entered(order, reason))
    return order
