"""Orders in the database.

An order is read *brief*, without its lines and history, or whole. Replies to changes are brief:
the mesh keeps them for ever, and 500 lines would not fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mesh.errors import AlreadyExists, NotFound
from mesh.storage.port import Tx
from services.shared.money import to_money
from services.shared.paging import Page
from services.shared.times import to_timestamp
from shop.order.v1 import order_pb2 as pb

from .domain import Line, Priced


async def insert(tx: Tx, order_id: str, user_id: str, priced: Priced) -> pb.Order:
    """Record a new order as PENDING; refuse if its id is taken."""
    now = tx.now()
    rows = await tx.execute(
        "INSERT INTO orders (order_id, position, user_id, currency, total_minor, state,"
        " create_time, update_time) VALUES ($1, $2, $3, $4, $5, $6, $7, $7)"
        " ON CONFLICT (order_id) DO NOTHING"
        " RETURNING order_id, user_id, currency, total_minor, state, create_time, update_time",
        order_id,
        tx.new_id(),
        user_id,
        priced.currency,
        priced.total_minor,
        pb.Order.PENDING,
        now,
    )
    if not rows:
        raise AlreadyExists(f"there is an order {order_id!r}", reason="ORDER_EXISTS")
    for number, line in enumerate(priced.lines, 1):
        await tx.execute(
            "INSERT INTO order_lines (order_id, number, sku, quantity, unit_minor)"
            " VALUES ($1, $2, $3, $4, $5)",
            order_id,
            number,
            line.sku,
            line.quantity,
            line.unit_minor,
        )
    await _record(tx, order_id, pb.Order.PENDING, now)
    return _brief(rows[0])


async def enter(tx: Tx, order_id: str, state: int, reason: str) -> pb.Order:
    """Move an order to another state, and write that into its history."""
    now = tx.now()
    await _record(tx, order_id, state, now, reason)
    rows = await tx.execute(
        "UPDATE orders SET state = $2, update_time = $3 WHERE order_id = $1"
        " RETURNING order_id, user_id, currency, total_minor, state, create_time, update_time",
        order_id,
        state,
        now,
    )
    return _brief(rows[0])


async def brief(tx: Tx, order_id: str) -> pb.Order:
    """Return an order without its lines and history."""
    rows = await tx.execute(
        "SELECT order_id, user_id, currency, total_minor, state, create_time, update_time"
        " FROM orders WHERE order_id = $1",
        order_id,
    )
    if not rows:
        # An id has up to 64 characters; what was asked for may have any number.
        raise NotFound(f"no order {order_id!r:.66}", reason="ORDER_NOT_FOUND")
    return _brief(rows[0])


async def whole(tx: Tx, order_id: str) -> pb.Order:
    """Return an order with its lines and history."""
    order = await brief(tx, order_id)
    currency = order.total.currency_code
    for sku, quantity, unit_minor in await tx.execute(
        "SELECT sku, quantity, unit_minor FROM order_lines WHERE order_id = $1 ORDER BY number",
        order_id,
    ):
        order.lines.add(
            sku=sku,
            quantity=quantity,
            unit_price=to_money(currency, unit_minor),
            amount=to_money(currency, Line(sku, quantity, unit_minor).amount_minor),
        )
    for state, time, reason in await tx.execute(
        "SELECT state, time, reason FROM order_history WHERE order_id = $1 ORDER BY state",
        order_id,
    ):
        order.history.add(state=state, time=to_timestamp(time), reason=reason)
    order.version = len(order.history)  # each state entered is an event published
    return order


async def newest(tx: Tx, page: Page, user_id: str, state: int) -> list[tuple[str, pb.Order]]:
    """Return (position, brief order) of a page; *user_id* "" and *state* 0 are any."""
    if user_id:
        rows = await tx.execute(
            "SELECT position, order_id, user_id, currency, total_minor, state, create_time,"
            " update_time FROM orders"
            " WHERE position < $1 AND ($2 = 0 OR state = $2) AND user_id = $3"
            " ORDER BY position DESC LIMIT $4",
            page.before,
            state,
            user_id,
            page.limit,
        )
    else:
        rows = await tx.execute(
            "SELECT position, order_id, user_id, currency, total_minor, state, create_time,"
            " update_time FROM orders"
            " WHERE position < $1 AND ($2 = 0 OR state = $2)"
            " ORDER BY position DESC LIMIT $3",
            page.before,
            state,
            page.limit,
        )
    return [(position, _brief(order)) for position, *order in rows]


async def _record(tx: Tx, order_id: str, state: int, time: float, reason: str = "") -> None:
    await tx.execute(
        "INSERT INTO order_history (order_id, state, time, reason) VALUES ($1, $2, $3, $4)",
        order_id,
        state,
        time,
        reason,
    )


def _brief(row: Sequence[Any]) -> pb.Order:
    order_id, user_id, currency, total_minor, state, create_time, update_time = row
    return pb.Order(
        order_id=order_id,
        user_id=user_id,
        total=to_money(currency, total_minor),
        state=state,
        create_time=to_timestamp(create_time),
        update_time=to_timestamp(update_time),
    )
