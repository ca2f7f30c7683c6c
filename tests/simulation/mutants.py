"""The system with one protection left out, each a bug that somebody could make.

Each is a patch of a few lines, by name: if what it replaces is gone, it fails. In calm weather a
mutant works like the original, which shows that it is a subtle bug and no crash.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any
from unittest.mock import patch

from google.protobuf.message import Message

from mesh.call import Call
from mesh.client import UnaryRemote
from mesh.effects import Effects
from mesh.errors import DeadlineExceeded, Refused, Unavailable
from mesh.events import outbox
from mesh.events.port import Event
from mesh.events.relay import Relay
from mesh.layers.budget import Budget
from mesh.metadata import UNDO_OF
from mesh.saga import actions, journal, leases, records
from mesh.saga.journal import Journal
from mesh.saga.leases import Claim, Leases
from mesh.saga.records import SagaRow
from mesh.service import Effect
from mesh.storage import keys
from mesh.storage.port import Tx, Work
from mesh.storage.sqlite import SqliteStore
from services.payment.domain import charge_key
from shop.provider.v1.provider_pb2 import ChargeRequest

MUTANTS: dict[str, Callable[[], AbstractContextManager[None]]] = {}

KEPT_S = 10.0


def mutant(change: Callable[[], Iterator[None]]) -> Callable[[], AbstractContextManager[None]]:
    made = contextmanager(change)
    MUTANTS[change.__name__] = made
    return made


async def _forget(tx: Tx, call: Call, which: str, *parameters: Any) -> None:
    key = keys.KeyId.of(call)
    await tx.execute(
        f"DELETE FROM mesh_keys WHERE principal = $1 AND method = $2 AND key = $3 AND {which}",
        key.principal,
        key.method,
        key.key,
        *parameters,
    )


@mutant
def no_keys() -> Iterator[None]:
    """Every call is a new one."""
    known = keys.claim

    async def claim(tx: Tx, call: Call) -> keys.Answer | None:
        await _forget(tx, call, "state <> $4", keys.State.VOID)
        return await known(tx, call)

    with patch.object(keys, "claim", claim):
        yield


@mutant
def keys_expire_early() -> Iterator[None]:
    """Keys are forgotten after ten seconds, whoever still may ask under them."""
    known = keys.claim

    async def claim(tx: Tx, call: Call) -> keys.Answer | None:
        await _forget(tx, call, "created_at < $4", tx.now() - KEPT_S)
        return await known(tx, call)

    with patch.object(keys, "claim", claim):
        yield


@mutant
def refusals_are_not_stored() -> Iterator[None]:
    """What was refused is asked anew."""
    known = keys.remember

    async def remember(tx: Tx, call: Call, answer: keys.Answer) -> None:
        if answer.state is keys.State.REFUSED:
            await _forget(tx, call, "1 = 1")
        else:
            await known(tx, call, answer)

    with patch.object(keys, "remember", remember):
        yield


@mutant
def no_barrier() -> Iterator[None]:
    """An undo of what was not done does nothing, and leaves no trace."""
    known = keys.state_or_void

    async def state_or_void(tx: Tx, do: keys.KeyId) -> keys.State:
        state = await known(tx, do)
        if state is keys.State.VOID:
            await tx.execute(
                "DELETE FROM mesh_keys WHERE key = $1 AND method = $2", do.key, do.method
            )
        return state

    with patch.object(keys, "state_or_void", state_or_void):
        yield


@mutant
def timeout_means_failure() -> Iterator[None]:
    """A step that does not answer counts as one that did not happen."""
    known = UnaryRemote.send

    async def send(self: UnaryRemote, call: Call) -> Any:
        try:
            return await known(self, call)
        except (DeadlineExceeded, Unavailable) as error:
            if UNDO_OF in call.metadata:
                raise
            raise Refused("no answer", reason="TIMEOUT") from error

    with patch.object(UnaryRemote, "send", send):
        yield


@mutant
def undo_past_the_pivot() -> Iterator[None]:
    """A saga may be cancelled, and runs out of time, until its last step."""
    known = records.check_abandoned

    def check_abandoned(saga: SagaRow, *, late: bool) -> None:
        pivoted, saga.pivoted = saga.pivoted, False
        try:
            known(saga, late=late)
        finally:
            saga.pivoted = pivoted

    async def cancel(tx: Tx, saga_id: str, reason: str, principal: str) -> bool:
        rows = await tx.execute(
            "UPDATE mesh_sagas SET cancel_reason = COALESCE(cancel_reason, $2)"
            " WHERE saga_id = $1 AND state IN (1, 2) RETURNING saga_id",
            saga_id,
            reason,
        )
        return bool(rows)

    with (
        patch.object(journal, "check_abandoned", check_abandoned),
        patch.object(actions, "cancel", cancel),
    ):
        yield


@mutant
def no_resume() -> Iterator[None]:
    """What a process leaves unfinished stays so."""

    async def claim(self: Leases, engine_id: str, limit: int) -> list[Claim]:
        return []

    with patch.object(Leases, "claim", claim):
        yield


@mutant
def lease_without_fencing() -> Iterator[None]:
    """An engine that was taken for dead takes its lease up again, and goes on where it was."""
    known = Journal.save

    async def renew(tx: Tx, engine_id: str) -> None:
        await tx.execute(
            "INSERT INTO mesh_saga_engines (engine_id, instance, expires_at) VALUES ($1, '', $2)"
            " ON CONFLICT (engine_id) DO UPDATE SET expires_at = excluded.expires_at",
            engine_id,
            tx.now() + leases.LEASE_S,
        )

    async def save(self: Journal, saga: SagaRow, *args: Any, **kwargs: Any) -> None:
        stored = await self.get(saga.saga_id)
        assert stored
        epoch, saga.epoch = saga.epoch, stored.epoch
        try:
            await known(self, saga, *args, **kwargs)
        finally:
            saga.epoch = epoch

    with patch.object(Journal, "save", save), patch.object(leases, "_renew", renew):
        yield


@mutant
def no_retry_budget() -> Iterator[None]:
    """Whatever failed is sent again, however much fails."""
    with patch.object(Budget, "withdraw", lambda self: True):
        yield


@mutant
def ack_before_publish() -> Iterator[None]:
    """An event counts as published before the broker has it."""
    known = Relay._publish

    async def publish(self: Relay, event: Event) -> bool:
        await self._store.write(lambda tx: outbox.mark_published(tx, [event]))
        return await known(self, event)

    with patch.object(Relay, "_publish", publish):
        yield


@mutant
def dual_write() -> Iterator[None]:
    """Events are written after the transaction whose facts they are, in one of their own."""
    known = SqliteStore.write
    written: ContextVar[list[Message]] = ContextVar("written")

    async def publish(self: Tx, event: Message) -> int:
        written.get().append(event)
        return 0

    async def write(self: SqliteStore, work: Work[Any]) -> Any:
        events: list[Message] = []
        token = written.set(events)
        result = await known(self, work)
        written.reset(token)
        for event in events:
            await known(self, functools.partial(outbox.append, event=event))
        return result

    with patch.object(Tx, "publish", publish), patch.object(SqliteStore, "write", write):
        yield


@mutant
def effect_before_its_intent() -> Iterator[None]:
    """The provider is asked before it is written down that it will be."""
    known = Effects.handler

    def handler(self: Effects, effect: Effect) -> Any:
        inner = known(self, effect)

        async def handle(call: Call) -> Any:
            if UNDO_OF not in call.metadata and effect.method.name == "ChargePayment":
                asked: Any = call.request
                charge = ChargeRequest(
                    key=charge_key(asked.order_id),
                    amount=asked.amount,
                    payment_token=asked.payment_token,
                    reference=asked.order_id,
                )
                with contextlib.suppress(Refused):
                    await self._context(call).to.provider.Charge(charge)
            return await inner(call)

        return handle

    with patch.object(Effects, "handler", handler):
        yield
