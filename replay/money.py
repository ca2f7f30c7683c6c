"""`google.type.Money` <-> Decimal pounds; never a float between."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from google.type.money_pb2 import Money

from replay.invoices import CURRENCY

NANOS: Final = 1_000_000_000


def to_money(amount: Decimal) -> Money:
    """An amount in pounds as the message."""
    units, nanos = _split(amount)
    return Money(currency_code=CURRENCY, units=units, nanos=nanos)


def to_json(amount: Decimal) -> dict[str, Any]:
    """An amount in pounds as the message's JSON."""
    units, nanos = _split(amount)
    return {"currencyCode": CURRENCY, "units": str(units), "nanos": nanos}


def from_json(money: Mapping[str, Any]) -> Decimal:
    """The amount of the message's JSON, whatever its currency; an absent field is 0."""
    return _join(int(money.get("units", 0)), int(money.get("nanos", 0)))


def from_money(money: Money) -> Decimal:
    """The amount of a message, whatever its currency."""
    return _join(money.units, money.nanos)


def _split(amount: Decimal) -> tuple[int, int]:
    units = int(amount)
    return units, int((amount - units) * NANOS)


def _join(units: int, nanos: int) -> Decimal:
    """In pennies, or exactly if there is a fraction of one."""
    amount = units + Decimal(nanos) / NANOS
    pennies = amount.quantize(Decimal("0.01"))
    return pennies if pennies == amount else amount
