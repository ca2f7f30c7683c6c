"""What version 0001 of the payment service left behind goes on under the events of 0002.

`data/payment_0001.sql` is the dump of a database that the service wrote when payments were rows:
one in each state; those that were PENDING and REFUNDING had the provider being asked.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from services.payment import stream
from services.payment.domain import Payment, State
from services.shared.money import to_money
from shop.payment.v1 import payment_pb2 as pb
from shop.provider.v1 import provider_pb2 as outside
from tests.unit.services.paying import Shop

DUMP = Path(__file__).parent / "data" / "payment_0001.sql"
CHARGED = ["charge_requested", "charged"]
STORIES = {
    "pending": ["charge_requested"],
    "charged": CHARGED,
    "declined": ["charge_requested", "declined"],
    "refunding": [*CHARGED, "refund_requested"],
    "refunded": [*CHARGED, "refund_requested", "refunded"],
    "denied": [*CHARGED, "refund_requested", "refund_denied"],
}


@pytest.fixture
def old(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """Make the old database; return its payments and its ledger, as rows by order and number."""
    with closing(sqlite3.connect(tmp_path / "payment.db")) as database:
        database.executescript(DUMP.read_text())
        database.row_factory = sqlite3.Row
        payments = database.execute("SELECT * FROM payments").fetchall()
        entries = database.execute("SELECT * FROM ledger_entries").fetchall()
        return {
            "payments": {row["order_id"]: dict(row) for row in payments},
            "entries": {row["entry_number"]: dict(row) for row in entries},
        }


@pytest.fixture
async def shop(old: dict[str, Any], tmp_path: Path) -> AsyncIterator[Shop]:
    shop = Shop(tmp_path)
    yield shop
    await shop.close()


async def now(shop: Shop, order_id: str) -> Payment:
    return await shop.store.read(lambda tx: stream.load(tx, order_id))


async def test_every_payment_is_what_it_was(shop: Shop, old: dict[str, Any]) -> None:
    assert old["payments"].keys() == STORIES.keys()
    assert {row["state"] for row in old["payments"].values()} == {*State.values()} - {0}
    listed = await shop.payment.ListPayments(pb.ListPaymentsRequest())
    assert {payment.order_id for payment in listed.payments} == STORIES.keys()
    for payment in listed.payments:
        assert await shop.get(payment.order_id) == payment
        was, is_ = old["payments"][payment.order_id], await now(shop, payment.order_id)
        kept = was.keys() - {"payment_id", "refund_reason"}
        assert {name: getattr(is_, name) for name in kept} == {name: was[name] for name in kept}


@pytest.mark.parametrize("order_id", STORIES)
async def test_every_payment_has_its_story(shop: Shop, order_id: str) -> None:
    assert await shop.story(order_id) == STORIES[order_id]
    records = await shop.trail(order_id)
    assert [record.version for record in records] == [*range(1, len(records) + 1)]
    assert {(record.principal, record.correlation_id) for record in records} == {("", "")}


async def test_what_was_known_of_refunds_is_still(shop: Shop) -> None:
    asked = (await shop.trail("refunded"))[2].event.refund_requested
    assert (asked.reason, asked.provider_key) == ("it's broken", "refund/refunded")


async def test_the_ledger_is_what_it_was(shop: Shop, old: dict[str, Any]) -> None:
    entries = await shop.ledger()
    assert [entry.entry_number for entry in entries] == [*old["entries"]] == [1, 2, 3, 4, 5]
    for entry in entries:
        was = old["entries"][entry.entry_number]
        assert (entry.order_id, entry.kind) == (was["order_id"], was["kind"])
        assert entry.amount == to_money(was["currency"], was["amount_minor"])
        assert entry.debit_account == was["debit_account"]
        assert entry.credit_account == was["credit_account"]
        assert entry.create_time.ToMicroseconds() == round(was["create_time"] * 1e6)


async def test_what_was_under_way_comes_to_its_end(shop: Shop) -> None:
    await shop.provider.Charge(  # as it did at the time
        outside.ChargeRequest(
            key="charge/refunding",
            amount=to_money("GBP", 600),
            payment_token="tok_ok",
            reference="refunding",
        )
    )
    await shop.resume()
    await shop.becomes("pending", pb.Payment.CHARGED)
    await shop.becomes("refunding", pb.Payment.REFUNDED)
    assert await shop.story("pending") == CHARGED
    assert await shop.story("refunding") == STORIES["refunded"]
    assert [entry.entry_number for entry in await shop.ledger()] == [*range(1, 8)]


async def test_new_payments_go_on_where_the_old_ones_end(shop: Shop) -> None:
    assert (await shop.charge("o1")).state == pb.Payment.CHARGED
    entries = await shop.ledger()
    assert (entries[-1].order_id, entries[-1].entry_number) == ("o1", 6)
    (newest, *_) = (await shop.payment.ListPayments(pb.ListPaymentsRequest())).payments
    assert newest.order_id == "o1"
