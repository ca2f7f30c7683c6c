"""The December file as plain CSV: what was ordered, added up without the program under test."""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from decimal import Decimal
from functools import cache
from typing import Final

from tests.e2e.system import ROOT

FILE: Final = ROOT / "replay" / "data" / "online_retail_2010-12.csv.gz"
ORDERS: Final = 1_400
USERS: Final = 885
TOTAL_PENCE: Final = 57_271_389  # £572,713.89


@cache
def totals_pence() -> dict[str, int]:
    """What each order comes to."""
    totals: Counter[str] = Counter()
    for row in _rows():
        pence = Decimal(row["UnitPrice"]) * 100
        assert pence == int(pence)
        totals[row["InvoiceNo"]] += int(row["Quantity"]) * int(pence)
    return dict(totals)


@cache
def units() -> dict[str, Counter[str]]:
    """The units of each SKU in each order."""
    units: dict[str, Counter[str]] = {}
    for row in _rows():
        units.setdefault(row["InvoiceNo"], Counter())[row["StockCode"]] += int(row["Quantity"])
    return units


@cache
def users() -> frozenset[str]:
    """Who orders."""
    return frozenset(row["CustomerID"] for row in _rows())


def _rows() -> list[dict[str, str]]:
    """The lines that are orders: of a customer, of a positive quantity and price, no credit."""
    with gzip.open(FILE, "rt", encoding="utf-8", newline="") as lines:
        return [
            row
            for row in csv.DictReader(lines)
            if not row["InvoiceNo"].startswith("C")
            and row["CustomerID"]
            and int(row["Quantity"]) > 0
            and Decimal(row["UnitPrice"]) > 0
        ]
