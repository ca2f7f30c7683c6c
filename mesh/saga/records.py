"""What the journal knows of a saga and of its steps."""

from __future__ import annotations

from dataclasses import dataclass, field

from google.protobuf.message import Message
from google.rpc.status_pb2 import Status

from ..call import Method
from ..errors import TEXT_LIMIT_CHARS, MeshError, NotFound, Refused
from ..runtime.clock import timestamp
from ..status import from_status, to_status
from .v1 import saga_pb2 as pb

#: A saga in one of these is over.
TERMINAL = (pb.Saga.COMPLETED, pb.Saga.FAILED)
#: A saga in one of these does not move by itself.
AT_REST = (*TERMINAL, pb.Saga.PARKED)
#: Of the attempts of a step that were in vain, the last so many are kept.
FAILURES_KEPT = 10

_UNANSWERED = (pb.SagaStep.INTENT, pb.SagaStep.UNKNOWN, pb.SagaStep.SKIPPING)

# `BaseException`s, so that no `except Exception` in a saga swallows them:


class FencedError(BaseException):
    """Somebody else has claimed the saga."""


class AbandonedError(BaseException):
    """The saga was cancelled or ran out of time; what was done is to be undone."""

    def __init__(self, refusal: Refused) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


@dataclass(slots=True)
class StepRow:
    """One step as the journal knows it: an intent, then what became of it."""

    position: int
    branch: int
    target: str
    method: str
    request: bytes
    undo_method: str
    undo_request: bytes
    started_at: float
    state: pb.SagaStep.State.ValueType = pb.SagaStep.INTENT
    answer: bytes = b""
    attempts: int = 0
    round: int = 0
    failures: bytes = b""
    undo_state: pb.SagaStep.UndoState.ValueType = pb.SagaStep.UNDO_STATE_UNSPECIFIED
    undo_attempts: int = 0
    undo_answers: int = 0
    undo_round: int = 0
    ended_at: float | None = None
    undo_started_at: float | None = None
    undo_ended_at: float | None = None

    @property
    def place(self) -> tuple[int, int]:
        """Return where in the saga it is: position and branch."""
        return self.position, self.branch

    @property
    def full_name(self) -> str:
        """Return the method called, ``package.Service/Method``."""
        return self.method[1:]

    @property
    def answered(self) -> bool:
        """Whether the outcome is known."""
        return self.state not in _UNANSWERED

    def key(self, saga_id: str) -> str:
        """Return the idempotency key of its call: another one each time it is set going anew."""
        branch = f".{self.branch}" if self.branch else ""
        return _again(f"{saga_id}/{self.position}{branch}", self.round)

    def undo_key(self, saga_id: str) -> str:
        """Return the idempotency key of its undo."""
        return _again(f"{self.key(saga_id)}/undo", self.undo_round)

    def refusal(self) -> MeshError:
        """Return the answer of a refused step."""
        return from_status(Status.FromString(self.answer))

    def give(self) -> Message:
        """Return the reply, or raise the refusal."""
        if self.state == pb.SagaStep.REFUSED:
            raise self.refusal()
        return Method.at(self.method).reply_type.FromString(self.answer)

    def note_failure(self, error: MeshError, now: float, *, undo: bool) -> None:
        """Remember that an attempt was in vain."""
        refusal = pb.Refusal(reason=error.reason, message=error.message[:TEXT_LIMIT_CHARS])
        known = self.failed_attempts()[1 - FAILURES_KEPT :]
        failure = pb.Failure(time=timestamp(now), refusal=refusal, undo=undo)
        self.failures = pb.Failures(failures=[*known, failure]).SerializeToString()

    def failed_attempts(self) -> list[pb.Failure]:
        """Return the last attempts that were in vain, the oldest first."""
        return list(pb.Failures.FromString(self.failures).failures)


@dataclass
class SagaRow:
    """One saga as the journal knows it. `failures` counts those of its function."""

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
    failures: int = 0
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

    @property
    def undoing(self) -> bool:
        """Whether it goes backward, or did when it was parked."""
        return any(step.undo_state for step in self.steps)

    def error(self) -> MeshError | None:
        """Return why it was undone or parked, or None."""
        return from_status(Status.FromString(self.refusal)) if self.refusal else None

    def refuse(self, step: str, refusal: MeshError) -> None:
        """Note what made it fail."""
        self.failed_step = step
        self.refusal = to_status(refusal).SerializeToString(deterministic=True)

    def forgive(self) -> None:
        """Forget what made it fail."""
        self.failed_step, self.refusal = "", b""

    def plan_undos(self) -> list[StepRow]:
        """Mark what is to be undone; return the steps that changed."""
        changed = []
        for step in self.steps:
            before = (step.state, step.undo_state)
            if not step.answered:
                step.state = pb.SagaStep.UNKNOWN
            made = step.state in (pb.SagaStep.DONE, pb.SagaStep.UNKNOWN)
            if step.undo_method and made:
                step.undo_state = pb.SagaStep.UNDO_PENDING
            if (step.state, step.undo_state) != before:
                changed.append(step)
        return changed


def check_abandoned(saga: SagaRow, *, late: bool) -> None:
    """Raise if the saga was cancelled, or is *late*, and can still be undone."""
    if saga.pivoted:
        return
    if saga.cancel_reason is not None:
        raise AbandonedError(Refused(saga.cancel_reason or "cancelled", reason="CANCELLED"))
    if late:
        raise AbandonedError(Refused("the saga ran out of time", reason="SAGA_DEADLINE"))


def found(saga: SagaRow | None) -> SagaRow:
    """Return *saga*, what was looked for.

    Raises:
        NotFound: it is not there.
    """
    if saga is None:
        raise NotFound("there is no such saga", reason="SAGA_NOT_FOUND")
    return saga


def _again(key: str, rounds: int) -> str:
    return f"{key}/again{rounds}" if rounds else key
