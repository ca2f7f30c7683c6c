"""Orders of every fate, placed at once, and where they are found afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from tests.e2e.books import Books, read_books
from tests.saga.shop import SERVICES, Scenario, Shop

#: Each is placed at once with the others. The shelf holds ten.
ORDERS: Final[Mapping[str, Scenario]] = {
    "confirmed-1": Scenario("success", quantity=2),
    "confirmed-2": Scenario("success", quantity=3),
    "declined": Scenario("declined", "CARD_DECLINED", token="tok_declined", quantity=1),
    "unshippable": Scenario("unshippable", "UNSHIPPABLE_ADDRESS", user_id="kim", quantity=1),
    "taken-back": Scenario("cancelled when confirmed", cancel=True, quantity=1),
}
#: With one that the provider takes two seconds for.
WITH_SLOW: Final = {**ORDERS, "slow": Scenario("success", token="tok_slow", quantity=1)}


def fates(orders: Mapping[str, Scenario]) -> dict[str, str]:
    """What becomes of *orders*."""
    return {name: "CONFIRMED" if one.stays else "CANCELLED" for name, one in orders.items()}


DECIDED: Final = fates(ORDERS)


async def order_everything(
    shop: Shop,
    orders: Mapping[str, Scenario] = ORDERS,
    decided: Callable[[str], None] = lambda name: None,
) -> None:
    """Place all orders at once; *decided* is told of each as soon as the customer knows."""

    async def order(name: str) -> None:
        await shop.place(orders[name], name)
        decided(name)

    await asyncio.gather(*map(order, orders))


async def close(shop: Shop) -> None:
    """Let the late arrive, then close every database."""
    await shop.cluster.runtime.clock.sleep(60.0)
    for name in SERVICES:
        await shop.cluster.store(name).close()


def states(folder: Path) -> tuple[Books, dict[str, str]]:
    """Read the closed databases; return them and each order's state."""
    books = read_books(folder)
    return books, {name: order.state for name, order in books.orders.items()}
