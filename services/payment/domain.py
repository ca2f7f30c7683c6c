"""The rules of payments. Pure: no database, no clock.

A payment is what its events say, one after the other (`evolve`), and the rules say which event
comes next (Jérémie Chassaing, "Functional Event Sourcing Decider")::

    charge_requested     refund_requested
        |                     |
        v                     v
    PENDING --charged--> CHARGED --> REFUNDING --refunded--> REFUNDED
        |                   ^             |
        +--declined-->      +-------------+ refund_denied
           DECLINED

Amounts are in minor units of the currency, times in seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from mesh.call import Principal
from mesh.errors import AlreadyExists, NotFound, PermissionDenied, Refused
from services.shared.money import to_minor
from shop.payment.v1 import payment_pb2 as pb
from shop.provider.v1.provider_pb2 import Charge

State = pb.Payment.State

#: Who may read the audit trail.
AUDITOR = "auditor"


class What(StrEnum):
    """What can happen to a payment: the fields of `PaymentEvent.event`."""

    CHARGE_REQUESTED = "charge_requested"
    CHARGED = "charged"
    DECLINED = "declined"
    REFUND_REQUESTED = "refund_requested"
    REFUNDED = "refunded"
    REFUND_DENIED = "refund_denied"


#: In which states each may happen, and the state that it leads to. Of two refunds that were asked
#: for at once, one may be made after the other was denied.
TRANSITIONS = {
    What.CHARGE_REQUESTED: ({State.STATE_UNSPECIFIED}, State.PENDING),
    What.CHARGED: ({State.PENDING}, State.CHARGED),
    What.DECLINED: ({State.PENDING}, State.DECLINED),
    What.REFUND_REQUESTED: ({State.CHARGED}, State.REFUNDING),
    What.REFUNDED: ({State.REFUNDING, State.CHARGED}, State.REFUNDED),
    What.REFUND_DENIED: ({State.REFUNDING}, State.CHARGED),
}


@dataclass(frozen=True, slots=True)
class Event:
    """One event of an order's payment. The last three are set when it is recorded."""

    order_id: str
    version: int
    what: What
    user_id: str
    currency: str
    amount_minor: int
    provider_key: str = ""
    provider_charge_id: str = ""
    reason: str = ""
    principal: str = ""
    correlation_id: str = ""
    time: float = 0.0


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment as of its event `version`; 0: there is none."""

    order_id: str = ""
    version: int = 0
    user_id: str = ""
    currency: str = ""
    amount_minor: int = 0
    state: State.ValueType = State.STATE_UNSPECIFIED
    charge_key: str = ""
    refund_key: str = ""
    provider_charge_id: str = ""
    decline_reason: str = ""
    create_time: float = 0.0
    update_time: float = 0.0
    charge_time: float | None = None
    refund_time: float | None = None


#: What an order has before its first event.
NO_PAYMENT = Payment()


class BrokenStreamError(Exception):
    """An event cannot have happened after the ones before it."""


def evolve(payment: Payment, event: Event) -> Payment:
    """Return *payment* after *event*: folded over a whole stream, the payment of today.

    Raises:
        BrokenStreamError: that cannot be.
    """
    before, state = TRANSITIONS[event.what]
    if event.version != payment.version + 1 or payment.state not in before:
        raise BrokenStreamError(
            f"order {event.order_id!r}: event {event.version} {event.what} after event"
            f" {payment.version}, which left it {State.Name(payment.state)}"
        )
    after = replace(payment, version=event.version, state=state, update_time=event.time)
    if event.what is What.CHARGE_REQUESTED:
        return replace(
            after,
            order_id=event.order_id,
            user_id=event.user_id,
            currency=event.currency,
            amount_minor=event.amount_minor,
            charge_key=event.provider_key,
            create_time=event.time,
        )
    if event.what is What.CHARGED:
        return replace(after, provider_charge_id=event.provider_charge_id, charge_time=event.time)
    if event.what is What.DECLINED:
        return replace(
            after, provider_charge_id=event.provider_charge_id, decline_reason=event.reason
        )
    if event.what is What.REFUND_REQUESTED:
        return replace(after, refund_key=event.provider_key)
    if event.what is What.REFUNDED:
        return replace(after, refund_time=event.time)
    return after


# --- what happens next: each returns the events that are to be recorded ---------------------------


def request_charge(payment: Payment, request: pb.ChargePaymentRequest) -> Sequence[Event]:
    """Begin a payment; refuse if the order has one."""
    if payment.version:
        raise AlreadyExists(f"order {request.order_id!r} has a payment", reason="PAYMENT_EXISTS")
    currency, amount_minor = to_minor(request.amount)
    return [
        Event(
            request.order_id,
            1,
            What.CHARGE_REQUESTED,
            request.user_id,
            currency,
            amount_minor,
            provider_key=charge_key(request.order_id),
        )
    ]


def answer_charge(payment: Payment, answer: Charge) -> Sequence[Event]:
    """Take note of what became of the charge; once it is known it stays so."""
    if payment.state != State.PENDING:
        return []
    known = {"provider_charge_id": answer.charge_id}
    if was_taken(answer):
        return [_next(payment, What.CHARGED, **known)]
    return [_next(payment, What.DECLINED, **known, reason=answer.decline_reason)]


def request_refund(payment: Payment, reason: str) -> Sequence[Event]:
    """Begin to give the money back, unless that has begun; refuse if nothing was charged."""
    if payment.state in (State.REFUNDING, State.REFUNDED):
        return []
    if payment.state != State.CHARGED:
        state = State.Name(payment.state)
        raise Refused(
            f"the payment of order {payment.order_id!r} is {state}, not CHARGED",
            reason="NOT_CHARGED",
            info={"order_id": payment.order_id, "state": state},
        )
    key = refund_key(payment.order_id)
    return [_next(payment, What.REFUND_REQUESTED, provider_key=key, reason=reason)]


def answer_refund(payment: Payment, answer: Charge) -> Sequence[Event]:
    """Take note of what became of the refund; once it is made it stays so."""
    if payment.state not in (State.REFUNDING, State.CHARGED):
        return []
    if answer.state == Charge.REFUNDED:
        return [_next(payment, What.REFUNDED)]
    if payment.state == State.REFUNDING:
        return [_next(payment, What.REFUND_DENIED, reason=answer.decline_reason)]
    return []


def _next(payment: Payment, what: What, **details: Any) -> Event:
    return Event(
        payment.order_id,
        payment.version + 1,
        what,
        payment.user_id,
        payment.currency,
        payment.amount_minor,
        **details,
    )


# --- the provider ---------------------------------------------------------------------------------


def charge_key(order_id: str) -> str:
    """Return the provider's key of an order's one charge."""
    return f"charge/{order_id}"


def refund_key(order_id: str) -> str:
    """Return the provider's key of an order's one refund."""
    return f"refund/{order_id}"


def denied(refused: Refused) -> Charge:
    """Return the provider's refusal to understand us as the definite answer it is: no.

    An effect is tried again until it has an answer, and asking again cannot help here.
    """
    return Charge(state=Charge.DECLINED, decline_reason=refused.reason)


def was_taken(answer: Charge) -> bool:
    """Return whether the provider took the money, be it that it gave it back since.

    Raises:
        ValueError: it says neither yes nor no, so that the effect goes on asking.
    """
    if answer.state in (Charge.APPROVED, Charge.REFUNDED):
        return True
    if answer.state == Charge.DECLINED:
        return False
    raise ValueError(f"the provider's answer is neither yes nor no: state {answer.state}")


# --- refusals -------------------------------------------------------------------------------------


def check_exists(payment: Payment, order_id: str) -> None:
    """Refuse to speak of a payment that there is not."""
    if not payment.version:
        raise NotFound(f"order {order_id!r} has no payment", reason="NO_PAYMENT")


def check_charged(payment: Payment) -> None:
    """Refuse a charge that was declined; the payment stays as the record of it."""
    if payment.state == State.DECLINED:
        raise Refused(
            f"the payment of order {payment.order_id!r} was declined",
            reason="CARD_DECLINED",
            info={"order_id": payment.order_id, "decline_reason": payment.decline_reason},
            keep=True,
        )


def check_refunded(payment: Payment, answer: Charge) -> None:
    """Refuse a refund that the provider will not make; the payment stays CHARGED."""
    if payment.state != State.REFUNDED:
        raise Refused(
            f"the provider does not refund order {payment.order_id!r}",
            reason="REFUND_DENIED",
            info={"order_id": payment.order_id, "provider_reason": answer.decline_reason},
            keep=True,
        )


def check_auditor(principal: Principal) -> None:
    """Refuse the audit trail to whoever is not to have it."""
    if AUDITOR not in principal.roles:
        raise PermissionDenied(f"{principal.name!r} lacks the role {AUDITOR!r}")
