"""Whom the payment service calls."""

from __future__ import annotations

from mesh.dial import Dial
from shop.provider.v1.provider_pb2_grpc import PaymentProviderServiceStub


class Clients:
    """The outside payment company."""

    def __init__(self, dial: Dial) -> None:
        self.provider = PaymentProviderServiceStub(dial("provider", "Charge", "Refund"))
