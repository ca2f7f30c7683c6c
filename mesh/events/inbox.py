"""The inbox: events come at least once and in any order; it has them applied once and in order.

For each aggregate it knows the last version that was applied. An event that is next is applied
in the transaction that says so; one that was applied is dropped; one that is early, or failed,
is kept until its turn. So redelivery is harmless, and a failure holds up its own aggregate only.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..storage.port import Row, Tx
from .port import Event

#: The longest that an event waits before it is tried again.
WAIT_MAX_S = 60.0
#: Early events that are looked at for a gap before them.
GAPS_MAX = 1000
#: So far apart may what two replicas take for the time be: each asks before it has its snapshot.
APART_S = 5.0


class State(enum.IntEnum):
    """What a kept event waits for."""

    DUE = 0  # is next in its aggregate; its time is `next_at`
    EARLY = 1  # an earlier one is not applied yet
    DEAD = 2  # failed too often: an operator decides; those behind it stay EARLY


@dataclass(frozen=True, slots=True)
class Kept:
    """An event in the inbox."""

    event: Event
    state: State
    attempts: int = 0
    next_at: float = 0.0
    error: str = ""


_SAME = "subscription = $1 AND topic = $2 AND aggregate = $3"
_KEPT = (
    "topic, aggregate, version, event_id, payload, source, created_at, correlation_id,"
    " traceparent, state, attempts, next_at, error"
)


@dataclass(frozen=True, slots=True)
class Inbox:
    """The inbox of one subscription; its methods are parts of a transaction."""

    subscription: str

    async def applied(self, tx: Tx, event: Event) -> int:
        """Return the last version of the event's aggregate that was applied, 0 if none was."""
        rows = await tx.execute(
            f"SELECT version FROM mesh_inbox_heads WHERE {_SAME}", *self._key(event)
        )
        return int(rows[0][0]) if rows else 0

    async def is_kept(self, tx: Tx, event: Event) -> bool:
        """Whether *event* is already here."""
        rows = await tx.execute(
            f"SELECT 1 FROM mesh_inbox WHERE {_SAME} AND version = $4",
            *self._key(event),
            event.version,
        )
        return bool(rows)

    async def keep(self, tx: Tx, event: Event, error: str = "", delay_s: float = 0.0) -> None:
        """Keep *event* for later, unless it was applied or is kept; *error* if it failed once."""
        head = await self.applied(tx, event)
        if event.version <= head:
            return
        await tx.execute(
            f"INSERT INTO mesh_inbox (subscription, {_KEPT})"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
            " ON CONFLICT (subscription, topic, aggregate, version) DO NOTHING",
            *self._key(event),
            event.version,
            event.event_id,
            event.payload,
            event.source,
            event.time,
            event.correlation_id,
            event.traceparent,
            State.DUE if event.version == head + 1 else State.EARLY,
            int(bool(error)),
            tx.now() + delay_s,
            error,
        )

    async def advance(self, tx: Tx, event: Event) -> bool:
        """Note that *event* was applied; whether the one after it is here, whose turn it is now."""
        await tx.execute(
            "INSERT INTO mesh_inbox_heads (subscription, topic, aggregate, version)"
            " VALUES ($1, $2, $3, $4) ON CONFLICT (subscription, topic, aggregate)"
            " DO UPDATE SET version = excluded.version",
            *self._key(event),
            event.version,
        )
        rows = await tx.execute(
            f"UPDATE mesh_inbox SET state = $5, next_at = $6 WHERE {_SAME} AND version = $4"
            " RETURNING version",
            *self._key(event),
            event.version + 1,
            State.DUE,
            tx.now(),
        )
        return bool(rows)

    async def remove(self, tx: Tx, event: Event) -> None:
        """Forget a kept event."""
        await tx.execute(
            f"DELETE FROM mesh_inbox WHERE {_SAME} AND version = $4",
            *self._key(event),
            event.version,
        )

    async def due(self, tx: Tx, limit: int) -> tuple[list[Kept], float | None]:
        """Return the events whose turn and time it is, and in how many seconds the next one is."""
        rows = await tx.execute(
            f"SELECT {_KEPT} FROM mesh_inbox WHERE subscription = $1 AND state = $2"
            " ORDER BY next_at LIMIT $3",
            self.subscription,
            State.DUE,
            limit,
        )
        kept = [_kept(row) for row in rows]
        waits = [(one.next_at - tx.now(), one) for one in kept]
        # Longer than any wait can be: it began before the clock was set back.
        longest_s = WAIT_MAX_S + APART_S
        due = [one for left_s, one in waits if not 0 < left_s <= longest_s]
        later = min((left_s for left_s, _ in waits if 0 < left_s <= longest_s), default=None)
        return due, later

    async def postpone(self, tx: Tx, kept: Kept, delay_s: float) -> Kept | None:
        """Let nobody try it before *delay_s* seconds, at most `WAIT_MAX_S`, are over.

        Nothing is known of this attempt, so it is not counted. Returns it as it is now; None if it
        is no longer as in *kept*: a replica has seen to it.
        """
        next_at = tx.now() + delay_s
        done = await self._set(tx, kept, "next_at = $6", next_at)
        return replace(kept, next_at=next_at) if done else None

    async def failed(self, tx: Tx, kept: Kept, error: str, delay_s: float, dead: bool) -> bool:
        """Count a failed attempt; try again later, or, *dead*, only when told to.

        False if it is no longer as in *kept*: a replica has seen to it.
        """
        return await self._set(
            tx,
            kept,
            "attempts = attempts + 1, error = $6, next_at = $7, state = $8",
            error,
            tx.now() + delay_s,
            State.DEAD if dead else State.DUE,
        )

    async def let_go(self, tx: Tx) -> None:
        """Let all that waits for its time be tried now."""
        await tx.execute(
            "UPDATE mesh_inbox SET next_at = $3"
            " WHERE subscription = $1 AND state = $2 AND next_at > $3",
            self.subscription,
            State.DUE,
            tx.now(),
        )

    async def of(self, tx: Tx, topic: str, aggregate: str, limit: int) -> list[Kept]:
        """Return what is kept of one aggregate, in order."""
        rows = await tx.execute(
            f"SELECT {_KEPT} FROM mesh_inbox WHERE {_SAME} ORDER BY version LIMIT $4",
            self.subscription,
            topic,
            aggregate,
            limit,
        )
        return [_kept(row) for row in rows]

    async def redrive(self, tx: Tx, topic: str, aggregate: str) -> bool:
        """Let the dead event of an aggregate be tried again now; false if there is none."""
        rows = await tx.execute(
            f"UPDATE mesh_inbox SET state = $4, attempts = 0, next_at = $5 WHERE {_SAME}"
            " AND state = $6 RETURNING version",
            self.subscription,
            topic,
            aggregate,
            State.DUE,
            tx.now(),
            State.DEAD,
        )
        return bool(rows)

    async def counts(self, tx: Tx) -> dict[State, int]:
        """Return how many events are kept in each state."""
        rows = await tx.execute(
            "SELECT state, COUNT(*) FROM mesh_inbox WHERE subscription = $1 GROUP BY state",
            self.subscription,
        )
        return {**dict.fromkeys(State, 0), **{State(state): count for state, count in rows}}

    async def gap_s(self, tx: Tx) -> float:
        """Return for how long an event has waited for one that is not here; 0 if none does.

        Those behind a dead one wait for an operator. Only the oldest are looked at.
        """
        ((since,),) = await tx.execute(
            "SELECT MIN(next_at) FROM (SELECT topic, aggregate, version, next_at FROM mesh_inbox"
            " WHERE subscription = $1 AND state = $2 ORDER BY next_at LIMIT $3) AS early"
            " WHERE NOT EXISTS (SELECT 1 FROM mesh_inbox AS kept WHERE kept.subscription = $1"
            " AND kept.topic = early.topic AND kept.aggregate = early.aggregate"
            " AND kept.version < early.version AND kept.state <> $2)",
            self.subscription,
            State.EARLY,
            GAPS_MAX,
        )
        return 0.0 if since is None else max(0.0, tx.now() - float(since))

    async def _set(self, tx: Tx, kept: Kept, what: str, *values: Any) -> bool:
        """Change it if its time is the same still: whoever sees to it sets another one."""
        rows = await tx.execute(
            f"UPDATE mesh_inbox SET {what} WHERE {_SAME} AND version = $4 AND next_at = $5"
            " RETURNING version",
            *self._key(kept.event),
            kept.event.version,
            kept.next_at,
            *values,
        )
        return bool(rows)

    def _key(self, event: Event) -> tuple[str, str, str]:
        return (self.subscription, event.topic, event.aggregate)


async def dead(
    tx: Tx, subscriptions: Sequence[str], after: Sequence[str], limit: int
) -> list[tuple[str, Kept, int]]:
    """Return dead events: of which subscription, the event, and how many wait behind it.

    They are in the order of subscription, topic and aggregate, from behind *after* on.
    """
    among = ", ".join(f"${n}" for n in range(6, 6 + len(subscriptions)))
    rows = await tx.execute(
        f"SELECT subscription, {_KEPT}, (SELECT COUNT(*) FROM mesh_inbox AS behind"
        " WHERE behind.subscription = dead.subscription AND behind.topic = dead.topic"
        " AND behind.aggregate = dead.aggregate AND behind.version > dead.version)"
        f" FROM mesh_inbox AS dead WHERE subscription IN ({among}) AND state = $1"
        " AND (subscription, topic, aggregate) > ($2, $3, $4)"
        " ORDER BY subscription, topic, aggregate LIMIT $5",
        State.DEAD,
        *after,
        limit,
        *subscriptions,
    )
    return [(row[0], _kept(row[1:-1]), row[-1]) for row in rows]


def _kept(row: Row) -> Kept:
    topic, aggregate, version, event_id, payload, source, time, correlation_id, traceparent = row[
        :9
    ]
    state, attempts, next_at, error = row[9:]
    event = Event(
        topic=topic,
        aggregate=aggregate,
        version=version,
        event_id=event_id,
        payload=bytes(payload),
        source=source,
        time=time,
        correlation_id=correlation_id,
        traceparent=traceparent,
    )
    return Kept(event, State(state), attempts, next_at, error)
