"""What a run places and loads, decided before anything is sent. Pure and deterministic.

Three things make a run safe to repeat, under the same options or others:

- An order's id is its invoice number, and the id is its key.
- Users and items are made from the whole file, however few of its orders are placed.
- Stock is loaded in two tranches, the file's first trading day and the rest, each under keys of its
  own: what a run of the first day loaded, a run of the whole file does not load again. A tranche
  holds what all its orders need, also those that are meant to fail.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Any, Final

from replay.invoices import MAX_LINES, Invoices, Order, first_day
from replay.money import to_json
from replay.rows import MAX_QUANTITY, Line

MAX_KEY: Final = 128
TOKEN_OK: Final = "tok_ok"  # noqa: S105
TOKEN_DECLINED: Final = "tok_declined"  # noqa: S105
FIRST_DAY, REST = "first-day", "rest"

_PLAIN: Final = re.compile(r"[A-Za-z0-9._~@-]*")


class Outcome(Enum):
    """What is to become of an order."""

    CONFIRMED = "confirmed"
    DECLINED = "declined"
    OUT_OF_STOCK = "out of stock"


@dataclass(frozen=True, slots=True)
class Failures:
    """Which share of the orders is made to fail, from 0 to 1, and the seed that picks them."""

    decline: float = 0.0
    short_stock: float = 0.0
    seed: int = 0

    def outcome(self, order_id: str) -> Outcome:
        """What is to become of an order: the same in every run of the same seed and shares."""
        digest = hashlib.sha256(f"{self.seed}/{order_id}".encode()).digest()
        draw = int.from_bytes(digest[:8]) / 2**64
        if draw < self.decline:
            return Outcome.DECLINED
        if draw < self.decline + self.short_stock:
            return Outcome.OUT_OF_STOCK
        return Outcome.CONFIRMED


@dataclass(frozen=True, slots=True)
class PlannedOrder:
    """An order, and what is to become of it."""

    order: Order
    outcome: Outcome

    @property
    def lines(self) -> tuple[Line, ...]:
        """Its lines; if stock is to be short, with one of an item that there is none of."""
        if self.outcome is not Outcome.OUT_OF_STOCK:
            return self.order.lines
        return *self.order.lines[: MAX_LINES - 1], Line(self.short_sku, 1, Decimal("1.00"))

    @property
    def short_sku(self) -> str:
        """The item that is always out of stock. Its own, so that no other order is touched."""
        return f"SHORT-{self.order.order_id}"

    def body(self) -> dict[str, Any]:
        """The JSON that places it."""
        return {
            "orderId": self.order.order_id,
            "userId": self.order.user_id,
            "addressId": address_id(self.order.region),
            "lines": [
                {
                    "sku": line.sku,
                    "quantity": line.quantity,
                    "unitPrice": to_json(line.unit_price),
                }
                for line in self.lines
            ],
            "paymentToken": TOKEN_DECLINED if self.outcome is Outcome.DECLINED else TOKEN_OK,
            "wait": True,
        }


@dataclass(frozen=True, slots=True)
class User:
    """An account to open; `regions`: one address in each, the first being the default."""

    user_id: str
    regions: tuple[str, ...]
    key: str


@dataclass(frozen=True, slots=True)
class Item:
    """An item to put on the price list, without stock."""

    sku: str
    description: str
    unit_price: Decimal
    key: str


@dataclass(frozen=True, slots=True)
class Load:
    """Units to add to an item's free stock."""

    sku: str
    quantity: int
    key: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A run: what has to be there, and the orders to place, in the file's sequence."""

    orders: tuple[PlannedOrder, ...]
    users: tuple[User, ...]
    items: tuple[Item, ...]
    loads: tuple[Load, ...]


def make_plan(
    invoices: Invoices,
    failures: Failures,
    *,
    only_first_day: bool = False,
    limit: int | None = None,
) -> Plan:
    """Plan a run of a file's orders: of the first trading day only, of the first `limit` only."""
    day = first_day(invoices.orders)
    chosen = [order for order in invoices.orders if not only_first_day or order.day == day]
    orders = [PlannedOrder(order, failures.outcome(order.order_id)) for order in chosen[:limit]]
    tranches: dict[str, Counter[str]] = {}
    needed = {_tranche(planned.order, first=day == planned.order.day) for planned in orders}
    for order in invoices.orders:
        tranche = _tranche(order, first=day == order.day)
        if tranche in needed:
            tranches.setdefault(tranche, Counter()).update(order.quantities)
    skus = {sku for units in tranches.values() for sku in units}
    return Plan(
        orders=tuple(orders),
        users=tuple(_users(invoices, {planned.order.user_id for planned in orders})),
        items=(*_items(invoices, skus), *_short_items(invoices.digest, orders)),
        loads=tuple(_loads(invoices.digest, tranches)),
    )


def make_key(*parts: str) -> str:
    """An idempotency key: the parts themselves where they are short and plain, else their hash.

    A key travels as a header, which carries neither every character of a SKU nor any length.
    """
    text = "/".join(parts)
    if len(text) <= MAX_KEY and all(map(_PLAIN.fullmatch, parts)):
        return text
    return f"sha256:{hashlib.sha256(json.dumps(parts).encode()).hexdigest()}"


def address_id(region: str) -> str:
    """The id of a customer's address in a region."""
    return region.lower()


def _tranche(order: Order, *, first: bool) -> str:
    return FIRST_DAY if first else REST


def _users(invoices: Invoices, wanted: set[str]) -> Iterator[User]:
    regions: dict[str, dict[str, None]] = {}
    for order in invoices.orders:
        if order.user_id in wanted:
            regions.setdefault(order.user_id, {})[order.region] = None
    for user_id, where in regions.items():
        yield User(user_id, tuple(where), make_key(invoices.digest, user_id, "user"))


def _items(invoices: Invoices, wanted: set[str]) -> Iterator[Item]:
    """The list price of an item is the one that most lines have; of several, the earliest."""
    prices: dict[str, Counter[Decimal]] = {}
    for order in invoices.orders:
        for line in order.lines:
            if line.sku in wanted:
                prices.setdefault(line.sku, Counter())[line.unit_price] += 1
    for sku, counts in prices.items():
        [(price, _)] = counts.most_common(1)
        key = make_key(invoices.digest, sku, "item")
        yield Item(sku, invoices.descriptions[sku], price, key)


def _short_items(digest: str, orders: Iterable[PlannedOrder]) -> Iterator[Item]:
    for planned in orders:
        if planned.outcome is Outcome.OUT_OF_STOCK:
            sku = planned.short_sku
            yield Item(sku, "always out of stock", Decimal("1.00"), make_key(digest, sku, "item"))


def _loads(digest: str, tranches: Mapping[str, Mapping[str, int]]) -> Iterator[Load]:
    for tranche, units in tranches.items():
        for sku, quantity in units.items():
            for part, start in enumerate(range(0, quantity, MAX_QUANTITY)):
                key = make_key(digest, sku, "stock", tranche, *([str(part)] if part else []))
                yield Load(sku, min(MAX_QUANTITY, quantity - start), key)
