"""What the order service calls."""

from __future__ import annotations

from mesh.dial import Dial
from shop.inventory.v1.inventory_pb2_grpc import InventoryServiceStub
from shop.user.v1.user_pb2_grpc import UserServiceStub


class Clients:
    """A quote reads the user's state, and the price and stock of what is asked for."""

    def __init__(self, dial: Dial) -> None:
        self.user = UserServiceStub(dial("user", "GetUser"))
        self.inventory = InventoryServiceStub(dial("inventory", "BatchGetItems"))
