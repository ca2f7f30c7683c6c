"""Reservations in the database, and the units they move."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from mesh.errors import AlreadyExists, NotFound
from mesh.storage.port import Tx
from services.shared.paging import Page
from services.shared.times import to_timestamp
from shop.inventory.v1 import inventory_pb2 as pb

from .domain import RESERVE, Move
from .records import placeholders

_INSERT_LINES = "INSERT INTO reservation_lines (order_id, sku, quantity) VALUES"
_LINES = "SELECT order_id, sku, quantity FROM reservation_lines"


async def add(tx: Tx, order_id: str, wanted: Mapping[str, int]) -> pb.Reservation:
    """Record a reservation, whose units are yet to be moved; refuse if the order has one."""
    rows = await tx.execute(
        "INSERT INTO reservations (order_id, reservation_id, state, create_time, update_time)"
        " VALUES ($1, $2, $3, $4, $4) ON CONFLICT (order_id) DO NOTHING"
        " RETURNING order_id, state, create_time, update_time",
        order_id,
        tx.new_id(),
        RESERVE.end,
        tx.now(),
    )
    if not rows:
        raise AlreadyExists(f"order {order_id!r} has a reservation", reason="ALREADY_RESERVED")
    # All lines in one statement, since each costs a round trip where the database is a server.
    values = ", ".join(f"($1, ${n}, ${n + 1})" for n in range(2, 2 * len(wanted) + 2, 2))
    await tx.execute(f"{_INSERT_LINES} {values}", order_id, *chain.from_iterable(wanted.items()))
    return _reservation(rows[0], wanted.items())


async def free(tx: Tx, order_id: str) -> dict[str, int]:
    """Return how many units are free of each known SKU of a reservation."""
    rows = await tx.execute(
        "SELECT stock.sku, stock.free FROM reservation_lines AS line"
        " JOIN stock ON stock.sku = line.sku WHERE line.order_id = $1",
        order_id,
    )
    return dict(rows)


async def move_units(tx: Tx, move: Move, order_id: str) -> None:
    """Move the units of all lines in one statement; a count below zero fails the table's check."""
    await tx.execute(
        "UPDATE stock SET free = stock.free + line.quantity * $2,"
        " reserved = stock.reserved + line.quantity * $3,"
        " shipped = stock.shipped + line.quantity * $4"
        " FROM reservation_lines AS line WHERE line.order_id = $1 AND stock.sku = line.sku",
        order_id,
        move.free,
        move.reserved,
        move.shipped,
    )


async def enter(tx: Tx, order_id: str, state: int) -> pb.Reservation:
    """Record a reservation's new state."""
    await tx.execute(
        "UPDATE reservations SET state = $2, update_time = $3 WHERE order_id = $1",
        order_id,
        state,
        tx.now(),
    )
    return await one(tx, order_id)


async def one(tx: Tx, order_id: str) -> pb.Reservation:
    """Return an order's reservation."""
    rows = await tx.execute(
        "SELECT order_id, state, create_time, update_time FROM reservations WHERE order_id = $1",
        order_id,
    )
    if not rows:
        raise NotFound(f"order {order_id!r} has no reservation", reason="NO_RESERVATION")
    return _reservation(rows[0], (await _lines(tx, [order_id]))[order_id])


async def newest(tx: Tx, state: int, page: Page) -> tuple[list[pb.Reservation], str]:
    """Return a page of reservations, the newest first, and its key; *state* 0 is any."""
    rows, last = page.cut(
        await tx.execute(
            "SELECT reservation_id, order_id, state, create_time, update_time FROM reservations"
            " WHERE reservation_id < $1 AND ($2 = 0 OR state = $2)"
            " ORDER BY reservation_id DESC LIMIT $3",
            page.before,
            state,
            page.limit,
        )
    )
    lines = await _lines(tx, [order_id for _, order_id, *_ in rows])
    return [_reservation(row, lines[row[0]]) for _, *row in rows], last


async def _lines(tx: Tx, order_ids: Sequence[str]) -> dict[str, list[tuple[str, int]]]:
    """Return the (SKU, quantity) pairs of each of the orders."""
    lines: dict[str, list[tuple[str, int]]] = {order_id: [] for order_id in order_ids}
    if lines:
        among = f"WHERE order_id IN ({placeholders(order_ids)})"
        rows = await tx.execute(f"{_LINES} {among}", *order_ids)
        for order_id, sku, quantity in rows:
            lines[order_id].append((sku, quantity))
    return lines


def _reservation(row: Sequence[Any], lines: Iterable[tuple[str, int]]) -> pb.Reservation:
    order_id, state, create_time, update_time = row
    return pb.Reservation(
        order_id=order_id,
        state=state,
        lines=[pb.StockLine(sku=sku, quantity=quantity) for sku, quantity in sorted(lines)],
        create_time=to_timestamp(create_time),
        update_time=to_timestamp(update_time),
    )
