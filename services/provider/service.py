"""PaymentProviderService: one function for each method of `shop.provider.v1`.

It stands for a system outside the mesh, so the mesh's keys are not for it: each method is a
`call`, and what makes charging and refunding safe to repeat is the key in the request.
"""

from __future__ import annotations

from pathlib import Path

from mesh.errors import Unavailable
from mesh.service import Context, Service
from services.shared.paging import next_token, open_page
from shop.provider.v1 import provider_pb2 as pb

from . import domain, records

service: Service[None] = Service(
    pb.DESCRIPTOR.services_by_name["PaymentProviderService"],
    schema=Path(__file__).parent / "schema",
)


@service.call
async def charge(ctx: Context[None], request: pb.ChargeRequest) -> pb.Charge:
    """Charge a card, or decline; the token decides how."""
    if request.payment_token == domain.SLOW:
        await ctx.sleep(await ctx.write(lambda tx: records.remaining_s(tx, request.key)))
    made, new = await ctx.write(lambda tx: records.charge(tx, request))
    if new and request.payment_token == domain.REPLY_LOST:
        raise Unavailable("this reply is lost, on purpose", reason="REPLY_LOST")
    return made


@service.call
async def refund(ctx: Context[None], request: pb.RefundRequest) -> pb.Charge:
    """Give a charge back."""
    return await ctx.write(lambda tx: records.refund(tx, request))


@service.call
async def get_charge(ctx: Context[None], request: pb.GetChargeRequest) -> pb.Charge:
    """Return the charge under a key."""
    return await ctx.read(lambda tx: records.one(tx, request.key))


@service.call
async def list_charges(
    ctx: Context[None], request: pb.ListChargesRequest
) -> pb.ListChargesResponse:
    """Return a page of charges."""
    page = open_page(request)
    charges, last = await ctx.read(
        lambda tx: records.oldest(tx, request.state, request.reference, page)
    )
    return pb.ListChargesResponse(charges=charges, next_page_token=next_token(request, last))


@service.call
async def get_totals(ctx: Context[None], request: pb.GetTotalsRequest) -> pb.Totals:
    """Add up what was charged, refunded and kept."""
    return await ctx.read(records.totals)
