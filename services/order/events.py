"""What the order service publishes."""

from __future__ import annotations

from shop.order.v1 import order_pb2 as pb
from shop.order.v1.events_pb2 import OrderCancelled, OrderConfirmed, OrderCreated, OrderEvent

from .domain import Priced


def created(order: pb.Order, priced: Priced) -> OrderEvent:
    """Return that *order* was recorded, with its lines."""
    event = _event(order)
    event.created.CopyFrom(OrderCreated(lines=priced.order_lines(), total=order.total))
    return event


def entered(order: pb.Order, reason: str) -> OrderEvent:
    """Return that *order* is in the state it is in now."""
    event = _event(order)
    if order.state == pb.Order.CONFIRMED:
        event.confirmed.CopyFrom(OrderConfirmed(total=order.total))
    else:
        event.cancelled.CopyFrom(OrderCancelled(reason=reason))
    return event


def _event(order: pb.Order) -> OrderEvent:
    return OrderEvent(order_id=order.order_id, user_id=order.user_id, time=order.update_time)
