"""What the services say of one order, as far as it must agree. Pure.

A fact is a small tuple that JSON can carry, so that a million orders fit on a disk. Amounts are
(currency, billionths of a unit): the messages' own precision, whole numbers. `units` identifies
which units of which SKUs, to be compared and nothing else; "" where the lines were not told, as in
lists of orders and shipments.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from google.type.money_pb2 import Money

from mesh.saga.v1 import saga_pb2
from shop.inventory.v1 import inventory_pb2
from shop.order.v1 import order_pb2
from shop.payment.v1 import payment_pb2
from shop.provider.v1 import provider_pb2
from shop.shipping.v1 import shipping_pb2

NANOS: Final = 1_000_000_000
PLACE, CANCEL = "place_order", "cancel_order"
RUNNING: Final = frozenset({"PENDING", "EXECUTING", "COMPENSATING"})


class Amount(NamedTuple):
    """An amount of money, exactly."""

    currency: str
    nanos: int

    def __str__(self) -> str:
        """As people write it: two digits, or as many as there are."""
        units, nanos = divmod(abs(self.nanos), NANOS)
        fraction = f"{nanos:09}".rstrip("0").ljust(2, "0")
        return f"{'-' if self.nanos < 0 else ''}{units}.{fraction} {self.currency}"


class Order(NamedTuple):
    """The order itself; `lines_nanos`: what its lines add up to, None where they were not told."""

    state: str
    total: Amount
    lines_nanos: int | None
    units: str


class Payment(NamedTuple):
    """What the payment service says of its charge."""

    state: str
    amount: Amount


class Entry(NamedTuple):
    """One movement in the ledger: `kind` is CHARGE or REFUND."""

    kind: str
    amount: Amount


class Charge(NamedTuple):
    """What the provider says of one charge for the order."""

    key: str
    state: str
    amount: Amount


class Reservation(NamedTuple):
    """Units set aside."""

    state: str
    units: str


class Shipment(NamedTuple):
    """The parcel."""

    state: str
    units: str


class Saga(NamedTuple):
    """A saga about the order; `created_at` in seconds since the epoch."""

    name: str
    saga_id: str
    state: str
    created_at: float


Fact: TypeAlias = Order | Payment | Entry | Charge | Reservation | Shipment | Saga


@dataclass(slots=True)
class Facts:
    """All that is known of one order. None, or nothing: no service has heard of it."""

    order_id: str
    order: Order | None = None
    payment: Payment | None = None
    reservation: Reservation | None = None
    shipment: Shipment | None = None
    entries: list[Entry] = field(default_factory=list)
    charges: list[Charge] = field(default_factory=list)
    sagas: list[Saga] = field(default_factory=list)

    def add(self, fact: Fact) -> None:
        """Take in one more."""
        match fact:
            case Order():
                self.order = fact
            case Payment():
                self.payment = fact
            case Reservation():
                self.reservation = fact
            case Shipment():
                self.shipment = fact
            case Entry():
                self.entries.append(fact)
            case Charge():
                self.charges.append(fact)
            case Saga():
                self.sagas.append(fact)

    @property
    def running(self) -> list[Saga]:
        """The sagas that are on their way: while there is one, the services may differ."""
        return [saga for saga in self.sagas if saga.state in RUNNING]

    def saga(self, name: str) -> str:
        """The state of the saga called *name*; "" if there is none (any more)."""
        return next((saga.state for saga in self.sagas if saga.name == name), "")


# --- from the messages ----------------------------------------------------------------------------


class _Line(Protocol):
    sku: str
    quantity: int


def _units(lines: Iterable[_Line]) -> str:
    total: Counter[str] = Counter()
    for line in lines:
        total[line.sku] += line.quantity
    if not total:
        return ""
    text = "\0".join(f"{sku}\0{quantity}" for sku, quantity in sorted(total.items()))
    return blake2b(text.encode(), digest_size=8).hexdigest()


def _amount(money: Money) -> Amount:
    return Amount(money.currency_code, _nanos(money))


def _nanos(money: Money) -> int:
    return money.units * NANOS + money.nanos


def of_order(it: order_pb2.Order) -> Order:
    """What an order's message says."""
    lines = [line.quantity * _nanos(line.unit_price) for line in it.lines]
    state = order_pb2.Order.State.Name(it.state)
    return Order(state, _amount(it.total), sum(lines) if lines else None, _units(it.lines))


def of_payment(it: payment_pb2.Payment) -> Payment:
    """What a payment's message says."""
    return Payment(payment_pb2.Payment.State.Name(it.state), _amount(it.amount))


def of_entry(it: payment_pb2.LedgerEntry) -> Entry:
    """What a ledger entry's message says."""
    return Entry(payment_pb2.LedgerEntry.Kind.Name(it.kind), _amount(it.amount))


def of_charge(it: provider_pb2.Charge) -> Charge:
    """What a charge's message says."""
    return Charge(it.key, provider_pb2.Charge.State.Name(it.state), _amount(it.amount))


def of_reservation(it: inventory_pb2.Reservation) -> Reservation:
    """What a reservation's message says."""
    return Reservation(inventory_pb2.Reservation.State.Name(it.state), _units(it.lines))


def of_shipment(it: shipping_pb2.Shipment) -> Shipment:
    """What a shipment's message says."""
    return Shipment(shipping_pb2.Shipment.State.Name(it.state), _units(it.lines))


def of_saga(it: saga_pb2.Saga) -> Saga:
    """What a saga's message says."""
    created_at = it.create_time.seconds + it.create_time.nanos / NANOS
    return Saga(it.name, it.saga_id, saga_pb2.Saga.State.Name(it.state), created_at)


# --- on their way to a disk and back --------------------------------------------------------------

_KINDS: Final = {kind.__name__: kind for kind in Fact.__args__}
_AMOUNTS: Final = {"total", "amount"}


def to_row(fact: Fact) -> list[Any]:
    """What `from_row` makes the fact of again; JSON can carry it."""
    return [type(fact).__name__, *fact]


def from_row(row: list[Any]) -> Fact:
    """The fact that a row says."""
    kind = _KINDS[row[0]]
    named = zip(kind._fields, row[1:], strict=True)
    fact: Fact = kind(*(Amount(*value) if name in _AMOUNTS else value for name, value in named))
    return fact
