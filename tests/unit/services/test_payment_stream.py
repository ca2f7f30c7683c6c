"""The streams and the ledger in the database: what the database itself does not allow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import asyncpg
import pytest

from mesh.errors import Outcome
from mesh.storage.migrate import migrations, own_migrations
from mesh.storage.port import Store, Tx, Work
from services.payment import projection, stream
from services.payment.domain import (
    NO_PAYMENT,
    Event,
    Payment,
    State,
    answer_charge,
    answer_refund,
    request_charge,
    request_refund,
)
from services.payment.service import service
from services.payment.stream import VersionConflict
from services.shared.money import to_money
from services.shared.paging import Page
from shop.payment.v1 import payment_pb2 as pb
from shop.payment.v1.events_pb2 import PaymentEvent
from shop.provider.v1.provider_pb2 import Charge
from tests.support.databases import Database, PostgresDatabase
from tests.support.postgres import PostgresServer

assert service.schema
SCHEMA = [*own_migrations(), *migrations(service.schema)]
APPROVED = Charge(state=Charge.APPROVED, charge_id="ch-1")
DECLINED = Charge(state=Charge.DECLINED, decline_reason="NO_FUNDS")
REFUNDED = Charge(state=Charge.REFUNDED)


@pytest.fixture
async def store(database: Database) -> AsyncIterator[Store]:
    store = await database.open(SCHEMA)
    yield store
    await store.close()


def request(order_id: str = "o1") -> pb.ChargePaymentRequest:
    return pb.ChargePaymentRequest(
        order_id=order_id, user_id="ann", amount=to_money("GBP", 150), payment_token="tok_ok"
    )


async def load(store: Store, order_id: str = "o1") -> Payment:
    return await store.read(lambda tx: stream.load(tx, order_id))


async def append(store: Store, payment: Payment, events: Sequence[Event]) -> Payment:
    return await store.write(lambda tx: stream.append(tx, payment, events))


async def refund(store: Store, order_id: str = "o1") -> Payment:
    """Let an order be paid for, and the money be given back."""
    payment = await append(store, NO_PAYMENT, request_charge(NO_PAYMENT, request(order_id)))
    payment = await append(store, payment, answer_charge(payment, APPROVED))
    payment = await append(store, payment, request_refund(payment, ""))
    return await append(store, payment, answer_refund(payment, REFUNDED))


async def rows(store: Store, sql: str) -> list[Any]:
    return await store.read(lambda tx: tx.execute(sql))


async def everything(store: Store) -> list[list[Any]]:
    tables = ("payment_events", "ledger_entries", "payments", "ledger_end")
    return [await rows(store, f"SELECT * FROM {table} ORDER BY 1, 2") for table in tables]


# --- two writers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [APPROVED, DECLINED], ids=["charged", "declined"])
@pytest.mark.parametrize("second", [APPROVED, DECLINED], ids=["charged", "declined"])
async def test_of_two_who_decide_on_one_version_the_second_is_told_to_start_over(
    store: Store, first: Charge, second: Charge
) -> None:
    await append(store, NO_PAYMENT, request_charge(NO_PAYMENT, request()))
    ann, bob = await load(store), await load(store)
    assert ann == bob
    won = await append(store, ann, answer_charge(ann, first))
    before = await everything(store)
    with pytest.raises(VersionConflict) as conflict:
        await append(store, bob, answer_charge(bob, second))
    assert conflict.value.outcome is Outcome.NOT_EXECUTED
    assert conflict.value.info == {"order_id": "o1", "expected_version": "1"}
    assert await everything(store) == before
    bob = await load(store)
    assert bob == won
    assert await append(store, bob, answer_charge(bob, second)) == won  # nothing left to do


async def test_two_who_begin_at_once_make_one_payment(store: Store) -> None:
    await append(store, NO_PAYMENT, request_charge(NO_PAYMENT, request()))
    with pytest.raises(VersionConflict):
        await append(store, NO_PAYMENT, request_charge(NO_PAYMENT, request()))
    assert (await load(store)).version == 1


async def test_of_many_who_append_to_one_version_at_once_one_does(store: Store) -> None:
    pending = await append(store, NO_PAYMENT, request_charge(NO_PAYMENT, request()))
    events = answer_charge(pending, APPROVED)
    ends = await asyncio.gather(
        *(append(store, pending, events) for _ in range(8)), return_exceptions=True
    )
    assert sum(isinstance(end, Payment) for end in ends) == 1
    assert sum(isinstance(end, VersionConflict) for end in ends) == 7
    assert await load(store) in ends
    assert await rows(store, "SELECT COUNT(*) FROM ledger_entries") == [(1,)]


async def test_of_many_who_answer_at_once_the_first_is_believed(store: Store) -> None:
    await append(store, NO_PAYMENT, request_charge(NO_PAYMENT, request()))

    def settle(answer: Charge) -> Work[Payment]:
        async def work(tx: Tx) -> Payment:
            payment = await stream.load(tx, "o1")
            return await stream.append(tx, payment, answer_charge(payment, answer))

        return work

    ends = await asyncio.gather(*(store.write(settle(one)) for one in [DECLINED, APPROVED] * 4))
    assert {*ends} == {await load(store)}
    assert ends[0].version == 2


async def test_entry_numbers_have_no_gaps_whoever_writes_at_once(store: Store) -> None:
    orders = [f"o{n}" for n in range(12)]
    ends = await asyncio.gather(*(refund(store, order_id) for order_id in orders))
    assert {end.state for end in ends} == {State.REFUNDED}
    numbers = await rows(store, "SELECT entry_number FROM ledger_entries ORDER BY 1")
    assert numbers == [(n,) for n in range(1, 25)]


async def test_a_stream_is_no_concern_of_another_orders_writer(store: Store) -> None:
    await append(store, NO_PAYMENT, request_charge(NO_PAYMENT, request("o1")))
    await append(store, NO_PAYMENT, request_charge(NO_PAYMENT, request("o2")))
    ann, bob = await load(store, "o1"), await load(store, "o2")
    await append(store, ann, answer_charge(ann, APPROVED))
    await append(store, bob, answer_charge(bob, APPROVED))
    assert await rows(store, "SELECT COUNT(*) FROM ledger_entries") == [(2,)]


async def test_what_is_decided_wrongly_is_not_recorded(store: Store) -> None:
    charged = await append(store, NO_PAYMENT, request_charge(NO_PAYMENT, request()))
    twice = [*answer_charge(charged, APPROVED)] * 2
    with pytest.raises(Exception, match="event 2 charged after event 2"):
        await append(store, charged, twice)
    assert await load(store) == charged


# --- constraints ----------------------------------------------------------------------------------


KEYS = {"payment_events": "order_id, version", "ledger_entries": "entry_number"}
CHANGES = {
    "update": "UPDATE {} SET amount_minor = amount_minor + 1",
    "delete": "DELETE FROM {}",
    "upsert": "INSERT INTO {0} SELECT * FROM {0} WHERE TRUE"
    " ON CONFLICT ({1}) DO UPDATE SET amount_minor = 1",
}


@pytest.mark.parametrize("table", KEYS)
@pytest.mark.parametrize("how", CHANGES)
async def test_what_was_recorded_can_be_neither_changed_nor_removed(
    store: Store, database: Database, table: str, how: str
) -> None:
    await refund(store)
    before = await everything(store)
    with pytest.raises(database.sql_error, match=f"{table} is append only"):
        await store.write(lambda tx: tx.execute(CHANGES[how].format(table, KEYS[table])))
    assert await everything(store) == before


@pytest.mark.parametrize("table", KEYS)
async def test_nor_replaced(store: Store, database: Database, table: str) -> None:
    await refund(store)
    replace = f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}"
    with pytest.raises(database.sql_error, match=r"is append only|syntax error"):
        await store.write(lambda tx: tx.execute(replace))


@pytest.mark.parametrize("table", KEYS)
async def test_nor_truncated(postgres_server: PostgresServer, table: str) -> None:
    store = await PostgresDatabase(postgres_server).open(SCHEMA, "truncated")
    with pytest.raises(asyncpg.RaiseError, match=r"is append only"):
        await postgres_server.run("truncated", f"TRUNCATE {table} CASCADE")
    await store.close()


ENTRY = {
    "entry_number": 7,
    "order_id": "o1",
    "version": 1,
    "kind": 1,
    "currency": "GBP",
    "amount_minor": 150,
    "debit_account": "assets:provider",
    "credit_account": "income:sales",
}


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({}, ""),
        ({"debit_account": "income:sales"}, "check"),
        ({"amount_minor": 0}, "check"),
        ({"amount_minor": -150}, "check"),
        ({"version": 2}, "foreign key"),
        ({"order_id": "o2"}, "foreign key"),
    ],
)
async def test_what_is_no_entry(
    store: Store, database: Database, wrong: dict[str, Any], what: str
) -> None:
    await append(store, NO_PAYMENT, request_charge(NO_PAYMENT, request()))
    entry = ENTRY | wrong

    async def post(tx: Tx) -> None:
        values = ", ".join(f"${n}" for n in range(1, len(entry) + 1))
        await tx.execute(
            f"INSERT INTO ledger_entries ({', '.join(entry)}) VALUES ({values})", *entry.values()
        )

    if not what:
        await store.write(post)
        return
    with pytest.raises(database.sql_error, match=f"(?i){what} constraint"):
        await store.write(post)


@pytest.mark.parametrize("again", [1, 2])
async def test_an_order_is_charged_once_and_refunded_once(
    store: Store, database: Database, again: int
) -> None:
    await refund(store)
    with pytest.raises(database.sql_error, match=r"(?i)unique constraint .*order_id.*kind"):
        await store.write(
            lambda tx: tx.execute(
                "INSERT INTO ledger_entries SELECT 9, order_id, version, kind, currency,"
                " amount_minor, debit_account, credit_account FROM ledger_entries"
                " WHERE kind = $1",
                again,
            )
        )


@pytest.mark.parametrize(("version", "what"), [(1, "charged"), (2, "charge_requested")])
async def test_a_stream_begins_at_its_beginning(
    store: Store, database: Database, version: int, what: str
) -> None:
    with pytest.raises(database.sql_error, match=r"(?i)check constraint"):
        await store.write(
            lambda tx: tx.execute(
                "INSERT INTO payment_events VALUES ('o1', $1, $2, 'ann', 'GBP', 1, '', '', '', '',"
                " '', 0)",
                version,
                what,
            )
        )


# --- what is made of the events -------------------------------------------------------------------


async def test_every_event_is_published_as_it_is_recorded(store: Store) -> None:
    await refund(store)
    records, _ = await store.read(lambda tx: stream.records(tx, "o1", Page(10, "")))
    published = await rows(
        store, "SELECT topic, aggregate, version, payload FROM mesh_outbox ORDER BY version"
    )
    assert [(topic, aggregate) for topic, aggregate, *_ in published] == [
        ("shop.payment.v1.PaymentEvent", "o1")
    ] * 4
    assert [
        (version, PaymentEvent.FromString(payload)) for _, _, version, payload in published
    ] == [(record.version, record.event) for record in records]


async def test_the_list_can_be_made_anew_from_the_events(store: Store) -> None:
    for number, story in enumerate((APPROVED, DECLINED, None)):
        payment = NO_PAYMENT
        events = request_charge(payment, request(f"o{number}"))
        payment = await append(store, payment, events)
        if story:
            await append(store, payment, answer_charge(payment, story))
    await refund(store, "o3")
    before = await rows(store, "SELECT * FROM payments ORDER BY order_id")
    assert {Payment(*row).state for row in before} == {
        State.PENDING,
        State.CHARGED,
        State.DECLINED,
        State.REFUNDED,
    }

    async def rebuild(tx: Tx) -> None:
        await tx.execute("DELETE FROM payments")
        for (order_id,) in await tx.execute("SELECT DISTINCT order_id FROM payment_events"):
            await projection.save(tx, await stream.load(tx, order_id))

    await store.write(rebuild)
    assert await rows(store, "SELECT * FROM payments ORDER BY order_id") == before
