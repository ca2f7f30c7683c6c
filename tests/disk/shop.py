"""The whole order system on disks that fail, and what must be true of it afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.disk.disk import Disk
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
#: What becomes of them.
DECIDED: Final = {
    name: "CONFIRMED" if scenario.stays else "CANCELLED" for name, scenario in ORDERS.items()
}


async def order_everything(shop: Shop, disk: Disk) -> dict[str, int]:
    """Place all orders at once; return how long the disk's log was when each was decided."""
    decided: dict[str, int] = {}

    async def order(name: str) -> None:
        await shop.place(ORDERS[name], name)
        decided[name] = len(disk.log)

    await asyncio.gather(*map(order, ORDERS))
    return decided


async def close(shop: Shop) -> None:
    """Let the late arrive, then close every database."""
    await shop.cluster.runtime.clock.sleep(60.0)
    for name in SERVICES:
        await shop.cluster.store(name).close()


def states(folder: Path) -> tuple[Books, dict[str, str]]:
    """Read the closed databases; return them and each order's state."""
    books = read_books(folder)
    return books, {name: order.state for name, order in books.orders.items()}
