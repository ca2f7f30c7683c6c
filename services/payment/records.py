"""Payments in the database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mesh.errors import AlreadyExists
from mesh.storage.port import Tx
from services.shared.money import to_minor, to_money
from services.shared.paging import Page
from services.shared.times import to_timestamp
from shop.payment.v1 import payment_pb2 as pb
from shop.provider.v1.provider_pb2 import Charge

from . import domain
from .domain import State

_PAYMENT = (
    "SELECT payment_id, order_id, user_id, currency, amount_minor, state, provider_charge_id,"
    " decline_reason, create_time, update_time, charge_time, refund_time FROM payments"
)


async def add(tx: Tx, request: pb.ChargePaymentRequest) -> None:
    """Record a payment that is to be charged; refuse if the order has one."""
    currency, amount_minor = to_minor(request.amount)
    rows = await tx.execute(
        "INSERT INTO payments (order_id, payment_id, user_id, currency, amount_minor, state,"
        " charge_key, create_time, update_time) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)"
        " ON CONFLICT (order_id) DO NOTHING RETURNING order_id",
        request.order_id,
        tx.new_id(),
        request.user_id,
        currency,
        amount_minor,
        State.PENDING,
        domain.charge_key(request.order_id),
        tx.now(),
    )
    if not rows:
        raise AlreadyExists(f"order {request.order_id!r} has a payment", reason="PAYMENT_EXISTS")


async def one(tx: Tx, order_id: str) -> pb.Payment:
    """Return an order's payment."""
    rows = await tx.execute(f"{_PAYMENT} WHERE order_id = $1", order_id)
    if not rows:
        raise domain.no_payment(order_id)
    return _payment(rows[0])


async def charge_key(tx: Tx, order_id: str) -> str:
    """Return what the provider knows an order's charge by."""
    rows = await tx.execute("SELECT charge_key FROM payments WHERE order_id = $1", order_id)
    return str(rows[0][0])


async def newest(tx: Tx, user_id: str, state: int, page: Page) -> tuple[list[pb.Payment], str]:
    """Return a page of payments, the newest first, and its key; "" and 0 are any."""
    rows, last = page.cut(
        await tx.execute(
            f"{_PAYMENT} WHERE payment_id < $1 AND ($2 = '' OR user_id = $2)"
            " AND ($3 = 0 OR state = $3) ORDER BY payment_id DESC LIMIT $4",
            page.before,
            user_id,
            state,
            page.limit,
        )
    )
    return [_payment(row) for row in rows], last


async def charged(tx: Tx, order_id: str, answer: Charge) -> pb.Payment:
    """Record that the customer has paid."""
    await tx.execute(
        "UPDATE payments SET state = $2, provider_charge_id = $3, update_time = $4,"
        " charge_time = $4 WHERE order_id = $1",
        order_id,
        State.CHARGED,
        answer.charge_id,
        tx.now(),
    )
    return await one(tx, order_id)


async def declined(tx: Tx, order_id: str, answer: Charge) -> pb.Payment:
    """Record that the provider refused."""
    await tx.execute(
        "UPDATE payments SET state = $2, provider_charge_id = $3, decline_reason = $4,"
        " update_time = $5 WHERE order_id = $1",
        order_id,
        State.DECLINED,
        answer.charge_id,
        answer.decline_reason,
        tx.now(),
    )
    return await one(tx, order_id)


async def refunding(tx: Tx, order_id: str, reason: str) -> None:
    """Record that the provider is being asked to refund, and why."""
    await tx.execute(
        "UPDATE payments SET state = $2, refund_reason = $3, update_time = $4 WHERE order_id = $1",
        order_id,
        State.REFUNDING,
        reason,
        tx.now(),
    )


async def refunded(tx: Tx, order_id: str) -> pb.Payment:
    """Record that the customer has the money back."""
    await tx.execute(
        "UPDATE payments SET state = $2, update_time = $3, refund_time = $3 WHERE order_id = $1",
        order_id,
        State.REFUNDED,
        tx.now(),
    )
    return await one(tx, order_id)


async def not_refunded(tx: Tx, order_id: str) -> None:
    """Record that the provider will not refund: the payment is CHARGED again."""
    await tx.execute(
        "UPDATE payments SET state = $2, update_time = $3 WHERE order_id = $1",
        order_id,
        State.CHARGED,
        tx.now(),
    )


def _payment(row: Sequence[Any]) -> pb.Payment:
    _, order_id, user_id, currency, amount_minor, state, charge_id, decline_reason, *times = row
    created, updated, charged, refunded = times
    return pb.Payment(
        order_id=order_id,
        user_id=user_id,
        amount=to_money(currency, amount_minor),
        state=state,
        provider_charge_id=charge_id,
        decline_reason=decline_reason,
        create_time=to_timestamp(created),
        update_time=to_timestamp(updated),
        charge_time=None if charged is None else to_timestamp(charged),
        refund_time=None if refunded is None else to_timestamp(refunded),
    )
