"""Sagas as messages: what may be told of them, no requests and no replies."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from ..errors import MeshError
from ..runtime.clock import timestamp
from ..scope import trace_id_of
from .records import SagaRow, StepRow
from .v1 import saga_pb2 as pb


def describe(row: SagaRow) -> pb.Saga:
    """Return what may be told of a saga: no requests and no replies."""
    return pb.Saga(
        saga_id=row.saga_id,
        name=row.name,
        version=row.version,
        key=row.key,
        state=row.state,
        steps=[_describe_step(step) for step in row.steps],
        failed_step=row.failed_step,
        trace_id=trace_id_of(row.traceparent),
        correlation_id=row.correlation_id,
        resumes=row.epoch,
        create_time=timestamp(row.created_at),
        update_time=timestamp(row.updated_at or row.created_at),
        deadline=timestamp(row.deadline_at),
        refusal=refusal_of(row.error()),
    )


def _describe_step(row: StepRow) -> pb.SagaStep:
    failures = row.failed_attempts()
    return pb.SagaStep(
        position=row.position,
        branch=branch_name(row),
        method=row.full_name,
        state=row.state,
        attempts=row.attempts,
        undo_method=row.undo_method.removeprefix("/"),
        undo_state=row.undo_state,
        undo_attempts=row.undo_attempts,
        start_time=timestamp(row.started_at),
        end_time=_maybe(row.ended_at),
        failures=failures,
        undo_start_time=_maybe(row.undo_started_at),
        undo_end_time=_maybe(row.undo_ended_at),
        refusal=_why(row, failures),
    )


def _why(row: StepRow, failures: Sequence[pb.Failure]) -> pb.Refusal | None:
    if row.state == pb.SagaStep.REFUSED:
        return refusal_of(row.refusal())
    return None if row.answered or not failures else failures[-1].refusal


def _maybe(seconds: float | None) -> Timestamp | None:
    return None if seconds is None else timestamp(seconds)


def refusal_of(error: MeshError | None) -> pb.Refusal | None:
    """Return what may be told of *error*."""
    return pb.Refusal(reason=error.reason, message=error.message) if error else None


def branch_name(step: StepRow) -> str:
    """Return which of the steps at its position it is; "" for a step of its own."""
    return str(step.branch or "")
