"""What follows from events alone and must come to agree with the services: read model, mails."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from mesh.testing.schedule import Fault
from shop.analytics.v1 import analytics_pb2, analytics_pb2_grpc
from shop.notification.v1 import notification_pb2, notification_pb2_grpc
from shop.order.v1 import order_pb2
from shop.payment.v1 import payment_pb2
from shop.shipping.v1 import shipping_pb2
from tests.simulation.books import PAGE, Books, to_minor
from tests.simulation.plans import USERS, Plan
from tests.simulation.post import TAKEN


@dataclass
class ReadModel:
    """What analytics knows: each order's states, how many were sold, for how much."""

    seen: dict[str, tuple[str, str, str]]
    sold_orders: int
    sold_minor: int

    def problems(self, books: Books, plans: list[Plan]) -> Iterator[str]:
        """Yield what is not as in *books*."""
        stand = [plan for plan in plans if books.confirmed(plan.order_id)]
        due = sum(plan.price_minor for plan in stand)
        if (self.sold_orders, self.sold_minor) != (len(stand), due):
            yield f"{self.sold_orders} sold for {self.sold_minor}, in truth {len(stand)} for {due}"
        for order_id, state in books.orders.items():
            found = self.seen.get(order_id)
            is_so = (state, books.payments.get(order_id, ""), books.shipments.get(order_id, ""))
            if found != is_so:
                yield f"the read model has {order_id} as {found}, it is {is_so}"


async def read_model(channel: Any) -> ReadModel:
    """Ask analytics."""
    analytics = analytics_pb2_grpc.AnalyticsServiceStub(channel("analytics"))
    seen = {}
    for user in USERS:
        request = analytics_pb2.ListCustomerOrdersRequest(user_id=user, page_size=PAGE)
        for found in (await analytics.ListCustomerOrders(request)).orders:
            seen[found.order_id] = (
                _name(order_pb2.Order, found.state),
                _name(payment_pb2.Payment, found.payment_state),
                _name(shipping_pb2.Shipment, found.shipment_state),
            )
    days = (await analytics.ListDailySales(analytics_pb2.ListDailySalesRequest())).days
    return ReadModel(seen, sum(d.order_count for d in days), sum(to_minor(d.revenue) for d in days))


async def mail_problems(channel: Any, books: Books) -> list[str]:
    """Return what is wrong with the mails: lost ones, and those that nobody knows of."""
    notes = notification_pb2_grpc.NotificationServiceStub(channel("notification"))
    mails = (await notes.ListMails(notification_pb2.ListMailsRequest(page_size=PAGE))).mails
    noted = {mail.message_id for mail in mails}
    told = {(mail.order_id, mail.template) for mail in mails}
    return [
        *(f"mail {one} is noted and was never sent" for one in sorted(noted - TAKEN.keys())),
        *(f"mail {one} was sent and is not noted" for one in sorted(TAKEN.keys() - noted)),
        *(
            f"{order_id} is {state}, and no mail says so"
            for order_id, state in books.orders.items()
            if state in ("CONFIRMED", "CANCELLED")
            and (order_id, f"order_{state.lower()}") not in told
        ),
    ]


def copies(faults: Iterable[Fault]) -> list[str]:
    """Return that mails were sent more than once, and nothing went wrong that explains it.

    Each process has one mail under way, so each fault of theirs repeats one at most; but when
    the clock that they share is set, each may take the other's for given up.
    """
    explained = 0
    for fault in faults:
        _, on_its_way, to = fault.where.partition(">")
        its_own = fault.where.startswith("notification") and fault.kind != "cut"
        if its_own and (to.startswith("mail") or not on_its_way):
            explained += 2 if fault.kind == "jump" else 1
    twice = TAKEN.total() - len(TAKEN)
    return [f"{twice} mails are copies, of which {explained} are explained"] * (twice > explained)


def _name(kind: Any, state: int) -> str:
    return str(kind.State.Name(state)) if state else ""
