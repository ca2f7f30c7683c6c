"""The saga engine: starts sagas, keeps them running, takes up what other engines left."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

from google.protobuf.message import Message
from opentelemetry import trace
from opentelemetry.trace import SpanKind

from ..dial import DeclarationError, Remote
from ..errors import AlreadyExists
from ..layers.backoff import Backoff
from ..node import Node
from ..runtime import beside
from ..runtime.logs import log
from ..scope import current_traceparent, format_traceparent, scope
from ..storage.port import StorageError, Store
from . import actions
from .flights import Flights
from .journal import Journal
from .leases import RENEW_S, LeaseLostError, Leases
from .records import SagaRow
from .steps import Saga

T = TypeVar("T")

#: Sagas that one engine runs at a time; the others wait in the database for any engine.
RUNNING_MAX = 1000
#: Sagas that are claimed in one transaction.
CLAIM_MAX = 200
#: How often an engine looks for sagas that nobody runs.
LOOK_S = 1.0
#: How often a saga that another engine runs is looked at by who waits for it, at least and at most.
WATCH_S, WATCH_MIN_S = 1.0, 0.05
BACKOFF = Backoff(base_s=0.05, max_s=5.0)


class SagaEngine:
    """Runs the sagas of one service, together with the other engines on its database.

    Args:
        node: the process.
        store: the service's database, which holds the journal.
        sagas: what can be run.
        clients: what the functions get as their clients.
        remotes: every declared remote method, by (target, path); undos are called by it.
    """

    def __init__(
        self,
        node: Node,
        store: Store,
        sagas: Sequence[Saga[Any, Any]],
        clients: Any,
        remotes: dict[tuple[str, str], Remote],
        backoff: Backoff | None = None,
    ) -> None:
        self.journal = Journal(store, node.seal)
        self._node = node
        self._store = store
        self.known = {(saga.name, saga.version): saga for saga in sagas}
        self._metrics = node.metrics.sagas
        self._flights = Flights(
            node, self.journal, self.known, clients, remotes, backoff or BACKOFF
        )
        self._leases = Leases(store, self.known.keys())
        self._engine_id = ""  # there is none without a lease
        self._renew_at = 0.0
        self._keeper: asyncio.Task[None] | None = None

    async def start(self, saga: Saga[Any, Any], request: Message, key: str) -> str:
        """Start *saga*, unless *key* has started it already; return its id once that is durable.

        It is run here, or by whichever engine has room for it.

        Raises:
            AlreadyExists: the key was used with another request.
            KeyExpired: what the key has started was forgotten.
            DeclarationError: the service does not declare this saga.
        """
        if not self._flights.can_run(saga):
            raise DeclarationError(f"{saga.name} v{saga.version} is not among the service's sagas")
        row, span = self._new(saga, request, key)
        expires = self._node.runtime.clock.monotonic() + saga.deadline_s
        room = self._engine_id and len(self._flights) < RUNNING_MAX
        flight = self._flights.reserve(row.saga_id) if room else None
        try:
            owner = self._engine_id if flight else ""
            stored = await self.journal.add(row, owner, type(request))
            if flight and stored is row:
                self._flights.launch(flight, row.epoch, row, expires)
        finally:
            span.end()
            if flight and not flight.task:  # were it stored all the same, the keeper finds it
                self._flights.land(flight)
        if stored is not row and saga.request_type.FromString(stored.request) != request:
            raise AlreadyExists(
                f"the key {key!r} was used for another request", reason="KEY_REUSED"
            )
        return stored.saga_id

    def _new(self, saga: Saga[Any, Any], request: Message, key: str) -> tuple[SagaRow, trace.Span]:
        runtime = self._node.runtime
        now = runtime.clock.wall()
        span = self._node.tracer.start_span(f"saga {saga.name}", kind=SpanKind.INTERNAL)
        row = SagaRow(
            saga_id=runtime.new_id(),
            name=saga.name,
            version=saga.version,
            key=key,
            request=request.SerializeToString(deterministic=True),
            correlation_id=scope.get().correlation_id,
            traceparent=format_traceparent(span.get_span_context()) or current_traceparent(),
            created_at=now,
            deadline_at=now + saga.deadline_s,
        )
        span.set_attribute("mesh.saga_id", row.saga_id)
        span.set_attribute("mesh.correlation_id", row.correlation_id)
        return row, span

    async def wait(self, saga_id: str, timeout_s: float) -> SagaRow:
        """Return the saga once it is over or parked, or as it is after *timeout_s*.

        Whichever engine runs it.
        """
        clock = self._node.runtime.clock
        ends = clock.monotonic() + timeout_s
        for looks in itertools.count(1):
            flight = self._flights.get(saga_id)
            if flight:
                row = await _until(flight.over, ends - clock.monotonic())
                if row:
                    return row
            changed = self._store.changed()
            row = await self.journal.get(saga_id)
            assert row is not None  # a saga is kept longer than anybody waits for it
            left_s = ends - clock.monotonic()
            if row.at_rest or left_s <= 0:
                return row
            await _until(changed, min(left_s, WATCH_S))
            # However much else is committed meanwhile.
            await clock.sleep(min(left_s, WATCH_S, looks * WATCH_MIN_S))
        raise AssertionError("unreachable")

    async def cancel(self, saga_id: str, reason: str, principal: str = "") -> bool:
        """Ask for the saga to be undone; false if it has ended or passed its pivot.

        Whoever runs it hears of it at its next step, or before it asks again for an answer. That
        *principal* asked, and why, is recorded.
        """
        return await self._store.write(lambda tx: actions.cancel(tx, saga_id, reason, principal))

    async def resume(self) -> int:
        """Begin to take up what nobody runs; return how many sagas were taken up at once."""
        await self._enter(self._node.instance)
        taken = await self._take_up()
        self._renew_at = self._node.runtime.clock.monotonic() + RENEW_S
        self._keeper = beside.begin(
            beside.keep_on("a look after sagas", self._look, self._node.runtime.clock, pause_s=0.0)
        )
        return taken

    async def stop(self) -> None:
        """Stop where they stand, and hand them over: the journal knows where to go on."""
        await beside.end(self._keeper)
        await self._flights.drop_all()
        engine_id, self._engine_id = self._engine_id, ""
        if engine_id:
            with contextlib.suppress(StorageError):  # then it expires
                await self._leases.leave(engine_id)

    async def _enter(self, instance: str) -> None:
        engine_id = self._node.runtime.new_id()
        await self._leases.enter(engine_id, instance)
        self._engine_id = engine_id

    async def _look(self) -> None:
        """In a while, keep the lease and take up what nobody runs."""
        clock = self._node.runtime.clock
        await clock.sleep(LOOK_S)
        try:
            if not self._engine_id:
                await self._enter("")  # another life of this instance may have its name
            if clock.monotonic() >= self._renew_at:
                self._renew_at = clock.monotonic() + RENEW_S
                await self._leases.renew(self._engine_id)
                await self._leases.let_go(self._engine_id, self._flights)
                self._metrics.census(await self.journal.census(), clock.wall())
            await self._take_up()
        except LeaseLostError:
            log.warning("the lease was lost: other engines take over", engine=self._engine_id)
            self._engine_id = ""
            await self._flights.drop_all()

    async def _take_up(self) -> int:
        """Claim and run what nobody runs, as far as there is room; return how many."""
        taken = 0
        while (room := min(CLAIM_MAX, RUNNING_MAX - len(self._flights))) > 0:
            claims = await self._leases.claim(self._engine_id, room)
            for saga_id, epoch in claims:
                self._flights.launch(self._flights.reserve(saga_id), epoch)
            taken += len(claims)
            if len(claims) < room:
                break
        return taken


async def _until(future: Awaitable[T], timeout_s: float) -> T | None:
    """Wait for *future*, but not for long; return its result, None if it takes longer."""
    if timeout_s > 0:
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(asyncio.shield(future), timeout_s)
    return None
