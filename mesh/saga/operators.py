"""What an operator may do to a saga that cannot go on by itself.

Each action is a function that changes a saga's row in memory and says, in sentences, what that
comes to. The preview throws the row away, the confirmation writes it: they cannot differ. Nothing
is called here; an engine takes the saga up afterwards, under a new epoch, and does it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from ..errors import NotFound, Refused
from .records import SagaRow, StepRow
from .v1 import saga_pb2 as pb

#: Changes a saga; says what that comes to.
Action: TypeAlias = Callable[[SagaRow], list[str]]

_RESOLVED = {
    pb.ResolveSagaRequest.COMPLETED: pb.Saga.COMPLETED,
    pb.ResolveSagaRequest.FAILED: pb.Saga.FAILED,
}


def retry(saga: SagaRow) -> list[str]:
    """Set a parked saga going again.

    Raises:
        Refused: it is not parked.
    """
    _check_parked(saga)
    effects: list[str] = []
    if saga.undoing:
        for step in _newest_first(saga, pb.SagaStep.UNDO_FAILED):
            step.undo_state, step.undo_ended_at = pb.SagaStep.UNDO_PENDING, None
            step.undo_round, step.undo_answers = step.undo_round + 1, 0
            effects.append(
                f"{_undo(step)} is called again, under the key {step.undo_key(saga.saga_id)}; it"
                " has an effect only if none of the calls before had one."
            )
        return [*effects, _go_back(saga)]
    for step in _refused_after_pivot(saga):
        step.state, step.answer, step.ended_at = pb.SagaStep.INTENT, b"", None
        step.round += 1
        effects.append(
            f"{_named(step)}, which was refused, is called again, under the key"
            f" {step.key(saga.saga_id)}."
        )
    return [*effects, _go_on(saga)]


def skip(position: int, branch: int) -> Action:
    """Return the action that lets a parked saga go on without a step, or without its undo.

    Raises:
        NotFound: there is no such step.
        Refused: the saga is not parked, or not because of this step.
    """

    def act(saga: SagaRow) -> list[str]:
        _check_parked(saga)
        found = [step for step in saga.steps if step.place == (position, branch)]
        if not found:
            raise NotFound("the saga has no such step", reason="STEP_NOT_FOUND")
        (step,) = found
        if saga.undoing:
            return [*_skip_undo(saga, step), _go_back(saga)]
        return [*_skip_step(saga, step), _go_on(saga)]

    return act


def resolve(resolution: pb.ResolveSagaRequest.Resolution.ValueType) -> Action:
    """Return the action that ends a saga, or has it undone.

    Raises:
        Refused: it has ended, may still be cancelled, or cannot be undone any more.
    """

    def act(saga: SagaRow) -> list[str]:
        if saga.ended:
            raise Refused("the saga has ended", reason="SAGA_ENDED")
        if resolution == pb.ResolveSagaRequest.UNDO:
            return _undo_all(saga)
        if saga.state != pb.Saga.PARKED and not saga.undoing and not saga.pivoted:
            raise Refused(
                "the saga is under way and may still be cancelled", reason="CAN_BE_CANCELLED"
            )
        effects = [f"{_named(step)} stays as it is: {_standing(step)}." for step in saga.steps]
        saga.state = _RESOLVED[resolution]
        if saga.state == pb.Saga.COMPLETED:
            saga.forgive()
        elif not saga.refusal:
            saga.refuse("", Refused("an operator declared it undone", reason="RESOLVED"))
        return [
            *effects,
            f"Nobody is called. The saga is {pb.Saga.State.Name(saga.state)} for ever.",
        ]

    return act


def _undo_all(saga: SagaRow) -> list[str]:
    _check_parked(saga)
    if saga.pivoted:
        raise Refused("the saga has passed its pivot: it only goes forward", reason="PIVOTED")
    if saga.undoing:
        raise Refused("the saga is being undone: retry, or skip what fails", reason="UNDOING")
    saga.plan_undos()
    if not saga.refusal:
        saga.refuse("", Refused("an operator had it undone", reason="RESOLVED"))
    effects = [
        f"{_undo(step)} is called, under the key {step.undo_key(saga.saga_id)}."
        for step in _newest_first(saga, pb.SagaStep.UNDO_PENDING)
    ]
    return [*effects, _go_back(saga)]


def _skip_undo(saga: SagaRow, step: StepRow) -> list[str]:
    if step.undo_state != pb.SagaStep.UNDO_FAILED:
        raise Refused(f"the undo of {step.full_name} has not failed", reason="NOT_FAILED")
    step.undo_state, step.undo_ended_at = pb.SagaStep.UNDO_SKIPPING, None
    return [
        (
            f"The key {step.undo_key(saga.saga_id)} of {_undo(step)} is made void; should the call"
            " turn out to have had its effect, it counts as made."
        ),
        f"Otherwise whatever {_named(step)} did stays.",
    ]


def _skip_step(saga: SagaRow, step: StepRow) -> list[str]:
    last = max(other.position for other in saga.steps)
    refused = saga.pivoted and step.state == pb.SagaStep.REFUSED
    if step.position != last or (step.answered and not refused):
        raise Refused(f"{step.full_name} is not what the saga waits for", reason="NOT_FAILED")
    step.state, step.answer, step.ended_at = pb.SagaStep.SKIPPING, b"", None
    return [
        (
            f"The key {step.key(saga.saga_id)} of {_named(step)} is made void; should the call turn"
            " out to have had its effect, its reply is used."
        ),
        "Otherwise the saga goes on as if it had been answered with an empty reply.",
    ]


def _check_parked(saga: SagaRow) -> None:
    if saga.state != pb.Saga.PARKED:
        state = pb.Saga.State.Name(saga.state)
        raise Refused(f"the saga is {state}, not PARKED", reason="NOT_PARKED")


def _refused_after_pivot(saga: SagaRow) -> Iterator[StepRow]:
    last = max((step.position for step in saga.steps), default=0)
    for step in saga.steps:
        if saga.pivoted and step.position == last and step.state == pb.SagaStep.REFUSED:
            yield step


def _go_on(saga: SagaRow) -> str:
    saga.state, saga.failures = pb.Saga.EXECUTING, 0
    saga.forgive()
    return "The saga's function is run again; steps that were answered are not called again."


def _go_back(saga: SagaRow) -> str:
    saga.state, saga.failures = pb.Saga.COMPENSATING, 0
    return "The saga is FAILED once every undo is made or skipped, and PARKED again if one fails."


def _newest_first(saga: SagaRow, undo_state: pb.SagaStep.UndoState.ValueType) -> Iterator[StepRow]:
    return (step for step in reversed(saga.steps) if step.undo_state == undo_state)


def _named(step: StepRow) -> str:
    branch = f".{step.branch}" if step.branch else ""
    return f"step {step.position}{branch}, {step.full_name}"


def _undo(step: StepRow) -> str:
    return f"{step.undo_method[1:]}, the undo of {_named(step)},"


def _standing(step: StepRow) -> str:
    state = pb.SagaStep.State.Name(step.state)
    if step.undo_state in (pb.SagaStep.UNDO_STATE_UNSPECIFIED, pb.SagaStep.UNDO_DONE):
        return state
    return f"{state}, {pb.SagaStep.UndoState.Name(step.undo_state)}"
