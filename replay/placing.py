"""Places the orders through the gateway, a bounded number at a time."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from replay.gateway import Gateway, GatewayError
from replay.plan import PlannedOrder
from replay.pool import for_each

PATIENCE_S: Final = 180.0  # from an order's acceptance to its end
FIRST_DELAY_S: Final = 0.05
MAX_DELAY_S: Final = 1.0
_ENDED: Final = {"COMPLETED": "CONFIRMED", "FAILED": "CANCELLED"}


@dataclass(slots=True)
class Placed:
    """What became of the orders so far, as the gateway answered. The report does not rely on it.

    sagas: the saga's id by order id. failures: a sentence for each order without a clear answer.
    """

    states: Counter[str] = field(default_factory=Counter)
    sagas: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    duration_s: float = 0.0

    @property
    def count(self) -> int:
        """How many were accepted."""
        return self.states.total()


async def place_all(
    gateway: Gateway,
    orders: Iterable[PlannedOrder],
    placed: Placed,
    done: Callable[[], None],
    *,
    concurrency: int,
) -> None:
    """Place the orders and wait for the end of each; `placed` is kept up to date meanwhile.

    An order that is refused by the gateway itself goes to `placed.failures`. Raises
    UnreachableError, which ends it.
    """
    start = time.monotonic()

    async def act(planned: PlannedOrder) -> None:
        await _place(gateway, planned, placed)
        placed.duration_s = time.monotonic() - start
        done()

    await for_each(orders, act, concurrency=concurrency)


async def place(gateway: Gateway, planned: PlannedOrder) -> Any:
    """The answer to placing one order. Placing it again answers the same and does nothing."""
    return await gateway.post("/v1/orders", planned.body())


async def _place(gateway: Gateway, planned: PlannedOrder, placed: Placed) -> None:
    order_id = planned.order.order_id
    try:
        answer = await place(gateway, planned)
        placed.sagas[order_id] = answer["sagaId"]
        state = answer["state"]
        if state == "EXECUTING":
            state = await _wait(gateway, answer["sagaId"])
    except GatewayError as error:
        placed.failures.append(f"order {order_id}: {error}")
    else:
        placed.states[state] += 1
        if state not in _ENDED.values():
            placed.failures.append(f"order {order_id}: its saga is {state}")


async def _wait(gateway: Gateway, saga_id: str) -> str:
    """Wait for a saga's end: what it made of its order, or the state it is stuck in."""
    give_up = time.monotonic() + PATIENCE_S
    delay_s = FIRST_DELAY_S
    while True:
        saga = await gateway.get(f"/v1/sagas/{saga_id}")
        state: str = saga["state"]
        if state in _ENDED:
            return _ENDED[state]
        if state == "PARKED" or time.monotonic() > give_up:
            return state
        await asyncio.sleep(delay_s)
        delay_s = min(MAX_DELAY_S, delay_s * 2)
