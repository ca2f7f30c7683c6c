"""How the provider behaves. Pure: no database, no clock."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from mesh.errors import AlreadyExists, NotFound, Refused
from services.shared.money import to_money
from shop.provider.v1 import provider_pb2 as pb

State = pb.Charge.State

#: The token of a charge that takes `SLOW_S` seconds, counted from when it was first asked for.
SLOW = "tok_slow"
SLOW_S = 2.0
#: The token of a charge whose first answer is lost.
REPLY_LOST = "tok_reply_lost"

_APPROVED = {"tok_ok", SLOW, REPLY_LOST}
_DECLINED = {"tok_declined": "INSUFFICIENT_FUNDS"}


def decide(token: str) -> tuple[State.ValueType, str]:
    """Return what becomes of a charge with *token*, and why if it is declined."""
    if token in _APPROVED:
        return State.APPROVED, ""
    return State.DECLINED, _DECLINED.get(token, "INVALID_TOKEN")


def request_hash(request: pb.ChargeRequest | pb.RefundRequest) -> bytes:
    """Return 16 bytes that tell whether two requests are the same."""
    return blake2b(request.SerializeToString(deterministic=True), digest_size=16).digest()


def check_same(key: str, known: bytes, request: pb.ChargeRequest | pb.RefundRequest) -> None:
    """Refuse a key that was used for another request."""
    if known != request_hash(request):
        raise AlreadyExists(f"the key {key!r} was used for another request", reason="KEY_REUSED")


def no_charge(key: str) -> NotFound:
    """Return the refusal for a key that nothing was charged under."""
    return NotFound(f"no charge was made under the key {key!r}", reason="NO_CHARGE")


def check_refundable(charge: pb.Charge) -> None:
    """Refuse to refund what was never taken."""
    if charge.state == State.DECLINED:
        raise Refused(
            f"the charge under the key {charge.key!r} was declined", reason="CHARGE_DECLINED"
        )


def totals(sums: Iterable[tuple[str, int, int, int]]) -> pb.Totals:
    """Return the provider's totals from (currency, state, sum in minor units, number of charges).

    What was refunded had been charged; what was declined never moved.
    """
    found: dict[str, dict[int, tuple[int, int]]] = {}
    for currency, state, minor, count in sums:
        if state != State.DECLINED:
            found.setdefault(currency, {})[state] = (minor, count)
    rows = []
    for currency, by_state in sorted(found.items()):
        kept, kept_count = by_state.get(State.APPROVED, (0, 0))
        refunded, refund_count = by_state.get(State.REFUNDED, (0, 0))
        rows.append(
            pb.CurrencyTotals(
                currency_code=currency,
                charged=to_money(currency, kept + refunded),
                refunded=to_money(currency, refunded),
                net=to_money(currency, kept),
                charge_count=kept_count + refund_count,
                refund_count=refund_count,
            )
        )
    return pb.Totals(totals=rows)
