"""The audit trail: what happened to payments, who made it happen, and for whom it can be read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from mesh.call import NOBODY, Principal
from mesh.errors import InvalidArgument, PermissionDenied, Refused, Unavailable
from mesh.metadata import CORRELATION_ID, KEY
from mesh.node import LOCAL
from services.payment import messages
from services.payment.domain import Event, What
from services.payment.service import service
from services.shared.money import to_money
from shop.payment.v1 import payment_pb2 as pb
from shop.payment.v1.payment_pb2_grpc import PaymentServiceStub
from tests.support.databases import Database
from tests.unit.services.paying import Shop
from tests.unit.services.serving import serving


@pytest.fixture
async def shop(database: Database) -> AsyncIterator[Shop]:
    shop = await Shop.open(database)
    yield shop
    await shop.close()


async def charge(shop: Shop, order_id: str, correlation_id: str, key: str = "k") -> pb.Payment:
    request = pb.ChargePaymentRequest(
        order_id=order_id, user_id="ann", amount=to_money("GBP", 150), payment_token="tok_ok"
    )
    metadata = ((CORRELATION_ID, correlation_id), (KEY, key))
    return await shop.payment.ChargePayment(request, metadata=metadata)


async def refund(shop: Shop, order_id: str, correlation_id: str, reason: str) -> pb.Payment:
    return await shop.payment.RefundPayment(
        pb.RefundPaymentRequest(order_id=order_id, reason=reason),
        metadata=((CORRELATION_ID, correlation_id),),
    )


async def test_the_trail_of_a_payment_that_was_refunded(shop: Shop) -> None:
    await charge(shop, "o1", "buy-1")
    paid = await refund(shop, "o1", "return-1", "it broke")
    records = await shop.trail("o1")
    assert [record.version for record in records] == [1, 2, 3, 4]
    assert {record.principal for record in records} == {"saga"}
    assert [record.correlation_id for record in records] == ["buy-1"] * 2 + ["return-1"] * 2
    assert all(
        one.event.time.ToNanoseconds() <= other.event.time.ToNanoseconds()
        for one, other in pairwise(records)
    )
    for record in records:
        event = record.event
        assert (event.order_id, event.user_id, event.amount) == ("o1", "ann", paid.amount)
    due, charged, due_back, refunded = (record.event for record in records)
    assert due.charge_requested.provider_key == "charge/o1"
    assert charged.charged.provider_charge_id == paid.provider_charge_id
    assert due_back.refund_requested.reason == "it broke"
    assert refunded.WhichOneof("event") == "refunded"
    assert [record.entry for record in records if record.HasField("entry")] == await shop.ledger()
    assert [record.HasField("entry") for record in records] == [False, True, False, True]


async def test_what_a_crash_interrupted_is_recorded_for_who_began_it(shop: Shop) -> None:
    shop.failure = Unavailable("down")
    charging = asyncio.create_task(charge(shop, "o1", "buy-1"))
    await shop.until_asked()
    await shop.crash()
    charging.cancel()
    shop.failure = None
    await shop.resume()
    await shop.becomes("o1", pb.Payment.CHARGED)
    records = await shop.trail("o1")
    assert [(r.principal, r.correlation_id) for r in records] == [("saga", "buy-1")] * 2


async def test_why_the_provider_refused_is_in_the_trail(shop: Shop) -> None:
    with pytest.raises(Refused):
        await shop.charge("o1", "tok_declined")
    assert (await shop.trail("o1"))[1].event.declined.reason == "INSUFFICIENT_FUNDS"
    await shop.charge("o2")
    for reason in ("TOO_LATE", "STILL_TOO_LATE"):
        shop.failure = Refused("no", reason=reason)
        with pytest.raises(Refused):
            await shop.refund("o2")
    told = [record.event.refund_denied.reason for record in await shop.trail("o2")]
    assert told == ["", "", "", "TOO_LATE", "", "STILL_TOO_LATE"]


async def test_all_trails_by_pages(shop: Shop) -> None:
    for order_id in ("o2", "o10", "o1"):
        await shop.charge(order_id)
        await shop.refund(order_id)
    whole = await shop.trail()
    wanted = [(o, n) for o in ("o1", "o10", "o2") for n in (1, 2, 3, 4)]
    assert [(record.event.order_id, record.version) for record in whole] == wanted
    assert [r for r in whole if r.event.order_id == "o10"] == await shop.trail("o10")
    for order_id in ("", "o2"):
        request = pb.ListAuditRecordsRequest(page_size=3, order_id=order_id)
        found: list[pb.AuditRecord] = []
        while True:
            page = await shop.payment.ListAuditRecords(request)
            assert len(page.records) <= 3
            found += page.records
            request.page_token = page.next_page_token
            if not request.page_token:
                break
        assert found == await shop.trail(order_id)


async def test_of_an_order_without_a_payment_there_is_no_trail(shop: Shop) -> None:
    await shop.charge("o1")
    assert await shop.trail("o2") == []


async def test_a_token_of_another_list_is_refused(shop: Shop) -> None:
    await shop.charge("o1")
    await shop.charge("o2")
    payments = await shop.payment.ListPayments(pb.ListPaymentsRequest(page_size=1))
    request = pb.ListAuditRecordsRequest(page_token=payments.next_page_token)
    with pytest.raises(InvalidArgument):
        await shop.payment.ListAuditRecords(request)


async def test_the_trial_balance(shop: Shop) -> None:
    assert not (await shop.payment.GetTrialBalance(pb.GetTrialBalanceRequest())).accounts
    for n, minor in enumerate((100, 200, 300), start=1):
        await shop.charge(f"o{n}", minor=minor)
    await shop.refund("o2")
    accounts = (await shop.payment.GetTrialBalance(pb.GetTrialBalanceRequest())).accounts
    assert [
        (row.account, row.debited, row.credited, row.balance, row.currency_code) for row in accounts
    ] == [
        (
            "assets:provider",
            to_money("GBP", 600),
            to_money("GBP", 200),
            to_money("GBP", 400),
            "GBP",
        ),
        ("income:sales", to_money("GBP", 200), to_money("GBP", 600), to_money("GBP", -400), "GBP"),
    ]


@pytest.mark.parametrize(
    "caller", [NOBODY, Principal("gateway", frozenset({"sales"}))], ids=["nobody", "gateway"]
)
async def test_the_trail_is_not_for_everybody(database: Database, caller: Principal) -> None:
    async with serving(service, database, caller=caller) as channel:
        with pytest.raises(PermissionDenied, match="lacks the role 'auditor'"):
            await PaymentServiceStub(channel).ListAuditRecords(pb.ListAuditRecordsRequest())


async def test_a_developer_on_this_machine_may_read_it(database: Database) -> None:
    async with serving(service, database, caller=LOCAL) as channel:
        reply = await PaymentServiceStub(channel).ListAuditRecords(pb.ListAuditRecordsRequest())
    assert not reply.records


@pytest.mark.parametrize("what", What)
def test_an_event_survives_the_wire(what: What) -> None:
    told: dict[What, dict[str, Any]] = {
        What.CHARGE_REQUESTED: {"provider_key": "k"},
        What.CHARGED: {"provider_charge_id": "c"},
        What.DECLINED: {"provider_charge_id": "c", "reason": "r"},
        What.REFUND_REQUESTED: {"provider_key": "k", "reason": "r"},
        What.REFUNDED: {},
        What.REFUND_DENIED: {"reason": "r"},
    }
    event = replace(Event("o1", 3, what, "ann", "JPY", 7), **told[what])
    event = replace(event, principal="saga", correlation_id="c-1", time=12.5)
    record = pb.AuditRecord.FromString(messages.record(event).SerializeToString())
    assert messages.recorded(record) == event
