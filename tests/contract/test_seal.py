"""Secrets in what the mesh keeps: no table holds them, whoever has the key can go on with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.type.money_pb2 import Money

from mesh.call import NEVER, Call, Method, Principal
from mesh.effects import Effects
from mesh.runtime.clock import Runtime
from mesh.saga.journal import Journal
from mesh.saga.records import SagaRow, StepRow
from mesh.saga.v1.saga_pb2 import SagaStep
from mesh.service import Context, Effect
from mesh.storage.migrate import own_migrations
from mesh.storage.port import Store, Tx
from mesh.storage.seal import CLEAR, Seal, SealError, is_secret
from shop.orchestrator.v1.orchestrator_pb2 import PlaceOrderRequest
from shop.order.v1.order_pb2 import CreateOrderRequest
from shop.payment.v1.payment_pb2 import ChargePaymentRequest, Payment
from shop.shipping.v1.shipping_pb2 import CreateShipmentRequest
from shop.user.v1.user_pb2 import ListUsersResponse, User
from tests.support.databases import Database

OLD, NEW = b"o" * 32, b"n" * 32
SECRET = "tok_of_a_card"
CHARGE = "/shop.payment.v1.PaymentService/ChargePayment"
GET_USER = "/shop.user.v1.UserService/GetUser"
ORDER = PlaceOrderRequest(order_id="o", payment_token=SECRET)
PAYMENT = ChargePaymentRequest(order_id="o", payment_token=SECRET)
USER = User(user_id="u", email=SECRET)


@pytest.fixture
async def store(database: Database) -> AsyncIterator[Store]:
    store = await database.open(own_migrations())
    yield store
    await store.close()


def saga_row(saga_id: str = "s") -> SagaRow:
    request = ORDER.SerializeToString()
    return SagaRow(saga_id, "buy", 1, saga_id, request, "", "", created_at=1.0, deadline_at=2.0)


def steps() -> list[StepRow]:
    charge = PAYMENT.SerializeToString()
    paid = StepRow(2, 0, "payment", CHARGE, charge, CHARGE, charge, started_at=1.0)
    user = StepRow(1, 0, "user", GET_USER, b"\n\1u", "", b"", started_at=1.0)
    user.state, user.answer = SagaStep.DONE, USER.SerializeToString()
    return [user, paid]


async def journal_one(store: Store, seal: Seal, saga_id: str = "s") -> Journal:
    journal = Journal(store, seal)
    row = await journal.add(saga_row(saga_id), "", PlaceOrderRequest)
    await journal.save(row, steps())
    return journal


async def holds(database: Database, secret: str) -> bool:
    """Whether anything that the mesh keeps holds it in the clear."""
    for table in ("mesh_sagas", "mesh_saga_steps", "mesh_effects", "mesh_keys", "mesh_outbox"):
        for row in await database.rows(f"SELECT * FROM {table}"):
            for value in row:
                if secret in (repr(value) if isinstance(value, bytes) else str(value)):
                    return True
    return False


def test_what_is_a_secret_is_read_from_the_contract() -> None:
    assert is_secret(PlaceOrderRequest)
    assert is_secret(ListUsersResponse)  # however deep
    assert is_secret(CreateShipmentRequest)
    assert not is_secret(CreateOrderRequest)
    assert not is_secret(Money)


async def test_the_journal_holds_no_secret_and_gives_it_to_who_runs_the_saga(
    store: Store, database: Database
) -> None:
    await journal_one(store, CLEAR, "clear")
    assert await holds(database, SECRET)
    await store.write(lambda tx: tx.execute("DELETE FROM mesh_saga_steps"))
    await store.write(lambda tx: tx.execute("DELETE FROM mesh_sagas"))

    journal = await journal_one(store, Seal([OLD]))
    assert not await holds(database, SECRET)
    row, _ = await journal.open("s")
    assert row is not None
    assert PlaceOrderRequest.FromString(row.request) == ORDER
    user, paid = row.steps
    assert ChargePaymentRequest.FromString(paid.request) == PAYMENT
    assert ChargePaymentRequest.FromString(paid.undo_request) == PAYMENT
    assert User.FromString(user.answer) == USER
    again = await journal.add(saga_row("s"), "", PlaceOrderRequest)
    assert PlaceOrderRequest.FromString(again.request) == ORDER

    await journal.save(row, row.steps)  # and a later one
    assert not await holds(database, SECRET)
    assert (await journal.open("s"))[0] == row


async def test_what_was_kept_before_there_was_a_key_reads_as_ever(store: Store) -> None:
    await journal_one(store, CLEAR)
    row, _ = await Journal(store, Seal([OLD])).open("s")
    assert row is not None and PlaceOrderRequest.FromString(row.request) == ORDER


async def test_a_key_that_is_replaced_opens_what_it_sealed(store: Store) -> None:
    await journal_one(store, Seal([OLD]))
    assert await Journal(store, Seal([NEW, OLD])).open("s")
    with pytest.raises(SealError, match="MESH_SEAL_KEY"):
        await Journal(store, Seal([NEW])).open("s")
    with pytest.raises(SealError, match="MESH_SEAL_KEY"):
        await Journal(store, CLEAR).open("s")
    row = await Journal(store, CLEAR).get("s")  # what may be told needs no key
    assert row is not None and row.key == "s"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE mesh_sagas SET request = (SELECT request FROM mesh_sagas WHERE saga_id = 'other')",
        "UPDATE mesh_saga_steps SET undo_request = request WHERE saga_id = 's'",
    ],
)
async def test_what_is_moved_elsewhere_does_not_open(store: Store, statement: str) -> None:
    journal = await journal_one(store, Seal([OLD]))
    await journal_one(store, Seal([OLD]), "other")
    await store.write(lambda tx: tx.execute(statement))
    with pytest.raises(SealError, match="was not sealed there"):
        await journal.open("s")


async def test_nothing_starts_without_a_key_that_is_needed(store: Store) -> None:
    await Seal([OLD]).check(store)
    await Seal([NEW]).check(store)  # nothing is sealed with the old one yet
    await Seal([OLD]).check(store)
    await journal_one(store, Seal([OLD]))
    with pytest.raises(SealError, match="MESH_SEAL_KEY"):
        await Seal([NEW]).check(store)
    with pytest.raises(SealError, match="MESH_SEAL_KEY"):
        await CLEAR.check(store)
    await Seal([NEW, OLD]).check(store)
    await store.write(lambda tx: tx.execute("DELETE FROM mesh_saga_steps"))
    await store.write(lambda tx: tx.execute("DELETE FROM mesh_sagas"))
    await Seal([NEW]).check(store)  # it is retired


class Till:
    """One life of a service with an effect."""

    def __init__(self, store: Store, seal: Seal) -> None:
        self.charged: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.answers = asyncio.Event()
        runtime = Runtime()

        def context(call: Call) -> Context[Any]:
            return Context(None, store, runtime, call)

        self.effects = Effects(store, runtime, context, seal)
        method = Method.at(CHARGE)
        self.charge = self.effects.handler(Effect(method, self._intend, self._act, self._record))

    async def _intend(self, tx: Tx, request: ChargePaymentRequest) -> None:
        pass

    async def _act(self, ctx: Any, request: ChargePaymentRequest) -> None:
        if not self.charged.done():
            self.charged.set_result(request.payment_token)
        await self.answers.wait()

    async def _record(self, tx: Tx, request: Any, result: None) -> Payment:
        return Payment()


async def test_an_open_effect_holds_no_secret_and_resumes_with_it(
    store: Store, database: Database
) -> None:
    first = Till(store, Seal([OLD]))
    call = Call(Method.at(CHARGE), PAYMENT, NEVER, key="k", principal=Principal("alice"))
    asked = asyncio.ensure_future(first.charge(call))
    assert await first.charged == SECRET
    assert not await holds(database, SECRET)
    await first.effects.stop()
    with pytest.raises(asyncio.CancelledError):
        await asked

    with pytest.raises(SealError, match="MESH_SEAL_KEY"):
        await Till(store, Seal([NEW])).effects.resume()
    second = Till(store, Seal([NEW, OLD]))
    assert await second.effects.resume() == 1
    assert await second.charged == SECRET
    second.answers.set()
    assert await second.charge(call) == Payment()
    assert await database.rows("SELECT * FROM mesh_effects") == []
