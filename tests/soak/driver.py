"""Places the orders through the gateway, remembers what was acknowledged, cancels some."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from replay.gateway import Gateway, GatewayError
from tests.soak.orders import Fate, Placement

#: A cancellation that came too early, or just while the order was confirmed: ask again.
CANCEL_TRIES = 40
CANCEL_PAUSE_S = 0.25


@dataclass
class Driver:
    """Customers, so many at a time, until told to stop.

    acknowledged: the orders whose id came back, and whether it was cancelled for good. refused: a
    sentence for each answer that no customer should get.
    """

    gateway: Gateway
    placements: Iterator[Placement]
    acknowledged: dict[str, Placement] = field(default_factory=dict)
    answered: Counter[str] = field(default_factory=Counter)
    cancelled: set[str] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)
    _stop: bool = False

    async def run(self, concurrency: int) -> None:
        """Place orders until `stop`, then bring those under way to their end."""
        async with asyncio.TaskGroup() as customers:
            for _ in range(concurrency):
                customers.create_task(self._customer())

    def stop(self) -> None:
        """Begin no other order."""
        self._stop = True

    async def _customer(self) -> None:
        for placement in self.placements:
            if self._stop:
                return
            cancelling = None
            if placement.fate is Fate.CANCELLED:
                cancelling = asyncio.create_task(self._cancel(placement))
            try:
                answer = await self.gateway.post("/v1/orders", placement.body)
            except GatewayError as error:
                self.refused.append(f"order {placement.order_id}: {error}")
            else:
                self.acknowledged[placement.order_id] = placement
                self.answered[answer["state"]] += 1
            if cancelling:
                await cancelling

    async def _cancel(self, placement: Placement) -> None:
        """Ask for it until it is cancelled; it may not have arrived yet, or just be confirmed."""
        await asyncio.sleep(placement.cancel_after_s)
        path = f"/v1/orders/{placement.order_id}:cancel"
        for _ in range(CANCEL_TRIES):
            try:
                answer = await self.gateway.post(path, {"reason": "soak", "wait": True})
            except GatewayError as error:
                if error.status != 404:  # it has not arrived yet
                    self.refused.append(f"cancelling {placement.order_id}: {error}")
                    return
            else:
                if answer["state"] == "CANCELLED":
                    self.cancelled.add(placement.order_id)
                    return
            await asyncio.sleep(CANCEL_PAUSE_S)
