"""Everything that can go wrong, drawn from a seed.

`Chaos` rages for a while and then ends for good: after that, whatever was begun must come to its
end. What it has delayed still arrives.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVar

import apsw

from .bus import BROKER
from .draws import Draws
from .faults import Faults, Point
from .network import Message
from .traffic import Traffic

if TYPE_CHECKING:
    from .cluster import Cluster

T = TypeVar("T")


class Chaos(Faults):
    """The faults of one seed."""

    def __init__(self, draws: Draws) -> None:
        super().__init__()
        self._draws = draws
        self.rates = draws.rates
        self._silent: set[str] = set()
        self.traffic = Traffic(draws, self._silent)
        self._cluster: Cluster | None = None
        self._skews: dict[str, float] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.raging = False

    def begin(self, cluster: Cluster) -> None:
        """Let things go wrong in *cluster*."""
        self._cluster = cluster
        self.raging = True
        for name in cluster.names:
            limit = self.rates.skew_s
            self._skews[name] = self._draws.stream("skew", name).uniform(-limit, limit)
            cluster.rekindle(name)
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self.traffic.cut_now_and_then(["outside", *cluster.names, BROKER])),
            loop.create_task(self._set_clocks_now_and_then(cluster.names)),
            loop.create_task(self._stop_now_and_then(cluster)),
        ]

    def end(self) -> None:
        """From now on nothing goes wrong."""
        self.raging = False
        for task in self._tasks:
            task.cancel()
        self.traffic.heal()
        if self._cluster:
            for name in self._cluster.names:
                self._cluster.go_on(name)
        self._draws.note("all faults end")

    # --- deaths

    def kills(self, point: Point) -> bool:
        """Whether *point*'s node dies here."""
        if not self.raging:
            return False
        share = 1.0 if point.effect == "step" else self.rates.kills_at_points
        if not share or self._draws.stream(point).random() >= share:
            return False
        when = "after" if point.after else "before"
        method = point.method.rpartition("/")[2]
        place = "anywhere" if point.effect == "step" else f"{when} {point.effect} {method}".strip()
        number = self._draws.occasion(point)
        if not self._draws.admits("kill", f"{point.node} {place}", number):
            return False
        self._meet("kill", point.node)
        alone = self._draws.stream("silent", point.node).random() >= self.rates.silent_deaths
        (self._silent.discard if alone else self._silent.add)(point.node)
        self._draws.note(f"{point.node} dies {place}")
        return True

    def starts(self, node: str) -> None:
        """A life of *node* begins."""
        self._draws.note(f"{node} starts")

    def steps_to_live(self, node: str) -> int:
        """After how many steps *node* dies wherever it is; -1: never."""
        mean = self.rates.steps_to_live
        if not (self.raging and mean):
            return -1
        return 1 + int(self._draws.stream("life", node).expovariate(1 / mean))

    def down_s(self, node: str) -> float:
        """How long *node*, which just died, is away."""
        return self._draws.stream("down", node).expovariate(1 / self.rates.down_s)

    async def _stop_now_and_then(self, cluster: Cluster) -> None:
        """Stop whole processes for a while: they never notice, others take them for dead."""
        every_s = self.rates.stop_every_s
        if not every_s:
            return
        loop = asyncio.get_running_loop()
        for number in itertools.count():
            random = self._draws.random(f"stop/{number}")
            await asyncio.sleep(random.expovariate(1 / every_s))
            node, lasts_s = random.choice(cluster.names), random.expovariate(1 / self.rates.stop_s)
            if self._draws.admits("stop", node, number, f"{lasts_s:.1f} s"):
                self._meet("stop", node)
                self._draws.note(f"{node} is stopped")
                cluster.stop(node)
                loop.call_later(lasts_s, cluster.go_on, node, context=Context())

    # --- clocks

    def skew_s(self, node: str) -> float:
        """By how much the wall clock of *node* is wrong, now."""
        return self._skews.get(node, 0.0)

    async def _set_clocks_now_and_then(self, nodes: list[str]) -> None:
        every_s, limit = self.rates.jump_every_s, self.rates.skew_s
        if not (every_s and limit):
            return
        for number in itertools.count():
            random = self._draws.random(f"jump/{number}")
            await asyncio.sleep(random.expovariate(1 / every_s))
            node, skew_s = random.choice(nodes), random.uniform(-limit, limit)
            if self._draws.admits("jump", node, number, f"{skew_s:+.3f} s"):
                self._meet("jump", node)
                self._skews[node] = skew_s
                self._draws.note(f"the clock of {node} is set to {skew_s:+.3f} s")

    # --- disks

    async def commit(self, node: str, commit: Callable[[], T]) -> T:
        """Take the time of a disk; fail now and then, before or after the writes are durable."""
        if not self.raging:
            return commit()
        random, rates = self._draws.stream("commit", node), self.rates
        takes_s = random.expovariate(1 / rates.commit_s) if rates.commit_s else 0.0
        fails, durable = random.random() < rates.failing_commits, random.random() < 0.5
        kind = "failed commit, durable" if durable else "failed commit, lost"
        number = self._draws.occasion("commit", node)
        if takes_s:
            await asyncio.sleep(takes_s)
        if not (fails and self._draws.admits(kind, node, number)):
            return commit()
        self._meet(kind, node)
        self._draws.note(f"{node}: {kind}")
        if durable:
            commit()
        raise apsw.IOError("disk I/O error")

    # --- the network

    async def deliver(self, message: Message, send: Callable[[], Awaitable[Any]]) -> Any:
        """Deliver *message*, as the traffic is."""
        return await (self.traffic.carry(message, send) if self.raging else send())

    def _meet(self, kind: str, node: str) -> None:
        """A fault of *node* meets all calls that it makes and serves."""
        assert self._cluster is not None
        for message in self._cluster.network.flights:
            if message.caller == node:
                self._draws.meet(f"{kind} of caller", message.method)
            if message.target == node:
                self._draws.meet(kind, message.method)
