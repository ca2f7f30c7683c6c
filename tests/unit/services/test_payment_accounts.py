"""The ledger's accounts and their sums."""

from __future__ import annotations

from services.payment.accounts import ACCOUNTS, PROVIDER, SALES, Kind, summary, trial_balance
from services.shared.money import to_money


def test_a_refund_s_entry_is_its_charge_s_in_reverse() -> None:
    assert ACCOUNTS[Kind.REFUND] == tuple(reversed(ACCOUNTS[Kind.CHARGE]))


def test_sums_by_currency() -> None:
    totals = summary(
        [("GBP", Kind.CHARGE, 150, 2), ("GBP", Kind.REFUND, 50, 1), ("EUR", Kind.CHARGE, 7, 1)]
    ).totals
    assert [row.currency_code for row in totals] == ["EUR", "GBP"]
    assert (totals[0].refunded, totals[0].refund_count) == (to_money("EUR", 0), 0)
    assert (totals[1].net, totals[1].charge_count) == (to_money("GBP", 100), 2)


def test_sums_by_account() -> None:
    provider, sales = trial_balance([(PROVIDER, "GBP", 150, 50), (SALES, "GBP", 50, 150)]).accounts
    assert (provider.debited, provider.credited) == (sales.credited, sales.debited)
    assert (provider.balance, sales.balance) == (to_money("GBP", 100), to_money("GBP", -100))
