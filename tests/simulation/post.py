"""The mail server of the simulated shop: takes what reaches it, as often as it does."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from email.message import EmailMessage
from typing import Any

from mesh.dial import Dial
from mesh.service import Service
from mesh.testing.outside import reach
from services.notification.clients import Clients
from services.notification.service import service
from shop.notification.v1.notification_pb2 import Mail

#: How often each Message-ID was taken, without its angle brackets, in this run.
TAKEN: Counter[str] = Counter()


class Post:
    """A mail server within reach of the simulated network."""

    async def send(self, mail: EmailMessage) -> tuple[Mail.State.ValueType, str]:
        return await reach("mail", "Send", lambda: self._take(mail), mail["Message-ID"])

    def _take(self, mail: EmailMessage) -> tuple[Mail.State.ValueType, str]:
        TAKEN[mail["Message-ID"].strip("<>")] += 1
        return Mail.SENT, "250 taken"


class SimulatedClients(Clients):
    """The notification service's, with that mail server."""

    def __init__(self, dial: Dial) -> None:
        super().__init__(dial)
        self.mail: Any = Post()


NOTIFICATION: Service[Clients] = replace(service, clients=SimulatedClients)
