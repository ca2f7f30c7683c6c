"""The provider's memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mesh.storage.port import Tx
from services.shared.money import to_minor, to_money
from services.shared.paging import Page
from services.shared.times import to_timestamp
from shop.provider.v1 import provider_pb2 as pb

from . import domain
from .domain import State

_CHARGE = (
    "SELECT charge_id, key, currency, amount_minor, state, decline_reason, reference,"
    " create_time, refund_time FROM charges"
)


async def remaining_s(tx: Tx, key: str) -> float:
    """Return how many seconds a slow charge still takes; they began when it was first asked for."""
    ((asked_at,),) = await tx.execute(
        "INSERT INTO slow_charges (key, create_time) VALUES ($1, $2)"
        " ON CONFLICT (key) DO UPDATE SET create_time = slow_charges.create_time"
        " RETURNING create_time",
        key,
        tx.now(),
    )
    left_s = float(asked_at) + domain.SLOW_S - tx.now()
    return min(domain.SLOW_S, max(0.0, left_s))  # the clock may have been set back


async def charge(tx: Tx, request: pb.ChargeRequest) -> tuple[pb.Charge, bool]:
    """Return the charge under the request's key, and whether it is new."""
    currency, amount_minor = to_minor(request.amount)
    state, decline_reason = domain.decide(request.payment_token)
    new = await tx.execute(
        "INSERT INTO charges (key, charge_id, request_hash, currency, amount_minor, state,"
        " decline_reason, reference, create_time) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
        " ON CONFLICT (key) DO NOTHING RETURNING key",
        request.key,
        tx.new_id(),
        domain.request_hash(request),
        currency,
        amount_minor,
        state,
        decline_reason,
        request.reference,
        tx.now(),
    )
    if not new:
        ((known,),) = await tx.execute(
            "SELECT request_hash FROM charges WHERE key = $1", request.key
        )
        domain.check_same(request.key, bytes(known), request)
    return await one(tx, request.key), bool(new)


async def refund(tx: Tx, request: pb.RefundRequest) -> pb.Charge:
    """Give a charge back, once; return it."""
    domain.check_refundable(await one(tx, request.charge_key))
    await tx.execute(
        "INSERT INTO refunds (key, charge_key, request_hash, create_time)"
        " VALUES ($1, $2, $3, $4) ON CONFLICT (key) DO NOTHING",
        request.key,
        request.charge_key,
        domain.request_hash(request),
        tx.now(),
    )
    ((known,),) = await tx.execute("SELECT request_hash FROM refunds WHERE key = $1", request.key)
    domain.check_same(request.key, bytes(known), request)
    await tx.execute(
        "UPDATE charges SET state = $2, refund_time = $3 WHERE key = $1 AND state = $4",
        request.charge_key,
        State.REFUNDED,
        tx.now(),
        State.APPROVED,
    )
    return await one(tx, request.charge_key)


async def one(tx: Tx, key: str) -> pb.Charge:
    """Return the charge under *key*."""
    rows = await tx.execute(f"{_CHARGE} WHERE key = $1", key)
    if not rows:
        raise domain.no_charge(key)
    return _charge(rows[0])


async def oldest(tx: Tx, state: int, reference: str, page: Page) -> tuple[list[pb.Charge], str]:
    """Return a page of charges in the sequence they were made, and its key; 0 and "" are any."""
    of_one = "reference = $3" if reference else "$3 = ''"  # each has its index
    rows, last = page.cut(
        await tx.execute(
            f"{_CHARGE} WHERE charge_id > $1 AND ($2 = 0 OR state = $2)"
            f" AND {of_one} ORDER BY charge_id LIMIT $4",
            page.after,
            state,
            reference,
            page.limit,
        )
    )
    return [_charge(row) for row in rows], last


async def totals(tx: Tx) -> pb.Totals:
    """Add up all charges."""
    return domain.totals(
        await tx.execute(
            "SELECT currency, state, CAST(SUM(amount_minor) AS BIGINT), COUNT(*)"
            " FROM charges GROUP BY currency, state"
        )
    )


def _charge(row: Sequence[Any]) -> pb.Charge:
    charge_id, key, currency, amount_minor, state, decline_reason, reference, *times = row
    create_time, refund_time = times
    return pb.Charge(
        key=key,
        charge_id=charge_id,
        amount=to_money(currency, amount_minor),
        state=state,
        decline_reason=decline_reason,
        reference=reference,
        create_time=to_timestamp(create_time),
        refund_time=None if refund_time is None else to_timestamp(refund_time),
    )
