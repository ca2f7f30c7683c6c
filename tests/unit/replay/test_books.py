"""What the services should hold, and how a difference is told."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from rich.console import Console

from replay.books import Books, Entry, Payment, Reservation, Stock, Totals, differences, summarize
from replay.expected import expected_books
from replay.invoices import Invoices, Order, Remark
from replay.plan import Failures, Plan, make_plan
from replay.report import Report, compare, print_report, to_json
from replay.rows import Line

GBP_10 = Entry("CHARGE", "GBP", Decimal("10.00"))


def plan_of(failures: Failures) -> Plan:
    lines = (Line("A", 2, Decimal("3.00")), Line("A", 1, Decimal("4.00")))
    order = Order("1", "17850", "GB", date(2010, 12, 1), lines)
    return make_plan(Invoices("digest", (order,), {"A": "an A"}, (), ()), failures)


CONFIRMED = Books(
    orders={"1": "CONFIRMED"},
    payments={"1": Payment("CHARGED", Decimal("10.00"))},
    reservations={"1": Reservation("COMMITTED", {"A": 3})},
    shipments={"1": "RELEASED"},
    sagas={"1": "COMPLETED"},
    entries={"1": (GBP_10,)},
    ledger={"GBP": Totals(Decimal("10.00"), charges=1)},
    provider={"GBP": Totals(Decimal("10.00"), charges=1)},
    stock={"A": Stock(free=0, reserved=0, shipped=3)},
)
DECLINED = Books(
    orders={"1": "CANCELLED"},
    payments={"1": Payment("DECLINED", Decimal("10.00"))},
    reservations={"1": Reservation("RELEASED", {"A": 3})},
    sagas={"1": "FAILED"},
    stock={"A": Stock(free=3)},
)
SHORT = Books(
    orders={"1": "CANCELLED"},
    sagas={"1": "FAILED"},
    stock={"A": Stock(free=3), "SHORT-1": Stock()},
)


@pytest.mark.parametrize(
    ("failures", "books"),
    [
        (Failures(), CONFIRMED),
        (Failures(decline=1.0), DECLINED),
        (Failures(short_stock=1.0), SHORT),
    ],
)
def test_what_each_outcome_leaves_behind(failures: Failures, books: Books) -> None:
    assert expected_books(plan_of(failures), books, before={}) == books
    assert expected_books(plan_of(failures), Books(), before={}) == books


@pytest.mark.parametrize("failures", [Failures(decline=1.0), Failures(short_stock=1.0)])
def test_an_order_confirmed_earlier_stays_so_whatever_this_run_would_have_done(
    failures: Failures,
) -> None:
    assert expected_books(plan_of(failures), CONFIRMED, {"1": "CONFIRMED"}) == CONFIRMED


def test_an_order_cancelled_earlier_is_no_excuse() -> None:
    expected = expected_books(plan_of(Failures()), DECLINED, {"1": "CANCELLED"})
    assert expected == CONFIRMED
    assert "order 1: CANCELLED, expected CONFIRMED" in compare(DECLINED, expected)


def test_what_others_did_is_taken_as_it_is() -> None:
    """Someone bought a B and one more A, restocked for it, and got the money for the B back."""
    theirs = replace(
        CONFIRMED,
        orders={"1": "CONFIRMED", "mine": "CONFIRMED", "back": "CANCELLED"},
        sagas={"1": "COMPLETED", "mine": "COMPLETED", "back": "COMPLETED"},
        payments={
            **CONFIRMED.payments,
            "mine": Payment("CHARGED", Decimal("1.00")),
            "back": Payment("REFUNDED", Decimal("2.00")),
        },
        reservations={
            **CONFIRMED.reservations,
            "mine": Reservation("COMMITTED", {"A": 1}),
            "back": Reservation("RETURNED", {"B": 1}),
        },
        entries={
            **CONFIRMED.entries,
            "mine": (Entry("CHARGE", "GBP", Decimal("1.00")),),
            "back": (
                Entry("CHARGE", "EUR", Decimal("2.00")),
                Entry("REFUND", "EUR", Decimal("2.00")),
            ),
        },
        ledger={
            "GBP": Totals(Decimal("11.00"), charges=2),
            "EUR": Totals(Decimal("2.00"), Decimal("2.00"), 1, 1),
        },
        provider={
            "GBP": Totals(Decimal("11.00"), charges=2),
            "EUR": Totals(Decimal("2.00"), Decimal("2.00"), 1, 1),
        },
        stock={"A": Stock(shipped=4), "B": Stock(free=1)},
    )
    assert expected_books(plan_of(Failures()), theirs, before={}) == theirs


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"orders": {"1": "PENDING"}}, "order 1: PENDING, expected CONFIRMED"),
        ({"orders": {}}, "order 1: none, expected CONFIRMED"),
        (
            {"payments": {"1": Payment("CHARGED", Decimal("9.99"))}},
            "payment of order 1: CHARGED 9.99, expected CHARGED 10.00",
        ),
        (
            {"entries": {"1": (GBP_10, GBP_10)}},
            (
                "ledger entries of order 1: CHARGE 10.00 GBP, CHARGE 10.00 GBP,"
                " expected CHARGE 10.00 GBP"
            ),
        ),
        (
            {"reservations": {"1": Reservation("HELD", {"A": 3})}},
            "reservation of order 1: HELD 3 units of 1 SKUs, expected COMMITTED 3 units of 1 SKUs",
        ),
        ({"shipments": {}}, "shipment of order 1: none, expected RELEASED"),
        ({"sagas": {"1": "PARKED"}}, "saga of order 1: PARKED, expected COMPLETED"),
        (
            {"provider": {"GBP": Totals(Decimal("20.00"), Decimal("10.00"), 2, 1)}},
            (
                "provider in GBP: 20.00 charged in 2, 10.00 refunded in 1, net 10.00,"
                " expected 10.00 charged in 1, 0.00 refunded in 0, net 10.00"
            ),
        ),
        (
            {"stock": {"A": Stock(free=1, shipped=3)}},
            "stock of A: 1 free, 0 reserved, 3 shipped, expected 0 free, 0 reserved, 3 shipped",
        ),
    ],
)
def test_every_difference_is_told(wrong: dict[str, Any], sentence: str) -> None:
    actual = replace(CONFIRMED, **wrong)
    expected = expected_books(plan_of(Failures()), actual, before={})
    assert list(differences(actual, expected)) == [sentence]


def test_the_summary_counts() -> None:
    assert summarize(CONFIRMED) == {
        "orders": {"CONFIRMED": 1},
        "payments": {"CHARGED": 1},
        "ledger": {
            "GBP": {
                "charged": "10.00",
                "refunded": "0.00",
                "net": "10.00",
                "charges": 1,
                "refunds": 0,
            }
        },
        "provider": {
            "GBP": {
                "charged": "10.00",
                "refunded": "0.00",
                "net": "10.00",
                "charges": 1,
                "refunds": 0,
            }
        },
        "reservations": {"COMMITTED": 1},
        "shipments": {"RELEASED": 1},
        "stock": {
            "skus": 1,
            "free": 0,
            "reserved": 0,
            "shipped": 3,
            "skus_with_free": 0,
            "skus_with_reserved": 0,
        },
        "sagas": {"COMPLETED": 1},
    }


def report_of(actual: Books, expected: Books, **changes: Any) -> Report:
    report = Report(
        file="orders.csv",
        invoices=Invoices("digest", (), {}, (Remark(7, "2 columns, not 8"),), ()),
        orders=1,
        placed=1,
        already_placed=0,
        failures=(),
        duration_s=0.5,
        is_settled=True,
        actual=actual,
        expected=expected,
        differences=compare(actual, expected),
    )
    return replace(report, **changes)


def printed(report: Report) -> str:
    console = Console(file=io.StringIO(), width=100)
    print_report(report, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_report_of_a_good_run() -> None:
    report = report_of(CONFIRMED, CONFIRMED)
    assert report.is_ok
    body = json.loads(json.dumps(to_json(report)))
    assert body["ok"] is True
    assert body["services"] == body["expected"] == summarize(CONFIRMED)
    assert body["orders_per_s"] == 2.0
    assert body["malformed"] == [{"line": 7, "reason": "2 columns, not 8"}]
    text = printed(report)
    assert "1 orders in 0.5 s, 2 /s; everything as expected" in text
    assert "stock skus with free" in text


def test_a_report_of_a_bad_run_lists_the_differences_and_bounds_the_list() -> None:
    orders = {str(number): "PENDING" for number in range(50)}
    report = report_of(replace(CONFIRMED, orders=orders), CONFIRMED)
    body = to_json(report)
    assert body["ok"] is False
    assert body["difference_count"] == len(body["differences"]) == 50
    text = printed(report)
    assert "50 not as expected:" in text
    assert "  order 0: PENDING, expected none" in text
    assert "and 30 more" in text


def test_a_report_says_what_was_there_already_and_what_is_not_over() -> None:
    report = report_of(
        CONFIRMED,
        CONFIRMED,
        placed=0,
        already_placed=1,
        is_settled=False,
        failures=["order 1: [x]"],
    )
    text = printed(report)
    assert "1 already placed; everything as expected" in text
    assert "some sagas are still on their way" in text
    assert "order 1: [x]" in text  # no markup
