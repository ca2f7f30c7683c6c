"""What happened in one saga: told from its journal, its operators and the outboxes of all it calls.

An event is of a saga if it was written under its correlation id, by the saga's own service or by
one that a step of it called.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ..errors import MeshError
from ..events.published import list_events
from ..events.v1 import outbox_pb2 as events_pb
from ..events.v1.outbox_pb2_grpc import OutboxServiceStub
from ..runtime.clock import timestamp
from ..scope import trace_id_of
from ..service import Context
from ..storage.port import Tx
from .actions import Recorded, recorded
from .describe import branch_name, describe, refusal_of
from .journal import read_saga
from .records import SagaRow, StepRow, found
from .v1 import saga_pb2 as pb

#: Who does not tell its events by then is left out.
PATIENCE_S = 2.0

Entry = pb.TimelineEntry


async def get_timeline(
    ctx: Context[Any], request: pb.GetTimelineRequest, connect: Callable[[str], Any]
) -> pb.Timeline:
    """Return what happened in a saga, in order of time; *connect* opens a channel to a service.

    Raises:
        NotFound: there is no such saga.
    """

    async def read(tx: Tx) -> tuple[SagaRow, list[Recorded], events_pb.ListEventsResponse]:
        saga = found(await read_saga(tx, request.saga_id))
        asked = events_pb.ListEventsRequest(correlation_id=saga.correlation_id)
        return saga, await recorded(tx, request.saga_id), await list_events(tx, asked)

    saga, actions, own = await ctx.read(read)
    targets = sorted({step.target for step in saga.steps}) if saga.correlation_id else []
    told = await asyncio.gather(*(_told(connect(name), saga.correlation_id) for name in targets))
    entries = [*_of_saga(saga), *map(_acted, actions)]
    for answer in (own, *told):
        entries += _events(saga, answer.events if answer else ())
    entries.sort(key=lambda entry: (entry.time.seconds, entry.time.nanos, entry.kind))
    silent = [name for name, answer in zip(targets, told, strict=True) if answer is None]
    return pb.Timeline(saga=describe(saga), entries=entries, silent=silent)


async def _told(channel: Any, correlation_id: str) -> events_pb.ListEventsResponse | None:
    """Return what a service says that it published; None if it does not say."""
    request = events_pb.ListEventsRequest(correlation_id=correlation_id)
    try:
        answer: events_pb.ListEventsResponse = await OutboxServiceStub(channel).ListEvents(
            request, timeout=PATIENCE_S
        )
    except MeshError:
        return None
    return answer


def _of_saga(saga: SagaRow) -> Iterator[Entry]:
    yield Entry(
        time=timestamp(saga.created_at),
        kind=Entry.STARTED,
        subject=saga.name,
        trace_id=trace_id_of(saga.traceparent),
        correlation_id=saga.correlation_id,
    )
    for step in saga.steps:
        for entry in _of_step(step):
            # Each run of the saga, and so each call, is in the trace that started it.
            entry.trace_id = trace_id_of(saga.traceparent)
            entry.correlation_id = saga.correlation_id
            yield entry
    if saga.at_rest:
        yield Entry(
            time=timestamp(saga.updated_at),
            kind=Entry.RESTED,
            subject=saga.failed_step,
            outcome=pb.Saga.State.Name(saga.state),
            refusal=refusal_of(saga.error()),
            trace_id=trace_id_of(saga.traceparent),
            correlation_id=saga.correlation_id,
        )


def _of_step(step: StepRow) -> Iterator[Entry]:
    def entry(kind: Entry.Kind.ValueType, at: float, outcome: str = "") -> Entry:
        undo = kind in (Entry.UNDO_BEGUN, Entry.UNDO_ANSWERED)
        return Entry(
            kind=kind,
            time=timestamp(at),
            position=step.position,
            branch=branch_name(step),
            subject=step.undo_method[1:] if undo else step.full_name,
            outcome=outcome,
        )

    yield entry(Entry.STEP_BEGUN, step.started_at)
    for failure in step.failed_attempts():
        kind = Entry.UNDO_ATTEMPT_FAILED if failure.undo else Entry.STEP_ATTEMPT_FAILED
        method = step.undo_method[1:] if failure.undo else step.full_name
        tried = entry(kind, 0.0)
        tried.MergeFrom(Entry(time=failure.time, refusal=failure.refusal, subject=method))
        yield tried
    if step.ended_at is not None:
        # What it was before it was undone, or left as it is.
        was = step.state if not step.undo_state else pb.SagaStep.DONE
        answered = entry(Entry.STEP_ANSWERED, step.ended_at, pb.SagaStep.State.Name(was))
        refusal = step.refusal() if step.state == pb.SagaStep.REFUSED else None
        answered.MergeFrom(Entry(refusal=refusal_of(refusal)))
        yield answered
    if step.undo_started_at is not None:
        yield entry(Entry.UNDO_BEGUN, step.undo_started_at)
    if step.undo_ended_at is not None:
        name = pb.SagaStep.UndoState.Name(step.undo_state)
        yield entry(Entry.UNDO_ANSWERED, step.undo_ended_at, name)


def _acted(action: Recorded) -> Entry:
    return Entry(
        time=timestamp(action.acted_at),
        kind=Entry.ACTED,
        subject=action.action,
        principal=action.principal,
        detail="\n".join(line for line in (action.reason, action.effects) if line),
        trace_id=trace_id_of(action.traceparent),
        correlation_id=action.correlation_id,
    )


def _events(saga: SagaRow, events: Iterable[events_pb.PublishedEvent]) -> Iterator[Entry]:
    for event in events:
        yield Entry(
            time=event.create_time,
            kind=Entry.EVENT,
            subject=event.topic,
            outcome="PUBLISHED" if event.HasField("publish_time") else "WAITING",
            detail=f"{event.aggregate} version {event.version}",
            trace_id=event.trace_id,
            correlation_id=saga.correlation_id,
        )
