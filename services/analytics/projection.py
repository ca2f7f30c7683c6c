"""What each event changes in a read model. Its name is the transaction's subscription."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from mesh.storage.port import Tx
from services.shared.money import to_minor
from shop.order.v1.events_pb2 import OrderCreated, OrderEvent
from shop.order.v1.order_pb2 import Order
from shop.payment.v1.events_pb2 import PaymentEvent
from shop.shipping.v1.events_pb2 import ShipmentEvent
from shop.user.v1.events_pb2 import UserEvent

from . import domain


async def user(tx: Tx, event: UserEvent) -> None:
    """Follow an account's state."""
    happened = event.created if event.HasField("created") else event.state_changed
    await tx.execute(
        "INSERT INTO customers (model, user_id, state) VALUES ($1, $2, $3)"
        " ON CONFLICT (model, user_id) DO UPDATE SET state = excluded.state",
        tx.subscription,
        event.user_id,
        happened.state,
    )


async def order(tx: Tx, event: OrderEvent) -> None:
    """Follow an order's state, and what it sells."""
    await _touch(tx, event.order_id, event.user_id, event.time)
    if event.HasField("created"):
        await _record(tx, event, event.created)
    before, currency, total_minor, sold_on = await _enter(tx, event)
    if event.HasField("confirmed"):
        sold_on = domain.day_of(event.time)
        await tx.execute(
            "UPDATE orders SET sold_on = $3 WHERE model = $1 AND order_id = $2",
            tx.subscription,
            event.order_id,
            sold_on,
        )
        await _sell(tx, event.order_id, currency, total_minor, sold_on, 1)
    elif event.HasField("cancelled") and before == Order.CONFIRMED:
        await _sell(tx, event.order_id, currency, total_minor, sold_on, -1)


async def payment(tx: Tx, event: PaymentEvent) -> None:
    """Follow a payment's state."""
    await _touch(tx, event.order_id, event.user_id, event.time)
    await tx.execute(
        "UPDATE orders SET payment_state = $3 WHERE model = $1 AND order_id = $2",
        tx.subscription,
        event.order_id,
        domain.payment_state(event),
    )


async def shipment(tx: Tx, event: ShipmentEvent) -> None:
    """Follow a shipment's state."""
    await _touch(tx, event.order_id, event.user_id, event.time)
    await tx.execute(
        "UPDATE orders SET shipment_state = $3 WHERE model = $1 AND order_id = $2",
        tx.subscription,
        event.order_id,
        event.state,
    )


async def _touch(tx: Tx, order_id: str, user_id: str, time: Timestamp) -> None:
    """Note that something about an order happened; whichever event is here first makes its row."""
    at = domain.seconds(time)
    await tx.execute(
        "INSERT INTO orders (model, order_id, user_id, position, create_time, update_time)"
        " VALUES ($1, $2, $3, $4, $5, $5) ON CONFLICT (model, order_id) DO UPDATE SET update_time ="
        " CASE WHEN orders.update_time < $5 THEN $5 ELSE orders.update_time END",
        tx.subscription,
        order_id,
        user_id,
        domain.position(time, order_id),
        at,
    )


async def _record(tx: Tx, event: OrderEvent, created: OrderCreated) -> None:
    currency, total_minor = to_minor(created.total)
    await tx.execute(
        "UPDATE orders SET currency = $3, total_minor = $4, create_time = $5, position = $6"
        " WHERE model = $1 AND order_id = $2",
        tx.subscription,
        event.order_id,
        currency,
        total_minor,
        domain.seconds(event.time),
        domain.position(event.time, event.order_id),
    )
    for number, line in enumerate(created.lines, 1):
        await tx.execute(
            "INSERT INTO order_lines (model, order_id, number, sku, quantity, amount_minor)"
            " VALUES ($1, $2, $3, $4, $5, $6)",
            tx.subscription,
            event.order_id,
            number,
            line.sku,
            line.quantity,
            to_minor(line.amount)[1],
        )


async def _enter(tx: Tx, event: OrderEvent) -> tuple[int, str, int, str]:
    """Enter the event's state; return the one before, currency, total and day of sale."""
    this = (tx.subscription, event.order_id)
    ((before, currency, total_minor, sold_on),) = await tx.execute(
        "SELECT state, currency, total_minor, sold_on FROM orders"
        " WHERE model = $1 AND order_id = $2",
        *this,
    )
    await tx.execute(
        "UPDATE orders SET state = $3, version = version + 1 WHERE model = $1 AND order_id = $2",
        *this,
        domain.order_state(event),
    )
    return before, currency, total_minor, sold_on


async def _sell(
    tx: Tx, order_id: str, currency: str, total_minor: int, sold_on: str, sign: int
) -> None:
    """Add an order to the sales, or take it off with a *sign* of -1."""
    await tx.execute(
        "INSERT INTO daily_sales (model, date, currency, order_count, revenue_minor)"
        " VALUES ($1, $2, $3, $4, $5) ON CONFLICT (model, date, currency) DO UPDATE"
        " SET order_count = daily_sales.order_count + excluded.order_count,"
        " revenue_minor = daily_sales.revenue_minor + excluded.revenue_minor",
        tx.subscription,
        sold_on,
        currency,
        sign,
        sign * total_minor,
    )
    for sku, quantity, amount_minor in await tx.execute(
        "SELECT sku, quantity, amount_minor FROM order_lines WHERE model = $1 AND order_id = $2",
        tx.subscription,
        order_id,
    ):
        await tx.execute(
            "INSERT INTO item_sales (model, currency, sku, quantity, revenue_minor)"
            " VALUES ($1, $2, $3, $4, $5) ON CONFLICT (model, currency, sku) DO UPDATE"
            " SET quantity = item_sales.quantity + excluded.quantity,"
            " revenue_minor = item_sales.revenue_minor + excluded.revenue_minor",
            tx.subscription,
            currency,
            sku,
            sign * quantity,
            sign * amount_minor,
        )
