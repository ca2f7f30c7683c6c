"""What must hold of the stock: no unit comes from nowhere, and the counters are the reservations'.

An item's counters are one row, read at once: their sum is exact at any time. Its reservations are
read in pages, while orders go on being placed. So they give bounds: what was settled before the
counters were read is in them, what moved since may be. Where nothing moves the bounds are equal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from reconcile.catalogue import Finding
from shop.inventory.v1.inventory_pb2 import Reservation, Stock

#: The clocks of the services and ours may differ by so much.
CLOCK_SKEW_S: Final = 5.0


@dataclass(slots=True)
class Shelf:
    """Adds up one scan: all stock first, then all reservations. Its size is the price list's.

    began_at: when the scan began, in seconds since the epoch.
    """

    began_at: float
    stock: dict[str, tuple[int, int, int, int]] = field(default_factory=dict)
    held: Counter[str] = field(default_factory=Counter)
    taken: Counter[str] = field(default_factory=Counter)
    moved: Counter[str] = field(default_factory=Counter)

    def put(self, it: Stock) -> None:
        """Take in an item's counters."""
        self.stock[it.sku] = (it.free, it.reserved, it.shipped, it.received)

    def count(self, it: Reservation) -> None:
        """Take in a reservation."""
        is_settled = it.update_time.seconds < self.began_at - CLOCK_SKEW_S
        if not is_settled:
            units = self.moved
        elif it.state == Reservation.HELD:
            units = self.held
        elif it.state == Reservation.COMMITTED:
            units = self.taken
        else:
            return
        for line in it.lines:
            units[line.sku] += line.quantity

    def check(self) -> Iterator[Finding]:
        """What is wrong with the stock."""
        for sku in sorted(self.stock.keys() | self.held.keys() | self.taken.keys()):
            free, reserved, shipped, received = self.stock.get(sku, (0, 0, 0, 0))
            there = free + reserved + shipped
            if there != received or min(free, reserved, shipped) < 0:
                text = f"{free} free + {reserved} reserved + {shipped} shipped, {received} received"
                yield Finding("STOCK_NOT_CONSERVED", sku, text)
            for name, counted, units in (
                ("reserved", reserved, self.held[sku]),
                ("shipped", shipped, self.taken[sku]),
            ):
                if not units <= counted <= units + self.moved[sku]:
                    most = f" to {units + self.moved[sku]}" if self.moved[sku] else ""
                    text = f"{counted} {name}, by its reservations {units}{most}"
                    yield Finding("STOCK_DIFFERS", sku, text)
