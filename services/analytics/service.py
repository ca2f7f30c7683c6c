"""AnalyticsService: a read model of what the other services publish."""

from __future__ import annotations

from pathlib import Path

from mesh.errors import NotFound, Unavailable
from mesh.events.read_models import current
from mesh.service import Context, Service
from mesh.storage.port import Tx
from services.shared.paging import next_token, open_page
from shop.analytics.v1 import analytics_pb2 as pb
from shop.order.v1.events_pb2 import OrderEvent
from shop.payment.v1.events_pb2 import PaymentEvent
from shop.shipping.v1.events_pb2 import ShipmentEvent
from shop.user.v1.events_pb2 import UserEvent

from . import projection, records

service: Service[None] = Service(
    pb.DESCRIPTOR.services_by_name["AnalyticsService"],
    schema=Path(__file__).parent / "schema",
    read_model=("customers", "orders", "order_lines", "daily_sales", "item_sales"),
)
TOP_ITEMS = 50


@service.on(UserEvent)
async def user_changed(tx: Tx, event: UserEvent) -> None:
    """Follow an account."""
    await projection.user(tx, event)


@service.on(OrderEvent)
async def order_changed(tx: Tx, event: OrderEvent) -> None:
    """Follow an order."""
    await projection.order(tx, event)


@service.on(PaymentEvent)
async def payment_changed(tx: Tx, event: PaymentEvent) -> None:
    """Follow a payment."""
    await projection.payment(tx, event)


@service.on(ShipmentEvent)
async def shipment_changed(tx: Tx, event: ShipmentEvent) -> None:
    """Follow a shipment."""
    await projection.shipment(tx, event)


@service.rpc
async def get_customer(tx: Tx, request: pb.GetCustomerRequest) -> pb.Customer:
    """Return a customer and what they bought."""
    return await records.customer(tx, await current(tx), request.user_id)


@service.rpc
async def list_customer_orders(
    tx: Tx, request: pb.ListCustomerOrdersRequest
) -> pb.ListCustomerOrdersResponse:
    """Return a page of a customer's orders."""
    found, last = await records.orders_of(
        tx, await current(tx), request.user_id, open_page(request)
    )
    return pb.ListCustomerOrdersResponse(orders=found, next_page_token=next_token(request, last))


@service.call
async def get_order_overview(
    ctx: Context[None], request: pb.GetOrderOverviewRequest
) -> pb.OrderOverview:
    """Return an order as soon as it is as new as asked for."""

    async def look(tx: Tx) -> pb.OrderOverview:
        return await records.order(tx, await current(tx), request.order_id)

    while True:
        changed = ctx.changed()  # before reading, so that no change falls in between
        order = await ctx.read(look)
        if order.version >= request.min_version:
            break
        if not await ctx.within_time(changed):
            raise Unavailable(
                "the read model is not there yet", reason="READ_MODEL_BEHIND", retry_after_s=1.0
            )
    if not order.user_id:
        raise NotFound(f"nothing is known of {request.order_id!r:.66}", reason="ORDER_NOT_FOUND")
    return order


@service.rpc
async def list_daily_sales(tx: Tx, request: pb.ListDailySalesRequest) -> pb.ListDailySalesResponse:
    """Return sales by day."""
    days = await records.daily_sales(tx, await current(tx), request.start_date, request.end_date)
    return pb.ListDailySalesResponse(days=days)


@service.rpc
async def list_top_items(tx: Tx, request: pb.ListTopItemsRequest) -> pb.ListTopItemsResponse:
    """Return what brought most."""
    limit = request.page_size or TOP_ITEMS
    items = await records.top_items(tx, await current(tx), request.currency_code, limit)
    return pb.ListTopItemsResponse(items=items)
