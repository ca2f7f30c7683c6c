"""Operators' actions on a saga's row: what changes, and what is said of it."""

import pytest

from mesh.errors import NotFound, Refused
from mesh.saga.operators import Action, resolve, retry, skip
from mesh.saga.records import SagaRow, StepRow
from mesh.saga.v1.saga_pb2 import ResolveSagaRequest, Saga, SagaStep

UNDO, DONE_BY_HAND, UNDONE_BY_HAND = (
    resolve(ResolveSagaRequest.UNDO),
    resolve(ResolveSagaRequest.COMPLETED),
    resolve(ResolveSagaRequest.FAILED),
)


def step(
    position: int,
    state: SagaStep.State.ValueType = SagaStep.DONE,
    undo_state: SagaStep.UndoState.ValueType = SagaStep.UNDO_STATE_UNSPECIFIED,
    branch: int = 0,
) -> StepRow:
    return StepRow(
        position=position,
        branch=branch,
        target="bank",
        method=f"/a.Bank/Do{position}",
        request=b"",
        state=state,
        undo_method=f"/a.Bank/Undo{position}",
        undo_request=b"",
        started_at=0.0,
        undo_state=undo_state,
        ended_at=1.0,
    )


def parked(*steps: StepRow, pivoted: bool = False, failures: int = 0) -> SagaRow:
    return SagaRow(
        saga_id="s",
        name="buy",
        version=1,
        key="k",
        request=b"",
        correlation_id="",
        traceparent="",
        created_at=0.0,
        deadline_at=0.0,
        state=Saga.PARKED,
        pivoted=pivoted,
        failures=failures,
        steps=list(steps),
    )


def test_retrying_undos_gives_each_failed_one_a_new_key() -> None:
    saga = parked(
        step(1, SagaStep.UNDONE, SagaStep.UNDO_DONE),
        step(2, undo_state=SagaStep.UNDO_FAILED, branch=1),
        step(2, undo_state=SagaStep.UNDO_FAILED, branch=2),
    )
    effects = retry(saga)
    assert saga.state == Saga.COMPENSATING
    assert [s.undo_key("s") for s in saga.steps] == [
        "s/1/undo",
        "s/2.1/undo/again1",
        "s/2.2/undo/again1",
    ]
    assert [s.undo_state for s in saga.steps] == [SagaStep.UNDO_DONE, *[SagaStep.UNDO_PENDING] * 2]
    assert effects[0].startswith("a.Bank/Undo2, the undo of step 2.2, a.Bank/Do2, is called again")
    assert len(effects) == 3


def test_retrying_after_the_pivot_asks_only_what_was_refused_last() -> None:
    saga = parked(
        step(1, SagaStep.REFUSED),
        step(2, branch=1),
        step(2, SagaStep.REFUSED, branch=2),
        pivoted=True,
    )
    effects = retry(saga)
    assert saga.state == Saga.EXECUTING
    assert [s.key("s") for s in saga.steps] == ["s/1", "s/2.1", "s/2.2/again1"]
    assert [s.answered for s in saga.steps] == [True, True, False]
    assert "s/2.2/again1" in effects[0]


def test_retrying_a_broken_function_only_runs_it_again() -> None:
    saga = parked(step(1), step(2, SagaStep.REFUSED), failures=3)
    effects = retry(saga)
    assert (saga.state, saga.failures) == (Saga.EXECUTING, 0)
    assert [s.key("s") for s in saga.steps] == ["s/1", "s/2"]
    assert len(effects) == 1


def test_a_saga_that_broke_before_its_pivot_can_be_undone() -> None:
    saga = parked(step(1), step(2, SagaStep.REFUSED), step(3, SagaStep.INTENT))
    effects = UNDO(saga)
    assert saga.state == Saga.COMPENSATING
    assert [s.undo_state for s in saga.steps] == [SagaStep.UNDO_PENDING, 0, SagaStep.UNDO_PENDING]
    assert [effect[:12] for effect in effects[:2]] == ["a.Bank/Undo3", "a.Bank/Undo1"]


def test_what_is_under_way_can_be_declared_over_once_it_cannot_be_cancelled() -> None:
    saga = parked(step(1), step(2, undo_state=SagaStep.UNDO_PENDING))
    saga.state = Saga.COMPENSATING
    effects = UNDONE_BY_HAND(saga)
    assert saga.state == Saga.FAILED
    assert "step 2, a.Bank/Do2 stays as it is: DONE, UNDO_PENDING." in effects


@pytest.mark.parametrize(
    ("action", "saga", "reason"),
    [
        (skip(1, 0), parked(step(1, undo_state=SagaStep.UNDO_DONE)), "NOT_FAILED"),
        (skip(1, 0), parked(step(1, SagaStep.REFUSED)), "NOT_FAILED"),
        (skip(1, 0), parked(step(1, SagaStep.INTENT), step(2, SagaStep.INTENT)), "NOT_FAILED"),
        (skip(2, 1), parked(step(2)), "STEP_NOT_FOUND"),
        (UNDO, parked(step(1), pivoted=True), "PIVOTED"),
        (UNDO, parked(step(1, undo_state=SagaStep.UNDO_FAILED)), "UNDOING"),
    ],
    ids=["undone", "refused before the pivot", "not the last", "no such", "pivoted", "undoing"],
)
def test_what_would_be_wrong_is_refused(action: Action, saga: SagaRow, reason: str) -> None:
    with pytest.raises((Refused, NotFound), match=reason):
        action(saga)


@pytest.mark.parametrize(
    "action",
    [retry, skip(1, 0), UNDO, DONE_BY_HAND, UNDONE_BY_HAND],
    ids=["retry", "skip", "undo", "completed", "failed"],
)
@pytest.mark.parametrize(
    "state",
    [Saga.PENDING, Saga.EXECUTING, Saga.COMPLETED, Saga.FAILED],
    ids=Saga.State.Name,
)
def test_only_what_cannot_go_on_by_itself_is_touched(
    action: Action, state: Saga.State.ValueType
) -> None:
    saga = parked(step(1))
    saga.state = state
    with pytest.raises(Refused, match=r"NOT_PARKED|SAGA_ENDED|CAN_BE_CANCELLED"):
        action(saga)
    assert saga.state == state
