"""The payment service and its provider on one network in memory, with faults between them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from mesh.call import Call, Principal
from mesh.client import Channel, Policy
from mesh.layers.identity import ORCHESTRATOR, Identities
from mesh.metadata import KEY, UNDO_OF
from mesh.node import Node
from mesh.server import Application
from mesh.service import Service
from mesh.storage.migrate import migrations, own_migrations
from mesh.storage.port import Store
from mesh.transport.memory import MemoryNetwork
from services.payment.domain import AUDITOR
from services.payment.service import service
from services.provider.service import service as provider_service
from services.shared.money import to_money
from shop.payment.v1 import payment_pb2 as pb
from shop.payment.v1.payment_pb2_grpc import PaymentServiceStub
from shop.provider.v1 import provider_pb2 as outside
from shop.provider.v1.provider_pb2_grpc import PaymentProviderServiceStub
from tests.support.databases import Database
from tests.support.waiting import until

if TYPE_CHECKING:
    from shop.payment.v1.payment_pb2_grpc import PaymentServiceAsyncStub
    from shop.provider.v1.provider_pb2_grpc import PaymentProviderServiceAsyncStub

CHARGE_PATH = "/shop.payment.v1.PaymentService/ChargePayment"


class Shop:
    """Both services on one network. `payment` may crash; `failure` is what the provider answers."""

    def __init__(self, databases: Database) -> None:
        caller = Principal("saga", frozenset({ORCHESTRATOR, AUDITOR}))
        self.node = Node(identities=Identities(anonymous=caller))
        self.network = MemoryNetwork(self.node.runtime)
        self.failure: Exception | None = None
        self.asked = 0
        self._asks = asyncio.Semaphore(0)
        self._databases = databases
        self._stores: dict[str, Store] = {}
        self._application: Application
        self.provider = cast(
            "PaymentProviderServiceAsyncStub", PaymentProviderServiceStub(self._dial("provider"))
        )
        self.payment = cast("PaymentServiceAsyncStub", PaymentServiceStub(self._dial("payment")))

    @classmethod
    async def open(cls, databases: Database) -> Shop:
        """Open the shop on *databases*."""
        shop = cls(databases)
        await shop._serve("provider", provider_service)
        shop._meddle()
        shop._application = await shop._serve("payment", service)
        return shop

    @property
    def store(self) -> Store:
        return self._stores["payment"]

    async def crash(self) -> None:
        """End the payment service with whatever is under way; start it anew on its database."""
        await self._application.stop()
        await self.store.close()
        self._application = await self._serve("payment", service)

    async def resume(self) -> None:
        await self._application.resume()

    async def close(self) -> None:
        await self._application.stop()
        for store in self._stores.values():
            await store.close()

    async def charge(
        self, order_id: str, token: str = "tok_ok", *, minor: int = 100, key: str = ""
    ) -> pb.Payment:
        request = pb.ChargePaymentRequest(
            order_id=order_id,
            user_id="ann" if order_id < "o5" else "bob",
            amount=to_money("GBP", minor),
            payment_token=token,
        )
        return await self.payment.ChargePayment(request, metadata=((KEY, key),) if key else ())

    async def refund(self, order_id: str, undo_of: str = "") -> pb.Payment:
        undo = ((UNDO_OF, f"{CHARGE_PATH} {undo_of}"),) if undo_of else ()
        return await self.payment.RefundPayment(
            pb.RefundPaymentRequest(order_id=order_id), metadata=undo
        )

    async def get(self, order_id: str) -> pb.Payment:
        return await self.payment.GetPayment(pb.GetPaymentRequest(order_id=order_id))

    async def becomes(self, order_id: str, state: pb.Payment.State.ValueType) -> None:
        """Wait until an order's payment is in *state*, without touching it."""

        async def is_so() -> bool:
            return (await self.get(order_id)).state == state

        await until(is_so)

    async def until_asked(self) -> None:
        """Wait until the provider is asked for something once more."""
        async with asyncio.timeout(5):
            await self._asks.acquire()

    async def ledger(self) -> list[pb.LedgerEntry]:
        reply = await self.payment.ListLedgerEntries(pb.ListLedgerEntriesRequest())
        return list(reply.entries)

    async def trail(self, order_id: str = "") -> list[pb.AuditRecord]:
        reply = await self.payment.ListAuditRecords(
            pb.ListAuditRecordsRequest(order_id=order_id, page_size=1000)
        )
        return list(reply.records)

    async def story(self, order_id: str) -> list[str | None]:
        """What happened to an order's payment, in a word each."""
        return [record.event.WhichOneof("event") for record in await self.trail(order_id)]

    async def check_books(self) -> None:
        """Our ledger and the provider's memory must tell the same story."""
        ours = (await self.payment.GetLedgerSummary(pb.GetLedgerSummaryRequest())).totals
        theirs = (await self.provider.GetTotals(outside.GetTotalsRequest())).totals
        assert [(t.charged, t.refunded, t.charge_count, t.refund_count) for t in ours] == [
            (t.charged, t.refunded, t.charge_count, t.refund_count) for t in theirs
        ]

    def _dial(self, target: str) -> Any:
        return Channel(self.node, target, [target], self.network, Policy(retry=None))

    async def _serve(self, name: str, served: Service[Any]) -> Application:
        assert served.schema
        schema = [*own_migrations(), *migrations(served.schema)]
        store = await self._databases.open(schema, name, self.node.runtime)
        application = Application(self.node, served, store, self._dial, self._dial)
        self.network.serve(name, application.routes)
        self._stores[name] = store
        return application

    def _meddle(self) -> None:
        """Put `failure` before the provider's answers."""
        real = self.network.unary

        async def unary(call: Call) -> Any:
            if call.address == "provider" and not call.method.reads:
                self.asked += 1
                self._asks.release()
                if self.failure:
                    raise self.failure
            return await real(call)

        self.network.unary = unary  # type: ignore[method-assign]
