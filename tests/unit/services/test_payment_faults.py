"""What becomes of a payment when the provider, the caller or the service itself fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from mesh.errors import InvalidArgument, Refused, Unavailable
from services.payment.service import charge_answered
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


async def test_a_lost_reply_charges_once(shop: Shop) -> None:
    assert (await shop.charge("o1", "tok_reply_lost")).state == CHARGED
    assert shop.asked == 2
    assert len(await shop.ledger()) == 1
    await shop.check_books()


async def test_a_charge_waits_for_a_provider_that_is_down(shop: Shop) -> None:
    shop.failure = Unavailable("down")
    charging = asyncio.create_task(shop.charge("o1"))
    await shop.until_asked()
    await shop.until_asked()
    assert (await shop.get("o1")).state == pb.Payment.PENDING
    shop.failure = None
    assert (await charging).state == CHARGED
    await shop.check_books()


async def test_a_charge_goes_on_without_its_caller(shop: Shop) -> None:
    shop.failure = Unavailable("down")
    charging = asyncio.create_task(shop.charge("o1", key="k1"))
    await shop.until_asked()
    charging.cancel()
    shop.failure = None
    await shop.becomes("o1", CHARGED)
    assert (await shop.charge("o1", key="k1")).state == CHARGED
    await shop.check_books()


async def test_a_charge_cut_off_by_a_crash_is_taken_up(shop: Shop) -> None:
    shop.failure = Unavailable("down")
    charging = asyncio.create_task(shop.charge("o1", key="k1"))
    await shop.until_asked()
    await shop.crash()
    charging.cancel()
    assert (await shop.get("o1")).state == pb.Payment.PENDING
    shop.failure = None
    await shop.resume()
    await shop.becomes("o1", CHARGED)
    assert (await shop.charge("o1", key="k1")).state == CHARGED
    assert len(await shop.ledger()) == 1
    await shop.check_books()


async def test_an_answer_lost_in_a_crash_is_asked_for_again(shop: Shop) -> None:
    shop.failure = Unavailable("down")
    charging = asyncio.create_task(shop.charge("o1", key="k1"))
    await shop.until_asked()
    await shop.crash()
    charging.cancel()
    shop.failure = None
    await shop.provider.Charge(  # what the crash kept us from hearing
        outside.ChargeRequest(
            key="charge/o1",
            amount=to_money("GBP", 100),
            payment_token="tok_ok",
            reference="o1",
        )
    )
    await shop.resume()
    await shop.becomes("o1", CHARGED)
    await shop.check_books()


async def test_an_answer_recorded_twice_is_booked_once(shop: Shop) -> None:
    paid = await shop.charge("o1")
    request = pb.ChargePaymentRequest(order_id="o1")
    answer = await shop.provider.GetCharge(outside.GetChargeRequest(key="charge/o1"))
    assert await shop.store.write(lambda tx: charge_answered(tx, request, answer)) == paid
    assert len(await shop.ledger()) == 1


async def test_a_provider_that_refuses_the_request_has_declined(shop: Shop) -> None:
    shop.failure = InvalidArgument("no", reason="BAD_CARD")
    with pytest.raises(Refused) as refused:
        await shop.charge("o1")
    assert refused.value.info["decline_reason"] == "BAD_CARD"
    assert ((await shop.get("o1")).state, shop.asked) == (DECLINED, 1)


async def test_a_provider_that_refuses_to_refund_leaves_the_payment_charged(shop: Shop) -> None:
    await shop.charge("o1")
    shop.failure = Refused("no", reason="TOO_LATE")
    with pytest.raises(Refused) as refused:
        await shop.refund("o1")
    assert refused.value.info["provider_reason"] == "TOO_LATE"
    assert (await shop.get("o1")).state == CHARGED
    shop.failure = None
    assert (await shop.refund("o1")).state == REFUNDED
    await shop.check_books()


async def test_an_undo_before_its_charge_voids_it(shop: Shop) -> None:
    await shop.refund("o1", undo_of="k1")
    with pytest.raises(Refused) as refused:
        await shop.charge("o1", key="k1")
    assert refused.value.reason == "VOIDED"
    assert shop.asked == 0


async def test_an_undo_brings_an_open_charge_to_its_end_first(shop: Shop) -> None:
    shop.failure = Unavailable("down")
    charging = asyncio.create_task(shop.charge("o1", key="k1"))
    await shop.until_asked()
    refunding = asyncio.create_task(shop.refund("o1", undo_of="k1"))
    await asyncio.sleep(0.05)
    assert not refunding.done()
    shop.failure = None
    assert (await refunding).state == REFUNDED
    assert (await charging).state == CHARGED
    await shop.check_books()


async def test_an_undo_of_a_declined_charge_does_nothing(shop: Shop) -> None:
    with pytest.raises(Refused):
        await shop.charge("o1", "tok_declined", key="k1")
    await shop.refund("o1", undo_of="k1")
    assert (await shop.get("o1")).state == DECLINED


async def test_the_token_is_not_logged(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    shop.failure = Unavailable("down")
    charging = asyncio.create_task(shop.charge("o1", "tok_of_ann"))
    await shop.until_asked()
    shop.failure = None
    with pytest.raises(Refused):
        await charging
    assert "ChargePayment" in caplog.text
    assert "tok_of_ann" not in caplog.text
