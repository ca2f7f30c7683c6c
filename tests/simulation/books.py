"""The invariants of the order system, from its services' own data."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from google.type.money_pb2 import Money

from mesh.saga.v1 import saga_pb2, saga_pb2_grpc
from shop.inventory.v1 import inventory_pb2, inventory_pb2_grpc
from shop.order.v1 import order_pb2, order_pb2_grpc
from shop.payment.v1 import payment_pb2, payment_pb2_grpc
from shop.provider.v1 import provider_pb2, provider_pb2_grpc
from shop.shipping.v1 import shipping_pb2, shipping_pb2_grpc
from tests.simulation.plans import Plan

PAGE = 1000


@dataclass
class Books:
    """Everything that the services know, by order."""

    placing: dict[str, str]
    cancelling: dict[str, str]
    orders: dict[str, str]
    totals: dict[str, int]
    payments: dict[str, str]
    reservations: dict[str, str]
    shipments: dict[str, str]
    charges: dict[str, list[tuple[str, int]]]
    ledger_minor: int
    provider_minor: int
    stock: dict[str, tuple[int, int, int]]

    def confirmed(self, order_id: str) -> bool:
        """Whether the order stands: it was placed, and was not cancelled after that."""
        placed = self.placing.get(order_id) == "COMPLETED"
        return placed and self.cancelling.get(order_id) != "COMPLETED"

    def problems(self, plans: list[Plan], received: Mapping[str, int]) -> Iterator[str]:
        """Yield what is wrong with the orders, the money and the goods."""
        taken: Counter[str] = Counter()
        for plan in plans:
            yield from self._problems_of(plan)
            if self.confirmed(plan.order_id):
                taken.update({item.sku: quantity for item, quantity in plan.lines})
        for sku, units in received.items():
            wanted = (units - taken[sku], 0, taken[sku])
            if self.stock[sku] != wanted:
                yield f"{sku} has (free, reserved, shipped) {self.stock[sku]}: {wanted}?"
        due = sum(plan.price_minor for plan in plans if self.confirmed(plan.order_id))
        if not self.ledger_minor == self.provider_minor == due:
            yield f"ledger {self.ledger_minor}, provider {self.provider_minor}, orders {due}"

    def _problems_of(self, plan: Plan) -> Iterator[str]:
        this, stands = plan.order_id, self.confirmed(plan.order_id)
        if stands and plan.impossible:
            yield f"{this} is confirmed, and cannot be"
        wanted = {
            "order": ("CONFIRMED",) if stands else ("", "CANCELLED"),
            "payment": ("CHARGED",) if stands else ("", "DECLINED", "REFUNDED"),
            "reservation": ("COMMITTED",) if stands else ("", "RELEASED", "RETURNED"),
            "shipment": ("RELEASED",) if stands else ("", "CANCELLED"),
        }
        for kind, allowed in wanted.items():
            found = getattr(self, f"{kind}s").get(this, "")
            if found not in allowed:
                yield f"the {kind} of {this} is {found or 'missing'}: {' or '.join(allowed)}?"
        money = [amount for state, amount in self.charges[this] if state != "DECLINED"]
        kept = sum(amount for state, amount in self.charges[this] if state == "APPROVED")
        if len(money) > 1:
            yield f"{this} was charged {len(money)} times"
        if kept != (plan.price_minor if stands else 0):
            yield f"the provider keeps {kept} of {this}, which costs {plan.price_minor}"


async def read_books(channel: Any) -> Books:
    """Ask every service for all that it has."""
    sagas = saga_pb2_grpc.SagaServiceStub(channel("orchestrator"))
    listed = (await sagas.ListSagas(saga_pb2.ListSagasRequest(page_size=PAGE))).sagas
    states: dict[str, dict[str, str]] = {"place_order": {}, "cancel_order": {}}
    for saga in listed:
        states[saga.name][saga.key] = saga_pb2.Saga.State.Name(saga.state)

    order = order_pb2_grpc.OrderServiceStub(channel("order"))
    orders = (await order.ListOrders(order_pb2.ListOrdersRequest(page_size=PAGE))).orders
    shipping = shipping_pb2_grpc.ShippingServiceStub(channel("shipping"))
    parcels = await shipping.ListShipments(shipping_pb2.ListShipmentsRequest(page_size=PAGE))
    payment = payment_pb2_grpc.PaymentServiceStub(channel("payment"))
    payments = await payment.ListPayments(payment_pb2.ListPaymentsRequest(page_size=PAGE))
    ledger = await payment.GetLedgerSummary(payment_pb2.GetLedgerSummaryRequest())
    provider = provider_pb2_grpc.PaymentProviderServiceStub(channel("provider"))
    charged = await provider.ListCharges(provider_pb2.ListChargesRequest(page_size=PAGE))
    totals = await provider.GetTotals(provider_pb2.GetTotalsRequest())
    shelf = inventory_pb2_grpc.InventoryServiceStub(channel("inventory"))
    stock = (await shelf.ListStock(inventory_pb2.ListStockRequest(page_size=PAGE))).stock
    held = await shelf.ListReservations(inventory_pb2.ListReservationsRequest(page_size=100))
    charges = defaultdict(list)
    for charge in charged.charges:
        state = provider_pb2.Charge.State.Name(charge.state)
        charges[charge.reference].append((state, to_minor(charge.amount)))
    return Books(
        placing=states["place_order"],
        cancelling=states["cancel_order"],
        orders=_states(order_pb2.Order, orders),
        totals={found.order_id: to_minor(found.total) for found in orders},
        payments=_states(payment_pb2.Payment, payments.payments),
        reservations=_states(inventory_pb2.Reservation, held.reservations),
        shipments=_states(shipping_pb2.Shipment, parcels.shipments),
        charges=charges,
        ledger_minor=sum(to_minor(total.net) for total in ledger.totals),
        provider_minor=sum(to_minor(total.net) for total in totals.totals),
        stock={s.sku: (s.free, s.reserved, s.shipped) for s in stock},
    )


def to_minor(money: Money) -> int:
    """Pence."""
    return money.units * 100 + money.nanos // 10_000_000


def _states(kind: Any, found: Any) -> dict[str, str]:
    return {one.order_id: kind.State.Name(one.state) for one in found}
