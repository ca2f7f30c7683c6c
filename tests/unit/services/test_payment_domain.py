"""The rules of payments."""

from __future__ import annotations

import pytest

from mesh.errors import InvalidArgument, Refused
from services.payment.domain import (
    ACCOUNTS,
    Kind,
    State,
    charge_key,
    check_charged,
    check_refunded,
    denied,
    must_refund,
    refund_key,
    summary,
    was_taken,
)
from services.shared.money import to_money
from shop.payment.v1 import payment_pb2 as pb
from shop.provider.v1.provider_pb2 import Charge


@pytest.mark.parametrize(
    ("state", "taken"), [(Charge.APPROVED, True), (Charge.REFUNDED, True), (Charge.DECLINED, False)]
)
def test_what_an_answer_says_of_the_money(state: Charge.State.ValueType, taken: bool) -> None:
    assert was_taken(Charge(state=state)) is taken


def test_an_answer_that_says_neither_yes_nor_no_is_none() -> None:
    with pytest.raises(ValueError, match="neither"):
        was_taken(Charge())


def test_a_refusal_of_the_provider_is_a_declined_charge() -> None:
    answer = denied(InvalidArgument("no", reason="BAD_AMOUNT"))
    assert not was_taken(answer)
    assert answer.decline_reason == "BAD_AMOUNT"


def test_a_declined_payment_is_refused_and_kept() -> None:
    check_charged(pb.Payment(state=State.CHARGED))
    with pytest.raises(Refused) as refused:
        check_charged(pb.Payment(order_id="o1", state=State.DECLINED, decline_reason="NO_FUNDS"))
    assert refused.value.keep
    assert refused.value.reason == "CARD_DECLINED"
    assert refused.value.info["decline_reason"] == "NO_FUNDS"


def test_only_what_was_charged_is_refunded() -> None:
    assert must_refund(pb.Payment(state=State.CHARGED))
    assert not must_refund(pb.Payment(state=State.REFUNDING))
    assert not must_refund(pb.Payment(state=State.REFUNDED))
    for state in (State.PENDING, State.DECLINED):
        with pytest.raises(Refused) as refused:
            must_refund(pb.Payment(state=state))
        assert refused.value.reason == "NOT_CHARGED"


def test_a_refund_that_the_provider_denies_is_refused_and_kept() -> None:
    check_refunded(pb.Payment(), Charge(state=Charge.REFUNDED))
    with pytest.raises(Refused) as refused:
        check_refunded(pb.Payment(order_id="o1"), denied(Refused(reason="TOO_LATE")))
    assert refused.value.keep
    assert refused.value.info["provider_reason"] == "TOO_LATE"


def test_keys_tell_a_charge_from_its_refund() -> None:
    assert charge_key("o1") != refund_key("o1")


def test_a_refund_s_entry_is_its_charge_s_in_reverse() -> None:
    assert ACCOUNTS[Kind.REFUND] == tuple(reversed(ACCOUNTS[Kind.CHARGE]))


def test_sums_by_currency() -> None:
    totals = summary(
        [("GBP", Kind.CHARGE, 150, 2), ("GBP", Kind.REFUND, 50, 1), ("EUR", Kind.CHARGE, 7, 1)]
    ).totals
    assert [row.currency_code for row in totals] == ["EUR", "GBP"]
    assert (totals[0].refunded, totals[0].refund_count) == (to_money("EUR", 0), 0)
    assert (totals[1].net, totals[1].charge_count) == (to_money("GBP", 100), 2)
