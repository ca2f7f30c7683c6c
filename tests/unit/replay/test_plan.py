"""What a run places and loads: the same every time, and never twice."""

from __future__ import annotations

import re
from collections import Counter
from datetime import date
from decimal import Decimal

import pytest

from replay.invoices import MAX_LINES, Invoices, Order
from replay.money import from_json, from_money, to_json, to_money
from replay.plan import (
    MAX_KEY,
    Failures,
    Outcome,
    Plan,
    PlannedOrder,
    make_key,
    make_plan,
)
from replay.rows import MAX_QUANTITY, Line

DAY_1, DAY_2 = date(2010, 12, 1), date(2010, 12, 2)


def order(
    order_id: str, *lines: tuple[str, int, str], day: date = DAY_1, user: str = "1", to: str = "GB"
) -> Order:
    read = tuple(Line(sku, quantity, Decimal(price)) for sku, quantity, price in lines)
    return Order(order_id, user, to, day, read)


def invoices(*orders: Order) -> Invoices:
    skus = {line.sku for order in orders for line in order.lines}
    return Invoices("digest", orders, {sku: f"a {sku}" for sku in skus}, (), ())


TWO_DAYS = invoices(
    order("1", ("A", 2, "1.00"), ("A", 3, "0.90")),
    order("2", ("A", 1, "0.90"), ("B", 4, "2.50"), user="2", to="FR"),
    order("3", ("A", 7, "0.90"), day=DAY_2, to="IE"),
)


def loaded(plan: Plan) -> dict[str, tuple[str, int]]:
    return {load.key: (load.sku, load.quantity) for load in plan.loads}


def test_a_run_of_the_first_day_loads_a_part_of_what_a_run_of_all_loads() -> None:
    first = loaded(make_plan(TWO_DAYS, Failures(), only_first_day=True))
    whole = loaded(make_plan(TWO_DAYS, Failures()))
    assert first == {"digest/A/stock/first-day": ("A", 6), "digest/B/stock/first-day": ("B", 4)}
    assert whole == first | {"digest/A/stock/rest": ("A", 7)}


def test_what_is_loaded_under_a_key_depends_on_no_option() -> None:
    whole = loaded(make_plan(TWO_DAYS, Failures()))
    for failures in (Failures(0.5, 0.5), Failures(1.0), Failures(0.0, 1.0, seed=3)):
        assert loaded(make_plan(TWO_DAYS, failures)) == whole
    assert loaded(make_plan(TWO_DAYS, Failures(), limit=1)).items() <= whole.items()


def test_users_and_items_are_made_from_the_whole_file() -> None:
    first = make_plan(TWO_DAYS, Failures(), limit=1)
    whole = make_plan(TWO_DAYS, Failures())
    assert [user.regions for user in first.users] == [("GB", "IE")]
    assert set(first.users) <= set(whole.users)
    assert set(first.items) <= set(whole.items)


def test_the_list_price_is_the_most_common_one() -> None:
    items = {item.sku: item for item in make_plan(TWO_DAYS, Failures()).items}
    assert items["A"].unit_price == Decimal("0.90")
    assert items["B"].description == "a B"


def test_more_than_one_restock_can_hold_is_loaded_in_parts() -> None:
    many = order("1", *[("A", MAX_QUANTITY, "1.00")] * 2, ("A", 5, "1.00"))
    plan = make_plan(invoices(many), Failures())
    assert loaded(plan) == {
        "digest/A/stock/first-day": ("A", MAX_QUANTITY),
        "digest/A/stock/first-day/1": ("A", MAX_QUANTITY),
        "digest/A/stock/first-day/2": ("A", 5),
    }


def test_an_orders_fate_is_the_same_in_every_run_of_a_seed() -> None:
    ids = [str(number) for number in range(2000)]
    failures = Failures(0.1, 0.05, seed=7)
    fates = [failures.outcome(order_id) for order_id in ids]
    assert fates == [Failures(0.1, 0.05, seed=7).outcome(order_id) for order_id in ids]
    assert fates != [Failures(0.1, 0.05, seed=8).outcome(order_id) for order_id in ids]
    counts = Counter(fates)
    assert 150 <= counts[Outcome.DECLINED] <= 250
    assert 60 <= counts[Outcome.OUT_OF_STOCK] <= 140


@pytest.mark.parametrize(
    ("failures", "outcome"),
    [
        (Failures(), Outcome.CONFIRMED),
        (Failures(decline=1.0), Outcome.DECLINED),
        (Failures(short_stock=1.0), Outcome.OUT_OF_STOCK),
    ],
)
def test_shares_of_none_and_of_all_are_exact(failures: Failures, outcome: Outcome) -> None:
    assert {failures.outcome(str(number)) for number in range(500)} == {outcome}


def test_a_short_order_asks_for_an_item_of_its_own() -> None:
    plan = make_plan(TWO_DAYS, Failures(short_stock=1.0), limit=1)
    [planned] = plan.orders
    assert planned.lines == (*planned.order.lines, Line("SHORT-1", 1, Decimal("1.00")))
    assert "SHORT-1" in {item.sku for item in plan.items}
    assert "SHORT-1" not in {load.sku for load in plan.loads}


def test_a_short_order_of_the_longest_kind_stays_within_the_contract() -> None:
    long = order("1", *[("A", 1, "1.00")] * MAX_LINES)
    lines = PlannedOrder(long, Outcome.OUT_OF_STOCK).lines
    assert len(lines) == MAX_LINES
    assert lines[-1].sku == "SHORT-1"


def test_the_body_of_an_order() -> None:
    planned = PlannedOrder(TWO_DAYS.orders[1], Outcome.DECLINED)
    assert planned.body() == {
        "orderId": "2",
        "userId": "2",
        "addressId": "fr",
        "lines": [
            {
                "sku": "A",
                "quantity": 1,
                "unitPrice": {"currencyCode": "GBP", "units": "0", "nanos": 900000000},
            },
            {
                "sku": "B",
                "quantity": 4,
                "unitPrice": {"currencyCode": "GBP", "units": "2", "nanos": 500000000},
            },
        ],
        "paymentToken": "tok_declined",
        "wait": True,
    }


def test_keys_are_short_plain_and_different() -> None:
    parts = [
        ("d", "85123A", "item"),
        ("d", "BANK CHARGES", "item"),
        ("d", "a/b", "item"),
        ("d", "a", "b/item"),
        ("d", "é", "item"),
        ("d", "x" * 200, "item"),
        ("d", "x" * 201, "item"),
    ]
    keys = [make_key(*names) for names in parts]
    assert keys[0] == "d/85123A/item"
    assert len(set(keys)) == len(keys)
    assert all(len(key) <= MAX_KEY and re.fullmatch(r"[!-~]+", key) for key in keys)


@pytest.mark.parametrize("amount", ["0.01", "2.55", "1000000000.00", "0.10"])
def test_money_survives_the_way_there_and_back(amount: str) -> None:
    assert str(from_money(to_money(Decimal(amount)))) == amount
    assert str(from_json(to_json(Decimal(amount)))) == amount


def test_absent_fields_of_money_are_zero() -> None:
    assert str(from_json({"currencyCode": "GBP"})) == "0.00"
    assert str(from_json({"nanos": 1})) == "1E-9"
