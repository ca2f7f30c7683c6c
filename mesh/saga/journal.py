"""The journal: the durable memory of sagas, and the fence that keeps two engines apart.

Every write goes through `save`, under the fencing token (`epoch`) of whoever claimed the saga
(`leases`); an engine that lost its saga finds out at its next write, before it acts.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from ..storage.port import Store, Tx
from .records import FencedError, SagaRow, StepRow, check_abandoned

_SAGA = (
    "saga_id, name, version, key, request, correlation_id, traceparent, created_at, deadline_at,"
    " state, epoch, resumes, cancel_reason, pivoted, failed_step, refusal, segment, updated_at"
)
_STEP = (
    "position, target, method, request, started_at, undo_method, undo_request, state, answer,"
    " attempts, undo_state, undo_attempts, ended_at"
)

#: Steps that one statement writes: PostgreSQL takes 32,767 parameters.
STEPS_AT_ONCE = 100


class Journal:
    """The sagas of one database."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def add(self, row: SagaRow, owner: str) -> SagaRow:
        """Insert *row* as *owner*'s, or return the saga that has its name and key already."""

        async def work(tx: Tx) -> SagaRow:
            added = await tx.execute(
                "INSERT INTO mesh_sagas (saga_id, name, version, key, request, state,"
                " correlation_id, traceparent, created_at, updated_at, deadline_at, owner)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10, $11)"
                " ON CONFLICT (name, key) DO NOTHING RETURNING saga_id",
                row.saga_id,
                row.name,
                row.version,
                row.key,
                row.request,
                row.state,
                row.correlation_id,
                row.traceparent,
                row.created_at,
                row.deadline_at,
                owner,
            )
            if added:
                return row
            found = await tx.execute(
                f"SELECT {_SAGA} FROM mesh_sagas WHERE name = $1 AND key = $2", row.name, row.key
            )
            return _saga(found[0])

        return await self._store.write(work)

    async def save(
        self,
        saga: SagaRow,
        *steps: StepRow,
        heed: bool = False,
        late: bool = False,
        pivot: bool = False,
    ) -> None:
        """Write *saga* and *steps* in one commit.

        With *heed* it is the moment when a saga learns that it was cancelled or that it is *late*:
        whenever the intent of a step is written, the last time with that of its *pivot*, and
        whenever a step that was not answered is to be asked again.

        Raises:
            FencedError: another engine has it; nothing was written.
            AbandonedError: it must not go on; nothing was written.
        """

        async def work(tx: Tx) -> float:
            now = tx.now()
            rows = await tx.execute(
                "UPDATE mesh_sagas SET state = $3, resumes = $4, pivoted = $5, failed_step = $6,"
                " refusal = $7, segment = $8, updated_at = $9"
                " WHERE saga_id = $1 AND epoch = $2 RETURNING cancel_reason",
                saga.saga_id,
                saga.epoch,
                saga.state,
                saga.resumes,
                int(saga.pivoted or pivot),
                saga.failed_step,
                saga.refusal,
                saga.segment,
                now,
            )
            if not rows:
                raise FencedError(saga.saga_id)
            saga.cancel_reason = rows[0][0]
            if heed:
                check_abandoned(saga, late=late)
            for start in range(0, len(steps), STEPS_AT_ONCE):
                await _put_steps(tx, saga.saga_id, steps[start : start + STEPS_AT_ONCE])
            return now

        saga.updated_at = await self._store.write(work)
        saga.pivoted = saga.pivoted or pivot

    async def ask_to_cancel(self, saga_id: str, reason: str) -> bool:
        """Note that somebody wants it cancelled; false if it is too late for that."""

        async def work(tx: Tx) -> bool:
            rows = await tx.execute(
                "UPDATE mesh_sagas SET cancel_reason = COALESCE(cancel_reason, $2)"
                " WHERE saga_id = $1 AND state IN (1, 2) AND pivoted = 0 RETURNING saga_id",
                saga_id,
                reason,
            )
            return bool(rows)

        return await self._store.write(work)

    async def get(self, saga_id: str) -> SagaRow | None:
        """Return a saga with its steps."""

        async def work(tx: Tx) -> SagaRow | None:
            rows = await tx.execute(f"SELECT {_SAGA} FROM mesh_sagas WHERE saga_id = $1", saga_id)
            return await _with_steps(tx, rows)

        return await self._store.read(work)

    async def find(self, name: str, key: str) -> SagaRow | None:
        """Return the saga that its starter knows as *key*, with its steps."""

        async def work(tx: Tx) -> SagaRow | None:
            rows = await tx.execute(
                f"SELECT {_SAGA} FROM mesh_sagas WHERE name = $1 AND key = $2", name, key
            )
            return await _with_steps(tx, rows)

        return await self._store.read(work)

    async def list(self, name: str, state: int, before: str, limit: int) -> list[SagaRow]:
        """Return sagas, newest first, without steps. "" and 0 mean any."""

        async def work(tx: Tx) -> list[SagaRow]:
            rows = await tx.execute(
                f"SELECT {_SAGA} FROM mesh_sagas WHERE ($1 = '' OR saga_id < $1)"
                " AND ($2 = '' OR name = $2) AND ($3 = 0 OR state = $3)"
                " ORDER BY saga_id DESC LIMIT $4",
                before,
                name,
                state,
                limit,
            )
            return [_saga(row) for row in rows]

        return await self._store.read(work)


async def _with_steps(tx: Tx, rows: list[tuple[object, ...]]) -> SagaRow | None:
    if not rows:
        return None
    saga = _saga(rows[0])
    saga.steps = await _steps(tx, saga.saga_id)
    return saga


async def _steps(tx: Tx, saga_id: str) -> list[StepRow]:
    rows = await tx.execute(
        f"SELECT {_STEP} FROM mesh_saga_steps WHERE saga_id = $1 ORDER BY position", saga_id
    )
    return [
        StepRow(
            position=row[0],
            target=row[1],
            method=row[2],
            request=bytes(row[3]),
            started_at=row[4],
            undo_method=row[5],
            undo_request=bytes(row[6] or b""),
            state=row[7],
            answer=bytes(row[8] or b""),
            attempts=row[9],
            undo_state=row[10],
            undo_attempts=row[11],
            ended_at=row[12],
        )
        for row in rows
    ]


async def _put_steps(tx: Tx, saga_id: str, steps: Sequence[StepRow]) -> None:
    """Insert *steps*, or update those that are there, in one statement."""
    values: list[object] = [saga_id]
    for step in steps:
        values += (
            step.position,
            step.target,
            step.method,
            step.request,
            step.started_at,
            step.undo_method,
            step.undo_request,
            step.state,
            step.answer,
            step.attempts,
            step.undo_state,
            step.undo_attempts,
            step.ended_at,
        )
    await tx.execute(_put(len(steps)), *values)


@lru_cache(maxsize=STEPS_AT_ONCE)
def _put(steps: int) -> str:
    """Return the statement that writes so many *steps* of a saga."""
    columns = len(_STEP.split(", "))
    rows = (
        ", ".join(["$1", *(f"${2 + row * columns + column}" for column in range(columns))])
        for row in range(steps)
    )
    return (
        f"INSERT INTO mesh_saga_steps (saga_id, {_STEP}) VALUES ({'), ('.join(rows)})"
        " ON CONFLICT (saga_id, position) DO UPDATE SET state = excluded.state,"
        " answer = excluded.answer, attempts = excluded.attempts,"
        " undo_state = excluded.undo_state, undo_attempts = excluded.undo_attempts,"
        " ended_at = excluded.ended_at"
    )


def _saga(row: tuple[object, ...]) -> SagaRow:
    values = dict(zip(_SAGA.split(", "), row, strict=True))
    values["request"] = bytes(values["request"])  # type: ignore[call-overload]
    values["refusal"] = bytes(values["refusal"] or b"")  # type: ignore[call-overload]
    values["pivoted"] = bool(values["pivoted"])
    return SagaRow(**values)  # type: ignore[arg-type]
