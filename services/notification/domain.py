"""Pure rules of mail: which event has one, and what is in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from string import Template

from google.type.money_pb2 import Money

from shop.notification.v1.notification_pb2 import Mail
from shop.order.v1.events_pb2 import OrderEvent
from shop.shipping.v1.events_pb2 import ShipmentEvent
from shop.shipping.v1.shipping_pb2 import Shipment
from shop.user.v1.user_pb2 import User

DOMAIN = "shop.example"
SENDER = Address("The Shop", "orders", DOMAIN)
#: Longer orders are cut off in mails.
LINES_MAX = 50

TEMPLATES: Mapping[str, Template] = {
    file.stem: Template(file.read_text())
    for file in sorted((Path(__file__).parent / "templates").glob("*.txt"))
}
_OF_SHIPMENTS = {
    Shipment.DISPATCHED: "shipment_dispatched",
    Shipment.DELIVERED: "shipment_delivered",
}


@dataclass(frozen=True, slots=True)
class Sent:
    """What the mail server said to a mail; `state` says whether it took it."""

    message_id: str
    template: str
    state: Mail.State.ValueType
    answer: str


def template_of(event: OrderEvent | ShipmentEvent) -> str | None:
    """Return the template of *event*'s mail; None if customers need not hear of it."""
    if isinstance(event, OrderEvent):
        happened = event.WhichOneof("event")
        return f"order_{happened}" if happened else None
    return _OF_SHIPMENTS.get(event.state)


def message_id(event_id: str) -> str:
    """Return the Message-ID of an event's mail: always the same, so that a copy is known as one."""
    return f"{event_id}@{DOMAIN}"


def mail(
    template: str, event: OrderEvent | ShipmentEvent, user: User, event_id: str
) -> EmailMessage:
    """Return the mail about *event* to *user*."""
    name = " ".join(user.display_name.split())  # a line break would begin another header
    words = {"order_id": event.order_id, "name": name or "customer"}
    if isinstance(event, OrderEvent):
        words |= _words(event)
    head, _, body = TEMPLATES[template].substitute(words).partition("\n\n")
    message = EmailMessage(policy=SMTP)
    message["From"] = SENDER
    message["To"] = Address(name, addr_spec=user.email)
    message["Subject"] = head.removeprefix("Subject: ")
    message["Message-ID"] = f"<{message_id(event_id)}>"
    message["Date"] = event.time.ToDatetime()
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's vacation answers it
    message.set_content(body)
    return message


def _words(event: OrderEvent) -> dict[str, str]:
    if event.HasField("confirmed"):
        return {"total": _amount(event.confirmed.total)}
    lines = [
        f"  {line.quantity:>6} x {line.sku:<24} {_amount(line.amount)}"
        for line in event.created.lines[:LINES_MAX]
    ]
    if more := len(event.created.lines) - len(lines):
        lines.append(f"  and {more} more")
    return {"total": _amount(event.created.total), "lines": "\n".join(lines)}


def _amount(money: Money) -> str:
    return f"{money.currency_code} {money.units}.{money.nanos // 10_000_000:02}"
