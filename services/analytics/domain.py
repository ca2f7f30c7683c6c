"""Pure rules of the read model: what an event changes."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.timestamp_pb2 import Timestamp

from shop.order.v1.events_pb2 import OrderEvent
from shop.order.v1.order_pb2 import Order
from shop.payment.v1.events_pb2 import PaymentEvent
from shop.payment.v1.payment_pb2 import Payment

_ORDER_STATES: Mapping[str, Order.State.ValueType] = {
    "created": Order.PENDING,
    "confirmed": Order.CONFIRMED,
    "cancelled": Order.CANCELLED,
}
_PAYMENT_STATES: Mapping[str, Payment.State.ValueType] = {
    "charge_requested": Payment.PENDING,
    "charged": Payment.CHARGED,
    "declined": Payment.DECLINED,
    "refund_requested": Payment.REFUNDING,
    "refunded": Payment.REFUNDED,
    "refund_denied": Payment.CHARGED,
}


def order_state(event: OrderEvent) -> Order.State.ValueType:
    """Return the state an order is in after *event*.

    Raises:
        KeyError: the event is of a kind that this version does not know.
    """
    return _ORDER_STATES[event.WhichOneof("event") or ""]


def payment_state(event: PaymentEvent) -> Payment.State.ValueType:
    """Return the state a payment is in after *event*.

    Raises:
        KeyError: the event is of a kind that this version does not know.
    """
    return _PAYMENT_STATES[event.WhichOneof("event") or ""]


def day_of(time: Timestamp) -> str:
    """Return the day, in UTC, such as ``2010-12-01``."""
    return time.ToDatetime().date().isoformat()


def seconds(time: Timestamp) -> float:
    """Return seconds since the epoch."""
    return time.ToMicroseconds() / 1e6


def position(time: Timestamp, order_id: str) -> str:
    """Return what orders are sorted by: their time, then their id."""
    return f"{time.ToMicroseconds():020}/{order_id}"
