"""A whole system in one process, whose nodes can be killed at any commit, message and await.

The services, their stacks, engines and databases are the real ones; only the network, the clock,
chance and the moment of each COMMIT are the cluster's. Every outside effect passes `Faults.kills`,
once before it happens and once after, so that a test can count them, and kill at each in turn.
"""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextvars import Context
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, TypeVar, cast

from ..call import Principal
from ..client import Channel, Policy
from ..events.memory import MemoryBus
from ..layers.circuit import CircuitConfig
from ..layers.identity import Identities, make_token
from ..node import LOCAL, Node
from ..runtime.clock import Runtime
from ..runtime.metrics import Metrics
from ..server import Application
from ..service import Service
from ..storage.port import StorageError
from ..storage.sqlite import SqliteStore
from ..storage.sqlite_file import Connect, GuardedConnection
from .bus import NodeBus
from .databases import schema_of
from .faults import Faults, Point
from .lazy import LazyChannel
from .life import Life
from .loop import SimulatedLoop, VirtualClock
from .network import Network, NodeTransport, context_of
from .shared import SharedStore, Turns
from .tally import Tally
from .tracer import SeededTracer

__all__ = ["Cluster", "Faults", "Point"]

T = TypeVar("T")
SECRET = "of this test"  # noqa: S105
#: As in `mesh.toml` of a system whose supervisor brings back what died within seconds.
RESTARTED_SOON = Policy(circuit=CircuitConfig(open_s=2.0))
ONCE = RESTARTED_SOON.once()


class Cluster:
    """The services of *services*, by name, with their databases in *folder*.

    With *bus* they have a broker, which outlives them; without, events wait in the outboxes.
    *processes* says how many processes a service has, if not one; they share its database, and are
    called ``order``, ``order-2`` and so on. *connect* opens their connections to their databases.
    """

    def __init__(
        self,
        services: Mapping[str, Service[Any]],
        folder: Path,
        faults: Faults | None = None,
        roles: Mapping[str, set[str]] | None = None,
        seed: int = 0,
        bus: bool = False,
        processes: Mapping[str, int] | None = None,
        connect: Connect = GuardedConnection,
    ) -> None:
        self.faults = faults or Faults()
        self.services = services
        self._folder = folder
        self._connect = connect
        self._seed = seed
        self._addresses = _addresses(services, processes or {})
        self._service_of = {node: name for name, nodes in self._addresses.items() for node in nodes}
        self._turns = {name: Turns() for name, nodes in self._addresses.items() if len(nodes) > 1}
        roles = roles or {}
        known = {name: Principal(name, frozenset(roles.get(name, ()))) for name in services}
        self._identities = Identities(SECRET, known, anonymous=LOCAL)
        self.runtime = Runtime(VirtualClock(), self._random("outside"), _inline)
        self.network = Network(self.runtime, lambda: self.faults, self._point)
        self._broker = MemoryBus(self.runtime) if bus else None
        tracer = self._tracer("outside")
        self._outside = Node(runtime=self.runtime, metrics=_unread(), tracer=tracer)
        self._alive: dict[str, Life] = {}
        self._lives: Counter[str] = Counter()
        self._tallies: list[Tally] = []
        self.kills = 0

    async def start(self) -> None:
        """Start every node."""
        for name in self.names:
            await self._boot(name)

    def channel(self, target: str, policy: Policy | None = None) -> Any:
        """Return a channel from outside the cluster, for stubs."""
        return self._open(replace(self._outside), target, policy or Policy())  # each its own client

    @property
    def names(self) -> list[str]:
        """The nodes' names."""
        return list(self._service_of)

    @property
    def complete(self) -> bool:
        """Whether every node is up."""
        return self._alive.keys() == self._service_of.keys()

    @property
    def undelivered(self) -> int:
        """How many events are with the broker still."""
        return self._broker.unconfirmed if self._broker else 0

    @property
    def overspent(self) -> list[str]:
        """Who sent more retries than their budgets pay for."""
        return [tally.problem for tally in self._tallies if tally.problem]

    def rekindle(self, name: str) -> None:
        """Ask the faults anew when *name* dies."""
        self._alive[name].fuse = self.faults.steps_to_live(name)

    def store(self, name: str) -> SqliteStore:
        """Return the database of a live node."""
        return self._alive[name].store

    def kill(self, name: str) -> None:
        """End *name* at once; it comes back a little later."""
        life = self._alive.pop(name, None)
        if life is None:
            return
        self.kills += 1
        life.dead = True
        _loop().go_on(life)
        life.store.abandon()
        self.network.cut(life)
        down_s = self.faults.down_s(name)
        asyncio.get_running_loop().call_later(down_s, self._boot, name, context=Context())

    def stop(self, name: str) -> None:
        """Let *name* do nothing, as SIGSTOP does, until it goes on; others do not learn of it."""
        if name in self._alive:
            self._alive[name].stopped = self._alive[name].stopped or []

    def go_on(self, name: str) -> None:
        """Let *name* go on as if no time had passed, if it is stopped."""
        if name in self._alive:
            _loop().go_on(self._alive[name])

    def abandon(self) -> None:
        """Let go of all databases; the cluster is not to be used any more."""
        for life in self._alive.values():
            life.dead = True
            life.store.abandon()

    async def _point(self, life: Life, point: Point) -> None:
        """Pass *point*, or die there: the frames of a dead node never go on."""
        if not life.dead:
            self.faults.points.append(point)
            if self.faults.kills(point):
                self.kill(point.node)
        if life.dead:
            await asyncio.get_running_loop().create_future()

    def _burnt_out(self, name: str) -> None:
        if self.faults.kills(Point(name, "step")):
            self.kill(name)
        else:
            self.rekindle(name)

    def _boot(self, name: str) -> asyncio.Task[None]:
        """Begin a life of *name*."""
        self._lives[name] += 1
        self.faults.starts(name)
        life = self._alive[name] = Life(name, self.faults.steps_to_live(name), self._burnt_out)
        self._build(life)
        task = asyncio.get_running_loop().create_task(self._live(life), context=context_of(life))
        task.add_done_callback(_check_started, context=Context())
        return task

    async def _live(self, life: Life) -> None:
        """Serve, and take up what was left unfinished, as `mesh run` does."""
        self.network.join(life)
        try:
            await life.application.resume()
        except StorageError:
            self.kill(life.name)  # a process that cannot start ends, and is started again

    def _build(self, life: Life) -> None:
        """Open the database, and put the stacks together."""
        name = life.name

        async def commit(function: Callable[[], T]) -> T:
            await self._point(life, Point(name, "commit"))
            result = await self.faults.commit(name, function)
            await self._point(life, Point(name, "commit", after=True))
            return result

        which = f"{name}/{self._lives[name]}"
        life.network = self.network
        clock = VirtualClock(lambda: self.faults.skew_s(name))
        life.runtime = Runtime(clock, self._random(which), commit)
        service = self._service_of[name]
        life.store = self._store(life, service)
        node = Node(
            service,
            life.runtime,
            tracer=self._tracer(which),
            metrics=_unread(),
            identities=self._identities,
            token=make_token(SECRET, service),
            instance=name,
        )
        connect = functools.partial(self._open, node, policy=RESTARTED_SOON, life=life)
        connect_once = functools.partial(self._open, node, policy=ONCE, life=life)

        bus = NodeBus(self._broker, self.network, life) if self._broker else None
        life.application = Application(
            node, self.services[service], life.store, connect, connect_once, bus
        )

    def _open(
        self, node: Node, target: str, policy: Policy, life: Life | None = None
    ) -> LazyChannel:
        """Open a channel, whose retries are counted."""
        budget = policy.retry.budget if policy.retry else None
        tally = Tally(f"{life.name if life else 'outside'} to {target}", budget)
        self._tallies.append(tally)
        transport = NodeTransport(self.network, tally, life)
        channel = Channel(node, target, self._addresses[target], transport, policy)
        return LazyChannel(target, channel, tally)

    def _store(self, life: Life, service: str) -> SqliteStore:
        """Open the database of *service*; if it is shared, its clock is too."""
        path, schema = self._folder / f"{service}.db", schema_of(self.services[service])
        turns = self._turns.get(service)
        if not turns:
            return SqliteStore(path, life.runtime, schema, self._connect)
        runtime = replace(life.runtime, clock=VirtualClock(lambda: self.faults.skew_s(service)))
        return SharedStore(path, life, turns, runtime, schema, self._connect)

    def _random(self, which: str) -> Random:
        return Random(f"{self._seed}/{which}")  # noqa: S311  # a seed is the point

    def _tracer(self, which: str) -> SeededTracer:
        return SeededTracer(self._random(f"spans of {which}"))


def _addresses(services: Iterable[str], processes: Mapping[str, int]) -> dict[str, list[str]]:
    """Return the nodes of each service; the first has its name."""
    more = {name: range(2, 1 + processes.get(name, 1)) for name in services}
    return {name: [name, *(f"{name}-{number}" for number in more[name])] for name in services}


@functools.cache
def _unread() -> Metrics:
    """Return metrics that nobody reads, for all nodes: making some takes longer than a call."""
    return Metrics()


def _loop() -> SimulatedLoop:
    return cast("SimulatedLoop", asyncio.get_running_loop())


def _check_started(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.result()  # its exception is the loop's to keep


async def _inline(function: Callable[[], T]) -> T:
    return function()
