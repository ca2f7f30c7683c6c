"""The rules of payments. Pure: no database, no clock.

A payment's way, and what the provider is asked for on it::

    PENDING --charge--> CHARGED --> REFUNDING --refund--> REFUNDED
        |                      |             |
        +--> DECLINED          +<------------+  the provider will not
"""

from __future__ import annotations

from collections.abc import Iterable

from mesh.errors import NotFound, Refused
from services.shared.money import to_money
from shop.payment.v1 import payment_pb2 as pb
from shop.provider.v1.provider_pb2 import Charge

State = pb.Payment.State
Kind = pb.LedgerEntry.Kind

#: What the provider holds for us, and what we earn.
PROVIDER, SALES = "assets:provider", "income:sales"
#: (debit, credit): which account receives and which one gives.
ACCOUNTS = {Kind.CHARGE: (PROVIDER, SALES), Kind.REFUND: (SALES, PROVIDER)}


def charge_key(order_id: str) -> str:
    """Return the provider's key of an order's one charge."""
    return f"charge/{order_id}"


def refund_key(order_id: str) -> str:
    """Return the provider's key of an order's one refund."""
    return f"refund/{order_id}"


def no_payment(order_id: str) -> NotFound:
    """Return the refusal for an order that nobody has paid for."""
    return NotFound(f"order {order_id!r} has no payment", reason="NO_PAYMENT")


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


def check_charged(payment: pb.Payment) -> None:
    """Refuse a charge that was declined; the payment stays as the record of it."""
    if payment.state == State.DECLINED:
        raise Refused(
            f"the payment of order {payment.order_id!r} was declined",
            reason="CARD_DECLINED",
            info={"order_id": payment.order_id, "decline_reason": payment.decline_reason},
            keep=True,
        )


def must_refund(payment: pb.Payment) -> bool:
    """Return whether a refund is to begin, False if it has; refuse if nothing was charged."""
    if payment.state in (State.REFUNDING, State.REFUNDED):
        return False
    if payment.state != State.CHARGED:
        state = State.Name(payment.state)
        raise Refused(
            f"the payment of order {payment.order_id!r} is {state}, not CHARGED",
            reason="NOT_CHARGED",
            info={"order_id": payment.order_id, "state": state},
        )
    return True


def check_refunded(payment: pb.Payment, answer: Charge) -> None:
    """Refuse a refund that the provider will not make; the payment stays CHARGED."""
    if answer.state != Charge.REFUNDED:
        raise Refused(
            f"the provider does not refund order {payment.order_id!r}",
            reason="REFUND_DENIED",
            info={"order_id": payment.order_id, "provider_reason": answer.decline_reason},
            keep=True,
        )


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
