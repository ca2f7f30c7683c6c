"""The saga engine: starts sagas, keeps them running, takes them up after a crash."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from google.protobuf.message import Message
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from ..dial import Remote
from ..errors import AlreadyExists
from ..layers.backoff import Backoff
from ..metadata import CORRELATION_ID, TRACEPARENT
from ..node import Node
from ..runtime.logs import log
from ..scope import (
    current_traceparent,
    detached,
    format_traceparent,
    parse_traceparent,
    scope,
)
from ..storage.port import StorageError, Store
from .journal import Journal
from .records import FencedError, SagaRow
from .run import Run
from .steps import Saga
from .v1 import saga_pb2 as pb

#: A saga that has not reached its pivot after this long is undone.
DEADLINE_S = 600.0
#: Sagas of one process that make steps at the same time; the others wait their turn.
RUNNING_MAX = 1000
#: A function that fails this often with something that is no refusal is parked.
RESUMES_MAX = 3


class SagaEngine:
    """Runs the sagas of one service.

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
        self.journal = Journal(store)
        self._node = node
        self._sagas = {(saga.name, saga.version): saga for saga in sagas}
        self._clients = clients
        self._remotes = remotes
        self._backoff = backoff or Backoff(base_s=0.05, max_s=5.0)
        self._running: dict[str, asyncio.Task[None]] = {}
        self._rows: dict[str, SagaRow] = {}
        self._turns = asyncio.Semaphore(RUNNING_MAX)

    async def start(self, saga: Saga[Any, Any], request: Message, key: str) -> str:
        """Start *saga*, unless *key* has started it already; return its id once that is durable.

        Raises:
            AlreadyExists: the key was used with another request.
        """
        runtime = self._node.runtime
        now = runtime.clock.wall()
        span = self._node.tracer.start_span(f"saga {saga.name}", kind=SpanKind.INTERNAL)
        payload = request.SerializeToString(deterministic=True)
        row = SagaRow(
            saga_id=runtime.new_id(),
            name=saga.name,
            version=saga.version,
            key=key,
            request=payload,
            correlation_id=scope.get().correlation_id,
            traceparent=format_traceparent(span.get_span_context()) or current_traceparent(),
            created_at=now,
            deadline_at=now + DEADLINE_S,
        )
        span.set_attribute("mesh.saga_id", row.saga_id)
        span.set_attribute("mesh.correlation_id", row.correlation_id)
        try:
            stored = await self.journal.add(row)
        finally:
            span.end()
        if stored is row:
            self._launch(row)
        elif saga.request_type.FromString(stored.request) != request:
            raise AlreadyExists(
                f"the key {key!r} was used for another request", reason="KEY_REUSED"
            )
        return stored.saga_id

    async def wait(self, saga_id: str, timeout_s: float) -> SagaRow:
        """Return the saga when it has ended, or as it is after *timeout_s*."""
        running = self._running.get(saga_id)
        if running is not None and timeout_s > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(running), timeout_s)
        row = await self.journal.get(saga_id)
        assert row is not None  # sagas are never deleted
        return row

    async def cancel(self, saga_id: str, reason: str) -> bool:
        """Ask for the saga to be undone; false if it has ended or passed its pivot."""
        asked = await self.journal.ask_to_cancel(saga_id, reason)
        row = self._rows.get(saga_id)
        if asked and row is not None and row.cancel_reason is None:
            row.cancel_reason = reason
        return asked

    async def resume(self) -> int:
        """Take up every unfinished saga; return how many."""
        rows = await self.journal.claim(self._sagas.keys())
        for row in rows:
            self._launch(row)
        return len(rows)

    async def stop(self) -> None:
        """Stop where they stand; the journal knows where to go on."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _launch(self, row: SagaRow) -> None:
        metadata = {CORRELATION_ID: row.correlation_id, TRACEPARENT: row.traceparent}
        task = asyncio.get_running_loop().create_task(
            self._to_the_end(row), context=detached(metadata)
        )
        self._running[row.saga_id] = task
        self._rows[row.saga_id] = row
        self._node.metrics.sagas.inc()

        def ended(_: asyncio.Task[None]) -> None:
            self._running.pop(row.saga_id, None)
            self._rows.pop(row.saga_id, None)
            self._node.metrics.sagas.dec()

        task.add_done_callback(ended)

    async def _to_the_end(self, row: SagaRow) -> None:
        runtime = self._node.runtime
        async with self._turns:
            for tries in itertools.count(1):
                try:
                    if tries > 1:
                        row = await self._reread(row)
                    if await self._ended(row):
                        return
                except FencedError:
                    log.info("another engine has the saga", saga_id=row.saga_id)
                    return
                except StorageError as error:
                    log.error("the journal failed", saga_id=row.saga_id, error=str(error))
                await runtime.clock.sleep(self._backoff.delay_s(tries, runtime.random))

    async def _ended(self, row: SagaRow) -> bool:
        """Run the saga; whether that was the end of it."""
        run = self._run(row)
        try:
            with self._segment(row):
                await run.to_the_end()
        except StorageError:
            raise
        except Exception as error:  # noqa: BLE001  # whatever a saga's function raises
            log.error("saga failed", saga_id=row.saga_id, saga=row.name, exc_info=error)
            await run.note_failure(park=row.resumes + 1 >= RESUMES_MAX)
            return row.state == pb.Saga.PARKED
        return True

    def _run(self, row: SagaRow) -> Run:
        return Run(
            row=row,
            saga=self._sagas[row.name, row.version],
            clients=self._clients,
            remotes=self._remotes,
            journal=self.journal,
            runtime=self._node.runtime,
            backoff=self._backoff,
        )

    async def _reread(self, row: SagaRow) -> SagaRow:
        """Return what the journal knows, under the fence we hold."""
        fresh = await self.journal.get(row.saga_id)
        assert fresh is not None
        fresh.epoch = row.epoch
        self._rows[row.saga_id] = fresh
        return fresh

    @contextmanager
    def _segment(self, row: SagaRow) -> Iterator[None]:
        """The span of one run: a child of the saga's root, linked to the run that was lost."""
        lost = parse_traceparent(row.segment)
        span = self._node.tracer.start_span(
            f"saga {row.name} run",
            attributes={"mesh.saga_id": row.saga_id, "mesh.correlation_id": row.correlation_id},
            links=[Link(lost)] if lost else None,
        )
        row.segment = format_traceparent(span.get_span_context())
        token = otel_context.attach(trace.set_span_in_context(span))
        try:
            yield
            span.set_attribute("mesh.saga_state", pb.Saga.State.Name(row.state))
            error = row.error()
            if error is not None:
                span.set_attribute("error.type", error.reason)
                span.set_status(Status(StatusCode.ERROR, error.reason))
        finally:
            otel_context.detach(token)
            span.end()
