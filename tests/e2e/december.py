"""The December file: replayed, and added up as plain CSV without the program under test."""

from __future__ import annotations

import csv
import gzip
import json
import sys
from collections import Counter
from decimal import Decimal
from functools import cache
from typing import Any, Final

from tests.e2e.system import ROOT, System

FILE: Final = ROOT / "replay" / "data" / "online_retail_2010-12.csv.gz"
ORDERS: Final = 1_400
USERS: Final = 885
TOTAL_PENCE: Final = 57_271_389  # £572,713.89
#: What the replay takes to make a share of the orders fail. Enough at a time to kill under load.
FAILING: Final = ("--decline=0.1", "--short-stock=0.05", "--seed=7", "--concurrency=64")
REPLAY_S: Final = 300.0


def replay_command(*options: str) -> list[str]:
    """The command that places all of it."""
    return [sys.executable, "-m", "replay", str(FILE), "--json", *options]


def replay(system: System, *options: str) -> dict[str, Any]:
    """Place all of it; return the report."""
    report: dict[str, Any] = json.loads(
        system.run(*replay_command(*options), timeout_s=REPLAY_S).stdout
    )
    return report


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
