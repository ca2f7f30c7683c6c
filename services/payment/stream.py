"""The streams of events in the database, one an order: append-only, with optimistic concurrency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from functools import reduce
from typing import Any

from mesh.errors import NotExecuted
from mesh.storage.port import Tx
from services.shared.paging import Page
from shop.payment.v1 import payment_pb2 as pb

from . import accounts, ledger, messages, projection
from .domain import NO_PAYMENT, Event, Payment, What, evolve

_EVENTS = (
    "SELECT order_id, version, what, user_id, currency, amount_minor, provider_key,"
    " provider_charge_id, reason, principal, correlation_id, time"
    " FROM payment_events WHERE order_id = $1 ORDER BY version"
)
#: The same with the key of a page before, and the entry behind.
_RECORDS = (
    "SELECT order_id || '/' || version, order_id, version, what, user_id, event.currency,"
    " event.amount_minor, provider_key, provider_charge_id, reason, principal, correlation_id,"
    " time, entry_number, kind, entry.currency, entry.amount_minor, debit_account, credit_account"
    " FROM payment_events AS event LEFT JOIN ledger_entries AS entry USING (order_id, version)"
)


class VersionConflict(NotExecuted):
    """Somebody else appended to the stream first: nothing is in; load it again and decide anew."""

    reason = "VERSION_CONFLICT"


async def load(tx: Tx, order_id: str) -> Payment:
    """Return an order's payment as of its last event; `NO_PAYMENT` if it has none."""
    return reduce(evolve, map(_event, await tx.execute(_EVENTS, order_id)), NO_PAYMENT)


async def append(tx: Tx, payment: Payment, events: Sequence[Event]) -> Payment:
    """Record *events*, which were decided on *payment* as it was loaded; return it after them.

    The events, the money they move, the row for lists and what is published are one transaction.

    Raises:
        VersionConflict: the payment has changed since it was loaded.
    """
    for decided in events:
        event = replace(
            decided,
            principal=tx.principal.name,
            correlation_id=tx.correlation_id,
            time=tx.now(),
        )
        payment = evolve(payment, event)
        await _insert(tx, event)
        if event.what in accounts.MOVES:
            await ledger.post(tx, event)
        await tx.publish(messages.event(event))
    if events:
        await projection.save(tx, payment)
    return payment


async def records(tx: Tx, order_id: str, page: Page) -> tuple[list[pb.AuditRecord], str]:
    """Return a page of events with their entries, and its key; "" is every order."""
    after_order, after = page.key(str, int, first=("", 0))
    if order_id:
        found = await tx.execute(
            f"{_RECORDS} WHERE order_id = $1 AND version > $2 ORDER BY version LIMIT $3",
            order_id,
            after,
            page.limit,
        )
    else:
        found = await tx.execute(
            f"{_RECORDS} WHERE (order_id, version) > ($1, $2) ORDER BY order_id, version LIMIT $3",
            after_order,
            after,
            page.limit,
        )
    rows, last = page.cut(found)
    return [_record(row) for row in rows], last


async def _insert(tx: Tx, event: Event) -> None:
    inserted = await tx.execute(
        "INSERT INTO payment_events (order_id, version, what, user_id, currency, amount_minor,"
        " provider_key, provider_charge_id, reason, principal, correlation_id, time)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
        " ON CONFLICT (order_id, version) DO NOTHING RETURNING version",
        event.order_id,
        event.version,
        event.what.value,
        event.user_id,
        event.currency,
        event.amount_minor,
        event.provider_key,
        event.provider_charge_id,
        event.reason,
        event.principal,
        event.correlation_id,
        event.time,
    )
    if not inserted:
        raise VersionConflict(
            f"the payment of order {event.order_id!r} is past version {event.version - 1}",
            info={"order_id": event.order_id, "expected_version": str(event.version - 1)},
        )


def _event(row: Sequence[Any]) -> Event:
    order_id, version, what, *rest = row
    return Event(order_id, version, What(what), *rest)


def _record(row: Sequence[Any]) -> pb.AuditRecord:
    columns = len(fields(Event))
    event = _event(row[1 : 1 + columns])
    record = messages.record(event)
    number, *of_entry = row[1 + columns :]
    if number is not None:
        record.entry.CopyFrom(ledger.entry((number, event.order_id, *of_entry, event.time)))
    return record
