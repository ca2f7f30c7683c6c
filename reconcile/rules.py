"""What must hold of an order, whatever was ordered: the invariants. Pure.

They hold between services, where no transaction reaches. Each broken one is a finding, named by
its rule; `reconcile.catalogue` says what to do about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from reconcile.catalogue import Finding
from reconcile.facts import CANCEL, PLACE, Amount, Facts, Order

_SENT: Final = ("RELEASED", "DISPATCHED", "DELIVERED")
#: What the state of a charge says has moved, in the ledger's words.
_MOVEMENTS: Final = {"APPROVED": ("CHARGE",), "REFUNDED": ("CHARGE", "REFUND")}
_LET_GO: Final = ("RELEASED", "RETURNED")


def check(facts: Facts, now: float, stuck_after_s: float) -> Iterator[Finding]:
    """Everything that is wrong with one order. While a saga is on its way, little can be said.

    now: seconds since the epoch. stuck_after_s: a saga that is older is expected to have ended.
    """

    def found(rule: str, text: str) -> Finding:
        return Finding(rule, facts.order_id, text)

    paid = [charge for charge in facts.charges if charge.state == "APPROVED"]
    if len(paid) > 1:
        keys = ", ".join(f"{charge.amount} under {charge.key!r}" for charge in paid)
        yield found("DOUBLE_CHARGE", f"charged {len(paid)} times: {keys}")
    if facts.order and facts.order.lines_nanos not in (None, facts.order.total.nanos):
        lines = Amount(facts.order.total.currency, facts.order.lines_nanos or 0)
        yield found("TOTAL_WRONG", f"its lines come to {lines}, its total is {facts.order.total}")
    parked = [saga for saga in facts.sagas if saga.state == "PARKED"]
    for saga in parked:
        yield found("SAGA_PARKED", f"saga {saga.name} {saga.saga_id} is PARKED")
    for saga in facts.running:
        age_s = now - saga.created_at
        if age_s > stuck_after_s:
            text = f"saga {saga.name} {saga.saga_id} is {saga.state} after {age_s:.0f} s"
            yield found("SAGA_STUCK", text)
    if not parked and not facts.running:
        for rule, text in _settled(facts):
            yield found(rule, text)


def _settled(facts: Facts) -> Iterator[tuple[str, str]]:
    """What is wrong with an order that nobody is working on: rule and text."""
    if facts.order is None:
        yield from _nobodys(facts)
    elif facts.order.state == "CONFIRMED":
        yield from _confirmed(facts, facts.order)
    elif facts.order.state == "CANCELLED":
        yield from _cancelled(facts)
    else:
        yield "ORDER_UNDECIDED", f"it is {facts.order.state} and no saga runs"
    yield from _books(facts)


def _confirmed(facts: Facts, order: Order) -> Iterator[tuple[str, str]]:
    kept = _kept(facts)
    if kept != _amounts(order.total):
        paid_back = any(charge.state == "REFUNDED" for charge in facts.charges)
        if kept:
            yield "WRONG_AMOUNT", f"it costs {order.total}, charged were {_shown(kept)}"
        elif paid_back:
            yield "CONFIRMED_AND_REFUNDED", f"it is CONFIRMED, and {order.total} were refunded"
        else:
            yield "CONFIRMED_UNPAID", f"it is CONFIRMED, and {order.total} were not charged"
    reservation, shipment = facts.reservation, facts.shipment
    if reservation is None or reservation.state != "COMMITTED":
        yield "STOCK_NOT_TAKEN", f"it is CONFIRMED, its reservation {_state(reservation)}"
    elif _differ(reservation.units, order.units):
        yield "LINES_DIFFER", "its reservation has other lines"
    if shipment is None or shipment.state not in _SENT:
        yield "PARCEL_MISSING", f"it is CONFIRMED, its shipment {_state(shipment)}"
    elif _differ(shipment.units, order.units):
        yield "LINES_DIFFER", "its shipment has other lines"
    if facts.saga(PLACE) not in ("", "COMPLETED") or facts.saga(CANCEL) == "COMPLETED":
        yield "ORDER_AND_SAGA_DIFFER", f"it is CONFIRMED; {_sagas(facts)}"


def _cancelled(facts: Facts) -> Iterator[tuple[str, str]]:
    if kept := _kept(facts):
        yield "NOT_REFUNDED", f"it is CANCELLED, and {_shown(kept)} were kept"
    if facts.reservation and facts.reservation.state not in _LET_GO:
        yield "STOCK_LEAKED", f"it is CANCELLED, its reservation {facts.reservation.state}"
    if facts.shipment and facts.shipment.state != "CANCELLED":
        yield "PARCEL_OF_CANCELLED", f"it is CANCELLED, its shipment {facts.shipment.state}"
    if facts.saga(PLACE) == "COMPLETED" and facts.saga(CANCEL) not in ("", "COMPLETED"):
        yield "ORDER_AND_SAGA_DIFFER", f"it is CANCELLED; {_sagas(facts)}"


def _nobodys(facts: Facts) -> Iterator[tuple[str, str]]:
    if facts.saga(PLACE) == "COMPLETED":
        yield "ORDER_LOST", f"there is no such order; {_sagas(facts)}"
    if kept := _kept(facts):
        yield "NOT_REFUNDED", f"there is no such order, and {_shown(kept)} were kept"
    if facts.reservation and facts.reservation.state not in _LET_GO:
        yield "STOCK_LEAKED", f"there is no such order, its reservation {facts.reservation.state}"
    kept_for_it = {
        "a payment": facts.payment,
        "a charge": facts.charges,
        "a ledger entry": facts.entries,
        "a reservation": facts.reservation,
        "a shipment": facts.shipment,
    }
    if there := [what for what, one in kept_for_it.items() if one]:
        yield "ORPHAN", f"there is no such order, and there is {', '.join(there)}"


def _books(facts: Facts) -> Iterator[tuple[str, str]]:
    """The payment service's own books against the provider's."""
    booked = _moved((entry.kind, entry.amount) for entry in facts.entries)
    real = _moved(
        (kind, charge.amount)
        for charge in facts.charges
        for kind in _MOVEMENTS.get(charge.state, ())
    )
    if booked != real:
        yield "LEDGER_DIFFERS", f"the ledger has {_listed(booked)}; the provider {_listed(real)}"
    is_, should = _state(facts.payment), _payment_due(facts)
    if is_ != should:
        yield "PAYMENT_DIFFERS", f"its payment is {is_}, by the provider's charges {should}"
    elif facts.payment and any(c.amount != facts.payment.amount for c in facts.charges):
        amounts = ", ".join(str(charge.amount) for charge in facts.charges)
        yield "PAYMENT_DIFFERS", f"its payment is of {facts.payment.amount}, charged {amounts}"


def _payment_due(facts: Facts) -> str:
    """The state in which the payment should be, by what the provider says."""
    states = {charge.state for charge in facts.charges}
    if "APPROVED" in states:
        return "CHARGED"
    if "REFUNDED" in states:
        return "REFUNDED"
    # The provider may refuse to understand a charge at all: declined, and nothing kept of it.
    return "DECLINED" if states or _state(facts.payment) == "DECLINED" else "missing"


def _kept(facts: Facts) -> dict[str, int]:
    """What the provider has kept, in nanos by currency."""
    kept: dict[str, int] = {}
    for charge in facts.charges:
        if charge.state == "APPROVED":
            currency, nanos = charge.amount
            kept[currency] = kept.get(currency, 0) + nanos
    return kept


def _moved(movements: Iterable[tuple[str, Amount]]) -> dict[tuple[str, str], int]:
    """Add movements up: nanos by (kind, currency)."""
    sums: dict[tuple[str, str], int] = {}
    for kind, (currency, nanos) in movements:
        sums[kind, currency] = sums.get((kind, currency), 0) + nanos
    return sums


def _listed(movements: dict[tuple[str, str], int]) -> str:
    listed = (f"{kind} {Amount(currency, n)}" for (kind, currency), n in sorted(movements.items()))
    return ", ".join(listed) or "nothing"


def _amounts(amount: Amount) -> dict[str, int]:
    return {amount.currency: amount.nanos}


def _shown(amounts: dict[str, int]) -> str:
    return ", ".join(str(Amount(*amount)) for amount in sorted(amounts.items())) or "nothing"


def _differ(units: str, others: str) -> bool:
    return bool(units and others) and units != others


def _state(one: object) -> str:
    return str(getattr(one, "state", "missing"))


def _sagas(facts: Facts) -> str:
    known = [f"{saga.name} {saga.saga_id} is {saga.state}" for saga in facts.sagas]
    return ", ".join(known) or "no saga is known"
