"""The audit on a terminal, and as JSON. Times are UTC."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf.json_format import MessageToDict
from rich.console import Console
from rich.table import Table

from services.payment import messages
from services.payment.accounts import PROVIDER, SALES
from services.payment.domain import Event
from services.shared.money import to_text
from shop.payment.v1 import payment_pb2 as pb

from .checks import Sums
from .reading import Report

_DETAILS = ("provider_key", "provider_charge_id", "reason")


def trail(records: Sequence[pb.AuditRecord], console: Console) -> None:
    """Print what happened to a payment, and the money that it moved."""
    table = _table("", "when", "what", "who", "correlation id", "details")
    for record in records:
        event = messages.recorded(record)
        details = ", ".join(filter(None, (getattr(event, name) for name in _DETAILS)))
        what = event.what.replace("_", " ")
        when = record.event.time.ToDatetime().isoformat(" ", "milliseconds")
        who = record.principal or "not recorded"
        table.add_row(str(record.version), when, what, who, record.correlation_id, details)
    first = messages.recorded(records[0])
    amount = f"{first.currency} {to_text(first.currency, first.amount_minor)}"
    console.print(f"order {first.order_id}: {amount} from user {first.user_id}", markup=False)
    console.print(table)
    ledger = _table("entry", "event", "debit", "credit", "amount", *(PROVIDER, SALES), right=4)
    for record, event, balances in moved(records):
        entry = record.entry
        ledger.add_row(
            str(entry.entry_number),
            str(event.version),
            entry.debit_account,
            entry.credit_account,
            to_text(event.currency, event.amount_minor),
            *(to_text(event.currency, balances[account]) for account in (PROVIDER, SALES)),
        )
    if ledger.rows:
        console.print(ledger)
    else:
        console.print("no money moved")


def moved(
    records: Sequence[pb.AuditRecord],
) -> Iterator[tuple[pb.AuditRecord, Event, dict[str, int]]]:
    """Yield the records that moved money, with the balances of the accounts after each."""
    sums = Sums()
    for record in records:
        if record.HasField("entry"):
            sums.post(record.entry)
            balances = {account: minor for (_, account), minor in sums.balances().items()}
            yield record, messages.recorded(record), balances


def trail_json(records: Sequence[pb.AuditRecord]) -> dict[str, Any]:
    """Return the same as a JSON object."""
    after = {record.version: balances for record, _, balances in moved(records)}
    return {
        "order_id": records[0].event.order_id,
        "records": [
            MessageToDict(record, preserving_proto_field_name=True)
            | ({"balances_minor": after[record.version]} if record.version in after else {})
            for record in records
        ],
    }


def report(of: Report, console: Console) -> None:
    """Print the trial balance, and what is wrong."""
    table = _table("account", "", "debits", "credits", "balance", right=2)
    for (currency, account), balance in of.sums.balances().items():
        debits, credits_ = of.sums.debits[currency, account], of.sums.credits[currency, account]
        minors = (debits, credits_, balance)
        table.add_row(account, currency, *(to_text(currency, minor) for minor in minors))
    for currency, minor in of.sums.totals().items():
        table.add_row("sum", currency, "", "", to_text(currency, minor))
    console.print(table)
    for fault in of.faults.kept:
        console.print(f"  {fault}", markup=False, highlight=False, soft_wrap=True)
    verdict = f"{of.faults.count} faults" if of.faults.count else "the books are right"
    counts = f"{of.payments:,} payments, {of.events:,} events, {of.entries:,} entries"
    console.print(f"{counts}: {verdict}", highlight=False)


def report_json(of: Report) -> dict[str, Any]:
    """Return the same as a JSON object; amounts are in minor units."""
    return {
        "ok": not of.faults.count,
        "payments": of.payments,
        "events": of.events,
        "entries": of.entries,
        "trial_balance": [
            {
                "account": account,
                "currency": currency,
                "debits_minor": of.sums.debits[currency, account],
                "credits_minor": of.sums.credits[currency, account],
                "balance_minor": balance,
            }
            for (currency, account), balance in of.sums.balances().items()
        ],
        "fault_count": of.faults.count,
        "faults": of.faults.kept,
    }


def _table(*columns: str, right: int = 99) -> Table:
    """Return an empty table; from column *right* on it holds figures."""
    table = Table()
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number >= right else "left", no_wrap=True)
    return table
