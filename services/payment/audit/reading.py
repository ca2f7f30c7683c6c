"""What the payment service tells, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mesh.errors import NotFound
from shop.payment.v1 import payment_pb2 as pb

from .checks import EntryCheck, Faults, Sums, TrailCheck

if TYPE_CHECKING:
    from shop.payment.v1.payment_pb2_grpc import PaymentServiceAsyncStub

PAGE = 1000


@dataclass(frozen=True)
class Report:
    """How the books are."""

    payments: int
    events: int
    entries: int
    sums: Sums
    faults: Faults


async def read_trail(to: PaymentServiceAsyncStub, order_id: str) -> list[pb.AuditRecord]:
    """Return what happened to an order's payment.

    Raises:
        NotFound: it has none.
    """
    request = pb.ListAuditRecordsRequest(order_id=order_id, page_size=PAGE)
    records = [record async for record in _all(to.ListAuditRecords, request, "records")]
    if not records:
        raise NotFound(f"order {order_id!r} has no payment", reason="NO_PAYMENT")
    return records


async def check_books(to: PaymentServiceAsyncStub, progress: Callable[[str, int], None]) -> Report:
    """Hold all that is listed against the events. *progress* hears of what was read so far."""
    faults = Faults()
    before = Sums(await to.GetTrialBalance(pb.GetTrialBalanceRequest()))
    ledger = EntryCheck()
    entries = pb.ListLedgerEntriesRequest(page_size=PAGE)
    async for entry in _all(to.ListLedgerEntries, entries, "entries"):
        faults.add(ledger.add(entry))
        progress("entries", ledger.count)
    after = Sums(await to.GetTrialBalance(pb.GetTrialBalanceRequest()))
    faults.add((*after.faults("the trial balance"), *ledger.sums.faults("the ledger")))
    if before.beyond(ledger.sums) or ledger.sums.beyond(after):
        faults.add(["the trial balance is not the sum of the ledger's entries"])

    payments = pb.ListPaymentsRequest(page_size=PAGE)
    listed = {one.order_id: one async for one in _all(to.ListPayments, payments, "payments")}
    trail = TrailCheck(listed)
    records = pb.ListAuditRecordsRequest(page_size=PAGE)
    async for record in _all(to.ListAuditRecords, records, "records"):
        faults.add(trail.add(record))
        progress("events", trail.events)
    faults.add((*trail.end(), *trail.faults_of_list()))
    faults.add(await _never_listed(to, trail.unlisted))
    return Report(trail.payments, trail.events, ledger.count, ledger.sums, faults)


async def _never_listed(to: PaymentServiceAsyncStub, order_ids: set[str]) -> Iterable[str]:
    """Look for what was in no list: the newest come first, so it is soon found."""
    if order_ids:
        request = pb.ListPaymentsRequest(page_size=PAGE)
        async for payment in _all(to.ListPayments, request, "payments"):
            order_ids.discard(payment.order_id)
            if not order_ids:
                break
    return [f"order {order_id!r} has events and is in no list" for order_id in sorted(order_ids)]


async def _all(call: Callable[[Any], Any], request: Any, field: str) -> AsyncIterator[Any]:
    while True:
        page = await call(request)
        for one in getattr(page, field):
            yield one
        request.page_token = page.next_page_token
        if not request.page_token:
            return
