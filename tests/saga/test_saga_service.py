"""`mesh.saga.v1.SagaService`: what may be known of sagas."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest

from mesh.errors import InvalidArgument, NotFound
from mesh.saga.v1 import saga_pb2 as pb
from mesh.saga.v1.saga_pb2_grpc import SagaServiceStub
from mesh.testing.loop import run_virtual
from tests.saga.shop import SCENARIOS, Shop

if TYPE_CHECKING:
    from mesh.saga.v1.saga_pb2_grpc import SagaServiceAsyncStub

SUCCESS, DECLINED = SCENARIOS[0], SCENARIOS[5]
Story: TypeAlias = "Callable[[Shop, SagaServiceAsyncStub], Awaitable[None]]"


def tell(folder: Path, story: Story) -> None:
    """Run *story* in a shop."""

    async def told() -> None:
        async with Shop(folder) as shop:
            await story(shop, SagaServiceStub(shop.cluster.channel("orchestrator")))

    run_virtual(told())


def test_a_saga_shows_its_steps_its_undos_and_why_it_failed(tmp_path: Path) -> None:
    async def story(shop: Shop, sagas: SagaServiceAsyncStub) -> None:
        await shop.place(DECLINED)
        (listed,) = (await sagas.ListSagas(pb.ListSagasRequest())).sagas
        assert not listed.steps
        saga = await sagas.GetSaga(pb.GetSagaRequest(saga_id=listed.saga_id))
        assert (saga.name, saga.key, saga.state) == ("place_order", "o-1", pb.Saga.FAILED)
        assert saga.refusal.reason == "CARD_DECLINED"
        assert saga.failed_step == "shop.payment.v1.PaymentService/ChargePayment"
        states = {step.method.rpartition("/")[2]: step.state for step in saga.steps}
        assert states["ChargePayment"] == pb.SagaStep.REFUSED
        assert states["ReserveStock"] == states["CreateOrder"] == pb.SagaStep.UNDONE
        assert saga.steps[-1].refusal.reason == "CARD_DECLINED"

    tell(tmp_path, story)


def test_nothing_of_a_request_is_told(tmp_path: Path) -> None:
    async def story(shop: Shop, sagas: SagaServiceAsyncStub) -> None:
        await shop.place(SUCCESS)
        (listed,) = (await sagas.ListSagas(pb.ListSagasRequest())).sagas
        saga = await sagas.GetSaga(pb.GetSagaRequest(saga_id=listed.saga_id))
        for secret in ("tok_ok", "example.com", "LANTERN"):
            assert secret not in str(saga)

    tell(tmp_path, story)


def test_sagas_are_listed_newest_first_by_pages_and_filters(tmp_path: Path) -> None:
    async def story(shop: Shop, sagas: SagaServiceAsyncStub) -> None:
        for number in range(3):
            await shop.place(SUCCESS, f"o-{number}")
            await shop.cluster.runtime.clock.sleep(1)  # ids are in order of time
        await shop.place(DECLINED, "o-9")
        first = await sagas.ListSagas(pb.ListSagasRequest(page_size=3))
        rest = await sagas.ListSagas(
            pb.ListSagasRequest(page_size=3, page_token=first.next_page_token)
        )
        assert [s.key for s in [*first.sagas, *rest.sagas]] == ["o-9", "o-2", "o-1", "o-0"]
        assert not rest.next_page_token
        failed = await sagas.ListSagas(pb.ListSagasRequest(state=pb.Saga.FAILED))
        assert [s.key for s in failed.sagas] == ["o-9"]
        none = await sagas.ListSagas(pb.ListSagasRequest(name="cancel_order"))
        assert not none.sagas

        (one,) = (await sagas.ListSagas(pb.ListSagasRequest(name="place_order", key="o-1"))).sagas
        assert (one.key, one.state, list(one.steps)) == ("o-1", pb.Saga.COMPLETED, [])
        for name, key, state in (
            ("place_order", "o-7", pb.Saga.STATE_UNSPECIFIED),
            ("cancel_order", "o-1", pb.Saga.STATE_UNSPECIFIED),
            ("place_order", "o-1", pb.Saga.FAILED),
        ):
            request = pb.ListSagasRequest(name=name, key=key, state=state)
            assert not (await sagas.ListSagas(request)).sagas
        with pytest.raises(InvalidArgument, match="`name`"):
            await sagas.ListSagas(pb.ListSagasRequest(key="o-1"))

    tell(tmp_path, story)


def test_a_watcher_sees_the_saga_move_and_end(tmp_path: Path) -> None:
    async def story(shop: Shop, sagas: SagaServiceAsyncStub) -> None:
        await shop.place(SUCCESS)
        (listed,) = (await sagas.ListSagas(pb.ListSagasRequest())).sagas
        seen = [news async for news in sagas.WatchSaga(pb.WatchSagaRequest(saga_id=listed.saga_id))]
        assert [news.final for news in seen] == [True]
        assert seen[-1].saga.state == pb.Saga.COMPLETED

    tell(tmp_path, story)


def test_an_unknown_saga_is_not_found_whatever_its_form(tmp_path: Path) -> None:
    async def story(shop: Shop, sagas: SagaServiceAsyncStub) -> None:
        for odd in ("", "x", "ä" * 1000, "../.."):
            with pytest.raises(NotFound, match="SAGA_NOT_FOUND"):
                await sagas.GetSaga(pb.GetSagaRequest(saga_id=odd))
            with pytest.raises(NotFound, match="SAGA_NOT_FOUND"):
                async for _ in sagas.WatchSaga(pb.WatchSagaRequest(saga_id=odd)):
                    pass
        with pytest.raises(InvalidArgument, match="page_size"):
            await sagas.ListSagas(pb.ListSagasRequest(page_size=100_000))

    tell(tmp_path, story)
