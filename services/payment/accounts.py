"""The ledger's accounts, and sums over them. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from services.shared.money import to_money
from shop.payment.v1 import payment_pb2 as pb

from .domain import What

Kind = pb.LedgerEntry.Kind

#: What the provider holds for us, and what we earn.
PROVIDER, SALES = "assets:provider", "income:sales"
#: The events that move money, and the (debit, credit) of each: who receives it and who gives it.
MOVES = {What.CHARGED: Kind.CHARGE, What.REFUNDED: Kind.REFUND}
ACCOUNTS = {Kind.CHARGE: (PROVIDER, SALES), Kind.REFUND: (SALES, PROVIDER)}


def summary(sums: Iterable[tuple[str, int, int, int]]) -> pb.LedgerSummary:
    """Return the ledger's totals from (currency, kind, sum in minor units, number of entries)."""
    found: dict[str, dict[int, tuple[int, int]]] = {}
    for currency, kind, minor, count in sums:
        found.setdefault(currency, {})[kind] = (minor, count)
    totals = []
    for currency, by_kind in sorted(found.items()):
        charged, charges = by_kind.get(Kind.CHARGE, (0, 0))
        refunded, refunds = by_kind.get(Kind.REFUND, (0, 0))
        totals.append(
            pb.LedgerTotals(
                currency_code=currency,
                charged=to_money(currency, charged),
                refunded=to_money(currency, refunded),
                net=to_money(currency, charged - refunded),
                charge_count=charges,
                refund_count=refunds,
            )
        )
    return pb.LedgerSummary(totals=totals)


def trial_balance(sums: Iterable[tuple[str, str, int, int]]) -> pb.TrialBalance:
    """Return it from (account, currency, sums of debits and of credits in minor units)."""
    return pb.TrialBalance(
        accounts=[
            pb.AccountBalance(
                account=account,
                currency_code=currency,
                debited=to_money(currency, debited),
                credited=to_money(currency, credited),
                balance=to_money(currency, debited - credited),
            )
            for account, currency, debited, credited in sums
        ]
    )
