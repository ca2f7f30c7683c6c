"""Events and payments as messages of `shop.payment.v1`, and back."""

from __future__ import annotations

from services.shared.money import to_minor, to_money
from services.shared.times import to_timestamp
from shop.payment.v1 import events_pb2
from shop.payment.v1 import payment_pb2 as pb

from .domain import Event, Payment, What


def payment(of: Payment) -> pb.Payment:
    """Return a payment as callers get it."""
    return pb.Payment(
        order_id=of.order_id,
        user_id=of.user_id,
        amount=to_money(of.currency, of.amount_minor),
        state=of.state,
        provider_charge_id=of.provider_charge_id,
        decline_reason=of.decline_reason,
        create_time=to_timestamp(of.create_time),
        update_time=to_timestamp(of.update_time),
        charge_time=None if of.charge_time is None else to_timestamp(of.charge_time),
        refund_time=None if of.refund_time is None else to_timestamp(of.refund_time),
    )


def event(of: Event) -> events_pb2.PaymentEvent:
    """Return an event as it is published. What each kind tells, `Event` has by the same name."""
    message = events_pb2.PaymentEvent(
        order_id=of.order_id,
        user_id=of.user_id,
        time=to_timestamp(of.time),
        amount=to_money(of.currency, of.amount_minor),
    )
    told = getattr(message, of.what)
    told.SetInParent()
    for field in told.DESCRIPTOR.fields:
        setattr(told, field.name, getattr(of, field.name))
    return message


def record(of: Event) -> pb.AuditRecord:
    """Return an event as auditors get it, without the entry of what it moved."""
    return pb.AuditRecord(
        event=event(of),
        version=of.version,
        principal=of.principal,
        correlation_id=of.correlation_id,
    )


def recorded(of: pb.AuditRecord) -> Event:
    """Return the event that *of* tells, its time to the microsecond."""
    what = of.event.WhichOneof("event")
    if what is None:
        raise ValueError(f"event {of.version} of order {of.event.order_id!r} is of a kind unknown")
    told = getattr(of.event, what)
    currency, amount_minor = to_minor(of.event.amount)
    return Event(
        order_id=of.event.order_id,
        version=of.version,
        what=What(what),
        user_id=of.event.user_id,
        currency=currency,
        amount_minor=amount_minor,
        principal=of.principal,
        correlation_id=of.correlation_id,
        time=of.event.time.ToMicroseconds() / 1e6,
        **{field.name: getattr(told, field.name) for field in told.DESCRIPTOR.fields},
    )
