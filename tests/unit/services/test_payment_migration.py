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

from mesh.storage.migrate import migrations, own_migrations
from mesh.storage.port import Store
from services.payment import ledger, stream
from services.payment.domain import Payment, State
from services.payment.service import service
from services.shared.money import to_money
from services.shared.paging import Page
from shop.payment.v1 import payment_pb2 as pb
from shop.provider.v1 import provider_pb2 as outside
from tests.support.databases import Database
from tests.unit.services.paying import Shop

DUMP = (Path(__file__).parent / "data" / "payment_0001.sql").read_text()
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
def old() -> dict[str, list[dict[str, Any]]]:
    """What was in the old database, as rows by their columns."""
    with closing(sqlite3.connect(":memory:")) as database:
        database.executescript(DUMP)
        database.row_factory = sqlite3.Row
        return {
            table: [dict(row) for row in database.execute(f"SELECT * FROM {table}")]
            for table in ("payments", "ledger_entries")
        }


@pytest.fixture
async def store(database: Database) -> AsyncIterator[Store]:
    """The old database, brought up to date."""
    assert service.schema
    await database.restore(DUMP)
    store = await database.open([*own_migrations(), *migrations(service.schema)])
    yield store
    await store.close()


@pytest.fixture
async def shop(database: Database) -> AsyncIterator[Shop]:
    """The service, started on the old database."""
    await database.restore(DUMP, "payment")
    shop = await Shop.open(database)
    yield shop
    await shop.close()


async def load(store: Store, order_id: str) -> Payment:
    return await store.read(lambda tx: stream.load(tx, order_id))


async def trail(store: Store, order_id: str) -> list[pb.AuditRecord]:
    records, _ = await store.read(lambda tx: stream.records(tx, order_id, Page(10, "")))
    return records


async def test_every_payment_is_what_it_was(store: Store, old: dict[str, Any]) -> None:
    assert {was["order_id"] for was in old["payments"]} == STORIES.keys()
    assert {was["state"] for was in old["payments"]} == {*State.values()} - {0}
    listed = await store.read(lambda tx: tx.execute("SELECT * FROM payments"))
    assert len(listed) == len(STORIES)
    for was in old["payments"]:
        is_ = await load(store, was["order_id"])
        kept = was.keys() - {"payment_id", "refund_reason"}
        assert {name: getattr(is_, name) for name in kept} == {name: was[name] for name in kept}
        assert is_ in [Payment(*row) for row in listed]


@pytest.mark.parametrize("order_id", STORIES)
async def test_every_payment_has_its_story(store: Store, order_id: str) -> None:
    records = await trail(store, order_id)
    assert [record.event.WhichOneof("event") for record in records] == STORIES[order_id]
    assert [record.version for record in records] == [*range(1, len(records) + 1)]
    assert {(record.principal, record.correlation_id) for record in records} == {("", "")}


async def test_what_was_known_of_refunds_is_still(store: Store) -> None:
    asked = (await trail(store, "refunded"))[2].event.refund_requested
    assert (asked.reason, asked.provider_key) == ("it's broken", "refund/refunded")


async def test_the_ledger_is_what_it_was(store: Store, old: dict[str, Any]) -> None:
    entries, _ = await store.read(lambda tx: ledger.entries(tx, "", Page(10, "")))
    assert [entry.entry_number for entry in entries] == [1, 2, 3, 4, 5]
    for entry, was in zip(entries, old["ledger_entries"], strict=True):
        assert (entry.entry_number, entry.order_id) == (was["entry_number"], was["order_id"])
        assert (entry.kind, entry.amount) == (
            was["kind"],
            to_money(was["currency"], was["amount_minor"]),
        )
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
