"""How much orders ask for, in the database: made from what the order service publishes.

Nothing is reserved here. A reservation must be answered before the order is paid for, so it is a
step of the saga; an event has no answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

from mesh.storage.port import Tx
from services.shared.paging import Page
from shop.inventory.v1 import inventory_pb2 as pb

from .records import placeholders

_DEMAND = "SELECT sku, asked, confirmed FROM demand"
_INSERT_OPEN = "INSERT INTO demand_open (order_id, sku, quantity) VALUES"
_ADD = "INSERT INTO demand (sku, asked, confirmed) VALUES"
_ADD_TO_OTHERS = "ON CONFLICT (sku) DO UPDATE SET asked = demand.asked + excluded.asked"


async def ask(tx: Tx, order_id: str, wanted: Mapping[str, int]) -> None:
    """Note that an order asks for so many units of each SKU."""
    flat = [*chain.from_iterable(wanted.items())]
    rows = ", ".join(f"(${n}, ${n + 1}, 0)" for n in range(1, len(flat), 2))
    await tx.execute(f"{_ADD} {rows} {_ADD_TO_OTHERS}", *flat)
    rows = ", ".join(f"($1, ${n}, ${n + 1})" for n in range(2, len(flat) + 1, 2))
    await tx.execute(f"{_INSERT_OPEN} {rows}", order_id, *flat)


async def confirm(tx: Tx, order_id: str) -> None:
    """Note that what an order asks for was sold."""
    await tx.execute(
        "UPDATE demand SET confirmed = demand.confirmed + line.quantity"
        " FROM demand_open AS line WHERE line.order_id = $1 AND demand.sku = line.sku",
        order_id,
    )
    await close(tx, order_id)


async def close(tx: Tx, order_id: str) -> None:
    """Note that an order is decided; what it asked for stays asked for."""
    await tx.execute("DELETE FROM demand_open WHERE order_id = $1", order_id)


async def by_sku(tx: Tx, skus: Sequence[str], page: Page) -> tuple[list[pb.Demand], str]:
    """Return a page of demand by ascending SKU, of all if *skus* is empty, and its last key."""
    among = f" AND sku IN ({placeholders(skus, first=3)})" if skus else ""
    rows, last = page.cut(
        await tx.execute(
            f"{_DEMAND} WHERE sku > $1{among} ORDER BY sku LIMIT $2",
            page.after,
            page.limit,
            *skus,
        )
    )
    return [
        pb.Demand(sku=sku, asked=asked, confirmed=confirmed) for sku, asked, confirmed in rows
    ], last
