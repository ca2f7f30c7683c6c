"""What the services hold, order by order and SKU by SKU. Pure.

The same shape says what they should hold, so that comparing is comparing two of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import Final, TypeAlias

#: Nested, JSON-ready and small: what a reader wants to see of `Books`.
Summary: TypeAlias = "Mapping[str, str | int | Summary]"

#: How each table of `Books` is called in a difference.
_NOUNS: Final = {
    "orders": "order",
    "payments": "payment of order",
    "reservations": "reservation of order",
    "shipments": "shipment of order",
    "sagas": "saga of order",
    "entries": "ledger entries of order",
    "ledger": "ledger in",
    "provider": "provider in",
    "stock": "stock of",
}


@dataclass(frozen=True, slots=True)
class Payment:
    """An order's payment."""

    state: str
    amount: Decimal

    def __str__(self) -> str:
        return f"{self.state} {self.amount}"


@dataclass(frozen=True, slots=True)
class Reservation:
    """An order's reservation; `units` by SKU."""

    state: str
    units: Mapping[str, int]

    def __str__(self) -> str:
        return f"{self.state} {sum(self.units.values())} units of {len(self.units)} SKUs"


@dataclass(frozen=True, slots=True)
class Totals:
    """Money moved in one currency, and how often."""

    charged: Decimal = Decimal("0.00")
    refunded: Decimal = Decimal("0.00")
    charges: int = 0
    refunds: int = 0

    @property
    def net(self) -> Decimal:
        """What was kept."""
        return self.charged - self.refunded

    def __str__(self) -> str:
        return (
            f"{self.charged} charged in {self.charges},"
            f" {self.refunded} refunded in {self.refunds}, net {self.net}"
        )


@dataclass(frozen=True, slots=True)
class Stock:
    """Units of one SKU."""

    free: int = 0
    reserved: int = 0
    shipped: int = 0

    def __str__(self) -> str:
        return f"{self.free} free, {self.reserved} reserved, {self.shipped} shipped"


@dataclass(frozen=True, slots=True)
class Entry:
    """A ledger entry, as far as it must be right: `kind` is CHARGE or REFUND."""

    kind: str
    currency: str
    amount: Decimal

    def __str__(self) -> str:
        return f"{self.kind} {self.amount} {self.currency}"


@dataclass(frozen=True, slots=True)
class Books:
    """Everything the services hold of orders.

    Keys are order ids, but for `ledger` and `provider` (currency codes) and `stock` (SKUs). States
    are the names that the contracts give them.
    """

    orders: Mapping[str, str] = field(default_factory=dict)
    payments: Mapping[str, Payment] = field(default_factory=dict)
    reservations: Mapping[str, Reservation] = field(default_factory=dict)
    shipments: Mapping[str, str] = field(default_factory=dict)
    sagas: Mapping[str, str] = field(default_factory=dict)
    entries: Mapping[str, tuple[Entry, ...]] = field(default_factory=dict)
    ledger: Mapping[str, Totals] = field(default_factory=dict)
    provider: Mapping[str, Totals] = field(default_factory=dict)
    stock: Mapping[str, Stock] = field(default_factory=dict)


def add_up(entries: Iterable[Entry]) -> dict[str, Totals]:
    """The totals of ledger entries, by currency."""
    totals: dict[str, Totals] = {}
    for entry in entries:
        so_far = totals.get(entry.currency, Totals())
        if entry.kind == "CHARGE":
            totals[entry.currency] = Totals(
                so_far.charged + entry.amount,
                so_far.refunded,
                so_far.charges + 1,
                so_far.refunds,
            )
        else:
            totals[entry.currency] = Totals(
                so_far.charged,
                so_far.refunded + entry.amount,
                so_far.charges,
                so_far.refunds + 1,
            )
    return totals


def differences(actual: Books, expected: Books) -> Iterator[str]:
    """Where two books differ, a sentence each."""
    for table in fields(Books):
        found, wanted = getattr(actual, table.name), getattr(expected, table.name)
        for key in sorted(found.keys() | wanted.keys()):
            is_, should = found.get(key), wanted.get(key)
            if is_ != should:
                yield f"{_NOUNS[table.name]} {key}: {_shown(is_)}, expected {_shown(should)}"


def summarize(books: Books) -> Summary:
    """Count the states, add up the stock."""
    stock = books.stock.values()
    return {
        "orders": _count(books.orders.values()),
        "payments": _count(payment.state for payment in books.payments.values()),
        "ledger": {currency: _money(totals) for currency, totals in books.ledger.items()},
        "provider": {currency: _money(totals) for currency, totals in books.provider.items()},
        "reservations": _count(kept.state for kept in books.reservations.values()),
        "shipments": _count(books.shipments.values()),
        "stock": {
            "skus": len(stock),
            "free": sum(units.free for units in stock),
            "reserved": sum(units.reserved for units in stock),
            "shipped": sum(units.shipped for units in stock),
            "skus_with_free": sum(units.free != 0 for units in stock),
            "skus_with_reserved": sum(units.reserved != 0 for units in stock),
        },
        "sagas": _count(books.sagas.values()),
    }


def _count(states: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(states).items()))


def _money(totals: Totals) -> dict[str, str | int]:
    return {
        "charged": str(totals.charged),
        "refunded": str(totals.refunded),
        "net": str(totals.net),
        "charges": totals.charges,
        "refunds": totals.refunds,
    }


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "none" if value is None else str(value)
