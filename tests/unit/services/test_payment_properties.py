"""Whatever is asked and whatever the provider answers, in any sequence: the books are right.

A model of the effects drives the service's own functions: an intent that is recorded stays open
until it gets an answer, several may be open at once, and any answer may come twice.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mesh.errors import Refused
from mesh.runtime.clock import Runtime
from mesh.storage.migrate import migrations, own_migrations
from mesh.storage.port import Tx, Work
from mesh.storage.sqlite import SqliteStore
from services.payment import stream
from services.payment.domain import Payment, State
from services.payment.service import (
    charge_answered,
    charge_payment,
    refund_answered,
    refund_payment,
    service,
)
from services.shared.money import to_money
from services.shared.paging import Page
from shop.payment.v1 import payment_pb2 as pb
from shop.payment.v1.events_pb2 import PaymentEvent
from shop.provider.v1.provider_pb2 import Charge

T = TypeVar("T")
ORDERS = st.sampled_from(["o1", "o2", "o3"])
ANSWERS = st.builds(
    Charge,
    state=st.sampled_from([Charge.APPROVED, Charge.DECLINED, Charge.REFUNDED]),
    charge_id=st.sampled_from(["", "ch-1", "ch-2"]),
    decline_reason=st.sampled_from(["", "NO_FUNDS"]),
)
C, R = pb.LedgerEntry.CHARGE, pb.LedgerEntry.REFUND
#: What the ledger holds of a payment in each state.
BOOKED = {
    State.STATE_UNSPECIFIED: [],
    State.PENDING: [],
    State.DECLINED: [],
    State.CHARGED: [C],
    State.REFUNDING: [C],
    State.REFUNDED: [C, R],
}


def refusals_are_answers(work: Work[Any]) -> Work[None]:
    """As the mesh has it: a refusal takes its writes back, unless it says to keep them."""

    async def answered(tx: Tx) -> None:
        try:
            await work(tx)
        except Refused as refused:
            if not refused.keep:
                await tx.rollback()

    return answered


@dataclass
class Books:
    """What the database says. `postings` are an entry's (debits, credits)."""

    payments: dict[str, Payment]
    listed: dict[str, Payment]
    records: list[pb.AuditRecord]
    published: list[PaymentEvent]
    postings: list[tuple[int, int]]


async def read_books(tx: Tx) -> Books:
    listed = [Payment(*row) for row in await tx.execute("SELECT * FROM payments")]
    records, _ = await stream.records(tx, "", Page(1000, ""))
    outbox = "SELECT payload FROM mesh_outbox ORDER BY aggregate, version"
    postings = "SELECT SUM(debit_minor), SUM(credit_minor) FROM ledger_postings"
    return Books(
        payments={id_: await stream.load(tx, id_) for id_ in {r.event.order_id for r in records}},
        listed={payment.order_id: payment for payment in listed},
        records=records,
        published=[PaymentEvent.FromString(payload) for (payload,) in await tx.execute(outbox)],
        postings=await tx.execute(f"{postings} GROUP BY entry_number"),
    )


class Payments(RuleBasedStateMachine):
    """Three orders, any number of charges and refunds."""

    def __init__(self) -> None:
        super().__init__()
        assert service.schema
        self.loop = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.store = SqliteStore(
            Path(self.folder.name) / "payment.db",
            Runtime(),
            [*own_migrations(), *migrations(service.schema)],
        )
        self.open: list[Callable[[Charge], Work[Any]]] = []
        self.amounts: dict[str, int] = {}

    def teardown(self) -> None:
        self.run(self.store.close())
        self.loop.close()
        self.folder.cleanup()

    def run(self, doing: Awaitable[T]) -> T:
        async def run() -> T:
            return await doing

        return self.loop.run(run())

    def write(self, work: Work[Any]) -> None:
        self.run(self.store.write(refusals_are_answers(work)))

    def intend(self, work: Work[None], settle: Callable[[Charge], Work[Any]]) -> None:
        """Record an intent; unless it is refused, it is open from now on."""

        async def intended(tx: Tx) -> None:
            await work(tx)
            self.open.append(settle)

        self.write(intended)

    @rule(order_id=ORDERS, minor=st.integers(1, 10_000))
    def charge(self, order_id: str, minor: int) -> None:
        request = pb.ChargePaymentRequest(
            order_id=order_id, user_id="ann", amount=to_money("GBP", minor), payment_token="t"
        )
        self.amounts.setdefault(order_id, minor)
        self.intend(
            lambda tx: charge_payment.intend(tx, request),
            lambda answer: lambda tx: charge_answered(tx, request, answer),
        )

    @rule(order_id=ORDERS)
    def refund(self, order_id: str) -> None:
        request = pb.RefundPaymentRequest(order_id=order_id)
        self.intend(
            lambda tx: refund_payment.intend(tx, request),
            lambda answer: lambda tx: refund_answered(tx, request, answer),
        )

    @precondition(lambda self: self.open)
    @rule(data=st.data(), answer=ANSWERS, again=st.booleans())
    def answer(self, data: st.DataObject, answer: Charge, again: bool) -> None:
        number = data.draw(st.integers(0, len(self.open) - 1), label="which")
        settle = self.open[number] if again else self.open.pop(number)
        self.write(settle(answer))

    @invariant()
    def the_books_are_right(self) -> None:
        books = self.run(self.store.read(read_books))
        assert books.listed == books.payments
        assert books.published == [record.event for record in books.records]
        assert all(debit == credit > 0 for debit, credit in books.postings)
        entries = [record.entry for record in books.records if record.HasField("entry")]
        numbers = sorted(entry.entry_number for entry in entries)
        assert numbers == [*range(1, len(books.postings) + 1)]
        assert {entry.order_id for entry in entries} <= books.payments.keys()
        for order_id, payment in books.payments.items():
            booked = [entry for entry in entries if entry.order_id == order_id]
            assert [entry.kind for entry in booked] == BOOKED[payment.state]
            amount = to_money("GBP", self.amounts[order_id])
            assert all(entry.amount == amount for entry in booked)


TestPayments = Payments.TestCase
TestPayments.settings = settings(max_examples=40, stateful_step_count=20)
