"""The payments in the database, as their events have left them: for lists only."""

from __future__ import annotations

import math
from dataclasses import astuple

from mesh.storage.port import Tx
from services.shared.paging import Page
from shop.payment.v1 import payment_pb2 as pb

from . import messages
from .domain import Payment

_PAYMENT = (
    "SELECT order_id, version, user_id, currency, amount_minor, state, charge_key, refund_key,"
    " provider_charge_id, decline_reason, create_time, update_time, charge_time, refund_time"
    " FROM payments"
)
_PAGE = (
    "(create_time, order_id) < ($1, $2) AND ($3 = 0 OR state = $3)"
    " ORDER BY create_time DESC, order_id DESC LIMIT $4"
)


async def save(tx: Tx, payment: Payment) -> None:
    """Write a payment over what it was before."""
    await tx.execute(
        "INSERT INTO payments (order_id, version, user_id, currency, amount_minor, state,"
        " charge_key, refund_key, provider_charge_id, decline_reason, create_time, update_time,"
        " charge_time, refund_time)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
        " ON CONFLICT (order_id) DO UPDATE SET version = excluded.version,"
        " state = excluded.state, refund_key = excluded.refund_key,"
        " provider_charge_id = excluded.provider_charge_id,"
        " decline_reason = excluded.decline_reason, update_time = excluded.update_time,"
        " charge_time = excluded.charge_time, refund_time = excluded.refund_time",
        *astuple(payment),
    )


async def newest(tx: Tx, user_id: str, state: int, page: Page) -> tuple[list[pb.Payment], str]:
    """Return a page of payments, the newest first, and its key; "" and 0 are any."""
    before, order_id = page.key(float, str, first=(math.inf, ""))
    if user_id:
        found = await tx.execute(
            f"{_PAYMENT} WHERE user_id = $5 AND {_PAGE}",
            before,
            order_id,
            state,
            page.limit,
            user_id,
        )
    else:
        found = await tx.execute(f"{_PAYMENT} WHERE {_PAGE}", before, order_id, state, page.limit)
    payments = [Payment(*row) for row in found]
    rows, last = page.cut([(f"{one.create_time!r}/{one.order_id}", one) for one in payments])
    return [messages.payment(one) for _, one in rows], last
