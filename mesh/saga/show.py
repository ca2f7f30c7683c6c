"""Sagas as text, for the command line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from ..terminal import table
from .v1 import saga_pb2 as pb

_LIST_HEAD = ("SAGA", "NAME", "KEY", "STATE", "CREATED", "FAILED AT", "WHY")
_STEP_HEAD = ("STEP", "METHOD", "STATE", "TRIES", "TOOK", "UNDO", "TRIES", "WHY")
_ENTRY_HEAD = ("TIME", "WHAT", "STEP", "", "OUTCOME", "WHY")


def listing(sagas: Iterable[pb.Saga]) -> Iterator[str]:
    """Yield the lines that list *sagas*."""
    yield from table([_LIST_HEAD, *map(_listed, sagas)])


def _listed(saga: pb.Saga) -> Sequence[str]:
    return (
        saga.saga_id,
        f"{saga.name} v{saga.version}",
        saga.key,
        pb.Saga.State.Name(saga.state),
        at(saga.create_time),
        _method(saga.failed_step),
        saga.refusal.reason,
    )


def whole(saga: pb.Saga) -> Iterator[str]:
    """Yield the lines that show *saga* with its steps."""
    yield f"{saga.name} v{saga.version} of {saga.key}: {pb.Saga.State.Name(saga.state)}"
    if saga.HasField("refusal"):
        yield f"{saga.failed_step}: {_refusal(saga.refusal)}"
    yield f"created {at(saga.create_time)}, changed {at(saga.update_time)},"
    yield f"taken up again {saga.resumes} times, to be undone from {at(saga.deadline)} on"
    yield f"saga {saga.saga_id}, trace {saga.trace_id}, correlation {saga.correlation_id}"
    yield ""
    yield from table([_STEP_HEAD, *map(_step, saga.steps)])


def story(timeline: pb.Timeline) -> Iterator[str]:
    """Yield the lines that tell what happened in a saga."""
    saga = timeline.saga
    yield f"{saga.name} v{saga.version} of {saga.key}: {pb.Saga.State.Name(saga.state)}"
    yield f"saga {saga.saga_id}, trace {saga.trace_id}, correlation {saga.correlation_id}"
    yield ""
    yield from table([_ENTRY_HEAD, *map(_entry, timeline.entries)])
    if timeline.silent:
        yield ""
        yield f"no answer from {', '.join(timeline.silent)}: events of theirs are missing"


def at(time: Timestamp) -> str:
    """Return *time* in UTC, to the second."""
    return f"{time.ToDatetime():%Y-%m-%d %H:%M:%S}" if time.seconds else ""


def _step(step: pb.SagaStep) -> Sequence[str]:
    undo = "" if not step.undo_state else pb.SagaStep.UndoState.Name(step.undo_state)
    failures = [failure.refusal for failure in step.failures]
    why = step.refusal if step.HasField("refusal") else (failures[-1] if failures else None)
    return (
        _place(step.position, step.branch),
        _method(step.method),
        pb.SagaStep.State.Name(step.state),
        str(step.attempts),
        _took(step.start_time, step.end_time),
        f"{_method(step.undo_method)} {undo.removeprefix('UNDO_')}" if undo else "",
        str(step.undo_attempts or ""),
        _refusal(why) if why else "",
    )


def _entry(entry: pb.TimelineEntry) -> Sequence[str]:
    kind = pb.TimelineEntry.Kind.Name(entry.kind).lower().replace("_", " ")
    why = _refusal(entry.refusal) if entry.HasField("refusal") else " ".join(entry.detail.split())
    time = f"{entry.time.ToDatetime():%Y-%m-%d %H:%M:%S.%f}"[:-3]
    subject = f"{entry.principal}: {entry.subject}" if entry.principal else _method(entry.subject)
    place = _place(entry.position, entry.branch) if entry.position else ""
    return time, kind, place, subject, entry.outcome, why


def _place(position: int, branch: str) -> str:
    return f"{position}.{branch}" if branch else str(position)


def _method(full_name: str) -> str:
    """Return ``Service/Method`` without the package, which all of them share."""
    service, _, method = full_name.rpartition("/")
    return f"{service.rpartition('.')[2]}/{method}" if service else full_name


def _refusal(refusal: pb.Refusal) -> str:
    return f"{refusal.reason}: {refusal.message}" if refusal.message else refusal.reason


def _took(start: Timestamp, end: Timestamp) -> str:
    if not end.seconds:
        return ""
    return f"{(end.ToNanoseconds() - start.ToNanoseconds()) / 1e6:.0f} ms"
