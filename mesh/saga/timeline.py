"""What happened in one saga, told from its journal, its operators and its service's outbox."""

from __future__ import annotations

from collections.abc import Iterator

from ..storage.port import Tx
from .actions import Recorded, recorded
from .describe import branch_name, describe, refusal_of, trace_id_of
from .journal import read_saga
from .records import SagaRow, StepRow, timestamp
from .v1 import saga_pb2 as pb

#: Of a saga that published more, the first events are shown.
EVENTS_MAX = 200

Entry = pb.TimelineEntry


async def read_timeline(tx: Tx, saga_id: str) -> pb.Timeline | None:
    """Return what happened in a saga, in order of time; None if there is no such saga."""
    saga = await read_saga(tx, saga_id)
    if saga is None:
        return None
    entries = [
        *_of_saga(saga),
        *(_acted(action) for action in await recorded(tx, saga_id)),
        *await _events(tx, saga),
    ]
    entries.sort(key=lambda entry: (entry.time.seconds, entry.time.nanos, entry.kind))
    return pb.Timeline(saga=describe(saga), entries=entries)


def _of_saga(saga: SagaRow) -> Iterator[Entry]:
    yield Entry(
        time=timestamp(saga.created_at),
        kind=Entry.STARTED,
        subject=saga.name,
        trace_id=trace_id_of(saga.traceparent),
        correlation_id=saga.correlation_id,
    )
    for step in saga.steps:
        yield from _of_step(step)
    if saga.at_rest:
        yield Entry(
            time=timestamp(saga.updated_at),
            kind=Entry.RESTED,
            subject=saga.failed_step,
            outcome=pb.Saga.State.Name(saga.state),
            refusal=refusal_of(saga.error()),
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


async def _events(tx: Tx, saga: SagaRow) -> list[Entry]:
    """Return the events that the saga's own service published under its correlation id."""
    if not saga.correlation_id:
        return []
    rows = await tx.execute(
        "SELECT topic, aggregate, version, created_at, traceparent, published_at"
        " FROM mesh_outbox WHERE correlation_id = $1 ORDER BY event_id LIMIT $2",
        saga.correlation_id,
        EVENTS_MAX,
    )
    return [
        Entry(
            time=timestamp(created_at),
            kind=Entry.EVENT,
            subject=topic,
            outcome="WAITING" if published_at is None else "PUBLISHED",
            detail=f"{aggregate} version {version}",
            trace_id=trace_id_of(traceparent),
            correlation_id=saga.correlation_id,
        )
        for topic, aggregate, version, created_at, traceparent, published_at in rows
    ]
