"""Kills processes of a running system with -9, at random instants, drawn from a seed.

Half of the kills are aimed, as long as a step of a saga has not been interrupted yet: they wait
until such a step is being made, and kill its caller or its callee.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from tests.e2e.system import PROVIDER, SERVICES, System
from tests.soak.coverage import STEPS, Coverage, hit_by
from tests.soak.databases import POSTGRES, Away, Databases
from tests.soak.journal import ORCHESTRATOR, Journal, Step, service_of
from tests.soak.patience import until

#: How often each is chosen, among those that run. What an order needs is killed most.
WEIGHTS: Final = {
    **dict.fromkeys((*SERVICES, PROVIDER), 1.0),
    ORCHESTRATOR: 1.5,
    "gateway": 1.0,
    "nats": 1.0,
    POSTGRES: 1.0,
    "notification": 0.5,
    "analytics": 0.5,
    "traces": 0.25,
    "reconcile": 0.25,
    "mailbox": 0.25,
}
#: The share of kills that take every service at once.
ALL_AT_ONCE: Final = 0.03
AIM_S: Final = 2.0
AIM_POLL_S: Final = 0.004
#: Who was killed that recently is mostly spared: the supervisor waits longer before each restart of
#: what dies again within 30 s, and a system that is down most of the time has nothing to interrupt.
RECENT_S: Final = 31.0
SPARED: Final = 0.85
#: While more than so many are down nobody is killed: how soon they are back is the machine's part.
DOWN_MAX: Final = 3
_SAID: Final = re.compile(r"^([\w-]+) (serves|was|ended|cannot|does)\b", re.MULTILINE)


@dataclass(frozen=True)
class Kill:
    """One kill.

    at_s: since the first; in_flight: sagas that had not ended, None where nobody could say, as the
    database server was down; interrupted: how many of each step.
    """

    at_s: float
    victims: tuple[str, ...]
    aimed: str
    in_flight: int | None
    interrupted: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """What the report keeps of it."""
        return {**asdict(self), "at_s": round(self.at_s, 3)}


@dataclass
class Killer:
    """Kills, so many times, on the average *gap_s* apart.

    before: what other runs have interrupted; it need not be aimed at any more.
    """

    system: System
    databases: Databases
    rng: random.Random
    gap_s: float
    before: Coverage = field(default_factory=Coverage)
    kills: list[Kill] = field(default_factory=list)
    coverage: Coverage = field(default_factory=Coverage)

    def __post_init__(self) -> None:
        self._journal = Journal(self.system, self.databases)
        self._began = time.monotonic()
        self._died_at: dict[str, float] = {}

    async def run(self, count: int, tell: Callable[[Kill], None]) -> None:
        """Kill *count* times."""
        self._began = time.monotonic()
        while len(self.kills) < count:
            await asyncio.sleep(self.rng.expovariate(1 / self.gap_s))
            await until(self._enough_run)
            kill = await self._aimed() if self.rng.random() < 0.5 else None
            if kill is None:
                kill = await self._kill(self._anyone())
            if kill.victims:
                self.kills.append(kill)
                tell(kill)

    def _alive(self) -> dict[str, int]:
        return {name: pid for name, pid in self.system.pids.items() if _runs(pid)}

    async def _enough_run(self) -> bool:
        """Whether few are down, by the supervisor's last words about each."""
        last = dict(_SAID.findall(self.system.said()))
        down = [name for name, word in last.items() if word != "serves"]
        return len(down) <= DOWN_MAX

    def _candidates(self) -> list[str]:
        """Who may be killed next."""
        recent = time.monotonic() - RECENT_S
        died = {name for name, at in self._died_at.items() if at > recent}
        spared = died if self.rng.random() < SPARED else set()
        return [
            name for name in self._alive() if service_of(name) in WEIGHTS and name not in spared
        ]

    def _anyone(self) -> tuple[str, ...]:
        alive = self._candidates()
        if self.rng.random() < ALL_AT_ONCE:
            return tuple(name for name in alive if service_of(name) in (*SERVICES, PROVIDER))
        weights = [WEIGHTS[service_of(name)] for name in alive]
        return tuple(self.rng.choices(alive, weights)) if alive else ()

    async def _aimed(self) -> Kill | None:
        """Wait for a step that was never interrupted, and interrupt it; None if none comes."""
        missing = set(self.coverage.missing) & set(self.before.missing)
        candidates = self._candidates()
        caller_dies = self.rng.random() < 0.5
        ends = time.monotonic() + AIM_S
        while missing and time.monotonic() < ends:
            for step in sorted(await self._running()):
                victim = step.caller if caller_dies else step.target
                if step.kind in missing and victim in candidates:
                    return await self._kill((victim,), aimed=step.kind)
            await asyncio.sleep(AIM_POLL_S)
        return None

    async def _kill(self, victims: tuple[str, ...], aimed: str = "") -> Kill:
        at_s = time.monotonic() - self._began
        in_flight = await self._in_flight()
        before = await self._running()
        pids = self._alive()
        killed = tuple(name for name in victims if name in pids and _end(pids[name]))
        self._died_at |= dict.fromkeys(killed, time.monotonic())
        # What was being made before and still is was interrupted; what is new met a dead service.
        still = before & await self._running()
        interrupted = [step for step in still if hit_by(killed, step)]
        self.coverage.add(killed, interrupted)
        return Kill(at_s, killed, aimed, in_flight, dict(_counted(interrupted)))

    async def _in_flight(self) -> int | None:
        try:
            return await self._journal.unfinished()
        except Away:
            return None

    async def _running(self) -> set[Step]:
        """What is being made, as far as anybody can say: nothing while the database is down."""
        try:
            return await self._journal.running()
        except Away:
            return set()


def _counted(steps: list[Step]) -> Iterator[tuple[str, int]]:
    kinds = [step.kind for step in steps]
    return ((kind, kinds.count(kind)) for kind in STEPS if kind in kinds)


def _runs(pid: int) -> bool:
    """Whether it runs: a process that was killed and not yet buried does not."""
    try:
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123  # in a loop
            return stat.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def _end(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True
