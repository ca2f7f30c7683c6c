"""A saga that is parked because one method lied, and what tests of operators do with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from mesh.errors import MeshError, Refused
from mesh.saga.v1 import saga_pb2 as pb
from mesh.saga.v1.saga_pb2_grpc import SagaServiceStub
from mesh.testing.cluster import Faults
from mesh.testing.loop import run_virtual
from mesh.testing.network import CallMessage, Message
from shop.orchestrator.v1 import orchestrator_pb2, orchestrator_pb2_grpc
from tests.saga.shop import SCENARIOS, Scenario, Shop

if TYPE_CHECKING:
    from mesh.saga.v1.saga_pb2_grpc import SagaServiceAsyncStub

SUCCESS = SCENARIOS[0]
UNSHIPPABLE = Scenario("unshippable", "UNSHIPPABLE_ADDRESS", user_id="kim")
WHY = "looked at it with the customer"
Story: TypeAlias = "Callable[[Shop, SagaServiceAsyncStub, pb.Saga], Awaitable[None]]"
Send: TypeAlias = Callable[[], Awaitable[Any]]


class Lying(Faults):
    """Answers calls of one method with an error, which are delivered or not."""

    def __init__(self, method: str, error: MeshError, *, delivered: bool = False) -> None:
        super().__init__()
        self.method: str | None = method
        self._error = error
        self._delivered = delivered
        self.seen: list[CallMessage] = []

    async def deliver(self, message: Message, send: Send) -> Any:
        if message.method != self.method:
            return await send()
        assert isinstance(message, CallMessage)
        self.seen.append(message)
        if self._delivered:
            await send()
        raise self._error


def tell(folder: Path, scenario: Scenario, faults: Lying, story: Story) -> None:
    """Have a saga parked by *faults*, end them, and run *story*."""

    async def told() -> None:
        async with Shop(folder, faults) as shop:
            to = orchestrator_pb2_grpc.OrchestratorServiceStub(shop.cluster.channel("orchestrator"))
            line = orchestrator_pb2.PlaceOrderLine(sku=scenario.sku, quantity=scenario.quantity)
            await to.PlaceOrder(
                orchestrator_pb2.PlaceOrderRequest(
                    order_id="o-1",
                    user_id=scenario.user_id,
                    lines=[line],
                    payment_token=scenario.token,
                    wait=True,
                )
            )
            sagas = SagaServiceStub(shop.cluster.channel("orchestrator"))
            await shop.cluster.runtime.clock.sleep(120)  # undos are given up by then
            parked = await the_saga(sagas)
            assert parked.state == pb.Saga.PARKED
            faults.method = None
            await story(shop, sagas, parked)

    run_virtual(told())


async def the_saga(sagas: SagaServiceAsyncStub) -> pb.Saga:
    (listed,) = (await sagas.ListSagas(pb.ListSagasRequest())).sagas
    return await sagas.GetSaga(pb.GetSagaRequest(saga_id=listed.saga_id))


async def confirmed(ask: Callable[[Any], Awaitable[pb.OperatorAction]], request: Any) -> list[str]:
    """Preview, confirm; return the effects, which must be the same both times."""
    request.validate_only = True
    preview = await ask(request)
    request.validate_only, request.etag = False, preview.etag
    done = await ask(request)
    assert done.effects == preview.effects
    assert preview.saga.state == pb.Saga.PARKED != done.saga.state
    assert not done.etag
    return list(done.effects)


async def skip_step(sagas: SagaServiceAsyncStub, parked: pb.Saga, method: str) -> None:
    """Let the saga go on without the step that calls *method*, or without its undo."""
    position = steps_of(parked)[method].position
    request = pb.SkipStepRequest(saga_id=parked.saga_id, position=position, reason=WHY)
    await confirmed(sagas.SkipStep, request)


async def at_rest(shop: Shop, sagas: SagaServiceAsyncStub) -> pb.Saga:
    await shop.cluster.runtime.clock.sleep(30)
    return await the_saga(sagas)


def steps_of(saga: pb.Saga) -> dict[str, pb.SagaStep]:
    return {step.method.rpartition("/")[2]: step for step in saga.steps}


def refused() -> Refused:
    return Refused("not today", reason="NOT_TODAY")
