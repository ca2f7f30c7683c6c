"""The ledger in the database: append-only, double entry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mesh.storage.port import Tx
from services.shared.money import to_minor, to_money
from services.shared.paging import Page
from services.shared.times import to_timestamp
from shop.payment.v1 import payment_pb2 as pb

from . import domain


async def post(tx: Tx, kind: pb.LedgerEntry.Kind.ValueType, payment: pb.Payment) -> None:
    """Append the entry that says why *payment*'s amount moved."""
    ((number,),) = await tx.execute(
        "UPDATE ledger_end SET last_number = last_number + 1 RETURNING last_number"
    )
    debit, credit = domain.ACCOUNTS[kind]
    currency, amount_minor = to_minor(payment.amount)
    await tx.execute(
        "INSERT INTO ledger_entries (entry_number, order_id, kind, currency, amount_minor,"
        " debit_account, credit_account, create_time) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        number,
        payment.order_id,
        kind,
        currency,
        amount_minor,
        debit,
        credit,
        tx.now(),
    )


async def summary(tx: Tx) -> pb.LedgerSummary:
    """Return the sums of all entries."""
    return domain.summary(
        await tx.execute(
            "SELECT currency, kind, CAST(SUM(amount_minor) AS BIGINT), COUNT(*)"
            " FROM ledger_entries GROUP BY currency, kind"
        )
    )


async def entries(tx: Tx, order_id: str, page: Page) -> tuple[list[pb.LedgerEntry], str]:
    """Return a page of entries in the sequence they were written, and its key; "" is any order."""
    rows, last = page.cut(
        await tx.execute(
            "SELECT entry_number, order_id, kind, currency, amount_minor, debit_account,"
            " credit_account, create_time FROM ledger_entries"
            " WHERE entry_number > $1 AND ($2 = '' OR order_id = $2)"
            " ORDER BY entry_number LIMIT $3",
            int(page.after or 0),
            order_id,
            page.limit,
        )
    )
    return [_entry(row) for row in rows], last


def _entry(row: Sequence[Any]) -> pb.LedgerEntry:
    number, order_id, kind, currency, amount_minor, debit, credit, create_time = row
    return pb.LedgerEntry(
        entry_number=number,
        order_id=order_id,
        kind=kind,
        amount=to_money(currency, amount_minor),
        debit_account=debit,
        credit_account=credit,
        create_time=to_timestamp(create_time),
    )
