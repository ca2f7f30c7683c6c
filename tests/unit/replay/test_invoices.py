"""Reading the file: what is an order, and what is said of rows that cannot be read."""

from __future__ import annotations

import gzip
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.invoices import MAX_LINES, FileError, Invoices, first_day, parse, read_file
from replay.rows import HEADER

DECEMBER = Path(__file__).parents[3] / "replay" / "data" / "online_retail_2010-12.csv.gz"
GOOD = "536365,85123A,HEART,6,2010-12-01T08:26,2.55,17850,United Kingdom"


def read(*rows: str) -> Invoices:
    return parse("\n".join([",".join(HEADER), *rows]).encode())


def changed(**cells: str) -> str:
    row = dict(zip(HEADER, GOOD.split(","), strict=True)) | cells
    return ",".join(row.values())


@pytest.fixture(scope="module")
def december() -> Invoices:
    return read_file(DECEMBER)


def test_december_has_the_orders_it_is_known_for(december: Invoices) -> None:
    orders = december.orders
    assert len(orders) == 1400
    assert len({order.user_id for order in orders}) == 885
    assert sum(order.total for order in orders) == Decimal("572713.89")
    assert sum(len(order.quantities) < len(order.lines) for order in orders) == 213
    assert max(len(order.lines) for order in orders) == 169
    assert december.malformed == december.notices == ()


def test_december_begins_on_the_first(december: Invoices) -> None:
    day = first_day(december.orders)
    orders = [order for order in december.orders if order.day == day]
    assert day == date(2010, 12, 1)
    assert len(orders) == 121
    assert sum(order.total for order in orders) == Decimal("46376.49")


def test_one_sku_at_two_prices_stays_two_lines() -> None:
    [order] = read(GOOD, changed(UnitPrice="2.10", Quantity="4")).orders
    assert [(line.quantity, line.unit_price) for line in order.lines] == [
        (6, Decimal("2.55")),
        (4, Decimal("2.10")),
    ]
    assert order.quantities == {"85123A": 10}
    assert order.total == Decimal("23.70")


@pytest.mark.parametrize(
    "row",
    [
        changed(InvoiceNo="C536379"),
        changed(CustomerID=""),
        changed(Quantity="0"),
        changed(Quantity="-1"),
        changed(UnitPrice="0"),
        changed(UnitPrice="-11062.06"),
    ],
)
def test_what_is_no_sale_is_left_out_without_a_word(row: str) -> None:
    read_ = read(changed(InvoiceNo="1"), row)
    assert [order.order_id for order in read_.orders] == ["1"]
    assert not read_.malformed


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("536365,85123A", "2 columns, not 8"),
        (GOOD + ",more", "9 columns, not 8"),
        (changed(Quantity="six"), "Quantity 'six': not a whole number"),
        (changed(Quantity="6.0"), "Quantity '6.0': not a whole number"),
        (changed(Quantity="10000001"), "Quantity 10000001: more than 10000000"),
        (changed(UnitPrice="2,55"), "9 columns, not 8"),
        (changed(UnitPrice="NaN"), "UnitPrice 'NaN': not a number"),
        (changed(UnitPrice="1e3"), "UnitPrice '1e3': not a number"),
        (changed(UnitPrice="1000000001"), "UnitPrice '1000000001': more than 1000000000"),
        (changed(UnitPrice="0.001"), "UnitPrice '0.001': not in whole pennies"),
        (changed(InvoiceDate="01/12/2010"), "InvoiceDate '01/12/2010': not like 2010-12-01T08:26"),
        (changed(StockCode=""), "StockCode '': not 1 to 64 printable characters"),
        (changed(StockCode="A\tB"), r"StockCode 'A\tB': not 1 to 64 printable characters"),
        (changed(StockCode="x" * 65), "StockCode 'xxxxxxxxxx"),
        (changed(InvoiceNo="a/b"), "InvoiceNo 'a/b': not 1 to 32 characters of"),
        (changed(InvoiceNo=""), "InvoiceNo '': not 1 to 32 characters of"),
        (changed(CustomerID="Ann"), "CustomerID 'Ann': not 1 to 32 digits"),
        (changed(Description="x" * 501), "Description: more than 500 characters"),
        (changed(Description="x" * 5000), "more than 4000 characters"),
        (changed(Description='"HEART'), "not CSV: unexpected end of data"),
        (changed(Description='"HEART"S'), "not CSV: "),
    ],
)
def test_a_malformed_row_is_reported_and_skipped(row: str, reason: str) -> None:
    read_ = read(GOOD, row, changed(StockCode="71053"))
    [remark] = read_.malformed
    assert remark.line_number == 3
    assert remark.text.startswith(reason)
    assert [line.sku for line in read_.orders[0].lines] == ["85123A", "71053"]


def test_bytes_that_are_not_utf_8_spoil_their_row_only() -> None:
    content = f"{','.join(HEADER)}\n{GOOD}\n".encode() + b"1,2,caf\xe9,1,2010-12-01,1,1,France\n"
    read_ = parse(content)
    assert [(remark.line_number, remark.text) for remark in read_.malformed] == [(3, "not UTF-8")]
    assert len(read_.orders) == 1


def test_an_invoice_is_one_customers_in_one_country() -> None:
    other = changed(CustomerID="13047", StockCode="71053")
    elsewhere = changed(Country="France", StockCode="71053")
    [order], malformed = (read_ := read(GOOD, other, elsewhere)).orders, read_.malformed
    assert [line.sku for line in order.lines] == ["85123A"]
    assert [remark.text for remark in malformed] == [
        "invoice 536365 is customer 17850's in United Kingdom, not 13047's in 'United Kingdom'",
        "invoice 536365 is customer 17850's in United Kingdom, not 17850's in 'France'",
    ]


def test_an_invoice_has_at_most_so_many_lines() -> None:
    read_ = read(*[GOOD] * (MAX_LINES + 1))
    assert len(read_.orders[0].lines) == MAX_LINES
    assert [remark.line_number for remark in read_.malformed] == [MAX_LINES + 2]


def test_countries_become_regions() -> None:
    countries = ["EIRE", "RSA", "Channel Islands", "Unspecified", "European Community", "Narnia"]
    rows = [changed(InvoiceNo=str(n), Country=name) for n, name in enumerate(countries)]
    read_ = read(*rows, changed(InvoiceNo="9", Country="Narnia"))
    regions = [order.region for order in read_.orders]
    assert regions == ["IE", "ZA", "GG", "ZZ", "ZZ", "ZZ", "ZZ"]
    assert [(n.line_number, n.text) for n in read_.notices] == [
        (7, "unknown country 'Narnia': ZZ from here on")
    ]
    assert not read_.malformed


def test_a_byte_order_mark_blank_lines_and_windows_line_ends_are_nothing() -> None:
    content = b"\xef\xbb\xbf" + f"{','.join(HEADER)}\r\n{GOOD}\r\n\r\n".encode()
    assert len(parse(content).orders) == 1


def test_the_digest_is_of_the_content_however_it_is_packed(tmp_path: Path) -> None:
    plain = tmp_path / "orders.csv"
    plain.write_bytes(gzip.decompress(DECEMBER.read_bytes()))
    assert read_file(plain).digest == read_file(DECEMBER).digest
    assert read(GOOD).digest != read(GOOD, GOOD).digest


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a file of invoices: line 1 is ''"),
        (b"\x00\xff\xfe", "not a file of invoices: line 1 is "),
        (b"a,b\n1,2\n", "not a file of invoices: line 1 is 'a,b', not InvoiceNo,"),
        (",".join(HEADER).encode(), "no sale in it (0 malformed rows)"),
        (gzip.compress(GOOD.encode(), mtime=0)[:-9], "damaged gzip data"),
        (b"\x1f\x8b\x08\x00garbage-garbage", "damaged gzip data"),
    ],
)
def test_a_file_that_cannot_be_replayed_is_refused(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "orders.csv.gz"
    path.write_bytes(content)
    with pytest.raises(FileError) as caught:
        read_file(path)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="there is no such file"):
        read_file(tmp_path / "none.csv")
    with pytest.raises(FileError, match="Is a directory"):
        read_file(tmp_path)


@given(st.text(max_size=200))
def test_no_row_whatever_it_holds_makes_reading_fail(row: str) -> None:
    read_ = parse(f"{','.join(HEADER)}\n{GOOD}\n{row}\n".encode("utf-8", "surrogatepass"))
    assert read_.orders[0].order_id == "536365"


@given(
    st.lists(
        st.tuples(st.integers(1, 10**7), st.integers(1, 10**9)),
        min_size=1,
        max_size=20,
    )
)
def test_totals_are_exact(lines: list[tuple[int, int]]) -> None:
    rows = [
        changed(Quantity=str(quantity), UnitPrice=f"{pennies // 100}.{pennies % 100:02}")
        for quantity, pennies in lines
    ]
    [order] = read(*rows).orders
    assert order.total * 100 == sum(quantity * pennies for quantity, pennies in lines)
