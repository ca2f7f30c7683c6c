"""Effects: calls to what lies outside every transaction (a payment provider, mail).

    transaction 1: intent, open    ->    outside, same key each time    ->    transaction 2: answer

Once its intent is committed an effect is brought to its end whatever happens to its caller: it
is tried again until the outside gives a definite answer, and after a crash open intents resume at
start. So it happens at least once, and exactly once if the outside is idempotent by key. An undo
of an effect that is still open first brings it to its end.

An open effect whose code is gone, because a new version has none for its method, can come to no
end: it is told at start (an error in the log, `mesh_effects_orphaned`), stays as it is, and who
asks for it or undoes it hears that it is under way. Bring the code back, and it goes on.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message

from .call import NEVER, Call, Handler, Method, Principal
from .errors import KeyInFlight, MeshError
from .execution import UndoneEarlyError, attempt, stored, under_key
from .layers.backoff import Backoff
from .metadata import CORRELATION_ID, TRACEPARENT, UNDO_OF
from .runtime import beside
from .runtime.clock import Runtime
from .runtime.logs import log
from .scope import current_traceparent, detached, scope
from .service import Context, Effect
from .storage import keys
from .storage.keys import KeyId, State
from .storage.port import Row, Store, Tx, on_behalf_of
from .storage.seal import CLEAR, Seal, is_secret

BACKOFF = Backoff(base_s=0.1, max_s=5.0)
#: What an outside that is hard to reach raises; anything else may be a bug, and is shown as one.
_EXPECTED = (MeshError, OSError, TimeoutError)


class Effects:
    """Runs the effects of one service; at most one flight per key."""

    def __init__(
        self,
        store: Store,
        runtime: Runtime,
        context: Callable[[Call], Context[Any]],
        seal: Seal = CLEAR,
    ) -> None:
        self._store = store
        self._runtime = runtime
        self._context = context
        self._seal = seal
        self._effects: dict[str, Effect] = {}
        self._flights: dict[KeyId, asyncio.Task[keys.Answer]] = {}
        #: Open effects at the last `resume` whose code is gone, by the path of their method.
        self.orphans: Counter[str] = Counter()

    def handler(self, effect: Effect) -> Handler:
        """Return the handler of *effect*."""
        self._effects[effect.method.path] = effect

        async def handle(call: Call) -> Message:
            if not call.key:
                call = call.replace(key=self._runtime.new_id())
            begun = await self._begin(effect, call)
            if begun.state is State.OPEN:
                begun = await self._end(_inheriting(call))
            return begun.give(call.method)

        return handle

    async def resume(self) -> int:
        """Take up the effects that a crash left open; return how many."""
        rows = await self._store.read(_open_effects)
        self.orphans = Counter(row[_METHOD] for row in rows if row[_METHOD] not in self._effects)
        for method, count in self.orphans.items():
            log.error("open effects have no code any more", method=method, effects=count)
        calls = [self._call(row) for row in rows if row[_METHOD] in self._effects]
        for call in calls:
            self._fly(call)
        return len(calls)

    async def stop(self) -> None:
        """Stop trying; what is open stays open and resumes at the next start."""
        await beside.end(*self._flights.values())

    async def _begin(self, effect: Effect, call: Call) -> keys.Answer:
        """Record the intent; what is open and to be undone comes to its end before."""
        intend = functools.partial(self._intend, effect=effect, call=call)
        while True:
            try:
                return await stored(self._store, on_behalf_of(call, intend))
            except UndoneEarlyError as early:
                await self._end_first(early.do)

    async def _intend(self, tx: Tx, effect: Effect, call: Call) -> keys.Answer:
        async def intend(tx: Tx, request: Message) -> Message:
            await effect.intend(tx, request)
            return call.method.reply_type()

        async def execute(do: KeyId | None) -> keys.Answer:
            answer = await attempt(tx, call, intend)
            if answer.state is not State.REPLIED:
                return answer
            await self._record_intent(tx, call)
            if do:
                await keys.mark(tx, do, State.UNDOING)
            return keys.Answer(State.OPEN)

        return await under_key(tx, call, execute)

    async def _end_first(self, do: KeyId) -> None:
        """Bring an effect that is to be undone to its end; it may have come there meanwhile."""
        if do.method not in self._effects:
            raise KeyInFlight("what this undoes is open and has no code any more")
        for row in await self._store.read(functools.partial(_open_effects, of=do)):
            await self._end(self._call(row))

    async def _end(self, call: Call) -> keys.Answer:
        """Wait for the end of an open effect; who waits may give up, the effect goes on."""
        return await asyncio.shield(self._fly(call))

    def _fly(self, call: Call) -> asyncio.Task[keys.Answer]:
        identity = KeyId.of(call)
        flight = self._flights.get(identity)
        if flight is None:
            flight = asyncio.get_running_loop().create_task(
                self._finish(call), context=detached(call.metadata)
            )
            self._flights[identity] = flight
            flight.add_done_callback(lambda _: self._flights.pop(identity, None))
        return flight

    async def _finish(self, call: Call) -> keys.Answer:
        """Call the outside until it answers; record the answer."""
        effect = self._effects[call.method.path]
        assert effect.act is not None  # Service.check
        for tries in itertools.count(1):
            try:
                result = await effect.act(self._context(call), call.request)
                settle = functools.partial(self._settle, effect=effect, call=call, result=result)
                return await self._store.write(on_behalf_of(call, settle))
            except Exception as error:  # noqa: BLE001  # the intent stands and must end
                delay_s = BACKOFF.delay_s(tries, self._runtime.random)
                self._tell(call, error, tries, delay_s)
                await self._runtime.clock.sleep(delay_s)
        raise AssertionError("unreachable")

    def _tell(self, call: Call, error: Exception, tries: int, delay_s: float) -> None:
        expected = isinstance(error, _EXPECTED)
        tell = log.warning if expected else log.error
        tell(
            "effect will be tried again",
            method=call.method.full_name,
            attempt=tries,
            delay_s=round(delay_s, 3),
            error=type(error).__name__,
            # The first and every tenth time is enough for whoever looks for a bug.
            exc_info=error if not expected and tries % 10 == 1 else None,
        )

    async def _settle(self, tx: Tx, effect: Effect, call: Call, result: Any) -> keys.Answer:
        known = await keys.find(tx, call)
        if known and known.state is not State.OPEN:  # another process was faster
            return known
        record = effect.record
        assert record is not None  # Service.check

        async def settle(tx: Tx, request: Message) -> Any:
            return await record(tx, request, result)

        answer = await attempt(tx, call, settle)
        await tx.execute(
            "DELETE FROM mesh_effects WHERE principal = $1 AND method = $2 AND key = $3",
            call.principal.name,
            call.method.path,
            call.key,
        )
        await keys.remember(tx, call, answer)
        if do := KeyId.undone_by(call):
            done = answer.state is State.REPLIED  # if not, another undo may be tried
            await keys.mark(tx, do, State.UNDONE if done else State.REPLIED)
        return answer

    async def _record_intent(self, tx: Tx, call: Call) -> None:
        request = call.request.SerializeToString(deterministic=True)
        if is_secret(call.method.request_type):
            request = self._seal.close(request, _place(KeyId.of(call)))
        await tx.execute(
            "INSERT INTO mesh_effects"
            " (principal, method, key, request, correlation_id, traceparent, undo_of)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7)",
            call.principal.name,
            call.method.path,
            call.key,
            request,
            tx.correlation_id,
            current_traceparent(),
            call.metadata.get(UNDO_OF, ""),
        )

    def _call(self, row: Row) -> Call:
        principal, path, key, kept, correlation_id, traceparent, undo_of = row
        method = Method.at(path)
        request = self._seal.open(bytes(kept), _place(KeyId(principal, path, key)))
        return Call(
            method=method,
            request=method.request_type.FromString(request),
            deadline=NEVER,
            key=key,
            principal=Principal(principal),
            metadata={
                CORRELATION_ID: correlation_id,
                TRACEPARENT: traceparent,
                **({UNDO_OF: undo_of} if undo_of else {}),
            },
        )


def _inheriting(call: Call) -> Call:
    """Return *call* with the correlation and the span under which it is served."""
    inherited = {CORRELATION_ID: scope.get().correlation_id, TRACEPARENT: current_traceparent()}
    return call.replace(metadata={**call.metadata, **inherited})


async def _open_effects(tx: Tx, of: KeyId | None = None) -> list[Row]:
    """Return all that are open, or the one *of* a key."""
    every = (
        "SELECT principal, method, key, request, correlation_id, traceparent, undo_of"
        " FROM mesh_effects"
    )
    if of is None:
        return await tx.execute(every)
    one = f"{every} WHERE principal = $1 AND method = $2 AND key = $3"
    return await tx.execute(one, of.principal, of.method, of.key)


_METHOD = 1  # its column there


def _place(key: KeyId) -> str:
    """Return what a sealed request is bound to."""
    return f"{key.principal} {key.method} {key.key}"
