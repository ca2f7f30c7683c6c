"""The one converter of money."""

from __future__ import annotations

import pytest
from google.type.money_pb2 import Money
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import InvalidArgument
from services.shared.money import to_minor, to_money, to_text


@pytest.mark.parametrize(
    ("currency", "units", "nanos", "minor"),
    [
        ("GBP", 77_183, 600_000_000, 7_718_360),
        ("GBP", 0, 10_000_000, 1),
        ("JPY", 500, 0, 500),
        ("KWD", 1, 1_000_000, 1_001),
        ("CLF", 1, 100_000, 10_001),
        ("XTS", 2, 50_000_000, 205),  # not in the table: hundredths
    ],
)
def test_minor_units_and_back(currency: str, units: int, nanos: int, minor: int) -> None:
    money = Money(currency_code=currency, units=units, nanos=nanos)
    assert to_minor(money) == (currency, minor)
    assert to_money(currency, minor) == money


@given(st.sampled_from(["GBP", "JPY", "KWD", "CLF"]), st.integers(0, 2**63 - 1))
def test_nothing_is_lost_on_the_way(currency: str, minor: int) -> None:
    assert to_minor(to_money(currency, minor)) == (currency, minor)


@pytest.mark.parametrize(
    ("currency", "units", "nanos", "field"),
    [
        ("GBP", 0, 5_000_000, "nanos"),  # half a penny
        ("JPY", 1, 100_000_000, "nanos"),
        ("GBP", 0, 1_000_000_000, "nanos"),
        ("GBP", 1, -10_000_000, "nanos"),
        ("GBP", -1, 0, "units"),
        ("GBP", 2**62, 0, "units"),  # more pence than a BIGINT holds
        ("", 1, 0, "currency_code"),
        ("gbp", 1, 0, "currency_code"),
        ("GBP\n", 1, 0, "currency_code"),
    ],
)
def test_what_cannot_be_kept_exactly_is_refused(
    currency: str, units: int, nanos: int, field: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        to_minor(Money(currency_code=currency, units=units, nanos=nanos), "total")
    ((where, _),) = refused.value.violations
    assert where == f"total.{field}"


def test_a_negative_sum_has_one_sign() -> None:
    assert to_money("GBP", -150) == Money(currency_code="GBP", units=-1, nanos=-500_000_000)


@pytest.mark.parametrize(
    ("currency", "minor", "text"),
    [
        ("GBP", 7_718_360, "77,183.60"),
        ("GBP", -5, "-0.05"),
        ("GBP", 0, "0.00"),
        ("JPY", 1_500, "1,500"),
        ("KWD", -1_001, "-1.001"),
    ],
)
def test_as_people_write_it(currency: str, minor: int, text: str) -> None:
    assert to_text(currency, minor) == text
