"""Money: integer minor units in databases and sums, `google.type.Money` on the wire.

This is the one converter. An amount that its currency cannot express (half a penny, a tenth of
a yen) is refused, never rounded.
"""

from __future__ import annotations

import re

from google.type.money_pb2 import Money

from mesh.errors import InvalidArgument

_NANOS = 10**9
#: What a database's BIGINT holds.
_MINOR_MAX = 2**63 - 1
_CURRENCY = re.compile(r"[A-Z]{3}")

#: ISO 4217, table A.1: the currencies whose minor unit is not a hundredth, by decimal places.
_EXPONENTS = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
_EXPONENT = {currency: n for n, all_of in _EXPONENTS.items() for currency in all_of.split()}


def to_minor(money: Money, field: str = "amount") -> tuple[str, int]:
    """Return the currency and the integer number of its minor units: £1.50 is ("GBP", 150).

    Args:
        money: from a request.
        field: where it stands in the request, for the refusal.

    Raises:
        InvalidArgument: it is negative, no such currency can be, or it is not a whole number of
            minor units.
    """
    if not _CURRENCY.fullmatch(money.currency_code):
        raise _invalid(f"{field}.currency_code", "must be an upper-case ISO 4217 code")
    if money.units < 0:
        raise _invalid(f"{field}.units", "must not be negative")
    if not 0 <= money.nanos < _NANOS:
        raise _invalid(f"{field}.nanos", f"must be from 0 to {_NANOS - 1}")
    per_unit = _minor_per_unit(money.currency_code)
    minor, rest = divmod(money.nanos * per_unit, _NANOS)
    if rest:
        raise _invalid(f"{field}.nanos", f"{money.currency_code} has {per_unit} parts to a unit")
    minor += money.units * per_unit
    if minor > _MINOR_MAX:
        raise _invalid(f"{field}.units", "is more than can be accounted for")
    return money.currency_code, minor


def to_money(currency: str, minor: int) -> Money:
    """Return *minor* units of *currency*: ("GBP", 150) is £1.50."""
    per_unit = _minor_per_unit(currency)
    units, rest = divmod(abs(minor), per_unit)
    sign = -1 if minor < 0 else 1  # units and nanos of one amount have one sign
    return Money(
        currency_code=currency, units=sign * units, nanos=sign * rest * (_NANOS // per_unit)
    )


def to_text(currency: str, minor: int) -> str:
    """Return *minor* units of *currency* as people write them: ("GBP", -150) is "-1.50"."""
    places = _EXPONENT.get(currency, 2)
    digits = f"{abs(minor):0{places + 1}}"
    whole, part = digits[: len(digits) - places], digits[len(digits) - places :]
    return f"{'-' if minor < 0 else ''}{int(whole):,}{'.' if part else ''}{part}"


def _minor_per_unit(currency: str) -> int:
    return int(10 ** _EXPONENT.get(currency, 2))


def _invalid(field: str, what: str) -> InvalidArgument:
    return InvalidArgument(violations=[(field, what)])
