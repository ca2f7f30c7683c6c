"""PaymentProviderService on its own database, through the whole stack."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

from mesh.errors import AlreadyExists, InvalidArgument, NotFound, Refused, Unavailable
from services.provider import domain
from services.provider.service import service
from services.shared.money import to_money
from shop.provider.v1 import provider_pb2 as pb
from shop.provider.v1.provider_pb2_grpc import PaymentProviderServiceStub
from tests.support.databases import Database
from tests.unit.services.serving import serving

if TYPE_CHECKING:
    from shop.provider.v1.provider_pb2_grpc import PaymentProviderServiceAsyncStub as Provider

APPROVED, DECLINED, REFUNDED = pb.Charge.APPROVED, pb.Charge.DECLINED, pb.Charge.REFUNDED


@pytest.fixture
async def provider(database: Database) -> AsyncIterator[Provider]:
    async with serving(service, database) as channel:
        yield PaymentProviderServiceStub(channel)


async def charge(
    provider: Provider, key: str, token: str = "tok_ok", minor: int = 100, currency: str = "GBP"
) -> pb.Charge:
    return await provider.Charge(
        pb.ChargeRequest(
            key=key,
            amount=to_money(currency, minor),
            payment_token=token,
            reference=f"order of {key}",
        )
    )


async def refund(provider: Provider, key: str, charge_key: str) -> pb.Charge:
    return await provider.Refund(pb.RefundRequest(key=key, charge_key=charge_key))


@pytest.mark.parametrize(
    ("token", "state", "reason"),
    [
        ("tok_ok", APPROVED, ""),
        ("tok_declined", DECLINED, "INSUFFICIENT_FUNDS"),
        ("4111111111111111", DECLINED, "INVALID_TOKEN"),
    ],
)
async def test_the_token_decides(
    provider: Provider, token: str, state: pb.Charge.State.ValueType, reason: str
) -> None:
    made = await charge(provider, "k1", token)
    assert (made.state, made.decline_reason, made.amount) == (state, reason, to_money("GBP", 100))
    assert await provider.GetCharge(pb.GetChargeRequest(key="k1")) == made


async def test_a_key_charges_once(provider: Provider) -> None:
    answers = await asyncio.gather(*(charge(provider, "k1") for _ in range(5)))
    assert all(answer == answers[0] for answer in answers)
    (gbp,) = (await provider.GetTotals(pb.GetTotalsRequest())).totals
    assert (gbp.charged, gbp.charge_count) == (to_money("GBP", 100), 1)


async def test_a_key_is_for_one_request(provider: Provider) -> None:
    await charge(provider, "k1")
    for other in (charge(provider, "k1", minor=101), charge(provider, "k1", "tok_declined")):
        with pytest.raises(AlreadyExists) as refused:
            await other
        assert refused.value.reason == "KEY_REUSED"


async def test_a_lost_reply_is_told_when_asked_again(provider: Provider) -> None:
    with pytest.raises(Unavailable):
        await charge(provider, "k1", "tok_reply_lost")
    assert (await charge(provider, "k1", "tok_reply_lost")).state == APPROVED
    (gbp,) = (await provider.GetTotals(pb.GetTotalsRequest())).totals
    assert gbp.charge_count == 1


async def test_a_slow_charge_takes_its_time_from_when_it_was_first_asked_for(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(domain, "SLOW_S", 0.2)
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(charge(provider, "k1", "tok_slow"), 0.1)
    with pytest.raises(NotFound):
        await provider.GetCharge(pb.GetChargeRequest(key="k1"))
    assert (await charge(provider, "k1", "tok_slow")).state == APPROVED
    assert 0.19 < loop.time() - began < 0.29
    assert (await charge(provider, "k1", "tok_slow")).state == APPROVED
    assert loop.time() - began < 0.3


async def test_a_refund_is_made_once(provider: Provider) -> None:
    await charge(provider, "k1")
    first = await refund(provider, "r1", "k1")
    assert first.state == REFUNDED
    assert first.HasField("refund_time")
    assert await refund(provider, "r1", "k1") == first
    assert await refund(provider, "r2", "k1") == first
    await charge(provider, "k2")
    with pytest.raises(AlreadyExists):
        await refund(provider, "r1", "k2")
    assert (await provider.GetCharge(pb.GetChargeRequest(key="k2"))).state == APPROVED


async def test_only_what_was_taken_is_refunded(provider: Provider) -> None:
    await charge(provider, "k1", "tok_declined")
    with pytest.raises(Refused) as refused:
        await refund(provider, "r1", "k1")
    assert refused.value.reason == "CHARGE_DECLINED"
    with pytest.raises(NotFound):
        await refund(provider, "r1", "k9")


async def test_an_amount_its_currency_cannot_have_is_refused(provider: Provider) -> None:
    half = to_money("KWD", 5)
    half.currency_code = "GBP"
    with pytest.raises(InvalidArgument):
        await provider.Charge(pb.ChargeRequest(key="k1", amount=half, payment_token="tok_ok"))


async def test_totals_by_currency(provider: Provider) -> None:
    await charge(provider, "k1", minor=100)
    await charge(provider, "k2", minor=50)
    await charge(provider, "k3", minor=7, currency="EUR")
    await charge(provider, "k4", "tok_declined", currency="USD")
    await refund(provider, "r1", "k2")
    eur, gbp = (await provider.GetTotals(pb.GetTotalsRequest())).totals
    assert (eur.currency_code, eur.net, eur.refund_count) == ("EUR", to_money("EUR", 7), 0)
    assert (gbp.charged, gbp.refunded) == (to_money("GBP", 150), to_money("GBP", 50))
    assert (gbp.net, gbp.charge_count, gbp.refund_count) == (to_money("GBP", 100), 2, 1)


async def test_charges_by_pages(provider: Provider) -> None:
    for n in range(3):
        await charge(provider, f"k{n}", "tok_declined" if n == 1 else "tok_ok")
        await asyncio.sleep(0.002)  # ids are in order from one millisecond to the next
    request = pb.ListChargesRequest(page_size=1, state=APPROVED)
    first = await provider.ListCharges(request)
    request.page_token = first.next_page_token
    second = await provider.ListCharges(request)
    assert [c.key for c in (*first.charges, *second.charges)] == ["k0", "k2"]
    assert second.next_page_token == ""
    named = await provider.ListCharges(pb.ListChargesRequest(reference="order of k1"))
    assert [c.key for c in named.charges] == ["k1"]
