"""One row of a file of invoices: what its cells must look like."""

from __future__ import annotations

import csv
import re
import unicodedata
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Final

HEADER: Final = (
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
)
MAX_ROW: Final = 4_000  # characters
MAX_SKU: Final = 64
MAX_DESCRIPTION: Final = 500
MAX_QUANTITY: Final = 10_000_000
MAX_PRICE: Final = 1_000_000_000

# Shorter than the contracts allow, so that `SHORT-<invoice>` is a SKU and
# `customer-<id>@example.com` an e-mail address.
_INVOICE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,31}")
_CUSTOMER: Final = re.compile(r"[0-9]{1,32}")
_QUANTITY: Final = re.compile(r"-?[0-9]{1,18}")
_PRICE: Final = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?")
_PENNY: Final = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of an order; `unit_price` in pounds, in whole pennies."""

    sku: str
    quantity: int
    unit_price: Decimal


@dataclass(frozen=True, slots=True)
class Row:
    """A row that could be read, be it a sale or not."""

    invoice: str
    line: Line
    description: str
    day: date
    customer: str
    country: str

    @property
    def is_sale(self) -> bool:
        """Whether it is a line of an order, and not a cancellation, a correction or the like."""
        is_cancellation = self.invoice.startswith("C")
        return (
            not is_cancellation
            and bool(self.customer)
            and self.line.quantity > 0
            and self.line.unit_price > 0
        )


def read_row(text: str) -> Row:
    """Read one row. Raises ValueError, with a sentence for people."""
    cells = split_cells(text)
    if len(cells) != len(HEADER):
        raise ValueError(f"{len(cells)} columns, not {len(HEADER)}")
    invoice, sku, description, quantity, when, price, customer, country = cells
    if not _INVOICE.fullmatch(invoice):
        raise ValueError(
            f"InvoiceNo {shown(invoice)}: not 1 to 32 characters of A-Z a-z 0-9 . _ ~ -"
        )
    if customer and not _CUSTOMER.fullmatch(customer):
        raise ValueError(f"CustomerID {shown(customer)}: not 1 to 32 digits")
    if not 1 <= len(sku) <= MAX_SKU or not all(map(_is_printable, sku)):
        raise ValueError(f"StockCode {shown(sku)}: not 1 to {MAX_SKU} printable characters")
    if len(description) > MAX_DESCRIPTION:
        raise ValueError(f"Description: more than {MAX_DESCRIPTION} characters")
    return Row(
        invoice=invoice,
        line=Line(sku, _read_quantity(quantity), _read_price(price)),
        description=description,
        day=_read_day(when),
        customer=customer,
        country=country,
    )


def split_cells(row: str) -> list[str]:
    """The cells of one line of CSV. Raises ValueError."""
    if len(row) > MAX_ROW:
        raise ValueError(f"more than {MAX_ROW} characters")
    if any("\ud800" <= char <= "\udfff" for char in row):
        raise ValueError("not UTF-8")
    try:
        return next(csv.reader([row], strict=True), [])
    except csv.Error as error:
        raise ValueError(f"not CSV: {error}") from error


def _read_quantity(text: str) -> int:
    if not _QUANTITY.fullmatch(text):
        raise ValueError(f"Quantity {shown(text)}: not a whole number")
    quantity = int(text)
    if quantity > MAX_QUANTITY:
        raise ValueError(f"Quantity {quantity}: more than {MAX_QUANTITY}")
    return quantity


def _read_price(text: str) -> Decimal:
    if not _PRICE.fullmatch(text):
        raise ValueError(f"UnitPrice {shown(text)}: not a number")
    price = Decimal(text)
    if price > MAX_PRICE:
        raise ValueError(f"UnitPrice {shown(text)}: more than {MAX_PRICE}")
    if price > 0 and price % _PENNY:
        raise ValueError(f"UnitPrice {shown(text)}: not in whole pennies")
    return price


def _read_day(text: str) -> date:
    try:
        return datetime.fromisoformat(text).date()
    except ValueError:
        raise ValueError(f"InvoiceDate {shown(text)}: not like 2010-12-01T08:26") from None


def _is_printable(char: str) -> bool:
    return char == " " or unicodedata.category(char)[0] in "LMNPS"


def shown(text: str) -> str:
    """A cell in a message: quoted, escaped and short."""
    return ascii(text[:40]) + ("…" if len(text) > 40 else "")
