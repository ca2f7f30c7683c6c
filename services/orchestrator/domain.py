"""Pure rules of the orchestrator."""

import re

from google.type.postal_address_pb2 import PostalAddress

from mesh.errors import InvalidArgument, NotFound, Refused
from services.shared.money import to_minor
from shop.orchestrator.v1.orchestrator_pb2 import PlaceOrderRequest
from shop.user.v1.user_pb2 import User

_ORDER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,63}")


def ship_to(user: User, address_id: str) -> PostalAddress:
    """Return where an order of *user* goes: the address they chose, else their default one.

    Raises:
        Refused: the user is suspended, or has no such address.
    """
    if user.state != User.ACTIVE:
        raise Refused("the user is suspended", reason="USER_SUSPENDED")
    wanted = address_id or user.default_address_id
    for address in user.addresses:
        if address.address_id == wanted:
            return address.postal_address
    raise NotFound("the user has no such address", reason="ADDRESS_NOT_FOUND")


def all_priced(order: PlaceOrderRequest) -> bool:
    """Whether every line has a price of its own."""
    return all(line.HasField("unit_price") for line in order.lines)


def order_id(request: PlaceOrderRequest, outside_key: str, own_key: str) -> str:
    """Return the order's id, which is its idempotency key too.

    It is the request's; else the key that came with the call from outside; else *own_key*.

    Raises:
        InvalidArgument: the key from outside is another, or cannot be an order's id.
    """
    if request.order_id and outside_key not in ("", request.order_id):
        raise InvalidArgument(
            violations=[("order_id", "the Idempotency-Key header differs from it")]
        )
    chosen = request.order_id or outside_key or own_key
    if not _ORDER_ID.fullmatch(chosen):
        raise InvalidArgument(
            violations=[("order_id", "the Idempotency-Key header cannot be an order's id")]
        )
    return chosen


def to_place(request: PlaceOrderRequest, order_id: str, may_price: bool) -> PlaceOrderRequest:
    """Return what the saga is to do: without `wait`, which is no part of the order.

    Prices are kept only if the caller may set them; otherwise the price list holds.
    """
    order = PlaceOrderRequest()
    order.CopyFrom(request)
    order.order_id = order_id
    order.wait = False
    if not may_price:
        for line in order.lines:
            line.ClearField("unit_price")
    return order


def check_prices(order: PlaceOrderRequest) -> None:
    """Check that what prices there are can be paid: whole minor units of one currency.

    Raises:
        InvalidArgument: they cannot.
    """
    currencies = {
        to_minor(line.unit_price, f"lines[{number}].unit_price")[0]
        for number, line in enumerate(order.lines)
        if line.HasField("unit_price")
    }
    if len(currencies) > 1:
        raise InvalidArgument(violations=[("lines", "an order has prices of one currency")])
