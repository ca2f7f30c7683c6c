"""The journal: the durable memory of sagas, and the fence that keeps two engines apart.

Every write goes through `save`, under the fencing token (`epoch`) of whoever claimed the saga
(`leases`); an engine that lost its saga finds out at its next write, before it acts.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any

from google.protobuf.message import Message

from ..errors import KeyExpired
from ..storage.port import Store, Tx
from ..storage.seal import CLEAR, Seal, is_secret
from . import sealing
from .records import FencedError, SagaRow, StepRow, check_abandoned
from .v1 import saga_pb2 as pb

_SAGA = (
    "saga_id, name, version, key, request, correlation_id, traceparent, created_at, deadline_at,"
    " state, epoch, failures, cancel_reason, pivoted, failed_step, refusal, segment, updated_at"
)
_PROGRESS = (
    "state, answer, attempts, round, failures, undo_state, undo_attempts, undo_answers,"
    " undo_round, ended_at, undo_started_at, undo_ended_at"
)
# In the order of the fields of `StepRow`.
_STEP = (
    f"position, branch, target, method, request, undo_method, undo_request, started_at, {_PROGRESS}"
)
_values_of = attrgetter(*_STEP.split(", "))
_COLUMNS = len(_STEP.split(", "))

#: Steps that one statement writes: PostgreSQL takes 32,767 parameters.
STEPS_AT_ONCE = 100


class Journal:
    """The sagas of one database. Requests and replies that are secret are sealed in it."""

    def __init__(self, store: Store, seal: Seal = CLEAR) -> None:
        self._store = store
        self._seal = seal

    async def add(
        self, row: SagaRow, owner: str, request_type: type[Message] | None = None
    ) -> SagaRow:
        """Insert *row* as *owner*'s, or return the saga that has its name and key already.

        Its times become the database's: whoever takes it over may have another clock than ours.

        Raises:
            KeyExpired: that saga has ended so long ago that it was forgotten.
            SealError: that saga's request cannot be opened.
        """
        request = row.request
        if request_type is None or is_secret(request_type):
            request = self._seal.close(request, sealing.place(row.saga_id))

        async def work(tx: Tx) -> SagaRow:
            ahead_s = tx.now() - row.created_at
            row.created_at, row.deadline_at = tx.now(), row.deadline_at + ahead_s
            added = await tx.execute(
                "INSERT INTO mesh_sagas (saga_id, name, version, key, request, state,"
                " correlation_id, traceparent, created_at, updated_at, deadline_at, owner)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10, $11)"
                " ON CONFLICT (name, key) DO NOTHING RETURNING saga_id",
                row.saga_id,
                row.name,
                row.version,
                row.key,
                request,
                row.state,
                row.correlation_id,
                row.traceparent,
                row.created_at,
                row.deadline_at,
                owner,
            )
            identity = (row.name, row.key)
            if not added:
                same = f"SELECT {_SAGA} FROM mesh_sagas WHERE name = $1 AND key = $2"
                return _saga((await tx.execute(same, *identity))[0])
            spent = "SELECT 1 FROM mesh_spent_keys WHERE name = $1 AND key = $2"
            if await tx.execute(spent, *identity):
                raise KeyExpired("what was started under this key has ended, and is forgotten")
            return row

        stored = await self._store.write(work)
        if stored is not row:
            stored.request = self._seal.open(stored.request, sealing.place(stored.saga_id))
        return stored

    async def save(
        self,
        saga: SagaRow,
        steps: Collection[StepRow],
        *,
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
        closed = [sealing.close(self._seal, saga.saga_id, step) for step in steps]

        async def work(tx: Tx) -> float:
            now = tx.now()
            rows = await tx.execute(
                "UPDATE mesh_sagas SET state = $3, failures = $4, pivoted = $5, failed_step = $6,"
                " refusal = $7, segment = $8, updated_at = $9"
                " WHERE saga_id = $1 AND epoch = $2 RETURNING cancel_reason",
                saga.saga_id,
                saga.epoch,
                saga.state,
                saga.failures,
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
            await _put_steps(tx, saga.saga_id, closed)
            return now

        saga.updated_at = await self._store.write(work)
        saga.pivoted = saga.pivoted or pivot

    async def get(self, saga_id: str) -> SagaRow | None:
        """Return a saga with its steps; what is secret in them stays sealed."""

        async def work(tx: Tx) -> SagaRow | None:
            return await read_saga(tx, saga_id)

        return await self._store.read(work)

    async def open(self, saga_id: str) -> tuple[SagaRow | None, float]:
        """Return a saga with its steps, to run it, and what the database's clock says.

        Raises:
            SealError: what is sealed in it cannot be opened.
        """

        async def work(tx: Tx) -> tuple[SagaRow | None, float]:
            return await read_saga(tx, saga_id), tx.now()

        saga, now = await self._store.read(work)
        if saga:
            sealing.open_all(self._seal, saga)
        return saga, now

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
        # The index of names is not in this order: it would have to sort all of them.
        wanted = {"saga_id <": before, "state =": state, "name || '' =": name}
        given = [(condition, value) for condition, value in wanted.items() if value]
        where = " AND ".join(f"{condition} ${n}" for n, (condition, _) in enumerate(given, start=2))

        async def work(tx: Tx) -> list[SagaRow]:
            rows = await tx.execute(
                f"SELECT {_SAGA} FROM mesh_sagas WHERE {where or 'TRUE'}"
                " ORDER BY saga_id DESC LIMIT $1",
                limit,
                *(value for _, value in given),
            )
            return [_saga(row) for row in rows]

        return await self._store.read(work)

    async def census(self) -> dict[str, tuple[int, float]]:
        """Return, for each state that is not an end, how many sagas and since when the oldest."""

        async def work(tx: Tx) -> dict[str, tuple[int, float]]:
            rows = await tx.execute(
                "SELECT state, CAST(COUNT(*) AS BIGINT), MIN(created_at) FROM mesh_sagas"
                " WHERE state IN (1, 2, 4, 6) GROUP BY state"
            )
            return {pb.Saga.State.Name(state): (count, oldest) for state, count, oldest in rows}

        return await self._store.read(work)


async def read_saga(tx: Tx, saga_id: str) -> SagaRow | None:
    """Return a saga with its steps, inside a transaction."""
    rows = await tx.execute(f"SELECT {_SAGA} FROM mesh_sagas WHERE saga_id = $1", saga_id)
    return await _with_steps(tx, rows)


async def overwrite(tx: Tx, saga: SagaRow) -> None:
    """Write what an operator made of *saga*: whoever has it loses it, any engine may claim it."""
    saga.epoch += 1
    saga.updated_at = tx.now()
    await tx.execute(
        "UPDATE mesh_sagas SET owner = '', epoch = $2, state = $3, failures = $4,"
        " failed_step = $5, refusal = $6, updated_at = $7 WHERE saga_id = $1",
        saga.saga_id,
        saga.epoch,
        saga.state,
        saga.failures,
        saga.failed_step,
        saga.refusal,
        saga.updated_at,
    )
    await _put_steps(tx, saga.saga_id, saga.steps)


async def _with_steps(tx: Tx, rows: list[tuple[object, ...]]) -> SagaRow | None:
    if not rows:
        return None
    saga = _saga(rows[0])
    saga.steps = await _steps(tx, saga.saga_id)
    return saga


async def _steps(tx: Tx, saga_id: str) -> list[StepRow]:
    rows = await tx.execute(
        f"SELECT {_STEP} FROM mesh_saga_steps WHERE saga_id = $1 ORDER BY position, branch",
        saga_id,
    )
    return [_step(row) for row in rows]


async def _put_steps(tx: Tx, saga_id: str, steps: Collection[StepRow]) -> None:
    """Insert *steps*, or update those that are there."""
    values = [value for step in steps for value in _values_of(step)]
    for start in range(0, len(values), _COLUMNS * STEPS_AT_ONCE):
        some = values[start : start + _COLUMNS * STEPS_AT_ONCE]
        await tx.execute(_put(len(some) // _COLUMNS), saga_id, *some)


@lru_cache(maxsize=STEPS_AT_ONCE)
def _put(steps: int) -> str:
    """Return the statement that writes so many steps of a saga."""
    rows = (
        ", ".join(["$1", *(f"${2 + row * _COLUMNS + column}" for column in range(_COLUMNS))])
        for row in range(steps)
    )
    changed = ", ".join(f"{name} = excluded.{name}" for name in _PROGRESS.split(", "))
    return (
        f"INSERT INTO mesh_saga_steps (saga_id, {_STEP}) VALUES ({'), ('.join(rows)})"
        f" ON CONFLICT (saga_id, position, branch) DO UPDATE SET {changed}"
    )


def _step(row: Sequence[Any]) -> StepRow:
    step = StepRow(*row)
    step.answer = step.answer or b""
    step.failures = step.failures or b""
    return step


def _saga(row: tuple[object, ...]) -> SagaRow:
    values = dict(zip(_SAGA.split(", "), row, strict=True))
    values["request"] = bytes(values["request"])  # type: ignore[call-overload]
    values["refusal"] = bytes(values["refusal"] or b"")  # type: ignore[call-overload]
    values["pivoted"] = bool(values["pivoted"])
    return SagaRow(**values)  # type: ignore[arg-type]
