"""Asks the services: page by page for everything, and by its id for one order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Final, TypeVar
from uuid import uuid4

import mesh
from mesh import BudgetConfig, CircuitConfig, Policy, RetryPolicy
from mesh.errors import NotFound
from mesh.metadata import TRACEPARENT
from mesh.saga.v1 import saga_pb2
from mesh.saga.v1.saga_pb2_grpc import SagaServiceStub
from mesh.scope import inherit
from reconcile import facts
from reconcile.facts import CANCEL, PLACE, Fact, Facts, Saga
from shop.inventory.v1 import inventory_pb2
from shop.inventory.v1.inventory_pb2_grpc import InventoryServiceStub
from shop.order.v1 import order_pb2
from shop.order.v1.order_pb2_grpc import OrderServiceStub
from shop.payment.v1 import payment_pb2
from shop.payment.v1.payment_pb2_grpc import PaymentServiceStub
from shop.provider.v1 import provider_pb2
from shop.provider.v1.provider_pb2_grpc import PaymentProviderServiceStub
from shop.shipping.v1 import shipping_pb2
from shop.shipping.v1.shipping_pb2_grpc import ShippingServiceStub

T = TypeVar("T")

#: Who is asked.
NAMES: Final = ("order", "inventory", "payment", "shipping", "orchestrator", "provider")
#: A page is read in one go: a larger one would keep those waiting whom the service is for. (Of
#: reservations, with up to 500 lines each, inventory gives 100.)
PAGE_SIZE: Final = 200
#: Everything here only reads, so it may be asked again while a service is being restarted, by all
#: that are asking: it is one process, and the breaker's pauses keep it from storming.
POLICY: Final = Policy(
    timeout_s=60.0,
    attempt_timeout_s=10.0,
    retry=RetryPolicy(attempts_max=100, budget=BudgetConfig(per_s=100.0, burst=100.0)),
    circuit=CircuitConfig(open_s=2.0),
)


class Services:
    """Channels to the services at `HOST:PORT` by name; an async context manager.

    What is asked is not traced: everything, every two minutes, would leave little else to be seen.
    """

    def __init__(self, addresses: Mapping[str, str]) -> None:
        self._channels = {
            name: mesh.channel(name, addresses[name], policy=POLICY) for name in NAMES
        }
        self._order = OrderServiceStub(self._channels["order"])
        self._inventory = InventoryServiceStub(self._channels["inventory"])
        self._payment = PaymentServiceStub(self._channels["payment"])
        self._shipping = ShippingServiceStub(self._channels["shipping"])
        self._sagas = SagaServiceStub(self._channels["orchestrator"])
        self._provider = PaymentProviderServiceStub(self._channels["provider"])

    async def __aenter__(self) -> Services:
        trace_id = uuid4().hex
        inherit({TRACEPARENT: f"00-{trace_id}-{trace_id[:16]}-00"})  # not sampled
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for channel in self._channels.values():
            await channel.close()

    async def greet(self, within_s: float) -> None:
        """Raise mesh.MeshError soon if nobody is there at all."""
        await self._order.ListOrders(order_pb2.ListOrdersRequest(page_size=1), timeout=within_s)

    # --- everything, in pages -------------------------------------------------------------------

    def stock(self) -> AsyncIterator[list[inventory_pb2.Stock]]:
        """The counters of every item."""
        request = inventory_pb2.ListStockRequest(page_size=PAGE_SIZE)
        return _pages(self._inventory.ListStock, request, "stock")

    def reservations(self) -> AsyncIterator[list[inventory_pb2.Reservation]]:
        """Every reservation."""
        request = inventory_pb2.ListReservationsRequest(page_size=PAGE_SIZE)
        return _pages(self._inventory.ListReservations, request, "reservations")

    def orders(self) -> AsyncIterator[list[order_pb2.Order]]:
        """Every order."""
        return _pages(
            self._order.ListOrders, order_pb2.ListOrdersRequest(page_size=PAGE_SIZE), "orders"
        )

    def shipments(self) -> AsyncIterator[list[shipping_pb2.Shipment]]:
        """Every shipment."""
        request = shipping_pb2.ListShipmentsRequest(page_size=PAGE_SIZE)
        return _pages(self._shipping.ListShipments, request, "shipments")

    def payments(self) -> AsyncIterator[list[payment_pb2.Payment]]:
        """Every payment."""
        request = payment_pb2.ListPaymentsRequest(page_size=PAGE_SIZE)
        return _pages(self._payment.ListPayments, request, "payments")

    def entries(self, order_id: str = "") -> AsyncIterator[list[payment_pb2.LedgerEntry]]:
        """Every entry of the ledger, or those of one order."""
        request = payment_pb2.ListLedgerEntriesRequest(page_size=PAGE_SIZE, order_id=order_id)
        return _pages(self._payment.ListLedgerEntries, request, "entries")

    def charges(self, order_id: str = "") -> AsyncIterator[list[provider_pb2.Charge]]:
        """Every charge at the provider, or those that name one order."""
        request = provider_pb2.ListChargesRequest(page_size=PAGE_SIZE, reference=order_id)
        return _pages(self._provider.ListCharges, request, "charges")

    def sagas(self, name: str) -> AsyncIterator[list[saga_pb2.Saga]]:
        """Every saga called *name*."""
        request = saga_pb2.ListSagasRequest(page_size=PAGE_SIZE, name=name)
        return _pages(self._sagas.ListSagas, request, "sagas")

    # --- one order ------------------------------------------------------------------------------

    async def sagas_of(self, order_id: str) -> list[Saga]:
        """The sagas about an order."""
        found = []
        for name in (PLACE, CANCEL):
            request = saga_pb2.ListSagasRequest(name=name, key=order_id)
            found += [facts.of_saga(it) for it in (await self._sagas.ListSagas(request)).sagas]
        return found

    async def facts_of(self, order_id: str) -> Facts:
        """All that is known of an order, but its sagas."""
        asked: list[Fact | None] = [
            await _one(
                self._order.GetOrder, order_pb2.GetOrderRequest(order_id=order_id), facts.of_order
            ),
            await _one(
                self._payment.GetPayment,
                payment_pb2.GetPaymentRequest(order_id=order_id),
                facts.of_payment,
            ),
            await _one(
                self._inventory.GetReservation,
                inventory_pb2.GetReservationRequest(order_id=order_id),
                facts.of_reservation,
            ),
            await _one(
                self._shipping.GetShipment,
                shipping_pb2.GetShipmentRequest(order_id=order_id),
                facts.of_shipment,
            ),
        ]
        async for entries in self.entries(order_id):
            asked += map(facts.of_entry, entries)
        async for charges in self.charges(order_id):
            asked += map(facts.of_charge, charges)
        known = Facts(order_id)
        for fact in asked:
            if fact is not None:
                known.add(fact)
        return known


async def _pages(
    list_: Callable[[Any], Awaitable[Any]], request: Any, name: str
) -> AsyncIterator[list[Any]]:
    """The pages of a list; `name`: the field that holds a page's elements."""
    while True:
        page = await list_(request)
        yield list(getattr(page, name))
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


async def _one(
    get: Callable[[Any], Awaitable[Any]], request: Any, fact_of: Callable[[Any], T]
) -> T | None:
    try:
        return fact_of(await get(request))
    except NotFound:
        return None
