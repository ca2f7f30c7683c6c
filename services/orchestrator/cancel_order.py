"""Cancelling a confirmed order. Once its parcel is stopped it only goes forward."""

from mesh.saga import Steps, saga
from services.orchestrator.clients import Clients
from shop.inventory.v1.inventory_pb2 import ReturnStockRequest
from shop.orchestrator.v1 import orchestrator_pb2 as pb
from shop.order.v1.order_pb2 import CancelOrderRequest
from shop.payment.v1.payment_pb2 import RefundPaymentRequest
from shop.shipping.v1.shipping_pb2 import CancelShipmentRequest

#: A cancellation that was accepted is carried out, however long nobody could: nothing is to be
#: undone of it before its pivot, and it cannot be asked for twice.
WEEK_S = 7 * 86_400.0


@saga(version=1, deadline_s=WEEK_S)
async def cancel_order(step: Steps, to: Clients, it: pb.CancelOrderRequest) -> None:
    """Stop the parcel, give back the money, take back the goods."""
    this = {"order_id": it.order_id}
    await step(to.shipping.CancelShipment, CancelShipmentRequest(**this), pivot=True)
    await step(to.payment.RefundPayment, RefundPaymentRequest(**this))
    await step(to.inventory.ReturnStock, ReturnStockRequest(**this))
    await step(to.order.CancelOrder, CancelOrderRequest(**this, reason=it.reason))
