"""The outbox: events are written in the transaction whose facts they are.

So either both are there or neither is. The events of one aggregate are numbered from a counter
row, which their transactions lock: no sequence, which would commit out of order.
(Chris Richardson, "Pattern: Transactional outbox".)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from google.protobuf.message import Message

from ..scope import current_traceparent, scope
from .port import EVENT_LIMIT_BYTES, Event, EventTypeError, aggregate_of

if TYPE_CHECKING:
    from ..storage.port import Tx

#: MIN, and not NOT EXISTS, which PostgreSQL makes a join of: all that waits of a hot aggregate with
#: all that waits of it.
_HEADS = (
    "SELECT topic, aggregate, version, event_id, payload, created_at, correlation_id, traceparent"
    " FROM mesh_outbox AS event WHERE published_at IS NULL AND version ="
    " (SELECT MIN(version) FROM mesh_outbox AS first WHERE first.topic = event.topic"
    "  AND first.aggregate = event.aggregate AND first.published_at IS NULL)"
    " ORDER BY event_id LIMIT $1"
)


async def append(tx: Tx, event: Message) -> int:
    """Write *event* as the next one of its aggregate; return its version, from 1.

    Raises:
        EventTypeError: it is no event, or too long for a broker.
    """
    aggregate = aggregate_of(event)
    topic = event.DESCRIPTOR.full_name
    payload = event.SerializeToString(deterministic=True)
    if len(payload) > EVENT_LIMIT_BYTES:
        raise EventTypeError(f"{topic}: {len(payload)} bytes; {EVENT_LIMIT_BYTES} are possible")
    ((version,),) = await tx.execute(
        "INSERT INTO mesh_aggregates (topic, aggregate, version) VALUES ($1, $2, 1)"
        " ON CONFLICT (topic, aggregate) DO UPDATE SET version = mesh_aggregates.version + 1"
        " RETURNING version",
        topic,
        aggregate,
    )
    await tx.execute(
        "INSERT INTO mesh_outbox (topic, aggregate, version, event_id, payload, correlation_id,"
        " traceparent, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        topic,
        aggregate,
        version,
        tx.new_id(),
        payload,
        scope.get().correlation_id,
        current_traceparent(),
        tx.now(),
    )
    return int(version)


async def heads(tx: Tx, source: str, limit: int) -> list[Event]:
    """Return the oldest unpublished event of each aggregate, the oldest first."""
    rows = await tx.execute(_HEADS, limit)
    return [
        Event(topic, aggregate, version, event_id, bytes(payload), source, *rest)
        for topic, aggregate, version, event_id, payload, *rest in rows
    ]


async def mark_published(tx: Tx, events: Sequence[Event]) -> None:
    """Note that the broker has *events*."""
    for event in events:
        await tx.execute(
            "UPDATE mesh_outbox SET published_at = $4"
            " WHERE topic = $1 AND aggregate = $2 AND version = $3",
            event.topic,
            event.aggregate,
            event.version,
            tx.now(),
        )
