"""The rules of orders: what they cost, and which state follows which. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from google.type.money_pb2 import Money

from mesh.errors import InvalidArgument, NotFound, Refused
from services.shared.money import to_minor, to_money
from shop.inventory.v1 import inventory_pb2
from shop.order.v1 import order_pb2 as pb
from shop.user.v1 import user_pb2

State: TypeAlias = "pb.Order.State.ValueType"

#: No order's total is above this many units of its currency.
TOTAL_LIMIT_UNITS = 10**12
#: Whose callers name their own prices.
SALES = "sales"
#: The states in which an order's placing has come to its end.
SETTLED = frozenset({pb.Order.CONFIRMED, pb.Order.CANCELLED})


@dataclass(frozen=True, slots=True)
class Line:
    """Units of one SKU at one price, in minor units of the order's currency."""

    sku: str
    quantity: int
    unit_minor: int

    @property
    def amount_minor(self) -> int:
        """Return what the line costs."""
        return self.quantity * self.unit_minor


@dataclass(frozen=True, slots=True)
class Priced:
    """Lines with their prices, all in one currency."""

    currency: str
    lines: tuple[Line, ...]

    @property
    def total_minor(self) -> int:
        """Return what the lines cost together."""
        return sum(line.amount_minor for line in self.lines)

    def order_lines(self) -> list[pb.OrderLine]:
        """Return the lines as they go over the wire."""
        return [
            pb.OrderLine(
                sku=line.sku,
                quantity=line.quantity,
                unit_price=self.money(line.unit_minor),
                amount=self.money(line.amount_minor),
            )
            for line in self.lines
        ]

    def money(self, minor: int) -> Money:
        """Return an amount of the lines' currency as it goes over the wire."""
        return to_money(self.currency, minor)


def price_order(lines: Iterable[pb.PricedLine]) -> Priced:
    """Return the lines of an order to record, at the prices they bring."""
    return _priced((line.sku, line.quantity, line.unit_price) for line in lines)


def price_lines(
    lines: Sequence[pb.QuoteLine], items: Iterable[inventory_pb2.Item], *, own_prices: bool
) -> Priced:
    """Return *lines* at the price list's prices, or at their own where they may bring one.

    Raises:
        NotFound: a line asks for what is not among *items*.
    """
    price_list = {item.sku: item.unit_price for item in items}
    for line in lines:
        if line.sku not in price_list:
            raise NotFound(f"no item {line.sku!r}", reason="UNKNOWN_SKU", info={"sku": line.sku})

    def price(line: pb.QuoteLine) -> Money:
        own = own_prices and line.HasField("unit_price")
        return line.unit_price if own else price_list[line.sku]

    return _priced((line.sku, line.quantity, price(line)) for line in lines)


def _priced(entries: Iterable[tuple[str, int, Money]]) -> Priced:
    lines, currencies = [], []
    for index, (sku, quantity, unit_price) in enumerate(entries):
        field = f"lines[{index}].unit_price"
        currency, unit_minor = to_minor(unit_price, field)
        currencies.append(currency)
        if currency != currencies[0]:
            raise InvalidArgument(
                violations=[(field, f"is in {currency}, the lines before it in {currencies[0]}")],
                reason="MIXED_CURRENCIES",
            )
        lines.append(Line(sku, quantity, unit_minor))
    priced = Priced(currencies[0], tuple(lines))
    # One minor unit less, so that the limit itself is within it.
    if priced.money(priced.total_minor - 1).units >= TOTAL_LIMIT_UNITS:
        raise InvalidArgument(
            violations=[("lines", f"cost more than {TOTAL_LIMIT_UNITS:,} {priced.currency}")],
            reason="TOTAL_TOO_LARGE",
        )
    return priced


def quote(
    priced: Priced, items: Iterable[inventory_pb2.Item], user: user_pb2.User
) -> pb.QuoteOrderResponse:
    """Return a quote: the prices, held against the stock and the user's state.

    A SKU is available if its free units cover all of the quote's lines that ask for it.
    """
    free = {item.sku: item.stock.free for item in items}
    wanted: Counter[str] = Counter()
    for line in priced.lines:
        wanted[line.sku] += line.quantity
    lines = [
        pb.QuotedLine(
            sku=line.sku,
            quantity=line.quantity,
            unit_price=priced.money(line.unit_minor),
            amount=priced.money(line.amount_minor),
            free=free[line.sku],
            available=wanted[line.sku] <= free[line.sku],
        )
        for line in priced.lines
    ]
    return pb.QuoteOrderResponse(
        lines=lines,
        total=priced.money(priced.total_minor),
        available=all(line.available for line in lines),
        user_state=user.state,
    )


def confirmed(state: State) -> State:
    """Return the state that confirming leads to."""
    if state == pb.Order.CANCELLED:
        raise Refused("the order was cancelled", reason="ORDER_CANCELLED")
    return pb.Order.CONFIRMED


def cancelled(state: State) -> State:
    """Return the state that cancelling leads to; that it may is for the orchestrator to know."""
    return pb.Order.CANCELLED
