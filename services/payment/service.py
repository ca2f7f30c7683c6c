"""PaymentService: one function for each method of `shop.payment.v1`.

The money moves at an outside provider, so charging and refunding are effects of three parts:
the intent is committed, the provider is asked until it answers, the answer is committed.
"""

from __future__ import annotations

from pathlib import Path

from mesh.errors import Refused
from mesh.service import Context, Service
from mesh.storage.port import Tx
from services.shared.paging import next_token, open_page
from shop.payment.v1 import payment_pb2 as pb
from shop.provider.v1.provider_pb2 import Charge, ChargeRequest, RefundRequest

from . import domain, ledger, records
from .clients import Clients
from .domain import Kind, State

service = Service(
    pb.DESCRIPTOR.services_by_name["PaymentService"],
    clients=Clients,
    schema=Path(__file__).parent / "schema",
)


@service.effect
async def charge_payment(tx: Tx, request: pb.ChargePaymentRequest) -> None:
    """Record that a charge is due."""
    await records.add(tx, request)


@charge_payment.outside
async def charge_at_provider(ctx: Context[Clients], request: pb.ChargePaymentRequest) -> Charge:
    """Ask the provider to charge."""
    charge = ChargeRequest(
        key=await ctx.read(lambda tx: records.charge_key(tx, request.order_id)),
        amount=request.amount,
        payment_token=request.payment_token,
        reference=request.order_id,
    )
    try:
        return await ctx.to.provider.Charge(charge)
    except Refused as refused:
        return domain.denied(refused)


@charge_payment.settle
async def charge_answered(tx: Tx, request: pb.ChargePaymentRequest, answer: Charge) -> pb.Payment:
    """Record what became of the charge, once."""
    payment = await records.one(tx, request.order_id)
    if payment.state == State.PENDING:
        if domain.was_taken(answer):
            payment = await records.charged(tx, request.order_id, answer)
            await ledger.post(tx, Kind.CHARGE, payment)
        else:
            payment = await records.declined(tx, request.order_id, answer)
    domain.check_charged(payment)
    return payment


@service.effect
async def refund_payment(tx: Tx, request: pb.RefundPaymentRequest) -> None:
    """Record that a refund is due."""
    payment = await records.one(tx, request.order_id)
    if domain.must_refund(payment):
        await records.refunding(tx, request.order_id, request.reason)


@refund_payment.outside
async def refund_at_provider(ctx: Context[Clients], request: pb.RefundPaymentRequest) -> Charge:
    """Ask the provider to refund; to ask for a refund that it has made changes nothing."""
    refund = RefundRequest(
        key=domain.refund_key(request.order_id),
        charge_key=await ctx.read(lambda tx: records.charge_key(tx, request.order_id)),
        reference=request.order_id,
    )
    try:
        return await ctx.to.provider.Refund(refund)
    except Refused as refused:
        return domain.denied(refused)


@refund_payment.settle
async def refund_answered(tx: Tx, request: pb.RefundPaymentRequest, answer: Charge) -> pb.Payment:
    """Record what became of the refund, once."""
    payment = await records.one(tx, request.order_id)
    if payment.state == State.REFUNDED:
        return payment
    if answer.state != Charge.REFUNDED:
        await records.not_refunded(tx, request.order_id)
    domain.check_refunded(payment, answer)
    payment = await records.refunded(tx, request.order_id)
    await ledger.post(tx, Kind.REFUND, payment)
    return payment


@service.rpc
async def get_payment(tx: Tx, request: pb.GetPaymentRequest) -> pb.Payment:
    """Return an order's payment."""
    return await records.one(tx, request.order_id)


@service.rpc
async def list_payments(tx: Tx, request: pb.ListPaymentsRequest) -> pb.ListPaymentsResponse:
    """Return a page of payments."""
    page = open_page(request)
    payments, last = await records.newest(tx, request.user_id, request.state, page)
    return pb.ListPaymentsResponse(payments=payments, next_page_token=next_token(request, last))


@service.rpc
async def get_ledger_summary(tx: Tx, request: pb.GetLedgerSummaryRequest) -> pb.LedgerSummary:
    """Add up the ledger."""
    return await ledger.summary(tx)


@service.rpc
async def list_ledger_entries(
    tx: Tx, request: pb.ListLedgerEntriesRequest
) -> pb.ListLedgerEntriesResponse:
    """Return a page of the ledger."""
    entries, last = await ledger.entries(tx, request.order_id, open_page(request))
    return pb.ListLedgerEntriesResponse(entries=entries, next_page_token=next_token(request, last))
