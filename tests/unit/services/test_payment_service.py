"""PaymentService and its provider, each on its own database, through the whole stacks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from mesh.errors import AlreadyExists, InvalidArgument, NotFound, Refused
from services.shared.money import to_money
from shop.payment.v1 import payment_pb2 as pb
from shop.provider.v1 import provider_pb2 as outside
from tests.support.databases import Database
from tests.unit.services.paying import Shop

CHARGED, DECLINED, REFUNDED = pb.Payment.CHARGED, pb.Payment.DECLINED, pb.Payment.REFUNDED


@pytest.fixture
async def shop(database: Database) -> AsyncIterator[Shop]:
    shop = await Shop.open(database)
    yield shop
    await shop.close()


async def test_a_charge_is_booked(shop: Shop) -> None:
    payment = await shop.charge("o1", minor=7_718_360)
    assert (payment.state, payment.amount) == (CHARGED, to_money("GBP", 7_718_360))
    assert payment.HasField("charge_time")
    assert await shop.get("o1") == payment
    (entry,) = await shop.ledger()
    assert (entry.entry_number, entry.kind, entry.amount) == (
        1,
        pb.LedgerEntry.CHARGE,
        payment.amount,
    )
    assert (entry.debit_account, entry.credit_account) == ("assets:provider", "income:sales")
    (charge,) = (await shop.provider.ListCharges(outside.ListChargesRequest())).charges
    assert (charge.charge_id, charge.reference) == (payment.provider_charge_id, "o1")
    await shop.check_books()


async def test_a_declined_charge_leaves_its_record_and_no_money(shop: Shop) -> None:
    for _ in range(2):
        with pytest.raises(Refused) as refused:
            await shop.charge("o1", "tok_declined", key="k1")
        assert refused.value.reason == "CARD_DECLINED"
        assert refused.value.info["decline_reason"] == "INSUFFICIENT_FUNDS"
    payment = await shop.get("o1")
    assert (payment.state, payment.decline_reason) == (DECLINED, "INSUFFICIENT_FUNDS")
    assert await shop.ledger() == []
    assert shop.asked == 1


async def test_a_refund_returns_the_whole_amount_once(shop: Shop) -> None:
    await shop.charge("o1")
    first = await shop.refund("o1")
    assert first.state == REFUNDED
    assert first.HasField("refund_time")
    assert await shop.refund("o1") == first
    kinds = [entry.kind for entry in await shop.ledger()]
    assert kinds == [pb.LedgerEntry.CHARGE, pb.LedgerEntry.REFUND]
    await shop.check_books()


async def test_refunds_at_once_are_one(shop: Shop) -> None:
    await shop.charge("o1")
    answers = await asyncio.gather(*(shop.refund("o1") for _ in range(5)))
    assert {answer.state for answer in answers} == {REFUNDED}
    assert len(await shop.ledger()) == 2
    await shop.check_books()


async def test_what_was_not_charged_is_not_refunded(shop: Shop) -> None:
    with pytest.raises(NotFound):
        await shop.refund("o9")
    with pytest.raises(Refused):
        await shop.charge("o1", "tok_declined")
    with pytest.raises(Refused) as refused:
        await shop.refund("o1")
    assert refused.value.reason == "NOT_CHARGED"
    assert shop.asked == 1


async def test_the_same_key_charges_once(shop: Shop) -> None:
    answers = await asyncio.gather(*(shop.charge("o1", key="k1") for _ in range(5)))
    assert all(answer == answers[0] for answer in answers)
    assert await shop.charge("o1", key="k1") == answers[0]
    assert shop.asked == 1
    with pytest.raises(AlreadyExists) as refused:
        await shop.charge("o1", minor=101, key="k1")
    assert refused.value.reason == "KEY_REUSED"


async def test_an_order_has_one_payment(shop: Shop) -> None:
    await shop.charge("o1")
    with pytest.raises(Refused):
        await shop.charge("o2", "tok_declined")
    for order_id in ("o1", "o2"):
        with pytest.raises(AlreadyExists) as refused:
            await shop.charge(order_id)
        assert refused.value.reason == "PAYMENT_EXISTS"
    await shop.check_books()


async def test_half_a_penny_cannot_be_charged(shop: Shop) -> None:
    amount = to_money("GBP", 1)
    amount.nanos //= 2
    request = pb.ChargePaymentRequest(
        order_id="o1", user_id="ann", amount=amount, payment_token="tok_ok"
    )
    with pytest.raises(InvalidArgument) as refused:
        await shop.payment.ChargePayment(request)
    assert refused.value.violations[0][0] == "amount.nanos"


async def test_the_ledger_by_currency_and_by_pages(shop: Shop) -> None:
    for n, minor in enumerate((100, 200, 300), start=1):
        await shop.charge(f"o{n}", minor=minor)
    await shop.refund("o2")
    (gbp,) = (await shop.payment.GetLedgerSummary(pb.GetLedgerSummaryRequest())).totals
    assert (gbp.charged, gbp.refunded) == (to_money("GBP", 600), to_money("GBP", 200))
    assert (gbp.net, gbp.charge_count, gbp.refund_count) == (to_money("GBP", 400), 3, 1)
    request = pb.ListLedgerEntriesRequest(page_size=3)
    first = await shop.payment.ListLedgerEntries(request)
    request.page_token = first.next_page_token
    second = await shop.payment.ListLedgerEntries(request)
    assert [e.entry_number for e in (*first.entries, *second.entries)] == [1, 2, 3, 4]
    of_order = await shop.payment.ListLedgerEntries(pb.ListLedgerEntriesRequest(order_id="o2"))
    assert [e.entry_number for e in of_order.entries] == [2, 4]


async def test_payments_newest_first(shop: Shop) -> None:
    for n in (1, 2, 5, 6):
        await shop.charge(f"o{n}")
        await asyncio.sleep(0.002)  # ids are in order from one millisecond to the next
    await shop.refund("o5")
    request = pb.ListPaymentsRequest(page_size=2, state=CHARGED)
    first = await shop.payment.ListPayments(request)
    request.page_token = first.next_page_token
    second = await shop.payment.ListPayments(request)
    pages = [[p.order_id for p in page.payments] for page in (first, second)]
    assert pages == [["o6", "o2"], ["o1"]]
    bob = await shop.payment.ListPayments(pb.ListPaymentsRequest(user_id="bob"))
    assert [p.order_id for p in bob.payments] == ["o6", "o5"]
