"""The load: real December orders, again and again under new ids, some made to fail or be cancelled.

Each order is drawn from the seed before anything is sent, so that what must become of it is known:
of most of them exactly, of those that are cancelled by chance that it is one of two.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import Enum
from typing import Any, Final

from replay.invoices import Invoices
from replay.plan import Failures, Item, Plan, PlannedOrder, make_plan
from replay.rows import MAX_QUANTITY

#: Where nothing can be sent; each customer has an address there too.
UNSHIPPABLE: Final = "KP"
#: An item that there is none of.
NO_STOCK: Final = Item("SOAK-NONE", "always out of stock", Decimal("1.00"), "soak/none/item")
#: Cancelled this long after it was sent: while it is placed, or when it is confirmed.
CANCEL_AFTER_S: Final = 1.5
#: So many rounds of the orders are in stock.
ROUNDS: Final = 100


class Fate(Enum):
    """What is done to an order, and what becomes of it."""

    PLAIN = "plain"
    UNPRICED = "at list prices"
    SLOW = "paid slowly"
    REPLY_LOST = "paid, and the provider's reply lost"
    DECLINED = "declined"
    OUT_OF_STOCK = "out of stock"
    UNSHIPPABLE = "goes where nothing can be sent"
    CANCELLED = "cancelled by the customer"

    @property
    def ends_as(self) -> frozenset[str]:
        """The states in which the order may end."""
        if self is Fate.CANCELLED:
            return frozenset({"CONFIRMED", "CANCELLED"})
        refused = self in (Fate.DECLINED, Fate.OUT_OF_STOCK, Fate.UNSHIPPABLE)
        return frozenset({"CANCELLED" if refused else "CONFIRMED"})


_SHARES: Final = {
    Fate.PLAIN: 0.42,
    Fate.UNPRICED: 0.10,
    Fate.SLOW: 0.02,
    Fate.REPLY_LOST: 0.04,
    Fate.DECLINED: 0.10,
    Fate.OUT_OF_STOCK: 0.05,
    Fate.UNSHIPPABLE: 0.07,
    Fate.CANCELLED: 0.20,
}
_TOKENS: Final = {
    Fate.DECLINED: "tok_declined",
    Fate.SLOW: "tok_slow",
    Fate.REPLY_LOST: "tok_reply_lost",
}


@dataclass(frozen=True, slots=True)
class Placement:
    """An order that is to be placed."""

    order_id: str
    fate: Fate
    body: Mapping[str, Any]
    total_pence: int
    cancel_after_s: float


def set_up(invoices: Invoices, *, first_day: bool) -> Plan:
    """What has to be there: accounts with an address where nothing can be sent, items, stock."""
    plan = make_plan(invoices, Failures(), only_first_day=first_day)
    return Plan(
        orders=plan.orders,
        users=tuple(
            replace(user, regions=(*user.regions, UNSHIPPABLE), key=f"soak/{user.user_id}")
            for user in plan.users
        ),
        items=(*plan.items, NO_STOCK),
        loads=tuple(
            replace(load, quantity=min(load.quantity * ROUNDS, MAX_QUANTITY)) for load in plan.loads
        ),
    )


def placements(plan: Plan, rng: random.Random) -> Iterator[Placement]:
    """The plan's orders, round after round, as long as there is stock; *rng* draws their fates."""
    prices = {item.sku: item.unit_price for item in plan.items}
    fates, weights = list(_SHARES), list(_SHARES.values())
    for number in range(1, ROUNDS):
        for planned in plan.orders:
            (fate,) = rng.choices(fates, weights)
            yield _placement(planned, number, fate, prices, rng)


def _placement(
    planned: PlannedOrder,
    number: int,
    fate: Fate,
    prices: Mapping[str, Decimal],
    rng: random.Random,
) -> Placement:
    order_id = f"{planned.order.order_id}.{number}"
    body = {**planned.body(), "orderId": order_id}
    lines: Sequence[dict[str, Any]] = body["lines"]
    total = planned.order.total
    if fate is Fate.UNPRICED:
        body["lines"] = [{k: v for k, v in line.items() if k != "unitPrice"} for line in lines]
        total = sum((prices[sku] * n for sku, n in planned.order.quantities.items()), Decimal())
    if fate is Fate.OUT_OF_STOCK:
        missing = {"sku": NO_STOCK.sku, "quantity": "1", "unitPrice": lines[0]["unitPrice"]}
        body["lines"] = [*lines[:499], missing]
    if fate is Fate.UNSHIPPABLE:
        body["addressId"] = UNSHIPPABLE.lower()
    body["paymentToken"] = _TOKENS.get(fate, "tok_ok")
    return Placement(
        order_id=order_id,
        fate=fate,
        body=body,
        total_pence=int(total * 100),
        cancel_after_s=rng.uniform(0, CANCEL_AFTER_S),
    )
