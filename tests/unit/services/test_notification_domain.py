"""Which event has a mail, and what stands in it."""

from __future__ import annotations

from email import message_from_bytes
from email.policy import default
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.money_pb2 import Money

from services.notification import domain
from shop.order.v1.events_pb2 import OrderCancelled, OrderConfirmed, OrderCreated, OrderEvent
from shop.order.v1.order_pb2 import OrderLine
from shop.shipping.v1.events_pb2 import ShipmentEvent
from shop.shipping.v1.shipping_pb2 import Shipment
from shop.user.v1.user_pb2 import User

POUNDS = Money(currency_code="GBP", units=12, nanos=50_000_000)
ANN = User(user_id="ann", email="ann@example.com", display_name="Ann Østergård")
THIS: dict[str, Any] = {
    "order_id": "o-1",
    "user_id": "ann",
    "time": Timestamp(seconds=1_291_161_600),
}
LINES = [OrderLine(sku="LANTERN", quantity=3, amount=POUNDS)]
EVENTS: dict[str, OrderEvent | ShipmentEvent] = {
    "order_created": OrderEvent(**THIS, created=OrderCreated(lines=LINES, total=POUNDS)),
    "order_confirmed": OrderEvent(**THIS, confirmed=OrderConfirmed(total=POUNDS)),
    "order_cancelled": OrderEvent(**THIS, cancelled=OrderCancelled(reason="changed my mind")),
    "shipment_dispatched": ShipmentEvent(**THIS, state=Shipment.DISPATCHED),
    "shipment_delivered": ShipmentEvent(**THIS, state=Shipment.DELIVERED),
}


def test_every_template_has_its_event() -> None:
    assert {name: domain.template_of(event) for name, event in EVENTS.items()} == {
        name: name for name in domain.TEMPLATES
    }


@pytest.mark.parametrize("state", [Shipment.CREATED, Shipment.RELEASED, Shipment.CANCELLED])
def test_of_what_goes_on_in_the_warehouse_customers_do_not_hear(
    state: Shipment.State.ValueType,
) -> None:
    assert domain.template_of(ShipmentEvent(**THIS, state=state)) is None


@pytest.mark.parametrize("name", EVENTS)
def test_a_mail_is_whole_and_the_same_each_time(name: str) -> None:
    first, again = (domain.mail(name, EVENTS[name], ANN, "0190-e").as_bytes() for _ in range(2))
    assert first == again
    mail = message_from_bytes(first, policy=default)
    assert mail["Message-ID"] == "<0190-e@shop.example>"
    assert mail["To"] == "Ann Østergård <ann@example.com>"
    assert "o-1" in mail["Subject"]
    body = mail.get_content()
    assert "$" not in body
    assert "Ann Østergård" in body


def test_an_order_is_listed_with_its_prices_and_not_endlessly() -> None:
    event = OrderEvent(**THIS, created=OrderCreated(lines=LINES * 60, total=POUNDS))
    body = domain.mail("order_created", event, ANN, "e").get_content()
    assert body.count("3 x LANTERN") == domain.LINES_MAX
    assert "GBP 12.05" in body
    assert "and 10 more" in body


def test_no_header_can_be_smuggled_in() -> None:
    eve = User(email="eve@example.com", display_name="Eve\r\nBcc: all@example.com")
    mail = domain.mail("order_confirmed", EVENTS["order_confirmed"], eve, "e")
    parsed = message_from_bytes(mail.as_bytes(), policy=default)
    assert parsed["Bcc"] is None
    assert parsed["To"].addresses[0].addr_spec == "eve@example.com"
