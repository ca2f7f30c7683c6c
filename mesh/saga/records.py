"""What the journal knows of a saga and of its steps."""

from __future__ import annotations

from dataclasses import dataclass, field

from google.protobuf.message import Message
from google.rpc.status_pb2 import Status

from ..call import Method
from ..errors import MeshError, Refused, from_status, to_status
from .v1 import saga_pb2 as pb

#: A saga in one of these is over.
TERMINAL = (pb.Saga.COMPLETED, pb.Saga.FAILED)
#: A saga in one of these does not move by itself.
AT_REST = (*TERMINAL, pb.Saga.PARKED)

# `BaseException`s, so that no `except Exception` in a saga swallows them:


class FencedError(BaseException):
    """Somebody else has claimed the saga."""


class AbandonedError(BaseException):
    """The saga was cancelled or ran out of time; what was done is to be undone."""

    def __init__(self, refusal: Refused) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


@dataclass
class StepRow:
    """One step as the journal knows it."""

    position: int
    target: str
    method: str
    request: bytes
    started_at: float
    undo_method: str = ""
    undo_request: bytes = b""
    state: pb.SagaStep.State.ValueType = pb.SagaStep.INTENT
    answer: bytes = b""
    attempts: int = 0
    undo_state: pb.SagaStep.UndoState.ValueType = pb.SagaStep.UNDO_STATE_UNSPECIFIED
    undo_attempts: int = 0
    ended_at: float | None = None

    @property
    def answered(self) -> bool:
        """Whether the outcome is known."""
        return self.state not in (pb.SagaStep.INTENT, pb.SagaStep.UNKNOWN)

    def refusal(self) -> MeshError:
        """Return the answer of a refused step."""
        return from_status(Status.FromString(self.answer))

    def give(self) -> Message:
        """Return the reply, or raise the refusal."""
        if self.state == pb.SagaStep.REFUSED:
            raise self.refusal()
        return Method.at(self.method).reply_type.FromString(self.answer)


@dataclass
class SagaRow:
    """One saga as the journal knows it."""

    saga_id: str
    name: str
    version: int
    key: str
    request: bytes
    correlation_id: str
    traceparent: str
    created_at: float
    deadline_at: float
    state: pb.Saga.State.ValueType = pb.Saga.PENDING
    epoch: int = 0
    resumes: int = 0
    cancel_reason: str | None = None
    pivoted: bool = False
    failed_step: str = ""
    refusal: bytes = b""
    segment: str = ""
    updated_at: float = 0.0
    steps: list[StepRow] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self.state in TERMINAL

    @property
    def at_rest(self) -> bool:
        """Whether it is over, or waits for an operator."""
        return self.state in AT_REST

    def error(self) -> MeshError | None:
        """Return why it was undone, or None."""
        return from_status(Status.FromString(self.refusal)) if self.refusal else None

    def refuse(self, step: str, refusal: MeshError) -> None:
        """Note what made it fail."""
        self.failed_step = step
        self.refusal = to_status(refusal).SerializeToString(deterministic=True)


def check_abandoned(saga: SagaRow, *, late: bool) -> None:
    """Raise if the saga was cancelled, or is *late*, and can still be undone."""
    if saga.pivoted:
        return
    if saga.cancel_reason is not None:
        raise AbandonedError(Refused(saga.cancel_reason or "cancelled", reason="CANCELLED"))
    if late:
        raise AbandonedError(Refused("the saga ran out of time", reason="SAGA_DEADLINE"))
