"""The books, recomputed from the databases alone: no service runs, no code of theirs is used.

`read_books` reads those of a system that was stopped, `faults` says what can never be right
about them, whatever was ordered. Amounts are in minor units; states are the contracts' names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from mesh.saga.v1 import saga_pb2
from shop.payment.v1 import payment_pb2
from tests.e2e import records
from tests.e2e.records import Amount, Charge, Entry, Event, Order, Reservation, Rows, Stock, Units

OPEN: Final = 0  # a key whose effect is not at its end
#: What each event of a payment leaves it as.
LEAVES: Final = {
    "charge_requested": "PENDING",
    "charged": "CHARGED",
    "declined": "DECLINED",
    "refund_requested": "REFUNDING",
    "refunded": "REFUNDED",
    "refund_denied": "CHARGED",
}
UNFINISHED: Final = ("PENDING", "EXECUTING", "COMPENSATING", "PARKED")


@dataclass(frozen=True)
class Books:
    """All of it. Keys are order ids, but for `stock` (SKUs) and `sagas` (name, order id).

    `open_effects` and `open_keys` are counts by service; nothing should be open.
    """

    users: frozenset[str]
    orders: Mapping[str, Order]
    charges: Mapping[str, tuple[Charge, ...]]
    payments: Mapping[str, tuple[Event, ...]]
    listed_payments: Mapping[str, tuple[str, Amount]]
    ledger: Mapping[str, tuple[Entry, ...]]
    entry_numbers: tuple[int, ...]
    reservations: Mapping[str, Reservation]
    shipments: Mapping[str, tuple[str, Units]]
    sagas: Mapping[tuple[str, str], str]
    stock: Mapping[str, Stock]
    open_effects: Mapping[str, int]
    open_keys: Mapping[str, int]

    def ordered(self, state: str) -> dict[str, Order]:
        """The orders in *state*."""
        return {id_: order for id_, order in self.orders.items() if order.state == state}

    @property
    def states(self) -> Counter[str]:
        """How many orders there are in each state."""
        return Counter(order.state for order in self.orders.values())

    @property
    def net(self) -> Counter[str]:
        """The ledger's charges less its refunds, by currency."""
        net: Counter[str] = Counter()
        for entries in self.ledger.values():
            for entry in entries:
                currency, amount = entry.amount
                net[currency] += amount if entry.kind == "CHARGE" else -amount
        return net

    @property
    def provider_net(self) -> Counter[str]:
        """What the provider has kept, by currency."""
        return _sum(
            charge.amount
            for charges in self.charges.values()
            for charge in charges
            if charge.state == "APPROVED"
        )

    def payment(self, order_id: str) -> tuple[str, Amount] | None:
        """The state of an order's payment and its amount: what its last event left."""
        events = self.payments.get(order_id, ())
        return (LEAVES[events[-1].what], events[-1].amount) if events else None

    def units(self, state: str) -> Counter[str]:
        """The units of all reservations in *state*."""
        units: Counter[str] = Counter()
        for reservation in self.reservations.values():
            if reservation.state == state:
                units.update(reservation.units)
        return units


def read_books(data: Path) -> Books:
    """Read the databases in the folder *data*."""
    with records.reading(data) as rows:
        return _books(rows)


def _books(rows: Rows) -> Books:
    return Books(
        users=frozenset(id_ for (id_,) in rows("user", "SELECT user_id FROM users")),
        orders=records.orders(rows),
        charges=records.charges(rows),
        payments=records.payments(rows),
        listed_payments={
            order_id: (payment_pb2.Payment.State.Name(state), (currency, amount))
            for order_id, state, currency, amount in rows(
                "payment", "SELECT order_id, state, currency, amount_minor FROM payments"
            )
        },
        ledger=records.ledger(rows),
        entry_numbers=tuple(
            number
            for (number,) in rows("payment", "SELECT entry_number FROM ledger_entries ORDER BY 1")
        ),
        reservations=records.reservations(rows),
        shipments=records.shipments(rows),
        sagas={
            (name, key): saga_pb2.Saga.State.Name(state)
            for name, key, state in rows("orchestrator", "SELECT name, key, state FROM mesh_sagas")
        },
        stock={
            sku: Stock(*places)
            for sku, *places in rows(
                "inventory", "SELECT sku, free, reserved, shipped, received FROM stock"
            )
        },
        open_effects=records.count(rows, "SELECT COUNT(*) FROM mesh_effects"),
        open_keys=records.count(rows, f"SELECT COUNT(*) FROM mesh_keys WHERE state = {OPEN}"),
    )


def count_resumed(data: Path) -> int:
    """How many sagas a later life of the orchestrator took up: it raised their fence."""
    with records.reading(data) as rows:
        ((count,),) = rows("orchestrator", "SELECT COUNT(*) FROM mesh_sagas WHERE epoch > 0")
    return int(count)


def check(books: Books) -> None:
    """Fail if anything in *books* can never be right."""
    found = list(faults(books))
    assert not found, f"{len(found)} faults:\n" + "\n".join(found[:20])


def check_same(books: Books, others: Books) -> None:
    """Fail if two books differ in anything at all."""
    found = [
        f"{table.name}: {key} is {is_}, in the other {other}"
        for table in fields(Books)
        for key, is_, other in _differences(getattr(books, table.name), getattr(others, table.name))
    ]
    assert not found, f"{len(found)} differences:\n" + "\n".join(found[:20])


def faults(books: Books) -> Iterator[str]:
    """What can never be right when nothing is under way, a sentence each."""
    yield from _faults_of_orders(books)
    yield from _faults_of_stock(books)
    yield from _faults_of_payments(books)
    if books.net != books.provider_net:
        yield f"the ledger has kept {dict(books.net)}, the provider {dict(books.provider_net)}"
    if books.entry_numbers != tuple(range(1, len(books.entry_numbers) + 1)):
        yield "the ledger has gaps"
    for (name, key), state in books.sagas.items():
        if state in UNFINISHED:
            yield f"saga {name} of {key} is {state}"
    for what, counts in (("effects", books.open_effects), ("keys", books.open_keys)):
        yield from (
            f"{count} {what} are open in {service}" for service, count in counts.items() if count
        )


def _faults_of_orders(books: Books) -> Iterator[str]:
    for order_id, order in books.orders.items():
        if order.sum_of_lines != order.total[1]:
            yield f"order {order_id}: lines of {order.sum_of_lines}, a total of {order.total[1]}"
        rules = {"CONFIRMED": _faults_of_confirmed, "CANCELLED": _faults_of_cancelled}
        if order.state in rules:
            yield from rules[order.state](books, order_id, order)
        else:
            yield f"order {order_id} is {order.state}"
    for name in ("charges", "payments", "ledger", "reservations", "shipments"):
        for order_id in getattr(books, name).keys() - books.orders.keys():
            yield f"{name} of {order_id}, which is no order"


def _faults_of_confirmed(books: Books, order_id: str, order: Order) -> Iterator[str]:
    charge = (Charge("APPROVED", order.total, 0),)
    if books.charges.get(order_id) != charge:
        yield f"order {order_id} is CONFIRMED and has {books.charges.get(order_id)}"
    if books.payment(order_id) != ("CHARGED", order.total):
        yield f"order {order_id} is CONFIRMED, its payment {books.payment(order_id)}"
    moved = [(entry.kind, entry.amount) for entry in books.ledger.get(order_id, ())]
    if moved != [("CHARGE", order.total)]:
        yield f"order {order_id} is CONFIRMED, its ledger {moved}"
    if books.reservations.get(order_id) != Reservation("COMMITTED", order.units):
        yield f"order {order_id} is CONFIRMED, reserved {books.reservations.get(order_id)}"
    state, units = books.shipments.get(order_id, ("", {}))
    if state not in ("RELEASED", "DISPATCHED", "DELIVERED") or units != order.units:
        yield f"order {order_id} is CONFIRMED, its shipment {state!r} of {units}"
    if books.sagas.get(("place_order", order_id)) != "COMPLETED":
        yield f"order {order_id} is CONFIRMED, its saga not COMPLETED"


def _faults_of_cancelled(books: Books, order_id: str, order: Order) -> Iterator[str]:
    charges = books.charges.get(order_id, ())
    if len(charges) > 1 or any(charge.amount != order.total for charge in charges):
        yield f"order {order_id} of {order.total} is CANCELLED and was charged {charges}"
    if any(charge.state == "APPROVED" or charge.refunds > 1 for charge in charges):
        yield f"order {order_id} is CANCELLED and has {charges}"
    entries = books.ledger.get(order_id, ())
    kinds = [entry.kind for entry in entries]
    if kinds not in ([], ["CHARGE", "REFUND"]) or any(e.amount != order.total for e in entries):
        yield f"order {order_id} is CANCELLED, its ledger {entries}"
    if any(one.debit == other.debit for one, other in pairwise(entries)):
        yield f"order {order_id}: its refund moved money the way its charge did"
    payment, _ = books.payment(order_id) or ("", None)
    if payment not in ("", "DECLINED", "REFUNDED"):
        yield f"order {order_id} is CANCELLED, its payment {payment}"
    reservation = books.reservations.get(order_id)
    if reservation and reservation.state not in ("RELEASED", "RETURNED"):
        yield f"order {order_id} is CANCELLED, its reservation {reservation.state}"
    shipment, _ = books.shipments.get(order_id, ("", None))
    if shipment not in ("", "CANCELLED"):
        yield f"order {order_id} is CANCELLED, its shipment {shipment}"
    placed = books.sagas.get(("place_order", order_id))
    taken_back = books.sagas.get(("cancel_order", order_id))
    if (placed, taken_back) not in (("FAILED", None), ("COMPLETED", "COMPLETED")):
        yield f"order {order_id} is CANCELLED, its sagas {placed} and {taken_back}"


def _faults_of_payments(books: Books) -> Iterator[str]:
    for order_id in books.payments.keys() | books.listed_payments.keys() | books.ledger.keys():
        events = books.payments.get(order_id, ())
        if [event.version for event in events] != [*range(1, len(events) + 1)]:
            yield f"the payment of {order_id} has gaps: {events}"
        if not all(event.principal and event.is_correlated for event in events):
            yield f"nobody knows who paid for {order_id}: {events}"
        if books.payment(order_id) != books.listed_payments.get(order_id):
            listed = books.listed_payments.get(order_id)
            yield f"the payment of {order_id} is {books.payment(order_id)}, listed as {listed}"
        moves = {"charged": "CHARGE", "refunded": "REFUND"}
        moved = [(moves[event.what], event.amount) for event in events if event.what in moves]
        booked = [(entry.kind, entry.amount) for entry in books.ledger.get(order_id, ())]
        if moved != booked:
            yield f"the payment of {order_id} moved {moved}, booked are {booked}"


def _faults_of_stock(books: Books) -> Iterator[str]:
    held, committed = books.units("HELD"), books.units("COMMITTED")
    for sku in held.keys() | committed.keys() | books.stock.keys():
        stock = books.stock.get(sku, Stock(0, 0, 0, 0))
        there = stock.free + stock.reserved + stock.shipped
        if min(stock.free, stock.reserved, stock.shipped) < 0 or there != stock.received:
            yield f"stock of {sku} is {stock}"
        if (stock.reserved, stock.shipped) != (held[sku], committed[sku]):
            yield f"stock of {sku} is {stock}; reservations: {held[sku]}, {committed[sku]} shipped"
    for order_id, reservation in books.reservations.items():
        if reservation.state == "HELD":
            yield f"the reservation of {order_id} is still HELD"


def _differences(one: Any, other: Any) -> Iterator[tuple[Any, Any, Any]]:
    if isinstance(one, Mapping):
        for key in one.keys() | other.keys():
            if one.get(key) != other.get(key):
                yield key, one.get(key), other.get(key)
    elif one != other:
        yield "it", one, other


def _sum(amounts: Iterable[Amount]) -> Counter[str]:
    total: Counter[str] = Counter()
    for currency, amount in amounts:
        total[currency] += amount
    return total
