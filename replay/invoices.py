"""Reads a file of invoice lines into orders. Pure, but for `read_file`.

The format is that of UCI Online Retail as CSV: a line for each row, with the columns of
`replay.rows.HEADER`, prices in pounds. Every invoice that does not begin with C, which marks a
cancellation, is one order of its rows that have a customer, a positive quantity and a positive
price. A SKU may stand on several lines of an order, at several prices. Other rows are no error;
they are simply not sales.

A row that cannot be read is reported with its line number and left out; so is what the contracts
do not admit: prices in fractions of a penny, order ids that are not safe in a URL.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Final

from replay.regions import REGIONS, UNKNOWN_REGION
from replay.rows import HEADER, Line, Row, read_row, shown, split_cells

CURRENCY: Final = "GBP"
MAX_FILE_BYTES: Final = 512 * 1024 * 1024  # unpacked; the whole of Online Retail has 45 MB
MAX_LINES: Final = 500  # of an order, as the contracts have it

_GZIP_MAGIC: Final = b"\x1f\x8b"


class FileError(Exception):
    """The file cannot be replayed at all: not there, damaged, or of another format."""


@dataclass(frozen=True, slots=True)
class Order:
    """One invoice. `region`: where it goes; `day`: when its first line was written."""

    order_id: str
    user_id: str
    region: str
    day: date
    lines: tuple[Line, ...]

    @property
    def total(self) -> Decimal:
        """The sum of its lines, in pounds."""
        return sum((line.quantity * line.unit_price for line in self.lines), Decimal())

    @property
    def quantities(self) -> Counter[str]:
        """Units by SKU, lines of the same SKU added up."""
        units: Counter[str] = Counter()
        for line in self.lines:
            units[line.sku] += line.quantity
        return units


@dataclass(frozen=True, slots=True)
class Remark:
    """Something about the row on line `line_number`, the header being line 1."""

    line_number: int
    text: str


@dataclass(frozen=True, slots=True)
class Invoices:
    """What a file holds.

    digest: identifies the content, however it is named or packed. orders: in the file's sequence.
    descriptions: by SKU, of every SKU ordered. malformed: rows left out. notices: rows kept, with
    something assumed.
    """

    digest: str
    orders: tuple[Order, ...]
    descriptions: Mapping[str, str]
    malformed: tuple[Remark, ...]
    notices: tuple[Remark, ...]


def read_file(path: Path) -> Invoices:
    """Read a CSV file, packed with gzip or not. Raises FileError."""
    try:
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP_MAGIC
            file.seek(0)
            source = gzip.GzipFile(fileobj=file) if packed else file
            content = source.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise FileError(f"{path}: there is no such file") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise FileError(f"{path}: damaged gzip data: {error}") from error
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from error
    if len(content) > MAX_FILE_BYTES:
        raise FileError(f"{path}: more than {MAX_FILE_BYTES // 2**20} MiB")
    try:
        return parse(content)
    except FileError as error:
        raise FileError(f"{path}: {error}") from None


def parse(content: bytes) -> Invoices:
    """Read the bytes of a CSV file. Raises FileError: another header, or nothing sold."""
    # What is not UTF-8 becomes lone surrogates, which `split_cells` reports row by row.
    text = content.decode("utf-8-sig", errors="surrogateescape")
    # A row is a line, so that an unclosed quote spoils only its own.
    rows = enumerate(io.StringIO(text, newline=None), start=1)
    _check_header(rows)
    book = _Book()
    for number, row in rows:
        if row.strip():
            book.add(number, row)
    if not book.drafts:
        raise FileError(f"no sale in it ({len(book.malformed)} malformed rows)")
    return Invoices(
        digest=hashlib.sha256(content).hexdigest()[:16],
        orders=tuple(draft.order() for draft in book.drafts.values()),
        descriptions=book.descriptions,
        malformed=tuple(book.malformed),
        notices=tuple(book.notices),
    )


def _check_header(rows: Iterator[tuple[int, str]]) -> None:
    _, row = next(rows, (1, ""))
    try:
        cells = tuple(split_cells(row))
    except ValueError:
        cells = ()
    if cells != HEADER:
        shown = ascii(row.rstrip("\n")[:80])
        raise FileError(f"not a file of invoices: line 1 is {shown}, not {','.join(HEADER)}")


@dataclass(slots=True)
class _Draft:
    """An order whose lines are still being read."""

    order_id: str
    user_id: str
    country: str
    day: date
    lines: list[Line] = field(default_factory=list)

    def order(self) -> Order:
        region = REGIONS.get(self.country, UNKNOWN_REGION)
        return Order(self.order_id, self.user_id, region, self.day, tuple(self.lines))


@dataclass(slots=True)
class _Book:
    """The orders read so far."""

    drafts: dict[str, _Draft] = field(default_factory=dict)
    descriptions: dict[str, str] = field(default_factory=dict)
    malformed: list[Remark] = field(default_factory=list)
    notices: list[Remark] = field(default_factory=list)
    _unknown_countries: set[str] = field(default_factory=set)

    def add(self, number: int, text: str) -> None:
        try:
            row = read_row(text)
            if row.is_sale:
                self._add_sale(number, row)
        except ValueError as error:
            self.malformed.append(Remark(number, str(error)))

    def _add_sale(self, number: int, row: Row) -> None:
        draft = self.drafts.get(row.invoice)
        if draft is None:
            draft = _Draft(row.invoice, row.customer, row.country, row.day)
            self._notice_country(number, row.country)
        elif (draft.user_id, draft.country) != (row.customer, row.country):
            raise ValueError(
                f"invoice {row.invoice} is customer {draft.user_id}'s in {draft.country},"
                f" not {row.customer}'s in {shown(row.country)}"
            )
        elif len(draft.lines) >= MAX_LINES:
            raise ValueError(f"invoice {row.invoice} has more than {MAX_LINES} lines")
        self.drafts[row.invoice] = draft
        draft.lines.append(row.line)
        self.descriptions[row.line.sku] = (
            self.descriptions.get(row.line.sku) or row.description.strip()
        )

    def _notice_country(self, number: int, country: str) -> None:
        if country not in REGIONS and country not in self._unknown_countries:
            self._unknown_countries.add(country)
            text = f"unknown country {shown(country)}: {UNKNOWN_REGION} from here on"
            self.notices.append(Remark(number, text))


def first_day(orders: Iterable[Order]) -> date:
    """The first trading day: the earliest on which something was sold."""
    return min(order.day for order in orders)
