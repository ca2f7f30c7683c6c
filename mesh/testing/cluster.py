"""A whole system in one process, whose nodes can be killed at any commit and any message.

The services, their stacks, engines and databases are the real ones; only the network, the clock
and the moment of each COMMIT are the cluster's. Every outside effect passes `Faults.point`, once
before it happens and once after, so that a test can count them, and kill at each in turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from ..call import Call, Principal
from ..client import Channel, Policy
from ..errors import Unavailable
from ..layers.identity import Identities, make_token
from ..node import LOCAL, Node
from ..runtime.clock import Runtime
from ..server import Application
from ..service import Service
from ..storage.migrate import migrations, own_migrations
from ..storage.sqlite import SqliteStore
from ..transport.memory import MemoryNetwork
from .loop import VirtualClock

T = TypeVar("T")
SECRET = "of this test"  # noqa: S105


@dataclass(frozen=True, slots=True)
class Point:
    """A moment just before or just after an outside effect of *node*."""

    node: str
    effect: str  # "commit", "send" or "reply"
    method: str = ""
    after: bool = False


class Faults:
    """What goes wrong. The base class lets everything pass and counts."""

    def __init__(self) -> None:
        self.points: list[Point] = []

    def kills(self, point: Point) -> bool:
        """Whether *point*'s node dies here."""
        return False

    async def deliver(self, call: Call, send: Callable[[], Awaitable[Any]]) -> Any:
        """Deliver a message between nodes; may delay, repeat or lose it."""
        return await send()


@dataclass
class _Incarnation:
    """One life of a node."""

    name: str
    dead: bool = False
    application: Application = field(init=False)
    store: SqliteStore = field(init=False)


class _MortalClock(VirtualClock):
    """The clock of one life of a node: once that is over, no timer of it goes off."""

    def __init__(self, incarnation: _Incarnation) -> None:
        self._incarnation = incarnation

    async def sleep(self, delay_s: float) -> None:
        """Wait, for ever if the node dies meanwhile."""
        await super().sleep(delay_s)
        if self._incarnation.dead:
            await asyncio.get_running_loop().create_future()


class Cluster:
    """The services of *services*, by name, with their databases in *folder*."""

    def __init__(
        self,
        services: Mapping[str, Service[Any]],
        folder: Path,
        faults: Faults | None = None,
        roles: Mapping[str, set[str]] | None = None,
        seed: int = 0,
        restart_after_s: float = 1.0,
    ) -> None:
        self.faults = faults or Faults()
        self._services = services
        self._folder = folder
        self._restart_after_s = restart_after_s
        self._random = Random(seed)  # noqa: S311  # a seed is the point
        roles = roles or {}
        known = {name: Principal(name, frozenset(roles.get(name, ()))) for name in services}
        self._identities = Identities(SECRET, known, anonymous=LOCAL)
        self.runtime = Runtime(VirtualClock(), self._random, _inline)
        self._network = _Network(self)
        self._alive: dict[str, _Incarnation] = {}
        self._dead: list[_Incarnation] = []  # kept: collected, their frames would run `finally`
        self._restarts: set[asyncio.Task[None]] = set()
        self.kills = 0

    async def start(self) -> None:
        """Start every node."""
        for name in self._services:
            await self._boot(name)

    def channel(self, target: str, policy: Policy | None = None) -> Any:
        """Return a channel from outside the cluster, for stubs."""
        return Channel(Node(runtime=self.runtime), target, [target], self._network, policy)

    def store(self, name: str) -> SqliteStore:
        """Return the database of a live node."""
        return self._alive[name].store

    def kill(self, name: str) -> None:
        """End *name* at once; it comes back a little later."""
        incarnation = self._alive.pop(name, None)
        if incarnation is None:
            return
        self.kills += 1
        incarnation.dead = True
        self._dead.append(incarnation)
        incarnation.store.abandon()
        self._network.cut(name)
        task = asyncio.get_running_loop().create_task(self._reboot(name))
        self._restarts.add(task)
        task.add_done_callback(self._restarts.discard)

    async def point(self, incarnation: _Incarnation, point: Point) -> None:
        """Pass *point*, or die there: the frames of a dead node never go on."""
        if not incarnation.dead:
            self.faults.points.append(point)
            if self.faults.kills(point):
                self.kill(point.node)
        if incarnation.dead:
            await asyncio.get_running_loop().create_future()

    async def _reboot(self, name: str) -> None:
        await self.runtime.clock.sleep(self._restart_after_s)
        await self._boot(name)

    async def _boot(self, name: str) -> None:
        service = self._services[name]
        incarnation = _Incarnation(name)

        async def commit(function: Callable[[], T]) -> T:
            await self.point(incarnation, Point(name, "commit"))
            result = function()
            await self.point(incarnation, Point(name, "commit", after=True))
            return result

        runtime = replace(self.runtime, clock=_MortalClock(incarnation), offload=commit)
        schema = migrations(service.schema) if service.schema else []
        store = SqliteStore(self._folder / f"{name}.db", runtime, [*own_migrations(), *schema])
        node = Node(
            name,
            runtime,
            identities=self._identities,
            token=make_token(SECRET, name),
            instance=name,
        )
        transport = _NodeTransport(self, self._network, incarnation)

        def connect(target: str, policy: Policy | None = None) -> Channel:
            return Channel(node, target, [target], transport, policy)

        def connect_once(target: str) -> Channel:
            return connect(target, Policy(retry=None))

        incarnation.store = store
        incarnation.application = Application(node, service, store, connect, connect_once)
        self._alive[name] = incarnation
        self._network.join(name, incarnation)
        await incarnation.application.resume()


class _Network(MemoryNetwork):
    """Delivers between incarnations; a call to one that dies is answered UNAVAILABLE."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster.runtime)
        self._cluster = cluster
        self._incarnations: dict[str, _Incarnation] = {}
        self._pending: dict[str, set[asyncio.Future[Any]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def join(self, name: str, incarnation: _Incarnation) -> None:
        """Let *incarnation* answer at *name*."""
        self._incarnations[name] = incarnation
        self.serve(name, incarnation.application.routes)

    def cut(self, name: str) -> None:
        """Nobody answers at *name* any more, and who waits for an answer learns it."""
        self.stop(name)
        self._incarnations.pop(name, None)
        for future in self._pending.pop(name, set()):
            if not future.done():
                future.set_exception(Unavailable(f"{name} is gone"))

    async def unary(self, call: Call) -> Any:
        """Deliver *call*, race its reply against the death of who serves it."""
        incarnation = self._incarnations.get(call.address)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        self._pending.setdefault(call.address, set()).add(answer)

        async def serve() -> None:
            try:
                reply = await super(_Network, self).unary(call)
                error = None
            except Exception as raised:  # noqa: BLE001  # it is passed on
                reply, error = None, raised
            if incarnation is not None:
                point = Point(call.address, "reply", call.method.full_name)
                await self._cluster.point(incarnation, point)
            if answer.done():
                return
            answer.set_exception(error) if error else answer.set_result(reply)

        task = loop.create_task(serve())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await answer
        finally:
            self._pending.get(call.address, set()).discard(answer)


@dataclass
class _NodeTransport:
    """The network as one node has it."""

    cluster: Cluster
    network: _Network
    incarnation: _Incarnation

    async def unary(self, call: Call) -> Any:
        """Send, unless the node dies first."""
        name = self.incarnation.name
        sent = Point(name, "send", call.method.full_name)
        await self.cluster.point(self.incarnation, sent)
        try:
            return await self.cluster.faults.deliver(call, lambda: self.network.unary(call))
        finally:
            await self.cluster.point(self.incarnation, replace(sent, after=True))

    def stream(self, call: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """Streams are not disturbed."""
        return self.network.stream(call, requests)

    async def close(self) -> None:
        """Nothing to close."""


async def _inline(function: Callable[[], T]) -> T:
    return function()
