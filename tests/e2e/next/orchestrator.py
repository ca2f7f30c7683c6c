"""The next orchestrator: an order's parcel is promised before its money is taken."""

from __future__ import annotations

from mesh.saga import Steps, Undo, saga
from services.orchestrator import ask
from services.orchestrator import service as now
from services.orchestrator.clients import Clients
from services.orchestrator.domain import ship_to
from services.orchestrator.place_order import place_order as first
from shop.inventory.v1.inventory_pb2 import CommitReservationRequest, ReleaseStockRequest
from shop.orchestrator.v1.orchestrator_pb2 import PlaceOrderRequest
from shop.order.v1.order_pb2 import CancelOrderRequest, ConfirmOrderRequest
from shop.payment.v1.payment_pb2 import RefundPaymentRequest
from shop.shipping.v1.shipping_pb2 import CancelShipmentRequest, ReleaseShipmentRequest


@saga(version=2)
async def place_order(step: Steps, to: Clients, it: PlaceOrderRequest) -> None:
    """Take the stock, promise the parcel, then take the money."""
    this = {"order_id": it.order_id}
    user = await step(to.user.GetUser, ask.user_of(it))
    lines = (await step(to.order.QuoteOrder, ask.quote(it))).lines
    cancel_order = Undo(to.order.CancelOrder, CancelOrderRequest(**this))
    order = await step(to.order.CreateOrder, ask.create(it, lines), undo=cancel_order)
    release_stock = Undo(to.inventory.ReleaseStock, ReleaseStockRequest(**this))
    await step(to.inventory.ReserveStock, ask.reserve(it), undo=release_stock)
    cancel_shipment = Undo(to.shipping.CancelShipment, CancelShipmentRequest(**this))
    parcel = ask.ship(it, ship_to(user, it.address_id))
    await step(to.shipping.CreateShipment, parcel, undo=cancel_shipment)
    refund = Undo(to.payment.RefundPayment, RefundPaymentRequest(**this))
    await step(to.payment.ChargePayment, ask.charge(it, order.total), undo=refund)
    await step(to.order.ConfirmOrder, ConfirmOrderRequest(**this), pivot=True)
    await step(to.inventory.CommitReservation, CommitReservationRequest(**this))
    await step(to.shipping.ReleaseShipment, ReleaseShipmentRequest(**this))


now.PLACE = place_order
service = now.service
service.sagas = [place_order, first, now.CANCEL]  # what the first version began, it finishes
