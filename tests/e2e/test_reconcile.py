"""Each kind of inconsistency, written into the database files by hand, is found on the live system.

Right books are found right; while orders are being placed too.
"""

import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from reconcile.catalogue import RULES
from shop.inventory.v1.inventory_pb2 import Reservation
from shop.order.v1.order_pb2 import Order
from shop.provider.v1.provider_pb2 import Charge
from shop.shipping.v1.shipping_pb2 import Shipment
from tests.e2e import december, shop
from tests.e2e.system import System, running

RECONCILE = (sys.executable, "-m", "reconcile", "--json", "--quiet")
CONFIRMED, DECLINED, TAKEN_BACK = 14, 2, 2


class Files:
    """The databases of a system that is down."""

    def __init__(self, data: Path) -> None:
        self._data = data

    def change(self, service: str, sql: str, *parameters: object) -> None:
        """Do what no service would; nothing that guards the tables stands in the way."""
        with closing(sqlite3.connect(self._data / f"{service}.db")) as database:
            guards = database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
            for (name,) in guards.fetchall():
                database.execute(f"DROP TRIGGER {name}")
            changed = database.execute(sql, parameters).rowcount
            assert changed >= 1, f"{sql} with {parameters} changed nothing"
            database.commit()


def reconcile(system: System, *flags: str) -> dict[str, Any]:
    done = system.run(*RECONCILE, *flags, check=False)
    report: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if report["ok"] else 1), done.stderr
    return report


def place(system: System) -> Iterator[tuple[str, str]]:
    """Place orders that end in each way, each of an item of its own; give out order and item."""
    for number in range(CONFIRMED + DECLINED + TAKEN_BACK):
        customer = shop.customer(system)
        is_declined = CONFIRMED <= number < CONFIRMED + DECLINED
        order_id = shop.new_id()
        token = "tok_declined" if is_declined else "tok_ok"
        placed = customer.order(order_id, paymentToken=token)
        assert placed["state"] == ("CANCELLED" if is_declined else "CONFIRMED")
        if number >= CONFIRMED + DECLINED:
            cancelled = system.post(f"/v1/orders/{order_id}:cancel", {"wait": True})
            assert cancelled.json()["state"] == "CANCELLED", cancelled.text
        yield order_id, customer.sku


def break_everything(files: Files, orders: list[tuple[str, str]]) -> set[tuple[str, str]]:
    """Break each rule; return what is to be found, as (rule, subject)."""
    confirmed = iter(orders[:CONFIRMED])
    declined = iter(orders[CONFIRMED : CONFIRMED + DECLINED])
    taken_back = iter(orders[CONFIRMED + DECLINED :])
    expected: set[tuple[str, str]] = set()

    def hurt(one: Iterator[tuple[str, str]], service: str, sql: str, *rules: str) -> None:
        """Run *sql* with the next order's id in it; *rules* in capitals are broken by it."""
        order_id, sku = next(one)
        files.change(service, sql, order_id)
        for rule in rules:
            of_item = rule.startswith("STOCK_DIFFERS")
            expected.add((rule, sku if of_item else order_id))

    charge = "UPDATE charges SET {} WHERE reference = ?"
    books = ("LEDGER_DIFFERS", "PAYMENT_DIFFERS")
    hurt(
        confirmed,
        "provider",
        "INSERT INTO charges SELECT key || '/2', charge_id || '2', request_hash, currency,"
        " amount_minor, state, decline_reason, reference, create_time, refund_time FROM charges"
        " WHERE reference = ?",
        *("DOUBLE_CHARGE", "WRONG_AMOUNT", "LEDGER_DIFFERS"),
    )
    refunded = charge.format(f"state = {Charge.REFUNDED}")
    hurt(confirmed, "provider", refunded, "CONFIRMED_AND_REFUNDED", *books)
    gone = "DELETE FROM charges WHERE reference = ?"
    hurt(confirmed, "provider", gone, "CONFIRMED_UNPAID", *books)
    more = charge.format("amount_minor = amount_minor + 1")
    hurt(confirmed, "provider", more, "WRONG_AMOUNT", *books)
    kept = charge.format(f"state = {Charge.APPROVED}")
    hurt(taken_back, "provider", kept, "NOT_REFUNDED", *books)
    no_entry = "DELETE FROM ledger_entries WHERE order_id = ?"
    hurt(confirmed, "payment", no_entry, "LEDGER_DIFFERS")

    reservation = "UPDATE reservations SET state = {}, update_time = 0 WHERE order_id = ?"
    held = reservation.format(Reservation.HELD)
    hurt(declined, "inventory", held, "STOCK_LEAKED", "STOCK_DIFFERS")
    let_go = reservation.format(Reservation.RELEASED)
    hurt(confirmed, "inventory", let_go, "STOCK_NOT_TAKEN", "STOCK_DIFFERS")
    parcel = "UPDATE shipments SET state = {} WHERE order_id = ?"
    hurt(confirmed, "shipping", parcel.format(Shipment.CREATED), "PARCEL_MISSING")
    hurt(taken_back, "shipping", parcel.format(Shipment.RELEASED), "PARCEL_OF_CANCELLED")
    other = "UPDATE shipment_lines SET quantity = quantity + 1 WHERE order_id = ?"
    hurt(confirmed, "shipping", other, "LINES_DIFFER")

    lost = ("ORDER_LOST", "ORPHAN", "NOT_REFUNDED", "STOCK_LEAKED")
    hurt(confirmed, "order", "DELETE FROM orders WHERE order_id = ?", *lost)
    pending = f"UPDATE orders SET state = {Order.PENDING} WHERE order_id = ?"
    hurt(declined, "order", pending, "ORDER_UNDECIDED")
    dearer = "UPDATE orders SET total_minor = total_minor + 1 WHERE order_id = ?"
    hurt(confirmed, "order", dearer, "TOTAL_WRONG", "WRONG_AMOUNT")

    saga = "UPDATE mesh_sagas SET {} WHERE name = 'place_order' AND key = ?"
    hurt(confirmed, "orchestrator", saga.format("state = 6"), "SAGA_PARKED")
    hurt(confirmed, "orchestrator", saga.format("state = 5"), "ORDER_AND_SAGA_DIFFER")
    unknown = saga.format("state = 2, version = 99, created_at = 0")  # nobody takes it up
    hurt(confirmed, "orchestrator", unknown, "SAGA_STUCK")

    _, sku = next(confirmed)
    files.change("inventory", "UPDATE stock SET free = free + 5 WHERE sku = ?", sku)
    return expected | {("STOCK_NOT_CONSERVED", sku)}


def test_every_inconsistency_is_found_and_named(tmp_path: Path) -> None:
    with running(tmp_path) as system:
        orders = list(place(system))
        right = reconcile(system, "--every-line")
        assert (right["ok"], right["orders"], right["findings"]) == (True, len(orders), [])
    expected = break_everything(Files(tmp_path), orders)
    assert {rule for rule, _ in expected} == RULES.keys()
    with running(tmp_path) as system:
        report = reconcile(system, "--every-line")
        found = {(finding["rule"], finding["subject"]) for finding in report["findings"]}
        assert found == expected
        assert report["unsure"] == 0
        without_lines = {(f["rule"], f["subject"]) for f in reconcile(system)["findings"]}
        of_lines = {"LINES_DIFFER"}
        assert without_lines == {one for one in expected if one[0] not in of_lines}


def test_orders_on_their_way_are_no_finding(tmp_path: Path) -> None:
    reports: list[dict[str, Any]] = []
    with running(tmp_path) as system:
        command = december.replay_command(*december.FAILING, "--limit", "400")
        replay = system.start(command, tmp_path / "replay.log")
        try:
            while replay.poll() is None:
                reports.append(reconcile(system))
        finally:
            replay.kill()
            replay.wait()
        reports.append(reconcile(system))
    assert all(report["ok"] for report in reports), reports
    assert any(report["in_flight"] for report in reports)
    assert reports[-1]["orders"] == 400
    assert reports[-1]["in_flight"] == 0
