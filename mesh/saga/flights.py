"""The sagas that one engine runs at the moment: each is a task, from its claim until it rests."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import Link, Status, StatusCode

from ..dial import Remote
from ..layers.backoff import Backoff
from ..metadata import CORRELATION_ID, TRACEPARENT
from ..node import Node
from ..runtime import beside
from ..runtime.cancelling import is_stopped
from ..runtime.logs import log
from ..scope import format_traceparent, inherit, parse_traceparent
from ..storage.port import StorageError
from .journal import Journal
from .progress import Progress
from .records import FencedError, SagaRow
from .run import Run
from .steps import Saga
from .v1 import saga_pb2 as pb

#: A function that fails this often with something that is no refusal is parked.
RESUMES_MAX = 3


class Flight:
    """A saga in the hands of this engine.

    `over` resolves when it no longer is: to what it came to, if it came to rest here.
    """

    def __init__(self, saga_id: str) -> None:
        self.saga_id = saga_id
        self.task: asyncio.Task[SagaRow | None] | None = None  # none while it is being stored
        self.over: asyncio.Future[SagaRow | None] = asyncio.get_running_loop().create_future()


class Flights:
    """The flights of one engine, by saga id; see `SagaEngine` for what it is made of."""

    def __init__(
        self,
        node: Node,
        journal: Journal,
        sagas: Mapping[tuple[str, int], Saga[Any, Any]],
        clients: Any,
        remotes: dict[tuple[str, str], Remote],
        backoff: Backoff,
    ) -> None:
        self._node = node
        self._journal = journal
        self._metrics = node.metrics.sagas
        self._sagas = sagas
        self._clients = clients
        self._remotes = remotes
        self._backoff = backoff
        self._flights: dict[str, Flight] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def __contains__(self, saga_id: object) -> bool:
        return saga_id in self._flights

    def get(self, saga_id: str) -> Flight | None:
        """Return the flight of a saga, if it is held."""
        return self._flights.get(saga_id)

    def can_run(self, saga: Saga[Any, Any]) -> bool:
        """Whether this saga in this version is known."""
        return (saga.name, saga.version) in self._sagas

    def reserve(self, saga_id: str) -> Flight:
        """Hold a saga. A run of it under an older epoch ends: it could write nothing more."""
        stale = self._flights.get(saga_id)
        if stale and stale.task:
            stale.task.cancel()
        flight = self._flights[saga_id] = Flight(saga_id)
        return flight

    def launch(
        self,
        flight: Flight,
        epoch: int,
        row: SagaRow | None = None,
        expires: float | None = None,
    ) -> None:
        """Run the saga, which was claimed under *epoch*.

        *row* is what is known of it, and *expires* when it is out of time, on the monotonic clock.
        """
        flight.task = beside.begin(self._to_the_end(flight.saga_id, epoch, row, expires))
        self._metrics.running.inc()

        def landed(task: asyncio.Task[SagaRow | None]) -> None:
            self._metrics.running.dec()
            stopped = task.cancelled() or task.exception()
            self.land(flight, None if stopped else task.result())

        flight.task.add_done_callback(landed)

    def land(self, flight: Flight, row: SagaRow | None = None) -> None:
        """Let go of the saga; *row* is what it came to."""
        if self._flights.get(flight.saga_id) is flight:
            del self._flights[flight.saga_id]
        if not flight.over.done():
            flight.over.set_result(row)

    async def drop_all(self) -> None:
        """Stop every saga where it stands."""
        await beside.end(*(flight.task for flight in self._flights.values()))

    async def _to_the_end(
        self, saga_id: str, epoch: int, row: SagaRow | None, expires: float | None
    ) -> SagaRow | None:
        """Run the saga until it is at rest and return it; None if another engine has it."""
        runtime = self._node.runtime
        for tries in itertools.count(1):
            try:
                if row is None:
                    row, left_s = await self._read(saga_id, epoch)
                    if expires is None:
                        expires = runtime.clock.monotonic() + left_s
                assert expires is not None  # whoever knows the row knows that too
                if row.at_rest or await self._ended(row, expires):
                    return row
            except FencedError:
                log.info("another engine has the saga", saga_id=saga_id)
                return None
            except StorageError as error:
                log.error("the journal failed", saga_id=saga_id, error=str(error))
            row = None
            await runtime.clock.sleep(self._backoff.delay_s(tries, runtime.random))
        raise AssertionError("unreachable")

    async def _read(self, saga_id: str, epoch: int) -> tuple[SagaRow, float]:
        """Return what the journal knows of a saga that was claimed under *epoch*; its time left.

        What passed while nobody ran it counts, but it never has more than its whole time.
        """
        row, now = await self._journal.open(saga_id)
        if row is None or row.epoch != epoch:
            raise FencedError(saga_id)
        return row, min(row.deadline_at - row.created_at, row.deadline_at - now)

    async def _ended(self, row: SagaRow, expires: float) -> bool:
        """Run the saga; whether that was the end of it."""
        inherit({CORRELATION_ID: row.correlation_id, TRACEPARENT: row.traceparent})
        run = self._run(row, expires)
        try:
            with self._segment(row):
                await run.to_the_end()
        except StorageError:
            raise
        except (Exception, asyncio.CancelledError) as error:
            if is_stopped(error):
                raise
            log.error("saga failed", saga_id=row.saga_id, saga=row.name, exc_info=error)
            await run.note_failure(error, park=row.failures + 1 >= RESUMES_MAX)
            return row.state == pb.Saga.PARKED
        return True

    def _run(self, row: SagaRow, expires: float) -> Run:
        runtime = self._node.runtime
        progress = Progress(row, self._journal, runtime, self._backoff, self._metrics, expires)
        return Run(progress, self._sagas[row.name, row.version], self._clients, self._remotes)

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
