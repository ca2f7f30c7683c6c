"""From a declared function to a handler: where a call meets the database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from google.protobuf.message import Message

from .call import Call, Handler, StreamHandler
from .errors import KeyInFlight, NotExecuted, Refused
from .layers.streams import Reading
from .metadata import VOID
from .service import Context
from .storage import keys
from .storage.port import NotStoredError, Store, T, Tx, Work, on_behalf_of

Function = Callable[[Tx, Any], Awaitable[Message]]
#: Makes the answer of a call for the first time; it is given the key that the call undoes, if any.
Execute = Callable[[keys.KeyId | None], Awaitable[keys.Answer]]

#: When to ask again for the undo of an effect that is still open.
OPEN_RETRY_S = 1.0
#: When to ask again for what the database had no room, or no time, for.
STORE_RETRY_S = 1.0
_UNDER_WAY = "what this undoes is still under way"


class UndoneEarlyError(KeyInFlight):
    """The effect that is to be undone, *do*, is still open."""

    def __init__(self, do: keys.KeyId) -> None:
        super().__init__(_UNDER_WAY, retry_after_s=OPEN_RETRY_S)
        self.do = do


def in_transaction(function: Function, store: Store) -> Handler:
    """Return the handler of an ``@rpc`` that changes something.

    Its writes and its answer under the call's key are one transaction. A refusal takes the
    writes back and is remembered all the same.
    """

    async def handle(call: Call) -> Message:
        work = on_behalf_of(call, lambda tx: answer_once(tx, call, function))
        return (await stored(store, work)).give(call.method)

    return handle


async def stored(store: Store, work: Work[T]) -> T:
    """Run *work* in a transaction; what could not be stored was not executed."""
    try:
        return await store.write(work)
    except NotStoredError as error:
        raise NotExecuted(
            "the service cannot write now", reason=error.reason, retry_after_s=STORE_RETRY_S
        ) from error


def on_snapshot(function: Function, store: Store) -> Handler:
    """Return the handler of an ``@rpc`` that only reads."""

    async def handle(call: Call) -> Message:
        return await store.read(on_behalf_of(call, lambda tx: function(tx, call.request)))

    return handle


async def answer_once(tx: Tx, call: Call, function: Function) -> keys.Answer:
    """Answer *call* as its key was answered before, or run *function* and remember."""

    async def execute(do: keys.KeyId | None) -> keys.Answer:
        answer = await attempt(tx, call, function)
        if do and answer.state is keys.State.REPLIED:
            await keys.mark(tx, do, keys.State.UNDONE)
        return answer

    return await under_key(tx, call, execute)


async def under_key(tx: Tx, call: Call, execute: Execute) -> keys.Answer:
    """Answer *call* as its key was answered before, or as the barrier says, or *execute* it.

    The answer is remembered.

    Raises:
        UndoneEarlyError: it undoes an effect that is still open.
        KeyInFlight: another undo of the same is under way.
    """
    known = await keys.claim(tx, call) if call.key else None
    if known:
        return known
    do = keys.KeyId.undone_by(call)
    if VOID in call.metadata:
        answer = keys.Answer(keys.State.VOID)
    elif do and await undo_is_void(tx, do):
        answer = keys.Answer.reply(call.method.reply_type(), call.method)
    else:
        answer = await execute(do)
    if call.key:
        await keys.remember(tx, call, answer)
    return answer


async def undo_is_void(tx: Tx, do: keys.KeyId) -> bool:
    """Whether *do* has no effect to take back, or none any more; voids it if it is new.

    Raises:
        UndoneEarlyError: the outcome of *do* is not known yet.
        KeyInFlight: that of another undo of it is not.
    """
    state = await keys.state_or_void(tx, do)
    if state is keys.State.OPEN:
        raise UndoneEarlyError(do)
    if state is keys.State.UNDOING:
        raise KeyInFlight(_UNDER_WAY, retry_after_s=OPEN_RETRY_S)
    return state is not keys.State.REPLIED


async def attempt(tx: Tx, call: Call, function: Function) -> keys.Answer:
    """Run *function*; a refusal is an answer too."""
    try:
        return keys.Answer.reply(await function(tx, call.request), call.method)
    except Refused as refused:
        if not refused.keep:
            await tx.rollback()
        return keys.Answer.refusal(refused)


def with_context(function: Callable[..., Any], context: Callable[[Call], Context[Any]]) -> Handler:
    """Return the handler of a ``@call`` with one reply."""

    async def handle(call: Call) -> Message:
        if VOID in call.metadata:
            raise Refused("it keeps no keys", reason="KEYLESS")
        reply: Message = await function(context(call), call.request)
        return reply

    return handle


def with_context_stream(
    function: Callable[..., Any], context: Callable[[Call], Context[Any]]
) -> StreamHandler:
    """Return the handler of a ``@call`` with many requests, many replies, or both."""

    async def handle(call: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Message]:
        client_streams, server_streams = call.method.kind.value
        request = requests if client_streams else call.request
        if server_streams:
            async with Reading(function(context(call), request)) as replies:
                async for reply in replies:
                    yield reply
        else:
            yield await function(context(call), request)

    return handle
