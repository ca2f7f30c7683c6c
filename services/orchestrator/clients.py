"""The methods that the orchestrator calls."""

from mesh.dial import Dial
from shop.inventory.v1.inventory_pb2_grpc import InventoryServiceStub
from shop.order.v1.order_pb2_grpc import OrderServiceStub
from shop.payment.v1.payment_pb2_grpc import PaymentServiceStub
from shop.shipping.v1.shipping_pb2_grpc import ShippingServiceStub
from shop.user.v1.user_pb2_grpc import UserServiceStub


class Clients:
    """One typed stub for each service."""

    def __init__(self, dial: Dial) -> None:
        self.user = UserServiceStub(dial("user", "GetUser"))
        self.order = OrderServiceStub(
            dial("order", "QuoteOrder", "CreateOrder", "ConfirmOrder", "CancelOrder", "GetOrder")
        )
        self.inventory = InventoryServiceStub(
            dial("inventory", "ReserveStock", "ReleaseStock", "CommitReservation", "ReturnStock")
        )
        self.payment = PaymentServiceStub(dial("payment", "ChargePayment", "RefundPayment"))
        self.shipping = ShippingServiceStub(
            dial("shipping", "CreateShipment", "CancelShipment", "ReleaseShipment")
        )
