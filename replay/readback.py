"""Asks the services what they hold: over REST, and the payment provider over gRPC."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

from google.protobuf import json_format

from replay.books import Books, Entry, Payment, Reservation, Stock, Totals
from replay.gateway import Gateway
from replay.loading import Services
from replay.money import from_json

SETTLE_S: Final = 60.0
_POLL_S: Final = 0.2
_UNSETTLED: Final = ("PENDING", "EXECUTING", "COMPENSATING")


async def order_states(gateway: Gateway) -> dict[str, str]:
    """The state of every order there is."""
    return {
        order["orderId"]: order["state"] async for order in gateway.each("/v1/orders", "orders")
    }


async def settle(gateway: Gateway, timeout_s: float = SETTLE_S) -> bool:
    """Wait until no saga is on its way; False if some still are after so long."""
    give_up = time.monotonic() + timeout_s
    while True:
        pages = [await gateway.get("/v1/sagas", state=state, pageSize=1) for state in _UNSETTLED]
        if not any(page.get("sagas") for page in pages):
            return True
        if time.monotonic() > give_up:
            return False
        await asyncio.sleep(_POLL_S)


async def read_books(gateway: Gateway, services: Services) -> Books:
    """Read everything, page by page. Nothing should be under way: see `settle`."""
    return Books(
        orders=await order_states(gateway),
        payments={
            payment["orderId"]: Payment(payment["state"], from_json(payment["amount"]))
            async for payment in gateway.each("/v1/payments", "payments")
        },
        reservations={
            kept["orderId"]: Reservation(
                kept["state"], {line["sku"]: int(line["quantity"]) for line in kept["lines"]}
            )
            async for kept in gateway.each("/v1/reservations", "reservations")
        },
        shipments={
            shipment["orderId"]: shipment["state"]
            async for shipment in gateway.each("/v1/shipments", "shipments")
        },
        sagas={
            saga["key"]: saga["state"]
            async for saga in gateway.each("/v1/sagas", "sagas", name="place_order")
        },
        entries=await _ledger_entries(gateway),
        ledger=_totals(await gateway.get("/v1/ledger/summary")),
        provider=_totals(json_format.MessageToDict(await services.provider_totals())),
        stock={
            units["sku"]: Stock(
                *(int(units.get(place, 0)) for place in ("free", "reserved", "shipped"))
            )
            async for units in gateway.each("/v1/stock", "stock")
        },
    )


async def _ledger_entries(gateway: Gateway) -> dict[str, tuple[Entry, ...]]:
    entries: dict[str, tuple[Entry, ...]] = {}
    async for entry in gateway.each("/v1/ledger/entries", "entries"):
        amount = entry["amount"]
        read = Entry(entry["kind"], amount["currencyCode"], from_json(amount))
        entries[entry["orderId"]] = (*entries.get(entry["orderId"], ()), read)
    return entries


def _totals(summary: Mapping[str, Any]) -> dict[str, Totals]:
    """The two summaries, the payment service's and the provider's, have the same form."""
    return {
        row["currencyCode"]: Totals(
            charged=from_json(row.get("charged", {})),
            refunded=from_json(row.get("refunded", {})),
            charges=int(row.get("chargeCount", 0)),
            refunds=int(row.get("refundCount", 0)),
        )
        for row in summary.get("totals", ())
    }
