"""What is read from a read model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mesh.errors import NotFound
from mesh.storage.port import Tx
from services.shared.money import to_money
from services.shared.paging import Page
from services.shared.times import to_timestamp
from shop.analytics.v1 import analytics_pb2 as pb
from shop.order.v1.order_pb2 import Order
from shop.user.v1.user_pb2 import User

DAYS_MAX = 1000
_OVERVIEW = (
    "SELECT position, order_id, user_id, state, currency, total_minor, payment_state,"
    " shipment_state, create_time, update_time, version FROM orders"
)


async def customer(tx: Tx, model: str, user_id: str) -> pb.Customer:
    """Return a customer and the sums over their orders."""
    known = await tx.execute(
        "SELECT state FROM customers WHERE model = $1 AND user_id = $2", model, user_id
    )
    sums = await tx.execute(
        "SELECT state, currency, COUNT(*), CAST(SUM(total_minor) AS BIGINT) FROM orders"
        " WHERE model = $1 AND user_id = $2 GROUP BY state, currency ORDER BY currency",
        model,
        user_id,
    )
    if not known and not sums:
        raise NotFound(f"nothing is known of {user_id!r:.66}", reason="CUSTOMER_NOT_FOUND")
    confirmed = [row for row in sums if row[0] == Order.CONFIRMED]
    return pb.Customer(
        user_id=user_id,
        state=known[0][0] if known else User.STATE_UNSPECIFIED,
        order_count=sum(count for _, _, count, _ in sums),
        confirmed_count=sum(count for _, _, count, _ in confirmed),
        spent=[to_money(currency, minor) for _, currency, _, minor in confirmed],
    )


async def orders_of(
    tx: Tx, model: str, user_id: str, page: Page
) -> tuple[list[pb.OrderOverview], str]:
    """Return a page of a customer's orders, the newest first, and its key."""
    rows, last = page.cut(
        await tx.execute(
            f"{_OVERVIEW} WHERE model = $1 AND user_id = $2 AND position < $3"
            " ORDER BY position DESC LIMIT $4",
            model,
            user_id,
            page.before,
            page.limit,
        )
    )
    return [_overview(row) for row in rows], last


async def order(tx: Tx, model: str, order_id: str) -> pb.OrderOverview:
    """Return one order, empty but for its id if no event of it has arrived."""
    rows = await tx.execute(f"{_OVERVIEW} WHERE model = $1 AND order_id = $2", model, order_id)
    return _overview(rows[0]) if rows else pb.OrderOverview(order_id=order_id)


async def daily_sales(tx: Tx, model: str, first: str, last: str) -> list[pb.DailySales]:
    """Return the sales of days from *first* to *last*, "" being without a bound."""
    rows = await tx.execute(
        "SELECT date, currency, order_count, revenue_minor FROM daily_sales WHERE model = $1"
        " AND date >= $2 AND ($3 = '' OR date <= $3) AND order_count > 0"
        " ORDER BY date, currency LIMIT $4",
        model,
        first,
        last,
        DAYS_MAX,
    )
    return [
        pb.DailySales(date=date, order_count=count, revenue=to_money(currency, minor))
        for date, currency, count, minor in rows
    ]


async def top_items(tx: Tx, model: str, currency: str, limit: int) -> list[pb.ItemSales]:
    """Return the items that brought most."""
    rows = await tx.execute(
        "SELECT sku, quantity, revenue_minor FROM item_sales WHERE model = $1 AND currency = $2"
        " AND quantity > 0 ORDER BY revenue_minor DESC, sku LIMIT $3",
        model,
        currency,
        limit,
    )
    return [
        pb.ItemSales(sku=sku, quantity=quantity, revenue=to_money(currency, minor))
        for sku, quantity, minor in rows
    ]


def _overview(row: Sequence[Any]) -> pb.OrderOverview:
    _, order_id, user_id, state, currency, total_minor, payment, shipment, *rest = row
    create_time, update_time, version = rest
    return pb.OrderOverview(
        order_id=order_id,
        user_id=user_id,
        state=state,
        total=to_money(currency, total_minor) if currency else None,
        payment_state=payment,
        shipment_state=shipment,
        create_time=to_timestamp(create_time),
        update_time=to_timestamp(update_time),
        version=version,
    )
