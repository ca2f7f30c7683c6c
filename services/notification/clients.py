"""Whom the notification service calls: the accounts, and the mail server."""

from __future__ import annotations

from mesh.dial import Dial
from shop.user.v1.user_pb2_grpc import UserServiceStub

from .smtp import MailServer


class Clients:
    """Where a customer's address is known, and where mail is handed over."""

    def __init__(self, dial: Dial) -> None:
        self.user = UserServiceStub(dial("user", "GetUser"))
        self.mail = MailServer.from_environment()
