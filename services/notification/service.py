"""NotificationService: a mail for each event that a customer wants to hear of."""

from __future__ import annotations

from pathlib import Path

from mesh.service import Context, Service
from mesh.storage.port import Tx
from services.shared.paging import next_token, open_page
from shop.notification.v1 import notification_pb2 as pb
from shop.order.v1.events_pb2 import OrderEvent
from shop.shipping.v1.events_pb2 import ShipmentEvent
from shop.user.v1.user_pb2 import GetUserRequest

from . import domain, records
from .clients import Clients
from .domain import Sent

service = Service(
    pb.DESCRIPTOR.services_by_name["NotificationService"],
    clients=Clients,
    schema=Path(__file__).parent / "schema",
    events_at_once=1,  # so that a death repeats one mail at most
)


async def send_order_mail(ctx: Context[Clients], event: OrderEvent) -> Sent | None:
    """Write to who ordered."""
    return await _send(ctx, event)


@service.on(OrderEvent, outside=send_order_mail)
async def order_mail_sent(tx: Tx, event: OrderEvent, sent: Sent | None) -> None:
    """Note what became of the mail."""
    await records.note(tx, event.order_id, event.user_id, sent)


async def send_shipment_mail(ctx: Context[Clients], event: ShipmentEvent) -> Sent | None:
    """Write to who waits for the goods."""
    return await _send(ctx, event)


@service.on(ShipmentEvent, outside=send_shipment_mail)
async def shipment_mail_sent(tx: Tx, event: ShipmentEvent, sent: Sent | None) -> None:
    """Note what became of the mail."""
    await records.note(tx, event.order_id, event.user_id, sent)


@service.rpc
async def list_mails(tx: Tx, request: pb.ListMailsRequest) -> pb.ListMailsResponse:
    """Return a page of mails, newest first."""
    page = open_page(request)
    mails, last = await records.newest(tx, request.order_id, request.state, page)
    return pb.ListMailsResponse(mails=mails, next_page_token=next_token(request, last))


async def _send(ctx: Context[Clients], event: OrderEvent | ShipmentEvent) -> Sent | None:
    template = domain.template_of(event)
    if template is None:
        return None
    user = await ctx.to.user.GetUser(GetUserRequest(user_id=event.user_id))
    mail = domain.mail(template, event, user, ctx.key)
    return Sent(domain.message_id(ctx.key), template, *await ctx.to.mail.send(mail))
