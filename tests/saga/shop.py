"""The whole order system on a cluster, one order through it, and what must be true afterwards."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.type.money_pb2 import Money
from google.type.postal_address_pb2 import PostalAddress

from mesh.errors import MeshError, Outcome
from mesh.saga.v1 import saga_pb2, saga_pb2_grpc
from mesh.service import Service
from mesh.testing.cluster import Cluster, Faults
from services.inventory.service import service as inventory
from services.orchestrator.service import service as orchestrator
from services.order.service import service as order
from services.payment.service import service as payment
from services.provider.service import service as provider
from services.shipping.service import service as shipping
from services.user.service import service as user
from shop.inventory.v1 import inventory_pb2, inventory_pb2_grpc
from shop.orchestrator.v1 import orchestrator_pb2 as pb
from shop.orchestrator.v1 import orchestrator_pb2_grpc
from shop.order.v1 import order_pb2, order_pb2_grpc
from shop.payment.v1 import payment_pb2, payment_pb2_grpc
from shop.provider.v1 import provider_pb2, provider_pb2_grpc
from shop.shipping.v1 import shipping_pb2, shipping_pb2_grpc
from shop.user.v1 import user_pb2, user_pb2_grpc

SERVICES: dict[str, Service[Any]] = {
    "provider": provider,
    "user": user,
    "inventory": inventory,
    "payment": payment,
    "shipping": shipping,
    "order": order,
    "orchestrator": orchestrator,
}
ROLES = {"orchestrator": {"orchestrator", "sales"}, "order": {"sales"}}
STOCK = 10
#: The customer asks again this often; sagas take far less.
ASK_EVERY_S = 2.0
PATIENCE = 2000


@dataclass(frozen=True)
class Scenario:
    """An order, and what must become of it."""

    name: str
    refused_with: str = ""
    user_id: str = "ann"
    sku: str = "LANTERN"
    quantity: int = 3
    token: str = "tok_ok"
    cancel: bool = False

    @property
    def stays(self) -> bool:
        """Whether the order is confirmed in the end."""
        return not self.refused_with and not self.cancel


SCENARIOS = [
    Scenario("success"),
    Scenario("unknown user", "USER_NOT_FOUND", user_id="nobody"),
    Scenario("suspended user", "USER_SUSPENDED", user_id="sue"),
    Scenario("unknown SKU", "UNKNOWN_SKU", sku="NO SUCH THING"),
    Scenario("out of stock", "OUT_OF_STOCK", quantity=STOCK + 1),
    Scenario("declined", "CARD_DECLINED", token="tok_declined"),
    Scenario("unshippable", "UNSHIPPABLE_ADDRESS", user_id="kim"),
    Scenario("cancelled when confirmed", cancel=True),
]


@dataclass
class Books:
    """Where the money and the goods are, read from the services."""

    order: str = ""
    saga: str = ""
    reason: str = ""
    at_provider: int = 0
    in_ledger: int = 0
    stock: tuple[int, int, int] = (0, 0, 0)
    reservation: str = ""
    shipment: str = ""
    unfinished: int = 0
    sagas: list[saga_pb2.Saga] = field(default_factory=list)

    def problems(self, scenario: Scenario) -> list[str]:
        """Return what is not as it must be."""
        paid = scenario.quantity * 255 if scenario.stays else 0
        taken = scenario.quantity if scenario.stays else 0
        wanted = {
            "saga": "FAILED" if scenario.refused_with else "COMPLETED",
            "reason": scenario.refused_with,
            "at_provider": paid,
            "in_ledger": paid,
            "stock": (STOCK - taken, 0, taken),
            "unfinished": 0,
        }
        if scenario.stays:
            wanted |= {"order": "CONFIRMED", "reservation": "COMMITTED", "shipment": "RELEASED"}
        found = [
            f"{name} is {getattr(self, name)!r}, must be {value!r}"
            for name, value in wanted.items()
            if getattr(self, name) != value
        ]
        if not scenario.stays:
            found += [
                f"{name} is {getattr(self, name)!r}"
                for name, allowed in {
                    "order": ("", "CANCELLED"),
                    "reservation": ("", "RELEASED", "RETURNED"),
                    "shipment": ("", "CANCELLED"),
                }.items()
                if getattr(self, name) not in allowed
            ]
        return found


@dataclass
class Shop:
    """The system and its customer."""

    folder: Path
    faults: Faults = field(default_factory=Faults)
    services: dict[str, Service[Any]] = field(default_factory=lambda: SERVICES)

    async def __aenter__(self) -> Shop:
        self.cluster = Cluster(self.services, self.folder, roles=ROLES)
        await self.cluster.start()
        await self._prepare()
        self.cluster.faults = self.faults
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cluster.faults = Faults()
        self.cluster.abandon()

    async def _prepare(self) -> None:
        users = user_pb2_grpc.UserServiceStub(self.cluster.channel("user"))
        for name, region in (("ann", "GB"), ("sue", "GB"), ("kim", "KP")):
            address = user_pb2.Address(
                address_id="home", postal_address=PostalAddress(region_code=region)
            )
            await users.CreateUser(
                user_pb2.CreateUserRequest(
                    user_id=name,
                    email=f"{name}@example.com",
                    addresses=[address],
                    default_address_id="home",
                )
            )
        await users.SuspendUser(user_pb2.SuspendUserRequest(user_id="sue"))
        stock = inventory_pb2_grpc.InventoryServiceStub(self.cluster.channel("inventory"))
        await stock.CreateItem(
            inventory_pb2.CreateItemRequest(
                sku="LANTERN",
                unit_price=Money(currency_code="GBP", units=2, nanos=550_000_000),
                quantity=STOCK,
            )
        )

    async def place(self, scenario: Scenario, order_id: str = "o-1") -> None:
        """Place the order, and cancel it if that is the story, asking until it is answered."""
        to = orchestrator_pb2_grpc.OrchestratorServiceStub(self.cluster.channel("orchestrator"))
        line = pb.PlaceOrderLine(sku=scenario.sku, quantity=scenario.quantity)
        request = pb.PlaceOrderRequest(
            order_id=order_id,
            user_id=scenario.user_id,
            lines=[line],
            payment_token=scenario.token,
            wait=True,
        )
        await self._until(
            lambda: to.PlaceOrder(request),
            lambda answer: answer.state != pb.PlaceOrderResponse.EXECUTING,
        )
        if scenario.cancel:
            await self.cancel(order_id)

    async def cancel(self, order_id: str = "o-1") -> None:
        """Cancel the order, asking until that is done; wait for it if it is not there yet."""
        to = orchestrator_pb2_grpc.OrchestratorServiceStub(self.cluster.channel("orchestrator"))
        request = pb.CancelOrderRequest(order_id=order_id, wait=True)
        await self._until(
            lambda: to.CancelOrder(request),
            lambda answer: answer.state == pb.CancelOrderResponse.CANCELLED,
            unless="ORDER_NOT_FOUND",
        )

    async def restock(self, quantity: int) -> None:
        """Put more on the shelf."""
        stock = inventory_pb2_grpc.InventoryServiceStub(self.cluster.channel("inventory"))
        await stock.RestockItem(inventory_pb2.RestockItemRequest(sku="LANTERN", quantity=quantity))

    async def _until(
        self, ask: Callable[[], Awaitable[Any]], done: Callable[[Any], bool], unless: str = ""
    ) -> None:
        for _ in range(PATIENCE):
            try:
                if done(await ask()):
                    return
            except MeshError as error:
                assert error.outcome is not Outcome.REFUSED or error.reason == unless, error
            await self.cluster.runtime.clock.sleep(ASK_EVERY_S)
        raise AssertionError("the order is not decided")

    async def books(self, order_id: str = "o-1") -> Books:
        """Read the books, without faults."""
        self.cluster.faults = Faults()
        await self.cluster.runtime.clock.sleep(60.0)  # the dead come back, the late arrive
        books = Books()
        channel = self.cluster.channel
        sagas = saga_pb2_grpc.SagaServiceStub(channel("orchestrator"))
        for listed in (await sagas.ListSagas(saga_pb2.ListSagasRequest())).sagas:
            saga = await sagas.GetSaga(saga_pb2.GetSagaRequest(saga_id=listed.saga_id))
            books.sagas.append(saga)
            books.saga = saga_pb2.Saga.State.Name(saga.state)
            books.reason = books.reason or saga.refusal.reason
            books.unfinished += saga.state not in (saga_pb2.Saga.COMPLETED, saga_pb2.Saga.FAILED)
        books.order = await _state(
            order_pb2.Order,
            order_pb2_grpc.OrderServiceStub(channel("order")).GetOrder(
                order_pb2.GetOrderRequest(order_id=order_id)
            ),
        )
        books.shipment = await _state(
            shipping_pb2.Shipment,
            shipping_pb2_grpc.ShippingServiceStub(channel("shipping")).GetShipment(
                shipping_pb2.GetShipmentRequest(order_id=order_id)
            ),
        )
        stock = inventory_pb2_grpc.InventoryServiceStub(channel("inventory"))
        books.reservation = await _state(
            inventory_pb2.Reservation,
            stock.GetReservation(inventory_pb2.GetReservationRequest(order_id=order_id)),
        )
        item = (await stock.GetItem(inventory_pb2.GetItemRequest(sku="LANTERN"))).stock
        books.stock = (item.free, item.reserved, item.shipped)
        money = payment_pb2_grpc.PaymentServiceStub(channel("payment"))
        ledger = await money.GetLedgerSummary(payment_pb2.GetLedgerSummaryRequest())
        books.in_ledger = sum(_minor(t.net) for t in ledger.totals)
        bank = provider_pb2_grpc.PaymentProviderServiceStub(channel("provider"))
        totals = await bank.GetTotals(provider_pb2.GetTotalsRequest())
        books.at_provider = sum(_minor(t.net) for t in totals.totals)
        return books


async def _state(kind: Any, asked: Awaitable[Any]) -> str:
    try:
        name: str = kind.State.Name((await asked).state)
    except MeshError as error:
        assert error.status is grpc.StatusCode.NOT_FOUND, error
        return ""
    return name


def _minor(money: Money) -> int:
    return money.units * 100 + money.nanos // 10_000_000
