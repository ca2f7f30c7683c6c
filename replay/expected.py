"""What the services should hold after a run. Pure.

What they hold of orders that are not the run's (another file's, someone's at a terminal) is taken
as it is: the run answers for its own, to the unit and to the penny. One thing it does assume: that
the stock of its SKUs was loaded by replays alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from itertools import chain
from typing import TypeVar

from replay.books import Books, Entry, Payment, Reservation, Stock, add_up
from replay.invoices import CURRENCY
from replay.plan import Outcome, Plan, PlannedOrder

V = TypeVar("V")


def expected_books(plan: Plan, actual: Books, before: Mapping[str, str]) -> Books:
    """The books as they should be.

    actual: the books as they are, for what is not the run's. before: the states that orders had
    before the run. One that was CONFIRMED stays so, even if this run would have made it fail.
    """
    own = {planned.order.order_id for planned in plan.orders}

    def others(table: Mapping[str, V]) -> dict[str, V]:
        return {key: value for key, value in table.items() if key not in own}

    orders, payments = others(actual.orders), others(actual.payments)
    reservations, shipments = others(actual.reservations), others(actual.shipments)
    sagas, entries = others(actual.sagas), others(actual.entries)
    stock = dict(actual.stock)
    for planned in plan.orders:
        order_id, total = planned.order.order_id, planned.order.total
        outcome = _outcome(planned, before)
        is_confirmed = outcome is Outcome.CONFIRMED
        orders[order_id] = "CONFIRMED" if is_confirmed else "CANCELLED"
        sagas[order_id] = "COMPLETED" if is_confirmed else "FAILED"
        if outcome is Outcome.OUT_OF_STOCK:
            stock[planned.short_sku] = Stock()
            continue
        payments[order_id] = Payment("CHARGED" if is_confirmed else "DECLINED", total)
        reservations[order_id] = Reservation(
            "COMMITTED" if is_confirmed else "RELEASED", dict(planned.order.quantities)
        )
        if is_confirmed:
            shipments[order_id] = "RELEASED"
            entries[order_id] = (Entry("CHARGE", CURRENCY, total),)
    money = add_up(chain.from_iterable(entries.values()))
    return Books(
        orders=orders,
        payments=payments,
        reservations=reservations,
        shipments=shipments,
        sagas=sagas,
        entries=entries,
        ledger=money,
        provider=money,
        stock=stock | _stock(plan, reservations, own),
    )


def _outcome(planned: PlannedOrder, before: Mapping[str, str]) -> Outcome:
    was_confirmed = before.get(planned.order.order_id) == "CONFIRMED"
    return Outcome.CONFIRMED if was_confirmed else planned.outcome


def _stock(plan: Plan, reservations: Mapping[str, Reservation], own: set[str]) -> dict[str, Stock]:
    """The run's SKUs: what was loaded, less what its confirmed orders took.

    Others took what others had loaded: they count as shipped or reserved, and not as loaded.
    """
    loaded: Counter[str] = Counter()
    for load in plan.loads:
        loaded[load.sku] += load.quantity
    taken = _units(reservations, "COMMITTED", lambda order_id: order_id in own)
    shipped = _units(reservations, "COMMITTED", lambda _: True)
    reserved = _units(reservations, "HELD", lambda _: True)
    return {
        sku: Stock(units - taken[sku], reserved[sku], shipped[sku]) for sku, units in loaded.items()
    }


def _units(
    reservations: Mapping[str, Reservation], state: str, includes: Callable[[str], bool]
) -> Counter[str]:
    units: Counter[str] = Counter()
    for order_id, reservation in reservations.items():
        if reservation.state == state and includes(order_id):
            units.update(reservation.units)
    return units
