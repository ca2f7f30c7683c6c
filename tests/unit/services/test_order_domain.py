"""The rules of orders: prices, quotes, states."""

from __future__ import annotations

import pytest
from google.type.money_pb2 import Money
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import InvalidArgument, NotFound, Refused
from services.order import domain
from services.shared.money import to_minor, to_money
from shop.inventory.v1.inventory_pb2 import Item, Stock
from shop.order.v1 import order_pb2 as pb
from shop.user.v1.user_pb2 import User

CURRENCIES = st.sampled_from(["GBP", "EUR", "JPY", "BHD"])  # 2, 2, 0 and 3 decimal places
LINES = st.lists(
    st.tuples(
        st.sampled_from(["85123A", "POST", "M", "BANK CHARGES"]),
        st.integers(1, 100_000),
        st.integers(1, 100_000),
    ),
    min_size=1,
    max_size=20,
)


def order_line(sku: str, quantity: int, price: Money) -> pb.PricedLine:
    return pb.PricedLine(sku=sku, quantity=quantity, unit_price=price)


def quote_line(sku: str, quantity: int = 1, price: Money | None = None) -> pb.QuoteLine:
    return pb.QuoteLine(sku=sku, quantity=quantity, unit_price=price)


def item(sku: str, price: Money, free: int = 100) -> Item:
    return Item(sku=sku, unit_price=price, stock=Stock(sku=sku, free=free))


def gbp(minor: int) -> Money:
    return to_money("GBP", minor)


@given(currency=CURRENCIES, lines=LINES)
def test_the_total_is_the_sum_of_the_amounts(
    currency: str, lines: list[tuple[str, int, int]]
) -> None:
    priced = domain.price_order(order_line(s, q, to_money(currency, p)) for s, q, p in lines)
    assert priced.currency == currency
    assert [line.amount_minor for line in priced.lines] == [q * p for _, q, p in lines]
    assert priced.total_minor == sum(line.amount_minor for line in priced.lines)
    assert to_minor(priced.money(priced.total_minor)) == (currency, priced.total_minor)


@given(currency=CURRENCIES, lines=LINES, free=st.integers(0, 500_000))
def test_a_quote_adds_up_and_counts_each_sku_once(
    currency: str, lines: list[tuple[str, int, int]], free: int
) -> None:
    items = [item(sku, to_money(currency, 7), free) for sku in {sku for sku, _, _ in lines}]
    asked = [quote_line(s, q, to_money(currency, p)) for s, q, p in lines]
    priced = domain.price_lines(asked, items, own_prices=True)
    quote = domain.quote(priced, items, User(state=User.ACTIVE))
    assert sum(to_minor(line.amount)[1] for line in quote.lines) == to_minor(quote.total)[1]
    assert [(line.sku, line.quantity) for line in quote.lines] == [(s, q) for s, q, _ in lines]
    for line in quote.lines:
        wanted = sum(q for s, q, _ in lines if s == line.sku)
        assert line.available == (wanted <= free)
    assert quote.available == all(line.available for line in quote.lines)


def test_an_order_has_one_currency() -> None:
    lines = [order_line("A", 1, gbp(100)), order_line("B", 1, to_money("EUR", 100))]
    with pytest.raises(InvalidArgument) as refused:
        domain.price_order(lines)
    assert refused.value.reason == "MIXED_CURRENCIES"
    assert refused.value.violations[0][0] == "lines[1].unit_price"


def test_a_price_is_a_whole_number_of_minor_units() -> None:
    half_a_penny = Money(currency_code="GBP", nanos=5_000_000)
    with pytest.raises(InvalidArgument) as refused:
        domain.price_order([order_line("A", 2, half_a_penny)])
    assert refused.value.violations[0][0].startswith("lines[0].unit_price")


@pytest.mark.parametrize("currency", ["GBP", "JPY", "BHD"])
def test_a_total_has_a_limit_in_units(currency: str) -> None:
    limit = [
        order_line("A", 1_000, Money(currency_code=currency, units=999_999_999)),
        order_line("A", 1_000, Money(currency_code=currency, units=1)),
    ]
    priced = domain.price_order(limit)
    assert priced.money(priced.total_minor).units == domain.TOTAL_LIMIT_UNITS
    with pytest.raises(InvalidArgument) as refused:
        domain.price_order([*limit, order_line("A", 1, to_money(currency, 1))])
    assert refused.value.reason == "TOTAL_TOO_LARGE"


def test_the_largest_request_is_refused_rather_than_overflowing() -> None:
    dear = order_line("A", 10_000_000, Money(currency_code="CLF", units=1_000_000_000))
    with pytest.raises(InvalidArgument) as refused:
        domain.price_order([dear] * 500)
    assert refused.value.reason == "TOTAL_TOO_LARGE"


def test_own_prices_are_for_those_who_may_name_them() -> None:
    items = [item("A", gbp(1_000)), item("B", gbp(300))]
    lines = [quote_line("A", 2, gbp(750)), quote_line("A", 1), quote_line("B", 3)]
    own = domain.price_lines(lines, items, own_prices=True)
    assert [line.unit_minor for line in own.lines] == [750, 1_000, 300]
    listed = domain.price_lines(lines, items, own_prices=False)
    assert [line.unit_minor for line in listed.lines] == [1_000, 1_000, 300]


def test_an_unknown_sku_is_named() -> None:
    lines = [quote_line("A"), quote_line("BANK CHARGES", 1, gbp(1))]
    with pytest.raises(NotFound) as refused:
        domain.price_lines(lines, [item("A", gbp(1))], own_prices=True)
    assert refused.value.reason == "UNKNOWN_SKU"
    assert refused.value.info == {"sku": "BANK CHARGES"}


def test_the_lines_of_a_sku_share_its_stock() -> None:
    items = [item("A", gbp(1), free=10), item("B", gbp(1), free=10)]
    lines = [quote_line("A", 6), quote_line("A", 5), quote_line("B", 10)]
    priced = domain.price_lines(lines, items, own_prices=False)
    quote = domain.quote(priced, items, User(state=User.SUSPENDED))
    assert [line.available for line in quote.lines] == [False, False, True]
    assert [line.free for line in quote.lines] == [10, 10, 10]
    assert not quote.available
    assert quote.user_state == User.SUSPENDED


@pytest.mark.parametrize("state", [pb.Order.PENDING, pb.Order.CONFIRMED])
def test_an_open_order_can_be_confirmed(state: domain.State) -> None:
    assert domain.confirmed(state) == pb.Order.CONFIRMED


def test_a_cancelled_order_cannot_be_confirmed() -> None:
    with pytest.raises(Refused) as refused:
        domain.confirmed(pb.Order.CANCELLED)
    assert refused.value.reason == "ORDER_CANCELLED"


@pytest.mark.parametrize("state", [pb.Order.PENDING, pb.Order.CONFIRMED, pb.Order.CANCELLED])
def test_any_order_can_be_cancelled(state: domain.State) -> None:
    assert domain.cancelled(state) == pb.Order.CANCELLED
