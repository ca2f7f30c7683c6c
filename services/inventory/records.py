"""Items and their stock in the database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mesh.errors import AlreadyExists, NotFound
from mesh.storage.port import Tx
from services.shared.money import to_minor, to_money
from services.shared.paging import Page
from services.shared.times import to_timestamp
from shop.inventory.v1 import inventory_pb2 as pb

_ITEM = (
    "SELECT sku, description, currency, price_minor, free, reserved, shipped, received,"
    " create_time, update_time FROM items JOIN stock USING (sku)"
)
_STOCK = "SELECT sku, free, reserved, shipped, received FROM stock"


async def add_item(tx: Tx, request: pb.CreateItemRequest) -> None:
    """Record a new item and its first stock; refuse if the SKU is taken."""
    currency, price_minor = to_minor(request.unit_price, "unit_price")
    rows = await tx.execute(
        "INSERT INTO items (sku, description, currency, price_minor, create_time, update_time)"
        " VALUES ($1, $2, $3, $4, $5, $5) ON CONFLICT (sku) DO NOTHING RETURNING sku",
        request.sku,
        request.description,
        currency,
        price_minor,
        tx.now(),
    )
    if not rows:
        raise AlreadyExists(f"there is an item {request.sku!r}", reason="SKU_TAKEN")
    await tx.execute(
        "INSERT INTO stock (sku, free, received) VALUES ($1, $2, $2)", request.sku, request.quantity
    )


async def item(tx: Tx, sku: str) -> pb.Item:
    """Return an item with its stock."""
    rows = await tx.execute(f"{_ITEM} WHERE sku = $1", sku)
    if not rows:
        raise _unknown(sku)
    return _item(rows[0])


async def items(tx: Tx, skus: Sequence[str]) -> dict[str, pb.Item]:
    """Return those of the items *skus* that there are."""
    rows = await tx.execute(f"{_ITEM} WHERE sku IN ({placeholders(skus)})", *skus)
    return {row[0]: _item(row) for row in rows}


async def save_item(tx: Tx, changed: pb.Item) -> None:
    """Record an item's description and price."""
    currency, price_minor = to_minor(changed.unit_price, "item.unit_price")
    await tx.execute(
        "UPDATE items SET description = $2, currency = $3, price_minor = $4, update_time = $5"
        " WHERE sku = $1",
        changed.sku,
        changed.description,
        currency,
        price_minor,
        tx.now(),
    )


async def restock(tx: Tx, sku: str, quantity: int) -> None:
    """Add free units."""
    rows = await tx.execute(
        "UPDATE stock SET free = free + $2, received = received + $2 WHERE sku = $1 RETURNING free",
        sku,
        quantity,
    )
    if not rows:
        raise _unknown(sku)


async def stock(
    tx: Tx, skus: Sequence[str], in_stock: bool, page: Page
) -> tuple[list[pb.Stock], str]:
    """Return a page of stock by ascending SKU, of all items if *skus* is empty, and its key."""
    among = f" AND sku IN ({placeholders(skus, first=4)})" if skus else ""
    rows, last = page.cut(
        await tx.execute(
            f"{_STOCK} WHERE sku > $1 AND free + reserved >= $2{among} ORDER BY sku LIMIT $3",
            page.after,
            1 if in_stock else 0,
            page.limit,
            *skus,
        )
    )
    return [_stock(*row) for row in rows], last


def placeholders(values: Sequence[object], first: int = 1) -> str:
    """Return ``$1, $2, …``, one for each of *values*."""
    return ", ".join(f"${n}" for n in range(first, first + len(values)))


def _item(row: Sequence[Any]) -> pb.Item:
    sku, description, currency, price_minor, *counts, create_time, update_time = row
    return pb.Item(
        sku=sku,
        description=description,
        unit_price=to_money(currency, price_minor),
        stock=_stock(sku, *counts),
        create_time=to_timestamp(create_time),
        update_time=to_timestamp(update_time),
    )


def _stock(sku: str, free: int, reserved: int, shipped: int, received: int) -> pb.Stock:
    return pb.Stock(sku=sku, free=free, reserved=reserved, shipped=shipped, received=received)


def _unknown(sku: str) -> NotFound:
    return NotFound(f"no item {sku!r}", reason="UNKNOWN_SKU", info={"sku": sku})
