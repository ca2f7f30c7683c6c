"""The rules of payments: what happens next, and what a payment is after it happened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import pytest

from mesh.call import NOBODY, Principal
from mesh.errors import AlreadyExists, InvalidArgument, NotFound, PermissionDenied, Refused
from services.payment.domain import (
    NO_PAYMENT,
    TRANSITIONS,
    BrokenStreamError,
    Event,
    Payment,
    State,
    What,
    answer_charge,
    answer_refund,
    charge_key,
    check_auditor,
    check_charged,
    check_exists,
    check_refunded,
    denied,
    evolve,
    refund_key,
    request_charge,
    request_refund,
    was_taken,
)
from services.shared.money import to_money
from shop.payment.v1 import payment_pb2 as pb
from shop.payment.v1.events_pb2 import PaymentEvent
from shop.provider.v1.provider_pb2 import Charge

APPROVED = Charge(state=Charge.APPROVED, charge_id="ch-1")
DECLINED = Charge(state=Charge.DECLINED, charge_id="ch-1", decline_reason="NO_FUNDS")
REFUNDED = Charge(state=Charge.REFUNDED, charge_id="ch-1")
REQUEST = pb.ChargePaymentRequest(
    order_id="o1", user_id="ann", amount=to_money("GBP", 150), payment_token="tok_ok"
)


def after(*whats: What) -> Payment:
    """A payment to which these things happened, at the times 1, 2, 3, ..."""
    events = [
        Event("o1", n, what, "ann", "GBP", 150, provider_key=f"{what}/o1", time=float(n))
        for n, what in enumerate(whats, start=1)
    ]
    return reduce(evolve, events, NO_PAYMENT)


PENDING = (What.CHARGE_REQUESTED,)
CHARGED = (*PENDING, What.CHARGED)
REFUNDING = (*CHARGED, What.REFUND_REQUESTED)
STORIES = {
    State.STATE_UNSPECIFIED: (),
    State.PENDING: PENDING,
    State.CHARGED: CHARGED,
    State.DECLINED: (*PENDING, What.DECLINED),
    State.REFUNDING: REFUNDING,
    State.REFUNDED: (*REFUNDING, What.REFUNDED),
}
IN = {state: after(*story) for state, story in STORIES.items()}


def whats(events: Sequence[Event]) -> list[What]:
    return [event.what for event in events]


# --- the fold -------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", STORIES)
def test_a_payment_is_the_sum_of_its_events(state: State.ValueType) -> None:
    assert (IN[state].state, IN[state].version) == (state, len(STORIES[state]))
    assert IN[state].update_time == len(STORIES[state])


def test_what_each_event_leaves_behind() -> None:
    payment = IN[State.REFUNDED]
    assert (payment.order_id, payment.user_id) == ("o1", "ann")
    assert (payment.currency, payment.amount_minor) == ("GBP", 150)
    assert (payment.charge_key, payment.refund_key) == (
        "charge_requested/o1",
        "refund_requested/o1",
    )
    assert (payment.create_time, payment.charge_time, payment.refund_time) == (1.0, 2.0, 4.0)


def test_a_denied_refund_leaves_the_payment_charged_and_may_be_asked_for_again() -> None:
    payment = after(*REFUNDING, What.REFUND_DENIED)
    assert (payment.state, payment.refund_time) == (State.CHARGED, None)
    assert whats(request_refund(payment, "")) == [What.REFUND_REQUESTED]


@pytest.mark.parametrize("state", STORIES)
@pytest.mark.parametrize("what", What)
def test_nothing_happens_out_of_turn(state: State.ValueType, what: What) -> None:
    event = Event("o1", IN[state].version + 1, what, "ann", "GBP", 150)
    possible, leads_to = TRANSITIONS[what]
    if state in possible:
        assert evolve(IN[state], event).state == leads_to
    else:
        with pytest.raises(BrokenStreamError, match=f"{what} after event {IN[state].version},"):
            evolve(IN[state], event)


@pytest.mark.parametrize("version", [0, 2, 4])
def test_a_stream_has_no_gaps_and_no_repetitions(version: int) -> None:
    event = Event("o1", version, What.REFUND_REQUESTED, "ann", "GBP", 150)
    with pytest.raises(BrokenStreamError):
        evolve(IN[State.CHARGED], event)


def test_every_kind_of_event_is_one_of_the_contract_and_has_its_place() -> None:
    (kinds,) = PaymentEvent.DESCRIPTOR.oneofs
    assert [field.name for field in kinds.fields] == [*What] == [*TRANSITIONS]


# --- what happens next ----------------------------------------------------------------------------


def test_an_order_is_paid_for_once() -> None:
    (event,) = request_charge(NO_PAYMENT, REQUEST)
    wanted = Event("o1", 1, What.CHARGE_REQUESTED, "ann", "GBP", 150, provider_key=charge_key("o1"))
    assert event == wanted
    for payment in IN.values():
        if payment.version:
            with pytest.raises(AlreadyExists) as refused:
                request_charge(payment, REQUEST)
            assert refused.value.reason == "PAYMENT_EXISTS"


@pytest.mark.parametrize(
    ("answer", "what", "details"),
    [
        (APPROVED, What.CHARGED, {"provider_charge_id": "ch-1"}),
        (DECLINED, What.DECLINED, {"provider_charge_id": "ch-1", "reason": "NO_FUNDS"}),
    ],
)
def test_the_first_answer_to_a_charge_counts(
    answer: Charge, what: What, details: dict[str, Any]
) -> None:
    (event,) = answer_charge(IN[State.PENDING], answer)
    assert event == replace(Event("o1", 2, what, "ann", "GBP", 150), **details)
    for state, payment in IN.items():
        if state != State.PENDING:
            assert answer_charge(payment, answer) == []


@pytest.mark.parametrize(
    ("state", "taken"), [(Charge.APPROVED, True), (Charge.REFUNDED, True), (Charge.DECLINED, False)]
)
def test_what_an_answer_says_of_the_money(state: Charge.State.ValueType, taken: bool) -> None:
    assert was_taken(Charge(state=state)) is taken


def test_an_answer_that_says_neither_yes_nor_no_is_none() -> None:
    with pytest.raises(ValueError, match="neither"):
        answer_charge(IN[State.PENDING], Charge())


def test_a_refusal_of_the_provider_is_a_declined_charge() -> None:
    answer = denied(InvalidArgument("no", reason="BAD_AMOUNT"))
    assert not was_taken(answer)
    assert answer.decline_reason == "BAD_AMOUNT"


def test_a_declined_payment_is_refused_and_kept() -> None:
    check_charged(IN[State.CHARGED])
    with pytest.raises(Refused) as refused:
        check_charged(replace(IN[State.DECLINED], decline_reason="NO_FUNDS"))
    assert refused.value.keep
    assert refused.value.reason == "CARD_DECLINED"
    assert refused.value.info["decline_reason"] == "NO_FUNDS"


def test_only_what_was_charged_is_refunded() -> None:
    (event,) = request_refund(IN[State.CHARGED], "too late")
    assert (event.what, event.version) == (What.REFUND_REQUESTED, 3)
    assert (event.provider_key, event.reason) == (refund_key("o1"), "too late")
    assert request_refund(IN[State.REFUNDING], "") == []
    assert request_refund(IN[State.REFUNDED], "") == []
    for state in (State.PENDING, State.DECLINED):
        with pytest.raises(Refused) as refused:
            request_refund(IN[state], "")
        assert refused.value.reason == "NOT_CHARGED"


@pytest.mark.parametrize(
    ("state", "answer", "happens"),
    [
        (State.REFUNDING, REFUNDED, [What.REFUNDED]),
        (State.REFUNDING, DECLINED, [What.REFUND_DENIED]),
        # Of two at once: the other one was denied, then made.
        (State.CHARGED, REFUNDED, [What.REFUNDED]),
        (State.CHARGED, DECLINED, []),
        (State.REFUNDED, REFUNDED, []),
        (State.REFUNDED, DECLINED, []),
    ],
)
def test_what_becomes_of_a_refund(
    state: State.ValueType, answer: Charge, happens: list[What]
) -> None:
    assert whats(answer_refund(IN[state], answer)) == happens


def test_a_refund_that_the_provider_denies_is_refused_and_kept() -> None:
    check_refunded(IN[State.REFUNDED], DECLINED)
    with pytest.raises(Refused) as refused:
        check_refunded(IN[State.CHARGED], denied(Refused(reason="TOO_LATE")))
    assert refused.value.keep
    assert refused.value.info["provider_reason"] == "TOO_LATE"


def test_keys_tell_a_charge_from_its_refund() -> None:
    assert charge_key("o1") != refund_key("o1")


def test_of_no_payment_nothing_is_said() -> None:
    check_exists(IN[State.PENDING], "o1")
    with pytest.raises(NotFound) as refused:
        check_exists(NO_PAYMENT, "o1")
    assert refused.value.reason == "NO_PAYMENT"


def test_the_trail_is_for_auditors() -> None:
    check_auditor(Principal("ann", frozenset({"auditor"})))
    for principal in (NOBODY, Principal("gateway", frozenset({"sales"}))):
        with pytest.raises(PermissionDenied, match="lacks the role 'auditor'"):
            check_auditor(principal)
