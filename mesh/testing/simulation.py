"""A system of ours or yours, run from a seed: what it does, what goes wrong, what must hold.

One seed is one run, the same on every machine: `prepare` sets the scene in calm, `act` is what
clients do while everything goes wrong that can; then the faults end, everything that was begun
must come to its end, and `problems` looks at what is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, ClassVar, TypeVar

from ..errors import MeshError, Outcome
from ..saga.records import TERMINAL
from ..saga.v1.saga_pb2 import Saga
from ..service import Service
from ..storage.port import Tx
from .chaos import Chaos
from .cluster import Cluster
from .databases import lay_out, memory_folder
from .draws import Draws
from .loop import LivelockError, SimulatedLoop
from .schedule import Chronicle, Fault, Schedule

T = TypeVar("T")

#: Whatever was begun ends within this time of the faults' end.
PATIENCE_S = 7200.0


class Simulation:
    """What is simulated: make a subclass, and one instance of it is made for each seed."""

    services: ClassVar[Mapping[str, Service[Any]]]
    roles: ClassVar[Mapping[str, set[str]]] = {}

    def __init__(self, cluster: Cluster, random: Random) -> None:
        self.cluster = cluster
        #: For what clients do. It is the same whatever goes wrong.
        self.random = random

    async def prepare(self) -> None:
        """Set the scene. Nothing goes wrong yet."""

    async def act(self) -> None:
        """Do what clients do; it may end before the faults do, or after."""
        raise NotImplementedError

    async def problems(self) -> Iterable[str]:
        """Return what is not as it must be, now that everything has come to its end."""
        raise NotImplementedError

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
    kills: int
    faults: list[Fault]
    met: Counter[tuple[str, str]]
    story: list[str] = field(default_factory=list)


def run_seed(
    simulation: type[Simulation],
    seed: int,
    only: Iterable[str] | None = None,
    told: bool = False,
) -> Result:
    """Run one seed.

    Args:
        simulation: of what.
        seed: which run.
        only: the ids of the faults that may happen; None: all that the seed has.
        told: whether the story is to be told.
    """
    loop = SimulatedLoop(Random(f"{seed}/turns"))  # noqa: S311  # a seed is the point
    schedule, chronicle = Schedule(only), Chronicle(told)
    chaos = Chaos(Draws(seed, loop, schedule, chronicle))
    with memory_folder() as folder, _uncollected():
        lay_out(simulation.services, folder)
        cluster = Cluster(simulation.services, folder, chaos, simulation.roles, seed)
        run = _Run(simulation(cluster, Random(f"{seed}/clients")), cluster, chaos)  # noqa: S311
        try:
            problems = loop.run(run.to_the_end())
        except LivelockError as error:
            problems = [str(error)]
        problems += [f"a callback raised {error!r}" for error in loop.errors]
        result = Result(
            seed=seed,
            problems=problems,
            fingerprint=chronicle.fingerprint(),
            steps=loop.steps,
            virtual_s=loop.time(),
            kills=cluster.kills,
            faults=schedule.faults,
            met=schedule.met,
            story=chronicle.lines,
        )
        cluster.abandon()
        loop.close()
    return result


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
        return list(await self.simulation.problems())

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
        if not self.cluster.complete:
            return [*found, "a node is down"]
        for name in self.cluster.names:
            found += [f"{name}: {what}" for what in await self.cluster.store(name).read(_open)]
        return found


async def _open(tx: Tx) -> list[str]:
    """Return what one database says is not at its end."""
    placeholders = ", ".join(str(int(state)) for state in TERMINAL)
    sagas = await tx.execute(
        f"SELECT name, key, state FROM mesh_sagas WHERE state NOT IN ({placeholders})"  # noqa: S608
    )
    effects = await tx.execute("SELECT method, key FROM mesh_effects")
    return [
        *(f"saga {name} of {key!r} is {Saga.State.Name(state)}" for name, key, state in sagas),
        *(f"effect {method} of {key!r} is open" for method, key in effects),
    ]


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
