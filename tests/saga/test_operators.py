"""Ways out of PARKED: previewed, confirmed, carried out by the engine, recorded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from grpc import StatusCode

from mesh.errors import Internal, InvalidArgument, NotFound, PermissionDenied, Refused
from mesh.layers.identity import make_token
from mesh.metadata import TOKEN, VOID
from mesh.saga.v1 import saga_pb2 as pb
from mesh.testing.cluster import SECRET
from tests.saga.parked import (
    SUCCESS,
    UNSHIPPABLE,
    WHY,
    Lying,
    at_rest,
    confirmed,
    refused,
    skip_step,
    steps_of,
    tell,
    the_saga,
)
from tests.saga.shop import Shop

if TYPE_CHECKING:
    from mesh.saga.v1.saga_pb2_grpc import SagaServiceAsyncStub


def test_a_refused_undo_is_made_when_it_is_retried(tmp_path: Path) -> None:
    lying = Lying("RefundPayment", refused())

    async def story(shop: Shop, sagas: SagaServiceAsyncStub, parked: pb.Saga) -> None:
        step = steps_of(parked)["ChargePayment"]
        assert step.undo_state == pb.SagaStep.UNDO_FAILED
        assert [f.refusal.reason for f in step.failures] == ["NOT_TODAY"]
        assert steps_of(parked)["ReserveStock"].undo_state == pb.SagaStep.UNDO_DONE
        effects = await confirmed(
            sagas.RetrySaga, pb.RetrySagaRequest(saga_id=parked.saga_id, reason=WHY)
        )
        assert "RefundPayment, the undo of step" in effects[0]
        assert f"{parked.saga_id}/{step.position}/undo/again1" in effects[0]
        saga = await at_rest(shop, sagas)
        assert saga.state == pb.Saga.FAILED
        assert steps_of(saga)["ChargePayment"].state == pb.SagaStep.UNDONE
        assert (await shop.books()).problems(UNSHIPPABLE) == []

    tell(tmp_path, UNSHIPPABLE, lying, story)


def test_an_undo_that_took_effect_without_anyone_hearing_of_it_is_not_made_twice(
    tmp_path: Path,
) -> None:
    lying = Lying("RefundPayment", Internal(), delivered=True)

    async def story(shop: Shop, sagas: SagaServiceAsyncStub, parked: pb.Saga) -> None:
        await confirmed(sagas.RetrySaga, pb.RetrySagaRequest(saga_id=parked.saga_id, reason=WHY))
        saga = await at_rest(shop, sagas)
        assert saga.state == pb.Saga.FAILED
        assert (await shop.books()).problems(UNSHIPPABLE) == []

    tell(tmp_path, UNSHIPPABLE, lying, story)


def test_a_skipped_undo_leaves_what_was_done_and_can_never_be_made(tmp_path: Path) -> None:
    lying = Lying("RefundPayment", Internal())

    async def story(shop: Shop, sagas: SagaServiceAsyncStub, parked: pb.Saga) -> None:
        await skip_step(sagas, parked, "ChargePayment")
        saga = await at_rest(shop, sagas)
        step = steps_of(saga)["ChargePayment"]
        assert saga.state == pb.Saga.FAILED
        assert (step.state, step.undo_state) == (pb.SagaStep.SKIPPED, pb.SagaStep.UNDO_SKIPPED)
        refund = lying.seen[-1].call.replace(deadline=float("inf"))
        with pytest.raises(Refused, match="VOIDED"):
            await shop.cluster.channel("payment").unary_unary(refund.method.path).send(refund)
        assert (await shop.books()).at_provider > 0

    tell(tmp_path, UNSHIPPABLE, lying, story)


def test_a_skipped_undo_that_had_its_effect_counts_as_made(tmp_path: Path) -> None:
    lying = Lying("RefundPayment", Internal(), delivered=True)

    async def story(shop: Shop, sagas: SagaServiceAsyncStub, parked: pb.Saga) -> None:
        await skip_step(sagas, parked, "ChargePayment")
        saga = await at_rest(shop, sagas)
        assert steps_of(saga)["ChargePayment"].undo_state == pb.SagaStep.UNDO_DONE
        assert (await shop.books()).problems(UNSHIPPABLE) == []

    tell(tmp_path, UNSHIPPABLE, lying, story)


def test_a_step_refused_after_the_pivot_is_made_when_it_is_retried(tmp_path: Path) -> None:
    lying = Lying("CommitReservation", refused())

    async def story(shop: Shop, sagas: SagaServiceAsyncStub, parked: pb.Saga) -> None:
        assert parked.refusal.reason == "NOT_TODAY"
        await confirmed(sagas.RetrySaga, pb.RetrySagaRequest(saga_id=parked.saga_id, reason=WHY))
        saga = await at_rest(shop, sagas)
        assert saga.state == pb.Saga.COMPLETED
        assert not saga.refusal.reason and not saga.failed_step
        assert (await shop.books()).problems(SUCCESS) == []

    tell(tmp_path, SUCCESS, lying, story)


def test_a_skipped_step_is_gone_without_and_can_never_be_made(tmp_path: Path) -> None:
    lying = Lying("CommitReservation", refused())

    async def story(shop: Shop, sagas: SagaServiceAsyncStub, parked: pb.Saga) -> None:
        await skip_step(sagas, parked, "CommitReservation")
        saga = await at_rest(shop, sagas)
        assert saga.state == pb.Saga.COMPLETED
        assert steps_of(saga)["CommitReservation"].state == pb.SagaStep.SKIPPED
        assert steps_of(saga)["ReleaseShipment"].state == pb.SagaStep.DONE
        books = await shop.books()
        assert (books.reservation, books.stock[1]) == ("HELD", SUCCESS.quantity)

    tell(tmp_path, SUCCESS, lying, story)


def test_a_skipped_step_that_had_its_effect_counts_as_made(tmp_path: Path) -> None:
    lying = Lying("CommitReservation", refused(), delivered=True)

    async def story(shop: Shop, sagas: SagaServiceAsyncStub, parked: pb.Saga) -> None:
        await skip_step(sagas, parked, "CommitReservation")
        saga = await at_rest(shop, sagas)
        assert steps_of(saga)["CommitReservation"].state == pb.SagaStep.DONE
        assert (await shop.books()).problems(SUCCESS) == []

    tell(tmp_path, SUCCESS, lying, story)


@pytest.mark.parametrize("resolution", ["COMPLETED", "FAILED"])
def test_declared_over_nobody_is_called(tmp_path: Path, resolution: str) -> None:
    lying = Lying("CommitReservation", refused())

    async def story(shop: Shop, sagas: SagaServiceAsyncStub, parked: pb.Saga) -> None:
        sent = len(lying.points)
        value = pb.ResolveSagaRequest.Resolution.Value(resolution)
        request = pb.ResolveSagaRequest(saga_id=parked.saga_id, resolution=value, reason=WHY)
        effects = await confirmed(sagas.ResolveSaga, request)
        assert effects[-1] == f"Nobody is called. The saga is {resolution} for ever."
        saga = await at_rest(shop, sagas)
        assert pb.Saga.State.Name(saga.state) == resolution
        assert not [p for p in lying.points[sent:] if p.effect == "send"]
        with pytest.raises(Refused, match="SAGA_ENDED"):
            await sagas.ResolveSaga(
                pb.ResolveSagaRequest(
                    saga_id=parked.saga_id, resolution=value, reason=WHY, validate_only=True
                )
            )

    tell(tmp_path, SUCCESS, lying, story)


def test_past_its_pivot_a_saga_is_not_undone_by_anyone(tmp_path: Path) -> None:
    async def story(shop: Shop, sagas: SagaServiceAsyncStub, parked: pb.Saga) -> None:
        with pytest.raises(Refused, match="PIVOTED"):
            await sagas.ResolveSaga(
                pb.ResolveSagaRequest(
                    saga_id=parked.saga_id,
                    resolution=pb.ResolveSagaRequest.UNDO,
                    reason=WHY,
                    validate_only=True,
                )
            )

    tell(tmp_path, SUCCESS, Lying("CommitReservation", refused()), story)


def test_what_is_confirmed_is_what_was_previewed(tmp_path: Path) -> None:
    async def story(shop: Shop, sagas: SagaServiceAsyncStub, parked: pb.Saga) -> None:
        retry = pb.RetrySagaRequest(saga_id=parked.saga_id, reason=WHY)
        with pytest.raises(InvalidArgument, match="validate_only first"):
            await sagas.RetrySaga(retry)
        retry.validate_only = True
        etag = (await sagas.RetrySaga(retry)).etag
        other = pb.ResolveSagaRequest(
            saga_id=parked.saga_id, resolution=pb.ResolveSagaRequest.FAILED, reason=WHY, etag=etag
        )
        with pytest.raises(Refused, match="CHANGED_SINCE") as caught:
            await sagas.ResolveSaga(other)
        assert caught.value.status is StatusCode.ABORTED
        retry.validate_only, retry.etag = False, etag
        await sagas.RetrySaga(retry)
        with pytest.raises(Refused, match="CHANGED_SINCE"):  # a second operator, a moment later
            await sagas.RetrySaga(retry)

    tell(tmp_path, SUCCESS, Lying("CommitReservation", refused()), story)


def test_only_operators_may_act(tmp_path: Path) -> None:
    async def story(shop: Shop, sagas: SagaServiceAsyncStub, parked: pb.Saga) -> None:
        metadata = ((TOKEN, make_token(SECRET, "payment")),)
        saga_id = parked.saga_id
        preview = pb.RetrySagaRequest(saga_id=saga_id, reason=WHY, validate_only=True)
        with pytest.raises(PermissionDenied, match="operator"):
            await sagas.RetrySaga(preview, metadata=metadata)
        with pytest.raises(PermissionDenied, match="operator"):
            await sagas.ExportSaga(pb.ExportSagaRequest(saga_id=saga_id), metadata=metadata)
        assert (await the_saga(sagas)).state == pb.Saga.PARKED

    tell(tmp_path, SUCCESS, Lying("CommitReservation", refused()), story)


def test_what_makes_no_sense_is_refused_with_a_reason(tmp_path: Path) -> None:
    async def story(shop: Shop, sagas: SagaServiceAsyncStub, parked: pb.Saga) -> None:
        this = parked.saga_id
        skip, resolve = pb.SkipStepRequest, pb.ResolveSagaRequest
        for request, error in (
            (skip(saga_id=this, position=99, reason=WHY), "STEP_NOT_FOUND"),
            (skip(saga_id=this, position=1, reason=WHY), "NOT_FAILED"),
            (skip(saga_id=this, position=1, branch="x", reason=WHY), "branch"),
            (skip(saga_id=this, position=1), "reason"),
            (skip(saga_id=this, position=1, reason="x" * 501), "reason"),
            (skip(saga_id="?", position=1, reason=WHY), "SAGA_NOT_FOUND"),
            (resolve(saga_id=this, reason=WHY), "resolution"),
        ):
            request.validate_only = True
            ask: Any = sagas.SkipStep if isinstance(request, skip) else sagas.ResolveSaga
            with pytest.raises((InvalidArgument, NotFound, Refused), match=error):
                await ask(request)

    tell(tmp_path, SUCCESS, Lying("CommitReservation", refused()), story)


def test_the_timeline_tells_all_of_it_in_order(tmp_path: Path) -> None:
    async def story(shop: Shop, sagas: SagaServiceAsyncStub, parked: pb.Saga) -> None:
        await confirmed(sagas.RetrySaga, pb.RetrySagaRequest(saga_id=parked.saga_id, reason=WHY))
        await at_rest(shop, sagas)
        timeline = await sagas.GetTimeline(pb.GetTimelineRequest(saga_id=parked.saga_id))
        entry = pb.TimelineEntry
        kinds = [entry.Kind.Name(e.kind) for e in timeline.entries]
        assert kinds[0] == "STARTED" and kinds[-1] == "RESTED"
        times = [e.time.ToNanoseconds() for e in timeline.entries]
        assert times == sorted(times)
        (acted,) = [e for e in timeline.entries if e.kind == entry.ACTED]
        assert (acted.principal, acted.subject) == ("local", "RETRY")
        assert acted.detail.startswith(WHY)
        refunds = [e for e in timeline.entries if e.subject.endswith("RefundPayment")]
        assert [entry.Kind.Name(e.kind) for e in refunds] == [
            "UNDO_BEGUN",
            "UNDO_ATTEMPT_FAILED",
            "UNDO_ANSWERED",
        ]
        assert refunds[1].refusal.reason == "NOT_TODAY"
        assert refunds[-1].outcome == "UNDO_DONE"
        (charge,) = [
            e for e in timeline.entries if e.subject.endswith("ChargePayment") and e.outcome
        ]
        assert charge.outcome == "DONE"
        with pytest.raises(NotFound, match="SAGA_NOT_FOUND"):
            await sagas.GetTimeline(pb.GetTimelineRequest(saga_id="?"))

    tell(tmp_path, UNSHIPPABLE, Lying("RefundPayment", refused()), story)


def test_only_the_orchestrator_voids(tmp_path: Path) -> None:
    async def story(shop: Shop, sagas: SagaServiceAsyncStub, parked: pb.Saga) -> None:
        late = shop.cluster.channel("payment").unary_unary(
            "/shop.payment.v1.PaymentService/RefundPayment"
        )
        with pytest.raises(PermissionDenied):
            await late(late.method.request_type(order_id="o-1"), metadata=((VOID, "1"),))

    tell(tmp_path, SUCCESS, Lying("CommitReservation", refused()), story)
