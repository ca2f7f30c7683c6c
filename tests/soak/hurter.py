"""Hurts the connections of a running system, each way there is, at random instants.

What is frozen stays frozen: only who waits on it can find out, and connect anew.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from mesh.testing.tcp_proxy import Faults, Link
from tests.soak.network import Network
from tests.support.waiting import POLL_S

#: What is done to a connection. Who uses it is told of these, or finds it slow;
BREAKS: Final[dict[str, Callable[[Link], None]]] = {
    "reset": lambda link: link.reset(),
    "request cut": lambda link: link.cut("request"),
    "reply cut": lambda link: link.cut("reply"),
    "slow": lambda link: link.apply(Faults(delay_s=0.3)),
    "narrow": lambda link: link.apply(Faults(bytes_per_s=50_000)),
}
#: of these nobody is told.
FREEZES: Final[dict[str, Callable[[Link], None]]] = {
    "black hole": lambda link: link.freeze(),
    "requests lost": lambda link: link.freeze("request"),
    "replies lost": lambda link: link.freeze("reply"),
}
HURTS: Final = BREAKS | FREEZES
#: How long a connection is looked for, where all there were are frozen.
LOOK_S: Final = 20.0


@dataclass
class Hurter:
    """Breaks connections to each target *each* times, on the average *gap_s* apart; freezes some.

    targets: in the order in which an order comes to them. Those that freeze do so from the last to
    the first: then somebody waits at each, and all find out at the same time.
    """

    network: Network
    rng: random.Random
    targets: Sequence[str]
    gap_s: float
    each: int
    done: Counter[tuple[str, str]] = field(default_factory=Counter)

    async def run(self) -> None:
        """Do it all once."""
        for target, what in list(self._plan()):  # drawn before anything happens
            await asyncio.sleep(self.rng.expovariate(1 / self.gap_s))
            if link := await self._link(target):
                self.network.do(HURTS[what], link)
                self.done[target, what] += 1
        for target in self.targets:  # what is only slow would be so for ever
            for link in self._passing(target):
                self.network.do(Link.heal, link)

    def _plan(self) -> Iterator[tuple[str, str]]:
        """Each target in turn, and each way in turn, from another target on each time."""
        breaks = self.rng.sample(list(BREAKS), len(BREAKS))
        for turn in range(self.each):
            targets = self.rng.sample(self.targets, len(self.targets))
            for number, target in enumerate(targets):
                yield target, breaks[(number + turn * len(targets)) % len(breaks)]
        frozen = self.rng.sample(self.targets, len(FREEZES))
        frozen.sort(key=self.targets.index, reverse=True)
        yield from zip(frozen, self.rng.sample(list(FREEZES), len(FREEZES)), strict=True)

    async def _link(self, target: str) -> Link | None:
        """A connection to *target* through which something passes."""
        ends = time.monotonic() + LOOK_S
        while time.monotonic() < ends:
            if links := self._passing(target):
                return self.rng.choice(links)
            await asyncio.sleep(POLL_S)
        return None

    def _passing(self, target: str) -> list[Link]:
        return [link for link in self.network.links(target) if not link.faults.frozen]
