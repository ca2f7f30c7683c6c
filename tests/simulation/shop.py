"""The whole order system and its customers, for the simulator."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from random import Random
from typing import ClassVar

from google.type.money_pb2 import Money
from google.type.postal_address_pb2 import PostalAddress

from mesh.client import Policy
from mesh.errors import Refused
from mesh.layers.budget import BudgetConfig
from mesh.layers.retry import RetryPolicy
from mesh.metadata import KEY
from mesh.testing.cluster import Cluster
from mesh.testing.schedule import Schedule
from mesh.testing.simulation import Simulation
from services.analytics.service import service as analytics
from shop.inventory.v1 import inventory_pb2, inventory_pb2_grpc
from shop.orchestrator.v1 import orchestrator_pb2 as pb
from shop.orchestrator.v1 import orchestrator_pb2_grpc
from shop.user.v1 import user_pb2, user_pb2_grpc
from tests.saga.shop import ROLES, SERVICES
from tests.simulation.books import read_books
from tests.simulation.followers import copies, mail_problems, read_model
from tests.simulation.plans import (
    SUSPENDED,
    USERS,
    Delivery,
    Plan,
    draw_deliveries,
    draw_items,
    draw_plans,
)
from tests.simulation.post import NOTIFICATION, TAKEN

PLACED, CANCELLED = pb.PlaceOrderResponse, pb.CancelOrderResponse
HORIZON_S = 6.0
#: Customers are few: a large budget would never be spent.
SMALL = BudgetConfig(per_s=0.1, burst=2.0)


class Shop(Simulation):
    """Customers place orders on scarce goods, and cancel some of them."""

    services: ClassVar = {**SERVICES, "notification": NOTIFICATION, "analytics": analytics}
    roles = ROLES

    @classmethod
    def processes(cls, random: Random) -> Mapping[str, int]:
        """Leave out, mostly, what others never wait for; let two share it, now and then."""
        mailing = random.choice((0, 0, 0, 1))
        return {
            "analytics": random.choice((0, 1)),
            "orchestrator": random.choice((1, 1, 2)),
            "notification": mailing * random.choice((1, 2)),
        }

    def __init__(self, cluster: Cluster, random: Random, schedule: Schedule) -> None:
        super().__init__(cluster, random, schedule)
        self.items = draw_items(random)
        self.plans = draw_plans(random, self.items, HORIZON_S)
        self.deliveries = draw_deliveries(random, self.items, HORIZON_S)
        #: What customers were told, by order: never to be taken back.
        self.promised: dict[str, str] = {}
        self.broken: list[str] = []
        TAKEN.clear()
        self.received = Counter({item.sku: item.stock for item in self.items})
        patience_s = random.choice((2.0, 8.0))
        policy = Policy(timeout_s=patience_s, retry=RetryPolicy(budget=SMALL))
        channel = cluster.channel("orchestrator", policy)
        self.shelves = inventory_pb2_grpc.InventoryServiceStub(cluster.channel("inventory"))
        self.orders = orchestrator_pb2_grpc.OrchestratorServiceStub(channel)

    async def prepare(self) -> None:
        """Open accounts, fill shelves."""
        users = user_pb2_grpc.UserServiceStub(self.cluster.channel("user"))
        for name, region in USERS.items():
            home = user_pb2.Address(
                address_id="home", postal_address=PostalAddress(region_code=region)
            )
            await users.CreateUser(
                user_pb2.CreateUserRequest(
                    user_id=name,
                    email=f"{name}@example.com",
                    addresses=[home],
                    default_address_id="home",
                )
            )
        await users.SuspendUser(user_pb2.SuspendUserRequest(user_id=SUSPENDED))
        for item in self.items:
            price = Money(
                currency_code="GBP",
                units=item.price_minor // 100,
                nanos=item.price_minor % 100 * 10_000_000,
            )
            await self.shelves.CreateItem(
                inventory_pb2.CreateItemRequest(sku=item.sku, unit_price=price, quantity=item.stock)
            )

    async def act(self) -> None:
        """Let every customer do what they have in mind."""
        await asyncio.gather(
            *(self._customer(plan) for plan in self.plans if self.happens(plan.order_id)),
            *(self._take_in(d) for d in self.deliveries if self.happens(f"delivery {d.number}")),
        )

    async def problems(self) -> Iterable[str]:
        """Compare what the services know with one another and with what was promised."""
        books = await read_books(self.cluster.channel)
        found = [*self.broken, *books.problems(self.plans, self.received)]
        if "analytics" in self.cluster.services:
            found += (await read_model(self.cluster.channel)).problems(books, self.plans)
        if "notification" in self.cluster.services:
            found += await mail_problems(self.cluster.channel, books)
            found += copies(self._schedule.faults)
        for order_id, promise in self.promised.items():
            state = books.placing.get(order_id)
            if state is None:
                found.append(f"{order_id} was acknowledged and is lost")
            elif promise == "CONFIRMED" and state != "COMPLETED":
                found.append(f"{order_id} was promised, and its saga is {state}")
            elif promise == "CANCELLED" and books.confirmed(order_id):
                found.append(f"{order_id} was said to be cancelled, and stands")
        return found

    async def _take_in(self, delivery: Delivery) -> None:
        await self.sleep(delivery.at_s)
        sku, quantity = delivery.item.sku, delivery.quantity
        request = inventory_pb2.RestockItemRequest(sku=sku, quantity=quantity)
        key = (KEY, f"delivery-{delivery.number}")
        await self.until_answered(lambda: self.shelves.RestockItem(request, metadata=[key]))
        self.received[sku] += quantity

    async def _customer(self, plan: Plan) -> None:
        await self.sleep(plan.at_s)
        doing = [self._place(plan)]
        if plan.twin and self.happens(f"{plan.order_id} twice"):
            doing.append(self._place(plan))
        if plan.impostor and self.happens(f"{plan.order_id} by an impostor"):
            doing.append(self._place(plan, impostor=True))
        if plan.cancel_s is not None and self.happens(f"cancel {plan.order_id}"):
            doing.append(self._cancel(plan, plan.cancel_s))
        await asyncio.gather(*doing)

    async def _place(self, plan: Plan, *, impostor: bool = False) -> None:
        lines = [pb.PlaceOrderLine(sku=i.sku, quantity=n) for i, n in plan.lines]
        request = pb.PlaceOrderRequest(
            order_id=plan.order_id,
            user_id="impostor" if impostor else plan.user_id,
            lines=lines,
            payment_token=plan.token,
            wait=plan.wait,
        )
        try:
            for _ in range(plan.tries):
                answer = await self.until_answered(
                    lambda: self.orders.PlaceOrder(request), tries=plan.tries
                )
                if answer:
                    self._promise(plan, PLACED.State.Name(answer.state))
                    regretted = plan.regrets and answer.state == PLACED.CONFIRMED
                    if regretted and self.happens(f"{plan.order_id} regretted"):
                        await self._cancel(plan)
                    if answer.state != PLACED.EXECUTING or not plan.wait:
                        return
                impatient = plan.impatient and not impostor
                if impatient and self.happens(f"{plan.order_id} called off"):
                    await self._cancel(plan)
                    return
                if answer is None:
                    return
        except Refused as refused:
            if not (impostor or plan.impostor) or refused.reason != "KEY_REUSED":
                self.broken.append(f"{plan.order_id} was refused: {refused}")

    async def _cancel(self, plan: Plan, after_s: float = 0.0) -> None:
        await self.sleep(after_s)
        request = pb.CancelOrderRequest(order_id=plan.order_id, wait=plan.wait)
        try:
            answer = await self.until_answered(
                lambda: self.orders.CancelOrder(request), tries=plan.tries
            )
        except Refused as refused:
            if refused.reason != "ORDER_NOT_FOUND":
                self.broken.append(f"cancelling {plan.order_id} was refused: {refused}")
        else:
            if answer and answer.state == CANCELLED.CANCELLED:
                self._promise(plan, "CANCELLED")

    def _promise(self, plan: Plan, state: str) -> None:
        """Remember the most that was said of an order: cancelled, confirmed, or just accepted."""
        known = self.promised.get(plan.order_id, "EXECUTING")
        self.promised[plan.order_id] = min(known, state)
