"""What the sagas ask of each service: one request each, made from the order alone."""

from collections.abc import Iterable
from typing import TypeAlias

from google.type.money_pb2 import Money
from google.type.postal_address_pb2 import PostalAddress

from shop.inventory.v1 import inventory_pb2 as inventory
from shop.orchestrator.v1.orchestrator_pb2 import PlaceOrderLine, PlaceOrderRequest
from shop.order.v1 import order_pb2 as order
from shop.payment.v1 import payment_pb2 as payment
from shop.shipping.v1 import shipping_pb2 as shipping
from shop.user.v1 import user_pb2 as user

#: Lines that have their price.
Lines: TypeAlias = Iterable[PlaceOrderLine] | Iterable[order.QuotedLine]


def user_of(it: PlaceOrderRequest) -> user.GetUserRequest:
    """Who orders?"""
    return user.GetUserRequest(user_id=it.user_id)


def quote(it: PlaceOrderRequest) -> order.QuoteOrderRequest:
    """What does it cost? Lines that have a price keep it."""
    lines = [order.QuoteLine.FromString(line.SerializeToString()) for line in it.lines]
    return order.QuoteOrderRequest(user_id=it.user_id, lines=lines)


def create(it: PlaceOrderRequest, lines: Lines) -> order.CreateOrderRequest:
    """Write the order down, at the prices of *lines*."""
    priced = [
        order.PricedLine(sku=line.sku, quantity=line.quantity, unit_price=line.unit_price)
        for line in lines
    ]
    return order.CreateOrderRequest(order_id=it.order_id, user_id=it.user_id, lines=priced)


def reserve(it: PlaceOrderRequest) -> inventory.ReserveStockRequest:
    """Hold the goods."""
    lines = [inventory.StockLine(sku=line.sku, quantity=line.quantity) for line in it.lines]
    return inventory.ReserveStockRequest(order_id=it.order_id, lines=lines)


def charge(it: PlaceOrderRequest, total: Money) -> payment.ChargePaymentRequest:
    """Take the money."""
    return payment.ChargePaymentRequest(
        order_id=it.order_id, user_id=it.user_id, amount=total, payment_token=it.payment_token
    )


def ship(it: PlaceOrderRequest, address: PostalAddress) -> shipping.CreateShipmentRequest:
    """Promise the parcel."""
    lines = [shipping.ShipmentLine(sku=line.sku, quantity=line.quantity) for line in it.lines]
    return shipping.CreateShipmentRequest(
        order_id=it.order_id, user_id=it.user_id, address=address, lines=lines
    )
