"""Keys and the barrier: every mutating call is applied once, and an undo never too early.

A key has one answer for ever, refusals included. An undo names the key of its do; if that do
was never executed, the undo marks it void and does nothing, and a late do finds itself void. What
was undone is not undone again, whatever the key of the second undo. All of it is in the
transaction of the handler, which never sees it. The barrier is dtm's sub-transaction barrier
(https://en.dtm.pub/practice/barrier.html).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from google.protobuf.message import Message
from google.rpc.status_pb2 import Status

from ..call import Call, Method
from ..errors import AlreadyExists, Internal, KeyInFlight, Refused
from ..metadata import UNDO_OF
from ..status import from_status, to_status
from . import watermark
from .port import Tx

#: A mutation's stored reply is at most this long.
REPLY_LIMIT_BYTES = 64 * 1024

_INSERT = (
    "INSERT INTO mesh_keys (principal, method, key, request_hash, state, answer, created_at)"
    " VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (principal, method, key) DO "
)
_CLAIM = _INSERT + "NOTHING RETURNING state"
_PUT = _INSERT + "UPDATE SET state = excluded.state, answer = excluded.answer"


class State(enum.IntEnum):
    """What is known of a key."""

    OPEN = 0  # an effect's intent is recorded, its result is not
    REPLIED = 1
    REFUSED = 2
    VOID = 3  # undone before it was done: it may never happen
    UNDOING = 4  # replied; the intent of an effect that undoes it is recorded
    UNDONE = 5  # replied, and undone since


@dataclass(frozen=True, slots=True)
class KeyId:
    """A key in its scope: the same text from another caller or for another method is another."""

    principal: str
    method: str
    key: str

    @staticmethod
    def of(call: Call) -> KeyId:
        """Return the key of *call*."""
        return KeyId(call.principal.name, call.method.path, call.key)

    @staticmethod
    def undone_by(call: Call) -> KeyId | None:
        """Return the key that *call* undoes, if it is an undo."""
        named = call.metadata.get(UNDO_OF)
        if not named:
            return None
        path, _, key = named.partition(" ")
        return KeyId(call.principal.name, path, key)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a key's call answered."""

    state: State
    payload: bytes = b""

    @staticmethod
    def reply(message: Message, method: Method) -> Answer:
        """Return *message* as an answer."""
        payload = message.SerializeToString(deterministic=True)
        if len(payload) > REPLY_LIMIT_BYTES:
            raise Internal(
                f"{method.full_name} replied {len(payload)} bytes; a mutation's reply is kept for"
                f" ever and may have {REPLY_LIMIT_BYTES}"
            )
        return Answer(State.REPLIED, payload)

    @staticmethod
    def refusal(refused: Refused) -> Answer:
        """Return *refused* as an answer."""
        return Answer(State.REFUSED, to_status(refused).SerializeToString(deterministic=True))

    def give(self, method: Method) -> Message:
        """Return the reply, or raise the refusal; KeyInFlight if it has come to neither."""
        if self.state in (State.REPLIED, State.UNDOING, State.UNDONE):
            return method.reply_type.FromString(self.payload)
        if self.state is State.REFUSED:
            raise from_status(Status.FromString(self.payload))
        if self.state is State.OPEN:
            raise KeyInFlight("what this key began has not come to its end")
        raise Refused("it was undone before it arrived", reason="VOIDED")


def request_hash(request: Message) -> bytes:
    """Return 16 bytes that tell whether two requests are the same."""
    return blake2b(request.SerializeToString(deterministic=True), digest_size=16).digest()


async def claim(tx: Tx, call: Call) -> Answer | None:
    """Take *call*'s key for it, or return what the key has answered before.

    It writes before it reads: of two transactions that first looked for a key nearby, and then
    added theirs, PostgreSQL would take one back.

    Raises:
        AlreadyExists: the key was used for another request.
        KeyExpired: it is older than what is remembered.
    """
    hashed = request_hash(call.request)
    taken = await _put(tx, KeyId.of(call), hashed, Answer(State.OPEN), _CLAIM)
    if not taken:
        return await find(tx, call)
    await watermark.check(tx, call.key)
    return None


async def find(tx: Tx, call: Call) -> Answer | None:
    """Return what *call*'s key has answered before.

    Raises:
        AlreadyExists: the key was used for another request.
    """
    key = KeyId.of(call)
    rows = await tx.execute(
        "SELECT state, answer, request_hash FROM mesh_keys"
        " WHERE principal = $1 AND method = $2 AND key = $3",
        key.principal,
        key.method,
        key.key,
    )
    if not rows:
        return None
    state, payload, stored_hash = rows[0]
    if state != State.VOID and bytes(stored_hash) != request_hash(call.request):
        raise AlreadyExists(
            f"the key {call.key!r} was used for another request", reason="KEY_REUSED"
        )
    return Answer(State(state), bytes(payload or b""))


async def remember(tx: Tx, call: Call, answer: Answer) -> None:
    """Record *answer* as the one of *call*'s key."""
    await _put(tx, KeyId.of(call), request_hash(call.request), answer)


async def state_or_void(tx: Tx, do: KeyId) -> State:
    """Return what is known of the call that is to be undone; void it if that is nothing.

    Raises:
        KeyExpired: it is older than what is remembered.
    """
    rows = await tx.execute(
        "SELECT state FROM mesh_keys WHERE principal = $1 AND method = $2 AND key = $3",
        do.principal,
        do.method,
        do.key,
    )
    if rows:
        return State(rows[0][0])
    await watermark.check(tx, do.key)
    await _put(tx, do, b"", Answer(State.VOID))
    return State.VOID


async def mark(tx: Tx, do: KeyId, state: State) -> None:
    """Note how far the undoing of *do* is; its answer stays."""
    await tx.execute(
        "UPDATE mesh_keys SET state = $4 WHERE principal = $1 AND method = $2 AND key = $3",
        do.principal,
        do.method,
        do.key,
        int(state),
    )


async def _put(tx: Tx, key: KeyId, hashed: bytes, answer: Answer, sql: str = _PUT) -> list[Any]:
    return await tx.execute(
        sql,
        key.principal,
        key.method,
        key.key,
        hashed,
        int(answer.state),
        answer.payload,
        tx.now(),
    )
