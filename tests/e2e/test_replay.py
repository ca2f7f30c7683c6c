"""December 2010, all 1,400 orders, on real processes: to the unit and to the penny."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import december
from tests.e2e.books import Books, check, check_same, faults, read_books
from tests.e2e.records import Stock
from tests.e2e.system import running

NET = {"GBP": december.TOTAL_PENCE}


def test_december_to_the_penny(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running(tmp_path) as system:
        report = december.replay(system)
    with capsys.disabled():
        print(f"\n{report['placed']} orders in {report['duration_s']:.1f} s,", end=" ")
        print(f"{report['orders_per_s']:.0f} /s")
    assert (report["ok"], report["placed"], report["failures"]) == (True, december.ORDERS, [])
    services = report["services"]
    assert services["orders"] == {"CONFIRMED": december.ORDERS}
    assert services["ledger"]["GBP"]["net"] == services["provider"]["GBP"]["net"] == "572713.89"
    assert (services["stock"]["free"], services["stock"]["reserved"]) == (0, 0)

    books = read_books(tmp_path)
    check(books)
    assert books.states == {"CONFIRMED": december.ORDERS}
    assert books.net == books.provider_net == NET
    assert books.users == december.users()
    assert len(books.users) == december.USERS
    assert {id_: order.total for id_, order in books.orders.items()} == {
        id_: ("GBP", pence) for id_, pence in december.totals_pence().items()
    }
    assert {id_: order.units for id_, order in books.orders.items()} == december.units()
    shipped = sum(december.units().values(), Counter())
    assert books.stock == {sku: Stock(0, 0, count, count) for sku, count in shipped.items()}

    with running(tmp_path) as system:
        again = system.run(*december.replay_command())
    assert "1,400 of 1,400 already placed" in again.stderr
    check_same(read_books(tmp_path), books)


def test_with_refusals_each_order_is_confirmed_or_undone(undisturbed: Books) -> None:
    books = undisturbed
    check(books)
    states = books.states
    assert states.total() == december.ORDERS
    assert 0.10 < states["CANCELLED"] / december.ORDERS < 0.20, states
    confirmed = books.ordered("CONFIRMED")
    net = {"GBP": sum(december.totals_pence()[order_id] for order_id in confirmed)}
    assert books.net == books.provider_net == net
    check_stock(books)
    refused = {charge.state for charges in books.charges.values() for charge in charges}
    assert refused == {"APPROVED", "DECLINED"}
    assert {kept.state for kept in books.reservations.values()} == {"COMMITTED", "RELEASED"}
    out_of_stock = books.orders.keys() - books.reservations.keys()
    assert out_of_stock
    assert all(f"SHORT-{order_id}" in books.orders[order_id].units for order_id in out_of_stock)


def check_stock(books: Books) -> None:
    """Everything that was loaded is either shipped or free again."""
    loaded = sum(december.units().values(), Counter())
    there = Counter({sku: stock.free + stock.shipped for sku, stock in books.stock.items()})
    assert +there == loaded
    shipped = sum((december.units()[id_] for id_ in books.ordered("CONFIRMED")), Counter())
    assert +Counter({sku: stock.shipped for sku, stock in books.stock.items()}) == shipped
    assert not any(stock.reserved for stock in books.stock.values())


def test_wrong_books_are_found(undisturbed: Books) -> None:
    """That nothing is found in right books says little, unless something is in wrong ones."""
    order_id = next(iter(undisturbed.ordered("CONFIRMED")))
    refused = next(iter(undisturbed.ordered("CANCELLED")))
    order, (charge,) = undisturbed.orders[order_id], undisturbed.charges[order_id]
    sku, (due, paid) = next(iter(order.units)), undisturbed.payments[order_id]

    def changed(table: str, key: object, value: object) -> Books:
        change: dict[str, Any] = {table: {**getattr(undisturbed, table), key: value}}
        return replace(undisturbed, **change)

    wrong = [
        changed("orders", order_id, replace(order, state="PENDING")),
        changed("orders", order_id, replace(order, sum_of_lines=order.sum_of_lines + 1)),
        changed("charges", order_id, (charge, charge)),
        changed("charges", order_id, (replace(charge, state="REFUNDED"),)),
        changed("charges", refused, (replace(charge, amount=undisturbed.orders[refused].total),)),
        changed("charges", "nobody's", (charge,)),
        changed("ledger", order_id, ()),
        changed("ledger", refused, undisturbed.ledger[order_id]),
        changed("payments", order_id, (due, replace(paid, version=3))),
        changed("payments", order_id, (due, replace(paid, what="declined"))),
        changed("payments", order_id, (due, replace(paid, amount=("GBP", 1)))),
        changed("payments", order_id, (due, replace(paid, principal=""))),
        changed("payments", order_id, (replace(due, is_correlated=False), paid)),
        changed("listed_payments", order_id, ("PENDING", order.total)),
        changed(
            "reservations", order_id, replace(undisturbed.reservations[order_id], state="HELD")
        ),
        changed("reservations", refused, undisturbed.reservations[order_id]),
        changed("shipments", order_id, ("CREATED", order.units)),
        changed("shipments", refused, ("RELEASED", order.units)),
        changed("sagas", ("place_order", order_id), "PARKED"),
        changed("stock", sku, replace(undisturbed.stock[sku], reserved=1)),
        changed("stock", sku, replace(undisturbed.stock[sku], free=1)),
        changed("open_effects", "payment", 1),
        changed("open_keys", "payment", 1),
        replace(undisturbed, entry_numbers=undisturbed.entry_numbers[1:]),
    ]
    assert [number for number, books in enumerate(wrong) if not list(faults(books))] == []
