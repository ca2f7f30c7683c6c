"""Placing an order: every step names its undo; once the order is confirmed it only goes forward."""

from mesh.saga import Steps, Undo, saga
from services.orchestrator import ask
from services.orchestrator.clients import Clients
from services.orchestrator.domain import all_priced, ship_to
from shop.inventory.v1.inventory_pb2 import CommitReservationRequest, ReleaseStockRequest
from shop.orchestrator.v1.orchestrator_pb2 import PlaceOrderRequest
from shop.order.v1.order_pb2 import CancelOrderRequest, ConfirmOrderRequest
from shop.payment.v1.payment_pb2 import RefundPaymentRequest
from shop.shipping.v1.shipping_pb2 import CancelShipmentRequest, ReleaseShipmentRequest


@saga(version=1)
async def place_order(step: Steps, to: Clients, it: PlaceOrderRequest) -> None:
    """Take the stock, then the money, then promise the parcel."""
    this = {"order_id": it.order_id}
    user = await step(to.user.GetUser, ask.user_of(it))
    address = ship_to(user, it.address_id)
    lines: ask.Lines = it.lines
    if not all_priced(it):
        lines = (await step(to.order.QuoteOrder, ask.quote(it))).lines

    cancel_order = Undo(to.order.CancelOrder, CancelOrderRequest(**this))
    order = await step(to.order.CreateOrder, ask.create(it, lines), undo=cancel_order)

    release_stock = Undo(to.inventory.ReleaseStock, ReleaseStockRequest(**this))
    await step(to.inventory.ReserveStock, ask.reserve(it), undo=release_stock)

    refund = Undo(to.payment.RefundPayment, RefundPaymentRequest(**this))
    await step(to.payment.ChargePayment, ask.charge(it, order.total), undo=refund)

    cancel_shipment = Undo(to.shipping.CancelShipment, CancelShipmentRequest(**this))
    await step(to.shipping.CreateShipment, ask.ship(it, address), undo=cancel_shipment)

    await step(to.order.ConfirmOrder, ConfirmOrderRequest(**this), pivot=True)
    await step(to.inventory.CommitReservation, CommitReservationRequest(**this))
    await step(to.shipping.ReleaseShipment, ReleaseShipmentRequest(**this))
