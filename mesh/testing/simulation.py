"""A system of ours or yours, run from a seed: what it does, what goes wrong, what must hold.

One seed is one run, the same on every machine: `prepare` sets the scene in calm, `act` is what
clients do while everything goes wrong that can; then the faults end, everything that was begun
must come to its end, and `problems` looks at what is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, ClassVar, TypeVar

from ..errors import MeshError, Outcome
from ..service import Service
from .chaos import Chaos
from .cluster import Cluster
from .databases import Databases
from .draws import Draws
from .endings import lost_events, open_ends, risen
from .loop import LivelockError, SimulatedLoop
from .schedule import CLIENT, Chronicle, Fault, Happens, Schedule, everything

T = TypeVar("T")

#: Whatever was begun ends within this time of the faults' end.
PATIENCE_S = 1800.0


class Simulation(ABC):
    """What is simulated: make a subclass, and one instance of it is made for each seed.

    Draw in the constructor all that clients are going to do: then it stays what it is whichever
    faults are left out.
    """

    services: ClassVar[Mapping[str, Service[Any]]]
    roles: ClassVar[Mapping[str, set[str]]] = {}

    @classmethod
    def processes(cls, random: Random) -> Mapping[str, int]:
        """Return how many processes services have in this seed, if not one; 0: it is left out."""
        return {}

    def __init__(self, cluster: Cluster, random: Random, schedule: Schedule) -> None:
        self.cluster = cluster
        self.random = random
        self._schedule = schedule

    async def prepare(self) -> None:  # noqa: B027  # there may be nothing to prepare
        """Set the scene. Nothing goes wrong yet."""

    @abstractmethod
    async def act(self) -> None:
        """Do what clients do; it may end before the faults do, or after."""

    @abstractmethod
    async def problems(self) -> Iterable[str]:
        """Return what is not as it must be, now that everything has come to its end."""

    def happens(self, what: str) -> bool:
        """Whether clients do *what*: they do, unless it is being left out of a replay."""
        return self._schedule.admits(Fault(CLIENT, what, 1))

    async def sleep(self, delay_s: float) -> None:
        """Wait."""
        await self.cluster.runtime.clock.sleep(delay_s)

    async def until_answered(
        self, ask: Callable[[], Awaitable[T]], every_s: float = 1.0, tries: int = 10_000
    ) -> T | None:
        """Ask until there is a definite answer; return it, or None after that many tries.

        Raises:
            Refused: the answer is no.
        """
        for _ in range(tries):
            try:
                return await ask()
            except MeshError as error:
                if error.outcome is Outcome.REFUSED:
                    raise
            await self.sleep(every_s)
        return None


@dataclass
class Result:
    """What became of one seed."""

    seed: int
    problems: list[str]
    fingerprint: str
    steps: int
    virtual_s: float
    faults: list[Fault]
    met: Counter[tuple[str, str]]
    story: list[str] = field(default_factory=list)


def run_seed(
    simulation: type[Simulation], seed: int, happens: Happens = everything, told: bool = False
) -> Result:
    """Run one seed.

    Args:
        simulation: of what.
        seed: which run.
        happens: which of the seed's faults do.
        told: whether the story is to be told.
    """
    loop = SimulatedLoop(Random(f"{seed}/turns"))  # noqa: S311  # a seed is the point
    schedule, chronicle = Schedule(happens), Chronicle(told)
    chaos = Chaos(Draws(seed, loop, schedule, chronicle))
    databases = _databases()
    with _uncollected():
        processes = simulation.processes(Random(f"{seed}/processes"))  # noqa: S311
        services = {n: s for n, s in simulation.services.items() if processes.get(n, 1)}
        databases.lay_out(services)
        cluster = Cluster(
            services,
            databases.folder,
            chaos,
            simulation.roles,
            seed,
            bus=True,
            processes=processes,
            connect=databases.connect,
        )
        clients = Random(f"{seed}/clients")  # noqa: S311

        async def run() -> list[str]:
            return await _Run(simulation(cluster, clients, schedule), cluster, chaos).to_the_end()

        try:
            problems = loop.run(run())
        except LivelockError as error:
            problems = [str(error)]
        finally:
            cluster.abandon()
            loop.close()
        problems += [f"a callback raised {error!r}" for error in loop.errors]
    return Result(
        seed=seed,
        problems=problems,
        fingerprint=chronicle.fingerprint(),
        steps=loop.steps,
        virtual_s=loop.time(),
        faults=schedule.faults,
        met=schedule.met,
        story=chronicle.lines,
    )


@dataclass
class _Run:
    """One run, from its beginning to its end."""

    simulation: Simulation
    cluster: Cluster
    chaos: Chaos

    async def to_the_end(self) -> list[str]:
        await self.cluster.start()
        await self.simulation.prepare()
        self.chaos.begin(self.cluster)
        acting = asyncio.get_running_loop().create_task(self.simulation.act())
        await asyncio.sleep(self.chaos.rates.faults_s)
        self.chaos.end()
        try:
            async with asyncio.timeout(PATIENCE_S):
                await acting
        except TimeoutError:
            return ["the clients do not come to an end"]
        except MeshError as error:
            return [f"a client got {error}"]
        if open_ends := await self._settle():
            return open_ends
        found = [*await risen(self.cluster), *await lost_events(self.cluster)]
        return [*found, *self.cluster.overspent, *await self.simulation.problems()]

    async def _settle(self) -> list[str]:
        """Wait until everything that was begun has ended; return what has not."""
        wait_s, ends = 1.0, asyncio.get_running_loop().time() + PATIENCE_S
        while True:
            open_ends = await self._open_ends()
            if not open_ends or asyncio.get_running_loop().time() >= ends:
                return open_ends
            await asyncio.sleep(wait_s)
            wait_s = min(60.0, 2 * wait_s)

    async def _open_ends(self) -> list[str]:
        late = self.chaos.traffic.in_the_air
        found = [f"{late} messages are on their way"] * bool(late)
        return found + await open_ends(self.cluster)


@functools.cache
def _databases() -> Databases:
    """Return those of this process."""
    return Databases()


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """When garbage is collected depends on what ran before; so, not now."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
