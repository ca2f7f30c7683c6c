"""Steps that are made side by side, killed before and after every commit and message."""

from pathlib import Path
from typing import Any

import pytest

from mesh.saga import Branch, Steps, Undo, saga
from mesh.service import Service
from services.orchestrator import ask
from services.orchestrator import service as orchestrator
from services.orchestrator.clients import Clients
from services.orchestrator.domain import ship_to
from shop.inventory.v1.inventory_pb2 import CommitReservationRequest, ReleaseStockRequest
from shop.orchestrator.v1.orchestrator_pb2 import PlaceOrderRequest
from shop.order.v1.order_pb2 import CancelOrderRequest, ConfirmOrderRequest
from shop.payment.v1.payment_pb2 import RefundPaymentRequest
from shop.shipping.v1.shipping_pb2 import CancelShipmentRequest, ReleaseShipmentRequest
from tests.saga.shop import SCENARIOS, SERVICES, Scenario
from tests.saga.test_crash_points import check_every_point


@saga(version=1)
async def place_order(step: Steps, to: Clients, it: PlaceOrderRequest) -> None:
    """Take the stock and the money, and promise the parcel, at the same time."""
    this = {"order_id": it.order_id}
    user, quoted = await step.all(
        Branch(to.user.GetUser, ask.user_of(it)), Branch(to.order.QuoteOrder, ask.quote(it))
    )
    address = ship_to(user, it.address_id)
    cancel = Undo(to.order.CancelOrder, CancelOrderRequest(**this))
    order = await step(to.order.CreateOrder, ask.create(it, quoted.lines), undo=cancel)

    release = Undo(to.inventory.ReleaseStock, ReleaseStockRequest(**this))
    refund = Undo(to.payment.RefundPayment, RefundPaymentRequest(**this))
    cancel_shipment = Undo(to.shipping.CancelShipment, CancelShipmentRequest(**this))
    await step.all(
        Branch(to.inventory.ReserveStock, ask.reserve(it), release),
        Branch(to.payment.ChargePayment, ask.charge(it, order.total), refund),
        Branch(to.shipping.CreateShipment, ask.ship(it, address), cancel_shipment),
    )

    await step(to.order.ConfirmOrder, ConfirmOrderRequest(**this), pivot=True)
    await step.all(
        Branch(to.inventory.CommitReservation, CommitReservationRequest(**this)),
        Branch(to.shipping.ReleaseShipment, ReleaseShipmentRequest(**this)),
    )


BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


@pytest.mark.parametrize(
    "scenario",
    [BY_NAME[name] for name in ("success", "out of stock", "declined")],
    ids=lambda s: s.name,
)
def test_money_and_stock_are_right_whoever_dies_wherever(
    scenario: Scenario,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(orchestrator, "PLACE", place_order)
    hurried: Service[Any] = Service(
        orchestrator.service.descriptor, clients=Clients, sagas=[place_order, orchestrator.CANCEL]
    )
    hurried.call(orchestrator.place_order)
    hurried.call(orchestrator.cancel_order)
    check_every_point(tmp_path, scenario, capsys, {**SERVICES, "orchestrator": hurried})
