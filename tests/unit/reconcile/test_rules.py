"""Each rule finds what breaks it, and nothing is found where nothing is wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconcile import facts as facts_module
from reconcile.catalogue import RULES, Finding
from reconcile.facts import (
    CANCEL,
    PLACE,
    Amount,
    Charge,
    Entry,
    Facts,
    Order,
    Payment,
    Reservation,
    Saga,
    Shipment,
)
from reconcile.rules import check
from services.shared.money import to_money
from shop.order.v1 import order_pb2

NOW = 10_000.0
STUCK_AFTER_S = 900.0
PRICE = Amount("GBP", 12_500_000_000)
OTHER = Amount("GBP", 1)
UNITS = "ab12"
CHARGED, GIVEN_BACK = Entry("CHARGE", PRICE), Entry("REFUND", PRICE)


def saga(state: str, name: str = PLACE, age_s: float = 5.0) -> Saga:
    return Saga(name, f"id-of-{name}", state, NOW - age_s)


def charge(state: str, amount: Amount = PRICE, key: str = "charge/o") -> Charge:
    return Charge(key, state, amount)


CONFIRMED = Facts(
    "o",
    order=Order("CONFIRMED", PRICE, PRICE.nanos, UNITS),
    payment=Payment("CHARGED", PRICE),
    reservation=Reservation("COMMITTED", UNITS),
    shipment=Shipment("RELEASED", UNITS),
    entries=[CHARGED],
    charges=[charge("APPROVED")],
    sagas=[saga("COMPLETED")],
)
DECLINED = Facts(
    "o",
    order=Order("CANCELLED", PRICE, PRICE.nanos, UNITS),
    payment=Payment("DECLINED", PRICE),
    reservation=Reservation("RELEASED", UNITS),
    charges=[charge("DECLINED")],
    sagas=[saga("FAILED")],
)
TAKEN_BACK = replace(
    CONFIRMED,
    order=Order("CANCELLED", PRICE, PRICE.nanos, UNITS),
    payment=Payment("REFUNDED", PRICE),
    reservation=Reservation("RETURNED", UNITS),
    shipment=Shipment("CANCELLED", UNITS),
    entries=[CHARGED, GIVEN_BACK],
    charges=[charge("REFUNDED")],
    sagas=[saga("COMPLETED"), saga("COMPLETED", CANCEL)],
)
OUT_OF_STOCK = Facts(
    "o", order=Order("CANCELLED", PRICE, PRICE.nanos, UNITS), sagas=[saga("FAILED")]
)


def found(facts: Facts) -> list[Finding]:
    return list(check(facts, NOW, STUCK_AFTER_S))


@pytest.mark.parametrize(
    "facts",
    [
        CONFIRMED,
        replace(CONFIRMED, sagas=[]),  # finished sagas are not kept for ever
        replace(CONFIRMED, order=Order("CONFIRMED", PRICE, None, "")),  # as lists tell it
        replace(CONFIRMED, shipment=Shipment("DELIVERED", UNITS)),
        replace(CONFIRMED, sagas=[saga("COMPLETED"), saga("FAILED", CANCEL)]),
        DECLINED,
        replace(DECLINED, charges=[]),  # the provider did not understand, and kept nothing of it
        TAKEN_BACK,
        OUT_OF_STOCK,
        Facts("o", sagas=[saga("FAILED")]),  # refused before anything was done
        Facts("o", sagas=[saga("EXECUTING")]),
        replace(OUT_OF_STOCK, order=Order("PENDING", PRICE, None, ""), sagas=[saga("PENDING")]),
        replace(TAKEN_BACK, sagas=[saga("COMPLETED"), saga("EXECUTING", CANCEL)], charges=[]),
    ],
)
def test_what_is_right_or_on_its_way_is_no_finding(facts: Facts) -> None:
    assert found(facts) == []


WRONG: list[tuple[str, Facts, dict[str, Any]]] = [
    ("SAGA_PARKED", CONFIRMED, {"sagas": [saga("PARKED")], "charges": []}),
    ("SAGA_STUCK", CONFIRMED, {"sagas": [saga("COMPENSATING", age_s=901)], "charges": []}),
    ("DOUBLE_CHARGE", CONFIRMED, {"charges": [charge("APPROVED"), charge("APPROVED", key="2")]}),
    (
        "DOUBLE_CHARGE",
        CONFIRMED,
        {"charges": [charge("APPROVED"), charge("APPROVED", key="2")], "sagas": [saga("PENDING")]},
    ),
    ("CONFIRMED_AND_REFUNDED", CONFIRMED, {"charges": [charge("REFUNDED")]}),
    ("CONFIRMED_UNPAID", CONFIRMED, {"charges": []}),
    ("CONFIRMED_UNPAID", CONFIRMED, {"charges": [charge("DECLINED")]}),
    ("WRONG_AMOUNT", CONFIRMED, {"charges": [charge("APPROVED", OTHER)]}),
    ("WRONG_AMOUNT", CONFIRMED, {"charges": [charge("APPROVED", Amount("EUR", PRICE.nanos))]}),
    ("NOT_REFUNDED", TAKEN_BACK, {"charges": [charge("APPROVED")]}),
    ("NOT_REFUNDED", DECLINED, {"charges": [charge("APPROVED")]}),
    ("NOT_REFUNDED", Facts("o"), {"charges": [charge("APPROVED")]}),
    ("LEDGER_DIFFERS", CONFIRMED, {"entries": []}),
    ("LEDGER_DIFFERS", CONFIRMED, {"entries": [CHARGED, CHARGED]}),
    ("LEDGER_DIFFERS", DECLINED, {"entries": [CHARGED, GIVEN_BACK]}),
    ("LEDGER_DIFFERS", TAKEN_BACK, {"entries": [CHARGED]}),
    ("PAYMENT_DIFFERS", CONFIRMED, {"payment": None}),
    ("PAYMENT_DIFFERS", CONFIRMED, {"payment": Payment("CHARGED", OTHER)}),
    ("PAYMENT_DIFFERS", CONFIRMED, {"payment": Payment("PENDING", PRICE)}),
    ("PAYMENT_DIFFERS", TAKEN_BACK, {"payment": Payment("REFUNDING", PRICE)}),
    ("STOCK_LEAKED", DECLINED, {"reservation": Reservation("HELD", UNITS)}),
    ("STOCK_LEAKED", TAKEN_BACK, {"reservation": Reservation("COMMITTED", UNITS)}),
    ("STOCK_LEAKED", Facts("o"), {"reservation": Reservation("HELD", UNITS)}),
    ("STOCK_NOT_TAKEN", CONFIRMED, {"reservation": None}),
    ("STOCK_NOT_TAKEN", CONFIRMED, {"reservation": Reservation("HELD", UNITS)}),
    ("LINES_DIFFER", CONFIRMED, {"reservation": Reservation("COMMITTED", "other")}),
    ("LINES_DIFFER", CONFIRMED, {"shipment": Shipment("RELEASED", "other")}),
    ("PARCEL_MISSING", CONFIRMED, {"shipment": None}),
    ("PARCEL_MISSING", CONFIRMED, {"shipment": Shipment("CREATED", UNITS)}),
    ("PARCEL_OF_CANCELLED", TAKEN_BACK, {"shipment": Shipment("RELEASED", UNITS)}),
    ("ORDER_LOST", CONFIRMED, {"order": None}),
    ("ORDER_UNDECIDED", OUT_OF_STOCK, {"order": Order("PENDING", PRICE, None, "")}),
    ("ORDER_UNDECIDED", OUT_OF_STOCK, {"order": Order("PENDING", PRICE, None, ""), "sagas": []}),
    ("ORDER_AND_SAGA_DIFFER", CONFIRMED, {"sagas": [saga("FAILED")]}),
    ("ORDER_AND_SAGA_DIFFER", CONFIRMED, {"sagas": TAKEN_BACK.sagas}),
    (
        "ORDER_AND_SAGA_DIFFER",
        TAKEN_BACK,
        {"sagas": [saga("COMPLETED"), saga("FAILED", CANCEL)]},
    ),
    ("ORPHAN", Facts("o"), {"reservation": Reservation("RELEASED", UNITS)}),
    ("ORPHAN", Facts("o"), {"charges": [charge("DECLINED")]}),
    ("TOTAL_WRONG", CONFIRMED, {"order": Order("CONFIRMED", PRICE, 1, UNITS)}),
]


@pytest.mark.parametrize(("rule", "facts", "changes"), WRONG)
def test_what_is_wrong_is_found(rule: str, facts: Facts, changes: dict[str, Any]) -> None:
    findings = found(replace(facts, **changes))
    assert rule in {finding.rule for finding in findings}
    assert {finding.subject for finding in findings} == {"o"}


def test_every_rule_between_services_is_broken_here() -> None:
    of_stock = {"STOCK_NOT_CONSERVED", "STOCK_DIFFERS"}  # see test_stock.py
    assert {rule for rule, _, _ in WRONG} == RULES.keys() - of_stock


def test_a_parked_or_stuck_saga_is_the_one_finding() -> None:
    broken: dict[str, Any] = {"charges": [], "shipment": None}
    for state, age_s in (("PARKED", 5.0), ("EXECUTING", 1000.0)):
        changes = {**broken, "sagas": [saga(state, age_s=age_s)]}
        assert len(found(replace(CONFIRMED, **changes))) == 1


def test_amounts_are_shown_as_people_write_them() -> None:
    shown = [str(Amount("GBP", nanos)) for nanos in (PRICE.nanos, 0, -5_000_000, 1_234_567_891)]
    assert shown == ["12.50 GBP", "0.00 GBP", "-0.005 GBP", "1.234567891 GBP"]


def test_units_are_compared_by_sku_whatever_the_lines() -> None:
    def lines(*pairs: tuple[str, int]) -> str:
        order = order_pb2.Order(
            total=to_money("GBP", 1),
            lines=[order_pb2.OrderLine(sku=sku, quantity=quantity) for sku, quantity in pairs],
        )
        return facts_module.of_order(order).units

    assert lines(("A", 1), ("B", 2), ("A", 3)) == lines(("B", 2), ("A", 4))
    assert len({lines(("A", 1)), lines(("A", 2)), lines(("B", 1)), lines(("A", 1), ("B", 1))}) == 4
