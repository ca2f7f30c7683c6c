"""The ledger in the database: append-only, double entry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mesh.storage.port import Tx
from services.shared.money import to_money
from services.shared.paging import Page
from services.shared.times import to_timestamp
from shop.payment.v1 import payment_pb2 as pb

from . import accounts
from .domain import Event

_ENTRY = (
    "SELECT entry_number, order_id, kind, ledger_entries.currency, ledger_entries.amount_minor,"
    " debit_account, credit_account, time"
    " FROM ledger_entries JOIN payment_events USING (order_id, version)"
)


async def post(tx: Tx, event: Event) -> None:
    """Append the entry of an event that moved money."""
    kind = accounts.MOVES[event.what]
    debit, credit = accounts.ACCOUNTS[kind]
    ((number,),) = await tx.execute(
        "UPDATE ledger_end SET last_number = last_number + 1 RETURNING last_number"
    )
    await tx.execute(
        "INSERT INTO ledger_entries (entry_number, order_id, version, kind, currency,"
        " amount_minor, debit_account, credit_account) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        number,
        event.order_id,
        event.version,
        kind,
        event.currency,
        event.amount_minor,
        debit,
        credit,
    )


async def summary(tx: Tx) -> pb.LedgerSummary:
    """Return the sums of all entries."""
    return accounts.summary(
        await tx.execute(
            "SELECT currency, kind, CAST(SUM(amount_minor) AS BIGINT), COUNT(*)"
            " FROM ledger_entries GROUP BY currency, kind"
        )
    )


async def trial_balance(tx: Tx) -> pb.TrialBalance:
    """Return the sums of all accounts."""
    return accounts.trial_balance(
        await tx.execute(
            "SELECT account, currency, CAST(SUM(debit_minor) AS BIGINT),"
            " CAST(SUM(credit_minor) AS BIGINT) FROM ledger_postings"
            " GROUP BY currency, account ORDER BY currency, account"
        )
    )


async def entries(tx: Tx, order_id: str, page: Page) -> tuple[list[pb.LedgerEntry], str]:
    """Return a page of entries in the sequence they were written, and its key; "" is any order."""
    (after,) = page.key(int, first=(0,))
    if order_id:
        found = await tx.execute(
            f"{_ENTRY} WHERE order_id = $1 AND entry_number > $2 ORDER BY entry_number LIMIT $3",
            order_id,
            after,
            page.limit,
        )
    else:
        found = await tx.execute(
            f"{_ENTRY} WHERE entry_number > $1 ORDER BY entry_number LIMIT $2", after, page.limit
        )
    rows, last = page.cut(found)
    return [entry(row) for row in rows], last


def entry(row: Sequence[Any]) -> pb.LedgerEntry:
    """Return the entry in a row of (number, order, kind, currency, amount, accounts, time)."""
    number, order_id, kind, currency, amount_minor, debit, credit, time = row
    return pb.LedgerEntry(
        entry_number=number,
        order_id=order_id,
        kind=kind,
        amount=to_money(currency, amount_minor),
        debit_account=debit,
        credit_account=credit,
        create_time=to_timestamp(time),
    )
