"""What the tests put on the shelves, and how they order it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

from google.type.money_pb2 import Money
from google.type.postal_address_pb2 import PostalAddress

from shop.inventory.v1.inventory_pb2 import CreateItemRequest
from shop.inventory.v1.inventory_pb2_grpc import InventoryServiceStub
from shop.user.v1.user_pb2 import Address, CreateUserRequest, SuspendUserRequest
from shop.user.v1.user_pb2_grpc import UserServiceStub
from tests.e2e.system import System

#: What an item costs, and how many there are.
PRICE: Final = Money(currency_code="GBP", units=2, nanos=550_000_000)
PRICE_JSON: Final = {"currencyCode": "GBP", "units": "2", "nanos": 550_000_000}
PRICE_PENCE: Final = 255
STOCK: Final = 100

_numbers = count(1)


@dataclass(frozen=True)
class Customer:
    """Somebody with an address, and an item that nobody else orders."""

    system: System
    user_id: str
    sku: str

    def body(self, order_id: str = "", **changes: Any) -> dict[str, Any]:
        """The JSON of an order of two units; an empty id is left out, as is what is None."""
        body = {
            "orderId": order_id or None,
            "userId": self.user_id,
            "lines": [{"sku": self.sku, "quantity": 2}],
            "paymentToken": "tok_ok",
            "wait": True,
        }
        return {key: value for key, value in {**body, **changes}.items() if value is not None}

    def order(self, order_id: str = "", **changes: Any) -> Any:
        """Place it; it must be accepted."""
        answer = self.system.post("/v1/orders", self.body(order_id or new_id(), **changes))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def stock(self, sku: str = "") -> Mapping[str, int]:
        """How many units of the item are free, reserved and shipped."""
        stock = self.system.read("/v1/items/" + (sku or self.sku))["stock"]
        return {place: int(stock[place]) for place in ("free", "reserved", "shipped")}


def new_id(kind: str = "order") -> str:
    """An id that no other test has."""
    return f"{kind}-{next(_numbers)}"


def customer(system: System, *regions: str, suspended: bool = False) -> Customer:
    """Open an account with an address in each of *regions* (GB), and put an item on the shelf."""
    user_id, sku = new_id("user"), new_id("sku")
    add_item(system, sku)
    with system.channel("user") as channel:
        users = UserServiceStub(channel)
        users.CreateUser(
            CreateUserRequest(
                user_id=user_id,
                email=f"{user_id}@example.com",
                addresses=_addresses(regions or ("GB",)),
            )
        )
        if suspended:
            users.SuspendUser(SuspendUserRequest(user_id=user_id))
    return Customer(system, user_id, sku)


def add_item(system: System, sku: str, *, price: Money = PRICE, quantity: int = STOCK) -> None:
    """Put an item on the price list and on the shelf."""
    with system.channel("inventory") as channel:
        InventoryServiceStub(channel).CreateItem(
            CreateItemRequest(sku=sku, unit_price=price, quantity=quantity)
        )


def _addresses(regions: Sequence[str]) -> list[Address]:
    return [
        Address(
            address_id=region.lower(),
            postal_address=PostalAddress(region_code=region, address_lines=["Somewhere 1"]),
        )
        for region in regions
    ]
