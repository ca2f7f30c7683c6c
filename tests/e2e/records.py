"""What the databases hold, read from them alone: what an order, a charge, a shipment is there.

Amounts are in minor units; states are the contracts' names.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from shop.inventory.v1 import inventory_pb2
from shop.order.v1 import order_pb2
from shop.payment.v1 import payment_pb2
from shop.provider.v1 import provider_pb2
from shop.shipping.v1 import shipping_pb2
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer

#: Units by SKU.
Units: TypeAlias = Mapping[str, int]
#: (currency, amount).
Amount: TypeAlias = tuple[str, int]
#: What a query finds in a service's database.
Rows: TypeAlias = Callable[[str, str], list[tuple[Any, ...]]]

#: Every service's database; `mesh_effects` is in each of them.
DATABASES: Final = ("user", "order", "inventory", "payment", "shipping", "orchestrator", "provider")


@dataclass(frozen=True)
class Order:
    """An order, with what its lines add up to."""

    state: str
    total: Amount
    sum_of_lines: int
    units: Units


@dataclass(frozen=True)
class Charge:
    """What the provider knows of a charge."""

    state: str
    amount: Amount
    refunds: int


@dataclass(frozen=True)
class Event:
    """What happened to a payment, and by whom."""

    version: int
    what: str
    amount: Amount
    principal: str
    is_correlated: bool  # the ids differ from run to run


@dataclass(frozen=True)
class Entry:
    """What the ledger says of a movement."""

    kind: str
    amount: Amount
    debit: str
    credit: str


@dataclass(frozen=True)
class Reservation:
    """Units set aside for an order."""

    state: str
    units: Units


@dataclass(frozen=True)
class Stock:
    """Units of one SKU."""

    free: int
    reserved: int
    shipped: int
    received: int


@contextmanager
def reading(data: Path) -> Iterator[Rows]:
    """Yield what reads the databases of a system that was stopped, whichever engine it ran on."""
    if not (data / "postgres").exists():
        yield lambda service, query: _rows_of_file(data / f"{service}.db", query)
        return
    server = PostgresServer(data / "postgres", free_port(), "")
    server.start()
    try:
        yield lambda service, query: asyncio.run(server.rows(service, query))
    finally:
        server.stop()


def _rows_of_file(file: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        return database.execute(query).fetchall()


def count(rows: Rows, query: str) -> dict[str, int]:
    return {name: int(rows(name, query)[0][0]) for name in DATABASES}


def _units_in(rows: Rows, service: str, table: str) -> dict[str, Counter[str]]:
    units: dict[str, Counter[str]] = {}
    for order_id, sku, quantity in rows(service, f"SELECT order_id, sku, quantity FROM {table}"):
        units.setdefault(order_id, Counter())[sku] += quantity
    return units


def orders(rows: Rows) -> dict[str, Order]:
    units = _units_in(rows, "order", "order_lines")
    sums: dict[str, int] = dict(
        rows(
            "order",
            "SELECT order_id, SUM(quantity * unit_minor) FROM order_lines GROUP BY order_id",
        )
    )
    return {
        order_id: Order(
            order_pb2.Order.State.Name(state),
            (currency, total),
            int(sums[order_id]),
            units[order_id],
        )
        for order_id, state, currency, total in rows(
            "order", "SELECT order_id, state, currency, total_minor FROM orders"
        )
    }


def charges(rows: Rows) -> dict[str, tuple[Charge, ...]]:
    refunds = Counter(key for (key,) in rows("provider", "SELECT charge_key FROM refunds"))
    charges: dict[str, tuple[Charge, ...]] = {}
    for key, reference, state, currency, amount in rows(
        "provider", "SELECT key, reference, state, currency, amount_minor FROM charges"
    ):
        charge = Charge(provider_pb2.Charge.State.Name(state), (currency, amount), refunds[key])
        charges[reference] = (*charges.get(reference, ()), charge)
    return charges


def payments(rows: Rows) -> dict[str, tuple[Event, ...]]:
    payments: dict[str, tuple[Event, ...]] = {}
    for order_id, version, what, currency, amount, principal, correlation_id in rows(
        "payment",
        "SELECT order_id, version, what, currency, amount_minor, principal, correlation_id"
        " FROM payment_events ORDER BY order_id, version",
    ):
        event = Event(version, what, (currency, amount), principal, bool(correlation_id))
        payments[order_id] = (*payments.get(order_id, ()), event)
    return payments


def ledger(rows: Rows) -> dict[str, tuple[Entry, ...]]:
    ledger: dict[str, tuple[Entry, ...]] = {}
    for order_id, kind, currency, amount, debit, credit in rows(
        "payment",
        "SELECT order_id, kind, currency, amount_minor, debit_account, credit_account"
        " FROM ledger_entries ORDER BY entry_number",
    ):
        name = payment_pb2.LedgerEntry.Kind.Name(kind)
        entry = Entry(name, (currency, amount), debit, credit)
        ledger[order_id] = (*ledger.get(order_id, ()), entry)
    return ledger


def reservations(rows: Rows) -> dict[str, Reservation]:
    units = _units_in(rows, "inventory", "reservation_lines")
    return {
        order_id: Reservation(inventory_pb2.Reservation.State.Name(state), units[order_id])
        for order_id, state in rows("inventory", "SELECT order_id, state FROM reservations")
    }


def shipments(rows: Rows) -> dict[str, tuple[str, Units]]:
    units = _units_in(rows, "shipping", "shipment_lines")
    return {
        order_id: (shipping_pb2.Shipment.State.Name(state), units[order_id])
        for order_id, state in rows("shipping", "SELECT order_id, state FROM shipments")
    }
