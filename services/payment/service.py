"""PaymentService: one function for each method of `shop.payment.v1`.

The money moves at an outside provider, so charging and refunding are effects of three parts:
the intent is committed, the provider is asked until it answers, the answer is committed. What is
committed are events: the payment is loaded, `domain` decides what happens next, `stream` appends.
"""

from __future__ import annotations

from pathlib import Path

from mesh.errors import Refused
from mesh.service import Context, Service
from mesh.storage.port import Tx
from services.shared.paging import next_token, open_page
from shop.payment.v1 import payment_pb2 as pb
from shop.provider.v1.provider_pb2 import Charge, ChargeRequest, RefundRequest

from . import domain, ledger, messages, projection, stream
from .clients import Clients

service = Service(
    pb.DESCRIPTOR.services_by_name["PaymentService"],
    clients=Clients,
    schema=Path(__file__).parent / "schema",
)


@service.effect
async def charge_payment(tx: Tx, request: pb.ChargePaymentRequest) -> None:
    """Record that a charge is due."""
    payment = await stream.load(tx, request.order_id)
    await stream.append(tx, payment, domain.request_charge(payment, request))


@charge_payment.outside
async def charge_at_provider(ctx: Context[Clients], request: pb.ChargePaymentRequest) -> Charge:
    """Ask the provider to charge."""
    payment = await ctx.read(lambda tx: stream.load(tx, request.order_id))
    charge = ChargeRequest(
        key=payment.charge_key,
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
    payment = await stream.load(tx, request.order_id)
    payment = await stream.append(tx, payment, domain.answer_charge(payment, answer))
    domain.check_charged(payment)
    return messages.payment(payment)


@service.effect
async def refund_payment(tx: Tx, request: pb.RefundPaymentRequest) -> None:
    """Record that a refund is due."""
    payment = await stream.load(tx, request.order_id)
    domain.check_exists(payment, request.order_id)
    await stream.append(tx, payment, domain.request_refund(payment, request.reason))


@refund_payment.outside
async def refund_at_provider(ctx: Context[Clients], request: pb.RefundPaymentRequest) -> Charge:
    """Ask the provider to refund; to ask for a refund that it has made changes nothing."""
    payment = await ctx.read(lambda tx: stream.load(tx, request.order_id))
    refund = RefundRequest(
        key=payment.refund_key, charge_key=payment.charge_key, reference=request.order_id
    )
    try:
        return await ctx.to.provider.Refund(refund)
    except Refused as refused:
        return domain.denied(refused)


@refund_payment.settle
async def refund_answered(tx: Tx, request: pb.RefundPaymentRequest, answer: Charge) -> pb.Payment:
    """Record what became of the refund, once."""
    payment = await stream.load(tx, request.order_id)
    payment = await stream.append(tx, payment, domain.answer_refund(payment, answer))
    domain.check_refunded(payment, answer)
    return messages.payment(payment)


@service.rpc
async def get_payment(tx: Tx, request: pb.GetPaymentRequest) -> pb.Payment:
    """Return an order's payment."""
    payment = await stream.load(tx, request.order_id)
    domain.check_exists(payment, request.order_id)
    return messages.payment(payment)


@service.rpc
async def list_payments(tx: Tx, request: pb.ListPaymentsRequest) -> pb.ListPaymentsResponse:
    """Return a page of payments."""
    page = open_page(request)
    payments, last = await projection.newest(tx, request.user_id, request.state, page)
    return pb.ListPaymentsResponse(payments=payments, next_page_token=next_token(request, last))


@service.rpc
async def list_audit_records(
    tx: Tx, request: pb.ListAuditRecordsRequest
) -> pb.ListAuditRecordsResponse:
    """Return a page of what happened to payments."""
    domain.check_auditor(tx.principal)
    records, last = await stream.records(tx, request.order_id, open_page(request))
    return pb.ListAuditRecordsResponse(records=records, next_page_token=next_token(request, last))


@service.rpc
async def get_ledger_summary(tx: Tx, request: pb.GetLedgerSummaryRequest) -> pb.LedgerSummary:
    """Add up the ledger."""
    return await ledger.summary(tx)


@service.rpc
async def get_trial_balance(tx: Tx, request: pb.GetTrialBalanceRequest) -> pb.TrialBalance:
    """Add up the ledger's accounts."""
    return await ledger.trial_balance(tx)


@service.rpc
async def list_ledger_entries(
    tx: Tx, request: pb.ListLedgerEntriesRequest
) -> pb.ListLedgerEntriesResponse:
    """Return a page of the ledger."""
    entries, last = await ledger.entries(tx, request.order_id, open_page(request))
    return pb.ListLedgerEntriesResponse(entries=entries, next_page_token=next_token(request, last))
