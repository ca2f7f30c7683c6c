"""What the services tell of every order, and what the read model tells: live, over the gateway."""

from __future__ import annotations

from typing import Any, TypeAlias

from tests.e2e.system import System

#: By order: its state, its payment's and its shipment's; "" where there is none.
Told: TypeAlias = dict[str, tuple[str, str, str]]


def as_services_tell(system: System) -> Told:
    """What order, payment and shipping tell, each of its own."""
    payments = {one["orderId"]: one["state"] for one in pages(system, "/v1/payments", "payments")}
    shipments = {
        one["orderId"]: one["state"] for one in pages(system, "/v1/shipments", "shipments")
    }
    return {
        (id_ := one["orderId"]): (one["state"], payments.get(id_, ""), shipments.get(id_, ""))
        for one in pages(system, "/v1/orders", "orders")
    }


def as_analytics_tells(system: System) -> Told:
    """The same, as the read model has it, over all customers."""
    customers = {one["userId"] for one in pages(system, "/v1/orders", "orders")}
    return {
        one["orderId"]: (
            _state(one["state"]),
            _state(one["paymentState"]),
            _state(one["shipmentState"]),
        )
        for customer in sorted(customers)
        for one in pages(system, f"/v1/analytics/customers/{customer}/orders", "orders")
    }


def pages(system: System, path: str, items: str) -> list[Any]:
    """All items of a list, page after page."""
    found, token = [], ""
    while True:
        page = system.read(path, pageSize=1000, pageToken=token)
        found += page.get(items, [])
        token = page.get("nextPageToken", "")
        if not token:
            return found


def _state(state: str) -> str:
    return "" if state == "STATE_UNSPECIFIED" else state
